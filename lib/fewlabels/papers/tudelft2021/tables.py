"""What the scores of `papers.tudelft2021.cifar10` say, in the layout of Malfliet & Bakker 2021, Table 1."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pandas as pd

from fewlabels.scores.published import published_values
from fewlabels.scores.statistics import run_scores
from fewlabels.scores.tables import beside_paper, markdown, summarise
from fewlabels.types import History

if TYPE_CHECKING:
    from fewlabels.papers.tudelft2021.cifar10 import Config

PAPER = "tudelft2021"
TRANSFORMS = ("noise", "shift", "rotation")
METHODS = ("Supervised", "SemiC", "SemiCT", "SemiTCE")
RATE = " (rate {:g})"  # behind the name of a method that was run at several
ROUNDING = 1e-6  # of epochs
COLUMNS = {
    "loss": "Loss, total",
    "loss_sup": "Loss, S",
    "loss_cons": "Loss, C",
    "accuracy": "Accuracy (%)",
    "consistency": "Consistency (%)",
}
WHAT = {
    "corrected": "dropout and batch norms at work, an angle for every image, unclipped KL; accuracy on clean images",
    "legacy": "as the report's code: no dropout, norms that never see a batch, one angle, KL clipped at 1e-7; accuracy "
    "over clean and transformed images",
}


def of_curve(history: History, epoch: float) -> dict[str, float]:
    """What the claims ask of a learning curve, `{metric: number}`; `epoch` is its length in steps.

    `val_loss` is the supervised loss on the validation images. Epochs that were not reached have no number.
    """
    curve = pd.DataFrame(history)
    curve["epoch"] = curve["step"] / epoch
    end, lowest = curve.iloc[-1], curve.iloc[int(curve["validation_loss_sup"].argmin())]
    found = {
        "epochs": end["epoch"],
        "val_loss_min": lowest["validation_loss_sup"],
        "val_loss_min_epoch": lowest["epoch"],
        "val_loss_end": end["validation_loss_sup"],
        "val_accuracy_end": end["validation"],
    }
    for name, column, at in (
        ("train_loss_epoch_40", "loss_sup", 40),
        ("val_accuracy_epoch_25", "validation", 25),
        ("val_accuracy_10_epochs_before", "validation", end["epoch"] - 10),
    ):
        reached = curve["epoch"] <= at + ROUNDING
        if reached.any() and at <= end["epoch"] + ROUNDING:
            found[name] = curve.loc[reached, column].iloc[-1]
    return {name: float(value) for name, value in found.items()}


def tables(config: "Config", scores: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, Callable[[str], str]]]:
    """`{"table1": (frame, caption -> Markdown)}`, the frame in the form of `tables.beside_paper`, one part a mode."""
    rates = {"SemiC": config.semi_learning_rate} | dict.fromkeys(("SemiCT", "SemiTCE"), config.two_step_learning_rate)
    several = {method: ["", *map(RATE.format, sorted(of))] for method, of in rates.items() if len(of) > 1}
    rows = [f"{t}, {method}{rate}" for t in TRANSFORMS for method in METHODS for rate in several.get(method, [""])]
    frames, texts = [], []
    for mode in config.modes:
        ours = table_1_cells(scores[scores["mode"] == mode], several)
        table = beside_paper(ours, published_values(PAPER, "Table 1"), rows, [*COLUMNS.values()])
        frames.append(table.assign(mode=mode))
        words = f"**{mode}**: {WHAT.get(mode, 'with these switches')}"
        texts.append(markdown(table, "Transform, method", words, digits=2, columns=[*COLUMNS.values()]))
    title = (
        "Table 1 of Malfliet & Bakker 2021: test images, mean ± sd over seeds (the report: CIFAR-10, one run each). S "
        "and C are of clean and transformed images. Where the report prints an accuracy of 0.1 % its log has the "
        f"fraction 0.099, chance. First steps: {config.steps_supervised:,} batches (SemiTCE: {config.steps_early:,}); "
        f"SemiC and second steps: {config.steps_semi:,}; the report's: 3,840 (800) and 45,960. "
    )
    return {
        "table1": (pd.concat(frames, ignore_index=True), lambda caption: "\n".join([title + caption + "\n", *texts]))
    }


def table_1_cells(scores: pd.DataFrame, several: Mapping[str, object]) -> pd.DataFrame:
    """Our cells of Table 1 in one mode: row, column, mean, sd, n (seeds); for each rate of the methods of `several`."""
    cells = []
    for metric, column in COLUMNS.items():
        runs = run_scores(scores, metric).reset_index(name="value")
        rate = runs["learning_rate"].map(RATE.format).where(runs["method"].isin(several), "")
        runs = runs.assign(row=runs["transform"] + ", " + runs["method"] + rate, column=column)
        cells.append(summarise(runs.set_index(["row", "column", "seed"])["value"], row="row", column="column"))
    return pd.concat(cells, ignore_index=True)
