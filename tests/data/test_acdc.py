"""ACDC's loader on files made here (no patient is in this repository) and, with FEWLABELS_DATA, on real ones."""

import gzip
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers import refused, same
from scipy import ndimage
from volumes_kit import patch

from fewlabels.data import acdc, acdc_grid, prepared
from fewlabels.data.phantoms.heart import heart
from fewlabels.errors import BadInput

GRID, MM = 224, 1.36719
FEW = {"patient001": "DCM", "patient002": "RV", "patient003": "NOR"}
INFO = "ED: 1\nES: {es}\nGroup: {group}\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n"
# Slices, rows, columns, and in-plane spacing in mm, rows first: padded; cropped; one axis of either.
SHAPES = {"patient001": (4, 60, 47), "patient002": (5, 171, 150), "patient003": (4, 40, 301)}
SPACING = {"patient001": (1.5625, 1.5), "patient002": (1.83, 1.91), "patient003": (0.9, 1.05)}
# Chaitanya et al. 2019, experiment_init/data_cfg_acdc.py, typed in.
TEST = "007 008 009 010 027 028 029 030 047 048 049 050 067 068 069 070 087 088 089 090"
UNLABELLED = "016 017 018 019 020 036 037 038 039 040 056 057 058 059 060 076 077 078 079 080 096 097 098 099 100"
LABELLED = {
    1: ["002", "042", "022", "062", "095"],
    3: ["002 022 042", "042 062 082", "022 042 082", "002 042 082", "002 042 095"],
}


def paths(root, patient, frame=12):
    """Image and mask of a patient."""
    stem = root / f"acdc/training/{patient}/{patient}_frame{frame:02}"
    return Path(f"{stem}.nii.gz"), Path(f"{stem}_gt.nii.gz")


def write(path, array, spacing=(1.5, 1.5)):
    """`array` (Z, H, W) as NIfTI, 8 mm between slices."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((*spacing[::-1], 8.0)[-array.ndim :] if array.ndim == 3 else spacing[::-1])
    sitk.WriteImage(image, str(path))


def write_patient(root, patient, image, mask, spacing, group="NOR", frame=12):
    for path, array in zip(paths(root, patient, frame), (image, mask.astype(np.uint8))):
        write(path, array, spacing)
    (root / f"acdc/training/{patient}/Info.cfg").write_text(INFO.format(es=frame, group=group))


def made_up(shape, seed=0):
    """Grey values 0 to 800, int16, and blobs of all four labels."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape), (0.5, 4, 4))
    image = np.clip(400 + 150 * smooth / smooth.std() + rng.normal(0, 20, shape), 0, 800)
    return image.astype(np.int16), np.digitize(smooth, np.quantile(smooth, (0.7, 0.8, 0.9))).astype(np.uint8)


def remake(path, change):
    """Rewrites a file of labels or grey values with its array changed."""
    image = sitk.ReadImage(str(path))
    array = change(sitk.GetArrayFromImage(image))
    write(path, array, image.GetSpacing()[1::-1])


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(acdc, "PATIENTS", tuple(FEW))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Made once; tests get copies."""
    roots = tmp_path_factory.mktemp("official"), tmp_path_factory.mktemp("copy")
    for i, (patient, group) in enumerate(FEW.items()):
        image, mask = made_up(SHAPES[patient], i)
        write_patient(roots[0], patient, image, mask, SPACING[patient], group)
        image = np.round((image - image.min()) / np.ptp(image) * 1000).astype(np.int16)
        write_patient(roots[1], patient, image, mask, (1.0, 1.0), group)
    return roots


@pytest.fixture
def official(few, made, tmp_path):
    """The data root of three patients in the official layout."""
    return Path(shutil.copytree(made[0], tmp_path / "official"))


@pytest.fixture
def copy(few, made, tmp_path):
    """The same patients as in the copy without spacing."""
    return Path(shutil.copytree(made[1], tmp_path / "copy"))


def array(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def crop_or_pad(image, size=GRID):
    """By the loops of the release: what is too long is cut, what is too short gets zeros, halves rounded down."""
    for axis in (0, 1):
        n = image.shape[axis]
        if n > size:
            image = image.take(range((n - size) // 2, (n - size) // 2 + size), axis)
        else:
            before = (size - n) // 2
            image = np.pad(image, [(before, size - n - before) if a == axis else (0, 0) for a in (0, 1)])
    return image


def expected(image, mask, spacing):
    """Both on the 224-grid, by SciPy: scikit-image's rescale is its zoom in grid mode, of a rounded shape."""
    zoom = [max(1, round(n * mm / MM)) / n for n, mm in zip(image.shape[1:], spacing)]
    low, high = np.percentile(image, 2), np.percentile(image, 98)
    scaled = (image.astype(float) - low) / (high - low)
    grid = {"mode": "grid-constant", "grid_mode": True}
    images = [crop_or_pad(ndimage.zoom(s, zoom, order=1, **grid)) for s in scaled]
    return np.stack(images), np.stack([crop_or_pad(ndimage.zoom(s, zoom, order=0, **grid)) for s in mask])


def of(cohort, patient):
    """Positions of a patient's slices."""
    return [i for i, name in enumerate(cohort.groups) if name == patient]


