"""How well generated images can be told from real ones: by a discriminator that is trained for nothing else."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn


def realism_auc(
    D: nn.Module, optimiser: torch.optim.Optimizer, real: Callable[[], Tensor], fake: Callable[[], Tensor],
    test_real: Tensor, test_fake: Tensor, steps: int,
) -> float:  # fmt: skip
    """Area under the ROC curve of D on images it has not seen: 1 tells all apart, 0.5 none.

    D          images -> logits `(N,)` of being real, with fresh weights; `optimiser` over its parameters
    real, fake  () -> a batch of images to learn from, anew in each of `steps` steps
    test_real, test_fake  images to judge, as many of each
    """
    D.train()
    for _ in range(steps):
        x_r, x_g = real(), fake()
        logits = D(torch.cat([x_g, x_r]))
        loss = F.softplus(logits[: len(x_g)]).mean() + F.softplus(-logits[len(x_g) :]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    D.eval()
    with torch.no_grad():
        logits = torch.cat([D(test_fake), D(test_real)])
    truth = [0] * len(test_fake) + [1] * len(test_real)
    return float(roc_auc_score(truth, logits.cpu()))
