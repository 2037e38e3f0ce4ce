"""The policies against Pillow (the operations as Fast AutoAugment's release has them), torchvision and brute force."""

import json
import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from scipy import stats
from torchvision.transforms.v2 import RandAugment

from fewlabels.augment import policies
from fewlabels.augment.policies import GRID, RANGES, apply_policy, held_out_loss, rand_augment, search
from fewlabels.errors import BadInput

SIZE = (40, 52)


def batch(n=4, size=SIZE, seed=0):
    """Smooth images of many colours and levels, on 8 bits."""
    rough = torch.rand(n, 3, 6, 7, generator=torch.Generator().manual_seed(seed))
    return (F.interpolate(rough, size=size, mode="bicubic", align_corners=True).clamp(0, 1) * 255).round() / 255


def levels(x):
    """uint8 of images on 8 bits."""
    y = (x * 255).round()
    assert torch.equal(y / 255, x)
    return y.to(torch.uint8)


def seeded(f, *arguments, seed=0):
    torch.manual_seed(seed)
    return f(*arguments)


# ---- RandAugment ----


def outcomes(augmented):
    """How often each picture occurs."""
    return Counter(image.numpy().tobytes() for image in augmented)


def copies(image, n):
    return image.expand(n, -1, -1, -1)


def by_torchvision(image, n, m, draws):
    t = RandAugment(num_ops=n, magnitude=m, num_magnitude_bins=31)
    return outcomes(t(levels(image)) for _ in range(draws))


@pytest.mark.parametrize("m", [0, 5, 10, 15, 20, 30])
def test_one_operation_gives_torchvisions_pictures_as_often(m):
    image, draws = batch(1, (26, 37))[0], 2000
    torch.manual_seed(1)
    expected = by_torchvision(image, 1, m, draws)
    found = outcomes(levels(seeded(rand_augment, copies(image, draws), 1, m)))
    assert set(found) == set(expected)
    if m > 10:  # 5 operations without a sign, 9 with one, and all can be told from each other
        assert len(found) == 5 + 2 * 9
    table = [[counts[key] for key in expected] for counts in (found, expected)]
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_a_second_operation_is_drawn_anew_and_follows_the_first():
    image, m = batch(1, (18, 23))[0], 15
    torch.manual_seed(1)
    once = [torch.frombuffer(bytearray(picture), dtype=torch.uint8) for picture in by_torchvision(image, 1, m, 500)]
    assert len(once) == 23
    twice = set()
    for picture in once:
        twice |= set(by_torchvision(picture.reshape(image.shape) / 255, 1, m, 400))
    found = outcomes(levels(seeded(rand_augment, copies(image, 4000), 2, m)))
    assert set(found) <= twice
    assert len(found) > 0.95 * len(twice)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_as_many_operations_as_asked_for(n):
    """Identity n times has probability 14^-n; nothing else leaves this image as it is, of less than all levels."""
    image, draws = (batch(1, (20, 26))[0] * 255 * 0.7 + 20).round() / 255, 5000
    same = (seeded(rand_augment, copies(image, draws), n, 15) == image).all(dim=(1, 2, 3)).sum().item()
    assert stats.binomtest(same, draws, 14**-n).pvalue > 1e-3


def test_images_of_a_batch_are_not_mixed():
    x = batch(16, (16, 16))
    y = seeded(rand_augment, x, 1, 12)
    for image, result in zip(x, levels(y)):
        assert result.numpy().tobytes() in by_torchvision(image, 1, 12, 300)


def test_the_grid_has_twelve_points():
    assert len(set(GRID)) == 12
    assert {n for n, _ in GRID} == {1, 2, 3}
    assert {m for _, m in GRID} == {5, 10, 15, 20}


@pytest.mark.parametrize(("n", "m"), [(0, 5), (1.5, 5), (1, -1), (1, 31), (1, 5.0), (True, 5)])
def test_numbers_out_of_range(n, m):
    with pytest.raises(BadInput, match=r"RandAugment's [nm]: expected a whole number from \d+ to .*, found"):
        rand_augment(batch(), n, m)


