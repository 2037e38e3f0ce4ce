"""ACDC: short-axis cardiac cine MRI of 100 patients in five groups (Chaitanya et al., IPMI 2019).

Two layouts are read from `root/acdc/training/patientNNN/` (Info.cfg, patientNNN_frameFF.nii.gz, ..._gt.nii.gz, or
.nii), and the data say which one they are (`meta["data"]`):

    acdc            the official files (Bernard et al. 2018)
    acdc-unspaced   a copy whose spacing is lost and whose grey values are scaled. What tells it: every volume is int16,
                    spans exactly 0 to 1000, and claims 1 x 1 mm in plane (official ones differ, 0.70 to 1.92 mm). Its
                    pixels are kept as they are, without N4 and resampling.

Axes are slices in the order of the files, rows, columns: nibabel's, which the released code trains on, transposed. A
mask whose header says that its axes run another way to the same places as its image's is turned to the image's.
"""

import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from fewlabels.data import acdc_grid, geometry, nifti, prepared
from fewlabels.data.cohort import Cohort, Split
from fewlabels.data.complete import of_all
from fewlabels.data.phantoms.heart import CLASSES, GRID, GROUPS, SPACING_MM
from fewlabels.data.phantoms.heart import heart as phantom
from fewlabels.errors import BadInput
from fewlabels.paths import NOWHERE

__all__ = ["CLASSES", "PATIENTS", "check", "load", "phantom", "prepare", "splits", "to_native"]

PATIENTS = tuple(f"patient{i:03}" for i in range(1, 101))

FROM = "https://www.creatis.insa-lyon.fr/Challenge/acdc/databases.html"
SOURCES = {
    "acdc": "ACDC, official training set; cite Bernard et al. 2018",
    "acdc-unspaced": "ACDC, a copy with grey values scaled and its spacing lost, not the official files: not resampled "
    "to 1.367 mm, lengths in pixels; cite Bernard et al. 2018",
}
ARRAYS = {"data", "phase", "n4", "patients", "pathology", "shapes", "spacing", "images", "labels"}
# Chaitanya et al. 2019, the released lists by the numbers of the patients: who is labelled in sets 1 to 5.
LABELLED = {
    1: ((2,), (42,), (22,), (62,), (95,)),
    3: ((2, 22, 42), (42, 62, 82), (22, 42, 82), (2, 42, 82), (2, 42, 95)),
}
TEST = [20 * group + i for group in range(5) for i in range(7, 11)]
VALIDATION = [11, 71]
UNLABELLED = [20 * group + i for group in range(5) for i in range(16, 21)]


def load(
    root: Path | str | None, size: int = GRID, phase: str = "ES", n4: bool | None = None, field: int = GRID
) -> Cohort:
    """All slices as a `Cohort`: images float32 `(slices, 1, size, size)`; labels int64 `(slices, size, size)`, values
    as in `CLASSES`; ids `patient001/00`, ...; groups are the patients.

    root   the data root, which holds `acdc/`, or a file written by `prepare`
    size   side in pixels, 1 to 224
    field  side of what the images show, in pixels of the 224-grid, about its centre: `size` to 224, whatever is there
    phase  ES, end-systole (the paper), or ED, end-diastole (what the released loader reads), as Info.cfg numbers them
    n4     whether to correct the bias field; None: on for the official files, off for the copy

    Pre-processing of the paper and its code: N4; (x - x2) / (x98 - x2) with percentiles of the volume, not clipped;
    each slice to 1.36719 mm, images linearly, labels by nearest neighbour, areas aligned; cropped or padded with zeros
    about the centre, offsets rounded down. Where it is larger, an image pixel is the mean of the 224-grid over its
    area, so that nothing aliases, and its label the one with the largest share of it.

    `meta`: `pathology` `{patient: group}`; `native` `{patient: labels as in the file, uint8 (Z, H, W)}`; `scale`
    `{patient: (rows, columns)}`, pixels of the 224-grid to a native one (in the copy 1); `field`.

    Raises `BadInput` naming the file if anything is missing, damaged, of another shape or kind, or without contrast.
    """
    if size not in range(1, GRID + 1):
        raise BadInput("size", f"1 to {GRID}", size)
    if field not in range(size, GRID + 1):
        raise BadInput("field", f"{size} (size) to {GRID}", field)
    arrays = _read(root, phase, n4)
    data, patients, shapes = str(arrays["data"]), arrays["patients"].tolist(), arrays["shapes"].tolist()
    ends = np.cumsum(arrays["shapes"].prod(axis=1))[:-1]
    volumes, masks = (np.split(arrays[name], ends) for name in ("images", "labels"))
    n, mm = sum(shape[0] for shape in shapes), SPACING_MM if data == "acdc" else 1.0  # a pixel of the 224-grid
    images, labels = torch.zeros(n, 1, size, size), torch.zeros(n, size, size, dtype=torch.long)
    ids: list[str] = []
    native, scale, areas = {}, {}, acdc_grid.areas(size, field)
    for patient, shape, spacing, volume, mask in zip(patients, shapes, arrays["spacing"], volumes, masks):
        volume, mask = volume.reshape(shape), mask.reshape(shape)
        low, high = _window(f"{root}: {patient}", volume)
        scale[patient] = tuple((spacing[1:] / mm).tolist())
        axes = list(zip(shape[1:], scale[patient]))
        rows, columns = (size / field * areas @ acdc_grid.linear(*axis) for axis in axes)
        r, c = (acdc_grid.nearest(*axis) for axis in axes)
        here = slice(len(ids), len(ids) + len(volume))
        images[here, 0] = torch.from_numpy(np.stack([rows @ s @ columns.T for s in (volume - low) / (high - low)]))
        mask_224 = np.pad(mask, ((0, 0), (0, 1), (0, 1)))[:, r[:, None], c]  # -1: the zeros
        shares = [[areas @ (s == value) @ areas.T for s in mask_224] for value in range(len(CLASSES))]
        labels[here] = torch.from_numpy(np.argmax(shares, axis=0))
        native[patient] = torch.from_numpy(mask)
        ids += [f"{patient}/{z:02}" for z in range(len(volume))]
    meta = {"data": data, "source": SOURCES[data], "phase": str(arrays["phase"]), "n4": bool(arrays["n4"])}
    meta |= {"pathology": dict(zip(patients, arrays["pathology"].tolist())), "native": native, "scale": scale}
    meta["field"] = field
    groups = tuple(name.split("/")[0] for name in ids)
    return Cohort(images, labels, tuple(ids), CLASSES, (field / size * mm,) * 2, groups, meta)


