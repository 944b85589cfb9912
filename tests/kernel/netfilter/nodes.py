"""A network namespace as the netfilter tests see it: our objects inside it, and what the tools say from outside."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from typing import Any, TypeVar

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.linux.netfilter import ipset, iptables, mark_uses
from bandwidth_api.plan import Prefix
from bandwidth_lab import Namespace

T = TypeVar("T")

PREFIX = "kn-"  # of the namespaces that these tests make
SET_NAMES = {4: "cbl-v4", 6: "cbl-v6"}
PROGRAMS = {4: "iptables", 6: "ip6tables"}
MASK = 0xFFFF0000
_COMMENT_OR_COUNTER = re.compile(r"^#.*\n|\[\d+:\d+\]|packets \d+ bytes \d+|initval 0x[0-9a-f]+", re.MULTILINE)


def prefix(text: str) -> Prefix:
    """Read `address/length`."""
    address, _, length = text.partition("/")
    family = 6 if ":" in address else 4
    packed = socket.inet_pton(socket.AF_INET6 if family == 6 else socket.AF_INET, address)
    return Prefix(family, int.from_bytes(packed, "big"), int(length or len(packed) * 8))


def marking(number: int, comment: str = "limit") -> objects.SetEntry:
    """The entry of class `number` with the classifier `mark`."""
    return objects.SetEntry(number << 16, MASK, 0, comment)


HOLE = objects.SetEntry(0, 0, 0, "", hole=True)


class Node:
    """Our sets and chains in one namespace; each call runs in a thread that has moved there."""

    def __init__(self, namespace: Namespace, backend: iptables.Backend = "auto") -> None:
        self.namespace = namespace
        self._sets = ipset.IpSets()
        self._tables = iptables.IpTables(backend)
        self._mark_uses = mark_uses.MarkUses()

    def restart(self, backend: iptables.Backend = "auto") -> None:
        """Forget everything, as a new process would."""
        self._sets = ipset.IpSets()
        self._tables = iptables.IpTables(backend)
        self._mark_uses = mark_uses.MarkUses()

    def sets(self, function: Callable[[ipset.IpSets], T]) -> T:
        return self.namespace.call(lambda: function(self._sets))

    def tables(self, function: Callable[[iptables.IpTables], T]) -> T:
        return self.namespace.call(lambda: function(self._tables))

    def observed_sets(self) -> dict[str, objects.IpSet]:
        return self.sets(lambda sets: sets.observe())

    def observed_chains(self) -> dict[int, objects.Chain]:
        return self.tables(lambda tables: tables.observe())

    def mark_uses(self) -> tuple[model.MarkUse, ...]:
        return self.namespace.call(self._mark_uses.read)

    def apply(self, *steps: objects.Change) -> list[objects.Outcome]:
        """Apply changes in order, and insist that each says it worked."""
        outcomes = [self.namespace.call(lambda step=step: self._apply(step)) for step in steps]  # type: ignore[misc]
        assert all(outcome.failure is None for outcome in outcomes), outcomes
        return outcomes

    def _apply(self, step: objects.Change) -> objects.Outcome:
        match step:
            case objects.PutSet():
                return self._sets.put_set(step)
            case objects.PutEntries():
                return self._sets.put_entries(step)
            case objects.DeleteEntries():
                return self._sets.delete_entries(step)
            case objects.DeleteSet():
                return self._sets.delete_set(step)
            case objects.PutChain():
                return self._tables.put_chain(step)
            case objects.DeleteChain():
                return self._tables.delete_chain(step)
        raise AssertionError(step)

    def out(self, *command: str, stdin: str | None = None) -> str:
        return self.namespace.run(command, stdin=stdin).stdout

    def tool(self, family: int, backend: str, suffix: str = "") -> str:
        return f"{PROGRAMS[family]}-{backend}{suffix}"

    def rulesets(self) -> dict[str, str]:
        """All rules and sets as the tools print them, but for counters, comments and ipset's random numbers."""
        printed = {
            "nft": self.out("nft", "list", "ruleset"),
            "iptables": self.out("iptables-save"),
            "ip6tables": self.out("ip6tables-save"),
            "ipset": self.out("ipset", "-s", "save"),
        }
        for family, names in {4: "ip_tables_names", 6: "ip6_tables_names"}.items():
            if self.out("cat", f"/proc/net/{names}"):
                printed[f"legacy {family}"] = self.out(self.tool(family, "legacy", "-save"))
        return {name: _COMMENT_OR_COUNTER.sub("", text) for name, text in printed.items()}

    def counted(self, comment: str) -> int:
        """Packets counted by the nft rule with this comment."""
        listing: dict[str, Any] = json.loads(self.out("nft", "-j", "list", "ruleset"))
        rules = [each["rule"] for each in listing["nftables"] if "rule" in each]
        (rule,) = (rule for rule in rules if rule.get("comment") == comment)
        return sum(part["counter"]["packets"] for part in rule["expr"] if "counter" in part)


def one_set(family: int, entries: dict[str, objects.SetEntry], name: str | None = None) -> objects.PutSet:
    contents = {prefix(text): entry for text, entry in entries.items()}
    return objects.PutSet(name or SET_NAMES[family], objects.IpSet(family, contents), replace=False)


def simple_chain(family: int) -> objects.Chain:
    """The chain of limits without ports: its one set is also asked before it."""
    name = SET_NAMES[family]
    return objects.Chain((objects.Rule(name, None, map_mark=True, map_priority=False),), jump_first=True, guard=name)
