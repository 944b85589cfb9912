"""The demonstration, stopped in the middle. Run to its end it is `make demo`."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from bandwidth_lab.namespaces import NETNS

pytestmark = pytest.mark.root

LAB_FOLDER = pathlib.Path(__file__).resolve().parents[3] / "lab"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demonstration_stopped_in_the_middle_leaves_nothing(number: int, tmp_path: pathlib.Path) -> None:
    """Ctrl-C ends it with 130, and no namespace, process or temporary folder of it is left."""
    with subprocess.Popen(
        [sys.executable, "-m", "bandwidth_lab.demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(LAB_FOLDER), "TMPDIR": str(tmp_path)},
    ) as demo:
        assert demo.stdout is not None
        lines = iter(demo.stdout.readline, "")
        assert any("greedy IPv4" in line for line in lines)  # traffic flows
        demo.send_signal(number)
        _, complaints = demo.communicate(timeout=30)
    assert (demo.returncode, complaints) == (130, "")
    assert not list(NETNS.glob(f"lab-demo-{demo.pid}-*"))
    assert not list(tmp_path.iterdir())


def test_a_demonstration_says_how_the_picture_must_be_called() -> None:
    """A name that is not an SVG's is refused before anything is made."""
    done = subprocess.run(
        [sys.executable, "-m", "bandwidth_lab.demo", "--plot", "demo.png"],
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | {"PYTHONPATH": str(LAB_FOLDER)},
    )
    assert done.returncode == 2
    assert "ends in .svg" in done.stderr
