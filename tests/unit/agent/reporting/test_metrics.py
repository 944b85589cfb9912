"""What the agent serves to Prometheus and to probes."""

from __future__ import annotations

import dataclasses
import errno
import pathlib
import re
from collections.abc import Sequence

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.policies.told import Told
from bandwidth_agent.reporting import api_health, health, metrics, policy_series
from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.plan import Sharing
from bandwidth_kube import client
from bandwidth_runtime.clock import Clock
from unit import documents
from unit.agent.entries import entry
from unit.agent.limits.directory import manifests
from unit.agent.reporting import shaped
from unit.agent.reporting.test_client_series import Scraped

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Agent:
    """A node in memory and what its agent would serve."""

    def __init__(
        self,
        *entries: shaped.PlanEntry,
        max_limits: int = 100,
        clients: Collector | None = None,
        uplink_capacity: Sequence[tuple[str, int]] = (),
        policies: Collector | None = None,
    ) -> None:
        self.clock = manifests.Clock()
        self.node = shaped.Node(*entries)
        self.health = health.Health(self.clock())
        self.cluster = api_health.ApiHealth(self.health, lambda thread, error: None, self.clock)
        self.page = metrics.Page(
            self.health,
            lambda: self.node.kernel,
            lambda: self.node.reconciler.believed,
            monotonic=self.clock,
            version="1.2.3",
            max_limits=max_limits,
            api_status=self.cluster.status,
            clients=clients,
            uplink_capacity=uplink_capacity,
            policies=policies,
        )

    def passed(self, *, failed: bool = False, repairs: dict[str, int] | None = None) -> None:
        """Tell the health what the loop would."""
        self.health.passed(self.node.report, self.clock(), complete=True, repairs=repairs or {}, kernel_failed=failed)

    def samples(self) -> Samples:
        text = self.page.text().decode()
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name.startswith(metrics.PREFIX)
        }

    def sample(self, name: str, **labels: str) -> float:
        return self.samples()[f"{metrics.PREFIX}_{name}", tuple(sorted(labels.items()))]


def test_each_limit_has_its_counters() -> None:
    """What was sent to the clients of a limit stands under its name."""
    agent = Agent(entry("mail", "203.0.113.7"), entry("scraper", "203.0.113.8", sharing=Sharing.PER_ENTRY))
    agent.node.send("203.0.113.7", packets=3)
    assert agent.sample("limit_packets_total", limit="mail", client="") == 3
    assert agent.sample("limit_bytes_total", limit="mail", client="") == 3 * 1514
    assert agent.sample("limit_packets_total", limit="scraper", client="203.0.113.8") == 0
    assert agent.sample("limit_rate_bits_per_second", limit="mail", client="") == 5_000_000
    for name in ("limit_drops_total", "limit_over_limit_total", "limit_backlog_bytes"):
        assert agent.sample(name, limit="mail", client="") == 0
    assert agent.sample("matched_packets_total", family="IPv4") == 3


def test_what_moved_between_two_scrapes_is_told_and_nothing_else_moves() -> None:
    """Text that is kept from scrape to scrape is right for every limit, wherever it stands among the others."""
    agent = Agent(*(entry(f"limit-{n}", f"203.0.113.{n}") for n in range(1, 200)), max_limits=1000)
    sent = dict.fromkeys(range(1, 200), 0)
    for moved in ((1, 64, 65), (199,), (), (128, 1)):
        for number in moved:
            agent.node.send(f"203.0.113.{number}", packets=2)
            sent[number] += 2
        found = agent.samples()
        name = f"{metrics.PREFIX}_limit_packets_total"
        assert {n: found[name, (("client", ""), ("limit", f"limit-{n}"))] for n in sent} == sent


def test_limits_that_come_and_go_are_followed() -> None:
    """The names are those of the last pass."""
    agent = Agent(entry("mail", "203.0.113.7"))
    agent.samples()
    agent.node.want(entry("other", "203.0.113.9"))
    assert {dict(labels)["limit"] for name, labels in agent.samples() if name.endswith("limit_bytes_total")} == {
        "other"
    }
    agent.node.want()
    assert not [name for name, _ in agent.samples() if name.endswith("limit_bytes_total")]


