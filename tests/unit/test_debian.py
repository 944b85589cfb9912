"""What the Debian package says of itself is what is in it."""

from __future__ import annotations

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEBIAN = ROOT / "deploy/debian"
CONTROL = (DEBIAN / "control").read_text()
BUILD = (ROOT / "tools/deb").read_text()


def test_it_installs_where_its_libraries_work() -> None:
    """The Pythons that libraries are brought for are those that it depends on."""
    (pythons,) = re.findall(r"^PYTHONS = \((.*)\)$", BUILD, re.MULTILINE)
    minors = [int(minor) for minor in re.findall(r'"3\.(\d+)"', pythons)]
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert f"python3 (>= 3.{minors[0]}), python3 (<< 3.{minors[-1] + 1})" in CONTROL
    architectures = re.findall(r'"(\w+)": "\w+"', BUILD.partition("MACHINES = ")[2].partition("\n")[0])
    assert f"Architecture: {' '.join(architectures)}\n" in CONTROL


def test_the_licence_of_every_library_is_named() -> None:
    """copyright has a paragraph for each package that the lock file names for Linux."""
    locked = re.findall(r"^([\w.-]+)==(?!.*win32)", (ROOT / "requirements/agent.txt").read_text(), re.MULTILINE)
    named = re.findall(r"usr/lib/client-bandwidth/(\w+)\*", (DEBIAN / "copyright").read_text())
    assert {name.replace("-", "_") for name in locked} <= set(named)


def test_only_a_removal_touches_the_kernel() -> None:
    """An upgrade stops nothing and cleans nothing: both are asked for `remove` alone."""
    prerm = (DEBIAN / "client-bandwidth-agent.prerm").read_text()
    before, _, after = prerm.partition('if [ "$1" = remove ]; then\n')
    assert "cleanup" not in before
    assert "bandwidth-agent cleanup" in after.partition("\nfi\n")[0]
    assert "#DEBHELPER#" in before  # which stops the service
