"""What training asks of a method, and what a sweep asks of an experiment. Neither is a base class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:  # so that experiments can be listed where nothing is installed
    import pandas as pd
    import torch

    from fewlabels.data.cohort import Cohort
    from fewlabels.types import Device, Report, Stop


class Method(Protocol):
    """A paper's idea: the networks it trains, one step of their training, what they predict."""

    @property
    def network(self) -> torch.nn.Module:
        """All that is trained and kept."""

    def training_step(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Forward, backward, its own optimisers. Returns its losses, by name."""

    def predict(self, images: torch.Tensor, batch_size: int = ...) -> torch.Tensor:
        """Class probabilities of images `(N, C, *size)` as they are."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


Trained = TypeVar("Trained", bound=Method)  # a stage returns the kind of method that it was given


class Experiment(Protocol):
    """A module in the folder of a paper. `config` is its Config, `run` one of its grid.

    It may have two more parts, for who watches at a terminal: `stages(config, run) -> {name: steps}`, the stages of
    training in their order, by which the time left is reckoned (a name that several runs have: trained once); `BEST`,
    a pattern of the columns in its tables where the highest value names the best method.
    """

    NAME: str  # of params/<NAME>/, results/<NAME>/ and make reproduce-<NAME>
    Config: type  # pydantic; its fields are the keys of the parameter files

    def grid(self, config: Any) -> list:
        """All runs, each with an `id`; their fields are the first columns of scores.csv."""

    def identity(self, config: Any, run: Any) -> dict[str, Any]:
        """All that decides the numbers of one run (`params.identity`): a stored run with another one is refused."""

    def load(self, config: Any, root: str | None = None) -> Cohort:
        """The data, below `root` (default: FEWLABELS_DATA) or in a prepared file."""

    def run(
        self, config: Any, run: Any, cohort: Cohort, folder: Path, device: Device = "cpu",
        report: Report | None = None, stop: Stop | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Trains and scores one run: a pure function of config, run and cohort.

        Returns `subjects`, their `scores` {metric: {structure: [one value a subject]}}, `overall` {metric: value}, the
        `history` of training, and whatever else is worth keeping.
        """

    def tables(self, config: Any, scores: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, Callable[[str], str]]]:
        """The paper's tables by name: a frame, and caption -> Markdown."""

    def scale(self, config: Any, data: str, scores: pd.DataFrame) -> str:
        """How far what was run goes of what the paper did (`scores.scale`), by the config, the name of the data and
        what scores alone tell. Reads keys alone of the config: those of an older one are in provenance.json."""

    def judge(self, scores: pd.DataFrame, data: str) -> pd.DataFrame:
        """The verdicts on the paper's claims (`verdicts.judge`)."""

    def notebooks(self, config: Any) -> list[str]:
        """Which notebooks show what a config runs, in their order."""
