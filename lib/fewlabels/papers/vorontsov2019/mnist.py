"""Vorontsov et al. 2019, Table 1: cluttered digits (MNIST).

Which networks are trained, and how one is.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from fewlabels.data import cluttered_mnist
from fewlabels.data.cohort import Cohort, Split
from fewlabels.data.domains import Domains
from fewlabels.engine import params
from fewlabels.engine.params import Count, Natural, check_grid
from fewlabels.methods.translation import Autoencoding, Translation
from fewlabels.papers.vorontsov2019 import training as training
from fewlabels.papers.vorontsov2019.claims import judge
from fewlabels.papers.vorontsov2019.rows import ABLATIONS, METHODS, Run, Settings, build
from fewlabels.papers.vorontsov2019.tables import PAPER, tables
from fewlabels.paths import data_root
from fewlabels.scores import metrics
from fewlabels.scores.scale import of_paper
from fewlabels.types import Device, Report, Stop

__all__ = [
    "BEST", "NAME", "Config", "Run", "grid", "identity", "judge", "load", "notebooks", "run", "scale",
    "stages", "tables",
]  # fmt: skip

NAME = "mnist"
BEST = ".*"

SMALL, LARGE = ("48-simple", "48-hard"), "128"
LISTS = ("methods", "seeds", "tasks", "extra_methods", "extra_tasks", "extra_seeds", "large_methods", "large_seeds")
KNOWN = 5000  # source digits by which digits in residuals are told

Clutter = Literal["all", "labelled"]


class Config(Settings):
    """Everything that decides a number; the keys of `params/mnist/*.yaml` and of the notebook's parameters cell."""

    data: Literal["digits", "mnist"]
    tasks: list[Literal[SMALL]]
    extra_methods: list[Literal[ABLATIONS]]  # run on extra_tasks, with extra_seeds
    extra_tasks: list[Literal[SMALL]]
    extra_seeds: list[Natural]
    large_methods: list[Literal[METHODS]]  # run on images of 128 x 128, with half the width, with large_seeds
    large_seeds: list[Natural]
    pairs: Annotated[list[Count], Field(min_length=3, max_length=3)]  # images: training, validation, test
    validation_sources: Count  # digits that validation images are made of
    label_share: Annotated[float, Field(gt=0, le=1)]  # of the training digits have masks, all of them nines
    segmentation_clutter: Clutter  # of `Only segmentation`: pieces of all digits or, as the code can, the labelled

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_grid(self, LISTS, may_be_empty=LISTS[3:])
        for key in ("extra_tasks", "extra_seeds", "large_seeds"):
            methods = f"{key.split('_')[0]}_methods"
            if bool(getattr(self, methods)) != bool(getattr(self, key)):
                found = f"{getattr(self, key)} beside {getattr(self, methods)}"
                raise ValueError(f"{key}: expected some where there are {methods}, and only there, found {found}")
        if self.large_methods and self.width % 2:
            raise ValueError(f"width: expected an even number, as 128 x 128 takes half, found {self.width}")
        return self


def grid(config: Config) -> list[Run]:
    """All runs, seed by seed: the methods on the tasks of 48 x 48, the extra ones, those on 128 x 128."""
    runs = []
    for seed in sorted({*config.seeds, *config.extra_seeds, *config.large_seeds}):
        runs += [Run(m, task, seed) for task in config.tasks for m in config.methods if seed in config.seeds]
        extra = config.extra_methods if seed in config.extra_seeds else []
        runs += [Run(m, task, seed) for task in config.extra_tasks for m in extra]
        runs += [Run(m, LARGE, seed) for m in config.large_methods if seed in config.large_seeds]
    return runs


def identity(config: Config, run: Run) -> dict[str, Any]:
    """All that decides the numbers of one run."""
    return params.identity(config, run, LISTS) | {"amp": config.precision == "bf16"}  # what stored runs have


def scale(config: Config, data: str, scores: pd.DataFrame) -> str:
    """How far it goes of the paper's 300 epochs of 59,500 images; images have the paper's size."""
    images = (config.pairs[0], 59500, "images")
    return of_paper((config.steps * config.batch_size, 300 * 59500), (config.width, 32), counts=[images])


def stages(config: Config, run: Run) -> dict[str, int]:
    """One: `{name: steps}`."""
    return {run.id: training.steps_of(config, run)}


