"""Verdicts: every rule at the edges of its tolerance, as `papers/bortsova2019/published.yaml` words it."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fewlabels.papers.bortsova2019.claims import RULES, judge
from fewlabels.scores.published import published, published_values
from fewlabels.scores.statistics import differences, greater, run_scores

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
    """scores.csv of `{method: {labels: [a value a split]}}`: two subjects a run, whose mean is the value."""
    rows = []
    for method, by_labels in values.items():
        for labels, of_splits in by_labels.items():
            for split, value in enumerate(of_splits):
                place = (method, labels, split, 0, 4.0, "all")
                if metric == "miou":
                    rows += [(*place, name, "all", metric, value + shift) for name, shift in (("a", -0.5), ("b", 0.5))]
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
    found = RULES[f"bortsova-{claim}"](scores)
    assert found.verdict in ("supported", "contradicted", "inconclusive", "not run")
    return found.verdict


# ---- runs, pairs, test ----


def test_the_score_of_a_run_is_the_mean_over_its_subjects():
    runs = [("SupTC", 5, 0, 0, 4.0, "all"), ("SupTC", 5, 1, 0, 4.0, "all")]
    runs += [("SupTC", 5, 0, 0, 2.0, "all"), ("SupTC", 5, 0, 0, 4.0, "matched")]
    values = [
        (*runs[0], "a", "all", "miou", 10.0),
        (*runs[0], "b", "all", "miou", 40.0),
        (*runs[1], "a", "all", "miou", 7.0),
        (*runs[2], "a", "all", "miou", 6.0),  # the amplitude and
        (*runs[3], "a", "all", "miou", 5.0),  # the validation set make it another run
        (*runs[0], "a", "heart", "iou", 99.0),
        (*runs[0], "a", "all", "miou_post", 98.0),
    ]
    scores = pd.DataFrame(values, columns=COLUMNS)
    found = run_scores(scores)
    assert found.to_dict() == dict(zip(runs, (25.0, 7.0, 6.0, 5.0)))
    assert list(found.index.names) == AXES
    assert run_scores(scores, "iou", "heart").to_dict() == {runs[0]: 99.0}
    assert run_scores(scores, "dice").empty


def test_axes_are_whatever_columns_there_are():
    old = frame({"SupTC": {5: [7.0]}}).drop(columns=["amplitude", "validation"])
    assert run_scores(old).to_dict() == {("SupTC", 5, 0, 0): 7.0}


def test_differences_are_of_runs_that_share_all_but_the_method():
    of_runs = {
        ("A", 5, 0, 0, 4.0, "all"): 10.0,
        ("A", 5, 1, 0, 4.0, "all"): 20.0,
        ("A", 10, 0, 0, 4.0, "all"): 30.0,
        ("A", 5, 0, 1, 4.0, "all"): 40.0,
        ("A", 5, 2, 0, 2.0, "all"): 50.0,
        ("A", 5, 2, 0, 4.0, "matched"): 60.0,
        ("B", 5, 0, 0, 4.0, "all"): 1.0,
        ("B", 10, 0, 0, 4.0, "all"): 2.0,
        ("B", 5, 2, 0, 4.0, "all"): 3.0,  # A has this split only at another amplitude, or another validation set
        ("B", 10, 0, 0, 4.0, "matched"): 4.0,
    }
    runs = pd.Series(list(of_runs.values()), index=pd.MultiIndex.from_tuples(of_runs, names=AXES))
    at_5, at_10 = (5, 0, 0, 4.0, "all"), (10, 0, 0, 4.0, "all")
    assert differences(runs, "A", "B").to_dict() == {at_5: 9.0, at_10: 28.0}
    assert differences(runs, "B", "A").to_dict() == {at_5: -9.0, at_10: -28.0}
    assert differences(runs, "A", "B", (10, 25)).to_dict() == {at_10: 28.0}
    for better, than in (("A", "C"), ("C", "A")):
        none = differences(runs, better, than)
        assert (len(none), list(none.index.names)) == (0, AXES[1:])


def wilcoxon_by_hand(d):
    """One-sided exact p: the share of all sign patterns whose rank sum is at least that of d."""
    ranks = stats.rankdata(np.abs(d))
    observed = ranks[np.array(d) > 0].sum()
    sums = [(ranks * signs).sum() for signs in itertools.product((0, 1), repeat=len(d))]
    return np.mean([total >= observed - 1e-9 for total in sums])


def t_by_hand(d):
    t = np.mean(d) / (np.std(d, ddof=1) / np.sqrt(len(d)))
    return stats.t(df=len(d) - 1).sf(t)


@pytest.mark.parametrize(
    "d",
    [
        [1, 2, 3, 4, 5.5],
        [1.0, -2, 3, 4, 5.5],
        [-1.0, -2, -3, -4, -5.5],
        [0.1, 2, 3, -1, -0.5, 4, 6, 7, -2.5, 8],
        [1.0, 1, 2, -2, 3, 3],
    ],
)
def test_from_five_runs_on_wilcoxon(d):
    name, p = greater(pd.Series(d))
    assert "Wilcoxon" in name
    assert "one-sided" in name
    assert p == pytest.approx(wilcoxon_by_hand(d), abs=1e-12)


@pytest.mark.parametrize("d", [[1, 2, 3.5], [-1, 2, 3.5, 4], [3, 3.1, 2.9], [-1.0, -2, -4]])
def test_three_or_four_runs_are_compared_by_t(d):
    name, p = greater(pd.Series(d))
    assert "paired t" in name
    assert p == pytest.approx(t_by_hand(d), rel=1e-9)


def test_five_wins_of_five_are_just_enough():
    assert greater(pd.Series([1.0, 2, 3, 4, 5]))[1] == 1 / 32
    assert greater(pd.Series([-1.0, 2, 3, 4, 5]))[1] == 2 / 32


@pytest.mark.parametrize("d", [[], [1.0], [1.0, 2.0]])
def test_below_three_there_is_no_test(d):
    assert greater(pd.Series(d, dtype=float)) == ("", None)


def test_equal_differences():
    assert greater(pd.Series([2.0] * 6))[1] == 1 / 64
    assert greater(pd.Series([0.0] * 6))[1] == 1
    assert greater(pd.Series([-2.0] * 6))[1] == 1


# ---- the ledger as a whole ----


def test_every_claim_has_a_rule_and_every_rule_a_claim():
    claims = [claim["id"] for claim in published("bortsova2019")["claims"]]
    assert claims == [f"bortsova-{i:02}" for i in range(1, 21)]
    named = {*RULES}
    assert named == {*claims}
    for claim in published("bortsova2019")["claims"]:
        assert set(claim) == {"id", "statement", "source", "compare", "tolerance", "published"}


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
        assert list(claims.columns) == "paper claim statement published ours n test p data verdict".split()
        assert (claims["verdict"] == "not run").all()
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
    supported = [f"bortsova-{i:02}" for i in (1, 2, 4, 5, 6, 7, 8, 9, 19)]
    assert claims.loc[supported, "verdict"].to_dict() == dict.fromkeys(supported, "supported")
    assert set(claims.drop(index=supported)["verdict"]) == {"not run"}
    assert "24 of 25" in claims.loc["bortsova-01", "ours"]
    assert "20 of 25" in claims.loc["bortsova-08", "ours"]  # SemiTC+ is worse at 5 labels in every split
    assert claims.loc["bortsova-19", "p"] < 0.001


def test_the_reverse_of_the_table_contradicts(as_published):
    reverse = {"Baseline": "SemiTC+", "SupTC": "SemiTC", "SemiTC": "SupTC", "SemiTC+": "Baseline"}
    scores = as_published[as_published["labels"] != 100].replace({"method": reverse})
    claims = judge(scores, "jsrt").set_index("claim")["verdict"]
    for i in (1, 4, 5, 6, 8, 19):
        assert claims[f"bortsova-{i:02}"] == "contradicted", i


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
    assert (only["verdict"] == "not run").all()
    assert (only["n"] == 0).all()


def test_several_amplitudes_judge_nothing(full):
    assert (judge(full, "jsrt")["verdict"] == "supported").sum() == 11
    for other in (full, full[(full["split"] == 0) & (full["labels"] == 5)]):
        claims = judge(pd.concat([full, other.assign(amplitude=2.0)]), "jsrt")
        assert (claims["verdict"] == "not run").all()
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
    assert claim.verdict == "not run"
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
@pytest.mark.parametrize(
    ("beyond", "expected"),
    [
        (-0.01, 19),
        (0, 19),
        (0.01, 0),
    ],
)
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


@pytest.mark.parametrize(
    ("wins", "n", "expected"),
    [
        (25, 25, "supported"),
        (24, 25, "supported"),  # 0.96
        (23, 25, "inconclusive"),
        (13, 25, "inconclusive"),
        (12, 25, "contradicted"),
        (16, 20, "supported"),  # 0.8, binomial p = 0.006
        (15, 20, "inconclusive"),  # p = 0.02, but 0.75
        (10, 20, "contradicted"),  # 0.5
        (11, 20, "inconclusive"),
        (12, 15, "supported"),  # 0.8, p = 0.018
        (11, 15, "inconclusive"),
    ],
)
def test_claim_01(wins, n, expected):
    assert verdict("01", counted("SupTC", "Baseline", wins, ALL, n // 5)) == expected


def test_claim_01_needs_15_pairs():
    scores = counted("SupTC", "Baseline", 15, ALL, 3)
    assert verdict("01", scores) == "supported"
    lost = scores[(scores["method"] != "SupTC") | (scores["labels"] != 5) | (scores["split"] != 0)]
    assert verdict("01", lost) == "not run"


def test_claim_01_a_tie_is_no_win():
    scores = counted("SupTC", "Baseline", 24, ALL)
    scores.loc[(scores["method"] == "SupTC") & (scores["labels"] == 5) & (scores["split"] == 0), "value"] -= 1
    assert verdict("01", scores) == "inconclusive"


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ((2.25, 0.75, 0.25, 0.5, 0.25), "supported"),
        ((4.25, 4.25, 4.25, 4.25, 4.25), "supported"),
        ((4.5, 1, 1, 1, 1), "inconclusive"),  # an open interval
        ((1, 1, 1, 1, -0.25), "supported"),
        ((1, 1, 1, 1, -0.5), "inconclusive"),
        ((9, 1, 1, 1, 1), "inconclusive"),
        ((9.25, 1, 1, 1, 1), "contradicted"),
        ((-0.25, -0.25, -0.25, -0.25, -0.25), "contradicted"),  # below 0, and by TEST
        ((0, 0, 0, 0, 0), "inconclusive"),
        ((-0.25, 0.25, -0.25, 0.25, -0.125), "inconclusive"),  # below 0, but not by TEST
    ],
)
def test_claim_02(gains, expected):
    spread = (-0.03125, 0.03125, 0, 0.015625, -0.015625)  # exact in binary, mean 0
    scores = pairs("SupTC", "Baseline", {n: [g + s for s in spread] for n, g in zip(ALL, gains, strict=True)})
    assert verdict("02", scores) == expected


def test_claim_02_names_every_label_count():
    gains = {n: [1.0, 1.25, 0.75] for n in ALL}
    assert verdict("02", pairs("SupTC", "Baseline", gains)) == "supported"
    assert verdict("02", pairs("SupTC", "Baseline", {**gains, 50: [1.0, 1.25]})) == "not run"
    assert verdict("02", pairs("SupTC", "Baseline", {n: gains[n] for n in ALL[:4]})) == "not run"


def losses(sup, cons, base=(0.3, 0.2)):
    """20 pairs over 4 label counts: SupTC's losses minus the Baseline's, `base`."""
    frames = []
    for name, d, b in zip(("loss_sup", "loss_cons"), (sup, cons), base, strict=True):
        values = {"Baseline": np.full(20, b), "SupTC": np.round(b + np.array(d), 4)}
        of_labels = {m: dict(zip(ALL[:4], v.reshape(4, 5).tolist(), strict=True)) for m, v in values.items()}
        frames.append(frame(of_labels, name))
    return pd.concat(frames)


@pytest.mark.parametrize(
    ("sup", "cons", "expected"),
    [
        ([0.01] * 20, [-0.1] * 20, "supported"),
        ([0.01] * 11 + [-0.01] * 9, [-0.1] * 20, "supported"),  # more than half
        ([0.01] * 10 + [-0.01] * 10, [-0.1] * 20, "inconclusive"),
        ([0.01] * 20, [-0.1] * 18 + [0.1] * 2, "supported"),  # 90 %
        ([0.01] * 20, [-0.1] * 17 + [0.1] * 3, "inconclusive"),
        ([0.01] * 18 + [0.2] * 2, [-0.1] * 20, "supported"),  # the total lower in 90 %
        ([0.01] * 17 + [0.2] * 3, [-0.1] * 20, "inconclusive"),
        ([-0.01] * 16 + [0.01] * 4, [-0.1] * 20, "contradicted"),  # 80 %
        ([-0.01] * 15 + [0.01] * 5, [-0.1] * 20, "inconclusive"),
        ([-0.004] * 20, [-0.1] * 20, "supported"),  # similar
        ([0.01] * 20, [0.0] * 20, "inconclusive"),  # equal is not lower
    ],
)
def test_claim_03(sup, cons, expected):
    assert verdict("03", losses(sup, cons)) == expected


def test_claim_03_similar_includes_its_edge():
    """0.300 >= 0.305 - 0.005 in decimals; losses are stored with four of them, so that ties do happen."""
    for base in (0.305, 0.105, 0.405):
        assert verdict("03", losses([-0.005] * 20, [-0.1] * 20, (base, 0.2))) == "supported", base


def test_claim_03_without_losses():
    assert verdict("03", counted("SupTC", "Baseline", 20, ALL)) == "not run"


@pytest.mark.parametrize(
    ("wins", "expected"),
    [(10, "supported"), (9, "inconclusive"), (8, "inconclusive"), (7, "contradicted"), (0, "contradicted")],
)
def test_claim_04(wins, expected):
    assert verdict("04", counted("SemiTC", "SupTC", wins, (5, 10))) == expected


def test_claim_04_names_five_splits_at_both_label_counts():
    assert verdict("04", counted("SemiTC", "SupTC", 8, (5, 10), 4)) == "not run"
    other = counted("SemiTC", "SupTC", 10, (25, 50))
    assert verdict("04", other) == "not run"
    two_seeds = pd.concat([counted("SemiTC", "SupTC", 5, (5,)).assign(seed=seed) for seed in (0, 1)])
    assert verdict("04", two_seeds) == "not run"  # ten pairs, but none at 10 labels


@pytest.mark.parametrize(
    ("at_5", "at_10", "expected"),
    [
        (9, 3.25, "supported"),
        (4.5, 3.25, "supported"),
        (4.375, 3.25, "inconclusive"),
        (9, 1.75, "supported"),
        (9, 1.5, "inconclusive"),
        (0, 3, "inconclusive"),  # <= 0, but by no TEST
        (-1, 3, "contradicted"),
        (-1, -1, "contradicted"),
        (9, -9, "inconclusive"),
    ],
)
@pytest.mark.parametrize("n", [3, 4, 5])
def test_claim_05(at_5, at_10, expected, n):
    spread = {3: (-0.125, 0, 0.125), 4: (-0.125, -0.0625, 0.0625, 0.125), 5: (-0.125, -0.0625, 0, 0.0625, 0.125)}[n]
    scores = pairs("SemiTC", "SupTC", {5: [at_5 + s for s in spread], 10: [at_10 + s for s in spread]})
    assert verdict("05", scores) == expected


def test_claim_05_needs_the_test_at_both_label_counts():
    large = [20.0, 21, 22, 23, -1]  # 2 of 32 sign patterns: p = 0.0625
    clear = [9.0, 9.5, 10, 10.5, 11]
    assert verdict("05", pairs("SemiTC", "SupTC", {5: clear, 10: clear})) == "supported"
    assert verdict("05", pairs("SemiTC", "SupTC", {5: large, 10: clear})) == "inconclusive"
    assert verdict("05", pairs("SemiTC", "SupTC", {5: clear, 10: large})) == "inconclusive"
    assert verdict("05", pairs("SemiTC", "SupTC", {5: clear})) == "not run"


def test_claim_05_edges_are_decimals():
    """Gains of exactly 4.5 and 1.65 in decimals, where binary fractions fall just short of them."""
    gains = {5: ("60.1 64.5", "60.2 64.6", "60.3 64.8", "60.4 65.0", "60.5 65.1"), 10: ("70.1 71.75",) * 5}
    values = {
        m: {n: [float(p.split()[i]) for p in of_n] for n, of_n in gains.items()}
        for i, m in ((0, "SupTC"), (1, "SemiTC"))
    }
    assert verdict("05", frame(values)) == "supported"


@pytest.mark.parametrize(
    ("at_25", "at_50", "expected"),
    [
        (5, 5, "supported"),
        (4, 4, "supported"),
        (4, 3, "inconclusive"),
        (3, 5, "inconclusive"),
        (5, 2, "contradicted"),
        (2, 5, "contradicted"),
        (3, 3, "inconclusive"),
    ],
)
def test_claim_06(at_25, at_50, expected):
    gains = {25: [1.0] * at_25 + [-0.5] * (5 - at_25), 50: [1.0] * at_50 + [-0.5] * (5 - at_50)}
    assert verdict("06", pairs("SemiTC", "SupTC", gains)) == expected
    assert verdict("06", pairs("SemiTC", "SupTC", {n: g[:4] for n, g in gains.items()})) == "not run"


def test_claim_07():
    spread = (-0.25, -0.125, 0, 0.125, 0.25)

    def scores(*gains):
        return pairs("SemiTC", "SupTC", {n: [g + s for s in spread] for n, g in zip(ALL, gains, strict=False)})

    assert verdict("07", scores(9, 3, 1, 0)) == "supported"
    assert verdict("07", scores(9, 3, 1, 2)) == "supported"  # 50 is not in the ordering
    assert verdict("07", scores(3, 9, 1, 0)) == "inconclusive"  # falls, but not from 5 to 10
    assert verdict("07", scores(9, 3, 3, 0)) == "inconclusive"  # equal is not less
    assert verdict("07", scores(0, 1, 3, 9)) == "contradicted"
    assert verdict("07", scores(1, 1, 1, 1)) == "inconclusive"
    assert verdict("07", scores(9, 3, 1)) == "not run"


def test_claim_07_needs_the_correlation():
    """The means fall, the ranks do not: Spearman's p by hand is above 0.05."""
    gains = {5: [20.0, 0, 0, 0, 0.1], 10: [10.0, 0.2, 0.3, 0.4, 0.5], 25: [1.0, 1.1, 1.2, 1.3, 1.4], 50: [0.0] * 5}
    ranks = stats.rankdata(np.concatenate(list(gains.values())))
    labels = stats.rankdata(np.repeat(list(gains), 5))
    r = np.corrcoef(ranks, labels)[0, 1]
    assert 2 * stats.t(18).sf(abs(r) * np.sqrt(18 / (1 - r**2))) > 0.05
    assert np.mean(gains[5]) > np.mean(gains[10]) > np.mean(gains[25])
    assert verdict("07", pairs("SemiTC", "SupTC", gains)) == "inconclusive"


