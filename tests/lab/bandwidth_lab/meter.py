"""What arrives at a host: bytes on the wire, counted by its kernel, and round-trip times.

A packet of many segments (GSO) counts once at a device and carries one header for all of them; on a wire every
segment has its own. `WireMeter` counts segments, so that it is exact whatever the packets are; `wire_bytes` is the
estimate from a device's counters alone. Changes nothing; makes no traffic but the echo requests of `ping`.
"""

from __future__ import annotations

import dataclasses
import os
import re
import statistics
import threading
import time
from types import TracebackType
from typing import NamedTuple, Self

from bandwidth_lab.topology import Host

ETHERNET_BYTES = 14
HEADER_BYTES = {("tcp", 4): 66, ("tcp", 6): 86, ("udp", 4): 42, ("udp", 6): 62}  # with TCP timestamps
FRAME_BYTES = 1514
INTERVAL_SECONDS = 0.1
READING_SECONDS = 0.01  # in which a reading is one moment
READINGS = 5


def wire_bytes(device_bytes: int, packets: int, *, header_bytes: int = 66, frame_bytes: int = FRAME_BYTES) -> float:
    """Bytes on the wire from a device's counters, if every segment is full."""
    payload = device_bytes - packets * header_bytes
    return payload * frame_bytes / (frame_bytes - header_bytes)


class Received(NamedTuple):
    """What a host's IP layer has received of one family: packets, the segments in them, octets with IP headers."""

    packets: int
    segments: int
    octets: int


class Sample(NamedTuple):
    """Bytes on the wire so far, by family, at a monotonic time."""

    at: float
    bytes4: float
    bytes6: float


class DeviceCount(NamedTuple):
    """A device's receive counters."""

    at: float
    bytes: int
    packets: int


class _Counters:
    """The files that hold a namespace's counters, opened once inside it."""

    def __init__(self, host: Host) -> None:
        names = ("snmp", "netstat", "snmp6", "dev")
        self._files = host.namespace.call(
            lambda: {name: os.open(f"/proc/thread-self/net/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in names}
        )

    def read(self, name: str) -> str:
        """The whole file. All but `dev` are made in one piece, for one reading.

        They must not be read on: the kernel makes the file anew for that, and where a counter has one digit more by
        then, there is a byte behind what was its end.
        """
        text = os.pread(self._files[name], 65536, 0)
        while name == "dev" and (piece := os.pread(self._files[name], 65536, len(text))):
            text += piece
        return text.decode()

    def received4(self) -> Received:
        ip = _pairs(self.read("snmp"), "Ip:")
        extended = _pairs(self.read("netstat"), "IpExt:")
        return Received(ip["InReceives"], _segments(extended, "In"), extended["InOctets"])

    def received6(self) -> Received:
        counts = {name: int(value) for name, value in (line.split() for line in self.read("snmp6").splitlines())}
        return Received(counts["Ip6InReceives"], _segments(counts, "Ip6In"), counts["Ip6InOctets"])

    def device(self, name: str) -> tuple[int, int]:
        for line in self.read("dev").splitlines():
            device, colon, fields = line.partition(":")
            if colon and device.strip() == name:
                words = fields.split()
                return int(words[0]), int(words[1])
        raise LookupError(name)

    def close(self) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()


def _pairs(text: str, head: str) -> dict[str, int]:
    """The two lines of a /proc/net/snmp table, names above values."""
    names, values = (line.split()[1:] for line in text.splitlines() if line.startswith(head))
    return dict(zip(names, map(int, values), strict=True))


def _segments(counts: dict[str, int], prefix: str) -> int:
    """The kernel counts the segments of a packet only here, by their ECN bits."""
    return sum(counts[f"{prefix}{kind}Pkts"] for kind in ("NoECT", "ECT1", "ECT0", "CE"))


class WireMeter:
    """Samples what a host receives, every 100 ms, until it is stopped; rates are bits per second on the wire.

    `transport` is the protocol of the segments of a GSO packet. Loopback traffic would be counted too: have none.
    """

    def __init__(self, host: Host, *, transport: str = "tcp", interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._counters = _Counters(host)
        self._host = host
        self._transport = transport
        self._interval_seconds = interval_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.samples: list[Sample] = []

    def __enter__(self) -> Self:
        self.samples.append(self.read())
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self._counters.close()

    def _sample(self) -> None:
        due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            self.samples.append(self.read())
            due += self._interval_seconds

    def read(self) -> Sample:
        """The counts of this moment; read again where a busy machine made a longer while of it, and the best counts."""
        best, least = Sample(0.0, 0.0, 0.0), float("inf")
        for _ in range(READINGS):
            began = time.monotonic()
            four, six = self._wire(self._counters.received4(), 4), self._wire(self._counters.received6(), 6)
            took = time.monotonic() - began
            if took < least:
                best, least = Sample(began + took / 2, four, six), took
            if took < READING_SECONDS:
                break
        return best

    def _wire(self, received: Received, family: int) -> float:
        extra_headers = (received.segments - received.packets) * (
            HEADER_BYTES[self._transport, family] - ETHERNET_BYTES
        )
        return received.octets + extra_headers + received.segments * ETHERNET_BYTES

    def device_count(self) -> DeviceCount:
        """The receive counters of the host's interface, for `wire_bytes`."""
        at = time.monotonic()
        return DeviceCount(at, *self._counters.device(self._host.interface))

    def measure(self, seconds: float, family: int | None = None) -> float:
        """The rate of the next seconds; returns after them."""
        start = self.read()
        self._stopping.wait(seconds)
        return bits_per_second(start, self.read(), family)

    def series(self, family: int | None = None, window: int = 1) -> list[tuple[float, float]]:
        """(monotonic time, bits per second) at every sample, over the `window` intervals before it."""
        samples = list(self.samples)
        return [
            (end.at, bits_per_second(start, end, family))
            for start, end in zip(samples, samples[window:], strict=False)
            if end.at > start.at
        ]


def bits_per_second(start: Sample, end: Sample, family: int | None = None) -> float:
    """The wire rate between two samples."""
    four, six = end.bytes4 - start.bytes4, end.bytes6 - start.bytes6
    moved = {4: four, 6: six, None: four + six}[family]
    return moved * 8 / (end.at - start.at)


@dataclasses.dataclass(frozen=True)
class Ping:
    """The echoes that came back, in milliseconds, and how many were asked for."""

    sent: int
    round_trips_ms: tuple[float, ...]

    @property
    def average_ms(self) -> float:
        return statistics.fmean(self.round_trips_ms) if self.round_trips_ms else float("inf")

    @property
    def median_ms(self) -> float:
        return statistics.median(self.round_trips_ms) if self.round_trips_ms else float("inf")

    @property
    def maximum_ms(self) -> float:
        return max(self.round_trips_ms, default=float("inf"))


def ping(client: Host, address: str, *, seconds: float = 4.0, interval_seconds: float = 0.1) -> Ping:
    """Ping an address from a client for some seconds; the replies pass its limit. An echo is waited for 3 s."""
    count = max(1, round(seconds / interval_seconds))
    command = ["ping", "-n", "-i", f"{interval_seconds:g}", "-c", str(count), "-W", "3", address]
    done = client.namespace.run(command, timeout=seconds + 30, check=False)
    found = re.search(r"(\d+) packets transmitted", done.stdout)
    sent = int(found[1]) if found else 0
    return Ping(sent, tuple(float(text) for text in re.findall(r"time=([\d.]+)", done.stdout)))
