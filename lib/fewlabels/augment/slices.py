"""Random transforms of batches of brain half-slices (Vorontsov et al. 2019, Appendix A). Draws are torch's."""

import math
from typing import overload

import torch
from torch import Tensor

from fewlabels.warps import affine_field, control_to_dense, random_control, warp


@overload
def slice_augment(x: Tensor, masks: None = ..., sd: float | None = ..., order: int = ...) -> Tensor: ...
@overload
def slice_augment(x: Tensor, masks: Tensor, sd: float | None = ..., order: int = ...) -> tuple[Tensor, Tensor]: ...
def slice_augment(
    x: Tensor, masks: Tensor | None = None, sd: float | None = None, order: int = 1
) -> Tensor | tuple[Tensor, Tensor]:
    """Images `(N, C, H, W)`, each transformed on its own and clipped to [-1, 1]; with masks `(N, H, W)`, of any type
    and resampled by nearest neighbour, `(images, masks)`.

    Rotated by U(-3, 3) degrees, zoomed by U(0.9, 1.1) along each axis, flipped with probability 0.5 along each, and
    warped by splines, all in one resampling with what lies outside mirrored. Then each channel is shifted by
    U(-0.1, 0.1) and clipped to its image's own range, that of all channels.

    sd     of the displacements at 3 x 3 control points, pixels; None: 5 on the full grid of 240 rows, 5 H / 240 here
    order  1 linear, or 0 nearest neighbour, as in the released code

    Around the 3 x 3 points lies a ring that does not move (the border is anchored, as in the released code, where 4 x 4
    coefficients of an approximating spline move within such a ring), and the spline passes through all 5 x 5. The
    release warps first and rotates the outcome; here both displacements are added. Its centre of rotation is a pixel
    off the image's, its mirror on the pixels' edges: not followed.
    """
    n, _, *size = x.shape
    sd = 5 * size[0] / 240 if sd is None else sd
    angle = math.radians(3) * _uniform(x, n)
    c, s = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([c, -s], 1), torch.stack([s, c], 1)], 1)
    flips = 1 - 2 * (torch.rand(n, 2, device=x.device) < 0.5).to(x.dtype)
    matrix = (
        turn * ((1 + 0.1 * _uniform(x, n, 2)) * flips)[:, None]
    )  # a pixel's place is scaled and flipped, then turned
    control = torch.nn.functional.pad(random_control(n, [3, 3], sd, device=x.device, dtype=x.dtype), (1, 1, 1, 1))
    field = affine_field(torch.cat([matrix, torch.zeros_like(matrix[..., :1])], 2), size)
    field = field + control_to_dense(control, size)
    x = warp(x, field, order, "mirror")
    low, high = x.flatten(1).aminmax(dim=1)
    x = (x + 0.1 * _uniform(x, n, x.shape[1], 1, 1)).clamp(_each(low), _each(high)).clamp(-1, 1)
    return x if masks is None else (x, warp(masks[:, None], field, 0, "mirror")[:, 0])


def _uniform(x: Tensor, *shape: int) -> Tensor:
    """U(-1, 1), in kind like x."""
    return 2 * torch.rand(shape, device=x.device, dtype=x.dtype) - 1


def _each(values: Tensor) -> Tensor:
    return values[:, None, None, None]
