"""Small inputs as users of medical image data have them, after public reports: noise and boxes, no real image.

Each function makes one case below an empty folder and returns the command line that reads it. The comment above it says
where the like was reported; what is expected stands in test_cases.py.
"""

import csv
import gzip
import io
import os
import struct

import numpy as np
from PIL import Image

from fewlabels.paths import CHECKOUT

CODES = {"u1": (2, 8), "i2": (4, 16), "i4": (8, 32), "f4": (16, 32), "f8": (64, 64)}


def noise(low, high, shape, seed=0):
    return np.random.default_rng(seed).integers(low, high, shape)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def nifti(path, volume, mm=(1.5, 1.5, 10.0), kind="i2", slope=1.0, inter=0.0, end="<", axes=None, sform=None, gz=None):
    """NIfTI-1 byte by byte, as no library would write some of them. `volume` is (z, y, x)."""
    code, bits = CODES[kind]
    z, y, x = volume.shape
    head = bytearray(352)

    def put(at, form, *values):
        struct.pack_into(end + form, head, at, *values)

    put(0, "i", 348)
    put(40, "8h", *(axes or [3, x, y, z, 1, 1, 1, 1]))
    put(70, "2h", code, bits)
    put(76, "8f", 1.0, *mm, 1, 1, 1, 1)
    put(108, "3f", 352.0, slope, inter)
    head[123] = 2  # mm
    put(252, "2h", 0, 1)  # sform only
    for i, row in enumerate(np.diag([-mm[0], -mm[1], mm[2], 1.0])[:3] if sform is None else sform[:3]):
        put(280 + 16 * i, "4f", *row)
    head[344:348] = b"n+1\0"
    content = bytes(head) + volume.astype(end + kind).tobytes()
    zipped = path.name.endswith(".gz") if gz is None else gz
    write(path, gzip.compress(content, 1) if zipped else content)


def nrrd(path, volume, mm=(2.0, 2.0, 3.0), kind="short", end="little", encoding="raw", space="left-posterior-superior",
         signs=(1, 1, 1), detached=False):  # fmt: skip
    """NRRD. `volume` is (z, y, x); `signs` are those of the three space directions."""
    types = {"short": "i2", "uchar": "u1", "float": "f4", "ushort": "u2"}
    data = volume.astype(("<" if end == "little" else ">") + types[kind]).tobytes()
    data = gzip.compress(data, 1) if encoding == "gzip" else data
    z, y, x = volume.shape
    lines = [
        *("NRRD0004", f"type: {kind}", "dimension: 3", f"space: {space}", f"sizes: {x} {y} {z}"),
        f"space directions: ({signs[0] * mm[0]},0,0) (0,{signs[1] * mm[1]},0) (0,0,{signs[2] * mm[2]})",
        *("kinds: domain domain domain", f"endian: {end}", f"encoding: {encoding}", "space origin: (0,0,0)"),
    ]
    if detached:
        write(path.with_name(f"{path.stem}.raw"), data)
        write(path.with_suffix(".nhdr"), "\n".join([*lines, f"data file: {path.stem}.raw", "", ""]).encode())
    else:
        write(path, ("\n".join(lines) + "\n\n").encode() + data)


# ---- ACDC ----

GROUPS = ("DCM", "HCM", "MINF", "NOR", "RV")


def heart():
    mask = np.zeros((3, 20, 24))
    mask[:, 4:8, 5:9], mask[:, 9:12, 5:9], mask[:, 13:15, 5:9] = 1, 2, 3
    return noise(0, 900, mask.shape).astype(float), mask


