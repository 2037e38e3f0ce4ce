"""What a benchmark leaves behind: speed.csv, capabilities.csv, warps.md and figure1.png."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fewlabels.bench import abilities
from fewlabels.bench.peers import BOTH, FORWARD, IMAGE
from fewlabels.bench.timing import COLUMNS, MEASURED, NOT_RUN, aimed
from fewlabels.engine import provenance
from fewlabels.files import palette, whole, write_text

if TYPE_CHECKING:  # matplotlib is imported where it draws
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WORKS = {FORWARD: "forward", IMAGE: "forward + backward to image", BOTH: "... to image and field"}


def write(rows: list[dict[str, Any]], folder: Path) -> None:
    speed, able = pd.DataFrame(rows, columns=COLUMNS), abilities.table()
    for name, table in (("speed", speed), ("capabilities", able)):
        with whole(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.4g")
    write_text(folder / "warps.md", markdown(speed, able))
    picture = io.BytesIO()
    figure(speed).savefig(picture, format="png")
    with whole(folder / "figure1.png") as temporary:
        temporary.write_bytes(palette(picture.getvalue()))


def markdown(speed: pd.DataFrame, able: pd.DataFrame) -> str:
    """Both tables, with machine, versions, date and commit."""
    code, cuda = provenance.code(), (speed["device"].eq("cuda") & speed["state"].eq(MEASURED)).any()
    facts = provenance.machine("cuda" if cuda else "cpu")
    processor = provenance.machine("cpu")["device"]
    machine = f"{processor}, {facts['cores']} cores, {speed['threads'].max()} threads"
    machine += f"; {facts['device']}, CUDA {facts['cuda']}" if cuda else "; no CUDA"
    versions = ", ".join(
        f"{name} {facts['packages'][name]}" for name in ("torch", "numpy") if name in facts["packages"]
    )
    commit = f"{str(code['commit'])[:12]}{', changed since' if code['dirty'] else ''}"
    lines = [
        "# Our warps beside other packages",
        "",
        f"{machine}; Python {facts['python']}, {versions}; commit {commit}; {provenance.now()}.",
        "",
        "Medians of interleaved repeats in one process; **ratio = peer / ours**, above 1 where ours is faster, [10th,",
        "90th percentile] over the repeats. Where a peer can take our field its results were first compared with ours.",
        "",
    ]
    for (case, device), part in speed.groupby(["case", "device"], sort=False):
        lines += [f"## {case} ({device})", ""]
        if part["state"].eq(NOT_RUN).all():
            lines += [f"{NOT_RUN}: needs CUDA", ""]
            continue
        lines += ["| work | peer | ours ms | peer ms | ratio | target | met | note |"]
        lines += ["|---" * 8 + "|", *[_line(row) for row in part.itertuples()], ""]
    lines += ["## What each can do", "", "| " + " | ".join(able.columns) + " |", "|---" * len(able.columns) + "|"]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in able.itertuples(index=False)]
    return "\n".join(lines) + "\n"


def _line(row: Any) -> str:
    numbers = [row.state, "", ""]
    if row.state == MEASURED:
        ratio = f"**{row.ratio:.3g}** [{row.ratio_p10:.3g}, {row.ratio_p90:.3g}]"
        numbers = [f"{row.ours_ms:.3g}", f"{row.peer_ms:.3g}", ratio]
    return f"| {' | '.join([row.work, f'{row.peer} {row.version}'.strip(), *numbers, row.target, row.met, row.note])} |"


def figure(speed: pd.DataFrame) -> "Figure":
    """Ratios on a logarithmic axis: a column a device, a panel a case, a line a peer; ticks mark the targets.

    Works that have no colour of their own, parts of training steps, have a line each, and are named.
    """
    import matplotlib.pyplot as plt

    from fewlabels.plots import COLOURS

    speed = speed[speed["state"] == MEASURED].assign(kind=speed["work"].str.removeprefix("draw, "))
    other = ~speed["kind"].isin(WORKS)
    named = other & (other.groupby([speed["case"], speed["device"]]).transform("sum") > 1)
    speed["line"] = speed["peer"].where(~named, speed["peer"] + " / " + speed["work"])
    styles = {FORWARD: (COLOURS[0], "o", -0.22), IMAGE: (COLOURS[1], "s", 0), BOTH: (COLOURS[2], "D", 0.22)}
    columns = [[*part.groupby("case", sort=False)] for _, part in speed.groupby("device", sort=False)]
    lines = [[part["line"].nunique() + 2.2 for _, part in panels] for panels in columns]  # a title takes 2.2
    tallest = max(map(sum, lines))
    size = (7.2 if len(columns) == 1 else 5.6 * len(columns), 0.165 * tallest + 0.9)
    figure = plt.figure(figsize=size, layout="constrained")
    reach = [value for name in ("ratio_p10", "ratio_p90", "ratio") for value in speed[name].astype(float)]
    reach += [aimed(target) for target in speed["target"] if target]
    columns_drawn = figure.subfigures(1, len(columns), squeeze=False)[0]
    for column, panels, heights in zip(columns_drawn, columns, lines):
        rest = tallest - sum(heights)  # nothing, below the shorter column
        heights = [*heights, rest] if rest else heights
        axes = column.subplots(len(heights), 1, height_ratios=heights, sharex=True, squeeze=False)[:, 0]
        for axis, (case, part) in zip(axes, panels):
            _panel(axis, part, styles)
            axis.set_title(f"{case} ({part['device'].iloc[0]})", fontsize=8, loc="left", pad=3)
            axis.set(xscale="log", xlim=(min(reach) / 1.4, max(reach) * 1.4))
        axis.tick_params(axis="x", which="major", labelbottom=True, labelsize=7)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_xlabel("time of the peer / time of ours (right of 1: ours is faster)", fontsize=8)
        for axis in axes[len(panels) :]:
            axis.axis("off")
    handles = [
        plt.Line2D([], [], color=colour, marker=marker, markersize=3.6, linewidth=1, label=WORKS[kind])
        for kind, (colour, marker, _) in styles.items()
    ]
    handles.append(
        plt.Line2D([], [], color="black", marker="^", markersize=3.6, linestyle="", label="as row or panel says")
    )
    handles.append(plt.Line2D([], [], color="black", marker="|", markersize=7, linestyle="", label="target"))
    figure.legend(handles=handles, loc="outside upper center", ncols=5, frameon=False, fontsize=7, columnspacing=1)
    return figure


def _panel(axis: "Axes", part: pd.DataFrame, styles: dict[str, tuple[str, str, float]]) -> None:
    import seaborn as sns

    names = list(dict.fromkeys(part["line"]))
    row: Any  # a named tuple of the line
    for row in part.itertuples():
        colour, marker, shift = styles.get(row.kind, ("black", "^", 0))
        y = names.index(row.line) + shift
        axis.plot([row.ratio_p10, row.ratio_p90], [y, y], color=colour, linewidth=1)
        axis.plot(row.ratio, y, marker=marker, color=colour, markersize=3.6, linestyle="")
        if row.target:
            axis.plot(aimed(row.target), y, marker="|", color="black", markersize=7, markeredgewidth=1.4)
        if row.kind not in styles and row.line == row.peer:
            place: dict[str, Any] = {"xy": (0.995, 0.06), "xycoords": "axes fraction", "ha": "right", "va": "bottom"}
            axis.annotate(f"ours: {row.work}", **place, fontsize=5.5, color="dimgrey")
    axis.axvline(1, color="grey", linewidth=0.7, zorder=0)
    axis.grid(axis="x", linewidth=0.3)
    axis.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.4, -0.6))
    axis.tick_params(axis="y", labelsize=7, length=0)
    axis.tick_params(axis="x", which="both", length=2)
    sns.despine(ax=axis)
