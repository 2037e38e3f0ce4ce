"""The head-and-neck phantom: nine organs where anatomy has them, as large, as bright, and no two patients alike."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from fewlabels.data import oar
from fewlabels.data.phantoms.head_neck import CLASSES, head_neck
from fewlabels.errors import BadInput
from fewlabels.scores.metrics import dice

STEM, CHIASM, MANDIBLE, NERVE_L, NERVE_R, PAROTID_L, PAROTID_R, SUB_L, SUB_R = range(1, 10)


@pytest.fixture(scope="module")
def cohort():
    return head_neck(14)


@pytest.fixture(scope="module")
def coarse():
    """As many patients as PDDCA, small."""
    return head_neck(spacing=(10, 8, 8), size=(16, 32, 32))


def hu(cohort, i):
    return cohort.images[i, 0].numpy() * 1000 - 100


def places(cohort, i, k):
    """Where structure `k` of patient `i` is on average, mm; None if it is not delineated."""
    at = torch.nonzero(cohort.labels[i] == k).double()
    return at.mean(0).numpy() * cohort.spacing_mm if len(at) else None


def behind_the_stem(cohort, i):
    """HU of a block of cerebellum, 15 x 24 x 32 mm."""
    z, y, x = np.round(places(cohort, i, STEM) / cohort.spacing_mm).astype(int)
    return hu(cohort, i)[z - 1 : z + 2, y + 6 : y + 12, x - 4 : x + 4]


# ---- what it is ----


def test_is_what_the_loader_of_the_real_ones_gives(cohort):
    assert cohort.images.shape == (14, 1, 32, 64, 64)
    assert cohort.labels.shape == (14, 32, 64, 64)
    assert (cohort.images.dtype, cohort.labels.dtype) == (torch.float32, torch.int64)
    assert cohort.classes == CLASSES == oar.CLASSES["pddca"]
    assert cohort.spacing_mm == (5.0, 4.0, 4.0)
    assert cohort.ids == cohort.groups == tuple(f"phantom{i:02}" for i in range(1, 15))
    meta = cohort.meta
    assert meta["data"] == "phantom"
    assert meta["present"].shape == (14, 10)
    assert meta["present"].dtype == torch.bool
    for key in ("native", "native_spacing_mm", "first_voxel_mm", "claimed_twice"):
        assert tuple(meta[key]) == cohort.ids
    native = torch.stack(list(meta["native"].values()))
    assert native.dtype == torch.uint8
    assert native.long().equal(cohort.labels)
    assert (float(cohort.images.min()), float(cohort.images.max())) == pytest.approx((-0.9, 1.6))  # clipped


def test_meta_has_what_the_loaders_has(cohort, tmp_path, monkeypatch):
    import SimpleITK as sitk

    monkeypatch.setattr(oar, "TRAIN", 0)
    monkeypatch.setattr(oar, "TEST", ("0522c0555",))
    folder = tmp_path / "pddca/0522c0555/structures"
    folder.mkdir(parents=True)
    image = sitk.GetImageFromArray(np.round(hu(cohort, 13)).astype(np.int16))
    sitk.WriteImage(image, str(folder.parent / "img.nrrd"))
    sitk.WriteImage(sitk.Cast(image > 300, sitk.sitkUInt8), str(folder / "Mandible.nrrd"))
    loaded = oar.load(tmp_path, (4, 4, 4), (8, 16, 16))
    assert set(loaded.meta) | {"seed"} == set(cohort.meta)
    for key, value in loaded.meta.items():
        assert type(value) is type(cohort.meta[key]), key
        if isinstance(value, dict) and key != "native":
            assert type(value["0522c0555"]) is type(cohort.meta[key]["phantom01"]), key


def test_to_native_changes_nothing(cohort):
    random = torch.rand(10, 32, 64, 64, generator=torch.Generator().manual_seed(0))
    assert oar.to_native(random, "phantom03", cohort).equal(random)


def test_oar_offers_it():
    assert oar.phantom is head_neck


def test_the_last_are_the_test_set(cohort, coarse):
    assert oar.splits(cohort).test == cohort.ids[-3:]
    split = oar.splits(coarse)
    assert (len(split.labelled), split.test) == (38, coarse.ids[-10:])
    assert len(oar.splits(head_neck(2, spacing=(20, 16, 16), size=(8, 16, 16))).test) == 1


def test_missing_delineations(coarse, cohort):
    for c in (coarse, cohort):
        for i in range(len(c)):
            there = [bool((c.labels[i] == k).any()) for k in range(1, 10)]
            assert c.meta["present"][i].tolist() == [all(there), *there]
    complete = coarse.meta["present"].all(1)
    assert complete[-10:].all()
    assert 10 <= int((~complete[:38]).sum()) <= 22  # PDDCA: 16
    assert coarse.meta["present"][:38].sum(0).min() >= 20  # each is there often enough to be learnt
    assert coarse.meta["present"][:38, 1:].all(0).sum() <= 6


def test_a_patient_does_not_depend_on_the_others():
    how = {"spacing": (10, 8, 8), "size": (16, 32, 32)}
    few, many = head_neck(4, 5, **how), head_neck(9, 5, **how)
    assert few.fingerprint() == head_neck(4, 5, **how).fingerprint()
    assert few.images.equal(many.images[:4])
    assert few.labels[:3].equal(many.labels[:3])  # the fourth is the test patient of four
    assert few.fingerprint() != head_neck(4, 6, **how).fingerprint()
    assert not few.images[0].equal(few.images[1])


def test_is_the_same_person_at_every_spacing(cohort):
    fine = head_neck(2, spacing=(2.5, 4.0, 4.0), size=(64, 64, 64))
    blocks = fine.labels[0].reshape(32, 2, 64, 64)
    for half in (0, 1):
        scores = dice(blocks[:, half], cohort.labels[0], 10)
        large = [scores[k - 1] for k in (STEM, MANDIBLE, PAROTID_L, PAROTID_R, SUB_L, SUB_R)]
        assert min(large) > 0.8, scores
    means = fine.images[0, 0].reshape(32, 2, 64, 64).mean(1)
    assert (means - cohort.images[0, 0]).abs().mean() < 0.05


# ---- anatomy ----


def test_volumes_are_those_of_the_literature(cohort):
    """cm3; the sources stand in the phantom's module, ranges hold for means over patients."""
    volumes = torch.stack([(cohort.labels == k).sum((1, 2, 3)) * 0.08 for k in range(1, 10)], 1).numpy()
    present = cohort.meta["present"][:, 1:].numpy()
    means = [volumes[present[:, k], k].mean() for k in range(9)]
    expected = [(20, 32), (0.25, 0.8), (45, 75), *[(0.5, 1.3)] * 2, *[(21, 33)] * 2, *[(6, 11)] * 2]
    assert all(low < mean < high for mean, (low, high) in zip(means, expected)), np.round(means, 2)
    for k in (STEM, MANDIBLE, PAROTID_L, PAROTID_R, SUB_L, SUB_R):
        values = volumes[present[:, k - 1], k - 1]
        assert 0.1 < values.std() / values.mean() < 0.45, CLASSES[k]