def one_hot(labels):
    return torch.nn.functional.one_hot(labels, 4).movedim(-1, 1).float()


# ---- what is loaded ----


def test_official(official):
    cohort = acdc.load(official, n4=False)
    assert cohort.images.shape == (13, 1, GRID, GRID)
    assert cohort.labels.shape == (13, GRID, GRID)
    assert (cohort.images.dtype, cohort.labels.dtype) == (torch.float32, torch.int64)
    assert cohort.classes == ("background", "right ventricle", "myocardium", "left ventricle")
    assert cohort.spacing_mm == (MM, MM)
    assert cohort.ids == tuple(f"{p}/{z:02}" for p in FEW for z in range(SHAPES[p][0]))
    assert cohort.groups == tuple(p for p in FEW for _ in range(SHAPES[p][0]))
    meta = cohort.meta
    assert (meta["data"], meta["phase"], meta["n4"], meta["pathology"]) == ("acdc", "ES", False, FEW)
    assert "Bernard" in meta["source"]
    for patient in FEW:
        image, mask = map(array, paths(official, patient))
        images, labels = expected(image, mask, SPACING[patient])
        np.testing.assert_allclose(cohort.images[of(cohort, patient), 0], images, atol=2e-6)
        np.testing.assert_array_equal(cohort.labels[of(cohort, patient)], labels)
        assert meta["native"][patient].dtype == torch.uint8
        np.testing.assert_array_equal(meta["native"][patient], mask)
        assert meta["scale"][patient] == pytest.approx([mm / MM for mm in SPACING[patient]])
    assert float(cohort.images.min()) < -0.1  # not clipped
    assert float(cohort.images.max()) > 1.1


def test_copy_without_spacing(copy):
    cohort = acdc.load(copy)
    assert (cohort.meta["data"], cohort.meta["n4"], cohort.spacing_mm) == ("acdc-unspaced", False, (1.0, 1.0))
    assert "not the official files" in cohort.meta["source"]
    for patient in FEW:
        image, mask = map(array, paths(copy, patient))
        low, high = np.percentile(image, (2, 98))
        for z, i in enumerate(of(cohort, patient)):  # as they are: not a bit of interpolation
            pixels = crop_or_pad((image[z] - low) / (high - low)).astype(np.float32)
            np.testing.assert_array_equal(cohort.images[i, 0], pixels)
            np.testing.assert_array_equal(cohort.labels[i], crop_or_pad(mask[z]))
    assert acdc.load(copy, 56).spacing_mm == (4.0, 4.0)


@pytest.mark.parametrize("change", ["spacing", "type", "range"])
def test_what_one_file_says_otherwise_is_not_the_copy(copy, change):
    image, _ = paths(copy, "patient002")
    if change == "spacing":
        for path in paths(copy, "patient002"):
            write(path, array(path), (1.0, 1.001))
    else:
        remake(image, lambda a: a.astype(np.uint16) if change == "type" else np.where(a == 1000, 1001, a))
    assert acdc.load(copy, 32, n4=False).meta["data"] == "acdc"


def test_phase(official):
    image, mask = made_up((2, 50, 50), 9)
    for patient, group in FEW.items():
        write_patient(official, patient, image, mask, (1.4, 1.4), group, frame=1)
        (official / f"acdc/training/{patient}/Info.cfg").write_text(INFO.format(es=12, group=group))
    assert len(acdc.load(official, 32, n4=False)) == 13
    cohort = acdc.load(official, 32, "ED", n4=False)
    assert (len(cohort), cohort.meta["phase"]) == (6, "ED")
    np.testing.assert_array_equal(cohort.meta["native"]["patient003"], mask)


def test_other_integers_and_floats_are_read_alike(official):
    before = acdc.load(official, 64, n4=False)
    for patient, kind in zip(FEW, (np.uint16, np.int32, np.float32)):
        remake(paths(official, patient)[0], lambda a, kind=kind: a.astype(kind))
        remake(paths(official, patient)[1], lambda a, kind=kind: a.astype(kind))
    assert same(before, acdc.load(official, 64, n4=False))


def test_same_files_same_fingerprint(copy):
    assert acdc.load(copy, 64).fingerprint() == acdc.load(copy, 64).fingerprint()


def test_check(copy, official):
    text = acdc.check(copy)
    assert text.startswith("acdc-unspaced: ")
    assert "3 of 3 patients (1 DCM, 0 HCM, 0 MINF, 1 NOR, 1 RV), 13 slices, phase ES, without N4" in text
    assert len(text.splitlines()) == 3
    remake(paths(copy, "patient003")[0], lambda a: np.where(a == 500, 501, a))
    assert acdc.check(copy).splitlines()[:2] == text.splitlines()[:2]
    assert acdc.check(copy) != text
    assert acdc.check(official).startswith("acdc: ")


# ---- geometry ----


@pytest.mark.parametrize("n", [223, 224, 225, 226, 301, 60, 61])
def test_offsets_are_rounded_down(n):
    """Pixels as they are, a ramp: which of them is where on the grid, and back."""
    ramp = acdc_grid.linear(n, 1.0) @ np.arange(1.0, n + 1)
    np.testing.assert_array_equal(ramp, crop_or_pad(np.arange(1.0, n + 1)[:, None] + np.zeros(GRID))[:, 0])
    index = acdc_grid.nearest(n, 1.0)
    np.testing.assert_array_equal(index + 1, ramp)


