"""The head-and-neck loader on files made here (no patient is in this repository), with FEWLABELS_DATA on real ones."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers import refused, same
from scipy import ndimage
from volumes_kit import flip_bit, patch_nrrd, write_dicom

from fewlabels.data import oar, oar_grid, prepared
from fewlabels.data.phantoms.head_neck import head_neck
from fewlabels.errors import BadInput
from fewlabels.scores.metrics import dice

# Raudaschl et al. 2017: the structures of PDDCA, and the off-site test set of the challenge, typed in.
PDDCA = (
    *("BrainStem", "Chiasm", "Mandible", "OpticNerve_L", "OpticNerve_R"),
    *("Parotid_L", "Parotid_R", "Submandibular_L", "Submandibular_R"),
)
OPENKBP = ("BrainStem", "SpinalCord", "Parotid_L", "Parotid_R", "Mandible", "Larynx", "Esophagus")
TEST = "0555 0576 0598 0659 0661 0667 0669 0708 0727 0746"
FEW = ("0522c0001", "0522c0002", "0522c0555")
# Voxels and mm, z, y, x: anisotropic, no two alike, nothing square.
SHAPES = {"0522c0001": (28, 36, 34), "0522c0002": (24, 42, 35), "0522c0555": (32, 34, 40)}
SPACING = {"0522c0001": (4.0, 5.9, 5.5), "0522c0002": (5.6, 5.0, 6.4), "0522c0555": (3.6, 6.6, 5.7)}
AIR = -0.9  # (-1000 + 100) / 1000
SMALL = {"spacing": (7, 6, 6), "size": (26, 34, 30)}


def write(path, array, spacing=(3.0, 4.0, 4.0), origin=(10.0, -120.5, 7.25), orientation="LPS", compressed=True):
    """`array` (Z, Y, X), spacing and origin likewise, as NRRD whose axes run another way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing[::-1])
    image.SetOrigin(origin[::-1])
    sitk.WriteImage(sitk.DICOMOrient(image, orientation), str(path), compressed)


def ellipsoid(shape, centre, radii):
    """`centre` and `radii` as shares of the shape."""
    axes = np.meshgrid(*((np.arange(n) + 0.5) / n for n in shape), indexing="ij")
    return sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radii)) < 1


def made_up(shape, names, seed=0):
    """HU int16 of a head with noise in air, and one mask for each name, of which neighbours overlap."""
    rng = np.random.default_rng(seed)
    body = ellipsoid(shape, (0.5, 0.5 + 0.02 * seed, 0.5), (0.42, 0.36, 0.33))
    image = np.where(body, rng.normal(40, 60, shape), rng.normal(-1000, 5, shape))
    masks = {}
    for i, name in enumerate(names):
        centre = 0.5 + 0.2 * np.array([np.sin(i), np.cos(2 * i), np.cos(i + seed)])
        masks[name] = ellipsoid(shape, centre, (0.11, 0.08, 0.09 + 0.004 * i))
        image[masks[name]] += 100 * i
    return np.clip(image, -1024, 3071).astype(np.int16), masks


def write_patient(folder, image, masks, spacing, **how):
    write(folder / "img.nrrd", image, spacing, **how)
    for name, mask in masks.items():
        write(folder / f"structures/{name}.nrrd", np.asarray(mask, np.uint8), spacing, **how)


