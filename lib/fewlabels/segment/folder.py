"""A folder of one's own images and masks, `images/` and `masks/`: which mask belongs to which image, by their names."""

import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from fewlabels.errors import BadInput
from fewlabels.files import files_below, listed

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif")
VOLUMES = (".nii.gz", ".nii", ".nrrd")
DICOM = (".dcm", ".dicom", ".ima")
WORDS = "masks?|seg|segs|segmentations?|labels?|gt|ground_?truth|annotations?"  # what people add to a mask's name
SHOWN = 3  # names in a message


class Case(NamedTuple):
    """name   path below `images/` without its ending, `/` between folders; no two cases have the same
    image  a file, or a folder that holds one DICOM series
    masks  none, one, or one file for each class
    parts  the classes of `masks`, where there is a file for each; the same for all cases that have masks
    """

    name: str
    image: Path
    masks: tuple[Path, ...] = ()
    parts: tuple[str, ...] = ()


class _Found(NamedTuple):
    """A mask's image, and what its name has that the image's has not: folders, and a word behind it."""

    image: str
    folders: tuple[str, ...] = ()
    word: str = ""


def paired(data: Path) -> list[Case]:
    """The images below `data/images` with their masks below `data/masks`, sorted by name.

    A mask has the name of its image, with another ending or not. Where that leads to none, these are passed over:
    upper and lower case; `_mask`, `_seg`, `_label`, `_gt` and the like, before or behind; nnU-Net's `_0000` of an
    image; folders. Where each class has a file of its own, that is in a folder of the class (`masks/heart/01.png`) or
    has its name behind (`masks/01_heart.png`). Files of other endings are warned of, once.

    Raises `BadInput` naming the files: no images or masks, a mask without an image or with two, two images of one name,
    two masks of one image that are not of two classes, classes that not all images with masks have.
    """
    folders = {path.name for path in listed(data) if path.is_dir()}
    for name in ("images", "masks"):
        if name not in folders:
            raise BadInput(data, "folders images and masks", ", ".join(sorted(folders)) or "no folder")
    images, masks = _named(data / "images"), _files(data / "masks")
    if not masks:
        raise BadInput(data / "masks", "masks of some of the images", "none")
    of = _Names(images)
    found: dict[str, list[tuple[Path, _Found]]] = defaultdict(list)
    lost = []
    for name, path in masks:
        if (match := of.image(path, name)) is None:
            lost.append(path)
        else:
            found[match.image].append((path, match))
    if lost:
        names = ", ".join(sorted(images)[:SHOWN])
        raise BadInput(data / "masks", f"masks named as images are ({names}, ...)", _listed(lost, data / "masks"))
    return _cases(data, images, found)


def images_below(folder: Path) -> list[Case]:
    """All images below `folder`, without masks, sorted by name. Raises `BadInput` if there is none."""
    return [Case(name, path) for name, path in sorted(_named(folder).items())]


def _cases(data: Path, images: dict[str, Path], found: dict[str, list[tuple[Path, _Found]]]) -> list[Case]:
    several = any(len(each) > 1 for each in found.values())
    behind = any(match.word for each in found.values() for _, match in each)
    parts: dict[str, dict[str, Path]] = {}
    for name, each in found.items():
        classes = _classes([match for _, match in each])
        if len(set(classes)) < len(classes):
            raise BadInput(images[name], "one mask, or one for each class", _listed((p for p, _ in each), data))
        parts[name] = dict(sorted(zip(classes, (path for path, _ in each))))
    every = sorted({part for each in parts.values() for part in each})
    if several or behind:
        for name, each in parts.items():
            alone = len(each) == 1 and several and not behind
            if lacking := [part for part in every if part not in each]:
                left = "a mask alone" if alone else f"none of {', '.join(map(repr, lacking))}"
                raise BadInput(images[name], f"a mask of each class: {', '.join(filter(None, every))}", left)
    cases = []
    for name, path in sorted(images.items()):
        each = parts.get(name, {})
        cases.append(Case(name, path, tuple(each.values()), tuple(each) if several and each else ()))
    for earlier, later in zip(cases, cases[1:]):
        one, other = (re.fullmatch(r"(.+)(_\d{4})", case.name) for case in (earlier, later))
        if one and other and one[1] == other[1] and earlier.masks and not later.masks:
            if not _plain(_stem(earlier.masks[0].name)).endswith(one[2]):  # the mask is that of both: channels
                raise BadInput(data / "images", "one file an image", f"channels {earlier.name} and {later.name}")
    return cases


def _classes(matches: Sequence[_Found]) -> list[str]:
    """What the names of the masks of one image say of their classes: what is not the same in all."""
    if len(matches) == 1:
        return [matches[0].word]
    same = set.intersection(*(set(match.folders) for match in matches))
    words = [[f for f in match.folders if f not in same] + [match.word] for match in matches]
    return ["/".join(filter(None, each)) for each in words]


