"""Our chain as text: what is written to iptables-restore, and what is read from the listings of its versions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.linux.netfilter import iptables_text
from bandwidth_agent.kernel.objects import chain_layout
from bandwidth_api import names
from bandwidth_api.plan import PortRange

CHAIN = objects.Chain(
    (
        objects.Rule("cbl-v4", None, map_mark=True, map_priority=False),
        objects.Rule("cbl-v4-0123456789ab", PortRange("TCP", 993, 993), map_mark=True, map_priority=True),
        objects.Rule("cbl-v4-0123456789ab", PortRange("UDP", 4000, 4100), map_mark=False, map_priority=True),
    ),
    jump_first=True,
)

FIRST_PUT = """*mangle
:CBL-POSTROUTING - [0:0]
-I POSTROUTING 1 -m comment --comment "clientbandwidth.io/created:mangle" -j CBL-POSTROUTING
-A CBL-POSTROUTING -m set --match-set cbl-v4 dst -j SET --map-set cbl-v4 dst --map-mark
-A CBL-POSTROUTING -m conntrack --ctproto tcp --ctorigdstport 993 --ctdir REPLY -m set --match-set cbl-v4-0123456789ab dst -j SET --map-set cbl-v4-0123456789ab dst --map-mark --map-prio
-A CBL-POSTROUTING -m conntrack --ctproto tcp --ctorigsrcport 993 --ctdir ORIGINAL -m set --match-set cbl-v4-0123456789ab dst -j SET --map-set cbl-v4-0123456789ab dst --map-mark --map-prio
-A CBL-POSTROUTING -m conntrack --ctproto udp --ctorigdstport 4000:4100 --ctdir REPLY -m set --match-set cbl-v4-0123456789ab dst -j SET --map-set cbl-v4-0123456789ab dst --map-prio
-A CBL-POSTROUTING -m conntrack --ctproto udp --ctorigsrcport 4000:4100 --ctdir ORIGINAL -m set --match-set cbl-v4-0123456789ab dst -j SET --map-set cbl-v4-0123456789ab dst --map-prio
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
-A CBL-POSTROUTING -m conntrack --ctproto 6 --ctorigsrcport 993 --ctdir ORIGINAL -m set --match-set cbl-v4-0123456789ab dst -c 0 0 -j SET --map-set cbl-v4-0123456789ab dst --map-mark --map-prio
-A CBL-POSTROUTING -m conntrack --ctproto 17 --ctorigdstport 4000:4100 --ctdir REPLY -m set --match-set cbl-v4-0123456789ab dst -c 1 60 -j SET --map-set cbl-v4-0123456789ab dst --map-prio
-A CBL-POSTROUTING -m conntrack --ctproto 17 --ctorigsrcport 4000:4100 --ctdir ORIGINAL -m set --match-set cbl-v4-0123456789ab dst -c 2 99 -j SET --map-set cbl-v4-0123456789ab dst --map-prio
"""  # noqa: E501 - the lines are the tool's


def test_the_first_transaction_makes_chain_and_jump() -> None:
    """Golden: where nothing is yet, the chain, its rules and the jump that says what it caused."""
    assert iptables_text.put(CHAIN, iptables_text.NOTHING, ("mangle",)) == FIRST_PUT


def test_a_listing_is_read_as_the_chain_that_was_put() -> None:
    """Golden: the listing of iptables 1.8.9 gives back the chain, what found an entry and what was caused."""
    reading = iptables_text.read(LISTED)
    assert reading.chain() == CHAIN
    assert reading.packets == {"CBL-POSTROUTING": 8}
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
    assert iptables_text.read(LISTED.replace(shown, as_other_versions_show_it)).chain() == CHAIN


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
        ("--ctdir ORIGINAL -m set", "-m set"),
        ("--ctorigsrcport 993", "--ctorigsrcport 994"),
        ("--ctorigsrcport 993", "--ctorigdstport 993"),
        ("-A CBL-POSTROUTING -m set", "-A CBL-POSTROUTING -c 0 0 -j ACCEPT\n-A CBL-POSTROUTING -m set"),
    ],
)
def test_a_strange_rule_in_our_chain_reads_as_different(ours: str, strange: str) -> None:
    """What we would never write equals nothing that we would."""
    assert ours in LISTED
    assert iptables_text.read(LISTED.replace(ours, strange)).chain() != CHAIN


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
    assert reading.guard is None
    text = iptables_text.put(CHAIN, reading, reading.created)
    assert f"-D {line.removeprefix('-A ').replace(' -c 0 0', '')}\n" in text
    assert text.count("\n-D ") == 2
    assert '-I POSTROUTING 1 -m comment --comment "clientbandwidth.io/created:mangle" -j CBL-POSTROUTING\n' in text


def test_a_jump_that_is_right_is_not_written_again() -> None:
    """Its counter stays."""
    assert "POSTROUTING 1" not in iptables_text.put(CHAIN, iptables_text.read(LISTED), ("mangle",))


def test_a_foreign_rule_above_makes_the_jump_not_first() -> None:
    """First means that no rule is looked at before ours."""
    above = "-A POSTROUTING -c 0 0 -j OTHERS\n-A POSTROUTING -m comment --comment"
    assert iptables_text.read(
        LISTED.replace("-A POSTROUTING -m comment --comment", above, 1)
    ).chain() == CHAIN._replace(jump_first=False)


def test_half_of_ours_is_not_nothing() -> None:
    """A chain without a jump is something to repair."""
    assert iptables_text.read("-N CBL-POSTROUTING\n").chain() == objects.Chain((), False)
    assert iptables_text.read("-N OTHERS\n-A POSTROUTING -c 0 0 -j OTHERS\n").chain() is None


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
    lambda family, ports, mark, priority: objects.Rule(
        names.set_name(family, (ports,) if ports else ()), ports, mark, priority
    ),
    st.sampled_from([4, 6]),
    st.none() | PORTS,
    st.booleans(),
    st.booleans(),
)


@given(st.lists(RULES, max_size=25), st.sampled_from(["", "cbl-v4", "cbl-v6-ffffffffffff"]))
def test_what_is_written_is_read_as_the_same(rules: list[objects.Rule], guard: str) -> None:
    """A listing that repeats the written lines gives back every chain that can be written, in its one way to say it."""
    chain = objects.Chain(chain_layout.canonical(rules), jump_first=True, guard=guard)
    written = iptables_text.put(objects.Chain(tuple(rules), True, guard), iptables_text.NOTHING, ())
    assert iptables_text.read(listing(written)).chain() == chain


def listing(transaction: str) -> str:
    """What the tool would print when this is all that was ever written."""
    lines = []
    for line in transaction.splitlines():
        if line.startswith(":"):
            lines.append(f"-N {line[1:].partition(' ')[0]}")
        elif line.startswith(("-A", "-I")):
            rule = line.replace("-I POSTROUTING 1", "-A POSTROUTING")
            lines.append(rule.replace(" -j ", " -c 0 0 -j ").replace(" -g ", " -c 0 0 -g "))
    return "\n".join(lines)


# 32 ranges, 8 in every 8,192 ports; one table is for the first half of them, one for the second.
MANY = chain_layout.canonical(
    [
        objects.Rule(f"cbl-v4-{half:012}", PortRange("TCP", first, first + 99), map_mark=True, map_priority=False)
        for half in (1, 2)
        for first in range(1 + 16_384 * (half - 1), 16_384 * half, 1_024)
    ]
)


def test_many_ranges_are_spread_over_chains() -> None:
    """Golden: the first chain sends each protocol to a chain of its own, and that halves the ports until few rules are
    left."""
    text = iptables_text.put(objects.Chain(MANY, True, "cbl-v4-ffffffffffff"), iptables_text.NOTHING, ())
    lines = text.splitlines()
    assert lines[1:7] == [
        ":CBL-POSTROUTING - [0:0]",
        ":CBL-TCP-0-8191 - [0:0]",
        ":CBL-TCP-0-16383 - [0:0]",
        ":CBL-TCP-16384-24575 - [0:0]",
        ":CBL-TCP-0-65535 - [0:0]",
        "-I POSTROUTING 1 -m set --match-set cbl-v4-ffffffffffff dst -m comment"
        ' --comment "clientbandwidth.io" -j CBL-POSTROUTING',
    ]
    to = "-m conntrack --ctproto tcp --ctorigdstport"
    assert [line for line in lines if "-g" in line and "REPLY" in line] == [
        f"-A CBL-POSTROUTING {to} 0:65535 --ctdir REPLY -g CBL-TCP-0-65535",
        f"-A CBL-TCP-0-16383 {to} 0:8191 --ctdir REPLY -g CBL-TCP-0-8191",
        f"-A CBL-TCP-0-65535 {to} 0:16383 --ctdir REPLY -g CBL-TCP-0-16383",
        f"-A CBL-TCP-0-65535 {to} 16384:24575 --ctdir REPLY -g CBL-TCP-16384-24575",
    ]
    picked_up = "-m conntrack --ctproto tcp --ctorigsrcport"
    assert [line for line in lines if "-g" in line and "ORIGINAL" in line] == [
        f"-A CBL-POSTROUTING {picked_up} 0:32767 --ctdir ORIGINAL -g CBL-TCP-0-65535",
        f"-A CBL-TCP-0-16383 {picked_up} 0:8191 --ctdir ORIGINAL -g CBL-TCP-0-8191",
        f"-A CBL-TCP-0-65535 {picked_up} 0:16383 --ctdir ORIGINAL -g CBL-TCP-0-16383",
        f"-A CBL-TCP-0-65535 {picked_up} 16384:24575 --ctdir ORIGINAL -g CBL-TCP-16384-24575",
    ]
    assert lines.count("COMMIT") == 1
    assert sum("-j SET" in line and "REPLY" in line for line in lines) == len(MANY) == 32


def test_connections_of_this_host_are_none_of_a_service() -> None:
    """A second rule ends below the ports that the kernel dials from, and there is none for ports above."""
    rule = objects.Rule("cbl-v4", None, map_mark=True, map_priority=False)
    ports = [PortRange("TCP", 993, 993), PortRange("TCP", 30_000, 40_000), PortRange("TCP", 50_000, 50_000)]
    chain = objects.Chain(tuple(rule._replace(ports=each) for each in ports), True)
    text = iptables_text.put(chain, iptables_text.NOTHING, ())
    found = [line.split()[6:10] for line in text.splitlines() if "--ctorig" in line]
    assert [words for words in found if words[3] == "ORIGINAL"] == [
        ["--ctorigsrcport", "993", "--ctdir", "ORIGINAL"],
        ["--ctorigsrcport", "30000:32767", "--ctdir", "ORIGINAL"],
    ]
    assert iptables_text.read(listing(text)).chain() == chain


@pytest.mark.parametrize("direction", ["REPLY", "ORIGINAL"])
def test_a_line_for_ports_of_which_one_rule_is_missing_reads_as_different(direction: str) -> None:
    """As what an earlier agent wrote, which had the first one only; one transaction puts it right."""
    half = "".join(line for line in LISTED.splitlines(keepends=True) if f"--ctdir {direction}" not in line)
    reading = iptables_text.read(half)
    assert reading.chain() != CHAIN
    assert iptables_text.put(CHAIN, reading, reading.created).count("--ctdir") == 4


def test_only_chains_that_differ_are_written() -> None:
    """Another range is written to its chain; the others keep their rules and counters, and what is empty goes."""
    whole = objects.Chain(MANY, True, "cbl-v4-ffffffffffff")
    reading = iptables_text.read(listing(iptables_text.put(whole, iptables_text.NOTHING, ())))
    assert iptables_text.put(whole, reading, ()) == "*mangle\nCOMMIT\n"
    more = objects.Chain(
        chain_layout.canonical([*MANY, MANY[0]._replace(ports=PortRange("TCP", 20_500, 20_500))]), True, whole.guard
    )
    text = iptables_text.put(more, reading, ())
    assert [line for line in text.splitlines() if line.startswith(":")] == [
        ":CBL-TCP-16384-20479 - [0:0]",
        ":CBL-TCP-16384-24575 - [0:0]",
    ]
    fewer = objects.Chain(MANY[:8], True, whole.guard)
    assert [line for line in iptables_text.put(fewer, reading, ()).splitlines() if line[0] in ":"] == [
        ":CBL-POSTROUTING - [0:0]"
    ]
    assert iptables_text.put(fewer, reading, ()).splitlines()[-5:] == [
        "-X CBL-TCP-0-16383",
        "-X CBL-TCP-0-65535",
        "-X CBL-TCP-0-8191",
        "-X CBL-TCP-16384-24575",
        "COMMIT",
    ]


@pytest.mark.parametrize(
    ("ours", "strange"),
    [
        ("0:8191 --ctdir REPLY -c 0 0 -g CBL-TCP-0-8191", "0:8190 --ctdir REPLY -c 0 0 -g CBL-TCP-0-8191"),
        ("-c 0 0 -g CBL-TCP-0-8191", "-c 0 0 -j CBL-TCP-0-8191"),
        ("-c 0 0 -g CBL-TCP-0-8191", "-c 0 0 -g CBL-TCP-16384-24575"),
        ("-c 0 0 -g CBL-TCP-0-8191", "-c 0 0 -g OTHERS"),
        ("--ctdir REPLY -c 0 0 -g CBL-TCP-0-8191", "--ctdir REPLY -o eth0 -c 0 0 -g CBL-TCP-0-8191"),
        ("--ctdir REPLY -c 0 0 -g CBL-TCP-0-8191", "-c 0 0 -g CBL-TCP-0-8191"),
        ("-N CBL-TCP-0-8191\n", "-N CBL-TCP-0-8191\n-N CBL-UDP-0-65535\n"),
        ("-A CBL-TCP-0-8191 ", "-A CBL-TCP-0-8191 -c 0 0 -j RETURN\n-A CBL-TCP-0-8191 "),
    ],
)
def test_rules_spread_in_another_way_read_as_different(ours: str, strange: str) -> None:
    """A goto to the wrong chain, with other ports or a condition, and a chain too many, are something to repair."""
    chain = objects.Chain(MANY, True, "cbl-v4-ffffffffffff")
    text = listing(iptables_text.put(chain, iptables_text.NOTHING, ()))
    assert ours in text
    damaged = iptables_text.read(text.replace(ours, strange, 1))
    assert damaged.chain() not in (None, chain)
    repaired = iptables_text.put(chain, damaged, ())
    assert 1 <= repaired.count("\n:") + repaired.count("\n-X") <= 2


def test_all_rules_in_one_chain_read_as_the_same_rules_in_a_way_to_repair() -> None:
    """What an agent wrote that knew one chain only: every rule is known, and one transaction spreads them."""
    one_chain = "\n".join(
        f"-A CBL-POSTROUTING {line.partition(' ')[2].partition(' ')[2]}"
        for line in listing(iptables_text.put(objects.Chain(MANY, True), iptables_text.NOTHING, ())).splitlines()
        if " -j SET" in line
    )
    jump = "-A POSTROUTING -m comment --comment clientbandwidth.io -c 0 0 -j CBL-POSTROUTING"
    reading = iptables_text.read(f"-N CBL-POSTROUTING\n{jump}\n{one_chain}")
    assert reading.chain() == objects.Chain((*MANY, iptables_text.UNKNOWN_RULE), True, "")
    assert reading.packets == {"CBL-POSTROUTING": 0}
    text = iptables_text.put(objects.Chain(MANY, True, ""), reading, ())
    assert text.startswith("*mangle\n:CBL-POSTROUTING - [0:0]\n:CBL-TCP-")
    assert iptables_text.read(f"{jump}\n{listing(text)}").chain() == objects.Chain(MANY, True, "")


def test_the_removal_empties_all_chains_before_it_deletes_one() -> None:
    """They lead to one another, and a chain that is led to cannot be deleted."""
    reading = iptables_text.read(listing(iptables_text.put(objects.Chain(MANY, True), iptables_text.NOTHING, ())))
    commands = [line.split()[0] for line in iptables_text.delete(reading).splitlines()]
    assert commands == ["*mangle", "-D", *["-F"] * 5, *["-X"] * 5, "COMMIT"]


def test_a_jump_to_a_chain_behind_ours_is_found() -> None:
    """A strangers rule that leads into the middle of our chains is deleted as one that leads to the first."""
    line = "-A FORWARD -c 0 0 -j CBL-TCP-0-8191"
    text = listing(iptables_text.put(objects.Chain(MANY, True), iptables_text.NOTHING, ()))
    reading = iptables_text.read(f"{text}\n{line}")
    assert reading.guard is None
    assert "-D FORWARD -j CBL-TCP-0-8191\n" in iptables_text.put(objects.Chain(MANY, True), reading, ())
