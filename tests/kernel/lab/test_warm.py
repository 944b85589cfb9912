"""A program that is forked is, for whoever looks at it, like one that was started."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bandwidth_lab import CommandError, Lab, Namespace, warm

LAB_FOLDER = pathlib.Path(warm.__file__).parents[1]

# Says what it was given, and its exit code is the number of its words; with the word `wait` it does not end by itself.
PROGRAM = """
import json, os, signal, sys

def main(words):
    sys.stdout.reconfigure(errors="backslashreplace")
    interfaces = sorted(os.listdir("/sys/class/net"))
    leads = os.getsid(0) == os.getpid()
    print(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ), interfaces, leads]), flush=True)
    print("on stderr", file=sys.stderr)
    if words == ["wait"]:
        signal.pause()
    return len(words)
"""


@pytest.fixture
def program(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return str(path)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("kw-") as made:
        yield made


@pytest.fixture
def namespace(lab: Lab) -> Namespace:
    made = lab.namespace("one")
    made.ip("link add this type veth peer name that")
    return made


def test_it_has_what_a_started_one_has(namespace: Namespace, program: str, tmp_path: pathlib.Path) -> None:
    """Its words, folder, environment and streams, a session of its own, and the interfaces of its namespace."""
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        started = warm.start(
            [program, "a", "b"],
            namespace=namespace,
            stdout=out.fileno(),
            stderr=err.fileno(),
            environment={"ONLY": "this"},
        )
        assert started.wait(60) == 2
    interfaces = ["lo", "that", "this"]
    said = json.loads((tmp_path / "out").read_text())
    assert said == [["a", "b"], os.getcwd(), {"ONLY": "this"}, interfaces, True]
    assert (tmp_path / "err").read_text() == "on stderr\n"


def test_its_streams_may_be_pipes(program: str) -> None:
    """What is set about them, as our programs do at their start, is set of a pipe."""
    read, write = os.pipe()
    with os.fdopen(read) as pipe:
        started = warm.start([program, "a"], stdout=write, stderr=write)
        os.close(write)
        assert "on stderr" in pipe.read()
    assert started.wait(60) == 1


def test_its_end_is_told(namespace: Namespace, program: str) -> None:
    """The exit code, and with `check` what it printed."""
    assert warm.run([program], namespace=namespace).returncode == 0
    with pytest.raises(CommandError, match="on stderr") as failed:
        warm.run([program, "a", "b", "c"], namespace=namespace)
    assert failed.value.returncode == 3


def test_it_is_killed_when_it_takes_too_long(namespace: Namespace, program: str) -> None:
    """And nothing of it is left."""
    with pytest.raises(subprocess.TimeoutExpired):
        warm.run([program, "wait"], namespace=namespace, timeout=0.2)
    listed = subprocess.run(["ip", "netns", "pids", namespace.name], capture_output=True, text=True, check=True)
    assert listed.stdout == ""


def test_it_is_signalled_and_waited_for(namespace: Namespace, program: str, tmp_path: pathlib.Path) -> None:
    """As a child of this process."""
    with (tmp_path / "out").open("w") as out:
        started = warm.start([program, "wait"], namespace=namespace, stdout=out.fileno(), stderr=out.fileno())
    assert started.poll() is None
    os.kill(started.pid, signal.SIGSTOP)
    stopped = os.waitid(os.P_PID, started.pid, os.WSTOPPED)
    assert stopped is not None
    assert stopped.si_status == signal.SIGSTOP
    started.kill()
    assert started.wait(60) == -signal.SIGKILL
    started.terminate()  # what has ended is left alone


def test_it_ends_with_its_namespace(lab: Lab, namespace: Namespace, program: str, tmp_path: pathlib.Path) -> None:
    """Like everything that runs in a namespace of a lab."""
    with (tmp_path / "out").open("w") as out:
        started = warm.start([program, "wait"], namespace=namespace, stdout=out.fileno(), stderr=out.fileno())
    lab.close()
    assert started.returncode is not None


def test_it_ends_with_who_asked_for_it(program: str) -> None:
    """If that is wanted, also where he is killed; the template ends too. Who reads their output reaches its end."""
    asks = f"""
import os, signal
from bandwidth_lab import warm
warm.start([{program!r}, "wait"], stdout=1, stderr=1, dies_with_parent=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    asked = subprocess.run(
        [sys.executable, "-c", asks],
        env=os.environ | {"PYTHONPATH": str(LAB_FOLDER)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
    )
    assert asked.returncode == -signal.SIGKILL, asked.stdout
