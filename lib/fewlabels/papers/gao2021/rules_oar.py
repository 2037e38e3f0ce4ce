"""Claims 13 to 17 of Gao et al. 2021, on organs at risk (Table 2), as rules on scores.csv.

Differences `d` of two rows: one for each test patient and seed; TEST is over both.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from fewlabels.scores.paired import (
    LEAST,
    above_each,
    absent,
    clearest,
    each,
    least_clear,
    mean,
    minus,
    paired,
    passes,
    some_pass,
    tested,
)
from fewlabels.scores.published import margin
from fewlabels.scores.statistics import DIGITS, greater, inside
from fewlabels.scores.verdicts import Verdict, verdict

SINGLES = ("Affine", "Deform", "Appear")
OUTSIDE = ("Baseline", "nnUNet Full", "nnUNet Reduce", "cGAN")
OPERATORS = (  # of `augment.nnunet.settings`, which needs batchgenerators to say it; chances in brackets
    "Full and Reduce, nnunet v1: elastic of alpha 0 to 900 and sigma 9 to 13 (0.2), rotation by up to 15 degrees "
    "(0.2), scale 0.85 to 1.25 (0.2), noise of sd 0 to 0.1 of labelled voxels' (0.1), Full also gamma 0.7 to 1.5 (0.3)"
    "; class defaults: elastic (alpha 0 to 1000, sigma 10 to 13), rotation by any angle, scale 0.75 to 1.25, "
    "noise of sd 0 to 0.1, each in every patch, Full also gamma 0.5 to 2"
)


def _dice(scores: pd.DataFrame, methods: Sequence[str]) -> tuple[Any, Verdict | None]:
    """`(frame, None)`: a line for each seed and patient of all methods, a column a method; or `(None, not run)`."""
    if "backbone" in scores:
        return None, Verdict("not run", "an OAR claim; these are scores of skin lesions")
    columns = [(method, "mean_dice") for method in methods]
    dice = paired(scores, columns, ["seed", "subject"], ["seed", "subject"]).droplevel(1, axis=1)
    if _seeds(dice) < LEAST:
        few = Verdict("not run", f"{_seeds(dice)} of {LEAST} seeds with {' and '.join(methods)}", _seeds(dice))
        return None, absent(scores, columns) or few
    return dice, None


def _seeds(dice: pd.DataFrame) -> int:
    return len(dice.index.unique("seed"))


def gao_13(scores: pd.DataFrame) -> Verdict:
    dice, lacking = _dice(scores, ("Comb", *SINGLES, *OUTSIDE))
    if lacking:
        return lacking
    d = {row: minus(dice, "Comb", row) for row in (*SINGLES, *OUTSIDE)}
    best = min(OUTSIDE, key=lambda row: mean(d[row]))
    supported = all(mean(of) > 0 for of in d.values()) and passes(d[best])
    contradicted = some_pass(-of for of in d.values())
    ours = f"{each(dice)}; Comb - {best} {tested(d[best])}"
    return Verdict(verdict(supported, contradicted), ours, _seeds(dice), *greater(d[best]))


def gao_14(scores: pd.DataFrame) -> Verdict:
    dice, lacking = _dice(scores, ("Affine", "cGAN"))
    if lacking:
        return lacking
    found = above_each(dice, "Affine", ("cGAN",), f"{each(dice)}; ")
    beside, lacking = _dice(scores, ("Deform", "cGAN"))
    deform = "not run" if lacking else tested(minus(beside, "Deform", "cGAN"))
    return replace(found, ours=f"{found.ours}; beside it Deform - cGAN {deform}")


def gao_15(scores: pd.DataFrame) -> Verdict:
    dice, lacking = _dice(scores, (*SINGLES, "nnUNet Full", "nnUNet Reduce"))
    if lacking:
        return lacking
    full, reduced = ({s: minus(dice, s, f"nnUNet {kind}") for s in SINGLES} for kind in ("Full", "Reduce"))
    least, most = margin("gao2021", "gao-15")  # which has no upper end: better is competitive too
    test = least_clear(inside(d, least, most) for d in (*full.values(), *reduced.values()))
    supported = test[1] < 0.05 and all(mean(d) >= 0 for d in full.values())
    contradicted = some_pass([*(-d for d in full.values()), *((least - d).round(DIGITS) for d in reduced.values())])
    gaps = (f"{s} - Full {tested(full[s])}, - Reduce {tested(reduced[s])}" for s in SINGLES)
    return Verdict(verdict(supported, contradicted), "; ".join(gaps), _seeds(dice), *test)


def gao_16(scores: pd.DataFrame) -> Verdict:
    dice, lacking = _dice(scores, ("nnUNet Reduce", "nnUNet Full"))
    if lacking:
        return lacking
    found = above_each(dice, "nnUNet Reduce", ("nnUNet Full",), f"{each(dice)}; ")
    return replace(found, ours=f"{found.ours}. {OPERATORS}")


def gao_17(scores: pd.DataFrame) -> Verdict:
    methods = (*OUTSIDE[1:], *SINGLES, "Comb")
    dice, lacking = _dice(scores, ("Baseline", *methods))
    if lacking:
        return lacking
    d = [minus(dice, method, "Baseline") for method in methods]
    supported = all(mean(of) > 0 for of in d) and some_pass(d, 5)
    ours = "; ".join(f"{method} {tested(of)}" for method, of in zip(methods, d))
    judged = verdict(supported, some_pass(-of for of in d))
    return Verdict(judged, f"above Baseline: {ours}", _seeds(dice), *clearest(d, 5))
