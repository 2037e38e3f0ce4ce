"""Chaitanya et al. 2019, Section 2: Eq. 4 to 6, what is generated, and what each step may change."""

import copy
import io
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import same
from scipy import ndimage, stats
from torch import nn

from fewlabels.losses import weighted_cross_entropy
from fewlabels.methods.augmented_training import Augmentation, AugmentedTraining
from fewlabels.methods.task_driven import TaskDriven
from fewlabels.models.discriminators import Discriminator
from fewlabels.models.generators import Generator, Z
from fewlabels.models.unet import BilinearUNet
from fewlabels.papers.chaitanya2019.realism import realism_auc
from fewlabels.warps import transform_labels

SIZE = (9, 12)
CLASSES = 3
WEIGHTS = [0.1, 0.3, 0.2]
KINDS = pytest.mark.parametrize("kind", ["deformation", "intensity"])

move_targets = partial(transform_labels, classes=CLASSES, order=1)
task_loss = partial(weighted_cross_entropy, weights=WEIGHTS)


# Oracles: NumPy and SciPy, and for gradients four taps a pixel in plain torch ----------------------------------------


def pull(x, u, border=False):
    """y[q] = x[q + u(q)], linearly, of images `(N, C, H, W)`; 0 outside, or the nearest border value."""
    grid = torch.stack(torch.meshgrid(*(torch.arange(n) for n in x.shape[2:]), indexing="ij"))
    at, last = grid + u, torch.tensor(x.shape[2:])[:, None, None] - 1
    inside = ((at >= 0) & (at <= last)).all(1, keepdim=True)
    at = torch.minimum(at.clamp(min=0), last)
    low = torch.minimum(at.detach().floor(), last - 1)
    t, n, y = at - low, torch.arange(len(x))[:, None, None], 0
    for i in (0, 1):
        for j in (0, 1):
            weight = (t[:, 0] if i else 1 - t[:, 0]) * (t[:, 1] if j else 1 - t[:, 1])
            row, column = low.long().unbind(1)
            y = y + x[n, :, row + i, column + j].movedim(-1, 1) * weight[:, None]
    return y if border else y * inside


def one_hot(y):
    return torch.eye(CLASSES, dtype=torch.double)[y].movedim(-1, 1)


def pulled_labels(y, u):
    """From one-hot maps; what comes from outside is background."""
    structures = pull(one_hot(y), u)[:, 1:]
    return torch.cat([1 - structures.sum(1, keepdim=True), structures], 1)


def generated(G, kind, x, y, a, z, unit=1.0):
    """X_G, Y_G and the field: `G` sees the affine image, and what it makes of it is of the original."""
    field = G(pull(x, a), z)
    if kind == "intensity":
        return pull(x, a) + field, pulled_labels(y, a), field
    p = unit * field
    u = p + pull(a, p, border=True)  # first where v points to, then where the affine map takes that place from
    return pull(x, u), pulled_labels(y, u), field


def equations(S, G, D, kind, x, y, real, a, z, unit=1.0):
    """L_S, E[-log D(X_G)], L_big and L_D as in Eq. 4 to 6."""
    x_g, y_g, field = generated(G, kind, x, y, a, z, unit)
    half = len(x) // 2
    p = S(torch.cat([pull(x[:half], a[:half]), x_g[half:]])).softmax(1)
    t = torch.cat([pulled_labels(y[:half], a[:half]), y_g[half:]])
    weight = (torch.tensor(WEIGHTS)[:, None, None] * t).sum(1)
    L_S = (weight * -(t * p.log()).sum(1)).mean()
    of_fake = D(torch.cat([x_g, real]))[: len(x)].sigmoid()
    probabilities = D(torch.cat([x_g.detach(), real])).sigmoid()
    L_D = -probabilities[len(x) :].log().mean() - (1 - probabilities[: len(x)]).log().mean()
    return L_S, -of_fake.log().mean(), -field.abs().mean(), L_D


# Small networks, in float64 -----------------------------------------------------------------------------------------


class Recorder(nn.Module):
    """Calls `net` and keeps what it is given."""

    def __init__(self, net):
        super().__init__()
        self.net, self.seen = net, []

    def forward(self, *inputs):
        self.seen.append(tuple(tensor.detach().clone() for tensor in inputs))
        return self.net(*inputs)


class Field(nn.Module):
    """A generator: a convolution of the image plus something linear in z."""

    def __init__(self, channels, size=0.5):
        super().__init__()
        self.of_x = nn.Conv2d(1, channels, 3, padding=1)
        self.of_z = nn.Linear(100, channels)
        with torch.no_grad():
            self.of_x.weight.mul_(size)
            self.of_z.weight.mul_(size)

    def forward(self, x, z):
        return self.of_x(x) + self.of_z(z.to(x.dtype))[..., None, None]


class Fixed(nn.Module):
    """A generator whose field is its parameter, one for all images."""

    def __init__(self, field):
        super().__init__()
        self.field = nn.Parameter(field)

    def forward(self, x, z):
        return self.field.expand(len(x), *self.field.shape[1:])


def networks(kind, seed=0):
    """S, G, D; D has a norm, so that it matters what its batch is."""
    torch.manual_seed(seed)
    S = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, CLASSES, 1))
    D = nn.Sequential(nn.Flatten(), nn.Linear(SIZE[0] * SIZE[1], 3), nn.BatchNorm1d(3), nn.Linear(3, 1), nn.Flatten(0))
    G = Field(2 if kind == "deformation" else 1)
    return [net.double() for net in (S, G, D)]


def real_networks(kind, seed=0):
    """Those of the paper, small, at 32 x 32, in float32."""
    torch.manual_seed(seed)
    return BilinearUNet(1, CLASSES, 2), Generator((32, 32), kind, width=2), Discriminator((32, 32), width=2)


def affine_fields(n, size=SIZE, seed=0):
    """Turned, scaled and moved, so that something comes from outside."""
    rng = np.random.default_rng(seed)
    fields = []
    for _ in range(n):
        matrix = np.eye(2) + rng.normal(0, 0.15, (2, 2))
        centre = (np.array(size) - 1) / 2
        q = np.indices(size) - centre[:, None, None]
        fields.append(np.einsum("ij,jhw->ihw", matrix - np.eye(2), q) + rng.normal(0, 1, (2, 1, 1)))
    return torch.from_numpy(np.stack(fields))


