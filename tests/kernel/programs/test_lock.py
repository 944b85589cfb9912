"""One agent in a network namespace: who keeps a second one out, and who cannot keep the first one out."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bandwidth_agent.kernel import model
from bandwidth_agent.process import lock_name
from bandwidth_lab.node import Node
from kernel.programs.conftest import Host

pytestmark = pytest.mark.root

NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
ROOT_OF_A_POD = ("setpriv", "--bounding-set", "-all,+net_raw,+chown,+kill", "--inh-caps", "-all")
SEPARATE = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
# Takes all that a process without CAP_NET_ADMIN can take: the name, and the lock of the namespace's own file.
SQUATTER = f"""
import fcntl, os, signal, socket, sys
name = socket.socket(socket.AF_UNIX)
name.bind("\\0{lock_name.NAME}")
if "silent" not in sys.argv:
    name.listen(1)
fcntl.flock(os.open("/proc/self/ns/net", os.O_RDONLY), fcntl.LOCK_EX)
print("taken", flush=True)
signal.pause()
"""

# In the place of iptables-restore: begins when it is told to.
LATE_RESTORE = """#!/bin/sh
touch {folder}/begun
read -r go < {folder}/go
exec {program} "$@"
"""


@contextlib.contextmanager
def squatted(host: Host, *words: str, wrapper: tuple[str, ...] = NOBODY) -> Iterator[subprocess.Popen[str]]:
    """The name is taken by another program."""
    command = [*wrapper, "/usr/bin/python3", "-c", SQUATTER, *words]
    process = host.namespace.start(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("wrapper", [NOBODY, ROOT_OF_A_POD], ids=["nobody", "root-of-a-pod"])
@pytest.mark.parametrize("words", [(), ("silent",)], ids=["listens", "silent"])
def test_who_may_not_alter_the_network_keeps_no_agent_out(
    host: Host, words: tuple[str, ...], wrapper: tuple[str, ...]
) -> None:
    """The agent starts, follows, and is named in its log; a second one is refused; cleanup works."""
    with squatted(host, *words, wrapper=wrapper) as squatter:
        host.limit("mail", ["203.0.113.10"], "5Mbit")
        process = host.start()
        host.until_rate("203.0.113.10", 5_000_000)
        assert f"process {squatter.pid} (python3) of user" in host.log.read_text()
        refused = host.call("cleanup")
        assert (refused.returncode, f"(process {process.pid})" in refused.stderr) == (1, True)
        host.kill()
        done = host.call("cleanup")
        assert (done.returncode, host.rate_of("203.0.113.10")) == (0, None)


def test_an_agent_of_an_earlier_version_keeps_the_others_out(host: Host) -> None:
    """One that has only the name is recognised by its rights and its program, and named; it is kept out by ours too."""
    earlier = (sys.executable, "-c", SQUATTER, lock_name.PROGRAM)
    process = host.namespace.start([*earlier], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "taken\n"
    for words in (("run",), ("run", "--once"), ("cleanup",)):
        done = host.call(*words)
        assert (done.returncode, f"(process {process.pid})" in done.stderr) == (1, True)
    process.kill()
    process.communicate()
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    host.start()
    host.until_rate("203.0.113.10", 5_000_000)
    assert "Address already in use" in host.namespace.run([*earlier], check=False).stderr
    host.stop()


def test_agents_of_two_containers_keep_each_other_out(host: Host, tmp_path: pathlib.Path) -> None:
    """With mounts, processes and state directories of their own, but one network."""
    other = Node(host.namespace, tmp_path / "other")
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    host.start()
    host.until_rate("203.0.113.10", 5_000_000)
    done = host.namespace.run([*SEPARATE, *other.command("run")], check=False, timeout=60)
    assert done.returncode == 1
    assert "(in another container)" in done.stderr
    host.kill()
    done = host.namespace.run([*SEPARATE, *other.command("run", "--once")], check=False, timeout=60)
    assert done.returncode == 0


def test_root_of_another_container_is_waited_for_and_then_ignored(host: Host, tmp_path: pathlib.Path) -> None:
    """Its process cannot be seen, so it may be an agent that is being ended; it does not keep others out for ever."""
    code = (
        "import pathlib, sys\n"
        "from bandwidth_agent.process import lock\n"
        "waited = []\n"
        "with lock.Lock(pathlib.Path(sys.argv[1]), waited.append):\n"
        "    print('held after', sum(waited))\n"
    )
    with squatted(host, wrapper=()):
        done = host.namespace.run([*SEPARATE, sys.executable, "-c", code, str(tmp_path)])
    assert done.stdout.splitlines()[-1] == "held after 15.0"
    assert "a process in another container of user 0" in done.stdout


def test_the_lock_goes_with_its_process(host: Host) -> None:
    """However it ends, the next one starts at once."""
    for _ in range(3):
        process = host.start()
        host.until(lambda: "started" in host.log.read_text())
        host.kill()
        assert process.returncode == -9
        assert host.call("run", "--once").returncode == 0
        host.log.write_text("")
    assert os.listdir(host.state)


@contextlib.contextmanager
def killed_over_a_restore(host: Host, folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """An agent is killed while iptables-restore works for it; who writes a line to what is yielded lets that go on."""
    folder.mkdir()
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    go, program = folder / "go", shutil.which("iptables-nft-restore", path=path)
    os.mkfifo(go)
    late = folder / "iptables-nft-restore"
    late.write_text(LATE_RESTORE.format(folder=folder, program=program))
    late.chmod(0o755)
    host.start("--iptables-backend", "nft", env=os.environ | {"PATH": f"{folder}:{path}"})
    host.until((folder / "begun").exists)
    host.kill()
    try:
        yield go
    finally:
        with contextlib.suppress(OSError):  # it is no longer read
            os.close(os.open(go, os.O_WRONLY | os.O_NONBLOCK))  # and it ends


@pytest.mark.parametrize("program", ["cleanup", "run"])
def test_what_a_killed_agent_left_running_is_waited_for(host: Host, tmp_path: pathlib.Path, program: str) -> None:
    """Its iptables-restore comes before all that the next program does, and not behind it."""
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    with killed_over_a_restore(host, tmp_path / "late") as go:
        with host.log.open("w") as log:
            following = host.namespace.start(host.command(program), stdout=log.fileno(), stderr=log.fileno())
        host.process = following
        host.until(lambda: "waits for what an agent has left running" in host.log.read_text())
        go.write_text("go\n")
        if program == "cleanup":
            assert following.wait(timeout=60) == 0
            assert host.kernel() == model.EMPTY
        else:
            host.until(lambda: '"started"' in host.log.read_text())
            host.until_rate("203.0.113.10", 5_000_000)
            assert host.stop() == 0
