"""What the numbers and colours in masks mean: classes, by classes.yaml or by what is seen; there and back."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from fewlabels.errors import BadInput
from fewlabels.segment.classes import Value, read_classes
from fewlabels.segment.values import deep, seen, totals, unique, word

BACKGROUNDS = ("background", "bg", "backgr")


class Labels(NamedTuple):
    """names   the classes; the first is the background
    values  of each class what is stored: a number, or red, green and blue
    ignore  what is stored where nobody decided, None if that is nowhere
    kind    "values", "colours", or "files": one file for each class but the background
    """

    names: tuple[str, ...]
    values: tuple[Value, ...]
    ignore: Value | None
    kind: str


def decide(
    masks: Mapping[str, Sequence[np.ndarray]], given: Path | None, parts: Sequence[str] = ()
) -> tuple[Labels, list[str]]:
    """The classes of masks, and notes of what was decided. `masks`: by case the arrays of `pictures.read_mask`, several
    where each class has a file of its own, whose names are `parts`.

    `given`: classes.yaml, or None. It says `{names: {0: background, 255: tumour}, ignore: 127}`, or only the names;
    colours are "#ff0000". Without it each value is a class; values that lie on the edges of others only, of smoothing
    or JPEG, are taken for the nearest value of a class. The background is 0 or black, where it is there, else what is
    most frequent. Raises `BadInput` if masks have one value, more than `MOST`, or one that `given` does not name.
    """
    named, ignore = read_classes(given) if given is not None and given.is_file() else ({}, None)
    if parts or any(len(each) > 1 for each in masks.values()):
        return _files(masks, named, ignore, given, parts)
    arrays = {name: each[0] for name, each in masks.items()}
    colours = any(array.ndim == 4 for array in arrays.values())
    counts = totals(arrays, colours)
    notes: list[str] = []
    if named:
        present = _named(arrays, counts, named, ignore, given, notes)
    else:
        present = seen({name: deep(array, colours) for name, array in arrays.items()}, counts, notes)
    if len(present) < 2:
        found = f"only {word(present[0])}" if present else "none"
        raise BadInput("masks", "at least two values, the background's and a class's", found)
    black: Value = (0, 0, 0) if colours else 0
    first = next((v for v in present if named.get(v, "").lower() in BACKGROUNDS), black)
    if first not in present:
        first = max(present, key=lambda value: counts.get(value, 0))
        notes.append(f"{word(first)} is the most frequent value, and taken for the background")
    values = (first, *(value for value in present if value != first))
    names = tuple(named.get(v) or ("background" if v == first else word(v)) for v in values)
    return Labels(names, values, ignore, "colours" if colours else "values"), notes


def encode(raw: Sequence[np.ndarray], labels: Labels) -> np.ndarray:
    """The classes of a case's masks, int64 `(Z, H, W)`: 0 to classes - 1, and -1 where nobody decided.

    A value that is no class's becomes the nearest one; among more than two classes, that of the nearest pixel which has
    the value of one, as between 0 and 2 there need be no 1.
    """
    if labels.kind == "files":
        classes = np.zeros(raw[0].shape[:3], np.int64)
        for at, array in enumerate(raw):
            classes[_drawn(array)] = at + 1
        if labels.ignore is not None:
            classes[np.any([(deep(a, False) == labels.ignore).all(-1) for a in raw], axis=0)] = -1
        return classes
    array = deep(raw[0], labels.kind == "colours")
    known = np.array([*labels.values, *([] if labels.ignore is None else [labels.ignore])], dtype=float)
    known = known.reshape(len(known), -1)
    values, inverse = unique(array)
    distances = np.linalg.norm(values[:, None] - known, axis=2)
    nearest = distances.argmin(1)
    classes = nearest[inverse]
    if len(known) > 2:
        gap = np.linalg.norm(known[:, None] - known, axis=2)[np.triu_indices(len(known), 1)].min()
        between = (distances.min(1) > gap / 4)[inverse]
        for z in np.flatnonzero(between.any((1, 2)) & ~between.all((1, 2))):
            y, x = ndimage.distance_transform_edt(between[z], return_distances=False, return_indices=True)
            classes[z] = classes[z][y, x]
    return np.where(classes == len(labels.values), -1, classes).astype(np.int64)


def decode(classes: np.ndarray, labels: Labels) -> np.ndarray:
    """What is stored for classes `(Z, H, W)`: numbers in the smallest type that holds them, mostly uint8, or colours
    `(Z, H, W, 3)`; -1 becomes the value of what is ignored, or of the background where there is none."""
    stored = [*labels.values, labels.values[0] if labels.ignore is None else labels.ignore]
    table = np.array(stored)  # the last is that of -1
    if table.dtype.kind == "f":
        return table.astype(np.float32)[classes]
    kinds = (np.uint8, np.uint16, np.int16, np.int32)
    kind = next((k for k in kinds if np.iinfo(k).min <= table.min() and table.max() <= np.iinfo(k).max), np.int64)
    return table.astype(kind)[classes]


def _files(
    masks: Mapping[str, Sequence[np.ndarray]],
    named: dict[Value, str],
    ignore: Value | None,
    given: Path | None,
    parts: Sequence[str],
) -> tuple[Labels, list[str]]:
    """Classes that have a file each: numbered in their order, or as classes.yaml says by their names."""
    count = max(map(len, masks.values()))
    parts = parts or [f"class {at}" for at in range(1, count + 1)]
    names, values = ("background", *parts), tuple(range(count + 1))
    if named:
        numbers = {name.lower(): value for value, name in named.items()}
        back = next((name for name in numbers if name in BACKGROUNDS), named.get(0, "").lower())
        if {*numbers} - {back} != {part.lower() for part in parts} or any(isinstance(v, tuple) for v in named):
            raise BadInput(given, f"numbers of {', '.join(parts)}", ", ".join(named.values()))
        values = (numbers.get(back, 0), *(numbers[part.lower()] for part in parts))
        names = (named.get(values[0], "background"), *parts)
    both = {
        name: n
        for name, each in masks.items()
        if (n := np.count_nonzero(np.sum([_drawn(array) for array in each], axis=0) > 1))
    }
    notes = [
        "each class has its own file; the masks that are written have the numbers "
        + ", ".join(f"{value} {name}" for value, name in zip(values, names))
    ]
    if both:
        worst = max(both, key=lambda name: both[name])
        notes.append(
            f"files of two classes overlap in {len(both)} of {len(masks)} images, most in {worst} ({both[worst]} "
            f"pixels): the later of {', '.join(names[1:])} is taken"
        )
    if empty := [names[i + 1] for i in range(count) if not any(_drawn(each[i]).any() for each in masks.values())]:
        notes.append(f"no mask has {', '.join(empty)}")
    if len(empty) == count:
        raise BadInput("masks", "something drawn", "files of one value")
    return Labels(names, values, ignore, "files"), notes


def _drawn(array: np.ndarray) -> np.ndarray:
    """Where a class's own file has it, `(Z, H, W)`: more than half of its highest value."""
    grey = array.max(-1) if array.ndim == 4 else array
    return grey > max(grey.max() / 2, 0)


