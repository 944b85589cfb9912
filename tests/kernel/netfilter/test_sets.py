"""Sets in the real kernel: each change does what it says, and the ipset program agrees."""

from __future__ import annotations

import errno
import sys

import pytest

from bandwidth_agent.kernel import objects
from bandwidth_api import names
from bandwidth_api.plan import ClassKey, PortRange
from kernel.netfilter.nodes import HOLE, Node, marking, one_set, prefix

pytestmark = pytest.mark.root

ENTRIES = {
    "203.0.113.0/24": marking(1, "wide"),
    "203.0.113.7/32": marking(0x7BFF, "narrow client=203.0.113.7/32 until=1900000000"),
    "203.0.113.8/29": HOLE,
    "198.51.100.0/24": objects.SetEntry(0x10000, 0x10000, 0x7CB10001, "both"),
    "10.0.0.0/8": objects.SetEntry(0, 0, 0x7CB17BFF, "priority only"),
}


def test_a_set_is_read_back_as_it_was_put(node: Node) -> None:
    """Marks, priorities, holes and comments come back as the values that were written, in both families."""
    wide = {f"2001:db8:{number:x}::/48": marking(number, "x" * names.COMMENT_MAX) for number in range(1, 400)}
    node.apply(one_set(4, ENTRIES), one_set(6, wide))
    assert node.observed_sets() == {
        "cbl-v4": objects.IpSet(4, {prefix(text): entry for text, entry in ENTRIES.items()}),
        "cbl-v6": objects.IpSet(6, {prefix(text): entry for text, entry in wide.items()}),
    }


def test_the_ipset_program_sees_what_restore_would_have_made(node: Node) -> None:
    """A set that we made is, line by line, what `ipset restore` makes of the text an administrator would write."""
    node.apply(one_set(4, ENTRIES))
    ours = node.out("ipset", "-s", "save").splitlines()
    node.out("ipset", "destroy", "cbl-v4")
    restored = (
        "create cbl-v4 hash:net family inet maxelem 1048576 comment skbinfo\n"
        'add cbl-v4 203.0.113.0/24 skbmark 0x00010000/0xffff0000 comment "wide"\n'
        "add cbl-v4 203.0.113.7/32 skbmark 0x7bff0000/0xffff0000 "
        'comment "narrow client=203.0.113.7/32 until=1900000000"\n'
        "add cbl-v4 203.0.113.8/29 nomatch\n"
        'add cbl-v4 198.51.100.0/24 skbmark 0x00010000/0x00010000 skbprio 7cb1:0001 comment "both"\n'
        'add cbl-v4 10.0.0.0/8 skbprio 7cb1:7bff comment "priority only"\n'
    )
    node.out("ipset", "restore", stdin=restored)
    theirs = node.out("ipset", "-s", "save").splitlines()
    assert ours[1:] == theirs[1:]
    assert ours[0].split(" bucketsize")[0] == theirs[0].split(" bucketsize")[0]


def test_put_entries_adds_and_changes_in_place(node: Node) -> None:
    """An entry that is there takes its new mark, comment or hole; the others stay."""
    node.apply(one_set(4, {"10.0.0.0/8": marking(1, "a"), "10.1.0.0/16": HOLE, "10.2.0.0/16": marking(2, "b")}))
    wanted = {prefix("10.0.0.0/8"): HOLE, prefix("10.1.0.0/16"): marking(3, "c"), prefix("10.3.0.0/16"): marking(4)}
    node.apply(objects.PutEntries("cbl-v4", 4, wanted))
    assert node.observed_sets()["cbl-v4"].entries == {**wanted, prefix("10.2.0.0/16"): marking(2, "b")}


def test_changes_are_idempotent(node: Node) -> None:
    """Putting what is there and deleting what is not changes nothing and is no failure."""
    desired = one_set(4, ENTRIES)
    entries = {prefix("203.0.113.0/24"): ENTRIES["203.0.113.0/24"]}
    absent = frozenset({prefix("192.0.2.0/24")})
    for _ in range(2):
        node.apply(desired, objects.PutEntries("cbl-v4", 4, entries), objects.DeleteEntries("cbl-v4", 4, absent))
        assert node.observed_sets() == {"cbl-v4": desired.set}
    for _ in range(2):
        node.apply(objects.DeleteSet("cbl-v4"))
        assert node.observed_sets() == {}


