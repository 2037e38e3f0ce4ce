"""JSRT's loader on files made here (no radiograph is in this repository) and, with FEWLABELS_DATA, on real ones."""

import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import refused, same
from PIL import Image
from scipy import ndimage

from fewlabels.data import jsrt, prepared
from fewlabels.data.phantoms.chest import chest

FOUR = ("JPCLN001", "JPCLN002", "JPCNN001", "JPCNN002")
STRUCTURES = jsrt.CLASSES[1:]
# The first three labelled images of splits 0 to 4; results would not be comparable if they changed.
PINNED = [
    ("JPCLN137", "JPCNN089", "JPCLN073"),
    ("JPCNN022", "JPCLN096", "JPCLN134"),
    ("JPCNN021", "JPCLN051", "JPCLN091"),
    ("JPCLN134", "JPCNN018", "JPCLN092"),
    ("JPCLN119", "JPCNN089", "JPCNN021"),
]


@pytest.fixture
def four(monkeypatch):
    """A JSRT of four subjects."""
    monkeypatch.setattr(jsrt, "IDS", FOUR)
    return FOUR


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """Made once, because compressing takes longest; tests get a copy, `copy8`."""
    root = tmp_path_factory.mktemp("copy8")
    rng = np.random.default_rng(0)
    for name in FOUR:
        write_png(root / f"jsrt/images/{name}.png", rng.integers(0, 256, (512, 512)))
    write_masks(root / "jsrt/masks", FOUR, rng)
    return root


