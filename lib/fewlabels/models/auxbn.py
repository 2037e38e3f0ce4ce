"""Auxiliary batch norms (Xie et al., CVPR 2020, AdvProp), as in Gao et al., IPMI 2021, Section 3.3.

Clean images and each kind of augmented images have norms of their own, with their own affine weights and running
statistics; all else of the network is shared. For testing only the main norms are used.

    T = with_auxiliary(T, 3)     # a training batch is now four equal parts, in order: clean and three augmented ones
    T = without_auxiliary(T)     # the network as it was, main norms only
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class AuxiliaryBatchNorm(nn.Module):
    """A batch norm and `count` copies of it. In training mode the batch is `count + 1` equal parts: the first passes
    through the norm itself, `main`, each other one through its copy. In inference mode all passes through `main`.

    `main` is the very module that stood here before, so whatever it does beside its norm (timm's norms contain the
    activation) stays. Raises ValueError if a training batch cannot be so divided.
    """

    def __init__(self, main: _BatchNorm, count: int) -> None:
        super().__init__()
        self.main, self.auxiliary = main, nn.ModuleList(copy.deepcopy(main) for _ in range(count))
        self.train(main.training)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.main(x)
        norms = [self.main, *self.auxiliary]
        if len(x) % len(norms):
            expected = f"a multiple of {len(norms)}, the main and {len(self.auxiliary)} auxiliary norms"
            raise ValueError(f"batch: expected {expected}, found {len(x)}")
        return torch.cat([norm(part) for norm, part in zip(norms, x.chunk(len(norms)), strict=True)])


def with_auxiliary(network: nn.Module, count: int) -> nn.Module:
    """`network` with `count` auxiliary norms beside each batch norm of any kind and dimension, changed in place.

    The copies start with the weights and running statistics of the norm. Its output in inference mode is unchanged.
    Raises ValueError if there is no batch norm, if there are auxiliary ones already, or if `count` is not positive.
    """
    if count < 1:
        raise ValueError(f"auxiliary norms: expected at least one, found {count}")
    if any(isinstance(module, AuxiliaryBatchNorm) for module in network.modules()):
        raise ValueError("network: expected no auxiliary norms yet, found some")
    if not any(isinstance(module, _BatchNorm) for module in network.modules()):
        raise ValueError(
            f"network: expected batch norms to add auxiliary ones to, found none in {type(network).__name__}"
        )
    return _replaced(network, _BatchNorm, lambda norm: AuxiliaryBatchNorm(norm, count))


def without_auxiliary(network: nn.Module) -> nn.Module:
    """`network` with its main norms only, the same modules as before `with_auxiliary`, changed in place."""
    return _replaced(network, AuxiliaryBatchNorm, lambda norm: norm.main)


def _replaced(network: nn.Module, kind: type[nn.Module], replacement: Callable[[Any], nn.Module]) -> nn.Module:
    """All modules of a kind replaced; one that stands in two places stays one."""
    parents = list(network.modules())
    new = {module: replacement(module) for module in parents if isinstance(module, kind)}
    for parent in parents:
        for name, child in parent._modules.items():
            if child in new:
                parent._modules[name] = new[child]
    return new.get(network, network)
