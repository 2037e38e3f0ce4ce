"""Which files of CIFAR-10 there are, and their pixels and labels: official batches, or a copy of single images."""

import gzip
import hashlib
import io
import pickle
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fewlabels.data import prepared
from fewlabels.errors import BadInput
from fewlabels.files import is_data, listed
from fewlabels.paths import NOWHERE

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
ARCHIVE = "cifar-10-python.tar.gz"
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
FROM = "https://www.cs.toronto.edu/~kriz/cifar.html, or `python -m fewlabels download cifar10 --data ...`"
BATCHES = tuple(f"cifar-10-batches-py/{name}" for name in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"])
BATCH = 10_000  # images in each

MEMBER = re.compile(rf"((?:train|test)/(?:{'|'.join(CLASSES)})/[^/]+)\.(jpg|png)")
FORMATS = {"cifar10-jpeg": ("jpg", "JPEG"), "cifar10-png": ("png", "PNG")}  # how names end, what Pillow calls it
OFFICIAL = "CIFAR-10, the official Python version; cite Krizhevsky 2009"
COPY = (
    "CIFAR-10, a copy re-encoded as {}, not the official files: the order of the official batches is lost, and it "
    "holds {:,} of the 50,000 training images; cite Krizhevsky 2009"
)


def read(root: Path | str | None) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, str]]:
    """What `prepare` keeps, pixels uint8 `(n, 3, 32, 32)`, and the cohort's `meta`.

    Kept are ids `(n,)`, labels uint8 `(n,)` and data, a name; of the official files their pixels as `images`, of a
    copy its files one after the other, uint8 `(bytes,)`, and where they begin and end, `offsets` int64 `(n + 1,)`.
    """
    if root is None:
        raise BadInput(NOWHERE, f"the folder that holds cifar10/, or a prepared file (from {FROM})", "nothing")
    base = Path(root)
    if base.is_file():
        arrays = prepared.read(base, "cifar10")
        names = {"data", "ids", "labels"}
        if set(arrays) not in (names | {"images"}, names | {"files", "offsets"}):
            raise BadInput(base, "arrays data, ids, labels and images or files, offsets", ", ".join(arrays))
    else:
        base, arrays = _read_folder(base / "cifar10")
    data, n = str(arrays["data"]), sum(name.startswith("train/") for name in arrays["ids"].tolist())
    if "images" in arrays:
        return arrays, arrays["images"], {"data": data, "source": OFFICIAL}
    return arrays, _decode(base, arrays), {"data": data, "source": COPY.format(FORMATS[data][1], n)}


