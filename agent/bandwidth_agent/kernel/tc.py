"""Devices and traffic control of one network namespace: everything of ours that rtnetlink speaks of.

Composes links, roots, classes, filters and hooks over one request socket; decides nothing.
"""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Collection, Mapping

from bandwidth_agent.kernel import (
    change,
    classes,
    features,
    filters,
    hooks,
    interfaces,
    links,
    model,
    netlink,
    passage,
    roots,
    routes,
    tcmsg,
    trees,
)
from bandwidth_api.plan import Prefix

Change = (
    change.PutIfb
    | change.PutRoot
    | change.PutClasses
    | change.PutFilter
    | change.PutHook
    | change.TrimHook
    | change.DeleteHook
    | change.DeleteFilter
    | change.DeleteClasses
    | change.DeleteRoot
    | change.DeleteIfb
)


@dataclasses.dataclass(frozen=True, slots=True)
class Surroundings:
    """What of the network namespace is not ours; fields as in `model.Facts`."""

    interfaces: Mapping[str, model.Interface]
    addresses: frozenset[Prefix]
    gateways: frozenset[Prefix]
    taken_ifb_names: frozenset[str]


@dataclasses.dataclass(frozen=True, slots=True)
class Observed:
    """What is ours; fields as in `model.State`."""

    ifbs: Mapping[int, model.Ifb]
    trees: Mapping[str, model.Tree]
    hooks: Mapping[str, model.Hook]


class TrafficControl:
    """Of the network namespace of the thread that makes it, wherever it is used afterwards. Not thread-safe."""

    def __init__(self) -> None:
        self._channel = netlink.Socket()
        self._devices = links.Devices()
        self._features: tuple[bool, bool, bool] | None = None

    @property
    def port_ids(self) -> tuple[int, ...]:
        """The netlink ports that our changes come from."""
        return self._channel.port_id, self._devices.port_id

    def close(self) -> None:
        self._channel.close()
        self._devices.close()

    # ── reading ────────────────────────────────────────────────────────────────────────────────────────────────

    def features(self) -> tuple[bool, bool, bool]:
        """Whether the kernel has ifb, clsact with mirred, and fq_codel; asked once."""
        if self._features is None:
            self._features = (
                features.knows_ifb(self._channel),
                features.knows_qdisc(self._channel, "clsact") and features.knows_mirred(self._channel),
                features.knows_qdisc(self._channel, "fq_codel"),
            )
        return self._features

    def surroundings(self) -> Surroundings:
        present = links.dump(self._channel)
        ours = {link.ifindex for link in present if link.shard is not None}
        hops = list(routes.default_next_hops(self._channel))
        return Surroundings(
            interfaces=interfaces.observe(self._channel, present, {hop.ifindex for hop in hops}),
            addresses=frozenset(address for ifindex, address in routes.addresses(self._channel) if ifindex not in ours),
            gateways=frozenset(hop.gateway for hop in hops if hop.gateway is not None),
            taken_ifb_names=frozenset(
                link.name for link in present if link.shard is None and links.shard_of_name(link.name) is not None
            ),
        )

    def observe(self) -> Observed:
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
        return Observed(
            ifbs=links.observe(present),
            trees=trees.observe(channel, qdiscs, name_of),
            hooks={name: hook for name, hook in found.items() if hook is not None},
        )

    def counters(self) -> tuple[dict[str, dict[int, model.ClassCounters]], dict[str, int]]:
        """Counters by device and class, and direct packets by device."""
        return trees.counters(self._channel, {link.ifindex: link.name for link in links.dump(self._channel)})

    def passage(self, interfaces: Collection[str]) -> dict[str, model.HookPassage]:
        """What the hooks on these interfaces have counted."""
        return passage.read(self._channel, interfaces)

    # ── writing ────────────────────────────────────────────────────────────────────────────────────────────────

    def apply_one(self, step: Change) -> change.Outcome:
        """Apply one change; what the kernel refuses is in the outcome."""
        try:
            refusals = self._apply(step)
        except OSError as error:
            return change.Outcome(step, failure=change.Failure(error.errno or 0, error.strerror or str(error)))
        failed = {minor: change.Failure(refusal.errno, refusal.text) for minor, refusal in refusals.items()}
        return change.Outcome(step, failed_classes=failed)

    def _apply(self, step: Change) -> Mapping[int, netlink.Refusal]:
        """Returns the refused classes; raises OSError where the change as a whole was refused."""
        channel = self._channel
        match step:
            case change.PutIfb(shard=shard):
                self._devices.put_ifb(channel, shard)
            case change.DeleteIfb(shard=shard):
                self._devices.delete_ifb(channel, shard)
            case change.PutRoot(device=device, default_minor=default_minor):
                link = self._present(device)
                roots.put(channel, link.ifindex, link.queue_length, default_minor, own_device=link.shard is not None)
            case change.PutClasses(device=device, classes=wanted, observed=observed):
                return classes.put(channel, self._present(device).ifindex, wanted, observed)
            case change.PutFilter(device=device, filter=wanted):
                filters.put_mark_filter(channel, self._present(device).ifindex, wanted)
            case change.PutHook(interface=interface, hook=wanted):
                self._put_hook(self._present(interface).ifindex, wanted)
            case _:
                return self._delete(step)
        return {}

    def _put_hook(self, ifindex: int, wanted: model.Hook) -> None:
        index_of = {link.shard: link.ifindex for link in links.dump(self._channel) if link.shard is not None}
        hooks.put(self._channel, ifindex, wanted, interfaces.hook_kind(self._channel, ifindex), index_of)

    def _delete(
        self,
        step: change.TrimHook | change.DeleteHook | change.DeleteFilter | change.DeleteClasses | change.DeleteRoot,
    ) -> Mapping[int, netlink.Refusal]:
        """What is on a device that is gone is gone."""
        channel = self._channel
        name = step.interface if isinstance(step, change.TrimHook | change.DeleteHook) else step.device
        link = links.find(channel, name)
        if link is None:
            return {}
        match step:
            case change.TrimHook(shards=shards):
                hooks.trim(channel, link.ifindex, shards)
            case change.DeleteHook():
                hooks.delete(channel, link.ifindex)
            case change.DeleteFilter():
                filters.delete_mark_filter(channel, link.ifindex)
            case change.DeleteClasses(minors=minors):
                return classes.delete(channel, link.ifindex, minors)
            case change.DeleteRoot():
                roots.delete(channel, link.ifindex)
        return {}

    def _present(self, device: str) -> links.Link:
        link = links.find(self._channel, device)
        if link is None:
            raise OSError(errno.ENODEV, f"{device} is not there")
        return link
