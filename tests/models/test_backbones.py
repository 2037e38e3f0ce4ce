"""The backbones against torchvision's own networks, transforms and published sizes."""

import pickle
from functools import cache
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn
from torchvision.transforms.v2 import Normalize

from fewlabels.errors import BadInput
from fewlabels.models.backbones import BACKBONES, SMALL, classifier, resnet10

# name: torchvision's function, its published parameters for 1,000 classes, inputs of the last layer, batch norms
PAPER = {
    "EfficientNet-B0": ("efficientnet_b0", 5_288_548, 1280, 49),
    "EfficientNet-B1": ("efficientnet_b1", 7_794_184, 1280, 69),
    "EfficientNet-B2": ("efficientnet_b2", 9_109_994, 1408, 69),
    "ResNet-34": ("resnet34", 21_797_672, 512, 36),
    "ResNet-50": ("resnet50", 25_557_032, 2048, 53),
    "DenseNet-121": ("densenet121", 7_978_856, 1024, 121),
}
OF_PAPER = pytest.mark.parametrize("name", PAPER)
ALL = pytest.mark.parametrize("name", [*PAPER, SMALL])
FAMILIES = pytest.mark.parametrize("name", ["EfficientNet-B0", "ResNet-34", "DenseNet-121", SMALL])


def images(n=2, size=(64, 64), seed=0):
    return torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(seed))


def original(name, classes, seed=0):
    """torchvision's own network, with statistics and shifts that are not those of a fresh start."""
    torch.manual_seed(seed)
    network = resnet10(classes) if name == SMALL else getattr(torchvision.models, PAPER[name][0])(num_classes=classes)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.bias, -0.1, 0.1)
            module.num_batches_tracked.fill_(5)
    return network


@cache
def fresh(name):
    """One network for the tests that only look at it; it takes a while to make."""
    return classifier(name, 7).eval()


def parameters(network):
    return sum(p.numel() for p in network.parameters())


# ---- what they are ----


def test_the_names_are_the_papers_and_one_more():
    assert BACKBONES == (*PAPER, "ResNet-10-w16")


@OF_PAPER
def test_parameters_are_the_published_ones_but_for_the_last_layer(name):
    function, published, inputs, _ = PAPER[name]
    weights = torchvision.models.get_model_weights(function).IMAGENET1K_V1
    assert weights.meta["num_params"] == published
    assert parameters(fresh(name)) == published - (1000 - 7) * (inputs + 1)


def test_parameters_of_the_small_one_by_hand():
    def level(a, b):
        return 9 * a * b + 9 * b * b + 4 * b + (0 if a == b else a * b + 2 * b)  # convolutions and norms, shortcut

    counted = 27 * 16 + 2 * 16 + level(16, 16) + level(16, 32) + level(32, 64) + level(64, 128) + 129 * 7
    assert parameters(fresh(SMALL)) == counted == 308_439


@ALL
def test_batch_norms(name):
    norms = [module for module in fresh(name).modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == (PAPER[name][3] if name in PAPER else 12)


@ALL
@pytest.mark.parametrize("size", [(64, 64), (48, 80)], ids=str)
def test_shape_of_the_output(name, size):
    with torch.no_grad():
        y = fresh(name)(images(3, size))
    assert y.shape == (3, 7)
    assert y.dtype == torch.float32
    assert torch.isfinite(y).all()


@pytest.mark.parametrize(("size", "positions"), [((64, 64), (4, 4)), ((50, 96), (4, 6))], ids=str)
def test_the_small_one_halves_four_times(size, positions):
    seen = []
    network = classifier(SMALL, 3)
    network.backbone.layer4.register_forward_hook(lambda module, args, y: seen.append(y.shape))
    network(images(2, size))
    assert seen == [(2, 128, *positions)]


@FAMILIES
def test_gradients_reach_images_and_every_parameter(name):
    network, x = classifier(name, 4), images(4).requires_grad_()
    network(x).square().sum().backward()
    assert (x.grad != 0).any(dim=(1, 2, 3)).all()
    assert not [key for key, p in network.named_parameters() if p.grad is None]


# ---- what comes in ----


@OF_PAPER
def test_images_of_0_to_1_come_in_and_are_normalised_as_by_torchvision(name):
    plain, network, x = original(name, 7).eval(), classifier(name, 7).eval(), images(4)
    network.backbone.load_state_dict(plain.state_dict())
    for module in [*plain.modules(), *network.modules()]:
        module.train(isinstance(module, nn.BatchNorm2d))  # with its first statistics, EfficientNet's signal dies out
    with torch.no_grad():
        expected = plain(Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])(x))
        torch.testing.assert_close(network(x), expected, rtol=1e-3, atol=1e-3)
        assert (plain(x) - expected).abs().max() > 0.03  # it matters


def test_normalisation_is_the_first_layer_and_has_no_weights():
    network, x = classifier(SMALL, 7), images(3, (40, 56))
    assert [name for name, _ in network.named_children()] == ["normalise", "backbone"]
    expected = torchvision.models.ResNet34_Weights.IMAGENET1K_V1.transforms()
    expected = Normalize(mean=expected.mean, std=expected.std)(x)
    torch.testing.assert_close(network.normalise(x), expected, rtol=0, atol=1e-6)
    assert not any(key.startswith("normalise") for key in network.state_dict())


def test_the_input_stays():
    x = images()
    before = x.clone()
    classifier(SMALL, 7)(x)
    assert torch.equal(x, before)


# ---- how they start ----


