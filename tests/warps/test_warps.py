"""The warp engine against SciPy, elasticdeform and pencil and paper; in float64 unless precision is the subject."""

import warnings

import elasticdeform
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fewlabels.warps import (
    BACKENDS,
    MODES,
    ORDERS,
    affine_field,
    align,
    compose,
    control_to_dense,
    gaussian_field,
    gaussian_field_rms,
    inside,
    invert,
    jacobian_determinant,
    random_control,
    warp,
)

SIZES = [(11, 16), (6, 9, 7)]  # never square
GRIDS = [((17, 12), (points, 9 - points)) for points in range(2, 8)] + [((7, 9, 6), (2, 4, 3))]
some_fields = settings(max_examples=15, deadline=None, derandomize=True)
seeds = st.integers(0, 2**16)


# Oracles ------------------------------------------------------------------------------------------------------------


def pull(image, field, order, mode, cval=0.0):
    """y[q] = x[q + u(q)] for one channel of one image, by SciPy."""
    at = np.indices(field.shape[1:]) + field
    if mode == "border":
        at = np.stack([a.clip(0, n - 1) for a, n in zip(at, image.shape, strict=True)])
        mode = "mirror"
    coefficients = ndimage.spline_filter(image, 3, mode="mirror") if order == 3 else image
    return ndimage.map_coordinates(coefficients, at, order=order, mode=mode, cval=cval, prefilter=False)


def pull_batch(x, u, order, mode, cval=0.0):
    images = [[pull(c, field, order, mode, cval) for c in image] for image, field in zip(x.numpy(), u.numpy())]
    return torch.from_numpy(np.array(images))


def residual(w, u1, u2):
    """|w(q) + u1(q + w(q)) - u2(q)| in pixels, linear interpolation, border continued: by SciPy."""
    return (w + pull_batch(u1, w, 1, "border") - u2).square().sum(1).sqrt()


# Inputs -------------------------------------------------------------------------------------------------------------


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rough_field(n, size, seed=1, reach=3):
    """Every coordinate at least 0.2 from an integer, many outside the image: no kink within reach of a difference."""
    whole = (noise(n, len(size), *size, seed=seed) * 2 * reach).floor() - reach
    return whole + 0.2 + 0.6 * noise(n, len(size), *size, seed=seed + 1)


def smooth_field(seed, peak, size=(40, 31), sigma=6, n=1):
    """Does not fold: its slope is about peak / sigma."""
    raw = np.random.default_rng(seed).normal(size=(n, len(size), *size))
    blurred = ndimage.gaussian_filter(raw, (0, 0) + (sigma,) * len(size), mode="reflect")
    return torch.from_numpy(blurred * peak / np.abs(blurred).max())


def interior(field, margin=8):
    return field[..., margin:-margin, margin:-margin]


def folding_field():
    return 6 * (2 * noise(2, 2, 18, 23, seed=5) - 1)


# The operator -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("mode", "cval"), [("constant", 0.7), ("mirror", 0.0)])
@pytest.mark.parametrize(("size", "points"), GRIDS, ids=str)
def test_values_and_image_gradient_are_elasticdeforms(size, points, mode, cval, order):
    x, dy = noise(2, 2, *size).requires_grad_(), noise(2, 2, *size, seed=1)
    control = 4 * noise(2, len(size), *points, seed=2) - 2
    y = warp(x, control_to_dense(control, size), order, mode, cval)
    y.backward(dy)

    how = {"order": order, "mode": mode, "cval": cval, "axis": tuple(range(1, len(size) + 1))}
    for i in range(2):
        expected = elasticdeform.deform_grid(x[i].detach().numpy(), control[i].numpy(), **how)
        gradient = elasticdeform.deform_grid_gradient(dy[i].numpy(), control[i].numpy(), **how)
        assert np.abs(y[i].detach().numpy() - expected).max() <= 1e-10
        assert np.abs(x.grad[i].numpy() - gradient).max() <= 1e-8


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("mode", "cval"), [("constant", 0.7), ("mirror", 0.0)])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_elasticdeform_backend_gives_the_same_values_and_image_gradients(size, mode, cval, order):
    u, dy = rough_field(2, size), noise(2, 3, *size, seed=9)
    ours, theirs = (noise(2, 3, *size).requires_grad_() for _ in range(2))
    y = warp(ours, u, order, mode, cval)
    z = warp(theirs, u, order, mode, cval, backend="elasticdeform")
    y.backward(dy)
    z.backward(dy)
    assert z.dtype == torch.float64
    assert (y - z).abs().max() <= 1e-10
    assert (ours.grad - theirs.grad).abs().max() <= 1e-8


