"""An image with the outlines of its masks, to look at."""

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion

from fewlabels.plots import OUTLINES

MOST, LEAST = 512, 256  # pixels of the long side
DASH, THICK = 5, 2  # pixels


def colour(k: int) -> tuple[int, int, int]:
    """The outline of class `k`, 8-bit RGB: as in figures, again from the first where there are more classes."""
    index = 0 if k == 0 else 1 + (k - 1) % (len(OUTLINES) - 1)
    red, green, blue = (round(255 * part) for part in OUTLINES[index])
    return red, green, blue


def overlay(image: np.ndarray, classes: np.ndarray, truth: np.ndarray | None = None) -> np.ndarray:
    """The slice with most foreground, outlined in colours: `(h, w, 3)`, uint8, the long side 256 to 512 pixels.

    An outline of `classes` is a line of the class's `colour` within the structure. Of `truth` it is dashed, black and
    white, just outside of the structure, so that both are seen where they agree.

    image    `(Z, H, W, C)`, C 1 or 3, any dtype; shown from its 1st to its 99th percentile in that slice
    classes  `(Z, H, W)` of class numbers; 0 and below have no outline
    truth    the same, of the mask that somebody drew
    """
    both = [classes] if truth is None else [classes, truth]
    areas = sum((each > 0).sum((1, 2)) for each in both)
    z = int(np.argmax(areas)) if np.any(areas) else len(classes) // 2
    picture = _windowed(image[z])
    height, width = picture.shape[:2]
    longest = max(height, width)
    factor = MOST / longest if longest > MOST else float(max(1, -(-LEAST // longest)))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    resampling = Image.Resampling.BOX if factor < 1 else Image.Resampling.NEAREST
    shown = np.array(Image.fromarray(picture).resize(size, resampling))
    rows, columns = np.indices(shown.shape[:2])
    dashes = np.where((rows // DASH + columns // DASH) % 2, 255, 0).astype(np.uint8)[..., None]
    if truth is not None:
        for _, inside in _structures(truth[z], size):
            line = binary_dilation(inside, iterations=THICK) & ~inside
            shown[line] = dashes[line]
    for k, inside in _structures(classes[z], size):
        shown[inside & ~binary_erosion(inside, iterations=THICK)] = colour(k)
    return shown


def _windowed(image: np.ndarray) -> np.ndarray:
    """`(H, W, C)` of any dtype -> `(H, W, 3)` uint8; what is not finite is black."""
    x = image.astype(np.float64)
    finite = np.isfinite(x)
    low, high = np.percentile(x[finite], [1, 99]) if finite.any() else (0.0, 0.0)
    if low == high and finite.any():  # a small bright structure on an even ground
        low, high = x[finite].min(), x[finite].max()
    scaled = (np.where(finite, x, low) - low) / (high - low) if high > low else np.full(x.shape, 0.5)
    scaled = np.where(finite, scaled, 0)
    return np.broadcast_to((255 * scaled.clip(0, 1)).round().astype(np.uint8), (*x.shape[:2], 3))


def _structures(classes: np.ndarray, size: tuple[int, int]) -> list[tuple[int, np.ndarray]]:
    """Each class of `(H, W)` with where it is, bool, at the size (width, height); the largest first.

    A pixel of the smaller picture belongs to all structures that it touches, so that thin ones are not lost.
    """
    found, areas = np.unique(classes[classes > 0], return_counts=True)
    inside = []
    for k in found[np.argsort(-areas, kind="stable")]:
        mask = (classes == k).astype(np.float32)
        resampling = Image.Resampling.BOX if size[0] < mask.shape[1] else Image.Resampling.NEAREST
        inside.append((int(k), np.array(Image.fromarray(mask).resize(size, resampling)) > 0))
    return inside
