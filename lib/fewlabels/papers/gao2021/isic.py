"""Gao et al. 2021, Figure 3 and Table 1: skin lesions (ISIC 2018, task 3).

Which networks are trained, and how one is.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pandas as pd
import torch
from pydantic import Field, model_validator
from torch import Tensor

from fewlabels.data import isic
from fewlabels.data.cohort import Cohort
from fewlabels.engine import params
from fewlabels.engine.params import Count, Natural, check_grid
from fewlabels.engine.protocols import Method
from fewlabels.methods.adversarial import RegularisedAdversarial
from fewlabels.models.backbones import BACKBONES
from fewlabels.models.backbones import PAPER as OF_PAPER
from fewlabels.papers.gao2021 import challenge
from fewlabels.papers.gao2021 import rows as gao_rows
from fewlabels.papers.gao2021.claims import judge
from fewlabels.papers.gao2021.isic_tables import METHODS, PAPER, tables
from fewlabels.papers.gao2021.isic_training import FOLDS, Trainer
from fewlabels.paths import data_root
from fewlabels.scores.scale import of_paper
from fewlabels.types import Device, History, Report, Stop

__all__ = [
    "BEST", "NAME", "Config", "Run", "grid", "identity", "judge", "load", "notebooks", "run", "scale",
    "stages", "tables",
]  # fmt: skip

NAME = "isic"
BEST = ".*"

LISTS = ("methods", "backbones", "folds", "seeds", "extra_methods", "extra_folds")
IMAGES = 8012  # of the four folds that train
JUDGED = 500  # images of a fold at which it is looked where generators act

Fold = Annotated[int, Field(ge=0, lt=FOLDS)]


class Config(gao_rows.Settings):
    """Everything that decides a number; the keys of `params/isic/*.yaml` and of the notebook's parameters cell."""

    data: Literal["phantom", "isic"]
    size: Annotated[int, Field(gt=0, multiple_of=32)]  # side of the images in pixels
    methods: list[Literal[METHODS]]
    backbones: list[Literal[BACKBONES]]
    folds: list[Fold]  # of five; each is tested by networks trained on the other four
    extra_methods: list[Literal[METHODS]]  # run on extra_folds only
    extra_folds: list[Fold]
    training_images: Natural  # drawn from the other folds, 0: all of them
    weights: str  # file with the backbone's ImageNet weights; empty: from scratch
    class_weights: Literal["none", "inverse"]  # of the cross-entropy
    rand_augment: list[Annotated[list[Count], Field(min_length=2, max_length=2)]]  # points N, M to try
    policy_trials: Count  # of Fast AutoAugment's search
    policies_kept: Count

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_grid(self, LISTS, may_be_empty=("extra_methods", "extra_folds"))
        if both := set(self.methods) & set(self.extra_methods):
            raise ValueError(f"extra_methods: expected none of methods, found {min(both)}")
        if bool(self.extra_methods) != bool(self.extra_folds):
            raise ValueError("extra_folds: expected some where there are extra_methods, and only there")
        if not self.rand_augment:
            raise ValueError("rand_augment: expected at least one point [N, M], found none")
        if self.steps % self.epochs:
            raise ValueError(f"steps: expected a multiple of epochs, {self.epochs}, found {self.steps}")
        if self.weights and len(self.backbones) > 1:
            raise ValueError(f"weights: expected none with several backbones, found {self.weights!r}")
        return self


@dataclass(frozen=True)
class Run:
    method: str
    backbone: str
    fold: int
    seed: int

    @property
    def id(self) -> str:
        return f"{gao_rows.in_a_file_name(self.method)}_{self.backbone}_fold={self.fold}_seed={self.seed}"


def grid(config: Config) -> list[Run]:
    """All runs: every method with every backbone, the extra ones on their folds only."""
    runs = []
    for seed, backbone, (methods, folds) in product(
        config.seeds,
        config.backbones,
        ((config.methods, config.folds), (config.extra_methods, config.extra_folds)),
    ):
        runs += [Run(method, backbone, fold, seed) for fold in folds for method in methods]
    return runs


def identity(config: Config, run: Run) -> dict[str, Any]:
    """All that decides the numbers of one run."""
    return params.identity(config, run, LISTS) | ({"search_fold": config.folds[0]} if run.method == "RandAug" else {})


