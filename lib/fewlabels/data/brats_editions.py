"""The editions of BraTS: whose files they are, where they lie and what they are called."""

import re
from collections.abc import Sequence
from pathlib import Path

from fewlabels.data import nifti
from fewlabels.data.half_slices import SEQUENCES as FOUR
from fewlabels.errors import BadInput
from fewlabels.files import listed

FROM = "https://www.med.upenn.edu/sbia/brats2017.html"
COPY = "brats2015-2seq"
GRADES = ("HGG", "LGG")
# What patients' names begin with; how many the training set has, by grade where folders tell it; labels.
EDITIONS = {
    "brats": ("Brats17_", {"HGG": 210, "LGG": 75}, (0, 1, 2, 4)),
    "brats2018": ("Brats18_", {"HGG": 210, "LGG": 75}, (0, 1, 2, 4)),
    "brats2019": ("BraTS19_", {"HGG": 259, "LGG": 76}, (0, 1, 2, 4)),
    "brats2020": ("BraTS20_", {"": 369}, (0, 1, 2, 4)),
    "brats2021": ("BraTS2021_", {"": 1251}, (0, 1, 2, 4)),
    "brats2023": ("BraTS-GLI-", {"": 1251}, (0, 1, 2, 3)),
}
LABELS = {data: labels for data, (_, _, labels) in EDITIONS.items()} | {COPY: (0, 1, 2, 3, 4)}
SEQUENCES = dict.fromkeys(EDITIONS, FOUR) | {COPY: FOUR[:2]}
NAMES_OF_2023 = {"flair": "t2f", "t1ce": "t1c", "t1": "t1n", "t2": "t2w"}


def patients(folder: Path) -> tuple[str, dict[str, str], dict[str, dict[str, Path]]]:
    """Which data lie below `folder`, `{patient: grade or ""}` and `{patient: {sequence, seg, brainmask: path}}`.

    A patient is a folder with NIfTI files, in `folder` itself, in HGG/ and LGG/, or in the folder that an archive
    unpacks to. Raises `BadInput` for those of no known edition or of two, for a patient that is there twice, and for a
    missing file.
    """
    folders = [path for path in _leaves(folder) if path != folder and path.name not in GRADES]
    if not folders:
        expected = f"HGG/ID/ and LGG/ID/ with five files each (from {FROM}), or ID/ as from BraTS 2020 on"
        raise BadInput(folder, expected, "no patient" if folder.is_dir() else "no such folder")
    found: dict[str, Path] = {}
    for path in folders:
        if path.name in found:
            raise BadInput(path, "each patient once", f"another in {found[path.name].parent}")
        found[path.name] = path
    data = _edition(folders)
    grade = {name: path.parent.name if path.parent.name in GRADES else "" for name, path in found.items()}
    return data, grade, {name: _files(path, data) for name, path in found.items()}


def patient_of(name: str) -> str:
    """Whose scan it is: those of 2023 end in a number for each visit, which splits must not tear apart."""
    return re.sub(r"^(BraTS-GLI-\d+)-\d+$", r"\1", name)


def _leaves(folder: Path, depth: int = 4) -> list[Path]:
    """Folders with NIfTI files, and those that have no folder in them."""
    inside = listed(folder)
    folders = [path for path in inside if path.is_dir()]
    if not folders or not depth or any(path.name.endswith((".nii", ".nii.gz")) for path in inside if path.is_file()):
        return [folder]
    return [leaf for path in folders for leaf in _leaves(path, depth - 1)]


def _edition(folders: Sequence[Path]) -> str:
    if any(nifti.find(path, f"{path.name}_brainmask").is_file() for path in folders):
        return COPY
    first: dict[str, Path] = {}
    for path in folders:
        data = [data for data, (prefix, _, _) in EDITIONS.items() if path.name.lower().startswith(prefix.lower())]
        if not data:
            names = ", ".join(prefix + "*" for prefix, _, _ in EDITIONS.values())
            raise BadInput(path, f"a patient of BraTS 2017 to 2023 ({names})", path.name)
        first.setdefault(data[0], path)
        if len(first) > 1:
            raise BadInput(path, f"patients of one edition, like {next(iter(first.values())).name}", path.name)
        if "HGG" in EDITIONS[data[0]][1] and path.parent.name not in GRADES:
            raise BadInput(path, "a folder HGG/ or LGG/ around it, as this edition has them", f"{path.parent.name}/")
    return next(iter(first))


def _files(folder: Path, data: str) -> dict[str, Path]:
    kinds = (*SEQUENCES[data], "seg", *(["brainmask"] if data == COPY else []))
    paths = {}
    for kind in kinds:
        last = f"-{NAMES_OF_2023.get(kind, kind)}" if data == "brats2023" else f"_{kind}"
        paths[kind] = nifti.find(folder, folder.name + last)
    for path in paths.values():
        if not path.is_file():
            others = [other.name for other in listed(folder) if ".nii" in other.name and other not in paths.values()]
            expected = f"files of {', '.join(kinds)} for each patient"
            raise BadInput(path, expected, f"no such file{f', but {others[0]}' if others else ''}")
    return paths