def has(patient):
    """What is delineated: the second patient lacks two structures."""
    return [name for name in PDDCA if patient != "0522c0002" or name not in ("Chiasm", "Submandibular_R")]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Made once; tests get copies."""
    root = tmp_path_factory.mktemp("made")
    for i, patient in enumerate(FEW):
        write_patient(root / "pddca" / patient, *made_up(SHAPES[patient], has(patient), i), SPACING[patient])
    return root


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(oar, "TRAIN", 2)
    monkeypatch.setattr(oar, "TEST", FEW[2:])


@pytest.fixture
def pddca(few, made, tmp_path):
    """The data root of three patients in the official layout."""
    return Path(shutil.copytree(made, tmp_path / "root"))


@pytest.fixture
def openkbp(tmp_path):
    """The data root of the stand-in: names that need not begin with 0522c."""
    for i, name in enumerate(("train/pt_9", "train/pt_10", "test/pt_3")):
        names = OPENKBP[: 7 - 2 * (i % 2)]
        write_patient(tmp_path / "other/openkbp" / name, *made_up((25, 34, 32), names, i), (4.0, 6.0, 6.0))
    return tmp_path / "other"


def array(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def remake(path, change, kind=None, **how):
    """Rewrites a file with its array changed, on the same grid."""
    image = sitk.ReadImage(str(path))
    voxels = change(sitk.GetArrayFromImage(image))
    how = {"spacing": image.GetSpacing()[::-1], "origin": image.GetOrigin()[::-1]} | how
    write(path, voxels if kind is None else voxels.astype(kind), **how)


def merged(masks, classes):
    """One voxel after the other: the smallest of the structures that claim it; and how many several claim."""
    sizes = {name: mask.sum() for name, mask in masks.items()}
    labels, twice = np.zeros(next(iter(masks.values())).shape, np.uint8), 0
    for place in np.argwhere(sum(masks.values())):
        claims = [name for name, mask in masks.items() if mask[tuple(place)]]
        labels[tuple(place)] = classes.index(min(claims, key=sizes.get))
        twice += len(claims) > 1
    return labels, twice


def one_hot(labels, classes):
    return torch.nn.functional.one_hot(labels, classes).movedim(-1, 0).float()


# ---- what is loaded ----


def test_pddca(pddca):
    cohort = oar.load(pddca, **SMALL)
    assert cohort.images.shape == (3, 1, 26, 34, 30)
    assert cohort.labels.shape == (3, 26, 34, 30)
    assert (cohort.images.dtype, cohort.labels.dtype) == (torch.float32, torch.int64)
    assert cohort.classes == ("background", *PDDCA)
    assert cohort.spacing_mm == (7.0, 6.0, 6.0)
    assert cohort.ids == cohort.groups == FEW
    meta = cohort.meta
    assert meta["data"] == "pddca"
    assert "Raudaschl" in meta["source"]
    assert meta["test"] == ("0522c0555",)
    for i, patient in enumerate(FEW):
        masks = {name: array(pddca / f"pddca/{patient}/structures/{name}.nrrd") > 0 for name in has(patient)}
        labels, twice = merged(masks, cohort.classes)
        assert meta["native"][patient].dtype == torch.uint8
        np.testing.assert_array_equal(meta["native"][patient], labels)
        assert meta["claimed_twice"][patient] == twice > 0
        assert meta["native_spacing_mm"][patient] == pytest.approx(SPACING[patient])
        expected = [patient != "0522c0002", *(name in has(patient) for name in PDDCA)]
        assert meta["present"][i].tolist() == expected
    assert meta["present"].dtype == torch.bool


def test_stand_in(openkbp):
    cohort = oar.load(openkbp, **SMALL)
    assert (cohort.meta["data"], cohort.classes) == ("openkbp-for-pddca", ("background", *OPENKBP))
    for text in ("Babier", "MIT", "not PDDCA", "stands in for PDDCA"):
        assert text in cohort.meta["source"]
    assert cohort.ids == ("pt_10", "pt_9", "pt_3")
    assert cohort.meta["test"] == ("pt_3",)
    split = oar.splits(cohort)
    assert (split.labelled, split.unlabelled, split.validation, split.test) == (("pt_10", "pt_9"), (), (), ("pt_3",))
    assert cohort.meta["present"].tolist() == [[False] + [True] * 5 + [False] * 2, [True] * 8, [True] * 8]


def test_the_official_layout_comes_first(pddca, openkbp):
    shutil.copytree(openkbp / "openkbp", pddca / "openkbp")
    assert oar.load(pddca, **SMALL).meta["data"] == "pddca"


def test_official_lists(made):
    assert oar.TEST == tuple(f"0522c{i}" for i in TEST.split())
    assert oar.TRAIN == 38
    folder = made / "pddca"
    refused(
        lambda: oar.load(made), f"{folder}: expected 38 + 10 folders 0522cNNNN", "imagenglab", "found 3, of the test"
    )


def test_splits(pddca):
    split = oar.splits(oar.load(pddca, **SMALL))
    assert (split.labelled, split.unlabelled, split.validation, split.test) == (FEW[:2], (), (), FEW[2:])


@pytest.mark.parametrize("orientation", ["RAI", "LAS", "SPL", "AIR"])
def test_axes_whatever_the_header_says(pddca, orientation):
    """Flipped and permuted files; ITK finds the same places in them."""
    before, patient = oar.load(pddca, **SMALL), pddca / "pddca/0522c0001"
    for path in [patient / "img.nrrd", *(patient / "structures").iterdir()]:
        remake(path, lambda a: a, orientation=orientation)
    stored = sitk.ReadImage(str(patient / "img.nrrd"))
    assert stored.GetDirection() != (1, 0, 0, 0, 1, 0, 0, 0, 1)
    after = oar.load(pddca, **SMALL)
    assert after.images.equal(before.images)
    assert after.labels.equal(before.labels)


def test_feet_to_head_front_to_back_right_to_left(pddca):
    """By physical places alone: LPS coordinates of a structure's voxels in a file stored another way."""
    folder = pddca / "pddca/0522c0001"
    shape = SHAPES["0522c0001"]
    corner = np.zeros(shape, np.uint8)
    corner[20, 10, 23] = 1  # high, in front, on the left
    for path in (folder / "structures").iterdir():
        path.unlink()
    write(folder / "structures/Chiasm.nrrd", corner, SPACING["0522c0001"])
    for path in (folder / "img.nrrd", folder / "structures/Chiasm.nrrd"):
        remake(path, lambda a: a, orientation="RAI")
    stored = sitk.ReadImage(str(folder / "structures/Chiasm.nrrd"))
    z, y, x = (int(i) for i in np.argwhere(sitk.GetArrayFromImage(stored))[0])
    left, back, up = stored.TransformIndexToPhysicalPoint((x, y, z))
    native = oar.load(pddca, **SMALL).meta["native"]["0522c0001"]
    found = np.argwhere(native.numpy())[0]
    centre = (np.array(shape) - 1) / 2
    assert (found - centre > 0).tolist() == [True, False, True]
    np.testing.assert_allclose(found * SPACING["0522c0001"] + (10.0, -120.5, 7.25), (up, back, left), atol=1e-3)


def test_other_types_and_masks_of_255_are_read_alike(pddca):
    before, folder = oar.load(pddca, **SMALL), pddca / "pddca/0522c0002"
    remake(folder / "img.nrrd", lambda a: a, np.float32)
    remake(pddca / "pddca/0522c0001/img.nrrd", lambda a: a, np.int32, compressed=False)
    remake(folder / "structures/BrainStem.nrrd", lambda a: 255 * a)
    remake(folder / "structures/Parotid_L.nrrd", lambda a: a, np.int16)
    assert same(before, oar.load(pddca, **SMALL))


def test_other_files_beside_the_structures(pddca, openkbp):
    (pddca / "pddca/0522c0001/structures/notes.txt").write_text("no structure")
    (pddca / "pddca/0522c0001/landmarks.fcsv").write_text("PDDCA has these")
    (pddca / "pddca/readme.txt").write_text("no patient")
    assert len(oar.load(pddca, **SMALL)) == 3
    before, path = oar.load(openkbp, **SMALL), openkbp / "openkbp/train/pt_9/structures/Larynx.nrrd"
    shutil.copy(path, path.with_stem("PTV70"))  # OpenKBP's targets are no organs
    assert same(before, oar.load(openkbp, **SMALL))


# ---- where the grid lies ----


def blocks(shape=(44, 40, 38), shoulders=True):
    """A head of 28 x 16 x 12 voxels whose top is voxel 37, off the centre; broad lop-sided shoulders below; of 5 mm."""
    image = np.full(shape, -1000, np.int16)
    image[8:38, 12:28, 14:26] = 30
    if shoulders:
        image[:8, 10:34, 2:36] = 30
    return image


