"""What the scores of `papers.gao2021.oar` say, in the layout of Gao et al. 2021, Table 2."""

from collections.abc import Callable

import pandas as pd

from fewlabels.papers.gao2021.rows import OURS
from fewlabels.scores.published import published_values
from fewlabels.scores.tables import beside_paper, markdown, summarise

PAPER = "gao2021"
CLASS_DEFAULTS = "nnUNet (class defaults)"  # Full by the defaults of batchgenerators' classes: a row of ours
METHODS = ("Baseline", "nnUNet Full", "nnUNet Reduce", "cGAN", *OURS, CLASS_DEFAULTS)
COLUMN = "average Dice"


def tables(config: object, scores: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, Callable[[str], str]]]:
    """`{"table2": (frame, caption -> Markdown)}`, the frame in the form of `tables.beside_paper`.

    The average over organs has the paper's number beside it; behind it each organ's.
    """
    dice = scores[scores["metric"].isin(["dice", "mean_dice"])].dropna(subset="value")
    dice = dice.assign(column=dice["structure"].where(dice["metric"] == "dice", COLUMN))
    runs = dice.groupby(["method", "column", "seed"])["value"].mean()
    columns = [COLUMN, *sorted(set(dice["column"]) - {COLUMN})]
    table = beside_paper(summarise(runs, column="column"), published_values(PAPER, "Table 2 (OAR)"), METHODS, columns)
    title = (
        "Table 2 of Gao et al. 2021: Dice at native spacing, mean over the organs delineated in a test patient, "
        "then over test patients; ± sd over runs (seeds). The paper has the average alone. "
    )
    return {"table2": (table, lambda caption: markdown(table, "Method", title + caption, digits=3, columns=columns))}
