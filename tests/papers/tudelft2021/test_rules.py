"""Malfliet & Bakker 2021: every rule at the edges of its tolerance, as the paper's `published.yaml` words it."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest
import torch
from claims_kit import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_RUN,
    SUPPORTED,
    asked,
    cases,
    contradicted,
    inconclusive,
    not_run,
    supported,
)
from scipy import stats

from fewlabels.models.convsmall import ConvSmall
from fewlabels.papers.tudelft2021 import rules
from fewlabels.papers.tudelft2021.claims import MODES, RULES
from fewlabels.scores import published as printed
from fewlabels.scores.published import published_values
from fewlabels.scores.statistics import greater

TRANSFORMS, METHODS = ("noise", "shift", "rotation"), ("Supervised", "SemiC", "SemiCT", "SemiTCE")
RATES = {"Supervised": 1e-3, "SemiC": 1e-3, "SemiCT": 1e-5, "SemiTCE": 1e-5}
# Total loss, S, C, accuracy, consistency; from the report's text.
TABLE_1 = """
    Noise     Supervised  -      2.26   -      63.9%   -
              SemiC       1.72   1.69   0.03   61.1%   93.4%
              SemiCT      14.5   14.5   0.0    0.1%    100%
              SemiTCE     1.491  1.455  0.036  64.9%   93.1%
    Shift     Supervised  -      2.11   -      68.3%   -
              SemiC       0.84   0.76   0.08   74.8%   88.7%
              SemiCT      0.76   0.70   0.07   77.3%   89.0%
              SemiTCE     0.793  0.723  0.07   76.2%   90.0%
    Rotation  Supervised  -      2.84   -      66.7%   -
              SemiC       1.53   1.44   0.09   75.6%   93.2%
              SemiCT      14.5   14.5   0.0    0.1%    100%
              SemiTCE     1.7    1.283  0.417  71.3%   81.9%
