"""Figures of Gao et al. 2021, beside those of `fewlabels.plots`."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from fewlabels.plots import COLOURS, finished
from fewlabels.types import History


def challenge(histories: Mapping[str, History], title: str = "") -> Figure:
    """T's loss on what each generator makes and on random transformations of the same RMS, and that RMS, against the
    step, for `{method: history}` as `challenge.hardness` makes it: a column a kind, below one another the
    methods that have it."""
    shown: dict[str, list[str]] = {}
    for name, history in histories.items():
        for key in history[0]:
            if key.startswith("rms_"):
                shown.setdefault(key.removeprefix("rms_"), []).append(name)
    rows = max(map(len, shown.values()))
    size = (2.9 * len(shown), 2.2 * rows + 0.5)
    figure, axes = plt.subplots(rows, len(shown), figsize=size, squeeze=False, sharex=True, layout="constrained")
    lines = {"as it is": ("clean", 7), "G's": ("{}", 3), "random, same RMS": ("random_{}", 0)}
    units = {"affine": "half sides", "deformation": "half sides", "appearance": "of intensities 0 to 1"}
    for of_kind, (kind, names) in zip(axes.T, shown.items(), strict=True):
        for axis, name in zip(of_kind, names, strict=False):
            frame = pd.DataFrame(histories[name])
            for label, (key, colour) in lines.items():
                axis.plot(frame["step"], frame[f"loss_of_{key.format(kind)}"], color=COLOURS[colour], label=label)
            rms = axis.twinx()
            rms.plot(frame["step"], frame[f"rms_{kind}"], color="grey", linestyle=":", label="RMS (right)")
            rms.tick_params(labelsize=7, colors="grey")
            rms.set_ylim(bottom=0)
            rms.set_ylabel(f"RMS ({units[kind]})", fontsize=7, color="grey")
            axis.set_title(f"{name}: {kind}", fontsize=8)
        of_kind[-1].set_xlabel("step")
    for axis in axes[:, 0]:
        axis.set_ylabel("loss of T")
    return finished(figure, title, 4, right=False)
