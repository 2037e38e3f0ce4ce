"""What the page says before anything is learned: the files, the classes, and what looks odd."""

from typing import Any

import numpy as np
import torch

from fewlabels.scores.shares import class_shares
from fewlabels.segment.task import Task

USUAL = 0.8  # share of the images that have one size, from which on another size is odd
FAR = 6.0  # median distances from the median, from which on an image is darker or brighter than the others


def page(task: Task) -> dict[str, Any]:
    """The keys `cases`, `classes`, `intensity` and `suspicious` of the page's state."""
    labels = task.seen.labels
    shares = class_shares(task.labels.long().clamp(min=0), len(labels.names)).mean(0).tolist()
    cases = [
        {
            "name": case.name, "labelled": bool(case.masks), "size": list(shape[:3]), "channels": shape[3],
            "note": task.notes.get(case.name, ""), "image": str(case.image.absolute()), "mask": None,
        }
        for case, shape in zip(task.cases, task.shapes)
    ]  # fmt: skip
    classes = [
        {"name": name, "value": _plain(value), "share": share}
        for name, value, share in zip(labels.names, labels.values, shares)
    ]
    return {"cases": cases, "classes": classes, "intensity": task.intensity, "suspicious": _suspicious(task)}


def _suspicious(task: Task) -> list[dict[str, str]]:
    sizes = [tuple(shape[:3]) for shape in task.shapes]
    usual = max(set(sizes), key=sizes.count)
    odd: list[tuple[int, str]] = []
    if sizes.count(usual) >= USUAL * len(sizes):  # else sizes are simply mixed
        odd += [(i, f"{size} voxels (z, y, x); most have {usual}") for i, size in enumerate(sizes) if size != usual]
    means = torch.stack([task.image(i)[..., :h, :w].mean() for i, (h, w) in enumerate(task.sizes)])
    away = (means - means.median()).abs()
    far = (away > FAR * away.median().clamp(min=0.01)).nonzero()[:, 0].tolist()
    odd += [(i, "much darker or brighter than the others once scaled") for i in far]
    odd += [(i, "its mask is empty") for i in task.masked() if not (task.truth(i) > 0).any()]
    return [{"name": task.cases[i].name, "why": why} for i, why in odd]


def _plain(value: Any) -> Any:
    """Of NumPy or a tuple, as JSON has it."""
    return [_plain(each) for each in value] if isinstance(value, tuple | list) else np.asarray(value).item()
