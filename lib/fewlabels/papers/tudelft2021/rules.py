"""The claims of Malfliet & Bakker 2021 as rules on scores.csv; in words, with sources: published.yaml.

Each judges the runs of one mode; claims 17 and 18 are about no one mode and say the same in each.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch

from fewlabels.models.convsmall import ConvSmall
from fewlabels.papers.tudelft2021.rules_collapse import SEEDS, at_rates, collapsed_in, count, of_runs
from fewlabels.papers.tudelft2021.tables import METHODS, PAPER, TRANSFORMS
from fewlabels.scores.paired import close, holm_tests, least_clear, mean, minus, passes, some_pass
from fewlabels.scores.published import margin
from fewlabels.scores.scale import WHOLE
from fewlabels.scores.statistics import DIGITS, Test, greater, inside, interval
from fewlabels.scores.verdicts import Verdict, verdict

EPOCHS = 120
# Parameters of each layer, running statistics included.
APPENDIX_A = (2688, 384, 83040, 384, 83040, 384, 166080, 768, *(331968, 768) * 3, *(37056, 768) * 2, 1930)
TRAINABLE = 1_409_674


def _whole_curves(
    scores: pd.DataFrame, mode: str, methods: Sequence[str], metrics: Sequence[str]
) -> tuple[Any, Verdict | None]:
    """As `of_runs`, for every transform; not run where a learning curve is shorter than the report's."""
    curves, lacking = of_runs(scores, mode, TRANSFORMS, methods, ("epochs",), least=0)
    if lacking:
        return None, lacking
    epochs = pd.concat(curves.values()).min(axis=None)
    if epochs < round(0.99 * EPOCHS, DIGITS):
        return None, Verdict("not run", f"{epochs:.4g} of the report's {EPOCHS} epochs", count(curves))
    runs, lacking = of_runs(scores, mode, TRANSFORMS, methods, ("epochs", *metrics))
    if lacking and count(curves):
        lacking = replace(lacking, ours=f"{lacking.ours}, with curves of {epochs:.4g} epochs")
    return runs, lacking


def _minus(runs: pd.DataFrame, better: str, than: str, metric: str = "accuracy") -> pd.Series:
    """Differences paired by seed."""
    return minus(runs[metric], better, than)


def _least_clear(tests: Iterable[Test]) -> Test:
    """Name and p of that of several tests which is furthest from passing."""
    name, p = least_clear(tests)
    return f"{name}, larger p", p


def _points(number: float) -> str:
    return f"{round(number, 1) + 0.0:+.1f}"  # no -0.0


def _sized(d: pd.Series, published: float, within: float = 4) -> str:
    near = "within" if abs(round(mean(d) - published, DIGITS)) <= within else "not within"
    return f"{_points(mean(d))} ({near} {published:+.1f} ± {within})"


def _bounded(d: pd.Series) -> str:
    low, high = interval(d, 0.95)
    return f"{_points(mean(d))} (95 % interval {_points(low)} to {_points(high)})"


def _each(runs: pd.DataFrame) -> str:
    return ", ".join(f"{method} {accuracy:.1f}" for method, accuracy in pd.DataFrame(runs["accuracy"]).mean().items())


def tudelft_01(scores: pd.DataFrame, mode: str) -> Verdict:
    runs, lacking = of_runs(scores, mode, ("shift",), ("Supervised", "SemiC"))
    if lacking:
        return lacking
    d = _minus(runs["shift"], "SemiC", "Supervised")
    return Verdict(verdict(passes(d), passes(-d)), f"gain {_sized(d, 6.5)}", len(d), *greater(d))


def tudelft_02(scores: pd.DataFrame, mode: str) -> Verdict:
    runs, lacking = of_runs(scores, mode, ("rotation",), METHODS)
    if lacking:
        return lacking
    gain, *others = (_minus(runs["rotation"], "SemiC", than) for than in ("Supervised", "SemiCT", "SemiTCE"))
    supported = passes(gain) and all(mean(d) >= 0 for d in others)
    contradicted = some_pass(-d for d in (gain, *others))
    ours = f"gain {_sized(gain, 8.9)}; {_each(runs['rotation'])}"
    return Verdict(verdict(supported, contradicted), ours, len(gain), *greater(gain))


def tudelft_03(scores: pd.DataFrame, mode: str) -> Verdict:
    runs, lacking = of_runs(scores, mode, ("noise",), ("Supervised", "SemiC"))
    if lacking:
        return lacking
    d = _minus(runs["noise"], "SemiC", "Supervised")
    found = verdict(interval(d, 0.95)[1] <= 2, passes(d) and mean(d) > 2)
    return Verdict(found, f"gain {_bounded(d)}", len(d), "t interval")


