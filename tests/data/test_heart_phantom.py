"""The heart phantom: ACDC's patients by name and group, groups that differ where they should, and no two alike."""

from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from scipy import ndimage

from fewlabels.data import acdc
from fewlabels.data.phantoms.heart import CLASSES, GROUPS, heart
from fewlabels.errors import BadInput

RV, MYO, LV = 1, 2, 3


@pytest.fixture(scope="module")
def cohort():
    return heart(size=64)


@pytest.fixture(scope="module")
def measured(cohort):
    """`{group: {quantity: one value a subject}}`; in pixels of 64, volumes per slice of the left ventricle."""
    found = defaultdict(lambda: defaultdict(list))
    for patient, labels in volumes(cohort).items():
        slices = (labels == MYO).any((1, 2)).sum()
        values = found[cohort.meta["pathology"][patient]]
        for name, c in (("right", RV), ("wall", MYO), ("left", LV)):
            values[f"{name} volume"].append((labels == c).sum() / slices)
        z = (labels == LV).sum((1, 2)).argmax()
        cavity, outer = ((labels[z] >= c).sum() for c in (LV, MYO))
        values["thickness"].append(np.sqrt(outer / np.pi) - np.sqrt(cavity / np.pi))
        values["thinnest over thickest"].append(np.quantile(*walls(labels)) / np.quantile(walls(labels)[0], 0.9))
    return found


def volumes(cohort):
    """`{patient: labels (Z, size, size)}`"""
    return {patient: labels.numpy() for patient, labels in cohort.meta["native"].items()}


