"""A limit before it is made: what the API server says by a dry run, what it would meet, and what is asked first."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from bandwidth_api import addresses, units
from bandwidth_api.plan import Mode
from bandwidth_cli import cluster
from bandwidth_cli.command_line import values
from bandwidth_cli.kubectl import paths
from bandwidth_cli.kubectl.failures import Kind, KubectlError
from bandwidth_cli.kubectl.program import Json, Kubectl
from bandwidth_cli.objects import limits, manifest, policies
from bandwidth_cli.objects.limits import Limit
from bandwidth_cli.objects.manifest import Wanted
from bandwidth_cli.outcome import FailedError
from bandwidth_sight import durations


class Proposal:
    """A limit that the API server would take, and what it would meet."""

    def __init__(
        self, wanted: Wanted, body: Json, before: Limit | None, effects: list[str], warnings: list[str]
    ) -> None:
        self.wanted = wanted
        self.body = body
        self.before = before  # the limit that it changes
        self.effects = effects
        self.warnings = warnings

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])


def propose(kubectl: Kubectl, wanted: Wanted, *, replace: bool, now: float) -> Proposal:
    """Return the limit as the API server would take it by a dry run, and what it would do. Raises FailedError."""
    existing = cluster.all_limits(kubectl)
    asked_nodes = cluster.Pending(lambda: cluster.all_nodes(kubectl))
    author = cluster.Pending(lambda: cluster.who_am_i(kubectl))
    name = manifest.named(wanted)
    before = next((limit for limit in existing if limit.name == name), None)
    if before is not None and not replace and not _is_over(before, now):
        raise FailedError(_taken(before, wanted, now))
    end = None if before is None or wanted.lasts_seconds is None else now + wanted.lasts_seconds
    body = manifest.write(wanted, author.result(), until=end)
    if before is not None:
        body["metadata"]["resourceVersion"] = before.version
    with worded_write(name, before):
        _write(kubectl, body, before, dry_run=True)
    from bandwidth_cli.objects import nodes  # loaded while kubectl is under way

    warnings: list[str] = []
    try:
        belonging = nodes.belonging(asked_nodes.result(), wanted.clients)
        warnings += [f"{each}: the nodes refuse to slow each other down" for each in belonging[:3]]
    except KubectlError as error:
        if error.kind is not Kind.FORBIDDEN:
            raise FailedError(f"nodes cannot be read: {error.text}") from None
        warnings.append("you may not list nodes: whether the address is one of a node was not checked")
    effects, overlapping = _meets(wanted, existing, now)
    if before is not None:
        state = (
            "is over" if _is_over(before, now) else f"is {before.rate} for {limits.show_clients(before.clients)} now"
        )
        effects.insert(0, f"it takes the place of {before.name}, which {state}")
    return Proposal(wanted, body, before, effects, warnings + overlapping)


def question(proposal: Proposal) -> str:
    """Return what is asked before the limit is made."""
    wanted = proposal.wanted
    whom = ", ".join(map(addresses.write, wanted.clients[:3])) + (" …" if len(wanted.clients) > 3 else "")
    rate = units.write_rate(wanted.rate_bits_per_second)
    lasts = "until it is lifted" if wanted.lasts_seconds is None else f"for {durations.write(wanted.lasts_seconds)}"
    if wanted.mode is Mode.OBSERVE:
        return f"Observe {whom} against {rate} {lasts}?"
    return f"{'Change' if proposal.before else 'Slow'} {whom} {'to' if proposal.before else 'down to'} {rate} {lasts}?"


def make(kubectl: Kubectl, proposal: Proposal) -> Limit:
    """Make the limit. Raises FailedError."""
    with worded_write(proposal.name, proposal.before):
        return limits.read(_write(kubectl, proposal.body, proposal.before, dry_run=False))


@contextlib.contextmanager
def worded_write(name: str, before: Limit | None) -> Iterator[None]:
    """Turn an error of a write into the failure of the verb."""
    with cluster.worded("create" if before is None else "update", limits.RESOURCE, name):
        yield


def _write(kubectl: Kubectl, body: Json, before: Limit | None, *, dry_run: bool) -> Json:
    if before is None:
        return kubectl.create(paths.LIMITS, body, dry_run=dry_run)
    return kubectl.replace(f"{paths.LIMITS}/{before.name}", body, dry_run=dry_run)


def _is_over(before: Limit, now: float) -> bool:
    """Return whether a limit that was made here has ended by itself, so that its name is free again."""
    over = before.expires_at is not None and before.expires_at <= now
    return over and before.labels.get(limits.MADE_BY) == manifest.PROGRAM


def _taken(before: Limit, wanted: Wanted, now: float) -> str:
    if before.in_force(now):
        is_now = f"slows {limits.show_clients(before.clients)} to {before.rate}"
    else:
        is_now = "is over or switched off"
    whom = " ".join(map(addresses.write, wanted.clients))
    return (
        f"{limits.RESOURCE}/{before.name} exists already and {is_now}; change it with --replace, let it go with"
        f" kubectl cbl lift {before.name}, or make another beside it: kubectl cbl slow {whom} --name NAME"
    )


def _meets(wanted: Wanted, existing: list[Limit], now: float) -> tuple[list[str], list[str]]:
    """Return in words what the limit does, and what speaks against it."""
    from bandwidth_cli.objects import overlaps

    lifted = _lifted(wanted, existing, now)
    others = [limit for limit in existing if limit not in lifted]
    found = overlaps.outcome(manifest.entry(wanted, now), others, now)
    effects = [f"it wins over {_shown(each)} where both hold an address" for each in found.wins_over[:5]]
    if len(found.wins_over) > 5:
        effects.append(f"and over {len(found.wins_over) - 5} other limits")
    effects += [
        f"the policy {policies.maker(each)} lifts {_shown(each)}: whomever a person's limit names it leaves alone"
        for each in lifted[:5]
    ]
    if len(lifted) > 5:
        effects.append(f"and policies lift {len(lifted) - 5} other limits")
    warnings = []
    for each in found.loses_to[:5]:
        least = min(values.PRIORITY_MAX, each.priority + 1)
        warnings.append(
            f"{_shown(each)} wins over it where both hold an address; lift that one, or add --priority {least}"
        )
    if found.left_out:
        warnings.append(found.left_out)
    return effects, warnings


def _lifted(wanted: Wanted, existing: list[Limit], now: float) -> list[Limit]:
    """Return the limits of policies that end by this one: they let go of whomever a person's limit names."""
    made = [limit for limit in existing if limit.in_force(now) and policies.maker(limit)]
    return [limit for limit in made if any(policies.meets(limit.clients[0], client) for client in wanted.clients)]


def _shown(limit: Limit) -> str:
    mode = "" if limit.mode is Mode.ENFORCE else f", {limit.mode.value}"
    ports = f", {limits.show_ports(limit.ports)}" if limit.ports else ""
    return f"{limit.name} ({limits.show_clients(limit.clients)}, {limit.rate}{ports}{mode})"
