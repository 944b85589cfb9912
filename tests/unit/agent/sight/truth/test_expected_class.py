"""Which class a packet should have come from: as the rules find it, or not at all where its headers do not tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_agent.kernel import model, traffic
from bandwidth_agent.kernel.fake import tracer
from bandwidth_agent.sight.truth import expected_class
from bandwidth_api import plan
from bandwidth_api.plan import ClassKey, PortRange, Prefix
from unit.agent import worlds

CLIENT = worlds.BASES[4]
GENERAL, SERVICE = ClassKey("limit-0", ""), ClassKey("limit-1", "")  # numbers 1 and 2
NOWHERE = 1  # a destination port that no rule has


def state(*tables: plan.Table) -> model.State:
    """What two limits come to in these tables."""
    resolution = plan.Resolution(tables, {GENERAL: worlds.limit(0, 64_000), SERVICE: worlds.limit(1, 64_000)}, {})
    return SETUP.build(resolution, worlds.HELD, worlds.node())


SETUP = worlds.Setup(worlds.settings.ClassifierSetting.MARK, ("ifb", "none"))
EVERYTHING = plan.Table(4, (), {Prefix(4, CLIENT >> 3 << 3, 29): GENERAL})


def of_ports(*ports: PortRange) -> plan.Table:
    return plan.Table(4, ports, {Prefix(4, CLIENT, 32): SERVICE})


def packet(
    source: int, dialled: int = NOWHERE, *, protocol: int = traffic.TCP, address: int = CLIENT
) -> traffic.Packet:
    return traffic.Packet("eth0", 4, address, protocol, source, 1500, dialled)


@worlds.unhurried
@given(worlds.resolutions(), worlds.setups("ifb"), st.data())
def test_it_is_the_class_that_the_rules_find(
    resolution: plan.Resolution, setup: worlds.Setup, data: st.DataObject
) -> None:
    """For replies of services, of whatever limits and tables, with either classifier."""
    made = setup.build(resolution, worlds.HELD, worlds.node())
    expected, path = expected_class.Expected(made), tracer.Tracer(made)
    for family in worlds.BASES:
        address = data.draw(st.sampled_from(worlds.hosts(family)))
        for protocol, port in worlds.PROBES:
            number = {"TCP": traffic.TCP, "UDP": traffic.UDP}[protocol]
            found = expected.number(traffic.Packet("eth0", family, address, number, port, 100, NOWHERE))
            verdict = path.trace(family, address, protocol, port, "eth0")
            assert found == (verdict[1] if isinstance(verdict, tracer.ClassAddress) else None)


@pytest.mark.parametrize(
    ("seen", "number"),
    [
        pytest.param(packet(30993, 51234), 2, id="a reply of the service"),
        pytest.param(packet(443, 51234), 1, id="a reply of another service"),
        pytest.param(packet(51234, 30993), None, id="our own connection to such a port of the client"),
        pytest.param(packet(51234, 443), 1, id="our own connection to another port of the client"),
        pytest.param(packet(443, 30993), None, id="a reply to a client that dialled from such a port"),
        pytest.param(packet(-1, -1), None, id="a later fragment"),
        pytest.param(packet(-1, -1, protocol=1), 1, id="ICMP"),
        pytest.param(packet(30993, protocol=traffic.UDP), 1, id="another protocol"),
        pytest.param(packet(-1, -1, protocol=-1), None, id="extension headers that are not shown"),
        pytest.param(packet(443, -1), 1, id="the destination port is not shown, the source is a service"),
        pytest.param(packet(5000, -1), None, id="the destination port is not shown, the source may be any"),
        pytest.param(packet(-1, -1, address=CLIENT + 1), 1, id="a fragment to an address without ports"),
        pytest.param(packet(51234, 30993, address=CLIENT + 1), 1, id="our own connection to an address without ports"),
        pytest.param(packet(30993, address=CLIENT + 8), None, id="an address without a limit"),
    ],
)
def test_beside_ports_only_what_the_headers_prove(seen: traffic.Packet, number: int | None) -> None:
    """A limit for one port lies over one for the whole network, and a packet shows no direction."""
    expected = expected_class.Expected(state(EVERYTHING, of_ports(PortRange("TCP", 30993, 30993))))
    assert expected.number(seen) == number
    assert expected.number(seen) == number  # the same when it is remembered


def test_ports_that_the_kernel_gives_away_prove_nothing() -> None:
    """A source port in the ephemeral range may be that of our own connection, so such a limit is not judged by it."""
    expected = expected_class.Expected(state(EVERYTHING, of_ports(PortRange("TCP", 40000, 50000))))
    assert expected.number(packet(45000, 51234)) is None
    assert expected.number(packet(443, 51234)) == 1


def test_without_our_chain_nothing_is_expected() -> None:
    """While another program's rule is above the jump, what the packets get is not ours to say."""
    made = state(EVERYTHING)
    assert expected_class.Expected(made).number(packet(443)) == 1
    moved = {family: chain._replace(jump_first=False) for family, chain in made.chains.items()}
    lost = model.State(made.ifbs, made.trees, made.hooks, made.sets, moved)
    assert expected_class.Expected(lost).number(packet(443)) is None
    assert expected_class.Expected(model.EMPTY).number(packet(443)) is None
