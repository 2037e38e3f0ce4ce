"""Scores of JSRT and the tables they make, against loops and numpy."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial import distance

from fewlabels.data.jsrt import CLASSES, phantom
from fewlabels.engine import params
from fewlabels.papers.bortsova2019.measures import evaluate, fill_lungs
from fewlabels.papers.bortsova2019.tables import of_structures, tables
from fewlabels.paths import CHECKOUT
from fewlabels.scores import metrics
from fewlabels.scores.published import published

PUBLISHED = published("bortsova2019")
LITE, AMPLITUDE = (params.load(CHECKOUT / f"params/jsrt/{name}.yaml")[1] for name in ("lite", "amplitude"))
STRUCTURES = {"Lungs": (4, 5), "Heart": (1,), "Clavicles": (2, 3)}
AXES = "method labels split seed amplitude validation".split()


def random_maps(n, height, width, seed=0):
    """Label maps of small patches and single pixels: all classes touch, some are missing."""
    rng = np.random.default_rng(seed)
    coarse = np.kron(rng.integers(0, 6, (n, height // 2 + 1, width // 2 + 1)), np.ones((1, 2, 2), int))
    maps = np.where(
        rng.random((n, height, width)) < 0.7, coarse[:, :height, :width], rng.integers(0, 6, (height, width))
    )
    maps[0][maps[0] == 5] = 0
    return torch.from_numpy(maps)


# ---- lungs behind clavicles ----


def slowly_filled(labels):
    """The rule of `fill_lungs`, a pixel at a time."""
    filled = labels.copy()
    for n, r, c in np.argwhere((labels == 2) | (labels == 3)):
        lung = {2: 4, 3: 5}[labels[n, r, c]]
        row, column = labels[n, r] == lung, labels[n, :, c] == lung
        if (row[:c].any() and row[c + 1 :].any()) or (column[:r].any() and column[r + 1 :].any()):
            filled[n, r, c] = lung
    return filled


@pytest.mark.parametrize("shape", [(6, 9, 13), (40, 4, 3), (3, 1, 20), (2, 16, 16)])
def test_fill_lungs_a_pixel_at_a_time(shape):
    labels = random_maps(*shape)
    before = labels.clone()
    filled = fill_lungs(labels)
    np.testing.assert_array_equal(filled, slowly_filled(labels.numpy()))
    assert labels.equal(before)
    assert filled.dtype == torch.int64
    changed = filled != labels
    assert changed.any()
    assert set(zip(labels[changed].tolist(), filled[changed].tolist(), strict=True)) <= {(2, 4), (3, 5)}


def test_fill_lungs_by_hand():
    rows = ["..5553335..22..", "..5.5.3.3..2.4.", "....4.33....4..", ".2..5.3..4.42.4", ".4.........23.."]
    filled = ["..5555555..22..", "..5.5.3.3..2.4.", "....4.33....4..", ".2..5.3..4.44.4", ".4.........23.."]
    labels, expected = (
        torch.tensor([[[0 if x == "." else int(x) for x in row] for row in drawn]]) for drawn in (rows, filled)
    )
    assert fill_lungs(labels).equal(expected)


def test_filling_gives_the_phantoms_lungs_back():
    cohort = phantom(20, size=64)
    lungs = cohort.meta["lungs"].long()
    cut, filled = (float(metrics.iou(x, lungs, 6)[:, 3:].mean()) for x in (cohort.labels, fill_lungs(cohort.labels)))
    assert filled > 97.5 > 95 > cut


# ---- evaluate ----


def iou(a, b):
    return 100 * (a & b).sum() / (a | b).sum() if (a | b).any() else 100.0


def contour_distance(a, b, spacing):
    """From every contour pixel of one to every one of the other."""

    def contour(mask):
        padded = np.pad(mask, 1)
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return np.argwhere(mask & ~inner) * spacing

    if not (a.any() and b.any()):
        return np.nan
    between = distance.cdist(contour(a), contour(b))
    return (between.min(1).mean() + between.min(0).mean()) / 2


def test_evaluate_is_numpys():
    prediction, truth = random_maps(5, 12, 17, seed=1), random_maps(5, 12, 17, seed=2)
    rng = np.random.default_rng(3)
    lungs = np.kron(rng.choice([0, 4, 5], (5, 4, 6)), np.ones((1, 3, 3)))[:, :, :17].astype(np.uint8)
    spacing = (2.0, 0.75)
    scores = evaluate(prediction, truth, torch.from_numpy(lungs), spacing)

    cleaned = np.stack([metrics.largest_components(p, {4: (2,), 5: (3,)}) for p in prediction.numpy()])
    assert (cleaned != prediction.numpy()).any()
    expected = {}
    for post, ours in (("", prediction.numpy()), ("_post", cleaned)):
        for overlap, a, b, structures in (
            ("", ours, truth.numpy(), (1, 2, 3, 4, 5)),
            ("_overlap", slowly_filled(ours), lungs, (4, 5)),
        ):
            pairs = {CLASSES[c]: [(x == c, y == c) for x, y in zip(a, b, strict=True)] for c in structures}
            expected[f"iou{overlap}{post}"] = {s: [iou(*p) for p in of] for s, of in pairs.items()}
            expected[f"macd_mm{overlap}{post}"] = {
                s: [contour_distance(*p, spacing) for p in of] for s, of in pairs.items()
            }
        expected[f"miou{post}"] = {"all": np.mean([*expected[f"iou{post}"].values()], axis=0)}
    assert {metric: list(of) for metric, of in scores.items()} == {metric: list(of) for metric, of in expected.items()}
    for metric, of in expected.items():
        for structure, values in of.items():
            np.testing.assert_allclose(scores[metric][structure], values, rtol=1e-5, err_msg=f"{metric} {structure}")
    assert np.isnan(scores["macd_mm"]["right lung"][0])  # there is none in the first map


def test_a_perfect_prediction():
    """100 as labels; as lungs what filling is worth, and not less than without it."""
    cohort = phantom(4, size=64)
    truth, lungs = cohort.labels, cohort.meta["lungs"]
    scores = evaluate(truth, truth, lungs, cohort.spacing_mm)
    assert set(scores["miou"]["all"]) == {100.0}
    assert set(sum(scores["macd_mm"].values(), [])) == {0.0}
    for c in (4, 5):
        cut = metrics.iou(truth, lungs.long(), 6)[:, c - 1]
        assert (torch.tensor(scores["iou_overlap"][CLASSES[c]]) > cut).all()


# ---- tables ----


def made_up(cells, metrics_of_subjects, seed=0):
    """Scores of runs (method, labels, split, seed): 5 or 6 test images each, a random value of each metric."""
    rng, rows = np.random.default_rng(seed), []
    for method, labels, split, run_seed in cells:
        for subject, metric in product(range(5 + split % 2), metrics_of_subjects):
            structures = (
                ["all"] if "miou" in metric else [CLASSES[c] for c in ((4, 5) if "overlap" in metric else range(1, 6))]
            )
            place = (method, labels, split, run_seed, 4.0, "matched", f"s{subject}")
            rows += [(*place, structure, metric, rng.uniform(1, 99)) for structure in structures]
    return pd.DataFrame(rows, columns=[*AXES, "subject", "structure", "metric", "value"])


METRICS = [f"{m}{o}{p}" for m, o, p in product(("iou", "macd_mm"), ("", "_overlap"), ("", "_post"))]
CELLS = [
    *product(("Baseline", "SemiTC+"), (10, 100), (0, 1, 4), (0,)),
    *product(("SemiTC",), (10,), (0, 2), (0,)),
    ("Baseline", 3, 0, 0),
]


@pytest.fixture(scope="module")
def table_2():
    scores = made_up(CELLS, [*METRICS, "miou", "miou_post"])
    return scores, *of(scores)["table2"]


def of(scores):
    """The tables of scores of the lite sweep."""
    return tables(LITE, scores)


def directly(scores, method, labels, metric, structures):
    """Mean and sd over the images of a split, both averaged over the splits; of two sides the mean, in each image."""
    of_run = (scores["method"] == method) & (scores["labels"] == labels) & (scores["metric"] == metric)
    values = {split: {} for split in scores["split"][of_run]}
    for row in scores[of_run].itertuples():
        values[row.split].setdefault(row.structure, []).append(row.value)  # in the order of the subjects
    images = [np.mean([sides[CLASSES[c]] for c in structures], axis=0) for sides in values.values()]
    return np.mean([i.mean() for i in images]), np.mean([i.std(ddof=1) for i in images]), len(images)


ROWS = {
    ("Baseline", 10): "Supervised baseline (20)",
    ("Baseline", 100): "Supervised baseline (124/123)",
    ("SemiTC+", 10): "SemiTC+ (20 labelled, 237 unlabelled)",
    ("SemiTC+", 100): "SemiTC+ (124/123 labelled, 147 unlabelled)",
    ("SemiTC", 10): "SemiTC (20)",
    ("Baseline", 3): "Supervised baseline (3 + at most 3)",
}


@pytest.mark.parametrize(("name", "metric"), [("IoU", "iou"), ("MACD", "macd_mm")])
def test_cells_of_table_2_are_numpys(table_2, name, metric):
    scores, table, _ = table_2
    cells = table[table["metric"] == name].set_index(["row", "column"])
    assert cells.index.is_unique
    found = 0
    for (method, labels), row in ROWS.items():
        for post, note in (("_post", ""), ("", " without post-processing")):
            columns = {c: (metric, of) for c, of in STRUCTURES.items()} | {"Lungs, exclusive": (metric, (4, 5))}
            columns["Lungs"] = (f"{metric}_overlap", (4, 5))  # as SCR and the literature have them
            for column, (kind, structures) in columns.items():
                ours = cells.loc[(row + note, column), ["ours_mean", "ours_sd", "ours_n"]].astype(float)
                np.testing.assert_allclose(ours, directly(scores, method, labels, kind + post, structures), rtol=1e-9)
                found += 1
    assert cells["ours_n"].notna().sum() == found  # and nothing else


@pytest.mark.parametrize("name", ["IoU", "MACD"])
def test_rows_of_table_2_are_the_papers(table_2, name):
    """Each printed number stands once, and beside ours where the paper's own methods are."""
    _, table, _ = table_2
    cells = table[table["metric"] == name].set_index(["row", "column"])
    printed = [value for value in PUBLISHED["values"] if value["table"] == f"Table 2 {name}"]
    assert cells["paper_mean"].notna().sum() == len(printed) > 12
    for value in printed:
        cell = cells.loc[(value["row"], value["column"])]
        assert cell["paper_mean"] == value["mean"]
        assert pd.notna(cell["ours_mean"]) == value["row"].startswith(("Supervised baseline", "SemiTC"))


