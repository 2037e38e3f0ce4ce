"""In which precision things are computed."""

from typing import Literal

import torch
from torch import Tensor, nn

from fewlabels.errors import BadInput

Precision = Literal["fp32", "bf16"]


def single(x: Tensor) -> Tensor:
    """Half precision as float32, all else as it is: half ends at 65504, fewer than an image has pixels."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def has_bf16(device: torch.device | str) -> bool:
    """Whether a device multiplies matrices in bfloat16: AVX512-BF16 or AMX of a CPU, Ampere or later of CUDA."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def check(precision: Precision, device: torch.device | str) -> None:
    """Raises BadInput for a precision that a device has no units for: it would be slower, and other bits."""
    if precision == "bf16" and not has_bf16(device):
        expected = "fp32 on this machine, or one with AVX512-BF16, AMX or CUDA 8.0"
        raise BadInput("precision", expected, f"bf16 on {torch.device(device)}, which lacks it")


def set_precision(network: nn.Module, precision: Precision) -> None:
    """Lets a network, or each of a ModuleDict or ModuleList of them, compute in a precision from here on, in place.

    bf16: what torch's autocast knows to be safe, convolutions and matrix products, is computed in bfloat16; weights and
    what the network takes and gives stay float32, so that losses, warps and optimisers do not change.
    """
    if precision == "fp32":
        return
    if isinstance(network, nn.ModuleDict | nn.ModuleList):
        for one in network.children():
            set_precision(one, precision)
        return
    kind = type(network)

    def forward(self: nn.Module, x: Tensor, *others: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            found = kind.forward(self, x, *others)
        return single(found)

    # Not a wrapper, whose state would have other names, and not a forward of the object, which copies would share.
    network.__class__ = type(kind.__name__, (kind,), {"forward": forward})
