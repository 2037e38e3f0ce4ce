"""Chaitanya et al. 2019: every rule at the edges of its tolerance, as the paper's `published.yaml` words it."""

import itertools
import re
from functools import partial

import numpy as np
import pandas as pd
import pytest
from claims_kit import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_RUN,
    SUPPORTED,
    asked,
    cases,
    contradicted,
    inconclusive,
    needs,
    of_the_test,
    p_of,
    supported,
)
from scipy import stats

from fewlabels.papers.chaitanya2019.claims import RULES, judge
from fewlabels.scores.published import published

COLUMNS = "method labels split seed subject structure metric value".split()
STRUCTURES = ("right ventricle", "myocardium", "left ventricle")
SPREAD = np.array([-0.31, -0.18, -0.11, 0.07, 0.23, 0.3])  # over six subjects: no test finds a small mean in it
PUBLISHED_ORDER = {  # Dice above that of "none", at 1 and 3 volumes: whatever the text of the paper claims, holds
    "none": (0, 0), "A": (0.1, 0.06), "A+RD": (0.12, 0.08), "A+RI": (0.11, 0.07), "A+GD": (0.16, 0.1),
    "A+GI": (0.15, 0.09), "A+GD (no regulariser)": (0.14, 0.09), "A+GI (no regulariser)": (0.13, 0.08),
    "A+GD (no task gradient)": (0.15, 0.09), "A+GI (no task gradient)": (0.14, 0.08), "A+GD+GI": (0.2, 0.13),
    "A+Mixup": (0.17, 0.11), "A+GD+GI+Mixup": (0.21, 0.14), "Adv Tr SL": (0.02, 0.01), "Adv Tr SSL": (0.09, 0.05),
}  # fmt: skip
TABLE_1 = [method for method in PUBLISHED_ORDER if "task" not in method]
SIMPLE = ("A", "A+RD", "A+RI")
IMAGES = ("A+GD", "A+GI", "A+GD+GI", "A+RD", "A+RI", "A+Mixup")
GENERATORS = [f"A+{g}{of}" for g in ("GD", "GI") for of in ("", " (no task gradient)")]
NO_BIG = {g: g.replace(" (no", " (no L_big, no") if "(" in g else f"{g} (no L_big)" for g in GENERATORS}


# ---- scores.csv, built here ----


def sure(mean):
    """Of one sign in every subject, and without ties, also in the differences of two."""
    return mean * (1 + 0.01 * unsure(0))


def unsure(mean, spread=1.0):
    """The same mean over subjects, in each structure, found by no test."""
    return mean + spread * np.tile(SPREAD[:, None], 3)


def of_structures(*columns):
    """One of the above for each structure."""
    return np.stack([column[:, i] for i, column in enumerate(columns)], axis=1)


def frame(method, n, dice, splits=(1, 2, 3), seed=0):
    """Runs of one row at one N_L: `dice` (subjects, structures) as the mean over the runs, which differ."""
    dice, rows = np.asarray(dice, dtype=float), []
    for split, (subject, values) in itertools.product(splits, enumerate(dice + 0.3)):
        place, off = (method, n, split, seed, f"patient{subject:03}"), 0.01 * (split - np.mean(splits))
        rows += [(*place, s, "dice", v + off) for s, v in zip(STRUCTURES, values, strict=True)]
        rows += [(*place, "all", "mean_dice", values.mean() + off)]
    return pd.DataFrame(rows, columns=COLUMNS)


def dice(**changed):
    """`method=gain`: a number over 0.3 (found by every test), or subjects x structures; or one of these an N_L."""
    return dices(changed)


def dices(rows, **options):
    frames = []
    for method, gains in rows.items():
        for n, gain in (gains if isinstance(gains, dict) else dict.fromkeys((1, 3), gains)).items():
            frames.append(frame(method, n, sure(gain) if np.ndim(gain) == 0 else gain, **options))
    return pd.concat(frames)


def each(method, n, metric, values):
    """One number a run."""
    rows = [(method, n, split, 0, "all", "all", metric, value) for split, value in enumerate(values, 1)]
    return pd.DataFrame(rows, columns=COLUMNS)


def aucs(changed=None, default=0.95):
    """AUC of every row whose images are asked for; `changed = {(method, N_L): [an AUC a run]}`."""
    values = {place: [default] * 3 for place in itertools.product((*IMAGES, "A"), (1, 3))} | (changed or {})
    return pd.concat(each(*place, "realism_auc", of) for place, of in values.items())


def amounts(changed=None, ratio=0.1):
    """What generators change, with and without L_big; `changed = {(generator, N_L): [a ratio a run]}`."""
    frames = []
    for generator, n in itertools.product(GENERATORS, (1, 3)):
        metric = "mean_abs_v" if "GD" in generator else "mean_abs_i"
        ratios = (changed or {}).get((generator, n), [ratio] * 3)
        base = [1.5, 2.0, 0.7][: len(ratios)]
        frames.append(each(generator, n, metric, base))
        frames.append(each(NO_BIG[generator], n, metric, [b * r for b, r in zip(base, ratios, strict=True)]))
    return pd.concat(frames)


def beside(scores):
    """Another number of volumes, and another metric, which say otherwise."""
    return [scores.assign(labels=5, value=-scores["value"]), scores.assign(metric="validation_dice", value=0.0)]


def found(claim, *frames):
    return asked(RULES[f"chaitanya-{claim:02}"], frames, beside)


def verdict(claim, *frames):
    return found(claim, *frames).verdict


def ordered(**options):
    rows = {method: dict(zip((1, 3), gains)) for method, gains in PUBLISHED_ORDER.items()}
    return pd.concat([dices(rows, **options), aucs(), amounts()])


