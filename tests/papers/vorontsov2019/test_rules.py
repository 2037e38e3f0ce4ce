"""Vorontsov et al. 2019: every rule at the edges of its tolerance, as the paper's `published.yaml` words it."""

import io
from functools import partial

import numpy as np
import pandas as pd
import pytest
from claims_kit import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_RUN,
    SUPPORTED,
    asked,
    by_margin,
    cases,
    contradicted,
    even,
    inconclusive,
    named,
    needs,
    nothing_judged,
    of_the_test,
    over,
    p_of,
    supported,
    sure,
    unsure,
)

from fewlabels.papers.vorontsov2019.claims import RULES, judge
from fewlabels.scores.published import published, published_values
from fewlabels.scores.statistics import greater

COLUMNS = "method task seed subject structure metric value".split()
MNIST, BRATS = ("48-simple", "48-hard", "128"), "brats"
SEG, AE, OURS, SEPARATE = "Only segmentation", "AE baseline", "Proposed", "Proposed (sep dec)"
CONCAT, SUM, NO_SKIP, NO_CYCLE = "Proposed (concat)", "Proposed (sum)", "Proposed (no skip)", "Proposed (no cycle)"
TABLE_1A = {  # as printed: 48-simple, 48-hard, 128, brats
    SEG: (0.61, 0.36, 0.15, 0.69), AE: (0.75, 0.49, 0.57, 0.73),
    OURS: (0.79, 0.57, 0.65, 0.79), SEPARATE: (0.78, 0.50, 0.70, 0.77),
}  # fmt: skip
SD_1A = {
    SEG: (0.01, 0.01, 0.01, 0.04), AE: (0.01, 0.02, 0.02, 0.02),
    OURS: (0.01, 0, 0.01, 0.02), SEPARATE: (0.02, 0.01, 0, 0.03),
}  # fmt: skip
TABLE_1B = {"Compress": (0.57, 0), "Concat": (0.57, 0.01), "Sum": (0.56, 0), "No skip": (0.42, 0.01)}
SKIPS = {"Compress": OURS, "Concat": CONCAT, "Sum": SUM, "No skip": NO_SKIP}
OWN = "the paper's own Table 1 contradicts it: No skip 0.42 is below AE baseline 0.49"
SINGLE = {6: ("48-hard", OURS, SEPARATE), 7: ("128", SEPARATE, OURS)}  # claims of one pair by TEST


# ---- scores.csv, built here ----


def rows(values, task="48-hard", metric="dice_global", structure="all", first=0):
    """`values = {method: a number for five sure seeds, or one a seed}`."""
    found = []
    for method, of in values.items():
        for seed, value in enumerate(over(of), first):
            found.append((method, task, seed, "all", structure, metric, value))
    return pd.DataFrame(found, columns=COLUMNS)


def patients(number, methods=(SEG, AE, OURS, SEPARATE)):
    return rows({method: even(number) for method in methods}, BRATS, "patients")


def beside(scores):
    """Scores that say otherwise and decide nothing."""
    wrong = scores[scores["metric"] == "dice_global"].assign(value=-0.5)
    others = [wrong.assign(metric="dice_thresholded"), wrong.assign(metric="dice_per_image")]
    return [*others, wrong.assign(structure="digit 3"), wrong.assign(method="Proposed (other)", value=np.nan)]


def found(claim, *frames):
    return asked(RULES[f"vorontsov-{claim:02}"], frames, beside)


def verdict(claim, *frames):
    return found(claim, *frames).verdict


def skips(compress=0.6, concat=0.59, total=0.58, none=0.5, **options):
    return rows({OURS: compress, CONCAT: concat, SUM: total, NO_SKIP: none}, **options)


def removal(simple=0.9, hard=0.5, dice=(0.8, 0.4), share=0.41, area=0.2):
    values = {"removed": (simple, hard), "residual_dice": dice, "residual_share": (0.5, share)}
    values["mask_share"] = (0.3, area)
    of_task = [(metric, *pair) for metric, both in values.items() for pair in zip(MNIST, both)]
    steady = [rows({OURS: even(of) if metric != "removed" and np.ndim(of) == 0 else of}, task, metric)
              for metric, task, of in of_task]  # fmt: skip
    return pd.concat(steady)


def varied(diversity=(-0.1,) * 5, entropy=(-0.2,) * 5, zeros=(0.3,) * 5):
    """What hard has more than simple."""
    values = {"diversity": diversity, "entropy": entropy, "zeros": zeros}
    frames = [rows({OURS: np.full(len(d), 1.0)}, "48-simple", metric) for metric, d in values.items()]
    return pd.concat([*frames, *(rows({OURS: 1 + np.array(d)}, "48-hard", m) for m, d in values.items())])


