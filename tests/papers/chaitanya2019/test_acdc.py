"""Chaitanya et al. 2019 on ACDC: the grid, what each row trains and sees, its scores, and the table."""

import copy
import re
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from helpers import refused_values, same
from sklearn.metrics import f1_score

from fewlabels.data import acdc
from fewlabels.engine import params, sweep, training
from fewlabels.engine.training import Stopped, seed_of
from fewlabels.methods.adversarial_ssl import AdversarialSegmentation
from fewlabels.methods.augmented_training import AugmentedTraining
from fewlabels.models.discriminators import Discriminator
from fewlabels.models.unet import BilinearUNet
from fewlabels.papers.chaitanya2019 import acdc as experiment
from fewlabels.papers.chaitanya2019 import rows as rows
from fewlabels.papers.chaitanya2019.acdc import Run
from fewlabels.papers.chaitanya2019.tables import METHODS, tables
from fewlabels.paths import CHECKOUT

ROOT = CHECKOUT
SMOKE = yaml.safe_load((ROOT / "params/acdc/smoke.yaml").read_text(encoding="utf-8"))
TINY = {
    "methods": ["none", "A", "A+GD", "A+GD+GI", "Adv Tr SL"],
    "extra_methods": ["A+GD (no regulariser)", "A+GI (no task gradient)", "Adv Tr SSL"],
    "labels": [3],
    "splits": [2],
    "extra_labels": [3],
    "extra_splits": [2],
    "seeds": [1],
    "width": 4,
    "norm_momentum": 0.3,
    "learning_rate": 0.01,
    "batch_size": 8,
    "steps_generator": 4,
    "warm_up": 1,
    "steps": 5,
    "validate_every": 2,
    "realism_steps": 2,
}
LABELLED = ["patient042", "patient062", "patient082"]  # set 2 of three volumes
VALIDATION = ["patient011", "patient071"]
UNLABELLED = [f"patient{20 * group + i:03}" for group in range(5) for i in range(16, 21)]
TEST = [f"patient{20 * group + i:03}" for group in range(5) for i in range(7, 11)]
SINCE = ("field", "loss", "precision")  # keys that came when runs were stored
PARTS = {  # of every row: what is in its batches, and how its generators were trained
    "none": (["none"], ""),
    "A": (["A"], ""),
    "A+RD": (["A", "RD"], ""),
    "A+RI": (["A", "RI"], ""),
    "A+GD": (["A", "GD"], ""),
    "A+GD (no regulariser)": (["A", "GD"], "no regulariser"),
    "A+GI": (["A", "GI"], ""),
    "A+GI (no regulariser)": (["A", "GI"], "no regulariser"),
    "A+GD+GI": (["A", "GD", "GI"], ""),
    "A+Mixup": (["A", "Mixup"], ""),
    "A+GD+GI+Mixup": (["A", "GD", "GI", "Mixup"], ""),
    "Adv Tr SL": (["Adv Tr SL"], ""),
    "Adv Tr SSL": (["Adv Tr SSL"], ""),
    "A+GD (no task gradient)": (["A", "GD"], "no task gradient"),
    "A+GI (no task gradient)": (["A", "GI"], "no task gradient"),
    "A+GD (no L_big)": (["A", "GD"], "no L_big"),
    "A+GI (no L_big)": (["A", "GI"], "no L_big"),
    "A+GD (no L_big, no task gradient)": (["A", "GD"], "no L_big, no task gradient"),
    "A+GI (no L_big, no task gradient)": (["A", "GI"], "no L_big, no task gradient"),
}
ADVERSARIAL = ("Adv Tr SL", "Adv Tr SSL")
NO_EXTRA = {"extra_methods": [], "extra_labels": [], "extra_splits": []}


def tiny(**changed):
    return experiment.Config(**SMOKE | TINY | changed)


def run_of(method="A", labels=3, split=2, seed=1):
    return Run(method, labels, split, seed)


@pytest.fixture(scope="module")
def heart():
    return experiment.load(tiny())


def state(net):
    return copy.deepcopy(net.state_dict())


def part(weights, name):
    """The weights of one of several networks."""
    return {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}


def network_file(folder, name):
    return torch.load(folder / name / "network.pt", weights_only=True)


# ---- the grid ----


def test_the_grid_is_every_method_on_every_set_and_the_extra_ones_on_theirs():
    config = tiny(
        methods=["A+RD", "none"], labels=[3, 1], splits=[2, 1], seeds=[5, 0],
        extra_methods=["Adv Tr SL", "A+GI (no L_big)"], extra_labels=[1], extra_splits=[4, 5],
    )  # fmt: skip
    expected = [
        Run(method, labels, split, seed)
        for seed in (5, 0)
        for labels in (3, 1)
        for split in (2, 1)
        for method in ("A+RD", "none")
    ]
    expected += [  # behind all others
        Run(method, 1, split, seed)
        for seed in (5, 0)
        for split in (4, 5)
        for method in ("Adv Tr SL", "A+GI (no L_big)")
    ]
    assert experiment.grid(config) == expected
    assert len(expected) == 2 * 2 * 2 * 2 + 2 * 2 * 2


def test_without_extra_methods_there_are_no_extra_runs():
    config = tiny(methods=["A"], **NO_EXTRA, splits=[1, 2, 3, 4, 5], labels=[1, 3], seeds=[0, 1, 2])
    assert len(experiment.grid(config)) == 5 * 2 * 3
    assert len(experiment.grid(params.load(ROOT / "params/acdc/smoke.yaml")[1])) == 4


def test_every_run_has_a_file_name_of_its_own_on_any_system():
    runs = experiment.grid(tiny(methods=[*METHODS], **NO_EXTRA, labels=[1, 3], splits=[1, 2]))
    assert len(runs) == 19 * 2 * 2
    assert len({run.id.lower() for run in runs}) == len(runs)
    assert all(re.fullmatch(r"[\w+=.-]+", run.id) for run in runs)
    assert run_of("A+GD (no L_big, no task gradient)", 1, 4, 2).id == (
        "A+GD_no_L_big_no_task_gradient_labels=1_split=4_seed=2"
    )
    assert run_of("Adv Tr SSL").id == "Adv_Tr_SSL_labels=3_split=2_seed=1"


