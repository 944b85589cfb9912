"""kubectl cbl top and who with traffic: real questions, the real operator, simulated nodes that see known traffic."""

from __future__ import annotations

import contextlib
import csv
import json
import signal
import time
from collections.abc import Iterator

import pytest

from bandwidth_lab.control_plane import ControlPlane
from cluster import sighted
from cluster.plugin import ROOT, Plugin
from cluster.world import LIMITS, QUERIES, TRAFFIC, World, limit

pytestmark = pytest.mark.xdist_group("plugin top")  # they share an operator

GREEDY, LIMITED, SMALL = (bytes([203, 0, 113, last]) for last in (7, 9, 200))
CROWD = {bytes([192, 0, 2, last]): 1e6 for last in range(60)}  # more than a report has rows
RATES = (
    {GREEDY: 60e6, LIMITED: 5e6, SMALL: 0.6e6} | CROWD,
    {GREEDY: 30e6, bytes([198, 51, 100, 2]): 2e6},
    {bytes([198, 51, 100, 3]): 3e6},
)


@pytest.fixture(scope="module")
def world(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A cluster of three nodes that see traffic, and a limit that holds one client."""
    made = World(plane, tmp_path_factory.mktemp("top"))
    made.clean()
    with contextlib.closing(made), sighted.nodes(made, RATES):
        made.create(limit("slow-9", ["203.0.113.9"]))
        made.wait_ready("slow-9")
        yield made


def answered(world: World) -> int:
    """How many nodes have answered the one question that there is."""
    return int(world.items(QUERIES)[0]["status"]["nodes"]["answered"])


def test_top_once_adds_what_all_nodes_send(world: World, plugin: Plugin) -> None:
    """The largest first, with shares, errors, nodes and limits; afterwards nothing is asked any more."""
    done = plugin.run("top", "--once", "8", "-o", "json")
    assert done.code == 0, done
    found = json.loads(done.text)
    first = found["clients"][0]
    assert first["client"] == "203.0.113.7"
    second = next(row for row in found["clients"] if row["client"] == "203.0.113.9")
    assert 0.8 * 90e6 < first["rates"]["10s"]["bitsPerSecond"] < 1.2 * 90e6
    assert 0 < first["rates"]["10s"]["error"] < 0.1
    assert (first["nodes"], first["nodeCount"]) == (["node-0"], 2)
    assert (second["limits"][0]["name"], second["limits"][0]["rateBitsPerSecond"]) == ("slow-9", 5_000_000)
    assert found["nodes"] == ["node-0", "node-1", "node-2"]
    assert world.items(QUERIES) == []


def test_the_first_rows_come_soon(world: World, plugin: Plugin) -> None:
    """Within four seconds of the call, and within what the operator needs to answer."""
    done = plugin.run("top", "--once", "0", "-o", "json")
    print(f"first rows after {done.seconds:.2f} s")
    assert done.code == 0, done
    assert json.loads(done.text)["clients"]


def test_top_once_prints_tables_and_csv(world: World, plugin: Plugin) -> None:
    """Text for people, rows for programs; networks, and only some nodes, on request."""
    text = plugin.run("top", "--once", "2").out
    assert text[0].startswith("3 nodes: ")
    assert "203.0.113.7" in text[2]
    rows = list(csv.DictReader(plugin.run("top", "--once", "2", "-o", "csv").out))
    assert rows[0]["client"] == "203.0.113.7"
    grouped = json.loads(plugin.run("top", "--once", "2", "--prefix", "-o", "json").text)
    assert grouped["clients"][0]["client"] == "203.0.113.0/24"
    some = json.loads(plugin.run("top", "--once", "2", "--nodes", "node-2", "-o", "json").text)
    assert [c["client"] for c in some["clients"]] == ["198.51.100.3"]


def test_nodes_that_are_not_there_are_told(world: World, plugin: Plugin) -> None:
    """A question to nobody has no answer."""
    done = plugin.run("top", "--once", "2", "--nodes", "nobody")
    assert done.code == 1, done
    assert done.errors.startswith("error: ")


def test_who_shows_the_rate_on_each_node_against_the_limit(world: World, plugin: Plugin) -> None:
    """Held at its limit where it is limited; its rate alone where nothing holds it."""
    done = plugin.run("who", "203.0.113.9", "-o", "json")
    assert done.code == 0, done
    node = json.loads(done.text)["nodes"][0]
    assert node["classes"][0]["limit"] == "slow-9"
    assert node["limitBitsPerSecond"] == 5_000_000
    assert 2e6 < node["rate"]["bitsPerSecond"] < 9e6
    assert node["held"] in ("held", "below")
    page = plugin.run("who", "203.0.113.7").out
    assert page[0].startswith("203.0.113.7 is held by no limit; it gets ")
    assert page[2].split()[:2] == ["NODE", "CLASS"]
    assert world.items(QUERIES) == []


def test_who_knows_the_rate_of_a_small_client_also_while_others_look(world: World, plugin: Plugin) -> None:
    """One that is behind all rows of its node has a rate of its own, with its error; and so has a network."""
    process = plugin.started("top", "--once", "40")
    try:
        world.wait(lambda: world.items(QUERIES) and answered(world) == 3, "the nodes answer somebody else")
        for address, truth in (("203.0.113.200", 0.6e6), ("192.0.2.0/27", 32e6)):
            rate = json.loads(plugin.run("who", address, "-o", "json").text)["nodes"][0]["rate"]
            assert not rate["atMost"], rate
            assert rate["bitsPerSecond"] == pytest.approx(truth, rel=4 * rate["error"]), rate
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def test_who_asks_a_cluster_of_an_older_version(world: World, plugin: Plugin) -> None:
    """Whose CRD has no questions about single clients: the rows of the nodes say what they can."""
    crd = "clienttrafficqueries.clientbandwidth.io"
    path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/clients"
    world.plane.kubectl("patch", "crd", crd, "--type=json", "-p", json.dumps([{"op": "remove", "path": path}]))
    try:
        done = plugin.run("who", "203.0.113.9", "-o", "json")
        found = json.loads(done.text)["nodes"][0]["rate"]
        assert 2e6 < found["bitsPerSecond"] < 9e6, done
    finally:
        world.plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "deploy" / "crds"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_an_interrupted_question_is_taken_back(world: World, plugin: Plugin, number: signal.Signals) -> None:
    """At once, without a traceback; the exit code tells."""
    process = plugin.started("top", "--once", "50")
    world.wait(lambda: world.items(QUERIES), "the question is asked")
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert errors.strip() == ""
    assert world.items(QUERIES) == []


@pytest.mark.long
def test_a_killed_plugin_costs_a_minute_at_most(world: World, plugin: Plugin) -> None:
    """Nobody takes the question back, and it ends by itself, with all reports."""
    process = plugin.started("top", "--once", "50")
    world.wait(lambda: world.items(QUERIES), "the question is asked")
    process.kill()
    process.communicate(timeout=30)
    killed = time.monotonic()
    world.wait(lambda: not world.items(QUERIES) and not world.items(TRAFFIC), "question and reports are gone", 90)
    assert time.monotonic() - killed < 70


def test_a_reader_that_is_gone_is_no_error(world: World, plugin: Plugin) -> None:
    """`| head` ends with what it printed."""
    with plugin.started("top", "--once", "2") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(60) == 0


def test_top_survives_an_api_server_that_is_away(world: World, plugin: Plugin) -> None:
    """It waits, and goes on when the server is back; the question is renewed, or asked again."""
    process = plugin.started("top", "--once", "25", "-o", "json")
    world.wait(lambda: answered(world) == 3, "the nodes answer")
    with world.outage():
        time.sleep(3)
    out, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    assert json.loads(out)["clients"][0]["client"] == "203.0.113.7"
    with contextlib.suppress(IndexError):
        assert world.items(QUERIES)[0]["metadata"]["deletionTimestamp"]


def test_somebody_may_stop_a_question(world: World, plugin: Plugin) -> None:
    """An administrator deletes it, and it is not asked again."""
    process = plugin.started("top", "--once", "50")
    name = world.wait(lambda: world.items(QUERIES), "the question is asked")[0]["metadata"]["name"]
    assert name.startswith("look-admin-")
    world.wait(lambda: answered(world) == 3, "the nodes answer")
    world.api.request("DELETE", f"{QUERIES}/{name}")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"somebody has deleted the question {name}" in errors
    assert world.items(QUERIES) == []
    assert world.items(LIMITS)
