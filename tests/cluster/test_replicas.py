"""Operators that die, freeze, come back or run side by side, and an API server that goes away."""

from __future__ import annotations

import re
import signal
import time
from typing import Any

from cluster.world import LEASES, LIMITS, NAMESPACE, SLICES, World, get, holder, limit

TAKEOVER_SECONDS = 20.0


def test_of_two_operators_one_acts(world: World) -> None:
    """While one holds the lease the other stands by and writes nothing."""
    world.agent("node-0")
    first = world.operator("first")
    world.wait(lambda: holder(world).startswith("first_"), "the first leads")
    second = world.operator("second")
    world.create(limit("a"))
    world.wait_ready("a")
    assert holder(world).startswith("first_")
    assert '"leading"' in first.log
    assert '"leading"' not in second.log


def test_another_takes_over_when_the_leader_is_killed(world: World) -> None:
    """After kill -9 of the leader the other acts within 20 s, and rewrites nothing that is right."""
    agent = world.agent("node-0")
    first = world.operator("first")
    world.wait(lambda: holder(world).startswith("first_"), "the first leads")
    world.operator("second")
    world.create(limit("a"))
    world.wait_ready("a")
    world.settled()
    before = world.versions()
    first.kill()
    killed_at = time.monotonic()
    world.wait(lambda: holder(world).startswith("second_"), "the second leads", TAKEOVER_SECONDS)
    world.create(limit("b", ["203.0.113.8"]))
    world.wait_ready("b", seconds=max(1.0, TAKEOVER_SECONDS - (time.monotonic() - killed_at)))
    assert agent.limits.keys() == {"a", "b"}
    after = world.versions()
    assert after[f"{LIMITS}/a"] == before[f"{LIMITS}/a"]


def test_a_leader_that_ends_politely_is_followed_at_once(world: World) -> None:
    """At SIGTERM the leader gives the lease up and exits 0; the next one does not wait for its end."""
    first = world.operator("first")
    world.wait(lambda: holder(world).startswith("first_"), "the first leads")
    second = world.operator("second")
    world.wait(lambda: "standing by" in second.log, "the second stands by")
    assert first.stop() == 0
    world.wait(lambda: holder(world).startswith("second_"), "the second leads", 6)


def test_a_frozen_and_woken_leader_cannot_write(world: World) -> None:
    """A leader stopped for longer than its lease finds its right gone before its first write, and stands by."""
    world.agent("node-0")
    first = world.operator("first")
    world.wait(lambda: holder(world).startswith("first_"), "the first leads")
    world.operator("second")
    world.create(limit("a"))
    world.wait_ready("a")
    first.signal(signal.SIGSTOP)
    world.wait(lambda: holder(world).startswith("second_"), "the second leads", TAKEOVER_SECONDS)
    # What the frozen one has in its buffers when it wakes: an edit that it would like to publish.
    world.edit("a", egress={"rate": "9Mbit"})
    world.wait(lambda: _rates(world) == {"a": 9_000_000}, "the second has published the edit")
    world.wait(lambda: world.conditions("a")["Ready"]["observedGeneration"] == 2, "generation 2 is observed")
    world.wait_ready("a")
    world.settled()
    term = max(s["spec"]["term"] for s in world.items(SLICES))
    before = world.versions()
    first.signal(signal.SIGCONT)
    world.wait(lambda: first.log.count("standing by") == 2, "the first stands by")
    assert world.versions() == before
    assert max(s["spec"]["term"] for s in world.items(SLICES)) == term
    assert holder(world).startswith("second_")


def test_a_woken_leader_can_lead_again(world: World) -> None:
    """A leader that was frozen is a replica like any other afterwards."""
    world.agent("node-0")
    first = world.operator("first")
    world.wait(lambda: holder(world).startswith("first_"), "the first leads")
    second = world.operator("second")
    first.signal(signal.SIGSTOP)
    world.wait(lambda: holder(world).startswith("second_"), "the second leads", TAKEOVER_SECONDS)
    first.signal(signal.SIGCONT)
    second.kill()
    world.create(limit("a"))
    world.wait(lambda: holder(world).startswith("first_"), "the first leads again", TAKEOVER_SECONDS)
    world.wait_ready("a")


def test_the_api_server_refuses_a_leader_of_an_earlier_term(world: World) -> None:
    """A slice cannot be written over by a lower term than it carries."""
    world.operator()
    world.create(limit("a"))
    slices = world.wait(lambda: [s for s in world.items(SLICES) if s["metadata"]["name"] == "plan-00000"], "a slice")
    spec = slices[0]["spec"] | {"term": slices[0]["spec"]["term"] - 1}
    patch = world.plane.kubectl(
        *("patch", "bandwidthplanslice", "plan-00000", "--type=merge", "-p", f'{{"spec":{{"term":{spec["term"]}}}}}'),
        check=False,
    )
    assert patch.returncode != 0
    assert "a newer leader has written this object" in patch.stderr


def test_a_deleted_lease_does_not_lock_the_operator_out(world: World) -> None:
    """A term that begins anew because somebody deleted the Lease is lifted above that of the slices."""
    world.agent("node-0")
    first = world.operator("warm-up")
    world.wait(lambda: holder(world) != "", "somebody leads")
    first.stop()
    second = world.operator("second")
    world.create(limit("a"))
    world.wait_ready("a")
    second.stop()
    world.api.request("DELETE", f"{LEASES}/client-bandwidth-operator")
    world.operator("third")
    world.edit("a", egress={"rate": "8Mbit"})
    world.wait(lambda: _rates(world) == {"a": 8_000_000}, "the edit is published", 30)


