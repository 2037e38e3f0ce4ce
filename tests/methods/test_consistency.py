"""Bortsova et al. 2019: Eq. 1 against a literal reimplementation, one image, class and pixel at a time."""

import copy
import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from fewlabels.methods.consistency import TransformationConsistency, draw_transforms
from fewlabels.warps import align, transform_labels

SIZE = (14, 19)
CLASSES = 3


# Oracles: SciPy and NumPy only --------------------------------------------------------------------------------------


def pull(image, field, order, mode, cval=0.0):
    """y[q] = x[q + u(q)] for one channel of one image."""
    at = np.indices(image.shape) + field
    if mode == "border":
        at = np.stack([a.clip(0, n - 1) for a, n in zip(at, image.shape, strict=True)])
        mode = "mirror"
    coefficients = ndimage.spline_filter(image, 3, mode="mirror") if order == 3 else image
    return ndimage.map_coordinates(coefficients, at, order=order, mode=mode, cval=cval, prefilter=False)


def t2_after_inverse_t1(u1, u2):
    """w with phi1(q + w(q)) = phi2(q), by plain fixed-point steps."""
    w = u2 - u1
    for _ in range(100):
        w = u2 - np.stack([pull(component, w, 1, "border") for component in u1])
    return w


def away_from_ties(w):
    """At order 0 oracle and library must agree on every pixel: none is within twice `align`'s tolerance of a tie."""
    return np.abs((w % 1) - 0.5).min() > 2e-4


def is_inside(w):
    at = np.indices(w.shape[1:]) + w
    return np.all([(a >= 0) & (a <= n - 1) for a, n in zip(at, w.shape[1:], strict=True)], axis=0)


def warped_labels(y, u, order):
    """One channel a class; the background enters from outside."""
    channels = [pull((y == c).astype(float), u, order, "constant", cval=float(c == 0)) for c in range(CLASSES)]
    return np.stack(channels)


def jaccard_loss(y, p):
    scores = [(a * b).sum() / (a + (1 - a) * b).sum() for a, b in zip(y, p, strict=True)]
    return 1 - sum(scores) / len(scores)


def mse_loss(y, p):
    return ((y - p) ** 2).sum(0).mean()


def kl_loss(y, p):
    y, p = y.clip(1e-7), p.clip(1e-7)
    return ((y - p) * np.log(y / p)).sum(0).mean() / 2


ORACLES = {"jaccard": jaccard_loss, "mse": mse_loss, "kl": kl_loss}


def equation_1(x, y, u1, u2, network, order=0, C=jaccard_loss):
    """The two sums of Eq. 1 and the share of excluded pixels, exactly as printed."""

    def f(image):
        with torch.no_grad():
            return network(torch.from_numpy(image)[None, None])[0].softmax(0).numpy()

    supervised, consistency, excluded = 0.0, 0.0, []
    for i in range(len(x)):
        p1, p2 = (f(pull(x[i], u[i], 3, "border")) for u in (u1, u2))
        if i < len(y):
            supervised += jaccard_loss(warped_labels(y[i], u1[i], order), p1)
            supervised += jaccard_loss(warped_labels(y[i], u2[i], order), p2)
        w = t2_after_inverse_t1(u1[i], u2[i])
        assert order > 0 or away_from_ties(w)
        carried = np.stack([pull(channel, w, order, "constant") for channel in p1])
        known = is_inside(w)
        consistency += C(carried[:, known], p2[:, known])
        excluded.append(1 - known.mean())
    return supervised / (2 * len(y)), consistency / len(x), np.mean(excluded)


# Inputs -------------------------------------------------------------------------------------------------------------


def fields(seed, n, peak=3):
    raw = np.random.default_rng(seed).normal(size=(n, 2, *SIZE))
    blurred = ndimage.gaussian_filter(raw, (0, 0, 4, 4), mode="reflect")
    return torch.from_numpy(blurred * peak / np.abs(blurred).max(axis=(1, 2, 3), keepdims=True))


def translation(rows, columns, n=1):
    return torch.tensor([rows, columns], dtype=torch.float64)[:, None, None].expand(n, 2, *SIZE).clone()