def test_beyond_the_cap_limits_are_counted_and_not_listed() -> None:
    """A scrape stays small, and says how much it leaves out."""
    agent = Agent(*(entry(f"l{number}", f"203.0.113.{number}") for number in range(1, 11)), max_limits=4)
    found = agent.samples()
    assert sum(name.endswith("limit_bytes_total") for name, _ in found) == 4
    assert found[f"{metrics.PREFIX}_limit_series_omitted", ()] == 6


def test_what_the_loop_did_is_told() -> None:
    """Passes, failures, repairs by layer, limits by state, durations, the age of the plan."""
    agent = Agent(entry("mail", "203.0.113.7"))
    assert agent.sample("ready") == 0
    agent.health.plan_changed(agent.clock())
    agent.passed(repairs={"set": 2})
    agent.clock.now += 5
    agent.passed(failed=True, repairs={"set": 3, "chain": 1})
    agent.clock.now += 5
    assert agent.sample("ready") == 1
    assert agent.sample("passes_total") == 2
    assert agent.sample("failed_passes_total") == 1
    assert agent.sample("drift_repairs_total", layer="set") == 3
    assert agent.sample("drift_repairs_total", layer="chain") == 1
    others = set(objects.LAYERS) - {"set", "chain"}
    assert {agent.sample("drift_repairs_total", layer=layer) for layer in others} == {0}
    assert agent.sample("limits", state="programmed") == 1
    assert agent.sample("limits", state="failed") == 0
    assert agent.sample("plan_age_seconds") == 10
    assert agent.sample("loop_silence_seconds") == 5
    assert agent.sample("kernel_changes_total") == 2 * agent.node.report.changes
    assert agent.sample("apply_duration_seconds_count") == 2
    assert agent.sample("apply_duration_seconds_bucket", le="+Inf") == 2
    assert agent.sample("agent_info", version="1.2.3") == 1
    assert agent.sample("classifier", classifier="mark") == 1


def test_limits_are_told_by_what_was_seen_of_their_packets() -> None:
    """Verified, bypassed, and the rest; a limit that fails for another reason is in none of them."""
    agent = Agent(*(entry(name, f"203.0.113.{number}") for number, name in enumerate("abcde", 1)))
    agent.passed()
    assert [agent.sample("checked_limits", result=word) for word in ("verified", "unverified", "bypassed")] == [0, 5, 0]
    assert agent.sample("datapath_sign") == 0
    failing = tuple(
        Problem(reason, "why", name=name) for name, reason in (("d", Reason.BYPASSED), ("e", Reason.KEPT_PREVIOUS))
    )
    agent.node.report = dataclasses.replace(
        agent.node.report,
        programmed=3,
        failed=2,
        failing=failing,
        verified=frozenset({"a", "e"}),
        bypassed=1,
        datapath_sign="device cilium_host",
    )
    agent.passed()
    assert [agent.sample("checked_limits", result=word) for word in ("verified", "unverified", "bypassed")] == [1, 2, 1]
    assert agent.sample("datapath_sign") == 1


@pytest.mark.parametrize(
    ("said", "settings", "known"),
    [
        (None, (), None),
        (10_000_000_000, (), ("link", 10_000_000_000)),
        (None, (("eth*", 500_000_000),), ("setting", 500_000_000)),
        (10_000_000_000, (("wan*", 1), ("eth0", 2_000_000_000), ("*", 3)), ("setting", 2_000_000_000)),
    ],
)
def test_an_uplink_has_the_capacity_that_somebody_knows(
    said: int | None, settings: Sequence[tuple[str, int]], known: tuple[str, int] | None
) -> None:
    """What was set counts more than what the device says; where neither is there, there is no number at all."""
    agent = Agent(entry("mail", "203.0.113.7"), uplink_capacity=settings)
    agent.passed()
    agent.node.kernel.uplinks["eth0"] = model.UplinkCounters(123_456, 0)
    if said is not None:
        agent.node.kernel.speeds["eth0"] = said
    assert agent.sample("uplink_bytes_total", interface="eth0") == 123_456
    name = f"{metrics.PREFIX}_uplink_capacity_bits_per_second"
    found = {labels: value for (metric, labels), value in agent.samples().items() if metric == name}
    expected = {} if known is None else {(("interface", "eth0"), ("source", known[0])): known[1]}
    assert found == expected


