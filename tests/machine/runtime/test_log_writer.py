"""The log's way out: whoever logs never waits and never fails, and what is lost is counted."""

from __future__ import annotations

import fcntl
import os
import pathlib
import re
import time
from collections.abc import Callable, Iterator

import pytest

from bandwidth_runtime import log_writer
from bandwidth_runtime.log_writer import QUEUE_BYTES, LogWriter

PATIENCE_SECONDS = 10.0


def lost(count: int, why: str) -> str:
    return f"lost {count}: {why}"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ours, theirs = os.pipe()
    yield ours, theirs
    for descriptor in (ours, theirs):
        try:
            os.close(descriptor)
        except OSError:
            continue  # a test closed it


def read_until(descriptor: int, holds: Callable[[bytes], bool]) -> bytes:
    """What comes until something holds of it."""
    data = b""
    until = time.monotonic() + PATIENCE_SECONDS
    while not holds(data):
        assert time.monotonic() < until, data[-300:]
        data += os.read(descriptor, 65536)
    return data


def test_lines_come_out_in_their_order(tmp_path: pathlib.Path) -> None:
    """Each once, and all of them by the time of the end."""
    with (tmp_path / "log").open("wb") as file:
        writer = LogWriter(file.fileno(), lost)
        for number in range(2000):
            writer.write(f"{number}\n")
        writer.close()
    assert (tmp_path / "log").read_text().split() == [str(number) for number in range(2000)]


@pytest.mark.parametrize("blocking", [True, False])
def test_a_reader_that_reads_no_more_holds_nobody_up(pipe: tuple[int, int], blocking: bool) -> None:
    """Twice what is kept is logged at once; when it reads again it gets what was kept, and how much was not."""
    ours, theirs = pipe
    os.set_blocking(theirs, blocking)
    writer = LogWriter(theirs, lost)
    line = "x" * 999 + "\n"
    began = time.monotonic()
    for _ in range(2 * QUEUE_BYTES // 1000):
        writer.write(line)
    assert time.monotonic() - began < 2.0

    def accounted(data: bytes) -> int:
        return data.count(line.encode()) + sum(int(count) for count in re.findall(rb"lost (\d+): the reader", data))

    data = read_until(ours, lambda data: accounted(data) >= 2 * QUEUE_BYTES // 1000)
    assert accounted(data) == 2 * QUEUE_BYTES // 1000
    assert b"lost" in data
    writer.close()


def test_a_full_disk_loses_lines_and_nothing_else() -> None:
    """Lines go nowhere, no error comes out of it, and the end does not wait."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    writer = LogWriter(descriptor, lost)
    for _ in range(100):
        writer.write("line\n")
    assert writer.drain(PATIENCE_SECONDS)
    writer.close()
    os.close(descriptor)


def test_a_disk_with_room_again_gets_the_number_of_lost_lines_first(tmp_path: pathlib.Path) -> None:
    """With the reason, on a line of its own even where the last one was cut off in its middle."""
    full = os.open("/dev/full", os.O_WRONLY)
    with (tmp_path / "log").open("wb") as file:
        descriptor = os.dup(file.fileno())
        writer = LogWriter(descriptor, lost)
        writer.write("a line without an end")
        assert writer.drain(PATIENCE_SECONDS)
        os.dup2(full, descriptor)
        for _ in range(3):
            writer.write("nowhere\n")
        assert writer.drain(PATIENCE_SECONDS)
        os.dup2(file.fileno(), descriptor)
        writer.write("back\n")
        writer.close()
        os.close(descriptor)
    os.close(full)
    written = (tmp_path / "log").read_text()
    assert written == "a line without an end\nlost 3: no space left on device\nback\n"


def test_a_reader_that_is_gone_loses_lines_and_nothing_else(pipe: tuple[int, int]) -> None:
    """EPIPE is no error of who logs."""
    ours, theirs = pipe
    os.close(ours)
    writer = LogWriter(theirs, lost)
    writer.write("line\n")
    assert writer.drain(PATIENCE_SECONDS)
    writer.close()


def test_the_end_does_not_wait_for_a_reader_that_reads_no_more(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No longer than a moment, whatever is left."""
    monkeypatch.setattr(log_writer, "CLOSE_SECONDS", 0.1)
    ours, theirs = pipe
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    writer = LogWriter(theirs, lost)
    for _ in range(100):
        writer.write("x" * 1000)
    began = time.monotonic()
    writer.close()
    assert time.monotonic() - began < 3.0
    os.read(ours, 65536)
