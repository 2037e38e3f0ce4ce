"""ConvSmall against Appendix A of Malfliet & Bakker 2021 and a literal forward pass of the same weights."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from fewlabels.models.convsmall import ConvSmall

# As printed: (type, output shape, parameters); Keras counts a norm's two running statistics too.
APPENDIX_A = [
    ("Conv2D", (32, 32, 96), 2688),
    ("BatchNormalization", (32, 32, 96), 384),
    ("Conv2D", (32, 32, 96), 83040),
    ("BatchNormalization", (32, 32, 96), 384),
    ("Conv2D", (32, 32, 96), 83040),
    ("BatchNormalization", (32, 32, 96), 384),
    ("MaxPooling2D", (16, 16, 96), 0),
    ("Dropout", (16, 16, 96), 0),
    ("Conv2D", (16, 16, 192), 166080),
    ("BatchNormalization", (16, 16, 192), 768),
    ("Conv2D", (16, 16, 192), 331968),
    ("BatchNormalization", (16, 16, 192), 768),
    ("Conv2D", (16, 16, 192), 331968),
    ("BatchNormalization", (16, 16, 192), 768),
    ("MaxPooling2D", (8, 8, 192), 0),
    ("Dropout", (8, 8, 192), 0),
    ("Conv2D", (8, 8, 192), 331968),
    ("BatchNormalization", (8, 8, 192), 768),
    ("Conv2D", (8, 8, 192), 37056),
    ("BatchNormalization", (8, 8, 192), 768),
    ("Conv2D", (8, 8, 192), 37056),
    ("BatchNormalization", (8, 8, 192), 768),
    ("GlobalAveragePooling2D", (192,), 0),
    ("Dense", (10,), 1930),
]
KERAS = {
    nn.Conv2d: "Conv2D",
    nn.BatchNorm2d: "BatchNormalization",
    nn.MaxPool2d: "MaxPooling2D",
    nn.Dropout: "Dropout",
    nn.Flatten: "GlobalAveragePooling2D",  # with the pooling before it
    nn.Linear: "Dense",
}
KERNELS = (3, 3, 3, 3, 3, 3, 3, 1, 1)
SMALL = [(12 / 96, False), (16 / 96, True)]  # width, channels a multiple of 8


@pytest.fixture(scope="module")
def full():
    torch.manual_seed(0)
    return ConvSmall()


def of(net, kind):
    return [module for module in net if isinstance(module, kind)]


def size(module):
    statistics = (module.running_mean, module.running_var) if isinstance(module, nn.BatchNorm2d) else ()
    return sum(p.numel() for p in [*module.parameters(), *statistics])


def counted(inputs, classes, a, b):
    """Trainable parameters and running statistics, by hand."""
    ends = [inputs, a, a, a, b, b, b, b, b, b]
    convolutions = sum(k * k * m * n + n for k, m, n in zip(KERNELS, ends[:-1], ends[1:], strict=True))
    return convolutions + 2 * sum(ends[1:]) + b * classes + classes, 2 * sum(ends[1:])


def literal_forward(net, x):
    """Appendix A in evaluation mode, from the list of all weights: convolution, leaky ReLU, norm."""
    w = [value.contiguous() for name, value in net.state_dict().items() if "tracked" not in name]
    assert len(w) == 9 * 6 + 2
    for layer, kernel in enumerate(KERNELS):
        weight, bias, scale, shift, mean, var = w[6 * layer : 6 * layer + 6]
        assert weight.shape[2:] == (kernel, kernel)
        x = F.conv2d(x.contiguous(), weight, bias, padding=kernel // 2)
        x = torch.where(x > 0, x, 0.1 * x)
        x = (x - mean[:, None, None]) / (var[:, None, None] + 0.001).sqrt() * scale[:, None, None]
        x = x + shift[:, None, None]
        if layer in (2, 5):
            x = x.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5))
    return x.mean((2, 3)) @ w[-2].T + w[-1]


def used(width, inputs=3, classes=10, dropout=0.5):
    """A network in float64 with norms that are no longer as they began."""
    torch.manual_seed(0)
    net = ConvSmall(inputs, classes, width, dropout, norm_momentum=0.5).double()
    for norm in of(net, nn.BatchNorm2d):
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    net(torch.randn(4, inputs, 8, 12).double())
    return net


# ---- Appendix A ----


def test_the_layers_shapes_and_parameters_are_those_of_appendix_a(full):
    found, hooks = [], []
    for module in full:
        if type(module) in KERAS:
            hooks.append(module.register_forward_hook(lambda m, _, y: found.append((m, y.shape))))
    with torch.no_grad():
        assert full(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    for hook in hooks:
        hook.remove()
    found = [(KERAS[type(m)], (*shape[2:], shape[1]), size(m)) for m, shape in found]  # channels last, as Keras
    assert found == APPENDIX_A


def test_the_totals_of_appendix_a(full):
    assert sum(n for *_, n in APPENDIX_A) == 1_412_554
    assert sum(p.numel() for p in full.parameters() if p.requires_grad) == 1_409_674
    statistics = [b for name, b in full.named_buffers() if "running" in name]
    assert sum(b.numel() for b in statistics) == 2_880


def test_each_convolution_is_followed_by_leaky_relu_then_norm(full):
    convolution = [nn.Conv2d, nn.LeakyReLU, nn.BatchNorm2d]
    block = [*3 * convolution, nn.MaxPool2d, nn.Dropout]
    assert [type(m) for m in full] == [*block, *block, *3 * convolution, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear]
    assert {relu.negative_slope for relu in of(full, nn.LeakyReLU)} == {0.1}
    assert {(norm.eps, norm.momentum) for norm in of(full, nn.BatchNorm2d)} == {(1e-3, 0.01)}
    assert {dropout.p for dropout in of(full, nn.Dropout)} == {0.5}


# ---- other sizes ----


@pytest.mark.parametrize(
    ("arguments", "channels"),
    [
        ({}, (96, 192)),
        ({"width": 0.5}, (48, 96)),
        ({"width": 0.1667}, (16, 32)),
        ({"width": 0.05}, (5, 10)),
        ({"width": 1.5}, (144, 288)),
        ({"in_channels": 1, "classes": 4, "width": 0.25}, (24, 48)),
    ],
    ids=str,
)
def test_other_widths_channels_and_classes(arguments, channels):
    net = ConvSmall(**arguments)
    inputs, classes = arguments.get("in_channels", 3), arguments.get("classes", 10)
    assert [c.out_channels for c in of(net, nn.Conv2d)] == [channels[0]] * 3 + [channels[1]] * 6
    trainable, statistics = counted(inputs, classes, *channels)
    assert sum(p.numel() for p in net.parameters()) == trainable
    assert sum(b.numel() for name, b in net.named_buffers() if "running" in name) == statistics
    if arguments.get("width", 1) < 0.5:
        assert net(torch.rand(3, inputs, 8, 20)).shape == (3, classes)


def test_settings_reach_their_layers():
    net = ConvSmall(width=0.05, dropout=0.2, norm_momentum=0.3)
    assert {dropout.p for dropout in of(net, nn.Dropout)} == {0.2}
    assert {norm.momentum for norm in of(net, nn.BatchNorm2d)} == {0.3}


# ---- how it begins ----


def test_weights_begin_as_in_keras(full):
    """glorot_uniform for the last layer, he_uniform for the others; biases 0."""
    layers = of(full, nn.Conv2d | nn.Linear)
    assert len(layers) == 10
    for layer in layers:
        w, last = layer.weight.detach().flatten().double(), isinstance(layer, nn.Linear)
        fan_in = layer.weight[0].numel()
        bound = math.sqrt(6 / (192 + 10)) if last else math.sqrt(6 / fan_in)
        assert 0.99 * bound < w.abs().max() <= bound * (1 + 1e-6)
        assert stats.kstest(w[:20000].numpy(), stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3
        assert not layer.bias.any()


def test_norms_begin_as_no_operation(full):
    for norm in of(ConvSmall(width=0.05), nn.BatchNorm2d):
        assert [v.unique().tolist() for v in (norm.weight, norm.bias)] == [[1], [0]]
        assert [v.unique().tolist() for v in (norm.running_mean, norm.running_var)] == [[0], [1]]


# ---- what it computes ----


@pytest.mark.parametrize(("inputs", "classes"), [(3, 10), (1, 4)])
@pytest.mark.parametrize("width", [0.05, *[width for width, _ in SMALL]])
def test_the_forward_pass_is_that_of_the_appendix(width, inputs, classes):
    net = used(width, inputs, classes).eval()
    x = torch.randn(3, inputs, 12, 20).double()
    assert torch.allclose(net(x), literal_forward(net, x), rtol=0, atol=1e-11)


def test_in_training_norms_see_the_batch_and_dropout_leaves_out_half_of_the_values():
    torch.manual_seed(0)
    net = ConvSmall(width=0.1667).double()
    x, seen = torch.rand(6, 3, 16, 16).double(), {}
    first, second = of(net, nn.BatchNorm2d)[:2]
    first.register_forward_hook(lambda m, inputs, y: seen.update(before=inputs[0], after=y))
    pooled = of(net, nn.MaxPool2d)[0]
    pooled.register_forward_hook(lambda m, _, y: seen.update(pooled=y))
    of(net, nn.Dropout)[0].register_forward_hook(lambda m, _, y: seen.update(dropped=y))
    net.train()(x)

    a = F.conv2d(x, net[0].weight, net[0].bias, padding=1)
    a = torch.where(a > 0, a, 0.1 * a)
    assert torch.allclose(seen["before"], a, rtol=0, atol=1e-12)
    mean, var = a.mean((0, 2, 3)), a.var((0, 2, 3), correction=0)
    normed = (a - mean[:, None, None]) / (var[:, None, None] + 1e-3).sqrt()
    assert torch.allclose(seen["after"], normed, rtol=0, atol=1e-12)
    n = a[:, 0].numel()
    assert torch.allclose(first.running_mean, 0.01 * mean, rtol=0, atol=1e-12)
    assert torch.allclose(first.running_var, 0.99 + 0.01 * var * n / (n - 1), rtol=0, atol=1e-12)

    kept = seen["dropped"] != 0
    assert kept.double().mean() == pytest.approx(0.5, abs=0.05)
    assert torch.allclose(seen["dropped"][kept], 2 * seen["pooled"][kept])


def test_every_parameter_receives_a_gradient():
    net = used(0.05)
    F.cross_entropy(net(torch.randn(8, 3, 8, 8).double()), torch.arange(8)).backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]


# ---- memory layout ----


@pytest.mark.parametrize(("width", "multiple_of_8"), SMALL)
def test_the_memory_layout_does_not_change_the_numbers(width, multiple_of_8):
    ours = used(width, dropout=0).float()
    assert ours.layout == (torch.channels_last if multiple_of_8 else torch.contiguous_format)
    other = copy.deepcopy(ours)
    other.layout = torch.contiguous_format if multiple_of_8 else torch.channels_last
    other.to(memory_format=other.layout)
    x, y = torch.rand(5, 3, 16, 12), torch.arange(5)
    for net in (ours, other):
        F.cross_entropy(net.train()(x), y).backward()
    for a, b in zip(ours.parameters(), other.parameters(), strict=True):
        assert (a.grad - b.grad).abs().max() <= 1e-4 * a.grad.abs().max() + 1e-6
    for a, b in zip(ours.buffers(), other.buffers(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)
    logits = ours.eval()(x)
    assert torch.allclose(logits, other.eval()(x), rtol=0, atol=1e-5)
    assert torch.equal(logits, ours(x.contiguous(memory_format=torch.channels_last)))
    assert torch.allclose(logits, literal_forward(ours, x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("width", [width for width, _ in SMALL])
def test_a_state_goes_from_one_network_to_another(width):
    a, b = used(width).float().eval(), ConvSmall(width=width).eval()
    b.load_state_dict(a.state_dict())
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(a(x), b(x))
