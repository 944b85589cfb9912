"""Reading one limit: what the errors say, and what YAML readers make of values. What is accepted is in test_crd."""

from __future__ import annotations

import copy
import datetime
from typing import Any

import pytest
import yaml

from bandwidth_api.compiler import compile as compiler
from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.crds import limit

DOCUMENT: dict[str, Any] = {
    "apiVersion": "clientbandwidth.io/v1alpha1",
    "kind": "ClientBandwidthLimit",
    "metadata": {"name": "slow-reader"},
    "spec": {"clients": ["203.0.113.7"], "egress": {"rate": "5Mbit"}},
}
UTC = datetime.UTC


def changed(path: str, value: object) -> dict[str, Any]:
    """DOCUMENT with another value at a dotted path."""
    document = copy.deepcopy(DOCUMENT)
    *around, name = path.split(".")
    place = document
    for step in around:
        place = place.setdefault(step, {})
    place[name] = value
    return document


def rejected(document: object) -> list[tuple[Reason, str, str]]:
    found = limit.parse(document)
    assert isinstance(found, tuple)
    return [(r.reason, r.field, r.message) for r in found]


def accepted(document: object) -> limit.Limit:
    found = limit.parse(document)
    assert isinstance(found, limit.Limit), found
    return found


def test_defaults() -> None:
    """What is left out has the values that the CRD gives it."""
    spec = accepted(DOCUMENT).spec
    assert (spec.mode, spec.priority, spec.excepted, spec.node_selector) == ("Enforce", 0, (), ())
    assert (spec.egress.sharing, spec.egress.distribution, spec.egress.ports) == ("Shared", "PerNode", ())


def test_limits_are_frozen() -> None:
    """A limit cannot be changed after it was read."""
    with pytest.raises(ValueError, match="frozen"):
        accepted(DOCUMENT).spec.priority = 5


def test_what_others_wrote_is_passed_over() -> None:
    """Status and foreign metadata, as an API server sends them, are no errors and make no difference."""
    document = changed("metadata.managedFields", [{"manager": "kubectl"}]) | {"status": {"nodes": {"desired": "x"}}}
    assert accepted(document) == accepted(DOCUMENT)


def test_metadata_that_matters() -> None:
    """Name, uid, generation and the time of creation are read; a null time, as in templates, is none."""
    document = changed("metadata", {"name": "a.b", "uid": "u", "generation": 4, "creationTimestamp": None})
    metadata = accepted(document).metadata
    assert (metadata.name, metadata.uid, metadata.generation, metadata.creation_timestamp) == ("a.b", "u", 4, None)


@pytest.mark.parametrize("name", ["A", "a_b", "-a", "a-", "a..b", "", "a" * 254, "ä", "a\n"])
def test_names_are_those_of_kubernetes(name: str) -> None:
    """A name that no API server would take is refused here too."""
    ((reason, field, message),) = rejected(changed("metadata.name", name))
    assert (reason, field) == (Reason.INVALID, "metadata.name")
    assert "lower-case letters" in message


@pytest.mark.parametrize("document", [None, [], "text", 5, True, {1: 2}])
def test_no_object_at_all(document: object) -> None:
    """Whatever a file holds, the answer is problems."""
    assert rejected(document)


def test_another_kind_is_all_that_is_said() -> None:
    """An object of another kind is not also blamed for lacking the fields of a limit."""
    assert rejected({"apiVersion": "v1", "kind": "ConfigMap", "data": {}}) == [
        ("Invalid", "apiVersion", "must be clientbandwidth.io/v1alpha1, found 'v1'"),
        ("Invalid", "kind", "must be ClientBandwidthLimit, found 'ConfigMap'"),
    ]


RATE = "rate: 5Mbit"
UNIT = "write a number with kbit, Mbit or Gbit, such as 5Mbit"
ZONE = "write a time with its zone, such as 2030-01-31T18:00:00Z"
MESSAGES = [
    (
        "spec.egress.rate",
        5_000_000,
        f"must be text, found the number 5000000; write it with a unit, for example {RATE}",
    ),
    ("spec.egress.rate", None, f"is required; write for example {RATE}"),
    ("spec.egress.rate", "5MB", f"'5MB' is no rate: rates are in bits, not bytes; {UNIT}"),
    ("spec.egress.burst", 65536, "must be text, found the number 65536; put it in quotes"),
    ("spec.mode", "observe", "must be one of Enforce, Observe, Disabled, found 'observe'; did you mean Observe?"),
    ("spec.mode", False, "must be one of Enforce, Observe, Disabled, found the boolean false"),
    ("spec.priority", 1001, "must be at most 1000, found the number 1001"),
    ("spec.priority", True, "must be a whole number, found the boolean true"),
    ("spec.ttlSeconds", 5, "must be at least 60, found the number 5"),
    ("spec.clients", "203.0.113.7", "must be a list, found '203.0.113.7'; write it as [...]"),
    ("spec.clients", [], "must have at least 1 entry"),
    ("spec.clients", [f"10.0.0.{i}" for i in range(65)], "must have at most 64 entries, found 65"),
    ("spec.egress", "5Mbit", "must be an object with fields of its own, found '5Mbit'"),
    ("spec.reason", "x" * 300, f"must have at most 256 characters, found {'x' * 60!r}… (300 characters)"),
    ("spec.expiresAt", "tomorrow", f"'tomorrow' is no point in time; {ZONE}"),
    ("spec.nodeSelector", {"matchExpressions": "x"}, "must be a list, found 'x'; write it as [...]"),
]


