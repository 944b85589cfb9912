"""The plugin's single file in a PATH of its own, run as `kubectl cbl` by the real kubectl with a bare Python."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from bandwidth_lab.control_plane import ControlPlane, binaries

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 120.0


@dataclasses.dataclass(frozen=True)
class Done:
    """A call that ended."""

    code: int
    text: str
    errors: str
    seconds: float

    @property
    def out(self) -> list[str]:
        """The lines on stdout."""
        return self.text.splitlines()


class Plugin:
    """`kubectl cbl` as the administrator of a cluster, or as whoever a kubeconfig names."""

    def __init__(self, plane: ControlPlane, directory: pathlib.Path) -> None:
        self.plane = plane
        self.directory = directory
        self.path = directory / "bin"
        subprocess.run([sys.executable, str(ROOT / "tools" / "plugin"), str(self.path)], check=True, timeout=60)
        self.kubectl = binaries()["kubectl"]
        os.symlink(self.kubectl, self.path / "kubectl")
        for name in ("sh", "env"):
            os.symlink(str(shutil.which(name)), self.path / name)
        # Without site-packages and environment: the standard library and nothing else.
        python = self.path / "python3"
        python.write_text(f'#!{shutil.which("sh")}\nexec {sys.executable} -S -I "$@"\n')
        python.chmod(0o755)
        self.kubeconfig = plane.kubeconfig()

    def environment(self, kubeconfig: pathlib.Path | str | None = None, **more: str) -> Mapping[str, str]:
        """What a call finds around it."""
        home = {"HOME": str(self.directory), "KUBECONFIG": str(kubeconfig or self.kubeconfig)}
        return {"PATH": str(self.path), "LANG": "C.UTF-8", **home, **more}

    def run(
        self, *words: str, kubeconfig: pathlib.Path | str | None = None, stdin: str | None = None, **environment: str
    ) -> Done:
        """Run `kubectl cbl` to its end."""
        return self._run(["cbl", *words], self.environment(kubeconfig, **environment), stdin)

    def complete(self, *words: str) -> Done:
        """What kubectl's own completion finds for the last word."""
        return self._run(["__complete", *words], self.environment(), None)

    def started(
        self, *words: str, kubeconfig: pathlib.Path | str | None = None, **environment: str
    ) -> subprocess.Popen[str]:
        """Start `kubectl cbl`, which becomes the plugin; to be ended by the test."""
        return subprocess.Popen(
            [self.kubectl, "cbl", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(kubeconfig, **environment),
        )

    def _run(self, words: Sequence[str], environment: Mapping[str, str], stdin: str | None) -> Done:
        began = time.monotonic()
        done = subprocess.run(
            [self.kubectl, *words],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            env=environment,
        )
        return Done(done.returncode, done.stdout, done.stderr.strip(), time.monotonic() - began)