@pytest.fixture(scope="module")
def claimed():
    return ordered()


# ---- the file, and what the paper says as a whole ----


def test_the_one_published_number():
    value = {"table": "Table 1", "row": "A+GD+GI", "column": "RV, 1", "mean": 0.651, "sd": None}
    assert published("chaitanya2019")["values"] == [value]
    numbers_of = {claim["id"][-2:]: claim["published"] for claim in published("chaitanya2019")["claims"]}
    assert {claim: [*numbers.values()] for claim, numbers in numbers_of.items() if numbers} == {
        "11": [0.651],
        "19": [0.651],
    }


def test_the_order_that_the_paper_describes_supports_its_claims(claimed):
    assert {i: verdict(i, claimed) for i in range(1, 20)} == dict.fromkeys(range(1, 19), SUPPORTED) | {19: NOT_RUN}


def test_nothing_run(claimed):
    empty = pd.DataFrame([], columns=COLUMNS)
    for scores in (empty, claimed[:0], claimed.assign(labels=5), claimed.assign(metric="other")):
        judged = judge(scores, "phantom")
        assert list(judged["verdict"]) == [NOT_RUN] * 19
        assert (judged["n"] == 0).all()


READS = {  # claim: methods, N_L
    1: (TABLE_1, (1, 3)),
    2: (("A", "none"), (1,)),
    3: (("A+RD", "A"), (1, 3)),
    4: (("A+RI", "A"), (1, 3)),
    5: (("A+GD", "A+RD"), (1, 3)),
    6: (("A+GI", "A+RI"), (1, 3)),
    7: (("A+GD (no regulariser)", "A+RD", "A+GI (no regulariser)", "A+RI"), (1, 3)),
    8: (("A+GD (no regulariser)", "A+GD", "A+GI (no regulariser)", "A+GI"), (1, 3)),
    9: (("A+GD+GI", "A+GD", "A+GI"), (1, 3)),
    10: (("A+Mixup", "A", "A+RD", "A+RI"), (1, 3)),
    11: (("A+GD+GI", "A+Mixup"), (1,)),
    12: (("A+GD+GI+Mixup", "A+GD+GI", "A+Mixup"), (1, 3)),
    13: (("Adv Tr SSL", "none"), (1, 3)),
    14: (("Adv Tr SSL", "A"), (1, 3)),
    15: (("A+GD+GI", "A", "A+RD", "A+RI", "A+Mixup", "Adv Tr SSL"), (1, 3)),
    16: ((*GENERATORS, *NO_BIG.values()), (1, 3)),
    17: (("A", *IMAGES), (1, 3)),
    18: (tuple(GENERATORS), (1, 3)),
}


@pytest.mark.parametrize("claim", READS)
def test_needs_three_labelled_sets_of_what_it_names(claimed, claim):
    """And is not concerned by what it does not name."""
    kinds = {16: ["mean_abs_v", "mean_abs_i"], 17: ["dice", "realism_auc"]}.get(claim, ["dice"])
    methods, volumes = READS[claim]
    named = claimed["method"].isin(methods) & claimed["labels"].isin(volumes) & claimed["metric"].isin(kinds)
    needs(partial(verdict, claim), claimed[named], ["metric", "method", "labels"], "split", lost=[], apart=False)
    two = claimed[claimed["split"] < 3]
    assert verdict(claim, two, two.assign(seed=1)) == NOT_RUN  # many runs of two sets are still two sets


@pytest.mark.parametrize("claim", [i for i in READS if i != 16])
def test_needs_three_subjects(claimed, claim):
    of_subjects = {k: claimed[~claimed["subject"].between(f"patient{k:03}", "patient999")] for k in (2, 3, 5)}
    assert verdict(claim, of_subjects[2]) == NOT_RUN
    assert {verdict(claim, of_subjects[k]) for k in (3, 5)} == {SUPPORTED}
    assert found(claim, of_subjects[3]).n == 3


def test_why_it_was_not_run():
    scores = dice(A=0.1, none=0)
    assert found(13, scores).ours == (
        "too few labelled sets (and test subjects) with Adv Tr SSL and none at 1: 0 and 0 of 3; 1 more"
    )
    two = scores[scores["split"] < 3]
    assert found(2, two).ours == "too few labelled sets (and test subjects) with A and none at 1: 2 and 6 of 3"
    assert found(16, amounts({("A+GI", 3): [0.1, 0.1]})).ours == (
        "too few labelled sets (and test subjects) with A+GI at 3: 2 of 3"
    )


# ---- pairs of runs, and the test ----


def by_hand(first, second, n, of=1):
    """p over subjects of each structure, and over labelled sets of their mean: of runs that both have, by SciPy."""
    tables = [
        {tuple(row[:5]): row[5] for row in of[["split", "seed", "subject", "structure", "labels", "value"]].to_numpy()}
        for of in (first[first["metric"] == "dice"], second[second["metric"] == "dice"])
    ]
    gains, over_sets = {}, {}
    for (split, seed, subject, structure, labels), value in tables[0].items():
        other = tables[1].get((split, seed, subject, structure, labels))
        if labels == n and other is not None:
            gains.setdefault(structure, {}).setdefault(subject, []).append(value - other)
            over_sets.setdefault(split, []).append(value - other)
    p = {s: p_of([np.mean(of_s) for of_s in subjects.values()], 3 * of) for s, subjects in gains.items()}
    return p, p_of([np.mean(of_set) for of_set in over_sets.values()], of)


