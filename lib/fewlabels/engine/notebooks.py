"""Runs notebooks through papermill, strictly: nothing unknown goes in, nothing half-done comes out as success."""

import ast
import base64
import json
import time
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import papermill
from nbclient import NotebookClient

from fewlabels.data.cohort import STAND_INS
from fewlabels.engine import params, report, sweep, unchanged
from fewlabels.engine.protocols import Experiment
from fewlabels.engine.sweep import folder_of
from fewlabels.errors import BadInput
from fewlabels.files import palette, whole, writable, write_text
from fewlabels.paths import CHECKOUT


def read(source: Path) -> Any:
    """A percent script as a notebook that papermill and nbclient can run (both want to know the language)."""
    notebook = jupytext.read(source)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    return notebook


def parameters(notebook: Any) -> dict[str, Any]:
    """The literals of the cell tagged `parameters`, by name."""
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise BadInput("notebook", "one cell tagged `parameters`", f"{len(cells)}")
    assignments = ast.parse(cells[0].source).body
    return {statement.targets[0].id: ast.literal_eval(statement.value) for statement in assignments}


def run_all(params_file: Path | str, begun: float | None = None) -> tuple[Path, Experiment, dict[str, str]]:
    """Executes the notebooks that show what a parameter file runs (`experiment.notebooks`), with its values.

    The runs are done here, with a bar at the terminal, but for "smoke", of which a notebook does two; the notebooks
    find them stored. `begun`: when (`time.monotonic`) this process began, with its imports.

    Returns the result folder, the experiment and `{run id: message}` of the runs that failed. Raises BadInput for
    parameters that the Config or a notebook does not take, and what a cell raised.
    """
    begun = begun or time.monotonic()
    experiment, config = params.load(params_file)
    cohort = experiment.load(config)
    print(f"Data: {cohort.meta['data']}: {cohort.meta['source']}", flush=True)
    folder = folder_of(experiment, config, cohort)
    scripts = [CHECKOUT / "notebooks" / f"{name}.py" for name in experiment.notebooks(config)]
    for source in scripts:
        check(source, config.model_dump())
    if config.profile != "smoke" or not scripts:
        each = 2 * (time.monotonic() - begun)  # a notebook begins with imports and data too, then draws as long
        sweep.sweep(experiment, config, cohort, folder, after=each * len(scripts))
    if not scripts:  # a paper without any has its tables all the same
        report.write(experiment, config, cohort, folder)
    del cohort
    for source in scripts:
        print(f"Figures and verdicts: notebooks/{source.name}", flush=True)
        execute(source, folder / f"{source.stem}.ipynb", config.model_dump())
    holes = {run.id: folder / "failed" / f"{run.id}.json" for run in experiment.grid(config)}
    failed = {run: json.loads(path.read_text())["error"] for run, path in holes.items() if path.exists()}
    if config.data in STAND_INS and not failed:  # other data may change
        unchanged.stamp(folder, Path(params_file), getattr(experiment, "BEST", ""))
    return folder, experiment, failed


def check(source: Path, values: dict[str, Any]) -> None:
    """Does a percent script take these parameters, and no others? Raises BadInput."""
    for key in {*values} ^ {*parameters(read(source))}:
        found = "a parameter it does not have" if key in values else "no value"
        raise BadInput(f"{source.name}: {key}", "the same keys in parameters cell and parameter file", found)


def execute(source: Path, target: Path, values: dict[str, Any]) -> Path:
    """Runs one percent script with parameter values into `target`, from the repository's root."""
    check(source, values)
    notebook = read(source)
    with writable(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    with whole(target) as unfinished:
        try:
            options = {"kernel_name": "python3", "cwd": CHECKOUT, "progress_bar": False}
            options["extra_arguments"] = ["--log-level=CRITICAL"]  # of the kernel: it speaks at the terminal of itself
            done = papermill.execute_notebook(notebook, f"{unfinished}.ipynb", parameters=values, **options)
        except papermill.PapermillExecutionError as error:
            if error.ename == "BadInput":  # one line for the user, not the kernel's traceback
                raise BadInput.from_line(error.evalue) from None
            if error.ename == "KeyboardInterrupt":  # the kernel heard of it first
                raise KeyboardInterrupt from None
            raise
        finally:
            Path(f"{unfinished}.ipynb").unlink(missing_ok=True)
        for number, cell in enumerate(done.cells):  # a SystemExit in a cell leaves the rest pending, without an error
            status = cell.metadata.get("papermill", {}).get("status")
            if cell.cell_type == "code" and status != "completed":
                raise RuntimeError(f"{source.name}: cell {number}: expected status completed, found {status}")
        shrink(done)
        done.metadata.pop("jupytext", None)  # a record of a run: no script belongs beside it
        done.metadata.papermill |= {"input_path": source.name, "output_path": target.name}  # no path of this machine
        unfinished.write_text(nbformat.writes(done) + "\n", encoding="utf-8")
    for figure in target.parent.glob("*.png"):
        with whole(figure) as smaller:
            smaller.write_bytes(palette(figure.read_bytes()))
    return target


def shrink(notebook: Any) -> None:
    """Stores a notebook's pictures with a palette."""
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        if png := output.get("data", {}).get("image/png"):
            output["data"]["image/png"] = base64.b64encode(palette(base64.b64decode(png))).decode() + "\n"


def build(source: Path) -> None:
    """`notebooks/x.py` -> `notebooks/x.ipynb`, executed with its own parameters, its outputs kept.

    Results go where FEWLABELS_RESULTS says. Nothing of the machine or the moment stays in the file but Python's
    version, so that building twice on one kind of machine gives the same bytes but for the pictures' and the timings'
    own differences. The file is what JupyterLab would write: it finds nothing to change when it opens one.
    """
    notebook = read(source)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # jupytext's are random
    NotebookClient(notebook, timeout=3600, kernel_name="python3", resources={"metadata": {"path": CHECKOUT}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if "outputs" in cell:  # progress bars and warnings are of the moment
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    shrink(notebook)
    write_text(source.with_suffix(".ipynb"), jupytext.writes(notebook, "ipynb") + "\n")


if __name__ == "__main__":
    for script in sorted((CHECKOUT / "notebooks").glob("*.py")):
        build(script)
        print(script.with_suffix(".ipynb").relative_to(CHECKOUT))
