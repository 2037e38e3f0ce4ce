"""Differentiable elastic warps: displacement fields drawn, applied, inverted and composed, whole batches at once.

A displacement field `u` is a float tensor `(N, D, *size)`, D = 2 or 3, in pixels of its own grid; component 0 is
the row. It pulls: `y[q] = x[q + u(q)]`. Pixel centres lie at integers. Its mapping is phi(q) = q + u(q).

The operator is that of elasticdeform (van Tulder, doi:10.5281/zenodo.4563333), to rounding, on any device, with
gradients for the image (exact adjoint) and for the field; `fewlabels.elastic` holds the original behind the same call.
"""

import math
import warnings
from functools import lru_cache
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

ORDERS = (0, 1, 3)
MODES = ("constant", "mirror", "border")


# Fields ------------------------------------------------------------------------------------------------------------


def control_to_dense(control, size):
    """The dense field that takes the given vectors at the control points: `(N, D, *points)` -> `(N, D, *size)`.

    Interpolating cubic B-spline with mirror boundary, the outer control points on the outer pixel centres
    (elasticdeform's meaning; ITK and TorchIO use the vectors as spline coefficients on a wider grid instead).
    """
    field = control
    for axis, (points, length) in enumerate(zip(control.shape[2:], size, strict=True), start=2):
        field = _along(axis, _upsampling(points, length, control.dtype, control.device), field)
    return field


def random_control(n, points, sd, generator=None, device=None, dtype=torch.float32):
    """Normal displacements of `sd` pixels at the control points: `(n, D, *points)`, independent in each component."""
    return sd * torch.randn(n, len(points), *points, generator=generator, device=device, dtype=dtype)


def gaussian_field(n, size, alpha, sigma, generator=None, device=None, dtype=torch.float32):
    """Uniform noise U(-alpha, alpha) per pixel and component, smoothed by a Gaussian of `sigma` pixels.

    `(n, D, *size)` in pixels. Bortsova et al. 2019, Section 3 (alpha = 1000, sigma = 100 at 512 x 512), the recipe of
    Simard et al. 2003 without their normalisation. Boundary: scipy's `reflect`, as the paper leaves it open.
    """
    noise = torch.rand(n, len(size), *size, generator=generator, device=device, dtype=dtype)
    field = (2 * noise - 1) * alpha
    for axis, length in enumerate(size, start=2):
        field = _along(axis, _smoothing(length, sigma, dtype, field.device), field)
    return field


def gaussian_field_rms(size, alpha, sigma):
    """The expected root mean square of one component of `gaussian_field` over the whole image, in pixels."""
    variance = alpha**2 / 3
    for length in size:
        rows = _smoothing(length, sigma, torch.float64, torch.device("cpu"))
        variance *= float(rows.square().sum(1).mean())
    return math.sqrt(variance)


def affine_field(matrix, size):
    """The field of `q -> A (q - c) + t + c`, c the image centre: `(N, D, D + 1)` = `[A | t]` -> `(N, D, *size)`."""
    centre = torch.tensor([(length - 1) / 2 for length in size], dtype=matrix.dtype, device=matrix.device)
    q = _pixels(size, matrix.dtype, matrix.device) - centre.reshape(-1, *[1] * len(size))
    linear = matrix[..., :-1] - torch.eye(len(size), dtype=matrix.dtype, device=matrix.device)
    return torch.einsum("nij,j...->ni...", linear, q) + matrix[..., -1].reshape(*matrix.shape[:2], *[1] * len(size))


# The operator ------------------------------------------------------------------------------------------------------


def warp(x, u, order=1, mode="constant", cval=0.0, backend="torch"):
    """`y[q] = x[q + u(q)]`: images `(N, C, *size)` pulled through fields `(N, D, *out)` -> `(N, C, *out)`.

    order  0 nearest (ties up; integers allowed), 1 linear, 3 cubic B-spline through the pixel values (prefiltered)
    mode   what lies outside: `constant` (= `cval`, everywhere beyond the outer pixel centres), `mirror` (about the
           outer pixel centres), `border` (coordinates clamped to the image; the prefilter mirrors)

    Gradients: to `x` the exact adjoint for every order, to `u` for orders 1 and 3 (order 0 has none).
    In float32 the values are within 2e-4 of float64 for images in [0, 1] of up to 1024 pixels a side.
    `backend="elasticdeform"` gives the same numbers on the CPU, without a gradient to `u` (but for coordinates that
    should fall on the image's edge to the last bit: by rounding it takes some for outside).

    Raises ValueError for an unknown order, mode or backend, or for shapes that do not belong together.
    """
    _check(x, u, order, mode, backend)
    if backend == "elasticdeform":
        from fewlabels import elastic  # its compiled extension is needed by this backend only

        return elastic.warp(x, u, order, mode, cval)
    size = x.shape[2:]
    at = _pixels(u.shape[2:], u.dtype, u.device) + u
    y = _sample(x, _bring_inside(at, size, mode), order)
    return y.masked_fill(~_is_inside(at, size)[:, None], cval) if mode == "constant" else y


