"""JSRT chest radiographs with the SCR masks of heart, clavicles and lungs (Bortsova et al., MICCAI 2019).

247 images (Shiraishi et al. 2000): JPCLN001..154 with a lung nodule, JPCNN001..093 without. Masks: van Ginneken
et al. 2006, first observer. Both are free after registration and must not be passed on.

Below `root/jsrt` two layouts are read, and the data say which one they come from (`meta["data"]`):

    jsrt        ID.IMG anywhere: 2048 x 2048 big-endian uint16, 12 bit, dense tissue dark (the official files)
    jsrt-8bit   images/ID.png: 512 x 512, 8 bit, dense tissue bright (a reduced copy; used if there is no .IMG)

and for both the official masks <structure>/ID.gif, 1024 x 1024, anywhere (masks/heart/, fold1/masks/heart/, ...).

Labels are exclusive, as in the authors' loader. SCR's own lung fields, which literature is scored on, lie behind the
clavicles too; `meta["lungs"]` keeps them.
"""

import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from fewlabels.data import prepared
from fewlabels.data.cohort import Cohort, Split
from fewlabels.data.complete import of_all
from fewlabels.data.phantoms.chest import CLASSES
from fewlabels.data.phantoms.chest import chest as phantom
from fewlabels.errors import BadInput
from fewlabels.files import files_below
from fewlabels.paths import NOWHERE

__all__ = ["CLASSES", "IDS", "check", "load", "phantom", "prepare", "splits"]

IDS = tuple([f"JPCLN{i:03}" for i in range(1, 155)] + [f"JPCNN{i:03}" for i in range(1, 94)])

LUNGS = ("left lung", "right lung")
IMAGES_FROM = "JSRT, http://db.jsrt.or.jp/eng.php (free registration)"
MASKS_FROM = "SCR, https://www.isi.uu.nl/Research/Databases/SCR/"
TERMS = (
    "for research only, no redistribution; acknowledge the Japanese Society of Radiological Technology and cite "
    "Shiraishi et al. 2000; masks: SCR, first observer, cite van Ginneken et al. 2006"
)
SOURCES = {
    "jsrt": f"JSRT, official 12-bit .IMG files; {TERMS}",
    "jsrt-8bit": f"JSRT, a copy reduced to 8 bit and 512 x 512, not the official files; {TERMS}",
}
WHITE = {"jsrt": 4096, "jsrt-8bit": 255}  # the grey value that becomes 1
DTYPE = {"jsrt": np.int16, "jsrt-8bit": np.uint8}
GRID = 512  # side in pixels of the grid on which the integers are kept
IMG_BYTES = 2048 * 2048 * 2
# Where scipy.ndimage.zoom(mask, 0.5, order=0) looks: corners on corners, nearest pixel. Indexing is much faster.
NEAREST = np.floor(np.arange(GRID) * (1023 / 511) + 0.5).astype(int)


def load(root: Path | str | None, size: int = 512) -> Cohort:
    """The 247 radiographs as a `Cohort`: images float32 `(247, 1, size, size)` in [-1, 1], dense tissue bright;
    labels int64 `(247, size, size)`, values as in `CLASSES`; axes are rows (top first), columns; ids sorted.

    root   the data root, which holds `jsrt/`, or a file written by `prepare`
    size   side in pixels, a power of two up to 512

    As in the authors' loader, official images are reduced to 512 by a cubic spline, rounded, clipped to 0..4096
    and inverted, masks are reduced to 512 by nearest neighbour, and where structures overlap the first of
    `CLASSES[1:]` takes the pixel: the lungs lose what heart and clavicles cover. At smaller sizes a pixel is the mean
    of its block of 512-grid pixels, and its label the one most of the block has; of equals, the first of
    `CLASSES[1:]`, background last. `meta["lungs"]`: SCR's lung fields with what clavicles and heart cover of them,
    uint8 `(247, size, size)`, values as in `CLASSES`.

    Raises `BadInput` naming the file if anything is missing, damaged, of another size, twice there, or not JSRT's.
    """
    if size not in [2**k for k in range(10)]:
        raise BadInput("size", f"a power of two from 1 to {GRID}", size)
    arrays = _read(root)
    data, ids = str(arrays["data"]), tuple(arrays["ids"].tolist())
    images = _block_mean(arrays["images"], size) / WHITE[data] * 2 - 1
    return Cohort(
        images=torch.from_numpy(images)[:, None],
        labels=torch.from_numpy(_block_majority(arrays["labels"], size).astype(np.int64)),
        ids=ids,
        classes=CLASSES,
        spacing_mm=(0.175 * 2048 / size,) * 2,
        groups=ids,
        meta={"data": data, "source": SOURCES[data], "size": size, "files": len(ids) * len(CLASSES)}
        | {"lungs": torch.from_numpy(_block_majority(arrays["lungs"], size))},
    )


