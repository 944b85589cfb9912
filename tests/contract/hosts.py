"""Two hosts with the same face: one in memory, one a network namespace with the real kernel.

Each has one uplink `up0` with the default routes, and the same strangers at work on it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import queue
import socket
import struct
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from bandwidth_agent.kernel import contract, model, objects
from bandwidth_agent.kernel.fake import fake_kernel, window
from bandwidth_api import addresses, names
from bandwidth_api.plan import Prefix
from bandwidth_lab import Lab, bpffs, ebpf
from bandwidth_lab.namespaces import Namespace
from unit.agent.kernel.linux.packet import packets

T = TypeVar("T")

UPLINK = "up0"
FOR_YOU = b"for you"
PACKET_BYTES = 1_000
STRANGE_ENTRY = addresses.parse("100.64.0.0/10")
STRANGE_ROOT = model.RootQdisc("htb", 1, False)


class Host(contract.Kernel, Protocol):
    """A kernel, and what strangers do to it."""

    def flush_set(self, name: str) -> None: ...
    def change_set(self, name: str) -> None:
        """Take an entry of ours out and put one of another program's in."""

    def replace_set(self, name: str) -> None:
        """Destroy a set of ours, with the rule that names it, and make one of that name that has no marks."""

    def delete_root(self, device: str) -> None: ...
    def delete_class(self, device: str, minor: int) -> None: ...
    def set_ifb_down(self, shard: int) -> None: ...
    def set_pair_down(self, shard: int) -> None: ...
    def delete_pair(self, shard: int) -> None: ...
    def program_before_ours(self, name: str) -> None: ...
    def delete_program(self, name: str) -> None:
        """Take our program away where it is, as its name too."""

    def delete_ifb(self, shard: int) -> None: ...
    def delete_hook(self, name: str) -> None: ...
    def delete_chain(self, family: int) -> None: ...
    def rule_above_ours(self, family: int) -> None: ...
    def send(self, client: Prefix) -> None:
        """A UDP packet of our own to one client."""

    def relay(self, network: Prefix, gateway: Prefix) -> None:
        """Reach a network by another host."""

    def hand_over(self, interface: str, client: Prefix, source_port: int, count: int = 1) -> None:
        """UDP packets of `PACKET_BYTES` from the IP header on, put on an interface past netfilter, as eBPF does."""

    def add_link(self, name: str) -> None:
        """One more interface, up."""

    def remove_link(self, name: str) -> None: ...
    def bridge(self, name: str, member: str) -> None:
        """A bridge of this name, up, over an interface that is there."""

    def open_windows(self) -> int:
        """How many samplers and captures look at interfaces now, as the host itself says, counted by interface."""

    def invite_strangers(self) -> None:
        """A root qdisc, filters on both hooks, rules, a set and a table of other people's."""

    def surroundings(self) -> object:
        """Everything of other people's, and ours, as their own tools print it."""


