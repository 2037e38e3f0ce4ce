"""Predictions must not change under transformations, or change with them.

Bortsova et al., MICCAI 2019 (`TransformationConsistency`): learn to segment alike what is deformed differently.
Two differently deformed versions of every image go through one network. On labelled images both predictions are
compared with the deformed label (S); on all images the first prediction, carried into the frame of the second, is
compared with the second (C):

    L(theta) = 1/(2|B_l|) sum_{B_l} [ S(t1(y), f(t1(x))) + S(t2(y), f(t2(x))) ]
             + lambda/|B| sum_B C( (t2 o t1^-1)(f(t1(x))), f(t2(x)) )                                          (Eq. 1)

S and C are the image-wise soft Jaccard over all classes, written here as losses (1 - score).

Malfliet & Bakker, TU Delft 2021 (`PredictionConsistency`): the same idea for a classifier, which has nothing to carry:
x and t(x) are predicted alike.
"""

import torch
import torch.nn.functional as F

from fewlabels.losses import kl_divergence, mean_squared_error, soft_jaccard, symmetric_kl
from fewlabels.methods.resumable import Resumable, predict
from fewlabels.warps import align, gaussian_field, inside, warp

DISTANCES = {
    "jaccard": lambda a, b, known=None: 1 - soft_jaccard(a, b, known),
    "mse": mean_squared_error,
    "kl": symmetric_kl,
}
KL_CLIP = LABEL_ZERO = 1e-7  # Keras' epsilon; a label's zeros need one in every form: log 0 is not a number to learn by
REACHED = 0.5  # a pixel whose t2 o t1^-1 is known less precisely than this (pixels) takes no part in C


def draw_transforms(n, size, alpha, sigma, device=None):
    """n transforms t ~ T as fields `(n, D, *size)`: the identity with probability 1/2, else elastic (Section 3)."""
    fields = gaussian_field(n, size, alpha, sigma, device=device)
    return fields * (torch.rand(n, *[1] * (1 + len(size)), device=device) < 0.5)


def transform_labels(y, u, classes, order=0):
    """t_out of label maps int64 `(N, *size)` as one-hot (order 0) or soft (order 1) maps `(N, classes, *size)`.

    What comes from outside the image is background. Raises ValueError for another order.
    """
    _check_order(order)
    if order == 0:
        return F.one_hot(warp(y[:, None], u, order=0)[:, 0], classes).movedim(-1, 1).float()
    soft = warp(F.one_hot(y, classes).movedim(-1, 1).float(), u, order)
    background = 1 - soft[:, 1:].sum(1, keepdim=True)
    return torch.cat([background, soft[:, 1:]], dim=1)


def _check_order(order):
    if order not in (0, 1):  # a cubic leaves the range of 0 to 1
        raise ValueError(f"order: expected 0 or 1, found {order}")


def reached(field, error):
    """Which pixels an aligned field (`warps.align`, with its residual) finds: bool `(N, *size)`."""
    return inside(field) & (error <= REACHED)