def prepare(root: Path | str | None, out: Path | str) -> str:
    """Writes all that `load(root)` needs to one file `out`; `load(out, size)` then gives the same bits.

    Returns the SHA-256 of the content (that of `check`). Raises `BadInput` as `load` does.
    """
    arrays = _read(root)
    prepared.write(out, "jsrt", arrays)
    return prepared.checksum(arrays)


def check(root: Path | str | None) -> str:
    """Reads every file below `root` and returns what is there, in three lines of text; raises `BadInput` as `load`."""
    arrays = _read(root)
    nodules = sum(name.startswith("JPCLN") for name in arrays["ids"])
    n, data = len(arrays["ids"]), str(arrays["data"])
    return (
        f"{data}: {SOURCES[data]}\n"
        f"{of_all(n, len(IDS), 'images')}: {nodules} with a nodule + {n - nodules} without; {n} masks of each of: "
        f"{', '.join(CLASSES[1:])}\n"
        f"sha256 {prepared.checksum(arrays)}"
    )


def splits(ids: Sequence[str], split: int, labels: int, train: int = 100) -> Split:
    """Split 0..4 of the paper with `labels` labelled training images; a pure function of its arguments.

    Test: even ids in splits 0, 2, 4, odd ids in 1, 3 (by the number in the name: 123 and 124 of JSRT; which are
    which the paper leaves open). The others, shuffled with `split` as the seed: `train` for training, the rest (24 or
    23) for validation. The first `labels` of training are labelled, so that the sets are nested; the rest of
    training is unlabelled.

    Raises `BadInput` if `split` or `labels` is out of range or there are too few ids.
    """
    if split not in range(5):
        raise BadInput("split", "0 to 4", split)
    if not 1 <= labels <= train:
        raise BadInput("labels", f"1 to {train}, the number of training images", labels)
    test: list[str] = []
    rest: list[str] = []
    for name in sorted(ids):  # sorted: the order in which the ids come must not matter
        number = re.search(r"\d+$", name)
        if number is None:
            raise BadInput(f"id {name}", "a name that ends in a number", name)
        (test if int(number[0]) % 2 == split % 2 else rest).append(name)
    if not test or len(rest) <= train:
        expected = f"test images, and more than {train} others so that some are left for validation"
        raise BadInput(f"split {split}", expected, f"{len(test)} and {len(rest)}")
    rest = [rest[i] for i in np.random.default_rng(split).permutation(len(rest))]
    return Split(
        labelled=tuple(rest[:labels]),
        unlabelled=tuple(rest[labels:train]),
        validation=tuple(rest[train:]),
        test=tuple(test),
    )


# ---- from files to integer arrays on the 512 grid ----


