"""What an administrator may set for the agent, as checked values. Owns the defaults; parses nothing."""

from __future__ import annotations

import dataclasses
import enum

from bandwidth_api.compiler import width


class PlacementSetting(enum.StrEnum):
    AUTO = "auto"
    IFB = "ifb"
    INTERFACE = "interface"


class ClassifierSetting(enum.StrEnum):
    AUTO = "auto"
    MARK = "mark"
    PRIORITY = "priority"
    EBPF = "ebpf"


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """How one node shapes; the same for every limit."""

    placement: PlacementSetting = PlacementSetting.AUTO
    classifier: ClassifierSetting = ClassifierSetting.AUTO
    interfaces: tuple[str, ...] = ()  # globs; empty: those that hold a default route
    mark_mask: int = 0xFFFF0000  # the bits of the mark that carry the class number, contiguous
    redirect_mark: int = 0x1000  # the one bit that the priority classifier needs beside an ifb
    protected: tuple[str, ...] = ()  # further CIDRs that no limit may touch
    failsafe: bool = True  # nor what this host cannot do without
    widest: width.Widest = width.DEFAULT  # how many addresses a limit of a file may hold
