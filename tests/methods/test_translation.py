"""The objective of Vorontsov et al. 2019, Eq. 1-12, against values and gradients worked out another way."""

import copy
import math
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from fewlabels.errors import BadInput
from fewlabels.losses import soft_dice_loss
from fewlabels.methods.translation import LAMBDA, Autoencoding, Translation, l1
from fewlabels.models import translator
from fewlabels.models.discriminators import MultiScaleDiscriminator
from fewlabels.models.translator import VARIANTS, Autoencoder, Translator
from fewlabels.scores.metrics import dice_global

SIZE = (16, 20)


class Stub(nn.Module):
    """Networks that can be worked out by hand: a code of three channels, the last of them unique, and one skip."""

    unique = 1

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
        self.b = nn.Parameter(torch.tensor([0.1, 0.2, -0.3]))
        self.com = nn.Parameter(torch.tensor([0.7, 0.4]))
        self.res = nn.Parameter(torch.tensor([0.3, -0.6, 0.9]))
        self.seg = nn.Parameter(torch.tensor([0.2, 0.1, -0.4]))
        self.seen = []

    def f(self, x):
        self.seen.append(("f", x.detach().clone()))
        return x * self.a[:, None, None] + self.b[:, None, None], [x.square()]

    def g_com(self, c, skips):
        self.seen.append(("g_com", c.detach().clone(), skips[0].detach().clone()))
        assert c.shape[1] == 2  # what is unique does not come in
        return (c * self.com[:, None, None]).sum(1, keepdim=True) + 0.01 * skips[0]

    def g_res(self, s, skips):
        self.seen.append(("g_res", s.detach().clone(), skips[0].detach().clone()))
        assert s.shape[1] == 3
        return (s * self.res[:, None, None]).sum(1, keepdim=True) - 0.02 * skips[0]

    def segment(self, s, skips):
        self.seen.append(("segment", s.detach().clone(), skips[0].detach().clone()))
        return ((s * self.seg[:, None, None]).sum(1, keepdim=True) + skips[0]).sigmoid()

    def split(self, s):
        return [s[:, :2], s[:, 2:]]


class StubD(nn.Module):
    """Two scales: every pixel, and the means of pairs of them; some are beyond the hinge, some are not."""

    def __init__(self, scale):
        super().__init__()
        self.scale, self.seen = nn.Parameter(torch.tensor(scale)), []

    def forward(self, x):
        self.seen.append((x.detach().clone(), x.requires_grad))
        whole = self.scale * x.flatten(1)
        return [whole, whole.unflatten(1, (-1, 2)).mean(2)]


def stubbed(rate=0.0, **settings):
    network, D = Stub(), {"A": StubD(1.5), "P": StubD(-2.0)}
    optimisers = {"G": torch.optim.SGD(network.parameters(), rate)}
    optimisers["D"] = torch.optim.SGD([d.scale for d in D.values()], rate)
    return Translation(network, D, optimisers, **settings)


def stub_batch(labelled=(1,)):
    rng = np.random.default_rng(0)
    x_P, x_A = (torch.tensor(rng.normal(size=(n, 1, 2, 4)), dtype=torch.float32) for n in (3, 2))
    labelled = torch.tensor(labelled, dtype=torch.long)
    masks = torch.tensor(rng.random((len(labelled), 2, 4)) > 0.5)
    return {"presence": x_P, "absence": x_A, "labelled": labelled, "masks": masks}