def drawing(seed=0, size=SIZE, dtype=torch.double):
    """n -> fields; other ones for another n, and at every call a copy."""
    return lambda n: affine_fields(n, size, seed + n).to(dtype)


def batch(n=4, others=5, size=SIZE, dtype=torch.double):
    rng = np.random.default_rng(n)
    images = ndimage.gaussian_filter(rng.normal(size=(n + others, *size)), (0, 1, 1))
    x = torch.from_numpy(images)[:, None].to(dtype)
    return x[:n], torch.from_numpy(rng.integers(0, CLASSES, (n, *size))), x[n:]


def method_of(nets, kind, **settings):
    settings = {"draw_affine": drawing(), "move_targets": move_targets, "task_loss": task_loss} | settings
    return TaskDriven(*nets, kind, **settings)


def small_method(kind, seed=0, **settings):
    """With the networks of the paper."""
    draw = drawing(size=(32, 32), dtype=torch.float32)
    return method_of(real_networks(kind, seed), kind, draw_affine=draw, **settings)


def small_batch(n=4, others=4):
    x, y, real = batch(n, others, (32, 32), torch.float32)
    return {"images": x, "labels": y, "real": real}


def z_of(seed, n):
    """The random vectors that follow a seed."""
    torch.manual_seed(seed)
    z = torch.randn(n, 100)
    torch.manual_seed(seed)
    return z


def state(net):
    return copy.deepcopy(net.state_dict())


def changed(net, before):
    """The parameters that are no longer as they were."""
    return {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}


def names(net):
    return {name for name, _ in net.named_parameters()}


def close(a, b, tolerance=1e-5):
    return torch.allclose(a.double(), b.double(), rtol=0, atol=tolerance)


# Equations 4 to 6 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [1.0, 0.4])
@pytest.mark.parametrize("n", [4, 5])
@KINDS
def test_the_losses_are_those_of_equations_4_to_6(kind, n, unit):
    S, G, D = networks(kind)
    x, y, real = batch(n)
    z, a = z_of(1, n), drawing()(n)
    expected = [loss.item() for loss in equations(S, G, D, kind, x, y, real, a, z, unit)]
    z_of(1, n)
    method = method_of([S, G, D], kind, unit=unit)
    *losses, x_g = method.losses(x, y, real, *method.draw(x))
    assert [loss.item() for loss in losses] == pytest.approx(expected[:3], abs=1e-6)
    assert not x_g.requires_grad
    assert close(x_g, generated(G, kind, x, y, a, z, unit)[0], 1e-9)
    assert method.loss_D(x_g, real).item() == pytest.approx(expected[3], abs=1e-9)


def test_the_adversarial_terms_by_hand():
    """Logits on paper: D is the mean of an image."""
    mean = nn.Sequential(nn.Flatten(), nn.AvgPool1d(SIZE[0] * SIZE[1]), nn.Flatten(0))
    S, G, _ = networks("intensity")
    method = method_of([S, G, mean_with_weight(mean)], "intensity")
    fake, real = (torch.tensor(v).reshape(-1, 1, 1, 1).expand(-1, 1, *SIZE).double() for v in ([0.5, -2], [1.0, 3, 0]))
    D_fake, D_real = (1 / (1 + np.exp(-np.array(v))) for v in ([0.5, -2], [1.0, 3, 0]))
    expected = -np.log(D_real).mean() - np.log(1 - D_fake).mean()
    assert method.loss_D(fake, real).item() == pytest.approx(expected, abs=1e-12)
    zero = torch.zeros(2, 1, *SIZE).double()
    G = Fixed(torch.full((1, 1, *SIZE), 0.7, dtype=torch.double))
    method = method_of([S, G, mean_with_weight(mean)], "intensity")
    _, adv, big, _ = method.losses(zero, torch.zeros(2, *SIZE, dtype=torch.long), real, *method.draw(zero))
    assert adv.item() == pytest.approx(np.log(1 + np.exp(-0.7)), abs=1e-12)
    assert big.item() == pytest.approx(-0.7, abs=1e-12)


def mean_with_weight(mean):
    """An optimiser wants a parameter."""
    mean.register_parameter("unused", nn.Parameter(torch.zeros(1).double()))
    return mean


def test_logits_that_are_large_do_not_overflow():
    S, G, D = networks("intensity")
    with torch.no_grad():
        D[3].weight.mul_(1e4)
    x, y, real = batch()
    method = method_of([S, G, D], "intensity")
    *losses, x_g = method.losses(x, y, real, *method.draw(x))
    assert all(torch.isfinite(loss) for loss in (*losses, method.loss_D(x_g, real)))


@pytest.mark.parametrize(("lam_adv", "lam_big"), [(1.0, 0.001), (0.3, 2.0), (0.0, 0.5), (0.7, 0.0)])
@KINDS
def test_a_step_follows_the_gradient_of_equations_4_to_6(kind, lam_adv, lam_big):
    """The first step of Adam is that of a gradient's sign; all are taken at the weights before the step."""
    S, G, D = networks(kind)
    x, y, real = batch()
    a, a_real = drawing()(4), drawing()(5)
    z = z_of(3, 4)
    L_S, adv, big, L_D = equations(S, G, D, kind, x, y, pull(real, a_real), a, z)
    total = L_S + lam_adv * adv + lam_big * big
    expected = {
        name: torch.autograd.grad(total, [*net.parameters()], retain_graph=True) for name, net in zip("SG", [S, G])
    }
    expected["D"] = torch.autograd.grad(L_D, [*D.parameters()], allow_unused=True)
    before = {name: [p.detach().clone() for p in net.parameters()] for name, net in zip("SGD", (S, G, D))}
    z_of(3, 4)
    method = method_of([S, G, D], kind, lam_adv=lam_adv, lam_big=lam_big, learning_rate=0.01)
    record = method.training_step({"images": x, "labels": y, "real": real})
    for name, net in zip("SGD" if lam_adv else "SG", (S, G, D)):
        for p, old, gradient in zip(net.parameters(), before[name], expected[name], strict=True):
            assert close(p.grad, gradient, 1e-6)
            step = 0.01 * p.grad / (p.grad.abs() + 1e-8)
            assert torch.allclose(p, old - step, rtol=0, atol=1e-9)
    values = {"loss_task": L_S, "loss_adv": adv if lam_adv else torch.zeros(()), "loss_big": big}
    values |= {"loss_D": L_D} if lam_adv else {}
    assert record.keys() == values.keys()
    assert {k: v.item() for k, v in record.items()} == pytest.approx({k: v.item() for k, v in values.items()}, abs=1e-6)
    assert not any(value.requires_grad for value in record.values())


