"""Files and digests of an earlier version: they are read now, and what is written now is what that version reads.

`recorded/` was written by commit 733eb5d from `limits.yaml`, in which one limit has every field that there is.
"""

from __future__ import annotations

import hashlib
import json
import pathlib

import yaml

from bandwidth_agent.limits.cluster import stored_plan
from bandwidth_agent.limits.directory import last_good_state
from bandwidth_api import addresses, plan
from bandwidth_api.compiler import compile as compiler
from bandwidth_api.crds import limit, slices
from unit.agent.limits.directory import manifests

RECORDED = pathlib.Path(__file__).parent / "recorded"
SLICE_DIGEST, PLAN_DIGEST = "39fbf4b203590630c79b8b6abe97e44c", "53af02e89527df4dcbd3f0e3daadedee"
EARLIER_LAYOUT = "a493f55b4a36"
SEEN_FIRST = 1_900_000_000.25  # when limits without a time of creation were seen first


def entries(seen_first: float = SEEN_FIRST) -> dict[str, plan.PlanEntry]:
    """The plan entries of limits.yaml, as compiled now."""
    found = {}
    for document in yaml.safe_load_all((RECORDED / "limits.yaml").read_text()):
        parsed = limit.parse(document)
        assert isinstance(parsed, limit.Limit)
        found[parsed.name] = compiler.entry(parsed, now=seen_first)
    return found


def test_plans_keep_their_digests() -> None:
    """An upgrade gives no slice and no plan another digest, so no node has anything to do for it."""
    made = slices.make("plan-00000", [e for e in entries().values() if e.mode is not plan.Mode.DISABLED], term=3)
    assert made.digest == SLICE_DIGEST
    assert slices.plan_digest({made.name: made.digest}) == PLAN_DIGEST


def test_a_stored_plan_of_an_earlier_version_is_read_and_written_the_same(tmp_path: pathlib.Path) -> None:
    """The plan on a node's disk is taken up by a version to either side, byte by byte the same."""
    recorded = (RECORDED / "plan.json").read_bytes()
    (tmp_path / stored_plan.NAME).write_bytes(recorded)
    store = stored_plan.Store(tmp_path, "n1", lambda _thread, _error: None)
    stored = store.load()
    assert stored is not None
    assert [e.limit for e in stored.slices["plan-00000"].entries] == ["everything", "least"]
    assert stored.slices["plan-00000"].digest == SLICE_DIGEST
    store.save(stored)
    store.close()
    assert (tmp_path / stored_plan.NAME).read_bytes() == recorded


def recorded_in(place: manifests.Place) -> None:
    """Put the recorded state where the source of this place remembers what it accepted."""
    place.write("limits.yaml", manifests.limit("least"))
    place.read()
    place.source.close()
    [path] = place.state.iterdir()
    path.write_bytes((RECORDED / "accepted.json").read_bytes())


def test_what_an_earlier_version_accepted_stays_in_force(tmp_path: pathlib.Path) -> None:
    """Its state has another layout of entries: the documents in it are validated again, and ages and owners stay."""
    place = manifests.Place(tmp_path)
    recorded_in(place)
    place.in_force = frozenset({"everything", "least", "switched-off"})
    for name in ("limits.yaml", "copy.yaml"):
        place.write(name, "broken: [")
    found = dict(place.restart().entries)
    place.source.close()
    born = json.loads((RECORDED / "accepted.json").read_bytes().partition(b"\n")[2])["rest"]["firstSeen"]["least"]
    assert found["least"].created_at == born
    assert found["least"].rate_bits_per_second == 6_000_000  # of copy.yaml, which was accepted first
    assert found["everything"] == entries()["everything"]
    assert found["switched-off"] == entries(found["switched-off"].created_at)["switched-off"]
    assert addresses.write(found["switched-off"].clients[0]) == "203.0.113.8"


def test_an_earlier_version_reads_what_is_remembered_now(tmp_path: pathlib.Path) -> None:
    """It asks for the same head and checksum, sees that the layout is none of its own, and needs names and documents.

    From these it validates the limits again; what an entry looks like it does not ask then.
    """
    place = manifests.Place(tmp_path)
    place.write("limits.yaml", (RECORDED / "limits.yaml").read_text())
    place.read()
    place.source.close()
    [path] = place.state.iterdir()
    then = (RECORDED / "accepted.json").read_bytes().partition(b"\n")
    now = path.read_bytes().partition(b"\n")
    head, head_then = json.loads(now[0]), json.loads(then[0])
    assert head.keys() == head_then.keys()
    assert (head["version"], head["sha256"]) == (head_then["version"], hashlib.sha256(now[2]).hexdigest())
    assert head["layout"] == last_good_state.LAYOUT != EARLIER_LAYOUT == head_then["layout"]
    [[name, signature, clean, limits]] = json.loads(now[2])["files"]
    recorded = {each[0]: each for each in json.loads(then[2])["files"]}[name]
    assert (len(signature), type(clean)) == (len(recorded[1]), bool)
    kept = {key: document for key, document, _ in recorded[3]}
    assert {key: document for key, document, _ in limits} == kept
    assert {"firstSeen", "owners"} == json.loads(now[2])["rest"].keys()
