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
# # Chaitanya et al. 2019, Table 1: the heart from one or three labelled volumes
#
# *Semi-supervised and task-driven data augmentation*, IPMI 2019.
#
# **The claim:** with one labelled volume, augmentation by *learned* deformations and intensities (`A+GD+GI`) segments
# the heart better than affine (`A`), random elastic (`A+RD`) and random contrast (`A+RI`) augmentation, than Mixup, and
# than semi-supervised adversarial training. The generators learn from 25 more volumes without labels, and from the
# task itself:
#
# $$\min_{w_S, w_G}\ \mathcal L_S(\{X_L, Y_L\} \cup \{X_G, Y_G\}) + \mathcal L_{reg, w_G}(\{X_L\} \cup \{X_{UL}\}) \tag{4}$$
#
# In the code that the authors released the first term never reaches a generator. Here it does; the rows `(no task
# gradient)` are as released, and say what it is worth. How the method works: `chaitanya2019_method`.
#
# `make reproduce-acdc` runs this in minutes on **phantoms** (profile `quick`); `PROFILE=lite` and `paper` need ACDC.
# Runs already stored are not repeated.

# %%
import sys

if "google.colab" in sys.modules:  # upload or clone the repository to /content/fewlabels first (not yet published)
    sys.path.insert(0, "/content/fewlabels/lib")  # not installed: params/ and results/ are looked for beside lib/

# %%
import pandas as pd
import torch
from IPython.display import Markdown, display

from fewlabels import plots
from fewlabels.data import acdc
from fewlabels.engine import report, show, sweep
from fewlabels.papers.chaitanya2019 import acdc as experiment
from fewlabels.papers.chaitanya2019 import figures
from fewlabels.papers.chaitanya2019 import rows as acdc_rows

# %% tags=["parameters"]
profile = "smoke"  # names the result folder: the parameter file's own name; of "smoke" two runs are done
data = "phantom"  # "acdc" for the real volumes below FEWLABELS_DATA
phase = "ES"  # end-systole, as in the paper; "ED", end-diastole, is what the released code reads
size = 32  # side of the images in pixels; 224 in the paper
field = 0  # side of what they show about the centre, in the paper's pixels; 0: all 224
methods = ["A", "A+GD+GI+Mixup", "Adv Tr SSL"]  # rows of the table
labels = [1]  # labelled volumes, 1 and 3
splits = [1]  # labelled sets, 1 to 5
seeds = [0]  # repeats
extra_methods = ["A+GD (no task gradient)"]  # rows that are run behind the others, with
extra_labels = [1]  # these numbers of labelled volumes,
extra_splits = [1]  # on these labelled sets
width = 8  # channels of the first level of all networks; 16 in the paper
norm_momentum = 0.1  # share of a new batch in running statistics; in the released code 0.01
lambda_adv = 1.0  # of the adversarial loss, Eq. 5
lambda_big = 0.001  # of L_big, Eq. 5
loss = "weighted_cross_entropy"  # L_S: the paper's; or "cross_entropy_dice", without weights
background_weight = 0.1  # in the paper's loss of the final training; the paper's words: 0
mixup_alpha = 0.1  # of the beta distribution; the released code's
adversarial_weight = 0.1  # of the rows Adv Tr, at the end of their training
batch_size = 20  # slices
learning_rate = 0.001  # of Adam, for all networks
steps_generator = 40  # in which a generator, S and D learn together
warm_up = 10  # the first of them, in which S learns alone
steps = 40  # of S, in the end
validate_every = 10  # steps
realism_steps = 10  # of a fresh discriminator that tells real from augmented images; 0: not done
precision = "fp32"  # of the networks; "bf16" on processors with AVX512-BF16 or AMX, and on CUDA
threads = 1  # of the CPU; part of what decides the bits

# %%
config = experiment.Config(**{name: globals()[name] for name in experiment.Config.model_fields})
cohort = experiment.load(config)
folder = sweep.folder_of(experiment, config, cohort)
pictures = folder if config.data == "phantom" else folder / "pictures"  # what shows real images stays out of git
split = acdc.splits(cohort.ids, config.labels[0], config.splits[0])
parts = {name: (len(experiment.patients(ids)), len(ids)) for name, ids in vars(split).items()}
display(Markdown(f"**Data: {cohort.meta['data']}** ({cohort.meta['source']})."))
pd.DataFrame(parts, index=["patients", "slices"]).style.set_uuid("parts")

# %% [markdown]
# ## The data
# The whole labelled set, from base to apex: all that S sees with labels. Then a slice of each of five patients without.

# %%
shown = cohort.index(split.labelled)[:12]
figure = plots.pictures(
    cohort.images[shown, 0], cohort.labels[shown], [cohort.ids[i] for i in shown], classes=cohort.classes
)

# %%
others = [cohort.index([i for i in split.unlabelled if i.startswith(patient)]) for patient in
          experiment.patients(split.unlabelled)[::5]]  # fmt: skip
