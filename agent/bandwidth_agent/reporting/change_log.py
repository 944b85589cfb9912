"""Logs what is new in each report: only differences from the report before, and a bounded number of lines.

Owns what was logged last. Decides nothing about limits or the kernel.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from bandwidth_agent import report
from bandwidth_api.conditions import Problem, Reason

LINES_AT_ONCE = 20  # of one kind in one report; ten thousand limits can fail for one reason

log = structlog.get_logger("loop")


class ChangeLog:
    """Logs the changes from one report to the next."""

    def __init__(self) -> None:
        self._failing: dict[str, tuple[Reason, str]] = {}  # by limit: reason and message
        self._warnings: frozenset[str] = frozenset()
        self._conflicts: frozenset[str] = frozenset()
        self._shaped: frozenset[report.InterfaceReport] = frozenset()
        self._signed = False  # whether the node showed a sign of a datapath that skips netfilter

    def record(self, made: report.Report) -> None:
        """Log what is new in this report."""
        if made.changes:
            log.info(
                "changed the kernel",
                changes=made.changes,
                limits=made.desired,
                in_force=made.programmed,
                seconds=round(made.duration_seconds, 4),
            )
        self._log_interfaces(made.interfaces)
        self._log_sign(made.datapath_sign)
        self._log_failing(made.failing)
        for message in _first(sorted(set(made.warnings) - self._warnings)):
            log.warning(message)
        for name in sorted(set(made.conflicts) - self._conflicts):
            log.error("another program keeps changing this; left alone for now", object=name)
        for name in sorted(self._conflicts - set(made.conflicts)):
            log.info("no longer left alone", object=name)
        self._warnings, self._conflicts = frozenset(made.warnings), frozenset(made.conflicts)

    def _log_interfaces(self, interfaces: Iterable[report.InterfaceReport]) -> None:
        shaped = frozenset(interfaces)
        for item in sorted(shaped - self._shaped, key=lambda i: i.name):
            log.info(
                "shapes", interface=item.name, placement=item.placement, reason=item.reason.value, why=item.message
            )
        gone = {item.name for item in self._shaped} - {item.name for item in shaped}
        for name in sorted(gone):
            log.info("no longer an egress interface", interface=name)
        self._shaped = shaped

    def _log_sign(self, sign: str) -> None:
        if sign and not self._signed:
            log.warning("packets may leave this node past its limits; each is checked by what leaves", sign=sign)
        elif self._signed and not sign:
            log.info("nothing shows any more that packets may leave past the limits")
        self._signed = bool(sign)

    def _log_failing(self, items: Iterable[Problem]) -> None:
        failing = {item.name: (item.reason, item.message) for item in items}
        new = [name for name, why in failing.items() if self._failing.get(name) != why]
        for name in _first(new):
            reason, message = failing[name]
            log.warning(message, limit=name, reason=reason.value)
        if len(new) > LINES_AT_ONCE:
            log.warning("more limits are not in force as written", more=len(new) - LINES_AT_ONCE)
        healed = sorted(self._failing.keys() - failing.keys())
        for name in _first(healed):
            log.info("no longer failing", limit=name)
        if len(healed) > LINES_AT_ONCE:
            log.info("more limits are no longer failing", more=len(healed) - LINES_AT_ONCE)
        self._failing = failing


def _first(items: list[str]) -> list[str]:
    return items[:LINES_AT_ONCE]