def test_identity_is_the_config_without_the_lists_and_the_place_in_the_grid():
    run = run_of("A+GD (no L_big)")
    found = experiment.identity(tiny(), run)
    assert vars(run).items() <= found.items()
    other = {"methods": ["A+RI"], "labels": [1], "splits": [1], "seeds": [4], "extra_splits": [1], "profile": "x"}
    assert experiment.identity(tiny(**other), run) == found
    lists = {"methods", "labels", "splits", "seeds", "extra_methods", "extra_labels", "extra_splits"}
    place = {"method", "labels", "split", "seed"}
    assert {*found} == {*experiment.Config.model_fields} - lists - {"profile"} - {*SINCE} | place
    later = {"data": "acdc", "field": 144, "loss": "cross_entropy_dice"}
    assert experiment.identity(tiny(**later), run) == found | later


def test_runs_that_were_stored_before_a_key_came_stay_valid():
    """A config that leaves the keys of SINCE out, as all did then, is the same run."""
    then = experiment.Config(**{key: value for key, value in (SMOKE | TINY).items() if key not in SINCE})
    assert experiment.identity(then, run_of()) == experiment.identity(tiny(), run_of())
    assert not {*SINCE} & {*experiment.identity(tiny(), run_of())}


def test_where_notebooks_show_it():
    assert experiment.notebooks(tiny()) == ["chaitanya2019_table1"]
    assert experiment.PAPER == "chaitanya2019"


# ---- what is refused ----


def refused(text, drop=None, **changed):
    values = {key: value for key, value in (SMOKE | TINY | changed).items() if key != drop}
    refused_values(experiment.Config, values, text)


@pytest.mark.parametrize(
    "changed",
    [
        {"methods": ["A", "none", "A"]},
        {"labels": [1, 1]},
        {"splits": [2, 3, 2]},
        {"seeds": [0, 0]},
        {"extra_methods": ["A+RD", "A+RD"]},
        {"extra_labels": [3, 3]},
        {"extra_splits": [5, 5]},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_lists_with_a_value_twice_or_none(changed):
    ((key, values),) = changed.items()
    refused(f"{key}: expected each value once, found {values}", **changed)
    if key.startswith("extra"):
        lacking = "extra_labels" if key == "extra_methods" else key
        refused(f"{lacking}: expected some where there are extra_methods, and only there", **{key: []})
    else:
        refused(f"{key}: expected at least one value, found none", **{key: []})


def test_what_does_not_fit_together():
    refused("extra_methods: expected none of methods, found A", methods=["A", "A+RD"], extra_methods=["A+RI", "A"])
    for warm_up in (4, 5):
        text = f"warm_up: expected fewer than steps_generator, found {warm_up} of 4"
        refused(text, warm_up=warm_up)
    refused("phase: expected ES with the phantom, found ED", phase="ED")
    refused("field: expected 0 with the phantom, found 144", field=144)
    refused("field: expected 0 or at least size = 64, found 63", data="acdc", size=64, field=63)


def test_what_fits_together_at_its_limits():
    assert tiny(warm_up=3).warm_up == 3
    assert tiny(data="acdc", phase="ED").phase == "ED"
    assert tiny(**NO_EXTRA).extra_splits == []
    assert tiny(data="acdc", size=64, field=64).field == 64
    assert tiny(extra_splits=[1, 2, 3, 4, 5]).extra_splits == [1, 2, 3, 4, 5]
    zeros = {"lambda_adv": 0.0, "lambda_big": 0.0, "background_weight": 0.0, "adversarial_weight": 0.0}
    assert tiny(**zeros, realism_steps=0, warm_up=0, norm_momentum=1.0, size=224).size == 224


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("profile", 1),
        ("data", "cardiac"),
        ("data", "acdc-unspaced"),
        ("phase", "es"),
        ("size", 48),
        ("size", 256),
        ("size", 0),
        ("size", 32.0),
        ("field", 225),
        ("field", -1),
        ("field", 144.0),
        ("loss", "dice"),
        ("methods", ["A+GD+RI"]),
        ("methods", ["A+GD (no L_adv)"]),
        ("methods", "A"),
        ("extra_methods", ["GD"]),
        ("labels", [2]),
        ("labels", 1),
        ("splits", [0]),
        ("splits", [6]),
        ("extra_splits", [1.0]),
        ("extra_labels", [2]),
        ("seeds", [-1]),
        ("seeds", [True]),
        ("width", 0),
        ("norm_momentum", 0.0),
        ("norm_momentum", 1.01),
        ("lambda_adv", -0.1),
        ("lambda_adv", "1e-3"),
        ("lambda_big", float("inf")),
        ("background_weight", -1.0),
        ("mixup_alpha", 0.0),
        ("adversarial_weight", float("nan")),
        ("batch_size", 0),
        ("batch_size", 7),
        ("learning_rate", 0.0),
        ("learning_rate", "0.001"),
        ("steps_generator", 0),
        ("warm_up", -1),
        ("steps", 0),
        ("validate_every", 0),
        ("realism_steps", -1),
        ("threads", 0),
    ],
    ids=str,
)
def test_a_value_that_cannot_be(key, value):
    refused(key, **{key: value})


def test_keys_that_are_unknown_or_missing():
    refused("lambda_bigger: expected one of profile, data", lambda_bigger=1.0)
    for key in {*experiment.Config.model_fields} - {*SINCE}:
        refused(f"{key}: expected a value, found none", drop=key)


# ---- data ----


def test_the_phantom_and_acdc(heart, monkeypatch):
    assert heart.images.shape[1:] == (1, 32, 32)
    assert heart.classes == ("background", "right ventricle", "myocardium", "left ventricle")
    assert list(dict.fromkeys(heart.groups)) == [f"patient{i:03}" for i in range(1, 101)]
    monkeypatch.setattr(acdc, "load", lambda *arguments, **settings: (arguments, settings))
    config = tiny(data="acdc", phase="ED", size=96)
    assert experiment.load(config, "/root") == (("/root",), {"size": 96, "phase": "ED", "field": 224})
    config = tiny(data="acdc", field=144)
    assert experiment.load(config, "/root") == (("/root",), {"size": 32, "phase": "ES", "field": 144})


