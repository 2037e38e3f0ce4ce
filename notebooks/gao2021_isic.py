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
# # Gao et al. 2021, Figure 3 and Table 1: skin lesions
#
# *Enabling Data Diversity: Efficient Automatic Augmentation via Regularized Adversarial Training*, IPMI 2021.
#
# **The claim:** generators that learn to make training images *hard* for the classifier, but real-looking and near the
# original, raise its balanced accuracy (BMCA, the mean recall of seven classes) above RandAugment, Fast AutoAugment
# and learned augmentation that helps the task (`cGAN`, Chaitanya et al. 2019), for 1.6 to 2.1 times the time of
# training without augmentation; each part helps: three kinds of transformation, the condition on the image, the
# discriminator:
#
# $$\min_T \max_G\ \mathbb E[L(G(z, x) \oplus x, y; T)] \tag{2}$$
# $$L = L_{adv} + \lambda L_{GAN} + \gamma L_{reg}, \qquad \lambda = 1,\ \gamma = 0.1 \tag{5}$$
#
# No code of this paper was ever published: what its text leaves open is chosen here and said. How the method works:
# `gao2021_method`.
#
# `make reproduce-isic` runs this in minutes on **phantoms** (profile `quick`); `PROFILE=lite` and `paper` need ISIC 2018
# or HAM10000. Runs already stored are not repeated.

# %%
import sys

if "google.colab" in sys.modules:  # upload or clone the repository to /content/fewlabels first (not yet published)
    sys.path.insert(0, "/content/fewlabels/lib")  # not installed: params/ and results/ are looked for beside lib/

# %%
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import Markdown, display

from fewlabels import plots
from fewlabels.augment import policies
from fewlabels.engine import report, show, sweep
from fewlabels.files import write_text
from fewlabels.papers.gao2021 import figures, isic_rows
from fewlabels.papers.gao2021 import isic as experiment
from fewlabels.papers.gao2021 import overhead as isic_overhead
from fewlabels.papers.gao2021 import rows as gao_rows
from fewlabels.papers.gao2021.isic_training import split_of

# %% tags=["parameters"]
profile = "smoke"  # names the result folder: the parameter file's own name; of "smoke" two runs are done
data = "phantom"  # "isic" for the real images below FEWLABELS_DATA
size = 32  # side of the images in pixels
methods = ["no-aug", "Affine", "Comb"]  # rows of the figure
backbones = ["ResNet-10-w16"]  # the paper's six, or this one for a CPU
folds = [0]  # of five; each is tested by networks trained on the other four
seeds = [0]  # repeats
extra_methods = ["Comb (w/o discriminator)"]  # rows that are run on fewer folds:
extra_folds = [0]  # these
training_images = 0  # drawn from the other folds; 0: all of them
weights = ""  # file with the backbone's ImageNet weights; empty: from scratch
class_weights = "none"  # of the cross-entropy; or "inverse" frequency
generator_width = 2  # channels at full size of G; 16 after DCGAN
discriminator_width = 4  # channels of the first layer of D; DCGAN has 64
lam = 1.0  # lambda, of L_GAN, Eq. 5
gamma = 0.1  # of L_reg, Eq. 5
regulariser = "mean_square"  # ||.|| of L_reg, Eq. 6 to 8; or "norm", as printed
max_displacement = 1.0  # of G_D, in half sides; 1.0 is tanh as it is
max_appearance = 1.0  # of G_I, of the images' 0 to 1; the same
saturating = False  # G minimises log(1 - D) as written, not -log D
rand_augment = [[2, 10]]  # RandAugment's points N, M to try
policy_trials = 4  # of Fast AutoAugment's search
policies_kept = 2  # of them, the best
cgan_width = 2  # channels of the first level of cGAN's G and D; 16 in its paper
steps_generator = 6  # of each of cGAN's two pre-trainings
batch_size = 32  # images, in as many parts as there are kinds, clean ones included
learning_rate = 0.001  # of Adam for T, to 0 along half a cosine
weight_decay = 0.0001  # of T
learning_rate_gan = 0.002  # of Adam for G and D
steps = 12  # of every training of T
epochs = 4  # into which the steps are cut: what is looked at at the end of each
precision = "fp32"  # of the networks; "bf16" on processors with AVX512-BF16 or AMX, and on CUDA
threads = 1  # of the CPU; part of what decides the bits

