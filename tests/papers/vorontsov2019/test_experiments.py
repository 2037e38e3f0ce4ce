"""Vorontsov et al. 2019 on digits and brains: the grids, what a row trains on, what is measured of it, the tables."""

import contextlib
import json
import math
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from scipy import ndimage
from torch import nn

from fewlabels.data.domains import Domains
from fewlabels.engine import params, sweep
from fewlabels.engine.training import Stopped
from fewlabels.errors import BadInput
from fewlabels.methods.translation import Autoencoding, Translation
from fewlabels.models.translator import VARIANTS
from fewlabels.papers.vorontsov2019 import brats, mnist
from fewlabels.papers.vorontsov2019 import rows as rows
from fewlabels.papers.vorontsov2019 import training as training
from fewlabels.papers.vorontsov2019.mnist import Run
from fewlabels.papers.vorontsov2019.tables import tables
from fewlabels.paths import CHECKOUT

ROOT = CHECKOUT
SMOKE = {
    name: yaml.safe_load((ROOT / f"params/{name}/smoke.yaml").read_text(encoding="utf-8"))
    for name in ("mnist", "brats")
}
TINY = {"width": 2, "discriminator_width": 2, "discriminator_levels": 3, "steps": 4, "steps_segmentation": 4}
TINY |= {"validate_every": 2, "batch_size": 4, "labelled_in_batch": 1, "measured": 6}
DIGITS = {"pairs": [60, 8, 40], "validation_sources": 50, "label_share": 0.08}
ALL = (*rows.METHODS, *rows.ABLATIONS)


def with_variants(methods):
    """Every row as released and one as in the paper; the others' networks and losses differ as that one's do."""
    long = [(m, "paper") for m in methods if m != "Proposed (sep dec)"]
    marks = {each: pytest.mark.long for each in long}
    return [pytest.param(*each, marks=marks.get(each, ())) for each in product(methods, VARIANTS)]


def tiny(**changes):
    return params.check(mnist.Config, SMOKE["mnist"] | TINY | DIGITS | changes, "test")


def tiny_brats(**changes):
    return params.check(brats.Config, SMOKE["brats"] | TINY | changes, "test")


@pytest.fixture(scope="module")
def digits():
    return mnist.load(tiny())


# ---- configs ----


BOTH = [
    ({"methods": ["U-Net"]}, "methods.0: .*found 'U-Net'"),
    ({"methods": ["Proposed", "Proposed"]}, "methods: expected each value once"),
    ({"methods": []}, "methods: expected at least one value, found none"),
    ({"seeds": []}, "seeds: expected at least one value, found none"),
    ({"seeds": [0, 0]}, "seeds: expected each value once, found .0, 0."),
    ({"seeds": [-1]}, "seeds.0: .*greater than or equal to 0, found -1"),
    ({"labelled_in_batch": 5}, "labelled_in_batch: expected at most batch_size, found 5 of 4"),
    ({"labelled_in_batch": -1}, "labelled_in_batch: .*greater than or equal to 0, found -1"),
    ({"variant": "code"}, "variant: .*'released' or 'paper', found 'code'"),
    ({"lambda_cyc": -1.0}, "lambda_cyc: .*greater than or equal to 0, found -1.0"),
    ({"lambda_rec": float("inf")}, "lambda_rec: .*finite number, found inf"),
    ({"learning_rate": 0.0}, "learning_rate: .*greater than 0, found 0.0"),
    ({"learning_rate_discriminator": "1e-3"}, "learning_rate_discriminator: .*YAML reads as text"),
    ({"steps": 0}, "steps: .*greater than 0, found 0"),
    ({"width": 0}, "width: .*greater than 0, found 0"),
    ({"width": 2.0}, "width: .*found 2.0"),
    ({"label_share": 0.0}, "label_share: .*greater than 0, found 0.0"),
    ({"label_share": 1.5}, "label_share: .*less than or equal to 1, found 1.5"),
    ({"precision": "fp16"}, "precision: .*found 'fp16'"),
    ({"lambda_gan": 1.0}, "lambda_gan: .*an unknown key"),
    ({"data": "cifar10"}, "data: .*found 'cifar10'"),
]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *BOTH,
        ({"tasks": []}, "tasks: expected at least one value, found none"),
        ({"tasks": ["128"]}, "tasks.0: .*found '128'"),
        ({"extra_methods": ["Proposed"]}, "extra_methods.0: .*found 'Proposed'"),
        ({"extra_methods": ["Proposed (sum)"], "extra_seeds": [0]}, "extra_tasks: expected .*there are extra_methods"),
        ({"extra_methods": ["Proposed (sum)"], "extra_tasks": ["48-hard"]}, "extra_seeds: .*there are extra_methods"),
        ({"extra_tasks": ["48-hard"]}, "extra_tasks: expected some where there are extra_methods, and only there"),
        ({"extra_seeds": [0]}, "extra_seeds: expected some where there are extra_methods, and only there"),
        ({"large_methods": ["Proposed"]}, "large_seeds: expected some where there are large_methods, and only there"),
        ({"large_seeds": [1]}, "large_seeds: expected some where there are large_methods, and only there"),
        ({"large_methods": ["Proposed (sum)"], "large_seeds": [0]}, "large_methods.0: .*found 'Proposed .sum.'"),
        ({"large_methods": ["Proposed"], "large_seeds": [0], "width": 3}, "width: expected an even .*found 3"),
        ({"pairs": [10, 10]}, "pairs: .*at least 3 items"),
        ({"pairs": [10, 0, 10]}, "pairs.1: .*greater than 0, found 0"),
        ({"segmentation_clutter": "nines"}, "segmentation_clutter: .*'all' or 'labelled', found 'nines'"),
    ],
    ids=str,
)
def test_bad_parameters_of_digits_are_refused_in_one_line(changes, message):
    with pytest.raises(BadInput, match=f"^test: {message}") as error:
        tiny(**changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *BOTH,
        ({"scale": 3}, "scale: .*1, 2 or 4, found 3"),
        ({"tumour_share_of": "slice"}, "tumour_share_of: .*'brain' or 'channels', found 'slice'"),
        ({"scale": 4, "levels": 6}, "levels: expected at most 5 at scale 4, found 6"),
        ({"scale": 1, "levels": 8}, "levels: expected at most 7 at scale 1, found 8"),
        ({"augment": 1}, "augment: .*found 1"),
        ({"tasks": ["brats"]}, "tasks: .*an unknown key"),
    ],
    ids=str,
)
def test_bad_parameters_of_brains_are_refused_in_one_line(changes, message):
    with pytest.raises(BadInput, match=f"^test: {message}") as error:
        tiny_brats(**changes)
    assert "\n" not in str(error.value)


