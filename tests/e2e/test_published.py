"""A release in a registry: it is installed and upgraded as its notes say, by helm and without, and cannot be forged."""

from __future__ import annotations

import json
import pathlib
import shutil
import tarfile

import pytest

from bandwidth_lab.kind import published, registry, release, shell
from bandwidth_lab.kind.client import Client
from bandwidth_lab.kind.published import Published
from e2e.world import NODE_STATES, World, slowed


@pytest.fixture(scope="module")
def pulled(
    shared: World, place: registry.Registry, releases: tuple[Published, Published]
) -> tuple[Published, Published]:
    """The same, where the nodes of the cluster can pull them."""
    place.open_to(shared.cluster)
    return releases


@pytest.fixture
def bare(empty: World) -> World:
    """The cluster as if nothing of ours had ever been in it."""
    if empty.release.installed:
        empty.release.uninstall()
    ours = "app.kubernetes.io/part-of=client-bandwidth-operator"
    empty.cluster.kubectl("delete", "crd", "-l", ours, "--timeout=60s", timeout=70)
    empty.cluster.kubectl("delete", "namespace", release.NAMESPACE, "--ignore-not-found", timeout=120)
    return empty


def cosign(*words: str) -> str:
    return shell.run([shell.run(published.COSIGN).strip(), *words])


def verify(of: Published, reference: str) -> str:
    key = str(of.dist / "cosign.pub")
    return cosign("verify", "--key", key, "--insecure-ignore-tlog", "--allow-http-registry", reference)


def verify_sums(folder: pathlib.Path) -> str:
    """As the notes of a release say."""
    words = ("--bundle", str(folder / "SHA256SUMS.sigstore.json"), str(folder / "SHA256SUMS"))
    return cosign("verify-blob", "--key", str(folder / "cosign.pub"), "--insecure-ignore-tlog", *words)


def versions_that_run(world: World) -> set[str]:
    return {one["status"]["version"] for one in world.cluster.get(NODE_STATES)["items"]}


def images_that_run(world: World) -> set[str]:
    pods = [pod for program in ("operator", "agent") for pod in world.release.pods(program)]
    return {container["image"] for pod in pods for container in pod["spec"]["containers"]}


def test_installed_and_upgraded_by_helm(
    bare: World, pulled: tuple[Published, Published], clients: dict[str, Client]
) -> None:
    """The chart in the registry needs no value: a limit holds, and holds on with the next release."""
    older, newer = pulled
    world, greedy = bare, clients["one"]

    def helm(verb: str, of: Published) -> None:
        chart = f"oci://{of.registry}/charts/client-bandwidth-operator"
        new = ("--create-namespace",) if verb == "install" else ()
        world.release.helm(
            verb, release.NAME, chart, "--version", of.version, "--plain-http", *new, "--wait", "--timeout=180s"
        )
        world.release.wait_ready()
        assert images_that_run(world) == of.images

    helm("install", older)
    with world.downloading(greedy, four=world.flow("far", 4)) as stream:
        world.limit("greedy", [greedy.address(4)])
        stream.await_rate(4, slowed)
        helm("upgrade", newer)
        world.in_force("greedy")
        stream.await_rate(4, slowed)
        shell.eventually("every node has the next release", lambda: versions_that_run(world) == {newer.version})
    world.release.uninstall()


def test_applied_and_upgraded_without_helm(
    bare: World, pulled: tuple[Published, Published], clients: dict[str, Client]
) -> None:
    """Its install.yaml needs nothing else: a limit holds, and holds on with that of the next release."""
    world, greedy = bare, clients["two"]
    with world.downloading(greedy, four=world.flow("near", 4)) as stream:
        for of in pulled:
            assert ":dev" not in of.install
            world.cluster.kubectl("apply", "--server-side", "-f", str(of.dist / "install.yaml"))
            for what in ("deployment/client-bandwidth-operator", "daemonset/client-bandwidth-agent"):
                world.cluster.kubectl("-n", release.NAMESPACE, "rollout", "status", what, "--timeout=120s", timeout=130)
            world.release.wait_ready()
            assert images_that_run(world) == of.images
            world.limit("greedy", [greedy.address(4)])
            world.in_force("greedy")
            stream.await_rate(4, slowed)
            shell.eventually("every node has it", lambda of=of: versions_that_run(world) == {of.version})
    world.lift_all()
    operator = ("-n", release.NAMESPACE, "exec", "deploy/client-bandwidth-operator", "--", "bandwidth-operator")
    world.cluster.kubectl(*operator, "retire", "--stand-by", "60", timeout=120)
    world.cluster.kubectl("delete", "-f", str(pulled[-1].dist / "install.yaml"), "--timeout=120s", timeout=150)