def test_optimisers_are_adam_as_in_the_paper():
    S, G, D = networks("intensity")
    method = method_of([S, G, D], "intensity", learning_rate=0.003)
    for optimiser, nets in ((method.optimiser, (S, G)), (method.optimiser_D, (D,))):
        (group,) = optimiser.param_groups
        assert (type(optimiser), group["lr"], group["betas"]) == (torch.optim.Adam, 0.003, (0.9, 0.999))
        assert (group["eps"], group["weight_decay"]) == (1e-8, 0)
        assert {id(p) for p in group["params"]} == {id(p) for net in nets for p in net.parameters()}


def test_the_defaults_are_the_papers():
    method = TaskDriven(*networks("intensity"), "intensity", task_loss, drawing(), move_targets)
    (group,) = method.optimiser.param_groups
    assert (method.lam_adv, method.lam_big, group["lr"]) == (1, 0.001, 0.001)
    assert (method.unit, method.warm_up, method.task_gradient) == (1, 0, True)


# The task's gradient ------------------------------------------------------------------------------------------------


@KINDS
def test_the_task_has_a_gradient_in_every_weight_of_a_generator(kind):
    method = small_method(kind)
    b = small_batch()
    torch.manual_seed(0)
    loss_task, *_ = method.losses(b["images"], b["labels"], b["real"], *method.draw(b["images"]))
    gradients = torch.autograd.grad(loss_task, [*method.G.parameters()])
    without = [name for name, g in zip(dict(method.G.named_parameters()), gradients, strict=True) if not g.any()]
    assert without == []
    assert all(torch.isfinite(g).all() for g in gradients)


@KINDS
def test_without_a_task_gradient_it_has_none(kind):
    method = small_method(kind, task_gradient=False)
    b = small_batch()
    loss_task, adv, big, _ = method.losses(b["images"], b["labels"], b["real"], *method.draw(b["images"]))
    G = [*method.G.parameters()]
    assert torch.autograd.grad(loss_task, G, allow_unused=True, retain_graph=True) == (None,) * len(G)
    assert all(g.any() for g in torch.autograd.grad(loss_task, [*method.S.parameters()], retain_graph=True))
    for term in (adv, big):
        assert all(g is not None for g in torch.autograd.grad(term, G, retain_graph=True))


@KINDS
def test_without_a_task_gradient_the_generator_follows_the_regulariser_alone(kind):
    S, G, D = networks(kind)
    x, y, real = batch()
    z = z_of(2, 4)
    L_S, adv, big, _ = equations(S, G, D, kind, x, y, pull(real, drawing()(5)), drawing()(4), z)
    of_G = torch.autograd.grad(0.3 * adv + 2 * big, [*G.parameters()], retain_graph=True)
    of_S = torch.autograd.grad(L_S, [*S.parameters()])
    z_of(2, 4)
    method = method_of([S, G, D], kind, lam_adv=0.3, lam_big=2.0, task_gradient=False)
    record = method.training_step({"images": x, "labels": y, "real": real})
    assert record["loss_task"].item() == pytest.approx(L_S.item(), abs=1e-6)  # the same images and labels
    for net, gradients in ((G, of_G), (S, of_S)):
        for p, gradient in zip(net.parameters(), gradients, strict=True):
            assert close(p.grad, gradient, 1e-6)


@KINDS
def test_with_neither_task_gradient_nor_regulariser_a_generator_does_not_move(kind):
    method = small_method(kind, task_gradient=False, lam_adv=0.0, lam_big=0.0)
    before = [state(net) for net in (method.S, method.G, method.D)]
    for _ in range(3):
        method.training_step(small_batch())
    assert changed(method.G, before[1]) == set()
    assert changed(method.S, before[0]) == names(method.S)
    assert same(method.D.state_dict(), before[2])


# Who moves when -----------------------------------------------------------------------------------------------------


@KINDS
def test_in_the_warm_up_s_alone_learns_from_affine_images(kind):
    method = small_method(kind, warm_up=2)
    seen, S = [], method.S
    S.register_forward_pre_hook(lambda net, inputs: seen.append(inputs[0].clone()))
    b, (G, D) = small_batch(), (state(method.G), state(method.D))
    affine = pull(b["images"], drawing(size=(32, 32))(4))
    flags = []
    for _ in range(2):
        expected = copy.deepcopy(S).train()
        t = pulled_labels(b["labels"], drawing(size=(32, 32))(4))
        loss = -(
            (torch.tensor(WEIGHTS)[:, None, None] * t).sum(1) * (t * expected(affine.float()).log_softmax(1)).sum(1)
        )
        gradients = torch.autograd.grad(loss.mean(), [*expected.parameters()])
        record = method.training_step(b)
        flags.append(method.warming_up)
        assert record.keys() == {"loss_task"}
        assert record["loss_task"].item() == pytest.approx(loss.mean().item(), abs=1e-5)
        assert all(close(p.grad, g, 1e-5) for p, g in zip(S.parameters(), gradients, strict=True))
        assert close(seen[-1], affine)
    assert same(method.G.state_dict(), G)
    assert same(method.D.state_dict(), D)
    record = method.training_step(b)
    assert [*flags, method.warming_up] == [True, True, False]
    assert record.keys() == {"loss_task", "loss_adv", "loss_big", "loss_D"}
    assert changed(method.G, G) == names(method.G)
    assert changed(method.D, D) == names(method.D)


