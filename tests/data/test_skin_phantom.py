"""The dermoscopic phantom: what it promises of its classes, lesions and masks, measured on its images."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fewlabels.data import isic
from fewlabels.data.phantoms import skin as module
from fewlabels.data.phantoms.skin import skin
from fewlabels.errors import BadInput

MEL, NV, BCC, AKIEC, BKL, DF, VASC = range(7)
REAL = np.array([1113, 6705, 514, 327, 1099, 115, 142])


@pytest.fixture(scope="module")
def usual():
    return skin(400, seed=1, size=32)


@pytest.fixture(scope="module")
def even():
    """40 images of each class, all of different lesions or nearly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "COUNTS", (1,) * 7)
        return skin(280, seed=2, size=64)


def rows_of(cohort, value):
    return (cohort.labels == value).nonzero().flatten()


# ---- form ----


def test_form(usual):
    assert (usual.images.shape, usual.images.dtype) == ((400, 3, 32, 32), torch.float32)
    assert (usual.labels.shape, usual.labels.dtype) == ((400,), torch.int64)
    masks = usual.meta["masks"]
    assert (masks.shape, masks.dtype) == ((400, 32, 32), torch.bool)
    assert usual.classes == isic.CLASSES == ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
    assert usual.spacing_mm == (1.0, 1.0)
    assert usual.ids == tuple(sorted(usual.ids))
    assert usual.meta["data"] == "phantom"
    assert "synthetic" in usual.meta["source"]
    assert bool(usual.images.isfinite().all())
    assert 0 <= float(usual.images.min()) < 0.1
    assert 0.9 < float(usual.images.max()) <= 1
    assert isic.phantom is skin


