"""What becomes of data as users have them, by the command line: read, with what is said; or refused in one line."""

import hashlib
import re
import warnings

import cases
import pytest

from fewlabels.__main__ import main
from fewlabels.data import jsrt, mnist

SAME = "sha256 as {}"  # of another case
READ = {  # case: what the report says
    "acdc_official": ["100 of 100 patients", "300 slices"],
    "acdc_plain_nii": [SAME.format("acdc_official")],
    "acdc_mask_of_other_direction": [SAME.format("acdc_official")],
    "acdc_info_bom_crlf": [SAME.format("acdc_official")],
    "acdc_fourth_axis_of_one": [SAME.format("acdc_official")],
    "acdc_labels_float64": [SAME.format("acdc_official")],
    "acdc_big_endian": ["100 of 100 patients"],
    "acdc_slope_nan": [SAME.format("acdc_official")],
    "acdc_with_md": [SAME.format("acdc_official")],
    "brats_official": ["4 of 285 patients (3 of 210 HGG, 1 of 75 LGG)"],
    "brats_incomplete": ["4 of 285 patients"],
    "brats_2020_flat": ["brats2020: BraTS 2020", "3 of 369 patients"],
    "brats_sequence_mirrored": [SAME.format("brats_official")],
    "brats_hidden_folder": [SAME.format("brats_official")],
    "pddca_official": ["38 of 38 patients for training, 10 of 10 for test", "12 Submandibular_R"],
    "pddca_big_endian_gzip": [SAME.format("pddca_official")],
    "pddca_ras_space": [SAME.format("pddca_official")],
    "pddca_part_folders": ["38 of 38 patients for training, 10 of 10 for test"],
    "openkbp_hidden_folder": ["2 of 38 patients for training, 2 of 10 for test", "4 BrainStem"],
    "ham_copy": ["14 of 10,015 images", "the paper's split cannot be made", "2 MEL, 2 NV", "no lesion masks"],
    "ham_tab": [SAME.format("ham_copy")],
    "isic_extra_column": ["35 of 10,015 images; 35 lesions: 5 MEL, 5 NV, 5 BCC, 5 AKIEC, 5 BKL, 5 DF, 5 VASC"],
    "ham_masks_soft": ["a lesion mask for each"],
    "jsrt_macosx": ["4 of 4 images: 2 with a nodule + 2 without"],
    "jsrt_link_loop": [SAME.format("jsrt_macosx")],
}
TOLD = {  # case: what it is warned of
    "acdc_mask_of_other_direction": ["patient002_frame09_gt.nii.gz: its axes run another way than those of patient002"],
    "brats_sequence_mirrored": ["Brats17_HGG_0_t2.nii.gz: its axes run another way than those of Brats17_HGG_0_flair"],
}
REFUSED = {  # case: what the line says
    "acdc_skewed_sform": ["patient002_frame09.nii.gz: expected an sform of right angles"],
    "acdc_labels_by_slope": ["patient002_frame09_gt.nii.gz: expected labels 0 to 3", "0.9999"],
    "acdc_gz_that_is_none": ["patient002_frame09.nii.gz: expected"],
    "brats_label_3": ["Brats17_A_seg.nii.gz: expected labels 0, 1, 2, 4", "450 voxels of others, 3"],
    "pddca_detached": ["0522c0004/img.nrrd: expected"],
    "pddca_slicer_4d": ["0522c0004/structures/BrainStem.nrrd: expected three axes"],
    "ham_semicolons": ["HAM10000_metadata.csv: expected", "separated by semicolons, save it with commas"],
    "ham_utf16": ["HAM10000_metadata.csv: expected", "UTF-16: save it as CSV in UTF-8"],
    "ham_exif_6": ["images/ISIC_0000003.jpg: expected", "EXIF orientation 6"],
    "isic_2019_columns": ["columns image, MEL, NV, BCC, AKIEC", "'image, MEL, NV, BCC, AK, BKL, DF, VASC, SCC, UNK'"],
    "ham_masks_01": ["ISIC_0000000_segmentation.png: expected a mask, 255 (or 1 in an image of 1 bit)"],
    "ham_masks_palette": ["ISIC_0000000_segmentation.png: expected PNG, 1 or L", "found PNG, P"],
    "ham_masks_16bit": ["ISIC_0000000_segmentation.png: expected PNG, 1 or L", "found PNG, I;16"],
    "mnist_kaggle_names": ["train-images.idx3-ubyte: expected the official values of train-images-idx3-ubyte", "but 0"],
    "yaml_duplicate_key": ["smoke.yaml: order: expected each key once", "found it in line 18 and in line 35"],
    "yaml_infinite_rate": ["smoke.yaml: learning_rate: expected a finite number, found inf"],
}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """outcome(case) -> exit status, stdout, stderr, warnings; each case is made and read once."""
    known = {}

    def of(case, capsys, littering=False):
        if (case, littering) not in known:
            root = tmp_path_factory.mktemp(case)
            command = getattr(cases, case)(root)
            capsys.readouterr()
            with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                patch.setattr(jsrt, "IDS", cases.CHESTS)
                if case == "mnist":
                    patch.setattr(mnist, "COUNTS", cases.DIGITS)
                    patch.setattr(mnist, "VALUES", digests(root / "mnist/raw"))
                if littering:
                    littered(root)
                status = main(command)
            assert not (root / "results").exists()
            ours = [str(warning.message) for warning in told if warning.category is UserWarning]
            known[case, littering] = (status, *capsys.readouterr(), ours)
        return known[case, littering]

    return of