@pytest.mark.parametrize("size", [GRID, 112, 100, 32])
@pytest.mark.parametrize(("n", "mm"), [(200, 1.83), (171, 1.25), (350, 0.7), (64, 1.9)])
def test_a_point_lands_where_it_should(n, mm, size):
    """A blob's centre of mass, in mm from the middle of the field of view, stays; a half pixel is the crop's."""
    centre = 0.57 * n
    blob = np.exp(-0.5 * ((np.arange(n) - centre) * mm / 8) ** 2)  # 8 mm wide
    extent = round(n * mm / MM)
    position = (centre + 0.5) * extent / n - (extent - GRID) / 2  # in pixels of the 224-grid, from its edge
    rounding = 0 if extent % 2 == 0 else 0.5 * (1 if extent > GRID else -1)  # what halves rounded down move
    found = size / GRID * acdc_grid.areas(size) @ acdc_grid.linear(n, mm / MM) @ blob
    mass = ((np.arange(size) + 0.5) * GRID / size * found).sum() / found.sum()
    assert mass == pytest.approx(position + rounding, abs=0.02)
    edge = 0.57 * n // 1 * extent / n - (extent - GRID) / 2 + rounding  # between two native pixels, two labels
    index = acdc_grid.nearest(n, mm / MM)
    assert np.flatnonzero(index >= 0.57 * n // 1)[0] == pytest.approx(edge, abs=0.5)


@pytest.mark.parametrize("size", [112, 56, 32])
def test_smaller_images_are_block_means(official, size):
    full, small = acdc.load(official, n4=False), acdc.load(official, size, n4=False)
    block = GRID // size
    torch.testing.assert_close(small.images, torch.nn.functional.avg_pool2d(full.images, block), atol=1e-6, rtol=0)
    assert small.spacing_mm == pytest.approx((MM * block,) * 2)
    shares = block**2 * torch.nn.functional.avg_pool2d(one_hot(full.labels), block)
    assert small.labels.equal(shares.round().argmax(1))  # the largest share, of equal ones the lowest label


def test_sizes_that_do_not_divide_224(official):
    """64: seven pixels of 448 to two of 224."""
    full, small = acdc.load(official, n4=False), acdc.load(official, 64, n4=False)
    doubled = full.images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(small.images, torch.nn.functional.avg_pool2d(doubled, 7), atol=1e-6, rtol=0)
    doubled = one_hot(full.labels).repeat_interleave(2, 2).repeat_interleave(2, 3)
    shares = 49 * torch.nn.functional.avg_pool2d(doubled, 7)  # whole numbers
    assert small.labels.equal(shares.round().argmax(1))


def test_small_images_do_not_alias(copy):
    """The finest checkerboard at 64: grey, where every third or fourth pixel alone would still be black and white."""
    image = np.indices((4, 200, 200)).sum(0) % 2 * 1000
    image[:, :, :100] = np.arange(100)  # something else, so that percentiles are the board's
    remake(paths(copy, "patient003")[0], lambda a: image.astype(np.int16))
    remake(paths(copy, "patient003")[1], lambda a: np.arange(image.size).reshape(image.shape).astype(np.uint8) % 4)
    cohort = acdc.load(copy, 64)
    board = cohort.images[of(cohort, "patient003"), 0, 12:52, 36:56]
    assert board.std() < 0.06
    assert abs(float(board.mean()) - 0.5) < 0.02


@pytest.mark.parametrize(("field", "size", "fine"), [(112, 56, 1), (144, 48, 1), (99, 33, 2), (144, 64, 4)])
def test_a_field_about_the_centre(official, field, size, fine):
    """Block means of what is cut out of the grid, made `fine` times as fine where pixels' edges need it."""
    full, part = acdc.load(official, n4=False), acdc.load(official, size, n4=False, field=field)

    def cut(images):
        images = images.repeat_interleave(fine, 2).repeat_interleave(fine, 3)
        first = fine * (GRID - field) // 2
        images = images[..., first : first + fine * field, first : first + fine * field]
        return torch.nn.functional.avg_pool2d(images, fine * field // size)

    torch.testing.assert_close(part.images, cut(full.images), atol=1e-5, rtol=0)
    shares = (cut(one_hot(full.labels)).double() * (fine * field // size) ** 2).round()  # whole numbers
    assert part.labels.equal(shares.argmax(1))
    assert part.spacing_mm == pytest.approx((MM * field / size,) * 2)
    assert part.meta["field"] == field
    assert full.meta["field"] == GRID


# ---- back to the native grid ----


@pytest.fixture(scope="module")
def hearts(tmp_path_factory):
    """Phantoms cut to other shapes and called other spacings, coarser and finer than 1.367 mm, as official files."""
    root = tmp_path_factory.mktemp("hearts")
    phantoms = heart(3, seed=1, size=200)
    for (patient, group), rows, spacing in zip(FEW.items(), (150, 200, 171), ((1.8, 1.8), (0.9, 1.0), (1.367, 1.5))):
        image = phantoms.images[of(phantoms, patient), 0, :rows].numpy()
        mask = phantoms.meta["native"][patient][:, :rows].numpy()
        write_patient(root, patient, (300 + 400 * image).astype(np.int16), mask, spacing, group)
    return root


@pytest.mark.parametrize(("size", "least"), [(GRID, 0.95), (112, 0.8)])
def test_there_and_back(few, hearts, size, least):
    cohort = acdc.load(hearts, size, n4=False)
    for patient, native in cohort.meta["native"].items():
        back = acdc.to_native(one_hot(cohort.labels[of(cohort, patient)]), patient, cohort)
        assert back.shape == (len(native), 4, *native.shape[1:])
        torch.testing.assert_close(back.sum(1), torch.ones(native.shape))
        for c in (1, 2, 3):
            a, b = back.argmax(1) == c, native == c
            assert float(2 * (a & b).sum() / (a.sum() + b.sum())) >= least, (patient, c)


def test_there_and_back_without_scaling(copy):
    cohort = acdc.load(copy)
    for patient, native in cohort.meta["native"].items():
        back = acdc.to_native(one_hot(cohort.labels[of(cohort, patient)]), patient, cohort)
        inside = slice(38, 38 + GRID) if patient == "patient003" else slice(None)
        assert back.argmax(1)[..., inside].equal(native.long()[..., inside])
        if patient == "patient003":  # 301 columns: what was cut off is background
            assert back[:, 0, :, :38].eq(1).all()
            assert back[:, 0, :, 38 + GRID :].eq(1).all()
            assert back[:, 1:, :, :38].eq(0).all()


def test_outside_the_field_is_background(copy):
    """Pixels of the copy are those of the grid: a crop of 120 of them, as they are, comes back to where it was."""
    cohort = acdc.load(copy, 120, field=120)
    for patient, native in cohort.meta["native"].items():
        back = acdc.to_native(one_hot(cohort.labels[of(cohort, patient)]), patient, cohort)
        outside = np.ones(native.shape[1:], bool)
        first = []
        for n in outside.shape:  # of the field, in native pixels: half of what the 224 leave out, rounded down, and 52
            first.append(((n - GRID) // 2 if n > GRID else -((GRID - n) // 2)) + (GRID - 120) // 2)
        outside[tuple(slice(max(0, i), max(0, i + 120)) for i in first)] = False
        assert (outside.any(), outside.all()) == (patient != "patient001", False)
        assert back.argmax(1).equal(torch.where(torch.from_numpy(outside), 0, native.long()))
        assert back[:, 0, outside].eq(1).all()
        assert back[:, 1:, outside].eq(0).all()


def test_native_probabilities_are_scipys(official):
    """Padded only, both axes: the padding away, then a zoom back to the native shape."""
    cohort, patient = acdc.load(official, n4=False), "patient001"
    p = torch.rand(4, 4, GRID, GRID, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    h, w = (round(n * mm / MM) for n, mm in zip(SHAPES[patient][1:], SPACING[patient]))
    top, left = (GRID - h) // 2, (GRID - w) // 2
    cut = p[..., top : top + h, left : left + w].numpy()
    zoom = (1, 1, SHAPES[patient][1] / h, SHAPES[patient][2] / w)
    back = ndimage.zoom(cut, zoom, order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(acdc.to_native(p, patient, cohort), back, atol=1e-9)


def test_from_a_smaller_grid_by_hand(copy):
    """56 instead of 224: each pixel is 4 x 4 native ones, whose centres lie 3/8 and 1/8 of a pixel beside its own."""
    cohort = acdc.load(copy, 56)
    p = torch.zeros(4, 4, 56, 56)
    p[:, 0] = 1
    p[:, 3, :, 25], p[:, 0, :, 25] = (
        1,
        0,
    )  # columns 100 to 103 of 224; of the 47 native ones, after 88 of padding, 12 to 15
    back = acdc.to_native(p, "patient001", cohort)
    assert (8 * back[0, 3, 30, 8:20]).tolist() == [0, 0, 1, 3, 5, 7, 7, 5, 3, 1, 0, 0]


def test_probabilities_keep_their_type_and_gradient(copy):
    cohort = acdc.load(copy, 32)
    p = torch.rand(5, 4, 32, 32, dtype=torch.float64, requires_grad=True)
    back = acdc.to_native(p, "patient002", cohort)
    assert back.dtype == torch.float64
    back.sum().backward()
    assert p.grad.abs().sum() > 0
    with pytest.raises(BadInput, match=r"probabilities of patient002: expected shape \(5, 4, 32, 32\), found \(4, 4"):
        acdc.to_native(p[:4], "patient002", cohort)


# ---- N4 ----


@pytest.fixture(scope="module")
def biased(tmp_path_factory):
    """A uniform disc of 400 in air, under a smooth field; and the disc."""
    z, y, x = np.meshgrid(np.linspace(-1, 1, 6), np.linspace(-1, 1, 80), np.linspace(-1, 1, 72), indexing="ij")
    disc = np.hypot(y, x) < 0.8
    field = np.exp(0.35 * x + 0.2 * y - 0.15 * x * y + 0.1 * z)
    image = np.where(disc, 400 * field, 10) + np.random.default_rng(0).normal(0, 4, disc.shape)
    path = tmp_path_factory.mktemp("n4") / "a.nii.gz"
    write(path, np.clip(image, 0, None).astype(np.float32))
    return path, ndimage.binary_erosion(disc, np.ones((1, 5, 5)))


def test_n4_flattens(biased):
    path, disc = biased
    before, after = array(path), acdc._corrected(path)
    assert after.shape == before.shape
    variation = [volume[disc].std() / volume[disc].mean() for volume in (before, after)]
    assert variation[0] > 0.15
    assert variation[1] < 0.04
    assert after[disc].mean() > 15 * after[~ndimage.binary_dilation(disc, np.ones((1, 7, 7)))].mean()


def test_n4_as_in_the_release(biased):
    """The release's recipe (N4.cxx) with SimpleITK's object interface; truncated, not rounded."""
    image = sitk.Cast(sitk.ReadImage(str(biased[0])), sitk.sitkFloat32)
    otsu = sitk.OtsuThresholdImageFilter()
    otsu.SetNumberOfHistogramBins(200)
    otsu.SetInsideValue(0)
    otsu.SetOutsideValue(1)
    mask = otsu.Execute(image)
    assert 0.3 < sitk.GetArrayFromImage(mask).mean() < 0.7  # the disc, not the air
    shrink = sitk.ShrinkImageFilter()
    shrink.SetShrinkFactors((4, 4, 2))
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations((50, 50, 50, 50))
    n4.SetConvergenceThreshold(0.001)
    n4.Execute(shrink.Execute(image), shrink.Execute(mask))
    quotient = sitk.GetArrayFromImage(image) / np.exp(sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)))
    corrected = acdc._corrected(biased[0])
    assert corrected.dtype == np.uint16
    clear = np.abs(quotient - np.round(quotient)) > 1e-3  # single precision may fall on either side of an integer
    np.testing.assert_array_equal(corrected[clear], np.floor(quotient)[clear])
    assert (np.abs(corrected - quotient) < 1.001).all()
    assert np.mean(quotient - corrected) > 0.4


def test_n4_is_on_for_the_official_files(official):
    cohort = acdc.load(official, 64)
    assert cohort.meta["n4"] is True
    assert not cohort.images.equal(acdc.load(official, 64, n4=False).images)
    for patient in FEW:
        image, _ = paths(official, patient)
        write(image, acdc._corrected(image), SPACING[patient])
    assert cohort.images.equal(acdc.load(official, 64, n4=False).images)


def test_large_values_survive_n4(tmp_path):
    image, _ = made_up((4, 40, 40))
    write(tmp_path / "a.nii.gz", 500 * image.astype(np.float32))
    corrected = acdc._corrected(tmp_path / "a.nii.gz")
    assert corrected.dtype == np.uint32
    assert corrected.max() > 2**16


# ---- bad input ----


@pytest.mark.parametrize("size", [0, -1, 225, 512])
def test_sizes(copy, size):
    refused(lambda: acdc.load(copy, size), "size: expected 1 to 224", f"found {size}")


@pytest.mark.parametrize("field", [0, 63, 225, 144.5])
def test_fields(copy, field):
    refused(lambda: acdc.load(copy, 64, field=field), f"field: expected 64 (size) to 224, found {field}")


def test_phases(copy):
    refused(lambda: acdc.load(copy, phase="systole"), "phase: expected ES or ED, found systole")


def test_no_root():
    refused(lambda: acdc.load(None), "FEWLABELS_DATA", "the folder that holds acdc/", "creatis", "found nothing")


def test_missing_folders(official, tmp_path):
    folder = tmp_path / "acdc/training"
    where = (f"{folder / 'patient001'}: ", "expected 3 folders", "creatis", "found 0, without patient001, patient002")
    refused(lambda: acdc.load(tmp_path), *where)
    shutil.rmtree(official / "acdc/training/patient002")
    for call in (acdc.load, acdc.check, lambda root: acdc.prepare(root, root / "out.npz")):
        refused(lambda call=call: call(official), "training/patient002: expected 3", "found 2, without patient002")
    assert not (official / "out.npz").exists()


def test_99_patients(tmp_path):
    assert acdc.PATIENTS == tuple(f"patient{i:03}" for i in range(1, 101))
    for patient in acdc.PATIENTS[:-1]:
        (tmp_path / "acdc/training" / patient).mkdir(parents=True)
    refused(lambda: acdc.load(tmp_path), "training/patient100: expected 100 folders", "found 99, without patient100")


def test_missing_files_are_named_before_any_is_read(official, monkeypatch):
    monkeypatch.setattr(acdc, "_volume", None)
    image, mask = paths(official, "patient003")
    mask.unlink()
    refused(lambda: acdc.load(official), f"{mask}: expected the ES frame that Info.cfg names, found no such file")
    image.unlink()
    refused(lambda: acdc.load(official), f"{image}: expected the ES frame that Info.cfg names, found no such file")
    refused(lambda: acdc.load(official, phase="ED"), "patient001_frame01.nii.gz: expected the ED frame")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("ED: 1\nGroup: NOR\n", "expected ES: the number of a frame, found 'nothing'"),
        ("ED: 1\nES: twelve\nGroup: NOR\n", "expected ES: the number of a frame, found 'twelve'"),
        ("ED: 1\nES: 12\n", "expected Group: one of DCM, HCM, MINF, NOR, RV, found 'nothing'"),
        ("ED: 1\nES: 12\nGroup: ARV\n", "expected Group: one of DCM, HCM, MINF, NOR, RV, found 'ARV'"),
        ("", "expected ES: the number of a frame, found 'nothing'"),
    ],
)
def test_info(official, text, line):
    path = official / "acdc/training/patient002/Info.cfg"
    path.write_text(text)
    refused(lambda: acdc.load(official), f"{path}: {line}")


def test_info_that_is_no_text(official):
    path = official / "acdc/training/patient002/Info.cfg"
    path.write_bytes(b"\xff\xfe\x00ES")
    refused(lambda: acdc.load(official), f"{path}: expected lines ED: n, ES: n, Group: name, found 'utf-8'")
    path.unlink()
    refused(lambda: acdc.load(official), f"{path}: expected lines ED: n, ES: n, Group: name", "No such file")


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("keep", [0, 40, 400, -2000, -9, -1])
def test_files_cut_short(official, which, keep):
    """ITK itself reads most of these and makes up the end."""
    path = paths(official, "patient002")[which]
    path.write_bytes(path.read_bytes()[:keep])
    refused(lambda: acdc.load(official), f"{path}: expected a gzipped NIfTI volume")


def test_a_short_file_that_is_zipped_well(official):
    path = paths(official, "patient002")[0]
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:-1]))
    refused(lambda: acdc.load(official), f"{path}: expected at least {len(content):,} bytes", f"{len(content) - 1:,}")


def test_other_files_under_the_name(official):
    path = paths(official, "patient002")[1]
    path.write_text("hello")
    refused(lambda: acdc.load(official), f"{path}: expected a gzipped NIfTI volume, found Not a gzipped file")
    path.write_bytes(gzip.compress(b"hello"))
    refused(lambda: acdc.load(official), f"{path}: expected a gzipped NIfTI volume, found")
    write(path, np.zeros((30, 30), np.uint8))
    refused(lambda: acdc.load(official), f"{path}: expected three axes, found 2")


@pytest.mark.parametrize(("value", "kind"), [(4, np.uint8), (-1, np.int16), (0.5, np.float32)])
def test_labels_that_are_none(official, value, kind):
    path = paths(official, "patient001")[1]

    def change(mask):
        mask = mask.astype(kind)
        mask[1, 2, 3] = value
        return mask

    remake(path, change)
    refused(lambda: acdc.load(official), f"{path}: expected labels 0 to 3, found 1 voxels of others, {value}")


def test_empty_masks(official):
    path = paths(official, "patient001")[1]
    remake(path, np.zeros_like)
    refused(lambda: acdc.load(official), f"{path}: expected labels 0 to 3, found nothing but 0")


def test_masks_of_other_images(official):
    path = paths(official, "patient001")[1]
    mask = array(path)
    write(path, mask[:, 1:], SPACING["patient001"])
    refused(
        lambda: acdc.load(official), f"{path}: expected size 47, 60, 4 (x, y, z), as patient001_f", "found 47, 59, 4"
    )
    write(path, mask, (1.5625, 1.6))
    refused(lambda: acdc.load(official), f"{path}: expected spacing 1.5, 1.5625, 8 (x, y, z)", "found 1.6, 1.5625, 8")


def test_images_without_contrast(official):
    path = paths(official, "patient003")[0]
    image = array(path)
    write(path, np.full_like(image, 7), SPACING["patient003"])
    refused(lambda: acdc.load(official), f"{path}: expected an image with contrast", "percentile both 7")


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(("value", "kind"), [(np.nan, np.float32), (np.nan, np.float64), (-np.inf, np.float32)])
def test_voxels_that_are_no_numbers(official, which, value, kind):
    """ITK reads 0 in their place, which neither percentiles nor labels would tell."""
    path = paths(official, "patient003")[which]

    def change(voxels):
        voxels = voxels.astype(kind)
        voxels[0, 0, :2] = value
        return voxels

    remake(path, change)
    refused(lambda: acdc.load(official), f"{path}: expected finite numbers, found 2 voxels that are none")


def test_images_that_n4_cannot_correct(official):
    path = paths(official, "patient001")[0]
    remake(path, lambda a: a - 300)
    refused(lambda: acdc.load(official), f"{path}: expected grey values of at least 0", "found -300")
    remake(path, lambda a: (a + 300) / 1000.0)  # truncation leaves nothing of 0..1
    refused(lambda: acdc.load(official), "patient001: expected an image with contrast", "percentile both 0")
    image, mask = made_up((3, 60, 47))  # the shrunken one has a single slice
    write_patient(official, "patient001", image, mask, (1.5, 1.5))
    refused(lambda: acdc.load(official), f"{path}: expected a volume that N4 can correct")


# ---- files that people have ----


def unpack(path):
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()


def reorient(path, change):
    """Stores the same places in another order, which the header tells."""
    sitk.WriteImage(change(sitk.ReadImage(str(path))), str(path))


def alike_unpacked(root):
    for path in sorted(root.rglob("*.nii.gz")):
        unpack(path)


def alike_mask_unpacked(root):
    unpack(paths(root, "patient002")[1])


def alike_info_of_notepad(root):
    path = root / "acdc/training/patient003/Info.cfg"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_text().replace("\n", "\r\n").encode())