def batch(labelled=2, unlabelled=3):
    rng = np.random.default_rng(0)
    images = ndimage.gaussian_filter(rng.normal(size=(labelled + unlabelled, *SIZE)), (0, 1, 1))
    return torch.from_numpy(images)[:, None], torch.from_numpy(rng.integers(0, CLASSES, (labelled, *SIZE)))


def drawing(*prepared):
    """A `draw` that hands out the given fields, over and over."""
    turns = itertools.cycle(prepared)

    def draw(n):
        field = next(turns)
        assert len(field) == n
        return field

    return draw


def tiny(norm=False):
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, CLASSES, 3, padding=1)]
    net = nn.Sequential(*(layers[:1] + [nn.BatchNorm2d(4)] + layers[1:] if norm else layers)).double()
    with torch.no_grad():
        net[-1].weight.mul_(5)  # predictions that differ
    return net


class Fixed(nn.Module):
    """A network that ignores its images: its logits are its parameters."""

    def __init__(self, n):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.logits = nn.Parameter(torch.randn(2 * n, CLASSES, *SIZE, generator=generator, dtype=torch.float64))

    def forward(self, images):
        return self.logits


def method(network, *prepared, **settings):
    return TransformationConsistency(
        network, torch.optim.SGD(network.parameters(), 0.1), drawing(*prepared), **settings
    )


def gradients(loss, network):
    return torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_backward(p, gradient):
    return p * (gradient - (gradient * p).sum(axis=1, keepdims=True))


# The objective ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("distance", ["jaccard", "mse", "kl"])
@pytest.mark.parametrize(("labelled", "unlabelled"), [(2, 3), (3, 0)])
def test_the_losses_are_those_of_equation_1(labelled, unlabelled, distance, order):
    (x, y), n, network = batch(labelled, unlabelled), labelled + unlabelled, tiny()
    u1, u2 = fields(1, n), fields(2, n)
    u1[0] = 0  # one pair with an identity
    ours = method(network, u1, u2, order=order, distance=distance).losses(x, y)
    arrays = (a.numpy() for a in (x[:, 0], y, u1, u2))
    expected = equation_1(*arrays, network, order, ORACLES[distance])
    tolerance = 1e-6 if order == 0 else 1e-4  # order 1 feels the inverse's tolerance of 1e-4 pixels
    assert [loss.item() for loss in ours] == pytest.approx(expected, abs=tolerance)
    assert expected[2] > 0.02  # something was excluded


def test_the_consistency_is_a_mean_over_images_and_neither_pooled_nor_weighted_by_known_pixels():
    (x, y), network = batch(1, 2), tiny()
    x[1] = 8 * x[1]  # images that differ in how well they agree
    u1, u2 = torch.cat([translation(0, 0), translation(5, 0), translation(0, 1)]), translation(0, 0, n=3)
    u2[0] = translation(2, 6)[0]
    alone = [method(network, u1[i : i + 1], u2[i : i + 1]).losses(x[i : i + 1], y[:1])[1].item() for i in range(3)]
    assert max(alone) - min(alone) > 0.02
    assert method(network, u1, u2).losses(x, y)[1].item() == pytest.approx(np.mean(alone), abs=1e-12)


def test_the_step_follows_l_sup_plus_lambda_times_l_cons():
    x, y = batch()
    network = tiny()
    u1, u2 = fields(1, 5), fields(2, 5)
    sup, cons, excluded = method(network, u1, u2).losses(x, y)
    before = [p.detach().clone() for p in network.parameters()]
    expected = [s + 0.3 * c for s, c in zip(gradients(sup, network), gradients(cons, network), strict=True)]

    record = method(network, u1, u2, lam=0.3).training_step({"images": x, "labels": y})
    for p, old, gradient in zip(network.parameters(), before, expected, strict=True):
        assert torch.allclose(p.grad, gradient, rtol=0, atol=1e-12)
        assert torch.allclose(p, old - 0.1 * gradient, rtol=0, atol=1e-12)
    assert [record["loss_sup"], record["loss_cons"], record["excluded"]] == [sup, cons, excluded]
    assert not any(value.requires_grad for value in record.values())


