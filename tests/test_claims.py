"""Of every paper: its claims and its rules belong together."""

from importlib import import_module

import pytest

from fewlabels.scores.published import published

CLAIMS = {"bortsova2019": 20, "chaitanya2019": 19, "gao2021": 21, "tudelft2021": 18, "vorontsov2019": 18}


@pytest.mark.parametrize(("paper", "n"), CLAIMS.items())
def test_every_claim_has_a_rule_and_every_rule_a_claim(paper, n):
    claims = published(paper)["claims"]
    names = [f"{paper[:-4]}-{i:02}" for i in range(1, n + 1)]
    assert [claim["id"] for claim in claims] == names
    assert {*import_module(f"fewlabels.papers.{paper}.claims").RULES} == {*names}
    for claim in claims:
        assert set(claim) == {"id", "statement", "source", "compare", "tolerance", "published"}
        words = {**claim, "published": ""} if isinstance(claim["published"], dict) else claim
        assert all(isinstance(value, str) and value == value.strip() for value in words.values())
