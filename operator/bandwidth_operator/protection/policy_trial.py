"""Tests whether the guard rails are in force: tries, by server-side dry run, limits that they must refuse.

A policy that is gone, or was never bound, refuses nothing, without any sign. So the operator asks the API server to
create a limit that breaks one rule, and the answer is the proof. Nothing is ever created: it is a dry run, and the
policy permits the operator nothing else.

Owns which limits are tried and what the answers mean; `Watchman` is the thread that tries one after another.
"""

from __future__ import annotations

import enum
import ipaddress
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import structlog

from bandwidth_api import addresses, names, units
from bandwidth_api.kinds import Kind
from bandwidth_kube import client

POLICY = "client-bandwidth-guard-rails"
PROBE = "guard-rails-probe"  # a name that the policy refuses, whatever its rules are
CLIENT = "192.0.2.1"  # of a limit that breaks no rule about clients: TEST-NET-1
RATE = "5Mbit"  # and none about rates, unless that is what it is about
# Before the first try: a new installation may have its operator before its policy, which takes an API server a second
# or two to put in force.
START_SECONDS = 5.0
EACH_SECONDS = 20.0  # between two that the watchman tries
UNKNOWN_SECONDS = 60.0  # and after an answer that proves nothing

log = structlog.get_logger(__name__)


class Probe(NamedTuple):
    """A limit that one rule must refuse."""

    rule: str
    name: str
    address: str
    rate: str
    shown: str  # what the rule is about, for people

    @property
    def body(self) -> client.Object:
        return {
            "apiVersion": names.API_VERSION,
            "kind": "ClientBandwidthLimit",
            "metadata": {"name": self.name},
            "spec": {"clients": [self.address], "egress": {"rate": self.rate}},
        }


class Finding(enum.Enum):
    HOLDS = "refused by its rule"
    OFF = "accepted"
    UNPROVEN = "refused by something else, so that nobody can say what the rule would have done"
    UNKNOWN = "not answered"


class Answer(NamedTuple):
    probe: Probe
    finding: Finding
    message: str


# ── pure ───────────────────────────────────────────────────────────────────────────────────────────────────────


def read(text: str) -> tuple[Probe, ...]:
    """Return the limits to try for the guard rails of the chart's values, in JSON; for "" only that of the policy.

    Raises ValueError. Unknown fields are ignored.
    """
    try:
        values = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError("""it is no JSON object, such as {"protected": ["10.0.0.0/8"], "leastRate": "1Mbit"}""")
    return (Probe("probe", PROBE, CLIENT, RATE, "any"), *_protected(values), *_rates(values))


def _protected(values: Mapping[str, Any]) -> Iterator[Probe]:
    networks = values.get("protected") or []
    if not isinstance(networks, list):
        raise ValueError("protected is no list of CIDRs")
    for text in networks:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError as error:
            raise ValueError(f"protected: {error}") from error
        inside = next(filter(_may_be_limited, _some_of(network)), None)
        if inside is not None:  # else no limit can name any of it, whatever the guard rails are
            yield Probe("protected", f"{PROBE}-rule", inside, _rate_within(values), str(text))


