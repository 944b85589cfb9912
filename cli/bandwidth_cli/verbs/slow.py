"""`slow`: shows what a limit would be and meet, asks, makes it, and waits until it is in force."""

from __future__ import annotations

import argparse
import time

from bandwidth_api.plan import Mode
from bandwidth_cli import cluster, outcome
from bandwidth_cli.command_line import values
from bandwidth_cli.kubectl.program import Kubectl
from bandwidth_cli.objects import limits
from bandwidth_cli.objects.limits import Limit
from bandwidth_cli.objects.manifest import Wanted
from bandwidth_cli.outcome import FailedError
from bandwidth_cli.text import page, yaml_text
from bandwidth_cli.verbs import progress, proposing
from bandwidth_cli.verbs.proposing import Proposal


def run(options: argparse.Namespace, kubectl: Kubectl) -> int:
    """Make a limit; return the exit code."""
    wanted = _wanted(options)
    proposal = proposing.propose(kubectl, wanted, replace=options.replace, now=time.time())
    _preview(proposal, options)
    if options.dry_run:
        return outcome.DONE
    if not options.yes:
        if not page.interactive():
            raise FailedError(
                "nobody can be asked here, as stdin is no terminal; look at it with --dry-run, then add -y"
            )
        if not _is_yes(page.ask(f"{proposing.question(proposal)} [y/N]")):
            page.note("nothing was made")
            return outcome.FAILED
    made = proposing.make(kubectl, proposal)
    if options.output == "text":
        page.show([f"{limits.FULL_NAME}/{made.name} {'changed' if proposal.before else 'created'}"])
    code = outcome.DONE if options.wait <= 0 else _follow(options, kubectl, made)
    if options.output == "name":
        page.show([f"{limits.FULL_NAME}/{made.name}"])
    elif options.output != "text":
        page.show_object(limits.shown(cluster.one_limit(kubectl, made.name) or made), options.output)
    return code


def _wanted(options: argparse.Namespace) -> Wanted:
    """Return what is wanted, after asking for what is missing where somebody can be asked. Raises FailedError."""
    rate, reason = options.rate, options.reason
    if rate is None:
        rate = _asked("--rate", "Rate, such as 5Mbit?", values.rate)
    if reason is None:
        reason = _asked("--reason", "Why, for the next person who finds it?", values.reason)
    clients = tuple(dict.fromkeys(options.clients))
    if len(clients) > values.CLIENTS_MAX:
        raise FailedError(f"{len(clients)} addresses are more than one limit has; write at most {values.CLIENTS_MAX}")
    return Wanted(
        clients=clients,
        rate_bits_per_second=rate,
        lasts_seconds=options.lasts,
        reason=reason,
        mode=Mode.OBSERVE if options.observe else Mode.ENFORCE,
        ports=options.ports,
        priority=options.priority,
        split=options.split,
        name=options.name or "",
    )


def _asked(option: str, prompt: str, read: values.Reader) -> object:
    if not page.interactive():
        raise outcome.WrongCallError(f"{option} is required; kubectl cbl slow --help has examples")
    while True:
        answer = page.ask(prompt)
        if not answer:
            raise FailedError(f"{option} was not given; nothing was made")
        try:
            return read(answer)
        except ValueError as error:
            page.note(str(error))


def _preview(proposal: Proposal, options: argparse.Namespace) -> None:
    for warning in proposal.warnings:
        page.note(f"warning: {warning}")
    if options.dry_run:
        if options.output == "name":
            page.show([f"{limits.FULL_NAME}/{proposal.name}"])
        else:
            page.show_object(proposal.body, "json" if options.output == "json" else "yaml")
        for effect in [*proposal.effects, "the API server would take it; nothing was made (--dry-run)"]:
            page.note(effect)
    elif options.output == "text" and not options.yes:
        for line in [*yaml_text.lines(proposal.body), *proposal.effects]:
            page.note(line)
    elif options.output == "text":
        for effect in proposal.effects:
            page.note(effect)


def _follow(options: argparse.Namespace, kubectl: Kubectl, made: Limit) -> int:
    say = (lambda line: page.show([line])) if options.output == "text" else page.note
    return progress.follow(kubectl, made, seconds=options.wait, say=say, began=time.monotonic())


def _is_yes(answer: str) -> bool:
    return answer.lower() in ("y", "yes")
