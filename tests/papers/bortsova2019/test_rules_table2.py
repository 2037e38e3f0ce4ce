"""Claims 10 to 17, on Table 2: every rule at the edges of its tolerance, as the paper's `published.yaml` words it."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest
from claims_kit import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_RUN,
    SUPPORTED,
    asked,
    cases,
    contradicted,
    inconclusive,
    p_of,
    supported,
)
from scipy import stats

from fewlabels.papers.bortsova2019.claims import RULES
from fewlabels.scores.published import published_values
from fewlabels.scores.statistics import holm

COLUMNS = "method labels split seed amplitude validation subject structure metric value".split()
STRUCTURES = ("Lungs", "Heart", "Clavicles")
SIDES = {"Lungs": ("left lung", "right lung"), "Heart": ("heart",), "Clavicles": ("left clavicle", "right clavicle")}
IMAGES = (7, 5, 5, 5, 5)  # of each split: means over splits are not means over all images
IOU = {  # as printed
    "Human": (94.6, 87.8, 89.6),
    "Dai et al. (209)": (94.7, 86.6),
    "Novikov et al. (165)": (94.8, 87.8, 85.9),
    "Frid-Adar et al. (124/123)": (96.1, 90.6, 85.5),
    "Supervised baseline (20)": (93.3, 81.7, 75.7),
    "SemiTC+ (20 labelled, 237 unlabelled)": (94.5, 85.2, 83.3),
    "Supervised baseline (124/123)": (95.3, 88.8, 87.3),
    "SemiTC+ (124/123 labelled, 147 unlabelled)": (95.5, 88.8, 88.1),
}
MACD = {
    "Human": (1.64, 3.78, 0.68),
    "Frid-Adar et al. (124/123)": (1.02, 2.54, 0.85),
    "Supervised baseline (20)": (1.67, 5.56, 1.93),
    "SemiTC+ (20 labelled, 237 unlabelled)": (1.35, 4.51, 1.16),
    "Supervised baseline (124/123)": (1.17, 3.36, 0.87),
    "SemiTC+ (124/123 labelled, 147 unlabelled)": (1.10, 3.37, 0.81),
}
RUNS = {("Baseline", 10): "Supervised baseline (20)", ("Baseline", 100): "Supervised baseline (124/123)"} | {
    ("SemiTC+", 10): "SemiTC+ (20 labelled, 237 unlabelled)",
    ("SemiTC+", 100): "SemiTC+ (124/123 labelled, 147 unlabelled)",
}


# ---- scores.csv, built here ----


def frame(method, labels, images, side=0.75):
    """`images = {metric: {structure: [[a value an image] a split]}}`: the sides, here `side` apart, have it as mean.

    Metrics are iou, macd_mm and each with _post. Lungs go where they are scored with what clavicles cover; exclusive
    lungs are something else.
    """
    rows = []
    for metric, of_structures in images.items():
        kind, post = metric.removesuffix("_post"), "_post" * metric.endswith("_post")
        for structure, splits in of_structures.items():
            for split, values in enumerate(splits):
                for (i, value), name in itertools.product(enumerate(values), SIDES[structure]):
                    off = {"left": -side, "right": side}.get(name.split()[0], 0)
                    place = (method, labels, split, 0, 4.0, "matched", f"JPCLN{i:03}", name)
                    if structure == "Lungs":
                        rows += [(*place, kind + "_overlap" + post, value + off), (*place, metric, value / 2)]
                    else:
                        rows += [(*place, metric, value + off)]
    found = pd.DataFrame(rows, columns=COLUMNS)
    return found.assign(value=found["value"].round(4))  # as stored


def around(means, spread):
    """`{structure: [[a value an image] a split]}` of which the means over images, then over splits, are `means`."""
    return {
        structure: [
            [mean + spread * (of_split + of_image) for of_image in np.linspace(-1, 1, n)]
            for of_split, n in zip((4, -1, -1, -1, -1), IMAGES)
        ]
        for structure, mean in zip(STRUCTURES, means, strict=True)
    }


def table_2(method, labels, iou, macd=(1.0, 3.0, 1.0), raw=None):
    """Runs of one row: post-processed means `iou` and `macd`; `raw` is IoU without it (default: far off)."""
    raw = [value / 2 for value in iou] if raw is None else raw
    wide = 1.0 if method == "Baseline" else 1.1  # so that two methods differ by another amount in each image
    images = {"iou_post": around(iou, 0.25 * wide), "iou": around(raw, 0.25 * wide)}
    images |= {"macd_mm_post": around(macd, 0.1 * wide), "macd_mm": around(macd, 0.3 * wide)}
    return frame(method, labels, images)


STEPS = (-1.0, -0.5, 0.5, 1.0)


def steady(method, labels, iou, spread=0.1, raw=None):
    """Runs of one row: IoU that differs by `spread` at most between splits, and as much between the four images."""
    images = {}
    for metric, means in (("iou_post", iou), ("iou", iou if raw is None else raw)):
        images[metric] = {
            structure: [[mean + spread * (split / 2 + step) for step in STEPS] for split in (-2, -1, 0, 1, 2)]
            for structure, mean in zip(STRUCTURES, means)
        }
    return frame(method, labels, images)


def mious(values, method="SemiTC", labels=10):
    """Runs of one mIoU a split, of four images each; post-processed it is something else."""
    rows = [
        (method, labels, split, 0, 4.0, "matched", image, "all", metric, (value + off) * factor)
        for split, value in enumerate(values)
        for image, off in zip("abcd", STEPS)
        for metric, factor in (("miou", 1), ("miou_post", 0.5))
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def beside(scores):
    """Runs of Table 1 and of other label counts, which say otherwise."""
    half = scores.assign(value=scores["value"] / 2)
    return [half.assign(validation="all"), half.assign(labels=25), half.assign(method="SupTC")]


def found(claim, *frames):
    return asked(RULES[f"bortsova-{claim}"], frames, beside)


def verdict(claim, *frames):
    return found(claim, *frames).verdict


def semitc_plus(claim, labels, **means):
    """Verdict on SemiTC+ as published, but for what is named."""
    row = RUNS["SemiTC+", labels]
    iou = [means.get(structure, value) for structure, value in zip(STRUCTURES, IOU[row], strict=True)]
    return verdict(claim, table_2("SemiTC+", labels, iou, (means.get("macd", MACD[row][0]), *MACD[row][1:])))


@pytest.fixture(scope="module")
def published():
    """All rows as printed; without post-processing as with it, for the paper says only that claim 14 holds there."""
    rows = [table_2(*run, IOU[row], MACD[row], IOU[row]) for run, row in RUNS.items()]
    return pd.concat([*rows, mious(87 + 1.5 * np.array([-1, 1, -1, 1, 0]))])


# ---- the paper's own numbers, and what is read ----


def test_published_numbers():
    for name, expected in (("IoU", IOU), ("MACD", MACD)):
        table = published_values("bortsova2019", f"Table 2 {name}").set_index(["row", "column"])["mean"]
        assert table.to_dict() == {(r, c): v for r, of_row in expected.items() for c, v in zip(STRUCTURES, of_row)}


@pytest.mark.parametrize("claim", range(10, 18))
def test_the_papers_own_table_supports_its_claims(published, claim):
    assert verdict(claim, published) == SUPPORTED


READS = {  # claim: structures, metrics (of lungs the `_overlap`), runs
    11: (["Lungs"], ["iou_post", "macd_mm_post"], [("SemiTC+", 10)]),
    12: (["Heart", "Clavicles"], ["iou_post"], [("SemiTC+", 10)]),
    13: (STRUCTURES, ["iou_post", "macd_mm_post"], [("Baseline", 10), ("SemiTC+", 10)]),
    14: (STRUCTURES, ["iou_post", "iou"], [("Baseline", 100), ("SemiTC+", 100)]),
    15: (STRUCTURES, ["iou_post"], [("Baseline", 100), ("SemiTC+", 100)]),
    16: (STRUCTURES, ["iou_post"], [("SemiTC+", 100)]),
    17: (STRUCTURES, ["iou_post"], [("SemiTC+", 10)]),
}


@pytest.mark.parametrize("claim", READS)
def test_what_a_claim_reads(published, claim):
    """A change in one side of one metric of SemiTC+ shows, exactly where the claim is about it."""
    structures, metrics, _ = READS[claim]
    kinds = published[["structure", "metric"]].drop_duplicates()
    assert len(kinds) == 30  # 5 structures, IoU and MACD, lungs in two kinds, all with and without _post; mIoU
    as_printed, seen = RULES[f"bortsova-{claim}"](published), set()
    for structure, metric in kinds.itertuples(index=False):
        chosen = (published["structure"] == structure) & (published["metric"] == metric)
        worse = 50.0 if metric.startswith("macd") else -50.0
        shift = worse * (chosen & (published["method"] == "SemiTC+"))
        if RULES[f"bortsova-{claim}"](published.assign(value=published["value"] + shift)) != as_printed:
            seen.add((structure, metric))
    overlap = {"iou": "iou_overlap", "iou_post": "iou_overlap_post", "macd_mm_post": "macd_mm_overlap_post"}
    expected = {(s, overlap[m] if name == "Lungs" else m) for name in structures for s in SIDES[name] for m in metrics}
    assert seen == expected


@pytest.mark.parametrize("claim", range(10, 18))
def test_needs_five_splits_of_every_run_it_names(published, claim):
    named = READS[claim][2] if claim in READS else [("SemiTC", 10)]
    for run in [*RUNS, ("SemiTC", 10)]:
        of_run = (published["method"] == run[0]) & (published["labels"] == run[1])
        for lost in (published[~of_run | (published["split"] != 3)], published[~of_run]):
            assert verdict(claim, lost) == (NOT_RUN if run in named else SUPPORTED), run
    assert verdict(claim, published[published["split"] < 4]) == NOT_RUN
    assert verdict(claim, published[:0]) == NOT_RUN
    assert verdict(claim, published.assign(validation="all")) == NOT_RUN


@pytest.mark.parametrize("claim", range(10, 18))
def test_several_amplitudes_are_not_run(published, claim):
    both = pd.concat([published, published.assign(amplitude=2.0)])
    assert verdict(claim, both) == NOT_RUN


def test_means_are_over_images_then_over_splits():
    iou = [[40.0] * 15 + [80.0] * 5, [90.0, 100.0], [94.0], [96.0], [95.0]]  # 59.5 over all images
    macd = [[10.0] * 15 + [6.0] * 5, [0.5, 1.5], [1.0], [1.2], [0.8]]
    images = {"iou_post": dict.fromkeys(STRUCTURES, iou), "macd_mm_post": dict.fromkeys(STRUCTURES, macd)}
    assert "IoU 86.0, MACD 2.60 mm" in found(11, frame("SemiTC+", 10, images)).ours
    assert "Lungs 8.7, Heart 0.6, Clavicles -0.5" in found(17, frame("SemiTC+", 10, images)).ours


@pytest.mark.parametrize("claim", READS)
def test_of_two_sides_the_mean_is_judged(published, claim):
    """What one side loses and the other wins, in each image, does not show."""
    shift = published["structure"].str.split().str[0].map({"left": -8.0, "right": 8.0}).fillna(0)
    moved = published.assign(value=published["value"] + shift)
    assert found(claim, moved) == found(claim, published)


# ---- each rule at its edges ----


@cases(
    "mean sd",
    supported((81.1, 1), (90, 11.4)),
    inconclusive((86.9, 9.95), (99, 16.1), (81, 1)),  # above MS-Net, not equal to it
    inconclusive((90, 11.5)),  # two sd above 67
    inconclusive((80.6, 1)),  # below it, by no test
    contradicted((79, 1), (20, 1)),
)
def test_claim_10(mean, sd, expected):
    assert verdict(10, mious(mean + sd * np.array([-1, 1, -1, 1, 0]))) == expected  # sd of a sample


@pytest.mark.parametrize(("mean", "within"), [(84, True), (83.9, False), (90, True), (90.1, False)])
def test_claim_10_says_whether_the_decimals_agree(mean, within):
    assert ("not within" not in found(10, mious([mean] * 5)).ours) == within


def test_claim_10_says_by_which_rule():
    assert found(10, mious([82.0, 84, 82, 84, 83])).ours == (
        "83.0 ± 1.0 with 10 + 10 labels, supported if above MS-Net's 81 and, less 2 sd (81.0), above its 67 with 20 %; "
        "beside it not within 87 ± 3"
    )


@cases(
    "iou macd",
    supported((93.6, 1.64), (99.0, 0.5)),
    inconclusive((93.5, 1.35), (94.5, 1.65), (92.8, 1.35), (92.8, 9.0)),  # a distance contradicts nothing
    contradicted((92.7, 1.35)),
)
def test_claim_11(iou, macd, expected):
    assert semitc_plus(11, 10, Lungs=iou, macd=macd) == expected
    assert semitc_plus(11, 10, Lungs=iou, macd=macd, Heart=0.0, Clavicles=0.0) == expected


def claim_12(heart, clavicles, **options):
    return verdict(12, steady("SemiTC+", 10, (94.5, heart, clavicles), **options))


@cases(
    "heart clavicles",
    supported((87.6, 83.3), (82.6, 83.3), (85.2, 85.7), (85.2, 81.1)),
    inconclusive((87.75, 83.3), (82.45, 83.3)),  # an interval up to the observers, or to 5.4 below
    inconclusive((85.2, 85.85)),  # to 3.7 below Human
    inconclusive((85.2, 80.95)),  # to 5 below Novikov
    contradicted((88.2, 83.3), (82.0, 83.3), (85.2, 86.3), (85.2, 80.5), (20, 20)),
)
def test_claim_12(heart, clavicles, expected):
    assert claim_12(heart, clavicles) == expected


@pytest.mark.parametrize("means", [(85.2, 83.3), (88.2, 83.3), (85.2, 86.3)])
def test_claim_12_of_what_differs_a_lot(means):
    assert claim_12(*means, spread=6.0) == INCONCLUSIVE


def test_claim_12_says_intervals():
    assert found(12, steady("SemiTC+", 10, (94.5, 85.2, 83.3))).ours == (
        "IoU missing: heart to Human 2.6 (2.5 to 2.7), clavicles to Human 6.3 (6.2 to 6.4), "
        "clavicles to Novikov 2.6 (2.5 to 2.7), clavicles to Frid-Adar 2.2 (2.1 to 2.3)"
    )


OUTPERFORM = (94.9, 87.9, 86.0)


def claim_14(method="Baseline", post=True, **means):
    """Both methods, with and without post-processing, just above both; but for `means` in one of the four."""
    frames = []
    for m in ("Baseline", "SemiTC+"):
        iou = {
            p: [means.get(s, v) if (m, p) == (method, post) else v for s, v in zip(STRUCTURES, OUTPERFORM)]
            for p in (True, False)
        }
        frames.append(steady(m, 100, iou[True], raw=iou[False]))
    claim = found(14, *frames)
    return claim.verdict, re.search(r"\d+ of \d+", claim.ours).group()


@pytest.mark.parametrize("post", [True, False])
@pytest.mark.parametrize("method", ["Baseline", "SemiTC+"])
@pytest.mark.parametrize(
    ("expected", "holds", "means"),
    [
        (INCONCLUSIVE, 19, [{"Lungs": 94.8}, {"Heart": 87.8}, {"Clavicles": 85.9}]),  # equal to Novikov, above Dai
        (INCONCLUSIVE, 19, [{"Clavicles": 85.85}]),  # below by no test, of 20
        (CONTRADICTED, 19, [{"Clavicles": 85.4}]),
        (CONTRADICTED, 18, [{"Lungs": 94.3}, {"Heart": 86.2}]),
        (CONTRADICTED, 15, [{"Lungs": 0, "Heart": 0, "Clavicles": 0}]),
    ],
)
def test_claim_14(method, post, means, holds, expected):
    """5 comparisons, two methods, with and without post-processing: all of them."""
    for of in means:
        assert claim_14(method, post, **of) == (expected, f"{holds} of 20")


def test_claim_14_just_above():
    assert claim_14() == (SUPPORTED, "20 of 20")


def claim_15(method, means, **options):
    frames = []
    for m in ("Baseline", "SemiTC+"):
        iou = dict(zip(STRUCTURES, IOU[RUNS[m, 100]])) | (means if m == method else {})
        frames.append(steady(m, 100, iou.values(), **options))
    return found(15, *frames)


@pytest.mark.parametrize("method", ["Baseline", "SemiTC+"])
@cases(
    "means",
    supported({"Heart": 90.4}, {"Clavicles": 85.7}, {"Clavicles": 89.3}, {"Lungs": 97.9}),
    supported({"Heart": 86.8}),  # within 4
    supported({"Lungs": 94.3}),  # within 2
    inconclusive({"Heart": 90.55}, {"Heart": 86.65}, {"Clavicles": 85.55}, {"Clavicles": 89.45}),  # up to the margin
    inconclusive({"Lungs": 98.05}, {"Lungs": 94.15}),
    contradicted({"Heart": 91.2}, {"Heart": 86.0}, {"Clavicles": 84.9}, {"Clavicles": 90.1}),
    contradicted({"Lungs": 98.7}, {"Lungs": 93.5}, {"Lungs": 0, "Heart": 99, "Clavicles": 0}),
)
def test_claim_15(method, means, expected):
    assert claim_15(method, means).verdict == expected


def test_claim_15_of_what_differs_a_lot():
    wide = claim_15("Baseline", {}, spread=6.0)
    assert (wide.verdict, wide.test) == (INCONCLUSIVE, "TOST, over subjects")
    assert wide.ours.startswith("IoU minus Frid-Adar: Baseline Lungs -0.8 (-5.3 to 3.7), Heart -1.8 ")
    assert claim_15("Baseline", {"Heart": 91.2}, spread=6.0).verdict == INCONCLUSIVE


@cases(
    "structure iou",
    supported(("Lungs", 94.1), ("Heart", 87.3), ("Clavicles", 86.0)),
    inconclusive(("Lungs", 94.0), ("Lungs", 92.6), ("Heart", 87.2), ("Heart", 85.8)),
    inconclusive(("Clavicles", 85.9)),  # no closer to Human than Novikov
    inconclusive(("Clavicles", 20)),  # the claim is contradicted by lungs and heart only
    contradicted(("Lungs", 92.5), ("Heart", 85.7)),
)
def test_claim_16(structure, iou, expected):
    assert semitc_plus(16, 100, **{structure: iou}) == expected


@pytest.mark.parametrize(
    ("structure", "worst"),
    [("Lungs", 94.7), ("Heart", 86.6), ("Clavicles", 85.5)],  # Dai, Dai, Frid-Adar
)
@cases("below", supported(3, -1), inconclusive(3.1, 5), contradicted(5.1))
def test_claim_17(structure, worst, below, expected):
    assert semitc_plus(17, 10, **{structure: round(worst - below, 1)}) == expected


@cases(
    "claim labels structure splits",
    supported((11, 10, "MACD", (1.94, 2.14, 1.84, 1.24, 1.04))),  # 1.64
    supported((16, 100, "Heart", (87.3, 87.1, 87.6, 86.6, 87.9))),  # 87.3
    supported((17, 10, "Lungs", (92.2, 91.1, 92.6, 92.1, 90.5))),  # 91.7
    inconclusive((11, 10, "Lungs", (93.7, 93.1, 92.1, 93.1, 92.0))),  # 92.8
    inconclusive((14, 100, "Lungs", (94.3, 95.1, 94.7, 94.8, 95.1))),  # 94.8
    inconclusive((16, 100, "Heart", (86.7, 85.3, 86.6, 85.0, 85.4))),  # 85.8
    inconclusive((17, 10, "Lungs", (89.7, 90.1, 89.5, 88.8, 90.4))),  # 89.7
)
def test_edges_are_decimals(claim, labels, structure, splits, expected):
    """Splits of one image each, whose mean is the edge in decimals; all else as published."""
    frames = []
    for method in ("Baseline", "SemiTC+"):
        row = RUNS[method, labels]
        iou = {name: [[value]] * 5 for name, value in zip(STRUCTURES, IOU[row])}
        macd = {name: [[value]] * 5 for name, value in zip(STRUCTURES, MACD[row])}
        judged = {"iou_post": dict(iou), "macd_mm_post": macd}
        if method == "SemiTC+":
            where = ("macd_mm_post", "Lungs") if structure == "MACD" else ("iou_post", structure)
            judged[where[0]][where[1]] = [[value] for value in splits]
        frames.append(frame(method, labels, judged | {"iou": iou}, side=0))
    assert verdict(claim, *frames) == expected


# ---- claim 13: image by image ----

WHERE = list(itertools.product(("iou_post", "macd_mm_post"), STRUCTURES))
BETTER, WORSE, NEITHER = [1.0, 2, 3, 4, 5], [-1.0, -2, -3, -4, -5], [-1.0, 2, 3, 4, 5]  # 2 of 32 sign patterns: 0.0625


def paired(gains, side=0.75):
    """Both methods with 10 labels: `gains[metric, structure]` are, for each split, what SemiTC+ is better by.

    Images differ by far more than methods, and each split has the same subjects with other values.
    """
    frames = []
    for method in ("Baseline", "SemiTC+"):
        images = {metric: {} for metric, _ in WHERE}
        for metric, structure in WHERE:
            sign = {"Baseline": 0, "SemiTC+": 1 if metric == "iou_post" else -1}[method]
            images[metric][structure] = [
                [50.0 + 8 * ((3 * i + 5 * split) % 7) + sign * gain for i, gain in enumerate(of_split)]
                for split, of_split in enumerate(gains[metric, structure])
            ]
        frames.append(frame(method, 10, images, side if method == "Baseline" else -2 * side))
    return frames


@pytest.mark.parametrize("where", WHERE, ids="-".join)
@cases(
    "splits",
    supported([BETTER] * 5),
    inconclusive([WORSE] * 2 + [BETTER] * 3, [BETTER] * 3 + [WORSE] * 2),  # the majority, by no test over splits
    supported([BETTER] * 3 + [NEITHER] * 2),  # the majority
    supported([[0.125] * 5] * 5),  # small beside what images differ by, but in every one
    inconclusive([BETTER] * 2 + [NEITHER] * 3, [WORSE] * 2 + [NEITHER] * 3, [[0.0] * 5] * 5),
    inconclusive([NEITHER] * 5),  # better on average in each split, by no test
    inconclusive([BETTER] * 2 + [WORSE] * 3),
    contradicted([WORSE] * 5, [WORSE] * 4 + [[-0.5] * 5]),
)
def test_claim_13(where, splits, expected):
    """All structures and metrics, or the verdict is that of the one that is not better."""
    assert verdict(13, *paired({place: splits if place == where else [BETTER] * 5 for place in WHERE})) == expected


def test_claim_13_half_of_the_splits_are_no_majority():
    for at, expected in (([BETTER] * 4 + [NEITHER] * 2, SUPPORTED), ([BETTER] * 3 + [NEITHER] * 3, INCONCLUSIVE)):
        assert verdict(13, *paired(dict.fromkeys(WHERE, at))) == expected
    far, nearly = [-5.0, -6, -7, -8, -9], [1.0, -6, -7, -8, -9]
    for at, expected in (([far] * 4 + [nearly] * 2, CONTRADICTED), ([far] * 3 + [nearly] * 3, INCONCLUSIVE)):
        assert verdict(13, *paired(dict.fromkeys(WHERE, at))) == expected


def test_claim_13_is_contradicted_by_one_comparison():
    """Not by one that is worse in most splits, of no test, beside another that is worse by test in no split."""
    values = np.array([-4.0, -3, -2, 1, 3])
    turned = [list(np.roll(values, split)) for split in range(5)]  # so that every split and image loses 1 in the mean
    assert stats.wilcoxon(values, alternative="less").pvalue > 0.05
    most, none = [WORSE] * 3 + [[10.0, 12, 14, 16, 18]] * 2, turned
    gains = dict.fromkeys(WHERE, [BETTER] * 5) | {WHERE[0]: most, WHERE[1]: none}
    assert verdict(13, *paired(gains)) == INCONCLUSIVE == by_hand(gains)
    assert verdict(13, *paired(gains | {WHERE[0]: [WORSE] * 5})) == CONTRADICTED


def by_hand(gains):
    """SciPy's test in each split; the majority of splits. And over splits and over images, each by its mean."""

    def share(sign):
        return {
            where: np.mean([stats.wilcoxon(sign * np.array(d), alternative="greater").pvalue < 0.05 for d in splits])
            for where, splits in gains.items()
        }

    def over_both(d, of=1):
        return max(p_of(np.mean(d, axis=1), of), p_of(np.mean(d, axis=0), of))

    better, worse = share(1), share(-1)
    if all(value > 0.5 for value in better.values()) and all(over_both(d) < 0.05 for d in gains.values()):
        return SUPPORTED
    below = holm([over_both(-np.array(d), len(gains)) for d in gains.values()])
    lost = [p < 0.05 and share > 0.5 for p, share in zip(below, worse.values())]
    return CONTRADICTED if any(lost) else INCONCLUSIVE


