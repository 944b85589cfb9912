"""docs/reference/policy-fields.md keeps up with the CRD of policies."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import yaml

from bandwidth_api.crds import policy

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
