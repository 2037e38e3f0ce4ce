"""How segmentations of JSRT are scored, and the tables of Bortsova et al. 2019 that the scores make."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pandas as pd

from fewlabels.scores.published import published_values
from fewlabels.scores.statistics import run_scores
from fewlabels.scores.tables import beside_paper, markdown, summarise

PAPER = "bortsova2019"
STOP_GRADIENT = "SemiTC (stop-gradient)"
METHODS = ("Baseline", "SupTC", "SemiTC", "SemiTC+", STOP_GRADIENT)
# What Table 2 calls a structure; of two sides the mean, as the paper does not say.
STRUCTURES = {
    "Lungs": ("left lung", "right lung"),
    "Heart": ("heart",),
    "Clavicles": ("left clavicle", "right clavicle"),
}
LABELLED = {10: "20", 100: "124/123"}  # labelled training images -> with the validation images, as in Table 2
UNLABELLED = {10: ", 237 unlabelled", 100: ", 147 unlabelled"}  # of SemiTC+
if TYPE_CHECKING:
    from fewlabels.papers.bortsova2019.jsrt import Config

RAW, WITHOUT_OVERLAP = " without post-processing", "Lungs, exclusive"


def tables(config: "Config", scores: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, Callable[[str], str]]]:
    """`{name: (frame, caption -> Markdown)}`: table1 and table2 of the paper, or, of several amplitudes, `amplitude`.

    The frames are in the form of `tables.beside_paper`.
    """
    if len(config.amplitude) > 1:
        return {"amplitude": _amplitude(scores)}
    made = {}
    if (table_1 := scores[scores["validation"] == "all"]).size:
        made["table1"] = _table_1(table_1)
    if (table_2 := scores[scores["validation"] == "matched"]).size:
        made["table2"] = _table_2(table_2)
    return made


def _table_1(scores: pd.DataFrame) -> tuple[pd.DataFrame, Callable[[str], str]]:
    """mIoU over five structures, mean ± sd over splits."""
    table = table_1_cells(run_scores(scores))
    title = "Table 1 of Bortsova et al. 2019: mIoU (%) over five structures, exclusive labels. "
    return table, lambda caption: markdown(table, "Method", title + caption, "{} labels")


def table_1_cells(runs: pd.Series) -> pd.DataFrame:
    """Table 1 from one mIoU a run, beside the paper's."""
    columns = sorted({5, 10, 25, 50, 100} | set(runs.index.get_level_values("labels")))
    return beside_paper(summarise(runs), published_values(PAPER, "Table 1"), METHODS, columns)