def test_the_baseline_records_l_cons_and_follows_l_sup_alone():
    x, y = batch(3, 0)
    network = tiny()
    u1, u2 = fields(1, 3), fields(2, 3)
    sup, cons, _ = method(network, u1, u2).losses(x, y)
    expected = gradients(sup, network)
    record = method(network, u1, u2, lam=0).training_step({"images": x, "labels": y})
    assert record["loss_cons"].item() == pytest.approx(cons.item(), abs=1e-12)
    assert cons > 0.01
    assert all(torch.allclose(p.grad, g, rtol=0, atol=1e-12) for p, g in zip(network.parameters(), expected))


def test_gradients_do_not_pile_up_over_steps():
    x, y = batch()
    once, twice = tiny(), tiny()
    u = fields(1, 5)
    method(once, u).training_step({"images": x, "labels": y})
    trainer = method(twice, u)
    trainer.optimiser.param_groups[0]["lr"] = 0.0
    trainer.training_step({"images": x, "labels": y})
    trainer.training_step({"images": x, "labels": y})
    for a, b in zip(once.parameters(), twice.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=0, atol=1e-12)


def test_two_identities_still_cost_what_a_soft_map_loses_against_itself():
    (x, y), network = batch(), tiny()
    identity = translation(0, 0, n=5)
    _, cons, excluded = method(network, identity).losses(x, y)
    p = network(x).softmax(1).detach().numpy()
    assert cons.item() == pytest.approx(np.mean([jaccard_loss(q, q) for q in p]), abs=1e-6)
    assert cons > 0.2
    assert excluded == 0
    assert method(network, identity, distance="mse").losses(x, y)[1] == 0


def test_both_branches_are_one_forward_pass_in_training_mode():
    (x, y), network, calls = batch(), tiny(norm=True), []
    network.register_forward_pre_hook(lambda net, inputs: calls.append((net.training, inputs[0].detach().clone())))
    u1, u2 = fields(1, 5), fields(2, 5)
    network.eval()
    method(network, u1, u2).training_step({"images": x, "labels": y})
    ((training, images),) = calls
    expected = [pull(image, u, 3, "border") for us in (u1, u2) for image, u in zip(x[:, 0].numpy(), us.numpy())]
    assert training
    assert np.abs(images[:, 0].numpy() - expected).max() <= 1e-10


def test_norms_apart_each_kind_of_image_is_a_batch_of_its_own():
    (x, y), network = batch(), tiny(norm=True)
    labelled, x = 2, x.clone()
    x[labelled:] = 3 * x[labelled:] + 1  # unlabelled images are of another kind
    y, u1, u2 = y[:labelled], fields(1, 5), fields(2, 5)
    of_labelled, of_others = copy.deepcopy(network), copy.deepcopy(network)
    alone = method(of_labelled, u1[:labelled], u2[:labelled]).losses(x[:labelled], y)
    others = method(of_others, u1[labelled:], u2[labelled:]).losses(x[labelled:], y[:0])
    expected = [alone[0].item(), (labelled * alone[1].item() + 3 * others[1].item()) / 5]
    found = method(network, u1, u2, norm="apart").losses(x, y)
    assert [loss.item() for loss in found[:2]] == pytest.approx(expected, abs=1e-9)
    together = method(copy.deepcopy(of_others), u1, u2).losses(x, y)
    assert abs(together[0].item() - expected[0]) > 1e-4  # it makes a difference
    for name, buffer in network.named_buffers():
        assert torch.equal(buffer, of_labelled.get_buffer(name)), name  # the statistics are those of labelled images


# Pixels without a partner -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [((0, 0), (3, -4)), ((-3, 4), (0, 0)), ((1, 1), (4, -3))])
def test_pixels_whose_partner_lies_outside_are_excluded_and_counted(first, second):
    (x, y), network = batch(1, 0), Fixed(1)
    _, cons, excluded = method(network, translation(*first), translation(*second)).losses(x, y)
    assert excluded.item() == pytest.approx(1 - (14 - 3) * (19 - 4) / (14 * 19), abs=1e-6)  # t2 o t1^-1 is (3, -4)
    p1, p2 = softmax(network.logits.detach().numpy())
    assert cons.item() == pytest.approx(jaccard_loss(p1[:, 3:, :-4], p2[:, :-3, 4:]), abs=1e-6)