class FakeHost(fake_kernel.FakeKernel):
    """The host in memory."""

    def __init__(self) -> None:
        super().__init__(fake_kernel.facts(fake_kernel.interface(UPLINK), ebpf=""))
        self._highest_index = self.node.interfaces[UPLINK].index

    def send(self, client: Prefix) -> None:
        size = window.LINK_BYTES + (28 if client.family == 4 else 48) + len(FOR_YOU)
        self.transmit(client.family, client.network, "UDP", 9, UPLINK, size=size)

    def hand_over(self, interface: str, client: Prefix, source_port: int, count: int = 1) -> None:
        size = window.LINK_BYTES + PACKET_BYTES
        self.transmit(
            client.family,
            client.network,
            "UDP",
            source_port,
            interface,
            packets=count,
            size=size,
            destination_port=9,
            past_rules=True,
        )

    def add_link(self, name: str) -> None:
        self.add_interface(fake_kernel.interface(name, index=self._new_index(), default_route=False))

    def remove_link(self, name: str) -> None:
        self.remove_interface(name)

    def bridge(self, name: str, member: str) -> None:
        index = self._new_index()
        self.add_interface(fake_kernel.interface(name, index=index, default_route=False, kind="bridge"))
        self.add_interface(self.node.interfaces[member]._replace(master=index))

    def open_windows(self) -> int:
        return sum(each.looks_at for each in self.windows)

    def _new_index(self) -> int:
        self._highest_index += 1
        return self._highest_index

    def relay(self, network: Prefix, gateway: Prefix) -> None:
        self.relayed[network] = gateway

    def invite_strangers(self) -> None:
        uplink = self.node.interfaces[UPLINK]
        uplink = uplink._replace(root=STRANGE_ROOT, clsact=True, foreign_egress_filters=("bpf pref 10",))
        self.node = dataclasses.replace(self.node, interfaces={UPLINK: uplink})

    def change_set(self, name: str) -> None:
        entries = dict(self.state.sets[name].entries)
        entries.pop(min(entries))
        entries[STRANGE_ENTRY] = objects.SetEntry(0, 0, 0, "")
        self.state = dataclasses.replace(self.state, sets={**self.state.sets, name: objects.IpSet(4, entries)})

    def replace_set(self, name: str) -> None:
        self.delete_chain(4)
        strange = objects.IpSet(4, {}, healthy=False)
        self.state = dataclasses.replace(self.state, sets={**self.state.sets, name: strange})

    def surroundings(self) -> object:
        return self.node, self.state