@pytest.fixture
def cubes(few, tmp_path):
    """Three patients of cubes at 5 mm: that is also the grid on which the body is found."""
    for patient in FEW:
        image = blocks()
        mask = np.zeros(image.shape)
        mask[20:24, 16:20, 16:20] = 1
        write_patient(tmp_path / "cubes/pddca" / patient, image, {"Mandible": mask}, (5.0, 5.0, 5.0))
    return tmp_path / "cubes"


def test_the_grid_hangs_from_the_top_of_the_body(cubes):
    """Top face of voxel 37, a cell above it: 38.5 * 5 mm is the centre of the uppermost of 20 grid voxels of 5 mm. The
    head's middle is 19.5 and 19.5 voxels; its 30 slices are 150 mm, so that the shoulders do not count."""
    cohort = oar.load(cubes, (5, 5, 5), (20, 30, 21))
    for first in cohort.meta["first_voxel_mm"].values():
        assert first == pytest.approx((38 * 5 - 19 * 5, 19.5 * 5 - 14.5 * 5, 19.5 * 5 - 10 * 5))
    image = blocks()[19:39, 5:35]
    image = (image[:, :, 9:30].astype(float) + image[:, :, 10:31]) / 2  # half a voxel beside the native ones in x
    np.testing.assert_allclose(cohort.images[0, 0], (image + 100) / 1000, atol=1e-5)


def test_the_grid_hangs_alike_at_other_spacings(cubes):
    cohort = oar.load(cubes, (2.5, 4.0, 3.0), (60, 51, 47))
    top, y, x = cohort.meta["first_voxel_mm"][FEW[0]] + np.array([59.5 * 2.5, 25 * 4.0, 23 * 3.0])
    assert (top, y, x) == pytest.approx((38.5 * 5, 19.5 * 5, 19.5 * 5))


def test_the_body_is_found_on_finer_grids_too(cubes):
    """The same blocks in voxels of 2.5 x 1.25 x 2.5 mm."""
    before = oar.load(cubes, (5, 5, 5), (20, 30, 21)).meta["first_voxel_mm"][FEW[1]]
    fine = blocks().repeat(2, 0).repeat(4, 1).repeat(2, 2)
    mask = np.zeros(fine.shape)
    mask[40:48, 64:80, 32:40] = 1
    shutil.rmtree(cubes / "pddca" / FEW[1])
    write_patient(cubes / "pddca" / FEW[1], fine, {"Mandible": mask}, (2.5, 1.25, 2.5))
    cohort = oar.load(cubes, (5, 5, 5), (20, 30, 21))
    offset = (np.array([2.5, 1.25, 2.5]) - 5) / 2  # the centre of the first voxel now lies nearer to the corner
    np.testing.assert_allclose(cohort.meta["first_voxel_mm"][FEW[1]] + offset, before, atol=1e-4)
    assert cohort.labels[1].equal(cohort.labels[0])
    assert (cohort.images[1] - cohort.images[0]).abs().mean() < 0.02


def test_labels_do_not_move_the_grid(pddca):
    """The ground truth somewhere else: not a voxel of the images changes, no place either."""
    before = oar.load(pddca, (7, 6, 5))
    for path in (pddca / "pddca").glob("*/structures/*.nrrd"):
        remake(path, lambda a: np.roll(a, (4, -6, 5), (0, 1, 2)))
    after = oar.load(pddca, (7, 6, 5))
    assert after.images.equal(before.images)
    assert after.meta["first_voxel_mm"] == before.meta["first_voxel_mm"]
    assert not after.labels.equal(before.labels)


def test_table_mask_and_what_lies_beside_are_not_the_body(cubes):
    before = oar.load(cubes, (5, 5, 5), (20, 30, 21)).meta["first_voxel_mm"]

    def clutter(image):
        image[:, 37, :] = 200  # a table
        image[39:, 12:28, 19] = 100  # a sheet that touches nothing
        image[38, 15:25, 20] = 100  # and one that touches the head, thinner than the opening
        image[40:43, 3:8, 3:8] = 1000  # a block
        return image

    for patient in FEW:
        remake(cubes / "pddca" / patient / "img.nrrd", clutter)
    after = oar.load(cubes, (5, 5, 5), (20, 30, 21)).meta["first_voxel_mm"]
    for patient in FEW:
        assert after[patient] == pytest.approx(before[patient])


def test_smallest_grid(cubes):
    """38 slices and the cell above; shoulders from 10 to 34 and 2 to 36 about a centre at 20, 20: 28 and 36 wide."""
    remake(cubes / "pddca" / FEW[2] / "img.nrrd", lambda a: blocks(shoulders=False))
    cohort = oar.load(cubes, (5, 5, 5))
    assert cohort.images.shape[2:] == (39, 28, 36)
    assert float(cohort.images[0].sum()) == pytest.approx(
        (blocks().astype(float) + 1000).sum() / 1000 - 0.9 * 39 * 28 * 36
    )
    assert oar.load(cubes, (4, 5, 7)).images.shape[2:] == (49, 28, 26)


def test_outside_the_file_is_air_and_background(cubes):
    cohort = oar.load(cubes, (5, 5, 5), (60, 60, 60))
    z, y, x = (round(first / 5, 3) for first in cohort.meta["first_voxel_mm"][FEW[0]])
    assert (z, y, x) == (-21, -10, -10)
    inside = torch.zeros(60, 60, 60, dtype=torch.bool)
    inside[21:, 10:50, 10:48] = True
    assert cohort.images[0, 0][~inside].eq(AIR).all()
    assert cohort.labels[0][~inside].eq(0).all()
    np.testing.assert_allclose(cohort.images[0, 0, 21:, 10:50, 10:48], (blocks()[:39] + 100) / 1000, atol=1e-6)


# ---- resampling ----


