"""The verdicts on the claims of Gao et al. 2021."""

import pandas as pd

from fewlabels.papers.gao2021 import rules, rules_oar, rules_times
from fewlabels.scores import verdicts
from fewlabels.scores.published import published

PAPER = "gao2021"
RULES = verdicts.rules_in(rules, rules_oar, rules_times)


def judge(scores: pd.DataFrame, data: str) -> pd.DataFrame:
    """The verdict on every claim (`verdicts.judge`), by `scores` as in scores.csv."""
    paper = published(PAPER)
    return verdicts.judge(paper["claims"], RULES, scores, paper=PAPER, data=data, healthy=paper["healthy"])
