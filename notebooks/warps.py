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
# # The warps, in pictures
#
# The five papers all do one thing: they transform an image and its label, at random or learned, and often have to
# undo it or differentiate it. `fewlabels.warps` is that one thing, for whole batches, in 2-D and 3-D. This notebook
# shows what a field is, how each paper draws its own, what interpolation costs, inverse and composition, folding,
# gradients, and how to use all this on your own images.
#
# Ten seconds on one CPU core (half a minute the first time, when Numba compiles), on drawn chest phantoms; no data
# and no GPU needed. What to expect: the values of [elasticdeform](https://github.com/gvtulder/elasticdeform) to
# rounding, and gradients to the field too.
#
# ## What a field is
# A field `u` is a tensor `(N, D, *size)`: for every image of the batch and every pixel $q$ a vector of D = 2 or 3
# components, **in pixels, rows first**. It *pulls*: `y[q] = x[q + u(q)]`. The vector says where a pixel of the result
# takes its value from, not where a pixel of the image goes; so every pixel of the result is filled exactly once.
#
# A smooth field needs few numbers. `control_to_dense` makes it from vectors on a coarse grid (dots), whose outer
# points lie on the outer pixel centres. Its cubic spline *interpolates*: at a control point, the field is its vector.

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
from fewlabels.warps import (
    affine_field,
    align,
    compose,
    control_to_dense,
    elasticdeform_affine,
    gaussian_field,
    inside,
    invert,
    jacobian_determinant,
    random_control,
    warp,
)

# %% tags=["parameters"]
size = 129  # side of the images in pixels; 4 k + 1, so that 5 x 5 control points fall on pixel centres
amplitude = 4.0  # standard deviation of the control points' displacements in pixels
draws = 64  # fields of each paper's kind, to measure how large they are
steps = 100  # of the registration at the end
seed = 11  # of everything random here

# %%
torch.set_num_threads(1)
torch.manual_seed(seed)
cohort = jsrt.phantom(2, seed=seed, size=size)
x, labels = cohort.images[:1], cohort.labels[:1, None]  # (N, C, H, W), grey values from -1 to 1
control = random_control(1, (5, 5), amplitude)
u = control_to_dense(control, (size, size))
y = warp(x, u, order=3, mode="border")
step = (size - 1) // 4
r, c = 3 * step, 2 * step  # a control point to look at
dr, dc = u[0, :, r, c].tolist()

# %%
figure, axes = plt.subplots(1, 3, figsize=(9.2, 3.4), layout="constrained")
for axis, field in ((axes[0], u[0].numpy()), (axes[2], np.zeros((2, size, size)))):
    plots.deformed_grid(axis, field, every=8, color=plots.COLOURS[9], linewidth=0.8)
plots.picture(axes[0], x[0, 0], title="x, and where y takes its pixels from: q + u(q)")
plots.picture(axes[1], np.ones((size, size)), title="the field: arrows from q to q + u(q)", vmin=0, vmax=1)
plots.picture(axes[2], y[0, 0], title="y = warp(x, u), and its pixels q")

q = np.mgrid[0:size:8, 0:size:8]
arrows = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.005, "color": plots.COLOURS[0]}
axes[1].quiver(q[1], q[0], *u[0, [1, 0], ::8, ::8].numpy(), **arrows)
axes[1].plot(*np.mgrid[0:size:step, 0:size:step].reshape(2, -1), "o", color="black", markersize=4, clip_on=False)
for axis, place in zip(axes, ((c + dc, r + dr), (c, r), (c, r)), strict=True):
    axis.plot(*place, "o", color=plots.COLOURS[1], markersize=9, fillstyle="none", markeredgewidth=2)
plt.show()
print(f"ringed: y[{r}, {c}] is x at ({r} {dr:+.1f}, {c} {dc:+.1f})")
print(f"largest |field - vector| at the control points: {(u[:, :, ::step, ::step] - control).abs().max():.0e} px")

# %% [markdown]
# ## How the five papers draw theirs
# A row for each paper: where the first of its random fields fetches pixels from, then the phantom warped by three of
# them. Sizes are the papers', as a share of the side of the image; `rms` is that of one component of the field over
# all draws. The table below says what stands where, and what the papers leave open.


# %%
def turned(degrees, zooms):
    pairs = zip(degrees.tolist(), zooms.tolist(), strict=True)
    return torch.cat([elasticdeform_affine(full, rotate=d, zoom=z) for d, z in pairs])


