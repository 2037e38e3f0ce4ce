"""Images that present a segmentation target and images in which it is absent (Vorontsov et al. 2019, Section 3)."""

from dataclasses import dataclass

import torch

from fewlabels.errors import BadInput


@dataclass(frozen=True, eq=False)
class Domains:
    """The two domains of one part of a data set; their images are not paired.

    presence  P, float32 `(n, C, *size)`
    absence   A, float32 `(m, C, *size)`; there may be none where networks are chosen only
    masks     where the target is in each image of P, bool `(n, *size)`
    labelled  which of P have a mask that training may use, int64 `(k,)`, ascending
    kinds     what each image of P is of (the digit's class, the patient), int64 `(n,)`
    """

    presence: torch.Tensor
    absence: torch.Tensor
    masks: torch.Tensor
    labelled: torch.Tensor
    kinds: torch.Tensor

    def __post_init__(self) -> None:
        if not len(self.presence):
            raise BadInput("domain presence", "at least one image", "none")
        for name in ("masks", "kinds"):
            if len(getattr(self, name)) != len(self.presence):
                found = len(getattr(self, name))
                raise BadInput(f"domain {name}", f"{len(self.presence)}, one for each image of P", found)
