"""Where results go: those in git are only replaced by who names them."""

import subprocess

import pytest
import yaml

from fewlabels import paths
from fewlabels.__main__ import main
from fewlabels.engine import params, sweep
from fewlabels.papers.bortsova2019 import jsrt as experiment
from fewlabels.paths import CHECKOUT


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of nothing, and nothing set."""
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(paths, "CHECKOUT", tmp_path)
    monkeypatch.delenv("FEWLABELS_RESULTS", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("profile", "folder"),
    [("quick", "results/local"), ("smoke", "results/local"), ("lite", "results"), (None, "results")],
)
def test_the_root_of_a_profile(checkout, monkeypatch, profile, folder):
    assert paths.results_root(profile) == checkout / folder
    monkeypatch.setenv("FEWLABELS_RESULTS", "")
    assert paths.results_root(profile) == checkout / folder
    monkeypatch.setenv("FEWLABELS_RESULTS", str(checkout / "named"))
    assert paths.results_root(profile) == checkout / "named"


@pytest.mark.parametrize("path", sorted(CHECKOUT.glob("params/*/quick.yaml")), ids=lambda path: path.parent.name)
def test_no_users_own_run_shows_in_git(checkout, monkeypatch, path):
    monkeypatch.setattr(paths, "CHECKOUT", CHECKOUT)
    module, config = params.load(path)
    folder = sweep.folder_of(module, config, None)
    assert folder == CHECKOUT / "results/local" / path.parent.name / f"{config.data}-quick"
    made = [folder / name for name in ("scores.csv", "x.ipynb", "figure1.png", "table1.md", "runs/x.json")]
    done = subprocess.run(["git", "-C", CHECKOUT, "check-ignore", *made], capture_output=True, text=True)
    assert done.stdout.split() == [*map(str, made)], done.stderr


def test_the_command_runs_into_it(checkout, tmp_path, monkeypatch, tiny):
    def run(config, run, cohort, folder, device="cpu", report=None, stop=None):
        return {"subjects": ["a"], "scores": {"miou": {"all": [50.0]}}, "overall": {"loss_sup": 0.5}, "history": []}

    monkeypatch.setattr(experiment, "run", run)
    file = tmp_path / "jsrt/quick.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(tiny(profile="quick").model_dump()))
    assert main(["run", str(file)]) == 0
    assert [path.name for path in (checkout / "results").iterdir()] == ["local"]
    assert (checkout / "results/local/jsrt/phantom-quick/scores.csv").exists()
    assert main(["run", str(file), "--results", str(checkout / "results")]) == 0
    assert (checkout / "results/jsrt/phantom-quick/scores.csv").exists()
