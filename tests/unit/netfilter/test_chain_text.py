"""Our chain as text: what is written to iptables-restore, and what is read from the listings of its versions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_agent.kernel import iptables_text, model
from bandwidth_api import names
from bandwidth_api.plan import PortRange

CHAIN = model.Chain(
    (
        model.Rule("cbl-v4", None, map_mark=True, map_priority=False),
        model.Rule("cbl-v4-0123456789ab", PortRange("TCP", 993, 993), map_mark=True, map_priority=True),
        model.Rule("cbl-v4-0123456789ab", PortRange("UDP", 4000, 4100), map_mark=False, map_priority=True),
    ),
    jump_first=True,
)

FIRST_PUT = """*mangle
:CBL-POSTROUTING - [0:0]
-I POSTROUTING 1 -m comment --comment "clientbandwidth.io/created:mangle" -j CBL-POSTROUTING
-A CBL-POSTROUTING -m set --match-set cbl-v4 dst -j SET --map-set cbl-v4 dst --map-mark
-A CBL-POSTROUTING -m conntrack --ctproto tcp --ctorigdstport 993 --ctdir REPLY -m set --match-set cbl-v4-0123456789ab dst -j SET --map-set cbl-v4-0123456789ab dst --map-mark --map-prio
-A CBL-POSTROUTING -m conntrack --ctproto udp --ctorigdstport 4000:4100 --ctdir REPLY -m set --match-set cbl-v4-0123456789ab dst -j SET --map-set cbl-v4-0123456789ab dst --map-prio
COMMIT
"""  # noqa: E501 - the lines are the tool's

LISTED = """-P PREROUTING ACCEPT -c 0 0
-P POSTROUTING ACCEPT -c 12 3456
-N CBL-POSTROUTING
-N OTHERS
-A PREROUTING -m comment --comment "say \\"-j CBL-POSTROUTING" -c 1 2 -j OTHERS
-A POSTROUTING -m comment --comment "clientbandwidth.io/created:mangle" -c 7 700 -j CBL-POSTROUTING
-A POSTROUTING -m comment --comment "x -c 9 9 -j CBL-POSTROUTING" -c 1 1 -j OTHERS
-A CBL-POSTROUTING -m set --match-set cbl-v4 dst -c 5 500 -j SET --map-set cbl-v4 dst --map-mark
-A CBL-POSTROUTING -m conntrack --ctproto 6 --ctorigdstport 993 --ctdir REPLY -m set --match-set cbl-v4-0123456789ab dst -c 0 0 -j SET --map-set cbl-v4-0123456789ab dst --map-mark --map-prio
-A CBL-POSTROUTING -m conntrack --ctproto 17 --ctorigdstport 4000:4100 --ctdir REPLY -m set --match-set cbl-v4-0123456789ab dst -c 1 60 -j SET --map-set cbl-v4-0123456789ab dst --map-prio
"""  # noqa: E501 - the lines are the tool's


def test_the_first_transaction_makes_chain_and_jump() -> None:
    """Golden: where nothing is yet, the chain, its rules and the jump that says what it caused."""
    assert iptables_text.put(CHAIN, iptables_text.NOTHING, ("mangle",)) == FIRST_PUT


def test_a_listing_is_read_as_the_chain_that_was_put() -> None:
    """Golden: the listing of iptables 1.8.9 gives back the chain, what found an entry and what was caused."""
    reading = iptables_text.read(LISTED)
    assert reading.chain == CHAIN
    assert reading.packets == 6
    assert reading.created == ("mangle",)
    assert reading.jumps == ('POSTROUTING -m comment --comment "clientbandwidth.io/created:mangle" -j CBL-POSTROUTING',)


@pytest.mark.parametrize(
    ("shown", "as_other_versions_show_it"),
    [
        ("--ctproto 6", "--ctproto tcp"),
        ("--ctproto 17", "--ctproto UDP"),
        ("--ctorigdstport 993 --ctdir REPLY", "--ctdir REPLY --ctorigdstport 993"),
        ("--ctorigdstport 993", "--ctorigdstport 993:993"),
        ('--comment "clientbandwidth.io/created:mangle"', "--comment clientbandwidth.io/created:mangle"),
    ],
)
def test_other_versions_of_the_tool_print_the_same_chain(shown: str, as_other_versions_show_it: str) -> None:
    """Order, names of protocols and quotes are the tool's business and no drift."""
    assert shown in LISTED
    assert iptables_text.read(LISTED.replace(shown, as_other_versions_show_it)).chain == CHAIN


