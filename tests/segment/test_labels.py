"""What values mean: classes found in masks as people draw and save them, by rule and by classes.yaml."""

import io

import numpy as np
import pytest
from helpers import refused
from PIL import Image
from scipy import ndimage

from fewlabels.segment.labels import Labels, decide, decode, encode

Y, X = np.mgrid[:64, :80]
DISC = ((Y - 30) ** 2 + (X - 34) ** 2 < 18**2).astype(int)
TWO = DISC + ((Y - 30) ** 2 + (X - 34) ** 2 < 9**2)  # a ring of 1 around 2


def mask(values, classes=TWO, dtype=np.uint8):
    """`(1, H, W)`, or `(1, H, W, 3)` where values are colours."""
    return np.array(values, dtype=dtype)[classes][None]


def decided(*arrays, given=None):
    return decide({str(i): [array] for i, array in enumerate(arrays)}, given)


def there_and_back(array, given=None):
    labels, _ = decided(array, given=given)
    np.testing.assert_array_equal(decode(encode([array], labels), labels), array)
    return labels


@pytest.mark.parametrize(
    ("values", "dtype"),
    [((0, 1, 2), np.uint8), ((0, 128, 255), np.uint8), ((0, 50, 51), np.uint8), ((0, 700, 4000), np.uint16),
     ((0, -1, -1000), np.int16), ((0, 1, 2), np.float32), ((0, 1, 70000), np.int32)],
)  # fmt: skip
def test_each_value_is_a_class(values, dtype):
    array = mask(values, dtype=dtype)
    labels, notes = decided(array)
    assert set(labels.values) == set(values)
    assert labels.values[0] == 0
    assert labels[2:] == (None, "values")
    assert labels.names == ("background", *(str(value) for value in labels.values[1:]))
    assert notes == []
    classes = encode([array], labels)
    assert classes.dtype == np.int64
    for at, value in enumerate(labels.values):
        np.testing.assert_array_equal(classes == at, array == value)
    back = decode(classes, labels)
    np.testing.assert_array_equal(back, array)
    assert back.dtype == (np.uint8 if dtype == np.float32 else dtype)


def test_values_of_all_masks():
    labels, _ = decided(mask((0, 0, 0)), mask((0, 3, 3)), mask((0, 1, 0)))
    assert labels.values == (0, 1, 3)


def test_colours():
    array = mask([(0, 0, 0), (255, 0, 0), (0, 0, 128)])
    black = np.zeros((1, 64, 80), np.uint8)  # a mask without anything is read as grey
    labels, notes = decided(array, black)
    assert labels.values == ((0, 0, 0), (0, 0, 128), (255, 0, 0))
    assert labels.names == ("background", "#000080", "#ff0000")
    assert labels.kind == "colours"
    assert notes == []
    np.testing.assert_array_equal(decode(encode([array], labels), labels), array)
    assert not encode([black], labels).any()


def test_background_is_the_most_frequent_where_nothing_is_black():
    labels, notes = decided(mask((100, 20, 60)))
    assert labels.values == (100, 20, 60)
    assert labels.names == ("background", "20", "60")
    assert len(notes) == 1
    assert "100 is the most frequent" in notes[0]
    white = mask([(255, 255, 255), (255, 0, 0), (0, 0, 128)])
    assert decided(white)[0].values[0] == (255, 255, 255)


def jpeg(array, quality=75):
    file = io.BytesIO()
    Image.fromarray(array[0]).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))[None]


@pytest.mark.parametrize("quality", [50, 75, 95, 100])
@pytest.mark.parametrize("values", [(0, 255, 255), (0, 128, 255), (0, 60, 120)])
def test_jpeg_masks(values, quality):
    array = mask(values)
    saved = jpeg(array, quality)
    labels, notes = decided(saved)
    found = np.array(labels.values)
    assert len(found) == len(set(values))
    assert np.abs(found - sorted(set(values))).max() <= 3
    assert len(notes) == (1 if len(np.unique(saved)) > len(found) else 0)
    true = np.searchsorted(sorted(set(values)), array)
    assert (encode([saved], labels) != true).mean() < 0.01


@pytest.mark.parametrize("values", [(0, 255, 255), (0, 100, 255), (0, 255, 100)])
def test_smoothed_masks(values):
    """Drawn at thrice the size and made small, as annotation tools do."""
    large = np.repeat(np.repeat(TWO, 3, 0), 3, 1)
    large = ndimage.binary_dilation(large > 0, iterations=1).astype(int) + (large == 2)
    small = np.array(values)[large].reshape(64, 3, 80, 3).mean((1, 3)).round().astype(np.uint8)[None]
    labels, notes = decided(small)
    assert sorted(labels.values) == sorted(set(values))
    assert len(notes) == 1
    assert "classes.yaml" in notes[0]
    pure = np.isin(small, values)
    np.testing.assert_array_equal(decode(encode([small], labels), labels)[pure], small[pure])


