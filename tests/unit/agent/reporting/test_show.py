"""What `show` says of a kernel: every limit that is there, as it is there."""

from __future__ import annotations

import dataclasses
import json

import pytest

from bandwidth_agent.kernel import model
from bandwidth_agent.reporting import show
from bandwidth_agent.settings import PlacementSetting, Settings
from bandwidth_api.plan import Mode, PortRange, Sharing
from unit import documents
from unit.agent.entries import MBIT, entry
from unit.agent.reporting import shaped
from unit.agent.reporting.test_who_page import MADE

NOW = 1_800_000_000.0


def looked(node: shaped.Node, *, seconds: float = 1.0, during: tuple[str, int] | None = None) -> show.View:
    """Two readings, with packets sent to a client in between."""
    before = node.kernel.counters()
    if during is not None:
        node.send(during[0], packets=during[1])
    node.kernel.at += seconds
    return show.view(node.kernel.observe(), before, node.kernel.counters())


def table(node: shaped.Node) -> list[str]:
    return show.table(looked(node), NOW, colors=False).splitlines()


def test_without_limits_there_is_nothing_to_show() -> None:
    """An untouched node is a sentence, and an empty list for programs."""
    node = shaped.Node()
    assert table(node) == ["no limit is in the kernel"]
    assert show.as_json(looked(node))["limits"] == []


def test_a_limit_is_a_line_with_all_that_is_known() -> None:
    """Name, clients, rate, mode and what is left of its time."""
    node = shaped.Node(entry("mail", "203.0.113.7", "2001:db8::7", expires_at=NOW + 90_061))
    head, line = table(node)
    assert head.split() == ["LIMIT", "CLIENT", "RATE", "NOW", "DROPS", "BACKLOG", "MODE", "CHECK", "EXPIRES"]
    assert line.split("  ")[0] == "mail"
    for words in ("203.0.113.7, 2001:db8::7", "5 Mbit", "0 bit", "0 B", "Enforce", "in 1d 1h"):
        assert words in line


def test_the_policy_of_a_made_limit_is_a_column() -> None:
    """Only where there is one; programs are told all that `who` tells."""
    node = shaped.Node(entry("fair-03e9b06641", "203.0.113.7"), entry("mail", "203.0.113.8"))
    counters = node.kernel.counters()
    seen = show.view(node.kernel.observe(), counters, counters, makers={"fair-03e9b06641": MADE})
    head, fair, mail = show.table(seen, NOW, colors=False).splitlines()
    assert head.endswith("POLICY")
    assert (fair.split("  ")[-1].strip(), mail.split("  ")[-1].strip()) == ("fair, step 1 of 2", "-")
    told = show.as_json(seen)
    assert isinstance(told["limits"], list)
    assert [(each["policy"] or {}).get("name") for each in told["limits"]] == ["fair", None]
    documents.check("show", told)


def test_the_rate_now_is_measured_between_the_readings() -> None:
    """Bytes of the interval, not of all time."""
    node = shaped.Node(entry("mail", "203.0.113.7"))
    node.send("203.0.113.7", packets=1000)
    [row] = looked(node, seconds=2.0, during=("203.0.113.7", 100)).rows
    assert row.measured_bits_per_second == pytest.approx(100 * 1514 * 8 / 2)
    assert row.counters.packets == 1100


def test_what_was_seen_of_a_limit_is_a_column() -> None:
    """Enough packets in its class, too few, or packets that left past it, whatever came by before."""
    node = shaped.Node(*(entry(name, f"203.0.113.{number}") for number, name in enumerate(("few", "many", "past"), 1)))
    node.send("203.0.113.1", packets=31)
    for client in ("203.0.113.2", "203.0.113.3"):
        node.send(client, packets=32)
    counters, state = node.kernel.counters(), node.kernel.observe()
    numbers = {row.limit: row.number for row in show.view(state, counters, counters).rows}
    looked_at = show.view(state, counters, counters, bypassed={numbers["past"]})
    assert {row.limit: row.check for row in looked_at.rows} == {
        "few": "unverified",
        "many": "verified",
        "past": "bypassed",
    }
    assert [warning.partition(" were")[0] for warning in looked_at.warnings] == ["packets of past"]
    painted = show.table(looked_at, NOW, colors=True).splitlines()
    assert [line.startswith("\033[31m") for line in painted[1:4]] == [False, False, True]
    assert [limit["check"] for limit in show.as_json(looked_at)["limits"]] == [  # type: ignore[attr-defined]
        "unverified",
        "verified",
        "bypassed",
    ]


def test_a_class_made_anew_between_the_readings_measures_zero() -> None:
    """A counter that went backwards is no negative rate."""
    node = shaped.Node(entry("mail", "203.0.113.7"))
    node.send("203.0.113.7", packets=10)
    before = node.kernel.counters()
    after = dataclasses.replace(before, at=before.at + 1, classes={})
    [row] = show.view(node.kernel.observe(), before, after).rows
    assert row.measured_bits_per_second == 0


def test_two_readings_at_one_time_measure_nothing() -> None:
    """No division by an interval of zero."""
    node = shaped.Node(entry("mail", "203.0.113.7"))
    reading = node.kernel.counters()
    [row] = show.view(node.kernel.observe(), reading, reading).rows
    assert row.measured_bits_per_second == 0


