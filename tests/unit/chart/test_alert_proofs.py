"""How each alert of the chart is proven to fire and to end; one that nobody has proven is missing here, and fails."""

from __future__ import annotations

import pathlib
import re
from typing import NamedTuple

from unit.chart.test_monitoring import alerts

TESTS = pathlib.Path(__file__).parents[2]
TIMINGS = "machine/chart/alert-timings.yaml", "machine/chart/test_alert_timings.py"


class Proof(NamedTuple):
    """Where its cause is made. Where Prometheus does not see that in a cluster, why, and what stands for it."""

    file: str
    test: str
    not_in_a_cluster: str = ""


MONITORING = "e2e/test_monitoring.py"
CAUSES = Proof(MONITORING, "test_alerts_fire_by_their_causes_and_end_with_them")

PROOFS = {
    "ClientBandwidthUplinkBusierThanUsual": Proof(MONITORING, "test_a_client_that_is_sent_much_is_seen_at_the_uplink"),
    "ClientBandwidthLimitsNotInForce": CAUSES,
    "ClientBandwidthBypassed": Proof("e2e/test_datapath.py", "test_a_limit_that_is_led_past_says_so_and_what_to_set"),
    "ClientBandwidthConflict": CAUSES,
    "ClientBandwidthDrift": CAUSES,
    "ClientBandwidthAgentDown": CAUSES,
    "ClientBandwidthAgentStuck": Proof(
        "unit/agent/reporting/test_metrics.py",
        "test_what_the_loop_did_is_told",
        "nothing that a test may do to a node keeps the agent's loop from coming round while its web server answers",
    ),
    "ClientBandwidthAgentNotReady": CAUSES,
    "ClientBandwidthCountersUnreadable": Proof(
        "unit/agent/reporting/test_metrics.py",
        "test_a_kernel_that_cannot_be_read_leaves_the_rest",
        "the image of the agent is read-only and the kernel of a node answers",
    ),
    "ClientBandwidthGuardRailsOff": CAUSES,
    "ClientBandwidthNoOperatorActing": Proof(MONITORING, "test_no_operator_acting"),
    "ClientBandwidthNodesTroubled": CAUSES,
    "ClientBandwidthNodesBehind": CAUSES,
    "ClientBandwidthWritesFail": CAUSES,
    "ClientBandwidthWatchSilent": Proof(
        "unit/operator/cache/test_watch_health.py",
        "test_our_own_writes_must_come_back",
        "it takes a proxy between operator and API server that holds back one stream of several",
    ),
    "ClientBandwidthPolicyAtMaximum": Proof(
        "unit/operator/policies/test_deciding.py",
        "test_the_maximum_is_kept_and_nobody_is_exchanged",
        "it would go on firing until the step of the policy ends, beside the causes of other alerts",
    ),
    "ClientBandwidthPolicyNotMeasuring": Proof(
        "unit/operator/policies/test_deciding.py",
        "test_a_node_that_is_silent_for_two_windows_is_told",
        "an agent that is stopped is the cause of other alerts there, and its node is silent for them too",
    ),
}


def test_every_alert_is_proven() -> None:
    """No alert without a proof, and no proof of what is no alert."""
    assert PROOFS.keys() == {str(rule["alert"]) for rule in alerts()}


def test_proofs_are_there() -> None:
    """Each is a test that exists, names its alert where Prometheus sees it, and is one of timings besides."""
    timed = "".join((TESTS / name).read_text() for name in TIMINGS)
    for alert, proof in PROOFS.items():
        text = (TESTS / proof.file).read_text()
        body = re.search(rf"^def {proof.test}\(.*?(?=^def |\Z)", text, re.MULTILINE | re.DOTALL)
        assert body is not None, proof
        assert proof.not_in_a_cluster or alert in body[0], proof
        assert alert in timed, alert