@pytest.mark.parametrize("size", [7, 12, 20, 33, 40, 61])
def test_linear_is_torchs_antialiased(size):
    """Both grids over the same extent, coarser and finer."""
    n, mm = 40, 2.3
    spacing = n * mm / size
    found = oar_grid.linear(n, mm, size, spacing, (spacing - mm) / 2).toarray()
    identity = torch.eye(n)[None, None]
    how = {"mode": "bilinear", "antialias": True, "align_corners": False}
    expected = torch.nn.functional.interpolate(identity, size=(size, n), **how)[0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_finer_images_are_scipys_linear(pddca):
    """At a spacing below the files', beyond their edges air."""
    cohort = oar.load(pddca, (3.5, 4.0, 5.0), (41, 50, 41))
    for i, patient in enumerate(FEW):
        hu = np.clip(array(pddca / f"pddca/{patient}/img.nrrd"), -1000, 1500).astype(float)
        first, mm = cohort.meta["first_voxel_mm"][patient], np.array(SPACING[patient])
        grid = np.meshgrid(
            *((f + np.arange(n) * s) for f, n, s in zip(first, (41, 50, 41), (3.5, 4, 5))), indexing="ij"
        )
        at = np.stack(grid) / mm[:, None, None, None]
        limits = (np.array(hu.shape) - 0.5)[:, None, None, None]
        outside = ((at < -0.5) | (at > limits)).any(0)
        expected = np.where(outside, -1000, ndimage.map_coordinates(hu, at, order=1, mode="nearest"))
        np.testing.assert_allclose(cohort.images[i, 0], (expected + 100) / 1000, atol=1e-5)
        assert 0 < outside.mean() < 0.9


def test_hu_are_clipped_before_they_are_averaged(cubes):
    """Metal: 3000 HU in one of eight voxels count as 1500."""
    path = cubes / "pddca" / FEW[0] / "img.nrrd"

    def implant(image):
        image[20:22, 16:18, 16:18] = 3000
        return image

    remake(path, implant)
    cohort = oar.load(cubes, (5, 5, 5))
    assert float(cohort.images[0].max()) == pytest.approx(1.6)
    assert float(cohort.images.min()) == pytest.approx(AIR)
    coarse = oar.load(cubes, (10, 10, 10), (20, 14, 18))
    assert coarse.images[0].max() <= 1.6 + 1e-5
    assert coarse.images[0].max() > 0.4


def test_labels_are_the_largest_share():
    """Native voxels of 2, 4 and 3 mm, a grid of 5, 4 and 7: counted in cubes of 1 mm."""
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.standard_normal((21, 13, 17)), 1.2)
    labels = np.digitize(smooth, np.quantile(smooth, (0.6, 0.7, 0.85))).astype(np.uint8)
    mm, spacing, start, size = (2, 4, 3), (5, 4, 7), (3, -6, 5), (8, 12, 7)  # start: of the first voxel's lower face
    millimetres = labels.repeat(2, 0).repeat(4, 1).repeat(3, 2)
    padded = np.zeros([60, 80, 80], np.uint8)
    padded[10 : 10 + 42, 10 : 10 + 52, 10 : 10 + 51] = millimetres
    cut = padded[tuple(slice(10 + s, 10 + s + n * m) for s, n, m in zip(start, size, spacing))]
    cut = cut.reshape(8, 5, 12, 4, 7, 7)
    counts = np.stack([(cut == k).sum((1, 3, 5)) for k in range(5)])
    grid = [
        oar_grid.areas(n, a, k, b, s + (b - a) / 2) for n, a, k, b, s in zip(labels.shape, mm, size, spacing, start)
    ]
    np.testing.assert_array_equal(oar_grid.largest_shares(labels, grid, 6), counts.argmax(0))
    assert len(np.unique(counts.argmax(0))) == 4
    ties = (np.sort(counts, axis=0)[-1] == np.sort(counts, axis=0)[-2]).sum()
    assert ties > 3


def test_labels_on_the_files_own_grid_are_the_files(cubes):
    """Odd and even sizes that put voxels on voxels."""
    cohort = oar.load(cubes, (5, 5, 5), (20, 30, 22))
    native = cohort.meta["native"][FEW[0]]
    assert cohort.labels[0].equal(native[19:39, 5:35, 9:31].long())


# ---- back to the native grid ----


