"""Gao et al. 2021: every rule at the edges of its tolerance, as the paper's `published.yaml` words it."""

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
    by_margin,
    by_test,
    cases,
    contradicted,
    even,
    inconclusive,
    named,
    needs,
    nothing_judged,
    of_the_test,
    over,
    p_of,
    p_of_some,
    supported,
    sure,
    unsure,
)
from scipy import stats

from fewlabels.papers.gao2021.claims import RULES, judge
from fewlabels.paths import CHECKOUT
from fewlabels.scores.published import published, published_values

LESIONS = "method backbone fold seed subject structure metric value".split()
ORGANS = "method seed subject structure metric value".split()
EFFICIENT = ["EfficientNet-B0", "EfficientNet-B1", "EfficientNet-B2"]
SIX = [*EFFICIENT, "ResNet-34", "ResNet-50", "DenseNet-121"]
B1, B2, SMALL = "EfficientNet-B1", "EfficientNet-B2", "ResNet-10-w16"
BASELINES, SINGLES = ("no-aug", "RandAug", "Fast AA", "cGAN"), ("Affine", "Deform", "Appear")
MODELS = (*SINGLES, "Comb")
KINDS = ("affine", "deformation", "appearance")
FIGURE_3 = {  # as printed: w/o image condition, w/o discriminator, with both
    "Affine": (0.837, 0.833, 0.844), "Deform": (0.83, 0.824, 0.832), "Appear": (0.827, 0.819, 0.831),
    "Comb": (0.864, 0.859, 0.873),
}  # fmt: skip
TABLE_2 = {
    "Baseline": 0.784, "nnUNet Full": 0.786, "nnUNet Reduce": 0.798, "cGAN": 0.803,
    "Affine": 0.809, "Deform": 0.808, "Appear": 0.792, "Comb": 0.814,
}  # fmt: skip
OUTSIDE = list(TABLE_2)[:4]
UNTIMED = "no sweep writes them (make bench, case I, times steps)"
HOURS = {"Affine": 4.7, "Deform": 4.7, "Appear": 4.7, "Comb": 6.2, "Fast AA": 8.5, "cGAN": 18.7, "RandAug": 36}


# ---- scores.csv, built here ----


def lesions(rows, backbone=B2, metric="bmca", seed=0, first=0):
    """`rows = {method: a number, or one a fold}`."""
    found = []
    for method, gain in rows.items():
        for fold, value in enumerate(over(gain), first):
            found.append((method, backbone, fold, seed, "all", "all", metric, value))
    return pd.DataFrame(found, columns=LESIONS)


def gained(rows, backbone=B2, **options):
    """BMCA, from a level of each fold that all methods share."""
    level = 0.5 + 0.03 * np.arange(5)
    rows = {method: over(gain) + level[: len(over(gain))] for method, gain in rows.items()}
    return lesions(rows, backbone, **options)


def organs(rows, seed=0):
    """Dice: `rows = {method: a number, or one a seed}`, the mean over patients that differ."""
    found = []
    for method, gain in rows.items():
        for s, value in enumerate(over(gain), seed):
            for patient, off in (("0522c0555", -0.2), ("0522c0576", 0.05), ("0522c0598", 0.15)):
                found.append((method, s, patient, "all", "mean_dice", value + off + 0.01 * s))
    return pd.DataFrame(found, columns=ORGANS)


def beside(scores):
    """Scores of classes and organs that say otherwise."""
    parts = scores[scores["metric"] != "seconds_ratio"].assign(structure="NV", value=-0.5)
    return [parts, parts.assign(metric="recall", value=np.nan), scores.assign(metric="accuracy", value=0.0)]


def p_over_both(d, of=1):
    """p over seeds and over patients, who all have the same mean."""
    return p_of(d, of) if np.round(np.mean(d), 6) > 0 else 1.0


def p_pooled(gains):
    """p of all differences at once, and over folds, of which the larger counts."""
    d = [over(gain) for gain in gains]
    return max(p_of(np.concatenate(d)), p_of(np.mean(d, axis=0)))


def found(claim, *frames):
    return asked(RULES[f"gao-{claim:02}"], frames, beside)


def verdict(claim, *frames):
    return found(claim, *frames).verdict


def leads(*gains, backbones=SIX):
    """Comb above RandAug, the best of the baselines, by so much on each of some backbones."""
    lower = {"no-aug": -0.2, "RandAug": even(0), "Fast AA": -0.1, "cGAN": -0.15}
    return pd.concat([gained(lower | {"Comb": gain}, b) for b, gain in zip(backbones, gains)])


def times(ratios, backbone="ResNet-50", structure="all"):
    rows = [(method, backbone, 0, 0, "all", structure, "seconds_ratio", ratio) for method, ratio in ratios.items()]
    return pd.DataFrame(rows, columns=LESIONS)


def ratios(inside=2.0, others=1.2, window=1.6, rows=("Comb", "Comb"), backbone=B2, changed=None):
    """Of inside to outside; `changed = {(place, kind): a number, or one a fold}`."""
    places = {"lesion": inside, "shuffled": others, "window": window}
    frames = []
    for (place, ratio), (row, kind) in itertools.product(places.items(), zip(rows, KINDS[1:])):
        ratio = (changed or {}).get((place, kind), even(ratio) if place != "lesion" else ratio)
        frames.append(lesions({row: ratio}, backbone, f"{place}_{kind}"))
    return pd.concat(frames)


def harder(affine=0.9, deformation=0.9, appearance=0.9, backbone=B2):
    shares = zip(KINDS, (affine, deformation, appearance))
    return pd.concat([lesions({"Comb": share}, backbone, f"harder_{kind}") for kind, share in shares])


def random(gain, backbone=B2):
    return gained({"Comb": gain, "Comb (random)": even(0)}, backbone)


@pytest.fixture(scope="module")
def claimed():
    """Scores of skin lesions for which whatever the paper claims holds, its numbers where it has some."""
    frames = []
    for backbone in SIX:
        rows = {"no-aug": 0.7, "RandAug": 0.8, "Fast AA": 0.81, "cGAN": 0.82}
        rows["Comb"] = 0.873 if backbone in EFFICIENT else 0.85
        frames.append(lesions({m: over(v) * (1 + 0.001 * i) for i, (m, v) in enumerate(rows.items())}, backbone))
    for model, (image, discriminator, both) in FIGURE_3.items():
        frames.append(lesions({f"{model} (w/o image condition)": even(image)}))
        frames.append(lesions({f"{model} (w/o discriminator)": even(discriminator)}))
        if model != "Comb":
            frames.append(lesions({model: both}))
    frames.append(lesions({"Comb (random)": even(0.8)}))
    frames += [times({method: hours / 3 for method, hours in HOURS.items()}), ratios(), harder()]
    return pd.concat(frames)