# ---- rows ----


def test_the_parts_of_a_rows_name():
    assert {method: rows.parts(method) for method in METHODS} == PARTS


@pytest.mark.parametrize("name", ["GD", "GI"])
@pytest.mark.parametrize(
    ("variant", "lam_adv", "lam_big", "task_gradient"),
    [
        ("", 0.7, 0.02, True),
        ("no regulariser", 0, 0, True),
        ("no task gradient", 0.7, 0.02, False),
        ("no L_big", 0.7, 0, True),
        ("no L_big, no task gradient", 0.7, 0, False),
    ],
)
def test_how_a_generator_is_trained(name, variant, lam_adv, lam_big, task_gradient):
    config = tiny(lambda_adv=0.7, lambda_big=0.02, background_weight=0.5, size=64, warm_up=3)
    torch.manual_seed(0)
    method = rows.task_driven(config, name, variant, "cpu")
    assert (method.lam_adv, method.lam_big, method.task_gradient) == (lam_adv, lam_big, task_gradient)
    assert (method.warm_up, method.unit) == (3, 64 / 224)
    assert method.kind == {"GD": "deformation", "GI": "intensity"}[name]
    assert {group["lr"] for o in (method.optimiser, method.optimiser_D) for group in o.param_groups} == {0.01}
    x, z = torch.randn(3, 1, 64, 64), torch.randn(3, 100)
    assert method.G(x, z).shape == (3, 2 if name == "GD" else 1, 64, 64)
    assert method.D(x).shape == (3,)
    assert method.S(x).shape == (3, 4, 64, 64)
    assert pixel_losses(method.task_loss) == pytest.approx([0.1, 0.3, 0.3, 0.3])  # the background counts, here
    assert method.draw_affine(7).shape == (7, 2, 64, 64)
    norms = [m for m in method.network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.3}
    widths = {net[0].out_channels for net in (first_layer(n) for n in (method.S, method.G.of_x, method.D))}
    assert widths == {4}


def first_layer(net):
    return [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]


def pixel_losses(task_loss):
    """What a pixel of each class costs whose cross-entropy is 1."""
    log_p = torch.full((4, 4, 1, 1), -20.0)
    log_p[range(4), range(4)] = 0
    certain = torch.eye(4)[..., None, None]
    p = torch.full((4, 4), (1 - np.exp(-1)) / 3).fill_diagonal_(np.exp(-1))  # the label has probability 1/e
    assert task_loss(log_p, certain).item() < 1e-6
    return [task_loss(p[c : c + 1, :, None, None].log(), certain[c : c + 1]).item() for c in range(4)]


class Constant:
    """A generator of one vector for all pixels, that keeps what it saw."""

    def __init__(self, *values):
        self.values, self.seen = torch.tensor(values)[:, None, None], []

    def __call__(self, x, z):
        self.seen.append((x.clone(), z.clone()))
        return self.values.expand(len(x), *self.values.shape[:1], *x.shape[2:])


def generators():
    return {"GD": Constant(14.0, -7.0), "GI": Constant(0.25)}


@pytest.mark.parametrize("method", [method for method in METHODS if method not in ADVERSARIAL])
def test_the_augmentation_of_every_row(method):
    """Fields in pixels of the config's grid: 10 of the paper's are 10 * 64 / 224."""
    config, names, made = tiny(size=64, mixup_alpha=0.3), PARTS[method][0], generators()
    made = {name: G for name, G in made.items() if name in names}  # no row needs others
    torch.manual_seed(0)
    augmentation = rows.augmentation(config, method, made, "cpu")
    assert augmentation.mix == ("Mixup" in names)
    assert method == "none" or augmentation.alpha == 0.3
    assert (augmentation.deform is None) == (not {"RD", "GD"} & {*names})
    assert (augmentation.recolour is None) == (not {"RI", "GI"} & {*names})
    x, z = torch.rand(400, 1, 64, 64), torch.randn(400, 100)
    if "RD" in names:
        fields = augmentation.deform(x, z)
        assert fields[:, :, 0, 0].std().item() == pytest.approx(10 * 64 / 224, rel=0.1)
    if "GD" in names:
        assert torch.allclose(augmentation.deform(x, z)[:, :, 5, 6], torch.tensor([4.0, -2.0]))
    if "RI" in names:
        y = augmentation.recolour(x, z)
        contrast = (y.flatten(1).std(1) / x.flatten(1).std(1)).numpy()
        assert 0.79 < contrast.min() < 0.81 < 1.19 < contrast.max() < 1.21
    if "GI" in names:
        assert torch.allclose(augmentation.recolour(x, z), x + 0.25)
    for G in made.values():
        assert torch.equal(G.seen[0][0], x)
        assert torch.equal(G.seen[0][1], z)
    fields = augmentation.draw_affine(200)
    assert fields.shape == (200, 2, 64, 64)
    still = 1 - fields.flatten(1).any(1).float().mean().item()
    assert still == 1 if method == "none" else 0.1 < still < 0.35


def test_fields_are_as_large_in_a_part_of_the_view():
    """10 pixels of the paper's 224 are 10 * 64 / 144 of 64 that show 144 of them."""
    config = tiny(size=64, data="acdc", field=144)
    torch.manual_seed(0)
    x, z = torch.rand(400, 1, 64, 64), torch.randn(400, 100)
    elastic = rows.augmentation(config, "A+RD", {}, "cpu").deform(x, z)
    assert elastic[:, :, 0, 0].std().item() == pytest.approx(10 * 64 / 144, rel=0.1)
    learned = rows.augmentation(config, "A+GD", generators(), "cpu").deform(x, z)
    assert torch.allclose(learned[:, :, 5, 6], torch.tensor([14.0, -7.0]) * 64 / 144)
    assert rows.task_driven(config, "GD", "", "cpu").unit == 64 / 144


