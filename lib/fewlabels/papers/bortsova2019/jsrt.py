"""Bortsova et al. 2019, Tables 1 and 2: chest radiographs (JSRT).

Which networks are trained, and how one is. Scores: `measures`; tables: `tables`.
"""

from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fewlabels.data import jsrt
from fewlabels.data.cohort import Cohort, Split
from fewlabels.engine import params
from fewlabels.engine.params import Count, Natural, Rate, Size, check_grid
from fewlabels.engine.training import Batches, Shuffled, Stages, seed_of
from fewlabels.methods.consistency import TransformationConsistency, draw_transforms
from fewlabels.models.unet import UNet
from fewlabels.papers.bortsova2019.claims import judge
from fewlabels.papers.bortsova2019.measures import evaluate
from fewlabels.papers.bortsova2019.tables import METHODS, PAPER, STOP_GRADIENT, tables
from fewlabels.paths import data_root
from fewlabels.precision import Precision
from fewlabels.scores import metrics
from fewlabels.scores.scale import of_paper
from fewlabels.types import Device, History, Report, Stop
from fewlabels.warps import gaussian_field, gaussian_field_rms, jacobian_determinant

__all__ = [
    "BEST", "NAME", "Config", "Run", "grid", "identity", "judge", "load", "notebooks", "run", "scale",
    "stages", "tables",
]  # fmt: skip

NAME = "jsrt"
BEST = r"\d+ labels|mIoU.*"
TABLE_2 = ("Baseline", "SemiTC", "SemiTC+")
# What spans the grid.
LISTS = ("splits", "labels", "methods", "stop_gradient_labels", "matched_validation_labels", "seeds", "amplitude")


