"""What may be left of programs is told, with what takes it away; where nothing shows any, nothing is told."""

from __future__ import annotations

import dataclasses

import pytest

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.fake import fake_kernel
from bandwidth_agent.planner.placement import unseen_programs

PAIR = dataclasses.replace(model.EMPTY, pairs={0: objects.Pair(True)})
BOTH = dataclasses.replace(PAIR, programs={"eth0": objects.Program(0)})


def facts(ebpf: str = "", *elsewhere: str) -> model.Facts:
    node = fake_kernel.facts(fake_kernel.interface(), ebpf=ebpf)
    return dataclasses.replace(node, features=node.features._replace(programs_elsewhere=elsewhere))


@pytest.mark.parametrize(
    ("ebpf", "state"),
    [("", model.EMPTY), ("", PAIR), ("", BOTH), ("no directory", model.EMPTY), ("no directory", BOTH)],
)
def test_nothing_is_told_of_what_can_be_seen(ebpf: str, state: model.State) -> None:
    """With permission all is seen; without it a pair shows something, and only where no program is seen."""
    assert unseen_programs.left(facts(ebpf), state) == ""


def test_a_pair_without_permission() -> None:
    """Why it is not seen, the values of the chart, and the commands on the node."""
    told = unseen_programs.left(facts("no directory"), PAIR)
    assert "(no directory)" in told
    assert "agent.ebpf.enabled=true and agent.classifier=mark" in told
    assert told.endswith("rm -r /sys/fs/bpf/client-bandwidth; ip link delete cblv0")


@pytest.mark.parametrize(("ebpf", "state"), [("", BOTH), ("no directory", model.EMPTY)])
def test_names_in_another_directory(ebpf: str, state: model.State) -> None:
    """They are named, whether programs are permitted here or not."""
    told = unseen_programs.left(facts(ebpf, "/old/client-bandwidth/1", "/older/client-bandwidth/1"), state)
    assert told.endswith(": rm -r /old/client-bandwidth/1 /older/client-bandwidth/1")


def test_names_in_another_directory_and_a_pair_that_they_may_lead_to() -> None:
    """Both commands, in an order in which no packet is sent to a device that is gone."""
    told = unseen_programs.left(facts("no directory", "/old/client-bandwidth/1"), PAIR)
    assert told.endswith(": rm -r /old/client-bandwidth/1; ip link delete cblv0")
