"""kubectl cbl against a real API server: the single file, the real kubectl, the real operator, simulated agents."""

from __future__ import annotations

import json
import time

import pytest
import yaml

from cluster.plugin import Plugin
from cluster.world import LIMITS, World, limit

pytestmark = pytest.mark.xdist_group("plugin")  # they share an operator


@pytest.fixture
def world(led: World) -> World:
    """One operator leads through all tests of this module."""
    return led


def test_slow_makes_a_limit_and_waits_until_it_is_in_force(world: World, plugin: Plugin) -> None:
    """The limit is readable, signed with who made it, and each node that takes it up is counted."""
    for number in range(3):
        world.agent(f"node-{number}")
    done = plugin.run("slow", "203.0.113.7", "--rate", "5Mbit", "--for", "30m", "--reason", "mail loop", "-y")
    assert done.code == 0, done
    assert done.out[0] == "clientbandwidthlimit.clientbandwidth.io/slow-203-0-113-7 created"
    assert done.out[-1].startswith("in force on 3 of 3 nodes after ")
    made = world.get(f"{LIMITS}/slow-203-0-113-7")
    assert made["metadata"]["labels"] == {"clientbandwidth.io/made-by": "kubectl-cbl"}
    assert made["metadata"]["annotations"]["clientbandwidth.io/author"] == "admin"
    assert made["spec"]["ttlSeconds"] == 1800
    assert made["spec"]["reason"] == "mail loop"


def test_slow_waits_for_an_api_server_that_goes_and_comes_back(world: World, plugin: Plugin) -> None:
    """While a limit is waited for: it is told when it is in force, and not before its time that it is not."""
    world.agent("node-0")
    operator = world.operators[-1]
    operator.stop()
    process = plugin.started("slow", "203.0.113.7", "--rate", "5Mbit", "--reason", "x", "-y", "--wait", "60")
    world.wait(lambda: world.items(LIMITS), "the limit is made")
    with world.outage():
        time.sleep(1.0)
    world.operator("after the outage")
    out, errors = process.communicate(timeout=90)
    assert process.returncode == 0, (out, errors)
    assert "in force on 1 of 1 nodes after " in out


def test_slow_tells_that_a_limit_was_deleted_meanwhile(world: World, plugin: Plugin) -> None:
    """Also where the watch broke off before."""
    world.operators[-1].stop()
    process = plugin.started("slow", "203.0.113.7", "--rate", "5Mbit", "--reason", "x", "-y", "--wait", "30")
    world.wait(lambda: world.items(LIMITS), "the limit is made")
    with world.outage():
        time.sleep(0.5)
    world.api.request("DELETE", f"{LIMITS}/slow-203-0-113-7")
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 2, (out, errors)
    assert "slow-203-0-113-7 was deleted by somebody else" in out


def test_slow_without_an_operator_says_so_and_leaves_the_limit(world: World, plugin: Plugin) -> None:
    """Exit code 2: made, and not in force; the message names the Deployment."""
    world.operators[-1].stop()
    done = plugin.run("slow", "203.0.113.7", "--rate", "5Mbit", "--reason", "x", "-y", "--wait", "1")
    assert done.code == 2, done
    assert "no operator has looked at it yet" in "\n".join(done.out)
    assert world.get(f"{LIMITS}/slow-203-0-113-7")


def test_slow_tells_a_node_that_cannot(world: World, plugin: Plugin) -> None:
    """With the node, its reason and its message, without waiting to the end."""
    world.agent("node-0")
    world.agent("node-1").fail("slow-203-0-113-7", "KernelRefused", "no memory for class 1")
    done = plugin.run("slow", "203.0.113.7", "--rate", "5Mbit", "--reason", "x", "-y", "--wait", "30")
    assert done.code == 2, done
    assert "  node-1: KernelRefused: no memory for class 1" in done.out
    assert done.seconds < 25


def test_a_dry_run_changes_nothing(world: World, plugin: Plugin) -> None:
    """The manifest goes to stdout, and what it would do beside it."""
    done = plugin.run("slow", "203.0.113.7", "--rate", "5Mbit", "--reason", "x: y", "--dry-run")
    assert done.code == 0, done
    assert yaml.safe_load("\n".join(done.out))["spec"]["reason"] == "x: y"
    assert "nothing was made" in done.errors
    assert world.items(LIMITS) == []


def test_without_a_terminal_nothing_is_made_unasked(world: World, plugin: Plugin) -> None:
    """The message says how to go on."""
    done = plugin.run("slow", "203.0.113.7", "--rate", "5Mbit", "--reason", "x")
    assert (done.code, world.items(LIMITS)) == (1, [])
    assert "add -y" in done.errors


