"""TIFF files, read by tifffile, and by Pillow where their compression needs more; and masks beside them."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fewlabels.errors import BadInput
from fewlabels.segment import orientation

RESOLUTION = ("XResolution", "YResolution", "ResolutionUnit")
TURNED = "turned as its tag Orientation says"


def is_one(path: Path) -> bool:
    return path.suffix.lower() in (".tif", ".tiff")


def read(path: Path) -> tuple[np.ndarray, list[str]]:
    """The pixels as stored, `(Z, H, W, C)`, all pages of the first series, and notes. C: grey or colours, and alpha.

    Palettes become colours, where 0 is white it is turned, and so are pages as the tag Orientation says. Raises
    `BadInput`, and what tifffile and Pillow raise.
    """
    import tifffile  # an optional dependency

    notes = []
    with _all_pages(path), tifffile.TiffFile(path) as file:
        if not file.series:
            raise BadInput(path, "an image", "none")
        series, first = file.series[0], file.pages[0].aspage()
        if len(file.series) > 1:
            notes.append(f"the first of its {len(file.series)} series of images")
        try:
            array = series.asarray()
            axes = series.axes
        except ValueError as error:  # imagecodecs is large, and Pillow has the common ones
            if "imagecodecs" not in str(error):
                raise
            return _by_pillow(path, notes), notes
        array = _ordered(path, array, axes)
        kind = getattr(first.photometric, "name", "")
        if kind == "PALETTE" and first.colormap is not None:
            colours = first.colormap if first.colormap.max() < 256 else first.colormap >> 8
            array = colours.astype(np.uint8).T[array[..., 0]]
        elif kind == "MINISWHITE" and array.dtype.kind in "ub":
            array = ~array if array.dtype.kind == "b" else np.iinfo(array.dtype).max - array
            notes.append("0 is white in it, and was turned")
        elif kind in ("SEPARATED", "CIELAB"):
            return _by_pillow(path, notes), [*notes, "made RGB"]
    with Image.open(path) as picture:
        turn = orientation.of(picture)
    if turn != 1:
        notes.append(TURNED)
    return np.stack([orientation.shown(page, turn) for page in array]), notes


def write(path: Path, image: Path, values: np.ndarray) -> None:
    """Writes a mask `(Z, H, W)` or `(Z, H, W, 3)` with deflate, with the resolution and orientation of `image`, if
    that is a TIFF file, and as ImageJ writes it if ImageJ wrote that."""
    import tifffile

    more: dict[str, Any] = {}
    written_by, turn = None, 1
    if is_one(image):
        with tifffile.TiffFile(image) as file, Image.open(image) as picture:
            tags, turn = file.pages[0].aspage().tags, orientation.of(picture)
            written_by = file.imagej_metadata if file.is_imagej else None
            if all(name in tags for name in RESOLUTION[:2]):
                more["resolution"] = (tags["XResolution"].value, tags["YResolution"].value)
                more["resolutionunit"] = tags["ResolutionUnit"].value if "ResolutionUnit" in tags else 1
    if turn != 1:
        more["extratags"] = [(orientation.TAG, "H", 1, turn, True)]
        values = np.stack([orientation.stored(page, turn) for page in values])
    if written_by is not None and values.dtype in (np.uint8, np.uint16, np.float32) and values.ndim == 3:
        kept = {key: written_by[key] for key in ("spacing", "unit") if key in written_by}
        more |= {"imagej": True, "metadata": kept | {"axes": "ZYX"}}
    else:
        more["metadata"] = None
    photometric = "rgb" if values.ndim == 4 else "minisblack"
    pixels = values if len(values) > 1 or "imagej" in more else values[0]
    with open(path, "wb") as out:
        tifffile.imwrite(out, pixels, photometric=photometric, compression="zlib", **more)


@contextmanager
def _all_pages(path: Path) -> Iterator[None]:
    """Refuses a file that is cut off behind some of its pages: tifffile logs that, and reads the others."""
    said: list[str] = []
    logger, handler = logging.getLogger("tifffile"), logging.Handler(logging.ERROR)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    loud, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = loud
    if lost := [line for line in said if "TiffPages" in line]:
        raise BadInput(path, "an image that can be read, all its pages", re.sub(r"^<.*?> ", "", lost[0]))


def _ordered(path: Path, array: np.ndarray, axes: str) -> np.ndarray:
    """`(Z, H, W, C)` of axes as tifffile calls them: S samples, C channels, else slices, times or unknown."""
    for at in reversed(range(len(axes))):
        if array.shape[at] == 1 and axes[at] not in "YX":
            array, axes = array.take(0, axis=at), axes[:at] + axes[at + 1 :]
    stack = [axis for axis in axes if axis not in "YXSC"]
    colours = [axis for axis in axes if axis in "SC"]
    if len(stack) > 1 or len(colours) > 1 or not {"Y", "X"} <= set(axes):
        found = " x ".join(f"{n} {axis}" for n, axis in zip(array.shape, axes))
        raise BadInput(path, "one image, or a stack of slices", f"axes of {found}")
    array = array.transpose([axes.index(axis) for axis in (*stack, "Y", "X", *colours)])
    array = array if stack else array[None]
    array = array if colours else array[..., None]
    if array.shape[-1] > 4 or (colours == ["C"] and array.shape[-1] != 3):
        raise BadInput(path, "one grey value, or red, green and blue", f"{array.shape[-1]} channels")
    return array


def _by_pillow(path: Path, notes: list[str]) -> np.ndarray:
    """All pages; Pillow turns them itself as it loads them."""
    pages = []
    with Image.open(path) as picture:
        notes += [TURNED] if orientation.of(picture) != 1 else []
        for at in range(getattr(picture, "n_frames", 1)):
            picture.seek(at)
            picture.load()
            plain = picture.mode in ("L", "LA", "RGB", "RGBA", "I;16", "I;16B", "F", "I")
            page = np.array(picture if plain else picture.convert("L" if picture.mode == "1" else "RGB"))
            pages.append(page if page.ndim == 3 else page[..., None])
    if len({page.shape for page in pages}) > 1:
        raise BadInput(path, "pages of one size", f"{pages[0].shape[:2]} and others")
    array = np.stack(pages)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