def alike_hidden(root):
    folder = root / "acdc/training"
    (folder / ".ipynb_checkpoints").mkdir()
    for name in (".DS_Store", "patient001/._patient001_frame12_gt.nii.gz", "patient002/Thumbs.db", "MANDATORY.md"):
        (folder / name).write_bytes(b"\0")


def alike_mask_mirrored(root):
    reorient(paths(root, "patient001")[1], lambda image: image[::-1, :, :])


def alike_mask_sagittal(root):
    reorient(paths(root, "patient002")[1], lambda image: sitk.PermuteAxes(image[:, ::-1, ::-1], [1, 2, 0]))


def alike_sform_of_the_official_files(root):
    for path in root.rglob("*.nii.gz"):
        patch(path, srow=(-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0))


def alike_no_position(root):
    for path in root.rglob("*.nii.gz"):
        patch(path, codes=(0, 0))


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (alike_unpacked, None),
        (alike_mask_unpacked, None),
        (alike_info_of_notepad, None),
        (alike_hidden, None),
        (alike_mask_mirrored, "patient001_frame12_gt.nii.gz: its axes run another way than those of patient001_frame"),
        (alike_mask_sagittal, "patient002_frame12_gt.nii.gz: its axes run another way than those of patient002_frame"),
        (alike_sform_of_the_official_files, "patient001_frame12.nii.gz and 5 more: the sform has another spacing"),
        (alike_no_position, None),
    ],
)
def test_read_alike(official, change, warning, recwarn):
    before = acdc.load(official, 32, n4=False)
    change(official)
    assert same(acdc.load(official, 32, n4=False), before)
    assert [warning in str(w.message) for w in recwarn] == ([True] if warning else [])


