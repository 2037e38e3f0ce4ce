"""Generators of transformations: an image and a random vector in, a field out."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fewlabels.models.layers import CONV, LAYOUT, convolution, doubled, halvings, laid_out, start

Z = 100  # length of the random vector


class Generator(nn.Module):
    """G_V or G_I of Chaitanya et al., IPMI 2019, Section 3.3: images `(N, C, *size)`, z `(N, 100)` -> `(N, k, *size)`.

    size  the images' size; where it is no multiple of 32, the sizes on the way are rounded up
    kind  "deformation": G_V, a displacement v, k = D, unbounded; "intensity": G_I, an added intensity, k = C, within 1

    The widths (at `width=16`) and kernels are those of the released code: z grows from size / 32 by five doublings, the
    image passes two convolutions, both together two more and the last. (The text counts four common convolutions, and
    kernels of 3 in all but the last.) For 224 x 224, one channel: 753,314 parameters (G_V), 753,040 (G_I).
    """

    def __init__(
        self, size: Sequence[int], kind: str, in_channels: int = 1, width: int = 16, norm_momentum: float = 0.01
    ) -> None:
        super().__init__()
        dims, w = len(size), width
        if kind not in ("deformation", "intensity"):
            raise ValueError(f"generator kind: expected 'deformation' or 'intensity', found {kind!r}")
        seed, *sizes = halvings(size)
        self.of_z = nn.Sequential(
            nn.Linear(Z, 8 * w * torch.Size(seed).numel()),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, (8 * w, *seed)),
            doubled(dims, 8 * w, 8 * w, norm_momentum, size=sizes[0]),
            doubled(dims, 8 * w, 4 * w, norm_momentum, size=sizes[1]),
            doubled(dims, 4 * w, 2 * w, norm_momentum, size=sizes[2]),
            doubled(dims, 2 * w, w, norm_momentum, size=sizes[3]),
            doubled(dims, w, w, linear=True, size=sizes[4]),
        )
        self.of_x = nn.Sequential(
            convolution(dims, in_channels, w, norm_momentum=norm_momentum),
            convolution(dims, w, w, norm_momentum=norm_momentum),
        )
        self.common = nn.Sequential(
            convolution(dims, 2 * w, w, norm_momentum=norm_momentum),
            convolution(dims, w, w, norm_momentum=norm_momentum),
        )
        self.last: nn.Module
        if kind == "deformation":
            self.last = CONV[dims](w, dims, 3, padding=1)
        else:
            self.last = nn.Sequential(CONV[dims](w, in_channels, 1, bias=False), nn.Tanh())
        self.layout = LAYOUT[dims]
        start(self)
        laid_out(self, self.layout)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        both = torch.cat([self.of_x(x.contiguous(memory_format=self.layout)), self.of_z(z)], dim=1)
        return self.last(self.common(both))


class AugmentationGenerator(nn.Module):
    """G_A, G_D or G_I of Gao et al., IPMI 2021, Sections 3.3 and 4.1: images `(N, C, *size)`, z `(N, 128)` ->

    "affine"       G_A(z, x) - f_id: the displacement `(N, D, *size)` of an affine map `[A | t]` of the coordinates -1
                   to 1, rows first, in fractions of half a side, unbounded
    "deformation"  G_D(z, x): a displacement `(N, D, *size)`, the same units, within `most`
    "appearance"   G_I(z, x): a mask `(N, C, *size)` to be added, within `most`

    `conditional=False` leaves the image branch out ("w/o image condition"). As stated: six convolutions of z between
    upsamplings to the image's size, four of the image, four of both, the last of which is the output (G_A: global
    average pooling and a fully connected layer); batch norm and ReLU but at the output, there tanh (G_D, G_I). Choices:
    the widths, of DCGAN's halving (at `width=16`: 256 to 16 channels of z, 16 of the image, 32 and 16 of both); z is
    projected to 1/32 of the size, as DCGAN does; nearest upsampling; the output starts at no augmentation.

    The tanh has a range of half a side, and of the whole of an image's 0 to 1, and the gradient regulariser of G_D does
    not see a shift of all pixels: `most` bounds both where 1.0, the paper's, is too much.
    """

    Z = 128

    def __init__(
        self, size: Sequence[int], kind: str, in_channels: int = 1, width: int = 16, conditional: bool = True,
        most: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        dims, w = len(size), width
        outputs = {"affine": dims * (dims + 1), "deformation": dims, "appearance": in_channels}
        if kind not in outputs:
            raise ValueError(f"generator kind: expected one of {', '.join(outputs)}, found {kind!r}")
        self.kind, self.most, self.size = kind, most, tuple(size)
        sizes = halvings(size)
        widths = [w * k for k in (16, 16, 8, 8, 4, 2, 1)]
        self.places = torch.Size(sizes[0]).numel()  # at which z begins
        self.of_z = nn.Sequential(
            nn.Linear(self.Z, widths[0] * self.places),
            nn.Unflatten(1, (widths[0], *sizes[0])),
            *(
                nn.Sequential(nn.Upsample(s, mode="nearest"), convolution(dims, a, b, norm_momentum=0.1))
                for s, a, b in zip(sizes, widths, widths[1:], strict=False)
            ),
        )
        image = [in_channels, w, w, w, w] if conditional else [w]
        both = [image[-1] + w if conditional else w, 2 * w, 2 * w, w]
        self.of_x, self.common = (
            nn.Sequential(
                *(convolution(dims, a, b, norm_momentum=0.1) for a, b in zip(widths, widths[1:], strict=False))
            )
            for widths in (image, both)
        )
        self.last = nn.Linear(w, outputs[kind]) if kind == "affine" else CONV[dims](w, outputs[kind], 3, padding=1)
        self.conditional, self.layout = conditional, LAYOUT[dims]
        start(self)
        nn.init.zeros_(self.last.weight)
        laid_out(self, self.layout)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        if self.training and len(z) * self.places == 1:  # a norm needs two values
            size = " x ".join(map(str, self.size))
            raise ValueError(f"batch: expected 2 images for a generator of {size}, or more, found 1")
        h = self.of_z(z)
        if self.conditional:
            h = torch.cat([self.of_x(x.contiguous(memory_format=self.layout)), h], dim=1)
        h = self.common(h)
        if self.kind != "affine":
            return self.most * self.last(h).tanh()
        dims = len(self.size)
        matrix = self.last(h.flatten(2).mean(2)).unflatten(1, (dims, dims + 1))  # [A | t] - [I | 0]
        return displacement(matrix, self.size)


def displacement(matrix: Tensor, size: Sequence[int]) -> Tensor:
    """`[A | t] - [I | 0]` `(N, D, D + 1)` of coordinates -1 to 1, rows first -> `(A - I) q + t`, `(N, D, *size)`."""
    axes = [torch.linspace(-1, 1, length, dtype=matrix.dtype, device=matrix.device) for length in size]
    q = torch.stack([*torch.meshgrid(*axes, indexing="ij"), torch.ones(size, dtype=matrix.dtype, device=matrix.device)])
    return torch.einsum("nij,j...->ni...", matrix, q)
