"""ISIC 2018 task 3, the training images of HAM10000: 10,015 dermoscopic photographs in seven classes (Gao et al. 2021).

Two layouts are read below the data root, the first that is there:

    isic2018/   ISIC2018_Task3_Training_Input/ISIC_*.jpg
                ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv, or the file without folder
                ISIC2018_Task3_Training_LesionGroupings.csv, if there; without it nothing tells which images show one
                lesion
    ham10000/   HAM10000_metadata.csv (or .tab, or neither); images/ISIC_*.jpg or HAM10000_images_part_1/ and _2/

and in either, if there, lesion masks: HAM10000_segmentations_lesion_tschandl/ISIC_*_segmentation.png or
lesion_masks.zip with ISIC_*.png. The size of the images says what they are (`meta["data"]`):

    isic             600 x 450, the official files
    ham10000-200px   200 x 150, a reduced copy
"""

import functools
import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from scipy.sparse import csr_array

from fewlabels.data import prepared
from fewlabels.data.cohort import Cohort, Split
from fewlabels.data.complete import of_all, paper_split
from fewlabels.data.isic_files import DX, GROUPINGS, File, Files, find
from fewlabels.data.phantoms.skin import CLASSES
from fewlabels.data.phantoms.skin import skin as phantom
from fewlabels.errors import BadInput

__all__ = ["CLASSES", "DX", "check", "load", "phantom", "prepare", "splits"]

EVERY = tuple(f"ISIC_{i:07}" for i in range(24306, 34321))  # HAM10000's ids
LARGEST = 450  # rows of an official image
SIZES = {(600, 450): "isic", (200, 150): "ham10000-200px"}  # width, height
TERMS = "CC BY-NC 4.0; cite Tschandl et al. 2018 (HAM10000) and Codella et al. 2019 (ISIC 2018)"
SOURCES = {
    "isic": f"ISIC 2018 task 3, official training images; {TERMS}",
    "ham10000-200px": f"HAM10000 (ISIC 2018 task 3), a copy reduced to 200 x 150, not the official files; {TERMS}",
}
UNGROUPED = f"; without {GROUPINGS}: each image is its own group, one lesion may be in training and test"


def load(root: Path | str | None, size: int = 224) -> Cohort:
    """The photographs as a `Cohort`: images float32 `(N, 3, size, size)` in [0, 1]; labels int64 `(N,)`, values as in
    `CLASSES`; axes are rows (top first), columns; ids ISIC_*, sorted; groups are the lesions; the spacing is nominal.

    root   the data root, which holds `isic2018/` or `ham10000/`, or a file written by `prepare`
    size   side in pixels, 1 to 450 (choice, the paper is silent: 224, on which most of its backbones were trained)

    The whole 4:3 image becomes a square (choice: nothing is cropped off), by Pillow's bilinear filter, which is as wide
    as what becomes a pixel and so does not alias; rounded to 8 bit. `meta["masks"]`: lesion masks, bool `(N, size,
    size)`, a pixel more than half of whose area is lesion; None if there are none.

    Raises `BadInput` naming the file if anything is missing, damaged, of another size or kind, or twice there.
    """
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or not 1 <= size <= LARGEST:
        raise BadInput("size", f"an integer of 1 to {LARGEST}", repr(size))
    files = find(root)
    (width, height), n = _size(files), len(files.ids)
    rows, columns = _areas(height, size), _areas(width, size)
    images = torch.empty(n, 3, size, size)
    masks = torch.empty(n, size, size, dtype=torch.bool) if files.masks else None

    def one(i: int) -> None:
        picture = _photograph(files.images[i], (width, height))
        pixels = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
        np.divide(pixels.transpose(2, 0, 1), np.float32(255), out=images[i].numpy())
        if masks is not None:
            shares = rows @ (columns @ _mask(files.masks[i], (width, height)).T).T
            masks[i] = torch.from_numpy(2 * shares > width * height)

    _each(n, one)
    data = SIZES[width, height]
    meta = {"data": data, "source": _source(files, data), "size": int(size), "masks": masks}
    labels = torch.from_numpy(files.labels.astype(np.int64))
    return Cohort(images, labels, tuple(files.ids), CLASSES, (1.0, 1.0), tuple(files.lesions), meta)


