"""What a command says of a result folder when it is done."""

import csv

import pandas as pd
import pytest

from fewlabels.engine import params
from fewlabels.engine.summary import summary
from fewlabels.paths import CHECKOUT

QUICK = sorted((CHECKOUT / "results").glob("*/*-quick"))
TABLE = """Table 9 of X et al.: what it is. Data: **phantom**.

| Method | 5 labels | 10 labels | loss |
|---|---|---|---|
| A | **70.1 ± 2.0** (n = 2)<br>paper 74.2 ± 3.8 | not run<br>paper 82.8 | **9.0** (n = 1) |
| B+ | **7.5** (n = 1)<br>paper 99.0 | not run<br>paper 83.6 | - |
| C | not run<br>paper 1.0 | - | - |
"""
SAID = """Table 9 of X et al.

Method  5 labels    loss
A       70.1 ± 2.0  9.0
B+      7.5         -
Best, 5 labels: A 70.1 ± 2.0

Claims of the paper: 2 not run, 1 supported

To open, in made/
  table9.md
  figure1.png, figure2.png
  x.ipynb"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "table9.md").write_text(TABLE)
    for name in ("figure2.png", "figure1.png", "x.ipynb", "scores.csv", ".figure3.png.12"):
        (folder / name).touch()
    pd.DataFrame({"verdict": ["not run", "supported", "not run"]}).to_csv(folder / "claims.csv")
    return folder


def test_table_best_claims_and_files(folder):
    assert summary(folder, r"\d+ labels") == SAID
    assert "Best" not in summary(folder)


def test_the_best_of_each_place(folder):
    rows = ["noise, A | 60", "noise, B | 70", "shift, A | 95", "shift, B (1, 2) | 94"]
    lines = "\n".join(f"| {row.replace(' | ', ' | **')}** (n = 1) |" for row in rows)
    (folder / "table9.md").write_text(f"Title: x.\n\n**one**: words\n\n| Method | acc |\n|---|---|\n{lines}\n")
    assert "\nBest, acc: noise, B 70; shift, A 95\n" in summary(folder, ".*")


def test_a_table_without_a_number_of_ours_is_not_shown(folder):
    (folder / "table9.md").write_text("Title: x.\n\n| Method | a |\n|---|---|\n| A | not run<br>paper 3 |\n")
    assert summary(folder, ".*").startswith("Claims of the paper")


@pytest.mark.parametrize("path", QUICK, ids=lambda path: path.parent.name)
def test_of_every_experiment_it_names_the_best(path):
    """The value behind the name is the highest of its column in the table that is stored."""
    best = params.load(CHECKOUT / "params" / path.parent.name / "quick.yaml")[0].BEST
    said = summary(path, best)
    lines = [line for line in said.splitlines() if line.startswith("Best, ")]
    assert lines
    highest = {}
    for file in path.glob("*.csv"):
        with file.open(newline="") as opened:
            rows = [row for row in csv.DictReader(opened) if row.get("ours_mean")]
        for row in rows:
            highest[row["column"]] = max(highest.get(row["column"], 0), float(row["ours_mean"]))
    for line in lines:
        column, found = line.removeprefix("Best, ").split(": ", 1)
        column = column.removesuffix(" labels")
        values = [float(part.split(" ± ")[0].rsplit(" ", 1)[1]) for part in found.split("; ")]
        digits = len(str(values[0]).split(".")[1])
        if path.parent.name != "cifar10":  # whose table has two modes
            assert max(values) == pytest.approx(round(highest[column], digits), abs=0.051)
    assert str(path.relative_to(CHECKOUT)) in said