def _read_folder(folder: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """The folder or archive that holds the images, and its arrays."""
    archive, zips = folder / ARCHIVE, [path for path in listed(folder) if path.suffix == ".zip"]

    def read(name: str) -> bytes:
        return (folder / name).read_bytes()

    if (folder / BATCHES[0]).parent.is_dir():
        return folder, _official(folder, read)
    if archive.is_file():
        tar = _open(archive)
        return archive, _official(archive, lambda name: tar.extractfile(name).read())  # type: ignore[union-attr]  # files all
    if (folder / "train").is_dir() or (folder / "test").is_dir():
        paths = [*folder.glob("train/*/*"), *folder.glob("test/*/*")]
        return folder, _copy(folder, [path.relative_to(folder).as_posix() for path in paths], read)
    if len(zips) != 1:
        layouts = "train/CLASS/*.jpg and test/CLASS/*.jpg (or .png), or one .zip of them"
        found = ", ".join(path.name for path in zips) or ("neither" if folder.is_dir() else "no such folder")
        raise BadInput(folder, f"{ARCHIVE} or cifar-10-batches-py/ (from {FROM}), or a copy as {layouts}", found)
    with prepared.reading(zips[0], "a zip archive"), zipfile.ZipFile(zips[0]) as file:
        _stay_inside(zips[0], file.namelist())
        return zips[0], _copy(zips[0], file.namelist(), file.read)


def _open(archive: Path) -> tarfile.TarFile:
    """The official archive, open; nothing of it is unpacked before its checksum is verified, and never to disk."""
    with prepared.reading(archive, "a .tar.gz archive"):
        content = archive.read_bytes()
        if (found := hashlib.sha256(content).hexdigest()) != SHA256:
            raise BadInput(archive, f"the official archive, SHA-256 {SHA256}", found)
        tar = tarfile.open(fileobj=io.BytesIO(gzip.decompress(content)), mode="r:")
        _stay_inside(archive, tar.getnames())
        return tar


def _stay_inside(archive: Path, names: Iterable[str]) -> None:
    """Nothing is ever extracted; but who made an archive that would write elsewhere is not trusted with the rest."""
    for name in names:
        first, *rest = name.replace("\\", "/").split("/")
        if not first or ":" in first or ".." in (first, *rest):
            raise BadInput(archive, "members that stay inside a folder", repr(name))


def _official(base: Path, read: Callable[[str], bytes]) -> dict[str, np.ndarray]:
    """The arrays of the six batches `read(name)` in `base`."""
    batches = []
    for name in BATCHES:
        with prepared.reading(f"{base}/{name}", "a batch of CIFAR-10 for Python"):
            batches.append(_batch(f"{base}/{name}", read(name)))
    images, labels = map(np.concatenate, zip(*batches))
    ids = [f"train/{i:05}" for i in range(5 * BATCH)] + [f"test/{i:05}" for i in range(BATCH)]
    images = images.reshape(-1, 3, 32, 32)  # each row: 1,024 red, then green, then blue
    return {"images": images, "labels": labels, "ids": np.array(ids), "data": np.array("cifar10")}


class _Inert:
    """What numpy's names stand for while a batch is unpickled: keeps what it is given and does nothing.

    numpy's own trust the file: an array of type object whose flags are off takes addresses from it.
    """

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[_Inert]:
        if not re.fullmatch(r"numpy\.(_?core\.multiarray\._reconstruct|ndarray|dtype)", f"{module}.{name}"):
            raise pickle.UnpicklingError(f"the name {module}.{name}, which is refused")
        return _Inert


def _batch(where: object, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """uint8 `(BATCH, 3072)` and labels uint8 `(BATCH,)`; raises all sorts of things if `content` is no such pickle."""
    batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    if type(batch) is not dict or not {b"data", b"labels"} <= set(batch):
        raise BadInput(where, "a dict with b'data' and b'labels'", f"{batch!r:.80}")
    _, shape, dtype, fortran, raw = batch[b"data"].state
    kind, labels = dtype.args[0], batch[b"labels"]
    if kind not in (b"u1", "u1") or shape != (BATCH, 3072):
        raise BadInput(where, f"type u1, shape {(BATCH, 3072)}", f"{kind!r:.40}, {shape!r:.40}")
    wrong = [value for value in labels if type(value) is not int or not 0 <= value < len(CLASSES)]
    if len(labels) != BATCH or wrong:
        found = f"{len(labels):,}" + (f", one of them {wrong[0]!r:.80}" if wrong else "")
        raise BadInput(where, f"{BATCH:,} labels of 0 to {len(CLASSES) - 1}", found)
    pixels = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")
    if (plain := pixels.min(axis=1) == pixels.max(axis=1)).any():
        found = f"nothing but {pixels[plain][0, 0]} in image {np.argmax(plain)} of {BATCH:,}"
        raise BadInput(where, "photographs", found)
    return pixels, np.array(labels, np.uint8)


def _copy(base: Path, names: Sequence[str], read: Callable[[str], bytes]) -> dict[str, np.ndarray]:
    """The arrays of a copy: of all that is in `base`, the `names` below train/ and test/, each `read(name)`."""
    found: dict[str, str] = {}
    for name in names:
        if not name.startswith(("train/", "test/")) or name.endswith("/") or not is_data(name):
            continue
        match = MEMBER.fullmatch(name)
        if match is None or not name.isprintable():
            expected = f"train|test/CLASS/NAME.jpg|png with a CLASS of {', '.join(CLASSES)}"
            raise BadInput(base, expected, repr(name))
        if match[1] in found:
            raise BadInput(f"{base}/{name}", f"one file for {match[1]}", f"another, {found[match[1]]}")
        found[match[1]] = name
    folders, suffixes = {name.rsplit("/", 1)[0] for name in found}, {name[-3:] for name in found.values()}
    for folder in (f"{part}/{name}" for part in ("train", "test") for name in CLASSES):
        if folder not in folders:
            raise BadInput(f"{base}/{folder}", "images, .jpg or .png", "none")
    if len(suffixes) > 1:
        raise BadInput(base, "images of one kind", "both .jpg and .png")
    ids, files = sorted(found), []
    for name in (found[i] for i in ids):
        with prepared.reading(f"{base}/{name}", "an image file"):
            files.append(read(name))
    return {
        "files": np.frombuffer(b"".join(files), np.uint8),
        "offsets": np.cumsum([0, *map(len, files)], dtype=np.int64),
        "labels": np.array([CLASSES.index(name.split("/")[1]) for name in ids], np.uint8),
        "ids": np.array(ids),
        "data": np.array("cifar10-png" if suffixes == {"png"} else "cifar10-jpeg"),
    }


def _decode(base: Path, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Pixels of a copy from `base`, uint8 `(n, 3, 32, 32)`. One thread: with images this small, more take longer."""
    ids, offsets, content = arrays["ids"].tolist(), arrays["offsets"].tolist(), arrays["files"].tobytes()
    suffix, kind = FORMATS[str(arrays["data"])]
    pixels = np.empty((len(ids), 3, 32, 32), np.uint8)
    for i, name in enumerate(ids):
        where, file = f"{base}/{name}.{suffix}", content[offsets[i] : offsets[i + 1]]
        prepared.whole_jpeg(where, file)
        with prepared.reading(where, f"a {kind} image"), Image.open(io.BytesIO(file), formats=(kind,)) as picture:
            if (picture.mode, picture.size) != ("RGB", (32, 32)):
                raise BadInput(where, "mode RGB, 32 x 32", "mode {}, {} x {}".format(picture.mode, *picture.size))
            pixels[i] = np.asarray(picture).transpose(2, 0, 1)
        if (value := pixels[i].min()) == pixels[i].max():
            raise BadInput(where, "a photograph", f"nothing but {value}")
    return pixels