def acdc(root, info="ED: 1\nES: 9\nGroup: {}\n", odd=None, of_masks=None, ext=".nii.gz", **of_all):
    """100 patients of one heart. `odd(image path, mask path, image, mask)` writes patient002 otherwise."""
    image, mask = heart()
    first = root / "acdc/training/patient001/patient001_frame09"
    nifti(first.with_name(f"{first.name}{ext}"), image, **of_all)
    nifti(first.with_name(f"{first.name}_gt{ext}"), mask, **{**of_all, "kind": "u1", **(of_masks or {})})
    for i in range(1, 101):
        folder = root / f"acdc/training/patient{i:03}"
        write(folder / "Info.cfg", info.format(GROUPS[(i - 1) // 20]).encode())
        paths = [folder / f"patient{i:03}_frame09{part}{ext}" for part in ("", "_gt")]
        if odd and i == 2:
            odd(*paths, image, mask)
        elif i > 1:
            for path, part in zip(paths, ("", "_gt")):
                os.link(first.with_name(f"{first.name}{part}{ext}"), path)
    return ["check-data", "acdc", "--data", str(root)]


def acdc_official(root):
    return acdc(root)


# DeepReg #230, medicaldiffusion #14: unpacked by Kaggle.
def acdc_plain_nii(root):
    return acdc(root, ext=".nii")


# Info.cfg saved by Notepad: byte order mark and carriage returns.
def acdc_info_bom_crlf(root):
    return acdc(root, info="\ufeffED: 1\r\nES: 9\r\nGroup: {}\r\n")


# MaxStyle #3, on ACDC itself.
def acdc_skewed_sform(root):
    def odd(p, q, image, mask):
        skew = [[-1.5, 0.3, 0, 0], [0, -1.5, 0, 0], [0, 0, 10, 0]]
        nifti(p, image, sform=skew)
        nifti(q, mask, kind="u1", sform=skew)

    return acdc(root, odd=odd)


# nibabel #299, 3DUnetCNN #102: as ANTs and FSL write.
def acdc_fourth_axis_of_one(root):
    def odd(p, q, image, mask):
        axes = [4, *image.shape[::-1], 1, 1, 1, 1]
        nifti(p, image, axes=axes)
        nifti(q, mask, kind="u1", axes=axes)

    return acdc(root, odd=odd)


# spinalcordtoolbox #4346, torchio #220: 0.9999 for 1.
def acdc_labels_by_slope(root):
    def odd(p, q, image, mask):
        nifti(p, image)
        nifti(q, mask * 85, kind="u1", slope=0.011764)

    return acdc(root, odd=odd)


def acdc_labels_float64(root):
    return acdc(root, of_masks={"kind": "f8"})


# nnUNet #1669, #2526: the mask's columns run the other way, as its header says.
def acdc_mask_of_other_direction(root):
    def odd(p, q, image, mask):
        nifti(p, image)
        other = [[1.5, 0, 0, -(image.shape[2] - 1) * 1.5], [0, -1.5, 0, 0], [0, 0, 10, 0]]
        nifti(q, mask[:, :, ::-1], kind="u1", sform=other)

    return acdc(root, odd=odd)


# nibabel #966, #898: unpacked by the browser, the name kept.
def acdc_gz_that_is_none(root):
    def odd(p, q, image, mask):
        nifti(p, image, gz=False)
        nifti(q, mask, kind="u1")

    return acdc(root, odd=odd)


# FSL and SPM on PowerPC.
def acdc_big_endian(root):
    return acdc(root, end=">", kind="f4", of_masks={"kind": "i2"})


# nibabel #549, torchio #220.
def acdc_slope_nan(root):
    return acdc(root, slope=float("nan"), inter=float("nan"))


# FCT-Pytorch #2: as in the official release of today.
def acdc_with_md(root):
    command = acdc(root)
    write(root / "acdc/training/MANDATORY_CITATION.md", b"cite\n")
    return command


# ---- BraTS ----


def brain(tumour=4):
    side = 240
    inside, seg = np.zeros((2, side, side), bool), np.zeros((2, side, side))
    inside[:, 40:200, 30:210] = True
    seg[:, 90:120, 50:80], seg[:, 95:110, 55:70] = 2, tumour
    images = {
        kind: np.where(inside, noise(1, 900, inside.shape, seed), 0)
        for seed, kind in enumerate(("flair", "t1", "t1ce", "t2"))
    }
    return images | {"seg": seg}


def brats(folder, name, ext=".nii.gz", tumour=4):
    for kind, volume in brain(tumour).items():
        code = "u1" if kind == "seg" else "i2"
        nifti(folder / name / f"{name}_{kind}{ext}", volume, mm=(1, 1, 1), kind=code)


def brats_official(root):
    for name in ("HGG_0", "HGG_1", "HGG_2", "LGG_0"):
        brats(root / "brats" / name[:3], f"Brats17_{name}")
    return ["check-data", "brats", "--data", str(root)]


# Brain-Tumors-Segmentation #9: 262 of 1251 patients came out of the archive, and nobody noticed.
def brats_incomplete(root):
    return brats_official(root)


# medicaldiffusion #14: BraTS 2020 from Kaggle.
def brats_2020_flat(root):
    for i in range(3):
        brats(root / "brats", f"BraTS20_Training_{i:03}", ext=".nii")
    return ["check-data", "brats", "--data", str(root)]


# nnUNet #1990: enhancing tumour is 3 from 2023 on.
def brats_label_3(root):
    brats(root / "brats/HGG", "Brats17_A", tumour=3)
    return ["check-data", "brats", "--data", str(root)]


# torchvision #2831.
def brats_hidden_folder(root):
    command = brats_official(root)
    (root / "brats/HGG/.ipynb_checkpoints").mkdir()
    return command


# nnUNet #1669: one sequence runs the other way, as its header says.
def brats_sequence_mirrored(root):
    command = brats_official(root)
    other = [[1, 0, 0, -239], [0, -1, 0, 0], [0, 0, 1, 0]]
    path = root / "brats/HGG/Brats17_HGG_0/Brats17_HGG_0_t2.nii.gz"
    nifti(path, brain()["t2"][:, :, ::-1], mm=(1, 1, 1), sform=other)
    return command


# ---- head and neck ----

ORGANS = ("BrainStem", "Chiasm", "Mandible", "OpticNerve_L", "OpticNerve_R", "Parotid_L", "Parotid_R",
          "Submandibular_L", "Submandibular_R")  # fmt: skip
TEST = [f"0522c{i:04}" for i in (555, 576, 598, 659, 661, 667, 669, 708, 727, 746)]
PDDCA = [f"0522c{i:04}" for i in range(1, 39)] + TEST


def neck(folder, organs=ORGANS, **options):
    image = np.full((20, 24, 24), -1000)
    image[2:18, 5:19, 5:19] = 40
    nrrd(folder / "img.nrrd", image, **options)
    for k, name in enumerate(organs):
        mask = np.zeros(image.shape)
        mask[3 + k : 6 + k, 6:9, 7 : 9 + k % 3] = 1
        nrrd(folder / f"structures/{name}.nrrd", mask, **{**options, "kind": "uchar"})


def pddca(root, odd=None, **options):
    for i, name in enumerate(PDDCA):
        folder = root / "pddca" / name
        if odd and i == 3:
            odd(folder)
        else:
            neck(folder, ORGANS[: 9 - i % 4], **options)
    return ["check-data", "oar", "--data", str(root)]


def pddca_official(root):
    return pddca(root)


# As the three archives unpack.
def pddca_part_folders(root):
    for i, name in enumerate(PDDCA):
        part = "part3" if name in TEST else "part1_part2" if i < 33 else "part4"
        neck(root / f"pddca/PDDCA-1.4.1_{part}" / name, ORGANS[: 9 - i % 4])
    return ["check-data", "oar", "--data", str(root)]


# scifio-imageio #2, MONAI #7371.
def pddca_big_endian_gzip(root):
    return pddca(root, end="big", encoding="gzip")


def pddca_ras_space(root):
    """The same places in the patient, said in RAS."""
    return pddca(root, space="right-anterior-superior", signs=(-1, -1, 1))


# nat #237.
def pddca_detached(root):
    return pddca(root, odd=lambda folder: neck(folder, ORGANS[:3], detached=True))


# nnUNet #2925: a segmentation of 3D Slicer with layers.
def pddca_slicer_4d(root):
    def odd(folder):
        neck(folder)
        lines = ["NRRD0004", "type: uchar", "dimension: 4", "space: left-posterior-superior", "sizes: 2 24 24 20"]
        lines += ["space directions: none (2,0,0) (0,2,0) (0,0,3)", "kinds: list domain domain domain"]
        lines += ["encoding: raw", "space origin: (0,0,0)", "", ""]
        data = np.zeros((20, 24, 24, 2), np.uint8)
        data[3:6, 6:9, 7:9] = 1
        write(folder / "structures/BrainStem.nrrd", "\n".join(lines).encode() + data.tobytes())

    return pddca(root, odd=odd)


# torchvision #2831.
def openkbp_hidden_folder(root):
    for part in ("train", "test"):
        for i in range(2):
            neck(root / "openkbp" / part / f"pt_{part}{i}", organs=("BrainStem", "Mandible"))
    (root / "openkbp/train/.ipynb_checkpoints").mkdir()
    return ["check-data", "oar", "--data", str(root)]


# ---- skin ----

DX = ("mel", "nv", "bcc", "akiec", "bkl", "df", "vasc")


def photograph(path, size=(200, 150), orientation=None, seed=0):
    exif, content = Image.Exif(), io.BytesIO()
    if orientation:
        exif[0x0112] = orientation
    picture = Image.fromarray(noise(0, 255, (size[1], size[0], 3), seed).astype(np.uint8))
    picture.save(content, "JPEG", exif=exif)
    write(path, content.getvalue())


def ham(root, table="HAM10000_metadata.csv", separator=",", encoding="utf-8", odd=None):
    """14 images, two of each class; `odd(path)` writes the fourth otherwise."""
    rows = [("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")]
    for i in range(14):
        path = root / f"ham10000/images/ISIC_{i:07}.jpg"
        odd(path) if odd and i == 3 else photograph(path, seed=i)
        rows.append((f"HAM_{i:07}", f"ISIC_{i:07}", DX[i % 7], "histo", "", "female", "back"))
    text = "".join(separator.join(row) + "\r\n" for row in rows)
    write(root / "ham10000" / table, text.encode(encoding))
    return ["check-data", "isic", "--data", str(root)]


def ham_copy(root):
    return ham(root)


# As Dataverse delivers it.
def ham_tab(root):
    return ham(root, table="HAM10000_metadata.tab", separator="\t")


# As a German Excel saves it.
def ham_semicolons(root):
    return ham(root, separator=";")


def ham_utf16(root):
    return ham(root, encoding="utf-16")


# Of a telephone or dermatoscope: stored on its side.
def ham_exif_6(root):
    return ham(root, odd=lambda path: photograph(path, (150, 200), orientation=6))


def ham_masks(root, picture_of):
    command = ham(root)
    mask = np.zeros((150, 200), np.uint8)
    mask[40:100, 50:120] = 1
    content = io.BytesIO()
    picture_of(mask).save(content, "PNG")
    for i in range(14):
        place = root / "ham10000/HAM10000_segmentations_lesion_tschandl"
        write(place / f"ISIC_{i:07}_segmentation.png", content.getvalue())
    return command


def ham_masks_01(root):
    return ham_masks(root, Image.fromarray)


def ham_masks_palette(root):
    return ham_masks(root, lambda mask: Image.fromarray(mask).convert("P"))


def ham_masks_16bit(root):
    return ham_masks(root, lambda mask: Image.fromarray(mask.astype(np.uint16) * 65535))


# Anti-aliased by a viewer.
def ham_masks_soft(root):
    def soft(mask):
        return Image.fromarray(mask * 255).resize((50, 37)).resize((200, 150), Image.Resampling.BILINEAR)

    return ham_masks(root, soft)


def isic2018(root, classes):
    folder, rows = root / "isic2018", [["image", *classes]]
    for i in range(35):
        photograph(folder / f"ISIC2018_Task3_Training_Input/ISIC_{i:07}.jpg", (600, 450), seed=i)
        rows.append([f"ISIC_{i:07}", *("1.0" if k == i % 7 else "0.0" for k in range(len(classes)))])
    with open(folder / "ISIC2018_Task3_Training_GroundTruth.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    write(folder / "ISIC2018_Task3_Training_Input/LICENSE.txt", b"CC BY-NC\n")
    return ["check-data", "isic", "--data", str(root)]


def isic_extra_column(root):
    return isic2018(root, ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC", "UNK"))


def isic_2019_columns(root):
    return isic2018(root, ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK"))


# ---- MNIST and CIFAR-10 ----

DIGITS = {"train": 12, "test": 8}  # all that is read in a test


def mnist(root):
    for part, n in (("train", DIGITS["train"]), ("t10k", DIGITS["test"])):
        images, labels = struct.pack(">4i", 0x803, n, 28, 28), struct.pack(">2i", 0x801, n)
        write(root / f"mnist/raw/{part}-images-idx3-ubyte", images + noise(0, 256, n * 784).astype(np.uint8).tobytes())
        write(root / f"mnist/raw/{part}-labels-idx1-ubyte", labels + noise(0, 10, n).astype(np.uint8).tobytes())
    return ["check-data", "mnist", "--data", str(root)]


def cifar10(root):
    for i, kind in enumerate("airplane automobile bird cat deer dog frog horse ship truck".split()):
        for part in ("train", "test"):
            content = io.BytesIO()
            Image.fromarray(noise(0, 256, (32, 32, 3), i).astype(np.uint8)).save(content, "PNG")
            write(root / f"cifar10/{part}/{kind}/0000.png", content.getvalue())
    return ["check-data", "cifar10", "--data", str(root)]


# As hojjatk/mnist-dataset on Kaggle names the files; here with nothing in them.
def mnist_kaggle_names(root):
    for part, n in (("train", 60_000), ("t10k", 10_000)):
        images, labels = struct.pack(">4i", 0x803, n, 28, 28), struct.pack(">2i", 0x801, n)
        write(root / f"mnist/{part}-images.idx3-ubyte", images + bytes(n * 784))
        write(root / f"mnist/{part}-labels.idx1-ubyte", labels + bytes(n))
    return ["check-data", "mnist", "--data", str(root)]


# ---- JSRT ----

STRUCTURES = ("heart", "left clavicle", "right clavicle", "left lung", "right lung")
CHESTS = ("JPCLN001", "JPCLN154", "JPCNN001", "JPCNN093")  # of 247: all that is read in a test


def jsrt(root):
    """Four of its patients."""
    png, gif, mask = io.BytesIO(), io.BytesIO(), np.zeros((1024, 1024), np.uint8)
    Image.fromarray(noise(0, 255, (512, 512)).astype(np.uint8)).save(png, "PNG")
    mask[300:500, 200:400] = 255
    Image.fromarray(mask).save(gif, "GIF")
    for name in CHESTS:
        write(root / f"jsrt/images/{name}.png", png.getvalue())
        for structure in STRUCTURES:
            write(root / f"jsrt/masks/{structure}/{name}.gif", gif.getvalue())
    return ["check-data", "jsrt", "--data", str(root)]


# An archive of macOS.
def jsrt_macosx(root):
    command = jsrt(root)
    write(root / "jsrt/__MACOSX/heart/._JPCLN001.gif", b"\0\5\x16\7")
    return command


# A link that leads back, as backup tools and network storage make.
def jsrt_link_loop(root):
    command = jsrt(root)
    (root / "jsrt/masks/again").symlink_to("..")
    return command


# ---- parameter files ----


def params_file(root, change):
    text = (CHECKOUT / "params/jsrt/smoke.yaml").read_text(encoding="utf-8")
    write(root / "jsrt/smoke.yaml", change(text).encode())
    return ["run", str(root / "jsrt/smoke.yaml"), "--results", str(root / "results")]


# pyyaml #165.
def yaml_duplicate_key(root):
    return params_file(root, lambda text: text + "order: 1\n")


def yaml_infinite_rate(root):
    return params_file(root, lambda text: text.replace("learning_rate: 1.0", "learning_rate: .inf"))
