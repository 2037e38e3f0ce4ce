"""Two ways to do the same work, timed in turn, after the guard that it is the same work."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

DISTRIBUTIONS = {"interpol": "torch-interpol"}  # the package's name on PyPI where it is not that of the import
COLUMNS = (
    "case work peer version device threads repeats ours_ms peer_ms ratio ratio_p10 ratio_p90 target met state note"
).split()
Work = Callable[[], tuple[Tensor, ...]]  # does it once; returns what the guard compares
Made = Callable[[], Sequence[Work]]  # ours and the peer's, made when their turn comes
MEASURED, NOT_INSTALLED, NOT_RUN = "measured", "not installed", "not run"


class Different(AssertionError):
    """The two do not compute the same, so their times must not be compared."""


@dataclass
class Pair:
    """One row. `make()` -> ours and the peer's, functions without arguments that return tuples of tensors."""

    case: str
    work: str
    peer: str
    make: Made
    package: str | None = None  # what the peer imports; None: our own
    device: str = "cpu"
    target: str = ""  # "ratio >= 20", "ours <= 1.3 x peer" or "share <= 10%" (of ours in the peer's work)
    tolerance: float | None = 2e-4  # of the largest value (or of 1); None: the peer draws its own fields
    stray: float = 0.0  # the share of values that may differ more: those that rounding throws over an edge
    margin: int = 0  # pixels along the border in which the peer's gradient to the image is known to be wrong
    note: str = ""
    images: int = 0  # through the network in one call of the peer's, whose pace then stands in the note
    queued: tuple[int, int] = (1, 1)  # calls queued behind one another in each timing, ours and the peer's
    peer_first: bool = False
    threads: int | None = None  # of torch, where the work itself says how many; None: as all others


def aimed(target: str) -> float:
    """The smallest ratio that meets a target, from its words."""
    number = float(target.removesuffix(" x peer").removesuffix("%").split()[-1])
    return {"ratio": number, "ours": 1 / number, "share": 100 / number}[target.split()[0]]


def measure(pair: Pair, repeats: int, seconds: float) -> dict[str, Any]:
    """The row of a pair: medians over `repeats` (fewer, but at least 3, where they would take longer than `seconds`),
    ratio = median of the peer's / median of ours, and the 10th and 90th percentile of the ratios of single repeats.

    Raises Different when the two do not return the same.
    """
    row = dict.fromkeys(COLUMNS, "") | {key: getattr(pair, key) for key in ("case", "work", "peer", "device", "note")}
    row |= {"threads": torch.get_num_threads(), "repeats": 0, "target": pair.target}
    if pair.device == "cuda" and not torch.cuda.is_available():
        return row | {"state": NOT_RUN}
    if pair.package and not importable(pair.package):
        return row | {"state": NOT_INSTALLED}
    ours, theirs = pair.make()
    guard(pair, ours(), theirs())
    ours_ms, peer_ms = (1000 * times for times in interleaved(ours, theirs, pair, repeats, seconds))
    ratios, ratio = peer_ms / ours_ms, np.median(peer_ms) / np.median(ours_ms)
    if pair.images:
        row["note"] += f"; {1000 * pair.images / np.median(peer_ms):,.0f} images/s"
    return row | {
        "version": version_of(pair.package) if pair.package else "",
        "repeats": len(ratios),
        "ours_ms": np.median(ours_ms),
        "peer_ms": np.median(peer_ms),
        "ratio": ratio,
        "ratio_p10": np.percentile(ratios, 10),
        "ratio_p90": np.percentile(ratios, 90),
        "met": ("yes" if ratio >= aimed(pair.target) else "no") if pair.target else "",
        "state": MEASURED,
    }


def guard(pair: Pair, ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> None:
    """Raises Different unless the peer's tensors are ours (the outputs, then the gradients to image and field)."""
    if pair.tolerance is None:
        return
    where = f"{pair.case}, {pair.work}, {pair.peer}"
    if len(ours) != len(theirs):
        raise Different(f"{where}: expected {len(ours)} tensors, found {len(theirs)}")
    for i, (a, b) in enumerate(zip(ours, theirs)):
        a, b = (torch.as_tensor(t).detach().cpu().double() for t in (a, b))
        if a.shape != b.shape:
            raise Different(f"{where}: tensor {i}: expected shape {tuple(a.shape)}, found {tuple(b.shape)}")
        if i == 1 and pair.margin:
            within: tuple[Any, ...] = (..., *[slice(pair.margin, -pair.margin)] * (a.ndim - 2))
            a, b = a[within], b[within]
        limit = pair.tolerance * max(1, a.abs().max().item())
        wrong = ~((a - b).abs() <= limit)  # not a number counts as wrong
        if wrong.double().mean() > pair.stray:
            largest = (a - b).abs().max().item()
            raise Different(
                f"{where}: tensor {i}: expected equal to {limit:.1g} but for {pair.stray:.1%} of the values, "
                f"found {wrong.double().mean():.2%} to differ, by up to {largest:.2g}"
            )


def interleaved(ours: Work, theirs: Work, pair: Pair, repeats: int, seconds: float) -> np.ndarray:
    """Seconds per call of ours and of the peer's, in turn within each repeat, who begins changing from one to the next.

    Where calls are queued (CUDA), a kernel's start costs nothing while the one before still runs, as in training.
    """
    first, cost = _seconds(theirs, pair.queued[1]), _seconds(ours, pair.queued[0])  # warm: TorchScript, caches
    for _ in range(2 if first + cost < seconds / 10 else 0):
        theirs(), ours()
    times = np.empty((repeats, 2))
    begin = perf_counter()
    for repeat in range(repeats):
        if repeat >= 3 and perf_counter() - begin > seconds:
            times = times[:repeat]
            break
        for who in (1, 0) if pair.peer_first or repeat % 2 else (0, 1):
            times[repeat, who] = _seconds((ours, theirs)[who], pair.queued[who])
    return times.T


def _seconds(work: Work, calls: int) -> float:
    _wait()
    begin = perf_counter()
    for _ in range(calls):
        work()
    _wait()
    return (perf_counter() - begin) / calls


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def importable(package: str) -> bool:
    """Whether a package is there and works (elasticdeform's wheels are there and fail under NumPy 2)."""
    try:
        import_module(package)
        return True
    except ImportError:
        return False


def version_of(package: str) -> str:
    return version(DISTRIBUTIONS.get(package, package))
