"""The examples are what a new user copies: each must be accepted, and all of them together."""

from __future__ import annotations

import pathlib
import time

import pytest
import yaml

from bandwidth_api import names, plan
from bandwidth_api.compiler import compile as compiler
from bandwidth_api.crds import limit, policy

FILES = sorted((pathlib.Path(__file__).resolve().parents[2] / "examples").glob("*.yaml"))


def documents() -> list[object]:
    return [document for path in FILES for document in yaml.safe_load_all(path.read_text())]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_example_is_accepted_and_says_why_it_exists(path: pathlib.Path) -> None:
    """Every object of every example is a valid limit with a reason, or a policy with one, which begins in Observe."""
    for document in yaml.safe_load_all(path.read_text()):
        if document["kind"] == names.POLICY_KIND:
            allowed = policy.parse(document)
            assert isinstance(allowed, policy.Policy), allowed
            assert allowed.spec.then.reason
            assert allowed.spec.then.mode is plan.Mode.OBSERVE
            continue
        parsed = limit.parse(document)
        assert isinstance(parsed, limit.Limit), parsed
        assert parsed.spec.reason


def test_all_examples_can_be_in_force_at_once() -> None:
    """The examples compile to one plan with an entry for each, and show every mode but Disabled."""
    limits = [parsed for parsed in map(limit.parse, documents()) if isinstance(parsed, limit.Limit)]
    compiled = compiler.compile(limits, now=time.time())
    assert sorted(compiled.entries) == sorted(one.name for one in limits)
    assert {entry.mode for entry in compiled.entries.values()} == {plan.Mode.ENFORCE, plan.Mode.OBSERVE}
