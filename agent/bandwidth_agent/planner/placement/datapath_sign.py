"""Finds what on a node shows that packets may leave past netfilter: devices and programs of eBPF datapaths, and OVS.

A sign proves nothing, and a datapath without one exists: it only says how much a limit is worth whose packets nobody
has seen yet. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from bandwidth_agent.kernel import model

_DEVICES = frozenset({"cilium_host", "bpfin.cali", "ovs-system", "ovn-k8s-mp0"})
_EBPF_DEVICES = frozenset({"cilium_host", "bpfin.cali"})  # of datapaths that are eBPF
_POD_OF_CILIUM = "lxc"  # and digits; the bridge of LXC, lxcbr0, is no veth
_FILTERS = ("cil_", "cali_")
_SHOWN_MAX = 3


def found(interfaces: Mapping[str, model.Interface], uplinks: Collection[str], *, programs_first: bool = False) -> str:
    """Return the first few signs as text for people, such as "device cilium_host"; "" without any.

    `programs_first`: programs of ours classify, and meet the packets that those signs are about which are of eBPF.
    """
    return _text(text for text, ebpf in _signs(interfaces, uplinks) if not (ebpf and programs_first))


def of_ebpf(interfaces: Mapping[str, model.Interface], uplinks: Collection[str]) -> str:
    """Return as `found` those signs that show a datapath whose packets pass the uplinks' own way out, where a program
    of ours can meet them: eBPF of traffic control. What leaves through a port of OVS may be none of an uplink's."""
    return _text(text for text, ebpf in _signs(interfaces, uplinks) if ebpf)


def _text(found: Iterable[str]) -> str:
    signs = list(dict.fromkeys(found))
    more = [f"{len(signs) - _SHOWN_MAX} more"] if len(signs) > _SHOWN_MAX else []
    return ", ".join(signs[:_SHOWN_MAX] + more)


def _signs(interfaces: Mapping[str, model.Interface], uplinks: Collection[str]) -> Iterator[tuple[str, bool]]:
    yield from ((f"device {name}", name in _EBPF_DEVICES) for name in sorted(_DEVICES & interfaces.keys()))
    pods = sorted(n for n, i in interfaces.items() if n.startswith(_POD_OF_CILIUM) and i.kind == "veth")
    if pods:
        yield f"device {pods[0]}", True
    for name in sorted(uplinks):
        interface = interfaces.get(name)
        for program in interface.programs if interface is not None else ():
            if program.place == "xdp":
                yield f"an XDP program on {name}", False
            elif program.place == "tcx":
                yield f"a TCX program on {name}", True
            elif program.name.startswith(_FILTERS):
                yield f"egress filter {program.name} on {name}", True