def test_smoothed_colours():
    """Between red and green lies olive, which is no class."""
    array = mask([(0, 0, 0), (255, 0, 0), (0, 255, 0)]).astype(float)
    array = ndimage.uniform_filter(array, (1, 2, 2, 1)).round().astype(np.uint8)
    labels, _ = decided(array)
    assert set(labels.values) == {(0, 0, 0), (255, 0, 0), (0, 255, 0)}


def test_a_thin_class_is_no_edge():
    """Lines of 1 pixel have no inside; those of 127 lie beside 0 alone."""
    thin = np.zeros((1, 64, 80), np.uint8)
    thin[:, 10] = 127
    thin[:, 40:60] = 255
    assert there_and_back(thin).values == (0, 127, 255)


def test_edges_between_two_classes_do_not_become_the_class_between_them():
    labels = Labels(("background", "a", "b"), (0, 100, 200), None, "values")
    row = np.array([0, 0, 0, 60, 130, 200, 200, 200], np.uint8)
    square = np.repeat(row[None], 5, 0)[None]
    np.testing.assert_array_equal(encode([square], labels)[0, 0], [0, 0, 0, 0, 2, 2, 2, 2])


def test_soft_masks():
    soft = ndimage.gaussian_filter(DISC.astype(np.float32), 2)[None]
    labels, notes = decided(soft)
    assert labels.values == (0, 1)
    assert "0.5" in notes[0]
    np.testing.assert_array_equal(encode([soft], labels), soft >= 0.5)
    assert decode(encode([soft], labels), labels).dtype == np.uint8


def test_numbers_and_255_as_in_voc():
    array = mask((0, 1, 2))
    array[0, :4] = 255
    labels, notes = decided(array)
    assert labels.values == (0, 1, 2, 255)
    assert "ignore" in notes[0]


def test_jpeg_with_straight_edges():
    """Whose noise has an inside too, as it is the same along an edge."""
    square = np.zeros((1, 400, 400), np.uint8)
    square[:, 60:190, 83:244] = 255
    square[:, 210:222, 50:60] = 255
    for quality in (30, 75, 90):
        found = decided(jpeg(square, quality))[0].values
        assert len(found) == 2
        assert found[0] == 0
        assert found[1] >= 250


def test_many_numbers_of_an_atlas_stay_what_they_are():
    """FreeSurfer's lie near to each other, and some are rare."""
    numbers = np.array(
        [0, 2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 26, 28, 41, 42, 43, 44, 77, 85, 251]
    )
    grid = np.zeros((2, 90, 90), np.int16)
    for at, number in enumerate(numbers[1:]):
        y, x = divmod(at, 5)
        side = 12 if at % 2 else 4
        grid[:, 17 * y + 2 : 17 * y + 2 + side, 17 * x + 2 : 17 * x + 2 + side] = number
    labels, notes = decided(grid)
    assert labels.values == tuple(numbers)
    assert notes == []


def test_what_is_no_mask_of_classes():
    rng = np.random.default_rng(0)
    photograph = ndimage.gaussian_filter(rng.random((1, 64, 80)), 2) * 255
    refused(lambda: decided(photograph.astype(np.uint8)), "masks: expected at most 32 classes", "are they images?")
    noise = rng.integers(0, 256, (1, 64, 80, 3), dtype=np.uint8)
    refused(lambda: decided(noise), "masks: expected at most 32 classes", "are they images?")
    cells = np.repeat(np.repeat(rng.permutation(80).reshape(8, 10), 8, 0), 8, 1)[None]
    refused(lambda: decided(cells), "masks: expected at most 32 classes, found 80 values; are they instances")
    refused(lambda: decided(np.zeros((1, 4, 4), np.uint8)), "masks: expected at least two values", "only 0")


# ---- classes.yaml ----


def written(tmp_path, text):
    (tmp_path / "classes.yaml").write_text(text)
    return tmp_path / "classes.yaml"


@pytest.mark.parametrize(
    "text",
    [
        "{names: {0: background, 128: lung, 255: heart}}",
        "0: background\n128: lung\n255: heart\n",
        "names:\n  background: 0\n  lung: 128\n  heart: 255\n",
    ],
)
def test_names(tmp_path, text):
    labels, notes = decided(mask((0, 255, 128)), given=written(tmp_path, text))
    assert labels == Labels(("background", "lung", "heart"), (0, 128, 255), None, "values")
    assert notes == []


