"""The claims of Chaitanya et al. 2019 as rules on scores.csv; in words, with sources: published.yaml."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from fewlabels.papers.chaitanya2019.comparisons import (
    FIRST,
    LEAST,
    RUN,
    VOLUMES,
    Found,
    above,
    at,
    beside,
    clearest,
    dice_of,
    least_n,
    mean_of,
    metric_of,
    of_method,
    of_sets,
    pairs,
    said_of,
    significance,
    some_above,
    too_few,
)  # fmt: skip
from fewlabels.scores.paired import least_clear, signed
from fewlabels.scores.published import margin, published_values
from fewlabels.scores.statistics import DIGITS, greater, holm, inside, interval, over_subjects
from fewlabels.scores.verdicts import Verdict, verdict

AUGMENTED = ("A", "A+RD", "A+RI", "A+GD", "A+GD (no regulariser)", "A+GI", "A+GI (no regulariser)", "A+GD+GI")
ROWS = (*AUGMENTED, "A+Mixup", "A+GD+GI+Mixup", "Adv Tr SL", "Adv Tr SSL")  # of Table 1, without "none"
OTHERS = ("A", "A+RD", "A+RI", "A+Mixup", "Adv Tr SSL")  # that claim 15 sets A+GD+GI against
IMAGES = ("A+GD", "A+GI", "A+GD+GI", "A+RD", "A+RI", "A+Mixup")  # whose realism claim 17 asks for
GENERATED = {"A+GD": "mean_abs_v", "A+GI": "mean_abs_i"}  # and how much their generators change


def _ordered(
    scores: pd.DataFrame, comparisons: Sequence[tuple[str, str]], tested: Sequence[tuple[str, str]] = (),
    volumes: Sequence[int] = VOLUMES, either: bool = False, said: Callable[[Found], str] = said_of,
) -> Verdict:  # fmt: skip
    """Supported: means > 0, the `tested` significant at (either of) `volumes`; contradicted: any significantly < 0."""
    found, lacking = pairs(scores, comparisons)
    if lacking:
        return lacking
    d = [found[better, than, n] for better, than in tested for n in volumes]
    if either:
        test, p, enough = clearest(d)
    else:
        (test, p), enough = least_clear(map(significance, d)) if d else ("means", None), all(map(above, d))
    supported = all(mean_of(of) > 0 for of in found.values()) and enough
    contradicted = some_above(-of for of in found.values())
    return Verdict(verdict(supported, contradicted), said(found), least_n(found), test, p)


def _beats_random(scores: pd.DataFrame, learned: str, random: str) -> Verdict:
    """Claims 05 and 06, with and without the task gradient: the first verdict, which says the second."""
    rows = (learned, f"{learned} (no task gradient)")
    found, released = (_ordered(scores, [(row, random)], [(row, random)], (1,)) for row in rows)
    return replace(found, ours=f"{found.ours}; without task gradient {released.verdict}: {released.ours}")


def chaitanya_01(scores: pd.DataFrame) -> Verdict:
    return _ordered(scores, [(row, "none") for row in ROWS], [("A", "none")], said=_lowest)


def _lowest(found: Found) -> str:
    means = {n: {row: mean_of(found[row, "none", n]) for row in ROWS} for n in VOLUMES}
    least = ", ".join(
        f"{min(of, key=lambda row: of[row])} {signed(min(of.values()))} at {n}" for n, of in means.items()
    )
    return f"{said_of({place: d for place, d in found.items() if place[0] == 'A'})}; least above none: {least}"


def chaitanya_02(scores: pd.DataFrame) -> Verdict:
    found, lacking = pairs(scores, [("A", "none")], (1,))
    if lacking:
        return lacking
    d = found["A", "none", 1]
    ours = f"{said_of(found)}; beside it {beside(scores, ('A', 'none'), (3,))}"
    return Verdict(verdict(above(d) and mean_of(d) >= 0.05, mean_of(d) <= 0), ours, least_n(found), *significance(d))


def chaitanya_03(scores: pd.DataFrame) -> Verdict:
    return _ordered(scores, [("A+RD", "A")], [("A+RD", "A")], either=True)


def chaitanya_04(scores: pd.DataFrame) -> Verdict:
    return _ordered(scores, [("A+RI", "A")], [("A+RI", "A")], either=True)


def chaitanya_05(scores: pd.DataFrame) -> Verdict:
    return _beats_random(scores, "A+GD", "A+RD")


def chaitanya_06(scores: pd.DataFrame) -> Verdict:
    return _beats_random(scores, "A+GI", "A+RI")


def chaitanya_07(scores: pd.DataFrame) -> Verdict:
    return _ordered(scores, [("A+GD (no regulariser)", "A+RD"), ("A+GI (no regulariser)", "A+RI")])


def chaitanya_08(scores: pd.DataFrame) -> Verdict:
    return _ordered(scores, [(learned, f"{learned} (no regulariser)") for learned in GENERATED])


def chaitanya_09(scores: pd.DataFrame) -> Verdict:
    comparisons = [("A+GD+GI", alone) for alone in GENERATED]
    return _ordered(scores, comparisons, comparisons, (1,))


def chaitanya_10(scores: pd.DataFrame) -> Verdict:
    comparisons = [("A+Mixup", than) for than in ("A", "A+RD", "A+RI")]
    return _ordered(scores, comparisons, comparisons[:1])


def chaitanya_11(scores: pd.DataFrame) -> Verdict:
    found, lacking = pairs(scores, [("A+GD+GI", "A+Mixup")], (1,))
    if lacking:
        return lacking
    d = found["A+GD+GI", "A+Mixup", 1]
    first, test = round(over_subjects(d)[FIRST].mean(), DIGITS), greater(d[FIRST])
    below = holm([greater(-d[FIRST], 2)[1], significance(-d, 2)[1]])  # either contradicts
    contradicted = (first < 0 and below[0] < 0.05) or (mean_of(d) < 0 and below[1] < 0.05)
    ours = f"{FIRST} (column inferred) {signed(first)} (p {test[1]:.2g}); all three: {said_of(found)}"
    judged = verdict(first > 0 and test[1] < 0.05 and above(d), contradicted)
    return Verdict(judged, ours, least_n(found), *least_clear([test, significance(d)]))


def chaitanya_12(scores: pd.DataFrame) -> Verdict:
    both, alone = ("A+GD+GI+Mixup", "A+GD+GI"), ("A+GD+GI+Mixup", "A+Mixup")
    found, lacking = pairs(scores, [both, alone])
    if lacking:
        return lacking
    within = [_within(found[*both, n], "chaitanya-12") for n in VOLUMES]
    p = holm([p for _, p, _ in within])  # one N_L is enough
    marginal = any(mean_of(found[*both, n]) > 0 and of < 0.05 for n, of in zip(VOLUMES, p))
    supported = marginal and all(mean_of(found[*alone, n]) > 0 for n in VOLUMES)
    contradicted = some_above(-found[*both, n] for n in VOLUMES)
    ours = f"{said_of(found)}; the first {' and '.join(words for *_, words in within)}"
    judged = verdict(supported and not contradicted, contradicted)
    return Verdict(judged, ours, least_n(found), f"{within[0][0]}, Holm", min(p))


def _within(d: pd.DataFrame, claim: str) -> tuple[str, Any, str]:
    """Name and p of the test that the mean over structures is within a claim's margin; its interval in words."""
    d = of_sets(d.mean(axis=1)).round(DIGITS)
    low, high = interval(d)
    return *inside(d, *margin("chaitanya2019", claim)), f"{signed(low)} to {signed(high)}"


