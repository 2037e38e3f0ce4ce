"""What the pages point to is there, and their examples run."""

import re
import tomllib
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
import yaml
from markdown_it import MarkdownIt
from sklearn.metrics import jaccard_score

from fewlabels.paths import CHECKOUT

PAGES = [
    *(CHECKOUT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "results/LEDGER.md")),
    *sorted((CHECKOUT / "docs").glob("*.md")),
]
MARKDOWN = MarkdownIt("commonmark").enable("table")


def inline(page):
    """The tokens of a page's running text, with those of headings marked."""
    tokens = MARKDOWN.parse(page.read_text(encoding="utf-8"))
    for before, token in zip([None, *tokens], tokens):
        if token.type == "inline":
            yield bool(before and before.type == "heading_open"), token


def links(page):
    for _, token in inline(page):
        for child in token.children:
            if target := child.attrGet("href") or child.attrGet("src"):
                yield target


def anchors(page):
    """As GitHub makes them: letters, digits, - and _ of a heading's text, spaces as -."""
    texts = ["".join(c.content for c in token.children) for heading, token in inline(page) if heading]
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}


def broken(page):
    for link in links(page):
        if not re.match(r"[a-z]+:", link):
            path, _, anchor = link.partition("#")
            target = (page.parent / unquote(path)).resolve() if path else page
            if not target.exists() or CHECKOUT not in [target, *target.parents]:
                yield link
            elif anchor and anchor not in anchors(target):
                yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(CHECKOUT).as_posix())
def test_every_relative_link_and_anchor_of_a_page_leads_somewhere(page):
    assert [*links(page)] or page.name == "CHANGELOG.md"
    assert not [*broken(page)]


def test_broken_links_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.CHECKOUT", tmp_path)
    (tmp_path / "other.md").write_text("# A `title`, said: 2-D\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md) [b](other.md#a-title-said-2-d) [c](https://example.org/x)\n\n"
        "| ![d](none.png) |\n|---|\n| [e](other.md#none) [f](../x) [g](#here) |\n\n`[h](none)`\n\n```\n[i](none)\n```\n"
    )
    assert [*broken(page)] == ["none.png", "other.md#none", "../x", "#here"]


def test_every_page_is_reached_from_readme():
    reached, ahead = set(), [CHECKOUT / "README.md"]
    while ahead:
        page = ahead.pop()
        reached.add(page)
        for link in links(page):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target.is_file() and target not in reached:
                ahead.append(target)
            if target.is_dir() and (target / "README.md") not in reached and (target / "README.md").is_file():
                ahead.append(target / "README.md")
    assert {*PAGES} <= reached


def test_every_notebook_is_named_in_the_papers_page():
    page = Path(CHECKOUT / "docs/papers.md")
    named = {Path(link).stem for link in links(page) if link.endswith(".ipynb")}
    assert named == {path.stem for path in (CHECKOUT / "notebooks").glob("*.ipynb")}


def code(page):
    """The only block of Python of a page."""
    text = (CHECKOUT / page).read_text(encoding="utf-8")
    [block] = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return block


def miou(prediction, truth):
    """In %, by scikit-learn: of each subject and structure, then the mean of all."""
    pairs = zip(prediction.flatten(1), truth.flatten(1), strict=True)
    return 100 * np.mean([jaccard_score(t, p, labels=range(1, 6), average=None) for p, t in pairs])


def test_readmes_example_runs_as_it_stands_and_learns(capsys):
    """More than what five masks say by themselves: at each pixel the class that most of them have there."""
    named = {}
    with torch.random.fork_rng():
        exec(code("README.md"), named)
    supervised, semi_supervised = named["supervised"], named["semi_supervised"]
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"mIoU {supervised:.0f} % after stage 1, {semi_supervised:.0f} % after stage 2"
    assert second == "classes predicted too often or too rarely: none"
    parts = [{*named[part].tolist()} for part in ("labelled", "unlabelled", "test")]
    assert len(set.union(*parts)) == sum(map(len, parts)) == len(named["images"])

    truth = named["chests"].labels[named["test"]]
    usual = miou(named["chests"].labels[named["labelled"]].mode(0).values.expand(truth.shape), truth)
    assert usual > 25
    assert supervised > usual + 8
    assert semi_supervised > usual + 15
    found = named["method"].predict(named["images"][named["test"]]).argmax(1)
    assert miou(found, truth) == pytest.approx(semi_supervised, abs=1e-3)


def test_the_example_of_warps_runs_as_it_stands():
    named = {}
    with torch.random.fork_rng():
        exec(code("docs/warps.md"), named)
    assert named["y1"].dtype == torch.int64
    assert {*named["y1"].unique().tolist()} == {0, 1, 2}
    for name in ("x1", "same", "tilted"):
        assert named[name].shape == (1, 1, 256, 256)
        assert named[name].isfinite().all()


@pytest.mark.parametrize(
    "form", sorted((CHECKOUT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda form: form.stem
)
def test_issue_forms_are_in_the_form_that_github_takes(form):
    """github.com/en/communities, "Syntax for issue forms": a form with a mistake is not shown at all."""
    found = yaml.safe_load(form.read_text(encoding="utf-8"))
    if form.stem == "config":
        assert found == {"blank_issues_enabled": True}
        return
    assert {*found} == {"name", "description", "labels", "body"}
    ids = [field["id"] for field in found["body"]]
    assert len({*ids}) == len(ids) > 2
    for field in found["body"]:
        assert {*field} <= {"type", "id", "attributes", "validations"}
        own = {"input": set(), "textarea": {"render"}, "dropdown": {"options"}}[field["type"]]
        assert {"label"} <= {*field["attributes"]} <= {"label", "description"} | own
        assert field.get("validations", {"required": True}) == {"required": True}
        assert all(isinstance(option, str) for option in field["attributes"].get("options", []))


def test_the_version_is_the_same_everywhere():
    version = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert yaml.safe_load((CHECKOUT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version
    assert re.search(r"^## (\S+)", (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[1] == version
