"""Other packages' ways to warp. Each is imported where it is made: none is a dependency of ours.

The first kind takes our field: `make(size, order)` -> `f(x, u)`. The second draws a field of its own:
`make(x, sd)` -> `f(x)`. Loops over a batch are the user's where a package takes one image a call.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewlabels.warps import warp
from fewlabels.warps.fields import pixels

FORWARD, IMAGE, BOTH = "forward", "forward + backward to image", "forward + backward to image and field"
EDGE = 1e-3  # the share of values that rounding may throw over an edge: out of the image, or to the next pixel


@dataclass
class Peer:
    name: str
    package: str | None
    make: Callable[..., Callable[..., Tensor]]
    works: tuple[str, ...] = (FORWARD, IMAGE, BOTH)
    order: int = 3
    mode: str = "constant"  # of ours, to equal the peer's
    control: bool = False  # the peer takes the control grid, not the dense field
    gpu: bool = False
    dims: tuple[int, ...] = (2, 3)
    check: dict[str, Any] = field(default_factory=dict)  # how the guard compares, see timing.Pair
    note: str = ""


def elasticdeform(size: Sequence[int], order: int) -> Callable[[Tensor, Tensor], Tensor]:
    import elasticdeform.torch as package

    axis = tuple(range(1, len(size) + 1))

    def deform(x: Tensor, u: Tensor) -> Tensor:
        pairs = zip(x, u, strict=True)
        return torch.stack([package.deform_grid(image, each, order=order, axis=axis) for image, each in pairs])

    return deform


def scipy(size: Sequence[int], order: int) -> Callable[[Tensor, Tensor], Tensor]:
    from scipy import ndimage

    q = pixels(size, torch.float32, "cpu").numpy()

    def map_coordinates(x: Tensor, u: Tensor) -> Tensor:
        pairs = [(image, q + each) for image, each in zip(x.numpy(), u.numpy(), strict=True)]
        return torch.from_numpy(
            np.stack([[ndimage.map_coordinates(c, at, order=order) for c in image] for image, at in pairs])
        )

    return map_coordinates


def interpol(size: Sequence[int], order: int) -> Callable[[Tensor, Tensor], Tensor]:
    import interpol as package

    q: dict[torch.device, Tensor] = {}  # on the image's device, made once

    def pull(x: Tensor, u: Tensor) -> Tensor:
        if x.device not in q:
            q[x.device] = pixels(size, x.dtype, x.device).movedim(0, -1)
        settings = {"interpolation": order, "bound": "dct1", "extrapolate": True, "prefilter": True}
        return package.grid_pull(x, u.movedim(1, -1) + q[x.device], **settings)

    return pull


def monai_warp(size: Sequence[int], order: int) -> Callable[[Tensor, Tensor], Tensor]:
    from monai.networks.blocks import Warp

    return Warp(mode="bilinear", padding_mode="border")


def reference(size: Sequence[int], order: int) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, u: warp(x, u, order, backend="reference")


SERIAL = "its loop over the batch is Python's, its arithmetic on one thread"
DENSE = [
    Peer(
        "elasticdeform",
        "elasticdeform",
        elasticdeform,
        (FORWARD, IMAGE),
        control=True,
        check={"stray": EDGE},
        note=f"ours: field given dense, peer: the control grid behind it; {SERIAL}",
    ),
    Peer(
        "elasticdeform, dense field",
        "elasticdeform",
        elasticdeform,
        (FORWARD, IMAGE),
        check={"stray": EDGE},
        note=f"a control point in each pixel; {SERIAL}",
    ),
    Peer("SciPy map_coordinates", "scipy", scipy, (FORWARD,), check={"stray": EDGE}, note=SERIAL),
    Peer(
        "torch-interpol",
        "interpol",
        interpol,
        mode="mirror",
        gpu=True,
        check={"margin": 8},
        note="mode mirror; its gradient to the image is not exact near the border and compared 8 pixels within",
    ),
    Peer("ours, plain PyTorch", None, reference, gpu=True, check={"stray": EDGE}, note='backend="reference"'),
    Peer(
        "MONAI Warp, order 1",
        "monai",
        monai_warp,
        order=1,
        mode="border",
        gpu=True,
        check={"stray": EDGE},
        note="bilinear, ours too",
    ),
]


def monai_2d(x: Tensor, sd: float) -> Callable[[Tensor], Tensor]:
    return _monai_2d(x, sd, "bilinear", "reflection")


def monai_2d_spline(x: Tensor, sd: float) -> Callable[[Tensor], Tensor]:
    return _monai_2d(x, sd, 3, "mirror")


def _monai_2d(x: Tensor, sd: float, mode: str | int, padding: str) -> Callable[[Tensor], Tensor]:
    from monai.transforms import Rand2DElastic

    spacing = tuple(n // 4 for n in x.shape[2:])
    move = Rand2DElastic(spacing, (2 * sd, 2 * sd), 1.0, mode=mode, padding_mode=padding, device=x.device)
    return lambda x: torch.stack([move(image).as_tensor() for image in x])


def monai_3d(x: Tensor, sd: float) -> Callable[[Tensor], Tensor]:
    from monai.transforms import Rand3DElastic

    sigma = x.shape[2] / 8
    move = Rand3DElastic((sigma, sigma), (30 * sd, 30 * sd), 1.0, device=x.device)
    return lambda x: torch.stack([move(image).as_tensor() for image in x])


def torchio(x: Tensor, sd: float) -> Callable[[Tensor], Tensor]:
    import SimpleITK
    import torchio as package

    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(torch.get_num_threads())
    d, flat = 1.7 * sd, x.ndim == 4  # uniform in -d .. d; a 2-D image is a volume of one slice, 4 points its minimum
    move = package.RandomElasticDeformation(
        (7, 7, 4) if flat else 7, (d, d, 0) if flat else d, locked_borders=0, image_interpolation="bspline"
    )
    return lambda x: torch.stack([move(image[..., None])[..., 0] if flat else move(image) for image in x])


def kornia(x: Tensor, sd: float) -> Callable[[Tensor], Tensor]:
    from kornia.augmentation import RandomElasticTransform

    sigma, alpha = x.shape[2] / 8, 28 * sd / x.shape[2] * 8
    kernel = 2 * int(sigma) - 1  # 63 for 256 pixels: its default, which cuts the Gaussian off at one sigma
    return RandomElasticTransform((kernel, kernel), (sigma, sigma), (alpha, alpha), p=1.0, align_corners=True)


def torchvision(x: Tensor, sd: float) -> Callable[[Tensor], Tensor]:
    return _torchvision(x, sd, 5.0)


def torchvision_smooth(x: Tensor, sd: float) -> Callable[[Tensor], Tensor]:
    return _torchvision(x, sd, x.shape[2] / 8)


def _torchvision(x: Tensor, sd: float, sigma: float) -> Callable[[Tensor], Tensor]:
    from torchvision.transforms import v2

    # with its default, fill=0, the gradient to the image fails: the values are overwritten in place
    return v2.ElasticTransform(alpha=6 * sigma * sd, sigma=min(sigma, (x.shape[2] - 2) / 4), fill=None)


def batchgenerators(x: Tensor, sd: float) -> Callable[[Tensor], Tensor]:
    from batchgenerators.augmentations.spatial_transformations import augment_spatial

    sigma = x.shape[2] / 8
    settings: dict[str, Any] = {"do_rotation": False, "do_scale": False, "random_crop": False, "order_data": 3}
    settings |= {"alpha": (6 * sigma * sd, 6 * sigma * sd), "sigma": (sigma, sigma)}
    return lambda x: torch.from_numpy(augment_spatial(x.numpy(), None, x.shape[2:], **settings)[0])


LOOP = "one image a call"
ONE_FIELD = "one field for the whole batch, bilinear, ours too but a field for each image"
RECIPES = [
    Peer(
        "MONAI Rand2DElastic", "monai", monai_2d, order=1, mode="mirror", gpu=True, dims=(2,), note=f"bilinear; {LOOP}"
    ),
    Peer(
        "MONAI Rand2DElastic, order 3",
        "monai",
        monai_2d_spline,
        (FORWARD,),
        mode="mirror",
        dims=(2,),
        note=f"through SciPy, no gradient; {LOOP}",
    ),
    Peer(
        "MONAI Rand3DElastic",
        "monai",
        monai_3d,
        order=1,
        mode="mirror",
        gpu=True,
        dims=(3,),
        note=f"bilinear, blurs noise; {LOOP}",
    ),
    Peer(
        "TorchIO RandomElasticDeformation",
        "torchio",
        torchio,
        (FORWARD,),
        note=f"ITK's B-spline; {LOOP}; 2-D as one slice",
    ),
    Peer(
        "kornia RandomElasticTransform",
        "kornia",
        kornia,
        order=1,
        gpu=True,
        dims=(2,),
        note="bilinear, ours too; blurs noise, its Gaussian cut off at one sigma",
    ),
    Peer(
        "torchvision ElasticTransform",
        "torchvision",
        torchvision,
        order=1,
        gpu=True,
        dims=(2,),
        note=f"default sigma of 5 pixels, rougher than ours; {ONE_FIELD}",
    ),
    Peer(
        "torchvision ElasticTransform, smooth",
        "torchvision",
        torchvision_smooth,
        order=1,
        gpu=True,
        dims=(2,),
        note=f"sigma an eighth of the side, as smooth as ours; {ONE_FIELD}",
    ),
    Peer(
        "batchgenerators augment_spatial",
        "batchgenerators",
        batchgenerators,
        (FORWARD,),
        mode="border",
        note="deformation only, border mode nearest; loops over the batch within",
    ),
]
