"""Parameter files: flat YAML, every value checked against the experiment's Config before anything runs."""

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError

from fewlabels.engine import experiments
from fewlabels.engine.protocols import Experiment
from fewlabels.errors import BadInput

Checked = TypeVar("Checked", bound=BaseModel)
Count = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]
Size = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def experiment_of(path: Path | str) -> Experiment:
    """The experiment that a parameter file is for, by its folder: `params/jsrt/quick.yaml` -> the one named "jsrt"."""
    name, known = Path(path).absolute().parent.name, experiments.modules()
    if name not in known:
        raise BadInput(path, f"a folder named after an experiment ({', '.join(sorted(known))})", repr(name))
    return experiments.load(known[name])


def read(path: Path | str) -> dict[str, Any]:
    """The values of a parameter file as a dict. Raises BadInput."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        _each_key_once(yaml.compose(text, yaml.SafeLoader), path)
        values = yaml.safe_load(text)
    except OSError as error:
        raise BadInput(path, "a parameter file", error.strerror) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(path, "YAML", " ".join(str(error).split())) from None
    if not isinstance(values, dict):
        raise BadInput(path, "keys with values", type(values).__name__)
    for key in values:
        if not isinstance(key, str):  # YAML reads 1, yes and null as such
            raise BadInput(f"{path}: {key!r}", "a name as key", type(key).__name__)
    return values


def check(Config: type[Checked], values: dict[str, Any], where: object) -> Checked:
    """`values` as a Config. Raises BadInput naming the first key that is unknown, missing or of the wrong type, or
    whose number is not finite."""
    try:
        config = Config(**values)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        if not first["loc"]:  # values that do not fit together: the Config names the key itself
            raise BadInput.from_line(f"{where}: {message}") from None
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise BadInput(f"{where}: {key}", f"one of {', '.join(Config.model_fields)}", "an unknown key") from None
        if first["type"] == "missing":
            raise BadInput(f"{where}: {key}", "a value", "none") from None
        found = repr(first["input"])
        if isinstance(first["input"], str) and re.fullmatch(r"[-+]?[\d.]+[eE][-+]?\d+", first["input"]):
            found += ", which YAML reads as text (write it out, as 0.001)"
        raise BadInput(f"{where}: {key}", message, found) from None
    for key, value in values.items():
        for number in _numbers(value):
            if not math.isfinite(number):
                raise BadInput(f"{where}: {key}", "a finite number", number)
    return config


def _each_key_once(node: yaml.Node | None, path: Path | str) -> None:
    """Raises BadInput for a key that stands twice, of which PyYAML keeps the last."""
    lines: dict[str, int] = {}
    for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
        name, line = str(key.value), key.start_mark.line + 1
        if name in lines:
            raise BadInput(f"{path}: {name}", "each key once", f"it in line {lines[name]} and in line {line}")
        lines[name] = line


def _numbers(value: Any) -> Iterator[float]:
    """The floating-point numbers in a value, or in the lists in it."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _numbers(each)


def load(path: Path | str) -> tuple[Experiment, Any]:
    """The experiment's module and the Config of a parameter file, whose profile is the file's name."""
    experiment = experiment_of(path)
    config: Any = check(experiment.Config, read(path), path)
    if config.profile != Path(path).stem:
        raise BadInput(f"{path}: profile", f"the file's name, {Path(path).stem!r}", repr(config.profile))
    return experiment, config


def identity(config: BaseModel, run: Any, lists: Collection[str]) -> dict[str, Any]:
    """All that decides the numbers of one run: the config but for its profile and the `lists` that span the grid, and
    the run's place in the grid.

    A key that stands at the default that Config gives it is left out: runs that were stored before an experiment
    learned something new stay valid.
    """
    defaults = {key: field.default for key, field in type(config).model_fields.items() if not field.is_required()}
    values = config.model_dump(exclude={"profile", *lists})
    return {key: value for key, value in values.items() if key not in defaults or value != defaults[key]} | place(run)


def place(run: Any) -> dict[str, Any]:
    """A run's fields but for those at the default of Run, for the same reason."""
    defaults = {field.name: field.default for field in fields(run)}  # MISSING equals nothing
    return {key: value for key, value in vars(run).items() if value != defaults[key]}


def check_grid(config: BaseModel, lists: Collection[str], may_be_empty: Collection[str] = ()) -> None:
    """ValueError if one of a config's lists that span its grid has a value twice, or none where it must have one."""
    for key in lists:
        values = getattr(config, key)
        if len(set(values)) < len(values):
            raise ValueError(f"{key}: expected each value once, found {values}")
        if not values and key not in may_be_empty:
            raise ValueError(f"{key}: expected at least one value, found none")
