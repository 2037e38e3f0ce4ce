"""The convolution of one small volume on the CPU (`models.layers.Conv3d`) beside torch's: before is the peer."""

import torch
from torch import nn

from fewlabels.bench.timing import Pair
from fewlabels.data import oar as heads
from fewlabels.engine import params
from fewlabels.models.layers import Conv3d
from fewlabels.papers.gao2021 import oar_rows
from fewlabels.paths import CHECKOUT

CHANNELS = (4, 8)
SMALL = {"grid": [20, 40, 50], "patch": [16, 24, 40], "width": 2}  # a side above 32: G has two places of z


def as_torch_has_it(network):
    """The same network with torch's own layers in place of ours."""
    for module in network.modules():
        if type(module) is Conv3d:
            module.__class__ = nn.Conv3d
    return network


def pairs(quick):
    """The layer alone; and a step of OAR's row Comb, whose generators have one patch each."""
    _, config = params.load(CHECKOUT / "params/oar/lite.yaml")
    config = config.model_copy(update=SMALL if quick else {})
    size = config.patch

    def alone(channels):
        def made():
            torch.manual_seed(0)
            x = torch.randn(1, channels, *size).to(memory_format=torch.channels_last_3d).requires_grad_()
            ours = Conv3d(channels, channels, 3, padding=1).to(memory_format=torch.channels_last_3d)
            theirs = nn.Conv3d(channels, channels, 3, padding=1).to(memory_format=torch.channels_last_3d)
            theirs.load_state_dict(ours.state_dict())

            def both_ways(layer):
                y = layer(x)
                return (y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], torch.ones_like(y)))

            return lambda: both_ways(ours), lambda: both_ways(theirs)

        return made

    def step():
        cohort = heads.phantom(14, seed=0, spacing=tuple(config.spacing), size=tuple(config.grid))
        n = config.batch_size
        x = cohort.images[:n, :, : size[0], : size[1], : size[2]]
        present = torch.ones(n, len(cohort.classes), dtype=torch.bool)
        targets = oar_rows.targets_of(cohort.labels[:n, : size[0], : size[1], : size[2]], present)
        batch = {"images": x, "labels": targets, "real": x[: n * 3 // 4]}

        def made(change):
            torch.manual_seed(0)
            method = oar_rows.adversarial(config, "Comb", oar_rows.target(config, len(cohort.classes), "cpu"), "cpu")
            change(method.network)
            return lambda: (method.training_step(batch)["loss_clean"],)

        return made(lambda network: network), made(as_torch_has_it)

    row = {"peer": "torch's Conv3d", "threads": config.threads, "note": "before is the peer; oar/lite.yaml's patches"}
    title = f"conv3d N=1: {' x '.join(map(str, size))}"
    found = [
        Pair(case=title, work=f"{c} channels, forward + backward", make=alone(c), tolerance=1e-3, **row)
        for c in CHANNELS
    ]
    return [*found, Pair(case=title, work="the step of Comb", make=step, tolerance=None, **row)]
