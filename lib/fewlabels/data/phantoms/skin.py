"""Synthetic dermoscopic images of the seven classes of ISIC 2018 task 3, as rare as there, with lesion masks.

Light that skin gives back has passed what absorbs it, so that absorptions add up: each function below returns how much
melanin near the surface (`brown`), melanin deep down, which looks blue-grey (`deep`), or blood (`blood`) lies at each
pixel, or how much of it is covered by something pale (`pale`). What dermoscopy tells the classes apart by is in `SIGNS`
and `SPOTS`; their ranges overlap, so that no class is known by one sign.

A lesion is drawn in its own frame: `v, u` from its middle, in its radii. An image is 4:3, as a dermatoscope's, and then
squeezed to a square, as `isic.load` does; its unit is its height. All images of a batch are painted at once: every
number below is a tensor `(B, 1, 1)`, every map `(B, size, size)`. Random numbers make lesions, never pixels (but for
noise, drawn last), so that one lesion is the same at every size and in every cohort of the same seed.
"""

import math
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels.data.cohort import Cohort
from fewlabels.errors import BadInput

SOURCE = "synthetic dermoscopic images (fewlabels.data.phantoms.skin)"
CLASSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
COUNTS = (1113, 6705, 514, 327, 1099, 115, 142)  # of the 10,015 images of ISIC 2018 task 3
SMALLEST = 16
ENOUGH = 5  # images and lesions of each class, so that each of five folds has one
ASPECT = 4 / 3
PIXELS = 2**20  # painted at once

# How much of each colour is absorbed (red, green, blue) by one unit.
BROWN, DEEP, BLOOD = (0.62, 1.00, 1.30), (1.15, 0.85, 0.45), (0.18, 1.05, 0.80)
PALE = (0.93, 0.86, 0.84)

