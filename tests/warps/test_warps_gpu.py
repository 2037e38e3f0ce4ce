"""The Triton kernels of the warp operator against plain PyTorch.

Without a GPU the tests that need one are skipped, but `test_in_the_interpreter` runs them once more on the CPU, in a
process of its own: Triton decides when it is imported whether its kernels are compiled or interpreted.
"""

import os
import subprocess
import sys

import pytest
import torch

from fewlabels.warps import reference

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")
from fewlabels.warps import gpu, gpu_kernels  # noqa: E402

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
ORDERS, MODES = (0, 1, 3), ("constant", "mirror", "border")
SIZES = [(7, 12), (3, 4, 6)]  # never square
A_FEW = "references and (12 or mirror) or aligned and 17 or short_lines"  # every kernel, order, mode and gradient


@pytest.fixture
def device():
    if not INTERPRETED and not torch.cuda.is_available():
        pytest.skip("no GPU; see test_in_the_interpreter")
    return "cpu" if INTERPRETED else "cuda"


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def rough_field(*shape, seed=1, reach=9):
    """At least 0.2 pixels from where a weight has a kink, often far outside the image."""
    whole = (noise(*shape, seed=seed) * 2 * reach).floor() - reach
    return whole + 0.2 + 0.6 * noise(*shape, seed=seed + 1)


def results(module, x, u, g, order, mode, origin):
    """y, the gradient to the image, and that to the field."""
    x, u = x.clone().requires_grad_(), u.clone().requires_grad_()
    y = module.sample(x, u, order, mode, 0.7, origin)
    y.backward(g)
    return [each.cpu() for each in (y.detach(), x.grad, torch.zeros(()) if order == 0 else u.grad)]


def assert_as_reference(device, x, u, g, order, mode, origin, tolerances):
    ours = results(gpu, x.to(device), u.to(device), g.to(device), order, mode, origin)
    theirs = results(reference, x.double(), u.double(), g.double(), order, mode, origin)
    for a, b, tolerance in zip(ours, theirs, tolerances, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= tolerance


@pytest.mark.skipif(INTERPRETED, reason="this is the process it starts")
@pytest.mark.skipif(torch.cuda.is_available(), reason="they run on the GPU")
@pytest.mark.parametrize("chosen", [A_FEW, pytest.param("test", marks=pytest.mark.long)], ids=["a few", "all"])
def test_in_the_interpreter(chosen):
    command = [sys.executable, "-m", "pytest", "--noconftest", "-q", "-p", "no:cacheprovider", "-k", chosen, __file__]
    settings = {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_values_and_gradients_are_the_references(device, size, mode, order):
    out, origin = [n - 1 for n in size], list(range(len(size)))  # a crop
    x, u, g = noise(2, 3, *size), rough_field(2, len(size), *out), noise(2, 3, *out, seed=9)
    assert_as_reference(device, x, u, g, order, mode, origin, (1e-10, 1e-8, 1e-8))


@pytest.mark.parametrize(("order", "mode"), [(1, "constant"), (3, "mirror"), (3, "border")])
def test_float32_is_as_near_as_its_rounding(device, order, mode):
    size = (14, 9)
    x, g = noise(2, 2, *size, dtype=torch.float32), noise(2, 2, *size, seed=9, dtype=torch.float32)
    u = rough_field(2, 2, *size).float()
    assert gpu.sample(x.to(device), u.to(device), order, mode, 0.7, [0, 0]).dtype == torch.float32
    assert_as_reference(device, x, u, g, order, mode, [0, 0], (2e-5, 1e-4, 1e-4))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 5), (5, 1), (2, 1, 3)], ids=str)
def test_images_may_be_one_pixel_wide(device, size, mode, order):
    x, u = noise(1, 1, *size), rough_field(1, len(size), *size, reach=2)
    assert_as_reference(device, x, u, noise(1, 1, *size), order, mode, [0] * len(size), (1e-10, 1e-8, 1e-8))


def test_an_image_of_one_pixel(device):
    x, u = noise(1, 1, 1, 1, dtype=torch.float64).to(device), rough_field(1, 2, 1, 1).to(device)
    y = gpu.sample(x, u, 3, "mirror", 0.0, [0, 0])
    assert (y - x).abs().max() <= 1e-12
    assert gpu._spline(x).data_ptr() != x.data_ptr()


@pytest.mark.parametrize("size", [*((n, 10 - n) for n in range(1, 10)), (2, 3, 5)], ids=str)
def test_coefficients_of_short_lines_are_exact(device, size):
    """The filter is longer than these lines, which it meets mirrored many times."""
    x = noise(2, 1, *size)
    assert (gpu._spline(x.to(device)).cpu() - reference.coefficients(x)).abs().max() <= 1e-13


