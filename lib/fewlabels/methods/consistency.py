"""Predictions must change with the transformation of the image (Bortsova et al., MICCAI 2019).

Two differently deformed versions of every image go through one network. On labelled images both predictions are
compared with the deformed label (S); on all images the first prediction, carried into the frame of the second, is
compared with the second (C):

    L(theta) = 1/(2|B_l|) sum_{B_l} [ S(t1(y), f(t1(x))) + S(t2(y), f(t2(x))) ]
             + lambda/|B| sum_B C( (t2 o t1^-1)(f(t1(x))), f(t2(x)) )                                          (Eq. 1)

S and C are the image-wise soft Jaccard over all classes, written here as losses (1 - score).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fewlabels.losses import mean_squared_error, soft_jaccard, symmetric_kl
from fewlabels.methods.norms import Norm, check_norm, of_both
from fewlabels.methods.resumable import Resumable, predict
from fewlabels.types import Batch, Device, DrawFields, Losses
from fewlabels.warps import align, gaussian_field, inside, transform_labels, warp
from fewlabels.warps.labels import check_order

DISTANCES = {
    "jaccard": lambda a, b, known=None: 1 - soft_jaccard(a, b, known),
    "mse": mean_squared_error,
    "kl": symmetric_kl,
}
REACHED = 0.5  # a pixel whose t2 o t1^-1 is known less precisely than this (pixels) takes no part in C


def draw_transforms(n: int, size: Sequence[int], alpha: float, sigma: float, device: Device | None = None) -> Tensor:
    """n transforms t ~ T as fields `(n, D, *size)`: the identity with probability 1/2, else elastic (Section 3)."""
    fields = gaussian_field(n, size, alpha, sigma, device=device)
    return fields * (torch.rand(n, *[1] * (1 + len(size)), device=device) < 0.5)


def reached(field: Tensor, error: Tensor) -> Tensor:
    """Which pixels an aligned field (`warps.align`, with its residual) finds: bool `(N, *size)`."""
    return inside(field) & (error <= REACHED)


class TransformationConsistency(Resumable):
    """The Siamese network of Figure 1 and its mini-batch objective, Eq. 1.

    network        images `(N, C, H, W)` -> logits `(N, classes, H, W)`; both branches are one forward pass
    optimiser      over the network's parameters
    draw           `draw(n)` -> n transforms as fields `(n, 2, H, W)` in pixels
    lam            lambda; 0 is the paper's baseline (L_cons is then computed for the record only)
    order          0 (the paper) or 1: how labels and predictions are interpolated; images always by cubic spline
    distance       C: "jaccard" (the paper), "mse" or "kl"; S is always the Jaccard
    gradient       of the order-0 layer: "adjoint" (gradients go back to the pixels whose values were copied, the
                   paper's Section 3) or "printed" (the formula of its Section 2: gradients warped by t1 o t2^-1)
    stop_gradient  the ablation the paper argues against: the first branch is a fixed target
    norm           "joint" (the paper): all images are one batch of the batch norms; or "apart", see `methods.norms`,
                   for images of your own, where joint may be right on the labelled images alone

    Raises ValueError for an order, distance, gradient or norm that is none of these.
    """

    STATE = ("network", "optimiser")

    def __init__(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, draw: DrawFields, lam: float = 1.0, order: int = 0,
        distance: str = "jaccard", gradient: str = "adjoint", stop_gradient: bool = False,
        norm: Norm = "joint",
    ) -> None:  # fmt: skip
        check_order(order)
        check_norm(norm)
        if distance not in DISTANCES:
            raise ValueError(f"distance: expected one of {', '.join(DISTANCES)}, found {distance!r}")
        if gradient not in ("adjoint", "printed") or (gradient, order) == ("printed", 1):
            raise ValueError(
                f"gradient: expected 'adjoint', or 'printed' with order 0, found {gradient!r}, order {order}"
            )
        self.network, self.optimiser, self.draw = network, optimiser, draw
        self.lam, self.order, self.C = lam, order, DISTANCES[distance]
        self.gradient, self.stop_gradient, self.norm = gradient, stop_gradient, norm

    def losses(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """L_sup, L_cons and the share of pixels left out of L_cons; the first len(y) of the images x have labels y."""
        labelled, S = len(y), DISTANCES["jaccard"]
        u1, u2 = self.draw(len(x)), self.draw(len(x))
        x1, x2 = (warp(x, u, order=3, mode="border") for u in (u1, u2))
        z1, z2 = of_both(self.network, x1, x2, labelled, self.norm)
        p1, p2 = z1.softmax(1), z2.softmax(1)

        y1, y2 = (transform_labels(y, u[:labelled], p1.shape[1], self.order) for u in (u1, u2))
        loss_sup = (S(y1, p1[:labelled]) + S(y2, p2[:labelled])).sum() / max(1, 2 * labelled)

        with torch.set_grad_enabled(self.lam > 0 and torch.is_grad_enabled()):
            t2_after_t1_inverse, error = align(u1, u2, return_residual=True)
            known = reached(t2_after_t1_inverse, error)
            p1_in_frame_2 = self._carry(p1.detach() if self.stop_gradient else p1, t2_after_t1_inverse, u1, u2)
            loss_cons = self.C(p1_in_frame_2, p2, known).mean()
        return loss_sup, loss_cons, 1 - known.float().mean()

    def _carry(self, p1: Tensor, t2_after_t1_inverse: Tensor, u1: Tensor, u2: Tensor) -> Tensor:
        """The paper's differentiable transformation layer."""
        if self.gradient == "printed":
            return _PrintedGradient.apply(p1, t2_after_t1_inverse, align(u2, u1))
        return warp(p1, t2_after_t1_inverse, self.order)

    def training_step(self, batch: Batch) -> Losses:
        """One step on `batch["images"]` `(B, C, H, W)`, the first of which have `batch["labels"]` `(B_l, H, W)`."""
        self.network.train()
        loss_sup, loss_cons, excluded = self.losses(batch["images"], batch["labels"])
        self.optimiser.zero_grad()
        (loss_sup + self.lam * loss_cons).backward()
        self.optimiser.step()
        return {"loss_sup": loss_sup.detach(), "loss_cons": loss_cons.detach(), "excluded": excluded}

    def predict(self, images: Tensor, batch_size: int = 8) -> Tensor:
        """Class probabilities `(N, classes, H, W)` of undeformed images."""
        return predict(self.network, images, batch_size)


class _PrintedGradient(torch.autograd.Function):
    """Order-0 warp whose backward pass warps the gradient by the inverse field, as the formula of Section 2 says."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, forward_field: Tensor, backward_field: Tensor) -> Tensor:
        ctx.save_for_backward(backward_field)
        return warp(p, forward_field, order=0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return warp(grad, ctx.saved_tensors[0], order=0), None, None