def inside(u, size=None):
    """Which pixels a field fetches from within the image: bool `(N, *out)`. `size` is the image's, if not u's own."""
    return _is_inside(_pixels(u.shape[2:], u.dtype, u.device) + u, size or u.shape[2:])


def _sample(x, at, order):
    if order == 0:
        return _nearest(x, at)
    if order == 1:
        return _linear(x, at)
    coefficients = x
    for axis, length in enumerate(x.shape[2:], start=2):
        coefficients = _along(axis, _prefilter(length, x.dtype, x.device), coefficients)
    return _cubic(coefficients, at)


def _nearest(x, at):
    """An index gather, so that the backward pass is a scatter-add: the exact adjoint."""
    size = x.shape[2:]
    index = torch.zeros_like(at[:, 0], dtype=torch.long)
    for axis, length in enumerate(size):
        index = index * length + (at[:, axis].detach() + 0.5).floor().long().clamp(0, length - 1)
    picked = x.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, x.shape[1], -1))
    return picked.unflatten(2, at.shape[2:])


def _linear(x, at, padding="border"):
    """torch's fused sampler; it wants (x, y[, z]) scaled to [-1, 1], components last."""
    scaled = [at[:, axis] * (2 / max(length - 1, 1)) - 1 for axis, length in enumerate(x.shape[2:])]
    grid = torch.stack(scaled[::-1], dim=-1).to(x.dtype)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=True)


def _cubic(coefficients, at):
    """Cubic B-spline as 2^D linear fetches (Sigg & Hadwiger, GPU Gems 2, ch. 20): per axis the four taps
    w0 c[i-1] + w1 c[i] + w2 c[i+1] + w3 c[i+2] are two linear interpolations, each between neighbouring taps."""
    base = at.detach().floor()
    t = at - base
    w0, w1, w3 = (1 - t) ** 3 / 6, (4 - 6 * t**2 + 3 * t**3) / 6, t**3 / 6
    share = (w0 + w1, 1 - w0 - w1)  # of the two left taps, of the two right ones
    place = (base - 1 + w1 / share[0], base + 1 + w3 / share[1])
    y = 0
    for corner in product((0, 1), repeat=at.shape[1]):
        corner_place = torch.stack([place[bit][:, axis] for axis, bit in enumerate(corner)], dim=1)
        corner_share = math.prod(share[bit][:, axis] for axis, bit in enumerate(corner))
        y = y + corner_share[:, None] * _linear(coefficients, corner_place, padding="reflection")
    return y


def _bring_inside(at, size, mode):
    """Coordinates mapped into the image. For `constant` too: what lies outside is overwritten later."""
    last = torch.tensor([length - 1 for length in size], dtype=at.dtype, device=at.device)
    last = last.reshape(-1, *[1] * (at.ndim - 2))
    if mode == "mirror":  # a triangle wave of period 2 (length - 1)
        at = last - (at.remainder((2 * last).clamp(min=1)) - last).abs()
    return torch.minimum(at.clamp(min=0), last)


def _is_inside(at, size):
    ok = torch.ones_like(at[:, 0], dtype=torch.bool)
    for axis, length in enumerate(size):
        ok &= (at[:, axis] >= 0) & (at[:, axis] <= length - 1)
    return ok


# Field algebra -----------------------------------------------------------------------------------------------------


def compose(first, then):
    """The one field equal to warping by `first`, then by `then`: q -> `then(q) + first(q + then(q))`.

    `first` is interpolated linearly and continued beyond the image by its border value.
    """
    return then + warp(first, then, order=1, mode="border")


def invert(u, tolerance=1e-4, steps=50, return_residual=False):
    """v with `v(q) = -u(q + v(q))`, so that `compose(u, v)` and `compose(v, u)` vanish. See `align`."""
    return align(u, torch.zeros_like(u), tolerance, steps, return_residual)


