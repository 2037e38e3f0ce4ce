"""Labelled and unlabelled images under the batch norms of one network: one batch, or each kind by itself.

In one batch a network can be right on labelled images at the cost of the others: it may move the activations of
unlabelled images at will, and with them the statistics by which the labelled ones are normalised. Split batch norms
(Zajac et al., "Split Batch Normalization", 2019) and the interleaved batches of FixMatch's code are against the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Norm = Literal["joint", "apart"]
NORMS = ("joint", "apart")


def of_both(network: nn.Module, x1: Tensor, x2: Tensor, labelled: int, norm: Norm) -> tuple[Tensor, Tensor]:
    """The outputs for two versions of a batch `(N, ...)` whose first `labelled` images have labels.

    joint  one forward pass, one batch for the norms (the papers' form)
    apart  both versions of the labelled images are one batch, both of the others another, by the same weights; the
           running statistics are those of the labelled ones alone
    """
    if norm == "joint" or labelled == len(x1):
        return network(torch.cat([x1, x2])).chunk(2)
    parts = [network(torch.cat([x1[:labelled], x2[:labelled]])).chunk(2)] if labelled else []
    with statistics_kept(network):
        parts.append(network(torch.cat([x1[labelled:], x2[labelled:]])).chunk(2))
    first, second = (torch.cat(outputs) for outputs in zip(*parts, strict=True))
    return first, second


def check_norm(norm: str) -> None:
    """Raises ValueError for a norm that is neither."""
    if norm not in NORMS:
        raise ValueError(f"norm: expected one of {', '.join(NORMS)}, found {norm!r}")


@contextmanager
def statistics_kept(network: nn.Module) -> Iterator[None]:
    """Batch norms in training mode still normalise by their batch, but their running statistics do not see it."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
