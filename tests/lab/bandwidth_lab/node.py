"""A host of the lab that runs the agent: its limits as files, the program as users run it, and what its kernel holds.

Looks at the kernel through the agent's own reader and follows packets with its tracer, so that tests ask "how fast is
this client" and not which rule is where. What really arrives is measured by `meter`.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from bandwidth_agent.kernel import model
from bandwidth_agent.kernel.fake import tracer
from bandwidth_agent.kernel.linux import real
from bandwidth_api import addresses, names
from bandwidth_api.conditions import Reason
from bandwidth_lab import warm
from bandwidth_lab.namespaces import TIMEOUT_SECONDS, Namespace, Process

T = TypeVar("T")

_MADE: list[Node] = []  # every node since `no_false_alarm` began

PROGRAM = pathlib.Path(sys.executable).with_name("bandwidth-agent")
PATIENCE_SECONDS = 60.0

# What a user would compare before and after. Counters are left out by the tools' own defaults.
SNAPSHOT: tuple[tuple[str, ...], ...] = (
    ("iptables-save",),
    ("ip6tables-save",),
    ("nft", "list", "ruleset"),
    ("ipset", "save"),
    ("ip", "-o", "link"),
    ("tc", "qdisc", "show"),
)


def no_false_alarm() -> Iterator[None]:
    """A fixture for all tests with agents: none of them says that a limit is bypassed unless the test has made it so.

    Agents check all the time whether their limits hold, so each test is a trial that may deceive them.
    """
    _MADE.clear()
    yield
    wrong = [line for made in _MADE if not made.bypassed for line in made.alarms()]
    _MADE.clear()
    assert not wrong, wrong


def forked_programs() -> Iterator[None]:
    """A fixture for a module of tests that are about what agents do, and not about their start: they are forked."""
    before, Node.forked = Node.forked, True
    yield
    Node.forked = before


def pause_seconds(took: float, least: float = 0.02) -> float:
    """How long to wait between two looks at something that each take so many seconds.

    Tests run beside each other: who waits for something should not keep the others from it.
    """
    return min(0.1, max(least, 4 * took))


def whole_second(ahead: float) -> datetime.datetime:
    """The time in at most so many seconds, as manifests write it."""
    return (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=ahead)).replace(microsecond=0)


class Node:
    """One host with an agent. Files and state live under `folder`."""

    patience_seconds = PATIENCE_SECONDS  # of `until`
    program = PROGRAM  # what runs the agent
    forked = False  # where that is the program of this source: whether it is started as `warm` does

    def __init__(self, namespace: Namespace, folder: pathlib.Path, *options: str, interface: str = "eth0") -> None:
        self.namespace = namespace
        self.interface = interface
        self.options: tuple[str, ...] = options
        self.manifests = folder / "manifests"
        self.manifests.mkdir(parents=True, exist_ok=True)
        self.state = folder / "state"
        self.log = folder / "agent.log"
        self.process: Process | None = None
        self.bypassed = False  # whether packets of limited clients do leave past their limits here
        _MADE.append(self)

    # ── limits ─────────────────────────────────────────────────────────────────────────────────────────────────

    def limit(self, name: str, clients: Sequence[str], rate: str, **spec: Any) -> None:
        """Write a limit, whole or not at all."""
        egress = {"rate": rate, **spec.pop("egress", {})}
        document = {
            "apiVersion": names.API_VERSION,
            "kind": names.LIMIT_KIND,
            "metadata": {"name": name},
            "spec": {"clients": list(clients), "egress": egress, **spec},
        }
        self.write(f"{name}.yaml", json.dumps(document))

    def limit_until(self, ends: datetime.datetime, name: str, clients: Sequence[str], rate: str) -> None:
        """Write a limit that ends then."""
        self.limit(name, clients, rate, expiresAt=ends.strftime("%Y-%m-%dT%H:%M:%SZ"))

    def write(self, file: str, text: str) -> None:
        beside = self.manifests / f".{file}.new"
        beside.write_text(text)
        os.replace(beside, self.manifests / file)

    def lift(self, name: str) -> None:
        (self.manifests / f"{name}.yaml").unlink()

    # ── the program ────────────────────────────────────────────────────────────────────────────────────────────

    def command(self, program: str, *more: str) -> list[str]:
        manifests = ["--manifests", str(self.manifests)] if program in ("run", "plan") else []
        return [str(self.program), program, *manifests, "--state-dir", str(self.state), *self.options, *more]

    def start(self, *more: str, env: Mapping[str, str] | None = None) -> Process:
        """Run the agent in the background; its log goes on in one file over restarts."""
        return self.start_command(self.command("run", *more), env)

    def start_command(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> Process:
        """Run this, which is an agent, in the background."""
        with self.log.open("a") as log:
            out = log.fileno()
            if self._is_forked(command):
                self.process = warm.start(command, namespace=self.namespace, stdout=out, stderr=out, environment=env)
            else:
                self.process = self.namespace.start(command, stdout=out, stderr=out, env=env)
        return self.process

    def run_command(
        self, command: Sequence[str], *, timeout: float = TIMEOUT_SECONDS, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run this, which is a program of the agent, to its end."""
        if self._is_forked(command):
            return warm.run(command, namespace=self.namespace, timeout=timeout, check=check)
        return self.namespace.run(command, timeout=timeout, check=check)

    def _is_forked(self, command: Sequence[str]) -> bool:
        return self.forked and command[0] == str(PROGRAM)

    def stop(self) -> int:
        """End the agent as a service manager does; its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=PATIENCE_SECONDS)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=PATIENCE_SECONDS)

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """While this lasts the agent does nothing at all, as on a host too busy to run it; then it goes on."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)  # until every thread of it has stopped
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    def once(self, *more: str, check: bool = True) -> dict[str, Any]:
        """`run --once`; its report. With `check`, every limit must be in force."""
        done = self.run_command(self.command("run", "--once", "-o", "json", *more), timeout=120, check=check)
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def show(self) -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(self.run_command(self.command("show", "-o", "json")).stdout)
        return shown

    def cleanup(self) -> str:
        return self.run_command(self.command("cleanup"), timeout=120).stdout

    # ── the kernel ─────────────────────────────────────────────────────────────────────────────────────────────

    def kernel(self) -> model.State:
        """All that is ours in this host's kernel now."""

        return self._read(lambda reader: reader.observe())

    def counters(self) -> model.Counters:
        """What everything of ours has counted in this host's kernel until now."""
        return self._read(lambda reader: reader.counters())

    def facts(self) -> model.Facts:
        """What is not ours in this host's kernel now, as an agent reads it."""
        return self._read(lambda reader: reader.facts())

    def _read(self, ask: Callable[[real.RealKernel], T]) -> T:
        def read() -> T:
            at = self.options.index("--bpf-directory") + 1 if "--bpf-directory" in self.options else 0
            reader = real.RealKernel(bpf_directory=self.options[at] if at else "")
            try:
                return ask(reader)
            finally:
                reader.close()

        return self.namespace.call(read)

    def rate_of(self, client: str, port: int = 443, protocol: str = "TCP", interface: str | None = None) -> int | None:
        """Bits per second of the class of this client's packets; None: in none, they pass unshaped; 0: dropped."""
        state = self.kernel()
        prefix = addresses.parse(client)
        found = tracer.Tracer(state).trace(prefix.family, prefix.network, protocol, port, interface or self.interface)
        if not isinstance(found, tracer.ClassAddress):
            return None if found == "unshaped" else 0
        return state.trees[found.device].classes[found.minor].rate * 8

    def until(self, holds: Callable[[], bool], seconds: float | None = None) -> float:
        """Wait until something holds: the seconds that it took. Fails with the agent's log when it never does."""
        started = asked = time.monotonic()
        seconds = self.patience_seconds if seconds is None else seconds
        while not holds():
            answered = time.monotonic()
            if answered - started > seconds:
                log = self.log.read_text() if self.log.exists() else ""
                raise AssertionError(f"still not so after {seconds:g} s; the agent said:\n{log[-4000:]}")
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"the agent ended with {self.process.poll()}:\n{self.log.read_text()[-4000:]}")
            time.sleep(pause_seconds(answered - asked))
            asked = time.monotonic()
        return time.monotonic() - started

    def until_rate(self, client: str, rate: int | None, seconds: float | None = None) -> float:
        """Wait until this client is in a class of that rate (None: in no class)."""
        return self.until(lambda: self.rate_of(client) == rate, seconds)

    def alarms(self) -> list[str]:
        """The lines in which the agent said that packets leave past a limit."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if f'"reason": "{Reason.BYPASSED}"' in line]

    def snapshot(self) -> dict[str, str]:
        """What the tools print about this host's kernel, ours and all others'."""
        links = self.namespace.run(["ip", "-o", "link"]).stdout
        asked = {" ".join(command): " ".join(command) for command in SNAPSHOT}
        for name in sorted(line.split(":")[1].split("@")[0].strip() for line in links.splitlines()):
            asked |= {(c := f"tc {what} show dev {name}"): c for what in ("class", "filter")}
            asked |= {f"tc filter {name} {side}": f"tc filter show dev {name} {side}" for side in ("ingress", "egress")}
        # One shell: on a busy machine each `ip netns exec` costs as much as what it runs.
        lines = [f"printf '\\0{key}\\0'; {command} 2>/dev/null" for key, command in asked.items()]
        words = self.namespace.run(["sh", "-c", "\n".join([*lines, "true"])]).stdout.split("\0")
        return {key: _without_noise(text) for key, text in zip(words[1::2], words[2::2], strict=True)}


def _without_noise(text: str) -> str:
    """Without the lines that carry the time, and without the packet counts of chains, rules and qdiscs."""
    lines = (line for line in text.splitlines() if not line.startswith("# "))
    plain = "\n".join(line.split(" [")[0] if line.startswith(":") else line for line in lines)
    return re.sub(r"counter packets \d+ bytes \d+|direct_packets_stat \d+", "counter", plain)
