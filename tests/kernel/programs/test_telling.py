"""A log that cannot be written or is not read: limits begin and end in time all the same."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import pty
from collections.abc import Callable, Iterator

import pytest

from bandwidth_lab import Network
from bandwidth_lab.node import whole_second
from kernel.programs.conftest import Host

pytestmark = pytest.mark.root

CLIENT, OTHER = "203.0.113.10", "203.0.113.11"
Target = Callable[[], contextlib.AbstractContextManager[int]]


@contextlib.contextmanager
def full_disk() -> Iterator[int]:
    """Every write is refused: no space left."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def without_reader() -> Iterator[int]:
    """A pipe whose other end is closed."""
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        yield theirs
    finally:
        os.close(theirs)


@contextlib.contextmanager
def stuck_reader(*, blocking: bool) -> Iterator[int]:
    """A pipe that is full, and whose reader reads no more."""
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    os.write(theirs, b"x" * 4096)
    os.set_blocking(theirs, blocking)
    try:
        yield theirs
    finally:
        os.close(ours)
        os.close(theirs)


@contextlib.contextmanager
def closed_terminal() -> Iterator[int]:
    """A terminal whose other end is gone."""
    ours, theirs = pty.openpty()
    os.close(ours)
    try:
        yield theirs
    finally:
        os.close(theirs)


@pytest.mark.parametrize(
    "target",
    [
        full_disk,
        without_reader,
        lambda: stuck_reader(blocking=True),
        lambda: stuck_reader(blocking=False),
        closed_terminal,
    ],
    ids=["full-disk", "no-reader", "stuck-reader", "stuck-reader-not-blocking", "closed-terminal"],
)
def test_a_log_that_goes_nowhere_stops_no_limit(host: Host, target: Target) -> None:
    """One begins and changes, one expires in time, and the agent ends when it is told to, with 0."""
    host.limit("mail", [CLIENT], "5Mbit")
    with target() as descriptor:
        command = host.command("run", "--log-level", "debug", "--metrics-address", "127.0.0.1:9100")
        host.process = host.namespace.start(command, stdout=descriptor, stderr=descriptor)
        host.until_rate(CLIENT, 5_000_000)
        host.limit("new", [OTHER], "x")
        host.limit("new", [OTHER], "3Mbit")
        host.until_rate(OTHER, 3_000_000)
        host.limit_until(whole_second(3), "mail", [CLIENT], "5Mbit")
        host.until_rate(CLIENT, None)
        assert host.process.poll() is None
        assert host.stop() == 0


def test_a_result_that_nobody_reads_changes_no_exit_code(host: Host, network: Network) -> None:
    """An error that cannot be said is an error as before, and no traceback."""
    host.start()
    host.until(lambda: "started" in host.log.read_text())
    with full_disk() as descriptor:
        refused = host.namespace.start(host.command("cleanup"), stdout=descriptor, stderr=descriptor)
        assert refused.wait(timeout=30) == 1
    host.stop()


def test_text_of_others_steers_no_terminal(host: Host, tmp_path: pathlib.Path) -> None:
    """Names of files, texts of manifests, and names of sets that another program made: shown as what they are."""
    evil = "\x1b[2J\x07\u202e"
    host.write(f"{evil}.yaml", "spec: [")
    host.write("text.yaml", f'kind: "{evil[1:]}\\e[31m"\nname: "a\\nb"\n')
    comment = "cbl:\x1b[31mevil"
    host.limit("mail", [CLIENT], "5Mbit")
    host.once(check=False)
    host.namespace.run(["ipset", "add", "cbl-v4", "198.51.100.9", "comment", comment], check=False)
    for words in (("plan",), ("show",), ("run", "--once"), ("cleanup",)):
        done = host.call(*words)
        assert all(letter == "\n" or letter.isprintable() for letter in done.stdout + done.stderr), words
    host.process = None
    with host.log.open("a") as log:
        host.process = host.namespace.start(
            host.command("run", "--log-format", "text"), stdout=log.fileno(), stderr=log.fileno()
        )
    host.until(lambda: "Unreadable" in host.log.read_text())
    host.stop()
    assert all(letter == "\n" or letter.isprintable() for letter in host.log.read_text())