def to_native(probabilities: torch.Tensor, patient: str, cohort: Cohort) -> torch.Tensor:
    """Probabilities of a patient's slices, float `(Z, classes, size, size)`, on its native grid `(Z, classes, H, W)`.

    Bilinear, areas aligned; outside the field is background with probability 1. The per-volume Dice compares the argmax
    with `cohort.meta["native"][patient]`. Raises `BadInput` for another shape.
    """
    native, size, field = cohort.meta["native"][patient], cohort.images.shape[-1], cohort.meta["field"]
    expected = (len(native), len(cohort.classes), size, size)
    if probabilities.shape != expected:
        raise BadInput(f"probabilities of {patient}", f"shape {expected}", tuple(probabilities.shape))
    inside = []
    for dim, n, scale in zip((-2, -1), native.shape[1:], cohort.meta["scale"][patient]):
        extent, first = acdc_grid.extent_of(n, scale)
        at = np.clip((np.arange(n) + 0.5) * extent / n - 0.5, 0, extent - 1)  # no extrapolation at the border
        at = (at - first + 0.5 - (GRID - field) / 2) * size / field - 0.5
        inside.append(torch.as_tensor((at >= -0.5) & (at <= size - 0.5), device=probabilities.device))
        at = np.clip(at, 0, size - 1)
        low, high = (torch.as_tensor(f(at).astype(int), device=probabilities.device) for f in (np.floor, np.ceil))
        share = torch.as_tensor(at % 1).to(probabilities).reshape(-1, *[1] * (-1 - dim))
        probabilities = torch.lerp(probabilities.index_select(dim, low), probabilities.index_select(dim, high), share)
    inside = inside[0][:, None] & inside[1]
    probabilities = probabilities * inside
    probabilities[:, 0] += ~inside
    return probabilities


def prepare(root: Path | str | None, out: Path | str, phase: str = "ES") -> str:
    """Writes all that `load(root, phase=phase)` needs, N4 done, to one file `out`; `load(out)` then gives the same
    bits. Returns the SHA-256 of the content (that of `check(out)`). Raises `BadInput` as `load` does."""
    arrays = _read(root, phase, None)
    # All low bytes, then all high ones: of the copy 40 MB. As they are, zlib leaves 47, and differences do not help.
    content = arrays["images"].astype(arrays["images"].dtype.newbyteorder("<"))
    planes = content.view(np.uint8).reshape(len(content), -1).T.ravel()
    prepared.write(out, "acdc", arrays | {"images": planes, "type": np.array(content.dtype.str)})
    return prepared.checksum(arrays)


