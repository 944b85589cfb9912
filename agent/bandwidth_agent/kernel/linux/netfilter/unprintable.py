"""Reads and repairs our chains in a table that iptables cannot print as a whole, because of rules of other programs.

Lists our chains one by one, and reads the rules that lead to them from the kernel. Raises OSError for what can be read
neither way, so that nothing is written because of it. `rule_listing` decodes the rules.
"""

from __future__ import annotations

import errno
import os
import socket

from bandwidth_agent.kernel.linux.netfilter import iptables_text, iptables_tools
from bandwidth_agent.kernel.linux.netfilter.iptables_tools import FAMILIES, LEGACY
from bandwidth_agent.kernel.linux.netfilter.nf_tables import nftables, nftrules, rule_listing
from bandwidth_agent.kernel.objects import chain_layout
from bandwidth_api import names

_TABLE = iptables_text.TABLE
_AF = {4: int(socket.AF_INET), 6: int(socket.AF_INET6)}
_FAMILY_WORDS = {4: "ip", 6: "ip6"}


def listed(tools: iptables_tools.IpTablesTools, backend: str, family: int, refusal: str) -> str:
    """Read our chains in a table that iptables cannot print as a whole, as if it had printed them.

    Our chains are listed one by one, and the rules that lead to them are read from the kernel. Raises OSError if even
    that cannot be read: then nothing counts as changed, and nothing is written.
    """
    if backend == LEGACY:
        hook = tools.list_rules(backend, family, _TABLE, iptables_text.HOOK).text
        if hook is None:
            raise OSError(errno.EOPNOTSUPP, f"{refusal}; {what_helps(backend, family)}")
        text = [hook]
        ahead = [names.CHAIN, *(names.ports_chain(ports) for ports in chain_layout.EVERY_PORT)]
        listed_already: set[str] = set()
        while ahead:  # our chains lead to one another, so each names the next
            chain = ahead.pop()
            if chain in listed_already:
                continue
            listed_already.add(chain)
            ours = tools.list_rules(backend, family, _TABLE, chain).text
            if ours is not None:
                ahead += iptables_text.targets(ours)
            elif chain in iptables_text.targets("\n".join(text)):
                raise OSError(errno.EOPNOTSUPP, f"{refusal}; {what_helps(backend, family)}")
            text.append(ours or "")  # a chain that is not printed, and that no rule leads to, is not there
        return "\n".join(text)
    text = rule_listing.lines(rule_listing.rules(family, _TABLE, names.is_chain), iptables_text.HOOK)
    for chain in rule_listing.chains(family, _TABLE, names.is_chain):
        listed = tools.list_rules(backend, family, _TABLE, chain)
        if listed.text is not None:
            text.append(listed.text)
        elif nftrules.foreign(_AF[family], _TABLE, chain):
            text += [f"-N {chain}", f"-A {chain} {rule_listing.UNREAD}"]  # another program's rule among ours
        else:
            raise OSError(errno.EOPNOTSUPP, f"{listed.refusal}; {what_helps(backend, family)}")
    return "\n".join(text)


def keep_first_jump(family: int) -> str:
    """Keep only the first rule of POSTROUTING that leads to our chain; return "" or why that failed."""
    found = rule_listing.rules(family, _TABLE, names.is_chain)
    first = next((rule for rule in found if rule.chain == iptables_text.HOOK), None)
    surplus = [(rule.chain, rule.handle) for rule in found if rule.target and rule is not first]
    refused = nftables.remove_rules(family, _TABLE, surplus)
    return os.strerror(refused) if refused else ""


def what_helps(backend: str, family: int) -> str:
    if backend == LEGACY:
        return f"{FAMILIES[family]}-legacy cannot print its table {_TABLE}: install the extension that it names"
    table = f"table {_FAMILY_WORDS[family]} {_TABLE}"
    return (
        f"{table} holds what {FAMILIES[family]} cannot print (nft list {table}): move rules made with nft to a table"
        " of their own, or install the iptables that made the others"
    )
