"""nnU-Net's augmentation through batchgenerators against SciPy, and against where a patch's coordinates have gone."""

import math
import random

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from fewlabels.augment.nnunet import nnunet, settings

# ruff: noqa: NPY002 - the library draws from NumPy's global generator, and so must its oracle

pytest.importorskip("batchgenerators", reason="needs batchgenerators")

SIZES = [(12, 17, 15), (22, 27)]


def seeded(*arguments, seed=0, **options):
    torch.manual_seed(seed)
    return nnunet(*arguments, **options)


def patches(size, n=3, channels=2):
    g = torch.Generator().manual_seed(1)
    return torch.rand(n, channels, *size, generator=g), torch.randint(5, (n, *size), generator=g)


def of_coordinates(size, n=20, scale=1e4):
    """A channel for each axis that holds the voxel's index times a scale, to which noise is nothing."""
    index = torch.stack(torch.meshgrid(*(torch.arange(float(length)) for length in size), indexing="ij"))
    return scale * index.expand(n, *index.shape), scale


RANGES = {  # alpha, sigma, angle, scale; chances of these three, of gamma and of noise
    "class defaults": ((0, 1000), (10, 13), (0, 2 * math.pi), (0.75, 1.25), 1, 1, 1),
    "v1": ((0, 900), (9, 13), (-math.pi / 12, math.pi / 12), (0.85, 1.25), 0.2, 0.3, 0.1),
}


