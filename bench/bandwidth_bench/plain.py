"""The same limits without the agent: what tc, ipset and iptables do when a script feeds them.

Two designs. `one_htb`: everything that the agent programs, on one HTB root, fed in bulk: the fastest that the tools
can do. `script`: the script that people write first: one iptables rule and one class per client.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from bandwidth_agent.kernel import objects
from bandwidth_agent.planner.desired import htb_parameters
from bandwidth_api import names
from bandwidth_bench import limits
from bandwidth_lab import Namespace

MARK_SHIFT = 16
# Classic BPF: A = mark >> 16; nothing if it is 0, else the class 7cb1:A.
MARK_TO_CLASS = f"6,32 0 0 4294963220,116 0 0 16,21 2 0 0,68 0 0 {names.HTB_MAJOR << 16},22 0 0 0,6 0 0 0"
TIMEOUT_SECONDS = 300.0


def _burst_bytes(htb: objects.HtbClass) -> int:
    return htb.burst_ticks * objects.TICK_NS * htb.rate // 1_000_000_000


def htb_class(device: str, minor: int, rate_bits_per_second: int) -> str:
    """The tc command for a class with the agent's numbers, without a leaf."""
    htb = htb_parameters.enforce(rate_bits_per_second, None, 1500, frozenset())
    burst = _burst_bytes(htb)
    return (
        f"class add dev {device} parent 7cb1: classid 7cb1:{minor:x} htb rate {rate_bits_per_second}bit"
        f" burst {burst} cburst {burst} quantum {htb.quantum}"
    )


def tree(device: str, count: int, rate_bits_per_second: int, *, fq_codel: bool, leaves: bool = True) -> Iterator[str]:
    """tc commands for an HTB with `count` classes, as the agent shapes them."""
    yield f"qdisc add dev {device} root handle 7cb1: htb default 0"
    leaf = htb_parameters.leaf(rate_bits_per_second, 1500, frozenset({"fq_codel"} if fq_codel else ()))
    for minor in range(1, count + 1):
        yield htb_class(device, minor, rate_bits_per_second)
        if leaves:
            yield (
                f"qdisc add dev {device} parent 7cb1:{minor:x} handle {minor:x}: tbf rate 400gbit"
                f" burst {leaf.burst_bytes} limit {leaf.limit_bytes}"
            )
            if fq_codel:
                yield f"qdisc add dev {device} parent {minor:x}:1 handle {0x8000 | minor:x}: fq_codel"
    yield f"filter add dev {device} parent 7cb1: protocol all pref 1 bpf bytecode {MARK_TO_CLASS!r}"


def entries(addresses: Sequence[str]) -> str:
    """Input of `ipset restore`."""
    size = max(65536, len(addresses))
    lines = [f"create plain hash:net family inet skbinfo comment maxelem {size}"]
    lines += [
        f'add plain {address} skbmark {n << MARK_SHIFT:#x}/0xffff0000 comment "client-{n:05}"'
        for n, address in enumerate(addresses, 1)
    ]
    return "\n".join(lines) + "\n"


def rules(lines: Sequence[str]) -> str:
    """Input of `iptables-restore --noflush`."""
    return "\n".join(["*mangle", *lines, "COMMIT", ""])


class OneHtb:
    """Installs `one_htb` on an interface and takes it away again."""

    def __init__(self, namespace: Namespace, device: str, wanted: Sequence[limits.Limit], *, fq_codel: bool) -> None:
        self._namespace, self._device = namespace, device
        self._tc = "\n".join(tree(device, len(wanted), 5_000_000, fq_codel=fq_codel)) + "\n"
        self._ipset = entries([limit.clients[0] for limit in wanted])
        self._iptables = rules(["-A POSTROUTING -j SET --map-set plain dst --map-mark"])

    def install(self) -> float:
        """Seconds from nothing to everything in force."""
        start = time.monotonic()
        self._namespace.run(["tc", "-batch", "-"], stdin=self._tc, timeout=TIMEOUT_SECONDS)
        self._namespace.run(["ipset", "restore"], stdin=self._ipset, timeout=TIMEOUT_SECONDS)
        self._namespace.run(["iptables-restore", "--noflush"], stdin=self._iptables)
        return time.monotonic() - start

    def remove(self) -> None:
        self._namespace.run(["iptables", "-t", "mangle", "-F", "POSTROUTING"])
        self._namespace.run(["ipset", "destroy", "plain"])
        delete = ["tc", "qdisc", "del", "dev", self._device, "root"]
        self._namespace.run(delete, timeout=TIMEOUT_SECONDS)


def install_script(namespace: Namespace, device: str, wanted: Sequence[limits.Limit]) -> None:
    """The origin story's script: a MARK rule per client, a class per client, marks to classes by one filter."""
    commands = tree(device, len(wanted), 5_000_000, fq_codel=False, leaves=False)
    namespace.run(["tc", "-batch", "-"], stdin="\n".join(commands) + "\n", timeout=TIMEOUT_SECONDS)
    lines = [
        f"-A POSTROUTING -d {limit.clients[0]} -j MARK --set-mark {n << MARK_SHIFT:#x}"
        for n, limit in enumerate(wanted, 1)
    ]
    namespace.run(["iptables-restore", "--noflush"], stdin=rules(lines), timeout=TIMEOUT_SECONDS)
