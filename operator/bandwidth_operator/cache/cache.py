"""The newest version of each object of the cluster, and which kinds have changed.

Filled from events of the watches, answers to single requests, and whole lists. An answer or a list replaces everything
that was known when it was requested, whatever its version: an API server restored from a backup counts versions from
an earlier number again. Only between the answer and what arrived meanwhile does the version decide. Sends no request.
May be used by several threads.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from bandwidth_api.kinds import Kind
from bandwidth_api.plan import Prefix
from bandwidth_operator.cache import objects
from bandwidth_operator.cache.watch_health import WatchHealth

_UNKNOWN = object()  # equal to nothing that was read
GONE_MAX = 20_000  # deletions remembered; they matter only while a list is under way


class Merged(NamedTuple):
    """What a whole list changed in the cache."""

    corrected: int  # objects that events had failed to bring or to take away
    unreadable: tuple[objects.Unreadable, ...]  # what was known of them stays
    went_back: bool  # the server's versions are lower than they were: it was restored from a backup


class Cache:
    """`woken` is set whenever something changed that means something to us."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        server_time: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._server_time = server_time
        self._lock = threading.Lock()
        self._known: dict[Kind, dict[str, Any]] = {kind: {} for kind in Kind}
        # Of what is known, as text: the versions that bring nothing new when they are listed once more.
        self._settled: dict[Kind, dict[str, str]] = {kind: {} for kind in Kind}
        self._noted: dict[Kind, dict[str, int]] = {kind: {} for kind in Kind}  # by name, the mark of the last news
        self._gone: collections.OrderedDict[tuple[Kind, str], tuple[int, int]] = collections.OrderedDict()
        self._expected: dict[str, objects.Object] = {}  # statuses that we wrote, by limit
        self._missing_states: set[str] = set()  # deleted, while their nodes go on
        self._listed_at: dict[Kind, tuple[int, int]] = {}  # of the last whole list: when asked for, its version
        self._changed: set[Kind] = set()
        self._cluster_addresses: Mapping[Prefix, str] = {}
        self._mark = 0
        self.watch_health = WatchHealth(clock)
        self.woken = threading.Event()

    def mark(self) -> int:
        """Return a mark of this moment; take one before a request whose answer goes to `learn` or `merge`."""
        with self._lock:
            return self._next()

    def note(self, kind: Kind, item: objects.Object, *, deleted: bool = False) -> objects.Unreadable | None:
        """Take an object from an event; a version older than the known one is ignored."""
        identity = objects.identify(item)
        if isinstance(identity, objects.Unreadable):
            return identity
        self.watch_health.heard(kind, identity.name, identity.version)
        with self._lock:
            self._note(kind, item, identity, deleted=deleted, own=False, since=None)
        return None

    def learn(self, kind: Kind, item: objects.Object, since: int, *, own: bool = False) -> objects.Unreadable | None:
        """Take an object from the answer to a request that was sent after the mark `since`.

        `own`: the request was a write of ours, so the answer is no reason to wake the leader.
        """
        identity = objects.identify(item)
        if isinstance(identity, objects.Unreadable):
            return identity
        with self._lock:
            if self._note(kind, item, identity, deleted=False, own=own, since=since):
                self.watch_health.owe(kind, identity.name, identity.version, since)
        return None

    def expect(self, name: str, status: objects.Object) -> None:
        """Record that we are about to write this status of a limit, so that its event does not count as a change."""
        with self._lock:
            self._expected[name] = status

    def drop(self, kind: Kind, name: str) -> None:
        """Remove an object that we have deleted, or of which a request has shown that it is gone."""
        with self._lock:
            self._pop(kind, name)

    def began(self, kind: Kind) -> None:
        """Record that the watch of a kind begins, at the server's state of this moment."""
        with self._lock:
            self.watch_health.began(kind, self._next())

    def merge(self, kind: Kind, pages: Iterable[tuple[Iterable[Any], int]]) -> Merged:
        """Read a whole list page by page, each with the version of the list, and put it in place of what is known.

        Keeps no page while the next one arrives. An object that cannot be read stays as it was known.
        """
        corrected, version = 0, 0
        since = self.mark()
        present: set[str] = set()
        unreadable: list[objects.Unreadable] = []
        for items, version in pages:  # noqa: B007
            with self._lock:
                settled = self._settled[kind]
                for item in items:
                    try:
                        metadata = item["metadata"]
                        if settled.get(name := metadata["name"], _UNKNOWN) == metadata["resourceVersion"]:
                            present.add(name)
                            continue
                    except (KeyError, TypeError):
                        pass  # `identify` reports what it lacks
                    identity = objects.identify(item)
                    if isinstance(identity, objects.Unreadable):
                        unreadable.append(identity)
                        present.add(identity.name)
                    elif identity.name not in present:
                        present.add(identity.name)
                        corrected += self._correct(kind, item, identity, since)
        with self._lock:
            if "" not in present:  # else it may be any of those that seem to be missing
                for name in self._known[kind].keys() - present:
                    corrected += self._miss(kind, name, since, version)
            listed = self._listed_at.get(kind)
            self._listed_at[kind] = (since, version)
        return Merged(corrected, tuple(unreadable), listed is not None and version < listed[1])

    def looked(self, kind: Kind, version: int, count: int | None) -> bool:
        """Return whether a first page agrees with the cache, by the server's version and its number of objects."""
        with self._lock:
            since, before = self._listed_at.get(kind, (0, 0))
            if version < before:
                return False
            self._listed_at[kind] = (since, version)
            there = sum(not objects.is_gone(each) for each in self._known[kind].values())
        return count is None or count == there

    @property
    def complete(self) -> bool:
        """Return whether each kind was listed since the start, or since the server's versions last went back."""
        with self._lock:
            return len(self._listed_at) == len(Kind)

    def forget_versions(self) -> None:
        """Forget all versions, because the server's have gone back, and everything that depends on them."""
        with self._lock:
            self._gone.clear()
            self._listed_at.clear()
            for kind, of_kind in self._known.items():
                self._settled[kind].clear()
                unread = {"version": -1, "generation": -1} if kind is Kind.LIMIT else {"version": -1}
                self._known[kind] = {name: dataclasses.replace(each, **unread) for name, each in of_kind.items()}

    def take_changed(self) -> frozenset[Kind]:
        """Return the kinds that have changed since the last call."""
        with self._lock:
            changed, self._changed = frozenset(self._changed), set()
            self.woken.clear()
            return changed

    def snapshot(self) -> objects.Snapshot:
        """Return a copy of everything in the cache."""
        with self._lock:
            self._forget_missing_states()
            return objects.Snapshot(
                limits=dict(self._known[Kind.LIMIT]),
                nodes=dict(self._known[Kind.NODE]),
                slices=dict(self._known[Kind.SLICE]),
                states=dict(self._known[Kind.STATE]),
                cluster_addresses=self._cluster_addresses,
            )

    def put_cluster_addresses(self, found: Mapping[Prefix, str]) -> None:
        """Set the addresses that the cluster itself needs, beside those of its nodes."""
        with self._lock:
            if found != self._cluster_addresses:
                self._cluster_addresses = dict(found)
                self._wake(Kind.NODE)

    def limit(self, name: str) -> objects.Limit | None:
        """Return one limit; None if there is none of this name."""
        with self._lock:
            return self._known[Kind.LIMIT].get(name)

    def slice(self, name: str) -> objects.Slice | None:
        """Return one slice or the head; None if there is none of this name."""
        with self._lock:
            return self._known[Kind.SLICE].get(name)

    def counts(self) -> dict[Kind, int]:
        """Return the number of objects of each kind."""
        with self._lock:
            return {kind: len(of_kind) for kind, of_kind in self._known.items()}

    def _next(self) -> int:
        self._mark += 1
        return self._mark

    def _correct(self, kind: Kind, item: Any, identity: objects.Identity, since: int) -> bool:
        before = self._known[kind].get(identity.name)
        if not self._note(kind, item, identity, deleted=False, own=False, since=since):
            return False
        self._owe(kind, identity.name, identity.version, since)
        return before is None or before.version != identity.version

    def _miss(self, kind: Kind, name: str, since: int, version: int) -> bool:
        """Handle an object that is missing in a whole list."""
        each = self._known[kind][name]
        if self._noted[kind].get(name, 0) > since and each.version > version:
            return False  # made while the list was under way
        if objects.is_gone(each):
            return False
        self._owe(kind, name, each.version + 1, since)
        self._forget(kind, name)
        return True

    def _owe(self, kind: Kind, name: str, version: int, since: int) -> None:
        """Record that the watch should bring what a list found, if its watch began before the change."""
        if kind in self._listed_at:
            self.watch_health.owe(kind, name, version, min(since, self._listed_at[kind][0]))

    def _note(
        self, kind: Kind, item: Any, identity: objects.Identity, *, deleted: bool, own: bool, since: int | None
    ) -> bool:
        """Take an object; return whether its version is new. `since`: it answers a request of then; None: an event."""
        name, uid, version = identity
        of_kind = self._known[kind]
        before = of_kind.get(name)
        ours = since is None or self._noted[kind].get(name, 0) > since  # then only the version can decide
        gone_version, gone_mark = self._gone.get((kind, uid), (-1, 0))
        if before is not None and not objects.is_gone(before):
            if version == before.version:
                if since is not None and objects.in_doubt(before):
                    self._read_again(kind, item, before)
                return False
            if version < before.version and ours:
                return False
        elif version <= gone_version and (since is None or gone_mark > since) and not deleted:
            return False
        if deleted:
            self._gone[kind, uid] = (version, self._next())
            while len(self._gone) > GONE_MAX:
                self._gone.popitem(last=False)
            if before is not None and not objects.is_gone(before):
                self._forget(kind, name)
                return True
            return False
        moment = objects.Moment(self._clock(), self._server_time() if kind is Kind.STATE else None)
        after = objects.read(kind, item, before, moment)
        if isinstance(after, objects.Unreadable):
            return False
        self._put(kind, after)
        self._noted[kind][name] = self._next()
        if kind is Kind.STATE:
            self._missing_states.discard(name)
        if not own and objects.differs(before, after, self._expected.get(name) if kind is Kind.LIMIT else None):
            self._wake(kind)
        return True

    def _read_again(self, kind: Kind, item: Any, before: objects.Known) -> None:
        """Read the known version once more from an answer, if it was invalid when it came before."""
        after = objects.read(kind, item, before)
        if not isinstance(after, objects.Unreadable) and after != before:
            self._put(kind, after)
            self._wake(kind)

    def _forget(self, kind: Kind, name: str) -> None:
        before = self._pop(kind, name)
        self._noted[kind].pop(name, None)
        if kind is Kind.LIMIT:
            self._expected.pop(name, None)
        if isinstance(before, objects.State) and objects.outlives(before, self._clock()):
            # The node did not change by that its state was deleted, and its agent will write it again.
            self._known[kind][name] = dataclasses.replace(before, gone=True)
            self._missing_states.add(name)
        self._wake(kind)

    def _forget_missing_states(self) -> None:
        for name in list(self._missing_states):
            state = self._known[Kind.STATE].get(name)
            if state is None or not objects.outlives(state, self._clock()):
                self._missing_states.discard(name)
                self._pop(Kind.STATE, name)
                self._wake(Kind.STATE)

    def _put(self, kind: Kind, each: objects.Known) -> None:
        self._known[kind][each.name] = each
        if objects.in_doubt(each):
            self._settled[kind].pop(each.name, None)
        else:
            self._settled[kind][each.name] = str(each.version)

    def _pop(self, kind: Kind, name: str) -> objects.Known | None:
        self._settled[kind].pop(name, None)
        found: objects.Known | None = self._known[kind].pop(name, None)
        return found

    def _wake(self, kind: Kind) -> None:
        self._changed.add(kind)
        self.woken.set()
