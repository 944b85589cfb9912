"""The manual page of bandwidth-agent, as roff on stdout: the texts of --help, of the command and of each program."""

from __future__ import annotations

import argparse
import os
import sys

os.environ["COLUMNS"] = "80"  # before argparse asks for the width
TITLE = '.TH BANDWIDTH-AGENT 8 "" "client-bandwidth-operator" "System administration"'


def main() -> int:
    """Print the page."""
    from bandwidth_agent import cli

    whole = cli.parser()
    (programs,) = (each for each in whole._actions if isinstance(each, argparse._SubParsersAction))
    page = [TITLE, ".SH NAME", "bandwidth\\-agent \\- slows single clients down instead of blocking them"]
    page += section("DESCRIPTION", whole.format_help())
    for name, program in programs.choices.items():
        page += section(f"PROGRAM {name}", program.format_help())
    page += [".SH SEE ALSO", ".BR tc\\-htb (8),", ".BR ipset (8),", ".BR systemd.unit (5)"]
    sys.stdout.write("\n".join(page) + "\n")
    return 0


def section(title: str, text: str) -> list[str]:
    """One section, its text as it is."""
    lines = (line.replace("\\", "\\e").replace("-", "\\-") for line in text.strip().splitlines())
    shown = (f"\\&{line}" if line.startswith((".", "'")) else line for line in lines)
    return [f'.SH "{title.upper()}"', ".nf", *shown, ".fi"]


if __name__ == "__main__":
    sys.exit(main())
