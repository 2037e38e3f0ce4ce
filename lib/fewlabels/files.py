"""Files that are either whole or not there, and small; and what of a folder is data."""

import fcntl
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fewlabels.errors import BadInput

# What file managers, Jupyter, macOS, Windows and network storage leave behind is hidden (.DS_Store, ._JPCLN001.gif,
# .ipynb_checkpoints), or one of these.
LEFT_BEHIND = {"__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN", "System Volume Information"}


def is_data(name: Path | str) -> bool:
    """Whether a path inside a folder or archive may be data: no part of it is hidden or LEFT_BEHIND."""
    return not any(part.startswith(".") or part in LEFT_BEHIND for part in str(name).split("/"))


def listed(folder: Path) -> list[Path]:
    """The files and folders in `folder` that may be data, by name, sorted; none if it is no folder."""
    return sorted(path for path in folder.iterdir() if is_data(path.name)) if folder.is_dir() else []


def files_below(folder: Path, above: tuple[tuple[int, int], ...] = ()) -> list[Path]:
    """All files below `folder` that may be data, sorted by folder. Links are followed, as data often lie on another
    disk; one that leads back to a folder it is in is passed over."""
    status = folder.stat()
    here = status.st_dev, status.st_ino
    files: list[Path] = []
    folders: list[Path] = []
    if here in above:
        return []
    for path in listed(folder):
        (folders if path.is_dir() else files).append(path)
    return files + [path for inner in folders for path in files_below(inner, (*above, here))]


@contextmanager
def whole(path: Path | str) -> Iterator[Path]:
    """A temporary path beside `path`; renamed to it when the block ends well, removed when it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Says in one line that the block could not write to `folder`. Raises BadInput."""
    try:
        yield
    except BrokenPipeError:  # of the terminal
        raise
    except OSError as error:
        raise BadInput(folder, "a folder that can be written", error.strerror or error) from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds `folder` for one process of this user on this machine; others wait. A killed process holds nothing."""
    name = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]
    with open(Path(tempfile.gettempdir()) / f"fewlabels-{os.getuid()}-{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_text(path: Path | str, text: str) -> None:
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def palette(png: bytes) -> bytes:
    """A PNG file with 256 colours where that is smaller (it is a third of the bytes in git), else as it was.

    The colours are spread over the picture's range, then moved by k-means until fewer than 1000 pixels change. A median
    cut, which counts pixels, gives them all to the greys of images: thin lines of one class took another's colour.
    """
    from PIL import Image  # not where only numbers are made

    small = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        if picture.mode == "P":
            return png
        reduced = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1000)
        reduced.save(small, "PNG", optimize=True)
    return min(small.getvalue(), png, key=len)
