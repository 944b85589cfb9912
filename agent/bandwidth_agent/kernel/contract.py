"""The interface between decisions and the kernel, which the real kernel and the fake both implement."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from bandwidth_agent.kernel import model, objects, traffic
from bandwidth_api.plan import Prefix

Stretches = Mapping[str, traffic.Stretch]  # by interface


class Sampler(Protocol):
    """Samples what leaves by some interfaces, by bytes: who gets how much. May be used by another thread."""

    def drain(self) -> None:
        """Take the samples out of the kernel into memory; waits for nothing.

        Called about five times a second, no sample is lost and the period follows the traffic.
        """

    def take(self) -> Stretches:
        """Drain, and return by interface what was sampled since the last call; waits for nothing.

        An interface that is gone is left out, and one of the same name that comes back is followed again. So is one
        whose packets also leave by another of these interfaces (a VLAN device beside the device below it, a member of
        a bridge or bond beside the whole): each packet is in one stretch. Nothing after `close`.
        """

    def pause(self) -> Stretches:
        """As `take`, and see nothing from then on: packets pass as if nobody looked. The next `take` looks again."""

    def close(self) -> None:
        """Close the sockets; nothing is left in the kernel. Idempotent."""


class Capture(Protocol):
    """Every packet that leaves by some interfaces, as headers, from the opening to the closing."""

    @property
    def lost(self) -> int:
        """Packets that found no room, as of the last `take`."""

    def take(self) -> Sequence[traffic.Packet]:
        """Return the packets since the last call; waits for nothing. Of each interface in the order they left."""

    def close(self) -> None:
        """Close the sockets; nothing is left in the kernel. Idempotent."""


class Kernel(Protocol):
    """One network namespace's tc, ipset and iptables. Not thread-safe: one kernel object per thread."""

    def facts(self) -> model.Facts:
        """Read what is not ours. Changes nothing."""

    def observe(self, *, rules: bool = True) -> model.State:
        """Read everything of ours. Raises OSError if any part of the reading is incomplete.

        Without `rules` our chains are left out: reading them is what takes CAP_NET_RAW.
        """

    def apply_one(self, step: objects.Change) -> objects.Outcome:
        """Apply one change. Idempotent: putting what exists already and deleting what does not are no failures.

        A refusal by the kernel is an Outcome with a failure, never an exception.
        """

    def counters(self, *, rules: bool = True) -> model.Counters:
        """Read the counters of everything of ours; without `rules` as `observe`."""

    def hook_counters(self, interfaces: Collection[str]) -> model.HookReading:
        """Read the counters that show whether marked packets come to our hooks on these interfaces; cheap."""

    def queues(self, devices: Collection[str], interfaces: Collection[str]) -> model.QueueReading:
        """Read what came out of the classes of these devices of ours, and what waits before these interfaces.

        What is gone is left out.
        """

    def uplink_counters(self, interfaces: Collection[str]) -> Mapping[str, model.Uplink]:
        """Read what these interfaces have sent, and how fast they are; what is gone is left out."""

    def ways(self, networks: Collection[Prefix]) -> model.Ways:
        """Ask by which interfaces packets to these networks leave. Raises OSError when that cannot be asked."""

    def peers(self) -> Mapping[Prefix, str]:
        """Return the hosts that this node hands packets of others to, and why: next hops, far ends of tunnels.

        Those of default routes are not among them. For those who look: it reads all routes.
        """

    def routes_changed(self) -> bool:
        """Return whether any result of `ways` may have changed; cheap enough for every second."""

    def entry_counts(self) -> Mapping[str, int]:
        """Return the number of entries of each of our sets, without reading them; cheap enough for every second."""

    def sampler(self, interfaces: Collection[str]) -> Sampler:
        """Open a sampler on these interfaces; those that are not there are followed once they are.

        Any thread of the kernel's network namespace may call it. Raises OSError: EPERM without CAP_NET_RAW.
        """

    def capture(self, interfaces: Collection[str], most: int) -> Capture:
        """Open a capture of at most so many packets of all these interfaces together; what is too much is lost.

        Any thread of the kernel's network namespace may call it. Raises OSError: EPERM without CAP_NET_RAW.
        """

    def close(self) -> None:
        """Close the sockets. The kernel state stays as it is."""
