"""`retire`: has every node remove what is ours from its kernel, before the installation ends.

    seize the Lease ─▶ head says retire ─▶ every node reports that it has ─▶ limits say so ─▶ slices, node states away
         │                                                                                          │
         └ replicas stand by, and for a while after this has ended ◀────────────────────────────────┘

A head that says retire counts as long as the lease of its writer: if this ends without success, the next leader of the
operator publishes its plan again. So nothing that is left behind keeps a later installation from working.
Never touches a limit but its status.
"""

from __future__ import annotations

import datetime
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from bandwidth_api import names, node_state, slices
from bandwidth_kube import client, connection
from bandwidth_operator import lease, logs, settings, writer
from bandwidth_operator.fence import LeadershipLostError
from bandwidth_operator.known import Kind
from bandwidth_operator.watch import PATHS
from bandwidth_operator.withdrawal import Left, Withdrawal

USER_AGENT = "client-bandwidth-operator retire"
# A leader that does not know yet that its lease is gone may write for so long.
OUTLAST_SECONDS = lease.VALID_SECONDS + writer.WRITE_SECONDS
LOOK_SECONDS = 1.0  # between two looks at all nodes, at least
STATUS_SECONDS = 15.0  # limits may be told so long, also when the nodes took all the time there was
NAMED_MAX = 20  # nodes that a message names


class Census(NamedTuple):
    """What the nodes that ever ran an agent say: why they have not retired, by name."""

    retired: frozenset[str]
    waiting: Mapping[str, str]
    unreachable: Mapping[str, str]  # nobody can expect an answer of them
    gone: frozenset[str]  # states of nodes that the cluster has no more

    @property
    def missing(self) -> dict[str, str]:
        return dict(sorted({**self.waiting, **self.unreachable}.items()))


def census(states: Iterable[node_state.NodeState | node_state.UnreadableState], ready: Mapping[str, bool]) -> Census:
    """Who has retired and who has not; `ready` holds the nodes of the cluster. Pure."""
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
        clock: Callable[[], float] = time.monotonic,
        *,
        writes_per_second: float = settings.DEFAULTS.writes_per_second,
    ) -> None:
        self._api = api
        self._lease = held
        self._writes_per_second = writes_per_second
        self._clock = clock
        self._safe_at = clock()
        self._told = False

    def tell(self) -> None:
        """Keep the lease, and have the head say retire. To be called again and again."""
        if not self._told:
            if self._lease.fence is None and self._lease.seize():
                self._safe_at = self._clock() + OUTLAST_SECONDS
            found = [slices.read(item) for item in self._api.listed(PATHS[Kind.SLICE]).items]
            self._lease.at_least(max((s.term for s in found if not isinstance(s, slices.Unreadable)), default=0))
            named = tuple(sorted(s.name for s in found if isinstance(s, slices.Slice)))
            self._write_head(named, max((s.nodes for s in found if isinstance(s, slices.Head)), default=0))
            self._told = True
        elif self._lease.turn() is None:
            self._told = False  # an operator may have published its plan again: begin anew
            raise client.UnreachableError("somebody else has taken the lease")

    def look(self) -> Census:
        """What the nodes say now."""
        states = [node_state.read(item) for item in self._items(Kind.STATE)]
        ready: dict[str, bool] = {}
        if states:
            for page in self._api.pages(PATHS[Kind.NODE]):
                ready |= {item["metadata"]["name"]: _ready(item) for item in page.items}
        return census(states, ready)

    @property
    def safe(self) -> bool:
        """Whether no leader of before can write any more."""
        return self._clock() >= self._safe_at

    def withdraw(self, seen: Census, until: float) -> Left:
        """Have the limits say that they are not in force any more, until then at most. Raises if the lease is lost."""
        fence = self._lease.fence
        if fence is None:
            raise client.UnreachableError("the lease is lost")
        work = Withdrawal(self._api, self._lease, fence, self._writes_per_second, _say)
        try:
            return work.carry_out(len(seen.missing), until)
        except LeadershipLostError as lost:
            raise client.UnreachableError(str(lost)) from lost

    def clear(self, seen: Census) -> None:
        """Take the plan away, its head last, and the states of the nodes that have retired."""
        present = sorted((str(i["metadata"]["name"]) for i in self._items(Kind.SLICE)), key=lambda n: n == slices.HEAD)
        for kind, doomed in ((Kind.SLICE, present), (Kind.STATE, sorted(seen.retired | seen.gone))):
            for name in doomed:
                self._delete(f"{PATHS[kind]}/{name}")
        self._lease.turn()  # the time that replicas stand by begins now

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
        path = f"{PATHS[Kind.SLICE]}/{slices.HEAD}"
        self._api.request("PATCH", path, query=query, body=body, content_type=client.APPLY_PATCH)

    def _items(self, kind: Kind) -> list[client.Object]:
        try:
            return self._api.listed(PATHS[kind]).items
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


