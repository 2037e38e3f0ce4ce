"""The page that says what became of a folder of images: `report.html`, whole in one file."""

import base64
import io
import os
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

from jinja2 import Environment, FileSystemLoader
from PIL import Image

from fewlabels.files import write_text
from fewlabels.segment.overlays import colour

SHOWN, FIRST = 60, 12  # overlays of all images, thumbnails of labelled ones on the first page
PIXELS = 320  # the long side of a picture on the page
AGAIN = 20  # seconds from one reading of the page to the next while networks train
WORST, PICTURED = 20, 6  # labels to look at first; how many of them with a picture
PLAN = {  # in this order; what a plan has beside is said under its own name
    "network": "network", "members": "networks trained", "steps": "steps of each", "seconds_per_step": "time of a step",
    "side": "images are scaled to (long side, px)", "crop": "and seen in pieces of (px)", "batch": "pieces a step",
}  # fmt: skip
Pictures = Mapping[str, Path]


def write(
    out: Path, state: Mapping[str, Any], overlays: Pictures | None = None, thumbnails: Pictures | None = None
) -> Path:
    """`out/report.html`, from what is known so far; what `state` does not have is left out.

    state       as `fewlabels.segment.command` keeps it, plain JSON
    overlays    pictures of images with the outlines of what came out, by the name of the case
    thumbnails  the same of labelled images with the masks that somebody drew, for the first page

    A picture that is not there or cannot be read is left out. Returns the path of the page.
    """
    here = Path(__file__)
    environment = Environment(
        loader=FileSystemLoader(here.parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "duration": duration, "value": value}
    page = environment.get_template(f"{here.stem}.html.jinja").render(
        content(out, state, overlays or {}, thumbnails or {})
    )
    path = out / "report.html"
    write_text(path, page.encode("utf-8", "replace").decode("utf-8"))  # a file's name may be no text
    return path


def content(out: Path, state: Mapping[str, Any], overlays: Pictures, thumbnails: Pictures) -> dict[str, Any]:
    """What the template shows: the keys of `state`, and what is counted from them."""
    state = {key: stored for key, stored in state.items() if stored is not None}
    data, cases = Path(state.get("data", out.parent)), state.get("cases", [])
    for_each = [_case(out, data, case) for case in cases]
    labelled = [case for case in for_each if case["labelled"]]
    first = [_shown(out, case, thumbnails or overlays) for case in labelled[:FIRST]]
    drawn = [dict(case, overlay=_link(out, overlays[case["name"]])) for case in for_each if case["name"] in overlays]
    gallery = [shown for case in drawn[:SHOWN] if (shown := _shown(out, case, overlays))]
    by_name = {case["name"]: case for case in for_each}

    def looked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """With the case of each row, and pictures of the first."""
        found = [by_name.get(row["name"], {}) | row for row in rows]
        return [_shown(out, row, overlays) or row for row in found[:PICTURED]] + found[PICTURED:]

    classes = [
        dict(each, colour="#{:02x}{:02x}{:02x}".format(*colour(k))) for k, each in enumerate(state.get("classes", []))
    ]
    floor = state.get("floor", {})
    for each, dice in zip(classes[1:], floor.get("dice") or []):
        each["dice"] = dice
    plan = state.get("plan", {})
    known = [(words, _plan(key, plan[key])) for key, words in PLAN.items() if key in plan]
    return {
        **state,
        "folder": data.name or str(data), "data": str(data), "masks": str(out / "masks"), "again": AGAIN,
        "written": sum(bool(case["mask"]) for case in for_each), "labelled": labelled,
        "cases": for_each, "classes": classes, "floor": floor,
        "first": [each for each in first if each], "yours": bool(thumbnails),
        "gallery": gallery, "rest": drawn[SHOWN:],
        "sizes": _counted(_size(case.get("size")) for case in cases),
        "channels": _counted({1: "grey", 3: "colour"}.get(case.get("channels"), "") for case in cases),
        "suspicious": looked(state.get("suspicious", [])), "fit": looked(state.get("fit", [])[:WORST]),
        "fitted": len(state.get("fit", [])),
        "plan": known + [(key.replace("_", " "), each) for key, each in plan.items() if key not in PLAN],
    }  # fmt: skip


def percent(share: float | None) -> str:
    """0.0312 -> "3.1 %"; small shares keep a digit that is not 0."""
    if share is None:
        return ""
    hundred = 100 * share
    if 0 < hundred < 1e-4:
        return "< 1e-4 %"
    return f"{hundred:.1g} %" if 0 < hundred < 0.1 else f"{hundred:.1f} %"


def duration(seconds: float | None) -> str:
    """0.4 -> "0.4 s", 75 -> "1 min 15 s", 7300 -> "2 h 2 min"."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    parts = [(hours, "h"), (minutes, "min"), (0 if hours else rest, "s")]
    return " ".join(f"{n} {unit}" for n, unit in parts if n)


def value(stored: Any) -> str:
    """A label's stored value as classes.yaml has it: a number, or red, green and blue as "#ff0000"."""
    if isinstance(stored, list | tuple):
        return "#" + "".join(f"{part:02x}" for part in stored)
    return f"{stored:g}" if isinstance(stored, float) else str(stored)


def _plan(key: str, stored: Any) -> Any:
    return duration(stored) if key == "seconds_per_step" else stored


def _size(size: list[int] | None) -> str:
    """Of (slices, rows, columns): "640 x 480" pixels wide and high, or "24 slices of 640 x 480"."""
    if not size:
        return ""
    slices, rows, columns = size
    return f"{columns} x {rows}" if slices == 1 else f"{slices} slices of {columns} x {rows}"


def _counted(words: Any, most: int = 5) -> str:
    """The commonest first, each with how often it is there."""
    found = Counter(word for word in words if word).most_common()
    if len(found) == 1:
        return f"all {found[0][0]}"
    others = [f"{len(found) - most} other kinds"] if len(found) > most else []
    return ", ".join([*(f"{word} ({n})" for word, n in found[:most]), *others])


def _link(out: Path, path: Path) -> str:
    """From the page to a file, so that both can be moved together."""
    return quote_from_bytes(os.fsencode(os.path.relpath(path, out)))


def _case(out: Path, data: Path, case: Mapping[str, Any]) -> dict[str, Any]:
    mask, image, shares = case.get("mask"), case.get("image"), case.get("shares")
    return {
        "labelled": False, "note": "", **case, "mask": mask and _link(out, data / mask),
        "image": image and _link(out, Path(image)), "size": _size(case.get("size")),
        "foreground": 1 - shares[0] if shares else None,
    }  # fmt: skip


def _shown(out: Path, case: Mapping[str, Any], pictures: Pictures) -> dict[str, Any] | None:
    """The case with its picture, or None where there is none."""
    path = pictures.get(case["name"])
    if path is None:
        return None
    try:
        uri = embedded(path, path.stat().st_mtime_ns)
    except (OSError, ValueError, SyntaxError):  # Pillow's, of files that are none of its kinds or damaged
        return None
    return dict(case, picture=uri, overlay=_link(out, path))


@lru_cache(maxsize=256)
def embedded(path: Path, changed: int) -> str:
    """A picture as JPEG in a `data:` URI, its long side at most PIXELS. Another `changed`, ns, has it read again."""
    small = io.BytesIO()
    with Image.open(path) as picture:
        shown = picture.convert("RGB")
    shown.thumbnail((PIXELS, PIXELS))
    shown.save(small, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(small.getvalue()).decode("ascii")
