"""Volumes of any kind that is read here: NIfTI, NRRD, and a folder with one DICOM series."""

import gzip
import math
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fewlabels.data import nifti, prepared
from fewlabels.data.geometry import TOLERANCE, Geometry, Volume, check_spacing, checked
from fewlabels.errors import BadInput
from fewlabels.files import listed


def read(path: Path) -> Volume:
    """The voxels `(z, y, x)` of a file .nii, .nii.gz or .nrrd, or of a folder of DICOM files, as they are stored, and
    where they lie. DICOM's are in the units of its rescale slope and intercept, Hounsfield's for CT.

    Raises `BadInput` naming the file if it is missing or damaged, has other than three axes or more than one value a
    voxel, or a geometry that is none; of DICOM too, if there is more than one series, or a slice too few or too many.
    """
    if path.is_dir():
        return _dicom(path)
    if path.name.endswith((".nii", ".nii.gz")):
        return nifti.read(path)
    if path.suffix == ".nrrd":
        return _nrrd(path)
    raise BadInput(path, "a volume: .nii, .nii.gz, .nrrd, or a folder of DICOM files", path.name)


def _nrrd(path: Path) -> Volume:
    if not path.is_file():
        raise BadInput(path, "an NRRD volume", "no such file")
    import SimpleITK as sitk  # an optional dependency

    content = path.read_bytes()
    head, end, body = content.partition(b"\r\n\r\n" if content[:16].find(b"\r\n") > 0 else b"\n\n")
    lines = (line.partition(":") for line in head.decode("latin-1").splitlines() if not line.startswith("#"))
    fields = {name.strip().lower(): value.strip() for name, _, value in lines}
    if not end:
        raise BadInput(path, "a whole NRRD volume", "a header that does not end")
    if "data file" in fields:
        raise BadInput(path, "header and voxels in one file", f"voxels in {fields['data file']}")
    if fields.get("dimension") == "3":  # what ITK cannot use of these it replaces by 1 mm without a word
        check_spacing(path, _spacing(path, fields))
        places = re.findall(r"[^(),\s]+", fields.get("space origin", ""))
        with prepared.reading(path, "a space origin, mm"):
            if not np.isfinite([float(place) for place in places]).all():
                raise BadInput(path, "a space origin, mm", fields["space origin"])
    try:
        image = sitk.ReadImage(str(path), imageIO="NrrdImageIO")
    except RuntimeError as error:
        raise BadInput(path, "a whole NRRD volume", _words_of(error)) from None
    volume = _of_itk(path, image)
    if fields.get("encoding") in ("gzip", "gz") and zlib.crc32(volume.array.data) != int.from_bytes(
        body[-8:-4], "little"
    ):
        with prepared.reading(path, "a whole NRRD volume"):  # whose sum at the end ITK does not look at
            gzip.decompress(body)  # raises, if it was not another byte order or a file of several parts
    return volume


def _spacing(path: Path, fields: Mapping[str, str]) -> tuple[float, ...]:
    """Of an NRRD header, mm (z, y, x)."""
    said, expected = fields.get("space directions", fields.get("spacings", "")), "space directions of three axes, mm"
    with prepared.reading(path, expected):
        vectors = re.findall(r"\(([^()]*)\)", said) if "space directions" in fields else said.split()
        lengths = [math.hypot(*map(float, vector.split(","))) for vector in vectors]
    if len(lengths) != 3:
        raise BadInput(path, expected, said or "nothing")
    return tuple(lengths[::-1])


def _dicom(folder: Path) -> Volume:
    import SimpleITK as sitk

    loud = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # what it warns of is refused here
    try:
        return _series(folder, sitk)
    except RuntimeError as error:
        raise BadInput(folder, "a whole DICOM series", _words_of(error)) from None
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(loud)


def _series(folder: Path, sitk: Any) -> Volume:
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if len(series) != 1:
        raise BadInput(folder, "DICOM files of one series", f"{len(series)} series" if series else "none")
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0])
    for path in (path for path in listed(folder) if path.is_file() and str(path) not in files):
        if path.suffix == ".dcm" or path.read_bytes()[128:132] == b"DICM":  # it would be missing without a word
            raise BadInput(path, f"an image of the series {series[0]}, like the others", "a file that is none")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    reader.MetaDataDictionaryArrayUpdateOn()
    volume = _of_itk(folder, reader.Execute())
    if not reader.HasMetaDataKey(0, "0028|0030"):
        raise BadInput(files[0], "a pixel spacing, (0028,0030)", "none")
    with prepared.reading(folder, "slices that say where they lie, (0020,0032)"):
        said = [reader.GetMetaData(i, "0020|0032").split("\\") for i in range(len(files))]
        steps = np.diff(np.array(said, dtype=float), axis=0)
    normal, mm = volume.geometry.direction[:, 0], volume.geometry.spacing[0]
    along = steps @ normal
    across = np.linalg.norm(steps - along[:, None] * normal, axis=1)
    off = np.maximum(np.abs(along - (np.median(along) if len(along) else mm)), across)
    if len(off) and max(off.max(), abs(np.median(along) - mm)) > TOLERANCE * mm:
        worst = int(off.argmax())
        names = " and ".join(Path(file).name for file in files[worst : worst + 2])
        found = f"{along[worst]:.2f} mm, and {across[worst]:.2f} mm aside, between {names}"
        raise BadInput(folder, "slices at even distances, straight above each other", found)
    return volume


def _of_itk(path: Path, image: Any) -> Volume:
    import SimpleITK as sitk

    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        found = f"{image.GetDimension()} axes, {image.GetNumberOfComponentsPerPixel()} values a voxel"
        raise BadInput(path, "three axes, one value a voxel", found)
    direction = np.array(image.GetDirection()).reshape(3, 3)[:, ::-1]
    size, spacing = image.GetSize()[::-1], image.GetSpacing()[::-1]
    place = checked(path, Geometry(size, spacing, direction, np.array(image.GetOrigin())))
    return Volume(sitk.GetArrayFromImage(image), place)


def _words_of(error: Exception) -> str:
    """What ITK found: the last of its many lines that says something."""
    parts = [" ".join(part.split()) for part in re.split(r"\]|ERROR:|\):", str(error))]
    return re.sub(r"^_\w+: ", "", next(part for part in reversed(parts) if part))
