"""Writes the metrics of single limits in Prometheus' text format.

Owns their names and help texts, and which limits get series of their own. The client library would take six times as
long; and of 10,000 limits few send anything between two scrapes, so the text of the others is kept.
Reads no kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bandwidth_agent.kernel import model
from bandwidth_agent.planner.classifier import ownership
from bandwidth_agent.reporting import show
from bandwidth_api import names

_PREFIX = "client_bandwidth_limit"
_BLOCK = 64  # limits whose text is kept together: if one has moved, this many are written again

# Name, type, help, and the value's field in a class's counters.
_COUNTED = (
    ("bytes_total", "counter", "Bytes sent to the clients of a limit.", "bytes"),
    ("packets_total", "counter", "Packets sent to the clients of a limit, GSO segments counted.", "packets"),
    ("drops_total", "counter", "Packets dropped because a limit's queue was full.", "drops"),
    ("over_limit_total", "counter", "How often a limit made a packet wait.", "overlimits"),
    ("lent_total", "counter", "Sends within the rate of a limit's class; GSO packets count once.", "lended"),
    ("borrowed_total", "counter", "Sends above the rate of an Observe limit's class.", "borrowed"),
    ("backlog_bytes", "gauge", "Bytes that wait in a limit's queue.", "backlog_bytes"),
)
_INDEXES = tuple(model.ClassCounters._fields.index(field) for *_, field in _COUNTED)


class _Shown(NamedTuple):
    """A class with series of its own."""

    labels: str  # as in the text
    number: int
    devices: tuple[str, ...]
    rate_bits_per_second: int


class _Block:
    """Some limits, and their text of the last time that one of their counters moved."""

    __slots__ = ("_counted", "_shown", "_texts", "rates")

    def __init__(self, shown: Sequence[_Shown]) -> None:
        self._shown = shown
        self._counted: list[model.ClassCounters] | None = None
        self._texts: tuple[bytes, ...] = ()
        self.rates = "".join(
            f"{_PREFIX}_rate_bits_per_second{item.labels} {item.rate_bits_per_second}\n" for item in shown
        ).encode()

    def texts(self, counters: model.Counters) -> tuple[bytes, ...]:
        """Return one text for each metric in _COUNTED."""
        counted = [show.total(counters, item.number, item.devices) for item in self._shown]
        if counted != self._counted:
            self._counted = counted
            rows = [(item.labels, values) for item, values in zip(self._shown, counted, strict=True)]
            self._texts = tuple(
                "".join([f"{_PREFIX}_{name}{labels} {values[index]}\n" for labels, values in rows]).encode()
                for (name, *_), index in zip(_COUNTED, _INDEXES, strict=True)
            )
        return self._texts


class LimitSeries:
    """The series of the `most` classes with the lowest numbers."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._state: model.State | None = None
        self._blocks: tuple[_Block, ...] = ()
        self.omitted = 0  # classes without series of their own

    def follow(self, state: model.State) -> None:
        """Take the limits from a kernel state; call it before `text` whenever the state may have changed."""
        known, self._state = self._state, state
        if state == known:  # cheap: what did not change is the same objects
            return
        owners = sorted(ownership.owners(state).items())
        self.omitted = max(0, len(owners) - self._most)
        shown = [_shown(number, owner, state) for number, owner in owners[: self._most]]
        self._blocks = tuple(_Block(shown[at : at + _BLOCK]) for at in range(0, len(shown), _BLOCK))

    def text(self, counters: model.Counters) -> bytes:
        """Return all series with these counters, as bytes of the text format."""
        texts = [block.texts(counters) for block in self._blocks]
        pieces: list[bytes] = []
        for column, (name, kind, help_text, _) in enumerate(_COUNTED):
            pieces.append(_head(name, kind, help_text))
            pieces += [each[column] for each in texts]
        pieces.append(_head("rate_bits_per_second", "gauge", "The rate of a limit."))
        pieces += [block.rates for block in self._blocks]
        return b"".join(pieces)


def _shown(number: int, owner: names.Label, state: model.State) -> _Shown:
    devices = tuple(device for device, tree in state.trees.items() if number in tree.classes)
    rate = state.trees[devices[0]].classes[number].rate * 8 if devices else 0
    labels = f'{{limit="{_escaped(owner.key.limit)}",client="{_escaped(owner.key.client)}"}}'
    return _Shown(labels, number, devices, rate)


def _head(name: str, kind: str, help_text: str) -> bytes:
    return f"# HELP {_PREFIX}_{name} {help_text}\n# TYPE {_PREFIX}_{name} {kind}\n".encode()


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
