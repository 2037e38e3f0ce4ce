"""The networks of `papers.gao2021.isic`: `rows` for images of skin."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from fewlabels.methods.adversarial import RegularisedAdversarial
from fewlabels.methods.augmented_training import Augmentation, AugmentedTraining
from fewlabels.methods.task_driven import TaskDriven
from fewlabels.models.backbones import classifier
from fewlabels.models.discriminators import Discriminator
from fewlabels.papers.gao2021 import rows as gao_rows
from fewlabels.types import Device, TaskLoss

if TYPE_CHECKING:  # it imports this module
    from fewlabels.papers.gao2021.isic import Config

CLASSES = 7
WEIGHTED = "no-aug (class weights)"  # a row of ours


def target(config: "Config", backbone: str, device: Device) -> nn.Sequential:
    """T with fresh weights, or those of a file. Uses torch's global RNG, as all here; it comes first in every row."""
    return classifier(backbone, CLASSES, config.weights or None).to(device)


def plain(
    config: "Config",
    backbone: str,
    augment: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    loss: TaskLoss,
    device: Device,
) -> AugmentedTraining:
    """T alone, on what `augment` (images, labels) -> (images, targets) makes of a batch."""
    T = target(config, backbone, device)
    return AugmentedTraining(T, config.optimiser(T), loss, augment)


def adversarial(config: "Config", backbone: str, method: str, loss: TaskLoss, device: Device) -> RegularisedAdversarial:
    T, size = target(config, backbone, device), (config.size,) * 2
    return gao_rows.adversarial(method, T, config.optimiser, size, 3, loss, device, **config.adversarial)


def random(
    config: "Config", backbone: str, rms: Mapping[str, ArrayLike], loss: TaskLoss, device: Device
) -> RegularisedAdversarial:
    T = target(config, backbone, device)
    return gao_rows.random(T, config.optimiser, rms, loss)


def cgan_generator(config: "Config", backbone: str, kind: str, loss: TaskLoss, device: Device) -> TaskDriven:
    size, T = (config.size,) * 2, target(config, backbone, device)
    D = Discriminator(size, 3, config.cgan_width, norm_momentum=0.1)
    return gao_rows.cgan_generator(kind, T, D, size, 3, config.cgan_width, config.learning_rate, loss, device, keep)


def cgan(config: "Config", generators: dict[str, nn.Module], device: Device) -> Augmentation:
    return gao_rows.cgan(generators, (config.size,) * 2, device, keep)


def keep(y: Tensor, u: Tensor) -> Tensor:
    """A warped image of skin shows what it showed."""
    return y


def loss_of(config: "Config", labels: Tensor, method: str = "no-aug") -> TaskLoss:
    """Cross-entropy; `class_weights: inverse`, or that row, weighs a class by its inverse frequency in `labels`."""
    if config.class_weights == "none" and method != WEIGHTED:
        return F.cross_entropy
    counts = torch.bincount(labels, minlength=CLASSES).clamp(min=1)
    return partial(F.cross_entropy, weight=len(labels) / (CLASSES * counts.float()))
