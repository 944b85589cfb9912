"""How .ci/run runs its steps: some side by side, what fails is shown at once, and nothing outlives the run."""

from __future__ import annotations

import pathlib
import signal
import subprocess

import pytest

STEPS = pathlib.Path(__file__).resolve().parents[2] / ".ci/steps"
FAILED = 7
SECONDS = 60.0

# A step that others run beside: what it started, a program that ignores the first signal, holds the end of a pipe.
HOLDS = """sh -c 'trap "" INT; echo begun >>begun; sleep 1000'"""


class Run:
    """A run of some steps in a folder of its own."""

    def __init__(self, folder: pathlib.Path, steps: str) -> None:
        (folder / "build/ci").mkdir(parents=True)
        self.folder = folder
        script = f"set -euo pipefail; . {STEPS}\n{steps}\necho all is done"
        self.process = subprocess.Popen(
            ["env", "--default-signal=INT", "CI_GRACE_SECONDS=0", "bash", "-c", script],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ended(self) -> tuple[int, str]:
        """The exit code and all that was printed, once nothing that was started has its output open any more."""
        printed, _ = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, printed


def test_a_step_beside_others_prints_when_it_is_waited_for(tmp_path: pathlib.Path) -> None:
    """And what runs meanwhile prints as it goes."""
    run = Run(
        tmp_path,
        """
        beside other sh -c 'echo of the other; until [ -e go ]; do sleep 0.01; done'
        step "one" sh -c 'echo of the one; touch go'
        joined other "the other"
        """,
    )
    code, printed = run.ended()
    lines = [line for line in printed.splitlines() if line]
    assert code == 0
    assert [line.split(" (after")[0] for line in lines] == [
        "== one",
        "of the one",
        "== the other",
        "of the other",
        "all is done",
    ]


@pytest.mark.parametrize("ends", ["before it is waited for", "while it is waited for"])
def test_a_failure_beside_ends_the_run(tmp_path: pathlib.Path, ends: str) -> None:
    """With what it printed, and at once: the step that it ran beside ends too."""
    early = ends == "before it is waited for"
    run = Run(
        tmp_path,
        f"""
        beside other sh -c 'echo why it fails; until [ -e begun ]; do sleep 0.01; done; exit {FAILED}'
        step "one" {HOLDS if early else "touch begun"}
        joined other "the other"
        """,
    )
    code, printed = run.ended()
    assert code == 1
    assert f"== other failed with {FAILED}" in printed
    assert "why it fails" in printed
    assert "all is done" not in printed


def test_a_failure_ends_what_runs_beside(tmp_path: pathlib.Path) -> None:
    """The run has the exit code of the step."""
    run = Run(
        tmp_path,
        f"""
        exec 9>&1
        beside other {HOLDS}
        step "one" sh -c 'until [ -e begun ]; do sleep 0.01; done; exit {FAILED}'
        """,
    )
    code, printed = run.ended()
    assert code == FAILED
    assert "all is done" not in printed


def test_a_step_that_may_fail_is_asked_how_it_went(tmp_path: pathlib.Path) -> None:
    """The run goes on, whether it fails while others run or while it is waited for."""
    run = Run(
        tmp_path,
        f"""
        beside early sh -c 'exit {FAILED}'
        may_fail early
        step "one" sh -c 'sleep 0.1'
        beside late sh -c 'sleep 0.1; exit {FAILED}'
        may_fail late
        for name in early late; do if ended_well $name; then echo $name well; else echo $name not; fi; done
        """,
    )
    code, printed = run.ended()
    assert code == 0
    assert printed.splitlines()[-3:] == ["early not", "late not", "all is done"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_ends_all_that_it_started(tmp_path: pathlib.Path, number: signal.Signals) -> None:
    """Also what does not heed the first signal: whoever reads its output reaches the end of it."""
    run = Run(
        tmp_path,
        f"""
        exec 9>&1
        beside other sh -c 'trap "" INT TERM; until [ -e begun ]; do sleep 0.01; done; echo beside >&9; sleep 1000'
        step "one" {HOLDS}
        """,
    )
    assert run.process.stdout is not None
    while "beside" not in run.process.stdout.readline():
        pass
    run.process.send_signal(number)
    code, printed = run.ended()
    assert code == (130 if number == signal.SIGINT else 143)
    assert "all is done" not in printed
