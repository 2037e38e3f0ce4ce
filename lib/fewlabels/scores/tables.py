"""Tables in a paper's own layout, the paper's number beside ours."""

from collections.abc import Sequence
from typing import Any

import pandas as pd


def summarise(runs: pd.Series, row: str = "method", column: str = "labels") -> pd.DataFrame:
    """Mean, sd and n over runs for each (row, column): `runs` is a series indexed by names that include both."""
    grouped = runs.groupby([row, column])
    table = pd.DataFrame({"mean": grouped.mean(), "sd": grouped.std(), "n": grouped.size()}).reset_index()
    return table.rename(columns={row: "row", column: "column"})


def beside_paper(
    ours: pd.DataFrame, published: pd.DataFrame, rows: Sequence[Any], columns: Sequence[Any]
) -> pd.DataFrame:
    """One line a cell of the paper's table, in its order: row, column, ours_mean, _sd, _n, paper_mean, _sd."""
    cells = pd.MultiIndex.from_product([rows, columns], names=["row", "column"]).to_frame(index=False)
    ours = ours.rename(columns={"mean": "ours_mean", "sd": "ours_sd", "n": "ours_n"})
    published = published.rename(columns={"mean": "paper_mean", "sd": "paper_sd"})
    table = (
        cells.merge(ours, how="left").merge(published, how="left").dropna(subset=["ours_mean", "paper_mean"], how="all")
    )
    return table.astype({"ours_n": "Int64"}).reset_index(drop=True)


def markdown(
    table: pd.DataFrame, row_name: str, caption: str, column_format: str = "{}", digits: int = 1,
    others: Sequence[str] = (), columns: Sequence[Any] | None = None,
) -> str:  # fmt: skip
    """A table of `beside_paper` as Markdown: each cell is ours ± sd (n), the paper's below it.

    `others`: rows that the paper quotes from elsewhere, which are not ours to run. `columns`: their order, if they are
    no numbers and the first row lacks one.
    """

    def cell(entry: Any) -> str:
        lines = []
        if pd.notna(entry.ours_mean):
            lines.append(f"**{_pm(entry.ours_mean, entry.ours_sd, digits)}** (n = {entry.ours_n})")
        elif entry.row not in others:
            lines.append("not run")
        if pd.notna(entry.paper_mean):
            lines.append(f"paper {_pm(entry.paper_mean, entry.paper_sd, digits)}")
        return "<br>".join(lines)

    rows, found = (list(dict.fromkeys(table[name])) for name in ("row", "column"))
    columns = columns or (sorted(found) if all(isinstance(c, int | float) for c in found) else found)
    cells = {(entry.row, entry.column): cell(entry) for entry in table.itertuples()}
    lines = [
        f"| {row_name} | " + " | ".join(column_format.format(c) for c in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    lines += [f"| {r} | " + " | ".join(cells.get((r, c), "-") for c in columns) + " |" for r in rows]
    return f"{caption}\n\n" + "\n".join(lines) + "\n"


def _pm(mean: float, sd: float, digits: int) -> str:
    return f"{mean:.{digits}f}" if pd.isna(sd) else f"{mean:.{digits}f} ± {sd:.{digits}f}"
