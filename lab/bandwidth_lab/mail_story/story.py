"""The story, in order: reading mail alone, beside a greedy client, with that client limited, with the limit deleted.

The cluster is its caller's; so is the installation of client-bandwidth-operator in it. What the story makes there is
gone at its end, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from bandwidth_lab.demo.recording import Event
from bandwidth_lab.kind import shell
from bandwidth_lab.kind.cluster import Cluster
from bandwidth_lab.kind.release import NAMESPACE as RELEASE_NAMESPACE
from bandwidth_lab.kind.release import Release
from bandwidth_lab.mail_story import recording
from bandwidth_lab.mail_story.outside import IMAGE, Line, Outside, outside
from bandwidth_lab.mail_story.recording import Recording
from bandwidth_lab.meter import Sample, bits_per_second

HERE = pathlib.Path(__file__).parent
MAIL, LIMIT = HERE / "mail.yaml", HERE / "limit.yaml"
NAMESPACE, LIMIT_NAME, PORT = "mail-story", "mail-loop", 30143  # as those files say
GREEDY_ADDRESS = "203.0.113.7"

UPLINK_BITS_PER_SECOND = 50_000_000
QUEUE_BYTES = UPLINK_BITS_PER_SECOND // 8 // 10  # 100 ms
LIMIT_BITS_PER_SECOND = 5_000_000
GREEDY_CONNECTIONS = 10  # as many as Dovecot lets one user have from one address
MAILS_READ = 2  # of a megabyte
PAUSE_SECONDS = 1.0
READY_SECONDS = 180
TELL_SECONDS = 5.0


class Lengths(NamedTuple):
    """Seconds of each part."""

    alone: float
    beside: float
    limited: float
    deleted: float


FULL = Lengths(alone=30, beside=90, limited=90, deleted=60)
QUICK = Lengths(alone=12, beside=25, limited=25, deleted=25)


class StoryError(Exception):
    """The story cannot go on; the message says why."""


class Story:
    """One run. `recorded` holds what has been measured so far, also when it fails."""

    def __init__(self, cluster: Cluster, lengths: Lengths, say: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._lengths = lengths
        self._say = say
        self._node = ""  # that the mail server runs on
        self.recorded = Recording(UPLINK_BITS_PER_SECOND, LIMIT_BITS_PER_SECOND, time.monotonic())

    def run(self) -> Recording:
        """Make the mail server and the outside, tell the story, take both away."""
        self._cluster.load(IMAGE)
        with (
            self._mail_server() as server,
            outside(self._cluster, UPLINK_BITS_PER_SECOND, QUEUE_BYTES) as clients,
        ):
            self._ask_versions()
            self._say(
                f"Dovecot answers at {server}:{PORT}, behind an uplink of {UPLINK_BITS_PER_SECOND // 10**6} Mbit/s"
            )
            self._tell(server, clients)
        return self.recorded

    @contextlib.contextmanager
    def _mail_server(self) -> Iterator[str]:
        """The mail server, and the address of the node that it runs on."""
        kubectl = self._cluster.kubectl
        try:
            # A pod is refused as long as its new namespace has no service account yet.
            shell.eventually("the mail server is accepted", lambda: kubectl("apply", "-f", str(MAIL)))
            self._say("the mailboxes are being filled")
            self._cluster.wait_pods(NAMESPACE, "app=dovecot", seconds=READY_SECONDS)
            pod = self._cluster.get("-n", NAMESPACE, "pod", "dovecot")
            self._node = pod["spec"]["nodeName"]
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

    def _tell(self, server: str, clients: Outside) -> None:
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
        self._say(f"the quiet client reads {MAILS_READ} MB of mail again and again, alone")
        self._watch(clients, lengths.alone)

        self._event("a client loops over its mailbox")
        greedy = ["greedy", *where, "--user", "loop", "--connections", str(GREEDY_CONNECTIONS)]
        clients.follow("greedy", greedy, self._hear)
        self._watch(clients, lengths.beside)

        self._find_out()
        self._event(f"kubectl apply: {LIMIT_BITS_PER_SECOND // 10**6} Mbit/s", LIMIT_BITS_PER_SECOND)
        self._cluster.kubectl("apply", "-f", str(LIMIT))
        recorded.kubectl_seconds = time.monotonic() - recorded.events[-1].at
        recorded.load = os.getloadavg()[0]
        self._watch(clients, lengths.limited)
        self._show("kubectl", "get", "cbl")
        agent = Release(self._cluster).pod_on("agent", self._node)
        self._show("kubectl", "-n", RELEASE_NAMESPACE, "exec", agent, "--", "bandwidth-agent", "show")

        self._event("kubectl delete")
        self._cluster.kubectl("delete", "cbl", LIMIT_NAME)
        self._watch(clients, lengths.deleted)
        recorded.ended_at = time.monotonic()

    def _meter(self, clients: Outside, client: str, samples: list[Sample]) -> None:
        clients.follow(client, ["meter", "--interface", "eth0"], lambda line: samples.append(recording.sample(line)))

    def _find_out(self) -> None:
        """Ask Dovecot who its clients are; the greedy one must be there by its own address."""
        said = self._show("kubectl", "-n", NAMESPACE, "exec", "dovecot", "--", "doveadm", "who")
        if GREEDY_ADDRESS not in said:
            raise StoryError(f"Dovecot does not see {GREEDY_ADDRESS}:\n{said}")

    def _show(self, program: str, *words: str) -> str:
        """Run a command of an administrator, and keep what it printed."""
        printed = self._cluster.kubectl(*words)
        self.recorded.shown[" ".join((program, *words))] = printed
        self._say(printed.rstrip())
        return printed

    def _event(self, text: str, limit_bits_per_second: int | None = None) -> None:
        self.recorded.events.append(Event(time.monotonic(), text, limit_bits_per_second))
        self._say(text)

    def _hear(self, line: Line) -> None:
        if "failure" in line:
            self._say(f"the greedy client lost a connection: {line['failure']}")

    def _watch(self, clients: Outside, seconds: float) -> None:
        """Let it go on for so long, and say every few seconds how it goes."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(TELL_SECONDS, left))
            if clients.lost:
                raise StoryError("; ".join(clients.lost))
            self._say(self._how_it_goes())

    def _how_it_goes(self) -> str:
        greedy, quiet = (
            f"{bits_per_second(samples[-min(20, len(samples))], samples[-1]) / 1e6:5.2f}"
            for samples in (self.recorded.greedy, self.recorded.quiet)
        )
        last = self.recorded.fetches[-1]
        took = f"{last.seconds:.2f} s" if last.failure is None else last.failure
        clock = f"{time.monotonic() - self.recorded.started_at:6.1f} s"
        return f"{clock}   greedy {greedy}   quiet {quiet} Mbit/s   reading mail: {took}"