def test_the_elasticdeform_backend_leaves_the_field_without_a_gradient():
    x, u = noise(1, 1, 5, 6).requires_grad_(), rough_field(1, (5, 6)).requires_grad_()
    warp(x, u, backend="elasticdeform").sum().backward()
    assert x.grad is not None
    assert u.grad is None


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_values_are_scipys(size, mode, order):
    x, u = noise(2, 2, *size), rough_field(2, size)
    assert (warp(x, u, order, mode, 0.3) - pull_batch(x, u, order, mode, 0.3)).abs().max() <= 1e-10


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
def test_coordinates_far_outside_are_handled_as_by_scipy(mode, order):
    x, u = noise(1, 1, 5, 8), rough_field(1, (5, 8), reach=60)
    assert (warp(x, u, order, mode, -1.0) - pull_batch(x, u, order, mode, -1.0)).abs().max() <= 1e-10


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", ["mirror", "border"])
def test_an_image_of_one_row_can_be_warped(mode, order):
    x, u = noise(1, 1, 1, 9), rough_field(1, (1, 9))
    row = pull_batch(x.repeat(1, 1, 4, 1), u.expand(-1, -1, 4, -1), order, mode)[:, :, :1]  # constant along the rows
    assert (warp(x, u, order, mode) - row).abs().max() <= 1e-10


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_image_gradient_is_the_exact_adjoint(size, mode, order):
    u, x, y = rough_field(2, size), noise(2, 2, *size), noise(2, 2, *size, seed=7)
    elsewhere = noise(2, 2, *size, seed=8).requires_grad_()
    warp(elsewhere, u, order, mode).backward(y)
    forward, adjoint = (pull_batch(x, u, order, mode) * y).sum(), (x * elsewhere.grad).sum()
    assert abs(forward - adjoint) <= 1e-12 * forward.abs()


def test_order_0_scatters_gradients_back_to_the_copied_pixels():
    u = rough_field(1, (6, 8)).clamp(-2.4, 2.4)
    dy, x = noise(1, 1, 6, 8, seed=3), noise(1, 1, 6, 8).requires_grad_()
    warp(x, u, order=0).backward(dy)
    expected = np.zeros((6, 8))
    for row, column in np.ndindex(6, 8):
        i, j = row + u[0, 0, row, column].item(), column + u[0, 1, row, column].item()
        if 0 <= i <= 5 and 0 <= j <= 7:
            expected[int(np.floor(i + 0.5)), int(np.floor(j + 0.5))] += dy[0, 0, row, column].item()
    assert np.allclose(x.grad[0, 0].numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(5, 6), (3, 4, 3)], ids=str)
def test_gradients_to_image_and_field_are_those_of_finite_differences(size, mode, order):
    x, u = noise(2, 2, *size).requires_grad_(), rough_field(2, size, reach=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, u: warp(x, u, order, mode, 0.4), (x, u))


def test_order_0_gives_the_field_no_gradient():
    x, u = noise(1, 1, 5, 6).requires_grad_(), rough_field(1, (5, 6)).requires_grad_()
    warp(x, u, order=0).sum().backward()
    assert u.grad is None or not u.grad.any()


