"""Files that are either whole or not there, and small."""

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
