"""NRRD files and DICOM series: read as SimpleITK reads them, and refused where it makes up what is missing."""

import gzip

import numpy as np
import pytest
import SimpleITK as sitk
from helpers import refused
from volumes_kit import flip_bit, patch_nrrd, write_dicom

from fewlabels.data import volumes

VOXELS = np.random.default_rng(0).integers(-1024, 2000, (6, 7, 9)).astype(np.int16)
TILT = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.5).GetMatrix()


def itk(direction=TILT, voxels=VOXELS):
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.8, 1.25, 3.0))
    image.SetOrigin((10, -20.5, 7.25))
    image.SetDirection(direction)
    return image


STRAIGHT = itk(np.eye(3).ravel())


def same_as(volume, image):
    """The voxels and the place of each, by SimpleITK."""
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(image))
    place = volume.geometry
    for index in np.ndindex(*place.size):
        found = place.direction @ (place.spacing * np.array(index)) + place.origin
        np.testing.assert_allclose(found, image.TransformIndexToPhysicalPoint(index[::-1]), atol=1e-4)


@pytest.fixture
def nrrd(tmp_path):
    path = tmp_path / "a.nrrd"
    sitk.WriteImage(itk(), str(path), useCompression=True)
    return path


@pytest.fixture
def series(tmp_path):
    write_dicom(tmp_path / "img", itk())
    return tmp_path / "img"


# ---- what is read ----


@pytest.mark.parametrize("name", ["a.nrrd", "a.nii", "a.nii.gz"])
@pytest.mark.parametrize("compressed", [True, False])
def test_files(tmp_path, name, compressed):
    sitk.WriteImage(itk(), str(tmp_path / name), useCompression=compressed)
    same_as(volumes.read(tmp_path / name), itk())


@pytest.mark.parametrize("form", ["spacings", "big", "two parts", "windows"])
def test_other_nrrd_files(nrrd, form):
    head, body = nrrd.read_bytes().split(b"\n\n", 1)
    if form == "big":
        body, head = gzip.compress(VOXELS.astype(">i2").tobytes()), head.replace(b"little", b"big")
    if form == "two parts":
        content = gzip.decompress(body)
        body = gzip.compress(content[:100]) + gzip.compress(content[100:])
    nrrd.write_bytes(head + b"\n\n" + body if form != "windows" else head.replace(b"\n", b"\r\n") + b"\r\n\r\n" + body)
    if form == "spacings":
        for name, value in (
            ("space", None),
            ("space directions", None),
            ("space origin", None),
            ("spacings", "0.8 1.25 3"),
        ):
            patch_nrrd(nrrd, name, value)
        assert volumes.read(nrrd).geometry.spacing == (3, 1.25, 0.8)
        return
    same_as(volumes.read(nrrd), itk())


@pytest.mark.parametrize("direction", [TILT, np.eye(3).ravel()], ids=["tilted", "straight"])
@pytest.mark.parametrize("intercept", [-1024, 0])
def test_dicom_series(tmp_path, direction, intercept):
    write_dicom(tmp_path / "img", itk(direction), intercept)
    for name in (".DS_Store", "._IM001.dcm", "README.txt"):
        (tmp_path / "img" / name).write_bytes(b"\0\5\x16\7")
    same_as(volumes.read(tmp_path / "img"), itk(direction))


# ---- what is refused ----


def test_flipped_bits_of_a_compressed_nrrd_file(nrrd):
    """ITK reads other voxels from many of them."""
    whole, before, rng, n = nrrd.read_bytes(), VOXELS, np.random.default_rng(0), 0
    while n < 200:
        nrrd.write_bytes(whole)
        flip_bit(nrrd, rng)
        try:
            same = np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(nrrd))), before)
        except RuntimeError:
            same = False
        if not same:
            n += 1
            refused(lambda: volumes.read(nrrd), f"{nrrd}: expected a whole NRRD volume, found ")


