"""Our program is the first on an interface's way out, says so, becomes it again, and leaves nothing when it goes."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator

import pytest

from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.linux.bpf import code
from bandwidth_lab import bpffs, ebpf
from kernel.bpf import packets
from kernel.bpf.node import V4, V6, Node, table
from kernel.tc import shapes
from kernel.tc.node import Tools

pytestmark = pytest.mark.root

FIRST, BEHIND = objects.Program(None), objects.Program(None, first=False)
PUT = objects.PutProgram("eth0", FIRST, None)
DELETE = objects.DeleteProgram("eth0")
CLIENT = "203.0.113.10"


@pytest.fixture
def prepared(node: Node) -> Node:
    """With tables, which a program needs."""
    node.put(table(4, {CLIENT: 5}), table(6, {}))
    return node


@contextlib.contextmanager
def stranger(node: Node) -> Iterator[None]:
    """Another program on the way out, which lets nothing after it see a packet: before ours, if ours is there."""
    if node.tcx:
        with node.stranger_first():
            yield
        return
    if "clsact" not in node.namespace.run(["tc", "qdisc", "show", "dev", "eth0"]).stdout:
        node.namespace.tc("qdisc add dev eth0 clsact")
    delete = ["tc", "filter", "del", "dev", "eth0", "egress", "pref", "1", "protocol", "all", "handle", "1", "bpf"]
    node.namespace.run(delete, check=False)  # or it would only be another one in the place of the last
    with ebpf.attached(node.namespace, "eth0", "egress", ebpf.verdict(ebpf.PASS), way="cls_bpf", name="cil_to_netdev"):
        yield


@pytest.mark.parametrize("shard", [None, 0, 61])
def test_what_is_put_is_observed(prepared: Node, shard: int | None) -> None:
    """By this agent and by one that knows nothing; and one way is replaced by the other."""
    prepared.apply(PUT, objects.PutProgram("eth0", objects.Program(shard), FIRST))
    assert prepared.programs == {"eth0": objects.Program(shard)}
    assert prepared.before() == ()
    with prepared.another() as fresh:
        assert fresh.programs == {"eth0": objects.Program(shard)}


def test_without_tables_there_is_no_program(node: Node) -> None:
    """It could look into nothing."""
    outcome = node.attempt(PUT)
    assert outcome.failure is not None
    assert outcome.failure.errno == errno.ENOENT
    assert node.programs == {}
    assert bpffs.names(node.directory) == []


def test_without_an_interface_there_is_no_program(prepared: Node) -> None:
    """To put one fails with a value; to delete one does not."""
    outcome = prepared.attempt(objects.PutProgram("eth9", FIRST, None))
    assert outcome.failure is not None
    assert outcome.failure.errno == errno.ENODEV
    prepared.apply(objects.DeleteProgram("eth9"))


def test_it_goes_as_it_came(prepared: Node) -> None:
    """Filters, qdiscs and names are as before; so is a hook that was there before."""
    for foreign in (False, True):
        if foreign:
            prepared.namespace.tc("qdisc add dev eth0 clsact")
        before = Tools(prepared.namespace).see(), bpffs.names(prepared.directory)
        prepared.apply(PUT)
        prepared.apply(DELETE)
        assert (Tools(prepared.namespace).see(), bpffs.names(prepared.directory)) == before
        assert prepared.programs == {}


def test_it_is_first_where_another_was_first(prepared: Node) -> None:
    """And the other one still sees what ours lets go on."""
    with stranger(prepared):
        prepared.apply(PUT)
        assert prepared.programs == {"eth0": FIRST}
        assert prepared.before() == ()


def test_it_is_first_again(prepared: Node) -> None:
    """Another that came before it is named, and is behind it once it was put again; many times."""
    prepared.apply(PUT)
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(stranger(prepared))
            assert prepared.programs == {"eth0": BEHIND}
            (other,) = prepared.before()[:1]
            assert "tcx" in other or "cil_to_netdev" in other
            prepared.apply(PUT)
            assert prepared.programs == {"eth0": FIRST}
    prepared.apply(DELETE)
    assert prepared.programs == {}


@pytest.mark.parametrize("pref", [1, 2, 500, 0xC000])
def test_filters_of_another_program_are_behind_it(server_with_filter: Node, pref: int) -> None:
    """Whatever their preference, and however they were put; their preference stays."""
    node = server_with_filter
    node.namespace.tc("qdisc add dev eth0 clsact")
    with ebpf.attached(
        node.namespace, "eth0", "egress", ebpf.verdict(ebpf.PASS), way="cls_bpf", name="cali_to_host", pref=pref
    ):
        node.apply(PUT)
        assert node.programs == {"eth0": FIRST}
        shown = node.namespace.run(["tc", "filter", "show", "dev", "eth0", "egress"]).stdout
        assert shown.index("cbl_") < shown.index("cali_to_host")
        node.apply(DELETE)
        shown = node.namespace.run(["tc", "filter", "show", "dev", "eth0", "egress"]).stdout
        assert "cbl_" not in shown
        assert "cali_to_host" in shown


def test_a_filter_that_cannot_be_passed_is_a_refusal(server_with_filter: Node) -> None:
    """One of another kind at the first preference: nothing can be before it, and that is said."""
    node = server_with_filter
    node.namespace.tc(
        "qdisc add dev eth0 clsact", "filter add dev eth0 egress pref 1 protocol ip u32 match u32 0 0 classid 1:1"
    )
    outcome = node.attempt(PUT)
    assert outcome.failure is not None
    assert node.programs == {}


def test_the_hook_goes_with_the_last_of_ours(server_with_filter: Node) -> None:
    """Whichever of our filters was there first and goes first, a clsact qdisc that we made goes with the last."""
    node = server_with_filter
    before = Tools(node.namespace).see()
    hook = objects.PutHook("eth0", shapes.hook(0), None)
    for puts in ((hook, PUT), (PUT, hook)):
        for deletes in ((objects.DeleteHook("eth0"), DELETE), (DELETE, objects.DeleteHook("eth0"))):
            node.apply(objects.PutIfb(0), *puts)
            assert node.programs == {"eth0": FIRST}
            assert node.control.observe().hooks == {"eth0": shapes.hook(0)}
            assert node.control.surroundings().interfaces["eth0"].foreign_egress_filters == ()
            node.apply(*deletes, objects.DeleteIfb(0))
            assert Tools(node.namespace).see() == before


@pytest.fixture
def server_with_filter(prepared: Node) -> Node:
    if prepared.tcx:
        pytest.skip("filters matter only where there is no TCX")
    return prepared


def test_another_version_of_the_code_is_replaced(prepared: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of an older agent is no sound one for a newer agent, and becomes one in its place."""
    real = code.name
    with monkeypatch.context() as patched:
        patched.setattr(code, "name", lambda program, shard: real(program, shard)[:-3] + "old")
        prepared.apply(PUT)
    assert prepared.programs == {"eth0": objects.Program(None, sound=False)}
    prepared.apply(PUT)
    assert prepared.programs == {"eth0": FIRST}


