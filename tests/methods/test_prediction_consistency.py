"""Malfliet & Bakker 2021: the divergence and the objective against SciPy, NumPy and one image at a time."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracles import keras_kl, one_image_at_a_time
from scipy.special import rel_entr
from torch import nn

from fewlabels.losses import kl_divergence
from fewlabels.methods.prediction_consistency import KL_CLIP, PredictionConsistency
from fewlabels.models.convsmall import ConvSmall

CLASSES = 4


# Oracles: NumPy only ------------------------------------------------------------------------------------------------


# Inputs -------------------------------------------------------------------------------------------------------------


def log_probabilities(seed, n=6, scale=2.0, classes=CLASSES):
    logits = torch.randn(n, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (scale * logits).log_softmax(1)


class Seen(nn.Module):
    """A network whose logits are its images `(N, classes, 1, 1)`, plus a bias to be trained."""

    def __init__(self, classes=CLASSES):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(classes, dtype=torch.float64))

    def forward(self, images):
        return images[:, :, 0, 0] + self.bias


def images(n=12, size=8, seed=0):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def darker(x):
    return 0.5 * x.flip(3)


def method(network=None, transform=darker, lam=1.0, optimiser=None, **settings):
    if network is None:
        torch.manual_seed(0)
        network = ConvSmall(width=0.05)
    optimiser = optimiser or torch.optim.SGD(network.parameters(), 0.1)
    return PredictionConsistency(network, optimiser, transform, lam, **settings)


def batch(labelled=5, n=12):
    return {"images": images(n), "labels": torch.arange(labelled) % 10}


def state(network):
    return copy.deepcopy(network.state_dict())


def changed(network, before):
    """Names of what is no longer as it was."""
    return {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}


def statistics(network):
    return {name for name, _ in network.named_buffers()}


# The divergence -----------------------------------------------------------------------------------------------------


def test_kl_divergence_is_scipys():
    a, b = log_probabilities(0), log_probabilities(1)
    expected = rel_entr(a.exp().numpy(), b.exp().numpy()).sum(1)
    np.testing.assert_allclose(kl_divergence(a, b), expected, rtol=1e-12)
    assert (kl_divergence(a, b) - kl_divergence(b, a)).abs().min() > 1e-3
    assert kl_divergence(a, a).tolist() == [0] * 6


def test_clipped_it_is_keras():
    a, b = log_probabilities(0, 50, scale=15), log_probabilities(1, 50, scale=15)
    assert 0.1 < (b.exp() < 1e-7).double().mean() < 0.9
    np.testing.assert_allclose(kl_divergence(a, b, KL_CLIP), keras_kl(a.exp().numpy(), b.exp().numpy()), rtol=1e-9)
    assert (kl_divergence(a, b, KL_CLIP) - kl_divergence(a, b)).abs().max() > 1
    mild = log_probabilities(0), log_probabilities(1)
    assert torch.allclose(kl_divergence(*mild, KL_CLIP), kl_divergence(*mild), rtol=0, atol=1e-12)


def test_of_a_clipped_certainty_that_is_wrong_it_is_16_118():
    wrong, right = torch.tensor([[0.0, -800, -800]]), torch.tensor([[-800.0, 0, -800]])
    assert kl_divergence(right, wrong, KL_CLIP).item() == pytest.approx(-math.log(1e-7), abs=1e-5)


@pytest.mark.parametrize(("log_p", "expected"), [(-16.13, 0), (-50, 0), (-1e4, 0), (-16.1, -1), (-0.5, -1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_ends_at_the_clip(log_p, expected, dtype):
    """On the log-probability of the true class; ln 1e-7 is -16.118."""
    log_p = torch.tensor([[log_p, -0.1]], dtype=dtype, requires_grad=True)
    y = torch.tensor([[1.0, 1e-7]], dtype=dtype).log()
    (clipped,) = torch.autograd.grad(kl_divergence(y, log_p, KL_CLIP).sum(), log_p)
    (plain,) = torch.autograd.grad(kl_divergence(y, log_p).sum(), log_p)
    assert plain[0, 0] == -1
    if expected == 0:
        assert clipped[0, 0] == 0
    assert clipped[0, 0].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("logit", "alive"), [(-15.0, True), (-17.0, False), (-40.0, False)])
def test_no_logit_of_a_certain_and_wrong_prediction_is_moved_by_the_clipped_loss(logit, alive):
    logits = torch.tensor([[logit, 0.0, -60, -60]], dtype=torch.float64, requires_grad=True)
    for clip in (0.0, KL_CLIP):
        y = torch.tensor([[1.0, 1e-7, 1e-7, 1e-7]], dtype=torch.float64).log()
        (gradient,) = torch.autograd.grad(kl_divergence(y, logits.log_softmax(1), clip).sum(), logits)
        if alive or not clip:
            assert gradient[0, 0] == pytest.approx(-1, abs=1e-3)
        else:
            assert gradient.abs().max() < 1e-6


@pytest.mark.parametrize("clip", [0.0, KL_CLIP])
def test_gradients_are_those_of_finite_differences(clip):
    a, b = (log_probabilities(seed, 3).requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(lambda a, b: kl_divergence(a, b, clip), (a, b))


@pytest.mark.parametrize("clip", [0.0, KL_CLIP])
@pytest.mark.parametrize("symmetric", [False, True])
def test_logits_of_10000_give_finite_losses_and_gradients(clip, symmetric):
    logits = (1e4 * torch.randn(2, 6, CLASSES, generator=torch.Generator().manual_seed(0))).requires_grad_()
    m = method(kl_clip=clip, symmetric_supervised_kl=symmetric)
    losses = m.losses(*logits.log_softmax(2), torch.tensor([0, 1, 2]))
    (gradient,) = torch.autograd.grad(sum(losses), logits)
    assert all(torch.isfinite(loss) for loss in losses)
    assert torch.isfinite(gradient).all()


# The objective ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("labels", "scale"), [([2, 0, 3], 2), ([2, 0, 3], 9), ([1, 1, 0, 2, 3, 3], 9)])
def test_the_losses_are_those_of_one_image_at_a_time(labels, scale, clip, symmetric):
    log_p1, log_p2 = log_probabilities(0, scale=scale), log_probabilities(1, scale=scale)
    m = method(kl_clip=KL_CLIP if clip else 0.0, symmetric_supervised_kl=symmetric)
    ours = [float(loss) for loss in m.losses(log_p1, log_p2, torch.tensor(labels))]
    expected = one_image_at_a_time(log_p1.exp().numpy(), log_p2.exp().numpy(), labels, clip, symmetric)
    np.testing.assert_allclose(ours, expected, rtol=1e-6)  # of KL(y|y): 3e-6
    both = m.losses(log_p2, log_p1, torch.tensor(labels))
    assert [float(loss) for loss in both] == pytest.approx(ours)  # x and t(x) may change places


def test_the_losses_by_hand():
    p1, p2 = torch.tensor([[0.5, 0.5], [0.8, 0.2]]).double(), torch.tensor([[0.25, 0.75], [0.8, 0.2]]).double()
    sup, cons = method().losses(p1.log(), p2.log(), torch.tensor([0]))
    assert sup.item() == pytest.approx((math.log(2) + math.log(4)) / 2, abs=1e-5)
    # KL(p1|p2) = ln(2)/2 + ln(2/3)/2, KL(p2|p1) = ln(1/2)/4 + 3 ln(3/2)/4; nothing from the second image
    forth, back = (math.log(2) + math.log(2 / 3)) / 2, (math.log(1 / 2) + 3 * math.log(3 / 2)) / 4
    assert cons.item() == pytest.approx((forth + back) / 2 / 2, abs=1e-12)


def test_the_supervised_loss_is_cross_entropy():
    log_p1, log_p2, y = log_probabilities(0), log_probabilities(1), torch.tensor([2, 0, 3, 1])
    expected = F.nll_loss(torch.cat([log_p1[:4], log_p2[:4]]), torch.cat([y, y]))
    for clip in (0.0, KL_CLIP):
        assert method(kl_clip=clip).losses(log_p1, log_p2, y)[0].item() == pytest.approx(expected.item(), abs=1e-4)


def test_with_lambda_0_the_consistency_is_for_the_record_only():
    log_p = [log_probabilities(seed).requires_grad_() for seed in (0, 1)]
    losses = {lam: method(lam=lam).losses(*log_p, torch.tensor([2, 0])) for lam in (0.0, 1.0)}
    assert losses[0.0] == losses[1.0]
    assert [loss.requires_grad for lam in (0.0, 1.0) for loss in losses[lam]] == [True, False, True, True]


def test_labelled_images_come_first_and_the_others_have_no_part_in_the_supervised_loss():
    log_p = torch.stack([log_probabilities(0), log_probabilities(1)]).requires_grad_()
    sup, cons = method().losses(*log_p, torch.tensor([2, 0]))
    (of_sup,), (of_cons,) = (torch.autograd.grad(loss, log_p) for loss in (sup, cons))
    assert of_sup.flatten(2).any(2).tolist() == [[True] * 2 + [False] * 4] * 2
    assert of_cons.flatten(2).any(2).all()  # no stop-gradient on either side


# A step -------------------------------------------------------------------------------------------------------------


def test_the_step_follows_l_sup_plus_lambda_times_l_cons():
    network, x, y = Seen(), torch.randn(6, CLASSES, 1, 1).double(), torch.tensor([2, 0, 3])
    log_p1, log_p2 = network(x).log_softmax(1), network(darker(x)).log_softmax(1)
    sup, cons = method(network).losses(log_p1, log_p2, y)
    (expected,) = torch.autograd.grad(sup + 0.3 * cons, network.bias)
    m = method(network, lam=0.3)
    for _ in range(2):  # gradients do not pile up
        m.optimiser.param_groups[0]["lr"] = 0.0
        record = m.training_step({"images": x, "labels": y})
        assert torch.allclose(network.bias.grad, expected, rtol=0, atol=1e-12)
    m.optimiser.param_groups[0]["lr"] = 0.1
    m.training_step({"images": x, "labels": y})
    assert torch.allclose(network.bias, -0.1 * expected, rtol=0, atol=1e-12)
    assert [record["loss_sup"].item(), record["loss_cons"].item()] == pytest.approx([sup.item(), cons.item()])
    assert not any(value.requires_grad for value in record.values())


def test_lambda_0_is_a_step_of_plain_cross_entropy():
    ours, plain = (ConvSmall(width=0.05, dropout=0).double() for _ in range(2))
    plain.load_state_dict(ours.state_dict())
    data = batch()
    x = data["images"] = data["images"].double()
    record = method(ours, lam=0.0).training_step(data)
    logits = plain.train()(torch.cat([x, darker(x)]))
    y = data["labels"]
    loss = F.cross_entropy(logits[[*range(5), *range(12, 17)]], torch.cat([y, y]))
    loss.backward()
    torch.optim.SGD(plain.parameters(), 0.1).step()
    for a, b in zip(ours.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-6)
    assert record["loss_sup"].item() == pytest.approx(loss.item(), abs=1e-4)
    p1, p2 = logits.softmax(1).detach().numpy().reshape(2, 12, 10)
    assert record["loss_cons"].item() == pytest.approx(one_image_at_a_time(p1, p2, [0])[1])  # for the record


@pytest.mark.parametrize("lam", [0.0, 1.0])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_batch_without_a_label(lam, legacy):
    m = method(lam=lam, legacy_inference_mode=legacy)
    before = state(m.network)
    record = m.training_step(batch(labelled=0))
    assert record["loss_sup"] == 0
    assert record["loss_cons"] > 0
    assert all(torch.isfinite(p.grad).all() for p in m.network.parameters() if p.grad is not None)
    assert all(torch.isfinite(value).all() for value in m.network.state_dict().values())
    moved = changed(m.network, before)
    assert bool(moved - statistics(m.network)) == (lam > 0)


@pytest.mark.parametrize(("legacy", "clip"), [(False, 0.0), (True, KL_CLIP)])
def test_training_accuracy_is_over_labelled_images_and_their_transforms(legacy, clip):
    network = Seen()
    x = 9 * torch.eye(CLASSES, dtype=torch.float64)[[0, 1, 2, 3, 0, 1]][..., None, None]
    y = torch.tensor([0, 1, 1])  # the third is wrong
    m = method(network, lambda x: x.roll(1, 0), legacy_inference_mode=legacy, kl_clip=clip)  # classes 1 0 1 2 3 0
    assert m.training_step({"images": x, "labels": y})["accuracy"].item() == pytest.approx(100 * 3 / 6)


# Dropout and norms --------------------------------------------------------------------------------------------------


def test_corrected_all_weights_and_running_statistics_move():
    m = method()
    before = state(m.network)
    m.network.eval()
    m.training_step(batch())
    assert m.network.training
    assert changed(m.network, before) == set(before)


def test_legacy_inference_mode_leaves_the_statistics_as_they_are_and_moves_all_weights():
    m = method(legacy_inference_mode=True)
    before = state(m.network)
    m.network.train()
    for _ in range(2):
        m.training_step(batch())
    assert not m.network.training
    assert changed(m.network, before) == set(before) - statistics(m.network)
    assert len(statistics(m.network)) == 27


@pytest.mark.parametrize("legacy", [False, True])
def test_dropout_is_at_work_unless_legacy(legacy):
    """Of an image and its copy the predictions differ where dropout does."""
    m = method(transform=lambda x: x, legacy_inference_mode=legacy)
    assert (m.training_step(batch())["loss_cons"] == 0) == legacy


def test_legacy_a_step_is_that_of_the_evaluated_network():
    m = method(legacy_inference_mode=True, kl_clip=KL_CLIP)
    data, reference = batch(), copy.deepcopy(m.network).eval()
    p1, p2 = (reference(t).softmax(1).detach().double().numpy() for t in (data["images"], darker(data["images"])))
    sup, cons = one_image_at_a_time(p1, p2, data["labels"].tolist(), clip=True)
    record = m.training_step(data)
    assert record["loss_sup"].item() == pytest.approx(sup, abs=1e-5)
    assert record["loss_cons"].item() == pytest.approx(cons, abs=1e-6)


def test_both_halves_are_one_forward_pass_and_one_batch_of_the_norms():
    m, calls = method(), []
    network, x = m.network, images()
    network.register_forward_pre_hook(lambda net, inputs: calls.append((net.training, inputs[0].clone())))
    first = network[0]
    a = F.leaky_relu(F.conv2d(torch.cat([x, darker(x)]), first.weight, first.bias, padding=1), 0.1).detach()
    m.training_step(batch())
    ((training, seen),) = calls
    assert training
    assert torch.equal(seen, torch.cat([x, darker(x)]))
    assert torch.allclose(network[2].running_mean, 0.01 * a.mean((0, 2, 3)), rtol=0, atol=1e-6)
    assert torch.allclose(network[2].running_var, 0.99 + 0.01 * a.var((0, 2, 3)), rtol=0, atol=1e-6)
    assert network[2].num_batches_tracked == 1


def apart(network, x, labelled, transform=darker):
    """The oracle: every kind by a copy of the network; log-probabilities of x and t(x), and the copies."""
    copies, parts = [copy.deepcopy(network).train() for _ in range(2)], (x[:labelled], x[labelled:])
    halves = [net(torch.cat([p, transform(p)])).log_softmax(1).chunk(2) for net, p in zip(copies, parts, strict=True)]
    return *(torch.cat(of) for of in zip(*halves, strict=True)), copies


def plain(network=None):
    """Without dropout, in float64."""
    torch.manual_seed(0)
    return ConvSmall(width=0.05, dropout=0).double()


def test_norms_apart_each_kind_passes_as_if_it_were_alone():
    network, data, y = plain(), batch(), batch()["labels"]
    x = data["images"] = data["images"].double()
    x[5:] = 3 * x[5:] + 1  # unlabelled images are of another kind
    log_p1, log_p2, (of_labelled, of_others) = apart(network, x, 5)
    losses = method(network).losses(log_p1, log_p2, y)
    sum(losses).backward()
    sup, cons = (loss.item() for loss in losses)
    together = method(copy.deepcopy(network)).training_step(data)
    assert abs(together["loss_sup"].item() - sup) > 1e-3  # it makes a difference
    m = method(network, norm="apart")
    record = m.training_step(data)
    assert [record["loss_sup"].item(), record["loss_cons"].item()] == pytest.approx([sup, cons], abs=1e-9)
    for ours, *others in zip(network.parameters(), of_labelled.parameters(), of_others.parameters(), strict=True):
        assert torch.allclose(ours.grad, sum(p.grad for p in others), rtol=0, atol=1e-9)
    for name, ours in network.named_buffers():
        assert torch.equal(ours, of_labelled.get_buffer(name)), name  # running statistics, and how many batches
    assert network[2].num_batches_tracked == 1


def test_norms_apart_differ_in_nothing_where_all_images_have_labels_or_norms_are_frozen():
    for labelled, settings in ((12, {}), (5, {"legacy_inference_mode": True})):
        data = batch(labelled) | {"images": images().double()}
        a, b = (method(plain(), norm=norm, **settings) for norm in ("joint", "apart"))
        of_a, of_b = ({name: value.item() for name, value in m.training_step(data).items()} for m in (a, b))
        assert of_a == pytest.approx(of_b, abs=1e-12)
        assert all(torch.allclose(p, q, atol=1e-12) for p, q in zip(a.network.parameters(), b.network.parameters()))
        assert all(map(torch.equal, a.network.buffers(), b.network.buffers()))


def test_norms_apart_of_a_batch_without_a_label_move_no_running_statistics():
    m = method(norm="apart")
    before = state(m.network)
    m.training_step(batch(labelled=0))
    assert changed(m.network, before) == set(before) - statistics(m.network)
    m.training_step(batch())
    assert changed(m.network, before) == set(before)  # again


def test_norms_apart_in_evaluation_are_the_labelled_ones():
    network, data = plain(), batch()
    x = data["images"] = data["images"].double()
    m = method(network, norm="apart")
    m.training_step(data)
    with torch.no_grad():
        expected = copy.deepcopy(network).eval()(x).softmax(1)
    assert torch.allclose(m.predict(x), expected, rtol=0, atol=1e-12)
    assert torch.allclose(m.evaluate(x, darker(x), torch.zeros(12).long())[1], expected.argmax(1))


def test_the_transform_is_given_the_whole_batch_once_a_step():
    given = []
    m = method(transform=lambda x: given.append(x) or darker(x))
    data = batch()
    m.training_step(data)
    (x,) = given
    assert torch.equal(x, data["images"])


# Evaluation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 500])
def test_evaluate_by_hand(batch_size, clip):
    """Eight images: 5 right, 6 of their transforms, 4 pairs alike."""
    of_x, of_tx, y = [0, 1, 2, 3, 0, 1, 1, 2], [1, 1, 2, 3, 1, 1, 2, 3], [0, 1, 2, 3, 1, 1, 2, 3]
    rng = np.random.default_rng(0)
    logits = [4 * np.eye(CLASSES)[classes] + rng.random((8, CLASSES)) for classes in (of_x, of_tx)]
    p1, p2 = (np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in logits)
    x, tx = (torch.from_numpy(z)[..., None, None] for z in logits)
    m = method(Seen(), lam=0.0, kl_clip=KL_CLIP if clip else 0.0)
    scores, predicted = m.evaluate(x, tx, torch.tensor(y), batch_size)
    assert predicted.tolist() == of_x
    sup, cons = one_image_at_a_time(p1, p2, y, clip)
    expected = {"accuracy_clean": 62.5, "accuracy_transformed": 87.5, "consistency": 50.0}
    assert scores == pytest.approx(expected | {"loss_sup": sup, "loss_cons": cons}, rel=1e-6)
    assert all(type(value) is float for value in scores.values())


def test_evaluation_depends_on_no_other_image_and_changes_nothing():
    m = method()
    m.training_step(batch())
    before, x, y = state(m.network), images(11, seed=3), torch.arange(11) % 10
    whole, classes = m.evaluate(x, darker(x), y)
    for batch_size in (1, 4):
        scores, predicted = m.evaluate(x, darker(x), y, batch_size)
        assert scores == pytest.approx(whole, abs=1e-5)
        assert torch.equal(predicted, classes)
    assert changed(m.network, before) == set()
    p = m.predict(x, batch_size=4)
    assert not p.requires_grad
    with torch.no_grad():
        expected = copy.deepcopy(m.network).eval()(x).softmax(1)
    assert torch.allclose(p, expected, rtol=0, atol=1e-6)
    assert torch.equal(p.argmax(1), classes)
    m.training_step(batch())
    assert m.network.training  # again


# State --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
def test_a_restored_method_takes_the_same_next_step(tmp_path, legacy):
    def fresh(seed):
        torch.manual_seed(seed)
        network = ConvSmall(width=0.05)
        optimiser = torch.optim.Adam(network.parameters(), 0.01, eps=1e-7)
        return method(
            network, lambda x: x + 0.1 * torch.randn_like(x), optimiser=optimiser, legacy_inference_mode=legacy
        )

    a, b = fresh(0), fresh(1)
    for _ in range(2):
        a.training_step(batch())
    torch.save(a.state_dict(), tmp_path / "state.pt")
    b.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    records = []
    for one in (a, b):
        torch.manual_seed(5)
        records.append(one.training_step(batch()))
    assert records[0] == records[1]
    assert changed(a.network, b.network.state_dict()) == set()
    moments = [one.optimiser.state_dict()["state"] for one in (a, b)]
    for p, of_a in moments[0].items():
        assert all(torch.equal(value, moments[1][p][name]) for name, value in of_a.items())
