"""What both tellings have: the mail server in the cluster, its clients and meters outside, what is watched and shown.

The cluster is its caller's; so is the installation of client-bandwidth-operator in it. What a telling makes there is
gone at its end, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shlex
import time
from collections.abc import Callable, Iterator, Sequence

from bandwidth_demo.mail_story import recording
from bandwidth_demo.mail_story.outside import IMAGE, Line, Outside, Program, outside
from bandwidth_demo.mail_story.recording import Recording, Shown
from bandwidth_demo.recording import Event
from bandwidth_lab.kind import shell
from bandwidth_lab.kind.cluster import Cluster
from bandwidth_lab.meter import Sample, bits_per_second

HERE = pathlib.Path(__file__).parent
MAIL = HERE / "mail.yaml"
NAMESPACE, PORT = "mail-story", 30143  # as in that file

UPLINK_BITS_PER_SECOND = 50_000_000
QUEUE_BYTES = UPLINK_BITS_PER_SECOND // 8 // 10  # 100 ms
GREEDY_CONNECTIONS = 10  # as many as Dovecot lets one user have from one address
MAILS_READ = 2  # of a megabyte
PAUSE_SECONDS = 1.0
READY_SECONDS = 180
TELL_SECONDS = 5.0
ASK_SECONDS = 60.0  # for the plugin to answer


class StoryError(Exception):
    """The story cannot continue; the message says why."""


class Stage:
    """One run of a telling. `recorded` holds what has been measured so far, also when it fails."""

    def __init__(self, cluster: Cluster, recorded: Recording, write: Callable[[str], None]) -> None:
        self.cluster = cluster
        self.recorded = recorded
        self.write = write
        self._server = ""
        self._clients: Outside | None = None

    @contextlib.contextmanager
    def set(self) -> Iterator[None]:
        """Make the mail server and the outside, with the quiet client reading and both meters; remove all of it."""
        self.cluster.load(IMAGE)
        with (
            self._mail_server() as self._server,
            outside(self.cluster, UPLINK_BITS_PER_SECOND, QUEUE_BYTES) as self._clients,
        ):
            self._ask_versions()
            self.write(
                f"Dovecot answers at {self._server}:{PORT}, behind an uplink of "
                f"{UPLINK_BITS_PER_SECOND // 10**6} Mbit/s"
            )
            self._measure(self._clients)
            yield

    @contextlib.contextmanager
    def _mail_server(self) -> Iterator[str]:
        """Start the mail server; yield the address of the node that it runs on."""
        kubectl = self.cluster.kubectl
        try:
            # A pod is refused as long as its new namespace has no service account yet.
            shell.eventually("the mail server is accepted", lambda: kubectl("apply", "-f", str(MAIL)))
            self.write("the mailboxes are being filled")
            self.cluster.wait_pods(NAMESPACE, "app=dovecot", seconds=READY_SECONDS)
            pod = self.cluster.get("-n", NAMESPACE, "pod", "dovecot")
            yield pod["status"]["hostIP"]
        finally:
            kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", timeout=READY_SECONDS)

    def _ask_versions(self) -> None:
        dovecot = self.cluster.kubectl("-n", NAMESPACE, "exec", "dovecot", "--", "dovecot", "--version")
        node = self.cluster.get("nodes")["items"][0]["status"]["nodeInfo"]
        self.recorded.versions = {
            "Linux": node["kernelVersion"],
            "Kubernetes": node["kubeletVersion"].removeprefix("v"),
            "Dovecot": dovecot.split()[0],
        }

    def _measure(self, clients: Outside) -> None:
        recorded = self.recorded
        for client, samples in (("greedy", recorded.greedy), ("quiet", recorded.quiet)):
            self._meter(clients, client, samples)
        clients.follow(
            "quiet",
            ["quiet", *self._where("reader"), "--mails", str(MAILS_READ), "--pause", str(PAUSE_SECONDS)],
            lambda line: recorded.fetches.append(recording.fetch(line)),
        )
        shell.eventually(
            "the first readings of all programs", lambda: recorded.fetches and recorded.greedy and recorded.quiet
        )

    def _meter(self, clients: Outside, client: str, samples: list[Sample]) -> None:
        clients.follow(client, ["meter", "--interface", "eth0"], lambda line: samples.append(recording.sample(line)))

    def _where(self, user: str) -> tuple[str, ...]:
        return "--server", self._server, "--port", str(PORT), "--user", user

    def alone(self, seconds: float) -> None:
        """The story begins: for so long there is the quiet client and nobody else."""
        self.recorded.started_at = time.monotonic()
        self.write(f"the quiet client reads {MAILS_READ} MB of mail again and again, alone")
        self.watch(seconds)

    def start_greedy(self, label: str = "") -> Program:
        """A client begins to loop over its mailbox, until it is stopped or the story ends."""
        assert self._clients is not None
        self.event("a client loops over its mailbox", label=label)
        words = ["greedy", *self._where("loop"), "--connections", str(GREEDY_CONNECTIONS)]
        return self._clients.follow("greedy", words, self._hear)

    def ended(self) -> None:
        self.recorded.ended_at = time.monotonic()

    def note_load(self) -> None:
        self.recorded.load = os.getloadavg()[0]

    def ask(self, *words: str) -> str:
        """Run the plugin as an administrator does, and keep what it printed."""
        return self._keep(("kubectl", "cbl", *words), self.cluster.cbl(*words, timeout=ASK_SECONDS))

    def show(self, *words: str) -> str:
        """The same for kubectl itself."""
        return self._keep(("kubectl", *words), self.cluster.kubectl(*words))

    def _keep(self, command: Sequence[str], printed: str) -> str:
        self.recorded.shown.append(Shown(time.monotonic(), shlex.join(command), printed))
        self.write(printed.rstrip())
        return printed

    def event(
        self, text: str, limit_bits_per_second: int | None = None, *, at: float | None = None, label: str = ""
    ) -> None:
        """Note what happened, now or at a time that is known; `label`: the same in fewer words."""
        moment = time.monotonic() if at is None else at
        self.recorded.events.append(Event(moment, text, limit_bits_per_second, label))
        self.write(text)

    def _hear(self, line: Line) -> None:
        if "failure" in line:
            self.write(f"the greedy client lost a connection: {line['failure']}")

    def watch(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Wait for so long, or until something is so, and print every few seconds what is measured."""
        assert self._clients is not None
        now = time.monotonic()
        end, tell_at = now + seconds, now + TELL_SECONDS
        while not until() and (left := end - time.monotonic()) > 0:
            time.sleep(min(1.0, left))
            if self._clients.lost:
                raise StoryError("; ".join(self._clients.lost))
            if time.monotonic() >= tell_at:
                tell_at += TELL_SECONDS
                self.write(self._how_it_goes())

    def _how_it_goes(self) -> str:
        greedy, quiet = (
            f"{bits_per_second(samples[-min(20, len(samples))], samples[-1]) / 1e6:5.2f}"
            for samples in (self.recorded.greedy, self.recorded.quiet)
        )
        last = self.recorded.fetches[-1]
        took = f"{last.seconds:.2f} s" if last.failure is None else last.failure
        clock = f"{time.monotonic() - self.recorded.started_at:6.1f} s"
        return f"{clock}   greedy {greedy}   quiet {quiet} Mbit/s   reading mail: {took}"
