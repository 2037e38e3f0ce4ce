"""The U-Net against a formula for its size and a literal forward pass of the same weights."""

import pytest
import torch
import torch.nn.functional as F

from fewlabels.models.unet import BilinearUNet, UNet


def counted(inputs, classes, width, levels):
    """Parameters, by hand: 3x3 convolutions without bias, batch norms with scale and shift, 2x2 upsampling, 1x1."""

    def block(a, b):
        return (9 * a * b + 2 * b) + (9 * b * b + 2 * b)

    widths = [width * 2**k for k in range(levels)]
    down = sum(block(a, b) for a, b in zip([inputs] + widths[:-1], widths, strict=True))
    up = sum(4 * (2 * a) * a + a + block(2 * a, a) for a in widths[:-1])
    return down + up + width * classes + classes


def literal_forward(w, x, levels):
    """Figure 1 of Ronneberger et al. in evaluation mode, from the state dict `w`."""

    def block(name, x):
        for conv, norm in ((0, 1), (3, 4)):
            x = F.conv2d(x, w[f"{name}.{conv}.weight"], padding=1)
            mean, var, scale, shift = (
                w[f"{name}.{norm}.{key}"][:, None, None] for key in ("running_mean", "running_var", "weight", "bias")
            )
            x = ((x - mean) / (var + 1e-5).sqrt() * scale + shift).clamp(min=0)
        return x

    skips = [block("encoder.0", x)]
    for k in range(1, levels):
        skips.append(block(f"encoder.{k}", F.max_pool2d(skips[-1], 2)))
    x = skips[-1]
    for k in reversed(range(levels - 1)):
        x = F.conv_transpose2d(x, w[f"up.{k}.weight"], w[f"up.{k}.bias"], stride=2)
        x = block(f"decoder.{k}", torch.cat([skips[k], x], dim=1))
    return F.conv2d(x, w["classify.weight"], w["classify.bias"])


@pytest.mark.parametrize("shape", [(1, 6, 32, 5), (3, 2, 8, 3), (1, 4, 5, 1)], ids=str)
def test_the_number_of_parameters_is_the_formulas(shape):
    assert sum(p.numel() for p in UNet(*shape).parameters()) == counted(*shape)


def test_the_default_has_the_stated_number_of_parameters():
    assert sum(p.numel() for p in UNet().parameters()) == 7_762_630


@pytest.mark.parametrize(("levels", "size"), [(5, (32, 48)), (3, (12, 20)), (1, (5, 7))])
def test_logits_have_the_images_size(levels, size):
    assert UNet(2, 3, width=4, levels=levels)(torch.rand(2, 2, *size)).shape == (2, 3, *size)


def test_the_forward_pass_is_that_of_the_papers_figure():
    torch.manual_seed(0)
    net = UNet(2, 3, width=4, levels=3).double()
    net(torch.randn(4, 2, 12, 20).double())  # moves the running statistics off their start
    x = torch.randn(2, 2, 12, 20).double()
    assert torch.allclose(net.eval()(x), literal_forward(net.state_dict(), x, 3), rtol=0, atol=1e-12)


def test_every_parameter_receives_a_gradient():
    torch.manual_seed(0)
    net = UNet(width=4)
    net(torch.randn(2, 1, 32, 48)).square().sum().backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize(("network", "of"), [(UNet(levels=3), 4), (BilinearUNet(), 16)])
def test_sizes_that_cannot_be_halved_are_refused(network, of):
    expected = rf"^images: expected \(N, C, H, W\), H and W multiples of {of}, found \(1, 1, 30, 32\)$"
    with pytest.raises(ValueError, match=expected):
        network(torch.zeros(1, 1, 30, 32))
