"""Synthetic short-axis stacks of the heart with the three structures of ACDC, in its five groups.

A slice is painted from back to front, as one organ hides another: each function below draws the parameters of what it
paints and hands over how deep inside each point lies; the painter turns that into how much of the pixel is covered.
Labels are what lies deeper than 0 at a pixel's centre.

All is drawn in the patient's frame: the origin is the middle of the left ventricle, `y` runs down to the abdomen, `x`
from the breastbone to the left lung, `t` along the ventricle, 0 at the valves, 1 at the apex; `rough_y`, `rough_x` make
outlines irregular. The unit is the side of the image. Random numbers make anatomy, never pixels (but for noise, drawn
last), so that one subject is the same person at every size.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from fewlabels.data.cohort import Cohort
from fewlabels.data.phantoms.shapes import bell, smooth_noise
from fewlabels.errors import BadInput

SOURCE = "synthetic short-axis stacks of the heart (fewlabels.data.phantoms.heart)"
CLASSES = ("background", "right ventricle", "myocardium", "left ventricle")
GROUPS = ("DCM", "HCM", "MINF", "NOR", "RV")  # in the order of ACDC's patients, 20 each
GRID, SPACING_MM = 224, 1.36719  # what ACDC is resampled to, and so the field of view of the phantom
SMALLEST = 32  # there, a healthy wall is a pixel thick


class Group(NamedTuple):
    """Ranges: cavity's radius and wall of the left ventricle at end-systole, in sides of the image (306 mm); size of
    the right one, 1 in health; the share of its thickness that the wall loses in an infarct."""

    cavity: tuple[float, float]
    wall: tuple[float, float]
    right: tuple[float, float]
    infarct: tuple[float, float] = (0.0, 0.0)


SHAPES = {
    "DCM": Group((0.088, 0.115), (0.022, 0.031), (0.85, 1.20)),
    "HCM": Group((0.028, 0.048), (0.055, 0.078), (0.80, 1.10)),
    "MINF": Group((0.062, 0.088), (0.030, 0.042), (0.85, 1.15), (0.50, 0.75)),
    "NOR": Group((0.046, 0.064), (0.035, 0.046), (0.85, 1.15)),
    "RV": Group((0.042, 0.062), (0.032, 0.045), (1.35, 1.70)),
}


def heart(n: int = 100, seed: int = 0, size: int = GRID) -> Cohort:
    """`n` stacks of 6 to 12 slices, in form as `acdc.load` has them, named and grouped as ACDC's patients.

    Intensities are scaled to the volume's 2nd and 98th percentile, as real ones are, which undoes a scanner's gain.
    Subject `i` depends on `seed` and `i` only, its anatomy not on `size`.
    """
    for name, value, least in (("n", n, 1), ("seed", seed, 0), ("size", size, SMALLEST)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise BadInput(f"heart phantom {name}", f"an integer of at least {least}", repr(value))
    patients = {f"patient{i + 1:03}": GROUPS[i // 20 % len(GROUPS)] for i in range(n)}
    stacks = [
        _stack(np.random.default_rng(np.random.SeedSequence([seed, i])), SHAPES[group], size)
        for i, group in enumerate(patients.values())
    ]
    images, labels = (torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*stacks))
    ids = tuple(f"{patient}/{z:02}" for patient, (_, mask) in zip(patients, stacks) for z in range(len(mask)))
    meta = {"data": "phantom", "source": SOURCE, "phase": "ES", "n4": False, "seed": int(seed), "size": int(size)}
    meta |= {"pathology": patients, "scale": dict.fromkeys(patients, (GRID / size,) * 2), "field": GRID}
    meta["native"] = {patient: torch.from_numpy(mask) for patient, (_, mask) in zip(patients, stacks)}
    groups = tuple(name.split("/")[0] for name in ids)
    return Cohort(images[:, None], labels.long(), ids, CLASSES, (SPACING_MM * GRID / size,) * 2, groups, meta)


def _stack(rng: np.random.Generator, group: Group, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One subject: image float32 `(Z, size, size)`, labels uint8 alike."""
    slices = int(rng.integers(6, 13))
    above, below = int(rng.random() < 0.2), int(rng.random() < 0.35)  # slices beyond the valves and the apex
    t = ((np.arange(slices, dtype=np.float32) - above + 0.5) / (slices - above - below))[:, None, None]
    y, x, axis = _patient_frame(rng, size)
    image = np.zeros((slices, size, size), np.float32)
    soft = math.hypot(1 / size, rng.uniform(0.003, 0.007))  # partial volume and blur

    def paint(depth: np.ndarray, value: float | np.ndarray) -> None:
        cover = np.clip(0.5 + depth / soft, 0, 1)
        np.add(image, cover * (value - image), out=image)

    greys = {"blood": (0.65, 1.0), "muscle": (0.16, 0.38), "fat": (0.55, 1.1), "lung": (0.02, 0.09)}
    tissue = {name: rng.uniform(*limits) for name, limits in greys.items()}
    shifts = 0.006 * rng.standard_normal((2, slices, 1, 1)).astype(np.float32)  # breath is never held twice alike
    y_heart, x_heart = (a - rng.uniform(-0.05, 0.05) * (t - 0.5) - shift for a, shift in zip((y, x), shifts))
    ventricles = _ventricles(rng, y_heart, x_heart, t, group)
    texture = 1 + sum(0.06 * smooth_noise(rng, axis, knots) for knots in (6, 20, 50))
    rough_y, rough_x = (0.010 * smooth_noise(rng, axis, 16) for _ in "yx")
    _body(rng, paint, y, x, rough_y, rough_x, t, tissue)
    _heart(rng, paint, y_heart, x_heart, rough_y, t, ventricles, tissue)
    labels = np.zeros(image.shape, np.uint8)
    for value, depth in enumerate(ventricles[:3], start=1):
        labels[depth > 0] = value

    near_coil = np.exp(-rng.uniform(0.0, 1.8) * x - rng.uniform(-0.8, 0.8) * y + 0.08 * smooth_noise(rng, axis, 4))
    image = np.maximum(image * texture, 0) ** rng.uniform(0.85, 1.2) * near_coil
    image *= rng.uniform(0.9, 1.1, (slices, 1, 1)).astype(np.float32)
    real, imaginary = rng.uniform(0.012, 0.045) * rng.standard_normal((2, *image.shape), np.float32)
    image = np.hypot(image + real, imaginary)  # a magnitude, so that air is not 0
    low, high = np.percentile(image, (2, 98))
    return ((image - low) / (high - low)).astype(np.float32), labels


