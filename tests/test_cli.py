"""The command line: exit status, one line on stderr, and nothing written where the input was bad."""

import json
import os
import signal
import subprocess
import sys
import warnings

import pandas as pd
import pytest

from fewlabels.__main__ import main
from fewlabels.engine import report
from fewlabels.engine.training import Diverged
from fewlabels.papers.bortsova2019 import jsrt as experiment

QUICK = {"steps_supervised": 4, "steps_finetune": 4}


@pytest.fixture
def calls(monkeypatch):
    """Runs cost nothing and are counted."""
    done = []

    def run(config, run, cohort, folder, device="cpu", report=None, stop=None):
        done.append(run.id)
        return {"subjects": ["a"], "scores": {"miou": {"all": [50.0]}}, "overall": {"loss_sup": 0.5}, "history": []}

    monkeypatch.setattr(experiment, "run", run)
    return done


@pytest.fixture
def command(capsys, results):
    """command(*arguments) -> (exit status, stdout, stderr)."""

    def call(*arguments):
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as left:  # argparse
            status = left.code
        return (status, *capsys.readouterr())

    return call


@pytest.fixture
def refused(command, results):
    """refused(arguments, texts): status 2, one line on stderr with all texts, no results."""

    def check(arguments, *texts):
        status, _, err = command(*arguments)
        assert status == 2
        assert err.startswith("fewlabels: ")
        assert err.count("\n") == 1, err
        assert not [text for text in texts if str(text) not in err], err
        assert not results.exists()

    return check


# ---- a sweep ----


def test_run(command, params_file, results):
    """Really trained, once; the second time nothing is."""
    path = params_file(**QUICK)
    status, out, err = command("run", path, "--device", "cpu")
    assert (status, err) == (0, "")
    assert out.startswith("Data: phantom: synthetic")
    folder = results / "jsrt" / "phantom-tiny"
    written = {"scores.csv", "table1.csv", "table1.md", "claims.csv", "provenance.json", "runs", "checkpoints"}
    assert {path.name for path in folder.iterdir()} == written
    assert len(list((folder / "runs").iterdir())) == 2
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()}
    scores = (folder / "scores.csv").read_bytes()
    assert command("run", path, "--device", "cpu")[0] == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()} == before
    assert (folder / "scores.csv").read_bytes() == scores


def test_results_elsewhere(calls, command, params_file, results, tmp_path):
    assert command("run", params_file(), "--results", tmp_path / "there")[0] == 0
    assert (tmp_path / "there/jsrt/phantom-tiny/scores.csv").exists()
    assert not results.exists()


def test_a_failed_run_gives_1_and_the_rest(calls, command, params_file, results, monkeypatch):
    quick = experiment.run

    def run(config, run, *arguments):
        if run.method == "Baseline":
            raise Diverged("a loss is not finite")
        return quick(config, run, *arguments)

    monkeypatch.setattr(experiment, "run", run)
    status, _, err = command("run", params_file())
    assert status == 1
    assert err == "fewlabels: Baseline_labels=2_split=0_seed=0 failed: Diverged: a loss is not finite\n"
    scores = pd.read_csv(results / "jsrt/phantom-tiny/scores.csv")
    assert set(scores["method"]) == {"SemiTC+"}

    monkeypatch.setattr(experiment, "run", quick)
    assert command("run", params_file())[0] == 0  # the hole is filled
    assert set(pd.read_csv(results / "jsrt/phantom-tiny/scores.csv")["method"]) == {"Baseline", "SemiTC+"}


def test_all_runs_failed(command, params_file, results, monkeypatch):
    def run(*arguments):
        raise Diverged("a loss is not finite")

    monkeypatch.setattr(experiment, "run", run)
    status, _, err = command("run", params_file())
    assert status == 1
    assert err.count("\n") == 2
    assert not (results / "jsrt/phantom-tiny/scores.csv").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_gives_75_after_a_checkpoint(command, params_file, results, monkeypatch, number):
    """The signal comes in the middle of a step; the same command then goes on."""
    build, built = experiment.build, []

    def interrupted(config, method="Baseline", device="cpu"):
        made = build(config, method, device)
        step = made.training_step

        def training_step(batch):
            if not built:
                built.append(1)
                signal.raise_signal(number)
            return step(batch)

        made.training_step = training_step
        return made

    monkeypatch.setattr(experiment, "build", interrupted)
    path = params_file(**QUICK | {"validate_every": 2})
    status, _, err = command("run", path, "--device", "cpu")
    assert status == 75
    assert err == "fewlabels: stopped after step 2 of 4; the same command goes on from there\n"
    folder = results / "jsrt/phantom-tiny"
    assert [file.name for file in folder.rglob("*") if file.is_file()] == ["last.pt"]
    assert command("run", path, "--device", "cpu")[0] == 0
    assert (folder / "scores.csv").exists()


