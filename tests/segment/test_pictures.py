"""Images and masks of the formats that people have, written by Pillow, tifffile, nibabel and SimpleITK, and what is
written here read by these again."""

import contextlib
import gzip
import io
import struct
import zlib

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from helpers import refused
from PIL import Image, ImageOps
from volumes_kit import patch, write_dicom

from fewlabels.errors import BadInput
from fewlabels.segment.pictures import palette_of, read, read_mask, write_mask

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (11, 17), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (11, 17), dtype=np.uint16)
RED = RNG.integers(0, 256, (11, 17, 3), dtype=np.uint8)
STACK = RNG.integers(0, 4096, (5, 11, 17)).astype(np.uint16)
CLASSES = RNG.integers(0, 3, (1, 11, 17), dtype=np.uint8)
VOLUME = RNG.integers(-1000, 1000, (5, 7, 9)).astype(np.int16)
LABELS = RNG.integers(0, 4, (5, 7, 9)).astype(np.uint8)
TILT = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.5).GetMatrix()


def saved(path, array, mode=None, **options):
    Image.fromarray(array, mode).save(path, **options)
    return path


def same(array, expected):
    assert array.dtype == expected.dtype
    np.testing.assert_array_equal(array, expected)


# ---- images ----


@pytest.mark.parametrize("ending", ["png", "tif", "bmp", "gif"])
def test_grey(tmp_path, ending):
    picture = read(saved(tmp_path / f"a.{ending}", GREY))
    same(picture.array, GREY[None, ..., None])
    assert picture[1:] == (None, "")


@pytest.mark.parametrize("ending", ["png", "tif", "bmp"])
def test_colours(tmp_path, ending):
    same(read(saved(tmp_path / f"a.{ending}", RED)).array, RED[None])


def test_grey_stored_as_colours(tmp_path):
    same(read(saved(tmp_path / "a.png", np.repeat(GREY[..., None], 3, 2))).array, GREY[None, ..., None])


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("array", [np.dstack([GREY, GREY.T.reshape(11, 17)]), np.dstack([RED, GREY])])
def test_alpha_is_left_out(tmp_path, ending, array):
    picture = read(saved(tmp_path / f"a.{ending}", array))
    same(picture.array, array[None, ..., :-1])
    assert picture.note == "alpha channel left out"


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bits(tmp_path, ending):
    same(read(saved(tmp_path / f"a.{ending}", DEEP)).array, DEEP[None, ..., None])


def test_16_bits_a_colour(tmp_path):
    """tifffile keeps them; Pillow reads a PNG file's as 8, which is said."""
    array = np.dstack([DEEP, DEEP.T.reshape(11, 17), DEEP])
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb")
    same(read(tmp_path / "a.tif").array, array[None])
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    chunks = [(b"IHDR", struct.pack(">2I5B", 17, 11, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    picture = read(tmp_path / "a.png")
    same(picture.array, (array >> 8).astype(np.uint8)[None])
    assert picture.note == "8 of its 16 bits a colour are read"


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_black_and_white(tmp_path, ending):
    Image.fromarray(GREY > 99).save(tmp_path / f"a.{ending}")
    same(read(tmp_path / f"a.{ending}").array, np.where(GREY > 99, 255, 0).astype(np.uint8)[None, ..., None])


@pytest.mark.parametrize("ending", ["png", "tif", "gif"])
def test_a_palette_becomes_colours(tmp_path, ending):
    picture = Image.fromarray(RED).quantize(16)
    picture.save(tmp_path / f"a.{ending}")
    same(read(tmp_path / f"a.{ending}").array, np.array(picture.convert("RGB"))[None])


def test_jpeg(tmp_path):
    path = saved(tmp_path / "a.JPG", RED, quality=90)
    same(read(path).array, np.array(Image.open(path))[None])
    cmyk = tmp_path / "b.jpeg"
    Image.fromarray(RED).convert("CMYK").save(cmyk)
    assert read(cmyk).array.shape == (1, 11, 17, 3)
    assert read(cmyk).note == "CMYK made RGB"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("ending", "options"),
    [("jpg", {}), ("png", {}), ("tif", {"compression": "tiff_lzw"}), ("tif", {"compression": "tiff_adobe_deflate"})],
)
def test_orientation(tmp_path, orientation, ending, options):
    """As Pillow turns it, and the mask is written so that both are seen alike."""
    exif = Image.Exif()
    exif[274] = orientation
    path = saved(tmp_path / f"a.{ending}", GREY, exif=exif, **options)
    picture = read(path)
    with Image.open(path) as stored:
        seen = np.array(ImageOps.exif_transpose(stored))
    same(picture.array, seen[None, ..., None])
    assert (picture.note == "") == (orientation == 1)
    classes = (picture.array[..., 0] > 128).astype(np.uint8)
    written = write_mask(tmp_path / "out", "a", path, picture, classes)
    with Image.open(written) as stored:
        np.testing.assert_array_equal(np.array(ImageOps.exif_transpose(stored)), classes[0])
    same(read_mask(written, picture, path), classes)
    if ending == "tif":  # nor do programs err that do not turn it
        np.testing.assert_array_equal(tifffile.imread(written), GREY > 128)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("array", [GREY, RED, DEEP])
def test_compressed_tiff(tmp_path, compression, array):
    path = saved(tmp_path / "a.tif", array, compression=compression)
    same(read(path).array, array[None] if array.ndim == 3 else array[None, ..., None])


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16, np.float32])
def test_a_stack(tmp_path, kind, big_endian):
    path = tmp_path / "a.tiff"
    tifffile.imwrite(path, STACK.astype(kind), byteorder=">" if big_endian else "<", photometric="minisblack")
    same(read(path).array, STACK.astype(kind)[..., None])