def _read(root: Path | str | None) -> dict[str, np.ndarray]:
    """images `(n, 512, 512)` int16 0..4096 or uint8, labels and lungs uint8 alike, ids `(n,)`, data: a name."""
    if root is None:
        expected = f"the folder that holds jsrt/, or a prepared file (images: {IMAGES_FROM}; masks: {MASKS_FROM})"
        raise BadInput(NOWHERE, expected, "nothing")
    root = Path(root)
    if not root.is_file():
        return _read_folder(root / "jsrt")
    arrays = prepared.read(root, "jsrt")
    if set(arrays) != {"images", "labels", "lungs", "ids", "data"}:
        raise BadInput(root, "arrays images, labels, lungs, ids, data (prepare it again)", ", ".join(arrays))
    if arrays["ids"].tolist() != sorted(IDS):
        raise BadInput(root, f"the {len(IDS)} ids of JSRT", f"{arrays['ids'].size} others")
    return arrays


def _read_folder(folder: Path) -> dict[str, np.ndarray]:
    data, images, masks = _find(folder)
    ids = sorted(images)
    read_image = _read_img if data == "jsrt" else _read_png
    base = np.empty((len(ids), GRID, GRID), DTYPE[data])
    labels, lungs = np.zeros((2, len(ids), GRID, GRID), np.uint8)

    def read(i: int) -> None:
        base[i] = read_image(images[ids[i]])
        column = {}
        for value in range(len(CLASSES) - 1, 0, -1):  # the last painted wins: the heart
            mask = _read_mask(masks[CLASSES[value]][ids[i]])
            column[CLASSES[value]] = np.average(np.arange(GRID), weights=mask.sum(0))
            labels[i][mask] = value
            if CLASSES[value] in LUNGS:
                lungs[i][mask] = value
        for organ in ("lung", "clavicle"):
            if column[f"left {organ}"] < column[f"right {organ}"] - GRID / 10:
                path = masks[f"left {organ}"][ids[i]]
                raise BadInput(path, f"the patient's left {organ} right in the picture", "it left of the other")

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        list(pool.map(read, range(len(ids))))
    return {"images": base, "labels": labels, "lungs": lungs, "ids": np.array(ids), "data": np.array(data)}


def _find(folder: Path) -> tuple[str, dict[str, Path], dict[str, dict[str, Path]]]:
    """Which variant lies in `folder`, `{id: path}` of its images and `{structure: {id: path}}` of its masks.

    Looks at names and sizes only, so that what is missing is said at once and not after minutes of decoding.
    """
    looked_for = f"ID.IMG anywhere below (from {IMAGES_FROM}) and <structure>/ID.gif (from {MASKS_FROM})"
    if not folder.is_dir():
        raise BadInput(folder, f"a folder with {looked_for}", "no such folder")
    files = files_below(folder)
    images = [path for path in files if path.suffix.lower() == ".img"]
    data = "jsrt" if images else "jsrt-8bit"
    if not images:
        images = [path for path in files if path.parent == folder / "images" and path.suffix.lower() == ".png"]
    if not images:
        raise BadInput(folder, f"{looked_for}, or as a reduced copy images/ID.png", "neither .IMG nor images/*.png")
    images = _one_each(images, images[0].parent, images[0].suffix)
    gifs = [path for path in files if path.suffix.lower() == ".gif"]
    masks = {
        name: _one_each([p for p in gifs if p.parent.name == name], folder / "masks" / name, ".gif")
        for name in CLASSES[1:]
    }
    for path in images.values() if data == "jsrt" else ():
        with prepared.reading(path, f"{IMG_BYTES:,} bytes"):
            if path.stat().st_size != IMG_BYTES:
                raise BadInput(path, f"{IMG_BYTES:,} bytes (2048 x 2048 x 2)", f"{path.stat().st_size:,}")
    return data, images, masks


