"""One term of policies before an API server in memory: what is asked, made, changed, lifted, told, and what is left."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest

from bandwidth_api import addresses, kinds, names
from bandwidth_api.crds import client_traffic, slices, watched
from bandwidth_api.crds.watched import Span, Watched
from bandwidth_api.kinds import Kind
from bandwidth_api.policy import made_limit, rounds, surroundings
from bandwidth_kube import client
from bandwidth_kube.collection import Reading
from bandwidth_operator.cache import lists
from bandwidth_operator.cache.cache import Cache
from bandwidth_operator.election.fence import Fence, LeadershipLostError
from bandwidth_operator.election.token_bucket import TokenBucket
from bandwidth_operator.election.writer import Writer
from bandwidth_operator.policies import policy_objects
from bandwidth_operator.policies.deciding import OFF, Deciding
from bandwidth_operator.policies.neighbours import Neighbours
from bandwidth_operator.publish import planning
from bandwidth_operator.reporting.metrics import Metrics
from bandwidth_operator.status.events import Correlator
from bandwidth_operator.traffic.answering import Answering
from unit.operator.cluster import Cluster, Time

HEAD = f"{Kind.SLICE.path}/{slices.HEAD}"
EVENTS = "/api/v1/namespaces/default/events"
GREEDY = "203.0.113.7"
MBIT = 1e6
SPEC: dict[str, Any] = {
    "when": {"rate": {"above": "40Mbit", "forSeconds": 60}},
    "then": {
        "mode": "Enforce",
        "steps": [{"rate": "20Mbit", "ttlSeconds": 600}, {"rate": "10Mbit", "ttlSeconds": 3600}],
    },
    "lift": {"forSeconds": 60},
}


def with_(**changes: Any) -> dict[str, Any]:
    """The spec with other values: `then__mode` is that of `then`."""
    made = {key: dict(value) for key, value in SPEC.items()}
    for path, value in changes.items():
        part, _, name = path.partition("__")
        if name:
            made.setdefault(part, {})[name] = value
        else:
            made[part] = value
    return made


class Term:
    """Policies of one term over a cluster with some nodes, each of which reports every five seconds."""

    def __init__(
        self, *, nodes: int = 1, cluster: Cluster | None = None, time: Time | None = None, enabled: bool = True
    ) -> None:
        self.time = time or Time()
        self.cluster = cluster or Cluster(self.time)
        self.metrics = Metrics()
        if cluster is None:
            self.cluster.put(HEAD, {"apiVersion": "x", "spec": slices.write(slices.Head((), term=1))})
            for number in range(nodes):
                self.cluster.node(f"n{number}")
                self.cluster.put(f"{Kind.STATE.path}/n{number}", {"status": {"schema": 1}})
        clock = self.time.clock
        self.fence = Fence(1, clock.monotonic() + 1e6, clock.monotonic)
        self.cache = Cache(clock.monotonic)
        writer = Writer(self.cluster, self.fence, TokenBucket(1e6, 1e6, clock.monotonic), self.metrics)
        self.deciding = Deciding(self.cluster, writer, self.cache, Correlator(), frozenset(), clock, enabled=enabled)
        self.number = int(self.time.now)
        self.cluster.requests.clear()

    def policy(self, name: str = "fair", **changes: Any) -> None:
        before = self.cluster.objects.get(f"{kinds.POLICIES_PATH}/{name}", {"metadata": {"generation": 1}})
        kind = {"apiVersion": names.API_VERSION, "kind": names.POLICY_KIND}
        self.cluster.put(f"{kinds.POLICIES_PATH}/{name}", before | kind | {"spec": with_(**changes)})

    def report(self, rates: Mapping[str, float], node: str = "n0", seconds: float = 5.0, **more: Any) -> None:
        """A node says what it sent whom, in bits per second."""
        self.number += 1
        rows = tuple(watched.Client(addresses.parse(text), rate * seconds / 8) for text, rate in rates.items())
        said = client_traffic.write_watched(Watched(self.number, Span(seconds, 1e9), candidates=rows, **more))
        self.cluster.put(f"{kinds.TRAFFIC_PATH}/{node}", {"status": said})

    def turn(self, seconds: float = 1.0) -> float:
        """So much time passes, the watches bring what is there, a plan is made, and what is due is done."""
        self.time.pass_by(seconds)
        for kind in Kind:
            lists.fill(self.cluster, self.cache, kind)
        self.deciding.plan_is(planning.plan_of(self.cache.snapshot(), {}, self.time.clock.wall()))
        there = self.cluster.below(kinds.POLICIES_PATH)
        self.deciding.read(Reading({name: policy_objects.read(item, None) for name, item in there.items()}, "1"))
        if self.deciding._reports_reader is not None:
            reports = self.cluster.below(kinds.TRAFFIC_PATH)
            self.deciding.reports_read(Reading({n: client_traffic.read(i) for n, i in reports.items()}, "1"))
        return self.deciding.turn()

    def send(self, seconds: int, *clients: str, rate: float = 60 * MBIT, node: str = "n0") -> None:
        """For so long a node sends these so much, as far as their limits let it."""
        for _ in range(seconds // 5):
            self.report({each: min(rate, self.allowed(each)) for each in clients}, node)
            self.turn(5.0)

    def limits(self) -> dict[str, Any]:
        return {name: item["spec"] for name, item in self.cluster.below(Kind.LIMIT.path).items()}

    def allowed(self, text: str) -> float:
        rates = {"20Mbit": 20e6, "10Mbit": 10e6, "5Mbit": 5e6, "15Mbit": 15e6}
        return min((rates[s["egress"]["rate"]] for s in self.limits().values() if text in s["clients"]), default=1e9)

    def status(self, name: str = "fair") -> dict[str, Any]:
        return dict(self.cluster.objects[f"{kinds.POLICIES_PATH}/{name}"].get("status") or {})

    def decisions(self, name: str = "fair") -> list[str]:
        """The oldest first, with what stood in the way."""
        told = reversed(self.status(name).get("decisions", []))
        return [f"{each['decision']} {each.get('obstacle', '')}".strip() for each in told]

    def conditions(self, name: str = "fair") -> dict[str, str]:
        return {each["type"]: f"{each['status']} {each['reason']}" for each in self.status(name)["conditions"]}

    def events(self) -> list[str]:
        items = self.cluster.below(EVENTS).values()
        return [f"{each['involvedObject']['kind']} {each['reason']}" for each in items]

    def asked(self) -> Any:
        return self.cluster.objects[HEAD]["spec"].get("watching")


NAME = made_limit.name("fair", addresses.parse(GREEDY))


def test_without_policies_nothing_is_done() -> None:
    """No request is sent, nothing is due, and no node is asked for anything."""
    term = Term()
    term.turn()
    term.cluster.requests.clear()
    assert term.turn(3600.0) == float("inf")
    reads = {path for _, path in term.cluster.requests}
    assert reads == {kind.path for kind in Kind}  # of the test's own lists
    assert term.asked() is None


def test_the_whole_story() -> None:
    """Greedy for too long: limited, stepped where it presses, lifted when it stops; and told each time."""
    term = Term()
    term.policy()
    term.turn()
    assert term.asked()["watches"]
    term.report({})
    term.turn()
    term.send(60, GREEDY)
    (made,) = term.limits().values()
    assert made["clients"] == [GREEDY]
    assert made["egress"] == {"rate": "20Mbit"}
    assert "policy fair, step 1 of 2" in made["reason"]
    metadata = term.cluster.objects[f"{Kind.LIMIT.path}/{NAME}"]["metadata"]
    assert metadata["labels"] == {names.POLICY: "fair"}
    assert (
        metadata["ownerReferences"][0]["uid"] == term.cluster.objects[f"{kinds.POLICIES_PATH}/fair"]["metadata"]["uid"]
    )
    assert term.asked()["limited"] == [GREEDY]
    uid = metadata["uid"]
    term.send(600, GREEDY)
    assert term.limits()[NAME]["egress"] == {"rate": "10Mbit"}
    assert term.cluster.objects[f"{Kind.LIMIT.path}/{NAME}"]["metadata"]["uid"] == uid
    term.send(90, GREEDY, rate=0.0)
    assert term.limits() == {}
    term.turn(5.0)
    assert term.decisions() == ["Limited", "Stepped", "Lifted"]
    assert term.status()["clients"]["limited"] == 0
    assert [text.split()[:3] for text in term.status()["remembered"]] == [[GREEDY, "2", "Ended"]]
    kinds_told = term.events()
    assert kinds_told.count("ClientBandwidthPolicy Limited") == 1
    assert kinds_told.count("ClientBandwidthLimit Limited") == 1
    assert kinds_told.count("ClientBandwidthLimit Stepped") == 1
    assert kinds_told.count("ClientBandwidthPolicy Lifted") == 1
    text = term.metrics.text().decode()
    assert 'bandwidth_operator_policy_decisions_total{decision="Limited",mode="Enforce",policy="fair"} 1.0' in text
    assert GREEDY not in text


def test_observe_writes_nothing_but_what_it_would_have_done() -> None:
    """The decision is told as one that was only observed; there is no limit."""
    term = Term()
    term.policy(then__mode="Observe")
    term.turn()
    term.report({})
    term.turn()
    term.send(70, GREEDY)
    assert term.limits() == {}
    assert term.decisions() == ["Limited"]
    assert term.status()["decisions"][0]["observed"] is True
    assert term.conditions()["Ready"] == "True Observing"
    assert term.status()["clients"] == {"watched": 1, "hot": 0, "limited": 1}


def test_switched_off_each_policy_is_told_so() -> None:
    """Without the value of the chart the status names it; nothing else is written, and nobody looks."""
    term = Term(enabled=False)
    term.policy()
    term.turn()
    assert term.conditions() == {"Accepted": "True Accepted", "Ready": "False Disabled"}
    assert term.status()["conditions"][1]["message"] == OFF
    assert "policies.enabled" in OFF
    term.cluster.writes()
    assert term.turn(60.0) == float("inf")
    assert term.cluster.writes() == []
    assert term.asked() is None


def test_switched_off_later_no_node_looks_any_more() -> None:
    """What a term before has asked is taken back."""
    term = Term()
    term.policy()
    term.turn()
    assert term.asked() is not None
    off = Term(cluster=term.cluster, time=term.time, enabled=False)
    off.turn()
    assert off.asked() is None


def test_a_policy_that_is_deleted_takes_its_limits_along() -> None:
    """In the next turn, without waiting for a collector; a person's limit stays byte for byte; then nobody looks."""
    term = Term()
    term.policy()
    term.cluster.limit("by-hand", clients=["192.0.2.1"])
    before = dict(term.cluster.objects[f"{Kind.LIMIT.path}/by-hand"])
    term.turn()
    term.report({})
    term.turn()
    term.send(60, GREEDY)
    assert set(term.limits()) == {"by-hand", NAME}
    del term.cluster.objects[f"{kinds.POLICIES_PATH}/fair"]
    term.turn(0.1)
    assert set(term.limits()) == {"by-hand"}
    assert term.cluster.objects[f"{Kind.LIMIT.path}/by-hand"] == before
    term.turn(3.0)
    assert term.asked() is None
    term.turn(3.0)
    assert term.cluster.below(kinds.TRAFFIC_PATH) == {}
    assert 'policy="fair"' not in term.metrics.text().decode()


