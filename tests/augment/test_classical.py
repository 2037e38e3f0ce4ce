"""Transforms of batches against NumPy, elasticdeform and what can be read off images that say where they come from."""

import elasticdeform
import numpy as np
import pytest
import torch
from oracles import angles_of, ramp
from scipy import stats

from fewlabels.augment import classical as augment

SIZE = (23, 29)


def batch(n=4, channels=3, size=SIZE, dtype=torch.float32, seed=0):
    return torch.rand(n, channels, *size, generator=torch.Generator().manual_seed(seed)).to(dtype)


def seeded(t, x, seed=0, **settings):
    torch.manual_seed(seed)
    return t(x, **settings)


def elastic(image, displacement=(0, 0), **settings):
    """One image (C, H, W) by elasticdeform, displaced everywhere alike."""
    control = np.broadcast_to(np.reshape(np.asarray(displacement, image.numpy().dtype), (2, 1, 1)), (2, 3, 3)).copy()
    return elasticdeform.deform_grid(image.numpy(), control, order=3, mode="constant", axis=(1, 2), **settings)


# ---- all of them ----

ALL = pytest.mark.parametrize("t", [augment.noise, augment.shift, augment.rotation], ids=lambda t: t.__name__)


@ALL
def test_torchs_dice_decide(t):
    x = batch()
    first = seeded(t, x)
    second = t(x)
    assert torch.equal(seeded(t, x), first)
    assert not torch.equal(second, first)
    assert not torch.equal(seeded(t, x, seed=1), first)
    np.random.seed(0)  # noqa: NPY002
    again = seeded(t, x)
    np.random.seed(1)  # noqa: NPY002
    assert torch.equal(seeded(t, x), again)


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 3, 23, 29), (1, 1, 32, 16), (2, 2, 7, 31)], ids=str)
def test_type_shape_and_input_stay(t, shape, dtype):
    x = batch(*shape[:2], shape[2:], dtype)
    before = x.clone()
    y = t(x)
    assert (y.dtype, y.shape, y.device) == (x.dtype, x.shape, x.device)
    assert torch.equal(x, before)
    assert torch.isfinite(y).all()
    assert not torch.equal(y, x)


@ALL
def test_images_of_a_batch_are_transformed_each_in_its_own_way(t):
    y = t(batch(1).expand(6, -1, -1, -1).contiguous())
    assert not [(i, j) for i in range(6) for j in range(i) if torch.equal(y[i], y[j])]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@ALL
def test_on_the_device_of_the_images(t):
    x = batch().cuda()
    y = seeded(t, x)
    assert (y.device, y.shape, y.dtype) == (x.device, x.shape, x.dtype)
    assert torch.equal(seeded(t, x), y)


# ---- noise ----


@pytest.mark.parametrize(("settings", "sd"), [({}, 0.1), ({"sd": 0.02}, 0.02)])
def test_noise_is_normal_with_its_sd(settings, sd):
    x = batch(4, 3, (64, 48), torch.float64)
    x[0, 0, 0, :2] = torch.tensor([-100.0, 100.0])  # nothing is clipped
    difference = (seeded(augment.noise, x, **settings) - x).flatten()[2:].numpy()
    assert difference.std() == pytest.approx(sd, rel=0.02)
    assert abs(difference.mean()) < 4 * sd / len(difference) ** 0.5
    assert stats.kstest(difference / sd, "norm").pvalue > 1e-3


def test_noise_has_a_draw_of_its_own_for_every_pixel_of_every_channel_and_image():
    x = torch.zeros(6, 3, 40, 50)
    x[0, 0, 0, :2] = torch.tensor([-9.0, 9.0])  # nothing is clipped
    y = seeded(augment.noise, x)[1:]
    assert len(y.unique()) > 0.99 * y.numel()
    for axis, n in enumerate(y.shape):
        a, b = y.narrow(axis, 0, n - 1), y.narrow(axis, 1, n - 1)
        assert abs(np.corrcoef(a.flatten(), b.flatten())[0, 1]) < 5 / a.numel() ** 0.5


