"""The machine that the figures are from, and the senders built on it."""

from __future__ import annotations

import os
import pathlib
import platform
import re
import subprocess

SOURCES = pathlib.Path(__file__).resolve().parents[1]
BUILD = pathlib.Path(__file__).resolve().parents[2] / "build" / "bench"


def describe() -> dict[str, str]:
    """What a reader must know to judge an absolute figure; `load` is of this moment, before anything is measured."""
    return {
        "cpu": _cpu_model(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "load": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        "iproute2": _version(["tc", "-V"], r"iproute2-(\S+?),"),
        "iptables": _version(["iptables", "-V"], r"v(.+)"),
        "ipset": _version(["ipset", "-v"], r"ipset v(\S+?),"),
    }


def _cpu_model() -> str:
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(command: list[str], pattern: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    found = re.search(pattern, done.stdout)
    return found[1].strip() if found else "?"


def sender() -> pathlib.Path:
    """The compiled sender of packets to one address."""
    return _built("sender")


def spray() -> pathlib.Path:
    """The compiled sender of packets to many addresses."""
    return _built("spray", "-lm")


def _built(name: str, *libraries: str) -> pathlib.Path:
    """A program of this folder; compiled when its source is newer."""
    program, source = BUILD / name, SOURCES / f"{name}.c"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(parents=True, exist_ok=True)
        command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(source), *libraries]
        subprocess.run(command, check=True, timeout=60)
    return program
