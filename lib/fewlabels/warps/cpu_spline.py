"""Cubic B-spline coefficients on the CPU, compiled by Numba: `reference.coefficients` and its transpose.

The prefilter is the recursion of Unser et al. (1993) on whole rows instead of a matrix. Coefficients come padded, so
that no tap of a sample is out of bounds.
"""

import math

import numpy as np

from fewlabels.warps.cpu_sampling import jit
from fewlabels.warps.threads import in_parallel

POLE = math.sqrt(3) - 2
HORIZON = 40  # |POLE|^40 = 1e-23: what lies further does not reach the first coefficient
BLOCK = 16  # rows that are filtered side by side along their own direction
BEFORE, BEHIND = 1, 2  # padding: a cubic has taps at -1, 0, 1, 2


def _first(n, dtype):
    """v with `causal[0] = sum_k v[k] sample[k]`, for the mirror boundary; see Unser et al. 1993, part II, eq. 2.8."""
    k = np.arange(n)
    v = POLE**k
    if n <= HORIZON:
        v[1:-1] += POLE ** (2 * n - 2 - k[1:-1])
        v /= 1 - POLE ** (2 * n - 2) if n > 1 else 1
    return v[:HORIZON].astype(dtype)


@jit
def _filter(c, v):
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
def _filter_adjoint(c, v):
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
def _along_axes(c, vs, adjoint):
    """One plane `(d, h, w)`, in place, along every axis longer than 1. (All axes commute, so their order is free.)"""
    d, h, w = c.shape
    for i in range(h):
        _filter_or_adjoint(c[:, i], vs[0], adjoint)
    for k in range(d):
        _filter_or_adjoint(c[k], vs[1], adjoint)
        for i in range(0, h, BLOCK):
            _filter_or_adjoint(c[k, i : i + BLOCK].T, vs[2], adjoint)


@jit
def _filter_or_adjoint(c, v, adjoint):
    if len(c) > 1:
        if adjoint:
            _filter_adjoint(c, v)
        else:
            _filter(c, v)


def _pads(dimensions):
    """Padding of planes `(d, h, w)`, d of a 2-D image being 1 and not an axis."""
    return [(0, 0)] * (3 - dimensions) + [(BEFORE, BEHIND)] * dimensions


def coefficients(x):
    """Samples `(N, C, *size)` -> padded B-spline coefficients `(N, C, *(size + 3))`; NumPy arrays."""
    size, pads = x.shape[2:], _pads(x.ndim - 2)
    padded = np.empty((x.shape[0] * x.shape[1], *[1] * (5 - x.ndim), *[n + 3 for n in size]), x.dtype)
    inner = tuple(slice(a, n - b) for (a, b), n in zip(pads, padded.shape[1:], strict=True))
    planes = x.reshape(len(padded), *[1] * (5 - x.ndim), *size)
    vs = tuple(_first(n, x.dtype) for n in planes.shape[1:])

    def work(start, stop):
        for c, plane in zip(padded[start:stop], planes[start:stop], strict=True):
            c[inner] = plane
            _along_axes(c[inner], vs, False)
            for axis in range(3 - len(size), 3):  # mirrored; behind the last tap that counts, nothing
                c = np.moveaxis(c, axis, 0)
                n = len(c) - 3
                c[0], c[n + 1], c[n + 2] = c[min(2, n)], c[max(n - 1, 1)], 0
                c = np.moveaxis(c, 0, axis)

    in_parallel(work, len(padded))
    return padded.reshape(*x.shape[:2], *[n + 3 for n in size])


def coefficients_adjoint(g, size):
    """The transpose of `coefficients`; overwrites g."""
    padded = g.reshape(g.shape[0] * g.shape[1], *[1] * (5 - g.ndim), *g.shape[2:])
    pads = _pads(g.ndim - 2)
    inner = tuple(slice(a, n - b) for (a, b), n in zip(pads, padded.shape[1:], strict=True))
    vs = tuple(_first(n, g.dtype) for n in padded[0][inner].shape)

    def work(start, stop):
        for c in padded[start:stop]:
            for axis in range(3 - len(size), 3):
                view = np.moveaxis(c, axis, 0)
                n = len(view) - 3
                view[min(2, n)] += view[0]
                view[max(n - 1, 1)] += view[n + 1]
            _along_axes(c[inner], vs, True)

    in_parallel(work, len(padded))
    return np.ascontiguousarray(padded[(slice(None), *inner)]).reshape(*g.shape[:2], *size)
