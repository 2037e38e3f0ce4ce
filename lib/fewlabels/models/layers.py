"""What the networks of Chaitanya et al., IPMI 2019, are built of, in 2-D and 3-D. Source: their released code. Those
of Gao et al., IPMI 2021, are built of the same.

A convolution is followed by batch norm (epsilon 0.001) and ReLU. It has no bias of its own, as the norm has a shift.
Weights start as N(0, 2 / fan in), those of fully connected layers as N(0, 0.01^2) cut off at two sd, biases as 0.
`norm_momentum` is a new batch's share in the running statistics, 1 - the release's decay of 0.99.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fewlabels.types import Network

SMALL = 20480  # channels x planes x rows up to which torch takes its slow way (aten Convolution.cpp, use_mkldnn)


class Conv3d(nn.Conv3d):
    """torch's, but that one small volume alone, float32 on the CPU, goes through as a batch of two of it.

    torch leaves such a batch of one to its old code, several times slower than oneDNN. The same values and gradients,
    up to rounding: the second volume's output is dropped, so its gradient is 0.

    Volumes of two planes are convolved in float32 under autocast too: for these oneDNN's bfloat16 leaves part of the
    weights' gradient as memory was before (torch 2.11, on AVX512-BF16).
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and x.shape[2] == 2 and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return self(x.float())
        alone = len(x) == 1 and x.shape[:4].numel() <= SMALL and max(self.kernel_size) > 1
        if alone and x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu"):
            return super().forward(torch.cat([x, x]))[:1]
        return super().forward(x)


CONV = {2: nn.Conv2d, 3: Conv3d}
NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOL = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
PAD: dict[int, type[nn.Module]] = {2: nn.ZeroPad2d, 3: nn.ZeroPad3d}
LAYOUT = {2: torch.channels_last, 3: torch.channels_last_3d}  # faster on the CPU too
BILINEAR = {2: "bilinear", 3: "trilinear"}


def convolution(dims: int, inputs: int, outputs: int, kernel: int = 3, norm_momentum: float = 0.01) -> nn.Sequential:
    """Convolution of an odd kernel, norm, ReLU; the size stays."""
    conv = CONV[dims](inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, NORM[dims](outputs, eps=1e-3, momentum=norm_momentum), nn.ReLU(inplace=True))


def doubled(
    dims: int, inputs: int, outputs: int, norm_momentum: float = 0.01, linear: bool = False,
    size: tuple[int, ...] | None = None,
) -> nn.Sequential:  # fmt: skip
    """Twice the size, or `size`, by linear interpolation, then a convolution of kernel 2, padded with a zero behind
    each axis.

    `linear`: without norm and ReLU. TensorFlow 1 interpolated from pixel corners, here it is from pixel centres.
    """
    up, pad = nn.Upsample(size, None if size else 2, BILINEAR[dims]), PAD[dims]((0, 1) * dims)
    conv = CONV[dims](inputs, outputs, 2, bias=linear)
    rest = [] if linear else [NORM[dims](outputs, eps=1e-3, momentum=norm_momentum), nn.ReLU(inplace=True)]
    return nn.Sequential(up, pad, conv, *rest)


def laid_out(network: Network, layout: torch.memory_format) -> Network:
    """`network`, its weights now in a memory layout of torch."""
    return network.to(memory_format=layout)  # type: ignore[call-overload]  # torch's types lack it


def start(network: nn.Module) -> None:
    """Fresh weights for all layers of a network, from torch's global RNG."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.01, a=-0.02, b=0.02)
        elif isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def halvings(size: Sequence[int], times: int = 5) -> list[tuple[int, ...]]:
    """A size halved so many times, rounded up, and all sizes on the way back to it, the smallest first."""
    return [tuple(-(-length // 2**k) for length in size) for k in range(times, -1, -1)]
