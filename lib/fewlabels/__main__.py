"""The command line, `fewlabels` or `python -m fewlabels`: segment | predict | export | run | notebooks | list |
prepare | check-data | download | ledger.

Exit status: 0 all done, 1 some runs failed, 2 bad input (one line on stderr), 75 stopped by a signal: `run` and
`segment` after the next checkpoint, all others at once (the same command goes on from there), 141 nobody reads what is
said.
"""

import argparse
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from os.path import expanduser
from pathlib import Path
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

from fewlabels.errors import BadInput
from fewlabels.paths import CHECKOUT, data_root, datasets, results_root

LIBRARY_WARNING = warnings.formatwarning

if TYPE_CHECKING:  # imports pandas and torch, which `list` does without
    from fewlabels.engine.protocols import Experiment


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    warnings.formatwarning = _in_one_line
    try:
        status = args.command(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # `| head`: who reads has enough; what is left is not for the interpreter to flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as a shell says of a process that SIGPIPE ended
    except BadInput as error:
        print(f"fewlabels: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a folder that may not be entered, a name that is too long
        if error.filename is None:
            raise
        print(
            f"fewlabels: {BadInput(error.filename, 'a file or folder within reach', error.strerror)}", file=sys.stderr
        )
        return 2
    except KeyboardInterrupt:
        print("fewlabels: interrupted; the same command goes on from what is stored", file=sys.stderr)
        return 75


def _in_one_line(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> str:
    """What data, or settings, are warned of: without the place in our code, which is of no use to who reads it."""
    if category is UserWarning:
        return f"fewlabels: {message}\n"
    return LIBRARY_WARNING(message, category, *where, **more)


def run(args: argparse.Namespace) -> int:
    """The sweep of a parameter file with its tables and claims: what the notebook's sweep cell does."""
    from fewlabels.engine import params, report, sweep
    from fewlabels.engine.summary import summary
    from fewlabels.engine.training import Stopped

    experiment, config = params.load(args.params)
    only = _only(experiment, config, args.only)
    cohort = experiment.load(config, args.data)
    print(f"Data: {cohort.meta['data']}: {cohort.meta['source']}", flush=True)
    folder = sweep.folder_of(experiment, config, cohort, args.results)
    try:
        failed = sweep.sweep(experiment, config, cohort, folder, only=only, device=args.device, stop=_signalled())
    except Stopped as stopped:
        print(f"fewlabels: {stopped}; the same command goes on from there", file=sys.stderr)
        return 75
    if sweep.records(experiment, config, folder):
        report.write(experiment, config, cohort, folder)
        print("", summary(folder, getattr(experiment, "BEST", "")), sep="\n")
    return _failed(failed)


def notebooks(args: argparse.Namespace) -> int:
    """Runs the experiment's table notebooks with a parameter file into its result folder."""
    from fewlabels.engine.summary import summary
    from fewlabels.engine.unchanged import stamped

    begun = time.monotonic()
    for name in ("data", "results"):  # the notebooks take both from the environment
        if value := getattr(args, name):
            os.environ[f"FEWLABELS_{name.upper()}"] = str(Path(value).absolute())
    if found := stamped(args.params):
        print("Nothing has changed since these results were made:", end="\n\n")
        print(summary(*found))
        return 0
    from fewlabels.engine.notebooks import run_all  # imports that take seconds

    folder, experiment, failed = run_all(args.params, begun)
    print("", summary(folder, getattr(experiment, "BEST", "")), sep="\n")
    return _failed(failed)


def segment(args: argparse.Namespace) -> int:
    """Your own images: masks for all below DATA/images, learned from those in DATA/masks, into DATA/segmented."""
    from fewlabels.engine.training import Stopped
    from fewlabels.segment import segment

    try:
        segment(args.folder, args.minutes, stop=_signalled())
    except Stopped as stopped:
        print(f"fewlabels: {stopped}; the same command goes on from there", file=sys.stderr)
        return 75
    return 0


def predict(args: argparse.Namespace) -> int:
    """Masks of other images, by a model that `segment` made (DATA/segmented/model)."""
    from fewlabels.segment import predict

    print(f"Masks: {predict(args.model, args.images, args.out)}")
    return 0


def export(args: argparse.Namespace) -> int:
    """A model that `segment` made as one ONNX file, checked against PyTorch."""
    from fewlabels.segment.ensemble import export, load

    apart = export(load(Path(args.model)), Path(args.out))
    print(f"{args.out}: probabilities within {apart:.1g} of PyTorch's")
    return 0


def _failed(failed: dict[str, str]) -> int:
    for name, message in failed.items():
        print(f"fewlabels: {name} failed: {message}", file=sys.stderr)
    return 1 if failed else 0


def list_all(args: argparse.Namespace) -> int:
    """Lists what can be reproduced and which data can be checked, as targets of make."""
    from fewlabels.engine import experiments

    lines = {f"reproduce-{name}": what for name, what in experiments.summaries().items()}
    lines |= {f"check-data-{name}": f"is the data set {name} below DATA complete?" for name in datasets("check")}
    for target, what in lines.items():
        print(f"{target:<19} {what}")
    return 0


def prepare(args: argparse.Namespace) -> int:
    """Packs an official data folder into one checksummed file for machines without the originals."""
    _dataset(args.dataset).prepare(args.data, args.out)
    return 0


def check_data(args: argparse.Namespace) -> int:
    """Verifies that a data folder is complete and says what it is."""
    print(_dataset(args.dataset).check(args.data))
    return 0


def download(args: argparse.Namespace) -> int:
    """Fetches a data set that is open to all into the data root, checksum verified."""
    print(_dataset(args.dataset).download(args.data))
    return 0


def ledger(args: argparse.Namespace) -> int:
    """Judges the stored scores again; writes LEDGER.md beside them and the counts of verdicts into README.md."""
    from fewlabels.engine.ledger import judge_again, write

    judge_again(results_root())
    write(results_root(), CHECKOUT / "README.md")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fewlabels", description=__doc__)
    commands = parser.add_subparsers(
        required=True,
        metavar="segment | predict | export | run | notebooks | list | prepare | check-data | download | ledger",
    )

    def command(name: str, function: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        sub.set_defaults(command=function)
        return sub

    def reading(name: str, function: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        sub = command(name, function)
        help_data = "data root or prepared file (default: FEWLABELS_DATA)"
        sub.add_argument("--data", type=expanduser, default=data_root(), help=help_data)
        return sub

    for name, function in (("run", run), ("notebooks", notebooks)):
        sub = reading(name, function)
        sub.add_argument("params", help="params/<experiment>/<profile>.yaml")
        help_results = "root of the result folders (default: FEWLABELS_RESULTS, or results/local for quick and smoke, "
        sub.add_argument("--results", type=expanduser, help=f"{help_results}or results)")
        if function is run:
            sub.add_argument(
                "--only", default="", help="runs to do now: 'split=0,labels=5'; a repeated key means either"
            )
            sub.add_argument("--device", default=None, help="cuda, cpu, ... (default: cuda if there is one)")
    for name, function in (("prepare", prepare), ("check-data", check_data), ("download", download)):
        sub = reading(name, function)
        sub.add_argument("dataset", choices=datasets(name.replace("-data", "")))
        if function is prepare:
            sub.add_argument("--out", type=expanduser, required=True, help="the file to write")
    sub = command("segment", segment)
    sub.add_argument("folder", type=expanduser, metavar="DATA", help="a folder with images/ and, for some, masks/")
    sub.add_argument("--minutes", type=float, default=15.0, help="of this machine, for the training (default: 15)")
    for name, function in (("predict", predict), ("export", export)):
        sub = command(name, function)
        sub.add_argument("--model", type=expanduser, required=True, help="DATA/segmented/model")
        if function is predict:
            sub.add_argument("--images", type=expanduser, required=True, help="a folder of images")
        sub.add_argument("--out", type=expanduser, required=True, help="the folder, or file, to write")
    command("list", list_all)
    command("ledger", ledger)
    return parser


def _only(experiment: "Experiment", config: Any, text: str) -> Callable[[Any], bool]:
    """A filter of runs from 'split=0,split=1,labels=5'. Raises BadInput when it names nothing of the grid."""
    runs = experiment.grid(config)
    wanted: dict[str, set[str]] = {}
    keys = list(vars(runs[0]))
    for part in filter(None, text.split(",")):
        key, _, value = part.partition("=")
        if key not in keys:
            raise BadInput(f"--only {part}", f"a key of {', '.join(keys)}", repr(key))
        if value not in (values := {str(getattr(run, key)) for run in runs}):
            raise BadInput(f"--only {part}", f"one of {', '.join(sorted(values))}", repr(value))
        wanted.setdefault(key, set()).add(value)

    def only(run: Any) -> bool:
        return all(str(getattr(run, key)) in values for key, values in wanted.items())

    if not any(map(only, runs)):
        raise BadInput(f"--only {text}", "runs of the grid", "none that is all of this")
    return only


def _signalled() -> Callable[[], bool]:
    """() -> True once SIGINT or SIGTERM has come. A second SIGINT ends the process as usual."""
    came = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note)
    return lambda: bool(came)


def _dataset(name: str) -> ModuleType:
    return import_module(f"fewlabels.data.{name}")


if __name__ == "__main__":
    sys.exit(main())
