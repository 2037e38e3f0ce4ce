"""Malfliet & Bakker 2021, Table 1, as published and corrected: small photographs (CIFAR-10).

Which networks are trained, and how one is.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from fewlabels.augment import classical as augment
from fewlabels.data import cifar10
from fewlabels.data.cohort import Cohort, Split
from fewlabels.engine import params
from fewlabels.engine.params import Count, Natural, Rate, check_grid
from fewlabels.engine.training import Batches, Shuffled, Stages, seed_of
from fewlabels.methods.prediction_consistency import KL_CLIP, PredictionConsistency
from fewlabels.models.convsmall import ConvSmall
from fewlabels.papers.tudelft2021.claims import judge
from fewlabels.papers.tudelft2021.tables import METHODS, PAPER, TRANSFORMS, of_curve, tables
from fewlabels.paths import data_root
from fewlabels.precision import Precision
from fewlabels.scores.scale import of_paper
from fewlabels.types import Device, History, Report, Stop

__all__ = [
    "BEST", "NAME", "Config", "Run", "grid", "identity", "judge", "load", "notebooks", "run", "scale",
    "stages", "tables",
]  # fmt: skip

NAME = "cifar10"
BEST = "Accuracy.*"

# How the code behind the report departs from its text or from good practice; `legacy` is the first four.
SWITCHES = ("legacy_inference_mode", "fixed_angle", "kl_clip", "mixed_accuracy", "symmetric_supervised_kl")
MODES = {"corrected": frozenset(), "legacy": frozenset(SWITCHES[:4])}
LISTS = ("transforms", "methods", "modes", "seeds", "noise_seeds", "semi_learning_rate", "two_step_learning_rate")
IMAGES = 49000  # in training, with and without labels; 1,000 more for validation
MOST = 45.0  # degrees


class Config(BaseModel):
    """Everything that decides a number; the keys of `params/cifar10/*.yaml` and of the notebook's parameters cell."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    profile: str  # names the result folder; the parameter file's own name
    data: Literal["digits", "cifar10"]
    transforms: list[Literal[TRANSFORMS]]
    methods: list[Literal[METHODS]]
    modes: list[str]  # "corrected", "legacy", or switches joined by +
    seeds: list[Natural]  # of weights, batches and transforms; and of the split where the official order is lost
    noise_seeds: list[Natural]  # the same for the noise transform
    labels: Count  # labelled training images
    unlabelled: Annotated[int, Field(ge=0)]
    validation: Count
    labelled_per_batch: Natural  # in every step of every row; 0: as they come out of the mixed pool, as in the report
    width: Rate  # of ConvSmall; 1.0 has 96 and 192 channels
    dropout: Annotated[float, Field(ge=0, lt=1)]
    norm_momentum: Annotated[float, Field(gt=0, le=1)]  # share of a new batch in running statistics; Keras: 0.01
    norms: Literal["together", "apart"] = (
        "together"  # one batch of them, or labelled and unlabelled images each their own
    )
    consistency_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)]  # lambda
    batch_size: Count  # images a step; each is seen as it is and transformed
    supervised_learning_rate: Rate  # of Adam, in the supervised step
    semi_learning_rate: list[Rate]  # of SemiC
    two_step_learning_rate: list[Rate]  # of the second step of SemiCT and SemiTCE
    steps_supervised: Count  # Supervised; the first step of SemiCT
    steps_early: Count  # the first step of SemiTCE
    steps_semi: Count  # SemiC; the second step of SemiCT and SemiTCE
    validate_every: Count
    keep: Literal["best", "last"]  # which network is scored: best on validation, or the last as in the report
    precision: Precision = "fp32"  # of the networks: bf16 on processors with AVX512-BF16 or AMX, and on CUDA
    threads: Count

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for mode in self.modes:
            if mode not in MODES and (not set(parts := mode.split("+")) <= {*SWITCHES} or len({*parts}) < len(parts)):
                raise ValueError(f"modes: expected corrected, legacy or {' + '.join(SWITCHES)}, found {mode!r}")
        check_grid(self, LISTS, may_be_empty=("noise_seeds",))
        if len({switches(mode) for mode in self.modes}) < len(self.modes):
            raise ValueError(f"modes: expected each set of switches once, found {self.modes}")
        if "noise" in self.transforms and not self.noise_seeds:
            raise ValueError("noise_seeds: expected at least one value where noise is a transform, found none")
        if round(96 * self.width) < 1:
            raise ValueError(f"width: expected at least 1/96, one channel, found {self.width}")
        if self.steps_early > self.steps_supervised:
            found = f"{self.steps_early} of {self.steps_supervised}"
            raise ValueError(f"steps_early: expected at most steps_supervised, found {found}")
        if self.labelled_per_batch > self.batch_size:
            found = f"{self.labelled_per_batch} in a batch of {self.batch_size}"
            raise ValueError(f"labelled_per_batch: expected at most batch_size, found {found}")
        if self.labelled_per_batch == self.batch_size and self.unlabelled:
            raise ValueError("labelled_per_batch: expected room for unlabelled images, found a batch without any")
        if self.norms == "apart" and not self.labelled_per_batch:
            raise ValueError("norms: expected together where labelled_per_batch is 0, found apart")
        return self