def test_noise_is_clipped_to_the_range_of_the_batch():
    x = batch(2)
    x[0], x[1] = 0.3 + 0.1 * x[0], 0.5 + 0.2 * x[1]
    y = seeded(augment.noise, x)
    torch.manual_seed(0)
    added = torch.randn(x.shape).numpy()
    low, high = float(x.min()), float(x.max())
    np.testing.assert_allclose(y.numpy(), np.clip(x.numpy() + np.float32(0.1) * added, low, high), rtol=0, atol=1e-7)
    assert (y.min(), y.max()) == (x.min(), x.max())
    assert y[0].max() > x[0].max() + 0.1  # not of each image
    assert y[1].min() < x[1].min() - 0.1


# ---- shift ----


def places(n, size=SIZE):
    """Images whose channels are row + 1, column + 1 and a texture: what a pixel holds says where it was."""
    rows = torch.arange(1.0, size[0] + 1)[:, None].expand(size)
    columns = torch.arange(1.0, size[1] + 1)[None].expand(size)
    texture = batch(1, 1, size)[0, 0] + 0.5
    return torch.stack([rows, columns, texture]).expand(n, -1, -1, -1).contiguous()


def recovered(y):
    """(rows, columns) of each shifted image of `places`: one displacement for all pixels that are not 0."""
    found = []
    for image in y.round().long().numpy():
        q = np.argwhere(image[0] > 0)
        s = image[:2, q[:, 0], q[:, 1]].T - 1 - q
        assert (s == s[0]).all()
        found.append(s[0])
    return np.array(found)


def moved_by_hand(image, s):
    """y[q] = x[q + s], 0 outside, by padding and slicing."""
    rows, columns = image.shape[-2:]
    pad = np.abs(s).max()
    padded = np.pad(image, [(0, 0), (pad, pad), (pad, pad)])
    return padded[:, pad + s[0] : pad + s[0] + rows, pad + s[1] : pad + s[1] + columns]


@pytest.fixture(scope="module")
def shifted():
    return seeded(augment.shift, places(1500))


def test_shift_moves_whole_pixels_and_zeros_come_in(shifted):
    x = places(1)[0].numpy()
    for y, s in zip(shifted.numpy(), recovered(shifted), strict=True):
        np.testing.assert_array_equal(y, moved_by_hand(x, s))
        rolled = np.roll(x, -s, (1, 2))
        inner = [slice(max(0, -k), min(n, n - k)) for k, n in zip(s, SIZE, strict=True)]
        np.testing.assert_array_equal(y[:, *inner], rolled[:, *inner])
        assert (y == 0).sum() == 3 * (SIZE[0] * SIZE[1] - (SIZE[0] - abs(s[0])) * (SIZE[1] - abs(s[1])))


def test_shifts_are_uniform_from_minus_10_to_10_and_axes_independent(shifted):
    s = recovered(shifted)
    for axis in s.T:
        values, counts = np.unique(axis, return_counts=True)
        assert values.tolist() == [*range(-10, 11)]
        assert stats.chisquare(counts).pvalue > 1e-3
    table = np.histogram2d(*s.T, bins=7)[0]
    assert stats.chi2_contingency(table).pvalue > 1e-3
    assert np.mean(s[:, 0] == s[:, 1]) == pytest.approx(1 / 21, abs=0.025)
    assert len(np.unique(s, axis=0)) > 400  # of 441
    assert abs(np.corrcoef(s[1:, 0], s[:-1, 0])[0, 1]) < 0.1


