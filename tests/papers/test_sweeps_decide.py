"""What a sweep runs is enough for the claims that it is run for: scores of its whole grid, healthy ones, judged."""

from dataclasses import asdict
from functools import cache

import numpy as np
import pandas as pd
import pytest

from fewlabels.engine import params
from fewlabels.paths import CHECKOUT

VALUE = ("subject", "structure", "metric", "value")
LEVELS = {"miou": 80.0, "iou": 80.0, "accuracy": 60.0, "consistency": 85.0}  # far within all bounds; else 0.6
NEVER = {  # claims that a profile cannot judge, and what it lacks
    ("jsrt", "lite"): {20: "official files"},
    ("jsrt", "lite128"): {20: "official files"},
    ("acdc", "lite"): {19: "official files"},
    ("isic", "lite"): {n: "a paper's network" for n in (1, 2, 4, 5)}
    | {n: "a GPU" for n in (10, 11, 12)}
    | {n: "organs" for n in range(13, 18)}
    | {20: "scores", 21: "official files"},
    ("isic", "backbones"): {n: "rows" for n in range(1, 22) if n != 4},
    ("oar", "lite"): {n: "lesions" for n in (*range(1, 13), 18, 19)} | {20: "scores", 21: "official files"},
    ("cifar10", "lite"): {n: "several learning rates" for n in (7, 8)}
    | {9: "a network that collapsed", 15: "120 epochs", 17: "other modes"},
    ("mnist", "lite"): {n: "three seeds of 128 x 128" for n in (3, 5, 7)}
    | {4: "BraTS", 14: "BraTS", 15: "the row without cycle", 18: "the paper's schedule"},
    ("brats", "lite"): {n: "MNIST" for n in (*range(1, 14), 15, 16, 17) if n not in (4, 8)}
    | {18: "the paper's schedule"},
}


@cache
def written(name):
    """`{method: what stored runs of it wrote}`: subject (six at most), structure and metric."""
    stored = sorted((CHECKOUT / "results" / name).glob("*/scores.csv"))
    stored = stored or sorted((CHECKOUT / "results" / name).glob("*-quick/scores.csv.gz"))
    scores = pd.concat([pd.read_csv(path, usecols=["method", *VALUE[:3]], keep_default_na=False) for path in stored])
    subjects = scores.loc[scores["subject"] != "all", "subject"].drop_duplicates()
    scores = scores[scores["subject"].isin(["all", *subjects.iloc[-6:]])].drop_duplicates()
    return {method: of.drop(columns="method") for method, of in scores.groupby("method")}


def of_method(name, method):
    """What a run of it writes, or of the row that is most like it."""
    known = written(name)
    alike = (method, method.replace(", no task gradient", ""), method.split(" (")[0], "Baseline")
    return known[next(row for row in alike if row in known)]


def grid_scores(experiment, config):
    rng, runs = np.random.default_rng(0), []
    for run in experiment.grid(config):
        of_config = experiment.identity(config, run)
        place = {axis: of_config[axis] if value is None else value for axis, value in asdict(run).items()}
        rows = of_method(experiment.NAME, run.method).assign(**place)
        level = rows["metric"].map(lambda metric: LEVELS.get(metric.split("_")[0], 0.6))
        runs.append(rows.assign(value=level * rng.normal(1, 0.02, len(rows))))
    scores = pd.concat(runs, ignore_index=True)
    return scores[[c for c in scores.columns if c not in VALUE] + [*VALUE]]


@pytest.mark.parametrize(("name", "profile"), NEVER)
def test_a_profile_decides_all_but_what_it_lacks(name, profile):
    experiment, config = params.load(CHECKOUT / "params" / name / f"{profile}.yaml")
    judged = experiment.judge(grid_scores(experiment, config), "simulated")
    lacking = judged[judged["verdict"] == "not run"].set_index("claim")["ours"]
    assert {int(claim[-2:]) for claim in lacking.index} == {*NEVER[name, profile]}, lacking.to_dict()
