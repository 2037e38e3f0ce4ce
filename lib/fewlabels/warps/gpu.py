"""The operator on the GPU: Triton's kernels as operators of torch, so that autograd and torch.compile take them whole.

The gradient to the image adds up by atomic sums, in no fixed order: it differs in its last bits from run to run.

The spline's prefilter is not the usual recursion but its impulse response, cut off where rounding hides it. So a pixel
needs its neighbours only, not its whole line, and a line can be dealt out in pieces; each axis costs one reading and
one writing of the image. The matrix of `reference` would cost as many multiplications a pixel as a line is long.

Displacements that are not finite give NaN (at order 0 some pixel): to refuse them would be to wait for the device.
"""

import math
from typing import Any

import torch
import triton

from fewlabels.warps import gpu_kernels as kernels
from fewlabels.warps.gradients import differentiable

DOUBLINGS = {torch.float32: 4, torch.float64: 5}  # the prefilter reaches 2^DOUBLINGS pixels: |POLE|^16 = 7e-10


def sample(x: torch.Tensor, u: torch.Tensor, order: int, mode: str, cval: float, origin: list[int]) -> torch.Tensor:
    """As `reference.sample`."""
    return _sample(_spline(x) if order == 3 else x, u, order, mode, cval, origin)


@torch.library.custom_op("fewlabels::gpu_align", mutates_args=())
def align(u1: torch.Tensor, u2: torch.Tensor, tolerance: float, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As `reference.align`, but each block of pixels stops by itself."""
    u1, u2 = u1.contiguous(), u2.contiguous()
    w, error, size = torch.empty_like(u1), torch.empty_like(u1[:, 0]), tuple(u1.shape[2:])
    _launch(kernels.align, _blocks(u1), u1, u2, w, error, tolerance, steps, size, D=len(size))
    return w, error


@torch.library.custom_op("fewlabels::gpu_spline", mutates_args=())
def _spline(x: torch.Tensor) -> torch.Tensor:
    """Coefficients of images `(N, C, *size)`, of the same shape."""
    return _prefiltered(x, adjoint=False)


@torch.library.custom_op("fewlabels::gpu_spline_adjoint", mutates_args=())
def _spline_adjoint(g: torch.Tensor) -> torch.Tensor:
    return _prefiltered(g, adjoint=True)


@torch.library.custom_op("fewlabels::gpu_sample", mutates_args=())
def _sample(q: torch.Tensor, u: torch.Tensor, order: int, mode: str, cval: float, origin: list[int]) -> torch.Tensor:
    """Planes q (images; for order 3 their coefficients) at `origin + point + u`."""
    q, u = q.contiguous(), u.contiguous()
    y = q.new_empty(*q.shape[:2], *u.shape[2:])
    _launch(kernels.sample, _blocks(u), q, u, y, cval, **_layout(q, u, order, mode, origin))
    return y


@torch.library.custom_op("fewlabels::gpu_sample_to_image", mutates_args=())
def _sample_to_image(
    q: torch.Tensor, u: torch.Tensor, g: torch.Tensor, order: int, mode: str, origin: list[int]
) -> torch.Tensor:
    grad, u, g = q.new_zeros(q.shape), u.contiguous(), g.contiguous()
    _launch(kernels.sample_to_image, _blocks(u), grad, u, g, **_layout(q, u, order, mode, origin))
    return grad


@torch.library.custom_op("fewlabels::gpu_sample_to_field", mutates_args=())
def _sample_to_field(
    q: torch.Tensor, u: torch.Tensor, g: torch.Tensor, order: int, mode: str, origin: list[int]
) -> torch.Tensor:
    q, u, g = q.contiguous(), u.contiguous(), g.contiguous()
    grad = torch.empty_like(u)
    _launch(kernels.sample_to_field, _blocks(u), grad, q, u, g, **_layout(q, u, order, mode, origin))
    return grad


def _prefiltered(x: torch.Tensor, adjoint: bool) -> torch.Tensor:
    """Filtered along every axis longer than 1, one after the other; a new tensor."""
    c, doublings = x.contiguous(), DOUBLINGS[x.dtype]
    kept = 6 * 2**doublings  # pixels of a line that a program keeps
    for axis, length in enumerate(x.shape[2:], start=2):
        if length > 1:
            source, c = c, torch.empty_like(c)
            inner, lines = math.prod(x.shape[axis + 1 :]), x.numel() // length
            last = inner == 1
            tile = 4 if last else 128 // x.element_size()  # lines of a tile: one a warp; side by side, a cache line
            programs = triton.cdiv(lines, tile) * triton.cdiv(length, kept)
            settings = {"ADJOINT": adjoint, "DOUBLINGS": doublings, "LAST": last, "LINES": tile}
            warps = 4 if last else 8
            _launch(kernels.prefilter, programs, source, c, length, inner, lines, **settings, num_warps=warps)
    return c if c.data_ptr() != x.data_ptr() else c.clone()


def _layout(q: torch.Tensor, u: torch.Tensor, order: int, mode: str, origin: list[int]) -> dict[str, Any]:
    size, out = tuple(q.shape[2:]), tuple(u.shape[2:])
    begin = tuple(map(float, origin))  # for other integers Triton may compile anew, and crops change all the time
    shapes = {"channels": q.shape[1], "size": size, "out": out, "origin": begin}
    return shapes | {"D": len(size), "ORDER": order, "MODE": mode}


def _blocks(u: torch.Tensor) -> int:
    """How many programs it takes to do each point of each sample of a field."""
    return len(u) * triton.cdiv(math.prod(u.shape[2:]), kernels.BLOCK.value)


def _launch(kernel: triton.JITFunction, programs: int, *arguments: Any, **settings: Any) -> None:
    with torch.cuda.device_of(arguments[0]):  # Triton launches on the current device, whatever the tensors'
        kernel[(programs,)](*arguments, **settings)


@align.register_fake
def _(u1: torch.Tensor, u2: torch.Tensor, tolerance: float, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    return u1.new_empty(u1.shape), u1.new_empty(u1[:, 0].shape)


@_spline.register_fake
@_spline_adjoint.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return x.new_empty(x.shape)


_spline.register_autograd(lambda ctx, g: _spline_adjoint(g))
differentiable(_sample, _sample_to_image, _sample_to_field)
