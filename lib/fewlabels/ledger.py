"""Published values, claims and the verdicts on them.

`published/<paper>.yaml` holds a paper's numbers and its claims, each with a tolerance in words that was fixed before
the first real run, or says there when it was changed and why; `claims/<paper>.py` holds the same tolerances as code,
one function a claim. A verdict is one of VERDICTS. A run is one (labels, split, seed) of a method; its score is the
mean over its test subjects.
"""

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.resources import files

import pandas as pd
import yaml
from scipy import stats

DIGITS = 6  # differences and their means are rounded to so many: 0.3 - 0.305 is not below -0.005
VERDICTS = ("supported", "contradicted", "inconclusive", "not run")
STAND_INS = ("phantom", "digits")  # data that need no files: synthetic, or from scikit-learn
VALUE = ("subject", "structure", "metric", "value")  # columns of scores.csv that are no axes of its grid
COLUMNS = ["paper", "claim", "statement", "published", "ours", "n", "test", "p", "data", "verdict"]


@dataclass(frozen=True)
class Verdict:
    """`ours` is the evidence in words and numbers, n what was counted, p of the named test."""

    verdict: str
    ours: str
    n: int = 0
    test: str = ""
    p: float | None = None


def verdict(supported, contradicted):
    return "supported" if supported else "contradicted" if contradicted else "inconclusive"


def not_run(n, needed):
    return Verdict("not run", f"{n} of the {needed} runs or pairs that the claim names", n)


@cache
def published(paper):
    """The content of `published/<paper>.yaml`: `values` (Table, row, column, mean, sd) and `claims`."""
    return yaml.safe_load((files("fewlabels") / "published" / f"{paper}.yaml").read_text(encoding="utf-8"))


def published_values(paper, table):
    """The paper's numbers of one table as a frame: row, column, mean, sd."""
    rows = [value for value in published(paper)["values"] if value["table"] == table]
    return pd.DataFrame(rows, columns=["row", "column", "mean", "sd"]).astype({"mean": float, "sd": float})


def judge(paper, scores, data):
    """The verdict on every claim of a paper: a frame with COLUMNS. `scores` as in scores.csv, `data` named in it.

    Where the rules name MODES, each claim is judged in every one of them that was run, and `data` says which.
    """
    rules, rows = import_module(f"fewlabels.claims.{paper}"), []
    if hasattr(rules, "MODES"):
        judged = {f"{data}, {mode}": (scores, mode) for mode in rules.MODES if (scores["mode"] == mode).any()}
    else:
        judged = {data: (scores,)}
    for name, arguments in judged.items():
        for claim in published(paper)["claims"]:
            found = getattr(rules, claim["id"].replace("-", "_"))(*arguments)
            if found.verdict not in VERDICTS:
                raise ValueError(f"{claim['id']}: expected a verdict of {VERDICTS}, found {found.verdict!r}")
            rows.append(
                (paper, claim["id"], claim["statement"], str(claim["published"]), found.ours, found.n, found.test)
                + (found.p, name, found.verdict)
            )
    return pd.DataFrame(rows, columns=COLUMNS)


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


def run_scores(scores, metric="miou", structure="all"):
    """One number a run: the mean over its subjects. Indexed by the axes of the grid: method, labels, split, ..."""
    chosen = scores[(scores["metric"] == metric) & (scores["structure"] == structure)]
    return chosen.groupby([c for c in scores.columns if c not in VALUE])["value"].mean()


def differences(runs, better, than, labels=None):
    """Paired differences `better - than` over all runs that share all but the method; indexed by what they share."""
    if not {better, than} <= set(runs.index.get_level_values("method")):
        return runs.iloc[:0].droplevel("method")
    d = (runs.xs(better, level="method") - runs.xs(than, level="method")).dropna().round(DIGITS)
    return d if labels is None else d[d.index.get_level_values("labels").isin(labels)]


def means(d):
    """The mean of differences at each label count."""
    return d.groupby("labels").mean().round(DIGITS)


def greater(d):
    """Is the mean of paired differences above 0? (name of the test, one-sided p).

    n >= 5: Wilcoxon signed-rank; n = 3 or 4: paired t (Wilcoxon cannot reach 0.05 there); below: no test.
    """
    if len(d) < 3:
        return "", None
    name = "Wilcoxon signed-rank, one-sided" if len(d) >= 5 else "paired t, one-sided"
    if d.nunique() == 1 and (len(d) < 5 or d.iloc[0] == 0):  # no spread: what SciPy would divide by
        return name, float(d.iloc[0] <= 0)
    test = stats.wilcoxon(d, alternative="greater") if len(d) >= 5 else stats.ttest_1samp(d, 0, alternative="greater")
    return name, float(test.pvalue)
