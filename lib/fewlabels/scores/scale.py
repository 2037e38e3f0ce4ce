"""How far what was run goes of what a paper did, in words: `64 of 512 px, 1/5 of the steps`."""

import re
from fractions import Fraction
from math import prod

WHOLE = "paper scale"
SHARE = re.compile(r"([\d,]+)(?: of |/)([\d,]+)")


def of_paper(
    steps: tuple[int, int], width: tuple[float, float], size: tuple[int, int] = (1, 1), unit: str = "px"
) -> str:
    """The scale of what was run. `steps`, `width` (channels) and `size` (of images, in `unit`): `(ours, the paper's)`.

    What is at least the paper's is not said.
    """
    parts = [f"{size[0]:,} of {size[1]:,} {unit}"] if size[0] < size[1] else []
    for (ours, papers), what in ((steps, "steps"), (width, "width")):
        if ours < papers:
            times = round(papers / ours)
            parts.append(f"1/{times} of the {what}" if times > 1 else f"{ours:,} of {papers:,} {what}")
    return ", ".join(parts) or WHOLE


def share(words: str) -> Fraction | int:
    """What `of_paper` says as one number: the product of all shares; 1 at the paper's scale."""
    return prod(Fraction(*(int(number.replace(",", "")) for number in pair)) for pair in SHARE.findall(words))