@pytest.fixture(scope="module")
def segmented():
    return organs(TABLE_2 | {"nnUNet Full": even(0.786)} | {"Baseline": 0.784 + sure(0) * 2})


# ---- the file, and what the paper says as a whole ----


def test_published_numbers():
    def of(table):
        values = published_values("gao2021", table)
        assert values["sd"].isna().all()
        return {(row, column): mean for row, column, mean in values[["row", "column", "mean"]].to_numpy()}

    assert of("Figure 3 left (BMCA)") == {("Comb", B2): 0.873}
    columns = ("w/o image condition", "w/o discriminator", "with both")
    cells = {(row, column): mean for row, means in FIGURE_3.items() for column, mean in zip(columns, means)}
    assert of("Figure 3 right (BMCA, EfficientNet-B2)") == cells
    assert of("Table 2 (OAR)") == {(row, "average Dice"): mean for row, mean in TABLE_2.items()}
    hours = {"no-aug": 3, "Fast AA": 8.5, "RandAug": 36, "cGAN": 18.7, "Ours Single": 4.7, "Ours Combined": 6.2}
    assert of("Table 1") == {(row, "GPU hours"): mean for row, mean in hours.items()}
    text = of("Text, Section 4.2")
    assert text["Fast AA, search", "GPU hours"] + text["Fast AA, retraining", "GPU hours"] == hours["Fast AA"]
    cgan = 2 * text["cGAN, each of two pre-trainings", "GPU hours"] + text["cGAN, retraining", "GPU hours"]
    assert cgan == pytest.approx(hours["cGAN"])
    assert text["RandAug", "trainings of the target"] * hours["no-aug"] == hours["RandAug"]
    for row in ("Ours Single", "Ours Combined"):
        assert text[row, "times no-aug"] == round(hours[row] / hours["no-aug"], 2)
    assert len(published("gao2021")["values"]) == 1 + 12 + 6 + 7 + 8


def test_the_paper_supports_its_claims(claimed, segmented):
    on_lesions = {i: verdict(i, claimed) for i in range(1, 22)}
    of_organs, no_scores = dict.fromkeys(range(13, 18), NOT_RUN), dict.fromkeys((20, 21), NOT_RUN)
    assert on_lesions == dict.fromkeys(range(1, 20), SUPPORTED) | of_organs | no_scores
    on_organs = {i: verdict(i, segmented) for i in range(1, 22)}
    assert on_organs == dict.fromkeys(range(1, 22), NOT_RUN) | dict.fromkeys(range(13, 18), SUPPORTED)


def test_claims_on_the_other_experiment(claimed, segmented):
    for claim in (*range(1, 13), 18, 19):
        assert found(claim, segmented).ours == "a claim on skin lesions; these are scores of organs at risk"
    for claim in range(13, 18):
        assert found(claim, claimed).ours == "an OAR claim; these are scores of skin lesions"


@pytest.mark.parametrize("scores", ["claimed", "segmented"])
def test_nothing_run(request, scores):
    nothing_judged(judge, 21, request.getfixturevalue(scores))


ABLATED = {8: " (w/o image condition)", 9: " (w/o discriminator)"}
READS = {  # claim: methods, backbones, metrics
    1: ((*BASELINES, "Comb"), [B2], ["bmca"]),
    2: ((*BASELINES, "Comb"), SIX, ["bmca"]),
    3: ((*BASELINES, "Comb"), [B2], ["bmca"]),
    4: (("no-aug",), [B1, B2], ["bmca"]),
    5: (("no-aug", "RandAug", "Fast AA", "Comb"), [B2], ["bmca"]),
    6: (SINGLES, [B2], ["bmca"]),
    7: (MODELS, [B2], ["bmca"]),
    8: ([m + of for m in MODELS for of in ("", ABLATED[8])], [B2], ["bmca"]),
    9: ([m + of for m in MODELS for of in ("", ABLATED[9])], [B2], ["bmca"]),
    18: (("Comb",), [B2], [f"{of}_{kind}" for of in ("lesion", "shuffled", "window") for kind in KINDS[1:]]),
    19: (("Comb", "Comb (random)"), [B2], ["bmca", *(f"harder_{kind}" for kind in KINDS)]),
}


@pytest.mark.parametrize("claim", READS)
def test_needs_three_folds_of_what_it_names(claimed, claim):
    """And is not concerned by what it does not name."""
    methods, backbones, metrics = READS[claim]
    named = claimed["method"].isin(methods) & claimed["backbone"].isin(backbones) & claimed["metric"].isin(metrics)
    scores = claimed[named]
    needs(partial(verdict, claim), scores, ["method", "backbone", "metric"], "fold")
    two = scores[scores["fold"] < 2]
    assert verdict(claim, two, two.assign(seed=1)) == NOT_RUN  # many runs of two folds are still two folds


OF_ORGANS = {
    13: TABLE_2,
    14: ("Affine", "cGAN"),
    15: (*SINGLES, "nnUNet Full", "nnUNet Reduce"),
    16: ("nnUNet Full", "nnUNet Reduce"),
    17: TABLE_2,
}


@pytest.mark.parametrize("claim", OF_ORGANS)
def test_needs_three_seeds_of_what_it_names(segmented, claim):
    scores = segmented[segmented["method"].isin(list(OF_ORGANS[claim]))]
    needs(partial(verdict, claim), scores, ["method"], "seed", lost=[np.nan])
    assert (found(claim, scores).n, found(claim, scores[scores["seed"] < 3]).n) == (5, 3)


