"""Cluttered MNIST (Vorontsov et al. 2019, Section 4.1): a whole digit among pieces of others, or the pieces alone.

Each image of the presence domain holds one whole digit, the segmentation target, below clutter: 10 x 10 crops of
digits of the same part of the data. Images of the absence domain hold clutter of their own. As in the released code:

    background   Gaussian noise, sd 0.01, not clipped: a little below zero in places
    digit        anywhere but in the last row and column it would fit in (their random numbers exclude the end); it
                 replaces the background where it is above zero; the mask is where it is above 0.5, clutter or not
    clutter      piece after piece on top; a piece replaces what it covers where it is above zero, except that of two
                 values whose sum exceeds 1 the greater stays

The paper says that overlaps are "dithered"; the released code does not. `dither=True` follows the paper's words.
"""

import hashlib
import inspect
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from fewlabels.data import prepared
from fewlabels.data.cohort import Cohort, Split
from fewlabels.data.domains import Domains
from fewlabels.data.mnist import SIDE, check, digits, download, load, prepare
from fewlabels.errors import BadInput
from fewlabels.files import whole

__all__ = ["TASKS", "cached", "check", "digits", "download", "generate", "load", "prepare", "splits", "without_digits"]

TASKS = {"48-simple": (48, 8), "48-hard": (48, 24), "128": (128, 80)}  # side in pixels, pieces of clutter
CROP = 10  # side of a piece of clutter
NOISE = 0.01
INK = 0.1  # above: no background, being ten standard deviations of it
TARGET = 9  # the one digit with masks in training
PARTS = ("validation", "test", "train")  # in this order they are made
CHUNK = 256  # images at once; does not change their bytes
VERSION = 1  # to be raised with every change of the bytes that `generate` returns


