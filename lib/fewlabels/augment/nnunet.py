"""nnU-Net's augmentation by its own library, batchgenerators: a baseline of Gao et al., IPMI 2021, Section 4."""

import random
from contextlib import contextmanager

import numpy as np
import torch


def nnunet(patches, labels, full=True, crop=None):
    """Scaling, rotation, elastic deformation, gamma transformation and additive noise of each patch, as its own draw.

    patches  `(N, C, *size)`, floats -> float32 `(N, C, *crop)`
    labels   `(N, *size)`, int64 -> int64 `(N, *crop)`: the same spatial transform, nearest neighbour, 0 outside
    full     "nnUNet Full"; False: "nnUNet Reduce", without the gamma transformation
    crop     size of the result, about the centre, so that rotation brings in what lies beside it; None: as it was

    "All the transformation with the default parameters defined in the library": `settings` says which they are. 2-D and
    3-D, on the CPU, one patch after the other, returned to their devices; sizes in voxels, whatever their spacing. What
    comes from outside a patch has the border's grey value, but label 0, as is the library's default.

    The library draws from the global generators of NumPy and Python. Here they are seeded by a draw from torch's CPU
    generator and afterwards put back to where they were, so that the result is a function of torch's state alone.
    Raises ValueError in one line for shapes that do not fit.
    """
    size = tuple(patches.shape[2:])
    crop = size if crop is None else tuple(crop)
    if labels.shape != patches.shape[:1] + patches.shape[2:]:
        raise ValueError(f"nnunet labels: expected {(len(patches), *size)}, found {tuple(labels.shape)}")
    if len(size) not in (2, 3) or len(crop) != len(size) or any(not 1 <= c <= n for c, n in zip(crop, size)):
        raise ValueError(f"nnunet crop: expected 2 or 3 lengths within the patches' {size}, found {crop}")
    arrays = {"data": patches.detach().float().cpu().numpy(), "seg": labels[:, None].cpu().numpy()}
    with _seeded_by_torch():
        for operator in _operators(full, crop):
            arrays = operator(**arrays)
    moved = torch.from_numpy(arrays["data"]).to(patches.device)
    return moved, torch.from_numpy(arrays["seg"][:, 0]).to(labels.device, torch.int64)


def settings(full=True):
    """What `nnunet` does to every patch, in this order: `{operator: {parameter: value}}`, read off the operators.

    All are the library's defaults, except for the crop's place: the centre here, `random_crop=False`, as random
    cropping is common to all methods (and by default it keeps 30 voxels from a border, which needs patches of more than
    60). angle_x, angle_y and angle_z, in radians, turn about the first, second and third axis; angle_x alone
    in 2-D. `noise_variance` is called so in the library, but used as a standard deviation. Each p_... is a probability.
    """
    hidden = {"data_key", "label_key", "patch_size", "patch_center_dist_from_border"}
    operators = {type(operator).__name__: vars(operator) for operator in _operators(full, None)}
    return {name: {k: v for k, v in values.items() if k not in hidden} for name, values in operators.items()}


def _operators(full, crop):
    """In the order in which the paper lists them (choice)."""
    from batchgenerators.transforms.color_transforms import GammaTransform
    from batchgenerators.transforms.noise_transforms import GaussianNoiseTransform
    from batchgenerators.transforms.spatial_transforms import SpatialTransform

    spatial = SpatialTransform(crop, random_crop=False)
    return [spatial, *([GammaTransform()] if full else []), GaussianNoiseTransform()]


@contextmanager
def _seeded_by_torch():
    before, seed = (np.random.get_state(), random.getstate()), int(torch.randint(2**32, ()))  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before[0])  # noqa: NPY002
        random.setstate(before[1])
