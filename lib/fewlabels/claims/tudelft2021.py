"""The claims of Malfliet & Bakker 2021 as rules on scores.csv; in words, with sources: published/tudelft2021.yaml.

Each judges the runs of one of MODES; claims 17 and 18 are about no one mode and say the same in each.
"""

from dataclasses import replace

import pandas as pd
import torch
from scipy import stats

from fewlabels.experiments.cifar10_tables import METHODS, TRANSFORMS
from fewlabels.ledger import DIGITS, Verdict, greater, verdict
from fewlabels.models.convsmall import ConvSmall

MODES = ("corrected", "legacy")
SEEDS = 3  # that a claim needs where its own words do not say fewer
EPOCHS = 120
RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
COLLAPSING = ("noise", "rotation")
COLLAPSED_LOSS = 14.506  # 0.9 * -ln(1e-7)
UNCLIPPED = ("corrected", "legacy_inference_mode")  # modes by what is done to the KL
CLIPPED = ("kl_clip", "kl_clip+legacy_inference_mode")
# Parameters of each layer, running statistics included.
APPENDIX_A = (2688, 384, 83040, 384, 83040, 384, 166080, 768, *(331968, 768) * 3, *(37056, 768) * 2, 1930)
TRAINABLE = 1_409_674


def _runs(scores, mode, transforms, methods, metrics=("accuracy",), least=SEEDS):
    """`({transform: frame}, None)`: a row for each seed that all the methods have, columns (metric, method).

    Or `(None, not run)` where a transform has too few of them, or a method several learning rates.
    """
    named = scores[(scores["mode"] == mode) & scores["transform"].isin(transforms) & scores["method"].isin(methods)]
    for (transform, method), rates in named.groupby(["transform", "method"])["learning_rate"].unique().items():
        if len(rates) > 1:
            return None, Verdict("not run", f"{method} has several learning rates for {transform}: {_rates(rates)}")
    columns = pd.MultiIndex.from_product([metrics, methods])
    values = named.groupby(["transform", "labels", "seed", "metric", "method"])["value"].mean()
    wide = values.unstack(["metric", "method"]).reindex(columns=columns).dropna().round(DIGITS)
    runs = {t: wide[wide.index.get_level_values("transform") == t] for t in transforms}
    if few := [f"{t} {len(of_t)}" for t, of_t in runs.items() if len(of_t) < least]:
        why = f"too few seeds with {' and '.join(methods)}: {', '.join(few)} of {least}"
        return None, Verdict("not run", why, len(wide))
    return runs, None


def _whole_curves(scores, mode, methods, metrics):
    """As `_runs`, for every transform; not run where a learning curve is shorter than the report's."""
    curves, lacking = _runs(scores, mode, TRANSFORMS, methods, ("epochs",), least=0)
    if lacking:
        return None, lacking
    epochs = pd.concat(curves.values()).min(axis=None)
    if epochs < round(0.99 * EPOCHS, DIGITS):
        return None, Verdict("not run", f"{epochs:.4g} of the report's {EPOCHS} epochs", _n(curves))
    runs, lacking = _runs(scores, mode, TRANSFORMS, methods, ("epochs", *metrics))
    if lacking and _n(curves):
        lacking = replace(lacking, ours=f"{lacking.ours}, with curves of {epochs:.4g} epochs")
    return runs, lacking


def _at_rates(scores):
    """The same scores, each method named after its learning rate too."""
    return scores.assign(method=scores["method"] + scores["learning_rate"].map(" at {:g}".format))


def _n(runs):
    return sum(len(of_t) for of_t in runs.values())


def _minus(runs, better, than, metric="accuracy"):
    """Differences paired by seed."""
    return (runs[metric, better] - runs[metric, than]).round(DIGITS)


def _mean(d):
    return round(float(d.mean()), DIGITS)


def _passes(d):
    """Is the mean of paired differences above 0, by TEST?"""
    return _mean(d) > 0 and greater(d)[1] < 0.05


def _least_clear(tests):
    """Name and p of that of several tests which is furthest from passing."""
    name, p = max(tests, key=lambda test: test[1])
    return f"{name}, larger p", p