@pytest.mark.parametrize("change", [{"then__mode": "Disabled"}, {"then__mode": "Observe"}])
def test_a_policy_that_acts_no_more_lifts_its_limits(change: dict[str, Any]) -> None:
    """At once, whatever is left of them."""
    term = limited_once()
    term.policy(**change)
    term.turn(0.1)
    assert term.limits() == {}
    term.turn(5.0)
    assert term.decisions() == ["Limited", "Removed"]


def limited_once(**changes: Any) -> Term:
    """A term in which one client was limited."""
    term = Term()
    term.policy(**changes)
    term.turn()
    term.report({})
    term.turn()
    term.send(60, GREEDY)
    assert list(term.limits()) == [NAME]
    return term


def test_an_edit_to_a_lower_rate_is_taken_over_at_once() -> None:
    """The same object, with an end that is not later."""
    term = limited_once()
    before = term.cluster.objects[f"{Kind.LIMIT.path}/{NAME}"]
    steps = [{"rate": "15Mbit", "ttlSeconds": 600}, {"rate": "10Mbit", "ttlSeconds": 3600}]
    term.policy(then__steps=steps)
    term.turn(0.1)
    after = term.cluster.objects[f"{Kind.LIMIT.path}/{NAME}"]
    assert after["spec"]["egress"] == {"rate": "15Mbit"}
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["spec"]["expiresAt"] <= before["spec"]["expiresAt"]