def test_why_it_was_not_run(claimed, segmented):
    scores = claimed[claimed["fold"] < 2]
    assert found(6, scores).ours == "fewer than 3 folds with Affine and Deform and Appear: EfficientNet-B2 2"
    assert found(6, scores).n == 2
    without = claimed[~claimed["method"].isin(["RandAug", "cGAN"])]
    assert found(1, without).ours == "no scores of RandAug (bmca), cGAN (bmca)"
    small = claimed.assign(backbone=SMALL)
    assert found(4, small).ours == "no scores of no-aug (bmca) with EfficientNet-B1, EfficientNet-B2"
    assert found(4, claimed[claimed["backbone"] != B1]).ours == (
        "0 of 3 folds with both EfficientNet-B1 and EfficientNet-B2"
    )
    some = claimed[(claimed["backbone"] != "ResNet-34") | (claimed["fold"] < 2)]
    assert found(2, some).ours == (
        f"0 of 3 folds of all six backbones; there are {', '.join(sorted({*SIX} - {'ResNet-34'}))}"
    )
    apart = claimed[(claimed["backbone"] != "ResNet-34") | (claimed["fold"] > 1)]
    apart = apart[(apart["backbone"] != "ResNet-50") | (apart["fold"] < 4)]
    assert found(2, apart).ours.startswith("2 of 3 folds of all six backbones; there are DenseNet-121, ")
    alternating = pd.concat([lesions({"Affine": 0, "Deform": 0}), lesions({"Appear": 0}, first=5)])
    assert found(6, alternating).ours == "fewer than 3 folds with Affine and Deform and Appear: none"
    assert found(14, segmented[segmented["seed"] > 2]).ours == "2 of 3 seeds with Affine and cGAN"
    assert found(14, segmented[segmented["method"] != "cGAN"]).ours == "no scores of cGAN (mean_dice)"


# ---- pairs, repeats, and the test ----


def test_only_folds_and_seeds_that_both_have_count():
    scores = gained({"Comb": 0.1, **dict.fromkeys(SINGLES, even(0))})
    alone = [gained({"Comb": -0.9}, seed=1), gained({"Affine": 0.9}, first=5)]
    assert found(7, scores, *alone) == found(7, scores)
    assert found(7, scores).ours == (
        "Comb 0.660, Affine 0.560, Deform 0.560, Appear 0.560; "
        "Comb - Affine +0.100 (p 0.031); Comb - Deform +0.100 (p 0.031); Comb - Appear +0.100 (p 0.031)"
    )
    again = gained({"Comb": -0.2, **dict.fromkeys(SINGLES, even(0))}, seed=1)
    both = found(7, scores, again)
    assert (both.n, both.verdict) == (5, CONTRADICTED)  # repeats are averaged: n counts folds
    assert "Comb - Affine -0.050 (p 1)" in both.ours
    dice = organs({"Affine": 0.6, "cGAN": even(0.5)})
    assert found(14, dice, organs({"Affine": 0.1}, seed=5), organs({"cGAN": 0.9}, seed=10)) == found(14, dice)


def test_patients_are_paired():
    """A patient that one method lacks does not count for the other."""
    scores = organs({"Affine": 0.6, "cGAN": even(0.5)})
    lost = scores[(scores["method"] == "Affine") | (scores["subject"] != "0522c0555")]
    assert "Affine - cGAN +0.100 (p 0.031; over 2 subjects 1)" in found(14, lost).ours
    assert "Affine 0.720, cGAN 0.620" in found(14, lost).ours


@of_the_test
def test_the_test(d, expected):
    """One-sided, below 0.05, with a mean of that sign."""
    gain, none = np.array(d) / 100, np.zeros(len(d))
    if expected != CONTRADICTED:  # for which one of several is enough
        assert verdict(7, lesions({"Comb": gain, **dict.fromkeys(SINGLES, none)})) == expected
        assert verdict(5, lesions({"Comb": gain, **dict.fromkeys(("no-aug", "RandAug", "Fast AA"), none)})) == expected
    assert verdict(14, organs({"Affine": gain, "cGAN": none})) == expected
    judged = found(16, organs({"nnUNet Reduce": gain, "nnUNet Full": none}))
    assert (judged.verdict, judged.n) == (expected, len(d))
    assert judged.p == pytest.approx(p_over_both(gain))
    assert judged.test in (f"{named(d)}, over runs", "paired t, one-sided, over subjects")


def test_patients_must_agree_too():
    """A gain in every seed that is one patient's alone."""
    scores = organs({"Affine": 0.6, "cGAN": even(0.5)})
    assert verdict(14, scores) == SUPPORTED
    others = (scores["method"] == "Affine") & (scores["subject"] != "0522c0555")
    scores.loc[others, "value"] -= 0.1
    judged = found(14, scores)
    assert (judged.verdict, judged.test) == (INCONCLUSIVE, "paired t, one-sided, over subjects")
    assert "(p 0.031; over 3 subjects 0.21)" in judged.ours


@pytest.mark.parametrize(("below", "expected"), [([-1, 2, -3, -4, -5, -6], INCONCLUSIVE), ([-1] * 6, CONTRADICTED)])
def test_one_of_several_contradicts_by_holms_p(below, expected):
    gain, rest = np.array(below) / 100, dict.fromkeys(SINGLES, np.zeros(6))
    assert p_of(-gain) < 0.05
    assert (p_of_some([-gain, np.full(6, -0.1), np.full(6, -0.1)]) < 0.05) == (expected == CONTRADICTED)
    assert verdict(7, lesions(rest | {"Comb": np.full(6, 0.1), "Deform": 0.1 - gain})) == expected


def test_ties_are_ties():
    """Differences of one size that floats make unequal."""
    assert 0.5 + 0.06 - 0.5 != 0.59 + 0.06 - 0.59
    judged = found(7, gained({"Comb": 0.06 * np.array([1, 1, -1, 1, 1]), **dict.fromkeys(SINGLES, even(0))}))
    assert judged.p == 6 / 32  # with W = 12: of 32 signs 5 have one minus, 1 none


# ---- skin lesions: each rule at its edges ----

UP, DOWN = 0.02, -0.02


@cases(
    "gains",
    supported([UP] * 6, [UP] * 5 + [even(0)], [0.5] * 5 + [-0.6], [UP] * 5, [UP] * 5 + [DOWN]),  # 5 of 6
    supported([UP]),  # as shares, with fewer
    inconclusive([UP] * 4 + [DOWN] * 2, [UP] * 3 + [DOWN] * 3, [unsure(0.01)] * 6, [even(0)], [UP, DOWN]),
    inconclusive([UP, UP, DOWN], [UP, UP, DOWN, DOWN], [UP] * 4 + [DOWN], [UP] * 2 + [DOWN] * 3),
    inconclusive([UP] * 4 + [even(0)] * 2),  # not higher
    inconclusive([even(0)] * 3 + [DOWN] * 3),  # not lower
    inconclusive([0.01] * 5 + [-0.6]),  # pooled: no gain in the mean
    inconclusive([np.array([-0.001, 0.02, 0.03, 0.04, 0.05])] * 6),  # over folds 2/32, pooled far less
    contradicted([DOWN], [DOWN, DOWN], [UP, DOWN, DOWN], [UP, DOWN, DOWN, DOWN], [UP] + [DOWN] * 4),
    contradicted([UP] * 2 + [DOWN] * 4),  # 4 of 6
    contradicted([UP] * 2 + [unsure(-0.01)] * 4),  # by no test
)
def test_claim_01(gains, expected):
    judged = found(1, leads(*gains))
    assert (judged.verdict, judged.n) == (expected, 5 * len(gains))
    assert judged.ours.startswith("partial, ") == (len(gains) < 6)


