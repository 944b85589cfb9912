"""The workflows on GitHub: what runs there is pinned, may do no more than it needs, and can be run here."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
TARGETS = set(re.findall(r"(?m)^([a-z0-9-]+)(?: [a-z ]+)?:.*## ", (ROOT / "Makefile").read_text()))


def workflow(path: pathlib.Path) -> dict[str, Any]:
    """A workflow; the key `on` is YAML 1.1's true."""
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def test_the_workflows_are_there() -> None:
    """Tests, release, and pages."""
    assert [path.stem for path in FILES] == ["docs", "release", "test"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_actions_are_pinned(path: pathlib.Path) -> None:
    """Each by a whole commit, with its version for people."""
    used = re.findall(r"uses: *(.*)$", path.read_text(), re.MULTILINE)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_right_is_given_to_all_jobs(path: pathlib.Path) -> None:
    """A job has those that it names, and may write nothing where it only tests."""
    of = workflow(path)
    assert of["permissions"] == {}
    for job in of["jobs"].values():
        assert job["permissions"]
        assert job["timeout-minutes"] <= 150
        if path.stem == "test":
            assert set(job["permissions"].values()) == {"read"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nothing_is_run_that_is_only_there(path: pathlib.Path) -> None:
    """Every target of make that a workflow calls is one of the Makefile."""
    steps = [step for job in workflow(path)["jobs"].values() for step in job["steps"]]
    called = {name for step in steps for name in re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))}
    assert called <= TARGETS
