"""What a claim compares with must be within bounds that its paper's file states."""

import pandas as pd
import pytest
from helpers import refused

from fewlabels.scores import health
from fewlabels.scores.verdicts import Verdict, judge

COLUMNS = "method labels seed subject structure metric value".split()
WHY = {"why": "chance", "since": "2026-11-29"}
FLOOR = {"rows": ["Baseline"], "metric": "dice", "at least": 0.5} | WHY
NEAR = {"rows": ["Other"], "metric": "dice", "at least": -0.1, "of": "Baseline"} | WHY

AHEAD = Verdict("supported", "0.3 ahead", 2, "test", 0.01)


def frame(baseline, other, labels=5, metric="dice"):
    """Two seeds of two rows, two subjects each; their means are the numbers given."""
    return pd.DataFrame(
        [
            (method, labels, seed, subject, "all", metric, value + shift)
            for method, value in (("Baseline", baseline), ("Other", other), ("Ours", 0.01))
            for seed, subject, shift in ((0, "a", -0.2), (0, "b", 0.1), (1, "a", 0.2), (1, "b", -0.1))
        ],
        columns=COLUMNS,
    )


def judged(scores, compares, healthy=(FLOOR, NEAR), found=AHEAD, **more):
    claim = {"id": "x-01", "statement": "S", "published": {}, "compares": compares} | more
    [row] = judge([claim], {"x-01": lambda s: found}, scores, paper="x", data="d", healthy=healthy).to_dict("records")
    return row


def test_within_bounds_the_verdict_stands():
    row = judged(frame(0.5, 0.4), ["Baseline", "Other"])
    assert (row["verdict"], row["ours"], row["p"]) == ("supported", "0.3 ahead", 0.01)


@pytest.mark.parametrize(
    ("baseline", "other", "says"),
    [
        (0.49, 0.6, "comparator out of range: Baseline 0.49, expected at least 0.5; 0.3 ahead"),
        (0.8, 0.69, "comparator out of range: Other 0.69, expected at least 0.7; 0.3 ahead"),
    ],
)
def test_out_of_range_nothing_is_judged_and_the_evidence_stays(baseline, other, says):
    row = judged(frame(baseline, other), ["Baseline", "Other"])
    assert (row["verdict"], row["ours"], row["n"], row["test"], row["p"]) == ("not run", says, 2, "", None)


def test_only_the_rows_that_a_claim_compares_with_count():
    bad = frame(0.1, 0.0)
    assert judged(bad, [])["verdict"] == "supported"
    assert judged(bad[bad["method"] != "Baseline"], ["Baseline"])["verdict"] == "supported"  # rules say what is missing


def test_the_row_that_bounds_another_must_be_within_its_own_bounds():
    """Baseline has learned nothing, and Other lies within 0.1 of it."""
    row = judged(frame(0.1, 0.02), ["Other"])
    assert row["verdict"] == "not run"
    assert row["ours"] == "comparator out of range: Baseline 0.1, expected at least 0.5; 0.3 ahead"
    third = NEAR | {"rows": ["Ours"], "of": "Other"}
    assert judged(frame(0.1, 0.02), ["Ours"], [FLOOR, NEAR, third])["ours"] == row["ours"]
    assert judged(frame(0.6, 0.55), ["Ours"], [FLOOR, NEAR, third])["ours"].startswith(
        "comparator out of range: Ours 0.01, expected at least 0.45"
    )


def test_an_upper_bound():
    bound = {"rows": ["Baseline"], "metric": "dice", "at most": 0.3} | WHY
    assert judged(frame(0.3, 0), ["Baseline"], [bound])["verdict"] == "supported"
    assert "expected at most 0.3" in judged(frame(0.31, 0), ["Baseline"], [bound])["ours"]


def test_without_the_row_that_bounds_it_nothing_is_known_to_be_healthy():
    scores = frame(0.5, 0.9)
    row = judged(scores[scores["method"] != "Baseline"], ["Other"])
    assert row["verdict"] == "not run"
    assert "Other 0.9, expected at least nan" in row["ours"]


def test_a_claim_says_where_and_a_bound_may_hold_at_each_place():
    scores = pd.concat([frame(0.9, 0.85, labels=100), frame(0.6, 0.2, labels=5)])
    each = NEAR | {"each": ["labels"]}
    assert (
        judged(scores, ["Other"], [FLOOR, each], at={"labels": ["100"]})["verdict"] == "supported"
    )  # "100" may be a number
    row = judged(scores, ["Other"], [FLOOR, each])
    assert row["ours"].startswith("comparator out of range: Other, labels 5 0.2, expected at least 0.5")
    at_100 = NEAR | {"at": {"labels": [100]}}
    assert judged(scores, ["Other"], [FLOOR, at_100])["verdict"] == "supported"


def test_what_was_not_run_stays_so():
    found = Verdict("not run", "too few", 1)
    assert judged(frame(0, 0), ["Baseline"], found=found)["ours"] == "too few"


def test_a_bound_is_of_the_metric_that_the_runs_have():
    """One paper's rows of two data sets: each has its own bounds."""
    skin = {"rows": ["Baseline"], "metric": "bmca", "at least": 0.15} | WHY
    assert judged(frame(0.2, 0, metric="bmca"), ["Baseline"], [FLOOR, skin])["verdict"] == "supported"
    assert judged(frame(0.2, 0), ["Baseline"], [FLOOR, skin])["verdict"] == "not run"