def test_maps_that_it_does_not_look_into(prepared: Node) -> None:
    """Somebody takes the names of our maps away: the tables come back in new ones, and the program is put again."""
    prepared.apply(PUT)
    for name in ("v4", "v6", "ports"):
        (path,) = prepared.directory.glob(f"client-bandwidth/*/{name}")
        path.unlink()
    assert prepared.programs == {"eth0": objects.Program(None, sound=False)}
    assert prepared.tables.keys() == {V4, V6}
    assert table(4, {}) != prepared.tables[V4]  # so that it is put again, and with it the map
    prepared.put(table(4, {CLIENT: 6}))
    prepared.apply(PUT)
    assert prepared.programs == {"eth0": FIRST}
    with prepared.program() as program:
        assert program.number(packets.v4(CLIENT)) == 6


def test_names_that_are_gone(prepared: Node) -> None:
    """Somebody takes all names away: what can still be seen is put right, and everything works again."""
    prepared.apply(PUT)
    for path in prepared.directory.glob("client-bandwidth/*/*"):
        path.unlink()
    assert all(not found.sound for found in prepared.programs.values())
    prepared.put(table(4, {CLIENT: 6}))
    prepared.apply(PUT)
    assert prepared.programs == {"eth0": FIRST}
    prepared.apply(DELETE, objects.DeleteTable(V4, 4))
    assert bpffs.names(prepared.directory) == []


def test_an_interface_that_is_gone(prepared: Node) -> None:
    """What is left of its program has a name that says so, and goes with a change of its own."""
    prepared.namespace.ip("link add eth7 type veth peer name other", "link set eth7 up", "link set other up")
    prepared.apply(objects.PutProgram("eth7", FIRST, None))
    index = prepared.namespace.call(lambda: socket.if_nametoindex("eth7"))
    prepared.namespace.ip("link del eth7")
    left = {f"interface {index}": objects.Program(None, first=False, sound=False)}
    assert prepared.programs == left
    prepared.apply(*(objects.DeleteProgram(name) for name in left))
    assert prepared.programs == {}


def test_an_interface_with_another_name_keeps_its_program(prepared: Node) -> None:
    """It is the same interface."""
    prepared.apply(PUT)
    prepared.namespace.ip("link set eth0 down", "link set eth0 name uplink", "link set uplink up")
    assert prepared.programs == {"uplink": FIRST}


def test_a_hook_that_another_program_deletes(server_with_filter: Node) -> None:
    """As some datapaths do when they start: ours is seen to be gone, and is put again."""
    node = server_with_filter
    node.apply(PUT)
    node.namespace.tc("qdisc del dev eth0 clsact")
    assert node.programs == {"eth0": objects.Program(None, first=False, sound=False)}
    node.apply(PUT)
    assert node.programs == {"eth0": FIRST}


def test_our_own_program_is_no_sign_of_a_datapath(prepared: Node) -> None:
    """A stranger's is."""
    prepared.apply(PUT)
    ids = prepared.driver.program_ids()
    seen = prepared.namespace.call(lambda: prepared.control.surroundings(ids)).interfaces["eth0"]
    assert seen.programs == ()
    with stranger(prepared):
        seen = prepared.namespace.call(lambda: prepared.control.surroundings(ids)).interfaces["eth0"]
        assert [each.place for each in seen.programs] == ["tcx" if prepared.tcx else "filter"]


def test_an_interface_without_a_link_header(prepared: Node) -> None:
    """Its packets cannot pass a pair: that is said. With their class as priority they can be where they are."""
    prepared.namespace.ip("tuntap add tun0 mode tun", "link set tun0 up")
    outcome = prepared.attempt(objects.PutProgram("tun0", objects.Program(0), None))
    assert outcome.failure is not None
    assert outcome.failure.errno == errno.EOPNOTSUPP
    prepared.apply(objects.PutProgram("tun0", FIRST, None))
    assert prepared.programs == {"tun0": FIRST}


def test_a_thread_of_another_namespace(prepared: Node) -> None:
    """There the index of an interface means another: nothing is read or changed."""
    for call in (prepared.driver.observe, lambda: prepared.driver.put_program(PUT)):
        with pytest.raises(RuntimeError, match="another network namespace"):
            call()
