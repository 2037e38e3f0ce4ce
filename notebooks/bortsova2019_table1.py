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
# # Bortsova et al. 2019, Table 1: segmentation from 5 to 100 labelled radiographs
#
# *Semi-supervised medical image segmentation via learning consistency under transformations*, MICCAI 2019.
#
# **The claim:** with 5 labelled chest radiographs, consistency on 95 unlabelled ones lifts mIoU from 74 to 85 %, and
# even with labels for all it helps a little. Four networks are fine-tuned from one supervised network: `Baseline`
# (supervised loss only), `SupTC` (+ consistency on the labelled images), `SemiTC` (+ unlabelled training images),
# `SemiTC+` (+ validation and test images, without their labels).
#
# `make reproduce-jsrt` runs this in minutes on **phantoms** (profile `quick`); `PROFILE=lite` and `paper` need JSRT.
# Runs already stored are not repeated. How the method works: `bortsova2019_method`.

# %%
import sys

if "google.colab" in sys.modules:  # upload or clone the repository to /content/fewlabels first (not yet published)
    sys.path.insert(0, "/content/fewlabels/lib")  # not installed: params/ and results/ are looked for beside lib/

# %%
import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import Markdown, display

from fewlabels import plots
from fewlabels.data import jsrt
from fewlabels.engine import report, show, sweep
from fewlabels.methods.consistency import draw_transforms, reached
from fewlabels.papers.bortsova2019 import figures
from fewlabels.papers.bortsova2019 import jsrt as experiment
from fewlabels.warps import align, jacobian_determinant, warp

# %% tags=["parameters"]
profile = "smoke"  # names the result folder: the parameter file's own name; of "smoke" two runs are done
data = "phantom"  # "jsrt" for the real radiographs below FEWLABELS_DATA
subjects = 40  # of the phantom; JSRT has 247
size = 32  # side of the images in pixels
splits = [0]  # cross-validation splits, 0 to 4; tests are the even ids in 0, 2, 4, the odd ones in 1, 3
labels = [3, 6]  # labelled training images
methods = ["Baseline", "SupTC", "SemiTC", "SemiTC+"]  # rows of the table
stop_gradient_labels = []  # label counts of the stop-gradient ablation
matched_validation_labels = [3]  # label counts of Table 2: as many validation images as labelled ones
seeds = [0]  # of weights, batches and transforms
train_images = 12  # labelled + unlabelled; the rest of the non-test half is validation
amplitude = [2.0]  # rms of the fields of T in % of the side (0: the paper's literal noise); several are compared
order = 0  # interpolation of labels and predictions; 0 in the paper
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
validate_every = 12  # steps
loss_draws = 2  # pairs of transforms per labelled image for the final losses
loss_images = 0  # of the first so many labelled images; 0: of all
precision = "fp32"  # of the networks; "bf16" on processors with AVX512-BF16 or AMX, and on CUDA
threads = 1  # of the CPU; part of what decides the bits

# %%
config = experiment.Config(**{name: globals()[name] for name in experiment.Config.model_fields})
cohort = experiment.load(config)
folder = sweep.folder_of(experiment, config, cohort)
pictures = folder if config.data == "phantom" else folder / "pictures"  # what shows real images stays out of git
display(
    Markdown(f"**Data: {cohort.meta['data']}** ({cohort.meta['source']}), {len(cohort)} images of {size} × {size}.")
)

# %% [markdown]
# ## The data
# Six images with their five structures. Labels are exclusive, as the authors' loader makes them: the heart wins over
# clavicles, clavicles over lungs.

# %%
figure = plots.pictures(cohort.images[:6, 0], cohort.labels[:6], cohort.ids[:6], classes=cohort.classes)
# %% [markdown]
# ## Who is labelled
# Tests are the even or the odd ids; smaller labelled sets are contained in larger ones.

# %%
rows = []
for run in experiment.grid(config):
    if run.validation != "all":
        continue  # Table 2's
    split = jsrt.splits(cohort.ids, run.split, run.labels, config.train_images)
    sizes = {"labelled": len(split.labelled), "unlabelled": len(experiment.unlabelled(split, run.method))}
    rows.append({"split": run.split, "labels": run.labels, "method": run.method} | sizes)
    rows[-1] |= {"validation": len(split.validation), "test": len(split.test)}
