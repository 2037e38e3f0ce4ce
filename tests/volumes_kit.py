"""Changes to files of volumes, below what libraries let one write."""

import gzip
import struct

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
