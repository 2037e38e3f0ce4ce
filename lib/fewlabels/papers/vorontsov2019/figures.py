"""Figures of Vorontsov et al. 2019: images of both domains and what translation makes of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from torch import Tensor

from fewlabels.plots import COLOURS
from fewlabels.types import History

GREY = {"cmap": "gray", "vmin": 0, "vmax": 1}
SIGNED = {"cmap": "RdBu_r"}  # residuals: red adds, blue takes away; `rows` finds the range


def rows(
    images: Mapping[str, tuple[Any, Mapping[str, Any]]],
    titles: Sequence[str] | None = None,
    size: float = 0.9,
    title: str = "",
    **options: Any,
) -> Figure:
    """A row of pictures for each entry of `{label: (images (n, H, W), GREY or SIGNED or other options)}`.

    `titles` of the columns; `options` go into every picture. All residuals have one range and a colour bar: they are
    small, and would be blank in that of the images.
    """
    largest = [float(abs(pictures).max()) for pictures, look in images.values() if look == SIGNED]
    norm = CenteredNorm(halfrange=max(largest, default=0) or 1)
    n = max(len(pictures) for pictures, _ in images.values())
    height, width = next(iter(images.values()))[0].shape[1:]
    wide, high = (size * length / max(width, height) for length in (width, height))
    # Inches: of labels, titles and colour bar, and between pictures. Said, not found by a layout engine: with so many
    # panels that takes longer than to draw them.
    left, top, right, gap = 1.2, 0.36 if titles else 0.2, 0.8 if largest else 0.0, 0.04
    full = (left + n * (wide + gap) - gap + right, top + len(images) * (high + gap) - gap)
    edges = {"left": left / full[0], "right": 1 - right / full[0], "bottom": 0, "top": 1 - top / full[1]}
    grid = edges | {"wspace": gap / wide, "hspace": gap / high}
    layout: dict[str, Any] = {"subplot_kw": {"xticks": [], "yticks": []}, "gridspec_kw": grid}
    figure, axes = plt.subplots(len(images), n, figsize=full, squeeze=False, **layout)
    for of_row, (label, (pictures, look)) in zip(axes, images.items(), strict=True):
        look = {**look} | ({"norm": norm} if look == SIGNED else {})
        for axis, picture in zip(of_row, pictures, strict=False):
            axis.imshow(picture, **{"interpolation": "nearest"} | look | options)
        for axis in of_row:
            axis.axis("on" if axis.images else "off")
        of_row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=7)
    for axis, name in zip(axes[0], titles or [], strict=False):
        axis.set_title(name, fontsize=7)
    if largest:
        tall = min(3 * high, full[1] - top) / full[1]
        beside = figure.add_axes((1 - (right - 0.1) / full[0], (edges["top"] - tall) / 2, 0.12 / full[0], tall))
        bar = figure.colorbar(ScalarMappable(norm, SIGNED["cmap"]), beside)
        bar.set_label("residual (intensity, as the images')", fontsize=7)
        bar.ax.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=8, x=(edges["left"] + edges["right"]) / 2, y=1, va="top")
    return figure


def translations(
    made: Mapping[str, Any], p: Tensor, x_P: Tensor, x_A: Tensor, masks: Tensor, look: Mapping[str, Any] = GREY
) -> dict[str, tuple[Any, Mapping[str, Any]]]:
    """The rows of Figure 7 for `rows`, of one channel: presence to absence, then absence to presence.

    `made` of `Translation.translate`, p the segmentation; all `(n, H, W)` or `(n, 1, H, W)`.
    """
    flat = lambda t: t.detach().float().cpu().reshape(len(t), *t.shape[-2:])  # noqa: E731
    shown = {
        "input (P)": (x_P, look), "translated (A)": (made["x_PA"], look), "residual": (made["D_PA"], SIGNED),
        "segmentation": (p, GREY), "truth": (masks, GREY),
        "input (A)": (x_A, look), "translated (P)": (made["x_AP"], look), "residual ": (made["D_AP"], SIGNED),
    }  # fmt: skip
    return {label: (flat(pictures), options) for label, (pictures, options) in shown.items()}


def validation_curves(histories: Mapping[tuple[str, str], Sequence[History]], title: str = "") -> Figure:
    """Dice on validation images against the step, for `{(method, task): [history, ...]}`: a panel for each task.

    Lines are means over runs, bands reach from the lowest run to the highest.
    """
    runs = [(*key, pd.DataFrame(history)) for key, of_key in histories.items() for history in of_key]
    frame = pd.concat([history.assign(method=method, task=task) for method, task, history in runs], ignore_index=True)
    frame["validation"] /= 100  # stored in percent
    lines = {"hue": "method", "style": "method", "palette": COLOURS[: frame["method"].nunique()], "linewidth": 1}
    layout: dict[str, Any] = {"col": "task", "kind": "line", "errorbar": ("pi", 100), "height": 2.6, "aspect": 1.2}
    grid = sns.relplot(frame, x="step", y="validation", **lines, **layout, facet_kws={"despine": True})
    grid.set(ylim=(0, None)).set_axis_labels("step", "Dice, validation").set_titles("{col_name}", size=8)
    grid.legend.set_title(None)
    several = any(len(runs) > 1 for runs in histories.values())
    grid.figure.suptitle(title + "; mean of runs, lowest to highest" * several, fontsize=8, y=1.02)
    return grid.figure
