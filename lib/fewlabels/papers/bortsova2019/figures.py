"""Figures of Bortsova et al. 2019, beside those of `fewlabels.plots`."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from fewlabels.plots import COLOURS, bars, finished
from fewlabels.scores.statistics import run_scores
from fewlabels.types import History


def against_labels(table: pd.DataFrame, title: str = "", ylabel: str = "mIoU (%)") -> Figure:
    """Ours (filled, ± sd where there are several runs) and the paper's points (open) against the number of labelled
    images. Lines join neighbouring numbers only: what lies between others was not measured.

    `table` as `tables.beside_paper` gives it.
    """
    figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
    rows = list(dict.fromkeys(table["row"]))
    columns = sorted(table["column"].unique())
    for i, row in enumerate(rows):
        part = table[table["row"] == row].sort_values("column")
        offset = (i - (len(rows) - 1) / 2) * 0.1
        place = part["column"].map(columns.index) + offset
        ours = part["ours_mean"].notna()
        if ours.any():
            style: dict[str, Any] = {"color": COLOURS[i], "marker": "o", "capsize": 2, "label": row}
            every = part.set_index("column").reindex(columns)["ours_mean"]  # a hole breaks the line
            axis.plot(np.arange(len(columns)) + offset, every, color=COLOURS[i])
            axis.errorbar(place[ours], part["ours_mean"][ours], yerr=bars(part["ours_sd"][ours]), linestyle="", **style)
        if part["paper_mean"].notna().any():
            style = {"facecolors": "none", "edgecolors": [COLOURS[i]], "marker": "D", "s": 28, "zorder": 3}
            axis.scatter(place, part["paper_mean"], **style)
    handles, _ = axis.get_legend_handles_labels()
    handles.append(
        plt.Line2D([], [], color="grey", marker="D", linestyle="", fillstyle="none", label="paper (JSRT, 512 px)")
    )
    figure.legend(handles=handles, fontsize=8, frameon=False, loc="outside lower center", ncols=3)
    axis.set(xticks=range(len(columns)), xticklabels=columns, xlabel="labelled training images", ylabel=ylabel)
    axis.set_title(title, fontsize=9)
    sns.despine(figure)
    return figure


def learning_curves(histories: Mapping[str, History], title: str = "") -> Figure:
    """Losses (training, means between validations) and validation mIoU against the step, for `{name: history}`.

    The Baseline's consistency loss is dashed: it is measured, not trained.
    """
    panels = {"loss_sup": "supervised loss", "loss_cons": "consistency loss", "validation": "validation mIoU (%)"}
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.0), layout="constrained")
    for axis, (key, ylabel) in zip(axes, panels.items(), strict=True):
        for colour, (name, history) in zip(COLOURS, histories.items(), strict=False):
            frame = pd.DataFrame(history)
            measured = key == "loss_cons" and name == "Baseline"
            label = "Baseline, measured, not trained" if measured else name
            axis.plot(frame["step"], frame[key], "--" if measured else "-", color=colour, label=label)
        axis.set(xlabel="step of stage 2", ylabel=ylabel)
    return finished(figure, title, len(histories) + 1)


def against_amplitude(scores: pd.DataFrame, title: str = "") -> Figure:
    """mIoU of test and validation images (mean ± sd over splits), and what of T folds and is left out of C.

    `scores` as in scores.csv, of several amplitudes.
    """
    names = {
        "miou": "test",
        "validation_miou": "validation",
        "folding": "fields that fold",
        "excluded": "left out of C",
    }
    runs = pd.concat({name: run_scores(scores, metric) for metric, name in names.items()}, names=["images"])
    runs = runs.reset_index(name="value")
    shares = runs["images"].isin([names["folding"], names["excluded"]])
    figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.4), layout="constrained")
    style = {"x": "amplitude", "y": "value", "markers": True, "errorbar": "sd", "err_style": "bars"}
    line = runs[~shares].groupby(["method", "images"]).ngroup()
    beside = runs["amplitude"] * 1.04 ** (line - line.max() / 2)  # so that bars do not hide each other
    sns.lineplot(runs[~shares].assign(amplitude=beside), hue="method", style="images", ax=axes[0], **style)
    runs.loc[shares, "value"] *= 100
    sns.lineplot(runs[shares], hue="images", style="images", ax=axes[1], palette=[COLOURS[2], COLOURS[3]], **style)
    ticks = sorted(runs["amplitude"].unique())
    for axis, label in zip(axes, ("mIoU (%)", "share (%)"), strict=True):
        axis.set(xlabel="rms of the fields (% of the side)", ylabel=label, xscale="log")
        axis.set(xticks=ticks, xticklabels=[f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        named = dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
        shown = {name: handle for name, handle in named.items() if name not in ("method", "images")}
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "ncols": 2}  # no line can lie there
        axis.legend(shown.values(), shown, fontsize=8, frameon=False, **below)
    figure.suptitle(title, fontsize=9)
    sns.despine(figure)
    return figure
