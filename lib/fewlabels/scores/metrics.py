"""How segmentations are scored. Hard labels, one value per subject and structure; means are taken by the reader."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import ndimage


def iou(prediction: torch.Tensor, truth: torch.Tensor, classes: int) -> torch.Tensor:
    """Intersection over union of each class but the background, in points (0-100).

    int64 label maps `(N, *size)` twice -> `(N, classes - 1)`.
    A structure that is in neither map scores 100. Raises ValueError for shapes that differ.
    """
    _alike(prediction, truth)
    scores = []
    for c in range(1, classes):
        a, b = (prediction == c).flatten(1), (truth == c).flatten(1)
        union = (a | b).sum(1)
        scores.append(torch.where(union > 0, (a & b).sum(1) / union.clamp(min=1), 1.0))
    return 100 * torch.stack(scores, dim=1)


def dice(prediction: torch.Tensor, truth: torch.Tensor, classes: int) -> list[float]:
    """Dice coefficient of each class but the background, 0 to 1, over all pixels of a subject together.

    int64 label maps of one subject, of any equal shape -> `(classes - 1,)`. A class in neither map scores 1, in one of
    them 0. Raises ValueError for shapes that differ.
    """
    _alike(prediction, truth)
    scores = []
    for c in range(1, classes):
        a, b = prediction == c, truth == c
        sizes = int(a.sum() + b.sum())
        scores.append(2 * int((a & b).sum()) / sizes if sizes else 1.0)
    return scores


def dice_global(p: torch.Tensor, y: torch.Tensor, threshold: float | None = None, smooth: float = 1.0) -> float:
    """Dice of probabilities against masks of any equal shape, all images counted together; 0 to 1.

    Not thresholded by default: (2 sum p y + smooth) / (sum p + sum y + smooth), as the released code of Vorontsov et
    al. 2019 evaluates; sums are of 64 bits. With a threshold, of the pixels above it. Raises ValueError for shapes that
    differ.
    """
    _alike(p, y)
    p = p.double() if threshold is None else (p > threshold).double()
    y = y.double()
    return float((2 * (p * y).sum() + smooth) / (p.sum() + y.sum() + smooth))


def contour_distance(prediction: ArrayLike, truth: ArrayLike, spacing_mm: Sequence[float]) -> float:
    """Mean absolute contour distance of two masks in mm: `(*size)`, 0 is outside; spacing along each axis.

    A contour is the pixels of a mask with a 4-neighbour (6 in 3-D) outside it, the outside of the image included. The
    mean distance from each contour's pixels to the nearest pixel of the other, averaged over both directions.
    NaN where one mask is empty: there is no distance to nothing (its IoU is 0).
    """
    masks = [np.asarray(mask, dtype=bool) for mask in (prediction, truth)]
    contours = [mask & ~ndimage.binary_erosion(mask) for mask in masks]
    if not all(contour.any() for contour in contours):
        return float("nan")
    to_prediction, to_truth = (ndimage.distance_transform_edt(~c, sampling=spacing_mm) for c in contours)
    return (to_truth[contours[0]].mean() + to_prediction[contours[1]].mean()) / 2


def largest_components(labels: ArrayLike, through: Mapping[int, Sequence[int]] | None = None) -> np.ndarray:
    """Each structure's largest connected component, its holes filled with it; the rest becomes background.

    labels   integer array `(*size)`, 0 is background
    through  {structure: structures that may lie across it}: pixels of those count as connecting it (a clavicle cuts
             the apex off a lung in exclusive labels; the apex is no stray component)
    What is left of one structure is not overwritten by another; a removed stray part counts as a hole.
    """
    labels, kept = np.asarray(labels), {}
    for c in np.unique(labels[labels > 0]):
        parts, _ = ndimage.label(np.isin(labels, [c, *(through or {}).get(int(c), ())]))
        kept[c] = parts == np.bincount(parts[labels == c]).argmax()
    out = np.zeros_like(labels)
    for c in kept:
        out[kept[c] & (labels == c)] = c
    for c in sorted(kept, key=lambda c: kept[c].sum()):  # the smallest first: a hole is its innermost structure's
        out[ndimage.binary_fill_holes(kept[c]) & (out == 0)] = c
    return out


def _alike(prediction: torch.Tensor, truth: torch.Tensor) -> None:
    if prediction.shape != truth.shape:
        raise ValueError(f"scores: expected maps of one shape, {tuple(prediction.shape)}, found {tuple(truth.shape)}")
