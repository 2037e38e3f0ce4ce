"""Verdicts: every rule at the edges of its tolerance, as `papers/bortsova2019/published.yaml` words it."""

import re

import numpy as np
import pandas as pd
import pytest
from claims_kit import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_RUN,
    SUPPORTED,
    asked,
    cases,
    contradicted,
    inconclusive,
    not_run,
    p_of,
    supported,
)
from scipy import stats

from fewlabels.papers.bortsova2019.claims import RULES, judge
from fewlabels.scores.published import published_values

ALL = (5, 10, 25, 50, 100)
STOP = "SemiTC (stop-gradient)"
AXES = ["method", "labels", "split", "seed", "amplitude", "validation"]
COLUMNS = [*AXES, "subject", "structure", "metric", "value"]
SPLITS = range(5)
TABLE_1 = {  # as printed
    "Baseline": (74.2, 82.8, 87.5, 89.0, 90.6),
    "SupTC": (76.4, 83.6, 87.8, 89.5, 90.9),
    "SemiTC": (85.4, 86.9, 88.7, 89.7),
    "SemiTC+": (85.0, 87.9, 89.7, 90.5, 91.1),
}


def frame(values, metric="miou"):
    """scores.csv of `{method: {labels: [a value a split]}}`: four subjects a run, whose mean is the value."""
    rows = []
    for method, by_labels in values.items():
        for labels, of_splits in by_labels.items():
            for split, value in enumerate(of_splits):
                place = (method, labels, split, 0, 4.0, "all")
                if metric == "miou":
                    subjects = zip("abcd", (-0.75, -0.25, 0.25, 0.75))
                    rows += [(*place, name, "all", metric, value + shift) for name, shift in subjects]
                    rows += [(*place, "a", "heart", "iou", 1.0), (*place, "a", "all", "miou_post", 2.0)]  # not meant
                else:
                    rows += [(*place, "all", "all", metric, value)]
    return pd.DataFrame(rows, columns=COLUMNS)


def pairs(better, than, gains, base=50):
    """Runs of two methods: `gains = {labels: [a gain a split]}`."""
    return frame(
        {
            than: {labels: [base] * len(of_splits) for labels, of_splits in gains.items()},
            better: {labels: [base + gain for gain in of_splits] for labels, of_splits in gains.items()},
        }
    )


def counted(better, than, wins, labels, splits=5):
    """`wins` gains of +1 and the rest of -1, over labels x splits, dealt out in turn."""
    n = len(labels) * splits
    gains = np.where(np.arange(n) < wins, 1, -1).reshape(splits, len(labels)).T
    return pairs(better, than, dict(zip(labels, gains.tolist(), strict=True)))


def verdict(claim, scores):
    return asked(RULES[f"bortsova-{claim}"], [scores]).verdict


# ---- the ledger as a whole ----


def test_published_numbers():
    table = published_values("bortsova2019", "Table 1")
    found = {row: tuple(of_row.sort_values("column")["mean"]) for row, of_row in table.groupby("row")}
    assert found == TABLE_1
    assert len(table) == 19
    baseline = table[(table["row"] == "Baseline") & (table["column"] == 5)]
    assert baseline["sd"].item() == 3.8
    assert published_values("bortsova2019", "Table 3").empty


def test_nothing_run():
    for scores in (frame({}), frame({"Baseline": {5: [50.0]}}), frame({m: {3: [1.0], 6: [2.0]} for m in TABLE_1})):
        claims = judge(scores, "phantom")
        assert list(claims.columns) == "paper claim statement published ours n test p data scale verdict before".split()
        assert (claims["verdict"] == NOT_RUN).all()
        assert (claims["data"] == "phantom").all()
        assert len(claims) == 20


@pytest.fixture
def as_published():
    """Table 1 with five splits around each mean: 0.2 points are the smallest difference there, and stays one."""
    rng = np.random.default_rng(0)
    values = {}
    for method, means in TABLE_1.items():
        values[method] = {}
        for labels, mean in zip(ALL, means, strict=False):
            spread = rng.uniform(-0.04, 0.04, len(SPLITS))
            values[method][labels] = list(mean + spread - spread.mean())
    values["SupTC"][100][2] = values["Baseline"][100][2] - 0.01  # the one of 25 where SupTC did not win
    return frame(values)


