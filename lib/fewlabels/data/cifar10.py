"""CIFAR-10 (Krizhevsky 2009), the data of Malfliet & Bakker, TU Delft 2021; and scikit-learn's digits in its shape.

60,000 photographs, 32 x 32 pixels, ten classes. Below `root/cifar10` the official files are looked for first, then a
copy, and the data say which one they come from (`meta["data"]`):

    cifar10         cifar-10-batches-py/ or cifar-10-python.tar.gz, read in place (the official Python version)
    cifar10-jpeg    train/CLASS/NAME.jpg and test/CLASS/NAME.jpg, or one .zip of that: any number of images
    cifar10-png     the same with .png
"""

import gzip
import hashlib
import io
import pickle
import re
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from fewlabels.data import prepared
from fewlabels.data.cohort import Cohort, Split
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
DIGITS = (
    "scikit-learn's load_digits: 1,797 handwritten digits, 8 x 8, of Optical Recognition of Handwritten Digits "
    "(UCI, Alpaydin & Kaynak 1998, CC BY 4.0; scikit-learn: BSD), interpolated to 32 x 32"
)


def load(root):
    """CIFAR-10 as a `Cohort`: images float32 `(N, 3, 32, 32)` in [0, 1]; labels int64 `(N,)`, values as in `CLASSES`;
    axes are rows (top first), columns; the spacing is nominal.

    root   the data root, which holds `cifar10/`, or a file written by `prepare`

    Ids of the official files are `train/00000` to `train/49999` and `test/00000` to `test/09999` in the order of the
    batches; those of a copy are the files' names without extension, `train/airplane/0000`, sorted.

    Raises `BadInput` naming the file if anything is missing, damaged, of another size or kind, or not CIFAR-10's.
    """
    arrays, pixels, meta = _read(root)
    images, labels = torch.from_numpy(pixels).float().div_(255), torch.from_numpy(arrays["labels"]).long()
    ids = tuple(arrays["ids"].tolist())
    return Cohort(images, labels, ids, CLASSES, spacing_mm=(1.0, 1.0), groups=ids, meta=meta)