def test_order_0_takes_ties_up():
    x = torch.arange(4.0)[None, None, None].repeat(1, 1, 2, 1)
    u = torch.zeros(1, 2, 2, 4)
    u[:, 1] = torch.tensor([0.5, 0.5, 0.5, -0.5])  # from 0.5, 1.5, 2.5, 2.5
    assert warp(x, u, order=0)[0, 0, 0].tolist() == [1, 2, 3, 3]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
@pytest.mark.parametrize("mode", MODES)
def test_order_0_keeps_dtype_and_labels(dtype, mode):
    labels = (noise(2, 1, 9, 13) * 6).to(dtype)
    u = rough_field(2, (9, 13))
    y = warp(labels, u, order=0, mode=mode, cval=9)
    assert y.dtype == dtype
    assert torch.equal(y.double(), pull_batch(labels.double(), u, 0, mode, 9))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_zero_field_is_the_identity(size, mode, order):
    x = noise(2, 2, *size)
    assert (warp(x, torch.zeros(2, len(size), *size, dtype=x.dtype), order, mode, 5.0) - x).abs().max() <= 1e-12


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(512, 400), (40, 64, 48)], ids=str)
def test_float32_stays_within_the_stated_error(size, mode, order):
    x, u = noise(1, 1, *size).float(), rough_field(1, size).float()
    y = warp(x, u, order, mode)
    assert y.dtype == torch.float32
    assert (y - warp(x.double(), u.double(), order, mode)).abs().max() <= 2e-5


def test_autocast_does_not_touch_the_precision():
    x, control = noise(1, 1, 64, 80).float(), 6 * noise(1, 2, 4, 5).float() - 3
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = warp(x, control_to_dense(control, (64, 80)), order=3, mode="mirror")
    assert (y - warp(x.double(), control_to_dense(control.double(), (64, 80)), 3, "mirror")).abs().max() <= 2e-5


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
def test_a_batch_is_warped_as_its_elements_alone(mode, order):
    x, u = noise(3, 2, 11, 16), rough_field(3, (11, 16))
    together = warp(x, u, order, mode)
    for i in range(3):
        assert (together[i : i + 1] - warp(x[i : i + 1], u[i : i + 1], order, mode)).abs().max() <= 1e-12


def test_inside_marks_coordinates_between_the_outer_pixel_centres():
    u = torch.zeros(1, 2, 3, 4)
    u[0, 0, 0, 0], u[0, 1, 0, 1], u[0, 1, 2, 3], u[0, 0, 2, 0] = -0.01, 2.0, 0.01, -2.0
    expected = [[False, True, True, True], [True] * 4, [True, True, True, False]]
    assert inside(u)[0].tolist() == expected
    assert inside(u, size=(2, 4))[0, 2].tolist() == [True, False, False, False]  # row 2 of an image of two rows


def test_matrices_first_made_under_inference_mode_serve_autograd_later():
    x, control = noise(1, 1, 10, 37), 2 * noise(1, 2, 3, 4)  # of a size that no other test has asked for
    with torch.inference_mode():
        expected = warp(x, control_to_dense(control, (10, 37)), order=3).clone()
        gaussian_field(1, (10, 37), 1.0, 2.0)
    x.requires_grad_()
    control.requires_grad_()
    y = warp(x, control_to_dense(control, (10, 37)), order=3)
    y.sum().backward()
    assert torch.equal(y.detach(), expected)
    assert x.grad.any()
    assert control.grad.any()


