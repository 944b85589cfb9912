"""Files that break in every way that files do: told clearly, without harm to others, and never a reason to be fast."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from bandwidth_agent.kernel import model
from bandwidth_lab import Network, TcpFlow, WireMeter, star
from bandwidth_lab.node import Node
from kernel.behaviour.passes import Passes

pytestmark = pytest.mark.root

MAIL = """\
apiVersion: clientbandwidth.io/v1alpha1
kind: ClientBandwidthLimit
metadata:
  name: mail
spec:
  clients: [203.0.113.77]
  egress:
    rate: 5Mbit
"""
CLIENT, RATE = "203.0.113.77", 5_000_000
OTHER_RATE = 4_000_000
BLUR = 1.2  # of the rate in a second, on a machine that delivers late


class Bad(NamedTuple):
    """What is written in the place of MAIL, and how it is told."""

    content: bytes
    name: str  # of the object, or of the file where no object can be told
    reason: str
    field: str  # "" where no field can be told
    says: str


def instead(old: str, new: str, name: str, reason: str, field: str, says: str) -> Bad:
    assert old in MAIL
    return Bad(MAIL.replace(old, new).encode(), name, reason, field, says)


def unreadable(content: str | bytes, says: str) -> Bad:
    return Bad(content if isinstance(content, bytes) else content.encode(), "mail.yaml", "Unreadable", "", says)


def client(text: str, reason: str, says: str) -> Bad:
    return instead(CLIENT, text, "mail", reason, "spec.clients[0]", says)


def rate(text: str, says: str) -> Bad:
    return instead("5Mbit", text, "mail", "Invalid", "spec.egress.rate", says)


BAD = {
    "broken YAML": unreadable(MAIL.replace("5Mbit", "[5Mbit"), "no YAML"),
    "a tab": unreadable(MAIL.replace("    rate", "\trate"), "no YAML"),
    "a key twice": unreadable(MAIL + "    rate: 6Mbit\n", "'rate' is written twice"),
    "an unknown field": instead("spec:\n", "spec:\n  colour: red\n", "mail", "UnknownField", "spec.colour", "colour"),
    "an unknown field deep inside": instead(
        "  egress:\n", "  egress:\n    celing: 6Mbit\n", "mail", "UnknownField", "spec.egress.celing", "rate"
    ),
    "a rate too high": rate("900Gbit", "between 64kbit and 400Gbit"),
    "a rate too low": rate("1kbit", "between 64kbit and 400Gbit"),
    "a rate without a unit": rate("5", "5Mbit"),
    "a rate of words": rate("fast", "kbit, Mbit or Gbit"),
    "an own address": client("192.0.2.10", "ProtectedAddress", "192.0.2.10"),
    "an own address of IPv6": client("'2001:db8:0:1::10'", "ProtectedAddress", "2001:db8:0:1::10"),
    "a network around an own address": client("192.0.2.0/28", "ProtectedAddress", "spec.except"),
    "the default gateway": client("192.0.2.1", "ProtectedAddress", "192.0.2.1"),
    "the default gateway of IPv6": client("'2001:db8:0:1::1'", "ProtectedAddress", "2001:db8:0:1::1"),
    "the loopback": client("127.0.0.1", "Invalid", "loopback"),
    "the loopback of IPv6": client("'::1'", "Invalid", "loopback"),
    "an address that is none": client("203.0.113.256", "Invalid", "203.0.113.256"),
    "a name that is none": instead("name: mail", "name: Mail_1", "Mail_1", "Invalid", "metadata.name", "object name"),
    "no name": instead("name: mail", "labels: {}", "mail.yaml", "Invalid", "metadata.name", "required"),
    "written as far as a line": Bad(
        MAIL[: MAIL.index("  egress")].encode(), "mail", "Invalid", "spec.egress", "is required"
    ),
    "written as far as a word": unreadable(MAIL[: MAIL.index("data:")], "no YAML"),
    "empty": unreadable("", "the file is empty"),
    "binary": unreadable(bytes(range(256)) * 20, "not UTF-8"),
    "zeros, as after a power cut": unreadable(bytes(4096), "no YAML"),
    "a list": unreadable("- 203.0.113.77\n", "not a Kubernetes object"),
}


@pytest.fixture
def network() -> Iterator[Network]:
    with star(clients=1, prefix="kb-") as made:
        yield made


def written(node: Node, content: bytes) -> pathlib.Path:
    path = node.manifests / "mail.yaml"
    path.write_bytes(content)
    return path


def assert_told(failing: list[dict[str, Any]], bad: Bad, path: pathlib.Path) -> None:
    """One thing is wrong, and it is said which file, which object and which field."""
    (told,) = failing
    assert (told["name"], told["reason"]) == (bad.name, bad.reason)
    assert told["file"] == str(path)
    assert told["message"].startswith(f"{path}:")
    assert told.get("field", "") == bad.field
    assert f": {bad.field}: " in told["message"] or not bad.field
    assert bad.says in told["message"]


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_bad_file_is_told_and_in_nobodys_way(node: Node, passes: Passes, bad: Bad) -> None:
    """One clear error; the limit beside it comes into force all the same, stays so, and an edit mends what was bad."""
    path = written(node, bad.content)
    node.limit("other", ["203.0.113.10"], "4Mbit")
    report = passes.once(code=1)
    assert_told(report["failing"], bad, path)
    assert report["limits"] == {"desired": 2, "programmed": 1, "failed": 1}
    assert (node.rate_of(CLIENT), node.rate_of("203.0.113.10")) == (None, OTHER_RATE)
    assert passes.once(code=1)["changes"] == 0
    written(node, MAIL.encode())
    assert passes.once()["failing"] == []
    assert (node.rate_of(CLIENT), node.rate_of("203.0.113.10")) == (RATE, OTHER_RATE)


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_limit_in_force_stays_as_it_was_when_its_file_breaks(node: Node, passes: Passes, bad: Bad) -> None:
    """Nothing changes, the report names the limit and what is wrong, as often as one looks; deletion lifts it."""
    node.limit("other", ["203.0.113.10"], "4Mbit")
    written(node, MAIL.encode())
    passes.once()
    before = node.kernel()
    path = written(node, bad.content)
    for _ in range(2):
        report = passes.once(code=1)
        assert_told(report["failing"], bad._replace(name="mail", reason="KeptPrevious"), path)
        assert "stays in force as it was" in report["failing"][0]["message"]
        assert report["changes"] == 0
        assert node.kernel() == before
    path.unlink()
    assert passes.once()["limits"] == {"desired": 1, "programmed": 1, "failed": 0}
    assert (node.rate_of(CLIENT), node.rate_of("203.0.113.10")) == (None, OTHER_RATE)


def complaints(node: Node) -> list[dict[str, Any]]:
    """What the running agent has said of limits that are not as written."""
    lines = [json.loads(line) for line in node.log.read_text().splitlines()]
    return [line for line in lines if "reason" in line and "limit" in line]


def test_a_running_agent_keeps_what_was_in_force_through_everything(network: Network, node: Node) -> None:
    """Whatever its file becomes, in whatever order, and over restarts: the limit stays, and no other notices."""
    node.limit("other", ["203.0.113.10"], "4Mbit")
    node.start("--log-format", "json", "--resync", "600")
    written(node, MAIL.encode())
    node.until_rate(CLIENT, RATE)
    before = node.kernel()
    with TcpFlow(network.server, network.clients[0], congestion="cubic"), WireMeter(network.clients[0]) as meter:
        meter.measure(1.0)
        mark = len(meter.samples)
        for number, bad in enumerate(BAD.values(), start=1):
            path = written(node, bad.content)
            node.until(lambda number=number: len(complaints(node)) >= number)
            told = complaints(node)[-1]
            assert (told["limit"], told["reason"]) == ("mail", "KeptPrevious")
            assert str(path) in json.dumps(told)
            assert bad.says in json.dumps(told)
            assert node.kernel() == before
            if number % 10 == 0:
                assert node.stop() == 0
                node.start("--log-format", "json", "--resync", "600")
                node.until(lambda number=number: len(complaints(node)) >= number + 1)
                node.log.write_text("\n".join(node.log.read_text().splitlines()[:-1]) + "\n")
        path.unlink()
        node.until_rate(CLIENT, None)
        seconds = meter.series(window=10)[mark:]
    assert max(rate for _, rate in seconds) < OTHER_RATE * BLUR
    assert node.rate_of("203.0.113.10") == OTHER_RATE
    assert node.stop() == 0
    assert node.once()["limits"] == {"desired": 1, "programmed": 1, "failed": 0}


def test_a_name_in_two_files_counts_once(node: Node, passes: Passes) -> None:
    """The file that was first stays in force; the other is told, until the first is gone, and then counts."""
    written(node, MAIL.encode())
    node.limit("other", ["203.0.113.10"], "4Mbit")
    passes.once()
    second = node.manifests / "again.yaml"  # before the first in the order of names
    second.write_text(MAIL.replace("5Mbit", "9Mbit").replace(CLIENT, "203.0.113.78"))
    for _ in range(2):
        (told,) = passes.once(code=1)["failing"]
        assert (told["name"], told["reason"], told["file"]) == ("mail", "DuplicateName", str(second))
        assert told["message"].startswith(f"{second}: metadata.name: ")
        assert str(node.manifests / "mail.yaml") in told["message"]
        assert (node.rate_of(CLIENT), node.rate_of("203.0.113.78")) == (RATE, None)
    (node.manifests / "mail.yaml").unlink()
    assert passes.once()["failing"] == []
    assert (node.rate_of(CLIENT), node.rate_of("203.0.113.78")) == (None, 9_000_000)
    assert node.rate_of("203.0.113.10") == OTHER_RATE


def test_one_bad_document_among_good_ones(node: Node, passes: Passes) -> None:
    """Of a file with several limits only the bad one is told, with its line, and only it is kept as it was."""
    others = [MAIL.replace("name: mail", f"name: {n}").replace(CLIENT, f"198.18.0.{n[-1]}") for n in ("l1", "l2")]
    path = written(node, "---\n".join([others[0], MAIL, others[1]]).encode())
    passes.once()
    bad = MAIL.replace("5Mbit", "5Mbits")
    faster = others[1].replace("5Mbit", "7Mbit")
    written(node, "---\n".join([others[0], bad, faster]).encode())
    (told,) = passes.once(code=1)["failing"]
    assert (told["name"], told["reason"], told["field"]) == ("mail", "KeptPrevious", "spec.egress.rate")
    assert told["message"].startswith(f"{path}:{MAIL.count(chr(10)) + 2}: spec.egress.rate: ")
    rates = [node.rate_of(address) for address in ("198.18.0.1", CLIENT, "198.18.0.2")]
    assert rates == [RATE, RATE, 7_000_000]


def test_a_file_that_grows_while_it_is_read(node: Node) -> None:
    """An editor that writes a piece at a time: nothing is lifted between the pieces, and the whole counts."""
    node.limit("other", ["203.0.113.10"], "4Mbit")
    written(node, MAIL.encode())
    node.start("--resync", "600")
    node.until_rate(CLIENT, RATE)
    before = node.kernel()
    faster = MAIL.replace("5Mbit", "6Mbit")
    for end in range(0, len(faster), 20):
        written(node, faster[:end].encode())  # closed, and so read, each time
        assert node.kernel() == before
    written(node, faster.encode())
    node.until_rate(CLIENT, 6_000_000)
    assert node.rate_of("203.0.113.10") == OTHER_RATE
    assert node.stop() == 0


def test_nothing_but_bad_files_installs_nothing(node: Node, passes: Passes) -> None:
    """Without one good limit the host is as it was found, and each file is told once."""
    before = node.snapshot()
    for number, bad in enumerate(BAD.values()):
        (node.manifests / f"bad-{number:02}.yaml").write_bytes(
            bad.content.replace(b"name: mail", b"name: m%d" % number)
        )
    report = passes.once(code=1)
    assert {told["file"] for told in report["failing"]} == {str(path) for path in node.manifests.glob("bad-*.yaml")}
    assert report["limits"]["programmed"] == 0
    assert node.kernel() == model.EMPTY
    assert node.snapshot() == before
