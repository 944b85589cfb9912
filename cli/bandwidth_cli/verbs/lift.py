"""`lift`: deletes the limits that were named, or that hold the addresses, after they were shown."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from bandwidth_api import addresses
from bandwidth_api.plan import Prefix
from bandwidth_cli import cluster, outcome
from bandwidth_cli.command_line import values
from bandwidth_cli.kubectl import paths
from bandwidth_cli.kubectl.program import Kubectl
from bandwidth_cli.objects import limits, policies
from bandwidth_cli.objects.limits import Limit
from bandwidth_cli.objects.policies import Policy
from bandwidth_cli.outcome import FailedError, WrongCallError
from bandwidth_cli.text import ages, page
from bandwidth_cli.verbs import list_limits

SHOWN = 20  # limits that are shown before they are lifted


def run(options: argparse.Namespace, kubectl: Kubectl) -> int:
    """Delete limits; return the exit code."""
    chosen, warnings = _all_chosen(options, kubectl)
    for warning in [*warnings, *(each for limit in chosen for each in _kept(limit))]:
        page.note(f"warning: {warning}")
    for note in pardons(chosen, _policies(chosen, kubectl), time.time()):
        page.note(note)
    if not options.yes and not options.dry_run and not _agreed(chosen):
        page.note("nothing was lifted")
        return outcome.FAILED
    code = outcome.DONE
    for limit in chosen:
        try:
            _lift(kubectl, limit, options)
        except FailedError as error:
            if len(chosen) == 1:
                raise
            page.note(f"error: {error}")
            code = outcome.FAILED
    return code


def _lift(kubectl: Kubectl, limit: Limit, options: argparse.Namespace) -> None:
    # The limit that was looked at, and none that has its name since.
    body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": limit.uid}}
    with cluster.worded("delete", limits.RESOURCE, limit.name):
        kubectl.delete(f"{paths.LIMITS}/{limit.name}", body, dry_run=options.dry_run)
    if options.output == "name":
        page.show([f"{limits.FULL_NAME}/{limit.name}"])
    else:
        page.show([f'{limits.FULL_NAME} "{limit.name}" deleted{" (dry run)" if options.dry_run else ""}'])


def pardons(chosen: Sequence[Limit], known: Sequence[Policy], now: float) -> list[str]:
    """Return for each limit that a policy made for how long its client is left alone when it is lifted."""
    by_name = {policy.name: policy for policy in known}
    told = []
    for limit in chosen:
        maker = policies.maker(limit)
        if not maker or limit.is_over(now):
            continue
        policy = by_name.get(maker)
        least = "" if policy is not None else "probably "
        seconds = policies.pardon_seconds(limit, policy, now)
        told.append(
            f"{limit.name} was made by the policy {maker}; lifting it is a pardon: it leaves"
            f" {limits.show_clients(limit.clients)} alone for {least}{ages.short(seconds)}; for good see spec.safety"
        )
    return told if len(told) <= SHOWN else [*told[:SHOWN], f"… {len(told) - SHOWN} more are pardons"]


def _policies(chosen: Sequence[Limit], kubectl: Kubectl) -> list[Policy]:
    """Return the policies where one has made a limit of these; none where they may not be read."""
    if not any(map(policies.maker, chosen)):
        return []
    try:
        return cluster.all_policies(kubectl)
    except FailedError:
        return []


def _agreed(chosen: Sequence[Limit]) -> bool:
    """Ask. Raises FailedError where nobody can be asked."""
    if not page.interactive():
        raise FailedError("nobody can be asked here, as stdin is no terminal; look at it with --dry-run, then add -y")
    for line in list_limits.table(chosen[:SHOWN], time.time()):
        page.note(line)
    if len(chosen) > SHOWN:
        page.note(f"… {len(chosen) - SHOWN} more")
    what = chosen[0].name if len(chosen) == 1 else f"{len(chosen)} limits"
    return page.ask(f"Lift {what}? [y/N]").lower() in ("y", "yes")


def _all_chosen(options: argparse.Namespace, kubectl: Kubectl) -> tuple[list[Limit], list[str]]:
    """Return all limits that are meant, each once, and what else is to be known. Raises FailedError."""
    if bool(options.what) == bool(options.selector):
        raise WrongCallError(
            "names, addresses or -l LABELS say what to lift, and not both; kubectl cbl list shows what there is"
        )
    if options.selector:
        found = cluster.all_limits(kubectl, list_limits.selecting(options.selector))
        if not found:
            raise FailedError(f"no limit has the labels {options.selector}; kubectl cbl list shows all of them")
        return found, []
    one_by_one = [_chosen(kubectl, values.bare(what)) for what in dict.fromkeys(options.what)]
    by_name = {limit.name: limit for limit, _ in one_by_one}
    return list(by_name.values()), [warning for _, more in one_by_one for warning in more]


def chosen(found: list[Limit], address: Prefix, now: float) -> tuple[Limit, list[str]]:
    """Return the one limit that names an address and no other, and what else is to be known. Raises FailedError."""
    from bandwidth_cli.objects import overlaps

    text = addresses.write(address)
    named = [limit for limit in found if address in limit.clients]
    around = [limit for limit in overlaps.naming(found, [address]) if limit not in named]
    if not named and not around:
        raise FailedError(f"no limit holds {text}; kubectl cbl list shows all of them")
    if not named:
        which = ", ".join(f"{limit.name} ({limits.show_clients(limit.clients)})" for limit in around[:5])
        raise FailedError(f"{text} is held as a part of something else: {which}; lift that by its name if you mean it")
    if len(named) > 1:
        names = ", ".join(limit.name for limit in named[:5]) + (" …" if len(named) > 5 else "")
        raise FailedError(f"{len(named)} limits name {text}: {names}; say which by its name")
    limit = named[0]
    if len(limit.clients) > 1:
        raise FailedError(
            f"{limit.name} holds more than {text}: {limits.show_clients(limit.clients, 5)}; lift it by its name if you"
            " mean all of them"
        )
    still = [other for other in around if other.in_force(now)]
    names = ", ".join(other.name for other in still[:5])
    return limit, [f"{text} is held by {names} afterwards"] if still else []


def _chosen(kubectl: Kubectl, what: str) -> tuple[Limit, list[str]]:
    try:
        address = values.address(what)
    except ValueError as error:
        if "/" in what or ":" in what:  # no name of an object
            raise FailedError(str(error)) from None
        return _by_name(kubectl, what), []
    found = cluster.all_limits(kubectl)
    same = next((limit for limit in found if limit.name == what), None)
    if same is not None and address not in same.clients:
        raise FailedError(
            f"{what} is the name of a limit that does not hold this address; lift it by"
            f" kubectl delete {limits.FULL_NAME} {what}, or name another one"
        )
    return chosen(found, address, time.time())


def _by_name(kubectl: Kubectl, name: str) -> Limit:
    try:
        values.name(name)
    except ValueError as error:
        raise FailedError(f"{error}; or an address, such as 203.0.113.7") from None
    limit = cluster.one_limit(kubectl, name)
    if limit is not None:
        return limit
    import difflib

    known = [each.name for each in cluster.all_limits(kubectl)]  # says so if the cluster knows no limits at all
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else "kubectl cbl list shows all of them"
    raise FailedError(f"there is no limit {name}; {hint}")


def _kept(limit: Limit) -> list[str]:
    keeper = limits.keeper(limit)
    return [f"{limit.name} is kept by {keeper}, which may make it again; take it out of there"] if keeper else []