def digits():
    """scikit-learn's handwritten digits as a `Cohort` of CIFAR-10's shape, for machines without it.

    Images float32 `(1797, 3, 32, 32)` in [0, 1], three equal channels: 8 x 8 pixels of 0 to 16, divided by 16 and
    interpolated bilinearly; labels int64 `(1797,)`. There is no test set among the ids: `splits` takes what is left.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.from_numpy(data.images / 16).float()[:, None]
    images = F.interpolate(images, size=(32, 32), mode="bilinear", align_corners=False).repeat(1, 3, 1, 1)
    labels, ids = torch.from_numpy(data.target).long(), tuple(f"digit/{i:04}" for i in range(len(images)))
    meta = {"data": "digits", "source": DIGITS}
    return Cohort(images, labels, ids, tuple("0123456789"), spacing_mm=(1.0, 1.0), groups=ids, meta=meta)


def prepare(root, out):
    """Writes all that `load(root)` needs to one file `out`; `load(out)` then gives the same bits.

    Returns the SHA-256 of the content (that of `check`). Raises `BadInput` as `load` does.
    """
    arrays, _, _ = _read(root)
    prepared.write(out, "cifar10", arrays)
    return prepared.checksum(arrays)


def check(root):
    """Reads every file below `root` and returns what is there, in three lines of text; raises `BadInput` as `load`."""
    arrays, _, meta = _read(root)
    of = Counter((name.split("/")[0], CLASSES[k]) for name, k in zip(arrays["ids"].tolist(), arrays["labels"]))
    counts = [f"{part}: " + ", ".join(f"{of[part, name]:,} {name}" for name in CLASSES) for part in ("train", "test")]
    return f"{meta['data']}: {meta['source']}\n{'; '.join(counts)}\nsha256 {prepared.checksum(arrays)}"


def download(root):
    """Fetches the official archive (170 MB) to `root/cifar10/`, unless it is there already, and returns its path.

    Raises `BadInput` naming the address if the network fails or the checksum is another; nothing half-written stays.
    """
    if root is None:
        raise BadInput(NOWHERE, "the folder in which to make cifar10/", "nothing")
    folder = Path(root, "cifar10")
    with prepared.reading(URL, f"{folder / ARCHIVE} with SHA-256 {SHA256}"):
        import pooch  # an optional dependency

        return Path(pooch.retrieve(URL, known_hash=SHA256, fname=ARCHIVE, path=folder, progressbar=True))


def splits(ids, labels, unlabelled, validation, seed=None):
    """The first `labels`, next `unlabelled` and next `validation` of the ids; a pure function of its arguments.

    Ids that begin with `test/` are the test set; if there are none, what is left over is. Without a seed the others
    stay in their order: with 4,000, 45,000 and 1,000 of the official files, this is the split of Malfliet & Bakker, TU
    Delft 2021, Section 2. With a seed they are sorted and shuffled: a copy's order is that of its classes.

    Raises `BadInput` if a number is out of range, there are too few ids, or none is left for testing.
    """
    for name, value, least in (("labels", labels, 1), ("unlabelled", unlabelled, 0), ("validation", validation, 1)):
        if value < least:
            raise BadInput(name, f"{least} or more", value)
    rest = [name for name in ids if not name.startswith("test/")]
    used = labels + unlabelled + validation
    if len(rest) < used:
        raise BadInput("split", f"{used:,} images ({labels:,} + {unlabelled:,} + {validation:,})", f"{len(rest):,}")
    if seed is not None:
        rest = sorted(rest)  # the order in which the ids come must not matter
        rest = [rest[i] for i in np.random.default_rng(seed).permutation(len(rest))]
    test = [name for name in ids if name.startswith("test/")] or rest[used:]
    if not test:
        raise BadInput("split", f"more than {used:,} images, as none is marked test/", f"{len(rest):,}")
    rest, first = tuple(rest), labels + unlabelled
    return Split(rest[:labels], rest[labels:first], rest[first:used], tuple(test))


# ---- from files to arrays ----


def _read(root):
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


def _read_folder(folder):
    """The folder or archive that holds the images, and its arrays."""
    archive, zips = folder / ARCHIVE, [path for path in listed(folder) if path.suffix == ".zip"]

    def read(name):
        return (folder / name).read_bytes()

    if (folder / BATCHES[0]).parent.is_dir():
        return folder, _official(folder, read)
    if archive.is_file():
        tar = _open(archive)
        return archive, _official(archive, lambda name: tar.extractfile(name).read())
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


def _open(archive):
    """The official archive, open; nothing of it is unpacked before its checksum is verified, and never to disk."""
    with prepared.reading(archive, "a .tar.gz archive"):
        content = archive.read_bytes()
        if (found := hashlib.sha256(content).hexdigest()) != SHA256:
            raise BadInput(archive, f"the official archive, SHA-256 {SHA256}", found)
        tar = tarfile.open(fileobj=io.BytesIO(gzip.decompress(content)), mode="r:")
        _stay_inside(archive, tar.getnames())
        return tar


def _stay_inside(archive, names):
    """Nothing is ever extracted; but who made an archive that would write elsewhere is not trusted with the rest."""
    for name in names:
        first, *rest = name.replace("\\", "/").split("/")
        if not first or ":" in first or ".." in (first, *rest):
            raise BadInput(archive, "members that stay inside a folder", repr(name))


def _official(base, read):
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

    def __init__(self, *args):
        self.args = args

    def __setstate__(self, state):
        self.state = state


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if not re.fullmatch(r"numpy\.(_?core\.multiarray\._reconstruct|ndarray|dtype)", f"{module}.{name}"):
            raise pickle.UnpicklingError(f"the name {module}.{name}, which is refused")
        return _Inert


def _batch(where, content):
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
    return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C"), np.array(labels, np.uint8)


def _copy(base, names, read):
    """The arrays of a copy: of all that is in `base`, the `names` below train/ and test/, each `read(name)`."""
    found = {}
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
    for name in map(found.get, ids):
        with prepared.reading(f"{base}/{name}", "an image file"):
            files.append(read(name))
    return {
        "files": np.frombuffer(b"".join(files), np.uint8),
        "offsets": np.cumsum([0, *map(len, files)], dtype=np.int64),
        "labels": np.array([CLASSES.index(name.split("/")[1]) for name in ids], np.uint8),
        "ids": np.array(ids),
        "data": np.array("cifar10-png" if suffixes == {"png"} else "cifar10-jpeg"),
    }


def _decode(base, arrays):
    """Pixels of a copy from `base`, uint8 `(n, 3, 32, 32)`. One thread: with images this small, more take longer."""
    ids, offsets, content = arrays["ids"].tolist(), arrays["offsets"].tolist(), arrays["files"].tobytes()
    suffix, kind = FORMATS[str(arrays["data"])]
    pixels = np.empty((len(ids), 3, 32, 32), np.uint8)
    for i, name in enumerate(ids):
        where, file = f"{base}/{name}.{suffix}", io.BytesIO(content[offsets[i] : offsets[i + 1]])
        with prepared.reading(where, f"a {kind} image"), Image.open(file, formats=(kind,)) as picture:
            if (picture.mode, picture.size) != ("RGB", (32, 32)):
                raise BadInput(where, "mode RGB, 32 x 32", "mode {}, {} x {}".format(picture.mode, *picture.size))
            pixels[i] = np.asarray(picture).transpose(2, 0, 1)
    return pixels
