"""Whether what was measured is what is told: complaints as sentences, none when all is well. Pure."""

from __future__ import annotations

from bandwidth_demo.mail_story import recording
from bandwidth_demo.mail_story.recording import GREEDY_ADDRESS, SETTLE_SECONDS, Phase, Recording
from bandwidth_demo.recording import Event

RATIO_MIN, RATIO_MAX = 0.95, 1.02  # of the greedy client's wire rate to its limit
NEVER_ABOVE = 1.05  # of a limit, in any second: its burst, and a reading of the counter that came late
SUFFERS_FACTOR = 1.5  # so much longer than alone does reading take at least, while the uplink is eaten
NORMAL_FACTOR = 1.35  # so much longer than alone may reading take, while the greedy client is limited
IDLE_BITS_PER_SECOND = 100_000  # a client that has stopped gets no more: the ends of its connections
DECISIONS = ("Limited", "Stepped", "Lifted")


def of(recorded: Recording) -> list[str]:
    """Return what is not as the telling has it, as sentences."""
    return by_hand(recorded) if recorded.titles == recording.BY_HAND else unattended(recorded)


def by_hand(recorded: Recording) -> list[str]:
    """Slow beside the greedy client, normal under the limit that a person made, slow again without it."""
    alone, beside, limited, deleted = recording.phases(recorded)
    (event,) = _limits(recorded)
    found = []
    if recorded.named != GREEDY_ADDRESS:
        found.append(f"top showed {recorded.named or 'nobody'} first, and not {GREEDY_ADDRESS}")
    found += _suffered(beside, alone)
    found += _held(recorded, limited, event, alone)
    if deleted.median < SUFFERS_FACTOR * alone.median:
        found.append(f"deleting the limit changed nothing: {deleted.median:.2f} s, alone {alone.median:.2f} s")
    return found + _failed(alone, limited)


def unattended(recorded: Recording) -> list[str]:
    """Slow beside the greedy client until a policy slows it, then normal in both steps, and let go when it stops."""
    told = [(each["decision"], each["client"]) for each in recorded.decided]
    if told != [(what, GREEDY_ADDRESS) for what in DECISIONS]:
        return [f"the policy decided {told}, and not {', '.join(DECISIONS)} for {GREEDY_ADDRESS}"]
    alone, beside, first, second, stops, lifted = recording.phases(recorded)
    one, two = _limits(recorded)[:2]
    # Before and after there is nobody to disturb: what is slow there is the machine, which has other work at times.
    usual = max(alone, lifted, key=lambda phase: phase.median)
    found = _suffered(beside, usual)
    found += _held(recorded, first, one, usual)
    found += _held(recorded, second, two, usual)
    # No gap between the steps: at no second is it faster than in the first one.
    assert one.limit_bits_per_second is not None
    fastest = recording.fastest_second(recorded, one.at + SETTLE_SECONDS, two.at + SETTLE_SECONDS)
    if fastest > NEVER_ABOVE * one.limit_bits_per_second:
        found.append(f"between the steps the greedy client had {fastest / 1e6:.2f} Mbit/s in a second")
    found += [
        f"the greedy client did not stop, it had {phase.greedy_bits_per_second / 1e6:.2f} Mbit/s: {phase.title}"
        for phase in (stops, lifted)
        if phase.greedy_bits_per_second > IDLE_BITS_PER_SECOND
    ]
    return found + _failed(alone, first, second, stops, lifted)


def _limits(recorded: Recording) -> list[Event]:
    return [event for event in recorded.events if event.limit_bits_per_second is not None]


def _suffered(beside: Phase, alone: Phase) -> list[str]:
    if beside.median >= SUFFERS_FACTOR * alone.median:
        return []
    return [f"the quiet client did not suffer: {beside.median:.2f} s, alone {alone.median:.2f} s"]


def _held(recorded: Recording, phase: Phase, event: Event, alone: Phase) -> list[str]:
    """A limit: the greedy client has it, no more and no less, and the quiet one reads as if it were alone."""
    assert event.limit_bits_per_second is not None
    ratio, found = phase.greedy_bits_per_second / event.limit_bits_per_second, []
    if not RATIO_MIN <= ratio <= RATIO_MAX:
        found.append(f"the limited client had {ratio:.3f} of its limit, not {RATIO_MIN} to {RATIO_MAX}: {phase.title}")
    if recording.seconds_until_slowed(recorded, event, event.limit_bits_per_second) is None:
        found.append(f"the greedy client was never slowed: {phase.title}")
    return found + _normal(phase, alone)


def _normal(phase: Phase, alone: Phase) -> list[str]:
    if phase.median <= NORMAL_FACTOR * alone.median:
        return []
    return [f"reading took {phase.median:.2f} s, alone {alone.median:.2f} s: {phase.title}"]


def _failed(*phases: Phase) -> list[str]:
    return [f"{phase.failures} readings failed: {phase.title}" for phase in phases if phase.failures]
