"""Verdicts of result folders, and README's table of them."""

import json
from types import SimpleNamespace

import pandas as pd

from fewlabels.data.cohort import STAND_INS
from fewlabels.engine import experiments
from fewlabels.files import whole
from fewlabels.scores.health import OUT_OF_RANGE
from fewlabels.scores.published import before, published
from fewlabels.scores.scale import share as share_of
from fewlabels.scores.verdicts import VERDICTS

NOT_RUN = VERDICTS[-1]
KINDS = [*(f"{kind} scale: {verdict}" for kind in ("paper", "reduced") for verdict in VERDICTS[:-1]), NOT_RUN]


def judged(experiment, config, scores, data):
    """The verdicts on `scores` (`experiment.judge`), with the config's scale and what they were under earlier rules.

    config  the experiment's Config, or whatever has the keys of one
    """
    claims, scale = experiment.judge(scores, data), experiment.scale(config)
    claims["scale"] = claims["scale"].replace("", scale)
    places = claims[["paper", "claim", "data"]].itertuples(index=False)
    claims["before"] = [before(*place, config.profile) for place in places]
    return claims


def judge_again(results):
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


def write_claims(claims, folder):
    with whole(folder / "claims.csv") as temporary:
        claims.to_csv(temporary, index=False, float_format="%.4g")


def overview(results):
    """README's verdicts, Markdown: of each paper how many of each kind, every claim once; the same of every result
    folder below `results`; then, folded, every paper's claims beside what its folders say.

    A claim that several folders judge counts at the largest scale. A folder has a row for each of its `data` (where a
    paper is judged in several modes). Stand-ins, which are no data of the paper, do not count, nor what says nothing
    on any claim: neither a verdict nor that a comparator is out of range.
    """
    papers = {}
    for path in sorted(results.glob("*/*/claims.csv")):
        for data, claims in pd.read_csv(path, keep_default_na=False).groupby("data", sort=False):
            told = claims["verdict"].ne(NOT_RUN) | claims["ours"].str.startswith(OUT_OF_RANGE)
            if data.split(", ")[0] not in STAND_INS and told.any():
                link = f"[{path.parent.name}](results/{path.relative_to(results).as_posix()})"
                place = ", ".join([link, *data.split(", ")[1:]])
                papers.setdefault(claims["paper"].iloc[0], {})[place] = claims.set_index("claim")
    if not papers:
        return ""
    once = {paper: _once(pd.concat(places.values())) for paper, places in papers.items()}
    once["all"] = sum(once.values())
    table = _table("every claim once", KINDS)
    table += [_row(paper, counts) for paper, counts in once.items()]
    table += ["", *_table("paper", ["scores", "scale", *VERDICTS])]
    folded = []
    for paper, places in papers.items():
        for place, claims in places.items():
            counts = claims["verdict"].value_counts().reindex(VERDICTS, fill_value=0)
            table.append(_row(paper, [place, claims["scale"].mode()[0], *counts]))
        lines = _table(f"claims of {paper}", places)
        for claim in published(paper)["claims"]:
            cells = [_cell(claims.loc[claim["id"]]) for claims in places.values()]
            lines.append(_row(f"{claim['id'].rsplit('-', 1)[1]}. {claim['statement']}", cells))
        folded += ["<details>", f"<summary>{paper}, claim by claim</summary>", "", *lines, "", "</details>", ""]
    return "\n".join(["", *table, "", *folded])


def _once(claims):
    """How many claims there are of each of KINDS: each claim where it was judged at the largest scale."""
    share = claims["scale"].map(share_of).astype(float)
    found = claims.assign(run=claims["verdict"] != NOT_RUN, whole=share >= 1, share=share)
    found = found.sort_values(["run", "share"], ascending=False, kind="stable").groupby(level=0).first()
    at = found["whole"].map({True: "paper scale: ", False: "reduced scale: "}).where(found["run"], "")
    return (at + found["verdict"]).value_counts().reindex(KINDS, fill_value=0)


def _cell(claim):
    said = f"**{claim['verdict']}**"
    if claim["verdict"] != NOT_RUN:
        said += f" at {claim['scale']}"
    if claim["before"]:
        said += f" (before: {claim['before']})"
    return f"{said}: {claim['ours']}"


def _table(first, columns):
    """The head of a Markdown table, as lines."""
    return [_row(first, columns), "|---" * (len(columns) + 1) + "|"]


def _row(first, cells):
    return "| " + " | ".join(map(str, [first, *cells])) + " |"
