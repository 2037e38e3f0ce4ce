"""Images and masks in the formats people have: read as they are stored, and masks written as their images are."""

import gzip
import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from fewlabels.data import prepared, volumes
from fewlabels.data.geometry import Geometry, Volume, itk_image, onto
from fewlabels.errors import BadInput
from fewlabels.files import whole
from fewlabels.segment import orientation, tiff
from fewlabels.segment.folder import VOLUMES

EXPECTED = "an image that can be read"


class Picture(NamedTuple):
    """array     as stored, `(Z, H, W, C)`: slices, rows, columns, and one grey value or red, green, blue
    geometry  of volumes, where the voxels lie; else None
    note      what was decided to read it, in words, mostly ""
    """

    array: np.ndarray
    geometry: Geometry | None = None
    note: str = ""


def read(path: Path) -> Picture:
    """An image: PNG, JPEG, TIFF, BMP or GIF, NIfTI, NRRD, or a folder with one DICOM series.

    Palettes become colours, colours that are all grey become one grey value, an alpha channel is left out, an image is
    turned as its EXIF says, and the pages of a TIFF file are slices. Raises `BadInput` naming the file if it cannot be
    read, is cut off, or holds something else.
    """
    if _is_volume(path):
        array, geometry, note = volumes.read(path)
        return Picture(array[..., None], geometry, note)
    with prepared.reading(path, EXPECTED):
        array, notes = tiff.read(path) if tiff.is_one(path) else _picture(path, labels=False)
        if array.shape[-1] in (2, 4):
            array = array[..., :-1]
            notes.append("alpha channel left out")
        return Picture(_grey(_real(path, array)), None, "; ".join(notes))


def read_mask(path: Path, like: Picture, image: Path) -> np.ndarray:
    """The mask of an image as it is stored: numbers `(Z, H, W)`, or colours `(Z, H, W, 3)` where not all are grey.

    Of a palette, the numbers of its colours, but where it is all grey, or of a GIF file, whose palettes are arbitrary.
    The mask of a volume is turned onto the image's voxels if its axes run another way. Raises `BadInput` naming the
    mask if it cannot be read or does not lie on the pixels of `like`, which was read from `image`.
    """
    if _is_volume(path):
        volume = volumes.read(path)
        if like.geometry is not None:
            return onto(path, volume, like.geometry, image).array
        array = volume.array[..., None]
    else:
        with prepared.reading(path, "a mask that can be read"):
            array, _ = tiff.read(path) if tiff.is_one(path) else _picture(path, labels=True)
            array = _grey(_real(path, _opaque(array)))
    if array.shape[:3] != like.array.shape[:3]:
        why = f" ({like.note})" if like.note else ""
        raise BadInput(path, f"{_size(like.array)}, as {image}{why}", _size(array))
    if array.shape[-1] == 3 and like.geometry is not None:
        raise BadInput(path, "one number a voxel", "colours")
    return array if array.shape[-1] == 3 else array[..., 0]


def palette_of(path: Path) -> bytes | None:
    """The palette of a mask whose pixels `read_mask` gives as numbers of its colours, for `write_mask`; else None."""
    if path.suffix.lower() != ".png":
        return None
    with prepared.reading(path, "a mask that can be read"), Image.open(path) as picture:
        return _colours(picture) if picture.mode == "P" and not _grey_palette(picture) else None


def write_mask(
    folder: Path, case_name: str, image: Path, like: Picture, values: np.ndarray, palette: bytes | None = None
) -> Path:
    """Writes a mask `(Z, H, W)`, or `(Z, H, W, 3)` in colours, as `folder/case_name` with its image's ending.

    JPEG, BMP and GIF become PNG, but TIFF where values are negative or no whole numbers, and a DICOM series becomes
    NIfTI. Size, spacing and place are those of `image`, resolutions and the orientation of a TIFF file too; a PNG shows
    its pixels the way that viewers show the image. `palette`: red, green, blue of each number, for PNG. The file is
    whole or not there. Returns its path.
    """
    kind = next((e for e in VOLUMES if image.name.lower().endswith(e)), "")
    if image.is_dir():
        kind = ".nii.gz"
    elif tiff.is_one(image):
        kind = image.suffix
    elif not kind and not _fits_png(values):
        kind = ".tif"
    path = folder / f"{case_name}{kind or '.png'}"
    if values.shape[:3] != like.array.shape[:3]:
        raise BadInput(path, _size(like.array), _size(values[..., None] if values.ndim == 3 else values))
    with whole(path) as temporary:
        if kind == ".nrrd":
            _write_nrrd(temporary, like, values)
        elif kind in VOLUMES:
            content = _nifti(image, like, values)
            temporary.write_bytes(gzip.compress(content, 6, mtime=0) if kind == ".nii.gz" else content)
        elif kind:
            tiff.write(temporary, image, values)
        else:
            _write_png(temporary, image, values, palette)
    return path


def _is_volume(path: Path) -> bool:
    return path.is_dir() or path.name.lower().endswith(VOLUMES)


