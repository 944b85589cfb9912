"""A signal that comes while a program that goes on is still being loaded."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

# Sends itself the signal when the module that is the program is about to be loaded.
LOADED = """
import importlib, os, signal, sys

class Now:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[3]:
            os.kill(os.getpid(), getattr(signal, sys.argv[1]))
            os.write(1, b"goes on")
            os._exit(0)

signal.signal(getattr(signal, sys.argv[1]), signal.SIG_DFL)
sys.meta_path.insert(0, Now())
importlib.import_module(sys.argv[2]).main(sys.argv[4:])
"""
OPERATOR = ("bandwidth_operator.cli", "bandwidth_operator.commands.run", "run")
AGENT = ("bandwidth_agent.cli", "bandwidth_agent.commands.run", "run", "--manifests")


@pytest.mark.parametrize("number", ["SIGHUP", "SIGUSR1", "SIGUSR2"])
@pytest.mark.parametrize("program", [OPERATOR, AGENT], ids=["operator", "agent"])
def test_what_does_not_mean_stop_ends_no_program_that_is_just_starting(
    program: tuple[str, ...], number: str, tmp_path: pathlib.Path
) -> None:
    """A terminal that is closed right after the start ends neither the operator nor the agent."""
    words = [*program, str(tmp_path)] if program is AGENT else [*program]
    command = [sys.executable, "-c", LOADED, number, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "goes on"), done.stderr
