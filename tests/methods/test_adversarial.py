"""The objective of Gao et al. 2021, Eq. 2-8 and Algorithm 1, against values and gradients worked out another way."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fewlabels.methods.adversarial import RegularisedAdversarial, Reversed, differences, in_pixels, mean_square, norm
from fewlabels.models.auxbn import with_auxiliary
from fewlabels.models.discriminators import PooledDiscriminator
from fewlabels.models.generators import AugmentationGenerator
from fewlabels.warps import warp

KINDS = ("affine", "deformation", "appearance")


def network(dims=2, channels=3, classes=4):
    conv, norm, pool = (
        (nn.Conv2d, nn.BatchNorm2d, nn.AdaptiveAvgPool2d)
        if dims == 2
        else (nn.Conv3d, nn.BatchNorm3d, nn.AdaptiveAvgPool3d)
    )
    return nn.Sequential(
        conv(channels, 6, 3, padding=1), norm(6), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(6, classes)
    )


def method(kinds=KINDS, D=True, size=(16, 16), channels=3, rate=0.01, seed=0, T=None, **settings):
    torch.manual_seed(seed)
    T = with_auxiliary(network(len(size), channels) if T is None else T, len(kinds))
    G = [AugmentationGenerator(size, kind, channels, width=2) for kind in kinds]
    for g in G:  # away from no augmentation, where most gradients are zero
        nn.init.normal_(g.last.weight, std=0.05)
    D = PooledDiscriminator(len(size), channels, width=4) if D else None
    optimisers = {"T": torch.optim.SGD(T.parameters(), rate)}
    optimisers["G"] = torch.optim.SGD([p for g in G for p in g.parameters()], rate)
    if D is not None:
        optimisers["D"] = torch.optim.SGD(D.parameters(), rate)
    return RegularisedAdversarial(T, G, D, F.cross_entropy, optimisers, **settings)


def batch(n=8, size=(16, 16), channels=3, real=6, seed=1):
    torch.manual_seed(seed)
    return {
        "images": torch.rand(n, channels, *size),
        "labels": torch.randint(4, (n,)),
        "real": torch.rand(real, channels, *size),
    }


def parameters(m):
    return {name: p.detach().clone() for name, p in m.network.named_parameters()}


def test_a_step_is_that_of_three_separate_backward_passes():
    """The oracle: no reversal, no shared pass of D; each network's own objective, written out, by autograd.grad."""
    one, other = method(), method()
    data, before = batch(), parameters(other)
    torch.manual_seed(7)
    losses = one.training_step(data)

    torch.manual_seed(7)
    other.network.train()
    parts, labels = data["images"].chunk(4), data["labels"].chunk(4)
    x_hat, regs = [], []
    for G, x in zip(other.G, parts[1:], strict=True):
        g = G(x, torch.randn(len(x), 128))
        if G.kind == "affine":
            regs.append((g**2).mean())
            x_hat.append(warp(x, 7.5 * g, mode="border"))
        elif G.kind == "deformation":
            u = 7.5 * g
            regs.append((((u[:, :, 1:] - u[:, :, :-1]) ** 2).mean() + ((u[..., 1:] - u[..., :-1]) ** 2).mean()) / 2)
            x_hat.append(warp(x, u, mode="border"))
        else:
            regs.append((g**2).mean())
            x_hat.append(x + g)
    augmented = torch.cat(x_hat)
    of_parts = [
        F.cross_entropy(out, y)
        for out, y in zip(other.T(torch.cat([parts[0], augmented])).chunk(4), labels, strict=True)
    ]
    L_adv, L_reg = sum(of_parts) / 4, sum(regs)
    logits = other.D(torch.cat([augmented, data["real"]]))
    p = logits.sigmoid()
    log_D_fake, log_1_D = p[:6].log().mean(), (1 - p[:6]).log().mean()
    loss_D = -(p[6:].log().mean() + log_1_D)
    objectives = {"T": L_adv, "G": -L_adv - 1.0 * log_D_fake + 0.1 * L_reg, "D": loss_D}
    for name, objective in objectives.items():
        module = other.network[name]
        grads = torch.autograd.grad(objective, [*module.parameters()], retain_graph=True, allow_unused=True)
        for key, grad in zip(dict(module.named_parameters()), grads, strict=True):
            expected = before[f"{name}.{key}"] - (0.01 * grad if grad is not None else 0)
            torch.testing.assert_close(
                dict(one.network[name].named_parameters())[key].detach(), expected, atol=1e-6, rtol=1e-4
            )
    assert losses["loss_clean"] == pytest.approx(of_parts[0].item(), rel=1e-4)
    for k, kind in enumerate(KINDS):
        assert losses[f"loss_{kind}"] == pytest.approx(of_parts[k + 1].item(), rel=1e-4)
        assert losses[f"reg_{kind}"] == pytest.approx(regs[k].item(), rel=1e-4, abs=1e-9)
    assert losses["loss_D"] == pytest.approx(loss_D.item(), rel=1e-4)
    assert losses["loss_GAN"] == pytest.approx((-log_D_fake).item(), rel=1e-4)


