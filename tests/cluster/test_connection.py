"""Ways to the API server that are not the plain one: below a path, by another name, with an authority that changes.

The operator lists and writes in one way and watches in another; it is working only if both are.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from bandwidth_lab.control_plane import ControlPlane
from bandwidth_lab.fault_proxy import FaultProxy
from cluster.world import Operator, World, limit
from machine.kube.authority import Authority

SECONDS = 30.0  # less than the operator's watches are silent before anything else is done about it


@contextlib.contextmanager
def proxied(plane: ControlPlane, prefix: str = "") -> Iterator[FaultProxy]:
    made = FaultProxy(plane.server, plane.directory / "certificates", prefix=prefix)
    try:
        yield made
    finally:
        made.close()


def operator(world: World, server: str, user: dict[str, Any] | None = None, **cluster: str) -> Operator:
    """An operator with a kubeconfig of its own."""
    path = world.directory / "operator.kubeconfig"
    path.write_text(
        json.dumps(
            {
                "current-context": "it",
                "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
                "clusters": [
                    {
                        "name": "it",
                        "cluster": {"server": server, **{k.replace("_", "-"): v for k, v in cluster.items()}},
                    }
                ],
                "users": [{"name": "it", "user": user or {"token": world.operator_token()}}],
            }
        )
    )
    started = Operator(path, world.directory / "operator.log", "operator", ())
    world.operators.append(started)
    return started


def test_a_limit_that_goes_while_the_server_below_a_path_forgets(world: World, plane: ControlPlane) -> None:
    """Behind a URL with a path, a 410 is followed by a whole list, and what was deleted meanwhile is lifted."""
    agent = world.agent("node-0")
    with proxied(plane, "/k8s/clusters/c-m-abc123") as proxy:
        world.operator(server=proxy.server)
        world.create(limit("a"), limit("b", ["203.0.113.8"]))
        world.wait_ready("a", "b")
        away = [True]
        proxy.refuse(
            503,
            "ServiceUnavailable",
            lambda method, path: away[0] and method == "GET" and "clientbandwidthlimits" in path,
            times=10_000,
        )
        proxy.end()
        world.edit("a", reason="an event, in the place of which the error comes")
        world.wait(lambda: proxy.count("GET", "fieldSelector=metadata.name"), "the watch is begun again")
        world.delete("a")
        away[0] = False
        world.wait(lambda: set(agent.limits) == {"b"}, "a is lifted", SECONDS)
        world.create(limit("c", ["203.0.113.9"]))
        world.wait(lambda: set(agent.limits) == {"b", "c"}, "c is in force", SECONDS)


def test_a_certificate_for_another_name(world: World, plane: ControlPlane, tmp_path: pathlib.Path) -> None:
    """With `tls-server-name` a new limit is in force as soon as without."""
    agent = world.agent("node-0")
    authority = Authority(tmp_path / "authority", "authority")
    shown = authority.issue("shown", "DNS:kubernetes.example.com")
    with proxied(plane) as proxy:
        proxy.present(shown.certificate, shown.key)
        operator(
            world,
            proxy.server,
            certificate_authority=str(authority.certificate),
            tls_server_name="kubernetes.example.com",
        )
        world.create(limit("a"))
        world.wait_ready("a")
        world.edit("a", egress={"rate": "6Mbit"})
        world.wait(lambda: agent.limits == {"a": 6_000_000}, "the edit is on the node", SECONDS)


@pytest.mark.parametrize("extensions", [None, ("basicConstraints=CA:TRUE",)], ids=["usual", "plain"])
def test_an_authority_that_is_renewed(
    world: World, plane: ControlPlane, tmp_path: pathlib.Path, extensions: tuple[str, ...] | None
) -> None:
    """Both authorities, then the new certificate, then the new authority alone: each edit is on the node at once."""
    agent = world.agent("node-0")
    usual = () if extensions is None else (extensions,)
    old, new = (Authority(tmp_path / name, name, *usual) for name in ("old", "new"))
    before, after = old.issue("before"), new.issue("after")
    bundle = tmp_path / "ca.crt"
    bundle.write_text(old.pem)
    with proxied(plane) as proxy:
        proxy.present(before.certificate, before.key)
        operator(world, proxy.server, certificate_authority=str(bundle))
        world.create(limit("a"))
        world.wait_ready("a")
        bundle.write_text(old.pem + new.pem)
        world.edit("a", egress={"rate": "6Mbit"})
        world.wait(lambda: agent.limits == {"a": 6_000_000}, "both are in the file", SECONDS)
        proxy.present(after.certificate, after.key)
        proxy.cut()
        world.edit("a", egress={"rate": "7Mbit"})
        world.wait(lambda: agent.limits == {"a": 7_000_000}, "the server shows the new certificate", SECONDS)
        bundle.write_text(new.pem)
        proxy.cut()
        world.edit("a", egress={"rate": "8Mbit"})
        world.wait(lambda: agent.limits == {"a": 8_000_000}, "the old authority is gone", SECONDS)
        world.edit("a", egress={"rate": "9Mbit"})
        world.wait(lambda: agent.limits == {"a": 9_000_000}, "and the next edit", SECONDS)


def test_watches_whose_token_is_refused_read_it_again(
    world: World, plane: ControlPlane, tmp_path: pathlib.Path
) -> None:
    """They go on with what the file holds then; the watching as a whole is not begun again."""
    agent = world.agent("node-0")
    token = tmp_path / "token"
    token.write_text(world.operator_token())
    with proxied(plane) as proxy:
        started = operator(world, proxy.server, {"tokenFile": str(token)}, certificate_authority=str(plane.ca_file))
        world.create(limit("a"))
        world.wait_ready("a")
        proxy.refuse(401, "Unauthorized", lambda method, path: "watch=true" in path, times=8)
        proxy.cut()
        world.edit("a", egress={"rate": "6Mbit"})
        world.wait(lambda: agent.limits == {"a": 6_000_000}, "the edit is on the node", SECONDS)
        world.edit("a", egress={"rate": "7Mbit"})
        world.wait(lambda: agent.limits == {"a": 7_000_000}, "and the next one", SECONDS)
        assert "begun again" not in started.log
