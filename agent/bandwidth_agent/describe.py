"""Changes as lines that a person reads, one per elementary step, in the order in which they are applied.

Owns the words; decides nothing and never reads the kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from bandwidth_agent import classify, shape
from bandwidth_agent.kernel import change, model
from bandwidth_api import addresses, names, units
from bandwidth_api.plan import PortRange, Prefix

_VERB_WIDTH = len("change")
_NOUN_WIDTH = len("filter")


def lines(step: change.Change, labels: Mapping[int, str]) -> list[str]:
    """One change as lines, aligned among themselves; `labels` names the limit of each class number."""
    rows = list(_rows(step, labels))
    widths: dict[str, list[int]] = {}
    for _, noun, *cells in rows:
        known = widths.setdefault(noun, [])
        known.extend(0 for _ in cells[len(known) :])
        for column, cell in enumerate(cells):
            known[column] = max(known[column], len(cell))
    return [_line(verb, noun, cells, widths[noun]) for verb, noun, *cells in rows]


def _line(verb: str, noun: str, cells: list[str], widths: list[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=False)]
    return "  ".join([f"{verb.ljust(_VERB_WIDTH)} {noun.ljust(_NOUN_WIDTH)}", *padded]).rstrip()


def _rows(step: change.Change, labels: Mapping[int, str]) -> Iterator[tuple[str, ...]]:
    match step:
        case change.PutIfb(shard=shard):
            yield "add", "ifb", names.ifb(shard), "up"
        case change.PutRoot(device=device, default_minor=default):
            rest = "everybody else: as without it" if not default else f"everybody else: class {_class(default)}"
            yield "add", "qdisc", device, f"htb {names.HTB_MAJOR:x}: as root", rest
        case change.PutClasses(device=device, classes=classes, observed=observed):
            for minor, wanted in sorted(classes.items(), key=lambda item: (item[1].parent != 0, item[0])):
                yield _class_row(device, minor, wanted, observed.get(minor), labels)
        case change.PutFilter(device=device, filter=mark_filter):
            yield "add", "filter", device, f"mark/{mark_filter.mask:#x} to class"
        case change.PutHook(interface=name, hook=hook, observed=standing):
            yield ("change" if standing else "add"), "filter", name, "egress", _hook(hook)
        case change.PutSet(name=name, set=ipset, replace=replace):
            what = f"hash:net, IPv{ipset.family}, {len(ipset.entries)} entries"
            yield ("swap" if replace else "add"), "set", name, what
            for prefix, entry in sorted(ipset.entries.items(), key=_longest_first):
                yield _entry_row("add", name, prefix, entry, labels)
        case change.PutEntries(name=name, entries=entries):
            for prefix, entry in sorted(entries.items(), key=_longest_first):
                yield _entry_row("put", name, prefix, entry, labels)
        case change.PutChain(family=family, chain=chain):
            yield "put", "chain", names.CHAIN, f"IPv{family}, from the first rule of POSTROUTING"
            for rule in chain.rules:
                yield "put", "rule", names.CHAIN, f"{_ports(rule.ports)} look up the destination in {rule.set_name}"
        case change.DeleteEntries(name=name, prefixes=prefixes):
            for prefix in sorted(prefixes, key=lambda p: (p.length, p.network)):
                yield "delete", "entry", name, addresses.write(prefix)
        case change.DeleteClasses(device=device, minors=minors):
            for minor in sorted(minors):
                yield "delete", "class", device, _class(minor), _label(minor, labels)
        case change.TrimHook(interface=name, shards=shards):
            yield "delete", "filter", name, "egress", f"to {_ifbs(shards)}"
        case _:
            yield _removal(step)


def _removal(step: change.Change) -> tuple[str, ...]:
    match step:
        case change.DeleteChain(family=family):
            return "delete", "chain", names.CHAIN, f"IPv{family}, and the jump to it"
        case change.DeleteSet(name=name):
            return "delete", "set", name
        case change.DeleteHook(interface=name):
            return "delete", "filter", name, "egress", "all of ours"
        case change.DeleteFilter(device=device):
            return "delete", "filter", device, "mark to class"
        case change.DeleteRoot(device=device):
            return "delete", "qdisc", device, f"htb {names.HTB_MAJOR:x}:", "the original root comes back"
        case change.DeleteIfb(shard=shard):
            return "delete", "ifb", names.ifb(shard), "with its classes"
    raise TypeError(step)


def _class_row(
    device: str, minor: int, wanted: model.HtbClass, standing: model.HtbClass | None, labels: Mapping[int, str]
) -> tuple[str, ...]:
    rate = units.show_rate(wanted.rate * 8)
    if standing is not None and standing.rate != wanted.rate:
        rate = f"{units.show_rate(standing.rate * 8)} → {rate}"
    burst = units.show_bytes(wanted.burst_ticks * model.TICK_NS * wanted.rate // 1_000_000_000)
    observes = wanted.ceil > wanted.rate
    unlimited = wanted.rate >= shape.UNLIMITED_BYTES_PER_SECOND
    how = "observe, slow nothing" if observes else "no limit" if unlimited else ""
    verb = "add" if standing is None else "change"
    words = " ".join(filter(None, (_label(minor, labels), how)))
    return verb, "class", device, _class(minor), rate, f"burst {burst}", words


def _entry_row(
    verb: str, name: str, prefix: Prefix, entry: model.SetEntry, labels: Mapping[int, str]
) -> tuple[str, ...]:
    number = classify.number(entry)
    target = "nobody's" if number is None else f"class {_class(number)}"
    return verb, "entry", name, addresses.write(prefix), target, "" if number is None else _label(number, labels)


def _class(minor: int) -> str:
    return f"{names.HTB_MAJOR:x}:{minor:x}"


def _label(minor: int, labels: Mapping[int, str]) -> str:
    if minor == names.OBSERVE_PARENT:
        return "(parent of the observed)"
    if minor == names.DEFAULT_CLASS:
        return "(everybody else)"
    return f"({labels[minor]})" if minor in labels else ""


def _hook(hook: model.Hook) -> str:
    return f"mark/{hook.mask:#x} to {_ifbs(hook.shards)}"


def _ifbs(shards: Iterable[int]) -> str:
    found = sorted(shards)
    if len(found) > 3 and found == list(range(found[0], found[-1] + 1)):
        return f"{names.ifb(found[0])} … {names.ifb(found[-1])}"
    return ", ".join(map(names.ifb, found))


def _ports(ports: PortRange | None) -> str:
    if ports is None:
        return "all packets:"
    last = f"-{ports.last}" if ports.last != ports.first else ""
    return f"{ports.protocol} port {ports.first}{last}:"


def _longest_first(item: tuple[Prefix, model.SetEntry]) -> tuple[int, int]:
    return -item[0].length, item[0].network
