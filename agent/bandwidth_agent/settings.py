"""What an administrator may set for the agent, already parsed and checked. Owns no parsing and no defaults of paths."""

from __future__ import annotations

import dataclasses
import enum


class PlacementSetting(enum.StrEnum):
    AUTO = "auto"
    IFB = "ifb"
    INTERFACE = "interface"


class ClassifierSetting(enum.StrEnum):
    AUTO = "auto"
    MARK = "mark"
    PRIORITY = "priority"


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """How one node shapes; the same for every limit."""

    placement: PlacementSetting = PlacementSetting.AUTO
    classifier: ClassifierSetting = ClassifierSetting.AUTO
    interfaces: tuple[str, ...] = ()  # globs; empty: those that hold a default route
    mark_mask: int = 0xFFFF0000  # the bits of the mark that carry the class number, contiguous
    redirect_mark: int = 0x1000  # the one bit that the priority classifier needs beside an ifb
    protected: tuple[str, ...] = ()  # further CIDRs that no limit may touch
