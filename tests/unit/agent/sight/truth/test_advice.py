"""What is told about a limit that is bypassed."""

from __future__ import annotations

import pytest

from bandwidth_agent.kernel import model
from bandwidth_agent.sight.truth import advice, judge
from bandwidth_api import addresses
from bandwidth_api.conditions import Reason
from bandwidth_api.crds import node_state

CLIENT = addresses.parse("2001:db8::7")
FINDING = judge.Finding(1204, 75_000_000, 0, "eth0", (CLIENT.family, CLIENT.network))


def test_the_numbers_are_in_the_message() -> None:
    """How much left, where, to whom, and how little of it came out of the class."""
    problem = advice.problem(FINDING, "")
    assert problem.reason is Reason.BYPASSED
    for part in ("1204", "eth0", "2001:db8::7", "71.5 MiB", "nothing came out"):
        assert part in problem.message
    assert "less than 1 %" in advice.problem(FINDING._replace(through_bytes=5), "").message
    assert "40 %" in advice.problem(FINDING._replace(through_bytes=30_000_000), "").message


@pytest.mark.parametrize(
    ("sign", "helps"),
    [
        ("device cilium_host, device lxc0", "bpf.hostLegacyRouting=true"),
        ("egress filter cil_to_netdev on eth0", "bpf.hostLegacyRouting=true"),
        ("device lxc0", "bpf.hostLegacyRouting=true"),
        ("device bpfin.cali", "bpfEnabled=false"),
        ("egress filter cali_to_host_ep on eth0", "bpfEnabled=false"),
        ("device ovn-k8s-mp0, device ovs-system", "routingViaHost=true"),
        ("device ovs-system", "Open vSwitch"),
        ("a TCX program on eth0", "bpftool net"),
        ("", "bpftool net"),
    ],
)
def test_what_helps_depends_on_what_is_there(sign: str, helps: str) -> None:
    """The setting of the datapath that shows, or how to find the program."""
    message = advice.problem(FINDING, sign).message
    assert helps in message
    assert sign in message
    assert "no setting of this agent" in message


def test_the_value_that_helps_is_in_what_the_status_of_a_limit_has_room_for() -> None:
    """A node's report keeps the beginning of a message; the whole of it says more."""
    features = model.Features(True, True, True, ebpf="it has no place for its programs", denied=frozenset({"ebpf"}))
    allowed = features._replace(ebpf="", denied=frozenset())
    cannot = features._replace(ebpf="the kernel has no such tables", denied=frozenset())
    for known, value in ((features, "agent.ebpf.enabled=true"), (allowed, "agent.classifier=ebpf")):
        message = advice.problem(FINDING, "", advice.remedy(known, model.EMPTY)).message
        assert value in message[: node_state.MESSAGE_MAX]
        assert "eth0" in message[: node_state.MESSAGE_MAX]
    assert features.ebpf in advice.problem(FINDING, "", advice.remedy(features, model.EMPTY)).message
    assert advice.remedy(cannot, model.EMPTY) == advice.NONE
