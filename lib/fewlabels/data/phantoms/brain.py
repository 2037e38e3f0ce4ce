"""Synthetic MR half-slices of the brain with tumours, in the four sequences of BraTS.

A volume is painted from back to front, as one tissue fills another: each function below draws the parameters of what
it paints and hands over how deep inside it, in mm, each point lies; the painter turns that into how much of the voxel
is covered. The label is what lies deeper than 0 inside a lesion at a voxel's centre.

All is drawn in the patient's frame, in mm: the origin lies between the thalami, `z` runs up, `y` to the back, `x` to
the patient's left, in the order of the array's axes. Paired structures are painted on both sides, a little unlike.
Random numbers make anatomy, never pixels (but for noise, drawn last), so that a patient is the same at every size.

A tumour displaces what is around it. FLAIR alone does not give it away: old spots in the white matter, caps on the
ventricles, and grey matter under a coil's bright side are as bright as some lesions, and each scan has its own gain.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from scipy.interpolate import CubicSpline

from fewlabels.data.cohort import Cohort
from fewlabels.data.half_slices import SEQUENCES, SIDE, domains_of, half_name, halves, standardised
from fewlabels.data.phantoms.shapes import bell, tube
from fewlabels.errors import BadInput

SOURCE = "synthetic brain MR with tumours (fewlabels.data.phantoms.brain)"
CLASSES = ("background", "whole tumour")
SMALLEST = 40  # pixels: there, a cortex is a pixel thick
SPLINE = {"order": 2, "mode": "grid-wrap", "prefilter": False}
LEVELS = np.linspace(-7, 37, 12)  # `z` of the slices, mm: from the basal ganglia to above the ventricles

TISSUES = {  # relative signal in each sequence
    "white": (0.46, 0.80, 0.78, 0.36),
    "grey": (0.60, 0.58, 0.55, 0.52),
    "nuclei": (0.56, 0.66, 0.64, 0.43),
    "csf": (0.14, 0.22, 0.20, 1.00),
    "choroid": (0.62, 1.10, 0.46, 0.78),
    "spot": (0.86, 0.68, 0.64, 0.66),  # caps on the ventricles and old spots in the white matter
    "sinus": (0.20, 1.20, 0.40, 0.22),
    "oedema": (0.90, 0.60, 0.56, 0.76),
    "solid": (0.80, 0.62, 0.50, 0.70),
    "rim": (0.78, 1.25, 0.58, 0.62),
    "necrosis": (0.44, 0.34, 0.32, 0.94),
}


def brain(n: int = 24, seed: int = 0, size: tuple[int, int] = (SIDE, SIDE // 2)) -> Cohort:
    """Half-slices of `n` patients, in form as `brats.load` has them: of 12 slices each, those that its rules keep.

    size   of a half-slice in pixels, rows twice the columns; the field of view is always 240 x 120 mm

    One patient in four has a low-grade glioma: no necrosis, little or no contrast agent taken up. Patient `i` depends
    on `seed` and `i` only, its anatomy not on `size`. Raises `BadInput` for numbers that cannot be.
    """
    for name, value, least in (("n", n, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise BadInput(f"brain phantom {name}", f"an integer of at least {least}", repr(value))
    h, w = size if isinstance(size, (tuple, list)) and len(size) == 2 else (None, None)
    if any(isinstance(v, bool) or not isinstance(v, int | np.integer) for v in (h, w)) or h != 2 * w or h < SMALLEST:
        raise BadInput("brain phantom size", f"rows and columns, rows = 2 columns and at least {SMALLEST}", repr(size))
    grade = {f"phantom{i + 1:03}": "LGG" if i % 4 == 3 else "HGG" for i in range(n)}
    images, labels, ids, counts = [], [], [], {}
    rngs = (np.random.default_rng(np.random.SeedSequence([seed, i])) for i in range(n))
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # NumPy lets go of Python's lock: each core has a patient
        made = pool.map(lambda rng, kind: _patient(rng, kind, h), rngs, grade.values())
    for patient, (volume, inside, lesion) in zip(grade, made, strict=True):
        present, absent = domains_of(inside, lesion)
        keep, counts[patient] = present | absent, (int(present.sum()), int(absent.sum()))
        images.append(np.moveaxis(halves(volume)[:, keep], 0, 1))
        labels.append(halves(lesion)[keep])
        ids += [half_name(patient, z, side) for z, side in np.argwhere(keep)]
    images, labels = (torch.from_numpy(np.concatenate(arrays)) for arrays in (images, labels))
    meta = {"data": "phantom", "source": SOURCE, "seed": int(seed), "sequences": SEQUENCES, "grade": grade}
    meta |= {"brain_share": 0.25, "halves": counts}
    groups = tuple(name.split("/")[0] for name in ids)
    return Cohort(images, labels.long(), tuple(ids), CLASSES, (SIDE / h,) * 2, groups, meta)


class Frame(NamedTuple):
    """Where each voxel lies in the patient's frame, float32 `(Z, H, W)` each, mm."""

    z: np.ndarray
    y: np.ndarray
    x: np.ndarray


