"""The brain phantom: half-slices by the loader's rules, tissues as in real sequences, tumours beyond FLAIR."""

from collections import Counter

import numpy as np
import pytest
import torch
from scipy import ndimage

from fewlabels.data import brats, half_slices
from fewlabels.data.phantoms.brain import brain
from fewlabels.errors import BadInput

FLAIR, T1CE, T1, T2 = range(4)


@pytest.fixture(scope="module")
def cohort():
    return brain(24, size=(60, 30))


@pytest.fixture(scope="module")
def large():
    return brain(4, size=(120, 60))


def dice(a, b):
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_is_what_the_loader_of_the_real_ones_gives(cohort):
    n = len(cohort)
    assert (cohort.images.shape, cohort.labels.shape) == ((n, 4, 60, 30), (n, 60, 30))
    assert (cohort.images.dtype, cohort.labels.dtype) == (torch.float32, torch.int64)
    assert (cohort.classes, cohort.spacing_mm) == (brats.CLASSES, (4.0, 4.0))
    assert cohort.groups == tuple(name.split("/")[0] for name in cohort.ids)
    assert {name.split("/")[2] for name in cohort.ids} == {"left", "right"}
    assert {int(name.split("/")[1]) for name in cohort.ids} == set(range(12))
    assert cohort.meta["data"] == "phantom"
    assert cohort.meta["sequences"] == ("flair", "t1ce", "t1", "t2")
    assert Counter(cohort.meta["grade"].values()) == {"HGG": 18, "LGG": 6}
    assert brats.phantom is brain


def test_every_half_slice_keeps_the_rules(cohort):
    pixels = (cohort.images != 0).any(1).flatten(1).sum(1)
    tumour = cohort.labels.flatten(1).sum(1)
    assert (pixels >= 0.25 * 60 * 30).all()
    assert ((tumour == 0) | (tumour > 0.01 * pixels)).all()
    present = {p: [0, 0] for p in cohort.meta["grade"]}
    for patient, t in zip(cohort.groups, tumour.tolist()):
        present[patient][t == 0] += 1
    assert {p: tuple(counts) for p, counts in present.items()} == cohort.meta["halves"]
    assert all(p >= 3 and a >= 3 for p, a in cohort.meta["halves"].values())  # of 24 each
    assert len(cohort) > 0.75 * 24 * 24


def test_domains_of_by_hand():
    inside, lesion = np.zeros((2, 3, 8, 8), bool)
    inside[:, 2:6, 2:] = True  # 8 of 32 pixels on the left, 16 on the right
    inside[1, 2, 2] = False
    lesion[0, 4, 2:4] = True  # 2 of 8
    lesion[2, 3, 7] = True  # 1 of 16
    for settings, p, a in (
        ({}, [(0, 0), (2, 1)], [(0, 1), (1, 1), (2, 0)]),
        ({"tumour_share": 0.0625}, [(0, 0)], [(0, 1), (1, 1), (2, 0)]),
        ({"tumour_share": 0.06, "tumour_share_of": "channels"}, [(0, 0)], [(0, 1), (1, 1), (2, 0)]),
        ({"brain_share": 0.5}, [(2, 1)], [(0, 1), (1, 1)]),
    ):
        present, absent = half_slices.domains_of(inside, lesion, **settings)
        assert np.argwhere(present).tolist() == [list(at) for at in p], settings
        assert np.argwhere(absent).tolist() == [list(at) for at in a], settings


def test_halves_are_left_and_right():
    volume = np.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    for side, columns in enumerate((slice(0, 3), slice(3, 6))):
        np.testing.assert_array_equal(half_slices.halves(volume)[:, :, side], volume[..., columns])
    assert half_slices.half_name("A", 7, 1) == "A/007/right"


def test_a_patient_does_not_depend_on_the_others():
    few, many = brain(2, seed=5, size=(40, 20)), brain(3, seed=5, size=(40, 20))
    assert few.fingerprint() == brain(2, seed=5, size=(40, 20)).fingerprint()
    assert torch.equal(few.images, many.images[: len(few)])
    assert few.ids == many.ids[: len(few)]
    assert few.fingerprint() != brain(2, seed=6, size=(40, 20)).fingerprint()


def test_is_the_same_person_at_every_size(cohort, large):
    names = [name for name in large.ids if name in cohort.ids]
    assert len(names) > 60
    small, big = cohort.index(names), large.index(names)
    means = torch.nn.functional.avg_pool2d(large.images[big], 2)
    assert (means - cohort.images[small]).abs().mean() < 0.05
    shares = torch.nn.functional.avg_pool2d(large.labels[big].float(), 2)
    assert dice(shares >= 0.5, cohort.labels[small] == 1) > 0.85


def test_scaled_as_real_ones_are(cohort):
    for patient in ("phantom001", "phantom024"):
        images = cohort.images[[i for i, name in enumerate(cohort.groups) if name == patient]]
        voxels = images[(images != 0).any(1, keepdim=True).expand_as(images)]
        assert abs(float(voxels.mean())) < 0.03  # of all slices, also those not kept, it is 0
        assert float(voxels.std()) == pytest.approx(0.2, abs=0.02)


