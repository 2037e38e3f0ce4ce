"""What generators of Gao et al. 2021 make (Section 4.2): is it harder than chance, and is it where the lesion is?"""

import math

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from fewlabels.errors import BadInput
from fewlabels.methods.adversarial import Generator, RegularisedAdversarial, in_pixels
from fewlabels.models.generators import displacement
from fewlabels.types import History
from fewlabels.warps import control_to_dense, random_control, warp


def rms(g: Tensor) -> Tensor:
    """Root mean square of each of g `(N, C, *size)`, `(N, 1, ...)`."""
    return g.square().flatten(1).mean(1).sqrt().reshape(-1, *[1] * (g.ndim - 1))


def random_like(g: Tensor, kind: str) -> Tensor:
    """Random transformations of a kind, each with the RMS of its counterpart in g `(N, C, *size)`.

    Affine maps have normal entries; deformations and masks go through normal values at 5 points an axis.
    """
    n, c, *size = g.shape
    if kind == "affine":
        drawn = displacement(torch.randn(n, c, c + 1, device=g.device), size)
    else:
        control = random_control(n, [5] * len(size), 1.0, device=g.device)
        if c != len(size):
            control = torch.randn(n, c, *control.shape[2:], device=g.device)
        drawn = control_to_dense(control, size)
    return drawn * rms(g) / rms(drawn)


class RandomTransforms(nn.Module):
    """In a generator's place: `random_like` ones of a kind, without weights, whose RMS follows that of a training.

    rms  `(steps,)`: in training mode one a call, then the last
    """

    Z = 0
    rms: Tensor
    step: Tensor

    def __init__(self, kind: str, rms: ArrayLike) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("rms", torch.as_tensor(rms, dtype=torch.float32))
        self.register_buffer("step", torch.tensor(0))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        now = self.rms[self.step.clamp(max=len(self.rms) - 1)]
        self.step += self.training
        channels = x.shape[1] if self.kind == "appearance" else x.ndim - 2
        return random_like(now.expand(len(x), channels, *x.shape[2:]), self.kind)


def rms_of(history: History, kind: str, steps: int) -> np.ndarray:
    """The RMS of a generator at every step of its training `(steps,)`, from `rms_...` of `hardness` at the ends of its
    epochs: linear between them, from 0, as it starts at no augmentation."""
    at, values = ([0, *(entry[key] for entry in history)] for key in ("step", f"rms_{kind}"))
    return np.interp(np.arange(1, steps + 1), at, values)


def applied(x: Tensor, g: Tensor, kind: str) -> Tensor:
    """g (+) x of Section 3.3: a mask is added, a displacement in fractions of half a side warps."""
    return x + g if kind == "appearance" else warp(x, in_pixels(g), mode="border")


@torch.no_grad()
def hardness(method: RegularisedAdversarial, x: Tensor, y: Tensor) -> dict[str, float]:
    """T's loss on images as they are, as each generator transforms them, and as `random_like` ones do.

    All networks in inference mode, for which T has its main norms only; classes y `(N,)`. `rms_...` are magnitudes.
    """
    method.network.eval()
    losses = {"loss_of_clean": method.task_loss(method.T(x), y)}
    for G in method.generators:
        g = G(x, torch.randn(len(x), G.Z, device=x.device))
        for name, field in ((G.kind, g), (f"random_{G.kind}", random_like(g, G.kind))):
            losses[f"loss_of_{name}"] = method.task_loss(method.T(applied(x, field, G.kind)), y)
        losses[f"rms_{G.kind}"] = rms(g).mean()
    return {name: float(value) for name, value in losses.items()}


def strength(g: Tensor, kind: str) -> Tensor:
    """Where a transformation acts, `(N, *size)`: |grad G_D|, the norm of all neighbours' differences, or |G_I|."""
    if kind == "appearance":
        return g.abs().mean(1)
    square = sum((torch.gradient(g, dim=axis)[0].square().sum(1) for axis in range(2, g.ndim)), g.new_zeros(()))
    return square.sqrt()


def inside_to_outside(strength: Tensor, weight: Tensor) -> float:
    """The mean strength `(N, *size)` inside over that outside, the mean over images; `weight` `(N, *size)`, 0 to 1."""
    weight = weight.to(strength.dtype)
    inside, outside = ((strength * w).flatten(1).sum(1) / w.flatten(1).sum(1) for w in (weight, 1 - weight))
    return float((inside / outside).mean())


def window(masks: Tensor) -> Tensor:
    """Gaussians `(N, *size)` in the middle of the image, as wide at half their height as a disc of the masks' areas."""
    size = masks.shape[1:]
    axes = [torch.arange(length, device=masks.device) - (length - 1) / 2 for length in size]
    square = sum((axis**2 for axis in torch.meshgrid(*axes, indexing="ij")), torch.zeros((), device=masks.device))
    radius_2 = masks.flatten(1).sum(1).float() / math.pi
    return torch.exp(-math.log(2) * square / radius_2.reshape(-1, *[1] * len(size)))


@torch.no_grad()
def centred(G: Generator, x: Tensor, masks: Tensor) -> dict[str, float]:
    """Is what G makes of images x `(N, C, H, W)` in the lesions, bool `(N, H, W)`? Three ratios of inside to outside:

    `lesion` of the images' own masks, `shuffled` of masks of other images, `window` of Gaussians in the middle. Images
    whose mask is empty or full do not count. Raises BadInput if fewer than two do.
    """
    share = masks.flatten(1).float().mean(1)
    x, masks = x[(share > 0) & (share < 1)], masks[(share > 0) & (share < 1)]
    if len(masks) < 2:
        raise BadInput("masks", "two or more with pixels inside and outside", len(masks))
    G.eval()
    where = strength(G(x, torch.randn(len(x), G.Z, device=x.device)), G.kind)
    others = masks.roll(1 + int(torch.randint(len(masks) - 1, ())), dims=0)
    weights = {"lesion": masks, "shuffled": others, "window": window(masks)}
    return {name: inside_to_outside(where, weight) for name, weight in weights.items()}