def test_without_a_warm_up_all_learn_from_the_first_step():
    method = small_method("deformation")
    before = [state(net) for net in (method.S, method.G, method.D)]
    method.training_step(small_batch())
    assert not method.warming_up
    for net, then in zip((method.S, method.G, method.D), before):
        assert changed(net, then) == names(net)


@KINDS
def test_one_step_of_s_and_g_then_one_of_d(kind):
    method, log = small_method(kind), []
    nets = {"S": method.S, "G": method.G, "D": method.D}
    for name in ("optimiser", "optimiser_D"):
        optimiser = getattr(method, name)

        def step(optimiser=optimiser, name=name, step=optimiser.step):
            before = {key: state(net) for key, net in nets.items()}
            step()
            log.append((name, {key for key, net in nets.items() if changed(net, before[key])}))

        optimiser.step = step
    for _ in range(2):
        method.training_step(small_batch())
    assert log == 2 * [("optimiser", {"S", "G"}), ("optimiser_D", {"D"})]
    assert all(p.requires_grad for net in nets.values() for p in net.parameters())


@KINDS
def test_gradients_of_one_step_do_not_reach_the_networks_of_the_other(kind):
    method, found = small_method(kind), []
    nets = {"S": method.S, "G": method.G, "D": method.D}

    def gradients():
        return {
            key: [p.grad if p.grad is None else p.grad.clone() for p in net.parameters()] for key, net in nets.items()
        }

    method.optimiser.step = method.optimiser_D.step = lambda: found.append(gradients())
    for _ in range(2):
        method.training_step(small_batch())
    of_SG, of_D, of_SG_2, _ = found
    assert all(g is None for g in of_SG["D"])
    for a, b, keys in ((of_SG, of_D, "SG"), (of_D, of_SG_2, "D")):
        assert all(torch.equal(p, q) for key in keys for p, q in zip(a[key], b[key], strict=True))


@KINDS
def test_without_the_adversarial_term_d_is_left_alone(kind):
    method = small_method(kind, lam_adv=0.0)
    D, calls = state(method.D), []
    method.D.register_forward_hook(lambda *_: calls.append(1))
    record = method.training_step(small_batch())
    assert same(method.D.state_dict(), D)  # its norms too
    assert calls == []
    assert record.keys() == {"loss_task", "loss_adv", "loss_big"}
    assert record["loss_adv"] == 0
    assert not method.optimiser_D.state


@pytest.mark.parametrize("warm_up", [0, 1])
@KINDS
def test_without_the_adversarial_term_no_d_is_needed(kind, warm_up):
    """Nor real images; and with the same random fields all else is as with an idle D."""
    S, G, D = real_networks(kind)
    draw, b, ends = drawing(size=(32, 32), dtype=torch.float32), small_batch(), []
    for nets in (copy.deepcopy([S, G, D]), [*copy.deepcopy([S, G]), None]):
        method = method_of(nets, kind, draw_affine=draw, lam_adv=0.0, warm_up=warm_up)
        torch.manual_seed(0)
        records = [method.training_step({k: b[k] for k in b if k != "real" or nets[2]}) for _ in range(3)]
        ends.append((method, records))
    (_, records), (method, without) = ends
    assert records == without
    assert {name.split(".")[0] for name in method.network.state_dict()} == {"S", "G"}
    for one, other in zip((method.S, method.G), (ends[0][0].S, ends[0][0].G)):
        assert same(one.state_dict(), other.state_dict())
    again = method_of([*real_networks(kind, seed=1)[:2], None], kind, draw_affine=draw, lam_adv=0.0, warm_up=warm_up)
    again.load_state_dict(through_a_file(method.state_dict()))
    assert again.step == 3
    assert same(again.network.state_dict(), method.network.state_dict())


def test_an_adversarial_term_without_d_is_refused():
    with pytest.raises(ValueError, match=r"^D: expected a discriminator where lam_adv is not 0, found None$"):
        method_of([*networks("intensity")[:2], None], "intensity")


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match=r"^kind: expected deformation or intensity, found 'deform'$"):
        method_of(networks("intensity"), "deform")


def test_all_are_in_training_mode_after_a_prediction():
    method = small_method("deformation")
    method.predict(small_batch()["images"])
    assert not method.S.training
    method.training_step(small_batch())
    assert method.S.training
    assert method.G.training
    assert method.D.training


# What is generated --------------------------------------------------------------------------------------------------


def scipy_pull(image, at, mode="constant"):
    return ndimage.map_coordinates(image, at, order=1, mode=mode, cval=0.0)


def by_scipy(x, y, a, v, unit):
    """One image and its soft labels, warped once: to q + unit v(q), and from there by the affine map."""
    there = np.indices(x.shape) + unit * v
    at = there + np.stack([scipy_pull(component, there, "nearest") for component in a])
    structures = [scipy_pull((y == c).astype(float), at) for c in range(1, CLASSES)]
    inside = np.all([(i >= 0) & (i <= n - 1) for i, n in zip(at, x.shape)], axis=0)
    labels = np.stack([1 - sum(structures), *structures])
    assert (labels[0][~inside] == 1).all()
    return np.where(inside, scipy_pull(x, at), 0), labels, inside


