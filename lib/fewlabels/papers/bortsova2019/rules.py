"""The claims of Bortsova et al. 2019 as rules on scores.csv; in words, with sources: published.yaml.

Differences `d` of two rows: one for each image and run; counts are of runs, tests over both (`statistics.greater`).
"""

from collections.abc import Sequence

import pandas as pd
from scipy import stats

from fewlabels.papers.bortsova2019.rules_table2 import protocol
from fewlabels.papers.bortsova2019.tables import PAPER, STOP_GRADIENT, table_1_cells
from fewlabels.scores.paired import least_clear, mean, passes, tested
from fewlabels.scores.published import margin
from fewlabels.scores.statistics import (
    DIGITS,
    Test,
    differences,
    greater,
    inside,
    interval,
    means,
    over_runs,
    over_subjects,
    run_scores,
)
from fewlabels.scores.verdicts import Verdict, not_run, verdict

ALL = (5, 10, 25, 50, 100)


def _fewest(d: pd.Series, labels: Sequence[int]) -> int:
    """How many differences there are at that of the label counts which has fewest."""
    return int(over_runs(d).groupby("labels").size().reindex([*labels], fill_value=0).min())


def _at(d: pd.Series, labels: Sequence[int] | int) -> pd.Series:
    return d[d.index.get_level_values("labels") == labels]


def _wins(d: pd.Series) -> pd.Series:
    """Is the first of two rows better? Of each run."""
    return over_runs(d) > 0


def _modest(d: pd.Series, labels: Sequence[int], claim: str) -> Test:
    """Name and p of that label count at which the mean is least surely within the claim's margin (TOST)."""
    return least_clear(inside(_at(d, n), *margin(PAPER, claim)) for n in labels)


def _by_labels(d: pd.Series) -> str:
    return ", ".join(f"{labels}: {gain:+.1f}" for labels, gain in means(d).items())


def _bounded(d: pd.Series) -> str:
    """Gains by label count with the 90 % intervals over runs that a margin is about."""
    found = {n: interval(_at(d, n)) for n in means(d).index}
    return ", ".join(f"{n}: {means(d)[n]:+.1f} ({low:+.1f} to {high:+.1f})" for n, (low, high) in found.items())


def _runs(scores: pd.DataFrame, metric: str = "miou") -> pd.Series:
    """One number a run of Table 1."""
    return run_scores(protocol(scores, "all"), metric)


def _miou(scores: pd.DataFrame, alias_100: bool = False) -> pd.Series:
    """mIoU an image and run. With every label SemiTC is SupTC (Table 1's caption): under both names if wanted."""
    runs = run_scores(protocol(scores, "all"), subjects=True)
    if not alias_100 or runs.empty:
        return runs
    same = runs[(runs.index.get_level_values("method") == "SupTC") & (runs.index.get_level_values("labels") == 100)]
    return pd.concat([runs, same.rename(index={"SupTC": "SemiTC"}, level="method")])


def bortsova_01(scores: pd.DataFrame) -> Verdict:
    d = differences(_miou(scores), "SupTC", "Baseline", ALL)
    n, wins = len(_wins(d)), int(_wins(d).sum())
    if n < 15:
        return not_run(n, 15)
    p = float(stats.binomtest(wins, n, alternative="greater").pvalue)
    supported = wins / n >= 0.96 or (n < 25 and p < 0.05 and wins / n >= 0.8)
    judged = verdict(supported and passes(over_subjects(d)), wins / n <= 0.5)
    name, of_images = greater(over_subjects(d))
    ours = f"better in {wins} of {n}, by {tested(over_subjects(d))} over images"
    test, p = least_clear([("binomial, one-sided", p), (f"{name}, over images", of_images)])
    return Verdict(judged, ours, n, test, p)


