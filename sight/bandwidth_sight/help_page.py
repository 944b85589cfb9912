"""The text of the key `?`."""

from __future__ import annotations

_TEXT = """\
Who gets how much of what leaves, estimated from samples of packets.

  ↑ ↓ j k             one row up, down           PgUp PgDn   a page
  Home End g G        the first, the last row    q           quit
  s S                 sort by the next, the previous of: 10s, 60s, since, 2s
  p                   clients; networks of /24 and /64; networks that limits name
  /                   show only rows that have this text; Esc shows all again
  f or blank          freeze what is shown; again: go on
  l                   slow down the client under the cursor: rate, duration, reason
  o                   the same in Observe mode: counts what would be slowed
  y                   only write the YAML of a limit into a file
  n                   ask for the name of the address, once; never by itself

Nothing is made before it was shown and you have answered y.

  2s 10s 60s   the average rate over so many seconds, in bits per second
  SINCE        bytes since this screen was opened
  SHARE        of all that left in the last 10 s
  ±            the relative standard error of the 10s column
  PORTS        of the service, as the client dialled them; the largest first
  LIMIT        the limit that holds the client, its rate, the ports if it is for some alone,
               which step it is if a policy made it, and whether it is slowed now

Clients with fewer than 4 samples are in the last line only. "not seen" is what the
device sent and no sample stands for; "lost" counts samples that found no room.
"""

LINES = tuple(_TEXT.splitlines())
