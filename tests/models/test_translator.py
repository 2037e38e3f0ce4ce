"""The networks of Vorontsov et al. 2019 against Tables 2-9, counts by hand and forward passes written out."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from fewlabels.models import translator
from fewlabels.models.discriminators import MultiScaleDiscriminator
from fewlabels.models.translator import (
    SKIPS,
    VARIANTS,
    Autoencoder,
    Conv,
    Decoder,
    Encoder,
    LayerNorm,
    Norms,
    Translator,
    instance_norm,
)

# Channels, kernel and stride of each layer, as printed in Appendix A.
TABLE_2 = [(32, 3, 1), (64, 3, 2), (128, 3, 2), (256, 3, 2), (512, 3, 2)]
TABLE_3 = [(256, 3, 1), (128, 3, 1), (64, 3, 1), (32, 3, 1), (1, 3, 1)]
TABLE_4 = [(256, 5, 1), (128, 5, 1), (64, 5, 1), (32, 5, 1), (1, 5, 1)]
TABLE_5 = [(16, 3, 1), (32, 3, 2), (64, 3, 2), (128, 3, 2), (256, 3, 2), (512, 3, 2)]
TABLE_6 = [(256, 3, 1), (128, 3, 1), (64, 3, 1), (32, 3, 1), (16, 3, 1), (1, 3, 1)]
TABLE_7 = [(256, 5, 1), (128, 5, 1), (64, 5, 1), (32, 5, 1), (16, 5, 1), (1, 5, 1)]
TABLE_8 = [(128, 4, 1), (128, 4, 2), (256, 4, 2), (512, 4, 2), (1, 1, 1)]
TABLE_9 = [(64, 4, 1), (64, 4, 2), (128, 4, 2), (256, 4, 2), (512, 4, 2), (1, 1, 1)]
MNIST, LARGE = {"width": 32, "levels": 4}, {"width": 16, "levels": 5}


def count(module):
    return sum(p.numel() for p in module.parameters())


def conv(inputs, outputs, kernel):
    return inputs * outputs * kernel**2 + outputs


def layers(modules):
    """Channels, kernel and stride of convolutions."""
    return [(m.out_channels, m.kernel_size[0], m.stride[0]) for m in modules]


def main_path(decoder):
    return [decoder.first, *decoder.convs, decoder.last.conv]


@pytest.fixture
def plain(monkeypatch):
    """Networks without spectral norm: their weights are what the state dict says."""
    monkeypatch.setattr(translator, "spectral_norm", lambda module: module)


# ---- the tables ----


@pytest.mark.parametrize(("table", "arguments"), [(TABLE_2, MNIST), (TABLE_5, LARGE)])
def test_encoders_are_those_of_tables_2_and_5(table, arguments):
    f = Encoder(1, **arguments)
    assert layers([f.first, *f.convs]) == table
    expected, inputs = conv(1, table[0][0], 3), table[0][0]
    for channels, kernel, _ in table[1:]:  # a block: its convolution, and the 1 x 1 of its short skip
        expected += conv(inputs, channels, kernel) + conv(inputs, channels, 1)
        inputs = channels
    assert count(f) == expected  # instance norms have no parameters
    if table is TABLE_2:
        assert count(f) == 320 + 20_608 + 82_176 + 328_192 + 1_311_744 == 1_743_040


@pytest.mark.parametrize(
    ("arguments", "channels", "size", "code"),
    [(MNIST, 1, (48, 48), (3, 3)), (LARGE, 1, (128, 128), (4, 4)), (LARGE, 4, (240, 120), (8, 4))],
)
def test_codes_have_512_channels_and_the_papers_sizes(arguments, channels, size, code):
    x = torch.rand(1, channels, *size)
    with torch.inference_mode():
        s, skips = Encoder(channels, **arguments)(x)
    assert s.shape == (1, 512, *code)
    assert bool((s >= 0).all())
    width, levels = arguments.values()
    assert len(skips) == levels
    sizes = [size]
    while len(sizes) < levels:
        sizes.append(tuple(-(-n // 2) for n in sizes[-1]))  # rounded up: 15 -> 8
    assert [m.shape[1:] for m in skips[::-1]] == [(width * 2**i, *size) for i, size in enumerate(sizes)]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("common", "residual", "arguments", "size"),
    [(TABLE_3, TABLE_4, MNIST, (48, 48)), (TABLE_6, TABLE_7, LARGE, (128, 128))],
)
def test_decoders_are_those_of_the_tables(common, residual, arguments, size, variant):
    net = Translator(size, variant=variant, **arguments)
    assert net.unique == 128
    assert net.g_com.first.in_channels == 384
    assert net.g_res.first.in_channels == 512
    for decoder, table in ((net.g_com, common), (net.g_res, residual)):
        found = layers(main_path(decoder))
        if variant == "released":  # the last layer's kernel is 7, and a layer more comes before it
            assert found == [*table[:-1], (1, 7, 1)]
            inputs = table[-2][0] + 1
            assert layers([decoder.before_last]) == [(inputs, table[0][1], 1)]
        else:
            assert found == table
            assert decoder.before_last is None
    assert layers(net.g_com.shorts) == [(channels, 1, 1) for channels, _, _ in common[1:-1]]
    assert net.g_res.shorts is None


def decoder_count(inputs, table, out_channels, short, released, heads, own=False, mlp=None, compress=True):
    """By hand: `heads`, of "image" and "mask"; own: other norms for segmentation; mlp: how many inputs it has."""
    (first, kernel, _), *blocks, _ = table
    total, channels, norms = conv(inputs, first, kernel), first, []
    for i, (outputs, k, _) in enumerate([*blocks, (None, kernel, 1)]):
        last = i == len(blocks)
        if compress and (released or not last):
            total += conv(channels, 1, 1)
            channels += 1
        if last:
            break
        norms.append(channels)
        total += conv(channels, outputs, k) + (conv(channels, outputs, 1) if short else 0)
        channels = outputs
    if released:
        norms.append(channels)
        total += conv(channels, channels, kernel)
    total += 2 * sum(norms) * (2 if own else 1)
    if "image" in heads:
        total += 2 * channels + conv(channels, out_channels, 7 if released else kernel)
    if "mask" in heads:
        total += 2 * channels
        total += conv(channels, out_channels, 7) + conv(out_channels, 1, 1) if released else conv(channels, 1, 1)
    if mlp:
        linear = lambda a, b: a * b + b  # noqa: E731
        total += linear(mlp, 256) + (1 if released else 2) * linear(256, 256) + linear(256, 2 * sum(norms))
    return total


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_of_the_networks_for_mnist_are_counted_by_hand(variant):
    released = variant == "released"
    net = Translator((48, 48), variant=variant, **MNIST)
    assert count(net.f) == 1_743_040
    assert count(net.g_com) == decoder_count(384, TABLE_3, 1, True, released, ["image"])
    both = ["image", "mask"]
    assert count(net.g_res) == decoder_count(512, TABLE_4, 1, False, released, both, mlp=512 * 3 * 3)
    separate = Translator((48, 48), variant=variant, separate=True, **MNIST)
    assert count(separate.g_res) == decoder_count(512, TABLE_4, 1, False, released, ["image"])
    assert count(separate.g_seg) == decoder_count(512, TABLE_3, 1, True, released, ["mask"])
    assert net.g_seg is None
    # In full, once: convolutions, short skips, compressed skips, norms, the layer more, the last one.
    if released:
        convs = 884_992 + 296_192 + 74_368 + 18_752
        shorts, skips, norms = 33_024 + 8_320 + 2_112, 257 + 129 + 65 + 33, 2 * (257 + 129 + 65 + 33)
        assert count(net.g_com) == convs + shorts + skips + norms + (33 * 33 * 9 + 33) + (66 + 33 * 49 + 1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_of_the_networks_for_brats_are_counted_by_hand(variant):
    released = variant == "released"
    net = Translator((240, 120), 4, adaptive=False, variant=variant, **LARGE)
    assert count(net.f) == conv(4, 16, 3) + sum(conv(a, 2 * a, 3) + conv(a, 2 * a, 1) for a in (16, 32, 64, 128, 256))
    assert count(net.g_com) == decoder_count(384, TABLE_6, 4, True, released, ["image"])
    assert count(net.g_res) == decoder_count(512, TABLE_7, 4, False, released, ["image", "mask"], own=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_of_the_baselines_are_counted_by_hand(variant):
    released = variant == "released"
    net = Autoencoder(variant=variant, **MNIST)
    assert count(net.g_seg) == decoder_count(512, TABLE_3, 1, True, released, ["mask"])
    assert count(net.g_rec) == decoder_count(512, TABLE_3, 1, True, released, ["image"], compress=False)
    assert count(net.f) == 1_743_040
    assert Autoencoder(reconstructs=False, **MNIST).g_rec is None


@pytest.mark.parametrize(("table", "width", "channels"), [(TABLE_8, 128, 1), (TABLE_9, 64, 4)])
def test_discriminators_are_those_of_tables_8_and_9(table, width, channels):
    widths = [width * 2**i for i in range(len(table) - 2)]
    for variant in VARIANTS:
        D = MultiScaleDiscriminator(channels, widths, variant)
        assert len(D.scales) == 3
        rows = table if variant == "paper" else [(width, 4, 2), *table[2:]]
        for network in D.scales:
            assert layers(m for m in network if isinstance(m, nn.Conv2d)) == rows
            assert all(m.negative_slope == 0.2 for m in network if isinstance(m, nn.LeakyReLU))
        of_convs = sum(conv(a, b, k) for (a, _, _), (b, k, _) in zip([(channels, 0, 0), *rows], rows))
        if variant == "released":  # no norm before the second convolution, one before the last
            assert count(D) == 3 * (of_convs + 2 * sum(widths[1:]))


@pytest.mark.parametrize(("table", "width", "channels"), [(TABLE_8, 128, 1), (TABLE_9, 64, 4)])
def test_the_papers_discriminators_have_norms_where_the_tables_say(table, width, channels):
    """The second row to the last but one are "Norm+ReLU+Conv", the first and the last "Convolution" alone."""
    D = MultiScaleDiscriminator(channels, [width * 2**i for i in range(len(table) - 2)], "paper")
    expected = ["Conv", *["LayerNorm", "LeakyReLU", "Conv"] * (len(table) - 2), "Conv"]
    kinds = {Conv: "Conv", LayerNorm: "LayerNorm", nn.LeakyReLU: "LeakyReLU"}
    for network in D.scales:
        assert [next(name for kind, name in kinds.items() if isinstance(m, kind)) for m in network] == expected


@pytest.mark.parametrize(
    ("size", "variant", "places"),
    [((48, 48), "released", (36, 9, 1)), ((48, 48), "paper", (36, 9, 1)), ((128, 128), "released", (256, 64, 16))],
)
def test_a_discriminators_maps_at_three_scales(size, variant, places):
    D = MultiScaleDiscriminator(1, [2, 4, 8], variant)
    assert [m.shape for m in D(torch.rand(2, 1, *size))] == [(2, n) for n in places]


# ---- norms ----


def centred(x, dims):
    """Mean 0 and variance 1 over `dims`."""
    mean = x.mean(dims, keepdim=True)
    return (x - mean) / ((x - mean).square().mean(dims, keepdim=True) + 1e-5).sqrt()


def test_norms_are_their_formulas():
    x = 3 * torch.randn(4, 5, 6, 7) + 2
    torch.testing.assert_close(instance_norm(x), centred(x, (2, 3)))
    norm = LayerNorm(5)
    assert norm.gamma.shape == norm.beta.shape == (5,)
    nn.init.normal_(norm.beta)
    scale, shift = (p[:, None, None] for p in (norm.gamma, norm.beta))
    torch.testing.assert_close(norm(x), centred(x, (1, 2, 3)) * scale + shift)


def test_scales_start_between_0_and_1_and_shifts_at_0():
    norm = LayerNorm(1000)
    gamma = norm.gamma.detach()
    assert 0 <= float(gamma.min()) < 0.05
    assert 0.95 < float(gamma.max()) <= 1
    assert float(gamma.mean()) == pytest.approx(0.5, abs=0.05)
    assert not norm.beta.any()


def test_norms_for_segmentation_have_parameters_of_their_own_or_take_them_shifts_first():
    x = torch.randn(3, 4, 5, 6) + 1
    own = Norms(4, segments=True, adaptive=False)
    nn.init.normal_(own.segmentation.beta)
    torch.testing.assert_close(own(x), own.translation(x))
    torch.testing.assert_close(own(x, "own"), own.segmentation(x))
    assert not torch.allclose(own(x), own(x, "own"))
    adaptive = Norms(4, segments=True, adaptive=True)
    assert adaptive.segmentation is None
    p = torch.randn(3, 8)
    shift, scale = p[:, :4, None, None], p[:, 4:, None, None]
    torch.testing.assert_close(adaptive(x, p), centred(x, (2, 3)) * scale + shift)


# ---- convolutions ----


@pytest.mark.parametrize(
    ("kernel", "stride", "before", "after"),
    [(1, 1, 0, 0), (3, 1, 1, 1), (5, 1, 2, 2), (7, 1, 3, 3), (3, 2, 1, 1), (4, 1, 1, 2), (4, 2, 1, 1)],
)
@pytest.mark.parametrize("size", [(9, 6), (4, 4), (3, 3), (1, 5), (2, 8)])
@pytest.mark.parametrize("outputs", [1, 3])
def test_padding_is_by_reflection_or_zeros_on_tiny_maps(kernel, stride, before, after, size, outputs):
    layer, x = Conv(2, outputs, kernel, stride), torch.randn(2, 2, *size)
    if min(size) + before + after < kernel:
        with pytest.raises(RuntimeError, match="[Kk]ernel size"):
            layer(x)
        return
    mode = "reflect" if after < min(size) else "constant"
    if mode == "reflect" and after:  # by hand: without repeating the border
        rows = [*range(before, 0, -1), *range(size[0]), *range(size[0] - 2, size[0] - 2 - after, -1)]
        columns = [*range(before, 0, -1), *range(size[1]), *range(size[1] - 2, size[1] - 2 - after, -1)]
        padded = x[:, :, rows][:, :, :, columns]
    else:
        padded = torch.zeros(2, 2, size[0] + before + after, size[1] + before + after)
        padded[:, :, before : before + size[0], before : before + size[1]] = x
    y = layer(x)
    torch.testing.assert_close(y, F.conv2d(padded, layer.weight, layer.bias, stride))
    if stride == 1:
        assert y.shape[2:] == size
    else:
        assert y.shape[2:] == tuple(n // 2 if kernel == 4 else (n + 1) // 2 for n in size)


@pytest.mark.parametrize("outputs", [1, 3])
def test_gradients_of_a_convolution_are_those_of_torchs(outputs):
    layer, x = Conv(4, outputs, 7).double(), torch.randn(2, 4, 9, 11, dtype=torch.double, requires_grad=True)
    padded = F.pad(x, [3] * 4, "reflect")
    weights = torch.randn(2, outputs, 9, 11, dtype=torch.double)
    of = [x, layer.weight, layer.bias]
    ours = torch.autograd.grad((layer(x) * weights).sum(), of)
    theirs = torch.autograd.grad((F.conv2d(padded, layer.weight, layer.bias) * weights).sum(), of)
    torch.testing.assert_close(ours, theirs)


def test_weights_are_kaimings_normal():
    weight = Conv(64, 64, 5).weight.detach()
    assert float(weight.std()) == pytest.approx((2 / (64 * 25)) ** 0.5, rel=0.03)
    assert float(weight.abs().max() / weight.std()) > 3.5  # not uniform


# ---- the forward passes, written out ----


def convolved(w, name, x, stride=1):
    weight, bias = w[f"{name}.weight"], w[f"{name}.bias"]
    k = weight.shape[-1]
    before, after = (k - 1) // 2, k // 2 if stride == 1 else (k - 1) // 2
    mode = "reflect" if after < min(x.shape[2:]) else "constant"
    return F.conv2d(F.pad(x, (before, after, before, after), mode), weight, bias, stride)


def repeated(x):
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def layer_norm(w, name, x):
    gamma, beta = (w[f"{name}.{key}"][:, None, None] for key in ("gamma", "beta"))
    return centred(x, (1, 2, 3)) * gamma + beta


def literal_encoder(w, x, levels):
    x, skips = convolved(w, "first", x), []
    for i in range(levels):
        skips = [x, *skips]
        y = convolved(w, f"convs.{i}", centred(x, (2, 3)).clamp(min=0), 2)
        x = y + F.conv2d(x, w[f"shorts.{i}.weight"], w[f"shorts.{i}.bias"], 2)
    return centred(x, (2, 3)).clamp(min=0), skips


def literal_decoder(w, z, skips, kind, released, mode="translation", adaptive=False):
    """Each block the naive way: the short skip upsamples before its 1 x 1 convolution."""
    levels, n_convs = len(skips), sum(name.startswith("convs.") and name.endswith("weight") for name in w)
    assert n_convs == levels - 1
    n_norms = n_convs + released
    p = None
    if adaptive:
        p = z.flatten(1)
        for i in (0, 1, 2, 3) if released else (0, 2, 4, 6):
            p = F.linear(p, w[f"mlp.{i}.weight"], w[f"mlp.{i}.bias"])
            p = p if released or i == 6 else p.clamp(min=0)

    def norm(i, h):
        nonlocal p
        if not adaptive:
            return layer_norm(w, f"norms.{i}.{mode}", h)
        c = h.shape[1]
        shift, scale, p = p[:, :c], p[:, c : 2 * c], p[:, 2 * c :]
        return centred(h, (2, 3)) * scale[..., None, None] + shift[..., None, None]

    def joined(i, h):
        skip = skips[i]
        h = h[:, :, : skip.shape[2], : skip.shape[3]]
        if kind == "none" or (not released and i == levels - 1):
            return h
        if kind == "compress":
            one = F.conv2d(centred(skip, (2, 3)), w[f"skips.{i}.compress.weight"], w[f"skips.{i}.compress.bias"])
            return torch.cat([h, one], 1)
        skip = skip if released else centred(skip, (2, 3))
        return torch.cat([h, skip], 1) if kind == "concat" else h + skip

    h = joined(0, convolved(w, "first", repeated(z)))
    for i in range(n_convs):
        g = convolved(w, f"convs.{i}", repeated(norm(i, h).clamp(min=0)))
        if "shorts.0.weight" in w:
            g = g + convolved(w, f"shorts.{i}", repeated(h))
        h = joined(i + 1, g)
    if released:
        h = convolved(w, "before_last", norm(n_norms - 1, h).clamp(min=0))
    if p is not None:
        assert p.shape[1] == 0
    if mode == "translation":
        return convolved(w, "last.conv", layer_norm(w, "last.norm", h).clamp(min=0)).tanh()
    head = "classify.0" if released else "classify"
    y = convolved(w, f"{head}.conv", layer_norm(w, f"{head}.norm", h).clamp(min=0))
    return (convolved(w, "classify.1", y) if released else y).sigmoid()


def spread(module):
    """Away from the start, where shifts are 0."""
    for name, p in module.named_parameters():
        if name.endswith(("beta", "bias")):
            nn.init.normal_(p, std=0.3)
    return module


def test_an_encoder_is_its_forward_pass_written_out():
    torch.manual_seed(0)
    f, x = spread(Encoder(2, 3, 3)), torch.randn(2, 2, 20, 12)
    s, skips = f(x)
    expected, maps = literal_encoder(f.state_dict(), x, 3)
    torch.testing.assert_close(s, expected, atol=1e-5, rtol=1e-4)
    assert len(skips) == len(maps)
    for a, b in zip(skips, maps):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", SKIPS)
@pytest.mark.parametrize("how", ["common", "residual", "own norms", "adaptive"])
def test_a_decoder_is_its_forward_pass_written_out(variant, kind, how):
    """Sizes that cannot be halved evenly: what was upsampled is cropped, 6 -> 5 and 4 -> 3."""
    torch.manual_seed(0)
    f, x = Encoder(2, 2, 3), torch.randn(2, 2, 20, 12)
    s, skips = f(x)
    s, skips = s.detach(), [m.detach() for m in skips]
    settings = {"common": {}, "residual": {"kernel": 5, "short": False}}.get(how)
    if settings is None:
        settings = {"kernel": 5, "short": False, "segments": True, "code": (16, 3, 2) if how == "adaptive" else None}
    g = spread(Decoder(16, 2, 2, 3, skip=kind, variant=variant, **settings))
    w = {name: value.detach() for name, value in g.state_dict().items()}
    released = variant == "released"
    found = g(s, skips)
    assert found.shape == x.shape
    torch.testing.assert_close(found, literal_decoder(w, s, skips, kind, released), atol=2e-5, rtol=1e-4)
    if "segments" in settings:
        mask = g(s, skips, segment=True)
        assert mask.shape == (2, 1, 20, 12)
        mode, adaptive = ("segmentation", how == "adaptive")
        expected = literal_decoder(w, s, skips, kind, released, mode, adaptive)
        torch.testing.assert_close(mask, expected, atol=5e-5, rtol=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_decoder_that_only_segments_uses_its_own_layer_norms(variant):
    torch.manual_seed(0)
    s, skips = Encoder(1, 2, 2)(torch.randn(2, 1, 16, 12))
    g = spread(Decoder(8, 1, 2, 2, translates=False, segments=True, code=(8, 4, 3), variant=variant))
    assert g.mlp is None
    assert g.last is None
    w = {name.replace(".translation.", ".segmentation."): value for name, value in g.state_dict().items()}
    expected = literal_decoder(w, s, skips, "compress", variant == "released", "segmentation")
    torch.testing.assert_close(g(s, skips, segment=True), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_discriminator_is_its_forward_pass_written_out(variant, plain):
    torch.manual_seed(0)
    D, x = spread(MultiScaleDiscriminator(2, [2, 3, 4], variant)), torch.randn(3, 2, 36, 33)
    for network, found in zip(D.scales, D(x), strict=True):
        y = x
        for i, module in enumerate(network):
            if isinstance(module, nn.Conv2d):
                y = convolved(network.state_dict(), str(i), y, module.stride[0])
            elif isinstance(module, LayerNorm):
                y = layer_norm(network.state_dict(), str(i), y)
            else:
                y = torch.where(y > 0, y, 0.2 * y)
        torch.testing.assert_close(found, y.flatten(1), atol=1e-5, rtol=1e-4)
        ones = torch.ones(1, 1, 3, 3)  # half the size: means of 3 x 3, outside the image nothing counts
        sums = F.conv2d(x.flatten(0, 1)[:, None], ones, stride=2, padding=1)
        number = F.conv2d(torch.ones(1, 1, *x.shape[2:]), ones, stride=2, padding=1)
        x = (sums / number).unflatten(0, x.shape[:2])[:, :, 0]


# ---- what belongs to what ----


def test_skips_join_the_channels_they_say():
    end = {"compress": 3, "concat": 4, "sum": 2, "none": 2}  # of two
    for kind in SKIPS:
        assert Decoder(8, 1, 2, 2, skip=kind).last.conv.in_channels == end[kind]
        assert Decoder(8, 1, 2, 2, skip=kind, variant="paper").last.conv.in_channels == 2  # not at full size


def test_the_last_quarter_of_the_code_is_unique():
    net = Translator((16, 16), width=4, levels=3)
    s = torch.arange(32.0)[None, :, None, None].expand(2, 32, 2, 2)
    c, u = net.split(s)
    assert c[0, :, 0, 0].tolist() == list(range(24))
    assert u[0, :, 0, 0].tolist() == list(range(24, 32))
    assert net.code == (32, 2, 2)
    assert Translator((240, 120), width=1, levels=5).code == (32, 8, 4)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("arguments", [{}, {"separate": True}, {"adaptive": False}, {"skip": "concat"}], ids=str)
def test_an_image_is_the_same_alone_and_in_a_batch(variant, arguments):
    torch.manual_seed(0)
    net = Translator((16, 20), 2, width=2, levels=2, variant=variant, **arguments).eval()
    D = MultiScaleDiscriminator(2, [2, 4], variant).eval()
    x = torch.randn(4, 2, 16, 20) * torch.tensor([0.1, 1, 2, 5])[:, None, None, None]

    def everything(x):
        s, skips = net.f(x)
        c, _ = net.split(s)
        return [s, *skips, net.g_com(c, skips), net.g_res(s, skips), net.segment(s, skips), *D(x)]

    with torch.inference_mode():
        together, alone = everything(x), [everything(image) for image in x.split(1)]
    for whole, *parts in zip(together, *alone, strict=True):
        torch.testing.assert_close(whole, torch.cat(parts), atol=1e-5, rtol=1e-4)


def test_the_baselines_images_are_the_same_alone_and_in_a_batch():
    net, x = Autoencoder(1, 2, 2).eval(), torch.randn(3, 1, 16, 16)
    with torch.inference_mode():
        run = lambda x: (net.segment(*net.f(x)), net.g_rec(*net.f(x)))  # noqa: E731
        for whole, *parts in zip(run(x), *map(run, x.split(1)), strict=True):
            torch.testing.assert_close(whole, torch.cat(parts), atol=1e-5, rtol=1e-4)


def test_the_baseline_reconstructs_from_the_code_alone():
    net = Autoencoder(1, 2, 2)
    s, skips = net.f(torch.randn(2, 1, 16, 16))
    assert torch.equal(net.g_rec(s, skips), net.g_rec(s, [torch.full_like(m, 9) for m in skips]))
    assert not torch.equal(net.segment(s, skips), net.segment(s, [m + torch.randn_like(m) for m in skips]))


def test_a_separate_decoder_segments_and_the_residual_one_does_not():
    net = Translator((16, 16), width=2, levels=2, separate=True)
    assert not hasattr(net.g_res, "classify")
    assert net.g_res.mlp is None
    s, skips = net.f(torch.randn(2, 1, 16, 16))
    assert torch.equal(net.segment(s, skips), net.g_seg(s, skips, segment=True))
    net.segment(s, skips).sum().backward()
    assert all(p.grad is None for p in net.g_res.parameters())
    assert layers(net.g_seg.convs) == [(2, 3, 1)]
    assert net.g_seg.shorts is not None


def test_a_shared_decoder_segments_by_all_of_its_layers_but_the_last():
    net = Translator((16, 16), width=2, levels=2)
    net.segment(*net.f(torch.randn(2, 1, 16, 16))).sum().backward()
    without = {name for name, p in net.g_res.named_parameters() if p.grad is None}
    translation = {name for name in dict(net.g_res.named_parameters()) if ".translation." in name}
    assert without == {name for name in dict(net.g_res.named_parameters()) if name.startswith("last.")} | translation


# ---- spectral norm ----


def normalised(module):
    return {name for name, m in module.named_modules() if parametrize.is_parametrized(m)}


def convolutions(module):
    return {name for name, m in module.named_modules() if isinstance(m, nn.Conv2d)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_convolutions_of_G_and_D_but_the_segmentations_are_spectrally_normalised(variant):
    net = Translator((16, 16), width=2, levels=2, variant=variant)
    head = {name for name in convolutions(net) if name.startswith("g_res.classify")}
    assert len(head) == (2 if variant == "released" else 1)
    assert normalised(net) == convolutions(net) - head
    assert any("compress" in name for name in normalised(net))
    separate = Translator((16, 16), width=2, levels=2, separate=True, variant=variant)
    spared = ("g_seg", "g_res.last") if variant == "released" else ("g_seg",)  # as in the released 027 and 107_sc
    assert normalised(separate) == {name for name in convolutions(separate) if not name.startswith(spared)}
    D = MultiScaleDiscriminator(1, [2, 4], variant)
    assert normalised(D) == convolutions(D)
    assert normalised(Autoencoder(1, 2, 2, variant=variant)) == set()


def test_normalised_weights_have_spectral_norm_1():
    torch.manual_seed(0)
    net = Translator((16, 16), width=4, levels=2)
    D, x = MultiScaleDiscriminator(1, [4, 8]), torch.randn(1, 1, 16, 16)
    for _ in range(30):
        s, skips = net.f(x)
        net.g_com(net.split(s)[0], skips), net.g_res(s, skips), D(x)
    of = [m for network in (net.eval(), D.eval()) for m in network.modules() if parametrize.is_parametrized(m)]
    largest = [float(torch.linalg.matrix_norm(m.weight.detach().flatten(1), 2)) for m in of]
    assert len(largest) > 20
    assert largest == pytest.approx([1.0] * len(largest), abs=0.05)
    spared = net.g_res.classify[0].conv.weight.detach().flatten(1)
    assert float(torch.linalg.matrix_norm(spared, 2)) != pytest.approx(1, abs=0.05)


# ---- the MLP ----


def test_the_released_mlp_is_linear_and_its_inner_layers_are_one():
    net = Translator((16, 16), width=4, levels=2).g_res
    outputs = 2 * sum(norm.channels for norm in net.norms)
    code = 16 * 4 * 4
    assert count(net.mlp) == (code * 256 + 256) + (256 * 256 + 256) + (256 * outputs + outputs)
    assert net.mlp[1] is net.mlp[2]
    a, b = torch.randn(2, 3, code)
    zero = net.mlp(torch.zeros(1, code))
    torch.testing.assert_close(net.mlp(a + b), net.mlp(a) + net.mlp(b) - zero, atol=1e-4, rtol=1e-4)


def test_the_papers_mlp_has_four_layers_and_is_not_linear():
    net = Translator((16, 16), width=4, levels=2, variant="paper").g_res
    outputs = 2 * sum(norm.channels for norm in net.norms)
    code = 16 * 4 * 4
    assert count(net.mlp) == (code * 256 + 256) + 2 * (256 * 256 + 256) + (256 * outputs + outputs)
    a, b = torch.randn(2, 3, code)
    zero = net.mlp(torch.zeros(1, code))
    assert not torch.allclose(net.mlp(a + b), net.mlp(a) + net.mlp(b) - zero, atol=1e-2)


# ---- loopholes ----


@pytest.mark.parametrize("bad", [{"skip": "compressed"}, {"variant": "release"}])
def test_unknown_options_are_refused(bad):
    value = next(iter(bad.values()))
    with pytest.raises(ValueError, match=rf"^decoder: expected .*found .*{value}"):
        Decoder(8, 1, 2, 2, **bad)
    with pytest.raises(ValueError, match=rf"^decoder: expected .*found .*{value}"):
        Translator((16, 16), width=2, levels=2, **bad)


def test_images_are_within_1_and_masks_are_probabilities():
    net, x = Translator((16, 16), width=2, levels=2), 50 * torch.randn(2, 1, 16, 16)
    s, skips = net.f(x)
    assert float(net.g_com(net.split(s)[0], skips).detach().abs().max()) <= 1
    assert float(net.g_res(s, skips).detach().abs().max()) <= 1
    y = net.segment(s, skips).detach()
    assert 0 <= float(y.min())
    assert float(y.max()) <= 1