def by_hand(batch, u, variant, scales=(1.5, -2.0)):
    """Every image and loss in NumPy, image set by image set."""
    x_P, x_A = (batch[name].double().numpy() for name in ("presence", "absence"))
    u = u.double().numpy()
    a, b = (np.array(v)[:, None, None] for v in ([1.0, -2.0, 0.5], [0.1, 0.2, -0.3]))
    com, res, seg = (np.array(v)[:, None, None] for v in ([0.7, 0.4], [0.3, -0.6, 0.9], [0.2, 0.1, -0.4]))
    f = lambda x: x * a + b  # noqa: E731
    g_com = lambda c, x: (c[:, :2] * com).sum(1, keepdims=True) + 0.01 * x**2  # noqa: E731
    g_res = lambda s, x: (s * res).sum(1, keepdims=True) - 0.02 * x**2  # noqa: E731
    s_P, s_A = f(x_P), f(x_A)
    x_PA, x_AA = g_com(s_P, x_P), g_com(s_A, x_A)
    D_PA = g_res(s_P, x_P)
    z_A = np.concatenate([s_A[:, :2], u], 1)
    D_AP = g_res(z_A, x_A)
    x_PP, x_AP = x_PA + D_PA, x_AA + D_AP
    s_AP, s_PP, s_PA, s_AA = f(x_AP), f(x_PP), f(x_PA), f(x_AA)
    x_APA = g_com(s_AP, x_AP)
    L1 = lambda a, b: np.abs(a - b).mean()  # noqa: E731
    c, unique = (lambda s: s[:, :2]), (lambda s: s[:, 2:])
    if variant == "released":
        lat = L1(s_AP, z_A) + L1(s_PP, s_P) + L1(c(s_PA), c(s_P)) + L1(c(s_AA), c(s_A))
    else:
        lat = L1(c(s_P), c(s_PA)) + L1(c(s_A), c(s_AP)) + L1(c(s_A), c(s_AA)) + L1(c(s_P), c(s_PP))
        lat += L1(unique(s_P), unique(s_PP)) + L1(u, unique(s_AP))
    k = batch["labelled"].numpy()
    p = 1 / (1 + np.exp(-((s_P[k] * seg).sum(1) + x_P[k, 0] ** 2)))
    y = batch["masks"].numpy().astype(float)

    def D(x, scale):
        whole = scale * x.reshape(len(x), -1)
        return [whole, whole.reshape(len(x), -1, 2).mean(2)]

    def mean(maps, of):
        if variant == "released":
            return np.mean([of(m).mean() for m in maps])
        return of(np.mean([m.mean(1) for m in maps], axis=0)).mean()

    hinge = 0
    for scale, real, made in ((scales[0], x_A, x_PA), (scales[1], x_P, x_AP)):
        hinge += mean(D(real, scale), lambda d: np.maximum(0, 1 - d))
        hinge += mean(D(made, scale), lambda d: np.maximum(0, 1 + d))
    made = {"x_PA": x_PA, "x_AA": x_AA, "D_PA": D_PA, "D_AP": D_AP, "x_PP": x_PP, "x_AP": x_AP, "s_P": s_P, "z_A": z_A}
    return made | {"c_P": c(s_P), "c_A": c(s_A)}, {
        "loss_rec": L1(x_P, x_PP) + L1(x_A, x_AA),
        "loss_lat": lat,
        "loss_cyc": L1(x_A, x_APA),
        "loss_seg": -(2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1),
        "loss_adv": -mean(D(x_PA, scales[0]), lambda d: d) - mean(D(x_AP, scales[1]), lambda d: d),
        "loss_D": hinge,
    }


# ---- Eq. 1-12 on networks worked out by hand ----


def test_images_are_those_of_equations_1_to_6():
    m, batch, u = stubbed(), stub_batch(), torch.tensor([0.7, -1.3]).repeat_interleave(8).view(2, 1, 2, 4)
    made = m.translate(batch["presence"], batch["absence"], u)
    expected, _ = by_hand(batch, u, "released")
    for name, value in expected.items():
        torch.testing.assert_close(made[name].detach(), torch.tensor(value).float(), atol=1e-5, rtol=1e-5)
    assert set(made) == {*expected, "skips_P"}
    assert torch.equal(made["skips_P"][0], batch["presence"].square())


def test_without_the_target_an_image_comes_from_the_common_code_alone():
    m, other, batch = stubbed(), stubbed(), stub_batch()
    with torch.no_grad():
        other.G.a[2], other.G.b[2] = 50.0, -9.0  # what is unique is another
    a, b = (each.translate(batch["presence"], batch["absence"], torch.zeros(2, 1, 2, 4)) for each in (m, other))
    assert torch.equal(a["x_PA"], b["x_PA"])
    assert torch.equal(a["x_AA"], b["x_AA"])
    assert not torch.allclose(a["D_PA"], b["D_PA"])
    assert torch.equal(a["x_AP"], b["x_AP"])  # here it is u, not the image's own


