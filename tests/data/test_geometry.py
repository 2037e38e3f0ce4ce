"""Where voxels lie: read as SimpleITK reads it, compared, turned, and refused where it is absurd or damaged."""

import gzip
from itertools import permutations, product

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from helpers import refused
from volumes_kit import patch

from fewlabels.data import geometry, nifti
from fewlabels.data.geometry import Geometry, Volume

SIZE, MM = (5, 7, 9), (3.0, 1.25, 0.8)  # z, y, x
VOXELS = np.random.default_rng(0).integers(-500, 500, SIZE).astype(np.int16)
TILT = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.5)
STRAIGHT = Geometry(SIZE, MM, geometry.UPWARDS, np.array([10.0, -20.5, 7.25]))


def itk(direction=None, voxels=VOXELS):
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(MM[::-1])
    image.SetOrigin((10, -20.5, 7.25))
    image.SetDirection(TILT.GetMatrix() if direction is None else direction)
    return image


@pytest.fixture
def tilted(tmp_path):
    path = tmp_path / "tilted.nii.gz"
    sitk.WriteImage(itk(), str(path))
    return path


def places(found):
    """Of all voxels, LPS, in the order of the array."""
    indices = np.indices(found.size).reshape(3, -1)
    return (found.direction * found.spacing @ indices + found.origin[:, None]).T


def places_by_itk(path):
    image = sitk.ReadImage(str(path))
    return [image.TransformIndexToPhysicalPoint(index[::-1]) for index in np.ndindex(*image.GetSize()[::-1])]


# ---- read ----


@pytest.mark.parametrize("codes", [(1, 1), (1, 0), (0, 1), (2, 2)])
def test_places_are_those_of_simpleitk(tilted, codes):
    patch(tilted, codes=codes)
    volume = nifti.read(tilted)
    np.testing.assert_array_equal(volume.array, VOXELS)
    assert volume.array.dtype == np.int16
    assert volume.geometry.spacing == pytest.approx(MM)
    np.testing.assert_allclose(places(volume.geometry), places_by_itk(tilted), atol=1e-4)
    assert volume.note == ""


def test_what_itk_gets_back_is_what_it_wrote(tilted):
    image = geometry.itk_image(nifti.read(tilted), np.float32)
    for name in ("Size", "Spacing", "Origin", "Direction"):
        np.testing.assert_allclose(getattr(image, f"Get{name}")(), getattr(itk(), f"Get{name}")(), atol=1e-6)


def test_files_without_a_place(tilted):
    patch(tilted, codes=(0, 0))
    found = nifti.read(tilted).geometry
    assert (found.origin.tolist(), found.spacing) == ([0, 0, 0], pytest.approx(MM))


@pytest.mark.parametrize("form", ["nifti1", "nifti2", "plain", "big-endian", "fourth axis", "microns", "scaled"])
def test_other_ways_to_write_the_same(tmp_path, form):
    path = tmp_path / ("a.nii" if form == "plain" else "a.nii.gz")
    Image = nibabel.Nifti2Image if form == "nifti2" else nibabel.Nifti1Image
    unit = 1000 if form == "microns" else 1
    affine = np.diag([-0.8 * unit, -1.25 * unit, 3 * unit, 1])
    affine[:3, 3] = np.array([-10, 20.5, 7.25]) * unit
    array = VOXELS.T[..., None] if form == "fourth axis" else VOXELS.T
    header = Image.header_class(endianness=">" if form == "big-endian" else "<")
    header.set_data_dtype(np.int16)
    header.set_xyzt_units("micron" if form == "microns" else "mm")
    image = Image(array, affine, header)
    if form == "scaled":
        image.header.set_slope_inter(2, -7)
    nibabel.save(image, path)
    volume = nifti.read(path)
    np.testing.assert_array_equal(volume.array, VOXELS * 2 - 7 if form == "scaled" else VOXELS)
    assert volume.array.dtype.isnative
    assert volume.array.dtype == (np.float64 if form == "scaled" else np.int16)
    np.testing.assert_allclose(places(volume.geometry), places(STRAIGHT), atol=1e-4)


