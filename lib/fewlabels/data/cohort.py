"""What every data set becomes (`Cohort`) and how it is divided (`Split`)."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

from fewlabels.errors import BadInput

STAND_INS = ("phantom", "digits")  # data that need no files: synthetic, or from scikit-learn


@dataclass(frozen=True, eq=False)
class Cohort:
    """Images with their labels, on one grid.

    images      float32 `(N, C, *size)`
    labels      int64 `(N, *size)` for segmentation (0 is background), `(N,)` for classification
    ids         one name a subject, unique
    classes     the name of each label value, in order
    spacing_mm  distance of neighbouring pixel centres along each axis of `size`, in array order
    groups      what must not be torn apart by a split (patient, lesion), one a subject
    meta        what else a reader should know: `data` (the name of the result folders), `source`, ...
    """

    images: torch.Tensor
    labels: torch.Tensor
    ids: tuple[str, ...]
    classes: tuple[str, ...]
    spacing_mm: tuple[float, ...]
    groups: tuple[str, ...]
    meta: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.ids)
        if len(set(self.ids)) != n:
            raise BadInput("cohort ids", "unique names", f"{n - len(set(self.ids))} repeated")
        for name in ("images", "labels", "groups"):
            if len(getattr(self, name)) != n:
                raise BadInput(f"cohort {name}", f"{n}, one for each id", len(getattr(self, name)))
        if int(self.labels.min()) < 0 or int(self.labels.max()) >= len(self.classes):
            found = f"{int(self.labels.min())} to {int(self.labels.max())}"
            raise BadInput("cohort labels", f"values 0 to {len(self.classes) - 1}", found)

    def __len__(self) -> int:
        return len(self.ids)

    def index(self, ids: Iterable[str]) -> torch.Tensor:
        """Positions of `ids`, int64 `(len(ids),)`."""
        position = {name: i for i, name in enumerate(self.ids)}
        return torch.tensor([position[name] for name in ids], dtype=torch.long)

    def fingerprint(self) -> str:
        """SHA-256 over ids, images and labels: the same data give the same 64 characters."""
        digest = hashlib.sha256("\n".join(self.ids).encode())
        for tensor in (self.images, self.labels):
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Split:
    """Who is used for what: four tuples of ids, of which no two share one."""

    labelled: tuple[str, ...]
    unlabelled: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        parts = self.labelled + self.unlabelled + self.validation + self.test
        if len(set(parts)) != len(parts):
            raise BadInput("split", "each id in one part", f"{len(parts) - len(set(parts))} in two")