# Ranges of each class, in its order. What falls below 0 is 0 where that is an amount: the sign is absent.
SIGNS = {
    "radius": ((0.13, 0.40), (0.12, 0.38), (0.10, 0.36), (0.14, 0.42), (0.10, 0.38), (0.12, 0.32), (0.10, 0.30)),
    "oval": ((0.00, 0.40), (0.00, 0.38), (0.00, 0.40), (0.00, 0.45), (0.00, 0.45), (0.00, 0.28), (0.00, 0.35)),
    "lobes": ((0.08, 0.26), (0.02, 0.15), (0.05, 0.20), (0.08, 0.26), (0.04, 0.18), (0.01, 0.08), (0.02, 0.12)),
    "ragged": ((0.03, 0.12), (0.01, 0.08), (0.03, 0.12), (0.06, 0.18), (0.02, 0.11), (0.01, 0.06), (0.00, 0.04)),
    "streaks": ((-0.15, 0.14), (-0.3, 0.06), (-1, 0), (-1, 0), (-1, 0), (-1, 0), (-1, 0)),
    "soft": ((0.05, 0.45), (0.10, 0.60), (0.15, 0.55), (0.25, 0.75), (0.04, 0.30), (0.25, 0.60), (0.04, 0.25)),
    "brown": ((0.35, 1.30), (0.30, 1.05), (-0.2, 0.40), (-0.1, 0.42), (0.15, 0.95), (0.10, 0.50), (-0.2, 0.15)),
    "deep": ((-0.2, 0.35), (-0.5, 0.18), (-0.1, 0.25), (-0.4, 0.10), (-0.4, 0.22), (-0.3, 0.08), (-0.6, 0.45)),
    "blood": ((-0.1, 0.30), (-0.1, 0.25), (0.05, 0.42), (0.10, 0.55), (-0.1, 0.25), (0.00, 0.35), (0.15, 0.80)),
    "variegation": ((0.30, 1.10), (0.05, 0.50), (0.20, 0.80), (0.30, 0.90), (0.15, 0.70), (0.05, 0.35), (0.05, 0.40)),
    "asymmetry": ((0.20, 0.90), (0.00, 0.35), (0.10, 0.60), (0.10, 0.60), (0.05, 0.50), (0.00, 0.20), (0.00, 0.30)),
    "veil": ((-0.5, 0.90), (-1.5, 0.25), (-0.8, 0.40), (-1, 0), (-0.9, 0.30), (-1, 0), (-0.9, 0.40)),
    "network": ((-0.2, 0.80), (-0.3, 0.80), (-1, 0.05), (-0.4, 0.30), (-0.6, 0.25), (0.00, 0.45), (-1, 0)),
    "uneven": ((0.40, 1.00), (0.00, 0.45), (0.30, 0.90), (0.30, 0.90), (0.20, 0.80), (0.00, 0.40), (0.00, 0.50)),
    "follicles": ((-1, 0.1), (-1, 0), (-1, 0.1), (-0.3, 0.70), (-0.8, 0.35), (-1, 0), (-1, 0)),
    "ridges": ((-0.8, 0.25), (-0.8, 0.20), (-1, 0), (-0.6, 0.20), (-0.3, 0.80), (-1, 0), (-1, 0)),
    "scale": ((-0.9, 0.25), (-1, 0), (-0.4, 0.35), (-0.2, 0.60), (-0.6, 0.40), (-0.7, 0.20), (-1, 0.1)),
    "centre": ((-1.2, 0.35), (-1.5, 0.25), (-0.7, 0.35), (-0.9, 0.30), (-0.9, 0.30), (0.05, 0.85), (-1, 0.1)),
    "sun": ((-0.5, 0.60), (-1, 0.35), (-0.2, 1.00), (0.10, 1.30), (-0.2, 1.10), (-0.6, 0.50), (-0.5, 0.60)),
    "vessels": ((-0.9, 0.30), (-1, 0), (-0.3, 0.90), (-0.7, 0.40), (-1, 0.1), (-0.8, 0.25), (-0.8, 0.30)),
}
# Round things inside: how many, their radius, how far out they lie, and of what they are.
SPOTS = {
    "spots": ((-4, 16), (-12, 16), (0, 9), (-8, 10), (-4, 16), (-8, 6), (6, 20)),
    "spot": ((0.04, 0.14), (0.04, 0.09), (0.10, 0.26), (0.05, 0.14), (0.04, 0.12), (0.06, 0.16), (0.24, 0.55)),
    "reach": ((0.60, 1.05), (0.70, 1.00), (0.50, 0.95), (0.50, 0.95), (0.60, 0.90), (0.30, 0.70), (0.75, 1.00)),
    "blur": ((0.20, 0.90), (0.30, 0.90), (0.50, 1.40), (0.30, 0.90), (0.15, 0.50), (0.40, 1.00), (0.15, 0.60)),
    "spot_brown": ((0.20, 1.20), (0.20, 0.80), (0.00, 0.45), (0.00, 0.45), (0.00, 0.10), (-0.2, 0.10), (-0.3, 0.10)),
    "spot_deep": ((0.00, 0.60), (-0.4, 0.15), (0.35, 1.10), (-0.5, 0.20), (-0.3, 0.10), (-1, 0), (-0.9, 0.75)),
    "spot_blood": ((-0.3, 0.20), (-0.4, 0.20), (-0.2, 0.30), (0.10, 0.50), (-0.3, 0.10), (-0.2, 0.20), (0.60, 1.70)),
    "spot_pale": ((-0.9, 0.20), (-1, 0.1), (-0.8, 0.20), (-0.3, 0.50), (0.15, 0.75), (-0.2, 0.60), (-1, 0)),
    "plugs": ((0, 0.1), (0, 0), (0, 0), (0, 0.2), (0.00, 0.80), (0, 0), (0, 0)),  # the share that is dark: comedones
}
MOST_SPOTS, TREES, HAIRS, BUBBLES = 16, 3, 10, 4
COARSE, MIDDLE, FINE = 10, 24, 64  # knots of noise over six radii


