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
# # Transformation consistency, step by step
#
# Bortsova et al., *Semi-supervised medical image segmentation via learning consistency under transformations*,
# MICCAI 2019. **The idea:** a segmentation should not care whether an image is deformed before or after it is
# segmented. Two deformed versions of every image, labelled or not, go through one network, and the two
# predictions must agree once they are brought into the same frame.
#
# This notebook shows one step of it in pictures: the fields, their composition and inverse, where they fold, the
# two branches, the loss. Seconds on two CPU cores, on phantoms. The paper's table is in `bortsova2019_table1`.

# %%
import sys

if "google.colab" in sys.modules:  # upload or clone the repository to /content/fewlabels first (not yet published)
    sys.path.insert(0, "/content/fewlabels/lib")  # not installed: params/ and results/ are looked for beside lib/

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from fewlabels import plots
from fewlabels.data import jsrt
from fewlabels.losses import soft_jaccard
from fewlabels.methods.consistency import TransformationConsistency, draw_transforms, reached
from fewlabels.models.unet import UNet
from fewlabels.warps import (
    align,
    compose,
    gaussian_field,
    gaussian_field_rms,
    invert,
    jacobian_determinant,
    transform_labels,
    warp,
)

# %% tags=["parameters"]
size = 64  # side of the images in pixels
amplitude = 3.0  # rms of each component of the fields, in % of the side
steps = 120  # of each of the three short trainings at the end
seed = 0  # of everything random here

# %% [markdown]
# ## The data
# Chest **phantoms**: drawn, not photographed, so that they can be shown. Five structures, exclusive labels.

# %%
torch.manual_seed(seed)
torch.set_num_threads(1)
cohort = jsrt.phantom(12, seed=seed, size=size)
figure = plots.pictures(cohort.images[:, 0], cohort.labels, cohort.ids, classes=cohort.classes)
# %% [markdown]
# ## A random transform
# Section 3: noise $U(-1000, 1000)$ for every pixel and component, smoothed by a Gaussian of $\sigma = 100$ pixels, at
# 512 × 512. Taken literally that moves pixels by about 2 of 512: the left grid is nearly straight. The right one has
# the same shape and a chosen amplitude. `y[q] = x[q + u(q)]`, in pixels, rows first.

# %%
sigma = 100 * size / 512
literal = 1000 * (size / 512) ** 2  # the same share of the image at any size
alpha = literal * amplitude / 100 * size / gaussian_field_rms((size, size), literal, sigma)
figure, axes = plt.subplots(1, 2, figsize=(6, 3.2), layout="constrained")
for axis, (name, a) in zip(axes, {"literal": literal, f"rms {amplitude:g} % of the side": alpha}.items(), strict=True):
    torch.manual_seed(seed)
    u = gaussian_field(100, (size, size), a, sigma)
    share = 100 / size * torch.stack([u.square().mean().sqrt(), u.abs().max()])
    plots.deformed_grid(axis, u[0].numpy(), title=f"{name}: rms {share[0]:.2f} %, largest of 100 {share[1]:.1f} %")

# %% [markdown]
# ## Two deformed versions of one image
# Images by cubic spline, labels by nearest neighbour, both by the same field.

# %%
torch.manual_seed(seed + 1)
u1, u2 = gaussian_field(2, (size, size), alpha, sigma).split(1)
x, y = cohort.images[:1], cohort.labels[:1]
x1, x2 = (warp(x, u, order=3, mode="border") for u in (u1, u2))
y1, y2 = (warp(y[:, None], u, order=0)[:, 0] for u in (u1, u2))
figure = plots.pictures(
    torch.cat([x, x1, x2])[:, 0], torch.cat([y, y1, y2]), ["x, y", "t1(x), t1(y)", "t2(x), t2(y)"], columns=3, size=2.2
)
# %% [markdown]
# ## Into the same frame: $t_2 \circ t_1^{-1}$
# With $\varphi(q) = q + u(q)$, what branch 1 says at $\varphi_1^{-1}(\varphi_2(q))$ belongs to pixel $q$ of branch 2.
# `align` solves $w(q) = u_2(q) - u_1(q + w(q))$ for that field. Pixels that come from outside the image, or where the
# solution is worse than half a pixel, are unknown and take no part.

# %%
w, residual = align(u1, u2, return_residual=True)
known = reached(w, residual)
carried = warp(x1, w, order=3, mode="border")
difference = ((carried - x2).abs() * known[:, None])[:, 0]
figure = plots.pictures(
    torch.cat([carried[:, 0], x2[:, 0], difference, known.float()]),
    titles=["t1(x) carried", "t2(x)", "difference, same grey scale", "known pixels"],
    columns=4, size=2.0, vmin=-1, vmax=1,
)  # fmt: skip
print(f"mean difference of the known pixels: {float(difference.sum() / known.sum()):.3f} (grey values span 2)")
print(f"largest residual: {float(residual.max()):.1e} px, unknown: {1 - float(known.float().mean()):.1%}")