def of_structures(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One value a subject and structure of Table 2 (of two sides the mean), with the axes of `scores` as columns."""
    names = {side: name for name, sides in STRUCTURES.items() for side in sides}
    chosen = scores[(scores["metric"] == metric) & scores["structure"].isin(names)]
    by = [c for c in chosen.columns if c not in ("structure", "metric", "value")]
    return chosen.groupby([*by, chosen["structure"].map(names)])["value"].mean().reset_index()


def _table_2(scores: pd.DataFrame) -> tuple[pd.DataFrame, Callable[[str], str]]:
    """Per structure, mean ± sd over test images, both averaged over splits; post-processed, and not."""
    frames, texts = [], []
    for name, unit in (("IoU", "%"), ("MACD", "mm")):
        metric = "iou" if name == "IoU" else "macd_mm"
        published = published_values(PAPER, f"Table 2 {name}")
        variants = {"_post": "", "": RAW}
        ours = pd.concat([_table_2_cells(scores, metric, suffix, note) for suffix, note in variants.items()])
        rows = [*published["row"].unique(), *(row for row in ours["row"].unique() if row not in set(published["row"]))]
        columns = [*STRUCTURES, WITHOUT_OVERLAP]
        table = beside_paper(ours, published, rows, columns)
        frames.append(table.assign(metric=name))
        digits = 1 if name == "IoU" else 2
        others = [row for row in published["row"] if not row.startswith(("Supervised", "SemiTC"))]
        texts.append(markdown(table, "Method (labelled images)", f"{name}, {unit}", digits=digits, others=others))
    weakly = _beside_weak_supervision(scores)
    frames.append(weakly.assign(metric="mIoU"))
    others = [row for row in weakly["row"] if row.startswith("MS-Net")]
    words = "mIoU, %, mean ± sd over splits, exclusive lungs, without post-processing: beside MS-Net (Section 4)"
    texts.append(markdown(weakly, "Method (labelled images)", words, others=others))
    title = (
        "Table 2 of Bortsova et al. 2019: mean ± sd over test images, both averaged over splits. Lungs: with what "
        "clavicles cover of them, as in SCR and the literature (predictions filled); lungs without it stand beside. A "
        "structure that was not found has an IoU of 0 and no distance. "
    )
    return pd.concat(frames, ignore_index=True), lambda caption: "\n".join([title + caption + "\n", *texts])


def _beside_weak_supervision(scores: pd.DataFrame) -> pd.DataFrame:
    """mIoU with as many validation images as labelled ones, beside what the text quotes of MS-Net."""
    published = published_values(PAPER, "Text, Section 4")
    published = published[published["column"] == "mIoU %"].replace(
        {"row": {"SemiTC (10 training + 10 validation labels)": _row("SemiTC", 10)}}
    )
    runs = run_scores(scores).reset_index(name="miou")
    runs["row"], runs["column"] = [_row(*each) for each in zip(runs["method"], runs["labels"])], "mIoU %"
    ours = summarise(runs.set_index(["row", "column", "split", "seed"])["miou"], row="row", column="column")
    rows = [*published["row"], *(row for row in dict.fromkeys(runs["row"]) if row not in set(published["row"]))]
    return beside_paper(ours, published, rows, ["mIoU %"])


def _table_2_cells(scores: pd.DataFrame, metric: str, suffix: str, note: str) -> pd.DataFrame:
    """Our cells of Table 2 for one metric and kind of prediction: row, column, mean, sd, n (splits)."""
    exclusive, overlap = of_structures(scores, metric + suffix), of_structures(scores, f"{metric}_overlap{suffix}")
    images = pd.concat([overlap, exclusive.replace({"structure": {"Lungs": WITHOUT_OVERLAP}})])
    splits = images.groupby(["method", "labels", "structure", "split", "seed"])["value"].agg(["mean", "std"])
    cells = splits.groupby(["method", "labels", "structure"], as_index=False).agg(
        mean=("mean", "mean"), sd=("std", "mean"), n=("mean", "size")
    )
    cells["row"] = [_row(method, labels) + note for method, labels in zip(cells["method"], cells["labels"])]
    return cells.rename(columns={"structure": "column"})[["row", "column", "mean", "sd", "n"]]


def _row(method: str, labels: int) -> str:
    """A row's name as the published table has it."""
    name = "Supervised baseline" if method == "Baseline" else method
    unlabelled = UNLABELLED.get(labels, "") if method == "SemiTC+" else ""
    labelled = LABELLED.get(labels, f"{labels} + at most {labels}")
    return f"{name} ({labelled}{' labelled' if unlabelled else ''}{unlabelled})"


def _amplitude(scores: pd.DataFrame) -> tuple[pd.DataFrame, Callable[[str], str]]:
    """mIoU of the test images and of the validation images that choose, and T's folds, against its amplitude."""
    rows = {"miou": "test mIoU (%)", "validation_miou": "validation mIoU (%)"}
    shares = {"excluded": "left out of C (%)", "folding": "fields that fold (%)"}
    cells = []
    for metric, name in (rows | shares).items():
        runs = run_scores(scores, metric) * (100 if metric in shares else 1)
        summary = summarise(runs, column="amplitude")
        cells.append(summary.assign(row=summary["row"] + ", " + name))
    ours = pd.concat(cells, ignore_index=True)
    nothing = ours.iloc[:0].drop(columns="n")  # the paper has no such table
    table = beside_paper(ours, nothing, sorted(ours["row"].unique()), sorted(ours["column"].unique()))
    title = "The amplitude of T: rms of a field's components in % of the image's side (literal: about 0.4 %). "
    return table, lambda caption: markdown(table, "", title + caption, "{} %")
