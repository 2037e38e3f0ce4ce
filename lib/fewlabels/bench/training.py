"""What share of a training step its transforms take: SemiTC (Bortsova et al. 2019), SemiC (Malfliet & Bakker 2021),
a generator with its segmenter and discriminator (Chaitanya et al. 2019). And what a step with adversarial generators
takes beside one without augmentation (Gao et al. 2021, Table 1)."""

from collections.abc import Callable
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from fewlabels import warps
from fewlabels.augment import classical as augment
from fewlabels.bench.timing import Different, Made, Pair, Work
from fewlabels.data import acdc as hearts
from fewlabels.data import cifar10 as photographs
from fewlabels.data import isic as lesions
from fewlabels.data import jsrt as chests
from fewlabels.engine import params
from fewlabels.methods import consistency, task_driven
from fewlabels.papers.bortsova2019 import jsrt
from fewlabels.papers.chaitanya2019 import rows as acdc_rows
from fewlabels.papers.gao2021 import overhead as isic_overhead
from fewlabels.papers.gao2021 import rows as gao_rows
from fewlabels.papers.tudelft2021 import cifar10
from fewlabels.paths import CHECKOUT

PROFILES = {"cpu": ("lite", "share <= 10%"), "cuda": ("paper", "share <= 5%")}
SMALL = {"size": 32, "width": 4, "levels": 3}
SMALL_CLASSIFIER = {"width": 0.0834, "batch_size": 16}
SMALL_GENERATOR = {"size": 32, "width": 4, "batch_size": 4}
SMALL_LESIONS = {"size": 32, "generator_width": 2, "discriminator_width": 4, "batch_size": 8}
BACKBONE = {"cpu": "ResNet-10-w16", "cuda": "ResNet-50"}
Call = tuple[Callable[..., Any], Any, bool]  # function, its arguments, whether with gradients
CALLERS = (augment, consistency, task_driven)  # of warps