def _named(
    arrays: Mapping[str, np.ndarray],
    counts: dict[Value, int],
    named: dict[Value, str],
    ignore: Value | None,
    given: Path | None,
    notes: list[str],
) -> list[Value]:
    """The values of classes.yaml that masks have, in its order."""
    known = [*named, *([] if ignore is None else [ignore])]
    wrong = [v for v in known if isinstance(v, tuple) != any(isinstance(c, tuple) for c in counts)]
    if wrong:
        kind = "numbers" if isinstance(wrong[0], tuple) else 'colours, as "#ff0000"'
        raise BadInput(given, f"{kind}, as the masks have", word(wrong[0]))
    other = {value: n for value, n in counts.items() if value not in known}
    share = sum(other.values()) / sum(counts.values())
    if other and (share > 0.1 or len(counts) <= len(known) + 2):
        value = max(other, key=lambda v: other[v])
        name = next(n for n, a in arrays.items() if (deep(a, isinstance(value, tuple)) == value).all(-1).any())
        raise BadInput(given, "a name for each value of the masks", f"none for {word(value)} in {name}")
    if other:
        notes.append(f"{100 * share:.2g} % of the pixels have values that {given} does not name: the nearest is taken")
    if missing := [name for value, name in named.items() if value not in counts]:
        notes.append(f"no mask has {', '.join(missing)}")
    return [value for value in named if value in counts]
