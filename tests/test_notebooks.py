"""Scripts and their generated notebooks. That the notebooks run, and say what they said, is nbval's part."""

import ast
import base64
import io
import json

import jupytext
import nbformat
import numpy as np
import papermill
import pytest
import torch
from conftest import FEW_STEPS
from ipykernel.ipkernel import IPythonKernel
from jupyter_client.kernelspec import get_kernel_spec
from PIL import Image

from fewlabels import plots
from fewlabels.engine import params
from fewlabels.engine.notebooks import execute, parameters, read, shrink
from fewlabels.files import palette
from fewlabels.papers.bortsova2019 import jsrt
from fewlabels.papers.chaitanya2019 import acdc
from fewlabels.papers.gao2021 import isic, oar
from fewlabels.papers.tudelft2021 import cifar10
from fewlabels.papers.vorontsov2019 import brats, mnist
from fewlabels.paths import CHECKOUT

FOLDER = CHECKOUT / "notebooks"
SCRIPTS = sorted(FOLDER.glob("*.py"))
SWEEPS = {  # and whose config their parameters cell is
    path: experiment
    for path in SCRIPTS
    for start, experiment in {
        "bortsova2019_table": jsrt,
        "bortsova2019_amplitude": jsrt,
        "tudelft2021_table": cifar10,
        "chaitanya2019_table": acdc,
        "gao2021_isic": isic,
        "gao2021_oar": oar,
        "vorontsov2019_mnist": mnist,
        "vorontsov2019_brats": brats,
    }.items()
    if path.stem.startswith(start)
}
PARAMS = sorted(FOLDER.parent.glob("params/*/*.yaml"))