def contrast(before=1.0, number=285, **after):
    frames = [patients(number, [OURS])]
    for sequence, left in after.items():
        left = even(left) if np.ndim(left) == 0 else left
        frames.append(rows({OURS: even(before)}, BRATS, "contrast_before", sequence))
        frames.append(rows({OURS: left}, BRATS, "contrast_after", sequence))
    return pd.concat(frames)


def speed(**changed):
    """Compress, concat, sum, none: as the paper says, but for what is changed."""
    values = {"steps_to_90": (500, 480, 520, 900), "reconstruction": (0.02, 0.02, 0.03, 0.05)}
    values |= {"removed": (0.8, 0.85, 0.3, 0.7)}
    values = {metric: {m: even(v, 3) for m, v in zip(SKIPS.values(), of)} for metric, of in values.items()}
    for metric, of in changed.items():
        values[metric] |= of
    return pd.concat([rows(of, metric=metric) for metric, of in values.items()])


def digits(task, gain, ae=0.1, nine=0.3):
    found = [rows({SEG: even(0.4), AE: even(0.4 + gain - ae if np.ndim(gain) == 0 else 0.4)}, task)]
    found.append(rows({OURS: 0.4 + over(gain)}, task))
    of_nine = rows({SEG: even(0.5), AE: even(0.6), OURS: even(0.5 + nine)}, task)
    return pd.concat([pd.concat(found).assign(structure="digits 0-8"), of_nine.assign(structure="digit 9")])


def schedule(task, methods, steps=892500, width=None, metric="steps", n=3, first=0):
    width = width or (32 if task.startswith("48") else 16)
    told = {metric: steps, "width": width}
    return pd.concat([rows({m: np.full(n, of) for m in methods}, task, name, first=first) for name, of in told.items()])


def table(off=None, tasks=MNIST, n=3):
    """Dice of three seeds whose means are the printed ones; `off = {(row, task): how far}`."""
    frames = []
    for i, task in enumerate((*MNIST, BRATS)):
        if task in tasks:
            cells = {method: means[i] for method, means in TABLE_1A.items()}
            if task == "48-hard":
                cells |= {SKIPS[skip]: mean for skip, (mean, _) in TABLE_1B.items()}
            cells = {m: mean + (off or {}).get((m, task), 0) + np.linspace(-0.01, 0.01, n) for m, mean in cells.items()}
            frames.append(rows(cells, task))
    return pd.concat(frames)


def full(tasks=MNIST, **options):
    frames = []
    for task in tasks:
        methods = [*TABLE_1A, *([CONCAT, SUM, NO_SKIP] if task == "48-hard" else [])]
        frames.append(schedule(task, methods, **options))
    return pd.concat(frames)


@pytest.fixture(scope="module")
def claimed():
    """Scores of MNIST for which whatever the paper claims holds, its numbers where it has some."""
    dice = {task: {m: sure(means[i]) * (1 + 0.001 * j) for j, (m, means) in enumerate(TABLE_1A.items())}
            for i, task in enumerate(MNIST)}  # fmt: skip
    dice["48-simple"][NO_CYCLE] = sure(0.79)
    dice["48-hard"] |= {NO_CYCLE: sure(0.57), CONCAT: sure(0.57), SUM: sure(0.56), NO_SKIP: sure(0.5)}  # above AE
    frames = [rows(of, task) for task, of in dice.items()]
    frames += [removal(), varied(), full(n=5), *(digits(task, 0.2) for task in MNIST)]
    return pd.concat([*frames, speed().query("metric != 'removed' or method != @OURS")])


@pytest.fixture(scope="module")
def brains():
    dice = {m: sure(means[3]) * (1 + 0.001 * i) for i, (m, means) in enumerate(TABLE_1A.items())}
    long = schedule(BRATS, TABLE_1A, 500, metric="epochs")
    return pd.concat([rows(dice, BRATS), patients(285), contrast(flair=0.2, t2=0.3, t1=0.9, t1ce=0.9), long])


# ---- the file, and what the paper says as a whole ----


def test_published_numbers():
    def of(name):
        values = published_values("vorontsov2019", name)
        return {(row, column): (mean, sd) for row, column, mean, sd in values.to_numpy()}

    tasks = (*MNIST, BRATS)
    assert of("Table 1a") == {
        (m, task): (TABLE_1A[m][i], SD_1A[m][i]) for m in TABLE_1A for i, task in enumerate(tasks)
    }
    assert of("Table 1b") == {(skip, "48-hard"): pair for skip, pair in TABLE_1B.items()}
    assert len(published("vorontsov2019")["values"]) == 20
    assert of("Table 1b")["No skip", "48-hard"][0] < of("Table 1a")[AE, "48-hard"][0]
    assert OWN.endswith("No skip 0.42 is below AE baseline 0.49")


OF_BRATS = (4, 8, 14, 18)


