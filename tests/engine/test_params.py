"""Parameter files: the shipped ones, and what is refused in one line."""

import ast
import re

import helpers
import pytest
import yaml

from fewlabels.engine import params
from fewlabels.errors import BadInput
from fewlabels.papers.bortsova2019 import jsrt as experiment
from fewlabels.papers.chaitanya2019.tables import TABLE_1
from fewlabels.papers.tudelft2021 import cifar10
from fewlabels.paths import CHECKOUT

ROOT = CHECKOUT
FILES = sorted((ROOT / "params").glob("*/*.yaml"))
# By how a notebook's name begins.
EXPERIMENTS = {
    "bortsova2019_table": "jsrt",
    "tudelft2021_table": "cifar10",
    "chaitanya2019_table": "acdc",
    "gao2021_isic": "isic",
    "gao2021_oar": "oar",
    "vorontsov2019_mnist": "mnist",
    "vorontsov2019_brats": "brats",
}
NOTEBOOKS = {
    path: folder for start, folder in EXPERIMENTS.items() for path in sorted((ROOT / "notebooks").glob(f"{start}*.py"))
}
PROFILES = {
    "jsrt": {"smoke", "quick", "lite", "paper", "amplitude"},
    "cifar10": {"smoke", "quick", "lite", "legacy", "paper", "rates", "collapse", "probe", "probe_apart"},
    "acdc": {"smoke", "quick", "lite", "paper", "probe", "probe_whole", "probe_dice"},
    "isic": {"smoke", "quick", "lite", "paper", "backbones"},
    "oar": {"smoke", "quick", "lite", "paper"},
    "mnist": {"smoke", "quick", "lite", "paper"},
    "brats": {"smoke", "quick", "lite", "paper"},
}
# Of quick and smoke, of the others.
DATA = {"jsrt": ("phantom", "jsrt"), "cifar10": ("digits", "cifar10"), "acdc": ("phantom", "acdc")}
DATA |= {name: ("phantom", name) for name in ("isic", "oar", "brats")} | {"mnist": ("digits", "mnist")}
AMPLITUDE = "amplitude:\n- 2.0\n"  # as yaml.safe_dump writes it
# Profiles, by the first word of their name, that answer a question of ours: no paper has a table of it.
NO_TABLE = {"amplitude", "rates", "collapse", "probe"}


def name(path):
    return path.stem if path.suffix == ".py" else f"{path.parent.name}/{path.stem}"


def files_of(folder):
    return [path for path in FILES if path.parent.name == folder]


