"""Drives ipset through netlink: the sets that map addresses to classes.

Owns the sets with our names (`bandwidth_api.names.set_name`, and the same with `-new` behind it while one is being
filled) in the network namespace of the calling thread. Must never touch any other set, nor decide what is in one.

Each message has one entry: so the kernel answers with an errno per entry, continues after a refused one, and a change
of one entry needs no process.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping, Sequence

from bandwidth_agent.kernel import netlink, objects, refusals
from bandwidth_agent.kernel.linux.netfilter import ipset_wire, nfnetlink
from bandwidth_api import names
from bandwidth_api.plan import Prefix

_FILLING = "-new"
_LEAST_SIZE_WITH_PORTS = 64  # there may be thousands of them, at 17 KiB each with ipset's own 1024
_OUR_NAME = re.compile(r"cbl-v[46](-[0-9a-f]{12})?(-new)?")


class IpSets:
    """Our sets. Keeps no state: everything is in the kernel."""

    def supported(self) -> bool:
        """Return whether the kernel has hash:net with comment and skbinfo; creates nothing."""
        with nfnetlink.connection() as kernel:
            try:
                answer = nfnetlink.ask(kernel, ipset_wire.query_type())
            except OSError as error:
                if error.errno in refusals.NOT_ALLOWED | refusals.NOT_NOW:
                    raise
                return False  # no ipset at all, or no such type
        return answer is not None and ipset_wire.has_skbinfo(answer)

    def observe(self) -> dict[str, objects.IpSet]:
        """Read all our sets, also those that a killed process left half filled."""
        found: dict[str, objects.IpSet] = {}
        with nfnetlink.connection() as kernel:
            for header in _headers(kernel):
                if not header.healthy:
                    found[header.name] = objects.IpSet(header.family, {}, healthy=False)
                    continue
                question = ipset_wire.list_entries(header.name)
                try:
                    answers = kernel.dump(question.type, question.body)
                except FileNotFoundError:  # gone since its header was read
                    continue
                found[header.name] = objects.IpSet(header.family, ipset_wire.entries(header.family, answers))
        return found

    def entry_counts(self) -> dict[str, int]:
        """Return the number of entries of each of our sets, without reading them."""
        with nfnetlink.connection() as kernel:
            return {header.name: header.entry_count for header in _headers(kernel)}

    @refusals.as_outcome
    def put_set(self, step: objects.PutSet) -> objects.Outcome:
        """Create the set, or fill a new one beside it and swap; a look-up finds the whole old set or the whole new one.

        A process that is killed before the swap leaves the old set in force, one killed after it the new one; both
        leave a set named `-new`, which `observe` reports.
        """
        ordered = _longest_first(step.set.entries)
        with nfnetlink.connection() as kernel:
            refused = 0 if step.replace else _create(kernel, step.name, step.set)
            if not step.replace and refused == 0:
                return _outcome(
                    step, nfnetlink.send(kernel, ipset_wire.put(step.name, ordered)), [p for p, _ in ordered]
                )
            if refused not in (0, errno.EEXIST):
                return _failed(step, refused)
            return _replace(kernel, step, ordered)

    @refusals.as_outcome
    def put_entries(self, step: objects.PutEntries) -> objects.Outcome:
        """Add entries or change existing ones, longest prefix first."""
        ordered = _longest_first(step.entries)
        with nfnetlink.connection() as kernel:
            return _outcome(step, nfnetlink.send(kernel, ipset_wire.put(step.name, ordered)), [p for p, _ in ordered])

    @refusals.as_outcome
    def delete_entries(self, step: objects.DeleteEntries) -> objects.Outcome:
        """Remove entries, shortest prefix first; missing ones are no failure."""
        ordered = sorted(step.prefixes, key=lambda prefix: prefix.length)
        with nfnetlink.connection() as kernel:
            return _outcome(step, nfnetlink.send(kernel, ipset_wire.delete(step.name, ordered)), ordered)

    @refusals.as_outcome
    def delete_set(self, step: objects.DeleteSet) -> objects.Outcome:
        """Destroy the set; a missing one is no failure."""
        with nfnetlink.connection() as kernel:
            refused = _destroy(kernel, step.name)
        return _failed(step, refused) if refused else objects.Outcome(step)


def _headers(kernel: netlink.Socket) -> list[ipset_wire.Header]:
    question = ipset_wire.list_headers()
    headers = (ipset_wire.header(answer) for answer in kernel.dump(question.type, question.body))
    return [header for header in headers if _OUR_NAME.fullmatch(header.name)]


def _create(kernel: netlink.Socket, name: str, desired: objects.IpSet) -> int:
    asked_by_many = {names.set_name(desired.family, ()), names.clients_set(desired.family)}
    least_size = 1024 if name.removesuffix(_FILLING) in asked_by_many else _LEAST_SIZE_WITH_PORTS
    return _one(kernel, ipset_wire.create(name, desired.family, len(desired.entries), least_size))


def _destroy(kernel: netlink.Socket, name: str) -> int:
    refused = _one(kernel, ipset_wire.destroy(name))
    return 0 if refused == errno.ENOENT else refused


def _one(kernel: netlink.Socket, message: netlink.Message) -> int:
    return nfnetlink.send(kernel, [message]).get(0, 0)


def _replace(
    kernel: netlink.Socket, step: objects.PutSet, ordered: list[tuple[Prefix, objects.SetEntry]]
) -> objects.Outcome:
    """Fill a new set, swap it with the existing one, and destroy that."""
    beside = step.name + _FILLING
    refused = _destroy(kernel, beside) or _create(kernel, beside, step.set)
    if refused:
        return _failed(step, refused)
    refused_entries = nfnetlink.send(kernel, ipset_wire.put(beside, ordered))
    refused = _one(kernel, ipset_wire.swap(step.name, beside))
    if refused in (errno.ENOENT, ipset_wire.TYPE_MISMATCH):
        # Nothing to swap with, or something that only shares the name: no rule of ours can be looking at it.
        refused = _destroy(kernel, step.name) or _one(kernel, ipset_wire.rename(beside, step.name))
    if refused:
        _destroy(kernel, beside)
        return _failed(step, refused)
    _destroy(kernel, beside)  # if another program holds it just now, the next observation reports it
    return _outcome(step, refused_entries, [prefix for prefix, _ in ordered])


def _longest_first(entries: Mapping[Prefix, objects.SetEntry]) -> list[tuple[Prefix, objects.SetEntry]]:
    return sorted(entries.items(), key=lambda item: -item[0].length)


def _outcome(step: objects.Change, refused: Mapping[int, int], prefixes: Sequence[Prefix]) -> objects.Outcome:
    """Return the outcome: that the change failed as a whole (no such set), or that some entries did."""
    if errno.ENOENT in refused.values():
        return _failed(step, errno.ENOENT)
    failures = {prefixes[index]: _failure(code) for index, code in refused.items()}
    return objects.Outcome(step, failed_entries=failures)


def _failed(step: objects.Change, code: int) -> objects.Outcome:
    return objects.Outcome(step, _failure(code))


def _failure(code: int) -> objects.Failure:
    return objects.Failure(code, ipset_wire.explain(code))
