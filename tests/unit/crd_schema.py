"""What a CRD says, compared with what models say: faults that its schema finds, its CEL rules, its form."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]


TYPES: dict[str, Any] = {"string": str, "integer": int, "object": dict, "array": list}


def faults(value: Any, schema: Schema, path: str = "") -> Iterator[str]:
    """Where an API server with strict field validation finds the value at fault; CEL rules aside."""
    kind = schema["type"]
    if not isinstance(value, TYPES[kind]) or isinstance(value, bool):
        yield path
    elif kind == "object" and "properties" in schema:
        properties = schema["properties"]
        present = {key: item for key, item in value.items() if item is not None}
        yield from (f"{path}.{key}" for key in present.keys() - properties.keys())
        yield from (f"{path}.{key}" for key in set(schema.get("required", ())) - present.keys())
        for key in present.keys() & properties.keys():
            yield from faults(present[key], properties[key], f"{path}.{key}")
    elif kind == "object":
        if len(value) > schema.get("maxProperties", len(value)):
            yield path
        for key, item in value.items() if "additionalProperties" in schema else ():
            yield from faults(item, schema["additionalProperties"], f"{path}.{key}")
    elif kind == "array":
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            yield path
        for i, item in enumerate(value):
            if schema.get("x-kubernetes-list-type") == "set" and item in value[:i]:
                yield f"{path}[{i}]"
            yield from faults(item, schema["items"], f"{path}[{i}]")
    elif not _scalar_fits(value, schema):
        yield path


def _scalar_fits(value: Any, schema: Schema) -> bool:
    if isinstance(value, int):
        return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        return False
    if schema.get("format") == "date-time" and not _is_date_time(value):
        return False
    return value in schema.get("enum", [value]) and bool(re.search(schema.get("pattern", ""), value))


def _is_date_time(text: str) -> bool:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", text):
        return False
    try:
        datetime.date.fromisoformat(text[:10])
    except ValueError:
        return False
    return True


def cel_rules(schema: Schema, path: str = "") -> Iterator[tuple[str, str]]:
    """Each CEL rule: where it is, and its message."""
    for rule in schema.get("x-kubernetes-validations", ()):
        yield path, rule["message"]
    for inner_path, inner in inner_schemas(schema, path):
        yield from cel_rules(inner, inner_path)


def inner_schemas(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    yield from ((f"{path}.{name}", inner) for name, inner in schema.get("properties", {}).items())
    yield from ((f"{path}{mark}", schema[key]) for key, mark in ITEMS.items() if key in schema)


ITEMS = {"items": "[]", "additionalProperties": ".*"}


def bare(schema: Schema) -> Schema:
    """A schema of the CRD without what the models express otherwise: words, CEL, and how lists are merged."""
    kept = {
        k: v
        for k, v in schema.items()
        if k != "description" and not k.startswith("x-kubernetes-") and (k, v) != ("default", {})
    }
    if schema.get("x-kubernetes-list-type") == "set":
        kept["x-kubernetes-list-type"] = "set"
    return _inside(kept, bare)


def modelled(schema: Schema, definitions: Schema) -> Schema:
    """A schema of the models in the form of the CRD's."""
    if "anyOf" in schema:  # X | None: a field that may be left out
        (schema,) = [option for option in schema["anyOf"] if option != {"type": "null"}]
    if "$ref" in schema:
        schema = {**definitions[schema["$ref"].rpartition("/")[2]], **schema}
    dropped = {"title", "description", "$defs", "$ref"}
    kept = {k: v for k, v in schema.items() if k not in dropped and (k, v) not in EMPTY}
    if kept["type"] == "object" and kept.pop("additionalProperties", False) is not False:
        kept["additionalProperties"] = schema["additionalProperties"]
    return _inside(kept, lambda inner: modelled(inner, definitions))


EMPTY: list[tuple[str, object]] = [("default", None), ("default", []), ("default", {})]


def _inside(schema: Schema, convert: Any) -> Schema:
    converted = {k: convert(v) if k in ITEMS else v for k, v in schema.items()}
    if "properties" in schema:
        converted["properties"] = {name: convert(inner) for name, inner in schema["properties"].items()}
    return converted


def undescribed(schema: Schema, path: str = "") -> Iterator[str]:
    """Fields of which `kubectl explain` has nothing to say in sentences."""
    if path != ".metadata" and not re.fullmatch(r"[A-Z](?s:.)*\.", schema.get("description", "")):
        yield path
    for inner_path, inner in inner_schemas(schema, path):
        yield from undescribed(inner, inner_path)


def defaults(schema: Schema, path: str) -> Iterator[str]:
    """Where a value is filled in."""
    if "default" in schema:
        yield path
    for inner_path, inner in inner_schemas(schema, path):
        yield from defaults(inner, inner_path)
