"""Vorontsov et al. 2019, Table 1: half-slices of brains with tumours (BraTS).

Which networks are trained, and how one is.
"""

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pandas as pd
from pydantic import Field, model_validator
from torch import Tensor

from fewlabels.augment.slices import slice_augment
from fewlabels.data import brats
from fewlabels.data.cohort import Cohort
from fewlabels.data.domains import Domains
from fewlabels.engine import params
from fewlabels.engine.params import Count, check_grid
from fewlabels.errors import BadInput
from fewlabels.methods.translation import Autoencoding, Translation
from fewlabels.papers.vorontsov2019 import training as training
from fewlabels.papers.vorontsov2019.claims import judge
from fewlabels.papers.vorontsov2019.rows import Run, Settings, build
from fewlabels.papers.vorontsov2019.tables import PAPER, tables
from fewlabels.paths import data_root
from fewlabels.scores.scale import of_paper
from fewlabels.types import Device, Report, Stop

__all__ = [
    "BEST", "NAME", "Config", "Run", "grid", "identity", "judge", "load", "notebooks", "run", "scale",
    "stages", "tables",
]  # fmt: skip

NAME = "brats"
BEST = ".*"

LISTS = ("methods", "seeds")
TASK = "brats"


class Config(Settings):
    """Everything that decides a number; the keys of `params/brats/*.yaml` and of the notebook's parameters cell."""

    data: Literal["phantom", "brats"]
    scale: Literal[1, 2, 4]  # pixels averaged along each axis: half-slices of 240 x 120 / scale
    levels: Count  # halvings in the encoder; 5 in the paper
    label_share: Annotated[float, Field(gt=0, le=1)]  # of the half-slices with tumour, whole patients, have masks
    tumour_share_of: Literal["brain", "channels"]  # what a tumour's 1 % is of: the brain (paper), all channels (code)
    augment: bool  # Appendix A

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_grid(self, LISTS)
        most = math.ceil(math.log2(240 / self.scale)) - 1  # a norm over a code of one pixel is 0
        if self.levels > most:
            raise ValueError(f"levels: expected at most {most} at scale {self.scale}, found {self.levels}")
        return self


def grid(config: Config) -> list[Run]:
    """All runs, seed by seed."""
    return [Run(method, TASK, seed) for seed in config.seeds for method in config.methods]


def identity(config: Config, run: Run) -> dict[str, Any]:
    """All that decides the numbers of one run."""
    return params.identity(config, run, LISTS) | {"amp": config.precision == "bf16"}  # what stored runs have


def scale(config: Config, data: str, scores: pd.DataFrame) -> str:
    """How far it goes of the paper's half-slices of 240 x 120 of four sequences, 228 patients to train (four fifths of
    those of each grade) and 500 epochs, 300,000 steps (`paper.yaml`)."""
    patients = scores.loc[scores["metric"] == "patients", "value"].min()
    counts = [(int(patients), 228, "training patients")] if patients > 0 else []
    counts += [(2, 4, "sequences")] if data == "brats2015-2seq" else []
    return of_paper((config.steps, 300000), (config.width, 16), (240 // config.scale, 240), counts=counts)


def stages(config: Config, run: Run) -> dict[str, int]:
    """One: `{name: steps}`."""
    return {run.id: training.steps_of(config, run)}


def notebooks(config: Config) -> list[str]:
    """Which notebooks show what a config runs, in their order."""
    return [f"{PAPER}_brats"]


def load(config: Config, root: str | None = None) -> Cohort:
    """The cohort a config names: the phantom, or BraTS below `root` (default: FEWLABELS_DATA) or in a prepared file."""
    if config.data == "phantom":
        return brats.phantom(seed=0, size=(240 // config.scale, 120 // config.scale))
    return brats.load(root or data_root(), config.scale, tumour_share_of=config.tumour_share_of)


def parts_of(config: Config, cohort: Cohort) -> dict[str, Domains]:
    """The two domains of each part of the data, patients in one part each. Clipped to [-1, 1] as in the released code,
    which does so after augmentation."""
    split = brats.splits(cohort, config.label_share)
    parts = {"train": (*split.labelled, *split.unlabelled), "validation": split.validation, "test": split.test}
    known = {"train": split.labelled, "validation": split.validation, "test": split.test}
    found = {name: brats.domains(cohort, ids, known[name]) for name, ids in parts.items()}
    for name, part in found.items():
        if name != "validation" and not len(part.absence):
            raise BadInput(f"{name}, {brats.half_slices(parts[name])}", "some without a tumour", "none")
        if name != "train" or not config.augment:
            part.presence.clamp_(-1, 1)
            part.absence.clamp_(-1, 1)
    return found


def network(config: Config, run: Run, cohort: Cohort, device: Device = "cpu") -> Translation | Autoencoding:
    """The method of a run from fresh weights; norms for segmentation have parameters of their own."""
    channels, *size = cohort.images.shape[1:]
    return build(config, run.method, size, channels, config.width, config.levels, False, device)


def augmented(images: Tensor, masks: Tensor | None) -> tuple[Tensor, Tensor | None]:
    return (slice_augment(images), None) if masks is None else slice_augment(images, masks)


def run(
    config: Config, run: Run, cohort: Cohort, folder: Path, device: Device = "cpu", report: Report | None = None,
    stop: Stop | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One run of the grid: Dice of the paper and others, what translation does to lesions, its history.

    A pure function of config, run and cohort (bit for bit on one kind of CPU with the same number of threads).
    """
    parts, augment = parts_of(config, cohort), augmented if config.augment else None
    make = lambda: network(config, run, cohort, device)  # noqa: E731
    method, history = training.train(config, run, make, parts, folder, device, augment, report, stop)
    test, scores = parts["test"], {}
    overall, _ = training.of_segmentation(method, test, device)
    overall |= training.of_training(config, run, history, parts["train"], config.width)
    overall |= {"patients": len(parts["train"].kinds.unique())}
    if isinstance(method, Translation):
        found, made = training.of_translation(config, method, test, device, run.seed)
        overall |= found
        at, sequences = training.spread(test.presence, config.measured), cohort.meta["sequences"]
        for name, images in (("contrast_before", test.presence[at]), ("contrast_after", made["x_PA"].cpu())):
            values = training.contrast(images, test.masks[at], test.presence[at])
            scores[name] = {sequence: [value] for sequence, value in zip(sequences, values, strict=True)}
    return {"subjects": ["all"], "scores": scores, "overall": overall, "history": history}