def test_saturating_is_equation_4():
    one, other = method(saturating=True, gamma=0.0), method()
    data = batch()
    torch.manual_seed(7)
    losses = one.training_step(data)
    torch.manual_seed(7)
    literal = other.training_step(data)
    assert losses["loss_GAN"] < 0 < literal["loss_GAN"]
    # E[log D(x)] + E[log(1 - D(x_hat))] = -loss_D, and only the second term is G's
    fresh = method()
    fresh.network.train()
    torch.manual_seed(7)
    x = torch.cat([fresh.augment(G, x, None)[0] for G, x in zip(fresh.G, data["images"].chunk(4)[1:], strict=True)])
    p = fresh.D(torch.cat([x, data["real"]])).sigmoid()[: len(x)]
    assert losses["loss_GAN"] == pytest.approx(float((1 - p).log().mean()), rel=1e-4)


def test_T_descends_and_G_climbs_on_the_task_loss():
    """With lambda = gamma = 0, a step of T lowers, a step of G raises the loss of what was generated."""

    def loss(m, data):
        torch.manual_seed(7)
        m.network.train()
        x, y, _, _ = m.augment(m.G[0], data["images"][4:], data["labels"][4:])
        return float(F.cross_entropy(m.T(torch.cat([data["images"][:4], x]))[4:], y))

    for kind in KINDS:
        data = batch()
        for moving, sign in (("T", -1), ("G", 1)):
            m = method((kind,), D=False, lam=0.0, gamma=0.0, rate=0.0)
            m.optimisers[moving].param_groups[0]["lr"] = 0.05
            before = loss(m, data)
            torch.manual_seed(7)
            m.training_step(data)
            assert sign * (loss(m, data) - before) > 1e-6, (kind, moving)


def test_without_a_discriminator_there_is_none():
    m = method(D=False)
    losses = m.training_step(batch())
    assert "loss_GAN" not in losses
    assert "loss_D" not in losses
    assert "D" not in m.network


@pytest.mark.parametrize(
    "kinds", [("affine",), ("deformation",), ("appearance",), ("deformation", "appearance"), KINDS]
)
def test_parts_of_a_batch_have_their_own_norms(kinds):
    m = method(kinds)
    n = 1 + len(kinds)
    data = batch(2 * n)
    m.training_step(data)
    norm = m.T[1]
    x = data["images"].chunk(n)[0]
    expected = 0.1 * copy.deepcopy(m.T[0])(x).mean((0, 2, 3))  # T's first layer has taken a step of 0.01
    torch.testing.assert_close(norm.main.running_mean, expected, atol=2e-3, rtol=0.05)
    assert len(norm.auxiliary) == len(kinds)
    assert all(a.num_batches_tracked == 1 for a in norm.auxiliary)