@pytest.mark.parametrize("text", ['{"#000000": none, "#ff0000": a}', "{none: [0, 0, 0], a: [255, 0, 0]}"])
def test_names_of_colours(tmp_path, text):
    labels, _ = decided(mask([(0, 0, 0), (255, 0, 0)], DISC), given=written(tmp_path, text))
    assert labels == Labels(("none", "a"), ((0, 0, 0), (255, 0, 0)), None, "colours")


def test_what_is_ignored_there_and_back(tmp_path):
    given = written(tmp_path, "{names: {0: background, 255: tumour}, ignore: 127}")
    array = mask((0, 127, 255))
    labels = there_and_back(array, given)
    assert labels == Labels(("background", "tumour"), (0, 255), 127, "values")
    np.testing.assert_array_equal(encode([array], labels)[0], np.array([0, -1, 1])[TWO])


def test_a_background_that_is_not_0(tmp_path):
    given = written(tmp_path, "{0: tumour, 255: background}")
    assert decided(mask((255, 0), DISC), given=given)[0] == Labels(("background", "tumour"), (255, 0), None, "values")


def test_jpeg_with_names(tmp_path):
    given = written(tmp_path, "{0: background, 255: tumour}")
    labels, notes = decided(jpeg(mask((0, 255), DISC)), given=given)
    assert labels.values == (0, 255)
    assert "does not name: the nearest is taken" in notes[0]


def test_a_class_that_no_mask_has(tmp_path):
    labels, notes = decided(mask((0, 1), DISC), given=written(tmp_path, "{0: background, 1: liver, 2: tumour}"))
    assert labels.names == ("background", "liver")
    assert notes == ["no mask has tumour"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{0: background, 1: a}", "expected a name for each value of the masks, found none for 2 in 0"),
        ("- 1\n- 2", "expected names by value"),
        ("{0: background", "expected names by value"),
        ("{names: {0: background, 1: a}, ignored: 2}", "expected names and ignore, found ignored"),
        ("{names: {0: background, 1: a}, ignore: 1}", "expected under ignore a value that has no name, found 1"),
        ("{0: a, 1: a, 2: b}", "expected at least two names, all different"),
        ("{0: background}", "expected at least two names"),
        ('{"#000000": background, "#ff0000": a}', "expected numbers, as the masks have, found #000000"),
    ],
)
def test_files_that_are_refused(tmp_path, text, line):
    given = written(tmp_path, text)
    refused(lambda: decided(mask((0, 1, 2)), given=given), f"{given}: ", line)


# ---- one file for each class ----


def test_one_file_for_each_class():
    ring = mask((0, 255, 0))
    core = jpeg(mask((0, 0, 255)))
    labels, notes = decide({"a": [ring, core], "b": [ring, core * 0]}, None, ("ring", "core"))
    assert labels == Labels(("background", "ring", "core"), (0, 1, 2), None, "files")
    assert "0 background, 1 ring, 2 core" in notes[0]
    assert (encode([ring, core], labels)[0] != TWO).mean() < 0.01
    np.testing.assert_array_equal(decode(encode([ring, core * 0], labels), labels), (ring > 0).astype(np.uint8))


def test_one_file_for_each_class_with_numbers(tmp_path):
    """classes.yaml says the number of each by its name, in any order, and what is ignored in any of the files."""
    given = written(tmp_path, "{names: {0: background, 7: core, 5: Ring}, ignore: 100}")
    ring, core = mask((0, 255, 0)), mask((0, 0, 255))
    core[0, 0] = 100
    labels, _ = decide({"a": [core, ring]}, given, ("core", "ring"))
    assert labels == Labels(("background", "core", "ring"), (0, 7, 5), 100, "files")
    expected = np.array((0, 5, 7))[TWO]
    expected[0] = 100
    np.testing.assert_array_equal(decode(encode([core, ring], labels), labels)[0], expected)
    refused(lambda: decide({"a": [core, ring]}, given, ("core", "rim")), f"{given}: expected numbers of core, rim")


def test_files_of_classes_that_overlap():
    whole, core = mask((0, 1, 1)), mask((0, 0, 1))
    labels, notes = decide({"a": [whole, core]}, None, ("whole", "core"))
    assert f"overlap in 1 of 1 images, most in a ({(TWO == 2).sum()} pixels)" in notes[1]
    np.testing.assert_array_equal(encode([whole, core], labels)[0], TWO)
