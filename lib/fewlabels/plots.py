"""Figures. Every function returns a matplotlib figure; colours are safe for colour-blind readers and in print."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from fewlabels.ledger import run_scores

COLOURS = sns.color_palette("colorblind")
OUTLINES = [COLOURS[i] for i in (7, 3, 2, 8, 4, 9, 1, 0, 5, 6)]  # by class, neighbours far apart; background grey
sns.set_theme(
    context="paper",
    style="ticks",
    palette="colorblind",
    rc={"figure.dpi": 110, "savefig.dpi": 150, "savefig.bbox": "tight"},
)


def finished(figure, title, ncols, **despine):
    """A figure with its title and, below all panels, one legend of whatever is named in any of them."""
    found = [axis.get_legend_handles_labels() for axis in figure.axes]
    named = {name: handle for pair in found for handle, name in zip(*pair, strict=True)}
    figure.legend(named.values(), named, loc="outside lower center", ncols=ncols, frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=9)
    sns.despine(figure, **despine)
    return figure


def picture(axis, image, labels=None, title="", **options):
    """One image `(H, W)` in grey with the outlines of its integer label map, one colour a class."""
    axis.imshow(image, **{"cmap": "gray", "interpolation": "nearest"} | options)
    if labels is not None:
        for c in np.unique(labels[labels > 0]):
            axis.contour(labels == c, levels=[0.5], colors=[OUTLINES[c]], linewidths=1.2)
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, fontsize=8)
    return axis


def pictures(images, labels=None, titles=None, columns=6, classes=None, size=1.6, **options):
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


def deformed_grid(axis, u, every=4, title="", **options):
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


def against_labels(table, title="", ylabel="mIoU (%)"):
    """Ours (filled, lines, ± sd) and the paper's points (open) against the number of labelled images.

    `table` as `tables.beside_paper` gives it.
    """
    figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
    rows = list(dict.fromkeys(table["row"]))
    columns = sorted(table["column"].unique())
    for i, row in enumerate(rows):
        part = table[table["row"] == row].sort_values("column")
        place = part["column"].map(columns.index) + (i - (len(rows) - 1) / 2) * 0.1
        ours = part["ours_mean"].notna()
        if ours.any():
            style = {"color": COLOURS[i], "marker": "o", "capsize": 2, "label": row}
            axis.errorbar(place[ours], part["ours_mean"][ours], yerr=part["ours_sd"][ours].fillna(0), **style)
        if part["paper_mean"].notna().any():
            style = {"facecolors": "none", "edgecolors": [COLOURS[i]], "marker": "D", "s": 28, "zorder": 3}
            axis.scatter(place, part["paper_mean"], **style)
    handles, _ = axis.get_legend_handles_labels()
    handles.append(
        plt.Line2D([], [], color="grey", marker="D", linestyle="", fillstyle="none", label="paper (JSRT, 512 px)")
    )
    axis.legend(handles=handles, fontsize=8, frameon=False, loc="lower right")
    axis.set(xticks=range(len(columns)), xticklabels=columns, xlabel="labelled training images", ylabel=ylabel)
    axis.set_title(title, fontsize=9)
    sns.despine(figure)
    return figure


def learning_curves(histories, title=""):
    """Losses (training, means between validations) and validation mIoU against the step, for `{name: history}`."""
    panels = {"loss_sup": "supervised loss", "loss_cons": "consistency loss", "validation": "validation mIoU (%)"}
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.0), layout="constrained")
    for axis, (key, label) in zip(axes, panels.items(), strict=True):
        for colour, (name, history) in zip(COLOURS, histories.items(), strict=False):
            frame = pd.DataFrame(history)
            axis.plot(frame["step"], frame[key], color=colour, label=name)
        axis.set(xlabel="step of stage 2", ylabel=label)
    return finished(figure, title, len(histories))


def by_structure(table, columns, title="", xlabel="IoU (%)", spread="images"):
    """One panel a structure, or whatever a column is: each row's value of ours (filled, ± sd) and of the paper (open).

    `table` as `tables.beside_paper` gives it; `spread`: of what the sd is. Axes end where scores do, at 1 or 100 %.
    """
    rows = list(dict.fromkeys(table["row"]))
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
        sd, label = part["ours_sd"][ours].fillna(0), f"ours, ± sd of {spread}"
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


def against_amplitude(scores, title=""):
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
    axes[1].get_legend().set_title("")
    ticks = sorted(runs["amplitude"].unique())
    for axis, label, empty in zip(axes, ("mIoU (%)", "share (%)"), ("lower right", "upper left"), strict=True):
        axis.set(xlabel="rms of the fields (% of the side)", ylabel=label, xscale="log")
        axis.set(xticks=ticks, xticklabels=[f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.legend(fontsize=8, frameon=False, loc=empty)
    figure.suptitle(title, fontsize=9)
    sns.despine(figure)
    return figure


def by_method(table, title="", ylabel="accuracy (%)", column="Accuracy (%)"):
    """One panel a transform: each method's value in each mode (filled, ± sd) and in the paper (open); dotted: chance.

    `table` as `experiments.cifar10_tables.tables` gives it, rows named "transform, method".
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
            axis.errorbar(place, of_mode["ours_mean"], yerr=of_mode["ours_sd"].fillna(0), **style)
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


def training_and_validation(histories, title=""):
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


def by_volumes(table, structures, title=""):
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
                label = f"ours, {n} volume{'s' * (n != '1')} (± sd of runs)"
                drawn = axis.errorbar(part["ours_mean"], place, xerr=part["ours_sd"].fillna(0), label=label, **style)
                drawn.lines[0].set_clip_on(False)
            if part["paper_mean"].notna().any():
                style = {"marker": "D", "linestyle": "", "fillstyle": "none", "label": f"in the paper, {n}"}
                axis.plot(part["paper_mean"], place, color=COLOURS[i], **style)
        axis.grid(axis="y", linewidth=0.4)
        axis.set(xlabel="Dice", xlim=(0, 1), xticks=[0, 0.5, 1])
        axis.set(yticks=range(len(rows)), yticklabels=rows, ylim=(len(rows) - 0.4, -0.6))
        axis.set_title(structure, fontsize=8)
    return finished(figure, title, 3)


def challenge(histories, title=""):
    """T's loss on what each generator makes and on random transformations of the same RMS, and that RMS, against the
    step, for `{method: history}` as `methods.challenge.hardness` makes it: a column a kind, below one another the
    methods that have it."""
    shown = {}
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
