"""Differentiable agreement of two soft segmentations or classifications, one value an image.

Half precision is computed in float32.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels.precision import single

EPS = 1e-7  # keeps 0/0 and log 0 away; far below anything a softmax over pixels gives
DICE_EPS = 1e-5  # voxels: the same for sums over voxels, far below one


def soft_jaccard(y: Tensor, p: Tensor, known: Tensor | None = None) -> Tensor:
    """Image-wise soft Jaccard (IoU), the S and C of Bortsova et al. 2019, Section 3: `(N, C, *size)` twice -> `(N,)`.

        1/|classes| sum_c [ sum_i y_c p_c / sum_i (y_c + (1 - y_c) p_c) ]

    Sums over the pixels i of one class of one image, then the mean over classes (background included). Symmetric in
    y and p. A score: 1 is best. Of a map with itself it is 1 only where the map is binary (a constant 0.5 gives 1/3),
    so that as a consistency term it also rewards confident predictions. Pixels where `known` `(N, *size)` is False
    are left out of every sum.
    """
    y, p = single(y), single(p)
    product = y * p
    union = y + p - product
    if known is not None:
        product, union = product * known[:, None], union * known[:, None]
    return ((product.flatten(2).sum(2) + EPS) / (union.flatten(2).sum(2) + EPS)).mean(1)


def mean_squared_error(y: Tensor, p: Tensor, known: Tensor | None = None) -> Tensor:
    """Squared difference summed over classes, averaged over the known pixels of an image: `(N,)`. 0 is best."""
    return _pixel_mean((single(y) - single(p)).square().sum(1), known)


def symmetric_kl(y: Tensor, p: Tensor, known: Tensor | None = None) -> Tensor:
    """(KL(y|p) + KL(p|y)) / 2 per pixel, averaged over the known pixels of an image: `(N,)`, nats. 0 is best."""
    y, p = single(y), single(p)
    log_ratio = y.clamp(min=EPS).log() - p.clamp(min=EPS).log()
    return _pixel_mean(((y - p) * log_ratio).sum(1) / 2, known)


def weighted_cross_entropy(logits: Tensor, y: Tensor, weights: Tensor | Sequence[float]) -> Tensor:
    """-sum_c y_c log p_c per pixel, times sum_c weights_c y_c, averaged over all pixels: a scalar, nats.

    logits and soft labels y `(N, C, *size)`, weights `(C,)`. L_S of Chaitanya et al. 2019, Section 3.4, as released.
    """
    weights = torch.as_tensor(weights, dtype=y.dtype, device=y.device).reshape(-1, *[1] * (y.ndim - 2))
    return -((weights * y).sum(1) * (y * logits.log_softmax(1)).sum(1)).mean()


def soft_dice_loss(p: Tensor, y: Tensor, smooth: float = 1.0) -> Tensor:
    """-(2 sum p y + smooth) / (sum p + sum y + smooth), over all pixels of all images: a scalar, -1 is best.

    Probabilities and masks of any equal shape. Vorontsov et al. 2019, Eq. 8, as their released code has it: not one
    value an image, so that an image in which little is to be found weighs little. Raises ValueError for shapes that
    differ.
    """
    if p.shape != y.shape:
        raise ValueError(f"soft Dice: expected masks {tuple(p.shape)}, found {tuple(y.shape)}")
    p = single(p)
    y = y.to(p)
    return -(2 * (p * y).sum() + smooth) / (p.sum() + y.sum() + smooth)


def kl_divergence(log_y: Tensor, log_p: Tensor, clip: float = 0.0) -> Tensor:
    """KL(y|p) = sum_c y_c (log y_c - log p_c) of log-probabilities `(N, classes)` twice -> `(N,)`, nats.

    Malfliet & Bakker 2021, Eq. 2. With `clip` > 0 as Keras computes it: y and p are clipped to [clip, 1] first, so
    that the loss has no gradient where p is below `clip`, however wrong that is.
    """
    if clip:
        log_y, log_p = (log.exp().clamp(clip, 1).log() for log in (log_y, log_p))
    return (log_y.exp() * (log_y - log_p)).sum(1)


def partial_cross_entropy_dice(logits: Tensor, target: Tensor, present: Tensor) -> Tensor:
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
    dice = 2 * both.sum(0) / (sums.sum(0) + DICE_EPS)
    counts = known.any(0)
    return cross_entropy + ((1 - dice) * counts).sum() / counts.sum().clamp(min=1)


def cross_entropy_dice(logits: Tensor, y: Tensor, ignored: int = -1, smooth: float = 1.0) -> Tensor:
    """Cross-entropy + (1 - mean soft Dice of the classes but the background), over the pixels of a batch together.

    logits `(N, classes, *size)`, labels `(N, *size)`, int64; pixels labelled `ignored` are in neither. Without any
    other pixel it is 0. A class that is not in the batch has no Dice. `smooth`: pixels, as of `soft_dice_loss`.
    """
    known = (y != ignored)[:, None]
    cross_entropy = F.cross_entropy(logits, y, ignore_index=ignored, reduction="sum") / known.sum().clamp(min=1)
    p = logits.softmax(1) * known
    one_hot = F.one_hot(y.clamp(min=0), logits.shape[1]).movedim(-1, 1) * known
    both, sums = ((t.transpose(0, 1).flatten(1).sum(1)[1:]) for t in (p * one_hot, p + one_hot))
    there = one_hot.transpose(0, 1).flatten(1).any(1)[1:]
    dice = (2 * both + smooth) / (sums + smooth)
    return cross_entropy + ((1 - dice) * there).sum() / there.sum().clamp(min=1)


def _pixel_mean(per_pixel: Tensor, known: Tensor | None) -> Tensor:
    known = torch.ones_like(per_pixel) if known is None else known
    return (per_pixel * known).flatten(1).sum(1) / known.flatten(1).sum(1).clamp(min=1)