@dataclass(frozen=True)
class Run:
    method: str
    transform: str
    mode: str
    learning_rate: float  # of the step that ends in the network scored
    labels: int
    seed: int

    @property
    def id(self) -> str:
        return "_".join([self.method, *(f"{axis}={value}" for axis, value in list(vars(self).items())[1:])])


def grid(config: Config) -> list[Run]:
    """All runs: every method under every transform, in every mode; the seeds of noise are its own."""
    rates = {"Supervised": [config.supervised_learning_rate], "SemiC": config.semi_learning_rate}
    runs = []
    for mode, transform in product(config.modes, config.transforms):
        for seed in config.noise_seeds if transform == "noise" else config.seeds:
            for method in config.methods:
                at = rates.get(method, config.two_step_learning_rate)
                runs += [Run(method, transform, mode, rate, config.labels, seed) for rate in at]
    return runs


def identity(config: Config, run: Run) -> dict[str, Any]:
    """All that decides the numbers of one run."""
    return params.identity(config, run, LISTS)


def scale(config: Config, data: str, scores: pd.DataFrame) -> str:
    """How far it goes of the report's images and 120 epochs: 3,840 steps of the labelled images, 45,960 of all."""
    images = (config.labels + config.unlabelled, IMAGES, "images")
    copy = "JPEG copy" if data.startswith("cifar10-jpeg") else ""
    steps = (config.steps_supervised + config.steps_semi, 3840 + 45960)
    return of_paper(steps, (config.width, 1), counts=[images], beside=[copy])


def stages(config: Config, run: Run) -> dict[str, int]:
    """The supervised step, the consistency step, or the one before the other: `{name: steps}`."""
    first = replace(run, method="Supervised", learning_rate=config.supervised_learning_rate).id
    if run.method == "Supervised":
        return {first: config.steps_supervised}
    before = {"SemiCT": {first: config.steps_supervised}, "SemiTCE": {f"early_{first}": config.steps_early}}
    return before.get(run.method, {}) | {run.id: config.steps_semi}


def notebooks(config: Config) -> list[str]:
    """Which notebooks show what a config runs, in their order."""
    return [f"{PAPER}_table1"]


def load(config: Config, root: str | None = None) -> Cohort:
    """The cohort a config names: digits, or CIFAR-10 below `root` (default: FEWLABELS_DATA) or in a prepared file."""
    return cifar10.digits() if config.data == "digits" else cifar10.load(root or data_root())


def split_of(config: Config, cohort: Cohort, seed: int) -> Split:
    """By index as in the report where the order is the official one, else shuffled by the seed."""
    counts = config.labels, config.unlabelled, config.validation
    return cifar10.splits(cohort.ids, *counts, seed=None if cohort.meta["data"] == "cifar10" else seed)


def switches(mode: str) -> frozenset[str]:
    """The names of the switches that a mode turns on."""
    return MODES.get(mode, frozenset(mode.split("+")))


def transform_of(run: Run, part: str) -> Callable[[Tensor], Tensor]:
    """t of a run for `part` "training" or "evaluation": batch of images -> transformed batch.

    With `fixed_angle` one angle is drawn for each part, once and for all images (in the report's code it was drawn
    when TensorFlow traced the graph, of training and of evaluation).
    """
    if run.transform == "rotation" and "fixed_angle" in switches(run.mode):
        generator = torch.Generator().manual_seed(seed_of(run.seed, "angle", part))
        angle = float((2 * torch.rand(1, generator=generator) - 1) * MOST)
        return lambda x: augment.rotate(x, torch.full((len(x),), angle, device=x.device))
    return {"noise": augment.noise, "shift": augment.shift, "rotation": augment.rotation}[run.transform]


def transformed_once(images: Tensor, run: Run, *place: object) -> Tensor:
    """The images of an evaluation, each transformed once; the same for every method and at every validation."""
    torch.manual_seed(seed_of(run.seed, run.transform, *place))
    t = transform_of(run, "evaluation")
    return torch.cat([t(part) for part in images.split(500)])


def build(
    config: Config, run: Run, cohort: Cohort, lam: float, learning_rate: float, device: Device = "cpu"
) -> PredictionConsistency:
    """A network with fresh weights and its method, both on `device`. Uses torch's global RNG."""
    channels, classes = cohort.images.shape[1], len(cohort.classes)
    network = ConvSmall(channels, classes, config.width, config.dropout, config.norm_momentum).to(device)
    on = switches(run.mode)
    return PredictionConsistency(
        network, torch.optim.Adam(network.parameters(), lr=learning_rate, eps=1e-7),  # Keras' epsilon
        transform_of(run, "training"), lam,
        norm="apart" if config.norms == "apart" else "joint", legacy_inference_mode="legacy_inference_mode" in on,
        kl_clip=KL_CLIP if "kl_clip" in on else 0.0, symmetric_supervised_kl="symmetric_supervised_kl" in on,
    )  # fmt: skip