@pytest.mark.parametrize("unit", [1.0, 0.25])
def test_a_deformed_image_is_the_original_warped_once(unit):
    x, y, _ = batch(3)
    a = drawing(7)(3)
    v = torch.from_numpy(ndimage.gaussian_filter(np.random.default_rng(1).normal(0, 8, (1, 2, *SIZE)), (0, 0, 1, 1)))
    S, _, D = networks("deformation")
    G = Recorder(Fixed(v / unit))
    method = method_of([S, G, D], "deformation", unit=unit)
    x_g, y_g, field = method.generate(x, y, a, torch.randn(len(x), Z))
    assert torch.equal(field, (v / unit).expand(3, -1, -1, -1))
    outside, twice = 0, 0
    for i in range(3):
        image, labels, inside = by_scipy(*(t[i].numpy() for t in (x[:, 0], y, a)), v[0].numpy() / unit, unit)
        assert np.abs(x_g[i, 0].detach().numpy() - image).max() <= 1e-9
        assert np.abs(y_g[i].detach().numpy() - labels).max() <= 1e-5  # float32
        outside += (~inside).sum()
        again = scipy_pull(pull(x, a)[i, 0].numpy(), np.indices(SIZE) + v[0].numpy())
        twice = max(twice, np.abs(again - image).max())
    assert outside > 0
    assert twice > 0.05  # two interpolations would be another image
    ((seen, z),) = G.seen
    assert close(seen, pull(x, a), 1e-9)  # G sees the affine image
    assert z.shape == (3, 100)


def test_an_intensity_is_added_to_the_affine_image_and_its_labels_are_only_affine():
    x, y, _ = batch(3)
    a = drawing(7)(3)
    delta = torch.linspace(-1, 1, SIZE[0] * SIZE[1]).reshape(1, 1, *SIZE).double()
    S, _, D = networks("intensity")
    G = Recorder(Fixed(delta))
    x_g, y_g, field = method_of([S, G, D], "intensity", unit=0.3).generate(x, y, a, torch.randn(len(x), Z))
    assert torch.equal(field, delta.expand(3, -1, -1, -1))
    still = np.zeros((2, *SIZE))
    for i in range(3):
        image, labels, inside = by_scipy(*(t[i].numpy() for t in (x[:, 0], y, a)), still, 1)
        assert not inside.all()
        assert np.abs(x_g[i, 0].detach().numpy() - image - delta[0, 0].numpy()).max() <= 1e-9
        assert np.abs(y_g[i].numpy() - labels).max() <= 1e-5
    assert close(G.seen[0][0], pull(x, a), 1e-9)


@KINDS
def test_every_image_and_call_has_a_z_of_its_own_from_torchs_dice(kind):
    S, G, D = networks(kind)
    G = Recorder(G)
    method = method_of([S, G, D], kind)
    x, y, _ = batch(4)
    z_of(0, 4)
    for _ in range(200):
        method.generate(x, y, *method.draw(x))
    z = torch.stack([z for _, z in G.seen]).flatten(0, 1).double()
    assert len(z.unique(dim=0)) == 800
    assert stats.kstest(z.flatten().numpy()[::7], stats.norm.cdf).pvalue > 1e-3
    assert torch.equal(z[:4], z_of(0, 4).double())


@pytest.mark.parametrize("n", [4, 5])
@KINDS
def test_half_of_what_s_sees_is_affine_and_half_is_generated(kind, n):
    S, G, D = networks(kind)
    S, D, targets = Recorder(S), Recorder(D), []

    def loss(logits, t):
        targets.append(t)
        return task_loss(logits, t)

    method = method_of([S, G, D], kind, task_loss=loss)
    x, y, real = batch(n)
    z, a = z_of(4, n), drawing()(n)
    x_g, y_g, _ = generated(G, kind, x, y, a, z)
    z_of(4, n)
    method.training_step({"images": x, "labels": y, "real": real})
    ((seen,),), half = S.seen, n // 2
    assert len(seen) == n
    assert close(seen[:half], pull(x, a)[:half], 1e-9)
    assert close(seen[half:], x_g[half:], 1e-9)
    assert close(targets[0][:half], pulled_labels(y, a)[:half])
    assert close(targets[0][half:], y_g[half:])
    for (images,) in D.seen:  # all that is generated, and the real ones under affine maps of their own
        assert close(images[:n], x_g, 1e-9)
        assert close(images[n:], pull(real, drawing()(5)), 1e-9)
    assert len(D.seen) == 2


def test_real_images_are_transformed_by_a_draw_of_their_own():
    """As many as labelled ones, so that one draw would do for both."""
    drawn = []

    def draw(n):
        drawn.append(affine_fields(n, SIZE, seed=len(drawn)))
        return drawn[-1]

    S, G, D = networks("intensity")
    D = Recorder(D)
    x, y, real = batch(4, others=4)
    method_of([S, G, D], "intensity", draw_affine=draw).training_step({"images": x, "labels": y, "real": real})
    assert len(drawn) == 2
    used = [i for i, a in enumerate(drawn) if close(D.seen[0][0][4:], pull(real, a), 1e-9)]
    assert len(used) == 1


# Any task, any dimension ---------------------------------------------------------------------------------------------


@KINDS
def test_volumes(kind):
    size = (8, 6, 5)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    x = torch.from_numpy(ndimage.gaussian_filter(rng.normal(size=(6, 1, *size)), (0, 0, 1, 1, 1)))
    y = torch.from_numpy(rng.integers(0, CLASSES, (4, *size)))
    a = torch.from_numpy(rng.normal(0, 1, (4, 3, 1, 1, 1)) + np.zeros((4, 3, *size)))
    field = torch.from_numpy(rng.normal(0, 0.7, (1, 3 if kind == "deformation" else 1, *size)))
    S = nn.Conv3d(1, CLASSES, 3, padding=1).double()
    D = nn.Sequential(nn.Flatten(), nn.Linear(8 * 6 * 5, 1), nn.Flatten(0)).double()
    draw = lambda n: a[:n].clone()  # noqa: E731
    method = method_of([S, Fixed(field), D], kind, draw_affine=draw, unit=0.5)
    x_g, y_g, _ = method.generate(x[:4], y, a, torch.randn(4, Z))
    for i in range(4):
        at = np.indices(size) + a[i].numpy() + (0.5 * field[0].numpy() if kind == "deformation" else 0)
        inside = np.all([(c >= 0) & (c <= n - 1) for c, n in zip(at, size)], axis=0)
        image = np.where(inside, scipy_pull(x[i, 0].numpy(), at), 0)
        image = image if kind == "deformation" else image + field[0, 0].numpy()
        assert np.abs(x_g[i, 0].detach().numpy() - image).max() <= 1e-9
        structure = np.where(inside, scipy_pull((y[i].numpy() == 2).astype(float), at), 0)
        assert np.abs(y_g[i, 2].detach().numpy() - structure).max() <= 1e-5
    before = [state(net) for net in (method.S, method.G, method.D)]
    method.training_step({"images": x[:4], "labels": y, "real": x[4:]})
    for net, then in zip((method.S, method.G, method.D), before):
        assert changed(net, then) == names(net)


