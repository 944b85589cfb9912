"""What the others pay while somebody looks: shortest packets to 100,000 addresses.

    server: spray ── netfilter ── qdisc ── [packet socket] ── veth ── client: drops what is not for it

One path beside another, each measured without and with somebody who looks, in turns: bare, and with 1,000 limits of
others. CPU time of the sender for each packet, which does not depend on who else uses the machine; the reader's own
is in the row `sight-cpu`.
"""

from __future__ import annotations

import contextlib

from bandwidth_bench import agent, limits, looking, machine, stage
from bandwidth_bench.figures import Figure, ratios
from bandwidth_lab import Network, pair

ADDRESSES, BASE = 100_000, "10.128.0.0"
PAYLOAD_BYTES = "22"  # with the headers of UDP, IPv4 and Ethernet: 64
ROUNDS = 9
ROUND_SECONDS = 0.7
LIMITS = 1_000
REACH = {"no rule, no qdisc": 0.85, f"agent with {LIMITS:,} limits": 0.88}


def measure(extent: stage.Extent) -> list[Figure]:
    """Packets per CPU second while somebody looks, over those while nobody does."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(stage.folder())
        paths = {design: path(stack) for design in REACH}
        limited = paths[f"agent with {LIMITS:,} limits"].server.namespace
        agent.once(agent.node(limited, directory, "ifb", limits.many(LIMITS)))
        rounds = {
            f"{design}|{looked}": lambda network=network, looked=looked: nanoseconds(network, looked=looked)
            for design, network in paths.items()
            for looked in (False, True)
        }
        found_by_case = stage.in_turns(rounds, extent.rounds(ROUNDS))
    found = []
    for design, low in REACH.items():
        alone, looked = found_by_case[f"{design}|False"], found_by_case[f"{design}|True"]
        case = {"path": design}
        found += [
            Figure(case, "CPU ns per packet, nobody looks", tuple(alone), ""),
            Figure(case, "one looks", tuple(looked), ""),
            Figure(case, "packets, one looks ÷ nobody", ratios(alone, looked), "", low=low),
        ]
    return found


def path(stack: contextlib.ExitStack) -> Network:
    network = stack.enter_context(pair(prefix=stage.PREFIX))
    to_all(network)
    return network


def to_all(network: Network) -> None:
    """Lead 10.128.0.0/9 and 2001:db8:10::/48 to the client, which drops it: a gateway, so no neighbour is asked for."""
    client, server = network.clients[0], network.server
    client.namespace.sysctl({"ipv4.ip_forward": 0})
    server.namespace.ip(
        f"route add 10.128.0.0/9 via {client.address4} dev {server.interface} onlink",
        f"route add 2001:db8:10::/48 via {client.address6} dev {server.interface} onlink",
    )


def nanoseconds(network: Network, *, looked: bool, seconds: float = ROUND_SECONDS) -> float:
    """CPU of the sender for each packet."""
    command = [str(machine.spray()), BASE, str(ADDRESSES), "0", PAYLOAD_BYTES, f"{seconds:g}"]
    command += [str(1 << 40), "0", "0", "-"]
    with contextlib.ExitStack() as stack:
        if looked:
            stack.enter_context(looking.Looking(network.server.namespace))
        packets, _, cpu_seconds = map(float, network.server.namespace.run(command).stdout.split())
    return cpu_seconds / packets * 1e9
