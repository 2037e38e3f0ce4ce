"""Scores against scikit-learn, SimpleITK and squares on paper."""

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage
from sklearn.metrics import jaccard_score

from fewlabels.scores.metrics import contour_distance, dice, dice_global, iou, largest_components


def blobs(seed, shape=(26, 33)):
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2) > 0.02


def parse(*rows):
    """A label map written down: one character a pixel, '.' is background."""
    return np.array([[0 if character == "." else int(character) for character in row] for row in rows])


def itk_contour_distance(a, b, spacing):
    def contour(mask):
        image = sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))  # the outside of the image is background
        image.SetSpacing([float(s) for s in spacing[::-1]])
        return sitk.LabelContour(image, fullyConnected=False)

    def mean_distance(of, to):
        distance = sitk.SignedMaurerDistanceMap(to, squaredDistance=False, useImageSpacing=True)
        return np.abs(sitk.GetArrayFromImage(distance))[sitk.GetArrayFromImage(of) > 0].mean()

    a, b = contour(a), contour(b)
    return (mean_distance(a, b) + mean_distance(b, a)) / 2


# IoU ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 9, 14), (3, 4, 6, 5)], ids=str)
def test_iou_is_scikit_learns_in_points_without_the_background(shape):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(0, 4, shape, generator=generator) for _ in range(2))
    ours = iou(a, b, 4)
    assert ours.shape == (shape[0], 3)
    for i in range(shape[0]):
        expected = jaccard_score(b[i].flatten(), a[i].flatten(), labels=[1, 2, 3], average=None)
        assert np.allclose(ours[i].numpy(), 100 * expected, rtol=1e-6)


def test_a_structure_in_neither_map_scores_100_and_one_in_only_one_map_0():
    truth = torch.tensor([[[0, 1, 1], [0, 0, 0]]])
    prediction = torch.tensor([[[0, 1, 0], [0, 2, 0]]])
    assert iou(prediction, truth, 4).tolist() == [[50, 0, 100]]


# Contour distance ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 2.5)])
@pytest.mark.parametrize("seed", range(3))
def test_contour_distance_is_simpleitks(seed, spacing):
    a, b = blobs(seed), blobs(seed + 10)
    assert contour_distance(a, b, spacing) == pytest.approx(itk_contour_distance(a, b, spacing), rel=1e-5)


def test_contour_distance_is_simpleitks_in_3d():
    a, b = blobs(0, (9, 14, 11)), blobs(1, (9, 14, 11))
    assert contour_distance(a, b, (3.0, 1.0, 0.8)) == pytest.approx(itk_contour_distance(a, b, (3, 1, 0.8)), rel=1e-5)


def test_contour_distance_of_nested_rectangles_by_hand():
    outer, inner = np.zeros((9, 12), bool), np.zeros((9, 12), bool)
    outer[1:8, 2:9], inner[2:7, 3:8] = True, True  # 7 x 7 around 5 x 5; a row is 2 mm, a column 3 mm
    from_inner = (10 * 2 + 6 * 3) / 16  # top and bottom rows with their corners; the sides
    from_outer = (10 * 2 + 10 * 3 + 4 * math.sqrt(13)) / 24  # top and bottom; sides; corners
    assert contour_distance(outer, inner, (2, 3)) == pytest.approx((from_inner + from_outer) / 2)


def test_contour_distance_of_shifted_squares_by_hand():
    a, b = np.zeros((8, 15), bool), np.zeros((8, 15), bool)
    a[2:5, 1:4], b[2:5, 7:10] = True, True  # 3 x 3, contours of 8 pixels, six columns of 0.5 mm apart
    # to the near side: from 3 pixels 4 columns, from 2 pixels 5, from 3 pixels 6; rows agree
    assert contour_distance(a, b, (2, 0.5)) == pytest.approx(0.5 * (3 * 4 + 2 * 5 + 3 * 6) / 8)
    assert contour_distance(b, a, (2, 0.5)) == contour_distance(a, b, (2, 0.5))


def test_single_pixels_are_as_far_apart_as_their_centres():
    a, b = np.zeros((6, 9), bool), np.zeros((6, 9), bool)
    a[1, 2], b[4, 6] = True, True
    assert contour_distance(a, b, (2, 1)) == pytest.approx(math.hypot(3 * 2, 4 * 1))


def test_the_image_border_closes_a_contour():
    full, inner = np.ones((5, 7), bool), np.zeros((5, 7), bool)
    inner[1:4, 1:6] = True
    # contours of 20 and 12 pixels, one step apart; from the four outer corners it is a diagonal step
    assert contour_distance(full, inner, (1, 1)) == pytest.approx((1 + (16 + 4 * math.sqrt(2)) / 20) / 2)


def test_a_mask_has_no_distance_to_itself():
    assert contour_distance(blobs(0), blobs(0), (0.7, 2.5)) == 0