def parameters_cell(script):
    """The assignments of the cell tagged `parameters` as text between two cell marks, evaluated here."""
    cells = re.split(r"^# %%", script.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (source,) = [cell for cell in cells if cell.startswith(' tags=["parameters"]')]
    source = source.split("\n", 1)[1]
    return source, {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(source).body}


# ---- the shipped files ----


def test_the_profiles_are_there():
    assert {path.parent.name for path in FILES} >= {*PROFILES}
    for folder, profiles in PROFILES.items():
        assert profiles <= {path.stem for path in files_of(folder)}
    assert {path.stem for path in NOTEBOOKS} >= {"bortsova2019_table1", "bortsova2019_table2", "tudelft2021_table1"} | {
        "chaitanya2019_table1",
        "gao2021_isic",
        "gao2021_oar",
        "vorontsov2019_mnist",
        "vorontsov2019_brats",
    }


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_shipped_file(path):
    module, config = params.load(path)
    assert module.NAME == path.parent.name
    assert config.profile == path.stem
    assert module.grid(config)
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert config.model_dump() == values  # nothing is converted, nothing has a default
    smoke = yaml.safe_load(path.with_stem("smoke").read_text(encoding="utf-8"))
    assert list(values) == list(smoke)  # one order everywhere
    nested = [
        key for key, value in values.items() if isinstance(value, dict) or (isinstance(value, list) and [] in value)
    ]
    assert not nested  # flat


@pytest.mark.parametrize("path", FILES, ids=name)
def test_the_header_of_a_shipped_file(path):
    text = path.read_text(encoding="utf-8")
    header = text.split("\n\n")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    first = header.splitlines()[0]
    asks = path.stem.split("_")[0] in NO_TABLE and "?" in first
    assert asks or re.search(r"Tables? \d|Tables \d|Fig", first), "what it answers"
    for word in ("Command:", "Takes:", "Expect:"):
        assert word in header, word
    assert re.search(r"\{\w*\}", header) is None, "a placeholder"
    assert not re.search(r"(?<![\w.])[-+]?\d+(\.\d*)?[eE][-+]?\d+\b", text.split("\n\n", 1)[1]), "1e-3 is text in YAML"
    assert "\t" not in text


@pytest.mark.parametrize("path", FILES, ids=name)
def test_quick_and_smoke_need_no_data(path):
    made_up, real = DATA[path.parent.name]
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert values["data"] == (made_up if path.stem in ("quick", "smoke") else real)


def test_the_papers_protocol():
    """What Section 3 and Table 1 say, in paper.yaml."""
    config = params.load(ROOT / "params/jsrt/paper.yaml")[1]
    assert (config.size, config.order, config.batch_size, config.consistency_weight) == (512, 0, 4, 1.0)
    assert (config.amplitude, config.optimiser, config.consistency) == (
        [0.0],
        "adadelta",
        "jaccard",
    )  # 0: the literal field
    runs = experiment.grid(config)
    cells = {(run.method, run.labels) for run in runs if "stop" not in run.method and run.validation == "all"}
    of = {"Baseline": 5, "SupTC": 5, "SemiTC": 4, "SemiTC+": 5}  # Table 1 has 19 cells
    assert {method: sum(m == method for m, _ in cells) for method in of} == of
    for validation in ("all", "matched"):
        assert {run.split for run in runs if run.validation == validation} == {0, 1, 2, 3, 4}
    table_2 = {(run.method, run.labels) for run in runs if run.validation == "matched"}
    assert {("Baseline", 10), ("SemiTC+", 10), ("Baseline", 100), ("SemiTC+", 100)} <= table_2


def test_the_reports_protocol():
    """What Malfliet & Bakker 2021 say in Section 3, in paper.yaml; epochs are of 32 and of 383 batches."""
    config = params.load(ROOT / "params/cifar10/paper.yaml")[1]
    assert (config.labels, config.unlabelled, config.validation, config.batch_size) == (4000, 45000, 1000, 128)
    assert (config.supervised_learning_rate, config.semi_learning_rate) == (0.001, [0.001])
    assert config.two_step_learning_rate == [0.00001]
    assert (config.steps_supervised, config.steps_early, config.steps_semi) == (120 * 32, 25 * 32, 120 * 383)
    assert (config.width, config.dropout, config.norm_momentum, config.consistency_weight) == (1.0, 0.5, 0.01, 1.0)
    assert (config.labelled_per_batch, config.keep) == (0, "last")
    cells = {(run.transform, run.method) for run in cifar10.grid(config) if run.mode == "legacy"}
    assert len(cells) == 12


def test_the_protocol_of_the_learned_augmentation():
    """What Chaitanya et al. 2019 say in Sections 3.3, 3.4 and 4, in paper.yaml; warm-up and alpha are the release's."""
    config = params.load(ROOT / "params/acdc/paper.yaml")[1]
    assert (config.phase, config.size, config.width, config.norm_momentum) == ("ES", 224, 16, 0.01)
    assert (config.labels, config.splits, len(config.seeds)) == ([1, 3], [1, 2, 3, 4, 5], 3)
    assert (config.lambda_adv, config.lambda_big, config.batch_size, config.learning_rate) == (1.0, 0.001, 20, 0.001)
    assert (config.steps_generator, config.warm_up, config.steps, config.mixup_alpha) == (10000, 400, 10000, 0.1)
    assert set(TABLE_1) == set(config.methods)
    assert len(TABLE_1) == 13


def test_the_protocol_of_translation():
    """What Vorontsov et al. 2019 say in Section 4.1 and Appendix A, in paper.yaml; 59,500 images are the release's."""
    mnist, brats = (params.load(ROOT / f"params/{name}/paper.yaml")[1] for name in ("mnist", "brats"))
    for config in (mnist, brats):
        weights = (config.lambda_adv, config.lambda_rec, config.lambda_lat, config.lambda_cyc, config.lambda_seg)
        assert weights == (3.0, 50.0, 1.0, 50.0, 0.01)
        rates = (config.learning_rate, config.learning_rate_discriminator)
        assert (rates, config.batch_size, config.labelled_in_batch) == ((0.0001, 0.001), 20, 0)
        assert (config.label_share, len(config.seeds), len(config.methods)) == (0.01, 3, 4)
    assert (mnist.width, mnist.discriminator_width, mnist.discriminator_levels) == (32, 128, 3)  # Tables 2, 8
    assert (mnist.pairs[0], mnist.steps) == (59_500, 300 * 59_500 // 20)
    assert (brats.scale, brats.width, brats.levels) == (1, 16, 5)  # Table 5
    assert (brats.discriminator_width, brats.discriminator_levels) == (64, 4)  # Table 9, as released


@pytest.mark.parametrize("path", FILES, ids=name)
def test_every_run_of_a_grid_has_its_own_name(path):
    module, config = params.load(path)
    runs = module.grid(config)
    assert len({run.id for run in runs}) == len(runs)
    assert all(re.fullmatch(r"[\w+()=.-]*[\w)]", run.id) for run in runs)  # a file name on any system


@pytest.mark.parametrize("script", NOTEBOOKS, ids=name)
def test_the_notebook_has_the_same_parameters(script):
    source, values = parameters_cell(script)
    folder = NOTEBOOKS[script]
    module, config = params.load(ROOT / f"params/{folder}/smoke.yaml")
    assert values == config.model_dump()
    assert list(values) == list(yaml.safe_load((ROOT / f"params/{folder}/smoke.yaml").read_text(encoding="utf-8")))
    for path in files_of(folder):
        assert list(yaml.safe_load(path.read_text(encoding="utf-8"))) == list(values), path.name
    uncommented = [line for line in source.splitlines() if line.strip() and "  # " not in line]
    assert not uncommented


# ---- what is refused ----


def refused(path, *texts):
    helpers.refused(lambda: params.load(path), path, *texts)


def edited(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    return path


def test_the_unedited_file_is_taken(params_file):
    module, config = params.load(params_file())
    assert module is experiment
    assert (config.profile, config.width) == ("tiny", 4)


def test_an_unknown_key(params_file):
    path = params_file(widht=4)
    refused(path, f"{path}: widht: expected one of profile, data", "found an unknown key")


@pytest.mark.parametrize("key", ["width", "profile", "amplitude", "splits"])
def test_a_missing_key(params_file, key):
    path = params_file(**{key: None})
    refused(path, f"{path}: {key}: expected a value, found none")


def test_1e_3(params_file):
    path = edited(params_file(), "learning_rate: 1.0", "learning_rate: 1e-3")
    refused(path, f"{path}: learning_rate: ", "'1e-3'", "text", "0.001")


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("width: 4", "width: '4'", "width"),
        ("width: 4", "width: 4.0", "width"),
        ("width: 4", "width: true", "width"),
        ("width: 4", "width: 0", "width"),
        ("width: 4", "width:", "width"),
        (AMPLITUDE, "amplitude: 2.0\n", "amplitude"),
        (AMPLITUDE, "amplitude: [.nan]\n", "amplitude.0"),
        (AMPLITUDE, "amplitude: two\n", "amplitude"),
        (AMPLITUDE, "amplitude: [2.0, -1.0]\n", "amplitude.1"),
        (AMPLITUDE, "amplitude: [2.0, x]\n", "amplitude.1"),
        (AMPLITUDE, "amplitude: [[2.0]]\n", "amplitude.0"),
        (AMPLITUDE, "amplitude: []\n", "amplitude"),
        ("matched_validation_labels: []", "matched_validation_labels: 2", "matched_validation_labels"),
        ("matched_validation_labels: []", "matched_validation_labels: [0]", "matched_validation_labels.0"),
        ("labels:\n- 2\n", "labels: 2\n", "labels"),
        ("labels:\n- 2\n", "labels: [2, x]\n", "labels.1"),
        ("labels:\n- 2\n", "labels: [2, 2.5]\n", "labels.1"),
        ("splits:\n- 0\n", "splits: [5]\n", "splits.0"),
        ("- SemiTC+", "- SemiTC++", "methods.1"),
        ("data: phantom", "data: mnist", "data"),
        ("order: 0", "order: 3", "order"),
        ("batch_size: 4", "batch_size: 3", "batch_size"),
        ("optimiser: adadelta", "optimiser: sgd", "optimiser"),
    ],
)
def test_a_value_of_the_wrong_kind(params_file, old, new, key):
    path = edited(params_file(), old, new)
    refused(path, f"{path}: {key}: expected ", "found ")


def smoke(name, folder, change):
    """params/<name>/smoke.yaml, changed, as a file of its own."""
    path = folder / name / "smoke.yaml"
    path.parent.mkdir()
    path.write_text(change((ROOT / f"params/{name}/smoke.yaml").read_text(encoding="utf-8")), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_a_key_that_stands_twice(tmp_path, name):
    """yaml/pyyaml #165: the last one would count."""
    path = smoke(name, tmp_path, lambda text: text + "\nthreads: 2\n")
    lines = path.read_text(encoding="utf-8").splitlines()
    first, second = (i for i, line in enumerate(lines, start=1) if line.startswith("threads:"))
    text = f"{path}: threads: expected each key once, found it in line {first} and in line {second}"
    refused(path, text)
    path.write_text(path.read_text(encoding="utf-8").replace("\nthreads: 2\n", "\n'threads': 2\n"))
    refused(path, text)


@pytest.mark.parametrize("name", sorted(PROFILES))
@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "1.0e+999"])
def test_no_number_may_be_infinite(tmp_path, name, value):
    """Of any experiment, alone or in a list: a network would diverge at once."""
    text = (ROOT / f"params/{name}/smoke.yaml").read_text(encoding="utf-8")
    keys = re.findall(r"^(\w+): \[?-?\d+\.\d+(?:,[^]]*)?\]?(?= *(?:#.*)?$)", text, flags=re.MULTILINE)
    assert len(keys) >= 2
    for i, key in enumerate(keys):
        (tmp_path / str(i)).mkdir()
        path = smoke(
            name,
            tmp_path / str(i),
            lambda text, key=key: re.sub(rf"(?m)^{key}: (\[?)[-\d.]+", rf"{key}: \g<1>{value}", text),
        )
        refused(path, f"{path}: {key}")


