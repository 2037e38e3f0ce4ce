"""How segmentations of chest radiographs are scored for Bortsova et al. 2019: IoU and contour distance, raw and
post-processed, lungs with and without what clavicles cover of them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fewlabels.data.jsrt import CLASSES
from fewlabels.scores import metrics

# Exclusive labels cut each lung (4, 5) by its clavicle (2, 3): components are looked for through it.
THROUGH = {4: (2,), 5: (3,)}


def evaluate(
    prediction: Tensor, truth: Tensor, lungs: Tensor, spacing_mm: Sequence[float]
) -> dict[str, dict[str, list[float]]]:
    """`{metric: {structure: [one value a subject]}}` of label maps int64 `(N, H, W)`; distances in mm.

    `iou`, `miou` and `macd_mm` are of exclusive labels. `iou_overlap` and `macd_mm_overlap` are of the lungs as SCR
    and the literature define them (`lungs` uint8 `(N, H, W)`), clavicles in front of them included. All as predicted,
    and with `_post` after component and hole filtering.
    """
    structures = range(1, len(CLASSES))
    scores: dict[str, dict[str, list[float]]] = {}
    for suffix, labels in (("", prediction), ("_post", post_processed(prediction))):
        scores |= _agreement(labels, truth, structures, suffix, spacing_mm)
        scores["miou" + suffix] = {"all": metrics.iou(labels, truth, len(CLASSES)).mean(1).tolist()}
        scores |= _agreement(fill_lungs(labels), lungs.long(), list(THROUGH), f"_overlap{suffix}", spacing_mm)
    return scores


def _agreement(
    labels: Tensor, truth: Tensor, structures: Sequence[int], suffix: str, spacing_mm: Sequence[float]
) -> dict[str, dict[str, list[float]]]:
    iou = metrics.iou(labels, truth, len(CLASSES))
    distance = {
        CLASSES[c]: [
            metrics.contour_distance((a == c).numpy(), (b == c).numpy(), spacing_mm)
            for a, b in zip(labels, truth, strict=True)
        ]
        for c in structures
    }
    return {"iou" + suffix: {CLASSES[c]: iou[:, c - 1].tolist() for c in structures}, "macd_mm" + suffix: distance}


def post_processed(labels: Tensor) -> Tensor:
    """Label maps `(N, H, W)` with each structure's largest component alone, its holes filled (Table 2)."""
    return torch.stack([torch.from_numpy(metrics.largest_components(each.numpy(), THROUGH)) for each in labels])


def fill_lungs(labels: Tensor) -> Tensor:
    """Exclusive labels `(N, H, W)` -> lungs as SCR drew them, behind the clavicles too.

    A clavicle's pixel becomes lung where lung of its side lies on both sides of it, in its row or in its column. On
    the true labels of JSRT this gives SCR's lungs back with an IoU of 99.4 % at 512 px and 98.8 % at 64 px; exclusive
    labels alone agree with them to 94.2 and 94.0 %.
    """
    filled = labels.clone()
    for lung, (clavicle,) in THROUGH.items():
        between = torch.zeros_like(labels, dtype=torch.bool)
        for axis in (1, 2):
            before = (labels == lung).cumsum(axis) > 0
            after = (labels == lung).flip(axis).cumsum(axis).flip(axis) > 0
            between |= before & after
        filled[(labels == clavicle) & between] = lung
    return filled