@pytest.mark.parametrize("which", [(0, 1), (1, 0), (0, 0)])
def test_the_distance_to_an_empty_mask_is_nan(which):
    masks = [np.zeros((26, 33), bool), blobs(0)]
    assert math.isnan(contour_distance(masks[which[0]], masks[which[1]], (1, 1)))


# Largest components -------------------------------------------------------------------------------------------------


def test_the_largest_component_of_each_structure_stays_and_its_holes_are_filled():
    before = parse(
        "111...2",
        "1.1....",
        "111..22",
        ".....22",
        "1......",
    )
    after = parse(
        "111....",
        "111....",
        "111..22",
        ".....22",
        ".......",
    )
    assert np.array_equal(largest_components(before), after)


def test_diagonal_neighbours_do_not_connect():
    assert np.array_equal(largest_components(parse("11..", "..1.")), parse("11..", "...."))


def test_a_bay_open_to_the_outside_is_no_hole():
    bay = parse(".1.1.", ".111.", ".....")
    assert np.array_equal(largest_components(bay), bay)


@pytest.mark.parametrize(("around", "within"), ["12", "21"])
def test_filling_a_hole_spares_other_structures_in_it(around, within):
    before, after = "aaaa aw.a aaaa", "aaaa awaa aaaa"
    before, after = (parse(*m.replace("a", around).replace("w", within).split()) for m in (before, after))
    assert np.array_equal(largest_components(before), after)


def test_what_lies_across_a_structure_connects_it():
    lung = parse(
        ".11..",
        ".22..",
        ".111.",
        ".....",
        "1....",
    )
    apex_lost = parse(".....", ".22..", ".111.", ".....", ".....")
    apex_kept = parse(".11..", ".22..", ".111.", ".....", ".....")
    assert np.array_equal(largest_components(lung), apex_lost)
    assert np.array_equal(largest_components(lung, through={1: [2]}), apex_kept)


def test_a_component_is_as_large_as_its_own_pixels_not_those_lying_across():
    before = parse(
        "12222222",
        "........",
        "111.....",
    )
    after = parse(
        ".2222222",
        "........",
        "111.....",
    )
    assert np.array_equal(largest_components(before, through={1: [2]}), after)


def test_the_hole_of_a_structure_within_another_is_filled_by_the_inner_one():
    before = parse(
        "2222222",
        "2.....2",
        "2.111.2",
        "2.1.1.2",
        "2.111.2",
        "2.....2",
        "2222222",
    )
    after = np.where(before == 0, 2, before)
    after[3, 3] = 1
    assert np.array_equal(largest_components(before), after)


def test_3d_dtype_and_input_are_kept():
    before = np.zeros((5, 6, 7), np.int64)
    before[1:4, 1:4, 1:4], before[2, 2, 2], before[4, 5, 6] = 3, 0, 3
    copy = before.copy()
    after = largest_components(before)
    expected = np.zeros_like(before)
    expected[1:4, 1:4, 1:4] = 3
    assert after.dtype == before.dtype
    assert np.array_equal(after, expected)
    assert np.array_equal(before, copy)


def test_an_empty_map_stays_empty():
    assert not largest_components(np.zeros((4, 5), np.int64)).any()


def test_the_place_of_a_removed_part_is_a_hole_and_filled():
    labels = np.full((9, 9), 1)
    labels[:, 6:] = 2
    labels[3:5, 2] = 2  # a stray piece of 2 within 1
    cleaned = largest_components(labels)
    assert (cleaned[:, :6] == 1).all()
    assert (cleaned[:, 6:] == 2).all()


# ---- what comes in ----


@pytest.mark.parametrize("score", [lambda a, b: iou(a, b, 2), lambda a, b: dice(a, b, 2), dice_global])
def test_maps_of_another_shape_are_refused(score):
    """They would be broadcast, and an agreement come out above all there is."""
    maps = torch.ones(3, 4, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"expected .*\(3, 4, 4\), found \((1|3, 1), 4, 4\)$"):
        score(maps, maps[:1])
    with pytest.raises(ValueError, match=r"expected .*\(3, 4, 4\), found \((1|3, 1), 4, 4\)$"):
        score(maps, maps[:, None])


@pytest.mark.parametrize("kind", [torch.from_numpy, lambda m: m.astype(int), lambda m: m.astype(np.uint8)])
def test_a_mask_may_be_a_tensor_or_of_numbers(kind):
    rng = np.random.default_rng(0)
    a, b = (ndimage.gaussian_filter(rng.random((30, 40)), 3) > 0.5 for _ in "ab")
    assert contour_distance(kind(a), kind(b), (2.0, 1.0)) == contour_distance(a, b, (2.0, 1.0))
    labels = a.astype(int) + b
    assert np.array_equal(largest_components(torch.from_numpy(labels)), largest_components(labels))
