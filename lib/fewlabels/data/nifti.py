"""NIfTI volumes, read by nibabel, but none that it would mend without a word."""

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np

from fewlabels.data import prepared
from fewlabels.data.geometry import UPWARDS, Geometry, Volume, agree, check_spacing, checked, words
from fewlabels.errors import BadInput

UNITS = {1: 1000.0, 3: 0.001}  # what the header's unit of length is in mm: metres, microns; else it is mm
LPS = np.diag([-1.0, -1.0, 1.0])  # from NIfTI's right, front, head


def find(folder: Path, stem: str) -> Path:
    """`stem.nii.gz` in `folder`, or `stem.nii` if only that is there."""
    zipped, plain = folder / f"{stem}.nii.gz", folder / f"{stem}.nii"
    return plain if plain.is_file() and not zipped.is_file() else zipped


def read(path: Path) -> Volume:
    """The volume of a file `.nii.gz` or `.nii`, scaled if its header says so.

    A fourth axis of length 1 is left out. The spacing is that of pixdim. Where the voxels lie is said by qform and
    sform, which must agree if both are set; an sform of another spacing than pixdim is not used if there is a qform
    (that of the official files of ACDC is 1 mm), and this is noted.

    Raises `BadInput` naming the file if it is missing, damaged, shorter than its header says, has numbers that are not
    finite, other than three axes, or a geometry that is none.
    """
    zipped = path.suffix == ".gz"
    with prepared.reading(path, "a gzipped NIfTI volume" if zipped else "a NIfTI volume"):
        import nibabel  # an optional dependency

        content = gzip.decompress(path.read_bytes()) if zipped else path.read_bytes()
        second = content[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c")  # NIfTI-2's header begins with its length, 540
        Image = nibabel.Nifti2Image if second else nibabel.Nifti1Image
        size = Image.header_class.sizeof_hdr
        raw = Image.header_class(content[:size], check=False)  # what is checked is mended
        shape = _shape(path, raw, content)
        mm = UNITS.get(int(raw["xyzt_units"]) & 7, 1.0)
        spacing = tuple(float(d) * mm for d in raw["pixdim"][3:0:-1])
        check_spacing(path, spacing)
        image = Image.from_bytes(content)
        array = np.asanyarray(image.dataobj).reshape(shape, order="F").T
        array = array.astype(array.dtype.newbyteorder("="), order="C", copy=False)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BadInput(path, "finite numbers", f"{np.count_nonzero(~np.isfinite(array))} voxels that are none")
        return Volume(array, *_geometry(path, image.header, array.shape, spacing, mm))


def _shape(path: Path, header: Any, content: bytes) -> tuple[int, ...]:
    """Voxels (x, y, z) by the header as it is in the file."""
    shape, least = header.get_data_shape(), header.single_vox_offset
    shape = shape[:3] if set(shape[3:]) == {1} else shape
    if len(shape) != 3 or min(shape) < 1:
        raise BadInput(path, "three axes", len(shape) if len(shape) != 3 else f"{shape} voxels (x, y, z)")
    if (magic := header["magic"].item()) != header.single_magic:
        raise BadInput(path, f"header and voxels in one file, {header.single_magic.decode()}", magic.decode("latin-1"))
    if header.get_data_dtype().kind not in "iuf":
        raise BadInput(path, "one real number a voxel", header.get_data_dtype())
    if not least <= (offset := float(header["vox_offset"])) <= len(content):
        raise BadInput(path, f"voxels behind the header, vox_offset of at least {least}", f"{offset:g}")
    needed = int(offset) + math.prod(map(int, shape)) * header.get_data_dtype().itemsize
    if len(content) < needed:
        raise BadInput(path, f"at least {needed:,} bytes once unpacked", f"{len(content):,}")
    return shape


def _geometry(
    path: Path, header: Any, size: tuple[int, ...], spacing: tuple[float, ...], mm: float
) -> tuple[Geometry, str]:
    """The geometry, and what had to be decided for it."""

    def of(affine: np.ndarray) -> Geometry:
        axes, origin = (LPS @ affine[:3, :3])[:, ::-1] * mm, LPS @ affine[:3, 3] * mm
        lengths = np.linalg.norm(axes, axis=0)
        return Geometry(size, tuple(lengths), axes / np.where(lengths > 0, lengths, 1), origin)

    note, (qform, _), (sform, _) = "", header.get_qform(coded=True), header.get_sform(coded=True)
    if sform is not None and not np.allclose(of(sform).spacing, spacing, rtol=1e-3, atol=0):
        if qform is None:
            said, found = words(spacing[::-1]), "; ".join(map(words, sform[:3, :3]))
            raise BadInput(path, f"an sform of right angles and pixdim's spacing, {said} mm (x, y, z)", found)
        sform, note = None, "the sform has another spacing than pixdim and is not used, qform is"
    places = [checked(path, of(form)._replace(spacing=spacing)) for form in (sform, qform) if form is not None]
    if len(places) == 2:
        agree(f"{path}: sform", places[0], places[1], "its qform")
    return (places or [Geometry(size, spacing, UPWARDS, np.zeros(3))])[0], note  # the last: neither is set
