"""What figures name and how far their axes reach."""

import numpy as np
import pandas as pd
import pytest

from fewlabels import plots
from fewlabels.bench import report
from fewlabels.bench.timing import COLUMNS, MEASURED
from fewlabels.papers.vorontsov2019 import figures

METRICS = ("miou", "validation_miou", "folding", "excluded")


@pytest.fixture(autouse=True)
def closed():
    yield
    plots.plt.close("all")


def table(rows):
    return pd.DataFrame(rows, columns=["row", "column", "ours_mean", "ours_sd", "paper_mean"])


def names(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_legend_names_what_is_drawn_only():
    figure = plots.by_volumes(table([("A", "RV, 1", None, None, 0.6), ("A", "RV, 3", 0.3, 0.1, None)]), ["RV", "RV"])
    assert names(figure) == ["in the paper, 1", "ours, 3 volumes (± sd of runs)"]


@pytest.mark.parametrize(("unit", "top"), [("IoU (%)", 100), ("Dice", 1)])
def test_axes_end_where_scores_do_and_rows_keep_off_them(unit, top):
    rows = [("A", "Lungs", 0.97 * top, 0.1 * top, None), ("B", "Lungs", 0.04 * top, 0.1 * top, 0.5 * top)]
    [axis] = plots.by_structure(table(rows), ["Lungs"], xlabel=unit).axes
    assert axis.get_xlim() == (0, top)
    bottom, highest = axis.get_ylim()
    assert bottom > 1
    assert highest < 0


def test_the_rms_has_the_unit_of_its_kind():
    history = [{"step": s, "loss_of_clean": 1.0} for s in (1, 2)]
    for kind in ("affine", "deformation", "appearance"):
        history = [e | {f"loss_of_{kind}": 1.0, f"loss_of_random_{kind}": 1.0, f"rms_{kind}": 0.1} for e in history]
    found = [axis.get_ylabel() for axis in plots.challenge({"Comb": history}).axes]
    assert found[3:] == ["RMS (half sides)", "RMS (half sides)", "RMS (of intensities 0 to 1)"]


def test_lines_of_amplitudes_lie_beside_one_another():
    rows = [(a, m, k, n) for a in (1.0, 4.0) for m in ("Baseline", "SemiTC") for k in (0, 1) for n in METRICS]
    scores = pd.DataFrame(rows, columns=["amplitude", "method", "split", "metric"]).assign(value=0.5, labels=5, seed=0)
    scores = scores.assign(subject="all", structure="all")
    axis = plots.against_amplitude(scores).axes[0]
    places = {float(line.get_xdata()[0]) for line in axis.lines if len(line.get_xdata())}
    assert len([place for place in places if place < 2]) == 4


def test_residuals_have_one_range_and_a_colour_bar():
    small, smaller = np.full((2, 8, 8), -0.2), np.full((2, 8, 8), 0.1)
    signed, grey = figures.SIGNED, figures.GREY
    figure = figures.rows({"x": (small, grey), "a": (small, signed), "b": (smaller, signed)})
    *pictures, bar = figure.axes
    limits = [axis.images[0].get_clim() for axis in pictures]
    assert np.allclose(limits[2:], (-0.2, 0.2))
    assert limits[:2] == [(0, 1)] * 2
    assert bar.get_ylabel()
    assert len(figures.rows({"x": (small, grey)}).axes) == 2  # no bar


@pytest.mark.parametrize("titles", [None, ["a", "b"]])
@pytest.mark.parametrize("size", [(8, 8), (16, 8), (8, 24)], ids=str)
def test_pictures_in_rows_are_as_large_as_asked_and_one_gap_apart(size, titles):
    pictures = np.zeros((2, *size))
    looks = {"a": (pictures, figures.GREY), "b": (pictures, figures.SIGNED)}
    figure = figures.rows(looks, titles, size=1.0)
    figure.draw_without_rendering()
    *axes, bar = [axis.get_window_extent().transformed(figure.dpi_scale_trans.inverted()) for axis in figure.axes]
    height, width = np.array(size) / max(size)
    assert np.allclose([(axis.width, axis.height) for axis in axes], (width, height))
    assert np.allclose(axes[1].x0 - axes[0].x1, axes[0].y0 - axes[2].y1)
    assert bar.x0 > axes[1].x1


def test_validation_curves_are_means_with_the_range_of_runs():
    runs = [[{"step": s, "validation": 10.0 * s + d} for s in (1, 2)] for d in (0, 2, 7)]
    figure = figures.validation_curves({("a", "x"): runs, ("b", "x"): runs[:1], ("b", "y"): runs[1:2]})
    x, y = figure.axes
    assert [axis.get_title() for axis in (x, y)] == ["x", "y"]
    assert np.allclose(x.lines[0].get_xydata(), [(1, 0.13), (2, 0.23)])
    assert np.allclose(x.lines[1].get_xydata(), [(1, 0.1), (2, 0.2)])
    assert np.allclose(y.lines[-1].get_xydata(), [(1, 0.12), (2, 0.22)])
    band = x.collections[0].get_paths()[0].vertices
    assert {(round(a), round(b, 4)) for a, b in band} >= {(1, 0.1), (1, 0.17), (2, 0.2), (2, 0.27)}


def test_parts_of_a_step_have_a_line_each_in_the_benchmarks_figure():
    numbers = {"ratio": 20.0, "ratio_p10": 18.0, "ratio_p90": 22.0, "target": "", "device": "cpu", "state": MEASURED}
    rows = [{"case": "G", "peer": "the step", "work": work} | numbers for work in ("noise", "shift")]
    rows += [{"case": "H", "peer": "the whole", "work": "its fields"} | numbers]
    figure = report.figure(pd.DataFrame(rows, columns=COLUMNS))
    assert [t.get_text() for axis in figure.axes for t in axis.get_yticklabels()] == [
        "the step / noise", "the step / shift", "the whole",
    ]  # fmt: skip
    assert [text.get_text() for text in figure.axes[1].texts] == ["ours: its fields"]