def test_the_paper_supports_its_claims(claimed, brains):
    on_mnist = dict.fromkeys(range(1, 19), SUPPORTED) | {4: NOT_RUN, 14: NOT_RUN}
    on_mnist |= {16: INCONCLUSIVE}  # that concatenation costs time is not among the scores
    assert {i: verdict(i, claimed) for i in on_mnist} == on_mnist
    on_brats = dict.fromkeys(range(1, 19), NOT_RUN) | dict.fromkeys(OF_BRATS, SUPPORTED)
    assert {i: verdict(i, brains) for i in on_brats} == on_brats


def test_the_papers_own_table_contradicts_claim_11(claimed):
    scores = claimed[claimed["method"] != NO_SKIP]
    judged = found(11, scores, rows({NO_SKIP: 0.42}))
    assert judged.verdict == CONTRADICTED
    assert f"{NO_SKIP} - {AE} -0.07" in judged.ours


def test_claims_on_the_other_experiment(claimed, brains):
    for claim in {*range(1, 18)} - {*OF_BRATS}:
        own = f"; {OWN}" if claim == 11 else ""
        assert found(claim, brains).ours == f"a claim on cluttered MNIST; these are scores of BraTS{own}"
    for claim in (4, 14):
        assert found(claim, claimed).ours == "a claim on BraTS; these are scores of cluttered MNIST"


@pytest.mark.parametrize("scores", ["claimed", "brains"])
def test_nothing_run(request, scores):
    scores = request.getfixturevalue(scores)
    nothing_judged(judge, 18, scores)
    assert OWN in judge(scores[:0], "mnist")["ours"][10]


READS = {  # claim: tasks, methods, metrics, structures
    1: (["48-simple"], [SEG, AE, OURS], ["dice_global"], ["all"]),
    2: (["48-hard"], [SEG, AE, OURS], ["dice_global"], ["all"]),
    3: (["128"], [SEG, AE, OURS], ["dice_global"], ["all"]),
    5: (MNIST, [AE, OURS], ["dice_global"], ["all"]),
    6: (["48-hard"], [OURS, SEPARATE], ["dice_global"], ["all"]),
    7: (["128"], [OURS, SEPARATE], ["dice_global"], ["all"]),
    8: (["48-simple"], [OURS, SEPARATE], ["dice_global"], ["all"]),
    9: (["48-hard"], [OURS, CONCAT, SUM], ["dice_global"], ["all"]),
    10: (["48-hard"], [OURS, NO_SKIP], ["dice_global"], ["all"]),
    11: (["48-hard"], [SEG, AE, *SKIPS.values()], ["dice_global"], ["all"]),
    12: (MNIST[:2], [OURS], ["removed", "residual_dice", "residual_share", "mask_share"], ["all"]),
    13: (MNIST[:2], [OURS], ["diversity", "entropy", "zeros"], ["all"]),
    15: (MNIST[:2], [OURS, NO_CYCLE], ["dice_global"], ["all"]),
    17: (["128"], [SEG, OURS], ["dice_global"], ["digits 0-8"]),
}


@pytest.mark.parametrize("claim", READS)
def test_needs_three_seeds_of_what_it_names(claimed, claim):
    """And is not concerned by what it does not name."""
    places, scores = ["task", "method", "metric", "structure"], claimed
    for column, values in zip(places, READS[claim]):
        scores = scores[scores[column].isin(values)]
    needs(partial(verdict, claim), scores, places, "seed")


def test_claim_16_needs_three_seeds_of_what_it_names():
    scores = speed()
    named = {"steps_to_90": (OURS, NO_SKIP), "reconstruction": (OURS, NO_SKIP)}
    named |= {"removed": (OURS, CONCAT, SUM)}
    needed = [method in named[metric] for method, metric in zip(scores["method"], scores["metric"])]
    assert found(16, scores[needed]) == found(16, scores)
    for metric, methods in named.items():
        for method in methods:
            here = (scores["metric"] == metric) & (scores["method"] == method)
            assert verdict(16, scores[~here]) == NOT_RUN
            assert verdict(16, scores[~here | (scores["seed"] < 2)]) == NOT_RUN


def test_why_it_was_not_run(claimed):
    two = claimed[claimed["seed"] < 2]
    said = f"{OURS} (dice_global) 0.571, {SEPARATE} (dice_global) 0.501"
    assert found(6, two).ours == f"2 of 3 seeds with {OURS} and {SEPARATE} on 48-hard: {said}"
    assert found(6, two).n == 2
    without = claimed[~claimed["method"].isin([SUM])]
    assert found(9, without).ours == f"no scores of {SUM} (dice_global) with 48-hard"
    assert found(11, without).ours == f"no scores of {SUM} (dice_global) with 48-hard; {OWN}"
    assert found(17, claimed[claimed["structure"] == "all"]).ours == (
        f"no scores of {OURS} (dice_global), {SEG} (dice_global) with 48-simple, digits 0-8"
    )
    apart = claimed.assign(seed=claimed["seed"] + 3 * (claimed["task"] == "48-hard"))
    assert (found(13, apart).ours, found(13, apart).n) == ("2 of 3 seeds that 48-simple and 48-hard share", 2)


