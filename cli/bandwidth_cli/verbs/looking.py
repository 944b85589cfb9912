"""Has the nodes look at one client for some seconds, and returns how fast it is on each of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from bandwidth_api.crds import asked
from bandwidth_api.crds.client_traffic import Traffic
from bandwidth_api.crds.traffic_answer import Answer
from bandwidth_api.plan import Prefix
from bandwidth_cli import cluster
from bandwidth_cli.kubectl import paths
from bandwidth_cli.kubectl.failures import KubectlError
from bandwidth_cli.kubectl.program import Kubectl
from bandwidth_cli.objects import rates, traffic
from bandwidth_cli.objects.rates import Now
from bandwidth_cli.outcome import FailedError
from bandwidth_cli.question import Question

PATIENCE_SECONDS = 8.0
NAMED_SECONDS = 6.0  # for nodes that look already to report of this client too
AGAIN_SECONDS = 1.0
LEAST_SECONDS = 2  # that the nodes must have looked


def rates_now(kubectl: Kubectl, client: Prefix, nodes: Sequence[str]) -> tuple[Mapping[str, Now], list[str]]:
    """Return what a client gets from each node now, and in words why that is not known, or not everywhere."""
    spec = traffic.spec(top=asked.TOP_MAX, clients=[client])
    try:
        question = Question(kubectl, spec, cluster.who_am_i(kubectl))
    except FailedError as error:
        return {}, [f"how fast it is now is not known: {error}"]
    try:
        answer = _settled(question)
        if answer is None:
            return {}, [
                f"how fast it is now is not known: no node answered within {PATIENCE_SECONDS:g} s: kubectl cbl status"
            ]
        reports = _reports(kubectl, client, named=question.names_clients)
    except FailedError as error:
        return {}, [f"how fast it is now is not known: {error}"]
    except KubectlError as error:
        return {}, [f"how fast it is on each node is not known: {error.text}"]
    finally:
        question.close()
    found = rates.by_node(reports, client)
    notes = traffic.told(answer)
    missing = [name for name in nodes if name not in found]
    if missing and not notes:
        notes.append(f"no rate from {', '.join(missing[:5])}" + (" …" if len(missing) > 5 else ""))
    return found, notes


def _reports(kubectl: Kubectl, client: Prefix, *, named: bool) -> list[Traffic]:
    """Return what the nodes report; `named`: of this client by itself, as far as they can. Raises KubectlError."""
    ends = time.monotonic() + NAMED_SECONDS
    while True:
        reports = rates.read(kubectl.listed(paths.TRAFFIC))
        if not named or all(rates.is_settled(report, client) for report in reports) or time.monotonic() >= ends:
            return reports
        time.sleep(AGAIN_SECONDS)


def _settled(question: Question) -> Answer | None:
    """Return the first answer in which all nodes have looked long enough, or the best there is in time."""
    ends = time.monotonic() + PATIENCE_SECONDS
    best: Answer | None = None
    while (left := ends - time.monotonic()) > 0:
        answer = question.wait(left)
        if answer is None:
            break
        if answer.status == "False":
            raise FailedError(answer.message or answer.reason)
        if answer.answered:
            best = answer
        if answer.answered and answer.answered >= answer.asked and answer.seconds >= LEAST_SECONDS:
            break
    return best