def splits(
    ids: Sequence[str], labels: Sequence[int], groups: Sequence[str], fold: int, folds: int = 5, seed: int = 0,
    most: int | None = None,
) -> Split:  # fmt: skip
    """Fold `fold` of a cross-validation as a `Split`; a pure function, whatever the order in which ids come.

    ids, labels, groups   of a `Cohort`
    fold                  which of the `folds` is the test set; they are alike in classes, and no lesion is in two
    seed                  shuffles the lesions
    most                  how many of the other images are labelled; None: all. Fewer are drawn by seed and fold,
                          classes as frequent as among all, but 2 images or more of each, lesions torn apart

    Nothing is unlabelled, and there is no validation set: the paper uses none (Gao et al. 2021, Section 1). Folds: by
    class, as is usual for rare ones, and by lesion, as several images of one would tell its class (choices, the paper
    only says five-fold). Raises `BadInput` if a number is out of range or a class has fewer lesions than `folds`.
    """
    labels = [int(label) for label in labels]
    for name, values in (("labels", labels), ("groups", groups)):
        if len(values) != len(ids):
            raise BadInput(f"split {name}", f"{len(ids):,}, one for each id", f"{len(values):,}")
    for name, value, least, end in (("folds", folds, 2, None), ("fold", fold, 0, folds), ("seed", seed, 0, None)):
        if (
            isinstance(value, bool)
            or not isinstance(value, int | np.integer)
            or value < least
            or (end and value >= end)
        ):
            expected = f"an integer of {least} to {end - 1}" if end else f"an integer of at least {least}"
            raise BadInput(name, expected, repr(value))
    ids, labels, groups = map(np.array, zip(*sorted(zip(ids, labels, groups))))
    for value in np.unique(labels):
        if (lesions := len(set(groups[labels == value]))) < folds:
            raise BadInput(f"split: class {value}", f"at least {folds} lesions, one for each fold", lesions)
    train, test = _folds(tuple(labels.tolist()), tuple(groups.tolist()), int(folds), int(seed))[fold]
    if most is not None:
        train = train[_drawn(labels[train], most, np.random.default_rng([seed, fold]))]
    return Split(tuple(ids[train].tolist()), (), (), tuple(ids[test].tolist()))


def prepare(root: Path | str | None, out: Path | str) -> str:
    """Writes all that `load(root)` needs, the JPEG and PNG files as they are, to one file `out`; `load(out, size)`
    then gives the same bits. It is about as large as those files (the copy's: 37 MB; the official ones': gigabytes).

    Returns the SHA-256 of the content (that of `check`). Raises `BadInput` as `load` does.
    """
    arrays = _arrays(find(root))
    prepared.write(out, "isic", arrays)
    return prepared.checksum(arrays)


def check(root: Path | str | None) -> str:
    """Reads every file below `root` and returns what is there, in three lines of text; raises `BadInput` as `load`, and
    for official files of which the paper's split cannot be made."""
    files = find(root)
    arrays = _arrays(files)
    data, of = str(arrays["data"]), np.bincount(files.labels, minlength=len(CLASSES))
    counts = ", ".join(f"{count:,} {name}" for name, count in zip(CLASSES, of))
    masks = "a lesion mask for each" if files.masks else "no lesion masks"
    others = set(files.ids) - set(EVERY)  # then it is not told which are missing
    there = of_all(len(files.ids), len(EVERY), "images", () if others else sorted(set(EVERY) - set(files.ids)))
    if len(files.ids) < len(EVERY):  # of all it can be made, in seconds
        there += paper_split(
            root, there, data == "isic", lambda: splits(files.ids, files.labels.tolist(), files.lesions, 0)
        )
    return (
        f"{data}: {_source(files, data)}\n"
        f"{there}; {len(set(files.lesions)):,} lesions: {counts}; {masks}\n"
        f"sha256 {prepared.checksum(arrays)}"
    )