MIRRORED = {"srow": (1.5, 0, 0, 0, 0, -1.5625, 0, 0, 0, 0, 8, 0), "codes": (0, 1)}
SHIFTED = {"qoffset": (0, 0, 1), "codes": (1, 0)}
NAN_ROWS = {"pixdim": (1, 1.5, float("nan"), 8, 1, 1, 1, 1)}
NO_DEPTH = {"pixdim": (1, 1.5, 1.5625, 0, 1, 1, 1, 1)}


@pytest.mark.parametrize(
    ("which", "fields", "line"),
    [
        (1, MIRRORED, "expected direction 1, 0, 0, 0, 1, 0, 0, 0, 1 (x, y, z), as patient001_frame12.nii.gz, found -1"),
        (1, SHIFTED, "expected origin 0, 0, 0 (x, y, z), as patient001_frame12.nii.gz, found 0, 0, 1"),
        (1, SHIFTED | {"codes": (1, 1)}, "sform: expected origin 0, 0, 1 (x, y, z), as its qform, found 0, 0, 0"),
        (0, NAN_ROWS, "expected a spacing of 0.01 to 100 mm (x, y, z), found 1.5, nan, 8"),
        (1, NO_DEPTH, "expected a spacing of 0.01 to 100 mm (x, y, z), found 1.5, 1.5625, 0"),
        (0, {"vox_offset": (0,)}, "expected voxels behind the header, vox_offset of at least 352, found 0"),
        (1, {"vox_offset": (351,)}, "expected voxels behind the header, vox_offset of at least 352, found 351"),
    ],
)
def test_headers_that_are_refused(official, which, fields, line):
    path = paths(official, "patient001")[which]
    patch(path, **fields)
    refused(lambda: acdc.load(official), path, line)


