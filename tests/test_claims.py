"""Of every paper: its claims and its rules belong together, and what its file says of them is complete and true."""

from datetime import date
from functools import cache, partial
from importlib import import_module

import pandas as pd
import pytest

from fewlabels.engine import experiments
from fewlabels.paths import CHECKOUT
from fewlabels.scores import health
from fewlabels.scores.published import margin, published
from fewlabels.scores.verdicts import VERDICTS

CLAIMS = {"bortsova2019": 20, "chaitanya2019": 19, "gao2021": 21, "tudelft2021": 18, "vorontsov2019": 18}
MARGINS = {  # of claims that say modest, small, marginal, only as much, similar, competitive, close, optional, not much
    "bortsova2019": (2, 6, 8, 12, 15), "chaitanya2019": (12, 14), "gao2021": (4, 15), "tudelft2021": (12, 16),
    "vorontsov2019": (8, 9, 15),
}  # fmt: skip
OWN = {  # rows that a claim may be about without a bound: the paper's own, and what is left of them without a part
    "bortsova2019": ("SupTC", "SemiTC", "SemiTC+", "SemiTC (stop-gradient)"),
    "chaitanya2019": (
        "A+GD", "A+GI", "A+GD+GI", "A+GD (no task gradient)", "A+GI (no task gradient)",
        "A+GD (no regulariser)", "A+GI (no regulariser)",
    ),
    "gao2021": tuple(
        model + of
        for model in ("Affine", "Deform", "Appear", "Comb")
        for of in ("", " (w/o image condition)", " (w/o discriminator)")
    ),
    "tudelft2021": ("SemiC", "SemiCT", "SemiTCE"),
    "vorontsov2019": (
        "Proposed", "Proposed (sep dec)", "Proposed (concat)", "Proposed (sum)", "Proposed (no skip)",
        "Proposed (no cycle)",
    ),
}  # fmt: skip
ABOUT = {"bortsova-14": {"Baseline"}, "bortsova-15": {"Baseline"}}  # rows that are set against others' numbers
LEARNED = {"bortsova2019": {"Baseline"}}  # whose weights all rows start from: collapsed, none has learned anything
RESULTS = CHECKOUT / "results"
STORED = [path.parent for path in sorted(RESULTS.glob("*/*/runs")) if not path.parent.name.endswith("-quick")]
each_folder = pytest.mark.parametrize("folder", STORED, ids=lambda folder: "/".join(folder.parts[-2:]))


def claims_of(paper):
    return import_module(f"fewlabels.papers.{paper}.claims")


@pytest.mark.parametrize(("paper", "n"), CLAIMS.items())
def test_every_claim_has_a_rule_and_every_rule_a_claim(paper, n):
    claims = published(paper)["claims"]
    names = [f"{paper[:-4]}-{i:02}" for i in range(1, n + 1)]
    assert [claim["id"] for claim in claims] == names
    assert {*claims_of(paper).RULES} == {*names}
    for claim in claims:
        keys = {"id", "statement", "source", "compare", "compares", "tolerance", "published"}
        assert keys <= set(claim) <= keys | {"at", "margin"}
        words = [claim[key] for key in ("id", "statement", "source", "compare", "tolerance")]
        words += [] if isinstance(claim["published"], dict) else [claim["published"]]
        assert all(isinstance(value, str) and value == value.strip() for value in words)


@pytest.mark.parametrize("paper", CLAIMS)
def test_bounds_and_margins_are_complete_and_dated(paper):
    of = published(paper)
    health.check(paper, of["claims"], of["healthy"])
    assert all(isinstance(bound["since"], date) and len(bound["why"]) > 20 for bound in of["healthy"])
    assert [int(claim["id"][-2:]) for claim in of["claims"] if "margin" in claim] == [*MARGINS[paper]]
    for claim in of["claims"]:
        inside = claim.get("margin", {}).get("inside", [])
        for what in inside if isinstance(inside, dict) else [None] * bool(inside):
            low, high = margin(paper, claim["id"], what)
            assert low < 0 < high or (what and low < high)  # what is worse or better, but slightly: on one side of 0
    for old in of["before"]:
        assert set(old) == {"claim", "data", "profile", "verdict", "until"}
        assert old["claim"] in [claim["id"] for claim in of["claims"]]
        assert old["verdict"] in VERDICTS


@cache
def stored(folder):
    """A paper, what its rules are asked beside scores, and the scores of a committed folder."""
    paper = experiments.modules()[folder.parent.name].parent.name
    [path] = folder.glob("scores.csv*")
    options = {"mode": "corrected"} if paper == "tudelft2021" else {}
    return paper, options, pd.read_csv(path, keep_default_na=False, na_values={"value": [""]})


@each_folder
def test_rows_without_which_a_claim_is_judged_otherwise_are_those_that_it_compares_with(folder):
    """But for the paper's own. On the stored runs: what they do not judge is not seen here."""
    paper, options, scores = stored(folder)
    frames = {method: scores[scores["method"] != method] for method in scores["method"].unique()}
    for claim in published(paper)["claims"]:
        rule = partial(claims_of(paper).RULES[claim["id"]], **options)
        whole = rule(scores)
        if whole.verdict == "not run":
            continue
        read = set()
        for method, without in frames.items():
            other = rule(without)
            if (whole.verdict, whole.n, whole.p) != (other.verdict, other.n, other.p):
                read.add(method)
        compares = set(claim["compares"]) & {*frames}
        assert compares <= read | LEARNED.get(paper, set()), claim["id"]
        assert read <= compares | {*OWN[paper]} | ABOUT.get(claim["id"], set()), claim["id"]


@each_folder
def test_a_claim_is_not_judged_by_a_comparator_that_learned_nothing(folder):
    paper, options, scores = stored(folder)
    of = published(paper)
    scores = scores[scores["metric"].isin({bound["metric"] for bound in of["healthy"]})]
    for claim in of["claims"]:
        claim = claim | {"at": claim.get("at", {}) | {column: [value] for column, value in options.items()}}
        out_of_range = partial(health.out_of_range, paper, claim, of["healthy"])
        if out_of_range(scores) is not None:
            continue
        for row in claim["compares"]:
            bad = scores.assign(value=scores["value"].mask(scores["method"] == row, 0.0))
            if (health._at(scores, claim["at"])["method"] == row).any():
                assert f"{health.OUT_OF_RANGE}: {row}" in out_of_range(bad)
