"""On kernels that count eBPF as locked memory the process has as much as it may; elsewhere nothing is touched."""

from __future__ import annotations

import os
import resource

import pytest

from bandwidth_agent.kernel.linux.bpf import locked_memory

EVERY = resource.RLIM_INFINITY


class Limits:
    """RLIMIT_MEMLOCK of a process. `may_raise`: whether it has CAP_SYS_RESOURCE."""

    def __init__(self, release: str, hard: int, may_raise: bool, patch: pytest.MonkeyPatch) -> None:
        self.now, self.may_raise = (1 << 16, hard), may_raise
        known = os.uname()
        patch.setattr(os, "uname", lambda: os.uname_result((known[0], known[1], release, known[3], known[4])))
        patch.setattr(resource, "getrlimit", lambda _: self.now)
        patch.setattr(resource, "setrlimit", self._set)

    def _set(self, _: int, limits: tuple[int, int]) -> None:
        if not self.may_raise and limits[1] != self.now[1]:
            raise ValueError("not allowed to raise maximum limit")
        self.now = limits


@pytest.mark.parametrize(
    ("release", "hard", "may_raise", "after", "lacks"),
    [
        ("5.10.0-13-amd64", 1 << 16, True, (EVERY, EVERY), ""),
        ("5.10.0-13-amd64", EVERY, False, (EVERY, EVERY), ""),
        ("4.19.0", 1 << 20, False, (1 << 20, 1 << 20), "may lock 1024 KB"),
        ("5.11.0", 1 << 16, True, (1 << 16, 1 << 16), ""),
        ("6.1.0-9-amd64", 1 << 16, True, (1 << 16, 1 << 16), ""),
    ],
)
def test_as_much_as_it_may(
    monkeypatch: pytest.MonkeyPatch, release: str, hard: int, may_raise: bool, after: tuple[int, int], lacks: str
) -> None:
    """All of it with CAP_SYS_RESOURCE, else up to the hard limit; what is too little is said with what helps."""
    limits = Limits(release, hard, may_raise, monkeypatch)
    locked_memory.allow()
    assert limits.now == after
    told = locked_memory.lack()
    assert lacks in told
    assert bool(told) == bool(lacks) == ("LimitMEMLOCK" in told)
