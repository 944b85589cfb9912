"""kubectl cbl with every way that kubectl has to reach a cluster, and without the right, or the way, to do so."""

from __future__ import annotations

import json
import os
import pathlib
import select
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from typing import Any

import pytest

from cluster.plugin import ROOT, Plugin
from cluster.world import LIMITS, QUERIES, World, limit

pytestmark = pytest.mark.xdist_group("plugin access")


def config(plugin: Plugin, user: dict[str, Any] | None, name: str = "test", **cluster: Any) -> str:
    """A kubeconfig in its own file."""
    where = {"server": plugin.plane.server, "certificate-authority": str(plugin.plane.ca_file), **cluster}
    text = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": where}],
        "users": [{"name": name, "user": user or {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "mail"}}],
        "current-context": name,
    }
    path = plugin.directory / f"{name}-{len(list(plugin.directory.iterdir()))}.kubeconfig"
    path.write_text(json.dumps(text))
    return str(path)


def token(plugin: Plugin) -> str:
    """The administrator's."""
    return str(json.loads(plugin.kubeconfig.read_text())["users"][0]["user"]["token"])


def names(done: Any) -> list[str]:
    assert done.code == 0, done
    return [line.partition("/")[2] for line in done.out]


def test_a_token_in_a_file_and_a_context_with_a_namespace(world: World, plugin: Plugin) -> None:
    """The namespace of the context changes nothing, nor does one that is typed."""
    world.create(limit("a"))
    file = plugin.directory / "token"
    file.write_text(token(plugin))
    path = config(plugin, {"tokenFile": str(file)})
    assert names(plugin.run("list", "-o", "name", kubeconfig=path)) == ["a"]
    assert names(plugin.run("-n", "other", "list", "-o", "name", kubeconfig=path)) == ["a"]


def test_a_program_that_fetches_credentials(world: World, plugin: Plugin) -> None:
    """What it says to its user is shown, and its token counts for reads, writes and watches."""
    program = plugin.directory / "login"
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": token(plugin)},
    }
    program.write_text(f"#!/bin/sh\necho 'log in at https://login.example' >&2\necho '{json.dumps(credential)}'\n")
    program.chmod(0o755)
    run = {"apiVersion": credential["apiVersion"], "command": str(program), "interactiveMode": "IfAvailable"}
    path = config(plugin, {"exec": run})
    done = plugin.run("slow", "203.0.113.7", "--rate", "5Mbit", "--reason", "x", "-y", "--wait", "1", kubeconfig=path)
    assert done.code == 2, done  # no operator runs here
    assert "log in at https://login.example" in done.errors
    assert world.get(f"{LIMITS}/slow-203-0-113-7")