# ---- grids ----


def test_the_grid_is_seed_by_seed_task_by_task():
    config = tiny(
        methods=["Only segmentation", "Proposed"], tasks=["48-simple", "48-hard"], seeds=[1, 0],
        extra_methods=["Proposed (sum)", "Proposed (no cycle)"], extra_tasks=["48-hard"], extra_seeds=[0, 2],
        large_methods=["Proposed (sep dec)"], large_seeds=[1],
    )  # fmt: skip
    of_seed_0 = [("Only segmentation", "48-simple"), ("Proposed", "48-simple"), ("Only segmentation", "48-hard")]
    of_seed_0 += [("Proposed", "48-hard"), ("Proposed (sum)", "48-hard"), ("Proposed (no cycle)", "48-hard")]
    expected = [Run(*each, 0) for each in of_seed_0] + [Run(*each, 1) for each in of_seed_0[:4]]
    expected += [Run("Proposed (sep dec)", "128", 1), *(Run(*each, 2) for each in of_seed_0[4:])]
    runs = mnist.grid(config)
    assert runs == expected
    assert len({run.id for run in runs}) == len(set(runs)) == len(runs)
    assert Run("Proposed (sep dec)", "48-simple", 3).id == "Proposed_sep_dec_48-simple_seed=3"


def test_the_grid_of_brains_is_seed_by_seed():
    config = tiny_brats(methods=["Proposed", "AE baseline"], seeds=[0, 2])
    assert brats.grid(config) == [Run(m, "brats", s) for s in (0, 2) for m in ("Proposed", "AE baseline")]


@pytest.mark.parametrize("experiment", [mnist, brats])
def test_the_identity_of_a_run_does_not_depend_on_the_rest_of_the_grid(experiment):
    make = tiny if experiment is mnist else tiny_brats
    run = experiment.grid(make())[0]
    identity = experiment.identity(make(), run)
    wider = make(methods=[*rows.METHODS], seeds=[0, 1, 2], profile="other")
    assert experiment.identity(wider, run) == identity
    assert json.loads(json.dumps(identity)) == identity
    assert not {"methods", "seeds", "profile", "tasks", "large_seeds"} & set(identity)
    assert {name: identity[name] for name in ("method", "task", "seed")} == vars(run)
    for key, value in {"width": 4, "lambda_cyc": 0.0, "labelled_in_batch": 0, "variant": "paper"}.items():
        assert experiment.identity(make(**{key: value}), run) != identity


# ---- rows ----


def test_what_a_rows_name_stands_for():
    config = tiny(lambda_lat=2.0, weight_decay=0.01, learning_rate=0.002, learning_rate_discriminator=0.003)
    made = {name: mnist.network(config, Run(name, "48-simple", 0)) for name in ALL}
    for name in ("Only segmentation", "AE baseline"):
        assert isinstance(made[name], Autoencoding)
        assert made[name].weights == {"rec": 1.0, "seg": 1.0}  # of the paper, whatever lambda is
        assert (made[name].G.g_rec is None) == (name == "Only segmentation")
        assert [s.kind for s in made[name].G.g_seg.skips] == ["compress"] * 4
    proposed = {name: m for name, m in made.items() if name not in rows.METHODS[:2]}
    kinds = {"Proposed (concat)": "concat", "Proposed (sum)": "sum", "Proposed (no skip)": "none"}
    for name, m in proposed.items():
        assert isinstance(m, Translation)
        assert m.weights == {"adv": 3.0, "rec": 50.0, "lat": 2.0, "cyc": 0.0 if "cycle" in name else 50.0, "seg": 0.01}
        assert (m.G.g_seg is not None) == (name == "Proposed (sep dec)")
        for decoder in (m.G.g_com, m.G.g_res, m.G.g_seg):
            assert decoder is None or {s.kind for s in decoder.skips} == {kinds.get(name, "compress")}
        assert set(m.D) == {"A", "P"}
        assert m.D["A"] is not m.D["P"]
    for m in made.values():
        for name, optimiser in m.optimisers.items():
            group = optimiser.param_groups[0]
            assert group["lr"] == {"G": 0.002, "D": 0.003}[name]
            assert (group["betas"], group["amsgrad"], group["weight_decay"]) == ((0.5, 0.999), True, 0.01)
            expected = m.G.parameters() if name == "G" else m.D.parameters()
            assert {id(p) for p in group["params"]} == {id(p) for p in expected}


def test_networks_are_as_wide_as_the_tables_say():
    config = tiny(width=4, discriminator_width=3)
    small, large = (mnist.network(config, Run("Proposed", task, 0)) for task in ("48-hard", "128"))
    assert small.G.f.first.out_channels == 4
    assert small.G.code == (64, 3, 3)
    assert large.G.f.first.out_channels == 2  # half, and a halving more
    assert large.G.code == (64, 4, 4)
    assert small.G.g_res.mlp is not None
    widths = [c.out_channels for c in small.D["P"].scales[0] if isinstance(c, nn.Conv2d)]
    assert widths == [3, 6, 12, 1]


# ---- batches ----


def made_up(n=12, m=9, labelled=(1, 4, 6, 7, 11)):
    """Images that say which they are; masks too."""
    x_P, x_A = (torch.arange(float(k))[:, None, None, None].expand(k, 1, 3, 3) for k in (n, m))
    masks = torch.stack([torch.tensor([bool(i >> b & 1) for b in range(9)]).view(3, 3) for i in range(n)])
    return Domains(x_P, -1 - x_A, masks, torch.tensor(labelled, dtype=torch.long), torch.arange(n))


