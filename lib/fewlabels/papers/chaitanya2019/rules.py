"""The claims of Chaitanya et al. 2019 as rules on scores.csv; in words, with sources: published.yaml.

A comparison is (better, than): two rows of Table 1, of which the first is said to have the higher Dice. Its differences
`d` at one number of labelled volumes N_L: a row for each run and test subject that both have, a column a structure.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from fewlabels.scores.paired import signed
from fewlabels.scores.published import published_values
from fewlabels.scores.statistics import DIGITS, greater
from fewlabels.scores.verdicts import Verdict, verdict

VOLUMES = (1, 3)  # N_L
STRUCTURES = ("right ventricle", "myocardium", "left ventricle")
FIRST = STRUCTURES[0]  # of Table 1, inferred
LEAST = 3  # labelled sets, and test subjects
AUGMENTED = ("A", "A+RD", "A+RI", "A+GD", "A+GD (no regulariser)", "A+GI", "A+GI (no regulariser)", "A+GD+GI")
ROWS = (*AUGMENTED, "A+Mixup", "A+GD+GI+Mixup", "Adv Tr SL", "Adv Tr SSL")  # of Table 1, without "none"
OTHERS = ("A", "A+RD", "A+RI", "A+Mixup", "Adv Tr SSL")  # that claim 15 sets A+GD+GI against
IMAGES = ("A+GD", "A+GI", "A+GD+GI", "A+RD", "A+RI", "A+Mixup")  # whose realism claim 17 asks for
GENERATED = {"A+GD": "mean_abs_v", "A+GI": "mean_abs_i"}  # and how much their generators change
RUN = ["labels", "split", "seed"]


def _pairs(scores, comparisons, volumes=VOLUMES):
    """`({(better, than, N_L): d}, None)`, or `(None, not run)` where one of the comparisons has too little."""
    dice, found = _dice(scores), {}
    for better, than in comparisons:
        d = (_of(dice, better) - _of(dice, than)).dropna()
        found |= {(better, than, n): _at(d, n) for n in volumes}
    lacking = _lacking({f"{better} and {than} at {n}": d for (better, than, n), d in found.items()})
    return (None, lacking) if lacking else (found, None)


def _dice(scores):
    values = scores[scores["metric"] == "dice"].groupby(["method", *RUN, "subject", "structure"])["value"].mean()
    return values.astype(float).unstack("structure").reindex(columns=STRUCTURES)


def _metric(scores, metric):
    """One number a run."""
    return scores[scores["metric"] == metric].groupby(["method", *RUN])["value"].mean().astype(float)


def _of(values, method):
    return values[values.index.get_level_values("method") == method].droplevel("method")


def _at(values, n):
    return values[values.index.get_level_values("labels") == n]


def _lacking(found):
    """Not run, if any of `{what: values}` has too few labelled sets or test subjects; else None."""
    few = []
    for what, values in found.items():
        counts = [len(values.index.unique(level)) for level in ("split", "subject") if level in values.index.names]
        if min(counts) < LEAST:
            few.append(f"{what}: {' and '.join(map(str, counts))} of {LEAST}")
    more = f"; {len(few) - 1} more" if len(few) > 1 else ""
    return Verdict("not run", f"too few labelled sets (and test subjects) with {few[0]}{more}") if few else None


def _subjects(d):
    """One difference a test subject and structure: the mean over runs."""
    return d.groupby("subject").mean().round(DIGITS)


def _mean(d):
    return round(float(_subjects(d).mean(axis=None)), DIGITS)


def _tests(d):
    """Name of the test over subjects; p of each structure."""
    tests = {structure: greater(values) for structure, values in _subjects(d).items()}
    return tests[FIRST][0], {structure: p for structure, (_, p) in tests.items()}


def _p(d):
    """Below 0.05 where the differences are above 0 in at least 2 of the 3 structures."""
    return sorted(_tests(d)[1].values())[1]


def _above(d):
    """Are the differences significantly above 0?"""
    return _mean(d) > 0 and _p(d) < 0.05


def _n(found):
    """Test subjects, where there are fewest."""
    return min(len(d.index.unique("subject")) for d in found.values())


def _said(found):
    """The evidence: mean difference, p over subjects, p over runs."""
    parts = {}
    for (better, than, n), d in found.items():
        runs = d.mean(axis=1).groupby(RUN).mean().round(DIGITS)
        ours = f"{signed(_mean(d))} at {n} (p {_p(d):.2g}; over {len(runs)} runs {greater(runs)[1]:.2g})"
        parts.setdefault(f"{better} - {than}", []).append(ours)
    return "; ".join(f"{what} {', '.join(ours)}" for what, ours in parts.items())


def _beside(scores, comparison, volumes=VOLUMES):
    """Evidence on what does not decide, or why there is none."""
    found, lacking = _pairs(scores, [comparison], volumes)
    return lacking.ours if lacking else _said(found)


def _ordered(scores, comparisons, tested=(), volumes=VOLUMES, either=False, said=_said):
    """Supported: means > 0, the `tested` significant at (either of) `volumes`; contradicted: any significantly < 0."""
    found, lacking = _pairs(scores, comparisons)
    if lacking:
        return lacking
    d = [found[better, than, n] for better, than in tested for n in volumes]
    enough, rests_on = (any, min) if either else (all, max)
    supported = all(_mean(of) > 0 for of in found.values()) and enough(map(_above, d))
    contradicted = any(_above(-of) for of in found.values())
    test, p = (_tests(d[0])[0], rests_on(map(_p, d))) if d else ("means", None)
    return Verdict(verdict(supported, contradicted), said(found), _n(found), test, p)


def _beats_random(scores, learned, random):
    """Claims 05 and 06, with and without the task gradient: the first verdict, which says the second."""
    rows = (learned, f"{learned} (no task gradient)")
    found, released = (_ordered(scores, [(row, random)], [(row, random)], (1,)) for row in rows)
    return replace(found, ours=f"{found.ours}; without task gradient {released.verdict}: {released.ours}")


def chaitanya_01(scores):
    return _ordered(scores, [(row, "none") for row in ROWS], [("A", "none")], said=_lowest)


def _lowest(found):
    means = {n: {row: _mean(found[row, "none", n]) for row in ROWS} for n in VOLUMES}
    least = ", ".join(f"{min(of, key=of.get)} {signed(min(of.values()))} at {n}" for n, of in means.items())
    return f"{_said({place: d for place, d in found.items() if place[0] == 'A'})}; least above none: {least}"


def chaitanya_02(scores):
    found, lacking = _pairs(scores, [("A", "none")], (1,))
    if lacking:
        return lacking
    d = found["A", "none", 1]
    ours = f"{_said(found)}; beside it {_beside(scores, ('A', 'none'), (3,))}"
    return Verdict(verdict(_above(d) and _mean(d) >= 0.05, _mean(d) <= 0), ours, _n(found), _tests(d)[0], _p(d))


def chaitanya_03(scores):
    return _ordered(scores, [("A+RD", "A")], [("A+RD", "A")], either=True)


def chaitanya_04(scores):
    return _ordered(scores, [("A+RI", "A")], [("A+RI", "A")], either=True)


def chaitanya_05(scores):
    return _beats_random(scores, "A+GD", "A+RD")


def chaitanya_06(scores):
    return _beats_random(scores, "A+GI", "A+RI")


def chaitanya_07(scores):
    return _ordered(scores, [("A+GD (no regulariser)", "A+RD"), ("A+GI (no regulariser)", "A+RI")])


def chaitanya_08(scores):
    return _ordered(scores, [(learned, f"{learned} (no regulariser)") for learned in GENERATED])


def chaitanya_09(scores):
    comparisons = [("A+GD+GI", alone) for alone in GENERATED]
    return _ordered(scores, comparisons, comparisons, (1,))


def chaitanya_10(scores):
    comparisons = [("A+Mixup", than) for than in ("A", "A+RD", "A+RI")]
    return _ordered(scores, comparisons, comparisons[:1])


def chaitanya_11(scores):
    found, lacking = _pairs(scores, [("A+GD+GI", "A+Mixup")], (1,))
    if lacking:
        return lacking
    d = found["A+GD+GI", "A+Mixup", 1]
    first, (test, p) = round(_subjects(d)[FIRST].mean(), DIGITS), _tests(d)
    supported = first > 0 and p[FIRST] < 0.05 and _above(d)
    contradicted = (first < 0 and _tests(-d)[1][FIRST] < 0.05) or _above(-d)
    ours = f"{FIRST} (column inferred) {signed(first)} (p {p[FIRST]:.2g}); all three: {_said(found)}"
    return Verdict(verdict(supported, contradicted), ours, _n(found), test, max(p[FIRST], _p(d)))


def chaitanya_12(scores):
    both, alone = ("A+GD+GI+Mixup", "A+GD+GI"), ("A+GD+GI+Mixup", "A+Mixup")
    found, lacking = _pairs(scores, [both, alone])
    if lacking:
        return lacking
    marginal = any(0 < _mean(found[*both, n]) < 0.03 for n in VOLUMES)
    supported = marginal and all(_mean(found[*alone, n]) > 0 for n in VOLUMES)
    contradicted = any(_above(-found[*both, n]) for n in VOLUMES)
    return Verdict(verdict(supported and not contradicted, contradicted), _said(found), _n(found), "means")


def chaitanya_13(scores):
    return _ordered(scores, [("Adv Tr SSL", "none")], [("Adv Tr SSL", "none")])


def chaitanya_14(scores):
    found, lacking = _pairs(scores, [("Adv Tr SSL", "A")])
    if lacking:
        return lacking
    beyond = [d - 0.05 for d in found.values()]
    supported = all(_mean(d) <= 0.05 for d in found.values())
    ours = f"{_said(found)}; beside it {_beside(scores, ('Adv Tr SL', 'A'))}"
    test, p = f"{_tests(beyond[0])[0]}, of more than 0.05", min(map(_p, beyond))
    return Verdict(verdict(supported, any(map(_above, beyond))), ours, _n(found), test, p)


def chaitanya_15(scores):
    dice = _dice(scores).mean(axis=1).unstack("method").reindex(columns=["A+GD+GI", *OTHERS]).dropna()
    gap = dice["A+GD+GI"] - dice[[*OTHERS]].mean(axis=1)
    of_size = {n: _at(gap, n).groupby("subject").mean() for n in VOLUMES}
    d = (of_size[1] - of_size[3]).dropna().round(DIGITS)
    rows = " and ".join(dice)
    lacking = _lacking({f"{rows} at {n}": _at(gap, n) for n in VOLUMES} | {f"{rows} at both": d})
    if lacking:
        return lacking
    draws = np.random.default_rng(0).choice(d, (1000, len(d))).mean(axis=1)
    low, high = np.percentile(draws, (2.5, 97.5)).round(DIGITS)
    gaps = " and ".join(f"{signed(of.mean())} at {n}" for n, of in of_size.items())
    mean = round(d.mean(), DIGITS)
    ours = f"ahead by {gaps}: difference {signed(mean)} (95 % interval {signed(low)} to {signed(high)})"
    return Verdict(verdict(mean > 0 and low > 0, mean < 0 and high < 0), ours, len(d), "bootstrap over subjects")


def chaitanya_16(scores):
    found = {}
    for generator, metric in GENERATED.items():
        values = _metric(scores, metric)
        for trained, without in (("", "no L_big"), (" (no task gradient)", "no L_big, no task gradient")):
            pair = {"with": _of(values, generator + trained), "without": _of(values, f"{generator} ({without})")}
            pair = pd.DataFrame(pair).dropna()
            found |= {f"{generator}{trained} at {n}": _at(pair, n) for n in VOLUMES}
    if lacking := _lacking(found):
        return lacking
    # with nothing to compare to, L_big has prevented nothing
    ratios = {what: (pair["without"] / pair["with"]).fillna(np.inf).round(DIGITS) for what, pair in found.items()}
    shrunk = all((ratio < 0.5).all() for ratio in ratios.values())
    contradicted = all((ratio >= 1).all() for ratio in ratios.values())
    parts = (
        f"{what} {pair['without'].mean():.2g} without and {pair['with'].mean():.2g} with, ratio up to {ratio.max():.2f}"
        for (what, pair), ratio in zip(found.items(), ratios.values())
    )
    ours = f"mean absolute field, L_big as a mean: {'; '.join(parts)}"
    return Verdict(verdict(shrunk, contradicted), ours, min(map(len, found.values())), "count")


def chaitanya_17(scores):
    found, lacking = _pairs(scores, [(row, "A") for row in IMAGES])
    values = _metric(scores, "realism_auc")
    of_row = {(row, n): _at(_of(values, row), n) for row in IMAGES for n in VOLUMES}
    lacking = lacking or _lacking({f"AUC of {row} at {n}": of for (row, n), of in of_row.items()})
    if lacking:
        return lacking
    auc = {place: round(of.mean(), DIGITS) for place, of in of_row.items()}
    told = {n: [found[row, "A", n] for row in IMAGES if auc[row, n] > 0.9] for n in VOLUMES}
    supported = all(any(map(_above, d)) for d in told.values())
    p = max(min(map(_p, d)) for d in told.values()) if all(told.values()) else None
    aucs = "; ".join(f"{row} {' and '.join(f'{auc[row, n]:.3f} at {n}' for n in VOLUMES)}" for row in IMAGES)
    test = _tests(found["A+GD", "A", 1])[0]
    return Verdict(verdict(supported, False), f"AUC: {aucs}. Dice: {_said(found)}", _n(found), test, p)


def chaitanya_18(scores):
    found, lacking = _pairs(scores, [(learned, f"{learned} (no task gradient)") for learned in GENERATED])
    if lacking:
        return lacking
    d = [*found.values()]
    helps, harms = all(map(_above, d)), all(_above(-of) for of in d)
    ours = f"ours alone, nothing published: {_said(found)}"
    return Verdict(verdict(helps, harms), ours, _n(found), _tests(d[0])[0], max(map(_p, d)))


def chaitanya_19(scores):
    runs = _at(_of(_dice(scores), "A+GD+GI"), 1).groupby(RUN).mean()
    why = "judged on official ACDC at the paper profile only, after 15 runs; without that, column inferred"
    [published] = published_values("chaitanya2019", "Table 1")["mean"]
    parts = []
    for structure, dice in runs.mean().round(DIGITS).dropna().items():
        near = "within" if abs(round(dice - published, DIGITS)) <= 0.05 else "not within"
        parts.append(f"{structure} {dice:.3f} ({near} {published} ± 0.05)")
    return Verdict("not run", f"{why}: {', '.join(parts) or 'nothing'}", len(runs))
