"""What the scores of `papers.chaitanya2019.acdc` say, in the layout of Chaitanya et al. 2019, Table 1."""

from collections.abc import Callable

import pandas as pd

from fewlabels.data.acdc import CLASSES
from fewlabels.scores.published import published_values
from fewlabels.scores.tables import beside_paper, markdown, summarise

PAPER = "chaitanya2019"
TABLE_1 = (
    "none", "A", "A+RD", "A+RI", "A+GD", "A+GD (no regulariser)", "A+GI", "A+GI (no regulariser)", "A+GD+GI",
    "A+Mixup", "A+GD+GI+Mixup", "Adv Tr SL", "Adv Tr SSL",
)  # fmt: skip
BEYOND = tuple(
    f"A+{generator} ({variant})"
    for variant in ("no task gradient", "no L_big", "no L_big, no task gradient")
    for generator in ("GD", "GI")
)
METHODS = TABLE_1 + BEYOND
COLLAPSED = "at 0"
STRUCTURES = dict(zip(("RV", "Myo", "LV"), CLASSES[1:], strict=True))


def tables(config: object, scores: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, Callable[[str], str]]]:
    """`{"table1": (frame, caption -> Markdown)}`, the frame in the form of `tables.beside_paper`."""
    frames = []
    for name, structure in STRUCTURES.items():
        of = scores[(scores["metric"] == "dice") & (scores["structure"] == structure)]
        frames.append(of.assign(column=name))
    frames.append(scores[scores["metric"] == "mean_dice"].assign(column="mean"))
    images = pd.concat(frames)
    images["column"] += ", " + images["labels"].astype(str)
    runs = images.groupby(["method", "column", "split", "seed"])["value"].mean()
    runs = pd.concat([runs, collapsed(scores)])
    columns = [f"{name}, {n}" for n in (1, 3) for name in (*STRUCTURES, "mean", COLLAPSED)]
    table = beside_paper(summarise(runs, column="column"), published_values(PAPER, "Table 1"), METHODS, columns)
    title = (
        "Table 1 of Chaitanya et al. 2019: Dice per volume at native resolution, mean over the test patients, ± sd "
        "over runs (labelled sets and repeats), with 1 and with 3 labelled volumes. Of the paper's numbers the text at "
        "hand has one; that its column is the right ventricle with 1 volume is inferred. Rows with a bracket but for "
        f"`no regulariser` are ours. `{COLLAPSED}`: how many of a run's three structures have Dice 0 in every test "
        "volume. "
    )
    return {"table1": (table, lambda caption: markdown(table, "Method", title + caption, digits=3, columns=columns))}


def collapsed(scores: pd.DataFrame) -> pd.Series:
    """How many structures of a run have Dice 0 in every test volume: a series by method, column, split and seed."""
    dice = scores[scores["metric"] == "dice"]
    dice = dice.assign(column=f"{COLLAPSED}, " + dice["labels"].astype(str))
    run = ["method", "column", "split", "seed"]
    return (dice.groupby([*run, "structure"])["value"].max() == 0).groupby(run).sum()
