"""What methods have in common: the state, all that training needs to go on exactly, and prediction."""

from typing import Any

import torch
from torch import Tensor, nn


class Resumable:
    """For methods with a `network`, a module that holds all that is trained.

    `STATE` names the attributes that have a state: modules and optimisers, dicts of them, plain values.
    """

    STATE: tuple[str, ...] = ("network", "optimisers")

    def state_dict(self) -> dict[str, Any]:
        return {name: _state(getattr(self, name)) for name in self.STATE}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in self.STATE:
            part = getattr(self, name)
            if isinstance(part, dict):
                for key, inner in part.items():
                    inner.load_state_dict(state[name][key])
            elif hasattr(part, "load_state_dict"):
                part.load_state_dict(state[name])
            else:
                setattr(self, name, state[name])


def _state(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _state(inner) for key, inner in part.items()}
    return part.state_dict() if hasattr(part, "state_dict") else part


@torch.no_grad()
def predict(network: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    """Class probabilities `(N, classes, ...)` of images `(N, C, *size)` as they are, by a network that makes logits."""
    network.eval()
    return torch.cat([network(part).softmax(1) for part in images.split(batch_size)])


def descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step down a loss. Gradients reach the parameters of this optimiser and no others."""
    optimiser.zero_grad()
    loss.backward(inputs=[p for group in optimiser.param_groups for p in group["params"]])
    optimiser.step()