def test_table_2_in_markdown(table_2):
    scores, table, write = table_2
    lines = write("Data: made up.").splitlines()
    assert "Table 2" in lines[0]
    assert "Data: made up." in lines[0]
    structures = "| Method (labelled images) | Lungs | Heart | Clavicles | Lungs, exclusive |"
    assert [line for line in lines if line.startswith("| Method")] == [
        structures,
        structures,
        "| Method (labelled images) | mIoU % |",
    ]
    assert [line for line in lines if line.startswith(("IoU", "MACD"))] == ["IoU, %", "MACD, mm"]
    assert "| Dai et al. (209) | paper 94.7 ± 0.4 | paper 86.6 ± 1.2 | - | - |" in lines  # not ours to run
    mean, sd, n = directly(scores, "SemiTC", 10, "macd_mm_overlap_post", (4, 5))
    _, line, _ = [line for line in lines if line.startswith("| SemiTC (20) |")]
    assert line.startswith(f"| SemiTC (20) | **{mean:.2f} ± {sd:.2f}** (n = {n}) |")
    assert not [line for line in lines if "not run" in line]
    fewer = of(scores[scores["labels"] < 100])["table2"][1]("")
    for row in ("Supervised baseline (124/123)", "SemiTC+ (124/123 labelled, 147 unlabelled)"):
        assert f"| {row} | not run<br>paper" in fewer


