"""ISIC 2018 task 3, the training images of HAM10000: 10,015 dermoscopic photographs in seven classes (Gao et al. 2021).

Two layouts are read below the data root, the first that is there:

    isic2018/   ISIC2018_Task3_Training_Input/ISIC_*.jpg
                ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv, or the file without folder
                ISIC2018_Task3_Training_LesionGroupings.csv, if there; without it nothing tells which images show one
                lesion
    ham10000/   HAM10000_metadata.csv; images/ISIC_*.jpg or HAM10000_images_part_1/ and _2/

and in either, if there, lesion masks: HAM10000_segmentations_lesion_tschandl/ISIC_*_segmentation.png or
lesion_masks.zip with ISIC_*.png. The size of the images says what they are (`meta["data"]`):

    isic             600 x 450, the official files
    ham10000-200px   200 x 150, a reduced copy
"""

import csv
import functools
import io
import os
import re
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from scipy.sparse import csr_array

from fewlabels.data import prepared
from fewlabels.data.cohort import Cohort, Split
from fewlabels.data.phantoms.skin import CLASSES
from fewlabels.data.phantoms.skin import skin as phantom
from fewlabels.errors import BadInput

__all__ = ["CLASSES", "DX", "check", "load", "phantom", "prepare", "splits"]

DX = {name.lower(): name for name in CLASSES}  # what HAM10000_metadata.csv calls them

ALL, LARGEST = 10_015, 450  # images; rows of an official one
INPUT, TRUTH = "ISIC2018_Task3_Training_Input", "ISIC2018_Task3_Training_GroundTruth"
GROUPINGS, METADATA = "ISIC2018_Task3_Training_LesionGroupings.csv", "HAM10000_metadata.csv"
FOLDERS = ("images", "HAM10000_images_part_1", "HAM10000_images_part_2")
MASKS, MASK_ARCHIVE = "HAM10000_segmentations_lesion_tschandl", "lesion_masks.zip"
FROM = "https://challenge.isic-archive.com/data/#2018 or https://doi.org/10.7910/DVN/DBW86T"
NOWHERE = "FEWLABELS_DATA (or --data, or make DATA=)"  # what a user has not set when there is no root
SIZES = {(600, 450): "isic", (200, 150): "ham10000-200px"}  # width, height
TERMS = "CC BY-NC 4.0; cite Tschandl et al. 2018 (HAM10000) and Codella et al. 2019 (ISIC 2018)"
SOURCES = {
    "isic": f"ISIC 2018 task 3, official training images; {TERMS}",
    "ham10000-200px": f"HAM10000 (ISIC 2018 task 3), a copy reduced to 200 x 150, not the official files; {TERMS}",
}
UNGROUPED = f"; without {GROUPINGS}: each image is its own group, one lesion may be in training and test"
ARRAYS = {"data", "ids", "labels", "lesions", "files", "offsets"}
OF_MASKS = {"mask_files", "mask_offsets"}


def load(root, size=224):
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
    files = _find(root)
    (width, height), n = _size(files), len(files.ids)
    rows, columns = _areas(height, size), _areas(width, size)
    images = torch.empty(n, 3, size, size)
    masks = torch.empty(n, size, size, dtype=torch.bool) if files.masks else None

    def one(i):
        picture = _photograph(files.images[i], (width, height))
        pixels = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
        np.divide(pixels.transpose(2, 0, 1), np.float32(255), out=images[i].numpy())
        if files.masks:
            shares = rows @ (columns @ _mask(files.masks[i], (width, height)).T).T
            masks[i] = torch.from_numpy(2 * shares > width * height)

    _each(n, one)
    data = SIZES[width, height]
    meta = {"data": data, "source": _source(files, data), "size": int(size), "masks": masks}
    labels = torch.from_numpy(files.labels.astype(np.int64))
    return Cohort(images, labels, tuple(files.ids), CLASSES, (1.0, 1.0), tuple(files.lesions), meta)


