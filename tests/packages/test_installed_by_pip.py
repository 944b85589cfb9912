"""The wheel in a virtual environment of its own, and the service that it makes of itself."""

from __future__ import annotations

import pathlib

from packages import host

HOME = "/opt/client-bandwidth"
AGENT = f"{HOME}/bin/bandwidth-agent"
UNIT = "/etc/systemd/system/bandwidth-agent.service"
SETS = "/etc/systemd/system/client-bandwidth-sets.service"


def wheels(machine: host.Host) -> str:
    """The folder of the libraries for the Python of this host."""
    version = machine.run(
        "python3", "-c", "import platform, sys; print('%d.%d' % sys.version_info[:2], platform.machine())"
    )
    return f"/build/wheels/{'-'.join(version.split())}"


def test_life_of_the_service_that_pip_brought() -> None:
    """From the wheel to a service in two commands; edits are kept, strangers refused, and nothing is left behind."""
    (wheel,) = (host.BUILD / "dist").glob("*.whl")
    with host.host("booted") as machine:
        kernel, files = machine.kernel(), machine.files()
        machine.run("python3", "-m", "venv", HOME)
        pip = [f"{HOME}/bin/pip", "install", "-q", "--no-index", "--find-links", wheels(machine)]
        machine.run(*pip, f"/build/dist/{wheel.name}[agent]")
        shared = machine.run("find", f"{HOME}/share/client-bandwidth", "-name", "*.yaml").split()
        assert {pathlib.Path(each).parent.name for each in shared} == {"crds", "examples"}

        first = machine.run(AGENT, "install-unit")
        assert f"wrote {UNIT}" in first
        assert "started bandwidth-agent.service" in first
        assert machine.run("systemctl", "is-active", "bandwidth-agent").strip() == "active"
        assert machine.run("stat", "-c", "%a", "/var/lib/client-bandwidth").strip() == "755"
        machine.run("systemd-analyze", "verify", "--man=no", UNIT, SETS)

        machine.write("/etc/client-bandwidth/slow.yaml", host.LIMIT)
        machine.sh(f"ln -s {AGENT} /usr/local/bin/bandwidth-agent")
        machine.await_limit()
        limited = machine.kernel()
        machine.sh(f"echo '# mine' >>{UNIT}")
        second = machine.run(AGENT, "install-unit")
        assert f"kept {UNIT}, which you have changed" in second
        assert "restarted" in second
        assert machine.kernel() == limited

        machine.sh(f"mv {UNIT} /tmp/unit; echo '[Service]' >{UNIT}")
        assert "not written by this program" in machine.refused(AGENT, "install-unit")
        assert machine.run("cat", UNIT) == "[Service]\n"
        machine.sh(f"grep -v '# mine' /tmp/unit >{UNIT}")

        assert "cleanup" in machine.run(AGENT, "install-unit", "--uninstall")
        assert machine.kernel() == limited
        machine.run("bandwidth-agent", "cleanup")
        assert machine.kernel() == kernel
        machine.sh(f"rm -r /etc/client-bandwidth {HOME} /usr/local/bin/bandwidth-agent")
        assert machine.files() - files == {"/var/lib/client-bandwidth"}
