"""MNIST (LeCun et al. 1998), the source of Vorontsov et al. 2019's cluttered digits; and scikit-learn's in its shape.

70,000 handwritten digits, 28 x 28 pixels. Below `root/mnist` the four official files are looked for, as they are or
compressed (`.gz`) or as Kaggle's copy names them (`train-images.idx3-ubyte`), each in `mnist/` or in `mnist/raw/`:

    train-images-idx3-ubyte   train-labels-idx1-ubyte   t10k-images-idx3-ubyte   t10k-labels-idx1-ubyte
"""

import gzip
import hashlib
from collections import Counter
from math import prod
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from fewlabels.data import prepared
from fewlabels.data.cohort import Cohort
from fewlabels.data.complete import of_all
from fewlabels.errors import BadInput
from fewlabels.paths import NOWHERE

CLASSES = tuple("0123456789")
SIDE = 28  # pixels

URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
# SHA-256 of the values behind the headers, however the files are named and compressed. Fashion-MNIST, KMNIST and others
# come under the same names, in the same sizes.
VALUES = {
    "train-images-idx3-ubyte": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "train-labels-idx1-ubyte": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "t10k-images-idx3-ubyte": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "t10k-labels-idx1-ubyte": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}
FROM = f"{URL}, or `python -m fewlabels download mnist --data ...`"

COUNTS = {"train": 60_000, "test": 10_000}
PREFIX = {"train": "train", "test": "t10k"}  # what the official names begin with
IMAGES, LABELS = "-images-idx3-ubyte", "-labels-idx1-ubyte"

SOURCE = "MNIST, the official files; cite LeCun, Bottou, Bengio & Haffner 1998"
DIGITS = (
    "scikit-learn's load_digits: 1,797 handwritten digits, 8 x 8, of Optical Recognition of Handwritten Digits "
    "(UCI, Alpaydin & Kaynak 1998, CC BY 4.0; scikit-learn: BSD), interpolated to 20 x 20 in 28 x 28"
)


def load(root: Path | str | None) -> Cohort:
    """MNIST as a `Cohort`: images float32 `(70000, 1, 28, 28)` in [0, 1], ink is bright; labels int64 `(70000,)`, the
    digit; axes are rows (top first), columns; the spacing is nominal.

    root   the data root, which holds `mnist/`, or a file written by `prepare`

    Ids are `train/00000` to `train/59999` and `test/00000` to `test/09999` in the order of the files.

    Raises `BadInput` naming the file if anything is missing, damaged, of another size or kind, or no digit.
    """
    arrays = _read(root)
    images, labels = (np.concatenate([arrays[PREFIX[part] + kind] for part in COUNTS]) for kind in (IMAGES, LABELS))
    images, labels = torch.from_numpy(images)[:, None].float().div_(255), torch.from_numpy(labels).long()
    ids = tuple(f"{part}/{i:05}" for part, n in COUNTS.items() for i in range(n))
    meta = {"data": "mnist", "source": SOURCE}
    return Cohort(images, labels, ids, CLASSES, spacing_mm=(1.0, 1.0), groups=ids, meta=meta)


