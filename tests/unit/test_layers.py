"""What import-linter cannot say: the vocabulary stands on the standard library and pydantic, and on nothing else."""

from __future__ import annotations

import ast
import functools
import pathlib
import sys

import pytest

import bandwidth_api

ROOT = pathlib.Path(__file__).resolve().parents[2]
ALLOWED = sys.stdlib_module_names | {"bandwidth_api", "pydantic", "pydantic_core"}
MODULES = sorted(pathlib.Path(bandwidth_api.__path__[0]).glob("**/*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_vocabulary_imports_the_standard_library_and_pydantic_only(path: pathlib.Path) -> None:
    """A module of bandwidth_api that needs another package fails here."""
    assert imported(path) <= ALLOWED


@functools.cache
def imported(path: pathlib.Path) -> set[str]:
    """The names of the packages that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


FOLDERS = ("api", "kube", "runtime", "sight", "agent", "operator", "cli", "tests/lab", "bench", "pages")


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_stands_on_the_demo(folder: str) -> None:
    """And no program stands on the laboratory: both can go without anything that is shipped."""
    modules = list((ROOT / folder).glob("**/*.py"))
    assert modules
    found = set().union(*map(imported, modules))
    assert "bandwidth_demo" not in found
    assert "bandwidth_lab" not in found or folder in ("tests/lab", "bench")
