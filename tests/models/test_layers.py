"""The convolution of one small volume: torch's, whatever the way it goes."""

import pytest
import torch
from torch import nn

from fewlabels.models.layers import CONV, SMALL, Conv3d


def both(x, **options):
    """Output and gradients to input, weights and bias: ours in float32, torch's in float64."""
    torch.manual_seed(0)
    ours = Conv3d(x.shape[1], 3, **options)
    theirs = nn.Conv3d(x.shape[1], 3, **options).double()
    theirs.load_state_dict(ours.state_dict())
    found = []
    for layer, image in ((ours, x), (theirs, x.double())):
        image.requires_grad_()
        y = layer(image)
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
        found.append([y, *torch.autograd.grad((y * weights).sum(), [image, *layer.parameters()])])
    return found


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": 1, "bias": False},
        {"kernel_size": 2},
        {"kernel_size": (1, 3, 3), "padding": (0, 1, 1)},
        {"kernel_size": 4, "stride": 2, "padding": 1},
        {"kernel_size": 1},
    ],
)
def test_values_and_gradients_are_torchs(options, layout):
    for n in (1, 2):
        x = torch.randn(n, 4, 6, 10, 7, generator=torch.Generator().manual_seed(n)).to(memory_format=layout)
        for found, expected in zip(*both(x, **options), strict=True):
            assert found.shape == expected.shape
            assert torch.allclose(found.double(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "kernel", "dtype", "batch"),
    [
        ((1, 4, 6, 10, 7), 3, torch.float32, 2),
        ((2, 4, 6, 10, 7), 3, torch.float32, 2),  # a batch already
        ((1, 4, 6, 10, 7), 1, torch.float32, 1),
        ((1, 4, 6, 10, 7), 3, torch.float64, 1),
        ((1, 1, 128, SMALL // 128, 4), 3, torch.float32, 2),
        ((1, 1, 128, SMALL // 128 + 1, 4), 3, torch.float32, 1),  # torch takes the fast way itself
    ],
)
def test_two_go_through_only_where_one_is_slow(shape, kernel, dtype, batch, monkeypatch):
    seen, forward = [], nn.Conv3d.forward
    monkeypatch.setattr(nn.Conv3d, "forward", lambda self, x: seen.append(len(x)) or forward(self, x))
    y = CONV[3](shape[1], 2, kernel, padding=kernel // 2).to(dtype)(torch.zeros(shape, dtype=dtype))
    assert seen == [batch]
    assert len(y) == shape[0]
    seen.clear()
    with torch.autocast("cpu", torch.bfloat16):  # has its own way
        CONV[3](shape[1], 2, kernel)(torch.zeros(shape))
    assert seen == [shape[0]]


def test_weights_are_those_of_torchs_layer():
    ours, theirs = Conv3d(2, 3, 3), nn.Conv3d(2, 3, 3)
    theirs.load_state_dict(ours.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("size", [(2, 2, 2), (2, 3, 2), (2, 8, 8), (3, 4, 4)], ids=str)
def test_the_weights_gradient_in_bfloat16_is_not_what_memory_held(size):
    """oneDNN leaves part of it unset where a volume has two planes; here memory is full of NaN."""
    torch.manual_seed(0)
    x, ours = torch.randn(2, 8, *size), Conv3d(8, 16, 3, padding=1, bias=False)
    theirs = nn.Conv3d(8, 16, 3, padding=1, bias=False).double()
    theirs.load_state_dict(ours.state_dict())
    theirs(x.double()).square().sum().backward()
    for _ in range(3):
        ours.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            y = ours(x)
        held = [torch.full((2**k,), float("nan")) for k in range(4, 20) for _ in range(40)]
        del held
        y.float().square().sum().backward()
        error = (ours.weight.grad - theirs.weight.grad).abs().max() / theirs.weight.grad.abs().max()
        assert error < 0.02
