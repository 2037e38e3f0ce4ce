"""Small matrices that carry one axis of an image, made once by SciPy: gradient and batch come for free."""

from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage


def prefilter(n):
    """Samples -> cubic B-spline coefficients, mirror boundary (Unser et al. 1993), `(n, n)`."""
    return ndimage.spline_filter1d(np.eye(n), 3, axis=0, mode="mirror")


def upsampling(points, n):
    """Values at `points` control points -> values at n pixels, `(n, points)`."""
    at = np.linspace(0, points - 1, n)
    return np.stack([ndimage.map_coordinates(e, [at], order=3, mode="mirror") for e in np.eye(points)], axis=1)


def smoothing(n, sigma):
    """A Gaussian of `sigma` pixels, cut off at 4 sigma, boundary reflected, `(n, n)`."""
    return ndimage.gaussian_filter1d(np.eye(n), sigma, axis=0, mode="reflect")


MATRICES = {"prefilter": prefilter, "upsampling": upsampling, "smoothing": smoothing}


def along(x, axis, name, *sizes):
    """The matrix of this name and sizes times x along one axis, in full precision also under autocast and TF32."""
    return _along(x, axis, name, [float(size) for size in sizes], False)


@lru_cache(maxsize=64)
def matrix(name, sizes, dtype, device):
    with torch.inference_mode(False):  # it must serve autograd later, whoever asks first
        return torch.as_tensor(_array(name, sizes), dtype=dtype, device=device)


@lru_cache(maxsize=64)
def _array(name, sizes):
    return MATRICES[name](*(int(size) if size.is_integer() else size for size in sizes))


@torch.library.custom_op("fewlabels::along", mutates_args=())
def _along(x: torch.Tensor, axis: int, name: str, sizes: list[float], transposed: bool) -> torch.Tensor:
    m = matrix(name, tuple(sizes), x.dtype, x.device)
    settings = torch.backends.cuda.matmul
    allowed, settings.fp32_precision = settings.fp32_precision, "ieee"
    try:
        with torch.autocast(x.device.type, enabled=False):
            return (x.movedim(axis, -1) @ (m if transposed else m.T)).movedim(-1, axis).contiguous()
    finally:
        settings.fp32_precision = allowed


@_along.register_fake
def _(x, axis, name, sizes, transposed):
    length = _array(name, tuple(sizes)).shape[transposed]  # a tensor made here would be no real one
    return x.new_empty([*x.shape[:axis], length, *x.shape[axis + 1 :]])


def _keep(ctx, inputs, output):
    _, *ctx.how, ctx.transposed = inputs


def _backward(ctx, g):
    return _along(g, *ctx.how, not ctx.transposed), None, None, None, None


_along.register_autograd(_backward, setup_context=_keep)
