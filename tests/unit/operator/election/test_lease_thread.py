"""What the thread that keeps the Lease does in a turn, over a Lease in memory and a clock that a test moves."""

from __future__ import annotations

from typing import Any

from bandwidth_kube import client
from bandwidth_operator.election import lease
from bandwidth_operator.election.lease_thread import LeaseThread
from bandwidth_operator.reporting.health import LEASE_SILENT_SECONDS, Health
from unit.operator.election.test_lease import Server


class Flaky(Server):
    """Fails while `down`."""

    down = False

    def request(self, method: str, path: str, **options: Any) -> client.Object:
        if self.down:
            raise client.UnreachableError("cut")
        return super().request(method, path, **options)


def parts() -> tuple[list[float], Flaky, lease.Lease, Health, LeaseThread]:
    now = [1000.0]
    server = Flaky(now)
    held = lease.Lease(server, "ns", "one_1", lambda: now[0])
    health = Health(lambda: now[0])
    return now, server, held, health, LeaseThread(held, health, lambda: now[0])


def test_a_free_lease_is_taken_and_kept() -> None:
    """By one turn, and by each that follows in time."""
    now, _, _, health, thread = parts()
    thread.turn()
    fence = thread.wait_leading(0.0)
    assert fence is not None
    for _ in range(20):
        now[0] += lease.RENEW_SECONDS
        thread.turn()
        assert thread.wait_leading(0.0) is fence
    assert health.ready().good


def test_an_api_server_that_is_away_ends_the_term_and_no_thread() -> None:
    """The fence closes by itself; the next term begins when it answers again, and is another one."""
    now, server, _, health, thread = parts()
    thread.turn()
    first = thread.wait_leading(0.0)
    server.down = True
    now[0] += lease.VALID_SECONDS + 0.1
    thread.turn()
    assert thread.wait_leading(0.0) is None
    now[0] += LEASE_SILENT_SECONDS
    thread.turn()
    assert health.healthy().good
    assert health.ready().message == "the API server does not answer"
    server.down = False
    thread.turn()
    second = thread.wait_leading(0.0)
    assert first is not None
    assert second is not None
    assert second.term > first.term


def test_who_stands_aside_leaves_the_lease_to_others_for_so_long() -> None:
    """It asks for nothing meanwhile, and stays healthy."""
    now, server, held, health, thread = parts()
    thread.turn()
    held.release()
    thread.stand_aside(20.0)
    version = server.version
    now[0] += 19.0
    thread.turn()
    assert (server.version, held.fence) == (version, None)
    assert health.healthy().good
    now[0] += 2.0
    thread.turn()
    assert held.fence is not None
