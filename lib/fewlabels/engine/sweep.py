"""Runs a grid: what is done is skipped, each run is stored whole or not at all, a failed one does not stop the rest."""

import hashlib
import json
import math
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from fewlabels import precision
from fewlabels.data.cohort import Cohort
from fewlabels.engine import memory, progress, provenance
from fewlabels.engine.protocols import Experiment
from fewlabels.engine.training import Stopped
from fewlabels.errors import BadInput
from fewlabels.files import whole, writable, write_json
from fewlabels.paths import results_root
from fewlabels.scores.statistics import VALUE
from fewlabels.types import Report, Stop

DEFAULT = "no such key"  # of a Run, or of a Config that has it no more


def folder_of(experiment: Experiment, config: Any, cohort: Cohort | None, results: Path | str | None = None) -> Path:
    """`<results>/<experiment>/<data>-<profile>`: phantom and real data never share a folder. Without a cohort, of data
    that need no files: those have the config's name for them. Without `results`, below the profile's `results_root`."""
    data = cohort.meta["data"] if cohort else config.data
    return Path(results or results_root(config.profile)) / experiment.NAME / f"{data}-{config.profile}"


def default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _device(name: torch.device | str | None) -> torch.device:
    """The named device, or the default one. Raises BadInput for one that is not there."""
    try:
        return torch.empty(0, device=name or default_device()).device
    except (RuntimeError, AssertionError) as error:
        raise BadInput("--device", "cpu, cuda, cuda:1, ...", f"{name!r}: {str(error).splitlines()[0]}") from None


def sweep(
    experiment: Experiment, config: Any, cohort: Cohort, folder: Path, *, only: Callable[[Any], bool] | None = None,
    device: torch.device | str | None = None, limit: int | None = None, stop: Stop | None = None, after: float = 0,
) -> dict[str, str]:  # fmt: skip
    """Runs `experiment.grid(config)` on a cohort and writes `folder/runs/<run-id>.json`, one file a run.

    only    run -> bool: which runs of the grid to do now
    device  default: CUDA if there is one, else the CPU
    limit   at most this many runs
    stop    () -> True asks to stop after the next checkpoint: raises Stopped
    after   seconds that the caller takes once the sweep is done, for the time left that the bar shows

    Returns `{run id: message}` of the runs that failed. Raises BadInput when a stored run was made with another
    config or from other data: numbers of two kinds are never mixed; or for a `precision` that the device has not.
    """
    device, code = _device(device), provenance.code()
    memory.keep()
    runs = [run for run in experiment.grid(config) if only is None or only(run)][:limit]
    fingerprint = cohort.fingerprint()
    there = records(experiment, config, folder, fingerprint)  # of the whole grid: all must be of one kind
    missing = [run for run in runs if run not in there]
    if missing:
        precision.check(getattr(config, "precision", "fp32"), device)
    failed, places = {}, {}
    for run in missing:
        identity = experiment.identity(config, run)
        places[run] = checkpoints(folder, run, identity, fingerprint, code, device)
    with _bar(experiment, config, folder, runs, there, places, after) as bar:
        for run, place in places.items():
            bar.begin(run.id, [path.parent.name for path in place.glob("*/last.pt")])
            with writable(folder):
                try:
                    _one(experiment, config, run, cohort, folder, place, fingerprint, code, device, bar.report, stop)
                    bar.end()
                except Stopped:
                    raise
                except (RuntimeError, ArithmeticError) as error:  # Diverged, out of memory: a hole in the table
                    failed[run.id] = f"{type(error).__name__}: {error}"
                    why = {"error": failed[run.id], "trace": traceback.format_exc()}
                    write_json(folder / "failed" / f"{run.id}.json", why)
                    bar.end(failed[run.id])
    return failed


def _bar(
    experiment: Experiment, config: Any, folder: Path, runs: list[Any], there: dict[Any, dict[str, Any]],
    places: dict[Any, Path], after: float,
) -> progress.Bar:  # fmt: skip
    plans = {run.id: progress.plan(experiment, config, run) for run in runs}
    seconds = {run.id: there[run]["seconds"] for run in runs if run in there}
    finished = {path.parent.name for place in {*places.values()} for path in place.glob("*/network.pt")}
    known = progress.Progress(plans, seconds, finished)
    return progress.Bar(known, len(runs), len(seconds), after)


