"""Training on labelled images of which a half is augmented, by fixed or by learned transformations.

The final training of every row of Table 1 in Chaitanya et al., IPMI 2019 (Eq. 2), and of the plain rows of Gao et al.,
IPMI 2021: a fresh network S on {X_L, Y_L} u {X_G, Y_G}, the generators fixed.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fewlabels.augment.classical import mixup
from fewlabels.methods.resumable import Resumable, descend, predict
from fewlabels.models.generators import Z
from fewlabels.types import Batch, DrawFields, Losses, MoveTargets, TaskLoss
from fewlabels.warps import compose, warp


class Augmentation:
    """A row of Table 1: labelled images `(B, C, *size)` and labels -> S's batch, half of it affine, half augmented.

    draw_affine   as of `TaskDriven`; all images are so transformed
    move_targets  the same
    deform        (affine images, z) -> fields `(N, D, *size)` in pixels: elastic ones, or v
    recolour      (images, z) -> images: contrast and brightness, or X + Delta I
    mix           mixtures of pairs of all these images, Beta(alpha, alpha), are the augmented half (Eq. 7)

    With `deform` and `recolour` a third of the augmented half is X_V, a third X_I, a third X_VI, of one z. Without
    either, and without `mix`, the batch is affine. No gradient.
    """

    def __init__(
        self, draw_affine: DrawFields, move_targets: MoveTargets,
        deform: Callable[[Tensor, Tensor], Tensor] | None = None,
        recolour: Callable[[Tensor, Tensor], Tensor] | None = None, mix: bool = False, alpha: float = 0.1,
    ) -> None:  # fmt: skip
        self.draw_affine, self.move_targets = draw_affine, move_targets
        self.deform, self.recolour, self.mix, self.alpha = deform, recolour, mix, alpha

    @torch.no_grad()
    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        u, half = self.draw_affine(len(x)), len(x) // 2
        z = torch.randn(len(x), Z, device=x.device)
        augmented = torch.arange(half, len(x), device=x.device)
        both = bool(self.deform and self.recolour)
        if self.deform:
            i = augmented[augmented % 3 != 1] if both else augmented
            u = u.index_copy(0, i, compose(u[i], self.deform(warp(x[i], u[i]), z[i])))
        x, y = warp(x, u), self.move_targets(y, u)
        if self.recolour:
            i = augmented[augmented % 3 != 0] if both else augmented
            x = x.index_copy(0, i, self.recolour(x[i], z[i]))
        if self.mix:
            mixed = mixup(x, y, len(x) - half, self.alpha)
            x, y = (torch.cat([t[:half], m]) for t, m in zip((x, y), mixed, strict=True))
        return x, y


class AugmentedTraining(Resumable):
    """S trained on what an `Augmentation` makes of labelled images: Eq. 2.

    network    S
    optimiser  over its parameters
    task_loss  L_S
    augment    (images, labels) -> (images, targets)
    """

    STATE = ("network", "optimiser")

    def __init__(
        self,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        task_loss: TaskLoss,
        augment: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    ) -> None:
        self.network, self.optimiser, self.task_loss, self.augment = network, optimiser, task_loss, augment

    def training_step(self, batch: Batch) -> Losses:
        """One step on `images` `(B, C, *size)` with `labels`."""
        self.network.train()
        x, targets = self.augment(batch["images"], batch["labels"])
        loss_task = self.task_loss(self.network(x), targets)
        descend(self.optimiser, loss_task)
        return {"loss_task": loss_task.detach()}

    def predict(self, images: Tensor, batch_size: int = 20) -> Tensor:
        """Class probabilities of images as they are."""
        return predict(self.network, images, batch_size)