@KINDS
def test_volumes_with_the_generators_of_the_paper(kind):
    torch.manual_seed(0)
    size = (32, 32, 32)
    G, D = Generator(size, kind, width=1), Discriminator(size, width=1)
    draw = lambda n: torch.rand(n, 3, 1, 1, 1).expand(-1, -1, *size)  # noqa: E731
    method = method_of([nn.Conv3d(1, CLASSES, 1), G, D], kind, draw_affine=draw)
    x, y = torch.rand(2, 1, *size), torch.randint(CLASSES, (2, *size))
    record = method.training_step({"images": x, "labels": y, "real": x})
    assert all(torch.isfinite(value) for value in record.values())


@KINDS
def test_classification(kind):
    """What does not move with the image stays; L_S is whatever one passes."""
    S = nn.Sequential(nn.Flatten(), nn.Linear(SIZE[0] * SIZE[1], 5)).double()
    _, G, D = networks(kind)
    method = method_of([S, G, D], kind, task_loss=F.cross_entropy, move_targets=lambda y, u: y)
    x, _, real = batch()
    y = torch.tensor([4, 0, 3, 3])
    z, a = z_of(6, 4), drawing()(4)
    x_g, _, _ = generated(G, kind, x, batch()[1], a, z)
    logits = S(torch.cat([pull(x[:2], a[:2]), x_g[2:]])).detach().numpy()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.log(p[range(4), y.numpy()]).mean()
    z_of(6, 4)
    before = state(G)
    record = method.training_step({"images": x, "labels": y, "real": real})
    assert record["loss_task"].item() == pytest.approx(expected, abs=1e-9)
    assert changed(G, before) == names(G)
    p = method.predict(x)
    assert p.shape == (4, 5)
    assert close(p.sum(1), torch.ones(4))


# Prediction and state -----------------------------------------------------------------------------------------------


def predicts_with(method, S):
    x, before = small_batch(5)["images"], state(S)
    p = method.predict(x, batch_size=2)
    with torch.no_grad():
        assert torch.allclose(p, copy.deepcopy(S).eval()(x).softmax(1), rtol=0, atol=1e-6)
    assert not p.requires_grad
    assert same(S.state_dict(), before)


def test_s_predicts_in_evaluation_mode_images_as_they_are():
    method = small_method("intensity")
    method.training_step(small_batch())
    predicts_with(method, method.S)
    S, _, _ = real_networks("intensity")
    optimiser = torch.optim.Adam(S.parameters())
    training = AugmentedTraining(
        S, optimiser, task_loss, lambda x, y: (x, move_targets(y, torch.zeros(len(x), 2, 32, 32)))
    )
    training.training_step(small_batch())
    predicts_with(training, S)