# ---- what is refused ----


def test_a_compared_row_without_a_bound():
    refused(
        lambda: judged(frame(1, 1), ["Baseline", "Third"]), "x/published.yaml: x-01: compares: Third", "a bound of it"
    )
    refused(
        lambda: judged(frame(1, 1, metric="iou"), ["Baseline"]), "x-01: compares: Baseline", "of what its runs have"
    )


def test_a_claim_that_does_not_say_what_it_compares_with():
    refused(lambda: judged(frame(1, 1), None), "x/published.yaml: x-01: compares: expected a list of rows, found None")


@pytest.mark.parametrize("key", ["why", "since", "metric", "at least"])
def test_a_bound_without_a_part(key):
    broken = {name: value for name, value in FLOOR.items() if name != key}
    refused(lambda: judged(frame(1, 1), ["Baseline"], [broken]), "x/published.yaml: healthy", "at least")


def test_a_bound_with_an_unknown_key():
    refused(lambda: judged(frame(1, 1), ["Baseline"], [FLOOR | {"atleast": 1}]), "healthy", "atleast")


def test_a_bound_of_a_row_that_has_none():
    refused(lambda: judged(frame(1, 1), ["Other"], [NEAR]), "healthy: ['Other']: of: expected a bound of Baseline")
    refused(lambda: judged(frame(1, 1), ["Other"], [NEAR | {"of": "Other"}]), "healthy: ['Other']: of")


# ---- single runs ----


def runs_of(baseline, other=()):
    """A subject each; a number a seed."""
    rows = [("Baseline", 5, seed, "a", "all", "dice", value) for seed, value in enumerate(baseline)]
    rows += [("Other", 5, seed, "a", "all", "dice", value) for seed, value in enumerate(other)]
    return pd.DataFrame(rows, columns=COLUMNS)


def why_not(scores, compares=("Baseline",), healthy=(FLOOR, NEAR)):
    row = judged(scores, [*compares], healthy)
    return "" if row["verdict"] == "supported" else row["ours"].removesuffix("; 0.3 ahead").split(": ")[1]


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        ([0.8, 0.8, 0.3], ""),  # weak
        ([0.8, 0.8, 0.25], ""),
        ([0.8, 0.8, 0.24], "Baseline, one run 0.24, expected at least 0.25"),  # hidden in a mean of 0.61
        ([0.9, 0.9, 0.9, 0.9, 0.0], "Baseline, one run 0, expected at least 0.25"),
        ([0.9, 0.4, 0.4], "Baseline, median 0.4, expected at least 0.5"),
        ([0.9, 0.5, 0.4], ""),
        ([0.6, 0.5, 0.3], "Baseline 0.4667, expected at least 0.5"),
        ([0.2], "Baseline 0.2, expected at least 0.5"),
    ],
)
def test_a_collapsed_run_does_not_hide_in_a_mean_and_a_weak_one_stays(runs, says):
    assert why_not(runs_of(runs)) == says


def test_what_each_run_must_reach_may_be_said():
    """Of a score that is at chance where nothing was learned, half of a bound is none."""
    chance = FLOOR | {"each run": 0.45}
    assert (
        why_not(runs_of([0.8, 0.8, 0.44]), healthy=[chance, NEAR]) == "Baseline, one run 0.44, expected at least 0.45"
    )
    assert why_not(runs_of([0.8, 0.8, 0.45]), healthy=[chance, NEAR]) == ""


def test_of_a_row_that_is_bound_by_another_each_run_must_reach_what_the_other_must():
    baseline = [0.6, 0.6, 0.6]
    assert why_not(runs_of(baseline, [0.9, 0.9, 0.26]), ["Other"]) == ""
    assert why_not(runs_of(baseline, [0.9, 0.9, 0.2]), ["Other"]) == "Other, one run 0.2, expected at least 0.25"
    assert why_not(runs_of(baseline, [0.9, 0.4, 0.4]), ["Other"]) == "Other, median 0.4, expected at least 0.5"
    third = {"rows": ["Third"], "metric": "dice", "at least": -0.1, "of": "Other"} | WHY
    scores = runs_of(baseline, baseline)
    more = scores[scores["method"] == "Other"].assign(method="Third", value=[0.9, 0.9, 0.2])
    assert why_not(pd.concat([scores, more]), ["Third"], [FLOOR, NEAR, third]) == (
        "Third, one run 0.2, expected at least 0.25"
    )


def test_runs_are_looked_at_where_a_bound_holds():
    scores = pd.concat([runs_of([0.9, 0.9, 0.9]), runs_of([0.9, 0.9, 0.1]).assign(labels=100)])
    each = FLOOR | {"each": ["labels"]}
    assert why_not(scores, healthy=[each, NEAR]) == "Baseline, labels 100, one run 0.1, expected at least 0.25"
    assert why_not(scores, healthy=[each | {"at": {"labels": [5]}}, NEAR]) == ""


def test_a_place_that_scores_do_not_have():
    """Of one paper's two data sets one has backbones."""
    claim = {"id": "x-01", "compares": ["Baseline"], "at": {"backbone": ["B2"]}}
    assert health.out_of_range("x", claim, [FLOOR], runs_of([0.0, 0.0])) is None
