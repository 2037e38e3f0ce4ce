"""A grid of runs: nothing twice, nothing half, a failure is one hole, killed and restarted it ends in equal bytes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import get_args

import pandas as pd
import pytest
import torch
from helpers import refused, same

from fewlabels.data import cifar10, mnist
from fewlabels.data.cohort import STAND_INS, Cohort
from fewlabels.data.phantoms import brain, chest, head_neck, heart, skin
from fewlabels.engine import params, provenance, report, sweep
from fewlabels.engine.training import Diverged, Stopped
from fewlabels.errors import BadInput
from fewlabels.papers.bortsova2019 import jsrt as experiment
from fewlabels.paths import CHECKOUT

TEST = ["PHANTOM002", "PHANTOM004"]


@pytest.fixture(scope="module", autouse=True)
def on_the_cpu():
    """Bits are promised there, also on a machine with a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "default_device", lambda: "cpu")
        yield


@pytest.fixture
def calls(monkeypatch):
    """Runs cost nothing and are counted: each subject's value follows from the run's own place in the grid."""
    done = []

    def run(config, run, cohort, folder, device="cpu", report=None, stop=None):
        done.append(run.id)
        value = 10.0 * run.labels + run.split + experiment.METHODS.index(run.method) / 4
        return {
            "subjects": TEST,
            "scores": {"miou": {"all": [value, value + 1]}, "macd_mm": {"heart": [1.23456789, float("nan")]}},
            "overall": {"loss_sup": 0.25, "loss_cons": 0.125 / (1 + run.split)},
            "history": [],
        }

    monkeypatch.setattr(experiment, "run", run)
    return done


@pytest.fixture
def four(tiny):
    return tiny(labels=[2, 4])


COLUMNS = "method labels split seed amplitude validation subject structure metric value".split()
FOUR = [f"{method}_labels={n}_split=0_seed=0" for n in (2, 4) for method in ("Baseline", "SemiTC+")]


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def edit(path, change):
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


# ---- what is stored and what is skipped ----


def test_every_run_once(calls, four, cohort, tmp_path):
    assert sweep.sweep(experiment, four, cohort, tmp_path) == {}
    assert calls == FOUR
    assert files(tmp_path) == {f"runs/{name}.json" for name in FOUR}
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    assert sweep.sweep(experiment, four, cohort, tmp_path) == {}
    assert calls == FOUR  # nothing again
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before


def test_only_and_limit(calls, four, cohort, tmp_path):
    sweep.sweep(experiment, four, cohort, tmp_path, only=lambda run: run.labels == 4, limit=1)
    assert calls == [FOUR[2]]
    sweep.sweep(experiment, four, cohort, tmp_path, limit=3)
    assert calls == [FOUR[2], FOUR[0], FOUR[1]]


def test_a_stored_run(calls, four, cohort, tmp_path):
    sweep.sweep(experiment, four, cohort, tmp_path, limit=1)
    record = json.loads((tmp_path / "runs" / f"{FOUR[0]}.json").read_text())
    assert record["run"] == FOUR[0]
    assert record["config"]["width"] == 4
    assert (record["config"]["method"], record["config"]["labels"]) == ("Baseline", 2)
    assert record["subjects"] == TEST
    assert record["scores"]["macd_mm"]["heart"] == [1.2346, None]  # NaN is no JSON
    assert record["seconds"] >= 0
    assert record["peak_memory_mb"] > 0
    found = record["provenance"]
    assert found["fingerprint"] == cohort.fingerprint()
    assert found["data"] == "phantom"
    assert found["threads"] == torch.get_num_threads()
    assert found["packages"]["torch"] == torch.__version__
    assert found["start"] <= found["end"]


