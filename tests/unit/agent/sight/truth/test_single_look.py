"""One look for who asks: what it calls bypassed, and that nothing of it stays open."""

from __future__ import annotations

import errno

import pytest

from bandwidth_agent.kernel import model
from bandwidth_agent.planner import way_out
from bandwidth_agent.planner.classifier import ownership
from bandwidth_agent.sight.truth import single_look
from bandwidth_api import addresses
from unit.agent.entries import entry
from unit.agent.reporting import shaped


def node() -> shaped.Node:
    return shaped.Node(entry("a", "203.0.113.7"), entry("b", "203.0.113.8"))


def begun(on: shaped.Node) -> single_look.SingleLook:
    state = on.kernel.observe()
    return single_look.SingleLook(on.kernel, state, way_out.shaped_in(state))


def send(on: shaped.Node, client: str, packets: int, *, past: bool) -> None:
    to = addresses.parse(client)
    on.kernel.transmit(to.family, to.network, "TCP", 443, "eth0", packets=packets, past_rules=past)


def bypassed(on: shaped.Node, look: single_look.SingleLook) -> set[str]:
    state = on.kernel.observe()
    names = ownership.limits(state)
    return {names[number] for number in look.end(state)}


@pytest.mark.parametrize(
    ("past", "through", "expected"), [(32, 0, {"a"}), (31, 0, set()), (40, 40, set()), (40, 30, {"a"})]
)
def test_a_class_is_bypassed_if_most_of_enough_bytes_did_not_come_out_of_it(
    past: int, through: int, expected: set[str]
) -> None:
    """Fewer than 32 packets prove nothing; what other limits' packets do is not held against it."""
    on = node()
    look = begun(on)
    send(on, "203.0.113.7", past, past=True)
    send(on, "203.0.113.7", through, past=False)
    send(on, "203.0.113.8", 100, past=False)
    assert bypassed(on, look) == expected
    assert not on.kernel.windows


def test_what_changed_meanwhile_is_not_judged() -> None:
    """It is not known which limits a packet met."""
    on = node()
    look = begun(on)
    send(on, "203.0.113.7", 100, past=True)
    on.want(entry("a", "203.0.113.9"))
    assert bypassed(on, look) == set()
    assert not on.kernel.windows


def test_a_look_that_cannot_be_read_is_closed() -> None:
    """And one without the permission is not begun."""
    on = node()
    look = begun(on)
    look.close()
    look.close()
    assert not on.kernel.windows
    on.kernel.window_error = errno.EPERM
    with pytest.raises(PermissionError):
        begun(on)


def test_nothing_in_the_kernel_is_nothing_bypassed() -> None:
    """Without limits there are no classes."""
    on = shaped.Node()
    look = single_look.SingleLook(on.kernel, model.EMPTY, ["eth0"])
    send(on, "203.0.113.7", 100, past=True)
    assert look.end(model.EMPTY) == frozenset()