def bortsova_02(scores: pd.DataFrame) -> Verdict:
    d = differences(_miou(scores), "SupTC", "Baseline", ALL)
    if _fewest(d, ALL) < 3:
        return not_run(len(_wins(d)), 15)
    gains, (test, p) = means(d), _modest(d, ALL, "bortsova-02")
    contradicted = gains.max() > 9 or passes(-d)
    found = verdict(p < 0.05 and gains.mean() > 0, contradicted)
    return Verdict(found, f"gain at {_bounded(d)}", len(_wins(d)), f"{test}, largest p", p)


def bortsova_03(scores: pd.DataFrame) -> Verdict:
    sup = differences(_runs(scores, "loss_sup"), "SupTC", "Baseline")
    cons = differences(_runs(scores, "loss_cons"), "SupTC", "Baseline")
    n = len(sup)
    if n < 5:
        return not_run(n, 5)
    # the total is sup + cons: lambda is 1 in the paper and in every profile
    not_lower, cons_lower, total_lower = (sup >= -0.005).mean(), (cons < 0).mean(), (sup + cons < 0).mean()
    ours = f"L_sup not lower in {not_lower:.0%}, L_cons lower in {cons_lower:.0%}, total lower in {total_lower:.0%}"
    supported = not_lower > 0.5 and cons_lower >= 0.9 and total_lower >= 0.9
    return Verdict(verdict(supported, (sup < -0.005).mean() >= 0.8), ours, n, "count")


def bortsova_04(scores: pd.DataFrame) -> Verdict:
    d = differences(_miou(scores), "SemiTC", "SupTC", (5, 10))
    n, wins = len(_wins(d)), int(_wins(d).sum())
    if _fewest(d, (5, 10)) < 5:
        return not_run(n, 10)
    return Verdict(verdict(wins == n, wins / n <= 0.7), f"better in {wins} of {n}", n, "count")


def bortsova_05(scores: pd.DataFrame) -> Verdict:
    d = differences(_miou(scores), "SemiTC", "SupTC", (5, 10))
    if _fewest(d, (5, 10)) < 3:
        return not_run(len(_wins(d)), 6)
    at_5, at_10 = _at(d, 5), _at(d, 10)
    name, p = least_clear(map(greater, (at_5, at_10)))
    supported = mean(at_5) >= 4.5 and mean(at_10) >= 1.65 and p < 0.05
    found = verdict(supported, passes(-at_5))
    return Verdict(found, f"gain at {_by_labels(d)}", len(_wins(d)), f"{name}, larger p", p)


def bortsova_06(scores: pd.DataFrame) -> Verdict:
    d = differences(_miou(scores), "SemiTC", "SupTC", (25, 50))
    shares = _wins(d).groupby("labels").mean().reindex((25, 50))
    if _fewest(d, (25, 50)) < 5:
        return not_run(len(_wins(d)), 10)
    test, p = _modest(d, (25, 50), "bortsova-06")
    supported = (shares >= 0.8).all() and p < 0.05 and (means(d) > 0).all()
    ours = f"better in {shares[25]:.0%} and {shares[50]:.0%}, gain at {_bounded(d)}"
    found = verdict(supported, (shares <= 0.4).any())
    return Verdict(found, ours, len(_wins(d)), f"count; {test}, larger p", p)


def _correlation(d: pd.Series) -> tuple[float, float]:
    """Spearman's, of gains with label counts, and its p."""
    if d.nunique() == 1:  # SciPy has none
        return 0.0, 1.0
    rho, p = stats.spearmanr(d.index.get_level_values("labels"), d)
    return float(rho), float(p)