def test_scores_are_tidy_and_sorted(calls, four, cohort, tmp_path):
    sweep.sweep(experiment, four, cohort, tmp_path)
    scores = sweep.scores(sweep.records(experiment, four, tmp_path))
    assert list(scores.columns) == COLUMNS
    assert len(scores) == 4 * (2 + 2 + 2)
    assert set(scores["amplitude"]) == {*four.amplitude}  # the runs leave it to their config
    assert set(scores["validation"]) == {"all"}
    keys = [tuple(row)[:-1] for row in scores.itertuples(index=False)]
    assert keys == sorted(keys)
    row = scores.set_index(["method", "labels", "subject", "metric"])["value"]
    assert row["SemiTC+", 4, "PHANTOM004", "miou"] == pytest.approx(40.75 + 1)
    assert row["Baseline", 2, "all", "loss_cons"] == 0.125
    assert row["Baseline", 2, "PHANTOM002", "macd_mm"] == 1.2346
    assert pd.isna(row["Baseline", 2, "PHANTOM004", "macd_mm"])


def test_scores_of_several_amplitudes_and_of_both_validations(calls, tiny, cohort, tmp_path):
    for name, config in {"a": tiny(amplitude=[1.0, 4.0]), "b": tiny(matched_validation_labels=[2])}.items():
        sweep.sweep(experiment, config, cohort, tmp_path / name)
        scores = sweep.scores(sweep.records(experiment, config, tmp_path / name))
        assert list(scores.columns) == COLUMNS
        runs = scores[["method", "amplitude", "validation"]].drop_duplicates().itertuples(index=False)
        assert {tuple(run) for run in runs} == {
            "a": {(m, a, "all") for m in ("Baseline", "SemiTC+") for a in (1.0, 4.0)},
            "b": {(m, 2.0, v) for m in ("Baseline", "SemiTC+") for v in ("all", "matched")}
            | {("SemiTC", 2.0, "matched")},
        }[name]
        keys = [tuple(row)[:-1] for row in scores.itertuples(index=False)]
        assert keys == sorted(set(keys))


def test_scores_of_an_empty_folder(four, tmp_path):
    assert sweep.scores(sweep.records(experiment, four, tmp_path)).empty


def test_phantom_and_real_data_never_share_a_folder(tiny, cohort, tmp_path):
    real = Cohort(cohort.images, cohort.labels, cohort.ids, cohort.classes, (1, 1), cohort.ids, {"data": "jsrt-8bit"})
    assert sweep.folder_of(experiment, tiny(), cohort, tmp_path) == tmp_path / "jsrt" / "phantom-smoke"
    assert sweep.folder_of(experiment, tiny(profile="lite"), real, tmp_path) == tmp_path / "jsrt" / "jsrt-8bit-lite"


@pytest.mark.parametrize(
    ("name", "at_hand"),
    [
        ("jsrt", lambda: chest.chest(1, size=32)), ("cifar10", cifar10.digits), ("acdc", lambda: heart.heart(1)),
        ("isic", lambda: skin.skin(8)), ("oar", lambda: head_neck.head_neck(2)), ("mnist", mnist.digits),
        ("brats", lambda: brain.brain(1, size=(60, 30))),
    ],
)  # fmt: skip
def test_data_that_need_no_files_have_the_configs_name(name, at_hand, tmp_path):
    module, config = params.load(CHECKOUT / "params" / name / "quick.yaml")
    assert config.data in STAND_INS
    folder = sweep.folder_of(module, config, at_hand(), tmp_path)
    assert sweep.folder_of(module, config, None, tmp_path) == folder == tmp_path / name / f"{config.data}-quick"
    named = get_args(module.Config.model_fields["data"].annotation)
    assert [data for data in named if data in STAND_INS] == [config.data]


def test_hidden_files_of_a_killed_process_do_no_harm(calls, four, cohort, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / f".{FOUR[0]}.json.4711").write_text('{"run": ')
    (tmp_path / ".scores.csv.4711").write_text("method,")
    assert sweep.sweep(experiment, four, cohort, tmp_path) == {}
    assert calls == FOUR
    assert report.write(experiment, four, cohort, tmp_path)[0]["value"].notna().any()


# ---- failures ----


