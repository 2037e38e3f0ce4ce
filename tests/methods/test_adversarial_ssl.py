"""Adv Tr SL and SSL against NumPy: the discriminator layer by layer, a step's losses and gradients from the logits."""

import copy
import io
import math

import numpy as np
import pytest
import torch
from torch import nn

from fewlabels.methods.adversarial_ssl import AdversarialSegmentation, PairDiscriminator
from fewlabels.models.unet import UNet

CLASSES = 3
SIZE = (6, 5)
RATE = 0.5


# Oracles: NumPy only ------------------------------------------------------------------------------------------------


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_backward(p, gradient):
    return p * (gradient - (gradient * p).sum(axis=1, keepdims=True))


def convolve(x, weight, bias):
    """4 x 4, stride 2, one row or column of zeros around."""
    x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (4, 4), axis=(2, 3))[:, :, ::2, ::2]
    return np.einsum("nchwij,ocij->nohw", windows, weight) + bias[:, None, None]


def discriminate(discriminator, p, x, masks=(1, 1)):
    """`PairDiscriminator` from the list of its weights; `masks`: what its dropouts multiply by."""
    weights = [w.detach().numpy() for w in discriminator.parameters()]
    assert len(weights) == 12
    h = convolve(p, *weights[0:2]) + convolve(x, *weights[2:4])
    for layer, mask in enumerate((*masks, 1)):
        h = convolve(h, *weights[4 + 2 * layer : 6 + 2 * layer])
        h = np.where(h > 0, h, 0.2 * h) * mask
    return h.mean((2, 3)) @ weights[10].T + weights[11]


def cross_entropy(scores, truth):
    """-log of the share of class `truth` (one number, or one a row), a mean over rows."""
    truth = np.broadcast_to(truth, len(scores))
    return -np.mean([math.log(math.exp(row[t]) / sum(map(math.exp, row))) for row, t in zip(scores, truth)])


def judge(linear, p, x):
    return np.einsum("nchw,chwk->nk", p, linear["map"]) + np.einsum("nchw,chwk->nk", x, linear["image"])


def judge_backward(linear, p, x, truth):
    """d CE / d p, and d CE / d the judge's two weights, of a mean over pairs."""
    g = (softmax(judge(linear, p, x)) - np.eye(2)[np.broadcast_to(truth, len(p))]) / len(p)
    to_map = np.einsum("nk,chwk->nchw", g, linear["map"])
    return to_map, {"map": np.einsum("nk,nchw->chwk", g, p), "image": np.einsum("nk,nchw->chwk", g, x)}


def step_by_hand(logits, linear, x, y, semi_supervised, lam, rate=RATE):
    """One step of plain gradient descent: the losses, and S's logits and D's weights after it."""
    n = len(y)
    p = softmax(logits)
    loss_sup = -(y * np.log(p[:n])).sum(1).mean()
    gradient = np.zeros_like(p)
    gradient[:n] = (p[:n] - y) / (n * math.prod(SIZE))
    candidates = range(n, len(x)) if semi_supervised else range(n)
    loss_adv = cross_entropy(judge(linear, p[candidates], x[candidates]), 1)
    to_map, _ = judge_backward(linear, p[candidates], x[candidates], 1)
    gradient[candidates] += lam * softmax_backward(p[candidates], to_map)
    logits = logits - rate * gradient

    p = softmax(logits)
    if semi_supervised:
        truth = [1] * n + [0] * (len(x) - n)
    else:
        p, x, truth = np.concatenate([y, p]), np.concatenate([x, x]), [1] * n + [0] * n
    loss_disc = cross_entropy(judge(linear, p, x), truth)
    _, to_weights = judge_backward(linear, p, x, truth)
    return (loss_sup, loss_adv, loss_disc), logits, {k: linear[k] - rate * to_weights[k] for k in linear}


# Networks and batches -----------------------------------------------------------------------------------------------


