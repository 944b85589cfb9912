"""What kubectl's messages of failure mean, in the words that kubectl 1.34 prints."""

from __future__ import annotations

import pytest

from bandwidth_cli.kubectl import failures
from bandwidth_cli.kubectl.failures import Asked, Kind

FORBIDDEN = (
    'Error from server (Forbidden): clientbandwidthlimits.clientbandwidth.io is forbidden: User "bob" cannot list'
    ' resource "clientbandwidthlimits" in API group "clientbandwidth.io" at the cluster scope'
)
INVALID = (
    'The ClientBandwidthLimit "x" is invalid: \n* spec.egress.rate: Invalid value: "5Mbyte": must match\n'
    "* spec.clients: Required value"
)


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        (FORBIDDEN, Kind.FORBIDDEN, "bob"),
        ("Error from server (NotFound): the server could not find the requested resource", Kind.NOT_FOUND, "requested"),
        ("Error from server (AlreadyExists): x already exists", Kind.EXISTS, "x already exists"),
        (
            "Error: unknown flag: --raw\nSee 'kubectl create --help' for usage.",
            Kind.MISSING_PROGRAM,
            failures.TOO_OLD,
        ),
        ("Error from server (Conflict): Operation cannot be fulfilled", Kind.CONFLICT, "Operation"),
        ('Error from server (BadRequest): strict decoding error: unknown field "spec.foo"', Kind.INVALID, "spec.foo"),
        ("Error from server (Expired): too old resource version", Kind.EXPIRED, "too old"),
        ("Error from server (Teapot): short and stout", Kind.OTHER, "short and stout"),
        ("Error from server: etcdserver: request timed out", Kind.OTHER, "etcdserver"),
        (INVALID, Kind.INVALID, "spec.clients: Required value"),
        ("The connection to the server 127.0.0.1:1 was refused - did you specify the right host or port?",
         Kind.UNREACHABLE, "127.0.0.1:1"),
        ("Unable to connect to the server: dial tcp: lookup nosuch.invalid: no such host", Kind.UNREACHABLE, "nosuch"),
        ("error: context deadline exceeded (Client.Timeout exceeded)", Kind.UNREACHABLE, "deadline"),
        ("error: You must be logged in to the server (Unauthorized)", Kind.UNAUTHORIZED, "logged in"),
        ("Unable to connect to the server: getting credentials: exec: executable nosuch-login not found\n\ninstall it",
         Kind.UNAUTHORIZED, "install it"),
        ('error: context "nope" does not exist', Kind.CONFIGURATION, 'context "nope"'),
        ("error: unknown flag: --bogus\nSee 'kubectl get --help' for usage.", Kind.CONFIGURATION, "--bogus"),
        ("", Kind.OTHER, "no reason"),
    ],
)  # fmt: skip
def test_a_message_is_told_by_its_reason(text: str, kind: Kind, says: str) -> None:
    """The reason of the API server decides; of kubectl's own messages it is their beginning."""
    error = failures.read(text)
    assert error.kind is kind
    assert says in error.text


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_is_worded_with_the_object(kind: Kind) -> None:
    """Whatever the reason: one text, with what kubectl said or what to do."""
    text = failures.explained(failures.KubectlError(kind, "because."), Asked("create", "clientbandwidthlimits", "x"))
    assert "because" in text or "clientbandwidthlimits/x" in text
    assert not text.endswith("..")


@pytest.mark.parametrize(("act", "role"), [("list", "client-bandwidth-view"), ("delete", "client-bandwidth-edit")])
def test_who_may_not_learns_which_role_to_ask_for(act: str, role: str) -> None:
    """Reading and writing have roles of their own."""
    assert role in failures.explained(failures.read(FORBIDDEN), Asked(act, "clientbandwidthlimits"))


def test_no_cluster_at_all_is_told_as_such() -> None:
    """Where nothing names a cluster kubectl tries localhost:8080."""
    error = failures.read("The connection to the server localhost:8080 was refused - did you specify the right host?")
    assert "KUBECONFIG" in failures.explained(error, Asked("list", "clientbandwidthlimits"))


def test_a_name_that_somebody_else_took_meanwhile_has_all_ways_on() -> None:
    """Two people may slow the same client at once; the second learns how to change what the first made."""
    error = failures.read("Error from server (AlreadyExists): x already exists")
    said = failures.explained(error, Asked("create", "clientbandwidthlimits", "slow-203-0-113-7"))
    assert all(way in said for way in ("--replace", "kubectl cbl lift slow-203-0-113-7", "--name"))


@pytest.mark.parametrize(
    ("line", "begins"),
    [
        ("error: x", True),
        ("Error: unknown flag: --raw", True),
        ("Error from server (X): y", True),
        ('The Thing "x" is invalid: y', True),
        ("The browser is opened for you", False),
        ("Warning: this is old", False),
    ],
)
def test_only_a_message_of_failure_is_kept_back(line: str, begins: bool) -> None:
    """What a program that fetches credentials says goes to its user at once."""
    assert failures.begins(line) is begins
    assert failures.may_begin(line[:3]) or not begins


def test_lines_of_the_log_are_known() -> None:
    """klog's form: a letter, the date, the time, the thread, the place."""
    assert failures.is_log('E1129 02:30:34.836433   26600 memcache.go:265] "Unhandled Error" err="x"')
    assert not failures.is_log("Enter the code E1129")
