"""S, G and D of Chaitanya et al. 2019 against a count by hand and a literal forward pass of the same weights."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from fewlabels.models.discriminators import Discriminator
from fewlabels.models.generators import Generator, Z
from fewlabels.models.layers import convolution, doubled, start
from fewlabels.models.unet import BilinearUNet

# Counted by hand at 224 x 224, one channel, in the order of computation:
# (layer, output, weights, biases in the released code, scale and shift of the norm behind it).
UNET = [
    ("3 x 3", (16, 224, 224), 144, 16, 32),
    ("3 x 3", (16, 224, 224), 2304, 16, 32),
    ("3 x 3", (32, 112, 112), 4608, 32, 64),
    ("3 x 3", (32, 112, 112), 9216, 32, 64),
    ("3 x 3", (64, 56, 56), 18432, 64, 128),
    ("3 x 3", (64, 56, 56), 36864, 64, 128),
    ("3 x 3", (128, 28, 28), 73728, 128, 256),
    ("3 x 3", (128, 28, 28), 147456, 128, 256),
    ("3 x 3", (256, 14, 14), 294912, 256, 512),
    ("3 x 3", (256, 14, 14), 589824, 256, 512),
    ("2 x 2", (128, 28, 28), 131072, 128, 256),  # 256 -> 128, then beside the encoder's 128
    ("3 x 3", (128, 28, 28), 294912, 128, 256),
    ("3 x 3", (128, 28, 28), 147456, 128, 256),
    ("2 x 2", (64, 56, 56), 32768, 64, 128),
    ("3 x 3", (64, 56, 56), 73728, 64, 128),
    ("3 x 3", (64, 56, 56), 36864, 64, 128),
    ("2 x 2", (32, 112, 112), 8192, 32, 64),
    ("3 x 3", (32, 112, 112), 18432, 32, 64),
    ("3 x 3", (32, 112, 112), 9216, 32, 64),
    ("2 x 2", (16, 224, 224), 2048, 16, 32),
    ("3 x 3", (16, 224, 224), 4608, 16, 32),
    ("3 x 3", (16, 224, 224), 2304, 16, 32),
    ("3 x 3", (16, 224, 224), 2304, 16, 32),
    ("3 x 3", (16, 224, 224), 2304, 16, 32),
    ("3 x 3", (4, 224, 224), 576, 4, 0),
]
TRUNK = [
    ("3 x 3", (16, 224, 224), 144, 16, 32),  # of the image
    ("3 x 3", (16, 224, 224), 2304, 16, 32),
    ("full", (6272,), 627200, 6272, 0),  # of z: 100 -> 128 x 7 x 7
    ("2 x 2", (128, 14, 14), 65536, 128, 256),
    ("2 x 2", (64, 28, 28), 32768, 64, 128),
    ("2 x 2", (32, 56, 56), 8192, 32, 64),
    ("2 x 2", (16, 112, 112), 2048, 16, 32),
    ("2 x 2", (16, 224, 224), 1024, 16, 0),
    ("3 x 3", (16, 224, 224), 4608, 16, 32),  # of both
    ("3 x 3", (16, 224, 224), 2304, 16, 32),
]
G_V = [*TRUNK, ("3 x 3", (2, 224, 224), 288, 2, 0)]
G_I = [*TRUNK, ("1 x 1", (1, 224, 224), 16, 0, 0)]
D = [
    ("5 x 5", (16, 112, 112), 400, 16, 32),
    ("5 x 5", (32, 56, 56), 12800, 32, 64),
    ("5 x 5", (64, 28, 28), 51200, 64, 128),
    ("5 x 5", (128, 14, 14), 204800, 128, 256),
    ("5 x 5", (128, 7, 7), 409600, 128, 256),
    ("full", (128,), 802816, 128, 0),
    ("full", (128,), 16384, 128, 0),
    ("full", (1,), 128, 1, 0),
]
FULL = {  # name: (makes it, layers, parameters here, parameters in the release)
    "S": (BilinearUNet, UNET, 1_947_764, 1_949_508),
    "G_V": (lambda: Generator((224, 224), "deformation"), G_V, 753_314, 753_618),
    "G_I": (lambda: Generator((224, 224), "intensity"), G_I, 753_040, 753_344),
    "D": (lambda: Discriminator((224, 224)), D, 1_499_121, 1_499_489),
}
LAYERS = (nn.Conv2d, nn.Conv3d, nn.Linear)
NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
SIZES = pytest.mark.parametrize("size", [(32, 32), (64, 32), (32, 32, 64)], ids=str)


@pytest.fixture(scope="module", params=FULL)
def full(request):
    build, layers, ours, released = FULL[request.param]
    torch.manual_seed(0)
    return SimpleNamespace(name=request.param, net=build(), layers=layers, ours=ours, released=released)


def of(net, kinds):
    return [module for module in net.modules() if isinstance(module, kinds)]


def numel(*tensors):
    return sum(tensor.numel() for tensor in tensors if tensor is not None)


def size_of(layer):
    return "full" if isinstance(layer, nn.Linear) else " x ".join(map(str, layer.kernel_size))


def inputs_of(name, channels=1, size=(32, 32), n=2):
    x = torch.randn(n, channels, *size)
    return (x, torch.randn(n, 100)) if name.startswith("G") else (x,)


# Oracle: the released forward pass, from the list of the weights -----------------------------------------------------


def convolve(x, weight, bias=None, **settings):
    return {4: F.conv2d, 5: F.conv3d}[x.ndim](x, weight, bias, **settings)


def column(v, x):
    return v.reshape(-1, *[1] * (x.ndim - 2))


class Weights:
    """Hands out a network's weights in the order of its layers, whatever they are called."""

    def __init__(self, *modules, train):
        self.layers = iter([layer for module in modules for layer in of(module, LAYERS)])
        self.norms = iter([norm for module in modules for norm in of(module, NORMS)])
        self.train = train

    def layer(self, x, **settings):
        layer = next(self.layers)
        weight, bias = layer.weight.contiguous(), layer.bias
        return x @ weight.T + bias if x.ndim == 2 else convolve(x, weight, bias, **settings)

    def norm(self, x):
        norm = next(self.norms)
        mean, var = norm.running_mean, norm.running_var
        if self.train:
            over = [0, *range(2, x.ndim)]
            mean, var = x.mean(over), x.var(over, correction=0)
        x = (x - column(mean, x)) / (column(var, x) + 0.001).sqrt()
        return x * column(norm.weight, x) + column(norm.bias, x)

    def conv(self, x, kernel=3):
        return self.norm(self.layer(x, padding=kernel // 2)).clamp(min=0)

    def double(self, x, linear=False):
        for axis in range(2, x.ndim):
            x = twice(x, axis)
        x = self.layer(F.pad(x, (0, 1) * (x.ndim - 2)))
        return x if linear else self.norm(x).clamp(min=0)

    def finished(self):
        return next(self.layers, None) is None and next(self.norms, None) is None


def twice(x, axis):
    """Linear interpolation between pixel centres: 3/4 of a pixel, 1/4 of its neighbour; at the edge that is itself."""
    n = x.shape[axis]
    before = x.index_select(axis, torch.arange(-1, n - 1).clamp(min=0))
    after = x.index_select(axis, torch.arange(1, n + 1).clamp(max=n - 1))
    return torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], dim=axis + 1).flatten(axis, axis + 1)


