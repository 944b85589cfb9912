"""Retires all nodes: each removes everything of ours from its kernel, before the installation ends. One attempt.

    take the Lease ─▶ head orders to retire ─▶ every node reports that it has ─▶ statuses ─▶ delete slices, node states
         │                                                                                          │
         └ replicas stand by, and for a while after this has ended ◀────────────────────────────────┘

The order to retire counts only as long as the lease of its writer: if this ends without success, the next leader
publishes its plan again. So nothing that is left behind stops a later installation from working.
Never changes a limit, except its status.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from bandwidth_api import kinds, names
from bandwidth_api.crds import node_state, slices
from bandwidth_api.kinds import Kind
from bandwidth_kube import client
from bandwidth_operator.election import lease, writer
from bandwidth_operator.election.fence import LeadershipLostError
from bandwidth_operator.retire.retired_statuses import Left, RetiredStatuses

# A leader that does not know yet that its lease is gone may write for so long.
OUTLAST_SECONDS = lease.VALID_SECONDS + writer.WRITE_SECONDS


class Census(NamedTuple):
    """The nodes that ever ran an agent, and by name why some have not retired."""

    retired: frozenset[str]
    waiting: Mapping[str, str]
    unreachable: Mapping[str, str]  # no answer can be expected of them
    gone: frozenset[str]  # states of nodes that the cluster has no more

    @property
    def missing(self) -> dict[str, str]:
        return dict(sorted({**self.waiting, **self.unreachable}.items()))


def census(states: Iterable[node_state.NodeState | node_state.UnreadableState], ready: Mapping[str, bool]) -> Census:
    """Return which nodes have retired and which have not; `ready` holds the nodes of the cluster. Pure."""
    retired, gone = set(), set()
    waiting: dict[str, str] = {}
    unreachable: dict[str, str] = {}
    for state in states:
        if state.node not in ready:
            gone.add(state.node)
        elif isinstance(state, node_state.NodeState) and state.retired:
            retired.add(state.node)
        elif not ready[state.node]:
            unreachable[state.node] = f"the node is not Ready; {_last_report(state)}"
        else:
            waiting[state.node] = _last_report(state)
    return Census(frozenset(retired), waiting, unreachable, frozenset(gone))


def _last_report(state: node_state.NodeState | node_state.UnreadableState) -> str:
    if isinstance(state, node_state.UnreadableState):
        return state.message
    at = datetime.datetime.fromtimestamp(state.reported_at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"last report {at}" + (f", {state.message}" if state.message else "")


class Retirement:
    """One attempt. Every method may raise client.ApiError, and may be tried again then."""

    def __init__(
        self,
        api: client.Client,
        held: lease.Lease,
        writes_per_second: float,
        log: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the attempt; `log` is called with the progress of the statuses."""
        self._api = api
        self._lease = held
        self._writes_per_second = writes_per_second
        self._log = log
        self._clock = clock
        self._safe_at = clock()
        self._head_written = False

    def publish(self) -> None:
        """Renew the lease, and make the head order to retire; call it repeatedly."""
        if not self._head_written:
            if self._lease.fence is None and self._lease.seize():
                self._safe_at = self._clock() + OUTLAST_SECONDS
            found = [slices.read(item) for item in self._api.listed(Kind.SLICE.path).items]
            self._lease.at_least(slices.latest_term(found))
            if any(isinstance(s, slices.Head) and s.term >= slices.TERM_MAX for s in found):
                self._delete(f"{Kind.SLICE.path}/{slices.HEAD}")  # no leader can write over such a term
            named = tuple(sorted(s.name for s in found if isinstance(s, slices.Slice)))
            self._write_head(named, max((s.nodes for s in found if isinstance(s, slices.Head)), default=0))
            self._head_written = True
        elif self._lease.turn() is None:
            self._head_written = False  # an operator may have published its plan again: begin again
            raise client.UnreachableError("somebody else has taken the lease")

    def look(self) -> Census:
        """Return what the nodes report now."""
        states = [node_state.read(item) for item in self._items(Kind.STATE)]
        ready: dict[str, bool] = {}
        if states:
            for page in self._api.pages(Kind.NODE.path):
                ready |= {item["metadata"]["name"]: _ready(item) for item in page.items}
        return census(states, ready)

    @property
    def safe(self) -> bool:
        """Return whether the leader before can certainly write no more."""
        return self._clock() >= self._safe_at

    def write_statuses(self, seen: Census, until: float) -> Left:
        """Write into all statuses that their limits are no longer in force, at most until `until` (monotonic seconds).

        Raises LeadershipLostError.
        """
        fence = self._lease.fence
        if fence is None:
            raise client.UnreachableError("the lease is lost")
        work = RetiredStatuses(self._api, self._lease, fence, self._writes_per_second, self._log)
        try:
            return work.carry_out(len(seen.missing), until)
        except LeadershipLostError as lost:
            raise client.UnreachableError(str(lost)) from lost

    def clear(self, seen: Census) -> None:
        """Delete questions about traffic, the plan, its head last, and the states of the nodes that have retired."""
        self._clear_questions()
        present = sorted((str(i["metadata"]["name"]) for i in self._items(Kind.SLICE)), key=lambda n: n == slices.HEAD)
        for kind, doomed in ((Kind.SLICE, present), (Kind.STATE, sorted(seen.retired | seen.gone))):
            for name in doomed:
                self._delete(f"{kind.path}/{name}")
        self._lease.turn()  # the time that replicas stand by begins now

    def _clear_questions(self) -> None:
        """Delete what is left of questions about traffic, where this installation has any."""
        for path in (kinds.QUERIES_PATH, kinds.TRAFFIC_PATH):
            try:
                for item in self._api.listed(path).items:
                    self._delete(f"{path}/{item['metadata']['name']}")
            except client.RefusedError as refused:
                if refused.status not in (403, 404):
                    raise

    def _write_head(self, named: tuple[str, ...], nodes: int) -> None:
        fence = self._lease.fence
        if fence is None:
            raise client.UnreachableError("the lease is lost")
        head = slices.Head(named, retire=True, term=fence.term, nodes=nodes)
        body = {
            "apiVersion": names.API_VERSION,
            "kind": slices.KIND,
            "metadata": {"name": slices.HEAD},
            "spec": slices.write(head),
        }
        query = {"fieldManager": writer.FIELD_MANAGER, "force": "true"}
        path = f"{Kind.SLICE.path}/{slices.HEAD}"
        self._api.request("PATCH", path, query=query, body=body, content_type=client.APPLY_PATCH)

    def _items(self, kind: Kind) -> list[client.Object]:
        try:
            return self._api.listed(kind.path).items
        except client.RefusedError as refused:
            if refused.status != 404:
                raise
            return []

    def _delete(self, path: str) -> None:
        try:
            self._api.request("DELETE", path)
        except client.RefusedError as refused:
            if refused.status != 404:
                raise


def _ready(node: client.Object) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return not any(c.get("type") == "Ready" and c.get("status") != "True" for c in conditions)
