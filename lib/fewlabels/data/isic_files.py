"""Which files of ISIC 2018 task 3 or HAM10000 there are, and what their tables say; no image is opened here."""

import codecs
import csv
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from fewlabels.data import prepared
from fewlabels.data.phantoms.skin import CLASSES
from fewlabels.errors import BadInput
from fewlabels.files import is_data, listed
from fewlabels.paths import NOWHERE

DX = {name.lower(): name for name in CLASSES}  # what HAM10000_metadata.csv calls them

INPUT, TRUTH = "ISIC2018_Task3_Training_Input", "ISIC2018_Task3_Training_GroundTruth"
GROUPINGS = "ISIC2018_Task3_Training_LesionGroupings.csv"
# Kaggle's name, Dataverse's, and Dataverse's for the original file.
METADATA = ("HAM10000_metadata.csv", "HAM10000_metadata.tab", "HAM10000_metadata")
FOLDERS = ("images", "HAM10000_images_part_1", "HAM10000_images_part_2")
MASKS, MASK_ARCHIVE = "HAM10000_segmentations_lesion_tschandl", "lesion_masks.zip"
FROM = "https://challenge.isic-archive.com/data/#2018 or https://doi.org/10.7910/DVN/DBW86T"
ARRAYS = {"data", "ids", "labels", "lesions", "files", "offsets"}
OF_MASKS = {"mask_files", "mask_offsets"}


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


def find(root: Path | str | None) -> Files:
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
        path = next((ham / name for name in METADATA if (ham / name).is_file()), ham / METADATA[0])
        rows = _table(path, "image_id", ("dx", "lesion_id"))
        for name, (dx, _) in rows.items():
            if dx not in DX:
                raise BadInput(f"{path}: {name}", f"dx one of {', '.join(DX)}", repr(dx))
        table = {name: CLASSES.index(DX[dx]) for name, (dx, _) in rows.items()}
        return _matched(ham, FOLDERS, path, table, {name: lesion for name, (_, lesion) in rows.items()})
    layouts = (
        f"isic2018/{INPUT}/ and isic2018/{TRUTH}.csv, or ham10000/images/ and ham10000/{METADATA[0]} (from {FROM})"
    )
    raise BadInput(base, layouts, "neither" if base.is_dir() else "no such folder")


def _official(folder: Path) -> tuple[Path, dict[str, int], dict[str, str]]:
    """The table of classes, what it says `{id: label}`, and the lesions `{id: lesion}`, ids themselves if unknown."""
    nested, path = folder / TRUTH / f"{TRUTH}.csv", folder / f"{TRUTH}.csv"
    path = path if path.is_file() and not nested.is_file() else nested
    labels = {}
    for name, row in _table(path, "image", CLASSES).items():
        values = [{"0": 0, "1": 1}.get(re.sub(r"\.0*$", "", value)) for value in row]
        if None in values or values.count(1) != 1:
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


def _table(path: Path, key: str, columns: Sequence[str]) -> dict[str, list[str]]:
    """`{image: values of columns}` of a CSV file with a header, or one with tabs instead of commas, as text."""
    expected = f"a CSV table with columns {', '.join((key, *columns))} (from {FROM})"
    table = {}
    with prepared.reading(path, expected):
        content = path.read_bytes()
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise BadInput(path, expected, "UTF-16: save it as CSV in UTF-8")
        text = content.decode("utf-8-sig")
        tabs = "\t" in text.partition("\n")[0]
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if tabs else ",")
        names = rows.fieldnames or ["nothing"]
        if not {key, *columns} <= set(names):
            hint = ": separated by semicolons, save it with commas" if len(names) == 1 and ";" in names[0] else ""
            raise BadInput(path, expected, f"{', '.join(names)!r:.200}{hint}")
        if twice := [name for name in (key, *columns) if names.count(name) > 1]:
            raise BadInput(path, expected, f"{twice[0]} twice")
        for row in rows:
            if any(row.get(None, ())):  # numbers with a comma for a point, say: all behind them would be another's
                found = f"{len(names) + len(row[None])} values"
                raise BadInput(f"{path}, line {rows.line_num}", f"{len(names)} values, as the header has", found)
            name, values = row[key], [row[column] for column in columns]
            if not re.fullmatch("ISIC_[0-9]{7}", name or ""):
                raise BadInput(f"{path}, line {rows.line_num}", f"{key} ISIC_ and seven digits", f"{name!r:.80}")
            if not all(values):
                raise BadInput(f"{path}: {name}", f"a value for each of {', '.join(columns)}", f"{values!r:.200}")
            if name in table:
                raise BadInput(f"{path}: {name}", "one row for each image", f"another, line {rows.line_num}")
            table[name] = values
    return table


def _matched(
    folder: Path, places: Sequence[str], path: Path, labels: Mapping[str, int], lesions: Mapping[str, str]
) -> Files:
    """The `Files` of `folder`: each row of the table at `path` with its image in one of `places`, and its mask."""
    found: dict[str, Path] = {}
    for image in (image for place in places for image in listed(folder / place)):
        if not image.name.startswith("ISIC_") or image.suffix.lower() not in (".jpg", ".jpeg"):
            continue
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


def _masks(folder: Path, ids: Sequence[str]) -> list[File]:
    """The masks of `ids`, none if there is neither their folder nor their archive."""
    place, archive = folder / MASKS, folder / MASK_ARCHIVE
    if place.is_dir():
        paths = [place / f"{name}_segmentation.png" for name in ids]
        masks = [File(str(path), path) for path in paths if path.is_file()]
    elif archive.is_file():
        place = archive
        with prepared.reading(archive, "a zip archive"), zipfile.ZipFile(archive) as file:
            names: dict[str, str] = {}
            for path in map(PurePosixPath, filter(is_data, file.namelist())):
                if path.name in names:
                    raise BadInput(f"{archive}/{path}", f"one file {path.name}", f"another, {names[path.name]}")
                names[path.name] = str(path)
            found = [names[name] for name in (f"{i}.png" for i in ids) if name in names]
            masks = [File(f"{archive}/{name}", file.read(name)) for name in found]
    else:
        return []
    if len(masks) < len(ids):
        have = {Path(mask.name).name[:12] for mask in masks}
        without = next(name for name in ids if name not in have)
        raise BadInput(place, f"a mask for each of the {len(ids):,} images", f"{len(masks):,}, none for {without}")
    return masks


def _prepared(path: Path) -> Files:
    """The `Files` of a prepared file."""
    arrays = prepared.read(path, "isic")
    if set(arrays) not in (ARRAYS, ARRAYS | OF_MASKS):
        raise BadInput(path, f"arrays {', '.join(sorted(ARRAYS))} (prepare it again)", ", ".join(arrays))
    ids = arrays["ids"].tolist()

    def cut(name: str, offsets: str, suffix: str) -> list[File]:
        ends = arrays[offsets].tolist()
        return [File(f"{path}/{i}.{suffix}", arrays[name][a:b]) for i, a, b in zip(ids, ends, ends[1:])]

    masks = cut("mask_files", "mask_offsets", "png") if "mask_files" in arrays else []
    return Files(ids, arrays["labels"], arrays["lesions"].tolist(), cut("files", "offsets", "jpg"), masks)
