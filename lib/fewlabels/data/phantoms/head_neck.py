"""Synthetic CT of the head and upper neck with the nine organs of PDDCA (the MICCAI 2015 challenge).

A volume is painted from back to front, as one tissue fills another: each function below draws the parameters of what
it paints and hands over how deep inside it each point lies; the painter turns that into how much of the voxel is
covered. Labels are what lies deeper than 0 at a voxel's centre.

All is drawn in the patient's frame, in mm: the origin lies between the ears, `z` runs up, `y` to the back, `x` to the
patient's left, in the order of the array's axes. Paired structures are drawn for the left side and mirrored. Random
numbers make anatomy, never voxels (but for noise, drawn last), so that a patient is the same at every spacing.

Sizes and Hounsfield units from the literature; what is not named here is a choice:

    parotid        28 and 22 cm3 in men and women (Brzoska et al. 2022), -4 +- 24 HU (J Korean Acad OMR 1999;29:209)
    submandibular  8.1 +- 2.6 cm3 ("Quantitative analysis of the submandibular gland using CT"), 50 +- 16 HU (as above)
    mandible       ramus 31 mm wide (doi:10.1186/s13005-020-00228-0); chin 11 mm thick, angle 5.4 (Ueda et al. 2023)
    optic nerve    3.0 x 5.9 mm (Parravano et al. 1993)
    chiasm         13.6 mm wide (Mncube and Goodier 2019), 3.5 mm high (Parravano); a little more, as contours have
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage

from fewlabels.data.cohort import Cohort
from fewlabels.errors import BadInput
from fewlabels.warps import control_to_dense, random_control

SOURCE = "synthetic head-and-neck CT (fewlabels.data.phantoms.head_neck)"
CLASSES = (
    *("background", "BrainStem", "Chiasm", "Mandible", "OpticNerve_L", "OpticNerve_R"),
    *("Parotid_L", "Parotid_R", "Submandibular_L", "Submandibular_R"),
)
PATIENTS, TEST, INCOMPLETE = 48, 10, 16 / 38  # PDDCA's; the last: how many of its training patients miss structures
MISSING = ((8,), (9,), (8, 9), (2,), (4, 5), (2, 4, 5), (3,))  # which those may be: a choice
LOW, HIGH = -1000, 1500  # what the loader clips HU to
MIDDLE = -36.0  # `z` of the middle of the volume: that of the organs


def head_neck(n=PATIENTS, seed=0, spacing=(5.0, 4.0, 4.0), size=(32, 64, 64)):
    """`n` patients, in form as `oar.load` has them, on a grid of `size` (z, y, x) voxels of `spacing` mm; its middle is
    that of the organs, so that the default, 160 x 256 x 256 mm, holds all of them.

    The last `10 / 48` are the test set and complete; of the others about 16 in 38 lack one to three structures, which
    are in the image, but in no label (`meta["present"]`). Patient `i`'s image depends on `seed` and `i` only.

    Raises `BadInput` for n or seed that are no counts, a spacing or a size that is not three positive numbers.
    """
    for name, value, least in (("n", n, 2), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise BadInput(f"head-and-neck phantom {name}", f"an integer of at least {least}", repr(value))
    spacing, size = check_grid("head-and-neck phantom", spacing, () if size is None else size)
    train = n - max(1, round(n * TEST / PATIENTS))
    images, labels, present = [], [], torch.ones(n, len(CLASSES), dtype=torch.bool)
    for i in range(n):
        rng = np.random.default_rng(np.random.SeedSequence([seed, i]))
        incomplete, missing = rng.random() < INCOMPLETE, list(MISSING[rng.integers(len(MISSING))])
        image, mask = _patient(rng, spacing, size)
        if incomplete and i < train:
            mask[np.isin(mask, missing)] = 0
            present[i, [0, *missing]] = False
        images.append(image)
        labels.append(mask)
    ids = tuple(f"phantom{i + 1:02}" for i in range(n))
    native = {name: torch.from_numpy(mask) for name, mask in zip(ids, labels)}
    meta = {"data": "phantom", "source": SOURCE, "seed": int(seed), "present": present, "native": native}
    meta |= {"native_spacing_mm": dict.fromkeys(ids, spacing), "first_voxel_mm": dict.fromkeys(ids, (0.0, 0.0, 0.0))}
    meta |= {"test": ids[train:], "claimed_twice": dict.fromkeys(ids, 0)}
    images, labels = torch.from_numpy(np.stack(images))[:, None], torch.from_numpy(np.stack(labels)).long()
    return Cohort(images, labels, ids, CLASSES, spacing, ids, meta)


def check_grid(where, spacing, size):
    """Both as tuples of three, floats and ints; a size may be None. Raises `BadInput` naming `where`."""
    for name, value, kinds in (("spacing", spacing, (int, float, np.number)), ("size", size, (int, np.integer))):
        if name == "size" and value is None:
            continue
        values = list(value) if isinstance(value, (tuple, list, np.ndarray)) else []
        good = [isinstance(v, kinds) and not isinstance(v, bool) and math.isfinite(v) and v > 0 for v in values]
        if len(good) != 3 or not all(good):
            what = "voxels, integers of at least 1" if name == "size" else "mm above 0"
            raise BadInput(f"{where} {name}", f"three numbers (z, y, x), {what}", value)
    return tuple(map(float, spacing)), None if size is None else tuple(map(int, size))


class Frame(NamedTuple):
    """Where each voxel lies in the patient's frame, float32 `(Z, Y, X)` each, mm."""

    z: np.ndarray
    y: np.ndarray
    x: np.ndarray

    def mirrored(self):
        return self._replace(x=-self.x)


