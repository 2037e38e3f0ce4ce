"""The tag Orientation of EXIF and TIFF: how stored pixels are shown."""

from typing import Any

import numpy as np
from PIL import Image

TAG = 274
# By its value: whether rows and columns are exchanged, and along which axes pixels are flipped then.
TURNS: dict[int, tuple[bool, tuple[int, ...]]] = {
    1: (False, ()),
    2: (False, (1,)),
    3: (False, (0, 1)),
    4: (False, (0,)),
    5: (True, ()),
    6: (True, (1,)),
    7: (True, (0, 1)),
    8: (True, (0,)),
}


def of(picture: Image.Image) -> int:
    """The value of the tag of an open file, 1 where it has none or none that there is."""
    tags: Any = getattr(picture, "tag_v2", None) or picture.getexif()
    value = tags.get(TAG, 1)
    return value if value in TURNS else 1


def shown(array: np.ndarray, value: int) -> np.ndarray:
    """Stored pixels `(H, W, ...)` as viewers show them."""
    exchanged, flipped = TURNS[value]
    return np.ascontiguousarray(np.flip(array.swapaxes(0, 1) if exchanged else array, flipped))


def stored(array: np.ndarray, value: int) -> np.ndarray:
    """Pixels `(H, W, ...)` as they are shown, as they must be stored for that."""
    exchanged, flipped = TURNS[value]
    array = np.flip(array, flipped)
    return np.ascontiguousarray(array.swapaxes(0, 1) if exchanged else array)
