"""Computes the parameters of HTB, TBF and fq_codel for a rate, as exact integers in the kernel's units.

                 ┌─ 7cb1:n  rate = ceil = the limit ── tbf n: (never delays) ── fq_codel, else bfifo
    7cb1: (root) ┤
                 └─ 7cb1:7cff  400 Gbit ── 7cb1:m  rate = the limit, ceil = 400 Gbit ── bfifo 16 MiB   (Observe)

Owns the formulas; the docstring of a function has the measurements behind its numbers. Never touches the kernel.
"""

from __future__ import annotations

from bandwidth_agent.kernel import objects
from bandwidth_api import names
from bandwidth_api.compiler import burst

SEGMENT_BELOW_BITS_PER_SECOND = 200_000_000
TICKS_MAX = 0xFFFFFFFF  # struct tc_htb_opt, buffer: 32 bits
QUANTUM_MIN_BYTES = 1514
QUANTUM_MAX_BYTES = 60_000
QUANTUM_FREE_BYTES_PER_SECOND = 1_250_000  # 10 Mbit: up to here one frame per round
FRAME_OVERHEAD_BYTES = 86  # Ethernet, IPv6 and TCP with timestamps
WHOLE_PACKET_BYTES = 1_048_576  # more than any GSO packet with all its headers: 73 KB were seen, BIG TCP makes 512 KB
QUEUE_FRAMES_MIN = 8
QUEUE_MILLISECONDS_SEGMENTED = 50
QUEUE_BYTES_MAX_SEGMENTED = 100_000
QUEUE_MILLISECONDS_WHOLE = 5
QUEUE_BYTES_MIN_WHOLE = 262_144  # two of the largest packets
OBSERVE_QUEUE_BYTES = 16 * 1024 * 1024


def ticks(size_bytes: int, bytes_per_second: int) -> int:
    """Return the time to send so many bytes at a rate, in psched ticks, as in struct tc_htb_opt.

    Rounded up, so that a burst is never a byte short; cut at what the field can hold, 275 s.
    """
    return min(-(-size_bytes * 1_000_000_000 // (bytes_per_second * objects.TICK_NS)), TICKS_MAX)


def quantum_bytes(rate_bits_per_second: int) -> int:
    """Return the bytes that a borrowing class may send per turn: one frame up to 10 Mbit, then in proportion, to 60000.

    Given always, because the kernel otherwise takes rate / r2q and logs a warning for every class.
    """
    quantum = _bytes(rate_bits_per_second) * QUANTUM_MIN_BYTES // QUANTUM_FREE_BYTES_PER_SECOND
    return min(max(quantum, QUANTUM_MIN_BYTES), QUANTUM_MAX_BYTES)


def leaf(rate_bits_per_second: int, mtu: int, leaf_kinds: frozenset[str]) -> objects.Leaf:
    """The queue of an Enforce class: a TBF that never delays.

    Below 200 Mbit its burst is one frame, so it cuts GSO packets into frames: rates become exact, queues short
    (measured: ping beside a full 1 Mbit class 61 ms instead of 226). Above, cutting costs 8 times the CPU and gains
    nothing. `mtu` is the largest of all egress interfaces. Inside it fq_codel where the kernel has it.

    The queue: measured with bbr and cubic at 0.999 to 1.001 of the rate from 1 Mbit to 5 Gbit, with a ping beside
    one full flow of 58 / 90 ms at 1 Mbit, 6 / 34 at 20, 3 / 6 at 100 and 1.6 / 5 at 1 Gbit. 50 ms without a bound would
    be 43 ms of ping at 100 Mbit; a bfifo that holds whole packets needs room for some of them.
    """
    inner = _inner(leaf_kinds)
    rate = _bytes(rate_bits_per_second)
    if rate_bits_per_second < SEGMENT_BELOW_BITS_PER_SECOND:
        frame = mtu + FRAME_OVERHEAD_BYTES
        wished = min(rate * QUEUE_MILLISECONDS_SEGMENTED // 1000, QUEUE_BYTES_MAX_SEGMENTED)
        limit = max(QUEUE_FRAMES_MIN * frame, wished)
        return objects.Leaf("tbf", frame, limit, inner)
    limit = max(QUEUE_BYTES_MIN_WHOLE, rate * QUEUE_MILLISECONDS_WHOLE // 1000)
    return objects.Leaf("tbf", max(WHOLE_PACKET_BYTES, mtu + FRAME_OVERHEAD_BYTES), limit, inner)


def enforce(
    rate_bits_per_second: int, burst_bytes: int | None, mtu: int, leaf_kinds: frozenset[str]
) -> objects.HtbClass:
    """The class of a limit in Enforce mode; without a burst of its own it has the one that its rate comes to."""
    rate = _bytes(rate_bits_per_second)
    buffer = _buffer(rate_bits_per_second, burst_bytes)
    queue = leaf(rate_bits_per_second, mtu, leaf_kinds)
    return objects.HtbClass(0, rate, rate, buffer, buffer, quantum_bytes(rate_bits_per_second), queue)


def observe(rate_bits_per_second: int, burst_bytes: int | None) -> objects.HtbClass:
    """The class of a limit in Observe mode: it may borrow up to line speed, and HTB counts how often it had to.

    Without a parent a class cannot borrow and would stay at its rate. Its queue is large, so that nothing is dropped.
    """
    rate = _bytes(rate_bits_per_second)
    buffer = _buffer(rate_bits_per_second, burst_bytes)
    queue = objects.Leaf("bfifo", 0, OBSERVE_QUEUE_BYTES, "")
    return objects.HtbClass(
        names.OBSERVE_PARENT,
        rate,
        objects.UNLIMITED_BYTES_PER_SECOND,
        buffer,
        _UNLIMITED_TICKS,
        QUANTUM_MAX_BYTES,
        queue,
    )


def observe_parent() -> objects.HtbClass:
    """The parent of the Observe classes of a device: fast enough to lend to all of them."""
    return _unlimited(None)


def default_class(leaf_kinds: frozenset[str]) -> objects.HtbClass:
    """Return the class for traffic without a limit, where HTB replaced a fair root qdisc: unlimited, and fair again."""
    queue = objects.Leaf("tbf", WHOLE_PACKET_BYTES, OBSERVE_QUEUE_BYTES, _inner(leaf_kinds))
    return _unlimited(queue)


def _inner(leaf_kinds: frozenset[str]) -> str:
    return "fq_codel" if "fq_codel" in leaf_kinds else "bfifo"


def _unlimited(queue: objects.Leaf | None) -> objects.HtbClass:
    rate = objects.UNLIMITED_BYTES_PER_SECOND
    return objects.HtbClass(0, rate, rate, _UNLIMITED_TICKS, _UNLIMITED_TICKS, QUANTUM_MAX_BYTES, queue)


def _bytes(bits_per_second: int) -> int:
    return bits_per_second // 8


def _buffer(rate_bits_per_second: int, burst_bytes: int | None = None) -> int:
    """The time that a burst takes at the rate."""
    wanted = burst.computed(rate_bits_per_second) if burst_bytes is None else burst_bytes
    return ticks(wanted, _bytes(rate_bits_per_second))


_UNLIMITED_TICKS = _buffer(objects.UNLIMITED_BYTES_PER_SECOND * 8)
