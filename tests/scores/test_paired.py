"""Tests on paired differences: over runs and subjects, within a margin, one of several. By SciPy and simulation."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fewlabels.scores import paired
from fewlabels.scores.paired import clearest, close, mean, passes, some_pass
from fewlabels.scores.statistics import greater, holm, inside, interval, over_runs, over_subjects, run_scores

RUNS = ["labels", "split"]


def of_runs(*values):
    return pd.Series(values, index=pd.MultiIndex.from_product([[5], range(len(values))], names=RUNS), dtype=float)


def of_images(runs, subjects):
    """Every subject in every run: the sum of an effect of each."""
    index = pd.MultiIndex.from_product([[5], range(len(runs)), range(len(subjects))], names=[*RUNS, "subject"])
    return pd.Series([r + s for r in runs for s in subjects], index=index, dtype=float)


# ---- over runs and over subjects ----


def test_a_run_is_the_mean_of_its_subjects_and_a_subject_that_of_its_runs():
    d = of_images((0.0, 3.0), (1.0, 2.0, 6.0))
    assert over_runs(d).to_dict() == {(5, 0): 3.0, (5, 1): 6.0}
    assert over_subjects(d).to_dict() == {0: 2.5, 1: 3.5, 2: 7.5}
    assert mean(d) == 4.5
    assert over_subjects(of_runs(1, 2)) is None
    pd.testing.assert_series_equal(over_runs(of_runs(1, 2)), of_runs(1, 2))


def test_runs_count_alike_however_many_subjects_they_have():
    d = of_images((0.0, 3.0), (1.0, 2.0, 6.0)).iloc[:-2]  # the second run has one subject: 4
    assert mean(d) == 3.5


def test_scores_of_subjects_have_the_axes_of_runs_and_their_own():
    rows = [("A", 5, 0, s, "all", "miou", v) for s, v in (("a", 1.0), ("b", 5.0))]
    scores = pd.DataFrame(rows, columns=["method", *RUNS, "subject", "structure", "metric", "value"])
    assert run_scores(scores).to_dict() == {("A", 5, 0): 3.0}
    assert run_scores(scores, subjects=True).to_dict() == {("A", 5, 0, "a"): 1.0, ("A", 5, 0, "b"): 5.0}


@pytest.mark.parametrize("n", [3, 4, 5, 8])
def test_both_must_pass(n):
    """p is the larger of that over runs and that over subjects, each as SciPy has it."""
    rng = np.random.default_rng(n)
    d = of_images(rng.normal(0.3, 1, n), rng.normal(0.2, 1, 12)).round(6)
    by_run, by_subject = d.groupby("split").mean(), d.groupby("subject").mean()
    of_subjects = stats.wilcoxon(by_subject, alternative="greater").pvalue
    test = (
        stats.wilcoxon(by_run, alternative="greater") if n >= 5 else stats.ttest_1samp(by_run, 0, alternative="greater")
    )
    name, p = greater(d)
    assert p == pytest.approx(max(of_subjects, test.pvalue), rel=1e-3)
    assert name.endswith("over runs" if test.pvalue >= of_subjects else "over subjects")


def test_many_subjects_cannot_make_up_for_few_runs_nor_many_runs_for_subjects():
    up = np.linspace(0.9, 1.1, 20)
    assert passes(of_images((0.1, 0.0, -0.1), up))
    assert not passes(of_images((4.0, -3.0, 0.0), up))  # over subjects alone p is 1e-6
    assert not passes(of_images(up, (4.0, -3.0, 0.0)))  # over runs alone
    assert paired.tested(of_images((4.0, -3.0, 0.0), up)).startswith("+1.333 (p 0.29; over 20 subjects 9.5e-07)")


def test_too_few_runs_or_subjects():
    assert greater(of_images((1.0, 1.1), range(1, 9))) == ("", None)
    assert greater(of_images((1.0, 1.1, 1.2), (1, 2)))[1] == 1.0
    assert inside(of_runs(0.1, 0.2), -1, 1) == ("", None)


# ---- within a margin ----


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (-np.inf, 0.4), (-0.2, np.inf), (0.1, 0.9)])
def test_inside_is_the_90_percent_interval_inside(low, high):
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        d = of_runs(*rng.normal(rng.uniform(-0.5, 1), 0.3, rng.integers(3, 9)))
        a, b = stats.t.interval(0.9, len(d) - 1, d.mean(), d.sem())
        name, p = inside(d, low, high)
        assert (name, p < 0.05) == ("TOST", bool(low < a and b < high))
        assert interval(d) == pytest.approx((a, b), abs=1e-5)
        seen.add(p < 0.05)
    assert seen == {True, False}


def test_the_p_of_inside_is_the_larger_of_two_one_sided_t_tests():
    d = of_runs(0.1, 0.3, 0.2, 0.6)
    sides = [stats.ttest_1samp(d, -0.1, alternative="greater"), stats.ttest_1samp(d, 0.7, alternative="less")]
    assert inside(d, -0.1, 0.7)[1] == pytest.approx(max(test.pvalue for test in sides))
    assert inside(of_runs(0.1, 0.1, 0.1), 0, 1)[1] == 0
    assert inside(of_runs(0.1, 0.1, 0.1), 0.1, 1)[1] == 1


def test_close_needs_every_interval_and_is_contradicted_beyond_the_margin_only():
    near, wide, far = of_runs(0.0, 0.01, -0.01), of_runs(-1.0, 1.0, 0.0), of_runs(0.2, 0.21, 0.19)
    above = of_runs(0.04, 0.041, 0.039)  # clearly above 0, and still close
    assert close([near, above], -0.05, 0.05)[0] == "supported"
    assert close([near, wide], -0.05, 0.05)[0] == "inconclusive"  # the mean is 0
    assert close([near, far], -0.05, 0.05)[0] == close([near, -far], -0.05, 0.05)[0] == "contradicted"
    assert close([near, -far], -np.inf, 0.05)[0] == "supported"


def test_close_over_subjects_too():
    d = of_images((0.001, 0.0, -0.001), (2.0, -2.0, 0.5, -0.5))  # of runs alone the interval is tiny
    assert close([over_runs(d)], -0.05, 0.05)[0] == "supported"
    assert close([d], -0.05, 0.05)[0] == "inconclusive"


# ---- one of several ----


@pytest.mark.parametrize("p", [(0.01, 0.04, 0.03, 0.005), (0.5,), (0.02, 0.02), (0.9, 0.6, 0.01)])
def test_holm_is_the_closed_test(p):
    """The p of a hypothesis is the largest Bonferroni p of all sets of hypotheses that hold it."""
    sets = [s for n in range(1, len(p) + 1) for s in itertools.combinations(range(len(p)), n)]
    closed = [max(min(1, len(s) * min(p[j] for j in s)) for s in sets if i in s) for i in range(len(p))]
    assert holm(p) == pytest.approx(closed)


def test_one_of_several_is_rarely_found_where_there_is_nothing():
    rng = np.random.default_rng(1)
    draws = [[of_runs(*rng.normal(0, 1, 4)) for _ in range(6)] for _ in range(400)]
    assert np.mean([any(map(passes, d)) for d in draws]) > 0.2
    assert np.mean([some_pass(d) for d in draws]) < 0.08


def test_so_many_of_several():
    clear, none = of_runs(1, 1.01, 0.99, 1.02, 1), of_runs(-1, 1, 0.5, -0.5, 0)
    assert some_pass([clear, clear, none], 2)
    assert not some_pass([clear, none, none], 2)
    # five ranks cannot reach 0.025, so that no number of folds would ever be enough: by t
    assert clearest([none, clear])[1] == pytest.approx(2 * stats.ttest_1samp(clear, 0, alternative="greater").pvalue)
    assert clearest([none, clear], 2)[1] == pytest.approx(stats.ttest_1samp(none, 0, alternative="greater").pvalue)
    assert greater(clear)[0] == "Wilcoxon signed-rank, one-sided"
    assert clearest([none, clear])[0] == "paired t, one-sided, Holm"


@pytest.mark.parametrize(("n", "of"), [(5, 1), (6, 1), (6, 3), (7, 6), (8, 12), (10, 51)])
def test_ranks_are_used_where_they_can_pass(n, of):
    best = pd.Series(np.arange(1.0, n + 1))
    assert greater(best, of)[0].startswith("Wilcoxon")
    assert of * greater(best, of)[1] < 0.05
    assert greater(best, 2 * of + 2)[0].startswith("paired t")
    assert (2 * of + 2) * greater(best)[1] > 0.05