class Fixed(nn.Module):
    """A segmenter that ignores its images: its logits are its parameters."""

    def __init__(self, n):
        super().__init__()
        self.logits = nn.Parameter(random(n, CLASSES, seed=5))

    def forward(self, images):
        assert len(images) == len(self.logits)
        return self.logits


class Linear(nn.Module):
    """A discriminator whose gradients can be written down."""

    def __init__(self):
        super().__init__()
        self.map = nn.Parameter(0.3 * random(CLASSES, 2, seed=6).movedim(1, -1))
        self.image = nn.Parameter(0.3 * random(1, 2, seed=7).movedim(1, -1))

    def forward(self, p, x):
        return torch.einsum("nchw,chwk->nk", p, self.map) + torch.einsum("nchw,chwk->nk", x, self.image)

    def arrays(self):
        return {name: w.detach().numpy().copy() for name, w in self.named_parameters()}


def random(*shape, size=SIZE, seed=0):
    return torch.randn(*shape, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch(labelled=2, unlabelled=3, channels=1, size=SIZE, dtype=torch.float64, seed=0):
    images = random(labelled + unlabelled, channels, size=size, seed=seed).to(dtype)
    targets = random(labelled, CLASSES, size=size, seed=seed + 100).mul(3).softmax(1).to(dtype)
    return {"images": images[:labelled], "targets": targets, "unlabelled": images[labelled:]}


def soft_cross_entropy(logits, targets):
    return -(targets * logits.log_softmax(1)).sum(1).mean()


def by_hand_and_ours(semi_supervised, weight=4.0, ramp_up=0, **changed):
    """A method of `Fixed` and `Linear` with plain gradient descent."""
    b = batch(**changed)
    n = len(b["images"]) + semi_supervised * len(b["unlabelled"])
    network, discriminator = Fixed(n), Linear()
    optimisers = [torch.optim.SGD(net.parameters(), RATE) for net in (network, discriminator)]
    ours = AdversarialSegmentation(
        network, optimisers[0], discriminator, optimisers[1], soft_cross_entropy,
        semi_supervised, weight=weight, ramp_up=ramp_up,
    )  # fmt: skip
    x = torch.cat([b["images"], b["unlabelled"]])[:n].numpy()
    return ours, b, x


def real(semi_supervised, weight=1.0, channels=1, seed=0, ramp_up=4):
    """A method of the real networks, narrow; with batch norms in S, dropout in D and Adam for both."""
    torch.manual_seed(seed)
    network = UNet(channels, CLASSES, width=4, levels=2)
    discriminator = PairDiscriminator(channels, CLASSES, width=4)
    return AdversarialSegmentation(
        network, torch.optim.Adam(network.parameters(), 1e-3),
        discriminator, torch.optim.Adam(discriminator.parameters(), 1e-2, betas=(0.9, 0.99)),
        soft_cross_entropy, semi_supervised, weight=weight, ramp_up=ramp_up,
    )  # fmt: skip


def real_batch(seed=0, channels=1, size=(16, 24)):
    return batch(channels=channels, size=size, dtype=torch.float32, seed=seed)


def state(module):
    return copy.deepcopy(module.state_dict())


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# The discriminator --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "layers", "total"),
    [
        ({}, [4 * 64 * 16 + 64, 1 * 64 * 16 + 64, 131_200, 524_544, 2_097_664, 512 * 2 + 2], 2_759_682),
        ({"in_channels": 2, "classes": 3, "width": 8}, [392, 264, 2_064, 8_224, 32_832, 130], 43_906),
    ],
    ids=str,
)
def test_the_number_of_parameters(arguments, layers, total):
    sizes = [p.numel() for p in PairDiscriminator(**arguments).parameters()]
    assert [weight + bias for weight, bias in zip(sizes[::2], sizes[1::2], strict=True)] == layers
    assert sum(sizes) == total


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("size", [(16, 16), (16, 35), (41, 20)])
def test_the_discriminator_layer_by_layer(size, channels):
    torch.manual_seed(0)
    discriminator = PairDiscriminator(channels, CLASSES, width=3).double().eval()
    p, x = random(4, CLASSES, size=size).softmax(1), 3 * random(4, channels, size=size, seed=1)
    ours = discriminator(p, x).detach().numpy()
    assert ours.shape == (4, 2)
    np.testing.assert_allclose(ours, discriminate(discriminator, p.numpy(), x.numpy()), rtol=0, atol=1e-12)