def test_the_share_left_out_is_over_all_images_and_pixels():
    (x, y) = batch(1, 1)
    u1, u2 = translation(0, 0, n=2), torch.cat([translation(0, 0), translation(7, 0)])
    assert method(Fixed(2), u1, u2).losses(x, y)[2].item() == pytest.approx((0 + 1 / 2) / 2, abs=1e-6)


def test_pixels_whose_inverse_was_not_found_are_excluded():
    (x, y), network = batch(1, 0), Fixed(1)
    rng = np.random.default_rng(0)
    folding, identity = torch.from_numpy(rng.uniform(-6, 6, (1, 2, *SIZE))), translation(0, 0)
    with pytest.warns(UserWarning, match="folds"):
        _, cons, excluded = method(network, folding, identity).losses(x, y)
    with pytest.warns(UserWarning, match="folds"):
        (w,) = align(folding, identity)
    w = w.numpy()
    error = w + np.stack([pull(component, w, 1, "border") for component in folding[0].numpy()])
    known = is_inside(w) & (np.linalg.norm(error, axis=0) <= 0.5)
    assert known.mean() < is_inside(w).mean()
    assert excluded.item() == pytest.approx(1 - known.mean(), abs=1e-6)
    p1, p2 = softmax(network.logits.detach().numpy())
    carried = np.stack([pull(channel, w, 0, "constant") for channel in p1])
    assert cons.item() == pytest.approx(jaccard_loss(carried[:, known], p2[:, known]), abs=1e-6)


def test_unknown_pixels_get_no_gradient():
    (x, y), network = batch(1, 0), Fixed(1)
    _, cons, _ = method(network, translation(0, 0), translation(3, 0)).losses(x, y)
    (gradient,) = gradients(cons, network)
    assert not gradient[0, :, :3].any()  # never copied
    assert not gradient[1, :, -3:].any()  # without a partner
    assert gradient[0, :, 3:].all()
    assert gradient[1, :, :-3].all()


# The transformation layer's gradient --------------------------------------------------------------------------------


def logits_gradient_by_hand(network, u1, u2, backward):
    """d L_cons / d logits for the squared error at order 0; `backward` carries the layer's gradient to frame 1."""
    n = len(u1)
    p = softmax(network.logits.detach().numpy())
    gradient = np.zeros_like(p)
    for i, (a, b) in enumerate(zip(u1.numpy(), u2.numpy(), strict=True)):
        w = t2_after_inverse_t1(a, b)
        assert away_from_ties(w)
        known = is_inside(w)
        carried = np.stack([pull(channel, w, 0, "constant") for channel in p[i]])
        g = 2 * (carried - p[n + i]) * known / known.sum() / n
        gradient[n + i] = -g
        gradient[i] = [backward(channel, w, a, b) for channel in g]
    return softmax_backward(p, gradient)


def scatter(g, w, u1, u2):
    """'Gradients are copied to the positions the values came from' (Section 3)."""
    out = np.zeros_like(g)
    row, column = np.floor(np.indices(g.shape) + w + 0.5).astype(int)[:, is_inside(w)]
    np.add.at(out, (row, column), g[is_inside(w)])
    return out


def inverse_warp(g, w, u1, u2):
    """(t1 o t2^-1)(gradient), as the formula of Section 2 is printed."""
    back = t2_after_inverse_t1(u2, u1)
    assert away_from_ties(back)
    return pull(g, back, 0, "constant")


@pytest.mark.parametrize(("gradient", "backward"), [("adjoint", scatter), ("printed", inverse_warp)])
def test_the_gradient_of_the_order_0_layer(gradient, backward):
    (x, y), network = batch(1, 1), Fixed(2)
    u1, u2 = fields(25, 2), fields(26, 2)
    _, cons, _ = method(network, u1, u2, distance="mse", gradient=gradient).losses(x, y)
    (ours,) = gradients(cons, network)
    by_hand = logits_gradient_by_hand(network, u1, u2, backward)
    assert np.abs(ours.numpy() - by_hand).max() <= 1e-9 < 1e-4 < np.abs(by_hand).max()


