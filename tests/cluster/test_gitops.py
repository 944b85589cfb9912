"""What GitOps tools see of limits: when kstatus calls it Current, what Flux's expressions say, that nothing drifts."""

from __future__ import annotations

import contextlib
import copy
import json
import pathlib
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import yaml

from bandwidth_api import names, units
from bandwidth_kube import client, connection
from cluster import flux_expressions
from cluster.world import LIMITS, Object, World, limit
from gitops import documents, kstatus, lua

CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/clientbandwidthlimits.clientbandwidth.io"


# ── the history of a status ────────────────────────────────────────────────────────────────────────────────────


class Sample(NamedTuple):
    """One version of a limit, what tools make of it, and what the nodes enforced when it was seen."""

    item: Object
    state: str  # of kstatus
    health: str  # of Argo CD
    rates: tuple[int | None, ...]


class History:
    """Every version of one limit that a watch shows."""

    def __init__(self, world: World, name: str) -> None:
        self._api = client.Client(connection.load(world.plane.kubeconfig()), "history")
        self._check = lua.HealthCheck()
        self._agents = list(world.agents.values())
        self._name = name
        self._version = self._api.listed(LIMITS).resource_version
        self.samples: list[Sample] = []
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        with contextlib.suppress(client.ApiError):
            query = {"timeoutSeconds": "120", "fieldSelector": f"metadata.name={self._name}"}
            for event in self._api.watch(LIMITS, self._version, query=query):
                if event["type"] in ("ADDED", "MODIFIED"):
                    self._take(event["object"])

    def _take(self, item: Object) -> None:
        rates = tuple(agent.limits.get(self._name) for agent in self._agents)
        self.samples.append(Sample(item, kstatus.compute(item), self._check(item)[0], rates))

    def seen(self, generation: int, state: str) -> Callable[[], bool]:
        return lambda: any(s.item["metadata"]["generation"] == generation and s.state == state for s in self.samples)

    def states(self, generation: int) -> list[str]:
        """What kstatus said of one generation, repetitions left out."""
        found = [s.state for s in self.samples if s.item["metadata"]["generation"] == generation]
        return [state for i, state in enumerate(found) if i == 0 or found[i - 1] != state]

    def check(self) -> None:
        """Current, and Healthy while there is anything to enforce, only when every node enforced just that."""
        assert self.samples
        for sample in self.samples:
            spec = sample.item["spec"]
            claimed = sample.state == kstatus.CURRENT or sample.health == "Healthy"
            if claimed and self._ready(sample.item) != "Expired":
                assert set(sample.rates) == {units.parse_rate(spec["egress"]["rate"])}, sample

    @staticmethod
    def _ready(item: Object) -> str:
        return next(str(c["reason"]) for c in item["status"]["conditions"] if c["type"] == "Ready")


def test_current_is_never_told_before_the_nodes_have_applied(world: World) -> None:
    """Create, edit, edit of words alone, refused edit, disable, enforce, expire: at no moment too early."""
    quick, slow = world.agent("node-0"), world.agent("node-1")
    world.wait(lambda: all(world.state(name) for name in world.agents), "both nodes have reported")
    world.operator()
    history = History(world, "a")

    slow.pause()
    world.create(limit("a", rate="5Mbit"))
    world.wait(lambda: quick.limits == {"a": 5_000_000}, "one node enforces it")
    world.wait_ready("a", reason="Pending")
    assert kstatus.compute(world.get(f"{LIMITS}/a")) == kstatus.IN_PROGRESS
    slow.pause(False)
    world.wait(history.seen(1, kstatus.CURRENT), "the new limit is Current")

    slow.pause()
    world.edit("a", egress={"rate": "7Mbit"})
    world.wait(lambda: quick.limits == {"a": 7_000_000}, "one node enforces the edit")
    world.wait(lambda: world.get(f"{LIMITS}/a")["status"]["observedGeneration"] == 2, "the edit is observed")
    assert kstatus.compute(world.get(f"{LIMITS}/a")) == kstatus.IN_PROGRESS
    slow.pause(False)
    world.wait(history.seen(2, kstatus.CURRENT), "the edit is Current")

    world.edit("a", reason="ticket 4711")
    world.wait(history.seen(3, kstatus.CURRENT), "an edit of words is Current")
    with pytest.raises(client.RefusedError):
        world.edit("a", egress={"rate": "very fast"})
    assert kstatus.compute(world.get(f"{LIMITS}/a")) == kstatus.CURRENT

    world.edit("a", mode="Disabled")
    world.wait_ready("a", reason="Disabled")
    world.edit("a", mode="Enforce")
    world.wait(history.seen(5, kstatus.CURRENT), "it is Current again")
    world.edit("a", expiresAt="2020-01-01T00:00:00Z")
    world.wait_ready("a", reason="Expired")
    world.wait(lambda: history.samples[-1].health == "Healthy", "the watch has shown all")

    history.check()
    for generation in (1, 2, 3, 5):
        assert history.states(generation) == [kstatus.IN_PROGRESS, kstatus.CURRENT]
    for generation in (4, 6):
        assert history.states(generation) == [kstatus.IN_PROGRESS]
    assert "Suspended" in {s.health for s in history.samples}


