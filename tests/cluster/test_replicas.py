"""Operators that die, freeze, come back or run side by side, and an API server that goes away."""

from __future__ import annotations

import re
import signal

from cluster.world import LEASES, LIMITS, NAMESPACE, SLICES, World, get, limit


def test_of_two_operators_one_acts(world: World) -> None:
    """While one holds the lease the other stands by and writes nothing."""
    world.agent("node-0")
    first = world.operator("first")
    world.wait(lambda: world.holder().startswith("first_"), "the first leads")
    second = world.operator("second")
    world.create(limit("a"))
    world.wait_ready("a")
    assert world.holder().startswith("first_")
    assert '"leading"' in first.log
    assert '"leading"' not in second.log


def test_what_is_edited_while_the_lease_runs_out_is_not_lost(world: World) -> None:
    """The next leader lists everything while it waits for the lease; what changes behind that list is published too."""
    agent = world.agent("node-0")
    first = world.operator("first")
    world.wait(lambda: world.holder().startswith("first_"), "the first leads")
    world.operator("second")
    world.create(limit("a"), limit("b", ["203.0.113.8"]))
    world.wait_ready("a", "b")
    first.kill()
    rate = 5

    def edited_until_led() -> bool:
        nonlocal rate
        rate += 1
        world.edit("a", egress={"rate": f"{rate}Mbit"})
        return world.holder().startswith("second_")

    world.wait(edited_until_led, "the second leads")
    world.delete("b")
    world.wait(lambda: agent.limits == {"a": rate * 1_000_000}, "the last edit is on the node, and b is lifted")
    generation = world.get(f"{LIMITS}/a")["metadata"]["generation"]
    world.wait(lambda: world.conditions("a")["Ready"]["observedGeneration"] == generation, "the last edit is observed")
    world.wait_ready("a")


def test_a_leader_that_ends_politely_is_followed_at_once(world: World) -> None:
    """At SIGTERM the leader gives the lease up and exits 0; the next one does not wait for its end."""
    first = world.operator("first")
    world.wait(lambda: world.holder().startswith("first_"), "the first leads")
    second = world.operator("second")
    world.wait(lambda: "standing by" in second.log, "the second stands by")
    assert first.stop() == 0
    assert not world.holder().startswith("first_")
    world.wait(lambda: world.holder().startswith("second_"), "the second leads")


def test_a_frozen_and_woken_leader_cannot_write(world: World) -> None:
    """A leader stopped for longer than its lease finds its right gone before its first write, and stands by; it is a
    replica like any other from then on."""
    world.agent("node-0")
    first = world.operator("first")
    world.wait(lambda: world.holder().startswith("first_"), "the first leads")
    second = world.operator("second")
    world.create(limit("a"))
    world.wait_ready("a")
    first.signal(signal.SIGSTOP)
    world.wait(lambda: world.holder().startswith("second_"), "the second leads")
    # What the frozen one has in its buffers when it wakes: an edit that it would like to publish.
    world.edit("a", egress={"rate": "9Mbit"})
    world.wait(lambda: world.rates() == {"a": 9_000_000}, "the second has published the edit")
    world.wait(lambda: world.conditions("a")["Ready"]["observedGeneration"] == 2, "generation 2 is observed")
    world.wait_ready("a")
    world.settled()
    term = max(s["spec"]["term"] for s in world.items(SLICES))
    before = world.versions()
    first.signal(signal.SIGCONT)
    world.wait(lambda: first.log.count("standing by") == 2, "the first stands by")
    assert world.versions() == before
    assert max(s["spec"]["term"] for s in world.items(SLICES)) == term
    assert world.holder().startswith("second_")
    second.kill()
    world.create(limit("b", ["203.0.113.8"]))
    world.wait(lambda: world.holder().startswith("first_"), "the first leads again")
    world.wait_ready("b")


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
    """A term that begins again because the Lease was deleted is lifted above that of the slices."""
    world.agent("node-0")
    first = world.operator("warm-up")
    world.wait(lambda: world.holder() != "", "a replica leads")
    first.stop()
    second = world.operator("second")
    world.create(limit("a"))
    world.wait_ready("a")
    second.stop()
    world.api.request("DELETE", f"{LEASES}/client-bandwidth-operator")
    world.operator("third")
    world.edit("a", egress={"rate": "8Mbit"})
    world.wait(lambda: world.rates() == {"a": 8_000_000}, "the edit is published")


def test_a_restart_writes_nothing(world: World) -> None:
    """An operator that starts where everything is right writes neither slices nor statuses nor events."""
    for n in range(3):
        world.agent(f"node-{n}")
    first = world.operator("first")
    world.create(*(limit(f"a-{n:03d}", [f"203.0.113.{n}"]) for n in range(1, 120)))
    world.wait_ready(*(f"a-{n:03d}" for n in range(1, 120)))
    world.settled()
    first.stop()  # which may have been telling events until now
    before, events = world.versions(), len(world.items("/api/v1/namespaces/default/events"))
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
        return world.rates() == {"a": 5_000_000}

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
    world.wait(lambda: world.rates() == {"a": 5_000_000}, "the slice is right again")
    world.wait_ready("a")


def test_a_head_that_somebody_edits_to_say_retire_is_written_over(world: World) -> None:
    """Only a retirement, which has the Lease and so a later term, keeps the operator from its work."""
    world.operator()
    world.agent("node-0")
    world.create(limit("a"))
    world.wait_ready("a")
    path = f"{SLICES}/plan"
    world.api.request("PATCH", path, body={"spec": {"retire": True}}, content_type="application/merge-patch+json")
    world.wait(lambda: not world.get(path)["spec"]["retire"], "the head is right again")
    world.create(limit("b", ["203.0.113.8"]))
    world.wait(lambda: set(world.rates()) == {"a", "b"}, "limits are planned")


def test_the_lease_is_in_the_namespace_of_the_pod(world: World) -> None:
    """POD_NAMESPACE names the namespace of the Lease."""
    world.operator()
    world.wait(lambda: world.holder() != "", "a replica leads")
    assert world.items(LEASES)[0]["metadata"]["namespace"] == NAMESPACE


def test_a_delete_while_no_operator_runs_returns_at_once(world: World) -> None:
    """Nothing of ours holds a limit back from being deleted, and the next operator lifts it."""
    agent = world.agent("node-0")
    operator = world.operator()
    world.create(limit("a"))
    world.wait_ready("a")
    operator.kill()
    world.plane.kubectl("delete", "cbl", "a", "--timeout=30s")  # it waits until the limit is really gone
    assert world.items(LIMITS) == []
    world.operator("successor")
    world.wait(lambda: agent.limits == {}, "the limit is lifted")