def test_3d_with_one_image_a_part():
    m = method(size=(16, 18, 34), channels=1)
    losses = m.training_step(batch(4, (16, 18, 34), 1, real=3))
    assert all(math.isfinite(v) for v in losses.values())
    assert len(losses) == 9
    small = method(size=(16, 18, 20), channels=1)  # z begins as one place: no statistics of one value
    with pytest.raises(
        ValueError, match=r"^batch: expected 2 images for a generator of 16 x 18 x 20, or more, found 1$"
    ):
        small.training_step(batch(4, (16, 18, 20), 1, real=3))
    small.training_step(batch(8, (16, 18, 20), 1, real=3))


def test_another_regulariser_is_refused():
    with pytest.raises(ValueError, match=r"^regulariser: expected one of norm, mean_square, found 'mean'$"):
        method(regulariser="mean")


@pytest.mark.parametrize(("n", "kinds", "parts"), [(6, KINDS, 4), (1, KINDS, 4), (3, ("affine",), 2)])
def test_a_batch_that_cannot_be_divided_is_refused(n, kinds, parts):
    with pytest.raises(ValueError, match=rf"^batch: expected a multiple of {parts}, its parts, found {n}$"):
        method(kinds).training_step(batch(n))


def test_targets_move_with_images_but_give_G_no_gradient():
    seen = []

    def move(y, u):
        seen.append(u)
        return warp(y, u, order=0, mode="border")

    T = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    m = method(size=(16, 18), channels=1, T=T, move_targets=move)
    y = torch.zeros(8, 1, 16, 18)
    y[:, :, 3:8, 4:9] = 1
    m.task_loss = lambda out, t: F.binary_cross_entropy_with_logits(out[:, :1], t)
    m.training_step({"images": y + 0.1, "labels": y, "real": torch.rand(3, 1, 16, 18)})
    assert len(seen) == 2
    assert not any(u.requires_grad for u in seen)


# ---- units and loopholes ----


def test_reversal():
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y = Reversed.apply(x)
    assert torch.equal(y, x)
    (3 * y).sum().backward()
    assert x.grad.tolist() == [-3, -3]


def test_pixels_of_half_sides():
    g = torch.ones(1, 2, 5, 9)
    assert in_pixels(g)[0, 0].unique().tolist() == [2.0]
    assert in_pixels(g)[0, 1].unique().tolist() == [4.0]


def roughness(u):
    return mean_square(*differences(u))


def test_roughness_by_hand():
    u = torch.zeros(1, 2, 3, 4)
    u[0, 0] = torch.arange(4.0)  # one pixel a pixel along the columns, in one of two components
    assert roughness(u) == pytest.approx((0 + 0.5) / 2)
    assert norm(*differences(u)) == pytest.approx(3.0)  # the root of nine differences of one
    v = torch.rand(2, 3, 4, 5, 6)
    squares = [((v.roll(-1, a) - v).narrow(a, 0, v.shape[a] - 1) ** 2) for a in (2, 3, 4)]
    by_hand = sum(d.mean() for d in squares) / 3
    assert roughness(v) == pytest.approx(float(by_hand), rel=1e-5)
    of_images = sum(d.flatten(1).sum(1) for d in squares).sqrt()
    assert norm(*differences(v)) == pytest.approx(float(of_images.mean()), rel=1e-5)


def test_the_norm_as_printed_has_one_pull_at_any_strength_and_none_at_0():
    """The mean square lets small ones go free: its slope falls with them."""
    g = torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    slopes = {}
    for name, size_of in (("norm", norm), ("mean square", mean_square)):
        for scale in (1.0, 0.001, 0.0):
            x = (scale * g).requires_grad_()
            [slope] = torch.autograd.grad(size_of(x), x)
            slopes[name, scale] = float(slope.flatten(1).norm(dim=1).mean())
    assert slopes["norm", 1.0] == pytest.approx(1 / 3, rel=1e-5)  # a mean over three images
    assert slopes["norm", 0.001] == pytest.approx(slopes["norm", 1.0], rel=1e-4)
    assert slopes["mean square", 0.001] == pytest.approx(0.001 * slopes["mean square", 1.0], rel=1e-3)
    assert slopes["norm", 0.0] == slopes["mean square", 0.0] == 0


