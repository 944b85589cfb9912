"""The chart as helm renders it and as a real API server takes it."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from bandwidth_kube import client
from bandwidth_lab import control_plane, previous
from cluster import helm
from cluster.world import LIMITS, NAMESPACE, World, limit

pytestmark = pytest.mark.xdist_group("chart")  # they share an API server of their own

HERE = pathlib.Path(__file__).parent / "chart"
GOLDEN = sorted((HERE / "golden").glob("*.yaml"))
INSTALL = helm.ROOT / "deploy" / "install.yaml"
KINDS_SECONDS = 60.0  # until the API server has forgotten a kind that was deleted
RENDERS = [pytest.param(path, id=path.stem) for path in (INSTALL, *GOLDEN)]


def objects(path: pathlib.Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def of_kind(path: pathlib.Path, *kinds: str) -> list[dict[str, Any]]:
    return [each for each in objects(path) if each["kind"] in kinds]


# ── what helm says ─────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_made_from_the_chart_is_up_to_date() -> None:
    """install.yaml, the CRD copies and the golden renders are what the chart makes now."""
    done = subprocess.run(["tools/chart", "--check"], cwd=helm.ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("values", ["", *(p.name for p in sorted((HERE / "values").glob("*.yaml")))])
def test_helm_finds_nothing_to_complain_about(values: str, tmp_path: pathlib.Path) -> None:
    """`helm lint --strict` is clean with each set of values."""
    more = ("--values", str(HERE / "values" / values)) if values else ()
    helm.run("lint", "--strict", str(helm.CHART), *more, home=tmp_path)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("operator.replica=3", "replica"),
        ("podMonitr.enabled=true", "podMonitr"),
        ("operator.image.tga=1", "tga"),
        ("agent.placement=root", "placement"),
        ("agent.classifier=fwmark", "classifier"),
        ("agent.metrics.port=99999", "port"),
        ("agent.updateStrategy.maxUnavailable=0", "maxUnavailable"),
        ("agent.updateStrategy.maxUnavailable=120%", "maxUnavailable"),
        ("agent.image.digest=latest", "digest"),
        ("agent.markMask=255", "markMask"),
        ("agent.resyncSeconds=0", "resyncSeconds"),
        ("agent.stateDirectory=lib", "stateDirectory"),
        ("guardRails.protected={10.0.0.1}", "protected"),
        ("guardRails.protected=10.0.0.0/8", "protected"),
        ("guardRails.protected={999.0.0.0/8}", "protected"),
        ("guardRails.protected={10.0.0.0/99}", "protected"),
        ("guardRails.protected={::ffff:10.0.0.0/104}", "protected"),
        ("agent.protected={300.1.1.1}", "protected"),
        ("guardRails.leastRate=5", "leastRate"),
        ("guardRails.largestRate=5MB", "largestRate"),
        ("retire.timeoutSeconds=0", "timeoutSeconds"),
        ("crds.keep=perhaps", "keep"),
        ("networkPolicy.from[0].namespace=x", "from"),
        ("criticalPods.quota=false", "quota"),
        ("operator.replicas=0", "replicas"),
        ("agent.resources.request.cpu=1", "request"),
        (r"operator.podLabels.app\.kubernetes\.io/name=x", "podLabels"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(setting: str, named: str, tmp_path: pathlib.Path) -> None:
    """A mistyped key, and a value of the wrong form, end with a message that names it."""
    done = helm.run(
        *("template", "x", str(helm.CHART), "--kube-version", helm.OLDEST, "--set", setting), home=tmp_path, check=False
    )
    assert done.returncode != 0
    assert named in done.stderr


@pytest.mark.parametrize("version", ["1.31.0", "1.37.2", "v1.33.1+k3s1", "v1.31.5-eks-8cce635", "v1.32.1-gke.1002000"])
def test_it_installs_on_every_version_from_1_31_on(version: str, tmp_path: pathlib.Path) -> None:
    """Also on those that carry a vendor's ending."""
    assert "kind: DaemonSet" in helm.template(home=tmp_path, version=version)