def test_the_papers_own_table_supports_its_claims(as_published):
    claims = judge(as_published, "jsrt").set_index("claim")
    held = [f"bortsova-{i:02}" for i in (1, 2, 4, 5, 6, 7, 8, 9, 19)]
    assert claims.loc[held, "verdict"].to_dict() == dict.fromkeys(held, SUPPORTED)
    assert set(claims.drop(index=held)["verdict"]) == {NOT_RUN}
    assert "24 of 25" in claims.loc["bortsova-01", "ours"]
    assert "20 of 25" in claims.loc["bortsova-08", "ours"]  # SemiTC+ is worse at 5 labels in every split
    assert claims.loc["bortsova-19", "p"] < 0.001


def test_the_reverse_of_the_table_contradicts(as_published):
    reverse = {"Baseline": "SemiTC+", "SupTC": "SemiTC", "SemiTC": "SupTC", "SemiTC+": "Baseline"}
    scores = as_published[as_published["labels"] != 100].replace({"method": reverse})
    for i in (1, 4, 5, 6, 8, 19):
        assert verdict(f"{i:02}", scores) == CONTRADICTED, i


# ---- what is no run of Table 1, and claim 20 ----

LOSSES = {"loss_sup": (0.3, 0.31), "loss_cons": (0.3, 0.1)}  # of Baseline and of SupTC


@pytest.fixture
def full(as_published):
    """As published, with what claims 3 and 18 need: every claim of Table 1 but the decimals is judged."""
    stop = as_published[(as_published["method"] == "SemiTC") & as_published["labels"].isin([5, 10])]
    of_losses = [
        frame({m: {n: [v] * 5 for n in ALL} for m, v in zip(("Baseline", "SupTC"), values)}, name)
        for name, values in LOSSES.items()
    ]
    return pd.concat([as_published, stop.assign(method=STOP, value=stop["value"] - 1), *of_losses])


@pytest.fixture
def misleading(full):
    """The same runs, each method a hundred points off in its own direction."""
    shift = {"Baseline": 100, "SupTC": -100, "SemiTC": 50, "SemiTC+": -50, STOP: 300}
    return full.assign(value=full["value"] + full["method"].map(shift))


def test_runs_with_matched_validation_enter_no_claim_of_table_1(full, misleading):
    alone = judge(full, "jsrt")
    assert (alone.set_index("claim").loc[[f"bortsova-{i:02}" for i in (*range(1, 10), 18, 19)], "n"] > 0).all()
    for matched in (misleading, misleading.assign(seed=1), misleading.assign(split=misleading["split"] + 5)):
        both = judge(pd.concat([full, matched.assign(validation="matched")]), "jsrt")
        table_1 = ~both["claim"].isin([f"bortsova-{i}" for i in range(10, 18)])
        pd.testing.assert_frame_equal(both[table_1], alone[table_1])
    only = judge(full.assign(validation="matched"), "jsrt")[table_1]
    assert (only["verdict"] == NOT_RUN).all()
    assert (only["n"] == 0).all()


def test_several_amplitudes_judge_nothing(full):
    assert (judge(full, "jsrt")["verdict"] == SUPPORTED).sum() == 11
    for other in (full, full[(full["split"] == 0) & (full["labels"] == 5)]):
        claims = judge(pd.concat([full, other.assign(amplitude=2.0)]), "jsrt")
        assert (claims["verdict"] == NOT_RUN).all()
        assert len(claims) == 20


def cells(of_method, splits=3):
    """Runs whose mean in each cell is a value of Table 1 plus `of_method[method][i]`."""
    around = np.linspace(-1, 1, splits)
    return frame(
        {
            method: {labels: [mean + off + a for a in around] for labels, mean, off in zip(ALL, TABLE_1[method], offs)}
            for method, offs in of_method.items()
        }
    )


