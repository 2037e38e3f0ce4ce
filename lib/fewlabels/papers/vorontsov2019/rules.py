"""The claims of Vorontsov et al. 2019 as rules on scores.csv; in words, with sources: published.yaml.

A folder holds scores of cluttered MNIST or of BraTS; the claims on the other are not run there. Dice is the paper's:
soft, one number for the whole test set. Differences `d` of two rows: one a seed.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from fewlabels.papers.vorontsov2019.rules_pictures import (
    AE,
    BRATS,
    CONCAT,
    HARD,
    LARGE,
    NO_CYCLE,
    NO_SKIP,
    PATIENTS,
    PROPOSED,
    SEG,
    SEPARATE,
    SIMPLE,
    SUM,
    TABLE_1B,
    comparable,
    on_brats,
    seeds,
)
from fewlabels.scores.paired import (
    LEAST,
    close,
    each,
    holm_tests,
    least_clear,
    mean,
    minus,
    passes,
    signed,
    some_pass,
    tested,
)
from fewlabels.scores.published import margin, published_values
from fewlabels.scores.statistics import DIGITS, greater, inside
from fewlabels.scores.verdicts import Verdict, verdict

MNIST = (SIMPLE, HARD, LARGE)
STEPS, STEPS_SEG = 892500, 8925  # 300 epochs of MNIST, 20 images a step: 59,500 images, or the 595 that have masks
EPOCHS = 500  # of BraTS
WIDTHS = {SIMPLE: 32, HARD: 32, LARGE: 16, BRATS: 16}
OWN = "the paper's own Table 1 contradicts it: No skip 0.42 is below AE baseline 0.49"


def _dice(
    scores: pd.DataFrame, task: str, methods: Sequence[str], structure: str = "all"
) -> tuple[Any, Verdict | None]:
    """As `seeds`, a column a method."""
    runs, lacking = seeds(scores, task, [(method, "dice_global") for method in methods], structure)
    return (None, lacking) if lacking else (runs.droplevel(1, axis=1), None)


def _above(scores: pd.DataFrame, task: str, pairs: Sequence[tuple[str, str]]) -> Verdict:
    """Supported: the first of each pair has the higher Dice by TEST; contradicted: one has the lower."""
    dice, lacking = _dice(scores, task, [*dict.fromkeys(method for pair in pairs for method in pair)])
    if lacking:
        return lacking
    d = {f"{better} - {than}": minus(dice, better, than) for better, than in pairs}
    judged = verdict(all(map(passes, d.values())), some_pass(-of for of in d.values()))
    ours = f"{each(dice)}; " + "; ".join(f"{what} {tested(of)}" for what, of in d.items())
    return Verdict(judged, ours, len(dice), *least_clear(map(greater, d.values())))


def vorontsov_01(scores: pd.DataFrame) -> Verdict:
    return _above(scores, SIMPLE, [(PROPOSED, AE), (AE, SEG)])


def vorontsov_02(scores: pd.DataFrame) -> Verdict:
    return _above(scores, HARD, [(PROPOSED, AE), (AE, SEG)])


def vorontsov_03(scores: pd.DataFrame) -> Verdict:
    return _above(scores, LARGE, [(PROPOSED, AE), (AE, SEG)])


def vorontsov_04(scores: pd.DataFrame) -> Verdict:
    return comparable(scores, _above(scores, BRATS, [(PROPOSED, AE), (AE, SEG)]))


def vorontsov_05(scores: pd.DataFrame) -> Verdict:
    gains, beside, missing = {}, [], None
    for task in MNIST:
        dice, lacking = _dice(scores, task, (PROPOSED, AE))
        if lacking:
            missing = missing or lacking
            continue
        gains[task] = minus(dice, PROPOSED, AE)
        dice, lacking = _dice(scores, task, (PROPOSED, SEG))
        beside.append(f"{task} {'not run' if lacking else signed(mean(minus(dice, PROPOSED, SEG)))}")
    over = ", ".join(f"{task} {signed(mean(d))} ± {d.std():.3f}" for task, d in gains.items())
    ours = f"gain over {AE} {over}; over {SEG} {', '.join(beside)}"
    if missing:
        return replace(missing, ours=f"{missing.ours}; without it, {ours}") if gains else missing
    low, high = ({t: round(d.mean() + sign * d.std(), DIGITS) for t, d in gains.items()} for sign in (-1, 1))
    supported = all(low[task] > high[SIMPLE] for task in (HARD, LARGE))
    contradicted = any(high[task] < low[SIMPLE] for task in (HARD, LARGE))
    return Verdict(verdict(supported, contradicted), ours, min(map(len, gains.values())), "intervals of one sd")


def vorontsov_06(scores: pd.DataFrame) -> Verdict:
    return _above(scores, HARD, [(PROPOSED, SEPARATE)])


def vorontsov_07(scores: pd.DataFrame) -> Verdict:
    return _above(scores, LARGE, [(SEPARATE, PROPOSED)])


def vorontsov_08(scores: pd.DataFrame) -> Verdict:
    task = BRATS if on_brats(scores) else SIMPLE
    dice, lacking = _dice(scores, task, (PROPOSED, SEPARATE))
    if lacking:
        return lacking
    d = minus(dice, PROPOSED, SEPARATE)
    judged, *test = close([d], *margin("vorontsov2019", "vorontsov-08"))
    ours = f"{task}, one of the claim's two tasks: {each(dice)}; difference {tested(d)}"
    found = Verdict(judged, ours, len(d), *test)
    return comparable(scores, found) if task == BRATS else found


def vorontsov_09(scores: pd.DataFrame) -> Verdict:
    dice, lacking = _dice(scores, HARD, (PROPOSED, CONCAT, SUM))
    if lacking:
        return lacking
    d = {skip: minus(dice, PROPOSED, TABLE_1B[skip]) for skip in ("Concat", "Sum")}
    least, most = margin("vorontsov2019", "vorontsov-09")
    test, p = least_clear(inside(of, least, most) for of in d.values())
    contradicted = some_pass((least - of).round(DIGITS) for of in d.values())  # by far better is not the opposite
    above = zip(d, holm_tests(d.values()))
    better = " and ".join(skip for skip, (_, of) in above if mean(d[skip]) > 0 and of < 0.05) or "neither"
    ours = f"{each(dice)}; " + ", ".join(f"Compress - {skip} {tested(of)}" for skip, of in d.items())
    return Verdict(verdict(p < 0.05, contradicted), f"{ours}; better by test than {better}", len(dice), test, p)


def vorontsov_10(scores: pd.DataFrame) -> Verdict:
    dice, lacking = _dice(scores, HARD, (PROPOSED, NO_SKIP))
    if lacking:
        return lacking
    d = minus(dice, PROPOSED, NO_SKIP)
    judged = verdict(mean(d) >= 0.05 and passes(d), passes(-d))
    return Verdict(judged, f"{each(dice)}; difference {tested(d)}", len(d), *greater(d))


def vorontsov_11(scores: pd.DataFrame) -> Verdict:
    found = _above(scores, HARD, [(skip, than) for skip in TABLE_1B.values() for than in (SEG, AE)])
    return replace(found, ours=f"{found.ours}; {OWN}")


def vorontsov_15(scores: pd.DataFrame) -> Verdict:
    d = {}
    for task in (SIMPLE, HARD):
        dice, lacking = _dice(scores, task, (PROPOSED, NO_CYCLE))
        if lacking:
            return lacking
        d[task] = minus(dice, PROPOSED, NO_CYCLE)
    judged, *test = close(d.values(), *margin("vorontsov2019", "vorontsov-15"))
    ours = "with - without cycle: " + ", ".join(f"{task} {tested(of)}" for task, of in d.items())
    return Verdict(judged, ours, min(map(len, d.values())), *test)


def vorontsov_17(scores: pd.DataFrame) -> Verdict:
    d, parts, least = {}, [], []
    for task in MNIST:
        dice, lacking = _dice(scores, task, (PROPOSED, SEG), "digits 0-8")
        if lacking:
            least.append(lacking)
            continue
        d[task] = minus(dice, PROPOSED, SEG)
        beside = []
        for than, structure in ((AE, "digits 0-8"), (SEG, "digit 9"), (AE, "digit 9")):
            dice, lacking = _dice(scores, task, (PROPOSED, than), structure)
            gain = "not run" if lacking else signed(mean(minus(dice, PROPOSED, than)))
            beside.append(f"{structure} over {than} {gain}")
        parts.append(f"{task} digits 0-8 over {SEG} {tested(d[task])}, beside it {', '.join(beside)}")
    if not d:
        return max(least, key=lambda lacking: lacking.n)
    judged = verdict(all(map(passes, d.values())), some_pass(-of for of in d.values()))
    partial = f"partial, {len(d)} of {len(MNIST)} tasks: " if len(d) < len(MNIST) else ""
    ours = f"{partial}{'; '.join(parts)}"
    return Verdict(judged, ours, min(map(len, d.values())), *least_clear(map(greater, d.values())))


def vorontsov_18(scores: pd.DataFrame) -> Verdict:
    brats = on_brats(scores)
    tables = (published_values("vorontsov2019", table) for table in ("Table 1a", "Table 1b"))
    cells = pd.concat(tables, ignore_index=True)
    cells = cells[(cells["column"] == BRATS) == brats].assign(method=lambda cell: cell["row"].replace(TABLE_1B))
    here = scores[scores["structure"] == "all"].astype({"task": str})
    runs = here.groupby(["task", "method", "seed", "metric"])["value"].mean().astype(float).unstack("metric")
    runs = runs.reindex(columns=["dice_global", "steps", "epochs", "width", "patients"])
    runs = runs[np.isfinite(runs["dice_global"])]
    task, method = (runs.index.get_level_values(level) for level in ("task", "method"))
    if brats:
        long = (runs["epochs"] >= EPOCHS) & (runs["patients"] >= PATIENTS)
    else:
        long = runs["steps"] >= np.where(method == SEG, STEPS_SEG, STEPS)
    full = long & (runs["width"] == task.map(WIDTHS))
    agree, n, ours = _agreement(cells, runs[full], LEAST)
    if n:
        judged = verdict(5 * agree >= 4 * len(cells), 2 * (n - agree) > len(cells))
        return Verdict(judged, f"at the full schedule, of {len(cells)} cells here, {ours}", n, "count")
    why = f"decimals are judged at the paper's schedule only, with {LEAST} seeds of a cell"
    _, n, ours = _agreement(cells, runs, 1)
    return Verdict("not run", f"{why}; without that, {ours}", n)


def _agreement(cells: pd.DataFrame, runs: pd.DataFrame, least: int) -> tuple[int, int, str]:
    """How many cells of at least so many runs agree, of how many, and the same with all means in words."""
    of = runs.groupby(["task", "method"])["dice_global"].agg(["mean", "size"]).add_prefix("our_")
    cells = cells.join(of, on=["column", "method"]).query("our_size >= @least")
    off = (cells["our_mean"] - cells["mean"]).abs().round(DIGITS)
    agree = int((off <= (3 * cells["sd"]).clip(lower=0.03).round(DIGITS)).sum())
    means = ", ".join(
        f"{task} {row} {ours:.3f} ({published})"
        for task, row, ours, published in cells[["column", "row", "our_mean", "mean"]].to_numpy()
    )
    return agree, len(cells), f"{agree} of {len(cells)} agree{': ' if means else ''}{means}"
