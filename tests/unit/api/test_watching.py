"""What policies ask of nodes and what nodes report for them: written and read again, bounded, whatever they hold."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
import yaml

from bandwidth_api import addresses
from bandwidth_api.crds import client_traffic, slices, watched, watching
from bandwidth_api.crds.client_rows import Port
from bandwidth_api.crds.client_traffic import Traffic
from bandwidth_api.crds.watched import Client, Span, Watched
from bandwidth_api.crds.watching import Watch, Watching
from bandwidth_api.plan import SelectorTerm

CRDS = pathlib.Path(__file__).parents[3] / "deploy" / "crds"
ASKED = Watching(
    5,
    100,
    (
        Watch(
            20_000_000, None, 32, 64, True, (SelectorTerm("edge", "In", ("yes",)), SelectorTerm("old", "Exists", ()))
        ),
        Watch(None, 40, 24, 56),
    ),
    ("198.51.100.7", "2001:db8::/64"),
)
CLIENT = addresses.parse("198.51.100.7")


def schema(name: str) -> dict[str, Any]:
    crd = yaml.safe_load((CRDS / f"{name}.yaml").read_text())
    found: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return found


def comes_back(of: Watched) -> Watched | None:
    return watched.read(json.loads(json.dumps(watched.write(of))))


# ── what is asked ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_policies_ask_comes_back() -> None:
    """All fields survive the head of the plan, beside what it holds of its own."""
    assert watching.read(json.loads(json.dumps(watching.write(ASKED)))) == ASKED
    head = slices.write(slices.Head(("plan-00000",)))
    read = slices.read({"metadata": {"name": "plan"}, "spec": head | {"watching": watching.write(ASKED)}})
    assert read == slices.Head(("plan-00000",), watching=ASKED)
    assert "watching" not in slices.write(read)


@pytest.mark.parametrize(
    "wire",
    [
        None,
        [],
        {},
        {"interval": 5, "silence": 60, "watches": []},
        {"interval": 1, "silence": 60, "watches": [{}]},
        {"interval": 5, "silence": 5, "watches": [{}]},
        {"interval": 5, "silence": 60, "watches": [None]},
        {"interval": 5, "silence": 60, "watches": [{}] * 17},
        {"interval": 5, "silence": 60, "watches": [{"ipv4": 33}]},
        {"interval": 5, "silence": 60, "watches": [{"floor": -1}]},
        {"interval": 5, "silence": 60, "watches": [{"nodeSelector": [{"key": "a", "operator": "Like"}]}]},
        {"interval": 5, "silence": 60, "watches": [{}], "limited": ["1"] * 501},
    ],
)
def test_what_policies_ask_beyond_its_bounds_is_nothing(wire: object) -> None:
    """Agents watch nothing for it, and the plan in the same head is read all the same."""
    assert watching.read(wire) is None
    head = slices.write(slices.Head(("plan-00000",))) | {"watching": wire}
    assert slices.read({"metadata": {"name": "plan"}, "spec": head}) == slices.Head(("plan-00000",))


def test_the_bounds_of_the_head_are_those_of_the_crd() -> None:
    """The API server refuses what no agent would read, and takes all that is written."""
    properties = schema("bandwidthplanslices")["spec"]["properties"]["watching"]["properties"]
    assert set(properties) == set(watching.write(ASKED))
    bounds = (watching.INTERVAL_LEAST_SECONDS, watching.INTERVAL_MAX_SECONDS)
    assert (properties["interval"]["minimum"], properties["interval"]["maximum"]) == bounds
    bounds = (watching.SILENCE_LEAST_SECONDS, watching.SILENCE_MAX_SECONDS)
    assert (properties["silence"]["minimum"], properties["silence"]["maximum"]) == bounds
    assert properties["watches"]["maxItems"] == watching.WATCHES_MAX
    assert properties["limited"]["maxItems"] == watching.LIMITED_MAX
    watch = properties["watches"]["items"]["properties"]
    networks = (addresses.parse("192.0.2.0/24"),)
    whole = Watch(1, 1, 32, 64, True, ASKED.watches[0].node_selector, networks, networks)
    assert set(watch) == set(watching.write(Watching(5, 60, (whole,)))["watches"][0])
    assert {watch[each]["maxItems"] for each in ("clients", "exempt")} == {watching.NETWORKS_MAX}
    assert watch["floor"]["maximum"] == watching.FLOOR_MAX
    assert watch["nodeSelector"]["maxItems"] == watching.TERMS_MAX


# ── what is reported ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_report_for_policies_comes_back() -> None:
    """To the kB and the millisecond, with what is not known as that."""
    report = Watched(
        7,
        Span(5.003, 740_000_000.0),
        Span(300.0, None),
        10**9,
        (Client(CLIENT, 0.0, 0), Client(addresses.parse("2001:db8::/64"), 5_000.0)),
        (Client(addresses.parse("203.0.113.9"), 9_000_000.0, 12, (Port("TCP", 443, 0.6), Port("UDP", 53, 0.4))),),
    )
    assert comes_back(report) == report
    assert comes_back(Watched(8, trouble="it may not look")) == Watched(8, trouble="it may not look")
    assert comes_back(Watched(9, Span(5.0, 0.0))) == Watched(9, Span(5.0, 0.0))


def test_a_report_for_policies_is_no_answer_to_a_question() -> None:
    """Both are in one object, written each by itself, and neither takes away what the other says."""
    report = Watched(7, Span(5.0))
    answer, own = client_traffic.write(Traffic("n1", 3)), client_traffic.write_watched(report)
    assert set(answer) & set(own) == {"schema"}
    read = client_traffic.read({"metadata": {"name": "n1"}, "status": answer | own})
    assert read is not None
    assert (read.renewal, read.watched) == (3, report)
    alone = client_traffic.read({"metadata": {"name": "n1"}, "status": own})
    assert alone is not None
    assert (alone.renewal, alone.watched) == (0, report)


@pytest.mark.parametrize("text", ["203.0.113.{}", "2001:db8:1234:{}::/64"])
def test_ten_candidates_are_600_bytes(text: str) -> None:
    """Also with a counter each, or a port; of longer ones those that got least are left out."""
    ports = () if ":" in text else (Port("TCP", 443, 1.0),)
    ten = tuple(Client(addresses.parse(text.format(n)), 1e9, 12, ports) for n in range(100, 110))
    wire = watched.write(Watched(1_764_000_000, Span(5.003, 1e9), Span(300.0, 1e9), 10**10, (), ten))
    assert len(wire["candidates"]) == 10
    assert len(json.dumps(wire, separators=(",", ":"))) <= watched.MAX_BYTES
    long = tuple(
        c._replace(client=addresses.parse(f"2001:db8:1234:5678:9abc:def0:1234:{1000 + n}"), over_limits=10**9)
        for n, c in enumerate(ten)
    )
    wire = watched.write(Watched(1_764_000_000, Span(5.003, 1e9), Span(300.0, 1e9), 10**10, (), long))
    assert 0 < len(wire["candidates"]) < 10
    assert len(json.dumps(wire, separators=(",", ":"))) <= watched.MAX_BYTES
    assert [watched.row_text(each) for each in long[: len(wire["candidates"])]] == wire["candidates"]


def test_the_limited_come_beside_the_candidates() -> None:
    """However many are limited, candidates have the same room, and the whole is bounded."""
    limited = tuple(Client(addresses.parse(f"2001:db8:{n:x}::/64"), 1e9, 1) for n in range(1, 400))
    wire = watched.write(Watched(1, Span(5.0), limited=limited, candidates=(Client(CLIENT, 1e6),)))
    assert wire["candidates"] == ["198.51.100.7 1000"]
    assert len(json.dumps(wire, separators=(",", ":"))) <= watched.MAX_BYTES + watched.LIMITED_MAX_BYTES


@pytest.mark.parametrize(
    "row", [1, "", "198.51.100.7", "198.51.100.7 -1", "198.51.100.300 1", "198.51.100.7 1 h1 T1:1 x", "x" * 200, None]
)
def test_odd_rows_for_policies_are_left_out(row: object) -> None:
    """One client is counted once, and what is none not at all."""
    wire = watched.write(Watched(1, Span(5.0), limited=(Client(CLIENT, 1e6),)))
    wire["candidates"] = [row, "198.51.100.7 9000", "203.0.113.1 5"]
    read = watched.read(wire)
    assert read is not None
    assert [each.client for each in (*read.limited, *read.candidates)] == [CLIENT, addresses.parse("203.0.113.1")]


@pytest.mark.parametrize("span", [1, None, "", "-1", "1e3", "5.03", "nan", "5.000 1 2", "5.000.000"])
def test_a_span_of_another_form_is_no_time(span: object) -> None:
    """Of no time nothing is counted."""
    assert watched.read({"number": 1, "span": span}) == Watched(1)


def test_the_bounds_of_a_report_are_those_of_the_crd() -> None:
    """The API server takes all that is written."""
    properties = schema("nodeclienttraffics")["status"]["properties"]["watched"]["properties"]
    assert set(properties) == set(watched.write(Watched(1)))
    assert properties["candidates"]["maxItems"] == watched.CANDIDATES_MAX
    assert properties["limited"]["maxItems"] == watched.ROWS_MAX
    assert properties["trouble"]["maxLength"] >= watched.TROUBLE_MAX
