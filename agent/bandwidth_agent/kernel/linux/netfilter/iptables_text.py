"""Our chains as iptables-restore reads them and as `iptables -S` prints them. Pure text; runs nothing.

    *mangle
    :CBL-POSTROUTING - [0:0]                                       a chain of ours that is to change, emptied
    -I POSTROUTING 1 -m set --match-set <guard> dst -m comment --comment … -j CBL-POSTROUTING
                                                                   only if it is not there yet, or not first, or asks
                                                                   another set
    -A CBL-POSTROUTING -m set --match-set cbl-v4 dst -j SET --map-set cbl-v4 dst --map-mark
    -A CBL-POSTROUTING -m conntrack --ctproto tcp --ctorigdstport 993 --ctdir REPLY -m set … -j SET …
    -A CBL-POSTROUTING -m conntrack --ctproto tcp --ctorigsrcport 993 --ctdir ORIGINAL -m set … -j SET …
    -A CBL-POSTROUTING -m conntrack --ctproto tcp --ctorigdstport 0:65535 --ctdir REPLY -g CBL-TCP-0-65535
    -A CBL-POSTROUTING -m conntrack --ctproto tcp --ctorigsrcport 0:32767 --ctdir ORIGINAL -g CBL-TCP-0-65535
    COMMIT

A line for ports is two rules. The first is for connections that were tracked from their first packet on. One that ran
before anything tracked connections here is taken by the kernel as begun by whichever packet it sees first, mostly one
of ours, and the port that the client dialled is then the source port: the second rule. Below the ports from which the
kernel dials by itself, so that connections of this host's own are none of these.

The match before the target looks the destination up once more, for limited clients only; so the rule's packet counter
counts the packets that should arrive in our classes.
`chain_layout` decides which rule is in which chain; a chain that is right already is not written, and keeps its
counters. Must never write a line about a chain that is not ours, except for the jump.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.objects import chain_layout
from bandwidth_agent.kernel.objects.chain import EPHEMERAL_FIRST
from bandwidth_api import names
from bandwidth_api.plan import PortRange

TABLE = "mangle"
HOOK = "POSTROUTING"

_COUNTERS = re.compile(r"-c (\d+) \d+ (?=-[jg] )")
_QUOTING = re.compile(r"[\"'\\]")
_TARGET = re.compile(r" -[jg] (\S+)")
_JUMP = re.compile(r" -c \d+ \d+( -[jg] (\S+))$")

# The comment of the jump: whose it is and, behind the slash, what iptables made only because of us.
_COMMENT = names.GROUP
_CREATED = f"{_COMMENT}/created:"

_PROTOCOLS = {"tcp": "TCP", "6": "TCP", "udp": "UDP", "17": "UDP"}

# How the two rules of a line find the port that the client dialled: the option, and the direction of the packet.
_TRACKED, _PICKED_UP = ("--ctorigdstport", "REPLY"), ("--ctorigsrcport", "ORIGINAL")

# What a rule of our chain that is not one of ours is read as: equal to no desired rule.
UNKNOWN_RULE = objects.Rule("", None, False, False)


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """Our chains in a listing of the mangle table."""

    chains: chain_layout.Layout  # all of ours that are there
    jumps: tuple[str, ...]  # every rule of another chain that leads to one of ours, without its -A
    guard: str | None  # the set that the one jump asks, "" for none, if it is ours and first of POSTROUTING; else None
    created: tuple[str, ...]  # chains of the table (or the table's name) that exist only because of us
    packets: Mapping[str, int]  # by chain of ours: that found an entry, counted by each rule that looks one up

    @property
    def ours(self) -> bool:
        """Return whether there is anything of ours, even if it is only a half."""
        return bool(self.chains or self.jumps)

    def chain(self, known: chain_layout.Spread | None = None) -> objects.Chain | None:
        """Return our chain as a value; None if there is nothing of ours. `known` saves time if it is what stands.

        If the rules are spread over chains in another way than ours, an unknown rule is added at the end.
        """
        if not self.ours:
            return None
        if known is not None and known.layout == self.chains:
            rules = known.rules
        else:
            rules = chain_layout.canonical(chain_layout.flat(self.chains))
            if self.chains and chain_layout.laid_out(rules) != self.chains and UNKNOWN_RULE not in rules:
                rules = (*rules, UNKNOWN_RULE)
        return objects.Chain(rules, self.guard is not None, self.guard or "")


NOTHING = Reading(chains={}, jumps=(), guard=None, created=(), packets={})


def put(
    chain: objects.Chain, reading: Reading, created: Sequence[str], layout: chain_layout.Layout | None = None
) -> str:
    """Return the transaction that turns the chains of `reading` into `chain`.

    A jump and chains that are right already stay, with their counters. `layout`: that of the rules, where it is known.
    """
    layout = layout or chain_layout.laid_out(chain.rules)
    right = kept(layout, reading)
    changed = {name: rules for name, rules in layout.items() if name not in right}
    lines = [f"*{TABLE}", *(f":{name} - [0:0]" for name in changed)]
    if chain.jump_first and reading.guard != chain.guard:
        lines += [f"-D {jump}" for jump in reading.jumps]
        comment = f"{_CREATED}{','.join(created)}" if created else _COMMENT
        # Before the comment, which costs as much as a third of a look-up: a packet without a limit gets no further.
        guard = f"-m set --match-set {chain.guard} dst " if chain.guard else ""
        lines.append(f'-I {HOOK} 1 {guard}-m comment --comment "{comment}" -j {names.CHAIN}')
    lines += [f"-A {name} {text}" for name, rules in changed.items() for line in rules for text in _texts(line)]
    return "\n".join([*lines, *_removal(reading.chains.keys() - layout.keys()), "COMMIT", ""])


def kept(layout: chain_layout.Layout, reading: Reading) -> frozenset[str]:
    """Return the chains that are right already, which no transaction touches."""
    return frozenset(name for name, rules in layout.items() if reading.chains.get(name) == rules)


def delete(reading: Reading) -> str:
    """Return the transaction that removes everything of ours that `reading` found."""
    lines = [f"*{TABLE}", *(f"-D {jump}" for jump in reading.jumps), *_removal(reading.chains)]
    return "\n".join([*lines, "COMMIT", ""])


def _removal(chains: Iterable[str]) -> list[str]:
    """Return the lines that remove our chains; all are emptied first, because they lead to each other."""
    in_order = sorted(chains)
    return [f"{command} {name}" for command in ("-F", "-X") for name in in_order]


def read(listing: str) -> Reading:
    """Parse the output of `iptables -t mangle -S -v`."""
    chains: dict[str, list[_Rule]] = {}
    jumps: list[str] = []
    comments: list[str] = []
    guards: list[str] = []  # of the jump that is the first rule of all
    packets: dict[str, int] = {}
    hook_rules = 0
    for line in listing.splitlines():
        command, _, rest = line.partition(" ")
        chain, _, rule = rest.partition(" ")
        if command == "-N" and names.is_chain(chain):
            chains.setdefault(chain, [])
        elif command == "-A" and names.is_chain(chain):
            ours = _read_line(_words(_COUNTERS.sub("", rule)))
            chains.setdefault(chain, []).append(ours)
            counted = _COUNTERS.search(rule) if isinstance(ours.line, objects.Rule) else None
            if counted is not None:
                packets[chain] = packets.get(chain, 0) + int(counted.group(1))
        elif command == "-A":
            hook_rules += chain == HOOK
            found = _JUMP.search(rest)
            if found is None or not names.is_chain(found.group(2)):
                continue
            jumps.append(_JUMP.sub(r"\1", rest))
            match _words(_JUMP.sub(r"\1", rule)):
                case ["-m", "comment", "--comment", comment, "-j", names.CHAIN] if comment.startswith(_COMMENT):
                    guard = ""
                case ["-m", "set", "--match-set", guard, "dst", "-m", "comment", "--comment", comment, "-j", to] if (
                    comment.startswith(_COMMENT) and to == names.CHAIN
                ):
                    pass
                case _:
                    continue
            comments.append(comment)
            if chain == HOOK and hook_rules == 1:
                guards.append(guard)
    created = (each for comment in comments for each in comment.removeprefix(_CREATED).split(","))
    return Reading(
        chains={name: tuple(_joined(rules)) for name, rules in chains.items()},
        jumps=tuple(jumps),
        guard=guards[0] if guards and len(jumps) == 1 else None,
        created=tuple(dict.fromkeys(each for each in created if each != _COMMENT)),
        packets=packets,
    )


def chain_names(dump: str) -> frozenset[str]:
    """Return the chains that iptables-save declares."""
    return frozenset(line[1:].partition(" ")[0] for line in dump.splitlines() if line.startswith(":"))


def targets(listing: str) -> frozenset[str]:
    """Return our chains that the rules of a listing lead to."""
    return frozenset(name for name in _TARGET.findall(listing) if names.is_chain(name))


def has_rules(dump: str) -> bool:
    """Return whether iptables-save prints any rule."""
    return "\n-A " in dump


class _Rule(NamedTuple):
    """One rule of our chains: the line that it is of, and whether it is the second one of it."""

    line: chain_layout.Line
    picked_up: bool = False


def _picked_up(ports: PortRange) -> PortRange | None:
    """Return the ports of the second rule for these; None: it has none."""
    last = min(ports.last, EPHEMERAL_FIRST - 1)
    return ports._replace(last=last) if ports.first <= last else None


def _joined(rules: Sequence[_Rule]) -> Iterator[chain_layout.Line]:
    """Yield the lines of a chain; an unknown one where the two rules of a line do not follow each other."""
    rest = [*reversed(rules)]
    while rest:
        rule = rest.pop()
        yield UNKNOWN_RULE if rule.picked_up else rule.line
        ports = None if rule.picked_up or rule.line.ports is None else _picked_up(rule.line.ports)
        if ports is not None:
            if rest and rest[-1] == _Rule(rule.line._replace(ports=ports), picked_up=True):
                rest.pop()
            else:
                yield UNKNOWN_RULE


def _texts(line: chain_layout.Line) -> Iterator[str]:
    yield _text(line, *_TRACKED)
    picked_up = None if line.ports is None else _picked_up(line.ports)
    if picked_up is not None:
        yield _text(line._replace(ports=picked_up), *_PICKED_UP)


def _text(line: chain_layout.Line, port: str, direction: str) -> str:
    words: list[str] = []
    if line.ports is not None:
        first, last = line.ports.first, line.ports.last
        words += ["-m conntrack --ctproto", line.ports.protocol.lower()]
        words += [port, str(first) if first == last else f"{first}:{last}", f"--ctdir {direction}"]
    if isinstance(line, chain_layout.Goto):
        return " ".join([*words, "-g", line.chain])
    words += ["-m set --match-set", line.set_name, "dst", "-j SET --map-set", line.set_name, "dst"]
    words += ["--map-mark"] if line.map_mark else []
    words += ["--map-prio"] if line.map_priority else []
    return " ".join(words)


def _read_line(words: Sequence[str]) -> _Rule:
    """Parse one rule of our chains; the order of its options differs between versions of the tool."""
    options = _options(words)
    if options is None:
        return _Rule(UNKNOWN_RULE)
    modules = {*options.pop("-m", ())}
    target, goto = options.pop("-j", ()), options.pop("-g", ())
    map_set = options.pop("--map-set", ())
    match_set = options.pop("--match-set", ())
    map_mark = options.pop("--map-mark", None) == ()
    map_priority = options.pop("--map-prio", None) == ()
    picked_up = "--ctorigsrcport" in options
    ports = _read_ports(options, *(_PICKED_UP if picked_up else _TRACKED))
    if options or (ports is None) == ("conntrack" in modules):
        return _Rule(UNKNOWN_RULE)
    modules -= {"conntrack"}
    if ports is not None and len(goto) == 1 and not (modules or target or map_set or match_set):
        return _Rule(UNKNOWN_RULE if map_mark or map_priority else chain_layout.Goto(ports, goto[0]), picked_up)
    if target != ("SET",) or goto or modules != {"set"} or match_set != map_set:
        return _Rule(UNKNOWN_RULE)
    if len(map_set) != 2 or map_set[1] != "dst":
        return _Rule(UNKNOWN_RULE)
    return _Rule(objects.Rule(map_set[0], ports, map_mark, map_priority), picked_up)


def _read_ports(options: dict[str, tuple[str, ...]], port: str, direction: str) -> PortRange | None:
    """Take the ports of a rule out of its options."""
    protocol = _PROTOCOLS.get(" ".join(options.get("--ctproto", ())).lower())
    first, _, last = " ".join(options.get(port, ())).partition(":")
    last = last or first
    if protocol is None or options.get("--ctdir") != (direction,) or not (first.isdigit() and last.isdigit()):
        return None
    for name in ("--ctproto", port, "--ctdir"):
        del options[name]
    return PortRange(protocol, int(first), int(last))


def _options(words: Iterable[str]) -> dict[str, tuple[str, ...]] | None:
    """Return option → its values; None if an option other than -m is repeated or negated, which ours never are."""
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
    if _QUOTING.search(rest) is None:
        return rest.split()  # in a hundredth of the time; of our rules only the jump has a quote in it
    try:
        return shlex.split(rest)
    except ValueError:  # an unbalanced quote in another program's comment
        return rest.split()
