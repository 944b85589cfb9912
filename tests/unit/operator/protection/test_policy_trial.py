"""Which limits are tried, and what the API server's answers say about the guard rails."""

from __future__ import annotations

import ipaddress
import json
import threading

import pytest

from bandwidth_api import addresses, units
from bandwidth_kube import client
from bandwidth_operator.protection import policy_trial
from bandwidth_operator.protection.policy_trial import Answer, Finding, Probe
from bandwidth_operator.reporting.metrics import Metrics

DENIED = "ValidatingAdmissionPolicy 'client-bandwidth-guard-rails' with binding 'x' denied request: rule {}: no"


def probes(**said: object) -> list[Probe]:
    return list(policy_trial.read(json.dumps(said)))


def refused(message: str, status: int = 403) -> client.RefusedError:
    return client.RefusedError(status, "Forbidden", message)


def test_without_rules_the_policy_itself_is_tried() -> None:
    """By a limit that is in order but for its name."""
    for text in ("", "{}", '{"protected": [], "leastRate": "", "new": 1}'):
        (probe,) = policy_trial.read(text)
        assert (probe.rule, probe.name) == ("probe", "guard-rails-probe")
        addresses.parse_client(probe.address)
        units.parse_rate(probe.rate)


@pytest.mark.parametrize(
    "network", ["10.0.0.0/8", "10.0.0.1/8", "192.0.2.0/24", "192.0.2.7/32", "2001:db8::/32", "::/0", "0.0.0.0/0"]
)
def test_a_limit_that_is_tried_breaks_one_rule_only(network: str) -> None:
    """Its client is in the network, may be limited at all, and its rate is within the bounds."""
    _, protected, *rates = probes(protected=[network], leastRate="1Mbit", largestRate="1Gbit")
    assert ipaddress.ip_address(protected.address) in ipaddress.ip_network(network, strict=False)
    addresses.parse_client(protected.address)
    assert 1_000_000 <= units.parse_rate(protected.rate) <= 1_000_000_000
    assert {probe.rule for probe in rates} == {"leastRate", "largestRate"}
    for probe in rates:
        assert ipaddress.ip_address(probe.address) not in ipaddress.ip_network(network, strict=False)
        assert not 1_000_000 <= units.parse_rate(probe.rate) <= 1_000_000_000


def test_what_no_limit_can_break_is_not_tried() -> None:
    """A bound at the end of all rates, and a network in which nothing can be limited."""
    assert [p.rule for p in probes(protected=["127.0.0.0/8"], leastRate="64kbit", largestRate="400G")] == ["probe"]


@pytest.mark.parametrize(
    ("text", "named"),
    [("{", "no JSON"), ("[]", "no JSON object"), ('{"protected": ["10.0.0.0/99"]}', "protected"),
     ('{"protected": "10.0.0.0/8"}', "protected"), ('{"leastRate": "fast"}', "fast")],
)  # fmt: skip
def test_guard_rails_that_cannot_be_read_are_said(text: str, named: str) -> None:
    """With what is wrong."""
    with pytest.raises(ValueError, match=named):
        policy_trial.read(text)


def test_only_a_refusal_by_the_rule_is_proof() -> None:
    """Accepted is off; a refusal by another policy or for another reason is no proof; the message says what helps."""
    _, probe = probes(protected=["10.0.0.0/8"])
    for answer, finding, said in (
        (None, Finding.OFF, "10.0.0.0/8 is not refused"),
        (refused("it is there", 409), Finding.OFF, "10.0.0.0/8 is not refused"),
        (refused(DENIED.format("protected")), Finding.HOLDS, ""),
        (refused(DENIED.format("leastRate")), Finding.UNPROVEN, "cannot be seen"),
        (refused("ValidatingAdmissionPolicy 'yours' denied request: rule protected: no"), Finding.UNPROVEN, "yours"),
        (refused("User cannot create resource"), Finding.UNPROVEN, "access rules of this version"),
        (refused("admission webhook does not support dry run", 400), Finding.UNPROVEN, "names begin with"),
    ):
        found = policy_trial.judged(probe, answer)
        assert found.finding is finding, answer
        assert said in found.message
        assert bool(found.message) == (finding is not Finding.HOLDS)


