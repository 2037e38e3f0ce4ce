"""BraTS' loader on files made here (no patient is in this repository) and, with FEWLABELS_DATA, on real ones."""

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
from volumes_kit import patch

from fewlabels.data import brats, brats_editions, prepared
from fewlabels.data.cohort import Cohort

FOUR = ("flair", "t1ce", "t1", "t2")
PATIENTS = {"Brats17_A_1": "HGG", "Brats17_C_1": "HGG", "Brats17_B_1": "LGG"}
SLICES, SIDE = 5, 240
ROW, COLUMN = np.mgrid[:SIDE, :SIDE]


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


def array(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def remake(path, change):
    write(path, change(array(path)))


def made_up(seed, sequences):
    """Images int16, a brain that is smaller in the outer slices, and a tumour in three slices, on either side."""
    rng = np.random.default_rng(seed)
    brain = np.stack([((ROW - 118) / (80 * s)) ** 2 + ((COLUMN - 122) / (68 * s)) ** 2 < 1 for s in (0.7, 1, 1, 1, 1)])
    images = {}
    for i, name in enumerate(sequences):
        image = rng.integers(200, 900 + 300 * i, brain.shape) * brain
        image[2, 100:103, 100:103] = 0  # a hole, in all or in one
        images[name] = image.astype(np.int16)
    seg = np.zeros(brain.shape, np.uint8)
    seg[0, 110:130, 90:110] = 1
    seg[1, 100:121, 80:101] = np.resize((1, 2, 4), (21, 21))
    seg[2, 90:130, 130:170] = 2
    seg[3, 100:105, 150:160] = 4  # less than 1 % of the brain
    images["t1ce"][2, 30:33, 120:123] = 7  # of the brain in one sequence only
    return images, brain, seg


def paths(root, patient, official=True):
    folder = root / "brats" / (PATIENTS[patient] if official else "") / patient
    return lambda kind: folder / f"{patient}_{kind}.nii.gz"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Both layouts, made once; tests get copies."""
    official, copy = tmp_path_factory.mktemp("official"), tmp_path_factory.mktemp("copy")
    for seed, patient in enumerate(PATIENTS):
        images, _, seg = made_up(seed, FOUR)
        for kind, volume in (images | {"seg": seg}).items():
            write(paths(official, patient)(kind), volume)
        images, brain, seg = made_up(seed, FOUR[:2])
        images = {name: np.where(brain, 3 * image - 1500, -3000).astype(np.int16) for name, image in images.items()}
        seg[seg == 4] = 3
        for kind, volume in (images | {"seg": seg, "brainmask": brain.astype(np.uint8)}).items():
            write(paths(copy, patient, False)(kind), volume)
    return official, copy


@pytest.fixture
def official(made, tmp_path):
    return Path(shutil.copytree(made[0], tmp_path / "official"))


@pytest.fixture
def copy(made, tmp_path):
    return Path(shutil.copytree(made[1], tmp_path / "copy"))


def expected(root, official, tumour_share=0.01, channels=1, brain_share=0.25):
    """`{id: (image, label)}`, half-slice by half-slice, from the files."""
    found = {}
    for patient in sorted(PATIENTS, key=lambda p: (PATIENTS[p] if official else "", p)):
        at = paths(root, patient, official)
        volume = np.stack([array(at(name)).astype(float) for name in (FOUR if official else FOUR[:2])])
        seg = array(at("seg")) > 0
        if official:
            brain, mask = volume.any(0), volume != 0
            volume[mask] = (volume[mask] - volume[mask].mean()) / (5 * volume[mask].std())
        else:
            brain = array(at("brainmask")) > 0
            volume = np.where(brain, volume / 5000, 0)
        for z in range(len(brain)):
            for side, columns in (("left", slice(0, 120)), ("right", slice(120, 240))):
                pixels, tumour = brain[z, :, columns].sum(), seg[z, :, columns].sum()
                if pixels / (240 * 120) >= brain_share and (tumour == 0 or tumour / pixels > channels * tumour_share):
                    found[f"{patient}/{z:03}/{side}"] = volume[:, z, :, columns], seg[z, :, columns]
    return found


# ---- what is loaded ----


@pytest.mark.parametrize("layout", ["official", "copy"])
def test_half_slices_are_those_by_hand(layout, request):
    root, official = request.getfixturevalue(layout), layout == "official"
    cohort = brats.load(root)
    by_hand = expected(root, official, brain_share=0.25 if official else 0.2)
    assert cohort.ids == tuple(by_hand)
    assert cohort.groups == tuple(name.split("/")[0] for name in by_hand)
    assert cohort.images.shape == (len(by_hand), 4 if official else 2, 240, 120)
    assert (cohort.images.dtype, cohort.labels.dtype) == (torch.float32, torch.int64)
    for image, label, (image_by_hand, label_by_hand) in zip(cohort.images, cohort.labels, by_hand.values()):
        np.testing.assert_allclose(image, image_by_hand, atol=1e-6)
        np.testing.assert_array_equal(label, label_by_hand)
    assert (cohort.classes, cohort.spacing_mm) == (("background", "whole tumour"), (1.0, 1.0))
    assert "Brats17_A_1/000/left" not in cohort.ids  # too little brain
    assert "Brats17_A_1/003/right" not in cohort.ids  # too little tumour
    meta = cohort.meta
    assert meta["data"] == ("brats" if official else "brats2015-2seq")
    assert meta["sequences"] == (FOUR if official else FOUR[:2])
    assert "Menze" in meta["source"]
    assert list(meta["grade"].items()) == [(p, PATIENTS[p] if official else "") for p in dict.fromkeys(cohort.groups)]
    assert meta["halves"] == dict.fromkeys(meta["grade"], (2, 5))  # slice 1 left, 2 right; the rest of slices 1 to 4


def test_background_and_holes_stay_0(official):
    cohort = brats.load(official)
    image = cohort.images[cohort.ids.index("Brats17_A_1/002/left")]
    assert not image[:, 100:103, 100:103].any()
    assert not image[:, :, :40].any()
    right = cohort.images[cohort.ids.index("Brats17_A_1/002/right")]
    assert right[1, 30, 0] < -0.2  # brain in one sequence
    assert not right[[0, 2, 3], 30, 0].any()
    assert float(brats.load(official).images.max()) < 1


def test_nothing_is_clipped(official):
    remake(paths(official, "Brats17_A_1")("t2"), lambda a: np.where(np.arange(a.size).reshape(a.shape) % 999, a, 20000))
    assert float(brats.load(official).images.max()) > 1


@pytest.mark.parametrize(("share", "of"), [(0.02, "brain"), (0.049, "brain"), (0.01, "channels"), (0.1, "channels")])
def test_tumour_share(official, share, of):
    by_hand = expected(official, True, share, 4 if of == "channels" else 1)
    cohort = brats.load(official, 8, share, of) if share < 0.1 else None
    if cohort is None:  # none has that much
        refused(lambda: brats.load(official, 8, share, of), official, "half-slices with a tumour", "none in 3")
    else:
        assert cohort.ids == tuple(by_hand)


def test_brain_share(copy):
    assert brats.load(copy, 8, brain_share=0.25).ids == tuple(expected(copy, False, brain_share=0.25))
    few, all_of_them = (brats.load(copy, 8, brain_share=share) for share in (0.2, 0.0))
    assert set(few.ids) < set(all_of_them.ids)
    assert (few.meta["brain_share"], brats.load(copy, 8).meta["brain_share"]) == (0.2, 0.2)
    refused(lambda: brats.load(copy, brain_share=0.5), copy, "at least 0.5 brain")


@pytest.mark.parametrize("scale", [2, 5, 8])
def test_smaller_images_are_block_means(official, scale):
    full, small = brats.load(official), brats.load(official, scale)
    torch.testing.assert_close(small.images, torch.nn.functional.avg_pool2d(full.images, scale), atol=1e-6, rtol=0)
    shares = torch.nn.functional.avg_pool2d(full.labels[:, None].double(), scale)[:, 0]
    assert small.labels.equal((shares >= 0.5 - 1e-9).long())
    assert (small.ids, small.spacing_mm) == (full.ids, (float(scale),) * 2)


def test_half_a_block_is_tumour_and_a_tumour_that_vanishes_is_dropped(official):
    def seg(a):
        a[:] = 0
        a[1, 100:121, 80:100] = 1  # blocks of 40: rows 80 to 119, columns 80 to 119: a quarter
        a[2, 100:120, 120:160] = 1  # half of one
        return a

    remake(paths(official, "Brats17_A_1")("seg"), seg)
    full, small = brats.load(official), brats.load(official, 40)
    gone = "Brats17_A_1/001/left"
    assert full.labels[full.ids.index(gone)].sum() == 420
    assert gone not in small.ids
    kept = small.labels[small.ids.index("Brats17_A_1/002/right")]
    assert kept.nonzero().tolist() == [[2, 0]]
    assert small.meta["halves"]["Brats17_A_1"] == (1, 6)


def test_a_patient_without_healthy_half_slices_is_named_and_kept(official):
    remake(paths(official, "Brats17_A_1")("seg"), lambda a: np.ones_like(a))
    remake(paths(official, "Brats17_B_1")("seg"), np.zeros_like)
    with pytest.warns(UserWarning, match="Brats17_A_1: expected half-slices without tumour .* found none"):
        halves = brats.load(official, 8).meta["halves"]
    assert (halves["Brats17_A_1"], halves["Brats17_B_1"]) == ((8, 0), (0, 8))
    assert " without (none of Brats17_A_1)\n" in brats.check(official)


def test_unpacked_files_are_read_alike(official):
    before = brats.load(official, 8)
    for path in official.rglob("*A_1*.nii.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert same(brats.load(official, 8), before)
    path = paths(official, "Brats17_A_1")("t2").with_suffix("")
    path.write_bytes(path.read_bytes()[:-100])
    refused(lambda: brats.load(official), f"{path}: expected at least")


def test_other_types_are_read_alike(official):
    before = brats.load(official, 8)
    for kind, dtype in zip(("flair", "t1", "seg"), (np.float32, np.int32, np.float64)):
        remake(paths(official, "Brats17_C_1")(kind), lambda a, dtype=dtype: a.astype(dtype))
    assert same(brats.load(official, 8), before)


# ---- the prepared file ----


@pytest.mark.parametrize("layout", ["official", "copy"])
def test_prepared_file_gives_the_same_bits(layout, request, tmp_path):
    root, out = request.getfixturevalue(layout), tmp_path / "brats.npz"
    sha256 = brats.prepare(root, out)
    assert sha256 in brats.check(out)
    assert brats.check(out) == brats.check(root)
    for settings in ({}, {"scale": 8}, {"scale": 8, "tumour_share": 0.04, "brain_share": 0.1}):
        assert same(brats.load(out, **settings), brats.load(root, **settings))


def test_check(official, copy):
    text = brats.check(official)
    assert text.startswith("brats: ")
    assert "3 of 285 patients (2 of 210 HGG, 1 of 75 LGG), sequences flair, t1ce, t1, t2; " in text
    assert "half-slices of at least 0.25 brain: 6 with more than 0.01 tumour, 15 without" in text
    assert len(text.splitlines()) == 3
    assert "\n3 patients, sequences flair, t1ce;" in brats.check(copy)
    remake(paths(official, "Brats17_B_1")("t1"), lambda a: np.where(a == 500, 501, a))
    assert brats.check(official) != text


def test_prepared_files_of_others_are_refused(official, tmp_path):
    out = tmp_path / "acdc.npz"
    prepared.write(out, "acdc", {"images": np.zeros(3)})
    refused(lambda: brats.load(out), out, "prepare brats", "one of acdc")
    prepared.write(out, "brats", {"images": np.zeros(3)})
    refused(lambda: brats.load(out), out, "arrays brain, data", "found images")
    brats.prepare(official, out)
    out.write_bytes(out.read_bytes()[:-1000])
    refused(lambda: brats.load(out), out, "prepare brats")


# ---- bad input ----


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"scale": 7}, "scale: expected a whole number that divides 240 and 120, found 7"),
        ({"scale": 0}, "found 0"),
        ({"scale": 240}, "found 240"),
        ({"scale": 2.0}, "found 2.0"),
        ({"scale": True}, "found True"),
        ({"tumour_share": 1}, "tumour_share: expected a number from 0, below 1, found 1"),
        ({"tumour_share": "1%"}, "found '1%'"),
        ({"brain_share": -0.1}, "brain_share: expected a number from 0, below 1, found -0.1"),
        ({"tumour_share_of": "pixels"}, "tumour_share_of: expected brain or channels, found 'pixels'"),
    ],
)
def test_bad_arguments(tmp_path, arguments, line):
    refused(lambda: brats.load(tmp_path, **arguments), line)


def test_nothing_there(tmp_path):
    refused(lambda: brats.load(None), "FEWLABELS_DATA", "found nothing")
    refused(lambda: brats.load(tmp_path), tmp_path / "brats", "HGG/ID/", "no such folder")
    (tmp_path / "brats" / "HGG").mkdir(parents=True)
    refused(lambda: brats.load(tmp_path), tmp_path / "brats", "no patient")


@pytest.mark.parametrize("kind", [*FOUR, "seg"])
def test_a_missing_file(official, kind):
    path = paths(official, "Brats17_C_1")(kind)
    path.unlink()
    refused(lambda: brats.load(official), f"{path}: ", "flair, t1ce, t1, t2, seg for each patient", "no such file")


def with_label(value):
    return lambda a: np.where(np.arange(a.size).reshape(a.shape) < 3, value, a).astype(np.uint8)


BAD = {
    "shape": ("t1", lambda a: a[:-1], "size 240, 240, 5 (x, y, z), as Brats17_B_1_flair.nii.gz, found 240, 240, 4"),
    "pixels": ("flair", lambda a: a[:, :200], "240 x 240 pixels in every slice"),
    "axes": ("t2", lambda a: a[0], "three axes, found 2"),
    "label": ("seg", with_label(3), "labels 0, 1, 2, 4, found 3 voxels of others, 3"),
    "fractions": ("t1ce", lambda a: a.astype(np.float32) + 0.5, "whole numbers from -32768 to 32767"),
    "range": ("t1ce", lambda a: a.astype(np.int32) + 40000, "whole numbers from -32768 to 32767"),
    "nan": ("t2", lambda a: np.where(a == 300, np.nan, a).astype(np.float32), "finite numbers"),
    "empty": ("t1", np.zeros_like, "an image with contrast in the brain, found nothing but 0"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file(official, what):
    kind, change, line = BAD[what]
    path = paths(official, "Brats17_B_1")(kind)
    remake(path, change)
    refused(lambda: brats.load(official), f"{path}: ", line)


def test_a_damaged_file(official):
    path = paths(official, "Brats17_B_1")("seg")
    whole = path.read_bytes()
    for content in (whole[:-200], whole[200:], b"", b"no volume"):
        path.write_bytes(content)
        refused(lambda: brats.load(official), f"{path}: ")
    path.write_bytes(gzip.compress(gzip.decompress(whole)[:-300]))
    refused(lambda: brats.load(official), f"{path}: expected at least")


def test_an_empty_brain(official, copy):
    for kind in FOUR:
        remake(paths(official, "Brats17_B_1")(kind), np.zeros_like)
    refused(lambda: brats.load(official), paths(official, "Brats17_B_1")("flair"), "voxels of a brain")
    mask = paths(copy, "Brats17_B_1", False)("brainmask")
    remake(mask, np.zeros_like)
    refused(lambda: brats.load(copy), f"{mask}: expected voxels of a brain, found nothing but 0")
    remake(mask, lambda a: a + 2)
    refused(lambda: brats.load(copy), f"{mask}: expected labels 0, 1, found")


def test_labels_of_the_copy(copy):
    path = paths(copy, "Brats17_A_1", False)("seg")
    remake(path, with_label(4))
    brats.load(copy, 8)
    remake(path, with_label(5))
    refused(lambda: brats.load(copy), f"{path}: expected labels 0, 1, 2, 3, 4, found 3 voxels of others, 5")
    path = paths(copy, "Brats17_A_1", False)("brainmask")
    path.unlink()
    refused(lambda: brats.load(copy), f"{path}: ", "no such file")


def test_no_patient_is_without_tumour(official):
    for patient in PATIENTS:
        remake(paths(official, patient)("seg"), np.ones_like)
    refused(lambda: brats.load(official), official, "half-slices with no tumour", "none in 3")


# ---- files that people have ----


def alike_hidden(root):
    folder = root / "brats"
    (folder / "HGG/.ipynb_checkpoints").mkdir()
    (folder / "__MACOSX/HGG").mkdir(parents=True)
    for name in (".DS_Store", "LGG/Brats17_B_1/._Brats17_B_1_seg.nii.gz", "survival_data.csv"):
        (folder / name).write_bytes(b"\0")


def alike_as_unpacked(root):
    folder = (root / "brats").rename(root / "HGG and LGG")
    (root / "brats").mkdir()
    folder.rename(root / "brats/MICCAI_BraTS17_Data_Training")


def reorient(path, change):
    """Stores the same places in another order, which the header tells."""
    sitk.WriteImage(change(sitk.ReadImage(str(path))), str(path))


def alike_mirrored_sequence(root):
    reorient(paths(root, "Brats17_A_1")("t2"), lambda image: image[::-1, :, :])


def alike_coronal_mask(root):
    reorient(paths(root, "Brats17_C_1")("seg"), lambda image: sitk.PermuteAxes(image[:, ::-1, :], [0, 2, 1]))


def alike_sform_of_other_spacing(root):
    patch(paths(root, "Brats17_C_1")("t1"), srow=(-2, 0, 0, 0, 0, -2, 0, 0, 0, 0, 2, 0))


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (alike_hidden, None),
        (alike_as_unpacked, None),
        (alike_mirrored_sequence, "A_1_t2.nii.gz: its axes run another way than those of Brats17_A_1_flair.nii.gz"),
        (alike_coronal_mask, "C_1_seg.nii.gz: its axes run another way than those of Brats17_C_1_flair.nii.gz"),
        (alike_sform_of_other_spacing, "C_1_t1.nii.gz: the sform has another spacing than pixdim and is not used"),
    ],
)
def test_read_alike(official, change, warning, recwarn):
    before = brats.load(official, 8)
    change(official)
    assert same(brats.load(official, 8), before)
    assert [warning in str(w.message) for w in recwarn] == ([True] if warning else [])


NEW_NAMES = {"brats2018": "Brats18", "brats2019": "BraTS19", "brats2020": "BraTS20", "brats2021": "BraTS2021"}


def as_edition(root, data):
    """The three patients as files of another edition."""
    folder, flat = root / "brats", data > "brats2019"
    kinds = {kind: f"_{kind}" for kind in (*FOUR, "seg")}
    if data == "brats2023":
        kinds = {"flair": "-t2f", "t1ce": "-t1c", "t1": "-t1n", "t2": "-t2w", "seg": "-seg"}
    for i, patient in enumerate(PATIENTS):
        name = f"BraTS-GLI-0000{i // 2}-00{i % 2}" if data == "brats2023" else f"{NEW_NAMES[data]}_{i:03}"
        to = folder / ("" if flat else PATIENTS[patient]) / name
        to.mkdir()
        for kind, ending in kinds.items():
            paths(root, patient)(kind).rename(to / f"{name}{ending}.nii.gz")
        paths(root, patient)("seg").parent.rmdir()
        if data == "brats2023":
            remake(to / f"{name}-seg.nii.gz", lambda a: np.where(a == 4, 3, a).astype(np.uint8))
    if flat:
        (folder / "HGG").rmdir()
        (folder / "LGG").rmdir()


@pytest.mark.parametrize(
    ("data", "n"), [("brats2018", 285), ("brats2019", 335), ("brats2020", 369), ("brats2021", 1251)]
)
def test_editions(official, data, n):
    before = brats.load(official, 8)
    as_edition(official, data)
    cohort = brats.load(official, 8)
    assert cohort.images.equal(before.images)
    assert cohort.labels.equal(before.labels)
    assert (cohort.meta["data"], len(set(cohort.groups))) == (data, 3)
    assert data[5:] in cohort.meta["source"]
    assert set(cohort.meta["grade"].values()) == ({"HGG", "LGG"} if data < "brats2020" else {""})
    assert f"\n3 of {n:,} patients" in brats.check(official)
    out = official / "out.npz"
    brats.prepare(official, out)
    assert same(brats.load(out, 8), cohort)


def test_visits_of_2023_stay_together(official):
    before = brats.load(official, 8)
    as_edition(official, "brats2023")
    cohort = brats.load(official, 8)
    assert cohort.images.equal(before.images)
    assert cohort.labels.equal(before.labels)
    assert set(cohort.ids[0].split("/")[:1]) == {"BraTS-GLI-00000-000"}
    assert list(cohort.meta["grade"]) == ["BraTS-GLI-00000", "BraTS-GLI-00001"]
    assert set(cohort.groups) == set(cohort.meta["grade"])
    assert list(cohort.meta["halves"]) == ["BraTS-GLI-00000-000", "BraTS-GLI-00000-001", "BraTS-GLI-00001-000"]
    assert brats.domains(cohort, cohort.ids).kinds.unique().tolist() == [0, 1]


def twice(root):
    shutil.copytree(root / "brats/HGG/Brats17_A_1", root / "brats/LGG/Brats17_A_1")


def twice_unpacked(root):
    shutil.copytree(root / "brats/HGG", root / "brats/again/HGG")


def two_editions(root):
    (root / "brats/HGG/Brats18_A_1").mkdir()


def no_edition(root):
    (root / "brats/HGG/docs").mkdir()


def flat_2017(root):
    (root / "brats/HGG/Brats17_A_1").rename(root / "brats/Brats17_A_1")


def mask_of_another_name(root):
    path = paths(root, "Brats17_A_1")("seg")
    path.rename(path.with_name("W39_1998.09.19_Segm.nii"))


def label_4_in_2023(root):
    as_edition(root, "brats2023")
    remake(root / "brats/BraTS-GLI-00000-001/BraTS-GLI-00000-001-seg.nii.gz", with_label(4))


def header(kind, **fields):
    def change(root):
        patch(paths(root, "Brats17_B_1")(kind), **fields)

    return change


def slices(kind, z, value):
    def change(root):
        remake(paths(root, "Brats17_B_1")(kind), lambda a: np.where(np.isin(np.arange(5), z)[:, None, None], value, a))

    return change


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (twice, "LGG/Brats17_A_1: expected each patient once, found another in"),
        (twice_unpacked, "again/HGG/Brats17_A_1: expected each patient once, found another in"),
        (two_editions, "Brats18_A_1: expected patients of one edition, like Brats17_A_1, found Brats18_A_1"),
        (no_edition, "HGG/docs: expected a patient of BraTS 2017 to 2023 (Brats17_*, Brats18_*, BraTS19_*, "),
        (flat_2017, "Brats17_A_1: expected a folder HGG/ or LGG/ around it, as this edition has them, found brats/"),
        (mask_of_another_name, "Brats17_A_1_seg.nii.gz: expected files of flair, t1ce, t1, t2, seg for each patient, "
         "found no such file, but W39_1998.09.19_Segm.nii"),
        (label_4_in_2023, "00000-001-seg.nii.gz: expected labels 0, 1, 2, 3, found 3 voxels of others, 4"),
        (header("t1", codes=(1, 0), qoffset=(1, 0, 0)), "t1.nii.gz: expected origin 0, 0, 0 (x, y, z), as"),
        (header("seg", codes=(0, 1), srow=(1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0)), "seg.nii.gz: expected direction 1"),
        (header("t2", srow=(-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 5)), "t2.nii.gz: sform: expected origin 0, 0, 0"),
        (header("flair", codes=(1, 0), pixdim=(1, 1, 1, 2, 1, 1, 1, 1)), "1 mm, found 240 x 240 x 5 of 1, 1, 2 mm"),
        (header("t1", pixdim=(1, 1, float("inf"), 1, 1, 1, 1, 1)), "t1.nii.gz: expected a spacing of 0.01 to 100 mm"),
        (header("seg", pixdim=(1, -1, 1, 1, 1, 1, 1, 1)), "seg.nii.gz: expected a spacing of 0.01 to 100 mm"),
        (header("t1ce", vox_offset=(0,)), "t1ce.nii.gz: expected voxels behind the header"),
        (header("seg", vox_offset=(350,)), "seg.nii.gz: expected voxels behind the header"),
        (slices("t1", 2, 0), "t1.nii.gz: expected contrast in slices 0 to 4, found nothing but 0 in slice 2"),
        (slices("t2", [0, 3], 77), "t2.nii.gz: expected contrast in slices 1 to 4, found nothing but 77 in slice 3"),
    ],
)  # fmt: skip
def test_what_is_refused(official, change, line):
    change(official)
    refused(lambda: brats.load(official), line)


def test_a_sequence_may_end_before_the_brain(official):
    slices("t1", [0, 4], 0)(official)
    brats.load(official, 8)


def test_too_few_patients_for_the_papers_split(official):
    shutil.rmtree(official / "brats/HGG/Brats17_A_1")
    refused(
        lambda: brats.check(official), official, "2 of 285 patients (1 of 210 HGG, 1 of 75 LGG): split: expected at"
    )


# ---- splits and domains ----


def cohort_of(halves, grade):
    """A cohort of 2 x 2 pixels: `halves` `{patient: (P, A)}`."""
    ids = [f"{p}/{z:03}/left" for p, (n, m) in halves.items() for z in range(n + m)]
    labels = torch.zeros(len(ids), 2, 2, dtype=torch.long)
    labels[[int(name.split("/")[1]) < halves[name.split("/")[0]][0] for name in ids], 0, 1] = 1
    images = torch.arange(len(ids)).float()[:, None, None, None].expand(-1, 1, 2, 2)
    groups = tuple(name.split("/")[0] for name in ids)
    return Cohort(images, labels, tuple(ids), brats.CLASSES, (1.0, 1.0), groups, {"grade": grade})


@pytest.fixture(scope="module")
def many():
    """285 patients in BraTS' grades, with 0 to 30 P and 0 to 10 A."""
    rng = np.random.default_rng(0)
    grade = {f"P{i:03}": "HGG" if i < 210 else "LGG" for i in range(285)}
    return cohort_of({p: (int(rng.integers(0, 31)), int(rng.integers(0, 11))) for p in grade}, grade)


def patients_of(ids):
    return {name.split("/")[0] for name in ids}


@pytest.mark.parametrize("seed", [0, 3])
def test_held_out_patients_are_the_released_ones(many, seed):
    """Of each grade, the first fifth of shuffled positions in the order of an HDF5 file's keys."""
    split, rng, held = brats.splits(many, seed=seed), np.random.RandomState(seed), set()
    for first, n in ((0, 210), (210, 75)):
        positions, keys = np.arange(n), sorted(str(i) for i in range(n))
        rng.shuffle(positions)
        held |= {f"P{first + int(keys[position]):03}" for position in positions[: n // 5]}
    there = set(many.groups)
    assert patients_of(split.validation) | patients_of(split.test) == held & there
    assert len(held) == 57
    for part in (split.validation, split.test):
        assert sum(p < "P210" for p in patients_of(part)) in (20, 21)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_masks_are_lost_by_whole_patients(many, share):
    split, grade = brats.splits(many, share), many.meta["grade"]
    parts = [patients_of(ids) for ids in (split.labelled + split.unlabelled, split.validation, split.test)]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert sorted(split.labelled + split.unlabelled + split.validation + split.test) == sorted(many.ids)
    p = {name for name, label in zip(many.ids, many.labels) if label.any()}
    assert set(split.labelled) <= p
    labelled = patients_of(split.labelled)
    assert not any(name in p for name in split.unlabelled if name.split("/")[0] in labelled)
    assert any(name not in p for name in split.unlabelled if name.split("/")[0] in labelled)
    train_p = [name for name in split.labelled + split.unlabelled if name in p]
    fewest = min(Counter(name.split("/")[0] for name in split.labelled).values())
    assert share <= len(split.labelled) / len(train_p)
    assert len(split.labelled) - fewest <= share * len(train_p) + 1  # none of them could lose its masks too
    assert brats.splits(many, share) == split
    assert brats.splits(many, share, seed=1) != split
    assert grade["P000"] == "HGG"


def test_all_masks(many):
    split = brats.splits(many, 1)
    assert not any(many.labels[many.ids.index(name)].any() for name in split.unlabelled)


@pytest.mark.parametrize("seed", range(6))
def test_four_patients(seed):
    cohort = cohort_of({"a": (9, 3), "b": (5, 8), "c": (7, 1), "d": (3, 3)}, dict.fromkeys("abcd", ""))
    split = brats.splits(cohort, seed=seed)
    labelled, train, validation, test = (
        patients_of(ids) for ids in (split.labelled, split.labelled + split.unlabelled, split.validation, split.test)
    )
    assert [len(part) for part in (labelled, train, validation, test)] == [1, 2, 1, 1]
    assert train | validation | test == set("abcd")
    assert sorted(split.labelled + split.unlabelled + split.validation + split.test) == sorted(cohort.ids)


def test_few_patients_without_half_slices_are_left_out():
    cohort = cohort_of({"a": (9, 3), "b": (5, 8), "c": (7, 1), "d": (0, 0)}, dict.fromkeys("abcd", ""))
    split = brats.splits(cohort)
    assert all((split.labelled, split.unlabelled, split.validation, split.test))
    cohort = cohort_of({"a": (9, 3), "b": (5, 8), "c": (0, 0)}, dict.fromkeys("abc", ""))
    refused(lambda: brats.splits(cohort), "split: expected at least 3 patients with half-slices, found 2")


@pytest.mark.parametrize("share", [0, 1.5, -1, None])
def test_impossible_shares(many, share):
    refused(lambda: brats.splits(many, share), "share: expected a number above 0, up to 1")


def test_domains():
    cohort = cohort_of({"a": (2, 1), "b": (1, 2), "c": (1, 1)}, dict.fromkeys("abc", ""))
    ids = ("c/000/left", "b/001/left", "b/000/left", "a/002/left", "a/000/left")
    found = brats.domains(cohort, ids, ("a/000/left", "c/000/left"))
    assert found.presence[:, 0, 0, 0].tolist() == [cohort.ids.index(name) for name in (ids[0], ids[2], ids[4])]
    assert found.absence[:, 0, 0, 0].tolist() == [cohort.ids.index(name) for name in (ids[1], ids[3])]
    assert found.masks.dtype == torch.bool
    assert found.masks.nonzero().tolist() == [[i, 0, 1] for i in range(3)]
    assert found.labelled.tolist() == [0, 2]
    assert found.kinds.tolist() == [2, 1, 0]
    assert brats.domains(cohort, ids).labelled.tolist() == []
    refused(lambda: brats.domains(cohort, ids[1:2]), "half-slices of b: expected some with a tumour, found none")
    assert len(brats.domains(cohort, ids[:1]).absence) == 0


# ---- the real files ----


@pytest.mark.long
def test_real_data(tmp_path):
    root = os.environ.get("FEWLABELS_DATA")
    if not root or not Path(root, "brats").is_dir():
        pytest.skip("FEWLABELS_DATA is not set to a folder that holds brats/: BraTS cannot be shipped")
    if any(Path(root, "brats", grade).is_dir() for grade in brats_editions.GRADES):
        pytest.skip("FEWLABELS_DATA holds the official files: reading them takes minutes")
    cohort = brats.load(root, 4)
    assert cohort.meta["data"] == "brats2015-2seq"
    assert cohort.images.shape[1:] == (2, 60, 30)
    assert torch.isfinite(cohort.images).all()
    assert all(p and a for p, a in cohort.meta["halves"].values())
    flair, tumour = cohort.images[:, 0], cohort.labels.bool()
    assert flair[tumour].mean() > flair[~tumour & (flair != 0)].mean() + 0.2
    split = brats.splits(cohort)
    assert [len(patients_of(p)) for p in (split.labelled, split.unlabelled, split.validation, split.test)] == [
        1,
        2,
        1,
        1,
    ]
    out = tmp_path / "brats.npz"
    brats.prepare(root, out)
    assert out.stat().st_size < 20e6
    assert same(brats.load(out, 4), cohort)
