"""What lines join, what is dashed, where error bars and legends are."""

import numpy as np
import pandas as pd
import pytest

from fewlabels.papers.bortsova2019 import figures

METRICS = ("miou", "validation_miou", "folding", "excluded")


@pytest.fixture(autouse=True)
def closed():
    yield
    figures.plt.close("all")


def test_no_line_across_label_counts_that_were_not_measured_and_no_bars_of_one_run():
    rows = [("a", 5, 70.0, 1.0), ("a", 10, None, None), ("a", 25, 80.0, None)]
    rows += [("b", 5, 71.0, None), ("b", 10, 72.0, None)]
    table = pd.DataFrame(rows, columns=["row", "column", "ours_mean", "ours_sd"]).assign(paper_mean=75.0)
    [axis] = figures.against_labels(table).axes
    solid = [line.get_ydata() for line in axis.lines if line.get_linestyle() == "-"]
    assert np.array_equal(solid, [[70, np.nan, 80], [71, 72, np.nan]], equal_nan=True)
    several, single = axis.containers
    assert several.has_yerr
    assert not single.has_yerr
    bars = np.array([bar for bar in several.lines[2][0].get_segments() if len(bar)])
    assert np.ptp(bars[np.isfinite(bars).all((1, 2))][..., 1], axis=1) == pytest.approx([2])


def test_the_loss_that_the_baseline_does_not_train_is_dashed_and_named():
    history = [{"step": step, "loss_sup": 0.1, "loss_cons": 0.2, "validation": 70} for step in (1, 2)]
    figure = figures.learning_curves({"Baseline": history, "SemiTC": history})
    dashed = [[line.get_linestyle() == "--" for line in axis.lines] for axis in figure.axes]
    assert dashed == [[False, False], [True, False], [False, False]]
    assert "Baseline, measured, not trained" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_lines_of_amplitudes_lie_beside_one_another():
    rows = [(a, m, k, n) for a in (1.0, 4.0) for m in ("Baseline", "SemiTC") for k in (0, 1) for n in METRICS]
    scores = pd.DataFrame(rows, columns=["amplitude", "method", "split", "metric"]).assign(value=0.5, labels=5, seed=0)
    scores = scores.assign(subject="all", structure="all")
    axis = figures.against_amplitude(scores).axes[0]
    places = {float(line.get_xdata()[0]) for line in axis.lines if len(line.get_xdata())}
    assert len([place for place in places if place < 2]) == 4


def test_legends_of_amplitudes_lie_below_all_lines():
    rows = [(a, m, k, n) for a in (1.0, 4.0) for m in ("Baseline", "SemiTC") for k in (0, 1) for n in METRICS]
    scores = pd.DataFrame(rows, columns=["amplitude", "method", "split", "metric"]).assign(value=0.5, labels=5, seed=0)
    figure = figures.against_amplitude(scores.assign(subject="all", structure="all"))
    figure.draw_without_rendering()
    for axis in figure.axes:
        labels_of_x = axis.xaxis.label.get_window_extent()
        assert axis.get_legend().get_window_extent().y1 <= labels_of_x.y0
