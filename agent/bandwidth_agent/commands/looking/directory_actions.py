"""A limit for a client, as a file in the manifest directory: may it be, what would it change, write it.

Never writes over a file that exists. What would change is worked out by the agent's own planner; nothing is applied
here: that is what the agent that follows the directory does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import secrets
import time
from collections.abc import Callable, Container, Iterator, Mapping

from bandwidth_agent import reconcile
from bandwidth_agent.commands.looking import overlapping, uplinks
from bandwidth_agent.commands.options import Options
from bandwidth_agent.commands.wiring import parts
from bandwidth_agent.kernel import refusals
from bandwidth_agent.limits import Wanted, failsafe
from bandwidth_agent.planner import describe
from bandwidth_agent.planner.classifier import ownership
from bandwidth_agent.policies import kept_makers
from bandwidth_agent.policies.makers import Maker
from bandwidth_agent.process import lock
from bandwidth_api import addresses, plan
from bandwidth_sight import draft as drafts
from bandwidth_sight.draft import Draft
from bandwidth_sight.source import Preview, SourceError

CHANGES_MAX = 200  # lines of a preview
NAMES_MAX = 1000


class Checks:
    """Whether this host lets a client be limited, by the same rules as the agent. Needs no capability."""

    def __init__(self, around: uplinks.Uplinks, options: Options) -> None:
        self._around, self._options = around, options

    def refusal(self, client: plan.Prefix) -> str:
        """Return why no limit may name this client; "" if one may."""
        refused = drafts.refusal(client)
        if refused:
            return refused
        from bandwidth_agent.limits.directory import protected_addresses

        spared = failsafe.Failsafe()() if self._options.settings.failsafe else {}
        facts = dataclasses.replace(self._around.facts(), spared=spared)
        guard = protected_addresses.Guard(lambda: facts, self._options.settings, self._options.node_labels)
        problem = guard(entry(Draft("draft", client, 1_000_000, None, "")))
        return problem.message if problem is not None else ""


class ShownOnly:
    """Where no file may be written: on a node of a cluster, or where no manifest directory is known."""

    def __init__(self, checks: Checks, *, in_cluster: bool) -> None:
        self._checks, self._in_cluster = checks, in_cluster

    def refusal(self, client: plan.Prefix) -> str:
        return self._checks.refusal(client)

    def preview(self, draft: Draft) -> Preview:
        instead = _in_cluster(draft) if self._in_cluster else _NO_DIRECTORY
        return Preview(draft, drafts.as_yaml(draft), (), "", instead)

    def apply(self, preview: Preview) -> str:
        raise SourceError(" ".join(preview.instead))

    def write_yaml(self, preview: Preview, path: str) -> str:
        if not path:
            raise SourceError("no manifest directory is known here: press w and name a file")
        return write_new(named(path), preview.yaml)


_NO_DIRECTORY = (
    "No manifest directory is known here, so it cannot be put in force from this screen.",
    "Start top with --manifests DIR, or write the file (w) where the agent reads it.",
)


def _in_cluster(draft: Draft) -> tuple[str, ...]:
    from bandwidth_api import addresses, units
    from bandwidth_sight import durations

    command = [
        f"kubectl cbl slow {addresses.write(draft.client)}",
        f"--rate {units.write_rate(draft.rate_bits_per_second)}",
        f"--for {durations.write(draft.ttl_seconds)}" if draft.ttl_seconds is not None else "",
        f"--reason {_quoted(draft.reason)}",
        "--observe" if draft.mode is plan.Mode.OBSERVE else "",
    ]
    return (
        "This is a node of a cluster: limits come from its API server, not from a file here.",
        "Where you have kubectl, run",
        f"  {' '.join(filter(None, command))}",
        "or apply the YAML above:  kubectl apply -f -",
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


class DirectoryActions:
    """Limits of one manifest directory."""

    def __init__(
        self,
        checks: Checks,
        options: Options,
        directory: pathlib.Path,
        agent_runs: Callable[[], bool | None] = lock.running,
    ) -> None:
        """`agent_runs`: whether one runs in this network namespace; None: not known."""
        self._checks, self._options, self._directory = checks, options, directory
        self._agent_runs = agent_runs

    def refusal(self, client: plan.Prefix) -> str:
        return self._checks.refusal(client)

    def preview(self, draft: Draft) -> Preview:
        try:
            with _planned(self._options) as planned:
                draft = _named(draft, planned.names, self._directory)
                added = entry(draft)
                changes = planned.changes(added)
                found = overlapping.found(added, planned.wanted.entries, planned.wanted.file_of)
        except OSError as error:
            if error.errno not in refusals.NOT_ALLOWED:
                raise SourceError(f"what would change cannot be said: {refusals.words(error)}") from None
            draft = _named(draft, frozenset(), self._directory)
            changes = ("not known: to read the kernel takes CAP_NET_ADMIN",)
            found = overlapping.NONE
        except parts.ManifestsError as error:
            raise SourceError(str(error)) from None
        though = ", though it slows nothing now" if found.idle else ""
        question = f"Write {self._path(draft)}{though}?"
        overlaps = (*found.lines, *_let_go(draft, kept_makers.read(self._options.state_dir)))
        return Preview(draft, drafts.as_yaml(draft), changes, question, overlaps=overlaps)

    def apply(self, preview: Preview) -> str:
        path = write_new(self._path(preview.draft), preview.yaml)
        if self._agent_runs() is False:
            command = f"bandwidth-agent run --manifests {self._directory}"
            return f"written: {path}; no agent runs here: {command} puts it in force"
        return f"written: {path}; an agent that follows the directory puts it in force within a second"

    def write_yaml(self, preview: Preview, path: str) -> str:
        return write_new(named(path) if path else self._path(preview.draft), preview.yaml)

    def _path(self, draft: Draft) -> pathlib.Path:
        return self._directory / f"{draft.name}.yaml"


def _let_go(draft: Draft, made_by: Mapping[str, Maker]) -> Iterator[str]:
    """Say of each limit of a policy that the policy lets go of a client that a person's limit names."""
    for name, maker in sorted(made_by.items()):
        if addresses.covers(maker.client, draft.client) or addresses.covers(draft.client, maker.client):
            nobody = "; in Observe nothing slows it then" if draft.mode is plan.Mode.OBSERVE else ""
            yield f"The policy {maker.policy} slows it now, by {name}, and lets go once this limit is there{nobody}."