@pytest.mark.parametrize(("z", "value"), [(0, 0), (3, 250)])
def test_slices_of_one_value(official, z, value):
    path = paths(official, "patient003")[0]
    remake(path, lambda a: np.where(np.arange(len(a))[:, None, None] == z, value, a).astype(a.dtype))
    refused(
        lambda: acdc.load(official), f"{path}: expected slices with contrast, found nothing but {value} in slice {z}"
    )


# ---- one file instead of the folder ----


@pytest.mark.parametrize("layout", ["copy", "official"])
def test_prepared_gives_the_same_bits(request, layout):
    root = request.getfixturevalue(layout)
    out = root / "new/folder/acdc.npz"
    digest = acdc.prepare(root, out)
    assert [path.name for path in out.parent.iterdir()] == ["acdc.npz"]
    assert digest in acdc.check(out)
    assert (digest in acdc.check(root)) == (layout == "copy")  # what is official is checked before N4
    for size in (GRID, 64):
        assert same(acdc.load(out, size), acdc.load(root, size))
    assert acdc.load(out, 64).meta["n4"] == (layout == "official")
    again = root / "again.npz"
    assert acdc.prepare(out, again) == digest
    assert same(acdc.load(again, 64), acdc.load(out, 64))


def test_prepared_end_diastole(official):
    for patient in FEW:
        path = official / f"acdc/training/{patient}/Info.cfg"
        path.write_text(path.read_text().replace("ED: 1", "ED: 12"))
    out = official / "ed.npz"
    acdc.prepare(official, out, "ED")
    assert acdc.load(out, 32, "ED").meta["phase"] == "ED"
    assert "phase ED, with N4" in acdc.check(out)
    refused(lambda: acdc.load(out), f"{out}: expected volumes prepared with phase ES, found phase ED")
    refused(
        lambda: acdc.load(out, phase="ED", n4=False), f"{out}: expected volumes prepared with n4 False, found n4 True"
    )


