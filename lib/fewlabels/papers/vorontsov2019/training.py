"""How a row of `rows` is trained on two domains, and what is measured of it."""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import parametrize

from fewlabels.data.domains import Domains
from fewlabels.engine.protocols import Method
from fewlabels.engine.training import Stages, seed_of, seeded
from fewlabels.methods.translation import Autoencoding, Translation, l1
from fewlabels.papers.vorontsov2019 import rows
from fewlabels.scores import metrics
from fewlabels.types import Device, History, Report, Stop

THRESHOLDS = 200  # tried for the residual, between its quantiles
MARGIN = 2  # pixels around a mask in which a residual may lie
SURROUNDING = 5  # pixels around a lesion that it is compared with


def on(part: Domains, device: Device) -> Domains:
    return Domains(*(tensor.to(device) for tensor in vars(part).values()))


def steps_of(config: rows.Settings, run: rows.Run) -> int:
    return config.steps_segmentation if run.method == "Only segmentation" else config.steps


def train(
    config: rows.Settings, run: rows.Run, build: Callable[[], Translation | Autoencoding], parts: dict[str, Domains],
    folder: Path, device: Device = "cpu", augment: rows.Augment | None = None, report: Report | None = None,
    stop: Stop | None = None,
) -> tuple[Translation | Autoencoding, History]:  # fmt: skip
    """The method that `build()` makes, trained on `parts["train"]`, the best on `parts["validation"]`; the history.

    All rows of a seed start from the same seeds. `augment` as of `rows.batches`.
    """
    torch.set_num_threads(config.threads)
    seed, validation = seed_of(run.seed, run.task), on(parts["validation"], device)
    batches = rows.batches(config, run.method, on(parts["train"], device), augment)
    steps = steps_of(config, run)
    every = -(-config.validate_every * steps // config.steps)  # each row chooses among as many networks

    def validate(method: Method) -> dict[str, float]:
        p = method.predict(validation.presence)[:, 0]
        return {"validation": 100 * metrics.dice_global(p, validation.masks)}

    stage = Stages(folder, report, stop)
    return stage(run.id, build, batches, validate, seed=seed, steps=steps, every=every)


def of_training(config: rows.Settings, run: rows.Run, history: History, train: Domains, width: int) -> dict[str, float]:
    """What the history says: Dice at validation, iterations in all and to nine tenths of the last Dice; epochs, of the
    images with the target (`Only segmentation`: with masks); the network's width."""
    dice, steps = [entry["validation"] for entry in history], history[-1]["step"]
    first = next(entry["step"] for entry in history if entry["validation"] >= 0.9 * dice[-1])
    images = len(train.labelled) if run.method == "Only segmentation" else len(train.presence)
    found = {"validation_dice": max(dice) / 100, "steps_to_90": first, "steps": steps, "width": width}
    return found | {"epochs": steps * config.batch_size / images}


def of_segmentation(method: Method, test: Domains, device: Device) -> tuple[dict[str, float], Tensor]:
    """Dice of the paper (soft, the whole set as one), of thresholded masks, their mean over images; probabilities."""
    p, y = method.predict(test.presence.to(device))[:, 0].cpu(), test.masks
    found = {"dice_global": metrics.dice_global(p, y), "dice_thresholded": metrics.dice_global(p, y, 0.5)}
    of_images = [metrics.dice(a, b, 2)[0] for a, b in zip((p > 0.5).int(), y.int(), strict=True)]
    return found | {"dice_per_image": sum(of_images) / len(of_images)}, p


def of_translation(
    config: rows.Settings, method: Translation, test: Domains, device: Device, seed: int, left: Tensor | None = None
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """What `Translation` removes and adds, on `config.measured` of the test images; and `translated` of them.

    left            where it is known: the images of presence without their targets, as `test.presence`
    removed         of what can be seen of the targets, how much is gone: inside the masks, the sum of x_P - x_PA over
                    that of x_P - left (only with `left`). 1: all
    residual_dice   of |D_PA|, summed over channels, above its best threshold, against the masks, with `left` against
                    what can be seen of them
    residual_share  of D_PA's energy within 2 pixels of the masks; mask_share: those pixels' share of the image
    reconstruction  L_1 of x_PP
    diversity       mean L_1 distance of two D_AP, each of mean square 1, for u of their own
    """
    at, n = spread(test.presence, config.measured), spread(test.absence, config.measured)
    x_P, x_A, y = (t.to(device) for t in (test.presence[at], test.absence[n], test.masks[at]))
    made = translated(method, x_P, x_A, seed)
    near, found = dilated(y, MARGIN), {}
    strength, energy = made["D_PA"].abs().sum(1), made["D_PA"].square().sum(1)
    if left is not None:
        left, inside = left[at].to(device), y[:, None].expand_as(x_P)
        found["removed"] = float((x_P - made["x_PA"])[inside].sum() / (x_P - left)[inside].sum())
        y = y & (x_P != left).any(1)
    D_AP = made["D_AP"].flatten(1)
    D_AP = D_AP / D_AP.square().mean(1, keepdim=True).sqrt().clamp(min=1e-6)
    pairs = len(D_AP) * (len(D_AP) - 1) * D_AP.shape[1]
    found |= {
        "residual_dice": max(metrics.dice_global((strength > t).float(), y) for t in quantiles(strength, THRESHOLDS)),
        "residual_share": float(energy[near].sum() / energy.sum()),
        "mask_share": float(near.float().mean()),
        "reconstruction": float(l1(made["x_PP"], x_P)),
        "diversity": float(torch.cdist(D_AP, D_AP, p=1).double().sum() / max(pairs, 1)),
    }
    return found, made


def spread(images: Tensor, n: int) -> Tensor:
    """Places of `n` of the images, or of all if they are fewer, evenly spread, so that no patient stands for all."""
    n = min(n, len(images))
    return torch.arange(n) * len(images) // n


def translated(method: Translation, x_P: Tensor, x_A: Tensor, seed: int, batch_size: int = 100) -> dict[str, Tensor]:
    """`Translation.translate` of many images, without gradient, u from a seed."""
    method.network.eval()
    with torch.no_grad(), parametrize.cached(), method.autocast(), seeded(x_A.device, seed, "u"):
        n = -(-max(len(x_P), len(x_A)) // batch_size)
        pieces = [method.translate(*both) for both in zip(x_P.tensor_split(n), x_A.tensor_split(n), strict=True)]
    return {name: torch.cat([piece[name] for piece in pieces]).float() for name in pieces[0] if name != "skips_P"}


def contrast(images: Tensor, masks: Tensor, brains: Tensor) -> list[float]:
    """How much lesions differ from the brain around them: |mean inside - mean within 5 pixels|, of each channel.

    images `(N, C, H, W)`, masks bool `(N, H, W)`; the brain is where `brains`, images before translation, are not 0.
    All images count together.
    """
    around = dilated(masks, SURROUNDING) & ~masks & (brains != 0).any(1)
    return [abs(float(c[masks].mean() - c[around].mean())) for c in images.unbind(1)]


def dilated(masks: Tensor, pixels: int) -> Tensor:
    """Masks, bool `(N, H, W)`, and all pixels of a square around theirs."""
    return F.max_pool2d(masks[:, None].float(), 2 * pixels + 1, stride=1, padding=pixels)[:, 0] > 0


def quantiles(x: Tensor, n: int) -> list[float]:
    """`n` quantiles of a tensor, from its smallest value up, as numbers."""
    ordered = x.flatten().sort().values
    return ordered[torch.linspace(0, len(ordered) - 1, n, dtype=torch.float64).long().to(x.device)].tolist()
