"""The networks of Vorontsov et al. 2019: an encoder f, decoders g_com, g_res and g_seg, and how they are normalised.

`variant="released"` (default) has the layers of the released code, which produced the numbers; `"paper"` those of
Tables 2 to 9. The code has one convolution more before each decoder's last layer, whose kernel is 7 (not 3 or 5); a
skip also from the encoder's full resolution; and maps the code to the norms' parameters (Eq. 5) without any ReLU, its
two inner layers being one and the same. Both upsample in every layer of a decoder, the first one too: read literally,
the tables would end at half the size. The last layer of the head that segments starts as all others do; in the code as
torch has it.

All norms are of one image, so that a batch is the same as its images one by one.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from fewlabels.types import Network

VARIANTS = ("released", "paper")
SKIPS = ("compress", "concat", "sum", "none")
HIDDEN = 256  # units of the MLP of Eq. 5


class Conv(nn.Conv2d):
    """Convolution with reflection padding, where the map is larger than the padding; else zeros. Kaiming normal.

    Keeps the size, or halves it (`stride=2`, rounded up where the kernel is odd, down where it is 4).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride)
        self.before, self.after = (kernel - 1) // 2, (kernel - (stride == 2)) // 2
        nn.init.kaiming_normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        if self.after:
            mode = "reflect" if self.after < min(x.shape[2:]) else "constant"
            x = F.pad(x, [self.before, self.after] * 2, mode)
        if x.is_cuda:
            return super().forward(x)
        # With channels last convolutions take half the time on the CPU, but norms several times more.
        x = x.contiguous(memory_format=torch.channels_last)
        one = self.out_channels == 1 and self.kernel_size[1] > 1 and self.stride[1] == 1
        return self.to_one_channel(x) if one else super().forward(x).contiguous()

    def to_one_channel(self, x: Tensor) -> Tensor:
        """The convolution with the kernel's k columns as channels of their own, shifted and summed: one channel alone
        takes as long as k on the CPU, as it leaves most of a vector empty."""
        k = self.kernel_size[1]
        columns = self.weight[0].permute(2, 0, 1)[..., None]
        assert self.bias is not None
        maps = F.conv2d(x, columns, (self.bias / k).expand(k)).contiguous()
        width = x.shape[3] - k + 1
        return reduce(torch.add, (m[:, :, i : i + width] for i, m in enumerate(maps.unbind(1))))[:, None]


def instance_norm(x: Tensor) -> Tensor:
    """Mean 0 and variance 1 in each channel of each image."""
    return F.group_norm(x, x.shape[1])


class LayerNorm(nn.Module):
    """Mean 0 and variance 1 in each image, all channels together; then a scale and a shift for each channel.

    Scales start as U(0, 1), as in the released code.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.rand(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, 1, self.gamma, self.beta)


class Norms(nn.Module):
    """The norm of a layer for translation, and another one for segmentation (Eq. 4): layer norms with parameters of
    their own, or, `adaptive`, an instance norm whose scale and shift come from the code (Eq. 5)."""

    def __init__(self, channels: int, segments: bool, adaptive: bool) -> None:
        super().__init__()
        self.channels, self.translation = channels, LayerNorm(channels)
        self.segmentation = LayerNorm(channels) if segments and not adaptive else None

    def forward(self, x: Tensor, p: Tensor | str | None = None) -> Tensor:
        """`p`: None, to translate; "own", to segment with the layer's own parameters; or those of Eq. 5,
        `(N, 2 channels)`, shifts first."""
        if p is None:
            return self.translation(x)
        if self.segmentation is not None:
            return self.segmentation(x)
        assert isinstance(p, Tensor), p
        shift, scale = p.unflatten(1, (2, self.channels, 1, 1)).unbind(1)
        return torch.addcmul(shift, instance_norm(x), scale)


class Encoder(nn.Module):
    """f: images `(N, C, *size)` -> their code `(N, 2^levels width, *size / 2^levels)` and the maps before each halving,
    the last of them first. Table 2: `width=32, levels=4`; Table 5: `width=16, levels=5`. Sizes are rounded up.
    """

    def __init__(self, in_channels: int, width: int, levels: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels + 1)]
        self.first = Conv(in_channels, width, 3)
        self.convs = nn.ModuleList(Conv(a, b, 3, stride=2) for a, b in zip(widths, widths[1:]))
        self.shorts = nn.ModuleList(Conv(a, b, 1) for a, b in zip(widths, widths[1:]))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        skips: list[Tensor] = []
        x = self.first(x)
        for conv, short in zip(self.convs, self.shorts, strict=True):
            skips.insert(0, x)
            x = conv(instance_norm(x).relu()) + short(x[:, :, ::2, ::2])
        return instance_norm(x).relu(), skips


class Skip(nn.Module):
    """A map of a decoder and the encoder's of the same resolution -> both, the former cropped to the latter's size.

    kind  "compress": the encoder's `channels`, normalised, become one (Figure 5); "concat"; "sum"; "none": not used.
          The text normalises what is skipped in every case, the released code (`normalised=False`) here alone
    """

    def __init__(self, channels: int, kind: str, normalised: bool) -> None:
        super().__init__()
        self.outputs = channels + {"compress": 1, "concat": channels, "sum": 0, "none": 0}[kind]
        self.kind, self.normalised = kind, normalised
        self.compress = Conv(channels, 1, 1) if kind == "compress" else None

    def forward(self, h: Tensor, skipped: Tensor) -> Tensor:
        h = h[:, :, : skipped.shape[2], : skipped.shape[3]]
        if self.kind == "none":
            return h
        if self.compress is not None:
            return torch.cat([h, self.compress(instance_norm(skipped))], dim=1)
        skipped = instance_norm(skipped) if self.normalised else skipped
        return torch.cat([h, skipped], dim=1) if self.kind == "concat" else h + skipped


class Last(nn.Module):
    """Norm, ReLU and convolution."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.norm, self.conv = LayerNorm(inputs), Conv(inputs, outputs, kernel)

    def forward(self, h: Tensor) -> Tensor:
        return self.conv(self.norm(h).relu())