def _interval(d):
    """The 95 % interval of the mean."""
    half = float(stats.t.ppf(0.975, len(d) - 1) * d.std() / len(d) ** 0.5)
    return round(_mean(d) - half, DIGITS), round(_mean(d) + half, DIGITS)


def _collapsed(runs, method):
    """Which runs are consistent and no better than chance."""
    return runs["accuracy", method].between(8, 12) & (runs["consistency", method] >= 99)


def _points(number):
    return f"{round(number, 1) + 0.0:+.1f}"  # no -0.0


def _sized(d, published, within=4):
    near = "within" if abs(round(_mean(d) - published, DIGITS)) <= within else "not within"
    return f"{_points(_mean(d))} ({near} {published:+.1f} ± {within})"


def _bounded(d):
    low, high = _interval(d)
    return f"{_points(_mean(d))} (95 % interval {_points(low)} to {_points(high)})"


def _each(runs):
    return ", ".join(f"{method} {accuracy:.1f}" for method, accuracy in runs["accuracy"].mean().items())


def _rates(rates):
    return ", ".join(f"{rate:g}" for rate in sorted(rates))


def tudelft_01(scores, mode):
    runs, lacking = _runs(scores, mode, ("shift",), ("Supervised", "SemiC"))
    if lacking:
        return lacking
    d = _minus(runs["shift"], "SemiC", "Supervised")
    return Verdict(verdict(_passes(d), _passes(-d)), f"gain {_sized(d, 6.5)}", len(d), *greater(d))


def tudelft_02(scores, mode):
    runs, lacking = _runs(scores, mode, ("rotation",), METHODS)
    if lacking:
        return lacking
    gain, *others = (_minus(runs["rotation"], "SemiC", than) for than in ("Supervised", "SemiCT", "SemiTCE"))
    supported = _passes(gain) and all(_mean(d) >= 0 for d in others)
    contradicted = any(_passes(-d) for d in (gain, *others))
    ours = f"gain {_sized(gain, 8.9)}; {_each(runs['rotation'])}"
    return Verdict(verdict(supported, contradicted), ours, len(gain), *greater(gain))


def tudelft_03(scores, mode):
    runs, lacking = _runs(scores, mode, ("noise",), ("Supervised", "SemiC"))
    if lacking:
        return lacking
    d = _minus(runs["noise"], "SemiC", "Supervised")
    found = verdict(_interval(d)[1] <= 2, _passes(d) and _mean(d) > 2)
    return Verdict(found, f"gain {_bounded(d)}", len(d), *greater(d))


def tudelft_04(scores, mode):
    runs, lacking = _runs(scores, mode, ("shift",), METHODS)
    if lacking:
        return lacking
    gain, *others = (_minus(runs["shift"], "SemiCT", than) for than in ("Supervised", "SemiC", "SemiTCE"))
    supported = _passes(gain) and all(_mean(d) > 0 for d in others)
    contradicted = any(_passes(-d) for d in (gain, *others))
    ours = f"gain {_points(_mean(gain))}; {_each(runs['shift'])}"
    return Verdict(verdict(supported, contradicted), ours, len(gain), *greater(gain))


def tudelft_05(scores, mode):
    runs, lacking = _runs(scores, mode, COLLAPSING, ("SemiCT",), ("accuracy", "consistency", "loss_sup"), least=1)
    if lacking:
        return lacking
    collapsed = {t: _collapsed(of_t, "SemiCT") for t, of_t in runs.items()}
    near = {t: (of_t["loss_sup", "SemiCT"] - COLLAPSED_LOSS).abs().round(DIGITS) <= 0.3 for t, of_t in runs.items()}
    as_published = {t: collapsed[t] & near[t] for t in runs}
    supported = all(of_t.any() for of_t in as_published.values())
    contradicted = not any(of_t.any() for of_t in collapsed.values()) and min(map(len, runs.values())) >= SEEDS
    named = (scores["mode"] == mode) & (scores["method"] == "SemiCT") & scores["transform"].isin(COLLAPSING)
    counts = [f"{t} {collapsed[t].sum()} of {len(runs[t])} ({as_published[t].sum()} at that loss)" for t in runs]
    ours = f"collapsed at rate {_rates(scores.loc[named, 'learning_rate'].unique())}: {', '.join(counts)}"
    return Verdict(verdict(supported, contradicted), ours, _n(runs), "count")


