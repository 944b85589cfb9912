"""Plays the demonstration, in order: nobody is limited, who it is, a limit, a slower one that expires; measures each.

Everything is made in namespaces of its own and a temporary folder, and is gone at the end, however it ends. The agent
is the installed program; who is greedy is read on the screen of its `top`, and slowed there with the key `l`.
"""

from __future__ import annotations

import datetime
import pathlib
import re
import tempfile
import time
from collections.abc import Callable, Mapping

from bandwidth_demo import culprit, recording, site
from bandwidth_demo.agent import Agent, AgentError
from bandwidth_demo.observation import Observation
from bandwidth_demo.recording import Rate, Recording
from bandwidth_demo.screen import Screen
from bandwidth_demo.site import Site
from bandwidth_lab.meter import WireMeter, bits_per_second
from bandwidth_lab.traffic import TcpFlow

ALONE_SECONDS = 3.0
BESIDE_SECONDS = 4.0
FIRST_SECONDS = 4.0
SECOND_SECONDS = 9.0
AFTER_SECONDS = 3.0
BEGIN_SECONDS = 1.0  # until new connections have their rate
SETTLE_SECONDS = 2.0  # after a change, until what was under way before it has arrived
MARGIN_SECONDS = 2.5  # before the expiry nothing is measured: a busy machine is late
PATIENCE_SECONDS = 20.0  # for the agent to start
FIRST_RATE, SECOND_RATE = Rate(10), Rate(3)


# What follows when the quiet client is served: the site, the agent and its folder, who watches, the quiet one's flows.
Play = Callable[[Site, Agent, pathlib.Path, Observation, Mapping[int, TcpFlow]], None]


class Demonstration:
    """One run."""

    def __init__(self, screen: Screen, play: Play) -> None:
        self._screen = screen
        self._play = play

    def run(self) -> Recording:
        """Make the network, play the story, remove everything."""
        with (
            tempfile.TemporaryDirectory(prefix="bandwidth-demo-") as scratch,
            site.made() as here,
            WireMeter(here.greedy) as greedy,
            WireMeter(here.quiet) as quiet,
        ):
            folder = pathlib.Path(scratch)
            agent = Agent(here.server.namespace, folder)
            seen = Observation(self._screen, agent, greedy, quiet)
            before = here.kernel_state()
            with agent.running(), self._screen.moving():
                here.start_crowd()
                flows = here.start_quiet()
                _await(agent, seen)
                self._play(here, agent, folder, seen, flows)
                seen.recorded.ended_at = time.monotonic()
            agent.clean_up()
            _compare(before, here.kernel_state(), seen)
        return seen.recorded


def _await(agent: Agent, seen: Observation) -> None:
    """Wait until the agent follows its folder."""
    patience = time.monotonic() + PATIENCE_SECONDS
    while not agent.follows:
        if time.monotonic() > patience:
            raise AgentError(f"the agent has not started within {PATIENCE_SECONDS:g} s")
        seen.watch(0.2)


def by_hand(here: Site, agent: Agent, folder: pathlib.Path, seen: Observation, quiet: Mapping[int, TcpFlow]) -> None:
    """A person sees who it is, slows it, and changes the limit."""
    suffer(here, seen, quiet, BESIDE_SECONDS)
    culprit.find_and_slow(here, agent, folder, seen, FIRST_RATE)
    _hold(here, agent, seen, quiet)
    _change(agent, seen, quiet)


def suffer(here: Site, seen: Observation, quiet: Mapping[int, TcpFlow], seconds: float) -> None:
    """Nobody is limited: the quiet client is well until the greedy one comes, and is measured beside it so long."""
    seen.say(
        f"{site.CLIENTS} clients share an uplink of {site.UPLINK_BITS_PER_SECOND // 10**6} Mbit/s; nobody has a limit. "
        f"A quiet one asks for a steady {2 * site.QUIET_BITS_PER_SECOND // 10**6} Mbit/s."
    )
    seen.measure("nobody greedy", ALONE_SECONDS, quiet, recording.undisturbed)
    connections = 2 * site.GREEDY_CONNECTIONS
    seen.note(f"a client fetches its mailbox in a loop, over {connections} connections", "greedy begins")
    here.start_greedy()
    seen.watch(BEGIN_SECONDS)
    # Chance decides which of its connections suffers more.
    seen.measure("beside greedy", seconds, quiet, recording.suffering, together=True)


def _hold(here: Site, agent: Agent, seen: Observation, quiet: Mapping[int, TcpFlow]) -> None:
    """The limits hold, and the quiet client has what it asks for; the agent says so itself."""
    seen.recover(site.QUIET_BITS_PER_SECOND)
    asking = agent.ask("who", here.greedy.address4)
    seen.measure("first limit", FIRST_SECONDS, quiet, recording.undisturbed)
    answer, _ = asking.communicate(timeout=PATIENCE_SECONDS)
    seen.say(f"Is it held?     $ bandwidth-agent who {here.greedy.address4}")
    seen.quote(answer)


def _change(agent: Agent, seen: Observation, quiet: Mapping[int, TcpFlow]) -> None:
    """A slower limit, by an editor this time, which ends by itself."""
    expires_at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=SECOND_SECONDS)
    for path in sorted(agent.manifests.iterdir()):
        agent.write(path, _changed(path.read_text(), expires_at))
    event = seen.note(
        f"both files edited: {SECOND_RATE}, until {expires_at:%H:%M:%S}",
        f"slowed to {SECOND_RATE}",
        SECOND_RATE.of_each(),
    )
    seen.settle(SETTLE_SECONDS, {4: event, 6: event})
    showing = agent.ask("show")
    seen.measure("second limit", _seconds_to(expires_at) - MARGIN_SECONDS, quiet, recording.undisturbed)
    shown, _ = showing.communicate(timeout=PATIENCE_SECONDS)
    seen.remark(f"bandwidth-agent show, while {SECOND_RATE} were in force:\n{shown.rstrip()}")

    seen.watch(_seconds_to(expires_at))
    seen.note("the limits expire", "limits expire", {})
    seen.watch(SETTLE_SECONDS)
    start = seen.recorded.greedy[-1]
    seen.watch(AFTER_SECONDS)
    rate = bits_per_second(start, seen.recorded.greedy[-1])
    seen.recorded.rows.append(recording.lifted("greedy, both", "expired", 2 * SECOND_RATE.bits_per_second, rate))


def _changed(text: str, expires_at: datetime.datetime) -> str:
    """Return a manifest that `top` wrote with the second rate and an expiry, edited as a person would."""
    expiry = expires_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    text, rates = re.subn(rf"rate: {FIRST_RATE.text}\b", f"rate: {SECOND_RATE.text}", text)
    text, ends = re.subn(r"ttlSeconds: \d+", f'expiresAt: "{expiry}"', text)
    if (rates, ends) != (1, 1):
        raise ValueError(f"no rate of {FIRST_RATE.text} or no ttlSeconds in:\n{text}")
    return text


def _seconds_to(moment: datetime.datetime) -> float:
    return (moment - datetime.datetime.now(datetime.UTC)).total_seconds()


def _compare(before: Mapping[str, str], after: Mapping[str, str], seen: Observation) -> None:
    different = [command for command, text in before.items() if after[command] != text]
    if different:
        raise AgentError(f"cleanup left something behind; before and after differ in: {', '.join(different)}")
    seen.remark("after bandwidth-agent cleanup the server's kernel is as it was found")