class Config(BaseModel):
    """Everything that decides a number; the keys of `params/jsrt/*.yaml` and of the notebooks' parameters cell."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    profile: str  # names the result folder; the parameter file's own name
    data: Literal["phantom", "jsrt"]
    subjects: Count  # of the phantom; JSRT has 247
    size: Count  # side of the images in pixels
    splits: list[Annotated[int, Field(ge=0, le=4)]]
    labels: list[Count]
    methods: list[Literal[METHODS[:4]]]
    stop_gradient_labels: list[Count]  # label counts at which the stop-gradient ablation runs beside them
    matched_validation_labels: list[Count]  # label counts of Table 2: no more validation images than labelled ones
    seeds: list[int]
    train_images: Count  # labelled + unlabelled; what is left of the non-test half is validation
    amplitude: list[Size]  # rms of each component of T's fields, % of the side; 0: the paper's literal 1000 px noise
    order: Literal[0, 1]  # interpolation of labels and predictions
    consistency_weight: Size  # lambda
    consistency: Literal["jaccard", "mse", "kl"]
    gradient: Literal["adjoint", "printed"]
    width: Count  # channels of the first U-Net level
    levels: Count
    optimiser: Literal["adadelta", "adam"]
    learning_rate: Rate
    batch_size: Annotated[int, Field(gt=0, multiple_of=2)]  # images per step, labelled and unlabelled together
    steps_supervised: Count  # stage 1, shared by the methods
    steps_finetune: Count  # stage 2, each method
    patience: Annotated[int, Field(ge=0)]  # steps without a better validation mIoU before a stage ends; 0 never
    validate_every: Count
    loss_draws: Count  # pairs of transforms per labelled image when the losses of the chosen network are taken
    loss_images: Natural = 0  # the first so many labelled images, of which they are taken; 0: all
    precision: Precision = "fp32"  # of the networks: bf16 on processors with AVX512-BF16 or AMX, and on CUDA
    threads: Count

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.size % 2 ** (self.levels - 1):
            raise ValueError(
                f"size: expected a multiple of 2^(levels - 1) = {2 ** (self.levels - 1)}, found {self.size}"
            )
        if (self.gradient, self.order) == ("printed", 1):
            raise ValueError("gradient: expected 'adjoint' with order 1, found 'printed', a formula for order 0")
        for key in ("labels", "stop_gradient_labels", "matched_validation_labels"):
            if too_many := [n for n in getattr(self, key) if n > self.train_images]:
                raise ValueError(f"{key}: expected at most train_images = {self.train_images}, found {too_many[0]}")
        check_grid(self, LISTS, may_be_empty=("stop_gradient_labels", "matched_validation_labels"))
        if len(self.amplitude) > 1 and (len(self.labels) > 1 or self.matched_validation_labels):
            raise ValueError(
                "amplitude: expected one, or several with one count of labels and no Table 2, found several"
            )
        return self


@dataclass(frozen=True)
class Run:
    method: str
    labels: int
    split: int
    seed: int
    amplitude: float | None = None  # None: the config's only one
    validation: str = "all"  # "matched": no more validation images than labelled ones

    @property
    def id(self) -> str:
        return f"{self.method.replace(' ', '_')}_{_place(self)}"


def _place(run: Run) -> str:
    return "_".join(f"{axis}={value}" for axis, value in params.place(run).items() if axis != "method")


def grid(config: Config) -> list[Run]:
    """All runs: those of Table 1, then those of Table 2.

    SemiTC with every label is SupTC, so it is not run (Table 1's caption).
    """
    amplitudes = config.amplitude if len(config.amplitude) > 1 else [None]
    runs = []
    for seed, split, labels, amplitude in product(
        config.seeds, config.splits, sorted({*config.labels, *config.stop_gradient_labels}), amplitudes
    ):
        methods = [*config.methods] * (labels in config.labels)
        methods += [STOP_GRADIENT] * (labels in config.stop_gradient_labels)
        runs += [Run(method, labels, split, seed, amplitude) for method in methods]
    for seed, split, labels in product(config.seeds, config.splits, config.matched_validation_labels):
        runs += [Run(method, labels, split, seed, validation="matched") for method in TABLE_2]
    return [run for run in runs if (run.method, run.labels) != ("SemiTC", config.train_images)]


def identity(config: Config, run: Run) -> dict[str, Any]:
    """All that decides the numbers of one run."""
    return {"amplitude": config.amplitude[0]} | params.identity(config, run, LISTS)


def scale(config: Config, data: str, scores: pd.DataFrame) -> str:
    """How far it goes of the paper's 512 px of 12 bit and at most 5,000 steps of each of two stages."""
    steps = config.steps_supervised + config.steps_finetune
    copy = "8-bit copy" if data == "jsrt-8bit" else ""
    return of_paper((steps, 10000), (config.width, 32), (config.size, 512), beside=[copy])


def stages(config: Config, run: Run) -> dict[str, int]:
    """Stage 1, which the methods of one split, label count and seed share, and stage 2: `{name: steps}`."""
    return {f"supervised_{_place(run)}": config.steps_supervised, run.id: config.steps_finetune}


def notebooks(config: Config) -> list[str]:
    """Which notebooks show what a config runs, in their order."""
    if len(config.amplitude) > 1:
        return [f"{PAPER}_amplitude"]
    return [f"{PAPER}_table1"] + [f"{PAPER}_table2"] * bool(config.matched_validation_labels)


def load(config: Config, root: str | None = None) -> Cohort:
    """The cohort a config names: the phantom, or JSRT below `root` (default: FEWLABELS_DATA) or in a prepared file."""
    if config.data == "phantom":
        return jsrt.phantom(config.subjects, seed=0, size=config.size)
    return jsrt.load(root or data_root(), size=config.size)


def transforms(size: int, amplitude: float) -> tuple[float, float]:
    """alpha and sigma of T in pixels of a grid of `size` x `size`, for an amplitude in % of the side.

    The paper's noise is U(-1000, 1000), sigma 100, at 512 px. So that a field is the same share of the image at any
    size, sigma scales with the side and alpha with its square.
    """
    alpha, sigma = 1000 * (size / 512) ** 2, 100 * size / 512
    if amplitude > 0:
        alpha *= amplitude / 100 * size / gaussian_field_rms((size, size), alpha, sigma)
    return alpha, sigma


def build(config: Config, method: str = "Baseline", device: Device = "cpu") -> TransformationConsistency:
    """A network with fresh weights and its method, both on `device`. Uses torch's global RNG."""
    network = UNet(1, len(jsrt.CLASSES), config.width, config.levels).to(device)
    if config.optimiser == "adadelta":
        optimiser = torch.optim.Adadelta(network.parameters(), lr=config.learning_rate, rho=0.95, eps=1e-7)
    else:
        optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    size = (config.size, config.size)
    alpha, sigma = transforms(config.size, config.amplitude[0])
    return TransformationConsistency(
        network,
        optimiser,
        draw=lambda n: draw_transforms(n, size, alpha, sigma, device),
        lam=0.0 if method == "Baseline" else config.consistency_weight,
        order=config.order,
        distance=config.consistency,
        gradient=config.gradient,
        stop_gradient=method == STOP_GRADIENT,
    )


def unlabelled(split: Split, method: str) -> tuple[str, ...]:
    """X_u of a method: none, the rest of the training images, or these with all validation and test images."""
    if method in ("Baseline", "SupTC"):
        return ()
    return split.unlabelled + (split.validation + split.test if method == "SemiTC+" else ())


def train(
    config: Config, run: Run, cohort: Cohort, folder: Path, device: Device = "cpu", report: Report | None = None,
    stop: Stop | None = None,
) -> tuple[TransformationConsistency, Split, History]:  # fmt: skip
    """Stage 1 (L_sup; shared by the methods of one split, label count and seed), then stage 2 from its weights.

    Returns the trained method, the split and the history of stage 2. `folder` keeps the checkpoints.
    """
    torch.set_num_threads(config.threads)
    split = jsrt.splits(cohort.ids, run.split, run.labels, config.train_images)
    images, labels = cohort.images.to(device), cohort.labels.to(device)
    index_labelled = cohort.index(split.labelled)
    validation = cohort.index(split.validation[: run.labels] if run.validation == "matched" else split.validation)

    def batches(method: str) -> Batches:
        others = cohort.index(unlabelled(split, method))
        n = config.batch_size // 2 if len(others) else config.batch_size
        samplers = [Shuffled(index_labelled, n)]
        if len(others):
            samplers.append(Shuffled(others, config.batch_size - n))
        return Batches(lambda i, *j: {"images": images[torch.cat([i, *j])], "labels": labels[i]}, *samplers)

    def validate(method: TransformationConsistency) -> dict[str, float]:
        prediction = method.predict(images[validation]).argmax(1)
        return {"validation": float(metrics.iou(prediction, labels[validation], len(jsrt.CLASSES)).mean())}

    stage, seed = Stages(folder, report, stop, config.precision), partial(seed_of, run.seed, run.split, run.labels)
    options = {"every": config.validate_every, "patience": config.patience}
    supervised, _ = stage(
        f"supervised_{_place(run)}", lambda: build(config, "Baseline", device), batches("Baseline"), validate,
        seed=seed("supervised"), steps=config.steps_supervised, **options,
    )  # fmt: skip

    def from_supervised() -> TransformationConsistency:
        method = build(config, run.method, device)
        method.network.load_state_dict(supervised.network.state_dict())
        return method

    method, history = stage(
        run.id, from_supervised, batches(run.method), validate,
        seed=seed("finetune"), steps=config.steps_finetune, **options,
    )  # fmt: skip
    return method, split, history


def run(
    config: Config, run: Run, cohort: Cohort, folder: Path, device: Device = "cpu", report: Report | None = None,
    stop: Stop | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One run of the grid: its scores per test subject, its losses on the labelled images, its history.

    A pure function of config, run and cohort (bit for bit on one kind of CPU with the same number of threads).
    """
    if run.amplitude is not None:
        config = config.model_copy(update={"amplitude": [run.amplitude]})
    method, split, history = train(config, run, cohort, folder, device, report, stop)
    test = cohort.index(split.test)
    prediction = method.predict(cohort.images[test].to(device)).argmax(1).cpu()
    losses = final_losses(config, method, cohort, split, seed_of(run.seed, run.split, run.labels, "losses"))
    validation = {"validation_miou": max(entry["validation"] for entry in history)}
    return {
        "subjects": list(split.test),
        "scores": evaluate(prediction, cohort.labels[test], cohort.meta["lungs"][test], cohort.spacing_mm),
        "overall": losses | {"folding": folding(config)} | validation,
        "history": history,
    }


def folding(config: Config, fields: int = 100) -> float:
    """The share of T's elastic fields that fold somewhere, of `fields` drawn; the same for all runs of a config."""
    generator, folded = torch.Generator().manual_seed(0), 0
    shape, recipe = (config.size, config.size), transforms(config.size, config.amplitude[0])
    for _ in range(fields):  # one by one: at 512 px all of them would fill 2 GiB
        u = gaussian_field(1, shape, *recipe, generator=generator)
        folded += bool((jacobian_determinant(u) <= 0).any())
    return folded / fields


@torch.no_grad()
def final_losses(
    config: Config, method: TransformationConsistency, cohort: Cohort, split: Split, seed: int
) -> dict[str, float]:
    """L_sup, L_cons and the excluded share of the chosen network on labelled images under T (Section 4, par. 2).

    `config.loss_draws` pairs of transforms for each image, the same for every method; batch norms as in prediction.
    """
    device = next(method.network.parameters()).device
    index = cohort.index(split.labelled)[: config.loss_images or None]
    method.network.eval()
    torch.manual_seed(seed)
    sums = torch.zeros(3, dtype=torch.float64)
    for _ in range(config.loss_draws):
        for part in index.split(config.batch_size):
            values = method.losses(cohort.images[part].to(device), cohort.labels[part].to(device))
            sums += len(part) * torch.tensor([float(v) for v in values], dtype=torch.float64)
    means = (sums / (config.loss_draws * len(index))).tolist()
    return dict(zip(("loss_sup", "loss_cons", "excluded"), means, strict=True))