def numbers(images):
    return images[:, 0, 0, 0].long().tolist()


def of_masks(masks):
    return (masks.flatten(1).long() << torch.arange(9)).sum(1).tolist()


@pytest.mark.parametrize("k", [1, 2, 4])
def test_batches_begin_with_so_many_labelled_images(k):
    torch.manual_seed(0)
    part = made_up()
    batches = rows.batches(tiny(labelled_in_batch=k), "Proposed", part)
    chosen = []
    for _ in range(10):
        batch = next(batches)
        images, labelled = numbers(batch["presence"]), batch["labelled"].tolist()
        assert len(images) == len(batch["absence"]) == 4
        assert set(images[:k]) <= {1, 4, 6, 7, 11}
        assert labelled[:k] == list(range(k))
        assert labelled == [i for i, image in enumerate(images) if image in {1, 4, 6, 7, 11}]
        assert of_masks(batch["masks"]) == [images[i] for i in labelled]  # each image's own
        assert all(image < 0 for image in numbers(batch["absence"]))
        chosen += images[:k]
    assert sorted(chosen[:5]) == [1, 4, 6, 7, 11]  # each once before any comes again
    assert len(batches.samplers) == 3


def test_batches_as_they_come_have_masks_where_there_are_some():
    torch.manual_seed(0)
    batches = rows.batches(tiny(labelled_in_batch=0), "AE baseline", made_up(labelled=(3, 5)))
    found, everyone = [], []
    for _ in range(3):
        batch = next(batches)
        images = numbers(batch["presence"])
        assert batch["labelled"].tolist() == [i for i, image in enumerate(images) if image in (3, 5)]
        assert of_masks(batch["masks"]) == [image for image in images if image in (3, 5)]
        found, everyone = found + [len(batch["masks"])], everyone + images
    assert sorted(everyone) == list(range(12))
    assert sum(found) == 2
    assert 0 in found
    assert len(batches.samplers) == 2


@pytest.mark.parametrize("k", [0, 2])
def test_segmentation_alone_trains_on_what_has_a_mask(k):
    torch.manual_seed(0)
    batches = rows.batches(tiny(labelled_in_batch=k), "Only segmentation", made_up())
    for _ in range(5):
        batch = next(batches)
        images = numbers(batch["presence"])
        assert set(batch) == {"presence", "masks", "labelled"}
        assert len(images) == 4
        assert set(images) <= {1, 4, 6, 7, 11}
        assert batch["labelled"].tolist() == [0, 1, 2, 3]
        assert of_masks(batch["masks"]) == images


def test_masks_are_augmented_with_their_images():
    seen = []

    def augment(images, masks):
        seen.append(masks)
        return images + 100, None if masks is None else ~masks

    torch.manual_seed(0)
    part = made_up()
    batch = next(rows.batches(tiny(), "Proposed", part, augment))
    images = [image - 100 for image in numbers(batch["presence"])]
    assert of_masks(~batch["masks"]) == [images[i] for i in batch["labelled"].tolist()]
    assert max(numbers(batch["absence"])) < 100
    assert len(seen) == 2
    assert seen[1] is None


@pytest.mark.parametrize(("method", "k"), [("Only segmentation", 0), ("Proposed", 1)])
def test_no_labelled_image_at_all_is_refused(method, k):
    """Labels are drawn with the digits: of few images with few labels it can be none."""
    with pytest.raises(ValueError, match="label"):
        rows.batches(tiny(labelled_in_batch=k), method, made_up(labelled=()))


def test_without_labels_there_are_batches_where_none_are_asked_for():
    batch = next(rows.batches(tiny(labelled_in_batch=0), "Proposed", made_up(labelled=())))
    assert batch["masks"].shape == (0, 3, 3)
    assert len(batch["labelled"]) == 0


# ---- what is measured, on methods that are made up ----


class Made:
    """A method whose translations are given: functions of x_P and x_A."""

    def __init__(self, **made):
        self.made, self.network = made, nn.Identity()

    def autocast(self):
        return contextlib.nullcontext()

    def translate(self, x_P, x_A):
        assert not self.network.training
        found = {"x_PA": x_P, "x_PP": x_P, "D_PA": 0 * x_P, "D_AP": 0 * x_A, "skips_P": []}
        return found | {name: of(x_P, x_A) for name, of in self.made.items()}


def square(n=6, side=24):
    """A bright square of 4 x 4 on a background of 0.1, and its masks."""
    masks = torch.zeros(n, side, side, dtype=torch.bool)
    for i in range(n):
        masks[i, 5 + i : 9 + i, 8:12] = True
    x_P = torch.where(masks[:, None], 0.8, 0.1)
    return Domains(x_P, torch.full_like(x_P, 0.1), masks, torch.arange(n), torch.zeros(n, dtype=torch.long))


def measured(test, n=6, seed=0, left=None, **made):
    return training.of_translation(SimpleNamespace(measured=n), Made(**made), test, "cpu", seed, left)[0]


def shifted(pixels):
    return lambda x, _: (x > 0.5).float().roll(pixels, 3)


def test_what_is_removed_is_measured_inside_the_masks():
    test = square()
    dark, removed = torch.zeros_like(test.presence), lambda **made: measured(test, left=dark, **made)["removed"]
    assert removed() == pytest.approx(0)
    assert removed(x_PA=lambda x, _: torch.where(x > 0.5, 0.2, 9.0)) == pytest.approx(0.75)
    assert removed(x_PA=lambda x, _: torch.zeros_like(x)) == pytest.approx(1)
    assert removed(x_PA=lambda x, _: 2 * x) == pytest.approx(-1)
    assert "removed" not in measured(test)  # how much can be is not known


