"""Uplinks as real nodes have them: a VLAN, a bond, queues that a driver has many of."""

from __future__ import annotations

from bandwidth_lab import Host, Network

_SERVER, _CLIENT = "198.51.100.1", "198.51.100.3"
_SERVER6, _CLIENT6 = "2001:db8:5::1", "2001:db8:5::3"


def behind(network: Network, kind: str) -> tuple[Network, Host]:
    """Make `up0` of this kind (vlan, bond, mq) the default way, and return a client that is reached by it."""
    (client,) = network.clients
    server = network.server.namespace
    far = {"vlan": "eth0.7", "bond": "eth0", "mq": "up1"}[kind]
    if kind == "bond":
        server.ip(
            "link add up0 type bond mode active-backup",
            "link set eth0 down",
            "link set eth0 master up0",
            "link set eth0 up",
        )
    elif kind == "vlan":
        server.ip("link add link eth0 name up0 type vlan id 7")
        client.namespace.ip("link add link eth0 name eth0.7 type vlan id 7", "link set eth0.7 up")
    else:
        server.ip(f"link add up0 numtxqueues 2 type veth peer name up1 netns {client.namespace.name}")
        client.namespace.ip("link set up1 up")
    server.ip(
        "link set up0 up",
        f"address add {_SERVER}/24 dev up0",
        f"address add {_SERVER6}/64 dev up0 nodad",
        "route replace default via 198.51.100.2 dev up0",
    )
    client.namespace.ip(
        f"address add 198.51.100.2/24 dev {far}",
        f"address add {_CLIENT}/24 dev {far}",
        f"address add {_CLIENT6}/64 dev {far} nodad",
    )
    if kind == "mq":
        server.tc("qdisc replace dev up0 root handle 5: mq", *(f"qdisc add dev up0 parent 5:{n} fq" for n in (1, 2)))
    there = Host(client.namespace, far, _CLIENT, _CLIENT6)
    return Network(network.lab, Host(server, "up0", _SERVER, _SERVER6), (there,), None), there
