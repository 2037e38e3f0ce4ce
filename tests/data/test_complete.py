"""What is said of data that are not all there."""

import pytest
from helpers import refused

from fewlabels.data.complete import of_all, paper_split
from fewlabels.errors import BadInput


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((247, 247, "images"), "247 of 247 images"),
        ((4, 10_015, "images"), "4 of 10,015 images"),
        ((98, 100, "patients", ["a", "b"]), "98 of 100 patients, without a, b"),
        ((97, 100, "patients", ("a", "b", "c")), "97 of 100 patients, without a, b, c"),
        ((0, 1234, "files", map(str, range(1234))), "0 of 1,234 files, without 0, 1, 2 and 1,231 more"),
    ],
)
def test_of_all(arguments, text):
    assert of_all(*arguments) == text


def test_a_split_that_cannot_be_made_is_refused_of_official_files_and_told_of_others():
    def impossible():
        raise BadInput("split", "5 lesions", 2)

    text = "the paper's split cannot be made of 3 of 9 images: split: expected 5 lesions, found 2"
    refused(lambda: paper_split("/data", "3 of 9 images", True, impossible), f"/data: {text}")
    told = "; the paper's split cannot be made: split: expected 5 lesions, found 2"
    assert paper_split("/data", "3 of 9 images", False, impossible) == told
    for official in (True, False):
        assert paper_split("/data", "9 of 9 images", official, lambda: None) == ""
