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
# # Gao et al. 2021, Table 2: organs at risk of the head and neck
#
# *Enabling Data Diversity: Efficient Automatic Augmentation via Regularized Adversarial Training*, IPMI 2021.
#
# **The claim:** a 3-D ResUNet that is trained on what adversarial generators make of its patches (an affine map, a
# deformation, a change of appearance; or all three, each with batch norms of its own) segments nine organs better than
# without augmentation (.784 → .814 Dice), with nnU-Net's (.786, without gamma .798) or with generators that help the
# task (`cGAN`, .803). How the method works: `gao2021_method`.
#
# The data of the paper, MICCAI 2015 (PDDCA), is read from `pddca/`; where it is missing, the head-and-neck CTs of
# OpenKBP, other patients with other organs, may stand in for it, and every table says so.
#
# `make reproduce-oar` runs this in minutes on **phantoms** (profile `quick`); `PROFILE=lite` and `paper` need CT. Runs
# already stored are not repeated.

# %%
import sys

if "google.colab" in sys.modules:  # upload or clone the repository to /content/fewlabels first (not yet published)
    sys.path.insert(0, "/content/fewlabels/lib")  # not installed: params/ and results/ are looked for beside lib/

# %%
import pandas as pd
import torch
from IPython.display import Markdown, display

from fewlabels import plots
from fewlabels.augment.nnunet import settings
from fewlabels.engine import report, show, sweep
from fewlabels.papers.gao2021 import oar as experiment
from fewlabels.papers.gao2021 import oar_rows
from fewlabels.papers.gao2021 import rows as gao_rows

# %% tags=["parameters"]
profile = "smoke"  # names the result folder: the parameter file's own name; of "smoke" two runs are done
data = "phantom"  # "oar" for the real CTs below FEWLABELS_DATA
spacing = [8.0, 8.0, 8.0]  # of the grid all patients are put on, mm (z, y, x)
grid = [24, 32, 32]  # its size in voxels
patch = [16, 24, 24]  # of a training batch, and the sliding window
methods = ["Baseline", "nnUNet Full", "Affine", "Comb"]  # rows of the table
seeds = [0]  # repeats
width = 2  # channels of the first level of the ResUNet
levels = 3  # of the ResUNet
nnunet = "v1"  # what nnUNet Full and Reduce do: nnU-Net v1's own values, or batchgenerators' "class defaults"
validation = 0  # so many training patients are scored in place of the test patients (probes)
generator_width = 1  # channels at full size of G; 16 after DCGAN
discriminator_width = 2  # channels of the first layer of D; DCGAN has 64
lam = 1.0  # lambda, of L_GAN, Eq. 5
gamma = 0.1  # of L_reg, Eq. 5
regulariser = "mean_square"  # ||.|| of L_reg, Eq. 6 to 8; or "norm", as printed
max_displacement = 1.0  # of G_D, in half sides; 1.0 is tanh as it is
max_appearance = 1.0  # of G_I, in 1000 HU; the same
saturating = False  # G minimises log(1 - D) as written, not -log D
cgan_width = 2  # channels of the first level of cGAN's G; 16 in its paper, in 2-D
steps_generator = 4  # of each of cGAN's two pre-trainings
batch_size = 8  # patches, in as many parts as there are kinds, clean ones included
learning_rate = 0.01  # of Adam for T, to 0 along half a cosine
weight_decay = 0.0001  # of T
learning_rate_gan = 0.002  # of Adam for G and D
steps = 8  # of T
epochs = 4  # into which the steps are cut: a checkpoint after each
precision = "fp32"  # of the networks; "bf16" on processors with AVX512-BF16 or AMX, and on CUDA
threads = 1  # of the CPU; part of what decides the bits

