"""What a paper printed: `papers/<paper>/published.yaml` holds its numbers and its claims."""

from functools import cache
from importlib.resources import files

import pandas as pd
import yaml


@cache
def published(paper):
    """The content of a paper's published.yaml: `values` (table, row, column, mean, sd) and `claims`."""
    return yaml.safe_load((files(f"fewlabels.papers.{paper}") / "published.yaml").read_text(encoding="utf-8"))


def published_values(paper, table):
    """The paper's numbers of one table as a frame: row, column, mean, sd."""
    rows = [value for value in published(paper)["values"] if value["table"] == table]
    return pd.DataFrame(rows, columns=["row", "column", "mean", "sd"]).astype({"mean": float, "sd": float})