@OF_PAPER
def test_a_fresh_start_is_torchvisions(name):
    torch.manual_seed(3)
    expected = getattr(torchvision.models, PAPER[name][0])(num_classes=7).state_dict()
    torch.manual_seed(3)
    found = classifier(name, 7).backbone.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_fresh_start_of_the_small_one_is_that_of_a_resnet():
    torch.manual_seed(0)
    backbone = classifier(SMALL, 7).backbone
    for conv in (m for m in backbone.modules() if isinstance(m, nn.Conv2d)):
        fan_out = conv.out_channels * conv.kernel_size[0] ** 2
        assert conv.bias is None
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.12)
    bound = 128**-0.5
    assert 0.9 * bound < backbone.fc.weight.abs().max() <= bound


@FAMILIES
def test_dropouts_are_torchvisions(name):
    def dropouts(network):
        return [str(m) for m in network.modules() if type(m).__name__ in ("Dropout", "StochasticDepth")]

    assert dropouts(fresh(name)) == dropouts(original(name, 7))


# ---- weights from a file ----


def saved(tmp_path, state):
    torch.save(state, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def last_of(name):
    return {"E": "classifier.1", "R": "fc", "D": "classifier"}[name[0]]


@FAMILIES
def test_weights_are_those_of_the_file_with_a_last_layer_of_our_own(name, tmp_path):
    state = original(name, 1000).state_dict()
    torch.manual_seed(5)
    fresh = classifier(name, 7).backbone.state_dict()
    torch.manual_seed(5)
    found = classifier(name, 7, saved(tmp_path, state)).backbone.state_dict()
    last = {f"{last_of(name)}.weight", f"{last_of(name)}.bias"}
    assert last < set(found) == set(state)
    for key in found:
        assert torch.equal(found[key], fresh[key] if key in last else state[key]), key
    assert len(found[f"{last_of(name)}.bias"]) == 7


@FAMILIES
def test_a_last_layer_for_as_many_classes_is_kept(name, tmp_path):
    state = original(name, 7).state_dict()
    found = classifier(name, 7, str(saved(tmp_path, state))).backbone.state_dict()
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_the_names_in_torchvisions_file_for_densenet(tmp_path):
    """densenet121-a639ec97.pth: features.denseblock1.denselayer1.norm.1.weight, and no num_batches_tracked."""
    state = original("DenseNet-121", 7).state_dict()
    old = {}
    for key, value in state.items():
        for part in ("norm1", "norm2", "conv1", "conv2") if "denselayer" in key else ():
            key = key.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.")
        if not key.endswith("num_batches_tracked"):
            old[key] = value
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    found = classifier("DenseNet-121", 7, saved(tmp_path, old)).backbone.state_dict()
    for key in state:
        assert torch.equal(found[key], torch.tensor(0) if key.endswith("num_batches_tracked") else state[key]), key


def refusal(path, name=SMALL):
    with pytest.raises(BadInput) as caught:
        classifier(name, 7, path)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 400
    assert line.startswith(f"{path}: expected the state dict of a {name} as torchvision saves it, found ")
    return line.split(", found ")[1]


def test_a_missing_file(tmp_path):
    assert refusal(tmp_path / "none.pth") == "no such file"
    assert refusal(tmp_path) == "no such file"


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path("harmed"),)


@pytest.mark.parametrize("kind", ["empty", "text", "half", "damaged", "harmful", "zip"])
def test_a_file_that_cannot_be_read(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path, resnet10(7).state_dict())
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "text": b"a web page\nof two lines",
            "half": whole[: len(whole) // 2],
            "damaged": whole[:90_000] + b"\xff" * 4000 + whole[94_000:],
            "harmful": pickle.dumps({"conv1.weight": Harmful()}, protocol=2),
            "zip": b"PK\x05\x06" + bytes(18),
        }[kind]
    )
    assert refusal(path).startswith("what torch.load refuses, with ")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {"state_dict": {"fc.bias": torch.zeros(3)}, "epoch": 3}])
def test_a_file_of_something_else(content, tmp_path):
    assert refusal(saved(tmp_path, content)) == "something else than a dict of tensors"


def test_weights_that_do_not_fit(tmp_path):
    def without(key):
        return {k: v for k, v in state.items() if k != key}

    state = dict(resnet10(7).state_dict())
    assert refusal(saved(tmp_path, {})) == "none of its conv1.weight"
    assert refusal(saved(tmp_path, without("layer3.0.bn2.bias") | {"more": torch.zeros(1)})).startswith("'more'")
    assert refusal(saved(tmp_path, without("layer3.bn2.bias"))) == "none of its layer3.bn2.bias"
    assert refusal(saved(tmp_path, without("fc.weight"))) == "none of its fc.weight"
    assert refusal(saved(tmp_path, state | {"bn1.bias": torch.zeros(8)})) == "bn1.bias of shape (8,) in place of (16,)"
    assert refusal(saved(tmp_path, state | {"fc.weight": torch.zeros(7, 9)})).startswith("fc.weight of shape (7, 9)")
    nan = state["layer2.conv1.weight"].index_fill(0, torch.tensor(3), torch.nan)
    assert refusal(saved(tmp_path, state | {"layer2.conv1.weight": nan})).startswith("layer2.conv1.weight with values")


def test_weights_of_another_network(tmp_path):
    path = saved(tmp_path, original("ResNet-34", 7).state_dict())
    assert refusal(path).startswith("conv1.weight of shape (64, 3, 7, 7)")
    assert refusal(path, "ResNet-50").startswith("layer1.0.conv1.weight of shape")
    assert refusal(path, "DenseNet-121") == "none of its features.conv0.weight"


def test_an_unknown_name():
    with pytest.raises(BadInput, match=r"backbone: expected one of EfficientNet-B0, .*ResNet-10-w16, found 'resnet34'"):
        classifier("resnet34", 7)
