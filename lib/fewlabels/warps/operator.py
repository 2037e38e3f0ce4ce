"""`warp`: images pulled through fields. What it accepts, and which kernels do the work."""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import Any, overload

import torch
from torch import Tensor

from fewlabels.precision import single
from fewlabels.warps import reference

ORDERS = (0, 1, 3)
MODES = ("constant", "mirror", "border")
BACKENDS = ("auto", "reference", "elasticdeform")
NUMBA, TRITON = (find_spec(name) is not None for name in ("numba", "triton"))


Tensors = list[Tensor] | tuple[Tensor, ...]


@overload
def warp(
    x: Tensor, u: Tensor, order: int = ..., mode: str = ..., cval: float = ...,
    crop: Sequence[slice] | None = ..., backend: str = ...,
) -> Tensor: ...  # fmt: skip
@overload
def warp(
    x: Tensors, u: Tensor, order: int | Sequence[int] = ..., mode: str | Sequence[str] = ...,
    cval: float | Sequence[float] = ..., crop: Sequence[slice] | None = ..., backend: str = ...,
) -> list[Tensor]: ...  # fmt: skip
def warp(
    x: Tensor | Tensors, u: Tensor, order: Any = 1, mode: Any = "constant", cval: Any = 0.0,
    crop: Sequence[slice] | None = None, backend: str = "auto",
) -> Tensor | list[Tensor]:  # fmt: skip
    """`y[q] = x[q + u(q)]`: images `(N, C, *size)` pulled through fields `(N, D, *size)` -> `(N, C, *size)`.

    x      a tensor, or several in a list that one field warps: `warp([image, mask], u, order=[3, 0])`; then order,
           mode and cval may be lists of the same length, and a list comes back
    order  0 nearest (ties up; integers and bools stay what they are), 1 linear, 3 cubic B-spline through the pixel
           values (prefiltered; integers are converted to float32, with a warning)
    mode   what lies outside: `constant` (= `cval`, everywhere beyond the outer pixel centres), `mirror` (about the
           outer pixel centres), `border` (coordinates clamped to the image; the prefilter mirrors)
    crop   slices of the field's grid, one an axis, without steps: only this part of y is computed

    Gradients: to `x` the exact adjoint for every order, to `u` for orders 1 and 3 (order 0 has none); once
    differentiable. float32 and float64 are computed as they are (`u` is converted to the image's type), half precision
    in float32, also under autocast and where TF32 is allowed. In float32 the values are within 2e-5 of float64's for
    images in [0, 1] of up to 1024 pixels a side and fields to match.

    `backend="auto"` takes compiled kernels where there are any (Numba on the CPU, Triton on CUDA) and else the plain
    PyTorch of `reference`. On the CPU the bits do not depend on the number of threads. On CUDA the gradient to `x` adds
    up in no fixed order; under `torch.use_deterministic_algorithms(True)` the reference does the work, repeatably.
    "elasticdeform" gives the same numbers on the CPU, without a gradient to `u` (but for coordinates that should fall
    on the image's edge to the last bit: by rounding it takes some for outside).

    Raises ValueError for an unknown order, mode or backend, for shapes or types that do not belong together (a cval of
    -1 and masks of uint8), and for fields, and at order 3 images, that are not finite (on CUDA these give NaN: looking
    would wait for the device).
    """
    if isinstance(x, (list, tuple)):
        settings: list[Any] = [
            value if isinstance(value, (list, tuple)) else [value] * len(x) for value in (order, mode, cval)
        ]
        if any(len(each) != len(x) for each in settings):
            raise ValueError(f"warp order, mode, cval: expected one or {len(x)} each, found {order}, {mode}, {cval}")
        return [warp(image, u, o, m, c, crop, backend) for image, o, m, c in zip(x, *settings)]
    _check(x, u, order, mode, cval, backend)
    order = int(order)
    u, origin = _cropped(u, crop)
    if order and not x.is_floating_point():
        warnings.warn(f"warp: the image, {x.dtype}, is interpolated and returned in float32", stacklevel=2)
        x = x.float()
    exact = single(x)
    u = u.to(exact.dtype) if exact.is_floating_point() else single(u)
    if backend == "elasticdeform":
        from fewlabels.warps import elastic  # its compiled extension is needed by this backend only

        return elastic.sample(exact, u, order, mode, cval, origin).to(x.dtype)
    kernels = reference if backend == "reference" else kernels_for(exact)
    return kernels.sample(exact, u, order, mode, cval, origin).to(x.dtype)


