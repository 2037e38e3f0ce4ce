"""Auxiliary batch norms: nothing changes in inference, every part has statistics of its own, and it can be undone."""

import copy

import pytest
import torch
from torch import nn

from fewlabels.models.auxbn import AuxiliaryBatchNorm, with_auxiliary, without_auxiliary
from fewlabels.models.backbones import PAPER, SMALL, classifier
from fewlabels.models.resunet3d import ResUNet3D
from fewlabels.models.unet import UNet


def trained(network, x):
    """`network` with running statistics that are not the initial ones, in inference mode."""
    with torch.no_grad():
        network.train()(x)
    return network.eval()


class NormWithActivation(nn.BatchNorm2d):
    """What timm's BatchNormAct2d is: a batch norm whose forward ends in an activation."""

    def forward(self, x):
        return torch.relu(super().forward(x))


NETWORKS = {name: (lambda name=name: classifier(name, 7), (4, 3, 64, 64)) for name in (*PAPER, SMALL)}
NETWORKS["ResUNet3D"] = (lambda: ResUNet3D(1, 3, width=4), (4, 1, 16, 32, 32))
NETWORKS["UNet"] = (lambda: UNet(1, 3, width=4, levels=3), (4, 1, 16, 16))
NETWORKS["norm with activation"] = (
    lambda: nn.Sequential(nn.Conv2d(3, 4, 3), NormWithActivation(4), nn.Conv2d(4, 2, 3)),
    (4, 3, 8, 8),
)


@pytest.mark.parametrize(("build", "shape"), NETWORKS.values(), ids=NETWORKS)
def test_the_output_in_inference_is_unchanged_by_conversion_and_back(build, shape):
    torch.manual_seed(0)
    x = torch.randn(shape)
    network = trained(build(), x)
    before, keys, modules = network(x), list(network.state_dict()), list(network.modules())
    converted = with_auxiliary(network, 3).eval()
    assert sum(isinstance(m, AuxiliaryBatchNorm) for m in converted.modules()) > 0
    assert torch.equal(converted(x), before)
    back = without_auxiliary(converted)
    assert list(back.state_dict()) == keys
    assert list(back.modules()) == modules
    assert torch.equal(back(x), before)


@pytest.mark.parametrize(("build", "shape"), NETWORKS.values(), ids=NETWORKS)
def test_in_training_every_part_passes_as_if_it_were_alone(build, shape):
    """The oracle: copies of the plain network, one a part, each fed with its part."""
    torch.manual_seed(0)
    n = 8
    x = torch.randn(n, *shape[1:])
    x[n // 2 :] = 3 * x[n // 2 :] + 1  # the second part has other statistics
    network = build().train()
    for module in network.modules():  # dropout and stochastic depth draw for the whole batch
        if isinstance(module, nn.Dropout) or type(module).__name__ == "StochasticDepth":
            module.p = 0.0
    alone = [copy.deepcopy(network) for _ in range(2)]
    expected = torch.cat([copy_(part) for copy_, part in zip(alone, x.chunk(2), strict=True)])
    converted = with_auxiliary(network, 1).train()
    torch.testing.assert_close(converted(x), expected, atol=1e-3, rtol=1e-3)
    norms = [m for m in converted.modules() if isinstance(m, AuxiliaryBatchNorm)]
    for k, other in enumerate(alone):
        theirs = [m for m in other.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        for norm, reference in zip(norms, theirs, strict=True):
            own = [norm.main, *norm.auxiliary][k]
            torch.testing.assert_close(own.running_mean, reference.running_mean, atol=1e-3, rtol=1e-3)
            torch.testing.assert_close(own.running_var, reference.running_var, atol=1e-3, rtol=1e-3)
            assert own.num_batches_tracked == 1


def test_statistics_and_gradients_of_a_part_are_its_own():
    norm = with_auxiliary(nn.BatchNorm1d(2), 2)
    x = torch.tensor([[0.0, 0], [2, 4], [10, 0], [10, 8], [5, 5], [7, 9]])
    out = norm.train()(x)
    means = [[1.0, 2.0], [10.0, 4.0], [6.0, 7.0]]  # of each pair, by hand
    for own, mean in zip([norm.main, *norm.auxiliary], means, strict=True):
        torch.testing.assert_close(own.running_mean, 0.1 * torch.tensor(mean))
    out[2:4].square().sum().backward()
    assert norm.auxiliary[0].weight.grad.abs().sum() > 0
    assert all(n.weight.grad is None or not n.weight.grad.any() for n in (norm.main, norm.auxiliary[1]))


def test_a_norm_that_stands_twice_stays_one():
    norm = nn.BatchNorm1d(2)
    network = with_auxiliary(nn.Sequential(norm, nn.Linear(2, 2), norm), 1)
    assert network[0] is network[2]
    assert isinstance(network[0], AuxiliaryBatchNorm)
    assert without_auxiliary(network)[2] is norm


def test_copies_start_as_the_norm_is():
    norm = nn.BatchNorm1d(2)
    norm.running_mean += 3
    converted = with_auxiliary(norm, 2)
    assert all(torch.equal(copy_.running_mean, norm.running_mean) for copy_ in converted.auxiliary)
    converted.auxiliary[0].running_mean += 1
    assert norm.running_mean.tolist() == [3, 3]


@pytest.mark.parametrize("n", [1, 2, 6, 30])
def test_a_batch_that_cannot_be_divided_is_refused(n):
    network = with_auxiliary(nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2)), 3).train()
    with pytest.raises(
        ValueError, match=rf"^batch: expected a multiple of 4, the main and 3 auxiliary norms, found {n}$"
    ):
        network(torch.randn(n, 1, 2, 2, 2))
    assert network.eval()(torch.randn(n, 1, 2, 2, 2)).shape == (n, 2, 2, 2, 2)  # for testing any will do


def test_networks_without_a_batch_norm_or_with_auxiliary_ones_are_refused():
    with pytest.raises(ValueError, match="^network: expected batch norms to add auxiliary ones to, found none in Seq"):
        with_auxiliary(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4)), 3)
    with pytest.raises(ValueError, match="^network: expected no auxiliary norms yet, found some$"):
        with_auxiliary(with_auxiliary(nn.Sequential(nn.BatchNorm2d(2)), 3), 3)
    with pytest.raises(ValueError, match="^auxiliary norms: expected at least one, found 0$"):
        with_auxiliary(nn.BatchNorm2d(2), 0)


def test_a_network_in_inference_mode_stays_in_it():
    network = with_auxiliary(nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).eval(), 3)
    assert not any(module.training for module in network.modules())
    assert network(torch.rand(1, 1, 4, 4)).shape == (1, 2, 4, 4)
