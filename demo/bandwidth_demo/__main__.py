"""`python -m bandwidth_demo`: runs the demonstration, prints its table, saves its picture.

Exit code 0: every ratio is as expected; 1: one is not, or something failed; 130: stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import signal
import sys
from types import FrameType

from bandwidth_demo import culprit, picture, recording, screen_picture, site, story, unattended
from bandwidth_demo.agent import AgentError
from bandwidth_demo.screen import Screen
from bandwidth_demo.terminal import TerminalError
from bandwidth_lab.namespaces import CommandError


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--plot", type=pathlib.Path, metavar="FILE.svg", help="where to save the picture")
    parser.add_argument(
        "--screens", type=pathlib.Path, metavar="FOLDER", help="where to save pictures of what `top` showed"
    )
    parser.add_argument(
        "--policy", action="store_true", help="nobody at the keyboard: a policy slows the greedy client, and lifts it"
    )
    arguments = parser.parse_args()
    if arguments.plot is not None and arguments.plot.suffix != ".svg":
        parser.error("the picture is an SVG: give it a name that ends in .svg")
    if os.geteuid() != 0:
        parser.error("root is needed to make network namespaces: sudo make demo")

    # As what is started in the background by a shell without job control it would begin with SIGINT ignored.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupted)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # which is what `nohup` is for
        signal.signal(signal.SIGHUP, _interrupted)
    screen = Screen(site.UPLINK_BITS_PER_SECOND)
    try:
        recorded = story.Demonstration(screen, unattended.play if arguments.policy else story.by_hand).run()
    except KeyboardInterrupt:
        screen.line("stopped; everything is taken away", "")
        return 130
    except (AgentError, TerminalError, CommandError) as error:
        print(error, file=sys.stderr)
        return 1
    screen.table(recorded)
    for remark in recorded.remarks:
        screen.line(remark, "")
    if arguments.plot is not None:
        arguments.plot.parent.mkdir(parents=True, exist_ok=True)
        arguments.plot.write_text(picture.draw(recorded))
        screen.line(f"rates over time: {arguments.plot}", "")
    if arguments.screens is not None:
        arguments.screens.mkdir(parents=True, exist_ok=True)
        for name, lines in recorded.screens.items():
            drawn = screen_picture.draw(lines, "bandwidth-agent top", culprit.COLUMNS)
            (arguments.screens / f"{name}.svg").write_text(drawn)
    if not recorded.good:
        print(
            f"A limited client must have {recording.RATIO_MIN}–{recording.RATIO_MAX} of its limit, a quiet one "
            f"{recording.QUIET_MIN} of what it asks for, and beside a greedy one no more than {recording.SUFFERS_MAX}",
            file=sys.stderr,
        )
        return 1
    return 0


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


sys.exit(main())