@pytest.mark.parametrize("shift", [2.5, 1.5, 0.75, 0.0, -0.25, -3.0])
def test_claim_13_against_scipy(shift):
    """Random gains of few images, where the test is exact, and of many."""
    for seed, n in itertools.product(range(2), (12, 51)):
        rng = np.random.default_rng(seed)
        gains = {where: rng.normal(shift, 2, (5, n)).round(3) for where in WHERE}
        assert verdict(13, *paired(gains)) == by_hand(gains), seed


def test_claim_13_pairs_splits():
    """Five splits each, but only four in common."""
    baseline, plus = paired(dict.fromkeys(WHERE, [BETTER] * 6))
    assert verdict(13, baseline[baseline["split"] < 5], plus[plus["split"] > 0]) == NOT_RUN


@pytest.mark.parametrize("left", [0, 1, 2, 3, 4])
def test_claim_13_with_undefined_distances(left):
    """A structure that a network did not find has no distance: of one split few images, or none, can be paired."""
    baseline, plus = paired(dict.fromkeys(WHERE, [BETTER] * 5))
    hidden = (baseline["split"] == 2) & (baseline["structure"] == "heart") & (baseline["metric"] == "macd_mm_post")
    baseline["value"] = baseline["value"].mask(hidden & (baseline["subject"] >= f"JPCLN{left:03}"))
    assert verdict(13, baseline, plus) == SUPPORTED  # by the other four splits
