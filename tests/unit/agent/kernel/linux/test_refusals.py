"""What a refusal means: not allowed, not there, not now, by errno alone."""

from __future__ import annotations

import errno

import pytest

from bandwidth_agent.kernel import netlink, refusals
from bandwidth_agent.kernel.linux.rtnl import features


class Channel:
    """A request socket on which the kernel refuses everything in the same way."""

    def __init__(self, code: int) -> None:
        self.code = code

    def execute(self, messages: list[netlink.Message]) -> dict[int, netlink.Refusal]:
        return {0: netlink.Refusal(self.code, "as the test says")} if self.code else {}


class Module(Channel):
    """A kernel that lacks everything, until an administrator loads the modules."""

    def __init__(self) -> None:
        super().__init__(errno.ENOENT)
        self.requests = 0

    def execute(self, messages: list[netlink.Message]) -> dict[int, netlink.Refusal]:
        self.requests += len(messages)
        answers = {netlink_type: code for netlink_type, code in WRONG.items() if not self.code}
        return {0: netlink.Refusal(answers.get(messages[0].type, self.code), "as the test says")}


# What kernels that have the feature say to the request that is wrong: new link, new qdisc, new action.
WRONG = {16: errno.EADDRNOTAVAIL, 36: errno.EINVAL, 48: errno.EINVAL}


def asked(probe: str, code: int) -> features.Answer:
    return features.PROBES[probe](Channel(code))  # type: ignore[arg-type]


@pytest.mark.parametrize("code", sorted(refusals.NOT_NOW))
@pytest.mark.parametrize("probe", features.PROBES)
def test_not_now_is_no_answer(probe: str, code: int) -> None:
    """A kernel that is busy or short of something has not said what it can do."""
    with pytest.raises(OSError, match="as the test says") as refused:
        asked(probe, code)
    assert refused.value.errno == code


@pytest.mark.parametrize("code", sorted(refusals.NOT_ALLOWED))
@pytest.mark.parametrize("probe", features.PROBES)
def test_not_allowed_is_not_missing(probe: str, code: int) -> None:
    """Whether the kernel has what one may not ask about is not known."""
    assert asked(probe, code) is features.Answer.DENIED


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV])
@pytest.mark.parametrize("probe", features.PROBES)
def test_not_there_is_missing(probe: str, code: int) -> None:
    """What the kernel has never heard of it lacks."""
    assert asked(probe, code) is features.Answer.LACKING


def test_each_refusal_has_its_own_remedy() -> None:
    """The message names a module or a permission, whichever is missing, and never the other."""
    assert "user namespace" in refusals.words(PermissionError(errno.EPERM, "Operation not permitted"))
    assert "try again" in refusals.words(OSError(errno.ENOBUFS, "No buffer space available"))
    assert refusals.words(OSError(errno.ENOENT, "gone")) == "gone"


def test_a_module_that_is_loaded_later_is_found() -> None:
    """What is lacking is asked again after a minute, but for fq_codel; what is there is never asked again."""
    kernel, now = Module(), [0.0]
    known = features.Known(lambda: now[0])
    assert set(known.answers(kernel).values()) == {features.Answer.LACKING}  # type: ignore[arg-type]
    kernel.code, asked_at_first = 0, kernel.requests
    now[0] += features.ASK_AGAIN_SECONDS - 1
    known.answers(kernel)  # type: ignore[arg-type]
    assert kernel.requests == asked_at_first
    now[0] += 1
    found = known.answers(kernel)  # type: ignore[arg-type]
    assert {name for name, answer in found.items() if answer is features.Answer.THERE} == {"ifb", "clsact", "skbedit"}
    asked_then = kernel.requests
    now[0] += features.ASK_AGAIN_SECONDS
    known.answers(kernel)  # type: ignore[arg-type]
    assert kernel.requests == asked_then


def test_what_could_not_be_asked_is_asked_at_once_again() -> None:
    """An answer that could not be had is not remembered as any."""
    known = features.Known(lambda: 0.0)
    kernel = Module()
    kernel.code = errno.ENOBUFS
    for _ in range(3):
        with pytest.raises(OSError, match="as the test says"):
            known.answers(kernel)  # type: ignore[arg-type]
    kernel.code = 0
    assert set(known.answers(kernel).values()) == {features.Answer.THERE}  # type: ignore[arg-type]
