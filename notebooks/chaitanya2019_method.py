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
# # Chaitanya et al. 2019: augmentation that is learned so as to help the task
#
# *Semi-supervised and task-driven data augmentation*, IPMI 2019. A generator looks at a labelled image and a random
# vector z and makes a field: $G_V$ a displacement $v$, by which image *and* label are warped; $G_I$ an intensity
# $\Delta I$ that is added to the image. It learns together with the segmenter $S$ and a discriminator $D$:
#
# $$\min_{w_S, w_G}\ \mathcal L_S(\{X_L, Y_L\} \cup \{X_G, Y_G\}) + \mathcal L_{reg, w_G} \tag{4}$$
# $$\mathcal L_{reg, w_G} = \lambda_{adv}\, \mathbb E_z[\log(1 - D(X_G))] + \lambda_{big} \mathcal L_{big},
#   \qquad \mathcal L_{big} = -\|v\|_1 \ \text{or}\ -\|\Delta I\|_1 \tag{5}$$
# $$\mathcal L_D = -\mathbb E_{x \sim p(x)}[\log D(x)] - \mathbb E_z[\log(1 - D(X_G))] \tag{6}$$
#
# The task pulls the field towards what S can learn from, D towards images that look like those of other patients,
# $\mathcal L_{big}$ away from doing nothing. In the released code the first term has no gradient in $w_G$. This
# notebook shows, on **phantoms** in a minute of one CPU core, what the generators make and what that term changes.

# %%
import sys

if "google.colab" in sys.modules:  # upload or clone the repository to /content/fewlabels first (not yet published)
    sys.path.insert(0, "/content/fewlabels/lib")  # not installed: params/ and results/ are looked for beside lib/

# %%
import matplotlib.pyplot as plt
import pandas as pd
import torch

from fewlabels import plots
from fewlabels.data import acdc
from fewlabels.engine import params
from fewlabels.engine.training import Batches, Shuffled
from fewlabels.models.generators import Z
from fewlabels.papers.chaitanya2019 import acdc as experiment
from fewlabels.papers.chaitanya2019 import rows as rows
from fewlabels.paths import CHECKOUT
from fewlabels.warps import jacobian_determinant, warp

# %% tags=["parameters"]
steps = 100  # of each generator's training
warm_up = 20  # of them, in which S learns alone
seed = 0  # of weights, batches and random vectors

# %%
torch.set_num_threads(1)
config = params.load(CHECKOUT / "params/acdc/quick.yaml")[1].model_copy(update={"warm_up": warm_up, "batch_size": 10})
cohort = experiment.load(config)
split = acdc.splits(cohort.ids, 1, 1)
labelled, everyone = cohort.index(split.labelled), cohort.index(split.labelled + split.unlabelled)
print(f"{len(labelled)} labelled slices of one patient, {len(everyone) - len(labelled)} slices without labels of 25")
look = {"classes": cohort.classes, "vmin": -0.1, "vmax": 1.5}
figure = plots.pictures(cohort.images[labelled[:12], 0], cohort.labels[labelled[:12]], **look)

# %% [markdown]
# ## Eq. 4 on one batch
# The affine field $a$ and the generated $v$ become one field, `compose(a, v)`, so that the image is interpolated once;
# labels follow as soft one-hot maps. Half of S's batch is affine, half generated. What a fresh generator does is noise.
# $v$ is in pixels of the paper's grid, 224 a side, so that its numbers compare; images here have 64, to which
# `method.unit` takes it: 1 px of 224 is 0.29 of a pixel.

# %%
torch.manual_seed(seed)
method = rows.task_driven(config, "GD", "", "cpu")


def batches():
    """Labelled images and as many of all images, anew from the start."""
    make = lambda i, j: {"images": cohort.images[i], "labels": cohort.labels[i], "real": cohort.images[j]}  # noqa: E731
    return Batches(make, *(Shuffled(pool, config.batch_size) for pool in (labelled, everyone)))


batch = next(batches())
a, z = method.draw(batch["images"])
loss_task, loss_adv, loss_big, x_g = method.losses(batch["images"], batch["labels"], batch["real"], a, z)
total = loss_task + config.lambda_adv * loss_adv + config.lambda_big * loss_big
print(f"L_S = {float(loss_task):.3f}, -log D = {float(loss_adv):.3f}, L_big = {float(loss_big):.2f} px of 224; "
      f"Eq. 4: {float(total):.3f}; Eq. 6: {float(method.loss_D(x_g, batch['real'])):.3f}")  # fmt: skip