def skin(n: int = 600, seed: int = 0, size: int = 64) -> Cohort:
    """`n` images of seven classes, in form as `isic.load` has them, lesion masks included; labels as in `CLASSES`.

    Classes are as frequent as in ISIC 2018, but each has at least 5 images of 5 lesions (`n // 7` below 35 images). A
    quarter of the lesions are there two or three times, in another pose and light, as in HAM10000: `groups` names them.
    """
    for name, value, least in (("n", n, len(CLASSES)), ("seed", seed, 0), ("size", size, SMALLEST)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise BadInput(f"skin phantom {name}", f"an integer of at least {least}", repr(value))
    plan = [(kind, *view) for kind, m in enumerate(_counts(n)) for view in _views(kind, m, seed)]
    plan = [plan[i] for i in np.random.default_rng([seed, n]).permutation(n)]  # ids must not tell the class
    images, masks = torch.empty(n, 3, size, size), torch.empty(n, size, size, dtype=torch.bool)
    batch = max(1, PIXELS // size**2)
    for start in range(0, n, batch):
        here = slice(start, start + batch)
        images[here], masks[here] = _paint(plan[here], seed, size)
    labels = torch.tensor([kind for kind, _, _ in plan])
    numbers = {key: i for i, key in enumerate(dict.fromkeys((kind, lesion) for kind, lesion, _ in plan))}
    groups = tuple(f"LESION{numbers[kind, lesion] + 1:05}" for kind, lesion, _ in plan)
    ids = tuple(f"PHANTOM{i + 1:05}" for i in range(n))
    meta = {"data": "phantom", "source": SOURCE, "seed": int(seed), "size": int(size), "masks": masks}
    return Cohort(images, labels, ids, CLASSES, (1.0, 1.0), groups, meta)


def _counts(n: int) -> list[int]:
    """Images of each class: as in `COUNTS`, the rare ones lifted to `ENOUGH` if `n` allows, nevi take the rest."""
    counts = [max(min(ENOUGH, n // len(CLASSES)), round(n * count / sum(COUNTS))) for count in COUNTS]
    counts[CLASSES.index("NV")] += n - sum(counts)
    return counts


def _views(kind: int, m: int, seed: int) -> list[tuple[int, int]]:
    """`(lesion, view)` of the `m` images of a class; the first view of a lesion is 0."""
    views: list[tuple[int, int]] = []
    lesion = 0
    while len(views) < m:
        more = int(np.searchsorted((0.74, 0.93), np.random.default_rng([seed, kind, lesion]).random()))
        left = m - len(views) - max(1, min(ENOUGH, m) - lesion)  # this one, and what is missing, need an image
        views += [(lesion, view) for view in range(1 + min(more, max(0, left)))]
        lesion += 1
    return views


def _paint(plan: Sequence[tuple[int, int, int]], seed: int, size: int) -> tuple[Tensor, Tensor]:
    """Images float32 `(B, 3, size, size)` and masks bool `(B, size, size)`."""
    kinds = torch.tensor([kind for kind, _, _ in plan])
    lesions = [np.random.default_rng([seed, kind, lesion, 1]) for kind, lesion, _ in plan]
    views = [np.random.default_rng([seed, kind, lesion, 2, view]) for kind, lesion, view in plan]
    signs, pose = _signs(lesions, kinds), _uniform(views, 12)[..., None, None].unbind(1)
    axis = (torch.arange(size) + 0.5) / size - 0.5
    y, x = axis[:, None].expand(1, size, size), ASPECT * axis.expand(1, size, size)
    pixel = ASPECT / size  # the longer side of one, in the unit

    radius = signs.radius * (0.85 + 0.35 * pose[0])
    angle = 2 * math.pi * signs.angle + 1.2 * (pose[1] - 0.5)
    dy, dx = (a - 0.24 * (shift - 0.5) for a, shift in zip((y, x), pose[2:4]))
    v, u = (dy * angle.cos() - dx * angle.sin()) / radius, (dy * angle.sin() + dx * angle.cos()) / radius
    around = _noise(views, 2, 5, y / 0.7, x / 0.7), _noise(views, 2, 22, y / 0.7, x / 0.7)
    coarse, middle, fine = (_noise(lesions, c, k, v / 3, u / 3) for c, k in ((4, COARSE), (6, MIDDLE), (2, FINE)))

    depth = _depth(signs, v, u, middle, fine)
    inside = _cover(depth, signs.soft.clamp(min=2 * pixel / radius))
    brown, deep, blood, pale = _lesion(signs, v, u, depth, coarse, middle, fine, radius, pixel)
    _spots(signs, lesions, v, u, pixel / radius, (brown, deep, blood, pale))
    _vessels(signs, lesions, v + 0.10 * middle[:, 4], u + 0.10 * middle[:, 5], pixel / radius, blood)
    brown, deep, blood = brown * inside, deep * inside, blood * inside
    sun = 1 + 1.8 * signs.sun.clamp(min=0)  # damage to the skin around
    brown = brown + (0.03 * sun * around[1][:, 0]).clamp(min=0) + (0.03 * sun * around[0][:, 1]).clamp(min=0)
    blood = blood + (0.15 * pose[4] ** 2 + 0.05 * around[0][:, 0] + 0.03 * sun * around[1][:, 1]).clamp(min=0)
    brown = brown + _hairs(views, y, x, pixel)
    image = _skin(torch.stack(pose[5:8], 1)) * torch.exp(
        -sum(m[:, None] * _colour(c) for m, c in zip((brown, deep, blood), ABSORBED))
    )
    image = torch.lerp(image, _colour(PALE), (pale * inside).clamp(0, 0.9)[:, None])
    image = _gel(views, image, y, x, pixel)
    return _photograph(views, image, y, x, pose[8:]), depth > 0


ABSORBED = (BROWN, DEEP, BLOOD)


# ---- a lesion ----


def _signs(rngs: Sequence[np.random.Generator], kinds: Tensor) -> SimpleNamespace:
    """Every entry of SIGNS and SPOTS, `(B, 1, 1)`, by name; and the `angle` of the lesion in turns."""
    ranges = torch.tensor(list((SIGNS | SPOTS).values()))[:, kinds]  # (names, B, 2)
    draws = _uniform(rngs, len(ranges) + 1)
    values = torch.lerp(ranges[..., 0], ranges[..., 1], draws[:, 1:].T)[..., None, None]
    return SimpleNamespace(angle=draws[:, :1, None], **dict(zip(SIGNS | SPOTS, values)))


def _depth(signs: SimpleNamespace, v: Tensor, u: Tensor, middle: Tensor, fine: Tensor) -> Tensor:
    """How deep inside the outline, in radii: an oval with lobes, a ragged edge and, on one side, streaks."""
    theta = torch.atan2(v, u * (1 - signs.oval))
    lobes = sum((theta * k + 2 * math.pi * k * signs.angle * 3.7).cos() / k for k in (1, 2, 3, 5))
    side = (theta - 1).cos().clamp(min=0) * signs.streaks.clamp(min=0)
    edge = signs.ragged * (middle[:, 0] + 0.4 * fine[:, 0]) + side * (17 * theta + 2 * middle[:, 2]).cos()
    return 1 + signs.lobes * lobes + edge - torch.hypot(v, u * (1 - signs.oval))


def _lesion(
    signs: SimpleNamespace, v: Tensor, u: Tensor, depth: Tensor, coarse: Tensor, middle: Tensor, fine: Tensor,
    radius: Tensor, pixel: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The maps of a lesion: pigment and what pattern it has, the veil, scars, scales, follicles."""
    patchy = signs.variegation * (0.7 * coarse[:, 0] + 0.25 * middle[:, 1]) + signs.asymmetry * v.clamp(-1, 1)
    patchy = patchy.exp().clamp(max=2.2)
    period = 0.052 + 0.03 * signs.angle * (1 - signs.angle)
    seen = (period / (2.4 * pixel) - 0.3).clamp(0, 1)  # finer than the pixels, a pattern is grey
    bent = 0.006 + 0.012 * signs.uneven
    lattice = _lattice(v * radius + bent * middle[:, 2], u * radius + bent * middle[:, 3], period)
    where = torch.lerp(torch.ones(()), (0.5 + coarse[:, 1]).clamp(0, 1.5), signs.uneven) * _cover(0.8 - depth, 0.8)
    network = signs.network.clamp(min=0) * seen * where * (0.4 - lattice + 0.25 * fine[:, 1])
    ridges = signs.ridges.clamp(min=0) * (0.75 - 3 * middle[:, 2].abs()).clamp(min=-0.75)
    brown = signs.brown.clamp(min=0) * patchy * (1 + 0.18 * fine[:, 0])
    brown = (brown * (1 + 0.9 * network + 0.7 * ridges) + 0.25 * network + 0.12 * ridges).clamp(min=0)
    blood = signs.blood.clamp(min=0) * (1 + 0.6 * coarse[:, 2] * signs.uneven + 0.10 * fine[:, 1]).clamp(min=0)

    veil = signs.veil.clamp(min=0) * _cover(coarse[:, 3] + 0.2 * middle[:, 4] + depth - 0.55, 1.1)
    deep = signs.deep.clamp(min=0) * patchy + 1.1 * veil
    middle_part = torch.exp(-((torch.hypot(v, u) / 0.42) ** 2)) * (1 + 0.35 * middle[:, 5])
    scar = signs.centre.clamp(min=0) * middle_part.clamp(0, 1.2)
    openings = _lattice(v + 0.07 * middle[:, 4], u + 0.07 * middle[:, 5], 0.10 / radius)
    openings = signs.follicles.clamp(min=0) * _cover(openings - 0.45, 0.5)  # amid red: a strawberry
    scales = signs.scale.clamp(min=0) * _cover(fine[:, 1] + middle[:, 1] - 1.1, 0.8)
    blood = blood + 0.35 * signs.follicles.clamp(min=0) - 0.35 * openings
    brown, deep = brown * (1 - 0.75 * scar.clamp(max=1)), deep * (1 - 0.75 * scar.clamp(max=1))
    return brown, deep, blood.clamp(min=0), 0.28 * veil + 0.75 * scar + 0.45 * openings + 0.7 * scales


def _lattice(v: Tensor, u: Tensor, period: Tensor | float) -> Tensor:
    """Three waves at 60 degrees: 1 in the middle of each hexagonal mesh, -0.5 at most on the lines between."""
    k = 4 * math.pi / math.sqrt(3) / period
    waves = ((k * (v * math.sin(a) + u * math.cos(a))).cos() for a in (0, math.pi / 3, 2 * math.pi / 3))
    return sum(waves, torch.zeros(())) / 3


def _spots(
    signs: SimpleNamespace, rngs: Sequence[np.random.Generator], v: Tensor, u: Tensor, pixel: Tensor,
    maps: Sequence[Tensor],
) -> None:  # fmt: skip
    """Adds globules, ovoid nests, lacunae, milia-like cysts or comedones, as `SPOTS` has them for the class."""
    draws = _uniform(rngs, 6 * MOST_SPOTS).reshape(len(rngs), 6, MOST_SPOTS, 1, 1)
    amounts = [getattr(signs, f"spot_{name}").clamp(min=0) for name in ("brown", "deep", "blood", "pale")]
    for j in range(MOST_SPOTS):
        rows = (signs.spots.flatten() > j).nonzero().flatten()
        away, angle, size, narrow, turn, plug = draws[rows, :, j].unbind(1)
        away, r = signs.reach[rows] * away.sqrt(), signs.spot[rows] * (0.6 + 0.8 * size)
        dv, du = v[rows] - away * (2 * math.pi * angle).sin(), u[rows] - away * (2 * math.pi * angle).cos()
        s, c = (math.pi * turn).sin(), (math.pi * turn).cos()
        far = torch.hypot(dv * c - du * s, (dv * s + du * c) * (1 + 0.8 * narrow))
        cover = _cover(r - far, signs.blur[rows] * r + pixel[rows])
        plug = (plug < signs.plugs[rows]).float()
        for total, amount, of_plug in zip(maps, amounts, (1.3, 0.2, 0.0, 0.0)):
            value = torch.lerp(amount[rows] * (0.7 + 0.3 * turn), torch.tensor(of_plug), plug)
            total[rows] = torch.maximum(total[rows], cover * value)


def _vessels(
    signs: SimpleNamespace, rngs: Sequence[np.random.Generator], v: Tensor, u: Tensor, pixel: Tensor, blood: Tensor
) -> None:
    """Adds trees of vessels to `blood`: a thick stem from the edge, which forks twice."""
    rows = (signs.vessels.flatten() > 0).nonzero().flatten()
    draws = _uniform(rngs, 10 * TREES)[rows].reshape(-1, TREES, 10, 1, 1)
    v, u, pixel, amount = v[rows], u[rows], pixel[rows], 1.6 * signs.vessels[rows].clamp(max=0.7)
    for tree in draws.unbind(1):
        start, aim, length, wide, *forks = tree.unbind(1)
        start, width = 2 * math.pi * start, 0.02 + 0.03 * wide
        heading, root = start + math.pi + 1.4 * (aim - 0.5), (0.9 * start.sin(), 0.9 * start.cos())
        branches = [(root, heading, 0.45 + 0.35 * length, width)]
        for level, (left, right) in enumerate((forks[:2], forks[2:4], forks[4:])):
            (v0, u0), heading, length, width = branches[level]  # the stem, then its two arms
            end = (v0 + length * heading.sin(), u0 + length * heading.cos())
            for sign, bend in ((-1, left), (1, right)):
                branches.append((end, heading + sign * (0.25 + 0.6 * bend), 0.7 * length, 0.7 * width))
        covers = [_line(v, u, *branch, pixel) for branch in branches]
        blood[rows] = torch.maximum(blood[rows], amount * torch.stack(covers).amax(0))


def _line(
    v: Tensor, u: Tensor, start: Sequence[Tensor], heading: Tensor, length: Tensor, width: Tensor, pixel: Tensor
) -> Tensor:
    """How much of each pixel a straight line of some width covers."""
    v, u = v - start[0], u - start[1]
    along = (v * heading.sin() + u * heading.cos()).clamp(min=0).minimum(length)
    away = torch.hypot(v - along * heading.sin(), u - along * heading.cos())
    blurred = torch.hypot(width, 0.7 * pixel)
    return width / blurred * torch.exp(-((away / blurred) ** 2))


# ---- what lies around and above it ----


def _skin(tone: Tensor) -> Tensor:
    """Colour of the bare skin under this camera, `(B, 3, 1, 1)`: light or dark, orange to pink to violet-grey."""
    light, dull, cold = tone.unbind(1)
    red, green = 0.98 - 0.20 * light, 0.67 + 0.18 * dull
    return red[:, None] * torch.stack([torch.ones_like(red), green, green * (0.76 + 0.36 * cold)], 1)


def _hairs(rngs: Sequence[np.random.Generator], y: Tensor, x: Tensor, pixel: float) -> Tensor:
    """What hairs absorb, as melanin; a third of the images has some. They are parabolas of one main direction."""
    draws = _uniform(rngs, 5 * HAIRS + 3)
    count, main, dark = draws[:, :3].unbind(1)
    each = draws[:, 3:].reshape(len(rngs), 5, HAIRS, 1, 1)
    count, total = (3 * count - 2) ** 2 * HAIRS * (count > 2 / 3), torch.zeros(len(rngs), *y.shape[1:])
    for j in range(HAIRS):
        rows = (count > j).nonzero().flatten()
        place, along, turn, bend, width = each[rows, :, j].unbind(1)
        angle = math.pi * main[rows, None, None] + 1.6 * (turn - 0.5)
        across = y * angle.cos() - x * angle.sin() - 1.2 * (place - 0.5)
        ahead = y * angle.sin() + x * angle.cos() - 0.8 * (along - 0.5)
        slope = 1.2 * (bend - 0.5)
        away = (across - slope * ahead**2) / (1 + (2 * slope * ahead) ** 2).sqrt()
        width = 0.002 + 0.003 * width
        blurred = torch.hypot(width, torch.tensor(0.45 * pixel))
        cover = width / blurred * torch.exp(-((away / blurred) ** 2)) * _cover(0.5 - ahead.abs(), 0.05)
        total[rows] = torch.maximum(total[rows], (0.6 + 1.6 * dark[rows, None, None]) * cover)
    return total


def _gel(rngs: Sequence[np.random.Generator], image: Tensor, y: Tensor, x: Tensor, pixel: float) -> Tensor:
    """Air bubbles in the gel, in a quarter of the images: a bright rim with a darker one inside it."""
    draws = _uniform(rngs, 4 * BUBBLES + 1)
    count, each = (draws[:, 0] - 0.75) / 0.25 * BUBBLES, draws[:, 1:].reshape(len(rngs), 4, BUBBLES, 1, 1)
    for j in range(BUBBLES):
        rows = (count > j).nonzero().flatten()
        row, column, size, bright = each[rows, :, j].unbind(1)
        r, rim = 0.015 + 0.10 * size**2, 0.004 + 0.5 * pixel
        depth = r - torch.hypot(y - 1.1 * (row - 0.5), x - 1.1 * ASPECT * (column - 0.5))
        light = torch.exp(-((depth / rim) ** 2)) - 0.5 * torch.exp(-(((depth - 2 * rim) / rim) ** 2))
        image[rows] = image[rows] + (0.15 + 0.25 * bright)[:, None] * light[:, None]
    return image


def _photograph(
    rngs: Sequence[np.random.Generator], image: Tensor, y: Tensor, x: Tensor, light: Sequence[Tensor]
) -> Tensor:
    """Fall-off or a dark frame around the field of view, exposure, white balance, contrast, noise of the sensor."""
    frame, fall, exposure, contrast = light
    r = torch.hypot(y, x)
    field = 1 - 0.25 * fall * (r / 0.83) ** 2 - 0.75 * _cover(r - 0.60 - frame, 0.05) * (frame < 0.15)
    balance = (0.96 + 0.08 * _uniform(rngs, 3))[..., None, None]
    image = (image * field[:, None]).clamp(min=0) ** (0.85 + 0.35 * contrast)[:, None]
    image = image * (0.90 + 0.16 * exposure)[:, None] * balance
    noise = np.stack([rng.standard_normal(image.shape[1:], np.float32) for rng in rngs])
    return (image + 0.012 * torch.from_numpy(noise)).clamp(0, 1)


# ---- tools ----


def _uniform(rngs: Sequence[np.random.Generator], m: int) -> Tensor:
    """`m` draws of each generator, float32 `(B, m)`."""
    return torch.from_numpy(np.stack([rng.random(m, np.float32) for rng in rngs]))


def _noise(rngs: Sequence[np.random.Generator], channels: int, knots: int, v: Tensor, u: Tensor) -> Tensor:
    """Smooth noise of unit variance at its `knots` x `knots` knots over -1 to 1, `(B, channels, size, size)`."""
    draws = torch.from_numpy(np.stack([rng.standard_normal((channels, knots, knots), np.float32) for rng in rngs]))
    grid = torch.stack(torch.broadcast_tensors(u, v), -1).expand(len(rngs), -1, -1, -1)
    return F.grid_sample(draws, grid, mode="bicubic", padding_mode="reflection", align_corners=True)


def _cover(depth: Tensor, soft: Tensor | float) -> Tensor:
    """0 outside, 1 inside, smooth over `soft` around depth 0."""
    t = (0.5 + depth / soft).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _colour(rgb: Sequence[float]) -> Tensor:
    return torch.tensor(rgb)[:, None, None]