def entry(draft: Draft) -> plan.PlanEntry:
    """Return a draft in the units of the plan, as the agent would make it of the file."""
    from bandwidth_api.compiler import compile as compiler
    from bandwidth_api.crds import limit

    parsed = limit.parse(drafts.as_object(draft))
    if not isinstance(parsed, limit.Limit):
        raise SourceError("; ".join(f"{problem.field}: {problem.message}" for problem in parsed))
    return compiler.entry(parsed, now=time.time())


def named(path: str) -> pathlib.Path:
    """Return the file that was typed, with `~` as a shell reads it."""
    with contextlib.suppress(RuntimeError):  # nobody knows that home
        return pathlib.Path(path).expanduser()
    return pathlib.Path(path)


def write_new(path: pathlib.Path, text: str) -> str:
    """Write a file that does not exist yet, whole or not at all; return its path. Raises SourceError."""
    beside = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            with open(descriptor, "w") as file:
                file.write(text)
            os.link(beside, path)  # which fails where a file is
        finally:
            os.unlink(beside)
    except FileExistsError:
        raise SourceError(f"{path} exists already, and is left as it is; name another file (w)") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be written: {(error.strerror or str(error)).lower()}") from None
    return str(path)


def _named(draft: Draft, taken: Container[str], directory: pathlib.Path) -> Draft:
    """Return the draft with the first name that neither a limit nor a file has."""
    for number in range(1, NAMES_MAX):
        observe = draft.mode is plan.Mode.OBSERVE
        name = drafts.name(draft.client, observe=observe, number=number)
        if name not in taken and not os.path.lexists(directory / f"{name}.yaml"):
            return dataclasses.replace(draft, name=name)
    raise SourceError(f"{directory} has {NAMES_MAX} limits for this client already; delete some")


@dataclasses.dataclass(frozen=True, slots=True)
class _Planned:
    reconciler: reconcile.Reconciler
    wanted: Wanted
    names: Container[str]

    def changes(self, added: plan.PlanEntry) -> tuple[str, ...]:
        """Return what one more limit changes, as lines. Raises SourceError where this host refuses it."""
        before = self.reconciler.prepare(self.wanted, read=True)
        wanted = dataclasses.replace(self.wanted, entries=(*self.wanted.entries, added))
        prepared = self.reconciler.prepare(wanted, read=False)
        expected = self.reconciler.expected_report(prepared)
        for failing in expected.failing:
            if failing.name == added.limit:
                raise SourceError(f"{failing.reason}: {failing.message}")
        labels = ownership.limits(prepared.observed, prepared.desired)
        lines = [line for step in prepared.changes for line in describe.lines(step, labels)]
        if before.changes:
            lines += [
                f"({len(before.changes)} of these steps are of other limits: no agent keeps the directory in force)"
            ]
        if len(lines) > CHANGES_MAX:
            lines = [*lines[:CHANGES_MAX], f"… and {len(lines) - CHANGES_MAX} more"]
        return tuple(lines)


@contextlib.contextmanager
def _planned(options: Options) -> Iterator[_Planned]:
    """Read the directory and get ready to plan over this host's kernel; changes nothing."""
    kernel = parts.kernel(options)
    try:
        reconciler = reconcile.Reconciler(kernel, options.settings, spared=parts.spared(options))
        source = parts.source(options, kernel, reconciler, writes=False)
        try:
            source.settle()
            wanted = source.wanted(time.time())
            taken = frozenset(source.entries)
        finally:
            source.close()
        yield _Planned(reconciler, wanted, taken)
    finally:
        kernel.close()
