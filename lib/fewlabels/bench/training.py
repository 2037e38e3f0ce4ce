"""What share of a training step its transforms take: SemiTC (Bortsova et al. 2019), SemiC (Malfliet & Bakker 2021)."""

import torch
from torch.utils._pytree import tree_leaves, tree_map

from fewlabels import params, warps
from fewlabels.bench.timing import Different, Pair
from fewlabels.data import cifar10 as photographs
from fewlabels.data import jsrt as chests
from fewlabels.experiments import cifar10, jsrt
from fewlabels.methods import consistency
from fewlabels.paths import CHECKOUT

PROFILES = {"cpu": ("lite", "share <= 10%"), "cuda": ("paper", "share <= 5%")}
SMALL = {"size": 32, "width": 4, "levels": 3}
SMALL_CLASSIFIER = {"width": 0.0834, "batch_size": 16}


def pair(device, quick):
    """The whole step, and behind each step the calls to `fewlabels.warps` that it made, alone."""
    profile, target = PROFILES[device]
    _, config = params.load(CHECKOUT / f"params/jsrt/{profile}.yaml")
    config = config.model_copy(update=SMALL if quick else {})

    def make():
        cohort = chests.phantom(config.batch_size, seed=0, size=config.size)
        batch = {"images": cohort.images.to(device), "labels": cohort.labels[: config.batch_size // 2].to(device)}
        torch.manual_seed(0)
        method = jsrt.build(config, "SemiTC", device)
        calls = []

        def step():
            with recorded(calls):
                return (method.training_step(batch)["loss_cons"],)

        step()
        if not calls:
            raise Different("training step: expected calls of methods.consistency to fewlabels.warps, found none")
        return lambda: replay(calls), step

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


def of_classifier(device, quick, queued):
    """A SemiC step on resident data, and behind it its transform alone, for each of the three transforms."""
    profile, _ = PROFILES[device]
    _, config = params.load(CHECKOUT / f"params/cifar10/{profile}.yaml")
    config = config.model_copy(update=SMALL_CLASSIFIER if quick else {})
    images, labelled = config.batch_size, config.batch_size * config.labels // (config.labels + config.unlabelled)

    def make(transform):
        def made():
            cohort = photographs.digits()  # the shape of CIFAR-10's images; what they show costs nothing
            batch = {"images": cohort.images[:images].to(device), "labels": cohort.labels[:labelled].to(device)}
            torch.manual_seed(0)
            run = cifar10.Run("SemiC", transform, "corrected", 0.001, config.labels, seed=0)
            method = cifar10.build(config, run, cohort, config.consistency_weight, run.learning_rate, device)
            alone = lambda: (method.transform(batch["images"]),)  # noqa: E731
            return alone, lambda: (method.training_step(batch)["loss_cons"],)

        return made

    row = {"case": f"G: training step, ConvSmall {config.width:g}", "peer": "the whole SemiC step", "device": device}
    row |= {"target": "share <= 5%" if device == "cpu" else "", "tolerance": None, "peer_first": True, "queued": queued}
    row |= {"note": f"cifar10/{profile}.yaml", "images": 2 * images, "threads": config.threads}
    return [Pair(work=name, make=make(name), **row) for name in ("noise", "shift", "rotation")]


class recorded:
    """While it lasts, `calls` gets every call that `methods.consistency` makes to `fewlabels.warps`, anew."""

    def __init__(self, calls):
        self.calls = calls
        self.functions = {n: f for n in warps.__all__ if callable(f := getattr(consistency, n, None))}

    def __enter__(self):
        self.calls.clear()
        for name, function in self.functions.items():
            setattr(consistency, name, self.recording(function))

    def __exit__(self, *_):
        for name, function in self.functions.items():
            setattr(consistency, name, function)

    def recording(self, function):
        def call(*arguments, **named):
            self.calls.append((function, tree_map(_leaf, (arguments, named)), torch.is_grad_enabled()))
            return function(*arguments, **named)

        return call


def replay(calls):
    """The recorded calls again, each with its backward pass where the step had one."""
    for function, (arguments, named), graded in calls:
        with torch.set_grad_enabled(graded):
            outputs = [t for t in tree_leaves(function(*arguments, **named)) if _needs_gradient(t)]
        inputs = [t for t in tree_leaves((arguments, named)) if _needs_gradient(t)]
        if outputs and inputs:
            torch.autograd.grad(outputs, inputs, [torch.ones_like(t) for t in outputs], allow_unused=True)
    return ()


def _needs_gradient(t):
    return torch.is_tensor(t) and t.requires_grad


def _leaf(t):
    """The same tensor outside the step's graph."""
    return t.detach().requires_grad_(t.requires_grad) if torch.is_tensor(t) else t
