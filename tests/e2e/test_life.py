"""The life of a limit, as one who writes limits sees it: changed, observed, for one service only, expired."""

from __future__ import annotations

import datetime

from bandwidth_lab.kind.client import Client
from e2e.world import LIMIT, NEVER_ABOVE, OFFERED, World, fastest, free, slowed


def test_a_changed_rate_is_the_rate(world: World, clients: dict[str, Client]) -> None:
    """Down and up again by kubectl apply: the client follows, and on the way down no second is above the old rate."""
    greedy = clients["one"]
    with world.downloading(greedy, four=world.flow("far", 4)) as stream:
        world.limit("greedy", [greedy.address(4)])
        began = stream.await_rate(4, slowed)
        world.limit("greedy", [greedy.address(4)], LIMIT // 3)
        less = stream.await_rate(4, lambda rate: slowed(rate, LIMIT // 3))
        stream.wait(3)
        assert fastest(stream, 4, began) <= NEVER_ABOVE * LIMIT
        assert fastest(stream, 4, less) <= NEVER_ABOVE * LIMIT // 3
        world.limit("greedy", [greedy.address(4)], LIMIT * 2)
        more = stream.await_rate(4, lambda rate: slowed(rate, LIMIT * 2))
        stream.wait(3)
        assert fastest(stream, 4, more) <= NEVER_ABOVE * LIMIT * 2
    world.in_force("greedy")
    assert world.cluster.get("cbl", "greedy")["status"]["effective"]["rateBitsPerSecond"] == 2 * LIMIT


def test_an_observed_client_is_counted_and_not_slowed(world: World, clients: dict[str, Client]) -> None:
    """Observe leaves the client its rate, and the node reports how much would have been slowed; Enforce then slows."""
    greedy = clients["two"]
    with world.downloading(greedy, four=world.flow("near", 4)) as stream:
        world.limit("seen", [greedy.address(4)], mode="Observe")
        world.in_force("seen")
        since = stream.wait(3)
        assert free(stream.rate(4, since))
        shown = next(one for one in world.shown(world.front)["limits"] if one["name"] == "seen")
        assert shown["mode"] == "Observe"
        assert shown["measuredBitsPerSecond"] > 2 * LIMIT
        world.limit("seen", [greedy.address(4)], mode="Enforce")
        stream.await_rate(4, slowed)
        world.limit("seen", [greedy.address(4)], mode="Disabled")
        stream.await_rate(4, free)


def test_only_the_dialled_port_is_slowed(world: World, clients: dict[str, Client]) -> None:
    """Of two NodePorts that a client downloads from, the one that the limit names is slow and the other is not."""
    greedy = clients["three"]
    with world.downloading(greedy, named=world.flow("far", 4), other=world.flow("near", 4)) as stream:
        stream.await_rate(4, lambda rate: free(rate, 2 * OFFERED))
        world.limit("one-port", [greedy.address(4)], ports=[{"port": world.uploads["far"].port}])
        world.in_force("one-port")
        stream.await_rate(4, lambda rate: rate < OFFERED * 1.1 + LIMIT * 1.05)
        since = stream.wait(4)
        assert stream.payload_rate("named", since) <= LIMIT
        assert free(stream.payload_rate("other", since))


def test_an_expired_limit_lifts_itself(world: World, clients: dict[str, Client]) -> None:
    """A limit with an end is in force until then; afterwards the client is free and the object says that it expired."""
    greedy = clients["four"]
    with world.downloading(greedy, six=world.flow("local", 6)) as stream:
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=15)
        world.limit("until-then", [greedy.address(6)], LIMIT, expiresAt=end.strftime("%Y-%m-%dT%H:%M:%SZ"))
        stream.await_rate(6, slowed)
        stream.await_rate(6, free)
    world.cluster.kubectl(
        "wait",
        "cbl/until-then",
        "--for=jsonpath={.status.conditions[?(@.type=='Ready')].reason}=Expired",
        "--timeout=30s",
    )
