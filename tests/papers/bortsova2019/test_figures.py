"""Lines of several amplitudes."""

import pandas as pd

from fewlabels.papers.bortsova2019 import figures

METRICS = ("miou", "validation_miou", "folding", "excluded")


def test_lines_of_amplitudes_lie_beside_one_another():
    rows = [(a, m, k, n) for a in (1.0, 4.0) for m in ("Baseline", "SemiTC") for k in (0, 1) for n in METRICS]
    scores = pd.DataFrame(rows, columns=["amplitude", "method", "split", "metric"]).assign(value=0.5, labels=5, seed=0)
    scores = scores.assign(subject="all", structure="all")
    axis = figures.against_amplitude(scores).axes[0]
    places = {float(line.get_xdata()[0]) for line in axis.lines if len(line.get_xdata())}
    assert len([place for place in places if place < 2]) == 4
