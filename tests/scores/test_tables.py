"""The tables against means that are computed here, by hand or by another way round pandas."""

import numpy as np
import pandas as pd
import pytest

from fewlabels.engine import params
from fewlabels.papers.bortsova2019 import jsrt as experiment
from fewlabels.paths import CHECKOUT
from fewlabels.scores.tables import beside_paper, markdown, summarise

LITE = params.load(CHECKOUT / "params/jsrt/lite.yaml")[1]
NAMES = ["method", "labels", "split", "seed"]


@pytest.fixture
def runs():
    """Three splits of A at 5 labels, one at 10; B at 5 only; seeds differ."""
    values = {
        ("A", 5, 0, 0): 70.0,
        ("A", 5, 1, 0): 74.0,
        ("A", 5, 2, 1): 81.0,
        ("A", 10, 0, 0): 88.888,
        ("B", 5, 0, 0): 60.0,
        ("B", 5, 1, 0): 61.0,
    }
    return pd.Series(values.values(), index=pd.MultiIndex.from_tuples(values, names=NAMES))


@pytest.fixture
def paper():
    rows = [("A", 5, 74.2, 3.8), ("A", 10, 82.8, 1.3), ("B", 10, 83.6, np.nan), ("C", 5, 1.0, 1.0)]
    return pd.DataFrame(rows, columns=["row", "column", "mean", "sd"])


def test_summarise(runs):
    table = summarise(runs).set_index(["row", "column"])
    assert len(table) == 3
    assert table.loc[("A", 5), "mean"] == pytest.approx((70 + 74 + 81) / 3)
    assert table.loc[("A", 5), "sd"] == pytest.approx(np.std([70, 74, 81], ddof=1))
    assert table.loc[("A", 5), "n"] == 3
    assert table.loc[("A", 10), "mean"] == 88.888
    assert np.isnan(table.loc[("A", 10), "sd"])  # one run has no spread
    assert table.loc[("B", 5), "mean"] == 60.5


def test_summarise_by_other_names(runs):
    table = summarise(runs, row="split", column="method").set_index(["row", "column"])
    assert table.loc[(0, "A"), "mean"] == pytest.approx((70 + 88.888) / 2)


def test_beside_paper(runs, paper):
    table = beside_paper(summarise(runs), paper, ["B", "A"], [5, 10])
    assert list(table.columns) == "row column ours_mean ours_sd ours_n paper_mean paper_sd".split()
    assert list(zip(table["row"], table["column"], strict=True)) == [("B", 5), ("B", 10), ("A", 5), ("A", 10)]
    by = table.set_index(["row", "column"])
    assert by.loc[("A", 5)].tolist() == pytest.approx([75.0, 5.57, 3, 74.2, 3.8], abs=0.01)
    one_run = by.loc[("A", 10), ["ours_mean", "ours_n", "paper_mean"]].tolist()
    assert one_run == pytest.approx([88.89, 1, 82.8], abs=0.01)
    assert by.loc[("B", 5), ["ours_mean", "ours_n"]].tolist() == [60.5, 2]
    assert pd.isna(by.loc[("B", 5), "paper_mean"])  # ours alone
    assert pd.isna(by.loc[("B", 10), "ours_mean"])  # the paper's alone
    assert pd.isna(by.loc[("B", 10), "ours_n"])
    assert by.loc[("B", 10), "paper_mean"] == 83.6


def test_a_cell_of_neither_is_left_out(runs, paper):
    table = beside_paper(summarise(runs), paper, ["A", "C"], [5, 10, 25])
    assert set(zip(table["row"], table["column"], strict=True)) == {("A", 5), ("A", 10), ("C", 5)}


def test_markdown(runs, paper):
    text = markdown(beside_paper(summarise(runs), paper, ["A", "B"], [5, 10, 25]), "Method", "Caption.", "{} labels")
    assert text.splitlines() == [
        "Caption.",
        "",
        "| Method | 5 labels | 10 labels |",
        "|---|---|---|",
        "| A | **75.0 ± 5.6** (n = 3)<br>paper 74.2 ± 3.8 | **88.9** (n = 1)<br>paper 82.8 ± 1.3 |",
        "| B | **60.5 ± 0.7** (n = 2) | not run<br>paper 83.6 |",
    ]


def test_markdown_digits_and_rows_of_others(runs, paper):
    """A quoted row is not ours to run: the paper's number stands alone. A row of ours in it is shown all the same."""
    table = beside_paper(summarise(runs), paper, ["A", "B", "C"], [5, 10])
    lines = markdown(table, "Method", "", digits=2, others=["B", "C"]).splitlines()
    assert lines[4:] == [
        "| A | **75.00 ± 5.57** (n = 3)<br>paper 74.20 ± 3.80 | **88.89** (n = 1)<br>paper 82.80 ± 1.30 |",
        "| B | **60.50 ± 0.71** (n = 2) | paper 83.60 |",
        "| C | paper 1.00 ± 1.00 | - |",
    ]
    assert "| C | not run<br>paper 1 ± 1 | - |" in markdown(table, "Method", "", digits=0, others=["B"])


