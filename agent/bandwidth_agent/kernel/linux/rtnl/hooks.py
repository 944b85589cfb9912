"""Our filters on the egress hook of an interface: read, put, trim, delete.

    egress hook (clsact)   … other programs' filters …
                           pref fe00  no mark of ours → leave, as if we were not there
                           pref fe01  mark of shard k → to its ifb          (one filter per shard, handle k + 1)

Owns these filters, and the clsact qdisc if we made it: the handle of the first filter records that. Never changes
another filter, and never removes a clsact qdisc that another program made or has a filter on.
"""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Iterable, Mapping

from bandwidth_agent.kernel import netlink, objects
from bandwidth_agent.kernel.linux.rtnl import bytecode, filters, program_filters, tcmsg
from bandwidth_api import names

_STOP_HANDLES = (names.STOP_HANDLE_FOREIGN_CLSACT, names.STOP_HANDLE_OWN_CLSACT)
_GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.EINVAL})  # EINVAL: the clsact qdisc itself is gone


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """The egress filters of one interface."""

    stops: tuple[filters.Filter, ...]
    redirects: Mapping[int, filters.Filter]  # by shard
    programs: tuple[filters.Filter, ...]  # eBPF of ours, by `program_filters`
    foreign: tuple[filters.Filter, ...]

    @property
    def owns_clsact(self) -> bool:
        """Whether a filter of ours records that the clsact qdisc under it is ours to remove."""
        return any(stop.handle == names.STOP_HANDLE_OWN_CLSACT for stop in self.stops) or any(
            map(program_filters.owns_clsact, self.programs)
        )


def read(channel: netlink.Socket, ifindex: int) -> Reading:
    stops: list[filters.Filter] = []
    redirects: dict[int, filters.Filter] = {}
    programs: list[filters.Filter] = []
    foreign: list[filters.Filter] = []
    for present in filters.dump(channel, ifindex, tcmsg.EGRESS_HOOK):
        bpf = present.kind == "bpf" and not present.chain
        if bpf and present.pref == names.STOP_PREF and present.handle in _STOP_HANDLES:
            stops.append(present)
        elif bpf and present.pref == names.REDIRECT_PREF:
            redirects[present.handle - 1] = present
        elif program_filters.ours(present):
            programs.append(present)
        else:
            foreign.append(present)
    return Reading(tuple(stops), redirects, tuple(programs), tuple(foreign))


def describe(present: filters.Filter) -> str:
    """Return a filter as text for the report."""
    return f"{present.kind} pref {present.pref}"


def observe(reading: Reading, shard_of: Mapping[int, int]) -> objects.Hook | None:
    """Return what our filters do together; None without any. `shard_of`: interface index of our ifbs → shard.

    A missing or unknown first filter, a redirect to a device that is not the ifb of its shard, or contradicting filters
    give a hook with the mask -1, which equals no desired one.
    """
    if not reading.stops and not reading.redirects:
        return None
    programs = {shard: _sound(shard, present, shard_of) for shard, present in reading.redirects.items()}
    ways = set(programs.values())
    mask = _sound_stop(reading)
    way = ways.pop() if len(ways) == 1 else None
    if mask is None or (programs and (way is None or way[0] != mask)):
        return objects.Hook(-1, None, frozenset(programs))
    return objects.Hook(mask, way[1] if way else None, frozenset(programs), clears=way is not None and way[2])


def _sound_stop(reading: Reading) -> int | None:
    if len(reading.stops) != 1:
        return None
    present = reading.stops[0]
    plain = present.direct_action and not present.actions
    return bytecode.read_stop(present.program) if plain else None


def _sound(shard: int, present: filters.Filter, shard_of: Mapping[int, int]) -> tuple[int, int | None, bool] | None:
    """Return mask and shift of a redirect to the right ifb, and whether it clears the mark."""
    if present.direct_action or present.target is None or shard_of.get(present.target) != shard:
        return None
    redirect = bytecode.read_redirect(present.program, shard)
    if redirect is None or present.cleared not in (0, redirect[0]):
        return None
    return (*redirect, present.cleared == redirect[0])


