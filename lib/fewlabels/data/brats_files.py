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

from fewlabels.data import half_slices, nifti, prepared
from fewlabels.data.half_slices import SIDE
from fewlabels.errors import BadInput
from fewlabels.files import listed
from fewlabels.paths import NOWHERE

FROM = "https://www.med.upenn.edu/sbia/brats2017.html"
SEQUENCES = {"brats": half_slices.SEQUENCES, "brats2015-2seq": half_slices.SEQUENCES[:2]}
LABELS = {"brats": (0, 1, 2, 4), "brats2015-2seq": (0, 1, 2, 3, 4)}
GRADES = ("HGG", "LGG")
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
    official = [folder / grade for grade in GRADES if (folder / grade).is_dir()]
    data = "brats" if official else "brats2015-2seq"
    found = [path for where in official or [folder] for path in listed(where)]
    found = {path.name: path for path in found if path.is_dir()}
    if not found:
        expected = f"HGG/ID/ and LGG/ID/ with five files each (from {FROM})"
        raise BadInput(folder, expected, "no patient" if folder.is_dir() else "no such folder")
    grade = {name: path.parent.name if official else "" for name, path in found.items()}
    files = {name: _files(path, data) for name, path in found.items()}  # what is missing is said before minutes pass
    return data, grade, lambda name: _read(files[name], data)


def _files(folder: Path, data: str) -> dict[str, Path]:
    """`{sequence, seg, brainmask: path}` of a patient."""
    kinds = (*SEQUENCES[data], "seg", *(["brainmask"] if data != "brats" else []))
    paths = {kind: folder / f"{folder.name}_{kind}.nii.gz" for kind in kinds}
    for kind, path in paths.items():
        plain = path.with_suffix("")  # .nii
        if not path.is_file() and not plain.is_file():
            raise BadInput(path, f"files of {', '.join(kinds)} for each patient", "no such file")
        paths[kind] = path if path.is_file() else plain
    return paths


def _read(paths: Mapping[str, Path], data: str) -> Patient:
    """One patient from its files."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        volumes = dict(zip(paths, pool.map(_volume, paths.values())))
    shape = volumes["flair"].shape
    for kind, volume in volumes.items():
        if volume.shape != shape or shape[1:] != (SIDE, SIDE):
            expected = f"{SIDE} x {SIDE} pixels in every slice, and as many slices as the others"
            raise BadInput(paths[kind], expected, volume.shape)
        known = {"seg": LABELS[data], "brainmask": (0, 1)}.get(kind)
        if known and (wrong := volume[~np.isin(volume, known)]).size:
            expected = f"labels {', '.join(map(str, known))}"
            raise BadInput(paths[kind], expected, f"{wrong.size} voxels of others, {wrong[0]}")
    images = np.stack([volumes[name] for name in SEQUENCES[data]])
    brain = np.asarray(volumes["brainmask"] > 0 if "brainmask" in volumes else images.any(0))
    if not brain.any():
        raise BadInput(paths.get("brainmask", paths["flair"]), "voxels of a brain", "nothing but 0")
    values = images[:, brain]
    for kind, low, high in zip(SEQUENCES[data], values.min(1), values.max(1)):
        if low == high:
            raise BadInput(paths[kind], "an image with contrast in the brain", f"nothing but {low}")
    return Patient(brain, volumes["seg"] > 0, values)


def _volume(path: Path) -> np.ndarray:
    """A file's voxels, int16 `(Z, H, W)`."""
    array = nifti.read(path).array
    with np.errstate(invalid="ignore"):
        whole = array.astype(np.int16)
    if (whole != array).any():
        raise BadInput(path, "whole numbers from -32768 to 32767", f"{np.count_nonzero(whole != array)} others")
    return whole


def progress(names: Iterable[str], data: str) -> Iterable[str]:
    """The official files take minutes."""
    calm = {"mininterval": 0.5 if sys.stdout.isatty() else 20, "file": sys.stdout, "disable": data != "brats"}
    return tqdm(names, desc="MRI", unit="patient", **calm)
