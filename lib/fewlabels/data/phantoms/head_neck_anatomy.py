"""Tissues and organs of the head and upper neck, as `head_neck` paints them, from back to front.

Each function draws the parameters of what it paints, in the patient's frame, from `rng`, and hands over how deep inside
it each point lies, in mm; `paint(depth, value)` covers what is there with a tissue of `value` HU. `sides`: the frame
and its mirror image, for paired structures; `rough`: four smooth fields of unit variance.

Sizes and Hounsfield units from the literature; what is not named here is a choice:

    parotid        28 and 22 cm3 in men and women (Brzoska et al. 2022), -4 +- 24 HU (J Korean Acad OMR 1999;29:209)
    submandibular  8.1 +- 2.6 cm3 ("Quantitative analysis of the submandibular gland using CT"), 50 +- 16 HU (as above)
    mandible       ramus 31 mm wide (doi:10.1186/s13005-020-00228-0); chin 11 mm thick, angle 5.4 (Ueda et al. 2023)
    optic nerve    3.0 x 5.9 mm (Parravano et al. 1993)
    chiasm         13.6 mm wide (Mncube and Goodier 2019), 3.5 mm high (Parravano); a little more, as contours have
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import numpy as np

from fewlabels.data.phantoms.shapes import tube


class Frame(NamedTuple):
    """Where each voxel lies in the patient's frame, float32 `(Z, Y, X)` each, mm."""

    z: np.ndarray
    y: np.ndarray
    x: np.ndarray

    def mirrored(self) -> Self:
        return self._replace(x=-self.x)


def mandible(rng: np.random.Generator, sides: Sequence[Frame]) -> np.ndarray:
    """Depth inside a horseshoe with two rami; teeth are not part of it."""
    wide, long, tall = rng.normal(1, 0.04, 3)
    body = [(-95, -84 * long, 0), (-92, -75 * long, 22 * wide), (-83, -50, 36 * wide), (-68, -20, 46 * wide)]
    ramus = [(-66, -17, 47 * wide), (-40, -15, 49 * wide), (-18, -11, 50 * wide)]
    thick, half_height, half_width = rng.uniform(4.8, 6.0), rng.uniform(12, 15) * tall, rng.uniform(13.5, 16.5)
    depths = []
    for f in sides:
        depths += [
            tube(f, body, (thick, thick, 0.95 * thick, 0.8 * thick), (thick / half_height, 1, 1)),
            tube(f, ramus, (4.0, 3.8, 3.2), (1, 4 / half_width, 1)),
            tube(f, [(-20, -9, 50 * wide), (-5, -7, 50 * wide)], (4.5, 6)),  # condyle
            tube(f, [(-28, -27, 48 * wide), (-10, -31, 47 * wide)], (4, 2.5)),  # coronoid process
        ]
    return np.maximum.reduce(depths)


