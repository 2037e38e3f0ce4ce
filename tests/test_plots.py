"""What figures name and how far their axes reach."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fewlabels import plots
from fewlabels.bench import report
from fewlabels.bench.timing import COLUMNS, MEASURED


@pytest.fixture(autouse=True)
def closed():
    yield
    plots.plt.close("all")


def table(rows):
    return pd.DataFrame(rows, columns=["row", "column", "ours_mean", "ours_sd", "paper_mean"])


@pytest.mark.parametrize(("unit", "top"), [("IoU (%)", 100), ("Dice", 1)])
def test_axes_end_where_scores_do_and_rows_keep_off_them(unit, top):
    rows = [("A", "Lungs", 0.97 * top, 0.1 * top, None), ("B", "Lungs", 0.04 * top, 0.1 * top, 0.5 * top)]
    [axis] = plots.by_structure(table(rows), ["Lungs"], xlabel=unit).axes
    assert axis.get_xlim() == (0, top)
    bottom, highest = axis.get_ylim()
    assert bottom > 1
    assert highest < 0


def test_error_bars_are_of_several_runs_only():
    rows = [("A", "x", 0.5, None, None), ("B", "x", 0.4, 0.1, None)]
    [axis] = plots.by_structure(table(rows), ["x"], xlabel="Dice", spread="seeds").axes
    bars = np.array([bar for bar in axis.containers[0].lines[2][0].get_segments() if len(bar)])
    assert np.ptp(bars[np.isfinite(bars).all((1, 2))][..., 0], axis=1) == pytest.approx([0.2])
    figure = plots.by_structure(table(rows[:1]), ["x"], xlabel="Dice", spread="seeds")
    assert not figure.axes[0].containers[0].has_xerr
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ours"]


@pytest.mark.parametrize("large", [2, 4])
def test_outlines_of_neighbours_are_both_seen_along_their_border(large, tmp_path):
    """A small structure within a large one, of the lower and of the higher class."""
    small, labels = 6 - large, np.full((32, 32), large)
    labels[12:20, 8:24] = small
    figure, axis = plots.plt.subplots(figsize=(1.6, 1.6))
    plots.picture(axis, np.zeros((32, 32)), labels)
    plots.save(figure, tmp_path / "new" / "x.png")
    with Image.open(tmp_path / "new" / "x.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    for c in (small, large):
        assert (np.abs(pixels - 255 * np.array(plots.OUTLINES[c])).max(-1) < 40).sum() > 100


def test_maps_are_compared_in_rows_of_one_image():
    images, maps = np.arange(2)[:, None, None] * np.ones((2, 4, 4)), {name: np.zeros((2, 4, 4), int) for name in "abc"}
    maps["b"][1, 1:3, 1:3] = 1
    axes = np.reshape(plots.compared(images, maps).axes, (2, 3))
    assert [[axis.get_title() for axis in row] for row in axes] == [["a", "b", "c"]] * 2
    assert [[float(axis.images[0].get_array().max()) for axis in row] for row in axes] == [[0] * 3, [1] * 3]
    assert [[len(axis.collections) for axis in row] for row in axes] == [[0] * 3, [0, 1, 0]]


def test_parts_of_a_step_have_a_line_each_in_the_benchmarks_figure():
    numbers = {"ratio": 20.0, "ratio_p10": 18.0, "ratio_p90": 22.0, "target": "", "device": "cpu", "state": MEASURED}
    rows = [{"case": "G", "peer": "the step", "work": work} | numbers for work in ("noise", "shift")]
    rows += [{"case": "H", "peer": "the whole", "work": "its fields"} | numbers]
    figure = report.figure(pd.DataFrame(rows, columns=COLUMNS))
    assert [t.get_text() for axis in figure.axes for t in axis.get_yticklabels()] == [
        "the step / noise", "the step / shift", "the whole",
    ]  # fmt: skip
    assert [text.get_text() for text in figure.axes[1].texts] == ["ours: its fields"]