def test_native_probabilities_are_scipys(pddca):
    """A crop smaller than the volume; trilinear inside, background elsewhere."""
    cohort, patient, size = oar.load(pddca, (5, 4, 6), (16, 30, 21)), "0522c0002", (16, 30, 21)
    p = torch.rand(10, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    back = oar.to_native(p, patient, cohort)
    assert back.dtype == torch.float64
    first, mm = cohort.meta["first_voxel_mm"][patient], SPACING[patient]
    axes = [(np.arange(n) * a - f) / s for n, a, f, s in zip(SHAPES[patient], mm, first, (5, 4, 6))]
    at = np.stack(np.meshgrid(*axes, indexing="ij"))
    inside = np.all([(a >= -0.5) & (a <= n - 0.5) for a, n in zip(at, size)], axis=0)
    assert 0.05 < inside.mean() < 0.9
    for c in range(10):
        expected = np.where(inside, ndimage.map_coordinates(p[c].numpy(), at, order=1, mode="nearest"), c == 0)
        np.testing.assert_allclose(back[c], expected, atol=1e-9)


def test_probabilities_keep_their_gradient_and_their_sum(pddca):
    cohort = oar.load(pddca, **SMALL)
    p = torch.rand(10, 26, 34, 30, requires_grad=True)
    back = oar.to_native(p.softmax(0), "0522c0001", cohort)
    torch.testing.assert_close(back.sum(0), torch.ones(SHAPES["0522c0001"]))
    back[3].sum().backward()
    assert p.grad.abs().sum() > 0


def test_probabilities_of_another_shape(pddca):
    cohort = oar.load(pddca, **SMALL)
    line = r"probabilities of 0522c0001: expected shape \(10, 26, 34, 30\), found \(10, 30, 34, 26\)"
    with pytest.raises(BadInput, match=line):
        oar.to_native(torch.zeros(10, 30, 34, 26), "0522c0001", cohort)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """A phantom at 3 mm as official files, and what it is."""
    root = tmp_path_factory.mktemp("phantom")
    cohort = head_neck(2, seed=3, spacing=(3.0, 3.0, 3.0), size=(54, 76, 66))
    hu = np.round(cohort.images[1, 0].numpy() * 1000 - 100).astype(np.int16)
    masks = {name: cohort.labels[1].numpy() == k for k, name in enumerate(cohort.classes) if k}
    write_patient(root / "pddca" / FEW[2], hu, masks, (3.0, 3.0, 3.0))
    return root, cohort


@pytest.mark.parametrize(
    ("spacing", "size", "least"),
    [
        ((2.5, 1.5, 1.5), (70, 148, 124), dict.fromkeys(PDDCA, 0.95)),
        (
            (5.0, 4.0, 4.0),  # here what is as thin as an optic nerve vanishes
            (36, 56, 48),
            {"BrainStem": 0.88, "Mandible": 0.8, "Parotid_L": 0.85, "Parotid_R": 0.85, "Submandibular_L": 0.8},
        ),
    ],
)
def test_there_and_back(few, phantom, monkeypatch, spacing, size, least):
    root, made = phantom
    monkeypatch.setattr(oar, "TRAIN", 0)
    cohort = oar.load(root, spacing, size)
    native = cohort.meta["native"][FEW[2]]
    assert native.equal(made.labels[1].byte())
    back = oar.to_native(one_hot(cohort.labels[0], 10), FEW[2], cohort).argmax(0)
    scores = dict(zip(PDDCA, dice(back, native, 10)))
    assert all(scores[name] >= enough for name, enough in least.items()), scores


# ---- files that people have ----


def parts(root):
    for patient, part in zip(FEW, ("PDDCA-1.4.1_part1_part2", "PDDCA-1.4.1_part1_part2", "PDDCA-1.4.1_part3")):
        (root / "pddca" / part).mkdir(exist_ok=True)
        (root / "pddca" / patient).rename(root / "pddca" / part / patient)


def hidden(root):
    for name in ("pddca/.ipynb_checkpoints", "pddca/__MACOSX/0522c0001", "pddca/0522c0001/structures/.AppleDouble"):
        (root / name).mkdir(parents=True)
    for name in ("pddca/.DS_Store", "pddca/0522c0001/structures/._Mandible.nrrd", "pddca/0522c0001/notes.txt"):
        (root / name).write_bytes(b"\0\5\x16\7")


def turned_patient(root):
    for path in (root / "pddca/0522c0002").rglob("*.nrrd"):
        sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(path)), "SRA"), str(path))


def turned_structure(root):
    path = root / "pddca/0522c0002/structures/Mandible.nrrd"
    sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(path)), "RPS"), str(path))


def dicom(root, **how):
    path = root / "pddca/0522c0555/img.nrrd"
    write_dicom(path.with_suffix(""), sitk.ReadImage(str(path)), **how)
    path.unlink()


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (parts, None),
        (hidden, None),
        (turned_patient, None),
        (
            turned_structure,
            "Mandible.nrrd: its axes run another way than those of img.nrrd, and were turned",
        ),
        (dicom, None),
        (lambda root: dicom(root, intercept=0), None),
    ],
    ids=["parts", "hidden", "turned patient", "turned structure", "DICOM", "DICOM without rescale"],
)
def test_read_alike(pddca, change, warning, recwarn):
    before = oar.load(pddca, **SMALL)
    change(pddca)
    found = oar.load(pddca, **SMALL)
    assert found.fingerprint() == before.fingerprint()
    assert same(found.meta["native"], before.meta["native"])
    assert [warning in str(w.message) for w in recwarn] == ([True] if warning else [])


def in_two_parts(root):
    parts(root)
    shutil.copytree(root / "pddca/PDDCA-1.4.1_part3", root / "pddca/again")


def beside_its_part(root):
    shutil.copytree(root / "pddca/0522c0001", root / "pddca/part/0522c0001")


def image(change, kind=np.int16):
    return lambda root: remake(root / "pddca/0522c0001/img.nrrd", change, kind)


def header(name, field, value):
    return lambda root: patch_nrrd(root / f"pddca/0522c0001/{name}.nrrd", field, value)


def slices(z, value):
    return image(lambda a: np.where(np.isin(np.arange(len(a)), z)[:, None, None], value, a))


def missing_rescale(root):
    """As if intercept and slope had been left out: air at 24."""
    path = root / "pddca/0522c0555/img.nrrd"
    write_dicom(path.with_suffix(""), sitk.Cast(sitk.ReadImage(str(path)) + 1024, sitk.sitkInt16), intercept=0)
    path.unlink()


def missing_dicom_slice(root):
    dicom(root, leave_out=(7,))


def flipped_bits(name):
    def change(root):
        path, rng = root / f"pddca/0522c0001/{name}.nrrd", np.random.default_rng(1)
        before = array(path)
        while True:
            whole = path.read_bytes()
            flip_bit(path, rng)
            try:
                if not np.array_equal(array(path), before):  # read by ITK, with other voxels
                    return
            except RuntimeError:
                pass
            path.write_bytes(whole)

    return change