def second(p, over_runs=0.0):
    """Of three structures by Holm, and over runs."""
    first, other, _ = sorted(p.values() if isinstance(p, dict) else p)
    return max(3 * first, 2 * other, over_runs)


@pytest.fixture(scope="module")
def irregular():
    """`{method: scores}`: 20 subjects, 5 sets, gains that are small for their spread; not all runs are shared."""
    rng, rows = np.random.default_rng(5), {}
    for method, gain in {"none": 0, "A": 0.01, "A+RD": 0.02, "A+GD": 0.03, "A+GD+GI": 0.04, "A+Mixup": 0.03}.items():
        frames = []
        for n, split, seed in itertools.product((1, 3), range(1, 6), range(3)):
            if (method, split, seed) not in {("A", 2, 1), ("A+RD", 3, 0), ("A+Mixup", 4, 2)}:
                values = gain + rng.normal(0, 0.1, (20, 3)) * (1, 1.5, 0.5)
                frames.append(frame(method, n, values, (split,), seed))
        rows[method] = pd.concat(frames)
    return rows


def test_over_subjects_and_over_labelled_sets(irregular):
    """p: Holm's second of structures, or that over sets; of both N_L the larger, or by Holm where one is enough."""
    scores = pd.concat(irregular.values())

    def p(better, than, n, of=1):
        return second(*by_hand(irregular[better], irregular[than], n, of))

    assert found(2, scores).p == pytest.approx(p("A", "none", 1), rel=1e-6)
    either = [p("A+RD", "A", n, 2) for n in (1, 3)]
    assert found(3, scores).p == pytest.approx(min(1, 2 * min(either)), rel=1e-6)
    assert found(5, scores).p == pytest.approx(p("A+GD", "A+RD", 1), rel=1e-6)
    ssl = pd.concat([scores, irregular["A"].assign(method="Adv Tr SSL")])
    both = [p("A", "none", n) for n in (1, 3)]
    assert found(13, ssl).p == pytest.approx(max(both), rel=1e-6)
    structures, runs = by_hand(irregular["A+GD+GI"], irregular["A+Mixup"], 1)
    assert found(11, scores).p >= max(structures["right ventricle"], second(structures, runs)) - 1e-9
    assert {found(claim, scores).n for claim in (2, 3, 5, 11)} == {20}


def test_runs_must_agree_too():
    """A gain in every subject, of one of three labelled sets."""
    scores = dice(**{"Adv Tr SSL": 0.1, "none": 0})
    assert verdict(13, scores) == SUPPORTED
    others = (scores["method"] == "Adv Tr SSL") & (scores["split"] > 1)
    judged = found(13, scores.assign(value=scores["value"].mask(others, scores["value"] - 0.12)))
    assert judged.verdict == INCONCLUSIVE
    assert judged.test == "paired t, one-sided, over labelled sets"
    assert "+0.020 at 1 (p 0.047; over 3 sets 0.33)" in judged.ours


def test_seeds_of_a_set_are_no_more_sets():
    """Repeats add no evidence: the test over labelled sets stays that of their means."""
    scores = dice(**{"Adv Tr SSL": 0.1, "none": 0})
    others = (scores["method"] == "Adv Tr SSL") & (scores["split"] > 1)
    one = scores.assign(value=scores["value"].mask(others, scores["value"] - 0.07))
    many = pd.concat([one.assign(seed=seed) for seed in range(5)])
    assert found(13, many) == found(13, one)
    assert found(13, many).test == "paired t, one-sided, over labelled sets"
    off = many["value"] + 0.05 * (many["seed"] - 2) * (many["method"] == "Adv Tr SSL")  # of seeds alone
    assert found(13, many.assign(value=off)) == found(13, one)
    assert found(14, many.replace("none", "A")) == found(14, one.replace("none", "A"))


def test_p_of_many_comparisons_is_the_largest():
    """Or, of what only its mean is asked, of no interest."""
    rows = {"A+GD+GI": 0.1, "A+GD": 0, "A+GI": {1: -unsure(0, 0.45), 3: 0}}
    one = stats.wilcoxon(0.1 + 0.45 * SPREAD, alternative="greater").pvalue
    assert one > 1 / 64
    assert found(9, dices(rows)).p == pytest.approx(second([one] * 3))
    on = {"A+GD": 0.13, "A+GD (no task gradient)": 0, "A+GI": 0.13, "A+GI (no task gradient)": {1: 0, 3: -unsure(0)}}
    assert found(18, dices(on)).p == pytest.approx(second([p_of(0.13 + SPREAD)] * 3))
    mixup = {"A+Mixup": 0.13, "A": {1: 0, 3: -unsure(0)}, "A+RD": -unsure(0, 2), "A+RI": 0}
    assert found(10, dices(mixup)).p == pytest.approx(second([p_of(0.13 + SPREAD)] * 3))


def test_only_runs_that_both_have_count():
    scores = dice(**{"Adv Tr SSL": 0.1, "none": 0})
    alone = [dices({"Adv Tr SSL": -0.9}, seed=1), dices({"none": 0.9}, splits=(4, 5))]
    assert found(13, scores, *alone) == found(13, scores)
    assert found(13, scores).ours == (
        "Adv Tr SSL - none +0.100 at 1 (p 0.047; over 3 sets 0), +0.100 at 3 (p 0.047; over 3 sets 0)"
    )
    again = dices({"Adv Tr SSL": {1: -0.5}, "none": {1: 0}}, splits=(4,))
    assert found(13, scores, again).ours.startswith("Adv Tr SSL - none -0.050 at 1 (p 1; over 4 sets 0.")
    both = found(13, scores, dices({"Adv Tr SSL": 0, "none": 0}, seed=1))
    assert both.ours.startswith("Adv Tr SSL - none +0.050 at 1 (p 0.047; over 3 sets ")


