"""Generators of transformations: an image and a random vector in, a field out."""

import torch
from torch import nn

from fewlabels.models.layers import CONV, LAYOUT, convolution, doubled, start

Z = 100  # length of the random vector


class Generator(nn.Module):
    """G_V or G_I of Chaitanya et al., IPMI 2019, Section 3.3: images `(N, C, *size)`, z `(N, 100)` -> `(N, k, *size)`.

    size  the images' size, each a multiple of 32
    kind  "deformation": G_V, a displacement v, k = D, unbounded; "intensity": G_I, an added intensity, k = C, within 1

    The widths (at `width=16`) and kernels are those of the released code: z grows from size / 32 by five doublings, the
    image passes two convolutions, both together two more and the last. (The text counts four common convolutions, and
    kernels of 3 in all but the last.) For 224 x 224, one channel: 753,314 parameters (G_V), 753,040 (G_I).
    """

    def __init__(self, size, kind, in_channels=1, width=16, norm_momentum=0.01):
        super().__init__()
        dims, w = len(size), width
        if kind not in ("deformation", "intensity"):
            raise ValueError(f"generator kind: expected 'deformation' or 'intensity', found {kind!r}")
        if any(length % 32 for length in size):
            raise ValueError(f"generator size: expected multiples of 32, found {tuple(size)}")
        seed = tuple(length // 32 for length in size)
        self.of_z = nn.Sequential(
            nn.Linear(Z, 8 * w * torch.Size(seed).numel()),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, (8 * w, *seed)),
            doubled(dims, 8 * w, 8 * w, norm_momentum),
            doubled(dims, 8 * w, 4 * w, norm_momentum),
            doubled(dims, 4 * w, 2 * w, norm_momentum),
            doubled(dims, 2 * w, w, norm_momentum),
            doubled(dims, w, w, linear=True),
        )
        self.of_x = nn.Sequential(
            convolution(dims, in_channels, w, norm_momentum=norm_momentum),
            convolution(dims, w, w, norm_momentum=norm_momentum),
        )
        self.common = nn.Sequential(
            convolution(dims, 2 * w, w, norm_momentum=norm_momentum),
            convolution(dims, w, w, norm_momentum=norm_momentum),
        )
        if kind == "deformation":
            self.last = CONV[dims](w, dims, 3, padding=1)
        else:
            self.last = nn.Sequential(CONV[dims](w, in_channels, 1, bias=False), nn.Tanh())
        self.layout = LAYOUT[dims]
        start(self)
        self.to(memory_format=self.layout)

    def forward(self, x, z):
        both = torch.cat([self.of_x(x.contiguous(memory_format=self.layout)), self.of_z(z)], dim=1)
        return self.last(self.common(both))