def test_a_limit_that_a_person_deletes_is_not_made_again() -> None:
    """It is a pardon, and the next term knows of it too."""
    term = limited_once()
    del term.cluster.objects[f"{Kind.LIMIT.path}/{NAME}"]
    term.send(130, GREEDY)
    assert term.limits() == {}
    assert term.decisions() == ["Limited", "Pardoned", "Blocked Pardoned"]
    later = Term(cluster=term.cluster, time=term.time)
    later.turn()
    later.report({})
    later.turn()
    later.send(130, GREEDY)
    assert later.limits() == {}
    assert later.decisions()[-1] == "Blocked Pardoned"


def test_the_next_term_takes_over_what_is_there() -> None:
    """The limit of the term before is neither made again nor longer; it is lifted as it would have been."""
    term = limited_once()
    before = term.cluster.objects[f"{Kind.LIMIT.path}/{NAME}"]
    later = Term(cluster=term.cluster, time=term.time)
    later.turn()
    later.report({})
    later.turn()
    later.send(60, GREEDY)
    assert later.cluster.objects[f"{Kind.LIMIT.path}/{NAME}"] == before
    assert later.status()["clients"]["limited"] == 1
    later.send(90, GREEDY, rate=0.0)
    assert later.limits() == {}


def test_a_persons_limit_around_keeps_a_policy_away() -> None:
    """Before and after: no limit is made in it, and one that is there is given up."""
    term = Term()
    term.policy()
    term.cluster.limit("office", clients=["203.0.113.0/24"], mode="Observe")
    term.turn()
    term.report({})
    term.turn()
    term.send(70, GREEDY)
    assert set(term.limits()) == {"office"}
    assert term.decisions() == ["Blocked PersonsLimit"]
    del term.cluster.objects[f"{Kind.LIMIT.path}/office"]
    term.send(10, GREEDY)
    assert set(term.limits()) == {NAME}
    term.cluster.limit("office", clients=["203.0.113.0/24"], mode="Observe")
    term.turn()
    assert set(term.limits()) == {"office"}
    term.turn(5.0)
    assert term.decisions()[-1] == "Released PersonsLimit"


