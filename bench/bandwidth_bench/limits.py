"""Limits as files, as many as a benchmark wants."""

from __future__ import annotations

import ipaddress
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

PER_FILE = 100
FIRST = int(ipaddress.IPv4Address("10.0.0.1"))


class Limit(NamedTuple):
    name: str
    clients: tuple[str, ...]
    rate: str
    ports: tuple[tuple[int, int], ...] = ()  # UDP, first and last

    def document(self) -> str:
        clients = ", ".join(f'"{client}"' for client in self.clients)
        ports = ", ".join(f"{{protocol: UDP, port: {first}, endPort: {last}}}" for first, last in self.ports)
        return (
            "apiVersion: clientbandwidth.io/v1alpha1\n"
            "kind: ClientBandwidthLimit\n"
            f"metadata: {{name: {self.name}}}\n"
            "spec:\n"
            f"  clients: [{clients}]\n"
            f"  egress: {{rate: {self.rate}{f', ports: [{ports}]' if ports else ''}}}\n"
        )


def many(count: int, rate: str = "5Mbit") -> tuple[Limit, ...]:
    """Limits for `count` clients in 10.0.0.0/8, none of which is a host of the lab."""
    return tuple(
        Limit(f"client-{number:05}", (str(ipaddress.IPv4Address(FIRST + number)),), rate) for number in range(count)
    )


def with_ports(count: int, each: int, rate: str = "5Mbit") -> tuple[Limit, ...]:
    """The same, each for ranges of ports that no other has."""
    width = 65_535 // (count * each)
    ranges = [(1 + n * width, n * width + max(1, width // 2)) for n in range(count * each)]
    return tuple(
        limit._replace(ports=tuple(ranges[n * each : (n + 1) * each])) for n, limit in enumerate(many(count, rate))
    )


def write(path: pathlib.Path, limits: Iterable[Limit]) -> None:
    """Replace one file at once, as a careful editor does."""
    beside = path.with_suffix(".writing")
    beside.write_text("---\n".join(limit.document() for limit in limits))
    os.replace(beside, path)


def fill(folder: pathlib.Path, limits: Sequence[Limit]) -> None:
    """Write limits into files of `PER_FILE`; the first one alone in `first.yaml`, for benchmarks that edit it."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "first.yaml", limits[:1])
    for number, start in enumerate(range(1, len(limits), PER_FILE)):
        write(folder / f"limits-{number:03}.yaml", limits[start : start + PER_FILE])
