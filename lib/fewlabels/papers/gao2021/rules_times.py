"""Claims 10 to 12 of Gao et al. 2021, on training times (Table 1), as rules on scores.csv."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from fewlabels.papers.gao2021.rules_oar import SINGLES
from fewlabels.scores.statistics import DIGITS
from fewlabels.scores.verdicts import Verdict, verdict

TIMED = "ResNet-50"
ORGANS = Verdict("not run", "a claim on skin lesions; these are scores of organs at risk")
RATIOS = {"Comb": 2.07, "Fast AA": 2.83, "cGAN": 6.23, "RandAug": 12}  # published times, over no-aug's
UNTIMED = "no sweep writes them (make bench, case I, times steps)"


def _times(scores: pd.DataFrame, methods: Iterable[str]) -> tuple[Any, Any, Verdict | None]:
    """`({method: time over that of no-aug}, {method: parts in words}, None)`; or `(None, None, not run)`."""
    if "backbone" not in scores:
        return None, None, ORGANS
    timed = scores[(scores["metric"] == "seconds_ratio") & (scores["backbone"] == TIMED)]
    ratios: Any = timed.groupby(["structure", "method"])["value"].median().dropna().round(DIGITS)
    total = {method: ratios.get(("all", method)) for method in methods}
    if none := ", ".join(method for method, ratio in total.items() if ratio is None):
        why = f"no training times (seconds_ratio, {TIMED}, on a GPU) of {none}; {UNTIMED}"
        return None, None, Verdict("not run", why)
    parts: dict[str, list[str]] = {}
    for (part, method), ratio in ratios.items():
        if part != "all":
            parts.setdefault(method, []).append(f"{part} {ratio:.2f}")
    return total, {method: f" ({', '.join(of)})" for method, of in parts.items()}, None


def gao_10(scores: pd.DataFrame) -> Verdict:
    times, _, lacking = _times(scores, SINGLES)
    if lacking:
        return lacking
    slowest = max(times.values())
    ours = f"{', '.join(f'{single} {time:.2f}' for single, time in times.items())} (published 1.57)"
    ours += "; better than published" if slowest <= 1.5 else ""
    return Verdict(verdict(slowest <= 1.65, slowest > 1.9), ours, len(times), "medians")


def gao_11(scores: pd.DataFrame) -> Verdict:
    times, _, lacking = _times(scores, ("Comb",))
    if lacking:
        return lacking
    [time] = times.values()
    return Verdict(verdict(time <= 2.2, time > 2.5), f"Comb {time:.2f} (published 2.07)", 1, "medians")


def gao_12(scores: pd.DataFrame) -> Verdict:
    times, parts, lacking = _times(scores, RATIOS)
    if lacking:
        return lacking
    ours, *others = times.values()
    supported = ours < others[0] < others[1] < others[2]
    each_time = (f"{m} {time:.2f}{parts.get(m, '')}, published {RATIOS[m]}" for m, time in times.items())
    return Verdict(verdict(supported, ours > min(others)), "; ".join(each_time), len(times), "medians")
