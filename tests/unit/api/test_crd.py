"""The CRD and the models say the same: fields, limits, defaults, and what they accept and refuse.

CEL is not evaluated here: a case that a CEL rule refuses passes the CRD's schema, names its rule by the message, and is
refused by the models. The cases are data, so that a real API server can be asked the same.
"""

from __future__ import annotations

import datetime
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from bandwidth_api import conditions, names, units
from bandwidth_api.crds import limit

Schema = dict[str, Any]

HERE = pathlib.Path(__file__).parent
CRD = yaml.safe_load((HERE.parents[2] / "deploy/crds/clientbandwidthlimits.yaml").read_text())
VERSION = CRD["spec"]["versions"][0]
ROOT: Schema = VERSION["schema"]["openAPIV3Schema"]
CASES = yaml.safe_load((HERE / "limit-cases.yaml").read_text())
ACCEPTED = [pytest.param(case["spec"], id=case["why"]) for case in CASES["accepted"]]
REFUSED = [pytest.param(case["spec"], case["field"], case["rule"], id=case["why"]) for case in CASES["refused"]]


def document(spec: object) -> dict[str, object]:
    metadata = {"name": "a", "labels": {"team": "mail"}}
    return {"apiVersion": names.API_VERSION, "kind": names.LIMIT_KIND, "metadata": metadata, "spec": spec}


# ── the schema, without CEL ────────────────────────────────────────────────────────────────────────────────────

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


# ── the two together ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("spec", ACCEPTED)
def test_both_accept(spec: object) -> None:
    """The CRD's schema finds no fault, and the models make a limit of it."""
    assert list(faults(document(spec), ROOT)) == []
    assert isinstance(limit.parse(document(spec)), limit.Limit)


@pytest.mark.parametrize(("spec", "field", "rule"), REFUSED)
def test_both_refuse(spec: object, field: str, rule: str) -> None:
    """The models name the one field at fault; in the CRD the schema does, or the CEL rule that the case names."""
    problems = limit.parse(document(spec))
    assert isinstance(problems, tuple)
    assert [problem.field for problem in problems] == [field]
    found = list(faults(document(spec), ROOT))
    if rule == "schema":
        assert found == [f".{field}"]
    else:
        assert found == []
        assert rule in {message for _, message in cel_rules(ROOT)}


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


def test_every_cel_rule_has_a_case() -> None:
    """No CEL rule of the CRD is without a document that only it refuses."""
    assert {message for _, message in cel_rules(ROOT)} == {case["rule"] for case in CASES["refused"]} - {"schema"}


def test_the_models_have_the_schema_of_the_crd() -> None:
    """Fields, types, bounds, patterns, choices, defaults and what is required are equal."""
    models = limit.Spec.model_json_schema()
    assert bare(ROOT["properties"]["spec"]) == modelled(models, models["$defs"])


def bare(schema: Schema) -> Schema:
    """A schema of the CRD without what the models express otherwise: words, CEL, and how lists are merged."""
    kept = {k: v for k, v in schema.items() if k != "description" and not k.startswith("x-kubernetes-")}
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


def test_every_field_is_described() -> None:
    """`kubectl explain` has something to say about each field, in sentences."""

    def undescribed(schema: Schema, path: str) -> Iterator[str]:
        if path != ".metadata" and not re.fullmatch(r"[A-Z](?s:.)*\.", schema.get("description", "")):
            yield path
        for inner_path, inner in inner_schemas(schema, path):
            yield from undescribed(inner, inner_path)

    assert list(undescribed(ROOT, "")) == []


def test_names_agree() -> None:
    """Group, version and kind of the CRD are those by which the programs know a limit."""
    spec = CRD["spec"]
    assert (spec["group"], VERSION["name"], spec["names"]["kind"]) == (names.GROUP, names.VERSION, names.LIMIT_KIND)
    assert CRD["metadata"]["name"] == f"{spec['names']['plural']}.{spec['group']}"


def test_units_have_the_patterns_of_the_crd() -> None:
    """The grammar of rates and bursts is that of the CRD."""
    egress = ROOT["properties"]["spec"]["properties"]["egress"]["properties"]
    assert egress["rate"]["pattern"] == units.RATE_PATTERN
    assert egress["burst"]["pattern"] == units.BURST_PATTERN


def test_conditions_fit_the_crd() -> None:
    """Every status and reason that the programs can write is one that the CRD accepts."""
    properties = ROOT["properties"]["status"]["properties"]["conditions"]["items"]["properties"]
    assert {status.value for status in conditions.Status} == set(properties["status"]["enum"])
    assert all(re.search(properties["reason"]["pattern"], reason) for reason in conditions.Reason)
    assert properties["message"]["maxLength"] == conditions.MESSAGE_MAX
    assert len(conditions.ConditionType) <= ROOT["properties"]["status"]["properties"]["conditions"]["maxItems"]


def test_a_limit_begins_with_nothing_known() -> None:
    """What is read before the operator wrote: no generation observed, and Ready Unknown with a reason of ours."""
    default = ROOT["properties"]["status"]["default"]
    assert list(faults(default, ROOT["properties"]["status"])) == []
    assert default["observedGeneration"] == 0
    (condition,) = default["conditions"]
    assert condition["type"] == conditions.ConditionType.READY
    assert condition["status"] == conditions.Status.UNKNOWN
    assert condition["reason"] == conditions.Reason.PENDING


def test_no_default_lies_inside_of_a_list() -> None:
    """What is written in a list is what is stored, to the letter: tools that compare lists as a whole see no drift."""

    def defaults(schema: Schema, path: str) -> Iterator[str]:
        if "default" in schema:
            yield path
        for inner_path, inner in inner_schemas(schema, path):
            yield from defaults(inner, inner_path)

    found = list(defaults(ROOT["properties"]["spec"], "spec"))
    assert found == ["spec.egress.sharing", "spec.egress.distribution", "spec.mode", "spec.priority"]
