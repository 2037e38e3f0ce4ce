"""What a number needs to be believed: code, versions, machine, data."""

import hashlib
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from fewlabels.paths import CHECKOUT, is_checkout

PACKAGES = (
    "fewlabels torch torchvision numpy numba scipy scikit-learn pandas pillow pydantic elasticdeform SimpleITK "
    "batchgenerators optuna matplotlib papermill jupytext"
).split()
CODE = ("lib", "params", "notebooks/*.py", "requirements.lock")  # a change in these makes a result "dirty"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def code() -> dict[str, Any]:
    """The commit, the git trees of lib/ and params/, and whether anything that computes was changed since.

    A changed lib/ has a digest of its changes behind its tree. All None outside a checkout (an installed package, an
    unpacked archive).
    """

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(CHECKOUT), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    lib, params = git("rev-parse", "HEAD:./lib"), git("rev-parse", "HEAD:./params")
    if not is_checkout() or lib is None or params is None:
        return {"commit": None, "lib": None, "params": None, "dirty": None}
    changes = git("diff", "HEAD", "--", "lib")
    return {
        "commit": git("rev-parse", "HEAD"),
        "lib": lib + (f"+{hashlib.sha256(changes.encode()).hexdigest()[:8]}" if changes else ""),
        "params": params,
        "dirty": bool(git("status", "--porcelain", "--", *CODE)),
    }


def machine(device: torch.device | str) -> dict[str, Any]:
    """Versions, device, threads and what of it is deterministic. Nothing that names the host or its user."""
    device = torch.device(device)
    facts = {
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))} | {"torch": torch.__version__},
        "platform": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu: {_processor()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "tf32": device.type == "cuda"
        and {"matmul": torch.backends.cuda.matmul.allow_tf32, "cudnn": torch.backends.cudnn.allow_tf32},
        "deterministic": device.type == "cpu",
    }
    if device.type == "cuda":
        facts |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "driver": _driver()}
        facts["nondeterministic"] = "backward passes of grid_sample, gather and cuDNN convolutions"
    return facts


def union(records: list[dict[str, Any]]) -> dict[str, Any]:
    """One record for many runs: first start, last end, of the rest the value, or a list of those that differ."""
    ends = {"start": min(r["start"] for r in records), "end": max(r["end"] for r in records)}
    merged = {}
    for key in dict.fromkeys(key for record in records for key in record):
        values = [record[key] for record in records if key in record]
        distinct = [value for i, value in enumerate(values) if value not in values[:i]]
        merged[key] = distinct[0] if len(distinct) == 1 else sorted(distinct, key=str)
    return merged | ends


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return (
            subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip().split("\n")[0] or None
        )
    except OSError:
        return None