def test_a_made_limit_without_its_label_is_a_persons() -> None:
    """A person who takes the label away has taken the limit over: it is never written again."""
    term = limited_once()
    path = f"{Kind.LIMIT.path}/{NAME}"
    item = term.cluster.objects[path]
    term.cluster.put(path, item | {"metadata": {k: v for k, v in item["metadata"].items() if k != "labels"}})
    before = term.cluster.objects[path]
    term.send(700, GREEDY)
    assert term.cluster.objects[path] == before
    del term.cluster.objects[f"{kinds.POLICIES_PATH}/fair"]
    term.turn()
    assert term.cluster.objects[path] == before


def test_an_address_that_a_node_protects_is_left_alone_from_then_on() -> None:
    """A gateway that no Node object names: the node refuses the limit, and no policy makes it again."""
    term = limited_once()
    path = f"{Kind.LIMIT.path}/{NAME}"
    condition = {"type": "Ready", "status": "False", "reason": "ProtectedAddress", "message": "m"}
    term.cluster.put(path, term.cluster.objects[path] | {"status": {"conditions": [condition]}})
    term.turn()
    assert term.limits() == {}
    term.send(130, GREEDY)
    assert term.limits() == {}
    assert term.decisions()[1:] == ["Released Protected", "Blocked Protected"]


def test_an_address_of_a_node_is_never_limited() -> None:
    """Nor what the API server lets no limit touch."""
    term = Term()
    node = term.cluster.objects[f"{Kind.NODE.path}/n0"]
    addresses_of = {"addresses": [{"type": "InternalIP", "address": GREEDY}]}
    term.cluster.put(f"{Kind.NODE.path}/n0", node | {"status": addresses_of})
    term.policy()
    term.turn()
    term.report({})
    term.turn()
    term.send(70, GREEDY)
    assert term.limits() == {}
    assert term.decisions() == ["Blocked Protected"]


def test_a_refused_write_stands_in_the_way_for_a_minute() -> None:
    """The message of the API server is in the status; nothing is tried every second."""
    term = Term()
    term.policy()

    def fault(method: str, path: str) -> None:
        if method == "PATCH" and path.startswith(f"{Kind.LIMIT.path}/"):
            raise client.RefusedError(403, "Forbidden", "rule leastRate: too little")

    term.turn()
    term.report({})
    term.turn()
    term.cluster.fault = fault
    term.send(45, GREEDY)
    term.cluster.requests.clear()
    term.send(50, GREEDY)
    tried = [r for r in term.cluster.requests if r[1] == f"{Kind.LIMIT.path}/{NAME}"]
    assert tried == []
    assert term.decisions() == ["Limited", "Failed", "Blocked Refused"]
    assert "rule leastRate" in str(term.status()["decisions"])
    term.cluster.fault = lambda method, path: None
    term.send(30, GREEDY)
    assert list(term.limits()) == [NAME]