def test_a_limit_that_no_operator_has_seen_is_in_progress(world: World) -> None:
    """Without an operator a limit is not Current, whether read, listed, watched, or the answer to its creation."""
    world.agent("node-0")
    history = History(world, "a")
    answer = world.api.request("POST", LIMITS, body=limit("a"))
    world.wait(lambda: history.samples, "the watch shows it")
    for item in (answer, world.get(f"{LIMITS}/a"), world.items(LIMITS)[0], history.samples[0].item):
        assert kstatus.compute(item) == kstatus.IN_PROGRESS
        assert lua.HealthCheck()(item)[0] == "Progressing"
    assert world.plane.kubectl("get", "cbl", "a", "--no-headers").stdout.split()[4] == "Unknown"
    world.operator()
    world.wait(history.seen(1, kstatus.CURRENT), "an operator has come")
    history.check()


def test_a_limit_that_goes_away_is_terminating_until_it_is_gone(world: World) -> None:
    """Held by a finalizer of another program it is Terminating; without one a delete leaves nothing behind."""
    agent = world.agent("node-0")
    world.operator()
    held = limit("a")
    held["metadata"]["finalizers"] = ["example.com/of-somebody-else"]
    world.create(held, limit("b", ["203.0.113.8"]))
    world.wait_ready("a", "b")
    world.delete("b")
    assert [i["metadata"]["name"] for i in world.items(LIMITS)] == ["a"]
    world.delete("a")
    item = world.get(f"{LIMITS}/a")
    assert kstatus.compute(item) == kstatus.TERMINATING
    assert lua.HealthCheck()(item) == ("Progressing", "it is being deleted")
    patch = {"metadata": {"finalizers": None}}
    world.api.request("PATCH", f"{LIMITS}/a", body=patch, content_type=client.MERGE_PATCH)
    world.wait(lambda: agent.limits == {}, "both are lifted")