def _patient_frame(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`y, x`, float32 `(size, size)`, and the axis of the image: shift, turn, scale and a smooth warp."""
    axis = ((np.arange(size) + 0.5) / size).astype(np.float32)
    row, column = np.meshgrid(axis, axis, indexing="ij")
    turn = math.radians(rng.uniform(-22, 22) + (75 if rng.random() < 0.3 else 0))  # some lie across
    row, column = row - rng.uniform(0.36, 0.48), column - rng.uniform(0.36, 0.48)
    scale = float(np.clip(1 + 0.09 * rng.standard_normal(), 0.8, 1.25))
    y = (row * math.cos(turn) - column * math.sin(turn)) / scale + 0.008 * smooth_noise(rng, axis, 7)
    x = (row * math.sin(turn) + column * math.cos(turn)) / scale + 0.008 * smooth_noise(rng, axis, 7)
    return y, x, axis


class Ventricles(NamedTuple):
    """Depth inside each structure: the wall's includes the cavity's; and what is needed to paint around and in them."""

    right: np.ndarray
    wall: np.ndarray
    left: np.ndarray
    radius: np.ndarray
    angle: np.ndarray  # from the middle of the septum


def _ventricles(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, t: np.ndarray, group: Group) -> Ventricles:
    """A bullet with a wall, and a crescent against it that ends before the apex."""
    cavity, wall, right, infarct = (rng.uniform(*limits) for limits in group)
    radius, septum = np.hypot(y, x), math.radians(rng.uniform(165, 215))
    angle = np.arctan2(y, x) - septum
    within = np.where((t > 0) & (t < 1), 1, np.nan)  # beyond, nothing is inside
    bullet = np.sqrt(1 - np.clip(t, 0, 1) ** rng.uniform(2.2, 3.2))
    oval = 1 + rng.uniform(0.0, 0.07) * np.cos(2 * (angle - rng.uniform(0, math.pi)))
    scar = np.clip(1.6 * np.cos(angle - rng.uniform(0.6, 5.6)) - 0.3, 0, 1) * bell(t - rng.uniform(0.4, 0.8), 0.3)
    thickness = wall * (0.75 + 0.25 * bullet) * (1 + 0.08 * np.cos(angle - rng.uniform(0, 6.28))) * (1 - infarct * scar)
    outer = (cavity + wall) * bullet * oval

    crescent = np.sqrt(np.clip(1 - (np.clip(t, 0, 1) / rng.uniform(0.72, 0.87)) ** 2, 0, 1))
    reach, half = 0.064 * right * crescent, 0.100 * right * crescent + 1e-3  # beyond the wall; along it
    across = (cavity + wall) * bullet + reach - 0.8 * half
    away, along = radius * np.cos(angle) - across, radius * np.sin(angle)
    along = along - rng.uniform(-0.25, 0.25) * away  # one horn is longer
    body = half * (1 - np.hypot(away / (0.8 * half), along / half))
    parts = (np.minimum(body, np.where(crescent > 0, radius - outer, -1)), outer - radius, outer - thickness - radius)
    parts = [np.nan_to_num(part * within, nan=-1).astype(np.float32) for part in parts]
    return Ventricles(parts[0], parts[1], parts[2], radius, angle)


def _heart(
    rng: np.random.Generator, paint: Callable[..., None], y: np.ndarray, x: np.ndarray, rough: np.ndarray,
    t: np.ndarray, ventricles: Ventricles, tissue: dict[str, float],
) -> None:  # fmt: skip
    """Fat around the heart, the aorta beside it, walls, blood, papillary muscles; atria above the valves."""
    right, wall, left, radius, angle = ventricles
    paint(np.maximum(right, wall) + rng.uniform(0.004, 0.016) + rough, rng.uniform(0.3, 0.9) * tissue["fat"])
    paint(right + rng.uniform(0.008, 0.013), tissue["muscle"])
    paint(wall + 0.004, 0.8 * tissue["muscle"])  # pericardium
    aorta = _ellipse(y, x, rng.uniform(0.13, 0.19), rng.uniform(0.05, 0.12), *[rng.uniform(0.026, 0.038)] * 2)
    atria = [
        _ellipse(y, x, *place, *rng.uniform(0.04, 0.07, 2).tolist()) - (t > 0)  # one is the root of the aorta
        for place in ((-0.01, 0.03), (-0.04, -0.08), (-0.09, 0.0))
    ]
    for vessel in (aorta, *atria):
        paint(vessel + 0.007, tissue["muscle"])
        paint(vessel, rng.uniform(0.85, 1.1) * tissue["blood"])
    paint(right, rng.uniform(0.75, 1.0) * tissue["blood"])
    paint(wall, tissue["muscle"])
    paint(left, tissue["blood"])
    inner = left + radius  # the cavity's radius in each direction
    for side in (-1, 1):  # papillary muscles
        direction, place = math.pi + side * math.radians(rng.uniform(40, 85)), rng.uniform(0.60, 0.85) * inner
        away = np.hypot(*(radius * f(angle) - place * f(direction) for f in (np.cos, np.sin)))
        thick = rng.uniform(0.22, 0.34) * inner * bell(t - rng.uniform(0.45, 0.6), 0.22)
        paint(np.minimum(thick + 0.3 * rough - away, left + 0.3 * inner), 1.2 * tissue["muscle"])


def _body(
    rng: np.random.Generator, paint: Callable[..., None], y: np.ndarray, x: np.ndarray, rough_y: np.ndarray,
    rough_x: np.ndarray, t: np.ndarray, tissue: dict[str, float],
) -> None:  # fmt: skip
    """Fat and muscle of the trunk, lungs with their vessels, and below the diaphragm liver, bowel and other organs."""
    y_trunk = y + 0.4 * rough_y - rng.uniform(0.04, 0.14)
    x_trunk = x + 0.4 * rough_x - rng.uniform(0.13, 0.20) - rng.uniform(-0.08, 0.08) * (t - 0.5)
    a, b = y_trunk / rng.uniform(0.52, 0.75), x_trunk / rng.uniform(0.37, 0.46)
    trunk = 0.4 * (1 - (np.hypot(a, b) + np.sqrt(np.hypot(a * a, b * b))) / 2)  # between an ellipse and a rectangle
    fat = rng.uniform(0.02, 0.07) * (1 + 0.7 * np.cos(np.arctan2(a, b) - rng.uniform(2.5, 4.5)))
    chest = trunk - fat - rng.uniform(0.015, 0.03)
    dome = rng.uniform(0.07, 0.15) - rng.uniform(0.06, 0.16) * t + rng.uniform(0.3, 1.2) * (x - 0.1) ** 2 + rough_x
    paint(trunk, tissue["fat"])
    paint(trunk - fat, tissue["muscle"])
    vessels = np.zeros_like(trunk)
    for _ in range(24):
        calibre, amount = rng.uniform(0.003, 0.009), rng.uniform(0.2, 0.9)
        width = math.hypot(calibre, 0.5 / len(y))
        (y0, x0), (dy, dx) = rng.uniform((-0.35, -0.08), (0.12, 0.38)).tolist(), rng.uniform(-0.1, 0.1, 2).tolist()
        vessels += amount * (calibre / width) ** 2 * bell(np.hypot(y - y0 - dy * t, x - x0 - dx * t), width)
    paint(np.minimum(chest, dome - y), tissue["lung"] + tissue["blood"] * vessels)

    abdomen, y, x = np.minimum(chest, y - dome), y + 2 * rough_y, x + 2 * rough_x  # nothing here is an ellipse
    paint(abdomen, rng.uniform(0.4, 1.0) * tissue["fat"])
    liver = _ellipse(y, x, *rng.uniform((0.2, -0.2, 0.12, 0.15), (0.32, 0.05, 0.22, 0.30)).tolist())
    paint(np.minimum(abdomen - 0.006, liver + 0.05 * (t - 0.5)), rng.uniform(0.2, 0.45))
    for _ in range(rng.integers(6, 12)):  # stomach, spleen, kidneys, bowel
        y0, x0, half_y, half_x = rng.uniform((0.12, -0.15, 0.015, 0.015), (0.50, 0.40, 0.08, 0.08)).tolist()
        organ = _ellipse(y, x, y0 - 0.08 * t, x0, half_y, half_x) + rng.uniform(-0.03, 0.03) * (t - 0.5)
        organ = np.minimum(abdomen - 0.008, organ)
        paint(organ + 0.004, rng.uniform(0.05, 0.3))
        paint(organ, rng.uniform(0.1, 0.7))


def _ellipse(
    y: np.ndarray, x: np.ndarray, y0: float | np.ndarray, x0: float, half_y: float, half_x: float
) -> np.ndarray:
    """Depth inside an ellipse; exact on its axes only."""
    return np.minimum(half_y, half_x) * (1 - np.hypot((y - y0) / half_y, (x - x0) / half_x))