def literal_unet(net, x, train=False):
    down = Weights(net.encoder, train=train)
    skips = [down.conv(down.conv(x))]
    for _ in range(4):
        pooled = skips[-1].unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5))
        skips.append(down.conv(down.conv(pooled)))
    assert down.finished()
    x = skips.pop()
    for level in (3, 2, 1, 0):
        w = Weights(net.up[level], net.decoder[level], train=train)
        x = torch.cat([skips.pop(), w.double(x)], 1)
        for _ in range(4 if level == 0 else 2):
            x = w.conv(x)
        assert w.finished()
    return convolve(x, net.classify.weight.contiguous(), net.classify.bias, padding=1)


def literal_generator(net, x, z, kind, train=False):
    w = Weights(net.of_z, train=train)
    seed = [length // 32 for length in x.shape[2:]]
    z = w.layer(z).clamp(min=0).reshape(len(z), -1, *seed)
    for i in range(5):
        z = w.double(z, linear=i == 4)
    assert w.finished()
    w = Weights(net.of_x, net.common, net.last, train=train)
    x = torch.cat([w.conv(w.conv(x)), z], 1)
    x = w.conv(w.conv(x))
    x = w.layer(x, padding=1) if kind == "deformation" else w.layer(x).tanh()
    assert w.finished()
    return x


def literal_discriminator(net, x, train=False):
    w = Weights(net, train=train)

    def leaky(x):
        return torch.where(x > 0, x, 0.2 * x)

    for _ in range(5):
        x = leaky(w.norm(w.layer(x, stride=2, padding=2)))
    x = w.layer(leaky(w.layer(leaky(w.layer(x.flatten(1))))))
    assert w.finished()
    return x[:, 0]


LITERAL = {
    "S": literal_unet,
    "G_V": lambda net, x, z, train=False: literal_generator(net, x, z, "deformation", train),
    "G_I": lambda net, x, z, train=False: literal_generator(net, x, z, "intensity", train),
    "D": literal_discriminator,
}


def small(name, size=(32, 32), channels=1, width=2, **settings):
    torch.manual_seed(0)
    if name == "S":
        return BilinearUNet(channels, 3, width, **settings)
    if name == "D":
        return Discriminator(size, channels, width, **settings)
    return Generator(size, {"G_V": "deformation", "G_I": "intensity"}[name], channels, width, **settings)


def used(name, size=(32, 32), channels=1, width=2, momentum=0.5):
    """A network in float64 whose norms and biases are no longer as they began."""
    net = small(name, size, channels, width, norm_momentum=momentum).double()
    for norm in of(net, NORMS):
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    for layer in of(net, LAYERS):
        if layer.bias is not None:
            nn.init.normal_(layer.bias)
    for linear in of(net, nn.Linear):
        nn.init.normal_(linear.weight, std=0.3)
    net(*double(inputs_of(name, channels, size, 4)))
    return net


def double(tensors):
    return [tensor.double() for tensor in tensors]


# ---- what they are made of ----


def test_the_layers_are_those_counted_by_hand(full):
    found, hooks = [], []
    for module in of(full.net, (*LAYERS, *NORMS)):
        hooks.append(module.register_forward_hook(lambda m, _, y: found.append((m, tuple(y.shape[1:])))))
    with torch.no_grad():
        full.net.eval()(*inputs_of(full.name, size=(224, 224), n=1))
    for hook in hooks:
        hook.remove()
    for layer, output, weights, bias, norm in full.layers:
        module, shape = found.pop(0)
        assert (size_of(module), shape, numel(module.weight)) == (layer, output, weights)
        assert numel(module.bias) == (0 if norm else bias)  # a bias before a norm does nothing
        if norm:
            module, shape = found.pop(0)
            assert isinstance(module, nn.BatchNorm2d)
            assert (shape, numel(*module.parameters())) == (output, norm)
    assert found == []


def test_the_totals_are_the_releases_less_the_biases_before_norms(full):
    released = sum(weights + bias + norm for *_, weights, bias, norm in full.layers)
    idle = sum(bias for *_, bias, norm in full.layers if norm)
    assert released == full.released
    assert numel(*full.net.parameters()) == released - idle == full.ours
    assert all(p.requires_grad for p in full.net.parameters())


def test_a_bias_before_a_norm_does_nothing():
    torch.manual_seed(0)
    block, x = convolution(2, 2, 3).double().train(), torch.randn(4, 2, 6, 5).double()
    conv, norm, _ = block
    with_bias = F.conv2d(x, conv.weight, 10 * torch.randn(3).double(), padding=1)
    expected = F.batch_norm(with_bias, None, None, norm.weight, norm.bias, training=True, eps=1e-3).relu()
    assert torch.allclose(block(x), expected, rtol=0, atol=1e-12)


def test_strides_slopes_and_norms(full):
    assert {(norm.eps, norm.momentum) for norm in of(full.net, NORMS)} == {(1e-3, 0.01)}
    strides = {conv.stride for conv in of(full.net, nn.Conv2d)}
    assert strides == ({(2, 2)} if full.name == "D" else {(1, 1)})
    slopes = [relu.negative_slope for relu in of(full.net, nn.LeakyReLU)]
    assert slopes == ([0.2] * 7 if full.name == "D" else [])


@pytest.mark.parametrize("name", FULL)
def test_the_momentum_reaches_every_norm(name):
    assert {(norm.eps, norm.momentum) for norm in of(small(name, norm_momentum=0.3), NORMS)} == {(1e-3, 0.3)}


@pytest.mark.parametrize("name", FULL)
def test_the_widths_grow_with_the_width(name):
    """A layer between two that both grow has four times the weights; what is full grows with its ends."""
    thin, thick = (numel(*small(name, width=width).parameters()) for width in (4, 8))
    assert 3 < thick / thin < 4 if name in "SD" else 2 < thick / thin < 4
    channels = [[conv.out_channels for conv in of(small(name, width=width), nn.Conv2d)] for width in (4, 8)]
    if name.startswith("G"):
        assert channels[0].pop() == channels[1].pop() == (2 if name == "G_V" else 1)
    if name == "S":
        assert channels[0].pop() == channels[1].pop() == 3
    assert [2 * n for n in channels[0]] == channels[1]


# ---- shapes ----


@SIZES
@pytest.mark.parametrize("channels", [1, 2])
def test_what_generators_and_discriminators_return(size, channels):
    x, z = inputs_of("G", channels, size, 3)
    assert small("G_V", size, channels)(x, z).shape == (3, len(size), *size)
    assert small("G_I", size, channels)(x, z).shape == (3, channels, *size)
    assert small("D", size, channels)(x).shape == (3,)


@pytest.mark.parametrize("size", [(16, 16), (48, 16), (32, 80)])
def test_logits_of_the_u_net_have_the_images_size(size):
    assert BilinearUNet(2, 5, width=2)(torch.rand(2, 2, *size)).shape == (2, 5, *size)


@pytest.mark.parametrize("size", [(16, 32), (32, 48), (224, 225), (32, 32, 33)], ids=str)
def test_a_size_that_is_no_multiple_of_32_is_refused_by_the_discriminator(size):
    with pytest.raises(ValueError, match=r"size: expected multiples of 32, found \(\d+, ") as caught:
        Discriminator(size)
    assert str(tuple(size)) in str(caught.value)


@pytest.mark.parametrize("size", [(16, 32), (33, 70), (24, 48, 40)], ids=str)
@pytest.mark.parametrize("kind", ["deformation", "intensity"])
def test_a_generator_takes_any_size(size, kind):
    made = Generator(size, kind, width=2)(torch.rand(2, 1, *size), torch.randn(2, Z))
    assert made.shape == (2, 1 if kind == "intensity" else len(size), *size)


@pytest.mark.parametrize("kind", ["deform", "Deformation", "", None])
def test_an_unknown_kind_is_refused(kind):
    with pytest.raises(ValueError, match=f"kind: expected 'deformation' or 'intensity', found {kind!r}"):
        Generator((32, 32), kind)


@SIZES
def test_an_added_intensity_is_within_1_and_a_displacement_is_not(size):
    x, z = inputs_of("G", 1, size, 2)
    for name, bounded in (("G_I", True), ("G_V", False)):
        net = small(name, size)
        with torch.no_grad():
            found = net(x, z)
            of(net, LAYERS)[-1].weight.mul_(100)
            enlarged = net(x, z)
        assert found.min() < 0 < found.max()
        assert (enlarged.abs().max() <= 1) == bounded
        assert enlarged.max() > 0.9
        assert enlarged.min() < -0.9


# ---- how they begin ----


def test_convolutions_begin_as_he_normal_and_full_layers_as_a_narrow_normal_cut_off(full):
    for layer in of(full.net, LAYERS):
        w = layer.weight.detach().flatten().double()[:20000]
        if isinstance(layer, nn.Linear):
            assert layer.weight.detach().abs().max() <= 0.02
            law = stats.truncnorm(-2, 2, scale=0.01)
        else:
            law = stats.norm(scale=math.sqrt(2 / layer.weight[0].numel()))
        assert stats.kstest(w.numpy(), law.cdf).pvalue > 1e-4
        assert layer.bias is None or not layer.bias.any()
    for norm in of(full.net, NORMS):
        assert [v.unique().tolist() for v in (norm.weight, norm.bias)] == [[1], [0]]
        assert [v.unique().tolist() for v in (norm.running_mean, norm.running_var)] == [[0], [1]]


def test_volumes_begin_alike():
    net = small("G_V", (32, 32, 32), width=8)
    for conv in of(net, nn.Conv3d)[:-1]:
        fan_in = conv.weight[0].numel()
        assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.15)


