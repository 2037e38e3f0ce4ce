"""Sliding windows against a loop over voxels, in NumPy."""

from itertools import product

import numpy as np
import pytest
import torch

from fewlabels.scores.sliding import sliding_window

CASES = [  # volume, window, stride, predictions
    ((7, 9, 8), (4, 5, 3), (2, 3, 2), 3 * 3 * 4),
    ((7, 9, 8), (4, 5, 3), (4, 5, 3), 2 * 2 * 3),
    ((8, 10, 9), (4, 5, 3), (4, 5, 3), 2 * 2 * 3),  # as many windows as if they had to tile it
    ((5, 6, 7), (5, 6, 7), (1, 1, 1), 1),
    ((3, 9, 2), (4, 5, 3), (2, 5, 3), 1 * 2 * 1),
    ((2, 1, 2), (6, 4, 3), (3, 2, 1), 1),
    ((11, 6), (4, 4), (3, 1), 4 * 3),
]


def volume(size, channels=2):
    return torch.rand(channels, *size, generator=torch.Generator().manual_seed(0))


def uneven(batch):
    """Three classes that depend on the window's content, channel and the place in it, so that windows disagree."""
    place = torch.linspace(0, 1, batch[0, 0].numel()).reshape(batch.shape[2:])
    mean = batch.flatten(1).mean(1).reshape(-1, *[1] * (batch.ndim - 2))
    a = 0.3 * batch[:, 0] + 0.2 * place
    b = 0.3 * batch[:, -1] * mean
    return torch.stack([a, b, 1 - a - b], 1)


def voxel_by_voxel(predict, volume, window, stride):
    """For every voxel the mean over all windows that contain it."""
    size = volume.shape[1:]
    padded = volume.numpy()
    for axis, w in enumerate(window, start=1):
        while padded.shape[axis] < w:
            padded = np.concatenate([padded, np.take(padded, [-1], axis)], axis)
    starts = []
    for n, w, s in zip(padded.shape[1:], window, stride):
        here, a = [], 0
        while a + w < n:
            here.append(a)
            a += s
        starts.append([*here, n - w])
    of_window = {}
    for corner in product(*starts):
        part = padded[(slice(None), *(slice(a, a + w) for a, w in zip(corner, window)))]
        of_window[corner] = predict(torch.from_numpy(part.copy())[None])[0].double().numpy()
    classes = len(next(iter(of_window.values())))
    result = np.full((classes, *size), np.nan)
    for q in np.ndindex(*size):
        seen = []
        for corner, p in of_window.items():
            inside = [i - a for i, a in zip(q, corner)]
            if all(0 <= i < w for i, w in zip(inside, window)):
                seen.append(p[(slice(None), *inside)])
        result[(slice(None), *q)] = np.mean(seen, axis=0)
    return result


@pytest.mark.parametrize(("size", "window", "stride", "count"), CASES, ids=str)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_probabilities_are_means_over_the_windows_that_cover_a_voxel(size, window, stride, count, batch_size):
    x, batches = volume(size), []

    def predict(batch):
        batches.append(len(batch))
        assert batch.shape[1:] == (2, *window)
        return uneven(batch)

    before = x.clone()
    found = sliding_window(predict, x, window, stride, batch_size)
    assert found.shape == (3, *size)
    assert np.abs(found.numpy() - voxel_by_voxel(uneven, x, window, stride)).max() < 1e-6
    assert torch.allclose(found.sum(0), torch.ones(size))
    assert sum(batches) == count
    assert max(batches) <= batch_size
    assert torch.equal(x, before)


@pytest.mark.parametrize(("size", "window", "stride", "count"), CASES, ids=str)
def test_a_pointwise_prediction_and_a_constant_come_back_to_the_last_bit(size, window, stride, count):
    def pointwise(batch):
        return torch.cat([batch / 3, 1 - batch], 1)

    x = volume(size)
    assert torch.equal(sliding_window(pointwise, x, window, stride), pointwise(x[None])[0])
    shares = torch.tensor([0.1, 0.7, 0.2]).reshape(3, *[1] * len(size))
    constant = sliding_window(lambda batch: shares.expand(len(batch), 3, *window), x, window, stride)
    assert torch.equal(constant, shares.expand(3, *size))


def test_four_windows_a_batch_are_the_default_and_types_stay():
    batches = []

    def predict(batch):
        batches.append(len(batch))
        return batch

    x = volume((7, 9, 8)).double()
    found = sliding_window(predict, x, (4, 5, 3), (4, 5, 3))
    assert batches == [4, 4, 4]
    assert found.dtype == torch.float64


def test_a_small_volume_is_continued_with_its_borders_values():
    seen = []

    def predict(batch):
        seen.append(batch)
        return batch

    x = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    found = sliding_window(predict, x, (3, 4), (1, 1))
    assert seen[0].tolist() == [[[[1, 2, 2, 2], [3, 4, 4, 4], [3, 4, 4, 4]]]]
    assert torch.equal(found, x)


def test_nothing_has_a_gradient():
    layer = torch.nn.Conv3d(2, 3, 1)
    assert not sliding_window(layer, volume((4, 5, 6)), (4, 4, 4), (2, 2, 2)).requires_grad


@pytest.mark.parametrize(
    ("window", "stride"),
    [((4, 5), (2, 3, 2)), ((4, 5, 3), (2, 3)), ((4, 5, 3), (2, 6, 2)), ((4, 5, 3), (0, 3, 2)), ((0, 5, 3), (1, 3, 2))],
)
def test_lengths_that_leave_gaps_or_do_not_fit_are_refused_in_one_line(window, stride):
    with pytest.raises(ValueError, match="1 <= stride <= window") as error:
        sliding_window(uneven, volume((7, 9, 8)), window, stride)
    assert str(error.value).endswith(f"found window {window}, stride {stride}")


@pytest.mark.parametrize("wrong", [lambda b: b[:, :, 1:], lambda b: b[:1], lambda b: b.flatten(2)])
def test_predictions_of_another_shape_are_refused_in_one_line(wrong):
    with pytest.raises(ValueError, match=r"expected predictions \(4, classes, 4, 5, 3\), found"):
        sliding_window(wrong, volume((7, 9, 8)), (4, 5, 3), (2, 3, 2))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_volume_on_the_gpu_stays_there():
    x = volume((7, 9, 8))
    found = sliding_window(lambda batch: batch, x.cuda(), (4, 5, 3), (2, 3, 2))
    assert found.is_cuda
    assert torch.equal(found.cpu(), x)