def dice_and_cross_entropy(logits, y):
    """By NumPy: mean of -sum_c y_c log p_c over pixels, and 1 - Dice of the structures over the batch."""
    logits, y = (t.double().movedim(1, -1).reshape(-1, 4).numpy() for t in (logits, y))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    dice = 2 * (p * y).sum(0) / (p.sum(0) + y.sum(0))
    return -(y * np.log(p)).sum(1).mean() + 1 - dice[1:].mean()


@pytest.mark.parametrize("method", ["A", "Adv Tr SL", "GD"])
def test_cross_entropy_and_dice_as_the_loss_of_the_task(method):
    """In the training of S and of the generators, whatever the background's weight; targets are soft."""
    config = tiny(loss="cross_entropy_dice", background_weight=0.05)
    build = rows.task_driven if method == "GD" else rows.segmentation
    L_S = build(config, method, "" if method == "GD" else {}, "cpu").task_loss
    torch.manual_seed(0)
    logits, y = torch.randn(3, 4, 8, 9), torch.rand(3, 4, 8, 9).softmax(1)
    logits.requires_grad_()
    assert L_S(logits, y).item() == pytest.approx(dice_and_cross_entropy(logits.detach(), y), rel=1e-5)
    (gradient,) = torch.autograd.grad(L_S(logits, y), logits)
    assert gradient.flatten(2).any(2).all()  # of every class


def test_without_augmentation_a_batch_is_as_it_was(heart):
    x, y = heart.images[:6], heart.labels[:6]
    images, targets = rows.augmentation(tiny(), "none", {}, "cpu")(x, y)
    assert torch.equal(images, x)
    assert torch.equal(targets, rows.one_hot(y))
    assert torch.equal(targets.argmax(1), y)


@pytest.mark.parametrize("method", METHODS)
def test_the_training_of_every_row(method, heart):
    config = tiny(background_weight=0.05, adversarial_weight=0.4)
    torch.manual_seed(0)
    found = rows.segmentation(config, method, generators(), "cpu")
    torch.manual_seed(0)
    assert same(found.network.state_dict(), BilinearUNet(1, 4, 4, 0.3).state_dict())  # S comes first
    assert pixel_losses(found.task_loss) == pytest.approx([0.05, 0.3, 0.3, 0.3])
    (group,) = found.optimiser.param_groups
    assert (type(found.optimiser), group["lr"], group["betas"]) == (torch.optim.Adam, 0.01, (0.9, 0.999))
    assert [*map(id, group["params"])] == [*map(id, found.network.parameters())]
    x, y = heart.images[:8], heart.labels[:8]
    if method in ADVERSARIAL:
        assert type(found) is AdversarialSegmentation
        assert found.semi_supervised == (method == "Adv Tr SSL")
        assert (found.weight, found.ramp_up) == (0.4, 5)
        (group,) = found.discriminator_optimiser.param_groups
        assert (type(found.discriminator_optimiser), group["lr"], group["betas"]) == (
            torch.optim.Adam, 0.0001, (0.9, 0.99),
        )  # fmt: skip
        assert found.discriminator.from_map.weight.shape == (16, 4, 4, 4)
        record = found.training_step({"images": x, "targets": rows.one_hot(y), "unlabelled": x})
    else:
        assert type(found) is AugmentedTraining
        record = found.training_step({"images": x, "labels": y})
    assert all(torch.isfinite(value) for value in record.values())


# ---- stages ----


def recorded(patch):
    """Every stage from now on: name, seed, method, its first weights, and of each step the batch and its generators."""
    done, made = [], []

    fit_as_it_is = training.fit

    def fit(method, batches, validate, **options):
        stage = SimpleNamespace(
            name=options["folder"].name, seed=options["seed"], method=method, first=state(method.network), batches=[],
            generators=made.pop() if made else {}, training=[], asked=[],
        )  # fmt: skip
        stage.before = {name: state(G) for name, G in stage.generators.items()}
        step = method.training_step

        def training_step(batch):
            stage.batches.append(batch)
            found = step(batch)
            stage.training += [m.training for G in stage.generators.values() for m in G.modules()]
            return found

        method.training_step = training_step
        done.append(stage)
        history = fit_as_it_is(method, batches, validate, **options)
        stage.last, stage.history = state(method.network), history
        stage.after = {name: state(G) for name, G in stage.generators.items()}
        return history

    segmentation = rows.segmentation

    def build(config, method, generators, device):
        made.append(generators)
        return segmentation(config, method, generators, device)

    patch.setattr(training, "fit", fit)
    patch.setattr(rows, "segmentation", build)
    return done


@pytest.fixture(scope="module")
def trained(heart, tmp_path_factory):
    """A sweep of eight rows: config, folder, records, stages by row."""
    config, folder, of = tiny(), tmp_path_factory.mktemp("acdc"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "JUDGED", 30)
        stages = recorded(patch)
        assert sweep.sweep(experiment, config, heart, folder, device="cpu") == {}
    for run in experiment.grid(config):  # the stage of a run's own name is its last
        last = [stage.name for stage in stages].index(run.id) + 1
        of[run.method], stages = stages[:last], stages[last:]
    assert stages == []
    records = {run.method: record for run, record in sweep.records(experiment, config, folder).items()}
    (checkpoints,) = (folder / "checkpoints").iterdir()  # one for all rows
    return SimpleNamespace(config=config, folder=folder, checkpoints=checkpoints, records=records, stages=of)


PLACE = "labels=3_split=2_seed=1"