def test_perfect_translation_removes_all_and_its_residual_is_all_that_can_be_seen():
    test = square()
    left = torch.full_like(test.presence, 0.1)
    left[:, :, :, 10:12] = test.presence[:, :, :, 10:12]  # something covers half of each target
    found = measured(test, left=left, x_PA=lambda *_: left, D_PA=lambda x, _: x - left)
    assert found["removed"] == pytest.approx(1)
    assert found["residual_dice"] == pytest.approx(1)
    assert measured(test, left=left, x_PA=lambda x, _: x)["removed"] == 0
    with_all = measured(test, left=left, D_PA=lambda x, _: 1.0 * (x > 0.5))
    assert with_all["residual_dice"] == pytest.approx((2 * 6 * 8 + 1) / (6 * 16 + 6 * 8 + 1))


def test_a_residual_is_compared_with_the_masks():
    test = square()
    for sign in (1, -1):  # what is put back may be darker
        exact = measured(test, D_PA=lambda x, _, sign=sign: sign * 0.6 * (x > 0.5))
        assert exact["residual_dice"] == pytest.approx(1)
        assert exact["residual_share"] == pytest.approx(1)
    share = 6 * 8 * 8 / (6 * 24 * 24)
    assert exact["mask_share"] == pytest.approx(share)
    flat = measured(test, D_PA=lambda x, _: torch.ones_like(x))
    assert flat["residual_share"] == pytest.approx(share)
    assert flat["residual_dice"] == pytest.approx(1 / (6 * 16 + 1))  # nothing is above its only value
    assert measured(test, D_PA=shifted(2))["residual_share"] == pytest.approx(1)
    assert measured(test, D_PA=shifted(2))["residual_dice"] == pytest.approx((2 * 6 * 8 + 1) / (2 * 6 * 16 + 1))
    assert measured(test, D_PA=shifted(4))["residual_share"] == pytest.approx(0.5)
    assert measured(test, D_PA=shifted(8))["residual_share"] == 0
    noisy = measured(test, D_PA=lambda x, _: 0.5 * (x > 0.5) + 0.1 * torch.linspace(0, 1, 24))
    assert noisy["residual_dice"] == pytest.approx(1, abs=0.15)


def test_energy_counts_squares_of_all_channels():
    test = square()
    two = replace(test, presence=test.presence.expand(-1, 2, -1, -1), absence=test.absence.expand(-1, 2, -1, -1))
    near = training.dilated(test.masks, 2)[:, None]
    weights = torch.tensor([1.0, 3.0])[:, None, None]
    found = measured(two, D_PA=lambda x, _: torch.where(near, weights, 0.5))
    inside, outside = int(near.sum()), int((~near).sum())
    assert found["residual_share"] == pytest.approx(10 * inside / (10 * inside + 0.5 * outside))


def test_diversity_is_the_distance_of_residuals_of_energy_1():
    test = square(4)
    signs = torch.tensor([1.0, 1.0, -1.0, -1.0])[:, None, None, None]
    for scale in (1.0, 0.01):
        found = measured(test, D_AP=lambda _, x, scale=scale: scale * signs * torch.ones_like(x))
        assert found["diversity"] == pytest.approx(8 * 2 / 12)  # 8 of 12 pairs are opposite
    assert measured(test, D_AP=lambda _, x: torch.ones_like(x))["diversity"] == pytest.approx(0)
    torch.manual_seed(0)
    D_AP = torch.randn(4, 1, 24, 24)
    unit = (D_AP.flatten(1) / D_AP.flatten(1).square().mean(1, keepdim=True).sqrt()).numpy()
    expected = np.mean([np.abs(a - b).mean() for i, a in enumerate(unit) for j, b in enumerate(unit) if i != j])
    assert measured(test, D_AP=lambda *_: D_AP)["diversity"] == pytest.approx(expected, rel=1e-4)
    assert measured(test, 1, D_AP=lambda *_: D_AP[:1])["diversity"] == 0
    assert measured(test, D_AP=lambda _, x: 0 * x)["diversity"] == 0


def test_reconstruction_is_l1_and_as_many_images_are_measured_as_asked_for_evenly_spread():
    test = square()
    assert measured(test, x_PP=lambda x, _: x - 0.25)["reconstruction"] == pytest.approx(0.25)
    test = replace(test, presence=test.presence + torch.arange(6.0)[:, None, None, None])
    two = measured(test, 2, x_PP=lambda x, _: torch.full_like(x, len(x)))["reconstruction"]
    assert two == pytest.approx(float((2 - test.presence[[0, 3]]).abs().mean()))
    assert training.spread(torch.empty(6), 4).tolist() == [0, 1, 3, 4]
    assert training.spread(torch.empty(6), 9).tolist() == [*range(6)]


def test_many_images_are_translated_in_pieces_in_their_order():
    x = torch.arange(250.0)[:, None, None, None]
    found = training.translated(Made(u=lambda _, x: torch.randn_like(x)), x, 2 * x, 0)
    assert torch.equal(found["x_PA"], x)
    assert "skips_P" not in found
    again = training.translated(Made(u=lambda _, x: torch.randn_like(x)), x, 2 * x, 0)
    other = training.translated(Made(u=lambda _, x: torch.randn_like(x)), x, 2 * x, 1)
    assert torch.equal(found["u"], again["u"])
    assert not torch.equal(found["u"], other["u"])


def test_looking_at_translations_leaves_the_random_numbers_of_training_alone():
    x = torch.arange(3.0)[:, None, None, None]
    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    training.translated(Made(u=lambda _, x: torch.randn_like(x)), x, x, 0)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(("n", "m"), [(30, 20), (120, 210), (210, 90)])
def test_domains_of_unequal_numbers_are_translated(n, m):
    """Of brains there are more half-slices without a tumour, or fewer."""
    x_P, x_A = (torch.arange(float(k))[:, None, None, None] for k in (n, m))
    found = training.translated(Made(x_AP=lambda _, x: x), x_P, x_A, 0)
    assert torch.equal(found["x_PA"], x_P)
    assert torch.equal(found["x_AP"], x_A)


