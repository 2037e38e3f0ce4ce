"""What is committed under results/ is what the stored runs, today's configs and today's rules make of it."""

import pandas as pd
import pytest

from fewlabels.engine import params, report, sweep
from fewlabels.engine.ledger import judged, write_claims
from fewlabels.paths import CHECKOUT

STORED = sorted(path.parent for path in (CHECKOUT / "results").glob("*/*/runs") if any(path.iterdir()))
REAL = [folder for folder in STORED if folder.name.rsplit("-", 1)[1] not in ("smoke", "quick")]


@pytest.fixture(params=REAL, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def stored(request):
    """A committed folder, its experiment, config and scores."""
    folder = request.param
    data, profile = folder.name.rsplit("-", 1)
    experiment, config = params.load(CHECKOUT / "params" / folder.parent.name / f"{profile}.yaml")
    records = sweep.records(experiment, config, folder)
    assert len(records) == len([*(folder / "runs").glob("*.json")])  # every stored run is of the grid, none is refused
    return folder, data, experiment, config, sweep.scores(records)


def test_committed_results_are_made_of_the_stored_runs(stored, tmp_path):
    folder, data, experiment, config, scores = stored
    report._write_scores(scores, tmp_path)
    for name, (table, _) in experiment.tables(config, scores).items():
        report._write_table(table, tmp_path / f"{name}.csv")
    write_claims(judged(experiment, config, scores, data), tmp_path)
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {path.name for path in folder.iterdir() if path.suffix in (".csv", ".gz")}
    for name in made:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_scores_that_were_read_are_judged_alike(stored, tmp_path):
    """`make ledger` judges scores.csv, a sweep the runs themselves."""
    folder, data, experiment, _, scores = stored
    report._write_scores(scores, tmp_path)
    [path] = tmp_path.iterdir()
    read = pd.read_csv(path, keep_default_na=False, na_values={"value": [""]})
    pd.testing.assert_frame_equal(experiment.judge(read, data), experiment.judge(scores, data))
