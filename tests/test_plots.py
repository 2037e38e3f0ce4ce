"""What figures name and how far their axes reach."""

import pandas as pd
import pytest

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


def test_parts_of_a_step_have_a_line_each_in_the_benchmarks_figure():
    numbers = {"ratio": 20.0, "ratio_p10": 18.0, "ratio_p90": 22.0, "target": "", "device": "cpu", "state": MEASURED}
    rows = [{"case": "G", "peer": "the step", "work": work} | numbers for work in ("noise", "shift")]
    rows += [{"case": "H", "peer": "the whole", "work": "its fields"} | numbers]
    figure = report.figure(pd.DataFrame(rows, columns=COLUMNS))
    assert [t.get_text() for axis in figure.axes for t in axis.get_yticklabels()] == [
        "the step / noise", "the step / shift", "the whole",
    ]  # fmt: skip
    assert [text.get_text() for text in figure.axes[1].texts] == ["ours: its fields"]