def test_values_that_do_not_fit_together(params_file):
    refused(params_file(labels=[2, 7]), ": labels: expected at most train_images = 6, found 7")
    refused(params_file(stop_gradient_labels=[9]), ": stop_gradient_labels: expected at most train_images = 6, found 9")
    too_many = ": matched_validation_labels: expected at most train_images = 6, found 8"
    refused(params_file(matched_validation_labels=[2, 8]), too_many)
    beside = params_file(matched_validation_labels=[2], amplitude=[1.0, 4.0])
    refused(beside, ": amplitude: expected one, or several with one count of labels and no Table 2, found several")
    refused(params_file(labels=[2, 4], amplitude=[1.0, 4.0]), ": amplitude: expected one, or several with one count")
    refused(params_file(amplitude=[1.0, 4.0, 1]), ": amplitude: expected each value once, found [1.0, 4.0, 1.0]")
    refused(params_file(size=34), ": size: expected ", "2^(levels - 1) = 4", "found 34")


@pytest.mark.parametrize(
    "changed",
    [
        {"splits": [0, 0]},
        {"seeds": [1, 2, 1]},
        {"methods": ["SupTC", "SupTC"]},
        {"matched_validation_labels": [2, 2]},
        {"amplitude": [1.0, 1.0]},
    ],
)
def test_a_list_that_names_something_twice(params_file, changed):
    """Refused, or each run once: twice would be two equal rows in scores.csv."""
    try:
        runs = experiment.grid(params.load(params_file(**changed))[1])
    except BadInput:
        return
    assert len({run.id for run in runs}) == len(runs)


