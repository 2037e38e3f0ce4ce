"""Whether the classes that are predicted where there are no labels are as frequent as where there are."""

import torch.nn.functional as F
from torch import Tensor

ROOM = 2.0  # so many times beyond the least and the largest share of a labelled image
SLACK = 0.01  # of an image's pixels, for classes that are rare or missing in some labelled images


def class_shares(y: Tensor, classes: int) -> Tensor:
    """Of label maps `(N, *size)`: which share of each image's pixels every class has, `(N, classes)`."""
    return F.one_hot(y, classes).flatten(1, -2).float().mean(1)


def shares_left(y: Tensor, p: Tensor, room: float = ROOM) -> dict[int, tuple[float, float, float]]:
    """Classes whose share among predictions leaves the range that labelled images have.

    A network can be right on its labelled images and paint all others full of one class, while every loss falls; that
    shows here, and without a label. The range is that of single labelled images, widened `room` times each way, and
    for the classes behind the background only (its own share follows from theirs); what is compared with it is the
    mean over the unlabelled images, which varies less than single images do.

    y  labels `(N_l, *size)`, class 0 the background
    p  probabilities `(N_u, classes, *size)` for images without labels

    Returns `{class: (share, lowest, highest)}`: the mean share that is predicted, and the range that it left.
    Raises ValueError where there is no image of either.
    """
    if not len(y) or not len(p):
        raise ValueError(f"class shares: expected labelled and unlabelled images, found {len(y)} and {len(p)}")
    return beyond(class_shares(y, p.shape[1]), class_shares(p.argmax(1), p.shape[1]), room)


def beyond(ours: Tensor, theirs: Tensor, room: float = ROOM) -> dict[int, tuple[float, float, float]]:
    """`shares_left`, of class shares `(N_l, classes)` of labelled images and `(N_u, classes)` of predictions."""
    mean = theirs.mean(0)
    lowest = ours.amin(0) / room - SLACK
    highest = ours.amax(0) * room + SLACK
    out = [k for k in range(1, ours.shape[1]) if not lowest[k] <= mean[k] <= highest[k]]
    return {k: (float(mean[k]), max(0.0, float(lowest[k])), float(highest[k])) for k in out}
