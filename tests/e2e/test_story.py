"""The story of docs/story.md, shorter: a client loops over its mailbox, and another one waits for its mail."""

from __future__ import annotations

from bandwidth_demo.mail_story import by_hand, outside, recording, verdict
from e2e.world import World

PLAINLY = 1.3  # so much longer is longer, however busy the machine


def test_a_limit_on_the_greedy_mail_client_gives_the_other_its_mail_back(world: World) -> None:
    """The greedy client is found, slowed and let go by `kubectl cbl`; reading mail is slow without its limit alone."""
    outside.build_image()
    recorded = by_hand.play(world.cluster, by_hand.QUICK, print)
    _, beside, limited, deleted = recording.phases(recorded)
    assert recorded.named == recording.GREEDY_ADDRESS
    assert limited.failures == 0
    assert 0.9 <= limited.greedy_bits_per_second / by_hand.LIMIT_BITS_PER_SECOND <= verdict.RATIO_MAX
    assert beside.median > PLAINLY * limited.median
    assert deleted.median > PLAINLY * limited.median
    assert recording.seconds_until_slowed(recorded, recorded.events[1], by_hand.LIMIT_BITS_PER_SECOND) is not None