# ---- both ----

POLICY = [
    [["Rotate", 0.7, 0.9], ["Cutout", 0.8, 0.6]],
    [["ShearX", 0.5, 0.1], ["Equalize", 0.4, 0.2]],
    [["TranslateY", 0.9, 0.8], ["Solarize", 0.6, 0.4]],
]
BOTH = pytest.mark.parametrize("t", [lambda x: rand_augment(x, 2, 12), lambda x: apply_policy(x, POLICY)])


@BOTH
def test_torchs_dice_decide(t):
    x = batch(8)
    first = seeded(t, x)
    second = t(x)
    assert torch.equal(seeded(t, x), first)
    assert not torch.equal(second, first)
    np.random.seed(0)  # noqa: NPY002
    assert torch.equal(seeded(t, x), first)


@BOTH
@pytest.mark.parametrize("shape", [(5, 3, 40, 52), (1, 3, 64, 33), (0, 3, 16, 16)], ids=str)
def test_type_shape_range_and_input_stay(t, shape):
    x = torch.rand(shape)
    before = x.clone()
    y = seeded(t, x)
    assert (y.dtype, y.shape, y.device) == (torch.float32, x.shape, x.device)
    assert torch.equal(x, before)
    levels(y)
    assert ((y >= 0) & (y <= 1)).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@BOTH
def test_on_the_device_of_the_images(t):
    x = batch(8)
    y = seeded(t, x.cuda())
    assert y.is_cuda
    # the same draws; geometry and blending may round otherwise
    assert ((y.cpu() - seeded(t, x)).abs() > 2.5 / 255).float().mean() < 0.05


# ---- Fast AutoAugment: operations ----


def by_pillow(image, name, v):
    """The released operations, literally but for the mirrored signs; v in their units."""
    picture = Image.fromarray(levels(image).permute(1, 2, 0).numpy())
    width, height = picture.size
    matrix = {
        "ShearX": (1, v, 0, 0, 1, 0),
        "ShearY": (1, 0, 0, v, 1, 0),
        "TranslateX": (1, 0, v * width, 0, 1, 0),
        "TranslateY": (1, 0, 0, 0, 1, v * height),
    }
    if name in matrix:
        picture = picture.transform(picture.size, Image.Transform.AFFINE, matrix[name])
    elif name in ("Contrast", "Color", "Brightness", "Sharpness"):
        picture = getattr(ImageEnhance, name)(picture).enhance(v)
    else:
        picture = {
            "Rotate": lambda: picture.rotate(v),
            "AutoContrast": lambda: ImageOps.autocontrast(picture),
            "Invert": lambda: ImageOps.invert(picture),
            "Equalize": lambda: ImageOps.equalize(picture),
            "Solarize": lambda: ImageOps.solarize(picture, v),
            "Posterize": lambda: ImageOps.posterize(picture, int(v)),
        }[name]()
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def alone(name, magnitude, x):
    return apply_policy(x, [[[name, 1, magnitude]]])


LEVELS = ("AutoContrast", "Invert", "Equalize", "Solarize", "Posterize", "Contrast", "Color", "Brightness", "Sharpness")
SPANS = {
    **dict.fromkeys(("ShearX", "ShearY"), (-0.3, 0.3)),
    **dict.fromkeys(("TranslateX", "TranslateY"), (-0.45, 0.45)),
    **dict.fromkeys(("AutoContrast", "Invert", "Equalize"), (0, 1)),
    **dict.fromkeys(("Contrast", "Color", "Brightness", "Sharpness"), (0.1, 1.9)),
    "Rotate": (-30, 30),
    "Solarize": (0, 256),
    "Posterize": (4, 8),
    "Cutout": (0, 0.2),
}
MAGNITUDES = (0, 0.17, 0.36, 0.5, 0.63, 0.88, 1)


def value(name, magnitude):
    low, high = SPANS[name]
    return low + magnitude * (high - low)


