"""What README says of the results is what the results say."""

import pandas as pd

from fewlabels.__main__ import LEDGER_BEGINS, LEDGER_ENDS, main
from fewlabels.engine.ledger import overview
from fewlabels.paths import CHECKOUT
from fewlabels.scores.published import published
from fewlabels.scores.verdicts import COLUMNS


def write_claims(folder, data, verdicts, scale="1/5 of the steps", **more):
    """claims.csv of a result folder; `verdicts` for the first claims, the others were not run."""
    ids = [claim["id"] for claim in published("bortsova2019")["claims"]]
    claims = pd.DataFrame({"claim": ids}, columns=COLUMNS).fillna("")
    claims["verdict"] = [*verdicts, *["not run"] * (len(ids) - len(verdicts))]
    claims["ours"] = [f"why {n}" for n in range(len(ids))]
    folder.mkdir(parents=True)
    claims.assign(paper="bortsova2019", data=data, scale=scale, **more).to_csv(folder / "claims.csv", index=False)


def test_the_ledger_in_readme_is_that_of_the_committed_results():
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert readme.split(LEDGER_BEGINS)[1].split(LEDGER_ENDS)[0] == overview(CHECKOUT / "results")


def test_overview_counts_verdicts_of_real_data_only(tmp_path):
    write_claims(tmp_path / "jsrt" / "jsrt-lite", "jsrt", ["supported", "contradicted", "supported"])
    write_claims(tmp_path / "jsrt" / "phantom-quick", "phantom", ["supported"])
    write_claims(tmp_path / "jsrt" / "jsrt-amplitude", "jsrt", [])  # judges nothing
    text = overview(tmp_path)
    assert "[jsrt-lite](results/jsrt/jsrt-lite/claims.csv)" in text
    assert "phantom" not in text
    assert "amplitude" not in text
    assert (
        "| bortsova2019 | [jsrt-lite](results/jsrt/jsrt-lite/claims.csv) | 1/5 of the steps | 2 | 1 | 0 | 17 |" in text
    )
    assert "\n| all | 0 | 0 | 0 | 2 | 1 | 0 | 17 |" in text
    head, folded = text.split("<details>\n<summary>bortsova2019, claim by claim</summary>\n\n")
    assert "why" not in head
    assert folded.count("\n| ") == 20  # claims below the head
    assert "**contradicted** at 1/5 of the steps: why 1 |" in folded
    assert "**not run**: why 4 |" in folded
    assert folded.endswith("|\n\n</details>\n")


def test_a_claim_counts_once_where_it_was_judged_at_the_largest_scale(tmp_path):
    write_claims(tmp_path / "jsrt" / "jsrt-lite", "jsrt", ["supported", "contradicted", "supported"])
    large = ["contradicted", "not run", "inconclusive"]
    write_claims(tmp_path / "jsrt" / "jsrt-lite128", "jsrt", large, "128 of 512 px, 1/2 of the steps")
    text = overview(tmp_path)
    assert "\n| all | 0 | 0 | 0 | 2 | 1 | 0 | 17 |" in text  # 1/8 is below 1/5
    write_claims(tmp_path / "jsrt" / "jsrt-paper", "jsrt", ["inconclusive", "not run", "supported"], "paper scale")
    text = overview(tmp_path)
    assert "\n| bortsova2019 | 1 | 0 | 1 | 0 | 1 | 0 | 17 |" in text
    assert text.count("why 3") == 3  # all three folders are shown


def test_the_verdict_before_stands_beside(tmp_path):
    write_claims(tmp_path / "jsrt" / "jsrt-lite", "jsrt", ["supported"], before="contradicted, until 2026-11-29")
    assert "**supported** at 1/5 of the steps (before: contradicted, until 2026-11-29): why 0 |" in overview(tmp_path)


def test_overview_of_nothing_is_empty(tmp_path):
    assert overview(tmp_path).strip() == ""


def test_a_users_own_local_results_do_not_count(tmp_path):
    write_claims(tmp_path / "local" / "jsrt" / "jsrt-quick", "jsrt", ["supported"])
    assert overview(tmp_path) == ""
    (tmp_path / "local" / "jsrt").rename(tmp_path / "jsrt")
    assert "**supported**" in overview(tmp_path)


def test_ledger_command_changes_the_block_alone(tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text(f"before\n{LEDGER_BEGINS}old\n{LEDGER_ENDS}after\n", encoding="utf-8")
    write_claims(tmp_path / "results" / "jsrt" / "jsrt-lite", "jsrt", ["supported"])
    monkeypatch.setattr("fewlabels.__main__.CHECKOUT", tmp_path)
    monkeypatch.setenv("FEWLABELS_RESULTS", str(tmp_path / "results"))
    assert main(["ledger"]) == 0
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "**supported** at 1/5 of the steps: why 0" in text
    assert "old" not in text