def test_an_api_server_that_is_away_is_asked_again() -> None:
    """What could not be written is written later, once; what is too late is not made."""
    term = Term()
    term.policy()
    term.turn()
    term.report({})
    term.turn()

    def away(method: str, path: str) -> None:
        if method in ("PATCH", "DELETE", "POST"):
            raise client.UnreachableError("away")

    term.send(40, GREEDY)
    term.cluster.fault = away
    with pytest.raises(client.UnreachableError):  # the head
        term.send(10, GREEDY)
    assert term.limits() == {}
    term.cluster.fault = lambda method, path: None
    term.turn()
    assert list(term.limits()) == [NAME]
    assert [w for w in term.cluster.writes() if NAME in w and w.startswith("PATCH")].count(f"PATCH {NAME}") >= 1
    term.turn()
    assert f"PATCH {NAME}" not in term.cluster.writes()


def test_a_deletion_that_fails_is_tried_again() -> None:
    """A limit of a policy that is gone does not stay because the API server was busy."""
    term = limited_once()

    def busy(method: str, path: str) -> None:
        if method == "DELETE" and path.startswith(f"{Kind.LIMIT.path}/"):
            raise client.RefusedError(429, "TooManyRequests", "busy")

    del term.cluster.objects[f"{kinds.POLICIES_PATH}/fair"]
    term.cluster.fault = busy
    assert term.turn() == 1.0
    assert list(term.limits()) == [NAME]
    term.cluster.fault = lambda method, path: None
    term.turn()
    assert term.limits() == {}


def test_a_leader_that_is_none_any_more_writes_nothing() -> None:
    """The fence closes before the write."""
    term = Term()
    term.policy()
    term.turn()
    term.report({})
    term.turn()
    term.send(40, GREEDY)
    term.fence.end()
    with pytest.raises(LeadershipLostError):
        term.send(10, GREEDY)
    assert term.limits() == {}


def test_the_maximum_is_kept_and_nobody_is_exchanged() -> None:
    """The third client, hotter than the others, is told to be in the way of the maximum; a condition says so."""
    term = Term()
    term.policy(safety={"maxLimits": 2})
    term.turn()
    term.report({})
    term.turn()
    others = ("203.0.113.8", "203.0.113.9")
    term.send(60, *others)
    assert len(term.limits()) == 2
    for _ in range(16):
        term.report({GREEDY: 900 * MBIT, **dict.fromkeys(others, 20 * MBIT)})
        term.turn(5.0)
    assert {spec["clients"][0] for spec in term.limits().values()} == set(others)
    assert term.conditions()["AtMaximum"] == "True AtMaximum"
    text = term.metrics.text().decode()
    assert 'bandwidth_operator_policy_condition{policy="fair",type="AtMaximum"} 1.0' in text
    assert 'bandwidth_operator_policy_obstacles_total{obstacle="Maximum",policy="fair"} 1.0' in text


def test_a_node_that_is_silent_for_two_windows_is_told() -> None:
    """A client of it is left alone; the condition is there while it is so."""
    term = Term(nodes=2)
    term.policy()
    term.turn()
    for node in ("n0", "n1"):
        term.report({}, node)
    term.turn()
    for _ in range(26):
        term.report({}, "n0")
        term.turn(5.0)
    assert term.conditions()["NotMeasuring"] == "True NotMeasuring"
    assert "n1" in str(term.status()["conditions"])
    assert term.status()["nodes"] == {"selected": 2, "measuring": 1, "silent": ["n1"]}
    for _ in range(8):
        for node in ("n0", "n1"):
            term.report({}, node)
        term.turn(5.0)
    assert "NotMeasuring" not in term.conditions()


def test_what_was_reported_before_the_term_counts_for_nothing() -> None:
    """The report that lies there may be hours old; so may that of a node which comes back with the same number."""
    term = Term()
    term.policy(when={"rate": {"above": "40Mbit", "forSeconds": 5}})
    term.report({GREEDY: 900 * MBIT}, seconds=60.0)
    for _ in range(5):
        term.turn(5.0)
    assert term.limits() == {}
    assert term.status()["clients"]["watched"] == 0