# %%
config = experiment.Config(**{name: globals()[name] for name in experiment.Config.model_fields})
cohort = experiment.load(config)
folder = sweep.folder_of(experiment, config, cohort)
pictures = folder if config.data == "phantom" else folder / "pictures"  # what shows real images stays out of git
split = split_of(config, cohort, config.folds[0])
parts = {"training": split.labelled, "test": split.test}
counts = {name: torch.bincount(cohort.labels[cohort.index(ids)], minlength=7).tolist() for name, ids in parts.items()}
display(Markdown(f"**Data: {cohort.meta['data']}** ({cohort.meta['source']})."))
pd.DataFrame(counts, index=cohort.classes).T.style.set_uuid("parts").set_caption(f"images of fold {config.folds[0]}")

# %% [markdown]
# ## The data
# Two training images of each class, with the outline of the lesion. All images of a lesion are in one fold: the real
# set has several of many lesions, and torn apart they would tell a network the answers.


# %%
def rgb(images):
    """`(N, 3, H, W)` -> `(N, H, W, 3)` within 0 to 1, for a picture."""
    return images.movedim(1, -1).clamp(0, 1)


index = cohort.index(split.labelled)
shown = torch.cat([index[cohort.labels[index] == c][:2] for c in range(7)])
masks = cohort.meta["masks"]
figure = plots.pictures(
    rgb(cohort.images[shown]), None if masks is None else masks[shown].long(),
    [cohort.classes[c] for c in cohort.labels[shown]], columns=7, size=0.75,
)  # fmt: skip

# %% [markdown]
# ## What the paper leaves open
#
# | | paper | here |
# |---|---|---|
# | code | none published | this |
# | image size, normalisation | not said | `size`, square; ImageNet's mean and sd inside T |
# | weights | not said | from scratch, or a local file in `weights` |
# | imbalance of the classes | not said | plain cross-entropy, or `class_weights`; the row `no-aug (class weights)` has them |
# | folds | five | stratified by class, no lesion in two |
# | optimisers | not said | Adam; T's rate falls to 0 along half a cosine |
# | widths of G and D | 6, 4 and 4 convolutions; "similar to DCGAN" | DCGAN's halving from `generator_width` |
# | norms of Eq. 6 to 8 | \|\|.\|\|<sub>2</sub> | `regulariser`: that norm of each image, or means of squares; Eq. 6 in half sides, Eq. 7 in pixels a pixel |
# | range of G_D and G_I | tanh: half an image, the whole of the greys | the same; `max_displacement`, `max_appearance` bound it |
# | batch of a single model | not said | half clean, half augmented |
# | RandAugment's choice of N, M | 12 trainings | points of `rand_augment`, judged by a quarter of the training lesions |
# | Fast AutoAugment | density matching | once, on the same quarter, `policy_trials` policies |
# | cGAN | pre-trained, then fixed | Chaitanya et al. 2019 with the task's gradient; unlabelled images are the training images |
#
# ## One batch of each row
# Images as they are, by RandAugment, and by fresh generators of the row `Comb`, whose last layers were given random
# weights for the picture: they start at no augmentation.

# %%
torch.manual_seed(config.seeds[0])
x, y = cohort.images[shown[::2]], cohort.labels[shown[::2]]
fresh = isic_rows.adversarial(config, config.backbones[0], "Comb", F.cross_entropy, "cpu")
strips = {"as they are": x, "RandAugment": policies.rand_augment(x, *config.rand_augment[-1])}
with torch.no_grad():
    for G in fresh.G:
        G.last.weight.normal_(std=0.1 if G.kind == "affine" else 0.02)
        strips[f"G, {G.kind}"] = fresh.augment(G, x, y)[0]
titles = [name if i == 0 else "" for name in strips for i in range(7)]
figure = plots.pictures(rgb(torch.cat([*strips.values()])), titles=titles, columns=7, size=0.75)

# %% [markdown]
# ## The sweep
# Every run that is not stored yet. It can be interrupted at any time and goes on from its last checkpoint.

