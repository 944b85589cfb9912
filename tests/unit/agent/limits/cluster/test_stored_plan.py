"""The plan on disk with whatever may stand there: it is used whole, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from typing import Any

import pytest

from bandwidth_agent.limits import atomic_file
from bandwidth_agent.limits.cluster import stored_plan

NODE = "node-a"


def store(directory: pathlib.Path) -> stored_plan.Store:
    return stored_plan.Store(directory, NODE, lambda thread, error: None)


def written(directory: pathlib.Path, *lines: object) -> None:
    """A file of these lines, with a right checksum. Bytes and words of depth stand in it as they are."""
    texts = [
        each if isinstance(each, bytes) else DEEP.encode() if each is DEEP else json.dumps(each).encode()
        for each in lines
    ]
    text = b"".join(each + b"\n" for each in texts)
    checksum = hashlib.sha256(text).hexdigest().encode()
    (directory / stored_plan.NAME).write_bytes(checksum + b"\n" + text)


HEAD: dict[str, Any] = {
    "layout": 1,
    "schema": 1,
    "node": NODE,
    "labels": {"zone": "east"},
    "retire": False,
    "resourceVersion": "100",
}
ENTRY: dict[str, Any] = {"name": "a", "clients": ["203.0.113.7"], "rate": 5_000_000, "created": 1}
SLICE: dict[str, Any] = {"name": "plan-00000", "digest": "d", "term": 1, "entries": [ENTRY]}
DEEP = "[" * 100_000
ODD_LINES: dict[str, tuple[object, object]] = {
    "head that is a list": ([], SLICE),
    "head that is too deep": (DEEP, SLICE),
    "labels that are a list": (HEAD | {"labels": ["a"]}, SLICE),
    "labels of numbers": (HEAD | {"labels": {"zone": 1}}, SLICE),
    "labels that are none": (HEAD | {"labels": None}, SLICE),
    "retire in words": (HEAD | {"retire": "yes"}, SLICE),
    "version that is a number": (HEAD | {"resourceVersion": 100}, SLICE),
    "version of many characters": (HEAD | {"resourceVersion": "1" * 100_000}, SLICE),
    "node that is a list": (HEAD | {"node": [NODE]}, SLICE),
    "line that is null": (HEAD, None),
    "line that is too deep": (HEAD, DEEP),
    "line that is no UTF-8": (HEAD, b"\xff"),
    "line of another name": (HEAD, SLICE | {"name": "../plan"}),
    "line with a list for its name": (HEAD, SLICE | {"name": ["plan-00000"]}),
    "line with an odd digest": (HEAD, SLICE | {"digest": {}}),
    "line with an odd term": (HEAD, SLICE | {"term": 1.5}),
    "entries that are an object": (HEAD, SLICE | {"entries": {"a": 1}}),
    **{
        f"entry with {what}": (HEAD, SLICE | {"entries": [ENTRY | changed]})
        for what, changed in {
            "a rate of no number": {"rate": float("nan")},
            "an endless rate": {"rate": float("inf")},
            "a fraction of a rate": {"rate": 1.5},
            "a rate that nothing holds": {"rate": 10**400},
            "a rate of nothing": {"rate": 0},
            "a burst that nothing holds": {"burst": 1 << 62},
            "a priority that nothing holds": {"priority": 1 << 62},
            "an end that no calendar knows": {"expires": 1 << 62},
            "an end of many digits": {"expires": 10**400},
            "a beginning of many digits": {"created": -(10**400)},
            "no beginning": {"created": None},
            "an empty name": {"name": ""},
            "a name of many characters": {"name": "a" * 300},
            "a name of two lines": {"name": "a\nb"},
            "clients in one text": {"clients": "203.0.113.7"},
            "a client that is a number": {"clients": [7]},
            "a client with host bits": {"clients": ["203.0.113.7/24"]},
            "ports in one text": {"ports": "TCP:80-80"},
            "ports that are none": {"ports": ["TCP:80-70000"]},
            "an odd mode": {"mode": ["Enforce"]},
            "an odd selector": {"nodeSelector": [{"key": "a", "operator": "In", "values": [1]}]},
            "a selector in one text": {"nodeSelector": "a=b"},
        }.items()
    },
}


@pytest.mark.parametrize("name", ODD_LINES)
def test_a_file_of_odd_content_is_set_aside(tmp_path: pathlib.Path, name: str) -> None:
    """Also where its checksum is right: nothing of it is used, so that nothing odd comes to the kernel."""
    written(tmp_path, *ODD_LINES[name])
    assert store(tmp_path).load() is None
    assert (tmp_path / f"{stored_plan.NAME}.unusable").exists()


def test_the_lines_of_these_tests_are_a_plan(tmp_path: pathlib.Path) -> None:
    """But for what is odd in each."""
    written(tmp_path, HEAD, SLICE)
    found = store(tmp_path).load()
    assert found is not None
    assert found.slices["plan-00000"].entries[0].rate_bits_per_second == 5_000_000


@pytest.mark.parametrize("what", ["directory", "pipe", "large"])
def test_what_is_no_file_of_ours_is_set_aside(
    tmp_path: pathlib.Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe without a writer keeps no agent waiting, and a file of any size fills no memory."""
    path = tmp_path / stored_plan.NAME
    match what:
        case "directory":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "large":
            path.write_bytes(b"x" * 1_001)
    monkeypatch.setattr(atomic_file.read, "__defaults__", (1_000,))
    one = store(tmp_path)
    assert one.load() is None
    assert not path.exists()
    plan = stored_plan.Stored(NODE, {}, {}, False, "7")
    one.save(plan)
    one.close()
    assert store(tmp_path).load() == plan
