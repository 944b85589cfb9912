"""A Debian host in a container without any network but one of its own: eth0, behind which a client is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator

import pytest

from bandwidth_lab.kind import shell

HERE = pathlib.Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build" / "deb"
DIST = HERE.parents[1] / "dist"
CLIENT = "192.0.2.3"
IN_CLIENT = ("ip", "netns", "exec", "client")
BOOTED = ("running", "degraded")
LIMIT = f"""\
apiVersion: clientbandwidth.io/v1alpha1
kind: ClientBandwidthLimit
metadata: {{name: slow}}
spec: {{clients: [{CLIENT}], egress: {{rate: 8Mbit}}, reason: test}}
"""
# 192.0.2.2 is the gateway, which no limit may slow down.
NETWORK = f"""\
ip netns add client
ip link add eth0 type veth peer name far netns client
ip address add 192.0.2.1/24 dev eth0
ip link set eth0 up
ip -n client address add 192.0.2.2/24 dev far
ip -n client address add {CLIENT}/24 dev far
ip -n client link set far up
ip route add default via 192.0.2.2
"""
SINK = """\
import socket
with socket.create_server(("192.0.2.3", 9000)) as server:
    print("ready", flush=True)
    taken, _ = server.accept()
    while taken.recv(1 << 16): pass
"""
SOURCE = """\
import socket
with socket.create_connection(("192.0.2.3", 9000)) as stream:
    while True: stream.sendall(bytes(1 << 16))
"""
# In one process, so that next to nothing leaves between the two readings.
COUNTERS = """\
import re, subprocess
def read(*words): return subprocess.run(words, capture_output=True, text=True, check=True).stdout
wire = read(*"ip netns exec client cat /sys/class/net/far/statistics/rx_bytes".split())
print(int(wire), max(map(int, re.findall(r"Sent (\\d+) bytes", read(*"tc -s class show dev cbl0".split())))))
"""
KERNEL = (
    "iptables-save | grep -v '^[#:]'; ip6tables-save | grep -v '^[#:]'; ipset list -n; "
    "tc qdisc show | sort; tc filter show dev eth0 egress; ip -br link | cut -d' ' -f1 | sort"
)
FILES = "find / -xdev \\( -path /proc -o -path /sys -o -path /tmp -o -path /run \\) -prune -o -print | sort"
# What dpkg, Python and systemd write for themselves.
NOT_OURS = ("/var/lib/dpkg", "/var/cache", "/var/log", "/var/lib/systemd", "/usr/lib/python3", "/var/lib/private")


class Host:
    """A container; `booted`: systemd runs in it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, *words: str, check: bool = True, seconds: float = 120) -> str:
        return shell.run(["docker", "exec", self.name, *words], check=check, timeout=seconds)

    def sh(self, script: str, *, check: bool = True) -> str:
        return self.run("sh", "-ec", script, check=check)

    def refused(self, *words: str) -> str:
        """What a call prints that ends with 1."""
        with pytest.raises(shell.FailedCommandError) as caught:
            self.run(*words)
        assert caught.value.returncode == 1
        return str(caught.value)

    def write(self, path: str, text: str) -> None:
        shell.run(["docker", "exec", "-i", self.name, "sh", "-ec", f"cat >{path}"], stdin=text)

    def kernel(self) -> str:
        return self.run("sh", "-c", KERNEL)

    def files(self) -> set[str]:
        return {line for line in self.run("sh", "-c", FILES).splitlines() if not line.startswith(NOT_OURS)}

    def counters(self) -> tuple[int, int]:
        """Bytes that have come to the client's end of the wire, and bytes that the class has sent."""
        wire, sent = self.run("python3", "-c", COUNTERS).split()
        return int(wire), int(sent)

    def start_traffic(self) -> None:
        """One TCP stream to the client, as fast as it is let."""
        shell.run(["docker", "exec", "-d", self.name, *IN_CLIENT, "python3", "-c", SINK])
        shell.eventually("the client listens", lambda: ":9000" in self.run(*IN_CLIENT, "ss", "-Hltn"))
        shell.run(["docker", "exec", "-d", self.name, "python3", "-c", SOURCE])

    def await_limit(self) -> None:
        shell.eventually("the limit is in force", lambda: CLIENT in self.run("bandwidth-agent", "show"))


def package() -> pathlib.Path:
    """The package that `make deb` has left."""
    architecture = shell.run(["dpkg", "--print-architecture"]).strip()
    found = sorted(DIST.glob(f"client-bandwidth-agent_*_{architecture}.deb"), key=lambda path: path.stat().st_mtime)
    assert found, "there is no package in dist: make deb"
    return found[-1]


def image(stage: str) -> str:
    tag = f"client-bandwidth-test-host:{stage}"
    base = ["--build-arg", f"IMAGE_BASE={os.environ['IMAGE_BASE']}"] if os.environ.get("IMAGE_BASE") else []
    command = ["docker", "build", "-q", "--network", "host", *base, "--target", stage, "--tag", tag, str(HERE)]
    with (BUILD / "images.lock").open("w") as lock:  # other tests, which run beside this one, need the same layers
        fcntl.flock(lock, fcntl.LOCK_EX)
        shell.run(command, timeout=300)
    return tag


@contextlib.contextmanager
def host(stage: str, *command: str) -> Iterator[Host]:
    """A container of a stage of the Dockerfile, with dist and build/deb in it; it is gone afterwards."""
    name = f"client-bandwidth-test-{stage}-{os.getpid()}"
    options = ["--privileged", "--network", "none", "--cgroupns", "private", "--tmpfs=/run", "--tmpfs=/tmp:exec"]
    mounted = [f"--volume={DIST}:/dist:ro", f"--volume={BUILD}:/build:ro"]
    shell.run(["docker", "run", "-d", "--rm", "--name", name, *options, *mounted, image(stage), *command])
    made = Host(name)
    try:
        if not command:
            shell.eventually(
                "systemd runs", lambda: made.run("systemctl", "is-system-running", check=False).strip() in BOOTED
            )
        made.sh(NETWORK)
        yield made
    finally:
        shell.run(["docker", "rm", "-f", name], check=False)
