"""How a network of `papers.gao2021.isic` is trained: the stages of a run."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fewlabels.augment import policies
from fewlabels.data import isic
from fewlabels.data.cohort import Cohort, Split
from fewlabels.engine.protocols import Method, Trained
from fewlabels.engine.training import Batches, Shuffled, Stages, seed_of, seeded
from fewlabels.errors import BadInput
from fewlabels.methods.adversarial import RegularisedAdversarial
from fewlabels.methods.augmented_training import AugmentedTraining
from fewlabels.papers.gao2021 import challenge
from fewlabels.papers.gao2021 import isic_rows as rows
from fewlabels.papers.gao2021 import rows as gao_rows
from fewlabels.types import Device, History, Report, Stop, TaskLoss

if TYPE_CHECKING:  # it imports this module
    from fewlabels.papers.gao2021.isic import Config, Run

FOLDS = 5


def split_of(config: "Config", cohort: Cohort, fold: int) -> Split:
    """Training images (so many of them as the config says) and the fold that is tested."""
    most = config.training_images or None
    return isic.splits(cohort.ids, cohort.labels.tolist(), cohort.groups, fold, FOLDS, seed=0, most=most)


class Trainer:
    """The stages of a run: each trains one network under its own name in the run's folder, once for all rows.

    All rows start from the same seeds, T from the same weights. Nothing is chosen by the fold that is tested, but for
    `rand_augment`.
    """

    def __init__(
        self, config: "Config", run: "Run", cohort: Cohort, folder: Path, device: Device = "cpu",
        report: Report | None = None, stop: Stop | None = None,
    ) -> None:  # fmt: skip
        torch.set_num_threads(config.threads)
        self.config, self.run, self.cohort, self.folder, self.device = config, run, cohort, folder, device
        self.stages = Stages(folder, report, stop, config.precision)
        self.images, self.labels = cohort.images.to(device), cohort.labels.to(device)
        self.split = split_of(config, cohort, run.fold)
        self.pool = cohort.index(self.split.labelled)

    def stage(
        self, name: str, build: Callable[[TaskLoss], Trained], pool: Tensor | None = None, steps: int | None = None,
        look: Callable[[Trained], dict[str, float]] | None = None, real: int = 0,
    ) -> tuple[Trained, History]:  # fmt: skip
        """The method that `build(loss)` makes, trained on images of `pool`, with so many `real` ones beside a batch."""
        config, pool = self.config, self.pool if pool is None else pool
        steps = steps or config.steps

        def batch(i: Tensor, j: Tensor | None = None) -> dict[str, Tensor]:
            chosen = {"images": self.images[i], "labels": self.labels[i]}
            return chosen if j is None else chosen | {"real": self.images[j]}

        loss = rows.loss_of(config, self.labels[pool], self.run.method)
        samplers = [Shuffled(pool, n) for n in ([config.batch_size, real] if real else [config.batch_size])]
        return self.stages(
            name, lambda: build(loss), Batches(batch, *samplers), look,
            seed=seed_of(self.run.seed, self.run.fold, self.run.backbone),
            steps=steps, every=-(-steps // config.epochs), keep="last",
        )  # fmt: skip

    def adversarial(self, name: str) -> tuple[RegularisedAdversarial, History]:
        """A row of ours; at the end of each epoch, how hard what its generators make of 64 training images is."""
        config, run, n = self.config, self.run, len(gao_rows.kinds(self.run.method))
        shown = self.pool[:64]

        def look(method: RegularisedAdversarial) -> dict[str, float]:
            with seeded(self.device, run.seed, run.fold, "look"):  # the same z at every epoch, in every row
                return challenge.hardness(method, self.images[shown], self.labels[shown])

        build = lambda loss: rows.adversarial(config, run.backbone, run.method, loss, self.device)  # noqa: E731
        return self.stage(name, build, look=look, real=config.batch_size * n // (n + 1))

    def random(self, name: str) -> tuple[RegularisedAdversarial, History]:
        """Comb, if it is not there yet, then T on random transformations of the RMS that Comb's generators had."""
        config, run = self.config, self.run
        comb = Trainer(
            config, replace(run, method="Comb"), self.cohort, self.folder, self.device, self.stages.report,
            self.stages.stop,
        )  # fmt: skip
        _, trained = comb.adversarial(comb.run.id)
        rms = {kind: challenge.rms_of(trained, kind, config.steps) for kind in gao_rows.kinds("Comb")}
        return self.stage(name, lambda loss: rows.random(config, run.backbone, rms, loss, self.device))

    def cgan(self, name: str) -> tuple[AugmentedTraining, History]:
        """cGAN: two generators trained one after the other, then T on what they make."""
        config, run, device = self.config, self.run, self.device
        generators = {}
        for kind in gao_rows.CGAN:
            build = lambda loss, kind=kind: rows.cgan_generator(config, run.backbone, kind, loss, device)  # noqa: E731
            method, _ = self.stage(f"{name}_{kind}", build, steps=config.steps_generator, real=config.batch_size)
            generators[kind] = method.G.eval()
        augment = rows.cgan(config, generators, device)
        return self.stage(name, lambda loss: rows.plain(config, run.backbone, augment, loss, device))

    def plain(
        self, name: str, augment: Callable[[Tensor], Tensor] = lambda x: x, pool: Tensor | None = None
    ) -> tuple[AugmentedTraining, History]:
        """T on what `augment` makes of images."""
        both = lambda x, y: (augment(x), y)  # noqa: E731
        build = lambda loss: rows.plain(self.config, self.run.backbone, both, loss, self.device)  # noqa: E731
        return self.stage(name, build, pool)

    def rand_augment(self, name: str) -> tuple[AugmentedTraining, History, dict[str, Any]]:
        """RandAugment with the best of the points to try, and the BMCA of each.

        Searched once, as the paper's 12 trainings: on the first fold, judged by a quarter of its training lesions, a
        network for each point trained on the rest. Those images are test images of the other folds, where RandAugment
        has that advantage.
        """
        config, first = self.config, self.config.folds[0]
        points, searched = [(n, m) for n, m in config.rand_augment], {}
        if len(points) > 1:
            at = Trainer(
                config,
                replace(self.run, fold=first),
                self.cohort,
                self.folder,
                self.device,
                self.stages.report,
                self.stages.stop,
            )
            train, judged = at.inner()
            for n, m in points:
                place = f"RandAug_{n}_{m}_{at.run.id}"
                method, _ = at.plain(place, partial(policies.rand_augment, n=n, m=m), train)
                searched[n, m] = at.judge(method, judged)["bmca"]
            points = [max(searched, key=lambda point: searched[point])]
        [(n, m)] = points
        method, history = self.plain(name, lambda x: policies.rand_augment(x, n, m))
        found = {"bmca_of_points": [[*point, value] for point, value in searched.items()], "point": [n, m]}
        return method, history, found

    def fast_autoaugment(self, name: str) -> tuple[AugmentedTraining, History, dict[str, Any]]:
        """Fast AutoAugment: policies found by a network trained on three quarters of the training lesions, on others.

        A policy is good if that network, not trained further, has a low loss on images it transforms.
        """
        train, judged = self.inner()
        method, _ = self.plain(f"Fast_AA_search_{self.run.id}", pool=train)
        x, y = self.images[judged], self.labels[judged]
        loss_of = lambda policy: policies.held_out_loss(method.network, x, y, policy)  # noqa: E731
        seed = seed_of(self.run.seed, self.run.fold, "policies")
        torch.manual_seed(seed)
        found = policies.search(loss_of, self.config.policy_trials, seed, self.config.policies_kept)
        method, history = self.plain(name, lambda x: policies.apply_policy(x, found))
        return method, history, {"policy": found}

    def inner(self) -> tuple[Tensor, Tensor]:
        """A fold's training images in two, as indices: to train on, and a quarter of the lesions to judge by."""
        ids = [self.cohort.ids[i] for i in self.pool]
        labels, groups = self.labels[self.pool].tolist(), [self.cohort.groups[i] for i in self.pool]
        try:
            split = isic.splits(ids, labels, groups, 0, FOLDS - 1, seed=0)  # every class has a lesion in each part
        except BadInput as error:
            expected = f"enough for policies to be judged by a quarter of the lesions ({error})"
            raise BadInput("training_images", expected, len(ids)) from None
        return self.cohort.index(split.labelled), self.cohort.index(split.test)

    def judge(self, method: Method, index: Tensor) -> dict[str, Any]:
        """Recall of each class, their mean (BMCA), accuracy and the confusion matrix on the images of an index."""
        predicted, truth = method.predict(self.images[index], batch_size=100).argmax(1), self.labels[index]
        confusion = torch.bincount(rows.CLASSES * truth + predicted, minlength=rows.CLASSES**2)
        confusion = confusion.reshape(rows.CLASSES, rows.CLASSES).double().cpu()
        recall = confusion.diagonal() / confusion.sum(1)
        found = {"recall": recall.tolist(), "bmca": float(recall.nanmean())}
        return found | {
            "accuracy": float(confusion.diagonal().sum() / confusion.sum()),
            "confusion": confusion.tolist(),
        }