def test_replacing_leaves_exactly_the_new_entries(node: Node) -> None:
    """A set that is filled again has the new entries and nothing stays of the old ones or beside it."""
    node.apply(one_set(4, ENTRIES))
    replacement = objects.PutSet("cbl-v4", objects.IpSet(4, {prefix("10.9.0.0/16"): marking(9)}), replace=True)
    node.apply(replacement)
    assert node.observed_sets() == {"cbl-v4": replacement.set}
    assert node.out("ipset", "list", "-n").split() == ["cbl-v4"]


def test_replacing_what_is_not_there_makes_it(node: Node) -> None:
    """The set may have been destroyed since it was observed."""
    replacement = objects.PutSet("cbl-v4", objects.IpSet(4, {prefix("10.9.0.0/16"): marking(9)}), replace=True)
    node.apply(replacement)
    assert node.observed_sets() == {"cbl-v4": replacement.set}


@pytest.mark.parametrize(
    "create",
    [
        "hash:net family inet skbinfo comment maxelem 100",
        "hash:net family inet skbinfo maxelem 1048576",
        "hash:net family inet skbinfo comment counters maxelem 1048576",
        "hash:net family inet skbinfo comment maxelem 1048576 timeout 60",
        "hash:net family inet6 skbinfo comment maxelem 1048576",
        "hash:ip family inet skbinfo comment maxelem 1048576",
        "list:set",
        "bitmap:port range 1-100",
    ],
)
def test_a_set_of_another_make_is_unhealthy_and_replaced(node: Node, create: str) -> None:
    """What has our name but not our type or extensions is observed as such, and one change makes it right."""
    node.out("ipset", "create", "cbl-v4", *create.split())
    observed = node.observed_sets()["cbl-v4"]
    assert observed != objects.IpSet(4, {})
    desired = objects.IpSet(4, {prefix("10.0.0.0/8"): marking(1)})
    node.apply(objects.PutSet("cbl-v4", desired, replace=True))
    assert node.observed_sets() == {"cbl-v4": desired}


def test_a_set_of_another_make_that_is_in_use_is_a_failure(node: Node) -> None:
    """A stranger's rule on a set of another type keeps it; nothing is left beside."""
    node.out("ipset", "create", "cbl-v4", "hash:ip")
    node.out("iptables", "-A", "OUTPUT", "-m", "set", "--match-set", "cbl-v4", "dst")
    step = objects.PutSet("cbl-v4", objects.IpSet(4, {}), replace=True)
    outcome = node.sets(lambda sets: sets.put_set(step))
    assert outcome.failure is not None
    assert outcome.failure.message == "the set is in use"
    assert node.out("ipset", "list", "-n").split() == ["cbl-v4"]


def test_a_refused_entry_is_named_and_the_others_are_put(node: Node) -> None:
    """One impossible prefix in the middle fails alone; what stands before and behind it is in force."""
    entries = {prefix(f"10.{number}.0.0/16"): marking(number) for number in range(1, 200)}
    impossible = prefix("0.0.0.0/0")
    node.apply(one_set(4, {}))
    outcome = node.apply(objects.PutEntries("cbl-v4", 4, {**entries, impossible: marking(7)}))[0]
    assert {each: failure.errno for each, failure in outcome.failed_entries.items()} == {impossible: 4104}
    assert node.observed_sets()["cbl-v4"].entries == entries
    replacing = objects.PutSet("cbl-v4", objects.IpSet(4, {**entries, impossible: marking(7)}), replace=True)
    assert set(node.apply(replacing)[0].failed_entries) == {impossible}
    assert node.observed_sets()["cbl-v4"].entries == entries


def test_entries_of_a_missing_set_fail_as_a_whole(node: Node) -> None:
    """A set that is gone is one failure, not one per entry."""
    entries = {prefix(f"10.{number}.0.0/16"): marking(1) for number in range(50)}
    for step in (
        objects.PutEntries("cbl-v4", 4, entries),
        objects.DeleteEntries("cbl-v4", 4, frozenset(entries)),
    ):
        outcome = node.namespace.call(lambda step=step: node._apply(step))  # type: ignore[misc]
        assert outcome.failure is not None
        assert outcome.failure.errno == errno.ENOENT
        assert outcome.failed_entries == {}


