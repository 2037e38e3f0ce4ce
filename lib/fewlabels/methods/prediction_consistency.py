"""The prediction for an image must not change when the image is transformed.

Malfliet & Bakker, TU Delft 2021: the idea of Bortsova et al. 2019 (`methods.consistency`) for a classifier, whose
prediction has no place that would have to be carried along: x and t(x) are predicted alike.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.losses import kl_divergence
from fewlabels.methods.norms import Norm, check_norm, of_both
from fewlabels.methods.resumable import Resumable
from fewlabels.types import Batch, Losses

KL_CLIP = 1e-7  # Keras' epsilon
LABEL_ZERO = KL_CLIP  # in place of a one-hot label's zeros, whose logarithm is -inf; in every form of the loss


class PredictionConsistency(Resumable):
    """The classifier of Malfliet & Bakker 2021 and its objective on a batch B of which B_l has labels:

        L(theta) = L_S(theta) + lambda L_C(theta)                                                              (Eq. 1)
        L_S = mean over B_l and t(B_l) of KL(y|f(x)),    L_C = mean over B of [KL(f(x)|f(t(x))) + KL(f(t(x))|f(x))] / 2

    network    images `(N, C, H, W)` -> logits `(N, classes)`; x and t(x) are one forward pass
    optimiser  over the network's parameters
    transform  t: a batch of images -> as many, each transformed at random
    lam        lambda; 0 is the report's supervised step (L_C is then computed for the record only)
    norm       "joint" (the report): images with and without labels are one batch of the norms; or "apart", see
               `methods.norms`

    What the report's code does otherwise, each a switch of its own:
    legacy_inference_mode    the network is trained as it predicts: no dropout, norms that never see a batch
    kl_clip                  probabilities below it are clipped before the logarithm (Keras: 1e-7), see `kl_divergence`
    symmetric_supervised_kl  L_S is symmetric too, as the report's text (not its code) says

    Raises ValueError for another `norm`.
    """

    STATE = ("network", "optimiser")

    def __init__(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, transform: Callable[[Tensor], Tensor],
        lam: float = 1.0, norm: Norm = "joint", legacy_inference_mode: bool = False, kl_clip: float = 0.0,
        symmetric_supervised_kl: bool = False,
    ) -> None:  # fmt: skip
        check_norm(norm)
        self.network, self.optimiser, self.transform, self.lam = network, optimiser, transform, lam
        self.norm, self.legacy_inference_mode, self.kl_clip = norm, legacy_inference_mode, kl_clip
        self.symmetric_supervised_kl = symmetric_supervised_kl

    def log_probabilities(self, images: Tensor) -> Tensor:
        return self.network(images).log_softmax(1)

    def of_both(self, x: Tensor, tx: Tensor, labelled: int) -> tuple[Tensor, Tensor]:
        """Log-probabilities of x and of t(x), of which the first `labelled` images have labels."""
        z1, z2 = of_both(self.network, x, tx, labelled, self.norm)
        return z1.log_softmax(1), z2.log_softmax(1)

    def losses(self, log_p1: Tensor, log_p2: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """L_S and L_C of the log-probabilities `(B, classes)` of x and of t(x), the first len(y) of them labelled."""
        log_p = torch.cat([log_p1[: len(y)], log_p2[: len(y)]])
        log_y = F.one_hot(torch.cat([y, y]), log_p.shape[1]).clamp(min=LABEL_ZERO).log()
        S = kl_divergence(log_y, log_p, self.kl_clip)
        if self.symmetric_supervised_kl:
            S = (S + kl_divergence(log_p, log_y, self.kl_clip)) / 2
        with torch.set_grad_enabled(self.lam > 0 and torch.is_grad_enabled()):
            C = kl_divergence(log_p1, log_p2, self.kl_clip) + kl_divergence(log_p2, log_p1, self.kl_clip)
        return S.sum() / max(1, len(S)), C.mean() / 2  # a batch may have no label

    def training_step(self, batch: Batch) -> Losses:
        """One step on `batch["images"]` `(B, C, H, W)`, the first of which have `batch["labels"]` `(B_l,)`."""
        self.network.train(not self.legacy_inference_mode)
        x, y = batch["images"], batch["labels"]
        log_p1, log_p2 = self.of_both(x, self.transform(x), len(y))
        loss_sup, loss_cons = self.losses(log_p1, log_p2, y)
        self.optimiser.zero_grad()
        (loss_sup + self.lam * loss_cons).backward()
        self.optimiser.step()
        right = (log_p1[: len(y)].argmax(1) == y).sum() + (log_p2[: len(y)].argmax(1) == y).sum()
        accuracy = 50 * right / max(1, len(y))  # in %, over x and t(x), as the report's training curves
        return {"loss_sup": loss_sup.detach(), "loss_cons": loss_cons.detach(), "accuracy": accuracy}

    @torch.no_grad()
    def evaluate(self, x: Tensor, tx: Tensor, y: Tensor, batch_size: int = 500) -> tuple[dict[str, float], Tensor]:
        """Scores (shares in %) on labelled images x and their transforms tx, and the classes predicted for x `(N,)`."""
        self.network.eval()
        log_p1, log_p2 = (torch.cat([self.log_probabilities(p) for p in t.split(batch_size)]) for t in (x, tx))
        loss_sup, loss_cons = self.losses(log_p1, log_p2, y)
        c1, c2 = log_p1.argmax(1), log_p2.argmax(1)
        shares = {"accuracy_clean": c1 == y, "accuracy_transformed": c2 == y, "consistency": c1 == c2}
        scores = {"loss_sup": float(loss_sup), "loss_cons": float(loss_cons)}
        return scores | {name: 100 * float(hit.double().mean()) for name, hit in shares.items()}, c1

    @torch.no_grad()
    def predict(self, images: Tensor, batch_size: int = 500) -> Tensor:
        """Class probabilities `(N, classes)` of images as they are."""
        self.network.eval()
        return torch.cat([self.log_probabilities(part).exp() for part in images.split(batch_size)])
