"""Firewalls that are saved while limits are in force and restored on a host that has just booted."""

from __future__ import annotations

import pathlib
import re

import pytest

from bandwidth_agent.kernel import model
from bandwidth_lab import Namespace, Network
from bandwidth_lab.node import Node

pytestmark = pytest.mark.root

ROOT = pathlib.Path(__file__).resolve().parents[3]
SETS = ROOT / "agent/bandwidth_agent/systemd/files/client-bandwidth-sets"

OWN_RULES = """
iptables -P FORWARD DROP; ip6tables -P FORWARD DROP
iptables -A INPUT -p tcp --dport 25 -j DROP; ip6tables -A INPUT -p tcp --dport 25 -j DROP
iptables -t mangle -A POSTROUTING -p tcp --dport 99 -j ACCEPT
ipset create theirs hash:ip; ipset add theirs 192.0.2.7
"""


def recipes() -> dict[str, str]:
    """By file, the pipeline that the documentation gives for saving it."""
    text = (ROOT / "docs/environments.md").read_text()
    found = re.findall(r"^    ((?:ip6?tables-save|ipset save|nft list ruleset) \| .*) > (\S+)$", text, re.MULTILINE)
    assert len(found) == 4
    return {file: pipeline for pipeline, file in found}


@pytest.fixture
def saving(network: Network, node: Node) -> Node:
    """A host with rules of its own, and limits with and without ports in force."""
    node.namespace.run(["sh", "-e", "-c", OWN_RULES])
    client = network.clients[0]
    node.limit("slow", [client.address4, client.address6], "4Mbit")
    node.limit("imap", [client.address4, client.address6], "1Mbit", egress={"ports": [{"port": 993}]})
    node.once()
    return node


def restore(booted: Namespace, program: str, saved: str) -> int:
    return int(booted.run(program.split(), stdin=saved, check=False).returncode)


RESTORED_BY = {
    "/etc/iptables/rules.v4": "iptables-restore",
    "/etc/iptables/rules.v6": "ip6tables-restore",
    "/etc/iptables/ipsets": "ipset restore",
    "/etc/nftables.conf": "nft -f -",
}


@pytest.mark.parametrize("file", RESTORED_BY)
def test_what_is_saved_by_the_recipe_restores_without_us(network: Network, saving: Node, file: str) -> None:
    """The pipelines of the documentation leave nothing of ours in the file, and all that is the host's."""
    saved = saving.namespace.run(["sh", "-c", recipes()[file]]).stdout
    assert "cbl-v" not in saved
    assert "CBL" not in saved
    assert "192.0.2.7" in saved if "ipsets" in file else "25" in saved
    assert restore(network.lab.namespace("booted"), RESTORED_BY[file], saved) == 0


@pytest.mark.parametrize("word", ["ip", "ip6"])
def test_rules_that_were_saved_with_ours_restore_once_the_sets_are_made(
    network: Network, saving: Node, tmp_path: pathlib.Path, word: str
) -> None:
    """They fail without them, and so do the host's own; an agent that starts then finds its way from there."""
    file = tmp_path / "rules"
    file.write_text(saving.namespace.run([f"{word}tables-save"]).stdout)
    booted = network.lab.namespace("booted")
    assert restore(booted, f"{word}tables-restore", file.read_text()) != 0
    booted.run([str(SETS), str(file), str(tmp_path / "missing")])
    booted.run([str(SETS), str(file)])
    assert restore(booted, f"{word}tables-restore", file.read_text()) == 0
    assert "--dport 25" in booted.run([f"{word}tables-save"]).stdout
    after = Node(booted, tmp_path / "after", "--interface", "eth9")
    booted.ip("link add eth9 type veth peer name far9", "link set eth9 up", "link set far9 up")
    after.limit("slow", ["198.51.100.7"], "4Mbit")
    assert after.once()["limits"]["programmed"] == 1
    assert set(after.kernel().sets) == {"cbl-v4"}
    assert after.rate_of("198.51.100.7", interface="eth9") == 4_000_000
    after.cleanup()
    assert after.kernel() == model.EMPTY


def test_nothing_to_make_is_no_failure(network: Network, tmp_path: pathlib.Path) -> None:
    """A host without saved rules, or with rules that are not ours, gets no set."""
    file = tmp_path / "rules"
    file.write_text("*filter\n-A INPUT -m set --match-set theirs src -j DROP\nCOMMIT\n")
    booted = network.lab.namespace("booted")
    booted.run([str(SETS), str(tmp_path / "missing")])
    booted.run([str(SETS), str(file)])
    assert booted.run(["ipset", "list", "-n"]).stdout == ""


def test_the_other_back_end_leaves_no_trace_in_what_nft_and_iptables_save(network: Network, node: Node) -> None:
    """With iptables-legacy only its own save program prints what is ours."""
    node.namespace.run(["nft", "add", "table", "inet", "theirs"])
    node.options = ("--iptables-backend", "legacy")
    programs = (["nft", "list", "ruleset"], ["iptables-save"], ["ip6tables-save"])
    before = [node.namespace.run(program).stdout for program in programs]
    node.limit("slow", [network.clients[0].address4], "4Mbit")
    node.once()
    assert [node.namespace.run(program).stdout for program in programs] == before
    assert "CBL-POSTROUTING" in node.namespace.run(["iptables-legacy-save"]).stdout


def test_units_are_ordered_around_what_restores_rules() -> None:
    """The sets come before, the agent after whatever restores or writes a whole firewall."""
    units = ROOT / "agent/bandwidth_agent/systemd/files"
    before = re.findall(r"^Before=(.*)$", (units / "client-bandwidth-sets.service").read_text(), re.MULTILINE)
    after = re.findall(r"^After=(.*)$", (units / "bandwidth-agent.service").read_text(), re.MULTILINE)
    restoring = {"netfilter-persistent.service", "iptables.service", "ip6tables.service"}
    assert restoring <= set(" ".join(before).split())
    assert restoring | {"nftables.service", "firewalld.service", "ufw.service"} <= set(" ".join(after).split())
