"""Gao et al. 2021, Table 1: what each method's training takes, as a multiple of training without augmentation."""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels.augment import policies
from fewlabels.data.cohort import Cohort
from fewlabels.engine import provenance
from fewlabels.papers.gao2021 import isic_rows as rows
from fewlabels.papers.gao2021 import rows as gao_rows
from fewlabels.scores.published import published_values
from fewlabels.types import Device, Losses

if TYPE_CHECKING:  # for types only
    from fewlabels.papers.gao2021.isic import Config

Step = Callable[[], Losses]  # one training step
POLICY = [[["Rotate", 0.5, 0.5], ["Color", 0.5, 0.5]], [["ShearX", 0.5, 0.5], ["Equalize", 0.5, 0.5]]]  # for one found
GENERATOR = "cGAN, generator"  # a step of one of its two pre-trainings
METHODS = ("no-aug", "RandAug", "Fast AA", GENERATOR, "cGAN", *gao_rows.OURS)


def steps_of(
    config: "Config", backbone: str, cohort: Cohort, device: Device, methods: Sequence[str] = METHODS
) -> dict[str, Step]:
    """`{method: function that does one training step}` on one batch of a cohort, resident on the device."""
    index = torch.arange(config.batch_size)
    x, y = cohort.images[index].to(device), cohort.labels[index].to(device)
    n, m = config.rand_augment[-1]
    augments = {
        "no-aug": lambda x: x,
        "RandAug": lambda x: policies.rand_augment(x, n, m),
        "Fast AA": lambda x: policies.apply_policy(x, POLICY),
    }

    def step(name: str) -> Step:
        torch.manual_seed(0)
        if name in augments:
            both = lambda x, y: (augments[name](x), y)  # noqa: E731
            method = rows.plain(config, backbone, both, F.cross_entropy, device)
        elif name in (GENERATOR, "cGAN"):
            pretraining = rows.cgan_generator(config, backbone, "deformation", F.cross_entropy, device)
            intensity = rows.cgan_generator(config, backbone, "intensity", F.cross_entropy, device).G
            generators = {"deformation": pretraining.G.eval(), "intensity": intensity.eval()}
            augment = rows.cgan(config, generators, device)
            plain = rows.plain(config, backbone, augment, F.cross_entropy, device)
            method = pretraining if name == GENERATOR else plain
        else:
            method = rows.adversarial(config, backbone, name, F.cross_entropy, device)
        parts = len(gao_rows.kinds(name)) + 1
        real = x if name == GENERATOR else x[: config.batch_size * (parts - 1) // parts]
        return lambda: method.training_step({"images": x, "labels": y, "real": real})

    return {name: step(name) for name in methods}


def seconds_of(steps: dict[str, Step], repeats: int, device: Device) -> dict[str, float]:
    """`{method: median seconds of a step}`, all methods in turn, `repeats` times; the first turn does not count."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats + 1):
        for name, step in steps.items():
            start = perf_counter()
            step()
            if torch.device(device).type == "cuda":
                torch.cuda.synchronize(device)
            taken[name].append(perf_counter() - start)
    return {name: float(np.median(times[1:])) for name, times in taken.items()}


def memory_of(step: Step, device: Device) -> float:
    """What a step holds at its height, in MB: on CUDA the peak of what is allocated, else what is kept for backward."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return torch.cuda.max_memory_allocated(device) / 2**20
    kept = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return sum(kept.values()) / 2**20


def table(config: "Config", seconds: dict[str, float], memory: dict[str, float]) -> pd.DataFrame:
    """Table 1: search and training of each method as multiples of training without augmentation; the paper's beside.

    From the time of single steps and the number of each kind that `config` asks for. Fast AA's search trains once more;
    trying its policies is not counted.
    """
    ratio = {name: value / seconds["no-aug"] for name, value in seconds.items()}
    points, pretraining = len(config.rand_augment), 2 * config.steps_generator / config.steps
    search = {
        "RandAug": (points if points > 1 else 0) * ratio["RandAug"],
        "Fast AA": 1.0,
        "cGAN": pretraining * ratio[GENERATOR],
    }
    hours = published_values("gao2021", "Table 1").set_index("row")["mean"]
    names = {"Affine": "Ours Single", "Deform": "Ours Single", "Appear": "Ours Single", "Comb": "Ours Combined"}
    lines = []
    for name in seconds:
        if name != GENERATOR:
            paper = hours[names.get(name, name)] / hours["no-aug"]
            found = search.get(name, 0.0)
            total = found + ratio[name]
            lines.append((name, 1000 * seconds[name], memory[name], found, ratio[name], total, paper))
    columns = ["method", "ms a step", "MB a step", "search", "training", "total", "paper, total"]
    return pd.DataFrame(lines, columns=columns)


def markdown(costs: pd.DataFrame, config: "Config", cohort: Cohort, device: Device) -> str:
    """The table as text, with what it was measured on."""
    machine = provenance.machine(device)
    images = f"{config.batch_size} images of {config.size} px, {config.threads} threads"
    caption = (
        "Table 1 of Gao et al. 2021: search and training as multiples of training without augmentation. Medians of "
        f"single steps in turn. {config.backbones[0]}, {images}, G of {config.generator_width} and D of "
        f"{config.discriminator_width} channels; {machine['device']}; profile `{config.profile}`, data "
        f"{cohort.meta['data']}. MB: the peak on CUDA, else what a step keeps for its backward pass."
    )
    lines = [f"| {' | '.join(costs.columns)} |", "|---" * len(costs.columns) + "|"]
    for name, *values in costs.itertuples(index=False):
        lines.append(f"| {name} | " + " | ".join(f"{v:.3g}" for v in values) + " |")
    return caption + "\n\n" + "\n".join(lines) + "\n"
