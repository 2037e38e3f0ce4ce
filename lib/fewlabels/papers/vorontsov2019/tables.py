"""What the scores of `papers.vorontsov2019.mnist` and `.brats` say, in the layout of Vorontsov et al. 2019, Table 1."""

from collections.abc import Callable, Iterable

import pandas as pd

from fewlabels.papers.vorontsov2019.rows import METHODS, SKIP_OF
from fewlabels.scores.published import published_values
from fewlabels.scores.tables import beside_paper, markdown, summarise

PAPER = "vorontsov2019"
TASKS = ("48-simple", "48-hard", "128", "brats")
TITLE = (
    "{} of Vorontsov et al. 2019: Dice on test images, not thresholded, the whole set counted as one, by the network "
    "that was best on validation images; mean ± sd over runs (seeds). "
)
SKIP_ROWS = {"Proposed": "Compress"} | dict(zip(SKIP_OF, ("Concat", "Sum", "No skip"), strict=True))


def dice_of(scores: pd.DataFrame, among: Iterable[str]) -> pd.Series:
    """Dice of each run of some methods, indexed by method, task and seed."""
    chosen = scores[(scores["metric"] == "dice_global") & (scores["structure"] == "all") & scores["method"].isin(among)]
    return chosen.groupby(["method", "task", "seed"])["value"].mean()


def tables(config: object, scores: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, Callable[[str], str]]]:
    """`{"table1a", "table1b": (frame, caption -> Markdown)}`, frames as of `tables.beside_paper`; 1b where it ran."""
    columns = [task for task in TASKS if (scores["task"] == task).any()]
    ours = summarise(dice_of(scores, METHODS), column="task")
    a = beside_paper(ours, published_values(PAPER, "Table 1a"), METHODS, columns)
    found = {
        "table1a": (
            a,
            lambda caption: markdown(a, "Method", TITLE.format("Table 1a") + caption, "{}", 3, columns=columns),
        )
    }
    if scores["method"].isin(SKIP_OF).any():
        ours = summarise(dice_of(scores, SKIP_ROWS).rename(index=SKIP_ROWS, level="method"), column="task")
        ours = ours[ours["column"] == "48-hard"]
        b = beside_paper(ours, published_values(PAPER, "Table 1b"), [*SKIP_ROWS.values()], ["48-hard"])
        found["table1b"] = (b, lambda caption: markdown(b, "Long skips", TITLE.format("Table 1b") + caption, "{}", 3))
    return found
