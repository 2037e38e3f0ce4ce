"""A patient of PDDCA or OpenKBP as in the files: the CT, and one mask for each structure."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from fewlabels.data import geometry, volumes
from fewlabels.data.geometry import UPWARDS, Volume
from fewlabels.errors import BadInput
from fewlabels.files import listed

AIR = (-1100, -900)  # HU: scanners' air, whatever they clip at
LEAST_AIR = 0.001  # of the voxels; round a head it is most of them


class Patient(NamedTuple):
    """One patient as in the files: HU int16 and labels uint8, `(Z, Y, X)`; present bool `(classes,)`; spacing in mm,
    float64 `(3,)`; how many voxels two structures claim."""

    name: str
    image: np.ndarray
    labels: np.ndarray
    present: np.ndarray
    spacing: np.ndarray
    claimed_twice: int


def read(folder: Path, classes: tuple[str, ...], ignored: tuple[str, ...] = ()) -> Patient:
    """The patient in a folder: `img.nrrd`, or a DICOM series in `img/`, and `structures/*.nrrd`, turned to LPS.
    Structures are painted from the largest to the smallest."""
    series, scan = folder / "img", folder / "img.nrrd"
    scan = series if series.is_dir() and not scan.is_file() else scan
    ct = volumes.read(scan)
    structures = listed(folder / "structures")
    files = {path.stem: path for path in structures if path.suffix == ".nrrd"}
    for path in structures:  # an organ that is not read counts as not delineated
        if path.suffix != ".nrrd" and (name := path.name.split(".")[0]) in classes[1:]:
            raise BadInput(path, f"{name}.nrrd", path.name)
    unknown = [path for name, path in files.items() if name not in {*classes[1:], *ignored}]
    if unknown:  # under another name an organ would silently become background
        raise BadInput(unknown[0], f"one of {', '.join(classes[1:])}", unknown[0].stem)
    masks = {k: _structure(files[name], ct, scan.name) for k, name in enumerate(classes) if name in files}
    if not masks:
        raise BadInput(folder / "structures", f"NRRD files of {', '.join(classes[1:])}", "none")
    ct = geometry.turned(ct, UPWARDS)
    labels, claims = np.zeros(ct.array.shape, np.uint8), np.zeros(ct.array.shape, np.uint8)
    for k in sorted(masks, key=lambda k: -len(masks[k])):
        labels.flat[masks[k]] = k
        claims.flat[masks[k]] += 1
    check_ct(scan, ct.array, labels)
    present = np.array([len(masks) == len(classes) - 1] + [k in masks for k in range(1, len(classes))])
    spacing = np.array(ct.geometry.spacing)
    return Patient(folder.name, ct.array.astype(np.int16), labels, present, spacing, int((claims > 1).sum()))


def check_ct(path: Path, image: np.ndarray, labels: np.ndarray) -> None:
    """Raises `BadInput` for what is no CT in whole Hounsfield units: no air, or slices of one value, but of air, which
    may be beyond the scan, where there is no structure."""
    low, high = image.min(), image.max()
    if not (low >= -(2**15) and high < 2**15 and (image.dtype.kind in "iu" or (image == np.round(image)).all())):
        raise BadInput(path, "whole Hounsfield units of 16 bits", f"{image.dtype}, {low:g} to {high:g}")
    if low == high:
        raise BadInput(path, "a CT with contrast", f"nothing but {low:g}")
    air = (image >= AIR[0]) & (image <= AIR[1])
    if (n := np.count_nonzero(air)) < LEAST_AIR * image.size:
        expected = f"Hounsfield units, air at about -1000 in {LEAST_AIR:.1%} of the voxels (is the rescale missing?)"
        raise BadInput(path, expected, f"{n:,} of {image.size:,}, values {low:g} to {high:g}")
    flat = image.min((1, 2)) == image.max((1, 2))
    for z in np.flatnonzero(flat & (~air[:, 0, 0] | labels.any((1, 2)))):
        raise BadInput(
            path, "slices with contrast wherever the patient is", f"nothing but {image[z, 0, 0]:g} in slice {z}"
        )


def _structure(path: Path, ct: Volume, of: str) -> np.ndarray:
    """Flat indices of the voxels in a mask of 0 and 1, or 0 and 255, on the grid of the CT in LPS orientation."""
    mask = geometry.onto(path, volumes.read(path), ct.geometry, of)
    geometry.tell({path: mask.note})
    values = geometry.turned(mask, UPWARDS).array.ravel()
    inside = np.flatnonzero(values)
    others = np.unique(values[inside])
    if not len(inside):
        raise BadInput(path, "a structure", "not a voxel of one")
    if others.tolist() not in ([1], [255]):
        raise BadInput(path, "0 and 1, or 0 and 255", f"values {', '.join(f'{v:g}' for v in others[:3])}")
    return inside