def tudelft_06(scores, mode):
    runs, lacking = _runs(scores, mode, ("shift",), ("SemiCT",), ("accuracy", "consistency"))
    if lacking:
        return lacking
    above, collapsed = runs["shift"]["accuracy", "SemiCT"] > 50, _collapsed(runs["shift"], "SemiCT")
    ours = f"accuracy above 50 % in {above.sum()} of {len(above)}, collapsed in {collapsed.sum()}"
    return Verdict(verdict(above.all(), collapsed.any()), ours, len(above), "count")


def tudelft_07(scores, mode):
    at_rates, collapsed, above = _at_rates(scores), {}, {}
    for rate in RATES:
        method = f"SemiCT at {rate:g}"
        runs, lacking = _runs(at_rates, mode, COLLAPSING, (method,), ("accuracy", "consistency"), least=1)
        if lacking:
            return lacking
        both = pd.concat(runs.values())
        collapsed[rate], above[rate] = _collapsed(both, method), both["accuracy", method] > 50
    supported = all(of_rate.all() for of_rate in collapsed.values())
    contradicted = any(above[rate].any() for rate in RATES if rate <= 1e-3)
    counts = ", ".join(f"{sum(of_rate)} of {len(of_rate)} at {rate:g}" for rate, of_rate in collapsed.items())
    return Verdict(verdict(supported, contradicted), f"collapsed: {counts}", _n(collapsed), "count")


def tudelft_08(scores, mode):
    slow, fast, end, before = "SemiC at 1e-05", "SemiC at 0.001", "val_accuracy_end", "val_accuracy_10_epochs_before"
    runs, lacking = _whole_curves(_at_rates(scores), mode, (slow, fast), (end, before))
    if lacking:
        return lacking
    rise = {t: _mean(of_t[end, slow] - of_t[before, slow]) for t, of_t in runs.items()}
    under = {t: _mean(_minus(of_t, fast, slow, end)) for t, of_t in runs.items()}
    parts = [(rise[t] > 0.5, under[t] >= 10) for t in runs]
    ours = "; ".join(f"{t} {_points(rise[t])} in the last 10 epochs, {_points(-under[t])} from 0.001" for t in runs)
    found = verdict(all(map(all, parts)), not any(map(any, parts)))
    return Verdict(found, f"at 0.00001: {ours}", _n(runs), "means")


def tudelft_09(scores, mode):
    runs, lacking = _runs(scores, mode, COLLAPSING, ("SemiCT", "SemiTCE"), ("accuracy", "consistency"))
    if lacking:
        return lacking
    fallen = {t: of_t[_collapsed(of_t, "SemiCT")] for t, of_t in runs.items()}
    if not _n(fallen):
        return Verdict("not run", f"SemiCT collapsed in none of {_n(runs)}")
    both = pd.concat(fallen.values())
    repaired, again = both["accuracy", "SemiTCE"] > 50, _collapsed(both, "SemiTCE")
    counts = ", ".join(f"{t} {len(of_t)} of {len(runs[t])}" for t, of_t in fallen.items())
    ours = f"SemiCT collapsed in {counts}; there SemiTCE is above 50 % in {repaired.sum()}, collapsed in {again.sum()}"
    return Verdict(verdict(repaired.all(), again.all()), ours, len(both), "count")


def tudelft_10(scores, mode):
    runs, lacking = _runs(scores, mode, TRANSFORMS, ("Supervised", "SemiTCE"))
    if lacking:
        return lacking
    d = {t: _minus(of_t, "SemiTCE", "Supervised") for t, of_t in runs.items()}
    supported = _passes(d["shift"]) and _passes(d["rotation"]) and _mean(d["noise"]) > -0.5
    lower = {t: _passes(-of_t) for t, of_t in d.items()}
    contradicted = lower["shift"] or lower["rotation"] or (lower["noise"] and _mean(d["noise"]) <= -0.5)
    ours = "; ".join(f"{t} {_sized(d[t], size)}" for t, size in zip(TRANSFORMS, (1.0, 7.9, 4.6)))
    test, p = _least_clear([greater(d["shift"]), greater(d["rotation"])])
    return Verdict(verdict(supported, contradicted), f"gain for {ours}", _n(runs), test, p)


