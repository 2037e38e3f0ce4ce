"""The compiled kernels against the plain PyTorch of `warps.reference`, and what else users rely on."""

import subprocess
import sys
import warnings

import elasticdeform
import numpy as np
import pytest
import torch

from fewlabels.warps import (
    MODES,
    ORDERS,
    affine_field,
    align,
    compose,
    control_to_dense,
    elasticdeform_affine,
    inside,
    invert,
    jacobian_determinant,
    reference,
    threads,
    warp,
)
from fewlabels.warps.operator import kernels_for

SIZES = [(11, 16), (1, 9), (9, 1), (6, 9, 7), (2, 1, 5)]  # never square


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def field(n, size, reach=3.0, seed=1):
    """Most of it within the image, some far outside."""
    return reach * (2 * noise(n, len(size), *size, seed=seed) - 1)


def values_and_gradients(x, u, *how, **more):
    x, u = x.clone().requires_grad_(), u.clone().requires_grad_()
    y = warp(x, u, *how, **more)
    y.backward(noise(*y.shape, seed=2).to(y.dtype))
    return y.detach(), x.grad, u.grad if u.grad is not None else torch.zeros_like(u)


def test_the_cpu_has_compiled_kernels():
    assert kernels_for(torch.zeros(1)).__name__ == "fewlabels.warps.cpu"
    assert kernels_for(torch.zeros(1, dtype=torch.int64)) is reference


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("reach", [3.0, 50.0])
def test_kernels_equal_the_reference_in_values_and_gradients(size, mode, order, reach):
    x, u = noise(2, 3, *size), field(2, size, reach)
    ours, plain = (values_and_gradients(x, u, order, mode, 0.3, backend=b) for b in ("auto", "reference"))
    for a, b in zip(ours, plain):
        assert (a - b).abs().max() <= 1e-12 * (1 + b.abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rows", [(3,), (2, 3)], ids=["2-D", "3-D"])
@pytest.mark.parametrize("width", [7, 8, 15, 16, 17, 43])
def test_rows_may_end_within_a_vector(width, rows, mode, order, dtype):
    x, u = noise(2, 3, *rows, width).to(dtype), field(2, (*rows, width)).to(dtype)
    ours, plain = (values_and_gradients(x, u, order, mode, 0.3, backend=b) for b in ("auto", "reference"))
    for a, b in zip(ours, plain):
        assert (a - b).abs().max() <= 50 * torch.finfo(dtype).eps * (1 + b.abs().max())


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
def test_the_bits_do_not_depend_on_the_number_of_threads(mode, order, monkeypatch):
    monkeypatch.setattr(threads, "GRAIN", 1)
    x, u, before = noise(3, 2, 37, 41).float(), field(3, (37, 41), 9).float(), torch.get_num_threads()
    try:
        results = []
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            results.append((*values_and_gradients(x, u, order, mode), *align(u / 30, u / 20, return_residual=True)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_zero_field_is_the_identity_to_the_last_bit(size, mode, order, dtype, backend):
    x = noise(2, 3, *size).to(dtype)
    assert torch.equal(warp(x, torch.zeros(2, len(size), *size, dtype=dtype), order, mode, 5.0, backend=backend), x)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1024, 300), (40, 64, 48)], ids=str)
def test_float32_is_within_2e_5_of_float64_however_large_the_image(size, mode, order, backend):
    x, u = noise(1, 1, *size).float(), field(1, size, 30).float()
    exact = warp(x.double(), u.double(), order, mode)
    error = (warp(x, u, order, mode, backend=backend) - exact).abs().max()
    assert error <= 2e-6  # 2e-5 is what is promised; coordinates of 1024 pixels added to u would cost 8e-5


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("order", ORDERS)
def test_no_images_come_back_as_no_images(order, backend):
    u = torch.zeros(0, 2, 5, 6)
    assert warp(torch.zeros(0, 3, 5, 6), u, order, backend=backend).shape == (0, 3, 5, 6)
    assert align(u, u).shape == (0, 2, 5, 6)


@pytest.mark.parametrize("backend", ["auto", "reference", "elasticdeform"])
def test_several_tensors_are_warped_by_one_field_each_with_its_order(backend):
    image, mask, u = noise(2, 3, 12, 17), (noise(2, 1, 12, 17) * 5).long(), field(2, (12, 17))
    both = warp([image, mask], u, order=[3, 0], cval=[0.5, 9], backend=backend)
    assert torch.equal(both[0], warp(image, u, 3, cval=0.5, backend=backend))
    assert torch.equal(both[1], warp(mask, u, 0, cval=9, backend=backend))
    assert both[1].dtype == torch.int64