pd.DataFrame(rows).drop_duplicates(["labels", "method"]).drop(columns="split").style.set_uuid("plan").hide()

# %% [markdown]
# ## The transforms
# Three fields of T at this profile's amplitude, and the same image under each. Half of all transforms are the identity.

# %%
torch.manual_seed(config.seeds[0])
fields = draw_transforms(64, (size, size), *experiment.transforms(size, amplitude[0]))
moved = fields[fields.flatten(1).any(1)]
figure, axes = plt.subplots(2, 3, figsize=(6, 4.2), layout="constrained")
for column, u in enumerate(moved[:3]):
    plots.deformed_grid(axes[0, column], u.numpy(), every=max(1, size // 16), title=f"largest {u.abs().max():.1f} px")
    plots.picture(axes[1, column], warp(cohort.images[:1], u[None], order=3, mode="border")[0, 0])
w, residual = align(moved[:15], moved[1:16], return_residual=True)
folds = float((jacobian_determinant(moved).flatten(1).min(1).values <= 0).float().mean())
left_out = 1 - float(reached(w, residual).float().mean())
print(f"rms {moved.square().mean().sqrt():.2f} px; {folds:.0%} of the fields fold somewhere; "
      f"{left_out:.1%} of the pixels are left out of the consistency loss")  # fmt: skip

# %% [markdown]
# ## The sweep
# Every run of Table 1 that is not stored yet. It can be interrupted at any time and goes on from its last checkpoint.

# %%
sweep.sweep(
    experiment, config, cohort, folder,
    only=lambda run: run.validation == "all", limit=2 if profile == "smoke" else None,
)  # fmt: skip
scores, tables, claims = report.write(experiment, config, cohort, folder)

# %% [markdown]
# ## The table beside the paper's
# Best network on validation, scored once on the test images; mean ± sd over splits.

# %%
display(Markdown((folder / "table1.md").read_text()))

# %%
title = f"Data: {cohort.meta['data']}, {size} px, profile {profile}"
figure = figures.against_labels(tables["table1"], title)
plots.save(figure, folder / "figure1.png")

# %% [markdown]
# ## How they learned
# Stage 2 of each method, first split, fewest labels.

# %%
first = lambda run: (run.split, run.labels, run.validation) == (min(splits), min(labels), "all")  # noqa: E731
records = {run: record for run, record in sweep.records(experiment, config, folder).items() if first(run)}
histories = {run.method: record["history"] for run, record in records.items()}
figure = figures.learning_curves(histories, f"{title}, {min(labels)} labels")
plots.save(figure, folder / "figure2.png")

# %% [markdown]
# ## What they see
# The same three test images, segmented by each method: the best, the middle and the worst of the first
# method's.

# %%
trained = show.trained(experiment, config, folder, lambda run: experiment.build(config, run.method), first)
if trained:
    record = next(iter(records.values()))
    ranking = pd.Series(record["scores"]["miou"]["all"], index=record["subjects"]).sort_values(ascending=False).index
    chosen = cohort.index([ranking[0], ranking[len(ranking) // 2], ranking[-1]])
    maps = {run.method: method.predict(cohort.images[chosen]).argmax(1) for run, method in trained.items()}
    maps = {"truth": cohort.labels[chosen]} | maps
    figure = plots.compared(cohort.images[chosen, 0], maps, classes=cohort.classes)
    plots.save(figure, pictures / "figure3.png")

# %% [markdown]
# ## The verdicts
# Each claim with the tolerance that was fixed beforehand (`lib/fewlabels/papers/bortsova2019/published.yaml`). A claim needs
# as many runs as it names; fewer is *not run*.

# %%
show.verdicts(claims)

# %%
# NBVAL_CHECK_OUTPUT
print(list(scores.columns))
print(sorted(scores["metric"].unique()))
print(f"{len(claims)} claims, {sorted(claims['verdict'].unique())}")
