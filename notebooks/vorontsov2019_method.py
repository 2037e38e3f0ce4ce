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
# # Vorontsov et al. 2019: segmentation by translation between sick and healthy
#
# *Towards semi-supervised segmentation via image-to-image translation*, 2019, arXiv 1904.01636. Of many images it is
# known whether they present a target (P: a digit, a tumour) or not (A); few have a mask. An encoder $f$ splits an image
# into what both domains share, $c$, and what is unique to presence, $u$:
#
# $$[c_A, u_A] = f(x_A), \qquad [c_P, u_P] = f(x_P) \tag{1}$$
# $$x_{AA} = g_{com}(c_A), \qquad x_{PA} = g_{com}(c_P) \tag{2}$$
# $$x_{PP} = x_{PA} + \Delta_{PA}, \qquad \Delta_{PA} = g_{res}(c_P, u_P) \tag{3}$$
# $$y_{seg} = (s \circ \hat g_{res})(c_P, u_P), \qquad p_{norm} = MLP(c_P, u_P) \tag{4, 5}$$
# $$x_{AP} = g_{com}(c_A) + g_{res}(c_A, u), \qquad u \sim \mathcal N(0, I), \qquad x_{APA} = g_{com}(c_{AP}) \tag{6}$$
#
# What is common decodes to an image *without* the target; the residual decoder puts it back, and the same decoder, with
# other norms, segments it. This notebook takes that apart on scikit-learn's digits among clutter, in two minutes of one
# CPU core.

# %%
import sys

if "google.colab" in sys.modules:  # upload or clone the repository to /content/fewlabels first (not yet published)
    sys.path.insert(0, "/content/fewlabels/lib")  # not installed: params/ and results/ are looked for beside lib/

# %%
import tempfile

import matplotlib.pyplot as plt
import pandas as pd
import torch

from fewlabels import plots
from fewlabels.engine import params
from fewlabels.losses import soft_dice_loss
from fewlabels.papers.vorontsov2019 import figures, rows
from fewlabels.papers.vorontsov2019 import mnist as experiment
from fewlabels.papers.vorontsov2019 import training as training
from fewlabels.paths import CHECKOUT
from fewlabels.scores import metrics

# %% tags=["parameters"]
steps = 150  # of the training shown
snapshots = 5  # of it
width = 6  # channels at full size; the paper has 32
lambda_adv = 20.0  # the paper has 3; here more, so that translation shows within few steps
seed = 0  # of weights, batches and random codes

# %%
torch.set_num_threads(1)
_, config = params.load(CHECKOUT / "params/mnist/quick.yaml")
config = config.model_copy(update={"width": width, "discriminator_width": 4 * width, "lambda_adv": lambda_adv})
cohort = experiment.load(config)
with tempfile.TemporaryDirectory() as folder:
    parts = experiment.parts_of(config, "48-simple", cohort, folder)
train, test = parts["train"], parts["test"]
x_P, x_A, y = test.presence[:8], test.absence[:8], test.masks[:8]
grey = figures.GREY
figure = figures.rows({"P": (x_P[:, 0], grey), "mask": (y, grey), "A": (x_A[:, 0], grey)})

# %% [markdown]
# ## The networks
# The encoder halves the image four times. The last quarter of the code is $u$. Decoders see the encoder's maps through
# *compressed* skips: each stack of maps is normalised and becomes one map (the paper's Figure 5). The residual decoder
# has kernels of 5 and no short skips.

# %%
torch.manual_seed(seed)
run = experiment.Run("Proposed", "48-simple", seed)
method = experiment.network(config, run)
G = method.G
s, skips = G.f(x_P)
c, u = G.split(s)
print(f"x {list(x_P.shape)} -> c {list(c.shape)}, u {list(u.shape)}")
print(f"skipped maps: {[list(m.shape[1:]) for m in skips]}, compressed to one each")
sizes = {
    "f": G.f,
    "g_com": G.g_com,
    "g_res, with the MLP and the head that segments": G.g_res,
    "D, each": method.D["A"],
}
pd.Series({name: sum(p.numel() for p in network.parameters()) for name, network in sizes.items()}, name="parameters")

# %% [markdown]
# ## One batch: which loss moves what
# The norm of the gradient that each term of the loss, times its $\lambda$, gives to each network at the start. The
# masks' term is small beside the others: that is the paper's $\lambda_{seg} = 0.01$. It reaches the encoder and the
# residual decoder, but not the common one, which is to know of no target.

# %%
x, a = train.presence[train.labelled[:8]], train.absence[:8]
made = method.translate(x, a)
losses = method.reconstructions(made, x, a)
losses["loss_adv"] = -sum(method.realness(method.D[d](made[name])) for d, name in (("A", "x_PA"), ("P", "x_AP")))
p = G.segment(made["s_P"], made["skips_P"])[:, 0]
losses["loss_seg"] = soft_dice_loss(p, train.masks[train.labelled[:8]])
networks = {"f": G.f, "g_com": G.g_com, "g_res": G.g_res}
norms = {}
for name, loss in losses.items():
    weighted = method.weights[name.removeprefix("loss_")] * loss
    for label, network in networks.items():
        found = torch.autograd.grad(weighted, list(network.parameters()), retain_graph=True, allow_unused=True)
        norms[name.replace("loss", "L"), label] = float(sum(g.square().sum() for g in found if g is not None)) ** 0.5
pd.Series(norms).unstack().style.set_uuid("norms").format(precision=3)

