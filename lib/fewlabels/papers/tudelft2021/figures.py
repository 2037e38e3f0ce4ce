"""Figures of Malfliet & Bakker 2021, beside those of `fewlabels.plots`."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fewlabels.plots import COLOURS, bars, finished
from fewlabels.types import History


def by_method(
    table: pd.DataFrame, title: str = "", ylabel: str = "accuracy (%)", column: str = "Accuracy (%)"
) -> Figure:
    """One panel a transform: each method's value in each mode (filled, ± sd) and in the paper (open); dotted: chance.

    `table` as `papers.tudelft2021.tables.tables` gives it, rows named "transform, method".
    """
    part = table[table["column"] == column]
    part = part.assign(transform=part["row"].str.split(", ").str[0], method=part["row"].str.split(", ").str[1])
    transforms, modes = part["transform"].unique(), part["mode"].unique()
    figure, axes = plt.subplots(
        1, len(transforms), figsize=(2.9 * len(transforms), 3.2), sharey=True, layout="constrained"
    )
    for axis, transform in zip(np.atleast_1d(axes), transforms, strict=True):
        here = part[part["transform"] == transform]
        methods = list(here["method"].unique())
        for i, mode in enumerate(modes):
            of_mode = here[(here["mode"] == mode) & here["ours_mean"].notna()]
            place = of_mode["method"].map(methods.index) + (i - (len(modes) - 1) / 2) * 0.2
            style = {"color": COLOURS[i], "marker": "os^v"[i % 4], "linestyle": "", "capsize": 2, "label": mode}
            if len(of_mode):  # or the legend would name what is not there
                axis.errorbar(place, of_mode["ours_mean"], yerr=bars(of_mode["ours_sd"]), **style)
        paper = here.drop_duplicates("method").dropna(subset="paper_mean")
        style = {
            "color": "grey",
            "marker": "D",
            "linestyle": "",
            "fillstyle": "none",
            "label": "in the report (CIFAR-10)",
        }
        axis.plot(paper["method"].map(methods.index), paper["paper_mean"], **style)
        axis.axhline(10, color="grey", linewidth=0.6, linestyle=":")
        axis.set(xticks=range(len(methods)), ylim=(0, 100))
        axis.set_xticklabels(methods, rotation=30, ha="right", fontsize=8)
        axis.set_title(transform, fontsize=9)
    np.atleast_1d(axes)[0].set_ylabel(ylabel)
    return finished(figure, title, len(modes) + 1)


def training_and_validation(histories: Mapping[str, History], title: str = "") -> Figure:
    """Supervised loss and accuracy, training solid and validation dashed, against the step, for `{name: history}`."""
    panels = {"supervised loss": ("loss_sup", "validation_loss_sup"), "accuracy (%)": ("accuracy", "both")}
    figure, axes = plt.subplots(1, 2, figsize=(7.5, 3.2), layout="constrained")
    for colour, (name, history) in zip(COLOURS, histories.items(), strict=False):
        frame = pd.DataFrame(history)
        frame["both"] = (frame["validation_accuracy_clean"] + frame["validation_accuracy_transformed"]) / 2
        for axis, (training, validation) in zip(axes, panels.values(), strict=True):
            axis.plot(frame["step"], frame[training], color=colour, label=f"{name}, training")
            axis.plot(frame["step"], frame[validation], color=colour, linestyle="--", label=f"{name}, validation")
    for axis, label in zip(axes, panels, strict=True):
        axis.set(xlabel="step", ylabel=label)
    return finished(figure, title, len(histories))