def splits(ids, labels, groups, fold, folds=5, seed=0, most=None):
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


def prepare(root, out):
    """Writes all that `load(root)` needs, the JPEG and PNG files as they are, to one file `out`; `load(out, size)`
    then gives the same bits. It is about as large as those files (the copy's: 37 MB; the official ones': gigabytes).

    Returns the SHA-256 of the content (that of `check`). Raises `BadInput` as `load` does.
    """
    arrays = _arrays(_find(root))
    prepared.write(out, "isic", arrays)
    return prepared.checksum(arrays)


def check(root):
    """Reads every file below `root` and returns what is there, in three lines of text; raises `BadInput` as `load`."""
    files = _find(root)
    arrays = _arrays(files)
    data, of = str(arrays["data"]), np.bincount(files.labels, minlength=len(CLASSES))
    counts = ", ".join(f"{count:,} {name}" for name, count in zip(CLASSES, of))
    masks = "a lesion mask for each" if files.masks else "no lesion masks"
    return (
        f"{data}: {_source(files, data)}\n"
        f"{len(files.ids):,} images of {len(set(files.lesions)):,} lesions: {counts}; {masks}\n"
        f"sha256 {prepared.checksum(arrays)}"
    )


@functools.lru_cache(maxsize=2)  # with 7,470 lesions it takes seconds, and every run asks
def _folds(labels, groups, folds, seed):
    """Positions of training and test images of each fold."""
    from sklearn.model_selection import StratifiedGroupKFold

    cross = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return tuple(cross.split(labels, labels, groups))


def _drawn(labels, most, rng):
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


# ---- which files there are ----


class File(NamedTuple):
    """What errors call it, and its path or its bytes."""

    name: str
    content: Path | np.ndarray | bytes


class Files(NamedTuple):
    """One entry an image, sorted by id; `masks` is empty if there are none."""

    ids: list[str]
    labels: np.ndarray  # uint8
    lesions: list[str]
    images: list[File]
    masks: list[File]


def _find(root):
    """All files that belong to the data set, and its tables read; no image is opened yet."""
    if root is None:
        expected = f"the folder that holds isic2018/ or ham10000/, or a prepared file (from {FROM})"
        raise BadInput(NOWHERE, expected, "nothing")
    base = Path(root)
    if base.is_file():
        return _prepared(base)
    official, ham = base / "isic2018", base / "ham10000"
    if any((official / name).exists() for name in (INPUT, TRUTH, f"{TRUTH}.csv")):
        path, table, lesions = _official(official)
        return _matched(official, (INPUT,), path, table, lesions)
    if ham.is_dir():
        path = ham / METADATA
        rows = _table(path, "image_id", ("dx", "lesion_id"))
        for name, (dx, _) in rows.items():
            if dx not in DX:
                raise BadInput(f"{path}: {name}", f"dx one of {', '.join(DX)}", repr(dx))
        table = {name: CLASSES.index(DX[dx]) for name, (dx, _) in rows.items()}
        return _matched(ham, FOLDERS, path, table, {name: lesion for name, (_, lesion) in rows.items()})
    layouts = f"isic2018/{INPUT}/ and isic2018/{TRUTH}.csv, or ham10000/images/ and ham10000/{METADATA} (from {FROM})"
    raise BadInput(base, layouts, "neither" if base.is_dir() else "no such folder")


