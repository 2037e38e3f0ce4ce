"""The rows of Vorontsov et al. 2019, Tables 1a and 1b, on cluttered MNIST and BraTS alike: what a name stands for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor, nn
from torch.optim import Adam

from fewlabels.data.domains import Domains
from fewlabels.engine.params import Count, Natural, Rate, Size
from fewlabels.engine.training import Batches, Shuffled
from fewlabels.errors import BadInput
from fewlabels.methods.translation import Autoencoding, Translation
from fewlabels.models.discriminators import MultiScaleDiscriminator
from fewlabels.models.translator import VARIANTS, Autoencoder, Translator
from fewlabels.precision import Precision
from fewlabels.types import Device

METHODS = ("Only segmentation", "AE baseline", "Proposed", "Proposed (sep dec)")
SKIP_OF = {"Proposed (concat)": "concat", "Proposed (sum)": "sum", "Proposed (no skip)": "none"}
ABLATIONS = (*SKIP_OF, "Proposed (no cycle)")
BETAS = (0.5, 0.999)  # of AMSGrad (Appendix A, "Optimization")


class Settings(BaseModel):
    """What both experiments have in their Config."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    profile: str  # names the result folder; the parameter file's own name
    methods: list[Literal[METHODS]]
    seeds: list[Natural]  # repeats
    variant: Literal[VARIANTS]  # networks and losses as released, or as in the paper's tables and equations
    width: Count  # channels at full size; the paper has 32 at 48 x 48, 16 at 128 x 128 and on BraTS
    discriminator_width: Count  # channels of D's first layer, doubled in each; 128 in the paper, on BraTS 64
    discriminator_levels: Count  # layers of D that halve the size; 3 in the paper, on BraTS 4
    lambda_adv: Size
    lambda_rec: Size
    lambda_lat: Size
    lambda_cyc: Size
    lambda_seg: Size
    batch_size: Count  # images of each domain
    labelled_in_batch: Natural  # so many of those that present the target, or more, have a mask; 0: as it comes
    learning_rate: Rate  # of AMSGrad for all but D
    learning_rate_discriminator: Rate
    weight_decay: Size  # of both; the released code's, not in the paper
    steps: Count
    steps_segmentation: Count  # of `Only segmentation`, whose batches are of images with masks alone
    validate_every: Count
    measured: Count  # test images whose translations are measured
    precision: Precision = "fp32"  # of the networks: bf16 on processors with AVX512-BF16 or AMX, and on CUDA
    threads: Count

    @model_validator(mode="after")
    def _batch_fits(self) -> Self:
        if self.labelled_in_batch > self.batch_size:
            found = f"{self.labelled_in_batch} of {self.batch_size}"
            raise ValueError(f"labelled_in_batch: expected at most batch_size, found {found}")
        return self


Augment = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]  # images and masks, if there are any


@dataclass(frozen=True)
class Run:
    method: str
    task: str
    seed: int

    @property
    def id(self) -> str:
        method = self.method.translate({ord(" "): "_", ord("("): None, ord(")"): None})
        return f"{method}_{self.task}_seed={self.seed}"


def build(
    config: Settings, method: str, size: Sequence[int], channels: int, width: int, levels: int, adaptive: bool,
    device: Device,
) -> Translation | Autoencoding:  # fmt: skip
    """The method of a row from fresh weights, for images `(N, channels, *size)`. Uses torch's global RNG.

    width, levels  of the encoder; adaptive: whether norms for segmentation come from the code (Eq. 5)
    """
    adam = lambda network, rate: Adam(  # noqa: E731
        network.parameters(), rate, BETAS, weight_decay=config.weight_decay, amsgrad=True
    )
    if method in METHODS[:2]:
        network = Autoencoder(channels, width, levels, method == "AE baseline", config.variant).to(device)
        return Autoencoding(network, {"G": adam(network, config.learning_rate)}, bf16=config.precision == "bf16")
    separate, skip = method == "Proposed (sep dec)", SKIP_OF.get(method, "compress")
    G = Translator(size, channels, width, levels, skip, adaptive, separate, config.variant).to(device)
    widths = [config.discriminator_width * 2**level for level in range(config.discriminator_levels)]
    D = {domain: MultiScaleDiscriminator(channels, widths, config.variant).to(device) for domain in "AP"}
    optimisers = {
        "G": adam(G, config.learning_rate),
        "D": adam(nn.ModuleDict(D), config.learning_rate_discriminator),
    }
    weights = {name: getattr(config, f"lambda_{name}") for name in ("adv", "rec", "lat", "cyc", "seg")}
    if method == "Proposed (no cycle)":
        weights["cyc"] = 0.0
    return Translation(G, D, optimisers, weights, config.variant, config.precision == "bf16")


def batches(config: Settings, method: str, part: Domains, augment: Augment | None = None) -> Batches:
    """Random batches for a row, of one part of the data, on its device.

    augment  (images, masks or None) -> the same, transformed

    Raises BadInput where a row needs images with masks and there is none.
    """
    augment = augment or (lambda images, masks: (images, masks))
    labelled, k = part.labelled.cpu(), config.labelled_in_batch
    has_mask = torch.zeros(len(part.presence), dtype=torch.bool)  # on the CPU, as indices are: no waiting
    has_mask[labelled] = True
    only = method == "Only segmentation"
    if not len(labelled) and (only or k):
        raise BadInput("training images", "at least one with a mask (label_share, pairs)", "none")

    def presence(i: Tensor) -> dict[str, Tensor]:
        known = has_mask[i].nonzero()[:, 0]
        x_P, masks = augment(part.presence[i], part.masks[i])
        assert masks is not None
        return {"presence": x_P, "masks": masks[known], "labelled": known}

    def both(i: Tensor, j: Tensor, *more: Tensor) -> dict[str, Tensor]:
        batch = presence(torch.cat([*more, i]))
        batch["absence"], _ = augment(part.absence[j], None)
        return batch

    if only:
        return Batches(presence, Shuffled(labelled, config.batch_size))
    samplers = [Shuffled(len(part.presence), config.batch_size - k), Shuffled(len(part.absence), config.batch_size)]
    return Batches(both, *samplers, *([Shuffled(labelled, k)] if k else []))