@pytest.fixture
def lax(world: World) -> Iterator[World]:
    """A CRD that lets every spec pass, as one of an older or newer release may."""
    strict = world.get(CRD)
    open_to_all = copy.deepcopy(strict)
    schema = open_to_all["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    world.api.request("PUT", CRD, body=open_to_all)
    probe = limit("probe", ["not-an-address"])

    def accepted() -> bool:
        with contextlib.suppress(client.RefusedError):
            world.api.request("POST", f"{LIMITS}?dryRun=All", body=probe)
            return True
        return False

    world.wait(accepted, "the lax CRD is in force", 30)
    yield world
    strict["metadata"]["resourceVersion"] = world.get(CRD)["metadata"]["resourceVersion"]
    world.api.request("PUT", CRD, body=strict)
    world.wait(lambda: not accepted(), "the strict CRD is in force", 30)


def test_a_limit_that_only_an_edit_can_help_has_failed(lax: World) -> None:
    """One that cannot be used is Failed and Degraded at once, instead of being waited for; mended, it is Current."""
    lax.agent("node-0")
    lax.operator()
    lax.create(limit("a", ["not-an-address"]))
    history = History(lax, "a")
    lax.wait_ready("a", reason="Invalid")
    item = lax.get(f"{LIMITS}/a")
    assert kstatus.compute(item) == kstatus.FAILED
    assert lua.HealthCheck()(item)[0] == "Degraded"
    lax.edit("a", clients=["203.0.113.7"])
    lax.wait(history.seen(2, kstatus.CURRENT), "it is mended")
    assert "Stalled" not in lax.conditions("a")
    history.check()
    lax.delete("a")


# ── Flux's expressions ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def flux(world: World) -> Iterator[Callable[[str], str]]:
    with flux_expressions.asked(world, names.LIMIT_KIND) as ask:
        yield ask


def test_flux_takes_an_expired_or_disabled_limit_for_done(world: World, flux: Callable[[str], str]) -> None:
    """Ready, Disabled and Expired are current; what no operator has seen and what waits for nodes is in progress."""
    agent = world.agent("node-0")
    world.wait(lambda: world.state("node-0"), "the node has reported")
    world.create(limit("a"))
    world.wait(lambda: flux("a") == "inProgress", "no operator has seen it", 30)
    agent.pause()
    world.operator()
    world.wait_ready("a", reason="Pending")
    world.wait(lambda: world.get(f"{LIMITS}/a")["status"]["observedGeneration"] == 1, "the operator has seen it")
    assert flux("a") == "inProgress"
    agent.pause(False)
    world.wait_ready("a")
    assert flux("a") == "current"
    world.edit("a", mode="Disabled")
    world.wait_ready("a", reason="Disabled")
    assert flux("a") == "current"
    world.edit("a", mode="Enforce", expiresAt="2020-01-01T00:00:00Z")
    world.wait_ready("a", reason="Expired")
    assert flux("a") == "current"


def test_flux_takes_a_limit_that_only_an_edit_can_help_for_failed(lax: World, flux: Callable[[str], str]) -> None:
    """What is Stalled has failed, and is not waited for."""
    lax.agent("node-0")
    lax.operator()
    lax.create(limit("a", ["not-an-address"]))
    lax.wait_ready("a", reason="Invalid")
    lax.wait(lambda: flux("a") == "failed", "Flux calls it failed", 30)
    lax.delete("a")


# ── drift ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_in_git_is_what_is_stored(world: World, tmp_path: pathlib.Path) -> None:
    """Every limit that we show users, applied either way, is stored as written; applied again nothing changes."""
    world.agent("node-0")
    world.operator()
    written: list[Object] = []
    for number, shown in enumerate(documents.limits()):
        item = json.loads(json.dumps(shown.document, default=lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%SZ")))
        item["metadata"]["name"] = f"shown-{number:02d}"
        written.append(item)
    assert written
    manifest = tmp_path / "limits.yaml"
    manifest.write_text(yaml.safe_dump_all(written))
    kubectl = world.plane.kubectl
    for way in (["--server-side"], []):
        options = [*way, "-f", str(manifest)]
        kubectl("apply", *options)
        world.wait(
            lambda: all(i["status"]["observedGeneration"] == i["metadata"]["generation"] for i in world.items(LIMITS)),
            "all are observed",
        )
        world.settled()
        before = world.versions()
        again = kubectl("apply", *options).stdout.splitlines()
        assert len(again) == len(written)
        assert world.versions() == before
        diff = kubectl("diff", *options, check=False)
        assert (diff.returncode, diff.stdout) == (0, "")
        stored = {item["metadata"]["name"]: item for item in world.items(LIMITS)}
        for item in written:
            assert list(documents.differences(item, stored[item["metadata"]["name"]])) == []
        kubectl("delete", "-f", str(manifest), "--wait=true")


# What the API server adds inside of lists of its own kinds. Argo CD knows the defaults of these kinds.
OWN_DEFAULTS = {
    "DaemonSet": [".spec.template.spec.containers"],
    "Deployment": [".spec.template.spec.containers"],
}


def test_what_the_chart_makes_is_what_is_stored(world: World) -> None:
    """Every object of the installation, the kinds of objects above all, is stored as rendered; a diff shows nothing."""
    path = documents.ROOT / "deploy" / "install.yaml"
    kubectl = world.plane.kubectl
    kubectl("apply", "--server-side", "-f", str(path))
    diff = kubectl("diff", "--server-side", "-f", str(path), check=False)
    assert (diff.returncode, diff.stdout) == (0, "")
    rendered = [item for item in yaml.safe_load_all(path.read_text()) if item]
    stored = json.loads(kubectl("get", "-f", str(path), "-o", "json").stdout)["items"]
    assert len(stored) == len(rendered)
    for item, live in zip(rendered, stored, strict=True):
        assert list(documents.differences(item, live)) == OWN_DEFAULTS.get(item["kind"], []), item["metadata"]["name"]
