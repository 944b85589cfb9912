"""kubectl cbl at a terminal: the screen of top in a real one, and the questions that slow and lift ask."""

from __future__ import annotations

import os
import pathlib
import subprocess
import time
from collections.abc import Iterator, Sequence

import pytest

from bandwidth_lab.terminal import Terminal, terminal
from cluster import sighted
from cluster.plugin import Plugin
from cluster.world import LIMITS, QUERIES, World

pytestmark = pytest.mark.xdist_group("plugin terminal")

NODES = 3
GREEDY = bytes([203, 0, 113, 7])


@pytest.fixture
def screen(plugin: Plugin, tmp_path: pathlib.Path) -> Iterator[Terminal]:
    """A terminal on which `kubectl cbl` can be typed."""

    def run(words: Sequence[str]) -> str:
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True, env=dict(os.environ))
        return done.stdout

    with terminal(run, tmp_path, width=110, height=40) as made:
        for name, value in plugin.environment().items():
            typed(made, f"export {name}='{value}'")
        made.until("KUBECONFIG=")
        yield made


@pytest.fixture
def looking(world: World) -> Iterator[World]:
    """A cluster of three nodes, of which each sends 30 Mbit/s to one client."""
    with sighted.nodes(world, [{GREEDY: 30e6}] * NODES):
        yield world


def typed(on: Terminal, line: str) -> None:
    on.write(line)
    on.type("Enter")


def test_a_client_is_found_and_slowed_from_the_screen(looking: World, plugin: Plugin, screen: Terminal) -> None:
    """`l`, a reason, a look at what it would be, and the limit is in force on all nodes; `q` ends the question."""
    began = time.monotonic()
    typed(screen, f"{plugin.kubectl} cbl top")
    screen.until("203.0.113.7")
    print(f"first rows after {time.monotonic() - began:.2f} s")
    screen.type("l")
    screen.until("Slow down 203.0.113.7")
    screen.type("Enter", "Enter")
    screen.write("mail loop")
    screen.type("Enter")
    seen = screen.until("ClientBandwidthLimit", 20)
    assert "slow-203-0-113-7" in seen
    applied = time.monotonic()
    screen.type("y")
    looking.wait(lambda: looking.ready("slow-203-0-113-7") == "Ready", "the limit is in force")
    print(f"slowed {time.monotonic() - applied:.2f} s after the last key")
    screen.until("slow-203-0-113-7")
    assert looking.get(f"{LIMITS}/slow-203-0-113-7")["spec"]["reason"] == "mail loop"
    screen.type("q")
    looking.wait(lambda: not looking.items(QUERIES), "the question is taken back", 10)


def test_the_screen_says_when_and_why_nothing_comes(looking: World, plugin: Plugin, screen: Terminal) -> None:
    """An operator that is gone, and an API server that is, each while the last rows stay; and both come back."""
    typed(screen, f"{plugin.kubectl} cbl top")
    screen.until("203.0.113.7")
    looking.operators[-1].stop()
    seen = screen.until("no newer answer for", 60)
    assert "203.0.113.7" in seen
    looking.operator("other")
    screen.until(lambda seen: "203.0.113.7" in seen and "no newer answer" not in seen, 60)
    with looking.outage():
        screen.until("the API server: ", 60)
    screen.until(lambda seen: "203.0.113.7" in seen and "note: " not in seen, 60)
    screen.type("q")
    looking.wait(lambda: not looking.items(QUERIES), "the question is taken back", 10)


def test_without_an_operator_the_screen_does_not_wait_in_silence(
    world: World, plugin: Plugin, screen: Terminal
) -> None:
    """It says within seconds that nobody answers, and what to look at."""
    typed(screen, f"{plugin.kubectl} cbl top")
    assert "kubectl cbl status" in screen.until("no answer for 5 s", 30)
    screen.type("q")
    world.wait(lambda: not world.items(QUERIES), "the question is taken back", 10)


def test_slow_asks_for_what_is_missing_and_then_whether(world: World, plugin: Plugin, screen: Terminal) -> None:
    """A rate and a reason are asked for, a wrong one again; the manifest is shown; without a yes nothing is made."""
    typed(screen, f"{plugin.kubectl} cbl slow 203.0.113.7 --wait 0")
    screen.until("Rate, such as 5Mbit?")
    typed(screen, "5MB")
    screen.until("rates are in bits")
    typed(screen, "5Mbit")
    screen.until("Why, for the next person who finds it?")
    typed(screen, "mail loop")
    seen = screen.until("Slow 203.0.113.7 down to 5Mbit for 1h? [y/N]")
    assert "rate: 5Mbit" in seen
    typed(screen, "n")
    screen.until("nothing was made")
    assert world.items(LIMITS) == []
    typed(screen, f"{plugin.kubectl} cbl slow 203.0.113.7 --rate 5Mbit --reason x --wait 0")
    screen.until(lambda seen: seen.count("[y/N]") == 2)
    typed(screen, "y")
    screen.until("slow-203-0-113-7 created")
    typed(screen, f"{plugin.kubectl} cbl lift 203.0.113.7")
    screen.until("Lift slow-203-0-113-7? [y/N]")
    typed(screen, "yes")
    screen.until('"slow-203-0-113-7" deleted')
    assert world.items(LIMITS) == []


def test_ctrl_c_at_a_question_makes_nothing(world: World, plugin: Plugin, screen: Terminal) -> None:
    """It ends with 130 and without a traceback."""
    typed(screen, f"{plugin.kubectl} cbl slow 203.0.113.7 --rate 5Mbit --reason x; echo code $?")
    screen.until("[y/N]")
    screen.type("C-c")
    assert "Traceback" not in screen.until("code 130")
    assert world.items(LIMITS) == []


def test_a_kubeconfig_without_credentials_is_asked_for_them(world: World, plugin: Plugin, screen: Terminal) -> None:
    """kubectl asks for a name and a password; the questions are to be seen, and the password is not."""
    where = f"--server={plugin.plane.server} --insecure-skip-tls-verify --kubeconfig=/dev/null"
    typed(screen, f"{plugin.kubectl} cbl list {where}; echo code $?")
    screen.until("Please enter Username:")
    typed(screen, "ada")
    screen.until("Please enter Password:")
    typed(screen, "secret")
    seen = screen.until("code 1")
    assert "you may not list clientbandwidthlimits" in seen.replace("\n", "")
    assert "secret" not in seen