class TransformationConsistency(Resumable):
    """The Siamese network of Figure 1 and its mini-batch objective, Eq. 1.

    network        images `(N, C, H, W)` -> logits `(N, classes, H, W)`; both branches are one forward pass, and one
                   batch for its batch norms
    optimiser      over the network's parameters
    draw           `draw(n)` -> n transforms as fields `(n, 2, H, W)` in pixels
    lam            lambda; 0 is the paper's baseline (L_cons is then computed for the record only)
    order          0 (the paper) or 1: how labels and predictions are interpolated; images always by cubic spline
    distance       C: "jaccard" (the paper), "mse" or "kl"; S is always the Jaccard
    gradient       of the order-0 layer: "adjoint" (gradients go back to the pixels whose values were copied, the
                   paper's Section 3) or "printed" (the formula of its Section 2: gradients warped by t1 o t2^-1)
    stop_gradient  the ablation the paper argues against: the first branch is a fixed target

    Raises ValueError for an order, distance or gradient that is none of these.
    """

    STATE = ("network", "optimiser")

    def __init__(
        self, network, optimiser, draw, lam=1.0, order=0, distance="jaccard", gradient="adjoint", stop_gradient=False
    ):
        _check_order(order)
        if distance not in DISTANCES:
            raise ValueError(f"distance: expected one of {', '.join(DISTANCES)}, found {distance!r}")
        if gradient not in ("adjoint", "printed") or (gradient, order) == ("printed", 1):
            raise ValueError(
                f"gradient: expected 'adjoint', or 'printed' with order 0, found {gradient!r}, order {order}"
            )
        self.network, self.optimiser, self.draw = network, optimiser, draw
        self.lam, self.order, self.C = lam, order, DISTANCES[distance]
        self.gradient, self.stop_gradient = gradient, stop_gradient

    def losses(self, x, y):
        """L_sup, L_cons and the share of pixels left out of L_cons; the first len(y) of the images x have labels y."""
        labelled, S = len(y), DISTANCES["jaccard"]
        u1, u2 = self.draw(len(x)), self.draw(len(x))
        x1, x2 = (warp(x, u, order=3, mode="border") for u in (u1, u2))
        p1, p2 = self.network(torch.cat([x1, x2])).softmax(1).chunk(2)

        y1, y2 = (transform_labels(y, u[:labelled], p1.shape[1], self.order) for u in (u1, u2))
        loss_sup = (S(y1, p1[:labelled]) + S(y2, p2[:labelled])).sum() / max(1, 2 * labelled)

        with torch.set_grad_enabled(self.lam > 0 and torch.is_grad_enabled()):
            t2_after_t1_inverse, error = align(u1, u2, return_residual=True)
            known = reached(t2_after_t1_inverse, error)
            p1_in_frame_2 = self._carry(p1.detach() if self.stop_gradient else p1, t2_after_t1_inverse, u1, u2)
            loss_cons = self.C(p1_in_frame_2, p2, known).mean()
        return loss_sup, loss_cons, 1 - known.float().mean()

    def _carry(self, p1, t2_after_t1_inverse, u1, u2):
        """The paper's differentiable transformation layer."""
        if self.gradient == "printed":
            return _PrintedGradient.apply(p1, t2_after_t1_inverse, align(u2, u1))
        return warp(p1, t2_after_t1_inverse, self.order)

    def training_step(self, batch):
        """One step on `batch["images"]` `(B, C, H, W)`, the first of which have `batch["labels"]` `(B_l, H, W)`."""
        self.network.train()
        loss_sup, loss_cons, excluded = self.losses(batch["images"], batch["labels"])
        self.optimiser.zero_grad()
        (loss_sup + self.lam * loss_cons).backward()
        self.optimiser.step()
        return {"loss_sup": loss_sup.detach(), "loss_cons": loss_cons.detach(), "excluded": excluded}

    def predict(self, images, batch_size=8):
        """Class probabilities `(N, classes, H, W)` of undeformed images."""
        return predict(self.network, images, batch_size)


class _PrintedGradient(torch.autograd.Function):
    """Order-0 warp whose backward pass warps the gradient by the inverse field, as the formula of Section 2 says."""

    @staticmethod
    def forward(ctx, p, forward_field, backward_field):
        ctx.save_for_backward(backward_field)
        return warp(p, forward_field, order=0)

    @staticmethod
    def backward(ctx, grad):
        return warp(grad, ctx.saved_tensors[0], order=0), None, None


