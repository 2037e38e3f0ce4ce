"""Gao et al. 2021 on skin lesions: the grid, what each row trains on, that nothing is chosen by the tested fold."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
import yaml
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from fewlabels.augment import policies
from fewlabels.engine import params, sweep
from fewlabels.engine.training import Shuffled, Stopped, seed_of
from fewlabels.errors import BadInput
from fewlabels.methods.adversarial import RegularisedAdversarial
from fewlabels.papers.gao2021 import isic as experiment
from fewlabels.papers.gao2021 import isic_rows as rows
from fewlabels.papers.gao2021 import overhead as isic_overhead
from fewlabels.papers.gao2021 import rows as gao_rows
from fewlabels.papers.gao2021.challenge import RandomTransforms, rms
from fewlabels.papers.gao2021.isic import Run
from fewlabels.papers.gao2021.isic_tables import METHODS, tables
from fewlabels.papers.gao2021.isic_training import Trainer, split_of
from fewlabels.paths import CHECKOUT

ROOT = CHECKOUT
SMOKE = yaml.safe_load((ROOT / "params/isic/smoke.yaml").read_text(encoding="utf-8"))
SMALL = "ResNet-10-w16"
TINY = {"steps": 4, "epochs": 2, "steps_generator": 2, "batch_size": 8, "policy_trials": 3, "policies_kept": 2}


def tiny(**changes):
    return params.check(experiment.Config, SMOKE | TINY | changes, "test")


@pytest.fixture(scope="module")
def cohort():
    return experiment.load(tiny())


# ---- the grid ----


def test_the_grid_is_every_method_on_every_fold_and_the_extra_ones_on_theirs():
    config = tiny(methods=["no-aug", "Comb"], folds=[0, 2], backbones=[SMALL, "ResNet-34"], extra_methods=["Fast AA"],
                  extra_folds=[2], seeds=[0, 1])  # fmt: skip
    runs = experiment.grid(config)
    assert len(runs) == 2 * 2 * (2 * 2 + 1)
    assert len(set(runs)) == len({run.id for run in runs}) == len(runs)
    assert {run.fold for run in runs if run.method == "Fast AA"} == {2}
    assert Run("Comb (w/o image condition)", SMALL, 1, 0).id == f"Comb_wo_image_condition_{SMALL}_fold=1_seed=0"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 30}, "batch_size: .*multiple of 4, found 30"),
        ({"size": 40}, "size: .*multiple of 32, found 40"),
        ({"folds": [5]}, "folds.0: .*less than 5, found 5"),
        ({"folds": [0, 0]}, "folds: expected each value once"),
        ({"methods": ["Warp"]}, "methods.0: .*found 'Warp'"),
        ({"backbones": ["VGG"]}, "backbones.0: .*found 'VGG'"),
        ({"extra_methods": ["Comb"]}, "extra_methods: expected none of methods, found Comb"),
        ({"extra_methods": []}, "extra_folds: expected some where there are extra_methods, and only there"),
        ({"steps": 5}, "steps: expected a multiple of epochs, 2, found 5"),
        ({"rand_augment": []}, "rand_augment: expected at least one point"),
        ({"rand_augment": [[1, 2, 3]]}, "rand_augment.0: .*at most 2"),
        ({"max_displacement": 0.0}, "max_displacement: .*greater than 0, found 0.0"),
        ({"max_appearance": 1.5}, "max_appearance: .*less than or equal to 1, found 1.5"),
        ({"backbones": [SMALL, "ResNet-34"], "weights": "x.pth"}, "weights: expected none with several backbones"),
        ({"lam": "1"}, "lam: .*found '1'"),
        ({"class_weights": "some"}, "class_weights: .*found 'some'"),
    ],
)
def test_bad_parameters_are_refused_in_one_line(changes, message):
    with pytest.raises(BadInput, match=f"^test: {message}"):
        tiny(**changes)


def test_a_weights_file_that_is_missing_is_named(cohort, tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        experiment.run(tiny(weights=str(tmp_path / "none.pth")), Run("no-aug", SMALL, 0, 0), cohort, tmp_path)


# ---- training ----


@pytest.mark.parametrize(
    "method",
    ["no-aug", "RandAug", "Fast AA", "cGAN", "Affine", "Comb", "Comb (w/o discriminator)", "Comb (random)",
     "no-aug (class weights)"],
)  # fmt: skip
def test_a_run_twice_is_the_same_and_its_scores_are_sklearns(method, cohort, tmp_path):
    config, run = tiny(rand_augment=[[1, 5], [2, 10]] if method == "RandAug" else [[2, 10]]), Run(method, SMALL, 1, 0)
    first = experiment.run(config, run, cohort, tmp_path / "a")
    again = experiment.run(config, run, cohort, tmp_path / "b")
    assert json.dumps(first) == json.dumps(again)
    _, method_, _, _ = experiment.train(config, run, cohort, tmp_path / "a")
    test = cohort.index(split_of(config, cohort, 1).test)
    predicted, truth = method_.predict(cohort.images[test]).argmax(1), cohort.labels[test]
    assert first["overall"]["bmca"] == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert first["confusion"] == confusion_matrix(truth, predicted, labels=range(7)).tolist()
    assert first["overall"]["accuracy"] == pytest.approx(float((predicted == truth).float().mean()))
    assert len(first["history"]) == 2
    assert first["history"][-1]["step"] == config.steps  # all rows alike, however they were searched


def test_a_run_stopped_and_resumed_ends_in_the_same_bits(cohort, tmp_path):
    config, run = tiny(), Run("Comb", SMALL, 0, 0)
    through = experiment.run(config, run, cohort, tmp_path / "through")
    with pytest.raises(Stopped):
        experiment.run(config, run, cohort, tmp_path / "halted", stop=lambda: True)
    assert experiment.run(config, run, cohort, tmp_path / "halted") == through


def test_all_rows_start_from_the_same_T():
    config, weights = tiny(), []
    for name in ("no-aug", "Comb", "Affine (w/o image condition)"):
        torch.manual_seed(3)
        if name == "no-aug":
            method = rows.plain(config, SMALL, lambda x, y: (x, y), F.cross_entropy, "cpu")
            T = method.network
        else:
            T = rows.adversarial(config, SMALL, name, F.cross_entropy, "cpu").T
        weights.append(torch.cat([p.flatten() for n, p in T.named_parameters() if "auxiliary" not in n]))
    assert all(torch.equal(w, weights[0]) for w in weights[1:])


def test_what_a_rows_name_stands_for():
    config = tiny(max_displacement=0.25, max_appearance=0.5)
    comb = rows.adversarial(config, SMALL, "Comb", F.cross_entropy, "cpu")
    assert [(G.kind, G.most, G.conditional) for G in comb.G] == [
        ("affine", 1.0, True), ("deformation", 0.25, True), ("appearance", 0.5, True)
    ]  # fmt: skip
    assert (comb.lam, comb.gamma, comb.saturating) == (1.0, 0.1, False)
    without = rows.adversarial(config, SMALL, "Deform (w/o discriminator)", F.cross_entropy, "cpu")
    assert without.D is None
    assert [G.kind for G in without.G] == ["deformation"]
    assert "D" not in without.optimisers
    blind = rows.adversarial(config, SMALL, "Appear (w/o image condition)", F.cross_entropy, "cpu")
    assert blind.D is not None
    assert not blind.G[0].conditional
    assert {m: gao_rows.parts(m)[0] for m in METHODS if "(" in m} == {m: m.split(" (")[0] for m in METHODS if "(" in m}


def test_class_weights():
    labels = torch.tensor([0] * 6 + [1] * 2 + [2] * 2)
    logits, y = torch.randn(10, 7), labels
    inverse = rows.loss_of(tiny(class_weights="inverse"), labels)
    by_hand = torch.tensor([10 / (7 * 6), 10 / (7 * 2), 10 / (7 * 2), *[10 / 7] * 4])
    assert torch.allclose(inverse(logits, y), F.cross_entropy(logits, y, weight=by_hand))
    assert rows.loss_of(tiny(), labels) is F.cross_entropy
    row = rows.loss_of(tiny(), labels, "no-aug (class weights)")
    assert torch.allclose(row(logits, y), F.cross_entropy(logits, y, weight=by_hand))


def test_the_row_with_class_weights_trains_with_them(cohort, tmp_path):
    config = tiny()
    row, weighted = Run("no-aug (class weights)", SMALL, 0, 0), tiny(class_weights="inverse")
    found = experiment.run(config, row, cohort, tmp_path / "a")["history"]
    assert found == experiment.run(weighted, Run("no-aug", SMALL, 0, 0), cohort, tmp_path / "b")["history"]
    assert found != experiment.run(config, Run("no-aug", SMALL, 0, 0), cohort, tmp_path / "c")["history"]


def test_comb_random_has_combs_strength_and_parts_and_its_stage_is_comb(cohort, tmp_path, monkeypatch):
    config, seen = tiny(), []
    forward = RandomTransforms.forward

    def spy(self, x, z):
        g = forward(self, x, z)
        seen.append((self.kind, len(x), float(rms(g).mean())))
        return g

    monkeypatch.setattr(RandomTransforms, "forward", spy)
    found = experiment.run(config, Run("Comb (random)", SMALL, 0, 0), cohort, tmp_path)
    monkeypatch.setattr(RegularisedAdversarial, "training_step", None)  # Comb is there already
    comb = experiment.run(config, Run("Comb", SMALL, 0, 0), cohort, tmp_path)["history"]
    assert not any(key.startswith("harder") for key in found["overall"])
    for kind in gao_rows.GENERATORS["Comb"]:
        of_kind = [(n, value) for k, n, value in seen if k == kind]
        assert [n for n, _ in of_kind] == [config.batch_size // 4] * config.steps
        middle, last = (entry[f"rms_{kind}"] for entry in comb)
        expected = [middle / 2, middle, (middle + last) / 2, last]
        assert [value for _, value in of_kind] == pytest.approx(expected, rel=1e-3)


def test_comb_random_stopped_and_resumed_ends_in_the_same_bits(cohort, tmp_path):
    config, run = tiny(), Run("Comb (random)", SMALL, 0, 0)
    through = experiment.run(config, run, cohort, tmp_path / "through")
    for _ in range(4):  # Comb's two epochs, then its own
        with pytest.raises(Stopped):
            experiment.run(config, run, cohort, tmp_path / "halted", stop=lambda: True)
    assert experiment.run(config, run, cohort, tmp_path / "halted") == through


# ---- nothing is chosen by what is tested (the claim "needs no validation data") ----


@pytest.mark.parametrize("method", METHODS[:10])
def test_no_image_of_the_tested_fold_is_ever_trained_or_chosen_by(method, cohort, tmp_path):
    """The images of the tested fold, replaced by NaN, change no weight; where one was read, the loss would be NaN."""
    config, run = tiny(rand_augment=[[1, 5], [2, 10]]), Run(method, SMALL, 0, 0)
    split = split_of(config, cohort, 0)
    images = cohort.images.clone()
    images[cohort.index(split.test)] = torch.nan
    spoiled = replace(cohort, images=images)
    a = experiment.train(config, run, cohort, tmp_path / "a")[1].network.state_dict()
    b = experiment.train(config, run, spoiled, tmp_path / "b")[1].network.state_dict()
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_the_network_that_is_scored_is_the_last(cohort, tmp_path):
    config = tiny()
    _, method, history, _ = experiment.train(config, Run("Comb", SMALL, 0, 0), cohort, tmp_path)
    assert "validation" not in history[-1]
    assert history[-1]["step"] == config.steps
    trainer = Trainer(config, Run("Comb", SMALL, 0, 0), cohort, tmp_path)
    seed = seed_of(trainer.run.seed, trainer.run.fold, trainer.run.backbone)
    torch.manual_seed(seed)
    last = rows.adversarial(config, SMALL, "Comb", F.cross_entropy, "cpu")
    torch.manual_seed(seed)
    samplers = [Shuffled(len(trainer.pool), n) for n in (8, 6)]
    for _ in range(config.steps):
        i, j = (trainer.pool[next(sampler)] for sampler in samplers)
        last.training_step({"images": cohort.images[i], "labels": cohort.labels[i], "real": cohort.images[j]})
    expected = last.network.state_dict()
    assert all(torch.allclose(value, expected[key]) for key, value in method.network.state_dict().items())


def test_policies_are_judged_by_other_lesions_than_they_are_trained_on(cohort, tmp_path):
    trainer = Trainer(tiny(), Run("RandAug", SMALL, 2, 0), cohort, tmp_path)
    train, judged = trainer.inner()
    groups = [{cohort.groups[i] for i in index} for index in (train, judged, cohort.index(trainer.split.test))]
    assert not (groups[0] & groups[1])
    assert not (groups[0] & groups[2])
    assert not (groups[1] & groups[2])
    assert sorted([*train.tolist(), *judged.tolist()]) == sorted(trainer.pool.tolist())


def test_rand_augment_takes_the_best_point_of_the_first_fold(cohort, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(policies, "rand_augment", lambda x, n, m: seen.append((n, m)) or x)
    judged = {(1, 5): 0.2, (2, 10): 0.9, (3, 20): 0.4}
    monkeypatch.setattr(Trainer, "judge", lambda self, method, index: {"bmca": judged[seen[-1]]})
    config = tiny(rand_augment=[[1, 5], [2, 10], [3, 20]], folds=[3, 1])
    trainer = Trainer(config, Run("RandAug", SMALL, 1, 0), cohort, tmp_path)
    _, _, found = trainer.rand_augment("x")
    assert found == {"point": [2, 10], "bmca_of_points": [[1, 5, 0.2], [2, 10, 0.9], [3, 20, 0.4]]}
    assert seen[-1] == (2, 10)
    assert any("fold=3" in path.name for path in tmp_path.iterdir())
    assert experiment.identity(config, Run("RandAug", SMALL, 1, 0))["search_fold"] == 3


# ---- tables ----


def scores_of(values):
    frame = pd.DataFrame([(*key, "all", "all", "bmca", value) for key, value in values.items()])
    return frame.set_axis(["method", "backbone", "fold", "seed", "subject", "structure", "metric", "value"], axis=1)


def test_cells_of_figure_3():
    values = {("no-aug", SMALL, k, 0): v for k, v in enumerate((0.3, 0.5))}
    values |= {("Comb", SMALL, k, 0): v for k, v in enumerate((0.6, 0.7))}
    values |= {("Comb (w/o discriminator)", SMALL, 0, 0): 0.4}
    found = tables(tiny(folds=[0, 1]), scores_of(values))
    left = found["figure3_left"][0].set_index(["row", "column"])
    assert left.loc[("no-aug", SMALL), "ours_mean"] == pytest.approx(0.4)
    assert left.loc[("Comb", SMALL), "ours_n"] == 2
    assert ("Comb (w/o discriminator)", SMALL) not in left.index
    right = found["figure3_right"][0].set_index(["row", "column"])
    assert right.loc[("Comb", "with both"), "ours_mean"] == pytest.approx(0.6)  # of fold 0 alone, as without D
    assert right.loc[("Comb", "w/o discriminator"), "ours_mean"] == pytest.approx(0.4)
    assert right.loc[("Comb", "with both"), "paper_mean"] == 0.873
    text = found["figure3_left"][1]("Data: x.")
    assert "| Comb |" in text
    assert "**0.650" in text
    assert "Data: x." in text
    assert "Fast AA" not in text  # has no row
    beside = scores_of(values | {("Comb (random)", SMALL, 1, 0): 0.2, ("no-aug (class weights)", SMALL, 1, 0): 0.3})
    again = tables(tiny(folds=[0, 1]), beside)
    pd.testing.assert_frame_equal(again["figure3_right"][0], found["figure3_right"][0])
    assert again["figure3_left"][0].set_index(["row", "column"]).loc[("Comb (random)", SMALL), "ours_mean"] == 0.2
    text = tables(tiny(folds=[0]), scores_of(values | {("Fast AA", SMALL, 0, 0): 0.5}))["figure3_left"][1]("Data: x.")
    assert "Fast AA: 3 trials." in text


def test_a_sweep_and_its_report(cohort, tmp_path):
    from fewlabels.engine import report

    config = tiny(methods=["no-aug", "Comb"])
    assert sweep.sweep(experiment, config, cohort, tmp_path) == {}
    scores, found, claims = report.write(experiment, config, cohort, tmp_path)
    assert {*found} == {"figure3_left", "figure3_right"}
    assert len(claims) == 21
    assert set(claims["verdict"]) <= {"not run", "inconclusive", "supported", "contradicted"}
    recall = scores[(scores["metric"] == "recall") & (scores["method"] == "Comb")]
    assert set(recall["structure"]) == set(cohort.classes)
    assert recall["value"].astype(float).mean() == pytest.approx(
        float(scores[(scores["metric"] == "bmca") & (scores["method"] == "Comb")]["value"].iloc[0]), abs=1e-3
    )


def test_overhead_is_search_and_training_over_no_augmentation():
    config = tiny(rand_augment=[[1, 5], [1, 10], [2, 5]], steps=100, epochs=2, steps_generator=50)
    seconds = {"no-aug": 2.0, "RandAug": 3.0, "Fast AA": 2.4, isic_overhead.GENERATOR: 5.0, "cGAN": 2.2, "Comb": 4.0}
    found = isic_overhead.table(config, seconds, dict.fromkeys(seconds, 1.0)).set_index("method")
    assert found.loc["RandAug", ["search", "training", "total"]].tolist() == pytest.approx([4.5, 1.5, 6.0])
    assert found.loc["Fast AA", "total"] == pytest.approx(1 + 1.2)
    assert found.loc["cGAN", ["search", "total"]].tolist() == pytest.approx([2.5, 3.6])
    assert found.loc["Comb", ["total", "paper, total"]].tolist() == pytest.approx([2.0, 6.2 / 3])


def test_one_step_of_every_method_can_be_timed(cohort):
    steps = isic_overhead.steps_of(tiny(), SMALL, cohort, "cpu")
    assert list(steps) == list(isic_overhead.METHODS)
    seconds = isic_overhead.seconds_of(steps, 1, "cpu")
    assert all(value > 0 for value in seconds.values())


def test_memory_is_what_is_kept_for_the_backward_pass():
    x, w = torch.rand(1000, requires_grad=True), torch.rand(1000, requires_grad=True)
    kept = isic_overhead.memory_of(lambda: (x * w).sin().sum().backward(), "cpu")
    assert kept == pytest.approx(3 * 4000 / 2**20)  # x, w and what sin was taken of
