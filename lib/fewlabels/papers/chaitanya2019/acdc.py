"""Chaitanya et al. 2019, Table 1: cardiac MR (ACDC).

Which networks are trained, and how one is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from fewlabels.data import acdc
from fewlabels.data.cohort import Cohort
from fewlabels.engine import params
from fewlabels.engine.params import Count, Natural, Rate, Size, check_grid
from fewlabels.engine.protocols import Method
from fewlabels.engine.training import Batches, Shuffled, Stages, seed_of
from fewlabels.papers.chaitanya2019 import rows as rows
from fewlabels.papers.chaitanya2019.claims import judge
from fewlabels.papers.chaitanya2019.tables import METHODS, PAPER, tables
from fewlabels.paths import data_root
from fewlabels.precision import Precision
from fewlabels.scores import metrics
from fewlabels.scores.scale import of_paper
from fewlabels.types import Device, History, Report, Stop

__all__ = [
    "BEST", "NAME", "Config", "Run", "grid", "identity", "judge", "load", "notebooks", "run", "scale",
    "stages", "tables",
]  # fmt: skip

NAME = "acdc"
BEST = r"mean, \d"

LISTS = ("methods", "labels", "splits", "seeds", "extra_methods", "extra_labels", "extra_splits")
EXTRA = LISTS[4:]


class Config(BaseModel):
    """Everything that decides a number; the keys of `params/acdc/*.yaml` and of the notebook's parameters cell."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    profile: str  # names the result folder; the parameter file's own name
    data: Literal["phantom", "acdc"]
    phase: Literal["ES", "ED"]  # end-systole (the paper) or end-diastole (what the release reads)
    size: Annotated[int, Field(gt=0, le=224, multiple_of=32)]  # side of the images in pixels
    field: Annotated[int, Field(ge=0, le=224)] = 0  # side of what they show, in the paper's pixels; 0: all 224
    methods: list[Literal[METHODS]]
    labels: list[Literal[1, 3]]  # labelled volumes, N_L
    splits: list[Annotated[int, Field(ge=1, le=5)]]  # labelled sets
    seeds: list[Natural]  # repeats
    extra_methods: list[Literal[METHODS]]  # run with extra_labels on the sets of extra_splits only, after the others
    extra_labels: list[Literal[1, 3]]
    extra_splits: list[Annotated[int, Field(ge=1, le=5)]]
    width: Count  # channels of the first level of S, G and D; the paper has 16
    norm_momentum: Annotated[float, Field(gt=0, le=1)]  # share of a new batch in running statistics; release: 0.01
    lambda_adv: Size
    lambda_big: Size
    loss: Literal["weighted_cross_entropy", "cross_entropy_dice"] = "weighted_cross_entropy"  # L_S; the paper's
    background_weight: Size  # in the paper's L_S of the final training: the release 0.1, the paper's words 0
    mixup_alpha: Rate
    adversarial_weight: Size  # of Adv Tr, at the end of its training
    batch_size: Annotated[int, Field(gt=0, multiple_of=2)]
    learning_rate: Rate  # of Adam, for S, G and D
    steps_generator: Count  # of S, G and D together
    warm_up: Natural  # the first of them, in which S learns alone
    steps: Count  # of S, in the end
    validate_every: Count
    realism_steps: Natural  # of a fresh discriminator that tells real from augmented images; 0: not done
    precision: Precision = "fp32"  # of the networks: bf16 on processors with AVX512-BF16 or AMX, and on CUDA
    threads: Count

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_grid(self, LISTS, may_be_empty=EXTRA)
        if both := set(self.methods) & set(self.extra_methods):
            raise ValueError(f"extra_methods: expected none of methods, found {min(both)}")
        for key in EXTRA[1:]:
            if bool(self.extra_methods) != bool(getattr(self, key)):
                raise ValueError(f"{key}: expected some where there are extra_methods, and only there")
        if self.warm_up >= self.steps_generator:
            found = f"{self.warm_up} of {self.steps_generator}"
            raise ValueError(f"warm_up: expected fewer than steps_generator, found {found}")
        if self.data == "phantom" and self.phase != "ES":
            raise ValueError("phase: expected ES with the phantom, found ED")
        if self.field and (self.data == "phantom" or self.field < self.size):
            expected = "0 with the phantom" if self.data == "phantom" else f"0 or at least size = {self.size}"
            raise ValueError(f"field: expected {expected}, found {self.field}")
        return self


