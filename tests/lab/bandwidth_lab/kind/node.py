"""One machine of a kind cluster, which is a container: its addresses, commands in it, and what its kernel holds."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bandwidth_lab.kind import shell

# What a program may leave in the kernel of a node, one command a line; what is not installed prints nothing.
STATE_COMMANDS: Mapping[str, str] = {
    **{
        f"{family}-{backend}": f"{family}-{backend}-save"
        for family in ("iptables", "ip6tables")
        for backend in ("nft", "legacy")
    },
    "nft": "nft list ruleset",
    "ipset": "ipset save",
    "link": "ip -o link show",
    "qdisc": "tc qdisc show",
    "class": "for d in $(ls /sys/class/net); do echo $d; tc class show dev $d; done",
    "ingress": "for d in $(ls /sys/class/net); do echo $d; tc filter show dev $d ingress; done",
    "egress": "for d in $(ls /sys/class/net); do echo $d; tc filter show dev $d egress; done",
}
_CTR = ("ctr", "--namespace", "k8s.io")
_COUNTERS = (
    (re.compile(r"^# .*\n", re.MULTILINE), ""),
    (re.compile(r"\[\d+:\d+\]"), "[0:0]"),
    (re.compile(r"counter packets \d+ bytes \d+"), "counter"),
    (re.compile(r"^.*xtables.*warning.*\n", re.MULTILINE | re.IGNORECASE), ""),
)
# The kernel gives a device without a queue this length as soon as any qdisc, clsact too, was ever attached to it
# (net/sched/sch_api.c, qdisc_create: "Caught tx_queue_len zero misconfig"), and it is never set back.
_NO_QUEUE = re.compile(r"(qdisc noqueue .*? )qlen 1000\b")
# Sets that change with time alone are no trace of ours.
_TIMEOUTS = re.compile(r" timeout \d+")


class Node:
    """A node of a kind cluster. Its addresses are looked up each time, because a start may change them."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Node({self.name!r})"

    def run(self, *command: str, timeout: float = shell.TIMEOUT_SECONDS, check: bool = True) -> str:
        """What a command prints that runs on the node."""
        return shell.run(["docker", "exec", self.name, *command], timeout=timeout, check=check)

    def address(self, family: int) -> str:
        """The node's address on the network `kind`."""
        return container_address(self.name, family)

    def stop(self) -> None:
        shell.run(["docker", "stop", "--time", "5", self.name])

    def start(self) -> None:
        shell.run(["docker", "start", self.name])

    def kill(self, pod: str, container: str, signal: str = "SIGKILL") -> None:
        """Send a signal to the container of this name in every pod whose name begins so, without the API server.

        The kubelet starts again what has ended.
        """
        chosen = f'labels."io.kubernetes.container.name"=={container},labels."io.kubernetes.pod.name"~=^{pod}'
        known = self.run(*_CTR, "containers", "list", "-q", chosen).split()
        running = {words[0] for line in self.run(*_CTR, "tasks", "list").splitlines() if (words := line.split())}
        found = running.intersection(known)
        if not found:
            raise LookupError(f"no container {container} of a pod {pod}* runs on {self.name}")
        for identity in found:
            self.run(*_CTR, "tasks", "kill", "--signal", signal, identity)

    def kernel_state(self) -> dict[str, str]:
        """Everything of `STATE_COMMANDS` without counters: two of them are equal when nothing was left behind."""
        state = {name: self._printed(command) for name, command in STATE_COMMANDS.items()}
        for name, text in state.items():
            for pattern, replacement in _COUNTERS:
                text = pattern.sub(replacement, text)
            state[name] = _NO_QUEUE.sub(r"\1", _TIMEOUTS.sub("", text))
        return state

    def kernel_counters(self) -> str:
        """What a person wants to read after a failure: qdiscs, classes and filters with their counters, the sets."""
        return "\n".join(
            f"$ {command}\n{self._printed(command)}"
            for command in (
                "ip -d addr",
                "ip route show table all",
                "tc -s qdisc show",
                "for d in $(ls /sys/class/net); do tc -s class show dev $d; done",
                "for d in $(ls /sys/class/net); do tc -s filter show dev $d egress; done",
                "ipset list",
                "iptables-save -c -t mangle",
                "ip6tables-save -c -t mangle",
                "conntrack -L | head -200",
            )
        )

    def _printed(self, command: str) -> str:
        return self.run("sh", "-c", f"exec 2>/dev/null; PATH=$PATH:/usr/sbin:/sbin; {command}", check=False)


def container_address(name: str, family: int) -> str:
    """The address of a container on the network `kind`."""
    field = "IPAddress" if family == 4 else "GlobalIPv6Address"
    form = f'{{{{(index .NetworkSettings.Networks "kind").{field}}}}}'
    return shell.run(["docker", "inspect", "--format", form, name]).strip()
