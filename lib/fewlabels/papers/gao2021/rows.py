"""The methods of Gao et al. 2021, on skin lesions and on head-and-neck CT alike: what a row's name stands for.

`Comb (w/o discriminator)`: the row, and in brackets what is left out.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.optim import Adam, Optimizer

from fewlabels.engine.params import Count, Natural, Rate, Size
from fewlabels.engine.training import cosine
from fewlabels.methods.adversarial import RegularisedAdversarial
from fewlabels.methods.augmented_training import Augmentation
from fewlabels.methods.task_driven import TaskDriven
from fewlabels.models.auxbn import with_auxiliary
from fewlabels.models.discriminators import PooledDiscriminator
from fewlabels.models.generators import AugmentationGenerator, Generator
from fewlabels.papers.gao2021.challenge import RandomTransforms
from fewlabels.precision import Precision
from fewlabels.types import Device, DrawFields, MoveTargets, TaskLoss

GENERATORS = {
    "Affine": ("affine",),
    "Deform": ("deformation",),
    "Appear": ("appearance",),
    "Comb": ("affine", "deformation", "appearance"),
}
OURS = tuple(GENERATORS)
ABLATIONS = ("w/o image condition", "w/o discriminator")
RANDOM = "Comb (random)"  # random parameters in place of the generators', of their amplitude: of claim 19
CGAN = ("deformation", "intensity")
GRID = 224  # Chaitanya et al.'s v is in pixels of images of this size
BETAS = (0.5, 0.999)  # of Adam for G and D: DCGAN
ADVERSARIAL = (  # the settings of `adversarial`
    "generator_width", "discriminator_width", "max_displacement", "max_appearance", "learning_rate_gan", "lam", "gamma",
    "saturating", "regulariser",
)  # fmt: skip

Range = Annotated[float, Field(gt=0, le=1)]


def parts(method: str) -> tuple[str, str]:
    """`Comb (w/o discriminator)` -> ("Comb", "w/o discriminator")."""
    name, _, left_out = method.removesuffix(")").partition(" (")
    return name, left_out


def kinds(method: str) -> tuple[str, ...]:
    """Which generators a row has."""
    return () if method == RANDOM else GENERATORS.get(parts(method)[0], ())


def in_a_file_name(method: str) -> str:
    return method.translate({ord(" "): "_", ord("/"): None, ord("("): None, ord(")"): None})


class Settings(BaseModel):
    """What both experiments have in their Config."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    profile: str  # names the result folder; the parameter file's own name
    seeds: list[Natural]  # repeats
    generator_width: Count  # channels at full size of G; DCGAN's halving from 16
    discriminator_width: Count  # channels of the first layer of D; DCGAN has 64
    lam: Size  # lambda, of L_GAN
    gamma: Size  # of L_reg
    regulariser: Literal["mean_square", "norm"] = "mean_square"  # ||.|| of L_reg; "norm" is as printed
    max_displacement: Range  # of G_D, in half sides; 1.0 is tanh as it is
    max_appearance: Range  # of G_I, in units of the images; the same
    saturating: bool  # G minimises log(1 - D) as written, not -log D
    cgan_width: Count  # channels of the first level of cGAN's G, on skin of its D too; its paper has 16, in 2-D
    steps_generator: Count  # of each of cGAN's two pre-trainings
    batch_size: Annotated[int, Field(gt=0, multiple_of=4)]  # images or patches
    learning_rate: Rate  # of Adam for T, to 0 along half a cosine
    weight_decay: Size
    learning_rate_gan: Rate  # of Adam for G and D
    steps: Count
    epochs: Count  # into which the steps are cut: what is looked at, and a checkpoint, at the end of each
    precision: Precision = "fp32"  # of the networks: bf16 on processors with AVX512-BF16 or AMX, and on CUDA
    threads: Count

    @property
    def adversarial(self) -> dict[str, Any]:
        """The settings of `adversarial`."""
        return self.model_dump(include={*ADVERSARIAL})

    def optimiser(self, T: nn.Module) -> Optimizer:
        """Adam for T, its rate falling to 0 along half a cosine."""
        return cosine(Adam(T.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay), self.steps)


def adversarial(
    method: str, T: nn.Module, optimiser: Callable[[nn.Module], Optimizer], size: Sequence[int], channels: int,
    loss: TaskLoss, device: Device, move_targets: MoveTargets | None = None, *, generator_width: int,
    discriminator_width: int, max_displacement: float, max_appearance: float, learning_rate_gan: float, lam: float,
    gamma: float, saturating: bool, regulariser: str,
) -> RegularisedAdversarial:  # fmt: skip
    """A row of ours: T, and the generators and D for images `(N, channels, *size)` from fresh weights.

    optimiser  T with its auxiliary norms -> its optimiser
    """
    _, left_out = parts(method)
    most = {"affine": 1.0, "deformation": max_displacement, "appearance": max_appearance}
    conditional = left_out != "w/o image condition"
    G = [
        AugmentationGenerator(size, kind, channels, generator_width, conditional, most[kind]).to(device)
        for kind in kinds(method)
    ]
    D = PooledDiscriminator(len(size), channels, discriminator_width).to(device)
    T = with_auxiliary(T, len(G))
    adam = lambda *networks: Adam([p for n in networks for p in n.parameters()], learning_rate_gan, BETAS)  # noqa: E731
    optimisers = {"T": optimiser(T), "G": adam(*G)}
    if left_out == "w/o discriminator":
        D = None
    else:
        optimisers["D"] = adam(D)
    weights: dict[str, Any] = {"lam": lam, "gamma": gamma, "saturating": saturating, "regulariser": regulariser}
    return RegularisedAdversarial(T, G, D, loss, optimisers, move_targets, **weights)


def random(
    T: nn.Module, optimiser: Callable[[nn.Module], Optimizer], rms: Mapping[str, ArrayLike], loss: TaskLoss
) -> RegularisedAdversarial:
    """`Comb (random)`: Comb with random transformations in place of its generators, and nothing that is trained but T.

    rms  `{kind: as of challenge.RandomTransforms}`
    """
    T = with_auxiliary(T, len(rms))
    G = [RandomTransforms(kind, values) for kind, values in rms.items()]
    return RegularisedAdversarial(T, G, None, loss, {"T": optimiser(T)}, gamma=0.0)


def unwarped(size: Sequence[int], device: Device) -> DrawFields:
    """n fields that leave images as they are: cGAN has no other augmentation here."""
    return lambda n: torch.zeros(n, len(size), *size, device=device)


def cgan_generator(
    kind: str, T: nn.Module, D: nn.Module, size: Sequence[int], channels: int, width: int, learning_rate: float,
    loss: TaskLoss, device: Device, move_targets: MoveTargets,
) -> TaskDriven:  # fmt: skip
    """The pre-training of one of cGAN's two generators with a T and a D of its own (Chaitanya et al. 2019)."""
    G = Generator(size, kind, channels, width, norm_momentum=0.1).to(device)
    return TaskDriven(
        T, G, D.to(device), kind, loss, unwarped(size, device), move_targets,
        unit=size[-1] / GRID, learning_rate=learning_rate,
    )  # fmt: skip


def cgan(
    generators: dict[str, nn.Module], size: Sequence[int], device: Device, move_targets: MoveTargets
) -> Augmentation:
    """Half of a batch as it is, half augmented by both generators, which are in inference mode."""
    unit = size[-1] / GRID
    return Augmentation(
        unwarped(size, device), move_targets,
        deform=lambda x, z: unit * generators["deformation"](x, z),
        recolour=lambda x, z: x + generators["intensity"](x, z),
    )  # fmt: skip
