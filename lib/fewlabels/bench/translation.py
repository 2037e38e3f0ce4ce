"""What one iteration of segmentation by translation takes (Vorontsov et al. 2019)."""

from typing import Any

import torch
from torch import Tensor

from fewlabels.bench.timing import Made, Pair, Work
from fewlabels.engine import params
from fewlabels.methods.translation import Translation, l1
from fewlabels.papers.vorontsov2019 import mnist
from fewlabels.paths import CHECKOUT
from fewlabels.precision import Precision

SMALL = {"width": 2, "discriminator_width": 4, "batch_size": 4}
ITERATIONS = 892_500  # 300 epochs of 59,500 images in batches of 20


class OneByOne(Translation):
    """The same iteration as the released code does it: each set of images has a pass of its own through a network, and
    all that present the target are segmented, masks or not."""

    def translate(self, x_P: Tensor, x_A: Tensor, u: Tensor | None = None) -> dict[str, Any]:
        G = self.G
        (s_P, skips_P), (s_A, skips_A) = G.f(x_P), G.f(x_A)
        (c_P, _), (c_A, _) = G.split(s_P), G.split(s_A)
        z_A = torch.cat([c_A, torch.randn(len(x_A), G.unique, *s_A.shape[2:], device=s_A.device)], dim=1)
        made = {"x_PA": G.g_com(c_P, skips_P), "x_AA": G.g_com(c_A, skips_A)}
        made |= {"D_PA": G.g_res(s_P, skips_P), "D_AP": G.g_res(z_A, skips_A)}
        made |= {"s_P": s_P, "c_P": c_P, "c_A": c_A, "z_A": z_A, "skips_P": skips_P}
        made["all segmented"] = G.segment(s_P, skips_P)
        return made | {"x_PP": made["x_PA"] + made["D_PA"], "x_AP": made["x_AA"] + made["D_AP"]}

    def reconstructions(self, made: dict[str, Any], x_P: Tensor, x_A: Tensor) -> dict[str, Tensor]:
        G = self.G
        s, skips = {}, {}
        for name in ("AP", "PP", "PA", "AA"):
            s[name], skips[name] = G.f(made[f"x_{name}"])
        common = lambda name: G.split(s[name])[0]  # noqa: E731
        pairs = [
            (common("PA"), made["c_P"]),
            (common("AA"), made["c_A"]),
            (s["AP"], made["z_A"]),
            (s["PP"], made["s_P"]),
        ]
        return {
            "loss_rec": l1(made["x_PP"], x_P) + l1(made["x_AA"], x_A),
            "loss_lat": sum((l1(a, b) for a, b in pairs), x_A.new_zeros(())),
            "loss_cyc": l1(G.g_com(common("AP"), skips["AP"]), x_A),
        }


def pairs(device: str, quick: bool, queued: tuple[int, int]) -> list[Pair]:
    """Ours beside one pass a set of images, and beside concatenated skips (Section 3.4); on CUDA in bfloat16 too. A
    target is in none of the papers."""
    profile = "paper" if device == "cuda" else "lite"
    _, config = params.load(CHECKOUT / f"params/mnist/{profile}.yaml")
    config = config.model_copy(update=SMALL if quick else {})
    n, k = config.batch_size, max(config.labelled_in_batch, 1)

    def step(
        batch: dict[str, Tensor],
        row: str = "Proposed",
        precision: Precision = "fp32",
        kind: type[Translation] = Translation,
    ) -> Work:
        method = mnist.network(
            config.model_copy(update={"precision": precision}), mnist.Run(row, "48-simple", 0), device
        )
        assert isinstance(method, Translation)
        method = kind(method.G, dict(method.D.items()), method.optimisers, method.weights, method.variant, method.bf16)
        return lambda: (method.training_step(batch)["loss_rec"],)

    def make(ours: dict[str, Any], peer: dict[str, Any]) -> Made:
        def made() -> tuple[Work, Work]:
            torch.manual_seed(0)
            batch = {"presence": torch.rand(n, 1, 48, 48), "absence": torch.rand(n, 1, 48, 48)}
            batch |= {"masks": torch.rand(k, 48, 48) > 0.9, "labelled": torch.arange(k)}
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            return step(batch, **ours), step(batch, **peer)

        return made

    row: dict[str, Any] = {
        "case": f"J: training step, translation, 48 px, width {config.width}, batch {n}",
        "device": device,
    }
    row |= {"tolerance": None, "queued": queued, "threads": config.threads, "images": 2 * n}
    row["note"] = f"mnist/{profile}.yaml; a run of the paper has {ITERATIONS:,} iterations; images/s of the peer"
    found = [
        Pair(work="float32", peer="a pass a set of images, as released", make=make({}, {"kind": OneByOne}), **row),
        Pair(work="float32", peer="concatenated skips", make=make({}, {"row": "Proposed (concat)"}), **row),
    ]
    if device == "cuda":
        found.append(Pair(work="bfloat16", peer="float32", make=make({"precision": "bf16"}, {}), **row))
    return found
