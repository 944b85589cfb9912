"""`kubectl cbl` as an administrator has it: the single file in a PATH, called by the real kubectl from this machine."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess
import sys
import time

from bandwidth_lab.kind.cluster import Cluster
from bandwidth_lab.kind.shell import FailedCommandError

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 120.0


@dataclasses.dataclass(frozen=True)
class Done:
    """A call that ended, and when it began by the machine's monotonic clock."""

    text: str
    began: float
    seconds: float


class Plugin:
    """The file `kubectl-cbl` in a folder of its own."""

    def __init__(self, of: Cluster, folder: pathlib.Path) -> None:
        subprocess.run([sys.executable, str(ROOT / "tools/plugin"), str(folder)], check=True, timeout=PATIENCE_SECONDS)
        self._environment = of.environment()
        self._environment["PATH"] = f"{folder}:{self._environment.get('PATH', os.defpath)}"

    def run(self, *words: str, code: int = 0) -> Done:
        """Call it and wait for its end, which must be with this exit code."""
        command = ["kubectl", "cbl", *words]
        began = time.monotonic()
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            env=self._environment,
        )
        if ended.returncode != code:
            raise FailedCommandError(command, ended.returncode, ended.stdout + ended.stderr)
        return Done(ended.stdout, began, time.monotonic() - began)

    def started(self, *words: str) -> subprocess.Popen[bytes]:
        """Start it; the process is the plugin itself, to be ended by the caller."""
        return subprocess.Popen(
            ["kubectl", "cbl", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._environment,
        )
