"""A client outside the cluster: a container on the network `kind` that downloads, and what arrives on its wire.

Times are of the machine's monotonic clock as the container reads it; rates as in `series`.
"""

from __future__ import annotations

import importlib.resources
import json
import math
import subprocess
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from bandwidth_lab.kind import cluster, series, shell
from bandwidth_lab.kind.node import container_address

FIRST_SAMPLE_SECONDS = 30.0
_IDLE = "import signal; signal.pause()"


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
        self.samples: list[series.Sample] = []
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
            self.samples.append(series.read(json.loads(line)))

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

    def rate(self, family: int, since: float, until: float = math.inf) -> float:
        """The mean rate on the wire between two times."""
        return series.rate(series.between(self.samples, since, until), family)

    def payload_rate(self, flow: str, since: float, until: float = math.inf) -> float:
        """The mean rate of one flow's payload between two times."""
        return series.payload_rate(series.between(self.samples, since, until), flow)

    def seconds(self, family: int, since: float, until: float = math.inf) -> list[tuple[float, float]]:
        """(its beginning, mean rate) of every second between two times."""
        return series.seconds(series.between(self.samples, since, until), family)

    def await_rate(self, family: int, fits: Callable[[float], bool], *, seconds: float = 60.0) -> float:
        """Wait until the rate of the last second fits; the time at that second's beginning."""
        found: list[float] = []

        def holds() -> bool:
            start = self.now - series.WINDOW_SECONDS - 0.05
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
