"""Random transforms of whole batches of images `(N, C, H, W)`, on their device. All draws come from torch's RNG."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fewlabels.types import Device
from fewlabels.warps import affine_field, control_to_dense, random_control, warp


def noise(x: Tensor, sd: float = 0.1) -> Tensor:
    """Gaussian noise on every pixel, the sum clipped to the range of the batch (Malfliet & Bakker 2021, Section 2)."""
    return torch.clamp(x + sd * torch.randn_like(x), x.min(), x.max())


def shift(x: Tensor, most: int = 10) -> Tensor:
    """Each image moved by whole pixels, -most to most along either axis; what comes in is 0 (the same, Section 2).

    The report's code draws from -most to most - 1 and interpolates by cubic splines, which is exact at whole pixels.
    """
    s = torch.randint(-most, most + 1, (len(x), 2, 1, 1), device=x.device)
    return warp(x, s.to(x.dtype).expand(-1, -1, *x.shape[2:]), order=0)


def rotate(x: Tensor, degrees: Tensor, backend: str = "auto") -> Tensor:
    """Each image turned about its centre by `degrees` `(N,)`, cubic splines, 0 outside; elasticdeform's `rotate`."""
    angle = torch.deg2rad(degrees)
    c, s, none = angle.cos(), angle.sin(), torch.zeros_like(angle)
    pull = torch.stack([torch.stack([c, s, none], 1), torch.stack([-s, c, none], 1)], 1)
    return warp(x, affine_field(pull, x.shape[2:]), order=3, backend=backend)


def rotation(x: Tensor, most: float = 45.0) -> Tensor:
    """Each image turned by an angle of its own, U(-most, most) degrees (the same, Section 2)."""
    return rotate(x, (2 * torch.rand(len(x), device=x.device) - 1) * most)


def random_affine(n: int, size: Sequence[int], device: Device | None = None) -> Tensor:
    """Fields `(n, 2, *size)` of Chaitanya et al. 2019, Section 4: each one of five, with equal probability.

    Rotated by U(-15, 15) degrees; scaled by U(0.9, 1.1); flipped left to right; rotated by a multiple of 45 degrees;
    left as it is. (The release flips by a further coin toss.)
    """
    kind = torch.randint(5, (n,), device=device)
    uniform, eighth = 2 * torch.rand(2, n, device=device) - 1, torch.randint(8, (n,), device=device)
    degrees = torch.where(kind == 0, 15 * uniform[0], 0) + torch.where(kind == 3, 45 * eighth, 0)
    scale = 1 + torch.where(kind == 1, 0.1 * uniform[1], 0)
    mirrored = torch.where(kind == 2, -1.0, 1.0)
    angle, none = (
        degrees.double().deg2rad(),
        torch.zeros(n, device=device),
    )  # in float32, sin 180 leads out of the image
    c, s = (f(angle).float() / scale for f in (torch.cos, torch.sin))
    rows = [torch.stack([c, s, none], 1), torch.stack([-s, c, none], 1) * mirrored[:, None]]
    return affine_field(torch.stack(rows, 1), size)


def random_elastic(n: int, size: Sequence[int], sd: float = 10.0, device: Device | None = None) -> Tensor:
    """Fields `(n, D, *size)` through 3 x 3 displacements from N(0, sd^2) pixels (Chaitanya et al. 2019, Section 4).

    Cubic splines with the outer points on the outer pixels; the release uses scikit-image's `resize`.
    """
    return control_to_dense(random_control(n, [3] * len(size), sd, device=device), size)


def contrast_brightness(x: Tensor) -> Tensor:
    """(x - mean) c + mean + b, c ~ U(0.8, 1.2) and b ~ U(-0.1, 0.1) for each image (the same; means of each image).

    The release's helper changes the contrast of one half of a batch and the brightness of the other.
    """
    ones = [1] * (x.ndim - 1)
    c, b = (2 * torch.rand(2, len(x), device=x.device) - 1).reshape(2, -1, *ones)
    mean = x.flatten(1).mean(1).reshape(-1, *ones)
    return (x - mean) * (1 + 0.2 * c) + mean + 0.1 * b


def mixup(x: Tensor, y: Tensor, n: int, alpha: float = 0.1) -> tuple[Tensor, Tensor]:
    """n mixtures lambda (x_i, y_i) + (1 - lambda) (x_j, y_j), lambda ~ Beta(alpha, alpha) (the same, Eq. 7).

    x and y are batches of floats; i and j are drawn anew for each mixture. alpha: the release's, the text has none.
    """
    mix = torch.distributions.Beta(*torch.full((2,), alpha, device=x.device)).sample((n,))
    i, j = torch.randint(len(x), (2, n), device=x.device)
    x, y = (torch.lerp(t[j], t[i], mix.to(t).reshape(-1, *[1] * (t.ndim - 1))) for t in (x, y))
    return x, y