def put(channel: netlink.Socket, ifindex: int, wanted: objects.Hook, clsact: str, index_of: Mapping[int, int]) -> None:
    """Make the hook lead to the ifbs. `clsact`: kind of the qdisc on the hook, "" for none.

    Sent in one system call: if the process died between the clsact qdisc and the filter that records it, the qdisc
    would look like one of another program for ever.
    """
    if clsact not in ("", "clsact"):
        raise OSError(errno.EEXIST, f"an {clsact} qdisc is in the place of clsact")
    missing = sorted(wanted.shards - index_of.keys())
    if missing:
        raise OSError(errno.ENODEV, f"{names.ifb(missing[0])} is not there")
    reading = read(channel, ifindex)
    shard_of = {present: shard for shard, present in index_of.items()}
    own = not clsact or reading.owns_clsact
    messages = [tcmsg.make_clsact(ifindex)] if not clsact else []
    if _sound_stop(reading) != wanted.mask:
        messages += _put_stop(ifindex, wanted.mask, reading.stops, own=own)
    for shard in sorted(wanted.shards):
        present = reading.redirects.get(shard)
        if present is None or _sound(shard, present, shard_of) != (wanted.mask, wanted.shift, wanted.clears):
            messages.append(_put_redirect(ifindex, wanted, shard, index_of[shard]))
    for shard, present in reading.redirects.items():
        if shard not in wanted.shards and _sound(shard, present, shard_of) is None:
            messages.append(filters.delete_message(ifindex, tcmsg.EGRESS_HOOK, present.pref, present.handle))
    refusals = channel.execute(messages, together=True)
    if not clsact and 0 in refusals and refusals[0].errno == errno.EEXIST:
        # Another program made it between our reading and our message: it is theirs.
        mine = [stop for stop in read(channel, ifindex).stops if stop.handle == names.STOP_HANDLE_OWN_CLSACT]
        del refusals[0]
        channel.demand(*_put_stop(ifindex, wanted.mask, mine, own=False))
    for refusal in refusals.values():
        raise OSError(refusal.errno, refusal.text)


def _put_stop(ifindex: int, mask: int, present: Iterable[filters.Filter], *, own: bool) -> list[netlink.Message]:
    """Return the messages that put the first filter with the right handle and delete the one with the other handle."""
    handle = names.STOP_HANDLE_OWN_CLSACT if own else names.STOP_HANDLE_FOREIGN_CLSACT
    where = ifindex, tcmsg.EGRESS_HOOK, names.STOP_PREF
    return [
        filters.put_message(*where, handle, bytecode.stop(mask), direct_action=True),
        *(filters.delete_message(*where, stop.handle) for stop in present if stop.handle != handle),
    ]


def _put_redirect(ifindex: int, wanted: objects.Hook, shard: int, target: int) -> netlink.Message:
    program, clear = bytecode.redirect(wanted.mask, wanted.shift, shard), wanted.mask if wanted.clears else 0
    where = ifindex, tcmsg.EGRESS_HOOK, names.REDIRECT_PREF
    return filters.put_message(*where, shard + 1, program, clear=clear, target=target)


def trim(channel: netlink.Socket, ifindex: int, shards: Iterable[int]) -> None:
    """Delete the redirects of some shards."""
    messages = [
        filters.delete_message(ifindex, tcmsg.EGRESS_HOOK, names.REDIRECT_PREF, shard + 1) for shard in sorted(shards)
    ]
    for refusal in channel.execute(messages).values():
        if refusal.errno not in _GONE:
            raise OSError(refusal.errno, refusal.text)


def delete(channel: netlink.Socket, ifindex: int) -> None:
    """Delete our filters, and the clsact qdisc if we made it and it has no other filter, in one system call."""
    reading = read(channel, ifindex)
    ours = [*reading.redirects.values(), *reading.stops]
    messages = [filters.delete_message(ifindex, tcmsg.EGRESS_HOOK, item.pref, item.handle) for item in ours]
    others = reading.foreign or reading.programs
    if reading.owns_clsact and not others and not any(True for _ in filters.dump(channel, ifindex, tcmsg.INGRESS_HOOK)):
        messages.append(tcmsg.delete_clsact(ifindex))
    for refusal in channel.execute(messages, together=True).values():
        if refusal.errno not in _GONE:
            raise OSError(refusal.errno, refusal.text)