@pytest.mark.parametrize("n", [7, 20, 35, 100, 600, 2000])
def test_classes_are_as_frequent_as_in_the_real_set(n, monkeypatch):
    monkeypatch.setattr(module, "_paint", blank)
    cohort = skin(n, seed=3, size=16)
    counts = torch.bincount(cohort.labels, minlength=7).numpy()
    least = min(5, n // 7)
    assert (len(cohort), counts.sum()) == (n, n)
    assert counts.min() >= least
    expected = np.maximum(least, np.round(n * REAL / REAL.sum()))
    np.testing.assert_array_equal(np.delete(counts, NV), np.delete(expected, NV))
    for value in range(7):
        assert len({cohort.groups[i] for i in rows_of(cohort, value)}) >= least
    classes_of = {}
    for group, label in zip(cohort.groups, cohort.labels.tolist()):
        classes_of.setdefault(group, set()).add(label)
    assert all(len(classes) == 1 for classes in classes_of.values())


def blank(plan, seed, size):
    return torch.zeros(len(plan), 3, size, size), torch.zeros(len(plan), size, size, dtype=torch.bool)


def test_a_quarter_of_the_lesions_is_there_more_than_once(monkeypatch):
    """In HAM10000: 1,956 of 7,470, most of them twice."""
    monkeypatch.setattr(module, "_paint", blank)
    views = Counter(Counter(skin(5000, size=16).groups).values())
    several = views[2] + views[3]
    assert abs(several / (views[1] + several) - 0.26) < 0.03
    assert views[2] > 2 * views[3] > 0
    assert set(views) == {1, 2, 3}


def test_ids_do_not_tell_the_class(usual):
    labels = usual.labels.numpy()
    assert abs(np.mean(labels[1:] == labels[:-1]) - np.sum((np.bincount(labels) / 400) ** 2)) < 0.1


# ---- same and other ----


def test_same_seed_same_bits():
    first, again, other = (skin(60, seed=seed, size=32) for seed in (1, 1, 2))
    assert again.fingerprint() == first.fingerprint()
    assert again.groups == first.groups
    assert again.meta["masks"].equal(first.meta["masks"])
    assert (other.images - first.images).abs().mean() > 0.05


@pytest.mark.parametrize("pixels", [1, 7 * 32**2])
def test_batches_change_nothing(monkeypatch, pixels):
    whole = skin(20, seed=4, size=32)
    monkeypatch.setattr(module, "PIXELS", pixels)
    parts = skin(20, seed=4, size=32)
    torch.testing.assert_close(parts.images, whole.images, rtol=0, atol=1e-5)
    assert (parts.meta["masks"] == whole.meta["masks"]).float().mean() > 0.9999


def test_a_larger_cohort_holds_the_same_lesions():
    few, many = skin(14, seed=5, size=32), skin(60, seed=5, size=32)
    for value in range(7):
        first = many.images[rows_of(many, value)]
        for image in few.images[rows_of(few, value)][:1]:
            assert (first - image).abs().amax((1, 2, 3)).min() < 1e-5


def test_a_lesion_is_the_same_at_every_size():
    small, large = skin(40, seed=6, size=48), skin(40, seed=6, size=144)
    assert small.groups == large.groups
    shares = torch.nn.functional.avg_pool2d(large.meta["masks"].float(), 3)
    masks = small.meta["masks"].float()
    overlap = (torch.minimum(shares, masks).sum((1, 2)) / torch.maximum(shares, masks).sum((1, 2))).numpy()
    assert np.median(overlap) > 0.9
    assert overlap.min() > 0.6
    pooled = torch.nn.functional.avg_pool2d(large.images, 3)
    assert (pooled - small.images).abs().mean() < 0.03
    unlike = (pooled.roll(1, 0) - small.images).abs().mean()
    assert unlike > 0.1


def test_views_of_a_lesion_differ_but_not_as_lesions_do(even):
    """In kind: what a lesion absorbs beyond the skin around it, by colour. In pose: masks do not lie on each other."""
    masks = even.meta["masks"]
    kind = np.array([stain(image, mask) for image, mask in zip(even.images, masks)])
    pairs = [(i, j) for j, group in enumerate(even.groups) for i in range(j) if even.groups[i] == group]
    assert len(pairs) > 25
    rng = np.random.default_rng(0)
    others = [(i, int(rng.choice(rows_of(even, int(even.labels[i]))))) for i, _ in pairs for _ in range(5)]
    others = [(i, j) for i, j in others if even.groups[i] != even.groups[j]]

    def distance(of):
        return np.median([np.abs(kind[i] - kind[j]).sum() for i, j in of])

    assert distance(pairs) < 0.5 * distance(others)
    overlaps = [float((masks[i] & masks[j]).sum() / (masks[i] | masks[j]).sum()) for i, j in pairs]
    assert max(overlaps) < 0.98
    assert min((even.images[i] - even.images[j]).abs().mean() for i, j in pairs) > 0.02


def stain(image, mask):
    """Absorption in the lesion beyond that of the skin around it, by colour."""
    inside, outside = (image[:, where].clamp(min=0.02).log().median(1).values for where in (mask, ~mask))
    return (outside - inside).numpy()


# ---- what dermoscopy tells the classes apart by ----


def test_masks_cover_what_is_darker_or_redder(even):
    area = even.meta["masks"].float().mean((1, 2)).numpy()
    assert (area.min() > 0.005, area.max() < 0.9, 0.1 < area.mean() < 0.35) == (True, True, True)
    darker = [stain(image, mask)[1] > 0.02 for image, mask in zip(even.images, even.meta["masks"])]
    assert np.mean(darker) > 0.9
    grown = [ndimage.binary_dilation(mask, iterations=2) & ~mask.numpy() for mask in even.meta["masks"]]
    ring = [stain(image, torch.from_numpy(r))[1] for image, r in zip(even.images, grown) if r.any()]
    assert np.median(ring) < 0.5 * np.median([stain(i, m)[1] for i, m in zip(even.images, even.meta["masks"])])


def medians(even, measure):
    """Median of `measure(image, mask)` for each class."""
    values = np.array([measure(image, mask) for image, mask in zip(even.images, even.meta["masks"])])
    return np.array([np.median(values[rows_of(even, value)]) for value in range(7)])


def test_melanomas_are_dark_and_of_several_colours(even):
    dark = medians(even, lambda image, mask: stain(image, mask).sum())
    assert np.argmax(dark) == MEL
    shades = medians(even, lambda image, mask: float(image[:, mask].clamp(min=0.02).log().std(1).sum()))
    assert np.argmax(shades) == MEL
    assert shades[MEL] > 1.3 * shades[NV]

    def hues(image, mask):
        """How far red over blue spreads."""
        low, high = (image[0] / image[2].clamp(min=0.03))[mask].quantile(torch.tensor([0.1, 0.9]))
        return float(high / low)

    spread = medians(even, hues)
    assert np.argmax(spread) == MEL
    assert spread[MEL] > 1.2 * spread[NV]


def absorbed_deep_inside(image, mask):
    """Logarithm of green, and the pixels away from the border, which may be soft."""
    return image[1].clamp(min=0.02).log().numpy(), ndimage.binary_erosion(mask, iterations=2)


def test_melanomas_are_patchy_and_angiomas_are_of_lacunae(even):
    def patchy(image, mask):
        """What no tilted plane explains of the shades, single pixels and meshes of a network blurred away."""
        log, deep = absorbed_deep_inside(image, mask)
        shade, at = ndimage.gaussian_filter(log, 2)[deep], np.argwhere(deep)
        plane = np.column_stack([at, np.ones(len(at))])
        return (shade - plane @ np.linalg.lstsq(plane, shade)[0]).std() if len(at) > 20 else 0.0

    values = medians(even, patchy)
    assert np.argmax(values) == MEL
    assert values[MEL] > 1.6 * values[NV]

    def spotted(image, mask):
        log, deep = absorbed_deep_inside(image, mask)
        return log[deep].std() if deep.sum() > 20 else 0.0

    values = medians(even, spotted)
    assert values[VASC] > 1.3 * values[DF]


def test_melanomas_are_asymmetric(even):
    def asymmetry(image, mask):
        """Difference of grey between halves of the mask, across the line through its middle that parts it most."""
        grey, (y, x) = image.mean(0)[mask].numpy(), np.nonzero(mask.numpy())
        sides = [math.sin(a) * (y - y.mean()) + math.cos(a) * (x - x.mean()) > 0 for a in np.linspace(0, 3, 9)]
        return max(abs(grey[side].mean() - grey[~side].mean()) for side in sides)

    values = medians(even, asymmetry)
    assert np.argmax(values) == MEL
    assert values[MEL] > 1.3 * values[NV]


def test_blood_is_red_and_melanin_brown(even):
    """Blood absorbs green more than blue and hardly any red; melanin most of blue, and of red too."""

    def blue_over_green(image, mask):
        ratio = image[2] / image[1].clamp(min=0.02)
        return float(ratio[mask].median() / ratio[~mask].median())

    values = medians(even, blue_over_green)
    assert np.argmax(values) == VASC
    assert values[VASC] > 1.1
    assert values[[MEL, NV]].max() < 0.95
    red = medians(even, lambda image, mask: stain(image, mask)[0] / max(0.05, stain(image, mask).sum()))
    assert max(red[AKIEC], red[VASC]) < min(red[MEL], red[NV])


def test_basal_cell_carcinomas_have_something_blue(even):
    def bluest(image, mask):
        ratio = image[2] / image[1].clamp(min=0.02)
        return float(ratio[mask].quantile(0.9) / ratio[~mask].median())

    values = medians(even, bluest)
    assert values[BCC] > max(values[NV], values[BKL]) + 0.08


@pytest.fixture
def without(monkeypatch):
    """without(name): a cohort as it is, and as it would be if a function painted nothing (but drew as many numbers)."""
    monkeypatch.setattr(module, "COUNTS", (1,) * 7)

    def both(name, nothing):
        usual, original = skin(210, seed=8, size=32), getattr(module, name)
        monkeypatch.setattr(module, name, lambda *arguments: nothing(original, arguments))
        bare = skin(210, seed=8, size=32)
        changed = (usual.images - bare.images).abs().amax((1, 2, 3)) > 0.02
        return usual, bare, changed

    return both


def test_vessels_are_red_and_in_lesions_of_basal_cell_carcinomas_above_all(without):
    usual, bare, changed = without("_vessels", lambda paint, a: paint(*a[:-1], a[-1].clone()))
    share = np.array([changed[rows_of(usual, value)].float().mean() for value in range(7)])
    assert np.argmax(share) == BCC
    assert share[BCC] > 0.3
    assert share[NV] == 0
    red, green, _ = (usual.images - bare.images)[changed].sum((0, 2, 3)).tolist()
    assert green < 3 * red < 0  # blood takes green
    masks = usual.meta["masks"][changed]
    where = (usual.images - bare.images)[changed].abs().sum(1)
    assert (where * masks).sum() > 0.8 * where.sum()


def test_a_third_has_hairs_which_are_dark(without):
    usual, bare, changed = without("_hairs", lambda paint, a: 0 * paint(*a))
    assert 0.2 < changed.float().mean() < 0.45
    assert float((usual.images - bare.images).max()) < 1e-5
    assert float((usual.images - bare.images).min()) < -0.2


def test_a_quarter_has_bubbles_with_a_bright_rim(without):
    usual, bare, changed = without("_gel", lambda paint, a: (paint(a[0], a[1].clone(), *a[2:]), a[1])[1])
    assert 0.12 < changed.float().mean() < 0.35
    difference = (usual.images - bare.images)[changed]
    assert difference.mean() > 0
    assert difference.max() > 0.1


def test_dermatofibromas_are_pale_in_the_middle(even):
    def middle(image, mask):
        depth = ndimage.distance_transform_edt(mask)
        deep = depth > 0.6 * depth.max()
        ring = (depth > 0.25 * depth.max()) & (depth < 0.5 * depth.max())
        grey = image.mean(0).numpy()
        return grey[deep].mean() - grey[ring].mean()

    values = medians(even, middle)
    assert np.argmax(values) == DF
    assert values[DF] > 0.03
    assert values[NV] < 0.01


def test_keratoses_end_sharply_and_actinic_ones_do_not(even):
    def sharpness(image, mask):
        """Of the step between lesion and skin, the part that lies within two pixels on either side of the outline."""
        depth = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
        green = image[1].numpy()
        inside, outside = np.median(green[depth > 0]), np.median(green[depth < -6])
        near = np.median(green[(depth < 0) & (depth > -2.5)]) - np.median(green[(depth > 0) & (depth < 2.5)])
        return near / max(0.03, outside - inside)

    values = medians(even, sharpness)
    assert values[BKL] > 1.1 * max(values[AKIEC], values[NV])


def test_frames_and_light_differ(even):
    corners = even.images[:, :, [0, 0, -1, -1], [0, -1, 0, -1]].mean(1).amax(1)
    assert 0.05 < (corners < 0.2).float().mean() < 0.3  # a dark frame
    skin_tone = torch.stack([image[:, ~mask].median(1).values for image, mask in zip(even.images, even.meta["masks"])])
    assert bool((skin_tone.std(0) > 0.04).all())
    assert bool((skin_tone[:, 0] > skin_tone[:, 1]).all())  # no skin is green


# ---- use ----


def test_folds_on_the_smallest_cohort_with_all_classes():
    cohort = skin(100, seed=7, size=16)
    lesion, label = dict(zip(cohort.ids, cohort.groups)), dict(zip(cohort.ids, cohort.labels.tolist()))
    tested = []
    for fold in range(5):
        split = isic.splits(cohort.ids, cohort.labels, cohort.groups, fold)
        assert {label[i] for i in split.test} == set(range(7))
        assert not {lesion[i] for i in split.test} & {lesion[i] for i in split.labelled}
        tested += split.test
    assert sorted(tested) == list(cohort.ids)


def test_class_can_be_learnt_in_part(usual):
    """From colours alone, above chance (1/7) and far from perfect."""
    flat = usual.images.flatten(2).numpy()
    quantiles = np.quantile(flat, (0.02, 0.1, 0.5, 0.9), axis=2)
    features = np.concatenate([flat.mean(2), flat.std(2), *quantiles], axis=1)
    labels, predicted = usual.labels.numpy(), np.zeros(400, int)
    for fold in range(5):
        split = isic.splits(usual.ids, usual.labels, usual.groups, fold)
        train, test = (usual.index(part).numpy() for part in (split.labelled, split.test))
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced"))
        predicted[test] = model.fit(features[train], labels[train]).predict(features[test])
    bmca = balanced_accuracy_score(labels, predicted)
    assert 0.3 < bmca < 0.75


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"n": 6}, "skin phantom n: expected an integer of at least 7, found 6"),
        ({"n": True}, "skin phantom n: expected an integer of at least 7, found True"),
        ({"n": 8, "seed": -1}, "skin phantom seed: expected an integer of at least 0, found -1"),
        ({"n": 8, "size": 15}, "skin phantom size: expected an integer of at least 16, found 15"),
        ({"n": 8, "size": 64.0}, "skin phantom size: expected an integer of at least 16, found 64.0"),
    ],
)
def test_bad_arguments_end_in_one_line(arguments, line):
    with pytest.raises(BadInput) as error:
        skin(**arguments)
    assert str(error.value) == line
