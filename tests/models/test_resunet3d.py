"""The 3-D ResUNet against a count by hand and a literal forward pass of the same weights."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fewlabels.models.auxbn import with_auxiliary
from fewlabels.models.layers import Conv3d
from fewlabels.models.resunet3d import ResUNet3D

# Channels and kernel of each level, poolings between them.
CHANNELS = (1, 2, 4, 8, 10)
TAPS = (9, 9, 27, 27, 27)
POOLS = ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))


def counted(inputs, classes, width, levels):
    """Parameters: convolutions without bias, batch norms with scale and shift, the last convolution with bias."""
    widths = [width * c for c in CHANNELS[:levels]]

    def block(a, b, taps):
        weights = taps * a * b + taps * b * b + (taps * a * b if a != b else 0)
        norms = 2 * a + 2 * b + (2 * a if a != b else 0)
        return weights + norms

    total = TAPS[0] * inputs * width + block(width, width, TAPS[0])
    for a, b, taps in zip(widths, widths[1:], TAPS[1:]):
        total += block(a, b, taps) + block(b, b, taps)
    for a, b, taps in zip(widths, widths[1:], TAPS):
        total += 2 * (a + b) + (a + b) * a + 2 * block(a, a, taps)
    return total + width * classes + classes


def literal_forward(w, x, levels):
    """In evaluation mode, from the state dict `w`."""

    def norm(name, x):
        keys = ("running_mean", "running_var", "weight", "bias")
        mean, var, scale, shift = (w[f"{name}.{key}"][:, None, None, None] for key in keys)
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    def convolution(name, x):
        kernel = w[f"{name}.weight"]
        z, y, x_ = kernel.shape[2:]
        assert (z, y, x_) in ((1, 3, 3), (3, 3, 3), (1, 1, 1))
        padded = F.pad(x, (x_ // 2, x_ // 2, y // 2, y // 2, z // 2, z // 2))
        return F.conv3d(padded, kernel)

    def block(name, x):
        residual = convolution(f"{name}.residual.2", norm(f"{name}.residual.0", x).clamp(min=0))
        residual = convolution(f"{name}.residual.5", norm(f"{name}.residual.3", residual).clamp(min=0))
        if f"{name}.shortcut.2.weight" in w:
            x = convolution(f"{name}.shortcut.2", norm(f"{name}.shortcut.0", x).clamp(min=0))
        return x + residual

    skips = [block("encoder.0.1", convolution("encoder.0.0", x))]
    for k in range(1, levels):
        x = F.max_pool3d(skips[-1], POOLS[k - 1], stride=POOLS[k - 1])
        skips.append(block(f"encoder.{k}.1", block(f"encoder.{k}.0", x)))
    x = skips[-1]
    for k in reversed(range(levels - 1)):
        up = linear(x, skips[k].shape[2:])
        x = convolution(f"decoder.{k}.1", norm(f"decoder.{k}.0", torch.cat([skips[k], up], dim=1)))
        x = block(f"decoder.{k}.3", block(f"decoder.{k}.2", x))
    return F.conv3d(x, w["classify.weight"], w["classify.bias"])


def linear(x, size):
    """Linear interpolation with the corners on the corners, one axis after the other, as a matrix."""
    for axis, n in enumerate(size, start=2):
        m = x.shape[axis]
        at = torch.linspace(0, m - 1, n, dtype=x.dtype)
        matrix = (1 - (at[:, None] - torch.arange(m)).abs()).clamp(min=0)
        x = torch.tensordot(x, matrix, dims=([axis], [1])).movedim(-1, axis)
    return x


@pytest.mark.parametrize("shape", [(1, 10, 32, 5), (2, 3, 8, 5), (1, 7, 6, 4), (1, 2, 5, 2), (3, 4, 5, 1)], ids=str)
def test_the_number_of_parameters_is_the_formulas(shape):
    assert sum(p.numel() for p in ResUNet3D(*shape).parameters()) == counted(*shape)


@pytest.mark.parametrize(("width", "parameters"), [(32, 30_988_586), (8, 1_939_346)])
def test_the_stated_numbers_of_parameters(width, parameters):
    assert sum(p.numel() for p in ResUNet3D(width=width).parameters()) == parameters


@pytest.mark.parametrize(
    ("levels", "size"),
    [(5, (4, 32, 16)), (5, (12, 16, 48)), (4, (6, 8, 24)), (3, (5, 8, 4)), (2, (3, 4, 2)), (1, (5, 7, 3))],
)
def test_logits_have_the_images_size(levels, size):
    assert ResUNet3D(2, 3, width=2, levels=levels)(torch.rand(2, 2, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize(
    ("levels", "size"), [(5, (8, 32, 48)), (4, (6, 16, 8)), (3, (5, 4, 8)), (1, (3, 5, 4))], ids=str
)
def test_the_forward_pass_is_the_stated_one(levels, size):
    torch.manual_seed(0)
    net = ResUNet3D(2, 3, width=3, levels=levels).double()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))  # norms start with scale 1 and shift 0
    net(torch.randn(2, 2, *size).double())  # moves the running statistics off their start
    x = torch.randn(2, 2, *size).double()
    found = net.eval()(x)
    assert torch.allclose(found, literal_forward(net.state_dict(), x, levels), rtol=1e-9, atol=1e-9)
    assert found.std() > 0.1


def test_every_parameter_receives_a_gradient():
    torch.manual_seed(0)
    net = ResUNet3D(width=4)
    net(torch.randn(2, 1, 8, 32, 32)).square().sum().backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


def test_batch_norm_is_the_only_norm_and_takes_auxiliary_ones():
    net = ResUNet3D(width=2)
    assert {type(m) for m in net.modules() if m._parameters} == {nn.Conv3d, Conv3d, nn.BatchNorm3d}
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    # 1 block in the first level, 2 in each of the others; in each decoder one norm and 2 blocks; 4 blocks have a third
    assert len(norms) == 2 * (1 + 4 * 2) + 4 * (1 + 2 * 2) + 4
    x = torch.randn(4, 1, 8, 32, 32)
    before = net.eval()(x)
    net = with_auxiliary(net, 3)
    assert torch.equal(net(x), before)
    assert net.train()(x).shape == (4, 10, 8, 32, 32)


@pytest.mark.parametrize(
    ("levels", "shape", "z", "yx"),
    [
        (5, (1, 1, 6, 16, 16), 4, 16),
        (5, (1, 1, 4, 24, 16), 4, 16),
        (5, (1, 1, 4, 16, 8), 4, 16),
        (5, (1, 1, 0, 16, 16), 4, 16),
        (4, (1, 1, 3, 8, 8), 2, 8),
        (3, (1, 1, 3, 4, 6), 1, 4),
        (5, (1, 2, 4, 16, 16), 4, 16),
        (5, (1, 4, 16, 16), 4, 16),
    ],
    ids=str,
)
def test_images_that_do_not_fit_are_refused_in_one_line(levels, shape, z, yx):
    with pytest.raises(ValueError, match="ResUNet3D images") as error:
        ResUNet3D(width=2, levels=levels)(torch.zeros(shape))
    said = f"expected (N, 1, Z, Y, X), Z a multiple of {z}, Y and X of {yx}, found {shape}"
    assert str(error.value) == f"ResUNet3D images: {said}"


def test_no_level_is_refused():
    with pytest.raises(ValueError, match="levels: expected at least 1, found 0"):
        ResUNet3D(levels=0)
