"""A floor in seconds: a forest on features of single pixels, by what it makes of labelled images that it did not see.

Features: those of a network trained on ImageNet, if there is one, else filters of several widths; and the place.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.scores.metrics import dice
from fewlabels.segment.augment import IGNORED
from fewlabels.segment.task import Task

PIXELS, TREES, FOLDS = 1500, 60, 5  # of each slice; of a forest
MOST = 60000  # pixels in all
DEEPEST = 4  # of the encoder's levels


def encoded(encoder: nn.Module) -> Callable[[Tensor], Tensor]:
    """Features of an EfficientNet at half the size."""

    def features(x: Tensor) -> Tensor:
        with torch.no_grad():
            levels = encoder.eval()(x.expand(-1, 3, -1, -1))[:DEEPEST]
        half = levels[0].shape[2:]
        return torch.cat([F.avg_pool2d(x, 2), *(F.interpolate(level, half, mode="bilinear") for level in levels)], 1)

    return features


def filtered(x: Tensor) -> Tensor:
    """Intensity, edges and texture at several widths (Gaussian derivatives: ilastik's choice), at half the size."""
    from skimage.feature import multiscale_basic_features

    half = F.avg_pool2d(x, 2).numpy()
    found = [multiscale_basic_features(image, channel_axis=0, sigma_max=8, workers=1) for image in half]
    return torch.from_numpy(np.stack(found)).movedim(-1, 1).float()


def out_of_fold(task: Task, features: Callable[[Tensor], Tensor]) -> dict[str, list[float]]:
    """Dice of each labelled case by a forest that has not seen it, `{case: one for each class but the background}`,
    at half the working size. Without a second labelled case there is nothing to tell: {}."""
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import GroupKFold

    masked = task.masked()
    if len(masked) < 2:
        return {}
    x, y = [], []
    for i in masked:
        f = torch.cat([features(part) for part in task.image(i).split(8)])
        place = torch.meshgrid(*(torch.linspace(0, 1, n) for n in f.shape[2:]), indexing="ij")
        f = torch.cat([f, torch.stack(place).expand(len(f), -1, -1, -1)], 1)
        h, w = (n // 2 for n in task.sizes[i])
        x.append(f[:, :, :h, :w].permute(0, 2, 3, 1).flatten(0, 2).numpy())
        y.append(task.truth(i)[:, 1 : 2 * h : 2, 1 : 2 * w : 2].numpy())
    rng = np.random.default_rng(0)
    drawn = []
    for labels in y:
        known = np.flatnonzero(labels.ravel() != IGNORED)
        count = min(len(known), PIXELS * len(labels), MOST // len(y))
        drawn.append(rng.choice(known, count, replace=False))
    scores, classes = {}, len(task.seen.labels.names)
    for others, left in GroupKFold(min(FOLDS, len(masked))).split(masked, groups=range(len(masked))):
        forest = ExtraTreesClassifier(TREES, min_samples_leaf=3, n_jobs=-1, random_state=0)
        forest.fit(
            np.concatenate([x[k][drawn[k]] for k in others]), np.concatenate([y[k].ravel()[drawn[k]] for k in others])
        )
        for k in left:
            known = y[k].ravel() != IGNORED
            found = torch.from_numpy(forest.predict(x[k][known]))
            scores[task.cases[masked[k]].name] = dice(found, torch.from_numpy(y[k].ravel()[known]), classes)
    return scores