"""
METRICS = ("loss", "loss_sup", "loss_cons", "accuracy", "consistency")
CURVE = {  # of a supervised training as the report describes it
    "epochs": 120.0, "train_loss_epoch_40": 0.01, "val_loss_min": 1.2, "val_loss_min_epoch": 20.0, "val_loss_end": 2.2,
    "val_accuracy_end": 60.5, "val_accuracy_epoch_25": 60.0, "val_accuracy_10_epochs_before": 60.5,
}  # fmt: skip
EXACT = {3: (-0.25, 0, 0.25), 4: (-0.25, -0.125, 0.125, 0.25), 5: (-0.25, -0.125, 0, 0.125, 0.25)}  # in binary, mean 0


def table_1():
    """`{(transform, method): {metric: number}}` as the report prints it; "0.1%" as what it stands for."""
    cells = np.array(re.findall(r"\S+", re.sub("Noise|Shift|Rotation", "", TABLE_1))).reshape(12, 6)
    found = {}
    for place, (method, *values) in zip(itertools.product(TRANSFORMS, METHODS), cells, strict=True):
        assert place[1] == method
        printed = {m: float(v.strip("%")) for m, v in zip(METRICS, values, strict=True) if v != "-"}
        found[place] = printed | {"accuracy": 9.9} if printed["accuracy"] == 0.1 else printed
    return found


# ---- scores.csv, built here ----


def frame(transform, method, mode="legacy", rate=None, **metrics):
    """Runs of one cell: `metric=[a value a seed]`, None where there is none."""
    place = (method, transform, mode, rate or RATES[method], 4000)
    rows = [
        (*place, seed, "all", "all", metric, value)
        for metric, values in metrics.items()
        for seed, value in enumerate(values)
        if value is not None
    ]
    return pd.DataFrame(
        rows, columns="method transform mode learning_rate labels seed subject structure metric value".split()
    )


def accuracies(transform, values, consistency=90.0, **others):
    """`values = {method: [an accuracy a seed]}`."""
    fill = {"consistency": consistency} | others
    return pd.concat(
        frame(transform, method, accuracy=of_method, **{m: [v] * len(of_method) for m, v in fill.items()})
        for method, of_method in values.items()
    )


def gains(transform, better, than, mean, n=3, base=60.0, spread=1.0):
    """Accuracies of two methods, n seeds: `better` is higher by `mean`, with differences that spread."""
    return accuracies(transform, {than: [base] * n, better: [base + mean + spread * s for s in EXACT[n]]})


def found(claim, *frames, mode="legacy"):
    return asked(RULES[f"tudelft-{claim:02}"], frames, mode=mode)


def verdict(claim, *frames, mode="legacy"):
    return found(claim, *frames, mode=mode).verdict


def as_published(n=3, mode="legacy"):
    """Table 1 with n seeds around each number, every difference with a little spread of its own."""
    rng = np.random.default_rng(0)
    frames = []
    for (transform, method), values in table_1().items():
        values = {"loss": values["loss_sup"], "loss_cons": 0.5, "consistency": 80.0} | values
        if method == "Supervised":
            values |= CURVE
        spread = {
            m: 0.0 if m == "consistency" and v == 100 else 0.001 if "loss" in m else 0.04 for m, v in values.items()
        }
        around = {m: rng.uniform(-1, 1, n) * spread[m] for m in values}
        frames.append(
            frame(transform, method, mode, **{m: v + around[m] - around[m].mean() for m, v in values.items()})
        )
    return pd.concat(frames)


@pytest.fixture(scope="module")
def published():
    return as_published()


ONE_MODE = [*range(1, 17)]
TABLE_CLAIMS = [1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14, 15, 16]  # that Table 1 and its curves can judge


# ---- the file, and the report's own numbers ----


def test_published_numbers():
    names = ("Loss, total", "Loss, S", "Loss, C", "Accuracy (%)", "Consistency (%)")
    columns = dict(zip(METRICS, names, strict=True))
    table = published_values("tudelft2021", "Table 1")
    expected = {(f"{t}, {m}", columns[k]): v for (t, m), values in table_1().items() for k, v in values.items()}
    assert table.set_index(["row", "column"])["mean"].to_dict() == expected
    assert len(table) == 51
    assert table["sd"].isna().all()
    assert published_values("tudelft2021", "Appendix A")["mean"].to_list() == [1412554, 1409674, 2880]
    assert published_values("tudelft2021", "Text, Section 3")["mean"].to_list() == [1.2, 2.8, 0.6]
    assert len(printed.published("tudelft2021")["values"]) == 57


@pytest.mark.parametrize(("mode", "n"), [("legacy", 3), ("corrected", 5)])
def test_the_reports_own_table_supports_its_claims(mode, n):
    scores = as_published(n, mode)
    expected = {i: SUPPORTED if i in TABLE_CLAIMS else NOT_RUN for i in ONE_MODE}
    other = scores.assign(mode=scores["mode"].map({"legacy": "corrected", "corrected": "legacy"}), value=-1.0)
    scores = pd.concat([scores, other, other.assign(mode="kl_clip")])  # what else was run does not enter
    assert {i: verdict(i, scores, mode=mode) for i in ONE_MODE} == expected


@pytest.mark.parametrize("claim", [*range(1, 18)])
def test_nothing_run(published, claim):
    for scores in (published[:0], published.assign(mode="kl_clip")):
        nothing = found(claim, scores)
        assert (nothing.verdict, nothing.n) == (NOT_RUN, 0)


READS = {  # claim: transforms, methods, metrics
    1: (["shift"], METHODS[:2], ["accuracy"]),
    2: (["rotation"], METHODS, ["accuracy"]),
    3: (["noise"], METHODS[:2], ["accuracy"]),
    4: (["shift"], METHODS, ["accuracy"]),
    5: (["noise", "rotation"], ["SemiCT"], ["accuracy", "consistency", "loss_sup"]),
    6: (["shift"], ["SemiCT"], ["accuracy", "consistency"]),
    9: (["noise", "rotation"], METHODS[2:], ["accuracy", "consistency"]),
    10: (TRANSFORMS, ["Supervised", "SemiTCE"], ["accuracy"]),
    11: (["rotation"], ["SemiC", "SemiTCE"], ["accuracy", "consistency"]),
    12: (["noise"], ["SemiC", "SemiTCE"], ["loss", "accuracy", "consistency"]),
    13: (["shift"], METHODS[1:], ["loss", "accuracy", "consistency"]),
    14: (TRANSFORMS, METHODS[:2], ["accuracy"]),
    15: (TRANSFORMS, ["Supervised"], ["accuracy", *set(CURVE) - {"val_accuracy_10_epochs_before"}]),
    16: (TRANSFORMS, METHODS[1:], ["accuracy", "consistency"]),
}


def cells(scores, claim):
    """Which rows are of methods and transforms that a claim reads."""
    transforms, methods, _ = READS[claim]
    return scores["transform"].isin(transforms) & scores["method"].isin(methods)


@pytest.mark.parametrize("claim", READS)
def test_needs_what_it_names_at_one_learning_rate(published, claim):
    """Three seeds (claim 5: one) of every method and transform."""
    few, again = (0 if claim == 5 else 2), published[published["seed"] == 0].assign(learning_rate=0.0123)
    for transform, method in itertools.product(*READS[claim][:2]):
        lost = (published["transform"] == transform) & (published["method"] == method) & (published["seed"] >= few)
        assert verdict(claim, published[~lost]) == NOT_RUN, (transform, method)
        several = found(claim, published, again[(again["transform"] == transform) & (again["method"] == method)])
        assert several.verdict == NOT_RUN, (transform, method)
        assert several.ours.startswith(f"{method} has several learning rates for {transform}: ")


@pytest.mark.parametrize("claim", READS)
def test_reads_nothing_that_it_does_not_name(published, claim):
    named, metrics = cells(published, claim), READS[claim][2]
    here, rest = published[named & published["metric"].isin(metrics)], published[~named]
    assert found(claim, here) == found(claim, published, rest.assign(learning_rate=0.0123))
    for metric in metrics:
        assert verdict(claim, here[here["metric"] != metric]) == NOT_RUN, metric


def test_why_it_was_not_run(published):
    two = published[published["seed"] < 2]
    claim = found(2, two)
    assert claim.ours == "too few seeds with Supervised and SemiC and SemiCT and SemiTCE: rotation 2 of 3"
    assert claim.n == 2
    semic = published[(published["method"] == "SemiC") & (published["transform"] == "shift")]
    assert found(1, published, semic.assign(learning_rate=1e-5)).ours == (
        "SemiC has several learning rates for shift: 1e-05, 0.001"
    )


def test_runs_are_paired_by_seed():
    """Four seeds each, three in common; what the others say does not count."""
    better = frame("shift", "SemiC", accuracy=[-900, 66, 67, 68])
    than = frame("shift", "Supervised", accuracy=[60, 60.5, 61, 900]).assign(seed=lambda s: s["seed"] + 1)
    claim = found(1, better, than)
    assert (claim.verdict, claim.n) == (SUPPORTED, 3)
    assert claim.ours.startswith("gain +6.5 ")
    assert claim.p == pytest.approx(stats.ttest_rel([66, 67, 68], [60, 60.5, 61], alternative="greater").pvalue)
    assert verdict(1, better, than[than["seed"] > 1]) == NOT_RUN


# ---- each rule at its edges ----


@pytest.mark.parametrize("n", [3, 5])
@cases(
    "mean spread",
    supported((6.5, 1), (0.5, 1)),
    inconclusive((0, 1), (0.125, 8), (-0.125, 8), (0, 0)),
    contradicted((-0.5, 1)),
)
def test_claim_01(mean, spread, expected, n):
    assert verdict(1, gains("shift", "SemiC", "Supervised", mean, n, spread=spread)) == expected


@cases(
    "d",
    supported([1, 2, 3, 4, 5, 6, 7, 8, 9, -44], [1, 2, 3, 4, 5]),  # p = 1/32
    inconclusive([1, -2, -3, -4, -5], [-1, 2, 3, 4, 5]),  # 2/32
    inconclusive([1, 2, 3, 4, 5, 6, 7, 8, 9, -45]),  # p = 0.042, but a mean of 0
    contradicted([-1, -2, -3, -4, -5]),
)
def test_the_test_and_the_mean(d, expected):
    assert verdict(1, accuracies("shift", {"Supervised": [50] * len(d), "SemiC": [50 + x for x in d]})) == expected


def test_differences_are_decimals():
    """Binary fractions would tell 64.2 - 64.1 from 70.2 - 70.3 in size, and find 0.1 + 0.2 above 0.3."""
    d = [0.1, -0.1, 0.2, 0.3, 0.4, 0.5]
    scores = {"Supervised": [64.1, 70.3, 60, 60, 60, 60], "SemiC": [64.2, 70.2, 60.2, 60.3, 60.4, 60.5]}
    assert found(1, accuracies("shift", scores)).p == greater(pd.Series(d))[1]
    noise = {"Supervised": [60.0] * 6, "SemiC": [59.9, 59.8, 60.0, 60.0, 60.0, 60.0]}
    half = {"Supervised": [60.0] * 6, "SemiC": [60.0, 59.7, 60.2, 60.3, 60.4, 60.5]}  # minus noise: d again
    both = [accuracies(t, half) for t in ("shift", "rotation")]
    assert found(14, accuracies("noise", noise), *both).p == greater(pd.Series(d))[1]
    even = accuracies("noise", {"SemiC": [60, 60, 60], "SemiTCE": [60.1, 60.2, 59.7]})
    loss = frame("noise", "SemiC", loss=[2.0] * 3), frame("noise", "SemiTCE", loss=[1.0] * 3)
    assert verdict(12, even, *loss) == INCONCLUSIVE


@pytest.mark.parametrize(
    ("mean", "within"), [(10.5, True), (10.6, False), (2.5, True), (2.4, False), (-6.5, False), (6.5, True)]
)
def test_sizes_are_said_and_decide_nothing(mean, within):
    claim = found(1, gains("shift", "SemiC", "Supervised", mean, base=60.1))
    assert claim.ours == f"gain {mean:+.1f} ({'' if within else 'not '}within +6.5 ± 4)"
    assert claim.verdict == (SUPPORTED if mean > 0 else CONTRADICTED)


def four(transform, supervised, semic, semict, semitce, n=3):
    """Accuracies of all four methods, with spreads that differ."""
    values = dict(zip(METHODS, (supervised, semic, semict, semitce)))
    factor = dict(zip(METHODS, (0, 1, -1, 0.5)))
    return accuracies(transform, {m: [v + factor[m] * s for s in EXACT[n]] for m, v in values.items()})


@cases(
    "means",
    supported((66.75, 75.5, 10, 71.25), (66.75, 75.5, 75.5, 75.5)),  # not below them
    inconclusive((66.75, 75.5, 10, 75.625), (66.75, 75.5, 75.625, 71.25)),  # below by no TEST
    inconclusive((75.5, 75.5, 10, 71.25)),  # the best, with no gain
    inconclusive((66.75, 75.5, 77, 71.25)),  # p of 0.017, one of three: 0.052
    contradicted((66.75, 75.5, 77.25, 71.25), (66.75, 75.5, 10, 77), (77, 75.5, 10, 71.25)),
)
def test_claim_02(means, expected):
    assert verdict(2, four("rotation", *means)) == expected


def test_claim_02_says_sizes():
    assert found(2, four("rotation", 66.75, 75.5, 10, 71.25)).ours == (
        "gain +8.8 (within +8.9 ± 4); Supervised 66.8, SemiC 75.5, SemiCT 10.0, SemiTCE 71.2"
    )


@cases(
    "d",
    supported([-2.8, -2.7, -2.9], [2, 2, 2]),  # no value above
    supported([1, 1.25, 1.5]),  # up to 1.87
    inconclusive([-10, 0, 10], [1.5, 1.75, 2]),  # up to 2.37
    inconclusive([1, 3, 5]),  # p = 0.06
    inconclusive([1.98, 1.99, 2.03]),  # a gain, of 2.0
    contradicted([2.1, 2.1, 2.1], [2.5, 2.75, 3], [1.99, 2.0, 2.02]),
)
def test_claim_03(d, expected):
    scores = accuracies("noise", {"Supervised": [64.1] * 3, "SemiC": [round(64.1 + x, 4) for x in d]})
    assert verdict(3, scores) == expected


@pytest.mark.parametrize("n", [3, 4, 9])
def test_claim_03_says_the_interval(n):
    d = np.random.default_rng(n).normal(1, 3, n).round(2)
    low, high = stats.t.interval(0.95, n - 1, d.mean(), stats.sem(d))
    claim = found(3, accuracies("noise", {"Supervised": [60.0] * n, "SemiC": 60 + d}))
    assert claim.ours == f"gain {d.mean():+.1f} (95 % interval {low:+.1f} to {high:+.1f})"
    assert (claim.test, claim.p) == ("t interval", None)  # which it rests on
    assert (claim.verdict == SUPPORTED) == (high <= 2)


@cases(
    "means",
    supported((68.25, 74.75, 77.25, 76.25), (68.25, 77.125, 77.25, 76.25)),
    inconclusive((68.25, 74.75, 77.25, 77.375), (68.25, 77.25, 77.25, 76.25)),  # not the highest
    inconclusive((77.125, 74.75, 77.25, 76.25)),  # the highest by no TEST
    contradicted((68.25, 74.75, 77.25, 79), (68.25, 79, 77.25, 76.25), (79, 74.75, 77.25, 76.25)),
)
def test_claim_04(means, expected):
    assert verdict(4, four("shift", *means)) == expected


FALLEN, FINE = (10.0, 100.0, 14.5), (65.0, 95.0, 1.5)  # accuracy, consistency, supervised loss


def states(transform, method, runs, mode="legacy", rate=None):
    accuracy, consistency, loss = zip(*runs)
    return frame(transform, method, mode, rate, accuracy=accuracy, consistency=consistency, loss_sup=loss)


@cases(
    "run",
    supported(FALLEN, (8.0, 99.0, 14.206), (12.0, 99.0, 14.806)),
    supported((12.000000000000002, 98.99999999999999, 14.806000000000001)),  # edges are decimals
    inconclusive((7.9, 99.0, 14.5), (12.1, 99.0, 14.5), (10.0, 98.9, 14.5)),
)
@pytest.mark.parametrize("transform", ["noise", "rotation"])
def test_claim_05_a_collapse(run, expected, transform):
    (other,) = {"noise", "rotation"} - {transform}
    scores = states(transform, "SemiCT", [run]), states(other, "SemiCT", [FALLEN])
    assert verdict(5, *scores) == expected


@cases(
    "noise rotation",
    supported(([FALLEN, FINE, FINE], [FINE, FINE, FALLEN]), ([FALLEN], [FALLEN])),  # one seed is enough
    inconclusive(([FALLEN] * 3, [FINE] * 3), ([FINE] * 3, [FINE, FALLEN, FINE]), ([FINE], [FINE])),
    inconclusive(([FALLEN] * 3, [(10.0, 100.0, 14.2)] * 3), ([FINE] * 3, [(10.0, 100.0, 40.0), FINE, FINE])),
    inconclusive(([FINE] * 2, [FINE] * 3)),  # too few to say that it does not happen
    inconclusive(([(10.0, 100.0, 40.0)] * 3, [(10.0, 100.0, 40.0)] * 3)),  # a collapse, at another loss
    contradicted(([FINE] * 3, [FINE] * 3), ([(10.0, 60.0, 2.3)] * 3, [(30.0, 100.0, 14.5)] * 3)),
)
def test_claim_05(noise, rotation, expected):
    scores = states("noise", "SemiCT", noise), states("rotation", "SemiCT", rotation)
    assert verdict(5, *scores) == expected


def test_claim_05_says_where_and_at_which_rate():
    scores = states("noise", "SemiCT", [FALLEN, FINE, (9.0, 99.5, 20.0)]), states("rotation", "SemiCT", [FINE] * 4)
    elsewhere = states("shift", "SemiCT", [FALLEN], rate=0.1), states("noise", "SemiCT", [FALLEN], "corrected", 0.1)
    claim = found(5, *scores, *elsewhere)
    assert claim.ours == ("collapsed at rate 1e-05: noise 2 of 3 (1 at that loss), rotation 0 of 4 (0 at that loss)")
    assert claim.n == 7
    assert verdict(5, scores[0]) == NOT_RUN


@cases(
    "runs",
    supported([FINE] * 3, [FINE, FINE, (50.1, 95, 1.5)]),
    inconclusive([FINE, FINE, (50.0, 95, 1.5)]),  # above
    inconclusive([(30.0, 60, 1.5)] * 3),  # poor, but no collapse
    contradicted([FINE, FINE, FALLEN], [FALLEN] * 3, [FINE, FINE, (10.0, 100, 40.0)]),  # whatever its loss
    not_run([FINE] * 2, [FALLEN] * 2),
)
def test_claim_06(runs, expected):
    assert verdict(6, states("shift", "SemiCT", runs)) == expected


def at_rates(runs, transforms=("noise", "rotation")):
    """`runs = {rate: [a run a seed]}` of SemiCT, everything else collapsed."""
    filled = {rate: [FALLEN] for rate in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)} | runs
    return [states(t, "SemiCT", of_rate, rate=rate) for t in transforms for rate, of_rate in filled.items() if of_rate]


@cases(
    "runs",
    supported({}, {1e-5: [FALLEN] * 3, 0.1: [FALLEN] * 2}, {3e-3: [FINE], 1.0: [FINE]}),  # no rate of the claim's
    inconclusive({1e-2: [FINE]}, {1e-1: [FINE]}, {1e-3: [(50.0, 95.0, 1.5)]}),
    inconclusive({1e-5: [(12.1, 100.0, 14.5)]}, {1e-5: [(10.0, 98.0, 14.5)]}),
    contradicted({1e-5: [FINE]}, {1e-4: [FALLEN, FALLEN, FINE]}, {1e-3: [FINE]}, {1e-3: [(50.1, 95.0, 1.5)]}),
    not_run(*({rate: []} for rate in RATES.values()), {0.1: []}, {1e-5: [FINE], 0.1: []}),
)
def test_claim_07(runs, expected):
    assert verdict(7, *at_rates(runs)) == expected


def test_claim_07_in_either_transform():
    for transform, other in (("noise", "rotation"), ("rotation", "noise")):
        assert verdict(7, *at_rates({1e-5: [FINE]}, [transform]), *at_rates({}, [other])) == CONTRADICTED
        assert verdict(7, *at_rates({0.1: [FINE]}, [transform]), *at_rates({}, [other])) == INCONCLUSIVE
        assert verdict(7, *at_rates({}, [transform])) == NOT_RUN
        assert verdict(7, *at_rates({}, [transform]), *at_rates({0.01: []}, [other])) == NOT_RUN
    claim = found(7, *at_rates({1e-5: [FINE, FALLEN]}, ["noise"]), *at_rates({}, ["rotation", "shift"]))
    assert claim.ours == "collapsed: 2 of 3 at 1e-05, 2 of 2 at 0.0001, 2 of 2 at 0.001, 2 of 2 at 0.01, 2 of 2 at 0.1"
    assert claim.n == 11


def slow_and_fast(rise, under, transforms=TRANSFORMS, epochs=120.0, n=3):
    """SemiC at 0.00001, which gains `rise` in the last 10 epochs and ends `under` what 0.001 reaches."""
    spread = np.array(EXACT[n])
    frames = []
    for transform in transforms:
        end = 40.1 + spread
        slow = {"val_accuracy_end": end, "val_accuracy_10_epochs_before": end - rise - spread / 2}
        fast = {"val_accuracy_end": end + under + spread / 4, "val_accuracy_10_epochs_before": end + under}
        for rate, curve in ((1e-5, slow), (1e-3, fast)):
            frames.append(frame(transform, "SemiC", rate=rate, epochs=[epochs] * n, **curve))
    return pd.concat(frames)


@cases(
    "rise under",
    supported((2, 30), (0.6, 10)),
    inconclusive((0.5, 30), (2, 9.9)),
    contradicted((0.5, 9.9), (-1, -5)),
)
def test_claim_08(rise, under, expected):
    assert verdict(8, slow_and_fast(rise, under)) == expected


def test_claim_08_for_every_transform():
    for lost in TRANSFORMS:
        kept = [t for t in TRANSFORMS if t != lost]
        assert verdict(8, slow_and_fast(2, 30, kept)) == NOT_RUN
        assert verdict(8, slow_and_fast(2, 30, kept), slow_and_fast(0, 0, [lost])) == INCONCLUSIVE
        assert verdict(8, slow_and_fast(0, 0, kept), slow_and_fast(2, 0, [lost])) == INCONCLUSIVE
        assert verdict(8, slow_and_fast(0, 0, kept), slow_and_fast(0, 30, [lost])) == INCONCLUSIVE
    assert found(8, slow_and_fast(2, 30)).ours.startswith(
        "at 0.00001: noise +2.0 in the last 10 epochs, -30.0 from 0.001;"
    )


def test_claim_08_needs_both_rates_three_seeds_and_all_epochs():
    full = slow_and_fast(2, 30)
    for rate in (1e-3, 1e-5):
        assert verdict(8, full[full["learning_rate"] != rate]) == NOT_RUN
        assert verdict(8, full[(full["learning_rate"] != rate) | (full["seed"] < 2)]) == NOT_RUN
    assert verdict(8, full, frame("noise", "SemiC", rate=0.1, val_accuracy_end=[9.0])) == SUPPORTED
    short = full.assign(value=full["value"].mask((full["metric"] == "epochs") & (full["learning_rate"] == 1e-5), 40.0))
    assert found(8, short).ours == "40 of the report's 120 epochs"
    assert (found(8, short).verdict, found(8, short).n) == (NOT_RUN, 9)
    gaps = full[(full["metric"] != "val_accuracy_10_epochs_before") | (full["transform"] != "shift")]
    assert found(8, gaps).verdict == NOT_RUN
    assert found(8, gaps).ours == (
        "too few seeds with SemiC at 1e-05 and SemiC at 0.001: shift 0 of 3, with curves of 120 epochs"
    )


@cases(
    "noise rotation",
    supported(([(FALLEN, FINE)] * 3, [(FALLEN, FINE)] * 3)),
    supported(([(FALLEN, (50.1, 90, 1.5))] * 3, [(FALLEN, FINE)] * 3)),
    supported(([(FINE, FINE)] * 3, [(FINE, FINE), (FALLEN, FINE), (FINE, FALLEN)])),  # only where SemiCT did
    inconclusive(([(FALLEN, FINE)] * 3, [(FALLEN, FINE), (FALLEN, FINE), (FALLEN, FALLEN)])),
    inconclusive(([(FALLEN, (50.0, 90, 1.5))] * 3, [(FALLEN, FINE)] * 3)),
    contradicted(([(FALLEN, FALLEN)] * 3, [(FALLEN, FALLEN)] * 3)),
    contradicted(([(FALLEN, FALLEN), (FINE, FINE), (FINE, FINE)], [(FINE, FINE)] * 3)),
    contradicted(([((10.0, 100, 40.0), (10.0, 100, 40.0))] * 3, [(FINE, FINE)] * 3)),  # whatever the loss
    not_run(([(FINE, FALLEN)] * 3, [(FINE, FINE)] * 3), ([(FALLEN, FINE)] * 2, [(FALLEN, FINE)] * 3)),
)
def test_claim_09(noise, rotation, expected):
    scores = [
        states(t, method, of_method)
        for t, runs in (("noise", noise), ("rotation", rotation))
        for method, of_method in zip(("SemiCT", "SemiTCE"), zip(*runs))
    ]
    assert verdict(9, *scores) == expected


def test_claim_09_counts():
    runs = {"noise": [FALLEN, FALLEN, FINE], "rotation": [FALLEN, FINE, FINE]}
    ct = [states(t, "SemiCT", of_t) for t, of_t in runs.items()]
    early = states("noise", "SemiTCE", [FINE, FALLEN, FALLEN]), states("rotation", "SemiTCE", [FINE, FALLEN, FALLEN])
    claim = found(9, *ct, *early)
    assert claim.ours == (
        "SemiCT collapsed in noise 2 of 3, rotation 1 of 3; there SemiTCE is above 50 % in 2, collapsed in 1"
    )
    assert claim.n == 3
    none = found(9, *(states(t, "SemiCT", [FINE] * 3) for t in runs), *early)
    assert (none.verdict, none.ours, none.n) == (NOT_RUN, "SemiCT collapsed in none of 6", 0)


@pytest.mark.parametrize("n", [3, 5])
@cases(
    "noise shift rotation",
    supported((1, 8, 4.5), (-0.375, 8, 4.5)),
    inconclusive((1, 0, 4.5), (1, 8, 0)),
    contradicted((1, -2, 4.5), (1, 8, -2), (-1, 8, 4.5)),  # by TEST; with larger spread it is not
)
def test_claim_10(noise, shift, rotation, expected, n):
    means = dict(zip(TRANSFORMS, (noise, shift, rotation)))
    scores = [gains(t, "SemiTCE", "Supervised", mean, n) for t, mean in means.items()]
    assert verdict(10, *scores) == expected


def test_claim_10_edges():
    rest = [gains(t, "SemiTCE", "Supervised", 6) for t in ("shift", "rotation")]
    assert verdict(10, gains("noise", "SemiTCE", "Supervised", -0.5, spread=8), *rest) == INCONCLUSIVE
    decimals = accuracies("noise", {"Supervised": [64.1, 64.3, 64.6], "SemiTCE": [63.6, 63.8, 64.1]})
    assert verdict(10, decimals, *rest) == CONTRADICTED  # -0.5 in every seed
    small = gains("noise", "SemiTCE", "Supervised", -0.375, n=5, spread=0.25)  # lower by TEST, within the tolerance
    assert verdict(10, small, *rest) == SUPPORTED
    assert verdict(10, small, rest[0], gains("rotation", "SemiTCE", "Supervised", 0)) == INCONCLUSIVE
    below = accuracies("rotation", {"Supervised": [60.0, 60.0, 60.0], "SemiTCE": [59.0, 58.4, 57.8]})
    p = greater(pd.Series([1.0, 1.6, 2.2]))[1]
    assert 0.05 / 3 < p < 0.05 / 2  # of three tests, also where noise is within the tolerance
    assert verdict(10, gains("noise", "SemiTCE", "Supervised", 1), rest[0], below) == INCONCLUSIVE
    claim = found(10, gains("noise", "SemiTCE", "Supervised", 5.1), *rest)
    assert claim.ours == (
        "gain for noise +5.1 (not within +1.0 ± 4); shift +6.0 (within +7.9 ± 4); rotation +6.0 (within +4.6 ± 4)"
    )
    assert claim.n == 9
    assert claim.test == "paired t, one-sided, larger p"


def test_the_larger_p_is_said():
    rows = [gains("noise", "SemiTCE", "Supervised", 1), gains("shift", "SemiTCE", "Supervised", 8, 5)]
    clear, less = (gains("rotation", "SemiTCE", "Supervised", 4, spread=s) for s in (0.5, 8))
    first, second = found(10, *rows, clear), found(10, *rows, less)
    assert (first.test, first.p) == ("Wilcoxon signed-rank, one-sided, larger p", 1 / 32)
    assert second.test == "paired t, one-sided, larger p"
    assert second.p == pytest.approx(stats.ttest_1samp([2, 4, 6], 0, alternative="greater").pvalue)


def two(transform, first, than, n=3, **d):
    """Two methods whose metrics differ by `d = {metric: (mean, spread)}`."""
    spread = np.array(EXACT[n])
    base = {"loss": 1.6, "accuracy": 70.1, "consistency": 90.1}
    higher = {m: base[m] + mean + factor * spread for m, (mean, factor) in d.items()}
    lower = {m: [base[m]] * n for m in d}
    return pd.concat([frame(transform, first, **higher), frame(transform, than, **lower)])


@pytest.mark.parametrize("n", [3, 5])
@cases(
    "accuracy consistency",
    supported(((4.25, 1), (11.25, 1)), ((0.125, 8), (11.25, 1))),  # of accuracy the mean only
    inconclusive(((0, 1), (11.25, 1)), ((-0.125, 8), (11.25, 1)), ((4.25, 1), (0.125, 8))),  # of consistency by TEST
    contradicted(((-4, 1), (11.25, 1)), ((4, 1), (-11, 1))),
)
def test_claim_11(accuracy, consistency, expected, n):
    scores = two("rotation", "SemiC", "SemiTCE", n, accuracy=accuracy, consistency=consistency)
    assert verdict(11, scores) == expected


def test_claim_11_says_sizes():
    ours = found(11, two("rotation", "SemiC", "SemiTCE", accuracy=(8.3, 1), consistency=(3.2, 1))).ours
    assert ours == "SemiC - SemiTCE: accuracy +8.3 (within +4.3 ± 4), consistency +3.2 (not within +11.3 ± 8)"


@cases(
    "loss accuracy consistency",
    supported(((-0.25, 0.25), (3.75, 1), (-0.25, 1)), ((-0.25, 0.25), (3.75, 1), (-1.5, 1))),  # to -1.92
    supported(((-0.01, 4), (0.125, 8), (1.5, 1))),  # means; an interval to 1.92
    inconclusive(((-0.25, 0.25), (3.75, 1), (1.75, 1)), ((-0.25, 0.25), (3.75, 1), (-1.75, 1))),  # to 2.17
    inconclusive(((-0.25, 0.25), (3.75, 1), (0, 8))),  # the mean alone is within
    inconclusive(((-0.25, 0.25), (3.75, 1), (2, 0)), ((-0.25, 0.25), (3.75, 1), (2.5, 8))),
    contradicted(((-0.25, 0.25), (3.75, 1), (3, 1)), ((-0.25, 0.25), (3.75, 1), (-3, 1))),  # beyond, by TEST
    inconclusive(((0, 0.25), (3.75, 1), (0, 1)), ((-0.25, 0.25), (0, 1), (0, 1))),
    inconclusive(((0.01, 4), (3.75, 1), (0, 1))),  # higher by no TEST
    contradicted(((0.25, 0.25), (3.75, 1), (0, 1)), ((-0.25, 0.25), (-3.75, 1), (0, 1))),
)
def test_claim_12(loss, accuracy, consistency, expected):
    scores = two("noise", "SemiTCE", "SemiC", loss=loss, accuracy=accuracy, consistency=consistency)
    assert verdict(12, scores) == expected


@cases(
    "loss accuracy consistency",
    supported(((-0.25, 0.25), (1.5, 1), (1.25, 1)), ((-0.01, 4), (0.125, 8), (0.125, 8))),  # means
    inconclusive(((0, 0.25), (1.5, 1), (1.25, 1)), ((-0.25, 0.25), (0, 1), (1.25, 1))),
    inconclusive(((-0.25, 0.25), (1.5, 1), (0, 1))),
    contradicted(((0.25, 0.25), (1.5, 1), (1.25, 1)), ((-0.25, 0.25), (-1.5, 1), (1.25, 1))),
    contradicted(((-0.25, 0.25), (1.5, 1), (-1.25, 1))),
)
@pytest.mark.parametrize("semict", [0.0, 99.0])
def test_claim_13(loss, accuracy, consistency, expected, semict):
    """What SemiCT does is said and decides nothing."""
    scores = two("shift", "SemiTCE", "SemiC", loss=loss, accuracy=accuracy, consistency=consistency)
    third = frame("shift", "SemiCT", loss=[1.0] * 3, accuracy=[semict] * 3, consistency=[semict] * 3)
    assert verdict(13, scores, third) == expected
    assert verdict(13, scores) == NOT_RUN


def test_claim_13_says_the_interval(published):
    ours = found(13, published).ours
    assert ours.startswith(
        "SemiTCE - SemiC: loss -0.047, accuracy +1.4, consistency +1.3; SemiTCE - SemiCT: accuracy -1.1 ("
    )
    assert re.search(r"accuracy -1\.1 \(95 % interval -1\.\d to -\d\.\d\), consistency \+1\.0 \(95 % interval", ours)


@pytest.mark.parametrize("n", [3, 5])
@cases(
    "noise shift rotation",
    supported((-2.75, 6.5, 9), (3, 6.5, 9)),  # against noise, not against 0
    inconclusive((-2.75, -2.75, 9), (-2.75, 6.5, -2.75)),
    contradicted((7.5, 6.5, 9), (8, 8.5, 7)),  # either
)
def test_claim_14(noise, shift, rotation, expected, n):
    means = {"noise": (noise, 1), "shift": (shift, -0.5), "rotation": (rotation, 0.5)}
    scores = [gains(t, "SemiC", "Supervised", mean, n, spread=s) for t, (mean, s) in means.items()]
    assert verdict(14, *scores) == expected


def test_claim_14_pairs_transforms_by_seed():
    """Noise has seeds of its own: what is not shared does not count."""
    noise = gains("noise", "SemiC", "Supervised", 0, 5)
    spatial = [gains(t, "SemiC", "Supervised", 2) for t in ("shift", "rotation")]
    claim = found(14, noise, *spatial)
    assert (claim.verdict, claim.n) == (SUPPORTED, 6)
    assert claim.test == "paired t, one-sided, larger p"
    shared = found(14, noise.assign(seed=noise["seed"] + 1), *spatial)
    assert (shared.verdict, shared.n) == (NOT_RUN, 4)
    assert shared.ours == "too few seeds shared with noise: shift 2, rotation 2 of 3"


def curves(transforms=TRANSFORMS, n=3, accuracy=66.0, **changed):
    """Supervised training with overfitting as published, but for what is changed (a number, or one a seed)."""
    values = CURVE | {"accuracy": accuracy} | changed
    lists = {m: v if isinstance(v, list) else [v] * n for m, v in values.items()}
    return pd.concat([frame(t, "Supervised", **lists) for t in transforms])


@cases(
    "changed",
    supported({}, {"train_loss_epoch_40": 0.099}, {"val_loss_min_epoch": 8.0}, {"val_loss_min_epoch": 35.0}),
    supported({"val_loss_end": 1.71}, {"val_accuracy_epoch_25": 57.6, "val_accuracy_end": 60.5}),
    supported({"accuracy": 58.0}, {"accuracy": 74.0}, {"epochs": 118.8}, {"epochs": 200.0}),
    supported({"accuracy": [73.9, 73.8, 74.3]}),  # 74 in the mean
    inconclusive({"train_loss_epoch_40": 0.1}, {"val_loss_min_epoch": 7.9}, {"val_loss_min_epoch": 35.1}),
    inconclusive({"val_loss_end": 1.7}, {"val_accuracy_epoch_25": 57.5, "val_accuracy_end": 60.5}),
    inconclusive({"val_accuracy_epoch_25": 63.5, "val_accuracy_end": 60.5}, {"accuracy": 57.9}),
    inconclusive({"accuracy": 74.1}, {"val_loss_min": 1.7, "val_loss_end": 2.2}),  # 0.5 in decimals
    inconclusive({"train_loss_epoch_40": 0.5, "val_loss_end": 1.3}),  # for one transform
    not_run({"epochs": 118.7}, {"epochs": [122.88, 118.7, 122.88]}, {"train_loss_epoch_40": [0.01, None, 0.01]}),
)
def test_claim_15(changed, expected):
    assert verdict(15, curves(TRANSFORMS[:2]), curves(["rotation"], **changed)) == expected


@cases(
    "changed",
    inconclusive({"train_loss_epoch_40": 0.09, "val_loss_end": 1.7}),
    inconclusive({"train_loss_epoch_40": 0.1, "val_loss_end": 1.8}),
    inconclusive({"accuracy": 80.0, "val_accuracy_epoch_25": 20.0, "val_loss_min_epoch": 90.0}),
    contradicted({"train_loss_epoch_40": 0.1, "val_loss_end": 1.7}),
)
def test_claim_15_no_overfitting(changed, expected):
    assert verdict(15, curves(**changed)) == expected
    one = curves(["noise"]), curves(["shift", "rotation"], **changed)
    assert verdict(15, *one) == INCONCLUSIVE


def test_claim_15_for_every_transform():
    wrong = ({"train_loss_epoch_40": 0.2}, {"val_loss_end": 1.3}, {"val_loss_min_epoch": 40.0}, {"accuracy": 80.0})
    for transform in TRANSFORMS:
        others = curves([t for t in TRANSFORMS if t != transform])
        for changed in wrong:
            assert verdict(15, others, curves([transform], **changed)) == INCONCLUSIVE
        assert verdict(15, others, curves([transform], n=2)) == NOT_RUN


def test_claim_15_says_how_many_epochs():
    short = found(15, curves(epochs=7.5, train_loss_epoch_40=[None] * 3))
    assert (short.verdict, short.ours, short.n) == (NOT_RUN, "7.5 of the report's 120 epochs", 9)
    gap = found(15, curves(val_accuracy_epoch_25=[None] * 3))
    assert gap.ours == ("too few seeds with Supervised: noise 0, shift 0, rotation 0 of 3, with curves of 120 epochs")
    one = curves(["noise"], n=1, epochs=32.0)  # too few as well
    assert (found(15, one).ours, found(15, one).n) == ("32 of the report's 120 epochs", 1)
    assert found(15, one[:0]).ours == "too few seeds with Supervised: noise 0, shift 0, rotation 0 of 3"
    ours = found(15, curves()).ours
    assert ours.startswith(
        "noise: training loss 0.01 at epoch 40; validation loss 1.20 at epoch 20, +1.00 by the end; "
        "validation accuracy +0.5 after epoch 25; accuracy 66.0. shift: "
    )


def steps(transform, semic, semict, semitce, consistency=90.0, n=3, spread=1.0):
    values = {
        m: [v + spread * f * s for s in EXACT[n]] for m, v, f in zip(METHODS[1:], (semic, semict, semitce), (1, 0, 0))
    }
    return accuracies(transform, values, consistency=consistency)


@cases(
    "accuracy consistency spread",
    supported(((70, 60, 60), 90, 1), ((70, 10, 73.5), 90, 1), ((10, 10, 10), 98, 1)),
    supported(((70, 73.5, 10), 90, 1)),  # the interval ends at 3.92, of 4 points
    inconclusive(((70, 10, 73.6), 90, 1), ((70, 73.6, 10), 90, 1), ((70, 10, 70), 90, 12)),  # at 4.02; at 5.06
    inconclusive(((70, 10, 75), 90, 8), ((70.1, 10, 74.2), 90, 1)),  # more than 4 by no TEST
    contradicted(((70, 75, 10), 90, 1), ((70, 10, 75), 90, 1), ((10, 10, 10), 100, 1)),  # SemiC collapsed
)
def test_claim_16(accuracy, consistency, spread, expected):
    others = [steps(t, 75, 70, 70) for t in TRANSFORMS[:2]]
    assert verdict(16, *others, steps("rotation", *accuracy, consistency, spread=spread)) == expected


def test_claim_16_for_every_transform():
    for transform in TRANSFORMS:
        others = [steps(t, 75, 70, 70) for t in TRANSFORMS if t != transform]
        assert verdict(16, *others, steps(transform, 70, 10, 75)) == CONTRADICTED
        assert verdict(16, *others, steps(transform, 70, 10, 75, spread=8)) == INCONCLUSIVE


def test_claim_16_one_collapsed_run():
    rotation = states("rotation", "SemiC", [FINE, FALLEN, FINE]), states("rotation", "SemiCT", [FINE] * 3)
    early = states("rotation", "SemiTCE", [FALLEN] * 3)
    claim = found(16, steps("noise", 75, 70, 70), steps("shift", 75, 70, 72), *rotation, early)
    assert (claim.verdict, claim.n) == (CONTRADICTED, 9)
    assert claim.ours == (
        "best two-step variant - SemiC: noise -5.0 (SemiCT), shift -3.0 (SemiTCE), rotation +18.3 (SemiCT); "
        "SemiC collapsed in 1 of 9"
    )


MODES_17 = ("corrected", "legacy_inference_mode", "kl_clip", "legacy_inference_mode+kl_clip")


def factorial(collapsed, modes=MODES_17, n=3):
    """`collapsed = {(mode, transform, method): how many of n}`, 0 elsewhere; a collapse may have any loss."""
    return [
        states(t, m, [(10.0, 100.0, 30.0)] * (k := collapsed.get((mode, t, m), 0)) + [FINE] * (n - k), mode)
        for mode, t, m in itertools.product(modes, ("noise", "rotation"), ("SemiCT", "SemiTCE"))
    ]


@cases(
    "collapsed",
    supported({("corrected", "noise", "SemiCT"): 2, ("legacy_inference_mode", "rotation", "SemiCT"): 2}),
    supported({(m, t, "SemiCT"): 3 for m in MODES_17 for t in ("noise", "rotation")}),
    inconclusive({("corrected", t, m): 3 for t in ("noise", "rotation") for m in ("SemiCT", "SemiTCE")}),
    inconclusive({("kl_clip", "noise", "SemiCT"): 3, ("corrected", "noise", "SemiTCE"): 1}),
    inconclusive({(m, t, "SemiTCE"): 3 for m in MODES_17[:2] for t in ("noise", "rotation")}),
    inconclusive({}),  # nothing to explain
    inconclusive({("corrected", "noise", "SemiCT"): 3}),  # 3 of 12 against 0 of 12: p = 0.11
    contradicted({("kl_clip", "noise", "SemiCT"): 1}),
    contradicted({(m, t, "SemiCT"): 3 for m in MODES_17[2:] for t in ("noise", "rotation")}),
    contradicted({("legacy_inference_mode+kl_clip", "rotation", "SemiTCE"): 1}),  # any pre-training
)
def test_claim_17(collapsed, expected):
    assert verdict(17, *factorial(collapsed)) == expected


def test_claim_17_counts_and_tests():
    collapsed = {("corrected", "noise", "SemiCT"): 3, ("legacy_inference_mode", "rotation", "SemiCT"): 2}
    claim = found(17, *factorial(collapsed | {("corrected", "rotation", "SemiTCE"): 1}))
    assert claim.ours == (
        "collapsed, SemiCT and SemiTCE: corrected 3 and 1 of 6; legacy_inference_mode 2 and 0 of 6; "
        "kl_clip 0 and 0 of 6; kl_clip+legacy_inference_mode 0 and 0 of 6"
    )
    assert claim.n == 48
    assert claim.p == pytest.approx(stats.hypergeom(24, 6, 12).sf(4))  # 5 or 6 of 6 among the 12 of SemiCT


def test_claim_17_needs_every_cell():
    full = pd.concat(factorial({("kl_clip", "noise", "SemiCT"): 1}))
    order = full.replace({"mode": {"legacy_inference_mode+kl_clip": "kl_clip+legacy_inference_mode"}})
    assert verdict(17, order) == CONTRADICTED
    assert verdict(17, full, full.assign(mode="legacy"), full.assign(transform="shift")) == CONTRADICTED
    for mode, t, m in itertools.product(MODES_17, ("noise", "rotation"), ("SemiCT", "SemiTCE")):
        here = (full["mode"] == mode) & (full["transform"] == t) & (full["method"] == m)
        claim = found(17, full[~here | (full["seed"] < 2)])
        assert claim.verdict == NOT_RUN
        assert claim.ours.endswith(f": too few seeds with SemiCT and SemiTCE: {t} 2 of 3")
    assert verdict(17, full, full[here].assign(learning_rate=0.1)) == NOT_RUN


def test_both_modes_are_judged_alike(published):
    fine = states("noise", "SemiCT", [FINE] * 3), states("rotation", "SemiCT", [FINE] * 3)
    fallen = states("noise", "SemiCT", [FALLEN] * 3), states("rotation", "SemiCT", [FALLEN] * 3)
    again = states("noise", "SemiTCE", [FALLEN] * 3), states("rotation", "SemiTCE", [FALLEN] * 3)
    for claim, frames, expected in (
        *((i, [published], SUPPORTED) for i in (1, 3, 10, 12, 16)),
        (5, fine, CONTRADICTED),
        (6, [states("shift", "SemiCT", [FALLEN] * 3)], CONTRADICTED),
        (7, at_rates({}), SUPPORTED),
        (7, at_rates({1e-5: [FINE]}), CONTRADICTED),
        (8, [slow_and_fast(2, 30)], SUPPORTED),
        (9, (*fallen, *again), CONTRADICTED),
        (15, [curves(train_loss_epoch_40=0.5, val_loss_end=1.3)], CONTRADICTED),
    ):
        scores = pd.concat(frames)
        assert verdict(claim, scores) == expected, claim
        assert found(claim, scores.assign(mode="corrected"), mode="corrected") == found(claim, scores), claim
    of_switches = factorial({("kl_clip", "noise", "SemiCT"): 1})
    assert found(17, *of_switches, mode="corrected") == found(17, *of_switches, mode="legacy")


@pytest.mark.parametrize("mode", MODES)
def test_claim_18(published, mode):
    state = torch.random.get_rng_state()
    for scores in (published, published[:0]):
        claim = found(18, scores, mode=mode)
        assert (claim.verdict, claim.ours) == (SUPPORTED, "1,412,554 parameters, 1,409,674 trainable")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_claim_18_is_exact(published, monkeypatch):
    def frozen():
        network = ConvSmall()
        network[0].bias.requires_grad_(False)
        return network

    def in_another_order():
        return torch.nn.Sequential(*reversed(ConvSmall()))

    for other in (lambda: ConvSmall(classes=11), lambda: ConvSmall(width=0.5), frozen, in_another_order):
        monkeypatch.setattr(rules, "ConvSmall", other)
        assert verdict(18, published) == CONTRADICTED
