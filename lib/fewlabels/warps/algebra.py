"""Fields composed, inverted, aligned, and where they fold."""

import warnings
from typing import Literal, overload

import torch
from torch import Tensor

from fewlabels.precision import single
from fewlabels.warps.operator import check_field, kernels_for, warp


def compose(first: Tensor, then: Tensor) -> Tensor:
    """The one field equal to warping by `first`, then by `then`: q -> `then(q) + first(q + then(q))`.

    `first` is interpolated linearly and continued beyond the image by its border value.
    """
    return then + warp(first, then, order=1, mode="border")


@overload
def invert(u: Tensor, tolerance: float = ..., steps: int = ..., return_residual: Literal[False] = ...) -> Tensor: ...
@overload
def invert(
    u: Tensor, tolerance: float = ..., steps: int = ..., *, return_residual: Literal[True]
) -> tuple[Tensor, Tensor]: ...
def invert(
    u: Tensor, tolerance: float = 1e-4, steps: int = 50, return_residual: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """v with `v(q) = -u(q + v(q))`: `compose(u, v)` vanishes to `tolerance`, `compose(v, u)` to the error of
    interpolating v between pixels (and not where u leads out of the image). See `align`."""
    return align(u, torch.zeros_like(u), tolerance, steps, return_residual=return_residual)


@overload
def align(
    u1: Tensor, u2: Tensor, tolerance: float = ..., steps: int = ..., return_residual: Literal[False] = ...
) -> Tensor: ...
@overload
def align(
    u1: Tensor, u2: Tensor, tolerance: float = ..., steps: int = ..., *, return_residual: Literal[True]
) -> tuple[Tensor, Tensor]: ...
@overload
def align(
    u1: Tensor, u2: Tensor, tolerance: float = ..., steps: int = ..., *, return_residual: bool
) -> Tensor | tuple[Tensor, Tensor]: ...
@torch.no_grad()
def align(
    u1: Tensor, u2: Tensor, tolerance: float = 1e-4, steps: int = 50, return_residual: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """The field w that carries a prediction made in frame 1 into frame 2: t2 o t1^-1 of Bortsova et al. 2019, Eq. 1.

    With x1[q] = x[phi1(q)] and x2[q] = x[phi2(q)]: phi1(q + w(q)) = phi2(q), hence x1[q + w(q)] = x2[q]. It is
    `compose(invert(u1), u2)` but solved in one piece, so that no inverse is interpolated, or continued at the border:
    the fixed point of `w(q) = u2(q) - u1(q + w(q))`. Each pixel is an equation of its own, solved to `tolerance`
    pixels in at most `steps` steps; a step that does not bring it nearer is taken back and halved (damping).

    Where u1 folds or leads out of the image no w may exist. The residual |w(q) + u1(q + w(q)) - u2(q)| in pixels,
    `(N, *size)`, tells; with `return_residual` it is returned beside w. Folding warns with the share of the pixels
    that fold (not inside a graph of torch.compile); it never raises. Half precision is computed in float32. Returns a
    detached tensor: no gradient flows to the fields. Raises ValueError for fields of different shapes.
    """
    check_field(u1, u2.shape, "u1")
    check_field(u2, u1.shape, "u2")
    if not torch.compiler.is_compiling():
        folded = (jacobian_determinant(u1) <= 0).float().mean().item()
        if folded > 0:
            message = f"the field folds at {folded:.2%} of its pixels: there its inverse is one of several or none"
            warnings.warn(message, stacklevel=3)
    exact1, exact2 = single(u1.detach()), single(u2.detach())
    w, residual = (found.to(u1.dtype) for found in kernels_for(exact1).align(exact1, exact2, tolerance, steps))
    return (w, residual) if return_residual else w


def jacobian_determinant(u: Tensor) -> Tensor:
    """det(I + du/dq), `(N, *size)`: the local change of area (volume); <= 0 where the field folds.

    Central differences, one-sided at the edges; along an axis of one pixel nothing changes.
    """
    axes = range(u.shape[1])

    def slope(component: Tensor, axis: int) -> Tensor:
        return torch.gradient(component, dim=axis)[0] if component.shape[axis] > 1 else torch.zeros_like(component)

    rows = [[slope(u[:, i], j + 1) + (i == j) for j in axes] for i in axes]  # rows[i][j] = d phi_i / d q_j
    if len(rows) == 2:
        (a, b), (c, d) = rows
        return a * d - b * c
    return (torch.cross(torch.stack(rows[0]), torch.stack(rows[1]), dim=0) * torch.stack(rows[2])).sum(0)