@pytest.mark.parametrize(
    ("wins", "n", "expected"),
    [
        (20, 25, "supported"),  # 0.8
        (19, 25, "inconclusive"),
        (13, 25, "inconclusive"),
        (12, 25, "contradicted"),
        (12, 15, "supported"),
        (11, 15, "inconclusive"),
        (10, 20, "contradicted"),
    ],
)
def test_claim_08(wins, n, expected):
    """At 100 labels the partner is SupTC, because SemiTC is SupTC there."""
    scores = counted("SemiTC+", "SemiTC", wins, ALL, n // 5)
    scores.loc[(scores["method"] == "SemiTC") & (scores["labels"] == 100), "method"] = "SupTC"
    assert verdict("08", scores) == expected


def test_claim_08_mean_and_number():
    gains = {n: [1.0, 1, 1, 1, -4] for n in ALL[:4]}
    assert verdict("08", pairs("SemiTC+", "SemiTC", gains)) == "inconclusive"  # 0.8, but a mean of 0
    gains[5][4] = -3.0
    assert verdict("08", pairs("SemiTC+", "SemiTC", gains)) == "supported"
    few = counted("SemiTC+", "SemiTC", 12, ALL[:4], 3)
    assert verdict("08", few) == "not run"
    with_suptc = pd.concat([few, pairs("SupTC", "x", {n: [0.0] * 3 for n in ALL[:4]})])  # SupTC stands in at 100 only
    assert verdict("08", with_suptc) == "not run"


def gains_over_suptc(semi, plus, consistency):
    """Five splits: SemiTC - SupTC, SemiTC+ - SupTC and SupTC - Baseline at 5, 10 and 25."""
    values = {name: {} for name in TABLE_1}
    for n, a, b, c in zip(ALL, semi, plus, consistency, strict=False):
        for method, value in (("Baseline", 50 - c), ("SupTC", 50), ("SemiTC", 50 + a), ("SemiTC+", 50 + b)):
            values[method][n] = [float(value)] * 5
    return frame(values)


@pytest.mark.parametrize(
    ("semi", "plus", "consistency", "expected"),
    [
        ((9, 3, 1), (9, 4, 2), (2, 0.75, 0.25), "supported"),
        ((9, 3, 0.25), (9, 4, 2), (2, 0.75, 0.25), "inconclusive"),  # equal at 25 is not larger
        ((9, 3, 1), (9, 4, 0), (2, 0.75, 0.25), "inconclusive"),
        ((1, 3, 1), (9, 4, 2), (2, 0.75, 0.25), "inconclusive"),
        ((1, 0.5, 1), (1, 0.5, 2), (2, 0.75, 0.25), "contradicted"),
        ((1, 3, 0), (1, 3, 0), (2, 0.75, 0.25), "inconclusive"),  # smaller at 5 only
        ((0, 0, 0), (0, 0, 0), (0, 0, 0), "inconclusive"),  # equal is not smaller
        ((2, 0.75, 1), (2, 0.75, 1), (2, 0.75, 0.25), "inconclusive"),
    ],
)
def test_claim_09(semi, plus, consistency, expected):
    assert verdict("09", gains_over_suptc(semi, plus, consistency)) == expected


def test_claim_09_needs_all_four_methods():
    scores = gains_over_suptc((9, 3, 1), (9, 4, 2), (2, 0.75, 0.25))
    for method in TABLE_1:
        assert verdict("09", scores[scores["method"] != method]) == "not run"
    assert verdict("09", scores[scores["labels"] != 25]) == "not run"


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "supported"),
        ([-1, -2, -3, -4, -5, -6, -7, -8, -9, -10], "contradicted"),
        ([1, -2, 3, -4, 5, -6, 7, -8, 9, -10], "inconclusive"),
        ([-1, -2, -3, -4, 5, 6, 7, 8, 9, 10], "supported"),  # rank sum 45 of 55: p = 0.042
        ([-1, -2, -3, -5, 4, 6, 7, 8, 9, 10], "inconclusive"),  # 44: p = 0.053
    ],
)
def test_claim_18(gains, expected):
    assert (wilcoxon_by_hand(gains) < 0.05) == (expected == "supported")
    scores = pairs("SemiTC", STOP, {5: gains[:5], 10: gains[5:]})
    assert verdict("18", scores) == expected
    assert "ours" in RULES["bortsova-18"](scores).ours
    assert verdict("18", scores[(scores["labels"] == 5) | (scores["split"] < 4)]) == "not run"


