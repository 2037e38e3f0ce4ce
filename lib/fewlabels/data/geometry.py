"""Where the voxels of a volume lie, and whether two volumes lie on the same ones.

Arrays are z, y, x: slices, rows and columns of the file, whatever they are of the patient. Places are millimetres
towards the patient's left, back and head (LPS), as in DICOM and ITK.
"""

import warnings
from collections.abc import Iterable, Mapping
from itertools import permutations, product
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fewlabels.errors import BadInput

if TYPE_CHECKING:
    import SimpleITK

LEAST_MM, MOST_MM = 0.01, 100.0  # a tenth of dental CT's finest voxel, ten times the thickest slices in use
FAR_MM = 1e5  # no table is further from its scanner
TOLERANCE = 0.1  # voxels: headers round (a quaternion of float32 moves a corner by some hundredths), people shift more
UPWARDS = np.eye(3)[:, ::-1]  # directions of axes z, y, x that run to the head, the back, the left: LPS


class Geometry(NamedTuple):
    """size       voxels (z, y, x)
    spacing    mm (z, y, x)
    direction  unit vectors along the axes z, y, x, its columns, float64 (3, 3); rows are L, P, S
    origin     where the centre of the first voxel lies, mm, float64 (L, P, S)
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    direction: np.ndarray
    origin: np.ndarray


class Volume(NamedTuple):
    """A file's voxels `(z, y, x)`, where they lie, and what had to be decided to read them, in words, mostly ""."""

    array: np.ndarray
    geometry: Geometry
    note: str = ""


def check_spacing(where: object, spacing: tuple[float, ...]) -> None:
    """Raises `BadInput` for a spacing (z, y, x) in mm that no scanner has, or that is no number."""
    if not all(LEAST_MM <= mm <= MOST_MM for mm in spacing):
        raise BadInput(where, f"a spacing of {LEAST_MM:g} to {MOST_MM:g} mm (x, y, z)", words(spacing[::-1]))


def checked(where: object, geometry: Geometry) -> Geometry:
    """The geometry, if it is one: a plausible spacing, axes at right angles, a finite origin. Or raises `BadInput`."""
    check_spacing(where, geometry.spacing)
    cosines = geometry.direction.T @ geometry.direction
    if not np.allclose(cosines, np.eye(3), rtol=0, atol=1e-3):
        found = words(geometry.direction[:, ::-1].ravel())
        raise BadInput(where, "axes at right angles to each other", f"direction {found}")
    if not (np.abs(geometry.origin) <= FAR_MM).all():
        raise BadInput(where, f"an origin within {FAR_MM:g} mm", words(geometry.origin))
    return geometry


def turned(volume: Volume, direction: np.ndarray) -> Volume:
    """The volume with its axes in the order and sense nearest to those of `direction`; nothing is interpolated."""
    array, geometry, note = volume
    cosines = direction.T @ geometry.direction
    order = max(permutations(range(3)), key=lambda axes: np.abs(cosines[range(3), axes]).sum())
    back = [i for i, axis in enumerate(order) if cosines[i, axis] < 0]
    if not back and order == (0, 1, 2):
        return volume
    last = np.array([geometry.size[order[i]] - 1 if i in back else 0 for i in range(3)])
    signs = np.where(np.isin(range(3), back), -1, 1)
    size, spacing = tuple(geometry.size[i] for i in order), tuple(geometry.spacing[i] for i in order)
    axes = geometry.direction[:, order]
    moved = Geometry(size, spacing, axes * signs, geometry.origin + axes * spacing @ last)
    return Volume(np.ascontiguousarray(np.flip(array.transpose(order), tuple(back))), moved, note)


def onto(where: object, volume: Volume, expected: Geometry, of: object) -> Volume:
    """`volume` on the voxels of `expected`, the geometry of `of`: as it is, or with axes turned and exchanged where its
    header says that they run another way to the same places, which its note tells.

    Raises `BadInput` naming `where` and what differs, if a voxel were displaced by more than a tenth of one.
    """
    if volume.geometry.size == expected.size and _apart(volume.geometry, expected) <= TOLERANCE:
        return volume
    there = turned(volume, expected.direction)
    if there.geometry.size != expected.size or _apart(there.geometry, expected) > TOLERANCE:
        agree(where, volume.geometry, expected, of)
    note = f"its axes run another way than those of {of}, and were turned"
    return there._replace(note="; ".join(filter(None, (volume.note, note))))


def agree(where: object, found: Geometry, expected: Geometry, of: object) -> None:
    """Raises `BadInput` that says what of size, spacing, direction and origin differs from `of`, if anything does."""
    if found.size != expected.size:
        raise BadInput(where, f"size {words(expected.size[::-1])} (x, y, z), as {of}", words(found.size[::-1]))
    if _apart(found, expected) <= TOLERANCE:
        return
    changed = {name: expected._replace(**{name: getattr(found, name)}) for name in ("spacing", "direction", "origin")}
    name = max(changed, key=lambda name: _apart(changed[name], expected))
    inner = [words(_itk(geometry)[name]) for geometry in (expected, found)]
    raise BadInput(where, f"{name} {inner[0]} (x, y, z), as {of}", inner[1])


def tell(notes: Mapping[Path, str]) -> None:
    """Warns of what was decided for files, once for each kind of note."""
    for note in dict.fromkeys(filter(None, notes.values())):
        paths = [path for path, text in notes.items() if text == note]
        others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        warnings.warn(f"{paths[0]}{others}: {note}", stacklevel=3)


def itk_image(volume: Volume, kind: type) -> "SimpleITK.Image":
    """The volume as SimpleITK has it, of NumPy's type `kind`."""
    import SimpleITK as sitk  # an optional dependency

    image, header = sitk.GetImageFromArray(volume.array.astype(kind)), _itk(volume.geometry)
    image.SetSpacing(header["spacing"].tolist())
    image.SetDirection(header["direction"].tolist())
    image.SetOrigin(header["origin"].tolist())
    return image


def _apart(a: Geometry, b: Geometry) -> float:
    """How far the most distant pair of corners lies apart, along the axis of `b` where that is most, in voxels."""
    corners = np.array(list(product(*((0, n - 1) for n in b.size)))).T
    places = [g.direction * g.spacing @ corners + g.origin[:, None] for g in (a, b)]
    return float(np.abs(np.linalg.solve(b.direction * b.spacing, places[0] - places[1])).max())


def _itk(geometry: Geometry) -> dict[str, np.ndarray]:
    """Spacing (x, y, z), direction row by row and origin, as ITK has them."""
    return {
        "spacing": np.array(geometry.spacing[::-1]),
        "direction": geometry.direction[:, ::-1].ravel(),
        "origin": geometry.origin,
    }


def words(values: Iterable[float]) -> str:
    """Numbers for a message."""
    return ", ".join(f"{value + 0.0:g}" for value in values)