middle = [int(index[len(index) // 2]) for index in others]
pathology = [cohort.meta["pathology"][cohort.groups[i]] for i in middle]
figure = plots.pictures(cohort.images[middle, 0], titles=pathology, columns=5, vmin=-0.1, vmax=1.5)

# %% [markdown]
# ## Paper, released code, and what runs here
#
# | | paper | released code | here |
# |---|---|---|---|
# | task loss in the generators | Eq. 4 | none: S is fed with images of an earlier call | Eq. 4; `(no task gradient)` |
# | S's batch while G learns | half generated | 6 to 15 of 20 | half |
# | D's real images | labelled and unlabelled | unlabelled | labelled and unlabelled |
# | background in the final loss | left out | weight 0.1 | `background_weight`, 0.1: without, nothing is ever background |
# | L_S | weighted cross-entropy | weighted cross-entropy | `loss`: that, or cross-entropy + Dice of the three structures |
# | field of view | 224 px of 1.367 mm | the same | `field`: that, or the middle of it, whatever is there; voxels outside count as background in every score |
# | cardiac phase | end-systole | frame 1, end-diastole | `phase`, ES |
# | G's loss of D | log(1 - D) | -log D | -log D |
# | \|v\|, \|ΔI\| of L_big | sum (norm) | mean | mean |
# | augmented half | half affine, half augmented | 5/20 and fewer of each kind | half, in thirds where there are three kinds |
# | interpolation | affine, then deformation | two, one after the other | one, of both fields together |
# | outside the image | (open) | 0 for affine maps, the nearest border pixel for v | 0 |
# | labels under affine maps | (open) | order 0, before one-hot | one-hot, order 1, as under v |
#
# ## One batch of each row
# Affine images are the first half of a batch (not shown), augmented ones the second. Generators are fresh here: these
# fields are not learned yet.

# %%
torch.manual_seed(config.seeds[0])
index = cohort.index(split.labelled)
batch = index[torch.arange(16) % len(index)]
fresh = {name: acdc_rows.task_driven(config, name, "", "cpu").G.eval() for name in acdc_rows.GENERATORS}
rows = ("A", "A+RD", "A+RI", "A+GD", "A+GI", "A+GD+GI", "A+Mixup")
images, masks = zip(*[acdc_rows.augmentation(config, row, fresh, "cpu")(cohort.images[batch], cohort.labels[batch])
                      for row in rows])  # fmt: skip
figure = plots.pictures(
    torch.cat([x[10:16, 0] for x in images]), torch.cat([y[10:16].argmax(1) for y in masks]),
    titles=[row for row in rows for _ in range(6)], classes=cohort.classes, vmin=-0.1, vmax=1.5,
)  # fmt: skip

# %% [markdown]
# ## The sweep
# Every run that is not stored yet, its generators first. It can be interrupted at any time and goes on from its last
# checkpoint.

# %%
sweep.sweep(experiment, config, cohort, folder, limit=2 if profile == "smoke" else None)
scores, tables, claims = report.write(experiment, config, cohort, folder)

# %% [markdown]
# ## The table beside the paper's
# The network that was best on two validation patients, scored once on the volumes of 20 test patients at their native
# resolution.

# %%
display(Markdown((folder / "table1.md").read_text()))

# %%
title = f"Data: {cohort.meta['data']}, {config.size} px, profile {profile}"
figure = figures.by_volumes(tables["table1"], ("RV", "Myo", "LV", "mean"), title)
plots.save(figure, folder / "figure1.png")

# %% [markdown]
# ## What the generators do
# Means over labelled slices and random vectors: |v| in pixels of the paper's grid of 224, the share of the fields that
# fold somewhere, |ΔI|. And how well a discriminator that is trained for nothing else tells the row's images from real
# ones (area under its ROC curve; that of A says how much of it is a matter of whose images they are).

# %%
kinds = ["mean_abs_v", "folding", "mean_abs_i", "realism_auc", "validation_dice"]
measured = scores[(scores["subject"] == "all") & scores["metric"].isin(kinds)]
measured.pivot_table(index=["labels", "method"], columns="metric", values="value").style.set_uuid("kinds").format(
    precision=3, na_rep=""
)

# %% [markdown]
# ## What they see
# The paper's Figure 2: one slice of a test patient, segmented by every method whose network is on this machine.

# %%
first = (config.labels[0], config.splits[0], config.seeds[0])
trained = show.trained(
    experiment, config, folder, lambda run: acdc_rows.segmenter(config, "cpu"),
    only=lambda run: (run.labels, run.split, run.seed) == first,
)  # fmt: skip
patient = experiment.patients(split.test)[0]
slices = cohort.index([i for i in split.test if i.startswith(patient)])
middle = slices[len(slices) // 2 : len(slices) // 2 + 1]
maps = {"truth": cohort.labels[middle]}
maps |= {run.method: S(cohort.images[middle]).argmax(1) for run, S in trained.items()}
figure = plots.compared(cohort.images[middle, 0], maps, columns=5, classes=cohort.classes, vmin=-0.1, vmax=1.5)
plots.save(figure, pictures / "figure2.png")

# %% [markdown]
# ## The verdicts
# Each claim with the tolerance that was fixed beforehand (`lib/fewlabels/papers/chaitanya2019/published.yaml`). A claim needs
# as many runs as it names; fewer is *not run*.

# %%
show.verdicts(claims)

# %%
# NBVAL_CHECK_OUTPUT
print(list(scores.columns))
print(sorted(scores["metric"].unique()))
print(f"{len(claims)} claims, {sorted(claims['verdict'].unique())}")
