"""The segmentation network of Gao et al., IPMI 2021, Section 4: a U-Net of residual blocks in 3-D."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.models.layers import Conv3d

Kernel = tuple[int, int, int]


class ResUNet3D(nn.Module):
    """Images `(N, in_channels, Z, Y, X)` -> logits `(N, classes, Z, Y, X)`.

    Y and X are multiples of 2^(levels - 1), Z of 2^(levels - 3) or, below three levels, anything: with five levels, of
    16 and of 4. Raises ValueError for other sizes.

    The paper says "3D ResUNet" and no more. Everything else is a choice after the authors' later code for CT
    (yhygao/CBIM-Medical-Image-Segmentation): pre-activation blocks, two a level, one in the first; `width` times 1, 2,
    4, 8, 10, 10, ... channels; slices thicker than pixels are wide, so the first two levels convolve within slices and
    the first two poolings keep Z; linear interpolation up, corners on corners. Batch norm takes the place of its
    instance norm, as the method's auxiliary norms need it. One channel in, ten classes out: 30,988,586 parameters.
    The memory layout is left to the caller: on the CPU a step with `.to(memory_format=torch.channels_last_3d)` is 8%
    faster at width 8 and 10% slower at 32.
    """

    def __init__(self, in_channels: int = 1, classes: int = 10, width: int = 32, levels: int = 5) -> None:
        super().__init__()
        if levels < 1:
            raise ValueError(f"ResUNet3D levels: expected at least 1, found {levels}")
        widths = [min(2**level, 10) * width for level in range(levels)]
        kernels = [(1, 3, 3) if level < 2 else (3, 3, 3) for level in range(levels)]
        self.pools = [(1, 2, 2) if level < 2 else (2, 2, 2) for level in range(levels - 1)]
        self.in_channels, self.multiples = in_channels, (2 ** max(levels - 3, 0), *[2 ** (levels - 1)] * 2)
        first = nn.Sequential(_convolution(in_channels, width, kernels[0]), Block(width, width, kernels[0]))
        down = (_blocks(a, b, kernel) for a, b, kernel in zip(widths, widths[1:], kernels[1:]))
        self.encoder = nn.ModuleList([first, *down])
        self.decoder = nn.ModuleList(
            nn.Sequential(nn.BatchNorm3d(a + b), _convolution(a + b, a, (1, 1, 1)), *_blocks(a, a, kernel))
            for a, b, kernel in zip(widths, widths[1:], kernels)
        )
        self.classify = nn.Conv3d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        size = tuple(x.shape[2:])
        if x.ndim != 5 or x.shape[1] != self.in_channels or any(n % m or not n for n, m in zip(size, self.multiples)):
            z, y, _ = self.multiples
            expected = f"(N, {self.in_channels}, Z, Y, X), Z a multiple of {z}, Y and X of {y}"
            raise ValueError(f"ResUNet3D images: expected {expected}, found {tuple(x.shape)}")
        skips = [self.encoder[0](x)]
        for pool, encode in zip(self.pools, self.encoder[1:]):
            skips.append(encode(F.max_pool3d(skips[-1], pool)))
        x = skips.pop()
        for decode in reversed(self.decoder):
            skip = skips.pop()
            up = F.interpolate(x, size=skip.shape[2:], mode="trilinear", align_corners=True)
            x = decode(torch.cat([skip, up], dim=1))
        return self.classify(x)


class Block(nn.Module):
    """x + two times norm, ReLU, convolution (He et al., ECCV 2016). Where it changes the channels, the shortcut is a
    third such convolution, of the same kernel.
    """

    def __init__(self, inputs: int, outputs: int, kernel: Kernel) -> None:
        super().__init__()
        self.residual = nn.Sequential(*_activated(inputs, outputs, kernel), *_activated(outputs, outputs, kernel))
        self.shortcut = nn.Sequential(*(_activated(inputs, outputs, kernel) if inputs != outputs else ()))

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.residual(x)


def _blocks(inputs: int, outputs: int, kernel: Kernel) -> nn.Sequential:
    return nn.Sequential(Block(inputs, outputs, kernel), Block(outputs, outputs, kernel))


def _activated(inputs: int, outputs: int, kernel: Kernel) -> tuple[nn.Module, nn.Module, nn.Module]:
    return nn.BatchNorm3d(inputs), nn.ReLU(inplace=True), _convolution(inputs, outputs, kernel)


def _convolution(inputs: int, outputs: int, kernel: Kernel) -> Conv3d:
    """The size stays; no bias, as what follows has one, or a norm."""
    z, y, x = kernel
    return Conv3d(inputs, outputs, kernel, padding=(z // 2, y // 2, x // 2), bias=False)
