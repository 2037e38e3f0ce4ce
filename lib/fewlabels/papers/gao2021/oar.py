"""Gao et al. 2021, Table 2: organs at risk of the head and neck, on CT.

Which networks are trained, and how one is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pandas as pd
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from fewlabels.augment.nnunet import POLICIES
from fewlabels.data import oar
from fewlabels.data.cohort import Cohort, Split
from fewlabels.engine import params
from fewlabels.engine.params import Count, Natural, Rate, check_grid
from fewlabels.engine.protocols import Method, Trained
from fewlabels.engine.training import Batches, Shuffled, Stages, seed_of
from fewlabels.errors import BadInput
from fewlabels.papers.gao2021 import oar_rows as rows
from fewlabels.papers.gao2021 import rows as gao_rows
from fewlabels.papers.gao2021.claims import judge
from fewlabels.papers.gao2021.oar_tables import METHODS, PAPER, tables
from fewlabels.paths import data_root
from fewlabels.scores import metrics
from fewlabels.scores.scale import of_paper
from fewlabels.scores.sliding import sliding_window
from fewlabels.types import Device, History, Report, Stop

__all__ = [
    "BEST", "NAME", "Config", "Run", "grid", "identity", "judge", "load", "notebooks", "run", "scale",
    "stages", "tables",
]  # fmt: skip

NAME = "oar"
BEST = "average Dice"

LISTS = ("methods", "seeds")

Axes = Field(min_length=3, max_length=3)


class Config(gao_rows.Settings):
    """Everything that decides a number; the keys of `params/oar/*.yaml` and of the notebook's parameters cell."""

    data: Literal["phantom", "oar"]
    spacing: Annotated[list[Rate], Axes]  # of the grid all patients are put on, mm (z, y, x)
    grid: Annotated[list[Count], Axes]  # its size in voxels
    patch: Annotated[list[Count], Axes]  # of a training batch, and the sliding window
    methods: list[Literal[METHODS]]
    width: Count  # channels of the first level of the ResUNet
    levels: Count
    nnunet: Literal[POLICIES] = "class defaults"  # what nnUNet Full and Reduce do
    validation: Natural = 0  # so many training patients are scored in place of the test patients, and train nothing

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_grid(self, LISTS)
        if any(p > n for p, n in zip(self.patch, self.grid, strict=True)):
            raise ValueError(f"patch: expected none of its sides above the grid's {self.grid}, found {self.patch}")
        most = [int(n / rows.MARGIN) for n in self.grid]
        if self.nnunet == "v1" and any(p > m for p, m in zip(self.patch, most, strict=True)):
            why = f"the grid's {self.grid} / {rows.MARGIN}, which nnU-Net's augmentation needs"
            raise ValueError(f"patch: expected none of its sides above {most}, {why}, found {self.patch}")
        multiples = (2 ** max(self.levels - 3, 0), *[2 ** (self.levels - 1)] * 2)
        if any(p % m for p, m in zip(self.patch, multiples, strict=True)):
            raise ValueError(
                f"patch: expected multiples of {list(multiples)} for {self.levels} levels, found {self.patch}"
            )
        if self.batch_size == 4 and max(self.patch) <= 32 and "Comb" in self.methods:
            raise ValueError(f"batch_size: expected 8 or more for patches of {self.patch} in Comb, found 4")
        return self


@dataclass(frozen=True)
class Run:
    method: str
    seed: int

    @property
    def id(self) -> str:
        return f"{gao_rows.in_a_file_name(self.method)}_seed={self.seed}"


def grid(config: Config) -> list[Run]:
    """All runs: every method with every seed."""
    return [Run(method, seed) for seed, method in product(config.seeds, config.methods)]


def identity(config: Config, run: Run) -> dict[str, Any]:
    """All that decides the numbers of one run."""
    return params.identity(config, run, LISTS)


def scale(config: Config, data: str, scores: pd.DataFrame) -> str:
    """How far it goes of what `paper.yaml` has (the paper gives no numbers): voxels of a patch, steps, width."""
    patch = (prod(config.patch), 40 * 192 * 192)
    others = "OpenKBP in place of PDDCA" if data == "openkbp-for-pddca" else ""
    return of_paper((config.steps, 30000), (config.width, 32), patch, "voxels a patch", beside=[others])


def stages(config: Config, run: Run) -> dict[str, int]:
    """cGAN's generators, where the row has them, and T: `{name: steps}`."""
    generators = gao_rows.CGAN if run.method == "cGAN" else ()
    return {f"{run.id}_{kind}": config.steps_generator for kind in generators} | {run.id: config.steps}


def notebooks(config: Config) -> list[str]:
    """Which notebooks show what a config runs, in their order."""
    return [f"{PAPER}_oar"]


def load(config: Config, root: str | None = None) -> Cohort:
    """The cohort a config names: the phantom, or CT below `root` (default: FEWLABELS_DATA) or in a prepared file."""
    spacing, size = tuple(config.spacing), tuple(config.grid)
    if config.data == "phantom":
        return oar.phantom(14, seed=0, spacing=spacing, size=size)
    return oar.load(root or data_root(), spacing, size)


def split_of(config: Config, cohort: Cohort) -> Split:
    """The official division; of a probe, the last `validation` training patients in place of the test patients."""
    split = oar.splits(cohort)
    if not config.validation:
        return split
    if config.validation >= len(split.labelled):
        raise BadInput("validation", f"fewer than the {len(split.labelled)} training patients", config.validation)
    kept = len(split.labelled) - config.validation
    return replace(split, labelled=split.labelled[:kept], validation=split.labelled[kept:], test=())


