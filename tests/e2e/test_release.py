"""What helm does to clients that download: upgrade, downgrade, uninstall without a trace, install over the kept."""

from __future__ import annotations

import pathlib
import re
import shutil

from bandwidth_lab.kind import release, shell
from bandwidth_lab.kind.client import Client
from bandwidth_lab.kind.node import Node
from e2e.world import LIMIT, NEVER_ABOVE, QUIET, World, fastest, free, slowed

NEXT_TAG = "next"
KINDS = "pods,daemonsets,deployments,jobs,configmaps,serviceaccounts,leases,namespaces,customresourcedefinitions"
OURS = "clientbandwidthlimits,bandwidthplanslices,nodebandwidthstates"


def test_upgrade_and_downgrade_under_traffic(world: World, clients: dict[str, Client], tmp_path: pathlib.Path) -> None:
    """Another version of chart and images and back again: no second above the limit, and no other client notices."""
    for image in release.IMAGES:
        shell.run(["docker", "tag", f"{image}:{release.TAG}", f"{image}:{NEXT_TAG}"])
    world.cluster.load(*(f"{image}:{NEXT_TAG}" for image in release.IMAGES))
    newer = tmp_path / "chart"
    shutil.copytree(release.CHART, newer)
    text = (newer / "Chart.yaml").read_text()
    (newer / "Chart.yaml").write_text(re.sub(r"(?m)^version: .*$", "version: 99.0.0", text))

    greedy = clients["one"]
    with (
        world.downloading(greedy, four=world.flow("far", 4), six=world.flow("host", 6)) as stream,
        world.downloading(clients["quiet"], quiet=world.flow("near", 4, QUIET)) as quiet,
    ):
        world.limit("greedy", [greedy.address(4), greedy.address(6)], sharing="PerEntry")
        since = {family: stream.await_rate(family, slowed) for family in (4, 6)}
        began = quiet.now
        for chart, tag in ((newer, NEXT_TAG), (release.CHART, release.TAG)):
            world.release.install(chart=chart, tag=tag)
            assert images_in_use(world) == {f"{image}:{tag}" for image in release.IMAGES}
            world.in_force("greedy")
            for family in (4, 6):
                stream.await_rate(family, slowed)
        for family in (4, 6):
            assert fastest(stream, family, since[family]) <= NEVER_ABOVE * LIMIT, family
        assert free(quiet.rate(4, began), QUIET)
    for image in release.IMAGES:
        shell.run(["docker", "rmi", f"{image}:{NEXT_TAG}"], check=False)


def images_in_use(world: World) -> set[str]:
    """The images of all pods of the release."""
    pods = [pod for program in ("operator", "agent") for pod in world.release.pods(program)]
    return {
        container["image"].removeprefix("docker.io/library/") for pod in pods for container in pod["spec"]["containers"]
    }


def test_uninstalled_without_a_trace(empty: World, clients: dict[str, Client]) -> None:
    """Every node's rules, sets, qdiscs and devices are as before the installation, and nothing hangs in Terminating."""
    world = empty
    if world.release.installed:
        world.release.uninstall()
    before = world.kernels()
    world.release.install()
    greedy = clients["two"]
    with world.downloading(greedy, four=world.flow("far", 4), six=world.flow("near", 6)) as stream:
        world.limit("greedy", [greedy.address(4), greedy.address(6)], sharing="PerEntry")
        for family in (4, 6):
            stream.await_rate(family, slowed)
        world.in_force("greedy")
        assert world.kernels() != before
        world.release.uninstall()
        for family in (4, 6):
            stream.await_rate(family, free)
    shell.eventually(
        "the pods are gone", lambda: not world.release.pods("agent") and not world.release.pods("operator")
    )
    shell.eventually("every kernel is as before", lambda: differences(before, world.kernels()) == "", seconds=30)
    assert differences(before, world.kernels()) == ""
    left = [*world.cluster.get(KINDS, "-A")["items"], *world.cluster.get(OURS)["items"]]
    assert [one["metadata"]["name"] for one in left if "deletionTimestamp" in one["metadata"]] == []
    assert [one["metadata"]["name"] for one in world.cluster.get("cbl")["items"]] == ["greedy"]
    ready = world.condition("greedy", "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "Retired")


def differences(before: dict[str, dict[str, str]], after: dict[str, dict[str, str]]) -> str:
    """The lines that only one of two states has, for a person."""
    told = []
    for node, kinds in before.items():
        for kind, text in kinds.items():
            if text != after[node][kind]:
                had, has = set(text.splitlines()), set(after[node][kind].splitlines())
                told += [f"{node} {kind} - {line}" for line in sorted(had - has)]
                told += [f"{node} {kind} + {line}" for line in sorted(has - had)] or [f"{node} {kind}: another order"]
    return "\n".join(told)


def test_installed_over_what_the_kernel_holds(world: World, clients: dict[str, Client]) -> None:
    """Agents that find the limits in the kernel adopt them: nothing is made again, and no second is above the limit."""
    greedy = clients["three"]
    with world.downloading(greedy, four=world.flow("far", 4), six=world.flow("host", 6)) as stream:
        world.limit("greedy", [greedy.address(4), greedy.address(6)], sharing="PerEntry")
        since = {family: stream.await_rate(family, slowed) for family in (4, 6)}
        world.in_force("greedy")
        world.release.uninstall("--no-hooks")
        shell.eventually("the agents are gone", lambda: not world.release.pods("agent"))
        kept, sent = world.front.kernel_state(), bytes_sent(world.front)
        world.release.install()
        world.in_force("greedy")
        for family in (4, 6):
            stream.await_rate(family, slowed)
            assert fastest(stream, family, since[family]) <= NEVER_ABOVE * LIMIT, family
        assert differences({"front": kept}, {"front": world.front.kernel_state()}) == ""
        assert all(after >= sent[at] > 0 for at, after in bytes_sent(world.front).items() if at in sent)
        assert set(sent) == set(bytes_sent(world.front))


def bytes_sent(node: Node) -> dict[str, int]:
    """The bytes that each class of ours has sent since it was made."""
    text = node.run(
        "sh", "-c", "PATH=$PATH:/usr/sbin:/sbin; for d in $(ls /sys/class/net); do tc -s class show dev $d; done"
    )
    return {name: int(count) for name, count in re.findall(r"class htb (7cb1:\S+).*\n Sent (\d+) bytes", text)}
