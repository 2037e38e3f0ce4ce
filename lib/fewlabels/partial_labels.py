"""A segmentation loss for volumes in which some structures were not delineated."""

import torch
import torch.nn.functional as F

from fewlabels.precision import single

EPS = 1e-5  # far below one voxel


def partial_cross_entropy_dice(logits, target, present):
    """Softmax cross-entropy + soft Dice loss, 1:1 -> a scalar.

    logits   `(N, classes, *size)`; class 0 is the background
    target   labels `(N, *size)`, int64, or shares of the classes `(N, classes, *size)`, floats (warped one-hot maps)
    present  bool `(N, classes)`: which classes were delineated in a volume

    Where nothing is missing this is, with p the softmax and y the target,

        mean over voxels of -sum_c y_c log p_c   +   1 - mean over c > 0 of 2 sum p_c y_c / (sum p_c + sum y_c)

    with Dice's sums over all voxels of the batch. A class that is not present in a volume is left out of it: its voxels
    have no cross-entropy, which is still divided by the number of all voxels, and the volume is not in the sums of its
    Dice. So is the background of a volume in which any class is missing, since behind the label "background" may stand
    the missing structure. (What is known there, that such a voxel is none of the classes present, Dice says.)

    A correct prediction of a structure that nobody delineated is therefore not punished. At voxels labelled as
    background of such a volume the cross-entropy has no gradient, and Dice sees the p_c of the classes present alone:
    they should be small there, no matter what takes their place, so that its gradient never lowers the logits of the
    background or of missing structures. At voxels labelled with a class present the softmax does push missing ones
    down: rightly, as structures do not overlap.

    A class without voxels in the batch adds a constant to the loss: Dice 0, which has no gradient. A class present in
    no volume is not in Dice's mean. Without any class present the loss is 0.

    Source: weights of 0 for missing structures and background, and the cross-entropy's divisor, are those of the
    authors' code for the same data (yhygao/focusnet-v2: batches of one volume, a focal and a Tversky loss); 1:1 is of
    their later code for CT. Choice: Dice without background, summed over the batch. The paper names no loss.
    Raises ValueError in one line for shapes that do not fit.
    """
    n, classes, *size = logits.shape
    soft = target.is_floating_point()
    expected = logits.shape if soft else torch.Size([n, *size])
    if target.shape != expected or present.shape != (n, classes):
        expected = f"target {tuple(expected)} and present {(n, classes)}"
        raise ValueError(f"partial labels: expected {expected}, found {tuple(target.shape)} and {tuple(present.shape)}")
    y = target if soft else F.one_hot(target, classes).movedim(-1, 1)
    known = present.to(logits.device, torch.bool, copy=True)
    known[:, 0] = known.all(1)
    log_p = single(logits).log_softmax(1)
    y = (y * known.reshape(n, classes, *[1] * len(size))).to(log_p.dtype)
    cross_entropy = -(y * log_p).sum(1).mean()

    p, y, known = log_p.exp().flatten(2)[:, 1:], y.flatten(2)[:, 1:], known[:, 1:]
    both, sums = (p * y).sum(2), (p.sum(2) + y.sum(2)) * known
    dice = 2 * both.sum(0) / (sums.sum(0) + EPS)
    counts = known.any(0)
    return cross_entropy + ((1 - dice) * counts).sum() / counts.sum().clamp(min=1)