def tudelft_11(scores, mode):
    runs, lacking = _runs(scores, mode, ("rotation",), ("SemiC", "SemiTCE"), ("accuracy", "consistency"))
    if lacking:
        return lacking
    accuracy, consistency = (_minus(runs["rotation"], "SemiC", "SemiTCE", m) for m in ("accuracy", "consistency"))
    contradicted = _passes(-accuracy) or _passes(-consistency)
    ours = f"SemiC - SemiTCE: accuracy {_sized(accuracy, 4.3)}, consistency {_sized(consistency, 11.3, 8)}"
    found = verdict(_mean(accuracy) > 0 and _passes(consistency), contradicted)
    return Verdict(found, ours, len(accuracy), *greater(consistency))


def tudelft_12(scores, mode):
    runs, lacking = _runs(scores, mode, ("noise",), ("SemiC", "SemiTCE"), ("loss", "accuracy", "consistency"))
    if lacking:
        return lacking
    d = {m: _minus(runs["noise"], "SemiTCE", "SemiC", m) for m in ("loss", "accuracy", "consistency")}
    supported = _mean(d["loss"]) < 0 < _mean(d["accuracy"]) and abs(_mean(d["consistency"])) <= 2
    contradicted = _passes(d["loss"]) or _passes(-d["accuracy"])
    return Verdict(verdict(supported, contradicted), f"SemiTCE - SemiC: {_all_three(d)}", len(d["loss"]), "means")


def _all_three(d):
    accuracy, consistency = (f"{m} {_points(_mean(d[m]))}" for m in ("accuracy", "consistency"))
    return f"loss {_mean(d['loss']):+.3f}, {accuracy}, {consistency}"


def tudelft_13(scores, mode):
    methods = ("SemiC", "SemiCT", "SemiTCE")
    runs, lacking = _runs(scores, mode, ("shift",), methods, ("loss", "accuracy", "consistency"))
    if lacking:
        return lacking
    d = {m: _minus(runs["shift"], "SemiTCE", "SemiC", m) for m in ("loss", "accuracy", "consistency")}
    supported = _mean(d["loss"]) < 0 and _mean(d["accuracy"]) > 0 and _mean(d["consistency"]) > 0
    contradicted = _passes(d["loss"]) or _passes(-d["accuracy"]) or _passes(-d["consistency"])
    to_semict = (f"{m} {_bounded(_minus(runs['shift'], 'SemiTCE', 'SemiCT', m))}" for m in ("accuracy", "consistency"))
    ours = f"SemiTCE - SemiC: {_all_three(d)}; SemiTCE - SemiCT: {', '.join(to_semict)}"
    return Verdict(verdict(supported, contradicted), ours, len(d["loss"]), "means")


def tudelft_14(scores, mode):
    runs, lacking = _runs(scores, mode, TRANSFORMS, ("Supervised", "SemiC"))
    if lacking:
        return lacking
    gain = {t: _minus(of_t, "SemiC", "Supervised").droplevel("transform") for t, of_t in runs.items()}
    d = {t: (gain[t] - gain["noise"]).dropna().round(DIGITS) for t in ("shift", "rotation")}
    if few := [f"{t} {len(of_t)}" for t, of_t in d.items() if len(of_t) < SEEDS]:
        return Verdict("not run", f"too few seeds shared with noise: {', '.join(few)} of {SEEDS}", _n(d))
    found = verdict(all(map(_passes, d.values())), any(_passes(-of_t) for of_t in d.values()))
    ours = "gain for " + ", ".join(f"{t} {_points(_mean(of_t))}" for t, of_t in gain.items())
    return Verdict(found, ours, _n(d), *_least_clear(map(greater, d.values())))


