"""Whether a client is held to its limit, as its own kernel counts what arrives, on a machine that may be busy."""

from __future__ import annotations

from bandwidth_lab import Host, TcpFlow, WireMeter, bits_per_second

WINDOW_SECONDS = 0.75
WINDOWS_MIN, WINDOWS_MAX = 2, 12
FRAME_BITS = 12_112
SLACK = 0.04


def assert_held(
    meter: WireMeter,
    rate: int,
    family: int | None = None,
    *,
    window_seconds: float = WINDOW_SECONDS,
    warm_up_seconds: float = 1.0,
) -> None:
    """In all windows together the rate is not exceeded, and in one it is reached.

    One is enough, and there may be many, because a busy machine starves the sender; nothing makes it faster.
    """
    meter.measure(warm_up_seconds)  # until the queue is full and the burst spent
    slack = SLACK + 3 * FRAME_BITS / (rate * window_seconds)  # of a window, a few frames more or less are no error
    start = meter.read()
    measured: list[float] = []
    while len(measured) < WINDOWS_MIN or (max(measured) < 1.0 - slack and len(measured) < WINDOWS_MAX):
        measured.append(meter.measure(window_seconds, family) / rate)
    assert bits_per_second(start, meter.read(), family) / rate <= 1.0 + slack, measured
    assert max(measured) >= 1.0 - slack, measured


def assert_free(meter: WireMeter, rate: int, family: int | None = None) -> None:
    """More than twice the rate arrives in one window, as soon as the sender has found out that it may."""
    measured: list[float] = []
    while not measured or (measured[-1] < 2.0 and len(measured) < 2 * WINDOWS_MAX):
        measured.append(meter.measure(WINDOW_SECONDS, family) / rate)
    assert measured[-1] >= 2.0, measured


def assert_client_held(server: Host, client: Host, rate: int, family: int = 4) -> None:
    """A transfer to this client, as fast as it goes, has the rate of its limit."""
    with TcpFlow(server, client, family=family, congestion="cubic"), WireMeter(client) as meter:
        assert_held(meter, rate, family)
