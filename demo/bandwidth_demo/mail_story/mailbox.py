"""Makes mailboxes, then becomes Dovecot. Runs in the mail server's container; uses the standard library alone.

Usage: mailbox.py USER=MAILS ...   Each mail is a megabyte, most of it an attachment in base64.
"""

from __future__ import annotations

import base64
import os
import pathlib
import pwd
import sys

ROOT = pathlib.Path("/mail")
MAIL_BYTES = 1_000_000
LINE_BYTES = 76


def mail(user: str, number: int) -> bytes:
    """Return one mail as a file of a maildir; each has an attachment of its own."""
    head = (
        f"From: Archive <archive@example.org>\nTo: {user}@example.org\nSubject: Scan {number}\n"
        f"Message-ID: <{user}.{number}@example.org>\nDate: Mon, 02 Nov 2026 08:00:00 +0000\nMIME-Version: 1.0\n"
        f'Content-Type: application/pdf; name="scan-{number}.pdf"\nContent-Transfer-Encoding: base64\n\n'
    ).encode()
    # On the way each line gets one more byte: IMAP ends lines with CR LF.
    lines = (MAIL_BYTES - len(head) - head.count(b"\n")) // (LINE_BYTES + 2)
    attachment = os.urandom(lines * LINE_BYTES // 4 * 3)
    encoded = base64.b64encode(attachment).decode()
    return head + "".join(f"{encoded[at : at + LINE_BYTES]}\n" for at in range(0, len(encoded), LINE_BYTES)).encode()


def fill(root: pathlib.Path, user: str, mails: int) -> None:
    """Make a maildir with so many mails, all seen; with the size in a file's name Dovecot need not read it."""
    box = root / user
    for part in ("cur", "new", "tmp"):
        (box / part).mkdir(parents=True, exist_ok=True)
    for number in range(1, mails + 1):
        content = mail(user, number)
        (box / "cur" / f"1793606400.M{number}.story,S={len(content)}:2,S").write_bytes(content)


def main() -> None:
    owner = pwd.getpwnam("mail")
    for argument in sys.argv[1:]:
        user, _, mails = argument.partition("=")
        fill(ROOT, user, int(mails))
    for path in (ROOT, *ROOT.rglob("*")):
        os.chown(path, owner.pw_uid, owner.pw_gid)
    print("the mailboxes are full", flush=True)
    os.execvp("dovecot", ["dovecot", "-F"])  # noqa: S606


if __name__ == "__main__":
    main()
