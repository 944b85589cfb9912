"""Reads and cleans the tables that iptables-nft makes, where iptables itself cannot.

iptables-nft makes the table and its base chain with the first rule, never removes them, and prints them whether they
exist or not. So we ask the kernel what exists, and remove what exists because of us in one transaction, in which the
kernel refuses to delete anything that another program uses.
Must never touch anything in these tables but our chains, the jumps to them, and empty ones that exist because of us.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence

from bandwidth_agent.kernel import netlink, refusals
from bandwidth_agent.kernel.linux.netfilter import nfnetlink
from bandwidth_agent.kernel.linux.netfilter.nf_tables import nfhooks

_SUBSYSTEM = 10
_GET_TABLE, _DELETE_TABLE, _GET_CHAIN, _DELETE_CHAIN, _GET_RULE, _DELETE_RULE = 1, 2, 4, 5, 7, 8
_GET_GENERATION = 16
_COMPAT = 11  # the subsystem that knows the extensions of iptables
_X_NAME, _X_REVISION, _X_TYPE = 1, 2, 3
_TARGET = 1

_G_ID = 1
_T_NAME, _T_USE = 1, 3
_C_TABLE, _C_NAME, _C_HOOK, _C_POLICY, _C_USE = 1, 3, 4, 5, 6
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_R_TABLE, _R_CHAIN, _R_HANDLE, _R_EXPRESSIONS = 1, 2, 3, 4

Ours = Callable[[str], bool]  # whether a chain is ours, by its name

_ACCEPT = 1
_ATTEMPTS = 5
_AF = {4: socket.AF_INET, 6: socket.AF_INET6}

BUILT_IN = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")  # of the mangle table


def missing(family: int, table: str, chains: Sequence[str] = BUILT_IN) -> tuple[str, ...]:
    """Return what is missing of a table: its own name if it does not exist, else those of `chains` that do not."""
    with nfnetlink.connection() as kernel:
        if nfnetlink.ask(kernel, _get(_GET_TABLE, family, netlink.text_attribute(_T_NAME, table))) is None:
            return (table,)
        return tuple(chain for chain in chains if _get_chain(kernel, family, table, chain) is None)


def chain_exists(family: int, table: str, chain: str) -> bool:
    with nfnetlink.connection() as kernel:
        return _get_chain(kernel, family, table, chain) is not None


def hooked_as(family: int, table: str, chain: str) -> tuple[int, int] | None:
    """Return number and priority of a chain's hook; None if it has no hook or does not exist."""
    with nfnetlink.connection() as kernel:
        found = _get_chain(kernel, family, table, chain)
    hook = nfnetlink.inner((found or {}).get(_C_HOOK, b""))
    if _HOOK_NUMBER not in hook:
        return None
    return _number(hook, _HOOK_NUMBER), int.from_bytes(hook[_HOOK_PRIORITY], "big", signed=True)


def has_rules(families: frozenset[int], names: frozenset[str]) -> bool:
    """Return whether any chain of these tables has a rule in it or is the target of one."""
    question = nfnetlink.message(_SUBSYSTEM << 8 | _GET_CHAIN, 0, socket.AF_UNSPEC, b"")
    with nfnetlink.connection() as kernel:
        for part in kernel.dump(question.type, question.body):
            if part.buffer[part.start] in families:
                chain = nfnetlink.fields(part)
                if netlink.text(chain[_C_TABLE]) in names and _number(chain, _C_USE) > 0:
                    return True
    return False


def has_target(name: str, revision: int) -> bool | None:
    """Return whether the kernel has a target of iptables, loading it if needed; None if it cannot be asked."""
    attributes = (
        netlink.text_attribute(_X_NAME, name)
        + netlink.attribute(_X_REVISION, revision.to_bytes(4, "big"))
        + netlink.attribute(_X_TYPE, _TARGET.to_bytes(4, "big"))
    )
    with nfnetlink.connection() as kernel:
        try:
            return nfnetlink.ask(kernel, nfnetlink.message(_COMPAT << 8, 0, socket.AF_INET, attributes)) is not None
        except OSError as refusal:
            if refusal.errno in refusals.NOT_ALLOWED | refusals.NOT_NOW:
                raise
            # The extension without that revision, or nftables without its compatibility with iptables.
            return False if refusal.errno == errno.EPROTONOSUPPORT else None


def generation() -> int:
    """Return a number that changes with every change of nftables in this network namespace."""
    with nfnetlink.connection() as kernel:
        answer = nfnetlink.ask(kernel, nfnetlink.message(_SUBSYSTEM << 8 | _GET_GENERATION, 0, socket.AF_UNSPEC, b""))
    return 0 if answer is None else _number(nfnetlink.fields(answer), _G_ID)


def remove(family: int, table: str, ours: Ours, created: Sequence[str]) -> int:
    """Remove our chains, every jump to them, and what of `created` no other program uses, in one transaction.

    Returns 0 or the errno of the refusal; if nothing is there to remove, 0.
    """
    refused = 0
    for _ in range(_ATTEMPTS):
        with nfnetlink.connection() as kernel:
            commands = _removal(kernel, family, table, ours, created)
        refused = nfnetlink.transact(_SUBSYSTEM, commands) if commands else 0
        if refused not in (errno.EBUSY, errno.ENOENT):  # else another program changed the table since it was read
            return refused
    return refused


