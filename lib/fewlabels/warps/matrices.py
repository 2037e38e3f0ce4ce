"""Small matrices that carry one axis of an image, made once by SciPy: gradient and batch come for free."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage


def prefilter(n: int) -> NDArray[np.float64]:
    """Samples -> cubic B-spline coefficients, mirror boundary (Unser et al. 1993), `(n, n)`."""
    return ndimage.spline_filter1d(np.eye(n), 3, axis=0, mode="mirror")


def upsampling(points: int, n: int) -> NDArray[np.float64]:
    """Values at `points` control points -> values at n pixels, `(n, points)`."""
    at = np.linspace(0, points - 1, n)
    return np.stack([ndimage.map_coordinates(e, [at], order=3, mode="mirror") for e in np.eye(points)], axis=1)


def smoothing(n: int, sigma: float) -> NDArray[np.float64]:
    """A Gaussian of `sigma` pixels, cut off at 4 sigma, boundary reflected, `(n, n)`."""
    return ndimage.gaussian_filter1d(np.eye(n), sigma, axis=0, mode="reflect")


MATRICES: dict[str, Callable[..., NDArray[np.float64]]] = {
    "prefilter": prefilter,
    "upsampling": upsampling,
    "smoothing": smoothing,
}


def along(x: torch.Tensor, axis: int, name: str, *sizes: float) -> torch.Tensor:
    """The matrix of this name and sizes times x along one axis, in full precision also under autocast and TF32."""
    return _along(x, axis, name, [float(size) for size in sizes], False)


@lru_cache(maxsize=64)
def matrix(name: str, sizes: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    with torch.inference_mode(False):  # it must serve autograd later, whoever asks first
        return torch.as_tensor(_array(name, sizes), dtype=dtype, device=device)


@lru_cache(maxsize=64)
def _array(name: str, sizes: tuple[float, ...]) -> NDArray[np.float64]:
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
def _(x: torch.Tensor, axis: int, name: str, sizes: list[float], transposed: bool) -> torch.Tensor:
    length = _array(name, tuple(sizes)).shape[transposed]  # a tensor made here would be no real one
    return x.new_empty([*x.shape[:axis], length, *x.shape[axis + 1 :]])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    _, *ctx.how, ctx.transposed = inputs


def _backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
    return _along(g, *ctx.how, not ctx.transposed), None, None, None, None


_along.register_autograd(_backward, setup_context=_keep)
