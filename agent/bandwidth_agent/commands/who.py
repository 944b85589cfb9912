"""`who`: prints which limit holds an address, from the kernel alone, and what was seen to leave for it meanwhile."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
import time
from collections.abc import Collection, Iterator

from bandwidth_agent.commands.options import Options
from bandwidth_agent.commands.wiring import host, output, parts
from bandwidth_agent.kernel import refusals
from bandwidth_agent.limits import failsafe
from bandwidth_agent.policies import kept_makers
from bandwidth_agent.reporting import who, who_json, who_page
from bandwidth_agent.sight import one_address

NO_LIMIT, NOT_HELD, UNKNOWN = 3, 4, 5  # exit codes
_ADMIN, _RAW = "CAP_NET_ADMIN", "CAP_NET_RAW"
_CODES = {
    who.Verdict.UNKNOWN: UNKNOWN,
    who.Verdict.BYPASSED: NOT_HELD,
    who.Verdict.NOT_IN_FORCE: NOT_HELD,
    who.Verdict.NO_LIMIT: NO_LIMIT,
}


def main(options: Options) -> int:
    if options.address is None:
        raise ValueError("no address to ask about")
    lacking = host.lacking()
    kernel = parts.kernel(options)
    reader = one_address.Reader(
        kernel,
        options.settings,
        monotonic=time.monotonic,
        pass_time=threading.Event().wait,
        may_administer=_ADMIN not in lacking,
        may_read_rules=_RAW not in lacking and not host.absent(),
        may_capture=_RAW not in lacking,
    )
    try:
        read = reader.read(options.address, options.port, options.seconds)
    except OSError as error:
        return host.fail(f"the kernel could not be read: {refusals.words(error)}")
    finally:
        kernel.close()
    spared = failsafe.Failsafe()() if options.settings.failsafe else {}
    protected = who.protection(dataclasses.replace(read.facts, spared=spared), options.settings.protected)
    missing, made_by = (*_missing(lacking), *reader.missing), kept_makers.read(options.state_dir)
    found = who.answer(options.address, options.port, read, protected, missing, made_by)
    output.write(_text(found, options))
    return _CODES.get(found.verdict, 0)


def _missing(lacking: Collection[str]) -> Iterator[str]:
    """What this process cannot find out, and what helps: a line for each reason."""
    if _ADMIN in lacking:
        yield f"{_ADMIN}, so sets and classes cannot be read, and which limit holds it is not known; {host.remedy()}"
    elif host.absent():
        yield host.absent()
    if _RAW in lacking:
        rules = "" if _ADMIN in lacking else ", nor for which ports a limit is"
        yield f"{_RAW}, so what leaves for it cannot be seen{rules}; {host.remedy()}"


def _text(found: who.Answer, options: Options) -> str:
    if options.json:
        return json.dumps(who_json.as_json(found), indent=2) + "\n"
    colors = sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and "NO_COLOR" not in os.environ
    return who_page.page(found, time.time(), colors=colors)
