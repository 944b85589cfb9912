"""Turns pydantic's validation errors of what a user writes into messages that name field, mistake and correction.

Owns the wording only; the rules are in `limit` and `policy`. Never matches on pydantic's message texts, only on its
error types.
"""

from __future__ import annotations

import datetime
import difflib
import typing
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import pydantic
from pydantic_core import PydanticCustomError

from bandwidth_api.conditions import Problem, Reason

if typing.TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_MISPLACED = "misplaced"
_SHOWN = 60  # characters of a wrong value that are quoted

# What to write where something is missing, by the last name of its path.
_EXAMPLES = {
    "apiVersion": "apiVersion: clientbandwidth.io/v1alpha1",
    "kind": "kind: ClientBandwidthLimit",
    "metadata": "metadata: {name: slow-reader}",
    "name": "name: slow-reader",
    "spec": "spec: {clients: [203.0.113.7], egress: {rate: 5Mbit}}",
    "clients": "clients: [203.0.113.7]",
    "egress": "egress: {rate: 5Mbit}",
    "rate": "rate: 5Mbit",
    "port": "port: 993",
    "key": "key: node-role",
    "operator": "operator: Exists",
}


def misplaced(where: str, message: str) -> PydanticCustomError:
    """Return an error that a check of a whole model found in a part of it; `where` is the path to that part."""
    return PydanticCustomError(_MISPLACED, "{message}", {"where": where, "message": message})


def problems(
    error: pydantic.ValidationError,
    model: type[pydantic.BaseModel],
    examples: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Problem, ...]:
    """All that is wrong, in the order of the fields; only the kind, if this is another kind of object.

    `examples`: what to write where something is missing, where that differs from what one writes into a limit.
    """
    known = {**_EXAMPLES, **examples}
    errors = error.errors(include_url=False)
    # A list whose every entry is wrong is reported as too short as well.
    lists = {e["loc"][:end] for e in errors for end in range(len(e["loc"]))}
    found = tuple(_problem(e, model, known) for e in errors if e["type"] != "too_short" or e["loc"] not in lists)
    return tuple(p for p in found if p.field in ("apiVersion", "kind")) or found


def describe(value: object) -> str:
    """Return a value as text, short enough for a message."""
    match value:
        case None:
            return "nothing"
        case bool():
            return f"the boolean {str(value).lower()}"
        case int() | float():
            return f"the number {_short(str(value))}"
        case str():
            return repr(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!r}… ({len(value)} characters)"
        case datetime.date():
            return f"the date {value.isoformat()}"
        case Mapping():
            return "an object"
        case list() | tuple() | set() | frozenset():
            return "a list"
        case _:
            return f"a value of type {type(value).__name__}"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _problem(error: ErrorDetails, model: type[pydantic.BaseModel], examples: Mapping[str, str]) -> Problem:
    field = path(error["loc"])
    context = error.get("ctx", {})
    if error["type"] == _MISPLACED:
        return Problem(Reason.INVALID, str(context["message"]), field + str(context["where"]))
    if error["type"] == "extra_forbidden":
        return Problem(Reason.UNKNOWN_FIELD, _unknown(model, error["loc"]), field)
    return Problem(Reason.INVALID, _message(error, context, examples), field)


def path(loc: Iterable[int | str]) -> str:
    """Return the path as users write it: `spec.clients[2]` from ("spec", "clients", 2)."""
    text = ""
    for step in loc:
        if step == "[key]":  # pydantic's word for the key itself of an entry of a mapping
            continue
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _message(error: ErrorDetails, context: Mapping[str, object], examples: Mapping[str, str]) -> str:
    value = error["input"]
    match error["type"]:
        case "missing":
            example = examples.get(str(error["loc"][-1]))
            return f"is required; write for example {example}" if example else "is required"
        case "value_error":
            return str(context["error"])
        case "string_type":
            return f"must be text, found {describe(value)}{_as_text(error['loc'], value)}"
        case "int_type" | "int_from_float":
            return f"must be a whole number, found {describe(value)}"
        case "tuple_type":
            return f"must be a list, found {describe(value)}; write it as [...]"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"must be an object with fields of its own, found {describe(value)}"
        case "enum" | "literal_error":
            return _choice(value, str(context["expected"]))
        case "greater_than_equal":
            return f"must be at least {context['ge']}, found {describe(value)}"
        case "less_than_equal":
            return f"must be at most {context['le']}, found {describe(value)}"
        case "too_short":
            return f"must have at least {context['min_length']} entry"
        case "too_long":
            return f"must have at most {context['max_length']} entries, found {len(value)}"
        case "string_too_short":
            return "must not be empty"
        case "string_too_long":
            return f"must have at most {context['max_length']} characters, found {describe(value)}"
        case "invalid_key":
            return "field names must be text; put them in quotes"
        case _:
            return error["msg"]


def _as_text(loc: tuple[int | str, ...], value: object) -> str:
    if loc[-1] == "rate":
        return f"; write it with a unit, for example {_EXAMPLES['rate']}"
    return "; put it in quotes" if isinstance(value, int | float | datetime.date) else ""


def _choice(value: object, expected: str) -> str:
    """`expected` comes as 'A', 'B' or 'C'."""
    choices = [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]
    hint = ""
    if isinstance(value, str):
        near = [c for c in choices if c.lower() == value.lower()] or difflib.get_close_matches(value, choices, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
    one_of = "one of " if len(choices) > 1 else ""
    return f"must be {one_of}{', '.join(choices)}, found {describe(value)}{hint}"


def _unknown(model: type[pydantic.BaseModel], loc: tuple[int | str, ...]) -> str:
    known = _fields(model, loc[:-1])
    near = difflib.get_close_matches(str(loc[-1]), known, 1)
    hint = f"did you mean {near[0]}?" if near else f"known here are {', '.join(known)}"
    return f"is not a field of this object; {hint}"


def _fields(model: type[pydantic.BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Return the names of the fields of the object at a path."""
    for step in loc:
        by_name = {field.alias: field for field in model.model_fields.values()}
        if isinstance(step, str):
            model = _model_in((by_name[step].annotation, *by_name[step].metadata)) or model
    return sorted(field.alias or name for name, field in model.model_fields.items())


def _model_in(annotation: object) -> type[pydantic.BaseModel] | None:
    """Return the model in an annotation such as `tuple[Model, ...]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return annotation
    parts = annotation if isinstance(annotation, tuple) else typing.get_args(annotation)
    form = getattr(annotation, "form", None)
    return next((found for part in (*parts, form) if part is not None and (found := _model_in(part))), None)