# %% [markdown]
# ## Training
# One forward pass of all images, then an update of the discriminators, then one of all else through them. Of each 20
# images with a digit, 4 have a mask, all of them nines. Below, test images after some of the steps. First everything is
# copied; then the residual (red adds, blue takes away) gathers where the digit is, and the segmentation with it. After
# so few steps the digit is only partly taken out; `vorontsov2019_mnist` shows what longer training makes of it.

# %%
batches = rows.batches(config, run.method, train)
history, pictures = [], {}
for step in range(1, steps + 1):
    found = method.training_step(next(batches))
    history.append({"step": step} | {name: float(value) for name, value in found.items()})
    if step % (steps // snapshots) == 0:
        now = training.translated(method, x_P, x_A, seed)
        pictures[f"x_PA, step {step}"] = (now["x_PA"][:, 0], grey)
        pictures[f"residual, step {step}"] = (now["D_PA"][:, 0], figures.SIGNED)
        pictures[f"y_seg, step {step}"] = (method.predict(x_P)[:, 0], grey)
figure = figures.rows({"x_P": (x_P[:, 0], grey)} | pictures | {"mask": (y, grey)}, size=0.75)

# %% [markdown]
# The losses, means over ten steps, without their $\lambda$: the masks' (Eq. 8), three of reconstruction (Eq. 9 to 11),
# and both sides of the game (Eq. 12), in which G wants D's output on made images high.

# %%
frame = pd.DataFrame(history).set_index("step").rolling(10).mean()
panels = {
    "loss_seg": ("$L_{seg}$ (best: -1)", "minus soft Dice of $y_{seg}$"),
    "loss_rec": ("$L_{rec}$: $x_{PP}$ to $x_P$, $x_{AA}$ to $x_A$", "mean |difference|, sum of 2"),
    "loss_lat": ("$L_{lat}$: codes of made images, to those used", "mean |difference|, sum of 4"),
    "loss_cyc": ("$L_{cyc}$: $x_{APA}$ to $x_A$", "mean |difference|"),
    "loss_adv": ("$L_{adv}$ of G", "minus D's output, sum of 2"),
    "loss_D": ("$L_{adv}$ of D: hinge", "of real and made, sum of 4"),
}

# %%
figure, axes = plt.subplots(2, 3, figsize=(9.0, 4.2), sharex=True, layout="constrained")
for axis, (name, (title, label)) in zip(axes.flat, panels.items(), strict=True):
    axis.plot(frame[name], linewidth=1)
    axis.set_title(title, fontsize=8)
    axis.set_ylabel(label, fontsize=8)
for axis in axes[1]:
    axis.set_xlabel("step")
plots.sns.despine(figure)

# %% [markdown]
# ## Presence to absence, and back
# From $c$ alone: $x_{PA}$. With the residual: $x_{PP}$, which is to be the input again.

# %%
made, p = training.translated(method, x_P, x_A, seed), method.predict(x_P)
shown = figures.translations(made, p, x_P, x_A, y)
shown["x_PP"] = (made["x_PP"][:, 0], grey)
order = ["input (P)", "translated (A)", "residual", "x_PP", "segmentation", "truth"]
figure = figures.rows({name: shown[name] for name in order})

# %% [markdown]
# ## Absence to presence: what u does
# One image without a digit, eight random codes $u$: each is to ask for another digit. After so few steps there is one
# answer to all, where a digit may lie. (With much clutter the paper finds that "many look like variations of the digit
# 0".)

# %%
one = x_A[:1].expand(8, -1, -1, -1)
made = training.translated(method, x_P, one, seed)
figure = figures.rows({
    "x_A": (one[:, 0], grey),
    "x_AP": (made["x_AP"][:, 0], grey),
    "residual": (made["D_AP"][:, 0], figures.SIGNED),
})  # fmt: skip

# %%
# NBVAL_CHECK_OUTPUT
better = metrics.dice_global(p[:, 0], y)
print(f"{len(train.labelled)} of {len(train.presence)} training images have a mask, all of the digit 9:",
      set(train.kinds[train.labelled].tolist()) == {9})  # fmt: skip
print("reconstruction falls:", history[-1]["loss_rec"] < history[0]["loss_rec"] / 2)
print("segmentation is better than chance:", better > 2 * float(y.float().mean()))

# %% [markdown]
# ## Your own images
# No parameter file is needed. Images `(N, C, H, W)` within -1 to 1 (decoders end in tanh), here random numbers: some
# known to show the target, some known not to, and masks `(k, H, W)` of a few of the former. This G is for images of one
# size; `adaptive=False` takes any, as on BraTS. Without any mask it still trains, all but the segmentation.

# %%
import torch

from fewlabels.methods.translation import Translation
from fewlabels.models.discriminators import MultiScaleDiscriminator
from fewlabels.models.translator import Translator

# %%
# NBVAL_CHECK_OUTPUT
torch.manual_seed(0)
size = (64, 96)
presence, absence = 2 * torch.rand(2, 6, 1, *size) - 1  # yours
labelled, masks = torch.tensor([0, 3]), torch.rand(2, *size) > 0.9  # which of `presence` have a mask, and these masks

G = Translator(size, in_channels=1, width=4, levels=4)
D = torch.nn.ModuleDict({domain: MultiScaleDiscriminator(1, [16, 32, 64]) for domain in "AP"})
optimisers = {
    name: torch.optim.Adam(network.parameters(), lr=0.0001, betas=(0.5, 0.999), amsgrad=True)
    for name, network in {"G": G, "D": D}.items()
}
method = Translation(G, D, optimisers)
for _ in range(2):
    losses = method.training_step({"presence": presence, "absence": absence, "labelled": labelled, "masks": masks})
print("finite:", {name: bool(loss.isfinite()) for name, loss in losses.items()})
print("prediction:", list(method.predict(presence).shape))