def _one_each(paths: Iterable[Path], folder: Path, suffix: str) -> dict[str, Path]:
    """`{id: path}` with exactly the ids of JSRT; `folder` is where they would be if there are none at all."""
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem not in IDS:
            raise BadInput(path, "one of the ids JPCLN001..154, JPCNN001..093", path.stem)
        if path.stem in found:
            raise BadInput(path, f"one file for {path.stem}", f"another, {found[path.stem]}")
        found[path.stem] = path
    missing = [name for name in sorted(IDS) if name not in found]
    if missing:
        folders = sorted({path.parent for path in paths}) or [folder]
        where = " or ".join(str(here / f"{missing[0]}{suffix}") for here in folders)
        source = MASKS_FROM if suffix == ".gif" else IMAGES_FROM
        raise BadInput(where, f"{len(IDS)} files, from {source}", of_all(len(found), len(IDS), "files", missing))
    return found


def _read_img(path: Path) -> np.ndarray:
    """Official image: int16 `(512, 512)`, 0..4096, dense tissue bright."""
    with prepared.reading(path, "2048 x 2048 big-endian uint16"):
        image = np.fromfile(path, ">u2").reshape(2048, 2048)
    if image.max() > 4096:
        raise BadInput(path, "12-bit values, big-endian", f"values up to {image.max()}")
    # Where a download stopped, a file may be filled up. In all of the set no row of the 512-grid is of one value.
    if (empty := ~image.reshape(GRID, -1).any(axis=1)).any():
        rows = f"{4 * np.count_nonzero(empty):,} rows from row {4 * np.argmax(empty):,} on"
        raise BadInput(path, "a radiograph", f"nothing but 0 in {rows}")
    _contrast(path, image)
    # Float first: the cubic spline undershoots 0, and what becomes of that in uint16 is up to SciPy's version.
    image = ndimage.zoom(image.astype(np.float64), 0.25)
    return 4096 - np.clip(np.round(image), 0, 4096).astype(np.int16)


def _read_png(path: Path) -> np.ndarray:
    """Reduced image: uint8 `(512, 512)`."""
    with prepared.reading(path, "an 8-bit grey PNG"), Image.open(path, formats=("PNG",)) as picture:
        if (picture.mode, picture.size) != ("L", (GRID, GRID)):
            raise BadInput(path, f"mode L, {GRID} x {GRID}", "mode {}, {} x {}".format(picture.mode, *picture.size))
        return _contrast(path, np.asarray(picture))


def _contrast(path: Path, image: np.ndarray) -> np.ndarray:
    if (value := image.min()) == image.max():
        raise BadInput(path, "a radiograph", f"nothing but {value}")
    return image


def _read_mask(path: Path) -> np.ndarray:
    """One structure: bool `(512, 512)`, a nearest-neighbour reduction of the 1024 x 1024 file."""
    with prepared.reading(path, "a GIF mask"), Image.open(path, formats=("GIF",)) as picture:
        if picture.size != (1024, 1024):
            raise BadInput(path, "1024 x 1024", "{} x {}".format(*picture.size))
        mask = np.asarray(picture.convert("L")) > 0
    if mask.all() or not mask.any():
        raise BadInput(path, "a mask", f"no pixel {'of' if mask.all() else 'above'} 0")
    return mask[np.ix_(NEAREST, NEAREST)]


# ---- to smaller grids ----


def _blocks(array: np.ndarray, size: int) -> np.ndarray:
    """`(n, 512, 512)` as `(n, size, block, size, block)`, without a copy."""
    return array.reshape(len(array), size, GRID // size, size, GRID // size)


def _block_mean(images: np.ndarray, size: int) -> np.ndarray:
    """float32 `(n, size, size)`: the mean of each block."""
    return _blocks(images, size).mean(axis=(2, 4), dtype=np.float32)


def _block_majority(labels: np.ndarray, size: int) -> np.ndarray:
    """uint8 `(n, size, size)`: the most frequent label of each block; of equals, the first of 1, 2, ..., 0."""
    winner = np.zeros((len(labels), size, size), np.uint8)
    most = np.zeros(winner.shape, np.int32)
    for value in [*range(1, len(CLASSES)), 0]:
        count = (_blocks(labels, size) == value).sum(axis=(2, 4), dtype=np.int32)
        winner[count > most] = value
        most = np.maximum(most, count)
    return winner
