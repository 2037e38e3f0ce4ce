"""From files to what networks see, and back: grey values in [0, 1], slices, one working size for all."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels.segment.augment import IGNORED
from fewlabels.segment.pictures import Picture

AIR, LOW, HIGH = -500, 0.5, 99.5  # below it a volume's values are Hounsfield units; percentiles
MULTIPLE = 32  # of the networks' sides
FAITHFUL = 0.97  # Dice of masks that were made small and large again, from which on a working size will do
SIDES = (128, 192, 256, 384, 512, 768, 1024)


class Grey(NamedTuple):
    """How grey values become [0, 1]: by a window that is one for all, or by each image's percentiles (None)."""

    window: tuple[float, float] | None

    def __call__(self, picture: Picture) -> np.ndarray:
        """`(Z, C, H, W)`, float32."""
        x = np.moveaxis(picture.array, -1, 1).astype(np.float32)
        low, high = self.window or np.percentile(x, (LOW, HIGH))
        return ((x - float(low)) / max(float(high - low), 1e-6)).clip(0, 1)


def grey_of(pictures: Sequence[Picture], labels: Sequence[np.ndarray]) -> Grey:
    """Colours of 8 bits stay what they are; CT, told by its air, has one window, of what is labelled (as nnU-Net has);
    all others vary from image to image and are scaled by their own percentiles."""
    first = pictures[0].array
    if first.shape[-1] == 3 and first.dtype == np.uint8:
        return Grey((0.0, 255.0))
    if first.dtype.kind in "if" and all(p.geometry is not None and p.array.min() < AIR for p in pictures):
        inside = [p.array[..., 0][y > 0] for p, y in zip(pictures, labels)]
        low, high = np.percentile(np.concatenate(inside), (LOW, HIGH))
        return Grey((float(low) - 100, float(high) + 100))  # choice: what lies beside structures is seen too
    return Grey(None)


def small(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The working size (h, w) of an image (H, W): its longer side `side`, or as it is if that is less."""
    factor = min(1.0, side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def shrunk(x: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Images `(Z, C, H, W)`, antialiased -> `(Z, C, h, w)`."""
    return F.interpolate(torch.from_numpy(x), size, mode="bilinear", antialias=True, align_corners=False)


def shrunk_labels(y: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Labels `(Z, H, W)` by the nearest pixel -> `(Z, h, w)`, int64."""
    return F.interpolate(torch.from_numpy(y)[:, None].float(), size, mode="nearest-exact")[:, 0].round().long()


def side_of(labels: Sequence[np.ndarray], classes: int, least: int = SIDES[0]) -> int:
    """The smallest working side that keeps the masks: every class's Dice after there and back, mean over images."""
    longest = max(max(y.shape[1:]) for y in labels)
    for side in SIDES:
        if side >= min(longest, SIDES[-1]):
            return max(side, least)
        dice: list[list[float]] = [[] for _ in range(classes)]
        for y in labels:
            there = shrunk_labels(y, small((y.shape[1], y.shape[2]), side))
            back = shrunk_labels(there.numpy(), (y.shape[1], y.shape[2])).numpy()
            for k in np.unique(y[y > 0]):
                dice[k].append(2 * ((y == k) & (back == k)).sum() / ((y == k).sum() + (back == k).sum()))
        if all(np.mean(each) >= FAITHFUL for each in dice if each):
            return side
    return SIDES[-1]


def canvas_of(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The size (H, W) that holds all, multiples of 32."""
    return tuple(-(-max(each) // MULTIPLE) * MULTIPLE for each in zip(*sizes))


def padded(x: Tensor, canvas: tuple[int, int], mode: str = "replicate", value: float | None = None) -> Tensor:
    """`(N, C, h, w)` -> `(N, C, *canvas)`, continued behind."""
    return F.pad(x, (0, canvas[1] - x.shape[3], 0, canvas[0] - x.shape[2]), mode=mode, value=value)


def padded_labels(y: Tensor, canvas: tuple[int, int]) -> Tensor:
    """`(N, h, w)` -> `(N, *canvas)`, `IGNORED` behind."""
    return F.pad(y, (0, canvas[1] - y.shape[2], 0, canvas[0] - y.shape[1]), value=IGNORED)
