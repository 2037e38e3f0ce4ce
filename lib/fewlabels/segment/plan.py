"""What fits into the minutes: timed on the machine that it is for."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from fewlabels.models.efficientnet_lite import has_imagenet
from fewlabels.precision import Precision, has_bf16
from fewlabels.segment.augment import flips_of
from fewlabels.segment.ensemble import network
from fewlabels.segment.grid import SIDES
from fewlabels.segment.learn import SemiSupervised, Supervised
from fewlabels.segment.task import Task, batches

BATCH, TIMED = 8, 5
TRAINING = 0.8  # of the minutes; the rest is for reading, the forest and the masks
FULL = 120.0  # seconds from which on another member is worth more than longer training of those that there are
LEAST, MOST = 60, 3000  # steps of a member
FEW = 300  # steps, below which smaller images are worth more than sharper ones
MEMBERS = 3  # supervised ones, at most
ENOUGH = 3  # labelled cases from which on unlabelled ones take part: the guard needs a range


class Plan(NamedTuple):
    """side        the longer side of a working image, pixels
    kind        "efficientnet" or "unet"
    flips       axes (y, x) along which images are flipped
    steps       of a supervised member, and of a semi-supervised one
    seconds     a step of either
    members     how many of either
    """

    side: int
    kind: str
    precision: Precision
    flips: tuple[bool, bool]
    steps: tuple[int, int]
    seconds: tuple[float, float]
    members: tuple[int, int]


def fitting(task: Task, minutes: float, at: Callable[[int], Task]) -> tuple[Plan, Task]:
    """The plan for a task, made smaller, `at(side)`, until there are `FEW` steps or it is as small as it gets."""
    found = plan(task, minutes)
    while found.steps[0] < FEW and found.side > SIDES[0]:
        task = at(max(side for side in SIDES if side < found.side))
        found = plan(task, minutes)
    return found, task


def plan(task: Task, minutes: float, clock: Callable[[], float] = time.monotonic) -> Plan:
    """Times a step of both kinds on the task itself, and divides the minutes evenly among the members."""
    kind, classes = "efficientnet" if has_imagenet() else "unet", len(task.seen.labels.names)
    precision: Precision = "bf16" if kind == "unet" and has_bf16("cpu") else "fp32"  # depthwise: not faster
    middle = [task.on_canvas(i)[len(task.slices[i]) // 2] for i in task.masked()]
    flips = flips_of(torch.stack(middle), classes)
    seconds = []
    for method in (Supervised, SemiSupervised):
        one = method(network(kind, task.seen.channels, classes), flips, TIMED + 1, precision=precision)
        source, times = batches(task, BATCH, BATCH if method is SemiSupervised else 0), []
        for _ in range(TIMED + 1):
            begun = clock()
            one.training_step(next(source))
            times.append(clock() - begun)
        seconds.append(statistics.median(times[1:]))  # the first compiles
    share = 60 * minutes * TRAINING
    others = len(task.cases) > len(task.masked()) >= ENOUGH and share >= 1.5 * FULL
    supervised = max(1, min(MEMBERS, int(share / FULL) - others))
    each = share / (supervised + others)
    steps = [min(MOST, max(LEAST, int(each / s))) for s in seconds]
    return Plan(
        task.seen.side,
        kind,
        precision,
        flips,
        (steps[0], steps[1]),
        (seconds[0], seconds[1]),
        (supervised, int(others)),
    )
