"""The values that are typed."""

from __future__ import annotations

import pathlib

import pytest
import yaml

from bandwidth_api import addresses
from bandwidth_api.plan import PortRange
from bandwidth_cli.command_line import values
from bandwidth_sight import draft

ROOT = pathlib.Path(__file__).resolve().parents[4]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (" 203.0.113.7 ", "203.0.113.7"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:5::/48", "2001:db8:5::/48"),
        ("203.0.113.7/32", "203.0.113.7"),
    ],
)
def test_an_address_may_be_in_any_clear_form(text: str, written: str) -> None:
    """It is made canonical, which is what the API server wants."""
    assert addresses.write(values.client(text)) == written


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("203.0.113.7/24", "203.0.113.0/24"),
        ("203.0.113", "write for example"),
        ("203.0.113.07", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("127.0.0.1", "loopback"),
        ("0.0.0.0/0", "too wide"),
        ("mail.example.com", "names are not looked up"),
        ("224.0.0.1", "multicast"),
    ],
)
def test_what_no_limit_may_name_is_refused(text: str, says: str) -> None:
    """Before anything is asked, with the right form."""
    with pytest.raises(ValueError, match=says):
        values.client(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("993", (PortRange("TCP", 993, 993),)),
        ("993, 8000-8100", (PortRange("TCP", 993, 993), PortRange("TCP", 8000, 8100))),
        ("53/udp", (PortRange("UDP", 53, 53),)),
        ("UDP:53,tcp:53", (PortRange("UDP", 53, 53), PortRange("TCP", 53, 53))),
    ],
)
def test_ports_are_read(text: str, found: tuple[PortRange, ...]) -> None:
    """In the usual forms; TCP where nothing else is said."""
    assert values.ports(text) == found


@pytest.mark.parametrize("text", ["", "0", "65536", "9-8", "x", "1,,2", "tcp:1/udp", "1/sctp", "1,2,3,4,5,6,7,8"])
def test_what_are_no_ports_is_refused(text: str) -> None:
    """With an example, or the bound."""
    with pytest.raises(ValueError, match="write"):
        values.ports(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30m", 1800), ("1h", 3600), ("2d", 172800), ("forever", None), ("FOREVER", None)]
)
def test_durations_are_read(text: str, seconds: int | None) -> None:
    """As limits last, or without an end."""
    assert values.lasts(text) == seconds


@pytest.mark.parametrize("text", ["", "  ", "x" * 257, "a\nb", "\x1b[31m"])
def test_a_reason_is_a_line_of_text(text: str) -> None:
    """The next person must be able to read it."""
    with pytest.raises(ValueError, match="reason"):
        values.reason(text)


@pytest.mark.parametrize("text", ["", "Mail", "a_b", "-a", "a" * 254, "a..b", "a/b"])
def test_a_name_is_one_of_an_object(text: str) -> None:
    """The rule of the API server."""
    with pytest.raises(ValueError, match="no object name"):
        values.name(text)


@pytest.mark.parametrize(("text", "seconds"), [("10", 10.0), ("10s", 10.0), ("1.5", 1.5), ("2m", 120.0), ("0", 0.0)])
def test_times_to_wait_are_seconds(text: str, seconds: float) -> None:
    """Bare or with a unit."""
    assert values.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "x", "1h", "1e3", "nan"])
def test_what_is_no_time_to_wait_is_refused(text: str) -> None:
    """Also what float() would take."""
    with pytest.raises(ValueError, match="no time to wait"):
        values.seconds(text)


def test_the_bounds_are_those_of_the_crd() -> None:
    """What is refused here would be refused there, and nothing else."""
    crd = yaml.safe_load((ROOT / "deploy/crds/clientbandwidthlimits.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert spec["reason"]["maxLength"] == draft.REASON_MAX
    assert spec["egress"]["properties"]["ports"]["maxItems"] == values.PORTS_MAX
    assert spec["priority"]["maximum"] == values.PRIORITY_MAX
    assert spec["clients"]["maxItems"] == values.CLIENTS_MAX
    query = yaml.safe_load((ROOT / "deploy/crds/clienttrafficqueries.yaml").read_text())
    asked = query["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert asked["top"]["maximum"] == values.ROWS_MAX
    assert asked["nodes"]["maxItems"] == values.NODES_MAX
