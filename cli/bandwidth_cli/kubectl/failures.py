"""Reads why a kubectl failed from what it printed, and words it with what to do. Pure.

kubectl prints no errors for programs. What is relied on is the reason that the API server gave, which it prints in
brackets, and the beginnings of its own messages; whatever has neither is shown as it is.
"""

from __future__ import annotations

import dataclasses
import enum
import re


class Kind(enum.Enum):
    """Why a request failed, as far as it decides what to do."""

    MISSING_PROGRAM = "missing program"
    CONFIGURATION = "configuration"
    UNREACHABLE = "unreachable"
    UNAUTHORIZED = "Unauthorized"
    FORBIDDEN = "Forbidden"
    NOT_FOUND = "NotFound"
    EXISTS = "AlreadyExists"
    CONFLICT = "Conflict"
    INVALID = "Invalid"
    EXPIRED = "Expired"
    OTHER = "other"


class KubectlError(Exception):
    """A request that failed; `text` is kubectl's own message in one or more lines."""

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


_REASONS = {kind.value: kind for kind in Kind} | {"BadRequest": Kind.INVALID, "Gone": Kind.EXPIRED}
_FROM_SERVER = re.compile(r"Error from server(?: \((\w+)\))?: (.*)", re.DOTALL)
_INVALID = re.compile(r'The \S+ ".*?" is invalid: (.*)', re.DOTALL)
_UNREACHABLE = (
    "The connection to the server",
    "Unable to connect to the server",
    "couldn't get current server API group list",
    "context deadline exceeded",
    "net/http:",
    "unexpected EOF",
    "EOF",
    "stream error",
    "http2:",
    "read tcp",
    "dial tcp",
    'Get "',
    'Post "',
    'Put "',
    'Delete "',
)
_OLD_KUBECTL = "unknown flag: --raw"
TOO_OLD = "this kubectl is too old: it makes no raw requests; install a newer one, or name one in KUBECTL"
_NO_CLUSTER = "localhost:8080"  # where kubectl looks when nothing names a cluster
_UNAUTHORIZED = "You must be logged in to the server"
_CREDENTIALS = "getting credentials:"
# Its log, which says the same in other words.
_LOG_LINE = re.compile(r"[IWEF]\d{4} \d{2}:\d{2}:\d{2}\.\d+ +\d+ \S+:\d+\] ")
_BEGINNINGS = (
    "Error from server",
    "error:",
    "Error: ",
    "The connection to the server",
    "Unable to connect to the server",
)
_INVALID_BEGINS = re.compile(r'The \S+ ".*?" is invalid:')
_LOG_MAY_BEGIN = re.compile(r"[IWEF](?:\d|$)")
_LOG_BEGINS_MAX = 120


def begins(line: str) -> bool:
    """Return whether a line of kubectl's stderr begins its message of failure, which goes on to the end."""
    return line.startswith(_BEGINNINGS) or _INVALID_BEGINS.match(line) is not None


def may_begin(part: str) -> bool:
    """Return whether the beginning of a line may become one of a message of failure, or of the log."""
    if any(part.startswith(text) or text.startswith(part) for text in _BEGINNINGS):
        return True
    return "The ".startswith(part[:4]) or (_LOG_MAY_BEGIN.match(part) is not None and len(part) < _LOG_BEGINS_MAX)


def is_log(line: str) -> bool:
    """Return whether a line is of kubectl's log, which is shown only where it is asked for."""
    return _LOG_LINE.match(line) is not None


def read(text: str) -> KubectlError:
    """Return the error that kubectl's message of failure means."""
    text = text.strip()
    if found := _FROM_SERVER.match(text):
        return KubectlError(_REASONS.get(found[1] or "", Kind.OTHER), found[2].strip())
    if found := _INVALID.match(text):
        return KubectlError(Kind.INVALID, found[1].strip())
    text = text.removeprefix("error: ").removeprefix("Error: ")
    if text.startswith(_OLD_KUBECTL):
        return KubectlError(Kind.MISSING_PROGRAM, TOO_OLD)
    if text.startswith(_UNAUTHORIZED):
        return KubectlError(Kind.UNAUTHORIZED, text)
    if _CREDENTIALS in text:
        return KubectlError(Kind.UNAUTHORIZED, text)
    if text.startswith(_UNREACHABLE):
        return KubectlError(Kind.UNREACHABLE, text)
    return KubectlError(Kind.CONFIGURATION if text else Kind.OTHER, text or "kubectl failed and printed no reason")


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """What a request was for, in the words of an error."""

    act: str  # "list", "create" …, a verb of the API
    resource: str  # its plural name
    name: str = ""


TRAFFIC_ROLE = "client-bandwidth-traffic"
ROLES = {"view": "client-bandwidth-view", "edit": "client-bandwidth-edit"}


def explained(error: KubectlError, asked: Asked) -> str:
    """Return the error in words for whoever made the call: what failed, and what to do."""
    text = error.text.rstrip(".")
    match error.kind:
        case Kind.MISSING_PROGRAM:
            return text
        case Kind.UNREACHABLE if _NO_CLUSTER in text:
            return (
                "kubectl knows no cluster: no kubeconfig was found, or it names none; set KUBECONFIG, or --kubeconfig"
                f" FILE ({text})"
            )
        case Kind.UNREACHABLE:
            return (
                f"the cluster does not answer: {text}; is it the right one? --context chooses another, and"
                " kubectl get --raw /readyz tries it"
            )
        case Kind.UNAUTHORIZED:
            return f"the cluster does not accept your credentials: {text}; log in again, then kubectl auth whoami"
        case Kind.FORBIDDEN:
            what = asked.resource if asked.resource.count(".") else f"{asked.resource}.clientbandwidth.io"
            reads = asked.act in ("get", "list", "watch")
            role = TRAFFIC_ROLE if "traffic" in asked.resource else ROLES["view" if reads else "edit"]
            return f"you may not {asked.act} {what}: {text}; ask an administrator for the ClusterRole {role}"
        case Kind.NOT_FOUND:
            return f"{asked.resource}/{asked.name} is not there; kubectl cbl list shows what is"
        case Kind.EXISTS:
            return (
                f"{asked.resource}/{asked.name} exists already; change it with --replace, let it go with kubectl cbl"
                f" lift {asked.name}, or make another beside it with --name NAME"
            )
        case Kind.CONFLICT:
            return f"{asked.resource}/{asked.name} was changed by somebody else meanwhile; look at it and try again"
        case Kind.CONFIGURATION:
            return f"kubectl cannot make the request: {text}"
        case Kind.INVALID:
            return f"{asked.resource}/{asked.name}: the API server refuses it: {text}"
        case _:
            return f"{asked.act} {asked.resource} failed: {text}"


NO_OPERATOR = (
    "this cluster has no client-bandwidth-operator: the kind {kind} is missing; install it (Helm chart"
    " client-bandwidth-operator), or choose another cluster with --context"
)
OLD_OPERATOR = (
    "the client-bandwidth-operator of this cluster does not know {kind}: it is older than this plugin, or installed"
    " without (traffic.enabled: false); bring its chart and its CRDs up to date"
)
