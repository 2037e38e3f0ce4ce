"""The file classes.yaml: which number or colour in masks is which class, where somebody says it."""

import re
from pathlib import Path
from typing import Any

import yaml

from fewlabels.errors import BadInput

Value = int | float | tuple[int, ...]  # a number, or red, green and blue


def read_classes(path: Path) -> tuple[dict[Value, str], Value | None]:
    """The names by value of classes.yaml, and the value of what is ignored. Raises `BadInput`."""
    expected = "names by value, as `{names: {0: background, 255: tumour}, ignore: 127}`"
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(path, expected, " ".join(str(error).split())) from None
    if not isinstance(said, dict):
        raise BadInput(path, expected, said)
    names, ignore = said, None
    if "names" in said:
        names, ignore = said["names"], said.get("ignore")
        if unknown := set(said) - {"names", "ignore"}:
            raise BadInput(path, "names and ignore", ", ".join(map(str, unknown)))
    pairs = (
        list(enumerate(names)) if isinstance(names, list) else list(names.items()) if isinstance(names, dict) else []
    )
    if pairs and all(isinstance(key, str) and _read(key) is None for key, _ in pairs):
        pairs = [(value, name) for name, value in pairs]  # {background: 0, tumour: 255}, as nnU-Net has it
    named: dict[Value, str] = {}
    for key, name in pairs:
        value = _read(key)
        if value is None or not isinstance(name, str | int) or value in named:
            raise BadInput(path, expected, f"{key}: {name}")
        named[value] = str(name)
    if len(named) < 2 or len(set(named.values())) < len(named):
        raise BadInput(path, "at least two names, all different", ", ".join(named.values()) or "none")
    if ignore is not None and ((ignore := _read(ignore)) is None or ignore in named):
        raise BadInput(path, "under ignore a value that has no name", said["ignore"])
    return named, ignore


def _read(said: Any) -> Value | None:
    """A value as classes.yaml says it: a number, "#ff0000", "255, 0, 0" or a list of these three; else None."""
    if isinstance(said, bool):
        return None
    if isinstance(said, int | float):
        return int(said) if said == int(said) else said
    if isinstance(said, str) and re.fullmatch("#[0-9a-fA-F]{6}", said):
        return tuple(bytes.fromhex(said[1:]))
    if isinstance(said, str) and re.fullmatch(r"[\[(]?\d+( *, *\d+){2}[\])]?", said):
        return tuple(int(each) for each in re.findall(r"\d+", said))
    if isinstance(said, list) and len(said) == 3 and all(isinstance(each, int) for each in said):
        return tuple(said)
    return None
