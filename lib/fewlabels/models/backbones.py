"""The classifiers of Gao et al., IPMI 2021, Section 4.1: torchvision's networks, with images in [0, 1] coming in."""

import re
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn

from fewlabels.errors import BadInput
from fewlabels.models.layers import laid_out

PAPER = {
    "EfficientNet-B0": "efficientnet_b0",
    "EfficientNet-B1": "efficientnet_b1",
    "EfficientNet-B2": "efficientnet_b2",
    "ResNet-34": "resnet34",
    "ResNet-50": "resnet50",
    "DenseNet-121": "densenet121",
}
SMALL = "ResNet-10-w16"
BACKBONES = (*PAPER, SMALL)

MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's red, green and blue, as torchvision has them


def classifier(name: str, classes: int, weights: Path | str | None = None) -> nn.Sequential:
    """A network for RGB images `(N, 3, H, W)` in [0, 1] -> logits `(N, classes)`; H and W are free, 32 or more.

    name     one of `BACKBONES`: the paper's six, built by torchvision with its dropouts and initialisation, or
             "ResNet-10-w16", see `resnet10`, for machines without a GPU
    weights  path of a state dict of that network as torchvision saves it (its ImageNet files, say), or None for a
             fresh start; a last layer with another number of outputs than `classes` is left out, and starts fresh

    Its children are `normalise`, which subtracts ImageNet's mean and divides by its standard deviation, and `backbone`.
    Inside the network, normalisation does not concern those who work on images in [0, 1] (choice; the paper has none).

    Raises `BadInput` if the name is unknown, or the file is missing, damaged or of another network.
    """
    if name not in BACKBONES:
        raise BadInput("backbone", f"one of {', '.join(BACKBONES)}", repr(name))
    if name == SMALL:
        backbone = resnet10(classes)
    else:
        import torchvision  # takes 2 seconds

        backbone = getattr(torchvision.models, PAPER[name])(weights=None, num_classes=classes)
    if weights is not None:
        backbone.load_state_dict(_fitting(Path(weights), name, backbone))
    # on one thread of a CPU, forward + backward is 1.1 to 1.3 times faster
    return laid_out(nn.Sequential(OrderedDict(normalise=Normalise(), backbone=backbone)), torch.channels_last)


class Normalise(nn.Module):
    """(x - mean) / sd of ImageNet, for each colour; images `(N, 3, H, W)` in [0, 1], in and out, channels last."""

    mean: Tensor
    sd: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("sd", torch.tensor(SD).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x.contiguous(memory_format=torch.channels_last) - self.mean) / self.sd


def resnet10(classes: int, width: int = 16) -> nn.Sequential:
    """A ResNet of torchvision's basic blocks, one at each of four levels of `width`, 2, 4 and 8 `width` channels.

    Choice, as the paper's smallest network takes too long on two CPU cores. The stem is one 3 x 3 convolution of stride
    2 without pooling, so that images of 64 pixels end as 4 x 4 positions (with torchvision's stem: 2 x 2). Layers start
    as in torchvision. Seven classes: 308,439 parameters, and 0.1 s forward + backward for 32 such images on one thread
    (stride 1: 0.3 s).
    """
    from torchvision.models.resnet import BasicBlock

    widths = [width * 2**k for k in range(4)]
    layers = OrderedDict(
        conv1=nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
        bn1=nn.BatchNorm2d(width),
        relu=nn.ReLU(inplace=True),
        layer1=BasicBlock(width, width),
    )
    for k, (a, b) in enumerate(zip(widths, widths[1:], strict=False), start=2):
        shortcut = nn.Sequential(nn.Conv2d(a, b, 1, stride=2, bias=False), nn.BatchNorm2d(b))
        layers[f"layer{k}"] = BasicBlock(a, b, stride=2, downsample=shortcut)
    layers |= OrderedDict(avgpool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(widths[-1], classes))
    network = nn.Sequential(layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


# torchvision's file for DenseNet-121 is older than the rule that names of modules have no dots: norm.1 is now norm1
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


def _fitting(path: Path, name: str, network: nn.Module) -> dict[str, Tensor]:
    """The state dict in the file `path`, its keys and shapes those of `network`; of that, what the file need not have:
    a last layer for as many classes, and the norms' counts of batches, which older files lack."""
    expected = f"the state dict of a {name} as torchvision saves it"
    if not path.is_file():
        raise BadInput(path, expected, "no such file")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zipfile, pickle and torch raise a dozen types on damaged or foreign files
        raise BadInput(path, expected, f"what torch.load refuses, with {type(error).__name__}") from None
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise BadInput(path, expected, "something else than a dict of tensors")
    found = {OLD_DENSENET.sub(r"\1\2", str(key)): value for key, value in found.items()}

    fresh = network.state_dict()
    last = [key for key, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
    optional = {key for key in fresh if key.endswith(".num_batches_tracked")}
    if f"{last}.weight" in found and len(found[f"{last}.weight"]) != len(fresh[f"{last}.weight"]):
        for key in (f"{last}.weight", f"{last}.bias"):
            found.pop(key, None)
            optional.add(key)
    for key in [*fresh, *found]:
        if key not in found and key not in optional:
            raise BadInput(path, expected, f"none of its {key}")
        if key not in fresh:
            raise BadInput(path, expected, f"{key[:80]!r}, which it has not")
        if key in found and found[key].shape != fresh[key].shape:
            shape, own = tuple(found[key].shape), tuple(fresh[key].shape)
            raise BadInput(path, expected, f"{key} of shape {shape} in place of {own}")
        if key in found and not torch.isfinite(found[key]).all():
            raise BadInput(path, expected, f"{key} with values that are not finite")
    return fresh | found
