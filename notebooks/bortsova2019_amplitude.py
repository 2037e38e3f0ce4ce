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
# # Bortsova et al. 2019: how large should the deformations be?
#
# *Semi-supervised medical image segmentation via learning consistency under transformations*, MICCAI 2019.
#
# **The question:** the paper smooths noise U(-1000, 1000) with a Gaussian of 100 pixels. Read literally that moves a
# pixel by 2 of 512, which is next to nothing; a forgotten factor would make it any size. Here Baseline and SemiTC are
# trained at several amplitudes, and the one to use is chosen on **validation** images. Too small, and the transforms
# teach nothing; too large, and the fields fold, so that t1 has no inverse and C must leave pixels out.
#
# `make reproduce-jsrt PROFILE=amplitude DATA=...` runs this on the real radiographs.

# %%
import sys

if "google.colab" in sys.modules:  # upload or clone the repository to /content/fewlabels first (not yet published)
    sys.path.insert(0, "/content/fewlabels/lib")  # not installed: params/ and results/ are looked for beside lib/

# %%
import torch
from IPython.display import Markdown, display

from fewlabels import plots
from fewlabels.engine import report, sweep
from fewlabels.papers.bortsova2019 import figures
from fewlabels.papers.bortsova2019 import jsrt as experiment
from fewlabels.warps import gaussian_field, gaussian_field_rms, warp

# %% tags=["parameters"]
profile = "amplitude-smoke"  # names the result folder
data = "phantom"  # "jsrt" for the real radiographs below FEWLABELS_DATA
subjects = 40  # of the phantom; JSRT has 247
size = 32  # side of the images in pixels
splits = [0]  # cross-validation splits, 0 to 4; tests are the even ids in 0, 2, 4, the odd ones in 1, 3
labels = [3]  # labelled training images
methods = ["Baseline", "SemiTC"]  # rows of the table
stop_gradient_labels = []  # label counts of the stop-gradient ablation
matched_validation_labels = []  # label counts of Table 2: as many validation images as labelled ones
seeds = [0]  # of weights, batches and transforms
train_images = 12  # labelled + unlabelled; the rest of the non-test half is validation
amplitude = [1.0, 4.0]  # rms of the fields of T in % of the side (0: the paper's literal noise); several are compared
order = 1  # interpolation of labels and predictions; 0 in the paper, which moves nothing below half a pixel
consistency_weight = 1.0  # lambda
consistency = "jaccard"  # or "mse", "kl"
gradient = "adjoint"  # or "printed", the formula of Section 2
width = 8  # channels of the first U-Net level
levels = 4  # of the U-Net
optimiser = "adadelta"  # or "adam"
learning_rate = 1.0  # of either
batch_size = 4  # images a step, labelled and unlabelled together; each is seen in two versions
steps_supervised = 60  # stage 1, shared by the methods
steps_finetune = 60  # stage 2, each method
patience = 0  # steps without a better validation mIoU before a stage ends; 0: never
validate_every = 30  # steps
loss_draws = 2  # pairs of transforms per labelled image for the final losses
loss_images = 0  # of the first so many labelled images; 0: of all
precision = "fp32"  # of the networks; "bf16" on processors with AVX512-BF16 or AMX, and on CUDA
threads = 1  # of the CPU; part of what decides the bits

# %%
config = experiment.Config(**{name: globals()[name] for name in experiment.Config.model_fields})
cohort = experiment.load(config)
folder = sweep.folder_of(experiment, config, cohort)
display(
    Markdown(f"**Data: {cohort.meta['data']}** ({cohort.meta['source']}), {len(cohort)} images of {size} × {size}.")
)

# %% [markdown]
# ## The literal field
# U(-1000, 1000) per pixel, a Gaussian of 100 pixels, 512 × 512: what comes out, in pixels.

# %%
literal = gaussian_field(8, (512, 512), *experiment.transforms(512, 0), generator=torch.Generator().manual_seed(0))
rms = gaussian_field_rms((512, 512), *experiment.transforms(512, 0))
print(f"rms {rms:.2f} px ({rms / 5.12:.2f} % of the side), largest of 8 fields {literal.abs().max():.1f} px")

# %% [markdown]
# ## The amplitudes
# One field, and one image under it, at each amplitude that is compared.

# %%
figure, axes = plots.plt.subplots(
    2, len(amplitude), figsize=(2 * len(amplitude), 4.4), layout="constrained", squeeze=False
)
for column, a in enumerate(amplitude):
    draw = torch.Generator().manual_seed(seeds[0])
    u = gaussian_field(1, (size, size), *experiment.transforms(size, a), generator=draw)
    plots.deformed_grid(axes[0, column], u[0].numpy(), every=max(1, size // 16), title=f"rms {a:g} % of the side")
    plots.picture(axes[1, column], warp(cohort.images[:1], u, order=3, mode="border")[0, 0])

# %% [markdown]
# ## The sweep
# Stage 1 is trained anew at each amplitude too: the supervised loss sees the same T.

# %%
sweep.sweep(experiment, config, cohort, folder)
scores, tables, claims = report.write(experiment, config, cohort, folder)

# %% [markdown]
# ## What comes out
# The best network on validation, mean ± sd over splits. *left out of C*: pixels whose place in the other frame is
# outside the image, or not known to half a pixel.

# %%
display(Markdown((folder / "amplitude.md").read_text()))

# %%
title = f"Data: {cohort.meta['data']}, {size} px, {labels[0]} labels, profile {profile}"
figure = figures.against_amplitude(scores, title)
plots.save(figure, folder / "figure1.png")

# %% [markdown]
# ## Chosen on validation
# The amplitude with the best mean validation mIoU over both methods and all splits; no test image takes part.

# %%
runs = scores[scores["metric"] == "validation_miou"]
means = runs.groupby("amplitude")["value"].mean().round(1)
print(f"chosen: {means.idxmax():g} % of the side ({', '.join(f'{a:g} %: {m}' for a, m in means.items())})")

# %%
# NBVAL_CHECK_OUTPUT
print(list(scores.columns))
print(sorted(scores["amplitude"].unique()))