# %% [markdown]
# ## Inverse and composition
# `compose(first, then)` is one field, so that an image is resampled once. A field composed with its inverse must
# vanish; what is left is the error of interpolating a field between its pixels.

# %%
v = invert(u1)
margin = (slice(None), slice(None), slice(6, -6), slice(6, -6))
for name, zero in {"u o v": compose(u1, v), "v o u": compose(v, u1), "align - composed": w - compose(v, u2)}.items():
    print(f"{name:17s} largest vector away from the border: {float(zero[margin].abs().max()):.3f} px")

# %% [markdown]
# ## Where fields fold
# A field folds where the Jacobian determinant of $q + u(q)$ is not positive: there no inverse exists. The stronger
# the field, the more often.

# %%
amplitudes = [0.5, 1, 2, 3, 4, 6, 8]
folding, unknown = [], []
for a in amplitudes:
    torch.manual_seed(seed)
    fields = gaussian_field(64, (size, size), alpha * a / amplitude, sigma)
    folding.append(float((jacobian_determinant(fields).flatten(1).min(1).values <= 0).float().mean()))
    carry, error = align(fields[:32], fields[32:], return_residual=True)
    unknown.append(1 - float(reached(carry, error).float().mean()))
figure, axis = plt.subplots(figsize=(4.5, 2.8), layout="constrained")
axis.plot(amplitudes, 100 * np.array(folding), "o-", label="fields that fold somewhere")
axis.plot(amplitudes, 100 * np.array(unknown), "s--", label="pixels left out of the loss")
axis.set(xlabel="rms of the field (% of the side)", ylabel="share (%)", ylim=(0, None))
axis.legend(frameon=False, fontsize=8)
plt.show()
# %% [markdown]
# ## The two losses of Equation 1
# Both are the soft Jaccard of one image, averaged over classes. As a consistency term it does more than compare: of
# a map with itself it is below 1 unless the map is certain, so it also asks for confident predictions.

# %%
p = torch.linspace(0.5, 1, 51)
left = torch.stack([p, 1 - p], dim=1)[..., None, None].expand(-1, 2, 8, 4)
two_classes = torch.cat([left, left.flip(1)], dim=3)  # one class on the left half, the other on the right
figure, axis = plt.subplots(figsize=(4, 2.5), layout="constrained")
axis.plot(p, soft_jaccard(two_classes, two_classes))
axis.set(xlabel="probability given to each pixel's likelier class", ylabel="J(p, p)", ylim=(0, 1.02))
plt.show()

# %% [markdown]
# ## One Siamese step
# A short supervised training first, so that there is something to see. Then: both branches, the first prediction
# carried into the frame of the second, and where the two disagree.

# %%
torch.manual_seed(seed)
network = UNet(width=8, levels=4)
method = TransformationConsistency(
    network, torch.optim.Adadelta(network.parameters(), lr=1.0, rho=0.95, eps=1e-7),
    draw=lambda n: draw_transforms(n, (size, size), alpha, sigma), lam=0.0,
)  # fmt: skip
batch = {"images": cohort.images[:6], "labels": cohort.labels[:6]}
supervised = [method.training_step(batch) for _ in range(steps)]

# %%
x, y = cohort.images[6:7], cohort.labels[6:7]  # a phantom it has not seen
x1, x2 = (warp(x, u, order=3, mode="border") for u in (u1, u2))
p1, p2 = method.predict(torch.cat([x1, x2])).split(1)
p1_in_frame_2 = warp(p1, w, order=0)
disagreement = (p1_in_frame_2 - p2).abs().sum(1) / 2 * known
figure, axes = plt.subplots(1, 5, figsize=(11, 2.6), layout="constrained")
plots.picture(axes[0], x1[0, 0], p1.argmax(1)[0], "f(t1(x))")
plots.picture(axes[1], x2[0, 0], p2.argmax(1)[0], "f(t2(x))")
plots.picture(axes[2], x2[0, 0], p1_in_frame_2.argmax(1)[0], "f(t1(x)) carried to frame 2")
plots.picture(axes[3], x2[0, 0], transform_labels(y, u2, 6).argmax(1)[0], "t2(y): the truth")
plots.picture(axes[4], disagreement[0], title="disagreement", cmap="magma", vmin=0, vmax=1)
figure.colorbar(axes[4].images[0], ax=axes[4], shrink=0.8)
consistency = 1 - float(soft_jaccard(p1_in_frame_2, p2, known))
print(f"L_cons of this pair {consistency:.2f}")

