"""The convolution of one small volume on the CPU (`models.layers.Conv3d`) beside torch's: before is the peer."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fewlabels.bench.timing import Made, Pair, Work
from fewlabels.data import oar as heads
from fewlabels.engine import params
from fewlabels.models.layers import Conv3d, laid_out
from fewlabels.papers.gao2021 import oar_rows
from fewlabels.paths import CHECKOUT
from fewlabels.types import Network

CHANNELS = (4, 8)
SMALL = {"grid": [20, 40, 50], "patch": [16, 24, 40], "width": 2}  # a side above 32: G has two places of z


def as_torch_has_it(network: Network) -> Network:
    """The same network with torch's own layers in place of ours."""
    for module in network.modules():
        if type(module) is Conv3d:
            module.__class__ = nn.Conv3d  # type: ignore[assignment]  # its parent
    return network


def pairs(quick: bool) -> list[Pair]:
    """The layer alone; and a step of OAR's row Comb, whose generators have one patch each."""
    _, config = params.load(CHECKOUT / "params/oar/lite.yaml")
    config = config.model_copy(update=SMALL if quick else {})
    size = config.patch

    def alone(channels: int) -> Made:
        def made() -> tuple[Work, Work]:
            torch.manual_seed(0)
            layout = torch.channels_last_3d
            x = torch.randn(1, channels, *size).to(memory_format=layout).requires_grad_()
            ours = laid_out(Conv3d(channels, channels, 3, padding=1), layout)
            theirs = laid_out(nn.Conv3d(channels, channels, 3, padding=1), layout)
            theirs.load_state_dict(ours.state_dict())

            def both_ways(layer: nn.Module) -> tuple[Tensor, ...]:
                y = layer(x)
                return (y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], torch.ones_like(y)))

            return lambda: both_ways(ours), lambda: both_ways(theirs)

        return made

    def step() -> tuple[Work, Work]:
        cohort = heads.phantom(14, seed=0, spacing=tuple(config.spacing), size=tuple(config.grid))
        n = config.batch_size
        x = cohort.images[:n, :, : size[0], : size[1], : size[2]]
        present = torch.ones(n, len(cohort.classes), dtype=torch.bool)
        targets = oar_rows.targets_of(cohort.labels[:n, : size[0], : size[1], : size[2]], present)
        batch = {"images": x, "labels": targets, "real": x[: n * 3 // 4]}

        def made(change: Callable[[nn.Module], nn.Module]) -> Work:
            torch.manual_seed(0)
            method = oar_rows.adversarial(config, "Comb", oar_rows.target(config, len(cohort.classes), "cpu"), "cpu")
            change(method.network)
            return lambda: (method.training_step(batch)["loss_clean"],)

        return made(lambda network: network), made(as_torch_has_it)

    row: dict[str, Any] = {
        "peer": "torch's Conv3d",
        "threads": config.threads,
        "note": "before is the peer; oar/lite.yaml's patches",
    }
    title = f"conv3d N=1: {' x '.join(map(str, size))}"
    found = [
        Pair(case=title, work=f"{c} channels, forward + backward", make=alone(c), tolerance=1e-3, **row)
        for c in CHANNELS
    ]
    return [*found, Pair(case=title, work="the step of Comb", make=step, tolerance=None, **row)]