@dataclass(frozen=True)
class Run:
    method: str
    labels: int
    split: int
    seed: int

    @property
    def id(self) -> str:
        method = self.method.translate({ord(" "): "_", ord("("): None, ord(")"): None, ord(","): None})
        return f"{method}_labels={self.labels}_split={self.split}_seed={self.seed}"


def grid(config: Config) -> list[Run]:
    """All runs: every method with every number of labelled volumes on every set; then the extra ones with theirs."""
    first = product(config.seeds, config.labels, config.splits, config.methods)
    then = product(config.seeds, config.extra_labels, config.extra_splits, config.extra_methods)
    return [Run(method, labels, split, seed) for seed, labels, split, method in chain(first, then)]


def identity(config: Config, run: Run) -> dict[str, Any]:
    """All that decides the numbers of one run."""
    return params.identity(config, run, LISTS)


def scale(config: Config, data: str, scores: pd.DataFrame) -> str:
    """How far it goes of the paper's 224 px, or of a field in the middle, and 10,000 steps; width as in the release."""
    field = getattr(config, "field", 0) or acdc.GRID
    middle = f"the middle {field} px alone" if field < acdc.GRID else ""
    copy = "copy without spacing" if data == "acdc-unspaced" else ""
    return of_paper((config.steps, 10000), (config.width, 16), (config.size, field), beside=[middle, copy])


def stages(config: Config, run: Run) -> dict[str, int]:
    """The generators that a row needs, each trained once for all rows that use it, and S: `{name: steps}`."""
    names, variant = rows.parts(run.method)
    generators = [f"{name} ({variant})" if variant else name for name in names if name in rows.GENERATORS]
    return {replace(run, method=name).id: config.steps_generator for name in generators} | {run.id: config.steps}


def notebooks(config: Config) -> list[str]:
    """Which notebooks show what a config runs, in their order."""
    return [f"{PAPER}_table1"]


def load(config: Config, root: str | None = None) -> Cohort:
    """The cohort a config names: the phantom, or ACDC below `root` (default: FEWLABELS_DATA) or in a prepared file."""
    if config.data == "phantom":
        return acdc.phantom(100, seed=0, size=config.size)
    return acdc.load(root or data_root(), size=config.size, phase=config.phase, field=config.field or acdc.GRID)


def train(
    config: Config, run: Run, cohort: Cohort, folder: Path, device: Device = "cpu", report: Report | None = None,
    stop: Stop | None = None,
) -> tuple[Method, dict[str, nn.Module], History]:  # fmt: skip
    """The generators that a row needs, then S from fresh weights; returns S's method, the generators, the history.

    A generator is trained once for all rows that use it; `folder` keeps the checkpoints. All rows start from the same
    seeds, S from the same weights.
    """
    torch.set_num_threads(config.threads)
    split = acdc.splits(cohort.ids, run.labels, run.split)
    images, labels = cohort.images.to(device), cohort.labels.to(device)
    labelled, unlabelled = cohort.index(split.labelled), cohort.index(split.unlabelled)

    def validate(method: Method) -> dict[str, float]:
        if getattr(method, "warming_up", False):  # there is no generator yet that could be the best
            return {}
        scores = torch.tensor(dice(method, cohort, patients(split.validation), device))
        return {"validation": 100 * float(scores.mean())}

    stage, seed = Stages(folder, report, stop, config.precision), partial(seed_of, run.seed, run.split, run.labels)
    of_labelled = lambda: Shuffled(labelled, config.batch_size)  # noqa: E731
    names, variant = rows.parts(run.method)
    generators = {}
    for name in [name for name in names if name in rows.GENERATORS]:
        trained, _ = stage(
            replace(run, method=f"{name} ({variant})" if variant else name).id,
            partial(rows.task_driven, config, name, variant, device),
            Batches(
                lambda i, j: {"images": images[i], "labels": labels[i], "real": images[j]},
                of_labelled(), Shuffled(torch.cat([labelled, unlabelled]), config.batch_size),
            ),
            validate,
            seed=seed("generator"), steps=config.steps_generator, every=config.validate_every,
        )  # fmt: skip
        generators[name] = trained.G.eval()
    if names[0].startswith("Adv Tr"):
        batches = Batches(
            lambda i, j: {"images": images[i], "targets": rows.one_hot(labels[i]), "unlabelled": images[j]},
            of_labelled(), Shuffled(unlabelled, config.batch_size),
        )  # fmt: skip
    else:
        batches = Batches(lambda i: {"images": images[i], "labels": labels[i]}, of_labelled())
    method, history = stage(
        run.id, lambda: rows.segmentation(config, run.method, generators, device), batches, validate,
        seed=seed("segmenter"), steps=config.steps, every=config.validate_every,
    )  # fmt: skip
    return method, generators, history