@pytest.mark.parametrize("name", FULL)
def test_weights_repeat_with_the_seed(name):
    a, b = small(name), small(name)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    torch.manual_seed(1)
    start(b)
    changed = [not torch.equal(p, q) for p, q in zip(of(a, LAYERS), of(b, LAYERS)) for p, q in [(p.weight, q.weight)]]
    assert all(changed)


# ---- what they compute ----


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("channels", "size"), [(1, (32, 64)), (2, (64, 32)), (1, (32, 32, 64))], ids=str)
@pytest.mark.parametrize("name", FULL)
def test_the_forward_pass_is_the_literal_one(name, channels, size, train):
    if name == "S":
        size = size[:2]
    net = used(name, size, channels).train(train)
    inputs = double(inputs_of(name, channels, size))
    expected = LITERAL[name](net, *inputs, train=train)  # first: the pass moves the statistics
    assert expected.std() > 1e-3
    assert torch.allclose(net(*inputs), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("momentum", [0.01, 0.25])
def test_in_training_a_norm_moves_by_its_momentum(momentum):
    torch.manual_seed(0)
    net = Discriminator((32, 32), width=2, norm_momentum=momentum).double().train()
    x = torch.randn(6, 1, 32, 32).double()
    net(x)
    a = F.conv2d(x, net[0].weight, stride=2, padding=2)
    n = a[:, 0].numel()
    mean, var = a.mean((0, 2, 3)), a.var((0, 2, 3), correction=0) * n / (n - 1)
    assert torch.allclose(net[1].running_mean, momentum * mean, rtol=0, atol=1e-12)
    assert torch.allclose(net[1].running_var, 1 - momentum + momentum * var, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", FULL)
def test_in_evaluation_an_image_does_not_depend_on_its_batch(name):
    net = used(name).eval()
    inputs = double(inputs_of(name, n=3))
    alone = torch.cat([net(*(t[i : i + 1] for t in inputs)) for i in range(3)])
    assert torch.allclose(net(*inputs), alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["G_V", "G_I"])
def test_a_field_depends_on_the_image_and_on_z(name):
    net = used(name).eval()
    x, z = double(inputs_of(name))
    one = net(x[:1], z[:1])
    assert (net(x[1:], z[:1]) - one).abs().max() > 1e-3
    assert (net(x[:1], z[1:]) - one).abs().max() > 1e-3


@pytest.mark.parametrize("name", FULL)
def test_every_parameter_receives_a_gradient(name):
    net = used(name)
    net(*double(inputs_of(name, n=4))).square().sum().backward()
    assert not [key for key, p in net.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("name", FULL)
def test_the_memory_layout_of_the_images_does_not_change_the_numbers(name):
    net = used(name).eval()
    x, *z = double(inputs_of(name))
    expected = net(x, *z)
    last = x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)[:, :1]  # a slice of another layout
    assert not last.is_contiguous()
    assert torch.equal(net(last, *z), expected)


# ---- doubling ----


def moving(dims):
    """A doubling whose kernel of 2 has a 1 at its end along every axis: it moves the interpolated image by one."""
    layer = doubled(dims, 1, 1, linear=True)
    conv = of(layer, LAYERS)[0]
    with torch.no_grad():
        conv.weight.zero_()
        conv.bias.zero_()
        conv.weight[(0, 0, *[1] * dims)] = 1
    return layer


def test_doubling_interpolates_between_pixel_centres_and_pads_behind():
    x = torch.tensor([[0.0, 4.0], [8.0, 20.0]])[None, None]
    up = [[0, 1, 3, 4], [2, 3.5, 6.5, 8], [6, 8.5, 13.5, 16], [8, 11, 17, 20]]
    assert twice(twice(x, 2), 3)[0, 0].tolist() == up
    layer = moving(2)
    expected = [[3.5, 6.5, 8, 0], [8.5, 13.5, 16, 0], [11, 17, 20, 0], [0, 0, 0, 0]]
    assert layer(x)[0, 0].tolist() == expected
    with torch.no_grad():
        layer[2].weight.copy_(torch.tensor([[[[1.0, 0], [0, 0]]]]))
        layer[2].bias.fill_(5)
    assert layer(x)[0, 0].tolist() == [[value + 5 for value in row] for row in up]


def test_doubling_volumes_pads_behind_each_axis():
    x = torch.rand(1, 1, 2, 3, 2, generator=torch.Generator().manual_seed(0))
    y, up = moving(3)(x), twice(twice(twice(x, 2), 3), 4)
    assert y.shape == (1, 1, 4, 6, 4)
    assert torch.allclose(y[..., :-1, :-1, :-1], up[..., 1:, 1:, 1:], rtol=0, atol=1e-6)
    assert not y[..., -1, :, :].any()
    assert not y[..., -1, :].any()
    assert not y[..., -1].any()


@pytest.mark.parametrize("dims", [2, 3])
def test_only_a_linear_doubling_has_a_bias_and_no_norm(dims):
    linear, other = doubled(dims, 3, 2, linear=True), doubled(dims, 3, 2, 0.2)
    assert (of(linear, NORMS), of(linear, nn.ReLU)) == ([], [])
    assert of(linear, LAYERS)[0].bias.shape == (2,)
    assert of(other, LAYERS)[0].bias is None
    (norm,) = of(other, NORMS)
    assert (norm.eps, norm.momentum, norm.num_features) == (1e-3, 0.2, 2)
    assert (other(torch.randn(2, 3, *[4] * dims)) >= 0).all()