def _patient(rng, spacing, size):
    """One image, float32 `(Z, Y, X)`, scaled as the loader scales HU, and its labels, uint8 alike."""
    frame, rough = _frame(rng, spacing, size)
    hu = np.full(size, -1000, np.float32)
    soft = math.hypot(np.mean(spacing), rng.uniform(0.8, 1.6))  # partial volume, and the scanner's blur

    def paint(depth, value):
        np.add(hu, np.clip(0.5 + depth / soft, 0, 1) * (value - hu), out=hu)

    sides = [frame, frame.mirrored()]
    mandible, brain, stem, cistern = _mandible(rng, sides), *_brain(rng, frame, sides)
    skin = _body(rng, paint, frame, sides, brain, mandible, rough)
    _neck(rng, paint, frame, sides, skin, rough)
    _skull(rng, paint, frame, sides, brain, skin, rough)
    paint(brain, rng.uniform(30, 38) + 2 * rough[1])
    paint(cistern, rng.uniform(4, 12))
    paint(stem, rng.uniform(28, 36))
    organs = {1: stem, 3: mandible}
    organs |= _optic(rng, paint, frame, sides)
    organs |= _glands(rng, paint, sides, skin, mandible, rough)
    _mouth(rng, paint, frame, sides)
    paint(mandible, rng.uniform(850, 1250))
    paint(mandible - 3.2, rng.uniform(250, 500))  # marrow

    labels = np.zeros(size, np.uint8)
    for value in sorted(organs, key=lambda k: -(organs[k] > 0).sum()):  # where two meet, the smaller one's
        labels[organs[value] > 0] = value
    for value in organs:  # a structure thinner than a voxel is where it is deepest
        if not (labels == value).any():
            labels[np.unravel_index(organs[value].argmax(), size)] = value
    _artefacts(rng, hu, frame, spacing)
    return ((np.clip(hu, LOW, HIGH) + 100) / 1000).astype(np.float32), labels


def _frame(rng, spacing, size):
    """The patient's frame: shift, pose, size, and a smooth deformation, so that no outline is a textbook curve; and
    four smooth fields of unit variance, for outlines and textures."""
    axes = [(np.arange(length) - (length - 1) / 2) * mm for length, mm in zip(size, spacing)]
    place = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
    shift = rng.normal(0, (1.5, 5, 4))
    pitch, roll, yaw = np.radians(np.clip(rng.normal(0, (2.5, 2.0, 2.5)), -5, 5))
    turn = np.eye(3)
    for (a, b), angle in (((0, 1), pitch), ((0, 2), roll), ((1, 2), yaw)):
        step = np.eye(3)
        step[[a, a, b, b], [a, b, a, b]] = math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
        turn = turn @ step
    stretch = np.clip(
        rng.normal(1.02, 0.045) * rng.normal(1, 0.025, 3), 0.89, 1.09
    )  # one is large, or long in the face
    place = np.einsum("ij,j...->i...", turn / stretch[:, None], place - shift[:, None, None, None]).astype(np.float32)
    place[0] += MIDDLE
    place[1] += 5
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    control = random_control(1, (4, 5, 5), 3.2, generator)[0]
    fine = random_control(4, (9, 15, 15), 1.0, generator)[:, 0]  # one component of each: scalars
    place += control_to_dense(control[None], size)[0].numpy()
    return Frame(*place), control_to_dense(fine[None], size)[0].numpy()


