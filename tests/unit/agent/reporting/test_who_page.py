"""The page of `who`: its first sentence answers, the rest shows why."""

from __future__ import annotations

import dataclasses
import json
import shlex

from bandwidth_agent.limits.directory import manifest
from bandwidth_agent.policies.makers import Maker, Step, Terms
from bandwidth_agent.reporting import who, who_json, who_page
from bandwidth_api import addresses
from bandwidth_api.crds import limit
from bandwidth_api.plan import Mode, PortRange, Sharing
from bandwidth_cli.command_line import parser
from unit import documents
from unit.agent.entries import MBIT, entry
from unit.agent.reporting import shaped
from unit.agent.reporting.asking import asked
from unit.agent.reporting.test_who import CLIENT, IMAPS, sends

NOW = 1_800_000_000.0


def page(found: who.Answer) -> list[str]:
    return who_page.page(found, NOW, colors=False).splitlines()


def cells(found: who.Answer, limit: str) -> list[str]:
    (line,) = (line for line in page(found) if line.startswith(f"{limit} "))
    return [cell for cell in line.split("  ") if cell]


def test_the_first_sentence_of_each_answer() -> None:
    """Who reads one line knows it."""
    slow = shaped.Node(entry("mail", CLIENT, rate=12 * MBIT))
    fast = shaped.Node(entry("mail", CLIENT, rate=1000 * MBIT))
    watch = shaped.Node(entry("watch", CLIENT, rate=MBIT, mode=Mode.OBSERVE))
    broken = shaped.Node(entry("mail", CLIENT))
    broken.kernel.set_ifb_down(0)
    firsts = [
        page(asked(slow, CLIENT, send=sends(slow)))[0],
        page(asked(fast, CLIENT, send=sends(fast)))[0],
        page(asked(slow, CLIENT))[0],
        page(asked(slow, CLIENT, send=sends(slow, past_rules=True)))[0],
        page(asked(slow, CLIENT, send=sends(slow, past_rules=True), per_second=10))[0],
        page(asked(watch, CLIENT, send=sends(watch)))[0],
        page(asked(broken, CLIENT))[0],
        page(asked(slow, "203.0.113.8", send=sends(slow, "203.0.113.8")))[0],
        page(asked(slow, "203.0.113.8"))[0],
        page(asked(slow, CLIENT, send=sends(slow), may_administer=False))[0],
        page(asked(slow, "203.0.113.8", may_capture=False))[0],
    ]
    assert firsts == [
        "203.0.113.7 is held at 12 Mbit/s by the limit mail: 12 Mbit/s now, as much as it may.",
        "203.0.113.7 is held at 1 Gbit/s by the limit mail: 12 Mbit/s now, less than it may, so nothing is slowed now.",
        "203.0.113.7 is held at 12 Mbit/s by the limit mail; nothing left for it in 3.0 s.",
        "The limit mail does not hold 203.0.113.7: 12 Mbit/s leave for it, and they leave past the class that should"
        " hold it at 12 Mbit/s.",
        "203.0.113.7 has the limit mail of 12 Mbit/s; 3.0 s showed too little to say whether it holds: look longer with"
        " --seconds.",
        "The limit watch only observes 203.0.113.7: 12 Mbit/s now, beside a rate of 1 Mbit/s.",
        "The limit mail names 203.0.113.7, but does not slow it: cbl0 is down, altered or gone: packets to it are lost;"
        " a running agent puts it right.",
        "No limit holds 203.0.113.8; 12 Mbit/s left for it in 3.0 s.",
        "No limit holds 203.0.113.8; nothing left for it in 3.0 s.",
        "Which limit holds 203.0.113.7 cannot be told here; 12 Mbit/s left for it in 3.0 s.",
        "No limit holds 203.0.113.8.",
    ]


def test_the_table_names_what_holds_it() -> None:
    """Limit, entry, ports, rate, what its class lets out, mode and what is left of its time."""
    node = shaped.Node(
        entry("net", "203.0.113.0/24", expires_at=NOW + 90_061),
        entry("imap", CLIENT, rate=MBIT, ports=(IMAPS, PortRange("UDP", 53, 53))),
        entry("each", "203.0.113.7", "203.0.113.8", rate=2 * MBIT, priority=1, sharing=Sharing.PER_ENTRY),
    )
    found = asked(node, "203.0.113.9", send=sends(node, "203.0.113.9"))
    assert [c.strip() for c in cells(found, "net")] == [
        *("net", "203.0.113.0/24", "all", "5 Mbit", "12.11 Mbit", "0", "0 B", "Enforce", "in 1d 1h"),
        "held, at its limit",
    ]
    assert cells(asked(node, CLIENT), "each")[0] == "each 203.0.113.7"
    without = shaped.Node(entry("net", "203.0.113.0/24"), entry("imap", CLIENT, ports=(IMAPS,)))
    found = asked(without, CLIENT)
    assert [cells(found, name)[2].strip() for name in ("net", "imap")] == ["other", "993/tcp"]
    unknown = asked(without, CLIENT, may_capture=False)
    assert [cells(unknown, name)[2].strip() for name in ("net", "imap")] == ["unknown", "unknown"]