@pytest.mark.parametrize(
    ("at_5", "others", "expected"),
    [
        (11, 2, "supported"),
        (5.75, 2, "supported"),
        (5.5, 2, "inconclusive"),
        (11, -2, "inconclusive"),
        (-2, -2, "contradicted"),
        (0, 0, "inconclusive"),
    ],
)
def test_claim_19(at_5, others, expected):
    spread = (-0.25, -0.125, 0, 0.125, 0.25)
    gains = {n: [(at_5 if n == 5 else others) + s for s in spread] for n in ALL[:4]}
    assert verdict("19", pairs("SemiTC", "Baseline", gains)) == expected


def test_claim_19_edge_and_number():
    gains = {n: [2.0, 3, 4, 5] for n in ALL[1:4]} | {5: [5.0, 5.5, 6, 6.5]}
    assert verdict("19", pairs("SemiTC", "Baseline", gains)) == "supported"
    assert verdict("19", pairs("SemiTC", "Baseline", {n: g[:3] for n, g in gains.items()})) == "not run"
    at_5 = {"Baseline": {5: [60.0] * 5}, "SemiTC": {5: [65.6] * 5}}  # 5.6 in decimals
    rest = pairs("SemiTC", "Baseline", {n: [2.0, 3, 4, 5, 6] for n in ALL[1:4]})
    assert verdict("19", pd.concat([frame(at_5), rest])) == "supported"


def test_a_larger_gain_at_100_labels_does_not_count_in_claim_19():
    gains = {n: [6.0, 7, 8, 9, 10] for n in ALL[:4]} | {100: [-90.0] * 5}
    assert verdict("19", pairs("SemiTC", "Baseline", gains)) == "supported"


@pytest.mark.parametrize("claim", ["10", "11", "12", "13", "14", "15", "16", "17", "20"])
def test_claims_that_need_what_was_not_run(as_published, claim):
    assert verdict(claim, as_published) == "not run"