# %%
full, zero_to_one = (size, size), torch.rand(3, draws)
shift = size / 32 * torch.randint(-10, 10, (draws, 2, 1, 1)) * torch.ones(full)
turn = turned(90 * zero_to_one[0] - 45, torch.ones(draws))
anchored = torch.nn.functional.pad(random_control(draws, (3, 3), 5 * size / 240), (1, 1, 1, 1))
nearly_one = torch.eye(2, 3) + 0.1 * torch.randn(draws, 2, 3) * torch.tensor([1, 1, size / 2])
kinds = {  # fields, and the order and mode of the images
    "Bortsova": (gaussian_field(draws, full, 1000 * (size / 512) ** 2, 100 * size / 512), 3, "border"),
    "TU Delft": (torch.stack([shift, turn], 1).flatten(0, 1), 3, "constant"),
    "Chaitanya, RD": (control_to_dense(random_control(draws, (3, 3), 10 * size / 224), full), 1, "border"),
    "Vorontsov": (
        control_to_dense(anchored, full) + turned(6 * zero_to_one[1] - 3, 0.9 + 0.2 * zero_to_one[2]), 0, "mirror"
    ),
    "Gao, stand-in": (affine_field(nearly_one, full), 1, "border"),
}  # fmt: skip

# %%
figure, axes = plt.subplots(5, 4, figsize=(6.6, 8.4), layout="constrained")
for row, (name, (fields, order, mode)) in zip(axes, kinds.items(), strict=True):
    plots.deformed_grid(row[0], fields[0].numpy(), every=8)
    for axis, field in zip(row[1:], fields[:3].split(1), strict=True):
        image, outlines = warp([x, labels], field, order=[order, 0], mode=[mode, "constant"], cval=[-1, 0])
        plots.picture(axis, image[0, 0], outlines[0, 0], vmin=-1, vmax=1)
    row[0].set_ylabel(f"{name}\nrms {100 / size * fields.square().mean().sqrt():.1f} % of the side", fontsize=8)
for axis, title in zip(axes[0], ("q + u(q) of draw 1", "draw 1", "draw 2", "draw 3"), strict=True):
    axis.set_title(title, fontsize=8)
plt.show()

# %% [markdown]
# | paper | recipe | where it stands | left open, and what is done here |
# |---|---|---|---|
# | Bortsova 2019 | noise U(-1000, 1000) px, smoothed by a Gaussian of σ = 100 px, at 512 × 512; images by splines | Section 3 | border of the noise: reflected; rescaling after smoothing: none, so it stays small; spline of images: cubic, border continued |
# | TU Delft 2021 | shift by up to 10 px or rotation by up to 45°, of 32 × 32 px | Section 2, "Transformations" | cubic, filled with 0 (black), as in the released code; draws 1 and 3 are shifts, 2 is a rotation. The released code never draws +10 and draws one angle for a whole training; here one for each image |
# | Chaitanya 2019 | the baseline RD: 3 × 3 vectors, sd 10 px, upscaled "bi-cubic" to 224 × 224 | Experiments, "Aug_A,RD" | place of the outer vectors: on the outer pixels (in the released code, inside the image: steeper, some fold); images: linear, continued. The paper's own fields are learned by its network G_V: not shown |
# | Vorontsov 2019 | rotation up to 3°, zoom up to 10 %, 3 × 3 control points with "variance σ = 5" (taken as sd in px), reflected at the edges | Appendix A, "Data augmentation" | spline: cubic through the points, edges held still (as in the released code, whose spline only approximates); 5 px of 240, the longer side; nearest neighbour for images too, as released; one zoom for both axes (released: two); flips left out |
# | Gao 2021 | networks G_A and G_D learn a 2 × 3 matrix and a local field | Section 3.3 | no range is given and none can be drawn. **The row is our own stand-in**, identity + noise of sd 0.1 (of half the side for the shift), to show what such matrices do |
#
# ## Order 0, 1, 3 under the microscope
# Nearest neighbour (0) keeps labels what they are and moves edges by up to half a pixel. Linear (1) blurs. Cubic
# B-spline (3) keeps detail, at the price of small overshoots. Labels must never be interpolated: halfway from heart (1)
# to left lung (4) lie the numbers of the clavicles (2, 3). Below: 12 × 12 px of an image turned by 4°.

# %%
from matplotlib.colors import BoundaryNorm, ListedColormap

