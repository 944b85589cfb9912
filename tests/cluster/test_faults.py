"""An API server that misbehaves towards the operator: cut, frozen and ended watches, refusals, expired lists."""

from __future__ import annotations

import re
import threading
import time

import pytest

from bandwidth_lab.fault_proxy import FaultProxy
from cluster.world import World, get, limit


def test_a_watch_that_is_cut_in_the_middle_of_a_line_goes_on(world: World, proxy: FaultProxy) -> None:
    """Nothing is lost and nothing is taken from half a line."""
    agent = world.agent("node-0")
    operator = world.operator(server=proxy.server)
    world.create(limit("a"))
    world.wait_ready("a")
    for rate in range(6, 16):
        proxy.cut()
        world.edit("a", egress={"rate": f"{rate}Mbit"})
        world.wait(lambda rate=rate: agent.limits == {"a": rate * 1_000_000}, "the edit is on the node")  # type: ignore[misc]
    world.wait_ready("a")
    assert operator.process.poll() is None


def test_a_watch_that_is_too_old_is_followed_by_a_new_list(world: World, proxy: FaultProxy) -> None:
    """After 410 everything is listed again, and what was deleted meanwhile is lifted."""
    agent = world.agent("node-0")
    world.operator(server=proxy.server)
    world.create(limit("a"), limit("b", ["203.0.113.8"]))
    world.wait_ready("a", "b")
    proxy.end()
    world.delete("a")
    world.wait(lambda: set(agent.limits) == {"b"}, "a is lifted")
    world.create(limit("c", ["203.0.113.9"]))
    world.wait_ready("c")


@pytest.mark.long
@pytest.mark.parametrize("what", ["bandwidthplanslices", "clientbandwidth.io"])
def test_kinds_that_go_and_come_back(world: World, proxy: FaultProxy, what: str) -> None:
    """While a CRD is away, or all of them, the operator asks at leisure; when it is back all goes on."""
    agent = world.agent("node-0")
    world.operator(server=proxy.server)
    world.create(limit("a"))
    world.wait_ready("a")
    away = threading.Event()
    away.set()
    proxy.refuse(404, "NotFound", lambda method, path: away.is_set() and what in path, times=10_000)
    proxy.cut()
    world.create(limit("b", ["203.0.113.8"]))
    before = proxy.count("PATCH", "plan")
    time.sleep(6.0)
    assert proxy.count("PATCH", "plan") - before < 20
    away.clear()
    world.wait_ready("b")
    assert set(agent.limits) == {"a", "b"}


def test_an_error_that_ends_kopf_does_not_end_the_watching(world: World, proxy: FaultProxy) -> None:
    """An error in a watch that kopf gives up at is followed by a new start of the watches."""
    agent = world.agent("node-0")
    operator = world.operator(server=proxy.server)
    world.create(limit("a"), limit("b", ["203.0.113.8"]))
    world.wait_ready("a", "b")
    for rate in (6, 7):
        proxy.end(500, "InternalError")
        world.delete("b") if rate == 6 else world.edit("a", reason="another event")
        world.wait(lambda: "begun again" in operator.log, "the watch is begun again")
        world.edit("a", egress={"rate": f"{rate}Mbit"})
        world.wait(lambda rate=rate: agent.limits == {"a": rate * 1_000_000}, "the edit is on the node")  # type: ignore[misc]


def test_a_token_that_is_refused_is_read_again(world: World, proxy: FaultProxy) -> None:
    """After 401 the watches log in again and go on."""
    agent = world.agent("node-0")
    world.operator(server=proxy.server)
    world.create(limit("a"))
    world.wait_ready("a")
    proxy.refuse(401, "Unauthorized", lambda method, path: "watch=true" in path, times=1)
    proxy.cut()
    world.edit("a", egress={"rate": "6Mbit"})
    world.wait(lambda: agent.limits == {"a": 6_000_000}, "the edit is on the node")
    world.edit("a", egress={"rate": "7Mbit"})
    world.wait(lambda: agent.limits == {"a": 7_000_000}, "and the next one")


