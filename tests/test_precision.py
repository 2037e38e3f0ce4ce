"""bfloat16: where it is computed in, what stays float32, and who may have it."""

import copy
from types import SimpleNamespace

import pytest
import torch
from helpers import refused, same
from torch import nn

from fewlabels import precision
from fewlabels.engine import params, sweep
from fewlabels.engine.training import Batches, Shuffled, Stages, Stopped
from fewlabels.methods.consistency import TransformationConsistency, draw_transforms
from fewlabels.models.unet import UNet
from fewlabels.papers.bortsova2019 import jsrt
from fewlabels.papers.vorontsov2019 import mnist
from fewlabels.paths import CHECKOUT


def network(seed=0):
    torch.manual_seed(seed)
    return UNet(1, 3, width=4, levels=2)


def test_convolutions_are_in_bfloat16_and_what_goes_in_and_out_is_not():
    x, plain, net = torch.randn(2, 1, 16, 16), network(), network()
    precision.set_precision(net, "bf16")
    seen = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    found = net(x)
    assert seen
    assert {*seen} == {torch.bfloat16}
    assert found.dtype == torch.float32
    expected = plain(x)
    assert not found.equal(expected)
    assert (found - expected).abs().max() <= 0.05 * expected.abs().max()  # 8 bits of mantissa, a few layers
    found.square().mean().backward()
    assert {p.grad.dtype for p in net.parameters()} == {p.dtype for p in net.parameters()} == {torch.float32}
    assert net.state_dict().keys() == plain.state_dict().keys()
    assert isinstance(net, UNet)


def test_fp32_changes_nothing():
    net = network()
    precision.set_precision(net, "fp32")
    assert type(net) is UNet


def test_each_network_of_a_method_and_none_twice():
    nets = nn.ModuleDict({"S": network(), "G": nn.ModuleList([network(1), network(2)])})
    precision.set_precision(nets, "bf16")
    x = torch.randn(1, 1, 16, 16)
    for seed, net in enumerate([nets["S"], *nets["G"]]):
        assert not net(x).equal(network(seed)(x))


def test_a_copy_computes_with_its_own_weights():
    net = network()
    precision.set_precision(net, "bf16")
    other, x = copy.deepcopy(net), torch.randn(1, 1, 16, 16)
    before = net(x)
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    assert net(x).equal(before)
    assert not other(x).equal(before)


def trained(folder, stop=None):
    images, labels = torch.randn(6, 1, 16, 16), torch.randint(3, (6, 16, 16))
    batches = Batches(lambda i: {"images": images[i], "labels": labels[i[:2]]}, Shuffled(6, 4))

    def build():
        net = UNet(1, 3, width=4, levels=2)
        draw = lambda n: draw_transforms(n, (16, 16), 20.0, 4.0)  # noqa: E731
        return TransformationConsistency(net, torch.optim.Adam(net.parameters()), draw)

    stage = Stages(folder, stop=stop, precision="bf16")
    return stage("one", build, batches, lambda method: {"validation": 1.0}, seed=3, steps=6, every=2, keep="last")


def test_interrupted_training_ends_in_the_same_bits(tmp_path):
    torch.manual_seed(0)
    method, history = trained(tmp_path / "whole")
    torch.manual_seed(0)
    with pytest.raises(Stopped):
        trained(tmp_path / "again", stop=lambda: True)
    torch.manual_seed(0)
    again, found = trained(tmp_path / "again")
    assert found == history
    assert same(again.network.state_dict(), method.network.state_dict())


def test_a_processor_without_it_refuses_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "has_bf16", lambda device: False)
    _, config = params.load(CHECKOUT / "params/jsrt/smoke.yaml")
    config = config.model_copy(update={"precision": "bf16"})
    refused(lambda: sweep.sweep(jsrt, config, jsrt.load(config), tmp_path, device="cpu"), "precision", "bf16 on cpu")
    assert not [*tmp_path.iterdir()]


def test_a_finished_sweep_is_read_anywhere(tmp_path, monkeypatch):
    """Tables of runs in bfloat16 can be made where none could be trained."""
    monkeypatch.setattr(precision, "has_bf16", lambda device: False)
    record = {"seconds": 1.0}
    monkeypatch.setattr(sweep, "records", lambda experiment, config, *_: dict.fromkeys(experiment.grid(config), record))
    _, config = params.load(CHECKOUT / "params/jsrt/smoke.yaml")
    config = config.model_copy(update={"precision": "bf16"})
    assert sweep.sweep(jsrt, config, jsrt.load(config), tmp_path, device="cpu") == {}


def test_what_cpu_and_gpu_are_asked(monkeypatch):
    monkeypatch.setattr(torch, "cpu", SimpleNamespace(_is_avx512_bf16_supported=bool, _is_amx_tile_supported=bool))
    assert not precision.has_bf16("cpu")
    torch.cpu._is_amx_tile_supported = lambda: True
    assert precision.has_bf16("cpu")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert not precision.has_bf16("cuda")


@pytest.mark.parametrize("experiment", [jsrt, mnist], ids=lambda e: e.NAME)
def test_bf16_is_part_of_what_a_run_is(experiment):
    """float32 is what stored runs have that know no precision; `amp` is what those of mnist and brats call it."""
    _, config = params.load(CHECKOUT / f"params/{experiment.NAME}/smoke.yaml")
    run = experiment.grid(config)[0]
    single, half = (experiment.identity(config.model_copy(update={"precision": p}), run) for p in ("fp32", "bf16"))
    assert "precision" not in single
    assert half["precision"] == "bf16"
    assert ("amp" in single, single.get("amp", False)) == (experiment is mnist, False)
