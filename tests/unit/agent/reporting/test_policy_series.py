"""The metrics of the policies of one host: what they see and decided, and never an address."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from bandwidth_agent.reporting import policy_series
from bandwidth_runtime.clock import Clock
from unit.agent.limits.directory import manifests
from unit.agent.policies.test_decider import GREEDY, POLICY, Host

OTHER = POLICY.replace("name: fair", "name: other").replace("mode: Enforce", "mode: Observe")


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Iterator[Host]:
    place = manifests.Place(tmp_path)
    place.write("policy.yaml", POLICY)
    made = Host(place)
    yield made
    made.source.close()


def scraped(host: Host) -> dict[str, dict[tuple[str, ...], float]]:
    """The samples by metric and the values of their labels, that of the policy first."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(policy_series.PolicySeries(host.source.told, Clock(host.place.monotonic, host.place.wall)))
    text = generate_latest(registry).decode()
    assert GREEDY not in text
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                name = sample.name.removeprefix("client_bandwidth_policy_")
                rest = (value for label, value in sorted(sample.labels.items()) if label != "policy")
                found.setdefault(name, {})[sample.labels["policy"], *rest] = sample.value
    return found


def test_what_policies_see_and_decided_is_told(host: Host) -> None:
    """Clients by state, conditions, decisions by mode, and what stood in the way."""
    host.place.write("other.yaml", OTHER)
    host.run(65)
    found = scraped(host)
    assert found["clients"]["fair", "limited"] == 1
    assert found["condition"]["fair", "Ready"] == 1
    assert found["condition"]["fair", "NotMeasuring"] == 0
    assert found["decisions_total"] == {("fair", "Limited", "Enforce"): 1, ("other", "Blocked", "Observe"): 1}
    assert found["obstacles_total"] == {("other", "OtherPolicy"): 1}


def test_the_series_of_a_policy_go_with_it(host: Host) -> None:
    """And one that comes under its name counts from the beginning."""
    host.run(65)
    (host.place.path / "policy.yaml").unlink()
    host.run(5)
    assert scraped(host) == {}
    host.place.write("policy.yaml", POLICY.replace("mode: Enforce", "mode: Observe"))
    host.run(5)
    assert "decisions_total" not in scraped(host)


def test_the_alerts_of_a_host_have_their_causes(host: Host) -> None:
    """A maximum that keeps a client from a limit, and traffic of which nothing is seen for two windows."""
    host.place.write("policy.yaml", POLICY + "  safety: {maxLimits: 1}\n")
    host.run(65)
    assert scraped(host)["condition"]["fair", "AtMaximum"] == 0
    host.traffic.greedy = (GREEDY, "203.0.113.8")
    host.run(70)
    assert scraped(host)["condition"]["fair", "AtMaximum"] == 1
    host.traffic.silent = True
    host.run(650)
    condition = scraped(host)["condition"]
    assert (condition["fair", "NotMeasuring"], condition["fair", "Ready"]) == (1, 0)
