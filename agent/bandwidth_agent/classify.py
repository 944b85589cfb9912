"""How a packet carries its class number from the set to the tree: in bits of its mark, or in its skb priority.

    mark       mark & mask = number << lowest bit of the mask; the egress hook picks the ifb, a filter the class
    priority   skb priority = 7cb1:number, which HTB takes without a filter; for an ifb one more mark bit redirects

Owns the arithmetic of numbers and shards and the choice between the two; never reads or writes the kernel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from bandwidth_agent import placement, settings
from bandwidth_agent.kernel import model
from bandwidth_api import names

_SHARD_BITS = names.SHARD_SIZE.bit_length() - 1


@dataclasses.dataclass(frozen=True, slots=True)
class Classifier:
    """One way for packets to carry class numbers, the same for every limit of the node."""

    kind: Literal["mark", "priority"]
    mask: int  # the bits of the mark that we write: the number's, or the redirect bit's, or 0
    shift: int | None  # (mark & mask) >> shift is the shard; None: one shard for all
    redirect_mark: int  # priority: the bit that sends a packet to the ifb; 0 where no ifb is used, and with mark
    reason: str  # CamelCase
    message: str
    warning: str = ""  # an explicit setting collides with somebody else's rule

    @property
    def map_mark(self) -> bool:
        """Whether the rules take a mark from the set."""
        return self.mask != 0

    @property
    def map_priority(self) -> bool:
        """Whether the rules take a priority from the set."""
        return self.kind == "priority"

    @property
    def capacity(self) -> int:
        """The highest class number."""
        return names.CLASS_MAX if self.kind == "priority" else mask_capacity(self.mask)

    def entry(self, number: int, comment: str) -> model.SetEntry:
        """The set entry that gives an address the class with this number."""
        if self.kind == "mark":
            return model.SetEntry(number * (self.mask & -self.mask), self.mask, 0, comment)
        return model.SetEntry(self.redirect_mark, self.mask, names.HTB_MAJOR << 16 | number, comment)

    def number(self, entry: model.SetEntry) -> int | None:
        """The class number in an observed entry, whichever classifier wrote it; see the function `number`."""
        return number(entry)

    def shard(self, number: int) -> int:
        """The ifb that holds the class with this number."""
        return 0 if self.shift is None else number // names.SHARD_SIZE

    def hook(self, shards: Iterable[int]) -> model.Hook:
        """The egress hook that leads to these ifbs."""
        return model.Hook(self.mask, self.shift, frozenset(shards))

    @property
    def filter(self) -> model.MarkFilter | None:
        """The filter that every tree needs."""
        return model.MarkFilter(self.mask) if self.kind == "mark" else None


def choose(
    configured: settings.Settings, facts: model.Facts, placements: Mapping[str, placement.Placement]
) -> Classifier:
    """The classifier of this node: `mark` unless somebody else uses its bits, then `priority`; explicit is obeyed."""
    redirect = configured.redirect_mark if any(p.kind == "ifb" for p in placements.values()) else 0
    on_mask = _collision(facts.mark_uses, configured.mark_mask)
    redirect_warning = _warning(facts.mark_uses, redirect, f"bit {redirect:#x} is")
    match configured.classifier:
        case settings.ClassifierSetting.MARK:
            warning = _warning(facts.mark_uses, configured.mark_mask, f"bits {configured.mark_mask:#010x} are")
            message = f"configured; {warning}" if warning else "configured"
            return _mark(configured.mark_mask, "Configured", message, warning)
        case settings.ClassifierSetting.PRIORITY:
            message = f"configured; {redirect_warning}" if redirect_warning else "configured"
            return _priority(redirect, "Configured", message, redirect_warning)
        case _ if on_mask:
            message = f"mark bits {configured.mark_mask:#010x} are used by {on_mask}"
            if redirect_warning:
                message = f"{message}; and {redirect_warning}"
            return _priority(redirect, "MarkBitsInUse", message, redirect_warning)
        case _:
            message = f"no other rule uses mark bits {configured.mark_mask:#010x}"
            return _mark(configured.mark_mask, "MarkBitsFree", message, "")


def mask_capacity(mask: int) -> int:
    """The highest class number that fits under the mask; a narrow mask has room for few limits."""
    return min(names.CLASS_MAX, mask >> _lowest_bit(mask))


def number(entry: model.SetEntry) -> int | None:
    """The class number in an observed entry, whichever classifier and mask wrote it; None if it carries none.

    So an agent that restarts with other settings adopts the numbers that are there, and no class is made anew.
    """
    if entry.hole:
        return None
    if entry.priority >> 16 == names.HTB_MAJOR:
        found = entry.priority & 0xFFFF
    elif entry.priority == 0 and entry.mask and _contiguous(entry.mask):
        found = (entry.mark & entry.mask) >> _lowest_bit(entry.mask)
    else:
        return None
    return found if 1 <= found <= names.CLASS_MAX else None


def _mark(mask: int, reason: str, message: str, warning: str) -> Classifier:
    # With no more numbers than one shard holds, the shard needs no bits; a shift of 32 would be no valid filter.
    shift = _lowest_bit(mask) + _SHARD_BITS if mask_capacity(mask) >= names.SHARD_SIZE else None
    return Classifier("mark", mask, shift, 0, reason, message, warning)


def _priority(redirect: int, reason: str, message: str, warning: str) -> Classifier:
    return Classifier("priority", redirect, None, redirect, reason, message, warning)


def _warning(uses: Sequence[model.MarkUse], bits: int, they_are: str) -> str:
    """What an administrator must know of rules of others that use these bits, if there are any."""
    for use in uses:
        if use.rewritten & bits:
            remedy = "give other bits, or --classifier priority with --placement interface"
            return f"mark {they_are} written after ours by {use.where}, so what it matches is not slowed: {remedy}"
    user = _collision(uses, bits)
    return f"mark {they_are} used by {user}" if user else ""


def _collision(uses: Iterable[model.MarkUse], bits: int) -> str:
    return next((use.where for use in uses if use.bits & bits), "")


def _lowest_bit(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def _contiguous(mask: int) -> bool:
    ones = mask >> _lowest_bit(mask)
    return ones & (ones + 1) == 0
