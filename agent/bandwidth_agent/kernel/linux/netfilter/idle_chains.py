"""Finds out whether packets reach a chain of iptables-nft: its table can be dormant, its base chain without a hook.

iptables prints such rules like any others, and writes more of them, although no packet passes them. Owns that check,
and the two repairs, which are made only where everything concerned exists because of us.
"""

from __future__ import annotations

import socket

from bandwidth_agent.kernel import netlink
from bandwidth_agent.kernel.linux.netfilter import nfnetlink
from bandwidth_agent.kernel.linux.netfilter.nf_tables import nftables

_SUBSYSTEM = 10
_NEW_TABLE, _GET_TABLE, _GET_CHAIN = 0, 1, 4
_T_NAME, _T_FLAGS = 1, 2
_C_TABLE, _C_NAME, _C_HOOK, _C_USE = 1, 3, 4, 6
_DORMANT = 1
_AF = {4: socket.AF_INET, 6: socket.AF_INET6}
_FAMILY = {4: "ip", 6: "ip6"}


def why(family: int, table: str, base: str) -> str:
    """Return why no packet reaches the rules of a base chain, as a clause with the command that helps; else ""."""
    name = f"{_FAMILY[family]} {table}"
    if _dormant(family, table):
        return f"the table {name} is dormant; wake it with: nft add table {name}"
    if _unhooked(family, table, base) is not None:
        gone = f"nft 'flush chain {name} {base}; delete chain {name} {base}'"
        return f"the chain {base} of table {name} has no hook; let the agent make it again after: {gone}"
    return ""


def repairable(family: int, table: str, base: str, ours: nftables.Ours, created: frozenset[str]) -> bool:
    """Return whether `repair` can help.

    It can for a dormant table that exists because of us, and for a chain without a hook that holds only our jump, or
    that is empty and exists because of us.
    """
    if _dormant(family, table):
        return table in created
    unhooked = _unhooked(family, table, base)
    if unhooked is None:
        return False
    jumps = nftables.jumps(family, table, ours).count(base)
    held = jumps > 0 or not created.isdisjoint((table, base))
    return held and jumps == int.from_bytes(unhooked.get(_C_USE, b""), "big")


def repair(family: int, table: str, base: str, ours: nftables.Ours, created: frozenset[str]) -> None:
    """Activate the table, or remove that chain with everything of ours, so that iptables makes it again."""
    if not repairable(family, table, base, ours, created):
        return
    if _dormant(family, table):
        awake = netlink.text_attribute(_T_NAME, table) + netlink.attribute(_T_FLAGS, bytes(4))
        nfnetlink.transact(_SUBSYSTEM, [nfnetlink.message(_SUBSYSTEM << 8 | _NEW_TABLE, 0, _AF[family], awake)])
    else:
        nftables.remove(family, table, ours, (base,))


def _dormant(family: int, table: str) -> bool:
    found = _ask(_GET_TABLE, family, netlink.text_attribute(_T_NAME, table))
    return found is not None and bool(int.from_bytes(found.get(_T_FLAGS, b""), "big") & _DORMANT)


def _unhooked(family: int, table: str, base: str) -> dict[int, bytes] | None:
    """Return the chain if it exists and has no hook; else None."""
    where = netlink.text_attribute(_C_TABLE, table) + netlink.text_attribute(_C_NAME, base)
    found = _ask(_GET_CHAIN, family, where)
    return found if found is not None and _C_HOOK not in found else None


def _ask(command: int, family: int, attributes: bytes) -> dict[int, bytes] | None:
    with nfnetlink.connection() as kernel:
        answer = nfnetlink.ask(kernel, nfnetlink.message(_SUBSYSTEM << 8 | command, 0, _AF[family], attributes))
    return None if answer is None else nfnetlink.fields(answer)