def test_a_generator_is_trained_once_for_all_rows_that_use_it(trained):
    steps = {method: [(s.name, len(s.batches)) for s in stages] for method, stages in trained.stages.items()}
    assert steps == {
        "none": [(f"none_{PLACE}", 5)],
        "A": [(f"A_{PLACE}", 5)],
        "A+GD": [(f"GD_{PLACE}", 4), (f"A+GD_{PLACE}", 5)],
        "A+GD+GI": [(f"GD_{PLACE}", 0), (f"GI_{PLACE}", 4), (f"A+GD+GI_{PLACE}", 5)],
        "Adv Tr SL": [(f"Adv_Tr_SL_{PLACE}", 5)],
        "A+GD (no regulariser)": [(f"GD_no_regulariser_{PLACE}", 4), (f"A+GD_no_regulariser_{PLACE}", 5)],
        "A+GI (no task gradient)": [(f"GI_no_task_gradient_{PLACE}", 4), (f"A+GI_no_task_gradient_{PLACE}", 5)],
        "Adv Tr SSL": [(f"Adv_Tr_SSL_{PLACE}", 5)],
    }
    names = {name for stages in steps.values() for name, _ in stages}
    assert {path.name for path in trained.checkpoints.iterdir()} == names
    assert {path.name for path in trained.checkpoints.glob("*/*")} == {"network.pt"}
    first, shared = trained.stages["A+GD"][0], trained.stages["A+GD+GI"][0]
    assert same(first.last, shared.last)
    assert first.history == shared.history


def test_the_generators_of_variants_begin_alike_and_end_apart(trained):
    for plain, other, name in (
        (trained.stages["A+GD"][0], trained.stages["A+GD (no regulariser)"][0], "GD"),
        (trained.stages["A+GD+GI"][1], trained.stages["A+GI (no task gradient)"][0], "GI"),
    ):
        assert same(plain.first, other.first), name
        a, b, start = (part(weights, "G") for weights in (plain.last, other.last, plain.first))
        for key in a:
            if key.endswith("weight"):
                assert not torch.equal(a[key], start[key]), key
        assert not same(a, b)


def test_s_begins_with_the_same_weights_in_all_rows(trained):
    firsts = [stages[-1].first for stages in trained.stages.values()]
    assert len(firsts) == 8
    assert all(same(first, firsts[0]) for first in firsts)
    assert not same(firsts[0], trained.stages["A"][-1].last)


def test_training_a_generator_has_a_seed_of_its_own(trained):
    """Not S's: w_S is drawn anew when the generators are done (Section 2, "Optimization Sequence")."""
    generator, segmenter = trained.stages["A+GD"]
    assert segmenter.seed == seed_of(1, 2, 3, "segmenter")
    assert generator.seed == seed_of(1, 2, 3, "generator")
    assert not same(part(generator.first, "S"), segmenter.first)


def test_generators_are_fixed_and_in_evaluation_mode_while_s_learns(trained):
    for method, names in (("A+GD", {"GD"}), ("A+GD+GI", {"GD", "GI"}), ("A", set()), ("Adv Tr SL", set())):
        stage = trained.stages[method][-1]
        assert {*stage.generators} == names
        assert not any(stage.training)
        for name in names:
            assert same(stage.before[name], stage.after[name])  # weights and the norms' statistics
            stored = network_file(trained.checkpoints, f"{name}_{PLACE}")["network"]
            assert same(part(stored, "G"), stage.after[name])


def test_what_a_training_sees(trained, heart):
    """Labels of the labelled patients; unlabelled ones where Eq. 6 and Adv Tr SSL have them; nobody else, ever."""
    name_of = {image.numpy().tobytes(): name for name, image in zip(heart.ids, heart.images, strict=True)}
    assert len(name_of) == len(heart)

    def names(images):
        return [name_of[image.numpy().tobytes()] for image in images]

    def of(patients):
        return {name for name in heart.ids if name.split("/")[0] in patients}

    seen = {}
    for stages in trained.stages.values():
        for stage in stages:
            for batch in stage.batches:
                known = names(batch["images"])
                assert len(known) == 8
                expected = heart.labels[[heart.ids.index(name) for name in known]]
                labels = batch["targets"].argmax(1) if "targets" in batch else batch["labels"]
                assert torch.equal(labels, expected)
                assert {*known} <= of(LABELLED)
                other = batch.get("real", batch.get("unlabelled"))
                role = {"real": "real", "unlabelled": "unlabelled"}.keys() & batch.keys()
                assert (other is None) == (not role)
                if other is not None:
                    assert len(other) == 8
                    seen.setdefault(role.pop(), set()).update(names(other))
    assert {*seen} == {"real", "unlabelled"}
    assert seen["unlabelled"] <= of(UNLABELLED)
    assert seen["real"] <= of(UNLABELLED + LABELLED)
    assert seen["real"] & of(LABELLED)  # p(x) is of both
    assert seen["real"] & of(UNLABELLED)
    adversarial = trained.stages["Adv Tr SSL"][-1].batches
    assert len({name for batch in adversarial for name in names(batch["unlabelled"])}) == 5 * 8  # none twice


# ---- a run ----


def test_a_run_repeats_bit_for_bit_also_when_it_is_stopped(heart, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "JUDGED", 30)
    config, run = tiny(realism_steps=1), run_of("A+GD+GI+Mixup", 1, 3, 0)
    torch.manual_seed(1)
    once = experiment.run(config, run, heart, tmp_path / "once")
    torch.manual_seed(2)
    assert experiment.run(config, run, heart, tmp_path / "twice") == once
    stops, said = 0, []
    while True:
        try:
            report = lambda *entry: said.append(entry[:3])  # noqa: E731
            stop = lambda: said[-1][1] == 2  # noqa: E731
            found = experiment.run(config, run, heart, tmp_path / "stopped", report=report, stop=stop)
            break
        except Stopped:
            stops += 1
    assert stops == 3  # in each stage, after two steps
    place = "labels=1_split=3_seed=0"
    assert said == [
        *[(f"{name}_{place}", step, 4) for name in ("GD", "GI") for step in (2, 4)],
        *[(f"A+GD+GI+Mixup_{place}", step, 5) for step in (2, 4, 5)],
    ]
    assert found == once
    networks = [network_file(tmp_path / f, run.id)["network"] for f in ("once", "twice", "stopped")]
    assert same(networks[0], networks[1])
    assert same(networks[0], networks[2])
    other = experiment.run(config, replace(run, method="A", seed=1), heart, tmp_path / "other")
    assert other["scores"] != experiment.run(config, replace(run, method="A"), heart, tmp_path / "other")["scores"]


