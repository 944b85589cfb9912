"""Agents without a kernel: they list, watch, decode and report like real ones, and enforce nothing.

For tests of the operator and for benchmarks of the API server. Each has three threads and a token bound to its node.
What a real agent reads and writes in a cluster is what these read and write:

    reads    all slices (a list, then a watch), its own Node's labels (the same), its own report at the start
    writes   its own NodeBandwidthState: the object once, then its status, on change and once in an interval; with
             `spacing`, changes that come one after the other are written ever more rarely; with a sight, its
             NodeClientTraffic while somebody asks
"""

from __future__ import annotations

import collections
import dataclasses
import random
import threading
import time
from collections.abc import Callable, Mapping

from bandwidth_agent.reporting import traffic_reporter
from bandwidth_api import names
from bandwidth_api.compiler import assembly
from bandwidth_api.compiler import compile as compiler
from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.crds import node_state, slices
from bandwidth_api.kinds import Kind
from bandwidth_kube import client
from bandwidth_kube.connection import Connection

SLICES, STATES, NODES = Kind.SLICE.path, Kind.STATE.path, Kind.NODE.path
MANAGER = "bandwidth-agent"


class SimulatedAgent:
    """One node's agent."""

    def __init__(
        self,
        connection: Connection,
        node: str,
        *,
        labels: Mapping[str, str] | None = None,
        report_interval_seconds: int = 300,
        quiet_seconds: float = 0.05,
        spacing: tuple[float, float] = (0.0, 0.0),
        clock_ahead_seconds: float = 0.0,
        sight: traffic_reporter.Lends | None = None,
    ) -> None:
        """`sight`: what the node sees of traffic; with it, it answers questions by the real agent's reporter."""
        self._api = client.Client(connection, f"simulated-agent/{node}", connections=3)
        self._labels = dict(labels or {})
        self._interval = report_interval_seconds
        self._clock_ahead_seconds = clock_ahead_seconds  # of the node's clock
        self._quiet = quiet_seconds
        self._least_spacing, self._most_spacing = spacing
        self._spacing = spacing[0]
        self._spaced_until = 0.0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._touched = threading.Event()
        self._items: dict[str, slices.Decoded] = {}
        self._kept: Mapping[str, slices.Slice] = {}
        self._listed = False
        self._failing: dict[str, tuple[str, str]] = {}
        self._sign = ""
        self._verified: frozenset[str] = frozenset()
        self._named_first: tuple[str, ...] = ()
        self._paused = False
        self._retired_term: int | None = None
        self._created = False
        self._last: node_state.NodeState | None = None
        self._threads = [
            threading.Thread(target=self._follow, args=(self._plan,), name=f"plan {node}", daemon=True),
            threading.Thread(target=self._follow, args=(self._own_node,), name=f"node {node}", daemon=True),
            threading.Thread(target=self._report_loop, name=f"report {node}", daemon=True),
        ]
        self._answers = traffic_reporter.TrafficReporter(self._api, node, sight) if sight is not None else None
        self.node = node
        self.assembly: assembly.Assembly | None = None
        self.reported_digest = ""
        self.events = 0
        self.lists = 0
        self.reports = 0
        self.refusals: collections.Counter[int] = collections.Counter()  # by HTTP status
        self.errors: list[str] = []

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop at once; the state in the cluster stays as it is."""
        self._stopping.set()
        if self._answers is not None:
            self._answers.stop()
        self._touched.set()
        self._api.close()

    def fail(self, limit: str, reason: str = "KernelRefused", message: str = "class 1 on cbl0: no memory") -> None:
        """From now on report this limit as failing."""
        with self._lock:
            self._failing[limit] = (reason, message)
        self._touched.set()

    def see(self, sign: str, *verified: str) -> None:
        """From now on report this sign of a datapath that skips netfilter, and these limits as verified."""
        with self._lock:
            self._sign, self._verified = sign, frozenset(verified)
        self._touched.set()

    def name_first(self, *limits: str) -> None:
        """Name these verified limits before all others in the next reports."""
        with self._lock:
            self._named_first, self._last = limits, None
        self._touched.set()

    def mend(self) -> None:
        """From now on report no limit as failing."""
        with self._lock:
            self._failing.clear()
        self._touched.set()

    def pause(self, paused: bool = True) -> None:
        """Take up no plan and report nothing while paused."""
        self._paused = paused
        self._touched.set()

    @property
    def _retired(self) -> bool:
        return self._retired_term is not None

    @property
    def limits(self) -> dict[str, int]:
        """The rates in bits per second that this node would enforce now, by limit."""
        known = self.assembly
        if known is None or self._retired:
            return {}
        return {e.limit: e.rate_bits_per_second for e in compiler.active(known.plan, self._labels, time.time())}

    def _follow(self, list_and_watch: Callable[[], None]) -> None:
        while not self._stopping.is_set():
            try:
                list_and_watch()
            except client.RefusedError as refused:
                self.refusals[refused.status] += 1
                if refused.status != 410 and not refused.temporary:
                    self.errors.append(str(refused))
                self._stopping.wait(refused.retry_after_seconds or 0)
            except client.UnreachableError:
                pass
            self._stopping.wait(random.uniform(0.05, 0.3))

    def _own_node(self) -> None:
        only = {"fieldSelector": f"metadata.name={self.node}"}
        page = self._api.listed(NODES, query={"resourceVersion": "0", **only})
        for item in page.items:
            self._labels = dict(item["metadata"].get("labels") or {})
        self._touched.set()
        version = page.resource_version
        while not self._stopping.is_set():
            for event in self._api.watch(NODES, version, query=only):
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] in ("ADDED", "MODIFIED"):
                    self._labels = dict(event["object"]["metadata"].get("labels") or {})
                    self._touched.set()

    def _plan(self) -> None:
        page = self._api.listed(SLICES, query={"resourceVersion": "0"})
        self.lists += 1
        read = {i["metadata"]["name"]: slices.read(i) for i in page.items}
        version = page.resource_version
        del page
        with self._lock:
            self._items = read
            self._listed = True
        self._hear()
        self._touched.set()
        while not self._stopping.is_set():
            for event in self._api.watch(SLICES, version):
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    self._take(event)

    def _take(self, event: client.Object) -> None:
        name = event["object"]["metadata"]["name"]
        decoded = None if event["type"] == "DELETED" else slices.read(event["object"])
        self.events += 1
        with self._lock:
            if decoded is None:
                self._items.pop(name, None)
            else:
                self._items[name] = decoded
        if name == slices.HEAD:
            self._hear()
        self._touched.set()

    def _hear(self) -> None:
        head = self._items.get(slices.HEAD)
        if self._answers is not None:
            self._answers.head_read(head.traffic if isinstance(head, slices.Head) else None)

    def _report_loop(self) -> None:
        due = time.monotonic()
        while not self._stopping.is_set():
            self._touched.wait(max(0.0, due - time.monotonic()))
            if self._touched.is_set():
                self._stopping.wait(max(self._quiet_seconds(), self._spaced_until - time.monotonic()))
                self._touched.clear()
            if self._paused or not self._listed or self._stopping.is_set():
                due = time.monotonic() + 1
                continue
            try:
                self._report(forced=time.monotonic() >= due)
                due = time.monotonic() + self._interval * random.uniform(0.8, 1.0)
            except client.ApiError as error:
                wait = 0.5
                if isinstance(error, client.RefusedError):
                    self.refusals[error.status] += 1
                    wait = error.retry_after_seconds or wait
                    if not error.temporary:
                        self.errors.append(str(error))
                due = time.monotonic() + wait

    def _quiet_seconds(self) -> float:
        known = self.assembly
        most = node_state.spread_seconds(known.nodes) if known is not None else 0.0
        return random.uniform(self._quiet, max(self._quiet, most))

    def _report(self, *, forced: bool) -> None:
        with self._lock:
            items = list(self._items.values())
            failing = dict(sorted(self._failing.items()))
            sign, verified = self._sign, self._verified
        made = assembly.assemble(items, self._kept)
        self._kept, self.assembly = made.used, made
        self._retired_term = assembly.retired_term(self._retired_term, items, made)  # as a real agent
        active = () if self._retired else compiler.active(made.plan, self._labels, time.time())
        wanted = {entry.limit for entry in active}
        failed = [Problem(Reason(reason), why, name=n) for n, (reason, why) in failing.items() if n in wanted]
        held = verified & wanted - failing.keys()
        state = node_state.NodeState(
            node=self.node,
            plan_digest=slices.plan_digest({}, retire=True) if self._retired else made.digest,
            plan_complete=made.complete or self._retired,
            reported_at=0.0,
            desired=len(wanted),
            programmed=len(wanted) - len(failed),
            failed=len(failed),
            failing=tuple(failed),
            interfaces=(node_state.InterfaceState("eth0", "fq_codel", "ifb", "Auto"),),
            classifier="mark",
            classifier_reason="no other rule uses these bits",
            version="simulated",
            report_interval_seconds=self._interval,
            retired=self._retired,
            message="" if self._retired else "; ".join(made.warnings),
            datapath_sign=sign,
            verified=held,
            verified_count=len(held),
            bypassed=sum(problem.reason is Reason.BYPASSED for problem in failed),
        )
        if state == self._last and not forced:
            return
        if self._last is None and self._adopted(state):
            self._last, self.reported_digest = state, made.digest
            return
        if state != self._last:
            self._space(time.monotonic())
        self._write(state)
        self._last, self.reported_digest = state, made.digest
        self.reports += 1

    def _adopted(self, state: node_state.NodeState) -> bool:
        """Return whether the state that an earlier agent of this node reported is still right."""
        try:
            item = self._api.request("GET", f"{STATES}/{self.node}")
        except client.RefusedError as refused:
            if refused.status != 404:
                raise
            return False
        self._created = True
        known = node_state.read(item)
        return (
            isinstance(known, node_state.NodeState)
            and known.reported_at > time.time() - self._interval / 2
            and _at(state, known.reported_at) == known
        )

    def _space(self, now: float) -> None:
        busy = now - self._spaced_until < self._spacing
        self._spacing = min(2 * self._spacing, self._most_spacing) if busy else self._least_spacing
        self._spaced_until = now + self._spacing

    def _write(self, state: node_state.NodeState) -> None:
        if not self._created:
            owner = self._api.request("GET", f"{NODES}/{self.node}")["metadata"]
            body: client.Object = {
                "apiVersion": names.API_VERSION,
                "kind": node_state.KIND,
                "metadata": {
                    "name": self.node,
                    "ownerReferences": [
                        {"apiVersion": "v1", "kind": "Node", "name": self.node, "uid": owner["uid"]},
                    ],
                },
            }
            try:
                self._api.request("POST", f"{STATES}?fieldManager={MANAGER}", body=body)
            except client.RefusedError as refused:
                if refused.status != 409:
                    raise
            self._created = True
        in_order = sorted(state.verified, key=lambda name: (name not in self._named_first, name))
        written = node_state.write(_at(state, time.time() + self._clock_ahead_seconds), in_order)
        try:
            self._api.request(
                "PATCH",
                f"{STATES}/{self.node}/status?fieldManager={MANAGER}",
                body={"status": written},
                content_type=client.MERGE_PATCH,
            )
        except client.RefusedError as refused:
            if refused.status == 404:
                self._created = False
            raise


def _at(state: node_state.NodeState, now: float) -> node_state.NodeState:
    return dataclasses.replace(state, reported_at=now)