def test_organs_lie_where_they_should(cohort):
    """z up, y back, x to the left; mm."""
    for i in range(len(cohort)):
        at = {k: places(cohort, i, k) for k in range(1, 10)}
        stem, mandible, (z, y, x) = at[STEM], at[MANDIBLE], range(3)
        assert 15 < at[PAROTID_L][z] - at[SUB_L][z] < 90 if at[SUB_L] is not None else True
        for left, right, apart in ((PAROTID_L, PAROTID_R, 90), (SUB_L, SUB_R, 40), (NERVE_L, NERVE_R, 25)):
            if at[left] is not None and at[right] is not None:
                assert at[left][x] - at[right][x] > apart, (i, CLASSES[left])
        if mandible is not None:
            assert stem[z] - mandible[z] > 30
            assert stem[y] - mandible[y] > 25
            assert abs(stem[x] - mandible[x]) < 20
            assert all(at[k][y] > mandible[y] for k in (PAROTID_L, PAROTID_R))
        if at[CHIASM] is not None:
            assert at[CHIASM][z] > stem[z]
            assert 5 < stem[y] - at[CHIASM][y] < 40
            if at[NERVE_L] is not None:
                assert all(at[CHIASM][y] - at[k][y] > 8 for k in (NERVE_L, NERVE_R))


def test_organs_are_in_one_piece_within_the_volume(cohort):
    """The chin of a long face may leave the grid; no other organ does."""
    for i in range(len(cohort)):
        labels = cohort.labels[i].numpy()
        for k in (STEM, MANDIBLE, PAROTID_L, PAROTID_R, SUB_L, SUB_R):
            pieces, n = ndimage.label(labels == k, np.ones((3, 3, 3)))
            if n:
                assert np.bincount(pieces.flat)[1:].max() > 0.93 * (labels == k).sum(), (i, CLASSES[k])
        for axis in range(3):
            edges = np.stack([labels.take(0, axis), labels.take(-1, axis)])
            limit = 0.08 * (labels > 0).sum() if axis == 0 else 0
            assert (edges > 0).sum() <= limit, (i, axis)


