"""Class shares of unlabelled images against those of labelled ones."""

import pytest
import torch

from fewlabels.scores.shares import class_shares, shares_left


def maps(*shares):
    """One image of 100 pixels a share: so many of them are class 1, and half as many class 2."""
    y = torch.zeros(len(shares), 10, 10, dtype=torch.long)
    for image, share in zip(y, shares, strict=True):
        image.view(-1)[:share] = 1
        image.view(-1)[share : share + share // 2] = 2
    return y


def certain(y):
    return torch.nn.functional.one_hot(y, 3).movedim(-1, 1).float()


def test_shares_are_counts_over_pixels():
    assert class_shares(maps(10, 40), 3).flatten().tolist() == pytest.approx([0.85, 0.1, 0.05, 0.4, 0.4, 0.2])
    volumes = maps(10)[:, None].repeat(1, 7, 1, 1)
    assert class_shares(volumes, 3)[0].tolist() == pytest.approx([0.85, 0.1, 0.05])


@pytest.mark.parametrize(
    ("predicted", "left"),
    [
        ([4, 6, 5], []),
        ([1, 12, 6], []),  # single images may leave it
        ([12, 13, 14], []),  # 0.13 is twice the largest and a hundredth; class 2's 0.063 below 0.07
        ([13, 14, 15], [1]),
        ([60, 60, 60], [1, 2]),
        ([0, 0, 0], [1]),  # lost; of class 2 there may be none
    ],
)
def test_a_class_is_named_where_the_mean_leaves_the_range(predicted, left):
    assert sorted(shares_left(maps(4, 6), certain(maps(*predicted)))) == left


def test_the_share_and_the_range_are_told():
    ((share, low, high),) = [shares_left(maps(4, 6), certain(maps(60)))[1]]
    assert (share, low, high) == pytest.approx((0.6, 0.01, 0.13))


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="found 0 and 1"):
        shares_left(maps()[:0], certain(maps(4)))
