"""The rows of Chaitanya et al. 2019, Table 1: the networks and the augmentation that a row's name stands for.

`A+GD+GI (no regulariser)`: affine, G_V, G_I, and in brackets what is changed in the training of the generators.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

from fewlabels.augment import classical as augment
from fewlabels.data.acdc import CLASSES, GRID
from fewlabels.losses import partial_cross_entropy_dice, weighted_cross_entropy
from fewlabels.methods.adversarial_ssl import AdversarialSegmentation, PairDiscriminator
from fewlabels.methods.augmented_training import Augmentation, AugmentedTraining
from fewlabels.methods.task_driven import TaskDriven
from fewlabels.models.discriminators import Discriminator
from fewlabels.models.generators import Generator, Z
from fewlabels.models.unet import BilinearUNet
from fewlabels.papers.chaitanya2019.realism import realism_auc
from fewlabels.types import Device, DrawFields, TaskLoss
from fewlabels.warps import jacobian_determinant, transform_labels

if TYPE_CHECKING:  # it imports this module
    from fewlabels.papers.chaitanya2019.acdc import Config

GENERATORS = {"GD": "deformation", "GI": "intensity"}
VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    "no regulariser": {"lam_adv": 0.0, "lam_big": 0.0},
    "no task gradient": {"task_gradient": False},
    "no L_big": {"lam_big": 0.0},
    "no L_big, no task gradient": {"lam_big": 0.0, "task_gradient": False},
}
WEIGHTS = {"background": 0.1, "structure": 0.3}  # of L_S, Section 3.4
JUDGED = 200  # images of either kind in the measures of what a row generates

move_targets = partial(transform_labels, classes=len(CLASSES), order=1)


def parts(method: str) -> tuple[list[str], str]:
    """`A+GD (no L_big)` -> (["A", "GD"], "no L_big")."""
    names, _, variant = method.removesuffix(")").partition(" (")
    return names.split("+"), variant


def task_loss(config: "Config", background: float) -> TaskLoss:
    """L_S as (logits, soft labels) -> scalar: the paper's, the background so weighted, or one without weights."""
    if config.loss == "cross_entropy_dice":
        return lambda logits, y: partial_cross_entropy_dice(logits, y, torch.ones(y.shape[:2], dtype=torch.bool))
    return partial(weighted_cross_entropy, weights=[background, *[WEIGHTS["structure"]] * (len(CLASSES) - 1)])


def segmenter(config: "Config", device: Device) -> BilinearUNet:
    return BilinearUNet(1, len(CLASSES), config.width, config.norm_momentum).to(device)


def discriminator(config: "Config", device: Device) -> Discriminator:
    return Discriminator((config.size,) * 2, 1, config.width, config.norm_momentum).to(device)


def affine(config: "Config", device: Device) -> DrawFields:
    return lambda n: augment.random_affine(n, (config.size,) * 2, device)


def unit(config: "Config") -> float:
    """Pixels of the config's grid to one of the paper's, in which RD and v are."""
    return config.size / (config.field or GRID)


def task_driven(config: "Config", name: str, variant: str, device: Device) -> TaskDriven:
    """The training of the generator `name`, "GD" or "GI", from fresh weights. Uses torch's global RNG."""
    settings: dict[str, Any] = {"lam_adv": config.lambda_adv, "lam_big": config.lambda_big, **VARIANTS[variant]}
    S, D = segmenter(config, device), discriminator(config, device)
    G = Generator((config.size,) * 2, GENERATORS[name], 1, config.width, config.norm_momentum).to(device)
    return TaskDriven(
        S, G, D, GENERATORS[name], task_loss(config, WEIGHTS["background"]), affine(config, device), move_targets,
        unit=unit(config), warm_up=config.warm_up, learning_rate=config.learning_rate, **settings,
    )  # fmt: skip