def tudelft_04(scores: pd.DataFrame, mode: str) -> Verdict:
    runs, lacking = of_runs(scores, mode, ("shift",), METHODS)
    if lacking:
        return lacking
    gain, *others = (_minus(runs["shift"], "SemiCT", than) for than in ("Supervised", "SemiC", "SemiTCE"))
    supported = passes(gain) and all(mean(d) > 0 for d in others)
    contradicted = some_pass(-d for d in (gain, *others))
    ours = f"gain {_points(mean(gain))}; {_each(runs['shift'])}"
    return Verdict(verdict(supported, contradicted), ours, len(gain), *greater(gain))


def tudelft_08(scores: pd.DataFrame, mode: str) -> Verdict:
    slow, fast, end, before = "SemiC at 1e-05", "SemiC at 0.001", "val_accuracy_end", "val_accuracy_10_epochs_before"
    runs, lacking = _whole_curves(at_rates(scores), mode, (slow, fast), (end, before))
    if lacking:
        return lacking
    rise = {t: mean(of_t[end, slow] - of_t[before, slow]) for t, of_t in runs.items()}
    under = {t: mean(_minus(of_t, fast, slow, end)) for t, of_t in runs.items()}
    parts = [(rise[t] > 0.5, under[t] >= 10) for t in runs]
    ours = "; ".join(f"{t} {_points(rise[t])} in the last 10 epochs, {_points(-under[t])} from 0.001" for t in runs)
    found = verdict(all(map(all, parts)), not any(map(any, parts)))
    return Verdict(found, f"at 0.00001: {ours}", count(runs), "means")


def tudelft_10(scores: pd.DataFrame, mode: str) -> Verdict:
    runs, lacking = of_runs(scores, mode, TRANSFORMS, ("Supervised", "SemiTCE"))
    if lacking:
        return lacking
    d = {t: _minus(of_t, "SemiTCE", "Supervised") for t, of_t in runs.items()}
    supported = passes(d["shift"]) and passes(d["rotation"]) and mean(d["noise"]) > -0.5
    below = [t for t, (_, p) in zip(d, holm_tests(-of_t for of_t in d.values())) if mean(d[t]) < 0 and p < 0.05]
    contradicted = any(t != "noise" or mean(d[t]) <= -0.5 for t in below)
    ours = "; ".join(f"{t} {_sized(d[t], size)}" for t, size in zip(TRANSFORMS, (1.0, 7.9, 4.6)))
    test, p = _least_clear([greater(d["shift"]), greater(d["rotation"])])
    return Verdict(verdict(supported, contradicted), f"gain for {ours}", count(runs), test, p)


def tudelft_11(scores: pd.DataFrame, mode: str) -> Verdict:
    runs, lacking = of_runs(scores, mode, ("rotation",), ("SemiC", "SemiTCE"), ("accuracy", "consistency"))
    if lacking:
        return lacking
    accuracy, consistency = (_minus(runs["rotation"], "SemiC", "SemiTCE", m) for m in ("accuracy", "consistency"))
    contradicted = some_pass((-accuracy, -consistency))
    ours = f"SemiC - SemiTCE: accuracy {_sized(accuracy, 4.3)}, consistency {_sized(consistency, 11.3, 8)}"
    found = verdict(mean(accuracy) > 0 and passes(consistency), contradicted)
    return Verdict(found, ours, len(accuracy), *greater(consistency))


def tudelft_12(scores: pd.DataFrame, mode: str) -> Verdict:
    runs, lacking = of_runs(scores, mode, ("noise",), ("SemiC", "SemiTCE"), ("loss", "accuracy", "consistency"))
    if lacking:
        return lacking
    d = {m: _minus(runs["noise"], "SemiTCE", "SemiC", m) for m in ("loss", "accuracy", "consistency")}
    least, most = margin(PAPER, "tudelft-12")
    test, p = inside(d["consistency"], least, most)
    supported = mean(d["loss"]) < 0 < mean(d["accuracy"]) and p < 0.05
    beyond = [(least - d["consistency"]).round(DIGITS), (d["consistency"] - most).round(DIGITS)]
    contradicted = some_pass([d["loss"], -d["accuracy"], *beyond])
    low, high = interval(d["consistency"])
    ours = f"SemiTCE - SemiC: {_all_three(d)} (90 % interval {_points(low)} to {_points(high)})"
    return Verdict(verdict(supported, contradicted), ours, len(d["loss"]), f"means; {test} of consistency", p)


def _all_three(d: Mapping[str, pd.Series]) -> str:
    accuracy, consistency = (f"{m} {_points(mean(d[m]))}" for m in ("accuracy", "consistency"))
    return f"loss {mean(d['loss']):+.3f}, {accuracy}, {consistency}"