def walls(labels):
    """Thickness of the wall in 24 directions in the middle slices, and the quantile that counts as thinnest."""
    found = []
    present = np.flatnonzero((labels == LV).any((1, 2)))
    for z in present[len(present) // 4 : -len(present) // 4]:
        inside = labels[z] >= MYO
        row, column = ndimage.center_of_mass(labels[z] == LV)
        for angle in np.linspace(0, 2 * np.pi, 24, endpoint=False):
            r = np.arange(0, 20, 0.25)
            at = np.round([row + r * np.sin(angle), column + r * np.cos(angle)]).astype(int).clip(0, len(labels[z]) - 1)
            found.append(0.25 * ((labels[z][*at] == MYO) & inside[*at]).sum())
    return np.array(found), 0.1


def dice(a, b):
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


# ---- what it is ----


def test_is_what_the_loader_of_the_real_ones_gives(cohort):
    n = len(cohort)
    assert cohort.images.shape == (n, 1, 64, 64)
    assert cohort.labels.shape == (n, 64, 64)
    assert (cohort.images.dtype, cohort.labels.dtype) == (torch.float32, torch.int64)
    assert cohort.classes == acdc.CLASSES == CLASSES
    assert cohort.spacing_mm == pytest.approx((1.36719 * 3.5,) * 2)
    assert (cohort.meta["data"], cohort.meta["phase"], cohort.meta["n4"]) == ("phantom", "ES", False)
    assert cohort.groups == tuple(name[:10] for name in cohort.ids)
    assert tuple(cohort.meta["pathology"]) == tuple(cohort.meta["native"]) == acdc.PATIENTS
    assert list(cohort.meta["pathology"].values()) == [group for group in GROUPS for _ in range(20)]
    counts = Counter(cohort.groups)
    assert set(counts.values()) == set(range(6, 13))
    assert cohort.ids == tuple(f"{patient}/{z:02}" for patient in acdc.PATIENTS for z in range(counts[patient]))


def test_the_native_grid_is_its_own(cohort):
    native = torch.cat(list(cohort.meta["native"].values()))
    assert native.dtype == torch.uint8
    assert native.long().equal(cohort.labels)


@pytest.mark.parametrize("size", [32, 100, 224])
def test_to_native_changes_nothing(size):
    two = heart(2, size=size)
    slices = [i for i, patient in enumerate(two.groups) if patient == "patient002"]
    random = torch.rand(len(slices), 4, size, size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(acdc.to_native(random, "patient002", two), random, rtol=0, atol=1e-5)


def test_acdc_offers_it():
    assert acdc.phantom is heart


def test_the_published_lists_work_on_it(cohort):
    split = acdc.splits(cohort, 3, 5)
    assert {name[:10] for name in split.labelled} == {"patient002", "patient042", "patient095"}
    for part, patients in ((split.test, 20), (split.validation, 2), (split.unlabelled, 25)):
        assert len({name[:10] for name in part}) == patients
        assert set(part) <= set(cohort.ids)


def test_a_subject_does_not_depend_on_the_others():
    few, many = heart(2, seed=5, size=32), heart(4, seed=5, size=32)
    assert few.fingerprint() == heart(2, seed=5, size=32).fingerprint()
    assert torch.equal(few.images, many.images[: len(few)])
    assert torch.equal(few.labels, many.labels[: len(few)])
    assert few.ids == many.ids[: len(few)]
    assert few.fingerprint() != heart(2, seed=6, size=32).fingerprint()


def test_is_the_same_person_at_every_size():
    small, large = heart(2, size=64), heart(2, size=192)
    centres = large.labels[:, 1::3, 1::3]
    for c, least in ((RV, 0.93), (MYO, 0.9), (LV, 0.93)):
        assert dice(small.labels == c, centres == c) > least, CLASSES[c]
    means = torch.nn.functional.avg_pool2d(large.images, 3)
    assert (means - small.images).abs().mean() < 0.06


# ---- anatomy ----


@pytest.mark.parametrize("size", [32, 64])
def test_every_subject_has_every_structure(cohort, size):
    for patient, labels in volumes(cohort if size == 64 else heart(size=32)).items():
        assert np.bincount(labels.ravel(), minlength=4).min() >= (10 if size == 64 else 3), patient


def test_areas_shrink_to_the_apex_and_the_right_ventricle_ends_first(cohort):
    empty = Counter()
    for patient, labels in volumes(cohort).items():
        wall, right, left = ((labels == c).sum((1, 2)) for c in (MYO, RV, LV))
        present = np.flatnonzero(wall)
        assert (np.diff(present) == 1).all()
        empty["base"] += present[0] > 0
        empty["apex"] += present[-1] < len(labels) - 1
        assert ((right + left)[np.setdiff1d(np.arange(len(labels)), present)] == 0).all()
        epicardium = (wall + left)[present]
        assert epicardium[-1] < 0.75 * epicardium[0], patient
        assert right[present[-1]] == 0, patient
        assert right[present[0]] > 0, patient
    assert 5 <= empty["base"] <= 40
    assert 15 <= empty["apex"] <= 60


def test_the_wall_goes_round_the_cavity(cohort):
    """But for infarcts and dilated hearts, whose wall is thinner than a pixel."""
    for patient, labels in volumes(cohort).items():
        if cohort.meta["pathology"][patient] in ("HCM", "NOR", "RV"):
            beside = ndimage.binary_dilation(labels == LV, np.ones((1, 3, 3))) & (labels != LV)
            assert (labels[beside] == MYO).mean() > 0.97, patient


def test_groups_differ_in_what_they_are_named_for(measured):
    median = {group: {name: np.median(v) for name, v in values.items()} for group, values in measured.items()}
    others = {group: [g for g in GROUPS if g != group] for group in GROUPS}
    assert all(median["DCM"]["left volume"] > 1.3 * median[g]["left volume"] for g in others["DCM"])
    assert median["DCM"]["thickness"] < 0.8 * median["NOR"]["thickness"]
    assert all(median["HCM"]["thickness"] > 1.4 * median[g]["thickness"] for g in others["HCM"])
    assert all(median["HCM"]["left volume"] < 0.7 * median[g]["left volume"] for g in others["HCM"])
    assert all(median["RV"]["right volume"] > 2 * median[g]["right volume"] for g in others["RV"])
    assert median["MINF"]["left volume"] > 1.5 * median["NOR"]["left volume"]
    thinnest = "thinnest over thickest"
    assert all(median["MINF"][thinnest] < 0.8 * median[g][thinnest] for g in ("HCM", "NOR", "RV"))


def test_subjects_of_a_group_differ(measured):
    for group in GROUPS:
        for name in ("left volume", "wall volume", "right volume"):
            values = np.array(measured[group][name])
            assert values.std() > 0.1 * values.mean(), (group, name)


def test_places_and_directions_differ(cohort):
    centres, turns = [], []
    for labels in volumes(cohort).values():
        centre = np.array(ndimage.center_of_mass(labels >= MYO))[1:]
        away = np.array(ndimage.center_of_mass(labels == RV))[1:] - centre
        centres.append(centre)
        turns.append(np.degrees(np.arctan2(*away)))
    assert (np.std(centres, axis=0) > 2).all()  # pixels of 64
    assert np.quantile(np.mod(turns, 360), 0.9) - np.quantile(np.mod(turns, 360), 0.1) > 60


# ---- grey values ----


def test_grey_values_are_scaled_to_the_volumes_percentiles(cohort):
    for patient in ("patient001", "patient077"):
        slices = [i for i, name in enumerate(cohort.groups) if name == patient]
        low, high = np.percentile(cohort.images[slices].numpy(), (2, 98))
        assert low == pytest.approx(0, abs=1e-5)
        assert high == pytest.approx(1, abs=1e-5)
        assert cohort.images[slices].min() < 0
        assert cohort.images[slices].max() > 1


def test_blood_is_bright_and_muscle_dark(cohort):
    contrast = []
    for patient in acdc.PATIENTS:
        slices = [i for i, name in enumerate(cohort.groups) if name == patient]
        images, labels = cohort.images[slices, 0], cohort.labels[slices]
        left, right, wall = (float(images[labels == c].median()) for c in (LV, RV, MYO))
        assert min(left, right) > wall + 0.05, patient
        contrast.append((left - wall) / (left + wall))
    assert max(contrast) > 1.5 * min(contrast)  # no two scanners alike


def test_papillary_muscles_are_dark_and_belong_to_the_cavity():
    dcm = heart(6, size=128)
    share = []
    for patient in dcm.meta["native"]:
        slices = [i for i, name in enumerate(dcm.groups) if name == patient]
        images, labels = dcm.images[slices, 0].numpy(), dcm.labels[slices].numpy()
        deep = np.stack([ndimage.binary_erosion(mask, iterations=2) for mask in labels == LV])  # no partial volume
        middle = (np.median(images[labels == LV]) + np.median(images[labels == MYO])) / 2
        share.append((images[deep] < middle).mean())
    assert 0.01 < np.mean(share) < 0.2


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"n": 0}, "heart phantom n: expected an integer of at least 1, found 0"),
        ({"n": 1, "size": 31}, "heart phantom size: expected an integer of at least 32, found 31"),
        ({"n": 1, "size": 64.0}, "heart phantom size: expected an integer of at least 32, found 64.0"),
        ({"n": True}, "heart phantom n: expected an integer of at least 1, found True"),
        ({"n": 1, "seed": -1}, "heart phantom seed: expected an integer of at least 0, found -1"),
    ],
)
def test_bad_arguments_end_in_one_line(arguments, line):
    with pytest.raises(BadInput) as error:
        heart(**arguments)
    assert str(error.value) == line