def _patient(rng: np.random.Generator, grade: str, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image float32 `(4, Z, side, side)`, where the brain is and where a lesion is, bool `(Z, side, side)`."""
    pixel = SIDE / side
    at = (np.arange(side) - (side - 1) / 2) * pixel
    axes = (LEVELS - 15, at, at)
    smooth = {knots: _smooth(rng, axes, knots, 4) for knots in (5, 16, 32)}
    frame, place = _frame(rng, axes, smooth[5])
    skull = _skull(rng, place, smooth[5][3])
    lesions = _lesions(rng, grade)
    frame = _displaced(frame, place, lesions)
    pia = _pia(rng, frame, skull)

    tissue = {name: np.array(v) * rng.normal(1, 0.03, 4) for name, v in TISSUES.items()}
    image = np.empty((4, *skull.shape), np.float32)
    image[:] = tissue["white"][:, None, None, None]
    blur = math.hypot(pixel, rng.uniform(0.6, 1.2))  # partial volume, and the scanner's

    def paint(depth: np.ndarray, name: str, amount: float | np.ndarray = 1.0, soft: float = 0.0) -> None:
        cover = np.clip(0.5 + depth / math.hypot(blur, soft), 0, 1) * amount
        for channel, value in zip(image, tissue[name]):
            channel += cover * (value - channel)

    cortex = rng.uniform(2.6, 3.4) + 0.4 * smooth[16][0]
    paint(cortex - pia, "grey", soft=1.0)
    paint(rng.uniform(0.0, 0.7) + 0.3 * smooth[5][2] - pia, "csf")
    ventricles = _inner(rng, paint, frame, smooth)
    paint(2.5 - np.hypot(place.x, skull - 1.5), "sinus", place.y > 0)  # the sagittal one, behind
    lesion = _paint_lesions(rng, paint, place, lesions, pia - cortex, ventricles, smooth[16], smooth[32])

    image *= 1 + 0.03 * smooth[16][1]
    for channel, coil in zip(image, _smooth(rng, axes, 3, 4)):
        channel *= rng.uniform(0.75, 1.35) * np.exp(rng.uniform(0.04, 0.12) * coil)
    real, imaginary = rng.uniform(0.012, 0.03) * rng.standard_normal((2, *image.shape), np.float32)
    image = np.hypot(image + real, imaginary)
    inside = skull > 0
    image *= inside
    return standardised(image, image[:, inside].mean(), image[:, inside].std()), inside, (lesion > 0) & inside


def _frame(rng: np.random.Generator, axes: Sequence[np.ndarray], smooth: np.ndarray) -> tuple[Frame, Frame]:
    """The patient's frame with a smooth deformation, so that no outline is an ellipse, and without: pose and size."""
    place = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
    place += (15 * np.eye(3)[0] - rng.normal(0, (1, 3, 2))).astype(np.float32)[:, None, None, None]
    turn = np.eye(3)
    for (i, j), degrees in zip(((0, 1), (0, 2), (1, 2)), rng.normal(0, (3, 1.5, 2.5))):  # pitch, roll, yaw
        c, s, step = math.cos(math.radians(degrees)), math.sin(math.radians(degrees)), np.eye(3)
        step[[i, i, j, j], [i, j, i, j]] = c, -s, s, c
        turn = turn @ step
    scale = rng.uniform(0.99, 1.07) * rng.normal(1, 0.015, (3, 1))
    place = np.tensordot(np.float32(turn / scale), place, 1)
    return Frame(*(place + 1.3 * smooth[:3])), Frame(*place)


def _skull(rng: np.random.Generator, f: Frame, rough: np.ndarray) -> np.ndarray:
    """Depth inside the brain as it is after the skull is taken off: an egg, narrow in front."""
    width = 66 * (1 + rng.uniform(0.05, 0.11) * np.clip(f.y / 82, -1, 1) - 0.03 * np.clip(f.y / 82, -1, 1) ** 2)
    radius = (np.abs(f.x / width) ** 2.2 + np.abs(f.y / 82) ** 2.2 + np.abs(f.z / 70) ** 2.6) ** (1 / 2.4)
    return 66 * (1 - radius) + 0.8 * rough


def _pia(rng: np.random.Generator, f: Frame, skull: np.ndarray) -> np.ndarray:
    """Distance to the brain's surface, folded as it is: down the sulci, the fissure between the hemispheres and the
    Sylvian ones."""
    radius = np.sqrt(f.x**2 + f.y**2 + f.z**2) + 1
    outward = (radius / 70) ** -0.65  # folds run inwards: what is noise on the surface changes slowly with depth
    lattice = rng.standard_normal((16, 32, 32)).astype(np.float32)
    noise, *steps = (
        ndimage.map_coordinates(lattice, [(a * outward + d) / mm for a, d, mm in zip(f, by, (13, 8, 8))], **SPLINE)
        for by in ((0, 0, 0), (0, 1, 0), (0, 0, 1))
    )
    slope = np.sqrt(sum((step - noise) ** 2 for step in steps)) + 0.02
    deep = np.clip(skull - rng.uniform(16, 21) - 4 * noise, 0, None)  # a sulcus ends there
    sulci = np.hypot(np.abs(noise) / slope / outward, deep)  # about the distance to where the noise is 0
    bridge = np.clip(rng.uniform(27, 31) * (1 - np.hypot(f.y / 43, (f.z - 1) / 27)), 0, None)  # callosum, thalami
    pia = np.minimum(np.minimum(np.clip(skull, 0, None), sulci), np.hypot(f.x, bridge))
    for side in (-1, 1):
        insula = rng.normal(0, (3, 2, 1), (5, 3)) + ((2, -22, 62), (3, -19, 48), (3, -3, 41), (6, 14, 43), (11, 26, 60))
        insula = CubicSpline(range(5), insula * (0.35, 1, 1))(np.linspace(0, 4, 9))
        pia = np.minimum(pia, -tube(f._replace(z=0.35 * f.z, x=side * f.x), insula, [0.5] * 9))
    return pia


def _inner(rng: np.random.Generator, paint: Callable[..., None], f: Frame, smooth: dict[int, np.ndarray]) -> np.ndarray:
    """Nuclei, caps, ventricles with their choroid plexus, spots. Returns the depth inside the ventricles."""
    age, ventricles, choroid, caps = rng.uniform(0, 1), np.full_like(f.x, -99), [], 0
    wide, horn, rough = 0.9 + 0.6 * age, 0.2 + 1.2 * age, 0.6 * smooth[16][3]
    for side in (-1, 1):
        g = f._replace(x=side * f.x - rng.normal(0, 0.6))
        body = ((2, -33, 13 + horn), (9, -27, 8 + horn), (17, -12, 6.5 + horn), (21, 8, 9 + horn), (15, 26, 18 + horn))
        trigone = ((15, 26, 18 + horn), (5, 36, 26 + horn), (3, 54, 24))
        body, trigone = (np.array(points) + rng.normal(0, 0.8, (len(points), 3)) for points in (body, trigone))
        trigone[0] = body[-1]
        lateral = tube(g, body, wide * np.array((2.5, 5.5, 6.0, 6.0, 6.0))) + rough
        lateral = np.maximum(lateral, tube(g, trigone, wide * np.array((6.0, 5.0, 1.0))) + rough)
        ventricles = np.maximum(ventricles, np.minimum(lateral, g.x - 1))  # the septum lies between
        for centre, radii in (
            ((4, 9, 10.5), (11, 15, 9)),  # thalamus
            ((3, -24, 15), (12, 11, 6.5)),  # head of the caudate, and its body
            ((19, -4, 17), (6, 20, 3.5)),
            ((2, -3, 28), (11, 18, 5.5)),  # putamen; the pallidum beside it
            ((0, -1, 20.5), (7, 9, 3.5)),
        ):
            paint(_ball(g, np.array(centre) + rng.normal(0, 0.6, 3), radii) + rough, "nuclei", 0.9, soft=1.5)
        choroid.append(tube(g, trigone[:2] + (0, 2, 0), [2.2, 2.4]) + rough)
        near = np.exp(-np.clip(-lateral, 0, None) / rng.uniform(2, 4)) * (np.abs(g.x - 12) < 40)
        caps = np.maximum(caps, near * np.maximum(bell(g.y + 36, 7), bell(g.y - 54, 9)))
    paint(99.0, "spot", np.clip(caps, 0, 1) * rng.uniform(0.4, 0.95))
    third = np.minimum(rng.uniform(1.0, 2.2) * wide - np.abs(f.x), 13 - np.hypot(f.y - 6, f.z + 3))
    ventricles = np.maximum(ventricles, third)
    for _ in range(rng.poisson(2 + 9 * age**2)):
        centre = (rng.uniform(0, 32), rng.uniform(-40, 50), rng.choice([-1, 1]) * rng.uniform(16, 38))
        radius = rng.uniform(1.5, 4.0)
        paint(_ball(f, centre, (radius, 1.3 * radius, radius)) + smooth[16][2], "spot", rng.uniform(0.4, 1), soft=1.5)
    paint(ventricles, "csf")
    for plexus in choroid:
        paint(np.minimum(plexus, ventricles), "choroid", 0.9)
    return ventricles


# ---- lesions ----


class Lesion(NamedTuple):
    """Centre and half axes of the core, mm; how far the oedema reaches beyond it; whether it is low-grade."""

    centre: np.ndarray
    core: np.ndarray
    reach: float
    low: bool


def _lesions(rng: np.random.Generator, grade: str) -> list[Lesion]:
    """One, in three patients of ten two, the second one smaller and mostly in the same hemisphere."""
    side, low, found = rng.choice([-1, 1]), grade == "LGG", []
    for i in range(1 + (rng.random() < 0.3)):
        angle, out = rng.uniform(0, 2 * math.pi), rng.uniform(0.2, 1.0)
        other = i and rng.random() < 0.2
        x = (-side if other else side) * (33 + 14 * out * math.cos(angle))
        centre = np.array((rng.uniform(3, 27), 4 + 50 * out * math.sin(angle), x))
        core = (rng.uniform(5, 9) if i else rng.uniform(9, 19)) * rng.uniform(0.8, 1.25, 3)
        found.append(Lesion(centre, core, rng.uniform(2, 6) if low else rng.uniform(5, 15), low))
    return found


def _displaced(frame: Frame, place: Frame, lesions: Sequence[Lesion]) -> Frame:
    """The frame in which healthy anatomy is painted: what a core has pushed aside is found nearer to its centre."""
    shift = [0, 0, 0]
    for lesion in lesions:
        away = [axis - c for axis, c in zip(place, lesion.centre)]
        radius = np.sqrt(sum(a**2 for a in away)) + 1e-3
        size = float(lesion.core.mean())
        push = 0.33 * size * np.exp(-radius / (1.6 * size)) * np.clip(radius / size, 0, 1) / radius
        shift = [s - push * a for s, a in zip(shift, away)]
    return Frame(*(axis + s for axis, s in zip(frame, shift)))


def _paint_lesions(
    rng: np.random.Generator, paint: Callable[..., None], f: Frame, lesions: Sequence[Lesion], below_cortex: np.ndarray,
    ventricles: np.ndarray, rough: np.ndarray, fine: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Oedema, which spreads in white matter, and cores: a rim that takes up contrast agent around necrosis, or solid.
    Returns the depth inside any of it."""
    whole = np.full_like(f.x, -99)
    for lesion in lesions:
        size = float(lesion.core.mean())
        core = _ball(f, lesion.centre, lesion.core) + 0.16 * size * rough[0] + 0.1 * size * fine[0]
        uneven = lesion.reach * (1 + 0.5 * rough[1]) + 0.12 * size * rough[2] + 2.0 * fine[1]
        oedema = np.minimum(_ball(f, lesion.centre, lesion.core) + uneven, below_cortex + rng.uniform(0.3, 1.5))
        falx = math.copysign(1, lesion.centre[2]) * f.x - rng.uniform(0.5, 4)  # none goes to the other side
        core, oedema = (np.minimum(depth, np.minimum(-ventricles, falx)) for depth in (core, oedema))
        paint(oedema, "oedema", rng.uniform(0.65, 1.0), soft=2.5)
        if lesion.low:
            paint(core, "solid", rng.uniform(0.75, 1.0), soft=2.0)
            if rng.random() < 0.4:  # a nodule
                paint(_ball(f, lesion.centre + rng.normal(0, 0.3 * size, 3), [0.3 * size] * 3), "rim", 0.7)
        else:
            wall = np.clip(rng.uniform(2.0, 4.5) + 1.4 * rough[3], 0.8, None)
            paint(core, "solid")
            paint(core, "rim", np.clip(rng.uniform(0.7, 1.1) + 0.25 * rough[1], 0.2, 1))
            paint(core - wall, "necrosis", rng.uniform(0.7, 1.0), soft=1.5)
        whole = np.maximum(whole, np.maximum(core, oedema))
    return whole


# ---- shapes ----


def _smooth(rng: np.random.Generator, axes: Sequence[np.ndarray], knots: int, n: int) -> np.ndarray:
    """`n` smooth fields of about unit variance, `(n, Z, H, W)`: splines through `knots` draws along the longer axes."""
    field = rng.standard_normal((n, max(3, knots // 2), knots, knots)).astype(np.float32)
    for axis, (at, extent) in enumerate(zip(axes, (35, SIDE / 2, SIDE / 2)), start=1):
        basis = CubicSpline(np.linspace(-extent, extent, field.shape[axis]), np.eye(field.shape[axis]))(at)
        field = np.moveaxis(np.tensordot(np.float32(basis), field, (1, axis)), 0, axis)
    return field / 0.75


def _ball(f: Frame, centre: Sequence[float] | np.ndarray, radii: Sequence[float] | np.ndarray) -> np.ndarray:
    """Depth inside an ellipsoid; exact on its axes only."""
    away = (((axis - c) / r) ** 2 for axis, c, r in zip(f, centre, radii))
    return float(np.mean(radii)) * (1 - np.sqrt(sum(away)))
