"""What the legend names."""

import pandas as pd

from fewlabels.papers.chaitanya2019 import figures


def test_the_legend_names_what_is_drawn_only():
    rows = [("A", "RV, 1", None, None, 0.6), ("A", "RV, 3", 0.3, 0.1, None)]
    table = pd.DataFrame(rows, columns=["row", "column", "ours_mean", "ours_sd", "paper_mean"])
    figure = figures.by_volumes(table, ["RV", "RV"])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "in the paper, 1",
        "ours, 3 volumes (± sd of runs)",
    ]
