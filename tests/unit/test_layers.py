"""What import-linter cannot say: the vocabulary stands on the standard library and pydantic, and on nothing else."""

from __future__ import annotations

import ast
import pathlib
import sys

import pytest

import bandwidth_api

ALLOWED = sys.stdlib_module_names | {"bandwidth_api", "pydantic", "pydantic_core"}
MODULES = sorted(pathlib.Path(bandwidth_api.__path__[0]).glob("**/*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_vocabulary_imports_the_standard_library_and_pydantic_only(path: pathlib.Path) -> None:
    """A module of bandwidth_api that needs another package fails here."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.partition(".")[0])
    assert imported <= ALLOWED
