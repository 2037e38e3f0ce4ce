# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags
#     formats: ipynb,py:percent
#     notebook_metadata_filter: kernelspec,jupytext,-jupytext.text_representation
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Gao et al. 2021: augmentation that is learned so as to challenge the task
#
# *Enabling Data Diversity: Efficient Automatic Augmentation via Regularized Adversarial Training*, IPMI 2021. Three
# generators look at an image $x$ and a random vector $z$: $G_A$ makes an affine map, $G_D$ a deformation, $G_I$ a change
# of appearance. What they make is to be *hard* for the network $T$ of the task, to look real to a discriminator $D$,
# and to stay near the original:
#
# $$L_{adv} = \min_T \max_G\ \mathbb E[L(G(z, x) \oplus x, y; T)] \tag{2}$$
# $$L_{GAN} = \min_G \max_D\ \mathbb E[\log D(x)] + \mathbb E[\log(1 - D(G(z, x) \oplus x))] \tag{4}$$
# $$L = L_{adv} + \lambda L_{GAN} + \gamma L_{reg}, \qquad \lambda = 1,\ \gamma = 0.1 \tag{5}$$
# $$L^A_{reg} = \|G_A - f_{id}\|, \qquad L^D_{reg} = \|\nabla G_D\|, \qquad L^I_{reg} = \|G_I\| \tag{6-8}$$
#
# No code of this paper was ever published. This notebook takes the method apart on **phantoms** of skin lesions, in
# two minutes of one CPU core: what each loss does to each generator, the batch norms, the loopholes, and how the
# augmentations change while T learns (the paper's Figure 4).

# %%
import sys

if "google.colab" in sys.modules:  # upload or clone the repository to /content/fewlabels first (not yet published)
    sys.path.insert(0, "/content/fewlabels/lib")  # not installed: params/ and results/ are looked for beside lib/

# %%
import matplotlib.pyplot as plt
import pandas as pd
import torch
import torch.nn.functional as F

from fewlabels import plots
from fewlabels.engine import params
from fewlabels.engine.training import Batches, Shuffled
from fewlabels.methods.adversarial import differences, in_pixels, mean_square
from fewlabels.models.auxbn import AuxiliaryBatchNorm
from fewlabels.papers.gao2021 import challenge, figures, isic_rows
from fewlabels.papers.gao2021 import isic as experiment
from fewlabels.papers.gao2021.isic_training import split_of
from fewlabels.paths import CHECKOUT

# %% tags=["parameters"]
steps = 120  # of the training shown
snapshots = 6  # of it, as in the paper's Figure 4
seed = 0  # of weights, batches and random vectors

# %%
torch.set_num_threads(1)
_, config = params.load(CHECKOUT / "params/isic/quick.yaml")
config = config.model_copy(update={"steps": steps})
cohort = experiment.load(config)
index = cohort.index(split_of(config, cohort, 0).labelled)


def rgb(images):
    """`(N, 3, H, W)` -> `(N, H, W, 3)` within 0 to 1, for a picture."""
    return images.movedim(1, -1).clamp(0, 1)


shown = torch.cat([index[cohort.labels[index] == c][:1] for c in range(7)])
masks, names = cohort.meta["masks"][shown].long(), [cohort.classes[c] for c in cohort.labels[shown]]
figure = plots.pictures(rgb(cohort.images[shown]), masks, names, columns=7)

# %% [markdown]
# ## One batch, step by step
# A batch of 32 is four parts: clean images, and one part for each generator. T's batch norms know which part they see:
# `models.auxbn` puts three copies beside each norm, the first part passes through the norm itself. For testing there
# is only that one.

# %%
torch.manual_seed(seed)
method = isic_rows.adversarial(config, "ResNet-10-w16", "Comb", F.cross_entropy, "cpu")
norms = [module for module in method.T.modules() if isinstance(module, AuxiliaryBatchNorm)]
print(f"T: {len(norms)} batch norms, each with {len(norms[0].auxiliary)} auxiliary ones")
for G in [*method.G, method.D]:
    name = f"G, {G.kind}" if hasattr(G, "kind") else "D"
    print(f"{name}: {sum(p.numel() for p in G.parameters()):,} parameters")

