"""Losses against loops, NumPy, SciPy and values worked out by hand."""

import numpy as np
import pytest
import torch
from scipy.special import rel_entr

from fewlabels.losses import mean_squared_error, soft_dice_loss, soft_jaccard, symmetric_kl

ALL = [soft_jaccard, mean_squared_error, symmetric_kl]


def maps(seed, shape=(3, 4, 5, 7)):
    """Class probabilities in float64."""
    logits = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (2 * logits).softmax(1)


def random_known(seed=0, shape=(3, 5, 7)):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.6


def per_image(value, y, p, known=None):
    """`value(y, p)` of every image's `(classes, pixels)`, unknown pixels dropped."""
    known = torch.ones(len(y), *y.shape[2:], dtype=torch.bool) if known is None else known
    return np.array([value(a[:, k].numpy(), b[:, k].numpy()) for a, b, k in zip(y, p, known, strict=True)])


def slow_jaccard(y, p):
    """Section 3 of the paper, sign by sign."""
    score = 0.0
    for c in range(len(y)):
        above = below = 0.0
        for i in range(y.shape[1]):
            above += y[c, i] * p[c, i]
            below += y[c, i] + (1 - y[c, i]) * p[c, i]
        score += above / below
    return score / len(y)


def slow_mse(y, p):
    return ((y - p) ** 2).sum(0).mean()


def slow_kl(y, p):
    return (rel_entr(y, p) + rel_entr(p, y)).sum(0).mean() / 2


@pytest.mark.parametrize(("ours", "slow"), list(zip(ALL, [slow_jaccard, slow_mse, slow_kl], strict=True)))
@pytest.mark.parametrize("known", [None, random_known()], ids=["all", "some"])
def test_values_are_those_of_a_slow_loop_over_images_and_known_pixels(ours, slow, known):
    y, p = maps(0), maps(1)
    assert np.allclose(ours(y, p, known).numpy(), per_image(slow, y, p, known), rtol=0, atol=1e-7)


@pytest.mark.parametrize("loss", ALL)
def test_the_two_maps_may_change_places(loss):
    assert torch.allclose(loss(maps(0), maps(1)), loss(maps(1), maps(0)), rtol=0, atol=1e-14)


@pytest.mark.parametrize("loss", ALL)
def test_known_equals_cropping_and_what_lies_outside_does_not_matter(loss):
    y, p = maps(0), maps(1)
    known = torch.zeros(3, 5, 7, dtype=torch.bool)
    known[:, 1:4, 2:] = True
    cropped = loss(y[..., 1:4, 2:], p[..., 1:4, 2:])
    assert torch.allclose(loss(y, p, known), cropped, rtol=0, atol=1e-14)
    assert torch.allclose(loss(y, torch.where(known[:, None], p, 0.0), known), cropped, rtol=0, atol=1e-14)


@pytest.mark.parametrize("loss", ALL)
def test_unknown_pixels_get_no_gradient_and_an_image_without_known_ones_none_at_all(loss):
    p, known = maps(1).requires_grad_(), random_known()
    known[1] = False
    value = loss(maps(0), p, known)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert not p.grad[~known[:, None].expand_as(p)].any()
    assert p.grad[known[:, None].expand_as(p)].all()


def test_soft_jaccard_by_hand():
    y = torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 1.0, 1.0]]])[None]
    p = torch.tensor([[[0.5, 0.5, 0.0]], [[0.5, 0.5, 1.0]]])[None]
    # class 0: 0.5 / (1 + 0.5 + 0) = 1/3; class 1: 1.5 / (0.5 + 1 + 1) = 3/5
    assert soft_jaccard(y, p).item() == pytest.approx((1 / 3 + 3 / 5) / 2, abs=1e-6)


def test_soft_jaccard_is_a_mean_over_classes_of_each_image_not_pooled():
    y, p = maps(0), maps(1)
    y[0], p[0] = y[0].round(), y[0].round()  # one image in full agreement
    each = torch.cat([soft_jaccard(y[i : i + 1], p[i : i + 1]) for i in range(3)])
    assert torch.allclose(soft_jaccard(y, p), each, rtol=0, atol=1e-14)
    y_pooled, p_pooled = (m.movedim(1, 0).flatten(1)[None] for m in (y, p))
    assert abs(soft_jaccard(y_pooled, p_pooled).item() - each.mean().item()) > 1e-3


@pytest.mark.parametrize(("p", "score"), [(0.5, 1 / 3), (0.7, 0.538), (0.9, 0.818), (0.99, 0.980)])
def test_a_soft_map_does_not_fully_agree_with_itself(p, score):
    constant = torch.full((1, 1, 4, 6), p, dtype=torch.float64)
    assert soft_jaccard(constant, constant).item() == pytest.approx(score, abs=5e-4)
    other = (1 - p) ** 2 / (2 * (1 - p) - (1 - p) ** 2)  # the second of two classes has 1 - p
    both = torch.cat([constant, 1 - constant], dim=1)
    assert soft_jaccard(both, both).item() == pytest.approx((score + other) / 2, abs=5e-4)


def test_a_binary_map_fully_agrees_with_itself_even_where_a_class_is_absent():
    y = torch.zeros(1, 3, 4, 6)
    y[:, 0, :2], y[:, 1, 2:] = 1, 1
    assert soft_jaccard(y, y).item() == 1


@pytest.mark.parametrize("loss", [mean_squared_error, symmetric_kl])
def test_a_soft_map_has_no_distance_to_itself(loss):
    assert loss(maps(0), maps(0)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("loss", ALL)
def test_opposite_binary_maps_give_finite_values_and_gradients(loss):
    y = torch.zeros(1, 2, 3, 4)
    y[:, 0] = 1
    p = (1 - y).requires_grad_()
    value = loss(y, p)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(p.grad).all()


@pytest.mark.parametrize("loss", ALL)
def test_gradients_are_those_of_finite_differences(loss):
    y, p = maps(0, (2, 3, 3, 4)), maps(1, (2, 3, 3, 4)).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: loss(y, p, random_known(shape=(2, 3, 4))), p)


# ---- what comes in ----


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", [soft_jaccard, mean_squared_error, symmetric_kl, soft_dice_loss])
def test_half_precision_is_summed_in_single(loss, dtype):
    """More pixels than the largest number of 16 bits."""
    torch.manual_seed(0)
    y, p = (torch.rand(1, 2, 400, 400).softmax(1).to(dtype) for _ in "yp")
    torch.testing.assert_close(loss(y, p), loss(y.float(), p.float()))


def test_masks_of_another_shape_are_refused():
    """They would be broadcast, and Dice come out above 1."""
    with pytest.raises(ValueError, match=r"^soft Dice: expected masks \(3, 1, 4, 4\), found \(3, 4, 4\)$"):
        soft_dice_loss(torch.rand(3, 1, 4, 4), torch.ones(3, 4, 4))