def test_only(calls, command, params_file):
    path = params_file(labels=[2, 4], splits=[0, 1])
    assert command("run", path, "--only", "split=1,labels=4,method=SemiTC+")[0] == 0
    assert calls == ["SemiTC+_labels=4_split=1_seed=0"]
    assert command("run", path, "--only", "split=1,labels=2,labels=4,method=Baseline")[0] == 0
    assert calls[1:] == ["Baseline_labels=2_split=1_seed=0", "Baseline_labels=4_split=1_seed=0"]
    assert command("run", path)[0] == 0
    assert len(calls) == len(set(calls)) == 8


@pytest.mark.parametrize(
    ("changed", "only", "ids"),
    [
        (
            {"matched_validation_labels": [2]},
            "validation=matched",
            [f"{m}_labels=2_split=0_seed=0_validation=matched" for m in ("Baseline", "SemiTC", "SemiTC+")],
        ),
        (
            {"amplitude": [0.5, 4.0]},
            "amplitude=0.5",
            [f"{m}_labels=2_split=0_seed=0_amplitude=0.5" for m in ("Baseline", "SemiTC+")],
        ),
    ],
)
def test_only_some_amplitude_or_validation(calls, command, params_file, monkeypatch, changed, only, ids):
    monkeypatch.setattr("fewlabels.engine.report.write", lambda *arguments: None)
    assert command("run", params_file(**changed), "--only", only)[0] == 0
    assert calls == ids


@pytest.mark.parametrize(
    ("only", "texts"),
    [
        ("split=1", ["--only split=1", "expected one of 0", "'1'"]),
        ("labels=3", ["--only labels=3", "expected one of 2", "'3'"]),
        ("method=SemiTC", ["--only method=SemiTC", "Baseline, SemiTC+"]),
        ("method=baseline", ["--only method=baseline"]),
        ("fold=0", ["--only fold=0", "method, labels, split, seed", "'fold'"]),
        ("fold=None", ["--only fold=None", "method, labels, split, seed"]),
        ("split", ["--only split"]),
        ("split=", ["--only split="]),
        ("split=0,labels=9", ["--only labels=9"]),
        ("0", ["--only 0"]),
    ],
)
def test_only_what_is_not_in_the_grid(calls, refused, params_file, only, texts):
    refused(["run", params_file(), "--only", only], *texts)
    assert calls == []


def test_only_a_combination_that_is_not_in_the_grid(calls, refused, params_file):
    """Each is there, but SemiTC at all 6 labels is SupTC and not run."""
    path = params_file(labels=[2, 6], methods=["SupTC", "SemiTC"])
    refused(["run", path, "--only", "method=SemiTC,labels=6"], "--only")


# ---- bad input ----


def test_bad_parameter_files(refused, params_file, tmp_path):
    path = params_file(widht=4)
    refused(["run", path], f"{path}: widht: ", "an unknown key")
    path = params_file(learning_rate="1e-3")
    refused(["run", path], f"{path}: learning_rate: ", "1e-3")
    path = params_file(width="4")
    refused(["run", path], f"{path}: width: ")
    path = params_file(width=None)
    refused(["run", path], f"{path}: width: expected a value, found none")
    path.write_text("profile: [")
    refused(["run", path], f"{path}: expected YAML")
    refused(["run", tmp_path / "jsrt/none.yaml"], "none.yaml: expected a parameter file")
    refused(["notebooks", path], f"{path}: expected YAML")


def test_a_profile_that_is_not_the_files_name(calls, refused, params_file):
    path = params_file(profile="other")
    refused(["run", path], f"{path}: profile: expected the file's name, 'tiny', found 'other'")


def test_too_few_subjects(refused, params_file):
    """Only the split finds out; still nothing is left behind."""
    refused(["run", params_file(subjects=10)], "split 0")


def test_a_device_that_does_not_exist(refused, params_file):
    refused(["run", params_file(**QUICK), "--device", "abacus"], "abacus")


