"""What was found bypassed, over restarts of the agent: on a disk of its own, and on one that is of no use."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable

import pytest

from bandwidth_agent import reconcile, report
from bandwidth_agent.kernel.fake import fake_kernel
from bandwidth_agent.limits import Wanted
from bandwidth_agent.settings import ClassifierSetting, PlacementSetting, Settings
from bandwidth_agent.sight.truth import judge, look, stored_findings
from bandwidth_api import addresses
from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.plan import ClassKey, Mode, PlanEntry, PortRange, Sharing
from unit.agent.entries import entry
from unit.clock import Clock

A, B = entry("a", "203.0.113.7", expires_at=9e9), entry("b", "203.0.113.8")
HOST = "node-1"


class Host:
    """A host of which the agent starts again and again; packets to `past` go past their limits."""

    def __init__(self, state_dir: pathlib.Path, **node: object) -> None:
        self.state_dir = state_dir
        self.clock = Clock()
        self.kernel = fake_kernel.FakeKernel(**node)  # type: ignore[arg-type]
        self.entries: tuple[PlanEntry, ...] = (A, B)
        self.made: report.Report | None = None

    def start(self, settings: Settings | None = None, *, host: str = HOST, complete: bool = True) -> dict[str, Reason]:
        """A new process with its first pass: what it says of limits that fail."""
        self.store = stored_findings.Store(self.state_dir, host)
        self.agent = reconcile.Reconciler(
            self.kernel, settings or Settings(), clock=self.clock, jitter=lambda: 0.5, findings=self.store
        )
        return self.run(complete=complete)

    def run(self, *, complete: bool = True, read: bool = True) -> dict[str, Reason]:
        wanted = Wanted(self.entries, complete=complete)
        self.made = self.agent.run(wanted, read=read)
        return {problem.name: problem.reason for problem in self.made.failing}

    def end(self) -> None:
        """It ends, and its kernel stays; whatever was to be written is written."""
        self.agent.truth.close()
        self.store.close()

    def send(self, client: str, seconds: float, *, past: bool, family: int = 4) -> dict[str, Reason]:
        for _ in range(round(seconds / 0.05)):
            self.clock.now += 0.05
            self.kernel.at = self.clock.now
            to = addresses.parse(client)
            self.kernel.transmit(to.family, to.network, "TCP", 443, "eth0", packets=10, past_rules=past)
            if self.agent.truth.turn():
                self.run(read=False)
        return self.run(read=False)

    def bypassed_once(self) -> bytes:
        """An agent that found the limit `a` bypassed, and ended; what it wrote."""
        self.start()
        assert self.send("203.0.113.7", 5.0, past=True) == {"a": Reason.BYPASSED}
        self.end()
        return (self.state_dir / stored_findings.NAME).read_bytes()


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Host:
    return Host(tmp_path / "state")


BYPASSED = {"a": Reason.BYPASSED}


def test_a_new_process_knows_it_before_any_packet(host: Host) -> None:
    """With the same words, however often it starts, and for as long as nobody is sent anything."""
    host.bypassed_once()
    said: list[Problem] = []
    for _ in range(3):
        assert host.start() == BYPASSED
        assert host.made is not None
        said += host.made.failing
        host.clock.now += 1e6
        assert host.run() == BYPASSED
        host.end()
    assert len(set(said)) == 1


def test_packets_that_are_held_end_it_for_good(host: Host) -> None:
    """In the process that sees them, and in all later ones."""
    host.bypassed_once()
    host.start()
    assert host.send("203.0.113.7", 5.0, past=False) == {}
    host.end()
    assert host.start() == {}


def test_a_node_where_nothing_is_bypassed_writes_nothing(host: Host) -> None:
    """Not even an empty file."""
    host.start()
    host.send("203.0.113.7", 5.0, past=False)
    host.end()
    assert not host.state_dir.exists()


CHANGES: dict[str, PlanEntry] = {
    "rate": dataclasses.replace(A, rate_bits_per_second=1_000_000),
    "clients": dataclasses.replace(A, clients=(*A.clients, addresses.parse("203.0.113.77"))),
    "ports": dataclasses.replace(A, ports=(PortRange("TCP", 443, 443),)),
    "mode": dataclasses.replace(A, mode=Mode.OBSERVE),
    "sharing": dataclasses.replace(A, sharing=Sharing.PER_ENTRY),
    "name": dataclasses.replace(A, limit="other"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_limit_that_changed_meanwhile_is_judged_anew(host: Host, change: str) -> None:
    """As any limit that was made now: nothing is known of it until packets are seen."""
    host.bypassed_once()
    host.entries = (CHANGES[change], B)
    assert host.start() == {}
    host.end()
    host.entries = (A, B)
    assert host.start() == {}  # and what was forgotten once does not come back


def test_an_edit_that_no_packet_notices_changes_nothing(host: Host) -> None:
    """The end of the limit, and its age."""
    host.bypassed_once()
    host.entries = (dataclasses.replace(A, expires_at=8e9, created_at=17.0, generation=9), B)
    assert host.start() == BYPASSED


@pytest.mark.parametrize(
    "settings",
    [Settings(placement=PlacementSetting.INTERFACE), Settings(classifier=ClassifierSetting.PRIORITY)],
    ids=["placement", "classifier"],
)
def test_where_limits_are_enforced_another_way_it_is_judged_anew(host: Host, settings: Settings) -> None:
    """What went past the old way may not go past the new one."""
    host.bypassed_once()
    assert host.start(settings) == {}


def test_an_interface_that_comes_later_is_waited_for(host: Host) -> None:
    """It is not there when the node has booted; what is known of it is neither said nor lost."""
    host.bypassed_once()
    eth9 = fake_kernel.interface("eth9", index=9)
    host.kernel = fake_kernel.FakeKernel(fake_kernel.facts(eth9))
    assert host.start() == {}
    host.kernel.node = fake_kernel.facts(fake_kernel.interface(), eth9)
    assert host.run() == BYPASSED
    host.end()
    assert host.start() == BYPASSED


def test_limits_that_are_not_all_read_yet_lose_nothing(host: Host) -> None:
    """A plan that is incomplete says nothing about the limits that are not in it."""
    host.bypassed_once()
    host.entries = (B,)
    assert host.start(complete=False) == {}
    host.entries = (A, B)
    assert host.run() == BYPASSED


def test_a_limit_that_was_lifted_and_made_again_is_a_new_one(host: Host) -> None:
    """With or without others beside it while it was gone."""
    for others in ((B,), ()):
        host.entries = (A, B)
        host.bypassed_once()
        host.start()
        host.entries = others
        host.run()
        host.end()
        host.entries = (A, B)
        assert host.start() == {}
        host.end()


def sealed(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def without_the_end(data: bytes) -> bytes:
    return data[: len(data) // 2]


def rewritten(*changes: tuple[bytes, bytes]) -> Callable[[bytes], bytes]:
    """What was written with some words replaced, and a checksum that is right."""

    def write(data: bytes) -> bytes:
        text = data.partition(b"\n")[2]
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        return sealed(text)

    return write


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(without_the_end, id="cut"),
        pytest.param(lambda data: data.replace(b"eth0", b"eth1"), id="changed"),
        pytest.param(lambda _: os.urandom(5000), id="no text"),
        pytest.param(lambda _: sealed(b"[" * 100_000), id="nested"),
        pytest.param(lambda _: sealed(b"null\n"), id="nothing"),
        pytest.param(lambda _: sealed(b'{"layout":1}\n'), id="no host"),
        pytest.param(lambda data: sealed(data.partition(b"\n")[2] + b'["a"]\n'), id="a short line"),
        pytest.param(rewritten((b'"layout": 1', b'"layout": 2')), id="another layout"),
        pytest.param(rewritten((b"node-1", b"node-2")), id="another host"),
        pytest.param(rewritten((b"203.0.113.7", b"203.0.113.0/24")), id="no single client"),
        pytest.param(rewritten((b"203.0.113.7", b"x" * 999)), id="no address"),
        pytest.param(rewritten((b'"eth0"', b"0")), id="no interface"),
        pytest.param(rewritten((b'"eth0"', b'"' + b"e" * 16 + b'"')), id="a long interface"),
    ],
)
def test_a_file_that_is_of_no_use_costs_only_itself(host: Host, damage: Callable[[bytes], bytes]) -> None:
    """Every limit is in force, and what is found next is kept in its place."""
    path = host.state_dir / stored_findings.NAME
    path.write_bytes(damage(host.bypassed_once()))
    assert host.start() == {}
    assert host.send("203.0.113.7", 5.0, past=True) == BYPASSED
    host.end()
    assert host.start() == BYPASSED


@pytest.mark.parametrize("what", ["directory", "pipe", "huge"])
def test_something_else_in_its_place_is_not_waited_for(host: Host, what: str) -> None:
    """It is neither read to its end nor removed."""
    host.state_dir.mkdir()
    path = host.state_dir / stored_findings.NAME
    if what == "directory":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)
    assert host.start() == {}
    assert host.send("203.0.113.7", 5.0, past=True) == BYPASSED
    host.end()


def test_a_disk_that_cannot_be_written_stops_nothing_and_is_tried_again(host: Host) -> None:
    """Findings are reported as ever; when there is room again, they are kept."""
    host.state_dir.write_text("a file is where the directory should be")
    host.start()
    assert host.send("203.0.113.7", 5.0, past=True) == BYPASSED
    host.store.close()  # what waits is tried, and fails
    host.state_dir.unlink()
    host.clock.now += stored_findings.AGAIN_SECONDS
    host.send("203.0.113.8", 3.0, past=False)
    host.end()
    assert host.start() == BYPASSED


def test_its_size_is_bounded(tmp_path: pathlib.Path) -> None:
    """However many are found, and it can be read again."""
    longest = (stored_findings._COUNT_MAX,) * 3
    finding = judge.Finding(*longest, "e" * 15, (6, (1 << 128) - 1), look.Scope("e" * 15, 6, 255, 65535))
    item = stored_findings.Stored("f" * 24, "interface priority", finding)
    store = stored_findings.Store(tmp_path, HOST)
    store.save([item._replace(form=f"{n:024x}") for n in range(stored_findings.MOST + 5)], 0.0)
    store.close()
    assert (tmp_path / stored_findings.NAME).stat().st_size < stored_findings.READ_MAX_BYTES
    assert len(stored_findings.Store(tmp_path, HOST).load()) == stored_findings.MOST


def test_what_is_there_is_not_written_again(tmp_path: pathlib.Path) -> None:
    """A start that finds what it knows leaves the file alone."""
    host = Host(tmp_path)
    host.bypassed_once()
    path = tmp_path / stored_findings.NAME
    before = path.stat()
    host.start()
    host.run()
    host.end()
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_it_holds_no_name(host: Host) -> None:
    """A digest says whose finding it is, and changes with each class of a limit."""
    assert b'"a"' not in host.bypassed_once()
    forms = {stored_findings.form(ClassKey("a", client), A) for client in ("", "203.0.113.7", "203.0.113.8")}
    assert len(forms) == 3


def test_cleanup_removes_it(host: Host) -> None:
    """And where there is none, or none can be removed, nothing happens."""
    host.bypassed_once()
    for _ in range(2):
        stored_findings.forget(host.state_dir)
        assert not (host.state_dir / stored_findings.NAME).exists()
