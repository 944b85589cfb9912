"""The JSON schemas of docs/reference, and a check of real output against them.

Knows as much of JSON Schema as they use: type, enum, const, required, properties, additionalProperties, items,
pattern, minimum; any other word in a schema is an error, so that nothing is believed to be checked that is not.
"""

from __future__ import annotations

import json
import pathlib
import re

REFERENCE = pathlib.Path(__file__).parents[2] / "docs" / "reference"

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_TOLD = {"$schema", "$id", "title", "description", "examples"}
_CHECKED = {*("type", "enum", "const", "required", "properties", "additionalProperties", "items", "pattern", "minimum")}


def schema(name: str) -> dict[str, object]:
    """One schema of docs/reference by the name of its program or report."""
    found: dict[str, object] = json.loads((REFERENCE / f"{name}.schema.json").read_text())
    return found


def check(name: str, value: object) -> None:
    """Assert that a value is as its schema says, and has no field that the schema does not know."""
    _check(schema(name), value, name)


def _check(rules: object, value: object, where: str) -> None:
    assert isinstance(rules, dict), f"{where}: no schema"
    assert not rules.keys() - _TOLD - _CHECKED, f"{where}: the schema uses words that are not checked"
    if "type" in rules:
        kinds = rules["type"] if isinstance(rules["type"], list) else [rules["type"]]
        fitting = {kind for kind in kinds if isinstance(value, _TYPES[kind])}
        assert fitting, f"{where}: {value!r} is no {kinds}"
        assert not isinstance(value, bool) or "boolean" in fitting, f"{where}: {value!r} is no {kinds}"
    assert value in rules.get("enum", [value]), f"{where}: {value!r} is none of {rules.get('enum')}"
    assert value == rules.get("const", value), f"{where}: {value!r} is not {rules.get('const')}"
    if isinstance(value, str) and "pattern" in rules:
        assert re.search(rules["pattern"], value), f"{where}: {value!r} does not match {rules['pattern']}"
    if isinstance(value, int | float) and "minimum" in rules:
        assert value >= rules["minimum"], f"{where}: {value} is below {rules['minimum']}"
    if isinstance(value, list):
        for index, item in enumerate(value):
            _check(rules.get("items"), item, f"{where}[{index}]")
    if isinstance(value, dict):
        _check_object(rules, value, where)


def _check_object(rules: dict[str, object], value: dict[str, object], where: str) -> None:
    properties, required = rules.get("properties", {}), rules.get("required", [])
    assert isinstance(properties, dict)
    assert isinstance(required, list)
    assert not set(required) - value.keys(), f"{where}: {set(required) - value.keys()} missing"
    for key, item in value.items():
        more = rules.get("additionalProperties", False)
        assert key in properties or more, f"{where}: {key} is not in the schema"
        _check(properties.get(key, more), item, f"{where}.{key}")
