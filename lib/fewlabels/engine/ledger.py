"""Verdicts of result folders: README's counts of them, and all of them in results/LEDGER.md."""

import json
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd

from fewlabels.data.cohort import STAND_INS
from fewlabels.engine import experiments
from fewlabels.engine.protocols import Experiment
from fewlabels.errors import BadInput
from fewlabels.files import whole, write_text
from fewlabels.scores.health import OUT_OF_RANGE
from fewlabels.scores.published import before, published
from fewlabels.scores.scale import WHOLE
from fewlabels.scores.scale import share as share_of
from fewlabels.scores.verdicts import VERDICTS

Told = dict[str, dict[str, pd.DataFrame]]  # {paper: {place: claims}}
NOT_RUN = VERDICTS[-1]
BEGINS, ENDS = "<!-- counts: made by `make ledger` -->\n", "<!-- end of the counts -->\n"  # in README.md
HEAD = """# The ledger of claims

Made by `make ledger` from the stored scores. What the verdicts mean: [docs/scoring.md](../docs/scoring.md). A claim
that several result folders judge is counted at the largest scale.
"""
KINDS = [*(f"{kind} scale: {verdict}" for kind in ("paper", "reduced") for verdict in VERDICTS[:-1]), NOT_RUN]


def judged(experiment: Experiment, config: Any, scores: pd.DataFrame, data: str) -> pd.DataFrame:
    """The verdicts on `scores` (`experiment.judge`), with the config's scale and what they were under earlier rules.

    config  the experiment's Config, or whatever has the keys of one
    """
    claims, scale = experiment.judge(scores, data), experiment.scale(config, data, scores)
    claims["scale"] = claims["scale"].replace("", scale)
    places = claims[["paper", "claim", "data"]].itertuples(index=False)
    claims["before"] = [before(paper, claim, of, config.profile) for paper, claim, of in places]
    return claims


def judge_again(results: Path) -> None:
    """Writes claims.csv anew in every result folder of a known experiment below `results`, by the scores that it holds.

    Rules are no part of what a run is: after one was changed, nothing is trained and no data are needed. The config
    is that of provenance.json: its keys, as the Config may have changed since.
    """
    known, found = experiments.modules(), {}
    for path in sorted(results.glob("*/*/scores.csv*")):
        folder = path.parent
        if folder.parent.name in known:
            data = folder.name.rsplit("-", 1)[0]  # <data>-<profile>
            scores = pd.read_csv(path, keep_default_na=False, na_values={"value": [""]})
            made = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
            experiment = experiments.load(known[folder.parent.name])
            found[folder] = judged(experiment, SimpleNamespace(**made["config"]), scores, data)
    for folder, claims in found.items():  # all or none
        write_claims(claims, folder)


def write_claims(claims: pd.DataFrame, folder: Path) -> None:
    with whole(folder / "claims.csv") as temporary:
        claims.to_csv(temporary, index=False, float_format="%.4g")


def write(results: Path, readme: Path) -> None:
    """Writes `results`/LEDGER.md, and the counts of its verdicts into the file `readme`, between its two marks.

    Raises BadInput for a readme without them.
    """
    papers, text = told(results), readme.read_text(encoding="utf-8")
    if not (marks := re.fullmatch(f"(.*{BEGINS}).*({ENDS}.*)", text, re.DOTALL)):
        raise BadInput(readme, f"a line {BEGINS.strip()} and, below, a line {ENDS.strip()}", "none")
    write_text(results / "LEDGER.md", ledger(papers))
    write_text(readme, marks[1] + counts(papers) + marks[2])


def told(results: Path) -> Told:
    """The claims that result folders below `results` say something on, as in claims.csv: {paper: {place: claims}}.

    A place is the Markdown of a folder, a link from `results`; a folder has one for each of its `data` (where a paper
    is judged in several modes). Stand-ins, which are no data of the paper, do not count, nor what says nothing on any
    claim: neither a verdict nor that a comparator is out of range.
    """
    papers: Told = {}
    for path in sorted(results.glob("*/*/claims.csv")):
        for key, claims in pd.read_csv(path, keep_default_na=False).groupby("data", sort=False):
            data = str(key)
            says = claims["verdict"].ne(NOT_RUN) | claims["ours"].str.startswith(OUT_OF_RANGE)
            if data.split(", ")[0] not in STAND_INS and says.any():
                link = f"[{path.parent.name}]({path.relative_to(results).as_posix()})"
                place = ", ".join([link, *data.split(", ")[1:]])
                papers.setdefault(claims["paper"].iloc[0], {})[place] = claims.set_index("claim")
    return papers


