"""The Debian package on clean hosts: install, upgrade under traffic, remove, purge; with systemd and without."""

from __future__ import annotations

from bandwidth_lab.kind import shell
from packages import host

STATE = "/var/lib/client-bandwidth"
# A class that is not made again, and two readings a moment apart: what may come to the client beside the class.
BESIDE_BYTES = 65_536


def main_pid(machine: host.Host) -> int:
    return int(machine.run("systemctl", "show", "--value", "-p", "MainPID", "bandwidth-agent"))


def older(machine: host.Host, path: str) -> str:
    """The same package with a lower version and another unit, as an upgrade finds it."""
    machine.sh(
        f"dpkg-deb -R {path} /older; sed -i 's/^Version: .*/Version: 0.0.1/' /older/DEBIAN/control; "
        "sed -i 's/^Description=.*/Description=An older one/' /older/usr/lib/systemd/system/bandwidth-agent.service; "
        "dpkg-deb -Znone -b /older /older.deb; rm -r /older"
    )
    return "/older.deb"


def test_life_of_the_package_with_systemd() -> None:
    """New, it limits nobody; an upgrade leaves limits in force; `remove` clears the kernel, `purge` the disk."""
    path = f"/dist/{host.package().name}"
    with host.host("booted") as machine:
        before = older(machine, path)
        kernel, files = machine.kernel(), machine.files()

        machine.run("dpkg", "-i", before)
        assert machine.run("systemctl", "is-active", "bandwidth-agent").strip() == "active"
        enabled = machine.run("systemctl", "is-enabled", "bandwidth-agent", "client-bandwidth-sets")
        assert enabled.split() == ["enabled", "enabled"]
        assert machine.kernel() == kernel

        machine.write("/etc/client-bandwidth/slow.yaml", host.LIMIT)
        machine.await_limit()
        machine.start_traffic()
        shell.eventually("the class sends", lambda: machine.counters()[1] > 1 << 20)
        limited, pid, (wire, sent) = machine.kernel(), main_pid(machine), machine.counters()
        machine.run("dpkg", "-i", path)
        shell.eventually("the new agent has made a pass", lambda: "placement" in journal(machine, main_pid(machine)))
        wire_after, sent_after = machine.counters()
        assert main_pid(machine) != pid
        assert machine.kernel() == limited
        assert sent_after > sent
        assert wire_after - wire <= sent_after - sent + BESIDE_BYTES

        machine.run("dpkg", "-r", "client-bandwidth-agent")
        assert machine.kernel() == kernel
        assert machine.run("cat", "/etc/client-bandwidth/slow.yaml") == host.LIMIT
        machine.run("dpkg", "-P", "client-bandwidth-agent")
        assert machine.files() - files == set()
        assert "bandwidth" not in machine.run("systemctl", "list-units", "--all", "--plain", "--no-legend")


def journal(machine: host.Host, pid: int) -> str:
    return machine.run("journalctl", "--no-pager", "-o", "cat", f"_PID={pid}")


def test_life_of_the_package_without_systemd() -> None:
    """A host that systemd does not run takes it as well, and is as before when it is gone."""
    path = f"/dist/{host.package().name}"
    with host.host("plain", "sleep", "infinity") as machine:
        kernel, files = machine.kernel(), machine.files()
        machine.run("dpkg", "-i", path)
        machine.write("/etc/client-bandwidth/slow.yaml", host.LIMIT)
        machine.run("bandwidth-agent", "run", "--manifests", "/etc/client-bandwidth", "--once")
        assert host.CLIENT in machine.run("bandwidth-agent", "show")
        machine.run("dpkg", "-r", "client-bandwidth-agent")
        assert machine.kernel() == kernel
        machine.run("dpkg", "-P", "client-bandwidth-agent")
        assert machine.files() - files == set()
