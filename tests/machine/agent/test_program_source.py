"""The code of our eBPF programs that is committed is what their source gives."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys

import pytest

TOOL = pathlib.Path(__file__).resolve().parents[3] / "tools/bpf"
COMPILER = subprocess.run(
    [sys.executable, TOOL, "--compiler"], check=True, capture_output=True, text=True
).stdout.strip()


@pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"there is no {COMPILER}, and others give other code")
def test_the_source_gives_the_code_that_is_committed() -> None:
    """To the byte."""
    done = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
