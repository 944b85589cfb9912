"""What happens in a demonstration, in order: no limit, a limit, a slower one that expires; and what is measured.

Everything is made in namespaces of its own and a temporary folder, and is gone at the end, however it ends. The agent
is the installed program, told nothing but the folder of limits.
"""

from __future__ import annotations

import contextlib
import datetime
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from bandwidth_lab.demo import recording
from bandwidth_lab.demo.recording import Event, Recording
from bandwidth_lab.demo.screen import Reading, Screen
from bandwidth_lab.meter import WireMeter, bits_per_second
from bandwidth_lab.topology import Host, Network, star
from bandwidth_lab.traffic import TcpFlow

UPLINK_BITS_PER_SECOND = 50_000_000
GREEDY_CONNECTIONS = 8  # of each family
QUIET_BITS_PER_SECOND = 4_000_000  # payload, of each family

FREE_SECONDS = 6.0
FIRST_SECONDS = 12.0
SECOND_SECONDS = 14.0
AFTER_SECONDS = 6.0
SETTLE_SECONDS = 2.0  # after a change, until what was under way before it has arrived
MARGIN_SECONDS = 3.0  # before the expiry nothing is measured: a busy machine is late
PATIENCE_SECONDS = 20.0  # for the agent to start, and for a limit to work
RECOVER_SECONDS = 4.0  # after the first limit, until a connection that was starved has tried again
REFRESH_SECONDS = 0.2
WINDOW = 4  # samples of 0.1 s over which a moving rate is shown


class Rate(NamedTuple):
    """A rate as the manifests write it."""

    megabits: int

    @property
    def bits_per_second(self) -> int:
        return self.megabits * 1_000_000

    @property
    def text(self) -> str:
        return f"rate: {self.megabits}Mbit\n"

    def __str__(self) -> str:
        return f"{self.megabits} Mbit/s"


EXAMPLE = "mail-loop.yaml"
FIRST_RATE = Rate(10)  # as the example says
SECOND_RATE = Rate(3)
AGENT = pathlib.Path(sys.executable).with_name("bandwidth-agent")


class AgentError(Exception):
    """The agent did not do its part; the message holds its last words."""


