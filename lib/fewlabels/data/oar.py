"""Head-and-neck CT with organs at risk (Gao et al., IPMI 2021, Section 4.1): PDDCA, the MICCAI 2015 challenge.

Two layouts are read, the first that is there, and the data say which (`meta["data"]`):

    pddca               `root/pddca/0522cNNNN/img.nrrd` and `structures/*.nrrd`, there or in the folders that its parts
                        unpack to: 38 + 10 patients, nine organs, of which some patients lack some (Raudaschl et al.
                        2017)
    openkbp-for-pddca   `root/openkbp/{train,test}/ID/`, alike: other patients, other organs, coarser voxels (Babier et
                        al. 2021), so that the method can be tried where PDDCA is not

In place of `img.nrrd` there may be a folder `img/` with the CT as a DICOM series.

Axes are z (feet to head), y (front to back), x (the patient's right to left), whatever the files' headers say: each is
turned to the nearest of these orientations (ITK's LPS). Nothing is resampled for that, an oblique scan stays oblique.

What the paper leaves open is a choice here, after the author's later code where nothing speaks against it
(github.com/yhygao/focusnet-v2): 2.5 x 1 x 1 mm and (HU + 100) / 1000. That code crops by the ground truth, that of test
patients too; here the crop is found from the CT alone (`oar_grid.body_of`).
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from fewlabels.data import oar_files, oar_grid, prepared
from fewlabels.data.cohort import Cohort, Split
from fewlabels.data.oar_files import Patient
from fewlabels.data.phantoms import head_neck as phantoms
from fewlabels.data.phantoms.head_neck import HIGH, LOW, check_grid
from fewlabels.data.phantoms.head_neck import head_neck as phantom
from fewlabels.errors import BadInput
from fewlabels.files import listed
from fewlabels.paths import NOWHERE

__all__ = ["CLASSES", "TEST", "check", "load", "phantom", "prepare", "splits", "to_native"]

CLASSES = {
    "pddca": phantoms.CLASSES,
    "openkbp-for-pddca": (
        *("background", "BrainStem", "SpinalCord", "Parotid_L", "Parotid_R", "Mandible", "Larynx", "Esophagus"),
    ),
}
TRAIN = 38
TEST = tuple(f"0522c{i:04}" for i in (555, 576, 598, 659, 661, 667, 669, 708, 727, 746))
IGNORED = {"openkbp-for-pddca": ("PTV56", "PTV63", "PTV70")}  # targets of the therapy; PDDCA has nothing but its organs
FROM = "https://www.imagenglab.com/newsite/pddca/"
SOURCES = {
    "pddca": "PDDCA, the MICCAI 2015 head-and-neck challenge; cite Raudaschl et al. 2017",
    "openkbp-for-pddca": "OpenKBP (MIT), not PDDCA: other patients, other organs, coarser voxels: stands in for PDDCA; "
    "cite Babier et al. 2021",
}
ARRAYS = {"data", "patients", "test", "present", "shapes", "spacing", "claimed_twice", "images", "labels"}


def load(
    root: Path | str | None, spacing: Sequence[float] = (2.5, 1.0, 1.0), size: Sequence[int] | None = None
) -> Cohort:
    """All patients on one grid as a `Cohort`: images float32 `(N, 1, Z, Y, X)`; labels int64 `(N, Z, Y, X)`; ids and
    groups are the patients; classes are the names of the structure files.

    root     the data root, which holds `pddca/` or `openkbp/`, or a file written by `prepare`
    spacing  of the grid, mm (z, y, x)
    size     of the grid, voxels; None: the smallest that holds every patient's body (reads the files twice)

    Image: HU clipped to [-1000, 1500], so that metal does not outshine bone when it is averaged (choice), resampled by
    linear interpolation, along axes that become coarser with the triangle as much wider (Pillow's and torch's
    antialiasing), then (HU + 100) / 1000. Labels: the structure with the largest share of the voxel, of equal ones the
    first: of the rules tried on the stand-in (nearest, linear, share) this keeps most, but what is thinner than half a
    voxel is lost. What no scan covers is air and background.

    The grid hangs from the upper end of the body; in plane its middle is the mean place of the body's uppermost 150 mm.
    Both are found from the CT alone. What lies beyond `size` is cut off; of the stand-in at (5, 4, 4) mm, (80, 64, 48)
    voxels cut off nothing of any organ, (72, 64, 48) up to 7 % of the gullet and 4 % of the cord in 4 patients.

    A voxel of two structures is the one's that has fewer voxels. `meta`: `present` bool `(N, classes)`, whether a
    structure was delineated, the background only where all were; `test` the ids of the test set; `native` `{id: labels
    as in the files, uint8}`; `claimed_twice` `{id: voxels of two structures}`; and for `to_native` `{id: (z, y, x)}` in
    mm, `native_spacing_mm` and `first_voxel_mm`, the place of the grid's first voxel, seen from the file's.

    Raises `BadInput` naming the file if anything is missing, damaged, empty or on another grid than its CT.
    """
    spacing, size = check_grid("oar", spacing, size)
    data, names, test, read = _open(root)
    classes = CLASSES[data]
    if size is None:
        size = oar_grid.smallest([_body(root, patient) for patient in map(read, names)], spacing)
    images = torch.empty(len(names), 1, *size)
    labels, present = torch.empty(len(names), *size, dtype=torch.long), []
    native, native_mm, first_mm, twice = {}, {}, {}, {}
    calm = {"mininterval": 0.5 if sys.stdout.isatty() else 20, "file": sys.stdout, "disable": data != "pddca"}
    for i, name in enumerate(tqdm(names, desc="CT", unit="patient", **calm)):  # PDDCA takes minutes
        patient = read(name)
        first = oar_grid.first_voxel(_body(root, patient), spacing, size)
        grid = list(zip(patient.image.shape, patient.spacing, size, spacing, first))
        linear, areas = ([weights(*axis) for axis in grid] for weights in (oar_grid.linear, oar_grid.areas))
        hu = LOW + oar_grid.resampled(np.clip(patient.image, LOW, HIGH).astype(np.float32) - LOW, linear)
        images[i, 0] = torch.from_numpy((hu + 100) / 1000)
        labels[i] = torch.from_numpy(oar_grid.largest_shares(patient.labels, areas, len(classes)))
        native[name] = torch.from_numpy(patient.labels)
        native_mm[name], first_mm[name] = tuple(patient.spacing.tolist()), first
        twice[name] = patient.claimed_twice
        present.append(torch.from_numpy(patient.present))
    meta = {"data": data, "source": SOURCES[data], "present": torch.stack(present), "test": test, "native": native}
    meta |= {"native_spacing_mm": native_mm, "first_voxel_mm": first_mm, "claimed_twice": twice}
    return Cohort(images, labels, names, classes, spacing, names, meta)


def to_native(probabilities: torch.Tensor, patient: str, cohort: Cohort) -> torch.Tensor:
    """Probabilities of a patient, float `(classes, Z, Y, X)` of the grid, on the grid of its files, `(classes, *)`.

    Trilinear; what lies outside the crop is background with probability 1. Dice compares the argmax with
    `cohort.meta["native"][patient]`. Raises `BadInput` for another shape.
    """
    expected = (len(cohort.classes), *cohort.images.shape[2:])
    if probabilities.shape != expected:
        raise BadInput(f"probabilities of {patient}", f"shape {expected}", tuple(probabilities.shape))
    inside, meta, device = torch.ones((), dtype=torch.bool), cohort.meta, probabilities.device
    axes = (meta["native"][patient].shape, meta["native_spacing_mm"][patient], meta["first_voxel_mm"][patient])
    axes = zip((1, 2, 3), expected[1:], *axes, cohort.spacing_mm)
    for dim, size, n, mm, first, spacing in reversed(list(axes)):  # the largest step last, on whole slices: faster
        at = (np.arange(n) * mm - first) / spacing
        within = torch.as_tensor((at >= -0.5) & (at <= size - 0.5))
        inside = within.reshape(-1, *[1] * inside.ndim) & inside
        at = np.clip(at, 0, size - 1)  # no extrapolation in the outer half of the outer voxels
        low, high = (torch.as_tensor(f(at).astype(int), device=device) for f in (np.floor, np.ceil))
        share = torch.as_tensor(at % 1).to(probabilities).reshape(-1, *[1] * (3 - dim))
        probabilities = torch.lerp(probabilities.index_select(dim, low), probabilities.index_select(dim, high), share)
    inside = inside.to(device)
    probabilities = probabilities * inside
    probabilities[0] += ~inside
    return probabilities


def splits(cohort: Cohort) -> Split:
    """The official division: all but the test patients are labelled. There is no validation set, as in the paper."""
    test = tuple(cohort.meta["test"])
    return Split(tuple(name for name in cohort.ids if name not in test), (), (), test)


def prepare(root: Path | str | None, out: Path | str) -> str:
    """Writes all that `load(root)` needs to one file `out`; `load(out)` then gives the same bits, on any grid. Returns
    the SHA-256 of the content (that of `check(out)`). Raises `BadInput` as `load` does.

    Everything is held in memory meanwhile: of PDDCA some 20 GB, of the stand-in one.
    """
    arrays = _arrays(root)
    # All low bytes, then all high ones: 11 MB for the stand-in. Differences do not help.
    planes = arrays["images"].astype("<i2").view(np.uint8).reshape(-1, 2).T.ravel()
    prepared.write(out, "oar", arrays | {"images": planes})
    return prepared.checksum(arrays)


def check(root: Path | str | None) -> str:
    """Reads every file below `root` and returns what is there, in three lines of text; raises `BadInput` as `load`."""
    arrays = _arrays(root)
    data, twice, test = str(arrays["data"]), arrays["claimed_twice"], len(arrays["test"])
    counts = ", ".join(f"{n} {name}" for n, name in zip(arrays["present"].sum(0).tolist()[1:], CLASSES[data][1:]))
    return (
        f"{data}: {SOURCES[data]}\n"
        f"{len(twice) - test} of {TRAIN} patients for training, {test} of {len(TEST)} for test: {counts}; "
        f"{twice.sum()} voxels claimed twice in {np.count_nonzero(twice)} patients\n"
        f"sha256 {prepared.checksum(arrays)}"
    )


def _body(root: Path | str | None, patient: Patient) -> oar_grid.Body:
    return oar_grid.body_of(f"{root}: {patient.name}", patient.image, patient.spacing)


# ---- from files to arrays ----


# data, names, those of the test set, how one is read
Opened = tuple[str, tuple[str, ...], tuple[str, ...], Callable[[str], Patient]]


def _open(root: Path | str | None) -> Opened:
    """Which data they are, the names of the patients, those of the test set, and a function from name to `Patient`."""
    if root is None:
        raise BadInput(
            NOWHERE, f"the folder that holds pddca/ (from {FROM}) or openkbp/, or a prepared file", "nothing"
        )
    root = Path(root)
    if root.is_file():
        return _open_prepared(root)
    if (root / "pddca").is_dir():
        folders = _pddca(root / "pddca")
        data, test, expected = "pddca", TEST, f"{TRAIN} + {len(TEST)} folders 0522cNNNN (from {FROM})"
        missing = [name for name in TEST if name not in folders]
        if missing or len(folders) != TRAIN + len(TEST):
            found = f"{len(folders)}, of the test set all but {len(missing)}"
            raise BadInput(root / "pddca", expected, found)
    elif (root / "openkbp").is_dir():
        parts = [
            {path.name: path for path in listed(root / "openkbp" / part) if path.is_dir()} for part in ("train", "test")
        ]
        if not all(parts) or set(parts[0]) & set(parts[1]):
            twice = len(set(parts[0]) & set(parts[1]))
            found = f"{len(parts[0])} and {len(parts[1])}, {twice} of the same name"
            raise BadInput(root / "openkbp", "folders of patients, train/ID and test/ID", found)
        data, folders, test = "openkbp-for-pddca", parts[0] | parts[1], tuple(parts[1])
    else:
        raise BadInput(root, f"a folder pddca/ (from {FROM}) or openkbp/ in it", "neither")
    return data, tuple(folders), test, lambda name: oar_files.read(folders[name], CLASSES[data], IGNORED.get(data, ()))


def _pddca(folder: Path) -> dict[str, Path]:
    """The patients in `folder` and in the folders in it, which are those that the parts of PDDCA unpack to."""
    folders: dict[str, Path] = {}
    for path in (path for where in (folder, *listed(folder)) for path in listed(where)):
        if path.match("0522c*") and path.is_dir():
            if path.name in folders:
                raise BadInput(path, "each patient once", f"another in {folders[path.name].parent}")
            folders[path.name] = path
    return dict(sorted(folders.items()))


def _open_prepared(path: Path) -> Opened:
    arrays = prepared.read(path, "oar")
    if set(arrays) != ARRAYS or str(arrays["data"]) not in CLASSES:
        raise BadInput(path, f"arrays {', '.join(sorted(ARRAYS))} (prepare it again)", ", ".join(arrays))
    names = tuple(arrays["patients"].tolist())
    ends = np.cumsum(arrays["shapes"].prod(axis=1))
    planes = arrays["images"].reshape(2, -1)

    def read(name: str) -> Patient:
        i = names.index(name)
        here, shape = slice(ends[i] - arrays["shapes"][i].prod(), ends[i]), arrays["shapes"][i].tolist()
        image = np.ascontiguousarray(planes[:, here].T).view("<i2").astype(np.int16).reshape(shape)
        labels, twice = arrays["labels"][here].reshape(shape), int(arrays["claimed_twice"][i])
        return Patient(name, image, labels.copy(), arrays["present"][i], arrays["spacing"][i], twice)

    return str(arrays["data"]), names, tuple(arrays["test"].tolist()), read


def _arrays(root: Path | str | None) -> dict[str, np.ndarray]:
    """What is kept of all patients; images int16 and labels uint8, all voxels, one patient after the other."""
    data, names, test, read = _open(root)
    patients = [read(name) for name in names]
    return {
        "data": np.array(data),
        "patients": np.array(names),
        "test": np.array(test),
        "present": np.array([p.present for p in patients]),
        "shapes": np.array([p.image.shape for p in patients]),
        "spacing": np.array([p.spacing for p in patients]),
        "claimed_twice": np.array([p.claimed_twice for p in patients]),
        "images": np.concatenate([p.image.ravel() for p in patients]),
        "labels": np.concatenate([p.labels.ravel() for p in patients]),
    }