def test_the_operations_are_the_15_of_the_release():
    assert set(RANGES) == set(SPANS)
    assert len(SPANS) == 15


@pytest.mark.parametrize("magnitude", MAGNITUDES)
@pytest.mark.parametrize("name", LEVELS)
def test_levels_as_in_pillow(name, magnitude):
    x = batch(3)
    for image, result in zip(x, levels(alone(name, magnitude, x))):
        difference = (result.int() - by_pillow(image, name, value(name, magnitude)).int()).abs()
        exact = name in ("Invert", "Equalize", "Solarize", "Posterize")
        # torchvision has a mean grey that is not rounded, and cuts off where Pillow rounds
        assert difference.max() <= (0 if exact else 2)
        assert difference.float().mean() <= 1


@pytest.mark.parametrize("magnitude", MAGNITUDES)
@pytest.mark.parametrize("name", ["ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"])
def test_geometry_as_in_pillow_to_either_side(name, magnitude):
    x, v = batch(1), value(name, magnitude)
    sides = [by_pillow(x[0], name, side * v) for side in (-1, 1)]
    unlike = torch.tensor(
        [
            [(result != side).any(0).float().mean() for side in sides]
            for result in levels(seeded(alone, name, magnitude, x.expand(60, -1, -1, -1)))
        ]
    )
    # where a coordinate falls between two pixels, either is the nearest
    assert unlike.amin(1).max() < (0.01 if name.startswith("Translate") else 0.03)
    if abs(v) > 0.1 * SPANS[name][1]:
        assert unlike.amax(1).min() > 0.2
        assert stats.binomtest(int((unlike[:, 0] < unlike[:, 1]).sum()), 60).pvalue > 1e-3


@pytest.mark.parametrize("size", [(24, 30), (30, 20)], ids=str)
@pytest.mark.parametrize("magnitude", [0.3, 1])
def test_cutout_as_in_pillow(size, magnitude):
    """Every square is one of the release's, and each pixel is covered as often, over a fine grid of its two draws."""
    (height, width), fine = size, 12
    v = value("Cutout", magnitude) * width
    possible = Counter()
    for x0, y0 in product((np.arange(width * fine) + 0.5) / fine, (np.arange(height * fine) + 0.5) / fine):
        left, top = int(max(0, x0 - v / 2)), int(max(0, y0 - v / 2))
        possible[left, top, min(width, left + v), min(height, top + v)] += 1 / (fine**2 * width * height)
    chance, squares = np.zeros(size), set()
    for corners, probability in possible.items():
        picture = Image.new("L", (width, height))
        ImageDraw.Draw(picture).rectangle(corners, 1)
        chance += probability * np.asarray(picture)
        squares.add((np.asarray(picture) == 1).tobytes())

    draws = 2000
    y = levels(seeded(alone, "Cutout", magnitude, torch.zeros(draws, 3, *size)))
    inside = (y != 0).any(1).numpy()
    assert {square.tobytes() for square in inside} <= squares
    colours = y.permute(0, 2, 3, 1)[torch.from_numpy(inside)].unique(dim=0)
    assert colours.tolist() == [[125, 123, 114]]
    assert (np.abs(inside.mean(0) - chance) < 4.5 * np.sqrt(chance * (1 - chance) / draws) + 0.002).all()


NOTHING = [("ShearX", 0.5), ("ShearY", 0.5), ("TranslateX", 0.5), ("TranslateY", 0.5), ("Rotate", 0.5), ("Solarize", 1)]
NOTHING += [("Posterize", 1), ("Contrast", 0.5), ("Color", 0.5), ("Brightness", 0.5), ("Sharpness", 0.5), ("Cutout", 0)]


@pytest.mark.parametrize(("name", "magnitude"), NOTHING)
def test_magnitudes_that_change_nothing(name, magnitude):
    x = batch()
    assert torch.equal(alone(name, magnitude, x), x)