def test_contrast_is_of_a_lesion_and_the_brain_around_it():
    masks = torch.zeros(2, 40, 40, dtype=torch.bool)
    masks[0, 15:20, 15:20], masks[1, 20:22, 25:30] = True, True
    around = torch.stack([torch.tensor(ndimage.binary_dilation(m, np.ones((11, 11)))) for m in masks]) & ~masks
    brains = torch.full((2, 2, 40, 40), 9.0)  # far from the lesion
    brains[:, 0][around], brains[:, 1][around] = 0.5, -1.0
    brains[:, 0][masks], brains[:, 1][masks] = 2.0, -1.25
    brains[:, :, :, :12] = 0  # no brain, though near
    images = torch.where(brains == 0, 100.0, brains)
    assert training.contrast(images, masks, brains) == pytest.approx([1.5, 0.25])
    assert training.contrast(-images, masks, brains) == pytest.approx([1.5, 0.25])
    one_zero = brains.clone()
    one_zero[:, 0] = 0  # the brain is where any sequence is not 0
    assert training.contrast(images, masks, one_zero) == pytest.approx([1.5, 0.25])


@pytest.mark.parametrize("pixels", [0, 1, 2, 5])
def test_dilation_is_scipys(pixels):
    masks = np.random.default_rng(0).random((3, 20, 17)) > 0.97
    size = 2 * pixels + 1
    expected = np.stack([ndimage.binary_dilation(m, np.ones((size, size))) for m in masks])
    assert np.array_equal(training.dilated(torch.tensor(masks), pixels).numpy(), expected)


def test_quantiles_begin_with_the_smallest_value():
    x = torch.tensor(np.random.default_rng(0).permutation(101.0 * np.arange(101) ** 2).reshape(1, 101))
    assert training.quantiles(x, 11) == [101.0 * (10 * i) ** 2 for i in range(11)]
    assert training.quantiles(torch.tensor([[3.0, 1.0]]), 4) == [1, 1, 1, 3]


def test_segmentation_is_scored_as_a_whole_and_image_by_image():
    rng = np.random.default_rng(0)
    p, y = rng.random((5, 6, 7)).astype(np.float32), rng.random((5, 6, 7)) > 0.6
    y[3] = False
    p[3] /= 2.5  # nothing there, nothing found
    method = SimpleNamespace(predict=lambda images: torch.tensor(p)[:, None])
    test = Domains(torch.zeros(5, 1, 6, 7), torch.zeros(1, 1, 6, 7), torch.tensor(y), torch.arange(5), torch.arange(5))
    found, probabilities = training.of_segmentation(method, test, "cpu")
    hard = p > 0.5
    of_images = [2 * (a & b).sum() / (a.sum() + b.sum()) if (a | b).any() else 1 for a, b in zip(hard, y)]
    assert found == {
        "dice_global": pytest.approx((2 * p[y].sum(dtype=float) + 1) / (p.sum(dtype=float) + y.sum() + 1)),
        "dice_thresholded": pytest.approx((2 * (hard & y).sum() + 1) / (hard.sum() + y.sum() + 1)),
        "dice_per_image": pytest.approx(np.mean(of_images)),
    }
    assert np.array_equal(probabilities.numpy(), p)


def test_what_a_history_says():
    history = [{"step": s, "validation": v} for s, v in ((2, 10.0), (4, 36.5), (6, 50.0), (8, 40.0))]
    part = made_up()
    found = training.of_training(tiny(steps=8), Run("Proposed", "48-hard", 0), history, part, 16)
    assert found == {"validation_dice": 0.5, "steps_to_90": 4, "steps": 8, "width": 16, "epochs": 8 * 4 / 12}
    only = training.of_training(tiny(steps=8), Run("Only segmentation", "48-hard", 0), history, part, 16)
    assert only["epochs"] == 8 * 4 / 5


def test_the_entropy_of_digits():
    assert mnist.entropy(np.repeat(np.arange(10), 3)) == pytest.approx(math.log(10))
    assert mnist.entropy(np.full(7, 4)) == 0
    assert mnist.entropy(np.array([0, 0, 0, 9])) == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))


@pytest.mark.parametrize("side", [48, 128])
def test_digits_in_residuals_are_told_wherever_they_are(side, digits):
    """Real digits in an empty canvas, on dark smears, which are negative, and with some noise."""
    rng = np.random.default_rng(0)
    chosen, canvas = rng.choice(len(digits), 100, replace=False), torch.zeros(100, 1, side, side)
    for image, i in zip(canvas, chosen):
        row, column = rng.integers(0, side - 28, 2)
        image[:, row : row + 28, column : column + 28] = digits.images[i]
    truth = digits.labels[chosen].numpy()
    noise = torch.tensor(rng.normal(0, 0.05, canvas.shape), dtype=torch.float32)
    for residuals in (canvas, 0.1 * canvas, canvas + noise, torch.where(canvas > 0, canvas, -0.5)):
        classes = mnist.classes_of(residuals, digits)
        assert (classes == truth).mean() > 0.85
        assert mnist.entropy(classes) > 2.1
    zeros = mnist.classes_of(canvas[truth == 0], digits)
    assert mnist.entropy(zeros) < 0.8


def test_residuals_of_nothing_have_a_class_too(digits):
    assert set(mnist.classes_of(torch.zeros(3, 1, 48, 48), digits)) <= set(range(10))


# ---- digits, trained ----


def test_the_parts_are_those_of_the_config(digits, tmp_path):
    config = tiny()
    parts = mnist.parts_of(config, "48-simple", digits, tmp_path)
    assert [len(parts[name].presence) for name in ("train", "validation", "test")] == [60, 8, 40]
    assert set(parts["train"].kinds[parts["train"].labelled].tolist()) == {9}
    dithered = mnist.parts_of(tiny(variant="paper"), "48-simple", digits, tmp_path)
    assert not torch.equal(dithered["train"].presence, parts["train"].presence)
    assert torch.equal(dithered["train"].masks, parts["train"].masks)
    nines = mnist.parts_of(config, "48-simple", digits, tmp_path, "labelled")
    assert set(nines["train"].kinds.tolist()) == {9}
    assert len(list(tmp_path.iterdir())) == 3


