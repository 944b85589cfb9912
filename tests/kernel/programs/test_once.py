"""`plan`, `run --once` and `cleanup`: what they say is what they do."""

from __future__ import annotations

import json
import os
import pathlib

import pytest

from bandwidth_lab import Network
from kernel.programs.conftest import Host
from unit import documents

pytestmark = pytest.mark.root


def test_plan_says_what_once_does_and_changes_nothing(host: Host) -> None:
    """As many changes as planned are made; before and after, the exit code says whether there are any."""
    before = host.snapshot()
    host.limit("mail", ["203.0.113.10", "2001:db8:0:2::10"], "5Mbit")
    planned = host.call("plan", "--exit-code")
    assert planned.returncode == 2
    assert "203.0.113.10" in planned.stdout
    assert "(mail)" in planned.stdout
    told = json.loads(host.call("plan", "-o", "json").stdout)
    documents.check("plan", told)
    assert host.snapshot() == before
    made = host.once()
    documents.check("report", made)
    assert made["changes"] == told["changes"] > 0
    assert made["limits"] == {"desired": 1, "programmed": 1, "failed": 0}
    nothing = host.call("plan", "--exit-code")
    assert (nothing.returncode, nothing.stderr) == (0, "")
    assert nothing.stdout == "Nothing to change: 1 of 1 limits in force as written.\n"
    assert host.once()["changes"] == 0


def test_plan_shows_an_edit_and_a_removal(host: Host) -> None:
    """A person sees from which rate to which, and what will go."""
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    host.limit("gone", ["203.0.113.11"], "1Mbit")
    host.once()
    host.limit("mail", ["203.0.113.10"], "6Mbit")
    host.lift("gone")
    lines = host.call("plan").stdout.splitlines()
    assert any(line.startswith("change class") and "5 Mbit → 6 Mbit" in line for line in lines)
    assert any(line.startswith("delete entry") and "203.0.113.11" in line for line in lines)
    assert any(line.startswith("delete class") and "(gone)" in line for line in lines)


def test_once_in_words(host: Host) -> None:
    """Without -o json a person reads how many limits are in force, where, and what is wrong."""
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    host.limit("odd", ["203.0.113.11"], "5")
    done = host.call("run", "--once")
    assert done.returncode == 1
    assert done.stderr == ""
    assert done.stdout.startswith("1 of 2 limits in force as written, ")
    assert "eth0: ifb" in done.stdout
    assert f"not as written: odd: Invalid: {host.manifests}/odd.yaml:1: spec.egress.rate: " in done.stdout
    assert "\033" not in done.stdout


def test_bad_input_is_one_clear_error_and_the_others_are_applied(host: Host) -> None:
    """A broken file, an unknown field, an impossible rate, protected addresses: each named, none in another's way."""
    host.limit("good", ["203.0.113.10"], "5Mbit")
    host.write("broken.yaml", "apiVersion: [")
    host.limit("unknown", ["203.0.113.20"], "5Mbit", colour="red")
    host.limit("impossible", ["203.0.113.21"], "900Gbit")
    host.limit("own", ["192.0.2.10"], "5Mbit")
    host.limit("gateway", ["192.0.2.0/24"], "5Mbit")
    host.limit("loopback", ["127.0.0.1"], "5Mbit")
    host.limit("named", ["198.51.100.7"], "5Mbit")
    done = host.call("run", "--once", "-o", "json", "--protected", "198.51.100.0/24")
    assert done.returncode == 1
    made = json.loads(done.stdout)
    documents.check("report", made)
    assert made["limits"] == {"desired": 8, "programmed": 1, "failed": 7}
    failing = {item["name"]: item for item in made["failing"]}
    assert {name: item["reason"] for name, item in failing.items()} == {
        "broken.yaml": "Unreadable",
        "unknown": "UnknownField",
        "impossible": "Invalid",
        "own": "ProtectedAddress",
        "gateway": "ProtectedAddress",
        "loopback": "Invalid",
        "named": "ProtectedAddress",
    }
    assert failing["broken.yaml"]["message"].startswith(f"{host.manifests}/broken.yaml:2: ")
    assert (failing["unknown"]["file"], failing["unknown"]["field"]) == (
        f"{host.manifests}/unknown.yaml",
        "spec.colour",
    )
    assert "spec.egress.rate" in failing["impossible"]["message"]
    own = failing["own"]
    assert own["message"].startswith(f"{host.manifests}/own.yaml:1: spec.clients[0]: ")
    assert (own["file"], own["field"]) == (f"{host.manifests}/own.yaml", "spec.clients[0]")
    assert host.rate_of("203.0.113.10") == 5_000_000
    for client in ("203.0.113.20", "203.0.113.21", "192.0.2.1", "198.51.100.7"):
        assert host.rate_of(client) is None