def test_a_restart_writes_nothing(world: World) -> None:
    """An operator that starts where everything is right writes neither slices nor statuses nor events."""
    for n in range(3):
        world.agent(f"node-{n}")
    first = world.operator("first")
    world.create(*(limit(f"a-{n:03d}", [f"203.0.113.{n}"]) for n in range(1, 120)))
    world.wait_ready(*(f"a-{n:03d}" for n in range(1, 120)), seconds=60)
    world.settled()
    before, events = world.versions(), len(world.items("/api/v1/namespaces/default/events"))
    first.stop()
    second = world.operator("second", "--metrics-address", "127.0.0.1:0")
    world.wait(lambda: '"leading"' in second.log, "the second leads")
    port = re.findall(r'"port": (\d+)', second.log)[0]
    world.wait(lambda: get(port, "/readyz")[1] == "acting\n", "it is ready")
    text = world.wait(
        lambda: (t := get(port, "/metrics")[1]) and 'limits{reason="Ready"} 119.0' in t and t, "it judged all"
    )
    assert world.versions() == before
    assert len(world.items("/api/v1/namespaces/default/events")) == events
    assert "bandwidth_operator_writes_total{" not in text


def test_a_slice_that_somebody_deletes_or_edits_is_restored_and_lifts_nothing(world: World) -> None:
    """Agents keep the limits of a slice that vanished; the operator writes it again."""
    agent = world.agent("node-0")
    world.operator()
    world.create(limit("a"))
    world.wait_ready("a")
    lifted = False

    def restored() -> bool:
        nonlocal lifted
        lifted = lifted or agent.limits != {"a": 5_000_000}
        return _rates(world) == {"a": 5_000_000}

    world.api.request("DELETE", f"{SLICES}/plan-00000")
    world.wait(restored, "the slice is back")
    world.plane.kubectl("delete", "bandwidthplanslice", "plan")
    world.wait(
        lambda: restored() and any(s["metadata"]["name"] == "plan" for s in world.items(SLICES)), "the head is back"
    )
    assert not lifted
    entries = [{"name": "a", "clients": ["203.0.113.7"], "rate": 1, "created": 1}]
    path = f"{SLICES}/plan-00000"
    world.api.request("PATCH", path, body={"spec": {"entries": entries}}, content_type="application/merge-patch+json")
    world.wait(lambda: _rates(world) == {"a": 5_000_000}, "the slice is right again")
    world.wait_ready("a")


def test_a_pause_of_the_api_server_is_survived(world: World) -> None:
    """While the API server is away the operator waits, unready; afterwards it goes on by itself."""
    agent = world.agent("node-0")
    operator = world.operator("operator", "--metrics-address", "127.0.0.1:0")
    world.create(limit("a"))
    world.wait_ready("a")
    port = re.findall(r'"port": (\d+)', operator.log)[0]
    world.plane.stop_api()
    assert agent.limits == {"a": 5_000_000}
    world.wait(lambda: get(port, "/readyz")[0] == 503, "it is not ready", 60)
    assert get(port, "/healthz")[0] == 200
    world.plane.start_api()
    world.create(limit("b", ["203.0.113.8"]))
    world.delete("a")
    world.wait_ready("b", seconds=40)
    world.wait(lambda: set(agent.limits) == {"b"}, "a is lifted, b is on the node")
    world.wait(lambda: get(port, "/readyz")[0] == 200, "it is ready", 40)
    assert operator.process.poll() is None


def test_a_deletion_that_the_watch_missed_is_found(world: World) -> None:
    """A limit deleted while nobody watched, right after the API server came back, is lifted nevertheless."""
    agent = world.agent("node-0")
    world.operator()
    world.create(limit("a"), limit("b", ["203.0.113.8"]))
    world.wait_ready("a", "b")
    world.plane.stop_api()
    world.plane.start_api()
    world.delete("a")
    world.wait(lambda: set(agent.limits) == {"b"}, "a is lifted", 40)


def test_retire_is_left_alone(world: World) -> None:
    """When the head says retire the operator does not write over it, and the nodes report that nothing is left."""
    agent = world.agent("node-0")
    world.operator()
    world.create(limit("a"))
    world.wait_ready("a")
    retire = '{"spec":{"retire":true}}'
    world.plane.kubectl("patch", "bandwidthplanslice", "plan", "--type=merge", "-p", retire)
    world.wait(lambda: agent.limits == {}, "everything is lifted")
    world.wait(lambda: _state(world, "node-0").get("retired") is True, "the node says so")
    world.create(limit("b", ["203.0.113.8"]))
    time.sleep(2)
    assert world.get(f"{SLICES}/plan")["spec"]["retire"] is True
    assert agent.limits == {}


def test_the_lease_is_in_the_namespace_of_the_pod(world: World) -> None:
    """POD_NAMESPACE names the namespace of the Lease."""
    world.operator()
    world.wait(lambda: holder(world) != "", "somebody leads")
    assert world.items(LEASES)[0]["metadata"]["namespace"] == NAMESPACE


def _rates(world: World) -> dict[str, int]:
    entries = [e for s in world.items(SLICES) for e in s["spec"].get("entries", ())]
    return {e["name"]: e["rate"] for e in entries}


def _state(world: World, node: str) -> dict[str, Any]:
    return dict(world.get(f"/apis/clientbandwidth.io/v1alpha1/nodebandwidthstates/{node}").get("status") or {})
