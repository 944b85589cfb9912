"""`why`: which policy slowed a client down, by which figures, when it lets it go, or what stands in the way."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence

from bandwidth_api import addresses, units
from bandwidth_api.plan import Prefix
from bandwidth_cli import cluster, outcome
from bandwidth_cli.command_line import values
from bandwidth_cli.kubectl.program import Json, Kubectl
from bandwidth_cli.objects import policies
from bandwidth_cli.objects.limits import Limit
from bandwidth_cli.objects.policies import Decided, Policy, Stands
from bandwidth_cli.outcome import FailedError
from bandwidth_cli.text import ages, page, tables
from bandwidth_runtime import printable

POLICIES = ("POLICY", "MODE", "READY", "WATCHED", "HOT", "LIMITED", "LAST")
STANDING = ("POLICY", "MODE", "STATE", "WHAT IT HAS TO DO WITH IT")
DECISIONS = ("AGO", "POLICY", "DECISION", "STEP", "RATE", "WHY")
ALL_DECISIONS = ("AGO", "POLICY", "CLIENT", "DECISION", "STEP", "RATE", "WHY")
NONE = "there is no policy: nothing slows anybody down but limits that people write; docs/policies.md has a first one"
TEXT_MAX = 120
DECISIONS_SHOWN = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """All that policies have to do with a client."""

    address: Prefix
    limits: tuple[Limit, ...]  # that name it and are not over
    policies: tuple[tuple[Policy, Stands], ...]


def run(options: argparse.Namespace, kubectl: Kubectl) -> int:
    """Print why; return the exit code."""
    existing = cluster.all_limits(kubectl)
    known = cluster.all_policies(kubectl)
    now = time.time()
    if options.what is None:
        if options.output != "text":
            page.show_object({"policies": [_policy(each, each.decisions) for each in known]}, options.output)
        else:
            page.show(overview(known, now))
        return outcome.DONE
    found = gather(meant(options.what, existing, known), existing, known, now)
    if options.output != "text":
        page.show_object(as_json(found, now), options.output)
    else:
        page.show(lines(found, now))
    return outcome.DONE


def meant(what: str, existing: Sequence[Limit], known: Sequence[Policy]) -> Prefix:
    """Return the client that is asked for, by its address or by the name of a limit. Raises FailedError."""
    name = values.bare(what)
    named = next((limit for limit in existing if limit.name == name), None)
    if named is not None and len(named.clients) == 1:
        return named.clients[0]
    if named is not None:
        clients = ", ".join(map(addresses.write, named.clients[:5]))
        raise FailedError(f"{name} was written by a person and has several clients; ask for one of them: {clients}")
    try:
        return values.address(what)
    except ValueError as error:
        if "/" in what or ":" in what:  # no name of an object
            raise FailedError(str(error)) from None
    gone = next((each for policy in known for each in policy.decisions if each.limit == name), None)
    if gone is not None:  # the limit has ended; its client is remembered by the decision
        return gone.client
    if any(policy.name == name for policy in known):
        raise FailedError(f"{name} is a policy; kubectl cbl why without a name tells what each has decided")
    import difflib

    near = difflib.get_close_matches(name, [limit.name for limit in existing], 1)
    hint = f"did you mean {near[0]}?" if near else "kubectl cbl list shows all; an address is taken too"
    raise FailedError(f"there is no limit {name}; {hint}")


def gather(address: Prefix, existing: Sequence[Limit], known: Sequence[Policy], now: float) -> Found:
    """Return what policies have to do with a client."""
    seen = []
    for policy in known:
        touching = policies.naming(existing, policy.client(address))
        seen.append((policy, policies.stands(policy, address, touching, now)))
    live = tuple(limit for limit in policies.naming(existing, address) if not limit.is_over(now))
    return Found(address, live, tuple(seen))


# ── one client ─────────────────────────────────────────────────────────────────────────────────────────────────


def lines(found: Found, now: float) -> list[str]:
    """Return the page about one client."""
    made = [sentence(found, now)]
    for policy, stood in found.policies:
        if stood.state == "Limited":
            made += _limited(found, policy, now)
    if not found.policies:
        return made
    rows = [(p.name, p.mode, stood.obstacle or stood.state, stood.text) for p, stood in found.policies]
    made += ["", *tables.lines(STANDING, rows)]
    decisions = [(p.name, each) for p, _ in found.policies for each in policies.concerning(p, found.address)]
    if decisions:
        decisions.sort(key=lambda pair: -(pair[1].at or 0.0))
        rows_of = [_cells(name, each, now) for name, each in decisions[:DECISIONS_SHOWN]]
        made += ["", *tables.lines(DECISIONS, [(*row[:2], *row[3:]) for row in rows_of])]
    else:
        made += ["", "no policy has it among its last ten decisions"]
    made += [f"! {p.name}: {printable.line(warning)}" for p, _ in found.policies for warning in p.warnings]
    return made


def sentence(found: Found, now: float) -> str:
    """Return the answer in one sentence."""
    text = addresses.write(found.address)
    for policy, stood in found.policies:
        if stood.state == "Limited":
            left = f", for another {ages.short(stood.until - now)} at most" if stood.until else ""
            return f"{text} is slowed by the policy {policy.name}: {stood.text}{left}"
    person = next((limit for limit in found.limits if not policies.maker(limit)), None)
    if person is not None:
        words = f": {printable.line(person.reason)}" if person.reason else ""
        return f"{text} is named by {person.name}, which a person wrote, and no policy does anything beside it{words}"
    if not found.policies:
        return f"no policy slows {text}: {NONE}"
    return f"no policy slows {text} now"


def _limited(found: Found, policy: Policy, now: float) -> list[str]:
    limit = next(each for each in found.limits if policies.maker(each) == policy.name)
    step, left = policies.step_of(limit), (limit.expires_at or now) - now
    made = [f"  why:    {printable.line(limit.reason)}"]
    if policy.lift_percent:
        below = units.show_rate(limit.rate_bits_per_second * policy.lift_percent / 100)
        made.append(f"  lifted: when it gets less than {below} for {ages.short(policy.lift_seconds)}")
    if step and policy.steps:
        following = policy.steps[min(step, len(policy.steps) - 1)]
        made.append(
            f"  else:   in {ages.short(left)} it ends, or if the client still presses against it becomes"
            f" {following.rate} for {ages.short(following.ttl_seconds)}"
        )
    pardon = ages.short(policies.pardon_seconds(limit, policy, now))
    return [*made, f"  pardon: kubectl cbl lift {limit.name}; then it is left alone for {pardon}"]


def _cells(name: str, each: Decided, now: float) -> tuple[str, ...]:
    why = f"{each.message}; {each.why}" if each.message and each.message != each.why else each.why
    return (
        ages.short(now - each.at) if each.at is not None else "?",
        name,
        addresses.write(each.client),
        each.decision + (" (observed)" if each.observed else "") + (f" {each.obstacle}" if each.obstacle else ""),
        str(each.step) if each.step else "-",
        each.rate or "-",
        tables.shortened(why, TEXT_MAX) or "-",
    )


def as_json(found: Found, now: float) -> Json:
    """Return the page for programs."""
    return {
        "address": addresses.write(found.address),
        "limits": [
            {
                "name": limit.name,
                "policy": policies.maker(limit) or None,
                "step": policies.step_of(limit) if policies.maker(limit) else None,
                "rateBitsPerSecond": limit.rate_bits_per_second,
                "endsInSeconds": None if limit.expires_at is None else round(limit.expires_at - now),
                "why": limit.reason,
            }
            for limit in found.limits
        ],
        "policies": [
            {
                **_policy(policy, policies.concerning(policy, found.address)),
                "state": stood.state,
                "obstacle": stood.obstacle or None,
                "message": stood.text,
                "untilSeconds": None if stood.until is None else round(stood.until - now),
            }
            for policy, stood in found.policies
        ],
    }


# ── all policies ───────────────────────────────────────────────────────────────────────────────────────────────


def overview(known: Sequence[Policy], now: float) -> list[str]:
    """Return the page about all policies: what each sees now, and what was decided last."""
    if not known:
        return [NONE]
    rows = []
    for policy in known:
        status, reason, _ = policy.ready
        last = max((each.at or 0.0 for each in policy.decisions), default=0.0)
        counts = [str(policy.counts[name]) for name in ("watched", "hot", "limited")]
        ready = status if status == "True" or not reason else f"{status} ({reason})"
        rows.append((policy.name, policy.mode, ready, *counts, ages.short(now - last) if last else "never"))
    made = tables.lines(POLICIES, rows)
    decisions = sorted(((p.name, d) for p in known for d in p.decisions), key=lambda pair: -(pair[1].at or 0.0))
    if decisions:
        cells = [_cells(name, each, now) for name, each in decisions[:DECISIONS_SHOWN]]
        made += ["", *tables.lines(ALL_DECISIONS, cells)]
    for policy in known:
        status, _, message = policy.ready
        told = [message] if status != "True" and message else []
        made += [f"! {policy.name}: {printable.line(text)}" for text in [*told, *policy.warnings]]
    return made


def _policy(policy: Policy, decisions: Sequence[Decided]) -> Json:
    status, reason, message = policy.ready
    return {
        "name": policy.name,
        "mode": policy.mode,
        "priority": policy.priority,
        "ready": status,
        "reason": reason,
        "readyMessage": message,
        **policy.counts,
        "warnings": list(policy.warnings),
        "decisions": [each.raw for each in decisions],
    }
