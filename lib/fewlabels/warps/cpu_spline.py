"""Cubic B-spline coefficients on the CPU, compiled by Numba: `reference.coefficients` and its transpose.

The prefilter is the recursion of Unser et al. (1993) on whole rows instead of a matrix. Coefficients come padded, so
that no tap of a sample is out of bounds.
"""

import math
from collections.abc import Sequence

import numpy as np

from fewlabels.warps.cpu_sampling import jit
from fewlabels.warps.threads import in_parallel

POLE = math.sqrt(3) - 2
HORIZON = 40  # |POLE|^40 = 1e-23: what lies further does not reach the first coefficient
BLOCK = 16  # rows that are filtered side by side along their own direction
BEFORE, BEHIND = 1, 2  # padding: a cubic has taps at -1, 0, 1, 2


def _first(n: int, dtype: np.dtype) -> np.ndarray:
    """v with `causal[0] = sum_k v[k] sample[k]`, for the mirror boundary; see Unser et al. 1993, part II, eq. 2.8."""
    k = np.arange(n)
    v = POLE**k
    if n <= HORIZON:
        v[1:-1] += POLE ** (2 * n - 2 - k[1:-1])
        v /= 1 - POLE ** (2 * n - 2) if n > 1 else 1
    return v[:HORIZON].astype(dtype)


@jit
def _filter(c: np.ndarray, v: np.ndarray) -> None:
    """Samples -> coefficients along axis 0 of `(n, m)`, in place."""
    n, m = c.shape
    z, gain, end = c.dtype.type(POLE), c.dtype.type(6), c.dtype.type(POLE / (POLE * POLE - 1))
    for j in range(m):
        c[0, j] *= v[0]
    for k in range(1, len(v)):
        for j in range(m):
            c[0, j] += v[k] * c[k, j]
    for j in range(m):
        c[0, j] *= gain
    for i in range(1, n):
        for j in range(m):
            c[i, j] = gain * c[i, j] + z * c[i - 1, j]
    for j in range(m):
        c[n - 1, j] = end * (c[n - 1, j] + z * c[n - 2, j])
    for i in range(n - 2, -1, -1):
        for j in range(m):
            c[i, j] = z * (c[i + 1, j] - c[i, j])


@jit
def _filter_adjoint(c: np.ndarray, v: np.ndarray) -> None:
    """The transpose of `_filter`: its steps backwards, each transposed."""
    n, m = c.shape
    z, gain, end = c.dtype.type(POLE), c.dtype.type(6), c.dtype.type(POLE / (POLE * POLE - 1))
    for i in range(n - 1):
        for j in range(m):
            c[i + 1, j] += z * c[i, j]
            c[i, j] *= -z
    for j in range(m):
        c[n - 2, j] += end * z * c[n - 1, j]
        c[n - 1, j] *= end
    for i in range(n - 1, 0, -1):
        for j in range(m):
            c[i - 1, j] += z * c[i, j]
            c[i, j] *= gain
    for j in range(m):
        c[0, j] *= gain
    for k in range(len(v) - 1, -1, -1):
        for j in range(m):
            c[k, j] = v[k] * c[0, j] + (c[k, j] if k else 0)


@jit
def _along_axes(c: np.ndarray, vs: tuple[np.ndarray, ...], adjoint: bool) -> None:
    """One plane `(d, h, w)`, in place, along every axis longer than 1. (All axes commute, so their order is free.)"""
    d, h, w = c.shape
    for i in range(h):
        _filter_or_adjoint(c[:, i], vs[0], adjoint)
    for k in range(d):
        _filter_or_adjoint(c[k], vs[1], adjoint)
        for i in range(0, h, BLOCK):
            _filter_or_adjoint(c[k, i : i + BLOCK].T, vs[2], adjoint)


@jit
def _filter_or_adjoint(c: np.ndarray, v: np.ndarray, adjoint: bool) -> None:
    if len(c) > 1:
        if adjoint:
            _filter_adjoint(c, v)
        else:
            _filter(c, v)


@jit
def _mirror(c: np.ndarray) -> None:
    """Fills the padding along axis 0: mirrored, and nothing behind the last tap that counts."""
    n = len(c) - BEFORE - BEHIND
    c[0], c[n + 1], c[n + 2] = c[min(2, n)], c[max(n - 1, 1)], 0


@jit
def _mirror_adjoint(c: np.ndarray) -> None:
    n = len(c) - BEFORE - BEHIND
    c[min(2, n)] += c[0]
    c[max(n - 1, 1)] += c[n + 1]


@jit
def _filter_planes(padded: np.ndarray, planes: np.ndarray, vs: tuple[np.ndarray, ...], start: int, stop: int) -> None:
    for p in range(start, stop):
        c, inner = padded[p], _inner(padded[p], planes.shape[1])
        inner[:] = planes[p]
        _along_axes(inner, vs, False)
        if len(c) > len(inner):
            _mirror(c)
        _mirror(c.transpose(1, 0, 2))
        _mirror(c.transpose(2, 0, 1))


@jit
def _filter_planes_adjoint(
    padded: np.ndarray, planes: np.ndarray, vs: tuple[np.ndarray, ...], start: int, stop: int
) -> None:
    for p in range(start, stop):
        c, inner = padded[p], _inner(padded[p], planes.shape[1])
        if len(c) > len(inner):
            _mirror_adjoint(c)
        _mirror_adjoint(c.transpose(1, 0, 2))
        _mirror_adjoint(c.transpose(2, 0, 1))
        _along_axes(inner, vs, True)
        planes[p] = inner


@jit
def _inner(c: np.ndarray, depth: int) -> np.ndarray:
    """A plane without its padding; d of a 2-D image, 1, is no axis and has none."""
    inner = c[:, BEFORE : c.shape[1] - BEHIND, BEFORE : c.shape[2] - BEHIND]
    return inner if len(c) == depth else inner[BEFORE : len(c) - BEHIND]


def coefficients(x: np.ndarray) -> np.ndarray:
    """Samples `(N, C, *size)` -> padded B-spline coefficients `(N, C, *(size + 3))`; NumPy arrays."""
    planes = _planes(x)
    padded = np.empty((*x.shape[:2], *[n + BEFORE + BEHIND for n in x.shape[2:]]), x.dtype)
    vs = tuple(_first(n, x.dtype) for n in planes.shape[1:])
    in_parallel(lambda a, b: _filter_planes(_planes(padded), planes, vs, a, b), len(planes), planes.size)
    return padded


def coefficients_adjoint(g: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """The transpose of `coefficients`; overwrites g."""
    out = np.empty((*g.shape[:2], *size), g.dtype)
    planes = _planes(out)
    vs = tuple(_first(n, g.dtype) for n in planes.shape[1:])
    in_parallel(lambda a, b: _filter_planes_adjoint(_planes(g), planes, vs, a, b), len(planes), planes.size)
    return out


def _planes(x: np.ndarray) -> np.ndarray:
    """`(N, C, *size)` as `(planes, d, h, w)`, d of a 2-D image being 1."""
    return x.reshape(x.shape[0] * x.shape[1], *[1] * (5 - x.ndim), *x.shape[2:])