def digests(folder):
    """SHA-256 of what stands behind the headers of idx files."""
    header = {path: 16 if "images" in path.name else 8 for path in folder.glob("t*")}
    return {path.name: hashlib.sha256(path.read_bytes()[n:]).hexdigest() for path, n in header.items()}


def littered(root):
    """What macOS, Windows, Jupyter and network storage leave in every folder, and all of a folder's files once more."""
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        files = [path for path in folder.iterdir() if path.is_file()][:3]
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", *(f"._{path.name}" for path in files)):
            (folder / name).write_bytes(b"\0\5\x16\7")
        for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir"):
            (folder / name).mkdir(exist_ok=True)
            for path in files:
                (folder / name / path.name).write_bytes(b"\0\5\x16\7")


def checksum(report):
    return re.search(r"^sha256 [0-9a-f]{64}$", report, flags=re.MULTILINE)[0]


@pytest.mark.parametrize("case", READ)
def test_read(case, outcome, capsys):
    status, report, errors, told = outcome(case, capsys)
    assert (status, errors, len(told)) == (0, "", len(TOLD.get(case, [])))
    assert all(text in line for text, line in zip(TOLD.get(case, []), told))
    for text in READ[case]:
        if text.startswith("sha256 as "):
            assert checksum(report) == checksum(outcome(text.split()[-1], capsys)[1])
        else:
            assert text in report


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, outcome, capsys):
    status, report, errors, told = outcome(case, capsys)
    assert (status, told) == (2, [])
    assert "sha256" not in report  # but a bar
    assert errors.startswith("fewlabels: ")
    assert len(errors.splitlines()) == 1
    assert not [text for text in REFUSED[case] if text not in errors], errors
    assert not re.search(r"itk|Exception|Traceback|0x[0-9a-f]{6}", errors), errors


CONTROLS = (
    "acdc_official",
    "brats_official",
    "pddca_official",
    "openkbp_hidden_folder",
    "ham_copy",
    "isic_extra_column",
)


@pytest.mark.parametrize("case", [*CONTROLS, "mnist", "cifar10", "jsrt"])
def test_what_is_left_behind_changes_nothing(case, outcome, capsys):
    clean, littering = outcome(case, capsys), outcome(case, capsys, littering=True)
    assert (clean[0], clean[2:]) == (0, ("", []))
    assert (littering[0], littering[3]) == (0, []), littering[2]
    assert checksum(littering[1]) == checksum(clean[1])
