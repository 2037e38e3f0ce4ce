"""Claims 5 to 7, 9 and 17 of Malfliet & Bakker 2021, on networks that collapse, as rules on scores.csv.

And what these and the other claims share.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from scipy import stats

from fewlabels.scores.statistics import DIGITS
from fewlabels.scores.verdicts import Verdict, verdict

SEEDS = 3  # that a claim needs where its own words do not say fewer
RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
COLLAPSING = ("noise", "rotation")
COLLAPSED_LOSS = 14.506  # 0.9 * -ln(1e-7)
UNCLIPPED = ("corrected", "legacy_inference_mode")  # modes by what is done to the KL
CLIPPED = ("kl_clip", "kl_clip+legacy_inference_mode")


def of_runs(
    scores: pd.DataFrame, mode: str, transforms: Sequence[str], methods: Sequence[str],
    metrics: Sequence[str] = ("accuracy",), least: int = SEEDS,
) -> tuple[Any, Verdict | None]:  # fmt: skip
    """`({transform: frame}, None)`: a row for each seed that all the methods have, columns (metric, method).

    Or `(None, not run)` where a transform has too few of them, or a method several learning rates.
    """
    named = scores[(scores["mode"] == mode) & scores["transform"].isin(transforms) & scores["method"].isin(methods)]
    tried: Any = named.groupby(["transform", "method"])["learning_rate"].unique()
    for (transform, method), rates in tried.items():
        if len(rates) > 1:
            return None, Verdict("not run", f"{method} has several learning rates for {transform}: {listed(rates)}")
    columns = pd.MultiIndex.from_product([metrics, methods])
    values = named.groupby(["transform", "labels", "seed", "metric", "method"])["value"].mean()
    wide = values.unstack(["metric", "method"]).reindex(columns=columns).dropna().round(DIGITS)
    runs = {t: wide[wide.index.get_level_values("transform") == t] for t in transforms}
    if few := [f"{t} {len(of_t)}" for t, of_t in runs.items() if len(of_t) < least]:
        why = f"too few seeds with {' and '.join(methods)}: {', '.join(few)} of {least}"
        return None, Verdict("not run", why, len(wide))
    return runs, None


def at_rates(scores: pd.DataFrame) -> pd.DataFrame:
    """The same scores, each method named after its learning rate too."""
    return scores.assign(method=scores["method"] + scores["learning_rate"].map(" at {:g}".format))


def count(runs: Mapping[Any, pd.DataFrame | pd.Series]) -> int:
    return sum(len(of_t) for of_t in runs.values())


def collapsed_in(runs: pd.DataFrame, method: str) -> pd.Series:
    """Which runs are consistent and no better than chance."""
    return runs["accuracy", method].between(8, 12) & (runs["consistency", method] >= 99)


def listed(rates: Iterable[float]) -> str:
    return ", ".join(f"{rate:g}" for rate in sorted(rates))


def tudelft_05(scores: pd.DataFrame, mode: str) -> Verdict:
    runs, lacking = of_runs(scores, mode, COLLAPSING, ("SemiCT",), ("accuracy", "consistency", "loss_sup"), least=1)
    if lacking:
        return lacking
    collapsed = {t: collapsed_in(of_t, "SemiCT") for t, of_t in runs.items()}
    near = {t: (of_t["loss_sup", "SemiCT"] - COLLAPSED_LOSS).abs().round(DIGITS) <= 0.3 for t, of_t in runs.items()}
    as_published = {t: collapsed[t] & near[t] for t in runs}
    supported = all(of_t.any() for of_t in as_published.values())
    contradicted = not any(of_t.any() for of_t in collapsed.values()) and min(map(len, runs.values())) >= SEEDS
    named = (scores["mode"] == mode) & (scores["method"] == "SemiCT") & scores["transform"].isin(COLLAPSING)
    counts = [f"{t} {collapsed[t].sum()} of {len(runs[t])} ({as_published[t].sum()} at that loss)" for t in runs]
    ours = f"collapsed at rate {listed(scores.loc[named, 'learning_rate'].unique())}: {', '.join(counts)}"
    return Verdict(verdict(supported, contradicted), ours, count(runs), "count")


def tudelft_06(scores: pd.DataFrame, mode: str) -> Verdict:
    runs, lacking = of_runs(scores, mode, ("shift",), ("SemiCT",), ("accuracy", "consistency"))
    if lacking:
        return lacking
    above, collapsed = runs["shift"]["accuracy", "SemiCT"] > 50, collapsed_in(runs["shift"], "SemiCT")
    ours = f"accuracy above 50 % in {above.sum()} of {len(above)}, collapsed in {collapsed.sum()}"
    return Verdict(verdict(above.all(), collapsed.any()), ours, len(above), "count")


def tudelft_07(scores: pd.DataFrame, mode: str) -> Verdict:
    collapsed, above = {}, {}
    for rate in RATES:
        method = f"SemiCT at {rate:g}"
        runs, lacking = of_runs(at_rates(scores), mode, COLLAPSING, (method,), ("accuracy", "consistency"), least=1)
        if lacking:
            return lacking
        both = pd.concat(runs.values())
        collapsed[rate], above[rate] = collapsed_in(both, method), both["accuracy", method] > 50
    supported = all(of_rate.all() for of_rate in collapsed.values())
    contradicted = any(above[rate].any() for rate in RATES if rate <= 1e-3)
    counts = ", ".join(f"{sum(of_rate)} of {len(of_rate)} at {rate:g}" for rate, of_rate in collapsed.items())
    return Verdict(verdict(supported, contradicted), f"collapsed: {counts}", count(collapsed), "count")


def tudelft_09(scores: pd.DataFrame, mode: str) -> Verdict:
    runs, lacking = of_runs(scores, mode, COLLAPSING, ("SemiCT", "SemiTCE"), ("accuracy", "consistency"))
    if lacking:
        return lacking
    fallen = {t: of_t[collapsed_in(of_t, "SemiCT")] for t, of_t in runs.items()}
    if not count(fallen):
        return Verdict("not run", f"SemiCT collapsed in none of {count(runs)}")
    both = pd.concat(fallen.values())
    repaired, again = both["accuracy", "SemiTCE"] > 50, collapsed_in(both, "SemiTCE")
    counts = ", ".join(f"{t} {len(of_t)} of {len(runs[t])}" for t, of_t in fallen.items())
    ours = f"SemiCT collapsed in {counts}; there SemiTCE is above 50 % in {repaired.sum()}, collapsed in {again.sum()}"
    return Verdict(verdict(repaired.all(), again.all()), ours, len(both), "count")


def tudelft_17(scores: pd.DataFrame, mode: str) -> Verdict:
    scores = scores.assign(mode=scores["mode"].map(lambda switches: "+".join(sorted(switches.split("+")))))
    methods, collapsed = ("SemiCT", "SemiTCE"), {}
    for switches in UNCLIPPED + CLIPPED:
        runs, lacking = of_runs(scores, switches, COLLAPSING, methods, ("accuracy", "consistency"))
        if lacking:
            return replace(lacking, ours=f"{switches}: {lacking.ours}")
        both = pd.concat(runs.values())
        collapsed[switches] = pd.DataFrame({method: collapsed_in(both, method) for method in methods})
    unclipped, clipped = (pd.concat([collapsed[switches] for switches in kind]) for kind in (UNCLIPPED, CLIPPED))
    p = float(stats.fisher_exact([unclipped.sum(), (~unclipped).sum()], alternative="greater").pvalue)
    only_clipped = clipped.any(axis=None) and not unclipped.any(axis=None)
    counts = (f"{s} {c['SemiCT'].sum()} and {c['SemiTCE'].sum()} of {len(c)}" for s, c in collapsed.items())
    ours, n = f"collapsed, SemiCT and SemiTCE: {'; '.join(counts)}", unclipped.size + clipped.size
    return Verdict(verdict(p < 0.05, only_clipped), ours, n, "Fisher's exact, one-sided, without the clip", p)
