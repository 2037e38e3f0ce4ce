"""The methods of Gao et al. 2021, on skin lesions and on head-and-neck CT alike: what a row's name stands for.

`Comb (w/o discriminator)`: the row, and in brackets what is left out.
"""

import torch
from torch.optim import Adam

from fewlabels.engine.training import cosine
from fewlabels.methods.adversarial import RegularisedAdversarial
from fewlabels.methods.augmented_training import Augmentation, AugmentedTraining
from fewlabels.methods.task_driven import TaskDriven
from fewlabels.models.auxbn import with_auxiliary
from fewlabels.models.discriminators import PooledDiscriminator
from fewlabels.models.generators import AugmentationGenerator, Generator

GENERATORS = {
    "Affine": ("affine",),
    "Deform": ("deformation",),
    "Appear": ("appearance",),
    "Comb": ("affine", "deformation", "appearance"),
}
OURS = tuple(GENERATORS)
ABLATIONS = ("w/o image condition", "w/o discriminator")
CGAN = ("deformation", "intensity")
GRID = 224  # Chaitanya et al.'s v is in pixels of images of this size
BETAS = (0.5, 0.999)  # of Adam for G and D: DCGAN


def parts(method):
    """`Comb (w/o discriminator)` -> ("Comb", "w/o discriminator")."""
    name, _, left_out = method.removesuffix(")").partition(" (")
    return name, left_out


def kinds(method):
    """Which generators a row has."""
    return GENERATORS.get(parts(method)[0], ())


def optimiser_of(config, T, steps=None):
    optimiser = Adam(T.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    return cosine(optimiser, steps or config.steps)


def plain(config, T, augment, loss):
    """T alone, on what `augment` (images, labels) -> (images, targets) makes of a batch."""
    return AugmentedTraining(T, optimiser_of(config, T), loss, augment)


def adversarial(config, method, T, size, channels, loss, device, move_targets=None):
    """A row of ours: T, and the generators and D for images `(N, channels, *size)` from fresh weights."""
    _, left_out = parts(method)
    most = {"affine": 1.0, "deformation": config.max_displacement, "appearance": config.max_appearance}
    conditional, width = left_out != "w/o image condition", config.generator_width
    G = [
        AugmentationGenerator(size, kind, channels, width, conditional, most[kind]).to(device) for kind in kinds(method)
    ]
    D = PooledDiscriminator(len(size), channels, config.discriminator_width).to(device)
    T = with_auxiliary(T, len(G))
    adam = lambda *networks: Adam([p for n in networks for p in n.parameters()], config.learning_rate_gan, BETAS)  # noqa: E731
    optimisers = {"T": optimiser_of(config, T), "G": adam(*G)}
    if left_out == "w/o discriminator":
        D = None
    else:
        optimisers["D"] = adam(D)
    settings = {"lam": config.lam, "gamma": config.gamma, "saturating": config.saturating}
    return RegularisedAdversarial(T, G, D, loss, optimisers, move_targets, **settings)


def unwarped(size, device):
    """n fields that leave images as they are: cGAN has no other augmentation here."""
    return lambda n: torch.zeros(n, len(size), *size, device=device)


def cgan_generator(config, kind, T, D, size, channels, loss, device, move_targets):
    """The pre-training of one of cGAN's two generators with a T and a D of its own (Chaitanya et al. 2019)."""
    G = Generator(size, kind, channels, config.cgan_width, norm_momentum=0.1).to(device)
    return TaskDriven(
        T, G, D.to(device), kind, loss, unwarped(size, device), move_targets,
        unit=size[-1] / GRID, learning_rate=config.learning_rate,
    )  # fmt: skip


def cgan(generators, size, device, move_targets):
    """Half of a batch as it is, half augmented by both generators, which are in inference mode."""
    unit = size[-1] / GRID
    return Augmentation(
        unwarped(size, device), move_targets,
        deform=lambda x, z: unit * generators["deformation"](x, z),
        recolour=lambda x, z: x + generators["intensity"](x, z),
    )  # fmt: skip
