"""A namespace under test: what the system's own tools see of it, and a driver that insists."""

from __future__ import annotations

import re

from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.linux.rtnl import tc
from bandwidth_lab import namespaces


class Tools:
    """What the system's own tools print of a namespace."""

    def __init__(self, node: namespaces.Namespace) -> None:
        self._node = node

    def see(self) -> str:
        """All links, qdiscs, classes and filters, without counters."""
        links = self._node.run(["ip", "-d", "link", "show"]).stdout
        commands = [["tc", "qdisc", "show"]]
        for device in re.findall(r"^\d+: ([^:@]+)", links, re.MULTILINE):
            commands.append(["tc", "class", "show", "dev", device])
            commands.append(["tc", "filter", "show", "dev", device])
            commands += [["tc", "filter", "show", "dev", device, hook] for hook in ("ingress", "egress")]
        seen = links + "".join(self._node.run(command, check=False).stdout for command in commands)
        return re.sub(r"direct_packets_stat \d+", "", seen)


class Driver:
    """Applies changes and insists that they succeed, twice: putting what is there is no failure."""

    def __init__(self, kernel: tc.TrafficControl) -> None:
        self._kernel = kernel

    def apply(self, *steps: tc.Change) -> None:
        for step in steps * 2:
            outcome = self._kernel.apply_one(step)
            assert outcome == objects.Outcome(step), outcome

    def refusal(self, step: tc.Change) -> objects.Failure:
        """The failure of a change that must fail as a whole."""
        outcome = self._kernel.apply_one(step)
        assert outcome.failure is not None
        return outcome.failure

    def classes(self, device: str) -> dict[int, objects.HtbClass]:
        return dict(self._kernel.observe().trees[device].classes)