def test_a_limit_in_force_survives_its_file_becoming_invalid(host: Host) -> None:
    """Also across processes, because the state directory remembers; deleting the file lifts it."""
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    host.once()
    host.write("mail.yaml", "spec: [")
    for _ in range(2):
        made = host.once(check=False)
        assert [(item["name"], item["reason"]) for item in made["failing"]] == [("mail", "KeptPrevious")]
        assert made["changes"] == 0
        assert host.rate_of("203.0.113.10") == 5_000_000
    host.lift("mail")
    assert host.once()["limits"]["desired"] == 0
    assert host.rate_of("203.0.113.10") is None


def test_a_limit_in_force_survives_an_edit_that_takes_in_a_protected_address(host: Host) -> None:
    """The edit is refused as a whole, and what was accepted before goes on, also over a restart."""
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    host.once()
    host.limit("mail", ["203.0.113.10", "192.0.2.10"], "6Mbit")
    for _ in range(2):
        made = host.once(check=False)
        [failing] = made["failing"]
        assert (failing["name"], failing["reason"], failing["field"]) == ("mail", "KeptPrevious", "spec.clients[1]")
        assert host.rate_of("203.0.113.10") == 5_000_000


def test_after_a_cleanup_a_broken_file_brings_nothing_back(host: Host) -> None:
    """What was taken away on purpose is not in force any more, and so not kept."""
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    host.once()
    host.cleanup()
    host.write("mail.yaml", "spec: [")
    made = host.once(check=False)
    assert [(item["name"], item["reason"]) for item in made["failing"]] == [("mail.yaml", "Unreadable")]
    assert host.rate_of("203.0.113.10") is None


def test_an_unusable_state_directory_is_a_warning(host: Host, tmp_path: pathlib.Path) -> None:
    """The limits are put in force all the same."""
    (tmp_path / "file").write_text("")
    host.state = tmp_path / "file"
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    made = host.once()
    assert made["limits"]["programmed"] == 1


def test_a_state_directory_that_is_full_is_a_warning(host: Host) -> None:
    """It is found only when the memory is written, after the report; the limits are in force all the same."""
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    command = host.command("run", "--once")
    for _ in range(2):
        done = host.namespace.run(["prlimit", "--fsize=8", "--", *command], check=False)
        assert done.returncode == 0
        assert done.stdout.startswith("1 of 1 limits in force as written, ")
        assert done.stderr.startswith(f"bandwidth-agent: warning: cannot write {host.state}/accepted-")
    assert host.namespace.run(command).stderr == ""


def test_labels_choose_the_node(host: Host) -> None:
    """A limit for other nodes is none of ours, and no failure."""
    host.limit("here", ["203.0.113.10"], "5Mbit", nodeSelector={"matchLabels": {"zone": "a"}})
    host.limit("there", ["203.0.113.11"], "5Mbit", nodeSelector={"matchLabels": {"zone": "b"}})
    made = host.once("--node-label", "zone=a")
    assert made["limits"] == {"desired": 1, "programmed": 1, "failed": 0}
    assert host.rate_of("203.0.113.10") == 5_000_000
    assert host.rate_of("203.0.113.11") is None


def test_without_an_egress_interface_every_limit_fails_with_a_reason(host: Host) -> None:
    """Nothing to shape on is told, not passed over."""
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    made = host.once("--interface", "wlan*", check=False)
    assert [(item["name"], item["reason"]) for item in made["failing"]] == [("mail", "NoEgressInterface")]


def test_cleanup_removes_everything_and_then_nothing(host: Host) -> None:
    """What it removed is printed; the second time there is nothing; the kernel is as it was found."""
    before = host.snapshot()
    host.limit("mail", ["203.0.113.10", "2001:db8:0:2::10"], "5Mbit", egress={"ports": [{"port": 993}]})
    host.once()
    first = host.call("cleanup")
    assert first.returncode == 0
    assert "delete chain" in first.stdout
    assert "removed: " in first.stdout
    assert host.snapshot() == before
    second = host.call("cleanup")
    assert (second.returncode, second.stdout) == (0, "nothing to remove\n")
    assert host.snapshot() == before