@torch.no_grad()
def align(u1, u2, tolerance=1e-4, steps=50, return_residual=False):
    """The field w that carries a prediction made in frame 1 into frame 2: t2 o t1^-1 of Bortsova et al. 2019, Eq. 1.

    With x1[q] = x[phi1(q)] and x2[q] = x[phi2(q)]: phi1(q + w(q)) = phi2(q), hence x1[q + w(q)] = x2[q]. It equals
    `compose(invert(u1), u2)` but is solved in one piece, so that no inverse is interpolated:
    the fixed point of `w(q) = u2(q) - u1(q + w(q))`, to `tolerance` pixels in at most `steps` steps. Each pixel is
    an equation of its own; a step that does not bring it nearer is taken back and halved (damping).

    Where u1 folds or leads out of the image no w may exist. The residual |w(q) + u1(q + w(q)) - u2(q)| in pixels,
    `(N, *size)`, tells; with `return_residual` it is returned beside w. Folding warns, it never raises.
    Returns a detached tensor: no gradient flows to the fields.
    """
    if (jacobian_determinant(u1) <= 0).any():
        warnings.warn("the field folds: where it does, its inverse is one of several or none", stacklevel=3)

    def residual(w):
        r = w + warp(u1, w, order=1, mode="border") - u2
        return r, r.square().sum(1, keepdim=True).sqrt()  # norm(dim=1) is 27 times slower on the CPU

    w = u2 - u1
    r, error = residual(w)
    damping = torch.ones_like(error)
    for _ in range(steps):
        if error.max() <= tolerance:
            break
        trial = w - damping * r
        trial_r, trial_error = residual(trial)
        better = trial_error < error
        w, r, error = (torch.where(better, new, old) for new, old in ((trial, w), (trial_r, r), (trial_error, error)))
        damping = torch.where(better, damping, damping / 2)
    return (w, error[:, 0]) if return_residual else w


def jacobian_determinant(u):
    """det(I + du/dq), `(N, *size)`: the local change of area (volume); <= 0 where the field folds.

    Central differences, one-sided at the edges.
    """
    axes = range(u.shape[1])
    # rows[i][j] = d phi_i / d q_j
    rows = [[d + (i == j) for j, d in enumerate(torch.gradient(u[:, i], dim=[a + 1 for a in axes]))] for i in axes]
    if len(rows) == 2:
        (a, b), (c, d) = rows
        return a * d - b * c
    return (torch.cross(torch.stack(rows[0]), torch.stack(rows[1]), dim=0) * torch.stack(rows[2])).sum(0)


# Small matrices that carry one axis, made once by SciPy ------------------------------------------------------------


def _along(axis, matrix, x):
    """`matrix @ x` along one axis, in full precision also under autocast. Adjoint and batch come for free."""
    with torch.autocast(x.device.type, enabled=False):
        return (x.movedim(axis, -1) @ matrix.T).movedim(-1, axis)


def _matrix(values, dtype, device):
    with torch.inference_mode(False):  # cached: it must serve autograd later, whoever asks first
        return torch.as_tensor(values, dtype=dtype, device=device)


@lru_cache(maxsize=64)
def _prefilter(n, dtype, device):
    """Samples -> cubic B-spline coefficients, mirror boundary (Unser et al. 1993)."""
    return _matrix(ndimage.spline_filter1d(np.eye(n), 3, axis=0, mode="mirror"), dtype, device)


@lru_cache(maxsize=64)
def _upsampling(points, n, dtype, device):
    """Values at `points` control points -> values at n pixels, `(n, points)`."""
    at = np.linspace(0, points - 1, n)
    columns = [ndimage.map_coordinates(e, [at], order=3, mode="mirror") for e in np.eye(points)]
    return _matrix(np.stack(columns, axis=1), dtype, device)


@lru_cache(maxsize=64)
def _smoothing(n, sigma, dtype, device):
    return _matrix(ndimage.gaussian_filter1d(np.eye(n), sigma, axis=0, mode="reflect"), dtype, device)


def _pixels(size, dtype, device):
    """The coordinates q of every pixel, `(D, *size)`."""
    axes = [torch.arange(length, dtype=dtype, device=device) for length in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def _check(x, u, order, mode, backend):
    if order not in ORDERS:
        raise ValueError(f"warp order: expected one of {ORDERS}, found {order!r}")
    if mode not in MODES:
        raise ValueError(f"warp mode: expected one of {MODES}, found {mode!r}")
    if backend not in ("torch", "elasticdeform"):
        raise ValueError(f"warp backend: expected 'torch' or 'elasticdeform', found {backend!r}")
    dimensions = x.ndim - 2
    if dimensions not in (2, 3) or u.ndim != x.ndim or u.shape[:2] != (x.shape[0], dimensions):
        expected = "images (N, C, *size) and fields (N, D, *out), D = len(size) = 2 or 3"
        raise ValueError(f"warp shapes: expected {expected}, found {tuple(x.shape)} and {tuple(u.shape)}")
    if not u.is_floating_point() or (order > 0 and not x.is_floating_point()):
        raise ValueError(f"warp dtypes: expected floats (order 0 takes any image), found {x.dtype} and {u.dtype}")