@pytest.mark.parametrize("most", [0, 1, 3])
def test_the_furthest_shift_can_be_set(most):
    s = recovered(seeded(augment.shift, places(200), most=most))
    assert np.unique(s[:, 0]).tolist() == np.unique(s[:, 1]).tolist() == [*range(-most, most + 1)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shift_equals_elasticdeforms_splines(dtype):
    """The report's code: cubic splines and a displacement that is the same everywhere."""
    x = places(12).to(dtype)
    x[:, 2] = batch(12, 1)[:, 0]
    y = seeded(augment.shift, x)
    steps = recovered(y)
    assert len({*map(tuple, steps)}) > 8
    for image, ours, s in zip(x, y, steps, strict=True):
        theirs = elastic(image / 30, s) * 30
        rows, columns = (np.arange(n) + k for n, k in zip(SIZE, s, strict=True))
        on_edge = np.isin(rows, (0, SIZE[0] - 1))[:, None] | np.isin(columns, (0, SIZE[1] - 1))
        near = np.abs(theirs - ours.numpy()) / 30 <= 1e-5
        assert near[:, ~on_edge].all()
        assert (near | (theirs == 0)).all()  # by rounding elasticdeform takes some pixels on the edge for outside


# ---- rotation ----

ANGLES = (30.0, -45.0, 12.345, 0.25, 77.0, -120.0)


@pytest.mark.parametrize("backend", ["auto", "reference", "elasticdeform"])
@pytest.mark.parametrize("size", [(32, 32), (23, 30)], ids=str)
def test_rotate_is_elasticdeforms(size, backend):
    x = batch(len(ANGLES), 3, size)
    ours = augment.rotate(x, torch.tensor(ANGLES), backend=backend)
    theirs = np.stack([elastic(image, rotate=angle) for image, angle in zip(x, ANGLES, strict=True)])
    assert np.abs(ours.numpy() - theirs).max() <= 1e-5
    assert (theirs[:2] == 0).any()  # corners from outside


def test_rotate_by_nothing():
    x = batch()
    assert (augment.rotate(x, torch.zeros(4)) - x).abs().max() <= 1e-5


@pytest.mark.parametrize("quarters", [1, 2, -1])
def test_rotate_by_quarters_is_numpys_counterclockwise(quarters):
    x = batch(2, size=(20, 20), dtype=torch.float64)
    ours = augment.rotate(x, torch.full((2,), 90.0 * quarters, dtype=torch.float64)).numpy()
    expected = np.rot90(x.numpy(), quarters, (2, 3))
    np.testing.assert_allclose(ours[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], rtol=0, atol=1e-9)


def test_angles_of_a_batch_are_those_of_images_alone():
    x, degrees = batch(6), torch.tensor(ANGLES)
    together = augment.rotate(x, degrees)
    alone = [augment.rotate(x[i : i + 1], degrees[i : i + 1]) for i in range(6)]
    assert torch.equal(together, torch.cat(alone))


def test_the_angle_of_a_ramp():
    degrees = torch.tensor([0.0, 10.0, -33.0, 44.9], dtype=torch.float64)
    np.testing.assert_allclose(angles_of(augment.rotate(ramp(4), degrees)), degrees, atol=0.05)
    np.testing.assert_allclose(angles_of(torch.from_numpy(elastic(ramp(1)[0], rotate=20.0))[None]), 20, atol=0.05)


@pytest.mark.parametrize(("settings", "most"), [({}, 45), ({"most": 10.0}, 10)])
def test_rotation_draws_an_angle_for_each_image_uniformly(settings, most):
    angles = angles_of(seeded(augment.rotation, ramp(1000), **settings))
    assert most - 0.5 < angles.max() < most + 0.1
    assert -most - 0.1 < angles.min() < -most + 0.5
    assert stats.kstest(angles, stats.uniform(-most, 2 * most).cdf).pvalue > 1e-3
    assert len(np.unique(angles.round(6))) > 990
    assert abs(np.corrcoef(angles[1:], angles[:-1])[0, 1]) < 0.12


def test_rotation_turns_all_channels_of_an_image_alike():
    x = batch(5, 1).expand(-1, 3, -1, -1).contiguous()
    y = augment.rotation(x)
    assert torch.equal(y[:, 0], y[:, 1])
    assert torch.equal(y[:, 0], y[:, 2])