@pytest.mark.parametrize("error", [Diverged("loss nan"), torch.cuda.OutOfMemoryError("no memory"), ZeroDivisionError()])
def test_a_failing_run_is_a_hole(calls, four, cohort, tmp_path, monkeypatch, error):
    quick = experiment.run

    def run(config, run, *arguments):
        if run.id == FOUR[1]:
            raise error
        return quick(config, run, *arguments)

    monkeypatch.setattr(experiment, "run", run)
    failed = sweep.sweep(experiment, four, cohort, tmp_path)
    assert set(failed) == {FOUR[1]}
    assert failed[FOUR[1]].startswith(f"{type(error).__name__}: {error}")
    assert calls == [FOUR[0], *FOUR[2:]]
    assert "Traceback" in json.loads((tmp_path / "failed" / f"{FOUR[1]}.json").read_text())["trace"]
    assert files(tmp_path / "runs") == {f"{name}.json" for name in FOUR if name != FOUR[1]}

    monkeypatch.setattr(experiment, "run", quick)  # the next time only the hole is filled
    assert sweep.sweep(experiment, four, cohort, tmp_path) == {}
    assert calls == [FOUR[0], *FOUR[2:], FOUR[1]]


def test_nan_in_real_training_is_a_hole(tiny, cohort, tmp_path, monkeypatch):
    """All the way through: the loss of one method becomes NaN in stage 2, its neighbour is trained all the same."""
    build = experiment.build

    def sabotaged(config, method="Baseline", device="cpu"):
        made = build(config, method, device)
        if method == "SemiTC+":
            losses = made.losses
            made.losses = lambda x, y: tuple(value * float("nan") for value in losses(x, y))
        return made

    monkeypatch.setattr(experiment, "build", sabotaged)
    config = tiny(methods=["SemiTC+", "Baseline"], steps_supervised=4, steps_finetune=4)
    failed = sweep.sweep(experiment, config, cohort, tmp_path)
    assert list(failed) == ["SemiTC+_labels=2_split=0_seed=0"]
    assert "not finite" in failed["SemiTC+_labels=2_split=0_seed=0"]
    assert files(tmp_path / "runs") == {"Baseline_labels=2_split=0_seed=0.json"}
    report.write(experiment, config, cohort, tmp_path)
    assert "1 of 2 runs" in (tmp_path / "table1.md").read_text()


def test_stopped_ends_the_sweep(four, cohort, tmp_path, monkeypatch):
    def run(config, run, cohort, folder, device, report, stop):
        raise Stopped("after step 4")

    monkeypatch.setattr(experiment, "run", run)
    with pytest.raises(Stopped):
        sweep.sweep(experiment, four, cohort, tmp_path, stop=lambda: True)
    assert files(tmp_path) == set()


def test_a_run_that_cannot_be_written_leaves_nothing(calls, four, cohort, tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(BadInput, match="expected a folder that can be written, found No space left"):
        sweep.sweep(experiment, four, cohort, tmp_path)
    assert files(tmp_path) == set()

    def fail(*_):
        raise Diverged("a loss is not finite")

    monkeypatch.setattr(experiment, "run", fail)  # nor can its failure be
    with pytest.raises(BadInput, match="expected a folder that can be written, found No space left"):
        sweep.sweep(experiment, four, cohort, tmp_path)
    assert files(tmp_path) == set()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: '{"run": 1}',
        lambda text: text.replace('"config": {', '"config": null, "was": {'),
        lambda text: text.replace('"scores"', '"scorse"'),
        lambda text: "\0" * len(text),
    ],
    ids=["half", "empty", "a list", "no config", "config is null", "no scores", "zeros"],
)
def test_a_damaged_run_is_named_moved_aside_and_done_again(calls, four, cohort, tmp_path, capsys, damage):
    sweep.sweep(experiment, four, cohort, tmp_path)
    before = sweep.scores(sweep.records(experiment, four, tmp_path))
    path = tmp_path / "runs" / f"{FOUR[2]}.json"
    damaged = damage(path.read_text())
    path.write_text(damaged)
    capsys.readouterr()
    assert sweep.sweep(experiment, four, cohort, tmp_path) == {}
    assert str(path) in capsys.readouterr().out
    assert calls == [*FOUR, FOUR[2]]
    assert path.with_suffix(".damaged").read_text() == damaged
    pd.testing.assert_frame_equal(sweep.scores(sweep.records(experiment, four, tmp_path)), before)