def through_a_file(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("warm_up", [0, 3])
@KINDS
def test_a_restored_training_continues_in_the_same_bits(kind, warm_up):
    """Two steps, a file and two more; the third may still be of the warm-up."""
    torch.manual_seed(1)
    once = small_method(kind, warm_up=warm_up)
    torch.manual_seed(2)
    records = [once.training_step(small_batch(4 + 2 * i)) for i in range(4)]
    first = small_method(kind, warm_up=warm_up)
    torch.manual_seed(2)
    for i in range(2):
        first.training_step(small_batch(4 + 2 * i))
    stored, rng = through_a_file(first.state_dict()), torch.get_rng_state()
    second = small_method(kind, seed=9, warm_up=warm_up)
    second.load_state_dict(stored)
    torch.set_rng_state(rng)
    assert [second.training_step(small_batch(4 + 2 * i)) for i in (2, 3)] == records[2:]
    assert same(second.network.state_dict(), once.network.state_dict())
    assert {name.split(".")[0] for name in once.network.state_dict()} == {"S", "G", "D"}
    assert second.step == 4
    assert second.warming_up is False


# Augmentation -------------------------------------------------------------------------------------------------------


class Deform:
    """z -> one displacement for all pixels of an image; keeps what it saw."""

    def __init__(self):
        self.seen = []

    def __call__(self, x, z):
        self.seen.append((x.clone(), z.clone()))
        return z[:, :2, None, None].to(x.dtype).expand(-1, -1, *SIZE)


class Recolour(Deform):
    def __call__(self, x, z):
        self.seen.append((x.clone(), z.clone()))
        return 2 * x + z[:, :1, None, None].to(x.dtype) + 3


def augmented(n, deform=None, recolour=None, seed=0, **settings):
    """An augmented batch, and what it is made of."""
    x, y, _ = batch(n)
    z = z_of(seed, n)  # drawn after the affine fields, whose stub draws nothing
    made = Augmentation(drawing(), move_targets, deform, recolour, **settings)(x, y)
    return SimpleNamespace(x=x, y=y, z=z, a=drawing()(n), images=made[0], labels=made[1])


def expected_of(of, i, deform=False, recolour=False):
    """Image i and its labels."""
    one = slice(i, i + 1)
    x, y, a, z = of.x[one], of.y[one], of.a[one], of.z[one].double()
    if deform:
        p = z[:, :2, None, None].expand(-1, -1, *SIZE)
        a = p + pull(a, p, border=True)
    image = pull(x, a)
    return 2 * image + z[:, 0] + 3 if recolour else image, pulled_labels(y, a)


def consists_of(of, *rows):
    """`rows`: (deformed, recoloured) of each image."""
    assert of.images.shape == of.x.shape
    assert len(rows) == len(of.images)
    for i, row in enumerate(rows):
        image, labels = expected_of(of, i, *row)
        assert close(of.images[i : i + 1], image, 1e-9), i
        assert close(of.labels[i : i + 1], labels), i


A, V, I, VI = (False, False), (True, False), (False, True), (True, True)  # noqa: E741


@pytest.mark.parametrize("n", [1, 4, 5])
def test_affine_alone(n):
    consists_of(augmented(n), *n * [A])


@pytest.mark.parametrize(("n", "half"), [(1, 0), (4, 2), (5, 2), (20, 10)])
def test_with_one_kind_of_field_half_is_augmented(n, half):
    consists_of(augmented(n, deform=Deform()), *half * [A], *(n - half) * [V])
    consists_of(augmented(n, recolour=Recolour()), *half * [A], *(n - half) * [I])


def test_with_both_a_third_each_is_deformed_recoloured_and_both():
    consists_of(augmented(6, Deform(), Recolour()), *3 * [A], V, I, VI)
    consists_of(augmented(9, Deform(), Recolour()), *4 * [A], I, VI, V, I, VI)
    of_20 = augmented(20, Deform(), Recolour())
    consists_of(of_20, *10 * [A], I, VI, V, I, VI, V, I, VI, V, I)


def test_fields_are_made_of_affine_images_and_recoloured_ones_of_deformed_ones_with_the_same_z():
    deform, recolour = Deform(), Recolour()
    of = augmented(12, deform, recolour)
    ((seen, z_v),), ((deformed, z_i),) = deform.seen, recolour.seen
    assert close(seen, pull(of.x, of.a)[[6, 8, 9, 11]], 1e-9)
    assert torch.equal(z_v, of.z[[6, 8, 9, 11]])
    assert torch.equal(z_i, of.z[[7, 8, 10, 11]])
    expected = torch.cat([expected_of(of, i, deform=i in (8, 11))[0] for i in (7, 8, 10, 11)])
    assert close(deformed, expected, 1e-9)
    assert len(of.z.unique(dim=0)) == 12


def test_augmentation_draws_anew_at_every_call():
    x, y, _ = batch(6)
    augmentation = Augmentation(drawing(), move_targets, Deform(), Recolour())
    torch.manual_seed(0)
    first, second = augmentation(x, y), augmentation(x, y)
    torch.manual_seed(0)
    again = augmentation(x, y)
    assert all(torch.equal(p, q) for p, q in zip(first, again))
    assert not torch.equal(first[0][3:], second[0][3:])


def test_augmentation_has_no_gradient():
    x, y, _ = batch(6, size=(32, 32), dtype=torch.float32)
    torch.manual_seed(0)
    deform, recolour = Generator((32, 32), "deformation", width=2), Generator((32, 32), "intensity", width=2)
    augmentation = Augmentation(
        drawing(size=(32, 32), dtype=torch.float32), move_targets, deform, lambda x, z: x + recolour(x, z), mix=True
    )
    images, labels = augmentation(x.requires_grad_(), y)
    assert not images.requires_grad
    assert not labels.requires_grad
    assert torch.is_grad_enabled()


def floats(n):
    """As `batch`, in float32, which mixing needs."""
    x, y, _ = batch(n, dtype=torch.float32)
    return x, y


def pairs(mixture, pool):
    """(i, j, lambda) with mixture = lambda pool_i + (1 - lambda) pool_j, of all that fit."""
    found = []
    for i in range(len(pool)):
        for j in range(len(pool)):
            away, apart = (mixture - pool[j]).flatten(), (pool[i] - pool[j]).flatten()
            lam = float(away @ apart / (apart @ apart)) if i != j else 0.5
            if float((away - lam * apart).abs().max()) < 1e-5 and -1e-5 <= lam <= 1 + 1e-5:
                found.append((i, j, lam))
    return found


@pytest.mark.parametrize("row", ["A", "both"])
def test_mixtures_are_of_two_of_all_images_and_of_their_labels_alike(row):
    x, y = floats(6)
    fields = (Deform(), Recolour()) if row == "both" else ()
    draw = drawing(dtype=torch.float32)
    members, lams = set(), []
    for seed in range(40):
        torch.manual_seed(seed)
        pool, labels = Augmentation(draw, move_targets, *fields)(x, y)
        torch.manual_seed(seed)
        images, targets = Augmentation(draw, move_targets, *fields, mix=True, alpha=1.0)(x, y)
        assert torch.equal(images[:3], pool[:3])
        assert torch.equal(targets[:3], labels[:3])
        for k in (3, 4, 5):
            fits = [
                (i, j, lam)
                for i, j, lam in pairs(images[k], pool)
                if close(targets[k], lam * labels[i] + (1 - lam) * labels[j], 1e-4)
            ]
            assert fits
            i, j, lam = fits[0]
            if 1e-4 < lam < 1 - 1e-4 and i != j:  # else it is one image, mixed with itself or not at all
                members |= {i, j}
                lams.append(lam)
    assert members == {*range(6)}  # affine and augmented ones
    assert stats.kstest(lams, stats.uniform.cdf).pvalue > 1e-3  # Beta(1, 1)


@pytest.mark.parametrize("mix", [False, True])
def test_a_batch_stays_as_it_was(mix):
    x, y = floats(6)
    given = x.clone(), y.clone()
    Augmentation(drawing(dtype=torch.float32), move_targets, Deform(), Recolour(), mix)(x, y)
    assert torch.equal(x, given[0])
    assert torch.equal(y, given[1])


def test_targets_that_do_not_move_stay_as_they_were_under_mixing():
    """One-hot classes of images: `batch["labels"]` is the caller's."""
    x, _ = floats(6)
    y = torch.eye(3)[[0, 1, 2, 0, 1, 2]]
    given = y.clone()
    _, targets = Augmentation(drawing(dtype=torch.float32), lambda y, u: y, mix=True)(x, y)
    assert torch.equal(targets[:3], given[:3])
    assert close(targets.sum(1), torch.ones(6))
    assert torch.equal(y, given)


def test_fields_that_are_drawn_stay_as_they_were():
    """They may be the caller's, or one for all."""
    x, y, _ = batch(4)
    fields = drawing()(4)
    given = fields.clone()
    Augmentation(lambda n: fields, move_targets, Deform())(x, y)
    assert torch.equal(fields, given)


# Training on what is augmented ---------------------------------------------------------------------------------------


def test_augmented_training_is_plain_training_on_the_augmented_batch():
    def augmentation():
        return Augmentation(drawing(dtype=torch.float32), move_targets, Deform(), Recolour(), mix=True)

    torch.manual_seed(0)
    ours = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, CLASSES, 1))
    theirs, make = copy.deepcopy(ours), augmentation()
    training = AugmentedTraining(ours, torch.optim.Adam(ours.parameters(), 0.01), task_loss, augmentation())
    optimiser = torch.optim.Adam(theirs.parameters(), 0.01)
    batches = [dict(zip(("images", "labels"), floats(n))) for n in (4, 6, 5)]
    ours.eval()
    torch.manual_seed(1)
    records = [training.training_step(b) for b in batches]
    torch.manual_seed(1)
    for b, record in zip(batches, records, strict=True):
        x, t = make(b["images"], b["labels"])
        p = theirs.train()(x).log_softmax(1)
        loss = -((torch.tensor(WEIGHTS)[:, None, None] * t).sum(1) * (t * p).sum(1)).mean()
        for parameter in theirs.parameters():
            parameter.grad = None
        loss.backward()
        optimiser.step()
        assert record.keys() == {"loss_task"}
        assert record["loss_task"].item() == pytest.approx(loss.item(), abs=1e-6)
        assert not record["loss_task"].requires_grad
    for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert close(a, b)