def test_in_training_the_discriminator_leaves_out_half_of_the_channels_of_two_layers():
    torch.manual_seed(0)
    discriminator, masks = PairDiscriminator(1, CLASSES, width=16).double().train(), []
    for module in discriminator.modules():
        if isinstance(module, nn.Dropout2d):
            module.register_forward_hook(lambda m, inputs, y: masks.append((y / inputs[0]).numpy()))
    p, x = random(6, CLASSES, size=(16, 16)).softmax(1), random(6, 1, size=(16, 16), seed=1)
    with torch.no_grad():
        ours = discriminator(p, x).numpy()
    assert [mask.shape for mask in masks] == [(6, 32, 4, 4), (6, 64, 2, 2)]
    for mask in masks:
        assert set(np.unique(mask)) == {0, 2}
        assert (mask == mask[:, :, :1, :1]).all()  # a channel as a whole
        assert mask.mean() == pytest.approx(1, abs=0.25)
    np.testing.assert_allclose(ours, discriminate(discriminator, p.numpy(), x.numpy(), masks), rtol=0, atol=1e-12)


# lambda(t) ----------------------------------------------------------------------------------------------------------


def test_the_weight_grows_to_its_value_and_stays_there():
    method, b, _ = by_hand_and_ours(False, weight=0.1, ramp_up=10)
    found = []
    for _ in range(13):
        found.append(method.lam())
        method.training_step(b)
    assert found[0] == pytest.approx(0.1 * 0.006737946999085467)  # e^-5
    assert found[5] == pytest.approx(0.1 * 0.2865047968601901)  # e^-1.25
    assert found[9] == pytest.approx(0.1 * 0.951229424500714)  # e^-0.05
    assert found[10:] == [0.1] * 3


def test_without_a_ramp_the_weight_is_there_at_once():
    assert by_hand_and_ours(True, weight=0.3, ramp_up=0)[0].lam() == 0.3


# A step -------------------------------------------------------------------------------------------------------------


def test_the_adversarial_loss_of_ssl_from_the_logits():
    torch.manual_seed(1)
    method = real(semi_supervised=True)
    method.network.double()
    method.discriminator.double()
    b = batch(2, 3, size=(16, 24))
    before = copy.deepcopy(method.network)
    logits = before.train()(torch.cat([b["images"], b["unlabelled"]])).detach().numpy()
    scores = discriminate(method.discriminator, softmax(logits[2:]), b["unlabelled"].numpy())
    record = method.training_step(b)
    assert record["loss_adv"].item() == pytest.approx(cross_entropy(scores, 1), abs=1e-12)
    assert record["loss_sup"].item() == pytest.approx(
        -(b["targets"].numpy() * np.log(softmax(logits[:2]))).sum(1).mean(), abs=1e-12
    )
    assert not any(value.requires_grad or value.shape for value in record.values())


