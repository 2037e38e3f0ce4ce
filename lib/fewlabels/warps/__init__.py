"""Differentiable elastic warps: displacement fields drawn, applied, inverted and composed, whole batches at once.

A displacement field `u` is a float tensor `(N, D, *size)`, D = 2 or 3, in pixels of its own grid; component 0 is
the row. It pulls: `y[q] = x[q + u(q)]`. Pixel centres lie at integers. Its mapping is phi(q) = q + u(q).

The operator is that of elasticdeform (van Tulder, doi:10.5281/zenodo.4563333), to rounding, on any device, with
gradients for the image (exact adjoint) and for the field.

    fields      how fields are made
    operator    `warp`, what it accepts, and which of these does the work:
    reference     plain PyTorch, the one to read; everything else must equal it
    cpu           Numba: splines, sampling, aligning (`cpu_spline`, `cpu_sampling`), on torch's `threads`
    gpu           Triton, the same (`gpu_kernels`)
    elastic       elasticdeform itself
    labels      label maps as one-hot maps, warped
    algebra     fields composed, inverted, aligned, and where they fold
"""

from fewlabels.warps.algebra import align, compose, invert, jacobian_determinant
from fewlabels.warps.fields import (
    affine_field,
    control_to_dense,
    elasticdeform_affine,
    gaussian_field,
    gaussian_field_rms,
    random_control,
)
from fewlabels.warps.labels import transform_labels
from fewlabels.warps.operator import BACKENDS, MODES, ORDERS, inside, warp

__all__ = [
    "BACKENDS",
    "MODES",
    "ORDERS",
    "affine_field",
    "align",
    "compose",
    "control_to_dense",
    "elasticdeform_affine",
    "gaussian_field",
    "gaussian_field_rms",
    "inside",
    "invert",
    "jacobian_determinant",
    "random_control",
    "transform_labels",
    "warp",
]
