"""What is made of a folder before anything learns: working sizes, grey values, the floor, the guard."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fewlabels.data.geometry import UPWARDS, Geometry
from fewlabels.segment import forest, grid, guard
from fewlabels.segment.ensemble import Ensemble
from fewlabels.segment.folder import paired
from fewlabels.segment.pictures import Picture
from fewlabels.segment.task import load


def test_the_working_size_keeps_thin_structures():
    block, lines = np.zeros((2, 1, 512, 512), np.int64)
    block[:, 100:400, 100:400] = 1
    lines[:, :, np.random.default_rng(0).choice(512, 60, replace=False)] = 1  # one pixel wide
    assert grid.side_of([block], 2) == 128
    assert grid.side_of([block, np.where(lines > 0, 2, 0)], 3) == 512
    assert grid.small((512, 256), 128) == (128, 64)
    assert grid.small((40, 56), 128) == (40, 56)  # never larger than it is


def test_grey_values_by_what_images_are():
    colour = Picture(np.full((1, 4, 4, 3), 51, np.uint8))
    assert grid.grey_of([colour], [np.zeros((1, 4, 4))])(colour) == pytest.approx(0.2)
    x = np.linspace(10, 4000, 4096, dtype=np.uint16).reshape(1, 64, 64, 1)
    grey = grid.grey_of([Picture(x)], [np.zeros((1, 64, 64))])
    assert np.allclose(grey(Picture(x)), grey(Picture(3 * x)), atol=1e-6)  # each by its own percentiles

    where = Geometry((1, 64, 64), (1.0, 1.0, 1.0), UPWARDS, np.zeros(3))
    ct = np.full((1, 64, 64, 1), -1000, np.int16)
    ct[:, 16:48, 16:48] = 40
    window = grid.grey_of([Picture(ct, where)], [(ct[..., 0] == 40).astype(int)])
    assert window.window == (-60.0, 140.0)  # 100 units about what is labelled
    assert window(Picture(ct, where)).max() == pytest.approx(0.5)
    assert window(Picture(ct, where)).min() == 0


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """Bright squares, fourteen images, twelve with masks, of which that of `3` lies elsewhere."""
    rng, data = np.random.default_rng(0), tmp_path_factory.mktemp("data")
    for name in ("images", "masks"):
        (data / name).mkdir()
    for i in range(14):
        mask = np.zeros((64, 64), np.uint8)
        r, c = rng.integers(4, 40, 2)
        mask[r : r + 18, c : c + 18] = 255
        image = (80 + 0.4 * mask + rng.normal(0, 5, mask.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(data / "images" / f"{i}.png")
        if i < 12:
            Image.fromarray(np.roll(mask, 30, (0, 1)) if i == 3 else mask).save(data / "masks" / f"{i}.png")
    return load(paired(data), None)[0]


def test_a_misplaced_mask_is_the_worst_of_the_floor(task):
    dice = {name: each[0] for name, each in forest.out_of_fold(task, forest.filtered).items()}
    assert sorted(dice, key=int) == [str(i) for i in range(12)]
    assert min(dice, key=dice.get) == "3"
    assert sorted(dice.values())[0] < 0.5 < sorted(dice.values())[1]


class Painted(nn.Module):
    """Class 1 in the first `share` of the rows."""

    def __init__(self, share):
        super().__init__()
        self.share = share

    def forward(self, x):
        inside = torch.arange(x.shape[2]) < self.share * x.shape[2]
        return torch.stack([~inside, inside]).float()[None, :, :, None].expand(len(x), -1, -1, x.shape[3]) * 10


@pytest.mark.parametrize(("share", "fits"), [(0.08, True), (0.95, False), (0.0, False)])
def test_the_guard_names_a_class_that_is_painted_too_much_or_too_little(task, share, fits):
    """The squares are 8 % of an image: half to twice of it is allowed."""
    why = guard.left(task, Ensemble(task.seen, "unet", {"one": Painted(share)}))
    assert (why == "") is fits
    if not fits:
        assert why.startswith(f"255: {100 * share:.1f} % of the pixels" if share == 0 else "255: 95.3 %")