class PredictionConsistency(Resumable):
    """The classifier of Malfliet & Bakker 2021 and its objective on a batch B of which B_l has labels:

        L(theta) = L_S(theta) + lambda L_C(theta)                                                              (Eq. 1)
        L_S = mean over B_l and t(B_l) of KL(y|f(x)),    L_C = mean over B of [KL(f(x)|f(t(x))) + KL(f(t(x))|f(x))] / 2

    network    images `(N, C, H, W)` -> logits `(N, classes)`; x and t(x) are one forward pass
    optimiser  over the network's parameters
    transform  t: a batch of images -> as many, each transformed at random
    lam        lambda; 0 is the report's supervised step (L_C is then computed for the record only)

    What the report's code does otherwise, each a switch of its own:
    legacy_inference_mode    the network is trained as it predicts: no dropout, norms that never see a batch
    kl_clip                  probabilities below it are clipped before the logarithm (Keras: 1e-7), see `kl_divergence`
    symmetric_supervised_kl  L_S is symmetric too, as the report's text (not its code) says
    """

    STATE = ("network", "optimiser")

    def __init__(
        self, network, optimiser, transform, lam=1.0,
        legacy_inference_mode=False, kl_clip=0.0, symmetric_supervised_kl=False,
    ):  # fmt: skip
        self.network, self.optimiser, self.transform, self.lam = network, optimiser, transform, lam
        self.legacy_inference_mode, self.kl_clip = legacy_inference_mode, kl_clip
        self.symmetric_supervised_kl = symmetric_supervised_kl

    def log_probabilities(self, images):
        return self.network(images).log_softmax(1)

    def losses(self, log_p1, log_p2, y):
        """L_S and L_C of the log-probabilities `(B, classes)` of x and of t(x), the first len(y) of them labelled."""
        log_p = torch.cat([log_p1[: len(y)], log_p2[: len(y)]])
        log_y = F.one_hot(torch.cat([y, y]), log_p.shape[1]).clamp(min=LABEL_ZERO).log()
        S = kl_divergence(log_y, log_p, self.kl_clip)
        if self.symmetric_supervised_kl:
            S = (S + kl_divergence(log_p, log_y, self.kl_clip)) / 2
        with torch.set_grad_enabled(self.lam > 0 and torch.is_grad_enabled()):
            C = kl_divergence(log_p1, log_p2, self.kl_clip) + kl_divergence(log_p2, log_p1, self.kl_clip)
        return S.sum() / max(1, len(S)), C.mean() / 2  # a batch may have no label

    def training_step(self, batch):
        """One step on `batch["images"]` `(B, C, H, W)`, the first of which have `batch["labels"]` `(B_l,)`."""
        self.network.train(not self.legacy_inference_mode)
        x, y = batch["images"], batch["labels"]
        log_p1, log_p2 = self.log_probabilities(torch.cat([x, self.transform(x)])).chunk(2)
        loss_sup, loss_cons = self.losses(log_p1, log_p2, y)
        self.optimiser.zero_grad()
        (loss_sup + self.lam * loss_cons).backward()
        self.optimiser.step()
        right = (log_p1[: len(y)].argmax(1) == y).sum() + (log_p2[: len(y)].argmax(1) == y).sum()
        accuracy = 50 * right / max(1, len(y))  # in %, over x and t(x), as the report's training curves
        return {"loss_sup": loss_sup.detach(), "loss_cons": loss_cons.detach(), "accuracy": accuracy}

    @torch.no_grad()
    def evaluate(self, x, tx, y, batch_size=500):
        """Scores (shares in %) on labelled images x and their transforms tx, and the classes predicted for x `(N,)`."""
        self.network.eval()
        log_p1, log_p2 = (torch.cat([self.log_probabilities(p) for p in t.split(batch_size)]) for t in (x, tx))
        loss_sup, loss_cons = self.losses(log_p1, log_p2, y)
        c1, c2 = log_p1.argmax(1), log_p2.argmax(1)
        shares = {"accuracy_clean": c1 == y, "accuracy_transformed": c2 == y, "consistency": c1 == c2}
        scores = {"loss_sup": float(loss_sup), "loss_cons": float(loss_cons)}
        return scores | {name: 100 * float(hit.double().mean()) for name, hit in shares.items()}, c1

    @torch.no_grad()
    def predict(self, images, batch_size=500):
        """Class probabilities `(N, classes)` of images as they are."""
        self.network.eval()
        return torch.cat([self.log_probabilities(part).exp() for part in images.split(batch_size)])
