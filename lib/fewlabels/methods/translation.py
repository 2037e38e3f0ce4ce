"""Segmentation by translation between images with and without the target (Vorontsov et al. 2019, Section 3).

Of images x_P that present the target and x_A in which it is absent (sick and healthy), only few x_P have a mask y. The
encoder f separates what both domains share, c, from what is unique to presence, u. What is common decodes to an image
without the target; a residual puts it back, and the decoder that makes the residual also segments:

    [c_A, u_A] = f(x_A),  [c_P, u_P] = f(x_P)                                                                 (1)
    x_AA = g_com(c_A),  x_PA = g_com(c_P)                                                                     (2)
    x_PP = x_PA + D_PA,  D_PA = g_res(c_P, u_P)                                                               (3)
    y_seg = g_seg(c_P, u_P),  g_seg made of g_res                                                             (4, 5)
    x_AP = g_com(c_A) + g_res(c_A, u),  u ~ N(0, I)                                                           (6)
    x_APA = g_com(c_AP),  [c_AP, u_AP] = f(x_AP)
    L = l_seg L_seg + l_rec L_rec + l_lat L_lat + l_cyc L_cyc + l_adv L_adv                                   (7)

Every image passes in one batch with all others that go through the same network: norms are of one image, so that this
changes nothing but the speed, and that the spectral norm's power iteration goes one step further for all of them; in
the released code, for each set of images. Only images with a mask are segmented while training.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fewlabels.errors import BadInput
from fewlabels.losses import soft_dice_loss
from fewlabels.methods.resumable import Resumable
from fewlabels.models.translator import VARIANTS, Autoencoder, Translator
from fewlabels.types import Batch, Losses

LAMBDA = {"adv": 3.0, "rec": 50.0, "lat": 1.0, "cyc": 50.0, "seg": 0.01}  # Appendix A, "Weighted objectives"


class _Trained(Resumable):
    """What both methods share: segmentation of any images, and a step of one of the optimisers."""

    G: Translator | Autoencoder
    network: nn.ModuleDict
    optimisers: Mapping[str, torch.optim.Optimizer]
    bf16: bool

    def segment(self, x: Tensor) -> Tensor:
        """y_seg of images `(N, C, *size)`: `(N, 1, *size)`."""
        return self.G.segment(*self.G.f(x))

    def predict(self, images: Tensor, batch_size: int = 100) -> Tensor:
        """Probability of the target at each pixel, `(N, 1, *size)`."""
        self.network.eval()
        with torch.inference_mode(), parametrize.cached(), self.autocast():
            return torch.cat([self.segment(x).float() for x in images.split(batch_size)])

    def autocast(self) -> torch.autocast:
        device = next(self.G.parameters()).device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.bf16)

    def step(self, name: str, loss: Tensor) -> None:
        """An update of what `optimisers[name]` trains, by the gradient of `loss` to that alone."""
        optimiser = self.optimisers[name]
        optimiser.zero_grad()
        loss.backward(inputs=[p for group in optimiser.param_groups for p in group["params"]])
        optimiser.step()


class Translation(_Trained):
    """The method of Section 3.2.

    G           `models.translator.Translator`: f, g_com, g_res, g_seg
    D           `{"A": D_A, "P": D_P}`: how real an image of either domain is
    optimisers  `{"G": of G, "D": of both discriminators}`
    weights     lambda of Eq. 7: `adv`, `rec`, `lat`, `cyc` (0: no cycle), `seg`
    variant     "released": four latent terms, two of which are over the whole code, and the hinge at each place of D's
                maps; "paper": the six terms of Eq. 10, and the hinge of an image's mean
    bf16        whether to compute in bfloat16 where that is safe

    Raises ValueError for another variant.
    """

    G: Translator

    def __init__(
        self, G: Translator, D: Mapping[str, nn.Module], optimisers: Mapping[str, torch.optim.Optimizer],
        weights: Mapping[str, float] = LAMBDA, variant: str = "released", bf16: bool = False,
    ) -> None:  # fmt: skip
        if variant not in VARIANTS:
            raise ValueError(f"variant: expected one of {', '.join(VARIANTS)}, found {variant!r}")
        self.G, self.D, self.optimisers = G, nn.ModuleDict(D), optimisers
        self.network = nn.ModuleDict({"G": G, "D": self.D})
        self.weights, self.variant, self.bf16 = weights, variant, bf16

    def translate(self, x_P: Tensor, x_A: Tensor, u: Tensor | None = None) -> dict[str, Any]:
        """All images and codes of Eq. 1 to 6, by their names in the paper; `u` `(N, unique, ...)`, or drawn."""
        net, n = self.G, len(x_P)
        s, skips = net.f(torch.cat([x_P, x_A]))
        c, _ = net.split(s)  # (1)
        s_P, c_P, c_A = s[:n], c[:n], c[n:]
        if u is None:
            u = torch.randn(len(x_A), net.unique, *s.shape[2:], device=s.device)
        z_A = torch.cat([c_A, u], dim=1)
        without = net.g_com(c, skips)
        x_PA, x_AA = without[:n], without[n:]  # (2)
        residual = net.g_res(torch.cat([s_P, z_A]), skips)
        D_PA, D_AP = residual[:n], residual[n:]
        return {
            "s_P": s_P, "c_P": c_P, "c_A": c_A, "z_A": z_A, "skips_P": [m[:n] for m in skips],
            "x_PA": x_PA, "x_AA": x_AA, "D_PA": D_PA, "D_AP": D_AP,
            "x_PP": x_PA + D_PA,  # (3)
            "x_AP": x_AA + D_AP,  # (6)
        }  # fmt: skip

    def training_step(self, batch: Batch) -> Losses:
        """One update of D, then one of G through it, on x_P `presence` and x_A `absence` `(N, C, *size)` and the masks
        `masks` `(k, *size)` of those of x_P that `labelled` `(k,)` names; k may be 0."""
        self.network.train()
        x_P, x_A, weights = batch["presence"], batch["absence"], self.weights
        with parametrize.cached(), self.autocast():  # a weight is normalised once
            made = self.translate(x_P, x_A)
            losses = self.reconstructions(made, x_P, x_A)
            if len(k := batch["labelled"]) and weights["seg"]:
                y_seg = self.G.segment(made["s_P"][k], [m[k] for m in made["skips_P"]])
                losses["loss_seg"] = soft_dice_loss(y_seg[:, 0].float(), batch["masks"])  # (8)
        with parametrize.cached(), self.autocast():
            loss_D = self.hinge(made, x_P, x_A)
        self.step("D", weights["adv"] * loss_D)
        with parametrize.cached(), self.autocast():
            fooled = [self.realness(self.D["A"](made["x_PA"])), self.realness(self.D["P"](made["x_AP"]))]
            losses["loss_adv"] = -(fooled[0] + fooled[1])  # (12), of G
        zero = x_P.new_zeros(())
        self.step("G", sum((weights[name.removeprefix("loss_")] * loss for name, loss in losses.items()), zero))
        found = {"loss_seg": zero} | losses | {"loss_D": loss_D}
        return {name: loss.detach() for name, loss in found.items()}

    def reconstructions(self, made: dict[str, Any], x_P: Tensor, x_A: Tensor) -> Losses:
        """L_rec, L_lat and L_cyc (Eq. 9 to 11), all mean absolute differences."""
        net, n = self.G, len(x_A)
        s, skips = net.f(torch.cat([made["x_AP"], made["x_PP"], made["x_PA"], made["x_AA"]]))
        s_AP, s_PP, s_PA, s_AA = s.split([n, len(x_P), len(x_P), n])
        c, u = lambda s: net.split(s)[0], lambda s: net.split(s)[1]
        pairs = [(c(s_PA), made["c_P"]), (c(s_AA), made["c_A"])]
        if self.variant == "released":
            pairs += [(s_AP, made["z_A"]), (s_PP, made["s_P"])]
        else:
            pairs += [(part(a), part(b)) for a, b in ((s_AP, made["z_A"]), (s_PP, made["s_P"])) for part in (c, u)]
        losses = {
            "loss_rec": l1(made["x_PP"], x_P) + l1(made["x_AA"], x_A),  # (9)
            "loss_lat": sum((l1(a, b) for a, b in pairs), x_A.new_zeros(())),  # (10)
        }
        if self.weights["cyc"]:
            x_APA = net.g_com(c(s_AP), [m[:n] for m in skips])
            losses["loss_cyc"] = l1(x_APA, x_A)  # (11)
        return losses

    def hinge(self, made: dict[str, Any], x_P: Tensor, x_A: Tensor) -> Tensor:
        """L_adv as the discriminators' (Eq. 12): real above 1, translated below -1."""
        loss = x_P.new_zeros(())
        for domain, real, translated in (("A", x_A, made["x_PA"]), ("P", x_P, made["x_AP"])):
            maps = self.D[domain](torch.cat([real, translated.detach()]))
            loss = loss + self.realness([m[: len(real)] for m in maps], lambda d: (1 - d).relu())
            loss = loss + self.realness([m[len(real) :] for m in maps], lambda d: (1 + d).relu())
        return loss

    def realness(self, maps: Sequence[Tensor], of: Callable[[Tensor], Tensor] = lambda d: d) -> Tensor:
        """The mean of D's maps `(N, places)`, one a scale: over places, scales and images. The released code applies
        the hinge `of` to each place; the text (Appendix A, "Discriminator") to the mean of an image."""
        if self.variant == "released":
            return torch.stack([of(m).mean() for m in maps]).mean()
        return of(torch.stack([m.mean(1) for m in maps]).mean(0)).mean()