def _removal(
    kernel: netlink.Socket, family: int, table: str, ours: Ours, created: Sequence[str]
) -> list[netlink.Message]:
    whole = nfnetlink.ask(kernel, _get(_GET_TABLE, family, netlink.text_attribute(_T_NAME, table)))
    if whole is None:
        return []
    commands: list[netlink.Message] = []
    jumps: dict[str, int] = {}
    for where, handle in _jumps(kernel, family, table, ours):
        commands.append(_delete(_DELETE_RULE, family, _rule(table, where, handle)))
        jumps[where] = jumps.get(where, 0) + 1
    chains = _chains(kernel, family, table, ours)
    # All are emptied before the first is deleted: they lead to one another.
    for chain in chains:
        place = netlink.text_attribute(_R_TABLE, table) + netlink.text_attribute(_R_CHAIN, chain)
        commands.append(_delete(_DELETE_RULE, family, place))
    commands += [_delete(_DELETE_CHAIN, family, _chain(table, chain)) for chain in chains]
    doomed = len(chains)
    for base in BUILT_IN if table in created else created:
        found = _get_chain(kernel, family, table, base)
        if found is not None and _accepts(found) and _number(found, _C_USE) == jumps.get(base, 0):
            commands.append(_delete(_DELETE_CHAIN, family, _chain(table, base), nfnetlink.NONREC))
            doomed += 1
    if table in created and _number(nfnetlink.fields(whole), _T_USE) == doomed:
        commands.append(_delete(_DELETE_TABLE, family, netlink.text_attribute(_T_NAME, table), nfnetlink.NONREC))
    return commands


def remove_rules(family: int, table: str, rules: Sequence[tuple[str, bytes]]) -> int:
    """Remove rules, given by chain and handle, in one transaction; return 0 or the errno of the refusal."""
    commands = [_delete(_DELETE_RULE, family, _rule(table, chain, handle)) for chain, handle in rules]
    return nfnetlink.transact(_SUBSYSTEM, commands) if commands else 0


def _rule(table: str, chain: str, handle: bytes) -> bytes:
    place = netlink.text_attribute(_R_TABLE, table) + netlink.text_attribute(_R_CHAIN, chain)
    return place + netlink.attribute(_R_HANDLE, handle)


def _chains(kernel: netlink.Socket, family: int, table: str, ours: Ours) -> list[str]:
    """Return our chains in the table."""
    question = _get(_GET_CHAIN, family, b"")
    found = (nfnetlink.fields(answer) for answer in kernel.dump(question.type, question.body))
    in_table = (netlink.text(chain[_C_NAME]) for chain in found if netlink.text(chain[_C_TABLE]) == table)
    return sorted(filter(ours, in_table))


def _accepts(chain: dict[int, bytes]) -> bool:
    """Return whether a packet at the end of a chain is accepted; a chain without a hook has no policy."""
    return _C_POLICY not in chain or _number(chain, _C_POLICY) == _ACCEPT


def jumps(family: int, table: str, ours: Ours) -> list[str]:
    """Return the chain of each rule that leads to a chain of ours from another one."""
    with nfnetlink.connection() as kernel:
        return [where for where, _ in _jumps(kernel, family, table, ours)]


def _jumps(kernel: netlink.Socket, family: int, table: str, ours: Ours) -> list[tuple[str, bytes]]:
    """Return every rule of another chain of the table that leads to one of ours: (its chain, its handle)."""
    request = _get(_GET_RULE, family, netlink.text_attribute(_R_TABLE, table))
    found = []
    for answer in kernel.dump(request.type, request.body):
        rule = nfnetlink.fields(answer)
        where = netlink.text(rule[_R_CHAIN])
        if netlink.text(rule[_R_TABLE]) != table or ours(where):
            continue
        if any(map(ours, nfhooks.targets(rule.get(_R_EXPRESSIONS, b"")))):
            found.append((where, rule[_R_HANDLE]))
    return found


def _get(command: int, family: int, attributes: bytes) -> netlink.Message:
    return nfnetlink.message(_SUBSYSTEM << 8 | command, 0, _AF[family], attributes)


def _get_chain(kernel: netlink.Socket, family: int, table: str, chain: str) -> dict[int, bytes] | None:
    answer = nfnetlink.ask(kernel, _get(_GET_CHAIN, family, _chain(table, chain)))
    return None if answer is None else nfnetlink.fields(answer)


def _delete(command: int, family: int, attributes: bytes, flags: int = 0) -> netlink.Message:
    return nfnetlink.message(_SUBSYSTEM << 8 | command, flags, _AF[family], attributes)


def _chain(table: str, chain: str) -> bytes:
    return netlink.text_attribute(_C_TABLE, table) + netlink.text_attribute(_C_NAME, chain)


def _number(found: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(found.get(kind, b""), "big")
