"""One training loop for every method: batches, validation, the best or the last state, exact resume."""

import copy
import hashlib
import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from fewlabels.engine.protocols import Method, Trained
from fewlabels.files import locked, whole
from fewlabels.precision import Precision, set_precision
from fewlabels.types import History, Report, Stop


class Diverged(RuntimeError):
    """A loss that is no longer a number."""


class Stopped(RuntimeError):
    """Training was asked to stop and has saved its state."""


class Shuffled:
    """Endless random batches of `size` members of a pool, each once before any comes again. Uses torch's global RNG.

    pool  indices `(n,)`, or n for 0..n-1
    """

    def __init__(self, pool: torch.Tensor | int, size: int) -> None:
        self.pool = torch.arange(pool) if isinstance(pool, int) else pool
        self.size, self.queue = size, torch.empty(0, dtype=torch.long)

    def __next__(self) -> torch.Tensor:
        while len(self.queue) < self.size:
            self.queue = torch.cat([self.queue, torch.randperm(len(self.pool))])
        batch, self.queue = self.queue[: self.size], self.queue[self.size :]
        return self.pool[batch]

    def state_dict(self) -> dict[str, Any]:
        return {"queue": self.queue}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.queue = state["queue"]


class Batches:
    """Endless batches for a method, and where they are: what `make` makes of one draw of each sampler, in their order.

    Samplers are `Shuffled`, or anything else with `__next__`, `state_dict` and `load_state_dict`. A batch can depend on
    nothing else that moves but torch's RNG, so that training goes on exactly from a checkpoint.
    """

    def __init__(self, make: Callable[..., dict[str, Tensor]], *samplers: Any) -> None:
        self.make, self.samplers = make, samplers

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, Tensor]:
        return self.make(*[next(sampler) for sampler in self.samplers])

    def state_dict(self) -> list[dict[str, Any]]:
        return [sampler.state_dict() for sampler in self.samplers]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        for sampler, position in zip(self.samplers, state, strict=True):
            sampler.load_state_dict(position)


def seed_of(*parts: object) -> int:
    """A seed for what `parts` name, the same wherever it is asked for and unlike that of any other parts."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4])


@contextmanager
def seeded(device: torch.device | str, *parts: object) -> Iterator[None]:
    """Torch's random numbers from the seed of `parts`; afterwards they go on as if nothing had been drawn."""
    with torch.random.fork_rng([device] if torch.device(device).type == "cuda" else []):
        torch.manual_seed(seed_of(*parts))
        yield


def cosine(optimiser: torch.optim.Optimizer, steps: int) -> torch.optim.Optimizer:
    """The learning rates of an optimiser of Adam's kind fall along half a cosine to 0 at its step `steps`.

    Where it is, is read from the optimiser's own state, which a checkpoint holds. Returns the optimiser.
    """
    rates = [group["lr"] for group in optimiser.param_groups]

    def after(optimiser: torch.optim.Optimizer, *_: Any) -> None:
        done = int(next(iter(optimiser.state.values()))["step"])
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * (1 + math.cos(math.pi * done / steps)) / 2

    optimiser.register_step_post_hook(after)
    return optimiser


@dataclass(frozen=True)
class Stages:
    """Trains the stages of one run: what all of them share.

    folder     below which each keeps its checkpoints, in a folder of its name: stages of several runs that have one
               name are one stage, trained once
    report     report(name, step, steps, last history entry) after each validation
    stop       () -> True asks to stop after the state is saved: raises Stopped
    precision  in which the networks of a method compute (`precision.set_precision`)
    """

    folder: Path
    report: Report | None = None
    stop: Stop | None = None
    precision: Precision = "fp32"

    def __call__(
        self, name: str, build: Callable[[], Trained], batches: Batches,
        validate: Callable[[Trained], dict[str, float]] | None = None, *, seed: int, steps: int, **options: Any,
    ) -> tuple[Trained, History]:  # fmt: skip
        """The method that `build()` makes with torch's RNG at `seed`, trained by `fit`; and the history.

        validate  method -> as of `fit`
        options   the others of `fit`
        """
        torch.manual_seed(seed)
        method = build()
        set_precision(method.network, self.precision)
        report = self.report
        told = (lambda step, entry: report(name, step, steps, entry)) if report else None
        history = fit(
            method, batches, (lambda: validate(method)) if validate else dict,
            steps=steps, seed=seed, folder=self.folder / name, report=told, stop=self.stop, **options,
        )  # fmt: skip
        return method, history