def test_the_mandible_is_a_horseshoe(cohort):
    """Seen from below: one arch, closed in front, its two ends behind on either side."""
    for i in torch.nonzero(cohort.meta["present"][:, MANDIBLE]).flatten().tolist():
        seen = (cohort.labels[i] == MANDIBLE).any(0).numpy()
        rows, columns = np.nonzero(seen)
        back = seen[int(np.quantile(rows, 0.8)) :]
        middle = slice(int(columns.min() + 0.35 * np.ptp(columns)), int(columns.max() - 0.35 * np.ptp(columns)))
        assert not back[:, middle].any()
        assert seen[rows.min() : rows.min() + 8, middle].any(0).all()


def test_hounsfield_units(cohort):
    """Medians of organs and of what is around them."""
    parotids, fat = [], []
    for i in range(len(cohort)):
        image, labels = hu(cohort, i), cohort.labels[i].numpy()
        median = {k: np.median(image[labels == k]) for k in range(1, 10) if (labels == k).any()}
        assert 20 < median[STEM] < 50
        assert median.get(MANDIBLE, 500) > 250
        assert all(-80 < median[k] < 60 for k in (PAROTID_L, PAROTID_R))
        assert all(0 < median[k] < 110 for k in (SUB_L, SUB_R) if k in median)
        if NERVE_L in median:
            around = ndimage.binary_dilation(labels == NERVE_L, iterations=2) & (labels == 0)
            fat.append(np.quantile(image[around], 0.1) - median[NERVE_L])
        parotids.append(median[PAROTID_L])
    assert np.std(parotids) > 8
    assert np.median(fat) < -60


def test_air_skull_brain_and_fat(cohort):
    for i in range(len(cohort)):
        image = hu(cohort, i)
        body = np.stack([ndimage.binary_fill_holes(s) for s in ndimage.binary_closing(image > -300, iterations=2)])
        assert 2000 < body.sum() * 0.08 < 6500  # cm3
        assert 30 < (body & (image < -600)).sum() * 0.08 < 400  # sinuses, nose, throat
        assert 250 < (image > 400).sum() * 0.08 < 1000
        assert (body & (image > -130) & (image < -60)).sum() * 0.08 > 60
        assert 25 < np.median(behind_the_stem(cohort, i)) < 45
        air = ~body & (np.arange(64) < 20)  # in front
        assert np.median(image[air]) == pytest.approx(-1000, abs=15)


def test_patients_differ(cohort):
    stems = np.array([places(cohort, i, STEM) for i in range(len(cohort))])
    assert (stems.std(0) > (1, 2, 2)).all()
    aligned = cohort.images[:, 0, 8:24, 8:56, 8:56].flatten(1)
    correlations = np.corrcoef(aligned.numpy())[np.triu_indices(14, 1)]
    assert correlations.max() < 0.95
    assert correlations.min() > 0.3  # heads, all of them


def test_noise_and_streaks(cohort):
    """Noise in the brain, of differences between neighbours; streaks in the air before teeth and before the brow."""
    noise, streaks = [], []
    for i in range(len(cohort)):
        noise.append(np.diff(behind_the_stem(cohort, i), axis=0).std() / np.sqrt(2))
        image = hu(cohort, i)[:, :40]
        air = ~ndimage.binary_dilation(image > -700, iterations=2)
        bright = [np.quantile(s[a], 0.99) + 1000 for s, a in zip(image, air)]
        streaks.append(max(bright[8:16]) / np.median(bright[22:]))
    assert 3 < min(noise)
    assert max(noise) < 30
    assert max(noise) > 1.4 * min(noise)
    assert 1 <= sum(s > 1.8 for s in streaks) <= 9
    assert sum(s < 1.5 for s in streaks) >= 5


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"n": 1}, "head-and-neck phantom n: expected an integer of at least 2, found 1"),
        ({"n": True}, "head-and-neck phantom n: expected an integer of at least 2, found True"),
        ({"n": 2.0}, "head-and-neck phantom n: expected an integer of at least 2, found 2.0"),
        ({"n": 2, "seed": -1}, "head-and-neck phantom seed: expected an integer of at least 0, found -1"),
        (
            {"n": 2, "spacing": (5, 0, 4)},
            "head-and-neck phantom spacing: expected three numbers (z, y, x), mm above 0, found (5, 0, 4)",
        ),
        (
            {"n": 2, "size": (32, 64)},
            "head-and-neck phantom size: expected three numbers (z, y, x), voxels, integers of at least 1, "
            "found (32, 64)",
        ),
    ],
)
def test_bad_arguments_end_in_one_line(arguments, line):
    with pytest.raises(BadInput) as error:
        head_neck(**arguments)
    assert str(error.value) == line


def test_a_phantom_needs_a_size():
    with pytest.raises(BadInput, match="head-and-neck phantom size: expected three numbers"):
        head_neck(2, size=None)