def test_tissues_are_as_in_real_sequences(large):
    """CSF, found where T2 is brightest, and white matter, deep inside where T1 is brightest, in healthy halves."""
    healthy = large.images[~large.labels.flatten(1).any(1)].numpy()
    inside = (healthy != 0).any(1)
    deep = np.stack([ndimage.binary_erosion(mask, iterations=3) for mask in inside])
    csf = deep & (healthy[:, T2] > np.quantile(healthy[:, T2][deep], 0.97))
    white = deep & (healthy[:, T1] > np.quantile(healthy[:, T1][deep], 0.8))
    at = {name: [healthy[:, i][mask].mean() for i in range(4)] for name, mask in (("csf", csf), ("white", white))}
    for sequence, sign in ((FLAIR, -1), (T1CE, -1), (T1, -1), (T2, 1)):
        assert sign * (at["csf"][sequence] - at["white"][sequence]) > 0.15, sequence
    rim = np.stack([ndimage.binary_erosion(mask) for mask in inside]) & ~deep  # mostly cortex
    assert healthy[:, T1][rim].mean() < at["white"][T1] - 0.1
    assert healthy[:, FLAIR][rim].mean() > at["csf"][FLAIR] + 0.1


def test_tumours_are_as_in_real_sequences(cohort):
    """Bright on FLAIR and T2, dark on T1; what takes up contrast agent is far brighter on T1ce than on T1 in HGG."""
    taken_up = {"HGG": [], "LGG": []}
    for patient, grade in cohort.meta["grade"].items():
        at = [i for i, name in enumerate(cohort.groups) if name == patient]
        images, tumour = cohort.images[at].movedim(1, -1), cohort.labels[at] == 1
        brain = (images != 0).any(-1) & ~tumour
        inside, outside = (images[mask].median(0).values for mask in (tumour, brain))
        assert inside[FLAIR] > outside[FLAIR] + 0.05, patient
        assert inside[T1] < images[brain][:, T1].quantile(0.75), patient  # white matter
        assert inside[T2] > outside[T2], patient
        taken_up[grade].append(float((images[..., T1CE] - images[..., T1])[tumour].quantile(0.95)))
    assert np.median(taken_up["HGG"]) > np.median(taken_up["LGG"]) + 0.05


def test_flair_alone_does_not_give_it_away(cohort):
    """The best of all thresholds, chosen on the test images themselves, is no segmentation."""
    present = cohort.labels.flatten(1).any(1)
    flair, tumour = cohort.images[present, FLAIR], cohort.labels[present] == 1
    best = max(dice(flair > t, tumour) for t in np.linspace(-0.2, 0.8, 51))
    assert 0.4 < best < 0.75
    healthy = cohort.images[~present, FLAIR]
    bright = (healthy > flair[tumour].median()).flatten(1).any(1).float().mean()
    assert bright > 0.1  # something healthy is as bright as half of the tumours


def test_lesions_stay_in_the_brain_and_differ(cohort):
    assert ((cohort.images != 0).any(1) | (cohort.labels == 0)).all()
    centres, sizes = [], []
    for patient in cohort.meta["grade"]:
        at = [i for i, name in enumerate(cohort.groups) if name == patient]
        tumour = cohort.labels[at]
        centres.append(tumour.nonzero().float().mean(0)[1:].tolist())
        sizes.append(float(tumour.sum()))
    assert (np.std(centres, axis=0) > 2).all()
    assert np.quantile(sizes, 0.9) > 2 * np.quantile(sizes, 0.1)


def test_splits_work_on_it(cohort):
    split = brats.splits(cohort, 0.1)
    patients = [{name.split("/")[0] for name in part} for part in (split.labelled, split.validation, split.test)]
    assert [len(part) for part in patients[1:]] == [2, 2]
    assert 1 <= len(patients[0]) < 10
    found = brats.domains(cohort, split.labelled + split.unlabelled, split.labelled)
    assert len(found.labelled) == len(split.labelled)
    assert found.masks[found.labelled].any((1, 2)).all()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"n": 0}, "brain phantom n: expected an integer of at least 1, found 0"),
        ({"n": True}, "brain phantom n: expected an integer of at least 1, found True"),
        ({"seed": -1}, "brain phantom seed: expected an integer of at least 0, found -1"),
        ({"size": (60, 60)}, "rows = 2 columns and at least 40, found (60, 60)"),
        ({"size": (38, 19)}, "found (38, 19)"),
        ({"size": 60}, "found 60"),
        ({"size": (60.0, 30.0)}, "found (60.0, 30.0)"),
    ],
)
def test_bad_arguments_end_in_one_line(arguments, line):
    with pytest.raises(BadInput) as error:
        brain(**({"n": 1} | arguments))
    assert line in str(error.value)
    assert "\n" not in str(error.value)
