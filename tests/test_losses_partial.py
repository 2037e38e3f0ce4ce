"""The loss for partly delineated volumes against loops, and values worked out by hand."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fewlabels.losses import partial_cross_entropy_dice

SIZES = [(5, 7), (3, 4, 5)]
PRESENT = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 1], [1, 0, 0, 1]], dtype=torch.bool)  # class 2, classes 1 and 2 missing


def random_logits(size, n=3, classes=4, seed=0):
    return 2 * torch.randn(n, classes, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels_of(size, present=PRESENT, seed=0):
    """Labels in which missing classes do not occur, as in real ones: where they are is background."""
    rng = np.random.default_rng(seed)
    y = torch.from_numpy(rng.choice(4, (len(present), *size), p=[0.5, 0.2, 0.15, 0.15]))
    return torch.where(present.gather(1, y.flatten(1)).reshape(y.shape), y, 0)


def voxel_by_voxel(logits, target, present):
    """The docstring, one voxel at a time; target `(N, classes, *size)`."""
    logits, target, present = logits.detach().numpy(), target.numpy(), present.numpy()
    n, classes, *size = logits.shape
    cross_entropy, voxels = 0.0, 0
    both, of_p, of_y = np.zeros(classes), np.zeros(classes), np.zeros(classes)
    for i in range(n):
        for at in np.ndindex(*size):
            z, y = logits[(i, slice(None), *at)], target[(i, slice(None), *at)]
            p = np.exp(z) / np.exp(z).sum()
            voxels += 1
            for c in range(classes):
                if c == 0 and not present[i].all():
                    continue
                if not present[i, c]:
                    continue
                cross_entropy -= y[c] * math.log(p[c])
                both[c] += p[c] * y[c]
                of_p[c] += p[c]
                of_y[c] += y[c]
    somewhere = [c for c in range(1, classes) if present[:, c].any()]
    dice = [2 * both[c] / (of_p[c] + of_y[c]) for c in somewhere]
    return cross_entropy / voxels + (1 - np.mean(dice) if dice else 0)


def one_hot(y, classes=4):
    return F.one_hot(y, classes).movedim(-1, 1).double()


def soft(size, n=3, classes=4, seed=1):
    shares = np.random.default_rng(seed).dirichlet(np.full(classes, 0.5), (n, *size))
    return torch.from_numpy(np.moveaxis(shares, -1, 1).copy())


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("all_present", [True, False])
def test_labels_and_shares_are_those_of_a_loop_over_voxels(size, all_present):
    z, present = random_logits(size), PRESENT | all_present
    y = labels_of(size, present)
    expected = pytest.approx(voxel_by_voxel(z, one_hot(y), present), rel=1e-6)
    assert partial_cross_entropy_dice(z, y, present).item() == expected
    assert partial_cross_entropy_dice(z, one_hot(y), present).item() == expected
    y = soft(size)
    found = partial_cross_entropy_dice(z, y, present)
    assert found.shape == ()
    assert found.item() == pytest.approx(voxel_by_voxel(z, y, present), rel=1e-6)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_with_nothing_missing_the_first_half_is_torchs_cross_entropy(size):
    z, y = random_logits(size), labels_of(size, PRESENT | True)
    p, t = z.softmax(1).flatten(2), one_hot(y).flatten(2)
    dice = 2 * (p * t).sum((0, 2)) / (p + t).sum((0, 2))
    expected = F.cross_entropy(z, y) + 1 - dice[1:].mean()
    assert partial_cross_entropy_dice(z, y, PRESENT | True).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("depth", [0, 1])
def test_on_paper(depth):
    """Two volumes of two voxels, classes 0, 1, 2. Logits 0, log 2, log 5: p = 1/8, 1/4, 5/8 in every voxel."""
    z = torch.tensor([0, math.log(2), math.log(5)], dtype=torch.float64).reshape(1, 3, 1, 1).expand(2, 3, 1, 2)
    y = torch.tensor([[[0, 1]], [[0, 2]]])
    if depth:
        z, y = z[:, :, None], y[:, None]

    def loss(*present):
        return partial_cross_entropy_dice(z, y, torch.tensor(present, dtype=torch.bool)).item()

    # All: class 1 has p of 4/4 in all, 1/4 on its voxel of 1; class 2 4 * 5/8, 5/8 of 1.
    dice = (2 * 1 / 4 / (1 + 1) + 2 * 5 / 8 / (5 / 2 + 1)) / 2
    cross_entropy = (math.log(8) + math.log(4) + math.log(8) + math.log(8 / 5)) / 4
    assert loss([1, 1, 1], [1, 1, 1]) == pytest.approx(cross_entropy + 1 - dice, rel=1e-4)
    # No class 1 in the second volume: its background is left out, and it is out of the sums of class 1.
    dice = (2 * 1 / 4 / (1 / 2 + 1) + 2 * 5 / 8 / (5 / 2 + 1)) / 2
    cross_entropy = (math.log(8) + math.log(4) + math.log(8 / 5)) / 4
    assert loss([1, 1, 1], [1, 0, 1]) == pytest.approx(cross_entropy + 1 - dice, rel=1e-4)
    # No class 1 in either: Dice is class 2's alone; the voxel labelled 1 does not count.
    assert loss([1, 0, 1], [1, 0, 1]) == pytest.approx(math.log(8 / 5) / 4 + 1 - 2 * 5 / 8 / (5 / 2 + 1), rel=1e-4)
    # No class 2 in the first, in which it has no voxel.
    dice = (2 * 1 / 4 / (1 + 1) + 2 * 5 / 8 / (5 / 4 + 1)) / 2
    cross_entropy = (math.log(4) + math.log(8) + math.log(8 / 5)) / 4
    assert loss([1, 1, 0], [1, 1, 1]) == pytest.approx(cross_entropy + 1 - dice, rel=1e-4)
    # The background said to be missing: it alone is left out.
    dice = (2 * 1 / 4 / (1 + 1) + 2 * 5 / 8 / (5 / 2 + 1)) / 2
    cross_entropy = (math.log(4) + math.log(8) + math.log(8 / 5)) / 4
    assert loss([0, 1, 1], [1, 1, 1]) == pytest.approx(cross_entropy + 1 - dice, rel=1e-4)
    assert loss([1, 0, 0], [0, 0, 0]) == 0


def gradient(z, y, present):
    z = z.clone().requires_grad_()
    partial_cross_entropy_dice(z, y, present).backward()
    return z.grad


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_background_of_an_incomplete_volume_has_no_gradient_of_the_cross_entropy(size):
    """What is there is Dice's through the classes present: g_c dp_c / dz, with g_c worked out from the sums."""
    z, y = random_logits(size), labels_of(size)
    p, t = z.softmax(1), one_hot(y)
    expected = torch.zeros_like(z)
    for c, volumes in ((1, [0, 1]), (3, [0, 1, 2])):  # class 2: in volume 0 alone
        both, sums = (p * t)[volumes, c].sum(), (p + t)[volumes, c].sum()
        g = 2 * both / sums**2 / 3  # d(1 - dice) / dp where y is 0, a third of the mean
        for d in range(4):
            expected[volumes, d] += g * p[volumes, c] * (float(c == d) - p[volumes, d])
    found = gradient(z, y, PRESENT)
    for i in (1, 2):
        background = (y[i] == 0).expand_as(z[i])
        assert torch.allclose(found[i][background], expected[i][background], rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_no_missing_structure_is_pushed_down_where_it_might_be(size):
    """A step against the gradient raises the logits of missing structures and of the background there."""
    z, y = random_logits(size), labels_of(size)
    found = gradient(z, y, PRESENT)
    for i, missing in ((1, [0, 2]), (2, [0, 1, 2])):
        assert (found[i, missing][:, y[i] == 0] < 0).all()
    complete = gradient(z, y, PRESENT | True)  # which is what the mask is for
    assert (complete[1, 2][y[1] == 0] > 0).all()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_it_does_not_matter_whether_such_a_voxel_is_called_background_or_the_missing_structure(size):
    z, y = random_logits(size), labels_of(size)
    p = z.softmax(1)
    moved = p.clone()
    here = y[1] == 0
    moved[1, 2][here] += 0.9 * moved[1, 0][here]
    moved[1, 0][here] *= 0.1
    before, after = (partial_cross_entropy_dice(q.log(), y, PRESENT).item() for q in (p, moved))
    assert after == pytest.approx(before, rel=1e-9)
    assert partial_cross_entropy_dice(moved.log(), y, PRESENT | True).item() > before + 0.01


def test_a_perfect_prediction_costs_nothing_also_where_a_structure_is_missing():
    truth = labels_of((6, 6), PRESENT | True)  # with class 2 in all volumes
    y = torch.where(PRESENT.gather(1, truth.flatten(1)).reshape(truth.shape), truth, 0)
    perfect = 50 * one_hot(truth)
    assert partial_cross_entropy_dice(perfect, y, PRESENT).item() == pytest.approx(0, abs=1e-5)
    assert partial_cross_entropy_dice(perfect, y, PRESENT | True).item() > 1


def test_labels_of_a_missing_class_count_as_little_as_background():
    z, y = random_logits((5, 7)), labels_of((5, 7))
    other = y.clone()
    other[1, 0] = 2
    y[1, 0] = 0
    assert torch.equal(partial_cross_entropy_dice(z, y, PRESENT), partial_cross_entropy_dice(z, other, PRESENT))


def test_a_class_without_voxels_has_no_gradient_of_dice_and_all_is_finite():
    z = torch.full((1, 3, 2, 3), -200.0)
    z[:, 0] = 200.0  # p of classes 1 and 2 is 0 in float32
    y = torch.zeros(1, 2, 3, dtype=torch.long)
    present = torch.ones(1, 3, dtype=torch.bool)
    assert partial_cross_entropy_dice(z, y, present).item() == 1
    assert not gradient(z, y, present).any()
    z, y = random_logits((4, 5), 1, 3), torch.zeros(1, 4, 5, dtype=torch.long)
    of_cross_entropy = (z.softmax(1) - one_hot(y, 3)) / 20
    assert torch.allclose(gradient(z, y, present), of_cross_entropy, rtol=0, atol=1e-12)


def test_nothing_present_is_a_loss_of_0_with_a_gradient_of_0():
    z, y = random_logits((5, 7)), labels_of((5, 7))
    nothing = torch.zeros(3, 4, dtype=torch.bool)
    assert partial_cross_entropy_dice(z, y, nothing).item() == 0
    assert not gradient(z, y, nothing).any()


def test_gradients_are_those_of_finite_differences_and_arguments_stay():
    z, y, present = random_logits((2, 3)).requires_grad_(), soft((2, 3)), PRESENT.clone()
    assert torch.autograd.gradcheck(lambda z: partial_cross_entropy_dice(z, y, present), z)
    assert torch.equal(present, PRESENT)
    assert torch.equal(y, soft((2, 3)))


@pytest.mark.parametrize(
    ("target", "present"),
    [((3, 4, 7), (3, 4)), ((3, 4, 5, 7), (3, 4)), ((3, 5, 7), (4,)), ((3, 5, 7), (3, 3))],
    ids=str,
)
def test_shapes_that_do_not_fit_are_refused_in_one_line(target, present):
    y, present = torch.zeros(target, dtype=torch.long), torch.ones(present, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"partial labels: expected target \(3, 5, 7\) and present \(3, 4\), found"):
        partial_cross_entropy_dice(random_logits((5, 7)), y, present)


def test_shares_of_another_shape_are_refused_in_one_line():
    with pytest.raises(ValueError, match=r"expected target \(3, 4, 5, 7\) and"):
        partial_cross_entropy_dice(random_logits((5, 7)), torch.zeros(3, 5, 7), PRESENT)
