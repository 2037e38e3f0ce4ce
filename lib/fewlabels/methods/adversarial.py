"""Augmentation that is learned so as to challenge the task (Gao et al., IPMI 2021, Section 3).

Generators G turn an image x and a random vector z into a transformation, G_A affine, G_D a deformation, G_I a change of
appearance. They play two games at once, with the network T of the task and with a discriminator D:

    L_adv = min_T max_G  E[L(G(z, x) (+) x, y; T)]                                                           (Eq. 2)
    L_GAN = min_G max_D  E[log D(x)] + E[log(1 - D(G(z, x) (+) x))]                                          (Eq. 4)
    L = L_adv + lambda L_GAN + gamma L_reg,   lambda = 1, gamma = 0.1                                        (Eq. 5)
    L_reg^A = ||G_A - f_id||,   L_reg^D = ||grad G_D||,   L_reg^I = ||G_I||                                  (Eq. 6-8)

A batch is one part clean images and one part for each generator; T has norms of its own for each (`models.auxbn`).

Choices, as no code was ever published. ||.|| is of displacements in fractions of half a side (Eq. 6), of differences
between neighbouring pixels in pixels (Eq. 7), of intensities (Eq. 8): either their Euclidean norm in each image, as
printed, which grows with the number of pixels and has the same pull however small they are; or their mean square, which
depends on no size, and lets small ones go free. G minimises -log D (`saturating=True`: log(1 - D), Eq. 4). D has
augmented and real images in one batch of its norms: apart, a change that all augmented images share would be taken out
by the norms before D sees it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.methods.resumable import Resumable, predict
from fewlabels.types import Batch, Losses, MoveTargets, TaskLoss
from fewlabels.warps import warp


class Generator(Protocol):
    """What a module that makes transformations has (`models.generators.AugmentationGenerator`)."""

    kind: str  # "affine", "deformation" or "appearance"
    Z: int  # length of its random vectors

    def __call__(self, x: Tensor, z: Tensor) -> Tensor: ...

    def eval(self) -> Any: ...


class Reversed(torch.autograd.Function):
    """The identity, with the gradient's sign reversed: what minimises L in T maximises it in G."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