@cases(
    "gains",
    supported((sure(0.1), sure(0.1), sure(0.1)), (unsure(0), sure(0.1), sure(0.1))),
    supported((sure(0.1), unsure(0), sure(0.1)), (sure(0.1), sure(0.1), sure(-0.19))),
    supported((sure(0.1), sure(0.1), unsure(0))),  # 2 of 3, whichever
    inconclusive((sure(0.1), unsure(0), unsure(0)), (sure(-0.1), sure(-0.1), sure(0.2))),
    inconclusive((sure(-0.1), unsure(0), unsure(0)), (unsure(0.1),) * 3, (unsure(-0.1),) * 3),
    inconclusive((sure(0.1), sure(0.1), sure(-0.2))),  # no gain in the mean
    contradicted((sure(-0.1), sure(-0.1), sure(0.19))),
)
def test_significant_is_two_structures_and_the_mean(gains, expected):
    assert verdict(13, dice(**{"Adv Tr SSL": of_structures(*gains), "none": 0})) == expected


@of_the_test
def test_significant_is_below_005(d, expected):
    """Of three structures that are alike by Holm's p, and of two N_L once more where either contradicts."""
    d = np.array(d) / 100
    gain = np.repeat(d[:, None], 3, axis=1)
    none, up, down = np.zeros_like(gain), np.round(d.mean(), 6) > 0, np.round(d.mean(), 6) < 0

    def of(supported, contradicted):
        assert not supported or expected == SUPPORTED  # one test alone is not stricter
        assert not contradicted or expected == CONTRADICTED
        return SUPPORTED if supported else CONTRADICTED if contradicted else INCONCLUSIVE

    above, below = up and 3 * p_of(d, 3) < 0.05, down and 6 * p_of(-d, 6) < 0.05
    assert verdict(13, dice(**{"Adv Tr SSL": gain, "none": none})) == of(above, below)
    either = down and min(2 * p_of(-d, 2), 6 * p_of(-d, 6)) < 0.05  # the right ventricle, or all
    assert verdict(11, dices({"A+GD+GI": gain, "A+Mixup": none})) == of(above and p_of(d) < 0.05, either)
    # by the right ventricle alone
    gain[:, 1:] = np.linspace(0.1, 0.2, len(d))[:, None]
    others = p_of(gain[:, 1], 3)
    above = up and p_of(d) < 0.05 and second([p_of(d, 3), others, others]) < 0.05
    assert verdict(11, dices({"A+GD+GI": gain, "A+Mixup": none})) == of(above, down and 2 * p_of(-d, 2) < 0.05)


def test_n_is_of_the_comparison_with_fewest_subjects():
    scores = dice(**{"Adv Tr SSL": 0.1, "none": 0})
    lost = scores[(scores["labels"] == 1) | (scores["method"] == "none") | (scores["subject"] != "patient002")]
    assert (found(13, scores).n, found(13, lost).n) == (6, 5)


# ---- each rule at its edges ----


def test_claim_01(claimed):
    def shifted(changed):
        """Some rows other than in PUBLISHED_ORDER."""
        here = [(claimed["method"] == m) & (claimed["labels"] == n) for m, n in changed]
        frames = [frame(m, n, sure(g) if np.ndim(g) == 0 else g) for (m, n), g in changed.items()]
        return pd.concat([claimed[~np.any(here, axis=0)], *frames])

    for method, n in zip(TABLE_1[1:], itertools.cycle((1, 3))):
        assert verdict(1, shifted({(method, n): 0})) == INCONCLUSIVE, method
    for method, n in itertools.product(("A", "Adv Tr SL"), (1, 3)):
        assert verdict(1, shifted({(method, n): 0.001})) == SUPPORTED, method
        assert verdict(1, shifted({(method, n): unsure(-0.01)})) == INCONCLUSIVE, method
        assert verdict(1, shifted({(method, n): -0.01})) == CONTRADICTED, method
    for n in (1, 3):
        assert verdict(1, shifted({("Adv Tr SL", n): unsure(0.01)})) == SUPPORTED
        assert verdict(1, shifted({("A", n): unsure(0.01)})) == INCONCLUSIVE  # significantly below A
    assert verdict(1, shifted({("A+GD (no task gradient)", 1): -0.1})) == SUPPORTED  # in no row of Table 1
    ours = found(1, shifted({("Adv Tr SL", 1): 0.012, ("A+Mixup", 3): unsure(0.004)})).ours
    assert ours.startswith("A - none +0.100 at 1 (p 0.047; over 3 sets 0), +0.060 at 3 (")
    assert ours.endswith("; least above none: Adv Tr SL +0.012 at 1, A+Mixup +0.004 at 3")


@cases(
    "at_1",
    supported(0.05),
    inconclusive(0.049, unsure(0.06), 0.001, unsure(0.001)),
    contradicted(0, -0.1, unsure(0)),  # by no test
)
@pytest.mark.parametrize("at_3", [-0.1, 0.01, 0.2])
def test_claim_02(at_1, at_3, expected):
    """With 1 volume; 3 stand beside it."""
    judged = found(2, dice(A={1: at_1, 3: at_3}, none=0))
    assert judged.verdict == expected
    assert f"; beside it A - none {at_3:+.3f} at 3 (p " in judged.ours


either = cases(
    "at_1 at_3",
    supported((0.01, 0.01), (0.01, unsure(0.01)), (unsure(0.01), 0.01)),
    inconclusive((unsure(0.01), unsure(0.01)), (0.01, 0), (0, 0.01), (0.01, unsure(-0.01))),
    contradicted((0.01, -0.01), (-0.01, 0.01)),
)


