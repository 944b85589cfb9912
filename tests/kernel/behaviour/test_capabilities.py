"""Every program under exactly CAP_NET_ADMIN and CAP_NET_RAW, as root and as nobody; without them it says what lacks."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

import pytest

from bandwidth_agent.kernel import model
from bandwidth_lab import Network, TcpFlow, star
from bandwidth_lab.node import PROGRAM, Node
from kernel.behaviour import holding

pytestmark = pytest.mark.root

BOTH = "+net_admin,+net_raw"
NOBODY = "65534"
PROGRAMS = (("run", "--once"), ("plan",), ("show",), ("cleanup",))


@pytest.fixture
def network() -> Iterator[Network]:
    with star(clients=1, prefix="kz-") as made:
        yield made


@pytest.fixture
def folder() -> Iterator[pathlib.Path]:
    """A place that all may read, which pytest's own is not."""
    made = pathlib.Path(tempfile.mkdtemp(prefix="kz-"))
    made.chmod(0o755)
    yield made
    made.chmod(0o755)
    shutil.rmtree(made)


class Limited(Node):
    """A node whose programs have no capabilities but the ones given."""

    def __init__(self, network: Network, folder: pathlib.Path, capabilities: str = BOTH, user: str = "root") -> None:
        super().__init__(network.server.namespace, folder, "--log-format", "json")
        self.manifests.chmod(0o755)
        self.user = user
        self.capabilities = capabilities
        if user != "root" and self.namespace.run([*self._prefix(), str(PROGRAM), "--help"], check=False).returncode:
            self.capabilities += ",+dac_read_search"  # the checkout lies where only its owner may read

    def _prefix(self) -> list[str]:
        words = ["setpriv", f"--bounding-set=-all,{self.capabilities}", f"--inh-caps=-all,{self.capabilities}"]
        if self.user != "root":
            words += [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
            words += [f"--ambient-caps=-all,{self.capabilities}"]
        return words

    def command(self, program: str, *more: str) -> list[str]:
        return [*self._prefix(), *super().command(program, *more)]

    def call(self, program: str, *more: str) -> subprocess.CompletedProcess[str]:
        return self.namespace.run(self.command(program, *more), timeout=60, check=False)


def limits(node: Node) -> None:
    node.limit("slow", ["203.0.113.10", "2001:db8:0:2::10"], "4Mbit")
    node.limit("imap", ["203.0.113.11"], "1Mbit", egress={"ports": [{"port": 993}]})


@pytest.mark.parametrize("backend", ["nft", "legacy"])
@pytest.mark.parametrize("placement", ["ifb", "interface"])
def test_all_programs_as_root(network: Network, folder: pathlib.Path, placement: str, backend: str) -> None:
    """Root with two capabilities plans, limits, shows and removes, by either back end, and leaves nothing."""
    node = Limited(network, folder)
    node.options = ("--placement", placement, "--iptables-backend", backend)
    if backend == "legacy":
        for tables in ("iptables-legacy", "ip6tables-legacy"):
            node.namespace.run([tables, "-t", "mangle", "-L"])
    before = node.snapshot()
    limits(node)
    assert node.call("plan", "--exit-code").returncode == 2
    assert node.snapshot() == before
    assert node.once()["limits"]["programmed"] == 2
    assert node.call("plan", "--exit-code").returncode == 0
    assert [limit["name"] for limit in node.show()["limits"]] == ["imap", "slow"]
    holding.assert_client_held(network.server, network.clients[0], 4_000_000)
    assert node.call("cleanup").returncode == 0
    assert node.snapshot() == before


@pytest.mark.parametrize("placement", ["ifb", "interface"])
def test_all_programs_as_nobody(network: Network, folder: pathlib.Path, placement: str) -> None:
    """Who is not root needs no more than the two capabilities as ambient ones."""
    node = Limited(network, folder, user="nobody")
    node.options = ("--placement", placement)
    before = node.snapshot()
    limits(node)
    assert node.call("plan", "--exit-code").returncode == 2
    assert node.once()["limits"]["programmed"] == 2
    assert node.once()["changes"] == 0
    assert len(node.show()["limits"]) == 2
    assert node.rate_of("203.0.113.10") == node.rate_of("2001:db8:0:2::10") == 4_000_000
    assert node.call("cleanup").returncode == 0
    assert node.snapshot() == before


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_a_running_agent(network: Network, folder: pathlib.Path, user: str) -> None:
    """It follows its files, hears of damage and repairs it, and serves its metrics, with no more than that."""
    node = Limited(network, folder, user=user)
    limits(node)
    node.start("--resync", "600", "--metrics-address", "127.0.0.1:9100")
    node.until(lambda: '"in_force": 2' in node.log.read_text())
    whole = node.kernel()
    for damage in ("ipset flush", "iptables -t mangle -F", "tc qdisc del dev eth0 clsact", "ip link del cbl0"):
        node.namespace.run(damage.split())
        node.until(lambda: node.kernel() == whole)
    node.lift("slow")
    node.until_rate("203.0.113.10", None)
    assert node.stop() == 0


@pytest.mark.parametrize("state", ["read-only", "not there and not to be made", "a file"])
def test_without_a_state_directory(network: Network, folder: pathlib.Path, state: str) -> None:
    """What cannot be remembered costs a warning that says so, and no limit; also once the agent runs."""
    node = Limited(network, folder)
    if state == "read-only":
        node.state.mkdir(mode=0o500)
    elif state == "a file":
        node.state.write_text("")
    else:
        node.state = pathlib.Path("/proc/nothing/state")
    limits(node)
    for _ in range(2):
        report = node.once()
        assert report["limits"]["programmed"] == 2
        (warning,) = report["warnings"]
        assert str(node.state) in warning
    node.start()
    node.limit("slow", ["203.0.113.10"], "5Mbit")
    node.until_rate("203.0.113.10", 5_000_000)
    assert node.stop() == 0
    assert node.call("cleanup").returncode == 0
    assert node.kernel() == model.EMPTY


@pytest.mark.parametrize("lacking", ["CAP_NET_ADMIN", "CAP_NET_RAW"])
def test_without_a_capability(network: Network, folder: pathlib.Path, lacking: str) -> None:
    """Each program says in one line which capability is missing and what to do; nothing is changed."""
    whole, user = Node(network.server.namespace, folder / "whole"), "root"
    limits(whole)
    whole.once()
    before = whole.kernel()
    for user in ("root", "nobody"):
        node = Limited(network, folder, BOTH.replace(f"+{lacking.removeprefix('CAP_').lower()}", "-sys_boot"), user)
        limits(node)
        for program, *more in PROGRAMS:
            done = node.call(program, *more)
            assert (done.returncode, done.stdout) == (1, "")
            (line,) = done.stderr.splitlines()
            assert line.startswith(f"bandwidth-agent: error: {lacking} missing")
            assert ("run it as root" in line) is (user == "nobody")
    assert whole.kernel() == before


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_who_tells_what_can_be_told(network: Network, folder: pathlib.Path, user: str) -> None:
    """Without a capability `who` says in one line what is missing, and answers with the rest."""
    whole, client = Node(network.server.namespace, folder / "whole"), network.clients[0]
    limits(whole)
    whole.once()
    before = whole.kernel()
    with TcpFlow(network.server, client):
        for capabilities, code in ((BOTH, 0), ("+net_admin", 0), ("+net_raw", 5), ("-sys_boot", 5)):
            done = Limited(network, folder, capabilities, user).call(
                "who", client.address4, "--seconds", "0.5", "-o", "json"
            )
            assert (done.returncode, done.stderr) == (code, "")
            told = json.loads(done.stdout)
            assert [limit["name"] for limit in told["limits"]] == ([] if code else ["slow"])
            assert (told["seen"] is not None) is ("+net_raw" in capabilities)
            assert len(told["missing"]) == sum(word not in capabilities for word in ("+net_admin", "+net_raw"))
            assert all(("run it as root" in line) is (user == "nobody") for line in told["missing"])
    assert whole.kernel() == before


def test_in_a_user_namespace_of_its_own(network: Network, folder: pathlib.Path) -> None:
    """Who has the capabilities in a user namespace that owns the network namespace, as in a container, can do all."""
    node = Node(network.server.namespace, folder)
    node.limit("slow", ["198.51.100.10"], "4Mbit")
    made = "ip link add eth0 type veth peer name far; ip link set eth0 up; ip link set far up;"
    made += " ip address add 198.51.100.1/24 dev eth0; ip route add default via 198.51.100.2;"
    once, again, cleanup = (
        " ".join(node.command(program, *more))
        for program, *more in (("run", "--once", "-o", "json"), ("plan", "--exit-code"), ("cleanup",))
    )
    script = f"{made} {once} && {again} >&2 && {cleanup} >&2; echo $? >&2; ip -br link show type ifb >&2"
    done = network.server.namespace.run(
        ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", script], timeout=120
    )
    report = json.loads(done.stdout)
    assert (report["limits"]["programmed"], report["interfaces"][0]["placement"]) == (1, "ifb")
    assert "skbedit" not in report["missingFeatures"], "it may not be asked about, which is not that it is missing"
    assert done.stderr.splitlines()[-1] == "0", done.stderr


def test_in_a_user_namespace_that_does_not_own_the_network(network: Network, folder: pathlib.Path) -> None:
    """Capabilities that count for nothing here: each program says so and what helps, and no module is asked for."""
    node = Node(network.server.namespace, folder)
    node.limit("slow", ["203.0.113.10"], "4Mbit")
    before = node.snapshot()
    for program, *more in PROGRAMS:
        command = ["unshare", "--user", "--map-root-user", *node.command(program, *more)]
        done = network.server.namespace.run(command, check=False, timeout=60)
        assert done.returncode == 1
        assert "user namespace that owns this network namespace" in done.stderr
        assert "module" not in done.stderr.replace("security module", "")
    assert node.snapshot() == before


def test_without_any_capability_help_is_given(network: Network, folder: pathlib.Path) -> None:
    """To read what a program does, or to learn of a wrong option, root is not needed."""
    node = Limited(network, folder, "-sys_boot", "nobody")
    for program, *_ in PROGRAMS:
        assert node.namespace.run([*node._prefix(), str(PROGRAM), program, "--help"]).stdout
    assert node.call("show", "--nonsense").returncode == 64
    assert json.loads(node.namespace.run(["ip", "-j", "link", "show", "eth0"]).stdout)
