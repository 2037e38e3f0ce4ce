"""Hand-made augmentation, loss and score of Chaitanya et al. 2019 against NumPy, SciPy and scikit-learn."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage, stats
from sklearn.metrics import f1_score

from fewlabels.augment import classical as augment
from fewlabels.losses import weighted_cross_entropy
from fewlabels.scores.metrics import dice
from fewlabels.warps import warp

DRAWS = 4000
SIZES = [(9, 14), (16, 16)]


def images(n=4, channels=1, size=(16, 16), dtype=torch.float32):
    return torch.rand(n, channels, *size, generator=torch.Generator().manual_seed(0)).to(dtype)


def seeded(f, *arguments, seed=0, **settings):
    torch.manual_seed(seed)
    return f(*arguments, **settings)


def uniform(values, low, high):
    """Within the range, nearly to its ends, and flat."""
    assert low - 1e-4 <= min(values) < low + 0.02 * (high - low)
    assert high - 0.02 * (high - low) < max(values) <= high + 1e-4
    return stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3


# ---- affine ----


def matrices(fields):
    """A of the fields `(A - 1)(q - c)`, in float64; that they are no others is part of it."""
    u = fields.double().numpy()
    size = u.shape[2:]
    rows, columns = (n - 1 for n in size)
    down, right = (u[:, :, -1, 0] - u[:, :, 0, 0]) / rows, (u[:, :, 0, -1] - u[:, :, 0, 0]) / columns
    A = np.stack([down, right], axis=2) + np.eye(2)
    q = np.indices(size) - (np.array(size).reshape(2, 1, 1) - 1) / 2
    assert np.abs(np.einsum("nij,jhw->nihw", A - np.eye(2), q) - u).max() < 1e-4
    return A


@pytest.fixture(scope="module", params=SIZES, ids=str)
def drawn(request):
    """Many fields, their matrices, and of each its kind: flip, scale, small rotation, multiple of 45 degrees."""
    fields = seeded(augment.random_affine, DRAWS, request.param)
    A = matrices(fields)
    angle = np.degrees(np.arctan2(A[:, 0, 1], A[:, 0, 0]))  # of the rotations
    kinds = {
        "none": np.abs(A - np.eye(2)).max((1, 2)) == 0,
        "flip": np.linalg.det(A) < 0,
        "scale": (np.abs(A[:, 0, 1]) == 0) & (A[:, 0, 0] > 0) & (A[:, 0, 0] != 1),
    }
    turned = ~np.any([*kinds.values()], axis=0)
    kinds |= {"small": turned & (np.abs(angle) < 20), "eighth": turned & (np.abs(angle) > 20)}
    return fields, A, angle, kinds


def test_each_field_is_one_of_five_kinds_with_equal_probability(drawn):
    """One in eight multiples of 45 degrees is 0, which is no transformation either."""
    _, _, angle, kinds = drawn
    assert (sum(kinds.values()) == 1).all()
    eighths = np.round(angle[kinds["eighth"]] / 45).astype(int) % 8
    counts = [kinds[name].sum() for name in ("none", "flip", "scale", "small")] + np.bincount(
        eighths, minlength=8
    ).tolist()
    assert counts[4] == 0
    counts.pop(4)
    expected = DRAWS * np.array([1 / 5 + 1 / 40, 1 / 5, 1 / 5, 1 / 5, *[1 / 40] * 7])
    assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_rotations_are_within_15_degrees_or_multiples_of_45(drawn):
    _, A, angle, kinds = drawn
    for name in ("small", "eighth"):
        c, s = (f(np.radians(angle[kinds[name]])) for f in (np.cos, np.sin))
        assert np.abs(A[kinds[name]] - np.moveaxis(np.array([[c, s], [-s, c]]), 2, 0)).max() < 1e-5
    assert uniform(angle[kinds["small"]], -15, 15)
    assert np.abs(angle[kinds["eighth"]] / 45 - np.round(angle[kinds["eighth"]] / 45)).max() < 1e-4


def test_scaling_enlarges_by_0_9_to_1_1(drawn):
    """What is enlarged by s is fetched from 1/s of its distance to the centre."""
    _, A, _, kinds = drawn
    A = A[kinds["scale"]]
    assert np.abs(A - A[:, :1, :1] * np.eye(2)).max() < 1e-5
    assert uniform(1 / A[:, 0, 0], 0.9, 1.1)


def test_the_flip_is_left_to_right_to_the_bit(drawn):
    fields, A, _, kinds = drawn
    assert np.abs(A[kinds["flip"]] - np.diag([1, -1])).max() < 1e-6
    u = fields[kinds["flip"]][:1]
    x = images(1, 2, u.shape[2:])
    assert torch.equal(warp(x, u), x.flip(3))


def test_what_is_left_as_it_is_is_so_to_the_bit(drawn):
    fields, _, _, kinds = drawn
    u = fields[kinds["none"]][:1]
    x = images(1, 1, u.shape[2:])
    assert not u.any()
    assert torch.equal(warp(x, u), x)


@pytest.mark.parametrize("size", [16, 33, 64, 224])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_numpys_rot90_up_to_the_border(size, quarters):
    x = images(1, 1, (size, size))
    u = turned_by(90 * quarters, size)
    expected = np.rot90(x[0, 0].numpy(), quarters)
    found = warp(x, u)[0, 0].numpy()
    assert min(np.abs(np.rot90(expected, flip) - found).max() for flip in (0, 2 * quarters)) < 1e-3


def turned_by(degrees, size):
    """The first field drawn that turns by it; either direction, of 90 or 270."""
    for seed in range(100):
        fields = seeded(augment.random_affine, 50, (size, size), seed=seed)
        A = matrices(fields)
        angle = np.degrees(np.arctan2(A[:, 0, 1], A[:, 0, 0])) % 360
        fit = (np.linalg.det(A) > 0) & (np.abs(angle - degrees) < 0.01)
        if fit.any():
            return fields[np.flatnonzero(fit)[:1]]
    raise AssertionError(degrees)


@pytest.mark.parametrize("degrees", [45, 135, 225, 315])
def test_odd_multiples_of_45_degrees_are_scipys_rotation(degrees):
    size = 24
    x = images(1, 1, (size, size))
    u = turned_by(degrees, size)
    found = warp(x, u)[0, 0].numpy()
    away = [
        np.abs(ndimage.rotate(x[0, 0].numpy(), angle, reshape=False, order=1) - found) for angle in (degrees, -degrees)
    ]
    at = np.indices((size, size)) + u[0].numpy()
    inner = np.all((at > 0.01) & (at < size - 1.01), axis=0)
    assert 0.7 < inner.mean() < 0.9  # the corners come from outside
    assert min(a[inner].max() for a in away) < 1e-4
    outer = np.any((at < -0.01) | (at > size - 0.99), axis=0)
    assert not found[outer].any()


def test_affine_fields_repeat_with_the_seed_and_differ_without():
    a = seeded(augment.random_affine, 50, (8, 9))
    b = augment.random_affine(50, (8, 9))
    assert a.shape == (50, 2, 8, 9)
    assert a.dtype == torch.float32
    assert torch.equal(seeded(augment.random_affine, 50, (8, 9)), a)
    assert not torch.equal(a, b)
    assert augment.random_affine(0, (8, 9)).shape == (0, 2, 8, 9)


# ---- elastic ----


def control_of(fields):
    """The values in the corners, at the middles of the edges and in the centre; sizes are odd."""
    for axis, length in enumerate(fields.shape[2:], start=2):
        fields = fields.index_select(axis, torch.tensor([0, length // 2, length - 1]))
    return fields


@pytest.mark.parametrize("size", [(9, 15), (7, 5, 9)], ids=str)
@pytest.mark.parametrize("sd", [10.0, 2.5])
def test_nine_displacements_are_normal_and_independent(size, sd):
    n = 3000 // 3 ** (len(size) - 2)
    control = control_of(seeded(augment.random_elastic, n, size, sd)).flatten(1).double().numpy()
    assert control.shape == (n, len(size) * 3 ** len(size))
    assert stats.kstest(control.ravel(), stats.norm(scale=sd).cdf).pvalue > 1e-3
    correlation = np.corrcoef(control.T) - np.eye(control.shape[1])
    assert np.abs(correlation).max() < 5 / math.sqrt(n)


def test_ten_pixels_are_the_default():
    assert torch.equal(seeded(augment.random_elastic, 3, (8, 8)), seeded(augment.random_elastic, 3, (8, 8), 10.0))


@pytest.mark.parametrize("size", [(9, 15), (7, 5, 9)], ids=str)
def test_between_them_runs_scipys_cubic_spline(size):
    fields = seeded(augment.random_elastic, 2, size).double()
    points = np.meshgrid(*(np.linspace(0, 2, length) for length in size), indexing="ij")
    for field, control in zip(fields.numpy(), control_of(fields).numpy(), strict=True):
        for component, values in zip(field, control, strict=True):
            expected = ndimage.map_coordinates(values, points, order=3, mode="mirror")
            assert np.abs(component - expected).max() < 1e-3


def test_elastic_fields_repeat_with_the_seed_and_differ_without():
    a = seeded(augment.random_elastic, 4, (8, 10))
    b = augment.random_elastic(4, (8, 10))
    assert (a.shape, a.dtype) == ((4, 2, 8, 10), torch.float32)
    assert torch.equal(seeded(augment.random_elastic, 4, (8, 10)), a)
    assert not torch.equal(a, b)


# ---- contrast and brightness ----


def slopes(x, y):
    """c and b of every image, by least squares."""
    x, y = (t.flatten(1).double().numpy() for t in (x, y))
    fits = [np.polyfit(a, b, 1) for a, b in zip(x, y)]
    c = np.array([slope for slope, _ in fits])
    return c, y.mean(1) - x.mean(1)


@pytest.mark.parametrize("shape", [(5, 1, 9, 7), (5, 3, 4, 6), (3, 1, 4, 5, 6)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_contrast_then_brightness_is_numpys(shape, dtype):
    x = (3 * torch.rand(shape, generator=torch.Generator().manual_seed(0)) - 0.5).to(dtype)
    before = x.clone()
    y = seeded(augment.contrast_brightness, x)
    assert torch.equal(x, before)
    assert (y.dtype, y.shape) == (x.dtype, x.shape)
    c, b = slopes(x, y)
    for i, image in enumerate(x.double().numpy()):  # one mean of all channels, and one c and b
        expected = (image - image.mean()) * c[i] + image.mean() + b[i]
        assert np.abs(y[i].double().numpy() - expected).max() < 1e-5
    assert len({*c.round(6)}) == len({*b.round(6)}) == len(x)


def test_contrast_is_0_8_to_1_2_and_brightness_0_1_either_way():
    x = images(DRAWS, 1, (3, 4))
    c, b = slopes(x, seeded(augment.contrast_brightness, x))
    assert uniform(c, 0.8, 1.2)
    assert uniform(b, -0.1, 0.1)
    assert abs(np.corrcoef(c, b)[0, 1]) < 5 / math.sqrt(DRAWS)


def test_an_image_of_one_grey_value_only_changes_its_brightness():
    y = augment.contrast_brightness(torch.full((4, 1, 5, 6), 2.0))
    assert [len(image.unique()) for image in y] == [1] * 4
    assert (y - 2).abs().max() <= 0.1001


# ---- Mixup ----


def mixed(n=DRAWS, members=50, alpha=1.0):
    """Mixtures of unit vectors, which say what they are made of, and of labels alike."""
    return seeded(augment.mixup, torch.eye(members), 10 * torch.eye(members)[:, :, None], n, alpha)


def test_mixtures_are_of_two_members_drawn_anew():
    x, _ = mixed()
    assert x.shape == (DRAWS, 50)
    parts = (x > 0).sum(1)
    assert {*parts.tolist()} == {1, 2}
    assert (parts == 1).float().mean().item() == pytest.approx(1 / 50, abs=0.01)  # with itself
    assert torch.allclose(x.sum(1), torch.ones(DRAWS))
    assert stats.chisquare((x > 0).sum(0).numpy()).pvalue > 1e-3


def test_labels_are_mixed_as_images():
    x, y = mixed()
    assert torch.allclose(y[..., 0], 10 * x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("alpha", [1.0, 0.4, 0.1])
def test_shares_have_a_beta_distribution(alpha):
    """By the smaller of both: near 1 float32 has no digits for the other."""
    x, _ = mixed(2 * DRAWS, 2000, alpha)
    top = x.topk(2, 1).values
    edges = np.array([-1, 1e-6, 1e-3, 0.02, 0.1, 0.2, 0.35, 0.6])
    counts, _ = np.histogram(top[:, 1], edges)
    cdf = stats.beta(alpha, alpha).cdf(edges.clip(0, 0.5))
    expected = 2 * np.diff(cdf)
    keep = expected * len(x) > 5
    assert stats.chisquare(counts[keep], expected[keep] / expected[keep].sum() * counts[keep].sum()).pvalue > 1e-3
    assert counts[~keep].sum() <= 10


def test_the_release_s_alpha_is_the_default():
    x, y = images(4), images(4)
    a, b = (seeded(augment.mixup, x, y, 9, *alpha)[0] for alpha in ((), (0.1,)))
    assert torch.equal(a, b)
    assert not torch.equal(a, seeded(augment.mixup, x, y, 9, 0.2)[0])
    assert a.shape == (9, 1, 16, 16)


def test_mixup_leaves_what_it_mixes():
    x, y = images(4), images(4)
    augment.mixup(x, y, 4)
    assert torch.equal(x, images(4))
    assert torch.equal(y, images(4))


@pytest.mark.parametrize("types", [("float32", "float32"), ("float64", "float64"), ("float64", "float32")], ids=str)
def test_types_stay_under_mixing(types):
    x, y = (images(4, dtype=getattr(torch, name)) for name in types)
    assert tuple(str(t.dtype) for t in augment.mixup(x, y, 5)) == tuple(f"torch.{name}" for name in types)


# ---- loss ----


def soft(shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(shape[1], 0.5), (shape[0], *shape[2:])).transpose(0, -1, *range(1, len(shape) - 1))


@pytest.mark.parametrize("shape", [(3, 4, 5, 7), (2, 3, 4, 3, 5), (6, 5)], ids=str)
def test_weighted_cross_entropy_of_soft_labels_one_pixel_at_a_time(shape):
    """The weight of a pixel is that of its label, which multiplies all of its cross-entropy."""
    rng = np.random.default_rng(1)
    logits, y, weights = rng.normal(0, 3, shape), soft(shape), rng.uniform(0, 1, shape[1])
    total, pixels = 0.0, 0
    for n in range(shape[0]):
        for at in np.ndindex(*shape[2:]):
            z, t = logits[(n, slice(None), *at)], y[(n, slice(None), *at)]
            p = np.exp(z) / np.exp(z).sum()
            weight = sum(w * share for w, share in zip(weights, t))
            total += weight * -sum(share * math.log(q) for share, q in zip(t, p))
            pixels += 1
    loss = weighted_cross_entropy(torch.from_numpy(logits), torch.from_numpy(y), weights.tolist())
    assert loss.shape == ()
    assert loss.item() == pytest.approx(total / pixels, rel=1e-9)


def test_weighted_cross_entropy_of_hard_labels_is_torchs_averaged_over_pixels_not_over_weights():
    rng = np.random.default_rng(0)
    logits, y = torch.from_numpy(rng.normal(size=(3, 4, 6, 5))), torch.from_numpy(rng.integers(0, 4, (3, 6, 5)))
    weights = torch.tensor([0.1, 0.3, 0.3, 0.2]).double()
    one_hot = F.one_hot(y, 4).movedim(-1, 1).double()
    found = weighted_cross_entropy(logits, one_hot, weights)
    per_pixel = F.cross_entropy(logits, y, weights, reduction="none")
    assert found.item() == pytest.approx(per_pixel.mean().item(), rel=1e-9)
    by_weights = F.cross_entropy(logits, y, weights)  # torch divides by the sum of the weights
    assert found.item() == pytest.approx((by_weights * weights[y].sum() / y.numel()).item(), rel=1e-9)
    alike = weighted_cross_entropy(logits, one_hot, [1, 1, 1, 1])
    assert alike.item() == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-9)


def test_weighted_cross_entropy_on_paper():
    """Two pixels, two classes: logits 0 and log 3."""
    logits = torch.tensor([0.0, math.log(3)]).reshape(1, 2, 1, 1).expand(-1, -1, 1, 2)
    y = torch.tensor([[[[1.0, 0.5]], [[0.0, 0.5]]]])
    first, second = 0.1 * math.log(4), 0.2 * (math.log(4) + math.log(4 / 3)) / 2
    assert weighted_cross_entropy(logits, y, [0.1, 0.3]).item() == pytest.approx((first + second) / 2, rel=1e-6)


def test_a_class_of_weight_0_has_no_gradient_where_it_is_certain():
    """As the paper words it, the background does not count in the end."""
    y = F.one_hot(torch.tensor([[[0, 1], [2, 0]]]), 3).movedim(-1, 1).float()
    logits = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weighted_cross_entropy(logits, y, [0.0, 0.3, 0.3]).backward()
    assert logits.grad.abs().amax(1)[0].gt(0).tolist() == [[False, True], [True, False]]


def test_weighted_cross_entropy_has_a_gradient_in_the_labels_too():
    rng = np.random.default_rng(0)
    logits, y = torch.from_numpy(rng.normal(size=(2, 3, 2, 2))), torch.from_numpy(soft((2, 3, 2, 2)).copy())
    arguments = logits.requires_grad_(), y.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: weighted_cross_entropy(a, b, [0.1, 0.3, 0.2]), arguments)


def test_weighted_cross_entropy_of_large_logits_is_finite():
    logits = torch.tensor([[1e4], [-1e4]]).T.reshape(1, 2, 1).requires_grad_()
    loss = weighted_cross_entropy(logits, torch.tensor([[[0.0], [1.0]]]), [0.1, 0.3])
    loss.backward()
    assert loss.item() == pytest.approx(0.3 * 2e4)
    assert torch.isfinite(logits.grad).all()


# ---- score ----


@pytest.mark.parametrize("shape", [(40,), (6, 9), (5, 8, 7)], ids=str)
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_dice_is_scikit_learns_f1_of_all_pixels_together(shape, dtype):
    rng = np.random.default_rng(0)
    prediction, truth = (torch.from_numpy(rng.choice(4, shape, p=[0.5, 0.25, 0.15, 0.1])) for _ in range(2))
    found = dice(prediction, truth.to(dtype), 4)
    assert found == pytest.approx(f1_score(truth.flatten(), prediction.flatten(), labels=[1, 2, 3], average=None))
    assert all(type(value) is float for value in found)
    assert dice(truth, truth, 4) == [1, 1, 1]


def test_dice_is_of_the_volume_and_not_a_mean_over_slices():
    truth = torch.tensor([[[1, 1, 1, 1]], [[1, 0, 0, 0]]])
    prediction = torch.tensor([[[1, 1, 1, 1]], [[0, 1, 0, 0]]])
    assert dice(prediction, truth, 2) == [2 * 4 / (5 + 5)]


def test_dice_of_what_is_in_neither_map_is_1_and_of_what_is_in_one_0():
    truth = torch.tensor([[0, 1, 1, 0], [0, 4, 0, 0]])
    prediction = torch.tensor([[0, 1, 0, 0], [2, 0, 0, 0]])
    assert dice(prediction, truth, 5) == [2 / 3, 0, 1, 0]
    assert dice(truth, prediction, 5) == [2 / 3, 0, 1, 0]