@either
@pytest.mark.parametrize(("claim", "row"), [(3, "A+RD"), (4, "A+RI")])
def test_claims_03_and_04(claim, row, at_1, at_3, expected):
    assert verdict(claim, dices({row: {1: at_1, 3: at_3}, "A": 0})) == expected


at_1 = cases(
    "at_1 at_3",
    supported((0.01, 0.01), (0.01, unsure(0.01))),
    inconclusive((unsure(0.01), 0.01), (0.01, 0), (0.01, unsure(-0.01)), (0, 0.01), (unsure(-0.01), 0.01)),
    contradicted((0.01, -0.01), (-0.01, 0.01)),
)


@at_1
@pytest.mark.parametrize(("claim", "learned", "random"), [(5, "A+GD", "A+RD"), (6, "A+GI", "A+RI")])
def test_claims_05_and_06(claim, learned, random, at_1, at_3, expected):
    judged = found(claim, dices({learned: {1: at_1, 3: at_3}, random: 0}))
    other = f"{learned} (no task gradient)"
    assert judged.verdict == expected
    assert f"; without task gradient not run: too few labelled sets (and test subjects) with {other}" in judged.ours


@cases("gain", supported(0.01), inconclusive(unsure(0.01)), contradicted(-0.01))
@pytest.mark.parametrize(("claim", "learned", "random"), [(5, "A+GD", "A+RD"), (6, "A+GI", "A+RI")])
def test_claims_05_and_06_judge_the_release_beside(claim, learned, random, gain, expected):
    """The release's generators get a verdict of their own, which does not touch the first."""
    released = dices({f"{learned} (no task gradient)": gain, random: 0})
    first = found(claim, released, dices({learned: 0.02}))
    assert first.verdict == SUPPORTED
    assert f"; without task gradient {expected}: {learned} (no task gradient) - {random} " in first.ours
    alone = found(claim, released)
    assert alone.verdict == NOT_RUN
    assert f"; without task gradient {expected}: " in alone.ours


means = cases(
    "at_1 at_3",
    supported((0.01, 0.01), (unsure(0.01), unsure(0.01))),  # by no test
    inconclusive((0.01, 0), (0, 0.01), (0.01, unsure(-0.01))),
    contradicted((0.01, -0.01), (-0.01, 0.01)),
)


@means
@pytest.mark.parametrize("tried", [0, 1])
@pytest.mark.parametrize("claim", [7, 8])
def test_claims_07_and_08(claim, tried, at_1, at_3, expected):
    """Two comparisons, of which one holds."""
    without = [f"A+{g} (no regulariser)" for g in ("GD", "GI")]
    higher, lower = (without, ("A+RD", "A+RI")) if claim == 7 else (("A+GD", "A+GI"), without)
    gains = dict.fromkeys(higher, 0.01) | {higher[tried]: {1: at_1, 3: at_3}}
    judged = found(claim, dices(gains | dict.fromkeys(lower, 0)))
    assert (judged.verdict, judged.test, judged.p) == (expected, "means", None)


@at_1
@pytest.mark.parametrize("tried", ["A+GD", "A+GI"])
def test_claim_09(tried, at_1, at_3, expected):
    """Against both; `tried` is the nearer one."""
    nearer = {n: -np.asarray(gain) for n, gain in {1: at_1, 3: at_3}.items()}
    assert verdict(9, dices({"A+GD+GI": 0, "A+GD": -0.02, "A+GI": -0.02} | {tried: nearer})) == expected


@pytest.mark.parametrize("n", [1, 3])
@cases(
    "tried gain",
    supported(("A", 0.001), ("A+RD", unsure(0.01)), ("A+RI", unsure(0.01))),
    inconclusive(("A", unsure(0.01))),  # significant against A
    inconclusive(*itertools.product(SIMPLE, (0, unsure(-0.01)))),
    contradicted(*((row, -0.01) for row in SIMPLE)),
)
def test_claim_10(tried, gain, n, expected):
    other = {1: -0.02, 3: -0.02}
    rows = {"A+Mixup": 0} | dict.fromkeys(SIMPLE, other)
    assert verdict(10, dices(rows | {tried: other | {n: -np.asarray(gain)}})) == expected


@cases(
    "gains",
    supported((sure(0.01), sure(0.01), sure(0.01)), (sure(0.01), sure(0.01), unsure(0))),
    inconclusive((sure(0.01), unsure(0), unsure(0)), (sure(0), sure(0.01), sure(0.01))),
    inconclusive((unsure(-0.01), sure(0.1), sure(0.1)), (sure(0.01), sure(0.1), sure(-0.2))),
    inconclusive((unsure(0.01), sure(0.01), sure(0.01))),  # the right ventricle itself
    contradicted((sure(-0.01), sure(0.1), sure(0.1)), (sure(0.01), sure(-0.1), sure(-0.1))),
)
def test_claim_11(gains, expected):
    """With 1 volume alone."""
    scores = dices({"A+GD+GI": {1: of_structures(*gains), 3: -0.1}, "A+Mixup": 0})
    assert verdict(11, scores) == expected


