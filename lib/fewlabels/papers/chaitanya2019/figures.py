"""Figures of Chaitanya et al. 2019, beside those of `fewlabels.plots`."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from fewlabels.plots import COLOURS, bars, finished


def by_volumes(table: pd.DataFrame, structures: Sequence[str], title: str = "") -> Figure:
    """One panel a structure: each row's Dice with 1 and with 3 labelled volumes (filled, ± sd), the paper's open.

    `table` as `tables.beside_paper` gives it, columns named "structure, volumes".
    """
    rows, volumes = list(dict.fromkeys(table["row"])), sorted({c.split(", ")[1] for c in table["column"]})
    figure, axes = plt.subplots(
        1,
        len(structures),
        figsize=(3 + 1.7 * len(structures), 1.1 + 0.24 * len(rows)),
        sharey=True,
        layout="constrained",
    )
    for axis, structure in zip(axes, structures, strict=True):
        for i, n in enumerate(volumes):
            part = table[table["column"] == f"{structure}, {n}"]
            place = part["row"].map(rows.index) + (i - (len(volumes) - 1) / 2) * 0.3
            if part["ours_mean"].notna().any():  # or the legend would name what is not there
                style = {"color": COLOURS[i], "marker": "os"[i % 2], "linestyle": "", "capsize": 2, "markersize": 4}
                several = bars(table["ours_sd"][table["column"].str.endswith(f", {n}")]) is not None
                label = f"ours, {n} volume{'s' * (n != '1')}{' (± sd of runs)' * several}"
                drawn = axis.errorbar(part["ours_mean"], place, xerr=bars(part["ours_sd"]), label=label, **style)
                drawn.lines[0].set_clip_on(False)
            if part["paper_mean"].notna().any():
                style = {"marker": "D", "linestyle": "", "fillstyle": "none", "label": f"in the paper, {n}"}
                axis.plot(part["paper_mean"], place, color=COLOURS[i], **style)
        axis.grid(axis="y", linewidth=0.4)
        axis.set(xlabel="Dice", xlim=(0, 1), xticks=[0, 0.5, 1])
        axis.set(yticks=range(len(rows)), yticklabels=rows, ylim=(len(rows) - 0.4, -0.6))
        axis.set_title(structure, fontsize=8)
    return finished(figure, title, 3)