X, U = torch.zeros(2, 1, 5, 6), torch.zeros(2, 2, 5, 6)
BYTES = torch.ones_like(X, dtype=torch.uint8)
NAN = torch.full_like(U, 0.0).index_fill(3, torch.tensor(2), float("nan"))


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize(
    ("x", "u", "how", "message"),
    [
        (X, U, {"order": 2}, r"order: expected one of \(0, 1, 3\), found 2"),
        (X, U, {"mode": "nearest"}, r"mode: expected one of .*'border'.*, found 'nearest'"),
        (X, U, {"backend": "scipy"}, r"backend: expected one of .*'elasticdeform'.*, found 'scipy'"),
        (X, U[:1], {}, r"shapes: .*found \(2, 1, 5, 6\) and u \(1, 2, 5, 6\)"),
        (X, U[:, :1], {}, r"shapes: .*found \(2, 1, 5, 6\) and u \(2, 1, 5, 6\)"),
        (X[0], U[0], {}, r"shapes: .*found \(1, 5, 6\) and u \(2, 5, 6\)"),
        (X[:, :, None], U, {}, r"shapes: .*found \(2, 1, 1, 5, 6\) and u \(2, 2, 5, 6\)"),
        (X, U[..., :4], {}, r"size of u: expected the image's \(5, 6\), found \(5, 4\) .*control_to_dense"),
        (X, U.long(), {"order": 0}, r"dtype of u: expected floats, found torch.int64"),
        (X, U, {"mode": "border", "backend": "elasticdeform"}, r"expected 'constant' or 'mirror', found 'border'"),
        (X, NAN, {}, r"field u: expected finite displacements, found 20 others in \(2, 2, 5, 6\)"),
        (X, NAN / 0, {"order": 0}, r"field u: expected finite displacements, found"),
        (NAN[:, :1], U, {"order": 3}, r"image x: expected finite values .* \(n, channel\) \[\[0, 0\], \[1, 0\]\]"),
        ([X, X], U, {"order": [0, 1, 3]}, r"order, mode, cval: expected one or 2 each, found \[0, 1, 3\]"),
        (BYTES, U, {"order": 0, "cval": -1}, r"cval: expected a whole number from 0 to 255 \(torch.uint8\), found -1"),
        (BYTES, U, {"order": 0, "cval": 0.5}, r"cval: expected a whole number .* \(torch.uint8\), found 0.5"),
        (BYTES > 0, U, {"order": 0, "cval": 2}, r"cval: expected a whole number from 0 to 1 \(torch.bool\), found 2"),
        (X, U, {"crop": (slice(1, 3),)}, r"crop: expected 2 slices without steps, found \(slice"),
        (X, U, {"crop": (slice(0, 5, 2), slice(None))}, r"crop: expected 2 slices without steps"),
        (X, U, {"crop": (slice(4, 2), slice(None))}, r"crop: expected pixels of the field, found none"),
    ],
)
def test_what_does_not_belong_together_is_refused_by_name(x, u, how, message, backend):
    with pytest.raises(ValueError, match=message):
        warp(x, u, **{"backend": backend} | how)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cval_that_is_not_used_may_be_any(backend):
    x, u = (noise(1, 1, 9, 13) * 255).to(torch.uint8), rough_field(1, (9, 13))
    how = {"order": 0, "mode": "mirror", "backend": backend}
    assert torch.equal(warp(x, u, cval=-1, **how), warp(x, u, **how))