def _official(folder):
    """The table of classes, what it says `{id: label}`, and the lesions `{id: lesion}`, ids themselves if unknown."""
    nested, path = folder / TRUTH / f"{TRUTH}.csv", folder / f"{TRUTH}.csv"
    path = path if path.is_file() and not nested.is_file() else nested
    labels = {}
    for name, row in _table(path, "image", CLASSES).items():
        values = [{"0": 0, "1": 1}.get(re.sub(r"\.0*$", "", value)) for value in row]
        if None in values or sum(values) != 1:
            raise BadInput(f"{path}: {name}", f"one 1 and otherwise 0 for {', '.join(CLASSES)}", repr(", ".join(row)))
        labels[name] = values.index(1)
    groupings = folder / GROUPINGS
    if not groupings.is_file():
        return path, labels, {name: name for name in labels}
    lesions = {name: lesion for name, (lesion,) in _table(groupings, "image", ("lesion_id",)).items()}
    without = sorted(set(labels) - set(lesions))
    if without:
        raise BadInput(groupings, f"a row for each image of {path.name}", f"none for {without[0]}")
    return path, labels, lesions


def _table(path, key, columns):
    """`{image: values of columns}` of a CSV file with a header, as text."""
    expected = f"a CSV table with columns {', '.join((key, *columns))} (from {FROM})"
    table = {}
    with prepared.reading(path, expected), open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if not {key, *columns} <= set(rows.fieldnames or ()):
            raise BadInput(path, expected, f"{', '.join(rows.fieldnames or ['nothing'])!r:.200}")
        for row in rows:
            name, values = row[key], [row[column] for column in columns]
            if not re.fullmatch("ISIC_[0-9]{7}", name or ""):
                raise BadInput(f"{path}, line {rows.line_num}", f"{key} ISIC_ and seven digits", f"{name!r:.80}")
            if not all(values):
                raise BadInput(f"{path}: {name}", f"a value for each of {', '.join(columns)}", f"{values!r:.200}")
            if name in table:
                raise BadInput(f"{path}: {name}", "one row for each image", f"another, line {rows.line_num}")
            table[name] = values
    return table


def _matched(folder, places, path, labels, lesions):
    """The `Files` of `folder`: each row of the table at `path` with its image in one of `places`, and its mask."""
    found = {}
    for image in (image for place in places for image in sorted((folder / place).glob("ISIC_*.jpg"))):
        if image.stem not in labels:
            raise BadInput(image, f"a row for {image.stem!r} in {path.name}", "none")
        if image.stem in found:
            raise BadInput(image, f"one file for {image.stem}", f"another, {found[image.stem]}")
        found[image.stem] = image
    without = sorted(set(labels) - set(found))
    if without or not labels:
        where = " or ".join(f"{place}/" for place in places if (folder / place).is_dir()) or f"no {places[0]}/"
        expected = f"an image for each of the {len(labels):,} rows of {path.name}, {places[0]}/ISIC_*.jpg"
        raise BadInput(
            folder, expected, f"{len(without):,} without, as {without[0]}, in {where}" if labels else "no row"
        )
    ids = sorted(labels)
    values = np.array([labels[name] for name in ids], np.uint8)
    images = [File(str(found[name]), found[name]) for name in ids]
    return Files(ids, values, [lesions[name] for name in ids], images, _masks(folder, ids))


def _masks(folder, ids):
    """The masks of `ids`, none if there is neither their folder nor their archive."""
    place, archive = folder / MASKS, folder / MASK_ARCHIVE
    if place.is_dir():
        paths = [place / f"{name}_segmentation.png" for name in ids]
        masks = [File(str(path), path) for path in paths if path.is_file()]
    elif archive.is_file():
        place = archive
        with prepared.reading(archive, "a zip archive"), zipfile.ZipFile(archive) as file:
            names = set(file.namelist())
            masks = [File(f"{archive}/{name}", file.read(name)) for name in (f"{i}.png" for i in ids) if name in names]
    else:
        return []
    if len(masks) < len(ids):
        have = {Path(mask.name).name[:12] for mask in masks}
        without = next(name for name in ids if name not in have)
        raise BadInput(place, f"a mask for each of the {len(ids):,} images", f"{len(masks):,}, none for {without}")
    return masks