def agreement(scores):
    claim = RULES["bortsova-20"](scores)
    assert claim.verdict == NOT_RUN
    agree, n = re.search(r"(\d+) of (\d+) cells agree", claim.ours).groups()
    assert claim.n == int(n)
    return int(agree), int(n)


EDGES = {  # max(1.0, 2 published sd)
    "Baseline": (7.6, 2.6, 1.0, 1.0, 1.0),
    "SupTC": (7.6, 2.8, 1.0, 1.0, 1.0),
    "SemiTC": (2.0, 2.8, 2.0, 1.0),
    "SemiTC+": (5.6, 1.6, 1.0, 1.0, 1.0),
}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("beyond", "expected"), [(-0.01, 19), (0, 19), (0.01, 0)])
def test_claim_20_says_how_many_cells_agree(sign, beyond, expected):
    """Edges are inclusive and decimals; only means count."""
    scores = cells({method: [sign * (edge + beyond) for edge in edges] for method, edges in EDGES.items()})
    assert agreement(scores) == (expected, 19)


def test_claim_20_counts_cells_of_the_table_that_were_run(full):
    assert agreement(full) == (19, 19)
    assert agreement(cells({"Baseline": (0, 9, 0, 9), "SemiTC": (0, 0, 9)})) == (4, 7)
    elsewhere = {STOP: {5: [85.0]}, "SemiTC": {100: [90.0]}, "SupTC": {7: [80.0]}}  # no cells of the paper's
    assert agreement(frame(elsewhere)) == (0, 0)
    assert agreement(pd.concat([frame(elsewhere), cells({"SupTC": (0, 9)})])) == (1, 2)
    assert agreement(frame({})) == (0, 0)


# ---- each rule at its edges ----


