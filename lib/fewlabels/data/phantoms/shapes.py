"""Shapes and textures that phantoms are made of. `f`: where each voxel lies, an array for each axis, mm."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline


def tube(
    f: Sequence[np.ndarray],
    points: ArrayLike,
    radii: Sequence[float] | np.ndarray,
    squeeze: Sequence[float] = (1, 1, 1),
) -> np.ndarray:
    """Depth inside a round tube along a polyline, its radius linear between the points; lengths along an axis count
    `squeeze` times, so that below 1 it is flat, and longer along that axis."""
    place = [axis * np.float32(s) for axis, s in zip(f, squeeze)]
    points, depth = np.asarray(points, np.float32) * np.asarray(squeeze, np.float32), None
    for p, q, r, s in zip(points, points[1:], radii, radii[1:]):
        d, away = q - p, [axis - a for axis, a in zip(place, p)]
        t = np.clip(sum(a * b for a, b in zip(away, d)) / float(d @ d), 0, 1)
        inside = float(r) + t * float(s - r) - np.sqrt(sum((a - t * b) ** 2 for a, b in zip(away, d)))
        depth = inside if depth is None else np.maximum(depth, inside)
    assert depth is not None
    return depth


def bell(distance: np.ndarray, width: float) -> np.ndarray:
    """1 in the middle, falling as a Gaussian."""
    return np.exp(-0.5 * (distance / width) ** 2)


def smooth_noise(rng: np.random.Generator, axis: np.ndarray, knots: int) -> np.ndarray:
    """A cubic spline through `knots` x `knots` standard normal draws over the image, sampled on `axis`."""
    basis = CubicSpline(np.linspace(0, 1, knots), np.eye(knots))(axis).astype(np.float32)
    return basis @ rng.standard_normal((knots, knots)).astype(np.float32) @ basis.T
