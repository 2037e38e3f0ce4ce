"""Every function of the library says what it takes and returns, by its source; whether that is true, mypy says."""

import ast
from pathlib import Path

import pytest

import fewlabels

ROOT = Path(fewlabels.__file__).parent
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
TRITON = "warps/gpu_kernels.py"  # programs, whose annotations are Triton's


def untyped(source, name="module"):
    """`function: what has no annotation`, of all functions in `source` and in each other; lambdas cannot have any."""
    found = []
    for node in ast.walk(ast.parse(source, name)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        given = node.args
        every = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
        bare = [arg.arg for arg in every if arg is not None and arg.annotation is None]
        bare = bare[1:] if bare[:1] in (["self"], ["cls"]) else bare
        bare += ["return"] if node.returns is None else []
        found += [f"{name}:{node.lineno} {node.name}: {', '.join(bare)}"] if bare else []
    return found


@pytest.mark.parametrize("module", MODULES)
def test_functions_are_typed(module):
    found = untyped((ROOT / module).read_text(encoding="utf-8"), module)
    assert not found if module != TRITON else found


@pytest.mark.parametrize(
    ("source", "bare"),
    [
        ("def f(x: int) -> int: ...", []),
        ("def f(x: int): ...", ["m:1 f: return"]),
        ("def f(x, *, y: int = 1) -> int: ...", ["m:1 f: x"]),
        ("def f(*x, **y) -> int: ...", ["m:1 f: x, y"]),
        ("class A:\n  def f(self, x) -> int: ...", ["m:2 f: x"]),
        ("class A:\n  @classmethod\n  def f(cls) -> int: ...", []),
        ("def f() -> int:\n  async def g(): ...", ["m:2 g: return"]),
        ("def f(x, self) -> int: ...", ["m:1 f: x, self"]),
    ],
)
def test_an_untyped_function_is_found(source, bare):
    assert untyped(source, "m") == bare


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "py.typed").is_file()
