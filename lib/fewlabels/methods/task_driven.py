"""Augmentation that is learned so as to help the task (Chaitanya et al., IPMI 2019, Section 2).

A generator turns a labelled image and a random vector into a field: G_V into a displacement v, G_I into an added
intensity. `TaskDriven` learns one of them together with a network S for the task:

    min over w_S, w_G of  L_S({X_L, Y_L} u {X_G, Y_G}) + L_reg({X_L} u {X_UL})                                (Eq. 4)
    L_reg = lambda_adv E[log(1 - D(X_G))] + lambda_big L_big,   L_big = -|v|_1 or -|Delta I|_1               (Eq. 5)
    L_D = -E[log D(x)] - E[log(1 - D(X_G))],   x of X_L and X_UL                                              (Eq. 6)

`augmented_training.AugmentedTraining` then trains a fresh S on {X_L, Y_L} u {X_G, Y_G}, the generators fixed (Eq. 2).

Norms are means over pixels and log(1 - D) is the non-saturating -log D, as in the released code. Against it, and as in
the paper, p(x) is of labelled and unlabelled images, half of S's batch is generated, and the task's loss acts on G:
there, S is fed with images generated in an earlier call, so that the first term of Eq. 4 never has a gradient in w_G.

Two more differences from the release, which the paper leaves open. Outside an image is 0 for affine and learned fields
alike, as both are one resampling here (there: 0 for affine maps, the nearest border pixel for v). Labels are one-hot
maps moved at order 1, by affine maps too (there: label maps moved at order 0 by affine maps, one-hot ones at order 1
by v).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.methods.resumable import Resumable, descend, predict
from fewlabels.models.generators import Z
from fewlabels.types import Batch, DrawFields, Losses, MoveTargets, TaskLoss
from fewlabels.warps import compose, warp


class TaskDriven(Resumable):
    """S, G and D of Figure 1 and the training that ends in a generator (Section 2, "Optimization Sequence").

    S              images -> whatever `task_loss` takes
    G              (images, z `(N, 100)`) -> v `(N, D, *size)` or Delta I `(N, C, *size)`: `models.generators`
    D              images -> logits `(N,)` of being real; where lam_adv is 0 unused, and may be None
    kind           what G makes: "deformation" or "intensity"
    task_loss      L_S: (output of S, targets) -> scalar; any task, also classification
    draw_affine    n -> n fields `(n, D, *size)`: the affine augmentation of every image, real ones for D included
    move_targets   (labels, fields) -> targets of the warped images. Masks `(N, *size)`: `partial(transform_labels,
                   classes=classes, order=1)` of `warps`, soft one-hot maps `(N, classes, *size)` with a
                   gradient in the field (order 0: none); classification: `lambda y, u: y`
    lam_adv, lam_big  0 and 0: without the regulariser
    unit           pixels of this grid to one of v's: size / 224 has v in pixels of the paper's grid
    warm_up        first steps, in which S alone learns, from affine images
    task_gradient  False: as in the release, L_S has no gradient in w_G

    G sees the affine image; the generated one is the original warped once, by both fields. Raises ValueError for
    another kind, and without D where lam_adv is not 0.
    """

    STATE = ("network", "optimiser", "optimiser_D", "step")

    def __init__(
        self, S: nn.Module, G: nn.Module, D: nn.Module | None, kind: str, task_loss: TaskLoss, draw_affine: DrawFields,
        move_targets: MoveTargets, lam_adv: float = 1.0, lam_big: float = 0.001, unit: float = 1.0, warm_up: int = 0,
        task_gradient: bool = True, learning_rate: float = 0.001,
    ) -> None:  # fmt: skip
        if kind not in ("deformation", "intensity"):
            raise ValueError(f"kind: expected deformation or intensity, found {kind!r}")
        if D is None and lam_adv:
            raise ValueError("D: expected a discriminator where lam_adv is not 0, found None")
        self.S, self.G, self.D = S, G, D
        self.network = nn.ModuleDict({"S": S, "G": G} | ({"D": D} if D is not None else {}))
        self.kind, self.task_loss, self.draw_affine, self.move_targets = kind, task_loss, draw_affine, move_targets
        self.lam_adv, self.lam_big, self.unit = lam_adv, lam_big, unit
        self.warm_up, self.task_gradient, self.step = warm_up, task_gradient, 0
        self.optimiser = torch.optim.Adam([*S.parameters(), *G.parameters()], lr=learning_rate)
        self.optimiser_D = torch.optim.Adam(D.parameters(), lr=learning_rate) if D is not None else None

    @property
    def warming_up(self) -> bool:
        return self.step <= self.warm_up

    def draw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is random in the augmentation of images x: affine fields a and vectors z `(N, 100)`."""
        return self.draw_affine(len(x)), torch.randn(len(x), Z, device=x.device)

    def generate(self, x: Tensor, y: Tensor, a: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """X_G, Y_G and v or Delta I of images x with labels y, under affine fields a, from vectors z."""
        if self.kind == "deformation":
            v = self.G(warp(x, a), z)
            u = compose(a, self.unit * v)
            return warp(x, u), self.move_targets(y, u), v
        x = warp(x, a)
        delta = self.G(x, z)
        return x + delta, self.move_targets(y, a), delta

    def losses(
        self, x: Tensor, y: Tensor, real: Tensor | None, a: Tensor, z: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """L_S, the adversarial term, L_big of Eq. 4 and 5, and X_G; `real` are images as D should see them."""
        half = len(x) // 2
        x_g, y_g, field = self.generate(x, y, a, z)
        x_s, y_s = (x_g[half:], y_g[half:]) if self.task_gradient else (x_g[half:].detach(), y_g[half:].detach())
        y_a = self.move_targets(y[:half], a[:half])
        loss_task = self.task_loss(self.S(torch.cat([warp(x[:half], a[:half]), x_s])), torch.cat([y_a, y_s]))
        loss_adv = x.new_zeros(())
        if self.lam_adv:
            assert self.D is not None
            assert real is not None
            loss_adv = F.softplus(-self.D(torch.cat([x_g, real]))[: len(x)]).mean()  # -log D
        return loss_task, loss_adv, -field.abs().mean(), x_g.detach()

    def loss_D(self, x_g: Tensor, real: Tensor) -> Tensor:
        """Eq. 6; generated and real images are one batch of D's norms."""
        assert self.D is not None
        logits = self.D(torch.cat([x_g, real]))
        return F.softplus(logits[: len(x_g)]).mean() + F.softplus(-logits[len(x_g) :]).mean()

    def training_step(self, batch: Batch) -> Losses:
        """One step on `images` `(B, C, *size)` with `labels`, and as many images `real` of p(x), without D none."""
        self.network.train()
        self.step += 1
        x, y = batch["images"], batch["labels"]
        if self.warming_up:
            a = self.draw_affine(len(x))
            loss_task = self.task_loss(self.S(warp(x, a)), self.move_targets(y, a))
            descend(self.optimiser, loss_task)
            return {"loss_task": loss_task.detach()}
        real = warp(batch["real"], self.draw_affine(len(batch["real"]))) if self.D is not None else None
        loss_task, loss_adv, loss_big, x_g = self.losses(x, y, real, *self.draw(x))
        descend(self.optimiser, loss_task + self.lam_adv * loss_adv + self.lam_big * loss_big)
        losses = {"loss_task": loss_task.detach(), "loss_adv": loss_adv.detach(), "loss_big": loss_big.detach()}
        if self.lam_adv:
            assert real is not None
            assert self.optimiser_D is not None
            loss_D = self.loss_D(x_g, real)
            descend(self.optimiser_D, loss_D)
            losses["loss_D"] = loss_D.detach()
        return losses

    def predict(self, images: Tensor, batch_size: int = 20) -> Tensor:
        """Class probabilities of images as they are."""
        return predict(self.S, images, batch_size)