def test_other_limits_and_nodes_are_warned_of(world: World, plugin: Plugin) -> None:
    """What wins over it, what it wins over, and whose address it is."""
    address = {"addresses": [{"type": "InternalIP", "address": "203.0.113.9"}]}
    world.nodes("worker-1")
    world.api.request(
        "PATCH", "/api/v1/nodes/worker-1/status", body={"status": address}, content_type="application/merge-patch+json"
    )
    world.create(limit("older", ["203.0.113.7"]), limit("network", ["203.0.0.0/16"]))
    done = plugin.run("slow", "203.0.113.0/24", "--rate", "5Mbit", "--reason", "x", "--dry-run")
    assert "warning: older (203.0.113.7, 5Mbit) wins over it" in done.errors
    assert "it wins over network (203.0.0.0/16, 5Mbit)" in done.errors
    assert "203.0.113.9 is the InternalIP of node worker-1" in done.errors


def test_what_the_api_server_refuses_is_told_with_its_rule(world: World, plugin: Plugin) -> None:
    """The dry run comes first, so nothing is asked and nothing is made."""
    done = plugin.run("slow", "203.0.113.7", "--rate", "5Mbit", "--reason", "x", "--name", "guard-rails-probe", "-y")
    assert (done.code, world.items(LIMITS)) == (1, [])
    assert "guard-rails-probe" in done.errors


def test_a_name_that_is_taken_is_changed_only_on_request(world: World, plugin: Plugin) -> None:
    """--replace keeps the object and gives it a new end."""
    words = ("slow", "203.0.113.7", "--reason", "x", "-y", "--wait", "0")
    assert plugin.run(*words, "--rate", "5Mbit").code == 0
    refused = plugin.run(*words, "--rate", "2Mbit")
    assert refused.code == 1
    assert "--replace" in refused.errors
    uid = world.get(f"{LIMITS}/slow-203-0-113-7")["metadata"]["uid"]
    changed = plugin.run(*words, "--rate", "2Mbit", "--replace")
    assert changed.code == 0, changed
    made = world.get(f"{LIMITS}/slow-203-0-113-7")
    assert made["metadata"]["uid"] == uid
    assert made["spec"]["egress"]["rate"] == "2Mbit"
    assert "ttlSeconds" not in made["spec"]
    assert made["spec"]["expiresAt"]


def test_list_prints_a_table_objects_or_names(world: World, plugin: Plugin) -> None:
    """As kubectl does, and only what was asked for."""
    world.agent("node-0")
    world.create(limit("a", ["203.0.113.7"], ttlSeconds=3600), limit("b", ["2001:db8::/48"], mode="Disabled"))
    world.wait_ready("a")
    table = plugin.run("list").out
    assert table[0].split() == ["NAME", "CLIENTS", "PORTS", "RATE", "MODE", "READY", "NODES", "EXPIRES", "AGE"]
    assert table[1].split()[:7] == ["a", "203.0.113.7", "all", "5Mbit", "Enforce", "True", "1/1"]
    assert table[1].split()[7:9] == ["in", "59m"]
    assert plugin.run("list", "-o", "name").out == [f"clientbandwidthlimit.clientbandwidth.io/{n}" for n in "ab"]
    listed = json.loads(plugin.run("list", "-o", "json").text)["items"]
    assert [i["metadata"]["name"] for i in listed] == ["a", "b"]
    assert not any("managedFields" in i["metadata"] for i in listed)  # as kubectl does
    assert yaml.safe_load(plugin.run("list", "-o", "yaml").text)["items"][1]["spec"]["mode"] == "Disabled"
    assert plugin.run("list", "--holding", "2001:db8::7", "-o", "name").out[0].endswith("/b")
    assert plugin.run("list", "-l", "x=y").errors == "No such limits found"


def test_who_says_which_limit_holds_an_address_on_which_node(world: World, plugin: Plugin) -> None:
    """The winner on each node by its labels, and whether it is in force there."""
    world.agent("node-0", labels={"pool": "mail"})
    world.agent("node-1")
    world.create(
        limit("everywhere", ["203.0.113.0/24"]),
        limit("mail", rate="1Mbit", nodeSelector={"matchLabels": {"pool": "mail"}}),
    )
    world.wait_ready("everywhere")
    world.wait_ready("mail")
    done = plugin.run("who", "203.0.113.7", "--no-traffic", "-o", "json")
    assert done.code == 0, done
    found = json.loads(done.text)
    assert [(n["name"], n["state"], n["classes"][0]["limit"]) for n in found["nodes"]] == [
        ("node-0", "InForce", "mail"),
        ("node-1", "InForce", "everywhere"),
    ]
    page = plugin.run("who", "203.0.113.7", "--no-traffic").out
    assert page[0] == "203.0.113.7 is slowed to 5Mbit by everywhere, 1Mbit by mail; in force on 2 of 2 nodes"
    assert plugin.run("who", "198.51.100.1", "--no-traffic").out[0] == "198.51.100.1 is held by no limit"


