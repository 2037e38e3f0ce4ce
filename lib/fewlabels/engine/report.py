"""What a result folder holds beside its runs: scores, tables, claims and where they come from."""

import gzip
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from fewlabels.data.cohort import Cohort
from fewlabels.engine import provenance, sweep
from fewlabels.engine.ledger import judged, write_claims
from fewlabels.engine.protocols import Experiment
from fewlabels.files import locked, whole, writable, write_json, write_text


def write(
    experiment: Experiment, config: Any, cohort: Cohort, folder: Path
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame], pd.DataFrame]:
    """Writes scores.csv (above 1 MiB scores.csv.gz), table<k>.csv and .md, claims.csv and provenance.json.

    All from the stored runs of the grid. Returns the scores, `{table name: frame}` and the claims.
    Raises RuntimeError where no run is stored, BadInput where the folder cannot be written.
    """
    with writable(folder), locked(folder):  # processes that share a sweep may end together
        return _write(experiment, config, cohort, folder)


def _write(
    experiment: Experiment, config: Any, cohort: Cohort, folder: Path
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame], pd.DataFrame]:
    grid = experiment.grid(config)
    records = sweep.records(experiment, config, folder, cohort.fingerprint())
    if not records:
        raise RuntimeError(f"{folder}: no run of the grid is stored, so there is nothing to report")
    scores = sweep.scores(records)
    sources = provenance.union([record["provenance"] for record in records.values()])
    done = f"{len(records)} of {len(grid)} runs"
    caption = f"Data: **{cohort.meta['data']}** ({cohort.meta['source']}). Profile `{config.profile}`, {done}."
    if isinstance(sources["lib"], list):
        # A changed tree has a digest behind its hash: hash+digest.
        trees = Counter(re.sub(r"(.{8})[^+]*", r"\1", str(r["provenance"]["lib"]), count=1) for r in records.values())
        caption += f" **Mixed source trees**: {', '.join(f'{n} runs of {tree}' for tree, n in trees.items())}."
    if sources["dirty"] not in (False, None):
        caption += " **Made from changed, uncommitted code.**"

    tables = experiment.tables(config, scores)
    claims = judged(experiment, config, scores, cohort.meta["data"])  # before anything is written
    _write_scores(scores, folder)
    for name, (table, markdown) in tables.items():
        _write_table(table, folder / f"{name}.csv")
        write_text(folder / f"{name}.md", markdown(caption))
    write_claims(claims, folder)
    write_json(folder / "provenance.json", {"config": config.model_dump(), "runs": len(records), **sources})
    return scores, {name: table for name, (table, _) in tables.items()}, claims


def _write_scores(scores: pd.DataFrame, folder: Path) -> None:
    content = scores.to_csv(index=False, float_format="%.4f", lineterminator="\n").encode()
    plain, packed = folder / "scores.csv", folder / "scores.csv.gz"
    large = len(content) > 2**20
    with whole(packed if large else plain) as temporary:
        temporary.write_bytes(gzip.compress(content, mtime=0) if large else content)  # no time: same scores, same bytes
    (plain if large else packed).unlink(missing_ok=True)


def _write_table(table: pd.DataFrame, path: Path) -> None:
    with whole(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.4f")