@functools.lru_cache(maxsize=2)  # with 7,470 lesions it takes seconds, and every run asks
def _folds(
    labels: tuple[int, ...], groups: tuple[str, ...], folds: int, seed: int
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Positions of training and test images of each fold."""
    from sklearn.model_selection import StratifiedGroupKFold

    cross = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return tuple(cross.split(labels, labels, groups))


def _drawn(labels: np.ndarray, most: int | None, rng: np.random.Generator) -> np.ndarray:
    """Positions of `most` of the labels, or of all, sorted; classes as frequent as there, but 2 or more of each."""
    classes, counts = np.unique(labels, return_counts=True)
    given = np.minimum(2, counts)
    if isinstance(most, bool) or not isinstance(most, int | np.integer) or most < given.sum():
        raise BadInput("most", f"an integer of at least {given.sum()}, 2 for each class", repr(most))
    most = min(most, len(labels))
    for _ in range(most - given.sum()):
        given[np.argmax(most * counts / len(labels) - given)] += 1  # to the class that lacks most
    positions = [rng.permutation(np.flatnonzero(labels == value))[:k] for value, k in zip(classes, given)]
    return np.sort(np.concatenate(positions))


# ---- from files to pixels and arrays ----


def _each(n: int, work: Callable[[int], None]) -> None:
    """`work(0)` to `work(n - 1)` in threads, as Pillow lets others run while it decodes; raises what the first did."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for _ in pool.map(work, range(n)):
            pass


def _bytes(file: File) -> bytes:
    with prepared.reading(file.name, "a file that can be read"):
        return file.content.read_bytes() if isinstance(file.content, Path) else bytes(file.content)


def _size(files: Files) -> tuple[int, int]:
    """Width and height of the first image, one of `SIZES`; all others must have them too."""
    picture = _open(files.images[0], expected := "a photograph of 600 x 450 or, reduced, 200 x 150")
    if picture.size not in SIZES:
        raise BadInput(files.images[0].name, expected, "{} x {}".format(*picture.size))
    return picture.size


def _open(file: File, expected: str) -> Image.Image:
    content = _bytes(file)
    prepared.whole_jpeg(file.name, content)
    with prepared.reading(file.name, expected):
        try:
            picture = Image.open(io.BytesIO(content))
        except UnidentifiedImageError:  # its message names an address in memory
            raise BadInput(file.name, expected, "no image") from None
        # Whoever drew a mask may have seen the image as it is stored or as it is shown: nothing tells.
        exif = picture.getexif() if "exif" in picture.info else {}
        if (orientation := exif.get(ExifTags.Base.Orientation, 1)) in range(2, 9):
            found = f"EXIF orientation {orientation}, to be turned or mirrored: save it as it is shown"
            raise BadInput(file.name, expected, found)
        return picture


def _picture(file: File, kind: str, modes: Sequence[str], size: tuple[int, int]) -> Image.Image:
    """A decoded image of this kind, one of these modes and this size (width, height)."""
    expected = "{}, {}, {} x {}".format(kind, " or ".join(modes), *size)
    picture = _open(file, expected)
    if picture.format != kind or picture.mode not in modes or picture.size != size:
        raise BadInput(file.name, expected, "{}, {}, {} x {}".format(picture.format, picture.mode, *picture.size))
    with prepared.reading(file.name, expected):
        picture.load()
    return picture


def _photograph(file: File, size: tuple[int, int]) -> Image.Image:
    picture = _picture(file, "JPEG", ("RGB",), size)
    corner, middle = (picture.getpixel(at) for at in ((0, 0), (size[0] // 2, size[1] // 2)))
    if corner == middle and all(low == high for low, high in np.reshape(picture.getextrema(), (-1, 2))):
        raise BadInput(file.name, "a photograph", "nothing but one colour")
    return picture


def _mask(file: File, size: tuple[int, int]) -> np.ndarray:
    """A lesion mask, bool `(height, width)`."""
    mask = np.asarray(_picture(file, "PNG", ("1", "L"), size))
    mask = mask if mask.dtype == bool else mask > 127
    if not mask.any():
        raise BadInput(file.name, "a mask, 255 (or 1 in an image of 1 bit) in the lesion", "no such pixel")
    return mask


def _areas(n: int, size: int) -> csr_array:
    """How much of each of `n` pixels lies in each of `size`, in units in which rows sum to `n`: int32 `(size, n)`."""
    pixel, edges = size * np.arange(n), n * np.arange(size + 1)
    shared = np.minimum(edges[1:, None], pixel + size) - np.maximum(edges[:-1, None], pixel)
    return csr_array(np.clip(shared, 0, None).astype(np.int32))


def _source(files: Files, data: str) -> str:
    """Where the data come from, their terms, and what is missing."""
    part = "" if len(files.ids) == len(EVERY) else f"; {len(files.ids):,} of its {len(EVERY):,} images"
    return SOURCES[data] + part + (UNGROUPED if files.lesions == files.ids else "")


def _arrays(files: Files) -> dict[str, np.ndarray]:
    """What `prepare` keeps, once every file has been decoded: ids and lesions `(n,)`, labels uint8 `(n,)`, data, a
    name; the images one after the other, uint8 `(bytes,)`, and where they begin and end, int64 `(n + 1,)`; the masks,
    if there are any, alike."""
    size = _size(files)
    arrays = {"ids": np.array(files.ids), "labels": files.labels, "lesions": np.array(files.lesions)}
    arrays["data"] = np.array(SIZES[size])
    arrays["files"], arrays["offsets"] = _packed(files.images, lambda file: _photograph(file, size))
    if files.masks:
        arrays["mask_files"], arrays["mask_offsets"] = _packed(files.masks, lambda file: _mask(file, size))
    return arrays


def _packed(files: Sequence[File], decode: Callable[[File], object]) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of all files, each decoded once, and where they begin and end. Official ones are gigabytes: not twice
    in memory."""

    def size(file: File) -> int:
        with prepared.reading(file.name, "a file that can be read"):
            return file.content.stat().st_size if isinstance(file.content, Path) else len(file.content)

    ends = np.cumsum([0, *map(size, files)], dtype=np.int64)
    content = np.empty(ends[-1], np.uint8)

    def one(i: int) -> None:
        decode(files[i])
        content[ends[i] : ends[i + 1]] = np.frombuffer(_bytes(files[i]), np.uint8)

    _each(len(files), one)
    return content, ends