def test_a_set_in_use_is_not_deleted(node: Node) -> None:
    """As long as a rule looks at it the kernel keeps the set, and the outcome says so."""
    node.apply(one_set(4, ENTRIES))
    node.out("iptables", "-A", "OUTPUT", "-m", "set", "--match-set", "cbl-v4", "dst")
    outcome = node.sets(lambda sets: sets.delete_set(objects.DeleteSet("cbl-v4")))
    assert outcome.failure is not None
    assert set(node.observed_sets()) == {"cbl-v4"}


def test_what_others_wrote_into_our_set_reads_as_different(node: Node) -> None:
    """Entries with quotes, a queue, another mask or no extension are read without harm and equal none of ours."""
    node.apply(one_set(4, {"10.0.0.0/8": marking(1)}))
    restored = (
        'add cbl-v4 10.1.0.0/16 comment "say %22hello%22 add cbl-v4 10.9.0.0/16"\n'
        "add cbl-v4 10.2.0.0/16 skbmark 0x10000/0xffff0000 skbqueue 3\n"
        "add cbl-v4 10.3.0.0/16 skbmark 0x10000/0xffffffff\n"
        "add cbl-v4 10.4.0.0/16\n"
    )
    node.out("ipset", "restore", stdin=restored)
    entries = node.observed_sets()["cbl-v4"].entries
    assert len(entries) == 5
    assert entries[prefix("10.2.0.0/16")] != marking(1, "")
    assert entries[prefix("10.2.0.0/16")].mark < 0
    assert entries[prefix("10.3.0.0/16")] == objects.SetEntry(0x10000, 0xFFFFFFFF, 0, "")
    assert entries[prefix("10.4.0.0/16")] == objects.SetEntry(0, 0, 0, "")
    repaired = {each: marking(2, "mine") for each in entries}
    node.apply(objects.PutEntries("cbl-v4", 4, repaired))
    assert node.observed_sets()["cbl-v4"].entries == repaired


def test_sets_of_others_are_neither_seen_nor_touched(node: Node) -> None:
    """Neither names like ours nor references to ours make a set ours."""
    for name in ("cbl-vpn", "cbl-v4x", "xcbl-v4", "cbl-v4-short", "kube"):
        node.out("ipset", "create", name, "hash:net", "skbinfo", "comment")
    before = node.out("ipset", "-s", "save")
    node.apply(one_set(4, ENTRIES))
    assert set(node.observed_sets()) == {"cbl-v4"}
    assert set(node.sets(lambda sets: sets.entry_counts())) == {"cbl-v4"}
    node.apply(objects.DeleteSet("cbl-v4"))
    assert node.out("ipset", "-s", "save") == before


def test_sets_of_port_tables_are_ours(node: Node) -> None:
    """The set of a table with ports is known by its name, and so is one that was being filled."""
    name = names.set_name(4, (PortRange("TCP", 993, 993), PortRange("UDP", 1, 65535)))
    node.apply(one_set(4, ENTRIES, name), one_set(6, {}, names.set_name(6, (PortRange("TCP", 1, 2),)) + "-new"))
    assert len(node.observed_sets()) == 2


def test_a_set_is_as_large_as_its_entries_need(node: Node) -> None:
    """Thousands of small sets of limits with ports take little memory; one that is filled whole never grows on the way,
    and a small one grows when it must."""
    many = {f"10.0.{number // 256}.{number % 256}/32": marking(number) for number in range(1, 5_000)}
    name = names.set_name(4, (PortRange("TCP", 993, 993),))
    node.apply(one_set(4, ENTRIES, name), one_set(4, ENTRIES))
    assert "hashsize 64 " in node.out("ipset", "-t", "list", name)
    assert "hashsize 1024 " in node.out("ipset", "-t", "list", "cbl-v4")
    node.apply(objects.PutEntries(name, 4, one_set(4, many).set.entries))
    assert node.sets(lambda sets: sets.entry_counts())[name] == len(many) + len(ENTRIES)
    node.apply(objects.PutSet(name, one_set(4, many).set, replace=True))
    assert "hashsize 8192 " in node.out("ipset", "-t", "list", name)


