"""A training step of each experiment in bfloat16 beside float32, on random images of the size that its `lite` has; and
in 3-D with memory kept beside glibc's defaults."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels.bench.timing import Pair, Work
from fewlabels.bench.training import BACKBONE
from fewlabels.data import cifar10 as photographs
from fewlabels.data import jsrt as chests
from fewlabels.engine import memory, params
from fewlabels.engine.protocols import Method
from fewlabels.papers.bortsova2019 import jsrt
from fewlabels.papers.chaitanya2019 import rows as acdc_rows
from fewlabels.papers.gao2021 import isic_rows, oar_rows
from fewlabels.papers.tudelft2021 import cifar10
from fewlabels.papers.vorontsov2019 import mnist
from fewlabels.paths import CHECKOUT
from fewlabels.precision import Precision, has_bf16, set_precision

SMALL: dict[str, dict[str, Any]] = {
    "jsrt": {"size": 32, "width": 4, "levels": 3},
    "cifar10": {"width": 0.0834, "batch_size": 16},
    "acdc": {"size": 32, "width": 4, "batch_size": 4},
    "isic": {"size": 32, "generator_width": 2, "discriminator_width": 4, "batch_size": 8},
    "oar": {"width": 2, "levels": 2, "patch": [16, 16, 16], "batch_size": 8},
    "mnist": {"width": 2, "discriminator_width": 4, "batch_size": 4},
}


def pairs(device: str, quick: bool, queued: tuple[int, int]) -> list[Pair]:
    """SemiTC at three sizes, SemiC, G_V with S and D, Comb of skin and of CT, Proposed."""
    cases = [("jsrt", {"size": size}, f"SemiTC, {size} px") for size in ((32,) if quick else (64, 128, 256))]
    cases += [("cifar10", {}, "SemiC, rotation"), ("acdc", {}, "G_V with S and D"), ("isic", {}, "Comb")]
    cases += [("oar", {}, "Comb, 3-D"), ("mnist", {}, "Proposed")]
    timed = device == "cuda" or has_bf16(device)  # without a GPU its rows say not run
    found = [pair(name, changed, work, device, quick, queued) for name, changed, work in cases if timed]
    return found + ([of_memory(quick)] if device == "cpu" else [])


def of_memory(quick: bool) -> Pair:
    _, config = params.load(CHECKOUT / "params/oar/lite.yaml")
    config = config.model_copy(update=SMALL["oar"] if quick else {})

    def make() -> tuple[Work, ...]:
        def after(options: dict[int, int], step: Work) -> tuple[Tensor, ...]:
            memory.keep(options)
            return step()

        steps = [step("oar", config, "cpu", "fp32") for _ in range(2)]
        options = [memory.KEPT, memory.DEFAULT]
        return tuple(partial(after, o, s) for o, s in zip(options, steps, strict=True))

    return Pair(
        case="L: training step, memory kept", work="Comb, 3-D", peer="glibc's defaults", make=make, tolerance=0.0,
        note="oar/lite.yaml", threads=config.threads,
    )  # fmt: skip


def pair(name: str, changed: dict[str, Any], work: str, device: str, quick: bool, queued: tuple[int, int]) -> Pair:
    _, config = params.load(CHECKOUT / f"params/{name}/{'paper' if device == 'cuda' else 'lite'}.yaml")
    config = config.model_copy(update=changed | (SMALL[name] if quick else {}))

    def make() -> tuple[Work, ...]:
        return tuple(step(name, config, device, precision) for precision in ("bf16", "fp32"))

    return Pair(
        case=f"K: training step in bfloat16, {name}", work=work, peer="float32", make=make, device=device,
        tolerance=None, note=f"{name}/{config.profile}.yaml", threads=config.threads, queued=queued,
    )  # fmt: skip


def step(name: str, config: Any, device: str, precision: Precision) -> Work:
    """A function that does one training step and returns its first loss."""
    torch.manual_seed(0)
    method, batch = MAKE[name](config.model_copy(update={"precision": precision}), device)
    if name != "mnist":  # whose method does it itself
        set_precision(method.network, precision)
    batch = {key: value.to(device) for key, value in batch.items()}
    return lambda: (next(iter(method.training_step(batch).values())),)


def of_jsrt(config: Any, device: str) -> tuple[Method, dict[str, Tensor]]:
    n, size = config.batch_size, (config.size, config.size)
    batch = {"images": torch.rand(n, 1, *size), "labels": torch.randint(len(chests.CLASSES), (n // 2, *size))}
    return jsrt.build(config, "SemiTC", device), batch


def of_cifar10(config: Any, device: str) -> tuple[Method, dict[str, Tensor]]:
    n, k = config.batch_size, config.batch_size * config.labels // (config.labels + config.unlabelled)
    run = cifar10.Run("SemiC", "rotation", "corrected", 0.001, config.labels, seed=0)
    method = cifar10.build(config, run, photographs.digits(), config.consistency_weight, run.learning_rate, device)
    return method, {"images": torch.rand(n, 3, 32, 32), "labels": torch.randint(10, (k,))}


def of_acdc(config: Any, device: str) -> tuple[Method, dict[str, Tensor]]:
    method = acdc_rows.task_driven(config.model_copy(update={"warm_up": 0}), "GD", "", device)
    images = torch.rand(2, config.batch_size, 1, config.size, config.size)
    labels = torch.randint(4, (config.batch_size, config.size, config.size))
    return method, {"images": images[0], "labels": labels, "real": images[1]}


def of_isic(config: Any, device: str) -> tuple[Method, dict[str, Tensor]]:
    method = isic_rows.adversarial(config, BACKBONE[device], "Comb", F.cross_entropy, device)
    x = torch.rand(config.batch_size, 3, config.size, config.size)
    return method, {"images": x, "labels": torch.randint(7, (len(x),)), "real": x[: 3 * len(x) // 4]}


def of_oar(config: Any, device: str) -> tuple[Method, dict[str, Tensor]]:
    method = oar_rows.adversarial(config, "Comb", oar_rows.target(config, 10, device), device)
    x = torch.rand(config.batch_size, 1, *config.patch)
    labels = torch.randint(10, (len(x), *config.patch))
    targets = oar_rows.targets_of(labels, torch.ones(len(x), 10, dtype=torch.bool))
    return method, {"images": x, "labels": targets, "real": x[: 3 * len(x) // 4]}


def of_mnist(config: Any, device: str) -> tuple[Method, dict[str, Tensor]]:
    n, k = config.batch_size, max(config.labelled_in_batch, 1)
    method = mnist.network(config, mnist.Run("Proposed", "48-simple", 0), device)
    masks, labelled = torch.rand(k, 48, 48) > 0.9, torch.arange(k)
    batch = {"presence": torch.rand(n, 1, 48, 48), "absence": torch.rand(n, 1, 48, 48)}
    return method, batch | {"masks": masks, "labelled": labelled}


MAKE = {"jsrt": of_jsrt, "cifar10": of_cifar10, "acdc": of_acdc, "isic": of_isic, "oar": of_oar, "mnist": of_mnist}
