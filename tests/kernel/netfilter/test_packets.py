"""Real packets through our chain: the mark or priority that leaves the node is the class of the right client.

The judge is nftables behind our chain, which shares no code with us: one counting rule per expected class.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import re
import socket
import threading
from collections.abc import Iterator

import pytest

from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.linux.netfilter import iptables, iptables_text
from bandwidth_agent.kernel.objects import chain_layout
from bandwidth_agent.planner.classifier import guard_set
from bandwidth_api import names
from bandwidth_api.plan import PortRange
from bandwidth_lab import Lab, Namespace
from kernel.netfilter.nodes import HOLE, MASK, SET_NAMES, Node, marking, one_set

pytestmark = pytest.mark.root

# Longest prefix match with holes: address → the class it must leave with (0: none).
LOOKUPS = {
    4: (
        {
            "203.0.113.0/24": marking(1),
            "203.0.113.128/25": marking(2),
            "203.0.113.129/32": marking(3),
            "203.0.113.64/26": HOLE,
            "203.0.113.65/32": marking(4),
        },
        {
            "203.0.113.7": 1,
            "203.0.113.200": 2,
            "203.0.113.129": 3,
            "203.0.113.66": 0,
            "203.0.113.65": 4,
            "198.51.100.1": 0,
        },
    ),
    6: (
        {
            "2001:db8:7::/48": marking(1),
            "2001:db8:7:1::/64": marking(2),
            "2001:db8:7:1::9/128": marking(0x7BFF),
            "2001:db8:7:2::/64": HOLE,
            "2001:db8:7:2::1/128": marking(4),
        },
        {
            "2001:db8:7:9::1": 1,
            "2001:db8:7:1::1": 2,
            "2001:db8:7:1::9": 0x7BFF,
            "2001:db8:7:2::2": 0,
            "2001:db8:7:2::1": 4,
            "2001:db8:8::1": 0,
        },
    ),
}


def judge(node: Node, rules: dict[str, str]) -> None:
    """Count, behind our chain, what matches each nft expression, under the name given."""
    lines = "\n".join(f'{expression} counter comment "{name}"' for name, expression in rules.items())
    node.out(
        *["nft", "-f", "-"],
        stdin=f"table inet judge {{\nchain after {{\ntype filter hook postrouting priority 300\n{lines}\n}}\n}}\n",
    )


def send(node: Node, address: str, packets: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with node.namespace.socket(family, socket.SOCK_DGRAM) as sender:
        for _ in range(packets):
            sender.sendto(b"x", (address, 9))


@pytest.mark.parametrize("backend", ["nft", "legacy"])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("classifier", ["mark", "priority"])
def test_each_destination_gets_the_class_of_its_longest_prefix(
    node: Node, backend: iptables.Backend, family: int, classifier: str
) -> None:
    """Marks and priorities follow the longest prefix, holes give nothing, and nothing else is touched."""
    node.restart(backend)
    entries, expected = LOOKUPS[family]
    by_mark = classifier == "mark"
    if not by_mark:
        entries = {
            text: entry if entry.hole else objects.SetEntry(0, 0, names.HTB_MAJOR << 16 | entry.mark >> 16, "p")
            for text, entry in entries.items()
        }
    chain = objects.Chain((objects.Rule(SET_NAMES[family], None, map_mark=by_mark, map_priority=not by_mark),), True)
    node.apply(one_set(family, entries), objects.PutChain(family, chain))
    word = "ip6" if family == 6 else "ip"
    judge(
        node,
        {
            address: f"{word} daddr {address} meta mark {number << 16:#x} udp dport 9"
            if by_mark
            else f"{word} daddr {address} meta priority {names.HTB_MAJOR if number else 0:x}:{number:x} udp dport 9"
            for address, number in expected.items()
        },
    )
    for count, address in enumerate(expected, start=1):
        send(node, address, count)
    assert [node.counted(address) for address in expected] == list(range(1, len(expected) + 1))
    found = sum(count for count, number in enumerate(expected.values(), start=1) if number)
    assert node.tables(lambda tables: tables.counters())[family] == found


def test_bits_outside_the_mask_are_left_alone(node: Node) -> None:
    """A mark that another program set before us keeps all the bits that are not ours."""
    node.apply(one_set(4, {"203.0.113.0/24": marking(5)}), objects.PutChain(4, _mark_chain(4)))
    node.out("iptables", "-t", "mangle", "-A", "OUTPUT", "-j", "MARK", "--set-xmark", "0xabcd1234")
    judge(
        node, {"marked": "ip daddr 203.0.113.1 meta mark 0x00051234", "other": "ip daddr 8.8.8.8 meta mark 0xabcd1234"}
    )
    send(node, "203.0.113.1", 3)
    send(node, "8.8.8.8", 2)
    assert (node.counted("marked"), node.counted("other")) == (3, 2)


def test_an_edit_of_the_set_acts_on_the_next_packet(node: Node) -> None:
    """No reload of rules stands between an entry and the packets."""
    node.apply(one_set(4, {"203.0.113.0/24": marking(5)}), objects.PutChain(4, _mark_chain(4)))
    judge(node, {str(number): f"ip daddr 203.0.113.1 meta mark {number << 16:#x}" for number in (0, 5, 6, 7)})
    entry = one_set(4, {"203.0.113.1/32": marking(6)}).set.entries
    send(node, "203.0.113.1", 1)
    node.apply(objects.PutEntries("cbl-v4", 4, entry))
    send(node, "203.0.113.1", 2)
    node.apply(objects.PutSet("cbl-v4", one_set(4, {"203.0.113.0/28": marking(7)}).set, replace=True))
    send(node, "203.0.113.1", 3)
    node.apply(objects.DeleteEntries("cbl-v4", 4, frozenset(one_set(4, {"203.0.113.0/28": HOLE}).set.entries)))
    send(node, "203.0.113.1", 4)
    assert [node.counted(str(number)) for number in (5, 6, 7, 0)] == [1, 2, 3, 4]


def _mark_chain(family: int) -> objects.Chain:
    return objects.Chain((objects.Rule(SET_NAMES[family], None, map_mark=True, map_priority=False),), True)


# ── ports behind a Service ─────────────────────────────────────────────────────────────────────────────────────

CLIENT = {4: "203.0.113.10", 6: "2001:db8:0:2::10"}
NODE = {4: "203.0.113.1", 6: "2001:db8:0:2::1"}
POD = {4: "10.244.0.2", 6: "fd00:244::2"}
POD_PORT = 10143
SERVICE_PORT, OTHER_SERVICE_PORT = 993, 443


class Service:
    """A client, a node and a pod behind the node's DNAT, as kube-proxy would have it."""

    def __init__(self, lab: Lab, backend: iptables.Backend) -> None:
        self.client, self.pod = lab.namespace("client"), lab.namespace("pod")
        self.node = Node(lab.namespace("node"), backend)
        lab.link(self.node.namespace, "eth0", self.client, "eth0")
        lab.link(self.node.namespace, "pod0", self.pod, "eth0")
        self.node.namespace.sysctl({"ipv4.ip_forward": 1, "ipv6.conf.all.forwarding": 1})
        self.node.namespace.ip(
            f"address add {NODE[4]}/24 dev eth0",
            f"address add {NODE[6]}/64 dev eth0 nodad",
            "address add 10.244.0.1/24 dev pod0",
            "address add fd00:244::1/64 dev pod0 nodad",
        )
        self.client.ip(
            f"address add {CLIENT[4]}/24 dev eth0",
            f"address add {CLIENT[6]}/64 dev eth0 nodad",
            f"route add default via {NODE[4]}",
            f"route add default via {NODE[6]}",
        )
        self.pod.ip(
            f"address add {POD[4]}/24 dev eth0",
            f"address add {POD[6]}/64 dev eth0 nodad",
            "route add default via 10.244.0.1",
            "route add default via fd00:244::1",
        )
        for family, target in ((4, f"{POD[4]}:{POD_PORT}"), (6, f"[{POD[6]}]:{POD_PORT}")):
            for protocol in ("tcp", "udp"):
                for port in (SERVICE_PORT, OTHER_SERVICE_PORT):
                    program = self.node.tool(family, self.node.tables(lambda tables: tables.backend))
                    rule = ["-p", protocol, "--dport", str(port), "-j", "DNAT", "--to-destination", target]
                    self.node.out(program, "-t", "nat", "-A", "PREROUTING", *rule)

    def exchange(self, family: int, kind: socket.SocketKind, address: str, port: int) -> None:
        """Dial, send a byte, have the pod echo it."""
        af = socket.AF_INET6 if family == 6 else socket.AF_INET
        with self._listener(af, kind) as listener, self.client.socket(af, kind) as client:
            for each in (listener, client):
                each.settimeout(10)
            client.connect((address, port))
            client.send(b"x")
            if kind == socket.SOCK_STREAM:
                served, _ = listener.accept()
                with served:
                    served.settimeout(10)
                    served.send(served.recv(1))
                    assert client.recv(1) == b"x"
            else:
                data, sender = listener.recvfrom(1)
                listener.sendto(data, sender)
                assert client.recv(1) == b"x"

    @contextlib.contextmanager
    def _listener(self, af: int, kind: socket.SocketKind) -> Iterator[socket.socket]:
        with self.pod.socket(af, kind) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("", POD_PORT))
            if kind == socket.SOCK_STREAM:
                listener.listen()
            yield listener