@pytest.mark.parametrize(
    ("ours", "strange"),
    [
        ("dst --map-mark\n", "src --map-mark\n"),
        ("dst --map-mark\n", "dst,dst --map-mark\n"),
        ("dst --map-mark\n", "dst --map-mark --map-queue\n"),
        ("-A CBL-POSTROUTING -m set", "-A CBL-POSTROUTING -o eth0 -m set"),
        ("-A CBL-POSTROUTING -m set", "-A CBL-POSTROUTING ! -p tcp -m set"),
        ("-m set --match-set cbl-v4 dst", "-m set ! --match-set cbl-v4 dst"),
        ("-m set --match-set cbl-v4 dst", "-m set --match-set cbl-v4 src"),
        ("-m set --match-set cbl-v4 dst", "-m set --match-set theirs dst"),
        ("-m set --match-set cbl-v4 dst ", ""),
        ("-m set --match-set cbl-v4 dst", "-m set --match-set cbl-v4 dst -m socket"),
        ("-j SET --map-set cbl-v4 dst", "-j SET --add-set cbl-v4 dst"),
        ("--ctorigdstport 993", "! --ctorigdstport 993"),
        ("--ctproto 6", "--ctproto 132"),
        ("--ctdir REPLY -m set", "-m set"),
        ("-A CBL-POSTROUTING -m set", "-A CBL-POSTROUTING -c 0 0 -j ACCEPT\n-A CBL-POSTROUTING -m set"),
    ],
)
def test_a_strange_rule_in_our_chain_reads_as_different(ours: str, strange: str) -> None:
    """What we would never write equals nothing that we would."""
    assert ours in LISTED
    assert iptables_text.read(LISTED.replace(ours, strange)).chain != CHAIN


@pytest.mark.parametrize(
    "line",
    [
        "-A POSTROUTING -c 0 0 -j CBL-POSTROUTING",
        "-A OUTPUT -c 0 0 -j CBL-POSTROUTING",
        "-A FORWARD -p tcp -c 0 0 -g CBL-POSTROUTING",
        '-A POSTROUTING -m comment --comment "clientbandwidth.io" -c 0 0 -j CBL-POSTROUTING',
    ],
)
def test_a_second_jump_is_found_and_deleted_as_it_is_written(line: str) -> None:
    """Every rule that leads to our chain is deleted by its own words before ours is put first."""
    reading = iptables_text.read(LISTED + line + "\n")
    assert not reading.jump_first
    text = iptables_text.put(CHAIN, reading, reading.created)
    assert f"-D {line.removeprefix('-A ').replace(' -c 0 0', '')}\n" in text
    assert text.count("\n-D ") == 2
    assert '-I POSTROUTING 1 -m comment --comment "clientbandwidth.io/created:mangle" -j CBL-POSTROUTING\n' in text


def test_a_jump_that_is_right_is_not_written_again() -> None:
    """Its counter stays."""
    assert "POSTROUTING 1" not in iptables_text.put(CHAIN, iptables_text.read(LISTED), ("mangle",))


def test_a_foreign_rule_above_makes_the_jump_not_first() -> None:
    """First means that nobody's rule is looked at before ours."""
    above = "-A POSTROUTING -c 0 0 -j OTHERS\n-A POSTROUTING -m comment --comment"
    assert iptables_text.read(LISTED.replace("-A POSTROUTING -m comment --comment", above, 1)).chain == CHAIN._replace(
        jump_first=False
    )


def test_half_of_ours_is_not_nothing() -> None:
    """A chain without a jump, or a table that cannot be read, is something to repair."""
    assert iptables_text.read("-N CBL-POSTROUTING\n").chain == model.Chain((), False)
    assert iptables_text.read("-N OTHERS\n-A POSTROUTING -c 0 0 -j OTHERS\n").chain is None
    assert iptables_text.UNREADABLE.chain not in (None, CHAIN, model.Chain((), False))


def test_the_removal_names_only_ours() -> None:
    """Golden: jump, contents and chain, in one transaction."""
    assert iptables_text.delete(iptables_text.read(LISTED)) == (
        "*mangle\n"
        '-D POSTROUTING -m comment --comment "clientbandwidth.io/created:mangle" -j CBL-POSTROUTING\n'
        "-F CBL-POSTROUTING\n"
        "-X CBL-POSTROUTING\n"
        "COMMIT\n"
    )


PORTS = st.builds(
    lambda protocol, one, other: PortRange(protocol, min(one, other), max(one, other)),
    st.sampled_from(["TCP", "UDP"]),
    st.integers(1, 65535),
    st.integers(1, 65535),
)
RULES = st.builds(
    lambda family, ports, mark, priority: model.Rule(
        names.set_name(family, (ports,) if ports else ()), ports, mark, priority
    ),
    st.sampled_from([4, 6]),
    st.none() | PORTS,
    st.booleans(),
    st.booleans(),
)


@given(st.lists(RULES, max_size=6))
def test_what_is_written_is_read_as_the_same(rules: list[model.Rule]) -> None:
    """A listing that repeats the written lines gives back every chain that can be written."""
    chain = model.Chain(tuple(rules), jump_first=True)
    written = iptables_text.put(chain, iptables_text.NOTHING, ()).splitlines()
    listed = [f"-N {names.CHAIN}"]
    for line in written:
        if line.startswith(("-A", "-I")):
            words = line.replace("-I POSTROUTING 1", "-A POSTROUTING").replace(" -j ", " -c 0 0 -j ")
            listed.append(words)
    assert iptables_text.read("\n".join(listed)).chain == chain
