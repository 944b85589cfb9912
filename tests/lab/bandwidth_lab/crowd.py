"""Many small clients at one host: each has an address of its own and gets a little, by UDP, unevenly.

The background of a server's traffic: what is looked for must be found among it. Every client dials first, so what it
gets are replies. Nobody reads what arrives; the kernel drops what has no room.
"""

from __future__ import annotations

import ipaddress
import itertools
import random
import socket
from collections.abc import Sequence

from bandwidth_lab.topology import Host
from bandwidth_lab.traffic import CONNECT_SECONDS, Flow, families

RECEIVE_BYTES = 4096  # of each client's socket
FREEBIND = {4: (socket.SOL_IP, 15), 6: (socket.IPPROTO_IPV6, 78)}
SEED = 11


def addresses(network: str, count: int, *, step: int = 1) -> list[str]:
    """Return so many addresses of a network, each `step` after the one before: 1 << 64 for one of each IPv6 /64."""
    first = int(ipaddress.ip_network(network).network_address) + 1
    kind = ipaddress.IPv6Address if ":" in network else ipaddress.IPv4Address
    return [str(kind(first + number * step)) for number in range(count)]


class Crowd(Flow):
    """Datagrams of a server to many addresses of one host, which must hold them all (`Network.add_network`).

    `rate_bits_per_second` is the payload of all clients together. The n-th client gets 1 / n of what the first gets.
    """

    def __init__(
        self,
        server: Host,
        host: Host,
        clients: Sequence[str],
        *,
        rate_bits_per_second: float,
        payload_bytes: int = 600,
        port: int = 0,
    ) -> None:
        super().__init__()
        self._server, self._host, self._clients = server, host, clients
        self._rate, self._payload_bytes, self._port = rate_bits_per_second, payload_bytes, port
        self._family = 6 if ":" in clients[0] else 4

    def start(self) -> None:
        sender = self._server.namespace.socket(families(self._family), socket.SOCK_DGRAM)
        self._sockets.append(sender)
        sender.settimeout(CONNECT_SECONDS)
        sender.bind((self._server.address(self._family), self._port))
        there = sender.getsockname()[:2]
        self._host.namespace.call(lambda: self._dial(there))
        peers = [sender.recvfrom(16)[1] for _ in self._clients]
        sender.settimeout(None)
        # In the order of `clients`, not in that of arrival, so that the same client is the largest every time.
        order = {address: place for place, address in enumerate(self._clients)}
        peers.sort(key=lambda peer: order[peer[0]])
        self._spawn(lambda: self._send(sender, peers))

    def _dial(self, there: tuple[str, int]) -> None:
        for address in self._clients:
            one = socket.socket(families(self._family), socket.SOCK_DGRAM)
            self._sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            one.setsockopt(*FREEBIND[self._family], 1)  # its route makes the address ours, no interface has it
            one.bind((address, 0))
            one.sendto(b"hello", there)

    def _send(self, sender: socket.socket, peers: Sequence[tuple[str, int]]) -> None:
        chance = random.Random(SEED)
        weights = list(itertools.accumulate(1 / place for place in range(1, len(peers) + 1)))
        data = bytes(self._payload_bytes)
        while not self._stopping.is_set():
            due = self._paced(self._rate, self._payload_bytes)
            for peer in chance.choices(peers, cum_weights=weights, k=due):
                sender.sendto(data, peer)
                self.sent_bytes += len(data)