def with_scipy(images, labels, crop, full, policy="class defaults"):
    """What the library's code comes to, from the same draws of its two generators; and how often each was drawn."""
    v1 = policy == "v1"
    alphas, sigmas, angles, (least, most), chance, chance_gamma, chance_noise = RANGES[policy]
    dims, out, out_labels, drawn = len(crop), [], [], dict.fromkeys(("elastic", "turn", "scale", "gamma", "noise"), 0)

    def draw(what, chance):
        applied = np.random.uniform() < chance
        drawn[what] += applied
        return applied

    def on_either_side_of_1(least, most):
        return np.random.uniform(least, 1) if np.random.random() < 0.5 else np.random.uniform(1, most)

    for image, label in zip(images, labels):
        at = np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in crop), indexing="ij"))
        before = sum(drawn.values())
        if draw("elastic", chance):
            alpha, sigma = np.random.uniform(*alphas), np.random.uniform(*sigmas)
            noises = [np.random.random(crop) * 2 - 1 for _ in crop]
            at = at + [alpha * ndimage.gaussian_filter(noise, sigma, mode="constant") for noise in noises]
        if draw("turn", chance):
            turned = np.eye(dims)
            for axis in range(3 if dims == 3 else 1):
                np.random.uniform()  # whether about this axis: always
                angle = np.random.uniform(*angles)
                c, s = math.cos(angle), math.sin(angle)
                others = [i for i in range(dims) if dims == 2 or i != axis]
                sign = -1 if axis == 1 else 1  # right-handed: the second axis turns the third to the first
                about = np.eye(dims)
                about[np.ix_(others, others)] = [[c, -sign * s], [sign * s, c]]
                turned = turned @ about
            at = np.einsum("i...,ij->j...", at, turned)
        if draw("scale", chance):
            at = at * on_either_side_of_1(least, most)
        if sum(drawn.values()) == before:
            middle = tuple(slice((n - c) // 2, (n - c) // 2 + c) for n, c in zip(label.shape, crop))
            out.append(image[(slice(None), *middle)])
            out_labels.append(label[middle])
            continue
        at = at + np.reshape([n / 2 - 0.5 for n in label.shape], (-1, *[1] * dims))
        mode = "constant" if v1 else "nearest"
        out.append([ndimage.map_coordinates(channel.astype(float), at, order=3, mode=mode) for channel in image])
        if v1:
            shares = [ndimage.map_coordinates((label == c).astype(float), at, order=1, cval=0) for c in range(5)]
            out_labels.append(np.argmax(shares, 0))
        else:
            out_labels.append(ndimage.map_coordinates(label, at, order=0, mode="constant", cval=0))
    out = np.array(out, np.float32)

    def gammas():
        for image in out:
            if draw("gamma", chance_gamma):
                for one in image if v1 else [image]:
                    gamma = on_either_side_of_1(*((0.7, 1.5) if v1 else (0.5, 2)))
                    low, span, mean, sd = one.min(), np.ptp(one), one.mean(), one.std()
                    one[...] = ((one - low) / span) ** gamma * span + low
                    if v1:
                        one[...] = (one - one.mean()) / one.std() * sd + mean

    def noises():
        for image in out:
            if draw("noise", chance_noise):
                sd = random.uniform(0, 0.1)
                for channel in image:
                    np.random.uniform()
                    channel += np.random.normal(0, sd, channel.shape)

    for step in ([noises] if v1 else []) + ([gammas] if full else []) + ([] if v1 else [noises]):
        step()
    return out, np.array(out_labels), drawn


@pytest.fixture(autouse=True)
def generators():
    """The oracle draws from the global generators too; the next test shall not notice."""
    before = np.random.get_state(), random.getstate()
    yield
    np.random.set_state(before[0])
    random.setstate(before[1])


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("smaller", [0, 5])
@pytest.mark.parametrize("full", [True, False])
def test_it_is_what_scipy_makes_of_the_same_draws(size, smaller, full):
    x, y = patches(size)
    crop = tuple(n - smaller for n in size)
    found, labels = seeded(x, y, full, **({"crop": crop} if smaller else {}), seed=3)
    torch.manual_seed(3)
    seed = int(torch.randint(2**32, ()))
    np.random.seed(seed)
    random.seed(seed)
    expected, expected_labels, _ = with_scipy(x.numpy(), y.numpy(), crop, full)
    assert np.abs(found.numpy() - expected).max() < 1e-4
    assert np.array_equal(labels.numpy(), expected_labels)


@pytest.mark.parametrize("smaller", [0, 5])
@pytest.mark.parametrize("full", [True, False])
def test_v1_is_what_scipy_makes_of_the_same_draws_in_nnunets_units(smaller, full):
    size = (12, 17, 15)
    x, y = patches(size, n=40)
    crop, unit = tuple(n - smaller for n in size), (0.4, 0.25)
    found, labels = seeded(x, y, full, crop, "v1", unit, seed=3)
    torch.manual_seed(3)
    seed = int(torch.randint(2**32, ()))
    np.random.seed(seed)
    random.seed(seed)
    mean, sd = unit
    expected, expected_labels, drawn = with_scipy(((x - mean) / sd).numpy(), y.numpy(), crop, full, "v1")
    assert np.abs((found.numpy() - mean) / sd - expected).max() < 1e-3
    assert (labels.numpy() == expected_labels).mean() > 0.999  # shares that are equal but for rounding
    assert all(0 < count < 20 for name, count in drawn.items() if full or name != "gamma")  # of 40: none is always on
    middle = x[(..., *(slice((n - c) // 2, (n - c) // 2 + c) for n, c in zip(size, crop)))]
    assert 8 < ((found - middle).abs().flatten(1).amax(1) < 1e-6).sum() < 32  # about half is left as it is


def test_noise_of_v1_is_in_units_of_the_labelled_voxels():
    """A tenth of the patches, with up to a tenth of the unit's sd, whatever the grey values."""
    x = torch.full((600, 1, 8, 9, 10), 0.7)
    moved, _ = seeded(x, torch.zeros(600, 8, 9, 10, dtype=torch.long), False, None, "v1", (0.7, 0.25))
    sd = moved.flatten(1).std(1).numpy()
    assert 35 < (sd > 1e-4).sum() < 90
    assert 0.02 < sd.max() < 0.026


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_labels_go_where_the_image_goes_by_the_nearest_voxel_and_are_0_outside(size):
    """Each voxel of the result tells by its grey values where it came from."""
    x, scale = of_coordinates(size)
    y = 1 + torch.randint(8, (len(x), *size), generator=torch.Generator().manual_seed(0))
    moved, labels = seeded(x, y, full=False)
    came_from = (moved / scale).double().numpy()
    ends = np.reshape(size, (-1, *[1] * len(size))) - 1
    inside = ((came_from > 3) & (came_from < ends - 3)).all(1)  # where the spline of the index is the index
    sure = inside & (np.abs(came_from % 1 - 0.5).min(1) > 0.01)  # and not halfway between two voxels
    assert sure.mean() > 0.08
    for one, label, source, here in zip(came_from, labels.numpy(), y.numpy(), sure):
        index = tuple(np.rint(one[:, here]).astype(int))
        assert np.array_equal(label[here], source[index])
    beyond = (labels == 0).numpy()  # where grey values go on as the border's
    at_border = ((came_from < 0.2) | (came_from > ends - 0.2)).any(1)
    assert beyond.mean() > 0.05
    assert at_border[beyond].all()


def affine_of(came_from, size):
    """The matrix of least squares from voxels to where they came from, and how far off it is."""
    grid = np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in size), indexing="ij")).reshape(len(size), -1)
    target = came_from.reshape(len(size), -1)
    keep = np.all([(t > 1) & (t < n - 2) for t, n in zip(target, size)], axis=0)
    design = np.concatenate([grid, np.ones((1, grid.shape[1]))])[:, keep]
    solution, *_ = np.linalg.lstsq(design.T, target[:, keep].T, rcond=None)
    return solution[:-1].T, np.sqrt(np.mean((design.T @ solution - target[:, keep].T) ** 2))


def test_scales_turns_and_deforms_every_patch_by_another_draw():
    size = (41, 41)
    x, scale = of_coordinates(size, 200)
    moved, _ = seeded(x, torch.zeros(200, *size, dtype=torch.long), full=False)
    fits = [affine_of(one, size) for one in (moved / scale).double().numpy()]
    deformed = np.array([rms for _, rms in fits])
    scales = np.array([math.sqrt(abs(np.linalg.det(matrix))) for matrix, _ in fits])
    angles = np.array([math.atan2(m[0, 1] - m[1, 0], m[0, 0] + m[1, 1]) % (2 * math.pi) for m, _ in fits])
    assert stats.kstest(angles, stats.uniform(0, 2 * math.pi).cdf).pvalue > 1e-3
    little = deformed < np.quantile(deformed, 0.2)  # where the elastic part hardly changes the scale
    assert 0.7 < scales[little].min() < 0.85
    assert 1.15 < scales[little].max() < 1.3
    assert deformed.min() < 0.2 < 1 < deformed.max()
    assert len({*angles.round(6)}) == 200


def test_full_has_a_gamma_from_a_half_to_2_and_reduce_has_none():
    """Read off the grey values that the same draws give without it."""
    ramp = torch.linspace(0, 1, 64).reshape(1, 1, 64, 1)
    x = torch.cat([ramp.expand(1, 1, 64, 64)] * 60) * 100
    y = torch.zeros(60, 64, 64, dtype=torch.long)
    reduced, full = (seeded(x, y, full=f)[0].flatten(1).double().numpy() / 100 for f in (False, True))
    gammas = []
    for a, b in zip(reduced, full):  # the same spatial draws, then gamma of the patch's own range
        low, span = a.min(), np.ptp(a)
        t = (a - low) / span
        middle = (t > 0.3) & (t < 0.7)
        gammas.append(np.median(np.log((b[middle] - b.min()) / np.ptp(b)) / np.log(t[middle])))
    assert 0.47 < min(gammas) < 0.65
    assert 1.6 < max(gammas) < 2.1
    assert 15 <= sum(g < 1 for g in gammas) <= 45


@pytest.mark.parametrize("full", [True, False])
def test_noise_has_a_standard_deviation_up_to_a_tenth_another_in_each_patch(full):
    """Of constant patches, which nothing else changes. The library calls it a variance."""
    x = torch.full((300, 1, 32, 32), 0.7)
    moved, _ = seeded(x, torch.zeros(300, 32, 32, dtype=torch.long), full)
    sd = moved.flatten(1).std(1).numpy()
    assert stats.kstest(sd, stats.uniform(0, 0.1).cdf).pvalue > 1e-3
    assert abs(moved.mean().item() - 0.7) < 1e-3


def test_what_it_does_is_said():
    turn = (0, 2 * math.pi)
    spatial = {
        "do_elastic_deform": True, "alpha": (0, 1000), "sigma": (10, 13), "p_el_per_sample": 1,
        "do_rotation": True, "angle_x": turn, "angle_y": turn, "angle_z": turn, "p_rot_per_sample": 1,
        "p_rot_per_axis": 1, "do_scale": True, "scale": (0.75, 1.25), "p_scale_per_sample": 1,
        "independent_scale_for_each_axis": False, "p_independent_scale_per_axis": 1,
        "border_mode_data": "nearest", "border_cval_data": 0, "order_data": 3,
        "border_mode_seg": "constant", "border_cval_seg": 0, "order_seg": 0, "seg_tiebreak": "nearest",
        "random_crop": False,
    }  # fmt: skip
    gamma = {"gamma_range": (0.5, 2), "invert_image": False, "per_channel": False, "retain_stats": False}
    noise = {"noise_variance": (0, 0.1), "p_per_channel": 1, "per_channel": False}
    full = {
        "SpatialTransform": spatial,
        "GammaTransform": gamma | {"p_per_sample": 1},
        "GaussianNoiseTransform": noise | {"p_per_sample": 1},
    }
    assert settings() == full
    assert list(settings()) == list(full)
    turn = (-math.radians(15), math.radians(15))
    v1 = {  # default_3D_augmentation_params of nnU-Net v1, and the noise of its moreDA
        "SpatialTransform": spatial | {
            "alpha": (0, 900), "sigma": (9, 13), "p_el_per_sample": 0.2, "p_rot_per_sample": 0.2, "scale": (0.85, 1.25),
            "p_scale_per_sample": 0.2, "border_mode_data": "constant", "order_seg": 1,
        } | dict.fromkeys(("angle_x", "angle_y", "angle_z"), pytest.approx(turn)),
        "GaussianNoiseTransform": noise | {"p_per_sample": 0.1},
        "GammaTransform": gamma | {"gamma_range": (0.7, 1.5), "per_channel": True, "retain_stats": True}
        | {"p_per_sample": 0.3},
    }  # fmt: skip
    assert settings(policy="v1") == v1
    assert list(settings(policy="v1")) == list(v1)
    assert "GammaTransform" not in settings(full=False, policy="v1")
    assert settings(full=False) == {name: full[name] for name in ("SpatialTransform", "GaussianNoiseTransform")}


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_it_is_a_function_of_torchs_state_and_leaves_the_other_generators_alone(size):
    x, y = patches(size)
    before = x.clone(), y.clone()
    np.random.seed(1)
    random.seed(1)
    a = seeded(x, y)
    drawn = np.random.random(), random.random()
    again = nnunet(x, y)
    np.random.seed(2)
    random.seed(2)
    b = seeded(x, y)
    other = seeded(x, y, seed=1)
    np.random.seed(1)
    random.seed(1)
    assert (np.random.random(), random.random()) == drawn
    for p, q in zip(a, b):
        assert torch.equal(p, q)
    for different in (again, other):
        assert not torch.equal(a[0], different[0])
        assert not torch.equal(a[1], different[1])
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])


def test_generators_are_put_back_when_the_library_fails(monkeypatch):
    def fail(self, **arrays):
        raise RuntimeError("no")

    before = np.random.get_state()[1].tolist(), random.getstate()
    monkeypatch.setattr("batchgenerators.transforms.color_transforms.GammaTransform.__call__", fail)
    with pytest.raises(RuntimeError, match="no"):
        nnunet(*patches((9, 8)))
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_types_and_sizes(dtype):
    x, y = patches((9, 14, 12))
    moved, labels = nnunet(x.to(dtype), y, crop=(6, 14, 7))
    assert (moved.dtype, moved.shape) == (torch.float32, (3, 2, 6, 14, 7))
    assert (labels.dtype, labels.shape) == (torch.int64, (3, 6, 14, 7))


@pytest.mark.parametrize(
    ("shape", "labels", "crop", "said"),
    [
        ((2, 1, 8, 9), (2, 1, 8, 9), None, r"labels: expected \(2, 8, 9\), found \(2, 1, 8, 9\)"),
        ((2, 1, 8, 9), (1, 8, 9), None, r"labels: expected \(2, 8, 9\), found \(1, 8, 9\)"),
        ((2, 1, 8, 9), (2, 8, 9), (8, 10), r"crop: .* within the patches' \(8, 9\), found \(8, 10\)"),
        ((2, 1, 8, 9), (2, 8, 9), (0, 9), r"crop: .* found \(0, 9\)"),
        ((2, 1, 8, 9), (2, 8, 9), (4, 4, 4), r"crop: .* found \(4, 4, 4\)"),
        ((2, 1, 8), (2, 8), None, r"crop: expected 2 or 3 lengths"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(shape, labels, crop, said):
    with pytest.raises(ValueError, match=said):
        nnunet(torch.zeros(shape), torch.zeros(labels, dtype=torch.long), crop=crop)


@pytest.mark.parametrize(("policy", "size"), [("v2", (8, 9, 9)), ("v1", (8, 9))])
def test_a_policy_that_is_none_or_not_for_2d_is_refused_in_one_line(policy, size):
    with pytest.raises(ValueError, match=rf"policy: .*found '{policy}' in {len(size)}-D"):
        nnunet(*patches(size), policy=policy)
