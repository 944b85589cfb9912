"""What signals mean to `run`: what stops it, and what never ends it without a word."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess

import pytest

from bandwidth_lab.node import whole_second
from kernel.programs.conftest import Host

pytestmark = pytest.mark.root

CLIENT = "203.0.113.10"

STARTED = """
import os, signal, sys
signal.signal(int(sys.argv[1]), getattr(signal, sys.argv[2]))
os.execv(sys.argv[3], sys.argv[3:])
"""
# Makes stdin the terminal of the session, so that its end is a SIGHUP to who runs in front of it.
IN_FRONT = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"


def started(host: Host, number: signal.Signals, inherited: str) -> subprocess.Popen[str]:
    """The agent with a limit in force, started with SIG_DFL or SIG_IGN for a signal."""
    host.limit("mail", [CLIENT], "5Mbit")
    command = ["/usr/bin/python3", "-c", STARTED, str(int(number)), inherited, *host.command("run")]
    with host.log.open("a") as log:
        host.process = host.namespace.start(command, stdout=log.fileno(), stderr=log.fileno())
    host.until_rate(CLIENT, 5_000_000)
    return host.process


def said(host: Host, word: str) -> list[str]:
    """The levels of the lines about a signal."""
    lines = [json.loads(line) for line in host.log.read_text().splitlines() if line.startswith("{")]
    return [line["level"] for line in lines if line.get("signal") == word]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
@pytest.mark.parametrize("inherited", ["SIG_DFL", "SIG_IGN"])
def test_a_signal_that_does_not_mean_stop_ends_nothing(host: Host, number: signal.Signals, inherited: str) -> None:
    """It is said in the log, and limits begin as before; so it is under nohup."""
    process = started(host, number, inherited)
    process.send_signal(number)
    host.until(lambda: said(host, number.name) == ["info"])
    host.limit("new", ["203.0.113.11"], "3Mbit")
    host.until_rate("203.0.113.11", 3_000_000)
    assert host.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
@pytest.mark.parametrize("inherited", ["SIG_DFL", "SIG_IGN"])
def test_a_signal_that_means_stop_stops_however_it_was_started(
    host: Host, number: signal.Signals, inherited: str
) -> None:
    """In the background of a shell without job control too, and sent twice as once: 0, said, limits in force."""
    process = started(host, number, inherited)
    for _ in range(1 if number == signal.SIGINT else 2):  # a second Ctrl-C means: at once
        process.send_signal(number)
    assert process.wait(timeout=20) == 0
    assert said(host, number.name)[:1] == ["info"]
    assert "stopped; the limits stay in force" in host.log.read_text()
    assert host.rate_of(CLIENT) == 5_000_000


def test_a_terminal_that_is_closed_takes_no_limit_along(host: Host) -> None:
    """An agent in the foreground of a session that ends goes on: a limit expires in time, another one begins."""
    host.limit("mail", [CLIENT], "5Mbit")
    host.log.touch()
    ours, theirs = pty.openpty()
    host.process = host.namespace.start(
        ["/usr/bin/python3", "-c", IN_FRONT, *host.command("run")], stdout=theirs, stderr=theirs, stdin=theirs
    )
    os.close(theirs)
    host.until_rate(CLIENT, 5_000_000)
    os.close(ours)
    host.limit("new", ["203.0.113.11"], "3Mbit")
    host.until_rate("203.0.113.11", 3_000_000)
    host.limit_until(whole_second(3), "mail", [CLIENT], "5Mbit")
    host.until_rate(CLIENT, None)
    assert host.process.poll() is None
    assert host.stop() == 0


def test_no_exit_code_of_a_tool_is_missed(host: Host) -> None:
    """Started with SIGCHLD ignored and signals blocked, it works and stops as ever."""
    host.limit("mail", [CLIENT], "5Mbit")
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})\n"
        "os.execvp(sys.argv[1], sys.argv[1:])\n"
    )
    with host.log.open("a") as log:
        host.process = host.namespace.start(
            ["/usr/bin/python3", "-c", code, *host.command("run")], stdout=log.fileno(), stderr=log.fileno()
        )
    host.until_rate(CLIENT, 5_000_000)
    assert host.stop() == 0
