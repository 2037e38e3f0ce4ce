"""The verdicts on the claims of Malfliet & Bakker 2021, in each of MODES that was run."""

from functools import partial

import pandas as pd

from fewlabels.papers.tudelft2021 import rules, rules_collapse
from fewlabels.scores import verdicts
from fewlabels.scores.published import published

PAPER = "tudelft2021"
RULES = verdicts.rules_in(rules, rules_collapse)
MODES = ("corrected", "legacy")


def judge(scores: pd.DataFrame, data: str) -> pd.DataFrame:
    """The verdict on every claim (`verdicts.judge`), by `scores` as in scores.csv; `data` says in which mode."""
    paper, judged = published(PAPER), []
    for mode in MODES:
        if (scores["mode"] == mode).any():
            claims = [claim | {"at": claim.get("at", {}) | {"mode": [mode]}} for claim in paper["claims"]]
            rules = {claim: partial(rule, mode=mode) for claim, rule in RULES.items()}
            options = {"paper": PAPER, "data": f"{data}, {mode}", "healthy": paper["healthy"]}
            judged.append(verdicts.judge(claims, rules, scores, **options))
    return pd.concat(judged, ignore_index=True) if judged else pd.DataFrame(columns=verdicts.COLUMNS)