# %% [markdown]
# ## Which loss reaches which generator
# The norm of each term's gradient in $w_G$, of one batch. The last row is what the release does.

# %%
found = []
for name in rows.GENERATORS:
    for variant in ("", "no task gradient"):
        torch.manual_seed(seed)
        method = rows.task_driven(config, name, variant, "cpu")
        terms = method.losses(batch["images"], batch["labels"], batch["real"], *method.draw(batch["images"]))[:3]
        for term, loss in zip(("L_S", "adversarial", "L_big"), terms, strict=True):
            gradient = torch.autograd.grad(loss, [*method.G.parameters()], retain_graph=True, allow_unused=True)
            norm = sum(float(g.square().sum()) for g in gradient if g is not None) ** 0.5
            found.append({"generator": f"{name} ({variant})" if variant else name, "term": term, "norm": norm})
norms = pd.DataFrame(found).pivot(index="generator", columns="term", values="norm")
norms[["L_S", "adversarial", "L_big"]].style.set_uuid("norms").format(precision=4)

# %% [markdown]
# ## Learning
# $G_V$ and $G_I$ with the task's gradient and without, from the same weights and batches.

# %%
trained, curves = {}, {}
for name in rows.GENERATORS:
    for variant in ("", "no task gradient"):
        torch.manual_seed(seed)
        method = rows.task_driven(config, name, variant, "cpu")
        drawn = batches()
        title = {"GD": "G_V", "GI": "G_I"}[name] + (f", {variant}" if variant else "")
        curves[title] = pd.DataFrame([method.training_step(next(drawn)) for _ in range(steps)]).astype(float)
        trained[title] = method

# %%
figure, axes = plt.subplots(1, 4, figsize=(11, 3), layout="constrained")
for title, curve in curves.items():
    smooth = curve.rolling(15, min_periods=1).mean()
    style = {"color": plots.COLOURS[0 if "V" in title else 3], "linestyle": "--" if "no" in title else "-"}
    axes[0].plot(smooth["loss_task"], label=title, **style)
    axes[1].plot(smooth["loss_adv"], **style)
    axes[2 if "V" in title else 3].plot(-curve["loss_big"], **style)
labels = ("task loss L_S", "-log D of generated images", "mean |v| (px of 224)", "mean |ΔI| (intensity)")
for axis, label in zip(axes, labels, strict=True):
    axis.set(xlabel="step", ylabel=label)
for axis in axes[2:]:
    axis.set_ylim(bottom=0)
figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
plots.sns.despine(figure)

# %% [markdown]
# ## What they generate
# As in the paper's Figure 3: four slices of the labelled volume from base to apex; below, what $G_V$ makes of each for
# three vectors z, with its label; then what $G_I$ makes.

# %%
torch.manual_seed(seed)
places = labelled[torch.linspace(1, len(labelled) - 2, 4).long()]
x, y = cohort.images[places], cohort.labels[places]
zs, fields = torch.randn(3, Z), {}
with torch.no_grad():
    for title, method in trained.items():
        for k, z in enumerate(zs):
            fields[title, k] = method.G.eval()(x, z.expand(len(x), -1))

# %%
images, masks, titles = [x], [y], [cohort.ids[i] for i in places]
for k in range(len(zs)):
    u = trained["G_V"].unit * fields["G_V", k]
    images.append(warp(x, u))
    masks.append(rows.move_targets(y, u).argmax(1))
images += [x + fields["G_I", k] for k in range(len(zs))]
masks += [y] * len(zs)
titles += [f"{G}, z{k + 1}" for G in ("G_V", "G_I") for k in range(len(zs)) for _ in x]
figure = plots.pictures(torch.cat(images)[:, 0], torch.cat(masks), titles, columns=4, **look)

# %% [markdown]
# The fields themselves: where $v$ fetches each pixel from (every fourth line), and $\Delta I$ (blue darker, red
# brighter; of intensities that are 0 at the 2nd and 1 at the 98th percentile of the volume). Above as Eq. 4 has them,
# below without the task's gradient.