def test_table_2_ends_with_miou_beside_weak_supervision(table_2):
    scores, table, write = table_2
    lines = write("").splitlines()
    miou = table[table["metric"] == "mIoU"].set_index("row")
    of_split = scores[(scores["metric"] == "miou") & (scores["method"] == "SemiTC") & (scores["labels"] == 10)]
    by_split = of_split.groupby("split")["value"].mean()
    assert miou.loc["SemiTC (20)", "ours_mean"] == pytest.approx(by_split.mean())
    assert miou.loc["SemiTC (20)", "ours_sd"] == pytest.approx(by_split.std())
    assert miou.loc["SemiTC (20)", ["paper_mean", "paper_sd"]].tolist() == [87, 1.5]
    assert "| MS-Net (20 % strong supervision) | paper 67.0 |" in lines
    assert "| MS-Net (100 % strong supervision) | paper 81.0 |" in lines


def test_of_two_sides_the_mean():
    scores = made_up([("Baseline", 10, 0, 0)], ["iou"])
    by = of_structures(scores, "iou").set_index(["structure", "subject"])["value"]
    value = scores.set_index(["structure", "subject"])["value"]
    assert len(by) == 3 * 5
    assert by["Heart", "s2"] == value["heart", "s2"]
    assert by["Clavicles", "s2"] == pytest.approx((value["left clavicle", "s2"] + value["right clavicle", "s2"]) / 2)