# %% [markdown]
# ## Training with and without the consistency term
# From the same weights, the same six labelled phantoms; the second run also sees six without labels. Measured on all
# twelve, under the same transforms each time.


# %%
def consistency_loss():
    """L_cons of all phantoms, labelled or not, as predicted (batch norms at rest)."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    network.eval()
    with torch.no_grad():
        value = float(method.losses(cohort.images, cohort.labels[:6])[1])
    torch.set_rng_state(state)
    return value


# %%
start = {name: value.clone() for name, value in network.state_dict().items()}
batches = {"Baseline": batch, "SemiTC": {"images": cohort.images, "labels": cohort.labels[:6]}}
curves = {"Baseline": [], "SemiTC": []}
for name, batch in batches.items():
    network.load_state_dict(start)
    method.lam = 0.0 if name == "Baseline" else 1.0
    method.optimiser = torch.optim.Adadelta(network.parameters(), lr=1.0, rho=0.95, eps=1e-7)
    torch.manual_seed(seed)
    for step in range(steps + 1):
        if step % 10 == 0:
            curves[name].append(consistency_loss())
        method.training_step(batch)

# %%
figure, axis = plt.subplots(figsize=(5, 2.8), layout="constrained")
axis.plot(range(0, steps + 1, 10), curves["Baseline"], "--", label="Baseline: measured, not trained")
axis.plot(range(0, steps + 1, 10), curves["SemiTC"], label="SemiTC")
axis.set(xlabel="step of stage 2", ylabel="consistency loss", ylim=(0, None))
axis.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ## What the paper leaves open, and what is done here
#
# | question | here | switch |
# |---|---|---|
# | how $t_1^{-1}$ is found | damped fixed point to 1e-4 px, at most 50 steps | - |
# | backward pass of the order-0 layer: "copied back to where it came from" (Section 3) or warped by $t_1 \circ t_2^{-1}$ (formula of Section 2) | the first, the exact adjoint | `gradient="printed"` |
# | size of the fields: nothing is said after smoothing | literal at 512 px (`paper`), chosen on validation data elsewhere | `amplitude` |
# | pixels that come from outside the image | left out of $C$, counted | - |
# | images at the border; labels there | border value; background | - |
# | batch norm of the two branches | one batch | - |
# | what the consistency term measures | Jaccard, as in the paper | `consistency="mse"`, `"kl"` |
# | gradient through both branches | yes, as the paper argues | stop-gradient runs |
# | interpolation of labels and predictions | nearest neighbour, as in the paper | `order=1` |
# | learning rate of Adadelta | 1.0, rho 0.95, eps 1e-7 (Keras of the time) | `learning_rate`, `optimiser="adam"` |
# | depth, width and norm of the U-Net | 5 levels, 32 channels, batch norm (16 channels in `quick`, `lite`) | `width`, `levels` |
# | which splits test the even ids; size of the validation set | 0, 2, 4; all that is left, 23 or 24 | - |

# %%
# NBVAL_CHECK_OUTPUT
print(sum(parameter.numel() for parameter in UNet().parameters()), "parameters at full width")
print(tuple(cohort.images.shape), cohort.classes)

# %% [markdown]
# ## Your own images
# `TransformationConsistency` is the paper's SemiTC. It needs no parameter file, but any network that segments, here a
# U-Net (sides multiples of 8), and how transforms are drawn. Images are `(N, C, H, W)`, here random numbers; the first
# of them have class masks `(k, H, W)`. How large the fields should be is for validation data to say.

# %%
import torch

from fewlabels.methods import consistency
from fewlabels.models.unet import UNet
from fewlabels.warps import gaussian_field_rms

# %%
# NBVAL_CHECK_OUTPUT
torch.manual_seed(0)
size, classes = (96, 128), 3
images, labels = torch.rand(6, 1, *size), torch.randint(classes, (2, *size))  # yours

sigma = 0.2 * size[0]
alpha = 0.03 * size[0] / gaussian_field_rms(size, 1.0, sigma)  # rms of each component: 3 % of the height
network = UNet(1, classes, width=8, levels=4)
draw = lambda n: consistency.draw_transforms(n, size, alpha, sigma)  # noqa: E731
optimiser = torch.optim.Adam(network.parameters(), lr=0.001)
method = consistency.TransformationConsistency(network, optimiser, draw)
for _ in range(2):
    losses = method.training_step({"images": images, "labels": labels})
print("finite:", {name: bool(loss.isfinite()) for name, loss in losses.items()})
print("prediction:", list(method.predict(images).shape))