# ---- what must not be mixed ----


@pytest.mark.parametrize(
    ("key", "value"), [("width", 8), ("amplitude", [4.0]), ("order", 1), ("threads", 2), ("consistency", "mse")]
)
def test_a_run_of_another_config_is_refused(calls, four, cohort, tiny, tmp_path, key, value):
    def one(value):
        return value[0] if isinstance(value, list) else value

    sweep.sweep(experiment, four, cohort, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    other = tiny(labels=[2, 4], **{key: value})
    for call in (
        lambda: sweep.sweep(experiment, other, cohort, tmp_path),
        lambda: report.write(experiment, other, cohort, tmp_path),
    ):
        with pytest.raises(BadInput) as refused:
            call()
        message = str(refused.value)
        assert message.startswith(f"{tmp_path / 'runs' / FOUR[0]}.json: {key}: expected {one(value)!r}")
        assert f"found {one(getattr(four, key))!r}" in message
        assert "\n" not in message
    assert calls == FOUR
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before
    assert files(tmp_path) == {f"runs/{name}.json" for name in FOUR}


def test_a_run_stays_valid_when_its_config_learns_a_key(calls, four, cohort, tmp_path):
    """A new key at its default is no part of what a stored run is; at another value it is."""
    sweep.sweep(experiment, four, cohort, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}

    class Config(experiment.Config):
        smoothing: float = 0.0

    learned = Config(**four.model_dump())
    assert sweep.sweep(experiment, learned, cohort, tmp_path) == {}
    assert calls == FOUR  # none again
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before

    used = Config(**four.model_dump() | {"smoothing": 0.1})
    refused(lambda: sweep.sweep(experiment, used, cohort, tmp_path), "smoothing", "0.1", "0.0")
    sweep.sweep(experiment, used, cohort, tmp_path / "another")
    refused(lambda: sweep.sweep(experiment, learned, cohort, tmp_path / "another"), "smoothing", "0.1", "0.0")


def test_a_larger_grid_keeps_its_runs(calls, four, cohort, tiny, tmp_path):
    sweep.sweep(experiment, four, cohort, tmp_path)
    larger = tiny(labels=[2, 4, 6], splits=[0, 1], profile="other")
    sweep.sweep(experiment, larger, cohort, tmp_path)
    assert len(calls) == len(set(calls)) == 12


def test_no_run_is_trained_beside_one_of_another_config(calls, four, cohort, tiny, tmp_path):
    """Also where another run of the grid is asked for: tables are of all of them."""
    sweep.sweep(experiment, four, cohort, tmp_path, only=lambda run: run.labels == 2)
    other, before = tiny(labels=[2, 4], width=8), len(calls)
    refused(lambda: sweep.sweep(experiment, other, cohort, tmp_path, only=lambda run: run.labels == 4), "width", "8")
    assert len(calls) == before


def other_data(cohort):
    images = cohort.images.clone()
    images[3, 0, 5, 5] += 0.01
    return Cohort(images, cohort.labels, cohort.ids, cohort.classes, cohort.spacing_mm, cohort.groups, {**cohort.meta})


def test_a_run_on_other_data_is_refused(calls, four, cohort, tmp_path):
    sweep.sweep(experiment, four, cohort, tmp_path)
    other = other_data(cohort)
    with pytest.raises(BadInput) as refused:
        sweep.sweep(experiment, four, other, tmp_path)
    message = str(refused.value)
    assert message.startswith(f"{tmp_path / 'runs' / FOUR[0]}.json: data: expected ")
    assert other.fingerprint()[:12] in message
    assert cohort.fingerprint()[:12] in message
    assert calls == FOUR


def test_runs_of_two_data_are_never_in_one_table(calls, four, cohort, tmp_path):
    """Neither `--only` runs that are not stored yet, nor a report that reads all of them, mixes two data sets."""
    sweep.sweep(experiment, four, cohort, tmp_path, only=lambda run: run.labels == 2)
    other, before = other_data(cohort), len(calls)
    with pytest.raises(BadInput, match="data: expected fingerprint"):
        sweep.sweep(experiment, four, other, tmp_path, only=lambda run: run.labels == 4)
    assert len(calls) == before
    with pytest.raises(BadInput, match="data: expected fingerprint"):
        report.write(experiment, four, other, tmp_path)
    assert not (tmp_path / "scores.csv").exists()


def test_networks_of_another_kind_are_not_shared(four, tiny, cohort, tmp_path):
    """The folder of the checkpoints: one for all runs of one config, data and source tree."""
    runs = experiment.grid(tiny(labels=[2, 4], splits=[0, 1]))
    code = {"lib": "abc"}

    def place(config=four, run=runs[0], fingerprint="f", code=code, device="cpu"):
        return sweep.checkpoints(tmp_path, run, experiment.identity(config, run), fingerprint, code, device)

    assert len({place(run=run) for run in runs}) == 1
    others = {
        place(),
        place(fingerprint="g"),
        place(code={"lib": "abd"}),
        place(device="cuda"),
        place(config=tiny(steps_finetune=13)),
        place(config=tiny(consistency_weight=2.0)),
    }
    assert len(others) == 6
    assert place(device="cuda:1") == place(device="cuda")

    assert place(config=tiny(amplitude=[3.0])) not in others  # the run leaves it open, so it is the folder's
    several = tiny(amplitude=[1.0, 2.0, 4.0])
    assert len({place(several, run) for run in experiment.grid(several)}) == 1  # and here the stage's name says it


def test_stages_that_differ_have_names_that_do(tiny, cohort, tmp_path):
    short = {"steps_supervised": 4, "steps_finetune": 4, "methods": ["Baseline"]}
    for config in (tiny(**short, amplitude=[1.0, 4.0]), tiny(**short, matched_validation_labels=[2])):
        sweep.sweep(experiment, config, cohort, tmp_path, only=lambda run: run.method == "Baseline")
    stages = {path.parent.name for path in tmp_path.rglob("network.pt") if "supervised" in path.parent.name}
    place = "supervised_labels=2_split=0_seed=0"
    assert stages == {place, f"{place}_amplitude=1.0", f"{place}_amplitude=4.0", f"{place}_validation=matched"}


# ---- the report ----


def test_what_a_result_folder_holds(calls, four, cohort, tmp_path):
    sweep.sweep(experiment, four, cohort, tmp_path)
    edit(tmp_path / "runs" / f"{FOUR[0]}.json", lambda r: r["scores"]["miou"].update(all=[20.1234, 20.8842]))
    scores, tables, claims = report.write(experiment, four, cohort, tmp_path)
    written = {"scores.csv", "table1.csv", "table1.md", "claims.csv", "provenance.json"}
    assert files(tmp_path) == written | {f"runs/{name}.json" for name in FOUR}
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "scores.csv"), scores, check_dtype=False)
    assert set(tables) == {"table1"}
    numbers = pd.read_csv(tmp_path / "table1.csv").select_dtypes("float")
    expected = tables["table1"][numbers.columns].astype(float)
    pd.testing.assert_frame_equal(numbers, expected, rtol=0, atol=1e-4)

    stored = pd.read_csv(tmp_path / "claims.csv", dtype={"published": str, "ours": str}).set_index("claim")
    assert list(stored.index) == [f"bortsova-{i:02}" for i in range(1, 21)]
    assert set(stored["verdict"]) == {"not run"}  # one split
    assert set(stored["data"]) == {"phantom"}

    markdown = (tmp_path / "table1.md").read_text()
    assert "phantom" in markdown.splitlines()[0]
    assert "4 of 4 runs" in markdown
    assert "| Baseline | **20.5** (n = 1)" in markdown  # the mean over both subjects
    assert "Mixed source trees" not in markdown