def test_fields_to_align_are_checked_too():
    for u1, u2, message in [
        (U, U[..., :4], r"size of u1: expected the image's \(5, 4\), found \(5, 6\)"),
        (U, U[:1], r"found \(1, 2, 5, 6\) and u1 \(2, 2, 5, 6\)"),
        (U, NAN, r"field u1 or u2: expected finite displacements"),
    ]:
        with pytest.raises(ValueError, match=message):
            align(u1, u2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_order_may_be_a_whole_float_and_a_batch_empty(backend):
    x, u = noise(2, 1, 9, 13), rough_field(2, (9, 13))
    assert torch.equal(warp(x, u, order=1.0, backend=backend), warp(x, u, order=1, backend=backend))
    none = x[:0].clone().requires_grad_()
    y = warp(none, u[:0], backend=backend)
    y.sum().backward()
    assert y.shape == none.grad.shape == (0, 1, 9, 13)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("order", [1, 3])
def test_an_integer_image_is_interpolated_in_float32_and_that_is_said(order, backend):
    x, u = (noise(1, 1, 9, 13) * 255).to(torch.uint8), rough_field(1, (9, 13))
    with pytest.warns(UserWarning, match=r"torch.uint8, is interpolated and returned in float32"):
        y = warp(x, u, order, backend=backend)
    assert y.dtype == torch.float32
    assert (y - pull_batch(x.double(), u, order, "constant")).abs().max() <= 1e-3


# Fields -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("points", "step"), [((3, 5), 4), ((2, 7), 3), ((4, 2, 3), 2)], ids=str)
def test_the_dense_field_takes_the_control_vectors_at_the_control_points(points, step):
    control = noise(2, len(points), *points)
    dense = control_to_dense(control, [(n - 1) * step + 1 for n in points])
    at_points = dense[(..., *[slice(None, None, step)] * len(points))]
    assert (at_points - control).abs().max() <= 1e-12


def test_the_outer_control_points_lie_on_the_corner_pixels_of_any_size():
    control = noise(1, 2, 4, 3)
    dense = control_to_dense(control, (23, 14))
    assert (dense[..., :: 23 - 1, :: 14 - 1] - control[..., ::3, ::2]).abs().max() <= 1e-12


def test_between_control_points_the_dense_field_is_scipys_cubic_spline():
    control = noise(1, 2, 4, 6)
    at = np.meshgrid(np.linspace(0, 3, 15), np.linspace(0, 5, 22), indexing="ij")
    expected = [ndimage.map_coordinates(c, at, order=3, mode="mirror") for c in control[0].numpy()]
    assert np.abs(control_to_dense(control, (15, 22))[0].numpy() - expected).max() <= 1e-12


def test_one_control_point_is_a_translation():
    dense = control_to_dense(torch.tensor([1.5, -2.0]).reshape(1, 2, 1, 1), (5, 8))
    assert torch.equal(dense, torch.tensor([1.5, -2.0]).reshape(1, 2, 1, 1).expand(1, 2, 5, 8))


def test_random_control_has_the_asked_spread_and_repeats_with_its_generator():
    control = random_control(2000, (2, 4), 3.0, torch.Generator().manual_seed(0))
    assert control.shape == (2000, 2, 2, 4)
    assert control.std().item() == pytest.approx(3, rel=0.02)
    assert control.mean().item() == pytest.approx(0, abs=0.1)
    assert torch.equal(control, random_control(2000, (2, 4), 3.0, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(("size", "sigma"), [((20, 31), 2.5), ((12, 9), 8), ((6, 9, 7), 1.5)], ids=str)
def test_the_gaussian_field_is_scipys_filter_of_the_same_noise(size, sigma):
    field = gaussian_field(2, size, 50, sigma, torch.Generator().manual_seed(3), dtype=torch.float64)
    uniform = 50 * (2 * noise(2, len(size), *size, seed=3).numpy() - 1)
    expected = ndimage.gaussian_filter(uniform, (0, 0) + (sigma,) * len(size), mode="reflect")
    assert np.abs(field.numpy() - expected).max() <= 1e-10


@pytest.mark.parametrize(("size", "sigma"), [((12, 20), 2), ((9, 14), 5), ((5, 8, 6), 1.5)], ids=str)
def test_the_stated_rms_of_gaussian_fields_is_the_measured_one(size, sigma):
    fields = gaussian_field(4000, size, 30, sigma, torch.Generator().manual_seed(0))
    assert fields.square().mean().sqrt().item() == pytest.approx(gaussian_field_rms(size, 30, sigma), rel=0.02)


def test_the_papers_fields_move_a_512_pixel_image_by_two_pixels():
    assert 2.1 < gaussian_field_rms((512, 512), 1000, 100) < 2.2
    # far from the borders it is alpha / sqrt(3) / (2 sqrt(pi) sigma): 1.63 px for the paper's figures
    assert gaussian_field_rms((4096, 4096), 1000, 10) == pytest.approx(1000 / 3**0.5 / (2 * np.pi**0.5 * 10), rel=0.01)


def test_a_quarter_turn_by_hand():
    turn = torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]])  # (row, column) -> (-column, row) about the centre
    x = torch.tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])
    assert affine_field(turn, (3, 3))[0, :, 0, 0].tolist() == [2, 0]  # (0, 0) fetches from (2, 0)
    assert warp(x[None, None], affine_field(turn, (3, 3)))[0, 0].tolist() == [[7, 4, 1], [8, 5, 2], [9, 6, 3]]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_affine_fields_do_what_scipys_affine_transform_does(size, order):
    x, d = noise(2, 1, *size), len(size)
    linear = np.eye(d) + 0.3 * np.random.default_rng(0).normal(size=(2, d, d))
    shift = np.random.default_rng(1).normal(size=(2, d))
    u = affine_field(torch.from_numpy(np.concatenate([linear, shift[..., None]], axis=2)), size)
    y, centre = warp(x, u, order), (np.array(size) - 1) / 2
    for i in range(2):
        offset = centre + shift[i] - linear[i] @ centre
        expected = ndimage.affine_transform(x[i, 0].numpy(), linear[i], offset, order=order)
        assert np.abs(y[i, 0].numpy() - expected).max() <= 1e-10