AIRLESS = "expected Hounsfield units, air at about -1000 in 0.1% of the voxels"
FLAT = "expected slices with contrast wherever the patient is, found nothing but"
MM = "(5.5,0,0) (0,5.9,0) (0,0,{})"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (in_two_parts, "0522c0555: expected each patient once, found another in"),
        (beside_its_part, "0522c0001: expected each patient once, found another in"),
        (image(lambda a: a + 1024), f"img.nrrd: {AIRLESS}"),
        (missing_rescale, f"img: {AIRLESS} (is the rescale missing?)"),
        (image(lambda a: np.where(a < -500, -2000, a + 1024)), f"img.nrrd: {AIRLESS}"),
        (image(lambda a: 0 * a - 1000), "img.nrrd: expected a CT with contrast, found nothing but -1000"),
        (slices([5], 0), f"img.nrrd: {FLAT} 0 in slice 5"),
        (slices([12, 13], -1000), f"img.nrrd: {FLAT} -1000 in slice 12"),
        (flipped_bits("img"), "img.nrrd: expected a whole NRRD volume, found "),
        (flipped_bits("structures/Mandible"), "Mandible.nrrd: expected a whole NRRD volume, found "),
        (header("img", "space directions", MM.format("nan")), "img.nrrd: expected a spacing of 0.01 to 100 mm"),
        (header("img", "space directions", "none none none"), "img.nrrd: expected space directions of three axes"),
        (header("structures/Chiasm", "space directions", MM.format("1e300")), "Chiasm.nrrd: expected a spacing of"),
        (header("structures/Chiasm", "space directions", MM.format("-4")), "Chiasm.nrrd: expected direction 1, 0, 0"),
        (header("structures/Chiasm", "space origin", "(7.25,-120.5,14)"), "Chiasm.nrrd: expected origin 7.25, -120.5"),
        (missing_dicom_slice, "img: expected slices at even distances"),
    ],
)  # fmt: skip
def test_what_is_refused(pddca, change, line):
    change(pddca)
    refused(lambda: oar.load(pddca, **SMALL), line)


def test_slices_of_air_beyond_the_scan(pddca):
    def change(a):
        a[:2], a[-1] = -1000, -1024
        return a

    path = pddca / "pddca/0522c0001"
    for name in ("img.nrrd", *(f"structures/{name}.nrrd" for name in PDDCA)):
        remake(
            path / name,
            change if name == "img.nrrd" else lambda a: np.where(np.arange(28)[:, None, None] % 27 < 2, 0, a),
        )
    oar.load(pddca, **SMALL)


# ---- one file instead of the folder ----


@pytest.mark.parametrize("layout", ["pddca", "openkbp"])
def test_prepared_gives_the_same_bits(request, layout):
    root = request.getfixturevalue(layout)
    out = root / "new/folder/oar.npz"
    digest = oar.prepare(root, out)
    assert [path.name for path in out.parent.iterdir()] == ["oar.npz"]
    assert digest in oar.check(out)
    assert oar.check(root) == oar.check(out)
    for how in (SMALL, {"spacing": (6, 9, 5)}):
        assert same(oar.load(out, **how), oar.load(root, **how))
    again = root / "again.npz"
    assert oar.prepare(out, again) == digest


def test_prepared_keeps_every_hounsfield_unit(cubes):
    values = np.random.default_rng(0).integers(-(2**15), 2**15, blocks().shape)
    for patient in FEW:
        remake(cubes / "pddca" / patient / "img.nrrd", lambda a: values, np.int16)
    oar.prepare(cubes, cubes / "oar.npz")
    data, names, test, read = oar._open(cubes / "oar.npz")
    assert (data, names, test) == ("pddca", FEW, FEW[2:])
    np.testing.assert_array_equal(read(FEW[1]).image, values)


def test_check(pddca):
    lines = oar.check(pddca).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("pddca: PDDCA, the MICCAI 2015")
    assert lines[1].startswith(
        "2 of 2 patients for training, 1 of 1 for test: 3 BrainStem, 2 Chiasm, 3 Mandible, 3 OpticNerve_L, "
        "3 OpticNerve_R, 3 Parotid_L, 3 Parotid_R, 3 Submandibular_L, 2 Submandibular_R; "
    )
    twice = sum(oar.load(pddca, **SMALL).meta["claimed_twice"].values())
    assert lines[1].endswith(f"; {twice} voxels claimed twice in 3 patients")
    remake(pddca / "pddca/0522c0001/img.nrrd", lambda a: np.where(a == a.max(), a.max() - 1, a))
    changed = oar.check(pddca).splitlines()
    assert changed[:2] == lines[:2]
    assert changed[2] != lines[2]


# ---- bad input ----


@pytest.mark.parametrize("spacing", [(0, 1, 1), (2.5, -1, 1), (1, 1), 2.5, (1, 1, float("nan")), ("2", 1, 1), None])
def test_spacings(pddca, spacing):
    refused(
        lambda: oar.load(pddca, spacing), "oar spacing: expected three numbers (z, y, x), mm above 0, found", spacing
    )


@pytest.mark.parametrize("size", [(0, 8, 8), (8, 8, -8), (8, 8), 8, (8.0, 8, 8), (True, 8, 8)])
def test_sizes(pddca, size):
    refused(lambda: oar.load(pddca, size=size), "oar size: expected three numbers (z, y, x), voxels, integers", size)


def test_no_root(tmp_path):
    refused(lambda: oar.load(None), "FEWLABELS_DATA", "the folder that holds pddca/", "imagenglab", "found nothing")
    refused(lambda: oar.load(tmp_path), f"{tmp_path}: expected a folder pddca/", "openkbp/", "found neither")
    refused(lambda: oar.load(tmp_path / "nowhere"), "nowhere: expected a folder pddca/")


def test_no_patients(few, tmp_path, openkbp):
    (tmp_path / "pddca").mkdir()
    refused(lambda: oar.load(tmp_path), "pddca: expected 2 + 1 folders 0522cNNNN", "found 0, of the test set all but 1")
    shutil.rmtree(openkbp / "openkbp/test/pt_3")
    for call in (oar.load, oar.check, lambda root: oar.prepare(root, root / "out.npz")):
        refused(
            lambda call=call: call(openkbp), "openkbp: expected folders of patients, train/ID and test/ID", "2 and 0"
        )
    assert not (openkbp / "out.npz").exists()