def test_it_refuses_an_older_cluster(tmp_path: pathlib.Path) -> None:
    """Before anything is installed."""
    assert "1.31" in helm.template(home=tmp_path, version="1.30.9", check=False)


def test_a_release_has_its_version_in_both_images(tmp_path: pathlib.Path) -> None:
    """A chart packaged as a release asks for the images of that release, unless the values say otherwise."""
    words = ("--version", "7.8.9", "--app-version", "7.8.9", "--destination", str(tmp_path))
    helm.run("package", str(helm.CHART), *words, home=tmp_path)
    done = helm.run(
        *("template", "x", str(tmp_path / "client-bandwidth-operator-7.8.9.tgz"), "--kube-version", helm.OLDEST),
        home=tmp_path,
    )
    assert set(re.findall(r"image: (\S+)", done.stdout)) == {
        "client-bandwidth-operator:7.8.9",
        "client-bandwidth-agent:7.8.9",
    }


def blocks(values: dict[str, Any], path: str = "") -> Iterator[str]:
    """Each top-level value and each block below it, as `--set` names them."""
    for name, value in values.items():
        if not path or isinstance(value, dict):
            yield f"{path}{name}"
        if isinstance(value, dict) and name not in PEOPLES_OWN:
            yield from blocks(value, f"{path}{name}.")


PEOPLES_OWN = {"resources", "nodeSelector", "affinity", "labels"}
DEFAULTS: dict[str, Any] = yaml.safe_load((helm.CHART / "values.yaml").read_text())


@pytest.mark.parametrize("missing", list(blocks(DEFAULTS)))
def test_a_value_that_the_release_before_did_not_know_has_its_default(missing: str, tmp_path: pathlib.Path) -> None:
    """`--reuse-values` brings the values of an older chart: without a value or a block the render is the same."""
    assert helm.template("--set", f"{missing}=null", home=tmp_path) == helm.template(home=tmp_path)


def without_leaves(values: dict[str, Any]) -> dict[str, Any]:
    """The same blocks, each of their values taken away."""
    return {
        name: without_leaves(value) if isinstance(value, dict) and name not in PEOPLES_OWN else None
        for name, value in values.items()
    }


def test_every_single_value_may_be_missing(tmp_path: pathlib.Path) -> None:
    """Where the blocks are there and each value in them is missing, the render is the same."""
    (tmp_path / "none.yaml").write_text(yaml.safe_dump(without_leaves(DEFAULTS)))
    assert helm.template("--values", str(tmp_path / "none.yaml"), home=tmp_path) == helm.template(home=tmp_path)


def test_what_is_off_stays_off_when_values_are_reused(tmp_path: pathlib.Path) -> None:
    """What was given as false, empty or nothing is not taken for missing, and a limit of memory may be taken away."""
    off = ("retire.enabled=false", "agent.priorityClassName=", "agent.resources.limits.memory=null")
    documents = yaml.safe_load_all(helm.template(*(w for o in off for w in ("--set", o)), home=tmp_path))
    (agents,) = [d for d in documents if d and d["kind"] == "DaemonSet"]
    pod = agents["spec"]["template"]["spec"]
    assert "priorityClassName" not in pod
    assert not pod["containers"][0]["resources"]["limits"]


def test_without_questions_nothing_of_them_is_there(tmp_path: pathlib.Path) -> None:
    """With traffic.enabled false there are no kinds, no rights, no role and no watch for them; else all are there."""
    words = ("clienttrafficqueries", "nodeclienttraffics", "client-bandwidth-traffic")
    on = helm.template(home=tmp_path)
    off = helm.template("--set", "traffic.enabled=false", home=tmp_path)
    assert all(word in on for word in words)
    assert "--no-traffic" not in on
    assert off.count("--no-traffic") == 2
    for document in yaml.safe_load_all(off):
        if document and document["kind"] != "ValidatingAdmissionPolicy":  # which narrows what nobody has
            assert not any(word in json.dumps(document) for word in words), document["metadata"]["name"]