class Decoder(nn.Module):
    """g: a code `(N, inputs, *size)` and the encoder's maps -> an image `(N, C, *size)` within 1, or, with `segment`,
    the probability of the target `(N, 1, *size)`.

    width, levels  those of the encoder
    kernel, short  3 and with short skips (Tables 3, 6), or 5 and without (Tables 4, 7: the residual decoder)
    skip           long skips, of SKIPS
    translates     whether it makes images: has a last layer for them
    segments       whether it segments: has a last layer and, if it does both, norms for that
    code           `(channels, *size)` of the code that Eq. 5 maps to those norms' parameters; None: they have their own
    """

    def __init__(
        self, inputs: int, out_channels: int, width: int, levels: int, kernel: int = 3, short: bool = True,
        skip: str = "compress", translates: bool = True, segments: bool = False, code: tuple[int, ...] | None = None,
        variant: str = "released",
    ) -> None:  # fmt: skip
        super().__init__()
        if skip not in SKIPS or variant not in VARIANTS:
            raise ValueError(f"decoder: expected a skip of {SKIPS}, a variant of {VARIANTS}, found {skip}, {variant}")
        released, both = variant == "released", translates and segments
        widths = [width * 2**level for level in range(levels - 1, -1, -1)]
        kinds = [skip] * levels if released else [*[skip] * (levels - 1), "none"]  # "except for the first" layer
        joints = [Skip(w, kind, not released) for w, kind in zip(widths, kinds, strict=True)]
        self.skips, (*joined, end) = nn.ModuleList(joints), [s.outputs for s in joints]
        self.first = Conv(inputs, widths[0], kernel)
        self.convs = nn.ModuleList(Conv(a, b, kernel) for a, b in zip(joined, widths[1:], strict=True))
        self.shorts = nn.ModuleList(Conv(a, b, 1) for a, b in zip(joined, widths[1:], strict=True)) if short else None
        self.before_last = Conv(end, end, kernel) if released else None
        self.normed = normed = [*joined, end] if released else joined
        self.norms = nn.ModuleList(Norms(channels, both, code is not None) for channels in normed)
        self.mlp = mlp(code, 2 * sum(normed), released) if both and code is not None else None
        self.last = Last(end, out_channels, 7 if released else kernel) if translates else None
        if segments:
            self.classify = (
                nn.Sequential(Last(end, out_channels, 7), Conv(out_channels, 1, 1)) if released else Last(end, 1, 1)
            )

    def forward(self, z: Tensor, skips: Sequence[Tensor], segment: bool = False) -> Tensor:
        p = self.parameters_of(z) if segment and self.last is not None else [None] * len(self.norms)
        h = self.skips[0](self.first(upsampled(z)), skips[0])
        for i, conv in enumerate(self.convs):
            g = conv(upsampled(self.norms[i](h, p[i]).relu()))
            if self.shorts is not None:
                g = g + upsampled(self.shorts[i](h))  # as if upsampled first, at a quarter of the cost
            h = self.skips[i + 1](g, skips[i + 1])
        if self.before_last is not None:
            h = self.before_last(self.norms[-1](h, p[-1]).relu())
        if segment:
            return self.classify(h).sigmoid()
        assert self.last is not None
        return self.last(h).tanh()

    def parameters_of(self, z: Tensor) -> Sequence[Tensor | str]:
        """p_norm = MLP(c, u) (Eq. 5), of each norm; "own" where the norms have them."""
        if self.mlp is None:
            return ["own"] * len(self.norms)
        return self.mlp(z.flatten(1)).split([2 * channels for channels in self.normed], dim=1)