def test_stacks_of_other_programs(tmp_path):
    tifffile.imwrite(
        tmp_path / "imagej.tif", STACK, imagej=True, metadata={"axes": "ZYX", "spacing": 2.5, "unit": "um"}
    )
    pages = [Image.fromarray(page) for page in STACK]
    pages[0].save(tmp_path / "lzw.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    tifffile.imwrite(tmp_path / "ome.ome.tif", STACK, metadata={"axes": "ZYX"}, photometric="minisblack")
    for path in tmp_path.iterdir():
        same(read(path).array, STACK[..., None])
    colours = np.stack([RED, RED[::-1]])
    tifffile.imwrite(tmp_path / "colours.tif", colours, photometric="rgb")
    same(read(tmp_path / "colours.tif").array, colours)
    tifffile.imwrite(tmp_path / "planes.tif", RED.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    same(read(tmp_path / "planes.tif").array, RED[None])
    tifffile.imwrite(tmp_path / "white.tif", GREY, photometric="miniswhite")
    same(read(tmp_path / "white.tif").array, 255 - GREY[None, ..., None])


def test_volumes(tmp_path):
    image = sitk.GetImageFromArray(VOLUME)
    image.SetSpacing((0.8, 1.25, 3.0))
    for path in (tmp_path / "a.nii.gz", tmp_path / "a.nii", tmp_path / "a.nrrd"):
        sitk.WriteImage(image, str(path))
        picture = read(path)
        same(picture.array, VOLUME[..., None])
        np.testing.assert_allclose(picture.geometry.spacing, (3, 1.25, 0.8))


# ---- images that are refused ----


def cut(path):
    path.write_bytes(path.read_bytes()[:-60])
    return path


NAN = np.where(GREY > 9, GREY, np.nan).astype(np.float32)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda p: saved(p / "a.png", np.repeat(RED, 9, 0))and cut(p / "a.png"), "an image that can be read"),
        (lambda p: cut(saved(p / "a.jpg", np.repeat(RED, 9, 0))), "an image that can be read"),
        (lambda p: cut(saved(p / "a.tif", RED)), "an image that can be read"),
        (lambda p: (p / "a.png").write_text("<html>"), "an image that can be read"),
        (lambda p: (p / "a.tif").write_text("<html>"), "an image that can be read"),
        (lambda p: (p / "a.tif").write_bytes(b""), "an image that can be read"),
        (lambda p: (p / "a.jpg").write_bytes(b""), "an image that can be read"),
        (lambda p: (p / "a.nii.gz").write_bytes(b"\x1f\x8b"), "expected a gzipped NIfTI volume"),
        (lambda p: (p / "a.nrrd").write_bytes(b"NRRD"), "expected a whole NRRD volume"),
        (lambda p: tifffile.imwrite(p / "a.tif", NAN), "expected finite numbers, found"),
        (lambda p: tifffile.imwrite(p / "a.tif", GREY.astype(np.complex64)), "a.tif: expected "),
        (lambda p: tifffile.imwrite(p / "a.tif", np.zeros((2, 3, 9, 9), np.uint8), imagej=True,
                                    metadata={"axes": "TZYX"}), "a stack of slices, found axes of 2 T x 3 Z"),
        (lambda p: tifffile.imwrite(p / "a.tif", np.zeros((2, 5, 9), np.uint8), imagej=True,
                                    metadata={"axes": "CYX"}), "red, green and blue, found 2 channels"),
        (lambda p: Image.new("L", (3, 3)).save(p / "a.gif", save_all=True, append_images=[Image.new("L", (3, 3), 9)]),
         "expected one picture, found 2"),
    ],
)  # fmt: skip
def test_files_that_are_refused(tmp_path, make, line, capfd):
    make(tmp_path)
    (path,) = tmp_path.iterdir()
    refused(lambda: read(path), f"{path}: ", line)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("options", [{"metadata": None}, {}, {"imagej": True, "metadata": {"axes": "ZYX"}}])
