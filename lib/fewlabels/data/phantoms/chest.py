"""Synthetic chest radiographs with the five structures of JSRT/SCR.

A radiograph is a sum: what lies behind one another adds to the attenuation, and the film's curve turns the sum into
grey. So each function below draws the parameters of one structure and returns what it adds, or what its air takes
away. Ribs cross the lungs, the spine shines through the heart; only labels have a front and a back.

All is drawn in the patient's frame: `y` runs down from the lung apices, `x` from the midline to the patient's left
(the image's right, as in every postero-anterior view) or, for paired structures, laterally on either side. The unit
is the side of the image, for lengths too. Random numbers make anatomy, never pixels (but for quantum noise, drawn
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

SOURCE = "synthetic chest radiographs (fewlabels.data.phantoms.chest)"
CLASSES = ("background", "heart", "left clavicle", "right clavicle", "left lung", "right lung")
SIDES = {"right": -1, "left": 1}  # the sign of `x` on the patient's right and left
FIELD_MM = 0.175 * 2048  # side of a JSRT film
SMALLEST = 32  # there, clavicles are a pixel thick
Trait = Callable[[float, float], float]  # (low, high) -> a draw
SUPERSAMPLING = 3  # odd, so that a pixel's centre is one of its samples


def chest(n: int = 247, seed: int = 0, size: int = 64) -> Cohort:
    """`n` subjects, in form as `jsrt.load` has them; `i` depends on `seed` and `i` only, its anatomy not on `size`."""
    for name, value, least in (("n", n, 1), ("seed", seed, 0), ("size", size, SMALLEST)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise BadInput(f"chest phantom {name}", f"an integer of at least {least}", repr(value))
    subjects = [_subject(np.random.default_rng(np.random.SeedSequence([seed, i])), size) for i in range(n)]
    images, labels, lungs = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*subjects, strict=True))
    ids = tuple(f"PHANTOM{i + 1:03d}" for i in range(n))
    meta = {"data": "phantom", "source": SOURCE, "seed": int(seed), "size": int(size), "lungs": lungs}
    return Cohort(images[:, None], labels, ids, CLASSES, (FIELD_MM / size,) * 2, groups=ids, meta=meta)


class Build(NamedTuple):
    """What the structures of one subject share. Lengths in sides of the image."""

    width: float  # from the midline to the widest point of the rib cage
    height: float  # from the lung apices to the costophrenic angles
    fat: float  # thickness of the chest wall
    turn: float  # obliquity: what lies in front moves this far to the image's right, the spine to its left


def _subject(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One image, float32 `(size, size)` in [-1, 1], its labels, int64 `(size, size)`, and lung fields, uint8."""
    samples, build = size * SUPERSAMPLING, _build(rng)
    axis = ((np.arange(samples) + 0.5) / samples).astype(np.float32)
    y, x = _patient_frame(rng, axis, build)
    common = int(rng.integers(2**32))  # the two sides of a person differ less than two persons do
    sides = {name: _side(_traits(common, rng), rng, y, sign * x, sign, build) for name, sign in SIDES.items()}
    heart = _heart(rng, y, x, sides["left"].diaphragm, build)
    displaced = 1 - rng.uniform(0.7, 0.9) * _rounded(heart, 0.05)  # where the heart is, there is less lung
    attenuation = (
        _soft_tissue(rng, y, x, build)
        + _midline(rng, y, x, build)
        + rng.uniform(0.02, 0.20) * _rounded(heart, 0.10)
        + sum(side.bone_and_tissue - side.air * displaced for side in sides.values())
        - _stomach_bubble(rng, y, x, build)
        + sum(0.32 / knots**0.7 * smooth_noise(rng, axis, knots) for knots in (5, 12, 30, 60))
    )
    image = _film(rng, attenuation, axis).reshape(size, SUPERSAMPLING, size, SUPERSAMPLING).mean((1, 3))
    image = image + rng.uniform(0.01, 0.07) * rng.standard_normal(image.shape)  # quantum noise

    labels = np.zeros((samples, samples), np.int64)
    for structure in ("lung", "clavicle"):  # from back to front: the last one written is seen
        for name, side in sides.items():
            labels[getattr(side, structure) > 0] = CLASSES.index(f"{name} {structure}")
        if structure == "lung":  # by definition they end at the heart, but not at the bones before them
            lungs = np.where(heart > 0, 0, labels).astype(np.uint8)
    labels[heart > 0] = CLASSES.index("heart")
    centres = slice(SUPERSAMPLING // 2, None, SUPERSAMPLING)
    return np.clip(image, -1, 1).astype(np.float32), labels[centres, centres], lungs[centres, centres]


def _build(rng: np.random.Generator) -> Build:
    """A person: wide or narrow, breathing in deeply or not, more or less squarely in front of the film."""
    habitus = rng.standard_normal()  # positive: wide, short and stout
    width = _clip(0.395 + 0.020 * habitus + 0.018 * rng.standard_normal(), 0.31, 0.44)
    height = _clip(0.66 - 0.025 * habitus + 0.050 * rng.standard_normal(), 0.50, 0.78)
    fat = _clip(0.045 + 0.015 * habitus + 0.010 * rng.standard_normal(), 0.015, 0.1)
    return Build(width, height, fat, turn=_clip(0.014 * rng.standard_normal(), -0.03, 0.03))


def _patient_frame(rng: np.random.Generator, axis: np.ndarray, build: Build) -> tuple[np.ndarray, np.ndarray]:
    """`(y, x)` of each sample: shift, tilt, and a smooth warp, so that no outline is a textbook curve."""
    row, column = np.meshgrid(axis, axis, indexing="ij")  # from the top left corner of the image
    apices = _clip(rng.uniform(0.07, 0.20), 0.06, 0.96 - build.height)  # the angles stay on the film
    y, x = row - apices, column - 0.5 - 0.02 * rng.standard_normal()
    tilt = math.radians(_clip(2.5 * rng.standard_normal(), -6, 6))
    y, x = y * math.cos(tilt) - x * math.sin(tilt), y * math.sin(tilt) + x * math.cos(tilt)
    return y + 0.011 * smooth_noise(rng, axis, 6), x + 0.011 * smooth_noise(rng, axis, 6)


def _traits(common: int, rng: np.random.Generator) -> Trait:
    """`trait(low, high)`: a draw that both sides of the body share, but for a tenth of its range."""
    shared = np.random.default_rng(common)
    return lambda low, high: shared.uniform(low, high) + 0.1 * (high - low) * rng.standard_normal()


class Side(NamedTuple):
    """One half of the chest: depth inside lung and clavicle, height of the dome, and attenuation."""

    lung: np.ndarray
    clavicle: np.ndarray
    diaphragm: np.ndarray
    bone_and_tissue: np.ndarray
    air: np.ndarray


def _side(trait: Trait, rng: np.random.Generator, y: np.ndarray, x: np.ndarray, sign: int, build: Build) -> Side:
    """All paired structures of one side; `x` is the lateral distance from the midline."""
    medial, lateral = _lung_edges(trait, y, sign, build)
    dome = _diaphragm(trait, rng, x, sign, build)
    lung = np.minimum(np.minimum(lateral - x, x - medial), np.minimum(dome - y, y))
    clavicle, clavicle_bone = _clavicle(trait, y, x, sign, build)
    cage = _step(lateral + 0.012 - x, 0.01)  # ribs lie around the lung
    bone_and_tissue = (
        clavicle_bone
        + rng.uniform(0.05, 0.20) * _step(y - dome, 0.008) * cage  # liver and spleen
        + _ribs(trait, y, x, build) * cage
        + _scapula(trait, y, x, build)
        + _breast(trait, y, x, build)
    )
    outlined = np.minimum(clavicle, np.maximum(lateral, 0.72 * build.width) + trait(0.0, 0.03) - x)  # to the cage
    half, air = x > 0, np.zeros_like(y)
    within = half & (lung > 0)
    air[within] = (rng.uniform(0.5, 0.75) - _vessels(rng, y[within], x[within], build)) * _rounded(lung[within], 0.06)
    return Side(np.where(half, lung, -1), np.where(half, outlined, -1), dome, bone_and_tissue * half, air)


def _lung_edges(trait: Trait, y: np.ndarray, sign: int, build: Build) -> tuple[np.ndarray, np.ndarray]:
    """Lateral distances of the lung's medial and lateral edge at each height `y`; they meet at the apex."""
    apex, widest = build.width * trait(0.38, 0.50), build.width * trait(0.95, 1.05)
    below = np.clip(y / build.height, 0, 1)
    roof = 1 - np.clip(below / trait(0.50, 0.80), 0, 1)  # the rib cage: a dome, then nearly straight
    lateral = apex + (widest - apex) * np.sqrt(1 - roof ** trait(1.9, 3.0))
    lateral = lateral + trait(-0.10, 0.05) * np.clip(below - 0.6, 0, 1)
    edge = build.width * trait(0.17, 0.27) + sign * build.turn  # great vessels; lower, the heart hides it
    roof = 1 - np.clip(below / trait(0.12, 0.25), 0, 1)
    medial = apex - (apex - edge) * np.sqrt(1 - roof**2)
    arch = (sign > 0) * trait(0.0, 0.035) * bell(below - trait(0.24, 0.34), 0.06)
    hilum = trait(0.0, 0.02) * bell(below - trait(0.42, 0.50), 0.08)
    return medial + hilum + arch, lateral


def _diaphragm(trait: Trait, rng: np.random.Generator, x: np.ndarray, sign: int, build: Build) -> np.ndarray:
    """Height `y` of the dome at each lateral distance: steep to the costophrenic angle, shallow medially."""
    position = x / build.width
    summit, angle, medial = trait(0.40, 0.60), trait(0.08, 0.17), trait(0.02, 0.06)
    lateral_fall = angle * np.clip((position - summit) / (1 - summit), 0, 1.2) ** trait(1.8, 3.0)
    medial_fall = medial * np.clip((summit - position) / summit, 0, 1) ** 2
    lower_left = (0.02 if sign > 0 else 0) + 0.012 * rng.standard_normal()  # the liver holds the right one up
    return build.height - angle + lower_left + lateral_fall + medial_fall


def _clavicle(trait: Trait, y: np.ndarray, x: np.ndarray, sign: int, build: Build) -> tuple[np.ndarray, np.ndarray]:
    """The S-shaped bone from sternum, where it is stouter, to shoulder: depth inside it, and its attenuation."""
    medial, lateral = 0.05 + sign * 1.5 * build.turn, build.width * trait(1.15, 1.3)
    along = np.clip((x - medial) / (lateral - medial), 0, 1)
    height, rise, bow, arch = trait(0.08, 0.19), trait(0.02, 0.15), trait(0.0, 0.02), trait(-0.01, 0.025)
    centre = height - rise * along - bow * np.sin(2 * math.pi * along) - arch * np.sin(math.pi * along)
    half = trait(0.017, 0.024) * (1 + 0.35 * (1 - along) ** 2) * _rounded(np.minimum(along, 1 - along), 0.05)
    return half - np.abs(y - centre), trait(0.16, 0.30) * _tube(y - centre, half)


def _ribs(trait: Trait, y: np.ndarray, x: np.ndarray, build: Build) -> np.ndarray:
    """Posterior arcs that fall laterally, and fainter anterior ones that fall medially to the cartilage."""
    q, pitch = np.clip(x / build.width, 0, 1.1), build.height / trait(7.5, 9.5)
    posterior = y + trait(0.0, 0.08) - trait(0.22, 0.36) * build.width * q**2
    anterior = y + trait(0.0, 0.08) - trait(0.55, 0.85) * build.width * (1 - q)
    rear = _tube((posterior / pitch % 1 - 0.5) * pitch, pitch * trait(0.17, 0.22)) * _step(q - 0.12, 0.03)
    front = _tube((anterior / pitch % 1 - 0.5) * pitch, pitch * trait(0.18, 0.25)) * _step(q - 0.47, 0.15)
    bones = trait(0.06, 0.14) * rear + trait(0.03, 0.10) * front
    return bones * _step(y + 0.01, 0.02) * _step(build.height - y, 0.10)


def _scapula(trait: Trait, y: np.ndarray, x: np.ndarray, build: Build) -> np.ndarray:
    """The blade's medial border beside, or over, the upper lateral lung, and the head of the humerus."""
    border = build.width * trait(0.86, 1.15) + 0.25 * np.clip(y - 0.22, 0, 1) - 0.15 * np.clip(0.1 - y, 0, 1)
    blade = _step(x - border, 0.012) * _step(y + 0.02, 0.03) * _step(trait(0.28, 0.42) - y, 0.04)
    joint = np.hypot(x - build.width * trait(1.25, 1.4), y - trait(-0.02, 0.06))
    return trait(0.04, 0.12) * blade + trait(0.1, 0.25) * _step(0.06 - joint, 0.02)


def _breast(trait: Trait, y: np.ndarray, x: np.ndarray, build: Build) -> np.ndarray:
    """A soft shadow with a curved lower border, in about half of the subjects."""
    amount, radius = max(trait(-0.18, 0.18), 0), trait(0.12, 0.20)
    down = (y - build.height * trait(0.60, 0.80)) / (1.1 * radius)
    out = (x - build.width * trait(0.50, 0.75)) / radius
    depth = 1 - np.hypot(out, np.where(down < 0, down / 1.8, down))  # above, it fades into the chest wall
    return amount * _rounded(depth, 0.5)


def _vessels(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, build: Build, branches: int = 14) -> np.ndarray:
    """Arteries and veins that leave the hilum, curved and thinning; in some lungs a nodule."""
    hilum_y, hilum_x = 0.45 * build.height, 0.24 * build.width
    tree = rng.uniform(0.05, 0.15) * bell(np.hypot(y - hilum_y, x - hilum_x), 0.06)
    for direction in rng.uniform(-math.pi / 2, math.pi / 2, branches).tolist():
        down, out = y - hilum_y - rng.normal(0, 0.05), x - hilum_x - rng.uniform(-0.03, 0.06)
        along = down * math.sin(direction) + out * math.cos(direction)
        aside = down * math.cos(direction) - out * math.sin(direction) - rng.uniform(-2, 2) * along**2
        calibre, reach = rng.uniform(0.003, 0.008), rng.uniform(0.05, 0.15)
        fading = np.exp(-0.5 * (aside / calibre) ** 2 - np.abs(along) / reach)
        tree += rng.uniform(0.1, 0.25) * fading * (along > 0)
    place = np.hypot(y - build.height * rng.uniform(0.2, 0.8), x - build.width * rng.uniform(0.4, 0.9))
    return tree + 0.2 * (rng.random() < 0.3) * bell(place, rng.uniform(0.008, 0.02))


def _heart(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, floor: np.ndarray, build: Build) -> np.ndarray:
    """Depth inside the heart: an egg whose apex points down and to the patient's left, on the diaphragm."""
    cardiothoracic = rng.uniform(0.53, 0.62) if rng.random() < 0.15 else rng.uniform(0.36, 0.52)
    half_width = min(cardiothoracic * build.width, 0.36 * build.height)
    roundness, axis_angle = rng.uniform(0.65, 0.90), math.radians(rng.uniform(20, 55))
    out = x - (build.width * rng.uniform(0.06, 0.24) + build.turn)
    down = y - (floor.min() + 0.02 - half_width * rng.uniform(0.55, 0.80))
    radius, angle = np.hypot(down, out), np.arctan2(down, out) - axis_angle
    egg = roundness / np.sqrt((roundness * np.cos(angle)) ** 2 + np.sin(angle) ** 2)
    for lobes in (1, 3, 4, 5):  # atrium, pulmonary trunk, ventricle: no two hearts share an outline
        egg = egg + rng.normal(0, 0.09 / lobes) * np.cos(lobes * angle + rng.uniform(0, 2 * math.pi))
    return np.minimum(1.08 * half_width * egg - radius, floor + rng.uniform(0.02, 0.05) - y)


def _midline(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, build: Build) -> np.ndarray:
    """What overlaps the mediastinum: spine with its discs, great vessels, and the dark windpipe."""
    pitch = build.height / rng.uniform(9, 11)
    discs = 1 - 0.35 * bell((y / pitch % 1 - 0.5) * pitch, 0.008)
    spine = rng.uniform(0.08, 0.22) * _step(rng.uniform(0.035, 0.05) - np.abs(x + build.turn), 0.012) * discs
    vessels = rng.uniform(0.0, 0.2) * bell(x, 0.26 * build.width) * _step(y - 0.1, 0.1)
    lean, carina = rng.uniform(-0.02, 0.06), build.height * rng.uniform(0.30, 0.40)
    fork = np.abs(np.abs(x + lean * y) - 0.8 * np.clip(y - carina, 0, 1))  # splits into the main bronchi
    windpipe = _step(rng.uniform(0.018, 0.026) - fork, 0.012) * _step(carina + 0.06 - y, 0.05)
    return spine + vessels - rng.uniform(0.12, 0.3) * windpipe


def _soft_tissue(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, build: Build) -> np.ndarray:
    """Neck, shoulders and trunk; more of it below. Air beside the neck and under the arms stays dark."""
    side, chest_wall = np.abs(x), 1.03 * build.width + build.fat
    neck = rng.uniform(0.11, 0.15) + 0.4 * build.fat
    shoulder = -0.17 - build.fat + rng.uniform(0.25, 0.45) * np.clip(side - neck, 0, 1)
    armpit = rng.uniform(0.12, 0.28)  # above it, the trunk flares into the arm
    outline = chest_wall + 0.1 * np.exp(np.clip((armpit - y) / 0.06, -9, 3))
    body = np.maximum(_step(y - shoulder, 0.02) * _step(outline - side, 0.02), _step(neck - side, 0.02))
    depth = 0.75 + 0.25 * np.sqrt(np.clip(1 - (side / (chest_wall + 0.15)) ** 2, 0, 1))
    return body * (depth + (0.05 + 2 * build.fat) * np.clip(y, 0, 1))


def _stomach_bubble(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, build: Build) -> np.ndarray:
    """Air under the left dome of most subjects: dark, round, and no lung."""
    amount = rng.uniform(0.2, 0.5) * (rng.random() < 0.7)
    down = (y - build.height - rng.uniform(-0.03, 0.03)) / rng.uniform(0.025, 0.05)
    out = (x - build.width * rng.uniform(0.35, 0.65)) / rng.uniform(0.04, 0.08)
    return amount * _rounded(1 - np.hypot(down, out), 0.4)


def _film(rng: np.random.Generator, attenuation: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """The film's S-shaped curve under a varying exposure; tissue bright, as in JSRT once inverted."""
    row, column = axis[:, None] - 0.5, axis[None, :] - 0.5
    exposure = rng.uniform(0.50, 0.95) + rng.normal(0, 0.16) * row + rng.normal(0, 0.16) * column
    grey = 0.5 + 0.5 * np.tanh(rng.uniform(1.1, 2.6) * (attenuation - exposure))
    return rng.uniform(1.7, 1.95) * grey ** rng.uniform(0.8, 1.3) - rng.uniform(0.85, 1.0)


def _clip(value: float, low: float, high: float) -> float:
    """A scalar kept in its range, as a plain float: a NumPy one would turn single precision into double."""
    return float(np.clip(value, low, high))


def _step(depth: np.ndarray, softness: float) -> np.ndarray:
    """0 outside, 1 inside, with an edge about `softness` wide."""
    return 0.5 + 0.5 * np.tanh(2 * depth / softness)


def _rounded(depth: np.ndarray, rim: float) -> np.ndarray:
    """0 outside; inside, the thickness of a body whose rounded rim is `rim` wide: steep, then flat."""
    d = np.clip(depth / rim, 0, 1)
    return np.sqrt(d * (2 - d))


def _tube(distance: np.ndarray, half: np.ndarray | float) -> np.ndarray:
    """A hollow bone: its two cortical walls are denser than its middle."""
    d = np.abs(distance) / np.maximum(half, 1e-6)
    return np.where(d < 1, 0.7 + 0.3 * d**4, 0)
