"""The augmentation of half-slices, against SciPy where draws are fixed, and by what can be read off the outcome."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from fewlabels.augment import slices as augment_slices
from fewlabels.augment.slices import slice_augment

SIZE = (48, 24)


def batch(n=6, channels=3, size=SIZE, dtype=torch.float32):
    """Smooth images in [-0.6, 0.6]."""
    noise = torch.rand(n, channels, *size, generator=torch.Generator().manual_seed(0)).numpy() - 0.5
    smooth = ndimage.gaussian_filter(noise, (0, 0, 2, 2))
    return torch.as_tensor(0.6 * smooth / np.abs(smooth).max(), dtype=dtype)


def seeded(*arguments, seed=0, **settings):
    torch.manual_seed(seed)
    return slice_augment(*arguments, **settings)


def coordinates(n, size=SIZE):
    """Images that say where each pixel came from: rows, then columns, scaled to [-0.5, 0.5]."""
    at = torch.stack(torch.meshgrid(*(torch.linspace(-0.5, 0.5, s, dtype=torch.float64) for s in size), indexing="ij"))
    return at.expand(n, -1, -1, -1).clone()


@pytest.fixture
def still(monkeypatch):
    """No shift of intensities: its draws, and only those, are of four axes."""
    real = augment_slices._uniform
    monkeypatch.setattr(augment_slices, "_uniform", lambda x, *shape: real(x, *shape) * (len(shape) < 4))


# ---- the transform ----


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("size", [SIZE, (60, 30)])
def test_is_scipys_with_the_same_draws(order, size):
    """The draws repeated in their order; the field made by hand; map_coordinates does the rest."""
    x, masks = batch(5, 2, size, torch.float64), batch(5, 1, size)[:, 0] > 0.1
    y, moved = seeded(x, masks, order=order, seed=7)
    torch.manual_seed(7)
    kind, n = {"dtype": torch.float64}, len(x)
    angle = np.radians(3) * (2 * torch.rand(n, **kind) - 1).numpy()
    flip = np.where(torch.rand(n, 2).numpy() < 0.5, -1, 1)
    zoom = 1 + 0.1 * (2 * torch.rand(n, 2, **kind) - 1).numpy()
    points = 5 * size[0] / 240 * torch.randn(n, 2, 3, 3, **kind).numpy()
    shift = 0.1 * (2 * torch.rand(n, 2, 1, 1, **kind) - 1).numpy()
    centre = (np.array(size) - 1) / 2
    q = np.indices(size).reshape(2, -1) - centre[:, None]
    ring = np.pad(points, [(0, 0), (0, 0), (1, 1), (1, 1)])
    for i in range(n):
        c, s = np.cos(angle[i]), np.sin(angle[i])
        at = np.array([[c, -s], [s, c]]) @ (q * (zoom[i] * flip[i])[:, None]) + centre[:, None]
        on_grid = (q + centre[:, None]) * (4 / (np.array(size) - 1))[:, None]
        at = at + [ndimage.map_coordinates(p, on_grid, order=3, mode="mirror") for p in ring[i]]
        for channel in range(2):
            values = ndimage.map_coordinates(x[i, channel].numpy(), at, order=order, mode="mirror").reshape(size)
            assert_close(y[i, channel].numpy() - shift[i, channel, 0, 0], values, order)
        values = ndimage.map_coordinates(masks[i].float().numpy(), at, order=0, mode="mirror").reshape(size)
        assert (moved[i].numpy() == values).mean() > 0.995  # halfway between two pixels either may be taken


def assert_close(found, values, order):
    """But where the shifted image was clipped to its range."""
    difference = np.abs(found - values)
    assert np.quantile(difference, 0.9) < 1e-6 if order else np.mean(difference < 1e-6) > 0.9


def test_masks_follow_their_images(still):
    masks = batch(8, 1)[:, 0] > 0.05
    for order in (0, 1):
        images, moved = seeded(masks[:, None].float() - 0.5, masks, order=order)
        assert (moved.dtype, moved.shape) == (torch.bool, masks.shape)
        agreement = ((images[:, 0] > 0) == moved).float().mean()
        assert agreement == 1 if order == 0 else agreement > 0.97
    labels = torch.randint(0, 5, (8, *SIZE))
    _, moved = seeded(batch(8), labels)
    assert moved.dtype == torch.int64
    assert set(moved.unique().tolist()) <= set(range(5))
    torch.testing.assert_close(seeded(batch(8), labels)[0], seeded(batch(8)), rtol=0, atol=0)


def test_flips_each_way_with_probability_one_half(still):
    """A place that was on top comes from below, or does not."""
    y = seeded(coordinates(400))
    down = y[:, 0, -1].mean(1) < y[:, 0, 0].mean(1)
    across = y[:, 1, :, -1].mean(1) < y[:, 1, :, 0].mean(1)
    for flipped in (down, across, down ^ across):
        assert 0.42 < flipped.float().mean() < 0.58


def test_rotation_and_zoom_have_their_ranges(still):
    """Without a warp: the slopes of the coordinates are the matrix."""
    y = seeded(coordinates(500, (60, 30)), sd=0.0)[:, :, 20:40, 10:20]
    scale = torch.tensor([59.0, 29.0]).reshape(1, 2, 1, 1)
    along = torch.stack([(y * scale).diff(dim=2).mean((2, 3)), (y * scale).diff(dim=3).mean((2, 3))], 2)
    zoom = along.square().sum(1).sqrt()
    assert zoom.min() > 0.9 - 1e-6
    assert zoom.max() < 1.1 + 1e-6
    assert zoom.min(0).values.max() < 0.91
    assert zoom.max(0).values.min() > 1.09
    assert abs(np.corrcoef(zoom.T.numpy())[0, 1]) < 0.15  # an own zoom for each axis
    angle = torch.rad2deg(torch.atan(along[:, 1, 0] / along[:, 0, 0]))
    assert 2.9 < angle.abs().max() <= 3.0 + 1e-6
    assert abs(float(angle.mean())) < 0.3
    assert y.diff(n=2, dim=2).abs().max() < 1e-6  # straight lines stay straight


def test_warp_is_anchored_at_the_border_and_of_the_size_asked(still, monkeypatch):
    """With the affine part taken out, the pixels of the border come from themselves; control points move by sd."""
    monkeypatch.setattr(augment_slices, "_uniform", lambda x, *shape: torch.zeros(shape, dtype=x.dtype))
    size, moved = (49, 25), {}
    scale = torch.tensor([48.0, 24.0]).reshape(1, 2, 1, 1)
    for sd in (None, 0.5):
        y = seeded(coordinates(300, size), sd=sd)
        for axis in (2, 3):  # flips undone
            back = y[:, axis - 2].select(axis - 1, 0).mean(1) > 0  # what comes first is from the far end
            y[back] = y[back].flip(axis)
        shift = (y - coordinates(300, size)) * scale
        border = torch.cat([shift[:, :, [0, -1]].flatten(2), shift[:, :, :, [0, -1]].flatten(2)], 2)
        assert border.abs().max() < 1e-6
        moved[sd] = float(shift[:, :, 12:37:12, 6:19:6].std())
    assert moved[0.5] == pytest.approx(0.5, rel=0.05)
    assert moved[None] == pytest.approx(5 * 49 / 240, rel=0.05)


# ---- intensities ----


def test_each_channel_is_shifted_within_its_images_range():
    x = torch.full((200, 2, 8, 8), 0.0, dtype=torch.float64)
    x[:, 0], x[:, 1] = 0.5, -0.5
    y = seeded(x, sd=0.0)
    assert (y == y[:, :, :1, :1]).all()
    assert (y[:, 0] <= 0.5).all()  # the image's own greatest value
    assert (y[:, 1] >= -0.5).all()
    down, up = 0.5 - y[:, 0, 0, 0], y[:, 1, 0, 0] + 0.5
    assert 0.095 < max(down.max(), up.max()) <= 0.1
    assert 0.4 < (down > 0).double().mean() < 0.6
    assert abs(np.corrcoef(down, up)[0, 1]) < 0.2  # an own shift for each channel


def test_outcome_is_clipped():
    y = seeded(5 * batch())
    assert (y.min(), y.max()) == (-1, 1)


def test_outside_is_mirrored():
    """Nothing is filled in: an image without zeros has none afterwards."""
    x = batch() * 0.1 + 0.5
    for order in (0, 1):
        assert seeded(x, order=order).min() >= x.min()


# ---- the batch ----


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 4, 60, 30), (1, 1, 16, 8), (2, 2, 31, 17)], ids=str)
def test_type_shape_and_input_stay(shape, dtype):
    x = batch(*shape[:2], shape[2:], dtype)
    before = x.clone()
    y = slice_augment(x)
    assert (y.dtype, y.shape, y.device) == (x.dtype, x.shape, x.device)
    assert torch.equal(x, before)
    assert torch.isfinite(y).all()
    assert not torch.equal(y, x)


def test_torchs_dice_decide():
    x = batch()
    first = seeded(x)
    assert not torch.equal(slice_augment(x), first)
    np.random.seed(1)  # noqa: NPY002
    assert torch.equal(seeded(x), first)
    same = seeded(x[:1].expand(6, -1, -1, -1))
    assert not any(torch.equal(same[0], other) for other in same[1:])  # each image on its own
