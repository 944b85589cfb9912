"""The mail clients of the story and the meter at their interface; prints one JSON line for each measurement.

Runs in a client's network namespace; uses the standard library alone. Times are of the machine's monotonic clock, which
all containers of a machine share.

    greedy   several connections that fetch a mailbox to its end, again and again, until the standard input ends
    quiet    opens a mailbox, reads some mails, closes it, waits a little: how long each reading took
    meter    what the interface has received so far
"""

from __future__ import annotations

import argparse
import imaplib
import json
import os
import pathlib
import sys
import threading
import time
from collections.abc import Sequence

PASSWORD = "story"  # noqa: S105 - as image/dovecot.conf says; it protects nothing
TIMEOUT_SECONDS = 60.0
METER_SECONDS = 0.1
READING_SECONDS = 0.01  # in which a reading is one moment; a busy machine may make more of it, then it is made again
READINGS = 5
AGAIN_SECONDS = 1.0  # after a connection was refused or lost
CHUNK = 10  # mails in one command of the greedy client

_printing = threading.Lock()


def report(**what: object) -> None:
    """Print one line, whole even with several threads."""
    with _printing:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()


def opened(server: str, port: int, user: str) -> tuple[imaplib.IMAP4, int]:
    """Return a connection with the user's mailbox open for reading, and the number of mails in it."""
    connection = imaplib.IMAP4(server, port, timeout=TIMEOUT_SECONDS)
    connection.login(user, PASSWORD)
    kind, answer = connection.select("INBOX", readonly=True)
    if kind != "OK" or answer[0] is None:
        raise imaplib.IMAP4.error(f"the mailbox cannot be opened: {answer}")
    return connection, int(answer[0])


def fetched(connection: imaplib.IMAP4, first: int, last: int) -> int:
    """Fetch these mails whole; return their size in bytes."""
    kind, answer = connection.fetch(f"{first}:{last}", "(BODY.PEEK[])")
    if kind != "OK":
        raise imaplib.IMAP4.error(f"the mails cannot be fetched: {answer}")
    return sum(len(part[1]) for part in answer if isinstance(part, tuple))


def shares(mails: int, connections: int, number: int) -> list[tuple[int, int]]:
    """Return the (first, last) mails of each command of one connection; together they fetch each once."""
    firsts = range(1 + CHUNK * number, mails + 1, CHUNK * connections)
    return [(first, min(first + CHUNK - 1, mails)) for first in firsts]


def loop(server: str, port: int, user: str, connections: int, number: int) -> None:
    """Fetch one connection's part of the mailbox for ever; open a lost connection again."""
    while True:
        try:
            connection, mails = opened(server, port, user)
            with connection:
                while True:
                    for first, last in shares(mails, connections, number):
                        fetched(connection, first, last)
                    report(at=time.monotonic(), connection=number, looped=True)
        except (OSError, imaplib.IMAP4.error) as error:
            report(at=time.monotonic(), connection=number, failure=str(error))
            time.sleep(AGAIN_SECONDS)


def greedy(arguments: argparse.Namespace) -> None:
    """Fetch the whole mailbox in a loop over several connections, as some mail programs do."""
    where = (arguments.server, arguments.port, arguments.user, arguments.connections)
    threads = [threading.Thread(target=loop, args=(*where, number)) for number in range(arguments.connections)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    os._exit(0)  # no thread is asked: a mail program that is closed


def quiet(arguments: argparse.Namespace) -> None:
    """Read some mails as a person does, and report how long it took each time."""
    while True:
        began, received = time.monotonic(), 0
        try:
            connection, _ = opened(arguments.server, arguments.port, arguments.user)
            with connection:
                received = fetched(connection, 1, arguments.mails)
            report(began=began, ended=time.monotonic(), bytes=received)
        except (OSError, imaplib.IMAP4.error) as error:
            report(began=began, ended=time.monotonic(), failure=str(error))
        time.sleep(arguments.pause)


def meter(arguments: argparse.Namespace) -> None:
    """Report the receive counters of the interface, ten times a second."""
    counters = pathlib.Path("/proc/self/net/dev")
    due = time.monotonic()
    while True:
        for _ in range(READINGS):
            at = time.monotonic()
            text = counters.read_text()
            if time.monotonic() - at < READING_SECONDS:
                break
        bytes_, packets = received(text, arguments.interface)
        report(at=at, bytes=bytes_, packets=packets)
        due += METER_SECONDS
        time.sleep(max(0.0, due - time.monotonic()))


def received(text: str, interface: str) -> tuple[int, int]:
    """Return the bytes and packets that an interface has received, from the text of /proc/net/dev."""
    for line in text.splitlines():
        name, colon, fields = line.partition(":")
        if colon and name.strip() == interface:
            words = fields.split()
            return int(words[0]), int(words[1])
    raise LookupError(interface)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    for name, run in (("greedy", greedy), ("quiet", quiet)):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("--server", required=True)
        command.add_argument("--port", type=int, required=True)
        command.add_argument("--user", required=True)
        if run is greedy:
            command.add_argument("--connections", type=int, required=True)
        else:
            command.add_argument("--mails", type=int, required=True)
            command.add_argument("--pause", type=float, required=True)
    command = commands.add_parser("meter")
    command.set_defaults(run=meter)
    command.add_argument("--interface", required=True)
    arguments = parser.parse_args(words)
    arguments.run(arguments)


if __name__ == "__main__":
    main()
