"""The networks of `papers.gao2021.oar`: `rows` for patches of head-and-neck CT.

Targets are one-hot maps `(N, classes, *patch)`, float. Of a patient in whom some organ was not delineated, the channels
of all such organs and of the background are -1: that nothing is known travels with the map through every warp.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.augment.nnunet import nnunet
from fewlabels.losses import partial_cross_entropy_dice
from fewlabels.methods.adversarial import RegularisedAdversarial
from fewlabels.methods.augmented_training import AugmentedTraining
from fewlabels.methods.task_driven import TaskDriven
from fewlabels.models.discriminators import PooledDiscriminator
from fewlabels.models.resunet3d import ResUNet3D
from fewlabels.papers.gao2021 import rows as gao_rows
from fewlabels.types import Device
from fewlabels.warps import warp

if TYPE_CHECKING:  # it imports this module
    from fewlabels.papers.gao2021.oar import Config

MARGIN = 1.25  # patches for nnU-Net's augmentation are so much larger, and cropped after it: rotation brings in tissue


def target(config: "Config", classes: int, device: Device) -> ResUNet3D:
    """T with fresh weights. Uses torch's global RNG, as all here; it comes first in every row."""
    return ResUNet3D(1, classes, config.width, config.levels).to(device)


def targets_of(labels: Tensor, present: Tensor) -> Tensor:
    """Label maps `(N, *size)` and what was delineated, bool `(N, classes)` -> targets."""
    maps = F.one_hot(labels, present.shape[1]).movedim(-1, 1).float()
    return torch.where(present.to(maps.device).reshape(*present.shape, *[1] * (labels.ndim - 1)), maps, -1.0)


def present_in(targets: Tensor) -> Tensor:
    """What was delineated, bool `(N, classes)`."""
    return targets.flatten(2)[:, :, 0] >= 0


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    return partial_cross_entropy_dice(logits, targets, present_in(targets))


def move(targets: Tensor, u: Tensor) -> Tensor:
    """Targets of warped patches: those of the voxels that are shown, at the border as in the image."""
    return warp(targets, u, order=0, mode="border")


def grey_unit(images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean and sd of the labelled voxels, which nnU-Net brings to 0 and 1 (v1, `DatasetAnalyzer`; it clips too)."""
    grey = images[:, 0][labels > 0]
    return float(grey.mean()), float(grey.std())


def padded(
    images: Tensor, labels: Tensor, patch: Sequence[int], larger: Sequence[int], unit: tuple[float, float]
) -> tuple[tuple[Tensor, Tensor], torch.Size]:
    """Volumes with what `larger` patches have around their middle, `patch`, on all sides, and their new size: of the
    mean grey value and label 0, as v1's loader pads (`DataLoader3D`, `pad_mode="constant"`)."""
    sides = [side for n, p in zip(larger[::-1], patch[::-1]) for side in ((n - p) // 2, n - p - (n - p) // 2)]
    images = F.pad(images, sides, value=unit[0])
    return (images, F.pad(labels, sides)), images.shape[2:]


def reduce_to(
    config: "Config", method: str, unit: tuple[float, float]
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """nnU-Net's augmentation, cropped to a patch."""
    policy = gao_rows.parts(method)[1] or config.nnunet
    options: dict[str, Any] = {"full": method != "nnUNet Reduce", "crop": tuple(config.patch), "policy": policy}
    options |= {"unit": unit} if policy == "v1" else {}

    def augment(x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        labels = targets.clamp(min=0).argmax(1)
        x, labels = nnunet(x, labels, **options)
        return x, targets_of(labels, present_in(targets))

    return augment


def plain(config: "Config", method: str, T: nn.Module, unit: tuple[float, float] = (0.0, 1.0)) -> AugmentedTraining:
    """Baseline, or a row of nnU-Net's; `unit` as of `grey_unit`."""
    augment = (lambda x, t: (x, t)) if method == "Baseline" else reduce_to(config, method, unit)
    return AugmentedTraining(T, config.optimiser(T), loss, augment)


def adversarial(config: "Config", method: str, T: nn.Module, device: Device) -> RegularisedAdversarial:
    size = tuple(config.patch)
    return gao_rows.adversarial(method, T, config.optimiser, size, 1, loss, device, move, **config.adversarial)


def cgan_generator(config: "Config", kind: str, T: nn.Module, device: Device) -> TaskDriven:
    D = PooledDiscriminator(3, 1, config.discriminator_width)  # theirs, in 2-D, is for sizes that are multiples of 32
    size, width = tuple(config.patch), config.cgan_width
    return gao_rows.cgan_generator(kind, T, D, size, 1, width, config.learning_rate, loss, device, move)


def cgan(config: "Config", T: nn.Module, generators: dict[str, nn.Module], device: Device) -> AugmentedTraining:
    augment = gao_rows.cgan(generators, tuple(config.patch), device, move)
    return AugmentedTraining(T, config.optimiser(T), loss, augment)