def check(root: Path | str | None) -> str:
    """Reads every end-systolic file below `root` and returns what is there, in three lines of text; raises `BadInput`
    as `load`. N4 takes minutes and is not done: the SHA-256 of an official folder is of the volumes before it."""
    arrays = _read(root, None, None) if root and Path(root).is_file() else _read(root, "ES", False)
    of, data = Counter(arrays["pathology"].tolist()), str(arrays["data"])
    counts = ", ".join(f"{of[group]} {group}" for group in GROUPS)
    there = f"{of_all(of.total(), len(PATIENTS), 'patients')} ({counts})"
    return (
        f"{data}: {SOURCES[data]}\n"
        f"{there}, {arrays['shapes'][:, 0].sum()} slices, phase {arrays['phase']}, "
        f"{'with' if arrays['n4'] else 'without'} N4\n"
        f"sha256 {prepared.checksum(arrays)}"
    )


def splits(ids: Cohort | Sequence[str], labelled: int, labelled_set: int) -> Split:
    """The published lists with `labelled` (1 or 3) labelled patients, set 1 to 5, as a `Split` of slice ids.

    ids   a `Cohort` or its ids, `patient001/00`, ...; those of patients on no list are in no part

    Whoever is labelled, 20 patients are the test set, 2 validation, 25 unlabelled (their data_cfg_acdc.py). Raises
    `BadInput` for another number or set, or if a patient of the lists is missing.
    """
    if labelled not in LABELLED:
        raise BadInput("labelled", " or ".join(map(str, LABELLED)), labelled)
    if labelled_set not in range(1, 6):
        raise BadInput("labelled_set", "1 to 5", labelled_set)
    slices: dict[str, list[str]] = {}
    for name in ids.ids if isinstance(ids, Cohort) else ids:
        slices.setdefault(name.split("/")[0], []).append(name)
    parts = []
    for numbers in (LABELLED[labelled][labelled_set - 1], UNLABELLED, VALIDATION, TEST):
        patients = [f"patient{i:03}" for i in numbers]
        missing = [patient for patient in patients if patient not in slices]
        if missing:
            raise BadInput("split", "the 100 patients of the published lists", f"none called {missing[0]}")
        parts.append(tuple(name for patient in patients for name in sorted(slices[patient])))
    return Split(*parts)


# ---- from files to arrays ----


def _read(root: Path | str | None, phase: str | None, n4: bool | None) -> dict[str, np.ndarray]:
    """What is kept: data, phase, n4; patients and pathology `(n,)`; shapes int64 and spacing in mm, float64, `(n, 3)`;
    all voxels, one patient after the other, as images, of any type, and labels uint8. Phase None: that of the file."""
    if phase not in ("ES", "ED", None):
        raise BadInput("phase", "ES or ED", phase)
    if root is None:
        raise BadInput(NOWHERE, f"the folder that holds acdc/, or a prepared file (from {FROM})", "nothing")
    root = Path(root)
    if not root.is_file():
        assert phase is not None  # a prepared file alone has one of its own
        return _read_folder(root / "acdc" / "training", phase, n4)
    arrays = prepared.read(root, "acdc")
    if set(arrays) != ARRAYS | {"type"}:
        raise BadInput(root, f"arrays {', '.join(sorted(ARRAYS | {'type'}))} (prepare it again)", ", ".join(arrays))
    kind, planes = np.dtype(str(arrays.pop("type"))), arrays["images"]
    arrays["images"] = np.ascontiguousarray(planes.reshape(kind.itemsize, -1).T).view(kind).ravel()
    if tuple(arrays["patients"].tolist()) != PATIENTS:
        raise BadInput(root, f"the {len(PATIENTS)} patients of ACDC", f"{arrays['patients'].size} others")
    for name, asked in (("phase", phase), ("n4", n4)):
        if asked is not None and arrays[name] != asked:
            raise BadInput(root, f"volumes prepared with {name} {asked}", f"{name} {arrays[name]}")
    return arrays