def test_claim_01_says_what_it_rests_on():
    judged = found(1, leads(0.01, -0.02), leads(0.3, backbones=[SMALL]))
    assert judged.ours == (
        "partial, 2 of the paper's 6 backbones: highest on 1 of 2, pooled -0.005 (p 0.9; over 5 folds 1): "
        "EfficientNet-B0 Comb - RandAug +0.010 (p 0.031), EfficientNet-B1 Comb - RandAug -0.020 (p 1)"
        "; beside them ResNet-10-w16 Comb - RandAug +0.300 (p 0.031)"
    )
    assert judged.p == p_pooled([0.01, -0.02]) == 1
    assert judged.test.endswith(", over folds")
    whole = found(1, leads(*[UP] * 6)).ours
    assert whole.startswith("highest on 6 of 6, pooled +0.020 (p ")


def test_claim_01_is_about_the_papers_backbones():
    judged = found(1, leads(0.3, backbones=[SMALL]))
    assert judged.verdict == NOT_RUN
    assert judged.ours == "none of the paper's backbones; ResNet-10-w16 Comb - RandAug +0.300 (p 0.031)"
    few = leads(UP, DOWN)
    assert verdict(1, few[(few["backbone"] != B1) | (few["fold"] < 2)]) == SUPPORTED  # too few folds: left out


@pytest.mark.parametrize("best", BASELINES)
def test_claim_01_is_against_the_best_of_each_backbone(best):
    other = BASELINES[BASELINES.index(best) - 1]
    rows = {"Comb": 0.02, **dict.fromkeys(BASELINES, -0.3)}
    scores = [gained(rows | {best: 0.03 + 2 * sure(0)}, SIX[0]), gained(rows | {other: 0.03 + 2 * sure(0)}, SIX[3])]
    judged = found(1, *scores)
    assert judged.verdict == CONTRADICTED
    assert f"{SIX[0]} Comb - {best} -0.010" in judged.ours
    assert f"{SIX[3]} Comb - {other} -0.010" in judged.ours


@cases(
    "efficient others",
    supported((0.11, 0.1), (-0.1, -0.11)),  # larger, whatever its sign
    inconclusive((even(0.1), even(0.1)), (unsure(0.11), 0.1), (0.1, unsure(0.11))),
    inconclusive((even(0), np.array([0, 0, 0, 0, 0.1])), (np.array([0, 0, 0, 0, 0.1]), even(0))),  # from 0 on
    contradicted((0.1, 0.11)),
)
def test_claim_02(efficient, others, expected):
    assert verdict(2, leads(*[efficient] * 3, *[others] * 3)) == expected


@pytest.mark.parametrize("backbone", SIX)
def test_claim_02_is_of_means_over_each_family(backbone):
    def of(gain):
        return leads(*[even(0.1 if b != backbone else 0.1 + gain) for b in SIX])

    sign = 1 if backbone in EFFICIENT else -1
    assert verdict(2, of(sign * 0.03)) == SUPPORTED
    assert verdict(2, of(-sign * 0.03)) == CONTRADICTED
    assert (
        "difference +0.010 (95 % interval +0.010 to +0.010; Student's t +0.010 to +0.010)"
        in found(2, of(sign * 0.03)).ours
    )


def test_claim_02_t_interval_too():
    """Of few folds the bootstrap's interval is too narrow."""
    for d, expected in (([0.02, 0.05, -0.01, 0.03, 0.04], INCONCLUSIVE), ([0.02, 0.05, 0.01], INCONCLUSIVE)):
        judged = found(2, leads(*[np.array(d)] * 3, *[even(0, len(d))] * 3))
        interval = stats.t.interval(0.95, len(d) - 1, np.mean(d), stats.sem(d))
        said = re.search(r"95 % interval (\S+) to \S+; Student's t (\S+) to (\S+)\)", judged.ours)
        low, *student = map(float, said.groups())
        assert student == pytest.approx(interval, abs=5.1e-4)
        assert low > 0 > student[0]
        assert judged.verdict == expected
        opposite = leads(*[even(0, len(d))] * 3, *[np.array(d)] * 3)
        assert verdict(2, opposite) == expected


def test_claim_02_interval():
    """Bootstrap over folds: the very draws."""
    d = np.array([0.02, 0.05, 0.01, 0.03, 0.04])
    judged = found(2, leads(*[d] * 3, *[even(0)] * 3))
    assert (judged.verdict, judged.n, judged.test) == (SUPPORTED, 5, "bootstrap and t interval, over folds")
    low, high = map(float, re.search(r"interval (\S+) to (\S+);", judged.ours).groups())
    draws = d[np.random.default_rng(0).integers(0, 5, (1000, 5))].mean(axis=1)
    assert (low, high) == pytest.approx((np.quantile(draws, 0.025), np.quantile(draws, 0.975)), abs=5.1e-4)
    assert judged.ours.startswith("lead on EfficientNets +0.030, others +0.000: difference +0.030 (95 % ")


@pytest.mark.parametrize("method", ["RandAug", "Fast AA", "cGAN", "Comb"])
@pytest.mark.parametrize("place", [0, 1])
@cases(
    "gain",
    supported(0.021),
    inconclusive(unsure(0.03), unsure(-0.03), even(0), 0.02),  # above
    contradicted(-0.001),
)
def test_claim_03(method, place, gain, expected):
    rows = {"no-aug": even(0), **dict.fromkeys(["RandAug", "Fast AA", "cGAN", "Comb"], 0.1)}
    frames = [gained(rows, B1), gained(rows, SMALL)]
    frames[place] = gained(rows | {method: gain}, (B1, SMALL)[place])
    judged = found(3, *frames)
    assert (judged.verdict, judged.n) == (expected, 10)
    assert judged.p == pytest.approx(max(1 / 32, p_of(over(gain))))


@by_margin(0.01)
def test_claim_04(gain, expected):
    scores = [gained({"no-aug": even(0)}, B1), gained({"no-aug": gain}, B2), gained({"no-aug": 0.5}, SMALL)]
    judged = found(4, *scores)
    assert (judged.verdict, judged.n) == (expected, 5)
    assert judged.ours.startswith("no-aug: EfficientNet-B1 0.560, EfficientNet-B2 ")


