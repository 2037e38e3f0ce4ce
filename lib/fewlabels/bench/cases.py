"""What is timed. Every case is a list of `timing.Pair`; its tensors are made when its turn comes."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels.bench import peers, precision, training, translation, volumes
from fewlabels.bench.peers import BOTH, EDGE, FORWARD, IMAGE
from fewlabels.bench.timing import Different, Made, Pair, Work, importable
from fewlabels.warps import control_to_dense, operator, random_control, reference, warp
from fewlabels.warps.fields import pixels

SHAPES = {
    "A": (8, 1, 256, 256),
    "B": (1, 4, 64, 64, 64),
    "C": (8, 6, 256, 256),
    "D": (8, 6, 512, 512),
    "F": (8, 2, 256, 256),
}
QUICK_SHAPES = {
    "A": (2, 1, 40, 40),
    "B": (1, 2, 20, 20, 20),
    "C": (2, 3, 40, 40),
    "D": (2, 3, 64, 64),
    "F": (2, 2, 40, 40),
}
POINTS = 5  # control points along an axis
TARGETS = {
    ("A", FORWARD): "ratio >= 20",
    ("A", IMAGE): "ratio >= 16",
    ("B", FORWARD): "ratio >= 8",
    ("B", IMAGE): "ratio >= 6",
}
QUEUED = 20  # calls in one timing on CUDA


def pairs(quick: bool = False) -> list[Pair]:
    shapes, cases = QUICK_SHAPES if quick else SHAPES, []
    for device in ("cpu", "cuda"):
        for letter in ("A", "B"):
            cases += spline(letter, shapes[letter], device) + recipes(letter, shapes[letter], device)
        cases += grid_sample(shapes["C"], device)
        cases += bandwidth(shapes["D"]) if device == "cuda" else []
        cases += [training.pair(device, quick), *aligning(shapes["F"], device)]
        queued = (QUEUED, QUEUED) if device == "cuda" else (1, 1)
        cases += [*training.of_classifier(device, quick, queued), training.of_generator(device, quick, queued)]
        cases += training.of_adversarial(device, quick, queued)
        cases += translation.pairs(device, quick, queued) + precision.pairs(device, quick, queued)
    cases += volumes.pairs(quick)
    return cases


def title(letter: str, shape: tuple[int, ...]) -> str:
    return f"{letter}: {shape[0]}x{shape[1]}x{'x'.join(map(str, shape[2:]))}"


def drawn(shape: tuple[int, ...], device: str) -> list[Tensor]:
    """Images, control grids, the dense fields of these, and gradients that come back; the same in every case.

    The displacements' sd is an eighth of the control points' distance: 8 pixels of 256.
    """
    generator = torch.Generator().manual_seed(0)
    x, g = torch.rand(shape, generator=generator), torch.randn(shape, generator=generator)
    control = random_control(shape[0], (POINTS,) * (len(shape) - 2), shape[2] / 32, generator)
    return [t.to(device) for t in (x, control, control_to_dense(control, shape[2:]), g)]


def doing(work: str, f: Callable[[Tensor, Tensor], Tensor], x: Tensor, u: Tensor, g: Tensor) -> Work:
    """`f(x, u)` with as much of the backward pass as `work` says: () -> output and gradients."""
    x, u = x.detach().requires_grad_(work != FORWARD), u.detach().requires_grad_(work == BOTH)
    wrt = [t for t in (x, u) if t.requires_grad]

    def work_done() -> tuple[Tensor, ...]:
        y = f(x, u)
        return (y.detach(), *torch.autograd.grad(y, wrt, g)) if wrt else (y,)

    return work_done


def spline(letter: str, shape: tuple[int, ...], device: str) -> list[Pair]:
    """Our field, given dense, beside all who can take it; and the cost of the gradient to the field."""
    settings: dict[str, Any] = {"case": f"{title(letter, shape)}, order 3", "device": device}
    settings |= {"queued": (QUEUED, QUEUED)} if device == "cuda" else {}

    def beside(peer: peers.Peer, work: str, from_control: bool = False) -> Made:
        def make() -> tuple[Work, Work]:
            x, control, u, g = drawn(shape, device)
            taken, theirs = control if from_control else u, control if peer.control else u

            def ours(x: Tensor, u: Tensor) -> Tensor:
                u = control_to_dense(u, shape[2:]) if from_control else u
                return warp(x, u, peer.order, peer.mode)

            return doing(work, ours, x, taken, g), doing(work, peer.make(shape[2:], peer.order), x, theirs, g)

        return make

    pairs = []
    for work in (FORWARD, IMAGE, BOTH):
        for peer in peers.DENSE:
            if work in peer.works and (peer.gpu or device == "cpu"):
                aimed = device == "cpu" and peer.control
                target = TARGETS.get((letter, work), "") if aimed else ""
                row = {"target": target, "note": peer.note, **peer.check, **settings}
                pairs.append(Pair(work=work, peer=peer.name, package=peer.package, make=beside(peer, work), **row))
                if peer.control:
                    row |= {"target": "", "note": f"ours makes it dense in the timed work; {peers.SERIAL}"}
                    name = f"{peer.name}, control grid to both"
                    make = beside(peer, work, from_control=True)
                    pairs.append(Pair(work=work, peer=name, package=peer.package, make=make, **row))

    def both() -> list[Work]:
        x, _, u, g = drawn(shape, device)
        return [doing(work, lambda x, u: warp(x, u, 3), x, u, g) for work in (BOTH, IMAGE)]

    row = {"note": "what the gradient to the field adds", "tolerance": None, **settings}
    row["target"] = "ours <= 2 x peer" if (letter, device) == ("A", "cpu") else ""
    pairs.append(Pair(work=BOTH, peer="ours, gradient to image only", make=both, **row))
    return pairs


def recipes(letter: str, shape: tuple[int, ...], device: str) -> list[Pair]:
    """Packages that only do their own recipe: drawing and warping, ours from a control grid."""
    pairs = []
    for peer in peers.RECIPES:
        if len(shape) - 2 not in peer.dims or not (peer.gpu or device == "cpu"):
            continue
        for work in (FORWARD, IMAGE):
            if work in peer.works:
                pairs.append(
                    Pair(
                        case=f"{title(letter, shape)}, own recipe",
                        work=f"draw, {work}",
                        peer=peer.name,
                        package=peer.package,
                        make=_recipe(peer, work, shape, device),
                        device=device,
                        tolerance=None,
                        note=f"ours of order {peer.order}; {peer.note}",
                        queued=(QUEUED, QUEUED) if device == "cuda" else (1, 1),
                    )
                )
    return pairs


def _recipe(peer: peers.Peer, work: str, shape: tuple[int, ...], device: str) -> Made:
    def make() -> tuple[Work, Work]:
        x, control, _, g = drawn(shape, device)
        sd = shape[2] / 32

        def ours(x: Tensor, u: Tensor) -> Tensor:
            u = random_control(len(x), control.shape[2:], sd, device=x.device)
            return warp(x, control_to_dense(u, shape[2:]), peer.order, peer.mode)

        theirs = peer.make(x, sd)
        if (found := theirs(x).shape) != x.shape:
            raise Different(f"{peer.name}: expected images of {tuple(x.shape)}, found {tuple(found)}")
        return doing(work, ours, x, control, g), doing(work, lambda x, u: theirs(x), x, control, g)

    return make


def grid_sample(shape: tuple[int, ...], device: str) -> list[Pair]:
    """Orders 1 and 0 beside torch's own sampling, whose grid was computed beforehand."""

    def make(order: int, work: str) -> Made:
        def made() -> tuple[Work, Work]:
            x, _, u, g = drawn(shape, device)
            q, last = pixels(shape[2:], u.dtype, device), shape[2] - 1
            u = (q + u).clamp(0.01, last - 0.01) - q  # torch's zeros fade over the last pixel: let none come from there
            grid = (q + u).flip(1).movedim(1, -1) * 2 / last - 1
            mode = "bilinear" if order else "nearest"

            def torchs(x: Tensor, u: Tensor) -> Tensor:
                return F.grid_sample(x, grid, mode, "zeros", align_corners=True)

            return doing(work, lambda x, u: warp(x, u, order), x, u, g), doing(work, torchs, x, u, g)

        return made

    return [
        Pair(
            case=f"{title('C', shape)}, order {order}",
            work=work,
            peer="torch grid_sample",
            package="torch",
            make=make(order, work),
            device=device,
            target="ours <= 1.3 x peer" if device == "cpu" else "",
            stray=EDGE,
            note="its grid computed beforehand; no place outside the image",
            queued=(QUEUED, QUEUED) if device == "cuda" else (1, 1),
        )
        for order in (1, 0)
        for work in (FORWARD, IMAGE)
    ]