def _one(
    experiment: Experiment, config: Any, run: Any, cohort: Cohort, folder: Path, place: Path, fingerprint: str,
    code: dict[str, Any], device: torch.device, report: Report, stop: Stop | None,
) -> None:  # fmt: skip
    """Does one run and stores it. `seconds`: of this sitting, with stage 1 where this run was the first to need it."""
    started, clock = provenance.now(), time.perf_counter()
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    result = experiment.run(config, run, cohort, place, device, report, stop)
    record = {
        "run": run.id,
        "config": experiment.identity(config, run),
        "seconds": round(time.perf_counter() - clock, 1),
        "peak_memory_mb": _peak_memory_mb(device),
        "network": str((place / run.id / "network.pt").relative_to(folder)),
        **_rounded(result),
        "provenance": {**code, **provenance.machine(device), "data": cohort.meta["data"], "fingerprint": fingerprint}
        | {"start": started, "end": provenance.now()},
    }
    path = folder / "runs" / f"{run.id}.json"
    with whole(path) as temporary:  # one line: a run of 123 subjects stays a small file
        temporary.write_text(json.dumps(record, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "failed" / f"{run.id}.json").unlink(missing_ok=True)


def checkpoints(
    folder: Path, run: Any, identity: dict[str, Any], fingerprint: str, code: dict[str, Any], device: torch.device | str
) -> Path:
    """Where a run keeps its networks: a folder of its config but for the run's own fields, its data, source tree and
    kind of device. What was begun on the CPU does not go on on a GPU.

    Runs that share a first stage find each other there, by its name, which says those fields that it depends on.
    """
    shared = {key: value for key, value in identity.items() if getattr(run, key, None) is None}
    key = json.dumps([shared, fingerprint, code["lib"], torch.device(device).type], sort_keys=True)
    return folder / "checkpoints" / hashlib.sha256(key.encode()).hexdigest()[:12]


def network_of(record: dict[str, Any], folder: Path) -> dict[str, torch.Tensor] | None:
    """The weights of a stored run's network, or None on a machine that did not train it (they are not committed)."""
    path = folder / record["network"]
    return torch.load(path, map_location="cpu", weights_only=True)["network"] if path.exists() else None


def stored(
    experiment: Experiment, config: Any, run: Any, folder: Path, fingerprint: str | None = None
) -> dict[str, Any] | None:
    """A stored run as a dict, or None. A damaged file is named, moved aside and counts as none. Raises BadInput."""
    path = folder / "runs" / f"{run.id}.json"
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        config_then, data_then = record["config"], record["provenance"]["fingerprint"]
        record["seconds"], record["subjects"], record["scores"].items(), record["overall"].items(), config_then.items()
    except (ValueError, KeyError, TypeError, AttributeError):
        path.rename(path.with_suffix(".damaged"))
        print(f"{path}: damaged, moved aside as {path.with_suffix('.damaged').name}; the run is done again")
        return None
    identity = experiment.identity(config, run)
    for key in {**identity, **config_then}:
        now, then = (values.get(key, _default(config, key)) for values in (identity, config_then))
        if now != then:
            advice = "(move that folder away, or write to another --results)"
            raise BadInput(f"{path}: {key}", f"{now!r}, as in the parameters", f"{then!r} {advice}")
    if fingerprint is not None and data_then != fingerprint:
        raise BadInput(f"{path}: data", f"fingerprint {fingerprint[:12]}", f"{data_then[:12]}: a run on other data")
    return record


def _default(config: Any, key: str) -> Any:
    """What a key stands at that an identity leaves out."""
    field = type(config).model_fields.get(key)
    return DEFAULT if field is None or field.is_required() else field.default


def records(
    experiment: Experiment, config: Any, folder: Path, fingerprint: str | None = None
) -> dict[Any, dict[str, Any]]:
    """The stored runs of the grid, `{run: record}`. Raises BadInput as `stored` does."""
    found = {run: stored(experiment, config, run, folder, fingerprint) for run in experiment.grid(config)}
    return {run: record for run, record in found.items() if record is not None}


def scores(records: dict[Any, dict[str, Any]]) -> pd.DataFrame:
    """The scores of stored runs `{run: record}`, tidy and sorted: one value a row, columns the run's fields and VALUE.

    A field that a run leaves open (None) is its config's. Empty value: undefined.
    """
    rows, axes = [], list(vars(next(iter(records)))) if records else []
    for run, record in records.items():
        place = [record["config"][axis] if getattr(run, axis) is None else getattr(run, axis) for axis in axes]
        for metric, structures in record["scores"].items():
            for structure, values in structures.items():
                rows += [(*place, s, structure, metric, v) for s, v in zip(record["subjects"], values, strict=True)]
        rows += [(*place, "all", "all", metric, value) for metric, value in record["overall"].items()]
    columns = [*axes, *VALUE]
    return pd.DataFrame(rows, columns=columns).sort_values(columns[:-1], ignore_index=True)


def _rounded(value: Any) -> Any:
    """Floats to four digits behind the point, NaN to None: what JSON can hold and a file should."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value


def _peak_memory_mb(device: torch.device | str) -> int:
    if torch.device(device).type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10))
