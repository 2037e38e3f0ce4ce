"""Are the rows that a claim compares with worth comparing with? A paper's published.yaml says so, before any verdict.

    claims:   each has `compares`, the rows (methods) that it compares with, and maybe `at`, {column: values}: where
    healthy:  bounds of such rows, each with
        rows              which
        metric            and structure (default: all): whose mean and median over runs are bounded
        at                {column: values} of scores.csv, where it holds (default: everywhere)
        each              columns of scores.csv; it holds at each of their values alone (default: in the mean)
        at least          and/or `at most`
        each run          what every single run must reach (default: half of `at least`)
        of                a row whose own mean is added to the bounds (at least -0.1 of Baseline), which has bounds
                          of its own; of single runs those are asked
        why, since        the trivial predictor or plain row that fixed it, and the date

The paper's own methods need none: a bad one is a finding. A comparator that learned nothing decides nothing.

A collapsed run may hide in a mean, so most runs must be within the bounds too (the median), and no run far out of them.
Not every run must be within: few labels and few steps make weak runs, and to leave these out would make a comparator
better than it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import inf, nan
from typing import Any

import pandas as pd

from fewlabels.errors import BadInput
from fewlabels.scores.statistics import run_scores

Claim = Mapping[str, Any]  # an entry of published.yaml
Bound = Mapping[str, Any]

NEEDED = {"rows", "metric", "why", "since"}
KEYS = NEEDED | {"structure", "at", "each", "at least", "at most", "each run", "of"}
OUT_OF_RANGE = "comparator out of range"
ROUNDING = 0.00005  # scores.csv has four digits


def check(paper: str, claims: Sequence[Claim], bounds: Sequence[Bound]) -> None:
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


def out_of_range(paper: str, claim: Claim, bounds: Sequence[Bound], scores: pd.DataFrame) -> str | None:
    """What is wrong with the first row that a claim compares with and that is not within its bounds; else None.

    A row that bounds another is as much in question, and comes before it: what lies near a failed row may have failed.
    Raises BadInput where a row has scores and no bound is about these.
    """
    bounded = scores["metric"].isin({bound["metric"] for bound in bounds})  # few of many
    here = _at(scores[bounded], claim.get("at", {}))
    for row in _with_what_bounds(claim["compares"], bounds):
        if not (here["method"] == row).any() and not (_at(scores, claim.get("at", {}))["method"] == row).any():
            continue  # not run, and not needed
        own = [bound for bound in bounds if row in bound["rows"]]
        values = [value for bound in own for value in _values(row, bound, here)]
        if not values:
            where = f"{paper}/published.yaml: {claim['id']}: compares: {row}"
            raise BadInput(where, "a bound in `healthy` of what its runs have", "none")
        values += _single(row, own, bounds, here)
        for value, least, most, place in values:
            if not value >= least - ROUNDING:  # NaN neither
                return f"{OUT_OF_RANGE}: {row}{place} {value:.4g}, expected at least {least:.4g}"
            if not value <= most + ROUNDING:
                return f"{OUT_OF_RANGE}: {row}{place} {value:.4g}, expected at most {most:.4g}"
    return None


def _with_what_bounds(rows: Sequence[str], bounds: Sequence[Bound]) -> list[str]:
    """Rows, before them those whose values their bounds are relative to."""
    of = [bound["of"] for row in rows for bound in bounds if row in bound["rows"] and "of" in bound]
    return [*dict.fromkeys([*(_with_what_bounds(of, bounds) if of else []), *rows])]


def _values(row: str, bound: Bound, scores: pd.DataFrame) -> Iterator[tuple[float, float, float, str]]:
    """`(value, at least, at most, where in words)` of mean and median at every place where a bound is about a row."""
    for where, runs in _places(row, bound, scores):
        own = 0.0
        if "of" in bound:
            beside = dict(_places(bound["of"], bound, scores)).get(where)
            own = nan if beside is None else beside.mean()
        least, most = own + bound.get("at least", -inf), own + bound.get("at most", inf)
        yield runs.mean(), least, most, where
        yield runs.median(), least, most, f"{where}, median"


def _single(
    row: str, own: Sequence[Bound], bounds: Sequence[Bound], scores: pd.DataFrame
) -> Iterator[tuple[float, float, float, str]]:
    """As `_values`, of the lowest run where its own bounds are: by these, or by what they are relative to."""
    for bound in own:
        here = _at(scores, bound.get("at", {}))
        if "of" in bound:
            others = [other for other in bounds if bound["of"] in other["rows"] and other["metric"] == bound["metric"]]
            yield from _single(row, others, bounds, here)
        else:
            for where, runs in _places(row, bound, here):
                yield runs.min(), bound.get("each run", bound.get("at least", -inf) / 2), inf, f"{where}, one run"


def _places(row: str, bound: Bound, scores: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """`(where in words, one number a run)` at every place where a bound is about a row."""
    runs = run_scores(_at(scores, bound.get("at", {})), bound["metric"], bound.get("structure", "all")).dropna()
    runs = runs[runs.index.get_level_values("method") == row]
    if runs.empty:
        return
    columns = [*bound.get("each", [])]
    for place, of_place in runs.groupby(columns) if columns else [((), runs)]:
        yield "".join(f", {column} {value}" for column, value in zip(columns, place)), of_place


def _at(scores: pd.DataFrame, places: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    for column, values in places.items():
        there = scores[column].astype(str) if column in scores else pd.Series("", scores.index)
        scores = scores[there.isin([*map(str, values)])]  # "128" may be read as a number
    return scores