@pytest.mark.parametrize("key", ["splits", "labels", "methods", "seeds", "amplitude"])
def test_a_grid_of_nothing(params_file, key):
    refused(params_file(**{key: []}))


@pytest.mark.parametrize("key", ["1", "null", "yes", "[a, b]"])
def test_a_key_that_is_no_word(params_file, key):
    path = params_file()
    path.write_text(path.read_text() + f"{key}: 3\n")
    refused(path)


@pytest.mark.parametrize(
    "text", ["profile: [", "a: b: c", "\tx: 1", "a: 'b", "profile: !!python/object:os.system x", "%"]
)
def test_broken_yaml(params_file, text):
    path = params_file()
    path.write_text(text)
    refused(path, f"{path}: expected YAML, found ")


def test_bytes_that_are_no_text(params_file):
    path = params_file()
    path.write_bytes(b"profile: \xff\xfe\x00")
    refused(path, "expected YAML")


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n- b\n", "just words", "3"])
def test_yaml_that_holds_no_keys(params_file, text):
    path = params_file()
    path.write_text(text)
    refused(path, "expected keys with values")


def test_files_that_are_not_there(params_file, tmp_path):
    params_file()
    refused(tmp_path / "jsrt" / "nowhere.yaml", "expected a parameter file, found No such file")
    refused(tmp_path / "jsrt", "expected ")  # a folder
    (tmp_path / "jsrt" / "folder.yaml").mkdir()
    refused(tmp_path / "jsrt" / "folder.yaml", "expected a parameter file")


@pytest.mark.parametrize("folder", ["elsewhere", "v1.0", "jsrt.old", "a b"])
def test_a_folder_that_names_no_experiment(params_file, tmp_path, folder):
    path = tmp_path / folder / "tiny.yaml"
    path.parent.mkdir()
    path.write_text(params_file().read_text())
    refused(path, "expected a folder named after an experiment", repr(folder))


def test_a_relative_path(params_file, monkeypatch):
    path = params_file()
    monkeypatch.chdir(path.parent)
    assert params.load(path.name)[1].profile == "tiny"