def test_every_script_has_its_notebook_and_no_other_is_there():
    assert len(SCRIPTS) >= 2
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == {path.stem for path in SCRIPTS}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_notebook_has_the_sources_of_its_script(script):
    from_script = jupytext.read(script).cells
    from_notebook = json.loads(script.with_suffix(".ipynb").read_text(encoding="utf-8"))["cells"]
    assert [cell.source for cell in from_script] == ["".join(cell["source"]) for cell in from_notebook]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_jupyterlab_saves_a_notebook_and_its_script_as_they_are(script):
    """It sets kernelspec and language_info when it opens one; its jupytext writes both files when it saves."""
    stored = script.with_suffix(".ipynb").read_text(encoding="utf-8")
    notebook = nbformat.reads(stored, as_version=4)
    spec, language = get_kernel_spec("python3"), dict(notebook.metadata.language_info)
    named = {"name": "python3", "display_name": spec.display_name, "language": spec.language}
    assert notebook.metadata.kernelspec == named
    assert language == IPythonKernel.language_info | {"version": language["version"]}
    assert jupytext.writes(notebook, "ipynb") + "\n" == stored
    assert jupytext.writes(notebook, "py:percent") == script.read_text(encoding="utf-8")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_notebook_was_executed_to_its_end_without_an_error(script):
    notebook = json.loads(script.with_suffix(".ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code)
    assert not [out for cell in code for out in cell["outputs"] if out["output_type"] == "error"]
    checked = [cell for cell in code if "NBVAL_CHECK_OUTPUT" in "".join(cell["source"])]
    assert checked, "nbval --nbval-lax compares marked cells only"
    assert all(cell["outputs"] for cell in checked)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_no_exit_in_a_notebook(script):
    names = {node.id for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))) if isinstance(node, ast.Name)}
    assert not names & {"exit", "quit", "SystemExit"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_what_every_notebook_does_is_one_call(script):
    """Figures: plots.save; networks: show.trained; verdicts: show.verdicts."""
    tree = ast.walk(ast.parse(script.read_text(encoding="utf-8")))
    named = {getattr(node, "attr", None) for node in tree}
    assert not named & {"savefig", "network_of"}
    assert '"verdict"' not in script.read_text(encoding="utf-8")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_cells_fit_a_screen(script):
    cells = [cell for cell in jupytext.read(script).cells if cell.cell_type == "code"]
    long = [cell.source for cell in cells if sum(map(bool, cell.source.splitlines())) > 18]
    assert [source.splitlines()[0] for source in long if not source.startswith("profile = ")] == []


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*_method.py")), ids=lambda path: path.stem)
def test_the_cells_for_your_own_images_run_alone(script):
    """README calls them cells to start from: they can be copied to where nothing else of the notebook is."""
    cells = jupytext.read(script).cells
    at = next(i for i, cell in enumerate(cells) if cell.source.startswith("## Your own images"))
    with torch.random.fork_rng():
        exec("\n".join(cell.source for cell in cells[at + 1 :]), {})


@pytest.mark.parametrize("script", SWEEPS, ids=lambda path: path.stem)
def test_notebooks_of_sweeps_take_exactly_the_config(script):
    values = parameters(jupytext.read(script))
    config = SWEEPS[script].Config(**values)
    assert values == config.model_dump()
    assert script.stem in SWEEPS[script].notebooks(config)  # and show what they run by themselves


@pytest.mark.parametrize("path", PARAMS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_notebooks_of_a_parameter_file_are_there(path):
    experiment, config = params.load(path)
    names = experiment.notebooks(config)
    assert names
    assert {SWEEPS.get(FOLDER / f"{name}.py") for name in names} == {experiment}
    assert all((FOLDER / f"{name}.ipynb").exists() for name in names)


@pytest.mark.parametrize("path", [path for path in PARAMS if path.parent.name == "jsrt"], ids=lambda path: path.stem)
def test_which_notebooks_of_bortsova_2019(path):
    config = params.load(path)[1]
    names = jsrt.notebooks(config)
    several = len(config.amplitude) > 1
    assert ("bortsova2019_amplitude" in names) == several
    assert ("bortsova2019_table1" in names) != several
    assert ("bortsova2019_table2" in names) == bool(config.matched_validation_labels)
    if not several:
        assert names[0] == "bortsova2019_table1"  # the same order everywhere: 2 shows what 1 has begun


@pytest.mark.parametrize("name", FEW_STEPS)
def test_a_notebook_that_trains_for_long_runs_with_few_steps(name, results):
    notebook = read(FOLDER / f"{name}.py")
    assert FEW_STEPS[name].keys() <= parameters(notebook).keys()
    options = {"kernel_name": "python3", "cwd": CHECKOUT, "progress_bar": False}
    notebook = papermill.execute_notebook(notebook, None, parameters=FEW_STEPS[name], **options)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) > 1


def write_script(path, *cells):
    path.write_text("\n\n".join(['# %% tags=["parameters"]\nsteps = 3', *(f"# %%\n{cell}" for cell in cells)]) + "\n")
    return path


def test_execute_refuses_a_key_the_notebook_lacks(tmp_path):
    script = write_script(tmp_path / "x.py", "print(steps)")
    with pytest.raises(ValueError, match=r"x\.py: stepz: .* found a parameter it does not have"):
        execute(script, tmp_path / "out.ipynb", {"steps": 1, "stepz": 2})
    assert not (tmp_path / "out.ipynb").exists()


def test_execute_injects_values_and_leaves_nothing_but_the_notebook(tmp_path):
    script = write_script(tmp_path / "x.py", "print(steps + 1)")
    execute(script, tmp_path / "out" / "x.ipynb", {"steps": 41})
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x.ipynb"]
    assert '"42\\n"' in (tmp_path / "out" / "x.ipynb").read_text()


@pytest.mark.parametrize("cell", ["raise SystemExit", "1 / 0"])
def test_execute_fails_where_a_cell_does(tmp_path, cell):
    script = write_script(tmp_path / "x.py", cell, "print('after')")
    with pytest.raises(Exception, match=r"expected status completed|ZeroDivisionError|SystemExit"):
        execute(script, tmp_path / "out.ipynb", {"steps": 1})
    assert not (tmp_path / "out.ipynb").exists()


def test_pictures_are_stored_with_a_palette_and_look_the_same():
    ramp, noise = np.linspace(0, 235, 300), np.random.default_rng(0).integers(0, 20, (300, 200, 3))
    colours = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :200], 235 - ramp[:, None]), axis=-1)
    pixels = (colours + noise).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    before = base64.b64encode(file.getvalue()).decode()
    picture = nbformat.v4.new_output("display_data", {"image/png": before, "text/plain": "<Figure>"})
    text = nbformat.v4.new_output("stream", text="words")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[picture, text])])
    shrink(notebook)
    after = notebook.cells[0].outputs[0]["data"]["image/png"]
    assert len(after) < len(before)
    with Image.open(io.BytesIO(base64.b64decode(after))) as image:
        assert image.mode == "P"
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - pixels).mean() < 10
    assert notebook.cells[0].outputs[1].text == "words"
    shrink(notebook)  # once more changes nothing
    assert notebook.cells[0].outputs[0]["data"]["image/png"] == after


def test_a_palette_keeps_the_colours_of_thin_lines_beside_a_grey_picture():
    figure, axis = plots.plt.subplots(figsize=(4, 4))
    grey = np.linspace(0, 1, 200) + np.random.default_rng(0).normal(0, 0.1, (200, 200))
    plots.picture(axis, grey)
    for i, colour in enumerate(plots.OUTLINES):
        axis.plot([10, 190], [10 + 18 * i, 16 + 18 * i], color=colour, linewidth=1.2)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    plots.plt.close(figure)
    before, after = (
        np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
        for png in (file.getvalue(), palette(file.getvalue()))
    )
    for colour in np.round(np.array(plots.OUTLINES) * 255):
        of_line = (before == colour).all(-1)
        assert of_line.sum() > 100
        assert np.abs(after[of_line] - colour).max() <= 4
    assert np.abs(after - before).mean() < 3