def test_claim_11_says_the_inferred_column():
    gains = of_structures(sure(0.04), sure(0.01), sure(0.01))
    assert found(11, dices({"A+GD+GI": gains, "A+Mixup": 0})).ours == (
        "right ventricle (column inferred) +0.040 (p 0.016); "
        "all three: A+GD+GI - A+Mixup +0.020 at 1 (p 0.047; over 3 sets 0)"
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_claim_11_asks_for_the_mean_too(sign):
    """Most subjects gain in the right ventricle, the mean does not; or the other way round."""
    first = sign * np.array([0.01] * 20 + [-0.2])
    assert stats.wilcoxon(sign * first, alternative="greater").pvalue < 0.05
    gain = np.stack([first, *[np.linspace(0.1, 0.2, 21)] * 2], axis=1)
    assert verdict(11, dices({"A+GD+GI": gain, "A+Mixup": np.zeros_like(gain)})) == INCONCLUSIVE


@cases(
    "first_1 first_3 mixup",
    supported((0.01, 0.01, -0.1), (0.1, 0.029, -0.1), (0.029, unsure(-0.02), -0.1)),
    supported((unsure(0.01, 0.05), 0.1, -0.1)),  # by its interval of +- 0.013, at one
    inconclusive((unsure(0.01), 0.1, -0.1), (unsure(0.01, 0.09), 0.1, -0.1)),  # to 0.033, one of two
    inconclusive((0, 0, -0.1), (0.1, 0.1, -0.1), (0.01, 0.01, {1: -0.1, 3: 0.01})),
    inconclusive((unsure(-0.01), unsure(-0.01), -0.1), (0.03, 0.03, -0.1)),  # open
    inconclusive((0.01, 0.01, {1: 0.01, 3: -0.1})),  # not above Mixup
    inconclusive((0.01, 0.01, 0.1)),  # and below it
    contradicted((0.01, -0.01, -0.1), (-0.01, 0.01, -0.1)),
)
def test_claim_12(first_1, first_3, mixup, expected):
    rows = {"A+GD+GI+Mixup": {1: first_1, 3: first_3}, "A+GD+GI": 0, "A+Mixup": mixup}
    assert verdict(12, dices(rows)) == expected


@cases(
    "at_1 at_3",
    supported((0.001, 0.001)),
    inconclusive((0.01, unsure(0.01)), (unsure(0.01), 0.01), (0.01, 0), (unsure(-0.01), unsure(-0.01))),
    contradicted((0.01, -0.01), (-0.01, 0.01)),
)
def test_claim_13(at_1, at_3, expected):
    assert verdict(13, dices({"Adv Tr SSL": {1: at_1, 3: at_3}, "none": 0})) == expected


@pytest.mark.parametrize("n", [1, 3])
@cases(
    "gain",
    supported(0.0499, unsure(0, 0.25), -0.06),  # by an interval up to 0.049; or below
    inconclusive(np.full((6, 3), 0.05), unsure(0, 0.26), unsure(0.05)),
    inconclusive(unsure(0.06), unsure(0.06, 0.1)),  # significantly above, not by more than 0.05
    contradicted(0.051, 0.2),
)
def test_claim_14(gain, n, expected):
    judged = found(14, dices({"Adv Tr SSL": {1: 0, 3: 0} | {n: gain}, "A": 0}))
    assert judged.verdict == expected
    assert "; beside it too few labelled sets (and test subjects) with Adv Tr SL and A at 1" in judged.ours


@pytest.mark.parametrize("supervised", [-0.3, 0.3])
@cases("gain", supported(0.01), contradicted(0.1))
def test_claim_14_says_the_supervised_row(supervised, gain, expected):
    judged = found(14, dices({"Adv Tr SSL": gain, "A": 0, "Adv Tr SL": supervised}))
    assert judged.verdict == expected
    assert re.search(rf"; beside it Adv Tr SL - A \{supervised:+.3f} at 1 .*\{supervised:+.3f} at 3 ", judged.ours)


@cases("gain", inconclusive(0.05), contradicted(0.051))
def test_claim_14_either_contradicts_from_005(gain, expected):
    """Where the other N_L does not support."""
    assert verdict(14, dices({"Adv Tr SSL": {1: gain, 3: unsure(0.06)}, "A": 0})) == expected
    assert verdict(14, dices({"Adv Tr SSL": {1: unsure(0.06), 3: gain}, "A": 0})) == expected


def test_claim_14_p_is_that_of_the_interval():
    judged = found(14, dices({"Adv Tr SSL": {1: unsure(0, 0.1), 3: unsure(0.01, 0.15)}, "A": 0}))
    assert (judged.verdict, judged.test) == (SUPPORTED, "TOST, over subjects")
    p = [stats.ttest_1samp(d, 0.05, alternative="less").pvalue for d in (0.1 * SPREAD, 0.01 + 0.15 * SPREAD)]
    assert judged.p == pytest.approx(max(p), rel=1e-3)
    assert "; 90 % interval +0.000 to +0.000 and +0.010 to +0.010; beside it " in judged.ours  # over runs


def test_claim_14_over_runs_too():
    scores = dices({"Adv Tr SSL": -0.01, "A": 0})
    wide = scores["value"] + 0.05 * (scores["split"] - 2) * (scores["method"] == "A")
    assert (verdict(14, scores), verdict(14, scores.assign(value=wide))) == (SUPPORTED, INCONCLUSIVE)


OTHERS = ("A", "A+RD", "A+RI", "A+Mixup", "Adv Tr SSL")


@cases(
    "at_1 at_3",
    supported((0.11, 0.1), (-0.1, -0.11)),  # larger, whatever its sign
    inconclusive((0.1, 0.1), (unsure(0.11), 0.1), (unsure(0.1), 0.11)),
    inconclusive((np.repeat([[0.0]] * 5 + [[-0.1]], 3, axis=1), 0)),
    inconclusive((np.repeat([[0.0]] * 5 + [[0.1]], 3, axis=1), 0)),  # from 0 on
    contradicted((0.1, 0.11)),
)
def test_claim_15(at_1, at_3, expected):
    assert verdict(15, dices({"A+GD+GI": {1: at_1, 3: at_3}} | dict.fromkeys(OTHERS, 0))) == expected


@pytest.mark.parametrize("other", OTHERS)
def test_claim_15_is_against_the_mean_of_five(other):
    rows = {"A+GD+GI": 0.1} | dict.fromkeys(OTHERS, 0) | {other: {1: -0.05, 3: 0}}
    alone = dices({other: -9.0}, seed=1)  # a run that the other rows do not have
    judged = found(15, dices(rows), alone)
    assert judged.verdict == SUPPORTED
    assert judged.ours == (
        "ahead by +0.110 at 1 and +0.100 at 3: difference +0.010 "
        "(95 % interval +0.010 to +0.010; over 3 labelled sets +0.010 to +0.010)"
    )


def test_claim_15_over_labelled_sets_too():
    scores = dices({"A+GD+GI": {1: 0.12, 3: 0.1}} | dict.fromkeys(OTHERS, 0))
    assert verdict(15, scores) == SUPPORTED
    off = {1: -0.02, 2: 0.01, 3: 0.01}  # of a set of one volume: the mean is the same
    here = (scores["method"] == "A+GD+GI") & (scores["labels"] == 1)
    moved = scores.assign(value=scores["value"] + scores["split"].map(off) * here)
    assert verdict(15, moved) == INCONCLUSIVE
    assert "difference +0.020 (95 % interval +0.020 to +0.020; over 3 labelled sets -0.023 to " in found(15, moved).ours


def test_claim_15_is_over_subjects_of_both():
    scores = dices({"A+GD+GI": {1: 0.11, 3: 0.1}} | dict.fromkeys(OTHERS, 0))
    lost = scores[(scores["labels"] == 1) | (scores["subject"] != "patient002")]
    both = scores[scores["subject"] != "patient002"]
    assert (found(15, lost).verdict, found(15, lost).n) == (SUPPORTED, 5)
    assert found(15, lost).ours.split(": ")[1] == found(15, both).ours.split(": ")[1]


def test_claim_15_interval():
    """Bootstrap over subjects: the very draws, and about what theory says of a mean."""
    rng = np.random.default_rng(3)
    d = rng.normal(0.05, 0.1, 20).round(3)
    gain = {1: np.repeat(d[:, None], 3, axis=1), 3: np.zeros((20, 3))}
    judged = found(15, dices({"A+GD+GI": gain} | dict.fromkeys(OTHERS, np.zeros((20, 3)))))
    assert (judged.n, judged.test) == (20, "bootstrap over subjects; t interval over labelled sets")
    low, high = map(float, re.search(r"interval (\S+) to (\S+);", judged.ours).groups())
    draws = np.sort(d[np.random.default_rng(0).integers(0, 20, (1000, 20))].mean(axis=1))
    assert (low, high) == pytest.approx((np.quantile(draws, 0.025), np.quantile(draws, 0.975)), abs=5.1e-4)
    half = 1.96 * d.std() / 20**0.5
    assert (low, high) == pytest.approx((d.mean() - half, d.mean() + half), abs=0.2 * half)
    assert judged.verdict == (SUPPORTED if low > 0 else INCONCLUSIVE)


@pytest.mark.parametrize("place", [*itertools.product(GENERATORS, (1, 3))])
@cases(
    "ratios",
    supported([0.1, 0.2, 0.499]),
    inconclusive([0.1, 0.1, 0.501], [3, 3, 3], [0.5, 0.1, 0.1]),  # every seed
)
def test_claim_16(place, ratios, expected):
    assert verdict(16, amounts({place: ratios})) == expected


@pytest.mark.parametrize("place", [*itertools.product(GENERATORS, (1, 3))])
def test_claim_16_opposite(place):
    assert verdict(16, amounts(ratio=1.0)) == CONTRADICTED
    assert verdict(16, amounts({place: [1.5, 1.2, 0.999]}, ratio=1.0)) == INCONCLUSIVE


def test_claim_16_identity_with_the_term_too():
    """Where L_big itself leaves nothing, it prevents nothing."""
    scores = amounts()
    nothing = scores.assign(value=0.0)
    assert verdict(16, nothing) == CONTRADICTED
    here = scores["method"] == "A+GI"
    assert verdict(16, pd.concat([scores[~here], nothing[here]])) == INCONCLUSIVE


def test_claim_16_reads_the_generators_own_amount():
    """And pairs runs of the same labelled set and seed."""
    scores = amounts()
    other = scores["metric"].map({"mean_abs_v": "mean_abs_i", "mean_abs_i": "mean_abs_v"})
    judged = found(16, scores, scores.assign(metric=other, value=9.0))
    assert judged == found(16, scores)
    assert judged.n == 3
    assert judged.ours.startswith(
        "mean absolute field, L_big as a mean: A+GD at 1 0.14 without and 1.4 with, ratio up to 0.10; A+GD at 3 "
    )
    alone = each("A+GD", 1, "mean_abs_v", [0.001] * 3).assign(seed=1)
    assert found(16, scores, alone) == judged
    paired = [alone, each(NO_BIG["A+GD"], 1, "mean_abs_v", [0.001] * 3).assign(seed=1)]
    uneven = found(16, amounts({("A+GD", 1): [0.2, 0.1, 0.3]}), *paired)
    assert (uneven.verdict, uneven.n) == (INCONCLUSIVE, 3)
    assert "A+GD at 1 0.12 without and 0.7 with, ratio up to 1.00; " in uneven.ours


def seen(gains, changed, default=0.5):
    """Claim 17: gains on A of rows, the others having none; AUCs."""
    return dices(dict.fromkeys(("A", *IMAGES), 0) | gains), aucs(changed, default)


@pytest.mark.parametrize("row", IMAGES)
@cases(
    "gain auc",
    supported((0.01, [0.901] * 3), (0.01, [0.85, 0.9, 0.96])),  # in the mean
    inconclusive((unsure(0.01), [0.99] * 3), (0, [0.99] * 3), (-0.1, [0.99] * 3)),  # no row helps
    contradicted((0.01, [0.9] * 3), (0.1, [0.2] * 3)),  # what helps looks real
)
def test_claim_17(row, gain, auc, expected):
    assert verdict(17, *seen({row: gain}, {(row, 1): auc, (row, 3): auc})) == expected
    other = IMAGES[IMAGES.index(row) - 1]  # which is seen through, and no better
    assert verdict(17, *seen({row: gain}, {(m, n): auc for m in (row, other) for n in (1, 3)})) == expected


def test_claim_17_counts_no_run_without_an_auc():
    high = [0.99, 0.99, np.nan]
    judged = found(17, *seen({"A+GD": 0.1}, {("A+GD", n): high for n in (1, 3)}))
    assert (judged.verdict, "AUC of A+GD at 1: 2 of 3" in judged.ours) == (NOT_RUN, True), judged.ours


def test_claim_17_at_both():
    high = [0.99] * 3
    gains = {"A+GD": 0.1, "A+RI": 0.1}
    assert verdict(17, *seen(gains, {("A+GD", 1): high, ("A+RI", 3): high})) == SUPPORTED  # not the same row
    assert verdict(17, *seen(gains, {("A+GD", 1): high})) == CONTRADICTED  # at 3
    assert verdict(17, *seen(gains, {("A+GD", 3): high})) == CONTRADICTED
    assert verdict(17, *seen({"A+GI": 0.1}, {("A+GD", n): high for n in (1, 3)})) == CONTRADICTED
    assert verdict(17, *seen({"A+GI": {1: 0, 3: 0.1}}, {("A+GI", 3): high})) == INCONCLUSIVE  # at 1 nothing helps
    judged = found(17, *seen({"A+GD": {1: 0.1, 3: unsure(0.1, 0.45)}}, {("A+GD", n): high for n in (1, 3)}))
    assert judged.ours.startswith("AUC: A+GD 0.990 at 1 and 0.990 at 3; A+GI 0.500 at 1 and 0.500 at 3; ")
    assert ". Dice: A+GD - A +0.100 at 1 (p 0.047" in judged.ours
    assert judged.p == pytest.approx(second([p_of(0.1 + 0.45 * SPREAD)] * 3))
    clearest = seen({"A+GD": 0.1, "A+GI": unsure(0.1)}, {(row, n): high for row in ("A+GD", "A+GI") for n in (1, 3)})
    assert found(17, *clearest).p == pytest.approx(2 * second([p_of(sure(0.1)[:, 0], 6)] * 3), rel=1e-3)
    assert found(17, *seen(gains, {("A+GD", 1): high})).p is None


def test_claim_17_real_is_what_affine_images_are():
    """Images of few patients are told from real ones whatever is done to them."""
    told = {(row, n): [0.95] * 3 for row in IMAGES for n in (1, 3)}
    for affine, expected in ((0.94, SUPPORTED), (0.95, SUPPORTED), (0.96, CONTRADICTED)):
        assert verdict(17, *seen({"A+GD": 0.1}, told | {("A", n): [affine] * 3 for n in (1, 3)})) == expected


@pytest.mark.parametrize("place", [*itertools.product(("A+GD", "A+GI"), (1, 3))])
@pytest.mark.parametrize("sign", [1, -1])
def test_claim_18(place, sign):
    """A sign, either, of all four comparisons."""
    sure_of = SUPPORTED if sign > 0 else CONTRADICTED
    for gain, expected in ((0.001, sure_of), (unsure(0.01), INCONCLUSIVE), (0, INCONCLUSIVE), (-0.01, INCONCLUSIVE)):
        rows = {g: {n: sign * 0.01 for n in (1, 3)} for g in ("A+GD", "A+GI")}
        rows[place[0]][place[1]] = sign * np.asarray(gain)
        off = {f"{g} (no task gradient)": 0 for g in rows}
        judged = found(18, dices(rows | off))
        assert judged.verdict == expected
        assert judged.ours.startswith("ours alone, nothing published: A+GD - A+GD (no task gradient) ")


@pytest.mark.parametrize(
    ("right_ventricle", "near"), [(0.651, True), (0.701, True), (0.702, False), (0.601, True), (0.6, False)]
)
@pytest.mark.parametrize("splits", [(1,), (1, 2, 3)])
def test_claim_19_says_the_distance_and_is_not_run(right_ventricle, near, splits):
    values = of_structures(sure(right_ventricle - 0.3), sure(0.4), sure(0.36))
    judged = found(19, dices({"A+GD+GI": {1: values, 3: 0}, "A": 0}, splits=splits))
    assert (judged.verdict, judged.n) == (NOT_RUN, len(splits))
    assert judged.ours == (
        "judged on official ACDC at the paper profile only, after 15 runs; without that, column inferred: "
        f"right ventricle {right_ventricle:.3f} ({'' if near else 'not '}within 0.651 ± 0.05), "
        "myocardium 0.700 (within 0.651 ± 0.05), left ventricle 0.660 (within 0.651 ± 0.05)"
    )


def test_claim_19_nothing():
    assert found(19, dices({"A": 0})).ours.endswith(": nothing")