detail, tilt = (slice(80, 92), slice(86, 98)), elasticdeform_affine(full, rotate=4)
colours = {"cmap": ListedColormap(plots.OUTLINES[:6]), "norm": BoundaryNorm(np.arange(-0.5, 6), 6)}
figure, axes = plt.subplots(2, 4, figsize=(7.6, 4.1), layout="constrained")
plots.picture(axes[0, 0], x[0, 0, *detail], title="as it was", vmin=-0.5, vmax=1)
plots.picture(axes[1, 0], labels[0, 0, *detail], **colours)
for column, order in zip(axes.T[1:], (0, 1, 3), strict=True):
    image, moved = warp([x, labels.float()], tilt, order=order, crop=detail)
    plots.picture(column[0], image[0, 0], title=f"order {order}", vmin=-0.5, vmax=1)
    invented = float((~torch.isin(moved.round(), labels[0, 0, *detail])).float().mean())
    plots.picture(column[1], moved[0, 0], title=f"{invented:.0%} in invented classes", **colours)
bar = figure.colorbar(axes[1, 3].images[0], ax=axes[1], ticks=range(6), shrink=0.9)
bar.ax.set_yticklabels(cohort.classes, fontsize=7)
plt.show()

# %%
# NBVAL_CHECK_OUTPUT
q = torch.arange(64.0)
wave, moved = torch.cos(2 * torch.pi * q / 16), torch.cos(2 * torch.pi * (q + 0.5) / 16)
smooth, truth = torch.outer(wave, wave), torch.outer(moved, moved)
for order in (0, 1, 3):
    shifted = warp(smooth[None, None], torch.full((1, 2, 64, 64), 0.5), order)[0, 0]
    error = (shifted - truth)[8:-8, 8:-8].abs().max()
    print(f"order {order}: largest error for a wave of 16 px and height 1, moved by half a pixel: {error:.5f}")

# %% [markdown]
# ## One field, several tensors; elastic and affine in one resampling
# `warp` takes a list: an image, its label and, if need be, a prediction, each with its order. Every resampling costs
# sharpness, so fields are added up first: `elasticdeform_affine` gives rotation, zoom and affine map as a field.
# `crop` computes a part of the result only.

# %%
both = u + elasticdeform_affine(full, rotate=15, zoom=1.25)
x1, labels1 = warp([x, labels], both, order=[3, 0], mode=["border", "constant"])
part = (slice(20, 84), slice(20, 84))
x2, labels2 = warp([x, labels], both, order=[3, 0], mode=["border", "constant"], crop=part)
figure, axes = plt.subplots(1, 4, figsize=(9.2, 2.6), layout="constrained")
plots.picture(axes[0], x[0, 0], labels[0, 0], "image and label")
plots.picture(axes[1], y[0, 0], warp(labels, u, order=0)[0, 0], "elastic")
plots.picture(axes[2], x1[0, 0], labels1[0, 0], "elastic, turned 15°, zoomed 1.25")
plots.picture(axes[3], x2[0, 0], labels2[0, 0], "its crop, computed alone")
plt.show()
print("crop equal to the same part of the whole:", torch.equal(x2, x1[..., *part]))

# %%
try:
    import elasticdeform  # optional: nothing here needs it

    affine = elasticdeform_affine(full, rotate=15, zoom=1.25, dtype=torch.float64)
    ours = warp(x.double(), control_to_dense(control.double(), full) + affine, order=3)
    theirs = elasticdeform.deform_grid(x[0, 0].double().numpy(), control[0].double().numpy(), rotate=15, zoom=1.25)
    print(f"largest difference to elasticdeform in float64: {np.abs(ours[0, 0].numpy() - theirs).max():.0e}")
except ImportError:
    print("elasticdeform is not installed")

# %% [markdown]
# ## Inverse and composition
# Three functions, each returning a field:
#
# - `invert(u)`: v with $v(q) = -u(q + v(q))$, to 1e-4 px, by a damped fixed point for every pixel on its own;
# - `compose(first, then)`: the one field that does both, so that the image is resampled once;
# - `align(u1, u2)`: from the frame of u1 into that of u2, `compose(invert(u1), u2)` in one piece.
#
# What is left over, as pictures. Grey: there the field points out of the image, and no answer exists.

# %%
u1, u2 = control_to_dense(random_control(2, (5, 5), amplitude), full).split(1)
v, w = invert(u1), align(u1, u2)
back = warp(warp(x, u1, order=3, mode="border"), v, order=3, mode="border")
errors = {
    "|warp(warp(x, u1), invert(u1)) - x|\n(grey values, which span 2)": ((back - x)[:, 0].abs(), inside(v)),
    "|compose(u1, invert(u1))| (px)\n": (compose(u1, v).norm(dim=1), inside(v)),
    "|compose(invert(u1), u1)| (px)\n": (compose(v, u1).norm(dim=1), inside(u1)),
    "|align(u1, u2) -\ncompose(invert(u1), u2)| (px)": ((w - compose(v, u2)).norm(dim=1), inside(w)),
}