def test_a_task_that_was_read_as_a_number():
    scores = rows({SEG: 0.1, AE: even(0.2), OURS: 0.3 + 3 * sure(0)}, "128")
    read = pd.read_csv(io.StringIO(scores.to_csv(index=False)))
    assert read["task"].dtype == int
    assert RULES["vorontsov-03"](read) == RULES["vorontsov-03"](scores)
    assert RULES["vorontsov-03"](read).verdict == SUPPORTED
    assert "1 of 1 agree" not in RULES["vorontsov-18"](read).ours
    assert "of 3 agree" in RULES["vorontsov-18"](read).ours


# ---- the test ----


@of_the_test
def test_the_test(d, expected):
    """One-sided, below 0.05, with a mean of that sign; pairs share the seed, whatever the level of each is."""
    gain, level = np.array(d) / 100, 0.5 + 0.03 * np.arange(len(d))
    for claim, (task, better, than) in SINGLE.items():
        alone = rows({better: [0.9]}, task, first=20)
        judged = found(claim, rows({better: level + gain, than: level}, task), alone)
        assert (judged.verdict, judged.n) == (expected, len(d))
        assert judged.p == pytest.approx(p_of(gain))
        assert judged.test == named(d)


# ---- each rule at its edges ----


@pytest.mark.parametrize(("claim", "task"), list(zip((1, 2, 3, 4), (*MNIST, BRATS))))
@cases(
    "first second",
    supported((0.01, 0.1)),
    inconclusive((0.1, unsure(0.01)), (unsure(0.01), 0.1), (even(0), 0.1), (unsure(-0.01), unsure(-0.01))),
    contradicted((-0.01, 0.1), (0.1, -0.01), (-0.01, unsure(0))),
)
def test_claims_01_to_04(claim, task, first, second, expected):
    second = over(second)
    first = over(first)
    scores = rows({SEG: even(0.5), AE: 0.5 + second, OURS: 0.5 + second + first}, task)
    frames = [scores, patients(285)] if task == BRATS else [scores]
    judged = found(claim, *frames)
    assert (judged.verdict, judged.n) == (expected, 5)
    assert judged.p == max(greater(pd.Series(d).round(6))[1] for d in (first, second))


def test_claim_01_says_what_it_rests_on():
    judged = found(1, rows({SEG: even(0.61), AE: even(0.75), OURS: 0.79}, "48-simple"))
    assert judged.ours == (
        f"{OURS} 0.790, {AE} 0.750, {SEG} 0.610; {OURS} - {AE} +0.040 (p 0.031); {AE} - {SEG} +0.140 (p 0.031)"
    )


@pytest.mark.parametrize(
    ("number", "said"),
    [(20, ""), (19, "not comparable, 19 training patients: "), (2, "not comparable, 2 training patients: ")]
    + [(np.nan, "not comparable, unknown number of training patients: ")],
)
def test_few_patients_are_not_comparable(number, said):
    dice = {SEG: even(0.5), AE: 0.6, SEPARATE: even(0.79), OURS: 0.8 + 3 * sure(0)}
    for sign, expected in ((1, SUPPORTED), (-1, CONTRADICTED)):
        judged = found(4, rows({m: sign * of for m, of in dice.items()}, BRATS), patients(number))
        assert judged.verdict == (INCONCLUSIVE if said else expected)
        assert judged.ours.startswith(f"{said}{OURS} ")
    far = rows({OURS: 0.8, SEPARATE: even(0.7)}, BRATS)
    for scores, expected in ((rows(dice, BRATS), SUPPORTED), (far, CONTRADICTED)):
        judged = found(8, scores, patients(number))
        assert judged.verdict == (INCONCLUSIVE if said else expected)
        assert judged.ours.startswith(f"{said}brats, one of the claim's two tasks: ")
    for left, expected in ((0.2, SUPPORTED), (0.9, CONTRADICTED)):
        judged = found(14, contrast(flair=left, t2=left, number=number))
        assert judged.verdict == (INCONCLUSIVE if said else expected)
        assert judged.ours.startswith(f"{said}contrast flair")
    assert verdict(4, rows({OURS: 0.5}, BRATS), patients(number)) == NOT_RUN