def train(
    config: Config, run: Run, cohort: Cohort, folder: Path, device: Device = "cpu", report: Report | None = None,
    stop: Stop | None = None,
) -> tuple[PredictionConsistency, Split, History]:  # fmt: skip
    """The supervised step, the consistency step, or the one after the other; returns the method, split and history.

    `folder` keeps the checkpoints. Supervised is the first step of SemiCT: both train it under one name.
    """
    torch.set_num_threads(config.threads)
    split = split_of(config, cohort, run.seed)
    images, labels = cohort.images.to(device), cohort.labels.to(device)
    labelled, unlabelled = cohort.index(split.labelled), cohort.index(split.unlabelled)
    validation = cohort.index(split.validation)
    x, y = images[validation], labels[validation]
    tx = transformed_once(x, run, "validation")

    def validate(method: PredictionConsistency) -> dict[str, float]:
        found, _ = scores(config, run, method, x, tx, y)
        others = {f"validation_{name}": value for name, value in found.items() if name != "accuracy"}
        return {"validation": found["accuracy"], **others}

    stage, seed = Stages(folder, report, stop, config.precision), partial(seed_of, run.seed, run.transform)
    options = {"every": config.validate_every, "keep": config.keep}

    def supervised(name: str, steps: int) -> tuple[PredictionConsistency, History]:
        return stage(
            name, lambda: build(config, run, cohort, 0.0, config.supervised_learning_rate, device),
            batches(config, images, labels, labelled, unlabelled[:0]), validate,
            seed=seed("supervised"), steps=steps, **options,
        )  # fmt: skip

    first = replace(run, method="Supervised", learning_rate=config.supervised_learning_rate).id
    if run.method == "Supervised":
        method, history = supervised(first, config.steps_supervised)
        return method, split, history
    start = None
    if run.method == "SemiCT":
        start, _ = supervised(first, config.steps_supervised)
    if run.method == "SemiTCE":
        start, _ = supervised(f"early_{first}", config.steps_early)

    def semi() -> PredictionConsistency:
        method = build(config, run, cohort, config.consistency_weight, run.learning_rate, device)
        if start is not None:
            method.network.load_state_dict(start.network.state_dict())
        return method

    method, history = stage(
        run.id, semi, batches(config, images, labels, labelled, unlabelled), validate,
        seed=seed("semi"), steps=config.steps_semi, **options,
    )  # fmt: skip
    return method, split, history


def batches(config: Config, images: Tensor, labels: Tensor, labelled: Tensor, unlabelled: Tensor) -> Batches:
    """Batches of images, the labelled ones first, and the labels of these.

    From the mixed pool, however many labelled ones that gives, or a fixed number of them in each batch, beside which
    the supervised step has none: rows of as many steps then see every label as often.
    """
    k, pool = config.labelled_per_batch, torch.cat([labelled, unlabelled])
    make = lambda i, j: {"images": images[torch.cat([i, j])], "labels": labels[i]}  # noqa: E731
    if k:
        rest = config.batch_size - k if len(unlabelled) else 0
        return Batches(make, Shuffled(labelled, k), Shuffled(unlabelled, rest))

    def mixed(place: Tensor) -> dict[str, Tensor]:
        has_label = place < len(labelled)
        return make(pool[place[has_label]], pool[place[~has_label]])

    return Batches(mixed, Shuffled(len(pool), config.batch_size))


def epoch(config: Config, run: Run) -> float:
    """Steps in which every label is seen once."""
    if config.labelled_per_batch:
        return config.labels / config.labelled_per_batch
    return (config.labels + (config.unlabelled if run.method != "Supervised" else 0)) / config.batch_size


def scores(
    config: Config, run: Run, method: PredictionConsistency, x: Tensor, tx: Tensor, y: Tensor
) -> tuple[dict[str, float], Tensor]:
    """What Table 1 has of labelled images and their transforms, `accuracy` as the mode takes it; the classes of x."""
    found, predicted = method.evaluate(x, tx, y)
    mixed = (found["accuracy_clean"] + found["accuracy_transformed"]) / 2
    found["accuracy"] = mixed if "mixed_accuracy" in switches(run.mode) else found["accuracy_clean"]
    found["loss"] = found["loss_sup"] + config.consistency_weight * found["loss_cons"]
    return found, predicted


def run(
    config: Config, run: Run, cohort: Cohort, folder: Path, device: Device = "cpu", report: Report | None = None,
    stop: Stop | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One run of the grid: its scores on the test images, what its learning curves say, its confusion matrix.

    A pure function of config, run and cohort (bit for bit on one kind of CPU with the same number of threads).
    """
    method, split, history = train(config, run, cohort, folder, device, report, stop)
    test = cohort.index(split.test)
    x, y = cohort.images[test].to(device), cohort.labels[test].to(device)
    found, predicted = scores(config, run, method, x, transformed_once(x, run, "test"), y)
    classes = len(cohort.classes)
    return {
        "subjects": [],  # 10,000 images: no scores of each
        "scores": {},
        "overall": found | of_curve(history, epoch=epoch(config, run)),
        "history": history,
        "confusion": torch.bincount(classes * y + predicted, minlength=classes**2).reshape(classes, classes).tolist(),
    }
