"""Numbers of runs, their paired differences, and the test on them.

A run is one (labels, split, seed) of a method; its score is the mean over its test subjects.
"""

from scipy import stats

DIGITS = 6  # differences and their means are rounded to so many: 0.3 - 0.305 is not below -0.005
VALUE = ("subject", "structure", "metric", "value")  # columns of scores.csv that are no axes of its grid


def run_scores(scores, metric="miou", structure="all"):
    """One number a run: the mean over its subjects. Indexed by the axes of the grid: method, labels, split, ..."""
    chosen = scores[(scores["metric"] == metric) & (scores["structure"] == structure)]
    return chosen.groupby([c for c in scores.columns if c not in VALUE])["value"].mean()


def differences(runs, better, than, labels=None):
    """Paired differences `better - than` over all runs that share all but the method; indexed by what they share."""
    if not {better, than} <= set(runs.index.get_level_values("method")):
        return runs.iloc[:0].droplevel("method")
    d = (runs.xs(better, level="method") - runs.xs(than, level="method")).dropna().round(DIGITS)
    return d if labels is None else d[d.index.get_level_values("labels").isin(labels)]


def means(d):
    """The mean of differences at each label count."""
    return d.groupby("labels").mean().round(DIGITS)


def greater(d):
    """Is the mean of paired differences above 0? (name of the test, one-sided p).

    n >= 5: Wilcoxon signed-rank; n = 3 or 4: paired t (Wilcoxon cannot reach 0.05 there); below: no test.
    """
    if len(d) < 3:
        return "", None
    name = "Wilcoxon signed-rank, one-sided" if len(d) >= 5 else "paired t, one-sided"
    if d.nunique() == 1 and (len(d) < 5 or d.iloc[0] == 0):  # no spread: what SciPy would divide by
        return name, float(d.iloc[0] <= 0)
    test = stats.wilcoxon(d, alternative="greater") if len(d) >= 5 else stats.ttest_1samp(d, 0, alternative="greater")
    return name, float(test.pvalue)