# Field algebra ------------------------------------------------------------------------------------------------------


def test_compose_is_exact_for_affine_maps_on_a_ramp():
    """Linear interpolation makes no error here, so that every pixel that stays inside must agree."""
    a = np.array([[0.9, 0.1, 0.5], [-0.1, 0.8, -1.0], [0, 0, 1]])
    b = np.array([[0.8, -0.2, 1.0], [0.1, 0.9, 0.3], [0, 0, 1]])
    size = (17, 24)
    u, v, both = (affine_field(torch.from_numpy(matrix[None, :2]), size) for matrix in (a, b, a @ b))
    rows, columns = np.indices(size)
    ramp = torch.from_numpy(2.0 * rows - 3.0 * columns)[None, None]

    stays = (inside(v) & inside(both))[:, None]
    assert stays.float().mean() > 0.6
    assert ((compose(u, v) - both) * stays).abs().max() <= 1e-10
    assert (warp(ramp, compose(u, v)) * stays - pull_batch(ramp, both, 1, "border") * stays).abs().max() <= 1e-10


@some_fields
@given(seeds, st.floats(0.2, 2))
def test_compose_equals_warping_twice_on_smooth_images(seed, peak):
    u, v = smooth_field(seed, peak), smooth_field(seed + 1, peak)
    x = smooth_field(seed + 2, 1, sigma=4)
    twice = warp(warp(x, u, order=3, mode="border"), v, order=3, mode="border")
    once = warp(x, compose(u, v), order=3, mode="border")
    assert interior(once - twice).abs().max() <= 0.02
    other_way_round = warp(x, compose(v, u), order=3, mode="border")
    if peak > 1:  # the order of the two matters, and is the stated one
        assert interior(other_way_round - twice).abs().max() > 2 * interior(once - twice).abs().max()


@some_fields
@given(seeds, st.floats(0.2, 2))
def test_compose_is_associative_up_to_interpolation(seed, peak):
    a, b, c = (smooth_field(seed + i, peak) for i in range(3))
    assert interior(compose(compose(a, b), c) - compose(a, compose(b, c))).abs().max() <= 0.05


@some_fields
@given(seeds, st.floats(0.2, 3))
def test_an_inverse_undoes_its_field(seed, peak):
    u = smooth_field(seed, peak)
    v, reported = invert(u, return_residual=True)
    measured = residual(v, u, torch.zeros_like(u))
    assert measured.max() <= 1e-4
    assert (measured - reported).abs().max() <= 1e-10
    assert compose(u, v).abs().max() <= 1e-4
    assert interior(compose(v, u)).abs().max() <= 0.1