def test_patients_that_nobody_told_and_the_fewest_of_all():
    dice = rows({SEG: even(0.5), AE: 0.6, OURS: 0.8 + 3 * sure(0)}, BRATS)
    assert found(4, dice).ours.startswith("not comparable, unknown number of training patients")
    assert verdict(4, dice, patients(285, [AE])) == SUPPORTED
    assert verdict(4, dice, patients(285, [AE]), patients(2, [SEG])) == INCONCLUSIVE


FIVE = np.array([-0.02, -0.01, 0, 0.01, 0.02])  # sd 0.0158
SD = round(float(FIVE.std(ddof=1)), 6)


def gains(simple, hard, large, seg=None):
    """Gains over AE, whose sd is SD; 48-simple from other seeds."""
    frames = []
    for first, task, gain in ((7, MNIST[0], simple), (0, MNIST[1], hard), (0, MNIST[2], large)):
        frames.append(rows({AE: even(0.5), OURS: 0.5 + gain + FIVE}, task, first=first))
        if seg:
            frames.append(rows({SEG: even(0.3)}, task, first=first))
    return pd.concat(frames)


@cases(
    "hard large",
    supported((0.04 + 2 * SD + 1e-5, 0.2), (0.2, 0.04 + 2 * SD + 1e-5)),
    inconclusive((0.04 + 2 * SD - 1e-5, 0.2), (0.2, 0.04 + 2 * SD - 1e-5), (0.04, 0.04)),
    inconclusive((0.04 - 2 * SD + 1e-5, 0.04)),
    contradicted((0.04 - 2 * SD - 1e-5, 0.04), (0.2, 0.04 - 2 * SD - 1e-5), (-0.2, 0.2)),
)
def test_claim_05(hard, large, expected):
    judged = found(5, gains(0.04, hard, large))
    assert (judged.verdict, judged.n, judged.p) == (expected, 5, None)


def test_claim_05_says_what_it_rests_on():
    assert found(5, gains(0.04, 0.08, 0.081, seg=True)).ours == (
        f"gain over {AE} 48-simple +0.040 ± 0.016, 48-hard +0.080 ± 0.016, 128 +0.081 ± 0.016; "
        f"over {SEG} 48-simple +0.240, 48-hard +0.280, 128 +0.281"
    )
    without = found(5, gains(0.04, 0.08, 0.081))
    assert without.ours.endswith(f"over {SEG} 48-simple not run, 48-hard not run, 128 not run")
    scores = gains(0.04, 0.08, 0.081)
    two = found(5, scores[scores["task"] != MNIST[2]])
    assert (two.verdict, two.n) == (NOT_RUN, 0)
    assert two.ours == (
        f"no scores of {OURS} (dice_global), {AE} (dice_global) with 128; without it, gain over {AE} "
        f"48-simple +0.040 ± 0.016, 48-hard +0.080 ± 0.016; over {SEG} 48-simple not run, 48-hard not run"
    )
    exact = [rows({AE: even(0.5, 3), OURS: even(0.5 + gain, 3)}, task) for task, gain in zip(MNIST, (0.1,) * 3)]
    assert verdict(5, *exact) == INCONCLUSIVE  # intervals that touch


@by_margin(0.03)
def test_claim_08(gain, expected):
    values = {OURS: 0.7 + over(gain), SEPARATE: even(0.7)}
    simple = found(8, rows(values, "48-simple"), rows({OURS: 0.1, SEPARATE: 0.9}, "48-hard"))
    assert (simple.verdict, simple.n) == (expected, 5)
    assert simple.ours.startswith("48-simple, one of the claim's two tasks: ")
    assert verdict(8, rows(values, BRATS), patients(285)) == expected


@pytest.mark.parametrize("skip", [CONCAT, SUM])
@cases(
    "d",
    supported(0.049, even(0), even(-0.0049), unsure(0.02, 0.1)),  # from -0.003
    inconclusive(unsure(0.02, 0.12), unsure(0.03, 0.1), even(-0.005), unsure(-0.01)),  # from -0.007; to 0.053
    inconclusive(0.051, 0.3),  # far ahead is more than slightly, and no opposite
    contradicted(even(-0.0051), -0.01),
)
def test_claim_09(skip, d, expected):
    values = dict.fromkeys((CONCAT, SUM), even(0.5)) | {OURS: even(0.5)}
    values[skip] = 0.5 - over(d)
    judged = found(9, rows(values))
    assert (judged.verdict, judged.n, judged.test) == (expected, 5, "TOST")
    assert (judged.p < 0.05) == (expected == SUPPORTED)
    better = {CONCAT: "Concat", SUM: "Sum"}[skip] if np.ndim(d) == 0 and d > 0 else "neither"
    assert judged.ours.endswith(f"; better by test than {better}")


def test_claim_09_one_far_and_one_sure():
    """A mean beyond the margin that no test finds, beside one within it that is found, is no contradiction."""
    scores = rows({OURS: even(0.5), CONCAT: 0.5 - unsure(-0.006), SUM: even(0.504)})
    assert verdict(9, scores) == INCONCLUSIVE