# %%
config = experiment.Config(**{name: globals()[name] for name in experiment.Config.model_fields})
cohort = experiment.load(config)
folder = sweep.folder_of(experiment, config, cohort)
pictures = folder if config.data == "phantom" else folder / "pictures"  # what shows real images stays out of git
split = experiment.split_of(config, cohort)
scored = split.validation or split.test
present = cohort.meta["present"]
counts = {
    name: {"patients": len(ids), "all organs": int(present[cohort.index(ids), 0].sum())}
    | dict(zip(cohort.classes[1:], present[cohort.index(ids), 1:].sum(0).tolist(), strict=True))
    for name, ids in (("training", split.labelled), ("scored", scored))
}
display(Markdown(f"**Data: {cohort.meta['data']}** ({cohort.meta['source']})."))
pd.DataFrame(counts).T.style.set_uuid("parts").set_caption("patients in whom an organ was delineated")


# %% [markdown]
# ## The data
# For six training patients, the axial slice with most delineated voxels, and the sagittal one below. Patients in whom
# organs are missing train the others: their background, behind which the missing organs are, is left out of the loss.


# %%
def busiest(patient, axis):
    """Image and labels of the slice across an axis that has the most labelled voxels; feet down."""
    [i] = cohort.index([patient])
    volume, labels = cohort.images[i, 0], cohort.labels[i]
    others = [a for a in range(3) if a != axis]
    k = int((labels > 0).sum(others).argmax())
    image, mask = volume.select(axis, k), labels.select(axis, k)
    return (image, mask) if axis == 0 else (image.flip(0), mask.flip(0))


window = {"vmin": -0.2, "vmax": 0.5, "aspect": "equal"}
for axis in (0, 2):
    images, masks = zip(*[busiest(patient, axis) for patient in split.labelled[:6]], strict=True)
    look = window | ({} if axis == 0 else {"aspect": cohort.spacing_mm[0] / cohort.spacing_mm[1]})
    figure = plots.pictures(torch.stack(images), torch.stack(masks), classes=cohort.classes, **look)

# %% [markdown]
# ## What the paper leaves open
#
# | | paper | here |
# |---|---|---|
# | code | none published | this |
# | preprocessing | not said | `spacing`, HU clipped to -1000 to 1500, (HU + 100) / 1000; a crop found from the CT alone |
# | patients with missing organs | not said (16 of 38 in PDDCA) | left out of the loss, and the background with them |
# | 3D ResUNet | the name | pre-activation blocks, after the authors' later code, with batch norm |
# | loss | not said | cross-entropy + soft Dice, 1:1 |
# | random crop | yes | any place in any volume |
# | labels of deformed patches | "applied to x and y simultaneously" | nearest voxel, no gradient: G challenges T by images |
# | batch | not said | four parts need `batch_size` 4 or more |
# | nnU-Net's augmentation | "default parameters defined in the library" | nnU-Net v1's own, printed below; on larger patches, beyond the volume's border too, then cropped. `nnUNet (class defaults)`: those of batchgenerators' classes |
# | cGAN in 3-D | "extended to 3D" | Chaitanya et al. 2019 with the task's gradient; D as ours |
# | inference, model selection | not said | windows half a patch apart, averaged; the last network |
#
# nnU-Net's operators and their ranges, for the verdict on `Full` against `Reduce` (which has no gamma):

# %%
for operator, values in settings(full=True, policy=config.nnunet).items():
    print(operator, {k: v for k, v in values.items() if not callable(v)})

# %% [markdown]
# ## One patch of each row
# By nnU-Net's augmentation, and by fresh generators of the row `Comb`, whose last layers were given random weights for
# the picture: they start at no augmentation. The middle slice of each patch; labels follow.

