"""`top`: on a real terminal with real keys, once for scripts, and what it does to others: nothing."""

from __future__ import annotations

import csv
import io
import json
import pathlib
import re
import signal
import time
from collections.abc import Iterator

import pytest
import yaml

from bandwidth_agent.commands.looking import uplinks
from bandwidth_agent.settings import Settings
from bandwidth_api import names
from bandwidth_lab import Network, TcpFlow
from bandwidth_lab.terminal import Terminal, terminal
from bandwidth_lab.traffic import UdpFlow
from kernel.programs.conftest import Host
from unit import documents

pytestmark = pytest.mark.root

KEYS = "s sort  p prefix  / filter  f freeze"


@pytest.fixture
def traffic(network: Network) -> Iterator[None]:
    """The first client gets 60 Mbit/s from one port, the second 20 by IPv6, as TCP."""
    first, second = network.clients
    with (
        TcpFlow(network.server, first, rate_bits_per_second=60e6),
        TcpFlow(network.server, second, rate_bits_per_second=20e6, family=6),
    ):
        yield


@pytest.fixture
def screen(host: Host, tmp_path: pathlib.Path, traffic: None) -> Iterator[Terminal]:
    """The screen of `top` with the manifest directory, after its first rows."""
    run = lambda words: host.namespace.run(list(words)).stdout  # noqa: E731
    with terminal(run, tmp_path, width=100, height=24) as made:
        start(made, host)
        yield made


def start(on: Terminal, host: Host, *more: str) -> None:
    on.write(" ".join(host.command("top", "--manifests", str(host.manifests), *more)))
    on.type("Enter")
    on.until("203.0.113.10 ")


def sockets(host: Host) -> int:
    """The packet sockets in the namespace."""
    return len(host.namespace.run(["cat", "/proc/net/packet"]).stdout.splitlines()) - 1


def under_cursor(on: Terminal) -> str:
    """The line that is drawn reversed and bold, which is the row under the cursor."""
    styles: set[str] = set()
    for line in on.tmux("capture-pane", "-p", "-e").split("\n"):
        for codes in re.findall(r"\x1b\[([0-9;]*)m", line):  # what is not taken back goes on in the next line
            for code in codes.split(";"):
                styles = set() if code in ("", "0") else styles | {code}
        if {"1", "7"} <= styles:
            return re.sub(r"\x1b\[[0-9;]*m", "", line)
    return ""


def test_the_greedy_client_is_found_and_slowed_from_the_screen(host: Host, screen: Terminal, network: Network) -> None:
    """Seen with its rate, `l` with a reason, the YAML and what would change, `y`: a running agent slows it at once."""
    host.start()
    screen.resize(100, 60)  # room for all that would change, however long the folder's name is
    seen = screen.until("60.")
    assert seen.splitlines()[0].startswith("eth0: ")
    screen.type("l")
    screen.until("Slow down 203.0.113.10")
    screen.type("Enter", "Enter")
    screen.write("mailbox loop")
    screen.type("Enter")
    seen = screen.until(lambda seen: "203.0.113.10" in seen.partition("What would change:")[2])
    assert "rate: " in seen
    assert 'reason: "mailbox loop"' in seen
    path = host.manifests / "slow-203-0-113-10.yaml"
    assert f"Write{path}?" in re.sub(r"\s", "", seen)
    assert not path.exists()
    screen.type("y")
    screen.until("written:")
    spec = yaml.safe_load(path.read_text())["spec"]
    assert spec["clients"] == ["203.0.113.10"]
    assert spec["ttlSeconds"] == 3600
    screen.until(lambda seen: bool(re.search(r"slow-203-0-113-10 \d+Mbit, at lim", seen)))