def test_grey_values_of_all_kinds_are_prepared(copy):
    image, _ = paths(copy, "patient002")
    for value in (-5, 70_000, 0.25):
        remake(image, lambda a, v=value: np.where(a == 500, v, a).astype(np.float64 if v == 0.25 else np.int32))
        arrays = acdc._read(copy, "ES", False)
        planes = copy / "a.npz"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(acdc, "_read", lambda *_, kept=arrays: kept)
            acdc.prepare(copy, planes)
        assert acdc._read(planes, "ES", None)["images"].tobytes() == arrays["images"].tobytes()


def test_damaged_and_foreign_prepared_files(copy, monkeypatch):
    out = copy / "acdc.npz"
    acdc.prepare(copy, out)
    whole = out.read_bytes()
    for damaged in (b"", whole[:1000], whole[:-1000], whole[1000:]):
        out.write_bytes(damaged)
        refused(lambda: acdc.load(out), f"{out}: expected a file written by `python -m fewlabels prepare acdc`")
    prepared.write(out, "jsrt", {"images": np.zeros((2, 3, 3), np.int16)})
    refused(lambda: acdc.load(out), f"{out}: ", "prepare acdc", "found one of jsrt")
    prepared.write(out, "acdc", {"images": np.zeros((2, 3, 3), np.int16)})
    refused(lambda: acdc.load(out), f"{out}: expected arrays data, images, labels, n4", "found images")
    out.write_bytes(whole)
    monkeypatch.setattr(acdc, "PATIENTS", tuple(FEW)[:2])
    refused(lambda: acdc.load(out), f"{out}: expected the 2 patients of ACDC, found 3 others")