def tudelft_15(scores, mode):
    metrics = ("train_loss_epoch_40", "val_loss_min", "val_loss_min_epoch", "val_loss_end")
    metrics += ("val_accuracy_epoch_25", "val_accuracy_end", "accuracy")
    runs, lacking = _whole_curves(scores, mode, ("Supervised",), metrics)
    if lacking:
        return lacking
    fitted, risen, rest, ours = [], [], [], []
    for t, of_t in runs.items():
        mean = of_t.mean().round(DIGITS).droplevel(1)
        rise = round(mean["val_loss_end"] - mean["val_loss_min"], DIGITS)
        change = round(mean["val_accuracy_end"] - mean["val_accuracy_epoch_25"], DIGITS)
        fitted.append(mean["train_loss_epoch_40"] < 0.1)
        risen.append(rise > 0.5)
        rest.append(8 <= mean["val_loss_min_epoch"] <= 35 and abs(change) < 3 and 58 <= mean["accuracy"] <= 74)
        ours.append(
            f"{t}: training loss {mean['train_loss_epoch_40']:.2f} at epoch 40; validation loss "
            f"{mean['val_loss_min']:.2f} at epoch {mean['val_loss_min_epoch']:.0f}, {rise:+.2f} by the end; "
            f"validation accuracy {_points(change)} after epoch 25; accuracy {mean['accuracy']:.1f}"
        )
    found = verdict(all(fitted + risen + rest), not any(fitted + risen))
    return Verdict(found, ". ".join(ours), _n(runs), "means")


def tudelft_16(scores, mode):
    two_step = ("SemiCT", "SemiTCE")
    runs, lacking = _runs(scores, mode, TRANSFORMS, ("SemiC", *two_step), ("accuracy", "consistency"))
    if lacking:
        return lacking
    best = {t: max(two_step, key=lambda method: _mean(of_t["accuracy", method])) for t, of_t in runs.items()}
    below = {t: _minus(of_t, best[t], "SemiC") for t, of_t in runs.items()}
    collapsed = sum(_collapsed(of_t, "SemiC").sum() for of_t in runs.values())
    supported = collapsed == 0 and all(_mean(d) <= 4 for d in below.values())
    contradicted = collapsed > 0 or any(_passes((d - 4).round(DIGITS)) for d in below.values())
    gaps = ", ".join(f"{t} {_points(_mean(d))} ({best[t]})" for t, d in below.items())
    ours = f"best two-step variant - SemiC: {gaps}; SemiC collapsed in {collapsed} of {_n(runs)}"
    return Verdict(verdict(supported, contradicted), ours, _n(runs), "means")


def tudelft_17(scores, mode):
    scores = scores.assign(mode=scores["mode"].map(lambda switches: "+".join(sorted(switches.split("+")))))
    methods, collapsed = ("SemiCT", "SemiTCE"), {}
    for switches in UNCLIPPED + CLIPPED:
        runs, lacking = _runs(scores, switches, COLLAPSING, methods, ("accuracy", "consistency"))
        if lacking:
            return replace(lacking, ours=f"{switches}: {lacking.ours}")
        both = pd.concat(runs.values())
        collapsed[switches] = pd.DataFrame({method: _collapsed(both, method) for method in methods})
    unclipped, clipped = (pd.concat([collapsed[switches] for switches in kind]) for kind in (UNCLIPPED, CLIPPED))
    p = float(stats.fisher_exact([unclipped.sum(), (~unclipped).sum()], alternative="greater").pvalue)
    only_clipped = clipped.any(axis=None) and not unclipped.any(axis=None)
    counts = (f"{s} {c['SemiCT'].sum()} and {c['SemiTCE'].sum()} of {len(c)}" for s, c in collapsed.items())
    ours, n = f"collapsed, SemiCT and SemiTCE: {'; '.join(counts)}", unclipped.size + clipped.size
    return Verdict(verdict(p < 0.05, only_clipped), ours, n, "Fisher's exact, one-sided, without the clip", p)


def tudelft_18(scores, mode):
    with torch.device("meta"):  # to be counted only
        network = ConvSmall()
    layers = [_size(module) for module in network.modules() if _size(module)]
    trainable = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    ours = f"{sum(layers):,} parameters, {trainable:,} trainable"
    exact = (*layers,) == APPENDIX_A and trainable == TRAINABLE
    return Verdict(verdict(exact, not exact), ours, len(layers), "exact count, layer by layer")


def _size(module):
    """Parameters and running statistics of a module without its children's."""
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return sum(tensor.numel() for tensor in own if tensor.is_floating_point())