def test_every_key_does_what_it_says(host: Host, screen: Terminal, tmp_path: pathlib.Path) -> None:
    """Sort, prefix, filter, freeze, the cursor, help, name, observe, YAML; Esc leads back from each."""
    screen.until(KEYS)
    assert "203.0.113.10" in under_cursor(screen)
    for down, up in (("Down", "Up"), ("j", "k"), ("End", "Home"), ("NPage", "PPage"), ("G", "g")):
        screen.type(down)
        screen.until(lambda _: "2001:db8:0:2::11" in under_cursor(screen))
        screen.type(up)
        screen.until(lambda _: "203.0.113.10" in under_cursor(screen))
    screen.type("p")
    screen.until("203.0.113.0/24")
    assert "2001:db8:0:2::/64" in screen.text()
    screen.type("p")
    screen.until("203.0.113.10 ")
    screen.type("/")
    screen.write("2001:")
    screen.until(lambda seen: "203.0.113.10" not in seen)
    screen.type("Enter")
    screen.until("'2001:'")
    screen.type("Escape")
    screen.until("203.0.113.10 ")
    screen.type("f")
    frozen = screen.until("frozen").splitlines()
    time.sleep(3)
    assert screen.lines()[1:20] == frozen[1:20]
    screen.type("f")
    screen.until(lambda seen: "frozen" not in seen)
    screen.type("?")
    screen.until("relative standard error")
    screen.type("Escape")
    screen.until(KEYS)
    screen.type("n")
    screen.until(lambda seen: "has no name" in seen or "does not say" in seen or "no answer" in seen or " is " in seen)
    screen.type("o")
    screen.until("Observe 203.0.113.10")
    screen.type("Tab", "Tab")
    screen.write("how much would it be")
    screen.type("Enter")
    screen.until("mode: Observe")
    screen.type("Escape", "Escape")
    screen.until(KEYS)
    assert list(host.manifests.iterdir()) == []
    screen.type("y")
    screen.until("as a file")
    screen.type("BTab")
    screen.write("a file")
    screen.type("Enter")
    screen.until("the usual place")
    screen.type("w")
    screen.write(str(tmp_path / "mine.yaml"))
    screen.type("Enter")
    screen.until("written:")
    assert yaml.safe_load((tmp_path / "mine.yaml").read_text())["spec"]["reason"] == "a file"
    screen.type("s")
    screen.until(KEYS)
    screen.type("q")
    screen.until(lambda seen: "CLIENT" not in seen)
    assert sockets(host) == 0


def test_a_file_that_exists_is_left_as_it_is(host: Host, screen: Terminal) -> None:
    """Another limit of the same name gets the next name; a path that is typed and exists is refused."""
    host.write("slow-203-0-113-10.yaml", "# mine\n")
    screen.type("l", "Enter", "Enter")
    screen.write("loop")
    screen.type("Enter")
    screen.until("name: slow-203-0-113-10-no2")
    screen.type("w")
    screen.write(str(host.manifests / "slow-203-0-113-10.yaml"))
    screen.type("Enter")
    screen.until("exists already")
    assert (host.manifests / "slow-203-0-113-10.yaml").read_text() == "# mine\n"