def test_both_gradients_belong_to_the_same_loss():
    x, y = batch()
    adjoint, printed = (
        method(tiny(), fields(1, 5), fields(2, 5), gradient=gradient).losses(x, y)
        for gradient in ("adjoint", "printed")
    )
    assert adjoint == printed


@pytest.mark.parametrize("stop_gradient", [True, False])
def test_stop_gradient_makes_the_first_branch_a_fixed_target(stop_gradient):
    (x, y), network = batch(1, 1), Fixed(2)
    trainer = method(network, fields(1, 2), fields(2, 2), distance="mse", stop_gradient=stop_gradient)
    (gradient,) = gradients(trainer.losses(x, y)[1], network)
    by_hand = logits_gradient_by_hand(network, fields(1, 2), fields(2, 2), scatter)
    if stop_gradient:
        by_hand[:2] = 0
    assert np.abs(gradient.numpy() - by_hand).max() <= 1e-9


def test_stop_gradient_in_a_real_network_trains_the_second_branch_alone():
    (x, y), network = batch(2, 0), tiny()
    u1, u2 = fields(1, 2), translation(0, 0, n=2)
    ours = gradients(method(network, u1, u2, distance="mse", stop_gradient=True).losses(x, y)[1], network)

    x1 = torch.from_numpy(np.stack([pull(image, u, 3, "border") for image, u in zip(x[:, 0].numpy(), u1.numpy())]))
    target = network(x1[:, None]).softmax(1).detach().numpy()
    p2, expected = network(x).softmax(1), 0.0
    for i in range(2):
        w = t2_after_inverse_t1(u1[i].numpy(), u2[i].numpy())
        assert away_from_ties(w)
        carried = torch.from_numpy(np.stack([pull(channel, w, 0, "constant") for channel in target[i]]))
        known = torch.from_numpy(is_inside(w))
        expected = expected + (carried - p2[i]).square().sum(0)[known].mean() / 2
    for a, b in zip(ours, gradients(expected, network), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-9)


def test_the_supervised_term_trains_both_branches_of_labelled_images_only():
    (x, y), network = batch(2, 1), Fixed(3)
    (gradient,) = gradients(method(network, fields(1, 3), fields(2, 3)).losses(x, y)[0], network)
    trained = gradient.flatten(1).any(1)
    assert trained.tolist() == [True, True, False, True, True, False]


# Transforms ---------------------------------------------------------------------------------------------------------


def test_half_of_the_transforms_are_the_identity_and_the_rest_smoothed_uniform_noise():
    torch.manual_seed(0)
    u = draw_transforms(2000, (6, 9), 40, 2)
    torch.manual_seed(0)
    noise = 40 * (2 * torch.rand(2000, 2, 6, 9).numpy() - 1)
    identity = ~u.flatten(1).any(1).numpy()
    assert identity.mean() == pytest.approx(0.5, abs=0.04)
    elastic = ndimage.gaussian_filter(noise[~identity], (0, 0, 2, 2), mode="reflect")
    assert np.abs(u[torch.from_numpy(~identity)].numpy() - elastic).max() <= 1e-4


def test_transforms_repeat_with_the_seed_and_differ_without():
    torch.manual_seed(3)
    a, b = draw_transforms(8, SIZE, 40, 2), draw_transforms(8, SIZE, 40, 2)
    torch.manual_seed(3)
    assert torch.equal(a, draw_transforms(8, SIZE, 40, 2))
    assert not torch.equal(a, b)


@pytest.mark.parametrize("order", [0, 1])
def test_labels_are_warped_class_by_class_with_background_from_outside(order):
    (_, y), u = batch(3, 0), fields(1, 3, peak=6)
    soft = transform_labels(y, u, CLASSES, order)
    expected = np.stack([warped_labels(labels, field, order) for labels, field in zip(y.numpy(), u.numpy())])
    assert np.abs(soft.numpy() - expected).max() <= 1e-5  # float32
    assert torch.allclose(soft.sum(1), torch.ones(3, *SIZE))
    outside = torch.from_numpy(np.stack([~is_inside(field) for field in u.numpy()]))
    assert outside.any()
    assert (soft[:, 0][outside] == 1).all()
    assert order == 1 or set(soft.unique().tolist()) == {0, 1}


