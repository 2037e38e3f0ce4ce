"""Notebooks in JupyterLab, in a browser: opened, saved, run and closed, they and their scripts stay as git has them.

Needs Chromium (`apt install chromium`) and `pip install playwright`, which nothing else here does.
"""

import os
import shutil
import socket
import subprocess
import sys

import pytest

from fewlabels.paths import CHECKOUT

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NOTEBOOKS = sorted(path.stem for path in (CHECKOUT / "notebooks").glob("*.ipynb"))
RUN = "bortsova2019_amplitude"  # a sweep of the smallest kind
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine"),
    pytest.mark.skipif(not (CHECKOUT / ".git").exists(), reason="not a git checkout"),
]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """What is committed, as a user has it after `git clone`."""
    folder = tmp_path_factory.mktemp("lab") / "fewlabels"
    subprocess.run(["git", "clone", "--quiet", str(CHECKOUT), str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def lab(clone):
    """The address of a JupyterLab in the clone. Two minutes after a change it saves by itself: not here."""
    settings = clone.parent / "config/lab/user-settings/@jupyterlab/docmanager-extension/plugin.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"autosave": false}')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {f"JUPYTER_{name}_DIR": str(clone.parent / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    own |= {"HOME": str(clone.parent), "PYTHONPATH": str(clone / "lib")}
    theirs = {name: value for name, value in os.environ.items() if name != "FEWLABELS_RESULTS"}
    options = ["--no-browser", "--allow-root", f"--port={port}", "--IdentityProvider.token=", f"--notebook-dir={clone}"]
    with open(clone.parent / "log", "w") as log:
        command = [sys.executable, "-m", "jupyterlab", *options]
        server = subprocess.Popen(command, env=theirs | own, stdout=log, stderr=log)
    yield f"http://127.0.0.1:{port}/lab"
    server.terminate()
    server.wait()


@pytest.fixture(scope="module")
def page(lab):
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        page.set_default_timeout(300_000)
        for _ in range(600):  # until the server answers
            try:
                page.goto(lab)
                break
            except api.Error:
                page.wait_for_timeout(200)
        yield page
        browser.close()


def opened(page, lab, name):
    """A notebook whose kernel has said what it is: JupyterLab writes that into the notebook."""
    page.goto(f"{lab}/tree/notebooks/{name}.ipynb?reset")
    page.wait_for_selector(".jp-NotebookPanel .jp-CodeCell")
    page.wait_for_selector('text="Python 3 (ipykernel) | Idle"')


def closed(page):
    """Closed without saving, its kernel ended."""
    page.keyboard.press("Control+Shift+q")
    page.locator(".jp-Dialog button", has_text="Ok").click()
    page.wait_for_selector(".jp-NotebookPanel", state="detached")


def changed(clone):
    return subprocess.run(["git", "status", "--short"], cwd=clone, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_that_is_opened_or_saved_stays_as_it_is(page, lab, clone, name):
    opened(page, lab, name)
    page.wait_for_selector(".jp-mod-dirty", state="detached")  # the mark of a change, which is there while it loads
    with page.expect_response(lambda answer: answer.request.method == "PUT" and ".ipynb" in answer.url) as saved:
        page.keyboard.press("Control+s")
    assert saved.value.ok
    closed(page)
    assert changed(clone) == ""


def test_a_notebook_that_is_run_and_closed_leaves_nothing_in_git(page, lab, clone, tmp_path):
    opened(page, lab, RUN)
    page.locator(".lm-MenuBar-item", has_text="Run").click()
    page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()
    page.wait_for_selector('text="Python 3 (ipykernel) | Busy"')
    page.wait_for_selector('text="Python 3 (ipykernel) | Idle"', timeout=1_800_000)
    page.screenshot(path=tmp_path / "run.png")
    assert page.locator('[data-mime-type="application/vnd.jupyter.error"]').count() == 0
    closed(page)
    assert list(clone.glob("results/**/*smoke/amplitude.md"))
    assert changed(clone) == ""
