"""The values in masks: how many pixels have each, and which of them are those of classes, not of edges and noise."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from scipy import ndimage

from fewlabels.errors import BadInput
from fewlabels.segment.classes import Value

MOST = 32  # classes; what has more are instances, or no labels
INDEX = 31  # values of 0 to this are numbers of classes: nothing lies between two of them
NOISE = 1 / 32  # of the values' range, around a class's value: JPEG's
RINGING, RARE = 4, 50  # times as far as that are values which are as much rarer than that of a class
SEVERAL = 8  # values, of which most have no inside: noise
UNSURE = 0.25  # of all pixels, at most, have none of the classes' values
FEWEST = 9  # pixels inside of a class, for a value of a noisy mask to be one
INSIDE = 0.1  # of the pixels of a class, at least, have it all around them, unless it is thin
ALONE = 0.9  # of a value's pixels that lie between a lower and a higher one: it is drawn on edges only


def seen(arrays: Mapping[str, np.ndarray], counts: dict[Value, int], notes: list[str]) -> list[Value]:
    """The values of classes, without those of smoothed edges and of JPEG's noise. Arrays: `(Z, H, W, 1 or 3)`."""
    values = sorted(counts)
    table = np.array(values, dtype=float).reshape(len(values), -1)
    if len(values) <= 2:
        return values
    if table.shape[1] == 1:
        whole = (table == np.round(table)).all()
        if not whole and table.min() >= 0 and table.max() <= 1:
            notes.append("masks of 0 to 1: what is above 0.5 is the class")
            return [0, 1]
        numbers = values[:-1] if len(values) > 3 and table[-2] <= INDEX < table[-1] else values
        if whole and 0 <= table.min() and numbers[-1] <= INDEX:  # type: ignore[operator]
            if len(numbers) < len(values):
                notes.append(f"{values[-1]} is taken for a class; if nobody decided there, classes.yaml says `ignore`")
            return values
    flat = _flat(arrays)
    thick = [v for v in values if flat.get(v, 0) >= INSIDE * counts[v]]
    if len(thick) > MOST:
        raise BadInput("masks", f"at most {MOST} classes", f"{len(thick)} values; are they instances, or images?")
    reach, thin = NOISE * float(np.ptp(table, axis=0).max()), len(values) - len(thick)
    if len(values) > MOST or (len(values) >= SEVERAL and thin > len(thick)):
        kept = _peaks(counts, flat, reach)
    else:
        noisy = thin >= len(thick)
        near = [v for v in values if noisy and v not in thick and any(_apart(v, other) <= reach for other in thick)]
        kept = [v for v in values if v in thick or not (v in near or _between(arrays, v, thick, reach))]
    if len(kept) < len(values):
        others = [v for v in values if v not in kept]
        some = ", ".join(map(word, others[:4])) + (", ..." if len(others) > 4 else "")
        share = sum(counts[v] for v in others) / sum(counts.values())
        if share > UNSURE:
            found = f"{len(values)} values, {100 * share:.0f} % of the pixels of no class; are they images?"
            raise BadInput("masks", f"at most {MOST} classes", found)
        notes.append(
            f"{len(others)} values ({some}; {100 * share:.2g} % of the pixels) lie on edges or are noise: taken for "
            f"the nearest of {', '.join(map(word, sorted(kept)))}. If they are classes, name them in classes.yaml"
        )
    return sorted(kept)


def _peaks(counts: dict[Value, int], flat: dict[Value, int], reach: float) -> list[Value]:
    """The values of classes in JPEG's noise: those with an inside, but not what is near to a more frequent one, nor
    what is rare and not far from one."""
    kept: list[Value] = []
    order = sorted(counts, key=lambda v: (flat.get(v, 0), counts[v]), reverse=True)
    for value in order:
        often = [w for w in kept if counts[w] > RARE * counts[value]]
        near = any(_apart(value, w) <= (RINGING * reach if w in often else reach) for w in kept)
        if flat.get(value, 0) >= FEWEST and not near:
            kept.append(value)
    if len(kept) < 2:  # thin structures have no inside
        kept = [order[0], max(counts, key=lambda v: _apart(v, order[0]))]
    return kept


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


def deep(array: np.ndarray, colours: bool) -> np.ndarray:
    """`(Z, H, W, 3)` of colours, grey ones too, or `(Z, H, W, 1)` of values."""
    if array.ndim == 4:
        return array
    return np.repeat(array[..., None], 3 if colours else 1, axis=-1)


def unique(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values `(n, 1 or 3)` of an array `(Z, H, W, 1 or 3)`, and which of them each pixel has, `(Z, H, W)`."""
    if array.shape[-1] == 1:
        values, inverse = np.unique(array[..., 0], return_inverse=True)
        return values[:, None].astype(float), inverse.reshape(array.shape[:-1])
    packed, inverse = np.unique(array.astype(np.int64) @ (1 << 32, 1 << 16, 1), return_inverse=True)
    values = np.stack([packed >> 32, packed >> 16 & 65535, packed & 65535], axis=-1)
    return values.astype(float), inverse.reshape(array.shape[:-1])


def _tally(array: np.ndarray) -> dict[Value, int]:
    """How many pixels have each value, of an array `(..., 1 or 3)`."""
    values, inverse = unique(array)
    counts = np.bincount(inverse.ravel(), minlength=len(values))
    return {_value(value): int(n) for value, n in zip(values, counts)}


def totals(arrays: Mapping[str, np.ndarray], colours: bool) -> dict[Value, int]:
    """How many pixels of all masks have each value, or colour."""
    counts: dict[Value, int] = {}
    for array in arrays.values():
        for value, n in _tally(deep(array, colours)).items():
            counts[value] = counts.get(value, 0) + n
    return counts


def _value(row: np.ndarray) -> Value:
    if len(row) > 1:
        return tuple(int(each) for each in row)
    return int(row[0]) if row[0] == int(row[0]) else float(row[0])


def word(value: Value) -> str:
    return "#" + "".join(f"{each:02x}" for each in value) if isinstance(value, tuple) else f"{value:g}"
