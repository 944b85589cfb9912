"""Nodes that say what they send whom, for tests of policies: no packet is sent, and limits hold as they are written."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Mapping

from bandwidth_api import addresses, units
from bandwidth_api.crds import client_traffic
from bandwidth_api.crds.watched import Client, Span, Watched
from bandwidth_kube import client
from cluster.world import LIMITS, TRAFFIC, World

SECONDS = 1.0  # between two reports of a node


class ReportingNodes:
    """Writes the reports of some nodes in a thread of its own, until it is closed.

    `demands`: by node and client the bits per second that it would send. May be changed at any time.
    """

    def __init__(self, world: World, *nodes: str) -> None:
        self._world = world
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._demands: dict[str, dict[str, float]] = {node: {} for node in nodes}
        self._numbers = itertools.count(time.time_ns() // 1_000_000)
        self._thread = threading.Thread(target=self._run, name="nodes that report", daemon=True)
        self._thread.start()

    def send(self, node: str, demands: Mapping[str, float]) -> None:
        """From now on this is what a node would send, in place of what it sent."""
        with self._lock:
            self._demands[node] = dict(demands)

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        reported_at = time.monotonic()
        while not self._stopping.wait(SECONDS):
            with contextlib.suppress(client.ApiError):
                rates = self._limited()
                now = time.monotonic()
                with self._lock:
                    demands = {node: dict(each) for node, each in self._demands.items()}
                for node, each in demands.items():
                    self._report(node, each, rates, now - reported_at)
                reported_at = now

    def _report(self, node: str, demands: Mapping[str, float], rates: Mapping[str, float], seconds: float) -> None:
        rows = [
            Client(addresses.parse(text), min(rate, rates.get(text, rate)) * seconds / 8)
            for text, rate in demands.items()
        ]
        limited = tuple(row for row in rows if addresses.write(row.client) in rates)
        others = tuple(row for row in rows if row not in limited)
        sent = sum(row.bytes for row in rows)
        said = Watched(next(self._numbers), Span(seconds, sent), limited=limited, candidates=others)
        try:
            self._write(node, said)
        except client.RefusedError as refused:
            if refused.status != 404:
                raise
            # Not made yet, or taken away after the last question.
            kind = {"apiVersion": "clientbandwidth.io/v1alpha1", "kind": "NodeClientTraffic"}
            self._world.api.request("POST", TRAFFIC, body=kind | {"metadata": {"name": node}})
            self._write(node, said)

    def _write(self, node: str, said: Watched) -> None:
        self._world.api.request(
            "PATCH",
            f"{TRAFFIC}/{node}/status",
            body={"status": client_traffic.write_watched(said)},
            content_type=client.MERGE_PATCH,
        )

    def _limited(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for item in self._world.items(LIMITS):
            for text in item["spec"]["clients"]:
                found[text] = float(units.parse_rate(item["spec"]["egress"]["rate"]))
        return found
