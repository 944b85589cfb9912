"""What of the plugin repeats something that stands elsewhere."""

from __future__ import annotations

import ast
import pathlib
import tomllib

import pytest

from bandwidth_api import kinds, names
from bandwidth_api.kinds import Kind
from bandwidth_cli import release
from bandwidth_cli.command_line import parser
from bandwidth_cli.kubectl import paths
from bandwidth_cli.objects import limits
from bandwidth_cli.verbs import completion

ROOT = pathlib.Path(__file__).resolve().parents[3]


def test_the_version_is_that_of_the_package() -> None:
    """The single file has no metadata to read it from."""
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == release.VERSION


def test_paths_and_names_are_those_of_the_api_package() -> None:
    """Which loads every kind that there is, and more than a call needs."""
    assert Kind.LIMIT.path == paths.LIMITS
    assert Kind.STATE.path == paths.STATES
    assert Kind.NODE.path == paths.NODES
    assert paths.QUERIES == kinds.QUERIES_PATH
    assert paths.TRAFFIC == kinds.TRAFFIC_PATH
    assert paths.API_VERSION == names.API_VERSION
    assert limits.KIND == names.LIMIT_KIND
    assert f"clientbandwidthlimit.{names.GROUP}" == limits.FULL_NAME
    assert limits.MADE_BY.startswith(names.GROUP)


@pytest.mark.parametrize("shell", completion.SCRIPTS)
def test_a_script_for_each_shell(shell: str) -> None:
    """Each asks the plugin itself, so that none of them knows a verb."""
    text = completion.SCRIPTS[shell]
    assert "kubectl-cbl __complete" in text
    assert not any(f" {verb} " in text.replace("completion", "") for verb in parser.VERBS if verb != "list")


def test_the_beginning_of_the_single_file_can_be_read_by_older_pythons() -> None:
    """Which are there as `python3` on many a server: it says then which one is needed, and no syntax error does."""
    text = (ROOT / "cli" / "bandwidth_cli" / "single_file.py").read_text()
    tree = ast.parse(text, feature_version=(3, 6))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    annotations = [
        each.annotation for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for each in node.args.args
    ]
    annotations += [node.returns for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert all(isinstance(each, ast.Name | ast.Constant) for each in annotations)  # none that an older one evaluates
