"""The kinds of kernel object that are ours, one module each: its type, its changes, what they depend on, their text.

    POSTROUTING (mangle)            egress hook of eth0              cbl0, cbl1 … (ifb)          eth0
    Chain: guard, then tables  ──▶  Hook: our mark? → its ifb  ──▶   Tree: HTB class, leaf  ──▶  its own root qdisc
       looks up in an IpSet         (placement interface: no hook, the Tree is eth0's root)

Desired and observed objects are the same frozen types in the kernel's own units: what is compared with == is what is
written. An observed object of a shape that we never write equals no desired one, so that it is repaired.

`Change` is the registry: the dispatch to the drivers covers every member, and its order is the order of application.
"""

from __future__ import annotations

from typing import get_args

from bandwidth_agent.kernel.objects.chain import Chain, DeleteChain, PutChain, Rule, chain_object
from bandwidth_agent.kernel.objects.change import LAYERS, Applied, ClassNumber, Failure, Labels, Object, Outcome, Step
from bandwidth_agent.kernel.objects.egress_hook import DeleteHook, Hook, PutHook, TrimHook
from bandwidth_agent.kernel.objects.htb_class import (
    TICK_NS,
    UNLIMITED_BYTES_PER_SECOND,
    DeleteClasses,
    HtbClass,
    PutClasses,
)
from bandwidth_agent.kernel.objects.ifb import DeleteIfb, Ifb, PutIfb
from bandwidth_agent.kernel.objects.ip_set import DeleteEntries, DeleteSet, IpSet, PutEntries, PutSet
from bandwidth_agent.kernel.objects.leaf import LEAF_KINDS, Leaf
from bandwidth_agent.kernel.objects.lookup_table import (
    DeleteTable,
    DeleteTableEntries,
    LookupTable,
    PutTable,
    PutTableEntries,
)
from bandwidth_agent.kernel.objects.mark_filter import DeleteFilter, MarkFilter, PutFilter
from bandwidth_agent.kernel.objects.pair import DeletePair, Pair, PutPair
from bandwidth_agent.kernel.objects.program import DeleteProgram, Program, PutProgram
from bandwidth_agent.kernel.objects.root import DeleteRoot, PutRoot
from bandwidth_agent.kernel.objects.set_entry import SetEntry
from bandwidth_agent.kernel.objects.tree import Tree

# The order of application, with the reason for each place. `diff.compute` follows it, and every prefix of its list
# leaves a legal state: nothing leads to what is not there yet, and a client already limited is at no moment faster
# than its limit. Where that takes more (a class that becomes faster, sets with ports, another classifier), `diff` and
# `classifier.migration` have what comes earlier or later, and why.
PutQueue = (
    PutIfb  # a device must be up before anything is redirected to it
    | PutPair  # the same
    | PutRoot  # classes need their HTB
    | PutClasses  # a class must exist before a packet can carry its number, or the packet passes unshaped
    | PutFilter  # the filter of a tree must know its classes
    | PutHook  # redirected packets must find device, class and filter ready
)
ProgramChange = (
    PutTable  # a program must find addresses, or it would take what rules did for done
    | PutTableEntries  # as with the entries of sets, which have the same addresses
    | PutProgram  # packets that it sends on must find pair, class and their way back ready
)
MatchChange = (
    PutSet  # a rule can only name a set that exists
    | PutEntries  # longest prefix first: every address moves once, straight to its final class
    | PutChain  # last of all that adds: only now do packets get marks
    | DeleteChain  # first of all that removes: no packet gets a mark any more
    | DeleteEntries  # shortest prefix first, for the same reason; before the class, or its client would be unlimited
    | DeleteSet  # no rule names it any more
)
DeleteProgramChange = (
    DeleteTableEntries  # shortest prefix first, before their classes
    | DeleteProgram  # by now rules do what it did, or nothing is limited any more
    | DeleteTable  # no program looks into it any more
)
DeleteQueue = (
    TrimHook  # no entry marks for these shards any more
    | DeleteHook  # before the device: a redirect to a device that is gone drops
    | DeleteFilter  # nothing is classified any more
    | DeleteClasses  # nothing leads to them any more
    | DeleteRoot  # on interfaces: the original root comes back
    | DeleteIfb  # last: nothing is redirected to it any more
    | DeletePair  # the same
)
QueueChange = PutQueue | DeleteQueue  # where packets wait: devices and traffic control
Change = PutQueue | ProgramChange | MatchChange | DeleteProgramChange | DeleteQueue
ORDER: tuple[type[Step], ...] = get_args(Change)
