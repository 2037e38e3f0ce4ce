"""Segmentations of images without labels must look like those of images with labels, to a network that learns to tell.

The rows "Adv Tr SL" and "Adv Tr SSL" of Table 1 in Chaitanya et al., IPMI 2019 (Section 4, "Adversarial Training"): the
method of Zhang et al., "Deep adversarial networks for biomedical image segmentation utilizing unannotated images",
MICCAI 2017, in a supervised (SL) and a semi-supervised (SSL) setting. S segments (their segmentation network); D looks
at pairs of a segmentation and its image (their evaluation network) and tells reference (1) from candidate (0):

    S minimises   L_S({X_L, Y_L}) + lambda(t) CE(D(candidate), 1)
    D minimises   CE(D(reference), 1) and CE(D(candidate), 0), their mean over all pairs
    lambda(t) = weight exp(-5 (1 - t/T)^2) for t < T, then weight

         reference                        candidate
    SSL  (softmax S(X_L), X_L)            (softmax S(X_UL), X_UL)       as in Zhang et al.
    SL   (Y_L, X_L)                       (softmax S(X_L), X_L)

What is our choice, as the 2019 paper has one sentence and no code for these rows:
- D, its loss, lambda(t) and the order of a step are those of the "DAN" of SSL4MIS (HiLab-git/SSL4MIS, code/networks/
  discriminator.py and code/train_adversarial_network_2D.py), the implementation in common use. It has SSL only.
- SL tells labels from predictions, as Luc et al., 2016 (arXiv:1611.08408) do.
- The reference of SSL is S's prediction for X_L, as in Zhang et al. Section 1 of the 2019 paper describes their method
  otherwise: as matched to "the true labelled images-label pairs".
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.methods.resumable import Resumable, predict
from fewlabels.types import Batch, Losses, TaskLoss


class PairDiscriminator(nn.Module):
    """D: class probabilities `(N, classes, H, W)` and their images `(N, in_channels, H, W)` -> logits `(N, 2)`.

    H and W are at least 16, and free. The layers are those of the 2-D discriminator of SSL4MIS, in PyTorch's
    initialisation: 4 x 4 convolutions of stride 2, one for the map and one for the image, which are added (no
    activation there), then three more, each with a leaky ReLU, the first two also with a dropout of whole channels.
    What follows is our choice: the mean over all positions, where SSL4MIS averages windows of 7 x 7 and has a last
    layer for 2 x 2 of them, which 224 to 335 pixels a side give and no others.

    `width=64`, four classes and one channel: 2,759,682 parameters.
    """

    def __init__(self, in_channels: int = 1, classes: int = 4, width: int = 64) -> None:
        super().__init__()

        def halve(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)

        self.from_map, self.from_image = halve(classes, width), halve(in_channels, width)
        self.judge = nn.Sequential(
            halve(width, 2 * width), nn.LeakyReLU(0.2), nn.Dropout2d(0.5),
            halve(2 * width, 4 * width), nn.LeakyReLU(0.2), nn.Dropout2d(0.5),
            halve(4 * width, 8 * width), nn.LeakyReLU(0.2),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, 2),
        )  # fmt: skip

    def forward(self, probabilities: Tensor, images: Tensor) -> Tensor:
        return self.judge(self.from_map(probabilities) + self.from_image(images))


class AdversarialSegmentation(Resumable):
    """S and D, trained in turn.

    network                  S: images `(N, C, H, W)` -> logits `(N, classes, H, W)`
    optimiser                over S's parameters
    discriminator            D: probabilities and images -> logits `(N, 2)`, see `PairDiscriminator`
    discriminator_optimiser  over D's parameters; in SSL4MIS Adam with 1e-4 and betas (0.9, 0.99)
    task_loss                L_S: logits and soft targets, both `(B, classes, H, W)` -> a scalar
    semi_supervised          SSL or SL
    weight, ramp_up          lambda(t) grows to `weight` in T = `ramp_up` steps. In SSL4MIS 0.1 and the whole training
                             (30,000 steps; its t grows by 150 every 150 steps, ours with each)
    """

    STATE = ("network", "optimiser", "discriminator", "discriminator_optimiser", "step")

    def __init__(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, discriminator: nn.Module,
        discriminator_optimiser: torch.optim.Optimizer, task_loss: TaskLoss, semi_supervised: bool, *, ramp_up: int,
        weight: float = 0.1,
    ) -> None:  # fmt: skip
        self.network, self.optimiser = network, optimiser
        self.discriminator, self.discriminator_optimiser = discriminator, discriminator_optimiser
        self.task_loss, self.semi_supervised = task_loss, semi_supervised
        self.weight, self.ramp_up = weight, ramp_up
        self.step = 0

    def lam(self) -> float:
        """lambda(t) of the next step, t steps after the first."""
        left = max(0.0, 1 - self.step / self.ramp_up) if self.ramp_up else 0.0
        return self.weight * math.exp(-5 * left**2)

    def training_step(self, batch: Batch) -> Losses:
        """One step of S, then one of D, on the same images.

        `batch["images"]` `(B, C, H, W)` with `batch["targets"]` `(B, classes, H, W)`, one-hot or soft; for SSL also
        `batch["unlabelled"]` `(B_u, C, H, W)`, which SL does not look at.
        """
        images = torch.cat([batch["images"], batch["unlabelled"]]) if self.semi_supervised else batch["images"]
        loss_sup, loss_adv = self._step_of_network(images, batch["targets"])
        loss_disc = self._step_of_discriminator(images, batch["targets"])
        self.step += 1
        return {"loss_sup": loss_sup, "loss_adv": loss_adv, "loss_disc": loss_disc}

    def _step_of_network(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """As in SSL4MIS: all images are one forward pass, and one batch for S's norms; D without its dropout."""
        self.network.train()
        self.discriminator.eval()
        logits, labelled = self.network(images), len(targets)
        loss_sup = self.task_loss(logits[:labelled], targets)
        candidates = slice(labelled if self.semi_supervised else 0, None)
        loss_adv = self._cross_entropy(logits.softmax(1)[candidates], images[candidates], references=len(images))
        self.optimiser.zero_grad()
        (loss_sup + self.lam() * loss_adv).backward(inputs=list(self.network.parameters()))  # none for D
        self.optimiser.step()
        return loss_sup.detach(), loss_adv.detach()

    def _step_of_discriminator(self, images: Tensor, targets: Tensor) -> Tensor:
        """As in SSL4MIS: D with its dropout; S predicts anew, after its step and in evaluation mode."""
        self.network.eval()
        self.discriminator.train()
        with torch.no_grad():
            probabilities = self.network(images).softmax(1)
        if not self.semi_supervised:
            probabilities, images = torch.cat([targets, probabilities]), torch.cat([images, images])
        loss = self._cross_entropy(probabilities, images, references=len(targets))
        self.discriminator_optimiser.zero_grad()
        loss.backward()
        self.discriminator_optimiser.step()
        return loss.detach()

    def _cross_entropy(self, probabilities: Tensor, images: Tensor, references: int) -> Tensor:
        """CE of D's logits, a mean over pairs; of the first `references` pairs D should say 1, of the others 0."""
        truth = torch.arange(len(images), device=images.device) < references
        return F.cross_entropy(self.discriminator(probabilities, images), truth.long())

    def predict(self, images: Tensor, batch_size: int = 8) -> Tensor:
        """Class probabilities `(N, classes, H, W)`."""
        return predict(self.network, images, batch_size)
