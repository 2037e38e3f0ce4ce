"""The claims of Bortsova et al. 2019 as rules on scores.csv; in words, with sources: published.yaml."""

import pandas as pd
from scipy import stats

from fewlabels.papers.bortsova2019.rules_table2 import protocol
from fewlabels.papers.bortsova2019.tables import STOP_GRADIENT, table_1_cells
from fewlabels.scores.statistics import DIGITS, differences, greater, means, run_scores
from fewlabels.scores.verdicts import Verdict, not_run, verdict

ALL = (5, 10, 25, 50, 100)


def _fewest(d, labels):
    """How many differences there are at that of the label counts which has fewest."""
    return int(d.groupby("labels").size().reindex(labels, fill_value=0).min())


def _by_labels(d):
    return ", ".join(f"{labels}: {gain:+.1f}" for labels, gain in means(d).items())


def _runs(scores, metric="miou"):
    """One number a run of Table 1."""
    return run_scores(protocol(scores, "all"), metric)


def _miou(scores, alias_100=False):
    """mIoU a run. With every label SemiTC is SupTC (Table 1's caption): entered under both names if wanted."""
    runs = _runs(scores)
    if not alias_100 or runs.empty:
        return runs
    same = runs[(runs.index.get_level_values("method") == "SupTC") & (runs.index.get_level_values("labels") == 100)]
    return pd.concat([runs, same.rename(index={"SupTC": "SemiTC"}, level="method")])


def bortsova_01(scores):
    d = differences(_miou(scores), "SupTC", "Baseline", ALL)
    n, wins = len(d), int((d > 0).sum())
    if n < 15:
        return not_run(n, 15)
    p = float(stats.binomtest(wins, n, alternative="greater").pvalue)
    supported = wins / n >= 0.96 or (n < 25 and p < 0.05 and wins / n >= 0.8)
    return Verdict(verdict(supported, wins / n <= 0.5), f"better in {wins} of {n}", n, "binomial, one-sided", p)


def bortsova_02(scores):
    d = differences(_miou(scores), "SupTC", "Baseline", ALL)
    if _fewest(d, ALL) < 3:
        return not_run(len(d), 15)
    gains = means(d)
    test, p = greater(-d)
    supported = gains.between(-0.5, 4.5, inclusive="neither").all() and gains.mean() > 0
    contradicted = gains.max() > 9 or (gains.mean() < 0 and p < 0.05)
    return Verdict(verdict(supported, contradicted), f"gain at {_by_labels(d)}", len(d), f"{test}, of a loss", p)


def bortsova_03(scores):
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


def bortsova_04(scores):
    d = differences(_miou(scores), "SemiTC", "SupTC", (5, 10))
    n, wins = len(d), int((d > 0).sum())
    if _fewest(d, (5, 10)) < 5:
        return not_run(n, 10)
    return Verdict(verdict(wins == n, wins / n <= 0.7), f"better in {wins} of {n}", n, "count")


def bortsova_05(scores):
    d = differences(_miou(scores), "SemiTC", "SupTC", (5, 10))
    if _fewest(d, (5, 10)) < 3:
        return not_run(len(d), 6)
    at = {labels: d.xs(labels, level="labels") for labels in (5, 10)}
    tests = {labels: greater(values) for labels, values in at.items()}
    name, p = tests[5][0], max(p for _, p in tests.values())
    supported = at[5].mean() >= 4.5 and at[10].mean() >= 1.65 and p < 0.05
    contradicted = at[5].mean() <= 0 and greater(-at[5])[1] < 0.05
    return Verdict(verdict(supported, contradicted), f"gain at {_by_labels(d)}", len(d), f"{name}, larger p", p)


def bortsova_06(scores):
    d = differences(_miou(scores), "SemiTC", "SupTC", (25, 50))
    shares = (d > 0).groupby("labels").mean().reindex((25, 50))
    if _fewest(d, (25, 50)) < 5:
        return not_run(len(d), 10)
    modest = means(d).between(0, 3, inclusive="neither").all()
    ours = f"better in {shares[25]:.0%} and {shares[50]:.0%}, gain at {_by_labels(d)}"
    return Verdict(verdict((shares >= 0.8).all() and modest, (shares <= 0.4).any()), ours, len(d), "count")


def bortsova_07(scores):
    d = differences(_miou(scores), "SemiTC", "SupTC", ALL[:4])
    if _fewest(d, ALL[:4]) < 3:
        return not_run(len(d), 12)
    gain = means(d)
    rho, p = stats.spearmanr(d.index.get_level_values("labels"), d)
    supported = gain[5] > gain[10] > gain[25] and rho < 0 and p < 0.05
    ours = f"gain at {_by_labels(d)}; correlation {rho:+.2f}"
    return Verdict(verdict(supported, rho > 0 and p < 0.05), ours, len(d), "Spearman", float(p))


def bortsova_08(scores):
    d = differences(_miou(scores, alias_100=True), "SemiTC+", "SemiTC", ALL)
    n, wins = len(d), int((d > 0).sum())
    if n < 15:
        return not_run(n, 15)
    ours = f"better in {wins} of {n}, by {d.mean():+.1f}"
    return Verdict(verdict(wins / n >= 0.8 and d.mean() > 0, wins / n <= 0.5), ours, n, "count")


def bortsova_09(scores):
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
    return Verdict(verdict(supported, contradicted), ours, len(consistency), "means")


def bortsova_18(scores):
    d = differences(_miou(scores), "SemiTC", STOP_GRADIENT, (5, 10))
    if _fewest(d, (5, 10)) < 5:
        return not_run(len(d), 10)
    test, p = greater(d)
    contradicted = d.mean() < 0 and greater(-d)[1] < 0.05
    ours = f"ours alone, nothing published: {d.mean():+.2f} (at {_by_labels(d)})"
    return Verdict(verdict(d.mean() > 0 and p < 0.05, contradicted), ours, len(d), test, p)


def bortsova_19(scores):
    d = differences(_miou(scores), "SemiTC", "Baseline", ALL[:4])
    if len(d) < 15 or 5 not in d.index.get_level_values("labels"):
        return not_run(len(d), 15)
    test, p = greater(d)
    supported = p < 0.05 and d.xs(5, level="labels").mean() >= 5.6
    contradicted = d.mean() < 0 and greater(-d)[1] < 0.05
    return Verdict(verdict(supported, contradicted), f"gain at {_by_labels(d)}", len(d), test, p)


def bortsova_20(scores):
    runs = _runs(scores)
    cells = table_1_cells(runs) if len(runs) else pd.DataFrame(columns=["ours_mean", "paper_mean", "paper_sd"])
    cells = cells.dropna(subset=["ours_mean", "paper_mean"])
    off = (cells["ours_mean"] - cells["paper_mean"]).abs().astype(float).round(DIGITS)
    agree = off <= (2 * cells["paper_sd"]).clip(lower=1.0)
    why = "decimals are judged on the official radiographs at 512 px only; without that"
    return Verdict("not run", f"{why}, {agree.sum()} of {len(cells)} cells agree", len(cells))
