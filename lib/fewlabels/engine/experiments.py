"""The experiments of all papers, found by reading the folders of `fewlabels.papers` and of FEWLABELS_PAPERS.

FEWLABELS_PAPERS names folders that hold a folder a paper, as `fewlabels/papers` does; several are separated as in PATH.
Reads files and imports nothing but the experiment asked for, so that `make help` works before anything is installed.
"""

import ast
import os
import re
from importlib import import_module
from pathlib import Path

from fewlabels import papers
from fewlabels.engine.protocols import Experiment
from fewlabels.errors import BadInput

HERE = Path(papers.__file__).parent
NAME = re.compile(r'^NAME = "(.*)"$', re.MULTILINE)
PARTS = ("published.yaml", "claims.py")


def folders() -> list[Path]:
    """The folders of all papers. From now on each can be imported as `fewlabels.papers.<folder>`.

    A folder with neither a module nor one of PARTS is no paper. Raises BadInput for a folder of FEWLABELS_PAPERS that
    is not there, and for two papers' folders of one name.
    """
    named = [Path(place).expanduser() for place in os.environ.get("FEWLABELS_PAPERS", "").split(os.pathsep) if place]
    for place in named:
        if not place.is_dir():
            raise BadInput(f"FEWLABELS_PAPERS: {place}", "a folder that holds a folder a paper", "none")
    places = [HERE, *(place.absolute() for place in named)]
    papers.__path__[:] = map(str, places)
    found: dict[str, Path] = {}
    for folder in (folder for place in places for folder in sorted(place.iterdir()) if _is_paper(folder)):
        if other := found.get(folder.name):
            raise BadInput(folder, "a name of its own", f"that of {other}")
        found[folder.name] = folder
    return [*found.values()]


def modules() -> dict[str, Path]:
    """The module of every experiment by its NAME.

    Raises BadInput for a paper without one of its parts or without an experiment, and for a NAME that is given twice.
    """
    found: dict[str, Path] = {}
    for folder in folders():
        modules = {file: NAME.search(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.py"))}
        here = {file: match[1] for file, match in modules.items() if match}
        if missing := [part for part in PARTS if not (folder / part).is_file()]:
            raise BadInput(folder, f"a paper's {' and '.join(PARTS)}", f"no {' and no '.join(missing)}")
        if not here:
            raise BadInput(folder, 'an experiment: a module with a line NAME = "..."', "none")
        for file, name in here.items():
            if not name.isidentifier():
                raise BadInput(f"{file}: NAME", "a word of letters, digits and _", repr(name))
            if name in found:
                raise BadInput(f"{file}: NAME", "a name of its own", f"{name!r}, which is that of {found[name]}")
            found[name] = file
    return found


def load(file: Path) -> Experiment:
    """An experiment's module, imported. Raises BadInput for one that lacks a part or whose published.yaml does."""
    from fewlabels.scores.published import published  # here, as it needs packages

    try:
        module = import_module(f"{papers.__name__}.{file.parent.name}.{file.stem}")
    except (ImportError, SyntaxError) as error:
        raise BadInput(file, "a module that can be imported", f"{type(error).__name__}: {error}") from None
    parts = [part for part in (*Experiment.__annotations__, *vars(Experiment)) if not part.startswith("_")]
    if missing := [part for part in parts if not hasattr(module, part)]:
        raise BadInput(file, f"an experiment's {', '.join(parts)}", f"no {' and no '.join(missing)}")
    published(file.parent.name)
    return module


def summaries() -> dict[str, str]:
    """What each experiment reproduces, by its NAME: the first line of its module's docstring."""
    return {name: (_docstring(file) or "").split("\n")[0] for name, file in modules().items()}


def _docstring(file: Path) -> str | None:
    try:
        return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    except SyntaxError as error:
        raise BadInput(file, "a module that can be imported", f"SyntaxError: {error}") from None


def _is_paper(folder: Path) -> bool:
    if not folder.is_dir() or not folder.name.isidentifier() or folder.name.startswith("_"):
        return False
    return any((folder / part).exists() for part in PARTS) or any(folder.glob("*.py"))
