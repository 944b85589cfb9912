"""helm, run to its end, against a test's API server or none."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "client-bandwidth-operator"
OLDEST = "1.31.0"  # that the chart is for


def path() -> str:
    """Of the program, from KUBE_BINARIES (a directory) or PATH."""
    search = os.pathsep.join(p for p in (os.environ.get("KUBE_BINARIES", ""), os.environ.get("PATH", "")) if p)
    found = shutil.which("helm", path=search)
    assert found is not None, "helm is neither in KUBE_BINARIES nor in PATH"
    return found


def run(
    *words: str, home: pathlib.Path, kubeconfig: pathlib.Path | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run it; `home` is a directory for what it keeps."""
    environment = {"HOME": str(home), "PATH": os.environ.get("PATH", "")}
    if kubeconfig is not None:
        environment["KUBECONFIG"] = str(kubeconfig)
    done = subprocess.run([path(), *words], capture_output=True, text=True, timeout=300, env=environment)
    assert not check or done.returncode == 0, f"helm {' '.join(words)}: {done.stdout}{done.stderr}"
    return done


def template(*words: str, home: pathlib.Path, version: str = OLDEST, check: bool = True) -> str:
    """What the chart renders, or with `check=False` what helm says about it."""
    release = ("template", "client-bandwidth-operator", str(CHART), "--namespace", "client-bandwidth")
    done = run(*release, "--kube-version", version, *words, home=home, check=check)
    return done.stdout + done.stderr


def policy(name: str, *settings: str, home: pathlib.Path) -> str:
    """One of the chart's policies and its binding, as they are with these values."""
    words = [word for setting in settings for word in ("--set", setting)]
    return template("--show-only", f"templates/policies/{name}.yaml", *words, home=home)
