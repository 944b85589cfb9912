"""What a host cannot do without: its resolvers and the peers of its requests, and that no limit touches them."""

from __future__ import annotations

import pathlib

import pytest

from bandwidth_agent import reconcile
from bandwidth_agent.cli import parser
from bandwidth_agent.commands import options as options_
from bandwidth_agent.commands.wiring import parts
from bandwidth_agent.kernel.fake import fake_kernel
from bandwidth_agent.limits import failsafe
from bandwidth_agent.limits.directory import protected_addresses
from bandwidth_agent.settings import Settings
from bandwidth_api import addresses
from bandwidth_api.compiler import width
from bandwidth_api.plan import Prefix
from bandwidth_kube.transport import peers
from unit.agent.entries import entry
from unit.agent.test_reconcile import wanted


def found(tmp_path: pathlib.Path, text: str, behind: str | None = None, *server: str) -> dict[str, str]:
    (tmp_path / "resolv.conf").write_text(text)
    stub = tmp_path / "behind.conf"
    if behind is not None:
        stub.write_text(behind)
    made = failsafe.Failsafe(lambda: server, tmp_path / "resolv.conf", [stub])()
    return {addresses.write(prefix): why for prefix, why in made.items()}


def test_resolvers_are_spared(tmp_path: pathlib.Path) -> None:
    """Those of resolv.conf; what is behind a stub on the host, which itself is not, only where there is a stub."""
    assert set(found(tmp_path, "nameserver 192.0.2.53\nnameserver 2001:db8::53\n")) == {"192.0.2.53", "2001:db8::53"}
    assert set(found(tmp_path, "nameserver 127.0.0.53\n", "nameserver 192.0.2.54\n")) == {"192.0.2.54"}
    assert set(found(tmp_path, "nameserver 192.0.2.53\n", "nameserver 192.0.2.54\n")) == {"192.0.2.53"}


def test_without_files_nothing_is_spared(tmp_path: pathlib.Path) -> None:
    """A host without resolv.conf, or with a stub that nothing is known of, is no error."""
    assert found(tmp_path, "nameserver 127.0.0.53\n") == {}
    assert failsafe.Failsafe(tuple, tmp_path / "none", [tmp_path / "neither"])() == {}


def test_the_server_is_spared(tmp_path: pathlib.Path) -> None:
    """The addresses that requests went to, each with the rule and how to lift it."""
    (why,) = found(tmp_path, "", None, "203.0.113.10").values()
    assert "API server" in why
    assert "--no-failsafe" in why


@pytest.mark.parametrize("text", ["::ffff:203.0.113.10", "::FFFF:cb00:710a"])
def test_an_ipv4_address_is_spared_also_where_it_is_written_as_ipv6(tmp_path: pathlib.Path, text: str) -> None:
    """A kubeconfig or a resolv.conf may have it so; packets to it are IPv4, and no pass fails by it."""
    assert set(found(tmp_path, "", None, text)) == {"203.0.113.10"}
    assert set(found(tmp_path, f"nameserver {text}\n")) == {"203.0.113.10"}


def test_a_limit_on_a_resolver_is_refused(tmp_path: pathlib.Path) -> None:
    """It is in force nowhere and says the rule, from the pass on in which the address is known; others are served."""
    known: dict[Prefix, str] = {}
    kernel = fake_kernel.FakeKernel()
    reconciler = reconcile.Reconciler(kernel, Settings(), spared=lambda: dict(known))
    limits = wanted(entry("dns", "203.0.113.0/24"), entry("other", "198.51.100.7"))
    assert reconciler.run(limits, read=True).programmed == 2
    known[addresses.parse("203.0.113.53")] = "a resolver of this node (rule failsafe, which --no-failsafe lifts)"
    report = reconciler.run(limits, read=False)
    assert [(f.name, f.reason) for f in report.failing] == [("dns", "ProtectedAddress")]
    assert "contains 203.0.113.53, a resolver of this node (rule failsafe" in report.failing[0].message
    assert "add 203.0.113.53/32 to spec.except" in report.failing[0].message


def test_the_guard_of_files_knows_both_rules() -> None:
    """A file that touches a spared address, or holds too many, is refused when it is read, with what allows it."""
    kernel = fake_kernel.FakeKernel()
    reconciler = reconcile.Reconciler(
        kernel, Settings(), spared=lambda: {addresses.parse("203.0.113.53"): "a resolver of this node"}
    )
    reconciler.run(wanted(), read=True)
    facts = reconciler.facts
    assert facts is not None
    refuse = protected_addresses.Guard(lambda: facts, Settings(), {})
    spared, wide = refuse(entry("a", "203.0.113.53")), refuse(entry("b", "10.0.0.0/8"))
    assert spared is not None
    assert "a resolver of this node" in spared.message
    assert wide is not None
    assert "--widest IPV4,IPV6 allows more" in wide.message
    assert (
        protected_addresses.Guard(lambda: facts, Settings(widest=width.Widest(8, 16)), {})(entry("b", "10.0.0.0/8"))
        is None
    )


def test_options() -> None:
    """The failsafe can be switched off, and the bound moved; nonsense is a wrong call."""

    def settings_of(*words: str) -> Settings:
        return options_.parsed(parser().parse_args(["run", "--manifests", "/x", *words])).settings

    assert settings_of().failsafe
    assert settings_of().widest == width.Widest(16, 32)
    assert settings_of("--widest", "8,0").widest == width.Widest(8, 0)
    off = options_.parsed(parser().parse_args(["run", "--no-failsafe"]))
    assert parts.spared(off) is failsafe.nothing
    for text in ("8", "33,32", "8,129", "a,b", "8,16,24"):
        with pytest.raises(SystemExit):
            parser().parse_args(["run", "--widest", text])


def test_peers_are_the_latest_ones() -> None:
    """Addresses are remembered as they are written canonically, a bounded number of them; other texts are not."""
    for number in range(40):
        peers.note(f"192.0.2.{number}")
    peers.note("2001:DB8:0::7%eth0")
    peers.note("/run/a.socket")
    known = peers.latest()
    assert len(known) == peers.KEPT
    assert {"2001:db8::7", "192.0.2.39"} <= known
    assert "192.0.2.1" not in known
