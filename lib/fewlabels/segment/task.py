"""A folder's images and masks as tensors of one working size, and batches of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fewlabels.engine.training import Batches, Shuffled
from fewlabels.segment import grid
from fewlabels.segment.folder import Case
from fewlabels.segment.grid import Grey
from fewlabels.segment.labels import Labels, decide, encode
from fewlabels.segment.pictures import Picture, read, read_mask

CROP = 256  # the most pixels a side that a network sees at a time
BYTES = 255  # images are kept in 8 bits: a quarter of the memory


class Seen(NamedTuple):
    """How files become what networks see: part of a model.

    labels    classes and their stored values
    grey      of grey values
    channels  1 or 3
    side      the longer side of a working image, pixels
    """

    labels: Labels
    grey: Grey
    channels: int
    side: int

    def image(self, picture: Picture) -> Tensor:
        """`(Z, channels, h, w)` in [0, 1], at the working size."""
        x = grid.shrunk(self.grey(picture), grid.small(picture.array.shape[1:3], self.side))
        if self.channels == 1 and x.shape[1] == 3:
            x = x.mean(1, keepdim=True)
        return x.expand(-1, self.channels, -1, -1).clamp(0, 1)


class Task(NamedTuple):
    """images    `(N, C, H, W)`, uint8: all slices of all cases on one canvas
    slices    which of them are each case's, in the order of `cases`
    sizes     (h, w) of each case on the canvas, from its first corner
    labels    `(L, H, W)`, int8, of the slices `labelled` `(L,)`
    """

    seen: Seen
    cases: list[Case]
    images: Tensor
    slices: list[range]
    sizes: list[tuple[int, int]]
    labels: Tensor
    labelled: Tensor
    shapes: list[tuple[int, ...]]  # of the arrays of the files, (Z, H, W, C)
    notes: dict[str, str]
    intensity: dict[str, float]  # as stored: the lowest, the median of the images' medians, the highest

    @property
    def crop(self) -> tuple[int, int]:
        return min(CROP, self.images.shape[2]), min(CROP, self.images.shape[3])

    def image(self, i: int) -> Tensor:
        """A case's slices on the canvas, `(Z, C, H, W)` in [0, 1]."""
        return self.images[self.slices[i].start : self.slices[i].stop].float() / BYTES

    def masked(self) -> list[int]:
        return [i for i, case in enumerate(self.cases) if case.masks]

    def on_canvas(self, i: int) -> Tensor:
        """Labels of a labelled case on the canvas, `(Z, H, W)`, int64."""
        first = int((self.labelled == self.slices[i].start).nonzero()[0, 0])
        return self.labels[first : first + len(self.slices[i])].long()

    def truth(self, i: int) -> Tensor:
        """The same at the working size, without what is behind it, `(Z, h, w)`."""
        h, w = self.sizes[i]
        return self.on_canvas(i)[:, :h, :w]


def truths(cases: Sequence[Case], given: Path | None) -> tuple[list[Picture], list[np.ndarray], Labels, list[str]]:
    """The labelled cases read: pictures, labels `(Z, H, W)`, what the classes are, and notes."""
    labelled = [case for case in cases if case.masks]
    pictures = [read(case.image) for case in labelled]
    raw = {
        case.name: [read_mask(path, picture, case.image) for path in case.masks]
        for case, picture in zip(labelled, pictures)
    }
    labels, notes = decide(raw, given, next((case.parts for case in labelled), ()))
    return pictures, [encode(each, labels) for each in raw.values()], labels, notes


