"""The scale of what was run, in words and as a number."""

from fractions import Fraction

import pytest

from fewlabels.engine import experiments, params
from fewlabels.paths import CHECKOUT
from fewlabels.scores.scale import of_paper, share


@pytest.mark.parametrize(
    ("words", "number", "parts"),
    [
        ("64 of 512 px, 1/17 of the steps", Fraction(1, 8 * 17), {"steps": (600, 10000), "size": (64, 512)}),
        ("paper scale", 1, {"steps": (10000, 10000), "size": (512, 512)}),
        ("paper scale", 1, {"steps": (20000, 10000)}),  # more is no less
        ("7,500 of 10,000 steps", Fraction(3, 4), {"steps": (7500, 10000)}),
        ("1/2 of the steps, 1/4 of the width", Fraction(1, 8), {"steps": (5, 10), "width": (8, 32)}),
        ("1,000 of 8,000 voxels", Fraction(1, 8), {"steps": (1, 1), "size": (1000, 8000), "unit": "voxels"}),
    ],
)
def test_words_and_share(words, number, parts):
    assert of_paper(**{"width": (1, 1)} | parts) == words
    assert share(words) == number


@pytest.mark.parametrize("name", sorted(experiments.modules()))
def test_the_paper_profile_is_at_the_papers_scale(name):
    experiment, config = params.load(CHECKOUT / "params" / name / "paper.yaml")
    assert experiment.scale(config) == "paper scale"
    experiment, config = params.load(CHECKOUT / "params" / name / "lite.yaml")
    assert 0 < share(experiment.scale(config)) < Fraction(1, 4)