def digits() -> Cohort:
    """scikit-learn's handwritten digits as a `Cohort` of MNIST's shape, for machines without it.

    Images float32 `(1797, 1, 28, 28)` in [0, 1]: 8 x 8 pixels of 0 to 16, divided by 16, interpolated bilinearly to
    20 x 20, as large as MNIST's digits are, in a frame of four zeros; labels int64 `(1797,)`. There is no test set
    among the ids, `digit/0000` to `digit/1796`: the split makes one.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.from_numpy(data.images / 16).float()[:, None]
    images = F.pad(F.interpolate(images, size=(20, 20), mode="bilinear", align_corners=False), (4, 4, 4, 4))
    labels, ids = torch.from_numpy(data.target).long(), tuple(f"digit/{i:04}" for i in range(len(images)))
    meta = {"data": "digits", "source": DIGITS}
    return Cohort(images, labels, ids, CLASSES, spacing_mm=(1.0, 1.0), groups=ids, meta=meta)


def prepare(root: Path | str | None, out: Path | str) -> str:
    """Writes all that `load(root)` needs to one file `out`; `load(out)` then gives the same bits.

    Returns the SHA-256 of the content (that of `check`). Raises `BadInput` as `load` does.
    """
    arrays = _read(root)
    prepared.write(out, "mnist", arrays)
    return prepared.checksum(arrays)


def check(root: Path | str | None) -> str:
    """Reads every file below `root` and returns what is there, in three lines of text; raises `BadInput` as `load`."""
    arrays = _read(root)
    of = {part: Counter(arrays[PREFIX[part] + LABELS].tolist()) for part in COUNTS}
    counts = [f"{part}: " + ", ".join(f"{of[part][k]:,} of {k}" for k in range(len(CLASSES))) for part in COUNTS]
    n = sum(sum(counter.values()) for counter in of.values())
    there = of_all(n, sum(COUNTS.values()), "images")
    return f"mnist: {SOURCE}\n{'; '.join([there, *counts])}\nsha256 {prepared.checksum(arrays)}"


def download(root: Path | str | None) -> Path:
    """Fetches the four official files (12 MB) to `root/mnist/raw/`, unless they are there, and returns that folder.

    Raises `BadInput` naming the address if the network fails or a checksum is another; nothing half-written stays.
    """
    if root is None:
        raise BadInput(NOWHERE, "the folder in which to make mnist/", "nothing")
    folder = Path(root, "mnist/raw")
    for name, sha256 in SHA256.items():
        with prepared.reading(URL + name, f"{folder / name} with SHA-256 {sha256}"):
            import pooch  # an optional dependency

            pooch.retrieve(URL + name, known_hash=sha256, fname=name, path=folder, progressbar=True)
    return folder


# ---- from files to arrays ----


def _read(root: Path | str | None) -> dict[str, np.ndarray]:
    """The content of the official files by their names: uint8 `(n, 28, 28)` images and `(n,)` labels."""
    if root is None:
        raise BadInput(NOWHERE, f"the folder that holds mnist/, or a prepared file (from {FROM})", "nothing")
    base = Path(root)
    shapes: dict[str, tuple[int, ...]] = {}
    for part, n in COUNTS.items():
        shapes |= {PREFIX[part] + IMAGES: (n, SIDE, SIDE), PREFIX[part] + LABELS: (n,)}
    if base.is_file():
        arrays = prepared.read(base, "mnist")
        if {name: (a.shape, a.dtype) for name, a in arrays.items()} != {n: (s, np.uint8) for n, s in shapes.items()}:
            found = ", ".join(f"{name} {a.dtype} {a.shape}" for name, a in arrays.items())
            raise BadInput(base, ", ".join(f"{name} uint8 {shape}" for name, shape in shapes.items()), found)
        paths = {name: f"{base}/{name}" for name in shapes}
    else:
        paths = {name: _find(base / "mnist", name) for name in shapes}
        arrays = {name: _idx(paths[name], shape) for name, shape in shapes.items()}
    for name, array in arrays.items():
        if name.endswith(LABELS) and (largest := int(array.max())) >= len(CLASSES):
            raise BadInput(paths[name], "labels of 0 to 9", f"{largest} at position {array.argmax()}")
        if (digest := hashlib.sha256(array.data).hexdigest()) != VALUES[name]:
            found = digest if array.any() else "nothing but 0"
            raise BadInput(paths[name], f"the official values of {name}, SHA-256 {VALUES[name]}", found)
    return arrays


def _find(folder: Path, name: str) -> Path:
    """The path of an official file, or of its copy on Kaggle: with a dot in its name, or in a folder of that name."""
    names = [name, f"{name}.gz", name.replace("-idx", ".idx"), f"{name}/{name}"]
    for candidate in (place / each for place in (folder, folder / "raw") for each in names):
        if candidate.is_file():
            return candidate
    found = "no such file" if folder.is_dir() else f"no folder {folder}"
    raise BadInput(folder / name, f"this file, or {name}.gz, or either in raw/ (from {FROM})", found)


def _idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 `shape` from an idx file: big-endian magic number, size along each axis, then the values."""
    with prepared.reading(path, "a file compressed with gzip" if path.suffix == ".gz" else "a file"):
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    axes = len(shape)
    header, body = content[: 4 * (1 + axes)], content[4 * (1 + axes) :]
    numbers = [int.from_bytes(header[i : i + 4], "big") for i in range(0, len(header) // 4 * 4, 4)]
    magic = 0x800 + axes  # 8: unsigned bytes
    if numbers[:1] != [magic]:
        found = numbers[0] if numbers else f"{len(content)} bytes in all"
        raise BadInput(path, f"an idx file of {axes} axes, magic number {magic}", found)
    if tuple(numbers[1:]) != shape:
        raise BadInput(path, " x ".join(map(str, shape)), " x ".join(map(str, numbers[1:])) or "no size")
    if len(body) != prod(shape):
        raise BadInput(path, f"{prod(shape):,} bytes after the header", f"{len(body):,}")
    return np.frombuffer(body, np.uint8).reshape(shape)
