"""The chest phantom: the same subject whatever else is asked for, five structures in all, and no two alike."""

import numpy as np
import pytest
import torch

from fewlabels.data.phantoms import chest as module
from fewlabels.data.phantoms.chest import CLASSES, chest
from fewlabels.errors import BadInput


@pytest.fixture(scope="module")
def cohort():
    return chest()


def centroids(labels, c):
    """(row, column) of a structure in every subject, in sides of the image: `(N, 2)`."""
    size = labels.shape[-1]
    return np.array([np.argwhere(label == c).mean(0) / size for label in labels.numpy()])


def test_is_what_the_loader_of_the_real_ones_gives(cohort):
    assert cohort.images.shape == (247, 1, 64, 64)
    assert (cohort.images.dtype, cohort.labels.dtype) == (torch.float32, torch.int64)
    assert -1 <= cohort.images.min() < -0.9
    assert 0.9 < cohort.images.max() <= 1
    assert cohort.classes == ("background", "heart", "left clavicle", "right clavicle", "left lung", "right lung")
    assert (cohort.ids[0], cohort.ids[-1], cohort.meta["data"]) == ("PHANTOM001", "PHANTOM247", "phantom")
    assert cohort.spacing_mm == pytest.approx((5.6, 5.6))


def test_every_subject_has_every_structure(cohort):
    areas = torch.stack([(cohort.labels == c).flatten(1).sum(1) for c in range(1, 6)], dim=1)
    assert areas[:, [0, 3, 4]].min() >= 80
    assert areas[:, [1, 2]].min() >= 8


def test_lungs_are_the_labels_but_for_what_clavicles_cover(cohort):
    lungs, labels = cohort.meta["lungs"], cohort.labels
    assert (lungs.dtype, lungs.shape) == (torch.uint8, labels.shape)
    clavicle = (labels == 2) | (labels == 3)
    exclusive = torch.where(labels > 3, labels, 0)  # no heart
    assert lungs[~clavicle].long().equal(exclusive[~clavicle])
    for lung in (4, 5):
        assert ((lungs == lung) & clavicle).flatten(1).any(1).all()  # in every subject, before either lung


@pytest.mark.parametrize("size", [32, 64])
def test_lungs_are_the_labels_of_the_same_people_without_clavicles(monkeypatch, size):
    with_them, draw = chest(5, size=size), module._clavicle

    def none(*arguments):
        depth, bone = draw(*arguments)
        return np.full_like(depth, -1), bone

    monkeypatch.setattr(module, "_clavicle", none)
    labels = chest(5, size=size).labels
    assert set(labels.unique().tolist()) == {0, 1, 4, 5}
    assert torch.where(labels > 3, labels, 0).equal(with_them.meta["lungs"].long())


def test_a_subject_does_not_depend_on_the_others():
    few, many = chest(3, seed=5, size=32), chest(7, seed=5, size=32)
    assert few.fingerprint() == chest(3, seed=5, size=32).fingerprint()
    assert torch.equal(few.images, many.images[:3])
    assert torch.equal(few.labels, many.labels[:3])
    assert torch.equal(few.meta["lungs"], many.meta["lungs"][:3])
    assert not torch.equal(few.images, chest(3, seed=6, size=32).images)


def test_is_the_same_person_at_every_size():
    small, large = chest(6, size=64), chest(6, size=256)
    reduced = large.labels[:, 2::4, 2::4]  # the sample nearest to each small pixel's centre
    for c, least in zip(range(1, 6), (0.95, 0.7, 0.7, 0.95, 0.95), strict=True):
        a, b = small.labels == c, reduced == c
        dice = 2 * (a & b).sum() / (a.sum() + b.sum())
        assert dice > least, CLASSES[c]
    means = torch.nn.functional.avg_pool2d(large.images, 4)
    assert (means - small.images).abs().mean() < 0.05


def test_left_is_on_the_images_right_and_lungs_are_dark(cohort):
    for left, right in ((2, 3), (4, 5)):
        assert (centroids(cohort.labels, left)[:, 1] > centroids(cohort.labels, right)[:, 1]).all()
    middle = (centroids(cohort.labels, 4)[:, 1] + centroids(cohort.labels, 5)[:, 1]) / 2
    assert (centroids(cohort.labels, 1)[:, 1] > middle).mean() > 0.8  # most hearts point left
    assert (centroids(cohort.labels, 1)[:, 0] > centroids(cohort.labels, 2)[:, 0]).all()
    lungs = (cohort.labels == 4) | (cohort.labels == 5)
    grey = [
        (image[lung].mean(), image[label == 1].mean())
        for image, lung, label in zip(cohort.images[:, 0], lungs, cohort.labels)
    ]
    assert all(lung < heart for lung, heart in grey)


def test_subjects_differ_in_shape_place_and_exposure(cohort):
    for c in range(1, 6):
        areas = (cohort.labels == c).flatten(1).sum(1).double()
        assert areas.std() / areas.mean() > 0.12, CLASSES[c]
        assert centroids(cohort.labels, c).std(0).min() > 0.015, CLASSES[c]  # a pixel of 64
    assert cohort.images.flatten(1).mean(1).std() > 0.05
    assert cohort.images.flatten(1).std(1).std() > 0.02


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"n": 0}, "chest phantom n: expected an integer of at least 1, found 0"),
        ({"n": 1, "size": 31}, "chest phantom size: expected an integer of at least 32, found 31"),
        ({"n": 1, "size": 64.0}, "chest phantom size: expected an integer of at least 32, found 64.0"),
        ({"n": 1, "size": "64"}, "chest phantom size: expected an integer of at least 32, found '64'"),
        ({"n": True}, "chest phantom n: expected an integer of at least 1, found True"),
        ({"n": 1, "seed": -1}, "chest phantom seed: expected an integer of at least 0, found -1"),
    ],
)
def test_bad_arguments_end_in_one_line(arguments, line):
    with pytest.raises(BadInput) as error:
        chest(**arguments)
    assert str(error.value) == line
