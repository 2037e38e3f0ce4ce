"""CIFAR-10 (Krizhevsky 2009), the data of Malfliet & Bakker, TU Delft 2021; and scikit-learn's digits in its shape.

60,000 photographs, 32 x 32 pixels, ten classes. Below `root/cifar10` the official files are looked for first, then a
copy, and the data say which one they come from (`meta["data"]`):

    cifar10         cifar-10-batches-py/ or cifar-10-python.tar.gz, read in place (the official Python version)
    cifar10-jpeg    train/CLASS/NAME.jpg and test/CLASS/NAME.jpg, or one .zip of that: any number of images
    cifar10-png     the same with .png
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from fewlabels.data import cifar10_files, prepared
from fewlabels.data.cifar10_files import CLASSES, read
from fewlabels.data.cohort import Cohort, Split
from fewlabels.data.complete import of_all, paper_split
from fewlabels.errors import BadInput
from fewlabels.paths import NOWHERE

__all__ = ["CLASSES", "check", "digits", "download", "load", "prepare", "splits"]

ALL = 60_000  # images, of which 10,000 are for testing
PAPER = {"labels": 4000, "unlabelled": 45_000, "validation": 1000}
DIGITS = (
    "scikit-learn's load_digits: 1,797 handwritten digits, 8 x 8, of Optical Recognition of Handwritten Digits "
    "(UCI, Alpaydin & Kaynak 1998, CC BY 4.0; scikit-learn: BSD), interpolated to 32 x 32"
)


def load(root: Path | str | None) -> Cohort:
    """CIFAR-10 as a `Cohort`: images float32 `(N, 3, 32, 32)` in [0, 1]; labels int64 `(N,)`, values as in `CLASSES`;
    axes are rows (top first), columns; the spacing is nominal.

    root   the data root, which holds `cifar10/`, or a file written by `prepare`

    Ids of the official files are `train/00000` to `train/49999` and `test/00000` to `test/09999` in the order of the
    batches; those of a copy are the files' names without extension, `train/airplane/0000`, sorted.

    Raises `BadInput` naming the file if anything is missing, damaged, of another size or kind, or not CIFAR-10's.
    """
    arrays, pixels, meta = read(root)
    images, labels = torch.from_numpy(pixels).float().div_(255), torch.from_numpy(arrays["labels"]).long()
    ids = tuple(arrays["ids"].tolist())
    return Cohort(images, labels, ids, CLASSES, spacing_mm=(1.0, 1.0), groups=ids, meta=meta)


def digits() -> Cohort:
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


def prepare(root: Path | str | None, out: Path | str) -> str:
    """Writes all that `load(root)` needs to one file `out`; `load(out)` then gives the same bits.

    Returns the SHA-256 of the content (that of `check`). Raises `BadInput` as `load` does.
    """
    arrays, _, _ = read(root)
    prepared.write(out, "cifar10", arrays)
    return prepared.checksum(arrays)


def check(root: Path | str | None) -> str:
    """Reads every file below `root` and returns what is there, in three lines of text; raises `BadInput` as `load`, and
    for official files of which the paper's split cannot be made."""
    arrays, _, meta = read(root)
    ids, there = arrays["ids"].tolist(), of_all(len(arrays["ids"]), ALL, "images")
    there += paper_split(root, there, meta["data"] == "cifar10", lambda: splits(ids, **PAPER))
    of = Counter((name.split("/")[0], CLASSES[k]) for name, k in zip(ids, arrays["labels"]))
    counts = [f"{part}: " + ", ".join(f"{of[part, name]:,} {name}" for name in CLASSES) for part in ("train", "test")]
    return f"{meta['data']}: {meta['source']}\n{'; '.join([there, *counts])}\nsha256 {prepared.checksum(arrays)}"


def download(root: Path | str | None) -> Path:
    """Fetches the official archive (170 MB) to `root/cifar10/`, unless it is there already, and returns its path.

    Raises `BadInput` naming the address if the network fails or the checksum is another; nothing half-written stays.
    """
    if root is None:
        raise BadInput(NOWHERE, "the folder in which to make cifar10/", "nothing")
    folder, url = Path(root, "cifar10"), cifar10_files.URL
    name, sha256 = cifar10_files.ARCHIVE, cifar10_files.SHA256
    with prepared.reading(url, f"{folder / name} with SHA-256 {sha256}"):
        import pooch  # an optional dependency

        return Path(pooch.retrieve(url, known_hash=sha256, fname=name, path=folder, progressbar=True))


def splits(ids: Sequence[str], labels: int, unlabelled: int, validation: int, seed: int | None = None) -> Split:
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