def fit(
    method: Method, batches: Batches, validate: Callable[[], dict[str, float]], *, steps: int, every: int, folder: Path,
    seed: int, keep: str = "best", patience: int = 0, report: Callable[[int, dict[str, Any]], Any] | None = None,
    stop: Stop | None = None,
) -> History:  # fmt: skip
    """Train `method` and leave it with the network that was best on validation, or the last; returns the history.

    batches     `next(batches)` is what `method.training_step` takes; its position is part of the saved state
    validate    () -> {"validation": a number, higher is better, ...}, every `every` steps; goes into the history.
                Without "validation", this network is no candidate for the best (there must be one in the end, but
                where `keep` is "last" and there is no patience)
    keep        "best" or "last": which network
    patience    stop when the best is this many steps old; 0 never
    folder      holds `last.pt` while it trains (everything: a killed run goes on from there and ends in the same
                bits on the CPU), then `network.pt` (network and history): calling again returns at once
    report      report(steps_done, last history entry) after each validation
    stop        () -> True asks to stop after the state is saved: raises Stopped

    Raises Diverged when a loss is not finite; `last.pt` is then the state before the interval in which it happened.
    """
    with locked(folder):  # two processes that share a stage train it once
        return _fit(method, batches, validate, steps, every, folder, seed, keep, patience, report, stop)


def _fit(
    method: Method, batches: Batches, validate: Callable[[], dict[str, float]], steps: int, every: int, folder: Path,
    seed: int, keep: str, patience: int, report: Callable[[int, dict[str, Any]], Any] | None, stop: Stop | None,
) -> History:  # fmt: skip
    last, done = folder / "last.pt", folder / "network.pt"
    if (state := _load(done)) is not None:
        method.network.load_state_dict(state["network"])
        return state["history"]

    device = next(method.network.parameters()).device
    on_cuda = device.type == "cuda"
    torch.manual_seed(seed)
    history, best, best_step = [], None, 0
    if (state := _load(last)) is not None:
        method.load_state_dict(state["method"])
        batches.load_state_dict(state["batches"])
        history, best, best_step = state["history"], state["best"], state["best_step"]
        torch.set_rng_state(state["rng"])
        if on_cuda:
            torch.cuda.set_rng_state(state["cuda_rng"], device)

    step = history[-1]["step"] if history else 0
    while step < steps and not (patience and step - best_step >= patience):
        interval = min(every, steps - step)
        sums: dict[str, Any] = {}  # tensors: a number would wait for the device
        for _ in range(interval):
            for name, value in method.training_step(next(batches)).items():
                sums[name] = sums.get(name, 0.0) + value
        step += interval
        means = {name: float(total) / interval for name, total in sums.items()}
        if not all(math.isfinite(value) for value in means.values()):
            raise Diverged(f"a loss is not finite between steps {step - interval} and {step}: {means}")

        before = [entry["validation"] for entry in history if "validation" in entry]
        history.append({"step": step, **means, **validate()})
        if (keep == "best" or patience) and "validation" in history[-1]:
            if best is None or history[-1]["validation"] > max(before):
                best, best_step = copy.deepcopy(method.network.state_dict()), step
        state = {
            "method": method.state_dict(),
            "batches": batches.state_dict(),
            "history": history,
            "best": best,
            "best_step": best_step,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(device) if on_cuda else None,
        }
        _save(last, state)
        if report:
            report(step, history[-1])
        if stop and stop():
            raise Stopped(f"stopped after step {step} of {steps}")

    if keep == "best":
        assert best is not None
        method.network.load_state_dict(best)
    _save(done, {"network": method.network.state_dict(), "history": history})
    last.unlink(missing_ok=True)
    return history


def _save(path: Path, state: dict[str, Any]) -> None:
    """Written by Python: a full disk is then an OSError. torch's own writer has a RuntimeError that names no disk."""
    packed = io.BytesIO()
    torch.save(state, packed)
    with whole(path) as temporary:
        temporary.write_bytes(packed.getbuffer())


def _load(path: Path) -> dict[str, Any] | None:
    """A saved state, or None where there is none. A damaged one counts as none and is moved aside."""
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch raises half a dozen types on damaged files
        path.rename(path.with_suffix(".damaged"))
        return None
