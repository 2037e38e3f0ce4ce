"""The operator through elasticdeform: the original, one image at a time, on the CPU."""

from typing import Any

import elasticdeform
import numpy as np
import torch
from torch import Tensor


def sample(x: Tensor, u: Tensor, order: int, mode: str, cval: float, origin: list[int]) -> Tensor:
    """As `reference.sample`. The gradient to `x` is elasticdeform's; `u` gets none.

    Raises ValueError for `mode="border"`, which elasticdeform lacks (its `nearest` differs, also from SciPy's).
    """
    if mode == "border":
        raise ValueError("elasticdeform mode: expected 'constant' or 'mirror', found 'border'")
    crop: tuple[Any, ...] = (..., *[slice(start, start + length) for start, length in zip(origin, u.shape[2:])])
    field = u.new_zeros(*u.shape[:2], *x.shape[2:])
    field[crop] = u.detach()
    return _Warp.apply(x, field, order, mode, cval)[crop]


class _Warp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, u: Tensor, order: int, mode: str, cval: float) -> Tensor:
        ctx.save_for_backward(u)
        ctx.settings = {"order": order, "mode": mode, "cval": cval, "axis": tuple(range(1, x.ndim - 1))}
        fields = u.cpu().numpy()  # a dense field is a control grid with one point a pixel
        pairs = zip(x.detach().cpu().numpy(), fields, strict=True)
        out = [elasticdeform.deform_grid(image, field, **ctx.settings) for image, field in pairs]
        return _batch(out, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        (u,) = ctx.saved_tensors
        pairs = zip(grad.cpu().numpy(), u.cpu().numpy(), strict=True)
        out = [elasticdeform.deform_grid_gradient(np.ascontiguousarray(g), field, **ctx.settings) for g, field in pairs]
        return _batch(out, grad), None, None, None, None


def _batch(arrays: list[np.ndarray], like: Tensor) -> Tensor:
    """Arrays as a tensor of the shape, type and device of another, which may hold none of them."""
    return torch.from_numpy(np.stack(arrays)).to(like) if arrays else torch.empty_like(like)
