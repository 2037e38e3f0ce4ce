"""A prediction for a whole volume out of predictions for windows of it."""

from collections.abc import Callable, Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def sliding_window(
    predict: Callable[[Tensor], Tensor],
    volume: Tensor,
    window: Sequence[int],
    stride: Sequence[int],
    batch_size: int = 4,
) -> Tensor:
    """Volume `(C, Z, Y, X)`, floats -> class probabilities `(classes, Z, Y, X)`, on its device, without gradient.

    predict  batch `(B, C, *window)` -> probabilities `(B, classes, *window)`, B at most `batch_size`
    window   its size; stride: from one window to the next. Voxels, per axis (z, y, x), a stride at most the window

    Along each axis windows start at 0, stride, 2 stride, ..., and the last one ends with the volume. A volume smaller
    than the window is continued behind with its border's values, and cropped back. A voxel's probability is the mean
    over all windows that cover it, with equal weights (choice, as in the authors' later code; their focusnet-v2 sums,
    so that in resampling voxels seen twice count double). Works in 2-D too.

    Raises ValueError in one line for lengths or predictions that do not fit.
    """
    size, window, stride = tuple(volume.shape[1:]), tuple(window), tuple(stride)
    if not len(size) == len(window) == len(stride) or not all(1 <= s <= w for s, w in zip(stride, window)):
        expected = f"{len(size)} lengths each, 1 <= stride <= window"
        raise ValueError(f"sliding window: expected {expected}, found window {window}, stride {stride}")
    missing = [max(w - n, 0) for w, n in zip(window, size)]
    if any(missing):
        volume = F.pad(volume, [p for behind in reversed(missing) for p in (0, behind)], mode="replicate")
    axes = [[*range(0, n - w, s), n - w] for n, w, s in zip(volume.shape[1:], window, stride)]
    windows = [(slice(None), *(slice(a, a + w) for a, w in zip(corner, window))) for corner in product(*axes)]
    mean, count = None, volume.new_zeros(1, *volume.shape[1:])
    for first in range(0, len(windows), batch_size):
        here = windows[first : first + batch_size]
        probabilities = predict(torch.stack([volume[w] for w in here]))
        if probabilities.shape[:1] + probabilities.shape[2:] != (len(here), *window):
            expected = f"({len(here)}, classes, {', '.join(map(str, window))})"
            raise ValueError(f"sliding window: expected predictions {expected}, found {tuple(probabilities.shape)}")
        if mean is None:
            mean = probabilities.new_zeros(probabilities.shape[1], *volume.shape[1:])
        for w, p in zip(here, probabilities):
            count[w] += 1
            mean[w] += (p - mean[w]) / count[w]  # exact where all windows agree, which a sum divided in the end is not
    assert mean is not None
    return mean[(slice(None), *map(slice, size))]
