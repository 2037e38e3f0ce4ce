"""What `make env` says while it works, and that nothing of it outlives an interruption."""

import os
import subprocess
import sys

import pytest

from fewlabels import installation
from fewlabels.installation import Line, install, main, run


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """The three commands, which cost nothing; `{number: what happens}` before the n-th says anything."""
    done, happens = [], {}
    site = tmp_path / "venv/lib/python3.11/site-packages"

    def fake(command, say, **more):
        done.append((command, more))
        site.mkdir(parents=True, exist_ok=True)
        for step in happens.get(len(done), [lambda: None]):
            step()
            say()

    monkeypatch.setattr(installation, "run", fake)
    (tmp_path / "lock").write_text("# pins\n--no-binary b\na==1\nb==2.0\nc==3\nd==4\ne==5\n")
    return done, happens, site, tmp_path / "venv", tmp_path / "lock"


def test_three_stages_and_how_much_is_left(stages, capsys):
    done, happens, site, venv, lock = stages

    def fetch(mb):
        return lambda: (venv / "tmp" / f"{mb}.whl").write_bytes(b"0" * mb * 10**6)

    def unpack(name):
        return lambda: (site / f"{name}.dist-info").mkdir()

    happens[1] = [unpack("pip")]
    happens[2] = [lambda: None, fetch(1), fetch(2), *(unpack(name) for name in "abcde")]
    install(venv, lock)
    assert [command[1:3] for command, _ in done] == [["-m", "venv"], ["-m", "pip"], ["-m", "pip"]]
    assert done[1][0][-2:] == ["-r", str(lock)]
    assert done[1][1] == {"TMPDIR": str(venv / "tmp")}  # what is said to be fetched is what is there
    assert not (venv / "tmp").exists()
    assert capsys.readouterr().out.splitlines() == [  # a log
        "1/3 virtual environment",
        "2/3 packages: 0 of about 1,900 MB downloaded",
        "2/3 packages: 2 of 5 installed",
        "2/3 packages: 3 of 5 installed",
        "2/3 packages: 4 of 5 installed",
        "2/3 packages: 5 of 5 installed",
        "3/3 fewlabels itself",
        f"Installed: 5 packages in {venv}",
    ]


def test_at_a_terminal_one_line_is_written_anew(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    line = Line()
    line.began -= 75
    line.say("2/3 packages: 0 of 5")
    line.say("2/3 packages: 0 of 5")
    line.end()
    assert capsys.readouterr().out == "\r2/3 packages: 0 of 5 (1:15)\033[K\r2/3 packages: 0 of 5 (1:15)\033[K\n"


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_interrupted_in_any_stage_it_says_one_line_and_leaves_no_download(stages, capsys, stage):
    done, happens, site, venv, lock = stages

    def interrupt():
        raise KeyboardInterrupt

    happens[stage] = [interrupt]
    assert main(str(venv), str(lock)) == 75
    assert capsys.readouterr().err == "make env: interrupted; the same command goes on\n"
    assert len(done) == stage
    assert not (venv / "tmp").exists()
    happens.clear()
    assert main(str(venv), str(lock)) == 0
    assert len(done) == stage + 3


def test_a_command_that_fails_gives_its_status(stages, capsys):
    _, happens, _, venv, lock = stages

    def fail():
        raise subprocess.CalledProcessError(3, "pip")

    happens[2] = [fail]
    assert main(str(venv), str(lock)) == 3
    assert "3/3" not in capsys.readouterr().out


def test_a_process_ends_with_the_one_that_waits_for_it(tmp_path):
    said, file = [], tmp_path / "pid"

    def say():
        if file.exists() and file.read_text():
            raise KeyboardInterrupt
        said.append(1)

    with pytest.raises(KeyboardInterrupt):
        run(["sh", "-c", f"echo $$ > {file}; exec sleep 600"], say)
    pid = int(file.read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(subprocess.CalledProcessError):
        run(["sh", "-c", "exit 4"], lambda: None)
    run(["sh", "-c", 'test -z "$PYTHONPATH" && test "$X" = 1'], lambda: None, X="1")
