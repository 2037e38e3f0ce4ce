"""Which networks are trained and what each may see: the grid, what names a run, Table 2's protocol, amplitudes of T."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from fewlabels.data import jsrt
from fewlabels.engine import params, report, sweep, training
from fewlabels.papers.bortsova2019 import jsrt as experiment
from fewlabels.papers.bortsova2019.jsrt import Run
from fewlabels.paths import CHECKOUT
from fewlabels.warps import gaussian_field

ROOT = CHECKOUT
STORED = sorted((ROOT / "results/jsrt").glob("jsrt*-*/runs"))  # of real data: these are committed


def shipped(name):
    return params.load(ROOT / "params/jsrt" / f"{name}.yaml")[1]


# ---- the grid ----


def test_the_grid_of_lite():
    """Table 1 first: 19 cells and two of the ablation. Then Table 2, without SemiTC at all labels."""
    config = shipped("lite")
    runs = experiment.grid(config)
    assert [run.validation for run in runs] == ["all"] * 105 + ["matched"] * 25
    assert {run.amplitude for run in runs} == {None}
    assert len({run.id for run in runs}) == len(runs)
    cells = {(run.method, run.labels) for run in runs[105:]}
    assert cells == {(m, n) for m in ("Baseline", "SemiTC", "SemiTC+") for n in (10, 100)} - {("SemiTC", 100)}
    assert ("SemiTC", 100) not in {(run.method, run.labels) for run in runs}
    alone = experiment.grid(config.model_copy(update={"matched_validation_labels": []}))
    assert runs[:105] == alone


def test_the_grid_of_amplitude():
    runs = experiment.grid(shipped("amplitude"))
    assert len({run.id for run in runs}) == len(runs) == 30
    places = {(run.method, run.labels, run.split, run.seed, run.validation) for run in runs}
    assert len(places) == 6
    for place in places:
        of = [r.amplitude for r in runs if (r.method, r.labels, r.split, r.seed, r.validation) == place]
        assert of == [0.35, 1.0, 2.0, 4.0, 7.0]


@pytest.mark.parametrize(
    ("run", "name"),
    [
        (Run("SemiTC+", 10, 1, 0), "SemiTC+_labels=10_split=1_seed=0"),
        (Run("SemiTC (stop-gradient)", 5, 0, 2), "SemiTC_(stop-gradient)_labels=5_split=0_seed=2"),
        (Run("Baseline", 5, 0, 0, amplitude=0.35), "Baseline_labels=5_split=0_seed=0_amplitude=0.35"),
        (Run("Baseline", 5, 0, 0, validation="matched"), "Baseline_labels=5_split=0_seed=0_validation=matched"),
    ],
)
def test_names_of_runs(run, name):
    assert run.id == name


def test_notebooks(tiny):
    name = "bortsova2019_{}".format
    assert experiment.notebooks(tiny()) == [name("table1")]
    assert experiment.notebooks(tiny(matched_validation_labels=[2])) == [name("table1"), name("table2")]
    assert experiment.notebooks(tiny(amplitude=[1.0, 2.0])) == [name("amplitude")]


# ---- what decides the numbers of a run ----


@pytest.mark.parametrize("folder", STORED, ids=lambda folder: folder.parent.name)
def test_runs_that_are_stored_stay_valid(folder):
    """Also those of before there were amplitudes and matched validation: the same file name, the same config."""
    config = shipped(folder.parent.name.rsplit("-", 1)[1])
    runs = {f"{run.id}.json": run for run in experiment.grid(config)}
    found = [path for path in sorted(folder.glob("*.json")) if not path.name.startswith(".")]
    assert found
    for path in found:
        stored = json.loads(path.read_text(encoding="utf-8"))["config"]
        assert stored == experiment.identity(config, runs[path.name]), path.name


def test_there_are_stored_runs_of_lite():
    assert any(folder.parent.name.endswith("-lite") for folder in STORED)


def test_identity_of_the_new_axes(tiny):
    one, several = tiny(amplitude=[4.0]), tiny(amplitude=[1.0, 4.0])
    old = experiment.identity(one, Run("Baseline", 2, 0, 0))
    assert "validation" not in old
    assert old["amplitude"] == 4.0
    matched = experiment.identity(one, Run("Baseline", 2, 0, 0, validation="matched"))
    assert matched == old | {"validation": "matched"}
    assert experiment.identity(several, Run("Baseline", 2, 0, 0, amplitude=1.0)) == old | {"amplitude": 1.0}
    larger = tiny(amplitude=[4.0], labels=[2, 4], splits=[0, 1], matched_validation_labels=[2], profile="other")
    assert experiment.identity(larger, Run("Baseline", 2, 0, 0)) == old  # the grid's lists are not of a run


# ---- what a run may see ----


@pytest.fixture
def seen(monkeypatch, cohort, tmp_path):
    """seen(config, run): ids of the labelled, the unlabelled and the validation images that its stage 2 is given."""
    name_of = {image.numpy().tobytes(): name for name, image in zip(cohort.ids, cohort.images, strict=True)}

    def names(images):
        return {name_of[image.numpy().tobytes()] for image in images}

    def look(config, run):
        stages = []

        def fit(method, batches, validate, **options):
            batches = [next(batches) for _ in range(40)]
            labelled = set().union(*(names(b["images"][: len(b["labels"])]) for b in batches))
            unlabelled = set().union(*(names(b["images"][len(b["labels"]) :]) for b in batches))
            predict, asked = method.predict, []
            method.predict = lambda images: asked.append(names(images)) or predict(images)
            validate()
            stages.append((labelled, unlabelled, *asked))
            return []

        monkeypatch.setattr(training, "fit", fit)
        experiment.train(config, run, cohort, tmp_path)
        (first, none, validation), second = stages
        assert (first, none, validation) == (second[0], set(), second[2])  # stage 1: the same, nothing unlabelled
        return second

    return look


@pytest.mark.parametrize("labels", [1, 2, 4])
@pytest.mark.parametrize("method", ["Baseline", "SemiTC", "SemiTC+"])
def test_matched_validation(seen, tiny, cohort, method, labels):
    """As many validation images as labelled ones, of each the first. SemiTC+ sees all of them, but without labels."""
    config = tiny(train_images=5, labels=[labels])
    by_number = {0: [], 1: []}
    for name in cohort.ids:
        by_number[int(name[-3:]) % 2].append(name)
    odd = by_number[1]
    order = [odd[i] for i in np.random.default_rng(0).permutation(len(odd))]  # split 0: the even ones are tests
    training, validation = order[:5], order[5:]
    assert len(validation) == 3
    unlabelled = {
        "Baseline": set(),
        "SemiTC": {*training[labels:]},
        "SemiTC+": {*training[labels:], *validation, *by_number[0]},
    }[method]
    matched = seen(config, Run(method, labels, 0, 0, validation="matched"))
    assert matched == ({*training[:labels]}, unlabelled, {*validation[:labels]})  # at 4: the 3 that there are
    assert seen(config, Run(method, labels, 0, 0)) == (*matched[:2], {*validation})


@pytest.fixture(scope="module")
def matched(cohort, tmp_path_factory):
    """(config, folder) of a really trained sweep: Table 1 with one run, Table 2 with three."""
    from conftest import tiny_values

    config = experiment.Config(
        **tiny_values(matched_validation_labels=[2], train_images=4, methods=["Baseline"], steps_finetune=8)
    )
    folder = tmp_path_factory.mktemp("matched")
    assert sweep.sweep(experiment, config, cohort, folder, device="cpu") == {}
    report.write(experiment, config, cohort, folder)
    return config, folder


def miou(predicted, truth):
    """Mean over structures, then over images, in points."""
    values = []
    for a, b in zip(predicted.numpy(), truth.numpy(), strict=True):
        unions = [((a == c) | (b == c)).sum() for c in range(1, 6)]
        values += [((a == c) & (b == c)).sum() / u if u else 1 for c, u in zip(range(1, 6), unions, strict=True)]
    return 100 * np.mean(values)


def test_the_validation_score_is_of_the_images_that_were_to_choose(matched, cohort):
    config, folder = matched
    records = sweep.records(experiment, config, folder)
    assert len(records) == 4
    for run, record in records.items():
        method = experiment.build(config)
        method.network.load_state_dict(sweep.network_of(record, folder))
        odd = [name for name in cohort.ids if int(name[-3:]) % 2]
        validation = [odd[i] for i in np.random.default_rng(0).permutation(8)][4:]
        index = cohort.index(validation[:2] if run.validation == "matched" else validation)
        expected = miou(method.predict(cohort.images[index]).argmax(1), cohort.labels[index])
        assert expected > 4  # it has learned something
        assert record["overall"]["validation_miou"] == pytest.approx(expected, abs=1e-3)
        assert record["overall"]["validation_miou"] == max(entry["validation"] for entry in record["history"])


def test_what_the_folder_of_two_tables_holds(matched):
    config, folder = matched
    names = {f"table{k}.{suffix}" for k in (1, 2) for suffix in ("csv", "md")}
    assert {path.name for path in folder.glob("table*")} == names
    assert {path.stem for path in (folder / "runs").iterdir()} == {run.id for run in experiment.grid(config)}
    assert "4 of 4 runs" in (folder / "table2.md").read_text()
    assert "| SemiTC (2 + at most 2) | **" in (folder / "table2.md").read_text()
    assert "| SemiTC (2 + at most 2) | **" not in (folder / "table1.md").read_text()


def test_lungs_of_a_run_are_scored_on_its_own_images(matched, cohort):
    """The fields that come with the cohort, in the order of the subjects."""
    config, folder = matched
    run, record = next(iter(sweep.records(experiment, config, folder).items()))
    method = experiment.build(config)
    method.network.load_state_dict(sweep.network_of(record, folder))
    index = cohort.index(record["subjects"])
    predicted = method.predict(cohort.images[index]).argmax(1)
    expected = experiment.evaluate(predicted, cohort.labels[index], cohort.meta["lungs"][index], cohort.spacing_mm)
    assert record["scores"] == sweep._rounded(expected)


# ---- amplitudes ----


@pytest.mark.filterwarnings("ignore:the field folds")
def test_a_run_of_several_amplitudes_is_that_of_its_own(tiny, cohort, tmp_path):
    short = {"steps_supervised": 12, "steps_finetune": 4}
    several = tiny(amplitude=[1.0, 12.0], **short)
    results = {}
    for amplitude in several.amplitude:
        run = Run("Baseline", 2, 0, 0, amplitude=amplitude)
        found = experiment.run(several, run, cohort, tmp_path / f"several-{amplitude}")
        one = tiny(amplitude=[amplitude], **short)
        alone = experiment.run(one, Run("Baseline", 2, 0, 0), cohort, tmp_path / f"one-{amplitude}")
        results[amplitude] = sweep._rounded(found)  # NaN is not equal to itself
        assert sweep._rounded(alone) == results[amplitude]
    assert results[1.0]["scores"] != results[12.0]["scores"]
    assert results[1.0]["overall"]["folding"] == 0 < results[12.0]["overall"]["folding"]


def test_the_papers_transforms():
    """U(-1000, 1000) under a Gaussian of 100 pixels at 512; smaller, the same share of the side."""
    assert experiment.transforms(512, 0) == (1000, 100)
    rms = {}
    for size in (512, 128):
        field = gaussian_field(
            8, (size, size), *experiment.transforms(size, 0), generator=torch.Generator().manual_seed(1)
        )
        rms[size] = float(field.square().mean().sqrt()) / size
    assert rms[512] == pytest.approx(rms[128], rel=0.1)
    assert 0.003 < rms[512] < 0.005


@pytest.mark.parametrize("amplitude", [0.35, 4.0])
@pytest.mark.parametrize("size", [32, 64])
def test_amplitude_is_the_rms_of_the_fields_in_percent_of_the_side(size, amplitude):
    drawn = torch.Generator().manual_seed(2)
    field = gaussian_field(1000, (size, size), *experiment.transforms(size, amplitude), generator=drawn)
    assert 100 * float(field.square().mean().sqrt()) / size == pytest.approx(amplitude, rel=0.05)


def test_folding(tiny):
    """The share of fields in which numpy finds a determinant that is not positive; torch's dice are left alone."""
    config = tiny(amplitude=[10.0])
    state = torch.get_rng_state()
    found = experiment.folding(config, fields=40)
    assert torch.get_rng_state().equal(state)
    drawn = torch.Generator().manual_seed(0)
    fields = [gaussian_field(1, (32, 32), *experiment.transforms(32, 10.0), generator=drawn)[0] for _ in range(40)]
    folds = 0
    for dy, dx in torch.stack(fields).double().numpy():
        (yy, yx), (xy, xx) = np.gradient(dy), np.gradient(dx)
        folds += ((1 + yy) * (1 + xx) - yx * xy).min() <= 0
    assert 0 < folds < 40
    assert found == pytest.approx(folds / 40)
    assert experiment.folding(config) == experiment.folding(tiny(amplitude=[10.0], labels=[4], seeds=[3]))
    assert experiment.folding(tiny(amplitude=[0.0])) == 0
    assert experiment.folding(tiny(amplitude=[50.0])) == 1


def test_losses_of_a_fixed_number_of_images(tiny, cohort):
    """Those of the first: as if no other image had been labelled."""
    config = tiny(labels=[4], loss_draws=3)
    split = jsrt.splits(cohort.ids, 0, 4, config.train_images)
    method = experiment.build(config, "SemiTC")
    few = experiment.final_losses(config.model_copy(update={"loss_images": 2}), method, cohort, split, seed=0)
    first = replace(split, labelled=split.labelled[:2])
    assert few == experiment.final_losses(config, method, cohort, first, seed=0)
    assert few != experiment.final_losses(config, method, cohort, split, seed=0)
