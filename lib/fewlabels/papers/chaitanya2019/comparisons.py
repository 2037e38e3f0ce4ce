"""Comparisons of two rows of Chaitanya et al. 2019, Table 1, for the rules on its claims.

A comparison is (better, than): two rows, of which the first is said to have the higher Dice. Its differences `d` at one
number of labelled volumes N_L: a row for each run and test subject that both have, a column a structure.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import pandas as pd

from fewlabels.scores.paired import least_clear, signed
from fewlabels.scores.statistics import DIGITS, Test, greater, holm, over_runs, over_subjects
from fewlabels.scores.verdicts import Verdict

Frame = TypeVar("Frame", pd.DataFrame, pd.Series)
Found = Mapping[tuple[str, str, int], pd.DataFrame]  # d of (better, than, N_L)

VOLUMES = (1, 3)  # N_L
STRUCTURES = ("right ventricle", "myocardium", "left ventricle")
FIRST = STRUCTURES[0]  # of Table 1, inferred
LEAST = 3  # labelled sets, and test subjects
RUN = ["labels", "split", "seed"]


def pairs(
    scores: pd.DataFrame, comparisons: Iterable[tuple[str, str]], volumes: Sequence[int] = VOLUMES
) -> tuple[Any, Verdict | None]:
    """`({(better, than, N_L): d}, None)`, or `(None, not run)` where one of the comparisons has too little."""
    dice = dice_of(scores)
    found: dict[tuple[str, str, int], pd.DataFrame] = {}
    for better, than in comparisons:
        d = (of_method(dice, better) - of_method(dice, than)).dropna()
        found |= {(better, than, n): at(d, n) for n in volumes}
    lacking = too_few({f"{better} and {than} at {n}": d for (better, than, n), d in found.items()})
    return (None, lacking) if lacking else (found, None)


def dice_of(scores: pd.DataFrame) -> pd.DataFrame:
    values = scores[scores["metric"] == "dice"].groupby(["method", *RUN, "subject", "structure"])["value"].mean()
    return values.astype(float).unstack("structure").reindex(columns=STRUCTURES)


def metric_of(scores: pd.DataFrame, metric: str) -> pd.Series:
    """One number a run."""
    return scores[scores["metric"] == metric].groupby(["method", *RUN])["value"].mean().astype(float)


def of_method(values: Frame, method: str) -> Frame:
    return values[values.index.get_level_values("method") == method].droplevel("method")


def at(values: Frame, n: int) -> Frame:
    return values[values.index.get_level_values("labels") == n]


def too_few(found: Mapping[str, pd.DataFrame | pd.Series]) -> Verdict | None:
    """Not run, if any of `{what: values}` has too few labelled sets or test subjects; else None."""
    few = []
    for what, values in found.items():
        counts = [len(values.index.unique(level)) for level in ("split", "subject") if level in values.index.names]
        if min(counts) < LEAST:
            few.append(f"{what}: {' and '.join(map(str, counts))} of {LEAST}")
    more = f"; {len(few) - 1} more" if len(few) > 1 else ""
    return Verdict("not run", f"too few labelled sets (and test subjects) with {few[0]}{more}") if few else None


def mean_of(d: pd.DataFrame) -> float:
    return round(float(over_subjects(d).mean(axis=None)), DIGITS)


def significance(d: pd.DataFrame, of: int = 1) -> Test:
    """Name and p of the test: below 0.05 where the differences are above 0 over subjects in at least 2 of the 3
    structures (the second smallest of Holm's p), and over labelled sets in the mean over structures."""
    return least_clear([_over_subjects(d, of), _over_sets(d, of)])


def _over_subjects(d: pd.DataFrame, of: int = 1) -> Test:
    names, p = zip(*(greater(values, of * len(STRUCTURES)) for _, values in over_subjects(d).items()))
    return f"{names[0]}, over subjects, Holm", sorted(holm(p))[1]


def of_sets(d: Frame) -> Frame:
    """Means over the seeds of each labelled set (and subject): sets are what differ."""
    return d.groupby([name for name in d.index.names if name != "seed"]).mean()


def _over_sets(d: pd.DataFrame, of: int = 1) -> Test:
    name, p = greater(over_runs(of_sets(d.mean(axis=1))), of)
    return f"{name}, over labelled sets", p


def p_of(d: pd.DataFrame) -> float:
    return significance(d)[1]


def above(d: pd.DataFrame) -> bool:
    """Are the differences significantly above 0?"""
    return mean_of(d) > 0 and p_of(d) < 0.05


def clearest(several: Iterable[pd.DataFrame]) -> tuple[str, Any, bool]:
    """Name and p of that of several differences which is most clearly above 0, Holm's once more; is it?"""
    several = [*several]
    tests = [significance(d, len(several)) for d in several]
    p = holm([of for _, of in tests])
    above = any(mean_of(d) > 0 and of < 0.05 for d, of in zip(several, p))
    return tests[0][0], min(p, default=None), above


def some_above(several: Iterable[pd.DataFrame]) -> bool:
    """Is one of several differences significantly above 0?"""
    several = [*several]
    return bool(several) and clearest(several)[2]


def least_n(found: Found) -> int:
    """Test subjects, where there are fewest."""
    return min(len(d.index.unique("subject")) for d in found.values())


def said_of(found: Found) -> str:
    """The evidence: mean difference, p over subjects, p over labelled sets."""
    parts: dict[str, list[str]] = {}
    for (better, than, n), d in found.items():
        sets = f"over {len(over_runs(of_sets(d)))} sets {_over_sets(d)[1]:.2g}"
        ours = f"{signed(mean_of(d))} at {n} (p {_over_subjects(d)[1]:.2g}; {sets})"
        parts.setdefault(f"{better} - {than}", []).append(ours)
    return "; ".join(f"{what} {', '.join(ours)}" for what, ours in parts.items())


def beside(scores: pd.DataFrame, comparison: tuple[str, str], volumes: Sequence[int] = VOLUMES) -> str:
    """Evidence on what does not decide, or why there is none."""
    found, lacking = pairs(scores, [comparison], volumes)
    return lacking.ours if lacking else said_of(found)