class _Names:
    """Images by their names, exactly and less so."""

    def __init__(self, names: Iterable[str]) -> None:
        self.exact = set(names)
        self.lower: dict[str, list[str]] = defaultdict(list)
        self.bare: dict[str, list[str]] = defaultdict(list)  # without folders
        for name in self.exact:
            self.lower[name.lower()].append(name)
            path = PurePosixPath(name)
            for key in {path.name.lower(), _plain(path.name), _image(path.name)}:
                self.bare[key].append(name)

    def image(self, mask: Path, name: str) -> _Found | None:
        """The image of a mask, None if there is none. Raises `BadInput` where there are two."""
        if name in self.exact:
            return _Found(name)
        path = PurePosixPath(name)
        plain, above = _plain(path.name), path.parts[:-1]
        keys = dict.fromkeys([path.name.lower(), plain, _image(plain)])
        full = ["/".join((*above, key)).lower() for key in keys]
        ways = [self.lower.get(key, []) for key in full] + [self.bare.get(key, []) for key in keys]
        for names in filter(None, ways):
            return self.nearest(mask, names, above, "")
        for at in reversed([m.start() for m in re.finditer(r"[-_. ]", plain)]):  # the longest name that is an image's
            if names := self.bare.get(plain[:at]) or self.bare.get(_image(plain[:at])):
                return self.nearest(mask, names, above, plain[at + 1 :])
        return None

    def nearest(self, mask: Path, names: list[str], above: tuple[str, ...], word: str) -> _Found:
        """The one of `names` that has most folders in common with the mask."""
        folders = {name: PurePosixPath(name).parts[:-1] for name in names}
        lowered = [folder.lower() for folder in above]
        fit = {n: sum(f.lower() in lowered for f in each) - len(each) / 1000 for n, each in folders.items()}
        best = [n for n in names if fit[n] == max(fit.values())]
        if len(best) > 1:
            raise BadInput(mask, "one image of its name", _listed(map(Path, sorted(best)), Path()))
        ours = [f.lower() for f in folders[best[0]]]
        return _Found(best[0], tuple(f for f in above if f.lower() not in ours), word)


def _plain(name: str) -> str:
    """A mask's name in small letters, without the words that say that it is one."""
    name = name.lower()
    behind = re.sub(rf"[-_. ]+({WORDS})$", "", name)
    return re.sub(rf"^({WORDS})[-_. ]*(?=.)", "", behind) if behind == name else behind


def _image(name: str) -> str:
    """An image's name in small letters, without nnU-Net's number of its channel, and without `image`."""
    return re.sub(r"^(images?|img)[-_. ]*(?=.)", "", re.sub(r"_0000$", "", name.lower()))


def _stem(name: str) -> str:
    """A file's name without its ending, of which `.nii.gz` is one."""
    ending = next((e for e in (*VOLUMES, *PICTURES) if name.lower().endswith(e)), "")
    return name[: len(name) - len(ending)]


def _named(folder: Path) -> dict[str, Path]:
    """The images below `folder` by their names. Raises `BadInput` if there is none, or two have one name."""
    images: dict[str, Path] = {}
    for name, path in _files(folder):
        if name in images:
            raise BadInput(folder, "one image of a name", _listed((images[name], path), folder))
        images[name] = path
    if not images:
        endings = ", ".join((*PICTURES, *VOLUMES))
        raise BadInput(folder, f"images ({endings}, or a folder for each DICOM series)", "none")
    return images


def _files(folder: Path) -> list[tuple[str, Path]]:
    """What can be read below `folder`, with its name: files by their endings, and folders with DICOM files."""
    files = files_below(folder) if folder.is_dir() else []
    series = {path.parent for path in files if _is_dicom(path)}
    if folder in series:
        raise BadInput(folder, "a folder for each DICOM series", "DICOM files of none")
    others = [path for path in files if path.parent not in series]
    known = [path for path in others if path.name.lower().endswith((*VOLUMES, *PICTURES))]
    if left := [path for path in others if path not in set(known)]:
        warnings.warn(f"{folder}: left out, of another kind: {_listed(left, folder)}", stacklevel=3)
    named = [(path.relative_to(folder).with_name(_stem(path.name)).as_posix(), path) for path in known]
    return sorted(named + [(path.relative_to(folder).as_posix(), path) for path in series])


def _is_dicom(path: Path) -> bool:
    if path.suffix.lower() in DICOM:
        return True
    if path.suffix and not path.suffix[1:].isdigit():  # a UID's last number is no ending
        return False
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _listed(paths: Iterable[Path], below: Path) -> str:
    """Some of the paths for a message, and how many more there are."""
    every = [str(path.relative_to(below)) for path in paths]
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more