SEGMENTATION = {"dice_global", "dice_thresholded", "dice_per_image"}
HISTORY = {"validation_dice", "steps_to_90", "steps", "width", "epochs"}
TRANSLATION = {"removed", "residual_dice", "residual_share", "mask_share", "reconstruction", "diversity"}
TRANSLATION |= {"entropy", "zeros"}


@pytest.mark.parametrize(("method", "variant"), with_variants(ALL))
def test_every_row_runs_and_its_scores_are_its_predictions(method, variant, digits, tmp_path):
    config, run = tiny(variant=variant), Run(method, "48-simple", 0)
    result = mnist.run(config, run, digits, tmp_path / "a")
    names = SEGMENTATION | HISTORY | (set() if method in rows.METHODS[:2] else TRANSLATION)
    assert set(result["overall"]) == names
    assert all(math.isfinite(value) for value in result["overall"].values())
    assert result["subjects"] == ["all"]
    assert [entry["step"] for entry in result["history"]] == [2, 4]
    expected = {"loss_rec", "loss_seg"}
    if method not in rows.METHODS[:2]:
        expected |= {"loss_lat", "loss_adv", "loss_D"} | (set() if "cycle" in method else {"loss_cyc"})
    assert set(result["history"][0]) == {"step", "validation"} | expected

    make = lambda: mnist.network(config, run)  # noqa: E731
    parts = mnist.parts_of(config, "48-simple", digits, tmp_path / "generated")
    trained, _ = training.train(config, run, make, parts, tmp_path / "a")  # is done: the stored network
    test = parts["test"]
    p, y = trained.predict(test.presence)[:, 0].double().numpy(), test.masks.numpy()
    dice = lambda here: (2 * p[here][y[here]].sum() + 1) / (p[here].sum() + y[here].sum() + 1)  # noqa: E731
    kinds = test.kinds.numpy()
    assert result["overall"]["dice_global"] == pytest.approx(dice(kinds >= 0), rel=1e-6)
    by_digit = result["scores"]["dice_global"]
    assert set(by_digit) == {*(f"digit {d}" for d in set(kinds.tolist())), "digits 0-8"}
    for name, (value,) in by_digit.items():
        assert value == pytest.approx(dice(kinds < 9 if name == "digits 0-8" else kinds == int(name[-1])), rel=1e-6)
    best = max(entry["validation"] for entry in result["history"]) / 100
    assert result["overall"]["validation_dice"] == pytest.approx(best)
    validation = parts["validation"]
    p, y = trained.predict(validation.presence)[:, 0].double().numpy(), validation.masks.numpy()
    assert best == pytest.approx((2 * p[y].sum() + 1) / (p.sum() + y.sum() + 1), rel=1e-6)  # the best is kept


@pytest.mark.parametrize("method", ["Only segmentation", "AE baseline", "Proposed", "Proposed (sep dec)"])
def test_a_run_stopped_and_resumed_ends_in_the_same_bits(method, digits, tmp_path):
    config, run = tiny(labelled_in_batch=0), Run(method, "48-hard", 1)
    through = mnist.run(config, run, digits, tmp_path / "through")
    torch.rand(7)  # whatever happened before must not matter
    with pytest.raises(Stopped):
        mnist.run(config, run, digits, tmp_path / "halted", stop=lambda: True)
    torch.rand(3)
    resumed = mnist.run(config, run, digits, tmp_path / "halted")
    assert json.dumps(resumed) == json.dumps(through)
    assert json.dumps(mnist.run(config, run, digits, tmp_path / "halted")) == json.dumps(through)


def test_seeds_differ_and_segmentation_alone_has_steps_of_its_own(digits, tmp_path):
    config = tiny(steps_segmentation=2, validate_every=1)
    only = [mnist.run(config, Run("Only segmentation", "48-simple", seed), digits, tmp_path) for seed in (0, 1)]
    assert [entry["step"] for entry in only[0]["history"]] == [1, 2]
    assert only[0]["overall"]["dice_global"] != only[1]["overall"]["dice_global"]
    nines = mnist.run(
        tiny(segmentation_clutter="labelled"), Run("Only segmentation", "48-simple", 0), digits, tmp_path / "b"
    )
    assert nines["overall"]["steps"] == 4


def test_every_row_chooses_among_as_many_networks(digits, tmp_path):
    config = tiny(steps=4, validate_every=2, steps_segmentation=9)  # 2 of the other rows
    result = mnist.run(config, Run("Only segmentation", "48-simple", 0), digits, tmp_path)
    assert [entry["step"] for entry in result["history"]] == [5, 9]
    config = tiny(steps=9, validate_every=3, steps_segmentation=2)
    result = mnist.run(config, Run("Only segmentation", "48-simple", 0), digits, tmp_path / "fewer")
    assert [entry["step"] for entry in result["history"]] == [1, 2]


def test_images_of_128_take_half_the_width(digits, tmp_path):
    config = tiny(steps=1, batch_size=2, pairs=[40, 2, 3], measured=2, large_methods=["Proposed"], large_seeds=[0])
    result = mnist.run(config, Run("Proposed", "128", 0), digits, tmp_path)
    assert result["overall"]["width"] == 1
    assert math.isfinite(result["overall"]["dice_global"])


