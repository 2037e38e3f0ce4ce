"""Are the rows that a claim compares with worth comparing with? A paper's published.yaml says so, before any verdict.

    claims:   each has `compares`, the rows (methods) that it compares with, and maybe `at`, {column: values}: where
    healthy:  bounds of such rows, each with
        rows              which
        metric            and structure (default: all): whose mean over runs is bounded
        at                {column: values} of scores.csv, where it holds (default: everywhere)
        each              columns of scores.csv; it holds at each of their values alone (default: in the mean)
        at least          and/or `at most`
        of                a row whose own value is added to the bounds (at least -0.1 of Baseline), with its own bounds
        why, since        the trivial predictor or plain row that fixed it, and the date

The paper's own methods need none: a bad one is a finding. A comparator that learned nothing decides nothing.
"""

from math import inf

from fewlabels.errors import BadInput
from fewlabels.scores.statistics import run_scores

NEEDED = {"rows", "metric", "why", "since"}
KEYS = NEEDED | {"structure", "at", "each", "at least", "at most", "of"}
OUT_OF_RANGE = "comparator out of range"
ROUNDING = 0.00005  # scores.csv has four digits


def check(paper, claims, bounds):
    """Raises BadInput for a claim that does not say what it compares with, or with a row that has no bound."""
    where = f"{paper}/published.yaml"
    for bound in bounds:
        wrong = (NEEDED - set(bound)) | (set(bound) - KEYS)
        if wrong or not {"at least", "at most"} & set(bound):
            expected = f"{', '.join(sorted(NEEDED))}, and `at least` or `at most`"
            raise BadInput(f"{where}: healthy: {bound.get('rows')}", expected, ", ".join(map(str, bound)))
    bounded = {row for bound in bounds for row in bound["rows"]}
    for bound in bounds:
        if "of" in bound and bound["of"] not in bounded - {*bound["rows"]}:
            expected = f"a bound of {bound['of']} in `healthy`"
            raise BadInput(f"{where}: healthy: {bound['rows']}: of", expected, "none")
    for claim in claims:
        if not isinstance(claim.get("compares"), list):
            raise BadInput(f"{where}: {claim['id']}: compares", "a list of rows", claim.get("compares"))
        for row in claim["compares"]:
            if row not in bounded:
                raise BadInput(f"{where}: {claim['id']}: compares: {row}", "a bound of it in `healthy`", "none")


def out_of_range(paper, claim, bounds, scores):
    """What is wrong with the first row that a claim compares with and that is not within its bounds; else None.

    A row that bounds another is as much in question, and comes before it: what lies near a failed row may have failed.
    Raises BadInput where a row has scores and no bound is about these.
    """
    bounded = scores["metric"].isin({bound["metric"] for bound in bounds})  # few of many
    here = _at(scores[bounded], claim.get("at", {}))
    for row in _with_what_bounds(claim["compares"], bounds):
        if not (here["method"] == row).any() and not (_at(scores, claim.get("at", {}))["method"] == row).any():
            continue  # not run, and not needed
        values = [value for bound in bounds if row in bound["rows"] for value in _values(row, bound, here)]
        if not values:
            where = f"{paper}/published.yaml: {claim['id']}: compares: {row}"
            raise BadInput(where, "a bound in `healthy` of what its runs have", "none")
        for value, least, most, place in values:
            if not value >= least - ROUNDING:  # NaN neither
                return f"{OUT_OF_RANGE}: {row}{place} {value:.4g}, expected at least {least:.4g}"
            if not value <= most + ROUNDING:
                return f"{OUT_OF_RANGE}: {row}{place} {value:.4g}, expected at most {most:.4g}"
    return None


def _with_what_bounds(rows, bounds):
    """Rows, before them those whose values their bounds are relative to."""
    of = [bound["of"] for row in rows for bound in bounds if row in bound["rows"] and "of" in bound]
    return [*dict.fromkeys([*(_with_what_bounds(of, bounds) if of else []), *rows])]


def _values(row, bound, scores):
    """`(value, at least, at most, where in words)` at every place where a bound is about a row."""
    runs = run_scores(_at(scores, bound.get("at", {})), bound["metric"], bound.get("structure", "all")).dropna()
    runs, other = (_of(runs, method) for method in (row, bound.get("of")))
    places = [*bound.get("each", [])]
    if runs.empty:
        return
    for place, of_place in runs.groupby(places) if places else [((), runs)]:
        where = dict(zip(places, place))
        own = 0.0
        if "of" in bound:
            beside = other
            for column, value in where.items():
                beside = beside[beside.index.get_level_values(column) == value]
            own = beside.mean()  # without such a run NaN
        words = "".join(f", {column} {value}" for column, value in where.items())
        yield of_place.mean(), own + bound.get("at least", -inf), own + bound.get("at most", inf), words


def _of(runs, method):
    return runs[runs.index.get_level_values("method") == method]


def _at(scores, places):
    for column, values in places.items():
        scores = scores[scores[column].astype(str).isin([*map(str, values)])]  # "128" may be read as a number
    return scores