class Agent:
    """The real program, run inside the server, on a folder of its own."""

    def __init__(self, server: Host, folder: pathlib.Path) -> None:
        self._server = server.namespace
        self._state = ["--state-dir", str(folder / "state")]
        self._log_path = folder / "agent.log"
        self.manifests = folder / "limits"
        self._process: subprocess.Popen[str] | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run it until the end of the block; stopping it leaves the limits in force."""
        with self._log_path.open("w") as log:
            command = [str(AGENT), "run", "--manifests", str(self.manifests), *self._state]
            self._process = self._server.start(command, stdout=log.fileno())
        yield
        self._process.terminate()
        self._process.wait(timeout=10)

    def check(self) -> None:
        """Raise if it has ended."""
        if self._process is not None and self._process.poll() is not None:
            raise AgentError(f"the agent ended with exit code {self._process.returncode}:\n{self._last_words()}")

    @property
    def follows(self) -> bool:
        """Whether it has made its first pass and follows its folder from now on."""
        return "started" in self._log_path.read_text()

    def show(self) -> subprocess.Popen[str]:
        """Ask what is in force; it takes a second, to measure rates."""
        return self._server.start([str(AGENT), "show", *self._state])

    def clean_up(self) -> None:
        self._server.run([str(AGENT), "cleanup", *self._state])

    def write(self, name: str, text: str) -> None:
        """Put a limit into its folder, whole or not at all, as an editor does."""
        beside = self.manifests / f".{name}.part"
        beside.write_text(text)
        beside.rename(self.manifests / name)

    def _last_words(self) -> str:
        return "\n".join(self._log_path.read_text().splitlines()[-15:])


class Demonstration:
    """One run. `recorded` holds what has been measured so far, also when it fails."""

    def __init__(self, examples: pathlib.Path, screen: Screen) -> None:
        self._examples = examples
        self._screen = screen
        self._limits: dict[str, int | None] = {}
        self.recorded = Recording(time.monotonic())

    def run(self) -> Recording:
        """Make the network, tell the story, take everything away."""
        with (
            tempfile.TemporaryDirectory(prefix="bandwidth-demo-") as scratch,
            star(clients=2, prefix="lab-demo-") as network,
            contextlib.ExitStack() as open_things,
        ):
            _narrow_uplink(network)
            agent = Agent(network.server, pathlib.Path(scratch))
            agent.manifests.mkdir()
            for path in self._examples.glob("*.yaml"):
                if path.name != EXAMPLE:
                    shutil.copy(path, agent.manifests)
            greedy, quiet = network.clients
            before = _kernel_state(network.server)
            meters = {host: open_things.enter_context(WireMeter(host)) for host in network.clients}
            self.recorded.greedy, self.recorded.quiet = meters[greedy].samples, meters[quiet].samples
            with agent.running():
                for _ in range(GREEDY_CONNECTIONS):
                    for family in (4, 6):
                        open_things.enter_context(TcpFlow(network.server, greedy, family=family))
                flows = {
                    family: open_things.enter_context(
                        TcpFlow(network.server, quiet, family=family, rate_bits_per_second=QUIET_BITS_PER_SECOND)
                    )
                    for family in (4, 6)
                }
                with self._screen.moving():
                    self._await(agent)
                    self._tell(agent, flows)
                self.recorded.ended_at = time.monotonic()
            agent.clean_up()
            self._compare(before, _kernel_state(network.server))
        return self.recorded

    def _await(self, agent: Agent) -> None:
        """Wait until the agent follows its folder."""
        patience = time.monotonic() + PATIENCE_SECONDS
        while not agent.follows:
            if time.monotonic() > patience:
                raise AgentError(f"the agent has not started within {PATIENCE_SECONDS:g} s")
            self._watch(REFRESH_SECONDS, agent)

    def _tell(self, agent: Agent, quiet: Mapping[int, TcpFlow]) -> None:
        self._screen.say(
            f"A greedy client with {2 * GREEDY_CONNECTIONS} connections and a quiet one that asks for a steady "
            f"{2 * QUIET_BITS_PER_SECOND // 10**6} Mbit/s share an uplink of {UPLINK_BITS_PER_SECOND // 10**6} Mbit/s."
        )
        self._watch(FREE_SECONDS, agent)

        text = (self._examples / EXAMPLE).read_text()
        self._event(f"examples/{EXAMPLE}: {FIRST_RATE} for each of its addresses", FIRST_RATE)
        agent.write(EXAMPLE, text)
        self._settle(RECOVER_SECONDS, agent)
        self._measure(FIRST_RATE, FIRST_SECONDS - RECOVER_SECONDS, agent, quiet)

        expires_at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=SECOND_SECONDS)
        self._event(f"the same file: {SECOND_RATE}, until {expires_at:%H:%M:%S}", SECOND_RATE)
        agent.write(EXAMPLE, _changed(text, expires_at))
        self._settle(SETTLE_SECONDS, agent)
        showing = agent.show()
        left = (expires_at - datetime.datetime.now(datetime.UTC)).total_seconds()
        self._measure(SECOND_RATE, left - MARGIN_SECONDS, agent, quiet)
        shown, _ = showing.communicate(timeout=PATIENCE_SECONDS)

        self._watch((expires_at - datetime.datetime.now(datetime.UTC)).total_seconds(), agent)
        self._event("the limit expires", None)
        self._watch(SETTLE_SECONDS, agent)
        start = self.recorded.greedy[-1]
        self._watch(AFTER_SECONDS - SETTLE_SECONDS, agent)
        rate = bits_per_second(start, self.recorded.greedy[-1])
        self.recorded.rows.append(recording.lifted("greedy, both", 2 * SECOND_RATE.bits_per_second, rate))
        self.recorded.remarks.append(f"bandwidth-agent show, while {SECOND_RATE} were in force:\n{shown.rstrip()}")

    def _event(self, text: str, rate: Rate | None) -> None:
        event = Event(time.monotonic(), text, rate.bits_per_second if rate else None)
        self.recorded.events.append(event)
        self._screen.say(f"{event.at - self.recorded.started_at:5.1f} s   {text}")

    def _measure(self, limit: Rate, seconds: float, agent: Agent, quiet: Mapping[int, TcpFlow]) -> None:
        """Measure both clients for so long, under the limit of the last event."""
        event = self.recorded.events[-1]
        start, at = self.recorded.greedy[-1], time.monotonic()
        before = {family: flow.progress() for family, flow in quiet.items()}
        self._watch(seconds, agent)
        end, elapsed = self.recorded.greedy[-1], time.monotonic() - at
        after = {family: flow.progress() for family, flow in quiet.items()}
        for family in (4, 6):
            rate = bits_per_second(start, end, family)
            self.recorded.rows.append(recording.limited(f"greedy IPv{family}", limit.bits_per_second, rate))
        for family in quiet:
            asked, got = ((now - then) * 8 / elapsed for now, then in zip(after[family], before[family], strict=True))
            self.recorded.rows.append(recording.undisturbed(f"quiet IPv{family}", asked, got))
        took = self._until_limited(event)
        if took is not None:
            self.recorded.remarks.append(f"{limit} on the wire {took:.1f} s after the file was written")

    def _until_limited(self, event: Event) -> float | None:
        """How long after an event both families were limited; None: not yet."""
        until = [recording.seconds_until(self.recorded.greedy, event, family) for family in (4, 6)]
        known = [seconds for seconds in until if seconds is not None]
        return max(known) if len(known) == len(until) else None

    def _settle(self, seconds: float, agent: Agent) -> None:
        """After the last event, watch for so long, and on a busy machine until the limit is seen on the wire."""
        patience = time.monotonic() + PATIENCE_SECONDS
        self._watch(seconds, agent)
        while self._until_limited(self.recorded.events[-1]) is None and time.monotonic() < patience:
            self._watch(REFRESH_SECONDS, agent)

    def _watch(self, seconds: float, agent: Agent) -> None:
        """Show the rates move for some seconds."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(REFRESH_SECONDS, left))
            agent.check()
            self._screen.show(time.monotonic() - self.recorded.started_at, self._readings())

    def _readings(self) -> list[Reading]:
        limit = self.recorded.events[-1].limit_bits_per_second if self.recorded.events else None
        readings = []
        for name, samples, its_limit, style in (
            ("greedy", self.recorded.greedy, limit, "red"),
            ("quiet", self.recorded.quiet, None, "cyan"),
        ):
            for family in (4, 6):
                rate = bits_per_second(samples[-1 - WINDOW], samples[-1], family) if len(samples) > WINDOW else 0.0
                readings.append(Reading(f"{name} IPv{family}", rate, its_limit, style))
        return readings

    def _compare(self, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        different = [command for command, text in before.items() if after[command] != text]
        if different:
            raise AgentError(f"cleanup left something behind; before and after differ in: {', '.join(different)}")
        self.recorded.remarks.append("after bandwidth-agent cleanup the server's kernel is as it was found")


def _narrow_uplink(network: Network) -> None:
    """Make the way to the clients as narrow as a real uplink, beyond the server and the agent's reach."""
    assert network.router is not None
    queue_bytes = UPLINK_BITS_PER_SECOND // 8 // 40  # 25 ms
    network.router.tc(
        f"qdisc add dev clients root tbf rate {UPLINK_BITS_PER_SECOND}bit burst 100000 limit {queue_bytes}"
    )


def _changed(text: str, expires_at: datetime.datetime) -> str:
    """The example with the second rate and an expiry, as somebody would edit it."""
    if FIRST_RATE.text not in text:
        raise ValueError(f"{EXAMPLE} does not say {FIRST_RATE.text!r}")
    expiry = expires_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return text.replace(FIRST_RATE.text, SECOND_RATE.text).replace("spec:\n", f'spec:\n  expiresAt: "{expiry}"\n')


def _kernel_state(server: Host) -> dict[str, str]:
    """Everything that an agent could leave behind, without counters and times."""
    commands = (
        "tc qdisc show",
        "tc filter show dev eth0 egress",
        "ip -o link show",
        "ipset save",
        "nft list ruleset",
        "iptables-save -t mangle",
        "ip6tables-save -t mangle",
    )
    printed = {command: server.namespace.run(command.split()).stdout for command in commands}
    return {command: re.sub(r"^#.*\n|\[\d+:\d+\]", "", text, flags=re.MULTILINE) for command, text in printed.items()}
