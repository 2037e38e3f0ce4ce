"""What the claims of several papers share: differences `d` of two rows, paired by seed or fold, and TEST on them.

Where there are scores of subjects, `d` has one for each subject of each run, and TEST is both over runs and over
subjects (`statistics.greater`). Where one of several tests is enough, p is Holm's; where all must pass, it is not.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fewlabels.scores.statistics import DIGITS, Test, greater, holm, inside, over_runs, over_subjects
from fewlabels.scores.verdicts import Verdict, verdict

Column = tuple[str, str]  # (method, metric)
LEAST = 3  # folds or seeds


def paired(scores: pd.DataFrame, columns: Sequence[Column], run: Sequence[str], unit: str | list[str]) -> pd.DataFrame:
    """A line for each `unit`, a column for each (method, metric): means over what of a `run` all columns have."""
    overall = scores[scores["structure"] == "all"]
    values = overall.groupby([*run, "method", "metric"])["value"].mean().astype(float)
    wide = values.unstack(["method", "metric"]).reindex(columns=pd.MultiIndex.from_tuples(columns))
    return wide.replace([np.inf, -np.inf], np.nan).dropna().groupby(unit).mean()


def absent(scores: pd.DataFrame, columns: Sequence[Column], among: Sequence[str] | None = None) -> Verdict | None:
    """Not run, if a (method, metric) has no score at all (with the backbones `among` others); else None."""
    there = set(zip(scores["method"], scores["metric"]))
    none = ", ".join(f"{method} ({metric})" for method, metric in columns if (method, metric) not in there)
    of = f" with {', '.join(among)}" if among else ""
    return Verdict("not run", f"no scores of {none}{of}") if none else None


def minus(runs: Any, better: str, than: str) -> pd.Series:
    return (runs[better] - runs[than]).round(DIGITS)


def mean(d: pd.Series) -> float:
    return round(float(over_runs(d).mean()), DIGITS)


def passes(d: pd.Series) -> bool:
    """Is the mean of paired differences above 0, by TEST? Not, where there is none."""
    return len(d) > 0 and mean(d) > 0 and _p(greater(d)) < 0.05


def some_pass(several: Iterable[pd.Series], least: int = 1) -> bool:
    """Is the mean above 0 in at least so many of several differences, by TEST with Holm's p?"""
    several = list(several)
    return sum(p < 0.05 and mean(d) > 0 for d, (_, p) in zip(several, holm_tests(several))) >= least


def holm_tests(several: Iterable[pd.Series]) -> list[tuple[str, float]]:
    """Name and p, Holm's, of the test on each of several differences."""
    several = list(several)
    tests = [greater(d, len(several)) for d in several]
    return [(f"{name}, Holm", p) for (name, _), p in zip(tests, holm([_p(test) for test in tests]))]


def clearest(several: Iterable[pd.Series], least: int = 1) -> tuple[str, float]:
    """Name and p of that of `holm_tests` which decides `some_pass`."""
    return sorted(holm_tests(several), key=_p)[least - 1]


def least_clear(tests: Iterable[Test]) -> Test:
    """Name and p of that of several tests which is furthest from passing."""
    return max(tests, key=_p)


def _p(test: Test) -> float:
    return 1.0 if test[1] is None else test[1]


def close(several: Iterable[pd.Series], low: float, high: float) -> tuple[str, str, Any]:
    """As `each_close`, of several differences with one margin."""
    return each_close((d, low, high) for d in several)


def each_close(several: Iterable[tuple[pd.Series, float, float]]) -> tuple[str, str, Any]:
    """`(verdict, name, p)`: is each of several differences within a margin of its own? `several`: (d, low, high).

    Supported: the 90 % interval of each mean lies inside (TOST); contradicted: one is beyond by TEST.
    """
    several = list(several)
    name, p = least_clear(inside(*each) for each in several)
    edges = [(edge, of) for d, low, high in several for edge, of in ((low, low - d), (high, d - high))]
    beyond = some_pass(of.round(DIGITS) for edge, of in edges if np.isfinite(edge))
    return verdict(p < 0.05, beyond), name, p


def signed(number: float) -> str:
    return f"{round(number, 3) + 0.0:+.3f}"  # no -0.000


def tested(d: pd.Series) -> str:
    over = over_subjects(d)
    beside = "" if over is None else f"; over {len(over)} subjects {_p(greater(over)):.2g}"
    return f"{signed(mean(d))} (p {_p(greater(over_runs(d))):.2g}{beside})"


def each(runs: pd.DataFrame) -> str:
    return ", ".join(f"{row} {value:.3f}" for row, value in runs.mean().items())


def above_each(runs: pd.DataFrame, better: str, others: Iterable[str], first: str = "") -> Verdict:
    """Supported: `better` is higher than each by TEST; contradicted: it is lower than one."""
    d = {than: minus(runs, better, than) for than in others}
    judged = verdict(all(map(passes, d.values())), some_pass(-of for of in d.values()))
    ours = first + "; ".join(f"{better} - {than} {tested(of)}" for than, of in d.items())
    n = len(over_runs(next(iter(d.values()))))
    return Verdict(judged, ours, n, *least_clear(map(greater, d.values())))