def _read_folder(folder: Path, phase: str, n4: bool | None) -> dict[str, np.ndarray]:
    missing = [patient for patient in PATIENTS if not (folder / patient).is_dir()]
    if missing:
        names = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        expected = f"{len(PATIENTS)} folders patientNNN with Info.cfg, an image and a mask (from {FROM})"
        raise BadInput(folder / missing[0], expected, f"{len(PATIENTS) - len(missing)}, without {names}")
    infos = [_info(folder / patient / "Info.cfg", phase) for patient in PATIENTS]
    paths = [nifti.find(folder / patient, f"{patient}_frame{frame:02}") for patient, (frame, _) in zip(PATIENTS, infos)]
    for path in [path for image in paths for path in (image, _gt(image))]:  # said at once, not after minutes
        if not path.is_file():
            raise BadInput(path, f"the {phase} frame that Info.cfg names", "no such file")
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # threads, as SimpleITK lets others run while it works
        volumes, labels, spacing, notes = zip(*pool.map(_volume, paths))
        geometry.tell({path: note for of_pair in notes for path, note in of_pair.items()})
        unspaced = all(
            v.dtype == np.int16 and (v.min(), v.max()) == (0, 1000) and mm[1:] == (1, 1)
            for v, mm in zip(volumes, spacing)
        )
        n4 = not unspaced if n4 is None else n4
        if n4:
            calm = {"mininterval": 0.5 if sys.stdout.isatty() else 20, "file": sys.stdout}
            volumes = list(tqdm(pool.map(_corrected, paths), total=len(paths), desc="N4", unit="volume", **calm))
    return {
        "data": np.array("acdc-unspaced" if unspaced else "acdc"),
        "phase": np.array(phase),
        "n4": np.array(n4),
        "patients": np.array(PATIENTS),
        "pathology": np.array([group for _, group in infos]),
        "shapes": np.array([volume.shape for volume in volumes]),
        "spacing": np.array(spacing),
        "images": np.concatenate([volume.ravel() for volume in volumes]),
        "labels": np.concatenate([mask.ravel() for mask in labels]),
    }


def _gt(path: Path) -> Path:
    """The mask that belongs to an image."""
    return nifti.find(path.parent, f"{path.name.split('.')[0]}_gt")


def _info(path: Path, phase: str) -> tuple[int, str]:
    """Frame of the phase, counted from 1, and group of one patient."""
    with prepared.reading(path, "lines ED: n, ES: n, Group: name"):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    values = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if not re.fullmatch("[0-9]{1,3}", values.get(phase, "")):
        raise BadInput(path, f"{phase}: the number of a frame", repr(values.get(phase, "nothing")))
    if values.get("Group") not in GROUPS:
        raise BadInput(path, f"Group: one of {', '.join(GROUPS)}", repr(values.get("Group", "nothing")))
    return int(values[phase]), values["Group"]


def _volume(path: Path) -> Any:
    """One patient's image `(Z, H, W)` as stored, its labels uint8 alike, their spacing in mm, and `{file: note}`."""
    image, place, note = nifti.read(path)
    mask, _, turned = geometry.onto(_gt(path), nifti.read(_gt(path)), place, path.name)
    wrong = mask[~np.isin(mask, range(len(CLASSES)))]
    if wrong.size or not mask.any():
        found = f"{wrong.size} voxels of others, {wrong.flat[0]}" if wrong.size else "nothing but 0"
        raise BadInput(_gt(path), f"labels 0 to {len(CLASSES) - 1}", found)
    _window(path, image)
    flat = np.flatnonzero(image.min((1, 2)) == image.max((1, 2)))
    if flat.size:
        raise BadInput(path, "slices with contrast", f"nothing but {image[flat[0]].flat[0]:g} in slice {flat[0]}")
    return image, mask.astype(np.uint8), place.spacing, {path: note, _gt(path): turned}


def _window(where: object, volume: np.ndarray) -> tuple[float, float]:
    """2nd and 98th percentile of a volume."""
    low, high = np.percentile(volume, (2, 98))
    if low == high:
        raise BadInput(where, "an image with contrast", f"2nd and 98th percentile both {low:g}")
    return low, high


def _corrected(path: Path) -> np.ndarray:
    """The image without its bias field, uint16 (uint32 if it must) `(Z, H, W)`: what the released N4 program writes.

    Foreground by Otsu's threshold of 200 bins; a field fitted to every 4th pixel and 2nd slice; the quotient truncated.
    """
    import SimpleITK as sitk

    image = geometry.itk_image(nifti.read(path), np.float32)
    if (least := sitk.GetArrayViewFromImage(image).min()) < 0:
        raise BadInput(path, "grey values of at least 0, as N4 takes logarithms", f"{least:g}")
    mask = sitk.OtsuThreshold(image, 0, 1, 200)  # inside, outside, bins
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations([50] * 4)
    corrector.SetConvergenceThreshold(0.001)
    corrector.SetNumberOfThreads(1)  # a volume for each core does more than a core for each part of one
    with prepared.reading(path, "a volume that N4 can correct"):
        corrector.Execute(sitk.Shrink(image, [4, 4, 2]), sitk.Shrink(mask, [4, 4, 2]))
    corrected = sitk.Divide(image, sitk.Exp(corrector.GetLogBiasFieldAsImage(image)))
    values = sitk.GetArrayFromImage(corrected).astype(np.uint32)
    return values.astype(np.uint16) if values.max() < 2**16 else values
