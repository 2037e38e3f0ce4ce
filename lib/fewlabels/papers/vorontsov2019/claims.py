"""The verdicts on the claims of Vorontsov et al. 2019."""

import pandas as pd

from fewlabels.papers.vorontsov2019 import rules, rules_pictures
from fewlabels.scores import verdicts
from fewlabels.scores.published import published

PAPER = "vorontsov2019"
RULES = verdicts.rules_in(rules, rules_pictures)


def judge(scores: pd.DataFrame, data: str) -> pd.DataFrame:
    """The verdict on every claim (`verdicts.judge`), by `scores` as in scores.csv."""
    paper = published(PAPER)
    return verdicts.judge(paper["claims"], RULES, scores, paper=PAPER, data=data, healthy=paper["healthy"])
