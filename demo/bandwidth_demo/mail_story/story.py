"""The story, in order: reading mail alone, beside a greedy client, with that client found and limited, and let go.

The cluster is its caller's; so is the installation of client-bandwidth-operator in it. What the story makes there is
gone at its end, however it ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from bandwidth_demo.mail_story import recording
from bandwidth_demo.mail_story.outside import IMAGE, Line, Outside, outside
from bandwidth_demo.mail_story.recording import GREEDY_ADDRESS, Recording
from bandwidth_demo.recording import Event
from bandwidth_lab.kind import shell
from bandwidth_lab.kind.cluster import Cluster
from bandwidth_lab.meter import Sample, bits_per_second

HERE = pathlib.Path(__file__).parent
MAIL = HERE / "mail.yaml"
NAMESPACE, PORT = "mail-story", 30143  # as in that file
LIMIT_NAME = "mail-loop"
REASON = "mailbox sync loop, ticket 4711"
# What an administrator types after `kubectl cbl`.
LOOK = ("top", "--once", "5")
SLOW = ("slow", GREEDY_ADDRESS, "--rate", "5Mbit", "--for", "1d", "--reason", REASON, "--name", LIMIT_NAME, "--yes")
WHO = ("who", GREEDY_ADDRESS)
LIFT = ("lift", LIMIT_NAME, "--yes")

UPLINK_BITS_PER_SECOND = 50_000_000
QUEUE_BYTES = UPLINK_BITS_PER_SECOND // 8 // 10  # 100 ms
LIMIT_BITS_PER_SECOND = 5_000_000
GREEDY_CONNECTIONS = 10  # as many as Dovecot lets one user have from one address
MAILS_READ = 2  # of a megabyte
PAUSE_SECONDS = 1.0
READY_SECONDS = 180
TELL_SECONDS = 5.0
LOOKS = 3  # a node that is busy may be missing in an answer, which says so; then one looks again
ASK_SECONDS = 60.0  # for the plugin to answer


class Lengths(NamedTuple):
    """Seconds of each part."""

    alone: float
    beside: float
    limited: float
    deleted: float


FULL = Lengths(alone=30, beside=90, limited=90, deleted=60)
QUICK = Lengths(alone=12, beside=25, limited=25, deleted=25)


class StoryError(Exception):
    """The story cannot continue; the message says why."""


class Story:
    """One run. `recorded` holds what has been measured so far, also when it fails."""

    def __init__(self, cluster: Cluster, lengths: Lengths, write: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._lengths = lengths
        self._write = write
        self.recorded = Recording(UPLINK_BITS_PER_SECOND, LIMIT_BITS_PER_SECOND, time.monotonic())

    def run(self) -> Recording:
        """Make the mail server and the outside, play the story, remove both."""
        self._cluster.load(IMAGE)
        with (
            self._mail_server() as server,
            outside(self._cluster, UPLINK_BITS_PER_SECOND, QUEUE_BYTES) as clients,
        ):
            self._ask_versions()
            self._write(
                f"Dovecot answers at {server}:{PORT}, behind an uplink of {UPLINK_BITS_PER_SECOND // 10**6} Mbit/s"
            )
            self._play(server, clients)
        return self.recorded

    @contextlib.contextmanager
    def _mail_server(self) -> Iterator[str]:
        """Start the mail server; return it and the address of the node that it runs on."""
        kubectl = self._cluster.kubectl
        try:
            # A pod is refused as long as its new namespace has no service account yet.
            shell.eventually("the mail server is accepted", lambda: kubectl("apply", "-f", str(MAIL)))
            self._write("the mailboxes are being filled")
            self._cluster.wait_pods(NAMESPACE, "app=dovecot", seconds=READY_SECONDS)
            pod = self._cluster.get("-n", NAMESPACE, "pod", "dovecot")
            yield pod["status"]["hostIP"]
        finally:
            kubectl("delete", "cbl", LIMIT_NAME, "--ignore-not-found")
            kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", timeout=READY_SECONDS)

    def _ask_versions(self) -> None:
        dovecot = self._cluster.kubectl("-n", NAMESPACE, "exec", "dovecot", "--", "dovecot", "--version")
        node = self._cluster.get("nodes")["items"][0]["status"]["nodeInfo"]
        self.recorded.versions = {
            "Linux": node["kernelVersion"],
            "Kubernetes": node["kubeletVersion"].removeprefix("v"),
            "Dovecot": dovecot.split()[0],
        }

    def _play(self, server: str, clients: Outside) -> None:
        recorded, lengths = self.recorded, self._lengths
        where = ("--server", server, "--port", str(PORT))
        for client, samples in (("greedy", recorded.greedy), ("quiet", recorded.quiet)):
            self._meter(clients, client, samples)
        mails = ("--mails", str(MAILS_READ), "--pause", str(PAUSE_SECONDS))
        clients.follow(
            "quiet",
            ["quiet", *where, "--user", "reader", *mails],
            lambda line: recorded.fetches.append(recording.fetch(line)),
        )
        shell.eventually(
            "the first readings of all programs", lambda: recorded.fetches and recorded.greedy and recorded.quiet
        )

        recorded.started_at = time.monotonic()
        self._write(f"the quiet client reads {MAILS_READ} MB of mail again and again, alone")
        self._watch(clients, lengths.alone)

        self._event("a client loops over its mailbox")
        greedy = ["greedy", *where, "--user", "loop", "--connections", str(GREEDY_CONNECTIONS)]
        clients.follow("greedy", greedy, self._hear)
        self._watch(clients, lengths.beside)

        self._find_out()
        self._event(f"kubectl cbl slow: {LIMIT_BITS_PER_SECOND // 10**6} Mbit/s", LIMIT_BITS_PER_SECOND)
        self._ask(*SLOW)
        recorded.kubectl_seconds = time.monotonic() - recorded.events[-1].at
        recorded.load = os.getloadavg()[0]
        self._watch(clients, lengths.limited)
        self._ask(*WHO)
        self._show("get", "cbl")

        self._event("kubectl cbl lift")
        self._ask(*LIFT)
        self._watch(clients, lengths.deleted)
        recorded.ended_at = time.monotonic()

    def _meter(self, clients: Outside, client: str, samples: list[Sample]) -> None:
        clients.follow(client, ["meter", "--interface", "eth0"], lambda line: samples.append(recording.sample(line)))

    def _find_out(self) -> None:
        """Ask the cluster who gets how much, and Dovecot who that is."""
        self._ask(*LOOK)
        for _ in range(LOOKS):
            answer = json.loads(self._cluster.cbl(*LOOK, "-o", "json", timeout=ASK_SECONDS))
            self.recorded.named = next((row["client"] for row in answer["clients"] if not row["label"]), "")
            if len(answer["nodes"]) == answer["nodesAsked"]:
                break
        self.recorded.named_at = time.monotonic()
        self._write(f"on top: {self.recorded.named or 'nobody'}")
        self._show("-n", NAMESPACE, "exec", "dovecot", "--", "doveadm", "who")

    def _ask(self, *words: str) -> None:
        """Run the plugin as an administrator does, and keep what it printed."""
        self._keep(("kubectl", "cbl", *words), self._cluster.cbl(*words, timeout=ASK_SECONDS))

    def _show(self, *words: str) -> None:
        """The same for kubectl itself."""
        self._keep(("kubectl", *words), self._cluster.kubectl(*words))

    def _keep(self, command: Sequence[str], printed: str) -> None:
        self.recorded.shown[shlex.join(command)] = printed
        self._write(printed.rstrip())

    def _event(self, text: str, limit_bits_per_second: int | None = None) -> None:
        self.recorded.events.append(Event(time.monotonic(), text, limit_bits_per_second))
        self._write(text)

    def _hear(self, line: Line) -> None:
        if "failure" in line:
            self._write(f"the greedy client lost a connection: {line['failure']}")

    def _watch(self, clients: Outside, seconds: float) -> None:
        """Wait for so long, and print every few seconds what is measured."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(TELL_SECONDS, left))
            if clients.lost:
                raise StoryError("; ".join(clients.lost))
            self._write(self._how_it_goes())

    def _how_it_goes(self) -> str:
        greedy, quiet = (
            f"{bits_per_second(samples[-min(20, len(samples))], samples[-1]) / 1e6:5.2f}"
            for samples in (self.recorded.greedy, self.recorded.quiet)
        )
        last = self.recorded.fetches[-1]
        took = f"{last.seconds:.2f} s" if last.failure is None else last.failure
        clock = f"{time.monotonic() - self.recorded.started_at:6.1f} s"
        return f"{clock}   greedy {greedy}   quiet {quiet} Mbit/s   reading mail: {took}"