# ── the program ────────────────────────────────────────────────────────────────────────────────────────────────


def run(chosen: settings.Settings, *, timeout_seconds: float, stand_by_seconds: int, accept_missing: bool) -> int:
    """Retire all nodes, or say who is missing. Returns the exit code."""
    logs.set_up("auto", "critical")  # what matters of the lease is said by this program itself
    try:
        where = connection.load(chosen.kubeconfig)
    except connection.NoConnectionError as error:
        print(f"bandwidth-operator: {error}", file=sys.stderr)  # noqa: T201
        return 1
    api = client.Client(where, USER_AGENT)
    try:
        api.request("GET", PATHS[Kind.SLICE], query={"limit": "1"})
    except client.RefusedError as refused:
        if refused.status == 404:
            _say("this cluster does not have our kinds of objects: nothing to retire")
            return 0
    except client.UnreachableError:
        pass  # it may answer in time
    held = lease.Lease(api, chosen.namespace, lease.identity("retire"), duration_seconds=stand_by_seconds)
    try:
        work = Retirement(api, held, writes_per_second=chosen.writes_per_second)
        return _retire(work, timeout_seconds, accept_missing)
    finally:
        api.close()


def _retire(work: Retirement, timeout_seconds: float, accept_missing: bool) -> int:
    until = time.monotonic() + timeout_seconds
    told, trouble = "", ""
    seen: Census | None = None
    pause = threading.Event()
    while True:
        began = time.monotonic()
        try:
            work.tell()
            seen = work.look()
            if (text := _progress(seen)) != told:
                _say(text)
                told = text
            if not seen.waiting and work.safe and (accept_missing or not seen.unreachable):
                return _ended(work, seen, until)
            if not seen.waiting and work.safe:
                return _failed(seen, "")
            trouble = ""
        except client.ApiError as error:
            if str(error) != trouble:
                _say(f"tried again: {error}")
            trouble = str(error)
        if time.monotonic() >= until and (work.safe or not accept_missing):
            if seen is not None and not trouble and accept_missing:
                return _ended_late(work, seen, until)
            return _failed(seen, trouble)
        # A look at many nodes takes its time, and may take a third of it.
        pause.wait(max(LOOK_SECONDS, 2 * (time.monotonic() - began)))


def _ended(work: Retirement, seen: Census, until: float) -> int:
    left = work.withdraw(seen, max(until, time.monotonic() + STATUS_SECONDS))
    work.clear(seen)
    return _retired(seen, left)


def _ended_late(work: Retirement, seen: Census, until: float) -> int:
    try:
        return _ended(work, seen, until)
    except client.ApiError as error:
        return _failed(seen, str(error))


def _progress(seen: Census) -> str:
    everybody = len(seen.retired) + len(seen.waiting) + len(seen.unreachable)
    text = f"{len(seen.retired)} of {everybody} nodes have retired"
    return text + (f"; waiting for {_named(sorted(seen.waiting))}" if seen.waiting else "")


def _retired(seen: Census, left: Left) -> int:
    if left.limits is None:
        _say(f"limits may still say that they are in force: {left.why}")
    elif left.limits:
        _say(f"limits that still say that they are in force: {left.limits}; {left.why}")
    for name, why in list(seen.missing.items())[:NAMED_MAX]:
        _say(f"left as it is: {name}: {why}")
    if seen.missing:
        _say(
            "what is ours stays in the kernels of these nodes until they boot, or bandwidth-agent cleanup is run there"
        )
    else:
        _say("nothing of ours is left on any node")
    return 0


def _failed(seen: Census | None, trouble: str) -> int:
    if trouble or seen is None:
        _complain(f"not every node has retired: {trouble or 'the API server gave no answer'}")
    if seen is not None and seen.missing:
        _complain(f"{len(seen.missing)} nodes have not retired:")
        for name, why in list(seen.missing.items())[:NAMED_MAX]:
            _complain(f"  {name}: {why}")
        if len(seen.missing) > NAMED_MAX:
            _complain(f"  and {len(seen.missing) - NAMED_MAX} more")
    _complain(
        "Bring them back, or look at the agents' pods there, and try again. Or go on without them:"
        " bandwidth-operator retire --accept-missing in a pod of the operator, then helm uninstall --no-hooks."
        " Or stay installed: when the lease of this has run out the operator publishes the limits again; then"
        " helm rollback if helm uninstalls, and restart the agents."
    )
    return 1


def _named(nodes: list[str]) -> str:
    more = len(nodes) - NAMED_MAX
    return ", ".join(nodes[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def _complain(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201