# %%
figure, axes = plt.subplots(1, 4, figsize=(11, 2.9), layout="constrained")
for axis, (title, (error, known)) in zip(axes, errors.items(), strict=True):
    axis.set_facecolor("lightgrey")
    top = float(error[known].quantile(0.995))
    plots.picture(axis, np.where(known, error, np.nan)[0], title=title, cmap="viridis", vmin=0, vmax=top)
    figure.colorbar(axis.images[0], ax=axis, shrink=0.8, extend="max", format="%.2g")
    print(f"{' '.join(title.split()):70s} mean {error[known].mean():.5f}, largest {error[known].max():.4f}")
plt.show()

# %% [markdown]
# The first is what two interpolations lose of a noisy image. The second is the solver's tolerance: `invert` solves just
# this equation. The other two interpolate the inverse between its pixels: thousandths of a pixel on average, more at
# the border, where it is continued by its outer value. That is why `align` exists.
#
# ## Folding
# Where `jacobian_determinant(u)`, the local change of area, is not above 0, the field folds: two pixels fetch from the
# same place, and the inverse is one of several or none. `invert` and `align` warn, never raise, and tell by how many
# pixels each answer is off. Mask with that: the methods here leave out what is off by more than half a pixel.

# %%
import warnings

strong = 3 * u
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    _, residual = invert(strong, return_residual=True)
print("UserWarning:", caught[0].message)
print(f"inverse off by more than half a pixel: {(residual > 0.5).float().mean():.1%} of the pixels")

# %%
from matplotlib.colors import LogNorm

figure, axes = plt.subplots(1, 3, figsize=(9.2, 3.1), layout="constrained")
determinant, scale = jacobian_determinant(strong)[0], {"cmap": "PuOr_r", "vmin": -3, "vmax": 3}
plots.deformed_grid(axes[0], strong[0].numpy(), title="q + u(q)")
plots.picture(axes[1], determinant, title="det of the Jacobian (black line: 0)", **scale)
axes[1].contour(determinant, levels=[0], colors="black", linewidths=1)
off = residual[0].clamp(min=1e-4)
plots.picture(axes[2], off, title="residual of the inverse (pixels)", cmap="viridis", norm=LogNorm(1e-4, 10))
for axis, beyond in zip(axes[1:], ("both", "min"), strict=True):
    figure.colorbar(axis.images[0], ax=axis, shrink=0.85, extend=beyond)
plt.show()

# %% [markdown]
# ## Gradients, to the image and to the field
# `warp` is linear in the image, y = W x, and its backward pass is the exact transpose for every order: <Wx, y> and
# <x, Wᵀy> agree to all digits of float64, also at the border. The field has a gradient too (orders 1 and 3), which
# elasticdeform does not give. With it 25 vectors can be *found*: below, the phantom is registered to its own warped
# copy y from above, by Adam, from a field of zeros.

# %%
for order in (0, 1, 3):
    image, other = x.double().requires_grad_(), torch.randn_like(x, dtype=torch.float64)
    warped = warp(image, u.double(), order)
    warped.backward(other)
    one, two = (warped * other).sum(), (image * image.grad).sum()
    print(f"order {order}: <Wx, y> = {one:.6f}, relative difference to <x, W'y> {abs((one - two) / one):.0e}")

# %%
guess = torch.zeros_like(control, requires_grad=True)
optimiser = torch.optim.Adam([guess], lr=0.5)
losses = []
for _ in range(steps):
    loss = (warp(x, control_to_dense(guess, full), order=3, mode="border") - y).square().mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    losses.append(loss.item())
found = control_to_dense(guess.detach(), full)
off = [float((field - u).square().sum(1).mean().sqrt()) for field in (0 * u, found)]
print(f"rms distance to the true field: {off[0]:.2f} px before, {off[1]:.3f} px after {steps} steps")

# %%
figure, axes = plt.subplots(1, 4, figsize=(10.6, 2.5), layout="constrained", width_ratios=[1.1, 1, 1, 1])
axes[0].semilogy(losses)
axes[0].set(xlabel="step", ylabel="mean squared difference")
for axis, field, name in ((axes[1], 0 * u, "before"), (axes[2], found, "after")):
    difference = (warp(x, field, order=3, mode="border") - y)[0, 0]
    plots.picture(axis, difference, title=f"difference to y {name}", cmap="PuOr_r", vmin=-1, vmax=1)
