"""In which precision things are computed."""

import torch


def single(x):
    """Half precision as float32, all else as it is: half ends at 65504, fewer than an image has pixels."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