def load(cases: list[Case], given: Path | None, side: int | None = None) -> tuple[Task, list[str]]:
    """All files read, one after the other, and what was decided on the way. Raises `BadInput` naming the file."""
    pictures, encoded, labels, notes = truths(cases, given)
    colour = any(p.array.shape[-1] == 3 for p in pictures)
    side = side or grid.side_of(encoded, len(labels.names))
    seen = Seen(labels, grid.grey_of(pictures, encoded), 3 if colour else 1, side)
    small, shapes, told, grey = [], [], {}, []
    at, known = {case.name: i for i, case in enumerate(c for c in cases if c.masks)}, []
    for case in cases:
        picture = pictures[at[case.name]] if case.masks else read(case.image)
        small.append((seen.image(picture) * BYTES).round().byte())
        shapes.append(tuple(picture.array.shape))
        grey.append([float(f(picture.array)) for f in (np.min, np.median, np.max)])
        if picture.note:
            told[case.name] = picture.note
        if case.masks:
            known.append(grid.shrunk_labels(encoded[at[case.name]], (small[-1].shape[2], small[-1].shape[3])))
    sizes = [(x.shape[2], x.shape[3]) for x in small]
    canvas = grid.canvas_of(sizes)
    starts = np.cumsum([0, *map(len, small)]).tolist()
    slices = [range(a, b) for a, b in zip(starts, starts[1:])]
    images = torch.empty(starts[-1], seen.channels, *canvas, dtype=torch.uint8)
    for x, where in zip(small, slices):
        images[where.start : where.stop] = grid.padded(x.float(), canvas).byte()
    y = torch.cat([grid.padded_labels(each, canvas).to(torch.int8) for each in known])
    labelled = torch.cat([torch.tensor([*where]) for case, where in zip(cases, slices) if case.masks])
    low, middle, high = zip(*grey)
    intensity = {"lowest": min(low), "median": float(np.median(middle)), "highest": max(high)}
    return Task(seen, cases, images, slices, sizes, y, labelled, shapes, told, intensity), notes


def batches(task: Task, size: int, unlabelled: int = 0) -> Batches:
    """Endless batches: `size` crops of labelled slices and, on demand, `unlabelled` ones of the others.

    Of labelled slices without any structure at most as many take part as of those with one; half of the crops have a
    labelled pixel of a structure, if there is one, in their middle.
    """
    with_structure = (task.labels > 0).flatten(1).any(1)
    there, empty = with_structure.nonzero()[:, 0], (~with_structure).nonzero()[:, 0]
    if len(there) and len(empty) > len(there):
        empty = empty[torch.linspace(0, len(empty) - 1, len(there)).round().long()]
    ours = Shuffled(torch.cat([there, empty]), size)
    without = [i for case, where in zip(task.cases, task.slices) if not case.masks for i in where]
    others = Shuffled(torch.tensor(without or task.labelled.tolist()), unlabelled) if unlabelled else None

    def make(i: Tensor, j: Tensor | None = None) -> dict[str, Tensor]:
        y = task.labels[i].long()
        corners = [_corner(task, each) for each in y]
        batch = {
            "images": _crops(task.images[task.labelled[i]], corners, task.crop).float() / BYTES,
            "labels": _crops(y[:, None], corners, task.crop)[:, 0],
        }
        if j is not None:
            anywhere = [_corner(task, None) for _ in j]
            batch["unlabelled"] = _crops(task.images[j], anywhere, task.crop).float() / BYTES
        return batch

    return Batches(make, *([ours, others] if others else [ours]))


def _corner(task: Task, y: Tensor | None) -> tuple[int, int]:
    room = [n - c for n, c in zip(task.images.shape[2:], task.crop)]
    if not any(room):
        return 0, 0
    if y is not None and torch.rand(()) < 0.5 and len(where := (y > 0).nonzero()):
        middle = where[int(torch.randint(len(where), ()))].tolist()
        low, high = (int(m - c / 2) for m, c in zip(middle, task.crop))
        return min(max(low, 0), room[0]), min(max(high, 0), room[1])
    return int(torch.randint(room[0] + 1, ())), int(torch.randint(room[1] + 1, ()))


def _crops(x: Tensor, corners: list[tuple[int, int]], crop: tuple[int, int]) -> Tensor:
    return torch.stack([each[:, a : a + crop[0], b : b + crop[1]] for each, (a, b) in zip(x, corners)])