def test_columns_of_fractions_in_numerical_order(runs):
    """Amplitudes, say; the first row lacks the smallest."""
    rows = [("A", 2.0, 1.0, 1.0), ("B", 0.5, 1.0, 1.0)]
    paper = pd.DataFrame(rows, columns=["row", "column", "mean", "sd"])
    table = beside_paper(summarise(runs).iloc[:0], paper, ["A", "B"], [0.5, 2.0])
    assert markdown(table, "Method", "", "{} %").splitlines()[2] == "| Method | 0.5 % | 2.0 % |"


def test_columns_in_numerical_order(runs):
    """Also when the first row lacks the smaller one."""
    paper = pd.DataFrame([("A", 100, 1.0, 1.0), ("B", 5, 1.0, 1.0)], columns=["row", "column", "mean", "sd"])
    table = beside_paper(summarise(runs.drop(index=[("A", 5)])), paper, ["A", "B"], [5, 10, 100])
    assert markdown(table, "Method", "").splitlines()[2] == "| Method | 5 | 10 | 100 |"


def test_named_columns_keep_their_order():
    names = ["Lungs", "Heart", "Clavicles"]
    paper = pd.DataFrame([("A", name, 1.0, 1.0) for name in names], columns=["row", "column", "mean", "sd"])
    ours = pd.DataFrame([("A", "Heart", 2.0, 0.5, 3)], columns=["row", "column", "mean", "sd", "n"])
    lines = markdown(beside_paper(ours, paper, ["A"], names), "Method", "").splitlines()
    assert lines[2] == "| Method | Lungs | Heart | Clavicles |"
    assert lines[4].count("not run") == 2


def test_table_1_of_jsrt():
    """From scores.csv: per-subject mIoU averaged in a run first, then over the runs."""
    rows = []
    for split, subjects in ((0, [70.0, 72.0]), (1, [80.0, 81.0, 85.0])):
        rows += [("SemiTC", 5, split, 0, f"s{i}", "all", "miou", value) for i, value in enumerate(subjects)]
        rows += [
            ("SemiTC", 5, split, 0, "s0", "heart", "iou", 1.0),
            ("SemiTC", 5, split, 0, "s0", "all", "miou_post", 2.0),
        ]
    rows += [("SemiTC (stop-gradient)", 7, 0, 0, "s0", "all", "miou", 33.0)]
    scores = pd.DataFrame(rows, columns="method labels split seed subject structure metric value".split())
    scores = scores.assign(amplitude=4.0, validation="all")
    matched = scores.assign(validation="matched", value=1.0)  # Table 2's runs, which have no part in Table 1
    table, write = experiment.tables(LITE, pd.concat([scores, matched]))["table1"]
    by = table.set_index(["row", "column"])
    assert by.loc[("SemiTC", 5)].tolist() == pytest.approx([76.5, 7.78, 2, 85.4, 1.0], abs=0.01)  # of 71 and 82
    assert by.loc[("SemiTC (stop-gradient)", 7), "ours_mean"] == 33.0
    assert len(table) == 19 + 1  # the paper's cells, and the one that it has not
    text = write("Data: made up.")
    assert "mIoU" in text.splitlines()[0]
    assert "Data: made up." in text.splitlines()[0]
    assert "| SemiTC | **76.5 ± 7.8** (n = 2)<br>paper 85.4 ± 1.0 | - | not run<br>paper 86.9 ± 1.4 |" in text
    assert text.count("not run") == 18


def test_a_mean_is_rounded_once():
    """70.449 is 70.4, not 70.45 and then 70.5."""
    ours = pd.DataFrame([("A", 5, 70.449, 1.0, 3)], columns=["row", "column", "mean", "sd", "n"])
    paper = pd.DataFrame([("A", 5, 1.0, 1.0)], columns=["row", "column", "mean", "sd"])
    assert "**70.4 ± 1.0**" in markdown(beside_paper(ours, paper, ["A"], [5]), "Method", "")


def test_columns_keep_the_order_they_are_given():
    ours = pd.DataFrame({"row": ["b"], "column": ["first"], "mean": [1.0], "sd": [0.1], "n": [3]})
    published = pd.DataFrame({"row": ["a", "b"], "column": ["second"] * 2, "mean": [2.0, 3.0], "sd": [None] * 2})
    table = beside_paper(ours, published, ["a", "b"], ["first", "second"])
    assert "| x | first | second |" in markdown(table, "x", "caption", columns=["first", "second"])
    assert "| x | second | first |" in markdown(table, "x", "caption")  # as they come
