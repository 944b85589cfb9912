"""Asks a node in memory about an address, while packets are sent."""

from __future__ import annotations

from collections.abc import Callable

from bandwidth_agent.kernel.fake import fake_kernel
from bandwidth_agent.reporting import who
from bandwidth_agent.settings import Settings
from bandwidth_agent.sight import one_address
from bandwidth_api import addresses
from bandwidth_api.plan import PortRange
from unit.agent.reporting import shaped


class Traffic:
    """Time for a reader, in which packets are sent: so many a second, as long as it looks."""

    def __init__(self, kernel: fake_kernel.FakeKernel, send: Callable[[int], object] | None, per_second: int) -> None:
        self._kernel, self._send, self._per_second = kernel, send, per_second
        self._began = kernel.at
        self._sent = 0

    def __call__(self, seconds: float) -> None:
        self._kernel.at += seconds
        due = round((self._kernel.at - self._began) * self._per_second) - self._sent
        self._sent += due
        if self._send is not None and due:
            self._send(due)


def asked(
    node: shaped.Node,
    text: str,
    *,
    port: PortRange | None = None,
    send: Callable[[int], object] | None = None,
    per_second: int = 1000,
    seconds: float = 3.0,
    may_administer: bool = True,
    may_capture: bool = True,
    missing: tuple[str, ...] = (),
) -> who.Answer:
    """The answer about an address; `send` is called with the numbers of packets to send meanwhile."""
    kernel = node.kernel
    reader = one_address.Reader(
        kernel,
        Settings(),
        monotonic=lambda: kernel.at,
        pass_time=Traffic(kernel, send, per_second),
        may_administer=may_administer,
        may_capture=may_capture,
        may_read_rules=may_capture,
    )
    address = addresses.parse(text)
    read = reader.read(address, port, seconds)
    assert not kernel.windows, "what was opened is closed"
    protected = who.protection(read.facts, ())
    return who.answer(address, port, read, protected, (*missing, *reader.missing))