@pytest.mark.parametrize("size", [(200, 2), (2, 200)], ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 3e-6)], ids=str)
def test_coefficients_of_lines_filtered_in_pieces_are_exact(device, size, dtype, tolerance):
    x, g = noise(1, 1, *size, dtype=dtype).to(device), noise(1, 1, *size, seed=2, dtype=dtype).to(device)
    c, adjoint = gpu._spline(x).double(), gpu._spline_adjoint(g).double()
    assert (c.cpu() - reference.coefficients(x.cpu().double())).abs().max() <= tolerance
    assert abs((c * g).sum() - (x * adjoint).sum()) <= 100 * tolerance


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [(5, 21), (2, 3, 5)], ids=str)
def test_the_image_gradient_is_the_exact_adjoint(device, size, order):
    x, u = noise(2, 2, *size).to(device).requires_grad_(), rough_field(2, len(size), *size).to(device)
    g = noise(2, 2, *size, seed=4).to(device)
    y = gpu.sample(x, u, order, "mirror", 0.0, [0] * len(size))
    y.backward(g)
    assert abs((y * g).sum() - (x * x.grad).sum()) <= 1e-12 * (y * g).sum().abs()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_zero_field_is_the_identity_to_the_last_bit(device, size, order, mode):
    x, u = noise(1, 2, *size, dtype=torch.float32), torch.zeros(1, len(size), *size)
    assert torch.equal(gpu.sample(x.to(device), u.to(device), order, mode, 0.0, [0] * len(size)).cpu(), x)
    assert_as_reference(device, x, u, torch.ones_like(x), order, mode, [0] * len(size), (0, 1e-6, 1e-6))


def test_float32_loses_no_digit_of_a_displacement_far_from_the_origin(device):
    x, u = noise(1, 1, 2, 3000, dtype=torch.float32), torch.full((1, 2, 2, 3000), 1e-4)
    for mode in MODES:
        y = gpu.sample(x.to(device), u.to(device), 1, mode, 0.0, [0, 0]).cpu()
        expected = reference.sample(x.double(), u.double(), 1, mode, 0.0, [0, 0])
        assert (y - expected)[..., :1, :-1].abs().max() <= 3e-7


def test_inputs_need_not_be_contiguous(device):
    x, u, g = noise(2, 12, 7, 3).permute(0, 3, 2, 1), rough_field(1, 2, 7, 12).expand(2, -1, -1, -1), noise(1)
    assert_as_reference(device, x, u, g.expand(2, 3, 7, 12), 3, "mirror", [0, 0], (1e-10, 1e-8, 1e-8))


# Displacements that are not finite ----------------------------------------------------------------------------------

STRANGE = (float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 1e10, -1e10, -0.0)


@triton.jit
def offsets_of_taps(u, out, length, ORDER: tl.constexpr, MODE: tl.constexpr):
    j = tl.arange(0, 8)
    offsets, _, _, _ = gpu_kernels._taps(j, tl.load(u + j), length, 1, ORDER, MODE)
    for tap in tl.static_range(ORDER + 1):
        tl.store(out + tap * 8 + j, offsets[tap])


@pytest.mark.filterwarnings("ignore:invalid value")  # NumPy, of the interpreter's conversions
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", [1, 2, 9])
def test_no_displacement_leads_out_of_bounds(device, length, dtype, mode, order):
    u = torch.tensor(STRANGE, dtype=dtype, device=device)
    offsets = torch.full((order + 1, 8), -9, dtype=torch.int32, device=device)
    offsets_of_taps[(1,)](u, offsets, length, ORDER=order, MODE=mode)
    assert ((offsets >= 0) & (offsets < length)).all()


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", [1, 3])
def test_displacements_that_are_not_finite_give_nan_and_only_there(device, order, mode):
    u = rough_field(1, 2, 5, 6, reach=1)
    clean = gpu.sample(noise(1, 2, 5, 6).to(device), u.to(device), order, mode, 0.0, [0, 0]).cpu()
    for (row, column), value in zip([(0, 1), (2, 3), (4, 5)], STRANGE[:3], strict=True):
        u[0, row % 2, row, column] = value
    u[0, :, 1, 1] = torch.tensor([float("nan"), 99.0])  # this one is outside, too
    y = gpu.sample(noise(1, 2, 5, 6).to(device), u.to(device), order, mode, 0.0, [0, 0]).cpu()
    strange = ~torch.isfinite(u).all(1, keepdim=True).expand(-1, 2, -1, -1)
    assert y[strange].isnan().all()
    assert torch.equal(y[~strange], clean[~strange])