# ---- what is painted ----


def _mandible(rng, sides):
    """Depth inside a horseshoe with two rami; teeth are not part of it."""
    wide, long, tall = rng.normal(1, 0.04, 3)
    body = [(-95, -84 * long, 0), (-92, -75 * long, 22 * wide), (-83, -50, 36 * wide), (-68, -20, 46 * wide)]
    ramus = [(-66, -17, 47 * wide), (-40, -15, 49 * wide), (-18, -11, 50 * wide)]
    thick, half_height, half_width = rng.uniform(4.8, 6.0), rng.uniform(12, 15) * tall, rng.uniform(13.5, 16.5)
    depths = []
    for f in sides:
        depths += [
            _tube(f, body, (thick, thick, 0.95 * thick, 0.8 * thick), (thick / half_height, 1, 1)),
            _tube(f, ramus, (4.0, 3.8, 3.2), (1, 4 / half_width, 1)),
            _tube(f, [(-20, -9, 50 * wide), (-5, -7, 50 * wide)], (4.5, 6)),  # condyle
            _tube(f, [(-28, -27, 48 * wide), (-10, -31, 47 * wide)], (4, 2.5)),  # coronoid process
        ]
    return np.maximum.reduce(depths)


def _brain(rng, f, sides):
    """Depths inside the cavity of the skull, the brain stem, and the cisterns around it and the chiasm."""
    cerebrum = np.minimum(_ball(f, (62, 5, 0), (62, 85, 66)), f.z - 27)
    temporal = [_ball(s, (20, -10, 40), (19, 36, 24)) for s in sides]
    posterior = _ball(f, (0, 44, 0), (36, 42, 54))
    scale = rng.normal(1, 0.05)
    path = [(31, 3, 0), (20, 3, 0), (7, 1, 0), (-6, 7, 0), (-18, 13, 0), (-31, 18, 0)]
    radii = np.array([13, 13.5, 15, 12, 8, 7]) * scale
    stem = np.minimum(_tube(f, path, radii, (1, 1.22, 1)), np.minimum(33 - f.z, f.z + 33))
    basal = _ball(f, (29, -14, 0), (10, 14, 17))
    cistern = np.maximum(np.minimum(stem + 5, 12 - f.y - 0.2 * f.z), basal)  # in front of the stem
    cistern = np.maximum(cistern, _ball(f, (2, 22, 0), (9, 4, 7)))  # and behind it the fourth ventricle
    for s in sides:
        cistern = np.maximum(cistern, _ball(s, (62, 0, 14), (10, 34, 6)))  # lateral ventricles
    return np.maximum.reduce([cerebrum, *temporal, posterior, stem + 4, basal]), stem, cistern


def _body(rng, paint, f, sides, brain, mandible, rough):
    """Skin, fat, and the headrest; returns the depth beneath the skin."""
    fat = rng.uniform(0, 7)
    face = _ball(f, (-32, -28, 0), (84, 68 + 0.4 * fat, 64 + 0.5 * fat))
    cheeks = [_ball(s, (-40, -12, 40), (52, 52, 32 + fat)) for s in sides]
    neck = _tube(f, [(-20, 32, 0), (-90, 24, 0), (-200, 22, 0)], (52, 52 + fat, 58 + fat), (1, 1, 0.94))
    shoulders = np.minimum(_ball(f, (-290, 30, 0), (140, 90, 230)), 60)
    brow = _ball(f, (14, -50, 0), (36, 43, 64))
    nose = _tube(f, [(12, -86, 0), (-22, -98, 0)], (6, 10))
    ears = [_ball(s, (0, 8, 80), (28, 14, 6)) for s in sides]
    skin = np.maximum.reduce([brain + 13, face, *cheeks, mandible + 9 + 0.5 * fat, neck, shoulders, brow, nose, *ears])
    rest = np.minimum(3.5 - np.abs(skin + 9), f.y - 52)  # a shell behind the head
    paint(rest, rng.uniform(-700, -400))
    paint(skin + 0.6 * rough[0], 30)
    paint(skin - 2.5, rng.uniform(-115, -85))
    return skin


