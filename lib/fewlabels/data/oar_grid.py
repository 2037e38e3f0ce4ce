"""From the native grid of a CT to the one of all patients: where the body is, and what each voxel of the grid takes."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.sparse import csr_array

from fewlabels.data.phantoms.head_neck import HIGH, LOW
from fewlabels.errors import BadInput

TISSUE = -300  # HU: above it is the body, its skin included
CELL = 5.0  # mm: on this grid the body is found
HEAD = 150.0  # mm below the body's upper end: its mean place is the centre of the crop


class Body(NamedTuple):
    """Where the patient is, in mm (z, y, x) from the centre of the file's first voxel: lower and upper faces of the box
    around the body, and its centre in plane (y, x)."""

    low: np.ndarray
    high: np.ndarray
    centre: np.ndarray


def body_of(where: str, image: np.ndarray, mm: np.ndarray) -> Body:
    """The largest connected piece of tissue, from the CT alone, on cells of about 5 mm: what is thinner, masks and the
    table's shells, fades into the air or is opened away; so does what is left of the body in its uppermost slices, and
    the box is a cell higher. The mean place of the uppermost 150 mm is the centre in plane: of the rules tried on the
    stand-in (box, mean, median; of 60 mm to all of the body) it keeps most of the organs."""
    shape = np.array(image.shape)
    cells = np.maximum(1, np.round(shape * mm / CELL)).astype(int)
    cell = shape * mm / cells  # they fill the volume
    grid = zip(shape, mm, cells, cell, (cell - mm) / 2)
    tissue = LOW + resampled(np.clip(image, LOW, HIGH).astype(np.float32) - LOW, [linear(*a) for a in grid])
    pieces, n = ndimage.label(ndimage.binary_opening(tissue > TISSUE, ndimage.generate_binary_structure(2, 1)[None]))
    if not n:
        raise BadInput(where, f"a patient, tissue above {TISSUE} HU", "none")
    places = np.argwhere(pieces == np.bincount(pieces.flat)[1:].argmax() + 1)
    low, high = places.min(0), places.max(0) + 1
    head = places[places[:, 0] >= high[0] - HEAD / cell[0]]
    high[0] += 1
    return Body(low * cell - mm / 2, high * cell - mm / 2, ((head.mean(0) + 0.5) * cell - mm / 2)[1:])


def smallest(bodies: Iterable[Body], spacing: np.ndarray | Sequence[float]) -> tuple[int, ...]:
    """The size of the smallest grid that holds all bodies, hung and centred as `first_voxel` does it."""
    depth = [body.high[0] - body.low[0] for body in bodies]
    half = [np.maximum(body.high[1:] - body.centre, body.centre - body.low[1:]) for body in bodies]
    extent = np.array([max(depth), *(2 * np.max(half, axis=0))])
    return tuple(np.ceil(extent / spacing - 1e-6).astype(int).tolist())


def first_voxel(body: Body, spacing: Sequence[float], size: Sequence[int]) -> tuple[float, float, float]:
    """Where the centre of the grid's first voxel lies, mm."""
    z = body.high[0] - (size[0] - 0.5) * spacing[0]
    y, x = (float(c - (n - 1) / 2 * mm) for c, n, mm in zip(body.centre, size[1:], spacing[1:]))
    return float(z), y, x


def linear(n: int, mm: float, size: int, spacing: float, first: float) -> csr_array:
    """What each of `size` voxels of the grid takes of `n` native ones: triangles, sparse float32 `(size, n)`. Rows sum
    to 1; what lies outside the file takes nothing."""
    at = (first + np.arange(size) * spacing) / mm
    weights = np.clip(1 - np.abs(np.arange(n) - at[:, None]) / max(1, spacing / mm), 0, None)
    weights /= np.maximum(weights.sum(1, keepdims=True), 1e-9)  # at the ends of the file a part of the triangle
    weights[(at < -0.5) | (at > n - 0.5)] = 0
    return csr_array(weights.astype(np.float32))


def areas(n: int, mm: float, size: int, spacing: float, first: float) -> csr_array:
    """How much of each of `size` voxels of the grid lies in each of `n` native ones, sparse float32 `(size, n)`."""
    at, half = (first + np.arange(size)[:, None] * spacing) / mm, spacing / mm / 2
    shared = np.minimum(at + half, np.arange(n) + 0.5) - np.maximum(at - half, np.arange(n) - 0.5)
    return csr_array((np.clip(shared, 0, None) / (2 * half)).astype(np.float32))


def resampled(volume: np.ndarray, weights: Sequence[csr_array]) -> np.ndarray:
    """`volume` multiplied by one matrix along each axis. Native voxels that no weight reaches are left out first."""
    for axis, matrix in enumerate(weights):
        used = np.flatnonzero(np.bincount(matrix.indices, minlength=1))
        if not len(used):
            return np.zeros([m.shape[0] for m in weights], np.float32)
        weights = [*weights[:axis], matrix[:, used[0] : used[-1] + 1], *weights[axis + 1 :]]
        volume = volume[(slice(None),) * axis + (slice(used[0], used[-1] + 1),)]
    for axis, matrix in enumerate(weights):
        lines = np.moveaxis(volume, axis, 0)
        product = matrix @ np.ascontiguousarray(lines).reshape(len(lines), -1)
        volume = np.moveaxis(product.reshape(-1, *lines.shape[1:]), 0, axis)
    return volume


def largest_shares(labels: np.ndarray, areas: Sequence[csr_array], classes: int) -> np.ndarray:
    """The class with the largest share of each voxel of the grid, int64; each is counted where it is only."""
    size = [matrix.shape[0] for matrix in areas]
    background, shares = np.ones(size, np.float32), {}
    for k, box in enumerate(ndimage.find_objects(labels, classes - 1), start=1):
        parts = [matrix[:, along] for matrix, along in zip(areas, box or ())]
        rows = [np.flatnonzero(np.diff(part.indptr)) for part in parts]
        if not parts or not all(map(len, rows)):  # not there, or cut off
            continue
        reached = tuple(slice(r[0], r[-1] + 1) for r in rows)
        mask = (labels[box] == k).astype(np.float32)
        shares[k] = reached, resampled(mask, [part[along] for part, along in zip(parts, reached)])
        background[reached] -= shares[k][1]
    largest, best = np.zeros(size, np.int64), background
    for k, (reached, share) in shares.items():
        wins = share > best[reached] + 1e-5  # of equal ones the first, whatever the rounding
        largest[reached][wins] = k
        best[reached] = np.where(wins, share, best[reached])
    return largest