def test_policies_without_questions_have_the_reports_of_nodes(tmp_path: pathlib.Path) -> None:
    """With policies.enabled nodes report to the operator also where nobody may ask; else nothing of policies is on."""
    words = ("--set", "traffic.enabled=false", "--set", "policies.enabled=true")
    documents = [each for each in yaml.safe_load_all(helm.template(*words, home=tmp_path)) if each]
    names = {each["metadata"]["name"] for each in documents if each["kind"] == "CustomResourceDefinition"}
    assert "nodeclienttraffics.clientbandwidth.io" in names
    assert "clienttrafficqueries.clientbandwidth.io" not in names
    for role in ("client-bandwidth-operator", "client-bandwidth-agent"):
        rules = [d["rules"] for d in documents if d["kind"] == "ClusterRole" and d["metadata"]["name"] == role]
        assert any("nodeclienttraffics" in rule["resources"] for rule in rules[0]), role
    assert helm.template(*words, home=tmp_path).count("- --policies") == 1
    assert "- --policies" not in helm.template(home=tmp_path)


def test_bpf_brings_one_capability_and_one_mount(tmp_path: pathlib.Path) -> None:
    """With agent.ebpf.enabled the agents have BPF and the node's /sys/fs/bpf, and nothing else is different."""
    (on, off) = (
        yaml.safe_load_all(helm.template("--set", f"agent.ebpf.enabled={enabled}", home=tmp_path))
        for enabled in ("true", "false")
    )
    for allowed, document in zip(on, off, strict=True):
        if document and document["kind"] == "DaemonSet":
            pod = document["spec"]["template"]["spec"]
            (container,) = pod["containers"]
            container["securityContext"]["capabilities"]["add"].append("BPF")
            behind = container["args"].index("--iptables-backend=auto") + 1
            container["args"].insert(behind, "--bpf-directory=$(BPF_DIRECTORY)")
            container["env"].append({"name": "BPF_DIRECTORY", "value": "/host/sys/fs/bpf"})
            mount = {"name": "bpf", "mountPath": "/host/sys/fs/bpf", "mountPropagation": "HostToContainer"}
            container["volumeMounts"].append(mount)
            pod["volumes"].append({"name": "bpf", "hostPath": {"path": "/sys/fs/bpf", "type": "Directory"}})
        assert allowed == document


def test_ebpf_that_is_asked_for_must_be_allowed(tmp_path: pathlib.Path) -> None:
    """Agents that may not use BPF would refuse every limit: the chart says so before it installs them."""
    said = helm.template("--set", "agent.classifier=ebpf", home=tmp_path, check=False)
    assert "agent.ebpf.enabled=true" in said
    assert "kind: DaemonSet" in helm.template("--set", "agent.classifier=ebpf,agent.ebpf.enabled=true", home=tmp_path)


# ── what is in it ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", RENDERS)
def test_access_is_as_little_as_can_be(path: pathlib.Path) -> None:
    """No access rule has a `*`, none speaks of secrets, no account is bound to a role that is not ours, and those of
    people are bound to none."""
    for role in of_kind(path, "ClusterRole", "Role"):
        for rule in role["rules"]:
            assert "*" not in json.dumps(rule), role["metadata"]["name"]
            assert "secrets" not in rule["resources"]
            assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])
    ours = {r["metadata"]["name"] for r in of_kind(path, "ClusterRole", "Role")}
    bound = {b["roleRef"]["name"] for b in of_kind(path, "ClusterRoleBinding", "RoleBinding")}
    assert bound == {"client-bandwidth-agent", "client-bandwidth-operator"}
    people = {"client-bandwidth-view", "client-bandwidth-edit"}
    asks = set() if path.stem == "minimal" else {"client-bandwidth-traffic"}
    assert ours == bound | people | asks
    assert of_kind(path, "Secret") == []