def brain(rng: np.random.Generator, f: Frame, sides: Sequence[Frame]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depths inside the cavity of the skull, the brain stem, and the cisterns around it and the chiasm."""
    cerebrum = np.minimum(_ball(f, (62, 5, 0), (62, 85, 66)), f.z - 27)
    temporal = [_ball(s, (20, -10, 40), (19, 36, 24)) for s in sides]
    posterior = _ball(f, (0, 44, 0), (36, 42, 54))
    scale = rng.normal(1, 0.05)
    path = [(31, 3, 0), (20, 3, 0), (7, 1, 0), (-6, 7, 0), (-18, 13, 0), (-31, 18, 0)]
    radii = np.array([13, 13.5, 15, 12, 8, 7]) * scale
    stem = np.minimum(tube(f, path, radii, (1, 1.22, 1)), np.minimum(33 - f.z, f.z + 33))
    basal = _ball(f, (29, -14, 0), (10, 14, 17))
    cistern = np.maximum(np.minimum(stem + 5, 12 - f.y - 0.2 * f.z), basal)  # in front of the stem
    cistern = np.maximum(cistern, _ball(f, (2, 22, 0), (9, 4, 7)))  # and behind it the fourth ventricle
    for s in sides:
        cistern = np.maximum(cistern, _ball(s, (62, 0, 14), (10, 34, 6)))  # lateral ventricles
    return np.maximum.reduce([cerebrum, *temporal, posterior, stem + 4, basal]), stem, cistern


def body(
    rng: np.random.Generator, paint: Callable[..., None], f: Frame, sides: Sequence[Frame], brain: np.ndarray,
    mandible: np.ndarray, rough: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Skin, fat, and the headrest; returns the depth beneath the skin."""
    fat = rng.uniform(0, 7)
    face = _ball(f, (-32, -28, 0), (84, 68 + 0.4 * fat, 64 + 0.5 * fat))
    cheeks = [_ball(s, (-40, -12, 40), (52, 52, 32 + fat)) for s in sides]
    neck = tube(f, [(-20, 32, 0), (-90, 24, 0), (-200, 22, 0)], (52, 52 + fat, 58 + fat), (1, 1, 0.94))
    shoulders = np.minimum(_ball(f, (-290, 30, 0), (140, 90, 230)), 60)
    brow = _ball(f, (14, -50, 0), (36, 43, 64))
    nose = tube(f, [(12, -86, 0), (-22, -98, 0)], (6, 10))
    ears = [_ball(s, (0, 8, 80), (28, 14, 6)) for s in sides]
    skin = np.maximum.reduce([brain + 13, face, *cheeks, mandible + 9 + 0.5 * fat, neck, shoulders, brow, nose, *ears])
    rest = np.minimum(3.5 - np.abs(skin + 9), f.y - 52)  # a shell behind the head
    paint(rest, rng.uniform(-700, -400))
    paint(skin + 0.6 * rough[0], 30)
    paint(skin - 2.5, rng.uniform(-115, -85))
    return skin


def neck(
    rng: np.random.Generator, paint: Callable[..., None], f: Frame, sides: Sequence[Frame], skin: np.ndarray,
    rough: np.ndarray,
) -> None:  # fmt: skip
    """Muscles with fat between them, vessels, the spine, and the airway down to the larynx."""
    muscle = rng.uniform(50, 65)
    paint(np.minimum(skin - rng.uniform(6, 11), 24 - f.z) + 2.5 * rough[2] - 1.5 * np.abs(rough[3]), muscle)
    vessels = rng.uniform(50, 210)  # with contrast medium or without
    for s in sides:
        paint(tube(s, [(-12, 18, 52), (-90, 0, 46), (-190, -22, 20)], (9, 11, 9)) + 1.5 * rough[2], muscle)
        paint(tube(s, [(-25, 0, 30), (-200, -8, 27)], (12, 12)), rng.uniform(-100, -70))  # the carotid space's fat
        paint(tube(s, [(-20, -1, 27), (-200, -10, 22)], (3.6, 4.2)), vessels)
        paint(tube(s, [(-20, 6, 31), (-200, -4, 31)], (4.5, 6)), 0.9 * vessels)
    spine = [(-26, 5, 0), (-90, 2, 0), (-140, 6, 0), (-230, 34, 0)]
    behind = [(z, y + 18, x) for z, y, x in spine]
    paint(tube(f, spine, (22, 22, 24, 24), (1, 1.3, 0.8)), muscle)
    paint(np.minimum(tube(f, behind, (14, 14, 13, 13), (1, 1.1, 0.8)), -24 - f.z), rng.uniform(500, 700))
    for s in sides:  # articular pillars
        paint(np.minimum(tube(s, [(z, y + 9, 19) for z, y, _ in spine], (8, 8, 8, 8)), -26 - s.z), 550)
    pitch = rng.uniform(16, 19)
    disc = np.abs((f.z / pitch) % 1 - 0.5) * pitch - 2.2
    paint(np.minimum(tube(f, spine, (9, 9, 10, 11), (1, 1.1, 0.8)), disc), rng.uniform(350, 500))
    spinous = tube(f, [(z, y + 34, x) for z, y, x in spine], (4, 5, 5, 6), (1, 0.35, 1))
    paint(np.minimum(np.minimum(spinous, 2 * disc), -40 - f.z), 550)
    paint(np.minimum(tube(f, behind, (8.5, 8.5, 8.5, 8.5)), -24 - f.z), 10)
    paint(np.minimum(tube(f, behind, (5.5, 5.5, 5.5, 5.5), (1, 1.2, 0.9)), -24 - f.z), 34)
    airway = [(-14, -22, 0), (-48, -18, 0), (-100, -21, 0), (-128, -25, 0), (-220, -12, 0)]
    wide = rng.uniform(0.8, 1.2)
    air = tube(f, airway, (8, 6, 7, 7, 8), (1, 1, 0.55 / wide))
    paint(air + 4, muscle)
    paint(np.minimum(air + 3.5, -112 - f.z), 110)  # cartilage
    paint(air + 0.5 * rough[0], -1000)


def skull(
    rng: np.random.Generator, paint: Callable[..., None], f: Frame, sides: Sequence[Frame], brain: np.ndarray,
    skin: np.ndarray, rough: np.ndarray,
) -> None:  # fmt: skip
    """Bone around the brain, the base with its air cells, the orbits, the middle face with its sinuses."""
    bone, fat = rng.uniform(800, 1100), rng.uniform(-105, -85)
    vault = np.minimum(brain + rng.uniform(6.5, 9.0), f.z + 34)
    middle_face = np.minimum(_ball(f, (-14, -54, 0), (38, 34, 40)), -22 - f.y)
    paint(middle_face, 60)
    paint(vault, bone)
    for s in sides:
        paint(tube(s, [(2, 12, 50), (7, -6, 14)], (10, 6)), 1250)  # petrous ridge
        paint(_ball(s, (-8, 20, 52), (19, 15, 11)), 700)  # mastoid
        paint(_ball(s, (-7, 20, 53), (12, 9, 7)) + 3.5 * rough[3], -500)
        paint(tube(s, [(0, 2, 56), (0, 2, 90)], (3.2, 4)), -950)  # ear canal
        paint(tube(s, [(-3, -16, 66), (-8, -40, 66), (-10, -60, 50)], (3, 3.2, 6)), 850)  # zygomatic arch
    paint(_ball(f, (-16, -58, 0), (32, 30, 16)), 350)  # between the eyes: thin walls, mucosa
    septa = 0.5 + 0.5 * np.cos(2 * math.pi * f.x / rng.uniform(7, 9))
    paint(_ball(f, (14, -54, 0), (14, 25, 11)), -850 + 500 * septa)  # ethmoid cells
    paint(_ball(f, (5, -20, 0), (9, 10, 11)), -950 if rng.random() < 0.9 else 30)  # sphenoid sinus
    paint(_ball(f, (34, -80, 6), (11, 4, 14)), -950)  # frontal sinus
    nasal = _ball(f, (-20, -58, 0), (22, 30, 13))
    paint(np.minimum(nasal, np.abs(f.x) - 1.5), -850)
    for s in sides:
        paint(tube(s, [(-24, -76, 7), (-24, -42, 7)], (3.5, 3.5)) + rough[2], 40)  # turbinates
        paint(_ball(s, (-18, -52, 29), (19, 21, 15)), 450)
        inflamed = rng.uniform(-60, -20) if rng.random() < 0.25 else -60  # some are half full
        paint(np.minimum(_ball(s, (-18, -52, 29), (16, 18, 12)), 20), 25)
        paint(np.minimum(_ball(s, (-18, -52, 29), (16, 18, 12)), inflamed + 40 - s.y), -950)
        paint(np.minimum(tube(s, [(14, -76, 34), (20, -38, 17)], (22, 8)), skin - 7), 650)  # walls of the orbit
        paint(np.minimum(tube(s, [(14, -84, 34), (20, -38, 17)], (20, 6)), skin - 3), fat)


def optic(
    rng: np.random.Generator, paint: Callable[..., None], f: Frame, sides: Sequence[Frame]
) -> dict[int, np.ndarray]:
    """Eyes with their muscles, optic nerves and the chiasm. `{label: depth}`."""
    chiasm = _ball(f, (28, -15, 0), np.array([3.2, 4.8, 8.2]) * rng.normal(1, 0.06))
    nerves, bend, thick = {}, rng.uniform(-3, 3), rng.uniform(2.1, 2.5)
    for label, s in zip((4, 5), sides):
        eye = _ball(s, (15, -76, 33), (12, 12.5, 12)) + rng.normal(0, 0.4)
        paint(eye, 45)
        paint(eye - 1.8, rng.uniform(5, 18))
        paint(_ball(s, (15, -85, 33), (4, 2.2, 4.5)), 110)  # lens
        for up, out in ((9, 0), (-9, 0), (0, 9), (0, -9)):  # straight muscles
            paint(tube(s, [(15 + up, -70, 33 + out), (20 + 0.25 * up, -40, 18 + 0.25 * out)], (1.6, 1.4)), 60)
        path = [(15, -63, 32), (17 + bend, -50, 26 + bend), (21, -36, 15), (27, -20, 6)]
        nerve = tube(s, path, (1.05 * thick, thick, thick, 1.1 * thick), (1, 1, 0.9))
        nerves[label] = np.minimum(nerve, -(_ball(f, (28, -15, 0), (4, 6, 9.5))))  # up to the chiasm
        paint(nerve, rng.uniform(32, 42))
    paint(chiasm, rng.uniform(36, 44))
    return nerves | {2: chiasm}


def glands(
    rng: np.random.Generator, paint: Callable[..., None], sides: Sequence[Frame], skin: np.ndarray,
    mandible: np.ndarray, rough: np.ndarray,
) -> dict[int, np.ndarray]:  # fmt: skip
    """Chewing muscles, parotid and submandibular glands. `{label: depth}`."""
    organs: dict[int, np.ndarray] = {}
    muscle, parotid_hu = rng.uniform(52, 66), float(np.clip(rng.normal(-4, 24), -55, 40))
    enhanced = rng.normal(50, 14)
    large, small = (np.clip(rng.normal(1, 0.09, 2), 0.8, 1.2) for _ in "ps")  # radii; volumes vary three times as much
    for i, s in enumerate(sides):
        free = -mandible - 1.5
        paint(tube(s, [(-12, -46, 55), (-40, -26, 57), (-66, -20, 52)], (4, 8, 6), (1, 0.55, 1)), muscle)  # masseter
        paint(tube(s, [(-18, -30, 28), (-64, -18, 41)], (7, 6), (1, 0.6, 1)), muscle)  # pterygoids
        paint(tube(s, [(26, -32, 66), (-14, -32, 54)], (5, 7), (1, 0.35, 1)), muscle)  # temporal muscle
        twins = np.clip(rng.normal(1, 0.03, 2), 0.93, 1.07)  # the two sides of a person differ less than two persons
        r = large[0] * twins[0]
        behind = _ball(s, (-34, 5, 56), (28 * r, 17 * r, 14.5 * r))
        before = _ball(s, (-31, -14, 65), (22 * r, 18 * r, 6 * r))  # over the masseter
        mastoid = -_ball(s, (-8, 20, 52), (19, 15, 11)) - 1
        parotid = np.minimum.reduce([np.maximum(behind, before) + 1.2 * rough[i], free, mastoid, skin - 3])
        paint(parotid + 1.5, -90)
        paint(parotid, parotid_hu + 14 * rough[3])
        r = small[0] * twins[1]
        submandibular = np.minimum(_ball(s, (-92, -31, 30), (12.5 * r, 15.5 * r, 9.5 * r)) + 0.6 * rough[i], free)
        paint(submandibular + 2.5, -95)
        paint(submandibular, enhanced)
        organs |= {6 + i: parotid, 8 + i: submandibular}
    return organs


def mouth(rng: np.random.Generator, paint: Callable[..., None], f: Frame, sides: Sequence[Frame]) -> None:
    """Tongue, palate, teeth, hyoid bone."""
    paint(_ball(f, (-64, -46, 0), (26, 32, 25)), rng.uniform(45, 65))
    paint(np.minimum(_ball(f, (-44, -52, 0), (4.5, 28, 20)), 1), -900 if rng.random() < 0.5 else 40)  # air above it
    paint(_ball(f, (-40, -54, 0), (3.5, 28, 24)), 500)
    for s in sides:
        paint(tube(s, [(-48, -83, 0), (-47, -74, 17), (-46, -46, 28)], (6, 6, 6), (0.7, 1, 1)), 750)
        arch = [(-64, -83, 0), (-64, -75, 17), (-64, -48, 29)]
        paint(tube(s, arch, (3.6, 4, 4.6), (0.4, 1, 1)), rng.uniform(1300, 2000))
        paint(tube(s, [(-112, -46, 0), (-110, -30, 20)], (3, 2.5)), 350)


def _ball(f: Frame, centre: Sequence[float], radii: Sequence[float] | np.ndarray) -> np.ndarray:
    """Depth inside an ellipsoid; exact on its axes only."""
    (z, y, x), (a, b, c) = centre, (float(r) for r in radii)
    return min(a, b, c) * (1 - np.sqrt(((f.z - z) / a) ** 2 + ((f.y - y) / b) ** 2 + ((f.x - x) / c) ** 2))