@pytest.mark.parametrize("tried", ["RandAug", "Fast AA"])
@by_test
def test_claim_05(tried, gain, expected):
    """Both; of EfficientNet-B2 alone."""
    rows = {"Comb": even(0.1), "no-aug": even(0), "RandAug": 0.05, "Fast AA": 0.05}
    scores = gained(rows | {tried: 0.1 - over(gain)})
    judged = found(5, scores, scores.assign(backbone=B1, value=-scores["value"]))
    assert judged.verdict == expected
    assert judged.ours.startswith("gain over no-aug: Comb +0.100, RandAug +")
    assert judged.p == pytest.approx(max(1 / 32, p_of(over(gain))))


@pytest.mark.parametrize("tried", ["Deform", "Appear"])
@cases(
    "gain other",
    supported((0.001, 0.001), (unsure(0.01), 0.001)),  # one of them by test
    inconclusive((unsure(0.01), unsure(0.02)), (even(0), 0.01), (unsure(-0.01), 0.01)),
    contradicted((-0.001, 0.01), (-0.001, unsure(0.01))),
)
def test_claim_06(tried, gain, other, expected):
    [untried] = {"Deform", "Appear"} - {tried}
    judged = found(6, gained({"Affine": even(0), tried: -over(gain), untried: -over(other)}))
    assert (judged.verdict, judged.n) == (expected, 5)
    assert judged.p == pytest.approx(p_of_some([over(gain), over(other)]))  # where one is enough, of the clearer


@pytest.mark.parametrize("tried", SINGLES)
@by_test
def test_claim_07(tried, gain, expected):
    assert verdict(7, gained({"Comb": even(0), **dict.fromkeys(SINGLES, -0.1), tried: -over(gain)})) == expected


def ablated(claim, gains, backbone=B2):
    """What is left out costs each of the four so much."""
    rows = {model: even(0) for model in MODELS}
    rows |= {f"{model}{ABLATED[claim]}": -over(gain) for model, gain in zip(MODELS, gains)}
    return gained(rows, backbone)


@pytest.mark.parametrize(("claim", "rotation"), [(8, 0), (8, 1), (8, 2), (8, 3), (9, 0)])
@cases(
    "gains",
    supported([0.01] * 4, [0.01, 0.01, 0.01, unsure(0.001, 0.05)]),  # all at once
    inconclusive([0.01, 0.01, 0.01, unsure(0.001)]),  # all at once, but not over folds
    inconclusive([0.01, 0.01, 0.01, even(0)], [0.01, 0.01, 0.01, -0.001], [unsure(0.01)] * 4),
    inconclusive([unsure(-0.01)] * 4, [-0.01, -0.01, -0.01, 0.04]),  # no loss in the mean
    inconclusive([-0.01, -0.01, -0.01, unsure(0)]),
    contradicted([-0.01, -0.01, -0.01, 0.001], [-0.01] * 4),
)
def test_claims_08_and_09(claim, rotation, gains, expected):
    gains = gains[rotation:] + gains[:rotation]
    judged = found(claim, ablated(claim, gains), ablated(17 - claim, [-0.5] * 4))
    assert (judged.verdict, judged.n) == (expected, 20)
    assert judged.p == pytest.approx(p_pooled(gains))


def test_claim_08_says_both_tests():
    judged = found(8, ablated(8, [0.01, 0.02, unsure(0.1), 0.03]))
    gains = [sure(0.01), sure(0.02), unsure(0.1), sure(0.03)]
    pooled, of_folds = p_of(np.concatenate(gains)), p_of(np.mean(gains, axis=0))
    assert judged.ours == (
        f"Affine +0.010, Deform +0.020, Appear +0.100, Comb +0.030; pooled +0.040 "
        f"(p {pooled:.2g}; over 5 folds {of_folds:.2g})"
    )
    assert f"{pooled:.2g}" != f"{of_folds:.2g}"
    three = ablated(8, [0.01, 0.02, 0.03, 0.04])[lambda frame: frame["fold"] < 3]
    assert (found(8, three).verdict, found(8, three).n) == (SUPPORTED, 12)


ALONE = {
    6: lambda backbone, sign: gained({"Affine": sign * 0.1, "Deform": even(0), "Appear": even(0)}, backbone),
    7: lambda backbone, sign: gained({"Comb": sign * 0.1, **dict.fromkeys(SINGLES, even(0))}, backbone),
    8: lambda backbone, sign: ablated(8, [sign * 0.1] * 4, backbone),
    9: lambda backbone, sign: ablated(9, [sign * 0.1] * 4, backbone),
}


@pytest.mark.parametrize("claim", ALONE)
def test_ablations_on_another_backbone(claim):
    """EfficientNet-B2; else the only one there is."""
    build = ALONE[claim]
    assert not found(claim, build(B2, 1)).ours.startswith(B2)
    assert found(claim, build(B2, 1), build(SMALL, -1)) == found(claim, build(B2, 1))
    judged = found(claim, build(SMALL, 1))
    assert judged.verdict == SUPPORTED
    assert judged.ours == f"{SMALL}, not {B2}: {found(claim, build(B2, 1)).ours}"
    several = found(claim, build(SMALL, 1), build("ResNet-34", 1))
    assert (several.verdict, several.n) == (NOT_RUN, 0)
    assert several.ours == f"said of {B2}; there are several others, {SMALL} and ResNet-34"
    few = build("ResNet-34", -1)[lambda frame: frame["fold"] < 2]
    assert found(claim, build(SMALL, 1), few) == judged


# ---- training time ----


@pytest.mark.parametrize("slowest", SINGLES)
@cases("ratio", supported(1.5, 1.501, 1.65), inconclusive(1.651, 1.9), contradicted(1.901))
def test_claim_10(slowest, ratio, expected):
    judged = found(10, times(dict.fromkeys(SINGLES, 1.2) | {slowest: ratio}))
    assert (judged.verdict, judged.n, judged.p) == (expected, 3, None)
    assert judged.ours.endswith("(published 1.57); better than published" if ratio <= 1.5 else "(published 1.57)")
    assert f"{slowest} {ratio:.2f}" in judged.ours


@cases("ratio", supported(2.0, 2.2), inconclusive(2.21, 2.5), contradicted(2.51))
def test_claim_11(ratio, expected):
    judged = found(11, times({"Comb": ratio, "Affine": 9}))
    assert (judged.verdict, judged.n, judged.ours) == (expected, 1, f"Comb {ratio:.2f} (published 2.07)")