def upsampled(x: Tensor) -> Tensor:
    """Twice the size, by repeating rows and columns."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def mlp(code: tuple[int, ...], outputs: int, released: bool) -> nn.Sequential:
    """The MLP of Eq. 5, four layers of 256 units, for a code `(channels, *size)`."""
    inner = nn.Linear(HIDDEN, HIDDEN)
    layers = [nn.Linear(torch.Size(code).numel(), HIDDEN), inner, inner if released else nn.Linear(HIDDEN, HIDDEN)]
    layers.append(nn.Linear(HIDDEN, outputs))
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight)
    if released:
        return nn.Sequential(*layers)
    return nn.Sequential(*(x for layer in layers[:-1] for x in (layer, nn.ReLU())), layers[-1])


class Translator(nn.Module):
    """f, g_com, g_res and g_seg of Section 3.2. The last quarter of the code is unique to the presence domain
    (128 of 512), the others are common.

    size      of the images; `in_channels` of them
    width     channels at full size: 32 with `levels=4` (48 x 48), 16 with `levels=5` (128 x 128, BraTS)
    adaptive  whether the norms for segmentation take their parameters from the code (Eq. 5: MNIST), or have their own
    separate  "sep dec": a decoder of its own for segmentation

    All convolutions have spectral norm (Appendix A) but those of the head that segments and of the decoder of its own;
    as released, "sep dec" spares the residual decoder's last one too.
    """

    def __init__(
        self, size: Sequence[int], in_channels: int = 1, width: int = 32, levels: int = 4, skip: str = "compress",
        adaptive: bool = True, separate: bool = False, variant: str = "released",
    ) -> None:  # fmt: skip
        super().__init__()
        channels = width * 2**levels
        self.unique = channels // 4
        self.code = (channels, *(-(-length // 2**levels) for length in size))
        common: dict[str, Any] = dict(out_channels=in_channels, width=width, levels=levels, skip=skip, variant=variant)
        code = self.code if adaptive else None
        self.f = Encoder(in_channels, width, levels)
        self.g_com = Decoder(channels - self.unique, **common)
        self.g_res = Decoder(channels, kernel=5, short=False, segments=not separate, code=code, **common)
        head = self.g_res.classify if not separate else self.g_res.last if variant == "released" else None
        for network, spared in ((self.f, None), (self.g_com, None), (self.g_res, head)):
            with_spectral_norm(network, spared)
        self.g_seg = Decoder(channels, translates=False, segments=True, **common) if separate else None

    def split(self, s: Tensor) -> tuple[Tensor, ...]:
        """The code s as `[c, u]` (Eq. 1)."""
        return s.split([s.shape[1] - self.unique, self.unique], dim=1)

    def segment(self, s: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """y_seg = g_seg(c, u) (Eq. 4)."""
        return (self.g_seg or self.g_res)(s, skips, segment=True)


def with_spectral_norm(network: Network, spared: nn.Module | None = None) -> Network:
    """`network` with all its convolutions normalised (Miyato et al. 2018) but those of its part `spared`."""
    kept = set(spared.modules()) if spared is not None else set()
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module not in kept:
            spectral_norm(module)
    return network


class Autoencoder(nn.Module):
    """The baselines of Section 3.3: an encoder, a decoder that segments and, unless `reconstructs` is False, one that
    reconstructs its input without long skips. As released: without spectral norm, and the decoder that segments is that
    of Table 3 (Section 3.3 speaks of the residual one's, Table 4)."""

    def __init__(
        self, in_channels: int = 1, width: int = 32, levels: int = 4, reconstructs: bool = True,
        variant: str = "released",
    ) -> None:  # fmt: skip
        super().__init__()
        channels = width * 2**levels
        common: dict[str, Any] = {"out_channels": in_channels, "width": width, "levels": levels, "variant": variant}
        self.f = Encoder(in_channels, width, levels)
        self.g_rec = Decoder(channels, skip="none", **common) if reconstructs else None
        self.g_seg = Decoder(channels, translates=False, segments=True, **common)

    def segment(self, s: Tensor, skips: Sequence[Tensor]) -> Tensor:
        return self.g_seg(s, skips, segment=True)
