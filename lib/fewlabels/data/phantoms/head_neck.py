"""Synthetic CT of the head and upper neck with the nine organs of PDDCA (the MICCAI 2015 challenge).

A volume is painted from back to front, as one tissue fills another: each function below draws the parameters of what
it paints and hands over how deep inside it each point lies; the painter turns that into how much of the voxel is
covered. Labels are what lies deeper than 0 at a voxel's centre.

All is drawn in the patient's frame, in mm: the origin lies between the ears, `z` runs up, `y` to the back, `x` to the
patient's left, in the order of the array's axes. Paired structures are drawn for the left side and mirrored. Random
numbers make anatomy, never voxels (but for noise, drawn last), so that a patient is the same at every spacing.

Sizes and Hounsfield units, with their sources, stand in `head_neck_anatomy`.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage

from fewlabels.data.cohort import Cohort
from fewlabels.data.phantoms import head_neck_anatomy as anatomy
from fewlabels.data.phantoms.shapes import bell
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


def head_neck(
    n: int = PATIENTS,
    seed: int = 0,
    spacing: Sequence[float] = (5.0, 4.0, 4.0),
    size: Sequence[int] = (32, 64, 64),
) -> Cohort:
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
    assert size is not None
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


def check_grid(
    where: str, spacing: Sequence[float], size: Sequence[int] | None
) -> tuple[tuple[float, ...], tuple[int, ...] | None]:
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


def _patient(rng: np.random.Generator, spacing: Sequence[float], size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """One image, float32 `(Z, Y, X)`, scaled as the loader scales HU, and its labels, uint8 alike."""
    frame, rough = _frame(rng, spacing, size)
    hu = np.full(size, -1000, np.float32)
    soft = math.hypot(np.mean(spacing), rng.uniform(0.8, 1.6))  # partial volume, and the scanner's blur

    def paint(depth: np.ndarray, value: float | np.ndarray) -> None:
        np.add(hu, np.clip(0.5 + depth / soft, 0, 1) * (value - hu), out=hu)

    sides = [frame, frame.mirrored()]
    mandible, brain, stem, cistern = anatomy.mandible(rng, sides), *anatomy.brain(rng, frame, sides)
    skin = anatomy.body(rng, paint, frame, sides, brain, mandible, rough)
    anatomy.neck(rng, paint, frame, sides, skin, rough)
    anatomy.skull(rng, paint, frame, sides, brain, skin, rough)
    paint(brain, rng.uniform(30, 38) + 2 * rough[1])
    paint(cistern, rng.uniform(4, 12))
    paint(stem, rng.uniform(28, 36))
    organs = {1: stem, 3: mandible}
    organs |= anatomy.optic(rng, paint, frame, sides)
    organs |= anatomy.glands(rng, paint, sides, skin, mandible, rough)
    anatomy.mouth(rng, paint, frame, sides)
    paint(mandible, rng.uniform(850, 1250))
    paint(mandible - 3.2, rng.uniform(250, 500))  # marrow

    labels = np.zeros(size, np.uint8)
    for value in sorted(organs, key=lambda k: -(organs[k] > 0).sum()):  # where two meet, the smaller one's
        labels[organs[value] > 0] = value
    for value in organs:  # a structure thinner than a voxel is where it is deepest
        if not (labels == value).any():
            labels[np.unravel_index(organs[value].argmax(), size)] = value
    _artefacts(rng, hu, frame)
    return ((np.clip(hu, LOW, HIGH) + 100) / 1000).astype(np.float32), labels


def _frame(rng: np.random.Generator, spacing: Sequence[float], size: Sequence[int]) -> tuple[anatomy.Frame, np.ndarray]:
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
    stretch = rng.normal(1.02, 0.045) * rng.normal(1, 0.025, 3)  # one is large, or long in the face
    stretch = np.clip(stretch, 0.89, 1.09)
    place = np.einsum("ij,j...->i...", turn / stretch[:, None], place - shift[:, None, None, None]).astype(np.float32)
    place[0] += MIDDLE
    place[1] += 5
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    control = random_control(1, (4, 5, 5), 3.2, generator)[0]
    fine = random_control(4, (9, 15, 15), 1.0, generator)[:, 0]  # one component of each: scalars
    place += control_to_dense(control[None], size)[0].numpy()
    return anatomy.Frame(*place), control_to_dense(fine[None], size)[0].numpy()


def _artefacts(rng: np.random.Generator, hu: np.ndarray, f: anatomy.Frame) -> None:
    """Beam hardening between the petrous bones, streaks from fillings in two of five patients, quantum noise."""
    hu -= rng.uniform(2, 10) * bell(f.z - 3, 6) * bell(f.y - 3, 7) * bell(f.x, 45)
    for _ in range(rng.integers(1, 4) if rng.random() < 0.4 else 0):
        z, y, x = -64 + rng.uniform(-6, 6), rng.uniform(-80, -50), rng.choice([-1, 1]) * rng.uniform(16, 28)
        radius, angle = np.hypot(f.y - y, f.x - x), np.arctan2(f.y - y, f.x - x)
        rays = np.cos(rng.integers(5, 9) * angle + rng.uniform(0, 6)) + np.cos(13 * angle + rng.uniform(0, 6))
        streaks = rng.uniform(80, 250) * rays * np.exp(-radius / 50) * bell(f.z - z, 6)
        hu += np.where(hu > -900, streaks, 0.4 * streaks)
        hu += 3000 * np.clip(0.5 + (4 - np.hypot(radius, f.z - z)) / 4, 0, 1)
    noise = ndimage.gaussian_filter(rng.standard_normal(hu.shape, np.float32), (0, 0.6, 0.6))
    hu += rng.uniform(6, 16) * noise / noise.std() * (1 + 0.5 * bell(f.z + 120, 30))  # more between the shoulders