@cases(
    "ratios",
    supported((2, 3, 6, 12), (2, 2.01, 2.02, 2.03)),
    inconclusive((2, 2, 6, 12), (2, 6, 6, 12), (2, 3, 12, 12), (2, 3, 12, 6)),
    inconclusive((2, 6, 3, 12)),  # another order, Comb still the first
    contradicted((3.1, 3, 6, 12), (2, 3, 1.9, 12), (2, 3, 6, 1.9)),
)
def test_claim_12(ratios, expected):
    judged = found(12, times(dict(zip(("Comb", "Fast AA", "cGAN", "RandAug"), ratios))))
    assert (judged.verdict, judged.n) == (expected, 4)


def test_claim_12_says_parts_and_published():
    parts = [times({"Fast AA": 1.83, "cGAN": 3.1}, structure="search"), times({"Fast AA": 1.0}, structure="training")]
    judged = found(12, times({"Comb": 2, "Fast AA": 2.83, "cGAN": 6.1, "RandAug": 12.2}), *parts)
    assert judged.ours == (
        "Comb 2.00, published 2.07; Fast AA 2.83 (search 1.83, training 1.00), published 2.83; "
        "cGAN 6.10 (search 3.10), published 6.23; RandAug 12.20, published 12"
    )


@pytest.mark.parametrize(
    ("claim", "methods"), [(10, SINGLES), (11, ("Comb",)), (12, ("Comb", "Fast AA", "cGAN", "RandAug"))]
)
def test_claims_10_to_12_need_times_of_resnet_50(claim, methods):
    ratios = {method: hours / 3 for method, hours in HOURS.items()}
    assert verdict(claim, times({method: ratios[method] for method in methods})) == SUPPORTED
    for method in methods:
        without, part = times({m: r for m, r in ratios.items() if m != method}), times({method: 1}, structure="search")
        for scores in ([without], [times(ratios | {method: np.nan})], [without, part]):
            judged = found(claim, *scores)
            assert (judged.verdict, judged.n) == (NOT_RUN, 0)
            assert judged.ours == f"no training times (seconds_ratio, ResNet-50, on a GPU) of {method}; {UNTIMED}"
    why = f"no training times (seconds_ratio, ResNet-50, on a GPU) of {', '.join(methods)}; {UNTIMED}"
    assert found(claim, times(ratios, "ResNet-34")).ours == why
    assert found(claim, gained({"Comb": 0.1})).ours == why


def test_claim_11_takes_the_median_of_repeats():
    repeats = [times({"Comb": ratio}).assign(seed=seed) for seed, ratio in enumerate((2.1, 9.0, 2.0))]
    assert found(11, *repeats).ours == "Comb 2.10 (published 2.07)"
    assert found(11, *repeats, times({"Comb": 0.1}, "ResNet-34")).ours == "Comb 2.10 (published 2.07)"


# ---- where generators act, and how hard it is ----

BOTH = pytest.mark.parametrize("kind", KINDS[1:])


@BOTH
@cases(
    "inside",
    supported(1.501, unsure(1.6, 0.1)),  # in the mean
    inconclusive(1.5, 1.001),
    contradicted(1.0, 0.2, unsure(0.99)),  # by no test
)
def test_claim_18(kind, inside, expected):
    judged = found(18, ratios(others=0.1, changed={("lesion", kind): inside}))
    assert (judged.verdict, judged.n) == (expected, 5)


@BOTH
@cases("beyond", supported(0.001), inconclusive(even(0), unsure(0.01), -0.3))
def test_claim_18_is_more_than_masks_of_other_images_give(kind, beyond, expected):
    """Lesions are in the middle; where less is inside than there, 1.5 is still above 1."""
    judged = found(18, ratios(inside=even(2.0), changed={("shuffled", kind): 2 - over(beyond)}))
    assert judged.verdict == expected
    assert judged.p == pytest.approx(max(p_of(even(0.8)), p_of(over(beyond))))


def test_claim_18_says_all_three():
    judged = found(18, ratios(changed={("lesion", "appearance"): 1.7, ("window", "appearance"): 1.9}))
    assert judged.ours == (
        f"{B2}, deformation (Comb) 2.00 inside to outside, masks of others 1.20, difference +0.800 (p 0.031), window "
        f"1.60; {B2}, appearance (Comb) 1.70 inside to outside, masks of others 1.20, difference +0.500 (p 0.031), "
        "window 1.90"
    )


def test_claim_18_takes_single_models_where_there_is_no_comb():
    single = ratios(rows=("Deform", "Appear"), inside=0.9)
    assert found(18, single).ours.startswith(f"{B2}, deformation (Deform) 0.90 inside")
    assert f"; {B2}, appearance (Appear) 0.90 inside" in found(18, single).ours
    assert verdict(18, single) == CONTRADICTED
    assert found(18, single, ratios()) == found(18, ratios())
    short = ratios()[lambda frame: frame["fold"] < 2]
    assert found(18, single, short) == found(18, single)
    why = "no scores of Comb (lesion_deformation), Comb (shuffled_deformation), "
    assert found(18, single[single["method"] == "Deform"]).ours.startswith(why)
    others = ratios(rows=("Appear", "Deform"))  # which have the other generator
    assert verdict(18, others) == NOT_RUN


@cases("other", supported(1.6), inconclusive(1.3), contradicted(0.9))
def test_claim_18_each_backbone_by_itself(other, expected):
    """What one has more than enough does not make up for another."""
    judged = found(18, ratios(backbone=B1, inside=9.0), ratios(backbone=SMALL, inside=other, others=0.1))
    assert (judged.verdict, judged.n) == (expected, 10)
    assert judged.ours.startswith(f"{B1}, deformation (Comb) 9.00 inside")
    assert f"; {SMALL}, appearance (Comb) {other:.2f} inside" in judged.ours


def test_claim_18_folds_of_several_backbones_are_no_more_folds():
    """Two backbones alike in three folds: of one p is 0.09, of both at once it would be 0.02."""
    three = [of.query("fold < 3") for of in (ratios(backbone=b, inside=even(1.6)) for b in (B1, SMALL))]
    off = np.array([0.0, 0.2, 0.5])
    for of in three:
        here = of["metric"].str.startswith("lesion")
        of.loc[here, "value"] = 1.2 + 2 * off[of.loc[here, "fold"]]
    d = 2 * off
    assert stats.ttest_1samp(np.tile(d, 2), 0, alternative="greater").pvalue < 0.05 < p_of(d)
    judged = found(18, *three)
    assert (judged.verdict, judged.p) == (INCONCLUSIVE, pytest.approx(p_of(d)))


