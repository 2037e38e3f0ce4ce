"""Claims 10 to 17 of Bortsova et al. 2019, on Table 2 and its text, as rules on scores.csv.

Validation is matched to the labels (10 + 10; 100 + 24 or 23). Predictions are post-processed, but for claim 10, whose
mIoU is that of Table 1. Lungs are scored as in SCR and the literature, with what clavicles cover of them
(`iou_overlap`); exclusive lungs stand in the table beside.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from fewlabels.papers.bortsova2019.tables import PAPER, STRUCTURES, of_structures
from fewlabels.scores.paired import each_close, holm_tests, mean, passes, some_pass
from fewlabels.scores.published import margin, published_values
from fewlabels.scores.statistics import DIGITS, differences, interval, over_runs, over_subjects, run_scores
from fewlabels.scores.verdicts import Verdict, not_run, verdict

SPLITS = 5  # what the paper averages over
LITERATURE = {"Dai": "Dai et al. (209)", "Novikov": "Novikov et al. (165)", "Frid-Adar": "Frid-Adar et al. (124/123)"}


def protocol(scores: pd.DataFrame, validation: str) -> pd.DataFrame:
    """The rows of one of the paper's tables: validation "all" (1) or "matched" (2), and one amplitude.

    A comparison of amplitudes is no protocol of the paper's: it has none.
    """
    several = scores["amplitude"].nunique() > 1
    return scores[(scores["validation"] == validation) & (not several)]


def _images(scores: pd.DataFrame, metric: str, post: bool = True) -> pd.DataFrame:
    """One value a test image of Table 2: columns method, labels, split, seed, subject, structure, value, ..."""
    kinds = {"Lungs": metric + "_overlap", "Heart": metric, "Clavicles": metric}
    parts = {name: of_structures(protocol(scores, "matched"), kind + "_post" * post) for name, kind in kinds.items()}
    return pd.concat([part[part["structure"] == name] for name, part in parts.items()])


def _of_row(
    scores: pd.DataFrame, method: str, labels: int, metric: str = "iou", post: bool = True
) -> tuple[dict[str, pd.Series], int]:
    """`{structure: one value for each split and test image}`; and the number of splits."""
    images = _images(scores, metric, post)
    ours = images[(images["method"] == method) & (images["labels"] == labels)]
    values = ours.set_index(["split", "seed", "subject"])
    found = {structure: values.loc[values["structure"] == structure, "value"] for structure in STRUCTURES}
    return found, min(len(over_runs(of)) for of in found.values())


def _table_2(
    scores: pd.DataFrame, method: str, labels: int, metric: str = "iou", post: bool = True
) -> tuple[pd.Series, int]:
    """Mean of each structure over images, then over splits: a series; and the number of splits."""
    images, n = _of_row(scores, method, labels, metric, post)
    return pd.Series({structure: mean(of) for structure, of in images.items() if len(of)}), n


def _missing(row: str, iou: Any) -> dict[str, Any]:
    """How much of the IoU of a published row is missing in ours, by structure: in each image or in the mean."""
    values = published_values(PAPER, "Table 2 IoU")
    published: Any = values[values["row"] == LITERATURE.get(row, row)].set_index("column")["mean"]
    return {s: (value - iou[s]).round(DIGITS) for s, value in published.items() if pd.notna(value) and s in iou}


def _numbers(values: Mapping[str, float] | pd.Series, digits: int = 1) -> str:
    return ", ".join(f"{name} {round(value, digits) + 0.0:.{digits}f}" for name, value in values.items())  # no -0.0


def _bounded(gaps: Mapping[str, pd.Series]) -> str:
    """Mean gaps with the 90 % intervals over splits that margins are about."""
    found = {what: (mean(gap), *interval(gap)) for what, gap in gaps.items()}
    return ", ".join(f"{what} {of:.1f} ({low:.1f} to {high:.1f})" for what, (of, low, high) in found.items())


def bortsova_10(scores: pd.DataFrame) -> Verdict:
    scores = protocol(scores, "matched")
    images = run_scores(scores[(scores["method"] == "SemiTC") & (scores["labels"] == 10)], subjects=True)
    if (n := len(over_runs(images))) < SPLITS:
        return not_run(n, SPLITS)
    ours, sd = mean(images), round(over_runs(images).std(), DIGITS)
    near = "within" if round(abs(ours - 87), DIGITS) <= 3 else "not within"
    least = round(ours - 2 * sd, DIGITS)
    said = f"{ours:.1f} ± {sd:.1f} with 10 + 10 labels, supported if above MS-Net's 81 and, less 2 sd ({least:.1f}), "
    said += f"above its 67 with 20 %; beside it {near} 87 ± 3"
    found = verdict(ours > 81 and least > 67, passes((81 - images).round(DIGITS)))
    return Verdict(found, said, n, "means")


def bortsova_11(scores: pd.DataFrame) -> Verdict:
    iou, n = _table_2(scores, "SemiTC+", 10)
    if n < SPLITS:
        return not_run(n, SPLITS)
    iou, macd = iou["Lungs"], _table_2(scores, "SemiTC+", 10, "macd_mm")[0]["Lungs"]
    ours = f"lungs (clavicle overlap filled): IoU {iou:.1f}, MACD {macd:.2f} mm"
    return Verdict(verdict(iou >= 93.6 and macd <= 1.64, iou < 92.8), ours, n, "means")


def bortsova_12(scores: pd.DataFrame) -> Verdict:
    images, n = _of_row(scores, "SemiTC+", 10)
    if n < SPLITS:
        return not_run(n, SPLITS)
    gaps = {"heart to Human": _missing("Human", images)["Heart"]}
    gaps |= {f"clavicles to {row}": _missing(row, images)["Clavicles"] for row in ("Human", "Novikov", "Frid-Adar")}
    judged, *test = each_close((gap, *margin(PAPER, "bortsova-12", what)) for what, gap in gaps.items())
    return Verdict(judged, f"IoU missing: {_bounded(gaps)}", n, *test)


def bortsova_13(scores: pd.DataFrame) -> Verdict:
    better, worse, gains, counts = {}, {}, [], []  # in how many splits, by Wilcoxon over the test images
    for metric, name, sign in (("iou", "IoU", 1), ("macd_mm", "MACD", -1)):
        images = _images(scores, metric)
        images = images[images["labels"] == 10].set_index(["structure", "method", "split", "seed", "subject"])["value"]
        for structure in STRUCTURES:
            d = sign * differences(
                images[images.index.get_level_values("structure") == structure], "SemiTC+", "Baseline"
            )
            d = d.droplevel("structure")
            splits = [over_subjects(of_split) for _, of_split in d.groupby(["split", "seed"])]
            better[f"{structure} {name}"] = sum(map(passes, splits))
            worse[f"{structure} {name}"] = sum(passes(-of_split) for of_split in splits)
            gains.append(d)
            if metric == "iou":  # of which there is always one, unlike of distances
                counts.append(len(splits))
    if (n := min(counts)) < SPLITS:
        return not_run(n, SPLITS)
    supported = min(better.values()) > n / 2 and all(map(passes, gains))
    below = zip(worse.values(), gains, holm_tests(-d for d in gains))
    found = verdict(supported, any(count > n / 2 and mean(d) < 0 and p < 0.05 for count, d, (_, p) in below))
    ours = f"better, of {n} splits: " + ", ".join(f"{what} in {count}" for what, count in better.items())
    return Verdict(found, ours, n, "Wilcoxon signed-rank, one-sided, over images of each split; over splits")


def bortsova_14(scores: pd.DataFrame) -> Verdict:
    ahead, ours, fewest = [], [], SPLITS
    for method in ("Baseline", "SemiTC+"):
        for post in (True, False):
            images, n = _of_row(scores, method, 100, post=post)
            fewest = min(fewest, n)
            ahead += [-missing for row in ("Dai", "Novikov") for missing in _missing(row, images).values()]
            means = {structure: mean(of) for structure, of in images.items()} if n else {}
            ours.append(f"{method}{'' if post else ' without post-processing'}: {_numbers(means)}")
    if fewest < SPLITS:
        return not_run(fewest, SPLITS)
    held = [mean(d) > 0 for d in ahead]
    ours = f"{sum(held)} of {len(held)} comparisons hold; " + "; ".join(ours)
    return Verdict(verdict(all(held), some_pass(-d for d in ahead)), ours, fewest, "means")


def bortsova_15(scores: pd.DataFrame) -> Verdict:
    gaps = {}
    for method in ("Baseline", "SemiTC+"):
        images, n = _of_row(scores, method, 100)
        if n < SPLITS:
            return not_run(n, SPLITS)
        gaps[method] = {structure: -gap for structure, gap in _missing("Frid-Adar", images).items()}
    of_all = [(gap, *margin(PAPER, "bortsova-15", s)) for of_method in gaps.values() for s, gap in of_method.items()]
    judged, *test = each_close(of_all)
    ours = "IoU minus Frid-Adar: " + "; ".join(f"{method} {_bounded(of_method)}" for method, of_method in gaps.items())
    return Verdict(judged, ours, n, *test)


def bortsova_16(scores: pd.DataFrame) -> Verdict:
    iou, n = _table_2(scores, "SemiTC+", 100)
    if n < SPLITS:
        return not_run(n, SPLITS)
    gap = _missing("Human", iou)
    both = max(gap["Lungs"], gap["Heart"])
    supported = both <= 0.5 and gap["Clavicles"] < 3.7
    return Verdict(verdict(supported, both > 2), f"IoU missing to Human: {_numbers(gap)}", n, "means")


def bortsova_17(scores: pd.DataFrame) -> Verdict:
    iou, n = _table_2(scores, "SemiTC+", 10)
    if n < SPLITS:
        return not_run(n, SPLITS)
    gap = pd.DataFrame([_missing(row, iou) for row in LITERATURE]).min().reindex([*STRUCTURES])
    ours = f"IoU missing to the worst of the three: {_numbers(gap)}"
    return Verdict(verdict(gap.max() <= 3, gap.max() > 5), ours, n, "means")
