"""What a paper printed: `papers/<paper>/published.yaml` holds its numbers and its claims."""

from functools import cache
from importlib.resources import files
from math import inf
from typing import Any

import pandas as pd
import yaml

from fewlabels.errors import BadInput
from fewlabels.scores import health


@cache
def published(paper: str) -> dict[str, Any]:
    """The content of a paper's published.yaml: `values` (table, row, column, mean, sd), `claims` and bounds, `healthy`.

    Raises BadInput for one that cannot be read, lacks these, or has a claim or bound that is not whole.
    """
    where = f"{paper}/published.yaml"
    try:
        found = yaml.safe_load((files(f"fewlabels.papers.{paper}") / "published.yaml").read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(where, "YAML", " ".join(str(error).split())) from None
    if not isinstance(found, dict) or not {"values", "claims"} <= set(found):
        raise BadInput(where, "values and claims", ", ".join(map(str, found)) if isinstance(found, dict) else found)
    if nameless := [claim for claim in found["claims"] if not {"id", "statement", "published"} <= set(claim)]:
        raise BadInput(f"{where}: claims", "each with id, statement and published", nameless[0])
    found.setdefault("healthy", [])
    health.check(paper, found["claims"], found["healthy"])
    return found


def published_values(paper: str, table: str) -> pd.DataFrame:
    """The paper's numbers of one table as a frame: row, column, mean, sd."""
    rows = [value for value in published(paper)["values"] if value["table"] == table]
    return pd.DataFrame(rows, columns=["row", "column", "mean", "sd"]).astype({"mean": float, "sd": float})


def margin(paper: str, claim: str, of: str | None = None) -> tuple[float, float]:
    """`(low, high)` between which a claim says that a difference lies; an end that is left open is infinite.

    of  which, where the claim is about several differences with margins of their own
    """
    [found] = [entry["margin"]["inside"] for entry in published(paper)["claims"] if entry["id"] == claim]
    low, high = found if of is None else found[of]
    return -inf if low is None else low, inf if high is None else high


def before(paper: str, claim: str, data: str, profile: str) -> str:
    """The verdict on a claim under the rules before, in words; empty where it is the same, or of runs that came later.

    `before` in published.yaml has what changed, each with `claim`, `data` and `profile` of the results, `verdict`, and
    `until`, the day on which the rule changed. Who replaces the runs drops it.
    """
    place = {"claim": claim, "data": data, "profile": profile}
    found = [
        f"{old['verdict']}, until {old['until']}"
        for old in published(paper).get("before", ())
        if place.items() <= old.items()
    ]
    return "; ".join(found)
