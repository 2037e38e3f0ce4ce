"""Discriminators: how likely an image is real."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.models.layers import CONV, LAYOUT, NORM, POOL, laid_out, start
from fewlabels.models.translator import VARIANTS, Conv, LayerNorm, with_spectral_norm


class Discriminator(nn.Sequential):
    """D of Chaitanya et al., IPMI 2019, Section 3.3: images `(N, C, *size)` -> logit of being real `(N,)`.

    `size` is the images', each a multiple of 32. Five convolutions of kernel 5 and stride 2, each with norm and leaky
    ReLU, then three fully connected layers; widths as in the released code (at `width=16`: 16 to 128). It has one
    output as there; the text says two. For 224 x 224, one channel: 1,499,121 parameters.
    """

    def __init__(self, size: Sequence[int], in_channels: int = 1, width: int = 16, norm_momentum: float = 0.01) -> None:
        if any(length % 32 for length in size):
            raise ValueError(f"discriminator size: expected multiples of 32, found {tuple(size)}")
        dims, widths = len(size), [in_channels, width, 2 * width, 4 * width, 8 * width, 8 * width]
        layers: list[nn.Module] = []
        for a, b in zip(widths, widths[1:]):
            conv = CONV[dims](a, b, 5, stride=2, padding=2, bias=False)
            layers += [conv, NORM[dims](b, eps=1e-3, momentum=norm_momentum), nn.LeakyReLU(0.2, inplace=True)]
        inner = 8 * width
        pixels = torch.Size(length // 32 for length in size).numel()
        super().__init__(
            *layers, nn.Flatten(),
            nn.Linear(inner * pixels, inner), nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(inner, inner), nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(inner, 1), nn.Flatten(0),
        )  # fmt: skip
        self.layout = LAYOUT[dims]
        start(self)
        laid_out(self, self.layout)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.contiguous(memory_format=self.layout))


class PooledDiscriminator(nn.Sequential):
    """D of Gao et al., IPMI 2021, Section 4.1: images `(N, C, *size)`, any size from 16 -> logit of being real `(N,)`.

    "A series of convolutional layers, BN, and LeakyReLU with slope 0.2", then a probability. Choices, after DCGAN: four
    convolutions of kernel 4 and stride 2, `width` to `8 * width` channels, no norm in the first; then the mean over all
    places and a fully connected layer.
    """

    def __init__(self, dims: int, in_channels: int = 1, width: int = 64) -> None:
        widths = [in_channels, width, 2 * width, 4 * width, 8 * width]
        layers: list[nn.Module] = []
        for a, b in zip(widths, widths[1:]):
            layers.append(CONV[dims](a, b, 4, stride=2, padding=1, bias=not layers))
            layers += [NORM[dims](b)] if len(layers) > 1 else []
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        super().__init__(*layers, POOL[dims](1), nn.Flatten(), nn.Linear(widths[-1], 1), nn.Flatten(0))
        self.layout = LAYOUT[dims]
        start(self)
        laid_out(self, self.layout)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.contiguous(memory_format=self.layout))


class MultiScaleDiscriminator(nn.Module):
    """D_d of Tables 8 and 9 at three scales (MUNIT's): images `(N, C, *size)` -> how real, `(N, places)` at each scale.

    widths  of its convolutions of kernel 4 and stride 2: 128, 256, 512 for MNIST. The tables list the first width
            twice, once with stride 1, and have a norm in every layer but the first and last; the code none in the first
            two, and one in the last
    """

    SCALES = 3

    def __init__(self, in_channels: int, widths: Sequence[int], variant: str = "released") -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"discriminator variant: expected one of {', '.join(VARIANTS)}, found {variant!r}")
        make = self.released if variant == "released" else self.as_listed
        self.scales = nn.ModuleList(with_spectral_norm(make(in_channels, widths)) for _ in range(self.SCALES))

    @staticmethod
    def released(in_channels: int, widths: Sequence[int]) -> nn.Sequential:
        layers: list[nn.Module] = [Conv(in_channels, widths[0], 4, 2)]
        for i, (a, b) in enumerate(zip(widths, widths[1:])):
            layers += [*([LayerNorm(a)] if i else []), nn.LeakyReLU(0.2), Conv(a, b, 4, 2)]
        return nn.Sequential(*layers, LayerNorm(widths[-1]), nn.LeakyReLU(0.2), Conv(widths[-1], 1, 1))

    @staticmethod
    def as_listed(in_channels: int, widths: Sequence[int]) -> nn.Sequential:
        layers: list[nn.Module] = [Conv(in_channels, widths[0], 4)]
        for a, b in zip([widths[0], *widths], widths):
            layers += [LayerNorm(a), nn.LeakyReLU(0.2), Conv(a, b, 4, 2)]
        return nn.Sequential(*layers, Conv(widths[-1], 1, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for network in self.scales:
            maps.append(network(x).flatten(1).float())
            x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
        return maps
