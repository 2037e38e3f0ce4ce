"""Names of types that repeat."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Device = torch.device | str
Batch = Mapping[str, Tensor]  # images, labels, ... by name: a method's `training_step` says which
Losses = dict[str, Tensor]  # scalars by name, without graph
TaskLoss = Callable[[Tensor, Tensor], Tensor]  # (output of a network, targets) -> a scalar
DrawFields = Callable[[int], Tensor]  # n -> n random fields `(n, D, *size)` in pixels
MoveTargets = Callable[[Tensor, Tensor], Tensor]  # (targets, fields) -> targets of the warped images
History = list[dict[str, Any]]  # an entry a validation: step, mean losses since the last, what was measured
Report = Callable[[str, int, int, dict[str, Any]], Any]  # (stage, step, steps, last entry of the history)
Stop = Callable[[], bool]  # whether to stop after the next checkpoint
Network = TypeVar("Network", bound=nn.Module)  # a function returns the kind of network that it was given
