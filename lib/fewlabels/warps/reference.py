"""The warp operator and the inversion of fields in plain PyTorch: the ones to read.

They run where no compiled kernel does (`operator.kernels_for`), on any device, deterministically where torch is asked
to be: gathers and their transposes only.
"""

import math
from itertools import product
from typing import Any

import torch
from torch import Tensor

from fewlabels.warps.matrices import along


def sample(x: Tensor, u: Tensor, order: int, mode: str, cval: float, origin: list[int]) -> Tensor:
    """`y[q] = x[origin + q + u(q)]`: images `(N, C, *size)`, fields `(N, D, *out)` -> `(N, C, *out)`.

    Separable: a weighted sum over order + 1 taps along each axis.
    """
    size = x.shape[2:]
    if u.device.type == "cpu":  # elsewhere looking would wait for the device
        refuse_infinite_field(int((~torch.isfinite(u)).sum()), u)
    if order == 3:
        x = coefficients(x)
        if x.device.type == "cpu":
            refuse_infinite_image(x)
    places = [place(u[:, axis], axis, start, size[axis], mode) for axis, start in enumerate(origin)]
    taps = [_taps(before, t, length, order) for (before, t, _), length in zip(places, size)]
    y: Any = 0  # a tensor after the first choice
    for choice in product(range(order + 1), repeat=len(size)):
        index: Any = 0
        weight: Any = 1
        for (indices, weights), tap, length in zip(taps, choice, size):
            index, weight = index * length + indices[tap], weight * weights[tap]
        y = y + _take(x, index) * weight
    return y.masked_fill(~inside(places)[:, None], cval) if mode == "constant" else y


def place(u: Tensor, axis: int, start: int, length: int, mode: str) -> tuple[Tensor, Tensor, Tensor]:
    """Along one axis, the places `start + q + u(q)` for u `(N, *out)`, mapped into the image: the pixel before each,
    the fraction behind it, 0 to 1, and whether the place was within. For `constant` too: what lies outside is
    overwritten later.

    Whole pixels and fraction are parted before the pixel's own coordinate is added: so no digit of u is lost in
    float32, however large the image.
    """
    shape = [-1 if i == axis else 1 for i in range(u.ndim - 1)]
    q = torch.arange(start, start + u.shape[1 + axis], device=u.device).reshape(shape)
    whole, last = u.detach().floor(), length - 1
    t, pixel = u - whole, whole.clamp(-(2**30), 2**30).long() + q
    if mode == "mirror" and last > 0:  # a triangle wave of period 2 last
        pixel = pixel.remainder(2 * last)
        back = pixel >= last
        return torch.where(back, 2 * last - 1 - pixel, pixel), torch.where(back, 1 - t, t), torch.ones_like(back)
    before = pixel.clamp(0, max(last - 1, 0))
    t, reach = t + (pixel - before), min(last, 1)
    return before, t.clamp(0, reach), (t >= 0) & (t <= reach)


def inside(places: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Which pixels lie between the outer pixel centres along every axis: bool `(N, *out)`."""
    return torch.stack([within for _, _, within in places]).all(0)


def coefficients(x: Tensor) -> Tensor:
    """Pixel values -> coefficients of the cubic B-spline through them, which mirrors at the outer pixel centres."""
    for axis, length in enumerate(x.shape[2:], start=2):
        x = along(x, axis, "prefilter", length)
    return x


def _taps(before: Tensor, t: Tensor, length: int, order: int) -> tuple[list[Tensor], list[Tensor | int]]:
    """Along one axis: indices and weights (a B-spline's values) of the order + 1 pixels around each place."""
    if order == 0:  # the nearest; ties go up
        return [before + (t >= 0.5)], [1]
    if order == 1:
        offsets, weights = (0, 1), [1 - t, t]
    else:
        offsets, s = (-1, 0, 1, 2), 1 - t
        weights = [s**3 / 6, 2 / 3 - t**2 * (1 + s) / 2, 2 / 3 - s**2 * (1 + t) / 2, t**3 / 6]
    return [_mirror(before + offset, length) for offset in offsets], [w[:, None] for w in weights]


def _mirror(index: Tensor, length: int) -> Tensor:
    """Indices next to the image -> those of the pixels they mirror."""
    last = length - 1
    return (last - (last - index.abs()).abs()).clamp(0, last)


def _take(x: Tensor, index: Tensor) -> Tensor:
    """`x[n, c, index[n]]` for flat pixel indices `(N, *out)`. One flat gather: its transpose has a deterministic
    form on every device."""
    planes, pixels = math.prod(x.shape[:2]), math.prod(x.shape[2:])
    plane = torch.arange(planes, device=x.device).reshape(*x.shape[:2], *[1] * (index.ndim - 1))
    return x.flatten()[plane * pixels + index[:, None]]


def refuse_infinite_field(wrong: int, u: Tensor, name: str = "u") -> None:
    """ValueError if `wrong`, the number of displacements that are not finite, is not 0."""
    if wrong:
        raise ValueError(f"warp field {name}: expected finite displacements, found {wrong} others in {tuple(u.shape)}")


def refuse_infinite_image(c: Tensor) -> None:
    """ValueError if a value of the image is not finite: the prefilter carries it into all coefficients of its plane."""
    planes = c.flatten(2)
    wrong = (~torch.isfinite(planes[..., planes.shape[2] // 2])).nonzero().tolist()
    if wrong:
        raise ValueError(f"warp image x: expected finite values at order 3, found others in (n, channel) {wrong}")


def align(u1: Tensor, u2: Tensor, tolerance: float, steps: int) -> tuple[Tensor, Tensor]:
    """See `algebra.align`. Returns w `(N, D, *size)` and the residual's length `(N, *size)`."""

    def residual(w: Tensor) -> tuple[Tensor, Tensor]:
        r = w + sample(u1, w, 1, "border", 0.0, [0] * u1.shape[1]) - u2
        return r, r.square().sum(1, keepdim=True).sqrt()  # norm(dim=1) is far slower on the CPU

    w = u2 - u1
    r, error = residual(w)
    damping = torch.ones_like(error)
    for _ in range(steps):
        if error.max() <= tolerance:
            break
        trial = w - torch.where(error > tolerance, damping, 0) * r
        trial_r, trial_error = residual(trial)
        better = trial_error < error
        w, r, error = (torch.where(better, new, old) for new, old in ((trial, w), (trial_r, r), (trial_error, error)))
        damping = torch.where(better, damping, damping / 2)
    return w, error[:, 0]
