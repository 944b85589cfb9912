"""The files of the service as text: their first line alone says whose they are, and whether they were changed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_agent.systemd import unit_files
from bandwidth_agent.systemd.unit_files import Found

PROGRAM = "/opt/client-bandwidth/bin/bandwidth-agent"
TEMPLATE = "[Service]\nExecStart=@PROGRAM@ run\nExecStartPre=/bin/sh @FILES@/sets\n"


def written(template: str = TEMPLATE, program: str = PROGRAM) -> str:
    return unit_files.written(template, program=program, files="/usr/lib/files")


def test_paths_are_put_in() -> None:
    """A unit calls the program and the file that stand where it was told."""
    assert "ExecStart=/opt/client-bandwidth/bin/bandwidth-agent run\n" in written()
    assert "ExecStartPre=/bin/sh /usr/lib/files/sets\n" in written()


def test_what_stands_there_is_known_without_memory() -> None:
    """Nothing, the same, an older one, one for another program, an edit, an edit of an older one, a stranger's."""
    wanted, older = written(), written("[Service]\n")
    assert unit_files.compare(None, wanted) is Found.NOTHING
    assert unit_files.compare(wanted, wanted) is Found.CURRENT
    assert unit_files.compare(older, wanted) is Found.OUTDATED
    assert unit_files.compare(written(program="/elsewhere"), wanted) is Found.OUTDATED
    assert unit_files.compare(f"{wanted}# mine\n", wanted) is Found.EDITED
    assert unit_files.compare(f"{older}# mine\n", wanted) is Found.EDITED_BEFORE
    assert unit_files.compare("[Service]\n", wanted) is Found.FOREIGN
    assert unit_files.compare("", wanted) is Found.FOREIGN


@given(st.text(), st.text())
def test_no_edit_is_taken_for_ours(before: str, after: str) -> None:
    """Whatever is put around or into what was written: it is never replaced, unless it is what was written."""
    wanted = written()
    there = f"{before}{wanted}{after}"
    found = unit_files.compare(there, wanted)
    assert (found is Found.CURRENT) == (there == wanted)
    assert found in (Found.CURRENT, Found.EDITED, Found.FOREIGN)


@pytest.mark.parametrize("path", ["/opt/a b/agent", "/opt/50%/agent", "/opt/$x/agent", '/opt/"/agent', "/opt/ä/agent"])
def test_what_systemd_would_read_otherwise_is_not_said(path: str) -> None:
    """Such a path is refused instead of being escaped by guess."""
    assert not unit_files.sayable(path)
    assert unit_files.sayable(PROGRAM)
