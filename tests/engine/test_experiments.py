"""Experiments are found where they stand, a sixth paper's too, and what is wrong with one is said in a line."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import pandas as pd
import pytest
from helpers import refused

from fewlabels import papers
from fewlabels.__main__ import main
from fewlabels.engine import experiments, ledger
from fewlabels.paths import CHECKOUT, datasets
from fewlabels.scores.published import published

SEVEN = {"jsrt", "cifar10", "acdc", "isic", "oar", "mnist", "brats"}
# A whole paper, as CONTRIBUTING has it: a linear classifier of scikit-learn's digits, with more and with fewer labels.
CONTRIBUTING = (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILE = re.compile(r"^`([^`]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAPER = dict(FILE.findall(CONTRIBUTING))
[COMMANDS] = re.findall(r"^```sh\n(export FEWLABELS_PAPERS.*?)^```$", CONTRIBUTING, re.MULTILINE | re.DOTALL)


@pytest.fixture
def place(tmp_path, monkeypatch, results):
    """A folder of papers named in FEWLABELS_PAPERS, in which there is a sixth one."""
    for name, text in PAPER.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    monkeypatch.setenv("FEWLABELS_PAPERS", str(tmp_path / "papers"))
    yield tmp_path / "papers"
    monkeypatch.delenv("FEWLABELS_PAPERS")
    forget()
    experiments.modules()  # this process forgets the folder


def forget():
    """The sixth paper is imported anew, as by a process of its own."""
    for name in [name for name in sys.modules if name.startswith("fewlabels.papers.sixth2026")]:
        del sys.modules[name]
    vars(papers).pop("sixth2026", None)
    importlib.invalidate_caches()
    published.cache_clear()


@pytest.fixture
def fewlabels(capsys, results):
    """fewlabels(*arguments): what the command ends in, says and complains about, in this process."""

    def call(*arguments):
        forget()
        capsys.readouterr()
        status = main([*map(str, arguments)])
        return SimpleNamespace(status=status, **capsys.readouterr()._asdict())

    return call


def test_the_seven():
    assert {*experiments.modules()} == SEVEN == {*experiments.summaries()}
    for name, file in experiments.modules().items():
        assert experiments.load(file).NAME == name
    assert {*datasets("check")} == {*datasets("prepare")} == SEVEN
    assert datasets("download") == ["cifar10", "mnist"]


def test_a_sixth_paper_is_short():
    assert len(PAPER) == 4
    assert sum(len(text.splitlines()) for text in PAPER.values()) <= 120


def test_a_sixth_paper_is_found_swept_judged_and_tabulated(fewlabels, place, tmp_path):
    """By the commands of CONTRIBUTING, with this Python."""
    params_file, results = place.parent / "params/sixth/smoke.yaml", tmp_path / "results"
    function = f'fewlabels() {{ "{sys.executable}" -m fewlabels "$@"; }}'
    there = {**os.environ, "FEWLABELS_RESULTS": str(results), "FEWLABELS_PAPERS": ""}
    script = ["bash", "-ec", f"{function}\n{COMMANDS}"]
    done = subprocess.run(script, capture_output=True, text=True, env=there, cwd=place.parent)
    assert done.returncode == 0, done.stderr
    assert "reproduce-sixth     Sixth et al. 2026, Table 1: a linear classifier of digits." in done.stdout
    assert all(f"reproduce-{name} " in done.stdout for name in SEVEN)
    done = fewlabels("run", params_file, "--results", results)  # from what is stored
    assert done.status == 0, done.err
    folder = results / "sixth" / "digits-smoke"
    assert len([*(folder / "runs").iterdir()]) == 6
    claims = pd.read_csv(folder / "claims.csv").set_index("claim")
    assert claims.loc["sixth-01", "verdict"] == "supported"
    assert claims.loc["sixth-01", "n"] == 3
    assert claims.loc["sixth-01", "scale"] == "1/10 of the steps"
    table = (folder / "table1.md").read_text(encoding="utf-8")
    assert "paper 90.0 ± 1.0" in table
    assert "(n = 3)" in table


def test_a_rule_that_changed_judges_stored_runs_again(fewlabels, place, tmp_path, monkeypatch):
    results = tmp_path / "results"
    assert fewlabels("run", place.parent / "params/sixth/smoke.yaml", "--results", results).status == 0
    rules = place / "sixth2026/claims.py"
    rules.write_text(rules.read_text().replace("(gain > 0).all()", "(gain > 1000).all()"))
    forget()
    ledger.judge_again(results)
    claims = pd.read_csv(results / "sixth/digits-smoke/claims.csv")
    assert claims["verdict"].tolist() == ["inconclusive"]
    assert claims["scale"].tolist() == ["1/10 of the steps"]  # of the config that provenance.json has


def test_the_verdict_under_the_rule_before_stands_beside_the_new_one(fewlabels, place, tmp_path):
    old = "before: [{claim: sixth-01, data: digits, profile: smoke, verdict: contradicted, until: 2026-11-29}]"
    file = place / "sixth2026/published.yaml"
    file.write_text(file.read_text() + old)
    assert fewlabels("run", place.parent / "params/sixth/smoke.yaml", "--results", tmp_path).status == 0
    claims = pd.read_csv(tmp_path / "sixth/digits-smoke/claims.csv")
    assert claims[["verdict", "before"]].to_numpy().tolist() == [["supported", "contradicted, until 2026-11-29"]]


def test_a_comparator_out_of_range_and_one_without_a_bound(fewlabels, place, tmp_path):
    file, run = place / "sixth2026/published.yaml", ["run", place.parent / "params/sixth/smoke.yaml"]
    file.write_text(file.read_text().replace("at least: 20", "at least: 99"))
    assert fewlabels(*run, "--results", tmp_path).status == 0
    [claim] = pd.read_csv(tmp_path / "sixth/digits-smoke/claims.csv").to_dict("records")
    assert claim["verdict"] == "not run"
    assert claim["ours"].startswith("comparator out of range: Linear, labels 20 ")
    file.write_text(file.read_text().replace("rows: [Linear]", "rows: [Another]"))
    done = fewlabels(*run, "--results", tmp_path)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "sixth-01: compares: Linear: expected a bound of it in `healthy`, found none" in done.err


@pytest.mark.parametrize(
    ("part", "old", "new", "said"),
    [
        ("published.yaml", "compares:", "compared:", "sixth-01: compares: expected a list of rows, found None"),
        ("published.yaml", "claims:", "claims: [", "published.yaml: expected YAML"),
        ("claims.py", "def sixth_01(", "def sixth_1(", "sixth-01: expected a rule, found rules for no claim"),
        ("claims.py", "def judge(", "def judge(:", "expected a module that can be imported, found SyntaxError"),
        ("digits.py", "import torch\n", "import torch, no_such_module\n", "found ModuleNotFoundError: No module named"),
    ],
)
def test_a_paper_with_a_fault_ends_in_one_line_and_leaves_nothing(fewlabels, place, tmp_path, part, old, new, said):
    file = place / "sixth2026" / part
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    done = fewlabels("run", place.parent / "params/sixth/smoke.yaml", "--results", tmp_path / "results")
    assert (done.status, done.err.count("\n")) == (2, 1), done.err
    assert said in done.err
    left = [path.name for path in (tmp_path / "results").rglob("*") if path.is_file() and path.parent.name != "runs"]
    assert not [name for name in left if name.endswith((".csv", ".md"))]


def test_a_paper_without_a_notebook_has_tables_all_the_same(fewlabels, place, tmp_path):
    done = fewlabels("notebooks", place.parent / "params/sixth/smoke.yaml", "--results", tmp_path)
    assert done.status == 0, done.err
    assert {"table1.md", "claims.csv", "scores.csv"} <= {
        path.name for path in (tmp_path / "sixth/digits-smoke").iterdir()
    }


def test_makes_targets_are_those_of_the_command_without_an_environment():
    """`make help` is for those who have nothing installed: it asks a Python without packages."""
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = [{str(CHECKOUT / 'lib')!r}]; "]
    command[-1] += "from fewlabels.__main__ import main; sys.exit(main(['list']))"
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()} == {
        f"{kind}-{name}" for kind in ("reproduce", "check-data") for name in SEVEN
    }


# ---- what is refused ----


def test_a_folder_of_papers_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("FEWLABELS_PAPERS", str(tmp_path / "none"))
    refused(experiments.modules, "FEWLABELS_PAPERS", tmp_path / "none")


@pytest.mark.parametrize("part", ["published.yaml", "claims.py"])
def test_a_paper_without_a_part(place, part):
    (place / "sixth2026" / part).unlink()
    refused(experiments.modules, place / "sixth2026", f"found no {part}")


def test_folders_beside_papers_are_none(place):
    (place / "params").mkdir()
    (place / "notes").mkdir()
    (place / "notes/todo.txt").write_text("")
    assert {*experiments.modules()} == SEVEN | {"sixth"}


def test_a_folder_with_the_name_of_another_paper(place):
    (place / "sixth2026").rename(place / "gao2021")
    refused(experiments.modules, place / "gao2021", "a name of its own")


def test_a_module_that_cannot_be_read_is_said_in_the_list(place):
    (place / "sixth2026/digits.py").write_text('NAME = "sixth"\n(')
    refused(experiments.summaries, place / "sixth2026/digits.py", "SyntaxError")


def test_a_paper_without_an_experiment(place):
    (place / "sixth2026/digits.py").unlink()
    refused(experiments.modules, place / "sixth2026", 'NAME = "..."', "found none")


@pytest.mark.parametrize("part", ["tables", "notebooks", "judge", "scale"])
def test_an_experiment_without_a_part(fewlabels, place, part):
    file = place / "sixth2026/digits.py"
    file.write_text(
        file.read_text().replace(f"def {part}(", f"def no_{part}(").replace("import judge", "import sixth_01")
    )
    done = fewlabels("run", place.parent / "params/sixth/smoke.yaml")
    assert done.status == 2
    assert done.err.count("\n") == 1
    assert f"{file}: expected an experiment's NAME, Config, grid" in done.err
    assert f"no {part}" in done.err


@pytest.mark.parametrize("name", ["jsrt", "two words", ""])
def test_a_name_that_is_taken_or_none(place, name):
    file = place / "sixth2026/digits.py"
    file.write_text(file.read_text().replace('NAME = "sixth"', f'NAME = "{name}"'))
    refused(experiments.modules, f"{file}: NAME", repr(name))


def test_an_unknown_experiment(fewlabels, tmp_path):
    (tmp_path / "nothing").mkdir()
    done = fewlabels("run", tmp_path / "nothing" / "smoke.yaml")
    assert done.status == 2
    assert done.err.count("\n") == 1
    assert "expected a folder named after an experiment (acdc, brats, " in done.err
    assert done.err.endswith("found 'nothing'\n")


def test_an_installed_wheel_judges_claims_and_has_a_command(tmp_path):
    """Unpacked beside no checkout, it finds each paper's published.yaml, and its console script leaves a status."""
    source = tmp_path / "source"
    shutil.copytree(CHECKOUT / "lib", source / "lib", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("fewlabels-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "site")
    code = (
        "import pandas as pd; from fewlabels.engine import experiments; "
        f"scores = pd.read_csv({str(CHECKOUT / 'results/oar/phantom-quick/scores.csv')!r}); "
        "print(experiments.__file__, experiments.load(experiments.modules()['oar']).judge(scores, 'phantom').to_csv())"
    )
    there = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "FEWLABELS_DATA": ""}
    judged = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=there, cwd=tmp_path)
    assert judged.stdout.startswith(str(tmp_path / "site")), judged.stderr
    assert "gao-13" in judged.stdout
    call = (
        "import sys; from importlib.metadata import entry_points; "
        "(command,) = entry_points(group='console_scripts', name='fewlabels'); sys.exit(command.load()())"
    )
    for arguments, status, said in ((["list"], 0, "reproduce-oar "), (["run", "oar/none.yaml"], 2, "")):
        command = [sys.executable, "-c", call, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=there, cwd=tmp_path)
        assert done.returncode == status, done.stderr
        assert said in done.stdout