@pytest.mark.parametrize("unset", [None, ""])
def test_real_data_without_a_data_root(refused, params_file, monkeypatch, unset):
    """It says what to set, what should be there and where to get it."""
    if unset is not None:
        monkeypatch.setenv("FEWLABELS_DATA", unset)
    for command in ("run", "notebooks"):
        refused([command, params_file(data="jsrt")], "FEWLABELS_DATA", "--data", "db.jsrt.or.jp", "jsrt/")


def test_a_data_root_without_jsrt(refused, params_file, tmp_path, monkeypatch):
    path = params_file(data="jsrt", profile="other", name="other")
    root = tmp_path / "data"
    root.mkdir()
    refused(["run", path, "--data", root], root / "jsrt", "no such folder")
    monkeypatch.setenv("FEWLABELS_DATA", str(root))
    refused(["run", path], root / "jsrt", "no such folder")
    refused(["run", path, "--data", tmp_path / "nowhere"], tmp_path / "nowhere")


def test_check_data_and_prepare_without_data(refused, tmp_path):
    refused(["check-data", "jsrt"], "FEWLABELS_DATA")
    refused(["check-data", "jsrt", "--data", tmp_path], tmp_path / "jsrt")
    refused(["prepare", "jsrt", "--data", tmp_path, "--out", tmp_path / "out.npz"], tmp_path / "jsrt")
    assert not (tmp_path / "out.npz").exists()


def test_a_run_of_another_config(calls, command, params_file, results):
    assert command("run", params_file())[0] == 0
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    status, _, err = command("run", params_file(width=8))
    assert status == 2
    assert "Baseline_labels=2_split=0_seed=0.json: width: expected 8, as in the parameters, found 4" in err
    assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file()} == before


def test_a_damaged_run(calls, command, params_file, results):
    path = params_file()
    assert command("run", path)[0] == 0
    damaged = results / "jsrt/phantom-tiny/runs/Baseline_labels=2_split=0_seed=0.json"
    damaged.write_text(damaged.read_text()[:100])
    status, out, err = command("run", path)
    assert status == 0
    assert str(damaged) in out + err
    assert json.loads(damaged.read_text())["run"] == "Baseline_labels=2_split=0_seed=0"
    assert len(calls) == 3


@pytest.mark.parametrize(
    "arguments", [[], ["train"], ["run"], ["check-data", "imagenet"], ["prepare", "jsrt"], ["run", "x.yaml", "--fast"]]
)
def test_usage(command, arguments):
    status, _, err = command(*arguments)
    assert status == 2
    assert "usage: fewlabels" in err


def test_help_names_what_there_is(command):
    status, out, _ = command("--help")
    assert status == 0
    assert all(name in out for name in ("run", "notebooks", "prepare", "check-data"))


