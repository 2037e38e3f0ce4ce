"""Strong augmentation of labelled images: one field for all of geometry, then grey values."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels.types import Device
from fewlabels.warps import affine_field, gaussian_field, gaussian_field_rms, warp

IGNORED = -1  # the label of pixels that nobody decided on, and of those that come from outside an image
TURN, ZOOM, SHEAR, SHIFT = 20.0, 1.3, 0.1, 0.08  # degrees; factor; and shares of the side
ELASTIC, SMOOTH = 0.02, 0.12  # root mean square and smoothness of the elastic part, shares of the shorter side
MIRRORED = 0.8  # mirrored masks must lie on others at least so well as masks do that are not


def fields(n: int, size: tuple[int, int], flips: tuple[bool, bool], device: Device | None = None) -> Tensor:
    """n random fields `(n, 2, H, W)` in pixels: rotated, zoomed, sheared, shifted, elastic; flipped along the axes
    (y, x) where `flips` allows it."""

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(n, *shape, device=device) - 1

    angle, zoom, shear = uniform() * math.radians(TURN), ZOOM ** uniform(), SHEAR * uniform()
    c, s = angle.cos() / zoom, angle.sin() / zoom
    turn = torch.stack([torch.stack([c, s + shear], 1), torch.stack([-s, c], 1)], 1)
    side = torch.where(torch.rand(n, 1, 2, device=device) < 0.5 * torch.tensor(flips, device=device), -1.0, 1.0)
    shift = SHIFT * uniform(2, 1) * torch.tensor(size, device=device)[:, None]
    sigma = SMOOTH * min(size)
    alpha = ELASTIC * min(size) / gaussian_field_rms(size, 1, sigma)
    return affine_field(torch.cat([turn * side, shift], 2), size) + gaussian_field(n, size, alpha, sigma, device=device)


def move(x: Tensor, y: Tensor, field: Tensor) -> tuple[Tensor, Tensor]:
    """Images `(N, C, H, W)` and labels `(N, H, W)`, int64, through one field; what comes from outside is `IGNORED`."""
    images, labels = warp([x, y[:, None]], field, order=[1, 0], mode=["border", "constant"], cval=[0, IGNORED])
    return images, labels[:, 0]


def recolour(x: Tensor) -> Tensor:
    """Contrast, brightness, gamma, and for some of the images blur and noise, drawn for each; `(N, C, H, W)` in
    [0, 1], in and out."""

    def drawn(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(len(x), *(shape or (1, 1, 1)), device=x.device)

    mean = x.mean((1, 2, 3), keepdim=True)
    x = (x - mean) * drawn(0.7, 1.3) + mean + drawn(-0.15, 0.15) + drawn(-0.05, 0.05, x.shape[1], 1, 1)
    x = x.clamp(0, 1) ** torch.exp(drawn(-0.4, 0.4))
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.where(drawn(0, 1) < 0.2, blurred, x)
    return (x + drawn(0, 0.06) * torch.randn_like(x)).clamp(0, 1)


def flips_of(y: Tensor, classes: int) -> tuple[bool, bool]:
    """Along which axes (y, x) images may be flipped, by the labels `(N, H, W)` of one image each.

    Where mirrored masks lie on those of other images about as well as unmirrored ones do, sides mean nothing: lesions
    may be flipped, a left and a right lung may not. With one image nothing can be said, and nothing is flipped.
    """
    if len(y) < 2:
        return False, False
    one_hot = F.one_hot(y.clamp(min=0), classes)[..., 1:].float()
    a, b = torch.triu_indices(len(y), len(y), offset=1)

    def overlap(first: Tensor) -> Tensor:
        both, sums = (first[a] * one_hot[b]).sum((1, 2)), (first[a] + one_hot[b]).sum((1, 2))
        return torch.nanmean(torch.where(sums > 0, 2 * both / sums, torch.nan))

    usual = overlap(one_hot)
    return tuple(bool(overlap(one_hot.flip(axis)) >= MIRRORED * usual) for axis in (1, 2))  # type: ignore[return-value]