def _some_of(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Iterator[str]:
    for at in dict.fromkeys((0, min(1, network.num_addresses - 1), network.num_addresses // 2)):
        yield str(network[at])


def _may_be_limited(text: str) -> bool:
    try:
        addresses.parse_client(text)
    except ValueError:
        return False
    return True


def _rates(values: Mapping[str, Any]) -> Iterator[Probe]:
    outside = _outside(values.get("protected") or [])
    for rule, beyond in (("leastRate", units.RATE_MIN), ("largestRate", units.RATE_MAX)):
        bound = values.get(rule) or ""
        if bound and outside and units.parse_rate(bound) != beyond:  # else no rate can break it
            yield Probe(rule, f"{PROBE}-rule", outside, units.write_rate(beyond), bound)


def _rate_within(values: Mapping[str, Any]) -> str:
    """Return a rate that the bounds allow."""
    return str(values.get("leastRate") or values.get("largestRate") or RATE)


def _outside(networks: Sequence[str]) -> str:
    """Return an address that is in none of the networks; "" if none is found quickly."""
    found = [ipaddress.ip_network(text, strict=False) for text in networks]
    for text in (CLIENT, "198.51.100.1", "203.0.113.1", "8.8.8.8", "2001:db8::1", "2600::1"):
        if not any(ipaddress.ip_address(text) in network for network in found):
            return text
    return ""


def judged(probe: Probe, refused: client.RefusedError | None) -> Answer:
    """What the API server's answer to a try means."""
    if refused is None or refused.status == 409:  # the name is taken; admission had nothing against it
        return Answer(probe, Finding.OFF, _off(probe))
    if f"rule {probe.rule}:" in refused.message and POLICY in refused.message:
        return Answer(probe, Finding.HOLDS, "")
    return Answer(probe, Finding.UNPROVEN, _unproven(probe, refused))


def _off(probe: Probe) -> str:
    what = "the policy does not refuse anything" if probe.rule == "probe" else f"{probe.shown} is not refused"
    return (
        f"guard rail {probe.rule} is not in force: {what}; look at ValidatingAdmissionPolicy and"
        f" ValidatingAdmissionPolicyBinding {POLICY}, and install the chart anew"
    )


def _unproven(probe: Probe, refused: client.RefusedError) -> str:
    return (
        f"guard rail {probe.rule} ({probe.shown}) cannot be seen to be in force, because something else refuses what is"
        f" tried: {refused}. If that is a policy of yours, have it pass limits whose names begin with {PROBE}; if the"
        " operator may not create limits, apply the access rules of this version"
    )


# ── trying ─────────────────────────────────────────────────────────────────────────────────────────────────────


def tried(api: client.Client, probe: Probe) -> Answer:
    """Ask the API server by dry run to create it. Raises client.UnreachableError, and temporary refusals."""
    try:
        api.request("POST", Kind.LIMIT.path, query={"dryRun": "All"}, body=probe.body)
    except client.RefusedError as refused:
        if refused.temporary:
            raise
        return judged(probe, refused)
    return judged(probe, None)


class Watchman:
    """Tries one limit after another while the process lives; every second one tests the policy as a whole."""

    def __init__(
        self, api: client.Client, probes: Sequence[Probe], report: Callable[[str, bool | None], object]
    ) -> None:
        """`report`: receives the name of a rule, and whether it is in force; None if that is unknown."""
        self._api = api
        self._turns = [turn for rule in probes[1:] for turn in (probes[0], rule)] or [probes[0]]
        self._report = report
        self._last: dict[Probe, Answer] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="guard rails", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, without waiting for a request."""
        self._stopping.set()

    def turn(self, number: int) -> float:
        """Try the next limit; return the seconds until the one after it."""
        probe = self._turns[number % len(self._turns)]
        try:
            answer = tried(self._api, probe)
        except client.ApiError as error:
            answer = Answer(probe, Finding.UNKNOWN, f"guard rail {probe.rule} could not be tried: {error}")
        before, self._last[probe] = self._last.get(probe), answer
        if before is None or before.finding is not answer.finding:
            self._say(answer, before)
        self._report(probe.rule, self._holds(probe.rule))
        return EACH_SECONDS if answer.finding in (Finding.HOLDS, Finding.OFF) else UNKNOWN_SECONDS

    def _holds(self, rule: str) -> bool | None:
        found = {answer.finding for probe, answer in self._last.items() if probe.rule == rule}
        if found & {Finding.OFF, Finding.UNPROVEN}:
            return False
        return True if found == {Finding.HOLDS} else None

    def _say(self, answer: Answer, before: Answer | None) -> None:
        if answer.finding is not Finding.HOLDS:
            log.warning(answer.message)
        elif before is not None:
            log.info("guard rail is in force again", rule=answer.probe.rule, about=answer.probe.shown)

    def _run(self) -> None:
        try:
            self._follow()
        finally:
            self._api.close()

    def _follow(self) -> None:
        number, pause_seconds = 0, START_SECONDS
        while not self._stopping.wait(pause_seconds):
            try:
                pause_seconds = self.turn(number)
            except Exception:  # what only looks stops nothing that works
                log.exception("an error of this program while guard rails were tried")
                pause_seconds = UNKNOWN_SECONDS
            number += 1