@pytest.mark.parametrize("name", RANGES)
def test_probability_0_changes_nothing(name):
    x = batch(16)
    assert torch.equal(apply_policy(x, [[[name, 0, 0.9], [name, 0.0, 0.1]]]), x)


# ---- Fast AutoAugment: policies ----


def test_every_image_goes_through_a_sub_policy_drawn_for_it():
    parts = [[["Invert", 1, 0]], [["Posterize", 1, 0]], [["Solarize", 1, 0.4], ["Brightness", 1, 0.2]]]
    x = batch(300, (9, 11))
    y = seeded(apply_policy, x, parts)
    each = torch.stack([apply_policy(x, [part]) for part in parts])
    match = (each == y).all(dim=(2, 3, 4))
    assert (match.sum(0) == 1).all()
    assert stats.chisquare(match.sum(1).numpy()).pvalue > 1e-3


def test_operations_follow_each_other():
    x = batch()
    steps = [["Solarize", 1, 0.5], ["Contrast", 1, 0.9]]
    expected = alone("Contrast", 0.9, alone("Solarize", 0.5, x))
    assert torch.equal(apply_policy(x, [steps]), expected)
    assert not torch.equal(apply_policy(x, [steps[::-1]]), expected)


def test_each_operation_is_applied_with_its_probability_on_its_own():
    x, draws = batch(1, (8, 8)), 4000
    y = seeded(apply_policy, x.expand(draws, -1, -1, -1), [[["Invert", 0.3, 0.2], ["Posterize", 0.6, 0]]])
    once, twice = alone("Invert", 0, x), alone("Posterize", 0, x)
    pictures = torch.cat([x, once, twice, alone("Posterize", 0, once)])
    counts = (pictures[:, None] == y).all(dim=(2, 3, 4)).sum(1).numpy()
    assert counts.sum() == draws
    assert stats.chisquare(counts, draws * np.array([0.7 * 0.4, 0.3 * 0.4, 0.7 * 0.6, 0.3 * 0.6])).pvalue > 1e-3


def test_sub_policies_may_differ_in_length():
    x = batch(12)
    parts = [[["Invert", 1, 0]], [["Invert", 1, 0], ["Invert", 1, 0]]]
    y = seeded(apply_policy, x, parts)
    back = (y == x).all(dim=(1, 2, 3))
    assert 0 < back.sum() < len(x)
    assert torch.equal(y[~back], 1 - x[~back]) or (y[~back] - (1 - x[~back])).abs().max() < 1e-6


def test_a_policy_out_of_json_is_the_same():
    x = batch(8)
    assert torch.equal(seeded(apply_policy, x, json.loads(json.dumps(POLICY))), seeded(apply_policy, x, POLICY))


@pytest.mark.parametrize(
    ("policy", "where"),
    [
        ([], "policy: expected a list of one sub-policy or more"),
        ("Rotate", "policy: expected a list of one sub-policy or more"),
        ([[["Rotate", 1, 0]], []], r"policy\[1\]: expected a list of one operation or more"),
        ([["Rotate", 1, 0]], r"policy\[0\]\[0\]: expected \[name, probability, magnitude\], found 'Rotate'"),
        ([[["Rotate", 1]]], r"policy\[0\]\[0\]: expected \[name, probability, magnitude\]"),
        ([[["Invert", 1, 0], ["Swirl", 1, 0]]], r"policy\[0\]\[1\]: expected an operation of ShearX, .*'Swirl'"),
        ([[["Identity", 1, 0]]], r"policy\[0\]\[0\]: expected an operation"),
        ([[[["Rotate"], 1, 0]]], r"policy\[0\]\[0\]: expected an operation"),
        ([[["Rotate", 1.01, 0]]], r"policy\[0\]\[0\]: expected a probability from 0 to 1, found 1.01"),
        ([[["Rotate", -0.1, 0]]], r"policy\[0\]\[0\]: expected a probability"),
        ([[["Rotate", math.nan, 0]]], r"policy\[0\]\[0\]: expected a probability from 0 to 1, found nan"),
        ([[["Rotate", 1, 30]]], r"policy\[0\]\[0\]: expected a magnitude from 0 to 1, found 30"),
        ([[["Rotate", 1, None]]], r"policy\[0\]\[0\]: expected a magnitude"),
    ],
)
def test_a_bad_policy_is_refused_in_one_line(policy, where):
    with pytest.raises(BadInput, match=rf"^{where}") as caught:
        apply_policy(batch(), policy)
    assert "\n" not in str(caught.value)


