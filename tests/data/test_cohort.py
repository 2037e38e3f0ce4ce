"""What a Cohort and a Split refuse, and when two cohorts are the same data."""

import dataclasses

import pytest
import torch

from fewlabels.data.cohort import Cohort, Split
from fewlabels.errors import BadInput

IDS = ("a", "b", "c")


def make(**changed):
    fields = {
        "images": torch.arange(3 * 4 * 5, dtype=torch.float32).view(3, 1, 4, 5),
        "labels": torch.arange(3 * 4 * 5).view(3, 4, 5) % 3,
        "ids": IDS,
        "classes": ("background", "x", "y"),
        "spacing_mm": (1.0, 2.0),
        "groups": IDS,
        "meta": {"data": "made", "source": "here"},
    }
    return Cohort(**fields | changed)


def test_a_cohort():
    cohort = make()
    assert len(cohort) == 3
    assert cohort.index(("c", "a")).tolist() == [2, 0]
    assert cohort.index(()).tolist() == []
    assert cohort.index(()).dtype == torch.long  # indexes even when there is nothing
    assert make(labels=torch.tensor([0, 1, 2])).labels.shape == (3,)  # classification


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"ids": ("a", "b", "a")}, "cohort ids: expected unique names, found 1 repeated"),
        ({"images": torch.zeros(2, 1, 4, 5)}, "cohort images: expected 3, one for each id, found 2"),
        ({"labels": torch.zeros(4, 4, 5, dtype=torch.long)}, "cohort labels: expected 3, one for each id, found 4"),
        ({"groups": ("a",)}, "cohort groups: expected 3, one for each id, found 1"),
        ({"classes": ("background", "x")}, "cohort labels: expected values 0 to 1, found 0 to 2"),
        ({"labels": torch.full((3, 4, 5), -1)}, "cohort labels: expected values 0 to 2, found -1 to -1"),
    ],
)
def test_what_a_cohort_refuses(changed, text):
    with pytest.raises(BadInput) as refused:
        make(**changed)
    assert str(refused.value) == text


def test_an_id_that_is_not_there():
    with pytest.raises(KeyError):
        make().index(("a", "nobody"))


def test_a_cohort_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().ids = ("x", "y", "z")
    with pytest.raises(dataclasses.FrozenInstanceError):
        Split(("a",), (), (), ()).test = ("b",)


def test_fingerprint():
    cohort = make()
    assert len(cohort.fingerprint()) == 64
    assert cohort.fingerprint() == make().fingerprint()
    transposed = cohort.images.transpose(2, 3).contiguous().transpose(2, 3)  # the same values, otherwise in memory
    assert make(images=transposed).fingerprint() == cohort.fingerprint()
    assert make(meta={"data": "other"}).fingerprint() == cohort.fingerprint()

    pixel, label = cohort.images.clone(), cohort.labels.clone()
    pixel[1, 0, 2, 3] += 1e-4
    label[2, 0, 0] = (label[2, 0, 0] + 1) % 3
    others = [make(images=pixel), make(labels=label), make(ids=("a", "b", "d")), make(ids=("b", "a", "c"))]
    assert len({other.fingerprint() for other in others} | {cohort.fingerprint()}) == 5


@pytest.mark.parametrize(
    "parts",
    [
        (("a", "b"), ("b",), (), ()),
        (("a",), ("b",), ("a",), ()),
        (("a",), (), ("b",), ("b",)),
        ((), ("a",), (), ("a",)),
        (("a", "a"), (), (), ()),
    ],
)
def test_an_id_in_two_parts_of_a_split(parts):
    with pytest.raises(BadInput, match="split: expected each id in one part, found 1 in two"):
        Split(*parts)


def test_a_split_of_all():
    split = Split(("a",), ("b",), (), ("c",))
    assert split.labelled + split.unlabelled + split.validation + split.test == IDS
