"""The installed program, run inside the server on a folder of its own, as an administrator runs it."""

from __future__ import annotations

import contextlib
import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bandwidth_lab.namespaces import Namespace

PROGRAM = pathlib.Path(sys.executable).with_name("bandwidth-agent")


class AgentError(Exception):
    """The agent failed; the message holds the last lines that it printed."""


class Agent:
    """One installation: a manifest directory, empty at first, a state directory, and the program that follows them."""

    def __init__(self, server: Namespace, folder: pathlib.Path) -> None:
        self._server = server
        self._state = ["--state-dir", str(folder / "state")]
        self._log_path = folder / "agent.log"
        self.manifests = folder / "limits"
        self.manifests.mkdir()
        self._process: subprocess.Popen[str] | None = None
        self._told = 0  # decisions

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run the agent during the block; stopping it leaves the limits in force."""
        with self._log_path.open("w") as log:
            self._process = self._server.start(self.command("run"), stdout=log.fileno())
        yield
        self._process.terminate()
        self._process.wait(timeout=10)

    def command(self, program: str, *words: str) -> Sequence[str]:
        """Return the command of a program that reads the manifest directory."""
        return [str(PROGRAM), program, "--manifests", str(self.manifests), *self._state, *words]

    def check(self) -> None:
        """Raise AgentError if the agent has ended."""
        if self._process is not None and self._process.poll() is not None:
            raise AgentError(f"the agent ended with exit code {self._process.returncode}:\n{self.last_words()}")

    @property
    def follows(self) -> bool:
        """Whether the agent has made its first pass, and so follows its folder."""
        return "started" in self._log_path.read_text()

    def decided(self) -> list[Mapping[str, Any]]:
        """Return what policies have decided since the last call, as the agent's log has it, in order."""
        *lines, _ = self._log_path.read_text().split("\n")  # the last one may not be whole yet
        read = [json.loads(line) for line in lines if line.startswith("{")]
        found = [each for each in read if each.get("message") == "decided"]
        news, self._told = found[self._told :], len(found)
        return news

    def ask(self, program: str, *words: str) -> subprocess.Popen[str]:
        """Start a program that reads the kernel; it looks for some seconds, and the answer is what it prints."""
        return self._server.start([str(PROGRAM), program, *words, *self._state])

    def clean_up(self) -> None:
        """Take away all that is in the kernel."""
        self._server.run([str(PROGRAM), "cleanup", *self._state])

    def write(self, path: pathlib.Path, text: str) -> None:
        """Write a file of the manifest directory, whole or not at all, as an editor does."""
        beside = path.with_name(f".{path.name}.part")
        beside.write_text(text)
        beside.rename(path)

    def last_words(self) -> str:
        """Return the end of its log."""
        return "\n".join(self._log_path.read_text().splitlines()[-15:])