def inside(u: Tensor, size: Sequence[int] | None = None) -> Tensor:
    """Which pixels a field fetches from within the image: bool `(N, *out)`. `size` is the image's, if not u's own."""
    u = single(u)
    places = [reference.place(u[:, axis], axis, 0, n, "border") for axis, n in enumerate(size or u.shape[2:])]
    return reference.inside(places)


def kernels_for(x: Tensor) -> ModuleType:
    """The module whose `sample` and `align` serve tensors like x: compiled where there is a compiler for it."""
    if x.dtype in (torch.float32, torch.float64):
        if x.device.type == "cpu" and NUMBA:
            from fewlabels.warps import cpu  # late: Numba takes a second to import

            return cpu
        if x.device.type == "cuda" and TRITON and not torch.are_deterministic_algorithms_enabled():
            from fewlabels.warps import gpu

            return gpu
    return reference


def check_field(u: Tensor, shape: Sequence[int], name: str = "u") -> None:
    """ValueError if u is no field for images of this shape (their N, D and size count)."""
    N, D, size = shape[0], len(shape) - 2, tuple(shape[2:])
    if D not in (2, 3) or tuple(u.shape[:2]) != (N, D) or u.ndim != D + 2:
        expected = "images (N, C, *size) and fields (N, D, *size), D = len(size) = 2 or 3"
        raise ValueError(f"warp shapes: expected {expected}, found {tuple(shape)} and {name} {tuple(u.shape)}")
    if tuple(u.shape[2:]) != size:
        expected = f"expected the image's {size}, found {tuple(u.shape[2:])}"
        raise ValueError(f"warp size of {name}: {expected} (a control grid is made dense by `control_to_dense`)")
    if not u.is_floating_point():
        raise ValueError(f"warp dtype of {name}: expected floats, found {u.dtype}")


def _cropped(u: Tensor, crop: Sequence[slice] | None) -> tuple[Tensor, list[int]]:
    """The part of the field that crop asks for, and where it begins."""
    if crop is None:
        return u, [0] * u.shape[1]
    if len(crop) != u.shape[1] or any(not isinstance(part, slice) or part.step not in (None, 1) for part in crop):
        raise ValueError(f"warp crop: expected {u.shape[1]} slices without steps, found {crop}")
    origin = [part.indices(length)[0] for part, length in zip(crop, u.shape[2:])]
    part: tuple[Any, ...] = (..., *crop)
    u = u[part]
    if not u.numel():
        raise ValueError(f"warp crop: expected pixels of the field, found none in {crop}")
    return u, origin


def _check(x: Tensor, u: Tensor, order: int, mode: str, cval: float, backend: str) -> None:
    if order not in ORDERS:
        raise ValueError(f"warp order: expected one of {ORDERS}, found {order!r}")
    if mode not in MODES:
        raise ValueError(f"warp mode: expected one of {MODES}, found {mode!r}")
    if backend not in BACKENDS:
        raise ValueError(f"warp backend: expected one of {BACKENDS}, found {backend!r}")
    if mode == "constant" and not order and not x.is_floating_point():  # else -1 would become label 255
        low, high = (0, 1) if x.dtype == torch.bool else (torch.iinfo(x.dtype).min, torch.iinfo(x.dtype).max)
        if not low <= cval <= high or cval % 1:
            raise ValueError(f"warp cval: expected a whole number from {low} to {high} ({x.dtype}), found {cval}")
    check_field(u, x.shape)