@pytest.mark.parametrize("path", RENDERS)
def test_no_container_may_more_than_it_must(path: pathlib.Path) -> None:
    """The operator's image runs as nobody, without capabilities; the agent has its two, and a third where BPF is
    allowed, unless it is privileged."""
    for workload in of_kind(path, "Deployment", "DaemonSet", "Job", "Pod"):
        spec = workload["spec"]["template"]["spec"] if "template" in workload["spec"] else workload["spec"]
        (container,) = spec["containers"]
        may = container["securityContext"]
        assert may["readOnlyRootFilesystem"] is True
        assert container["resources"]["requests"]
        if workload["kind"] != "DaemonSet":
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert may["capabilities"] == {"drop": ["ALL"]}
            assert "hostNetwork" not in spec
        elif not may.get("privileged"):
            bpf = ["BPF"] if path.stem == "ebpf" else []
            assert may["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW", *bpf]}
            assert may["seccompProfile"] == {"type": "RuntimeDefault"}
        else:
            assert path.stem == "privileged"


@pytest.mark.parametrize(
    ("peers", "ingress"),
    [
        ("[]", None),
        ('[{"podSelector": {}}]', [{"from": [{"podSelector": {}}], "ports": [{"port": 8080, "protocol": "TCP"}]}]),
    ],
)
def test_the_network_policy_lets_in_who_is_named(peers: str, ingress: object, tmp_path: pathlib.Path) -> None:
    """No peer where none is named: an empty list of peers would mean all of them to Kubernetes."""
    words = ("--set", "networkPolicy.enabled=true", "--set-json", f"networkPolicy.from={peers}")
    documents = list(yaml.safe_load_all(helm.template(*words, home=tmp_path)))
    (policy, _) = [d["spec"] for d in documents if d and d["kind"] == "NetworkPolicy"]
    (operator,) = [d["spec"]["template"]["metadata"] for d in documents if d and d["kind"] == "Deployment"]
    assert policy["policyTypes"] == ["Ingress"]
    assert policy["podSelector"]["matchLabels"].items() <= operator["labels"].items()
    assert policy.get("ingress") == ingress


def test_install_yaml_has_no_hooks() -> None:
    """kubectl knows nothing of hooks: what helm runs at its time is not among the objects that it applies."""
    assert "helm.sh/hook" not in INSTALL.read_text()


# ── what an API server says ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def prepared(plane: control_plane.ControlPlane) -> Iterator[control_plane.ControlPlane]:
    """The API server with the kinds of others that the chart can use."""
    plane.kubectl("apply", "--server-side", "-f", str(HERE / "foreign-crds.yaml"))
    plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    plane.kubectl("create", "namespace", "monitoring")
    yield plane
    plane.kubectl("delete", "--wait=false", "-f", str(HERE / "foreign-crds.yaml"))


@pytest.mark.parametrize("path", RENDERS)
def test_the_api_server_accepts_each_render(path: pathlib.Path, prepared: control_plane.ControlPlane) -> None:
    """Every object of every render, hooks too, with no unknown field and no warning."""
    words = ("--server-side", "--dry-run=server", "--force-conflicts", "--validate=strict")
    done = prepared.kubectl("apply", *words, "-f", str(path), timeout_seconds=120)
    assert done.stdout.count("(server dry run)") == len(objects(path))
    assert done.stderr == ""


def test_guard_rails_from_values_hold(world: World, tmp_path: pathlib.Path) -> None:
    """Networks and rates given as values are what the policy refuses by."""
    rules = ("guardRails.protected={10.0.0.0/8,2001:db8::/32}", "guardRails.leastRate=1Mbit")
    world.policy("guard-rails", *rules, "guardRails.largestRate=1Gbit", home=tmp_path)

    def refused(rule: str, clients: str, rate: str) -> bool:
        try:
            world.api.request("POST", f"{LIMITS}?dryRun=All", body=limit("a", [clients], rate))
        except client.RefusedError as error:
            return f"rule {rule}" in error.message
        return False

    world.wait(lambda: refused("protected", "10.1.2.3", "5Mbit"), "10.0.0.0/8 is protected")
    world.wait(lambda: refused("protected", "2001:db8::7", "5Mbit"), "2001:db8::/32 is protected")
    world.wait(lambda: refused("leastRate", "203.0.113.7", "999kbit"), "there is a least rate")
    world.wait(lambda: refused("largestRate", "203.0.113.7", "2Gbit"), "there is a largest rate")
    world.create(limit("a"))
    world.policy("guard-rails", home=tmp_path)
    world.wait(lambda: not refused("protected", "10.1.2.3", "5Mbit"), "the rules are gone")