@pytest.mark.parametrize("size", [(40, 12), (10, 3), (200, 50), (80, 24)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_screen_follows_the_size_of_the_terminal(screen: Terminal, size: tuple[int, int]) -> None:
    """However small it becomes, it goes on, and comes back whole."""
    screen.resize(*size)
    screen.until(lambda seen: seen.startswith("eth0:") and max(map(len, seen.split("\n"))) <= size[0])
    screen.resize(100, 24)
    screen.until(KEYS)
    screen.until("203.0.113.10 ")


def test_in_the_background_nothing_is_sampled(host: Host, screen: Terminal) -> None:
    """Ctrl-Z gives the terminal back to the shell and closes the socket; fg goes on."""
    assert sockets(host) > 0
    screen.type("C-z")
    screen.until("Stopped")
    assert sockets(host) == 0
    screen.write("fg")
    screen.type("Enter")
    screen.until(KEYS)
    screen.until("203.0.113.10 ")
    assert sockets(host) > 0
    screen.type("q")
    screen.until(lambda seen: KEYS not in seen)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_it_nothing_is_left(host: Host, screen: Terminal, number: signal.Signals) -> None:
    """No socket; and but for SIGKILL, a terminal that echoes and wraps as before."""
    pids = host.namespace.run(["pgrep", "-f", f"agent top .*{host.manifests}"]).stdout.split()
    for pid in pids:
        host.namespace.run(["kill", f"-{number.value}", pid], check=False)
    if number is not signal.SIGKILL:
        screen.until(lambda seen: KEYS not in seen)
        screen.write("stty -a")
        screen.type("Enter")
        seen = screen.until("isig")
        assert "-icanon" not in seen
        assert "-echo " not in seen
        assert "-isig" not in seen
    ends = time.monotonic() + 10
    while sockets(host):
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_json_is_as_its_schema_says_and_true(host: Host, network: Network, traffic: None) -> None:
    """Rates within 10 % of what flows, beside link headers; the port is the service's; nothing unseen, nothing lost."""
    done = host.call("top", "--once", "5", "-o", "json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    documents.check("top", told)
    assert told["interfaces"] == ["eth0"]
    by_client = {row["client"]: row for row in told["clients"]}
    assert by_client["203.0.113.10"]["rates"]["10s"]["bitsPerSecond"] == pytest.approx(60e6, rel=0.1)
    assert by_client["2001:db8:0:2::11"]["rates"]["10s"]["bitsPerSecond"] == pytest.approx(20e6, rel=0.15)
    assert by_client["203.0.113.10"]["ports"][0]["protocol"] == "TCP"
    assert told["notSeenShare"] <= 0.03
    assert told["lostSamples"] == 0
    assert told["capacityBitsPerSecond"] == 10_000_000_000  # of a veth
    assert told["seconds"] == pytest.approx(5, abs=0.5)
    assert sockets(host) == 0


def test_progress_is_on_a_terminal_only_and_goes_away(host: Host, traffic: None, tmp_path: pathlib.Path) -> None:
    """Who waits sees how long; what is left is the table."""
    run = lambda words: host.namespace.run(list(words)).stdout  # noqa: E731
    with terminal(run, tmp_path, width=100) as made:
        made.write(" ".join(host.command("top", "--once", "3")))
        made.type("Enter")
        made.until("looking: ")
        seen = made.until("CLIENT")
        assert "looking: " not in seen
        assert "203.0.113.10" in made.until("203.0.113.10")


def test_csv_and_networks(host: Host, network: Network, traffic: None) -> None:
    """A header and one line for each network, in the order that was asked for."""
    done = host.call("top", "--once", "2", "-o", "csv", "--prefix", "--sort", "2s", "--top", "1")
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert row["client"] == "203.0.113.0/24"
    assert float(row["bits_per_second_2s"]) == pytest.approx(60e6, rel=0.25)


def test_a_limited_client_is_shown_with_its_limit(host: Host, network: Network) -> None:
    """By the kernel's sets and classes, with or without an agent, and at its limit only when it is."""
    greedy, quiet = network.clients
    host.limit("greedy", [greedy.address4], "5Mbit")
    host.limit("quiet", [quiet.address4], "5Mbit")
    host.once()
    with TcpFlow(network.server, greedy), UdpFlow(network.server, quiet, rate_bits_per_second=1e6):
        told = json.loads(host.call("top", "--once", "6", "-o", "json").stdout)
        table = host.call("top", "--once", "6").stdout
    limits = {row["client"]: row["limits"] for row in told["clients"]}
    assert limits["203.0.113.10"] == [
        {
            "name": "greedy",
            "rateBitsPerSecond": 5000000,
            "atLimit": True,
            "mode": "Enforce",
            "ports": [],
            "policy": None,
        }
    ]
    assert limits["203.0.113.11"] == [
        {
            "name": "quiet",
            "rateBitsPerSecond": 5000000,
            "atLimit": False,
            "mode": "Enforce",
            "ports": [],
            "policy": None,
        }
    ]
    assert "greedy 5Mbit, at limit" in table
    assert "quiet 5Mbit\n" in table


@pytest.mark.parametrize("privileges", ["root", "CAP_NET_RAW"])
def test_a_limit_for_a_port_is_shown_with_it(host: Host, network: Network, traffic: None, privileges: str) -> None:
    """It is not taken for one that holds all of a client's packets: by the rules of the kernel, or by the files."""
    ports = {"egress": {"rate": "5Mbit", "ports": [{"protocol": "TCP", "port": 993}]}}
    document = {
        "apiVersion": names.API_VERSION,
        "kind": "ClientBandwidthLimit",
        "metadata": {"name": "mail"},
        "spec": {"clients": ["203.0.113.10"], **ports},
    }
    host.write("mail.yaml", yaml.safe_dump(document))
    host.once()
    only_raw = ["setpriv", "--bounding-set", "-all,+net_raw", "--inh-caps", "-all"] if privileges != "root" else []
    command = [*only_raw, *host.command("top", "--once", "2", "-o", "json", "--manifests", str(host.manifests))]
    told = json.loads(host.namespace.run(command, timeout=60).stdout)
    documents.check("top", told)
    (limit,) = next(row["limits"] for row in told["clients"] if row["client"] == "203.0.113.10")
    assert (limit["name"], limit["ports"]) == ("mail", [{"protocol": "TCP", "port": 993, "endPort": 993}])
    assert not limit["atLimit"]


def test_a_second_limit_for_a_client_says_which_one_wins(host: Host, screen: Terminal) -> None:
    """The older one, its file, and what to do, before anything is written."""
    host.limit("before", ["203.0.113.10"], "40Mbit")
    screen.type("l", "Enter", "Enter")
    screen.write("loop")
    screen.type("Enter")
    seen = re.sub(r"\s+", " ", screen.until("slows nothing now?"))
    path = re.escape(str(host.manifests / "before.yaml"))
    assert re.search(rf"The limit before \(40Mbit; in {path}\) wins against this limit: it is older", seen)
    assert "This limit would slow nothing" in seen
    assert "apiVersion" in seen


def test_with_cap_net_raw_alone_limits_are_those_of_the_files(host: Host, network: Network, traffic: None) -> None:
    """No CAP_NET_ADMIN: rates as ever, the limit from the directory or `?`, and a note with the reason."""
    host.limit("loop", ["203.0.113.0/24"], "5Mbit")
    only_raw = ["setpriv", "--bounding-set", "-all,+net_raw", "--inh-caps", "-all"]
    command = [*only_raw, *host.command("top", "--once", "2")]
    without = host.namespace.run(command, timeout=60).stdout
    assert re.search(r"203\.0\.113\.10 .* \?\n", without)
    assert "note: limits are not known: reading sets takes CAP_NET_ADMIN" in without
    told = host.namespace.run([*command, "--manifests", str(host.manifests)], timeout=60).stdout
    assert re.search(r"203\.0\.113\.10 .* loop 5Mbit\n", told)
    assert "note: limits are those of the manifests" in told


@pytest.mark.parametrize(
    ("before", "options", "says"),
    [
        (["setpriv", "--bounding-set", "-net_raw", "--inh-caps", "-net_raw"], ["--once", "1"], "CAP_NET_RAW"),
        ([], ["--once", "1", "--interface", "wlan*"], "there are: eth0"),
        ([], [], "top --once 10"),
        (["env", "TERM=dumb"], [], "top --once 10"),
    ],
    ids=["no capability", "no interface", "no terminal", "dumb terminal"],
)
def test_what_is_missing_is_said_in_one_line(host: Host, before: list[str], options: list[str], says: str) -> None:
    """It ends with 1 and one line that says what to do."""
    done = host.namespace.run([*before, *host.command("top", *options)], check=False, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("bandwidth-agent: error: ")
    assert says in line


def test_what_no_limit_may_touch_is_refused_before_anything_is_asked(
    host: Host, network: Network, tmp_path: pathlib.Path
) -> None:
    """The gateway gets the most: `l` says why it cannot be slowed, and no form is opened."""
    run = lambda words: host.namespace.run(list(words)).stdout  # noqa: E731
    with terminal(run, tmp_path, width=80) as made:
        gateway = re.search(r"via (\S+)", host.namespace.run(["ip", "route", "show", "default"]).stdout)
        assert gateway is not None
        host.namespace.start(["ping", "-q", "-f", "-w", "40", "-s", "1400", gateway[1]])
        made.write(" ".join(host.command("top", "--manifests", str(host.manifests))))
        made.type("Enter")
        made.until(f"{gateway[1]} ")
        made.type("l")
        seen = made.until("protected address")
        assert "Slow down" not in seen
        made.type("q")


def test_on_a_node_of_a_cluster_no_file_is_written(
    host: Host, network: Network, traffic: None, tmp_path: pathlib.Path
) -> None:
    """`l` shows the command for kubectl and the YAML, and `y` does nothing."""
    run = lambda words: host.namespace.run(list(words)).stdout  # noqa: E731
    with terminal(run, tmp_path, width=120, height=30, environment={"NODE_NAME": "worker-1"}) as made:
        made.write(" ".join(host.command("top")))
        made.type("Enter")
        made.until("203.0.113.10 ")
        made.type("l", "Enter", "Enter")
        made.write("it's looping")
        made.type("Enter")
        seen = made.until("kubectl cbl slow 203.0.113.10 --rate ")
        assert "--for 1h --reason 'it'\\''s looping'" in seen.replace("\n", " ")
        made.type("y")
        made.type("Escape", "Escape")
        made.until(KEYS)
        made.type("q")
    assert not list(host.manifests.iterdir())


def test_other_nodes_are_labelled(host: Host, network: Network, traffic: None) -> None:
    """Next hops of routes to pods, and far ends of VXLAN tunnels, hand packets on to others: they are no clients."""
    host.namespace.ip(
        "route add 10.244.1.0/24 via 203.0.113.10 onlink dev eth0",
        "link add cni-vx type vxlan id 7 remote 2001:db8:0:2::11 dev eth0 dstport 8472",
        "link set cni-vx up",
    )
    told = json.loads(host.call("top", "--once", "2", "-o", "json").stdout)
    labels = {row["client"]: row["label"] for row in told["clients"]}
    assert labels["203.0.113.10"] == "next hop of 10.244.1.0/24"
    assert "cni-vx" in labels["2001:db8:0:2::11"]


def test_a_running_agent_is_not_disturbed(host: Host, network: Network, traffic: None) -> None:
    """While one looks, the agent makes no change and still puts a new limit in force."""
    host.start()
    host.limit("greedy", [network.clients[0].address4], "5Mbit")
    host.until_rate("203.0.113.10", 5_000_000)
    looking = host.namespace.start(host.command("top", "--once", "4", "-o", "json"))
    host.limit("other", [network.clients[1].address6], "5Mbit")
    host.until_rate("2001:db8:0:2::11", 5_000_000)
    assert looking.wait(timeout=60) == 0
    assert host.stop() == 0


def test_an_uplink_with_another_name_is_looked_at_at_once(host: Host) -> None:
    """Renamed, or taken away and made again: not only when interfaces are read again after some seconds."""
    made = host.namespace.call(lambda: uplinks.Uplinks(Settings()))
    assert host.namespace.call(made.names) == ("eth0",)
    host.namespace.ip(
        "link set eth0 down", "link set eth0 name wan0", "link set wan0 up", "route add default dev wan0 scope link"
    )
    assert host.namespace.call(made.names) == ("wan0",)
    host.namespace.ip("link del wan0")
    assert host.namespace.call(made.names) == ("wan0",)  # looked for until another one has the route
    host.namespace.ip("link add up1 type veth peer name far1", "link set far1 up", "link set up1 up")
    host.namespace.ip("route add default dev up1 scope link")
    assert host.namespace.call(made.names) == ("up1",)
    made.close()
