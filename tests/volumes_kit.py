"""Files of volumes: changes below what libraries let one write, and DICOM series."""

import gzip
import locale
import struct

import numpy as np
import SimpleITK as sitk

# Fields of NIfTI-1's header: where they begin, and their type.
FIELDS = {
    "dim": (40, "8h"),
    "datatype": (70, "h"),
    "pixdim": (76, "8f"),
    "vox_offset": (108, "f"),
    "units": (123, "b"),
    "codes": (252, "2h"),
    "quatern": (256, "3f"),
    "qoffset": (268, "3f"),
    "srow": (280, "12f"),
    "magic": (344, "4s"),
}


def patch(path, **fields):
    """Overwrites fields of the header of a file .nii or .nii.gz, as `vox_offset=(0,)`."""
    zipped = path.suffix == ".gz"
    content = bytearray(gzip.decompress(path.read_bytes()) if zipped else path.read_bytes())
    for name, values in fields.items():
        at, kind = FIELDS[name]
        struct.pack_into(f"<{kind}", content, at, *values)
    path.write_bytes(gzip.compress(bytes(content)) if zipped else bytes(content))


def patch_nrrd(path, name, value):
    """Replaces a line of the header of an NRRD file, or leaves it out where the value is None."""
    head, body = path.read_bytes().split(b"\n\n", 1)
    lines = [line for line in head.decode().splitlines() if not line.startswith(f"{name}:")]
    lines += [] if value is None else [f"{name}: {value}"]
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + body)


def flip_bit(path, rng):
    """Another bit at random in what follows the header of an NRRD file."""
    content = bytearray(path.read_bytes())
    content[rng.integers(content.index(b"\n\n") + 2, len(content))] ^= 1 << rng.integers(8)
    path.write_bytes(content)


def write_dicom(folder, image, intercept=-1024, series="1.2.826.0.1.3680043.2.1125.1", leave_out=(), **tags):
    """A CT of SimpleITK in Hounsfield units, one DICOM file a slice, IM000.dcm, ..., stored less `intercept`. More tags
    as `t0020_0032="0\\\\0\\\\0"`, the same in all."""
    folder.mkdir(parents=True, exist_ok=True)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    language = locale.setlocale(locale.LC_ALL)
    for z in range(image.GetDepth()):
        piece = image[:, :, z]
        place = image.TransformIndexToPhysicalPoint((0, 0, z))
        values = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{series}.{z + 1}",
            "0008|0060": "CT",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.2",
            "0020|000e": series,
            "0020|0013": str(z),
            "0020|0032": "\\".join(f"{v:.6f}" for v in place),
            "0020|0037": "\\".join(f"{v:.9f}" for v in direction[:, :2].T.ravel()),
            "0028|1052": str(intercept),
            "0028|1053": "1",
        }
        values |= {name[1:].replace("_", "|"): value for name, value in tags.items()}
        for name, value in values.items():
            piece.SetMetaData(name, value)
        if z not in leave_out:
            writer.SetFileName(str(folder / f"IM{z:03}.dcm"))
            writer.Execute(piece)
    locale.setlocale(locale.LC_ALL, language)  # GDCM's writer leaves "C": files would be ASCII