def crops(volumes: Tensor, index: Tensor, corners: Sequence[Sequence[int]], size: Sequence[int]) -> Tensor:
    """Patches `(B, C, *size)` of volumes `(N, C, Z, Y, X)`, or `(B, *size)` of `(N, Z, Y, X)`, at their corners."""
    places = [tuple(slice(a, a + n) for a, n in zip(corner, size, strict=True)) for corner in corners]
    return torch.stack([volumes[(i, ..., *place)] for i, place in zip(index, places, strict=True)])


class Patches(Shuffled):
    """Batches of volumes of a pool as `Shuffled`, each with the corner `(Z, Y, X)` of a patch: `(indices, corners)`.

    room  how many places there are for a corner along each axis, `(3,)`
    """

    def __init__(self, pool: Tensor, size: int, room: Tensor) -> None:
        super().__init__(pool, size)
        self.room = room

    def __next__(self) -> tuple[Tensor, list[list[int]]]:  # type: ignore[override]  # what its batches take
        index = super().__next__()
        return index, (torch.rand(len(index), 3) * self.room).long().tolist()


def train(
    config: Config, run: Run, cohort: Cohort, folder: Path, device: Device = "cpu", report: Report | None = None,
    stop: Stop | None = None,
) -> tuple[Method, History]:  # fmt: skip
    """cGAN's generators, where the row has them, then T from fresh weights: its method and history.

    All rows start from the same seeds, T from the same weights. The paper's random crop: any place in any volume.
    """
    torch.set_num_threads(config.threads)
    images, labels, present = cohort.images.to(device), cohort.labels.to(device), cohort.meta["present"]
    pool = cohort.index(split_of(config, cohort).labelled)
    seed, classes, patch = seed_of(run.seed), len(cohort.classes), config.patch
    unit = rows.grey_unit(images[pool], labels[pool])
    whole = config.grid
    if run.method.startswith("nnUNet"):
        patch = [min(int(rows.MARGIN * p), n) for p, n in zip(patch, config.grid, strict=True)]
        if config.nnunet == "v1":  # what is left of a patch, its middle, comes from anywhere, as in all rows
            (images, labels), whole = rows.padded(images, labels, config.patch, patch, unit)
    room = torch.tensor([n - p + 1 for n, p in zip(whole, patch, strict=True)])

    def batch(
        drawn: tuple[Tensor, list[list[int]]], others: tuple[Tensor, list[list[int]]] | None = None
    ) -> dict[str, Tensor]:
        index, corners = drawn
        targets = rows.targets_of(crops(labels, index, corners, patch), present[index])
        chosen = {"images": crops(images, index, corners, patch), "labels": targets}
        return chosen if others is None else chosen | {"real": crops(images, *others, patch)}

    stages = Stages(folder, report, stop, config.precision)

    def stage(name: str, build: Callable[[nn.Module], Trained], steps: int, real: int = 0) -> tuple[Trained, History]:
        """The method that `build(T)` makes, trained; so many patches `real` beside a batch."""
        sizes = [config.batch_size, real] if real else [config.batch_size]
        return stages(
            name, lambda: build(rows.target(config, classes, device)),
            Batches(batch, *(Patches(pool, size, room) for size in sizes)),
            seed=seed, steps=steps, every=-(-steps // config.epochs), keep="last",
        )  # fmt: skip

    if parts := len(gao_rows.kinds(run.method)):
        real = config.batch_size * parts // (parts + 1)
        return stage(run.id, lambda T: rows.adversarial(config, run.method, T, device), config.steps, real)
    if run.method != "cGAN":
        return stage(run.id, lambda T: rows.plain(config, run.method, T, unit), config.steps)
    generators = {}
    for kind in gao_rows.CGAN:
        build = lambda T, kind=kind: rows.cgan_generator(config, kind, T, device)  # noqa: E731
        generators[kind] = stage(f"{run.id}_{kind}", build, config.steps_generator, config.batch_size)[0].G.eval()
    return stage(run.id, lambda T: rows.cgan(config, T, generators, device), config.steps)


def predict(method: Method, cohort: Cohort, patient: str, config: Config, device: Device) -> Tensor:
    """Probabilities of a patient `(classes, Z, Y, X)`: the means of windows half a patch apart."""
    [i] = cohort.index([patient])
    stride = [max(p // 2, 1) for p in config.patch]
    volume = cohort.images[i].to(device)
    return sliding_window(lambda x: method.predict(x, len(x)), volume, config.patch, stride)


def segment(method: Method, cohort: Cohort, patient: str, config: Config, device: Device) -> Tensor:
    """Labels of a patient on the grid of its files, int64."""
    return oar.to_native(predict(method, cohort, patient, config, device), patient, cohort).argmax(0).cpu()


def run(
    config: Config, run: Run, cohort: Cohort, folder: Path, device: Device = "cpu", report: Report | None = None,
    stop: Stop | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One run of the grid: Dice of each delineated organ of each test patient, their mean, the history.

    A pure function of config, run and cohort (bit for bit on one kind of CPU with the same number of threads).
    """
    method, history = train(config, run, cohort, folder, device, report, stop)
    split, organs = split_of(config, cohort), cohort.classes[1:]
    test = split.validation or split.test
    dice = torch.full((len(test), len(organs)), torch.nan, dtype=torch.float64)
    for k, patient in enumerate(test):
        found = segment(method, cohort, patient, config, device)
        values = torch.tensor(metrics.dice(found, torch.as_tensor(cohort.meta["native"][patient]), len(cohort.classes)))
        there = cohort.meta["present"][cohort.index([patient])[0], 1:]
        dice[k, there] = values.double()[there]
    return {
        "subjects": list(test),
        "scores": {
            "dice": dict(zip(organs, dice.T.tolist(), strict=True)),
            "mean_dice": {"all": dice.nanmean(1).tolist()},
        },
        "overall": {},
        "history": history,
    }