class RegularisedAdversarial(Resumable):
    """T, G and D of Figure 1 and Algorithm 1.

    T             network of the task, with `len(G)` auxiliary norms (`auxbn.with_auxiliary`)
    G             generators (`models.generators.AugmentationGenerator`), one for each part of a batch but the first
    D             images -> logits `(N,)` of being real, shared by all generators; None: "w/o discriminator"
    task_loss     L: (output of T, targets) -> scalar; any task
    optimisers    `{"T": of T, "G": of all G, "D": of D}`, the last only where there is D; each over all its parameters
    move_targets  (targets, fields `(N, D, *size)` in pixels) -> targets of the warped images; None for classification.
                  Without gradient: G is to challenge T by its images, not by their labels
    lam, gamma    lambda and gamma of Eq. 5
    saturating    G minimises log(1 - D) as in Eq. 4
    regulariser   ||.|| of Eq. 6-8: "norm" or "mean_square"

    Raises ValueError for another regulariser.
    """

    def __init__(
        self, T: nn.Module, G: Sequence[Generator], D: nn.Module | None, task_loss: TaskLoss,
        optimisers: Mapping[str, torch.optim.Optimizer], move_targets: MoveTargets | None = None, lam: float = 1.0,
        gamma: float = 0.1, saturating: bool = False, regulariser: str = "mean_square",
    ) -> None:  # fmt: skip
        self.T, self.G, self.D, self.generators = T, nn.ModuleList(G), D, G  # type: ignore[arg-type]  # modules too
        self.network = nn.ModuleDict({"T": T, "G": self.G} | ({"D": D} if D is not None else {}))
        self.task_loss, self.optimisers, self.move_targets = task_loss, optimisers, move_targets
        self.lam, self.gamma, self.saturating = lam, gamma, saturating
        sizes = {"norm": norm, "mean_square": mean_square}
        if regulariser not in sizes:
            raise ValueError(f"regulariser: expected one of {', '.join(sizes)}, found {regulariser!r}")
        self.size_of = sizes[regulariser]

    def augment(self, G: Generator, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x_hat = G(z, x) (+) x, its targets, R(G(z, x)) of Eq. 3, and G(z, x) itself."""
        g = G(x, torch.randn(len(x), G.Z, device=x.device))
        if G.kind == "appearance":
            return x + g, y, self.size_of(g), g
        u = in_pixels(g)
        if self.move_targets is not None:
            y = self.move_targets(y, u.detach())
        reg = self.size_of(g) if G.kind == "affine" else self.size_of(*differences(u))
        return warp(x, u, mode="border"), y, reg, g

    def training_step(self, batch: Batch) -> Losses:
        """One iteration of Algorithm 1 on x_1, `images` `(B, C, *size)` with targets `labels`, and x_2, `real`.

        B is a multiple of the number of parts, 1 + len(G). Losses are means over parts.
        """
        self.network.train()
        n = 1 + len(self.G)
        if len(batch["images"]) % n:
            raise ValueError(f"batch: expected a multiple of {n}, its parts, found {len(batch['images'])}")
        (clean, y), *parts = zip(batch["images"].chunk(n), batch["labels"].chunk(n), strict=True)
        x_hat, y_hat, reg, _ = zip(
            *(self.augment(G, *part) for G, part in zip(self.generators, parts, strict=True)), strict=True
        )
        augmented = torch.cat(x_hat)

        outputs = self.T(torch.cat([clean, Reversed.apply(augmented)])).chunk(n)
        of_part = [self.task_loss(output, t) for output, t in zip(outputs, [y, *y_hat], strict=True)]
        loss = torch.stack(of_part).mean() + self.gamma * sum(reg)  # (5)
        losses = {"loss_clean": of_part[0]}
        for G, of, r in zip(self.G, of_part[1:], reg, strict=True):
            losses |= {f"loss_{G.kind}": of, f"reg_{G.kind}": r}

        for optimiser in self.optimisers.values():
            optimiser.zero_grad()
        if self.D is not None:
            fake, real = self.D(torch.cat([augmented, batch["real"]])).split([len(augmented), len(batch["real"])])
            loss_D = F.softplus(fake).mean() + F.softplus(-real).mean()  # (4) as D's, its sign reversed
            loss_GAN = (-F.softplus(fake) if self.saturating else F.softplus(-fake)).mean()
            loss = loss + self.lam * loss_GAN
            losses |= {"loss_GAN": loss_GAN, "loss_D": loss_D}
            loss_D.backward(inputs=[*self.D.parameters()], retain_graph=True)
        loss.backward(inputs=[*self.T.parameters(), *self.G.parameters()])
        for optimiser in self.optimisers.values():
            optimiser.step()
        return {name: value.detach() for name, value in losses.items()}

    def predict(self, images: Tensor, batch_size: int = 20) -> Tensor:
        """Class probabilities of images as they are, by the main norms."""
        return predict(self.T, images, batch_size)


def in_pixels(g: Tensor) -> Tensor:
    """Displacements `(N, D, *size)` in fractions of half a side -> in pixels; -1 and 1 are centres of outer pixels."""
    half = [(length - 1) / 2 for length in g.shape[2:]]
    return g * g.new_tensor(half).reshape(-1, *[1] * len(half))


def differences(u: Tensor) -> list[Tensor]:
    """Those between neighbours in a field `(N, D, *size)`, a tensor an axis: grad G_D of Eq. 7.

    Blind to a shift of all pixels.
    """
    return [u.diff(dim=axis) for axis in range(2, u.ndim)]


def mean_square(*parts: Tensor) -> Tensor:
    """Of all values of each part `(N, ...)`; the mean over parts."""
    return sum((part.square().mean() for part in parts), parts[0].new_zeros(())) / len(parts)


def norm(*parts: Tensor) -> Tensor:
    """The Euclidean norm of all values of an image in all parts `(N, ...)`; the mean over images. No slope at 0."""
    return torch.linalg.vector_norm(torch.cat([part.flatten(1) for part in parts], dim=1), dim=1).mean()
