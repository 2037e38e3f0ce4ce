"""What tests of several parts share: equality to the last bit, and what a refusal looks like."""

from dataclasses import fields, is_dataclass

import numpy as np
import pytest
import torch

from fewlabels.engine import params
from fewlabels.errors import BadInput


def same(a, b):
    """Are two values equal, bit for bit? Tensors, arrays, and what holds them: dicts, sequences, dataclasses."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.equal(b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if is_dataclass(a):
        return all(same(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))
    return a == b


def refused(call, *texts):
    """`call` raises BadInput with one line that holds all of `texts`."""
    with pytest.raises(BadInput) as caught:
        call()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert not [text for text in map(str, texts) if text not in message], message


def refused_values(Config, values, text):
    """A Config refuses `values` with one line that begins with `text`, behind the file's name."""
    with pytest.raises(BadInput) as caught:
        params.check(Config, values, "x.yaml")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(f"x.yaml: {text}"), message
