"""Numbers of runs, their paired differences, and the test on them."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fewlabels.scores.statistics import differences, greater, run_scores

AXES = ["method", "labels", "split", "seed", "amplitude", "validation"]
COLUMNS = [*AXES, "subject", "structure", "metric", "value"]


def test_the_score_of_a_run_is_the_mean_over_its_subjects():
    runs = [("SupTC", 5, 0, 0, 4.0, "all"), ("SupTC", 5, 1, 0, 4.0, "all")]
    runs += [("SupTC", 5, 0, 0, 2.0, "all"), ("SupTC", 5, 0, 0, 4.0, "matched")]
    values = [
        (*runs[0], "a", "all", "miou", 10.0),
        (*runs[0], "b", "all", "miou", 40.0),
        (*runs[1], "a", "all", "miou", 7.0),
        (*runs[2], "a", "all", "miou", 6.0),  # the amplitude and
        (*runs[3], "a", "all", "miou", 5.0),  # the validation set make it another run
        (*runs[0], "a", "heart", "iou", 99.0),
        (*runs[0], "a", "all", "miou_post", 98.0),
    ]
    scores = pd.DataFrame(values, columns=COLUMNS)
    found = run_scores(scores)
    assert found.to_dict() == dict(zip(runs, (25.0, 7.0, 6.0, 5.0)))
    assert list(found.index.names) == AXES
    assert run_scores(scores, "iou", "heart").to_dict() == {runs[0]: 99.0}
    assert run_scores(scores, "dice").empty


def test_axes_are_whatever_columns_there_are():
    row = ("SupTC", 5, 0, 0, 4.0, "all", "a", "all", "miou", 7.0)
    old = pd.DataFrame([row], columns=COLUMNS).drop(columns=["amplitude", "validation"])
    assert run_scores(old).to_dict() == {("SupTC", 5, 0, 0): 7.0}


def test_differences_are_of_runs_that_share_all_but_the_method():
    of_runs = {
        ("A", 5, 0, 0, 4.0, "all"): 10.0,
        ("A", 5, 1, 0, 4.0, "all"): 20.0,
        ("A", 10, 0, 0, 4.0, "all"): 30.0,
        ("A", 5, 0, 1, 4.0, "all"): 40.0,
        ("A", 5, 2, 0, 2.0, "all"): 50.0,
        ("A", 5, 2, 0, 4.0, "matched"): 60.0,
        ("B", 5, 0, 0, 4.0, "all"): 1.0,
        ("B", 10, 0, 0, 4.0, "all"): 2.0,
        ("B", 5, 2, 0, 4.0, "all"): 3.0,  # A has this split only at another amplitude, or another validation set
        ("B", 10, 0, 0, 4.0, "matched"): 4.0,
    }
    runs = pd.Series(list(of_runs.values()), index=pd.MultiIndex.from_tuples(of_runs, names=AXES))
    at_5, at_10 = (5, 0, 0, 4.0, "all"), (10, 0, 0, 4.0, "all")
    assert differences(runs, "A", "B").to_dict() == {at_5: 9.0, at_10: 28.0}
    assert differences(runs, "B", "A").to_dict() == {at_5: -9.0, at_10: -28.0}
    assert differences(runs, "A", "B", (10, 25)).to_dict() == {at_10: 28.0}
    for better, than in (("A", "C"), ("C", "A")):
        none = differences(runs, better, than)
        assert (len(none), list(none.index.names)) == (0, AXES[1:])


def wilcoxon_by_hand(d):
    """One-sided exact p: the share of all sign patterns whose rank sum is at least that of d."""
    ranks = stats.rankdata(np.abs(d))
    observed = ranks[np.array(d) > 0].sum()
    sums = [(ranks * signs).sum() for signs in itertools.product((0, 1), repeat=len(d))]
    return np.mean([total >= observed - 1e-9 for total in sums])


def t_by_hand(d):
    t = np.mean(d) / (np.std(d, ddof=1) / np.sqrt(len(d)))
    return stats.t(df=len(d) - 1).sf(t)


@pytest.mark.parametrize(
    "d",
    [
        [1, 2, 3, 4, 5.5],
        [1.0, -2, 3, 4, 5.5],
        [-1.0, -2, -3, -4, -5.5],
        [0.1, 2, 3, -1, -0.5, 4, 6, 7, -2.5, 8],
        [1.0, 1, 2, -2, 3, 3],
    ],
)
def test_from_five_runs_on_wilcoxon(d):
    name, p = greater(pd.Series(d))
    assert "Wilcoxon" in name
    assert "one-sided" in name
    assert p == pytest.approx(wilcoxon_by_hand(d), abs=1e-12)


@pytest.mark.parametrize("d", [[1, 2, 3.5], [-1, 2, 3.5, 4], [3, 3.1, 2.9], [-1.0, -2, -4]])
def test_three_or_four_runs_are_compared_by_t(d):
    name, p = greater(pd.Series(d))
    assert "paired t" in name
    assert p == pytest.approx(t_by_hand(d), rel=1e-9)


def test_five_wins_of_five_are_just_enough():
    assert greater(pd.Series([1.0, 2, 3, 4, 5]))[1] == 1 / 32
    assert greater(pd.Series([-1.0, 2, 3, 4, 5]))[1] == 2 / 32


@pytest.mark.parametrize("d", [[], [1.0], [1.0, 2.0]])
def test_below_three_there_is_no_test(d):
    assert greater(pd.Series(d, dtype=float)) == ("", None)


def test_equal_differences():
    assert greater(pd.Series([2.0] * 6))[1] == 1 / 64
    assert greater(pd.Series([0.0] * 6))[1] == 1
    assert greater(pd.Series([-2.0] * 6))[1] == 1