# %%
sweep.sweep(experiment, config, cohort, folder, limit=2 if profile == "smoke" else None)
scores, tables, claims = report.write(experiment, config, cohort, folder)

# %% [markdown]
# ## The tables beside the paper's
# The last network, scored once on the fold it has not seen. Nothing was chosen by that fold.

# %%
for name in tables:
    display(Markdown((folder / f"{name}.md").read_text()))

# %%
title = f"Data: {cohort.meta['data']}, {config.size} px, profile {profile}"
figure = plots.by_structure(tables["figure3_left"], config.backbones, title, "BMCA", spread="folds")
plots.save(figure, folder / "figure3.png")

# %% [markdown]
# ## Is it harder than chance?
# After each epoch, T's loss on 64 training images as they are, as the generators transform them, and as random
# transformations of the same strength (RMS) do.

# %%
histories = {}
for run in experiment.grid(config):
    record = sweep.stored(experiment, config, run, folder)
    if record and run.method in gao_rows.OURS and (run.fold, run.seed) == (config.folds[0], config.seeds[0]):
        histories[run.method] = record["history"]
if histories:
    figure = figures.challenge(histories, title)
    plots.save(figure, folder / "figure_challenge.png")

# %% [markdown]
# ## Where do they act?
# How much stronger deformation (its gradient) and change of appearance are inside the lesions of test images than
# outside, beside the same for masks of other images and for a Gaussian window in the middle. The paper says "highly
# centered around the lesion region".

# %%
kinds = [f"{name}_{kind}" for name in ("lesion", "shuffled", "window") for kind in ("deformation", "appearance")]
where = scores[scores["metric"].isin(kinds)]
where.pivot_table(index="method", columns="metric", values="value").style.set_uuid("where").format(
    precision=2, na_rep=""
)

# %% [markdown]
# What they make of test images in the end, by the networks on this machine.

# %%
trained = show.trained(
    experiment, config, folder,
    build=lambda run: isic_rows.adversarial(config, run.backbone, run.method, F.cross_entropy, "cpu"),
    only=lambda run: run.method == "Comb" and (run.fold, run.seed) == (config.folds[0], config.seeds[0]),
)  # fmt: skip
strips = {"as they are": cohort.images[cohort.index(split.test)[:7]]}
for method in list(trained.values())[:1]:
    torch.manual_seed(0)
    with torch.no_grad():
        strips |= {f"G, {G.kind}": method.augment(G, strips["as they are"], None)[0] for G in method.G}
titles = [name if i == 0 else "" for name in strips for i in range(7)]
figure = plots.pictures(rgb(torch.cat([*strips.values()])), titles=titles, columns=7, size=0.75)
plots.save(figure, pictures / "figure4.png")

# %% [markdown]
# ## Table 1: what it costs
# Steps of all methods in turn on one batch, in one process, as multiples of a training without augmentation; the
# paper's GPU hours (ResNet-50, 224 px or more, RTX 8000) so too. A small network on a CPU makes the generators' share
# larger than a ResNet-50 on a GPU does.

# %%
device = "cuda" if torch.cuda.is_available() else "cpu"
torch.set_num_threads(config.threads)
if not (folder / "table1.md").exists():  # measured once, as runs are stored
    steps_of = isic_overhead.steps_of(config, config.backbones[0], cohort, device)
    seconds = isic_overhead.seconds_of(steps_of, 2 if profile == "smoke" else 9, device)
    memory = {name: isic_overhead.memory_of(step, device) for name, step in steps_of.items()}
    costs = isic_overhead.table(config, seconds, memory)
    write_text(folder / "table1.md", isic_overhead.markdown(costs, config, cohort, device))
display(Markdown((folder / "table1.md").read_text()))

# %% [markdown]
# ## The verdicts
# Each claim with the tolerance that was fixed beforehand (`lib/fewlabels/papers/gao2021/published.yaml`). A claim needs as many
# runs as it names; fewer is *not run*. Those of head-and-neck CT are judged in `gao2021_oar`.

# %%
show.verdicts(claims)

# %%
# NBVAL_CHECK_OUTPUT
print(list(scores.columns))
print(sorted(scores["metric"].unique()))
print(f"{len(claims)} claims, {sorted(claims['verdict'].unique())}")