def test_statuses_are_written_rarely() -> None:
    """Figures alone every half minute, decisions within seconds, and nothing where nothing differs."""
    term = Term()
    term.policy()
    term.turn()
    term.turn(5.0)
    term.cluster.writes()
    for number in range(60):
        term.report({f"203.0.113.{n}": 25 * MBIT for n in range(20, 20 + number % 9)})
        term.turn(5.0)
    written = [w for w in term.cluster.writes() if w == "PATCH status"]
    assert 1 <= len(written) <= 11
    for _ in range(60):
        term.turn(1.0)
    assert term.cluster.writes().count("PATCH status") <= 2


def test_a_policy_that_cannot_be_read_says_what_is_wrong() -> None:
    """It got past admission; nobody acts for it."""
    term = Term()
    term.policy(then__steps=[{"rate": "60Mbit", "ttlSeconds": 600}])
    term.turn()
    assert term.conditions()["Accepted"].startswith("False")
    assert "every step's rate" in str(term.status()["conditions"])
    assert term.asked() is None


def test_a_made_limit_bears_nothing_of_the_tools_that_keep_its_policy() -> None:
    """Argo CD and Flux know their objects by labels and annotations: a made limit has none of these, and an owner."""
    term = Term()
    term.policy(then__labels={"team": "mail"})
    path = f"{kinds.POLICIES_PATH}/fair"
    marks = {
        "labels": {"kustomize.toolkit.fluxcd.io/name": "net", "app.kubernetes.io/instance": "net"},
        "annotations": {"argocd.argoproj.io/tracking-id": "net:clientbandwidth.io/ClientBandwidthPolicy:/fair"},
    }
    item = term.cluster.objects[path]
    term.cluster.put(path, item | {"metadata": item["metadata"] | marks})
    term.turn()
    term.report({})
    term.turn()
    term.send(60, GREEDY)
    metadata = term.cluster.objects[f"{Kind.LIMIT.path}/{NAME}"]["metadata"]
    assert metadata["labels"] == {"team": "mail", names.POLICY: "fair"}
    assert metadata["annotations"] == {names.POLICY_STEP: "1"}
    assert [owner["kind"] for owner in metadata["ownerReferences"]] == [names.POLICY_KIND]


def test_reports_of_nodes_stay_while_a_policy_looks() -> None:
    """Whoever answers questions takes reports away after the last one, but not from policies."""
    term = limited_once()
    answering = Answering(term.cluster, term.deciding._writer, term.cache, term.time.clock.wall, term.time.clock)
    answering.read(Reading({}, "1"))
    for _ in range(3):
        term.time.pass_by(60.0)
        answering.turn()
    assert set(term.cluster.below(kinds.TRAFFIC_PATH)) == {"n0"}


def test_metrics_end_with_the_term() -> None:
    """A replica that stands by says nothing of policies but what it has counted."""
    term = limited_once()
    assert "bandwidth_operator_policy_clients{" in term.metrics.text().decode()
    term.deciding._stopping.set()
    term.deciding._run()
    text = term.metrics.text().decode()
    assert "bandwidth_operator_policy_clients{" not in text
    assert "bandwidth_operator_policy_condition{" not in text
    assert "bandwidth_operator_policy_decisions_total{" in text


def test_a_limit_that_can_be_read_no_more_still_keeps_policies_away() -> None:
    """A person's edit that got past admission: what was accepted before is in force, and counts."""
    term = Term()
    term.policy()
    term.cluster.limit("office", clients=["203.0.113.0/24"])
    term.turn()
    entries = planning.plan_of(term.cache.snapshot(), {}, term.time.clock.wall()).plan.entries
    path = f"{Kind.LIMIT.path}/office"
    term.cluster.put(
        path, term.cluster.objects[path] | {"spec": {"clients": ["nobody"]}, "metadata": {"generation": 9}}
    )
    lists.fill(term.cluster, term.cache, Kind.LIMIT)
    neighbours = Neighbours()
    nothing = surroundings.NOTHING.protected
    assert not neighbours.around(term.cache.snapshot(), nothing, {}, term.time.clock.wall()).persons
    around = neighbours.around(term.cache.snapshot(), nothing, entries, term.time.clock.wall())
    assert list(around.persons.values()) == ["office"]