def test_no_test_image_is_trained_or_chosen_by(digits, tmp_path):
    """The images of the test part, replaced by NaN, change no weight."""
    config, run = tiny(), Run("Proposed", "48-simple", 0)
    parts = mnist.parts_of(config, "48-simple", digits, tmp_path)
    test = parts["test"]
    spoiled = parts | {"test": replace(test, presence=test.presence * torch.nan, absence=test.absence * torch.nan)}
    make = lambda: mnist.network(config, run)  # noqa: E731
    a, b = (
        training.train(config, run, make, each, tmp_path / name)[0].network.state_dict()
        for name, each in (("a", parts), ("b", spoiled))
    )
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_masks_of_unlabelled_images_are_never_read(digits, tmp_path):
    config = tiny(labelled_in_batch=0)
    parts = mnist.parts_of(config, "48-simple", digits, tmp_path)
    train, states = parts["train"], []
    masks = ~train.masks
    masks[train.labelled] = train.masks[train.labelled]
    for method in ("Only segmentation", "AE baseline", "Proposed"):
        run = Run(method, "48-simple", 0)
        make = lambda run=run: mnist.network(config, run)  # noqa: E731
        for name, part in (("a", train), ("b", replace(train, masks=masks))):
            trained, _ = training.train(config, run, make, parts | {"train": part}, tmp_path / method / name)
            states.append(trained.network.state_dict())
        a, b = states[-2:]
        assert all(torch.equal(a[key], b[key]) for key in a)


# ---- brains, trained ----


@pytest.fixture(scope="module")
def brains():
    return brats.load(tiny_brats())


def test_patients_are_in_one_part_each_and_some_have_masks(brains):
    parts = brats.parts_of(tiny_brats(label_share=0.2), brains)
    patients = [set(part.kinds.tolist()) for part in parts.values()]
    assert len(patients) == 3
    assert sum(map(len, patients)) == len(set().union(*patients)) == 24
    train = parts["train"]
    assert 0.2 <= len(train.labelled) / len(train.presence) < 0.5
    of_labelled = set(train.kinds[train.labelled].tolist())
    assert not of_labelled & set(np.delete(train.kinds.numpy(), train.labelled.numpy()).tolist())  # whole patients
    for part in parts.values():
        assert part.presence.shape[1:] == part.absence.shape[1:] == (4, 60, 30)
        assert bool(part.masks.flatten(1).any(1).all())


@pytest.mark.parametrize("augment", [True, False])
def test_images_are_clipped_but_before_augmentation(augment, brains):
    bright = replace(brains, images=3 * brains.images)
    kept = bright.images.clone()
    parts = brats.parts_of(tiny_brats(augment=augment), bright)
    for name, part in parts.items():
        for images in (part.presence, part.absence):
            assert (float(images.abs().max()) > 1) == (name == "train" and augment)
    assert torch.equal(bright.images, kept)
    if augment:
        x, y = brats.augmented(parts["train"].presence[:4], parts["train"].masks[:4])
        assert float(x.abs().max()) <= 1
        assert y.dtype == torch.bool
        x, nothing = brats.augmented(parts["train"].absence[:4], None)
        assert float(x.abs().max()) <= 1
        assert nothing is None