def by_hand(config, weights, cohort, patients):
    """Dice of a stored network: all slices of a patient in one pass, by scikit-learn on the native grid."""
    net = BilinearUNet(1, 4, config.width).eval()
    net.load_state_dict(weights)
    scores = []
    for patient in patients:
        index = [i for i, name in enumerate(cohort.ids) if name.startswith(f"{patient}/")]
        with torch.no_grad():
            p = torch.from_numpy(np.exp(net(cohort.images[index]).numpy()))
        predicted = acdc.to_native(p / p.sum(1, keepdim=True), patient, cohort).argmax(1)
        truth = cohort.meta["native"][patient]
        assert predicted.shape == truth.shape
        scores.append(f1_score(truth.flatten(), predicted.flatten(), labels=[1, 2, 3], average=None, zero_division=1))
    return np.array(scores)


def test_scores_are_those_of_the_stored_network_by_hand(trained, heart):
    positive = 0
    for method in ("none", "A", "A+GD+GI", "Adv Tr SL"):
        record = trained.records[method]
        weights = network_file(trained.checkpoints, run_of(method).id)["network"]
        expected = by_hand(trained.config, weights, heart, TEST)
        assert record["subjects"] == TEST
        assert {*record["scores"]} == {"dice", "mean_dice"}
        assert [*record["scores"]["dice"]] == ["right ventricle", "myocardium", "left ventricle"]
        for column, values in zip(expected.T, record["scores"]["dice"].values(), strict=True):
            assert values == pytest.approx(column.tolist(), abs=1e-3)
        assert record["scores"]["mean_dice"]["all"] == pytest.approx(expected.mean(1).tolist(), abs=1e-3)
        validation = by_hand(trained.config, weights, heart, VALIDATION).mean()
        assert record["overall"]["validation_dice"] == pytest.approx(validation, abs=1e-3)
        best = max(record["history"], key=lambda entry: entry["validation"])
        assert best["validation"] == pytest.approx(100 * validation, abs=0.1)
        positive += expected.mean() > 0.01
    assert positive >= 2


def test_native_grids_that_are_not_the_networks(heart):
    """Dice is counted there: of a cohort whose native labels are twice as large."""
    native = {p: y.repeat_interleave(2, 1).repeat_interleave(3, 2) for p, y in heart.meta["native"].items()}
    scale = {p: (a / 2, b / 3) for p, (a, b) in heart.meta["scale"].items()}
    cohort = replace(heart, meta=heart.meta | {"native": native, "scale": scale})
    torch.manual_seed(0)
    net = BilinearUNet(1, 4, 4)
    method = rows.segmentation(tiny(), "A", {}, "cpu")
    method.network.load_state_dict(net.state_dict())
    found = experiment.dice(method, cohort, TEST[:3], "cpu")
    assert np.array(found) == pytest.approx(by_hand(tiny(), net.state_dict(), cohort, TEST[:3]), abs=1e-3)
    assert np.array(found).max() > 0.01


def test_what_is_recorded_of_every_row(trained):
    for method, record in trained.records.items():
        names, expected = PARTS[method][0], {"validation_dice"}
        expected |= {"mean_abs_v", "folding"} if "GD" in names else set()
        expected |= {"mean_abs_i"} if "GI" in names else set()
        expected |= {"realism_auc"} if names[0] == "A" else set()
        assert {*record["overall"]} == expected
        assert all(np.isfinite(value) for value in record["overall"].values())
        assert [entry["step"] for entry in record["history"]] == [2, 4, 5]
        losses = {
            "step",
            "validation",
            *(("loss_sup", "loss_adv", "loss_disc") if method in ADVERSARIAL else ["loss_task"]),
        }
        assert all({*entry} == losses for entry in record["history"])


def test_the_history_of_a_generator(trained):
    for name, variant in (("GD", ""), ("GD", "_no_regulariser")):
        history = network_file(trained.checkpoints, f"{name}{variant}_{PLACE}")["history"]
        assert [entry["step"] for entry in history] == [2, 4]
        losses = {"loss_task", "loss_adv", "loss_big"} | (set() if variant else {"loss_D"})
        assert all({*entry} == {"step", "validation"} | losses for entry in history)


def test_without_realism_steps_there_is_no_discriminator_for_it(heart, tmp_path):
    found = experiment.run(tiny(realism_steps=0, steps=1), run_of("A"), heart, tmp_path)
    assert {*found["overall"]} == {"validation_dice"}


# ---- validation in the warm-up ----


def kept(config, heart, folder, monkeypatch, scores):
    """Weights before training, those kept, and the history, where S has these Dice scores in turn."""
    turns = iter(scores)
    monkeypatch.setattr(experiment, "dice", lambda *_: [[next(turns)] * 3])
    stages = recorded(monkeypatch)
    experiment.train(config, run_of("A+GD"), heart, folder)
    return stages[0].first, stages[0].last, stages[0].history


def test_validation_during_the_warm_up_does_not_count(heart, tmp_path, monkeypatch):
    config = tiny(steps_generator=6, warm_up=4, validate_every=2, steps=1)
    first, last, history = kept(config, heart, tmp_path, monkeypatch, [0.1, 0.5])  # of the generator's end, and of S's
    assert [entry.get("validation") for entry in history] == [None, None, pytest.approx(10)]
    assert not torch.equal(last["G.last.weight"], first["G.last.weight"])


def test_a_generator_of_the_warm_up_is_not_kept_even_if_s_finds_nothing(heart, tmp_path, monkeypatch):
    """It would be one that was never trained."""
    config = tiny(steps_generator=6, warm_up=2, validate_every=2, steps=1)
    first, last, _ = kept(config, heart, tmp_path, monkeypatch, [0.0] * 4)
    assert not torch.equal(last["G.last.weight"], first["G.last.weight"])


# ---- measures of what is generated ----


def slanted(factor, where):
    """A generator whose v is `factor` times the row, for images in which `where` is."""

    def G(x, z):
        row = torch.arange(x.shape[2]).float()[:, None].expand(x.shape[2:])
        v = torch.stack([factor * row, torch.zeros_like(row)])
        return v * where(x).reshape(-1, 1, 1, 1)

    return G


