"""Our chain as iptables-restore reads it and as `iptables -S` prints it. Pure text; runs nothing.

    *mangle
    :CBL-POSTROUTING - [0:0]                                       our chain, emptied if it is there
    -I POSTROUTING 1 -m set --match-set cbl-v4 dst -m comment --comment … -j CBL-POSTROUTING
                                                                   only if it is not there yet, or not first; with
                                                                   port rules, which have sets of their own, no -m set
    -A CBL-POSTROUTING -m set --match-set cbl-v4 dst -j SET --map-set cbl-v4 dst --map-mark
    -A CBL-POSTROUTING -m conntrack --ctproto tcp --ctorigdstport 993 --ctdir REPLY -m set … -j SET …
    COMMIT

The match before the target looks the destination up once more, for limited clients only. For everybody else the rule
costs what it did, and its packet counter tells who found an entry: what ought to arrive in our classes.
Must never write a line about a chain that is not ours, but for the jump.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterable, Sequence

from bandwidth_agent.kernel import model
from bandwidth_api import names
from bandwidth_api.plan import PortRange

TABLE = "mangle"
HOOK = "POSTROUTING"

_COUNTERS = re.compile(r"-c (\d+) \d+ (?=-[jg] )")
_JUMP = re.compile(rf" -c \d+ \d+( -[jg] {re.escape(names.CHAIN)})$")

# The comment of the jump: whose it is and, behind the slash, what iptables made only because of us.
_COMMENT = names.GROUP
_CREATED = f"{_COMMENT}/created:"

_PROTOCOLS = {"tcp": "TCP", "6": "TCP", "udp": "UDP", "17": "UDP"}

# What a rule of our chain that is not one of ours is read as: equal to no desired rule.
UNKNOWN_RULE = model.Rule("", None, False, False)


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """What a listing of the mangle table says of ours."""

    chain_present: bool
    rules: tuple[model.Rule, ...]
    jumps: tuple[str, ...]  # every rule of another chain that leads to ours, without its -A
    condition: tuple[str, ...] | None  # sets that the one jump asks, if it is ours and first of POSTROUTING; else None
    created: tuple[str, ...]  # chains of the table (or the table's name) that exist only because of us
    packets: int  # that found an entry, counted by each rule of our chain

    @property
    def jump_first(self) -> bool:
        """Whether the one jump is first, and asks the set that it should."""
        return self.condition == _condition(self.rules)

    @property
    def chain(self) -> model.Chain | None:
        """Ours as the model says it; None when there is nothing of ours, not even a half."""
        if not self.chain_present and not self.jumps:
            return None
        return model.Chain(self.rules, self.jump_first)


NOTHING = Reading(chain_present=False, rules=(), jumps=(), condition=None, created=(), packets=0)
# The table has something in it that iptables cannot print; ours stands in it, but nobody can say how.
UNREADABLE = dataclasses.replace(NOTHING, chain_present=True, rules=(UNKNOWN_RULE,))


def put(chain: model.Chain, reading: Reading, created: Sequence[str]) -> str:
    """The transaction that makes our chain what `chain` says, from what `reading` found.

    A jump that is right already stays, with its counters.
    """
    lines = [f"*{TABLE}", f":{names.CHAIN} - [0:0]"]
    if chain.jump_first and reading.condition != _condition(chain.rules):
        lines += [f"-D {jump}" for jump in reading.jumps]
        comment = f"{_CREATED}{','.join(created)}" if created else _COMMENT
        condition = "".join(f"-m set --match-set {name} dst " for name in _condition(chain.rules))
        lines.append(f'-I {HOOK} 1 {condition}-m comment --comment "{comment}" -j {names.CHAIN}')
    lines += [f"-A {names.CHAIN} {_rule(rule)}" for rule in chain.rules]
    return "\n".join([*lines, "COMMIT", ""])


def delete(reading: Reading) -> str:
    """The transaction that takes away what `reading` found of ours."""
    lines = [f"*{TABLE}", *(f"-D {jump}" for jump in reading.jumps)]
    if reading.chain_present:
        lines += [f"-F {names.CHAIN}", f"-X {names.CHAIN}"]
    return "\n".join([*lines, "COMMIT", ""])


def read(listing: str) -> Reading:
    """Read what `iptables -t mangle -S -v` printed."""
    chain_present = False
    rules: list[model.Rule] = []
    jumps: list[str] = []
    comments: list[str] = []
    conditions: list[tuple[str, ...]] = []  # of the jump that is the first rule of all
    packets = hook_rules = 0
    for line in listing.splitlines():
        command, _, rest = line.partition(" ")
        chain, _, rule = rest.partition(" ")
        if command == "-N" and chain == names.CHAIN:
            chain_present = True
        elif command == "-A" and chain == names.CHAIN:
            rules.append(_read_rule(_words(_COUNTERS.sub("", rule))))
            counted = _COUNTERS.search(rule)
            packets += int(counted.group(1)) if counted is not None else 0
        elif command == "-A":
            hook_rules += chain == HOOK
            if _JUMP.search(rest) is None:
                continue
            jumps.append(_JUMP.sub(r"\1", rest))
            match _words(_JUMP.sub(r"\1", rule)):
                case ["-m", "comment", "--comment", comment, "-j", _] if comment.startswith(_COMMENT):
                    condition: tuple[str, ...] = ()
                case ["-m", "set", "--match-set", name, "dst", "-m", "comment", "--comment", comment, "-j", _] if (
                    comment.startswith(_COMMENT)
                ):
                    condition = (name,)
                case _:
                    continue
            comments.append(comment)
            if chain == HOOK and hook_rules == 1:
                conditions.append(condition)
    created = (each for comment in comments for each in comment.removeprefix(_CREATED).split(","))
    return Reading(
        chain_present=chain_present,
        rules=tuple(rules),
        jumps=tuple(jumps),
        condition=conditions[0] if conditions and len(jumps) == 1 else None,
        created=tuple(dict.fromkeys(each for each in created if each != _COMMENT)),
        packets=packets,
    )


def _condition(rules: Sequence[model.Rule]) -> tuple[str, ...]:
    """The set that a packet must be in for our chain to be asked at all; none where there are several sets.

    Before the comment, which costs as much as a third of a look-up: a packet that is nobody's gets no further.
    """
    sets = {rule.set_name for rule in rules}
    return tuple(sets) if len(sets) == 1 and all(rule.ports is None for rule in rules) else ()


def chain_names(dump: str) -> frozenset[str]:
    """The chains that iptables-save declares."""
    return frozenset(line[1:].partition(" ")[0] for line in dump.splitlines() if line.startswith(":"))


def has_rules(dump: str) -> bool:
    """Whether iptables-save prints any rule."""
    return "\n-A " in dump


def _rule(rule: model.Rule) -> str:
    words: list[str] = []
    if rule.ports is not None:
        first, last = rule.ports.first, rule.ports.last
        words += ["-m conntrack --ctproto", rule.ports.protocol.lower()]
        words += ["--ctorigdstport", str(first) if first == last else f"{first}:{last}", "--ctdir REPLY"]
    words += ["-m set --match-set", rule.set_name, "dst", "-j SET --map-set", rule.set_name, "dst"]
    words += ["--map-mark"] if rule.map_mark else []
    words += ["--map-prio"] if rule.map_priority else []
    return " ".join(words)


def _read_rule(words: Sequence[str]) -> model.Rule:
    """One rule of our chain; the order of its options is the tool's business and differs between versions."""
    options = _options(words)
    if options is None or options.pop("-j", None) != ("SET",):
        return UNKNOWN_RULE
    modules = {*options.pop("-m", ())}
    map_set = options.pop("--map-set", ())
    match_set = options.pop("--match-set", ())
    map_mark = options.pop("--map-mark", None) == ()
    map_priority = options.pop("--map-prio", None) == ()
    ports: PortRange | None = None
    if options:
        modules -= {"conntrack"}
        if options.pop("--ctdir", None) != ("REPLY",):
            return UNKNOWN_RULE
        protocol = _PROTOCOLS.get(" ".join(options.pop("--ctproto", ())).lower())
        first, _, last = " ".join(options.pop("--ctorigdstport", ())).partition(":")
        if protocol is None or not first.isdigit() or not (last or first).isdigit():
            return UNKNOWN_RULE
        ports = PortRange(protocol, int(first), int(last or first))
    if options or modules != {"set"} or match_set != map_set or len(map_set) != 2 or map_set[1] != "dst":
        return UNKNOWN_RULE
    return model.Rule(map_set[0], ports, map_mark, map_priority)


def _options(words: Iterable[str]) -> dict[str, tuple[str, ...]] | None:
    """Option → its values; None when an option but -m is repeated, or one is negated, which ours never are."""
    options: dict[str, tuple[str, ...]] = {}
    name = ""
    for word in words:
        if word.startswith("-"):
            if word in options and word != "-m":
                return None
            name = word
            options.setdefault(word, ())
        elif word == "!" or not name:
            return None
        else:
            options[name] += (word,)
    return options


def _words(rest: str) -> list[str]:
    try:
        return shlex.split(rest)
    except ValueError:  # an unbalanced quote in somebody's comment
        return rest.split()