class Api:
    """Answers each try as it is told to."""

    def __init__(self) -> None:
        self.answers: dict[str, client.ApiError | None] = {}
        self.tried: list[client.Object] = []

    def request(self, method: str, path: str, *, query: dict[str, str], body: client.Object) -> client.Object:
        assert (method, query) == ("POST", {"dryRun": "All"})
        self.tried.append(body)
        error = self.answers.get(body["spec"]["clients"][0])
        if error is not None:
            raise error
        return body

    def close(self) -> None:
        pass


def in_force(metrics: Metrics) -> dict[str, float]:
    (family,) = metrics.guard_rails.collect()
    return {sample.labels["rule"]: sample.value for sample in family.samples}


def test_the_metric_of_a_rule_is_that_of_its_worst_network() -> None:
    """One network that is not refused by the rule is enough for 0; without an answer there is no number."""
    api, metrics = Api(), Metrics()
    found = policy_trial.read(json.dumps({"protected": ["10.0.0.0/8", "192.168.0.0/16"]}))
    watchman = policy_trial.Watchman(api, found, metrics.guard_rail)  # type: ignore[arg-type]
    api.answers = {
        "192.0.2.1": refused(DENIED.format("probe")),
        "10.0.0.0": refused(DENIED.format("protected")),
        "192.168.0.0": refused(DENIED.format("protected")),
    }
    for number in range(4):
        assert watchman.turn(number) == policy_trial.EACH_SECONDS
    assert in_force(metrics) == {"probe": 1, "protected": 1}
    api.answers["192.168.0.0"] = None
    for number in range(4, 8):
        watchman.turn(number)
    assert in_force(metrics) == {"probe": 1, "protected": 0}
    api.answers["192.168.0.0"] = refused("somebody else says no")
    for number in range(4, 8):
        watchman.turn(number)
    assert in_force(metrics) == {"probe": 1, "protected": 0}
    api.answers["192.168.0.0"] = client.UnreachableError("away")
    api.answers["192.0.2.1"] = client.UnreachableError("away")
    waits = [watchman.turn(number) for number in range(8, 12)]
    assert policy_trial.UNKNOWN_SECONDS in waits
    assert in_force(metrics) == {}


def test_every_second_try_is_the_policy_itself() -> None:
    """However many networks there are, guard rails that are off as a whole are seen within two tries."""
    api = Api()
    networks = [f"10.{n}.0.0/16" for n in range(50)]
    watchman = policy_trial.Watchman(api, policy_trial.read(json.dumps({"protected": networks})), Metrics().guard_rail)  # type: ignore[arg-type]
    for number in range(100):
        watchman.turn(number)
    named = [body["metadata"]["name"] for body in api.tried]
    assert named[::2] == ["guard-rails-probe"] * 50
    assert {body["spec"]["clients"][0] for body in api.tried[1::2]} == {f"10.{n}.0.0" for n in range(50)}


def test_a_policy_that_was_just_made_is_given_a_moment() -> None:
    """The operator of a new installation may run before its policy is in force, and would call it off."""
    waited: list[float] = []

    class Stopped(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0.0)
            return True

    watchman = policy_trial.Watchman(None, policy_trial.read(""), Metrics().guard_rail)  # type: ignore[arg-type]
    watchman._stopping = Stopped()
    watchman._follow()
    assert waited == [policy_trial.START_SECONDS]


def test_an_answer_names_the_objects_to_look_at() -> None:
    """What is off is said with the policy, its binding, and what to do."""
    message = Answer(*policy_trial.judged(policy_trial.read("")[0], None)).message
    for part in ("ValidatingAdmissionPolicyBinding", policy_trial.POLICY, "install the chart anew"):
        assert part in message