def test_a_long_round_is_followed_by_a_long_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much there is to decide, and whoever wakes the thread, all else has three quarters of the time."""
    term = Term()
    term.policy()
    decide, rounds_at = rounds.decide, []

    def slow(*given: Any) -> Any:
        rounds_at.append(term.time.now)
        found = decide(*given)
        term.time.pass_by(4.0)
        return found

    monkeypatch.setattr(rounds, "decide", slow)
    for _ in range(40):
        term.policy()
        term.turn()
    between = [after - before for before, after in itertools.pairwise(rounds_at)]
    assert len(between) > 1
    assert min(between) >= 16.0


# ── the last word ──────────────────────────────────────────────────────────────────────────────────────────────


def words(term: Term) -> list[str]:
    """Of each client that the status remembers, in which word."""
    return [text.split()[2] for text in term.status()["remembered"]]


def later(term: Term, **options: Any) -> Term:
    """The next term, over the same cluster, when it has read what is there."""
    found = Term(cluster=term.cluster, time=term.time, **options)
    found.turn()
    found.report({})
    found.turn()
    return found


def test_the_status_tells_of_a_limit_before_it_is_made_and_no_more_before_it_is_deleted() -> None:
    """Whoever dies in between leaves nothing that looks like a deletion by a person, and no limit that nobody knows."""
    term = Term()
    term.policy()
    term.turn()
    term.report({})
    term.turn()
    term.send(40, GREEDY)
    term.cluster.writes()
    term.send(20, GREEDY)
    written = [each for each in term.cluster.writes() if each in ("PATCH status", f"PATCH {NAME}")]
    assert written[-2:] == ["PATCH status", f"PATCH {NAME}"]
    assert words(term) == ["Limited"]
    while term.limits():
        told = words(term)
        term.cluster.writes()
        term.send(5, GREEDY, rate=0.0)
    assert told == ["Limited"]
    written = [each for each in term.cluster.writes() if each in ("PATCH status", f"DELETE {NAME}")]
    assert written == ["PATCH status", f"DELETE {NAME}"]
    assert words(term) == ["Ended"]


def test_a_limit_that_is_deleted_while_no_operator_runs_is_not_made_again() -> None:
    """The next term finds the word in the status and no limit: a pardon, told as one."""
    term = limited_once()
    del term.cluster.objects[f"{Kind.LIMIT.path}/{NAME}"]
    after = later(term)
    after.send(130, GREEDY)
    assert after.limits() == {}
    assert after.decisions() == ["Limited", "Pardoned", "Blocked Pardoned"]
    assert "while nothing looked" in str(after.status()["decisions"])
    assert words(after) == ["Pardoned"]


def test_a_limit_that_is_deleted_as_soon_as_it_is_made_is_not_made_again() -> None:
    """Between the answer of the API server and the next reading, and when this operator dies before it can tell."""
    for dies in (False, True):
        term = Term()
        term.policy()
        term.turn()
        term.report({})
        term.turn()
        while not term.limits():
            term.send(5, GREEDY)
        del term.cluster.objects[f"{Kind.LIMIT.path}/{NAME}"]
        term = later(term) if dies else term
        term.send(130, GREEDY)
        assert term.limits() == {}
        assert term.decisions() == ["Limited", "Pardoned", "Blocked Pardoned"]


def test_policies_that_are_switched_off_for_a_while_forget_no_pardon() -> None:
    """By the chart's value, where a limit may be deleted too, and by the mode of the policy."""
    term = limited_once()
    off = later(term, enabled=False)
    off.turn(5.0)
    assert words(off) == ["Limited"]
    del term.cluster.objects[f"{Kind.LIMIT.path}/{NAME}"]
    off.turn(5.0)
    on = later(off)
    on.turn(5.0)
    assert words(on) == ["Pardoned"]
    on.policy(then__mode="Disabled")
    on.turn(5.0)
    on = later(on)
    on.turn(5.0)
    assert words(on) == ["Pardoned"]
    on.policy()
    on.turn(5.0)
    on.send(130, GREEDY)
    assert on.limits() == {}
    assert on.decisions()[-1] == "Blocked Pardoned"


def test_what_no_status_can_tell_of_is_not_made() -> None:
    """The API server refuses the status for good: no limit without it, and nothing is tried each second."""
    term = Term()
    term.policy()
    term.turn()
    term.report({})
    term.turn()

    def fault(method: str, path: str) -> None:
        if path.endswith("/status"):
            raise client.RefusedError(422, "Invalid", "too many")

    term.cluster.fault = fault
    term.cluster.requests.clear()
    term.send(120, GREEDY)
    assert term.limits() == {}
    assert sum(path.endswith("/status") for _, path in term.cluster.requests) < 20
    term.cluster.fault = lambda method, path: None
    term.send(120, GREEDY)
    assert list(term.limits()) == [NAME]


