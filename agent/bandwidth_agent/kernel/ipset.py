"""The sets that say which address belongs to which class.

Owns the sets with our names (`bandwidth_api.names.set_name`, and the same with `-new` behind it while one is being
filled) in the network namespace of the calling thread. Must never touch any other set, nor decide what is in one.

Spoken to by netlink, in messages of one entry each: the kernel then answers with an errno per entry, goes on behind
a refused one, and a change of one entry costs no process.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping, Sequence

from bandwidth_agent.kernel import change, ipset_wire, model, netlink, nfnetlink, refusals
from bandwidth_api.plan import Prefix

_FILLING = "-new"
_OUR_NAME = re.compile(r"cbl-v[46](-[0-9a-f]{12})?(-new)?")


class IpSets:
    """The sets of ours. Holds nothing but code: everything known is in the kernel."""

    def supported(self) -> bool:
        """Whether the kernel has hash:net with comment and skbinfo; makes nothing."""
        with nfnetlink.connection() as kernel:
            try:
                answer = nfnetlink.ask(kernel, ipset_wire.query_type())
            except OSError as error:
                if error.errno in (errno.EPERM, errno.EACCES, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.EINTR):
                    raise
                return False  # no ipset at all, or no such type
        return answer is not None and ipset_wire.has_skbinfo(answer)

    def observe(self) -> dict[str, model.IpSet]:
        """Read all our sets whole, also those that a killed change left half filled."""
        found: dict[str, model.IpSet] = {}
        with nfnetlink.connection() as kernel:
            for header in _headers(kernel):
                if not header.healthy:
                    found[header.name] = model.IpSet(header.family, {}, healthy=False)
                    continue
                question = ipset_wire.list_entries(header.name)
                try:
                    answers = kernel.dump(question.type, question.body)
                except FileNotFoundError:  # gone since its header was read
                    continue
                found[header.name] = model.IpSet(header.family, ipset_wire.entries(header.family, answers))
        return found

    def entry_counts(self) -> dict[str, int]:
        """How many entries each of our sets has, without reading them."""
        with nfnetlink.connection() as kernel:
            return {header.name: header.entry_count for header in _headers(kernel)}

    @refusals.told
    def put_set(self, step: change.PutSet) -> change.Outcome:
        """Create the set, or fill a new one beside it and swap; whoever looks an address up sees old or new, whole.

        Killed before the swap it leaves the old set in force, killed after it the new one, and either way a set
        named `-new` that `observe` reports.
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

    @refusals.told
    def put_entries(self, step: change.PutEntries) -> change.Outcome:
        """Add entries or change those that are there, longest prefix first."""
        ordered = _longest_first(step.entries)
        with nfnetlink.connection() as kernel:
            return _outcome(step, nfnetlink.send(kernel, ipset_wire.put(step.name, ordered)), [p for p, _ in ordered])

    @refusals.told
    def delete_entries(self, step: change.DeleteEntries) -> change.Outcome:
        """Take entries out, shortest prefix first; those that are not there are no failure."""
        ordered = sorted(step.prefixes, key=lambda prefix: prefix.length)
        with nfnetlink.connection() as kernel:
            return _outcome(step, nfnetlink.send(kernel, ipset_wire.delete(step.name, ordered)), ordered)

    @refusals.told
    def delete_set(self, step: change.DeleteSet) -> change.Outcome:
        """Destroy the set; one that is not there is no failure."""
        with nfnetlink.connection() as kernel:
            refused = _destroy(kernel, step.name)
        return _failed(step, refused) if refused else change.Outcome(step)


def _headers(kernel: netlink.Socket) -> list[ipset_wire.Header]:
    question = ipset_wire.list_headers()
    headers = (ipset_wire.header(answer) for answer in kernel.dump(question.type, question.body))
    return [header for header in headers if _OUR_NAME.fullmatch(header.name)]


def _create(kernel: netlink.Socket, name: str, desired: model.IpSet) -> int:
    return _one(kernel, ipset_wire.create(name, desired.family, len(desired.entries)))


def _destroy(kernel: netlink.Socket, name: str) -> int:
    refused = _one(kernel, ipset_wire.destroy(name))
    return 0 if refused == errno.ENOENT else refused


def _one(kernel: netlink.Socket, message: netlink.Message) -> int:
    return nfnetlink.send(kernel, [message]).get(0, 0)


def _replace(
    kernel: netlink.Socket, step: change.PutSet, ordered: list[tuple[Prefix, model.SetEntry]]
) -> change.Outcome:
    """Fill beside, swap, destroy what was there."""
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
    _destroy(kernel, beside)  # if somebody holds it just now, the next observation reports it
    return _outcome(step, refused_entries, [prefix for prefix, _ in ordered])


def _longest_first(entries: Mapping[Prefix, model.SetEntry]) -> list[tuple[Prefix, model.SetEntry]]:
    return sorted(entries.items(), key=lambda item: -item[0].length)


def _outcome(step: change.Change, refused: Mapping[int, int], prefixes: Sequence[Prefix]) -> change.Outcome:
    """Tell a change that failed as a whole (no such set) from one of which entries failed."""
    if errno.ENOENT in refused.values():
        return _failed(step, errno.ENOENT)
    failures = {prefixes[index]: _failure(code) for index, code in refused.items()}
    return change.Outcome(step, failed_entries=failures)


def _failed(step: change.Change, code: int) -> change.Outcome:
    return change.Outcome(step, _failure(code))


def _failure(code: int) -> change.Failure:
    return change.Failure(code, ipset_wire.explain(code))
