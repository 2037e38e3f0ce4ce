"""The patients of BraTS as in their files, or in the file that was prepared from them."""

import itertools
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from fewlabels.data import brats_editions, geometry, nifti, prepared
from fewlabels.data.brats_editions import COPY, FROM, LABELS, SEQUENCES
from fewlabels.data.half_slices import SIDE
from fewlabels.errors import BadInput
from fewlabels.paths import NOWHERE

ARRAYS = {"data", "patients", "grades", "slices", "brain", "tumour", "values"}


class Patient(NamedTuple):
    """Where the brain and where a tumour is, bool `(Z, 240, 240)`; the brain's voxels, int16 `(sequences, n)`."""

    brain: np.ndarray
    tumour: np.ndarray
    values: np.ndarray


Opened = tuple[str, dict[str, str], Callable[[str], Patient]]  # data, {patient: grade}, how one is read


def open_root(root: Path | str | None) -> Opened:
    """Which data they are, `{patient: grade}` and how one is read: from the folder, or from all that was prepared."""
    if root is None:
        raise BadInput(NOWHERE, f"the folder that holds brats/, or a prepared file (from {FROM})", "nothing")
    root = Path(root)
    if not root.is_file():
        return _open_folder(root / "brats")
    arrays = prepared.read(root, "brats")
    if set(arrays) != ARRAYS:
        raise BadInput(root, f"arrays {', '.join(sorted(ARRAYS))} (prepare it again)", ", ".join(sorted(arrays)))
    return open_arrays(arrays)


def open_arrays(arrays: Mapping[str, np.ndarray]) -> Opened:
    """What `open_root` gives, from arrays."""
    data, names = str(arrays["data"]), arrays["patients"].tolist()
    z = np.concatenate([[0], np.cumsum(arrays["slices"])])
    masks = {name: np.unpackbits(arrays[name]).view(bool).reshape(-1, SIDE, SIDE) for name in ("brain", "tumour")}
    ends = np.cumsum([len(SEQUENCES[data]) * masks["brain"][a:b].sum() for a, b in itertools.pairwise(z)])[:-1]
    values = np.split(arrays["values"], ends)

    def read(name: str) -> Patient:
        i = names.index(name)
        brain, tumour = (masks[kind][z[i] : z[i + 1]] for kind in ("brain", "tumour"))
        return Patient(brain, tumour, values[i].reshape(len(SEQUENCES[data]), -1))

    return data, dict(zip(names, arrays["grades"].tolist())), read


def arrays_of(root: Path | str | None) -> dict[str, np.ndarray]:
    """What a prepared file holds: data; patients, grades, slices `(n,)`; masks as bits, and the values of the brain's
    voxels, sequence by sequence, one patient after the other."""
    data, grade, read = open_root(root)
    patients = [read(name) for name in progress(grade, data)]
    return {
        "data": np.array(data),
        "patients": np.array(list(grade)),
        "grades": np.array(list(grade.values())),
        "slices": np.array([len(patient.brain) for patient in patients]),
        "brain": np.concatenate([np.packbits(patient.brain) for patient in patients]),
        "tumour": np.concatenate([np.packbits(patient.tumour) for patient in patients]),
        "values": np.concatenate([patient.values.ravel() for patient in patients]).astype("<i2"),
    }


def _open_folder(folder: Path) -> Opened:
    data, grade, files = brats_editions.patients(folder)  # what is missing is said before minutes pass
    return data, grade, lambda name: _read(files[name], data)


def _read(paths: Mapping[str, Path], data: str) -> Patient:
    """One patient from its files, on the voxels of its FLAIR image."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        volumes = dict(zip(paths, pool.map(nifti.read, paths.values())))
    first = volumes["flair"].geometry
    if first.size[1:] != (SIDE, SIDE) or not np.allclose(first.spacing, 1, rtol=0, atol=0.01):
        found = f"{' x '.join(map(str, first.size[::-1]))} of {geometry.words(first.spacing[::-1])} mm"
        raise BadInput(paths["flair"], f"{SIDE} x {SIDE} pixels in every slice, voxels of 1 mm", found)
    volumes = {k: geometry.onto(paths[k], volume, first, paths["flair"].name) for k, volume in volumes.items()}
    geometry.tell({paths[kind]: volume.note for kind, volume in volumes.items()})
    whole = {kind: _int16(paths[kind], volume.array) for kind, volume in volumes.items()}
    for kind, known in (("seg", LABELS[data]), ("brainmask", (0, 1))):
        if kind in whole and (wrong := whole[kind][~np.isin(whole[kind], known)]).size:
            expected = f"labels {', '.join(map(str, known))}"
            raise BadInput(paths[kind], expected, f"{wrong.size} voxels of others, {wrong[0]}")
    images = np.stack([whole[name] for name in SEQUENCES[data]])
    brain = np.asarray(whole["brainmask"] > 0 if "brainmask" in whole else images.any(0))
    if not brain.any():
        raise BadInput(paths.get("brainmask", paths["flair"]), "voxels of a brain", "nothing but 0")
    values = images[:, brain]
    for kind, image, low, high in zip(SEQUENCES[data], images, values.min(1), values.max(1)):
        if low == high:
            raise BadInput(paths[kind], "an image with contrast in the brain", f"nothing but {low}")
        varied = np.flatnonzero(image.min((1, 2)) != image.max((1, 2)))  # beyond them there may be nothing
        if len(gaps := np.setdiff1d(np.arange(varied[0], varied[-1]), varied)):
            found = f"nothing but {image[gaps[0], 0, 0]} in slice {gaps[0]}"
            raise BadInput(paths[kind], f"contrast in slices {varied[0]} to {varied[-1]}", found)
    return Patient(brain, whole["seg"] > 0, values)


def _int16(path: Path, array: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        whole = array.astype(np.int16)
    if (whole != array).any():
        raise BadInput(path, "whole numbers from -32768 to 32767", f"{np.count_nonzero(whole != array)} others")
    return whole


def progress(names: Iterable[str], data: str) -> Iterable[str]:
    """The official files take minutes."""
    calm = {"mininterval": 0.5 if sys.stdout.isatty() else 20, "file": sys.stdout, "disable": data == COPY}
    return tqdm(names, desc="MRI", unit="patient", **calm)