def test_patients_that_are_missing_or_twice_there(pddca, openkbp):
    shutil.copytree(openkbp / "openkbp/train/pt_9", openkbp / "openkbp/test/pt_9")
    refused(lambda: oar.load(openkbp), "openkbp: expected folders of patients", "found 2 and 2, 1 of the same name")
    folder = pddca / "pddca"
    (folder / "0522c0555").rename(folder / "0522c0003")
    refused(lambda: oar.load(pddca), "pddca: expected 2 + 1 folders", "found 3, of the test set all but 1")
    shutil.rmtree(folder / "0522c0003")
    refused(lambda: oar.load(pddca), "pddca: expected 2 + 1 folders", "found 2, of the test set all but 1")


def test_missing_image(pddca):
    path = pddca / "pddca/0522c0555/img.nrrd"
    path.unlink()
    refused(lambda: oar.load(pddca), f"{path}: expected an NRRD volume, found no such file")


def test_no_structures(pddca):
    folder = pddca / "pddca/0522c0001/structures"
    for path in folder.iterdir():
        path.unlink()
    refused(lambda: oar.load(pddca), f"{folder}: expected NRRD files of BrainStem, Chiasm", "found none")
    folder.rmdir()
    refused(lambda: oar.load(pddca), f"{folder}: expected NRRD files of BrainStem, Chiasm", "found none")


def test_structures_of_another_name(pddca, openkbp):
    path = pddca / "pddca/0522c0001/structures/Mandible.nrrd"
    other = path.rename(path.with_stem("mandible"))
    refused(lambda: oar.load(pddca), f"{other}: expected one of BrainStem, Chiasm, Mandible", "found mandible")
    other.rename(path.with_stem("PTV70"))  # not in PDDCA
    refused(lambda: oar.load(pddca), "expected one of BrainStem, Chiasm, Mandible", "found PTV70")


@pytest.mark.parametrize("name", ["Mandible.NRRD", "Mandible.nrrd.part", "Mandible.nrrd.gz", "Mandible.mha"])
def test_structures_that_are_no_nrrd_files(pddca, name):
    """An organ of the table that is not read would silently count as not delineated."""
    path = pddca / "pddca/0522c0001/structures/Mandible.nrrd"
    other = path.rename(path.with_name(name))
    refused(lambda: oar.load(pddca), f"{other}: expected Mandible.nrrd, found {name}")


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ({"spacing": (4.0, 5.9, 5.55)}, "expected spacing 5.5, 5.9, 4 (x, y, z), as img.nrrd, found 5.55, 5.9, 4"),
        (
            {"origin": (10.0, -120.5, 8.25)},
            "expected origin 7.25, -120.5, 10 (x, y, z), as img.nrrd, found 8.25, -120.5",
        ),
        ({"change": lambda a: a[1:]}, "expected size 34, 36, 28 (x, y, z), as img.nrrd, found 34, 36, 27"),
    ],
)
def test_structures_on_another_grid(pddca, how, line):
    path = pddca / "pddca/0522c0001/structures/Parotid_R.nrrd"
    remake(path, **{"change": lambda a: a} | how)
    refused(lambda: oar.load(pddca), f"{path}: {line}")


def test_structures_turned_aside(pddca):
    path = pddca / "pddca/0522c0001/structures/Parotid_R.nrrd"
    image = sitk.ReadImage(str(path))
    c, s = np.cos(0.02), np.sin(0.02)
    image.SetDirection((c, -s, 0, s, c, 0, 0, 0, 1))
    sitk.WriteImage(image, str(path))
    refused(
        lambda: oar.load(pddca), f"{path}: expected direction 1, 0, 0, 0, 1, 0, 0, 0, 1", "found 0.9998, -0.0199987"
    )


def test_headers_may_differ_in_the_last_digits(pddca):
    before = oar.load(pddca, **SMALL)
    path = pddca / "pddca/0522c0001/structures/Parotid_R.nrrd"
    remake(path, lambda a: a, spacing=(4.0, 5.9 - 2e-7, 5.5 + 3e-5), origin=(10.0, -120.5002, 7.25))
    assert same(before, oar.load(pddca, **SMALL))


def test_empty_structure(pddca):
    path = pddca / "pddca/0522c0002/structures/OpticNerve_L.nrrd"
    remake(path, np.zeros_like)
    refused(lambda: oar.load(pddca), f"{path}: expected a structure, found not a voxel of one")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda a: 2 * a, "values 2"),
        (lambda a: a + (np.cumsum(a).reshape(a.shape) == 5) * a, "values 1, 2"),
        (lambda a: a * np.where(np.cumsum(a).reshape(a.shape) == 5, 255, 1), "values 1, 255"),
        (lambda a: a.astype(np.float32) * 0.5, "values 0.5"),
        (lambda a: np.where(a, np.nan, 0), "values nan"),
        (lambda a: -a.astype(np.int16), "values -1"),
    ],
)
def test_structures_of_other_values(pddca, change, found):
    path = pddca / "pddca/0522c0002/structures/OpticNerve_L.nrrd"
    remake(path, change)
    refused(lambda: oar.load(pddca), f"{path}: expected 0 and 1, or 0 and 255, found {found}")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda a: a + 0.5, np.float32),
        (lambda a: np.where(a > 300, np.nan, a), np.float64),
        (lambda a: np.where(a > 300, np.inf, a), np.float32),
        (lambda a: np.where(a > 300, np.int32(40_000), a), np.int32),
        (lambda a: np.where(a > 300, np.int32(40_000), a), np.float32),
    ],
)
def test_images_that_are_no_hounsfield_units(pddca, change, kind):
    path = pddca / "pddca/0522c0555/img.nrrd"
    remake(path, change, kind)
    refused(lambda: oar.load(pddca), f"{path}: expected whole Hounsfield units of 16 bits, found {np.dtype(kind)}")


def test_images_without_a_patient(pddca):
    remake(
        pddca / "pddca/0522c0555/img.nrrd",
        lambda a: np.where(np.indices(a.shape).sum(0) % 2, -900, -1000).astype(a.dtype),
    )
    refused(lambda: oar.load(pddca), "0522c0555: expected a patient, tissue above -300 HU, found none")


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("name", ["img", "structures/Mandible"])
@pytest.mark.parametrize("keep", [0, 20, 300, 0.5, -20])
def test_files_cut_short(pddca, name, keep, compressed):
    path = pddca / f"pddca/0522c0555/{name}.nrrd"
    remake(path, lambda a: a, compressed=compressed)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep) if 0 < keep < 1 else keep])
    refused(lambda: oar.load(pddca), f"{path}: expected a whole NRRD volume, found ")