def test_before_the_first_pass_no_uplink_is_known() -> None:
    """Which interfaces count is what a pass finds out."""
    assert not [name for name, _ in Agent().samples() if "uplink" in name]


def test_a_kernel_that_cannot_be_read_leaves_the_rest() -> None:
    """The scrape that is needed most is the one while something is wrong."""
    agent = Agent(entry("mail", "203.0.113.7"))
    agent.passed()
    agent.node.kernel.read_error = errno.EINTR
    found = agent.samples()
    assert found[f"{metrics.PREFIX}_kernel_readable", ()] == 0
    assert found[f"{metrics.PREFIX}_passes_total", ()] == 1


def test_every_metric_is_documented() -> None:
    """docs/reference/metrics.md names each metric with its labels, and no other."""
    seen = Scraped()
    seen.scrape()
    seen.pass_time(3, **{"203.0.113.7": 1000})
    policies = policy_series.PolicySeries(Told, Clock(manifests.Clock(), manifests.Clock()))
    agent = Agent(
        entry("mail", "203.0.113.7"),
        clients=seen.series,
        uplink_capacity=[("eth0", 1_000_000_000)],
        policies=policies,
    )
    agent.health.plan_changed(agent.clock())
    agent.passed()
    agent.cluster.reported()
    families = text_string_to_metric_families(agent.page.text().decode())
    served = {
        # The parser takes the ending off a counter's family; the text has it.
        family.name + ("_total" if family.type == "counter" else "")
        for family in families
        if family.name.startswith(metrics.PREFIX)
    }
    text = pathlib.Path(documents.REFERENCE / "metrics.md").read_text()
    assert set(re.findall(rf"^\| `({metrics.PREFIX}_[a-z_]+)", text, re.MULTILINE)) == served


def test_the_way_to_the_api_server_is_told() -> None:
    """How long each collection has been silent, what failed and why, and when the node last reported."""
    agent = Agent(entry("mail", "203.0.113.7"))
    agent.cluster.listed("slices")
    agent.cluster.heard("slices")
    agent.cluster.reported()
    agent.clock.now += 30
    agent.cluster.heard("node")
    agent.cluster.trouble("slices", client.RefusedError(410, "Expired", "too old"))
    agent.cluster.trouble("slices", client.UnreachableError("cut"))
    agent.cluster.report_failed(client.RefusedError(429, "TooManyRequests", "later"))
    assert agent.sample("watch_silence_seconds", collection="slices") == 30
    assert agent.sample("watch_silence_seconds", collection="node") == 0
    assert agent.sample("lists_total", collection="slices") == 1
    assert agent.sample("read_failures_total", collection="slices", reason="410") == 1
    assert agent.sample("read_failures_total", collection="slices", reason="unreachable") == 1
    assert agent.sample("last_report_age_seconds") == 30
    assert agent.sample("report_failures_total", reason="429") == 1


# ── health ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_thread_that_is_stuck_is_unhealthy() -> None:
    """One that reads or reports and has not gone on for minutes; one that waits for an API server goes on."""
    vitals = health.Health(0.0)
    vitals.alive("slices", 0.0)
    vitals.alive("node", 0.0)
    vitals.turned(200.0)
    vitals.alive("node", 200.0)
    assert vitals.healthy(200.0).good
    vitals.turned(300.0)
    assert "slices" in vitals.healthy(300.0).message
    assert not vitals.healthy(300.0).good


def test_a_loop_that_does_not_turn_is_unhealthy() -> None:
    """A probe restarts what is stuck."""
    vitals = health.Health(1000.0)
    assert vitals.healthy(1000.0 + health.STUCK_AFTER_SECONDS).good
    assert not vitals.healthy(1001.0 + health.STUCK_AFTER_SECONDS).good
    vitals.turned(1100.0)
    assert vitals.healthy(1101.0).good


def test_ready_is_after_the_first_complete_pass() -> None:
    """And stays so, also when a later pass cannot see everything."""
    agent = Agent(entry("mail", "203.0.113.7"))
    assert not agent.health.ready().good
    agent.health.passed(agent.node.report, 1.0, complete=False, repairs={}, kernel_failed=False)
    assert not agent.health.ready().good
    agent.passed()
    agent.health.passed(agent.node.report, 2.0, complete=False, repairs={}, kernel_failed=True)
    assert agent.health.ready().good