# ── what becomes of a release ──────────────────────────────────────────────────────────────────────────────────


class Release:
    """One release on an API server of its own, which runs no pods: its hooks are left out."""

    def __init__(self, plane: control_plane.ControlPlane, home: pathlib.Path) -> None:
        self.plane = plane
        self.home = home
        self.kubeconfig = plane.kubeconfig()

    def helm(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        more = ("--namespace", NAMESPACE)
        return helm.run(*words, *more, home=self.home, kubeconfig=self.kubeconfig, check=check)

    def install(self, *words: str) -> None:
        self.helm("install", "cbo", str(helm.CHART), "--create-namespace", *words)

    def uninstall(self) -> None:
        self.helm("uninstall", "cbo", "--no-hooks")


def left(plane: control_plane.ControlPlane) -> set[str]:
    """Objects that bear the chart's label and stay, in no namespace or in any, as kind/name."""
    words = ("-A", "-l", "app.kubernetes.io/part-of=client-bandwidth-operator", "-o", "json", "--ignore-not-found")
    until = time.monotonic() + KINDS_SECONDS
    while True:
        kinds = plane.kubectl("api-resources", "--verbs=list", "-o", "name").stdout.split()
        found = plane.kubectl("get", ",".join(kinds), *words, check=False)
        if found.returncode == 0:
            items = json.loads(found.stdout)["items"] if found.stdout else []
            return {f"{kind_of(item)}/{item['metadata']['name']}" for item in items if not ends_by_itself(item)}
        # A kind that was deleted is still told of for a moment, and may go between the two questions.
        assert any(text in found.stderr for text in ("have a resource type", "find the requested resource")), found
        assert time.monotonic() < until, found


def kind_of(item: dict[str, Any]) -> str:
    """The kind as `kubectl get -o name` writes it."""
    group = item["apiVersion"].rpartition("/")[0]
    return f"{item['kind'].lower()}{group and '.'}{group}"


def ends_by_itself(item: dict[str, Any]) -> bool:
    """A deleted kind that waits for the API server alone.

    Right after a change of a CRD an API server may fail to list its objects, "storage is (re)initializing", and tries
    again minutes later: https://github.com/operator-framework/operator-controller/issues/1437
    """
    meta = item["metadata"]
    return "deletionTimestamp" in meta and meta["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]


CRDS = {
    f"customresourcedefinition.apiextensions.k8s.io/{path.stem}.clientbandwidth.io"
    for path in (helm.ROOT / "deploy" / "crds").glob("*.yaml")
}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """helm with an API server that has nothing of ours yet."""
    with control_plane.running() as plane:
        yield Release(plane, tmp_path_factory.mktemp("helm"))


@pytest.fixture
def empty(release: Release) -> Iterator[Release]:
    """No release and no limits; CRDs may have been kept of an earlier one.

    They are not deleted after each test: an API server takes ever longer to delete a CRD of the same name once more.
    """
    yield release
    release.helm("uninstall", "cbo", "--no-hooks", "--ignore-not-found")
    release.plane.kubectl("delete", "clientbandwidthlimits", "--all", check=False)


def test_uninstalling_leaves_the_limits_and_nothing_else(empty: Release) -> None:
    """CRDs and limits survive; of everything else that was installed, access rules and policies too, nothing does."""
    empty.install()
    assert len(left(empty.plane)) > len(CRDS)
    empty.plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    empty.plane.kubectl("create", "-f", "-", stdin=json.dumps(limit("a")))
    empty.uninstall()
    assert left(empty.plane) == CRDS
    assert empty.plane.kubectl("get", "cbl", "-o", "name").stdout.split() == [
        "clientbandwidthlimit.clientbandwidth.io/a"
    ]
    empty.install()
    assert empty.plane.kubectl("get", "cbl", "-o", "name").stdout.split() == [
        "clientbandwidthlimit.clientbandwidth.io/a"
    ]


def test_an_upgrade_brings_the_new_crds(empty: Release, tmp_path: pathlib.Path) -> None:
    """`helm upgrade` changes the CRDs, and a downgrade changes them back; limits stay."""
    empty.install()
    empty.plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    empty.plane.kubectl("create", "-f", "-", stdin=json.dumps(limit("a")))
    later = tmp_path / "later"
    subprocess.run(["cp", "-r", str(helm.CHART), str(later)], check=True, timeout=30)
    crd = later / "files" / "crds" / "clientbandwidthlimits.yaml"
    crd.write_text(crd.read_text().replace("shortNames: [cbl]", "shortNames: [cbl, cblx]"))
    assert "cblx" in crd.read_text()
    empty.helm("package", str(later), "--version", "0.9.0", "--destination", str(tmp_path))
    empty.helm("upgrade", "cbo", str(tmp_path / "client-bandwidth-operator-0.9.0.tgz"))
    names = ("get", "crd", "clientbandwidthlimits.clientbandwidth.io", "-o", "jsonpath={.spec.names.shortNames}")
    assert "cblx" in empty.plane.kubectl(*names).stdout
    empty.helm("rollback", "cbo", "1")
    assert "cblx" not in empty.plane.kubectl(*names).stdout
    assert "/a" in empty.plane.kubectl("get", "clientbandwidthlimits", "-o", "name").stdout


def test_an_upgrade_may_reuse_the_values_of_a_chart_that_had_fewer(empty: Release, tmp_path: pathlib.Path) -> None:
    """With --reuse-values, and with --reset-then-reuse-values, everything new has its default and the rest is kept."""
    earlier = tmp_path / "earlier"
    subprocess.run(["cp", "-r", str(helm.CHART), str(earlier)], check=True, timeout=30)
    (earlier / "values.yaml").write_text("operator: {replicas: 2}\n")
    (earlier / "values.schema.json").unlink()
    empty.helm("install", "cbo", str(earlier), "--create-namespace", "--set", "agent.metrics.port=9999")
    for how in ("--reuse-values", "--reset-then-reuse-values"):
        empty.helm("upgrade", "cbo", str(helm.CHART), how)
        manifest = empty.helm("get", "manifest", "cbo").stdout
        assert "--metrics-max-limits=1000" in manifest
        assert ":9999" in manifest


def accounts(of: control_plane.ControlPlane) -> dict[str, str]:
    """The service accounts in the namespace, and what each may do with the plan and the states of nodes."""
    words = ("-n", NAMESPACE, "get", "serviceaccounts", "-o", "jsonpath={.items[*].metadata.name}")
    may = {}
    for name in of.kubectl(*words).stdout.split():
        account = f"--as=system:serviceaccount:{NAMESPACE}:{name}"
        asked = ("create bandwidthplanslices", "create nodebandwidthstates")
        found = [
            each for each in asked if "yes" in of.kubectl("auth", "can-i", *each.split(), account, check=False).stdout
        ]
        may[name] = " ".join(found)
    return may


OUR_ACCOUNTS = {
    "client-bandwidth-agent": "create nodebandwidthstates",
    "client-bandwidth-operator": "create bandwidthplanslices",
}


def test_an_upgrade_takes_no_right_from_pods_that_still_run(empty: Release, tmp_path: pathlib.Path) -> None:
    """Accounts were called `agent` and `operator`: the upgrade keeps both with their rights, for pods that are not
    replaced yet, and the next one removes them. The way back works, too."""
    formerly = {"agent": "create nodebandwidthstates", "operator": "create bandwidthplanslices"}
    before = previous.chart(tmp_path, previous.BEFORE_OWN_ACCOUNTS)
    empty.helm("install", "cbo", str(before), "--create-namespace")
    empty.plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    assert accounts(empty.plane) == formerly
    token = empty.plane.kubectl("-n", NAMESPACE, "create", "token", "agent").stdout.strip()
    running = empty.plane.kubeconfig("agent", token=token)
    for words in (("upgrade", "cbo", str(helm.CHART)), ("rollback", "cbo", "1"), ("upgrade", "cbo", str(helm.CHART))):
        empty.helm(*words)
        assert accounts(empty.plane) == (formerly if "rollback" in words else formerly | OUR_ACCOUNTS)
        empty.plane.kubectl("get", "bandwidthplanslices", kubeconfig=running)  # a pod of before goes on
    empty.helm("upgrade", "cbo", str(helm.CHART))
    assert accounts(empty.plane) == OUR_ACCOUNTS
    subjects = ("get", "clusterrolebindings,rolebindings", "-A", "-o", "jsonpath={.items[*].subjects[*].name}")
    assert not formerly.keys() & set(empty.plane.kubectl(*subjects).stdout.split())


def test_others_may_call_theirs_as_they_like(empty: Release) -> None:
    """Accounts `agent` and `operator` of somebody else in the namespace get no right, and stay when we go."""
    strangers = ("agent", "operator")
    empty.install()  # the namespace is there from now on
    empty.uninstall()
    for name in strangers:
        empty.plane.kubectl("-n", NAMESPACE, "create", "serviceaccount", name)
    try:
        empty.install()
        empty.plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        empty.helm("upgrade", "cbo", str(helm.CHART))
        assert accounts(empty.plane) == OUR_ACCOUNTS | dict.fromkeys(strangers, "")
        empty.uninstall()
        assert accounts(empty.plane) == dict.fromkeys(strangers, "")
    finally:
        empty.plane.kubectl("-n", NAMESPACE, "delete", "serviceaccount", *strangers)


def test_an_upgrade_restarts_no_pod_for_its_number_alone(tmp_path: pathlib.Path) -> None:
    """Two versions of the chart with the same values and images have the same pods."""
    templates = []
    for version in ("0.9.0", "0.10.0"):
        words = ("--version", version, "--app-version", "dev", "--destination", str(tmp_path))
        helm.run("package", str(helm.CHART), *words, home=tmp_path)
        package = str(tmp_path / f"client-bandwidth-operator-{version}.tgz")
        done = helm.run("template", "x", package, "--kube-version", helm.OLDEST, home=tmp_path)
        documents = [d for d in yaml.safe_load_all(done.stdout) if d and d["kind"] in ("Deployment", "DaemonSet")]
        templates.append([d["spec"]["template"] for d in documents])
    assert len(templates[0]) == 2
    assert templates[0] == templates[1]


def test_the_notes_can_be_pasted(empty: Release) -> None:
    """helm says three commands after the installation, and the limit among them is one that the API server takes."""
    empty.install()
    empty.plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    notes = empty.helm("get", "notes", "cbo").stdout
    said = re.findall(r"^ +kubectl (\w+ \S+)", notes, re.MULTILINE)
    assert said == ["get nodebandwidthstates", "apply -f", "get cbl"]
    manifest = notes.partition("<<LIMIT\n")[2].partition("LIMIT\n")[0]
    manifest = re.sub("^   ", "", manifest, flags=re.MULTILINE)
    empty.plane.kubectl("apply", "--dry-run=server", "-f", "-", stdin=manifest)


def test_uninstalling_may_delete_all(empty: Release) -> None:
    """With crds.keep=false the CRDs go too."""
    empty.install("--set", "crds.keep=false")
    empty.uninstall()
    assert left(empty.plane) == set()


def test_what_kubectl_applies_stays_as_it_is_and_goes_again() -> None:
    """After `kubectl apply -f`, either way, the cluster shows no difference; `kubectl delete -f` leaves nothing."""
    with control_plane.running() as plane:
        install = ("-f", str(INSTALL))
        plane.kubectl("apply", *install)
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        plane.kubectl("diff", *install)
        plane.kubectl("apply", "--server-side", *install)
        plane.kubectl("diff", "--server-side", *install)
        # Nobody ends namespaces here; in a real cluster what is in one goes with it.
        plane.kubectl("delete", "--wait=false", *install)
        assert left(plane) == set()