def pair(device: str, quick: bool) -> Pair:
    """The whole step, and behind each step the calls to `fewlabels.warps` that it made, alone."""
    profile, target = PROFILES[device]
    _, config = params.load(CHECKOUT / f"params/jsrt/{profile}.yaml")
    config = config.model_copy(update=SMALL if quick else {})

    def make() -> tuple[Work, Work]:
        cohort = chests.phantom(config.batch_size, seed=0, size=config.size)
        batch = {"images": cohort.images.to(device), "labels": cohort.labels[: config.batch_size // 2].to(device)}
        torch.manual_seed(0)
        method = jsrt.build(config, "SemiTC", device)
        calls: list[Call] = []

        def step() -> tuple[Tensor, ...]:
            with recorded(calls):
                return (method.training_step(batch)["loss_cons"],)

        return behind(step, calls)

    return Pair(
        case=f"E: training step, {config.size} px",
        work="fields drawn, aligned, applied, with backward",
        peer="the whole SemiTC step",
        make=make,
        device=device,
        target=target,
        tolerance=None,
        note=f"{profile}.yaml's network, fields and threads on phantoms; the share is 1 / ratio",
        peer_first=True,
        threads=config.threads,
    )


def of_classifier(device: str, quick: bool, queued: tuple[int, int]) -> list[Pair]:
    """A SemiC step on resident data, and behind it its transform alone, for each of the three transforms."""
    profile, _ = PROFILES[device]
    _, config = params.load(CHECKOUT / f"params/cifar10/{profile}.yaml")
    config = config.model_copy(update=SMALL_CLASSIFIER if quick else {})
    images, labelled = config.batch_size, config.batch_size * config.labels // (config.labels + config.unlabelled)

    def make(transform: str) -> Made:
        def made() -> tuple[Work, Work]:
            cohort = photographs.digits()  # the shape of CIFAR-10's images; what they show costs nothing
            batch = {"images": cohort.images[:images].to(device), "labels": cohort.labels[:labelled].to(device)}
            torch.manual_seed(0)
            run = cifar10.Run("SemiC", transform, "corrected", 0.001, config.labels, seed=0)
            method = cifar10.build(config, run, cohort, config.consistency_weight, run.learning_rate, device)
            alone = lambda: (method.transform(batch["images"]),)  # noqa: E731
            return alone, lambda: (method.training_step(batch)["loss_cons"],)

        return made

    row: dict[str, Any] = {
        "case": f"G: training step, ConvSmall {config.width:g}",
        "peer": "the whole SemiC step",
        "device": device,
    }
    row |= {"target": "share <= 5%" if device == "cpu" else "", "tolerance": None, "peer_first": True, "queued": queued}
    row |= {"note": f"cifar10/{profile}.yaml", "images": 2 * images, "threads": config.threads}
    return [Pair(work=name, make=make(name), **row) for name in ("noise", "shift", "rotation")]


def of_generator(device: str, quick: bool, queued: tuple[int, int]) -> Pair:
    """One step of G_V, S and D on resident data, and behind it the calls to `fewlabels.warps` that it made, alone."""
    profile, _ = PROFILES[device]
    _, config = params.load(CHECKOUT / f"params/acdc/{profile}.yaml")
    config = config.model_copy(update={"warm_up": 0} | (SMALL_GENERATOR if quick else {}))

    def make() -> tuple[Work, Work]:
        cohort = hearts.phantom(6, seed=0, size=config.size)
        images, labels = (t[: config.batch_size].to(device) for t in (cohort.images, cohort.labels))
        real = cohort.images[-config.batch_size :].to(device)
        torch.manual_seed(0)
        method = acdc_rows.task_driven(config, "GD", "", device)
        calls: list[Call] = []

        def step() -> tuple[Tensor, ...]:
            with recorded(calls):
                return (method.training_step({"images": images, "labels": labels, "real": real})["loss_task"],)

        return behind(step, calls)

    return Pair(
        case=f"H: training step, G_V with S and D, {config.size} px, width {config.width}",
        work="fields drawn, composed, applied to images and labels, with backward",
        peer="the whole step",
        make=make,
        device=device,
        target="",
        tolerance=None,
        note=f"acdc/{profile}.yaml; images: labelled ones, as many real ones go through D",
        peer_first=True,
        threads=config.threads,
        images=config.batch_size,
        queued=queued,
    )


def of_adversarial(device: str, quick: bool, queued: tuple[int, int]) -> list[Pair]:
    """One step of T with the generators and D of each row, and behind it T's alone, without augmentation.

    The paper's Table 1 has 4.7 and 6.2 hours beside 3, of a ResNet-50. A small network makes the ratio larger.
    """
    profile, _ = PROFILES[device]
    backbone = BACKBONE[device]
    _, config = params.load(CHECKOUT / f"params/isic/{profile}.yaml")
    config = config.model_copy(update=SMALL_LESIONS if quick else {})

    def make(name: str) -> Made:
        def made() -> tuple[Work, Work]:
            cohort = lesions.phantom(config.batch_size, seed=0, size=config.size)
            steps = isic_overhead.steps_of(config, backbone, cohort, device, ("no-aug", name))
            ours, alone = ((lambda step=steps[n]: (next(iter(step().values())),)) for n in (name, "no-aug"))
            return ours, alone

        return made

    bounds = {name: 2.07 if name == "Comb" else 1.57 for name in gao_rows.OURS} if device == "cuda" else {}
    row: dict[str, Any] = {
        "case": f"I: training step with generators, {backbone}, {config.size} px",
        "peer": "no augmentation",
    }
    row |= {"device": device, "tolerance": None, "queued": queued, "threads": config.threads}
    row["note"] = f"isic/{profile}.yaml, G {config.generator_width}, D {config.discriminator_width} channels"
    return [
        Pair(work=name, make=make(name), target=f"ours <= {bounds[name]} x peer" if bounds else "", **row)
        for name in gao_rows.OURS
    ]


def behind(step: Work, calls: list[Call]) -> tuple[Work, Work]:
    """The calls that a step made, alone, and the step."""
    step()
    if not calls:
        raise Different("training step: expected calls to fewlabels.warps, found none")
    return lambda: replay(calls), step


class recorded:
    """While it lasts, `calls` gets every call that our methods make to `fewlabels.warps`, anew."""

    def __init__(self, calls: list[Call]) -> None:
        self.calls = calls
        self.functions = {(m, n): f for m in CALLERS for n in warps.__all__ if callable(f := getattr(m, n, None))}

    def __enter__(self) -> None:
        self.calls.clear()
        for (module, name), function in self.functions.items():
            setattr(module, name, self.recording(function))

    def __exit__(self, *_: object) -> None:
        for (module, name), function in self.functions.items():
            setattr(module, name, function)

    def recording(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append((function, tree_map(_leaf, (arguments, named)), torch.is_grad_enabled()))
            return function(*arguments, **named)

        return call


def replay(calls: list[Call]) -> tuple[Tensor, ...]:
    """The recorded calls again, each with its backward pass where the step had one."""
    for function, (arguments, named), graded in calls:
        with torch.set_grad_enabled(graded):
            outputs = [t for t in tree_leaves(function(*arguments, **named)) if _needs_gradient(t)]
        inputs = [t for t in tree_leaves((arguments, named)) if _needs_gradient(t)]
        if outputs and inputs:
            torch.autograd.grad(outputs, inputs, [torch.ones_like(t) for t in outputs], allow_unused=True)
    return ()


def _needs_gradient(t: object) -> TypeGuard[Tensor]:
    return torch.is_tensor(t) and t.requires_grad


def _leaf(t: Any) -> Any:
    """The same tensor outside the step's graph."""
    return t.detach().requires_grad_(t.requires_grad) if torch.is_tensor(t) else t
