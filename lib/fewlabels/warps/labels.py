"""Label maps under fields: what a transform does to a target."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels.warps.operator import warp


def transform_labels(y: Tensor, u: Tensor, classes: int, order: int = 0) -> Tensor:
    """t_out of label maps int64 `(N, *size)` as one-hot (order 0) or soft (order 1) maps `(N, classes, *size)`.

    What comes from outside the image is background. Raises ValueError for another order.
    """
    check_order(order)
    if order == 0:
        return F.one_hot(warp(y[:, None], u, order=0)[:, 0], classes).movedim(-1, 1).float()
    soft = warp(F.one_hot(y, classes).movedim(-1, 1).float(), u, order)
    background = 1 - soft[:, 1:].sum(1, keepdim=True)
    return torch.cat([background, soft[:, 1:]], dim=1)


def check_order(order: int) -> None:
    if order not in (0, 1):  # a cubic leaves the range of 0 to 1
        raise ValueError(f"order: expected 0 or 1, found {order}")
