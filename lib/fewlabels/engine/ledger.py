"""README's table of verdicts, made of the result folders."""

import pandas as pd

from fewlabels.data.cohort import STAND_INS
from fewlabels.engine import experiments
from fewlabels.files import whole
from fewlabels.scores.published import published
from fewlabels.scores.verdicts import VERDICTS


def judge_again(results):
    """Writes claims.csv anew in every result folder of a known experiment below `results`, by the scores that it holds.

    Rules are no part of what a run is: after one was changed, nothing is trained and no data are needed.
    """
    known = experiments.modules()
    for path in sorted(results.glob("*/*/scores.csv*")):
        folder = path.parent
        if folder.parent.name in known:
            data = folder.name.rsplit("-", 1)[0]  # <data>-<profile>
            scores = pd.read_csv(path, keep_default_na=False, na_values={"value": [""]})
            write_claims(experiments.load(known[folder.parent.name]).judge(scores, data), folder)


def write_claims(claims, folder):
    with whole(folder / "claims.csv") as temporary:
        claims.to_csv(temporary, index=False, float_format="%.4g")


def overview(results):
    """README's verdicts, Markdown: how many of each kind a result folder below `results` has, a row a folder; then,
    folded, every paper's claims beside what its folders say.

    A folder counts once for each of its `data` (where a paper is judged in several modes). Stand-ins, which are no
    data of the paper, and what judged no claim do not count.
    """
    papers = {}
    for path in sorted(results.glob("*/*/claims.csv")):
        for data, claims in pd.read_csv(path, keep_default_na=False).groupby("data", sort=False):
            if data.split(", ")[0] not in STAND_INS and claims["verdict"].ne("not run").any():
                link = f"[{path.parent.name}](results/{path.relative_to(results).as_posix()})"
                place = ", ".join([link, *data.split(", ")[1:]])
                papers.setdefault(claims["paper"].iloc[0], {})[place] = claims.set_index("claim")
    table, folded = _table("paper", ["scores", *VERDICTS]), []
    for paper, places in papers.items():
        for place, claims in places.items():
            counts = claims["verdict"].value_counts().reindex(VERDICTS, fill_value=0)
            table.append(_row(paper, [place, *counts]))
        lines = _table(f"claims of {paper}", places)
        for claim in published(paper)["claims"]:
            cells = [f"**{c.loc[claim['id'], 'verdict']}**: {c.loc[claim['id'], 'ours']}" for c in places.values()]
            lines.append(_row(f"{claim['id'].rsplit('-', 1)[1]}. {claim['statement']}", cells))
        folded += ["<details>", f"<summary>{paper}, claim by claim</summary>", "", *lines, "", "</details>", ""]
    return "\n".join(["", *table, "", *folded]) if papers else ""


def _table(first, columns):
    """The head of a Markdown table, as lines."""
    return [_row(first, columns), "|---" * (len(columns) + 1) + "|"]


def _row(first, cells):
    return "| " + " | ".join(map(str, [first, *cells])) + " |"
