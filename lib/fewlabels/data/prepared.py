"""One compressed, checksummed file in place of an official folder, for machines without the originals.

An `.npz` of plain arrays (no pickle). Integer arrays of two or more axes are kept as differences along their
last axis, modulo the type: exact, and it makes radiographs a quarter smaller than zlib alone does.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fewlabels.errors import BadInput
from fewlabels.files import whole


@contextmanager
def reading(path: object, expected: str) -> Iterator[None]:
    """Turns whatever is raised while `path` is read or decoded into one line, a `BadInput`."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:  # Pillow, zipfile, zlib and numpy raise a dozen types on damaged or foreign files
        raise BadInput(path, expected, " ".join(str(error).split()) or type(error).__name__) from None


def whole_jpeg(where: object, content: bytes) -> None:
    """Refuses a JPEG file that was filled up with 0 where a download stopped: Pillow would make up the rest."""
    if content.startswith(b"\xff\xd8") and content.endswith(b"\0"):
        written = content.rstrip(b"\0")
        if not written.endswith(b"\xff\xd9"):
            raise BadInput(where, "a JPEG file to its end", f"nothing but 0 behind the first {len(written):,} bytes")


def checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, types, shapes and values of a dict of arrays: 64 characters."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def write(path: Path | str, dataset: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes `arrays` of data set `dataset` to `path`; names are free but for `file`, `prepared` and `sha256`.

    The file appears complete or not at all: it is written under a temporary name beside `path` and renamed.
    Raises `BadInput` if `path` cannot be written.
    """
    stored: dict[str, Any] = {
        name: np.diff(a, axis=-1, prepend=a.dtype.type(0)) if _differs(a) else a for name, a in arrays.items()
    }
    try:
        with whole(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, prepared=np.array(dataset), sha256=np.array(checksum(arrays)), **stored)
    except OSError as error:
        raise BadInput(path, "a place to write the prepared file", error.strerror or error) from None


def read(path: Path | str, dataset: str) -> dict[str, np.ndarray]:
    """The arrays that `write(path, dataset, arrays)` was given, bit for bit.

    Raises `BadInput` naming `path` if it is damaged, foreign, or prepared from another data set.
    """
    expected = f"a file written by `python -m fewlabels prepare {dataset}`"
    with reading(path, expected), np.load(path, allow_pickle=False) as file:
        if not {"prepared", "sha256"} <= set(file.files):
            raise BadInput(path, expected, f"arrays {', '.join(file.files)}")
        stored = {name: file[name] for name in file.files}
    found, sha256 = str(stored.pop("prepared")), str(stored.pop("sha256"))
    if found != dataset:
        raise BadInput(path, expected, f"one of {found}")
    arrays = {n: np.cumsum(a, axis=-1, dtype=a.dtype) if _differs(a) else a for n, a in stored.items()}
    if checksum(arrays) != sha256:
        raise BadInput(path, f"content with SHA-256 {sha256}", checksum(arrays))
    return arrays


def _differs(array: np.ndarray) -> bool:
    """Whether `array` is stored as differences."""
    return array.dtype.kind in "iu" and array.ndim >= 2