def test_entry_counts_follow_the_kernel(node: Node) -> None:
    """Counts come without the entries, and a flush by another program shows in them."""
    node.apply(one_set(4, ENTRIES), one_set(6, {}))
    assert node.sets(lambda sets: sets.entry_counts()) == {"cbl-v4": 5, "cbl-v6": 0}
    node.out("ipset", "flush", "cbl-v4")
    assert node.sets(lambda sets: sets.entry_counts()) == {"cbl-v4": 0, "cbl-v6": 0}


def test_comments_name_the_limit_after_a_restart(node: Node) -> None:
    """What `names.comment` wrote is read back from the kernel as the same label."""
    key = ClassKey("a" * 253, "2001:db8:1:2:3:4:5:6/128")
    text = names.comment(key, 1_900_000_000.5)
    node.apply(one_set(6, {"2001:db8::/32": marking(1, text)}))
    (entry,) = node.observed_sets()["cbl-v6"].entries.values()
    assert names.parse_comment(entry.comment) == names.parse_comment(text)
    assert names.parse_comment(entry.comment).key.client == key.client


def test_thirty_thousand_entries_in_both_families(node: Node) -> None:
    """A large plan is put, changed and read back whole."""
    desired = {prefix(f"10.{n >> 8}.{n & 255}.0/24"): marking(n % 0x7BFF + 1, f"limit-{n}") for n in range(30_000)}
    step = objects.PutSet("cbl-v4", objects.IpSet(4, desired), replace=False)
    node.apply(step)
    assert node.observed_sets()["cbl-v4"].entries == desired
    gone = frozenset(list(desired)[::3])
    node.apply(objects.DeleteEntries("cbl-v4", 4, gone))
    assert node.observed_sets()["cbl-v4"].entries == {p: e for p, e in desired.items() if p not in gone}


KILLED = """
import os, signal, sys
from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.linux.netfilter import ipset
from bandwidth_api.plan import Prefix

step = objects.PutSet("cbl-v4", objects.IpSet(4, {
    Prefix(4, 0x0A090000, 16): objects.SetEntry(9 << 16, 0xFFFF0000, 0, "n"),
    Prefix(4, 0x0A0A0000, 16): objects.SetEntry(9 << 16, 0xFFFF0000, 0, "n")}), replace=True)
left = int(sys.argv[1])

def die(frame, event, argument):
    global left
    if event == "c_call" and getattr(argument, "__name__", "") == "send":
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.setprofile(die)
assert ipset.IpSets().put_set(step).failure is None
"""


def test_a_kill_at_any_message_leaves_the_old_set_or_the_new_one(node: Node) -> None:
    """Whatever message of a replacement was the last, a rule's set is whole, and a new process clears the rest."""
    old = one_set(4, {"10.0.0.0/8": marking(1, "o"), "10.1.0.0/16": HOLE})
    new = {prefix("10.9.0.0/16"): marking(9, "n"), prefix("10.10.0.0/16"): marking(9, "n")}
    for messages in range(20):
        node.apply(old)
        node.out("iptables", "-A", "OUTPUT", "-m", "set", "--match-set", "cbl-v4", "dst")
        done = node.namespace.run([sys.executable, "-c", KILLED, str(messages)], check=False, timeout=120)
        observed = node.observed_sets()
        assert observed["cbl-v4"].entries in (old.set.entries, new), messages
        assert set(observed) <= {"cbl-v4", "cbl-v4-new"}
        node.apply(objects.PutSet("cbl-v4", objects.IpSet(4, new), replace=True), objects.DeleteSet("cbl-v4-new"))
        assert node.observed_sets() == {"cbl-v4": objects.IpSet(4, new)}
        node.out("iptables", "-F", "OUTPUT")
        node.apply(objects.DeleteSet("cbl-v4"))
        if done.returncode == 0:
            break
    else:
        pytest.fail("a replacement of two entries needs fewer messages")
    assert messages >= 5, "the kills did not fall between the messages"