# ---- splits ----

ALL = [f"{patient}/{z:02}" for patient in acdc.PATIENTS for z in range(3)]


def slices(numbers):
    return tuple(f"patient{number}/{z:02}" for number in numbers.split() for z in range(3))


@pytest.mark.parametrize("labelled", [1, 3])
@pytest.mark.parametrize("labelled_set", range(1, 6))
def test_splits_are_the_published_lists(labelled, labelled_set):
    split = acdc.splits(ALL, labelled, labelled_set)
    assert split.labelled == slices(LABELLED[labelled][labelled_set - 1])
    assert split.unlabelled == slices(UNLABELLED)
    assert split.validation == slices("011 071")
    assert split.test == slices(TEST)
    assert split == acdc.splits(ALL[::-1], labelled, labelled_set)
    parts = [{name[:10] for name in part} for part in (split.labelled, split.unlabelled, split.validation, split.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == labelled + 25 + 2 + 20  # no patient in two parts


def test_impossible_splits():
    for labelled in (0, 2, 5, 100):
        refused(lambda n=labelled: acdc.splits(ALL, n, 1), f"labelled: expected 1 or 3, found {labelled}")
    for k in (0, 6, -1):
        refused(lambda k=k: acdc.splits(ALL, 1, k), f"labelled_set: expected 1 to 5, found {k}")
    without = [name for name in ALL if not name.startswith("patient087")]
    refused(
        lambda: acdc.splits(without, 1, 1), "the 100 patients of the published lists", "found none called patient087"
    )


# ---- the real files ----


@pytest.fixture(scope="module")
def real_root():
    root = os.environ.get("FEWLABELS_DATA")
    if not root or not Path(root, "acdc").is_dir():
        pytest.skip("FEWLABELS_DATA is not set to a folder that holds acdc/: ACDC cannot be shipped")
    return Path(root)


@pytest.mark.long
def test_real_data(real_root, tmp_path):
    """Without N4, which would take minutes on official files."""
    cohort = acdc.load(real_root, 96, n4=False)
    assert cohort.meta["data"] in ("acdc", "acdc-unspaced")
    assert tuple(cohort.meta["native"]) == acdc.PATIENTS
    assert list(cohort.meta["pathology"].values()) == [
        g for g in ("DCM", "HCM", "MINF", "NOR", "RV") for _ in range(20)
    ]
    counts = Counter(cohort.groups)
    assert len(counts) == 100
    assert 6 <= min(counts.values()) <= max(counts.values()) <= 18
    for patient, native in cohort.meta["native"].items():
        assert len(native) == counts[patient]
        assert native.unique().tolist() == [0, 1, 2, 3]
        assert set(cohort.labels[of(cohort, patient)].unique().tolist()) == {0, 1, 2, 3}
    assert torch.isfinite(cohort.images).all()
    left, wall = (cohort.images[:, 0][cohort.labels == c].mean() for c in (3, 2))
    assert left > wall + 0.2  # blood is bright
    split = acdc.splits(cohort, 3, 1)
    assert {name[:10] for name in split.labelled} == {"patient002", "patient022", "patient042"}
    if cohort.meta["data"] == "acdc-unspaced":
        assert (len(cohort), cohort.spacing_mm) == (951, (GRID / 96,) * 2)
        out = tmp_path / "acdc.npz"
        assert acdc.prepare(real_root, out) in acdc.check(out)
        assert out.stat().st_size <= 45e6
        assert same(acdc.load(out, 96), cohort)
