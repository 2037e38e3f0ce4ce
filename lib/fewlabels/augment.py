"""Random transforms of whole batches of images `(N, C, H, W)`, on their device. All draws come from torch's RNG."""

import torch

from fewlabels.warps import affine_field, warp


def noise(x, sd=0.1):
    """Gaussian noise on every pixel, the sum clipped to the range of the batch (Malfliet & Bakker 2021, Section 2)."""
    return torch.clamp(x + sd * torch.randn_like(x), x.min(), x.max())


def shift(x, most=10):
    """Each image moved by whole pixels, -most to most along either axis; what comes in is 0 (the same, Section 2).

    The report's code draws from -most to most - 1 and interpolates by cubic splines, which is exact at whole pixels.
    """
    s = torch.randint(-most, most + 1, (len(x), 2, 1, 1), device=x.device)
    return warp(x, s.to(x.dtype).expand(-1, -1, *x.shape[2:]), order=0)


def rotate(x, degrees, backend="auto"):
    """Each image turned about its centre by `degrees` `(N,)`, cubic splines, 0 outside; elasticdeform's `rotate`."""
    angle = torch.deg2rad(degrees)
    c, s, none = angle.cos(), angle.sin(), torch.zeros_like(angle)
    pull = torch.stack([torch.stack([c, s, none], 1), torch.stack([-s, c, none], 1)], 1)
    return warp(x, affine_field(pull, x.shape[2:]), order=3, backend=backend)


def rotation(x, most=45.0):
    """Each image turned by an angle of its own, U(-most, most) degrees (the same, Section 2)."""
    return rotate(x, (2 * torch.rand(len(x), device=x.device) - 1) * most)
