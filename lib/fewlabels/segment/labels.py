"""What the numbers and colours in masks mean: classes, by classes.yaml or by what is seen; there and back."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from fewlabels.errors import BadInput
from fewlabels.segment.classes import Value, read_classes

MOST = 32  # classes; what has more are instances, or no labels
INDEX = 31  # values of 0 to this are numbers of classes: nothing lies between two of them
NOISE = 1 / 32  # of the values' range, around a class's value: JPEG's
FEWEST = 9  # pixels inside of a class, for a value of a noisy mask to be one
INSIDE = 0.1  # of the pixels of a class, at least, have it all around them, unless it is thin
ALONE = 0.9  # of a value's pixels that lie between a lower and a higher one: it is drawn on edges only
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
        return _files(masks, named, ignore, parts)
    arrays = {name: each[0] for name, each in masks.items()}
    colours = any(array.ndim == 4 for array in arrays.values())
    counts = _counts(arrays, colours)
    notes: list[str] = []
    if named:
        present = _named(arrays, counts, named, ignore, given, notes)
    else:
        present = _seen({name: _deep(array, colours) for name, array in arrays.items()}, counts, notes)
    if len(present) < 2:
        found = f"only {_word(present[0])}" if present else "none"
        raise BadInput("masks", "at least two values, the background's and a class's", found)
    black: Value = (0, 0, 0) if colours else 0
    first = next((v for v in present if named.get(v, "").lower() in BACKGROUNDS), black)
    if first not in present:
        first = max(present, key=lambda value: counts.get(value, 0))
        notes.append(f"{_word(first)} is the most frequent value, and taken for the background")
    values = (first, *(value for value in present if value != first))
    names = tuple(named.get(v) or ("background" if v == first else _word(v)) for v in values)
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
        return classes
    array = _deep(raw[0], labels.kind == "colours")
    known = np.array([*labels.values, *([] if labels.ignore is None else [labels.ignore])], dtype=float)
    known = known.reshape(len(known), -1)
    values, inverse = _unique(array)
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
    masks: Mapping[str, Sequence[np.ndarray]], named: dict[Value, str], ignore: Value | None, parts: Sequence[str]
) -> tuple[Labels, list[str]]:
    count = max(map(len, masks.values()))
    if given := [named.get(at + 1) for at in range(count)] if named else []:
        parts = [name or part for name, part in zip(given, parts or map(str, range(1, count + 1)))]
    names = ("background", *(parts or (f"class {at}" for at in range(1, count + 1))))
    both = {
        name: n
        for name, each in masks.items()
        if (n := np.count_nonzero(np.sum([_drawn(array) for array in each], axis=0) > 1))
    }
    notes = [f"each class has its own file; the masks that are written have the numbers {_numbers(names)}"]
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
    return Labels(names, tuple(range(count + 1)), None, "files"), notes


def _numbers(names: Sequence[str]) -> str:
    return ", ".join(f"{at} {name}" for at, name in enumerate(names))


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
        raise BadInput(given, f"{kind}, as the masks have", _word(wrong[0]))
    other = {value: n for value, n in counts.items() if value not in known}
    share = sum(other.values()) / sum(counts.values())
    if other and (share > 0.1 or len(counts) <= len(known) + 2):
        value = max(other, key=lambda v: other[v])
        name = next(n for n, a in arrays.items() if (_deep(a, isinstance(value, tuple)) == value).all(-1).any())
        raise BadInput(given, "a name for each value of the masks", f"none for {_word(value)} in {name}")
    if other:
        notes.append(f"{100 * share:.2g} % of the pixels have values that {given} does not name: the nearest is taken")
    if missing := [name for value, name in named.items() if value not in counts]:
        notes.append(f"no mask has {', '.join(missing)}")
    return [value for value in named if value in counts]


def _seen(arrays: Mapping[str, np.ndarray], counts: dict[Value, int], notes: list[str]) -> list[Value]:
    """The values of classes, without those of smoothed edges and of JPEG's noise. Arrays: `(Z, H, W, 1 or 3)`."""
    values = sorted(counts)
    table = np.array(values, dtype=float).reshape(len(values), -1)
    if len(values) <= 2:
        return values
    if table.shape[1] == 1:
        whole = (table == np.round(table)).all()
        if not whole and table.min() >= 0 and table.max() <= 1:
            notes.append("masks of 0 to 1: what is at least 0.5 is the class")
            return [0, 1]
        numbers = values[:-1] if len(values) > 3 and table[-2] <= INDEX < table[-1] else values
        if whole and 0 <= table.min() and numbers[-1] <= INDEX:  # type: ignore[operator]
            if len(numbers) < len(values):
                notes.append(f"{values[-1]} is taken for a class; if nobody decided there, classes.yaml says `ignore`")
            return values
    flat = _flat(arrays)
    if len(flat) > MOST:
        raise BadInput("masks", f"at most {MOST} classes", f"{len(flat)} values; are they instances, or images?")
    order = sorted(values, key=lambda v: (flat.get(v, 0), counts[v]), reverse=True)
    reach = NOISE * float(np.ptp(table, axis=0).max())
    if len(values) <= MOST:
        thick = [v for v in values if flat.get(v, 0) >= INSIDE * counts[v]]
        noisy = 2 * len(thick) <= len(values)
        near = [v for v in values if noisy and v not in thick and any(_apart(v, other) <= reach for other in thick)]
        kept = [v for v in values if v in thick or not (v in near or _between(arrays, v, thick, reach))]
    else:
        kept = []
        for value in order:
            if flat.get(value, 0) >= FEWEST and all(_apart(value, other) > reach for other in kept):
                kept.append(value)
        if len(kept) < 2:  # thin structures have no inside
            kept = [order[0], max(values, key=lambda v: _apart(v, order[0]))]
    if len(kept) < len(values):
        others = [v for v in values if v not in kept]
        some = ", ".join(map(_word, others[:4])) + (", ..." if len(others) > 4 else "")
        share = 100 * sum(counts[v] for v in others) / sum(counts.values())
        notes.append(
            f"{len(others)} values ({some}; {share:.2g} % of the pixels) lie on edges or are noise: taken for the "
            f"nearest of {', '.join(map(_word, sorted(kept)))}. If they are classes, name them in classes.yaml"
        )
    return sorted(kept)