def test_augmented_training_restored_continues_in_the_same_bits():
    def training(seed):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, CLASSES, 1))
        augmentation = Augmentation(drawing(dtype=torch.float32), move_targets, Deform())
        return AugmentedTraining(net, torch.optim.Adam(net.parameters(), 0.01), task_loss, augmentation)

    once, first, second = training(0), training(0), training(1)
    b = dict(zip(("images", "labels"), floats(4)))
    torch.manual_seed(5)
    for _ in range(4):
        once.training_step(b)
    torch.manual_seed(5)
    for _ in range(2):
        first.training_step(b)
    second.load_state_dict(through_a_file(first.state_dict()))
    for _ in range(2):
        second.training_step(b)
    assert same(once.network.state_dict(), second.network.state_dict())


# Realism ------------------------------------------------------------------------------------------------------------


def judge(seed=0, norm=True):
    torch.manual_seed(seed)
    layers = [nn.Flatten(), nn.Linear(6, 8), nn.BatchNorm1d(8, momentum=0.3), nn.ReLU(), nn.Linear(8, 1), nn.Flatten(0)]
    return nn.Sequential(*(layers if norm else [nn.Flatten(), nn.Linear(6, 1), nn.Flatten(0)]))


def made_up(mean):
    return lambda n=16: mean + torch.randn(n, 1, 2, 3)


def mann_whitney(D, real, fake):
    """The share of pairs in which the real one has the larger logit."""
    with torch.no_grad():
        r, f = (D(x).numpy() for x in (real, fake))
    return ((r[:, None] > f).sum() + 0.5 * (r[:, None] == f).sum()) / (len(r) * len(f))


@pytest.mark.parametrize(("apart", "low", "high"), [(2.0, 0.99, 1.0), (0.3, 0.55, 0.95), (0.0, 0.35, 0.65)])
def test_the_auc_of_a_fresh_discriminator(apart, low, high):
    D = judge()
    real, fake = made_up(apart / 2), made_up(-apart / 2)
    tests = real(200), fake(200)
    found = realism_auc(D, torch.optim.Adam(D.parameters(), 0.01), real, fake, *tests, steps=80)
    assert type(found) is float
    assert low <= found <= high
    assert not D.training
    assert found == pytest.approx(mann_whitney(D, *tests), abs=1e-12)


def test_what_is_hidden_in_neither_batch_is_a_coin_toss():
    D, x = nn.Sequential(nn.Flatten(), nn.Linear(6, 1), nn.Flatten(0)), torch.zeros(10, 1, 2, 3)  # D(0): the same bits
    assert realism_auc(D, torch.optim.SGD(D.parameters(), 0.1), lambda: x, lambda: x, x, x[:4], steps=3) == 0.5


def test_what_was_learnt_the_wrong_way_round_is_below_a_half():
    D = judge()
    real, fake = made_up(1.0), made_up(-1.0)
    assert realism_auc(D, torch.optim.Adam(D.parameters(), 0.01), real, fake, fake(50), real(50), steps=60) < 0.05


def test_a_discriminator_learns_by_equation_6_from_a_new_batch_in_each_step():
    D, expected, calls = judge(norm=False), judge(norm=False), []

    def batches(mean, name):
        made = [mean + torch.randn(5 if name == "real" else 3, 1, 2, 3) for _ in range(4)]
        return made, lambda: calls.append(name) or made[calls.count(name) - 1]

    (real, next_real), (fake, next_fake) = batches(0.5, "real"), batches(-0.5, "fake")
    realism_auc(D, torch.optim.SGD(D.parameters(), 0.2), next_real, next_fake, real[0], fake[0], steps=4)
    assert (calls.count("real"), calls.count("fake")) == (4, 4)
    for r, f in zip(real, fake, strict=True):
        loss = -expected(r).sigmoid().log().mean() - (1 - expected(f).sigmoid()).log().mean()
        for p, g in zip(expected.parameters(), torch.autograd.grad(loss, [*expected.parameters()])):
            p.data -= 0.2 * g
    assert all(close(p, q) for p, q in zip(D.parameters(), expected.parameters(), strict=True))


def test_a_discriminator_learns_in_training_mode_from_one_batch_of_both_and_is_judged_in_evaluation_mode():
    D, modes = judge().eval(), []
    D.register_forward_pre_hook(lambda net, inputs: modes.append((net.training, len(inputs[0]))))
    real, fake = made_up(0.0), made_up(0.0)
    realism_auc(D, torch.optim.SGD(D.parameters(), 0.1), real, fake, real(7), fake(9), steps=2)
    assert modes[:2] == [(True, 32)] * 2
    assert sum(n for training, n in modes[2:] if not training) == 16
    assert not any(training for training, _ in modes[2:])
