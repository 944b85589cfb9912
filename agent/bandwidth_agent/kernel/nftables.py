"""The tables that iptables-nft makes, where iptables itself does not say or do what is needed.

iptables-nft makes the table and its base chain when the first rule comes, never takes them away, and prints them
whether they are there or not. So what is there is asked of the kernel itself, and what we caused is taken away in
one transaction, in which the kernel refuses to delete anything that somebody else uses.
Must never touch anything in these tables but our chain, the jumps to it, and empty ones that exist because of us.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from bandwidth_agent.kernel import netlink, nfhooks, nfnetlink

_SUBSYSTEM = 10
_GET_TABLE, _DELETE_TABLE, _GET_CHAIN, _DELETE_CHAIN, _GET_RULE, _DELETE_RULE = 1, 2, 4, 5, 7, 8
_GET_GENERATION = 16
_COMPAT = 11  # the subsystem that knows the extensions of iptables
_X_NAME, _X_REVISION, _X_TYPE = 1, 2, 3
_TARGET = 1

_G_ID = 1
_T_NAME, _T_USE = 1, 3
_C_TABLE, _C_NAME, _C_POLICY, _C_USE = 1, 3, 5, 6
_R_TABLE, _R_CHAIN, _R_HANDLE, _R_EXPRESSIONS = 1, 2, 3, 4

_ACCEPT = 1
_ATTEMPTS = 5
_AF = {4: socket.AF_INET, 6: socket.AF_INET6}

BUILT_IN = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")  # of the mangle table


def missing(family: int, table: str, chains: Sequence[str] = BUILT_IN) -> tuple[str, ...]:
    """What of a table is not there: its name if it is missing itself, else those of `chains` that are."""
    with nfnetlink.connection() as kernel:
        if nfnetlink.ask(kernel, _get(_GET_TABLE, family, netlink.text_attribute(_T_NAME, table))) is None:
            return (table,)
        return tuple(chain for chain in chains if _get_chain(kernel, family, table, chain) is None)


def chain_exists(family: int, table: str, chain: str) -> bool:
    with nfnetlink.connection() as kernel:
        return _get_chain(kernel, family, table, chain) is not None


def has_rules(families: frozenset[int], names: frozenset[str]) -> bool:
    """Whether any chain of these tables has a rule in it or is led to by one."""
    question = nfnetlink.message(_SUBSYSTEM << 8 | _GET_CHAIN, 0, socket.AF_UNSPEC, b"")
    with nfnetlink.connection() as kernel:
        for part in kernel.dump(question.type, question.body):
            if part.buffer[part.start] in families:
                chain = nfnetlink.fields(part)
                if netlink.text(chain[_C_TABLE]) in names and _number(chain, _C_USE) > 0:
                    return True
    return False


def has_target(name: str, revision: int) -> bool | None:
    """Whether the kernel has a target of iptables, loading it if need be; None where it cannot be asked."""
    attributes = (
        netlink.text_attribute(_X_NAME, name)
        + netlink.attribute(_X_REVISION, revision.to_bytes(4, "big"))
        + netlink.attribute(_X_TYPE, _TARGET.to_bytes(4, "big"))
    )
    with nfnetlink.connection() as kernel:
        try:
            return nfnetlink.ask(kernel, nfnetlink.message(_COMPAT << 8, 0, socket.AF_INET, attributes)) is not None
        except OSError as refusal:
            if refusal.errno == errno.EPERM:
                raise
            # The extension without that revision, or nftables without its compatibility with iptables.
            return False if refusal.errno == errno.EPROTONOSUPPORT else None


def generation() -> int:
    """A number that changes with every change of nftables in this network namespace."""
    with nfnetlink.connection() as kernel:
        answer = nfnetlink.ask(kernel, nfnetlink.message(_SUBSYSTEM << 8 | _GET_GENERATION, 0, socket.AF_UNSPEC, b""))
    return 0 if answer is None else _number(nfnetlink.fields(answer), _G_ID)


def remove(family: int, table: str, chain: str, created: Sequence[str]) -> int:
    """Take away our chain, every jump to it, and what of `created` nobody else uses by now, in one transaction.

    Returns 0 or the errno of the refusal; that nothing is there is none.
    """
    refused = 0
    for _ in range(_ATTEMPTS):
        with nfnetlink.connection() as kernel:
            commands = _removal(kernel, family, table, chain, created)
        refused = nfnetlink.transact(_SUBSYSTEM, commands) if commands else 0
        if refused not in (errno.EBUSY, errno.ENOENT):  # else somebody changed the table since it was read
            return refused
    return refused


def _removal(
    kernel: netlink.Socket, family: int, table: str, chain: str, created: Sequence[str]
) -> list[netlink.Message]:
    whole = nfnetlink.ask(kernel, _get(_GET_TABLE, family, netlink.text_attribute(_T_NAME, table)))
    if whole is None:
        return []
    commands: list[netlink.Message] = []
    jumps: dict[str, int] = {}
    for where, handle in _jumps(kernel, family, table, chain):
        place = netlink.text_attribute(_R_TABLE, table) + netlink.text_attribute(_R_CHAIN, where)
        commands.append(_delete(_DELETE_RULE, family, place + netlink.attribute(_R_HANDLE, handle)))
        jumps[where] = jumps.get(where, 0) + 1
    doomed = 0
    if _get_chain(kernel, family, table, chain) is not None:
        commands.append(_delete(_DELETE_CHAIN, family, _chain(table, chain)))
        doomed += 1
    for base in BUILT_IN if table in created else created:
        found = _get_chain(kernel, family, table, base)
        if found is not None and _number(found, _C_POLICY) == _ACCEPT and _number(found, _C_USE) == jumps.get(base, 0):
            commands.append(_delete(_DELETE_CHAIN, family, _chain(table, base), nfnetlink.NONREC))
            doomed += 1
    if table in created and _number(nfnetlink.fields(whole), _T_USE) == doomed:
        commands.append(_delete(_DELETE_TABLE, family, netlink.text_attribute(_T_NAME, table), nfnetlink.NONREC))
    return commands


def _jumps(kernel: netlink.Socket, family: int, table: str, chain: str) -> list[tuple[str, bytes]]:
    """Every rule of the table that leads to our chain: (its chain, its handle)."""
    request = _get(_GET_RULE, family, netlink.text_attribute(_R_TABLE, table))
    found = []
    for answer in kernel.dump(request.type, request.body):
        rule = nfnetlink.fields(answer)
        if netlink.text(rule[_R_TABLE]) == table and chain in nfhooks.targets(rule.get(_R_EXPRESSIONS, b"")):
            found.append((netlink.text(rule[_R_CHAIN]), rule[_R_HANDLE]))
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
