"""What the tests of the papers' claims share: tables of cases by the verdict they get, numbers that the test finds or
does not find, and how a rule is asked."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fewlabels.scores.verdicts import VERDICTS

SUPPORTED, CONTRADICTED, INCONCLUSIVE, NOT_RUN = VERDICTS
SPREAD = np.array([-0.31, -0.18, 0.07, 0.12, 0.3])  # over five folds or seeds: no test finds a small mean in it


# ---- cases ----


def cases(names, *groups):
    """A table of cases, grouped by verdict, as the parameters `names` and `expected`.

    A comment behind a group is about its last case.
    """
    single = len(names.split()) == 1
    table = [((case,) if single else case) + (verdict,) for of, verdict in groups for case in of]
    return pytest.mark.parametrize((*names.split(), "expected"), table)


def supported(*of):
    return of, SUPPORTED


def inconclusive(*of):
    return of, INCONCLUSIVE


def contradicted(*of):
    return of, CONTRADICTED


def not_run(*of):
    return of, NOT_RUN


# ---- numbers, one a fold or seed ----


def sure(mean, n=5):
    """Found by every test."""
    return mean + 1e-4 * (np.arange(n) - (n - 1) / 2)


def unsure(mean, spread=1.0):
    """The same mean, found by none."""
    return mean + spread * SPREAD


def even(value, n=5):
    """The same in every one: found by every test if it is not 0."""
    return np.full(n, float(value))


def over(gain, n=5):
    """A number stands for values that are found by every test."""
    return sure(gain, n) if np.ndim(gain) == 0 else np.asarray(gain, dtype=float)


def p_of(d, of=1):
    """p of paired differences, by SciPy: Wilcoxon where it can reach 0.05 / of, from five on, else t; one-sided."""
    d = np.round(d, 6)
    if not np.any(d):
        return 1
    if np.ptp(d) == 0 and 2 ** len(d) <= 20 * of:
        return float(d[0] <= 0)
    ranks = 2 ** len(d) > 20 * of
    test = stats.wilcoxon(d, alternative="greater") if ranks else stats.ttest_1samp(d, 0, alternative="greater")
    return test.pvalue


def p_of_some(several, least=1, p=p_of):
    """Holm's p of that of several differences which is the `least`-th clearest."""
    n = len(several)
    ordered = sorted(p(d, n) for d in several)
    return min(1, max((n - rank) * of for rank, of in enumerate(ordered[:least])))


def named(d):
    return f"{'Wilcoxon signed-rank' if len(d) >= 5 else 'paired t'}, one-sided"


# Of one-sided tests below 0.05, with a mean of that sign.
of_the_test = cases(
    "d",
    supported([3, 3.1, 2.9], [1, 2, 3, 4, 5]),  # p = 1/32
    supported([1, -2, 3, 4, 5, 6]),  # 3/64 = 0.047
    supported([3, 3.1, 2.9, 3]),  # four: by t
    inconclusive([-1, -2, -3, 4, -5, -6, -7], [1, 2, 3, -1], [0, 0, 0, 0, 0], [-1, 2, 3, 4, 5]),  # 2/32
    inconclusive([1, 2, 3, -4, 5, 6, 7]),  # 7/128 = 0.055
    inconclusive([1, 2, 3, 4, 5, 6, 7, 8, 9, -50], [1, 2, 3, 4, 5, 6, 7, 8, 9, -45]),  # 43/1024 = 0.042, mean 0
    inconclusive([-1, -2, -3, -4, -5, -6, -7, -8, -9, 45]),
    contradicted([-1, -2, -3, -4, -5], [-1, 2, -3, -4, -5, -6], [-3, -3.1, -2.9]),
)


def by_margin(most):
    """Of a difference, one of five, whose 90 % interval must lie within +- `most`."""
    wide = most / (stats.t.ppf(0.95, 4) * SPREAD.std(ddof=1) / np.sqrt(5))  # a spread with that interval
    return cases(
        "gain",
        supported(even(0), 0.9 * most, -0.9 * most, unsure(0, 0.99 * wide)),
        inconclusive(even(most), even(-most), unsure(0, 1.01 * wide), unsure(0.9 * most, 0.2 * wide)),
        inconclusive(unsure(0), unsure(1.1 * most)),  # the mean alone is within, or beyond
        contradicted(1.1 * most, -1.1 * most, even(1.01 * most)),
    )


# Of a gain that is judged by its test alone.
by_test = cases("gain", supported(0.001), inconclusive(unsure(0.01), even(0), unsure(-0.01)), contradicted(-0.001))


# ---- asking a rule ----


def asked(rule, frames, beside=lambda scores: [], **options):
    """The verdict's object on scores in disorder, beside scores that say otherwise and decide nothing."""
    scores = pd.concat(frames)
    judged = rule(pd.concat([scores, *beside(scores)]).sample(frac=1, random_state=0), **options)
    assert judged.verdict in VERDICTS
    assert "nan" not in judged.ours
    assert "|" not in judged.ours
    assert isinstance(judged.n, int)
    return judged


def nothing_judged(judge, n, scores):
    """Every claim is not run by what says nothing about it: no rows, another metric, no numbers."""
    empty = pd.DataFrame([], columns=scores.columns)
    for nothing in (empty, scores[:0], scores.assign(metric="other"), scores.assign(value=np.nan)):
        judged = judge(nothing, "phantom")
        assert list(judged["verdict"]) == [NOT_RUN] * n
        assert (judged["n"] == 0).all()
        assert (judged["data"] == "phantom").all()


def needs(verdict, scores, place, unit, lost=(np.nan, np.inf, -np.inf), apart=True):
    """Three of a unit (folds, seeds) are enough: of all that there is at each place, with numbers, and of the same.

    verdict  scores -> verdict; `scores` are supported, and hold nothing but what the claim names
    place    columns; at each of their values the scores are cut down in turn
    """
    order = scores[unit].rank(method="dense")
    assert verdict(scores) == SUPPORTED
    assert verdict(scores[order <= 3]) == SUPPORTED
    for i, values in enumerate(scores[place].drop_duplicates().to_numpy().tolist()):
        here = (scores[place] == values).all(axis=1)
        third = here & (order >= 3)
        assert verdict(scores[~here]) == NOT_RUN, values
        assert verdict(scores[~third]) == NOT_RUN, values
        if lost:
            gaps = scores.assign(value=scores["value"].mask(third, lost[i % len(lost)]))
            assert verdict(gaps) == NOT_RUN, values
        others = scores.assign(**{unit: scores[unit].where(~here, scores[unit] + 5)})
        assert not apart or verdict(others) == NOT_RUN, values