def test_provenance_of_a_folder(calls, four, cohort, tmp_path, monkeypatch):
    tree = {"commit": "c" * 40, "lib": "1" * 40, "params": "2" * 40, "dirty": False}
    monkeypatch.setattr(provenance, "code", lambda: tree)
    sweep.sweep(experiment, four, cohort, tmp_path)
    report.write(experiment, four, cohort, tmp_path)
    found = json.loads((tmp_path / "provenance.json").read_text())
    assert {key: found[key] for key in tree} == tree
    assert found["config"] == four.model_dump()
    assert found["runs"] == 4
    assert found["fingerprint"] == cohort.fingerprint()
    assert found["packages"]["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert {"python", "device", "deterministic"} <= set(found)
    assert found["start"] <= found["end"]
    assert "uncommitted" not in (tmp_path / "table1.md").read_text()


def test_mixed_source_trees_are_said(calls, four, cohort, tmp_path):
    sweep.sweep(experiment, four, cohort, tmp_path)
    for name, tree in zip(FOUR, ("a" * 40, "a" * 40 + "+1234abcd", "b" * 40, "a" * 40), strict=True):
        edit(tmp_path / "runs" / f"{name}.json", lambda r, t=tree: r["provenance"].update(lib=t, commit=t, dirty=False))
    report.write(experiment, four, cohort, tmp_path)
    caption = (tmp_path / "table1.md").read_text().splitlines()[0]
    assert "Mixed source trees" in caption
    assert "2 runs of aaaaaaaa, 1 runs of aaaaaaaa+1234abcd, 1 runs of bbbbbbbb." in caption
    trees = json.loads((tmp_path / "provenance.json").read_text())["lib"]
    assert trees == ["a" * 40, "a" * 40 + "+1234abcd", "b" * 40]


def test_one_dirty_run_is_said(calls, four, cohort, tmp_path):
    sweep.sweep(experiment, four, cohort, tmp_path)
    for name in FOUR:
        edit(tmp_path / "runs" / f"{name}.json", lambda r: r["provenance"].update(dirty=r["run"] == FOUR[3]))
    report.write(experiment, four, cohort, tmp_path)
    assert "uncommitted" in (tmp_path / "table1.md").read_text().splitlines()[0]


def test_a_hole_is_said(calls, four, cohort, tmp_path):
    sweep.sweep(experiment, four, cohort, tmp_path)
    (tmp_path / "runs" / f"{FOUR[1]}.json").unlink()
    report.write(experiment, four, cohort, tmp_path)
    markdown = (tmp_path / "table1.md").read_text()
    assert "3 of 4 runs" in markdown
    assert len(pd.read_csv(tmp_path / "scores.csv")) == 3 * 6


def test_no_run_no_report(four, cohort, tmp_path):
    with pytest.raises(RuntimeError, match="no run of the grid is stored"):
        report.write(experiment, four, cohort, tmp_path)
    assert files(tmp_path) == set()


def test_writing_twice_gives_the_same_bytes(calls, four, cohort, tmp_path):
    sweep.sweep(experiment, four, cohort, tmp_path)
    report.write(experiment, four, cohort, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    report.write(experiment, four, cohort, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


# ---- real training: the same bits, whatever happens ----


def numbers(folder, name):
    """What of a stored run must not change: all but times, memory and provenance."""
    record = json.loads((folder / "runs" / f"{name}.json").read_text())
    return {key: record[key] for key in ("config", "subjects", "scores", "overall", "history")}


NAMES = ["Baseline_labels=2_split=0_seed=0", "SemiTC+_labels=2_split=0_seed=0"]


@pytest.fixture(scope="module")
def swept(cohort, tmp_path_factory):
    """(config, folder) of a sweep that nothing interrupted."""
    from conftest import tiny_values

    config, folder = experiment.Config(**tiny_values()), tmp_path_factory.mktemp("swept")
    assert sweep.sweep(experiment, config, cohort, folder) == {}
    report.write(experiment, config, cohort, folder)
    return config, folder


def test_the_tiny_networks_learn_something(swept):
    """Otherwise equal scores would prove nothing: two methods, two results, both better than a blank page."""
    miou = [sum(numbers(swept[1], name)["scores"]["miou"]["all"]) for name in NAMES]
    assert miou[0] != miou[1]
    assert min(miou) > 8 * 5  # 8 test subjects


def test_one_run_alone_gives_the_same_bits(swept, cohort, tmp_path):
    config, folder = swept
    torch.rand(7)
    sweep.sweep(experiment, config, cohort, tmp_path, only=lambda run: run.method == "SemiTC+")
    assert numbers(tmp_path, NAMES[1]) == numbers(folder, NAMES[1])
    alone, among = (
        sweep.network_of(json.loads((place / "runs" / f"{NAMES[1]}.json").read_text()), place)
        for place in (tmp_path, folder)
    )
    assert same(alone, among)


def test_the_network_of_a_run_predicts_its_scores(swept, cohort):
    """The network.pt that a record names is the network that was scored."""
    config, folder = swept
    record = json.loads((folder / "runs" / f"{NAMES[0]}.json").read_text())
    method = experiment.build(config)
    method.network.load_state_dict(sweep.network_of(record, folder))
    index = cohort.index(record["subjects"])
    predicted, truth = method.predict(cohort.images[index]).argmax(1), cohort.labels[index]
    for i in range(len(index)):
        a, b = (predicted[i] == 5).numpy(), (truth[i] == 5).numpy()
        assert record["scores"]["iou"]["right lung"][i] == pytest.approx(100 * (a & b).sum() / (a | b).sum(), abs=1e-3)
    (folder / "elsewhere").mkdir(exist_ok=True)
    assert sweep.network_of(record, folder / "elsewhere") is None


def test_both_methods_start_from_one_supervised_network(swept):
    config, folder = swept
    stages = {path.parent.name for path in folder.rglob("network.pt")}
    assert stages == {"supervised_labels=2_split=0_seed=0", *NAMES}


def test_killed_between_training_and_the_run_file(swept, cohort, tmp_path):
    """The networks are there, the run files are not: scored again, nothing trained, the same numbers."""
    config, folder = swept
    shutil.copytree(folder / "checkpoints", tmp_path / "checkpoints")
    asked = []
    sweep.sweep(experiment, config, cohort, tmp_path, stop=lambda: asked.append(1) and False)
    assert asked == []
    for name in NAMES:
        assert numbers(tmp_path, name) == numbers(folder, name)


@pytest.mark.parametrize("at", [1, 5, 8, 11])
def test_stopped_at_a_checkpoint_and_started_again(swept, cohort, tmp_path, at):
    """At checkpoints of stage 1 (1, 5), of the first and of the second method's stage 2 (8, 11)."""
    config, folder = swept
    asked = []
    with pytest.raises(Stopped):
        sweep.sweep(experiment, config, cohort, tmp_path, stop=lambda: asked.append(1) or len(asked) == at)
    sweep.sweep(experiment, config, cohort, tmp_path, stop=lambda: asked.append(1) and False)
    assert len(asked) == 6 + 3 + 3  # each interval once
    report.write(experiment, config, cohort, tmp_path)
    assert (tmp_path / "scores.csv").read_bytes() == (folder / "scores.csv").read_bytes()
    for name in NAMES:
        assert numbers(tmp_path, name) == numbers(folder, name)


# ---- real processes, really killed ----


class Process:
    """`python -m fewlabels run` on a parameter file, results below a root."""

    def __init__(self, params_file, root):
        command = [
            sys.executable,
            "-m",
            "fewlabels",
            "run",
            str(params_file),
            "--results",
            str(root),
            "--device",
            "cpu",
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        environment.pop("FEWLABELS_DATA", None)
        self.folder = root / "jsrt" / f"phantom-{params_file.stem}"
        self.process = subprocess.Popen(
            command, cwd=root.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def until(self, condition):
        """Waits until `condition(folder)`; the process must still be at work then."""
        give_up = time.monotonic() + 120
        while not condition(self.folder):
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < give_up
            time.sleep(0.002)
        return self

    def send(self, number):
        self.process.send_signal(number)
        return self.end()

    def end(self):
        out, err = self.process.communicate(timeout=240)
        return self.process.returncode, out, err


def checkpoint_of(stage):
    return lambda folder: any(folder.glob(f"checkpoints/*/{stage}*/last.pt"))


@pytest.fixture(scope="module")
def long_values():
    """Long enough that a signal comes in the middle: a checkpoint every 2 steps, 4 runs."""
    return {"labels": [2, 4], "steps_supervised": 24, "steps_finetune": 24, "validate_every": 2}


@pytest.fixture(scope="module")
def undisturbed(long_values, cohort, tmp_path_factory):
    """scores.csv of the sweep that the processes below do, done here."""
    from conftest import tiny_values

    config, folder = experiment.Config(**tiny_values(**long_values)), tmp_path_factory.mktemp("undisturbed")
    sweep.sweep(experiment, config, cohort, folder, device="cpu")
    report.write(experiment, config, cohort, folder)
    return (folder / "scores.csv").read_bytes()


@pytest.mark.long
def test_killed_at_two_moments(undisturbed, long_values, params_file, tmp_path):
    """kill -9 in stage 1 and again in the stage 2 of the second method; the third start ends as if nothing had been."""
    path, root = params_file("tiny", **long_values), tmp_path / "results"
    for stage, runs in (("supervised_labels=2", 0), ("SemiTC+_labels=2", 1)):
        process = Process(path, root).until(checkpoint_of(stage))
        assert process.send(signal.SIGKILL)[0] == -signal.SIGKILL
        assert len(list(process.folder.glob("runs/*.json"))) == runs
        assert not (process.folder / "scores.csv").exists()
    process = Process(path, root)
    assert process.end()[0] == 0
    assert (process.folder / "scores.csv").read_bytes() == undisturbed
    assert not list(process.folder.rglob("last.pt"))
    hidden = [file for file in process.folder.rglob(".*") if file.is_file()]
    assert len(hidden) <= 2  # at most one a kill: what was being written
    assert all(file.suffix[1:].isdigit() for file in hidden)


@pytest.mark.long
def test_terminated_and_started_again(undisturbed, long_values, params_file, tmp_path):
    path, root = params_file("tiny", **long_values), tmp_path / "results"
    process = Process(path, root).until(checkpoint_of("Baseline_labels=2"))
    code, out, err = process.send(signal.SIGTERM)
    assert code == 75, err
    assert err.strip().splitlines()[-1].startswith("fewlabels: stopped after step")
    assert "Traceback" not in err
    assert list(process.folder.rglob("last.pt"))
    assert not [file for file in process.folder.rglob(".*") if file.is_file()]

    again = Process(path, root)
    code, out, err = again.end()
    assert (code, err) == (0, "")
    assert "phantom" in out.splitlines()[0]  # announced in the first line
    assert (again.folder / "scores.csv").read_bytes() == undisturbed


def test_scores_above_a_megabyte_are_packed_and_the_same_bytes_each_time(tmp_path):
    row = {"method": "A", "labels": 5, "split": 0, "seed": 0, "subject": "s", "structure": "all", "metric": "miou"}
    few, many = (pd.DataFrame([row | {"value": i / 7} for i in range(n)]) for n in (10, 40_000))
    for scores, name, other in ((few, "scores.csv", "scores.csv.gz"), (many, "scores.csv.gz", "scores.csv")):
        report._write_scores(scores, tmp_path)
        first = (tmp_path / name).read_bytes()
        report._write_scores(scores, tmp_path)
        assert (tmp_path / name).read_bytes() == first
        assert not (tmp_path / other).exists()
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / name), scores.round(4))