# Ports of others around those of the service, more than one chain has room for.
AROUND = tuple(PortRange(protocol, port, port + 1) for protocol in ("TCP", "UDP") for port in range(4, 4_000, 100))


@pytest.mark.parametrize("around", [(), AROUND], ids=["few ranges", "many ranges"])
@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_ports_are_those_that_the_client_dialled(
    lab: Lab, backend: iptables.Backend, around: tuple[PortRange, ...]
) -> None:
    """Replies of a limited service port leave with its class, behind a real DNAT, TCP and UDP, v4 and v6.

    Another service port of the same pod, and the pod's own port, keep the class of the table without ports; ports of
    other limits change nothing of that.
    """
    service = Service(lab, backend)
    node = service.node
    for family in (4, 6):
        ports_set = names.set_name(family, (PortRange("TCP", SERVICE_PORT, SERVICE_PORT),))
        whole = "203.0.113.0/24" if family == 4 else "2001:db8:0:2::/64"
        rules = (
            objects.Rule(SET_NAMES[family], None, map_mark=True, map_priority=False),
            objects.Rule(ports_set, PortRange("TCP", SERVICE_PORT, SERVICE_PORT), map_mark=True, map_priority=False),
            objects.Rule(ports_set, PortRange("UDP", 905, 1000), map_mark=True, map_priority=False),
            *(objects.Rule(SET_NAMES[family], ports, map_mark=True, map_priority=False) for ports in around),
        )
        guard = names.clients_set(family)
        node.apply(
            one_set(family, {whole: marking(1)}),
            one_set(family, {whole: marking(2)}, ports_set),
            one_set(family, {whole: guard_set.CLIENT}, guard),
            objects.PutChain(family, objects.Chain(chain_layout.canonical(rules), True, guard)),
        )
    judge(
        node,
        {
            f"{word} {protocol} {number}": f"oif eth0 {word} daddr {CLIENT[family]} meta l4proto {protocol} "
            f"meta mark and {MASK:#x} == {number << 16:#x}"
            for family, word in ((4, "ip"), (6, "ip6"))
            for protocol in ("tcp", "udp")
            for number in (0, 1, 2)
        },
    )
    for family, word in ((4, "ip"), (6, "ip6")):
        for kind, protocol in ((socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp")):
            counts = _counts(node, word, protocol)
            service.exchange(family, kind, NODE[family], SERVICE_PORT)
            assert _grown(counts, _counts(node, word, protocol)) == [False, False, True]
            counts = _counts(node, word, protocol)
            service.exchange(family, kind, NODE[family], OTHER_SERVICE_PORT)
            service.exchange(family, kind, POD[family], POD_PORT)
            assert _grown(counts, _counts(node, word, protocol)) == [False, True, False]


def _counts(node: Node, word: str, protocol: str) -> list[int]:
    return [node.counted(f"{word} {protocol} {number}") for number in (0, 1, 2)]


def _grown(before: list[int], after: list[int]) -> list[bool]:
    return [later > earlier for earlier, later in zip(before, after, strict=True)]


@pytest.mark.parametrize("backend", ["nft", "legacy"])
@pytest.mark.parametrize("family", [4, 6])
def test_only_who_is_in_the_guard_is_asked_about(node: Node, backend: iptables.Backend, family: int) -> None:
    """The jump looks up one set; who is not in it passes no rule of ours, who is meets the sets behind it."""
    node.restart(backend)
    whole, guard = {4: "203.0.113.0/24", 6: "2001:db8:7::/48"}[family], names.clients_set(family)
    inside, outside = {4: ("203.0.113.7", "203.0.113.200"), 6: ("2001:db8:7::7", "2001:db8:7:8::1")}[family]
    part = {4: "203.0.113.0/25", 6: "2001:db8:7::/64"}[family]
    node.apply(
        one_set(family, {whole: marking(5)}),
        one_set(family, {part: guard_set.CLIENT}, guard),
        objects.PutChain(family, _mark_chain(family)._replace(guard=guard)),
    )
    word = "ip6" if family == 6 else "ip"
    judge(
        node,
        {
            f"{address} {number}": f"{word} daddr {address} udp dport 9 meta mark {number << 16:#x}"
            for address in (inside, outside)
            for number in (0, 5)
        },
    )
    send(node, inside, 2)
    send(node, outside, 3)
    counted = {name: node.counted(name) for name in (f"{inside} 5", f"{inside} 0", f"{outside} 5", f"{outside} 0")}
    assert [*counted.values()] == [2, 0, 0, 3]


OLD_JUMP = '-A POSTROUTING -m comment --comment "clientbandwidth.io" -j CBL-POSTROUTING'


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_rules_of_one_chain_are_spread_under_traffic(lab: Lab, backend: iptables.Backend) -> None:
    """Where an older agent has all ranges in one chain: while packets flow, one put spreads them, and not one packet
    leaves without its class or is lost."""
    service = Service(lab, backend)
    node, ports_set = service.node, names.set_name(4, (PortRange("UDP", SERVICE_PORT, SERVICE_PORT),))
    whole, guard = "203.0.113.0/24", names.clients_set(4)
    rules = chain_layout.canonical(
        [objects.Rule(SET_NAMES[4], ports, map_mark=True, map_priority=False) for ports in AROUND]
        + [objects.Rule(ports_set, PortRange("UDP", SERVICE_PORT, SERVICE_PORT), map_mark=True, map_priority=False)]
    )
    node.apply(one_set(4, {whole: marking(1)}), one_set(4, {whole: marking(2)}, ports_set))
    spread = iptables_text.put(objects.Chain(rules, True), iptables_text.NOTHING, ()).splitlines()
    flat = [re.sub("^-A CBL-\\S+", f"-A {names.CHAIN}", line) for line in spread if "-j SET" in line]
    old = "\n".join(["*mangle", f":{names.CHAIN} - [0:0]", OLD_JUMP, *flat, "COMMIT", ""])
    program = node.tool(4, backend)
    node.out(f"{program}-restore", "--noflush", stdin=old)
    node.out(program, "-t", "nat", "-F", "PREROUTING")
    judge(node, {str(number): f"udp sport {SERVICE_PORT} meta mark {number << 16:#x}" for number in (0, 1, 2)})
    stop = threading.Event()
    with (
        service.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        node.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        server.bind(("", SERVICE_PORT))
        client.sendto(b"x", (NODE[4], SERVICE_PORT))
        _, dialler = server.recvfrom(1)

        def reply() -> int:
            count = 0
            while not stop.is_set():
                server.sendto(b"x", dialler)
                count += 1
            return count

        replies = pool.submit(reply)
        observed = node.observed_chains()[4]
        assert observed == objects.Chain((*rules, iptables_text.UNKNOWN_RULE), True, "")
        node.apply(one_set(4, {whole: guard_set.CLIENT}, guard), objects.PutChain(4, objects.Chain(rules, True, guard)))
        assert node.observed_chains() == {4: objects.Chain(rules, True, guard)}
        stop.set()
        sent = replies.result()
    assert sent > 0
    assert [node.counted(str(number)) for number in (0, 1, 2)] == [0, 0, sent]


def test_what_the_node_dials_itself_is_no_reply(lab: Lab) -> None:
    """A connection that the node opens to the limited client's port 993 is not traffic of the service."""
    service = Service(lab, "nft")
    ports = PortRange("TCP", SERVICE_PORT, SERVICE_PORT)
    ports_set = names.set_name(4, (ports,))
    rule = objects.Rule(ports_set, ports, map_mark=True, map_priority=False)
    service.node.apply(
        one_set(4, {"203.0.113.0/24": marking(2)}, ports_set),
        objects.PutChain(4, objects.Chain((rule,), True)),
    )
    judge(service.node, {str(n): f"ip daddr {CLIENT[4]} tcp dport 993 meta mark {n << 16:#x}" for n in (0, 2)})
    _dial(service.node.namespace, CLIENT[4], SERVICE_PORT)
    assert service.node.counted("0") > 0
    assert service.node.counted("2") == 0


def _dial(namespace: Namespace, address: str, port: int) -> None:
    with namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as dialling, contextlib.suppress(ConnectionRefusedError):
        dialling.settimeout(10)
        dialling.connect((address, port))
