"""Questions, what is asked of nodes, and their reports: written and read again, bounded, whatever they hold."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_api import addresses
from bandwidth_api.crds import asked, client_rows, client_traffic, slices, traffic_answer, traffic_query
from bandwidth_api.crds.asked import Asked
from bandwidth_api.crds.client_rows import Amount, Found, Port, Rates, Row
from bandwidth_api.crds.client_traffic import Traffic
from bandwidth_api.crds.traffic_answer import Answer, Total
from bandwidth_api.crds.traffic_query import Spec
from bandwidth_api.plan import Prefix

CRDS = pathlib.Path(__file__).parents[3] / "deploy" / "crds"
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
FIELDS = st.dictionaries(
    st.sampled_from(
        [
            "spec",
            "status",
            "metadata",
            "name",
            "uid",
            "generation",
            "managedFields",
            "seconds",
            "interval",
            "top",
            "group",
            "nodes",
            "exact",
            "renewal",
            "rows",
            "total",
            "schema",
            "found",
            "sent",
            "clients",
            "lost",
            "message",
            "candidates",
            "named",
            "annotations",
            "groups",
            "spread",
            "conditions",
            "observedAt",
            "bitsPerSecond",
        ]
    ),
    ANYTHING,
    max_size=8,
)


def schema(name: str) -> dict[str, Any]:
    crd = yaml.safe_load((CRDS / f"{name}.yaml").read_text())
    found: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return found


def rates(bits_per_second: float, samples: int = 600) -> Rates:
    """As of one sample of always the same size."""
    first, second, third = (Amount(bits_per_second, bits_per_second**2 / samples * 60 / s) for s in (2, 10, 60))
    return first, second, third


def encoded(wire: object) -> int:
    return len(json.dumps(wire, separators=(",", ":"), ensure_ascii=False).encode())


# ── what is asked of the nodes ─────────────────────────────────────────────────────────────────────────────────


def test_what_is_asked_comes_back() -> None:
    """All fields survive the head of the plan, and a head without them asks nothing."""
    question = Asked(
        5, 56, 10, 7, 30, asked.GROUPS, ("a", "b"), ("198.51.100.7", "2001:db8::/64"), ("198.51.100.0/20",)
    )
    assert asked.read(json.loads(json.dumps(asked.write(question)))) == question
    assert asked.read(asked.write(Asked(1, 2))) == Asked(1, 2)
    head = {"metadata": {"name": "plan"}, "spec": slices.write(slices.Head(("plan-00000",)))}
    read = slices.read(head | {"spec": head["spec"] | {"traffic": asked.write(question)}})
    assert read == slices.Head(("plan-00000",), traffic=question)
    assert "traffic" not in slices.write(read)


@pytest.mark.parametrize(
    "wire",
    [
        None,
        [],
        {},
        {"renewal": 1},
        {"renewal": True, "seconds": 5},
        {"renewal": 1, "seconds": 3600},
        {"renewal": -1, "seconds": 5},
        {"renewal": 1, "seconds": 5, "interval": 0},
        {"renewal": 1, "seconds": 5, "nodes": ["n"] * 257},
        {"renewal": 1, "seconds": 5, "candidates": ["1"] * 101},
        {"renewal": 1, "seconds": 5, "clients": ["1"] * 17},
        {"renewal": 1, "seconds": 5, "top": 10**6},
    ],
)
def test_what_is_asked_beyond_its_bounds_is_nothing(wire: object) -> None:
    """Agents answer nothing of it, and the plan in the same head is read all the same."""
    assert asked.read(wire) is None
    head = {"metadata": {"name": "plan"}, "spec": slices.write(slices.Head(("plan-00000",))) | {"traffic": wire}}
    assert slices.read(head) == slices.Head(("plan-00000",))


def test_a_group_to_come_is_passed_over() -> None:
    """What a newer operator asks beside what is known does not keep a node from answering."""
    read = asked.read({"renewal": 1, "seconds": 5, "groups": ["Country", "Network"], "colour": "blue"})
    assert read is not None
    assert read.groups == ("Network",)


# ── questions ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_defaults_and_bounds_are_those_of_the_crd() -> None:
    """What the schema says and what the models read are the same."""
    properties = schema("clienttrafficqueries")["spec"]["properties"]
    spec = Spec()
    for name, value, bounds in (
        ("seconds", spec.seconds, traffic_query.SECONDS),
        ("interval", spec.interval_seconds, traffic_query.INTERVAL),
        ("top", spec.top, traffic_query.TOP),
    ):
        field = properties[name]
        assert (field["default"], (field["minimum"], field["maximum"])) == (value, bounds)
    assert properties["group"]["enum"] == list(asked.GROUPS)
    assert properties["nodes"]["maxItems"] == traffic_query.NODES_MAX
    assert set(properties) == {"seconds", "interval", "top", "group", "nodes", "exact", "clients", "renewal"}
    assert properties["clients"]["maxItems"] == traffic_query.CLIENTS_MAX
    head = schema("bandwidthplanslices")["spec"]["properties"]["traffic"]["properties"]
    assert head["clients"]["maxItems"] == asked.CLIENTS_MAX
    assert schema("nodeclienttraffics")["status"]["properties"]["named"]["maxItems"] == client_traffic.NAMED_MAX


@pytest.mark.parametrize("name", ["clienttrafficqueries", "nodeclienttraffics"])
def test_every_field_is_described(name: str) -> None:
    """`kubectl explain` has a sentence for each field, but for the parts of a condition and of every object."""

    def lacking(part: dict[str, Any], path: str) -> list[str]:
        found = []
        for key, field in part.get("properties", {}).items():
            if "description" not in field:
                found.append(f"{path}.{key}")
            found += lacking(field.get("items", field), f"{path}.{key}")
        return found

    parts = {key: part for key, part in schema(name).items() if key != "metadata"}
    missing = lacking({"properties": parts}, "")
    assert [path for path in missing if ".conditions." not in path] == []


def test_a_spec_comes_back() -> None:
    """What a program writes as a question is what the operator reads."""
    spec = Spec(30, 5, 10, asked.NETWORK, ("a",), True, 7, ("198.51.100.7", "2001:db8::/48"))
    assert traffic_query.read({"spec": traffic_query.write_spec(spec)}).spec == spec
    assert traffic_query.write_spec(Spec()) == {"renewal": 0}


def test_the_last_renewal_is_the_last_write_of_the_spec() -> None:
    """A status that is written is no renewal; without managed fields the time of creation counts, or nothing."""
    fields = [
        {"time": "2030-01-01T00:00:10Z"},
        {"time": "2030-01-01T00:00:20Z", "subresource": "status"},
        {"time": "2030-01-01T00:00:05Z"},
        "odd",
    ]
    metadata = {"creationTimestamp": "2030-01-01T00:00:00Z"}
    read = traffic_query.read({"metadata": metadata | {"managedFields": fields}})
    created = traffic_query.read({"metadata": metadata})
    assert read.renewed_at is not None
    assert created.renewed_at is not None
    assert read.renewed_at - created.renewed_at == 10
    assert traffic_query.read({}).renewed_at is None


def test_an_answer_comes_back() -> None:
    """What the operator writes is what a plugin reads."""
    row = traffic_answer.Row("198.51.100.7", (1, 2, 3), (1.5, 2.5, 3.5), 4, ("TCP:993",), 2, "a", ("slow",), "node b")
    answer = Answer(
        generation=3,
        observed_at=1_900_000_000.0,
        interval_seconds=2,
        seconds=17,
        asked=3,
        answered=2,
        silent=("c",),
        troubles=("c: no",),
        total=Total((1, 2, 3), (1.0, 2.0, 3.0), 9, (4, 5, 6), 7, 8),
        rows=(row,),
        status="True",
        reason="Answered",
        message="2 of 3 nodes answer",
        since="2030-01-01T00:00:00Z",
    )
    assert traffic_answer.read_answer({"status": json.loads(json.dumps(traffic_answer.write_answer(answer)))}) == answer
    assert traffic_answer.read_answer({}) is None


def test_an_answer_has_eight_kilobytes_at_most() -> None:
    """However long names are, the largest rows stay and the smallest are left out."""
    row = traffic_answer.Row(
        "x" * 43, (10**15,) * 3, (999.9,) * 3, 10**15, ("TCP:65535",) * 4, 5000, "n" * 253, ("l" * 253,) * 2
    )
    wire = traffic_answer.write_answer(
        Answer(rows=(row,) * 50, silent=("ü" * 253,) * 5, troubles=("t" * 999,) * 9, message="m" * 9999)
    )
    assert 4000 < encoded(wire) <= traffic_answer.STATUS_MAX_BYTES
    assert wire["rows"]
    usual = traffic_answer.Row("2001:db8:1234:5678::1", (10**9,) * 3, (1.5,) * 3, 10**12, ("TCP:993",), 9, "worker-17")
    assert len(traffic_answer.write_answer(Answer(rows=(usual,) * 50))["rows"]) >= 20


# ── reports ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_report_comes_back() -> None:
    """Rates to the kbit/s, samples by the bytes of each window, ports with their shares, what was found by name."""
    row = Row(addresses.parse("198.51.100.7"), rates(119.2e6), 741e6, (Port("TCP", 993, 0.8), Port("UDP", 443, 0.2)))
    network = Row(addresses.parse("2001:db8::/64"), rates(5e6), 1e6)
    traffic = Traffic(
        "a",
        9,
        1.9e9,
        4,
        60,
        rates(124.2e6),
        742e6,
        (1e6, 2e6, 3e6),
        7,
        3,
        1,
        (row, network),
        (Found(3, rates(2e6), 5e5),),
        "m",
    )
    wire = json.loads(json.dumps(client_traffic.write(traffic)))
    assert wire["rows"][0] == "198.51.100.7 119200 119200 119200/600 741000 T993:80,U443:20"
    read = client_traffic.read({"metadata": {"name": "a"}, "status": wire})
    assert read is not None
    for was, now in zip((*traffic.rows, *traffic.found), (*read.rows, *read.found), strict=True):
        for one, other in zip(was.rates, now.rates, strict=True):
            assert other.bits_per_second == pytest.approx(one.bits_per_second)
            assert other.variance == pytest.approx(one.variance)
    assert read.rows[0].ports == row.ports
    assert (read.sent, read.clients, read.networks, read.lost, read.message) == ((1e6, 2e6, 3e6), 7, 3, 1, "m")
    assert client_rows.samples(read.rows[0].rates[2]) == 600


@pytest.mark.parametrize("six", [False, True])
def test_twenty_rows_fit_into_a_report(six: bool) -> None:
    """Of usual addresses at least twenty rows; of any, never more than 1.5 KB."""
    text = "2001:db8:7:%x::%x" if six else "198.51.%d.%d"
    rows = tuple(
        Row(addresses.parse(text % (n + 16, n + 17)), rates(119e6), 7e8, (Port("TCP", 993, 1.0),)) for n in range(50)
    )
    wire = client_traffic.write(Traffic("a", 1, 1.9e9, rows=rows, sent=(1e9,) * 3, clients=50, networks=9))
    assert len(wire["rows"]) >= 20
    assert encoded({"status": wire}) <= 1500
    found = tuple(Found(n, rates(1e6), 1e6) for n in range(100))
    both = client_traffic.write(Traffic("a", 1, 1.9e9, rows=rows, found=found, message="ü" * 160))
    assert encoded({"status": both}) <= 1536
    assert both["found"]
    assert both["rows"]


def test_addresses_and_networks_share_the_room() -> None:
    """Where both are asked for, neither drives the other out."""
    rows = tuple(Row(addresses.parse(f"198.51.100.{n}"), rates(119e6), 7e8) for n in range(40))
    networks = tuple(Row(addresses.parse(f"203.{n}.0.0/24"), rates(119e6), 7e8) for n in range(10))
    wire = client_traffic.write(Traffic("a", rows=rows + networks))
    assert sum("/24 " in row for row in wire["rows"]) == 10
    assert sum("/24 " not in row for row in wire["rows"]) >= 8


@pytest.mark.parametrize(
    "row",
    [
        "",
        "198.51.100.7",
        "198.51.100.7 1 2 3/4",
        "198.51.100.7 1 2 3/4 5 T1:1 more",
        "198.51.100.07 1 2 3/4 5",
        "nobody 1 2 3/4 5",
        "198.51.100.7 -1 2 3/4 5",
        "198.51.100.7 1 2 3/4 ٥",
        "198.51.100.7 1 2 3/4 5" + " " * 200,
        7,
    ],
)
def test_rows_of_another_form_are_left_out(row: object) -> None:
    """A row that cannot be read takes no other with it."""
    wire = {"schema": 1, "rows": [row, "203.0.113.1 1 2 3/4 5"], "seconds": 60}
    read = client_traffic.read({"metadata": {"name": "a"}, "status": wire})
    assert read is not None
    assert [each.client for each in read.rows] == [Prefix(4, 0xCB007101, 32)]


@given(FIELDS, FIELDS, FIELDS)
def test_nothing_that_anybody_writes_raises(one: dict[str, Any], other: dict[str, Any], third: dict[str, Any]) -> None:
    """Objects of any form are read to values within their bounds."""
    item = {"metadata": {"name": "a"} | one, "spec": other, "status": {"schema": 1} | third}
    query = traffic_query.read(item)
    assert 5 <= query.spec.seconds <= 60
    answer = traffic_answer.read_answer(item)
    assert answer is None or encoded(traffic_answer.write_answer(answer)) <= traffic_answer.STATUS_MAX_BYTES
    read = client_traffic.read(item)
    assert read is None or encoded(client_traffic.write(read)) <= client_traffic.STATUS_MAX_BYTES
    question = asked.read(other)
    assert question is None or question.seconds <= asked.SECONDS_MAX


def test_a_plugin_needs_no_pydantic() -> None:
    """The models of questions need nothing but the standard library: a plugin is one file."""
    assert "pydantic" not in pathlib.Path(str(traffic_query.__file__)).read_text()


def test_the_clients_that_are_named_come_before_rows() -> None:
    """Each with its own time; they keep their place where there is no room for all rows, in 1.5 KB."""
    named = tuple(
        client_rows.Named(addresses.parse(f"2001:db8:1234:5678:9abc:def0:1234:{n:x}"), rates(12e3, 3), 90e3, 7)
        for n in range(1, 5)
    )
    rows = tuple(client_rows.Row(addresses.parse(f"198.51.100.{n}"), rates(5e6), 1e6) for n in range(1, 51))
    wire = client_traffic.write(Traffic("a", 1, 0.0, 2, 60, rows=rows, named=named))
    assert encoded(wire) <= 1500
    read = client_traffic.read({"metadata": {"name": "a"}, "status": wire})
    assert read is not None
    assert [(each.client, each.seconds) for each in read.named] == [(each.client, 7) for each in named]
    assert read.named[0].rates[2].bits_per_second == 12e3
    assert client_rows.samples(read.named[0].rates[2]) == 3
    assert 10 < len(read.rows) < 50


@pytest.mark.parametrize(
    "text", ["198.51.100.1 1 1 1/1 1", "x 1 1 1/1 1 5", "198.51.100.1 1 1 1/1 1 0", "198.51.100.1"]
)
def test_a_named_client_of_another_form_is_left_out(text: str) -> None:
    """Nothing that a node writes is trusted."""
    read = client_traffic.read({"metadata": {"name": "a"}, "status": {"schema": 1, "named": [text, 7]}})
    assert read is not None
    assert read.named == ()