@cases(
    "d",
    supported(even(0.05)),
    inconclusive(even(0.0499), unsure(0.06), unsure(-0.06)),
    contradicted(-0.01),
)
def test_claim_10(d, expected):
    judged = found(10, rows({OURS: 0.5 + over(d), NO_SKIP: even(0.5)}))
    assert (judged.verdict, judged.n) == (expected, 5)


@pytest.mark.parametrize("skip", list(SKIPS.values()))
@pytest.mark.parametrize("than", [SEG, AE])
@cases(
    "d",
    supported((0.009, 0.01, 0.011)),
    inconclusive((-0.3, 0.0, 0.33), (-0.33, 0.0, 0.3)),
    contradicted((-0.009, -0.01, -0.011)),
)
def test_claim_11(skip, than, d, expected):
    values = {SEG: even(-0.5, 3), AE: even(-0.5, 3)} | {than: even(0.5, 3)}
    values |= {row: even(0.9, 3) for row in SKIPS.values()} | {skip: 0.5 + np.array(d)}
    judged = found(11, rows(values))
    assert (judged.verdict, judged.n) == (expected, 3)
    assert judged.ours.endswith(f"; {OWN}")


@cases(
    "changed",
    supported({}, {"simple": even(0.7001)}, {"dice": (0.5, 0.4999)}, {"share": 0.4001}),
    supported({"dice": (unsure(0.5), 0.49)}),  # in the mean
    inconclusive({"simple": unsure(0.6999, 0.1)}, {"hard": unsure(0.88)}, {"hard": unsure(0.92)}),
    inconclusive({"dice": (0.5, 0.5)}, {"dice": (unsure(0.5), 0.51)}, {"share": 0.4}, {"share": unsure(0.39)}),
    inconclusive({"simple": even(0.7)}),  # more than
    contradicted({"simple": even(0.6999)}, {"hard": 0.91 + 3 * sure(0)}, {"dice": (0.5, 0.5001)}),
    contradicted({"share": 0.3999}, {"area": 0.206}),
)
def test_claim_12(changed, expected):
    judged = found(12, removal(**changed))
    assert (judged.verdict, judged.n) == (expected, 5)


def test_claim_12_says_what_it_rests_on():
    assert found(12, removal()).ours == (
        "48-simple and 48-hard: removed 0.900 and 0.500, residual_dice 0.800 and 0.400, "
        "residual_share 0.500 and 0.410, mask_share 0.300 and 0.200; removed, 48-simple - 48-hard +0.400 (p 0.031)"
    )


@pytest.mark.parametrize("metric", ["diversity", "entropy"])
@cases(
    "more",
    supported((-0.1, -0.2, -0.1)),
    inconclusive((-0.1, -0.2, 0), (-9, -9, 0.01), (0.1, 0.2, 0)),
    contradicted((0.1, 0.2, 0.01)),
)
def test_claim_13(metric, more, expected):
    judged = found(13, varied(**{metric: more}))
    assert (judged.verdict, judged.n, judged.p) == (expected, 3, None)
    assert f"{metric} in {sum(d < 0 for d in more)}" in judged.ours
    assert judged.ours.endswith(" of 3 seeds; diversity also grows with how much of an image residuals cover")


@pytest.mark.parametrize("sequence", ["flair", "t2"])
@cases(
    "left",
    supported(0.4999, unsure(0.49)),  # in the mean
    inconclusive(unsure(0.51), 0.5),  # more than half
    contradicted(0.5001),
)
def test_claim_14(sequence, left, expected):
    judged = found(14, contrast(**({"flair": 0.1, "t2": 0.1, "t1": 0.9, "t1ce": 0.9} | {sequence: left})))
    assert (judged.verdict, judged.n) == (expected, 5)
    assert judged.ours.endswith(", t1 1.000 to 0.900, t1ce 1.000 to 0.900")


def test_claim_14_without_all_sequences():
    for left in (0.1, 0.9):
        judged = found(14, contrast(flair=left, t1ce=0.3))
        assert (judged.verdict, judged.n) == (INCONCLUSIVE, 5)
        assert (
            judged.ours
            == f"without T2: contrast flair 1.000 to {left:.3f}, t2 not run, t1 not run, t1ce 1.000 to 0.300"
        )
    assert found(14, contrast(flair=0.1, number=2)).ours.startswith("not comparable, 2 training patients: without T2: ")
    assert verdict(14, contrast(t2=0.1)) == NOT_RUN
    scores = contrast(flair=0.1, t2=0.1)
    two = scores["seed"] < 2
    assert verdict(14, scores[two]) == NOT_RUN
    assert verdict(14, scores[two | (scores["structure"] != "t2")]) == INCONCLUSIVE
    assert found(14, scores[(scores["seed"] < 3) | (scores["structure"] != "t2")]).n == 3