# Prediction and state -----------------------------------------------------------------------------------------------


def test_predict_gives_probabilities_in_evaluation_mode_and_leaves_the_batch_norm_alone():
    (x, _), network = batch(), tiny(norm=True)
    trainer = method(network, fields(1, 5))
    network.train()
    before = copy.deepcopy(network.state_dict())
    p = trainer.predict(x, batch_size=2)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not p.requires_grad
    assert torch.allclose(p.sum(1), torch.ones(5, *SIZE, dtype=torch.float64))
    alone = torch.cat([trainer.predict(image[None]) for image in x])
    assert torch.allclose(p, alone, rtol=0, atol=1e-12)  # no image depends on its batch
    with torch.no_grad():
        assert torch.allclose(p, copy.deepcopy(network).eval()(x).softmax(1), rtol=0, atol=1e-12)


def test_a_step_after_a_prediction_is_in_training_mode_again():
    (x, y), network = batch(), tiny(norm=True)
    trainer = method(network, fields(1, 5))
    trainer.predict(x)
    before = network[1].running_mean.clone()
    trainer.training_step({"images": x, "labels": y})
    assert not torch.equal(network[1].running_mean, before)


def test_a_restored_method_continues_as_if_never_stopped():
    x, y = batch()

    def trainer():
        network = tiny(norm=True)
        optimiser = torch.optim.Adadelta(network.parameters(), rho=0.95)
        return TransformationConsistency(network, optimiser, drawing(fields(1, 5), fields(2, 5)))

    a, b = trainer(), trainer()
    a.training_step({"images": x, "labels": y})
    b.load_state_dict(copy.deepcopy(a.state_dict()))
    for one in (a, b):
        one.training_step({"images": x, "labels": y})
    assert all(torch.equal(p, q) for p, q in zip(a.network.state_dict().values(), b.network.state_dict().values()))
    assert torch.equal(a.predict(x), b.predict(x))


# ---- what comes in ----


def test_a_batch_without_labels_has_no_supervised_loss():
    torch.manual_seed(0)
    network = nn.Conv2d(1, 3, 1)
    optimiser = torch.optim.SGD(network.parameters(), 0.1)
    method = TransformationConsistency(network, optimiser, lambda n: draw_transforms(n, (12, 14), 2.0, 2.0))
    batch = {"images": torch.rand(2, 1, 12, 14), "labels": torch.zeros(0, 12, 14, dtype=torch.int64)}
    losses = method.training_step(batch)
    assert float(losses["loss_sup"]) == 0
    assert float(losses["loss_cons"]) > 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"order": 3}, "order: expected 0 or 1, found 3"),
        ({"norm": "split"}, "norm: expected one of joint, apart, found 'split'"),
        ({"distance": "dice"}, "distance: expected one of jaccard, mse, kl, found 'dice'"),
        (
            {"gradient": "printed", "order": 1},
            "gradient: expected 'adjoint', or 'printed' with order 0, found 'printed'",
        ),
    ],
)
def test_settings_that_are_none_are_refused(setting, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        TransformationConsistency(nn.Conv2d(1, 2, 1), None, None, **setting)


def test_labels_are_not_interpolated_by_a_cubic():
    """It would leave the range of 0 to 1."""
    with pytest.raises(ValueError, match="^order: expected 0 or 1, found 3$"):
        transform_labels(torch.zeros(1, 6, 6, dtype=torch.int64), torch.zeros(1, 2, 6, 6), 2, order=3)


def test_transforms_of_volumes_are_each_the_identity_or_not():
    torch.manual_seed(0)
    still = (draw_transforms(40, (4, 5, 6), 2.0, 1.0) == 0).flatten(2).all(2)
    assert still.shape == (40, 3)
    assert torch.equal(still.all(1), still.any(1))
    assert 0 < still.all(1).sum() < 40