def test_what_is_published_is_signed(releases: tuple[Published, Published], tmp_path: pathlib.Path) -> None:
    """Images, chart and checksums verify with the public key, and every file of the release has its checksum."""
    of = releases[-1]
    assert len(of.references) == 3
    for reference in of.references:
        verify(of, reference)
    verify_sums(of.dist)
    summed = {line.split()[1] for line in (of.dist / "SHA256SUMS").read_text().splitlines()}
    assert summed == {path.name for path in of.dist.iterdir()} - {"SHA256SUMS", "SHA256SUMS.sigstore.json"}
    shell.run(["sh", "-c", f"cd '{of.dist}' && sha256sum --quiet --check SHA256SUMS"])


def test_what_was_changed_is_refused(releases: tuple[Published, Published], tmp_path: pathlib.Path) -> None:
    """Neither other contents under the name of a release, nor another key, nor changed checksums pass for it."""
    of = releases[-1]
    agent = next(one for one in of.references if "agent" in one)
    name = agent.partition("@")[0]
    forged = tmp_path / "forged"
    shell.run(["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", f"docker://{agent}", f"dir:{forged}"])
    manifest = json.loads((forged / "manifest.json").read_text())
    manifest["annotations"] = {"forged": "yes"}
    (forged / "manifest.json").write_text(json.dumps(manifest))
    place = f"docker://{name}:{of.version}"
    shell.run(["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", f"dir:{forged}", place])
    with pytest.raises(shell.FailedCommandError, match="no signatures found"):
        verify(of, f"{name}:{of.version}")
    verify(of, agent)

    copy = tmp_path / "dist"
    shutil.copytree(of.dist, copy)
    with (copy / "SHA256SUMS").open("a") as sums:
        sums.write("0\n")
    with pytest.raises(shell.FailedCommandError, match="signature"):
        verify_sums(copy)

    other = tmp_path / "other"
    other.mkdir()
    shell.run(
        ["sh", "-c", f"cd '{other}' && COSIGN_PASSWORD= '{shell.run(published.COSIGN).strip()}' generate-key-pair"]
    )
    with pytest.raises(shell.FailedCommandError):
        cosign("verify", "--key", str(other / "cosign.pub"), "--insecure-ignore-tlog", "--allow-http-registry", agent)


def test_the_plugin_and_the_package_of_a_release(releases: tuple[Published, Published], tmp_path: pathlib.Path) -> None:
    """Each says its version, and the plugin's archive is the one that its manifest for krew names."""
    of = releases[-1]
    archive = of.dist / f"kubectl-cbl-{of.version}.tar.gz"
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "plugin", filter="data")
    assert of.version in shell.run([str(tmp_path / "plugin/kubectl-cbl"), "version", "--client"])
    assert shell.run(["sha256sum", str(archive)]).split()[0] in (of.dist / "cbl.yaml").read_text()
    pip = (str(release.ROOT / ".venv/bin/python"), "-m", "pip", "--disable-pip-version-check", "install", "-q")
    (wheel,) = of.dist.glob("*.whl")
    shell.run([*pip, "--no-index", "--no-deps", "--target", str(tmp_path / "package"), str(wheel)])
    (metadata,) = (tmp_path / "package").glob("*.dist-info/METADATA")
    assert f"\nVersion: {of.version}\n" in metadata.read_text()
