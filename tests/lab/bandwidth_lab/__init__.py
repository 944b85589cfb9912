"""A laboratory for bandwidth: networks in namespaces, traffic in them, and meters. No part of the programs.

with star(clients=2) as network, TcpFlow(network.server, network.clients[0]), WireMeter(network.clients[0]) as meter:
    network.server.namespace.run(["tc", "qdisc", "show"])
    bits_per_second = meter.measure(seconds=4)
"""

from bandwidth_lab.meter import Ping, Sample, WireMeter, bits_per_second, ping, wire_bytes
from bandwidth_lab.namespaces import CommandError, Lab, Namespace, remove_stale
from bandwidth_lab.topology import Host, Network, pair, star
from bandwidth_lab.traffic import Flow, TcpFlow, UdpFlow

__all__ = [
    "CommandError",
    "Flow",
    "Host",
    "Lab",
    "Namespace",
    "Network",
    "Ping",
    "Sample",
    "TcpFlow",
    "UdpFlow",
    "WireMeter",
    "bits_per_second",
    "pair",
    "ping",
    "remove_stale",
    "star",
    "wire_bytes",
]
