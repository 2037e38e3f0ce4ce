"""The networks of `papers.gao2021.isic`: `rows` for images of skin."""

from functools import partial

import torch
import torch.nn.functional as F

from fewlabels.methods.augmented_training import AugmentedTraining
from fewlabels.models.backbones import classifier
from fewlabels.models.discriminators import Discriminator
from fewlabels.papers.gao2021 import rows as gao_rows

CLASSES = 7
WEIGHTED = "no-aug (class weights)"  # a row of ours


def target(config, backbone, device):
    """T with fresh weights, or those of a file. Uses torch's global RNG, as all here; it comes first in every row."""
    return classifier(backbone, CLASSES, config.weights or None).to(device)


def plain(config, backbone, augment, loss, device):
    """T alone, on what `augment` (images, labels) -> (images, targets) makes of a batch."""
    T = target(config, backbone, device)
    return AugmentedTraining(T, config.optimiser(T), loss, augment)


def adversarial(config, backbone, method, loss, device):
    T, size = target(config, backbone, device), (config.size,) * 2
    return gao_rows.adversarial(method, T, config.optimiser, size, 3, loss, device, **config.adversarial)


def random(config, backbone, rms, loss, device):
    T = target(config, backbone, device)
    return gao_rows.random(T, config.optimiser, rms, loss)


def cgan_generator(config, backbone, kind, loss, device):
    size, T = (config.size,) * 2, target(config, backbone, device)
    D = Discriminator(size, 3, config.cgan_width, norm_momentum=0.1)
    return gao_rows.cgan_generator(kind, T, D, size, 3, config.cgan_width, config.learning_rate, loss, device, keep)


def cgan(config, generators, device):
    return gao_rows.cgan(generators, (config.size,) * 2, device, keep)


def keep(y, u):
    """A warped image of skin shows what it showed."""
    return y


def loss_of(config, labels, method="no-aug"):
    """Cross-entropy; `class_weights: inverse`, or that row, weighs a class by its inverse frequency in `labels`."""
    if config.class_weights == "none" and method != WEIGHTED:
        return F.cross_entropy
    counts = torch.bincount(labels, minlength=CLASSES).clamp(min=1)
    return partial(F.cross_entropy, weight=len(labels) / (CLASSES * counts.float()))
