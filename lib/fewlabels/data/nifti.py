"""NIfTI volumes, read by SimpleITK, but none that it would complete or mend without a word."""

import gzip

import numpy as np

from fewlabels.data import prepared
from fewlabels.errors import BadInput


def read(path):
    """The volume `(Z, Y, X)` of a file `.nii.gz` or `.nii`, scaled if its header says so, and its spacing in mm, a
    tuple of the same order. Origin and orientation are left out.

    Raises `BadInput` naming the file if it is missing, damaged, shorter than its header says, has numbers that are not
    finite, or other than three axes.
    """
    zipped = path.suffix == ".gz"
    with prepared.reading(path, "a gzipped NIfTI volume" if zipped else "a NIfTI volume"):
        import SimpleITK as sitk  # an optional dependency

        content = gzip.decompress(path.read_bytes()) if zipped else path.read_bytes()
        image = sitk.ReadImage(str(path))
        array, spacing = sitk.GetArrayFromImage(image), image.GetSpacing()[::-1]
        offset, width = (int(float(image.GetMetaData(key))) for key in ("vox_offset", "bitpix"))
        # ITK makes up what is missing at the end, and turns NaN into 0.
        if len(content) < (needed := offset + array.size * width // 8):
            raise BadInput(path, f"at least {needed:,} bytes once unpacked", f"{len(content):,}")
        if image.GetMetaData("datatype") in ("16", "64"):
            order = "<" if content[:2] == b"\x5c\x01" else ">"  # the header begins with its length, 348
            stored = np.frombuffer(content, f"{order}f{width // 8}", array.size, offset)
            if not np.isfinite(stored).all():
                raise BadInput(path, "finite numbers", f"{np.count_nonzero(~np.isfinite(stored))} voxels that are none")
    if array.ndim != 3:
        raise BadInput(path, "three axes", array.ndim)
    return array, spacing
