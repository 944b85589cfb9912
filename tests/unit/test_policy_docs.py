"""docs/reference/policy-fields.md keeps up with the CRD of policies."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import yaml

from bandwidth_api.crds import policy
from bandwidth_api.policy.decision import Obstacle

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "policy-fields.md").read_text()
CRD = yaml.safe_load((ROOT / "deploy" / "crds" / "clientbandwidthpolicies.yaml").read_text())
SCHEMA = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
EXAMPLES = [yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)]


def fields(rules: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """The paths of all fields below a schema, each with its description."""
    for name, inner in rules.get("properties", {}).items():
        yield f"{path}.{name}", inner["description"]
        yield from fields(inner, f"{path}.{name}")
    if "items" in rules:
        yield from fields(rules["items"], f"{path}[]")


def test_every_field_has_the_words_of_the_crd() -> None:
    """The tables have a row for each, in their order, and for no other."""
    told = re.findall(r"^\| `((?:spec|status)\.[^`]+)` \| (.*) \|$", PAGE, re.MULTILINE)
    wanted = [*fields(SCHEMA["spec"], "spec"), *fields(SCHEMA["status"], "status")]
    assert [path for path, _ in told] == [path for path, _ in wanted]
    for (path, words), (_, description) in zip(told, wanted, strict=True):
        assert words.startswith(description.strip()), path


def test_the_examples_are_policies_and_one_has_everything() -> None:
    """Every field that can be written is in the second one."""

    def used(value: Any, path: str) -> Iterator[str]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield f"{path}.{key}"
                yield from used(inner, f"{path}.{key}")
        elif isinstance(value, list):
            for inner in value:
                yield from used(inner, f"{path}[]")

    assert len(EXAMPLES) == 2
    for example in EXAMPLES:
        parsed = policy.parse(example)
        assert isinstance(parsed, policy.Policy), parsed
    assert {path for path, _ in fields(SCHEMA["spec"], "spec")} <= set(used(EXAMPLES[1]["spec"], "spec"))


def test_the_page_begins_with_the_example() -> None:
    """What a reader of docs/policies.md copies is examples/fair-use.yaml, and each obstacle is explained there."""
    text = (ROOT / "docs" / "policies.md").read_text()
    (shown,) = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert yaml.safe_load(shown) == yaml.safe_load((ROOT / "examples" / "fair-use.yaml").read_text())
    told = text.partition("## Why was this client slowed")[2]
    rows = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", told, re.MULTILINE))))
    assert {each.value for each in Obstacle} == rows
