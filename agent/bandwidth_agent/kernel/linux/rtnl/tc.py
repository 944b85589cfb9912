"""Devices and traffic control of one network namespace: everything of ours behind rtnetlink.

Composes links, roots, classes, filters and hooks over one request socket; decides nothing.
"""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Collection, Mapping
from typing import assert_never

from bandwidth_agent.kernel import model, netlink, objects, refusals
from bandwidth_agent.kernel.linux.rtnl import (
    classes,
    features,
    filters,
    hook_counters,
    hooks,
    interfaces,
    links,
    pairs,
    queue_counters,
    roots,
    tcmsg,
    trees,
    uplink_speed,
)
from bandwidth_agent.kernel.linux.rtnl.routing import peers, routes
from bandwidth_api.plan import Prefix


@dataclasses.dataclass(frozen=True, slots=True)
class Surroundings:
    """What of the network namespace is not ours; fields as in `model.Facts`."""

    interfaces: Mapping[str, model.Interface]
    addresses: frozenset[Prefix]
    gateways: frozenset[Prefix]
    taken_ifb_names: frozenset[str]
    unclear_routes: bool


class TrafficControl:
    """Devices and traffic control of the network namespace in which it is made, also if another thread uses it.

    Not thread-safe.
    """

    def __init__(self, way_back: pairs.WayBack | None = None) -> None:
        """`way_back`: the program for the other end of pairs; None where none are made."""
        self._way_back = way_back
        self._channel = netlink.Socket()
        self._devices = links.Devices()
        self._known = features.Known()

    @property
    def port_ids(self) -> tuple[int, ...]:
        """The netlink ports that our changes come from."""
        return self._channel.port_id, self._devices.port_id

    def close(self) -> None:
        self._channel.close()
        self._devices.close()

    # ── reading ────────────────────────────────────────────────────────────────────────────────────────────────

    def features(self) -> Mapping[str, features.Answer]:
        """Whether the kernel has ifb, clsact with mirred, skbedit and the kinds of leaves, by name."""
        return self._known.answers(self._channel)

    def surroundings(self, own_programs: Collection[int] = ()) -> Surroundings:
        """Read what is not ours. `own_programs`: the ids of eBPF programs that are."""
        present = links.dump(self._channel)
        ours = {link.ifindex for link in present if link.ours}
        hops = list(routes.default_next_hops(self._channel))
        return Surroundings(
            interfaces=interfaces.observe(
                self._channel, present, {hop.ifindex for hop in hops if hop.ifindex is not None}, own_programs
            ),
            addresses=frozenset(address for ifindex, address in routes.addresses(self._channel) if ifindex not in ours),
            gateways=frozenset(hop.gateway for hop in hops if hop.gateway is not None),
            taken_ifb_names=frozenset(
                link.name for link in present if link.shard is None and links.shard_of_name(link.name) is not None
            ),
            unclear_routes=any(hop.ifindex is None for hop in hops),
        )

    def peers(self) -> Mapping[Prefix, str]:
        """As `contract.Kernel.peers`."""
        return peers.read(self._channel, {link.ifindex: link.name for link in links.dump(self._channel)})

    def observe(self) -> model.State:
        """Read devices, trees and hooks; sets and chains are not among them."""
        channel = self._channel
        present = links.dump(channel)
        qdiscs = tcmsg.qdiscs(channel)
        name_of = {link.ifindex: link.name for link in present}
        shard_of = {link.ifindex: link.shard for link in present if link.shard is not None}
        hooked = {qdisc.ifindex for qdisc in qdiscs if qdisc.parent == tcmsg.CLSACT and qdisc.kind == "clsact"}
        found = {
            name_of[ifindex]: hooks.observe(hooks.read(channel, ifindex), shard_of)
            for ifindex in hooked & name_of.keys()
        }
        return dataclasses.replace(
            model.EMPTY,
            ifbs=links.observe(present),
            pairs=pairs.observe(channel, present, self._way_back.name if self._way_back else ""),
            trees=trees.observe(channel, qdiscs, name_of),
            hooks={name: hook for name, hook in found.items() if hook is not None},
        )

    def counters(self) -> tuple[dict[str, dict[int, model.ClassCounters]], dict[str, int]]:
        """Counters by device and class, and direct packets by device."""
        return trees.counters(self._channel, {link.ifindex: link.name for link in links.dump(self._channel)})

    def hook_counters(self, interfaces: Collection[str]) -> dict[str, model.HookCounters]:
        """What the hooks on these interfaces have counted."""
        return hook_counters.read(self._channel, interfaces)

    def queues(self, devices: Collection[str], interfaces: Collection[str]) -> model.QueueReading:
        """What came out of the classes of these devices, and what waits before these interfaces."""
        return queue_counters.read(self._channel, devices, interfaces)

    def uplink_counters(self, interfaces: Collection[str]) -> Mapping[str, model.Uplink]:
        """What these interfaces have sent, and how fast they are."""
        present = {link.ifindex: link for link in links.dump(self._channel)}
        speeds = uplink_speed.of_wires(interfaces, present)
        sent = queue_counters.sent_bytes(self._channel, interfaces)
        return {name: model.Uplink(count, speeds.get(name)) for name, (_, count) in sent.items()}

    # ── writing ────────────────────────────────────────────────────────────────────────────────────────────────

    @refusals.as_outcome
    def apply_one(self, step: objects.QueueChange) -> objects.Outcome:
        """Apply one change; what the kernel refuses is in the outcome."""
        refused = self._apply(step)
        return objects.Outcome(step, failed_classes={n: objects.Failure(*refusal) for n, refusal in refused.items()})

    def _apply(self, step: objects.QueueChange) -> Mapping[int, netlink.Refusal]:
        """Returns the refused classes; raises OSError where the change as a whole was refused."""
        channel, device = self._channel, step.touches.name
        link = links.find(channel, device)
        if isinstance(step, objects.PutIfb):
            self._devices.put_ifb(link, step.shard)
            return {}
        if isinstance(step, objects.PutPair):
            if self._way_back is None:
                raise OSError(errno.EOPNOTSUPP, "there is no program that could send packets back")
            pairs.put(channel, step.shard, self._way_back)
            return {}
        if link is None:
            if step.removes:
                return {}  # what is on a device that is gone is gone
            raise OSError(errno.ENODEV, f"{device} is not there")
        match step:
            case objects.PutRoot(default_minor=default):
                roots.put(channel, link.ifindex, link.queue_length, default, own_device=link.ours)
            case objects.PutClasses(classes=wanted, observed=observed):
                return classes.put(channel, link.ifindex, wanted, observed)
            case objects.PutFilter(filter=wanted):
                filters.put_mark_filter(channel, link.ifindex, wanted)
            case objects.PutHook(hook=wanted):
                index_of = {each.shard: each.ifindex for each in links.dump(channel) if each.shard is not None}
                hooks.put(channel, link.ifindex, wanted, interfaces.hook_kind(channel, link.ifindex), index_of)
            case objects.TrimHook(shards=shards):
                hooks.trim(channel, link.ifindex, shards)
            case objects.DeleteHook():
                hooks.delete(channel, link.ifindex)
            case objects.DeleteFilter():
                filters.delete_mark_filter(channel, link.ifindex)
            case objects.DeleteClasses(minors=minors):
                return classes.delete(channel, link.ifindex, minors)
            case objects.DeleteRoot():
                roots.delete(channel, link.ifindex)
            case objects.DeleteIfb():
                self._devices.delete_ifb(link)
            case objects.DeletePair(shard=shard):
                pairs.delete(channel, shard)
            case _:
                assert_never(step)
        return {}
