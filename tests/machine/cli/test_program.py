"""Running kubectl: programs in its place that say, ask, fail and wait as kubectl and its helpers do."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable

import pytest

from bandwidth_cli.kubectl import global_flags, process
from bandwidth_cli.kubectl.failures import Kind, KubectlError
from bandwidth_cli.kubectl.program import Kubectl
from bandwidth_cli.kubectl.watching import Patience, Watch

Make = Callable[..., Kubectl]


@pytest.fixture
def kubectl(tmp_path: pathlib.Path) -> Make:
    """A kubectl that is this shell script."""

    def make(script: str, *flags: str) -> Kubectl:
        path = tmp_path / "kubectl"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return Kubectl((str(path),), global_flags.split(flags), terminal=False)

    return make


def test_what_is_said_on_the_side_is_shown(kubectl: Make, capfd: pytest.CaptureFixture[str]) -> None:
    """A warning, or a page to open; with nothing in it that steers the terminal."""
    made = kubectl("printf 'Warning: old\\n\\033[31mopen me\\n' >&2; echo '{}'")
    assert made.get("/x") == {}
    assert capfd.readouterr().err == "Warning: old\n\\x1b[31mopen me\n"


def test_under_a_screen_nothing_is_said(kubectl: Make, capfd: pytest.CaptureFixture[str]) -> None:
    """It would be drawn over; what fails is raised all the same."""
    made = kubectl("echo hello >&2; echo 'Error from server (Forbidden): no' >&2; exit 1")
    made.hush()
    with pytest.raises(KubectlError, match="no") as failed:
        made.get("/x")
    assert failed.value.kind is Kind.FORBIDDEN
    assert capfd.readouterr().err == ""


def test_a_body_comes_through_a_pipe_of_its_own(kubectl: Make) -> None:
    """And the flags of the call with it, a time limit among them unless one is given."""
    script = """
while [ $# -gt 0 ]; do [ "$1" = -f ] && file=$2; words="$words $1"; shift; done
echo "{\\"words\\": \\"$words\\", \\"body\\": $(cat $file)}"
"""
    made = kubectl(script, "--context=prod")
    answer = made.create("/x", {"a": 1}, dry_run=True)
    assert answer["body"] == {"a": 1}
    assert "--context=prod --request-timeout=30s -f /dev/fd/" in answer["words"]
    assert "create --raw /x?fieldManager=kubectl-cbl&fieldValidation=Strict&dryRun=All" in answer["words"]
    assert "30s" not in kubectl(script, "--request-timeout=7s").create("/x", {})["words"]


def test_a_body_that_no_pipe_holds_is_refused(kubectl: Make) -> None:
    """Before anything waits for it for ever."""
    with pytest.raises(KubectlError, match="bytes"):
        kubectl("cat").create("/x", {"a": "x" * process.SENT_MAX_BYTES})


@pytest.mark.parametrize("script", ["echo no", "echo '[]'", "true"])
def test_what_is_no_kubectl_is_told(kubectl: Make, script: str) -> None:
    """KUBECTL may name anything."""
    with pytest.raises(KubectlError, match="does KUBECTL name a kubectl"):
        kubectl(script).get("/x")


def test_pages_are_read_to_the_end(kubectl: Make) -> None:
    """By the token that each hands on."""
    script = """
case $3 in
  *continue=t*) echo '{"items": [{"n": 2}]}';;
  *) echo '{"items": [{"n": 1}], "metadata": {"continue": "t"}}';;
esac
"""
    assert kubectl(script).listed("/x") == [{"n": 1}, {"n": 2}]


def test_a_program_that_cannot_be_run_is_told(tmp_path: pathlib.Path) -> None:
    """With its name and why."""
    path = tmp_path / "kubectl"
    path.write_text("x")
    for name, says in ((path, "cannot be run"), (tmp_path / "none", "there is no such program")):
        made = Kubectl((str(name),), global_flags.split(()), terminal=False)
        with pytest.raises(KubectlError, match=says):
            made.get("/x")


def test_a_watch_hands_out_whole_events(kubectl: Make) -> None:
    """However they come; and why it ended, if it failed."""
    script = """
printf '{"type": "ADDED", "obj'; sleep 0.1; printf 'ect": {"n": 1}}\\n'
echo 'error: gone' >&2
exit 1
"""
    with Watch(kubectl(script).watch("/x", "")) as watch:
        events = watch.until(Patience(time.monotonic() + 30))
        assert next(events) == ("ADDED", {"n": 1})
        with pytest.raises(KubectlError, match="gone"):
            next(events)


def test_a_watch_waits_no_longer_than_it_is_told_to(kubectl: Make) -> None:
    """And its kubectl has ended with it."""
    process = kubectl("exec sleep 60").watch("/x", "")
    with Watch(process) as watch:
        assert list(watch.until(Patience(time.monotonic() + 0.2))) == []
    assert process.returncode is not None


@pytest.mark.parametrize(
    "line", ["nonsense", '{"type": "ADDED"}', '{"type": "ERROR", "object": {"reason": "Expired"}}']
)
def test_what_is_no_event_is_an_error(kubectl: Make, line: str) -> None:
    """Also an event that says so."""
    with Watch(kubectl(f"echo '{line}'; exec sleep 60").watch("/x", "")) as watch, pytest.raises(KubectlError):
        list(watch.until(Patience(time.monotonic() + 30)))