@pytest.mark.parametrize("task", MNIST[:2])
@by_margin(0.02)
def test_claim_15(task, gain, expected):
    gains = {t: even(0) for t in MNIST[:2]} | {task: over(gain)}
    judged = found(15, *(rows({OURS: 0.5 + of, NO_CYCLE: even(0.5)}, t) for t, of in gains.items()))
    assert (judged.verdict, judged.n) == (expected, 5)


@cases(
    "metric changed",
    supported(("steps_to_90", {NO_SKIP: [501, 900, 900]}), ("reconstruction", {NO_SKIP: [0.021] * 3})),
    supported(("removed", {SUM: [0.79] * 3}), ("removed", {NO_SKIP: [0.1] * 3})),
    supported(("steps_to_90", {CONCAT: [9999] * 3, SUM: [9999] * 3})),  # not compared
    inconclusive(("steps_to_90", {NO_SKIP: [500, 900, 900]}), ("steps_to_90", {NO_SKIP: [499, 900, 900]})),
    inconclusive(("reconstruction", {NO_SKIP: [0.02] * 3}), ("removed", {SUM: [0.79, 0.79, 0.8]})),
    contradicted(("steps_to_90", {NO_SKIP: [499, 400, 400]}), ("reconstruction", {NO_SKIP: [0.019] * 3})),
    contradicted(("removed", {CONCAT: [0.2] * 3})),
    contradicted(("removed", {SUM: [0.81] * 3})),  # above Compress, though below Concat
)
def test_claim_16(metric, changed, expected):
    judged = found(16, speed(**{metric: changed}))
    whole = CONTRADICTED if expected == CONTRADICTED else INCONCLUSIVE  # time is not among the scores
    assert (judged.verdict, judged.n, judged.p) == (whole, 3, None)
    part = next(part for part in judged.ours.split("; ") if metric in part)
    assert f" {expected} (" in part


def test_claim_16_says_its_parts():
    assert found(16, speed(reconstruction={NO_SKIP: [0.02] * 3}, removed={SUM: [0.9] * 3})).ours == (
        "skips speed training supported (steps_to_90: Compress 500, No skip 900); "
        "skips better images inconclusive (reconstruction: Compress 0.02, No skip 0.02); "
        "summation hinders translation contradicted (removed: Compress 0.8, Concat 0.85, Sum 0.9); "
        "concatenation costs time not run (runs share a machine; make bench, case J, times steps)"
    )


@cases("gain", supported(0.01), inconclusive(unsure(0.01), unsure(-0.01)), contradicted(-0.01))
def test_claim_17(gain, expected):
    for task in MNIST:
        whole = found(17, *(digits(t, gain if t == task else 0.3) for t in MNIST))
        assert (whole.verdict, whole.n) == (expected, 5)
    alone = found(17, digits("128", gain))
    assert alone.verdict == expected
    assert alone.ours.startswith("partial, 1 of 3 tasks: 128 ")


def test_claim_17_says_what_stands_beside():
    judged = found(17, digits("128", 0.2), digits("48-hard", 0.2)[lambda s: s["seed"] < 2])
    assert judged.ours == (
        f"partial, 1 of 3 tasks: 128 digits 0-8 over {SEG} +0.200 (p 0.031), beside it "
        f"digits 0-8 over {AE} +0.100, digit 9 over {SEG} +0.300, digit 9 over {AE} +0.200"
    )
    only = digits("128", 0.2)[lambda s: (s["method"] != AE) & (s["structure"] == "digits 0-8")]
    assert found(17, only).verdict == SUPPORTED
    assert found(17, only).ours.count("not run") == 3
    assert not found(17, digits("48-simple", 0.2), digits("48-hard", 0.2), digits("128", 0.2)).ours.startswith(
        "partial"
    )
    few = found(17, digits("48-hard", 0.2)[lambda s: s["seed"] < 2])
    assert few.ours.startswith(f"2 of 3 seeds with {OURS} and {SEG} on 48-hard: ")


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("method", "task", "edge"),
    [
        (SEG, "48-hard", 0.03),  # 3 x 0.01
        (AE, "128", 0.06),  # 3 x 0.02
        (OURS, "128", 0.03),
        (SEPARATE, "48-simple", 0.06),
        (SEPARATE, "128", 0.03),  # sd 0
        (CONCAT, "48-hard", 0.03),
        (SUM, "48-hard", 0.03),
    ],
)
def test_claim_18_a_cell(sign, method, task, edge):
    for beyond, agree in ((-0.0001, 16), (0, 16), (0.0001, 15)):
        judged = found(18, table({(method, task): sign * (edge + beyond)}), full())
        assert judged.ours.startswith(f"at the full schedule, of 16 cells here, {agree} of 16 agree: ")
        assert (judged.verdict, judged.n) == (SUPPORTED, 16)