def _neck(rng, paint, f, sides, skin, rough):
    """Muscles with fat between them, vessels, the spine, and the airway down to the larynx."""
    muscle = rng.uniform(50, 65)
    paint(np.minimum(skin - rng.uniform(6, 11), 24 - f.z) + 2.5 * rough[2] - 1.5 * np.abs(rough[3]), muscle)
    vessels = rng.uniform(50, 210)  # with contrast medium or without
    for s in sides:
        paint(_tube(s, [(-12, 18, 52), (-90, 0, 46), (-190, -22, 20)], (9, 11, 9)) + 1.5 * rough[2], muscle)
        paint(_tube(s, [(-25, 0, 30), (-200, -8, 27)], (12, 12)), rng.uniform(-100, -70))  # the carotid space's fat
        paint(_tube(s, [(-20, -1, 27), (-200, -10, 22)], (3.6, 4.2)), vessels)
        paint(_tube(s, [(-20, 6, 31), (-200, -4, 31)], (4.5, 6)), 0.9 * vessels)
    spine = [(-26, 5, 0), (-90, 2, 0), (-140, 6, 0), (-230, 34, 0)]
    behind = [(z, y + 18, x) for z, y, x in spine]
    paint(_tube(f, spine, (22, 22, 24, 24), (1, 1.3, 0.8)), muscle)
    paint(np.minimum(_tube(f, behind, (14, 14, 13, 13), (1, 1.1, 0.8)), -24 - f.z), rng.uniform(500, 700))
    for s in sides:  # articular pillars
        paint(np.minimum(_tube(s, [(z, y + 9, 19) for z, y, _ in spine], (8, 8, 8, 8)), -26 - s.z), 550)
    pitch = rng.uniform(16, 19)
    disc = np.abs((f.z / pitch) % 1 - 0.5) * pitch - 2.2
    paint(np.minimum(_tube(f, spine, (9, 9, 10, 11), (1, 1.1, 0.8)), disc), rng.uniform(350, 500))
    spinous = _tube(f, [(z, y + 34, x) for z, y, x in spine], (4, 5, 5, 6), (1, 0.35, 1))
    paint(np.minimum(np.minimum(spinous, 2 * disc), -40 - f.z), 550)
    paint(np.minimum(_tube(f, behind, (8.5, 8.5, 8.5, 8.5)), -24 - f.z), 10)
    paint(np.minimum(_tube(f, behind, (5.5, 5.5, 5.5, 5.5), (1, 1.2, 0.9)), -24 - f.z), 34)
    airway = [(-14, -22, 0), (-48, -18, 0), (-100, -21, 0), (-128, -25, 0), (-220, -12, 0)]
    wide = rng.uniform(0.8, 1.2)
    tube = _tube(f, airway, (8, 6, 7, 7, 8), (1, 1, 0.55 / wide))
    paint(tube + 4, muscle)
    paint(np.minimum(tube + 3.5, -112 - f.z), 110)  # cartilage
    paint(tube + 0.5 * rough[0], -1000)