def test_a_tighter_tolerance_gives_a_closer_inverse():
    u = smooth_field(0, 3)
    assert residual(invert(u, tolerance=1e-9), u, torch.zeros_like(u)).max() <= 1e-9


def test_the_inverse_of_an_affine_field_is_that_of_its_matrix():
    matrix = torch.tensor([[[1.05, 0.1, 0.6], [-0.08, 0.95, -0.4]]], dtype=torch.float64)
    full = np.vstack([matrix[0].numpy(), [0, 0, 1]])
    expected = affine_field(torch.from_numpy(np.linalg.inv(full)[None, :2]), (30, 41))
    assert interior(invert(affine_field(matrix, (30, 41)), tolerance=1e-10) - expected).abs().max() <= 1e-9


@pytest.mark.parametrize("factor", [1.5, 2.5, 6.0])
def test_an_expansion_on_which_undamped_steps_diverge_is_inverted(factor):
    u = affine_field(torch.tensor([[[factor, 0.2, 0.0], [0.1, factor, 0.0]]], dtype=torch.float64), (21, 30))
    assert residual(invert(u), u, torch.zeros_like(u)).max() <= 1e-4


def test_fields_can_be_inverted_in_3d():
    u = smooth_field(0, 1, size=(12, 17, 14), sigma=4, n=2)
    v, reported = invert(u, return_residual=True)
    assert reported.shape == (2, 12, 17, 14)
    assert residual(v, u, torch.zeros_like(u)).max() <= 1e-4


@some_fields
@given(seeds, st.floats(0.2, 2))
def test_align_is_the_inverse_of_the_first_then_the_second(seed, peak):
    u1, u2 = smooth_field(seed, peak), smooth_field(seed + 1, peak)
    w = align(u1, u2)
    assert residual(w, u1, u2).max() <= 1e-4
    assert interior(w - compose(invert(u1), u2)).abs().max() <= 0.05


@some_fields
@given(seeds)
def test_align_carries_frame_1_into_frame_2(seed):
    x, u1, u2 = smooth_field(seed, 1, sigma=4), smooth_field(seed + 1, 2), smooth_field(seed + 2, 2)
    x1, x2 = (pull_batch(x, u, 3, "border") for u in (u1, u2))
    error = interior(warp(x1, align(u1, u2), order=3) - x2).abs().max()
    assert error <= 0.02 < interior(x1 - x2).abs().max()


def test_align_of_a_field_with_itself_is_zero_and_from_the_identity_is_the_field():
    u = smooth_field(0, 2, n=2)
    assert torch.equal(align(u, u), torch.zeros_like(u))
    assert torch.equal(align(torch.zeros_like(u), u), u)


def test_align_gives_batch_elements_what_they_get_alone_to_tolerance():
    u1, u2 = smooth_field(0, 3, n=3), smooth_field(1, 1, n=3)
    together = align(u1, u2)
    for i in range(3):
        assert (together[i : i + 1] - align(u1[i : i + 1], u2[i : i + 1])).abs().max() <= 1e-3


def test_align_returns_a_detached_tensor_and_leaves_its_arguments_alone():
    u1, u2 = smooth_field(0, 2).requires_grad_(), smooth_field(1, 2).requires_grad_()
    before = u1.detach().clone(), u2.detach().clone()
    assert not align(u1, u2).requires_grad
    assert torch.equal(u1.detach(), before[0])
    assert torch.equal(u2.detach(), before[1])


def test_a_folding_field_warns_and_reports_where_its_inverse_is_wrong():
    u = folding_field()
    with pytest.warns(UserWarning, match="folds"):
        v, reported = invert(u, return_residual=True)
    measured = residual(v, u, torch.zeros_like(u))
    assert torch.isfinite(v).all()
    assert (measured - reported).abs().max() <= 1e-10
    assert reported.max() > 0.5


def test_damping_never_leaves_a_pixel_worse_than_the_first_guess():
    u = folding_field()
    with pytest.warns(UserWarning, match="folds"):
        v = invert(u)
    zero = torch.zeros_like(u)
    assert (residual(v, u, zero) <= residual(-u, u, zero) + 1e-10).all()