def test_measures_of_generators_by_hand():
    config, images = tiny(), torch.cat([torch.zeros(1, 1, 32, 32), torch.ones(3, 1, 32, 32)])
    torch.manual_seed(0)
    assert rows.of_generators(config, {}, images, "cpu") == {}
    G = {"GD": Constant(3.0, -5.0), "GI": Constant(-0.25)}
    found = rows.of_generators(config, G, images, "cpu")
    assert found == pytest.approx({"mean_abs_v": 4, "folding": 0, "mean_abs_i": 0.25})  # v in the paper's pixels
    ((x, z),) = G["GD"].seen
    assert x.shape == (200, 1, 32, 32)
    assert z.shape == (200, 100)
    assert 0.15 < 1 - x.mean() < 0.35  # all images alike
    assert z.std().item() == pytest.approx(1, abs=0.02)

    def ones(x):
        return x.mean((1, 2, 3))

    found = rows.of_generators(config, {"GD": slanted(-10, ones)}, images, "cpu")
    assert 0.65 < found["folding"] < 0.85  # 1 - 10 / 7 < 0 in those that are 1
    assert found["mean_abs_v"] == pytest.approx(10 * 15.5 / 2 * found["folding"])
    found = rows.of_generators(config, {"GD": slanted(-5, ones)}, images, "cpu")
    assert found["folding"] == 0  # 1 - 5 / 7: a seventh of the grid, a seventh of v


def judged(config, method, generators, images, labels, real, monkeypatch):
    """What a fresh discriminator is given."""
    found = {}

    def realism_auc(D, optimiser, real, fake, test_real, test_fake, steps):
        found.update(D=D, optimiser=optimiser, real=real, fake=fake, tests=(test_real, test_fake), steps=steps)
        return 0.75

    monkeypatch.setattr(rows, "realism_auc", realism_auc)
    torch.manual_seed(0)
    assert rows.realism(config, method, generators, images, labels, *real, "cpu") == 0.75
    return SimpleNamespace(**found)


def test_realism_judges_the_augmented_half_beside_affine_real_images(heart, monkeypatch):
    images, labels = heart.images[:10], heart.labels[:10]
    real = [torch.full((n, 1, 32, 32), value) for n, value in ((40, -1.0), (10, -2.0))]
    found = judged(tiny(), "A+GI", {"GI": Constant(100.0)}, images, labels, real, monkeypatch)
    assert type(found.D) is Discriminator
    (group,) = found.optimiser.param_groups
    assert (group["lr"], found.steps) == (0.01, 2)
    assert {id(p) for p in group["params"]} == {id(p) for p in found.D.parameters()}
    seen = torch.cat([found.real() for _ in range(40)])
    assert seen.shape == (320, 1, 32, 32)
    assert {*seen[:, 0, 16, 16].tolist()} == {-1}
    assert (seen == 0).any()  # corners that come from outside: they are affine
    assert {*found.tests[0][:, 0, 16, 16].tolist()} == {-2}
    made = found.fake()
    assert made.shape == (8, 1, 32, 32)
    assert (made > 50).all()
    assert [len(t) for t in found.tests] == [200, 200]
    assert (found.tests[1] > 50).all()
    assert len(found.tests[1].flatten(1).unique(dim=0)) > 40


def test_real_images_to_judge_are_of_patients_that_the_discriminator_has_not_seen(heart, tmp_path, monkeypatch):
    """Patients have different numbers of slices. Here every image says whose it is."""
    keep = [i for i, name in enumerate(heart.ids) if name not in ("patient016/00", "patient016/01", "patient016/02")]
    number = torch.tensor([float(heart.ids[i][7:10]) for i in keep])
    names = {field: tuple(getattr(heart, field)[i] for i in keep) for field in ("ids", "groups")}
    cohort = replace(
        heart, images=number[:, None, None, None].expand(-1, 1, 32, 32).clone(), labels=heart.labels[keep], **names
    )
    method = SimpleNamespace(predict=lambda x: torch.ones(len(x), 4, 32, 32))
    monkeypatch.setattr(experiment, "train", lambda *_: (method, {}, [{"validation": 0.0}]))
    monkeypatch.setattr(experiment, "dice", lambda *_: [[0.0] * 3] * 20)
    found = {}

    def realism_auc(D, optimiser, real, fake, test_real, test_fake, steps):
        found.update(learnt=torch.cat([real() for _ in range(100)]), judged=test_real)
        return 0.5

    monkeypatch.setattr(rows, "realism_auc", realism_auc)
    experiment.run(tiny(), run_of("A"), cohort, tmp_path)
    learnt, judged = ({round(v) for v in found[key][:, 0, 16, 16].tolist()} for key in ("learnt", "judged"))
    assert learnt | judged <= {int(name[7:]) for name in UNLABELLED}
    assert len(judged) >= 4
    assert not learnt & judged


def test_what_a_row_makes_is_told_from_real_images_or_not(heart):
    """By the whole path: intensities far off are found at once."""
    images, labels = heart.images[:40], heart.labels[:40]
    torch.manual_seed(0)
    config = tiny(realism_steps=15, batch_size=16, learning_rate=0.003)
    real = heart.images[:160], heart.images[160:200]
    far = rows.realism(config, "A+GI", {"GI": Constant(3.0)}, images, labels, *real, "cpu")
    near = rows.realism(config, "A+GI", {"GI": Constant(0.0)}, heart.images[:200], heart.labels[:200], *real, "cpu")
    assert far > 0.99
    assert near < 0.9


# ---- the table ----


STRUCTURES = {"RV": "right ventricle", "Myo": "myocardium", "LV": "left ventricle"}
COLUMNS = [f"{name}, {n}" for n in (1, 3) for name in ("RV", "Myo", "LV", "mean", "at 0")]


def made_up(runs, subjects=3, seed=0):
    """Scores as `sweep.scores` has them."""
    rng, entries = np.random.default_rng(seed), []
    for run in runs:
        place = (run.method, run.labels, run.split, run.seed)
        for i in range(subjects):
            values = dict(zip(STRUCTURES.values(), rng.uniform(0.2, 0.9, 3)))
            entries += [(*place, f"patient{i}", s, "dice", v) for s, v in values.items()]
            entries.append((*place, f"patient{i}", "all", "mean_dice", np.mean([*values.values()])))
        entries += [(*place, "all", "all", metric, rng.uniform(2, 3)) for metric in ("mean_abs_v", "realism_auc")]
    return pd.DataFrame(entries, columns=["method", "labels", "split", "seed", *sweep.VALUE])