def test_what_is_unique_to_a_translated_image_is_drawn():
    m, batch = stubbed(), stub_batch()
    torch.manual_seed(4)
    first = m.translate(batch["presence"], batch["absence"])
    second = m.translate(batch["presence"], batch["absence"])
    torch.manual_seed(4)
    again = m.translate(batch["presence"], batch["absence"])
    assert torch.equal(first["x_AP"], again["x_AP"])
    assert not torch.equal(first["x_AP"], second["x_AP"])
    assert torch.equal(first["x_PP"], second["x_PP"])
    torch.testing.assert_close(first["z_A"][:, :2], first["c_A"])
    many = m.translate(torch.zeros(1, 1, 2, 4), torch.zeros(4000, 1, 2, 4))["z_A"][:, 2]
    many = many.detach()
    assert float(many.mean()) == pytest.approx(0, abs=0.03)
    assert float(many.std()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("labelled", [(1,), (0, 2), (0, 1, 2)])
def test_losses_are_those_of_equations_8_to_12(variant, labelled):
    m, batch = stubbed(variant=variant), stub_batch(labelled)
    torch.manual_seed(4)
    losses = m.training_step(batch)
    torch.manual_seed(4)
    _, expected = by_hand(batch, torch.randn(2, 1, 2, 4), variant)
    assert set(losses) == set(expected)
    for name, value in expected.items():
        assert float(losses[name]) == pytest.approx(value, rel=1e-5), name
        assert not losses[name].requires_grad


def test_the_two_variants_differ():
    batch, u = stub_batch(), torch.ones(2, 1, 2, 4)
    released, paper = (by_hand(batch, u, variant)[1] for variant in VARIANTS)
    assert released["loss_lat"] != pytest.approx(paper["loss_lat"], rel=0.02)  # else the test above is blind
    assert released["loss_D"] != pytest.approx(paper["loss_D"], rel=0.02)


def test_the_hinge_is_of_each_place_or_of_an_images_mean():
    """One image: scores of 3 and -1 at a scale of two places, 4 at one of one."""
    maps = [torch.tensor([[3.0, -1.0]]), torch.tensor([[4.0]])]
    above = lambda d: (1 - d).relu()  # noqa: E731
    assert float(stubbed().realness(maps, above)) == pytest.approx(((0 + 2) / 2 + 0) / 2)
    assert float(stubbed(variant="paper").realness(maps, above)) == 0  # the mean is (1 + 4) / 2
    for variant in VARIANTS:  # without a hinge they agree
        assert float(stubbed(variant=variant).realness(maps)) == pytest.approx(2.5)


def test_discriminators_see_detached_images_of_the_two_kinds_alone():
    m, batch = stubbed(), stub_batch()
    torch.manual_seed(4)
    m.training_step(batch)
    torch.manual_seed(4)
    made, _ = by_hand(batch, torch.randn(2, 1, 2, 4), "released")
    x_PA, x_AP = (torch.tensor(made[name]).float() for name in ("x_PA", "x_AP"))
    for domain, real, translated in (("A", batch["absence"], x_PA), ("P", batch["presence"], x_AP)):
        (of_D, attached), (of_G, through) = m.D[domain].seen
        torch.testing.assert_close(of_D, torch.cat([real, translated]), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(of_G, translated, atol=1e-5, rtol=1e-5)
        assert not attached
        assert through


def test_which_images_go_through_which_network():
    m, batch = stubbed(), stub_batch((2,))
    torch.manual_seed(4)
    m.training_step(batch)
    torch.manual_seed(4)
    made, _ = by_hand(batch, torch.randn(2, 1, 2, 4), "released")
    made = {name: torch.tensor(value).float() for name, value in made.items()}
    by_name = {name: [call[1:] for call in m.G.seen if call[0] == name] for name in ("f", "g_com", "segment")}

    def among(image, calls, position=0):
        return any(torch.allclose(image, x, atol=1e-5) for call in calls for x in call[position])

    for images in (batch["presence"], batch["absence"], *(made[n] for n in ("x_AP", "x_PP", "x_PA", "x_AA"))):
        assert all(among(image, by_name["f"]) for image in images)
    assert sum(len(call[0]) for call in by_name["f"]) == 15  # and no others
    for image in made["x_AP"]:  # the cycle skips from the translated image
        assert among(image.square(), by_name["g_com"], 1)
    assert [len(call[0]) for call in by_name["segment"]] == [1]  # only what has a mask is segmented
    torch.testing.assert_close(by_name["segment"][0][0], made["s_P"][2:])
    torch.testing.assert_close(by_name["segment"][0][1], batch["presence"][2:].square())


def test_without_a_cycle_nothing_is_cycled():
    m, batch = stubbed(weights=LAMBDA | {"cyc": 0.0}), stub_batch()
    losses = m.training_step(batch)
    assert "loss_cyc" not in losses
    assert sum(len(call[1]) for call in m.G.seen if call[0] == "g_com") == 5


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_without_masks_has_no_segmentation_and_finite_losses(variant):
    m, batch = stubbed(0.01, variant=variant), stub_batch(())
    before = m.G.seg.detach().clone()
    losses = m.training_step(batch)
    assert losses["loss_seg"] == 0
    assert all(math.isfinite(loss) for loss in losses.values())
    assert torch.equal(m.G.seg, before)
    assert not [call for call in m.G.seen if call[0] == "segment"]
    unweighted = stubbed(weights=LAMBDA | {"seg": 0.0})
    assert unweighted.training_step(stub_batch())["loss_seg"] == 0


def gradients_of(weights):
    m = stubbed(weights=weights)
    torch.manual_seed(4)
    m.training_step(stub_batch())
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in m.G.parameters()]


def test_the_losses_are_added_with_the_papers_weights():
    assert LAMBDA == {"adv": 3, "rec": 50, "lat": 1, "cyc": 50, "seg": 0.01}
    alone = [gradients_of(dict.fromkeys(LAMBDA, 0.0) | {name: 1.0}) for name in LAMBDA]
    for i, found in enumerate(gradients_of(LAMBDA)):
        expected = sum(weight * grads[i] for weight, grads in zip(LAMBDA.values(), alone))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert all(any(bool(grad.any()) for grad in grads) for grads in alone)


# ---- a step ----


@pytest.fixture
def plain(monkeypatch):
    """Networks without spectral norm, whose power iteration moves with every pass."""
    monkeypatch.setattr(translator, "spectral_norm", lambda module: module)


def method(variant="released", weights=LAMBDA, rates=(1e-3, 1e-2), seed=0, optimiser=torch.optim.SGD, **settings):
    torch.manual_seed(seed)
    G = Translator(SIZE, width=2, levels=2, variant=variant, **settings)
    D = {domain: MultiScaleDiscriminator(1, [2, 4], variant) for domain in "AP"}
    optimisers = {"G": optimiser(G.parameters(), rates[0]), "D": optimiser(nn.ModuleDict(D).parameters(), rates[1])}
    return Translation(G, D, optimisers, weights, variant)


def batch_of(labelled=(0, 2), n=4, seed=1):
    torch.manual_seed(seed)
    masks = torch.rand(len(labelled), *SIZE) > 0.7
    labelled = torch.tensor(labelled, dtype=torch.long)
    x_P, x_A = torch.rand(2, n, 1, *SIZE)
    return {"presence": x_P, "absence": x_A, "masks": masks, "labelled": labelled}


def naive_step(m, batch, rates, weights, variant):
    """The oracle: image by image through the networks, losses written out, plain gradient descent."""
    f, g_com, g_res = m.G.f, m.G.g_com, m.G.g_res
    D_A, D_P = m.D["A"], m.D["P"]
    n, unique = len(batch["absence"]), m.G.unique
    u = torch.randn(n, unique, 4, 5)
    made = {name: [] for name in ("x_P", "x_A", "x_PA", "x_AA", "x_PP", "x_AP", "x_APA")}
    codes = {name: [] for name in ("P", "A", "PA", "AA", "PP", "AP", "z")}
    skips_P = []
    common = f(batch["presence"][:1])[0].shape[1] - unique
    for i in range(n):
        x_P, x_A = batch["presence"][i : i + 1], batch["absence"][i : i + 1]
        s_P, of_P = f(x_P)
        s_A, of_A = f(x_A)
        x_PA, x_AA = g_com(s_P[:, :common], of_P), g_com(s_A[:, :common], of_A)
        z = torch.cat([s_A[:, :common], u[i : i + 1]], 1)
        x_PP, x_AP = x_PA + g_res(s_P, of_P), x_AA + g_res(z, of_A)
        s_AP, of_AP = f(x_AP)
        x_APA = g_com(s_AP[:, :common], of_AP)
        for name, value in zip(made, (x_P, x_A, x_PA, x_AA, x_PP, x_AP, x_APA), strict=True):
            made[name].append(value)
        for name, value in zip(codes, (s_P, s_A, f(x_PA)[0], f(x_AA)[0], f(x_PP)[0], s_AP, z), strict=True):
            codes[name].append(value)
        skips_P.append(of_P)
    made, codes = ({name: torch.cat(values) for name, values in d.items()} for d in (made, codes))

    L1 = F.l1_loss
    c, own = (lambda name: codes[name][:, :common]), (lambda name: codes[name][:, common:])
    losses = {
        "rec": L1(made["x_PP"], made["x_P"]) + L1(made["x_AA"], made["x_A"]),
        "cyc": L1(made["x_APA"], made["x_A"]),
        "lat": L1(c("PA"), c("P")) + L1(c("AA"), c("A")),
    }
    if variant == "released":
        losses["lat"] = losses["lat"] + L1(codes["AP"], codes["z"]) + L1(codes["PP"], codes["P"])
    else:
        for of in (c, own):
            losses["lat"] = losses["lat"] + L1(of("AP"), of("z")) + L1(of("PP"), of("P"))
    if len(batch["labelled"]):
        y_seg = [m.G.segment(codes["P"][k : k + 1], skips_P[k]) for k in batch["labelled"].tolist()]
        p, y = torch.cat(y_seg)[:, 0], batch["masks"].float()
        losses["seg"] = -(2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)

    def score(D, x, of):
        each = []
        for image in x.split(1):
            maps = D(image)
            if variant == "released":
                each.append(sum(of(m).mean() for m in maps) / len(maps))
            else:
                each.append(of(sum(m.mean() for m in maps) / len(maps)))
        return sum(each) / len(each)

    loss_D = 0
    for D, real, translated in ((D_A, made["x_A"], made["x_PA"]), (D_P, made["x_P"], made["x_AP"])):
        loss_D = (
            loss_D + score(D, real, lambda d: F.relu(1 - d)) + score(D, translated.detach(), lambda d: F.relu(1 + d))
        )
    of_D = [*D_A.parameters(), *D_P.parameters()]
    grads = torch.autograd.grad(weights["adv"] * loss_D, of_D)
    with torch.no_grad():
        for p, grad in zip(of_D, grads):
            p -= rates[1] * grad
    losses["adv"] = -score(D_A, made["x_PA"], lambda d: d) - score(D_P, made["x_AP"], lambda d: d)  # D has moved
    of_G = [*m.G.parameters()]
    grads = torch.autograd.grad(sum(weights[name] * loss for name, loss in losses.items()), of_G, allow_unused=True)
    with torch.no_grad():
        for p, grad in zip(of_G, grads):
            p -= 0 if grad is None else rates[0] * grad
    return {f"loss_{name}": loss for name, loss in losses.items()} | {"loss_D": loss_D}


@pytest.mark.parametrize(
    ("variant", "changes"),
    [*product(VARIANTS, ({}, {"labelled": ()}, {"separate": True}, {"adaptive": False}, {"cyc": 0.0}))],
    ids=str,
)
def test_a_step_is_that_of_image_after_image_through_the_networks(variant, changes, plain):
    changes = dict(changes)
    weights, batch = LAMBDA | {"cyc": changes.pop("cyc", 50.0)}, batch_of(changes.pop("labelled", (0, 2)))
    one, other = (method(variant, weights, **changes) for _ in range(2))
    torch.manual_seed(7)
    losses = one.training_step(batch)
    torch.manual_seed(7)
    expected = naive_step(other, batch, (1e-3, 1e-2), weights, variant)
    if not weights["cyc"]:
        expected.pop("loss_cyc")
    for name, value in ({"loss_seg": torch.zeros(())} | expected).items():
        assert float(losses[name]) == pytest.approx(float(value.detach()), rel=1e-3, abs=1e-6), name
    moved = 0
    fresh = method(variant, weights, **changes).network.state_dict()
    for name, value in one.network.state_dict().items():
        torch.testing.assert_close(value, other.network.state_dict()[name], atol=2e-5, rtol=1e-3, msg=name)
        moved += not torch.allclose(value, fresh[name], atol=1e-4)
    assert moved > 30


def test_a_step_of_one_network_leaves_the_other_alone(monkeypatch):
    m, seen = method(), []
    snapshot = lambda: {n: p.detach().clone() for n, p in m.network.named_parameters()}  # noqa: E731
    gradients = lambda: {n: None if p.grad is None else p.grad.clone() for n, p in m.network.named_parameters()}  # noqa: E731
    step = m.step

    def watched(name, loss):
        before, grads = snapshot(), gradients()
        step(name, loss)
        seen.append((name, before, snapshot(), grads, gradients()))

    monkeypatch.setattr(m, "step", watched)
    m.training_step(batch_of())
    assert [entry[0] for entry in seen] == ["D", "G"]
    for name, before, after, grads, later in seen:
        changed = {key[0] for key in before if not torch.equal(before[key], after[key])}
        assert changed == {name}
        others = [key for key in grads if not key.startswith(name)]
        assert all(grads[key] is later[key] or torch.equal(grads[key], later[key]) for key in others)


def test_each_network_is_normalised_once_a_use():
    """Of spectral norm's power iteration, G takes one step in a training step, D two: one for each of its losses."""
    m = method(rates=(0.0, 0.0))

    def buffers():
        weights = ((n, w) for n, w in m.network.named_modules() if parametrize.is_parametrized(w))
        of = {n: (w.parametrizations.weight.original.flatten(1), w.parametrizations.weight[0]) for n, w in weights}
        return {n: (w.detach().clone(), norm._u.clone(), norm._v.clone()) for n, (w, norm) in of.items()}

    before = buffers()
    m.training_step(batch_of())
    after = buffers()
    assert len(before) > 20
    for name, (w, u, v) in before.items():
        for _ in range(1 if name.startswith("G") else 2):
            u = F.normalize(w @ v, dim=0)
            v = F.normalize(w.T @ u, dim=0)
        torch.testing.assert_close(after[name][1], u, atol=1e-4, rtol=1e-3, msg=name)
        torch.testing.assert_close(after[name][2], v, atol=1e-4, rtol=1e-3, msg=name)


def test_training_lowers_what_it_is_to_lower():
    m, batch = method(optimiser=lambda p, rate: torch.optim.Adam(p, 5e-3), weights=LAMBDA | {"seg": 5.0}), batch_of()
    losses = [m.training_step(batch) for _ in range(25)]
    for name in ("loss_rec", "loss_cyc", "loss_seg"):
        assert losses[-1][name] < losses[0][name], name


def test_in_bfloat16_losses_are_about_the_same():
    one, other = method(), method()
    other.bf16 = True
    found = []
    for m in (one, other):
        torch.manual_seed(7)
        found.append(m.training_step(batch_of()))
    for name, value in found[0].items():
        assert float(found[1][name]) == pytest.approx(float(value), rel=0.05, abs=0.05), name
    assert other.predict(batch_of()["presence"]).dtype == torch.float32


# ---- the state ----


def amsgrad(parameters, rate):
    return torch.optim.Adam(parameters, rate, (0.5, 0.999), amsgrad=True)


@pytest.mark.parametrize("kind", ["translation", "autoencoding"])
def test_a_resumed_training_ends_in_the_same_bits(kind):
    make = {
        "translation": lambda seed: method(optimiser=amsgrad, seed=seed),
        "autoencoding": lambda s: baseline(seed=s),
    }
    through, first, second = (make[kind](seed) for seed in (0, 0, 5))
    for m in (through, first):
        torch.manual_seed(3)
        m.training_step(batch_of(seed=2))
    state, rng = copy.deepcopy(first.state_dict()), torch.get_rng_state()
    data = batch_of((), seed=4)
    torch.manual_seed(99)
    second.load_state_dict(state)
    for m in (through, second):
        torch.set_rng_state(rng)
        m.training_step(data)
    a, b = (m.network.state_dict() for m in (through, second))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    if kind == "translation":
        assert {key.split(".")[0] for key in a} == {"G", "D"}
        assert set(state["optimisers"]) == {"G", "D"}


@pytest.mark.parametrize("kind", ["translation", "baseline"])
def test_predictions_are_probabilities_whatever_the_batch(kind):
    m, x = method() if kind == "translation" else baseline(), torch.rand(5, 1, *SIZE)
    before = copy.deepcopy(m.network.state_dict())
    p = m.predict(x)
    assert p.shape == (5, 1, *SIZE)
    assert p.dtype == torch.float32
    assert 0 <= float(p.min())
    assert float(p.max()) <= 1
    for size in (1, 2, 5):
        torch.testing.assert_close(m.predict(x, size), p, atol=1e-5, rtol=1e-4)
    assert all(torch.equal(value, m.network.state_dict()[key]) for key, value in before.items())
    m.network.eval()
    with torch.no_grad():
        torch.testing.assert_close(m.G.segment(*m.G.f(x)), p, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(m.segment(x), p, atol=1e-5, rtol=1e-4)


# ---- the baselines ----


def baseline(reconstructs=True, rate=1e-2, seed=0, **settings):
    torch.manual_seed(seed)
    network = Autoencoder(1, 2, 2, reconstructs)
    return Autoencoding(network, {"G": torch.optim.SGD(network.parameters(), rate)}, **settings)


def naive_baseline_step(m, batch, rate, weights):
    network, rec, pieces = m.G, [], []
    if network.g_rec is not None:
        for x in torch.cat([batch["presence"], batch["absence"]]).split(1):
            s, skips = network.f(x)
            rec.append((network.g_rec(s, skips) - x).abs().mean())
    for k in batch["labelled"].tolist():
        pieces.append(network.segment(*network.f(batch["presence"][k : k + 1]))[0, 0])
    losses = {"rec": sum(rec) / len(rec)} if rec else {}
    if pieces:
        p, y = torch.stack(pieces), batch["masks"].float()
        losses["seg"] = -(2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
    total = sum(weights[name] * loss for name, loss in losses.items())
    grads = torch.autograd.grad(total, [*network.parameters()], allow_unused=True)
    with torch.no_grad():
        for p, grad in zip(network.parameters(), grads):
            p -= 0 if grad is None else rate * grad
    return losses


@pytest.mark.parametrize(
    ("reconstructs", "labelled", "weights"),
    [
        (True, (0, 2), None),
        (True, (), None),
        (True, (3,), {"rec": 0.5, "seg": 3.0}),
        (False, (0, 1, 2, 3), None),
        (False, (1, 3), None),
    ],
)
def test_a_baselines_step_is_that_of_image_after_image(reconstructs, labelled, weights):
    one, other = (baseline(reconstructs, weights=weights) for _ in range(2))
    batch = batch_of(labelled)
    if not reconstructs:
        batch.pop("absence")  # segmentation alone has no use for it
    losses = one.training_step(batch)
    expected = naive_baseline_step(other, batch, 1e-2, weights or {"rec": 1.0, "seg": 1.0})
    assert set(losses) == {"loss_rec", "loss_seg"}
    for name, value in losses.items():
        assert float(value) == pytest.approx(float(expected.get(name[5:], torch.zeros(())).detach()), rel=1e-4)
    for name, value in one.G.state_dict().items():
        torch.testing.assert_close(value, other.G.state_dict()[name], atol=1e-6, rtol=1e-3, msg=name)


def test_segmentation_alone_has_nothing_to_learn_from_images_without_masks():
    with pytest.raises(
        BadInput, match="batch of Only segmentation: expected at least one image with a mask, found none"
    ):
        baseline(reconstructs=False).training_step(batch_of(()))


# ---- Dice ----


@pytest.mark.parametrize("smooth", [1.0, 0.5])
def test_soft_dice_is_of_all_pixels_together(smooth):
    rng = np.random.default_rng(0)
    p, y = rng.random((3, 5, 4)), rng.random((3, 5, 4)) > 0.7
    expected = (2 * p[y].sum() + smooth) / (p.sum() + y.sum() + smooth)
    loss = soft_dice_loss(torch.tensor(p), torch.tensor(y), smooth)
    assert loss.shape == ()
    assert float(loss) == pytest.approx(-expected)
    assert dice_global(torch.tensor(p), torch.tensor(y), smooth=smooth) == pytest.approx(expected)
    assert isinstance(dice_global(torch.tensor(p), torch.tensor(y)), float)
    of_images = [(2 * a[b].sum() + smooth) / (a.sum() + b.sum() + smooth) for a, b in zip(p, y)]
    assert expected != pytest.approx(np.mean(of_images), abs=1e-4)


def test_soft_dices_gradient_and_its_ends():
    p = torch.rand(2, 3, 4, dtype=torch.double, requires_grad=True)
    y = torch.rand(2, 3, 4) > 0.5
    assert torch.autograd.gradcheck(lambda p: soft_dice_loss(p, y), p)
    assert float(soft_dice_loss(y.float(), y)) == -1
    assert float(soft_dice_loss(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool))) == -1
    assert float(soft_dice_loss(torch.zeros(3, 3), torch.ones(3, 3, dtype=torch.int64))) == pytest.approx(-1 / 10)


def test_thresholded_dice_counts_what_is_above():
    p, y = torch.tensor([[0.5, 0.51, 0.9], [0.1, 0.6, 0.4]]), torch.tensor([[1, 1, 0], [0, 1, 1]]).bool()
    assert dice_global(p, y, 0.5) == pytest.approx((2 * 2 + 1) / (3 + 4 + 1))
    assert dice_global(p, y, 0.3) == pytest.approx((2 * 4 + 1) / (5 + 4 + 1))
    assert dice_global(p, y, 0.5, smooth=0.0) == pytest.approx(4 / 7)
    assert dice_global(p, y) == pytest.approx((2 * (0.5 + 0.51 + 0.6 + 0.4) + 1) / (3.01 + 4 + 1))


def test_global_dice_adds_in_64_bits():
    """Four million probabilities of 0.1: a sum in 32 bits, one after the other, would be off."""
    p, y = torch.full((4_000_000,), 0.1), torch.zeros(4_000_000, dtype=torch.bool)
    y[:1000] = True
    tenth = float(torch.tensor(0.1))
    assert dice_global(p, y) == pytest.approx((2000 * tenth + 1) / (4_000_000 * tenth + 1001), rel=1e-12)


def test_l1_is_a_mean_over_everything():
    a, b = np.random.default_rng(0).random((2, 3, 4, 5))
    assert float(l1(torch.tensor(a), torch.tensor(b))) == pytest.approx(np.abs(a - b).mean(), rel=1e-5)


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="^variant: expected one of released, paper, found 'release'$"):
        Translation(nn.Identity(), {}, {}, variant="release")