def chaitanya_13(scores: pd.DataFrame) -> Verdict:
    return _ordered(scores, [("Adv Tr SSL", "none")], [("Adv Tr SSL", "none")])


def chaitanya_14(scores: pd.DataFrame) -> Verdict:
    found, lacking = pairs(scores, [("Adv Tr SSL", "A")])
    if lacking:
        return lacking
    within = [_within(d, "chaitanya-14") for d in found.values()]
    _, most = margin("chaitanya2019", "chaitanya-14")
    test, p = least_clear((name, p) for name, p, _ in within)
    ours = f"{said_of(found)}; 90 % interval {' and '.join(words for *_, words in within)}"
    ours += f"; beside it {beside(scores, ('Adv Tr SL', 'A'))}"
    contradicted = some_above((d - most).round(DIGITS) for d in found.values())
    return Verdict(verdict(p < 0.05, contradicted), ours, least_n(found), test, p)


def chaitanya_15(scores: pd.DataFrame) -> Verdict:
    dice = dice_of(scores).mean(axis=1).unstack("method").reindex(columns=["A+GD+GI", *OTHERS]).dropna()
    gap = dice["A+GD+GI"] - dice[[*OTHERS]].mean(axis=1)
    of_size = {n: at(gap, n).groupby("subject").mean() for n in VOLUMES}
    d = (of_size[1] - of_size[3]).dropna().round(DIGITS)
    rows = " and ".join(map(str, dice))
    lacking = too_few({f"{rows} at {n}": at(gap, n) for n in VOLUMES} | {f"{rows} at both": d})
    if lacking:
        return lacking
    draws = np.random.default_rng(0).choice(d, (1000, len(d))).mean(axis=1)
    low, high = np.percentile(draws, (2.5, 97.5)).round(DIGITS)
    of_set = {n: at(gap, n).groupby(["split", "seed"]).mean() for n in VOLUMES}
    over = of_sets((of_set[1] - of_set[3]).dropna()).round(DIGITS)
    if len(over) < LEAST:
        return Verdict("not run", f"too few labelled sets with {rows} at both: {len(over)} of {LEAST}")
    least, most = interval(over, 0.95)
    gaps = " and ".join(f"{signed(of.mean())} at {n}" for n, of in of_size.items())
    mean = round(d.mean(), DIGITS)
    ours = f"ahead by {gaps}: difference {signed(mean)} (95 % interval {signed(low)} to {signed(high)}; "
    ours += f"over {len(over)} labelled sets {signed(least)} to {signed(most)})"
    judged = verdict(mean > 0 and min(low, least) > 0, mean < 0 and max(high, most) < 0)
    return Verdict(judged, ours, len(d), "bootstrap over subjects; t interval over labelled sets")