def _prepared(path):
    """The `Files` of a prepared file."""
    arrays = prepared.read(path, "isic")
    if set(arrays) not in (ARRAYS, ARRAYS | OF_MASKS):
        raise BadInput(path, f"arrays {', '.join(sorted(ARRAYS))} (prepare it again)", ", ".join(arrays))
    ids = arrays["ids"].tolist()

    def cut(name, offsets, suffix):
        ends = arrays[offsets].tolist()
        return [File(f"{path}/{i}.{suffix}", arrays[name][a:b]) for i, a, b in zip(ids, ends, ends[1:])]

    masks = cut("mask_files", "mask_offsets", "png") if "mask_files" in arrays else []
    return Files(ids, arrays["labels"], arrays["lesions"].tolist(), cut("files", "offsets", "jpg"), masks)


# ---- from files to pixels and arrays ----


def _each(n, work):
    """`work(0)` to `work(n - 1)` in threads, as Pillow lets others run while it decodes; raises what the first did."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for _ in pool.map(work, range(n)):
            pass


def _bytes(file):
    with prepared.reading(file.name, "a file that can be read"):
        return file.content.read_bytes() if isinstance(file.content, Path) else bytes(file.content)


def _size(files):
    """Width and height of the first image, one of `SIZES`; all others must have them too."""
    picture = _open(files.images[0], expected := "a photograph of 600 x 450 or, reduced, 200 x 150")
    if picture.size not in SIZES:
        raise BadInput(files.images[0].name, expected, "{} x {}".format(*picture.size))
    return picture.size


def _open(file, expected):
    content = io.BytesIO(_bytes(file))
    with prepared.reading(file.name, expected):
        try:
            return Image.open(content)
        except UnidentifiedImageError:  # its message names an address in memory
            raise BadInput(file.name, expected, "no image") from None


def _picture(file, kind, modes, size):
    """A decoded image of this kind, one of these modes and this size (width, height)."""
    expected = "{}, {}, {} x {}".format(kind, " or ".join(modes), *size)
    picture = _open(file, expected)
    if picture.format != kind or picture.mode not in modes or picture.size != size:
        raise BadInput(file.name, expected, "{}, {}, {} x {}".format(picture.format, picture.mode, *picture.size))
    with prepared.reading(file.name, expected):
        picture.load()
    return picture


def _photograph(file, size):
    return _picture(file, "JPEG", ("RGB",), size)


def _mask(file, size):
    """A lesion mask, bool `(height, width)`."""
    mask = np.asarray(_picture(file, "PNG", ("1", "L"), size))
    mask = mask if mask.dtype == bool else mask > 127
    if not mask.any():
        raise BadInput(file.name, "a mask, 255 (or 1 in an image of 1 bit) in the lesion", "no such pixel")
    return mask


def _areas(n, size):
    """How much of each of `n` pixels lies in each of `size`, in units in which rows sum to `n`: int32 `(size, n)`."""
    pixel, edges = size * np.arange(n), n * np.arange(size + 1)
    shared = np.minimum(edges[1:, None], pixel + size) - np.maximum(edges[:-1, None], pixel)
    return csr_array(np.clip(shared, 0, None).astype(np.int32))


def _source(files, data):
    """Where the data come from, their terms, and what is missing."""
    part = "" if len(files.ids) == ALL else f"; {len(files.ids):,} of its {ALL:,} images"
    return SOURCES[data] + part + (UNGROUPED if files.lesions == files.ids else "")


def _arrays(files):
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


def _packed(files, decode):
    """The bytes of all files, each decoded once, and where they begin and end. Official ones are gigabytes: not twice
    in memory."""
    sizes = [file.content.stat().st_size if isinstance(file.content, Path) else len(file.content) for file in files]
    ends = np.cumsum([0, *sizes], dtype=np.int64)
    content = np.empty(ends[-1], np.uint8)

    def one(i):
        decode(files[i])
        content[ends[i] : ends[i + 1]] = np.frombuffer(_bytes(files[i]), np.uint8)

    _each(len(files), one)
    return content, ends