def scale(config: Config, data: str, scores: pd.DataFrame) -> str:
    """How far it goes of the paper's 224 px, six networks and 70 epochs of 8,012 images, 17,500 steps of 32; G as wide
    as DCGAN's."""
    images = (config.training_images or IMAGES, IMAGES, "images")
    others = [backbone for backbone in config.backbones if backbone not in OF_PAPER]
    network = f"{' and '.join(others)} in place of the paper's networks" if others else ""
    copy = "copy of 200 px" if data == "ham10000-200px" else ""
    steps, width = (config.steps * config.batch_size, 17500 * 32), (config.generator_width, 16)
    return of_paper(steps, width, (config.size, 224), counts=[images], beside=[network, copy])


def stages(config: Config, run: Run) -> dict[str, int]:
    """What a row trains before T (generators, networks of a search), and T: `{name: steps}`."""
    before = {}
    if run.method == "cGAN":
        before = {f"{run.id}_{kind}": config.steps_generator for kind in gao_rows.CGAN}
    if run.method == gao_rows.RANDOM:
        before = {replace(run, method="Comb").id: config.steps}
    if run.method == "Fast AA":
        before = {f"Fast_AA_search_{run.id}": config.steps}
    if run.method == "RandAug" and len(config.rand_augment) > 1:
        first = replace(run, fold=config.folds[0]).id
        before = {f"RandAug_{n}_{m}_{first}": config.steps for n, m in config.rand_augment}
    return before | {run.id: config.steps}


def notebooks(config: Config) -> list[str]:
    """Which notebooks show what a config runs, in their order."""
    return [f"{PAPER}_isic"]


def load(config: Config, root: str | None = None) -> Cohort:
    """The cohort a config names: the phantom, or ISIC below `root` (default: FEWLABELS_DATA) or in a prepared file."""
    if config.data == "phantom":
        return isic.phantom(600, seed=0, size=config.size)
    return isic.load(root or data_root(), size=config.size)


def train(
    config: Config, run: Run, cohort: Cohort, folder: Path, device: Device = "cpu", report: Report | None = None,
    stop: Stop | None = None,
) -> tuple[Trainer, Method, History, dict[str, Any]]:  # fmt: skip
    """T of a row as (trainer, method, history, what else was found): with its generators or policies, if it has any."""
    trainer = Trainer(config, run, cohort, folder, device, report, stop)
    name, _ = gao_rows.parts(run.method)
    stages: dict[str, Callable[[str], tuple[Any, ...]]] = {
        "no-aug": trainer.plain,
        "cGAN": trainer.cgan,
        "RandAug": trainer.rand_augment,
        "Fast AA": trainer.fast_autoaugment,
        gao_rows.RANDOM: trainer.random,
    }
    stage = stages.get(run.method) or stages.get(name, trainer.adversarial)
    method, history, *found = stage(run.id)
    return trainer, method, history, found[0] if found else {}


def run(
    config: Config, run: Run, cohort: Cohort, folder: Path, device: Device = "cpu", report: Report | None = None,
    stop: Stop | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One run of the grid: recall of each class and BMCA of the held-out fold, where its generators act, its history.

    A pure function of config, run and cohort (bit for bit on one kind of CPU with the same number of threads).
    """
    trainer, method, history, found = train(config, run, cohort, folder, device, report, stop)
    test = cohort.index(trainer.split.test)
    judged = trainer.judge(method, test)
    overall = {"bmca": judged["bmca"], "accuracy": judged["accuracy"]}
    if gao_rows.kinds(run.method):
        overall |= of_epochs(history)
        if cohort.meta["masks"] is not None:
            assert isinstance(method, RegularisedAdversarial)
            overall |= where(method, cohort, test[:JUDGED], device)
    return {
        "subjects": ["all"],
        "scores": {"recall": {name: [value] for name, value in zip(cohort.classes, judged["recall"], strict=True)}},
        "overall": overall,
        "history": history,
        "confusion": judged["confusion"],
        **found,
    }


def of_epochs(history: History) -> dict[str, float]:
    """The share of epochs after which what a generator makes is harder for T than chance of the same RMS."""
    kinds = [key.removeprefix("rms_") for key in history[0] if key.startswith("rms_")]
    harder = {kind: [e[f"loss_of_{kind}"] > e[f"loss_of_random_{kind}"] for e in history] for kind in kinds}
    return {f"harder_{kind}": sum(of) / len(of) for kind, of in harder.items()}


def where(method: RegularisedAdversarial, cohort: Cohort, index: Tensor, device: Device) -> dict[str, float]:
    """For G_D and G_I: how much stronger inside lesions than outside, beside masks of others and a window."""
    torch.manual_seed(0)
    x, masks = cohort.images[index].to(device), cohort.meta["masks"][index].to(device)
    found: dict[str, float] = {}
    for G in method.generators:
        if G.kind != "affine":
            found |= {f"{name}_{G.kind}": value for name, value in challenge.centred(G, x, masks).items()}
    return found
