"""Is a result folder what it would be if it were made again? Imports nothing that takes time."""

import hashlib
import json
import platform
from pathlib import Path

from fewlabels.engine import experiments
from fewlabels.files import write_json
from fewlabels.paths import CHECKOUT, results_root

STAMP = ".made.json"
ASIDE = ("checkpoints", "failed")  # below a result folder: no part of what a reader opens


def stamp(folder: Path, params_file: Path, best: str) -> None:
    """Notes of what `folder` was made, and what it is now. `best` as of `summary`."""
    write_json(folder / STAMP, {"digest": _digest(folder, params_file), "best": best})


def stamped(params_file: Path, results: Path | None = None) -> tuple[Path, str] | None:
    """The folder that a parameter file makes, and `best`, if nothing has changed since it was stamped: neither the
    file, nor code, notebooks and packages asked for, nor anything that is stored in the folder."""
    params_file = Path(params_file).absolute()
    root = Path(results or results_root(params_file.stem)) / params_file.parent.name
    for path in root.glob(f"*-{params_file.stem}/{STAMP}"):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["digest"] == _digest(path.parent, params_file):
                return path.parent, found["best"]
        except (OSError, ValueError, KeyError, TypeError):  # unreadable: made again
            continue
    return None


def _digest(folder: Path, params_file: Path) -> str:
    lib = CHECKOUT / "lib"
    sources = [lib, *(place for place in experiments.folders() if lib not in place.parents)]
    files = [path for place in sources for kind in ("*.py", "*.yaml") for path in place.rglob(kind)]
    files += [*CHECKOUT.glob("notebooks/*.py"), CHECKOUT / "requirements.lock", Path(params_file)]
    made = [path for path in folder.rglob("*") if path.relative_to(folder).parts[0] not in ASIDE]
    files += [path for path in made if path.is_file() and not path.name.startswith(".")]
    digest = hashlib.sha256(platform.python_version().encode())
    for path in sorted(path.absolute() for path in files):
        digest.update(f"{path}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
