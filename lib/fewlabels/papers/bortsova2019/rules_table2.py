"""Claims 10 to 17 of Bortsova et al. 2019, on Table 2 and its text, as rules on scores.csv.

Validation is matched to the labels (10 + 10; 100 + 24 or 23). Predictions are post-processed, but for claim 10, whose
mIoU is that of Table 1. Lungs are scored as in SCR and the literature, with what clavicles cover of them
(`iou_overlap`); exclusive lungs stand in the table beside.
"""

import pandas as pd

from fewlabels.papers.bortsova2019.tables import STRUCTURES, of_structures
from fewlabels.scores.paired import passes, some_pass
from fewlabels.scores.published import published_values
from fewlabels.scores.statistics import DIGITS, differences, over_subjects, run_scores
from fewlabels.scores.verdicts import Verdict, not_run, verdict

SPLITS = 5  # what the paper averages over
LITERATURE = {"Dai": "Dai et al. (209)", "Novikov": "Novikov et al. (165)", "Frid-Adar": "Frid-Adar et al. (124/123)"}


def protocol(scores, validation):
    """The rows of one of the paper's tables: validation "all" (1) or "matched" (2), and one amplitude.

    A comparison of amplitudes is no protocol of the paper's: it has none.
    """
    several = scores["amplitude"].nunique() > 1
    return scores[(scores["validation"] == validation) & (not several)]


def _images(scores, metric, post=True):
    """One value a test image of Table 2: columns method, labels, split, seed, subject, structure, value, ..."""
    kinds = {"Lungs": metric + "_overlap", "Heart": metric, "Clavicles": metric}
    parts = {name: of_structures(protocol(scores, "matched"), kind + "_post" * post) for name, kind in kinds.items()}
    return pd.concat([part[part["structure"] == name] for name, part in parts.items()])


def _table_2(scores, method, labels, metric="iou", post=True):
    """Mean of each structure over images, then over splits: a series; and the number of splits."""
    images = _images(scores, metric, post)
    ours = images[(images["method"] == method) & (images["labels"] == labels)]
    splits = ours.groupby(["structure", "split", "seed"])["value"].mean()
    return splits.groupby("structure").mean().round(DIGITS).reindex([*STRUCTURES]), len(splits) // len(STRUCTURES)


def _missing(row, iou):
    """How much of the IoU of a published row is missing in ours."""
    return (_published(row) - iou).round(DIGITS)


def _published(row):
    """A published row of the IoU in Table 2: a series over structures."""
    values = published_values("bortsova2019", "Table 2 IoU")
    return values[values["row"] == row].set_index("column")["mean"]


def _numbers(values, digits=1):
    return ", ".join(f"{name} {round(value, digits) + 0.0:.{digits}f}" for name, value in values.items())  # no -0.0


def bortsova_10(scores):
    runs = run_scores(protocol(scores, "matched"))
    runs = runs[(runs.index.get_level_values("method") == "SemiTC") & (runs.index.get_level_values("labels") == 10)]
    if len(runs) < SPLITS:
        return not_run(len(runs), SPLITS)
    mean, sd = round(runs.mean(), DIGITS), round(runs.std(), DIGITS)
    near = "within" if round(abs(mean - 87), DIGITS) <= 3 else "not within"
    least = round(mean - 2 * sd, DIGITS)
    ours = f"{mean:.1f} ± {sd:.1f} with 10 + 10 labels, supported if above MS-Net's 81 and, less 2 sd ({least:.1f}), "
    ours += f"above its 67 with 20 %; beside it {near} 87 ± 3"
    return Verdict(verdict(mean > 81 and least > 67, False), ours, len(runs), "means")


def bortsova_11(scores):
    iou, n = _table_2(scores, "SemiTC+", 10)
    if n < SPLITS:
        return not_run(n, SPLITS)
    iou, macd = iou["Lungs"], _table_2(scores, "SemiTC+", 10, "macd_mm")[0]["Lungs"]
    ours = f"lungs (clavicle overlap filled): IoU {iou:.1f}, MACD {macd:.2f} mm"
    return Verdict(verdict(iou >= 93.6 and macd <= 1.64, iou < 92.8), ours, n, "means")


def bortsova_12(scores):
    iou, n = _table_2(scores, "SemiTC+", 10)
    if n < SPLITS:
        return not_run(n, SPLITS)
    gaps = {name: _missing(LITERATURE.get(name, name), iou) for name in ("Human", "Novikov", "Frid-Adar")}
    supported = 0 < gaps["Human"]["Heart"] < 5.4 and gaps["Human"]["Clavicles"] > 3.7
    supported = supported and max(gaps[name]["Clavicles"] for name in ("Novikov", "Frid-Adar")) < 5
    clavicles = _numbers({name: gap["Clavicles"] for name, gap in gaps.items()})
    ours = f"IoU missing: heart to Human {gaps['Human']['Heart']:.1f}; clavicles to {clavicles}"
    return Verdict(verdict(supported, False), ours, n, "means")


def bortsova_13(scores):
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
    found = verdict(supported, max(worse.values()) > n / 2 and some_pass(-d for d in gains))
    ours = f"better, of {n} splits: " + ", ".join(f"{what} in {count}" for what, count in better.items())
    return Verdict(found, ours, n, "Wilcoxon signed-rank, one-sided, over images of each split; over splits")


def bortsova_14(scores):
    held, ours, fewest = [], [], SPLITS
    for method in ("Baseline", "SemiTC+"):
        for post in (True, False):
            iou, n = _table_2(scores, method, 100, post=post)
            fewest = min(fewest, n)
            for name in ("Dai", "Novikov"):
                held += list(_missing(LITERATURE[name], iou).dropna() < 0)
            ours.append(f"{method}{'' if post else ' without post-processing'}: {_numbers(iou)}")
    if fewest < SPLITS:
        return not_run(fewest, SPLITS)
    ours = f"{sum(held)} of {len(held)} comparisons hold; " + "; ".join(ours)
    return Verdict(verdict(all(held), False), ours, fewest, "means")


def bortsova_15(scores):
    d = {}
    for method in ("Baseline", "SemiTC+"):
        iou, n = _table_2(scores, method, 100)
        if n < SPLITS:
            return not_run(n, SPLITS)
        d[method] = -_missing(LITERATURE["Frid-Adar"], iou)
    supported = all(-4 <= gap["Heart"] < 0 < gap["Clavicles"] <= 4 and abs(gap["Lungs"]) <= 2 for gap in d.values())
    ours = "IoU minus Frid-Adar: " + "; ".join(f"{method} {_numbers(gap)}" for method, gap in d.items())
    return Verdict(verdict(supported, False), ours, n, "means")


def bortsova_16(scores):
    iou, n = _table_2(scores, "SemiTC+", 100)
    if n < SPLITS:
        return not_run(n, SPLITS)
    gap = _missing("Human", iou)
    both = gap[["Lungs", "Heart"]]
    supported = both.max() <= 0.5 and gap["Clavicles"] < 3.7
    return Verdict(verdict(supported, both.max() > 2), f"IoU missing to Human: {_numbers(gap)}", n, "means")


def bortsova_17(scores):
    iou, n = _table_2(scores, "SemiTC+", 10)
    if n < SPLITS:
        return not_run(n, SPLITS)
    gap = pd.DataFrame([_missing(row, iou) for row in LITERATURE.values()]).min().reindex([*STRUCTURES])
    ours = f"IoU missing to the worst of the three: {_numbers(gap)}"
    return Verdict(verdict(gap.max() <= 3, gap.max() > 5), ours, n, "means")
