"""G_A, G_D, G_I and D of Gao et al. 2021: sizes, ranges, where they start, and the affine map against torch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fewlabels.methods.adversarial import in_pixels
from fewlabels.models.discriminators import PooledDiscriminator
from fewlabels.models.generators import AugmentationGenerator, displacement
from fewlabels.warps import warp

KINDS = ("affine", "deformation", "appearance")
SIZES = {"square": (64, 64), "not square": (48, 80), "odd": (33, 50), "3-D": (24, 48, 40), "small 3-D": (5, 7, 9)}


def shaken(G):
    """G as training might make it: its last layer is not zero."""
    nn.init.normal_(G.last.weight, std=3.0)
    nn.init.normal_(G.last.bias, std=0.5)
    return G


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_shapes_ranges_and_the_start_at_no_augmentation(kind, size):
    torch.manual_seed(0)
    channels = 3 if len(size) == 2 else 1
    G = AugmentationGenerator(size, kind, channels, width=2, most=0.25 if kind != "affine" else 1.0)
    x, z = torch.rand(3, channels, *size), torch.randn(3, 128)
    out = G(x, z)
    assert out.shape == (3, channels if kind == "appearance" else len(size), *size)
    assert not out.any()
    out = shaken(G)(x, z)
    assert out.std() > 0
    if kind != "affine":
        assert 0.2 < out.abs().max() <= 0.25
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in G.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_made_depends_on_z_and_on_the_image_unless_unconditional(kind):
    torch.manual_seed(0)
    x, z = torch.rand(2, 3, 32, 32), torch.randn(2, 128)
    conditional = shaken(AugmentationGenerator((32, 32), kind, 3, 4)).eval()
    without = shaken(AugmentationGenerator((32, 32), kind, 3, 4, conditional=False)).eval()
    for G in (conditional, without):
        assert not torch.allclose(G(x, z), G(x, z.flip(0)))
    assert not torch.allclose(conditional(x, z), conditional(x.flip(0), z))
    assert torch.equal(without(x, z), without(x.flip(0), z))
    assert not any(name.startswith("of_x") for name in without.state_dict())


def test_layers_are_those_stated():
    """Six convolutions of z, four of the image, four of both of which the last is the output (Section 4.1)."""
    for kind in KINDS:
        G = AugmentationGenerator((224, 224), kind, 3)
        convolutions = lambda part: sum(isinstance(m, nn.Conv2d) for m in part.modules())  # noqa: E731
        norms = sum(isinstance(m, nn.BatchNorm2d) for m in G.modules())
        assert (convolutions(G.of_z), convolutions(G.of_x), convolutions(G.common)) == (6, 4, 3)
        assert norms == 13
        assert isinstance(G.last, nn.Linear if kind == "affine" else nn.Conv2d)
    # By hand at 224, RGB, width 16: z 128 -> 256 x 7 x 7, convolutions 256, 128, 128, 64, 32, 16; image 3, 16 x 4; both
    # 32, 32, 32, 16; a norm has two a channel.
    of_z = 128 * 256 * 49 + 256 * 49 + 9 * (256 * 256 + 256 * 128 + 128 * 128 + 128 * 64 + 64 * 32 + 32 * 16)
    of_z += 2 * (256 + 128 + 128 + 64 + 32 + 16)
    of_x, common = 9 * (3 * 16 + 3 * 16 * 16) + 8 * 16, 9 * (32 * 32 * 2 + 32 * 16) + 2 * (32 + 32 + 16)
    last = {"affine": 16 * 6 + 6, "deformation": 9 * 16 * 2 + 2, "appearance": 9 * 16 * 3 + 3}
    for kind in KINDS:
        G = AugmentationGenerator((224, 224), kind, 3)
        assert sum(p.numel() for p in G.parameters()) == of_z + of_x + common + last[kind]


@pytest.mark.parametrize("size", [(20, 31), (9, 12, 15)])
def test_an_affine_displacement_is_that_of_torchs_spatial_transformer(size):
    torch.manual_seed(0)
    dims = len(size)
    matrix = 0.2 * torch.randn(4, dims, dims + 1)
    u = in_pixels(displacement(matrix, size))
    # torch has x, y(, z) where an array has rows last: both axes of [A | t] turned round
    full = matrix + torch.eye(dims, dims + 1)
    theta = torch.cat([full[:, :, :dims].flip(1, 2), full[:, :, dims:].flip(1)], dim=2)
    grid = F.affine_grid(theta, (4, 1, *size), align_corners=True)
    x = torch.rand(4, 1, *size)
    expected = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=True)
    torch.testing.assert_close(warp(x, u, mode="border"), expected, atol=1e-4, rtol=1e-4)


def test_unknown_kinds_are_refused():
    with pytest.raises(
        ValueError, match="^generator kind: expected one of affine, deformation, appearance, found 'x'$"
    ):
        AugmentationGenerator((32, 32), "x")


@pytest.mark.parametrize("size", [(64, 64), (17, 40), (16, 20, 24)])
def test_the_discriminator_takes_any_size(size):
    torch.manual_seed(0)
    D = PooledDiscriminator(len(size), 2, width=4)
    logits = D(torch.rand(3, 2, *size))
    assert logits.shape == (3,)
    logits.sum().backward()
    assert all(p.grad is not None for p in D.parameters())


def test_the_discriminators_layers():
    D = PooledDiscriminator(2, 3)
    assert [m.out_channels for m in D if isinstance(m, nn.Conv2d)] == [64, 128, 256, 512]
    assert [m.negative_slope for m in D if isinstance(m, nn.LeakyReLU)] == [0.2] * 4
    assert not isinstance(D[1], nn.BatchNorm2d)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in D) == 3
    by_hand = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512) + 64 + 2 * (128 + 256 + 512) + 513
    assert sum(p.numel() for p in D.parameters()) == by_hand
