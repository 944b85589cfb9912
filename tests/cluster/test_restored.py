"""An API server that was restored from a backup: versions go back, and what a number meant it means no more."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest

from bandwidth_lab.control_plane import ControlPlane
from bandwidth_lab.fault_proxy import FaultProxy
from cluster.world import LEASES, SLICES, World, get, limit

LEASE = f"{LEASES}/client-bandwidth-operator"
REQUESTS_PER_SECOND = 12.0  # of an operator that mends what a restore did


@pytest.fixture
def proxy(plane: ControlPlane) -> Iterator[FaultProxy]:
    """A proxy before the API server, which counts requests."""
    made = FaultProxy(plane.server, plane.directory / "certificates")
    yield made
    made.close()


def live_on(world: World, writes: int = 150) -> None:
    """Some history after the backup, which the restore takes away."""
    world.delete("deleted-later")
    for number in range(writes):
        world.edit("edited", reason=f"edit {number}", egress={"rate": f"{6 + number % 20}Mbit"})
    world.create(limit("made-later", ["203.0.113.50"]))
    world.wait(lambda: set(world.rates()) == {"edited", "made-later"}, "the plan has followed")


def begin(world: World) -> None:
    world.agent("node-0")
    world.create(limit("edited"), limit("deleted-later", ["203.0.113.8"]))
    world.wait_ready("edited", "deleted-later")
    world.plane.back_up()


@pytest.mark.long
@pytest.mark.parametrize("quick", [True, False])
def test_after_a_restore_all_is_as_the_backup_says_and_edits_arrive(
    world: World, proxy: FaultProxy, quick: bool
) -> None:
    """What was deleted since is back, what was made since is gone, what was edited since is as it was; new limits,
    edits and deletions arrive, statuses are right and no request is made in a loop, whether or not the versions were
    passed before the operator looked."""
    operator = world.operator("operator", "--metrics-address", "127.0.0.1:0", server=proxy.server)
    begin(world)
    live_on(world, 30 if quick else 150)
    world.plane.restore()
    if quick:
        for number in range(120):  # beyond the versions of before, in the time of one renewal of the Lease
            world.edit("deleted-later", reason=f"edit {number}")
    asked, began = len(proxy.requests), time.monotonic()
    world.wait(lambda: world.rates() == {"edited": 5_000_000, "deleted-later": 5_000_000}, "the plan is the backup's")
    world.edit("edited", egress={"rate": "2Mbit"})
    world.create(limit("new", ["203.0.113.4"], "3Mbit"))
    world.delete("deleted-later")
    world.wait(lambda: world.rates() == {"edited": 2_000_000, "new": 3_000_000}, "the plan follows")
    world.wait_ready("edited", "new")
    world.wait(lambda: world.in_force("edited", 2), "the status is of the last edit")
    assert (len(proxy.requests) - asked) / (time.monotonic() - began + 5) < REQUESTS_PER_SECOND
    port = re.findall(r'"port": (\d+)', operator.log)[0]
    world.wait(lambda: get(port, "/readyz") == (200, "acting\n"), "/readyz is content")
    assert operator.process.poll() is None


@pytest.mark.long
def test_a_restore_to_a_time_at_which_another_led(world: World, proxy: FaultProxy) -> None:
    """The Lease names a replica that is no more: when it has run out the plan follows the backup, without a loop."""
    first = world.operator("first")
    begin(world)
    first.kill()
    world.operator("second", server=proxy.server)
    world.wait(lambda: world.holder().startswith("second_"), "the second leads")
    live_on(world)
    world.plane.restore()
    assert world.holder().startswith("first_")
    asked, began = len(proxy.requests), time.monotonic()
    world.edit("edited", egress={"rate": "2Mbit"})
    world.delete("deleted-later")
    world.wait(lambda: world.rates() == {"edited": 2_000_000}, "the plan follows")
    world.wait_ready("edited")
    assert (len(proxy.requests) - asked) / (time.monotonic() - began + 5) < REQUESTS_PER_SECOND


def test_a_restore_to_a_time_without_a_lease(world: World) -> None:
    """An installation that is younger than the backup of its cluster begins its plan again."""
    world.agent("node-0")
    world.create(limit("edited"), limit("deleted-later", ["203.0.113.8"]))
    world.plane.back_up()
    world.operator()
    world.wait_ready("edited", "deleted-later")
    live_on(world, 40)
    world.plane.restore()
    world.wait(lambda: set(world.rates()) == {"edited", "deleted-later"}, "the plan is the backup's")
    world.create(limit("new", ["203.0.113.4"], "3Mbit"))
    world.wait_ready("edited", "deleted-later", "new")


def test_a_head_of_a_backup_that_says_retire_is_written_over(world: World) -> None:
    """Restored beside an operator that holds the Lease, by objects, it is of no retirement of now."""
    world.operator()
    world.agent("node-0")
    world.create(limit("a"))
    world.wait_ready("a")
    head = world.get(f"{SLICES}/plan")
    for term in (head["spec"]["term"] + 40, 2**31, 2**62):
        world.api.request("DELETE", f"{SLICES}/plan")
        world.wait(lambda: world.get(f"{SLICES}/plan"), "the head is back")
        world.api.request("DELETE", f"{SLICES}/plan")
        body = {k: head[k] for k in ("apiVersion", "kind")} | {
            "metadata": {"name": "plan"},
            "spec": {"schema": 1, "term": term, "retire": True, "slices": ["plan-00000"]},
        }
        applied = world.plane.kubectl("create", "-f", "-", stdin=json.dumps(body), check=False)
        if applied.returncode:
            world.api.request("PUT", f"{SLICES}/plan", body=world.get(f"{SLICES}/plan") | {"spec": body["spec"]})
        world.wait(lambda: not world.get(f"{SLICES}/plan")["spec"].get("retire"), "the head is right again")
    world.create(limit("b", ["203.0.113.8"]))
    world.wait(lambda: set(world.rates()) == {"a", "b"}, "limits are planned")
