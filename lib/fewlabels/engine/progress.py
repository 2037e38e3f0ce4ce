"""The bar of a sweep: how much of its training is done, and the time left."""

import re
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

SCORING = 10  # until a run was scored: a tenth of its training steps


def plan(experiment: Any, config: Any, run: Any) -> dict[str, int]:
    """What a run takes, `{stage: steps}` in their order, the last its scoring (in steps that take as long)."""
    stages = experiment.stages(config, run) if hasattr(experiment, "stages") else {run.id: SCORING}
    return stages | {_scoring(run.id): max(sum(stages.values()) // SCORING, 1)}


class Progress:
    """The steps that a sweep has left, and the seconds.

    Stages whose names differ in numbers alone are of one kind: their steps take equally long. What a kind takes is
    measured; until then it is what stored runs say, or else the mean, times how much slower the measured kinds are.

    plans     {run id: {stage: steps}}, as of `plan`, of all runs in their order; a stage that several name counts once
    seconds   {run id: seconds} of the runs that are stored
    finished  stages that need no training any more
    clock     () -> seconds
    """

    def __init__(
        self,
        plans: dict[str, dict[str, int]],
        seconds: dict[str, float],
        finished: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plans, self.clock = plans, clock
        self.measured: dict[str, float] = defaultdict(float)  # seconds, by kind
        self.steps: dict[str, float] = defaultdict(float)
        self.warm: bool | None = None
        self.left: dict[str, float] = {}
        said: dict[str, float] = {}
        seen: set[str] = set()
        for run, stages in plans.items():
            own = {stage: n for stage, n in stages.items() if stage not in seen}
            if run in seconds:
                said |= {_kind(stage): seconds[run] / sum(own.values()) for stage in own}
            else:
                self.left |= {stage: n for stage, n in stages.items() if stage not in finished}
            seen |= {*own}
        self.total = sum({stage: n for stages in plans.values() for stage, n in stages.items()}.values())
        self.told, self.usual = said, sum(said.values()) / len(said) if said else None

    @property
    def done(self) -> float:
        return self.total - sum(self.left.values())

    def begin(self, run: str, resumed: Collection[str] = ()) -> None:
        """A run begins. The first report of a stage in `resumed` does not say how many steps it is about."""
        self.run, self.resumed, self.mark = run, {*resumed}, self.clock()

    def at(self, stage: str, share: float) -> None:
        """Of a stage of the run that has begun, `share` is done, and all of those before it."""
        stages, now = self.plans[self.run], self.clock()
        if stage not in stages:
            return
        for earlier in [*stages][: [*stages].index(stage)]:
            self.left.pop(earlier, None)
        left = stages[stage] * (1 - share)
        if stage in self.resumed:
            self.resumed.remove(stage)
        else:
            if self.warm is False:  # what was measured so far is the first interval, in which all is compiled
                self.measured.clear()
                self.steps.clear()
            self.warm = self.warm is not None
            self.measured[_kind(stage)] += now - self.mark
            self.steps[_kind(stage)] += self.left.get(stage, stages[stage]) - left
        self.left[stage], self.mark = left, now

    def end(self, failed: bool = False) -> None:
        """The run that has begun is scored, or has failed."""
        if not failed:
            self.at(_scoring(self.run), 1)
        for stage in self.plans[self.run]:
            self.left.pop(stage, None)

    def seconds_left(self) -> float | None:
        """None: nothing is known yet."""
        expected = sum(self._told(kind) * n for kind, n in self.steps.items())
        if not expected and not self.told:
            return None
        slower = sum(self.measured.values()) / expected if expected else 1

        def a_step(kind: str) -> float:
            return self.measured[kind] / n if (n := self.steps.get(kind)) else self._told(kind) * slower

        return sum(n * a_step(_kind(stage)) for stage, n in self.left.items())

    def _told(self, kind: str) -> float:
        return self.told.get(kind, self.usual or 1)


class Bar:
    """Draws a `Progress`. Plain text, and few lines where they pile up: notebooks keep every refresh, log files too."""

    def __init__(self, progress: Progress, runs: int, stored: int, after: float = 0) -> None:
        """after: seconds that the caller will take once the sweep is done."""
        self.progress, self.runs, self.number, self.after = progress, runs, stored, after
        self.bar = tqdm(
            total=1.0, initial=progress.done / progress.total, desc=f"{stored} of {runs} runs",
            bar_format="{percentage:3.0f}%|{bar:10}| {desc}", file=sys.stdout, nrows=20,
            ncols=shutil.get_terminal_size().columns if sys.stdout.isatty() else None,
            mininterval=0.5 if sys.stdout.isatty() else 20, miniters=0,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if kind is None:
            self._draw(f"{self.number} of {self.runs} runs")
        self.bar.close()

    def begin(self, run: str, resumed: Collection[str] = ()) -> None:
        self.progress.begin(run, resumed)
        self.number += 1
        self._draw(self._of_run())

    def report(self, stage: str, step: int, steps: int, entry: dict[str, Any]) -> None:
        """As `training.Stages` reports."""
        self.progress.at(stage, step / steps)
        score = f", validation {entry['validation']:.1f}" if "validation" in entry else ""
        scoring = step == steps and stage == [*self.progress.plans[self.progress.run]][-2]
        self._draw(self._of_run() + (", scoring" if scoring else f" {step}/{steps}{score}"))

    def end(self, failed: str = "") -> None:
        self.progress.end(bool(failed))
        if failed:
            self.number -= 1
            tqdm.write(f"{self.progress.run} failed: {failed}")

    def _of_run(self) -> str:
        left = self.progress.seconds_left()
        time_left = "" if left is None else f"{tqdm.format_interval(left + self.after)} left, "
        return f"{time_left}{self.number}/{self.runs} {self.progress.run}"

    def _draw(self, words: str) -> None:
        self.bar.n = self.progress.done / self.progress.total
        self.bar.set_description_str(words, refresh=False)
        self.bar.update(0)


def _kind(stage: str) -> str:
    return re.sub(r"\d+(\.\d+)?", "", stage)


def _scoring(run: str) -> str:
    return f"scores of {run}"