def _picture(path: Path, labels: bool) -> tuple[np.ndarray, list[str]]:
    """`(1, H, W, C)` of a file that Pillow reads, and notes; of `labels`, the numbers of a palette's colours."""
    notes, content = [], path.read_bytes()
    prepared.whole_jpeg(path, content)
    try:
        opened = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:  # whose message is of the buffer
        raise BadInput(path, EXPECTED, "the start of no picture") from None
    with opened as picture:
        if getattr(picture, "n_frames", 1) > 1:
            if picture.format != "MPO":  # JPEG files of telephones, with a preview behind
                raise BadInput(path, "one picture", f"{picture.n_frames}")  # type: ignore[attr-defined]
            notes.append("the first of its pictures")
        picture.load()
        mode, turn = picture.mode, orientation.of(picture)
        deep = content[:8] == b"\x89PNG\r\n\x1a\n" and content[24] == 16 and mode in ("RGB", "RGBA", "LA")
        if deep:
            notes.append("8 of its 16 bits a colour are read")
        if mode == "P" and labels and picture.format == "PNG" and not _grey_palette(picture):
            array = np.array(picture)
        elif mode == "P":
            array = np.array(picture.convert("RGBA" if "transparency" in picture.info and not labels else "RGB"))
        elif mode in ("1", "CMYK", "YCbCr", "LAB", "HSV", "PA", "La", "RGBa", "RGBX"):
            to = {"1": "L", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}.get(mode, "RGB")
            array = np.array(picture.convert(to))
            notes += [f"{mode} made RGB"] if to == "RGB" else []
        else:
            array = np.array(picture)
    array = array if array.ndim == 3 else array[..., None]
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if turn != 1:
        notes.append("turned as its EXIF says")
    return orientation.shown(array, turn)[None], notes


def _opaque(array: np.ndarray) -> np.ndarray:
    """A mask without its alpha channel: black where it is transparent. Where all colours are the same, that channel is
    what is drawn."""
    if array.shape[-1] not in (2, 4):
        return array
    colours, alpha = array[..., :-1], array[..., -1:]
    drawn = (colours == colours[:1, :1, :1]).all() and alpha.min() < alpha.max()
    return alpha if drawn else np.where(alpha > 0, colours, 0).astype(array.dtype)


def _grey(array: np.ndarray) -> np.ndarray:
    same = array.shape[-1] == 3 and (array[..., 0] == array[..., 1]).all() and (array[..., 0] == array[..., 2]).all()
    return array[..., :1] if same else array


def _real(path: Path, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * 255
    if array.dtype.kind not in "uif":
        raise BadInput(path, "real numbers", array.dtype)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise BadInput(path, "finite numbers", f"{np.count_nonzero(~np.isfinite(array))} that are none")
    return array


def _size(array: np.ndarray) -> str:
    slices, height, width = array.shape[:3]
    return f"{width} x {height} pixels" + (f" in {slices} slices" if slices > 1 else "")


def _colours(picture: Image.Image) -> bytes:
    return bytes(picture.getpalette("RGB") or [])


def _grey_palette(picture: Image.Image) -> bool:
    """Whether all colours of a palette are grey, and those in use are different: it stands for grey values."""
    colours = np.frombuffer(_colours(picture), np.uint8).reshape(-1, 3)
    used = np.unique(np.array(picture))
    if not (colours == colours[:, :1]).all() or used.max() >= len(colours):
        return False
    return len(np.unique(colours[used, 0])) == len(used)


def _fits_png(values: np.ndarray) -> bool:
    most = 255 if values.ndim == 4 else 65535
    return bool(values.min() >= 0 and values.max() <= most and (values == np.round(values)).all())


def _write_png(path: Path, image: Path, values: np.ndarray, palette: bytes | None) -> None:
    kind = np.uint8 if values.max() < 256 else np.uint16
    with Image.open(image) as original:
        dpi = original.info.get("dpi")
    mask = Image.fromarray(values[0].astype(kind))
    if palette and mask.mode == "L":
        mask.putpalette(palette)
    mask.save(path, "PNG", optimize=True, **({"dpi": dpi} if dpi else {}))


def _nifti(image: Path, like: Picture, values: np.ndarray) -> bytes:
    """A file with the header of `image`, where that is one, so that it lies on it wherever it is opened."""
    import nibabel  # an optional dependency

    assert like.geometry is not None
    if image.is_dir():
        geometry, affine = like.geometry, np.eye(4)
        affine[:3, :3] = np.diag([-1, -1, 1]) @ (geometry.direction * geometry.spacing)[:, ::-1]
        affine[:3, 3] = np.diag([-1, -1, 1]) @ geometry.origin
        made: Any = nibabel.Nifti1Image(values.T, affine, dtype=values.dtype)
        made.header.set_xyzt_units("mm")
        return made.to_bytes()
    original: Any = nibabel.load(image)
    header = original.header.copy()
    header.extensions.clear()
    header.set_data_dtype(values.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    header["pixdim"][4:] = 1  # a fourth axis of length 1 is left out
    return type(original)(values.T, None, header).to_bytes()


def _write_nrrd(path: Path, like: Picture, values: np.ndarray) -> None:
    import SimpleITK as sitk

    assert like.geometry is not None
    kind: Any = values.dtype.type
    sitk.WriteImage(itk_image(Volume(values, like.geometry), kind), str(path), True, imageIO="NrrdImageIO")