def test_which_tables_there_are():
    matched = made_up([("Baseline", 10, 0, 0)], [*METRICS, "miou"])
    every = matched.assign(validation="all")
    assert list(of(every)) == ["table1"]
    assert list(of(matched)) == ["table2"]
    assert list(of(pd.concat([every, matched]))) == ["table1", "table2"]
    assert list(tables(AMPLITUDE, every)) == ["amplitude"]  # also where only one amplitude has been run yet


def test_cells_of_the_amplitude_table():
    """Test mIoU: the mean over images, then mean and sd over splits. The others are one number a run; shares in %."""
    rng, rows = np.random.default_rng(5), []
    runs = list(product(("Baseline", "SemiTC"), (5,), (0, 1, 2), (0,), (0.35, 4.0, 11.0), ("all",)))
    for run in runs[:-1]:  # the last has failed
        rows += [(*run, f"s{i}", "all", "miou", rng.uniform(50, 90)) for i in range(4)]
        rows += [(*run, "s0", "heart", "iou", 1.0), (*run, "all", "all", "loss_sup", 0.5)]
        rows += [(*run, "all", "all", metric, rng.random()) for metric in ("excluded", "folding")]
        rows += [(*run, "all", "all", "validation_miou", rng.uniform(50, 90))]
    scores = pd.DataFrame(rows, columns=[*AXES, "subject", "structure", "metric", "value"])
    table, write = tables(AMPLITUDE, scores)["amplitude"]
    cells = table.set_index(["row", "column"])
    names = {
        "miou": "test mIoU (%)",
        "validation_miou": "validation mIoU (%)",
        "excluded": "left out of C (%)",
        "folding": "fields that fold (%)",
    }
    assert len(cells) == 2 * 4 * 3
    assert table["paper_mean"].isna().all()
    for method, (metric, name), amplitude in product(("Baseline", "SemiTC"), names.items(), (0.35, 4.0, 11.0)):
        of = [r for r in rows if (r[0], r[4], r[8]) == (method, amplitude, metric)]
        splits = [np.mean([r[9] for r in of if r[2] == split]) for split in sorted({r[2] for r in of})]
        splits = np.array(splits) * (100 if metric in ("excluded", "folding") else 1)
        found = cells.loc[(f"{method}, {name}", amplitude), ["ours_mean", "ours_sd", "ours_n"]].astype(float)
        np.testing.assert_allclose(found, [splits.mean(), splits.std(ddof=1), len(splits)], rtol=1e-9)
    lines = write("Data: made up.").splitlines()
    assert "Data: made up." in lines[0]
    assert "|  | 0.35 % | 4.0 % | 11.0 % |" in lines
    mean = cells.loc[("SemiTC, test mIoU (%)", 11.0), "ours_mean"]
    (line,) = [line for line in lines if line.startswith("| SemiTC, test")]
    assert f"**{mean:.1f} ± " in line.split(" | ")[3]
    assert line.split(" | ")[3].endswith("(n = 2) |")
    assert "not run" not in write("")