def test_below_the_table_is_how_it_is_found() -> None:
    """What was seen by port, the way, the set entry with its mark, and the class with its device."""
    node = shaped.Node(entry("mail", CLIENT, rate=12 * MBIT))
    shown = page(asked(node, CLIENT, send=sends(node)))
    assert "seen        12 Mbit/s left for it in 3.0 s: 443/tcp 12 Mbit/s" in shown
    assert "            to all clients of mail: 12 Mbit/s left, and its class let 12.11 Mbit/s out" in shown
    assert "way         by eth0 (shaped)" in shown
    assert "found by    set cbl-v4, entry 203.0.113.7: mark 0x10000/0xffff0000, class 7cb1:1 on cbl0" in shown


def test_what_a_class_let_out_is_of_the_time_in_which_it_was_counted() -> None:
    """Counters are read before a capture and after it: on a busy host that is a good deal longer than the capture."""
    node = shaped.Node(entry("mail", CLIENT, rate=12 * MBIT))
    found = asked(node, CLIENT, send=sends(node))
    assert found.seen is not None
    slowly = dataclasses.replace(found.seen, seconds=found.seen.seconds / 2)
    shown = page(dataclasses.replace(found, seen=slowly))
    assert "            to all clients of mail: 24 Mbit/s left, and its class let 12.11 Mbit/s out" in shown


def test_the_way_of_what_is_no_client() -> None:
    """Nobody would believe that no route leads to this host itself, or to a multicast group."""
    node = shaped.Node(entry("mail", CLIENT))
    node.kernel.node = dataclasses.replace(node.kernel.node, addresses=frozenset({addresses.parse("192.0.2.1")}))
    nowhere = [dataclasses.replace(asked(node, text), ways=()) for text in ("192.0.2.1", "224.0.0.5", CLIENT)]
    assert [next(line for line in page(found) if line.startswith("way")) for found in nowhere] == [
        "way         none: what is sent to it stays on this host",
        "way         none is asked for: no client has such an address",
        "way         no route leads there: no packet leaves for it",
    ]


def test_exceptions_and_protection_are_told() -> None:
    """Why an address in a limited network has no limit, and why none may be made for it."""
    excepted = dataclasses.replace(entry("net", "203.0.113.0/24"), excepted=(addresses.parse(CLIENT),))
    node = shaped.Node(excepted)
    shown = page(asked(node, CLIENT))
    assert shown[0] == "No limit holds 203.0.113.7: the limit net excepts it; nothing left for it in 3.0 s."
    assert "excepted    203.0.113.7 is a hole in the set cbl-v4, excepted by the limit net" in shown
    node.kernel.node = dataclasses.replace(node.kernel.node, gateways=frozenset({addresses.parse("203.0.113.1")}))
    shown = page(asked(node, "203.0.113.1"))
    assert "protected   203.0.113.1: a gateway of this node; no limit may touch it" in shown


def test_the_commands_that_would_slow_it_can_be_run() -> None:
    """What is suggested is a limit that is accepted, at a third of what it takes now, and a shell reads it so."""
    node = shaped.Node()
    for text, port in ((CLIENT, None), ("2001:db8:7::/64", None), (CLIENT, IMAPS)):
        found = asked(node, text, port=port, send=sends(node, port=993))
        (_, host), (_, cluster) = who_page.suggestions(found)
        echo, written, arrow, path = shlex.split(host)
        assert (echo, arrow) == ("echo", ">")
        (document,) = manifest.read_json(written)
        assert isinstance(limit.parse(document.value), limit.Limit)
        assert path.endswith(".json")
        spec = json.loads(written)["spec"]
        assert spec["clients"] == [text]
        words = shlex.split(cluster)
        assert words[:4] == ["kubectl", "cbl", "slow", text]
        assert words[words.index("--rate") + 1] == spec["egress"]["rate"]
        if port is not None:
            assert spec["egress"]["ports"] == [{"protocol": "TCP", "port": 993}]
        typed = parser.parse(words[2:])
        assert typed.clients == [addresses.network(text)]
        assert [(p.protocol, p.first) for p in typed.ports] == ([] if port is None else [("TCP", 993)])
    (_, seen), _ = who_page.suggestions(asked(node, CLIENT, send=sends(node)))
    assert '"rate":"4Mbit"' in seen
    (_, silent), _ = who_page.suggestions(asked(node, CLIENT))
    assert '"rate":"5Mbit"' in silent