def test_an_sform_of_another_spacing_is_not_used(tilted):
    """As in the official files of ACDC: diag(-1, -1, 1), whatever pixdim."""
    before = nifti.read(tilted).geometry
    patch(tilted, srow=(-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0))
    volume = nifti.read(tilted)
    np.testing.assert_allclose(places(volume.geometry), places(before), atol=1e-4)
    assert volume.note == "the sform has another spacing than pixdim and is not used, qform is"
    patch(tilted, codes=(0, 1))
    refused(
        lambda: nifti.read(tilted),
        f"{tilted}: expected an sform of right angles and pixdim's",
        "found -1, 0, 0; 0, -1,",
    )


NAN, INF = float("nan"), float("inf")
BAD = {
    **{f"spacing {mm}": ({"pixdim": (1, 0.8, mm, 3, 1, 1, 1, 1)}, "expected a spacing of 0.01 to 100 mm", f"{mm:g}, 3")
       for mm in (NAN, 0, -1, INF, 1e-30, 1e30, 0.009, 101)},
    "metres": ({"units": (1,)}, "expected a spacing of 0.01 to 100 mm", "found 800, 1250, 3000"),
    "origin nan": ({"qoffset": (NAN, 0, 0), "codes": (1, 0)}, "expected an origin within 100000 mm", "found nan"),
    "origin 1e30": ({"qoffset": (1e30, 0, 0), "codes": (1, 0)}, "expected an origin within 100000 mm", "-1e+30, 0, 0"),
    "no quaternion": ({"quatern": (1, 1, 1), "codes": (1, 0)}, "expected a gzipped NIfTI volume", "w2 should be"),
    "nan quaternion": ({"quatern": (NAN, 0, 0), "codes": (1, 0)}, "expected", "found"),
    "skewed sform": ({"srow": (-0.8, 0.6, 0, 0, 0, -1.09658561, 0, 0, 0, 0, 3, 0), "codes": (0, 1)},
                     "expected axes at right angles", "0.48"),
    "flipped sform": ({"srow": (0.8, 0, 0, 0, 0, -1.25, 0, 0, 0, 0, 3, 0), "quatern": (0, 0, 1), "qoffset": (0, 0, 0)},
                      "sform: expected direction 1, 0, 0, 0, 1, 0, 0, 0, 1 (x, y, z), as its qform", "found -1, 0, 0"),
    "shifted sform": ({"srow": (-0.8, 0, 0, 0, 0, -1.25, 0, 0, 0, 0, 3, 1), "quatern": (0, 0, 1), "qoffset": (0, 0, 0)},
                      "sform: expected origin 0, 0, 0 (x, y, z), as its qform", "found 0, 0, 1"),
    "empty sform": ({"srow": (0,) * 12, "codes": (0, 1)}, "expected an sform of right angles and", "found 0, 0, 0; 0"),
    "vox_offset 0": ({"vox_offset": (0,)}, "expected voxels behind the header, vox_offset of at least 352", "found 0"),
    "vox_offset 348": ({"vox_offset": (348,)}, "vox_offset of at least 352", "found 348"),
    "vox_offset nan": ({"vox_offset": (NAN,)}, "vox_offset of at least 352", "found nan"),
    "vox_offset far": ({"vox_offset": (1e9,)}, "vox_offset of at least 352", "found 1e+09"),
    "vox_offset 368": ({"vox_offset": (368,)}, "expected at least 998 bytes once unpacked", "found 982"),
    "too many slices": ({"dim": (3, 9, 7, 6, 1, 1, 1, 1)}, "expected at least 1,108 bytes once unpacked", "found 982"),
    "two axes": ({"dim": (2, 9, 35, 1, 1, 1, 1, 1)}, "expected three axes", "found 2"),
    "four axes": ({"dim": (4, 9, 7, 1, 5, 1, 1, 1)}, "expected three axes", "found 4"),
    "no rows": ({"dim": (3, 9, 0, 5, 1, 1, 1, 1)}, "expected three axes", "found (9, 0, 5)"),
    "colours": ({"datatype": (128,)}, "expected one real number a voxel", "found [('R', 'u1')"),
    "unknown type": ({"datatype": (77,)}, "expected a gzipped NIfTI volume", "77"),
    "half of a pair": ({"magic": (b"ni1\0",)}, "expected header and voxels in one file, n+1", "found ni1"),
    "Analyze": ({"magic": (b"",)}, "expected header and voxels in one file, n+1", "found "),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_headers_that_are_refused(tilted, what):
    fields, *texts = BAD[what]
    patch(tilted, **fields)
    refused(lambda: nifti.read(tilted), tilted, *texts)


@pytest.mark.parametrize("zipped", [True, False])
def test_files_that_are_cut_or_no_volumes(tilted, tmp_path, zipped):
    path = tilted if zipped else tmp_path / "plain.nii"
    whole = tilted.read_bytes() if zipped else gzip.decompress(tilted.read_bytes())
    for content in (b"", b"no volume", whole[:40], whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        refused(lambda: nifti.read(path), f"{path}: expected ")
    path.unlink()
    refused(lambda: nifti.read(path), f"{path}: expected a", "No such file")


def test_flipped_bits_of_a_gzipped_file(tilted):
    whole, rng = tilted.read_bytes(), np.random.default_rng(0)
    for at in rng.integers(10, len(whole), 200):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << rng.integers(8)
        tilted.write_bytes(damaged)
        refused(lambda: nifti.read(tilted), f"{tilted}: expected ")


# ---- compared and turned ----


def moved(shift=(0, 0, 0), spacing=MM, turn=0.0, size=SIZE):
    """STRAIGHT with its origin shifted, mm (L, P, S), or turned about z."""
    cos, sin = np.cos(turn), np.sin(turn)
    about_z = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    return Volume(VOXELS, Geometry(size, spacing, about_z @ STRAIGHT.direction, STRAIGHT.origin + shift))


@pytest.mark.parametrize("steps", list(product((1, -1), repeat=3)))
@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_axes_that_run_another_way_are_turned(tmp_path, order, steps):
    """The same places by SimpleITK, in a file of its own."""
    image = sitk.PermuteAxes(itk()[tuple(slice(None, None, step) for step in steps)], list(order))
    sitk.WriteImage(image, str(tmp_path / "a.nii"))
    sitk.WriteImage(itk(), str(tmp_path / "b.nii"))
    expected = nifti.read(tmp_path / "b.nii").geometry
    volume = geometry.onto("a.nii", nifti.read(tmp_path / "a.nii"), expected, "b.nii")
    np.testing.assert_array_equal(volume.array, VOXELS)
    assert volume.array.flags.c_contiguous
    np.testing.assert_allclose(places(volume.geometry), places(expected), atol=1e-3)
    assert ("b.nii, and were turned" in volume.note) == (-1 in steps or order != (0, 1, 2))


@pytest.mark.parametrize(
    "geometry_of",
    [moved(), moved((0.07, -0.1, 0.2)), moved(spacing=(3.01, 1.25, 0.8)), moved(turn=0.005)],
    ids=["same", "shifted", "spacing", "turned"],
)
def test_a_tenth_of_a_voxel_is_let_pass(geometry_of):
    assert geometry.onto("a", geometry_of, STRAIGHT, "b") is geometry_of


@pytest.mark.parametrize(
    ("volume", "line"),
    [
        (moved((0.09, 0, 0)), "a: expected origin 10, -20.5, 7.25 (x, y, z), as b, found 10.09, -20.5, 7.25"),
        (moved((0, 0, -0.4)), "a: expected origin 10, -20.5, 7.25 (x, y, z), as b, found 10, -20.5, 6.85"),
        (moved(spacing=(3.1, 1.25, 0.8)), "a: expected spacing 0.8, 1.25, 3 (x, y, z), as b, found 0.8, 1.25, 3.1"),
        (
            moved(turn=0.03),
            "a: expected direction 1, 0, 0, 0, 1, 0, 0, 0, 1 (x, y, z), as b, found 0.99955, -0.02",
        ),
        (moved(turn=np.pi), "a: expected direction 1, 0, 0, 0, 1, 0, 0, 0, 1 (x, y, z), as b, found -1, -"),
        (moved(size=(5, 7, 8)), "a: expected size 9, 7, 5 (x, y, z), as b, found 8, 7, 5"),
    ],
    ids=["x", "z", "spacing", "turned", "header flipped alone", "size"],
)
def test_other_places_are_refused_by_name(volume, line):
    refused(lambda: geometry.onto("a", volume, STRAIGHT, "b"), line)


def test_notes_are_told_once_for_each_kind(tmp_path):
    with pytest.warns(UserWarning, match="turned|sform") as caught:
        geometry.tell({"a": "turned", "b": "", "c": "turned", "d": "no sform"})
    assert [str(w.message) for w in caught] == ["a and 1 more: turned", "d: no sform"]