def test_cells_of_table_1_are_numpys():
    config = tiny(methods=[*METHODS], **NO_EXTRA, labels=[1, 3], splits=[1, 4], seeds=[0, 1])
    runs = experiment.grid(config)
    scores = made_up(runs)
    table, _ = tables(config, scores)["table1"]
    assert list(dict.fromkeys(table["row"])) == [*METHODS] == [*PARTS]
    assert list(dict.fromkeys(table["column"])) == COLUMNS
    assert len(table) == 19 * 10
    cells, of_run = table.set_index(["row", "column"]), scores.groupby(["method", "labels", "split", "seed"])
    for method, (name, n) in product(METHODS, product(("RV", "Myo", "LV", "mean"), (1, 3))):
        of_runs = []
        for split, seed in product((1, 4), (0, 1)):
            at = of_run.get_group((method, n, split, seed))
            at = at[(at["structure"] == STRUCTURES[name]) if name != "mean" else (at["metric"] == "mean_dice")]
            assert len(at) == 3
            of_runs.append(at["value"].to_numpy().mean())
        cell = cells.loc[(method, f"{name}, {n}")]
        assert cell["ours_mean"] == pytest.approx(np.mean(of_runs))
        assert cell["ours_sd"] == pytest.approx(np.std(of_runs, ddof=1))
        assert cell["ours_n"] == 4


def test_structures_at_0_are_counted():
    """None in any test volume of a run, which a mean over structures hides."""
    config = tiny(methods=["none", "A"], **NO_EXTRA, labels=[1, 3], splits=[1, 2])
    scores = made_up(experiment.grid(config))

    def put(value, method, labels, split, structures, subjects):
        of = (scores[["method", "labels", "split", "metric"]] == [method, labels, split, "dice"]).all(axis=1)
        of &= scores["structure"].isin([STRUCTURES[name] for name in structures]) & scores["subject"].isin(subjects)
        assert of.sum() == len(structures) * len(subjects)
        scores.loc[of, "value"] = value

    everyone = ["patient0", "patient1", "patient2"]
    put(0.0, "A", 3, 1, ["RV", "LV"], everyone)
    put(0.0, "A", 3, 2, ["RV"], everyone)
    put(0.0, "A", 1, 1, ["Myo"], everyone[:2])  # found in one volume
    put(0.0, "none", 1, 2, ["RV", "Myo", "LV"], everyone)
    cells = tables(config, scores)["table1"][0].set_index(["row", "column"])
    found = {place: tuple(cells.loc[place, ["ours_mean", "ours_n"]]) for place in product(("none", "A"), COLUMNS[4::5])}
    expected = {("none", "at 0, 1"): (1.5, 2), ("none", "at 0, 3"): (0, 2), ("A", "at 0, 1"): (0, 2)}
    assert found == expected | {("A", "at 0, 3"): (1.5, 2)}
    assert cells.loc[("A", "at 0, 3"), "ours_sd"] == pytest.approx(np.std([2, 1], ddof=1))


def test_the_papers_one_number_stands_beside_ours():
    config = tiny(methods=["A+GD+GI", "A"], labels=[1, 3])
    table, _ = tables(config, made_up(experiment.grid(config)))["table1"]
    (published,) = table[table["paper_mean"].notna()].to_dict("records")
    assert (published["row"], published["column"], published["paper_mean"]) == ("A+GD+GI", "RV, 1", 0.651)
    assert published["ours_n"] == 1
    assert pd.isna(published["paper_sd"])


def lines_of(config, scores):
    table, text = tables(config, scores)["table1"]
    return text("Data: made up.").splitlines()


def cells_of(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table_1_in_markdown():
    config = tiny(methods=["none", "A+GD+GI"], **NO_EXTRA, labels=[1, 3], splits=[1, 2])
    scores = made_up(experiment.grid(config))
    lines = lines_of(config, scores)
    assert lines[0].startswith("Table 1 of Chaitanya et al. 2019")
    assert lines[0].endswith("Data: made up.")
    head, _, none, both = [cells_of(line) for line in lines if line.startswith("|")]
    assert head == ["Method", *COLUMNS]
    assert (none[0], both[0]) == ("none", "A+GD+GI")
    values = scores[(scores[["method", "labels", "structure"]] == ["A+GD+GI", 1, "right ventricle"]).all(axis=1)]
    runs = values.groupby("split")["value"].mean()
    assert both[1] == f"**{runs.mean():.3f} ± {runs.std():.3f}** (n = 2)<br>paper 0.651"
    assert [cell.count("paper") for cell in none[1:] + both[2:]] == 19 * [0]
    assert all(cell.endswith("(n = 2)") for cell in none[1:] + both[2:])


def test_what_was_not_run_is_said_beside_the_papers_number():
    config = tiny(methods=["A"], **NO_EXTRA, labels=[3])
    lines = [line for line in lines_of(config, made_up(experiment.grid(config))) if line.startswith("|")]
    head, _, *body = [cells_of(line) for line in lines]
    assert head == ["Method", *COLUMNS]
    assert [row[0] for row in body] == ["A", "A+GD+GI"]
    assert body[0][1:6] == 5 * ["-"]
    assert all("(n = 1)" in cell for cell in body[0][6:])
    assert body[1][1:] == ["not run<br>paper 0.651", *9 * ["-"]]


def test_the_table_of_a_sweep(trained):
    records = sweep.records(experiment, trained.config, trained.folder)
    table, text = tables(trained.config, sweep.scores(records))["table1"]
    cells = table.set_index(["row", "column"])
    for method, record in trained.records.items():
        for name, structure in STRUCTURES.items():
            expected = np.mean(record["scores"]["dice"][structure])
            assert cells.loc[(method, f"{name}, 3"), "ours_mean"] == pytest.approx(expected)
    assert "not run<br>paper 0.651" in text("")
