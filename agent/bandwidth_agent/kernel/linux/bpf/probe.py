"""Finds out whether our programs can be loaded and kept here, by loading them; nothing of it stays.

Why not from capabilities and versions: what a seccomp profile, a security module or the kernel's own check of programs
forbids shows only when it is tried.
"""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple

from bandwidth_agent.kernel import refusals
from bandwidth_agent.kernel.linux.bpf import code, locked_memory, maps, pins, system_call

NO_DIRECTORY = (
    "it has no place for its programs: set agent.ebpf.enabled=true in the chart, on a host give it --bpf-directory"
    " /sys/fs/bpf"
)
_CAPABILITY = "set agent.ebpf.enabled=true in the chart, on a host give it CAP_BPF beside CAP_NET_ADMIN"


class Lack(NamedTuple):
    """Why our programs cannot be loaded or kept."""

    why: str
    permitted: bool = False  # all is permitted; the kernel cannot


_LOOPBACK = 1


def lack(directory: str, *, tries: bool = True) -> Lack | None:
    """Return why our programs cannot be loaded, or kept in this directory; None where they can.

    `tries`: by loading them; else only the directory is looked at.
    """
    if not directory:
        return Lack(NO_DIRECTORY)
    if not pins.in_bpf_file_system(directory):
        return Lack(pins.elsewhere(directory))
    if not os.access(directory, os.W_OK):
        return Lack(f"{directory} cannot be written to")
    try:
        if tries:
            locked_memory.allow()
            _load_all()
    except OSError as error:
        if error.errno in refusals.NOT_ALLOWED and (locked := locked_memory.lack()):
            return Lack(f"it may load no programs ({error.strerror}): {locked}; or, {_CAPABILITY}")
        if error.errno in refusals.NOT_ALLOWED:
            return Lack(f"it may load no programs ({error.strerror}): {_CAPABILITY}")
        if error.errno in refusals.NOT_NOW:
            raise
        return Lack(f"the kernel takes no programs of it: {error.strerror}", permitted=True)
    return None


def has_tcx() -> bool:
    """Whether programs attach at TCX here. Not known to a process that may not ask: False."""
    try:
        system_call.attached(_LOOPBACK)
    except OSError:
        return False
    return True


def _load_all() -> None:
    with contextlib.ExitStack() as stack:
        descriptors = {}
        for kind in code.MAPS:
            descriptors[kind] = stack.enter_context(contextlib.closing(maps.Map.make(kind))).descriptor
        for program in code.PROGRAMS:
            stack.callback(
                os.close,
                system_call.load(code.linked(program, 0, descriptors, pins.namespace()), code.name(program, 0)),
            )
