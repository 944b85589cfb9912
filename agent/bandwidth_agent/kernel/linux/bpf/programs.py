"""Our programs on the ways out of interfaces: put first, looked at, taken away.

Where the kernel has TCX (Linux 6.6), by a link that has a name, before all others; else as a filter, by
`rtnl.program_filters`. The program itself has a name beside it: only by that can be asked what it looks into.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from bandwidth_agent.kernel import netlink, objects, refusals
from bandwidth_agent.kernel.linux.bpf import code, maps, pins, system_call
from bandwidth_agent.kernel.linux.rtnl import hooks, interfaces, links, pairs, program_filters
from bandwidth_api import names

_OF_GONE_INTERFACE = "interface "  # and its index: what is left of a program there
_LEFT_OVER = objects.Program(None, first=False, sound=False)


class _Found(NamedTuple):
    """A program of ours at an interface."""

    id: int
    first: bool


def way_back() -> pairs.WayBack:
    """Return the program for the other end of pairs."""
    name = code.name(code.FROM_PAIR, None)
    return pairs.WayBack(name, lambda: system_call.load(code.linked(code.FROM_PAIR, None, {}, pins.namespace()), name))


class Programs:
    """Our programs in one network namespace. `tcx`: the kernel has it. Not thread-safe."""

    def __init__(self, channel: netlink.Socket, kept: pins.Pins, *, tcx: bool) -> None:
        self._channel, self._pins, self._tcx = channel, kept, tcx

    def observe(self) -> dict[str, objects.Program]:
        """Return our programs by interface. Raises OSError."""
        self._pins.assert_here()
        name_of = {link.ifindex: link.name for link in links.dump(self._channel) if not link.ours}
        kept = self._pins.interfaces()
        found = {f"{_OF_GONE_INTERFACE}{index}": _LEFT_OVER for index in kept - name_of.keys()}
        for index in kept if self._tcx else name_of:
            program = self._observe(index) if index in name_of else None
            if program is not None or index in kept & name_of.keys():
                found[name_of[index]] = program or _LEFT_OVER
        return found

    def observe_filters(self) -> dict[str, objects.Program]:
        """Return those of ours that are filters, which whoever may read traffic control sees. Raises OSError."""
        found = {link.name: self._filter(link.ifindex) for link in links.dump(self._channel) if not link.ours}
        return {name: objects.Program(None, each.first, sound=False) for name, each in found.items() if each}

    @refusals.as_outcome
    def put(self, step: objects.PutProgram) -> objects.Outcome:
        """Make the wanted program the first on an interface's way out."""
        self._pins.assert_here()
        link = links.find(self._channel, step.interface)
        if link is None:
            raise OSError(errno.ENODEV, f"{step.interface} is not there")
        shard = step.program.shard
        if shard is not None and not link.link_header:
            raise OSError(errno.EOPNOTSUPP, f"packets of {step.interface} have no link header, which a pair needs")
        with self._loaded(shard) as (program, name):
            if self._tcx:
                self._put_link(link.ifindex, program)
            else:
                reading = hooks.read(self._channel, link.ifindex)
                clsact = interfaces.hook_kind(self._channel, link.ifindex)
                own = reading.owns_clsact
                program_filters.put(self._channel, link.ifindex, program, name, clsact=clsact, own=own)
            self._pins.keep(program, _program(link.ifindex))
        return objects.Outcome(step)

    @refusals.as_outcome
    def delete(self, step: objects.DeleteProgram) -> objects.Outcome:
        """Take our program away; there being none is no failure."""
        self._pins.assert_here()
        gone = step.interface.removeprefix(_OF_GONE_INTERFACE)
        if gone != step.interface and gone.isdigit():
            self._pins.forget(_link(int(gone)), _program(int(gone)))
            return objects.Outcome(step)
        link = links.find(self._channel, step.interface)
        if link is not None:
            if self._tcx:
                self._detach(link.ifindex)
            program_filters.delete(self._channel, link.ifindex)
            self._pins.forget(_link(link.ifindex), _program(link.ifindex))
        return objects.Outcome(step)

    def before(self, interface: str) -> tuple[str, ...]:
        """Return what sees packets on an interface's way out before our program, as text; all, where that is not."""
        self._pins.assert_here()
        link = links.find(self._channel, interface)
        if link is None:
            return ()
        if self._tcx:
            mine = self._at_tcx(link.ifindex)
            ids = system_call.attached(link.ifindex)
            return tuple(f"program {number} at tcx" for number in ids[: ids.index(mine.id) if mine else None])
        found = []
        for present in program_filters.asked(self._channel, link.ifindex):
            if program_filters.ours(present):
                break
            found.append(f"{hooks.describe(present)} {present.name}".strip())
        return tuple(found)

    def ids(self) -> frozenset[int]:
        """Return the numbers that the kernel has for those that have a name. Raises OSError."""
        return frozenset(info.id for info in map(self._kept, self._pins.interfaces()) if info)

    # ── what is there ──────────────────────────────────────────────────────────────────────────────────────────

    def _observe(self, index: int) -> objects.Program | None:
        found = self._at_tcx(index) if self._tcx else self._filter(index)
        if found is None:
            return None
        info = self._kept(index)
        if info is None:
            return objects.Program(None, found.first, sound=False)
        known = info.name in _shards() and info.id == found.id
        return objects.Program(
            _shards()[info.name] if known else None, found.first, known and info.maps == self._maps()
        )

    def _kept(self, index: int) -> system_call.ProgramInfo | None:
        kept = self._pins.open(_program(index))
        with _closing(kept):
            return None if kept is None else system_call.program_info(kept)

    def _at_tcx(self, index: int) -> _Found | None:
        kept = self._pins.open(_link(index))
        if kept is None:
            return None
        with _closing(kept):
            info = system_call.link_info(kept)
        if info.interface != index:
            return None
        return _Found(info.program, system_call.attached(index)[:1] == (info.program,))

    def _filter(self, index: int) -> _Found | None:
        present = program_filters.asked(self._channel, index)
        mine = [at for at, each in enumerate(present) if program_filters.ours(each)]
        return _Found(present[mine[0]].program_id, mine == [0]) if mine else None

    def _maps(self) -> frozenset[int]:
        """The ids of the maps that agents write."""
        with self._opened_maps() as opened:
            return frozenset(each.id for each in opened.values())

    # ── how it comes there ─────────────────────────────────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def _loaded(self, shard: int | None) -> Iterator[tuple[int, str]]:
        """A program (its descriptor) with the maps that agents write, and its name. ENOENT: there are no tables."""
        wanted = code.TO_PRIORITY if shard is None else code.TO_PAIR
        name = code.name(wanted, shard)
        with self._opened_maps() as opened:
            if len(opened) < len(code.MAPS):
                raise OSError(errno.ENOENT, "there are no tables that a program could look into")
            descriptors = {kind: each.descriptor for kind, each in opened.items()}
            program = system_call.load(code.linked(wanted, shard, descriptors, pins.namespace()), name)
        with _closing(program):
            yield program, name

    @contextlib.contextmanager
    def _opened_maps(self) -> Iterator[Mapping[str, maps.Map]]:
        """Those that have a name."""
        with contextlib.ExitStack() as stack:
            opened = {}
            for kind in code.MAPS:
                with contextlib.suppress(FileNotFoundError):
                    opened[kind] = stack.enter_context(contextlib.closing(maps.Map.open(kind, self._pins.path(kind))))
            yield opened

    def _put_link(self, index: int, program: int) -> None:
        """Put a program in the place of ours if that is first, else before all; two of ours do no harm for a moment."""
        present, kept = self._at_tcx(index), self._pins.open(_link(index))
        with _closing(kept):
            if kept is not None and present is not None and present.first:
                system_call.update_link(kept, program)
                return
            with _closing(system_call.link_first(program, index)) as made:
                self._pins.keep(made, _link(index))
            if kept is not None and present is not None:
                system_call.detach_link(kept)

    def _detach(self, index: int) -> None:
        kept = self._pins.open(_link(index))
        with _closing(kept):
            if kept is not None and system_call.link_info(kept).interface == index:
                system_call.detach_link(kept)


def _program(index: int) -> str:
    return f"program-{index}"


def _link(index: int) -> str:
    return f"link-{index}"


@functools.cache
def _shards() -> Mapping[str, int | None]:
    """By the name of a program: the shard of the pair that it sends to; None for one that sets the priority alone."""
    known: dict[str, int | None] = {code.name(code.TO_PRIORITY, None): None}
    return known | {code.name(code.TO_PAIR, shard): shard for shard in range(names.CLASS_MAX // names.SHARD_SIZE + 1)}


@contextlib.contextmanager
def _closing(descriptor: int | None) -> Iterator[int]:
    try:
        yield -1 if descriptor is None else descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)
