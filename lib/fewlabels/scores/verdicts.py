"""Verdicts on claims.

A paper's `published.yaml` states its claims, each with a tolerance in words that was fixed before the first real run,
or with the date and the reason of a later change; its `rules*.py` hold the same tolerances as code, one function a
claim. Rules decide nothing about a run: after a change of a rule the stored scores are judged again.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pandas as pd

from fewlabels.errors import BadInput
from fewlabels.scores import health

VERDICTS = ("supported", "contradicted", "inconclusive", "not run")
RULE = re.compile(r"[a-z]+_\d\d")  # the name of a function that judges one claim
COLUMNS = "paper claim statement published ours n test p data scale verdict before".split()


@dataclass(frozen=True)
class Verdict:
    """`ours` is the evidence in words and numbers, n what was counted, p of the named test.

    `scale` is that of what was run (`scale.of_paper`), unless the verdict rests on something else.
    """

    verdict: str
    ours: str
    n: int = 0
    test: str = ""
    p: float | None = None
    scale: str = ""


Rule = Callable[..., Verdict]  # judges scores.csv


def verdict(supported: object, contradicted: object) -> str:
    return "supported" if supported else "contradicted" if contradicted else "inconclusive"


def not_run(n: int, needed: int) -> Verdict:
    return Verdict("not run", f"{n} of the {needed} runs or pairs that the claim names", n)


def rules_in(*modules: ModuleType) -> dict[str, Rule]:
    """The rules that modules hold, by the claim they judge: the function `bortsova_01` judges the claim bortsova-01."""
    named = {name: rule for module in modules for name, rule in vars(module).items() if RULE.fullmatch(name)}
    return {name.replace("_", "-"): rule for name, rule in named.items()}


def judge(
    claims: Sequence[dict[str, Any]], rules: Mapping[str, Rule], scores: pd.DataFrame, *, paper: str, data: str,
    healthy: Sequence[dict[str, Any]] = (),
) -> pd.DataFrame:  # fmt: skip
    """The verdict on every claim: a frame with COLUMNS, of which what was run fills `scale`, and `before`, later on.

    claims   as in published.yaml: each with an id, a statement, what was published and which rows it `compares` with
    rules    {claim id: scores -> Verdict}
    scores   as in scores.csv; `data` names what they are of
    healthy  bounds of the rows that claims compare with (`health`): where one is out of range, nothing is judged

    Raises BadInput for a claim without a rule and as `health`, ValueError for a verdict that is none.
    """
    health.check(paper, claims, healthy)
    if lacking := [claim["id"] for claim in claims if claim["id"] not in rules]:
        raise BadInput(f"{paper}: {lacking[0]}", "a rule", f"rules for {', '.join(sorted(rules)) or 'no claim'}")
    rows = []
    for claim in claims:
        found = rules[claim["id"]](scores)
        if found.verdict not in VERDICTS:
            raise ValueError(f"{claim['id']}: expected a verdict of {VERDICTS}, found {found.verdict!r}")
        if found.verdict != "not run" and (why := health.out_of_range(paper, claim, healthy, scores)):
            found = Verdict("not run", f"{why}; {found.ours}", found.n)
        row = (paper, claim["id"], claim["statement"], str(claim["published"]), found.ours, found.n, found.test)
        rows.append((*row, found.p, data, found.scale, found.verdict, ""))
    return pd.DataFrame(rows, columns=COLUMNS)