def test_what_is_missing_from_a_short_file_is_said(pddca):
    path = pddca / "pddca/0522c0555/img.nrrd"
    remake(path, lambda a: a, compressed=False)
    path.write_bytes(path.read_bytes()[:-2])
    n = np.prod(SHAPES["0522c0555"])
    refused(lambda: oar.load(pddca), f"only {n - 1} 2-sized things, not {n}")


def test_other_files_under_the_name(pddca):
    path = pddca / "pddca/0522c0555/structures/Mandible.nrrd"
    path.write_text("hello")
    refused(lambda: oar.load(pddca), f"{path}: expected a whole NRRD volume, found")
    sitk.WriteImage(sitk.Image(4, 4, sitk.sitkUInt8), str(path))
    refused(lambda: oar.load(pddca), f"{path}: expected three axes, one value a voxel, found 2 axes, 1 values")
    sitk.WriteImage(sitk.Image([4, 4, 4], sitk.sitkVectorUInt8, 3), str(path))
    refused(lambda: oar.load(pddca), f"{path}: expected three axes, one value a voxel, found 3 axes, 3 values")


def test_damaged_and_foreign_prepared_files(pddca):
    out = pddca / "oar.npz"
    oar.prepare(pddca, out)
    whole = out.read_bytes()
    for damaged in (b"", whole[:1000], whole[:-1000], whole[1000:]):
        out.write_bytes(damaged)
        refused(lambda: oar.load(out), f"{out}: expected a file written by `python -m fewlabels prepare oar`")
    prepared.write(out, "acdc", {"images": np.zeros((2, 3, 3), np.int16)})
    refused(lambda: oar.load(out), f"{out}: ", "prepare oar", "found one of acdc")
    prepared.write(out, "oar", {"images": np.zeros((2, 3, 3), np.int16)})
    refused(lambda: oar.load(out), f"{out}: expected arrays claimed_twice, data, images, labels", "found images")


# ---- the real files ----


@pytest.fixture(scope="module")
def real_root():
    root = os.environ.get("FEWLABELS_DATA")
    if not root or not (Path(root, "pddca").is_dir() or Path(root, "openkbp").is_dir()):
        pytest.skip("FEWLABELS_DATA is not set to a folder that holds pddca/ or openkbp/: their scans are not shipped")
    return Path(root)


@pytest.mark.long
def test_real_data(real_root, tmp_path):
    """The stand-in only: PDDCA takes minutes and 20 GB."""
    if (real_root / "pddca").is_dir():
        pytest.skip("FEWLABELS_DATA holds PDDCA itself: see test_real_patient")
    out = tmp_path / "oar.npz"
    oar.prepare(real_root, out)
    assert out.stat().st_size <= 45e6
    cohort = oar.load(out, (5, 4, 4), (80, 64, 48))
    assert len(cohort) == 48
    assert len(oar.splits(cohort).labelled) == 38
    counts = cohort.meta["present"].sum(0).tolist()
    assert counts[1:6] == [48] * 5
    assert counts[0] == cohort.meta["present"][:, 1:].all(1).sum()
    assert torch.isfinite(cohort.images).all()
    assert (float(cohort.images.min()), float(cohort.images.max())) == pytest.approx((AIR, 1.6))
    for i, patient in enumerate(cohort.ids):
        places = cohort.meta["native"][patient].numpy()
        places, labels = np.argwhere(places), places[places > 0]
        assert set(labels) == set(np.flatnonzero(cohort.meta["present"][i, 1:]) + 1)
        mm, first = (np.array(cohort.meta[key][patient]) for key in ("native_spacing_mm", "first_voxel_mm"))
        on_grid = (places * mm - first) / (5, 4, 4)
        assert ((on_grid >= -0.5) & (on_grid <= np.array([80, 64, 48]) - 0.5)).all(), patient  # no organ is cut off
        at = {k: places[labels == k].mean(0) for k in range(1, 6)}
        assert at[3][2] > at[4][2]  # left parotid, right parotid
        assert at[1][0] > at[5][0] > at[2][0]  # brain stem, mandible, spinal cord: from above
        assert at[5][1] < at[1][1]  # the chin is in front
    bone, gland = (cohort.images[:, 0][cohort.labels == k].median() for k in (5, 3))
    assert bone > gland + 0.3


@pytest.mark.long
def test_real_patient(real_root, tmp_path, monkeypatch):
    """From files: the labels there and back, and the same from a prepared file."""
    if (real_root / "pddca").is_dir():
        folders = {"0522c0555": "pddca/0522c0555", "0522c0001": "pddca/0522c0001"}
        monkeypatch.setattr(oar, "TEST", ("0522c0555",))
        monkeypatch.setattr(oar, "TRAIN", 1)
    else:
        folders = {part: next((real_root / "openkbp" / part).iterdir()) for part in ("train", "test")}
        folders = {path.name: f"openkbp/{part}/{path.name}" for part, path in folders.items()}
    for path in folders.values():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).symlink_to(real_root / path)
    cohort = oar.load(tmp_path, (2.5, 2.0, 2.0), (144, 112, 96))
    assert set(cohort.ids) == set(folders)
    for i, patient in enumerate(cohort.ids):
        native, k = cohort.meta["native"][patient], len(cohort.classes)
        back = oar.to_native(one_hot(cohort.labels[i], k), patient, cohort).argmax(0)
        scores = dice(back, native, k)
        assert min(scores) > 0.9, dict(zip(cohort.classes[1:], scores))
    oar.prepare(tmp_path, tmp_path / "oar.npz")
    assert same(oar.load(tmp_path / "oar.npz", (2.5, 2.0, 2.0), (144, 112, 96)), cohort)