def test_refusals_are_waited_out(world: World, proxy: FaultProxy) -> None:
    """429 with Retry-After and 503, on reads and writes: the operator waits as asked and gets there."""
    world.agent("node-0")
    proxy.refuse(429, "TooManyRequests", lambda method, path: "leases" not in path, times=3, retry_after_seconds=1)
    proxy.refuse(503, "ServiceUnavailable", lambda method, path: "leases" not in path, times=3)
    world.operator(server=proxy.server)
    world.create(limit("a"))
    world.wait_ready("a")
    plan = lambda method, path: method == "PATCH" and "slices" in path  # noqa: E731
    proxy.refuse(429, "TooManyRequests", plan, times=2, retry_after_seconds=1)
    before, began = proxy.count("PATCH"), time.monotonic()
    world.edit("a", egress={"rate": "6Mbit"})
    world.wait(lambda: world.conditions("a")["Ready"]["observedGeneration"] == 2, "the edit is observed")
    world.wait(lambda: world.in_force("a", 2), "the edit is in force")
    assert time.monotonic() - began >= 2
    assert proxy.count("PATCH") - before <= 10


@pytest.mark.long
def test_an_absurd_retry_after_stops_nothing_for_long(world: World, proxy: FaultProxy) -> None:
    """A server or what is before it may ask for a day, of a write, of a list or of a watch: all is tried again after
    half a minute at most."""
    agent = world.agent("node-0")
    world.operator(server=proxy.server)
    world.create(limit("a"))
    world.wait_ready("a")
    proxy.refuse(429, "TooManyRequests", lambda method, path: "slices/" in path, retry_after_seconds=100_000)
    world.edit("a", egress={"rate": "6Mbit"})
    world.wait(lambda: world.in_force("a", 2), "the edit is in force", 40)
    proxy.refuse(429, "TooManyRequests", lambda method, path: "watch=true" in path, times=4, retry_after_seconds=86_400)
    lists = lambda method, path: method == "GET" and "fieldSelector" in path  # noqa: E731
    proxy.refuse(429, "TooManyRequests", lists, times=4, retry_after_seconds=86_400)
    proxy.end()
    world.edit("a", egress={"rate": "7Mbit"})
    world.wait(lambda: agent.limits == {"a": 7_000_000}, "the edit is on the node", 60)
    world.edit("a", egress={"rate": "8Mbit"})
    world.wait(lambda: agent.limits == {"a": 8_000_000}, "and the next one", 60)


def test_a_list_whose_continue_token_expired_is_begun_again(world: World, proxy: FaultProxy) -> None:
    """Nothing is concluded from half a list: no limit is lifted, all are planned."""
    agent = world.agent("node-0")
    world.create(*(limit(f"a-{n:04d}", [f"10.0.{n // 250}.{n % 250 + 1}"]) for n in range(520)))
    proxy.refuse(410, "Expired", lambda method, path: "continue=" in path, times=2)
    world.operator(server=proxy.server)
    world.wait(lambda: len(agent.limits) == 520, "all are on the node")


@pytest.mark.long
def test_while_a_watch_stays_frozen_lists_take_its_place(world: World, proxy: FaultProxy) -> None:
    """Edits come by lists within seconds, /readyz and the log name the watch that brings nothing, /healthz is content
    since every thread does its work; and all is well again once the watch brings something."""
    agent = world.agent("node-0")
    operator = world.operator("operator", "--metrics-address", "127.0.0.1:0", server=proxy.server)
    world.create(limit("a"))
    world.wait_ready("a")
    port = re.findall(r'"port": (\d+)', operator.log)[0]
    world.wait(lambda: get(port, "/readyz") == (200, "acting\n"), "/readyz is content")
    proxy.freeze()
    world.edit("a", egress={"rate": "6Mbit"})
    world.wait(lambda: agent.limits == {"a": 6_000_000}, "the edit is on the node")
    world.wait(lambda: "the watch of limits has brought nothing" in get(port, "/readyz")[1], "/readyz says so", 120)
    assert get(port, "/healthz") == (200, "ok\n")
    world.wait(lambda: "lists take its place" in operator.log, "the log says so")
    for rate in (7, 8):
        world.edit("a", egress={"rate": f"{rate}Mbit"})
        world.wait(lambda rate=rate: agent.limits == {"a": rate * 1_000_000}, "the edit is on the node", 20)  # type: ignore[misc]
        assert get(port, "/readyz")[0] == 503
    proxy.thaw()
    world.wait(lambda: get(port, "/readyz") == (200, "acting\n"), "/readyz is content")
    world.edit("a", egress={"rate": "9Mbit"})
    world.wait(lambda: agent.limits == {"a": 9_000_000}, "the edit is on the node")