def test_cleanup_for_programs(host: Host) -> None:
    """-o json has its schema, with something to remove and without."""
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    host.once()
    for clean in (False, True):
        told = json.loads(host.call("cleanup", "-o", "json").stdout)
        documents.check("cleanup", told)
        assert told["clean"]
        assert (told["changes"] == 0) is clean


def test_manifests_that_are_not_there_are_an_error(host: Host) -> None:
    """And nothing that is in force is touched."""
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    host.once()
    for program in ("run", "plan"):
        done = host.namespace.run([*host.command(program), "--manifests", "/nonexistent"], check=False)
        assert done.returncode == 1
        assert done.stderr == (
            "bandwidth-agent: error: --manifests /nonexistent: no such file or directory; "
            "it must be a directory that can be read\n"
        )
    assert host.rate_of("203.0.113.10") == 5_000_000


@pytest.mark.parametrize(
    ("keep", "lacks"), [("-all", "CAP_NET_ADMIN and CAP_NET_RAW"), ("-all,+net_admin", "CAP_NET_RAW")]
)
def test_without_the_capabilities_it_says_so(host: Host, keep: str, lacks: str) -> None:
    """One sentence with what to do, for every program, and no traceback."""
    for program in ("run", "plan", "show", "cleanup"):
        command = ["setpriv", f"--bounding-set={keep}", f"--inh-caps={keep}", *host.command(program)]
        done = host.namespace.run(command, check=False)
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith(f"bandwidth-agent: error: {lacks} missing")
        assert len(done.stderr.splitlines()) == 1


def test_two_capabilities_are_enough(host: Host, network: Network) -> None:
    """Exactly CAP_NET_ADMIN and CAP_NET_RAW, for everything."""
    keep = "-all,+net_admin,+net_raw"
    host.limit("mail", [network.clients[0].address4], "5Mbit")
    for program, more in (("plan", ()), ("run", ("--once",)), ("show", ()), ("cleanup", ())):
        command = ["setpriv", f"--bounding-set={keep}", f"--inh-caps={keep}", *host.command(program, *more)]
        assert host.namespace.run(command, check=False, timeout=60).returncode == 0, program


def test_output_into_a_closed_pipe_is_no_traceback(host: Host) -> None:
    """`plan | head -1` ends quietly."""
    for number in range(200):
        host.limit(f"l{number}", [f"198.51.100.{number + 1}"], "1Mbit")
    words = " ".join(host.command("plan"))
    done = host.namespace.run(["sh", "-c", f"{words} | head -1"], check=False, timeout=60)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_output_that_cannot_be_written_is_told(host: Host) -> None:
    """On a full disk each program says that its output could not be written, and not that the kernel was at fault."""
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    for program, *more in (("plan",), ("run", "--once"), ("show",), ("show", "-o", "json"), ("cleanup",)):
        words = " ".join(host.command(program, *more))
        done = host.namespace.run(["sh", "-c", f"{words} >/dev/full"], check=False, timeout=60)
        said = "bandwidth-agent: error: the output could not be written: no space left on device\n"
        assert (program, done.returncode, done.stderr) == (program, 1, said)


def test_without_standard_descriptors(host: Host) -> None:
    """Who closes stdin, stdout or stderr gets the work done all the same, and what is left open is in order."""
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    for program, *more in (("plan",), ("run", "--once"), ("show",), ("cleanup",)):
        words = " ".join(host.command(program, *more))
        for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
            done = host.namespace.run(["sh", "-c", f"{words} {closed}"], check=False, timeout=60)
            assert (program, closed, done.returncode, done.stderr) == (program, closed, 0, "")
            assert bool(done.stdout) == (">&-" not in closed.replace("2>&-", "")), (program, closed)


def test_a_file_whose_name_is_no_text(host: Host) -> None:
    """A broken file with a name that no terminal can show is one problem in every report, and nothing else fails."""
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    (host.manifests / os.fsdecode(b"\xff.yaml")).write_text("a: [")
    for program, *more in (("plan",), ("run", "--once"), ("run", "--once", "-o", "json")):
        done = host.call(program, *more)
        assert "udcff.yaml" in done.stdout
        assert done.stderr == ""
    assert host.rate_of("203.0.113.10") == 5_000_000
