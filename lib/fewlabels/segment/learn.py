"""How the networks learn: labelled images under strong augmentation, then unlabelled ones with them."""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.losses import mean_squared_error
from fewlabels.methods.norms import statistics_kept
from fewlabels.methods.resumable import Resumable, descend, predict
from fewlabels.precision import Precision, set_precision
from fewlabels.segment.augment import IGNORED, fields, move, recolour
from fewlabels.types import Batch, Losses
from fewlabels.warps import inside, warp

DECAY = 0.99
EPS = 1.0  # pixels


def cross_entropy_dice(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy + (1 - mean soft Dice of the classes but the background), over the pixels of a batch together.

    logits `(N, classes, *size)`, labels `(N, *size)`, int64; pixels labelled `IGNORED` are in neither. Without any
    other pixel it is 0. A class that is not in the batch has no Dice.
    """
    known = (y != IGNORED)[:, None]
    cross_entropy = F.cross_entropy(logits, y, ignore_index=IGNORED, reduction="sum") / known.sum().clamp(min=1)
    p = logits.softmax(1) * known
    one_hot = F.one_hot(y.clamp(min=0), logits.shape[1]).movedim(-1, 1) * known
    both, sums = ((t.transpose(0, 1).flatten(1).sum(1)[1:]) for t in (p * one_hot, p + one_hot))
    there = one_hot.transpose(0, 1).flatten(1).any(1)[1:]
    dice = (2 * both + EPS) / (sums + EPS)
    return cross_entropy + ((1 - dice) * there).sum() / there.sum().clamp(min=1)


class Supervised(Resumable):
    """A network trained on augmented labelled images; what predicts is the mean of its weights over time.

    network    images `(N, C, H, W)` in [0, 1] -> logits `(N, classes, H, W)`; becomes the mean. Its start is the
               student's
    flips      axes (y, x) along which images may be flipped
    lr, steps  AdamW's rate, which falls along half a cosine to 0 at the last step

    The mean decays by min(.99, 1 - 1/(t + 1)): its early part is the mean of all, where a fixed .999 would still be
    the random start after hundreds of steps (Tarvainen & Valpola, NeurIPS 2017, whose code ramps up alike).
    """

    STATE = ("network", "student", "optimiser", "step")

    def __init__(
        self, network: nn.Module, flips: tuple[bool, bool], steps: int, lr: float = 0.002, precision: Precision = "fp32"
    ) -> None:
        set_precision(network, precision)
        self.network, self.student = network, copy.deepcopy(network)
        self.flips, self.steps, self.lr, self.step = flips, steps, lr, 0
        self.optimiser = torch.optim.AdamW(self.student.parameters(), lr, weight_decay=1e-4)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Losses to be added up."""
        x, y = batch["images"], batch["labels"]
        x, y = move(x, y, fields(len(x), (x.shape[2], x.shape[3]), self.flips, x.device))
        return {"loss_sup": cross_entropy_dice(self.student(recolour(x)), y)}

    def training_step(self, batch: Batch) -> Losses:
        """One step on `batch["images"]` `(N, C, H, W)` in [0, 1] with `batch["labels"]` `(N, H, W)`."""
        self.student.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.lr * (1 + math.cos(math.pi * self.step / self.steps)) / 2
        losses = self.loss(batch)
        descend(self.optimiser, torch.stack([*losses.values()]).sum())
        self.step += 1
        self._average()
        return {name: loss.detach() for name, loss in losses.items()}

    @torch.no_grad()
    def _average(self) -> None:
        new = 1 - min(DECAY, 1 - 1 / (self.step + 1))
        torch._foreach_lerp_([*self.network.parameters()], [*self.student.parameters()], new)
        for mean, buffer in zip(self.network.buffers(), self.student.buffers(), strict=True):
            mean.copy_(torch.lerp(mean, buffer, new) if mean.is_floating_point() else buffer)

    def predict(self, images: Tensor, batch_size: int = 8) -> Tensor:
        """Class probabilities `(N, classes, H, W)` of images as they are."""
        return predict(self.network, images, batch_size)


class SemiSupervised(Supervised):
    """Unlabelled images too: what the student makes of a deformed one must be the mean's prediction, deformed.

    The consistency of Bortsova et al. 2019 with the mean's prediction for a target (Mean Teacher) and the squared
    difference for C: the Jaccard, cheapest for large areas, drowns the labels where they are few. Labelled and
    unlabelled images are batches of their own for the batch norms (`methods.norms`). lambda rises over the first fifth.

    batch["unlabelled"] `(M, C, H, W)`
    """

    LAMBDA = 10.0  # as of squared errors in Mean Teacher's order of magnitude: they are far below a cross-entropy

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        losses, x = super().loss(batch), batch["unlabelled"]
        u = fields(len(x), (x.shape[2], x.shape[3]), self.flips, x.device)
        target = warp(self.predict(x), u, order=1)
        with statistics_kept(self.student):
            p = self.student(recolour(warp(x, u, order=1, mode="border"))).softmax(1)
        lam = self.LAMBDA * min(1.0, self.step / (0.2 * self.steps))
        return losses | {"loss_cons": lam * mean_squared_error(target, p, inside(u)).mean()}