# Aligning -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "count"), [((9, 17), 2), ((3, 4, 5), 1)], ids=str)
def test_fields_are_aligned_as_by_the_reference(device, size, count):
    """Also where they fold and lead out of the image, so that damping acts and some pixels never converge."""
    u1, u2 = (3 * noise(count, len(size), *size, seed=seed) - 1.5 for seed in (1, 2))
    w, error = (each.cpu() for each in gpu.align(u1.to(device), u2.to(device), 1e-6, 50))
    expected_w, expected_error = reference.align(u1, u2, 1e-6, 50)
    solved = expected_error <= 1e-6
    assert 0.2 < solved.double().mean() < 1
    assert (error[solved] <= 1e-6).all()
    assert ((w - expected_w).abs().amax(1)[solved] <= 1e-9).all()
    assert abs((error <= 1e-6).double().mean() - solved.double().mean()) < 0.02


def test_aligning_stops_after_the_given_steps(device):
    u1, u2 = noise(1, 2, 5, 6, seed=1).to(device), noise(1, 2, 5, 6, seed=2).to(device)
    w, _ = gpu.align(u1, u2, 0.0, 0)
    assert torch.equal(w, u2 - u1)


# As operators of torch ----------------------------------------------------------------------------------------------


def test_the_operators_keep_what_torch_demands_of_them(device):
    q, u, g = (each.to(device) for each in (noise(1, 1, 4, 5), rough_field(1, 2, 3, 4), noise(1, 1, 3, 4)))
    arguments = (1, "constant", [1, 0])
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    for operator, inputs in (
        (gpu._spline, (q,)),
        (gpu._spline_adjoint, (q,)),
        (gpu._sample, (q.clone().requires_grad_(), u.clone().requires_grad_(), 1, "constant", 0.0, [1, 0])),
        (gpu._sample_to_image, (q, u, g, *arguments)),
        (gpu._sample_to_field, (q, u, g, *arguments)),
        (gpu.align, (u, u, 1e-4, 5)),
    ):
        torch.library.opcheck(operator, inputs, test_utils=checks)


def test_a_compiled_graph_does_not_break(device):
    x, u, g = (each.to(device) for each in (noise(1, 1, 4, 5), rough_field(1, 2, 4, 5), noise(1, 1, 4, 5, seed=3)))

    @torch.compile(fullgraph=True, backend="aot_eager")
    def warped(x, u):
        return gpu.sample(x, u, 3, "mirror", 0.0, [0, 0])

    x.requires_grad_(), u.requires_grad_()
    eager = torch.autograd.grad((gpu.sample(x, u, 3, "mirror", 0.0, [0, 0]) * g).sum(), (x, u))
    compiled = torch.autograd.grad((warped(x, u) * g).sum(), (x, u))
    assert all((a - b).abs().max() <= 1e-12 for a, b in zip(eager, compiled, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_deterministic_algorithms_repeat_to_the_last_bit(device):
    from fewlabels.warps import warp

    def gradient():
        x = noise(2, 3, 64, 80, dtype=torch.float32).to(device).requires_grad_()
        warp(x, 30 * noise(2, 2, 64, 80, dtype=torch.float32).to(device), order=3).square().sum().backward()
        return x.grad

    torch.use_deterministic_algorithms(True)
    try:
        assert torch.equal(gradient(), gradient())
    finally:
        torch.use_deterministic_algorithms(False)


class NoDevice:
    """Stands for a driver: Triton then compiles for a GPU that is not there."""

    def get_current_target(self):
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


@pytest.mark.skipif(INTERPRETED or torch.cuda.is_available(), reason="there is nothing to compile, or it runs")
@pytest.mark.parametrize(
    ("dtype", "size", "order", "mode"),
    [
        (torch.float32, (32, 48), 3, "constant"),
        (torch.float64, (9, 16), 1, "constant"),
        pytest.param(torch.float32, (4, 5, 6), 1, "mirror", marks=pytest.mark.long),
        pytest.param(torch.float32, (1, 9), 0, "border", marks=pytest.mark.long),
    ],
    ids=str,
)
def test_the_kernels_compile_for_a_gpu(monkeypatch, tmp_path, dtype, size, order, mode):
    """What the interpreter lets pass may still not compile. Sums of the image gradient are to be the fast kind."""
    assembly = {}

    def launch(kernel, programs, *arguments, **settings):
        assembly[kernel.__name__] = kernel.warmup(*arguments, grid=(programs,), **settings).asm["ptx"]

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(gpu, "_launch", launch)
    monkeypatch.setattr(triton.runtime.driver, "_active", NoDevice())
    x, u = torch.zeros(2, 3, *size, dtype=dtype), torch.zeros(2, len(size), *size, dtype=dtype)
    gpu.sample(x.requires_grad_(), u.requires_grad_(), order, mode, 0.5, [1] * len(size)).sum().backward()
    gpu.align(u.detach(), u.detach(), 1e-4, 50)
    assert {"sample", "sample_to_image", "align"} <= assembly.keys()
    assert "relaxed" in assembly["sample_to_image"]
    assert "acq_rel" not in assembly["sample_to_image"]
    assert ".param .f64" in assembly["sample"]  # cval, of which float32 would lose digits
