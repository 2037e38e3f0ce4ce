"""The scale of what was run, in words and as a number."""

from fractions import Fraction

import pandas as pd
import pytest

from fewlabels.engine import experiments, params
from fewlabels.paths import CHECKOUT
from fewlabels.scores.scale import of_paper, share

NOTHING = pd.DataFrame({"metric": [], "value": []})


@pytest.mark.parametrize(
    ("words", "number", "parts"),
    [
        ("64 of 512 px, 1/17 of the steps", Fraction(1, 8 * 17), {"steps": (600, 10000), "size": (64, 512)}),
        ("paper scale", 1, {"steps": (10000, 10000), "size": (512, 512)}),
        ("paper scale", 1, {"steps": (20000, 10000)}),  # more is no less
        ("7,500 of 10,000 steps", Fraction(3, 4), {"steps": (7500, 10000)}),
        ("1/2 of the steps, 1/4 of the width", Fraction(1, 8), {"steps": (5, 10), "width": (8, 32)}),
        ("1,000 of 8,000 voxels", Fraction(1, 8), {"steps": (1, 1), "size": (1000, 8000), "unit": "voxels"}),
        (
            "64 of 512 px, 2 of 228 patients, 1/2 of the steps, 8-bit copy",
            Fraction(1, 8 * 114 * 2),
            {
                "steps": (1, 2),
                "size": (64, 512),
                "counts": [(2, 228, "patients"), (9, 9, "hats")],
                "beside": ["", "8-bit copy"],
            },
        ),
        ("8-bit copy", 1, {"steps": (1, 1), "beside": ["8-bit copy"]}),
    ],
)
def test_words_and_share(words, number, parts):
    assert of_paper(**{"width": (1, 1)} | parts) == words
    assert share(words) == number


@pytest.mark.parametrize("name", sorted(experiments.modules()))
def test_the_paper_profile_is_at_the_papers_scale(name):
    experiment, config = params.load(CHECKOUT / "params" / name / "paper.yaml")
    assert experiment.scale(config, name, NOTHING) == "paper scale"
    experiment, config = params.load(CHECKOUT / "params" / name / "lite.yaml")
    assert 0 < share(experiment.scale(config, name, NOTHING)) < Fraction(1, 4)


PATIENTS = pd.DataFrame({"metric": ["patients", "dice_global"], "value": [2.0, 0.5]})
LITE = {  # experiment: the copy at hand, and what is said of `lite` there
    "jsrt": ("jsrt-8bit", "64 of 512 px, 1/5 of the steps, 1/2 of the width, 8-bit copy"),
    "acdc": (
        "acdc-unspaced",
        "64 of 144 px, 1/10 of the steps, 1/2 of the width, the middle 144 px alone, copy without spacing",
    ),
    "isic": (
        "ham10000-200px",
        "64 of 224 px, 2,500 of 8,012 images, 1/11 of the steps, 1/2 of the width, ResNet-10-w16 in place of the "
        "paper's networks, copy of 200 px",
    ),
    "oar": ("openkbp-for-pddca", "1/50 of the steps, 1/4 of the width, OpenKBP in place of PDDCA"),
    "cifar10": ("cifar10-jpeg", "24,000 of 49,000 images, 1/10 of the steps, 1/6 of the width, JPEG copy"),
    "brats": (
        "brats2015-2seq",
        "120 of 240 px, 2 of 228 training patients, 2 of 4 sequences, 1/1000 of the steps, 1/2 of the width",
    ),
    "mnist": ("mnist", "20,000 of 59,500 images, 1/595 of the steps, 1/4 of the width"),
}


@pytest.mark.parametrize("name", LITE)
def test_what_else_differs_is_said(name):
    """Networks, patients, the part of an image, and a copy that is not the official files."""
    experiment, config = params.load(CHECKOUT / "params" / name / "lite.yaml")
    data, words = LITE[name]
    assert experiment.scale(config, data, PATIENTS).endswith(words)
    _, config = params.load(CHECKOUT / "params" / name / "paper.yaml")
    assert (experiment.scale(config, data, NOTHING) == "paper scale") == (data == name)