def patients(ids: Iterable[str]) -> list[str]:
    """The patients of slices, in order."""
    return list(dict.fromkeys(name.split("/")[0] for name in ids))


def dice(method: Method, cohort: Cohort, patients: Sequence[str], device: Device) -> list[list[float]]:
    """Per-volume Dice on the native grid, one list of RV, Myo, LV for each patient (Section 4, "Evaluation")."""
    scores = []
    for patient in patients:
        index = [i for i, group in enumerate(cohort.groups) if group == patient]
        probabilities = method.predict(cohort.images[index].to(device))
        prediction = acdc.to_native(probabilities, patient, cohort).argmax(1).cpu()
        scores.append(metrics.dice(prediction, cohort.meta["native"][patient], len(acdc.CLASSES)))
    return scores


def measures(
    config: Config, run: Run, cohort: Cohort, generators: dict[str, nn.Module], device: Device
) -> dict[str, float]:
    """What a row's generators make of the labelled images, and how well its images are told from real ones."""
    split, seed = acdc.splits(cohort.ids, run.labels, run.split), seed_of(run.seed, run.split, run.labels, "measures")
    images, labels = (t[cohort.index(split.labelled)].to(device) for t in (cohort.images, cohort.labels))
    torch.manual_seed(seed)
    found = rows.of_generators(config, generators, images, device)
    if config.realism_steps and rows.parts(run.method)[0][0] == "A":
        others = patients(split.unlabelled)[4::5]  # one of each group is kept to judge by
        unseen = torch.tensor([name.split("/")[0] in others for name in split.unlabelled])
        index = cohort.index(split.unlabelled)
        real, judged = (cohort.images[index[chosen]].to(device) for chosen in (~unseen, unseen))
        torch.manual_seed(seed)  # the same discriminator in every row
        found["realism_auc"] = rows.realism(config, run.method, generators, images, labels, real, judged, device)
    return found


def run(
    config: Config, run: Run, cohort: Cohort, folder: Path, device: Device = "cpu", report: Report | None = None,
    stop: Stop | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One run of the grid: Dice per test patient and structure, what its generators make, its history.

    A pure function of config, run and cohort (bit for bit on one kind of CPU with the same number of threads).
    """
    method, generators, history = train(config, run, cohort, folder, device, report, stop)
    split = acdc.splits(cohort.ids, run.labels, run.split)
    test = patients(split.test)
    scores = torch.tensor(dice(method, cohort, test, device), dtype=torch.float64)
    overall = {"validation_dice": max(entry["validation"] for entry in history) / 100}
    overall |= measures(config, run, cohort, generators, device)
    return {
        "subjects": test,
        "scores": {
            "dice": dict(zip(acdc.CLASSES[1:], scores.T.tolist(), strict=True)),
            "mean_dice": {"all": scores.mean(1).tolist()},
        },
        "overall": overall,
        "history": history,
    }