@cases(
    "wins n",
    supported((25, 25), (24, 25)),  # 0.96
    supported((16, 20)),  # 0.8, binomial p = 0.006
    supported((12, 15)),  # 0.8, p = 0.018
    inconclusive((23, 25), (13, 25), (11, 20), (11, 15), (15, 20)),  # p = 0.02, but 0.75
    contradicted((12, 25), (10, 20)),  # 0.5
)
def test_claim_01(wins, n, expected):
    assert verdict("01", counted("SupTC", "Baseline", wins, ALL, n // 5)) == expected


def test_claim_01_needs_the_images_too():
    """Better in every run, by one image of four."""
    scores = counted("SupTC", "Baseline", 25, ALL)
    others = (scores["method"] == "SupTC") & (scores["subject"] != "a") & (scores["metric"] == "miou")
    scores.loc[others, "value"] -= 1
    assert verdict("01", scores) == INCONCLUSIVE


def test_claim_01_needs_15_pairs():
    scores = counted("SupTC", "Baseline", 15, ALL, 3)
    assert verdict("01", scores) == SUPPORTED
    lost = scores[(scores["method"] != "SupTC") | (scores["labels"] != 5) | (scores["split"] != 0)]
    assert verdict("01", lost) == NOT_RUN


def test_claim_01_a_tie_is_no_win():
    scores = counted("SupTC", "Baseline", 24, ALL)
    scores.loc[(scores["method"] == "SupTC") & (scores["labels"] == 5) & (scores["split"] == 0), "value"] -= 1
    assert verdict("01", scores) == INCONCLUSIVE


@cases(
    "gains",
    supported((2.25, 0.75, 0.25, 0.5, 0.25), (4.25, 4.25, 4.25, 4.25, 4.25), (1, 1, 1, 1, -0.25)),
    inconclusive((1, 1, 1, 1, -0.4785), (4.4785, 1, 1, 1, 1)),  # within by the mean, not by its interval of +- 0.023
    inconclusive((1, 1, 1, 1, -0.5), (9, 1, 1, 1, 1), (0, 0, 0, 0, 0), (4.5, 1, 1, 1, 1)),  # an open interval
    inconclusive((-0.25, 0.25, -0.25, 0.25, -0.125)),  # below 0, but not by TEST
    contradicted((9.25, 1, 1, 1, 1), (-0.25, -0.25, -0.25, -0.25, -0.25)),  # below 0, and by TEST
)
def test_claim_02(gains, expected):
    spread = (-0.03125, 0.03125, 0, 0.015625, -0.015625)  # exact in binary, mean 0
    scores = pairs("SupTC", "Baseline", {n: [g + s for s in spread] for n, g in zip(ALL, gains, strict=True)})
    assert verdict("02", scores) == expected


def test_claim_02_needs_intervals_over_runs_and_over_images():
    gains = {n: [1.0, 1.25, 0.75, 1, 1] for n in ALL}
    assert verdict("02", pairs("SupTC", "Baseline", gains)) == SUPPORTED
    assert verdict("02", pairs("SupTC", "Baseline", {**gains, 25: [-3.0, 5, 1, 1, 1]})) == INCONCLUSIVE  # to 3.7
    assert verdict("02", pairs("SupTC", "Baseline", {**gains, 25: [-4.0, 6, 1, 1, 1]})) == INCONCLUSIVE  # to 4.4
    scores = pairs("SupTC", "Baseline", gains)
    of = (scores["method"] == "SupTC") & (scores["labels"] == 25) & (scores["metric"] == "miou")
    for image, off in (("a", 4.0), ("b", -4.0)):  # the same in every run
        scores.loc[of & (scores["subject"] == image), "value"] += off
    assert verdict("02", scores) == INCONCLUSIVE


def test_claim_02_names_every_label_count():
    gains = {n: [1.0, 1.25, 0.75] for n in ALL}
    assert verdict("02", pairs("SupTC", "Baseline", gains)) == SUPPORTED
    assert verdict("02", pairs("SupTC", "Baseline", {**gains, 50: [1.0, 1.25]})) == NOT_RUN
    assert verdict("02", pairs("SupTC", "Baseline", {n: gains[n] for n in ALL[:4]})) == NOT_RUN


def losses(sup, cons, base=(0.3, 0.2)):
    """20 pairs over 4 label counts: SupTC's losses minus the Baseline's, `base`."""
    frames = []
    for name, d, b in zip(("loss_sup", "loss_cons"), (sup, cons), base, strict=True):
        values = {"Baseline": np.full(20, b), "SupTC": np.round(b + np.array(d), 4)}
        of_labels = {m: dict(zip(ALL[:4], v.reshape(4, 5).tolist(), strict=True)) for m, v in values.items()}
        frames.append(frame(of_labels, name))
    return pd.concat(frames)


@cases(
    "sup cons",
    supported(([0.01] * 20, [-0.1] * 20), ([0.01] * 11 + [-0.01] * 9, [-0.1] * 20)),  # more than half
    supported(([0.01] * 20, [-0.1] * 18 + [0.1] * 2)),  # 90 %
    supported(([0.01] * 18 + [0.2] * 2, [-0.1] * 20)),  # the total lower in 90 %
    supported(([-0.004] * 20, [-0.1] * 20)),  # similar
    inconclusive(([0.01] * 10 + [-0.01] * 10, [-0.1] * 20), ([0.01] * 20, [-0.1] * 17 + [0.1] * 3)),
    inconclusive(([0.01] * 17 + [0.2] * 3, [-0.1] * 20), ([-0.01] * 15 + [0.01] * 5, [-0.1] * 20)),
    inconclusive(([0.01] * 20, [0.0] * 20)),  # equal is not lower
    contradicted(([-0.01] * 16 + [0.01] * 4, [-0.1] * 20)),  # 80 %
)
def test_claim_03(sup, cons, expected):
    assert verdict("03", losses(sup, cons)) == expected


def test_claim_03_similar_includes_its_edge():
    """0.300 >= 0.305 - 0.005 in decimals; losses are stored with four of them, so that ties do happen."""
    for base in (0.305, 0.105, 0.405):
        assert verdict("03", losses([-0.005] * 20, [-0.1] * 20, (base, 0.2))) == SUPPORTED, base


def test_claim_03_without_losses():
    assert verdict("03", counted("SupTC", "Baseline", 20, ALL)) == NOT_RUN


@cases("wins", supported(10), inconclusive(9, 8), contradicted(7, 0))
def test_claim_04(wins, expected):
    assert verdict("04", counted("SemiTC", "SupTC", wins, (5, 10))) == expected


def test_claim_04_names_five_splits_at_both_label_counts():
    assert verdict("04", counted("SemiTC", "SupTC", 8, (5, 10), 4)) == NOT_RUN
    other = counted("SemiTC", "SupTC", 10, (25, 50))
    assert verdict("04", other) == NOT_RUN
    two_seeds = pd.concat([counted("SemiTC", "SupTC", 5, (5,)).assign(seed=seed) for seed in (0, 1)])
    assert verdict("04", two_seeds) == NOT_RUN  # ten pairs, but none at 10 labels


@cases(
    "at_5 at_10",
    supported((9, 3.25), (4.5, 3.25), (9, 1.75)),
    inconclusive((4.375, 3.25), (9, 1.5), (9, -9), (0, 3)),  # <= 0, but by no TEST
    contradicted((-1, 3), (-1, -1)),
)
@pytest.mark.parametrize("n", [3, 4, 5])
def test_claim_05(at_5, at_10, expected, n):
    spread = {3: (-0.125, 0, 0.125), 4: (-0.125, -0.0625, 0.0625, 0.125), 5: (-0.125, -0.0625, 0, 0.0625, 0.125)}[n]
    scores = pairs("SemiTC", "SupTC", {5: [at_5 + s for s in spread], 10: [at_10 + s for s in spread]})
    assert verdict("05", scores) == expected


def test_claim_05_needs_the_test_at_both_label_counts():
    large = [20.0, 21, 22, 23, -1]  # 2 of 32 sign patterns: p = 0.0625
    clear = [9.0, 9.5, 10, 10.5, 11]
    assert verdict("05", pairs("SemiTC", "SupTC", {5: clear, 10: clear})) == SUPPORTED
    assert verdict("05", pairs("SemiTC", "SupTC", {5: large, 10: clear})) == INCONCLUSIVE
    assert verdict("05", pairs("SemiTC", "SupTC", {5: clear, 10: large})) == INCONCLUSIVE
    assert verdict("05", pairs("SemiTC", "SupTC", {5: clear})) == NOT_RUN


def test_claim_05_edges_are_decimals():
    """Gains of exactly 4.5 and 1.65 in decimals, where binary fractions fall just short of them."""
    gains = {5: ("60.1 64.5", "60.2 64.6", "60.3 64.8", "60.4 65.0", "60.5 65.1"), 10: ("70.1 71.75",) * 5}
    values = {
        m: {n: [float(p.split()[i]) for p in of_n] for n, of_n in gains.items()}
        for i, m in ((0, "SupTC"), (1, "SemiTC"))
    }
    assert verdict("05", frame(values)) == SUPPORTED


@cases("at_25 at_50", supported((5, 5), (4, 4)), inconclusive((4, 3), (3, 5), (3, 3)), contradicted((5, 2), (2, 5)))
def test_claim_06(at_25, at_50, expected):
    gains = {25: [1.0] * at_25 + [-0.5] * (5 - at_25), 50: [1.0] * at_50 + [-0.5] * (5 - at_50)}
    assert verdict("06", pairs("SemiTC", "SupTC", gains)) == expected
    assert verdict("06", pairs("SemiTC", "SupTC", {n: g[:4] for n, g in gains.items()})) == NOT_RUN


@cases(
    "gains",
    supported((9, 3, 1, 0), (9, 3, 1, 2)),  # 50 is not in the ordering
    inconclusive((1, 1, 1, 1), (3, 9, 1, 0)),  # falls, but not from 5 to 10
    inconclusive((9, 3, 3, 0)),  # equal is not less
    contradicted((0, 1, 3, 9)),
    not_run((9, 3, 1)),
)
def test_claim_07(gains, expected):
    spread = (-0.25, -0.125, 0, 0.125, 0.25)
    gains = {n: [gain + s for s in spread] for n, gain in zip(ALL, gains, strict=False)}
    assert verdict("07", pairs("SemiTC", "SupTC", gains)) == expected


def test_claim_07_needs_the_correlation():
    """The means fall, the ranks do not: Spearman's p by hand is above 0.05."""
    gains = {5: [20.0, 0, 0, 0, 0.1], 10: [10.0, 0.2, 0.3, 0.4, 0.5], 25: [1.0, 1.1, 1.2, 1.3, 1.4], 50: [0.0] * 5}
    ranks = stats.rankdata(np.concatenate(list(gains.values())))
    labels = stats.rankdata(np.repeat(list(gains), 5))
    r = np.corrcoef(ranks, labels)[0, 1]
    assert 2 * stats.t(18).sf(abs(r) * np.sqrt(18 / (1 - r**2))) > 0.05
    assert np.mean(gains[5]) > np.mean(gains[10]) > np.mean(gains[25])
    assert verdict("07", pairs("SemiTC", "SupTC", gains)) == INCONCLUSIVE


@cases(
    "wins n",
    supported((12, 15), (20, 25)),  # 0.8
    inconclusive((19, 25), (13, 25), (11, 15)),
    contradicted((12, 25), (10, 20)),
)
def test_claim_08(wins, n, expected):
    """At 100 labels the partner is SupTC, because SemiTC is SupTC there."""
    scores = counted("SemiTC+", "SemiTC", wins, ALL, n // 5)
    scores.loc[(scores["method"] == "SemiTC") & (scores["labels"] == 100), "method"] = "SupTC"
    assert verdict("08", scores) == expected


def test_claim_08_mean_and_number():
    gains = {n: [1.0, 1, 1, 1, -4] for n in ALL[:4]}
    assert verdict("08", pairs("SemiTC+", "SemiTC", gains)) == INCONCLUSIVE  # 0.8, but a mean of 0
    gains[5][4] = -3.0
    assert verdict("08", pairs("SemiTC+", "SemiTC", gains)) == INCONCLUSIVE  # above 0 by no test
    for least, expected in ((0.9, SUPPORTED), (1.8, SUPPORTED), (2.3, INCONCLUSIVE), (4.0, INCONCLUSIVE)):  # small
        gains = {n: [least + 0.1, least, least + 0.2, least, -0.1] for n in ALL[:4]}
        scores = pairs("SemiTC+", "SemiTC", gains)
        d = np.concatenate([*gains.values()])
        low, high = stats.t.interval(0.9, len(d) - 1, d.mean(), stats.sem(d))
        judged = asked(RULES["bortsova-08"], [scores])
        assert judged.verdict == expected == (SUPPORTED if high < 2 else INCONCLUSIVE)
        assert judged.ours == f"better in 16 of 20, by {d.mean():+.1f} ({low:+.1f} to {high:+.1f})"
        assert judged.p >= stats.ttest_1samp(d, 2, alternative="less").pvalue - 1e-6
    few = counted("SemiTC+", "SemiTC", 12, ALL[:4], 3)
    assert verdict("08", few) == NOT_RUN
    with_suptc = pd.concat([few, pairs("SupTC", "x", {n: [0.0] * 3 for n in ALL[:4]})])  # SupTC stands in at 100 only
    assert verdict("08", with_suptc) == NOT_RUN


def gains_over_suptc(semi, plus, consistency):
    """Five splits: SemiTC - SupTC, SemiTC+ - SupTC and SupTC - Baseline at 5, 10 and 25."""
    values = {name: {} for name in TABLE_1}
    for n, a, b, c in zip(ALL, semi, plus, consistency, strict=False):
        for method, value in (("Baseline", 50 - c), ("SupTC", 50), ("SemiTC", 50 + a), ("SemiTC+", 50 + b)):
            values[method][n] = [float(value)] * 5
    return frame(values)


@cases(
    "semi plus consistency",
    supported(((9, 3, 1), (9, 4, 2), (2, 0.75, 0.25))),
    inconclusive(((9, 3, 1), (9, 4, 0), (2, 0.75, 0.25)), ((1, 3, 1), (9, 4, 2), (2, 0.75, 0.25))),
    inconclusive(((2, 0.75, 1), (2, 0.75, 1), (2, 0.75, 0.25))),
    inconclusive(((9, 3, 0.25), (9, 4, 2), (2, 0.75, 0.25))),  # equal at 25 is not larger
    inconclusive(((1, 3, 0), (1, 3, 0), (2, 0.75, 0.25))),  # smaller at 5 only
    inconclusive(((0, 0, 0), (0, 0, 0), (0, 0, 0))),  # equal is not smaller
    contradicted(((1, 0.5, 1), (1, 0.5, 2), (2, 0.75, 0.25))),
)
def test_claim_09(semi, plus, consistency, expected):
    assert verdict("09", gains_over_suptc(semi, plus, consistency)) == expected


def test_claim_09_needs_all_four_methods():
    scores = gains_over_suptc((9, 3, 1), (9, 4, 2), (2, 0.75, 0.25))
    for method in TABLE_1:
        assert verdict("09", scores[scores["method"] != method]) == NOT_RUN
    assert verdict("09", scores[scores["labels"] != 25]) == NOT_RUN


@cases(
    "gains",
    supported([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [-1, -2, -3, -4, 5, 6, 7, 8, 9, 10]),  # rank sum 45 of 55: p = 0.042
    inconclusive([1, -2, 3, -4, 5, -6, 7, -8, 9, -10], [-1, -2, -3, -5, 4, 6, 7, 8, 9, 10]),  # 44: p = 0.053
    contradicted([-1, -2, -3, -4, -5, -6, -7, -8, -9, -10]),
)
def test_claim_18(gains, expected):
    assert (p_of(gains) < 0.05) == (expected == SUPPORTED)
    scores = pairs("SemiTC", STOP, {5: gains[:5], 10: gains[5:]})
    assert verdict("18", scores) == expected
    assert "ours" in RULES["bortsova-18"](scores).ours
    assert verdict("18", scores[(scores["labels"] == 5) | (scores["split"] < 4)]) == NOT_RUN


@cases("at_5 others", supported((11, 2), (5.75, 2)), inconclusive((5.5, 2), (11, -2), (0, 0)), contradicted((-2, -2)))
def test_claim_19(at_5, others, expected):
    spread = (-0.25, -0.125, 0, 0.125, 0.25)
    gains = {n: [(at_5 if n == 5 else others) + s for s in spread] for n in ALL[:4]}
    assert verdict("19", pairs("SemiTC", "Baseline", gains)) == expected


def test_claim_19_edge_and_number():
    gains = {n: [2.0, 3, 4, 5] for n in ALL[1:4]} | {5: [5.0, 5.5, 6, 6.5]}
    assert verdict("19", pairs("SemiTC", "Baseline", gains)) == SUPPORTED
    assert verdict("19", pairs("SemiTC", "Baseline", {n: g[:3] for n, g in gains.items()})) == NOT_RUN
    at_5 = {"Baseline": {5: [60.0] * 5}, "SemiTC": {5: [65.6] * 5}}  # 5.6 in decimals
    rest = pairs("SemiTC", "Baseline", {n: [2.0, 3, 4, 5, 6] for n in ALL[1:4]})
    assert verdict("19", pd.concat([frame(at_5), rest])) == SUPPORTED


def test_a_larger_gain_at_100_labels_does_not_count_in_claim_19():
    gains = {n: [6.0, 7, 8, 9, 10] for n in ALL[:4]} | {100: [-90.0] * 5}
    assert verdict("19", pairs("SemiTC", "Baseline", gains)) == SUPPORTED


@pytest.mark.parametrize("claim", ["10", "11", "12", "13", "14", "15", "16", "17", "20"])
def test_claims_that_need_what_was_not_run(as_published, claim):
    assert verdict(claim, as_published) == NOT_RUN
