"""Claims 12 to 14 and 16 of Vorontsov et al. 2019, on translated images and on skips, as rules on scores.csv.

And what these and the claims on Dice share. Differences `d` of two rows or tasks: one a seed.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from fewlabels.papers.vorontsov2019.rows import ABLATIONS, METHODS
from fewlabels.papers.vorontsov2019.tables import SKIP_ROWS, TASKS
from fewlabels.scores.paired import LEAST, absent, mean, minus, paired, passes, some_pass, tested
from fewlabels.scores.statistics import DIGITS, greater
from fewlabels.scores.verdicts import Verdict, verdict

SIMPLE, HARD, LARGE, BRATS = TASKS
SEG, AE, PROPOSED, SEPARATE = METHODS
CONCAT, SUM, NO_SKIP, NO_CYCLE = ABLATIONS
TABLE_1B = {name: row for row, name in SKIP_ROWS.items()}  # row -> method
PARTS = (  # of claim 16: what, metric, and which row is said to have more of it than which
    ("skips speed training", "steps_to_90", ((NO_SKIP, PROPOSED),)),
    ("skips better images", "reconstruction", ((NO_SKIP, PROPOSED),)),
    ("summation hinders translation", "removed", ((PROPOSED, SUM), (CONCAT, SUM))),
)
UNTIMED = "concatenation costs time not run (runs share a machine; make bench, case J, times steps)"
EXTENT = "diversity also grows with how much of an image residuals cover"
PATIENTS = 20  # in training; the paper has more than ten times as many


def on_brats(scores: pd.DataFrame) -> bool:
    return bool((scores["task"] == BRATS).any())


def seeds(
    scores: pd.DataFrame, task: str, columns: Sequence[tuple[str, str]], structure: str = "all"
) -> tuple[Any, Verdict | None]:
    """`(frame, None)`: a line for each seed that has all (method, metric) on a task; or `(None, not run)`."""
    if len(scores) and on_brats(scores) != (task == BRATS):
        said, there = ("BraTS", "cluttered MNIST") if task == BRATS else ("cluttered MNIST", "BraTS")
        return None, Verdict("not run", f"a claim on {said}; these are scores of {there}")
    here = (scores["task"].astype(str) == task) & (scores["structure"] == structure)  # "128" may be read as a number
    here = scores[here].assign(structure="all")
    runs = paired(here, columns, ["seed", "subject"], "seed")
    if len(runs) >= LEAST:
        return runs, None
    methods = " and ".join(dict.fromkeys(method for method, _ in columns))
    means_of: Any = runs.mean().dropna()
    means = ", ".join(f"{method} ({metric}) {of:.3f}" for (method, metric), of in means_of.items())
    why = f"{len(runs)} of {LEAST} seeds with {methods} on {task}{': ' if means else ''}{means}"
    few = Verdict("not run", why, len(runs))
    return None, absent(here, columns, [task] if structure == "all" else [task, structure]) or few


def comparable(scores: pd.DataFrame, found: Verdict) -> Verdict:
    """At most inconclusive with few training patients."""
    patients = scores.loc[scores["metric"] == "patients", "value"].astype(float).min()
    if found.verdict == "not run" or patients >= PATIENTS:
        return found
    number = "unknown number of" if np.isnan(patients) else f"{patients:.0f}"
    return replace(found, verdict="inconclusive", ours=f"not comparable, {number} training patients: {found.ours}")


def _both(scores: pd.DataFrame, metrics: Sequence[str]) -> tuple[Any, Verdict | None]:
    """`(frame, None)` of Proposed: a line for each seed of 48-simple and 48-hard; or `(None, not run)`."""
    found = {}
    for task in (SIMPLE, HARD):
        runs, lacking = seeds(scores, task, [(PROPOSED, metric) for metric in metrics])
        if lacking:
            return None, lacking
        found[task] = runs[PROPOSED]
    runs = pd.concat(found, axis=1, join="inner")
    if len(runs) < LEAST:
        return None, Verdict("not run", f"{len(runs)} of {LEAST} seeds that {SIMPLE} and {HARD} share", len(runs))
    return runs, None


def _means(runs: pd.DataFrame, metrics: Sequence[str]) -> str:
    """What was measured on the two tasks, in words."""
    parts = (f"{metric} {runs[SIMPLE, metric].mean():.3f} and {runs[HARD, metric].mean():.3f}" for metric in metrics)
    return f"{SIMPLE} and {HARD}: {', '.join(parts)}"


def vorontsov_12(scores: pd.DataFrame) -> Verdict:
    metrics = ("removed", "residual_dice", "residual_share", "mask_share")
    runs, lacking = _both(scores, metrics)
    if lacking:
        return lacking
    simple, hard = runs[SIMPLE], runs[HARD]
    less = minus({SIMPLE: simple["removed"], HARD: hard["removed"]}, SIMPLE, HARD)
    others = [simple["removed"] - 0.7, simple["residual_dice"] - hard["residual_dice"]]
    others += [hard["residual_share"] - 2 * hard["mask_share"]]
    d = [less, *(of.round(DIGITS) for of in others)]
    supported = all(mean(of) > 0 for of in d) and passes(less)
    ours = f"{_means(runs, metrics)}; removed, {SIMPLE} - {HARD} {tested(less)}"
    return Verdict(verdict(supported, some_pass(-of for of in d)), ours, len(runs), *greater(less))


def vorontsov_13(scores: pd.DataFrame) -> Verdict:
    metrics = ("diversity", "entropy")
    runs, lacking = _both(scores, (*metrics, "zeros"))
    if lacking:
        return lacking
    d = (runs[SIMPLE] - runs[HARD])[[*metrics]].round(DIGITS)
    counts = ", ".join(f"{metric} in {(of > 0).sum()}" for metric, of in d.items())
    ours = f"{_means(runs, (*metrics, 'zeros'))}; lower on {HARD}: {counts} of {len(d)} seeds; {EXTENT}"
    return Verdict(verdict((d > 0).all(axis=None), (d < 0).all().any()), ours, len(d), "count")


def vorontsov_14(scores: pd.DataFrame) -> Verdict:
    columns = [(PROPOSED, "contrast_before"), (PROPOSED, "contrast_after")]
    decide, parts = {}, []
    for sequence in ("flair", "t2", "t1", "t1ce"):
        runs, lacking = seeds(scores, BRATS, columns, sequence)
        if lacking and sequence == "flair":
            return lacking
        if lacking:
            parts.append(f"{sequence} not run")
            continue
        before, after = (runs[column] for column in columns)
        parts.append(f"{sequence} {before.mean():.3f} to {after.mean():.3f}")
        if sequence in ("flair", "t2"):
            decide[sequence] = (before / 2 - after).round(DIGITS)
    ours, d = f"contrast {', '.join(parts)}", decide.values()
    if "t2" in decide:
        judged = verdict(all(mean(of) > 0 for of in d), some_pass(-of for of in d))
    else:
        judged, ours = "inconclusive", f"without T2: {ours}"
    return comparable(scores, Verdict(judged, ours, min(map(len, d)), "means"))


def vorontsov_16(scores: pd.DataFrame) -> Verdict:
    columns = {(method, metric): None for _, metric, pairs in PARTS for pair in pairs for method in pair}
    runs, lacking = seeds(scores, HARD, [*columns])
    if lacking:
        return lacking
    judged, parts = [], []
    for what, metric, pairs in PARTS:
        d = [(runs[more, metric] - runs[less, metric]).round(DIGITS) for more, less in pairs]
        judged.append(verdict(all((of > 0).all() for of in d), any((of < 0).all() for of in d)))
        means = (f"{skip} {runs[row, metric].mean():.3g}" for skip, row in TABLE_1B.items() if (row, metric) in columns)
        parts.append(f"{what} {judged[-1]} ({metric}: {', '.join(means)})")
    whole = verdict(False, "contradicted" in judged)  # not all parts are judged
    return Verdict(whole, "; ".join([*parts, UNTIMED]), len(runs), "count")
