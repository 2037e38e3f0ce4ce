"""The operator on the CPU: Numba's kernels as operators of torch, so that autograd and torch.compile take them whole.

Threads (as many as torch has) never share an output: rows are dealt out in the forward pass and in the gradient to the
field, planes (one channel of one image) in the gradient to the image. So the bits do not depend on their number.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fewlabels.warps import cpu_sampling, reference
from fewlabels.warps.cpu_spline import BEFORE, BEHIND, coefficients, coefficients_adjoint
from fewlabels.warps.gradients import differentiable
from fewlabels.warps.threads import in_parallel

MODES = {"constant": cpu_sampling.CONSTANT, "mirror": cpu_sampling.MIRROR, "border": cpu_sampling.BORDER}


def sample(x: torch.Tensor, u: torch.Tensor, order: int, mode: str, cval: float, origin: list[int]) -> torch.Tensor:
    """As `reference.sample`."""
    if order == 1 and 1 in x.shape[2:]:  # the kernels read two pixels along every axis
        return reference.sample(x, u, order, mode, cval, origin)
    return _sample(_spline(x) if order == 3 else x, u, order, MODES[mode], cval, origin)


@torch.library.custom_op("fewlabels::align", mutates_args=(), device_types="cpu")
def align(u1: torch.Tensor, u2: torch.Tensor, tolerance: float, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As `reference.align`."""
    if 1 in u1.shape[2:]:
        return reference.align(u1, u2, tolerance, steps)
    w, error = torch.empty(u1.shape, dtype=u1.dtype), torch.empty(u1[:, 0].shape, dtype=u1.dtype)
    q, second, layout = _layout(u1.contiguous().numpy(), u2.contiguous().numpy(), 1, [0] * u1.shape[1])
    first, out = q.reshape(second.shape), w.numpy().reshape(second.shape)
    distance = error.numpy().reshape(len(second), *second.shape[2:])
    settings = *layout[:-1], first.dtype.type(tolerance), steps
    kernel, all_rows = cpu_sampling.align, len(second) * second.shape[2]
    wrong = in_parallel(lambda a, b: kernel(q, first, second, out, distance, *settings, a, b), all_rows, w.numel())
    reference.refuse_infinite_field(sum(wrong), u1, "u1 or u2")
    return w, error


@align.register_fake
def _(u1: torch.Tensor, u2: torch.Tensor, tolerance: float, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(u1), torch.empty_like(u1[:, 0])


def _layout(
    q: np.ndarray, u: np.ndarray, order: int, origin: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, tuple[Any, ...]]:
    """What the kernels take: flat planes, fields by rows, and (height of the fields, origin, size and strides)."""
    padding = BEFORE + BEHIND if order == 3 else 0
    size = tuple(n - padding for n in q.shape[2:])
    strides = tuple(math.prod(q.shape[axis + 1 :]) for axis in range(2, q.ndim))
    rows = u.reshape(*u.shape[:2], math.prod(u.shape[2:-1]), u.shape[-1])
    return q.reshape(*q.shape[:2], math.prod(q.shape[2:])), rows, (u.shape[-2], tuple(origin), size, strides, order)


@torch.library.custom_op("fewlabels::spline", mutates_args=(), device_types="cpu")
def _spline(x: torch.Tensor) -> torch.Tensor:
    """Padded coefficients of images `(N, C, *size)`."""
    c = torch.from_numpy(coefficients(x.contiguous().numpy()))
    reference.refuse_infinite_image(c)
    return c


@torch.library.custom_op("fewlabels::spline_adjoint", mutates_args=(), device_types="cpu")
def _spline_adjoint(g: torch.Tensor) -> torch.Tensor:
    size = [n - BEFORE - BEHIND for n in g.shape[2:]]
    return torch.from_numpy(coefficients_adjoint(g.contiguous().clone().numpy(), size))


@torch.library.custom_op("fewlabels::sample", mutates_args=(), device_types="cpu")
def _sample(q: torch.Tensor, u: torch.Tensor, order: int, mode: int, cval: float, origin: list[int]) -> torch.Tensor:
    """Planes q (images; for order 3 their coefficients) at `q + u(q)`."""
    y = torch.empty(*q.shape[:2], *u.shape[2:], dtype=q.dtype)
    flat, rows, layout = _layout(q.contiguous().numpy(), u.contiguous().numpy(), order, origin)
    out, outside = y.numpy().reshape(*q.shape[:2], *rows.shape[2:]), flat.dtype.type(cval)
    kernel, all_rows = cpu_sampling.forward, len(rows) * rows.shape[2]
    wrong = in_parallel(lambda a, b: kernel(flat, rows, out, *layout, mode, outside, a, b), all_rows, y.numel())
    reference.refuse_infinite_field(sum(wrong), u)
    return y


@torch.library.custom_op("fewlabels::sample_to_image", mutates_args=(), device_types="cpu")
def _sample_to_image(
    q: torch.Tensor, u: torch.Tensor, g: torch.Tensor, order: int, mode: int, origin: list[int]
) -> torch.Tensor:
    grad = torch.zeros(q.shape, dtype=q.dtype)
    flat, rows, layout = _layout(grad.numpy(), u.contiguous().numpy(), order, origin)
    g = g.contiguous().numpy().reshape(*q.shape[:2], *rows.shape[2:])
    in_parallel(
        lambda a, b: cpu_sampling.to_image(flat, rows, g, *layout, mode, a, b), flat.shape[0] * flat.shape[1], g.size
    )
    return grad


@torch.library.custom_op("fewlabels::sample_to_field", mutates_args=(), device_types="cpu")
def _sample_to_field(
    q: torch.Tensor, u: torch.Tensor, g: torch.Tensor, order: int, mode: int, origin: list[int]
) -> torch.Tensor:
    grad = torch.empty(u.shape, dtype=u.dtype)
    flat, rows, layout = _layout(q.contiguous().numpy(), u.contiguous().numpy(), order, origin)
    g = g.contiguous().numpy().reshape(*q.shape[:2], *rows.shape[2:])
    out = grad.numpy().reshape(rows.shape)
    kernel, all_rows = cpu_sampling.to_field, len(rows) * rows.shape[2]
    in_parallel(lambda a, b: kernel(out, flat, rows, g, *layout, mode, a, b), all_rows, g.size)
    return grad


@_spline.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return x.new_empty(*x.shape[:2], *[n + BEFORE + BEHIND for n in x.shape[2:]])


@_spline_adjoint.register_fake
def _(g: torch.Tensor) -> torch.Tensor:
    return g.new_empty(*g.shape[:2], *[n - BEFORE - BEHIND for n in g.shape[2:]])


_spline.register_autograd(lambda ctx, g: _spline_adjoint(g))
differentiable(_sample, _sample_to_image, _sample_to_field)