def _flat(arrays: Mapping[str, np.ndarray]) -> dict[Value, int]:
    """How many pixels of each value have it in all their eight neighbours."""
    counts: dict[Value, int] = {}
    for array in arrays.values():
        size = (1, 3, 3, 1)
        same = (ndimage.minimum_filter(array, size) == ndimage.maximum_filter(array, size)).all(-1)
        for value, n in _tally(array[same][None, None]).items():
            counts[value] = counts.get(value, 0) + n
    return counts


def _between(arrays: Mapping[str, np.ndarray], value: Value, others: Sequence[Value], reach: float) -> bool:
    """Whether a value lies between two of `others`, and its pixels on the edges of these."""
    for pair in combinations(others, 2):
        at, a, b = (np.array(v, dtype=float).reshape(-1) for v in (value, *pair))
        t = float((at - a) @ (b - a) / ((b - a) @ (b - a)))
        if 0 < t < 1 and np.linalg.norm(a + t * (b - a) - at) <= reach:
            return _on_edges(arrays, at, a, b)
    return False


def _on_edges(arrays: Mapping[str, np.ndarray], value: np.ndarray, a: np.ndarray, b: np.ndarray) -> bool:
    """Whether the pixels of `value` have neighbours on both sides of it, on the way from `a` to `b`."""
    at, between, every = float((value - a) @ (b - a)), 0, 0
    for array in arrays.values():
        if (here := (array == value).all(-1)).any():
            along = (array - a) @ (b - a)
            low, high = (f(along, (1, 3, 3))[here] for f in (ndimage.minimum_filter, ndimage.maximum_filter))
            between, every = between + int(((low < at) & (at < high)).sum()), every + int(here.sum())
    return between >= ALONE * every


def _apart(a: Value, b: Value) -> float:
    return float(np.linalg.norm(np.subtract(a, b)))


def _deep(array: np.ndarray, colours: bool) -> np.ndarray:
    """`(Z, H, W, 3)` of colours, grey ones too, or `(Z, H, W, 1)` of values."""
    if array.ndim == 4:
        return array
    return np.repeat(array[..., None], 3 if colours else 1, axis=-1)


def _unique(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values `(n, 1 or 3)` of an array `(Z, H, W, 1 or 3)`, and which of them each pixel has, `(Z, H, W)`."""
    if array.shape[-1] == 1:
        values, inverse = np.unique(array[..., 0], return_inverse=True)
        return values[:, None].astype(float), inverse.reshape(array.shape[:-1])
    packed, inverse = np.unique(array.astype(np.int64) @ (1 << 32, 1 << 16, 1), return_inverse=True)
    values = np.stack([packed >> 32, packed >> 16 & 65535, packed & 65535], axis=-1)
    return values.astype(float), inverse.reshape(array.shape[:-1])


def _tally(array: np.ndarray) -> dict[Value, int]:
    """How many pixels have each value, of an array `(..., 1 or 3)`."""
    values, inverse = _unique(array)
    counts = np.bincount(inverse.ravel(), minlength=len(values))
    return {_value(value): int(n) for value, n in zip(values, counts)}


def _counts(arrays: Mapping[str, np.ndarray], colours: bool) -> dict[Value, int]:
    counts: dict[Value, int] = {}
    for array in arrays.values():
        for value, n in _tally(_deep(array, colours)).items():
            counts[value] = counts.get(value, 0) + n
    return counts


def _value(row: np.ndarray) -> Value:
    if len(row) > 1:
        return tuple(int(each) for each in row)
    return int(row[0]) if row[0] == int(row[0]) else float(row[0])


def _word(value: Value) -> str:
    return "#" + "".join(f"{each:02x}" for each in value) if isinstance(value, tuple) else f"{value:g}"