def test_as_a_process(params_file, results, tmp_path):
    """The status reaches the shell, without a traceback; the working directory does not matter."""
    path = params_file(widht=4)
    done = subprocess.run(
        [sys.executable, "-m", "fewlabels", "run", str(path)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"fewlabels: {path}: widht: expected one of ")
    assert done.stderr.count("\n") == 1
    assert not results.exists()


def test_results_that_cannot_be_written(tmp_path, params_file, capsys):
    (tmp_path / "file").write_text("")
    for command in ("run", "notebooks"):
        assert main([command, str(params_file()), "--results", str(tmp_path / "file")]) == 2
        err = capsys.readouterr().err
        assert "expected a folder that can be written, found Not a directory" in err
        assert err.count("\n") == 1


def test_scores_that_cannot_be_written(command, calls, params_file, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fewlabels.engine.report._write_scores", full)
    status, _, err = command("run", params_file())
    assert status == 2
    assert err.endswith("expected a folder that can be written, found No space left on device\n")


@pytest.mark.parametrize("name", ["jsrt", "cifar10", "acdc", "isic", "oar", "mnist", "brats"])
def test_a_data_root_that_cannot_be(refused, name, tmp_path):
    """The system refuses the very look at it: a name too long here, a folder of somebody else's elsewhere."""
    refused(["check-data", name, "--data", tmp_path / ("x" * 300)], f"{tmp_path}/xxx", "found File name too long")


def test_home_is_understood_everywhere(refused, monkeypatch, tmp_path, params_file):
    """`make DATA=~/data` and `--data=~/data` reach Python as they are."""
    monkeypatch.setenv("HOME", str(tmp_path))
    refused(["check-data", "jsrt", "--data=~/data"], f"{tmp_path}/data/jsrt")
    monkeypatch.setenv("FEWLABELS_DATA", "~/other")
    refused(["check-data", "jsrt"], f"{tmp_path}/other/jsrt")


def test_interrupted(command, monkeypatch, params_file):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("fewlabels.engine.notebooks.run_all", interrupt)
    assert command("notebooks", params_file()) == (
        75, "", "fewlabels: interrupted; the same command goes on from what is stored\n"
    )  # fmt: skip


# ---- notebooks, whose cells cost nothing here ----


@pytest.fixture
def executed(calls, monkeypatch):
    """Which notebooks were executed."""
    done = []

    def execute(source, target, values):
        done.append(target.name)
        config = experiment.Config(**values)
        report.write(experiment, config, experiment.load(config), target.parent)
        target.write_text("{}")

    monkeypatch.setattr("fewlabels.engine.notebooks.execute", execute)
    return done


def test_notebooks_says_the_table_the_best_method_and_what_to_open(calls, executed, command, params_file, results):
    path = params_file()
    status, first, err = command("notebooks", path)
    assert (status, err) == (0, "")
    folder = results / "jsrt/phantom-tiny"
    said = first.replace("\r", "\n").splitlines()
    assert said[0].startswith("Data: phantom: synthetic")
    assert said[3:5] == ["100%|██████████| 2 of 2 runs", "Figures and verdicts: notebooks/bortsova2019_table1.py"]
    assert {"Baseline  50.0", "SemiTC+   50.0", "Best, 2 labels: Baseline 50.0", f"To open, in {folder}/"} < {*said}
    assert "[" not in first
    assert (len(calls), executed) == (2, ["bortsova2019_table1.ipynb"])

    status, again, err = command("notebooks", path)
    assert (status, err) == (0, "")
    assert again.splitlines()[0] == "Nothing has changed since these results were made:"
    assert again.split("\n\n", 1)[1] == first.split("\n\n", 1)[1]
    assert (len(calls), len(executed)) == (2, 1)

    (folder / "table1.md").write_text("| edited |\n")
    assert command("notebooks", path)[1].endswith(first.split("\n\n", 1)[1])
    assert (len(calls), len(executed)) == (2, 2)
    next((folder / "runs").iterdir()).unlink()
    assert command("notebooks", path)[0] == 0
    assert (len(calls), len(executed)) == (3, 3)


def test_notebooks_with_a_failed_run_is_never_done(calls, executed, command, params_file, monkeypatch):
    quick, path = experiment.run, params_file()

    def run(config, run, *arguments):
        if run.method == "Baseline":
            raise Diverged("a loss is not finite")
        return quick(config, run, *arguments)

    monkeypatch.setattr(experiment, "run", run)
    for _ in range(2):
        status, _, err = command("notebooks", path)
        assert status == 1
        assert err == "fewlabels: Baseline_labels=2_split=0_seed=0 failed: Diverged: a loss is not finite\n"
    monkeypatch.setattr(experiment, "run", quick)
    assert command("notebooks", path)[0] == 0


def test_nothing_is_trained_for_a_notebook_that_does_not_take_the_parameters(
    calls, command, params_file, monkeypatch, tmp_path
):
    monkeypatch.setattr("fewlabels.engine.notebooks.CHECKOUT", tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks/bortsova2019_table1.py").write_text('# %% tags=["parameters"]\nsteps = 3\n')
    status, _, err = command("notebooks", params_file())
    assert status == 2
    assert "bortsova2019_table1.py" in err
    assert calls == []


def test_what_data_are_warned_of_is_one_line_and_others_say_where(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # put back behind this test
    assert main(["list"]) == 0
    ours, theirs = (
        warnings.formatwarning("a_gt.nii.gz: turned", category, "lib/data.py", 113, "some code")
        for category in (UserWarning, DeprecationWarning)
    )
    assert ours == "fewlabels: a_gt.nii.gz: turned\n"
    assert theirs == "lib/data.py:113: DeprecationWarning: a_gt.nii.gz: turned\n  some code\n"


def test_who_reads_has_enough():
    """`python -m fewlabels list | head -1`"""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-m", "fewlabels", "list"], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")
