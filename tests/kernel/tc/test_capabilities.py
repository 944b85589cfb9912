"""Everything works with exactly CAP_NET_ADMIN and CAP_NET_RAW, and fails as a value without them."""

from __future__ import annotations

import sys

import pytest

from bandwidth_lab import namespaces

pytestmark = pytest.mark.root

PROGRAM = """
from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.linux.rtnl import events, tc
from kernel.tc import shapes
kernel = tc.TrafficControl()
subscription = events.Events(ignore=kernel.port_ids)
errors = set()
for step in (
    objects.PutIfb(0),
    *shapes.tree_on("cbl0", shapes.EVERY),
    objects.PutFilter("cbl0", shapes.FILTER),
    objects.PutHook("eth0", shapes.hook(0), None),
):
    outcome = kernel.apply_one(step)
    failures = [outcome.failure, *outcome.failed_classes.values()]
    errors |= {failure.errno for failure in failures if failure is not None}
state = kernel.observe()
kernel.counters(), kernel.surroundings(), kernel.features(), subscription.drain()
print(sorted(errors), len(state.trees), len(state.hooks))
"""


@pytest.mark.parametrize(
    ("capabilities", "expected"), [("-all,+net_admin,+net_raw", "[] 1 1"), ("-all,+net_raw", "[1, 19] 0 0")]
)
def test_two_capabilities_are_enough_and_none_is_too_few(
    node: namespaces.Namespace, capabilities: str, expected: str
) -> None:
    """All changes and readings succeed with the two; without NET_ADMIN each change fails with its errno."""
    command = ["setpriv", "--bounding-set", capabilities, "--inh-caps", capabilities, "--no-new-privs"]
    path = "import sys; sys.path[:0] = " + repr(sys.path)
    done = node.run([*command, sys.executable, "-c", f"{path}\n{PROGRAM}"])
    assert done.stdout.strip() == expected
