"""What README and the ledger say of the results is what the results say."""

import pandas as pd
import pytest
from helpers import refused

from fewlabels.__main__ import main
from fewlabels.engine.ledger import BEGINS, ENDS, counts, ledger, told, write
from fewlabels.paths import CHECKOUT
from fewlabels.scores.published import published
from fewlabels.scores.verdicts import COLUMNS

README, RESULTS = CHECKOUT / "README.md", CHECKOUT / "results"


def write_claims(folder, data, verdicts, scale="1/5 of the steps", **more):
    """claims.csv of a result folder; `verdicts` for the first claims, the others were not run."""
    ids = [claim["id"] for claim in published("bortsova2019")["claims"]]
    claims = pd.DataFrame({"claim": ids}, columns=COLUMNS).fillna("")
    claims["verdict"] = [*verdicts, *["not run"] * (len(ids) - len(verdicts))]
    claims["ours"] = [f"why {n}" for n in range(len(ids))]
    folder.mkdir(parents=True)
    claims.assign(paper="bortsova2019", data=data, scale=scale, **more).to_csv(folder / "claims.csv", index=False)


def test_readme_and_ledger_are_those_of_the_committed_results():
    papers = told(RESULTS)
    assert README.read_text(encoding="utf-8").split(BEGINS)[1].split(ENDS)[0] == counts(papers)
    assert (RESULTS / "LEDGER.md").read_text(encoding="utf-8") == ledger(papers)


def test_readme_is_one_screen_and_names_every_paper_that_is_judged():
    text = README.read_text(encoding="utf-8")
    assert len(text.encode()) <= 10_000
    assert text.count("\n| bortsova2019 |") == 1
    assert all(f"\n| {paper} |" in text for paper in told(RESULTS))


def test_verdicts_of_real_data_alone_are_counted(tmp_path):
    write_claims(tmp_path / "jsrt" / "jsrt-lite", "jsrt", ["supported", "contradicted", "supported"])
    write_claims(tmp_path / "jsrt" / "phantom-quick", "phantom", ["supported"])
    write_claims(tmp_path / "jsrt" / "jsrt-amplitude", "jsrt", [])  # judges nothing
    papers = told(tmp_path)
    [row, everything] = counts(papers).splitlines()[3:5]
    assert row == "| [bortsova2019](results/LEDGER.md#bortsova2019) | 2 | 1 | 0 | 17 | 20 | 1/5 of the steps |"
    assert everything == "| all | 2 | 1 | 0 | 17 | 20 | paper scale (0); reduced scale (3) |"

    text = ledger(papers)
    assert "phantom" not in text
    assert "amplitude" not in text
    assert "| bortsova2019 | [jsrt-lite](jsrt/jsrt-lite/claims.csv) | 1/5 of the steps | 2 | 1 | 0 | 17 |" in text
    assert "\n| all | 0 | 0 | 0 | 2 | 1 | 0 | 17 |" in text
    head, claims = text.split("\n## bortsova2019\n")
    assert "why" not in head
    assert claims.count("\n| ") == 21  # claims below the table's head
    assert "**contradicted** at 1/5 of the steps: why 1 |" in claims
    assert "**not run**: why 4 |" in claims


def test_a_claim_counts_once_where_it_was_judged_at_the_largest_scale(tmp_path):
    write_claims(tmp_path / "jsrt" / "jsrt-lite", "jsrt", ["supported", "contradicted", "supported"])
    large = ["contradicted", "not run", "inconclusive"]
    write_claims(tmp_path / "jsrt" / "jsrt-lite128", "jsrt", large, "128 of 512 px, 1/2 of the steps")
    papers = told(tmp_path)
    assert "\n| all | 0 | 0 | 0 | 2 | 1 | 0 | 17 |" in ledger(papers)  # 1/8 is below 1/5
    assert "\n| all | 2 | 1 | 0 | 17 | 20 |" in counts(papers)
    write_claims(tmp_path / "jsrt" / "jsrt-paper", "jsrt", ["inconclusive", "not run", "supported"], "paper scale")
    papers = told(tmp_path)
    assert "\n| [bortsova2019](#bortsova2019) | 1 | 0 | 1 | 0 | 1 | 0 | 17 |" in ledger(papers)
    assert ledger(papers).count("why 3") == 3  # all three folders are shown
    assert "| 1 | 1 | 1 | 17 | 20 | paper scale (2); 1/5 of the steps (1) |" in counts(papers)
    assert "\n| all | 1 | 1 | 1 | 17 | 20 | paper scale (2); reduced scale (1) |" in counts(papers)


def test_the_verdict_before_stands_beside(tmp_path):
    write_claims(tmp_path / "jsrt" / "jsrt-lite", "jsrt", ["supported"], before="contradicted, until 2026-11-29")
    assert "**supported** at 1/5 of the steps (before: contradicted, until 2026-11-29): why 0 |" in ledger(
        told(tmp_path)
    )


def test_no_results(tmp_path):
    assert counts(told(tmp_path)) == ""
    assert "supported" in ledger(told(tmp_path))  # heads of tables without a row


def test_a_users_own_local_results_do_not_count(tmp_path):
    write_claims(tmp_path / "local" / "jsrt" / "jsrt-quick", "jsrt", ["supported"])
    assert not told(tmp_path)
    (tmp_path / "local" / "jsrt").rename(tmp_path / "jsrt")
    assert "**supported**" in ledger(told(tmp_path))


def test_ledger_command_changes_the_block_alone(tmp_path, monkeypatch):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGINS}old\n{ENDS}after\n", encoding="utf-8")
    write_claims(tmp_path / "results" / "jsrt" / "jsrt-lite", "jsrt", ["supported"])
    monkeypatch.setattr("fewlabels.__main__.CHECKOUT", tmp_path)
    monkeypatch.setenv("FEWLABELS_RESULTS", str(tmp_path / "results"))
    assert main(["ledger"]) == 0
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| 1 | 0 | 0 | 19 | 20 | 1/5 of the steps |" in text
    assert "old" not in text
    assert "**supported** at 1/5 of the steps: why 0" in (tmp_path / "results/LEDGER.md").read_text(encoding="utf-8")
    assert main(["ledger"]) == 0  # again: the same
    assert readme.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("text", ["nothing\n", f"{ENDS}in the wrong order\n{BEGINS}"])
def test_a_readme_without_its_marks_is_refused_before_anything_is_written(tmp_path, text):
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    write_claims(tmp_path / "jsrt" / "jsrt-lite", "jsrt", ["supported"])
    refused(lambda: write(tmp_path, tmp_path / "README.md"), "README.md", BEGINS.strip(), ENDS.strip())
    assert not (tmp_path / "LEDGER.md").exists()
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == text