def test_a_field_that_does_not_fold_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        invert(smooth_field(0, 2))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_jacobian_determinant_is_numpys(size):
    u, d = 3 * noise(2, len(size), *size), len(size)
    for field, ours in zip(u.numpy(), jacobian_determinant(u).numpy(), strict=True):
        derivatives = np.array([np.gradient(component) for component in field])  # [i, j] = d u_i / d q_j
        expected = np.linalg.det(np.moveaxis(derivatives, (0, 1), (-2, -1)) + np.eye(d))
        assert np.abs(ours - expected).max() <= 1e-12


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_jacobian_determinant_of_an_affine_field_is_its_matrix_determinant(size):
    linear = np.eye(len(size)) + 0.4 * np.random.default_rng(2).normal(size=(2, len(size), len(size)))
    matrix = np.concatenate([linear, np.ones((2, len(size), 1))], axis=2)
    determinant = jacobian_determinant(affine_field(torch.from_numpy(matrix), size)).flatten(1).numpy()
    assert np.abs(determinant - np.linalg.det(linear)[:, None]).max() <= 1e-12


# ---- fields of half precision, of one pixel, of other shapes ----


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_fields_of_half_precision_are_followed_in_single(dtype):
    torch.manual_seed(0)
    u, v = (smooth.to(dtype) for smooth in gaussian_field(2, (12, 14), 6.0, 3.0).split(1))
    labels = torch.randint(5, (1, 1, 12, 14))
    assert torch.equal(warp(labels, u, order=0), warp(labels, u.float(), order=0))
    assert torch.equal(inside(u), inside(u.float()))
    w, residual = align(u, v, return_residual=True)
    exact, known = align(u.float(), v.float(), return_residual=True)
    assert (w.dtype, residual.dtype) == (dtype, dtype)
    torch.testing.assert_close(w, exact.to(dtype), rtol=0, atol=0)
    torch.testing.assert_close(residual, known.to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("size", [(1, 5), (5, 1), (1, 4, 5), (1, 1)])
def test_fields_of_one_slice(size):
    """Along an axis of one pixel nothing changes."""
    torch.manual_seed(0)
    u = 0.2 * torch.rand(2, len(size), *size)
    assert jacobian_determinant(u).shape == (2, *size)
    long = [axis for axis, length in enumerate(size) if length > 1]
    if len(long) == 1:
        slope = np.gradient(u[:, long[0]].numpy(), axis=1 + long[0])
        np.testing.assert_allclose(jacobian_determinant(u).numpy(), 1 + slope, rtol=1e-5)
    w, residual = align(u, 0.5 * u, return_residual=True)
    assert float(residual.max()) < 1e-3
    assert invert(u).shape == u.shape


@pytest.mark.parametrize(
    "matrix", [torch.eye(2)[None], torch.eye(2, 3, dtype=torch.int64)[None], torch.eye(3, 4)[None]]
)
def test_a_matrix_that_does_not_fit_is_refused(matrix):
    with pytest.raises(ValueError, match=r"^affine_field: expected floats \(\.\.\., 2, 3\), found torch"):
        affine_field(matrix, (4, 5))


def test_control_points_of_other_dimensions_are_refused():
    with pytest.raises(
        ValueError, match=r"^control points: expected \(N, D, \*points\) along 2 axes, found \(1, 3, 3, 3, 3\)$"
    ):
        control_to_dense(torch.zeros(1, 3, 3, 3, 3), (6, 6))


@pytest.mark.parametrize("crop", [(1, slice(2)), (slice(0, 4, 2), slice(2)), (slice(2),)])
def test_a_crop_is_of_slices(crop):
    with pytest.raises(ValueError, match="^warp crop: expected 2 slices without steps, found "):
        warp(torch.zeros(1, 1, 4, 4), torch.zeros(1, 2, 4, 4), crop=crop)
