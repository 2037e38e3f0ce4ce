"""Gao et al. 2021 on head-and-neck CT: patches, targets with unknown parts, rows, inference, scores."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from fewlabels.data import oar
from fewlabels.engine import params, report, sweep
from fewlabels.errors import BadInput
from fewlabels.papers.gao2021 import oar as experiment
from fewlabels.papers.gao2021 import oar_rows as rows
from fewlabels.papers.gao2021.oar import Run
from fewlabels.papers.gao2021.oar_tables import METHODS
from fewlabels.paths import CHECKOUT

ROOT = CHECKOUT
SMOKE = yaml.safe_load((ROOT / "params/oar/smoke.yaml").read_text(encoding="utf-8"))
TINY = {"steps": 2, "epochs": 1, "steps_generator": 2}


def tiny(**changes):
    return params.check(experiment.Config, SMOKE | TINY | changes, "test")


@pytest.fixture(scope="module")
def cohort():
    return experiment.load(tiny())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 6}, "batch_size: .*multiple of 4, found 6"),
        ({"batch_size": 1}, "batch_size: .*multiple of 4, found 1"),
        ({"batch_size": 4}, "batch_size: expected 8 or more for patches of"),
        ({"patch": [16, 32]}, "patch: .*at least 3 items"),
        ({"patch": [64, 32, 32]}, "patch: expected none of its sides above the grid's"),
        ({"patch": [16, 22, 24]}, r"patch: expected multiples of \[1, 4, 4\] for 3 levels"),
        ({"patch": [16, 24, 28]}, r"patch: expected none of its sides above \[19, 25, 25\], the grid's .* / 1.25"),
        ({"nnunet": "v2"}, "nnunet: .*found 'v2'"),
        ({"validation": -1}, "validation: .*found -1"),
        ({"spacing": [8.0, 0.0, 8.0]}, "spacing.1: .*greater than 0, found 0.0"),
        ({"grid": [24, -1, 32]}, "grid.1: .*greater than 0, found -1"),
        ({"methods": ["nnUNet"]}, "methods.0: .*found 'nnUNet'"),
        ({"methods": ["Comb", "Comb"]}, "methods: expected each value once"),
    ],
)
def test_bad_parameters_are_refused_in_one_line(changes, message):
    with pytest.raises(BadInput, match=f"^test: {message}"):
        tiny(**changes)


def test_the_grid():
    runs = experiment.grid(tiny(methods=list(METHODS), seeds=[0, 3]))
    assert len(runs) == 18
    assert len({run.id for run in runs}) == 18
    assert Run("nnUNet (class defaults)", 0).id == "nnUNet_class_defaults_seed=0"
    assert Run("nnUNet Full", 3).id == "nnUNet_Full_seed=3"


def test_crops_are_slices():
    volumes = torch.arange(2 * 3 * 4 * 5 * 6.0).reshape(2, 3, 4, 5, 6)
    found = experiment.crops(volumes, torch.tensor([1, 0]), [[0, 1, 2], [2, 0, 3]], [2, 3, 3])
    expected = np.stack([volumes.numpy()[1, :, 0:2, 1:4, 2:5], volumes.numpy()[0, :, 2:4, 0:3, 3:6]])
    assert np.array_equal(found.numpy(), expected)
    assert torch.equal(
        experiment.crops(volumes[:, 0], torch.tensor([1, 0]), [[0, 1, 2], [2, 0, 3]], [2, 3, 3]), found[:, 0]
    )


def test_targets_keep_what_is_unknown_through_a_warp():
    labels = torch.zeros(2, 4, 6, 6, dtype=torch.long)
    labels[:, 1:3, 2:4, 2:4] = 2
    present = torch.tensor([[True, True, True], [False, False, True]])
    t = rows.targets_of(labels, present)
    assert t[0].sum(0).eq(1).all()
    assert t[1, :2].eq(-1).all()
    assert torch.equal(t[1, 2], (labels[1] == 2).float())
    assert torch.equal(rows.present_in(t), present)
    moved = rows.move(t, torch.full((2, 3, 4, 6, 6), 5.0))  # far out of the patch
    assert torch.equal(rows.present_in(moved), present)
    u = torch.zeros(2, 3, 4, 6, 6)
    u[:, 2] = 1.0
    assert torch.equal(rows.move(t, u)[0, 2, 1], torch.roll(t[0, 2, 1], -1, 1))


def test_what_is_unknown_has_no_loss():
    torch.manual_seed(0)
    labels = torch.zeros(2, 4, 6, 6, dtype=torch.long)
    labels[:, 1:3, 2:4, 2:4] = 2
    present = torch.tensor([[True, True, True], [False, False, True]])
    logits = torch.zeros(2, 3, 4, 6, 6, requires_grad=True)
    rows.loss(logits, rows.targets_of(labels, present)).backward()
    background = (labels[1] == 0).expand(3, -1, -1, -1)
    gradient = logits.grad[1][background].reshape(3, -1)
    # only Dice's of the class that is known, which must be small there: the others may take its place
    assert (gradient[2] > 0).all()
    assert (gradient[:2] < 0).all()
    assert logits.grad[0][:, 0, 0, 0].abs().sum() > 0


def test_nnunet_leaves_unknown_organs_unknown_and_crops(cohort):
    pytest.importorskip("batchgenerators")
    config = tiny()
    unit = rows.grey_unit(cohort.images, cohort.labels)
    larger = [min(int(rows.MARGIN * p), n) for p, n in zip(config.patch, config.grid, strict=True)]
    index, corners = torch.tensor([0, 1]), [[0, 0, 0]] * 2
    present = torch.ones(2, len(cohort.classes), dtype=torch.bool)
    present[1, [0, 3]] = False
    t = rows.targets_of(experiment.crops(cohort.labels, index, corners, larger), present)
    torch.manual_seed(0)
    x, moved = rows.reduce_to(config, "nnUNet Full", unit)(experiment.crops(cohort.images, index, corners, larger), t)
    assert x.shape[2:] == moved.shape[2:] == tuple(config.patch)
    assert torch.equal(rows.present_in(moved), present)


def test_which_augmentation_a_row_has(cohort, monkeypatch):
    asked = []
    monkeypatch.setattr(rows, "nnunet", lambda x, labels, **options: asked.append(options) or (x, labels))
    x, t = torch.zeros(1, 1, 4, 4, 4), torch.zeros(1, 2, 4, 4, 4)
    as_before = {"full": True, "crop": (16, 24, 24), "policy": "class defaults"}
    v1 = {"full": True, "crop": (16, 24, 24), "policy": "v1", "unit": (0.1, 0.2)}
    for nnunet, full in (("class defaults", as_before), ("v1", v1)):
        for method in ("nnUNet Full", "nnUNet Reduce", "nnUNet (class defaults)"):
            rows.reduce_to(tiny(nnunet=nnunet), method, (0.1, 0.2))(x, t)
        assert asked[-3:] == [full, full | {"full": False}, as_before]


def test_without_its_augmentation_nnunet_trains_on_the_patches_of_baseline(cohort, tmp_path, monkeypatch):
    """The middle of the larger patch is what is left, and lies anywhere, beside the volume's border too."""

    def middle(x, labels, full, crop, policy, unit):
        at = tuple(slice((n - c) // 2, (n - c) // 2 + c) for n, c in zip(x.shape[2:], crop, strict=True))
        assert x.shape[2:] == (20, 30, 30)
        return x[(..., *at)], labels[(..., *at)]

    monkeypatch.setattr(rows, "nnunet", middle)
    config = tiny(steps=4, epochs=2)
    histories = [
        experiment.train(config, Run(method, 0), cohort, tmp_path)[1] for method in ("Baseline", "nnUNet Full")
    ]
    assert histories[0] == histories[1]


def test_runs_of_the_class_defaults_are_not_those_of_v1():
    run = Run("nnUNet Full", 0)
    before, now = (experiment.identity(tiny(nnunet=name), run) for name in ("class defaults", "v1"))
    assert "nnunet" not in before  # a stored run stays valid
    assert now == before | {"nnunet": "v1"}


def test_the_units_are_of_labelled_voxels(cohort):
    grey = cohort.images.numpy()[:, 0][cohort.labels.numpy() > 0]
    assert rows.grey_unit(cohort.images, cohort.labels) == pytest.approx((grey.mean(), grey.std(ddof=1)), rel=1e-4)


def test_a_probe_scores_training_patients_that_train_nothing(cohort, tmp_path):
    config, run = tiny(validation=2), Run("Baseline", 0)
    official, split = oar.splits(cohort), experiment.split_of(config, cohort)
    assert split.labelled + split.validation == official.labelled
    assert len(split.validation) == 2
    images = cohort.images.clone()
    images[cohort.index(split.validation + official.test)] = torch.nan
    found = experiment.run(config, run, cohort, tmp_path / "a")
    assert found["subjects"] == list(split.validation)
    spoiled = experiment.train(config, run, replace(cohort, images=images), tmp_path / "b")[1]
    assert spoiled == found["history"]
    with pytest.raises(BadInput, match="^validation: expected fewer than the"):
        experiment.split_of(tiny(validation=len(official.labelled)), cohort)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_twice_is_the_same(method, cohort, tmp_path):
    if "nnUNet" in method:
        pytest.importorskip("batchgenerators")
    config, run = tiny(), Run(method, 1)
    first, again = (experiment.run(config, run, cohort, tmp_path / name) for name in "ab")
    assert json.dumps(first) == json.dumps(again)
    assert first["subjects"] == list(cohort.meta["test"])
    assert set(first["scores"]["dice"]) == set(cohort.classes[1:])


def test_scores_are_dice_of_what_was_delineated_at_native_spacing(cohort, tmp_path, monkeypatch):
    config, run = tiny(methods=["Baseline"]), Run("Baseline", 0)
    present = cohort.meta["present"].clone()
    test = cohort.index(cohort.meta["test"])
    present[test[0], [0, 4]] = False
    changed = replace(cohort, meta=cohort.meta | {"present": present})
    truth = {p: torch.as_tensor(cohort.meta["native"][p]).long() for p in cohort.meta["test"]}
    # predict every patient's truth moved by a voxel
    monkeypatch.setattr(experiment, "segment", lambda m, c, patient, *_: truth[patient].roll(1, 2))
    found = experiment.run(config, run, changed, tmp_path)["scores"]
    for k, patient in enumerate(cohort.meta["test"]):
        values = []
        for c, organ in enumerate(cohort.classes[1:], start=1):
            a, b = (truth[patient] == c).numpy(), (truth[patient].roll(1, 2) == c).numpy()
            value = found["dice"][organ][k]
            if k == 0 and c == 4 or not present[test[k], c]:
                assert np.isnan(value)
                continue
            by_hand = 2 * (a & b).sum() / (a.sum() + b.sum()) if a.any() or b.any() else 1.0
            assert value == pytest.approx(by_hand)
            values.append(value)
        assert found["mean_dice"]["all"][k] == pytest.approx(np.mean(values))


def test_inference_takes_windows_of_a_patch(cohort):
    """A method that knows the truth of what it sees is right about the whole patient, wherever windows lie."""
    config = tiny()

    class Reading:
        def predict(self, x, batch_size):
            assert x.shape[2:] == tuple(config.patch)
            assert len(x) <= batch_size
            inside = (x[:, 0] > 0).long()
            return torch.stack([1 - inside, inside], 1).float()

    patient = cohort.meta["test"][0]
    two = replace(cohort, labels=cohort.labels.clamp(max=1), classes=("background", "dense"))
    found = experiment.segment(Reading(), two, patient, config, "cpu")
    [i] = cohort.index([patient])
    expected = oar.to_native(torch.stack([1 - (d := (cohort.images[i, 0] > 0).float()), d]), patient, two).argmax(0)
    assert torch.equal(found, expected)


def test_the_test_patients_train_nothing(cohort, tmp_path):
    images = cohort.images.clone()
    images[cohort.index(cohort.meta["test"])] = torch.nan
    config, run = tiny(), Run("Comb", 0)
    a = experiment.train(config, run, cohort, tmp_path / "a")[0].network.state_dict()
    b = experiment.train(config, run, replace(cohort, images=images), tmp_path / "b")[0].network.state_dict()
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_sweep_and_its_report(cohort, tmp_path):
    config = tiny(methods=["Baseline", "Affine"])
    assert sweep.sweep(experiment, config, cohort, tmp_path) == {}
    scores, found, claims = report.write(experiment, config, cohort, tmp_path)
    table = found["table2"].set_index(["row", "column"])
    mean = scores[(scores["metric"] == "mean_dice") & (scores["method"] == "Affine")]["value"].astype(float).mean()
    assert table.loc[("Affine", "average Dice"), "ours_mean"] == pytest.approx(mean)
    assert table.loc[("Comb", "average Dice"), "paper_mean"] == 0.814
    assert len(claims) == 21
