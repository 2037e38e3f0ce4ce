"""Which mask is paired with which image, by names as people have them; and what is refused."""

import warnings

import pytest
from helpers import refused
from PIL import Image

from fewlabels.segment.folder import images_below, paired


def made(folder, *names):
    """Empty files, as pairing looks at names alone."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def pairs(data):
    """{name: masks below masks/}"""
    found = {}
    for case in paired(data):
        assert case.image.relative_to(data / "images").as_posix().startswith(case.name)
        found[case.name] = [path.relative_to(data / "masks").as_posix() for path in case.masks]
    return found


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("01.jpg", "01.png"),
        ("scan.nii.gz", "scan.nii"),
        ("a.b.TIFF", "a.b.png"),
        ("Scan 7.PNG", "scan 7.png"),
        ("07_0000.nii.gz", "07.nii.gz"),
        ("07.png", "07_mask.png"),
        ("07.png", "07_masks.tif"),
        ("07.png", "07_seg.png"),
        ("07.png", "07-Label.png"),
        ("07.png", "07_labels.png"),
        ("07.png", "07_gt.png"),
        ("07.png", "mask_07.png"),
        ("image07.png", "mask07.png"),
        ("img_07.png", "seg_07.png"),
        ("ISIC_0000001.jpg", "ISIC_0000001_segmentation.png"),
        ("case_07_0000.nrrd", "case_07_seg.nrrd"),
        ("a/07.png", "a/07.png"),
        ("a/b/07.png", "a/b/07_mask.png"),
        ("a/07.png", "07.png"),
        ("07.png", "lesions/07.png"),
        ("a/07.png", "b/07_gt.png"),
        ("label.png", "label.png"),
    ],
)
def test_names(tmp_path, image, mask):
    made(tmp_path, f"images/{image}", "images/other.png", f"masks/{mask}")
    name = image.rsplit(".nii")[0] if ".nii" in image else image.rsplit(".", 1)[0]
    assert pairs(tmp_path) == {name: [mask], "other": []}


def test_the_nearest_folder_decides(tmp_path):
    made(tmp_path, "images/a/07.png", "images/b/07.png", "masks/b/07_mask.png", "masks/a/07_mask.png")
    assert pairs(tmp_path) == {"a/07": ["a/07_mask.png"], "b/07": ["b/07_mask.png"]}


def test_numbers_are_not_words_of_others(tmp_path):
    made(tmp_path, *(f"images/{i}.png" for i in (1, 10, 100)), "masks/1_mask.png", "masks/10_mask.png")
    assert pairs(tmp_path) == {"1": ["1_mask.png"], "10": ["10_mask.png"], "100": []}


def test_frames_numbered_from_0000(tmp_path):
    names = [f"film_{i:04}.png" for i in range(4)]
    made(tmp_path, *(f"images/{name}" for name in names), "masks/film_0000.png", "masks/film_0002.png")
    assert [bool(masks) for masks in pairs(tmp_path).values()] == [True, False, True, False]


@pytest.mark.parametrize(
    "layout", ["{}/{}.png", "{}/{}_mask.png", "fold1/masks/{}/{}.png", "{}/fold1/{}.gif", "a/{}/{}.png"]
)
def test_a_folder_for_each_class(tmp_path, layout):
    """SCR has fold1/masks/heart/JPCLN001.gif."""
    classes = ("heart", "left lung")
    masks = [layout.format(part, n) for n in ("J1", "J2") for part in classes]
    made(tmp_path, "images/J1.png", "images/J2.png", "images/J3.png", *(f"masks/{mask}" for mask in masks))
    cases = paired(tmp_path)
    assert [case.parts for case in cases] == [classes, classes, ()]
    assert [str(p.relative_to(tmp_path / "masks")) for case in cases for p in case.masks] == masks


def test_a_class_behind_the_name(tmp_path):
    masks = [f"masks/{n}_{part}.png" for n in ("p1", "p1_2") for part in ("lung left", "heart")]
    made(tmp_path, "images/p1.png", "images/p1_2.png", *masks)
    assert pairs(tmp_path) == {
        "p1": ["p1_heart.png", "p1_lung left.png"],
        "p1_2": ["p1_2_heart.png", "p1_2_lung left.png"],
    }
    assert {case.parts for case in paired(tmp_path)} == {("heart", "lung left")}


def test_one_class_behind_all_names_is_a_mask_as_any(tmp_path):
    made(tmp_path, "images/1.png", "images/2.png", "masks/1_tumour.png", "masks/2_tumour.png")
    assert {(len(case.masks), case.parts) for case in paired(tmp_path)} == {(1, ())}


def test_dicom_folders_and_what_is_left_out(tmp_path):
    made(tmp_path, "images/p1/series/IM1.dcm", "images/p1/series/IM2.dcm", "images/.DS_Store", "images/__MACOSX/a.png")
    made(tmp_path, "images/p2/1.2.840.1", "images/notes.docx", "images/p2/README", "masks/p1.nii.gz")
    (tmp_path / "images/p2/1.2.840.1").write_bytes(bytes(128) + b"DICM")
    made(tmp_path, "masks/p2.nii.gz", "masks/p1/series.nii.gz")
    (tmp_path / "masks/p1.nii.gz").unlink()
    with pytest.warns(UserWarning, match="notes.docx") as told:
        cases = paired(tmp_path)
    assert len(told) == 1
    assert [case.name for case in cases] == ["p1/series", "p2"]
    assert [case.image.name for case in cases] == ["series", "p2"]
    assert all(len(case.masks) == 1 for case in cases)


def test_images_without_masks(tmp_path):
    made(tmp_path, "b.png", "a/c.nii.gz")
    assert [case[:3] for case in images_below(tmp_path)] == [
        ("a/c", tmp_path / "a/c.nii.gz", ()),
        ("b", tmp_path / "b.png", ()),
    ]
    refused(lambda: images_below(tmp_path / "a/none"), "none", "expected images (.png, ")


@pytest.mark.parametrize(
    ("names", "texts"),
    [
        ((), ["expected folders images and masks, found no folder"]),
        (("pictures/1.png", "masks/1.png"), ["expected folders images and masks, found masks, pictures"]),
        (("images/.x", "masks/1.png"), ["/images: expected images (.png", "found none"]),
        (("images/1.png", "masks/.x"), ["/masks: expected masks of some of the images, found none"]),
        (("images/1.png", "masks/1.png", "masks/2.png"), ["masks named as images are (1, ...), found 2.png"]),
        (("images/a.png", "images/a.jpg", "masks/a.png"), ["one image of a name, found a.jpg, a.png"]),
        (("images/a.png", "masks/a.png", "masks/a.tif"), ["one mask, or one for each class", "a.png, masks/a.tif"]),
        (("images/a.png", "masks/a.png", "masks/a_mask.png"), ["one mask", "masks/a.png, masks/a_mask.png"]),
        (("images/a/1.png", "images/b/1.png", "masks/1.png"), ["1.png: expected one image of its name", "a/1, b/1"]),
        (
            ("images/1.png", "images/2.png", "masks/1_a.png", "masks/1_b.png", "masks/2_a.png"),
            ["2.png: expected a mask of each class: a, b, found none of 'b'"],
        ),
        (("images/1.png", "images/2.png", "masks/1_1.png", "masks/2_3.png"), ["expected a mask of each class: 1, 3"]),
        (
            ("images/1.png", "images/2.png", "masks/a/1.png", "masks/b/1.png", "masks/2.png"),
            ["2.png: expected a mask of each class: a, b, found a mask alone"],
        ),
        (("images/a_0000.nii", "images/a_0001.nii", "masks/a.nii"), ["one file an image, found channels a_0000 "]),
        (("images/1.dcm", "images/2.dcm", "masks/1.png"), ["expected a folder for each DICOM series"]),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, names, texts):
    made(tmp_path, *names)
    refused(lambda: paired(tmp_path), *texts)


def test_many_pairs_in_little_time(tmp_path):
    """Pairing does not compare each mask with each image."""
    made(tmp_path, *(f"images/{i}.png" for i in range(3000)), *(f"masks/{i}_mask.png" for i in range(3000)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(case.masks[0].name == f"{case.name}_mask.png" for case in paired(tmp_path))


def test_links_to_another_disk(tmp_path):
    made(tmp_path, "disk/pictures/1.png", "masks/1.png")
    Image.new("L", (2, 2)).save(tmp_path / "disk/pictures/1.png")
    (tmp_path / "images").symlink_to(tmp_path / "disk/pictures", target_is_directory=True)
    assert pairs(tmp_path) == {"1": ["1.png"]}