# ---- Fast AutoAugment: the held-out loss ----


class Grey(torch.nn.Module):
    """Two classes: the logit of the first is the mean of an image. Notes the modes in which it is called."""

    def __init__(self):
        super().__init__()
        self.modes = []

    def forward(self, x):
        self.modes.append((self.training, torch.is_grad_enabled()))
        mean = 8 * x.mean(dim=(1, 2, 3))
        return torch.stack([mean, torch.zeros_like(mean)], 1)


def grey_losses(x, y):
    """Cross-entropy by hand."""
    p = torch.sigmoid(8 * x.mean(dim=(1, 2, 3)))
    return -torch.where(y == 0, p, 1 - p).log()


@pytest.mark.parametrize("batch_size", [3, 256])
@pytest.mark.parametrize("mode", [True, False])
def test_held_out_loss_is_the_mean_over_images_and_sub_policies(mode, batch_size):
    x, y, network = batch(8), torch.tensor([0, 1, 1, 0, 0, 0, 1, 0]), Grey().train(mode)
    parts = [[["Invert", 1, 0]], [["Brightness", 1, 0]], [["Solarize", 1, 0.3], ["Contrast", 1, 1]]]
    each = torch.stack([grey_losses(apply_policy(x, [part]), y) for part in parts])
    assert held_out_loss(network, x, y, parts, batch=batch_size) == pytest.approx(each.mean().item(), rel=1e-5)
    assert network.training == mode
    assert set(network.modes) == {(False, False)}


def test_held_out_loss_of_the_best_of_as_many_draws_as_in_the_release():
    x, y, parts = batch(1, (8, 8)).expand(3000, -1, -1, -1), torch.zeros(3000).long(), [[["Invert", 1, 0]]]
    parts.append([["Brightness", 1, 0]])
    low, high = sorted(grey_losses(apply_policy(x[:1], [part]), y[:1]).item() for part in parts)
    torch.manual_seed(0)
    found = held_out_loss(Grey(), x, y, parts, best=True)
    share = (found - low) / (high - low)  # of images both of whose draws were the worse one
    assert stats.binomtest(round(share * 3000), 3000, 0.25).pvalue > 1e-3
    assert share * 3000 == pytest.approx(round(share * 3000), abs=0.05)


# ---- Fast AutoAugment: the search ----


def planted(policy):
    """Least, 0, where every operation is a rotation that is always applied by the largest angle."""
    return sum(1 + (name != "Rotate") - probability * abs(2 * m - 1) for sub in policy for name, probability, m in sub)


def noted(loss_of, tried):
    """`loss_of` that notes losses and policies in `tried`."""

    def noting(policy):
        tried.append((loss_of(policy), json.dumps(policy)))
        return torch.tensor(tried[-1][0])

    return noting


def random_policy(rng):
    names = list(RANGES)
    return [[[names[rng.integers(15)], rng.random(), rng.random()] for _ in range(2)] for _ in range(5)]


@pytest.fixture(scope="module")
def optuna():
    return pytest.importorskip("optuna", reason="the search needs optuna")


@pytest.mark.usefixtures("optuna")
def test_the_search_finds_a_planted_optimum_better_than_random_draws():
    found, drawn = [], []
    for seed in range(3):
        tried = []
        search(noted(planted, tried), trials=60, seed=seed, keep=1)
        rng = np.random.default_rng(seed)
        found.append(min(loss for loss, _ in tried))
        drawn.append(min(planted(random_policy(rng)) for _ in range(60)))
    assert max(found) < min(drawn)


