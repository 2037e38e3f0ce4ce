"""How far what was run goes of what a paper did, in words: `64 of 512 px, 1/5 of the steps`."""

import re
from collections.abc import Sequence
from fractions import Fraction
from math import prod

WHOLE = "paper scale"
SHARE = re.compile(r"([\d,]+)(?: of |/)([\d,]+)")


def of_paper(
    steps: tuple[int, int], width: tuple[float, float], size: tuple[int, int] = (1, 1), unit: str = "px",
    counts: Sequence[tuple[int, int, str]] = (), beside: Sequence[str] = (),
) -> str:  # fmt: skip
    """The scale of what was run. `steps`, `width` (channels) and `size` (of images, in `unit`): `(ours, the paper's)`.

    What is at least the paper's is not said.

    counts  what else there is less of, each `(ours, the paper's, of what)`
    beside  what else is another than the paper's, in words; empty ones are none
    """
    parts = [f"{ours:,} of {papers:,} {what}" for ours, papers, what in ((*size, unit), *counts) if ours < papers]
    for (ours, papers), what in ((steps, "steps"), (width, "width")):
        if ours < papers:
            times = round(papers / ours)
            parts.append(f"1/{times} of the {what}" if times > 1 else f"{ours:,} of {papers:,} {what}")
    return ", ".join([*parts, *filter(None, beside)]) or WHOLE


def share(words: str) -> Fraction | int:
    """What `of_paper` says as one number: the product of all shares; 1 at the paper's scale."""
    return prod(Fraction(*(int(number.replace(",", "")) for number in pair)) for pair in SHARE.findall(words))