def test_the_regulariser_of_a_step_is_the_one_that_was_asked_for():
    data, losses = batch(), {}
    for regulariser in ("mean_square", "norm"):
        m = method(regulariser=regulariser, rate=0.0)
        torch.manual_seed(7)
        losses[regulariser] = m.training_step(data)
    torch.manual_seed(7)
    m.network.train()
    for G, x in zip(m.G, data["images"].chunk(4)[1:], strict=True):
        g = G(x, torch.randn(len(x), 128))
        parts = differences(in_pixels(g)) if G.kind == "deformation" else [g]
        for regulariser, size_of in (("mean_square", mean_square), ("norm", norm)):
            found = losses[regulariser][f"reg_{G.kind}"]
            assert found == pytest.approx(float(size_of(*parts)), rel=1e-4)


def test_a_stretch_is_as_rough_at_any_resolution():
    """Eq. 7 is in pixels a pixel: a field that stretches by 10 % costs the same at 32 and at 128 pixels."""
    values = []
    for n in (32, 128):
        q = torch.linspace(-1, 1, n)
        values.append(float(roughness(in_pixels(0.1 * torch.stack(torch.meshgrid(q, q, indexing="ij"))[None]))))
    assert values[0] == pytest.approx(values[1], rel=1e-4)


def test_the_loophole_of_a_shift_is_bounded():
    """A shift of all pixels is free of charge to Eq. 7; `most` is the furthest it can go."""
    torch.manual_seed(0)
    x = torch.rand(2, 3, 33, 33)
    for most in (1.0, 0.1):
        G = AugmentationGenerator((33, 33), "deformation", 3, 2, most=most)
        nn.init.zeros_(G.last.weight)
        nn.init.constant_(G.last.bias, 100.0)  # what the adversary could drive it to
        m = method(("deformation",), size=(33, 33))
        moved, _, reg, g = m.augment(G, x, None)
        assert float(reg) == pytest.approx(0, abs=1e-12)
        assert float(in_pixels(g).abs().max()) == pytest.approx(16 * most, rel=1e-5)
        if most == 1.0:  # half an image: of the middle row on, only the last pixel is left
            assert torch.allclose(moved[:, :, 16:, 16:], x[:, :, -1:, -1:], atol=1e-5)


def test_the_loophole_of_the_range_of_intensities_is_bounded():
    """tanh lets G_I replace an image of 0 to 1 altogether, for 0.1 of regularisation at most; `most` bounds it."""
    x = torch.rand(2, 3, 16, 16)
    for most in (1.0, 0.3):
        G = AugmentationGenerator((16, 16), "appearance", 3, 2, most=most)
        nn.init.constant_(G.last.bias, 100.0)
        changed, _, reg, _ = method(("appearance",)).augment(G, x, None)
        torch.testing.assert_close(changed, x + most)
        assert float(reg) == pytest.approx(most**2, rel=1e-5)


# ---- the state ----


def test_a_resumed_training_ends_in_the_same_bits():
    def adam(m):
        m.optimisers = {name: torch.optim.Adam(o.param_groups[0]["params"], 0.001) for name, o in m.optimisers.items()}
        return m

    through, first, second = adam(method()), adam(method()), adam(method(seed=5))
    for m in (through, first):
        torch.manual_seed(3)
        m.training_step(batch(seed=2))
    state, rng = copy.deepcopy(first.state_dict()), torch.get_rng_state()
    data = batch(seed=4)
    second.load_state_dict(state)
    for m in (through, second):
        torch.set_rng_state(rng)
        m.training_step(data)
    assert all(
        torch.equal(a, b) for a, b in zip(through.network.state_dict().values(), second.network.state_dict().values())
    )


def test_predictions_use_the_main_norms_only():
    m = method()
    m.training_step(batch())
    x = torch.rand(5, 3, 16, 16)
    p = m.predict(x)
    for auxiliary in m.T[1].auxiliary:
        auxiliary.running_mean += 100
    assert torch.equal(m.predict(x), p)
    assert torch.allclose(p.sum(1), torch.ones(5))