def counts(papers: Told) -> str:
    """README's verdicts, Markdown: how many of each kind a paper has, every claim once, and at which scales.

    papers  as `told` returns them
    """
    if not papers:
        return ""
    once = {paper: _once(places) for paper, places in papers.items()}
    table = _table("paper", [*VERDICTS, "claims", "judged at"])
    for paper, claims in once.items():
        scales = claims.loc[claims["run"], "scale"].value_counts(sort=False)
        said = [scale if len(scales) == 1 else f"{scale} ({n})" for scale, n in scales.items()]
        link = f"[{paper}](results/LEDGER.md#{paper})"
        table.append(_row(link, [*_verdicts(claims), len(claims), "; ".join(said)]))
    every = pd.concat(once.values())
    full = (every["run"] & every["share"].ge(1)).sum()
    said = f"paper scale ({full}); reduced scale ({every['run'].sum() - full})"
    table.append(_row("all", [*_verdicts(every), len(every), said]))
    return "\n".join(["", *table, "", ""])


def ledger(papers: Told) -> str:
    """LEDGER.md: every claim's verdict once, counted; the same of every result folder; then every paper's claims beside
    what its folders say.

    papers  as `told` returns them
    """
    once = {paper: _kinds(_once(places)) for paper, places in papers.items()}
    table = _table("every claim once", KINDS)
    table += [_row(f"[{paper}](#{paper})", kinds) for paper, kinds in once.items()]
    if once:
        table.append(_row("all", pd.concat(once.values(), axis=1).sum(axis=1)))
    table += ["", *_table("paper", ["scores", "scale", *VERDICTS])]
    chapters = []
    for paper, places in papers.items():
        for place, claims in places.items():
            table.append(_row(paper, [place, claims["scale"].mode()[0], *_verdicts(claims)]))
        chapters += ["", f"## {paper}", "", *_table("claim", places)]
        for claim in published(paper)["claims"]:
            cells = [_cell(claims.loc[claim["id"]]) for claims in places.values()]
            chapters.append(_row(f"{claim['id'].rsplit('-', 1)[1]}. {claim['statement']}", cells))
    return "\n".join([HEAD, *table, *chapters, ""])


def _once(places: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Of every claim of a paper what is said where it was judged at the largest scale."""
    claims = pd.concat(places.values())
    share = claims["scale"].map(share_of).astype(float)
    found = claims.assign(run=claims["verdict"] != NOT_RUN, share=share, whole=claims["scale"] == WHOLE)
    return found.sort_values(["run", "share", "whole"], ascending=False, kind="stable").groupby(level=0).first()


def _verdicts(claims: pd.DataFrame) -> pd.Series:
    return claims["verdict"].value_counts().reindex(VERDICTS, fill_value=0)


def _kinds(claims: pd.DataFrame) -> pd.Series:
    """How many claims there are of each of KINDS."""
    at = claims["whole"].map({True: "paper scale: ", False: "reduced scale: "}).where(claims["run"], "")
    return (at + claims["verdict"]).value_counts().reindex(KINDS, fill_value=0)


def _cell(claim: pd.Series) -> str:
    said = f"**{claim['verdict']}**"
    if claim["verdict"] != NOT_RUN:
        said += f" at {claim['scale']}"
    if claim["before"]:
        said += f" (before: {claim['before']})"
    return f"{said}: {claim['ours']}"


def _table(first: str, columns: Collection[str]) -> list[str]:
    """The head of a Markdown table, as lines."""
    return [_row(first, columns), "|---" * (len(columns) + 1) + "|"]


def _row(first: str, cells: Iterable[object]) -> str:
    return "| " + " | ".join(map(str, [first, *cells])) + " |"
