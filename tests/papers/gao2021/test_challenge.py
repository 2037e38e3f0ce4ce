"""How hard, and where: against values worked out by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fewlabels.errors import BadInput
from fewlabels.methods.adversarial import RegularisedAdversarial
from fewlabels.models.auxbn import with_auxiliary
from fewlabels.models.generators import AugmentationGenerator
from fewlabels.papers.gao2021 import challenge


@pytest.mark.parametrize("kind", ["affine", "deformation", "appearance"])
@pytest.mark.parametrize("size", [(16, 20), (8, 10, 12)])
def test_random_ones_have_the_same_rms_and_are_random(kind, size):
    torch.manual_seed(0)
    channels = 3 if kind == "appearance" else len(size)
    g = torch.rand(4, channels, *size) * torch.tensor([0.1, 1.0, 3.0, 0.5]).reshape(4, *[1] * (len(size) + 1))
    one, other = challenge.random_like(g, kind), challenge.random_like(g, kind)
    by_hand = [math.sqrt(float((image**2).mean())) for image in g]
    assert [math.sqrt(float((image**2).mean())) for image in one] == pytest.approx(by_hand, rel=1e-4)
    assert one.shape == g.shape
    assert not torch.allclose(one, other)
    if kind == "affine":  # second differences of an affine field vanish
        assert float(one.diff(n=2, dim=-1).abs().max()) < 1e-5


def test_random_transforms_follow_the_strength_of_a_training_and_go_on_from_a_state():
    history = [{"step": 4, "rms_affine": 0.2}, {"step": 6, "rms_affine": 0.1}]
    rms = challenge.rms_of(history, "affine", 8)
    assert rms.tolist() == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.15, 0.1, 0.1, 0.1])  # from 0; after the end, the last
    x, z = torch.rand(3, 2, 12, 16), torch.randn(3, 0)
    for kind, channels in (("affine", 2), ("deformation", 2), ("appearance", 2)):
        G = challenge.RandomTransforms(kind, rms)
        assert not list(G.parameters())
        found = [G(x, z) for _ in range(3)]
        assert all(g.shape == (3, channels, 12, 16) for g in found)
        each = [float(challenge.rms(g).mean()) for g in found]
        assert each == pytest.approx([0.05, 0.1, 0.15], rel=1e-4)
        assert not torch.allclose(found[0][0] / 0.05, found[1][0] / 0.1, atol=1e-3)
        other = challenge.RandomTransforms(kind, rms)
        other.load_state_dict(G.state_dict())
        assert float(challenge.rms(other(x, z)).mean()) == pytest.approx(0.2, rel=1e-4)
        G.eval()
        assert [float(challenge.rms(G(x, z)).mean()) for _ in range(2)] == pytest.approx([0.2, 0.2], rel=1e-4)  # stands
    volumes = challenge.RandomTransforms("deformation", rms)(torch.rand(2, 1, 6, 8, 10), torch.randn(2, 0))
    assert volumes.shape == (2, 3, 6, 8, 10)


def test_hardness_is_the_loss_in_inference_mode():
    torch.manual_seed(0)
    T = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7))
    G = AugmentationGenerator((32, 32), "appearance", 3, 2)
    nn.init.constant_(G.last.bias, 0.3)  # with weights of zero: the same mask whatever z and x
    m = RegularisedAdversarial(with_auxiliary(T, 1), [G], None, F.cross_entropy, {})
    x, y = torch.rand(5, 3, 32, 32), torch.randint(7, (5,))
    found = challenge.hardness(m, x, y)
    m.network.eval()
    with torch.no_grad():
        assert found["loss_of_clean"] == pytest.approx(float(F.cross_entropy(T(x), y)), rel=1e-5)
        shifted = F.cross_entropy(T(x + math.tanh(0.3)), y)
    assert found["loss_of_appearance"] == pytest.approx(float(shifted), rel=1e-4)
    assert found["rms_appearance"] == pytest.approx(math.tanh(0.3), rel=1e-5)
    assert set(found) == {"loss_of_clean", "loss_of_appearance", "loss_of_random_appearance", "rms_appearance"}


def test_strength_of_a_field_and_of_a_mask():
    g = torch.zeros(1, 2, 5, 6)
    g[0, 1] = 0.2 * torch.arange(6.0)  # the second component grows along the columns
    assert torch.allclose(challenge.strength(g, "deformation"), torch.full((1, 5, 6), 0.2))
    assert torch.allclose(challenge.strength(g + 100, "deformation"), torch.full((1, 5, 6), 0.2), atol=1e-4)
    mask = torch.tensor([[[[1.0, -2.0]], [[3.0, 0.0]], [[-2.0, 1.0]]]])
    assert challenge.strength(mask, "appearance").tolist() == [[[2.0, 1.0]]]


def test_inside_to_outside_by_hand():
    strength = torch.tensor([[[4.0, 4.0], [1.0, 3.0]], [[1.0, 1.0], [1.0, 5.0]]])
    masks = torch.tensor([[[True, True], [False, False]], [[False, False], [False, True]]])
    assert challenge.inside_to_outside(strength, masks) == pytest.approx((4 / 2 + 5 / 1) / 2)


def test_a_window_is_half_as_high_at_the_radius_of_the_masks_area():
    masks = torch.zeros(1, 41, 41, dtype=torch.bool)
    q = torch.arange(41) - 20
    masks[0] = q[:, None] ** 2 + q**2 <= 100
    window = challenge.window(masks)[0]
    assert window[20, 20] == 1
    assert window[20, 30] == pytest.approx(0.5, abs=0.02)
    assert torch.equal(window, window.flip(0))
    assert torch.equal(window, window.T)


def test_what_is_in_the_lesions_is_told_from_what_is_in_the_middle():
    """A generator that changes just the lesions, which it reads off the image's first channel."""

    class Seeing(nn.Module):
        kind, Z = "appearance", 128

        def forward(self, x, z):
            return (0.1 + x[:, :1]).repeat(1, 3, 1, 1)

    masks = torch.zeros(6, 20, 20, dtype=torch.bool)
    for i in range(5):
        masks[i, 3 * i : 3 * i + 4, 2:9] = True  # never in the middle; the sixth is empty and does not count
    x = masks[:, None].float().repeat(1, 3, 1, 1)
    torch.manual_seed(0)
    found = challenge.centred(Seeing(), x, masks)
    assert found["lesion"] == pytest.approx(11, rel=1e-4)
    assert found["shuffled"] < 4
    assert found["window"] < 4


@pytest.mark.parametrize("usable", [0, 1])
def test_others_masks_need_others(usable):
    masks = torch.zeros(3, 8, 8, dtype=torch.bool)
    masks[:usable, 2:4] = True
    with pytest.raises(BadInput, match=f"^masks: expected two or more with pixels inside and outside, found {usable}$"):
        challenge.centred(nn.Identity(), torch.zeros(3, 3, 8, 8), masks)
