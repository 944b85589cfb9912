"""What only the sampler and the capture in memory can do; the rest is in the contract suite."""

from __future__ import annotations

import errno

import pytest

from bandwidth_agent.kernel import objects, traffic
from bandwidth_agent.kernel.fake import fake_kernel, window
from bandwidth_api.plan import Prefix

CLIENT = 0xC0000209


def test_an_opening_can_fail() -> None:
    """With the errno that the test wants, until it wants none."""
    kernel = fake_kernel.FakeKernel()
    kernel.window_error = errno.EPERM
    with pytest.raises(PermissionError):
        kernel.sampler(["eth0"])
    with pytest.raises(PermissionError):
        kernel.capture(["eth0"], 10)
    kernel.window_error = None
    kernel.sampler(["eth0"]).close()
    assert kernel.windows == []


def test_samples_can_be_lost() -> None:
    """As many as the test says, in the stretch where it says so."""
    kernel = fake_kernel.FakeKernel()
    kernel.sampler(["eth0"])
    (sampler,) = kernel.windows
    assert isinstance(sampler, window.Sampler)
    sampler.crowd("eth0", 17)
    assert [sampler.take()["eth0"].lost for _ in range(2)] == [17, 0]


def test_what_is_dropped_does_not_leave() -> None:
    """A packet to an ifb that is gone is seen by nobody."""
    kernel = fake_kernel.FakeKernel()
    hook = objects.Hook(0xFFFF0000, None, frozenset({0}))
    kernel.apply_one(objects.PutIfb(0))
    kernel.apply_one(objects.PutHook("eth0", hook, None))
    entry = objects.SetEntry(1 << 16, 0xFFFF0000, 0, "x")
    kernel.apply_one(objects.PutSet("cbl-v4", objects.IpSet(4, {Prefix(4, CLIENT, 32): entry}), replace=False))
    kernel.apply_one(objects.PutChain(4, objects.Chain((objects.Rule("cbl-v4", None, True, False),), True)))
    capture = kernel.capture(["eth0"], 10)
    kernel.delete_ifb(0)
    assert kernel.transmit(4, CLIENT, "TCP", 443, "eth0") == "dropped"
    assert kernel.transmit(4, CLIENT, "TCP", 443, "eth0", past_rules=True) == "unshaped"
    assert capture.take() == [traffic.Packet("eth0", 4, CLIENT, traffic.TCP, 443, 1500)]