# %%
torch.manual_seed(config.seeds[0])
index = cohort.index(split.labelled[:6])
corners = [[(n - p) // 2 for n, p in zip(config.grid, config.patch, strict=True)]] * 6
x = experiment.crops(cohort.images, index, corners, config.patch)
t = oar_rows.targets_of(experiment.crops(cohort.labels, index, corners, config.patch), present[index])


def middles(made):
    """The middle slices of patches and their labels, a row each."""
    middle, titles = config.patch[0] // 2, [name if i == 0 else "" for name in made for i in range(len(x))]
    masks = [t[:, :, middle].clamp(min=0).argmax(1) for _, t in made.values()]
    images = [x[:, 0, middle] for x, _ in made.values()]
    return plots.pictures(torch.cat(images), torch.cat(masks), titles, classes=cohort.classes, **window)


# %%
rows = {"as they are": (x, t)}
unit = oar_rows.grey_unit(cohort.images, cohort.labels)
rows["nnUNet Full"] = oar_rows.reduce_to(config, "nnUNet Full", unit)(x, t)
fresh = oar_rows.adversarial(config, "Comb", oar_rows.target(config, len(cohort.classes), "cpu"), "cpu")
with torch.no_grad():
    for G in fresh.G:
        G.last.weight.normal_(std={"affine": 0.1, "deformation": 0.005, "appearance": 0.03}[G.kind])
        rows[f"G, {G.kind}"] = fresh.augment(G, x, t)[:2]
figure = middles(rows)

# %% [markdown]
# ## The sweep
# Every run that is not stored yet. It can be interrupted at any time and goes on from its last checkpoint.

# %%
sweep.sweep(experiment, config, cohort, folder, limit=2 if profile == "smoke" else None)
scores, tables, claims = report.write(experiment, config, cohort, folder)

# %% [markdown]
# ## The table beside the paper's
# The last network, scored once on the test patients, at the spacing of their files.

# %%
display(Markdown((folder / "table2.md").read_text()))

# %%
title = f"Data: {cohort.meta['data']}, {' x '.join(map(str, config.spacing))} mm, profile {profile}"
figure = plots.by_structure(tables["table2"], ["average Dice"], title, "Dice", spread="seeds")
plots.save(figure, folder / "figure_table2.png")

# %% [markdown]
# ## What they make, and what T sees
# The paper's Figure 5: training patches by the generators of `Comb` in the end, and a test patient by every method
# whose network is on this machine.


# %%
def build(run):
    T = oar_rows.target(config, len(cohort.classes), "cpu")
    ours = gao_rows.kinds(run.method)
    return oar_rows.adversarial(config, run.method, T, "cpu") if ours else oar_rows.plain(config, "Baseline", T)


trained = show.trained(experiment, config, folder, build, only=lambda run: run.seed == config.seeds[0])
trained = {run.method: method for run, method in trained.items()}
if "Comb" in trained:
    comb = trained["Comb"]
    torch.manual_seed(0)
    with torch.no_grad():
        made = {"as they are": (x, t)} | {f"G, {G.kind}": comb.augment(G, x, t)[:2] for G in comb.G}
    figure = middles(made)
    plots.save(figure, pictures / "figure5.png")

# %%
patient = scored[0]
[place] = cohort.index([patient])
k = int((cohort.labels[place] > 0).sum((1, 2)).argmax())
maps = {"truth": cohort.labels[place, k][None]}
for name, method in trained.items():
    maps[name] = experiment.predict(method, cohort, patient, config, "cpu").argmax(0)[k][None]
look = {"columns": 5, "classes": cohort.classes, "size": 2.0}
figure = plots.compared(cohort.images[place, 0, k][None], maps, **look, **window)
plots.save(figure, pictures / "figure6.png")

# %% [markdown]
# ## The verdicts
# Each claim with the tolerance that was fixed beforehand (`lib/fewlabels/papers/gao2021/published.yaml`). A claim needs as many
# runs as it names; fewer is *not run*. Those of skin lesions are judged in `gao2021_isic`.

# %%
show.verdicts(claims)

# %%
# NBVAL_CHECK_OUTPUT
print(list(scores.columns))
print(sorted(scores["metric"].unique()))
print(f"{len(claims)} claims, {sorted(claims['verdict'].unique())}")
