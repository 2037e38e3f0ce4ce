"""Figures. Every function returns a matplotlib figure; colours are safe for colour-blind readers and in print."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fewlabels.files import whole

COLOURS = sns.color_palette("colorblind")
OUTLINES = [COLOURS[i] for i in (7, 3, 2, 8, 4, 9, 1, 0, 5, 6)]  # by class, neighbours far apart; background grey
sns.set_theme(
    context="paper",
    style="ticks",
    palette="colorblind",
    rc={"figure.dpi": 110, "savefig.dpi": 150, "savefig.bbox": "tight"},
)


def save(figure: Figure, path: Path | str) -> None:
    """Writes a figure as PNG, whole or not at all; its folder is made."""
    with whole(path) as temporary:
        figure.savefig(temporary, format="png")


def finished(figure: Figure, title: str, ncols: int, **despine: Any) -> Figure:
    """A figure with its title and, below all panels, one legend of whatever is named in any of them."""
    found = [axis.get_legend_handles_labels() for axis in figure.axes]
    named = {name: handle for pair in found for handle, name in zip(*pair, strict=True)}
    figure.legend(named.values(), named, loc="outside lower center", ncols=ncols, frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=9)
    sns.despine(figure, **despine)
    return figure


def bars(sd: pd.Series) -> pd.Series | None:
    """Error bars from a column of standard deviations: none where there is one run, nor in the legend if nowhere."""
    return None if sd.isna().all() else sd.astype(float)


def picture(axis: Axes, image: np.ndarray, labels: np.ndarray | None = None, title: str = "", **options: Any) -> Axes:
    """One image `(H, W)` in grey with the outlines of its integer label map, one colour a class.

    An outline runs within its structure, a quarter of a pixel from the outer pixels' centres, so that those of
    neighbours lie beside each other; large structures are drawn first.
    """
    axis.imshow(image, **{"cmap": "gray", "interpolation": "nearest"} | options)
    if labels is not None:
        classes, areas = np.unique(labels[labels > 0], return_counts=True)
        for c in classes[np.argsort(-areas)]:
            axis.contour(labels == c, levels=[0.75], colors=[OUTLINES[c]], linewidths=1.0)
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, fontsize=8)
    return axis


def pictures(
    images: np.ndarray, labels: np.ndarray | None = None, titles: Sequence[str] | None = None, columns: int = 6,
    classes: Sequence[str] | None = None, size: float = 1.6, **options: Any,
) -> Figure:  # fmt: skip
    """A grid of images `(N, H, W)`, with outlines of labels `(N, H, W)` and a legend of `classes` if given."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(size * columns, (size + 0.2) * rows), squeeze=False, layout="constrained"
    )
    for i, axis in enumerate(axes.flat):
        if i < len(images):
            picture(axis, images[i], None if labels is None else labels[i], titles[i] if titles else "", **options)
        else:
            axis.axis("off")
    if classes is not None:
        handles = [plt.Line2D([], [], color=OUTLINES[c], label=name) for c, name in enumerate(classes) if c]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8)
    return figure


def compared(images: np.ndarray, maps: Mapping[str, np.ndarray], **options: Any) -> Figure:
    """A row for each image `(N, H, W)`, in which `{name: label maps (N, H, W)}` stand beside one another."""
    shown = np.stack([np.asarray(labels) for labels in maps.values()], axis=1)
    repeated = np.repeat(np.asarray(images), len(maps), axis=0)  # a tensor's own `repeat` is another
    return pictures(repeated, np.concatenate(shown), [*maps] * len(images), **{"columns": len(maps)} | options)


def deformed_grid(axis: Axes, u: np.ndarray, every: int = 4, title: str = "", **options: Any) -> Axes:
    """Where a field `(2, H, W)` fetches its pixels from: the regular grid q, drawn at q + u(q)."""
    rows, columns = np.meshgrid(*(np.arange(n) for n in u.shape[1:]), indexing="ij")
    at = np.stack([rows, columns]) + u
    style = {"color": COLOURS[0], "linewidth": 0.6} | options
    for line in range(0, u.shape[1], every):
        axis.plot(at[1, line], at[0, line], **style)
    for line in range(0, u.shape[2], every):
        axis.plot(at[1, :, line], at[0, :, line], **style)
    axis.set(xlim=(-0.5, u.shape[2] - 0.5), ylim=(u.shape[1] - 0.5, -0.5), xticks=[], yticks=[], aspect="equal")
    axis.set_title(title, fontsize=8)
    return axis


def by_structure(
    table: pd.DataFrame, columns: Sequence[str], title: str = "", xlabel: str = "IoU (%)", spread: str = "images"
) -> Figure:
    """One panel a structure, or whatever a column is: each row's value of ours (filled, ± sd) and of the paper (open).

    `table` as `tables.beside_paper` gives it; `spread`: of what the sd is. Axes end where scores do, at 1 or 100 %.
    """
    rows, several = list(dict.fromkeys(table["row"])), bars(table["ours_sd"]) is not None
    figure, [axes] = plt.subplots(
        1,
        len(columns),
        figsize=(3.2 + 1.9 * len(columns), max(0.8 + 0.24 * len(rows), 2.0)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, column in zip(axes, columns, strict=True):
        part = table[table["column"] == column].set_index("row").reindex(rows)
        y, ours, paper = np.arange(len(rows)), part["ours_mean"].notna(), part["paper_mean"].notna()
        style = {"color": COLOURS[0], "marker": "o", "linestyle": "", "capsize": 2, "markersize": 4}
        sd, label = bars(part["ours_sd"][ours]), f"ours, ± sd of {spread}" if several else "ours"
        drawn = axis.errorbar(part["ours_mean"][ours], y[ours], xerr=sd, label=label, **style)
        drawn.lines[0].set_clip_on(False)  # a marker at an end is whole, a bar goes no further
        if paper.any():
            style = {"color": "grey", "marker": "D", "linestyle": "", "fillstyle": "none", "label": "in the paper"}
            axis.plot(part["paper_mean"][paper], y[paper], clip_on=False, **style)
        axis.grid(axis="y", linewidth=0.4)
        left, right = axis.get_xlim()
        axis.set_xlim(max(left, 0), min(right, 100 if "%" in xlabel else 1))
        axis.set(xlabel=xlabel, yticks=y, yticklabels=rows, ylim=(len(rows) - 0.4, -0.6))
        axis.set_title(column, fontsize=8)
    return finished(figure, title, 2)