class RealHost:
    """The host that is a network namespace. All that the kernel object does, one thread does that lives in there."""

    def __init__(self, namespace: Namespace, bpf_directory: pathlib.Path) -> None:
        self._namespace = namespace
        self._bpf_directory = bpf_directory
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=namespace.call, args=(self._serve,), name="contract-host")
        self._thread.start()
        from bandwidth_agent.kernel.linux import real

        self._kernel: real.RealKernel = self._do(lambda: real.RealKernel(bpf_directory=str(bpf_directory)))
        self._windows = contextlib.ExitStack()

    def close(self) -> None:
        self._windows.close()
        self._do(self._kernel.close)
        self._jobs.put(None)
        self._thread.join()

    def facts(self) -> model.Facts:
        return self._do(self._kernel.facts)

    def observe(self, *, rules: bool = True) -> model.State:
        return self._do(lambda: self._kernel.observe(rules=rules))

    def apply_one(self, step: objects.Change) -> objects.Outcome:
        return self._do(lambda: self._kernel.apply_one(step))

    def counters(self, *, rules: bool = True) -> model.Counters:
        return self._do(lambda: self._kernel.counters(rules=rules))

    def peers(self) -> Mapping[Prefix, str]:
        return self._do(self._kernel.peers)

    def entry_counts(self) -> Mapping[str, int]:
        return self._do(self._kernel.entry_counts)

    def hook_counters(self, interfaces: Collection[str]) -> model.HookReading:
        return self._do(lambda: self._kernel.hook_counters(interfaces))

    def queues(self, devices: Collection[str], interfaces: Collection[str]) -> model.QueueReading:
        return self._do(lambda: self._kernel.queues(devices, interfaces))

    def uplink_counters(self, interfaces: Collection[str]) -> Mapping[str, model.Uplink]:
        return self._do(lambda: self._kernel.uplink_counters(interfaces))

    def send(self, client: Prefix) -> None:
        family = socket.AF_INET if client.family == 4 else socket.AF_INET6
        with self._namespace.socket(family, socket.SOCK_DGRAM) as sender:
            sender.sendto(FOR_YOU, (addresses.write(client), 9))

    def sampler(self, interfaces: Collection[str]) -> contract.Sampler:
        """As all that is opened here it is used by another thread, and closed with the host at the latest."""
        return self._windows.enter_context(contextlib.closing(self._do(lambda: self._kernel.sampler(interfaces))))

    def capture(self, interfaces: Collection[str], most: int) -> contract.Capture:
        opened = self._do(lambda: self._kernel.capture(interfaces, most))
        return self._windows.enter_context(contextlib.closing(opened))

    def hand_over(self, interface: str, client: Prefix, source_port: int, count: int = 1) -> None:
        ports = struct.pack("!HHHH", source_port, 9, 0, 0)
        family, protocol = (4, 0x0800) if client.family == 4 else (6, 0x86DD)
        header = packets.v4 if family == 4 else packets.v6
        room = PACKET_BYTES - (20 if family == 4 else 40) - len(ports)
        packet = header(addresses.write(client), packets.UDP, ports + bytes(room))
        with self._namespace.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as sender:
            for _ in range(count):
                sender.sendto(packet, (interface, protocol, 0, 0, bytes.fromhex("020000000001")))

    def add_link(self, name: str) -> None:
        self._namespace.ip(
            f"link add {name} type veth peer name far-{name}", f"link set {name} up", f"link set far-{name} up"
        )

    def remove_link(self, name: str) -> None:
        self._namespace.ip(f"link del {name}")

    def bridge(self, name: str, member: str) -> None:
        self._namespace.ip(
            f"link add {name} type bridge",
            f"link set {member} master {name}",
            f"link set {name} up",
            f"neigh add 192.0.2.254 lladdr 02:00:00:00:00:01 dev {name} nud permanent",
        )

    def open_windows(self) -> int:
        """Those of all protocols: the others see nothing that leaves."""
        lines = self._namespace.run(["cat", "/proc/net/packet"]).stdout.splitlines()[1:]
        return sum(line.split()[3] == "0003" for line in lines)

    def relay(self, network: Prefix, gateway: Prefix) -> None:
        self._namespace.ip(f"route add {addresses.write(network)} via {addresses.write(gateway)} dev {UPLINK}")

    def invite_strangers(self) -> None:
        self._namespace.tc(
            f"qdisc add dev {UPLINK} root handle 1: htb default 7",
            f"class add dev {UPLINK} parent 1: classid 1:7 htb rate 10gbit quantum 1514",
            f"qdisc add dev {UPLINK} clsact",
            f'filter add dev {UPLINK} egress protocol all pref 10 bpf bytecode "1,6 0 0 0" flowid 1:7',
            f'filter add dev {UPLINK} ingress protocol all pref 10 bpf bytecode "1,6 0 0 0" flowid 1:7',
            "qdisc add dev far0 root handle 5: tbf rate 1gbit burst 100k limit 1m",
        )
        for tool, family, address in (("iptables", "inet", "198.18.0.0/15"), ("ip6tables", "inet6", "2001:db8:9::/48")):
            self._namespace.run(["ipset", "create", f"theirs-{family}", "hash:net", "family", family])
            self._namespace.run(["ipset", "add", f"theirs-{family}", address])
            where = [tool, "-t", "mangle", "-A", "POSTROUTING"]
            self._namespace.run([*where, "-d", address, "-j", "MARK", "--set-xmark", "0x4000/0x4000"])
            self._namespace.run([*where, "-m", "set", "--match-set", f"theirs-{family}", "dst", "-j", "ACCEPT"])
        rules = "table inet theirs { chain out { type filter hook output priority 5; accept; }\n}\n"
        self._namespace.run(["nft", "-f", "-"], stdin=rules)

    def surroundings(self) -> object:
        commands = (
            ["ip", "-o", "link"],
            ["tc", "qdisc", "show"],
            ["tc", "class", "show", "dev", UPLINK],
            ["tc", "filter", "show", "dev", UPLINK, "egress"],
            ["tc", "filter", "show", "dev", UPLINK, "ingress"],
            ["ipset", "save"],
            ["nft", "list", "ruleset"],
            ["iptables-save"],
            ["ip6tables-save"],
        )
        printed = [_without_comments(self._namespace.run(command).stdout) for command in commands]
        return [*printed, bpffs.names(self._bpf_directory)]

    def flush_set(self, name: str) -> None:
        self._namespace.run(["ipset", "flush", name])

    def change_set(self, name: str) -> None:
        prefix = min(self.observe().sets[name].entries)
        self._namespace.run(["ipset", "del", name, addresses.write(prefix)])
        self._namespace.run(["ipset", "add", name, addresses.write(STRANGE_ENTRY)])

    def replace_set(self, name: str) -> None:
        self.delete_chain(4)
        self._namespace.run(["ipset", "destroy", name])
        self._namespace.run(["ipset", "create", name, "hash:net"])
        self._namespace.run(["ipset", "add", name, addresses.write(STRANGE_ENTRY)])

    def delete_root(self, device: str) -> None:
        self._namespace.tc(f"qdisc del dev {device} root")

    def delete_class(self, device: str, minor: int) -> None:
        self._namespace.tc(f"class del dev {device} classid {names.HTB_MAJOR:x}:{minor:x}")

    def set_ifb_down(self, shard: int) -> None:
        self._namespace.ip(f"link set {names.ifb(shard)} down")

    def set_pair_down(self, shard: int) -> None:
        self._namespace.ip(f"link set {names.peer(shard)} down")

    def delete_pair(self, shard: int) -> None:
        self._namespace.ip(f"link del {names.peer(shard)}")

    def program_before_ours(self, name: str) -> None:
        from bandwidth_agent.kernel.linux.bpf import system_call

        def put() -> int:
            program = system_call.load(ebpf.verdict(ebpf.NEXT), "theirs")
            try:
                return system_call.link_first(program, socket.if_nametoindex(name))
            finally:
                os.close(program)

        self._windows.callback(os.close, self._namespace.call(put))

    def delete_program(self, name: str) -> None:
        for path in self._bpf_directory.rglob("link-*"):
            path.unlink()

    def delete_ifb(self, shard: int) -> None:
        self._namespace.ip(f"link del {names.ifb(shard)}")

    def delete_hook(self, name: str) -> None:
        self._namespace.tc(f"qdisc del dev {name} clsact")

    def delete_chain(self, family: int) -> None:
        tool = _tool(family)
        self._namespace.run([tool, "-t", "mangle", "-F", "POSTROUTING"])
        self._namespace.run([tool, "-t", "mangle", "-F", names.CHAIN])
        self._namespace.run([tool, "-t", "mangle", "-X", names.CHAIN])

    def rule_above_ours(self, family: int) -> None:
        self._namespace.run([_tool(family), "-t", "mangle", "-I", "POSTROUTING", "-j", "ACCEPT"])

    def _do(self, job: Callable[[], T]) -> T:
        answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

        def run() -> None:
            try:
                answers.put((job(), None))
            except BaseException as failure:
                answers.put((None, failure))

        self._jobs.put(run)
        answer, failure = answers.get(timeout=60)
        if failure is not None:
            raise failure
        return answer  # type: ignore[return-value]

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def _tool(family: int) -> str:
    return "iptables" if family == 4 else "ip6tables"


