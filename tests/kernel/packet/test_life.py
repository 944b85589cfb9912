"""What a window needs, and what is left of it: one capability, and nothing."""

from __future__ import annotations

import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from bandwidth_agent.kernel import traffic
from bandwidth_agent.kernel.linux.packet import sampler
from bandwidth_agent.sight import sight
from bandwidth_lab import Network, UdpFlow, star
from bandwidth_lab.namespaces import Namespace
from bandwidth_lab.node import Node
from kernel.packet import frames

pytestmark = pytest.mark.root

LOOK = """
import sys, time
from bandwidth_agent.kernel.linux.packet import capture, sampler
try:
    sampled, shown = sampler.Sampler(["eth0"]), capture.Capture(["eth0"], 100)
except OSError as error:
    print(error.errno, flush=True)
    sys.exit()
print(sorted(sampled.take()), flush=True)
if "stay" in sys.argv:
    while True:
        time.sleep(0.1)
        sampled.drain()
"""


def looking(capabilities: str, *more: str) -> list[str]:
    """A program that looks, with these capabilities alone."""
    path = f"import sys; sys.path[:0] = {sys.path!r}\n"
    bounds = ["--bounding-set", capabilities, "--inh-caps", capabilities, "--no-new-privs"]
    return ["prlimit", "--memlock=0", "setpriv", *bounds, sys.executable, "-c", path + LOOK, *more]


@pytest.mark.parametrize(
    ("capabilities", "seen"), [("-all,+net_raw", "['eth0']"), ("-all,+net_admin", "1"), ("-all,-net_raw", "1")]
)
def test_one_capability_is_enough(server: Namespace, capabilities: str, seen: str) -> None:
    """CAP_NET_RAW alone, with no memory that may be locked; without it the opening is EPERM."""
    assert server.run(looking(capabilities)).stdout.strip() == seen


def test_nothing_is_left_of_one_that_was_killed(server: Namespace) -> None:
    """While it looks there are its two sockets; after kill -9 none, and the device is as it was."""
    before = server.run(["ip", "-d", "link", "show", "eth0"]).stdout
    process = server.start(looking("-all,+net_raw", "stay"))
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "['eth0']"
    assert len(frames.windows(server)) == 2
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    assert frames.windows(server) == []
    assert server.run(["ip", "-d", "link", "show", "eth0"]).stdout == before


def test_an_agent_that_nobody_asks_has_no_window(tmp_path: pathlib.Path) -> None:
    """An agent that runs and has no limit opens none, looked at often."""
    with star(clients=1, prefix="kw-") as network:
        node = Node(network.server.namespace, tmp_path)
        node.start()
        node.until(lambda: '"shapes"' in node.log.read_text())
        for _ in range(20):
            assert frames.windows(node.namespace) == []
            time.sleep(0.05)
        assert node.stop() == 0


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_sight_opens_and_closes(network: Network, server: Namespace) -> None:
    """Two askers share one socket; it is gone when the last lease has run out, though nobody closed anything."""
    looking = sight.Sight(lambda names: server.call(lambda: sampler.Sampler(names)), lambda: ["eth0"])
    seen: list[traffic.Stretch] = []
    client = network.clients[0]
    with UdpFlow(network.server, client, rate_bits_per_second=20e6):
        assert frames.windows(server) == []
        looking.lease(3.5, lambda stretches: seen.append(stretches["eth0"]))
        looking.lease(0.5, lambda stretches: None)
        assert len(frames.windows(server)) == 1
        until(lambda: frames.windows(server) == [])
    assert 1 <= len(seen) <= 3
    assert sum(s.seen_bytes for s in seen) == pytest.approx(sum(s.sent_bytes for s in seen), rel=0.3)
    looking.close()


def test_a_killed_asker_is_forgotten(server: Namespace) -> None:
    """A whole process with a sight that is killed while it looks leaves no socket."""
    program = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "import time\n"
        "from bandwidth_agent.kernel.linux.packet import sampler\n"
        "from bandwidth_agent.sight import sight\n"
        "sight.Sight(sampler.Sampler, lambda: ['eth0']).lease(60, print)\n"
        "print('looks', flush=True)\n"
        "time.sleep(60)\n"
    )
    process = server.start([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stdout.readline() == "looks\n"
    assert len(frames.windows(server)) == 1
    process.kill()
    process.wait(timeout=10)
    assert frames.windows(server) == []