@pytest.mark.usefixtures("optuna")
def test_what_is_returned_are_the_sub_policies_of_the_best_in_their_order():
    tried = []
    found = search(noted(planted, tried), trials=12, seed=3, keep=4)
    assert len(tried) == 12
    expected = []
    for _, policy in sorted(tried, key=lambda pair: pair[0])[:4]:
        seen = []
        for subpolicy in json.loads(policy):
            names = [name for name, _, _ in subpolicy]
            if names not in seen:
                seen.append(names)
                expected.append(subpolicy)
    assert found == expected
    assert json.loads(json.dumps(found)) == found
    policies.check(found)
    for _, policy in tried:
        policy = json.loads(policy)
        policies.check(policy)
        assert [len(subpolicy) for subpolicy in policy] == [2] * 5
        numbers = [number for sub in policy for _, *pair in sub for number in pair]
        assert numbers == [round(number, 3) for number in numbers]


def test_of_sub_policies_with_the_same_operations_the_first_stays():
    a, b = [["Rotate", 0.1, 0.2], ["Invert", 0.3, 0.4]], [["Invert", 0.5, 0.6], ["Rotate", 0.7, 0.8]]
    c = [["Rotate", 0.9, 0.9], ["Invert", 0.9, 0.9]]
    assert policies._different([a, b, c, b]) == [a, b]
    assert policies._different([c, b, a]) == [c, b]


@pytest.mark.usefixtures("optuna")
def test_the_seed_decides_and_torchs_dice_are_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = search(planted, trials=25, seed=1, keep=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert search(planted, trials=25, seed=1, keep=3) == first
    assert search(planted, trials=25, seed=2, keep=3) != first


@pytest.mark.usefixtures("optuna")
def test_the_search_is_silent_and_one_trial_is_enough(capfd, recwarn):
    assert 1 <= len(search(planted, trials=1, seed=0, keep=1)) <= 5
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


@pytest.mark.usefixtures("optuna")
@pytest.mark.parametrize(("trials", "keep"), [(5, 6), (5, 0), (0, 0)])
def test_policies_kept_are_some_of_those_tried(trials, keep):
    with pytest.raises(BadInput, match=f"policies kept: expected 1 to {trials}, the policies tried, found {keep}"):
        search(planted, trials=trials, seed=0, keep=keep)


@pytest.mark.usefixtures("optuna")
@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_search(loss):
    with pytest.raises(FloatingPointError, match="the held-out loss is"):
        search(lambda policy: loss, trials=5, seed=0, keep=1)


@pytest.mark.usefixtures("optuna")
def test_density_matching_finds_the_change_that_held_out_images_went_through():
    """A network that knows inverted images only: policies that invert are found on images that are not."""
    x = 0.1 + 0.2 * torch.rand(40, 3, 6, 6, generator=torch.Generator().manual_seed(0))  # dark
    y = torch.zeros(40).long()  # the class that Grey gives to bright ones
    torch.manual_seed(0)
    found = search(lambda policy: held_out_loss(Grey(), x, y, policy), trials=40, seed=0, keep=1)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    drawn = [held_out_loss(Grey(), x, y, random_policy(rng)) for _ in range(40)]
    assert held_out_loss(Grey(), x, y, found) < min(drawn)


# ---- what comes in ----


@pytest.mark.parametrize("change", [lambda x: rand_augment(x, 1, 5), lambda x: apply_policy(x, [[["Invert", 0, 0]]])])
def test_images_of_8_bits_are_refused(change):
    """They would come out inverted."""
    with pytest.raises(ValueError, match=r"^images: expected floats in \[0, 1\], found torch.uint8$"):
        change(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))


def test_the_held_out_loss_leaves_a_frozen_norm_frozen():
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(3), Grey()).train()
    network[0].eval()
    held_out_loss(network, batch(4), torch.tensor([0, 1, 1, 0]), [[["Invert", 1, 0]]])
    assert [network.training, network[0].training, network[1].training] == [True, False, True]
