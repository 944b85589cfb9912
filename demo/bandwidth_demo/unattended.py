"""Plays the demonstration with nobody at the keyboard: a policy slows the greedy client, and lets it go by itself.

What is marked in the picture is what the agent's log says that was decided, when it is read there.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from bandwidth_demo import recording, site, story
from bandwidth_demo.agent import Agent, AgentError
from bandwidth_demo.observation import Observation
from bandwidth_demo.recording import Event, Rate
from bandwidth_demo.site import Site
from bandwidth_lab.traffic import TcpFlow

FIRST_RATE, SECOND_RATE = Rate(10), Rate(3)
BESIDE_SECONDS = 3.0  # before the policy has seen enough
LIMITED_SECONDS = 5.0
LIMIT_PATIENCE_SECONDS = 40.0
LIFT_PATIENCE_SECONDS = 80.0
SETTLE_SECONDS = 1.0
LOOK_SECONDS = 0.2
POLICY = f"""\
apiVersion: clientbandwidth.io/v1alpha1
kind: ClientBandwidthPolicy
metadata:
  name: fair-use
spec:
  watch:
    groupBy: {{ipv6: 128}}          # here all clients share one /64
  when:
    rate: {{above: 12Mbit, forSeconds: 10}}
  then:
    mode: Enforce
    steps:
    - {{rate: {FIRST_RATE.text}, ttlSeconds: 300}}
    - {{rate: {SECOND_RATE.text}, ttlSeconds: 600}}
  lift: {{forSeconds: 30}}          # the shortest there is
"""


def play(here: Site, agent: Agent, folder: pathlib.Path, seen: Observation, quiet: Mapping[int, TcpFlow]) -> None:
    """The greedy client comes, is slowed, stops, is let go, comes back, and is slowed more."""
    greedy = {4: here.greedy.address4, 6: here.greedy.address6}
    agent.write(agent.manifests / "fair-use.yaml", POLICY)
    seen.say("A policy is all that there is: who gets more than 12 Mbit/s over ten seconds is slowed to 10 Mbit/s.")
    story.suffer(here, seen, quiet, BESIDE_SECONDS)
    _slowed(agent, seen, greedy, FIRST_RATE)
    seen.recover(site.QUIET_BITS_PER_SECOND)
    seen.measure("first step", LIMITED_SECONDS, quiet, recording.undisturbed)
    here.stop_greedy()
    seen.note("the greedy client has what it wanted, and stops", "greedy stops")
    _lifted(agent, seen)
    seen.watch(SETTLE_SECONDS)
    seen.note("it comes back, at full rate; as it is remembered, the second step follows", "back")
    here.start_greedy()
    _slowed(agent, seen, greedy, SECOND_RATE)
    seen.recover(site.QUIET_BITS_PER_SECOND)
    seen.measure("second step", LIMITED_SECONDS, quiet, recording.undisturbed)


def _slowed(agent: Agent, seen: Observation, addresses: Mapping[int, str], rate: Rate) -> None:
    """Wait until the policy has slowed both addresses of the greedy client, and the limits are seen on the wire."""
    events: dict[int, Event] = {}
    limits: dict[int, int] = {}

    def told(decision: Mapping[str, Any]) -> None:
        families = [family for family, address in addresses.items() if decision["client"] == address]
        if decision["decision"] != "Limited" or not families:
            raise AgentError(f"the policy decided what it should not: {dict(decision)}")
        limits[families[0]] = rate.bits_per_second
        text = f"decided: {decision['client']} gets {decision['rate']}: {decision['why']}"
        events[families[0]] = seen.note(text, "" if events else f"policy: {rate}", limits)

    _await(agent, seen, told, lambda: set(events) == {4, 6}, LIMIT_PATIENCE_SECONDS)
    seen.settle(SETTLE_SECONDS, events, "it was decided")


def _lifted(agent: Agent, seen: Observation) -> None:
    """Wait until the policy has lifted both limits."""
    lifted: list[str] = []

    def told(decision: Mapping[str, Any]) -> None:
        if decision["decision"] != "Lifted":
            raise AgentError(f"the policy decided what it should not: {dict(decision)}")
        text = f"decided: {decision['client']} is let go: {decision['why']}"
        seen.note(text, "" if lifted else "policy: lifted", {} if lifted else None)
        lifted.append(str(decision["client"]))

    _await(agent, seen, told, lambda: len(lifted) == 2, LIFT_PATIENCE_SECONDS)


def _await(
    agent: Agent,
    seen: Observation,
    told: Callable[[Mapping[str, Any]], None],
    done: Callable[[], bool],
    seconds: float,
) -> None:
    """Watch until all that is waited for was decided, each decision told once."""
    patience = time.monotonic() + seconds
    while not done():
        if time.monotonic() > patience:
            raise AgentError(
                f"the policy has not decided it within {seconds:g} s; the agent says:\n{agent.last_words()}"
            )
        seen.watch(LOOK_SECONDS)
        for each in agent.decided():
            told(each)
