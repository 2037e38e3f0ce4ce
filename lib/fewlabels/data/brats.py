"""BraTS: brain tumours in MRI, cut into half-slices with and without tumour (Vorontsov et al. 2019, Section 4.2).

What is read from `root/brats/`, and how the data say which they are (`meta["data"]`):

    brats            the official BraTS 2017 training set, `{HGG,LGG}/ID/ID_{flair,t1,t1ce,t2,seg}.nii.gz` (or `.nii`):
                     155 slices of 240 x 240, labels 0, 1, 2, 4; 210 + 75 patients
    brats2018, ...   those of 2018, 2019, 2020, 2021 and 2023, by the names of their patients (`brats_editions`); from
                     2020 on without HGG/ and LGG/; 2023 has other file names, and 3 in place of label 4
    brats2015-2seq   a copy with two sequences, `ID/ID_{flair,t1ce,seg,brainmask}.nii.gz`: grey values standardised
                     beforehand, times 1000; labels 0 to 4 (BraTS 2015); no grades

Axes are z (feet to head), rows (front to back), columns: the file's own, axial. Each slice is cut in the middle of its
columns, 240 -> 120 + 120, and nothing is mirrored. `left` is the first half: left in the picture, and the patient's
right by the headers.
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fewlabels.data import prepared
from fewlabels.data.brats_editions import COPY, EDITIONS, SEQUENCES, patient_of
from fewlabels.data.brats_files import Patient, arrays_of, open_arrays, open_root, progress
from fewlabels.data.cohort import Cohort, Split
from fewlabels.data.complete import of_all, paper_split
from fewlabels.data.domains import Domains
from fewlabels.data.half_slices import SIDE, domains_of, half_name, halves, standardised
from fewlabels.data.phantoms.brain import CLASSES
from fewlabels.data.phantoms.brain import brain as phantom
from fewlabels.errors import BadInput

__all__ = ["CLASSES", "check", "domains", "load", "phantom", "prepare", "splits"]

SOURCES = {
    data: f"BraTS {data[5:]}, official training set, not BraTS 2017; cite Menze et al. 2015" for data in EDITIONS
}
SOURCES |= {
    "brats": "BraTS 2017, official training set; cite Menze et al. 2015",
    COPY: "BraTS 2015, a copy of a few patients with two of four sequences, grey values standardised "
    "beforehand, not the official files; CC BY-NC-SA 3.0, cite Menze et al. 2015",
}
BRAIN_SHARE = dict.fromkeys(EDITIONS, 0.25) | {COPY: 0.2}


def load(
    root: Path | str | None,
    scale: int = 1,
    tumour_share: float = 0.01,
    tumour_share_of: str = "brain",
    brain_share: float | None = None,
) -> Cohort:
    """Half-slices that present a tumour (P) or in which it is absent (A), as a `Cohort`: images float32
    `(N, sequences, 240 / scale, 120 / scale)`; labels int64, 1 where there is a tumour of any kind; ids
    `patient/z/left` and `.../right`; groups are the patients.

    root             the data root, which holds `brats/`, or a file written by `prepare`
    scale            whole number: an image pixel is the mean of scale x scale, tumour where half of them or more are;
                     P and A are told apart before that, and a P whose tumour vanishes is dropped
    tumour_share     P has tumour on more than this share of the brain's pixels, A has none; others are dropped
    tumour_share_of  "brain" (the paper), or "channels": of four times the brain's pixels, as the released code counts
                     those of all its channels, so that its 1 % is 4 % of the brain
    brain_share      the least share of a half-slice's pixels that is brain. None: 0.25 (the paper; the released
                     script's default is 0.05), but of the copy 0.2, as one of its brains never fills 0.25

    Pre-processing of the released code: of each patient all sequences together are centred and divided by 5 standard
    deviations, of voxels that are not 0; the background stays 0, which thus is the brain's mean. (The paper divides by
    1; the factor 5 is the code's, so that most values fit tanh.) The copy, where the brain is a file of its own, is
    divided by 5 x 1000 only. Not clipped: the code clips to [-1, 1] after augmentation, in training and validation, and
    so does `augment_slices`. No N4: the code hands it the tumour's mask as the region to fit, which leaks labels.

    A patient without healthy half-slices is named in a warning, and stays, as in the released code; `meta["halves"]`
    counts each one's, `{patient: (P, A)}`, of 2023 each scan's. `meta` also has `sequences`, the names of the channels,
    and `grade` `{patient: HGG, LGG or ""}` of every patient, in the order of the files.

    All of BraTS at scale 1 takes some 15 GB. Raises `BadInput` naming the file if anything is missing, damaged, empty,
    of another shape or kind, and if there is no P or no A at all.
    """
    _check(scale, tumour_share, tumour_share_of, brain_share)
    data, grade, read = open_root(root)
    brain_share = BRAIN_SHARE[data] if brain_share is None else brain_share
    parts, ids, counts = [], [], {}
    for name in progress(grade, data):
        patient = read(name)
        present, absent = domains_of(patient.brain, patient.tumour, tumour_share, tumour_share_of, brain_share)
        images, labels = _blocks(patient, data, present | absent, scale)
        where, kind = np.argwhere(present | absent), present[present | absent]
        keep = labels.any((1, 2)) | ~kind
        parts.append((images[keep], labels[keep]))
        ids += [half_name(name, z, side) for z, side in where[keep]]
        counts[name] = (int((kind & keep).sum()), int((~kind).sum()))
        if not counts[name][1]:
            expected = f"half-slices without tumour (at least {brain_share:g} brain)"
            warnings.warn(f"{root}: {name}: expected {expected}, found none", stacklevel=2)
    for i, domain in enumerate(("a tumour", "no tumour")):
        if not any(count[i] for count in counts.values()):
            raise BadInput(root, f"half-slices with {domain} (at least {brain_share:g} brain)", f"none in {len(grade)}")
    images = torch.empty(len(ids), len(SEQUENCES[data]), SIDE // scale, SIDE // 2 // scale)
    labels, at = torch.empty(len(ids), *images.shape[2:], dtype=torch.long), 0
    parts.reverse()
    while parts:  # each part is freed as it is copied: torch's memory is taken only when it is written
        here, mask = parts.pop()
        images[at : at + len(here)], labels[at : at + len(here)] = torch.from_numpy(here), torch.from_numpy(mask)
        at += len(here)
    meta: dict[str, Any] = {"data": data, "source": SOURCES[data], "sequences": SEQUENCES[data]}
    meta["grade"] = {patient_of(name): kind for name, kind in grade.items()}
    meta |= {"brain_share": brain_share, "halves": counts}
    groups = tuple(patient_of(name.split("/")[0]) for name in ids)
    return Cohort(images, labels, tuple(ids), CLASSES, (float(scale),) * 2, groups, meta)


def splits(cohort: Cohort, share: float = 0.01, seed: int = 0) -> Split:
    """A `Split` of half-slices by whole patients: labelled are the P of a few, unlabelled all else of training.

    Of each grade the first 20 % of a random order are held out (with seed 0 the patients of the released code, which
    shuffles them in the order of their numbers as text): it validates on them and has no test set; here every second
    one is tested on. Of fewer than 10 patients one is for validation and one for testing, of those with half-slices.

    Patients of training lose their masks in a random order, as long as the P without one stay fewer than 1 - `share`
    of all P (the released code): so at least `share` is labelled, concentrated in few patients. The A of all patients
    are in training. Raises `BadInput` for fewer than 3 patients or a share beyond 0 to 1.
    """
    if not (isinstance(share, (int, float)) and 0 < share <= 1):
        raise BadInput("share", "a number above 0, up to 1", share)
    rng, grade = np.random.RandomState(seed), cohort.meta["grade"]
    if len(grade) < 10:
        patients = list(dict.fromkeys(cohort.groups))
        _enough(len(patients))
        rng.shuffle(patients)
        held, train = patients[:2], sorted(patients[2:])
    else:
        held, train = [], []
        for kind in sorted(set(grade.values())):
            patients = [name for name in grade if grade[name] == kind]
            patients = [patients[i] for i in sorted(range(len(patients)), key=str)]
            order = np.arange(len(patients))
            rng.shuffle(order)
            out = [patients[i] for i in order[: int(0.2 * len(order))]]
            held, train = held + out, train + [name for name in patients if name not in out]
    present = cohort.labels.flatten(1).any(1).tolist()
    of = Counter(patient for patient, is_p in zip(cohort.groups, present) if is_p)
    total, without, masked = sum(of[name] for name in train), set(), 0
    most = int(min(total, total * (1 - share) + 0.5))
    for i in np.random.RandomState(seed).permutation(len(train)):
        if masked + of[train[i]] < most:
            without.add(train[i])
            masked += of[train[i]]
    part = dict.fromkeys(train, 1) | dict.fromkeys(held[::2], 2) | dict.fromkeys(held[1::2], 3)
    parts: list[list[str]] = [[], [], [], []]
    for name, patient, is_p in zip(cohort.ids, cohort.groups, present):
        with_mask = part[patient] == 1 and is_p and patient not in without
        parts[0 if with_mask else part[patient]].append(name)
    return Split(*map(tuple, parts))


def domains(cohort: Cohort, ids: Sequence[str], labelled: Sequence[str] = ()) -> Domains:
    """The `Domains` of half-slices `ids`, each in their order; `labelled`, P ids among them, have a mask for training;
    kinds are the patients, as numbered in `meta["grade"]`. Raises `BadInput` that names the patients if there is no P;
    there may be no A."""
    at = cohort.index(ids)
    present = cohort.labels[at].flatten(1).any(1)
    if not present.any():
        raise BadInput(half_slices(ids), "some with a tumour", "none")
    names, chosen = [name for name, is_p in zip(ids, present.tolist()) if is_p], set(labelled)
    number, whose = {patient: i for i, patient in enumerate(cohort.meta["grade"])}, dict(zip(cohort.ids, cohort.groups))
    return Domains(
        cohort.images[at[present]],
        cohort.images[at[~present]],
        cohort.labels[at[present]].bool(),
        torch.tensor([i for i, name in enumerate(names) if name in chosen], dtype=torch.long),
        torch.tensor([number[whose[name]] for name in names], dtype=torch.long),
    )


def half_slices(ids: Sequence[str]) -> str:
    """What `ids` are, for messages: whose half-slices."""
    return f"half-slices of {', '.join(dict.fromkeys(name.split('/')[0] for name in ids)) or 'no patient'}"


def prepare(root: Path | str | None, out: Path | str) -> str:
    """Writes the brains' voxels, all that `load(root)` needs, to one file `out`; `load(out)` then gives the same bits.
    Returns the SHA-256 of the content (that of `check(out)`). Raises `BadInput` as `load` does. Everything is held in
    memory meanwhile, of BraTS 2017 some 8 GB."""
    arrays = arrays_of(root)
    prepared.write(out, "brats", arrays)
    return prepared.checksum(arrays)


def check(root: Path | str | None) -> str:
    """Reads every file below `root` and returns what is there, in three lines of text; raises `BadInput` as `load`."""
    arrays = arrays_of(root)
    data, grade, read = open_arrays(arrays)
    of, share = Counter(grade.values()), BRAIN_SHARE[data]
    patients = map(read, grade)
    counts = np.array([[d.sum() for d in domains_of(p.brain, p.tumour, brain_share=share)] for p in patients])
    none = ", ".join(name for name, (_, healthy) in zip(grade, counts) if not healthy)
    there, number = _there(data, of), int(counts.any(1).sum())
    cannot = paper_split(root, there, data != COPY, lambda: _enough(number))
    counts = counts.sum(0)
    return (
        f"{data}: {SOURCES[data]}\n"
        f"{there}, sequences {', '.join(SEQUENCES[data])}; half-slices of at least {share:g} "
        f"brain: {counts[0]} with more than 0.01 tumour, {counts[1]} without"
        f"{none and f' (none of {none})'}{cannot}\n"
        f"sha256 {prepared.checksum(arrays)}"
    )


def _there(data: str, of: Counter[str]) -> str:
    """How many of the edition's patients there are; `of` counts those found of each grade."""
    if data == COPY:
        return f"{of.total()} patients"
    everything = EDITIONS[data][1]
    grades = ", ".join(f"{of[kind]} of {n} {kind}" for kind, n in everything.items() if kind)
    return of_all(of.total(), sum(everything.values()), "patients") + (grades and f" ({grades})")


