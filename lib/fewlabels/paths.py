"""Where data are read and results written, whatever the working directory: a notebook's is not the terminal's."""

import os
from os.path import expanduser
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]  # the repository, where it is one and not an installed package
LOCAL = ("quick", "smoke")  # profiles of which each user makes results of his own; those in git are examples
NOWHERE = "FEWLABELS_DATA (or --data, or make DATA=)"  # what a user has not set when there is no data root


def is_checkout() -> bool:
    return (CHECKOUT / "pyproject.toml").exists()


def data_root() -> str | None:
    """FEWLABELS_DATA, or None. An empty variable counts as unset. `~` is understood: make hands it on as it is."""
    return expanduser(os.environ.get("FEWLABELS_DATA") or "") or None


def results_root(profile: str | None = None) -> Path:
    """Where result folders go: FEWLABELS_RESULTS, or `results` in the repository (in the working directory for an
    installed package); of the profiles that everybody runs, `results/local`, which git ignores."""
    if named := expanduser(os.environ.get("FEWLABELS_RESULTS") or ""):
        return Path(named)
    root = (CHECKOUT if is_checkout() else Path.cwd()) / "results"
    return root / "local" if profile in LOCAL else root


def datasets(function: str) -> list[str]:
    """The data sets whose modules in `fewlabels.data` have a function of that name: "check", "prepare", "download"."""
    modules = sorted((Path(__file__).parent / "data").glob("*.py"))
    return [module.stem for module in modules if f"\ndef {function}(" in module.read_text(encoding="utf-8")]