figure.colorbar(axes[2].images[0], ax=axes[2], shrink=0.85, label="grey values")
plots.deformed_grid(axes[3], u[0].numpy(), every=8, color="black", linewidth=1.4)
plots.deformed_grid(axes[3], found[0].numpy(), every=8, color=plots.COLOURS[1], title="true (black) and found grid")
plt.show()

# %% [markdown]
# ## Speed
# Measured beside other packages in one process, in turn, each after a check that both compute the same. `ratio` is
# the peer's time over ours: above 1 ours is faster. Shown are the rows that have a target; all stand in
# `results/bench/warps/warps.md`.

# %%
import pandas as pd
from IPython.display import Image, display

from fewlabels import paths

bench = paths.CHECKOUT / "results" / "bench" / "warps"
if (bench / "speed.csv").exists() and (bench / "warps.md").exists():
    print((bench / "warps.md").read_text(encoding="utf-8").split("\n\n")[1])  # machine, versions, commit, date
    speed = pd.read_csv(bench / "speed.csv").query("state == 'measured'").dropna(subset="target")
    shown = ["case", "device", "work", "peer", "ours_ms", "peer_ms", "ratio", "target", "met"]
    display(speed[shown].set_index("case").round(2))
    if (bench / "figure1.png").exists():
        display(Image(bench / "figure1.png"))
else:
    print("Not measured in this checkout: `make bench` measures it, on a quiet machine, into results/bench/warps.")

# %% [markdown]
# ## What users of elasticdeform asked for
# | asked for | where | here |
# |---|---|---|
# | to run on a GPU | [#6](https://github.com/gvtulder/elasticdeform/issues/6), closed | `warp(x.cuda(), u.cuda(), order=3)`: kernels written in Triton and proved in its interpreter; **not run on a GPU yet** |
# | a layer for models that is not slow (Keras) | [#11](https://github.com/gvtulder/elasticdeform/issues/11), open | `warp` inside any `forward` of PyTorch, compiled, the batch at once; nothing for Keras |
# | a gradient for the displacement | [#23](https://github.com/gvtulder/elasticdeform/issues/23), open | `warp(x, control_to_dense(control.requires_grad_(), size), order=3).sum().backward()` |
# | "No gradient" from the PyTorch layer | [#19](https://github.com/gvtulder/elasticdeform/issues/19), open, unanswered | `warp(x.requires_grad_(), u, order=3).sum().backward()`; checked by adjoint and finite differences |
# | to import under NumPy 2 | [#24](https://github.com/gvtulder/elasticdeform/issues/24), open | the warps import NumPy 2, SciPy, PyTorch and, if there, Numba; elasticdeform only to compare with it |
# | noise from a uint8 image and a field of zeros | [#17](https://github.com/gvtulder/elasticdeform/issues/17), open | `warp(x, u, order=3)` of integers computes and returns float32, and says so |
# | the field in the size of the image | [#14](https://github.com/gvtulder/elasticdeform/issues/14), closed | `u = control_to_dense(control, size)`; any dense field is welcome |
# | labels that stay labels | [#10](https://github.com/gvtulder/elasticdeform/issues/10), closed | `warp([image, label], u, order=[3, 0])`; order 0 keeps the integer type |
# | channels that move together | [#1](https://github.com/gvtulder/elasticdeform/issues/1), closed; [#12](https://github.com/gvtulder/elasticdeform/issues/12), open | `(N, C, H, W)`: all channels of an image share its field, no `axis` to set |
# | a batch, each image with its own field | - | `warp(x, gaussian_field(len(x), x.shape[2:], alpha, sigma))` |
#
# ## On your own images
# NumPy in, NumPy out: three lines, here for one image `(H, W)` and its mask. For volumes the same three lines, with
# control points along a third axis: `(4, 4, 4)`.

# %%
image, mask = cohort.images[1, 0].numpy(), cohort.labels[1].numpy()  # yours

u = control_to_dense(random_control(1, (4, 4), sd=0.04 * size), image.shape)
pair = [torch.from_numpy(array)[None, None] for array in (image, mask)]
new_image, new_mask = (tensor[0, 0].numpy() for tensor in warp(pair, u, order=[3, 0], mode=["mirror", "constant"]))

print(new_image.shape, new_image.dtype, new_mask.shape, new_mask.dtype)
figure = plots.pictures(np.stack([image, new_image]), np.stack([mask, new_mask]), ["yours", "new"], columns=2, size=2.4)
