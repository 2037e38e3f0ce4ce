"""The claims of Gao et al. 2021 as rules on scores.csv; in words, with sources: papers/gao2021/published.yaml.

A folder holds scores of skin lesions or of organs at risk; the claims on the other are not run there.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from fewlabels.models.backbones import PAPER
from fewlabels.papers.gao2021.isic_tables import OTHERS
from fewlabels.papers.gao2021.rules_oar import SINGLES
from fewlabels.papers.gao2021.rules_times import ORGANS
from fewlabels.scores.paired import (
    LEAST,
    above_each,
    absent,
    clearest,
    close,
    each,
    least_clear,
    mean,
    minus,
    paired,
    passes,
    signed,
    some_pass,
    tested,
)
from fewlabels.scores.published import margin, published_values
from fewlabels.scores.statistics import DIGITS, Test, greater, interval
from fewlabels.scores.verdicts import Verdict, verdict

B1, B2 = "EfficientNet-B1", "EfficientNet-B2"
KINDS = ("affine", "deformation", "appearance")


def _folds(
    scores: pd.DataFrame, columns: Sequence[tuple[str, str]], among: Sequence[str] | None = None
) -> tuple[Any, Verdict | None]:
    """`({backbone: frame}, None)`: a line for each fold that all (method, metric) have; or `(None, not run)`.

    Backbones (`among` some, or all) with fewer than 3 such folds are left out.
    """
    if "backbone" not in scores:
        return None, ORGANS
    here = scores if among is None else scores[scores["backbone"].isin(among)]
    wide = paired(here, columns, ["backbone", "fold", "seed"], ["backbone", "fold"])
    of_backbone = {str(backbone): frame.droplevel("backbone") for backbone, frame in wide.groupby("backbone")}
    found = {backbone: frame for backbone, frame in of_backbone.items() if len(frame) >= LEAST}
    if found:
        return found, None
    counts = ", ".join(f"{backbone} {len(frame)}" for backbone, frame in of_backbone.items()) or "none"
    methods = " and ".join(dict.fromkeys(method for method, _ in columns))
    few = Verdict("not run", f"fewer than {LEAST} folds with {methods}: {counts}", len(wide))
    return None, absent(here, columns, among) or few


def _bmca(
    scores: pd.DataFrame, methods: Sequence[str], among: Sequence[str] | None = None
) -> tuple[Any, Verdict | None]:
    """As `_folds`, a column a method."""
    found, lacking = _folds(scores, [(method, "bmca") for method in methods], among)
    return found and {backbone: frame.droplevel(1, axis=1) for backbone, frame in found.items()}, lacking


def _ablated(scores: pd.DataFrame, methods: Sequence[str]) -> tuple[Any, str, Verdict | None]:
    """`(frame, what to say first, None)` of EfficientNet-B2, or of the one backbone that was run in its place."""
    found, lacking = _bmca(scores, methods)
    if lacking:
        return None, "", lacking
    if B2 in found:
        return found[B2], "", None
    if len(found) > 1:
        return None, "", Verdict("not run", f"said of {B2}; there are several others, {' and '.join(found)}")
    [(backbone, bmca)] = found.items()
    return bmca, f"{backbone}, not {B2}: ", None


def _lead(bmca: pd.DataFrame) -> tuple[str, pd.Series]:
    """Which baseline is best, and by how much Comb is above it."""
    best = min(OTHERS, key=lambda row: mean(minus(bmca, "Comb", row)))
    return best, minus(bmca, "Comb", best)


def _pooled(d: Sequence[pd.Series]) -> tuple[pd.Series, pd.Series, str]:
    """`(all differences at once, their means over folds, the same in words)`: those of one fold share its images."""
    d = pd.concat(d)
    of_folds = d.groupby("fold").mean().round(DIGITS)
    p, over = greater(d)[1], greater(of_folds)[1]
    return d, of_folds, f"pooled {signed(mean(d))} (p {p:.2g}; over {len(of_folds)} folds {over:.2g})"


def _over_both(d: pd.Series, of_folds: pd.Series) -> Test:
    """Name and p of that test, pooled or over folds, which is further from passing."""
    (first, p), (second, over) = greater(d), greater(of_folds)
    return least_clear([(f"{first}, pooled", p), (f"{second}, over folds", over)])


def gao_01(scores: pd.DataFrame) -> Verdict:
    found, lacking = _bmca(scores, (*OTHERS, "Comb"))
    if lacking:
        return lacking
    lead = {backbone: _lead(bmca) for backbone, bmca in found.items()}
    parts = {backbone: f"{backbone} Comb - {best} {tested(d)}" for backbone, (best, d) in lead.items()}
    own = [backbone for backbone in PAPER if backbone in lead]
    others = ", ".join(part for backbone, part in parts.items() if backbone not in PAPER)
    if not own:
        return Verdict("not run", f"none of the paper's backbones; {others}")
    d, of_folds, pooled = _pooled([lead[backbone][1] for backbone in own])
    led, behind = (sum(sign * mean(lead[backbone][1]) > 0 for backbone in own) for sign in (1, -1))
    supported = 6 * led >= 5 * len(own) and passes(d) and passes(of_folds)
    contradicted = 6 * behind >= 4 * len(own)
    partial = f"partial, {len(own)} of the paper's 6 backbones: " if len(own) < len(PAPER) else ""
    ours = f"{partial}highest on {led} of {len(own)}, {pooled}: {', '.join(parts[backbone] for backbone in own)}"
    ours += f"; beside them {others}" if others else ""
    return Verdict(verdict(supported, contradicted), ours, len(d), *_over_both(d, of_folds))


def gao_02(scores: pd.DataFrame) -> Verdict:
    found, lacking = _bmca(scores, (*OTHERS, "Comb"), [*PAPER])
    if lacking:
        return lacking
    lead = pd.DataFrame({backbone: _lead(bmca)[1] for backbone, bmca in found.items()})
    lead = lead.reindex(columns=[*PAPER]).dropna()
    if len(lead) < LEAST:
        why = f"{len(lead)} of {LEAST} folds of all six backbones; there are {', '.join(found)}"
        return Verdict("not run", why, len(lead))
    efficient = [backbone for backbone in PAPER if backbone.startswith("EfficientNet")]
    family = {"EfficientNets": lead[efficient].mean(axis=1), "others": lead.drop(columns=efficient).mean(axis=1)}
    d = minus(family, "EfficientNets", "others")
    draws = np.random.default_rng(0).choice(d, (1000, len(d))).mean(axis=1)
    low, high = np.percentile(draws, (2.5, 97.5)).round(DIGITS)
    leads = ", ".join(f"{name} {signed(mean(of))}" for name, of in family.items())
    least, most = interval(d, 0.95)  # the bootstrap's is too narrow for few folds
    ours = f"lead on {leads}: difference {signed(mean(d))} (95 % interval {signed(low)} to {signed(high)}; "
    ours += f"Student's t {signed(least)} to {signed(most)})"
    judged = verdict(min(low, least) > 0, max(high, most) < 0)
    return Verdict(judged, ours, len(d), "bootstrap and t interval, over folds")


def gao_03(scores: pd.DataFrame) -> Verdict:
    methods = ("RandAug", "Fast AA", "cGAN", "Comb")
    found, lacking = _bmca(scores, ("no-aug", *methods))
    if lacking:
        return lacking
    gains = {backbone: {m: minus(bmca, m, "no-aug") for m in methods} for backbone, bmca in found.items()}
    d = [of for gain in gains.values() for of in gain.values()]
    supported = all(mean(of) > 0.02 and passes(of) for of in d)
    contradicted = some_pass(-of for of in d)
    ours = "; ".join(f"{b} " + ", ".join(f"{m} {tested(of)}" for m, of in gain.items()) for b, gain in gains.items())
    return Verdict(verdict(supported, contradicted), ours, len(pd.concat(found)), *least_clear(map(greater, d)))


def gao_04(scores: pd.DataFrame) -> Verdict:
    found, lacking = _bmca(scores, ("no-aug",), (B1, B2))
    if lacking:
        return lacking
    both = pd.DataFrame({b: bmca["no-aug"] for b, bmca in found.items()}).reindex(columns=[B1, B2]).dropna()
    if len(both) < LEAST:
        return Verdict("not run", f"{len(both)} of {LEAST} folds with both {B1} and {B2}", len(both))
    d = minus(both, B2, B1)
    judged, *test = close([d], *margin("gao2021", "gao-04"))
    return Verdict(judged, f"no-aug: {each(both)}; difference {tested(d)}", len(d), *test)


def gao_05(scores: pd.DataFrame) -> Verdict:
    methods = ("Comb", "RandAug", "Fast AA")
    found, lacking = _bmca(scores, ("no-aug", *methods), (B2,))
    if lacking:
        return lacking
    gains = ", ".join(f"{m} {signed(mean(minus(found[B2], m, 'no-aug')))}" for m in methods)
    return above_each(found[B2], "Comb", methods[1:], f"gain over no-aug: {gains}; ")


def gao_06(scores: pd.DataFrame) -> Verdict:
    bmca, first, lacking = _ablated(scores, SINGLES)
    if lacking:
        return lacking
    d = {than: minus(bmca, "Affine", than) for than in SINGLES[1:]}
    supported = all(mean(of) > 0 for of in d.values()) and some_pass(d.values())
    contradicted = some_pass(-of for of in d.values())
    ours = f"{first}{each(bmca)}; " + "; ".join(f"Affine - {than} {tested(of)}" for than, of in d.items())
    return Verdict(verdict(supported, contradicted), ours, len(bmca), *clearest(d.values()))


def gao_07(scores: pd.DataFrame) -> Verdict:
    bmca, first, lacking = _ablated(scores, ("Comb", *SINGLES))
    return lacking or above_each(bmca, "Comb", SINGLES, f"{first}{each(bmca)}; ")


def gao_08(scores: pd.DataFrame) -> Verdict:
    return _helps(scores, "w/o image condition")


def gao_09(scores: pd.DataFrame) -> Verdict:
    return _helps(scores, "w/o discriminator")


def _helps(scores: pd.DataFrame, ablation: str) -> Verdict:
    """Supported: every row is above its like without, and by TEST all at once and over folds; contradicted: below."""
    models = (*SINGLES, "Comb")
    bmca, first, lacking = _ablated(scores, [*models, *(f"{model} ({ablation})" for model in models)])
    if lacking:
        return lacking
    gains = {model: minus(bmca, model, f"{model} ({ablation})") for model in models}
    d, of_folds, pooled = _pooled([*gains.values()])
    supported = all(mean(of) > 0 for of in gains.values()) and passes(d) and passes(of_folds)
    ours = f"{first}{', '.join(f'{model} {signed(mean(of))}' for model, of in gains.items())}; {pooled}"
    contradicted = passes(-d) and passes(-of_folds)
    return Verdict(verdict(supported, contradicted), ours, len(d), *_over_both(d, of_folds))


def _where(scores: pd.DataFrame, rows: Mapping[str, str]) -> tuple[Any, Verdict | None]:
    """As `_folds`: the three ratios of inside to outside of each `{kind: row}`."""
    places = ("lesion", "shuffled", "window")
    return _folds(scores, [(row, f"{place}_{kind}") for kind, row in rows.items() for place in places])


def gao_18(scores: pd.DataFrame) -> Verdict:
    rows = dict.fromkeys(KINDS[1:], "Comb")
    found, lacking = _where(scores, rows)
    if lacking:
        rows = dict(zip(KINDS[1:], SINGLES[1:]))
        found, neither = _where(scores, rows)
        if neither:
            return lacking
    ratios, d, ours = [], [], []
    for (backbone, folds), (kind, row) in product(found.items(), rows.items()):
        inside, others, window = (folds[row, f"{place}_{kind}"] for place in ("lesion", "shuffled", "window"))
        ratios.append(mean(inside))
        d.append((inside - others).round(DIGITS))
        beside = f"masks of others {others.mean():.2f}, difference {tested(d[-1])}, window {window.mean():.2f}"
        ours.append(f"{backbone}, {kind} ({row}) {ratios[-1]:.2f} inside to outside, {beside}")
    judged = verdict(min(ratios) > 1.5 and all(map(passes, d)), min(ratios) <= 1)
    return Verdict(judged, "; ".join(ours), sum(map(len, found.values())), *least_clear(map(greater, d)))


def gao_19(scores: pd.DataFrame) -> Verdict:
    found, lacking = _folds(scores, [("Comb", f"harder_{kind}") for kind in KINDS])
    if lacking:
        return lacking
    folds = pd.concat(found)
    shares = {kind: mean(folds["Comb", f"harder_{kind}"]) for kind in KINDS}
    harder = ", ".join(f"{kind} {share:.0%}" for kind, share in shares.items())
    first = f"harder than random in epochs: {harder} ({', '.join(found)})"
    bmca, lacking = _bmca(scores, ("Comb", "Comb (random)"))
    if lacking:
        return Verdict("not run", f"{first}; {lacking.ours}", lacking.n)
    d, of_folds, pooled = _pooled([minus(of, "Comb", "Comb (random)") for of in bmca.values()])
    supported = min(shares.values()) >= 0.8 and passes(d) and passes(of_folds)
    contradicted = min(shares.values()) <= 0.2 or (passes(-d) and passes(-of_folds))
    ours = f"{first}; Comb - Comb (random) {pooled}"
    return Verdict(verdict(supported, contradicted), ours, len(d), *_over_both(d, of_folds))


def gao_20(scores: pd.DataFrame) -> Verdict:
    return Verdict("not run", "proved by tests/papers/gao2021/test_isic.py, not by scores")


def gao_21(scores: pd.DataFrame) -> Verdict:
    organs = "backbone" not in scores
    metric, table = ("mean_dice", "Table 2 (OAR)") if organs else ("bmca", "Figure 3 right (BMCA, EfficientNet-B2)")
    here = scores if organs else scores[scores["backbone"] == B2]
    here = here[(here["metric"] == metric) & (here["structure"] == "all")]
    ours = here.groupby("method")["value"].mean()
    cells = published_values("gao2021", table)
    whole = organs | (cells["column"] == "with both")
    cells["method"] = cells["row"].where(whole, cells["row"] + " (" + cells["column"] + ")")
    off = (cells.set_index("method")["mean"] - ours).dropna().astype(float).abs().round(DIGITS)
    agree = f"{(off <= 0.02).sum()} of {len(off)} cells of {table.split(' (')[0]} agree within 0.02"
    why = "decimals are judged on the official data at the paper profile only, and nearly every setting is our choice"
    return Verdict("not run", f"{why}; without that, {agree}", len(off))
