"""When a command may say what it said before, and when everything is made again."""

import pytest

from fewlabels.engine import experiments, unchanged
from fewlabels.engine.unchanged import STAMP, stamp, stamped


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A checkout with a parameter file, and the folder that was made with it: (checkout, file, folder)."""
    monkeypatch.setattr(unchanged, "CHECKOUT", tmp_path)
    monkeypatch.setattr(experiments, "folders", lambda: [tmp_path / "papers/sixth"])
    folder = tmp_path / "results/jsrt/phantom-quick"
    for name in (
        "lib/a.py", "lib/papers/published.yaml", "notebooks/x.py", "requirements.lock", "params/jsrt/quick.yaml",
        "papers/sixth/claims.py", *(f"results/jsrt/phantom-quick/{name}" for name in (
            "scores.csv", "table1.md", "x.ipynb", "figure1.png", "runs/A.json", "checkpoints/abc/A/network.pt",
        )),
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    file = tmp_path / "params/jsrt/quick.yaml"
    stamp(folder, file, "mean.*")
    return tmp_path, file, folder


def test_what_was_made_stands(made):
    root, file, folder = made
    assert stamped(file, root / "results") == (folder, "mean.*")
    (folder / ".hidden").write_text("what a killed process left")
    (folder / "checkpoints/abc/A/network.pt").unlink()  # not committed either: no part of what is read
    assert stamped(file, root / "results") == (folder, "mean.*")
    assert stamped(file, root / "elsewhere") is None


@pytest.mark.parametrize(
    "name",
    [
        "lib/a.py", "lib/papers/published.yaml", "notebooks/x.py", "requirements.lock", "params/jsrt/quick.yaml",
        "papers/sixth/claims.py", "results/jsrt/phantom-quick/table1.md", "results/jsrt/phantom-quick/figure1.png",
        "results/jsrt/phantom-quick/runs/A.json", "results/jsrt/phantom-quick/x.ipynb",
    ],
)  # fmt: skip
@pytest.mark.parametrize("change", ["edited", "gone", "renamed"])
def test_a_change_of_anything_makes_it_again(made, name, change):
    root, file, folder = made
    path = root / name
    if change == "edited":
        path.write_text(path.read_text() + " ")
    elif change == "gone" and path not in (file, root / "requirements.lock"):
        path.unlink()
    elif path not in (file, root / "requirements.lock"):
        path.rename(path.with_stem("other"))
    else:
        path.write_text("")
    assert stamped(file, root / "results") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"digest": 1}', "\0"])
def test_a_damaged_note_makes_it_again(made, text):
    root, file, folder = made
    (folder / STAMP).write_text(text)
    assert stamped(file, root / "results") is None


def test_a_new_run_makes_it_again(made):
    root, file, folder = made
    (folder / "runs/B.json").write_text("{}")
    assert stamped(file, root / "results") is None


def test_the_folder_of_another_profile_is_none(made):
    root, file, folder = made
    other = file.with_stem("lite")
    other.write_text(file.read_text())
    assert stamped(other, root / "results") is None