def bandwidth(shape: tuple[int, ...]) -> list[Pair]:
    """On CUDA beside what must be moved at the least, at the speed of a copy; and beside the CPU."""
    image, field = (4 * math.prod(shape[:1] + (c,) + shape[2:]) for c in (shape[1], len(shape) - 2))
    forward, backward = image + field + image, image + field + image  # read, read, written (gradients in the backward)
    moved = forward + backward

    def copy(order: int) -> Made:
        def make() -> tuple[Work, Work]:
            x, _, u, g = drawn(shape, "cuda")
            source = torch.empty(moved // 2, dtype=torch.uint8, device="cuda")  # a copy reads and writes each byte
            target = torch.empty_like(source)
            return doing(IMAGE, lambda x, u: warp(x, u, order), x, u, g), lambda: (target.copy_(source),)

        return make

    def on_cpu(order: int, peer: peers.Peer, work: str) -> Made:
        def make() -> tuple[Work, Work]:
            x, control, u, g = drawn(shape, "cuda")
            there = [t.cpu() for t in (x, control if peer.control else u, g)]
            theirs = doing(work, peer.make(shape[2:], order), *there)
            return doing(work, lambda x, u: warp(x, u, order), x, u, g), theirs

        return make

    named = {peer.name: peer for peer in peers.DENSE}
    if importable("elasticdeform"):
        peer, work = named["elasticdeform"], IMAGE
    else:
        peer, work = named["SciPy map_coordinates"], FORWARD
    pairs = []
    for order, times in ((1, 3), (3, 6)):
        case = f"{title('D', shape)}, order {order}"
        name, note = f"device copy of {moved / 1e6:.0f} MB", "image, field and gradients read and written once"
        row: dict[str, Any] = {
            "case": case,
            "device": "cuda",
            "package": "torch",
            "tolerance": None,
            "queued": (QUEUED, QUEUED),
        }
        row |= {"target": f"ours <= {times} x peer"}
        pairs.append(Pair(work=IMAGE, peer=name, make=copy(order), note=note, **row))
        row |= {"target": "ratio >= 300", "tolerance": 2e-4, "stray": EDGE, "queued": (QUEUED, 1)}
        row |= {"package": peer.package, "note": f"the peer on this machine's CPU; {peers.SERIAL}"}
        pairs.append(Pair(work=work, peer=f"{peer.name} on the CPU", make=on_cpu(order, peer, work), **row))
    return pairs


def aligning(shape: tuple[int, ...], device: str) -> list[Pair]:
    """Fields inverted and aligned: only our own plain PyTorch does that too."""

    def make(inverting: bool) -> Made:
        def made() -> tuple[Work, Work]:
            _, _, u1, _ = drawn(shape, device)
            u2 = torch.zeros_like(u1) if inverting else u1.flip(0).contiguous()
            kernels, settings = operator.kernels_for(u1), (1e-4, 50)  # tolerance and steps, the defaults of `align`
            return lambda: kernels.align(u1, u2, *settings)[:1], lambda: reference.align(u1, u2, *settings)[:1]

        return made

    what = title("F", shape).removeprefix("F: ")
    row: dict[str, Any] = {
        "work": FORWARD,
        "peer": "ours, plain PyTorch",
        "device": device,
        "tolerance": 1e-4,
        "stray": EDGE,
    }
    row["note"] = "no other package does it"
    return [Pair(case=f"F: {name} {what} fields", make=make(name == "invert"), **row) for name in ("invert", "align")]