@pytest.mark.parametrize(("path", "value", "message"), MESSAGES)
def test_messages(path: str, value: object, message: str) -> None:
    """Each error is one sentence that says what was found and what to write."""
    ((reason, field, found),) = rejected(changed(path, value))
    assert reason == Reason.INVALID
    assert field.startswith(path)
    assert found == message


def test_all_errors_at_once() -> None:
    """One reading finds everything that is wrong, each at its place."""
    document = changed("spec", {"clients": ["10.0.0.1/8", "x"], "egress": {"rate": "5"}, "mode": "x", "exept": []})
    assert [field for _, field, _ in rejected(document)] == [
        "spec.clients[0]",
        "spec.clients[1]",
        "spec.egress.rate",
        "spec.mode",
        "spec.exept",
    ]


@pytest.mark.parametrize(
    ("path", "hint"),
    {
        "spec.exept": "did you mean except?",
        "spec.expires_at": "did you mean expiresAt?",
        "spec.egress.brust": "did you mean burst?",
        "spec.egress.zzz": "known here are burst, distribution, ports, rate, sharing",
        "spec.nodeSelector.matchLabel": "did you mean matchLabels?",
        "zzz": "known here are apiVersion, kind, metadata, spec",
    }.items(),
)
def test_unknown_fields(path: str, hint: str) -> None:
    """A field that is not understood is an error with its own reason and the nearest known name."""
    ((reason, field, message),) = rejected(changed(path, 1))
    assert (reason, field) == (Reason.UNKNOWN_FIELD, path)
    assert message.endswith(hint)


FROM_YAML = [
    ("clients: [2001:1:2:3:4:5:6:7]", "spec.clients[0]", "put it in quotes"),
    ("clients: [1.5]", "spec.clients[0]", "found the number 1.5; put it in quotes"),
    ("clients: [2030-01-01]", "spec.clients[0]", "found the date 2030-01-01; put it in quotes"),
    ("clients: [!!binary aGVsbG8=]", "spec.clients[0]", "must be text, found a value of type bytes"),
    ("expiresAt: 2030-01-01 18:00:00", "spec.expiresAt", "2030-01-01T18:00:00 has no time zone"),
    ("expiresAt: 2030-01-01", "spec.expiresAt", "found the date 2030-01-01"),
    ("reason: 4711", "spec.reason", "found the number 4711; put it in quotes"),
    ("mode: off", "spec.mode", "found the boolean false"),
    ("1: 5", "spec[1]", "field names must be text"),
]


@pytest.mark.parametrize(("text", "field", "message"), FROM_YAML)
def test_what_yaml_makes_of_text(text: str, field: str, message: str) -> None:
    """Values that a YAML reader turned into numbers, dates or bytes are named as what they became."""
    ((_, found, words),) = rejected(changed("spec", DOCUMENT["spec"] | yaml.safe_load(text)))
    assert found == field
    assert message in words


def test_times_from_yaml() -> None:
    """A time that the YAML reader has already understood is taken as it is."""
    read = yaml.safe_load("2030-01-31T18:00:00+02:00")
    assert isinstance(read, datetime.datetime)
    assert accepted(changed("spec.expiresAt", read)).expires_at(0) == 1896105600.0
    assert accepted(changed("spec.expiresAt", "2030-01-31T18:00:00+02:00")).expires_at(0) == 1896105600.0


def test_dated() -> None:
    """A limit without a time of creation takes the one it is given; one that has its own keeps it."""
    given = datetime.datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    assert accepted(DOCUMENT).created_at is None
    assert compiler.entry(accepted(DOCUMENT), now=given).created_at == given
    own = changed("metadata.creationTimestamp", "2029-01-01T00:00:00Z")
    assert compiler.entry(accepted(own), now=given).created_at == datetime.datetime(2029, 1, 1, tzinfo=UTC).timestamp()


def test_ttl_counts_from_creation() -> None:
    """ttlSeconds is added to the time of creation; without any end there is none."""
    assert accepted(changed("spec.ttlSeconds", 60)).expires_at(1000.0) == 1060.0
    assert accepted(DOCUMENT).expires_at(1000.0) is None


def test_problems_are_values() -> None:
    """The worst document leads to no exception."""
    deep: Any = "x"
    for _ in range(50):
        deep = {"spec": deep, "kind": [deep]}
    assert all(isinstance(problem, Problem) for problem in limit.parse(deep))