def test_claim_18_proposed_is_two_cells():
    judged = found(18, table({(OURS, "48-hard"): 0.2}), full())
    assert "14 of 16 agree" in judged.ours
    assert "48-hard Proposed 0.770 (0.57)" in judged.ours
    assert "48-hard Compress 0.770 (0.57)" in judged.ours


CELLS = [(method, task) for task in ("48-simple", "128") for method in TABLE_1A] + [(SUM, "48-hard"), (AE, "48-hard")]


@cases("off", supported(3), inconclusive(4, 8), contradicted(9))
def test_claim_18_shares(off, expected):
    """13 of 16 are 81 %; 9 of 16 are more than half."""
    assert verdict(18, table(dict.fromkeys(CELLS[:off], 0.3)), full()) == expected


def test_claim_18_cells_that_were_not_run_decide_nothing():
    judged = found(18, table(tasks=["48-hard"]), full())
    assert (judged.verdict, judged.n) == (INCONCLUSIVE, 8)
    assert judged.ours.startswith("at the full schedule, of 16 cells here, 8 of 8 agree: ")
    assert verdict(18, table(tasks=MNIST[:2]), full()) == INCONCLUSIVE  # 12 of 16 agree
    off = dict.fromkeys(((m, t) for m in TABLE_1A for t in ("48-simple", "128")), 0.3)
    assert verdict(18, table(off, tasks=["48-simple", "128"]), full()) == INCONCLUSIVE  # 8 disagree


@pytest.mark.parametrize("options", [{"steps": 8924}, {"width": 8}, {"metric": "epochs"}, {"n": 2}])
def test_claim_18_needs_the_full_schedule(options):
    judged = found(18, table(), full(**options))
    assert (judged.verdict, judged.n) == (NOT_RUN, 16)
    assert judged.ours.startswith(
        "decimals are judged at the paper's schedule only, with 3 seeds of a cell; without that, 16 of 16 agree: "
        "48-simple Only segmentation 0.610 (0.61), 48-hard Only segmentation 0.360 (0.36), "
    )
    one = found(18, table(n=1, tasks=["128"])[lambda s: s["method"] == AE])
    assert (one.verdict, one.n) == (NOT_RUN, 1)
    assert one.ours.endswith("without that, 1 of 1 agree: 128 AE baseline 0.560 (0.57)")


@pytest.mark.parametrize("method", list(TABLE_1A))
def test_claim_18_epochs_of_only_segmentation_are_short(method):
    """300 epochs of 595 images, 20 a step, where the others have 59,500."""
    others = [f[(f["task"] != "128") | (f["method"] != method)] for f in (table(), full())]
    one = table(tasks=["128"]).query("method == @method")
    for steps in (8924, 8925, 892499, 892500):
        judged = found(18, *others, one, schedule("128", [method], steps))
        assert judged.n == 15 + (steps >= (8925 if method == SEG else 892500))


def test_claim_18_longer_is_full_and_short_runs_stay_out():
    assert verdict(18, table(), full(steps=10**6)) == SUPPORTED
    whole = found(18, table(), full())
    short = rows({method: np.full(4, 0.0) for method in TABLE_1A}, "128", first=10)
    assert found(18, table(), full(), short) == whole
    assert found(18, table(), full(), short, schedule("128", TABLE_1A, 10, n=4, first=10)) == whole


def test_claim_18_on_brats():
    dice = table(tasks=[BRATS])
    told = [schedule(BRATS, TABLE_1A, 500, metric="epochs"), patients(285)]
    assert (verdict(18, dice, *told), found(18, dice, *told).n) == (SUPPORTED, 4)
    assert "4 of 4 agree: brats Only segmentation 0.690 (0.69)" in found(18, dice, *told).ours
    for method, edge in zip(TABLE_1A, (0.12, 0.06, 0.06, 0.09)):
        assert verdict(18, table({(method, BRATS): -edge}, [BRATS]), *told) == SUPPORTED
        assert verdict(18, table({(method, BRATS): -edge - 0.0001}, [BRATS]), *told) == INCONCLUSIVE
    for n, expected in ((2, INCONCLUSIVE), (3, CONTRADICTED)):
        assert verdict(18, table({(m, BRATS): 0.2 for m in list(TABLE_1A)[:n]}, [BRATS]), *told) == expected
    assert verdict(18, dice, schedule(BRATS, TABLE_1A, 499, metric="epochs"), patients(285)) == NOT_RUN
    assert verdict(18, dice, told[0], patients(19)) == NOT_RUN
    assert verdict(18, dice, schedule(BRATS, TABLE_1A, 10**7), patients(285)) == NOT_RUN
