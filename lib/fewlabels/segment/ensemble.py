"""Trained networks that answer together: kept in a folder, loaded again, applied to pictures of any size, exported."""

import copy
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.data import prepared
from fewlabels.errors import BadInput
from fewlabels.files import whole, write_json
from fewlabels.models.efficientnet_lite import EfficientUNet
from fewlabels.models.unet import UNet
from fewlabels.scores.sliding import sliding_window
from fewlabels.segment import grid
from fewlabels.segment.grid import Grey
from fewlabels.segment.labels import Labels
from fewlabels.segment.pictures import Picture
from fewlabels.segment.task import CROP, Seen

AGREED = 1e-4  # how far probabilities of an exported model may be from PyTorch's


def network(kind: str, channels: int, classes: int, pretrained: bool = False) -> nn.Module:
    """A network of `kind` "efficientnet", with ImageNet's weights where `pretrained`, or "unet"."""
    if kind == "efficientnet":
        return EfficientUNet(channels, classes, pretrained)
    return UNet(channels, classes, width=16, levels=5)


class Ensemble:
    """Networks and how files become what they see; `kind` is that of all of them.

    Probabilities are the mean of the members', so that one that is worse than the others harms little.
    """

    def __init__(self, seen: Seen, kind: str, members: dict[str, nn.Module]) -> None:
        self.seen, self.kind, self.members = seen, kind, members

    @torch.no_grad()
    def probabilities(self, x: Tensor, crop: int = CROP, batch: int = 8) -> Tensor:
        """Images `(N, C, h, w)` in [0, 1] at the working size -> `(N, classes, h, w)`."""
        h, w = x.shape[2:]
        x = grid.padded(x, grid.canvas_of([(h, w)]))

        def mean(part: Tensor) -> Tensor:
            return torch.stack([one.eval()(part).softmax(1) for one in self.members.values()]).mean(0)

        if max(x.shape[2:]) <= crop:
            p = torch.cat([mean(part) for part in x.split(batch)])
        else:
            window = [min(crop, n) for n in x.shape[2:]]
            p = torch.stack([sliding_window(mean, one, window, [n // 2 for n in window], batch) for one in x])
        return p[:, :, :h, :w]

    def classes(self, picture: Picture) -> np.ndarray:
        """The class of each pixel of a picture, `(Z, H, W)`, uint8, at its own size."""
        size = picture.array.shape[1:3]
        found = [
            F.interpolate(self.probabilities(one[None]), size, mode="bilinear").argmax(1).byte()
            for one in self.seen.image(picture)
        ]
        return torch.cat(found).numpy()

    def save(self, folder: Path) -> None:
        """`model.json`, and the weights of each member; whole or not there."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, one in self.members.items():
            with whole(folder / f"{name}.pt") as path:
                torch.save(one.state_dict(), path)
        seen = self.seen._asdict() | {"labels": self.seen.labels._asdict(), "grey": self.seen.grey.window}
        write_json(folder / "model.json", {"network": self.kind, "members": [*self.members], "seen": seen})


def load(folder: Path) -> Ensemble:
    """The ensemble that `save` wrote. Raises `BadInput` naming the file that is missing or damaged."""
    path = folder / "model.json"
    if not path.is_file():
        raise BadInput(path, "a model that `fewlabels segment` wrote (DATA/segmented/model)", "no such file")
    with prepared.reading(path, "a model that `fewlabels segment` wrote"):
        said = json.loads(path.read_text(encoding="utf-8"))
        seen = said["seen"]
        labels = Labels(**{key: _tuples(value) for key, value in seen["labels"].items()})
        window = seen["grey"] and (float(seen["grey"][0]), float(seen["grey"][1]))
        members = {name: network(said["network"], seen["channels"], len(labels.names)) for name in said["members"]}
    for name, one in members.items():
        with prepared.reading(folder / f"{name}.pt", "a network of this model"):
            one.load_state_dict(torch.load(folder / f"{name}.pt", map_location="cpu", weights_only=True))
    return Ensemble(Seen(labels, Grey(window), seen["channels"], seen["side"]), said["network"], members)


class _Mean(nn.Module):
    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([one(x).softmax(1) for one in self.members]).mean(0)


def export(ensemble: Ensemble, path: Path) -> float:
    """The ensemble as ONNX: `images` `(N, C, H, W)` in [0, 1] at the working size, multiples of 32 -> `probabilities`.

    Returns the largest difference from PyTorch's on random images, by onnxruntime; raises `BadInput` where that is not
    rounding, or where the packages for it are missing (`fewlabels[segment]`).
    """
    try:
        import onnx  # noqa: F401  # torch's exporter needs it
        import onnxruntime
    except ModuleNotFoundError as error:
        raise BadInput("export to ONNX", "pip install 'fewlabels[segment]'", f"no package {error.name}") from None
    together = _Mean([copy.deepcopy(one) for one in ensemble.members.values()]).eval()
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, ensemble.seen.channels, 64, 96, generator=generator)
    axes = {0: "n", 2: "h", 3: "w"}
    with whole(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, of itself: the other one wants onnxscript, and keeps a size
        torch.onnx.export(
            together, (x[:1, :, :, :64],), str(file), input_names=["images"], output_names=["probabilities"],
            dynamic_axes={"images": axes, "probabilities": axes}, dynamo=False,
        )  # fmt: skip
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        with torch.no_grad():
            apart = np.abs(session.run(None, {"images": x.numpy()})[0] - together(x).numpy()).max()
        if apart > AGREED:
            raise BadInput(path, f"PyTorch's probabilities within {AGREED:g}", f"{apart:.2g} apart")
    return float(apart)


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
