"""Rows of pictures, and curves of several runs."""

import numpy as np
import pytest

from fewlabels.papers.vorontsov2019 import figures


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
    assert "mean of runs" in figure.get_suptitle()
    assert figures.validation_curves({("a", "x"): runs[:1]}, "t").get_suptitle() == "t"
    assert [axis.get_title() for axis in (x, y)] == ["x", "y"]
    assert np.allclose(x.lines[0].get_xydata(), [(1, 0.13), (2, 0.23)])
    assert np.allclose(x.lines[1].get_xydata(), [(1, 0.1), (2, 0.2)])
    assert np.allclose(y.lines[-1].get_xydata(), [(1, 0.12), (2, 0.22)])
    band = x.collections[0].get_paths()[0].vertices
    assert {(round(a), round(b, 4)) for a, b in band} >= {(1, 0.1), (1, 0.17), (2, 0.2), (2, 0.27)}