@pytest.mark.parametrize("claim", [1, 2, 4, 5])
def test_bounds_are_of_the_backbones_that_a_claim_names(claim, claimed):
    """A network of our own that learned nothing does not stop claims on the paper's."""
    scores = claimed[claimed["metric"] == "bmca"]
    nothing = gained({"no-aug": even(0.0), "RandAug": even(0.0)}, SMALL).assign(value=0.1)
    judged = judge(pd.concat([scores, nothing]), "isic").set_index("claim").loc[f"gao-{claim:02}"]
    assert judged["verdict"] == SUPPORTED
    at_b2 = judge(pd.concat([scores, nothing.assign(backbone=B2, fold=9)]), "isic").set_index("claim")
    assert "out of range: no-aug" in at_b2.loc[f"gao-{claim:02}", "ours"]


@pytest.mark.parametrize("kind", KINDS)
@cases(
    "share",
    supported(even(0.8), np.array([1, 1, 1, 1, 0])),  # of all epochs
    inconclusive(even(0.799), even(0.201)),
    contradicted(even(0.2), even(0)),
)
def test_claim_19_shares(kind, share, expected):
    judged = found(19, harder(**{kind: share}), random(0.01))
    assert (judged.verdict, judged.n) == (expected, 5)
    assert f"{kind} {np.mean(share):.0%}" in judged.ours


@by_test
@pytest.mark.parametrize("backbones", [[B2], [SMALL], [B1, SMALL]])
def test_claim_19_accuracy(gain, expected, backbones):
    judged = found(19, *[harder(backbone=b) for b in backbones], *[random(gain, b) for b in backbones])
    assert (judged.verdict, judged.n) == (expected, 5 * len(backbones))
    assert judged.ours.startswith(
        f"harder than random in epochs: affine 90%, deformation 90%, appearance 90% ({', '.join(backbones)}); "
        f"Comb - Comb (random) pooled {np.mean(over(gain)):+.3f} (p "
    )


def test_claim_19_over_folds_too():
    """What many backbones gain in the same folds is no more than these folds show."""
    gain = np.array([-0.001, 0.02, 0.03, 0.04, 0.05])
    scores = [of(backbone=b) for of in (harder, partial(random, gain)) for b in SIX]
    judged = found(19, *scores)
    assert p_of(np.tile(gain, 6)) < 0.05 < p_of(gain) == judged.p
    assert (judged.verdict, judged.n) == (INCONCLUSIVE, 30)
    assert verdict(19, *scores[:6], *(random(-gain, b) for b in SIX)) == INCONCLUSIVE


def test_claim_19_without_random_training():
    """Half of it is said, none judged."""
    for low in (0.9, 0.1):
        judged = found(19, harder(deformation=even(low)), gained({"Comb": 0.1}))
        assert (judged.verdict, judged.n) == (NOT_RUN, 0)
        assert judged.ours == (
            f"harder than random in epochs: affine 90%, deformation {low:.0%}, appearance 90% (EfficientNet-B2); "
            "no scores of Comb (random) (bmca)"
        )
    assert found(19, random(0.1)).ours.startswith("no scores of Comb (harder_affine), ")


def test_claim_20_is_for_a_test(claimed, segmented):
    for scores in (claimed, segmented):
        judged = found(20, scores)
        assert (judged.verdict, judged.ours) == (NOT_RUN, "proved by tests/papers/gao2021/test_isic.py, not by scores")
        assert (CHECKOUT / judged.ours.split()[2].rstrip(",")).exists()


# ---- organs at risk: each rule at its edges ----


@pytest.mark.parametrize("tried", [*OUTSIDE, *SINGLES])
@by_test
def test_claim_13(tried, gain, expected):
    """Of the four from outside the best is beaten by test; of our single ones all, in the mean."""
    rows = {"Comb": even(0.8), **dict.fromkeys([*OUTSIDE, *SINGLES], 0.7), tried: 0.8 - over(gain)}
    judged = found(13, organs(rows))
    in_the_mean = tried in SINGLES and np.mean(gain) > 0
    assert (judged.verdict, judged.n) == (SUPPORTED if in_the_mean else expected, 5)
    if tried in OUTSIDE:
        assert f"; Comb - {tried} " in judged.ours
        assert judged.p == pytest.approx(p_over_both(over(gain)))


def test_claim_13_says_every_dice(segmented):
    assert found(13, segmented).ours == (
        "Comb 0.834, Affine 0.829, Deform 0.828, Appear 0.812, Baseline 0.804, nnUNet Full 0.806, nnUNet Reduce 0.818"
        ", cGAN 0.823; Comb - cGAN +0.011 (p 0.031; over 3 subjects 0)"
    )


@by_test
def test_claims_14_and_16(gain, expected):
    assert verdict(14, organs({"Affine": 0.5 + over(gain), "cGAN": even(0.5)})) == expected
    assert verdict(16, organs({"nnUNet Reduce": 0.5 + over(gain), "nnUNet Full": even(0.5)})) == expected


@pytest.mark.parametrize("deform", [0.1, 0.4999, 0.9])
def test_claim_14_says_deform(deform):
    scores = organs({"Affine": 0.6, "cGAN": even(0.5)})
    beside = "; beside it Deform - cGAN not run"
    assert found(14, scores).ours.endswith(f"; Affine - cGAN +0.100 (p 0.031; over 3 subjects 0){beside}")
    judged = found(14, scores, organs({"Deform": deform}))
    assert judged.verdict == SUPPORTED
    gain = {0.1: "-0.400", 0.4999: "+0.000", 0.9: "+0.400"}[deform]
    assert f"; beside it Deform - cGAN {gain} (p " in judged.ours


@pytest.mark.parametrize("tried", SINGLES)
@cases(
    "gain",
    supported(even(0), 0.001, 0.3, unsure(0, 0.04), unsure(0.3)),  # or from -0.0093
    inconclusive(unsure(0, 0.05), unsure(-0.001, 0.01)),  # to below -0.01; below Full in the mean
    contradicted(even(-0.001), -0.009, -0.011),  # below Full by test
)
def test_claim_15(tried, gain, expected):
    """Of six differences every one."""
    rows = {**dict.fromkeys([*SINGLES, "nnUNet Full", "nnUNet Reduce"], even(0.7)), tried: 0.7 + over(gain)}
    judged = found(15, organs(rows))
    assert (judged.verdict, judged.n) == (expected, 5)
    assert judged.test.startswith("TOST, over ")
    assert judged.p < 0.05 or expected != SUPPORTED  # means against Full and tests below it decide too
    for row in ("Full", "Reduce"):
        assert f" - {row} {round(np.mean(over(gain)), 3) + 0.0:+.3f} (p " in judged.ours


