"""nnU-Net's augmentation by its own library, batchgenerators: a baseline of Gao et al., IPMI 2021, Section 4.

Values of v1: MIC-DKFZ/nnUNet, branch nnunetv1, nnunet/training/data_augmentation, `default_data_augmentation.py` and,
for the noise, `data_augmentation_moreDA.py`.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

POLICIES = ("class defaults", "v1")
TURN = (-15 / 360 * 2 * np.pi, 15 / 360 * 2 * np.pi)
SPATIAL = {  # of v1: default_3D_augmentation_params
    "do_elastic_deform": True, "alpha": (0.0, 900.0), "sigma": (9.0, 13.0), "p_el_per_sample": 0.2,
    "do_rotation": True, "angle_x": TURN, "angle_y": TURN, "angle_z": TURN, "p_rot_per_sample": 0.2,
    "do_scale": True, "scale": (0.85, 1.25), "p_scale_per_sample": 0.2,
    "border_mode_data": "constant", "border_cval_data": 0, "order_data": 3, "order_seg": 1,
}  # fmt: skip
GAMMA = {"gamma_range": (0.7, 1.5), "invert_image": False, "per_channel": True, "retain_stats": True}


def nnunet(
    patches: Tensor, labels: Tensor, full: bool = True, crop: Sequence[int] | None = None,
    policy: str = "class defaults", unit: tuple[float, float] = (0.0, 1.0),
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Scaling, rotation, elastic deformation, gamma transformation and additive noise of each patch, as its own draw.

    patches  `(N, C, *size)`, floats -> float32 `(N, C, *crop)`
    labels   `(N, *size)`, int64 -> int64 `(N, *crop)`: the same spatial transform, 0 outside
    full     "nnUNet Full"; False: "nnUNet Reduce", without the gamma transformation
    crop     size of the result, about the centre, so that rotation brings in what lies beside it; None: as it was
    policy   "class defaults": of batchgenerators' classes, every patch goes through all of them, by any angle; "v1":
             nnU-Net v1's own, in 3-D, each with its probability. `settings` says which values these are
    unit     mean and sd of the grey values that nnU-Net brings to 0 and 1 before it augments, of CT those of labelled
             voxels of the training set; the result is in the units of `patches` again

    "Policies used in the nnUNet framework ... It consists of scaling, rotation, elastic deformation, gamma
    transformation, and additive noise. We used all the transformation with the default parameters defined in the
    library": either policy has what is named here and no more. v1 has no other transform where it deforms (its later
    `moreDA`, from which the noise is, adds blur, brightness, contrast and low resolution, and leaves deformation out),
    but mirrors, which would make a left organ the right one.

    2-D ("class defaults") and 3-D, on the CPU, one patch after the other, returned to their devices; sizes in voxels,
    whatever their spacing. What comes from outside a patch has the border's grey value ("v1": the mean of `unit`), but
    label 0.

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
    if policy not in POLICIES or (policy == "v1" and len(size) == 2):
        raise ValueError(
            f"nnunet policy: expected one of {POLICIES}, in 2-D the first, found {policy!r} in {len(size)}-D"
        )
    mean, sd = unit
    x = ((patches.detach().float() - mean) / sd).cpu().numpy()
    arrays = {"data": x, "seg": labels[:, None].cpu().numpy()}
    with _seeded_by_torch():
        for operator in _operators(full, crop, policy):
            arrays = operator(**arrays)
    moved = torch.from_numpy(arrays["data"]).to(patches.device) * sd + mean
    return moved, torch.from_numpy(arrays["seg"][:, 0]).to(labels.device, torch.int64)


def settings(full: bool = True, policy: str = "class defaults") -> dict[str, dict[str, Any]]:
    """What `nnunet` does to every patch, in this order: `{operator: {parameter: value}}`, read off the operators.

    "class defaults": all are the library's, except for the crop's place: the centre here, `random_crop=False`, as
    random cropping is common to all methods (and by default it keeps 30 voxels from a border, which needs patches of
    more than 60). angle_x, angle_y and angle_z, in radians, turn about the first, second and third axis; angle_x alone
    in 2-D. `noise_variance` is called so in the library, but used as a standard deviation. Each p_... is a probability.
    """
    hidden = {"data_key", "label_key", "patch_size", "patch_center_dist_from_border"}
    operators = {type(operator).__name__: vars(operator) for operator in _operators(full, None, policy)}
    return {name: {k: v for k, v in values.items() if k not in hidden} for name, values in operators.items()}


def _operators(full: bool, crop: Sequence[int] | None, policy: str) -> list[Callable[..., dict[str, Any]]]:
    """In the order in which the paper lists them (choice); in v1's own."""
    from batchgenerators.transforms.color_transforms import GammaTransform
    from batchgenerators.transforms.noise_transforms import GaussianNoiseTransform
    from batchgenerators.transforms.spatial_transforms import SpatialTransform

    if policy == "v1":
        spatial = SpatialTransform(crop, random_crop=False, **SPATIAL)
        noise = GaussianNoiseTransform(p_per_sample=0.1)
        return [spatial, noise, *([GammaTransform(**GAMMA, p_per_sample=0.3)] if full else [])]
    spatial = SpatialTransform(crop, random_crop=False)
    return [spatial, *([GammaTransform()] if full else []), GaussianNoiseTransform()]


@contextmanager
def _seeded_by_torch() -> Iterator[None]:
    before, seed = (np.random.get_state(), random.getstate()), int(torch.randint(2**32, ()))  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before[0])  # noqa: NPY002
        random.setstate(before[1])
