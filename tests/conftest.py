"""What several test files share: one thread, a place for results, and a JSRT experiment small enough to run often."""

import signal

import pytest
import torch
import yaml

from fewlabels.papers.bortsova2019 import jsrt as experiment
from fewlabels.paths import CHECKOUT

ROOT = CHECKOUT
SMOKE = ROOT / "params/jsrt/smoke.yaml"
TINY = {
    "subjects": 16,
    "size": 32,
    "width": 4,
    "levels": 3,
    "train_images": 6,
    "labels": [2],
    "matched_validation_labels": [],
    "methods": ["Baseline", "SemiTC+"],
    "steps_supervised": 24,
    "steps_finetune": 12,
    "validate_every": 4,
    "loss_draws": 1,
}
FEW_STEPS = {  # notebooks that train for long: `make test` runs them with these values, `make test-long` as they are
    "bortsova2019_amplitude": {"steps_supervised": 4, "steps_finetune": 4, "validate_every": 2},
    "bortsova2019_method": {"steps": 10},
    "chaitanya2019_method": {"steps": 4, "warm_up": 1},
    "gao2021_method": {"steps": 8, "snapshots": 2},
    "tudelft2021_collapse": {"steps_supervised": 8, "steps_semi": 3, "steps_after": 3},
    "vorontsov2019_method": {"steps": 10, "snapshots": 2},
}


@pytest.hookimpl(tryfirst=True)  # before pytest looks at -m
def pytest_collection_modifyitems(items):
    """What is long in one piece first, so that no worker is left with it: what compiles kernels, then notebooks."""
    pieces = ({"warps"}, {"notebooks", "test_notebooks.py"})
    items.sort(key=lambda item: [not piece & {*item.path.parts[-2:]} for piece in pieces])
    for item in items:
        if item.path.suffix == ".ipynb" and item.path.stem in FEW_STEPS:
            item.add_marker("long")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def signal_handlers():
    """The command line installs its own; after the test ctrl-C is pytest's again."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def results(tmp_path, monkeypatch):
    """An empty root of result folders, as FEWLABELS_RESULTS; no data root."""
    folder = tmp_path / "results"
    monkeypatch.setenv("FEWLABELS_RESULTS", str(folder))
    monkeypatch.delenv("FEWLABELS_DATA", raising=False)
    return folder


def tiny_values(**changed):
    """params/jsrt/smoke.yaml, smaller: seconds for a whole sweep, and networks that do learn something."""
    return yaml.safe_load(SMOKE.read_text()) | TINY | changed


@pytest.fixture
def tiny():
    """tiny(**changed): a Config of two runs."""
    return lambda **changed: experiment.Config(**tiny_values(**changed))


@pytest.fixture
def params_file(tmp_path, results):
    """params_file(name, **changed): a parameter file of the tiny config; a value of None leaves the key out.

    With it comes `results`: what is run with such a file never writes into the repository.
    """

    def write(name="tiny", **changed):
        path = tmp_path / "jsrt" / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        values = {key: value for key, value in tiny_values(**{"profile": name} | changed).items() if value is not None}
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return path

    return write


@pytest.fixture(scope="session")
def cohort():
    return experiment.load(experiment.Config(**tiny_values()))