def _skull(rng, paint, f, sides, brain, skin, rough):
    """Bone around the brain, the base with its air cells, the orbits, the middle face with its sinuses."""
    bone, fat = rng.uniform(800, 1100), rng.uniform(-105, -85)
    vault = np.minimum(brain + rng.uniform(6.5, 9.0), f.z + 34)
    middle_face = np.minimum(_ball(f, (-14, -54, 0), (38, 34, 40)), -22 - f.y)
    paint(middle_face, 60)
    paint(vault, bone)
    for s in sides:
        paint(_tube(s, [(2, 12, 50), (7, -6, 14)], (10, 6)), 1250)  # petrous ridge
        paint(_ball(s, (-8, 20, 52), (19, 15, 11)), 700)  # mastoid
        paint(_ball(s, (-7, 20, 53), (12, 9, 7)) + 3.5 * rough[3], -500)
        paint(_tube(s, [(0, 2, 56), (0, 2, 90)], (3.2, 4)), -950)  # ear canal
        paint(_tube(s, [(-3, -16, 66), (-8, -40, 66), (-10, -60, 50)], (3, 3.2, 6)), 850)  # zygomatic arch
    paint(_ball(f, (-16, -58, 0), (32, 30, 16)), 350)  # between the eyes: thin walls, mucosa
    septa = 0.5 + 0.5 * np.cos(2 * math.pi * f.x / rng.uniform(7, 9))
    paint(_ball(f, (14, -54, 0), (14, 25, 11)), -850 + 500 * septa)  # ethmoid cells
    paint(_ball(f, (5, -20, 0), (9, 10, 11)), -950 if rng.random() < 0.9 else 30)  # sphenoid sinus
    paint(_ball(f, (34, -80, 6), (11, 4, 14)), -950)  # frontal sinus
    nasal = _ball(f, (-20, -58, 0), (22, 30, 13))
    paint(np.minimum(nasal, np.abs(f.x) - 1.5), -850)
    for s in sides:
        paint(_tube(s, [(-24, -76, 7), (-24, -42, 7)], (3.5, 3.5)) + rough[2], 40)  # turbinates
        paint(_ball(s, (-18, -52, 29), (19, 21, 15)), 450)
        inflamed = rng.uniform(-60, -20) if rng.random() < 0.25 else -60  # some are half full
        paint(np.minimum(_ball(s, (-18, -52, 29), (16, 18, 12)), 20), 25)
        paint(np.minimum(_ball(s, (-18, -52, 29), (16, 18, 12)), inflamed + 40 - s.y), -950)
        paint(np.minimum(_tube(s, [(14, -76, 34), (20, -38, 17)], (22, 8)), skin - 7), 650)  # walls of the orbit
        paint(np.minimum(_tube(s, [(14, -84, 34), (20, -38, 17)], (20, 6)), skin - 3), fat)


def _optic(rng, paint, f, sides):
    """Eyes with their muscles, optic nerves and the chiasm. `{label: depth}`."""
    chiasm = _ball(f, (28, -15, 0), np.array([3.2, 4.8, 8.2]) * rng.normal(1, 0.06))
    nerves, bend, thick = {}, rng.uniform(-3, 3), rng.uniform(2.1, 2.5)
    for label, s in zip((4, 5), sides):
        eye = _ball(s, (15, -76, 33), (12, 12.5, 12)) + rng.normal(0, 0.4)
        paint(eye, 45)
        paint(eye - 1.8, rng.uniform(5, 18))
        paint(_ball(s, (15, -85, 33), (4, 2.2, 4.5)), 110)  # lens
        for up, out in ((9, 0), (-9, 0), (0, 9), (0, -9)):  # straight muscles
            paint(_tube(s, [(15 + up, -70, 33 + out), (20 + 0.25 * up, -40, 18 + 0.25 * out)], (1.6, 1.4)), 60)
        path = [(15, -63, 32), (17 + bend, -50, 26 + bend), (21, -36, 15), (27, -20, 6)]
        nerve = _tube(s, path, (1.05 * thick, thick, thick, 1.1 * thick), (1, 1, 0.9))
        nerves[label] = np.minimum(nerve, -(_ball(f, (28, -15, 0), (4, 6, 9.5))))  # up to the chiasm
        paint(nerve, rng.uniform(32, 42))
    paint(chiasm, rng.uniform(36, 44))
    return nerves | {2: chiasm}


def _glands(rng, paint, sides, skin, mandible, rough):
    """Chewing muscles, parotid and submandibular glands. `{label: depth}`."""
    organs, muscle, parotid_hu = {}, rng.uniform(52, 66), float(np.clip(rng.normal(-4, 24), -55, 40))
    enhanced = rng.normal(50, 14)
    large, small = (np.clip(rng.normal(1, 0.09, 2), 0.8, 1.2) for _ in "ps")  # radii; volumes vary three times as much
    for i, s in enumerate(sides):
        free = -mandible - 1.5
        paint(_tube(s, [(-12, -46, 55), (-40, -26, 57), (-66, -20, 52)], (4, 8, 6), (1, 0.55, 1)), muscle)  # masseter
        paint(_tube(s, [(-18, -30, 28), (-64, -18, 41)], (7, 6), (1, 0.6, 1)), muscle)  # pterygoids
        paint(_tube(s, [(26, -32, 66), (-14, -32, 54)], (5, 7), (1, 0.35, 1)), muscle)  # temporal muscle
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


