"""`python -m bandwidth_lab.demo`: runs the demonstration, prints its table, saves its picture.

Exit code 0: every ratio is as it should be; 1: one is not, or something failed; 130: stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import signal
import sys
from types import FrameType

from bandwidth_lab.demo import picture, recording, story
from bandwidth_lab.demo.screen import Screen
from bandwidth_lab.namespaces import CommandError

EXAMPLES = pathlib.Path(__file__).resolve().parents[3] / "examples"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--plot", type=pathlib.Path, metavar="FILE.svg", help="where to save the picture")
    parser.add_argument("--examples", type=pathlib.Path, default=EXAMPLES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plot is not None and arguments.plot.suffix != ".svg":
        parser.error("the picture is an SVG: give it a name that ends in .svg")
    if os.geteuid() != 0:
        parser.error("root is needed to make network namespaces: sudo make demo")

    signal.signal(signal.SIGTERM, _interrupted)
    screen = Screen(story.UPLINK_BITS_PER_SECOND)
    try:
        recorded = story.Demonstration(arguments.examples, screen).run()
    except KeyboardInterrupt:
        screen.say("stopped; everything is taken away", "")
        return 130
    except (story.AgentError, CommandError) as error:
        print(error, file=sys.stderr)
        return 1
    screen.table(recorded)
    for remark in recorded.remarks:
        screen.say(remark, "")
    if arguments.plot is not None:
        arguments.plot.parent.mkdir(parents=True, exist_ok=True)
        arguments.plot.write_text(picture.draw(recorded))
        screen.say(f"rates over time: {arguments.plot}", "")
    if not recorded.good:
        low, high = recording.RATIO_MIN, recording.RATIO_MAX
        print(
            f"A limited client must have {low}–{high} of its limit, a quiet one {recording.QUIET_MIN}", file=sys.stderr
        )
        return 1
    return 0


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


sys.exit(main())
