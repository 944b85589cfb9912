"""Downloads until its standard input ends, and prints every 100 ms what has arrived.

Usage: client.py NAME=RATE@HOST:PORT ...      bits per second of payload to ask for; dials again whenever it is cut off

Each line is {"at": monotonic time, "until": monotonic time, "4": [packets, segments, octets], "6": the same,
"flows": {NAME: [bytes, dials]}}; all of it was read between the two times. The counters are those of the kernel's IP
layer in this network namespace: a packet of many segments (GRO) counts once there, with one header, and its segments
beside it, so that what was on the wire can be computed exactly.
"""

from __future__ import annotations

import json
import os
import pathlib
import socket
import sys
import threading
import time

SAMPLE_SECONDS = 0.1
READING_SECONDS = 0.01  # in which a reading is one moment
READINGS = 5
SILENCE_SECONDS = 3.0  # a connection on which nothing comes for so long is given up
AGAIN_SECONDS = 0.2
NET = pathlib.Path("/proc/net")


class Flow:
    """One download."""

    def __init__(self, text: str) -> None:
        self.name, _, rest = text.partition("=")
        rate, _, address = rest.partition("@")
        host, _, port = address.rpartition(":")
        self.peer, self.request = (host.strip("[]"), int(port)), f"{rate}\n".encode()
        self.received = self.dials = 0

    def run(self) -> None:
        room = bytearray(1 << 20)
        while True:
            self.dials += 1
            try:
                with socket.create_connection(self.peer, timeout=SILENCE_SECONDS) as connection:
                    connection.sendall(self.request)
                    while count := connection.recv_into(room, len(room), socket.MSG_TRUNC):
                        self.received += count
            except OSError:
                pass
            time.sleep(AGAIN_SECONDS)


def pairs(file: str, head: str) -> dict[str, int]:
    """The two lines of a table in /proc/net/snmp or netstat, names above values."""
    names, values = (line.split()[1:] for line in (NET / file).read_text().splitlines() if line.startswith(head))
    return dict(zip(names, map(int, values), strict=True))


def segments(counts: dict[str, int], prefix: str) -> int:
    """The kernel counts segments only here, by their ECN bits."""
    return sum(counts[f"{prefix}{kind}Pkts"] for kind in ("NoECT", "ECT1", "ECT0", "CE"))


def sample(flows: list[Flow]) -> dict[str, object]:
    """The counts of this moment; read again where a busy machine made a longer while of it."""
    for _ in range(READINGS):
        read = reading(flows)
        if float(str(read["until"])) - float(str(read["at"])) < READING_SECONDS:
            break
    return read


def reading(flows: list[Flow]) -> dict[str, object]:
    """All counters, once."""
    at = time.monotonic()
    ip, extended = pairs("snmp", "Ip:"), pairs("netstat", "IpExt:")
    six = {name: int(value) for name, value in (line.split() for line in (NET / "snmp6").read_text().splitlines())}
    return {
        "at": at,
        "until": time.monotonic(),
        "4": [ip["InReceives"], segments(extended, "In"), extended["InOctets"]],
        "6": [six["Ip6InReceives"], segments(six, "Ip6In"), six["Ip6InOctets"]],
        "flows": {flow.name: [flow.received, flow.dials] for flow in flows},
    }


def until_the_input_ends() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    flows = [Flow(text) for text in sys.argv[1:]]
    for run in (until_the_input_ends, *(flow.run for flow in flows)):
        threading.Thread(target=run, daemon=True).start()
    due = time.monotonic()
    while True:
        sys.stdout.write(json.dumps(sample(flows)) + "\n")
        sys.stdout.flush()
        due = max(due + SAMPLE_SECONDS, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main()