def bortsova_07(scores: pd.DataFrame) -> Verdict:
    d = differences(_miou(scores), "SemiTC", "SupTC", ALL[:4])
    if _fewest(d, ALL[:4]) < 3:
        return not_run(len(_wins(d)), 12)
    gain, of_images = means(d), d.groupby(["labels", "subject"]).mean()
    (rho, over), (of_images, p) = map(_correlation, (over_runs(d), of_images))
    p = max(p, over)
    supported = gain[5] > gain[10] > gain[25] and max(rho, of_images) < 0 and p < 0.05
    ours = f"gain at {_by_labels(d)}; correlation {rho:+.2f}, over images {of_images:+.2f}"
    found = verdict(supported, min(rho, of_images) > 0 and p < 0.05)
    return Verdict(found, ours, len(_wins(d)), "Spearman, over runs and over images, larger p", p)


def bortsova_08(scores: pd.DataFrame) -> Verdict:
    d = differences(_miou(scores, alias_100=True), "SemiTC+", "SemiTC", ALL)
    n, wins = len(_wins(d)), int(_wins(d).sum())
    if n < 15:
        return not_run(n, 15)
    (low, high), small = interval(d), inside(d, *margin(PAPER, "bortsova-08"))
    test, p = least_clear([greater(d), small])
    ours = f"better in {wins} of {n}, by {mean(d):+.1f} ({low:+.1f} to {high:+.1f})"
    supported = wins / n >= 0.8 and passes(d) and small[1] < 0.05
    return Verdict(verdict(supported, wins / n <= 0.5), ours, n, f"count; {test}", p)


def bortsova_09(scores: pd.DataFrame) -> Verdict:
    runs = _miou(scores)
    d = {m: differences(runs, m, "SupTC", (5, 10, 25)) for m in ("SemiTC", "SemiTC+")}
    consistency = differences(runs, "SupTC", "Baseline", (5, 10, 25))
    fewest = min(_fewest(v, (5, 10, 25)) for v in (*d.values(), consistency))
    if fewest < 3:
        return not_run(int(fewest) * 3, 9)
    gain, by_consistency = {m: means(v) for m, v in d.items()}, means(consistency)
    supported = all((v > by_consistency).all() for v in gain.values())
    contradicted = all((v < by_consistency)[[5, 10]].all() for v in gain.values())
    ours = (
        "; ".join(f"{m} - SupTC {_by_labels(v)}" for m, v in d.items())
        + f"; SupTC - Baseline {_by_labels(consistency)}"
    )
    return Verdict(verdict(supported, contradicted), ours, len(_wins(consistency)), "means")


def bortsova_18(scores: pd.DataFrame) -> Verdict:
    d = differences(_miou(scores), "SemiTC", STOP_GRADIENT, (5, 10))
    if _fewest(d, (5, 10)) < 5:
        return not_run(len(_wins(d)), 10)
    ours = f"ours alone, nothing published: {mean(d):+.2f} (at {_by_labels(d)})"
    return Verdict(verdict(passes(d), passes(-d)), ours, len(_wins(d)), *greater(d))


def bortsova_19(scores: pd.DataFrame) -> Verdict:
    d = differences(_miou(scores), "SemiTC", "Baseline", ALL[:4])
    if len(_wins(d)) < 15 or 5 not in d.index.get_level_values("labels"):
        return not_run(len(_wins(d)), 15)
    supported = greater(d)[1] < 0.05 and mean(_at(d, 5)) >= 5.6
    return Verdict(verdict(supported, passes(-d)), f"gain at {_by_labels(d)}", len(_wins(d)), *greater(d))


def bortsova_20(scores: pd.DataFrame) -> Verdict:
    runs = _runs(scores)
    cells = table_1_cells(runs) if len(runs) else pd.DataFrame(columns=["ours_mean", "paper_mean", "paper_sd"])
    cells = cells.dropna(subset=["ours_mean", "paper_mean"])
    off = (cells["ours_mean"] - cells["paper_mean"]).abs().astype(float).round(DIGITS)
    agree = off <= (2 * cells["paper_sd"]).clip(lower=1.0)
    why = "decimals are judged on the official radiographs at 512 px only; without that"
    return Verdict("not run", f"{why}, {agree.sum()} of {len(cells)} cells agree", len(cells))