@pytest.fixture
def copy8(four, pristine, tmp_path):
    """The data root of a reduced 8-bit copy of four subjects."""
    shutil.copytree(pristine, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def official(monkeypatch, tmp_path):
    """The data root of two subjects in the official layout, masks in SCR's two folds."""
    monkeypatch.setattr(jsrt, "IDS", ("JPCLN001", "JPCNN002"))
    rng = np.random.default_rng(1)
    for name, fold in zip(jsrt.IDS, ("fold1", "fold2"), strict=True):
        coarse = rng.integers(0, 2, (32, 32)) * 4095  # hard edges: the spline over- and undershoots
        write_img(tmp_path / f"jsrt/All247images/{name}.IMG", np.kron(coarse, np.ones((64, 64))))
        write_masks(tmp_path / f"jsrt/scratch/{fold}/masks", [name], rng)
    return tmp_path


def write_png(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def write_img(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels.astype(">u2").tofile(path)


def write_gif(path, mask):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


def write_masks(folder, ids, rng):
    """Random blocks of 13 pixels, so that edges fall anywhere on the grid of 512."""
    for structure in STRUCTURES:
        for name in ids:
            blocks = np.kron(rng.random((79, 79)) < 0.3, np.ones((13, 13)))
            write_gif(folder / structure / f"{name}.gif", blocks[:1024, :1024])


def expected_labels(masks):
    """What the structures' 1024-pixel masks, in the order of STRUCTURES, should become: by scipy, then by the rule."""
    labels = np.zeros((512, 512), int)
    for value, mask in enumerate(masks, start=1):
        labels[(labels == 0) & (ndimage.zoom(mask.astype(np.uint8), 0.5, order=0) > 0)] = value
    return labels


def read_gif(path):
    return np.asarray(Image.open(path).convert("L")) > 0


def expected_lungs(left, right):
    """SCR's lung fields as they lie in the 1024-pixel files, whatever lies before them."""
    left, right = (ndimage.zoom(mask.astype(np.uint8), 0.5, order=0) > 0 for mask in (left, right))
    return np.where(left, 4, np.where(right, 5, 0))


# ---- what is loaded ----


def test_reduced_copy(copy8):
    cohort = jsrt.load(copy8)
    assert cohort.images.shape == (4, 1, 512, 512)
    assert cohort.images.dtype == torch.float32
    assert cohort.labels.shape == (4, 512, 512)
    assert cohort.labels.dtype == torch.int64
    assert cohort.ids == cohort.groups == FOUR
    assert cohort.classes == ("background", "heart", "left clavicle", "right clavicle", "left lung", "right lung")
    assert cohort.spacing_mm == pytest.approx((0.7, 0.7))
    assert (cohort.meta["data"], cohort.meta["size"], cohort.meta["files"]) == ("jsrt-8bit", 512, 24)
    assert "not the official files" in cohort.meta["source"]
    for name, image, labels in zip(FOUR, cohort.images, cohort.labels, strict=True):
        pixels = np.asarray(Image.open(copy8 / f"jsrt/images/{name}.png")).astype(float)
        np.testing.assert_allclose(image[0], pixels / 255 * 2 - 1, atol=1e-6)
        masks = [read_gif(copy8 / f"jsrt/masks/{s}/{name}.gif") for s in STRUCTURES]
        np.testing.assert_array_equal(labels, expected_labels(masks))
        np.testing.assert_array_equal(cohort.meta["lungs"][FOUR.index(name)], expected_lungs(*masks[3:]))


def test_official(official):
    cohort = jsrt.load(official)
    assert cohort.ids == ("JPCLN001", "JPCNN002")
    assert cohort.meta["data"] == "jsrt"
    assert "official" in cohort.meta["source"]
    for name, fold, image, labels in zip(cohort.ids, ("fold1", "fold2"), cohort.images, cohort.labels, strict=True):
        raw = np.fromfile(official / f"jsrt/All247images/{name}.IMG", ">u2").reshape(2048, 2048).astype(float)
        small = ndimage.zoom(raw, 0.25, order=3)
        assert small.min() < -50  # there is undershoot, which uint16 cannot hold
        assert small.max() > 4150
        small = 4096 - np.clip(np.round(small), 0, 4096)
        np.testing.assert_array_equal(image[0], (small / 4096 * 2 - 1).astype(np.float32))
        masks = [read_gif(official / f"jsrt/scratch/{fold}/masks/{s}/{name}.gif") for s in STRUCTURES]
        np.testing.assert_array_equal(labels, expected_labels(masks))
        np.testing.assert_array_equal(cohort.meta["lungs"][cohort.ids.index(name)], expected_lungs(*masks[3:]))


def test_lungs_are_the_labels_but_for_what_lies_before_them(official):
    cohort = jsrt.load(official)
    lungs, labels = cohort.meta["lungs"], cohort.labels
    assert (lungs.dtype, lungs.shape) == (torch.uint8, labels.shape)
    covered = (1 <= labels) & (labels <= 3)  # by heart or clavicle
    assert lungs[~covered].long().equal(labels[~covered])
    for structure in (1, 2, 3):
        assert set(lungs[labels == structure].tolist()) == {0, 4, 5}  # beside the lungs, and before each


def test_official_grey_values(tmp_path):
    """Inverted and scaled, by hand: 0 is dense tissue. A dark square on white keeps its value at its centre."""
    raw = np.full((2048, 2048), 4095)
    raw[512:1536, 512:1536] = 0
    write_img(tmp_path / "a.IMG", raw)
    image = jsrt._read_img(tmp_path / "a.IMG")
    assert image[256, 256] == 4096
    assert image[10, 10] == image[-1, -1] == 1
    dark = image[130:382, 130:382]  # includes the ringing beside the edges: undershoot must not wrap
    assert dark.min() > 3500


def test_official_wins_over_a_reduced_copy(official):
    for name in jsrt.IDS:
        write_png(official / f"jsrt/images/{name}.png", np.zeros((512, 512)))
    assert jsrt.load(official, 64).meta["data"] == "jsrt"


def test_linked_folders_are_followed_and_hidden_files_are_not(copy8, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("disk") / "masks"
    (copy8 / "jsrt/masks").rename(elsewhere)
    (copy8 / "jsrt/masks").symlink_to(elsewhere)
    (copy8 / "jsrt/images/._JPCLN001.png").write_bytes(b"macOS")
    assert len(jsrt.load(copy8, 64)) == 4


def test_mask_pixels_are_those_of_scipy(tmp_path):
    noise = np.random.default_rng(3).random((1024, 1024)) < 0.5
    write_gif(tmp_path / "a.gif", noise)
    expected = ndimage.zoom(noise.astype(np.uint8), 0.5, order=0) > 0
    np.testing.assert_array_equal(jsrt._read_mask(tmp_path / "a.gif"), expected)


def test_overlaps_go_to_the_first_structure(copy8):
    """In the k-th horizontal strip lie structures k, k+1, ... on top of each other; above them, none."""
    for k, structure in enumerate(STRUCTURES, start=1):
        mask = np.zeros((1024, 1024), bool)
        mask[100 : 100 + 100 * k] = True  # the heart covers one strip, the right lung all five
        write_gif(copy8 / f"jsrt/masks/{structure}/JPCLN001.gif", mask)
    cohort, rows = jsrt.load(copy8), (25, 75, 125, 175, 225, 275, 400)
    assert [int(cohort.labels[0, row, 300]) for row in rows] == [0, 1, 2, 3, 4, 5, 0]
    assert [int(cohort.meta["lungs"][0, row, 300]) for row in rows] == [0, 4, 4, 4, 4, 5, 0]


@pytest.mark.parametrize("size", [256, 64, 1])
def test_smaller_images_are_block_means(copy8, size):
    full, small = jsrt.load(copy8), jsrt.load(copy8, size)
    block = 512 // size
    for i, (r, c) in enumerate([(0, 0), (size - 1, 0), (size // 2, size // 3), (size - 1, size - 1)]):
        pixels = full.images[i, 0, r * block : (r + 1) * block, c * block : (c + 1) * block].double()
        assert float(small.images[i, 0, r, c]) == pytest.approx(float(pixels.mean()), abs=1e-5)
    assert small.spacing_mm == pytest.approx((0.7 * block,) * 2)


@pytest.mark.parametrize("size", [256, 32])
def test_smaller_labels_are_majorities(size):
    """Blocks of 4 pixels and six labels: many ties."""
    block = 512 // size
    coarse = np.random.default_rng(size).integers(0, 6, (1, 256, 256))
    labels = np.kron(coarse, np.ones((1, 2, 2), int)) if block > 2 else np.tile(coarse, (1, 2, 2))
    found = jsrt._block_majority(labels.astype(np.uint8), size)[0]
    for r in range(size):
        for c in range(size):
            votes = Counter(labels[0, r * block : (r + 1) * block, c * block : (c + 1) * block].ravel().tolist())
            most = max(votes.values())
            assert found[r, c] == min((v for v in votes if votes[v] == most), key=lambda v: v or 9)


def test_ties_by_hand():
    labels = np.zeros((1, 512, 512), np.uint8)
    labels[0, :2, :2] = [[0, 5], [0, 5]]  # a structure beats background
    labels[0, :2, 2:4] = [[5, 4], [4, 5]]  # the left lung beats the right
    labels[0, :2, 4:6] = [[3, 2], [1, 0]]  # the heart beats all
    labels[0, :2, 6:8] = [[0, 1], [0, 2]]  # unless there is more of another
    assert jsrt._block_majority(labels, 256)[0, 0, :4].tolist() == [5, 4, 1, 0]


def test_smaller_lungs_are_majorities_of_lungs(copy8):
    """Not of labels: a clavicle that covers most of a block takes nothing from the lung behind it."""
    full, small = jsrt.load(copy8).meta["lungs"].numpy(), jsrt.load(copy8, 16).meta["lungs"].numpy()
    votes = np.stack([(full == v).reshape(4, 16, 32, 16, 32).sum((2, 4)) for v in (4, 5, 0)])  # argmax: first of equals
    np.testing.assert_array_equal(small, np.array([4, 5, 0])[votes.argmax(0)])
    assert small.dtype == np.uint8


def test_same_files_same_fingerprint(copy8):
    assert jsrt.load(copy8, 64).fingerprint() == jsrt.load(copy8, 64).fingerprint()


def test_check(copy8):
    text = jsrt.check(copy8)
    assert text.startswith("jsrt-8bit: ")
    assert "\n4 of 4 images: 2 with a nodule + 2 without; 4 masks of each of: heart" in text
    assert len(text.splitlines()) == 3
    pixels = np.asarray(Image.open(copy8 / "jsrt/images/JPCNN002.png")).copy()
    pixels[5, 5] ^= 1
    write_png(copy8 / "jsrt/images/JPCNN002.png", pixels)
    assert jsrt.check(copy8) != text  # one bit of one pixel


def test_phantom_is_the_chest():
    assert jsrt.phantom is chest


# ---- bad input ----


def cut(path, keep):
    """Keeps the first `keep` bytes of a file (the last ones off, if negative)."""
    path.write_bytes(path.read_bytes()[:keep])


@pytest.mark.parametrize("size", [0, 100, 1024, -64])
def test_sizes(copy8, size):
    refused(lambda: jsrt.load(copy8, size), "size: expected a power of two", f"found {size}")


def test_missing_folder_says_where_to_get_it(tmp_path):
    sources = ("http://db.jsrt.or.jp/eng.php", "registration", "https://www.isi.uu.nl/Research/Databases/SCR/")
    layout = ("ID.IMG", "<structure>/ID.gif")
    refused(lambda: jsrt.load(tmp_path), f"{tmp_path / 'jsrt'}: ", "no such folder", *sources, *layout)
    (tmp_path / "jsrt").mkdir()
    refused(lambda: jsrt.load(tmp_path), f"{tmp_path / 'jsrt'}: ", "neither .IMG nor", *sources, *layout)


def test_missing_masks(copy8):
    folder = copy8 / "jsrt/masks/left lung"
    (folder / "JPCNN001.gif").unlink()
    refused(
        lambda: jsrt.load(copy8),
        f"{folder / 'JPCNN001.gif'}: ",
        "expected 4 files",
        "found 3 of 4 files, without JPCNN001",
    )
    for path in folder.iterdir():
        path.unlink()
    refused(
        lambda: jsrt.load(copy8),
        f"{folder / 'JPCLN001.gif'}: ",
        "https://www.isi.uu.nl",
        "found 0 of 4 files, without JPCLN001, JPCLN002, JPCNN001 and 1 more",
    )


def test_missing_mask_of_the_folds(official):
    path = official / "jsrt/scratch/fold2/masks/heart/JPCNN002.gif"
    path.rename(path.with_suffix(".bak"))
    refused(lambda: jsrt.load(official), "fold1/masks/heart/JPCNN002.gif: ", "found 1 of 2 files, without JPCNN002")


@pytest.mark.parametrize("size", [8_388_606, 0, 8_388_610])
def test_wrong_length_of_img(official, size):
    path = official / "jsrt/All247images/JPCNN002.IMG"
    os.truncate(path, size)
    refused(lambda: jsrt.load(official), f"{path}: ", "expected 8,388,608 bytes", f"found {size:,}")


def test_byte_order_of_img(official):
    path = official / "jsrt/All247images/JPCNN002.IMG"
    np.full((2048, 2048), 1000, "<u2").tofile(path)
    refused(
        lambda: jsrt.load(official), f"{path}: ", "12-bit values, big-endian", f"values up to {1000 % 256 * 256 + 3}"
    )


@pytest.mark.parametrize("keep", [0, 30, 5000])
def test_damaged_png(copy8, keep):
    path = copy8 / "jsrt/images/JPCNN001.png"
    cut(path, keep)
    refused(lambda: jsrt.load(copy8), f"{path}: expected an 8-bit grey PNG")


@pytest.mark.parametrize("keep", [0, 30, 1000, -30])
def test_damaged_gif(copy8, keep):
    path = copy8 / "jsrt/masks/right clavicle/JPCLN002.gif"
    cut(path, keep)
    refused(lambda: jsrt.load(copy8), f"{path}: expected a GIF mask")


def test_another_format_under_the_name(copy8):
    path = copy8 / "jsrt/images/JPCNN001.png"
    Image.new("L", (512, 512)).save(path, format="JPEG")
    refused(lambda: jsrt.load(copy8), f"{path}: expected an 8-bit grey PNG")


@pytest.mark.parametrize(
    ("mode", "size"), [("L", (512, 511)), ("L", (1024, 1024)), ("RGB", (512, 512)), ("I;16", (512, 512))]
)
def test_another_png(copy8, mode, size):
    path = copy8 / "jsrt/images/JPCLN001.png"
    Image.new(mode, size).save(path)
    found = f"found mode {mode}, {size[0]} x {size[1]}"
    refused(lambda: jsrt.load(copy8), f"{path}: expected mode L, 512 x 512", found)


def test_another_mask(copy8):
    path = copy8 / "jsrt/masks/heart/JPCLN002.gif"
    write_gif(path, np.ones((1024, 512)))
    refused(lambda: jsrt.load(copy8), f"{path}: expected 1024 x 1024, found 512 x 1024")
    write_gif(path, np.zeros((1024, 1024)))
    refused(lambda: jsrt.load(copy8), f"{path}: expected a mask, found no pixel above 0")
    write_gif(path, np.ones((1024, 1024)))
    refused(lambda: jsrt.load(copy8), f"{path}: expected a mask, found no pixel of 0")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda image: image.fill(0), "nothing but 0 in 2,048 rows from row 0 on"),
        (lambda image: image[1000:].fill(0), "nothing but 0 in 1,048 rows from row 1,000 on"),
        (lambda image: image[96:200].fill(0), "nothing but 0 in 104 rows from row 96 on"),
        (lambda image: image.fill(1000), "nothing but 1000"),
    ],
)
def test_img_filled_up(official, change, found):
    """As where a download stopped, or a disk was full."""
    path = official / "jsrt/All247images/JPCNN002.IMG"
    image = np.fromfile(path, ">u2").reshape(2048, 2048)
    change(image)
    write_img(path, image)
    for call in (jsrt.load, jsrt.check):
        refused(lambda call=call: call(official), f"{path}: expected a radiograph, found {found}")


@pytest.mark.parametrize("value", [0, 17, 255])
def test_png_of_one_value(copy8, value):
    path = copy8 / "jsrt/images/JPCLN002.png"
    write_png(path, np.full((512, 512), value))
    refused(lambda: jsrt.check(copy8), f"{path}: expected a radiograph, found nothing but {value}")


@pytest.mark.parametrize("organ", ["lung", "clavicle"])
def test_mirrored_masks(official, organ):
    """The patient is seen from the front: left is right in the picture."""
    left, right = (official / f"jsrt/scratch/fold2/masks/{side} {organ}/JPCNN002.gif" for side in ("left", "right"))
    mask = np.zeros((1024, 1024))
    mask[200:800, 150:400] = 1
    write_gif(right, mask)
    write_gif(left, mask[:, ::-1])
    jsrt.check(official)
    write_gif(right, mask[:, ::-1])
    write_gif(left, mask)
    refused(lambda: jsrt.check(official), f"{left}: expected the patient's left {organ} right in the picture", "found")


def test_an_id_in_two_folders(copy8, tmp_path):
    first = copy8 / "jsrt/masks/heart/JPCLN002.gif"
    second = copy8 / "jsrt/fold1/masks/heart/JPCLN002.gif"
    write_gif(second, read_gif(first))
    refused(lambda: jsrt.load(copy8), first, second, "one file for JPCLN002")


def test_an_image_in_two_folders(official):
    first = official / "jsrt/All247images/JPCNN002.IMG"
    second = official / "jsrt/images/JPCNN002.IMG"
    second.parent.mkdir()
    second.hardlink_to(first)
    refused(lambda: jsrt.load(official), first, second, "one file for JPCNN002")


@pytest.mark.parametrize("extra", ["images/JPCLN155.png", "masks/heart/Copy of JPCLN001.gif"])
def test_unexpected_ids(copy8, extra):
    (copy8 / "jsrt" / extra).write_bytes(b"")
    refused(lambda: jsrt.load(copy8), f"{copy8 / 'jsrt' / extra}: ", "expected one of the ids", Path(extra).stem)


def test_246_images(tmp_path):
    """The real 247 ids, files without content: counted before any is decoded."""
    assert len(set(jsrt.IDS)) == 247
    folder = tmp_path / "jsrt/images"
    folder.mkdir(parents=True)
    for name in jsrt.IDS:
        with open(folder / f"{name}.IMG", "wb") as file:
            file.truncate(jsrt.IMG_BYTES)  # sparse: takes no space
    masks = tmp_path / "jsrt/masks/heart/JPCLN001.gif"
    refused(lambda: jsrt.load(tmp_path), f"{masks}: ", "expected 247 files", "found 0 of 247 files")
    (folder / "JPCNN077.IMG").rename(tmp_path / "JPCNN077.IMG")
    expected = (f"{folder / 'JPCNN077.IMG'}: ", "expected 247 files", "found 246 of 247 files, without JPCNN077")
    refused(lambda: jsrt.load(tmp_path), *expected)
    refused(lambda: jsrt.check(tmp_path), *expected)
    refused(lambda: jsrt.prepare(tmp_path, tmp_path / "out.npz"), *expected)
    assert not (tmp_path / "out.npz").exists()


def test_names_are_checked_before_anything_is_decoded(copy8, monkeypatch):
    monkeypatch.setattr(Image, "open", None)
    path = copy8 / "jsrt/masks/right lung/JPCNN002.gif"
    path.unlink()
    refused(lambda: jsrt.load(copy8), f"{path}: ")


# ---- one file instead of the folder ----


@pytest.mark.parametrize("layout", ["copy8", "official"])
@pytest.mark.parametrize("size", [512, 64])
def test_prepared_gives_the_same_bits(request, layout, size):
    root = request.getfixturevalue(layout)
    out = root / "new/folder/jsrt.npz"
    digest = jsrt.prepare(root, out)
    assert [path.name for path in out.parent.iterdir()] == ["jsrt.npz"]
    assert same(jsrt.load(out, size), jsrt.load(root, size))
    assert jsrt.check(out) == jsrt.check(root)
    assert digest in jsrt.check(root)


def test_damaged_prepared_files(copy8):
    out = copy8 / "jsrt.npz"
    jsrt.prepare(copy8, out)
    whole = out.read_bytes()
    for damaged in (b"", whole[:3], whole[:1000], whole[:-1], whole[:-1000], whole[1000:]):
        out.write_bytes(damaged)
        refused(lambda: jsrt.load(out), f"{out}: expected a file written by `python -m fewlabels prepare jsrt`")
    flipped = bytearray(whole)
    flipped[len(flipped) // 2] ^= 1
    out.write_bytes(flipped)
    refused(lambda: jsrt.load(out), f"{out}: ")


def test_changed_prepared_content(copy8):
    out = copy8 / "jsrt.npz"
    jsrt.prepare(copy8, out)
    with np.load(out) as file:
        arrays = dict(file)
    arrays["labels"][0, 0, 0] ^= 1
    np.savez_compressed(out, **arrays)
    refused(lambda: jsrt.load(out), f"{out}: expected content with SHA-256 {arrays['sha256']}")


def test_foreign_prepared_files(copy8, monkeypatch):
    out = copy8 / "file.npz"
    out.write_text("hello")
    refused(lambda: jsrt.load(out), f"{out}: ")
    np.savez(out, images=np.zeros(3))
    refused(lambda: jsrt.load(out), f"{out}: ", "found arrays images")
    np.savez(out, prepared="jsrt", sha256=np.array([{"a": 1}], object))  # a pickle is refused, not run
    refused(lambda: jsrt.load(out), f"{out}: ", "allow_pickle=False")
    prepared.write(out, "acdc", {"images": np.zeros((2, 3, 3), np.int16)})
    refused(lambda: jsrt.load(out), f"{out}: ", "prepare jsrt", "found one of acdc")
    prepared.write(out, "jsrt", {"images": np.zeros((2, 3, 3), np.int16)})
    refused(lambda: jsrt.load(out), f"{out}: expected arrays images, labels, lungs, ids, data", "found images")
    jsrt.prepare(copy8, out)
    monkeypatch.setattr(jsrt, "IDS", FOUR[:3])
    refused(lambda: jsrt.load(out), f"{out}: expected the 3 ids of JSRT, found 4 others")


def test_a_file_prepared_before_lungs_were_kept(copy8):
    out = copy8 / "jsrt.npz"
    jsrt.prepare(copy8, out)
    old = prepared.read(out, "jsrt")
    assert old.pop("lungs").dtype == np.uint8
    prepared.write(out, "jsrt", old)
    for call in (jsrt.load, jsrt.check):
        refused(lambda call=call: call(out), f"{out}: ", "lungs", "prepare it again", "found images, labels, ids, data")


def test_preparing_that_fails_leaves_what_was_there(copy8, monkeypatch):
    out = copy8 / "out/jsrt.npz"
    jsrt.prepare(copy8, out)
    before = out.read_bytes()

    def disk_full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", disk_full)
    refused(lambda: jsrt.prepare(copy8, out), f"{out}: ", "No space left on device")
    assert [path.name for path in out.parent.iterdir()] == ["jsrt.npz"]
    assert out.read_bytes() == before


def test_places_that_cannot_be_written(copy8):
    refused(lambda: jsrt.prepare(copy8, copy8 / "jsrt"), f"{copy8 / 'jsrt'}: ")
    inside_a_file = copy8 / "jsrt/images/JPCLN001.png/out.npz"
    refused(lambda: jsrt.prepare(copy8, inside_a_file), f"{inside_a_file}: ")
    assert {path.name for path in copy8.iterdir()} == {"jsrt"}


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64, np.float32])
def test_prepared_arrays_of_all_kinds(tmp_path, dtype):
    """Extreme values: the differences wrap, and come back."""
    info = np.finfo(dtype) if dtype == np.float32 else np.iinfo(dtype)
    extreme = np.array([info.min, info.max, 0, info.max, info.min], dtype)
    arrays = {
        "one": extreme,
        "two": np.stack([extreme, extreme[::-1]]),
        "transposed": np.stack([extreme, extreme[::-1]]).T,
        "empty": np.zeros((0, 4), dtype),
        "names": np.array(["a", "ü"]),
        "name": np.array("x"),
    }
    prepared.write(tmp_path / "a.npz", "any", arrays)
    back = prepared.read(tmp_path / "a.npz", "any")
    assert set(back) == set(arrays)
    for name, array in arrays.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(back[name], array)


# ---- splits ----


@pytest.mark.parametrize("split", range(5))
def test_splits(split):
    parts = jsrt.splits(jsrt.IDS, split, 25)
    even = split in (0, 2, 4)
    assert len(parts.test) == (123 if even else 124)
    assert len(parts.labelled) == 25
    assert len(parts.unlabelled) == 75
    assert len(parts.validation) == (24 if even else 23)
    assert {int(name[-3:]) % 2 for name in parts.test} == {0 if even else 1}
    everyone = parts.labelled + parts.unlabelled + parts.validation + parts.test
    assert sorted(everyone) == sorted(jsrt.IDS)  # each once
    assert parts == jsrt.splits(jsrt.IDS[::-1], split, 25)


def test_label_sets_are_nested():
    of = {n: jsrt.splits(jsrt.IDS, 3, n) for n in (5, 10, 25, 50, 100)}
    for small, large in ((5, 10), (10, 25), (25, 50), (50, 100)):
        assert set(of[small].labelled) < set(of[large].labelled)
    assert len({(parts.validation, parts.test) for parts in of.values()}) == 1
    assert of[100].unlabelled == ()


def test_splits_do_not_change():
    assert [jsrt.splits(jsrt.IDS, split, 3).labelled for split in range(5)] == PINNED


def test_splits_of_phantoms():
    parts = jsrt.splits([f"PHANTOM{i:03}" for i in range(1, 21)], 1, 2, train=6)
    assert parts.test == tuple(f"PHANTOM{i:03}" for i in range(1, 21, 2))
    assert [len(part) for part in (parts.labelled, parts.unlabelled, parts.validation)] == [2, 4, 4]


def test_impossible_splits():
    for split in (-1, 5):
        refused(lambda split=split: jsrt.splits(jsrt.IDS, split, 5), "split: expected 0 to 4", f"found {split}")
    for labels in (0, -5, 101):
        refused(lambda n=labels: jsrt.splits(jsrt.IDS, 0, n), "labels: expected 1 to 100", f"found {labels}")
    refused(lambda: jsrt.splits(jsrt.IDS, 0, 5, train=124), "split 0: ", "validation", "found 123 and 124")
    refused(lambda: jsrt.splits(jsrt.IDS[1::2], 1, 5, train=10), "split 1: ", "test images", "found 0 and 123")
    refused(lambda: jsrt.splits(["a1", "b"], 0, 1, train=1), "id b: ", "ends in a number")


# ---- the real files ----


@pytest.fixture(scope="module")
def real_root():
    root = os.environ.get("FEWLABELS_DATA")
    if not root or not Path(root, "jsrt").is_dir():
        pytest.skip("FEWLABELS_DATA is not set to a folder that holds jsrt/: JSRT cannot be shipped")
    return Path(root)


@pytest.mark.long
def test_real_data(real_root, tmp_path):
    out = tmp_path / "jsrt.npz"
    digest = jsrt.prepare(real_root, out)
    cohort = jsrt.load(real_root, 256)
    assert same(cohort, jsrt.load(out, 256))
    assert digest in jsrt.check(out)
    if cohort.meta["data"] == "jsrt-8bit":
        assert out.stat().st_size <= 45e6
    assert cohort.ids == jsrt.IDS
    assert float(cohort.images.min()) >= -1
    assert float(cohort.images.max()) <= 1

    share = {name: float((cohort.labels == k).double().mean()) for k, name in enumerate(cohort.classes)}
    assert 0.07 < share["heart"] < 0.12
    assert 0.10 < share["left lung"] < share["right lung"] < 0.20  # the heart takes from the left
    for side in ("left", "right"):
        assert 0.006 < share[f"{side} clavicle"] < 0.015
    column = torch.arange(256.0)
    left, right = (((cohort.labels == k) * column).sum() / (cohort.labels == k).sum() for k in (4, 5))
    assert left > 128 > right  # the patient's left is on the right of the image
    lungs, heart = (cohort.images[:, 0][cohort.labels == k].mean() for k in (5, 1))
    assert heart > lungs + 0.2  # dense tissue is bright
    exclusive, whole = ((field == 5).double().mean() for field in (cohort.labels, cohort.meta["lungs"]))
    assert 1.02 < whole / exclusive < 1.15  # the clavicle's share
