"""A cluster whose nodes and pods have IPv6 addresses alone: everything from the installation to the end of it."""

from __future__ import annotations

import contextlib

from bandwidth_lab.kind import release, shell
from bandwidth_lab.kind.client import Client
from e2e.test_release import differences
from e2e.world import IMAGE, LIMIT, NEVER_ABOVE, World, fastest, free, slowed


def test_a_cluster_with_ipv6_alone(ipv6: World) -> None:
    """Both programs are reached by their probes, a limit is measured at the client, and uninstalling leaves nothing."""
    world = ipv6
    with (
        Client(world.cluster, "greedy", IMAGE) as greedy,
        world.downloading(greedy, six=world.flow("near", 6)) as stream,
    ):
        stream.await_rate(6, free)
        before = world.kernels()
        world.release.install(values=["agent.metrics.host=::", "guardRails.protected={2001:db8::/32}"])
        world.release.helm("test", release.NAME)
        world.limit("greedy", [greedy.address(6)])
        world.in_force("greedy")
        since = stream.await_rate(6, slowed)
        stream.wait(5)
        assert fastest(stream, 6, since) <= NEVER_ABOVE * LIMIT
        pods = [pod for program in ("operator", "agent") for pod in world.release.pods(program)]
        assert {status["restartCount"] for pod in pods for status in pod["status"]["containerStatuses"]} == {0}
        assert all(":" in pod["status"]["podIP"] for pod in pods)
        world.release.uninstall()
        stream.await_rate(6, free)
        shell.eventually("the pods are gone", lambda: not any(map(world.release.pods, ("operator", "agent"))))
        with contextlib.suppress(TimeoutError):
            shell.eventually("the kernel is as before", lambda: differences(before, world.kernels()) == "", seconds=30)
        assert differences(before, world.kernels()) == ""
    assert world.condition("greedy", "Ready")["reason"] == "Retired"