def augmentation(config: "Config", method: str, generators: dict[str, nn.Module], device: Device) -> Augmentation:
    """What a row does to a batch; `generators` {"GD": G_V, "GI": G_I} are in inference mode."""
    names, _ = parts(method)
    if names == ["none"]:
        return Augmentation(lambda n: torch.zeros(n, 2, config.size, config.size, device=device), move_targets)
    scale, deform, recolour = unit(config), None, None
    if "RD" in names:
        deform = lambda x, z: augment.random_elastic(len(x), x.shape[2:], 10 * scale, device)  # noqa: E731
    if "RI" in names:
        recolour = lambda x, z: augment.contrast_brightness(x)  # noqa: E731
    if "GD" in names:
        deform = lambda x, z: scale * generators["GD"](x, z)  # noqa: E731
    if "GI" in names:
        recolour = lambda x, z: x + generators["GI"](x, z)  # noqa: E731
    return Augmentation(affine(config, device), move_targets, deform, recolour, "Mixup" in names, config.mixup_alpha)


def segmentation(
    config: "Config", method: str, generators: dict[str, nn.Module], device: Device
) -> AugmentedTraining | AdversarialSegmentation:
    """The training of S in a row, from fresh weights. Uses torch's global RNG; S comes first, so that all are alike."""
    S, L_S = segmenter(config, device), task_loss(config, config.background_weight)
    optimiser = Adam(S.parameters(), lr=config.learning_rate)
    if not method.startswith("Adv Tr"):
        return AugmentedTraining(S, optimiser, L_S, augmentation(config, method, generators, device))
    D = PairDiscriminator(1, len(CLASSES), 4 * config.width).to(device)
    return AdversarialSegmentation(
        S, optimiser, D, Adam(D.parameters(), lr=0.0001, betas=(0.9, 0.99)), L_S,
        semi_supervised=method.endswith("SSL"), weight=config.adversarial_weight, ramp_up=config.steps,
    )  # fmt: skip


def one_hot(labels: Tensor) -> Tensor:
    return F.one_hot(labels, len(CLASSES)).movedim(-1, 1).float()


@torch.no_grad()
def of_generators(
    config: "Config", generators: dict[str, nn.Module], images: Tensor, device: Device
) -> dict[str, float]:
    """What generators make of images: mean |v| in the paper's pixels, the share of fields that fold, mean |Delta I|."""
    found, x = {}, images[torch.randint(len(images), (JUDGED,), device=device)]
    for name, G in generators.items():
        field = G(x, torch.randn(len(x), Z, device=device))
        found["mean_abs_v" if name == "GD" else "mean_abs_i"] = float(field.abs().mean())
        if name == "GD":
            folds = jacobian_determinant(unit(config) * field) <= 0
            found["folding"] = float(folds.flatten(1).any(1).float().mean())
    return found


def realism(
    config: "Config", method: str, generators: dict[str, nn.Module], images: Tensor, labels: Tensor, real: Tensor,
    unseen: Tensor, device: Device,
) -> float:  # fmt: skip
    """How well a fresh discriminator tells what a row generates of the images from real ones, an AUC.

    It learns from the images `real` and is judged on `unseen` ones, of other patients. Of a batch only the augmented
    half is judged; real images are affine too. Even of A it is far from 0.5 (all that is generated is of few patients):
    A's is what to compare with.
    """
    make, draw = augmentation(config, method, generators, device), affine(config, device)

    def fake(n: int = config.batch_size) -> Tensor:
        chosen = torch.randint(len(images), (2 * n,), device=device)
        return make(images[chosen], labels[chosen])[0][n:]

    def real_of(pool: Tensor, n: int = config.batch_size) -> Tensor:
        chosen = pool[torch.randint(len(pool), (n,), device=device)]
        return augment.warp(chosen, draw(n))

    D = discriminator(config, device)
    optimiser = Adam(D.parameters(), lr=config.learning_rate)
    tests = real_of(unseen, JUDGED), fake(JUDGED)
    return realism_auc(D, optimiser, lambda: real_of(real), fake, *tests, config.realism_steps)