def notebooks(config: Config) -> list[str]:
    """Which notebooks show what a config runs, in their order."""
    return [f"{PAPER}_mnist"]


def load(config: Config, root: str | None = None) -> Cohort:
    """The source digits: scikit-learn's, or MNIST below `root` (default: FEWLABELS_DATA) or in a prepared file."""
    return cluttered_mnist.digits() if config.data == "digits" else cluttered_mnist.load(root or data_root())


def splits(config: Config, cohort: Cohort) -> Split:
    """Which source digits are for which part."""
    return cluttered_mnist.splits(cohort, config.label_share, config.validation_sources)


def parts_of(config: Config, task: str, cohort: Cohort, folder: Path, clutter: str = "all") -> dict[str, Domains]:
    """The cluttered images of a task, generated once and kept in `folder`, the same for all seeds."""
    options = {"pairs": config.pairs, "dither": config.variant == "paper", "clutter": clutter}
    return cluttered_mnist.cached(folder, cohort, splits(config, cohort), task, **options)


def network(config: Config, run: Run, device: Device = "cpu") -> Translation | Autoencoding:
    """The method of a run from fresh weights."""
    side, _ = cluttered_mnist.TASKS[run.task]
    return build(config, run.method, (side, side), 1, *layout(config, run.task), True, device)


def layout(config: Config, task: str) -> tuple[int, int]:
    """Width and halvings of the encoder (Tables 2 and 5)."""
    return (config.width // 2, 5) if task == LARGE else (config.width, 4)


def run(
    config: Config, run: Run, cohort: Cohort, folder: Path, device: Device = "cpu", report: Report | None = None,
    stop: Stop | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One run of the grid: Dice of the paper and others, what translation removes and adds, its history.

    A pure function of config, run and cohort (bit for bit on one kind of CPU with the same number of threads).
    """
    clutter = config.segmentation_clutter if run.method == "Only segmentation" else "all"
    parts = parts_of(config, run.task, cohort, folder.parent / "generated", clutter)
    make = lambda: network(config, run, device)  # noqa: E731
    method, history = training.train(config, run, make, parts, folder, device, None, report, stop)
    test = parts["test"]
    overall, p = training.of_segmentation(method, test, device)
    overall |= training.of_training(config, run, history, parts["train"], layout(config, run.task)[0])
    if isinstance(method, Translation):
        n, dither = len(test.presence), config.variant == "paper"
        left = cluttered_mnist.without_digits(cohort, splits(config, cohort), run.task, n, dither=dither)
        found, made = training.of_translation(config, method, test, device, run.seed, left)
        classes = classes_of(made["D_AP"], cohort)
        overall |= found | {"entropy": entropy(classes), "zeros": float(np.mean(classes == 0))}
    of = {f"digit {digit}": test.kinds == digit for digit in range(10)} | {"digits 0-8": test.kinds < 9}
    dice = {name: [metrics.dice_global(p[here], test.masks[here])] for name, here in of.items() if here.any()}
    return {"subjects": ["all"], "scores": {"dice_global": dice}, "overall": overall, "history": history}


def classes_of(residuals: Tensor, cohort: Cohort) -> np.ndarray:
    """Which digits residuals `(N, 1, S, S)` look like: by the five nearest source digits, where one fits best."""
    from sklearn.neighbors import KNeighborsClassifier  # here, as only this needs it

    side = cohort.images.shape[-1]
    known = slice(None, None, -(-len(cohort) // KNOWN))
    told = KNeighborsClassifier(5).fit(normalised(cohort.images[known]), cohort.labels[known].numpy())
    shown = residuals.clamp(min=0).cpu()
    at = F.conv2d(shown, cohort.images.mean(0, keepdim=True)).flatten(1).argmax(1)  # where a mean digit fits best
    places = shown.shape[-1] - side + 1
    rows, columns = (at // places).tolist(), (at % places).tolist()
    windows = torch.stack([x[:, r : r + side, c : c + side] for x, r, c in zip(shown, rows, columns, strict=True)])
    return told.predict(normalised(windows))


def normalised(images: Tensor) -> np.ndarray:
    """Images as vectors of length 1."""
    return F.normalize(images.flatten(1), dim=1).numpy()


def entropy(classes: np.ndarray) -> float:
    """Of the histogram of classes, in nats: log 10 if all ten digits are as frequent."""
    share = np.bincount(classes, minlength=10) / len(classes)
    return float(-(share[share > 0] * np.log(share[share > 0])).sum())