SPACING = "expected a spacing of 0.01 to 100 mm (x, y, z)"
DIRECTIONS = "(0.8,0,0) (0,{},0) (0,0,3)"


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        *(
            ("space directions", DIRECTIONS.format(mm), f"{SPACING}, found 0.8, ")
            for mm in ("0", "1e-30", "1e30", "1e300", "0.009", "101")
        ),
        (
            "space directions",
            DIRECTIONS.format("nan"),
            f"{SPACING}, found 0.8, nan, 3",
        ),
        (
            "space directions",
            DIRECTIONS.format("inf"),
            f"{SPACING}, found 0.8, inf, 3",
        ),
        ("space directions", "none none none", "expected space directions of three axes, mm, found none none"),
        ("space directions", "none (0,1.25,0) (0,0,3)", "expected space directions of three axes, mm, found none (0,"),
        ("space directions", None, "expected space directions of three axes, mm, found nothing"),
        ("space directions", "(0.8,0,0) (0.8,1.25,0) (0,0,3)", "expected axes at right angles"),
        ("space origin", "(nan,0,0)", "expected a space origin, mm, found (nan,0,0)"),
        ("space origin", "(none,0,0)", "expected a space origin, mm, found could not convert"),
        ("space origin", "(1e300,0,0)", "expected an origin within 100000 mm, found 1e+300, 0, 0"),
        ("space origin", "(2e5,0,0)", "expected an origin within 100000 mm, found 200000, 0, 0"),
        ("data file", "b.raw", "expected header and voxels in one file, found voxels in b.raw"),
        ("sizes", "9 7 60", "expected a whole NRRD volume"),
        ("type", "block", "expected a whole NRRD volume"),
    ],
)
def test_nrrd_headers(nrrd, name, value, line):
    (nrrd.parent / "b.raw").write_bytes(VOXELS.tobytes())
    patch_nrrd(nrrd, name, value)
    refused(lambda: volumes.read(nrrd), f"{nrrd}: {line}")


def test_other_files(tmp_path):
    refused(lambda: volumes.read(tmp_path / "a.nrrd"), "a.nrrd: expected an NRRD volume, found no such file")
    refused(lambda: volumes.read(tmp_path / "a.mha"), "a.mha: expected a volume: .nii, .nii.gz, .nrrd, or a folder of")
    (tmp_path / "a.nrrd").write_bytes(b"hello")
    refused(lambda: volumes.read(tmp_path / "a.nrrd"), "a.nrrd: expected a whole NRRD volume, found ")


def second_series(folder):
    write_dicom(folder, STRAIGHT[:, :, :1], series="1.2.826.0.1.3680043.2.1125.9")


def missing_slice(folder):
    (folder / "IM002.dcm").unlink()


def slice_twice(folder):
    (folder / "copy.dcm").write_bytes((folder / "IM002.dcm").read_bytes())


def cut_slice(folder):
    (folder / "IM005.dcm").write_bytes((folder / "IM005.dcm").read_bytes()[:-40])


def zeroed_slice(folder):
    (folder / "IM005.dcm").write_bytes(bytes(1000))


def empty_folder(folder):
    for path in folder.iterdir():
        path.unlink()


def gantry_tilt(folder):
    empty_folder(folder)
    for z in range(6):
        write_dicom(folder, STRAIGHT, leave_out={*range(6)} - {z}, t0020_0032=f"0\\{0.5 * z}\\{3 * z}")


def no_place(folder):
    empty_folder(folder)
    write_dicom(folder, STRAIGHT, t0020_0032="")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (second_series, "img: expected DICOM files of one series, found 2 series"),
        (missing_slice, "img: expected slices at even distances, straight above each other, found 6.00 mm, and "),
        (slice_twice, "img: expected slices at even distances, straight above each other, found -9.00 mm, "),
        (cut_slice, "IM005.dcm: expected an image of the series 1.2.826"),
        (zeroed_slice, "IM005.dcm: expected an image of the series 1.2.826"),
        (empty_folder, "img: expected DICOM files of one series, found none"),
        (
            gantry_tilt,
            "img: expected slices at even distances, straight above each other, found 3.00 mm, and 0.50 mm",
        ),
        (no_place, "img: expected slices at even distances"),
    ],
)
def test_dicom_series_that_are_refused(series, capfd, change, line):
    change(series)
    refused(lambda: volumes.read(series), line)
    assert capfd.readouterr().err == ""