def test_a_client_certificate(world: World, plugin: Plugin, tmp_path: pathlib.Path) -> None:
    """That the API server takes for nobody it knows is refused as by kubectl, with what to do."""
    files = {"client-certificate": tmp_path / "c.pem", "client-key": tmp_path / "k.pem"}
    subprocess.run(
        [*("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=eve", "-days", "1"),
         *("-keyout", str(files["client-key"]), "-out", str(files["client-certificate"]))],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    done = plugin.run("list", kubeconfig=config(plugin, {name: str(path) for name, path in files.items()}))
    assert done.code == 1
    assert done.errors.startswith("error: ")
    assert "Traceback" not in done.errors


def test_several_files_and_another_context(world: World, plugin: Plugin) -> None:
    """KUBECONFIG may name many; --context chooses among all of them, before the verb or behind it."""
    world.create(limit("a"))
    bad = config(plugin, {"token": "bad"}, "bad")
    good = config(plugin, {"token": token(plugin)}, "good")
    both = os.pathsep.join((bad, good))
    refused = plugin.run("list", kubeconfig=both)
    assert refused.code == 1
    assert "does not accept your credentials" in refused.errors
    assert names(plugin.run("list", "-o", "name", "--context", "good", kubeconfig=both)) == ["a"]
    assert names(plugin.run("--context=good", "list", "-o", "name", kubeconfig=both)) == ["a"]
    assert names(plugin.run("list", "-o", "name", "--user", "good", kubeconfig=both)) == ["a"]
    assert names(plugin.run("list", "-o", "name", "--kubeconfig", good, kubeconfig=bad)) == ["a"]


def test_a_server_and_a_token_alone(world: World, plugin: Plugin) -> None:
    """Without any kubeconfig, by flags."""
    world.create(limit("a"))
    flags = ("--server", plugin.plane.server, "--token", token(plugin), "--insecure-skip-tls-verify")
    assert names(plugin.run("list", "-o", "name", *flags, kubeconfig="/dev/null")) == ["a"]


class Tunnel(socketserver.BaseRequestHandler):
    """One connection of a proxy: connects to where it is told, and carries bytes both ways."""

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head and (part := self.request.recv(4096)):
            head += part
        method, target = head.split()[:2]
        self.server.targets.append((method, target))  # type: ignore[attr-defined]
        host, _, port = target.decode().rpartition(":")
        with socket.create_connection((host, int(port)), timeout=30) as beyond:
            self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            ways = {self.request: beyond, beyond: self.request}
            while True:
                for source in select.select(list(ways), [], [], 30)[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    ways[source].sendall(data)


def test_a_proxy_that_a_kubeconfig_names(world: World, plugin: Plugin) -> None:
    """Every request goes through it, also the watch."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Tunnel) as server:
        server.daemon_threads = True
        targets: list[tuple[bytes, bytes]] = []
        server.targets = targets  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        path = config(plugin, {"token": token(plugin)}, **{"proxy-url": f"http://127.0.0.1:{server.server_address[1]}"})
        words = ("slow", "203.0.113.7", "--rate", "5Mbit", "--reason", "x", "-y", "--wait", "1")
        done = plugin.run(*words, kubeconfig=path)
        server.shutdown()
    assert done.code == 2, done  # no operator runs here
    assert world.get(f"{LIMITS}/slow-203-0-113-7")
    assert len(targets) >= 5
    assert set(targets) == {(b"CONNECT", plugin.plane.server.removeprefix("https://").encode())}


def test_another_kubectl(world: World, plugin: Plugin) -> None:
    """KUBECTL names it, with words of its own or without."""
    world.create(limit("a"))
    wrapper = plugin.directory / "my kubectl"
    wrapper.write_text(f'#!/bin/sh\n[ "$1" = kubectl ] && shift\n[ "$1" = -- ] && shift\nexec {plugin.kubectl} "$@"\n')
    wrapper.chmod(0o755)
    assert names(plugin.run("list", "-o", "name", KUBECTL=str(wrapper))) == ["a"]
    assert names(plugin.run("list", "-o", "name", KUBECTL=f"'{wrapper}' kubectl --")) == ["a"]
    missing = plugin.run("list", KUBECTL="/no/such/kubectl")
    assert (missing.code, missing.errors.count("\n")) == (1, 0)
    assert "KUBECTL names /no/such/kubectl" in missing.errors


def test_without_kubectl_there_is_one_clear_line(plugin: Plugin, tmp_path: pathlib.Path) -> None:
    """The plugin by its own name, where PATH has no kubectl."""
    file = plugin.path / "kubectl-cbl"
    done = subprocess.run(
        [sys.executable, "-S", "-I", str(file), "list"],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": str(tmp_path)},
    )
    assert done.returncode == 1
    assert done.stderr == "error: kubectl is not in PATH; install it, or name it in the variable KUBECTL\n"


@pytest.mark.parametrize(
    ("words", "role"),
    [
        (("list",), "client-bandwidth-view"),
        (("status",), "client-bandwidth-view"),
        (("who", "203.0.113.7"), "client-bandwidth-view"),
        (("slow", "203.0.113.7", "--rate", "5Mbit", "--reason", "x", "-y"), "client-bandwidth-view"),
        (("top", "--once", "1"), "client-bandwidth-traffic"),
    ],
)
def test_whoever_has_no_right_learns_which_role_gives_it(
    world: World, plugin: Plugin, words: tuple[str, ...], role: str
) -> None:
    """With --as as with any other user; the exit code is 1 and nothing is made."""
    done = plugin.run(*words, "--as", "bob", "--as-group=dev")
    assert done.code == 1, done
    assert 'User "bob"' in done.errors
    assert role in done.errors
    assert world.items(LIMITS) == []


def test_the_roles_of_the_chart_give_what_they_say(world: World, plugin: Plugin) -> None:
    """view reads; edit makes and lifts, and signs with the name of whoever did it."""
    plane = plugin.plane
    for role, user in (("view", "vera"), ("edit", "ed")):
        plane.kubectl(
            "create", "clusterrolebinding", f"test-{role}", f"--clusterrole=client-bandwidth-{role}", f"--user={user}"
        )
    try:
        world.create(limit("a", ["203.0.113.8"]))
        assert names(plugin.run("list", "-o", "name", "--as=vera")) == ["a"]
        assert plugin.run("status", "--as=vera").code == 2  # no operator runs here
        refused = plugin.run("lift", "a", "-y", "--as=vera")
        assert refused.code == 1
        assert "client-bandwidth-edit" in refused.errors
        words = ("slow", "203.0.113.7", "--rate", "5Mbit", "--reason", "x", "-y", "--wait", "0", "--as=ed")
        made = plugin.run(*words)
        assert made.code == 0, made
        assert "you may not list nodes" in made.errors
        signed = world.get(f"{LIMITS}/slow-203-0-113-7")["metadata"]["annotations"]
        assert signed == {"clientbandwidth.io/author": "ed"}
        assert plugin.run("lift", "203.0.113.7", "-y", "--as=ed").code == 0
    finally:
        plane.kubectl("delete", "clusterrolebinding", "test-view", "test-edit")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_an_interrupted_call_leaves_no_kubectl(
    world: World, plugin: Plugin, tmp_path: pathlib.Path, number: signal.Signals
) -> None:
    """Also those that were under way beside the first, and wait for a server that says nothing."""
    wrapper, log = tmp_path / "kubectl", tmp_path / "pids"
    wait = f"echo $$ >>{log}; exec {shutil.which('sleep')} 300"
    slow = f'case "$*" in */api/v1/nodes*|*nodebandwidthstates*) {wait};; esac'
    wrapper.write_text(f'#!/bin/sh\n{slow}\nexec {plugin.kubectl} "$@"\n')
    wrapper.chmod(0o755)
    process = plugin.started("status", KUBECTL=str(wrapper))
    world.wait(lambda: log.exists() and len(log.read_text().split()) == 2, "both wait")
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert not [pid for pid in log.read_text().split() if b"sleep" in command_of(pid)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_a_question_that_was_asked_at_the_moment_of_the_end_is_taken_back(
    world: World, plugin: Plugin, tmp_path: pathlib.Path, number: signal.Signals
) -> None:
    """The API server has it, and its answer has not come back yet."""
    wrapper, log = tmp_path / "kubectl", tmp_path / "pids"
    late = f'{plugin.kubectl} "$@"; echo $$ >>{log}; exec {shutil.which("sleep")} 300'
    late = f'case "$*" in "create "*clienttrafficqueries*) {late};; esac'
    wrapper.write_text(f'#!/bin/sh\n{late}\nexec {plugin.kubectl} "$@"\n')
    wrapper.chmod(0o755)
    process = plugin.started("top", "--once", "50", KUBECTL=str(wrapper))
    world.wait(lambda: log.exists() and world.items(QUERIES), "the question is asked")
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert world.items(QUERIES) == []


def test_whoever_leaves_does_not_wait_for_a_server_that_says_nothing(
    world: World, plugin: Plugin, tmp_path: pathlib.Path
) -> None:
    """One that neither answers nor refuses to take the question back: it ends by itself within a minute."""
    wrapper = tmp_path / "kubectl"
    sleep = shutil.which("sleep")
    bounded = f"*--request-timeout=3s*) {sleep} 3; exit 1;;"
    silent = f'case "$*" in "delete "*clienttrafficqueries{bounded} "delete "*) exec {sleep} 300;; esac'
    wrapper.write_text(f'#!/bin/sh\n{silent}\nexec {plugin.kubectl} "$@"\n')
    wrapper.chmod(0o755)
    process = plugin.started("top", "--once", "50", KUBECTL=str(wrapper))
    name = world.wait(lambda: world.items(QUERIES), "the question is asked")[0]["metadata"]["name"]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)  # a request has 30 s otherwise
    assert process.returncode == 130
    world.api.request("DELETE", f"{QUERIES}/{name}")


def command_of(pid: str) -> bytes:
    """The words of a process; nothing of one that has ended."""
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def test_a_cluster_that_is_away_is_told_in_one_line(world: World, plugin: Plugin) -> None:
    """While it is away, and no longer than kubectl takes to notice."""
    with world.outage():
        for words in (("list",), ("status",), ("top", "--once", "1"), ("lift", "x", "-y")):
            done = plugin.run(*words)
            assert done.code == 1, done
            assert "the cluster does not answer" in done.errors
            assert "\n" not in done.errors
    assert plugin.run("list").code == 0


def test_a_cluster_without_the_operator_is_told_what_it_lacks(world: World, plugin: Plugin) -> None:
    """Without the CRDs of an operator, and with those of an older one."""
    plane = plugin.plane
    try:
        plane.kubectl("delete", "crd", "clienttrafficqueries.clientbandwidth.io")
        old = plugin.run("top", "--once", "1")
        assert old.code == 1
        assert "does not know ClientTrafficQuery" in old.errors
        assert plugin.run("list").code == 0
        plane.kubectl("delete", "crd", "clientbandwidthlimits.clientbandwidth.io")
        for words in (
            ("list",),
            ("status",),
            ("who", "203.0.113.7"),
            ("lift", "203.0.113.7", "-y"),
            ("lift", "a", "-y"),
        ):
            done = plugin.run(*words)
            assert done.code == 1, done
            assert "this cluster has no client-bandwidth-operator" in done.errors
    finally:
        plane.kubectl("apply", "--server-side", "-f", str(ROOT / "deploy" / "crds"))
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
