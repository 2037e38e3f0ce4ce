"""What the notebooks of sweeps show of stored runs: the networks, and the verdicts on claims."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from fewlabels.engine import sweep
from fewlabels.engine.protocols import Experiment


def trained(
    experiment: Experiment, config: Any, folder: Path, build: Callable, only: Callable[[Any], bool] | None = None
) -> dict:
    """`{run: build(run)}` with the stored runs' weights, ready to predict; says so if none of them is on this machine.

    build   run -> a network, or a method that has one as `network`
    only    run -> bool: which runs of the grid; default: all
    """
    found = {}
    for run, record in sweep.records(experiment, config, folder).items():
        if (only is None or only(run)) and (weights := sweep.network_of(record, folder)) is not None:
            found[run] = build(run)
            network = getattr(found[run], "network", found[run])
            network.load_state_dict(weights)
            network.eval()
    if not found:
        print("The networks of these runs are not on this machine (they are not committed): nothing to show.")
    return found


def verdicts(claims: pd.DataFrame) -> Styler:
    """The verdicts of `report.write` as a table: what was found, at which scale; `data` where there are several."""
    several = ["data"] if claims["data"].nunique() > 1 else []
    shown = claims[["claim", "statement", *several, "ours", "n", "p", "scale", "verdict"]]
    return shown.style.set_uuid("claims").hide().format(precision=3, na_rep="")