def splits(cohort: Cohort, share: float = 0.01, validation: int = 500, seed: int = 0) -> Split:
    """Who is a source of what: a pure function of its arguments and of the cohort's ids and labels.

    Ids that begin with `train/` are permuted by `numpy.random.RandomState(seed)`, as in the released code; the last
    `validation` of them are the validation part, those that begin with `test/` the test part. If there are no such
    names (scikit-learn's digits), all are permuted and the last quarter is the test part.

    Of the training part, `share` of its number are labelled, rounded, and all of these are nines: its first ones.

    Raises `BadInput` if there are fewer nines than that, if it is none, or if nothing is left to train with.
    """
    names = sorted(name for name in cohort.ids if name.startswith("train/"))  # the order of ids must not matter
    test = tuple(name for name in cohort.ids if name.startswith("test/"))
    names = names or sorted(cohort.ids)
    names = [names[i] for i in np.random.RandomState(seed).permutation(len(names))]
    if not test:
        names, test = names[: -(len(names) // 4)], tuple(names[-(len(names) // 4) :])
    if not 1 <= validation < len(names):
        raise BadInput("validation", f"1 to {len(names) - 1:,}, less than there is for training", f"{validation:,}")
    train = names[:-validation]
    is_target = (cohort.labels[cohort.index(train)] == TARGET).tolist()
    targets = [name for name, target in zip(train, is_target) if target]
    wanted = int(share * len(train) + 0.5)
    if not 1 <= wanted <= len(targets):
        found = f"{share:g} of {len(train):,} images, which is {wanted:,}"
        raise BadInput("share", f"1 to {len(targets):,} labels, as there are {len(targets):,} nines", found)
    labelled = set(targets[:wanted])
    rest = tuple(name for name in train if name not in labelled)
    return Split(tuple(targets[:wanted]), rest, tuple(names[-validation:]), test)


def generate(
    cohort: Cohort, split: Split, task: str, pairs: Sequence[int] | None = None, seed: int = 0, dither: bool = False,
    clutter: str = "all",
) -> dict[str, Domains]:  # fmt: skip
    """The parts "validation", "test" and "train", in this order, each a `Domains`; a pure function of its arguments.

    cohort    the digits, images `(n, 1, 28, 28)` in [0, 1], and their classes
    split     which of them are the sources of which part, as `splits` makes it
    task      a name of `TASKS`: with side S, images are `(n, 1, S, S)` and masks `(n, S, S)`
    pairs     how many images of each domain: (training, validation, test); by default as many as there are sources
    dither    where a piece and what is below it are both ink (of the latter: above `INK`), each pixel takes one of the
              two at random (the paper's words; how it is done is ours)
    clutter   "all"; or "labelled", an option of the released code for training by segmentation alone: only the
              labelled sources are used in the training part, for digits and for clutter, and its number of images
              shrinks in proportion; the other parts are the same

    Every image draws its sources with replacement from its own part. `kinds` is the digit. `labelled` are the images
    whose digit is among `split.labelled`, so that their number is random too; in validation and test it is all.

    Raises `BadInput` for an unknown task or option, a number below 1, or a part without sources.
    """
    if task not in TASKS:
        raise BadInput("task", f"one of {', '.join(TASKS)}", repr(task))
    if clutter not in ("all", "labelled"):
        raise BadInput("clutter", "all or labelled", repr(clutter))
    if seed < 0:
        raise BadInput("seed", "0 or more", seed)
    if tuple(cohort.images.shape[1:]) != (1, SIDE, SIDE):
        raise BadInput("cohort images", f"(n, 1, {SIDE}, {SIDE})", tuple(cohort.images.shape))
    sources = {"train": split.labelled + split.unlabelled, "validation": split.validation, "test": split.test}
    pairs = tuple(map(len, sources.values())) if pairs is None else tuple(pairs)
    if len(pairs) != 3 or min(pairs) < 1:
        raise BadInput("pairs", "three numbers of 1 or more: training, validation, test", pairs)
    numbers = dict(zip(sources, pairs))
    if clutter == "labelled":
        numbers["train"] = max(1, int(pairs[0] * len(split.labelled) / len(sources["train"]) + 0.5))
        sources["train"] = split.labelled
    for part, ids in sources.items():
        if not ids:
            raise BadInput(f"split, {part}", "at least one source", "none")
    parts = {}
    for number, part in enumerate(PARTS):
        index = cohort.index(sources[part])
        entropy = (seed, list(TASKS).index(task), number)  # a part's own: the others' numbers do not matter
        chosen, (presence, absence, masks) = _draw(
            cohort.images[index, 0].numpy(), numbers[part], *TASKS[task], entropy, dither
        )
        known = set(split.labelled) if part == "train" else set(sources[part])
        labelled = [i for i, source in enumerate(chosen.tolist()) if sources[part][source] in known]
        labelled = torch.tensor(labelled, dtype=torch.long)
        images = torch.from_numpy(presence), torch.from_numpy(absence), torch.from_numpy(masks)
        parts[part] = Domains(*images, labelled, cohort.labels[index[torch.from_numpy(chosen)]])
    return parts


def without_digits(
    cohort: Cohort, split: Split, task: str, n: int, seed: int = 0, dither: bool = False
) -> torch.Tensor:
    """The first `n` images of presence of the test part of `generate`, without their digits: what is left if all of a
    digit is taken away, float32 `(n, 1, S, S)`. Where clutter covers a digit both are the same."""
    sources = cohort.images[cohort.index(split.test), 0].numpy()
    entropy = (seed, list(TASKS).index(task), PARTS.index("test"))
    _, (left, _, _) = _draw(sources, n, *TASKS[task], entropy, dither, digits=False)
    return torch.from_numpy(left)


def cached(folder: Path | str, cohort: Cohort, split: Split, task: str, **options: Any) -> dict[str, Domains]:
    """As `generate`, kept in `folder`: made once, then read. The paper's 48 x 48 tasks take 1.5 GB each, 128 takes 10.

    The file's name holds a fingerprint of all that decides the bytes. One that is damaged, truncated or another's is
    made again. Raises `BadInput` as `generate` does, or if the file cannot be written.
    """
    recipe = inspect.signature(generate).bind(cohort, split, task, **options)
    recipe.apply_defaults()
    changed = {"cohort": cohort.fingerprint(), "split": asdict(split), "version": [VERSION, np.__version__]}
    recipe = json.dumps({**recipe.arguments, **changed}, default=int)  # int: numbers of numpy's
    fingerprint = hashlib.sha256(recipe.encode()).hexdigest()
    path = Path(folder, f"cluttered-mnist-{task}-{fingerprint[:16]}.npz")
    try:
        return _restore(path, fingerprint)
    except BadInput:
        parts = generate(cohort, split, task, **options)
    arrays = {f"{part} {name}": tensor.numpy() for part in PARTS for name, tensor in vars(parts[part]).items()}
    arrays["fingerprint"] = np.array(fingerprint)
    try:
        with whole(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, sha256=np.array(prepared.checksum(arrays)), **arrays)
    except OSError as error:
        raise BadInput(path, "a place to keep generated images", error.strerror or error) from None
    return parts


def _restore(path: Path, fingerprint: str) -> dict[str, Domains]:
    """The parts that `cached` wrote to `path`; raises `BadInput` if there are none or they are not to be trusted."""
    expected = f"generated images of fingerprint {fingerprint}"
    with prepared.reading(path, expected), np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
        sha256 = str(arrays.pop("sha256"))
        if str(arrays["fingerprint"]) != fingerprint or prepared.checksum(arrays) != sha256:
            raise BadInput(path, expected, "another content")
        names = [field.name for field in fields(Domains)]
        return {part: Domains(*(torch.from_numpy(arrays[f"{part} {name}"]) for name in names)) for part in PARTS}


# ---- images ----


def _draw(
    sources: np.ndarray, n: int, side: int, pieces: int, entropy: Sequence[int], dither: bool, digits: bool = True
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """`n` images of each domain from `sources`, float32 `(m, 28, 28)`.

    Returns which of the sources the digits are, int64 `(n,)`, and presence and absence, float32 `(n, 1, side, side)`,
    and masks, bool `(n, side, side)`. Each kind of random number has a generator of its own, which is used image after
    image: so the bytes are the same whatever CHUNK is.
    """
    seeds = np.random.SeedSequence(entropy).spawn(7)
    digit, *streams = (np.random.Generator(np.random.SFC64(each)) for each in seeds)
    chosen = digit.integers(0, len(sources), n)
    corners = digit.integers(0, side - SIDE, (n, 2))
    presence, absence = (np.empty((n, 1, side, side), np.float32) for _ in range(2))
    masks = np.zeros((n, side, side), bool)
    ends = (len(sources), SIDE - CROP, SIDE - CROP, side - CROP, side - CROP)  # excluded, as in the released code
    for first in range(0, n, CHUNK):
        now = slice(first, first + CHUNK)
        for domain, (noise, places, coins) in ((presence, streams[:3]), (absence, streams[3:])):
            canvas = domain[now, 0]
            noise.standard_normal(out=canvas, dtype=np.float32)
            canvas *= NOISE
            if domain is presence and digits:
                paste(canvas, masks[now], sources[chosen[now]], corners[now])
            drawn = places.integers(0, ends, (len(canvas), pieces, len(ends)))
            flips = coins.random((len(canvas), pieces, CROP, CROP), np.float32) < 0.5 if dither else None
            scatter(canvas, sources, drawn, flips)
    return chosen, (presence, absence, masks)


def paste(canvas: np.ndarray, masks: np.ndarray, digits: np.ndarray, corners: np.ndarray) -> None:
    """Puts one digit into each image and its mask, in place.

    canvas float32 and masks bool `(n, S, S)`, digits float32 `(n, 28, 28)`, corners int64 `(n, 2)`: row, column
    """
    for images, values in ((canvas, digits), (masks, digits > 0.5)):
        windows = sliding_window_view(images, (SIDE, SIDE), axis=(1, 2), writeable=True)
        at = (np.arange(len(images)), corners[:, 0], corners[:, 1])
        windows[at] = np.where(digits > 0, values, windows[at])


def scatter(canvas: np.ndarray, sources: np.ndarray, pieces: np.ndarray, flips: np.ndarray | None = None) -> None:
    """Puts pieces of clutter onto images, one after the other, in place.

    canvas    float32 `(n, S, S)`
    sources   what pieces are cropped from, float32 `(m, 28, 28)`
    pieces    int64 `(n, k, 5)`: which source, row and column in it, row and column in the image
    flips     for dithering, bool `(n, k, 10, 10)`: where the piece wins if both are ink; without it the greater wins
              where the sum exceeds 1, else the piece
    """
    crops = sliding_window_view(sources, (CROP, CROP), axis=(1, 2))
    windows = sliding_window_view(canvas, (CROP, CROP), axis=(1, 2), writeable=True)
    everyone = np.arange(len(canvas))
    for k in range(pieces.shape[1]):
        source, *there, row, column = pieces[:, k].T
        new, at = crops[source, *there], (everyone, row, column)
        old = windows[at]
        wins = (new >= old) | (new + old <= 1) if flips is None else flips[:, k] | (old <= INK)
        windows[at] = np.where((new > 0) & wins, new, old)