def _mouth(rng, paint, f, sides):
    """Tongue, palate, teeth, hyoid bone."""
    paint(_ball(f, (-64, -46, 0), (26, 32, 25)), rng.uniform(45, 65))
    paint(np.minimum(_ball(f, (-44, -52, 0), (4.5, 28, 20)), 1), -900 if rng.random() < 0.5 else 40)  # air above it
    paint(_ball(f, (-40, -54, 0), (3.5, 28, 24)), 500)
    for s in sides:
        paint(_tube(s, [(-48, -83, 0), (-47, -74, 17), (-46, -46, 28)], (6, 6, 6), (0.7, 1, 1)), 750)
        arch = [(-64, -83, 0), (-64, -75, 17), (-64, -48, 29)]
        paint(_tube(s, arch, (3.6, 4, 4.6), (0.4, 1, 1)), rng.uniform(1300, 2000))
        paint(_tube(s, [(-112, -46, 0), (-110, -30, 20)], (3, 2.5)), 350)


def _artefacts(rng, hu, f, spacing):
    """Beam hardening between the petrous bones, streaks from fillings in two of five patients, quantum noise."""
    hu -= rng.uniform(2, 10) * _bell(f.z - 3, 6) * _bell(f.y - 3, 7) * _bell(f.x, 45)
    for _ in range(rng.integers(1, 4) if rng.random() < 0.4 else 0):
        z, y, x = -64 + rng.uniform(-6, 6), rng.uniform(-80, -50), rng.choice([-1, 1]) * rng.uniform(16, 28)
        radius, angle = np.hypot(f.y - y, f.x - x), np.arctan2(f.y - y, f.x - x)
        rays = np.cos(rng.integers(5, 9) * angle + rng.uniform(0, 6)) + np.cos(13 * angle + rng.uniform(0, 6))
        streaks = rng.uniform(80, 250) * rays * np.exp(-radius / 50) * _bell(f.z - z, 6)
        hu += np.where(hu > -900, streaks, 0.4 * streaks)
        hu += 3000 * np.clip(0.5 + (4 - np.hypot(radius, f.z - z)) / 4, 0, 1)
    noise = ndimage.gaussian_filter(rng.standard_normal(hu.shape, np.float32), (0, 0.6, 0.6))
    hu += rng.uniform(6, 16) * noise / noise.std() * (1 + 0.5 * _bell(f.z + 120, 30))  # more between the shoulders


def _ball(f, centre, radii):
    """Depth inside an ellipsoid; exact on its axes only."""
    (z, y, x), (a, b, c) = centre, (float(r) for r in radii)
    return min(a, b, c) * (1 - np.sqrt(((f.z - z) / a) ** 2 + ((f.y - y) / b) ** 2 + ((f.x - x) / c) ** 2))


def _tube(f, points, radii, squeeze=(1, 1, 1)):
    """Depth inside a round tube along a polyline, its radius linear between the points; lengths along an axis count
    `squeeze` times, so that below 1 it is flat, and longer along that axis."""
    place = [axis * np.float32(s) for axis, s in zip(f, squeeze)]
    points, depth = np.asarray(points, np.float32) * np.asarray(squeeze, np.float32), None
    for p, q, r, s in zip(points, points[1:], radii, radii[1:]):
        d, away = q - p, [axis - a for axis, a in zip(place, p)]
        t = np.clip(sum(a * b for a, b in zip(away, d)) / float(d @ d), 0, 1)
        inside = float(r) + t * float(s - r) - np.sqrt(sum((a - t * b) ** 2 for a, b in zip(away, d)))
        depth = inside if depth is None else np.maximum(depth, inside)
    return depth


def _bell(distance, width):
    """1 in the middle, falling as a Gaussian."""
    return np.exp(-0.5 * (distance / width) ** 2)