def test_claim_15_against_both():
    near = dict.fromkeys([*SINGLES, "nnUNet Full", "nnUNet Reduce"], even(0.7))
    assert verdict(15, organs(near | {"nnUNet Reduce": 0.709})) == SUPPORTED
    assert verdict(15, organs(near | {"nnUNet Reduce": 0.711})) == CONTRADICTED
    assert verdict(15, organs(near | {"nnUNet Reduce": unsure(0.7)})) == INCONCLUSIVE
    assert verdict(15, organs(near | {"nnUNet Full": 0.701})) == CONTRADICTED
    assert verdict(15, organs(near | {"nnUNet Full": unsure(0.701, 0.01)})) == INCONCLUSIVE
    assert verdict(15, organs(near | {"nnUNet Full": 0.4, "nnUNet Reduce": 0.4})) == SUPPORTED


def test_claim_16_says_the_operators(segmented):
    pytest.importorskip("batchgenerators", reason="needs batchgenerators")
    from fewlabels.augment.nnunet import settings

    ours = found(16, segmented).ours
    said = {}
    for policy in ("v1", "class defaults"):
        full, reduced = settings(policy=policy), settings(full=False, policy=policy)
        assert {name: full[name] for name in reduced} == reduced
        assert set(full) - set(reduced) == {"GammaTransform"}
        assert set(reduced) == {"SpatialTransform", "GaussianNoiseTransform"}
        assert all(full["SpatialTransform"][f"do_{what}"] for what in ("elastic_deform", "rotation", "scale"))
        said[policy] = full["SpatialTransform"], full["GaussianNoiseTransform"], full["GammaTransform"]

    def to(numbers):
        return " to ".join(f"{number:g}" for number in numbers)

    def chance(values, of=""):
        return f"({values[f'p_{of}per_sample']:g})"

    spatial, noise, gamma = said["v1"]
    assert np.degrees([spatial[f"angle_{axis}"] for axis in "xyz"]) == pytest.approx(np.array([[-15, 15]] * 3))
    v1 = (
        f"elastic of alpha {to(spatial['alpha'])} and sigma {to(spatial['sigma'])} {chance(spatial, 'el_')}, "
        f"rotation by up to 15 degrees {chance(spatial, 'rot_')}, scale {to(spatial['scale'])} "
        f"{chance(spatial, 'scale_')}, noise of sd {to(noise['noise_variance'])} of labelled voxels' {chance(noise)}, "
        f"Full also gamma {to(gamma['gamma_range'])} {chance(gamma)}"
    )
    spatial, noise, gamma = said["class defaults"]
    assert all(value == 1 for of in (spatial, noise, gamma) for name, value in of.items() if "per_sample" in name)
    assert all(spatial[f"angle_{axis}"] == (0, 2 * np.pi) for axis in "xyz")
    assert ours.endswith(
        f". Full and Reduce, nnunet v1: {v1}; class defaults: elastic (alpha {to(spatial['alpha'])}, sigma "
        f"{to(spatial['sigma'])}), rotation by any angle, scale {to(spatial['scale'])}, noise of sd "
        f"{to(noise['noise_variance'])}, each in every patch, Full also gamma {to(gamma['gamma_range'])}"
    )


METHODS_3D = [method for method in TABLE_2 if method != "Baseline"]


@pytest.mark.parametrize("rotation", [0, 2, 5])
@cases(
    "gains",
    supported([0.01] * 7, [0.01] * 5 + [unsure(0.01)] * 2),
    inconclusive([0.01] * 4 + [unsure(0.01)] * 3, [0.01] * 6 + [even(0)], [0.01] * 6 + [unsure(-0.01)]),
    contradicted([0.01] * 6 + [-0.001]),
)
def test_claim_17(rotation, gains, expected):
    gains = gains[rotation:] + gains[:rotation]
    rows = {method: 0.5 + over(gain) for method, gain in zip(METHODS_3D, gains)}
    judged = found(17, organs(rows | {"Baseline": even(0.5)}))
    assert (judged.verdict, judged.n) == (expected, 5)
    assert judged.p == pytest.approx(p_of_some([over(gain) for gain in gains], 5, p_over_both), abs=1e-9)
    assert all(f"{method} {np.mean(gain):+.3f} (p " in judged.ours for method, gain in zip(METHODS_3D, gains))


# ---- decimals ----

WHY = "decimals are judged on the official data at the paper profile only, and nearly every setting is our choice"


def test_claim_21_on_lesions():
    cells = {
        model + of: value for model, values in FIGURE_3.items() for of, value in zip([*ABLATED.values(), ""], values)
    }

    def said(changed, backbone=B2):
        judged = found(21, lesions({method: even(value) for method, value in (cells | changed).items()}, backbone))
        assert judged.verdict == NOT_RUN
        start, agree = judged.ours.split("; without that, ")
        assert start == WHY
        return judged.n, agree

    assert said({}) == (12, "12 of 12 cells of Figure 3 right agree within 0.02")
    assert said({"Comb": 0.893, "Affine (w/o discriminator)": 0.813}) == said({})
    assert said({"Comb": 0.894}) == (12, "11 of 12 cells of Figure 3 right agree within 0.02")
    assert said({"Affine (w/o discriminator)": 0.812}) == said({"Comb": 0.894})
    assert said({"Deform (w/o image condition)": np.nan}) == (11, "11 of 11 cells of Figure 3 right agree within 0.02")
    assert said({"RandAug": 0.8}) == said({})
    assert said({}, SMALL) == (0, "0 of 0 cells of Figure 3 right agree within 0.02")


def test_claim_21_on_organs():
    def said(changed):
        judged = found(21, organs({method: even(value) - 0.02 for method, value in (TABLE_2 | changed).items()}))
        assert judged.verdict == NOT_RUN
        return judged.n, judged.ours

    assert said({}) == (8, f"{WHY}; without that, 8 of 8 cells of Table 2 agree within 0.02")
    assert said({"Comb": 0.834, "cGAN": 0.783}) == said({})
    assert said({"Comb": 0.835, "cGAN": 0.782})[1].endswith("6 of 8 cells of Table 2 agree within 0.02")
    assert said({"Appear": np.nan})[1].endswith("7 of 7 cells of Table 2 agree within 0.02")