def chaitanya_16(scores: pd.DataFrame) -> Verdict:
    found: dict[str, Any] = {}
    for generator, metric in GENERATED.items():
        values = metric_of(scores, metric)
        for trained, without in (("", "no L_big"), (" (no task gradient)", "no L_big, no task gradient")):
            pair = {
                "with": of_method(values, generator + trained),
                "without": of_method(values, f"{generator} ({without})"),
            }
            pair = pd.DataFrame(pair).dropna()
            found |= {f"{generator}{trained} at {n}": at(pair, n) for n in VOLUMES}
    if lacking := too_few(found):
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


def chaitanya_17(scores: pd.DataFrame) -> Verdict:
    found, lacking = pairs(scores, [(row, "A") for row in IMAGES])
    values = metric_of(scores, "realism_auc").dropna()
    of_row = {(row, n): at(of_method(values, row), n) for row in (*IMAGES, "A") for n in VOLUMES}
    lacking = lacking or too_few({f"AUC of {row} at {n}": of for (row, n), of in of_row.items()})
    if lacking:
        return lacking
    auc = {place: round(of.mean(), DIGITS) for place, of in of_row.items()}
    # a discriminator tells images of few patients from real ones whatever is done to them: A's AUC is the yardstick
    told = {n: [row for row in IMAGES if auc[row, n] > 0.9 and auc[row, n] >= auc["A", n]] for n in VOLUMES}
    tests: list[tuple[str, Any, bool]] = [
        clearest(found[row, "A", n] for row in told[n]) if told[n] else ("", None, False) for n in VOLUMES
    ]
    helps = [some_above(found[row, "A", n] for row in IMAGES) for n in VOLUMES]
    real = [not any(above(found[row, "A", n]) for row in told[n]) for n in VOLUMES]
    judged = verdict(all(clear for *_, clear in tests), any(a and b for a, b in zip(helps, real)))
    aucs = "; ".join(f"{row} {' and '.join(f'{auc[row, n]:.3f} at {n}' for n in VOLUMES)}" for row in (*IMAGES, "A"))
    p = None if any(of is None for _, of, _ in tests) else max(of for _, of, _ in tests)
    return Verdict(judged, f"AUC: {aucs}. Dice: {said_of(found)}", least_n(found), tests[0][0], p)


def chaitanya_18(scores: pd.DataFrame) -> Verdict:
    found, lacking = pairs(scores, [(learned, f"{learned} (no task gradient)") for learned in GENERATED])
    if lacking:
        return lacking
    d = [*found.values()]
    helps, harms = all(map(above, d)), all(above(-of) for of in d)
    ours = f"ours alone, nothing published: {said_of(found)}"
    return Verdict(verdict(helps, harms), ours, least_n(found), *least_clear(map(significance, d)))


def chaitanya_19(scores: pd.DataFrame) -> Verdict:
    runs = at(of_method(dice_of(scores), "A+GD+GI"), 1).groupby(RUN).mean()
    why = "judged on official ACDC at the paper profile only, after 15 runs; without that, column inferred"
    [published] = published_values("chaitanya2019", "Table 1")["mean"]
    parts = []
    for structure, dice in runs.mean().round(DIGITS).dropna().items():
        near = "within" if abs(round(dice - published, DIGITS)) <= 0.05 else "not within"
        parts.append(f"{structure} {dice:.3f} ({near} {published} ± 0.05)")
    return Verdict("not run", f"{why}: {', '.join(parts) or 'nothing'}", len(runs))
