"""What the claims of several papers share: differences `d` of two rows, paired by seed or fold, and TEST on them."""

import numpy as np
import pandas as pd

from fewlabels.scores.statistics import DIGITS, greater
from fewlabels.scores.verdicts import Verdict, verdict

LEAST = 3  # folds or seeds


def paired(scores, columns, run, unit):
    """A line for each `unit`, a column for each (method, metric): means over what of a `run` all columns have."""
    overall = scores[scores["structure"] == "all"]
    values = overall.groupby([*run, "method", "metric"])["value"].mean().astype(float)
    wide = values.unstack(["method", "metric"]).reindex(columns=pd.MultiIndex.from_tuples(columns))
    return wide.replace([np.inf, -np.inf], np.nan).dropna().groupby(unit).mean()


def absent(scores, columns, among=None):
    """Not run, if a (method, metric) has no score at all (with the backbones `among` others); else None."""
    there = set(zip(scores["method"], scores["metric"]))
    none = ", ".join(f"{method} ({metric})" for method, metric in columns if (method, metric) not in there)
    of = f" with {', '.join(among)}" if among else ""
    return Verdict("not run", f"no scores of {none}{of}") if none else None


def minus(runs, better, than):
    return (runs[better] - runs[than]).round(DIGITS)


def mean(d):
    return round(float(d.mean()), DIGITS)


def passes(d):
    """Is the mean of paired differences above 0, by TEST?"""
    return mean(d) > 0 and greater(d)[1] < 0.05


def least_clear(tests):
    """Name and p of that of several tests which is furthest from passing."""
    return max(tests, key=lambda test: test[1])


def signed(number):
    return f"{round(number, 3) + 0.0:+.3f}"  # no -0.000


def tested(d):
    return f"{signed(mean(d))} (p {greater(d)[1]:.2g})"


def each(runs):
    return ", ".join(f"{row} {value:.3f}" for row, value in runs.mean().items())


def above_each(runs, better, others, first=""):
    """Supported: `better` is higher than each by TEST; contradicted: it is lower than one."""
    d = {than: minus(runs, better, than) for than in others}
    judged = verdict(all(map(passes, d.values())), any(passes(-of) for of in d.values()))
    ours = first + "; ".join(f"{better} - {than} {tested(of)}" for than, of in d.items())
    return Verdict(judged, ours, len(runs), *least_clear(map(greater, d.values())))