@pytest.mark.parametrize("backend", ["auto", "reference", "elasticdeform"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", ["constant", "mirror"])
@pytest.mark.parametrize(
    ("size", "crop"),
    [
        ((12, 17), (slice(3, 9), slice(5, None))),
        ((12, 17), (slice(-4, None), slice(0, 1))),
        ((6, 9, 7), (slice(1, 3), slice(None), slice(2, -1))),
    ],
    ids=str,
)
def test_a_crop_is_that_part_of_the_whole_with_its_gradients(size, crop, mode, order, backend):
    part = (..., *crop)
    x, u = noise(2, 2, *size), field(2, size)
    whole, cropped = (x.clone().requires_grad_() for _ in range(2))
    a, b = warp(whole, u, order, mode, 0.3, backend=backend)[part], warp(cropped, u, order, mode, 0.3, crop, backend)
    assert (a - b).abs().max() <= 1e-12
    for y in (a, b):
        y.backward(noise(*y.shape, seed=5))
    assert (whole.grad - cropped.grad).abs().max() <= 1e-12


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("elastic", [False, True])
@pytest.mark.parametrize(
    "how",
    [
        {"rotate": 25.0},
        {"zoom": 1.31},
        {"affine": [[1.13, 0.217, -2.03], [-0.11, 0.93, 3.07]]},
        {"affine": [[1.13, 0.217, -2.03], [-0.11, 0.93, 3.07]], "rotate": -40.0, "zoom": 0.8},
    ],
    ids=str,
)
def test_affine_rotate_and_zoom_mean_what_they_mean_to_elasticdeform(how, elastic, order):
    x, control = noise(1, 1, 21, 30), elastic * 3 * (2 * noise(1, 2, 4, 5, seed=3) - 1)
    settings = how | {"affine": np.array(how["affine"])} if "affine" in how else how
    expected = elasticdeform.deform_grid(x[0, 0].numpy(), control[0].numpy(), order=order, mode="constant", **settings)
    u = control_to_dense(control, (21, 30)) + elasticdeform_affine((21, 30), **how, dtype=torch.float64)
    assert np.abs(warp(x, u, order)[0, 0].numpy() - expected).max() <= 1e-10


def test_a_batch_of_affine_maps_is_that_of_each_alone():
    rotate, zoom = [10.0, -30.0, 0.0], [1.2, 0.9, 1.0]
    affine = np.eye(2, 3) + 0.1 * noise(3, 2, 3).numpy()
    together = elasticdeform_affine((9, 12), affine, rotate, zoom)
    assert together.shape == (3, 2, 9, 12)
    for i in range(3):
        assert torch.equal(together[i : i + 1], elasticdeform_affine((9, 12), affine[i], rotate[i], zoom[i]))
    assert elasticdeform_affine((9, 12), affine[0], rotate).shape == (3, 2, 9, 12)


def test_affine_means_the_same_in_3d():
    x, affine = noise(1, 1, 7, 9, 8), np.array([[1.13, 0, 0.21, 1.07], [0, 0.93, 0.17, 0.19], [-0.13, 0, 1.01, -1.09]])
    nowhere = np.zeros((3, 2, 2, 2))
    expected = elasticdeform.deform_grid(x[0, 0].numpy(), nowhere, order=3, mode="constant", affine=affine)
    u = elasticdeform_affine((7, 9, 8), affine, dtype=torch.float64)
    assert np.abs(warp(x, u, 3)[0, 0].numpy() - expected).max() <= 1e-10


@pytest.mark.parametrize(
    ("size", "how", "message"),
    [
        ((5, 6, 7), {"rotate": 10}, r"rotate, zoom: expected 2-D"),
        ((5, 6), {"zoom": 0}, r"zoom not 0, found size \(5, 6\) and \[0.0\]"),
        ((5, 6), {"affine": np.zeros((2, 3))}, r"affine: expected an invertible \(2, 3\) matrix"),
        ((5, 6), {"affine": np.eye(3)}, r"affine: expected an invertible \(2, 3\) matrix"),
    ],
)
def test_affine_maps_that_cannot_be_are_refused(size, how, message):
    with pytest.raises(ValueError, match=message):
        elasticdeform_affine(size, **how)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("order", ORDERS)
def test_half_precision_is_computed_in_float32(dtype, order):
    x, u = noise(1, 2, 9, 13).to(dtype), field(1, (9, 13))
    y = warp(x, u, order)
    assert y.dtype == dtype
    assert torch.equal(y, warp(x.float(), u.float(), order).to(dtype))


@pytest.mark.parametrize("order", ORDERS)
def test_autocast_changes_no_bit_of_values_or_gradients(order):
    x, control = noise(2, 1, 64, 80).float(), 6 * noise(2, 2, 4, 5).float() - 3
    plain = values_and_gradients(x, control_to_dense(control, (64, 80)), order, "mirror")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = values_and_gradients(x, control_to_dense(control, (64, 80)), order, "mirror")
        assert torch.equal(affine_field(torch.eye(2, 3)[None] * 1.1, (5, 6)).sum(), affine_sum())
    assert all(torch.equal(a, b) for a, b in zip(plain, cast))


def affine_sum():
    with torch.autocast("cpu", enabled=False):
        return affine_field(torch.eye(2, 3)[None] * 1.1, (5, 6)).sum()


def test_what_a_user_allows_for_tf32_is_left_as_it_was():
    settings = torch.backends.cuda.matmul
    before = settings.fp32_precision
    try:
        settings.fp32_precision = "tf32"
        control_to_dense(noise(1, 2, 3, 3), (9, 8))
        assert settings.fp32_precision == "tf32"
    finally:
        settings.fp32_precision = before


@pytest.mark.parametrize("order", ORDERS)
def test_torch_compile_takes_warps_without_a_graph_break(order):
    def apply(x, u, control):
        v = compose(u, control_to_dense(control, (9, 13)))
        w, residual = align(v / 4, u / 4, return_residual=True)
        return warp(x, v, order), inside(v), jacobian_determinant(v), w, residual

    x, u, control = noise(1, 2, 9, 13).requires_grad_(), field(1, (9, 13)).requires_grad_(), noise(1, 2, 3, 4)
    compiled = torch.compile(apply, fullgraph=True, backend="aot_eager")
    gradients = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it folds is said in the plain call only
        for call in (apply, compiled):
            x.grad = u.grad = None
            outputs = call(x, u, control)
            (outputs[0].sum() + outputs[2].sum()).backward()
            gradients.append((*outputs, x.grad, u.grad))
    assert all(torch.allclose(a, b, rtol=0, atol=1e-12) if a.is_floating_point() else torch.equal(a, b)
               for a, b in zip(*gradients))  # fmt: skip


@pytest.mark.parametrize("size", [(40, 31), (20, 24, 18)], ids=str)
def test_aligning_equals_the_reference_and_a_pixel_stops_when_it_has_converged(size):
    u1, u2 = (control_to_dense(4 * noise(2, len(size), *[3] * len(size), seed=s) - 2, size) for s in (1, 2))
    w, residual = align(u1, u2, return_residual=True)
    plain, plain_residual = reference.align(u1, u2, 1e-4, 50)
    assert residual.max() <= 1e-4
    assert (w - plain).abs().max() <= 1e-10
    assert (residual - plain_residual).abs().max() <= 1e-10


@pytest.mark.parametrize(("size", "points"), [((64, 80), 4), ((32, 40, 36), 3)], ids=str)
def test_an_inverse_brings_smooth_images_back(size, points):
    D = len(size)
    x = control_to_dense(noise(1, 1, *[points + 1] * D), size)
    u = control_to_dense(2 * (2 * noise(1, D, *[points] * D, seed=3) - 1), size)
    assert (jacobian_determinant(u) > 0.2).all()
    v = invert(u)
    there_and_back = warp(warp(x, u, order=3, mode="border"), v, order=3, mode="border")
    middle = (..., *[slice(8, -8)] * D)
    assert (there_and_back - x)[middle].abs().max() <= 1e-3


def test_a_field_that_folds_warns_once_with_the_share_of_its_pixels():
    u = torch.zeros(1, 2, 10, 10)
    u[0, 1, :, 5] = -8.0  # central differences there: columns 4 (down by 4) and 6 (up by 4)
    share = (jacobian_determinant(u) <= 0).float().mean().item()
    assert share == pytest.approx(0.1)
    with pytest.warns(UserWarning, match=r"folds at 10.00% of its pixels") as caught:
        invert(u)
    assert len(caught) == 1


def test_a_graph_may_be_the_first_to_ask_for_a_matrix():
    """In a process of its own: what a graph was traced with must not serve the calls after it."""
    code = """
import torch
from fewlabels.warps import control_to_dense
control = torch.rand(1, 2, 3, 3, dtype=torch.float64)
compiled = torch.compile(lambda c: control_to_dense(c, (9, 8)), backend="eager", fullgraph=True)(control)
assert torch.equal(compiled, control_to_dense(control, (9, 8)))
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
