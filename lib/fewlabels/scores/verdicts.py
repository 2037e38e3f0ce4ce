"""Verdicts on claims.

A paper's `published.yaml` states its claims, each with a tolerance in words that was fixed before the first real run,
or with the date and the reason of a later change; its `rules*.py` hold the same tolerances as code, one function a
claim. Rules decide nothing about a run: after a change of a rule the stored scores are judged again.
"""

import re
from dataclasses import dataclass

import pandas as pd

VERDICTS = ("supported", "contradicted", "inconclusive", "not run")
RULE = re.compile(r"[a-z]+_\d\d")  # the name of a function that judges one claim
COLUMNS = ["paper", "claim", "statement", "published", "ours", "n", "test", "p", "data", "verdict"]


@dataclass(frozen=True)
class Verdict:
    """`ours` is the evidence in words and numbers, n what was counted, p of the named test."""

    verdict: str
    ours: str
    n: int = 0
    test: str = ""
    p: float | None = None


def verdict(supported, contradicted):
    return "supported" if supported else "contradicted" if contradicted else "inconclusive"


def not_run(n, needed):
    return Verdict("not run", f"{n} of the {needed} runs or pairs that the claim names", n)


def rules_in(*modules):
    """The rules that modules hold, by the claim they judge: the function `bortsova_01` judges the claim bortsova-01."""
    named = {name: rule for module in modules for name, rule in vars(module).items() if RULE.fullmatch(name)}
    return {name.replace("_", "-"): rule for name, rule in named.items()}


def judge(claims, rules, scores, *, paper, data):
    """The verdict on every claim: a frame with COLUMNS.

    claims  as in published.yaml: each with an id, a statement and what was published
    rules   {claim id: scores -> Verdict}
    scores  as in scores.csv; `data` names what they are of

    Raises KeyError for a claim without a rule, ValueError for a verdict that is none.
    """
    rows = []
    for claim in claims:
        found = rules[claim["id"]](scores)
        if found.verdict not in VERDICTS:
            raise ValueError(f"{claim['id']}: expected a verdict of {VERDICTS}, found {found.verdict!r}")
        row = (paper, claim["id"], claim["statement"], str(claim["published"]), found.ours, found.n, found.test)
        rows.append((*row, found.p, data, found.verdict))
    return pd.DataFrame(rows, columns=COLUMNS)
