"""How displacement fields are made: from control points, from smoothed noise, from matrices."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fewlabels.types import Device
from fewlabels.warps.matrices import along, smoothing


def control_to_dense(control: Tensor, size: Sequence[int]) -> Tensor:
    """The dense field that takes the given vectors at the control points: `(N, D, *points)` -> `(N, D, *size)`.

    Interpolating cubic B-spline with mirror boundary, the outer control points on the outer pixel centres
    (elasticdeform's meaning; ITK and TorchIO use the vectors as spline coefficients on a wider grid instead).
    D may be any number of components. Raises ValueError for control points along another number of axes than `size`.
    """
    if control.ndim != 2 + len(size):
        expected = f"(N, D, *points) along {len(size)} axes"
        raise ValueError(f"control points: expected {expected}, found {tuple(control.shape)}")
    field = control
    for axis, (points, length) in enumerate(zip(control.shape[2:], size), start=2):
        field = along(field, axis, "upsampling", points, length)
    return field


def random_control(
    n: int, points: Sequence[int], sd: float, generator: torch.Generator | None = None, device: Device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:  # fmt: skip
    """Normal displacements of `sd` pixels at the control points: `(n, D, *points)`, independent in each component."""
    return sd * torch.randn(n, len(points), *points, generator=generator, device=device, dtype=dtype)


def gaussian_field(
    n: int, size: Sequence[int], alpha: float, sigma: float, generator: torch.Generator | None = None,
    device: Device | None = None, dtype: torch.dtype = torch.float32,
) -> Tensor:  # fmt: skip
    """Uniform noise U(-alpha, alpha) per pixel and component, smoothed by a Gaussian of `sigma` pixels.

    `(n, D, *size)` in pixels. Bortsova et al. 2019, Section 3 (alpha = 1000, sigma = 100 at 512 x 512), the recipe of
    Simard et al. 2003 without their normalisation. Boundary: scipy's `reflect`, as the paper leaves it open.
    """
    noise = torch.rand(n, len(size), *size, generator=generator, device=device, dtype=dtype)
    field = (2 * noise - 1) * alpha
    for axis, length in enumerate(size, start=2):
        field = along(field, axis, "smoothing", length, sigma)
    return field


def gaussian_field_rms(size: Sequence[int], alpha: float, sigma: float) -> float:
    """The expected root mean square of one component of `gaussian_field` over the whole image, in pixels."""
    variance = alpha**2 / 3
    for length in size:
        variance *= float((smoothing(length, sigma) ** 2).sum(1).mean())
    return math.sqrt(variance)


def affine_field(matrix: Tensor, size: Sequence[int]) -> Tensor:
    """The field of `q -> A (q - c) + t + c`, c the image centre: `(N, D, D + 1)` = `[A | t]` -> `(N, D, *size)`.

    Fields add up: `affine_field(matrix, size) + u` pulls from the affine map's place moved by `u`, in one resampling.
    Raises ValueError for a matrix of another shape (one without t among them) or of integers.
    """
    expected = (len(size), len(size) + 1)
    if matrix.shape[-2:] != expected or not matrix.is_floating_point():
        found = f"{matrix.dtype} {tuple(matrix.shape)}"
        raise ValueError(f"affine_field: expected floats (..., {expected[0]}, {expected[1]}), found {found}")
    ones, flat = [1] * len(size), matrix.ndim - 1
    centre = torch.tensor([(length - 1) / 2 for length in size], dtype=matrix.dtype, device=matrix.device)
    q = pixels(size, matrix.dtype, matrix.device) - centre.reshape(-1, *ones)
    linear = matrix[..., :-1] - torch.eye(len(size), dtype=matrix.dtype, device=matrix.device)
    rotated = sum(linear[..., j].reshape(*matrix.shape[:flat], *ones) * q[j] for j in range(len(size)))
    return rotated + matrix[..., -1].reshape(*matrix.shape[:flat], *ones)


def elasticdeform_affine(
    size: Sequence[int],
    affine: ArrayLike | None = None,
    rotate: ArrayLike = 0.0,
    zoom: ArrayLike = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The field, `(N, D, *size)`, of elasticdeform's arguments of these names; add it to the elastic one (of `dtype`).

    affine   `(D, D + 1)`, what happens to the image's content: a content at pixel p moves to `affine @ [p, 1]`
    rotate   degrees, about the image's centre, after `affine`; 2-D only
    zoom     factor, about the image's centre, after `affine`; 2-D only

    Each may be one for all images (N = 1 if all are: broadcast over a batch of fields) or a sequence of N.
    Raises ValueError for rotate or zoom in 3-D, a zoom of 0, a singular matrix or another shape.
    """
    D = len(size)
    affine = np.asarray(np.eye(D, D + 1) if affine is None else affine, dtype=float)
    if affine.shape[-2:] != (D, D + 1) or (np.linalg.matrix_rank(affine[..., :D]) < D).any():
        raise ValueError(f"affine: expected an invertible ({D}, {D + 1}) matrix, found {affine.tolist()}")
    rotate, zoom = np.atleast_1d(np.asarray(rotate, dtype=float)), np.atleast_1d(np.asarray(zoom, dtype=float))
    if (rotate.any() or (zoom != 1).any()) and (D != 2 or not zoom.all()):
        raise ValueError(f"rotate, zoom: expected 2-D and zoom not 0, found size {tuple(size)} and {zoom.tolist()}")
    affine = affine.reshape(-1, D, D + 1)
    n = max(len(affine), len(rotate), len(zoom))
    centre, content, turn = (
        (np.array(size) - 1) / 2,
        np.tile(np.eye(D + 1), (n, 1, 1)),
        np.tile(np.eye(D + 1), (n, 1, 1)),
    )
    content[:, :D] = affine
    if D == 2:
        c, s = np.cos(np.radians(rotate)), np.sin(np.radians(rotate))
        turn[:, 0, 0], turn[:, 0, 1], turn[:, 1, 0], turn[:, 1, 1] = c / zoom, s / zoom, -s / zoom, c / zoom
    to_centre, back = np.eye(D + 1), np.eye(D + 1)
    to_centre[:D, D], back[:D, D] = -centre, centre
    pull = turn @ to_centre @ np.linalg.inv(content) @ back  # where each pixel takes its value from, about the centre
    return affine_field(torch.as_tensor(pull[:, :D]), size).to(dtype)


def pixels(size: Sequence[int], dtype: torch.dtype, device: Device | None) -> Tensor:
    """The coordinates q of every pixel, `(D, *size)`."""
    axes = [torch.arange(length, dtype=dtype, device=device) for length in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))