def test_lift_deletes_what_is_named_and_nothing_wider(world: World, plugin: Plugin) -> None:
    """By name, or by an address that the limit names alone; a dry run deletes nothing."""
    world.create(
        limit("one", ["203.0.113.7"]),
        limit("network", ["203.0.113.0/24"]),
        limit("two", ["203.0.113.8", "203.0.113.9"]),
    )
    assert plugin.run("lift", "203.0.113.7").code == 1  # nobody can be asked
    assert plugin.run("lift", "203.0.113.7", "--dry-run").code == 0
    assert len(world.items(LIMITS)) == 3
    done = plugin.run("lift", "203.0.113.7", "-y")
    assert done.out == ['clientbandwidthlimit.clientbandwidth.io "one" deleted']
    assert "203.0.113.7 is held by network afterwards" in done.errors
    wider = plugin.run("lift", "203.0.113.7", "-y")
    assert (wider.code, len(world.items(LIMITS))) == (1, 2)
    assert "network (203.0.113.0/24)" in wider.errors
    more = plugin.run("lift", "203.0.113.8", "-y")
    assert more.code == 1
    assert "two holds more than 203.0.113.8" in more.errors
    assert "did you mean network?" in plugin.run("lift", "netwrok", "-y").errors
    assert plugin.run("lift", "clientbandwidthlimit.clientbandwidth.io/two", "-y").code == 0
    assert [item["metadata"]["name"] for item in world.items(LIMITS)] == ["network"]


def test_lift_takes_many_or_none(world: World, plugin: Plugin) -> None:
    """All are found before any is deleted; labels choose too, and one that cannot be deleted stops no other."""
    mail = {"labels": {"team": "mail"}}
    world.create(limit("a", ["203.0.113.7"]), limit("b", ["203.0.113.8"]), limit("c", ["203.0.113.9"]))
    for name in "bc":
        world.api.request(
            "PATCH", f"{LIMITS}/{name}", body={"metadata": mail}, content_type="application/merge-patch+json"
        )
    missing = plugin.run("lift", "a", "203.0.113.8", "nobody", "-y")
    assert missing.code == 1
    assert "there is no limit nobody" in missing.errors
    assert len(world.items(LIMITS)) == 3
    assert plugin.run("lift", "-l", "team=nobody", "-y").errors == (
        "error: no limit has the labels team=nobody; kubectl cbl list shows all of them"
    )
    assert plugin.run("lift", "-y").code == plugin.run("lift", "a", "-l", "team=mail").code == 64
    assert len(plugin.run("lift", "-l", "team=mail", "--dry-run").out) == 2
    done = plugin.run("lift", "-l", "team in (mail)", "-y", "-o", "name")
    assert [line.rpartition("/")[2] for line in done.out] == ["b", "c"], done
    assert [item["metadata"]["name"] for item in world.items(LIMITS)] == ["a"]


def test_status_says_what_is_wrong_and_what_to_do(world: World, plugin: Plugin) -> None:
    """Exit code 0 where all is well, 2 where something is not."""
    agent = world.agent("node-0")
    world.create(limit("a"))
    world.wait_ready("a")
    done = plugin.run("status")
    assert done.code == 0, done
    assert done.out[0].startswith(f"1 limits, 1 in force; 1 nodes, 1 as planned; operator {world.holder()}")
    assert done.out[-1] == "All is well."
    agent.fail("a", "KernelRefused", "no memory")
    world.wait_ready("a", reason="KernelRefused")
    failing = plugin.run("status", "-o", "json")
    assert failing.code == 2, failing
    found = json.loads(failing.text)
    assert "KernelRefused on node-0: a: no memory" in found["problems"][0]["what"]
    assert found["nodes"][0]["state"] == "Failing"


def test_version_names_all_that_takes_part(world: World, plugin: Plugin) -> None:
    """The plugin, the API server, the agents."""
    world.agent("node-0")
    found = json.loads(plugin.run("version", "-o", "json").text)
    assert found["kubernetes"].startswith("v1.")
    assert set(found) == {"plugin", "kubernetes", "agents"}
    assert plugin.run("version", "--client", "--server", "https://127.0.0.1:1").code == 0


def test_kubectl_completes_words_names_and_addresses(world: World, plugin: Plugin) -> None:
    """Through its own completion, which asks kubectl_complete-cbl."""
    world.create(limit("mail-loop", ["2001:db8::7"]))
    assert "slow\tslow a client down" in plugin.complete("cbl", "s").out
    assert plugin.complete("cbl", "lift", "mail").out[0] == "mail-loop\t5Mbit"
    assert plugin.complete("cbl", "who", "2001").out[0] == "2001:db8::7\tmail-loop"
    assert any(line.startswith("--rate\t") for line in plugin.complete("cbl", "slow", "--r").out)
    assert plugin.complete("cbl", "list", "-o", "").out[:2] == ["text", "wide"]
    assert plugin.complete("cbl", "lift", "--context", "nope", "x").out[-1].startswith(":")
