"""What is recorded beside a number: of a repository made here, of this machine. And files, whole or not at all."""

import json
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest
import torch

from fewlabels.engine import provenance
from fewlabels.files import whole, write_json, write_text

# ---- the code ----


def git(root, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(root), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A committed repository of our shape, in which provenance believes itself to be."""
    for variable in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(variable)
    for name in (
        "pyproject.toml",
        "requirements.lock",
        "README.md",
        "lib/fewlabels/engine/provenance.py",
        "params/jsrt/quick.yaml",
        "notebooks/a.py",
        "notebooks/a.ipynb",
        "results/jsrt/phantom-quick/scores.csv",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "first")
    monkeypatch.setattr("fewlabels.paths.CHECKOUT", tmp_path)
    monkeypatch.setattr("fewlabels.engine.provenance.CHECKOUT", tmp_path)
    return tmp_path


def test_a_clean_checkout(checkout):
    trees = {line.split("\t")[1]: line.split()[2] for line in git(checkout, "ls-tree", "HEAD").splitlines()}
    assert provenance.code() == {
        "commit": git(checkout, "log", "-1", "--format=%H"),
        "lib": trees["lib"],
        "params": trees["params"],
        "dirty": False,
    }


@pytest.mark.parametrize(
    ("name", "dirty"),
    [
        ("lib/fewlabels/engine/provenance.py", True),
        ("lib/fewlabels/new.py", True),
        ("params/jsrt/quick.yaml", True),
        ("notebooks/a.py", True),
        ("requirements.lock", True),
        ("results/jsrt/phantom-quick/scores.csv", False),
        ("results/jsrt/phantom-quick/table1.csv", False),
        ("notebooks/a.ipynb", False),
        ("README.md", False),
    ],
)
@pytest.mark.parametrize("staged", [False, True])
def test_dirty_is_a_change_in_what_computes(checkout, name, dirty, staged):
    before = provenance.code()
    (checkout / name).write_text("changed")
    if staged:
        git(checkout, "add", "-A")
    after = provenance.code()
    lib = after.pop("lib")
    assert after | {"lib": before["lib"]} == before | {"dirty": dirty}
    if name.startswith("lib/") and (staged or "new" not in name):
        assert re.fullmatch(before["lib"] + r"\+[0-9a-f]{8}", lib)  # a changed lib/ is another source tree
    else:  # git diff does not see a file that git does not know
        assert lib == before["lib"]


def test_the_trees_change_with_their_folders_only(checkout):
    before = provenance.code()
    (checkout / "README.md").write_text("changed")
    git(checkout, "commit", "-q", "-a", "-m", "second")
    after = provenance.code()
    assert after["commit"] != before["commit"]
    assert (after["lib"], after["params"], after["dirty"]) == (before["lib"], before["params"], False)
    (checkout / "lib/fewlabels/engine/provenance.py").write_text("changed")
    git(checkout, "commit", "-q", "-a", "-m", "third")
    assert provenance.code()["lib"] != before["lib"]
    assert provenance.code()["params"] == before["params"]


def test_without_a_commit_or_a_checkout_nothing_is_claimed(checkout):
    nothing = {"commit": None, "lib": None, "params": None, "dirty": None}
    (checkout / "pyproject.toml").unlink()  # an installed package below somebody else's repository
    assert provenance.code() == nothing
    (checkout / "pyproject.toml").write_text("")
    git(checkout, "update-ref", "-d", "HEAD")
    assert provenance.code() == nothing


def test_an_unpacked_archive_in_somebody_elses_repository_claims_nothing(checkout, monkeypatch):
    """Even where that has a lib/ and params/ of its own."""
    inside = checkout / "unpacked"
    for name in ("pyproject.toml", "lib/fewlabels/engine/provenance.py", "params/jsrt/quick.yaml"):
        (inside / name).parent.mkdir(parents=True, exist_ok=True)
        (inside / name).write_text("ours")
    monkeypatch.setattr("fewlabels.paths.CHECKOUT", inside)
    monkeypatch.setattr("fewlabels.engine.provenance.CHECKOUT", inside)
    assert provenance.code() == {"commit": None, "lib": None, "params": None, "dirty": None}


# ---- the machine ----


def test_the_machine():
    torch.set_num_threads(1)
    found = provenance.machine("cpu")
    assert found["packages"]["torch"] == torch.__version__
    assert {"fewlabels", "numpy", "scipy", "pandas"} <= set(found["packages"])
    assert found["device"].startswith("cpu: ")
    assert (found["threads"], found["tf32"], found["deterministic"]) == (1, False, True)
    assert found["cores"] == os.cpu_count()
    json.dumps(found, allow_nan=False)


def test_nothing_names_the_host_or_its_user():
    text = json.dumps(provenance.machine("cpu") | provenance.code())
    for private in (socket.gethostname(), str(Path.home()), os.getcwd()):
        assert private not in text


# ---- many runs ----


def test_union():
    one = {"lib": "a", "dirty": False, "packages": {"torch": "2"}, "start": "2026-01-02", "end": "2026-01-05"}
    two = one | {"lib": "b", "start": "2026-01-01", "end": "2026-01-03"}
    three = one | {"packages": {"torch": "3"}, "extra": 1, "end": "2026-01-04"}
    assert provenance.union([one, two, three, one]) == {
        "lib": ["a", "b"],
        "dirty": False,
        "packages": [{"torch": "2"}, {"torch": "3"}],
        "extra": 1,
        "start": "2026-01-01",
        "end": "2026-01-05",
    }
    assert provenance.union([one]) == one
    assert provenance.union([two, one])["lib"] == ["a", "b"]  # the order of the runs does not matter
    unknown = provenance.union([one, one | {"lib": None, "dirty": True}])
    assert set(unknown["lib"]) == {None, "a"}
    assert unknown["dirty"] == [False, True]


def test_times_can_be_compared_as_text():
    moments = [provenance.now() for _ in range(3)]
    assert moments == sorted(moments)
    assert all(moment.endswith("+00:00") for moment in moments)


# ---- files ----


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with whole(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent  # one file system: the renaming is atomic
        assert temporary.name.startswith(".")
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("before")

    def fail(target):
        with whole(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail(path)
    with pytest.raises(error):
        fail(tmp_path / "b.txt")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), whole(tmp_path / "a.txt"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_text_and_json(tmp_path):
    write_text(tmp_path / "a.txt", "ü\n")
    assert (tmp_path / "a.txt").read_bytes() == "ü\n".encode()
    write_json(tmp_path / "a.json", {"ü": [1, None, 0.5]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ü": [1, None, 0.5]}
    assert (tmp_path / "a.json").read_text(encoding="utf-8").endswith("}\n")
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})  # NaN is no JSON
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ü": [1, None, 0.5]}
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "a.json"}