# %% [markdown]
# Generators start at no augmentation: their last layer is zero. To see what each can do, here with random last layers:
# the field or mask $G(z, x)$, and the image $\hat x = G(z, x) \oplus x$, for two $z$.

# %%
x, y = cohort.images[shown[:2]], cohort.labels[shown[:2]]
fresh = isic_rows.adversarial(config, "ResNet-10-w16", "Comb", F.cross_entropy, "cpu").G
terms = {
    "affine": "Eq. 6: mean square\nof displacements",
    "deformation": "Eq. 7: mean square of\nneighbours' differences",
    "appearance": "Eq. 8: mean square\nof the mask",
}

# %%
figure, axes = plt.subplots(3, 6, figsize=(9.6, 5.0), layout="constrained")
for of_kind, G in zip(axes, fresh, strict=True):
    torch.nn.init.normal_(G.last.weight, std=0.1 if G.kind == "affine" else 0.01)
    plots.picture(of_kind[0], rgb(x)[0], title="x")
    for column in (1, 3):
        with torch.no_grad():
            made, _, _, g = method.augment(G, x, y)
        if G.kind == "appearance":
            plots.picture(of_kind[column], rgb(0.5 + g)[0], title="grey + G_I")
        else:
            plots.deformed_grid(of_kind[column], in_pixels(g)[0].numpy(), title=f"G, {G.kind}")
        plots.picture(of_kind[column + 1], rgb(made)[0], title="its image")
    of_kind[5].axis("off")
    of_kind[5].text(0, 0.5, terms[G.kind], fontsize=8, va="center")

# %% [markdown]
# ## Which loss pulls how
# The norm of each term's gradient in the weights of each generator, once they have begun to move (20 steps), on one
# batch. The first term's sign is reversed on its way from T: T descends on it, the generators climb.

# %%
batches = Batches(
    lambda i, j: {"images": cohort.images[i], "labels": cohort.labels[i], "real": cohort.images[j]},
    Shuffled(index, 32), Shuffled(index, 24),
)  # fmt: skip
for _ in range(20):
    method.training_step(next(batches))

# %%
batch, found = next(batches), []
for k, G in enumerate(method.G):
    part = slice(8 * (k + 1), 8 * (k + 2))
    x_hat, targets, reg, _ = method.augment(G, batch["images"][part], batch["labels"][part])
    outputs = method.T(torch.cat([batch["images"][:8], *[x_hat] * 3])).chunk(4)[k + 1]
    fake = method.D(torch.cat([x_hat, batch["real"]]))[:8]
    terms = {"L_adv": F.cross_entropy(outputs, targets) / 4, "lambda L_GAN": F.softplus(-fake).mean() / 3,
             "gamma L_reg": config.gamma * reg}  # fmt: skip
    for term, loss in terms.items():
        gradient = torch.autograd.grad(loss, [*G.parameters()], retain_graph=True, allow_unused=True)
        norm = sum(float(g.square().sum()) for g in gradient if g is not None) ** 0.5
        found.append({"generator": G.kind, "term": term, "norm": norm})
norms = pd.DataFrame(found).pivot(index="generator", columns="term", values="norm")
norms[["L_adv", "lambda L_GAN", "gamma L_reg"]].style.set_uuid("norms").format(precision=4)

# %% [markdown]
# ## The loopholes
# A shift of all pixels costs Eq. 7 nothing, and tanh lets $G_D$ go half an image and $G_I$ replace an image of 0 to 1
# altogether. `max_displacement` and `max_appearance` bound both; here the furthest each can go, and what it costs.

# %%
rows = []
for bound in (1.0, 0.1):
    u = in_pixels(torch.full((1, 2, config.size, config.size), bound))
    rows.append({"bound": bound, "G_D: furthest, px": float(u.max()), "G_D: gamma L_reg": config.gamma * float(mean_square(*differences(u))),
                 "G_I: furthest, of 0 to 1": bound, "G_I: gamma L_reg": config.gamma * bound**2})  # fmt: skip
