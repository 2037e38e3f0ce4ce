"""What README says of the results is what the results say."""

import pandas as pd

from fewlabels.__main__ import LEDGER_BEGINS, LEDGER_ENDS, main
from fewlabels.engine.ledger import overview
from fewlabels.paths import CHECKOUT
from fewlabels.scores.published import published
from fewlabels.scores.verdicts import COLUMNS


def write_claims(folder, data, verdicts):
    """claims.csv of a result folder; `verdicts` for the first claims, the others were not run."""
    ids = [claim["id"] for claim in published("bortsova2019")["claims"]]
    verdicts = [*verdicts, *["not run"] * (len(ids) - len(verdicts))]
    rows = [("bortsova2019", i, "", "", f"why {n}", 5, "", 0.01, data, verdicts[n]) for n, i in enumerate(ids)]
    folder.mkdir(parents=True)
    pd.DataFrame(rows, columns=COLUMNS).to_csv(folder / "claims.csv", index=False)


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
    assert "| bortsova2019 | [jsrt-lite](results/jsrt/jsrt-lite/claims.csv) | 2 | 1 | 0 | 17 |" in text
    head, folded = text.split("<details>\n<summary>bortsova2019, claim by claim</summary>\n\n")
    assert "why" not in head
    assert folded.count("\n| ") == 20  # claims below the head
    assert "**contradicted**: why 1 |" in folded
    assert folded.endswith("|\n\n</details>\n")


def test_overview_of_nothing_is_empty(tmp_path):
    assert overview(tmp_path).strip() == ""


def test_ledger_command_changes_the_block_alone(tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text(f"before\n{LEDGER_BEGINS}old\n{LEDGER_ENDS}after\n", encoding="utf-8")
    write_claims(tmp_path / "results" / "jsrt" / "jsrt-lite", "jsrt", ["supported"])
    monkeypatch.setattr("fewlabels.__main__.CHECKOUT", tmp_path)
    monkeypatch.setenv("FEWLABELS_RESULTS", str(tmp_path / "results"))
    assert main(["ledger"]) == 0
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "**supported**: why 0" in text
    assert "old" not in text