@pytest.mark.parametrize("semi_supervised", [True, False])
@pytest.mark.parametrize(("labelled", "unlabelled"), [(2, 3), (3, 1)])
def test_steps_are_those_worked_out_by_hand(labelled, unlabelled, semi_supervised):
    """Three of them, with another lambda each: losses, S's logits and D's weights."""
    ours, b, x = by_hand_and_ours(semi_supervised, ramp_up=2, labelled=labelled, unlabelled=unlabelled)
    logits, linear = ours.network.logits.detach().numpy().copy(), ours.discriminator.arrays()
    for lam in (4 * math.exp(-5), 4 * math.exp(-1.25), 4):
        record = ours.training_step(b)
        losses, logits, linear = step_by_hand(logits, linear, x, b["targets"].numpy(), semi_supervised, lam)
        assert [record[name].item() for name in ("loss_sup", "loss_adv", "loss_disc")] == pytest.approx(losses)
        np.testing.assert_allclose(ours.network.logits.detach().numpy(), logits, rtol=0, atol=1e-12)
        for name, weight in ours.discriminator.arrays().items():
            np.testing.assert_allclose(weight, linear[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("semi_supervised", [True, False])
def test_neither_step_touches_the_other_network(semi_supervised):
    method, seen = real(semi_supervised, weight=10.0), {}
    networks = {"S": method.network, "D": method.discriminator}

    def note(moment):
        def hook(*_):
            seen[moment] = {
                name: (state(net), [None if p.grad is None else p.grad.clone() for p in net.parameters()])
                for name, net in networks.items()
            }

        return hook

    for name, optimiser in (("S", method.optimiser), ("D", method.discriminator_optimiser)):
        optimiser.register_step_pre_hook(note(f"before {name}"))
        optimiser.register_step_post_hook(note(f"after {name}"))
    start = {name: state(net) for name, net in networks.items()}
    method.training_step(real_batch())
    note("end")()

    # S's step: D has no gradient and stays as it was, S learns
    assert seen["before S"]["D"][1] == [None] * 12
    assert equal(seen["after S"]["D"][0], start["D"])
    assert all(g.any() for g in seen["before S"]["S"][1])
    # D's step: S has the gradients and all values (running statistics, too) of its own step, D learns
    assert equal(seen["end"]["S"][0], seen["after S"]["S"][0])
    assert all(torch.equal(a, b) for a, b in zip(seen["end"]["S"][1], seen["before S"]["S"][1], strict=True))
    assert all(g.any() for g in seen["before D"]["D"][1])
    for name, parameters in (("S", dict(method.network.named_parameters())), ("D", start["D"])):
        after = seen["end"][name][0]
        assert not any(torch.equal(after[key], start[name][key]) for key in parameters)


@pytest.mark.parametrize("semi_supervised", [True, False])
def test_gradients_do_not_pile_up_over_steps(semi_supervised):
    """Where nothing moves, the second step has the gradients of the first."""
    ours, b, _ = by_hand_and_ours(semi_supervised)
    for optimiser in (ours.optimiser, ours.discriminator_optimiser):
        optimiser.param_groups[0]["lr"] = 0.0
    found = []
    for _ in range(2):
        ours.training_step(b)
        found.append([p.grad.clone() for net in (ours.network, ours.discriminator) for p in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize(("semi_supervised", "pairs", "judged"), [(True, 5, 3), (False, 4, 2)])
def test_the_modes_and_batches_of_a_step(semi_supervised, pairs, judged):
    method, b, calls = real(semi_supervised), real_batch(), []
    for name, net in (("S", method.network), ("D", method.discriminator)):
        net.register_forward_pre_hook(
            lambda net, inputs, name=name: calls.append((name, net.training, inputs[-1].clone()))
        )
    method.network.eval()
    method.discriminator.train()
    method.training_step(b)
    images = torch.cat([b["images"], b["unlabelled"]]) if semi_supervised else b["images"]
    assert [(name, training, len(x)) for name, training, x in calls] == [
        ("S", True, len(images)),  # one batch for the norms
        ("D", False, judged),
        ("S", False, len(images)),
        ("D", True, pairs),
    ]
    assert torch.equal(calls[0][2], images)
    assert torch.equal(calls[2][2], images)
    assert torch.equal(calls[1][2], b["unlabelled"] if semi_supervised else b["images"])
    assert torch.equal(calls[3][2], images if semi_supervised else torch.cat([images, images]))


def test_sl_does_not_look_at_unlabelled_images():
    with_them, without = real(False), real(False)
    for seed in range(3):
        b = real_batch(seed)
        for method, drop in ((with_them, False), (without, True)):
            torch.manual_seed(seed)
            method.training_step({k: v for k, v in b.items() if not (drop and k == "unlabelled")})
    assert equal(with_them.network.state_dict(), without.network.state_dict())
    assert equal(with_them.discriminator.state_dict(), without.discriminator.state_dict())


def test_ssl_wants_unlabelled_images():
    with pytest.raises(KeyError, match="unlabelled"):
        real(True).training_step({k: v for k, v in real_batch().items() if k != "unlabelled"})


@pytest.mark.parametrize(("weight", "same"), [(0.0, True), (1.0, False)])
def test_with_weight_0_sl_is_plain_training(weight, same):
    method, plain = real(False, weight=weight), real(False).network
    optimiser = torch.optim.Adam(plain.parameters(), 1e-3)
    for seed in range(4):
        b = real_batch(seed)
        method.training_step(b)
        plain.train()
        loss = soft_cross_entropy(plain(b["images"]), b["targets"])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert equal(method.network.state_dict(), plain.state_dict()) == same  # norms, too


@pytest.mark.parametrize("semi_supervised", [True, False])
@pytest.mark.parametrize(("channels", "size"), [(1, (16, 38)), (2, (50, 16)), (2, (34, 34))])
def test_other_sizes_and_channels(channels, size, semi_supervised):
    method = real(semi_supervised, channels=channels)
    b = real_batch(channels=channels, size=size)
    before = state(method.discriminator)
    record = method.training_step(b)
    assert all(math.isfinite(value) for value in record.values())
    assert not equal(before, method.discriminator.state_dict())
    assert method.predict(b["unlabelled"]).shape == (3, CLASSES, *size)


def test_a_discriminator_that_alone_learns_tells_them_apart():
    """S stands still: labels of one kind, predictions of another."""
    method = real(False, weight=1.0)
    method.optimiser.param_groups[0]["lr"] = 0.0
    b = real_batch()
    losses = [method.training_step(b)["loss_disc"].item() for _ in range(60)]
    assert losses[0] == pytest.approx(math.log(2), abs=0.2)
    assert np.mean(losses[-10:]) < 0.3


# Prediction and state -----------------------------------------------------------------------------------------------


def test_predict_gives_probabilities_in_evaluation_mode_and_leaves_the_batch_norms_alone():
    method, b = real(True), real_batch()
    method.training_step(b)
    method.network.train()
    before = state(method.network)
    p = method.predict(b["unlabelled"], batch_size=2)
    assert equal(before, method.network.state_dict())
    assert not p.requires_grad
    assert torch.allclose(p.sum(1), torch.ones(3, 16, 24))
    with torch.no_grad():
        logits = copy.deepcopy(method.network).eval()(b["unlabelled"])
    np.testing.assert_allclose(p, softmax(logits.double().numpy()), rtol=0, atol=1e-6)


@pytest.mark.parametrize("semi_supervised", [True, False])
def test_a_restored_method_continues_as_if_never_stopped(semi_supervised):
    """Four steps are two steps, a file and two steps, bit for bit; D's dropout draws from torch's generator."""

    def run(method, seeds):
        return [method.training_step(real_batch(seed)) for seed in seeds]

    whole = real(semi_supervised)
    torch.manual_seed(9)
    records = run(whole, range(4))

    first = real(semi_supervised)
    torch.manual_seed(9)
    run(first, range(2))
    file = io.BytesIO()
    torch.save({"method": first.state_dict(), "rng": torch.get_rng_state()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second = real(semi_supervised, seed=1)  # other weights
    second.load_state_dict(saved["method"])
    torch.set_rng_state(saved["rng"])
    assert second.lam() == pytest.approx(math.exp(-5 * 0.5**2))  # two of four steps
    assert run(second, range(2, 4)) == records[2:]

    for name in ("network", "discriminator"):
        assert equal(getattr(second, name).state_dict(), getattr(whole, name).state_dict())
    for name in ("optimiser", "discriminator_optimiser"):
        a, b = (getattr(method, name).state_dict()["state"] for method in (second, whole))
        assert all(equal(a[key], b[key]) for key in b)
        assert a.keys() == b.keys()
