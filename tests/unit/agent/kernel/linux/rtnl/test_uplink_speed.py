"""Whose word on its speed counts: that of devices with a wire, and of what stands on these alone."""

from __future__ import annotations

import pytest

from bandwidth_agent.kernel.linux.rtnl import links, uplink_speed


def device(index: int, name: str, kind: str = "", *, master: int = 0, lower: int = 0) -> links.Link:
    return links.Link(index, name, 1500, True, kind, "", 0, 1000, "noqueue", None, master, lower)


DEVICES = {
    each.ifindex: each
    for each in (
        device(1, "eth0"),
        device(2, "veth0", "veth"),
        device(3, "tun0", "tun"),
        device(4, "eth0.5", "vlan", lower=1),
        device(5, "veth0.5", "vlan", lower=2),
        device(6, "bond0", "bond"),
        device(7, "eth1", master=6),
        device(8, "eth2", master=6),
        device(9, "bond1", "bond"),
        device(10, "eth3", master=9),
        device(11, "veth1", "veth", master=9),
        device(12, "bond2", "bond"),
        device(13, "bond0.7", "vlan", lower=6),
        device(14, "br0", "bridge"),
        device(15, "elsewhere", "macvlan", lower=99),
        device(16, "round", "vlan", lower=16),
    )
}


@pytest.mark.parametrize("link", DEVICES.values(), ids=lambda link: link.name)
def test_a_wire_is_what_makes_a_speed(link: links.Link) -> None:
    """Physical devices, bonds of these alone and VLANs over them; no veth, tun or bridge, nor what cannot be seen."""
    expected = {"eth0", "eth0.5", "bond0", "eth1", "eth2", "eth3", "bond0.7"}
    assert uplink_speed.wired(link, DEVICES) == (link.name in expected)