# %%
figure, axes = plt.subplots(2, 6, figsize=(9.6, 3.6), layout="constrained")
for row, suffix in enumerate(("", ", no task gradient")):
    for k in range(3):
        v = trained["G_V"].unit * fields[f"G_V{suffix}", k][1]
        plots.deformed_grid(axes[row, k], v.numpy(), title=f"v, z{k + 1}{suffix}")
        delta = fields[f"G_I{suffix}", k][1, 0]
        shown = axes[row, 3 + k].imshow(delta, cmap="RdBu_r", vmin=-1, vmax=1)
        axes[row, 3 + k].set(xticks=[], yticks=[])
        axes[row, 3 + k].set_title(f"ΔI, z{k + 1}{suffix}", fontsize=8)
figure.colorbar(shown, ax=axes[:, -1], label="ΔI")

# %% [markdown]
# ## What the task's gradient changes
# Over all labelled slices and ten vectors each: the size of the fields, how much they differ between vectors (standard
# deviation over z), how much of it lies where the heart is, and how much of $v$ folds.

# %%
torch.manual_seed(seed)
x, y = cohort.images[labelled].repeat(10, 1, 1, 1), cohort.labels[labelled].repeat(10, 1, 1)
found = {}
for title, method in trained.items():
    with torch.no_grad():
        field = method.G(x, torch.randn(len(x), Z))
    size, of = field.abs().mean(1), "v, px of 224" if "V" in title else "ΔI, intensity"
    folded = (jacobian_determinant(method.unit * field) <= 0).float().mean() if "V" in title else None
    found[title] = {
        f"mean size ({of})": float(size.mean()),
        f"sd over z ({of})": float(field.unflatten(0, (10, -1)).std(0).mean()),
        "size at the heart / elsewhere": float(size[y > 0].mean() / size[y == 0].mean()),
        "pixels folded": folded if folded is None else float(folded),
    }
pd.DataFrame(found).T.style.set_uuid("changes").format(precision=3, na_rep="")

# %%
# NBVAL_CHECK_OUTPUT
with_gradient = norms.loc[["GD", "GI"], "L_S"] > 0
without = norms.loc[["GD (no task gradient)", "GI (no task gradient)"], "L_S"] == 0
print(f"the task reaches both generators: {bool(with_gradient.all())}; neither, as released: {bool(without.all())}")

# %% [markdown]
# ## Your own images
# No parameter file is needed: three networks, any loss, an affine augmentation and how masks follow. Images are
# `(N, C, H, W)` with sides that are multiples of 32, here random numbers, and class masks `(N, H, W)`. First $G_V$
# learns, with images without masks beside; then a fresh S learns from what `Augmentation` makes with it. For $G_I$:
# `"intensity"`, and `recolour=lambda x, z: x + G(x, z)`. For classification targets stay: `move_targets=lambda y, u: y`.

# %%
from functools import partial

import torch
from torch.nn.functional import cross_entropy

from fewlabels.augment.classical import random_affine
from fewlabels.methods.augmented_training import Augmentation, AugmentedTraining
from fewlabels.methods.task_driven import TaskDriven
from fewlabels.models.discriminators import Discriminator
from fewlabels.models.generators import Generator
from fewlabels.models.unet import BilinearUNet
from fewlabels.warps import transform_labels

# %%
# NBVAL_CHECK_OUTPUT
torch.manual_seed(0)
size, classes = (64, 96), 3
images, labels = torch.rand(4, 1, *size), torch.randint(classes, (4, *size))  # yours
real = torch.cat([images, torch.rand(4, 1, *size)])  # with those that have no masks

S, G = BilinearUNet(1, classes, width=8), Generator(size, "deformation", 1, width=8)
draw_affine, move_targets = partial(random_affine, size=size), partial(transform_labels, classes=classes, order=1)
learning = TaskDriven(S, G, Discriminator(size, 1, width=8), "deformation", cross_entropy, draw_affine, move_targets)
for _ in range(2):
    losses = learning.training_step({"images": images, "labels": labels, "real": real})
print("finite:", {name: bool(loss.isfinite()) for name, loss in losses.items()})

# %%
# NBVAL_CHECK_OUTPUT
S, augment = BilinearUNet(1, classes, width=8), Augmentation(draw_affine, move_targets, deform=G.eval())
method = AugmentedTraining(S, torch.optim.Adam(S.parameters(), lr=0.001), cross_entropy, augment)
for _ in range(2):
    losses = method.training_step({"images": images, "labels": labels})
print("finite:", {name: bool(loss.isfinite()) for name, loss in losses.items()})
print("prediction:", list(method.predict(images).shape))
