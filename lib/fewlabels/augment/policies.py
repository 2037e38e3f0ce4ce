"""Augmentation policies that are set by hand or searched: RandAugment and Fast AutoAugment, for batches of RGB images.

Two of the methods that Gao et al., IPMI 2021, Section 4.1, compare with. An image goes through a few of AutoAugment's
operations (Cubuk et al., CVPR 2019), which are torchvision's on 8 bits. Images of a batch that go through the same one
do so together. What happens to an image is drawn from torch's RNG on the CPU, whatever the device of the images.

Choices that the 2021 paper leaves open, here torchvision's defaults and those of the released code of Fast AutoAugment
(kakaobrain/fast-autoaugment): geometry takes the nearest pixel, and black (0) where none is.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.errors import BadInput

# ---- RandAugment: Cubuk et al., "Practical automated data augmentation with a reduced search space", NeurIPS 2020 ----

# "RandAug ... required to train the target network 12 times" (Gao et al., Section 4.2): which twelve, is our choice.
GRID = tuple((n, m) for n in (1, 2, 3) for m in (5, 10, 15, 20))

RANDOM = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
    "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize",
)  # fmt: skip
STRONGEST = 30  # the magnitude, of 31 bins from 0


def rand_augment(x: Tensor, n: int, m: int) -> Tensor:
    """Each image `(B, 3, H, W)` in [0, 1] through n operations out of 14 of magnitude m, from 0 (the weakest) to 30.

    float32 in and out, rounded to 8 bits; x stays. The distribution is that of `torchvision.transforms.v2.RandAugment`
    (num_ops=n, magnitude=m) on each image.

    Raises `BadInput` if n is not a whole number from 1 or m none from 0 to 30.
    """
    for name, value, least, most in (("n", n, 1, math.inf), ("m", m, 0, STRONGEST)):
        if type(value) is not int or not least <= value <= most:
            raise BadInput(f"RandAugment's {name}", f"a whole number from {least} to {most}", repr(value))
    x8 = _to_8_bits(x)
    kinds = torch.randint(len(RANDOM), (n, len(x))).tolist()
    signs = (2 * torch.randint(2, (n, len(x))) - 1).tolist()
    values = {sign: [_strength(name, m, sign, x.shape[2:]) for name in RANDOM] for sign in (-1, 1)}
    for kind, sign in zip(kinds, signs):
        _together(x8, [(RANDOM[k], values[s][k]) for k, s in zip(kind, sign)])
    return _to_floats(x8)


def _strength(name: str, m: int, sign: int, size: Sequence[int]) -> float | None:
    """What `_operate` takes for magnitude m. In float32 and cut to whole pixels, as torchvision does it."""

    def bins(start: float, end: float) -> float:
        return float(torch.linspace(start, end, STRONGEST + 1)[m])

    match name:
        case "ShearX" | "ShearY":
            return sign * bins(0.0, 0.3)
        case "TranslateX" | "TranslateY":
            return sign * int(bins(0.0, 150 / 331 * size[name == "TranslateX"]))
        case "Rotate":
            return sign * bins(0.0, 30.0)
        case "Brightness" | "Color" | "Contrast" | "Sharpness":
            return 1 + sign * bins(0.0, 0.9)
        case "Posterize":
            return 8 - round(4 * m / STRONGEST)
    return 255 * bins(1.0, 0.0) if name == "Solarize" else None


# ---- Fast AutoAugment: Lim et al., NeurIPS 2019 ----

# The operations and what magnitudes 0 and 1 mean: AutoAugment's ranges, as in the released augmentations.py, where the
# 16th, sample pairing, is off. A coin toss mirrors those of geometry, whose magnitudes m and 1 - m are thus the same.
RANGES: dict[str, tuple[float, float] | None] = {
    "ShearX": (-0.3, 0.3), "ShearY": (-0.3, 0.3),  # pixels to the side for each pixel down, or the reverse
    "TranslateX": (-0.45, 0.45), "TranslateY": (-0.45, 0.45),  # of the width, of the height; to whole pixels
    "Rotate": (-30, 30),  # degrees
    "AutoContrast": None, "Invert": None, "Equalize": None,  # the magnitude does not matter
    "Solarize": (0, 256),  # the grey level from which on levels are inverted
    "Posterize": (4, 8),  # bits that are kept; rounded down
    "Contrast": (0.1, 1.9), "Color": (0.1, 1.9), "Brightness": (0.1, 1.9), "Sharpness": (0.1, 1.9),  # 1: as it is
    "Cutout": (0, 0.2),  # side of the square, of the width
}  # fmt: skip
MIRRORED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")

SUBPOLICIES, LENGTH = 5, 2  # of a policy, and operations of each
Policy = Sequence[Sequence[Sequence[Any]]]  # sub-policies of operations [name, probability, magnitude]


def apply_policy(x: Tensor, policy: Policy) -> Tensor:
    """Each image `(B, 3, H, W)` in [0, 1] through one sub-policy, drawn with equal probability; float32 in and out.

    policy  a list of sub-policies, each a list of operations [name, probability, magnitude]: of `RANGES`, 0 to 1, 0
            to 1. They follow each other, each applied or not by a draw of its own.

    The result is rounded to 8 bits, also where nothing is applied; x stays.

    Raises `BadInput` if it is no such policy.
    """
    check(policy)
    x8 = _to_8_bits(x)
    chosen = [policy[k] for k in torch.randint(len(policy), (len(x),)).tolist()]
    for step in range(max(map(len, policy))):
        chances, sides = torch.rand(len(x)).tolist(), (2 * torch.randint(2, (len(x),)) - 1).tolist()
        keys: list[tuple[str, float | None]] = [("Identity", None)] * len(x)
        for i, (subpolicy, chance, side) in enumerate(zip(chosen, chances, sides)):
            if step < len(subpolicy) and chance < subpolicy[step][1]:
                name, _, magnitude = subpolicy[step]
                keys[i] = name, _value(name, magnitude, side, x.shape[2:])
        _together(x8, keys)
    return _to_floats(x8)


def check(policy: object) -> None:
    """Raises `BadInput` unless `policy` is one, see `apply_policy`."""
    if not isinstance(policy, list | tuple) or not policy:
        raise BadInput("policy", "a list of one sub-policy or more", f"{policy!r:.80}")
    for i, subpolicy in enumerate(policy):
        if not isinstance(subpolicy, list | tuple) or not subpolicy:
            raise BadInput(f"policy[{i}]", "a list of one operation or more", f"{subpolicy!r:.80}")
        for j, operation in enumerate(subpolicy):
            where = f"policy[{i}][{j}]"
            if not isinstance(operation, list | tuple) or len(operation) != 3:
                raise BadInput(where, "[name, probability, magnitude]", f"{operation!r:.80}")
            name, *numbers = operation
            if not isinstance(name, str) or name not in RANGES:
                raise BadInput(where, f"an operation of {', '.join(RANGES)}", f"{name!r:.80}")
            for what, number in zip(("probability", "magnitude"), numbers):
                if type(number) not in (int, float) or not 0 <= number <= 1:
                    raise BadInput(where, f"a {what} from 0 to 1", f"{number!r:.80}")


def search(loss_of: Callable[[Policy], float], trials: int, seed: int, keep: int) -> list[list[list[Any]]]:
    """Density matching on one fold (Lim et al., Algorithm 1): the policies under which a network's loss is lowest.

    loss_of  function of a policy, a list of 5 sub-policies of 2 operations; returns the loss of a network, trained
             without augmentation, on images it was not trained with, augmented: see `held_out_loss`
    trials   policies that are tried, B (200 in the release)
    seed     of the sampler, which leaves torch's RNG alone; the draws of `loss_of` are its own
    keep     of these, the best that are kept, N (10 in the release, of each of 5 folds that hold out 40 %)

    Returns their sub-policies in one list, the best policy's first: a policy itself. The lists that all folds give, one
    after the other, are the final policy. Of sub-policies of a policy that have the same operations in the same order,
    the first is kept, as in the release.

    The tree-structured Parzen estimator is optuna's, each parameter on its own as in HyperOpt's, which the paper uses;
    the first 20 policies (HyperOpt) or a quarter, if that is less, are random draws. Probabilities and magnitudes are
    rounded to three decimals before they are tried.

    Raises `BadInput` if `keep` is not from 1 to `trials`, FloatingPointError if a loss is not finite.
    """
    import optuna  # an optional dependency

    if not 1 <= keep <= trials:
        raise BadInput("policies kept", f"1 to {trials}, the policies tried", keep)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(20, trials // 4), multivariate=False)
    study, tried = optuna.create_study(sampler=sampler), []
    for _ in range(trials):
        trial = study.ask()
        policy = [[_suggested(trial, f"{i} {j}") for j in range(LENGTH)] for i in range(SUBPOLICIES)]
        loss = float(loss_of(policy))
        if not math.isfinite(loss):
            raise FloatingPointError(f"the held-out loss is {loss} under the policy {policy}")
        study.tell(trial, loss)
        tried.append((loss, policy))
    best = sorted(tried, key=lambda pair: pair[0])[:keep]
    return [subpolicy for _, policy in best for subpolicy in _different(policy)]


def held_out_loss(
    network: nn.Module, x: Tensor, y: Tensor, policy: Policy, best: bool = False, batch: int = 256
) -> float:
    """L(theta | T(D_A)): the network's cross-entropy on images `(N, 3, H, W)`, labels int64 `(N,)`, under a policy.

    Each image goes through every sub-policy, and the loss is the mean of all (Lim et al., Section 3.2). `best=True`:
    as in the release, each goes as many times through a sub-policy that is drawn, and its lowest loss counts.

    The network predicts in evaluation mode, and each of its modules is left in the mode it was in.
    """

    def losses(part: Policy) -> Tensor:
        pairs = zip(x.split(batch), y.split(batch))
        return torch.cat([F.cross_entropy(network(apply_policy(a, part)), b, reduction="none") for a, b in pairs])

    modes = {module: module.training for module in network.modules()}
    network.eval()
    with torch.no_grad():
        found = (
            torch.stack([losses(policy) for _ in policy]).amin(0) if best else torch.cat([losses([s]) for s in policy])
        )
    for module, training in modes.items():
        module.training = training
    return found.mean().item()


def _suggested(trial: Any, where: str) -> list[Any]:
    name = trial.suggest_categorical(f"operation {where}", list(RANGES))
    return [name, *(round(trial.suggest_float(f"{what} {where}", 0, 1), 3) for what in ("probability", "magnitude"))]


def _different(policy: Policy) -> list[Any]:
    first: dict[tuple[str, ...], Any] = {}
    for subpolicy in policy:
        first.setdefault(tuple(name for name, _, _ in subpolicy), subpolicy)
    return list(first.values())


def _value(name: str, magnitude: float, side: int, size: Sequence[int]) -> float | None:
    """What `_operate` takes for a magnitude of 0 to 1 of Fast AutoAugment, mirrored if `side` is -1."""
    if (ends := RANGES[name]) is None:
        return None
    low, high = ends
    value = low + magnitude * (high - low)
    if name in MIRRORED:
        value *= side
    match name:
        case "TranslateX" | "TranslateY":
            return round(value * size[name == "TranslateX"])
        case "Posterize":
            return int(value)
        case "Cutout":
            return value * size[1]
    return value


# ---- operations ----


def _to_8_bits(x: Tensor) -> Tensor:
    if not x.is_floating_point():
        raise BadInput("images", "floats in [0, 1]", x.dtype)
    return (x * 255).round().clamp(0, 255).to(torch.uint8)


def _to_floats(x8: Tensor) -> Tensor:
    return x8.float() / 255


def _together(x8: Tensor, keys: list[tuple[str, float | None]]) -> None:
    """Changes the images of a batch, each by its key (name, value); those of the same key in one go."""
    rows: dict[tuple[str, float | None], list[int]] = {}
    for i, key in enumerate(keys):
        rows.setdefault(key, []).append(i)
    for (name, value), row in rows.items():
        if name != "Identity":
            row = torch.tensor(row, device=x8.device)
            x8[row] = _operate(x8[row], name, value)


def _operate(x: Tensor, name: str, value: Any) -> Tensor:
    """uint8 `(n, 3, H, W)` through one operation of AutoAugment. value: see `RANGES`; shifts and Cutout in pixels."""
    from torchvision.transforms.v2 import functional as V  # takes 2 seconds

    match name:
        case "ShearX" | "ShearY":
            degrees = [math.degrees(math.atan(value)), 0.0]
            shear = degrees if name == "ShearX" else degrees[::-1]
            return V.affine(x, angle=0.0, translate=[0, 0], scale=1.0, shear=shear, center=[0, 0])
        case "TranslateX" | "TranslateY":
            shift = [value, 0] if name == "TranslateX" else [0, value]
            return V.affine(x, angle=0.0, translate=shift, scale=1.0, shear=[0.0, 0.0])
        case "Rotate":
            return V.rotate(x, value)
        case "Brightness":
            return V.adjust_brightness(x, value)
        case "Color":
            return V.adjust_saturation(x, value)
        case "Contrast":
            return V.adjust_contrast(x, value)
        case "Sharpness":
            return V.adjust_sharpness(x, value)
        case "Posterize":
            return V.posterize(x, value)
        case "Solarize":
            return x if value > 255 else V.solarize(x, value)
        case "AutoContrast":
            return V.autocontrast(x)
        case "Equalize":
            return V.equalize(x)
        case "Invert":
            return V.invert(x)
    return _cut_out(x, value)


def _cut_out(x: Tensor, side: float) -> Tensor:
    """A square of about `side` pixels about a point anywhere in each image, cut at its edges; the release's grey."""
    if side <= 0:
        return x
    height, width = x.shape[2:]
    centre = torch.rand(2, len(x), 1) * torch.tensor([height, width])[:, None, None]
    first = (centre - side / 2).clamp(min=0).floor().to(x.device)
    rows, columns = (torch.arange(length, device=x.device) for length in (height, width))
    inside = [(line >= start) & (line <= start + side) for line, start in zip((rows, columns), first)]
    square = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    grey = torch.tensor([125, 123, 114], dtype=torch.uint8, device=x.device).reshape(1, 3, 1, 1)
    return torch.where(square, grey, x)
