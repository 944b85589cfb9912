"""`install-unit`: makes the agent a service of systemd on this host, or below a root directory, and undoes it."""

from __future__ import annotations

import pathlib
import sys

from bandwidth_agent.commands.options import Options
from bandwidth_agent.commands.wiring import host, output
from bandwidth_agent.process import lock
from bandwidth_agent.systemd import installation, service_manager, unit_files
from bandwidth_agent.systemd.unit_files import Found

# What the unit keeps the service from seeing (ProtectHome, PrivateTmp).
_UNSEEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - nothing is written there
_NEXT = """
next:
  {program} top --manifests {limits}   who gets how much; l on a client limits it
  systemctl edit bandwidth-agent       options of your own, which outlive upgrades; the unit has an example
"""
_LEFT = """
Limits that were in force stay so, with nobody to end them. To take them away:
  {program} cleanup
"""


def main(options: Options) -> int:
    program = _program(options)
    try:
        files = installation.survey(program, options.root)
        if options.uninstall:
            return _uninstall(files, program, options)
        why_not = _why_not(files, program, options)
        return host.fail(why_not) if why_not else _install(files, program, options)
    except OSError as error:
        return host.fail(f"{error.filename}: {(error.strerror or str(error)).lower()}; call again when that is mended")


def _install(files: list[installation.File], program: pathlib.Path, options: Options) -> int:
    lines = list(installation.install(files))
    if options.root is not None:
        output.write("\n".join(lines) + "\n")
        return 0
    done, failed = _start()
    output.write("\n".join([*lines, *done, _NEXT.format(program=program, limits=installation.LIMITS).rstrip(), ""]))
    return host.fail(failed) if failed else 0


def _start() -> tuple[list[str], str]:
    """Enable the units and start the agent, again if it runs; return what was done, and what failed."""
    if not service_manager.present():
        return ["not enabled: there is no systemctl here"], ""
    if service_manager.runs() and (failed := service_manager.ask("daemon-reload")):
        return [], failed
    if failed := service_manager.ask("enable", *installation.UNITS):
        return [], failed
    done = [f"enabled {' and '.join(installation.UNITS)}"]
    if not service_manager.runs():
        return [*done, "not started: systemd does not run here"], ""
    was_active = service_manager.active(unit_files.AGENT)
    if not was_active and lock.running():
        return [*done, "not started: an agent runs here already; stop it, then: systemctl start bandwidth-agent"], ""
    if failed := service_manager.ask("restart", unit_files.AGENT):
        return done, failed
    return [*done, f"{'restarted' if was_active else 'started'} {unit_files.AGENT}"], ""


def _uninstall(files: list[installation.File], program: pathlib.Path, options: Options) -> int:
    ours = [file.path.name for file in files if file.is_unit and file.found not in (Found.NOTHING, Found.FOREIGN)]
    lines = []
    if options.root is None and ours and service_manager.present():
        stop = ["--now"] if service_manager.runs() else []
        if failed := service_manager.ask("disable", *stop, *ours):
            return host.fail(failed)
        lines.append(f"{'stopped and ' if stop else ''}disabled {' and '.join(ours)}")
    lines += installation.uninstall(files)
    if options.root is None and ours and service_manager.runs():
        service_manager.ask("daemon-reload")
    if not lines:
        output.write("nothing to remove\n")
        return 0
    output.write("\n".join(lines) + "\n" + (_LEFT.format(program=program) if options.root is None and ours else ""))
    return 0


def _program(options: Options) -> pathlib.Path:
    """What the unit calls: what was asked for, else the program that runs now."""
    if options.program is not None:
        return options.program
    called = pathlib.Path(sys.argv[0]).resolve()
    if called.suffix == ".py" or not called.is_file():  # python -m
        called = pathlib.Path(sys.executable).parent / "bandwidth-agent"
    return installation.inside(called, options.root)


def _why_not(files: list[installation.File], program: pathlib.Path, options: Options) -> str:
    """Return why nothing may be written, and what to do about it; "" where all may be."""
    for path in (program, installation.inside(installation.FILES, options.root)):
        if not unit_files.sayable(str(path)) or not path.is_absolute():
            return f"a unit cannot call {path}: install the program below a plain absolute path, such as /opt"
    foreign = [str(file.path) for file in files if file.is_unit and file.found is Found.FOREIGN]
    if foreign:
        return (
            f"{' and '.join(foreign)}: not written by this program, and kept. Move it away and call again; changes "
            "of your own belong into `systemctl edit bandwidth-agent`"
        )
    if options.root is not None:
        return ""
    if packaged := installation.packaged():
        return f"a package has brought {packaged} already; to set it up: systemctl enable --now bandwidth-agent"
    for path in (program, installation.FILES, pathlib.Path(sys.executable).resolve()):
        if any(path.is_relative_to(folder) for folder in _UNSEEN):
            return (
                f"{path} is where a service must not look (ProtectHome, PrivateTmp): install the program "
                "elsewhere, such as into a virtual environment /opt/client-bandwidth, and call that one"
            )
    if not program.is_file():
        return f"{program}: there is no such program; --program names it"
    return host.absent()
