"""Half-slices and their two domains, of BraTS and of its phantom alike (Vorontsov et al. 2019, Section 4.2)."""

import numpy as np

SEQUENCES = ("flair", "t1ce", "t1", "t2")  # the order of the released code
SIDE = 240  # pixels of 1 mm: a slice of BraTS


def halves(volume: np.ndarray) -> np.ndarray:
    """Left and right half of each slice: `(..., Z, H, W)` -> `(..., Z, 2, H, W / 2)`, a view; nothing is mirrored."""
    return np.moveaxis(volume.reshape(*volume.shape[:-1], 2, -1), -2, -3)


def half_name(patient: str, z: int, side: int) -> str:
    """`patient/007/left`: side 0 is the first half of the columns, left in the picture."""
    return f"{patient}/{z:03}/{('left', 'right')[side]}"


def domains_of(
    inside: np.ndarray,
    lesion: np.ndarray,
    tumour_share: float = 0.01,
    tumour_share_of: str = "brain",
    brain_share: float | None = 0.25,
) -> tuple[np.ndarray, np.ndarray]:
    """Which half-slices present a tumour (P), and in which it is absent (A): two bool arrays `(Z, 2)`.

    inside, lesion   where the brain and where a tumour is, bool `(Z, H, W)`

    With less brain than `brain_share` of all pixels a half-slice is in neither, and so it is with less tumour than
    `tumour_share` of the brain's pixels (of "channels": of four times the brain's), but some.
    """
    pixels, tumour = (halves(mask).sum((-2, -1)) for mask in (inside, lesion))
    enough = pixels >= brain_share * halves(inside)[0, 0].size
    of = pixels * (len(SEQUENCES) if tumour_share_of == "channels" else 1)
    return enough & (tumour > tumour_share * of), enough & (tumour == 0)


def standardised(values: np.ndarray, mean: np.ndarray | float, sd: np.ndarray | float) -> np.ndarray:
    """(values - mean) / (5 sd), float32; 0, which is background, stays 0. Both as in the released code."""
    return np.where(values != 0, (values - mean) / (5 * sd), 0).astype(np.float32)