class Autoencoding(_Trained):
    """The baselines of Section 3.3: segmentation, and the reconstruction of all images beside it ("AE baseline").

    G           `models.translator.Autoencoder`; without g_rec: "Only segmentation"
    optimisers  `{"G": of G}`
    weights     of the two losses, `rec` and `seg`, 1 in the paper

    A batch without masks leaves the decoder that segments as it is; in the released code momentum and weight decay move
    it even then.
    """

    G: Autoencoder

    def __init__(
        self,
        G: Autoencoder,
        optimisers: Mapping[str, torch.optim.Optimizer],
        weights: Mapping[str, float] | None = None,
        bf16: bool = False,
    ) -> None:
        self.G, self.network, self.optimisers = G, nn.ModuleDict({"G": G}), optimisers
        self.weights, self.bf16 = weights or {"rec": 1.0, "seg": 1.0}, bf16

    def training_step(self, batch: Batch) -> Losses:
        """One update; a batch as for `Translation`, of which "Only segmentation" uses what has a mask.

        Raises BadInput where "Only segmentation" gets no mask.
        """
        self.network.train()
        net, k = self.G, batch["labelled"]
        if net.g_rec is None and not len(k):
            raise BadInput("batch of Only segmentation", "at least one image with a mask", "none")
        x = batch["presence"]
        x = torch.cat([x, batch["absence"]]) if net.g_rec is not None else x[k]
        losses, zero = {}, x.new_zeros(())
        with self.autocast():
            s, skips = net.f(x)
            if net.g_rec is not None:
                losses["loss_rec"] = l1(net.g_rec(s, skips), x)
                s, skips = s[k], [m[k] for m in skips]
            if len(k):
                losses["loss_seg"] = soft_dice_loss(net.segment(s, skips)[:, 0].float(), batch["masks"])
        self.step("G", sum((self.weights[name.removeprefix("loss_")] * loss for name, loss in losses.items()), zero))
        return {name: losses.get(name, zero).detach() for name in ("loss_rec", "loss_seg")}


def l1(a: Tensor, b: Tensor) -> Tensor:
    """L_1 distance, a mean over everything."""
    return (a.float() - b.float()).abs().mean()