def test_a_status_that_must_wait_keeps_no_limit_from_being_deleted() -> None:
    """The client goes free at once; that somebody might be pardoned who was not is the lesser evil."""
    term = limited_once()

    def busy(method: str, path: str) -> None:
        if path.endswith("/status"):
            raise client.RefusedError(429, "TooManyRequests", "busy")

    term.cluster.fault = busy
    term.policy(then__mode="Observe")
    term.turn(0.1)
    assert term.limits() == {}


def test_a_limit_whose_making_was_never_answered_is_not_made_again_after_its_deletion() -> None:
    """It is there, nobody was told, and a person deletes it while its making is still tried."""
    term = Term()
    term.policy()
    term.turn()
    term.report({})
    term.turn()
    lost = term.cluster.request
    away = False

    def request(method: str, path: str, *words: Any, **options: Any) -> Any:
        if method == "PATCH" and f"/{NAME}" in path:
            if not away:
                lost(method, path, *words, **options)
            raise client.UnreachableError("the answer was lost")
        return lost(method, path, *words, **options)

    term.cluster.request = request  # type: ignore[method-assign]
    while not term.limits():
        term.send(5, GREEDY)
    away = True
    term.turn()  # the watch brings it
    assert len(term.deciding._limits) == 1
    del term.cluster.objects[f"{Kind.LIMIT.path}/{NAME}"]
    term.turn()
    assert len(term.deciding._limits) == 0
    term.cluster.request = lost  # type: ignore[method-assign]
    term.send(60, GREEDY)
    assert term.limits() == {}
    assert term.decisions() == ["Limited", "Pardoned", "Blocked Pardoned"]


# ── policies on which nobody can act ───────────────────────────────────────────────────────────────────────────


def broken(term: Term) -> None:
    """The policy has a field that this version does not know."""
    path = f"{kinds.POLICIES_PATH}/fair"
    item = term.cluster.objects[path]
    generation = item["metadata"]["generation"] + 1
    metadata = item["metadata"] | {"generation": generation}
    term.cluster.put(path, item | {"metadata": metadata, "spec": item["spec"] | {"later": 1}})


@pytest.mark.parametrize("restarts", [False, True])
def test_the_limits_of_a_policy_that_can_be_read_no_more_stay_until_they_end(restarts: bool) -> None:
    """Nothing new is made, nothing is lifted, and a pardon is one when it can be read again."""
    term = limited_once()
    before = term.cluster.objects[f"{Kind.LIMIT.path}/{NAME}"]
    broken(term)
    if restarts:
        term = Term(cluster=term.cluster, time=term.time)
    for _ in range(5):
        term.turn(5.0)
    assert term.conditions()["Accepted"].startswith("False")
    assert term.cluster.objects[f"{Kind.LIMIT.path}/{NAME}"] == before
    assert words(term) == ["Limited"]
    del term.cluster.objects[f"{Kind.LIMIT.path}/{NAME}"]
    term.policy()
    item = term.cluster.objects[f"{kinds.POLICIES_PATH}/fair"]
    generation = item["metadata"]["generation"] + 1
    item = item | {"metadata": item["metadata"] | {"generation": generation}, "spec": with_()}
    term.cluster.put(f"{kinds.POLICIES_PATH}/fair", item)
    term.turn()
    term.report({})
    term.turn()
    term.send(130, GREEDY)
    assert term.limits() == {}
    assert words(term) == ["Pardoned"]


def test_more_policies_than_act_are_told_so() -> None:
    """The oldest act; the youngest says why it does not, and acts when there is room."""
    term = Term()
    for number in range(policy_objects.ACTING_MAX + 1):
        name = f"p{number}"
        term.policy(name, then__mode="Disabled")
        path = f"{kinds.POLICIES_PATH}/{name}"
        item = term.cluster.objects[path]
        second = policy_objects.ACTING_MAX - number
        created = f"2030-01-01T00:{second // 60:02d}:{second % 60:02d}Z"
        term.cluster.put(path, item | {"metadata": item["metadata"] | {"creationTimestamp": created}})
    term.turn()
    accepted = [term.conditions(f"p{number}")["Accepted"] for number in range(policy_objects.ACTING_MAX + 1)]
    assert accepted == ["False TooManyPolicies"] + ["True Accepted"] * policy_objects.ACTING_MAX
    del term.cluster.objects[f"{kinds.POLICIES_PATH}/p7"]
    term.turn(5.0)
    assert term.conditions("p0")["Accepted"] == "True Accepted"
