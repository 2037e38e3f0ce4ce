"""Independent computations that tests of several parts compare with."""

import numpy as np
import torch


def angles_of(y):
    """Degrees of rotated images of `ramp`, from the slope about their centre."""
    middle = y.shape[2] // 2
    down = (y[:, 0, middle + 2, middle] - y[:, 0, middle - 2, middle]).numpy() / 4
    right = (y[:, 0, middle, middle + 2] - y[:, 0, middle, middle - 2]).numpy() / 4
    np.testing.assert_allclose(down**2 + right**2, 1, rtol=1e-3)
    return np.degrees(np.arctan2(right, down))


def ramp(n, size=25):
    """The value of a pixel is its row."""
    return torch.arange(float(size), dtype=torch.float64)[:, None].expand(n, 1, size, size).contiguous()


def keras_kl(y, p, epsilon=1e-7):
    """keras.losses.kl_divergence, y_true and y_pred."""
    y, p = np.clip(y, epsilon, 1), np.clip(p, epsilon, 1)
    return np.sum(y * np.log(y / p), axis=-1)


def one_image_at_a_time(p1, p2, y, clip=False, symmetric=False):
    """L_S and L_C of probabilities, as the report defines them."""
    S, C = 0.0, 0.0
    for i, label in enumerate(y):
        one_hot = np.eye(p1.shape[1])[label]
        for p in (p1[i], p2[i]):
            there = keras_kl(one_hot, p) if clip else plain_kl(one_hot, p)
            back = keras_kl(p, one_hot) if clip else plain_kl_of_predictions(p, np.clip(one_hot, 1e-7, 1))
            S += (there + back) / 2 if symmetric else there
    for a, b in zip(p1, p2, strict=True):
        kl = keras_kl if clip else plain_kl_of_predictions
        C += (kl(a, b) + kl(b, a)) / 2
    return S / (2 * len(y)), C / len(p1)


def plain_kl(y, p):
    return np.sum(np.clip(y, 1e-7, 1) * np.log(np.clip(y, 1e-7, 1) / p), axis=-1)


def plain_kl_of_predictions(p, q):
    return np.sum(p * np.log(p / q), axis=-1)
