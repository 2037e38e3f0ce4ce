"""`make env`: a virtual environment in three stages, each of which says how far it is. Of Python's library alone."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ALL_MB = 1900  # that requirements.lock downloads, about: most of it torch and what it needs of CUDA


class Line:
    """A line at a terminal that is written anew; in a log a line each time that a fifth more is done."""

    def __init__(self) -> None:
        self.terminal, self.last, self.began = sys.stdout.isatty(), "", time.monotonic()

    def say(self, words: str, share: float = 0) -> None:
        if self.terminal:
            passed = int(time.monotonic() - self.began)
            print(f"\r{words} ({passed // 60}:{passed % 60:02})\033[K", end="", flush=True)
        elif (step := f"{words.split(':')[0]} {int(5 * share)}") != self.last:
            print(words, flush=True)
            self.last = step

    def end(self) -> None:
        if self.terminal:
            print()


def run(command: list[str], say: Callable[[], None], **more: str) -> None:
    """Runs a command in a session of its own, so that ctrl-C is this process's to speak of, and meanwhile `say`s.

    more  of its environment
    """
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}  # ours, not pip's
    process = subprocess.Popen(command, start_new_session=True, env=environment | more)
    try:
        while process.poll() is None:
            say()
            time.sleep(0.5)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def install(venv: Path, lock: Path) -> None:
    """Makes `venv`, or goes on with it, and installs what `lock` names and this repository."""
    line, temporary, most = Line(), venv / "tmp", 0.0
    packages = sum("==" in text for text in lock.read_text(encoding="utf-8").splitlines())
    pip = [str(venv / "bin/python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]

    def installed() -> int:
        return len([*venv.glob("lib/python*/site-packages/*.dist-info")])

    def packages_left() -> None:
        if installed() > before:
            done = min(installed(), packages)
            line.say(f"2/3 packages: {done} of {packages} installed", done / packages)
        else:
            nonlocal most
            most = max(most, _megabytes(temporary))  # pip deletes some of it again
            of = f" of about {ALL_MB:,}" if most < ALL_MB else ""
            line.say(f"2/3 packages: {most:,.0f}{of} MB downloaded", min(most / ALL_MB, 1) / 2)

    try:
        run([sys.executable, "-m", "venv", str(venv)], lambda: line.say("1/3 virtual environment"))
        before = installed()
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        run([*pip, "-r", str(lock)], packages_left, TMPDIR=str(temporary.absolute()))
        own = ["--no-deps", "--no-build-isolation", "-e", "."]
        run([*pip, *own], lambda: line.say("3/3 fewlabels itself"))
        line.say(f"Installed: {packages} packages in {venv}")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        line.end()


def _megabytes(folder: Path) -> float:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # pip has moved it meanwhile
            continue
    return total / 1e6


def main(venv: str, lock: str) -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):  # pip would outlive this process
        signal.signal(number, signal.default_int_handler)
    try:
        install(Path(venv), Path(lock))
    except KeyboardInterrupt:
        print("make env: interrupted; the same command goes on", file=sys.stderr)
        return 75
    except subprocess.CalledProcessError as error:  # it has said why
        return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
