"""An eBPF program of ours as a filter on an interface's way out, before all other filters: where there is no TCX.

    egress hook (clsact)   pref p − 1   our program                  where the first of the others has a pref p > 1
                           pref 1       our program, their program   else: of one preference the newest is asked first

Owns our filter, and the clsact qdisc if we made it: the handle of the filter records that, as that of `hooks`' stop
filter does. Never changes another filter. It is ours by its handle and the beginning of its name.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from bandwidth_agent.kernel import netlink
from bandwidth_agent.kernel.linux.rtnl import filters, tcmsg
from bandwidth_api import names

_GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.EINVAL})
_TURN = 1


def ours(present: filters.Filter) -> bool:
    """Whether a filter is a program that an agent put there."""
    known = present.handle & ~(names.PROGRAM_HANDLE_OWN_CLSACT | _TURN) == names.PROGRAM_HANDLE
    return known and present.kind == "bpf" and present.name.startswith(names.PROGRAM_PREFIX)


def owns_clsact(present: filters.Filter) -> bool:
    """Whether the filter records that the clsact qdisc under it is ours to remove."""
    return bool(present.handle & names.PROGRAM_HANDLE_OWN_CLSACT)


def asked(channel: netlink.Socket, ifindex: int) -> list[filters.Filter]:
    """Return the filters of the way out in the order in which the kernel asks them."""
    return [present for present in filters.dump(channel, ifindex, tcmsg.EGRESS_HOOK) if not present.chain]


def put(channel: netlink.Socket, ifindex: int, program: int, name: str, *, clsact: str, own: bool) -> None:
    """Make a program (by its descriptor) the first filter; another of ours is replaced between two packets.

    `clsact`: kind of the qdisc on the hook, "" for none; `own`: that one is ours. Raises OSError.
    """
    if clsact not in ("", "clsact"):
        raise OSError(errno.EEXIST, f"an {clsact} qdisc is in the place of clsact")
    present = asked(channel, ifindex)
    mine = [each for each in present if ours(each)]
    own = own or not clsact or any(map(owns_clsact, mine))
    handle = names.PROGRAM_HANDLE | (names.PROGRAM_HANDLE_OWN_CLSACT if own else 0)
    if mine and mine[0] is present[0] and mine[0].handle & ~_TURN == handle:
        pref, handle = mine[0].pref, mine[0].handle  # the kernel puts the new one in the place of the old one
    else:
        pref = _first_pref([each for each in present if not ours(each)])
        handle |= _TURN * any((each.pref, each.handle) == (pref, handle) for each in mine)
    messages = [] if clsact else [tcmsg.make_clsact(ifindex)]
    messages.append(filters.put_program_message(ifindex, tcmsg.EGRESS_HOOK, pref, handle, program, name))
    refusals = channel.execute(messages, together=True)
    for refusal in refusals.values():
        raise OSError(refusal.errno, refusal.text)
    _execute(channel, _deletions(ifindex, [each for each in mine if (each.pref, each.handle) != (pref, handle)]))


def delete(channel: netlink.Socket, ifindex: int) -> None:
    """Delete our filter, and the clsact qdisc if it is ours and has no other filter, in one system call."""
    present = asked(channel, ifindex)
    mine = [each for each in present if ours(each)]
    messages = _deletions(ifindex, mine)
    alone = len(mine) == len(present) and not any(True for _ in filters.dump(channel, ifindex, tcmsg.INGRESS_HOOK))
    if alone and any(map(owns_clsact, mine)):
        messages.append(tcmsg.delete_clsact(ifindex))
    _execute(channel, messages)


def _first_pref(others: Sequence[filters.Filter]) -> int:
    """Return the preference at which a new filter is asked before these."""
    if not others:
        return names.PROGRAM_PREF
    return max(min(others[0].pref - 1, names.PROGRAM_PREF), 1)


def _deletions(ifindex: int, unwanted: Sequence[filters.Filter]) -> list[netlink.Message]:
    return [filters.delete_message(ifindex, tcmsg.EGRESS_HOOK, present.pref, present.handle) for present in unwanted]


def _execute(channel: netlink.Socket, messages: Sequence[netlink.Message]) -> None:
    for refusal in channel.execute(messages, together=True).values():
        if refusal.errno not in _GONE:
            raise OSError(refusal.errno, refusal.text)