def tudelft_13(scores: pd.DataFrame, mode: str) -> Verdict:
    methods = ("SemiC", "SemiCT", "SemiTCE")
    runs, lacking = of_runs(scores, mode, ("shift",), methods, ("loss", "accuracy", "consistency"))
    if lacking:
        return lacking
    d = {m: _minus(runs["shift"], "SemiTCE", "SemiC", m) for m in ("loss", "accuracy", "consistency")}
    supported = mean(d["loss"]) < 0 and mean(d["accuracy"]) > 0 and mean(d["consistency"]) > 0
    contradicted = some_pass((d["loss"], -d["accuracy"], -d["consistency"]))
    to_semict = (f"{m} {_bounded(_minus(runs['shift'], 'SemiTCE', 'SemiCT', m))}" for m in ("accuracy", "consistency"))
    ours = f"SemiTCE - SemiC: {_all_three(d)}; SemiTCE - SemiCT: {', '.join(to_semict)}"
    return Verdict(verdict(supported, contradicted), ours, len(d["loss"]), "means")


def tudelft_14(scores: pd.DataFrame, mode: str) -> Verdict:
    runs, lacking = of_runs(scores, mode, TRANSFORMS, ("Supervised", "SemiC"))
    if lacking:
        return lacking
    gain = {t: _minus(of_t, "SemiC", "Supervised").droplevel("transform") for t, of_t in runs.items()}
    d = {t: (gain[t] - gain["noise"]).dropna().round(DIGITS) for t in ("shift", "rotation")}
    if few := [f"{t} {len(of_t)}" for t, of_t in d.items() if len(of_t) < SEEDS]:
        return Verdict("not run", f"too few seeds shared with noise: {', '.join(few)} of {SEEDS}", count(d))
    found = verdict(all(map(passes, d.values())), some_pass(-of_t for of_t in d.values()))
    ours = "gain for " + ", ".join(f"{t} {_points(mean(of_t))}" for t, of_t in gain.items())
    return Verdict(found, ours, count(d), *_least_clear(map(greater, d.values())))


def tudelft_15(scores: pd.DataFrame, mode: str) -> Verdict:
    metrics = ("train_loss_epoch_40", "val_loss_min", "val_loss_min_epoch", "val_loss_end")
    metrics += ("val_accuracy_epoch_25", "val_accuracy_end", "accuracy")
    runs, lacking = _whole_curves(scores, mode, ("Supervised",), metrics)
    if lacking:
        return lacking
    fitted, risen, rest, ours = [], [], [], []
    for t, of_t in runs.items():
        means = of_t.mean().round(DIGITS).droplevel(1)
        rise = round(means["val_loss_end"] - means["val_loss_min"], DIGITS)
        change = round(means["val_accuracy_end"] - means["val_accuracy_epoch_25"], DIGITS)
        fitted.append(means["train_loss_epoch_40"] < 0.1)
        risen.append(rise > 0.5)
        rest.append(8 <= means["val_loss_min_epoch"] <= 35 and abs(change) < 3 and 58 <= means["accuracy"] <= 74)
        ours.append(
            f"{t}: training loss {means['train_loss_epoch_40']:.2f} at epoch 40; validation loss "
            f"{means['val_loss_min']:.2f} at epoch {means['val_loss_min_epoch']:.0f}, {rise:+.2f} by the end; "
            f"validation accuracy {_points(change)} after epoch 25; accuracy {means['accuracy']:.1f}"
        )
    found = verdict(all(fitted + risen + rest), not any(fitted + risen))
    return Verdict(found, ". ".join(ours), count(runs), "means")


def tudelft_16(scores: pd.DataFrame, mode: str) -> Verdict:
    two_step = ("SemiCT", "SemiTCE")
    runs, lacking = of_runs(scores, mode, TRANSFORMS, ("SemiC", *two_step), ("accuracy", "consistency"))
    if lacking:
        return lacking
    best = {t: max(two_step, key=lambda method: mean(of_t["accuracy", method])) for t, of_t in runs.items()}
    below = {t: _minus(of_t, best[t], "SemiC") for t, of_t in runs.items()}
    collapsed = sum(collapsed_in(of_t, "SemiC").sum() for of_t in runs.values())
    judged, *test = close(below.values(), *margin(PAPER, "tudelft-16"))
    gaps = ", ".join(f"{t} {_points(mean(d))} ({best[t]})" for t, d in below.items())
    ours = f"best two-step variant - SemiC: {gaps}; SemiC collapsed in {collapsed} of {count(runs)}"
    return Verdict("contradicted" if collapsed else judged, ours, count(runs), *test)


def tudelft_18(scores: pd.DataFrame, mode: str) -> Verdict:
    with torch.device("meta"):  # to be counted only
        network = ConvSmall()
    layers = [_size(module) for module in network.modules() if _size(module)]
    trainable = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    ours = f"{sum(layers):,} parameters, {trainable:,} trainable"
    exact = (*layers,) == APPENDIX_A and trainable == TRAINABLE
    return Verdict(verdict(exact, not exact), ours, len(layers), "exact count, layer by layer", scale=WHOLE)


def _size(module: torch.nn.Module) -> int:
    """Parameters and running statistics of a module without its children's."""
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return sum(tensor.numel() for tensor in own if tensor.is_floating_point())
