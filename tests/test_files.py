"""What of a folder is data, whatever file managers and links add to it."""

import pytest

from fewlabels.files import files_below, is_data, listed


def made(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")


@pytest.mark.parametrize(
    "name", ["a.png", "a b/c.gif", "0522c0001", "_b", "masks/heart/JPCLN001.gif", "x.ipynb_checkpoints", "MACOSX"]
)
def test_data(name):
    assert is_data(name)


@pytest.mark.parametrize(
    "name",
    [".DS_Store", "._JPCLN001.gif", "__MACOSX/heart/JPCLN001.gif", "train/.ipynb_checkpoints/a.jpg", "a/@eaDir"]
    + ["Thumbs.db", "train/dog/desktop.ini", "$RECYCLE.BIN"],
)
def test_no_data(name):
    assert not is_data(name)


def test_a_folder_is_listed_by_name_without_what_is_no_data(tmp_path):
    made(tmp_path, "b", "a/c", "._b", ".DS_Store", "__MACOSX/._b", ".ipynb_checkpoints/b", "Thumbs.db", "A")
    assert [path.name for path in listed(tmp_path)] == ["A", "a", "b"]
    assert listed(tmp_path / "none") == listed(tmp_path / "b") == []


def test_all_files_below_are_found_once(tmp_path):
    made(tmp_path, "z", "a/b/c", "a/d", "a/.e/f", "__MACOSX/a/d")
    assert [str(path.relative_to(tmp_path)) for path in files_below(tmp_path)] == ["z", "a/d", "a/b/c"]


def test_links_to_other_disks_are_followed_but_not_back(tmp_path):
    data, disk = tmp_path / "data", tmp_path / "disk"
    made(data, "masks/a"), made(disk, "images/b")
    (data / "images").symlink_to(disk / "images")
    for place, to in ((data / "masks/again", ".."), (data / "self", "."), (disk / "images/back", data)):
        place.symlink_to(to)
    assert [str(path.relative_to(data)) for path in files_below(data)] == ["images/b", "masks/a"]


def test_a_link_to_nothing_and_one_to_itself_are_files(tmp_path):
    """So that who reads them says which it is."""
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop").symlink_to("loop")
    assert [path.name for path in files_below(tmp_path)] == ["gone", "loop"]
