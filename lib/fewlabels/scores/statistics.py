"""Numbers of runs, their paired differences, and the tests on them.

A run is one (labels, split, seed) of a method; its score is the mean over its test subjects. Differences `d` of two
methods: one a run, or, where there are scores of subjects, one for each subject of each run (a level "subject").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import sqrt
from typing import TYPE_CHECKING, Any, TypeVar

from scipy import stats

if TYPE_CHECKING:  # what only handles frames need not wait for their import
    import pandas as pd

Frame = TypeVar("Frame", "pd.DataFrame", "pd.Series")
Test = tuple[str, Any]  # its name and p, None where there is too little for one
DIGITS = 6  # differences and their means are rounded to so many: 0.3 - 0.305 is not below -0.005
VALUE = ("subject", "structure", "metric", "value")  # columns of scores.csv that are no axes of its grid


def run_scores(scores: pd.DataFrame, metric: str = "miou", structure: str = "all", subjects: bool = False) -> pd.Series:
    """One number a run: the mean over its subjects. Indexed by the axes of the grid: method, labels, split, ...

    subjects  one for each subject of each run, with "subject" as one more axis
    """
    chosen = scores[(scores["metric"] == metric) & (scores["structure"] == structure)]
    axes = [c for c in scores.columns if c not in VALUE or (subjects and c == "subject")]
    return chosen.groupby(axes)["value"].mean()


def differences(runs: pd.Series, better: str, than: str, labels: Iterable[int] | None = None) -> pd.Series:
    """Paired differences `better - than` over all that share all but the method; indexed by what they share."""
    if not {better, than} <= set(runs.index.get_level_values("method")):
        return runs.iloc[:0].droplevel("method")
    d = (runs.xs(better, level="method") - runs.xs(than, level="method")).dropna().round(DIGITS)
    return d if labels is None else d[d.index.get_level_values("labels").isin(labels)]


def over_runs(d: Frame) -> Frame:
    """One difference a run: the mean over its subjects, where there are any."""
    return d.groupby([n for n in d.index.names if n != "subject"]).mean().round(DIGITS) if _of_subjects(d) else d


def over_subjects(d: Any) -> Any:
    """One difference a subject: the mean over all runs that it is tested in; None without subjects."""
    return d.groupby("subject").mean().round(DIGITS) if _of_subjects(d) else None


def _of_subjects(d: Any) -> bool:
    return "subject" in d.index.names and d.index.nlevels > 1


def means(d: pd.Series) -> pd.Series:
    """The mean of differences at each label count."""
    return over_runs(d).groupby("labels").mean().round(DIGITS)


def greater(d: pd.Series, of: int = 1) -> Test:
    """Is the mean of paired differences above 0? (name of the test, one-sided p).

    n >= 5: Wilcoxon signed-rank; n = 3 or 4: paired t (Wilcoxon cannot reach 0.05 there); below: no test.
    With subjects both over runs and over subjects: of the two the one that is further from passing. p is 1 where
    there are fewer than 3 subjects.

    of  how many tests Holm's p will be taken of: paired t where Wilcoxon cannot reach 0.05 / of (n = 5 for two)
    """

    def test(d: pd.Series) -> Test:
        ranks = of / 2 ** len(d) < 0.05
        name = "Wilcoxon signed-rank, one-sided" if ranks else "paired t, one-sided"
        if d.nunique() == 1 and (not ranks or d.iloc[0] == 0):  # no spread: what SciPy would divide by
            return name, float(d.iloc[0] <= 0)
        found = stats.wilcoxon(d, alternative="greater") if ranks else stats.ttest_1samp(d, 0, alternative="greater")
        return name, float(found.pvalue)

    return _both(d, test)


def inside(d: pd.Series, low: float, high: float) -> Test:
    """Does the mean of differences lie between `low` and `high`? (name of the test, p): two one-sided t-tests.

    p is the larger of the two; below 0.05 the 90 % interval of the mean lies inside. Either end may be infinite.
    Below 3 differences no test; with subjects both over runs and over subjects, as in `greater`.
    """

    def tost(d: pd.Series) -> Test:
        room = round(min(d.mean() - low, high - d.mean()), DIGITS)
        if d.nunique() == 1:
            return "TOST", float(room <= 0)
        return "TOST", float(stats.t.sf(room / (d.std() / sqrt(len(d))), len(d) - 1))

    return _both(d, tost)


def _both(d: pd.Series, test: Callable[[pd.Series], Test]) -> Test:
    runs, subjects = over_runs(d), over_subjects(d)
    if len(runs) < 3:
        return "", None
    if subjects is None:
        return test(runs)
    if len(subjects) < 3:
        return "none, fewer than 3 subjects", 1.0
    unit, (name, p) = max((("runs", test(runs)), ("subjects", test(subjects))), key=lambda each: each[1][1])
    return f"{name}, over {unit}", p


def interval(d: pd.Series, level: float = 0.9) -> tuple[float, float]:
    """The confidence interval of the mean of differences (Student's t): (low, high). Over runs."""
    d = over_runs(d)
    half = float(stats.t.ppf((1 + level) / 2, len(d) - 1)) * d.std() / sqrt(len(d))
    return round(d.mean() - half, DIGITS), round(d.mean() + half, DIGITS)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's p of several tests, in their order: for a rule that needs one of them, or some."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, least = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = least
    return adjusted