def _enough(patients: int) -> None:
    if patients < 3:
        raise BadInput("split", "at least 3 patients with half-slices", patients)


def _blocks(patient: Patient, data: str, keep: np.ndarray, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """The kept half-slices: images float32 `(n, C, H, W)`, labels bool `(n, H, W)`."""
    mean, sd = 0.0, 1000.0
    if data != COPY:
        nonzero = patient.values[patient.values != 0]
        mean, sd = nonzero.mean(dtype=np.float64), nonzero.std(dtype=np.float64)
    size = (int(keep.sum()), SIDE // scale, scale, SIDE // 2 // scale, scale)
    volume, images = np.zeros(patient.brain.shape, np.float32), np.empty((size[0], len(patient.values), *size[1::2]))
    for channel, values in enumerate(patient.values):
        volume[patient.brain] = standardised(values, mean, sd)
        images[:, channel] = halves(volume)[keep].reshape(size).mean((2, 4), dtype=np.float64)
    tumour = halves(patient.tumour)[keep].reshape(size).sum((2, 4))
    return images.astype(np.float32), 2 * tumour >= scale**2


def _check(scale: int, tumour_share: float, tumour_share_of: str, brain_share: float | None) -> None:
    if isinstance(scale, bool) or not isinstance(scale, int) or scale < 1 or SIDE // 2 % scale:
        raise BadInput("scale", f"a whole number that divides {SIDE} and {SIDE // 2}", repr(scale))
    for name, value in (("tumour_share", tumour_share), ("brain_share", 0 if brain_share is None else brain_share)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
            raise BadInput(name, "a number from 0, below 1", repr(value))
    if tumour_share_of not in ("brain", "channels"):
        raise BadInput("tumour_share_of", "brain or channels", repr(tumour_share_of))