pd.DataFrame(rows).set_index("bound").style.set_uuid("loopholes").format(precision=3).format_index(precision=1)

# %% [markdown]
# ## Learning (Figure 4)
# The whole training loop of Algorithm 1 is one line; after each sixth of it, the same lesions with the same $z$. Then,
# on 64 training images, T's loss as they are, as the generators change them, and as random transformations of the same
# strength do.

# %%
torch.manual_seed(seed)
method = isic_rows.adversarial(config, "ResNet-10-w16", "Comb", F.cross_entropy, "cpu")
lesion, kinds = cohort.images[shown[3:4]], [G.kind for G in method.G]
made, history = {kind: [] for kind in kinds}, []


def look(step):
    """What T's losses are and what the generators make of the lesion; training goes on as if nobody had looked."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        hardness = challenge.hardness(method, cohort.images[index[:64]], cohort.labels[index[:64]])
        history.append({"step": step} | hardness)
        for G in method.G:
            made[G.kind].append(method.augment(G, lesion, None)[0])


for step in range(1, steps + 1):
    losses = method.training_step(next(batches))
    if step % (steps // snapshots) == 0:
        look(step)

# %%
pictures = torch.cat([torch.cat([lesion, *made[kind]]) for kind in kinds])
titles = [f"{kind}: x" if i == 0 else f"step {history[i - 1]['step']}" for kind in kinds for i in range(snapshots + 1)]
figure = plots.pictures(rgb(pictures), titles=titles, columns=snapshots + 1)

# %%
figure = figures.challenge({"Comb": history})

# %% [markdown]
# ## Where
# The mean strength of deformation (its gradient) and of the change of appearance inside lesions over that outside, on
# all phantoms; with the masks of other images; with Gaussian windows in the middle. The paper finds both "highly
# centered around the lesion region"; a few steps on phantoms say nothing about that.

# %%
where = {G.kind: challenge.centred(G, cohort.images, cohort.meta["masks"]) for G in method.G if G.kind != "affine"}
pd.DataFrame(where).T.style.set_uuid("where").format(precision=2)

# %%
# NBVAL_CHECK_OUTPUT
print([*losses])
print(len(norms), kinds)

# %% [markdown]
# ## Your own images
# No parameter file is needed. T is any network with batch norms (afterwards `auxbn.without_auxiliary(T)` is what it
# was), the loss any loss; a batch is a multiple of four parts. Here random numbers and class masks `(N, H, W)`, which
# follow by nearest neighbour; for classification leave `move_targets` out. `most` bounds $G_D$ and $G_I$. The same in
# 3-D: three lengths in `size`, `PooledDiscriminator(3, ...)`.

# %%
import torch
import torch.nn.functional as F

from fewlabels.methods.adversarial import RegularisedAdversarial
from fewlabels.models.auxbn import with_auxiliary
from fewlabels.models.discriminators import PooledDiscriminator
from fewlabels.models.generators import AugmentationGenerator
from fewlabels.models.unet import UNet
from fewlabels.warps import warp

# %%
# NBVAL_CHECK_OUTPUT
torch.manual_seed(0)
size, classes = (64, 96), 3
images, labels = torch.rand(8, 1, *size), torch.randint(classes, (8, *size))  # yours

T = with_auxiliary(UNet(1, classes, width=8, levels=4), 3)
G = [AugmentationGenerator(size, kind, 1, width=8, most=0.2) for kind in ("affine", "deformation", "appearance")]
D = PooledDiscriminator(2, 1, width=8)
networks = {"T": T, "G": torch.nn.ModuleList(G), "D": D}
optimisers = {name: torch.optim.Adam(network.parameters(), lr=0.0002) for name, network in networks.items()}
move_targets = lambda y, u: warp(y[:, None], u, order=0, mode="border")[:, 0]  # noqa: E731
method = RegularisedAdversarial(T, G, D, F.cross_entropy, optimisers, move_targets)
for _ in range(2):
    losses = method.training_step({"images": images, "labels": labels, "real": images})
print("finite:", {name: bool(loss.isfinite()) for name, loss in losses.items()})
print("prediction:", list(method.predict(images).shape))
