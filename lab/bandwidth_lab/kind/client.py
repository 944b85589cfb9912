"""A client outside the cluster: a container on the network `kind` that downloads, and what arrives on its wire.

Times are of the machine's monotonic clock as the container reads it. Rates are bits per second on the wire, headers and
Ethernet included.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from bandwidth_lab.kind import cluster, shell
from bandwidth_lab.kind.node import container_address
from bandwidth_lab.meter import ETHERNET_BYTES, HEADER_BYTES

WINDOW_SECONDS = 1.0
FIRST_SAMPLE_SECONDS = 30.0
_IDLE = "import signal; signal.pause()"


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """What has arrived since the container was made: bytes on the wire by family, payload and dials by flow.

    It was read at some moment between `at` and `until`.
    """

    at: float
    until: float
    wire: Mapping[int, float]
    payload: Mapping[str, int]
    dials: Mapping[str, int]


class Client:
    """One container with an address of each family."""

    def __init__(self, of: cluster.Cluster, role: str, image: str) -> None:
        self.name = f"{of.name}-client-{role}"
        self._of, self._image = of, image

    def __enter__(self) -> Self:
        shell.run(["docker", "rm", "-f", self.name], check=False)
        command = ["docker", "run", "-d", "--name", self.name, "--network", "kind", "--entrypoint", "python3"]
        labels = ["--label", f"{cluster.PREFIX}of={self._of.name}"]
        shell.run([*command, *labels, "--memory", "512m", self._image, "-IBc", _IDLE])
        source = importlib.resources.files("bandwidth_lab.kind.inside").joinpath("client.py").read_text()
        write = ["docker", "exec", "-i", self.name, "sh", "-c", "cat >/tmp/client.py"]
        shell.run(write, stdin=source)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        shell.run(["docker", "rm", "-f", self.name])

    def address(self, family: int) -> str:
        return container_address(self.name, family)

    def download(self, **flows: tuple[float, str, int]) -> Stream:
        """Start downloads, each (bits per second to ask for, address, port); they run until the stream is left."""
        described = [f"{name}={rate:.0f}@[{address}]:{port}" for name, (rate, address, port) in flows.items()]
        return Stream(self.name, described)


class Stream:
    """Downloads that run, and their samples so far."""

    def __init__(self, container: str, flows: Sequence[str]) -> None:
        self.container = container
        self.samples: list[Sample] = []
        self._process = subprocess.Popen(
            ["docker", "exec", "-i", container, "python3", "-IBu", "/tmp/client.py", *flows],  # noqa: S108
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        try:
            shell.eventually("a first sample", lambda: self.samples or self._ended(), seconds=FIRST_SAMPLE_SECONDS)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the downloads; what was sampled stays readable. Idempotent."""
        assert self._process.stdin is not None
        self._process.stdin.close()  # the program inside ends with its input
        try:
            self._process.wait(timeout=10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=10.0)
        self._reader.join(timeout=10.0)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def _ended(self) -> bool:
        if self._process.poll() is None:
            return False
        raise RuntimeError(f"the client in {self.container} ended with {self._process.returncode}")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            read = json.loads(line)
            self.samples.append(
                Sample(
                    read["at"],
                    read["until"],
                    {family: _wire(family, *read[str(family)]) for family in (4, 6)},
                    {name: count for name, (count, _) in read["flows"].items()},
                    {name: dials for name, (_, dials) in read["flows"].items()},
                )
            )

    @property
    def now(self) -> float:
        """The time of the newest sample."""
        self._ended()
        return self.samples[-1].at

    def wait(self, seconds: float) -> float:
        """Let the traffic flow for so long; the time at the beginning."""
        start = self.now
        shell.eventually(f"{seconds:g} s of traffic", lambda: self.now >= start + seconds, seconds=seconds + 60)
        return start

    def rate(self, family: int, since: float, until: float = float("inf")) -> float:
        """The mean rate on the wire between two times."""
        chosen = [sample for sample in self.samples if since <= sample.at <= until]
        first, last = chosen[0], chosen[-1]
        return (last.wire[family] - first.wire[family]) * 8 / (last.at - first.at)

    def payload_rate(self, flow: str, since: float, until: float = float("inf")) -> float:
        """The mean rate of one flow's payload between two times."""
        chosen = [sample for sample in self.samples if since <= sample.at <= until]
        first, last = chosen[0], chosen[-1]
        return (last.payload[flow] - first.payload[flow]) * 8 / (last.at - first.at)

    def seconds(self, family: int, since: float, until: float = float("inf")) -> list[tuple[float, float]]:
        """(its beginning, mean rate) of every second between two times, one beginning at each sample.

        Where a busy machine took its time over a reading, the rate is the least that it can have been.
        """
        chosen = [sample for sample in self.samples if since <= sample.at <= until]
        found, end = [], 0
        for start in chosen:
            while end < len(chosen) and chosen[end].at < start.at + WINDOW_SECONDS:
                end += 1
            if end == len(chosen):
                break
            moved = chosen[end].wire[family] - start.wire[family]
            found.append((start.at, moved * 8 / (chosen[end].until - start.at)))
        return found

    def await_rate(self, family: int, fits: Callable[[float], bool], *, seconds: float = 60.0) -> float:
        """Wait until the rate of the last second fits; the time at that second's beginning."""
        found: list[float] = []

        def holds() -> bool:
            start = self.now - WINDOW_SECONDS - 0.05
            if start < self.samples[0].at or not fits(self.rate(family, start)):
                return False
            found.append(start)
            return True

        try:
            shell.eventually(f"a rate of {self.container} over IPv{family} that fits", holds, seconds=seconds)
        except TimeoutError as late:
            last = self.seconds(family, self.now - 5)
            raise TimeoutError(
                f"{late}; the last seconds: {[round(rate / 1e6, 2) for _, rate in last[::5]]} Mbit/s"
            ) from None
        return found[0]


def _wire(family: int, packets: int, segments: int, octets: int) -> float:
    """Bytes on the wire of what the IP layer has counted."""
    header = HEADER_BYTES["tcp", family] - ETHERNET_BYTES
    return octets + (segments - packets) * header + segments * ETHERNET_BYTES


def wait(seconds: float) -> None:
    """Let time pass, where nothing can be awaited because nothing may happen."""
    time.sleep(seconds)
