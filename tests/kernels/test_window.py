"""Windows on devices that stand on other devices: VLANs, bonds, macvlans. Each packet is seen once, as it is."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

import pytest

from bandwidth_agent.kernel import traffic
from bandwidth_agent.kernel.linux.packet import capture, sampler
from bandwidth_lab.namespaces import Lab, Namespace
from kernel.packet import frames

pytestmark = [pytest.mark.root, pytest.mark.kernels]

V4, V6 = "198.51.100.7", "2001:db8:5::7"
SOURCE_PORT = 5353


@pytest.fixture
def host() -> Iterator[Namespace]:
    """A namespace with eth0 and eth1, whose other ends are in there too."""
    with Lab("kw-") as lab:
        made = lab.namespace("host")
        for name in ("eth0", "eth1"):
            made.ip(f"link add {name} type veth peer name far-{name}", f"link set far-{name} up")
        made.ip("link set eth0 up")
        yield made


def addressed(host: Namespace, device: str) -> None:
    """The clients are neighbours on this device."""
    host.ip(
        f"address add 198.51.100.1/24 dev {device}",
        f"address add 2001:db8:5::1/64 dev {device} nodad",
        f"neigh add {V4} lladdr 02:00:00:00:00:01 dev {device} nud permanent",
        f"neigh add {V6} lladdr 02:00:00:00:00:01 dev {device} nud permanent",
    )


def send(host: Namespace) -> None:
    """A datagram of 1,000 bytes to each client, by the host's own stack."""
    for family, client in ((socket.AF_INET, V4), (socket.AF_INET6, V6)):
        with host.socket(family, socket.SOCK_DGRAM) as sender:
            sender.bind(("", SOURCE_PORT))
            sender.sendto(bytes(1_000), (client, 9))


def assert_seen_once(host: Namespace, interfaces: Sequence[str], by: str) -> None:
    """Of what is sent by the stack, whichever of these are looked at: each packet, as it is, at one device."""
    with (
        frames.opened(host, lambda: capture.Capture(interfaces, 100)) as shown,
        frames.opened(host, lambda: sampler.Sampler(interfaces)) as sampled,
    ):
        send(host)
        seen = [packet for packet in shown.take() if packet.source_port == SOURCE_PORT]
        assert [(p.interface, p.family, p.protocol, p.length) for p in seen] == [
            (by, 4, traffic.UDP, 1_028),
            (by, 6, traffic.UDP, 1_048),
        ]
        assert sampled.take().keys() == {by}


@pytest.mark.parametrize("protocol", ["802.1Q", "802.1ad"])
def test_a_vlan(host: Namespace, protocol: str) -> None:
    """On the VLAN device, on the device below, and on both."""
    host.ip(f"link add link eth0 name eth0.5 type vlan proto {protocol} id 5", "link set eth0.5 up")
    addressed(host, "eth0.5")
    assert_seen_once(host, ["eth0.5"], "eth0.5")
    assert_seen_once(host, ["eth0"], "eth0")
    assert_seen_once(host, ["eth0.5", "eth0"], "eth0")


def test_a_vlan_in_a_vlan(host: Namespace) -> None:
    """Also where the one in the middle is not asked for, and without the card's help with tags."""
    host.ip(
        "link add link eth0 name outer type vlan proto 802.1ad id 7",
        "link set outer up",
        "link add link outer name inner type vlan id 9",
        "link set inner up",
    )
    addressed(host, "inner")
    for offload in ("on", "off"):
        host.run(["ethtool", "-K", "eth0", "txvlan", offload, "tx-vlan-stag-hw-insert", offload], check=False)
        assert_seen_once(host, ["inner"], "inner")
        assert_seen_once(host, ["inner", "eth0"], "eth0")
        assert_seen_once(host, ["inner", "outer", "eth0"], "eth0")


def test_a_bond(host: Namespace) -> None:
    """The bond is looked at, not its members, unless it is not asked for."""
    host.ip(
        "link add bond0 type bond mode active-backup",
        "link set eth0 down",
        "link set eth0 master bond0",
        "link set eth1 master bond0",
        "link set bond0 up",
    )
    addressed(host, "bond0")
    assert_seen_once(host, ["bond0", "eth0", "eth1"], "bond0")
    with frames.opened(host, lambda: sampler.Sampler(["eth0", "eth1"])) as sampled:
        assert sampled.take().keys() == {"eth0", "eth1"}


def test_a_macvlan(host: Namespace) -> None:
    """What leaves by it leaves by the device below."""
    host.ip("link add link eth0 name mac0 type macvlan mode bridge", "link set mac0 up")
    addressed(host, "mac0")
    assert_seen_once(host, ["mac0"], "mac0")
    assert_seen_once(host, ["mac0", "eth0"], "eth0")