def test_nothing_is_suggested_where_a_limit_is_or_may_not_be() -> None:
    """A limited address needs no second limit; a protected one would be refused."""
    node = shaped.Node(entry("mail", CLIENT))
    assert who_page.suggestions(asked(node, CLIENT)) == ()
    assert who_page.suggestions(asked(node, "127.0.0.1")) == ()
    assert who_page.suggestions(asked(node, CLIENT, may_administer=False)) == ()


def test_many_parts_of_a_network_are_counted() -> None:
    """A wide network has a bounded page, and says how much is not on it."""
    node = shaped.Node(*(entry(f"one-{i}", f"203.0.113.{i}") for i in range(30)))
    shown = page(asked(node, "203.0.113.0/24"))
    assert len([line for line in shown if line.startswith("one-")]) == who_page.PARTS_SHOWN
    assert "… and 10 more entries for parts of it (-o json has them all)" in shown


def test_what_is_missing_and_what_is_wrong_end_the_page() -> None:
    """One line each."""
    node = shaped.Node(entry("mail", CLIENT))
    node.kernel.rule_above_ours(4)
    shown = page(asked(node, CLIENT, missing=("CAP_NET_RAW, so …",)))
    assert "missing: CAP_NET_RAW, so …" in shown
    assert [line for line in shown if line.startswith("warning: another rule comes before ours")]


def test_colours_are_for_the_answer_alone() -> None:
    """Green where it is held, red where it is not, on a terminal."""
    node = shaped.Node(entry("mail", CLIENT))
    held = who_page.page(asked(node, CLIENT, send=sends(node)), NOW, colors=True)
    assert held.startswith("\033[32m203.0.113.7 is held")
    past = who_page.page(asked(node, CLIENT, send=sends(node, past_rules=True)), NOW, colors=True)
    assert past.startswith("\033[31mThe limit mail does not hold")
    assert held.count("\033") == past.count("\033") == 2


def test_names_from_the_kernel_cannot_steer_the_terminal() -> None:
    """A comment that another program wrote is escaped."""
    node = shaped.Node(entry("mail", CLIENT))
    (name,) = node.kernel.state.sets
    ipset = node.kernel.state.sets[name]
    evil = {prefix: found._replace(comment="\033[31mevil") for prefix, found in ipset.entries.items()}
    sets = {name: dataclasses.replace(ipset, entries=evil)}
    node.kernel.state = dataclasses.replace(node.kernel.state, sets=sets)
    assert "\033" not in who_page.page(asked(node, CLIENT, send=sends(node)), NOW, colors=False)


MADE = Maker(
    policy="fair",
    client=addresses.parse(CLIENT),
    step=1,
    rate_bits_per_second=12 * MBIT,
    expires_at=NOW + 480,
    why="policy fair, step 1 of 2: more than 40 Mbit over 300 s",
    file="/var/lib/client-bandwidth/made/fair-03e9b06641.json",
    terms=Terms((Step(12 * MBIT, 600), Step(5 * MBIT, 3600)), 50, 300, 86400),
)


def test_of_a_made_limit_it_says_what_ends_it_and_what_a_pardon_is() -> None:
    """Which policy, which step, why, when it is lifted, what comes else, and which file to delete."""
    node = shaped.Node(entry("fair-03e9b06641", CLIENT, rate=12 * MBIT), entry("mail", "203.0.113.8"))
    found = dataclasses.replace(asked(node, CLIENT, send=sends(node)), makers={"fair-03e9b06641": MADE})
    lines = page(found)
    assert lines[0] == (
        "203.0.113.7 is held at 12 Mbit/s by the limit fair-03e9b06641 (made by the policy fair, step 1 of 2):"
        " 12 Mbit/s now, as much as it may."
    )
    assert [line for line in lines if line.startswith(("why", "lifted", "else", "pardon"))] == [
        "why         policy fair, step 1 of 2: more than 40 Mbit over 300 s",
        "lifted      when it gets less than 6 Mbit/s for 5m",
        "else        in 8m it ends, or if the client still presses against it becomes 5 Mbit/s for 1h",
        "pardon      rm /var/lib/client-bandwidth/made/fair-03e9b06641.json; then it is left alone for 1d",
    ]
    told = who_json.as_json(found)
    assert isinstance(told["limits"], list)
    assert told["limits"][0]["policy"]["name"] == "fair"
    documents.check("who", told)
    other = dataclasses.replace(asked(node, "203.0.113.8"), makers={"fair-03e9b06641": MADE})
    assert not [line for line in page(other) if "fair" in line]
    assert who_json.as_json(other)["limits"][0]["policy"] is None  # type: ignore[index]