def test_a_stack_that_is_cut_off_anywhere(tmp_path, options, capfd):
    """tifffile reads the pages before; it must be all pixels or none."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack", **options)
    content = path.read_bytes()
    for length in range(0, len(content) - 8, 23):
        path.write_bytes(content[:length])
        with contextlib.suppress(BadInput):
            same(read(path).array, STACK[..., None])
    assert capfd.readouterr().err == ""
    pages = len(content) - 900  # all but the last pages' headers
    path.write_bytes(content[: pages if options == {"metadata": None} else 900])
    refused(lambda: read(path), f"{path}: expected an image that can be read")


# ---- masks ----


@pytest.fixture
def image(tmp_path):
    return saved(tmp_path / "image.png", RED)


def test_a_palette_of_a_mask_is_its_numbers(tmp_path, image):
    picture = Image.fromarray(CLASSES[0])
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    picture.save(tmp_path / "m.png")
    like = read(image)
    same(read_mask(tmp_path / "m.png", like, image), CLASSES)
    written = write_mask(tmp_path, "out", image, like, CLASSES, palette_of(tmp_path / "m.png"))
    with Image.open(written) as again:
        assert again.mode == "P"
        same(np.array(again), CLASSES[0])
        same(np.array(again.convert("RGB")), np.array(picture.convert("RGB")))


@pytest.mark.parametrize("ending", ["png", "gif"])
def test_a_grey_palette_is_grey(tmp_path, image, ending):
    """Programs that make files small put white first."""
    picture = Image.fromarray((CLASSES[0] == 0).astype(np.uint8))
    picture.putpalette([255, 255, 255, 0, 0, 0])
    picture.save(tmp_path / f"m.{ending}")
    same(read_mask(tmp_path / f"m.{ending}", read(image), image), np.where(CLASSES > 0, 255, 0).astype(np.uint8))


def test_masks_as_programs_write_them(tmp_path, image):
    like, white = read(image), np.where(CLASSES > 0, 255, 0).astype(np.uint8)
    full = np.full_like(white[0], 255)
    same(read_mask(saved(tmp_path / "rgb.png", np.dstack([white[0]] * 3)), like, image), white)
    same(read_mask(saved(tmp_path / "rgba.png", np.dstack([white[0]] * 3 + [full])), like, image), white)
    same(read_mask(saved(tmp_path / "alpha.png", np.dstack([full, 0 * full, full, white[0]])), like, image), white)
    colours = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)[CLASSES[0]]
    same(read_mask(saved(tmp_path / "colours.png", colours), like, image), colours[None])
    clear = np.where(CLASSES[0] > 0, 255, 0).astype(np.uint8)  # what is under it, nobody drew
    hidden = np.dstack([np.where(clear[..., None], colours, RED), clear])
    same(read_mask(saved(tmp_path / "hidden.png", hidden), like, image), colours[None])
    Image.fromarray(white[0] > 0).save(tmp_path / "bit.png")
    same(read_mask(tmp_path / "bit.png", like, image), white)
    tifffile.imwrite(tmp_path / "float.tif", white[0] / np.float32(255))
    same(read_mask(tmp_path / "float.tif", like, image), white / np.float32(255))
    sitk.WriteImage(sitk.GetImageFromArray(CLASSES), str(tmp_path / "m.nii.gz"))
    same(read_mask(tmp_path / "m.nii.gz", like, image), CLASSES)


def test_a_mask_of_another_size(tmp_path, image):
    path = saved(tmp_path / "m.png", GREY[:, :16])
    found = f"{path}: expected 17 x 11 pixels, as {image}, found 16 x 11 pixels"
    refused(lambda: read_mask(path, read(image), image), found)
    tifffile.imwrite(tmp_path / "s.tif", STACK, photometric="minisblack")
    refused(lambda: read_mask(tmp_path / "s.tif", read(image), image), "found 17 x 11 pixels in 5 slices")
    (tmp_path / "bad.png").write_bytes(path.read_bytes()[:50])
    refused(lambda: read_mask(tmp_path / "bad.png", read(image), image), "bad.png: expected a mask that can be read")


def test_a_mask_of_an_image_that_is_turned(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    image, path = saved(tmp_path / "i.jpg", GREY, exif=exif), saved(tmp_path / "m.png", GREY)
    text = f"expected 11 x 17 pixels, as {image} (turned as its EXIF says), found 17 x 11 pixels"
    refused(lambda: read_mask(path, read(image), image), text)
    same(read_mask(saved(path, GREY.T), read(image), image), GREY.T[None])


def itk(array, direction=TILT, origin=(10, -20.5, 7.25), spacing=(0.8, 1.25, 3.0)):
    made = sitk.GetImageFromArray(array)
    made.SetSpacing(spacing)
    made.SetOrigin(origin)
    made.SetDirection(direction)
    return made


def test_a_mask_of_a_volume(tmp_path):
    image, mask = tmp_path / "i.nii.gz", tmp_path / "m.nrrd"
    sitk.WriteImage(itk(VOLUME), str(image))
    sitk.WriteImage(itk(LABELS), str(mask))
    like = read(image)
    same(read_mask(mask, like, image), LABELS)
    sitk.WriteImage(sitk.Flip(itk(LABELS), (True, False, True)), str(mask))  # the same places from another corner
    same(read_mask(mask, like, image), LABELS)
    for changed, text in [
        (itk(LABELS, origin=(10, -20.5, 9)), "origin 10, -20.5, 7.25 (x, y, z), as "),
        (itk(LABELS, np.eye(3).ravel()), "direction "),
        (itk(LABELS, spacing=(0.8, 0.8, 3)), "spacing "),
        (itk(LABELS[:4]), "size 9, 7, 5 (x, y, z)"),
    ]:
        sitk.WriteImage(changed, str(mask))
        refused(lambda: read_mask(mask, like, image), f"{mask}: expected {text}")


# ---- masks that are written ----


def test_a_mask_of_a_png_and_a_jpeg(tmp_path, image):
    jpeg = saved(tmp_path / "b.jpg", RED, dpi=(300, 300))
    for path in (image, jpeg):
        written = write_mask(tmp_path / "out", f"deep/er/{path.stem}", path, read(path), CLASSES * 100)
        assert written == tmp_path / f"out/deep/er/{path.stem}.png"
        with Image.open(written) as again:
            assert again.format == "PNG"
            same(np.array(again), CLASSES[0] * 100)
            assert ("dpi" in again.info) == (path == jpeg)
    deep = write_mask(tmp_path, "deep", image, read(image), CLASSES.astype(np.uint16) * 1000)
    same(np.array(Image.open(deep)), CLASSES[0].astype(np.uint16) * 1000)
    colours = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)[CLASSES]
    same(np.array(Image.open(write_mask(tmp_path, "c", image, read(image), colours))), colours[0])
    negative = write_mask(tmp_path, "n", image, read(image), CLASSES.astype(np.int16) - 1)
    assert negative.name == "n.tif"
    same(tifffile.imread(negative), CLASSES[0].astype(np.int16) - 1)


def test_a_mask_of_a_tiff(tmp_path):
    path = tmp_path / "a.TIFF"
    tifffile.imwrite(path, STACK, photometric="minisblack", resolution=(2000, 4000), resolutionunit="CENTIMETER")
    values = (STACK % 3).astype(np.uint8)
    written = write_mask(tmp_path / "out", "a", path, read(path), values)
    assert written.name == "a.TIFF"
    with tifffile.TiffFile(written) as file:
        same(file.asarray(), values)
        tags = file.pages[0].tags
        assert tags["XResolution"].value == (2000, 1)
        assert tags["YResolution"].value == (4000, 1)
        assert tags["ResolutionUnit"].value == 3
        assert tags["Compression"].value == 8
        assert len(file.pages) == 5
    with Image.open(written) as again:
        assert again.n_frames == 5
    single = saved(tmp_path / "one.tif", DEEP)
    colours = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)[CLASSES]
    same(tifffile.imread(write_mask(tmp_path / "out", "one", single, read(single), colours)), colours[0])


def test_a_mask_of_a_stack_of_imagej(tmp_path):
    path = tmp_path / "a.tif"
    meta = {"axes": "ZYX", "spacing": 2.5, "unit": "um"}
    tifffile.imwrite(path, STACK, imagej=True, resolution=(3, 3), metadata=meta)
    values = (STACK % 3).astype(np.uint8)
    with tifffile.TiffFile(write_mask(tmp_path / "out", "a", path, read(path), values)) as file:
        same(file.asarray(), values)
        assert file.imagej_metadata["spacing"] == 2.5
        assert file.imagej_metadata["unit"] == "um"
        assert file.imagej_metadata["slices"] == 5
        assert file.pages[0].tags["XResolution"].value == (3, 1)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16])
def test_a_mask_of_a_volume_lies_on_it(tmp_path, ending, kind):
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(itk(VOLUME), str(path))
    written = write_mask(tmp_path / "out", "a", path, read(path), LABELS.astype(kind))
    assert written == tmp_path / f"out/a{ending}"
    again, image = sitk.ReadImage(str(written)), sitk.ReadImage(str(path))
    same(sitk.GetArrayFromImage(again), LABELS.astype(kind))
    for name in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(again, name)(), getattr(image, name)(), atol=1e-5)
    same(read_mask(written, read(path), path), LABELS.astype(kind))


def test_the_header_of_a_nifti_image_is_kept(tmp_path):
    """Codes of its forms, its unit, and a qform beside an sform; not the scale of its values."""
    path = tmp_path / "a.nii.gz"
    affine = np.array([[0, -2, 0, 5], [1.5, 0, 0, -9], [0, 0, 4, 1], [0, 0, 0, 1.0]])
    made = nibabel.Nifti1Image(VOLUME.T[..., None], affine)
    made.set_qform(affine, 1)
    made.set_sform(affine, 4)
    made.header.set_xyzt_units("mm")
    made.header["cal_max"] = 800
    nibabel.save(made, path)
    patch(path, pixdim=(*made.header["pixdim"][:4], 7, 1, 1, 1))
    written = nibabel.load(write_mask(tmp_path / "out", "a", path, read(path), LABELS))
    assert written.shape == (9, 7, 5)
    for (form, code), wanted in zip([written.get_qform(True), written.get_sform(True)], (1, 4)):
        np.testing.assert_allclose(form, affine, atol=1e-6)
        assert code == wanted
    assert written.get_data_dtype() == np.uint8
    assert written.header["cal_max"] == 0
    np.testing.assert_array_equal(np.asarray(written.dataobj), LABELS.T)


def test_a_mask_of_a_dicom_series(tmp_path):
    write_dicom(tmp_path / "series", itk(VOLUME))
    picture = read(tmp_path / "series")
    same(picture.array[..., 0].astype(np.int16), VOLUME)
    written = write_mask(tmp_path / "out", "series", tmp_path / "series", picture, LABELS)
    assert written.name == "series.nii.gz"
    again = sitk.ReadImage(str(written))
    same(sitk.GetArrayFromImage(again), LABELS)
    for index in np.ndindex(9, 7, 5):
        expected = itk(VOLUME).TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(again.TransformIndexToPhysicalPoint(index), expected, atol=1e-3)
    same(read_mask(written, picture, tmp_path / "series"), LABELS)


def test_the_same_mask_is_the_same_file(tmp_path, image):
    """So that a folder can be compared."""
    sitk.WriteImage(itk(VOLUME), str(tmp_path / "a.nii.gz"))
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack")
    for path, values in [(image, CLASSES), (tmp_path / "a.nii.gz", LABELS), (tmp_path / "a.tif", STACK)]:
        files = [write_mask(tmp_path / name, "m", path, read(path), values).read_bytes() for name in "xy"]
        assert files[0] == files[1]
    assert gzip.decompress((tmp_path / "x/m.nii.gz").read_bytes())
    assert io.BytesIO((tmp_path / "x/m.png").read_bytes()).read(4) == b"\x89PNG"