@pytest.mark.parametrize(("method", "variant"), with_variants(rows.METHODS))
def test_every_row_runs_on_brains(method, variant, brains, tmp_path):
    config, run = tiny_brats(variant=variant), Run(method, "brats", 0)
    result = brats.run(config, run, brains, tmp_path)
    proposed = "Proposed" in method
    translated = TRANSLATION - {"removed", "entropy", "zeros"} if proposed else set()
    names = SEGMENTATION | HISTORY | {"patients"} | translated
    assert set(result["overall"]) == names
    assert all(math.isfinite(value) for value in result["overall"].values())
    assert result["overall"]["patients"] == 20
    assert result["overall"]["width"] == 2
    assert result["subjects"] == ["all"]
    assert set(result["scores"]) == ({"contrast_before", "contrast_after"} if proposed else set())
    make = lambda: brats.network(config, run, brains)  # noqa: E731
    parts = brats.parts_of(config, brains)
    trained, _ = training.train(config, run, make, parts, tmp_path)
    test = parts["test"]
    p, y = trained.predict(test.presence)[:, 0].double().numpy(), test.masks.numpy()
    assert result["overall"]["dice_global"] == pytest.approx((2 * p[y].sum() + 1) / (p.sum() + y.sum() + 1), rel=1e-6)
    if not proposed:
        return
    assert trained.G.g_res.mlp is None  # norms of their own, not of the code
    assert (trained.G.g_seg is not None) == ("sep" in method)
    at = training.spread(test.presence, config.measured)
    x, y = test.presence[at].numpy(), test.masks[at].numpy()
    near = np.stack([ndimage.binary_dilation(m, np.ones((11, 11))) for m in y]) & ~y & (x != 0).any(1)
    before = [abs(x[:, c][y].mean() - x[:, c][near].mean()) for c in range(4)]
    healthy = test.absence[training.spread(test.absence, config.measured)]
    made = training.translated(trained, test.presence[at], healthy, 0)["x_PA"].numpy()
    after = [abs(made[:, c][y].mean() - made[:, c][near].mean()) for c in range(4)]
    for name, values in (("contrast_before", before), ("contrast_after", after)):
        assert list(result["scores"][name]) == ["flair", "t1ce", "t1", "t2"]
        assert [value for (value,) in result["scores"][name].values()] == pytest.approx(values, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("method", ["Only segmentation", "Proposed"])
def test_a_run_on_brains_stopped_and_resumed_ends_in_the_same_bits(method, brains, tmp_path):
    config, run = tiny_brats(), Run(method, "brats", 0)
    through = brats.run(config, run, brains, tmp_path / "through")
    with pytest.raises(Stopped):
        brats.run(config, run, brains, tmp_path / "halted", stop=lambda: True)
    assert json.dumps(brats.run(config, run, brains, tmp_path / "halted")) == json.dumps(through)


def test_patients_without_healthy_half_slices_are_named_where_they_are_needed(brains):
    split = brats.brats.splits(brains, tiny_brats().label_share)
    for part in ("test", "validation"):
        ids = set(getattr(split, part))
        keep = [i for i, name in enumerate(brains.ids) if name not in ids or brains.labels[i].any()]
        without = replace(
            brains, images=brains.images[keep], labels=brains.labels[keep],
            ids=tuple(brains.ids[i] for i in keep), groups=tuple(brains.groups[i] for i in keep),
        )  # fmt: skip
        if part == "validation":
            assert len(brats.parts_of(tiny_brats(), without)["validation"].absence) == 0
            continue
        with pytest.raises(BadInput, match="test, half-slices of .*: expected some without a tumour, found none") as e:
            brats.parts_of(tiny_brats(), without)
        assert all(name.split("/")[0] in str(e.value) for name in ids)


def test_a_copy_with_two_sequences_runs(brains, tmp_path):
    meta = brains.meta | {"sequences": brains.meta["sequences"][:2]}
    two = replace(brains, images=brains.images[:, :2].contiguous(), meta=meta)
    result = brats.run(tiny_brats(augment=False, labelled_in_batch=0), Run("Proposed", "brats", 0), two, tmp_path)
    assert list(result["scores"]["contrast_after"]) == ["flair", "t1ce"]


def test_scores_of_brains_are_a_sweeps(brains, tmp_path):
    config = tiny_brats(methods=["Proposed"], steps=2)
    assert sweep.sweep(brats, config, brains, tmp_path) == {}
    scores = sweep.scores(sweep.records(brats, config, tmp_path))
    assert set(scores["task"]) == {"brats"}
    assert set(scores[scores["metric"] == "contrast_after"]["structure"]) == {"flair", "t1ce", "t1", "t2"}


# ---- tables ----


def scores_of(values):
    """Dice of runs `{(method, task, seed): value}`; of single digits another value, which no table shows."""
    lines = [(*run, "all", "all", "dice_global", value) for run, value in values.items()]
    lines += [(*run, "all", "digit 3", "dice_global", 0.01) for run in values]
    lines += [(*run, "all", "all", "dice_thresholded", 0.02) for run in values]
    return pd.DataFrame(lines, columns=["method", "task", "seed", "subject", "structure", "metric", "value"])


def test_table_1_is_beside_the_papers():
    values = {("Proposed", "48-hard", s): v for s, v in enumerate((0.5, 0.6, 0.7))}
    values |= {("Proposed", "48-simple", 0): 0.75, ("AE baseline", "48-hard", 0): 0.4, ("Proposed", "128", 0): 0.3}
    values |= {("Proposed (concat)", "48-hard", 0): 0.45, ("Proposed (no skip)", "48-hard", 0): 0.35}
    values |= {("Proposed (no cycle)", "48-hard", 0): 0.99, ("Proposed (concat)", "48-simple", 0): 0.98}
    found = tables(tiny(), scores_of(values))
    assert set(found) == {"table1a", "table1b"}
    a = found["table1a"][0].set_index(["row", "column"])
    assert a.index.get_level_values("row").unique().tolist() == [*rows.METHODS]
    assert a.index.get_level_values("column").unique().tolist() == ["48-simple", "48-hard", "128"]
    assert a.loc[("Proposed", "48-hard"), "ours_mean"] == pytest.approx(0.6)
    assert a.loc[("Proposed", "48-hard"), "ours_sd"] == pytest.approx(0.1)
    assert a.loc[("Proposed", "48-hard"), "ours_n"] == 3
    printed = {
        "Only segmentation": (0.61, 0.36, 0.15),
        "AE baseline": (0.75, 0.49, 0.57),
        "Proposed": (0.79, 0.57, 0.65),
        "Proposed (sep dec)": (0.78, 0.50, 0.70),
    }
    for row, means in printed.items():
        assert a.loc[row, "paper_mean"].tolist() == pytest.approx(means)
    b = found["table1b"][0].set_index("row")
    assert b["paper_mean"].to_dict() == pytest.approx({"Compress": 0.57, "Concat": 0.57, "Sum": 0.56, "No skip": 0.42})
    assert b.loc["Compress", "ours_mean"] == pytest.approx(0.6)
    assert b.loc["Concat", "ours_mean"] == pytest.approx(0.45)
    assert pd.isna(b.loc["Sum", "ours_mean"])
    text = found["table1a"][1]("Data: x.")
    assert "| Method | 48-simple | 48-hard | 128 |" in text
    assert "**0.600 ± 0.100** (n = 3)<br>paper 0.570 ± 0.000" in text
    assert "Data: x." in text
    assert "**0.350** (n = 1)<br>paper 0.420 ± 0.010" in found["table1b"][1]("")
    assert "0.99" not in text + found["table1b"][1]("")


def test_brains_have_a_column_of_their_own_and_no_ablation():
    found = tables(tiny_brats(), scores_of({("AE baseline", "brats", 0): 0.5}))
    assert set(found) == {"table1a"}
    a = found["table1a"][0].set_index(["row", "column"])
    assert a["paper_mean"].tolist() == pytest.approx([0.69, 0.73, 0.79, 0.77])
    assert "| Method | brats |" in found["table1a"][1]("")


def test_ablations_on_another_task_leave_table_1b_unrun():
    b = tables(tiny(), scores_of({("Proposed (sum)", "48-simple", 0): 0.5}))["table1b"]
    assert b[0]["ours_mean"].isna().all()
    assert len(b[0]) == 4
    assert b[1]("").count("not run") == 4


def test_a_sweep_of_digits_and_its_report(digits, tmp_path):
    from fewlabels.engine import report

    config = tiny(methods=["Only segmentation", "Proposed"], steps=2, steps_segmentation=2)
    assert sweep.sweep(mnist, config, digits, tmp_path) == {}
    scores, found, claims = report.write(mnist, config, digits, tmp_path)
    assert set(found) == {"table1a"}
    assert len(claims) == 18
    assert set(claims["verdict"]) <= {"not run", "inconclusive", "supported", "contradicted"}
    proposed = scores[(scores["method"] == "Proposed") & (scores["structure"] == "all")]
    assert set(proposed["metric"]) == SEGMENTATION | HISTORY | TRANSLATION
    assert set(scores["task"]) == {"48-simple"}


def test_the_last_quantile_is_the_largest_value_however_many_there_are():
    """In float32 the last index of more than 2^24 values is rounded."""
    x = torch.zeros(2**24 + 2, dtype=torch.uint8)
    x[5] = 7
    assert training.quantiles(x, 3) == [0, 0, 7]
