"""What the scores of `papers.gao2021.isic` say, in the layout of Gao et al. 2021, Figure 3."""

from collections.abc import Callable, Container
from typing import TYPE_CHECKING

import pandas as pd

from fewlabels.papers.gao2021.isic_rows import WEIGHTED
from fewlabels.papers.gao2021.rows import ABLATIONS, OURS, RANDOM
from fewlabels.scores.published import published_values
from fewlabels.scores.tables import beside_paper, markdown, summarise

if TYPE_CHECKING:
    from fewlabels.papers.gao2021.isic import Config

PAPER = "gao2021"
OTHERS = ("no-aug", "RandAug", "Fast AA", "cGAN")
BESIDE = (WEIGHTED, RANDOM)  # rows that the paper does not have
METHODS = (*OTHERS, *OURS, *BESIDE, *(f"{model} ({ablation})" for model in OURS for ablation in ABLATIONS))


def tables(config: "Config", scores: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, Callable[[str], str]]]:
    """`{"figure3_left", "figure3_right": (frame, caption -> Markdown)}`, frames as of `tables.beside_paper`."""
    bmca = scores[scores["metric"] == "bmca"]
    title = (
        "Figure 3 of Gao et al. 2021: balanced accuracy (BMCA, mean recall of seven classes) of held-out folds, mean "
        "± sd over runs (folds and repeats). {} "
    )
    rows = (*OTHERS, *OURS, *BESIDE)
    runs = bmca[bmca["method"].isin(rows)].groupby(["method", "backbone", "fold", "seed"])["value"].mean()
    values = published_values(PAPER, "Figure 3 left (BMCA)")
    left = beside_paper(summarise(runs, column="backbone"), values, rows, config.backbones)
    left_title = title.format(
        "Left: the paper has a bar chart without numbers but for Comb with EfficientNet-B2. "
        + of_search(config, {*left["row"]})
    )

    parts = bmca["method"].str.extract(r"^(?P<row>\w+)(?: \((?P<column>.+)\))?$")
    ablated = bmca.assign(row=parts["row"], column=parts["column"].fillna("with both"))
    ablated = ablated[ablated["row"].isin(OURS) & ablated["column"].isin((*ABLATIONS, "with both"))]
    pairs = ablated[["row", "backbone", "fold", "seed"]].apply(tuple, axis=1)
    ablated = ablated[pairs.isin(pairs[ablated["column"] != "with both"])]
    runs = ablated.groupby(["row", "column", "fold", "seed"])["value"].mean()
    values = published_values(PAPER, "Figure 3 right (BMCA, EfficientNet-B2)")
    columns = [*ABLATIONS, "with both"]
    right = beside_paper(summarise(runs, "row", "column"), values, OURS, columns)
    said = f"Right: {', '.join(config.backbones)}; the paper EfficientNet-B2; `with both` on the folds of the others."
    right_title = title.format(said)
    return {
        "figure3_left": (left, lambda caption: markdown(left, "Method", left_title + caption, digits=3)),
        "figure3_right": (
            right,
            lambda caption: markdown(right, "Method", right_title + caption, digits=3, columns=columns),
        ),
    }


def of_search(config: "Config", rows: Container[str]) -> str:
    """What a reader must know of the searched policies among a table's rows."""
    points = len(config.rand_augment)
    grid = (
        f"the best of {points} points on a quarter of fold {config.folds[0]}'s training lesions, for all folds"
        if points > 1
        else "fixed"
    )
    said = {"RandAug": f"N and M {grid}", "Fast AA": f"{config.policy_trials} trials"}
    return " ".join(f"{row}: {how}." for row, how in said.items() if row in rows)