def test_each_client_of_a_per_entry_limit_has_its_line() -> None:
    """One rate each, one line each."""
    node = shaped.Node(entry("scraper", "203.0.113.7", "198.51.100.0/24", sharing=Sharing.PER_ENTRY))
    rows = looked(node).rows
    assert [(row.limit, row.client) for row in rows] == [("scraper", "198.51.100.0/24"), ("scraper", "203.0.113.7")]


def test_ports_have_a_column_when_a_limit_has_some() -> None:
    """And the limits without ports say that they are for all."""
    ports = (PortRange("TCP", 993, 993), PortRange("UDP", 1000, 2000))
    node = shaped.Node(entry("imap", "203.0.113.7", ports=ports), entry("rest", "203.0.113.8"))
    head, imap, rest = table(node)
    assert "PORTS" in head
    assert "993/tcp, 1000-2000/udp" in imap
    assert " all " in rest


def test_many_addresses_are_counted_and_not_listed() -> None:
    """A table is for reading; JSON has them all."""
    clients = [f"203.0.113.{number}" for number in range(1, 20)]
    node = shaped.Node(entry("many", *clients))
    assert "203.0.113.1, 203.0.113.2 +17" in table(node)[1]
    [limit] = json.loads(json.dumps(show.as_json(looked(node))))["limits"]
    assert limit["addresses"] == clients


def test_observe_is_told_from_enforce() -> None:
    """By what the class may borrow, which is what the kernel goes by."""
    node = shaped.Node(entry("watch", "203.0.113.7", mode=Mode.OBSERVE), entry("slow", "203.0.113.8"))
    assert {row.limit: row.mode for row in looked(node).rows} == {"watch": "Observe", "slow": "Enforce"}


def test_under_placement_interface_devices_are_summed() -> None:
    """One class on each interface is one limit all the same."""
    node = shaped.Node(entry("mail", "203.0.113.7"), settings=Settings(placement=PlacementSetting.INTERFACE))
    node.send("203.0.113.7", packets=3)
    [row] = looked(node).rows
    assert row.devices == ("eth0",)
    assert row.counters.packets == 3


def test_what_cannot_work_is_said() -> None:
    """An entry without a class, a lookup that is not the first, a device that is down: no table hides it."""
    node = shaped.Node(entry("mail", "203.0.113.7"))
    [number] = node.kernel.state.trees["cbl0"].classes
    node.kernel.delete_class("cbl0", number)
    node.kernel.rule_above_ours(4)
    node.kernel.set_ifb_down(0)
    view = looked(node)
    assert view.rows[0].mode == "missing"
    assert len(view.warnings) == 3
    text = show.table(view, NOW, colors=False)
    assert text.count("warning: ") == 3


def test_colors_only_where_they_are_wanted() -> None:
    """What is piped is plain; on a terminal a client at its limit stands out."""
    node = shaped.Node(entry("mail", "203.0.113.7", rate=MBIT))
    view = looked(node, during=("203.0.113.7", 100))
    assert "\033" not in show.table(view, NOW, colors=False)
    assert "\033[33m" in show.table(view, NOW, colors=True)


def test_columns_are_aligned() -> None:
    """Numbers end under each other, words begin under each other, and no line ends with blanks."""
    node = shaped.Node(entry("a", "203.0.113.7"), entry("a-long-name", "203.0.113.8", rate=MBIT, mode=Mode.OBSERVE))
    lines = table(node)
    assert len({line.index(word) for line, word in zip(lines, ("CLIENT", "203.0", "203.0"), strict=True)}) == 1
    ends = [line.index(word) + len(word) for line, word in zip(lines, ("RATE", "5 Mbit", "1 Mbit"), strict=True)]
    assert len(set(ends)) == 1
    assert lines == [line.rstrip() for line in lines]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "now"), (1, "in 1s"), (59.9, "in 59s"), (61, "in 1m 1s"), (3600, "in 1h 0m"), (200_000, "in 2d 7h")],
)
def test_what_is_left_of_a_time_is_told_in_two_units(seconds: float, text: str) -> None:
    """Rounded down: a limit is never said to last longer than it does."""
    node = shaped.Node(entry("mail", "203.0.113.7", expires_at=NOW))
    view = looked(node)
    row = dataclasses.replace(view.rows[0], expires_at=int(NOW))
    told = show.table(dataclasses.replace(view, rows=(row,)), NOW - seconds, colors=False)
    assert told.splitlines()[1].endswith(text)


def test_json_has_the_documented_schema() -> None:
    """docs/reference/show.schema.json says what programs may rely on."""
    ports = (PortRange("TCP", 993, 993),)
    node = shaped.Node(
        entry("imap", "203.0.113.7", ports=ports, expires_at=NOW),
        entry("rest", "203.0.113.8", sharing=Sharing.PER_ENTRY),
    )
    documents.check("show", json.loads(json.dumps(show.as_json(looked(node)))))
    documents.check("show", json.loads(json.dumps(show.as_json(looked(shaped.Node())))))


def test_a_kernel_with_nothing_but_counters_is_survived() -> None:
    """Counters of devices that went away in between are left out."""
    empty = model.Counters(at=0.0, classes={"cbl9": {}}, direct_packets={}, rules={})
    assert show.view(model.EMPTY, empty, empty).rows == ()
