"""How the networks learn: labelled images under strong augmentation, then unlabelled ones with them."""

import copy

import torch
from torch import Tensor, nn

from fewlabels.engine.training import cosine
from fewlabels.losses import cross_entropy_dice, mean_squared_error
from fewlabels.methods.norms import statistics_kept
from fewlabels.methods.resumable import Resumable, descend, predict
from fewlabels.precision import Precision, set_precision
from fewlabels.segment.augment import IGNORED, fields, move, recolour
from fewlabels.types import Batch, Losses
from fewlabels.warps import inside, warp

DECAY = 0.99


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
        self.flips, self.steps, self.step = flips, steps, 0
        self.optimiser = cosine(torch.optim.AdamW(self.student.parameters(), lr, weight_decay=1e-4), steps)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Losses to be added up."""
        x, y = batch["images"], batch["labels"]
        x, y = move(x, y, fields(len(x), (x.shape[2], x.shape[3]), self.flips, x.device))
        return {"loss_sup": cross_entropy_dice(self.student(recolour(x)), y, IGNORED)}

    def training_step(self, batch: Batch) -> Losses:
        """One step on `batch["images"]` `(N, C, H, W)` in [0, 1] with `batch["labels"]` `(N, H, W)`."""
        self.student.train()
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