def _without_comments(text: str) -> list[str]:
    """The lines but those that tell the time, and without counters."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return [line.split(" [")[0] if line.startswith(":") else line for line in lines]


@contextlib.contextmanager
def real_host() -> Iterator[RealHost]:
    """A namespace with a veth uplink, both default routes, and the real kernel."""
    with Lab("kc-") as lab, bpffs.mounted() as folder:
        namespace = lab.namespace("host")
        namespace.ip(
            f"link add {UPLINK} type veth peer name far0",
            "link set lo up",
            f"link set {UPLINK} up",
            "link set far0 up",
            f"addr add 192.0.2.1/24 dev {UPLINK}",
            f"addr add 2001:db8::1/64 dev {UPLINK} nodad",
            f"neigh add 192.0.2.254 lladdr 02:00:00:00:00:01 dev {UPLINK} nud permanent",
            f"neigh add 192.0.2.9 lladdr 02:00:00:00:00:01 dev {UPLINK} nud permanent",
            f"neigh add 192.0.2.77 lladdr 02:00:00:00:00:01 dev {UPLINK} nud permanent",
            f"neigh add 2001:db8::fe lladdr 02:00:00:00:00:01 dev {UPLINK} nud permanent",
            f"route add default via 192.0.2.254 dev {UPLINK}",
            f"route add ::/0 via 2001:db8::fe dev {UPLINK}",
        )
        host = RealHost(namespace, folder)
        try:
            yield host
        finally:
            host.close()


def described(state: model.State) -> dict[str, Any]:
    """A state as plain dictionaries, so that a failed comparison says where the two differ."""
    return dataclasses.asdict(state)
