"""Whether a network paints images without labels as those with labels are painted."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fewlabels.scores.shares import beyond, class_shares
from fewlabels.segment.augment import IGNORED
from fewlabels.segment.ensemble import Ensemble
from fewlabels.segment.task import Task


def left(task: Task, network: Ensemble) -> str:
    """Which classes are predicted too often or too rarely on unlabelled cases, in words (`scores.shares`); or ""."""
    names = task.seen.labels.names

    def shares(y: Tensor) -> Tensor:
        return class_shares(y[y != IGNORED][None, None], len(names))[0]

    others = [i for i, case in enumerate(task.cases) if not case.masks]
    known = [y for i in task.masked() if (y := task.truth(i)).ne(IGNORED).any()]
    if not others or not known:
        return ""
    found = [network.probabilities(task.image(i)[..., : task.sizes[i][0], : task.sizes[i][1]]) for i in others]
    out = beyond(torch.stack([*map(shares, known)]), torch.stack([shares(p.argmax(1)) for p in found]))
    return "; ".join(
        f"{names[k]}: {100 * share:.1f} % of the pixels, labelled images have {100 * low:.1f} to {100 * high:.1f} %"
        for k, (share, low, high) in out.items()
    )


def lost(classes: Sequence[Mapping[str, Any]], cases: Sequence[Mapping[str, Any]]) -> list[str]:
    """A warning for each class that labelled images have and no case was given, of the page's `classes` and `cases`.

    Thin structures are learned last: too few steps end in this while `left`, which allows for rare classes, is content.
    """
    return [
        f"{one['name']} was not found in any image: it was not learned; more minutes may help"
        for k, one in enumerate(classes)
        if one["share"] > 0 and not any(case["shares"][k] for case in cases)
    ]
