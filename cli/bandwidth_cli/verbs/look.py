"""What a screen shows of a cluster: the answers to one question; and what its keys do there."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import time
from collections.abc import Collection, Mapping, Sequence

from bandwidth_api import address_text, addresses
from bandwidth_api.crds import asked
from bandwidth_api.crds.traffic_answer import Answer
from bandwidth_api.crds.traffic_query import Spec
from bandwidth_api.plan import Prefix
from bandwidth_cli import cluster
from bandwidth_cli.kubectl.program import Kubectl
from bandwidth_cli.objects import traffic
from bandwidth_cli.objects.limits import Limit
from bandwidth_cli.objects.manifest import Wanted
from bandwidth_cli.outcome import FailedError
from bandwidth_cli.question import Question
from bandwidth_cli.text import yaml_text
from bandwidth_cli.verbs import progress, proposing
from bandwidth_cli.verbs.proposing import Proposal
from bandwidth_sight import draft as drafts
from bandwidth_sight.draft import Draft
from bandwidth_sight.rows import Snapshot
from bandwidth_sight.source import Preview, SourceError

LIMITS_SECONDS = 30.0  # after which the limits are read again, for their rates
NEW_LIMITS_SECONDS = 5.0  # where an answer names one that is not known
FIRST_SECONDS = 6.0  # until the first answer
SILENT_SECONDS = 10.0  # and beyond two reports of a node, until an answer is late
STEP_SECONDS = 5.0  # in which the time without one is told
NOBODY_ANSWERS = "questions may be switched off in the operator, or it does not run; kubectl cbl status"
WAIT_SECONDS = 3.0  # for a limit that was just made


def silence(last: Answer | None, trouble: str, seconds: float) -> str:
    """Return in words why nothing new has come for so long; "" where that is nothing to speak of."""
    if trouble:
        return f"the API server: {trouble}"
    if last is not None and last.status == "False":
        return ""  # it says itself why there is no more
    patience = FIRST_SECONDS if last is None else SILENT_SECONDS + 2.0 * last.interval_seconds
    if seconds < patience:
        return ""
    since = int(seconds // STEP_SECONDS * STEP_SECONDS)
    return f"{'no answer' if last is None else 'no newer answer'} for {since} s: {NOBODY_ANSWERS}"


class Look:
    """A source for the screen (`bandwidth_sight.source`)."""

    def __init__(self, kubectl: Kubectl, spec: Spec, asker: str) -> None:
        """Ask. Raises FailedError."""
        self._kubectl = kubectl
        self._spec = spec
        self._asker = asker
        self._grouped = spec.group == asked.NETWORK
        self.question = Question(kubectl, spec, asker)
        self._limits: Mapping[str, Limit] | None = None
        self._nodes: tuple[str, ...] = spec.nodes
        self._reading: cluster.Pending[tuple[list[Limit], tuple[str, ...]]] | None = None
        self._read_at = float("-inf")
        self._proposals: dict[str, Proposal] = {}
        self._heard_at = time.monotonic()
        self._last: Answer | None = None
        self._told = ""  # why nothing new comes
        try:
            self._refresh(0.0)
        except BaseException:
            self.question.close()
            raise

    def descriptors(self) -> Sequence[int]:
        """Return what becomes readable when there may be an answer."""
        descriptor = self.question.descriptor()
        return () if descriptor is None else (descriptor,)

    def poll(self) -> Snapshot | None:
        """Return the newest answer if it is new. Raises SourceError."""
        try:
            answer = self.question.poll()
        except FailedError as error:
            raise SourceError(str(error)) from None
        self._collect()
        self._refresh(LIMITS_SECONDS)
        if answer is not None:
            self._last, self._heard_at, self._told = answer, time.monotonic(), ""
            return self.shown(answer)
        why = silence(self._last, self.question.trouble, time.monotonic() - self._heard_at)
        if why == self._told:
            return None
        self._told = why
        return self.shown(self._last or Answer(observed_at=time.time()))

    def shown(self, answer: Answer) -> Snapshot:
        """Return an answer as a snapshot, with a note where nothing newer comes."""
        self._collect()
        if self._limits is not None and any(n not in self._limits for row in answer.rows for n in row.limits):
            self._refresh(NEW_LIMITS_SECONDS)
        why = self._told or silence(answer, self.question.trouble, 0.0)
        return traffic.snapshot(answer, self._limits, self._nodes, grouped=self._grouped, notes=[why] if why else [])

    def networks(self) -> Collection[Prefix]:
        """Return the networks that limits name."""
        known = (self._limits or {}).values()
        return {
            client for limit in known for client in limit.clients if client.length < address_text.BITS[client.family]
        }

    def refusal(self, client: Prefix) -> str:
        """Return why no limit may be made for this client."""
        return drafts.refusal(client)

    def preview(self, draft: Draft) -> Preview:
        """Return what a limit would be and meet, after a dry run. Raises SourceError."""
        wanted = Wanted(
            clients=(draft.client,),
            rate_bits_per_second=draft.rate_bits_per_second,
            lasts_seconds=draft.ttl_seconds,
            reason=draft.reason,
            mode=draft.mode,
            name=draft.name,
        )
        try:
            proposal = proposing.propose(self._kubectl, wanted, replace=False, now=time.time())
        except FailedError as error:
            raise SourceError(str(error)) from None
        self._proposals[proposal.name] = proposal
        warnings = [f"warning: {each}" for each in proposal.warnings]
        changes = (*warnings, *proposal.effects) or ("nothing else holds this client",)
        yaml = "\n".join(yaml_text.lines(proposal.body)) + "\n"
        return Preview(draft, yaml, changes, proposing.question(proposal))

    def apply(self, preview: Preview) -> str:
        """Make the limit, and return how far it is. Raises SourceError."""
        proposal = self._proposals.pop(preview.draft.name, None)
        if proposal is None:
            raise SourceError("look at the preview again: it is of another limit")
        said: list[str] = []
        try:
            made = proposing.make(self._kubectl, proposal)
            began = time.monotonic()
            progress.follow(self._kubectl, made, seconds=WAIT_SECONDS, say=said.append, began=began)
        except FailedError as error:
            raise SourceError(str(error)) from None
        self._refresh(0.0)
        return f"{made.name} made; {said[-1] if said else 'it is in force'}"

    def write_yaml(self, preview: Preview, path: str) -> str:
        """Write the manifest into a new file. Raises SourceError."""
        target = pathlib.Path(path).expanduser() if path else pathlib.Path(f"{preview.draft.name}.yaml")
        try:
            with open(target, "x") as file:
                file.write(preview.yaml)
        except OSError as error:
            raise SourceError(f"{target}: {os.strerror(error.errno or 0)}") from None
        return str(target)

    def name_of(self, client: Prefix) -> str:
        """Return the name of an address as the resolver here knows it. Raises SourceError."""
        text = addresses.write(client)
        try:
            return socket.gethostbyaddr(text)[0]
        except OSError:
            raise SourceError(f"{text} has no name here") from None

    def pause(self) -> None:
        """Take the question back while nobody looks."""
        self.question.close()

    def resume(self) -> None:
        """Ask anew. Raises SourceError."""
        self._heard_at = time.monotonic()
        try:
            self.question = Question(self._kubectl, self._spec, self._asker)
        except FailedError as error:
            raise SourceError(str(error)) from None

    def close(self) -> None:
        """Take the question back."""
        self.question.close()

    # ── limits and nodes, read beside ──────────────────────────────────────────────────────────────────────────

    def _refresh(self, after_seconds: float) -> None:
        """Begin to read limits and names of nodes, if they are older than that."""
        if self._reading is None and time.monotonic() - self._read_at >= after_seconds:
            self._read_at = time.monotonic()
            self._reading = cluster.Pending(self._fetch)

    def _fetch(self) -> tuple[list[Limit], tuple[str, ...]]:
        known = cluster.all_limits(self._kubectl)
        names = self._spec.nodes
        if not names:
            with contextlib.suppress(FailedError):  # then they have no names
                names = tuple(state.node for state in cluster.states(self._kubectl))
        return known, names

    def _collect(self) -> None:
        """Take what was read, if it is there."""
        if self._reading is None or not self._reading.done:
            return
        with contextlib.suppress(FailedError):  # the rates of limits are not known then
            known, self._nodes = self._reading.result()
            self._limits = {limit.name: limit for limit in known}
        self._reading = None
