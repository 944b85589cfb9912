"""What to tell about a limit that is bypassed: the numbers, what stands in the way if it shows, what helps. Pure.

Says nothing that changes from look to look, so that an unchanged finding is no news.
"""

from __future__ import annotations

from typing import NamedTuple

from bandwidth_agent.kernel import model
from bandwidth_agent.sight.truth import judge
from bandwidth_api import addresses, units
from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.plan import Prefix

# by what a sign contains: what hands pods' packets to the host's stack, where limits are
_HELP = (
    ("cilium_host", "let Cilium route through the host's stack: its Helm value bpf.hostLegacyRouting=true"),
    ("device lxc", "let Cilium route through the host's stack: its Helm value bpf.hostLegacyRouting=true"),
    ("filter cil_", "let Cilium route through the host's stack: its Helm value bpf.hostLegacyRouting=true"),
    ("bpfin.cali", "give Calico its iptables or nftables data plane: bpfEnabled=false in its FelixConfiguration"),
    ("filter cali_", "give Calico its iptables or nftables data plane: bpfEnabled=false in its FelixConfiguration"),
    ("ovn-k8s-mp0", "let OVN-Kubernetes send pods' packets through the host: gatewayConfig.routingViaHost=true"),
    ("ovs-system", "let what uses Open vSwitch hand packets to the host's stack instead of to a port of the switch"),
)
_UNKNOWN = (
    "find the program (`bpftool net`, `nft list flowtables`, `ovs-vsctl show`, `bridge link` on the node) and let it"
    " hand these packets to the host's stack"
)


class Remedy(NamedTuple):
    """What lets programs of the agent meet packets that netfilter never sees."""

    short: str = ""  # for the status of a limit, which has room for the beginning of a message; "": nothing does
    text: str = ""


NONE = Remedy()
PUT = Remedy(
    "programs are in their way now",
    "programs of this agent meet them from now on, and this goes away once packets were seen to be held",
)


def remedy(features: model.Features, state: model.State) -> Remedy:
    """Return what would help here.

    Every packet that was seen to leave by an uplink passed its way out, where such a program would be.
    """
    if state.programs:
        return NONE
    if not features.ebpf:
        way_out = "--classifier ebpf (in a cluster: agent.classifier=ebpf) meets them on the interface's way out"
        return Remedy("agent.classifier=ebpf helps", way_out)
    if "ebpf" not in features.denied:
        return NONE
    return Remedy("agent.ebpf.enabled=true helps", f"the classifier ebpf would meet them: {features.ebpf}")


def problem(finding: judge.Finding, sign: str, remedy: Remedy = NONE) -> Problem:
    """Return the problem of a limit. `sign`: what on the node shows such a datapath, "" for nothing."""
    family, network = finding.client
    client = addresses.write(Prefix(family, network, addresses.BITS[family]))
    helps = next((text for part, text in _HELP if part in sign), _UNKNOWN)
    seen = f" ({sign})" if sign else ""
    if remedy.text:
        way_out = f"another program sends them past netfilter{seen}: {remedy.text}; or {helps}"
    else:
        way_out = f"no setting of this agent reaches packets that another program sends past netfilter{seen}: {helps}"
    in_short = f" ({remedy.short})" if remedy.short else ""
    return Problem(
        Reason.BYPASSED,
        f"packets leave past the limit{in_short}: of {finding.packets} that were seen to leave by {finding.interface},"
        f" most to {client}, with {units.show_bytes(finding.left_bytes)}, {_percent(finding)} came out of the limit's"
        f" class; {way_out}; what programs with hostNetwork send is usually limited all the same",
    )


def _percent(finding: judge.Finding) -> str:
    share = 100.0 * finding.through_bytes / max(1, finding.left_bytes)
    return "nothing" if not finding.through_bytes else f"{share:.0f} %" if share >= 1.0 else "less than 1 %"
