"""From the native grid of a slice to the 224 x 224 pixels of 1.36719 mm (Chaitanya et al. 2019), and to fewer."""

import numpy as np
from scipy.sparse import csr_array

from fewlabels.data.phantoms.heart import GRID


def extent_of(n: int, scale: float) -> tuple[int, int]:
    """How many pixels `n` native ones become at 1.36719 mm, and which of them is the first of the 224."""
    extent = max(1, round(n * scale))
    return extent, (extent - GRID) // 2 if extent > GRID else -((GRID - extent) // 2)


def areas(size: int, field: int = GRID) -> csr_array:
    """How much of each pixel of the 224-grid lies in each of the `size` that its middle `field` is divided into.

    Sparse `(size, 224)`, rows sum to field / size.
    """
    pixel, edges = np.arange(GRID), (GRID - field) / 2 + np.arange(size + 1) * field / size
    shared = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return csr_array(np.clip(shared, 0, None))


def linear(n: int, scale: float) -> csr_array:
    """What each pixel of the 224-grid takes of `n` native ones by linear interpolation, `(224, n)`; sparse.

    Where interpolation reaches beyond the first or last native pixel it finds zeros, as in scikit-image's `constant`.
    """
    extent, first = extent_of(n, scale)
    pixel = np.arange(GRID)
    at = (pixel + first + 0.5) * n / extent - 0.5
    weights = np.clip(1 - np.abs(at[:, None] - np.arange(n)), 0, 1)
    weights[(pixel + first < 0) | (pixel + first >= extent)] = 0  # padding
    return csr_array(weights)  # sparse: the same bits on any BLAS


def nearest(n: int, scale: float) -> np.ndarray:
    """Which native pixel holds the centre of each of the 224-grid's, int `(224,)`; -1: none of the `n`."""
    extent, first = extent_of(n, scale)
    index = np.floor((np.arange(GRID) + 0.5 + first) * n / extent).astype(int)
    return np.where((index >= 0) & (index < n), index, -1)
