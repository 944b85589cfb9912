"""Prints what this machine lacks for a kind cluster: `python -m bandwidth_lab.kind`. Makes nothing."""

from __future__ import annotations

import sys

from bandwidth_lab.kind import shell


def main() -> int:
    """0 when nothing is missing, else 1 and the list on stderr."""
    try:
        shell.check_machine()
    except shell.NotUsableError as missing:
        sys.stderr.write(f"a kind cluster cannot be made here:\n{missing}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
