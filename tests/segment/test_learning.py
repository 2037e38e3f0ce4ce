"""Augmentation, losses and the mean of weights."""

import math

import pytest
import torch
from torch import nn

from fewlabels.losses import cross_entropy_dice
from fewlabels.segment import learn
from fewlabels.segment.augment import IGNORED, fields, flips_of, move, recolour
from fewlabels.segment.learn import Supervised


def test_labels_move_with_images():
    torch.manual_seed(0)
    rows = torch.arange(64.0).expand(64, 64).T
    y = (rows > 30).long()[None].repeat(4, 1, 1)
    x, moved = move(y[:, None].float(), y, fields(4, (64, 64), (True, True)))
    known = moved != IGNORED
    assert 0.5 < known.float().mean() < 1  # some pixels come from outside
    agree = ((x[:, 0] > 0.5).long() == moved)[known]
    assert agree.float().mean() > 0.99
    assert not torch.equal(moved[0], moved[1])


def test_grey_values_stay_in_range_and_change():
    torch.manual_seed(0)
    x = torch.rand(3, 1, 16, 16)
    y = recolour(x)
    assert y.min() >= 0
    assert y.max() <= 1
    assert (y - x).abs().mean() > 0.01


def test_flips_are_allowed_where_sides_mean_nothing():
    left_right = torch.zeros(4, 32, 32, dtype=torch.long)
    left_right[:, 8:24, 2:12], left_right[:, 8:24, 20:30] = 1, 2
    assert flips_of(left_right, 3) == (True, False)
    central = torch.zeros(4, 32, 32, dtype=torch.long)
    for i in range(4):
        central[i, 8 + i : 22 + i, 9 - i : 23 - i] = 1
    assert flips_of(central, 2) == (True, True)
    assert flips_of(central[:1], 2) == (False, False)


def test_the_loss_by_hand():
    logits = torch.tensor([[[[0.0, 0.0, 5.0]], [[math.log(3), 0.0, -5.0]]]])  # p of class 1: 3/4, 1/2, about 0
    y = torch.tensor([[[1, 0, IGNORED]]])
    cross_entropy = -(math.log(3 / 4) + math.log(1 / 2)) / 2
    dice = (2 * 3 / 4 + 1) / (3 / 4 + 1 / 2 + 1 + 1)
    assert cross_entropy_dice(logits, y).item() == pytest.approx(cross_entropy + 1 - dice, rel=1e-6)
    logits.requires_grad_()
    cross_entropy_dice(logits, y).backward()
    assert logits.grad[..., 2].abs().max() == 0
    assert cross_entropy_dice(logits.detach(), torch.full_like(y, IGNORED)).item() == 0


def test_what_predicts_is_the_mean_of_the_weights_so_far():
    torch.manual_seed(0)
    method = Supervised(nn.Conv2d(1, 2, 3, padding=1), (False, False), steps=10)
    batch = {"images": torch.rand(2, 1, 16, 16), "labels": torch.randint(2, (2, 16, 16))}
    seen = [method.student.weight.detach().clone()]
    for _ in range(5):
        method.training_step(batch)
        seen.append(method.student.weight.detach().clone())
    torch.testing.assert_close(method.network.weight.detach(), torch.stack(seen).mean(0))


def test_images_are_made_smaller_until_there_are_steps_enough(monkeypatch):
    from types import SimpleNamespace

    from fewlabels.segment import plan as module

    def timed(task, minutes):  # a step takes as long as an image has pixels
        return SimpleNamespace(side=task, steps=(int(60 * minutes * 1e5 / task**2), 0))

    monkeypatch.setattr(module, "plan", timed)
    assert [module.fitting(512, minutes, lambda side: side)[1] for minutes in (20, 5, 1, 0.1)] == [512, 256, 128, 128]


def test_unlabelled_images_are_compared_with_the_mean_by_hand(monkeypatch):
    """Without deformation or recolouring: lambda times the squared difference of student and mean, none of it to the
    mean, and nothing of it in the running statistics."""
    monkeypatch.setattr(learn, "fields", lambda n, size, flips, device: torch.zeros(n, 2, *size))
    monkeypatch.setattr(learn, "recolour", lambda x: x)
    torch.manual_seed(0)
    method = learn.SemiSupervised(nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 1)), (False, False), steps=10)
    method.step = 1  # of the first fifth, two steps: half of lambda
    with torch.no_grad():
        method.student[1].weight.add_(torch.randn(2, 1, 1, 1))
    batch = {
        "images": torch.rand(2, 1, 8, 8),
        "labels": torch.randint(2, (2, 8, 8)),
        "unlabelled": 3 + torch.rand(3, 1, 8, 8),
    }
    method.student.train()
    losses = method.loss(batch)
    seen = method.student[0].running_mean.item()
    assert seen == pytest.approx(0.1 * batch["images"].mean().item(), rel=1e-5)  # torch's momentum; from 0

    x = batch["unlabelled"]
    normal = (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()
    student = method.student[1](normal).softmax(1)
    mean = method.network.eval()(x).softmax(1).detach()
    expected = learn.SemiSupervised.LAMBDA / 2 * (student - mean).square().sum(1).mean()
    assert losses["loss_cons"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert expected > 0.01
    losses["loss_cons"].backward()
    assert all(p.grad is None for p in method.network.parameters())
    assert method.student[1].weight.grad.abs().sum() > 0
