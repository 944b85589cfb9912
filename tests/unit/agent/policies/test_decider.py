"""Policies on one host, from their manifests to the limits in force: the same decisions, kept over restarts."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Collection, Iterator, Mapping

import pytest

from bandwidth_agent.policies import decider, made_files
from bandwidth_agent.policies import source as sources
from bandwidth_api import addresses
from bandwidth_api.compiler import protected_addresses
from bandwidth_api.plan import Prefix
from bandwidth_api.policy.limitable import Limitable
from bandwidth_api.policy.reports import Amount, Report, Sampling
from bandwidth_runtime.clock import Clock
from unit.agent.limits.directory import manifests
from unit.clock import Clock as Settable

GREEDY = "203.0.113.7"
POLICY = """\
apiVersion: clientbandwidth.io/v1alpha1
kind: ClientBandwidthPolicy
metadata: {name: fair}
spec:
  when: {rate: {above: 40Mbit, forSeconds: 60}}
  then:
    mode: Enforce
    steps:
    - {rate: 20Mbit, ttlSeconds: 600}
    - {rate: 10Mbit, ttlSeconds: 3600}
"""


class Traffic:
    """One client, or several, that get what the test says."""

    def __init__(self, clock: Settable) -> None:
        self.clock, self.mbits, self.wanted, self.trouble = clock, 47.0, False, ""
        self.taken: list[float] = []  # the seconds of each report
        self.greedy: tuple[str, ...] = (GREEDY,)
        self.silent = False
        self._last = clock()

    def want(self, wanted: bool) -> None:
        self.wanted = wanted

    def take(self, _sampling: Sampling, _named: Collection[Prefix], limitable: Limitable) -> tuple[Report, ...]:
        self.limitable = limitable
        seconds, self._last = self.clock() - self._last, self.clock()
        self.taken.append(seconds)
        amounts = tuple(Amount(addresses.parse(each), self.mbits * 1e6 * seconds / 8) for each in self.greedy)
        return (Report("host", self.clock(), seconds, amounts),) if seconds > 0 and not self.silent else ()

    def close(self) -> None:
        self.wanted = False


class Files(made_files.MadeFiles):
    """The real files; what is asked of them is written down."""

    def __init__(self, state_dir: pathlib.Path) -> None:
        super().__init__(state_dir)
        self.asked: list[str] = []

    def keep(self, name: str, document: made_files.Json, *, change: bool) -> None:
        self.asked.append(f"keep {name}")
        super().keep(name, document, change=change)

    def delete(self, name: str) -> None:
        self.asked.append(f"delete {name}")
        super().delete(name)

    def keep_statuses(self, statuses: Mapping[str, made_files.Json]) -> None:
        told = [text.split()[2] for each in statuses.values() for text in each["remembered"]]
        self.asked.append(" ".join(["status", *told]))
        super().keep_statuses(statuses)


class Host:
    """A manifest directory, its policies, and what is in force."""

    def __init__(self, place: manifests.Place) -> None:
        self.place = place
        self.protected: frozenset[Prefix] = frozenset()
        self._start()

    def _start(self) -> None:
        clock = Clock(self.place.monotonic, self.place.wall)
        self.traffic = Traffic(self.place.monotonic)
        self.kept = Files(self.place.state)
        self.decider = decider.Decider(
            "host", {}, self.traffic, self.kept, lambda: protected_addresses.index(self.protected), clock
        )
        self.source = sources.WithPolicies(self.place.source, self.decider, {})

    def run(self, seconds: int) -> None:
        """Let time pass as the loop does."""
        for _ in range(seconds):
            self.place.monotonic.now += 1
            self.place.wall.now += 1
            self.source.drain()
            self.source.wanted(self.place.wall())

    @property
    def in_force(self) -> dict[str, int]:
        """The rates of the limits that are in force, by name, Mbit/s."""
        found = self.source.wanted(self.place.wall()).entries
        return {entry.limit: entry.rate_bits_per_second // 1_000_000 for entry in found}

    def restart(self) -> None:
        """End as a program ends, and begin again."""
        self.decider.close()
        self.place.restart()
        self._start()
        self.source.wanted(self.place.wall())

    def kill(self) -> None:
        """End at once: only what was written is there."""
        self.flush()

    def begin(self) -> None:
        """Begin after that."""
        self.place.restart()
        self._start()
        self.source.wanted(self.place.wall())

    def file(self) -> pathlib.Path:
        """The file of the one limit that was made, when it is written."""
        self.flush()
        (path,) = (self.place.state / made_files.DIRECTORY).iterdir()
        return path

    def flush(self) -> None:
        """Wait until all that is to be written is."""
        self.kept._pool.submit(int).result()

    def status(self) -> dict[str, object]:
        """What is written of the policy."""
        self.flush()
        found: dict[str, object] = json.loads((self.place.state / made_files.STATUSES).read_text())["fair"]
        return found


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Iterator[Host]:
    place = manifests.Place(tmp_path)
    place.write("policy.yaml", POLICY)
    made = Host(place)
    yield made
    made.source.close()


def test_a_greedy_client_is_slowed_and_let_go(host: Host) -> None:
    """From a manifest to a limit in force, and its end, without anybody."""
    host.run(50)
    assert host.in_force == {}
    host.run(10)
    assert host.in_force == {"fair-03e9b06641": 20}
    host.traffic.mbits = 0
    host.run(310)
    assert host.in_force == {}
    host.flush()
    assert not list((host.place.state / made_files.DIRECTORY).iterdir())
    status = host.status()
    decisions = status["decisions"]
    assert isinstance(decisions, list)
    assert [each["decision"] for each in decisions] == ["Lifted", "Limited"]
    assert decisions[1]["why"].startswith("more than 40 Mbit over 60 s")


def test_beside_limits_of_manifests(host: Host) -> None:
    """Both are in force; a person's limit on the client takes the place of the made one."""
    host.place.write("other.yaml", manifests.limit("other", "198.51.100.1"))
    host.run(60)
    assert host.in_force == {"other": 5, "fair-03e9b06641": 20}
    host.place.write("mine.yaml", manifests.limit("mine", "203.0.113.0/24", mode="Observe"))
    host.run(5)
    assert set(host.in_force) == {"other", "mine"}
    host.run(100)
    assert set(host.in_force) == {"other", "mine"}


def test_a_restart_keeps_the_limit_and_its_end(host: Host) -> None:
    """The limit is in force with the first reading, in the same step, and ends when it should."""
    host.run(60)
    for _ in range(5):
        host.restart()
        assert host.in_force == {"fair-03e9b06641": 20}
        host.run(20)
    host.traffic.mbits = 0.0
    host.restart()
    host.traffic.mbits = 15.0
    host.run(500)
    assert host.in_force == {}


def test_a_restart_remembers_who_was_slowed(host: Host) -> None:
    """The next limit is the second step."""
    host.run(60)
    host.traffic.mbits = 0
    host.run(310)
    host.restart()
    host.run(60)
    assert host.in_force == {"fair-03e9b06641": 10}


def test_whoever_deletes_the_file_pardons(host: Host) -> None:
    """The client is not limited again, also after a restart."""
    host.run(60)
    host.file().unlink()
    host.run(1)
    assert host.in_force == {}
    host.run(200)
    host.restart()
    host.run(200)
    assert host.in_force == {}


def test_a_file_that_is_deleted_while_an_agent_starts_pardons_too(host: Host) -> None:
    """Between the reading of the limits and the first round."""
    host.run(60)
    path = host.file()
    host.decider.close()
    host.place.restart()
    host._start()
    path.unlink()
    host.run(5)
    assert host.in_force == {}
    host.run(200)
    assert host.in_force == {}


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("seconds", [0, 700])
def test_a_file_that_is_deleted_while_no_agent_runs_pardons_too(host: Host, seconds: int, killed: bool) -> None:
    """The status names whom the policy limits, and the next agent finds no limit; also after its end."""
    host.run(60)
    path = host.file()
    if killed:
        host.kill()
    else:
        host.decider.close()
    path.unlink()
    host.place.monotonic.now += seconds
    host.place.wall.now += seconds
    host.begin()
    host.run(200)
    assert host.in_force == {}
    status = host.status()
    assert isinstance(status["decisions"], list)
    assert [each["decision"] for each in status["decisions"]] == ["Blocked", "Pardoned", "Limited"]


def test_the_status_is_written_before_the_limit(host: Host) -> None:
    """And before its file is removed: whoever is killed in between leaves nothing that looks like a deletion."""
    host.run(60)
    name = "fair-03e9b06641"
    assert host.kept.asked[-2:] == ["status Limited", f"keep {name}"]
    host.traffic.mbits = 0
    host.run(310)
    assert host.kept.asked[-2:] == ["status Ended", f"delete {name}"]


def test_a_file_that_is_deleted_before_the_limit_is_changed_pardons(host: Host) -> None:
    """Between the last look at the files and the writing of the next step."""
    host.run(60)
    path = host.file()
    path.unlink()
    host.kept.keep("fair-03e9b06641", {}, change=True)
    host.flush()
    assert not path.exists()
    host.run(200)
    assert host.in_force == {}


def test_a_policy_that_cannot_be_read_for_a_while_forgets_no_pardon(host: Host) -> None:
    """Neither an agent that goes on nor one that begins meanwhile; and an edit meanwhile is seen as one."""
    host.run(60)
    host.file().unlink()
    host.run(5)
    for text in (POLICY, POLICY.replace("20Mbit", "15Mbit")):
        host.place.write("policy.yaml", POLICY.replace("40Mbit", "40MB"))
        host.run(20)
        host.restart()
        host.run(20)
        host.place.write("policy.yaml", text)
        host.run(100)
        assert host.in_force == {}


def test_a_file_that_is_deleted_while_its_policy_cannot_be_read_pardons(host: Host) -> None:
    """The limit is gone at once, and is not made again when the policy can be read."""
    host.run(60)
    host.place.write("policy.yaml", POLICY.replace("40Mbit", "40MB"))
    host.run(5)
    host.file().unlink()
    host.run(5)
    assert host.in_force == {}
    host.place.write("policy.yaml", POLICY)
    host.run(100)
    assert host.in_force == {}


def test_an_edit_while_a_policy_could_not_be_read_is_taken_over(host: Host) -> None:
    """It is another edit than the one that was known before."""
    host.run(60)
    host.place.write("policy.yaml", POLICY.replace("40Mbit", "40MB"))
    host.run(5)
    host.place.write("policy.yaml", POLICY.replace("20Mbit", "15Mbit"))
    host.run(5)
    assert host.in_force == {"fair-03e9b06641": 15}


def test_a_policy_that_is_written_again_begins_anew(host: Host) -> None:
    """What it had made was removed with it, which pardons nobody."""
    host.run(60)
    for killed in (False, True):
        (host.place.path / "policy.yaml").unlink()
        host.run(20)
        assert host.in_force == {}
        if killed:
            host.kill()
            host.begin()
        host.place.write("policy.yaml", POLICY)
        host.run(70)
        assert host.in_force == {"fair-03e9b06641": 20}


def test_a_policy_that_is_gone_takes_its_limits_away_and_a_broken_one_does_not(host: Host) -> None:
    """A file that cannot be read lifts nothing, also after a restart; a file that is gone does."""
    host.run(60)
    host.place.write("policy.yaml", POLICY.replace("40Mbit", "40MB"))
    host.run(20)
    assert host.in_force == {"fair-03e9b06641": 20}
    host.restart()
    host.run(10)
    assert host.in_force == {"fair-03e9b06641": 20}
    (host.place.path / "policy.yaml").unlink()
    host.run(20)
    assert host.in_force == {}


def test_an_edit_is_taken_over_at_once(host: Host) -> None:
    """A lower rate of the step, and a switch: the limit is changed, then gone, and nothing is sampled any more."""
    host.run(60)
    host.place.write("policy.yaml", POLICY.replace("20Mbit", "15Mbit"))
    host.run(5)
    assert host.in_force == {"fair-03e9b06641": 15}
    assert host.traffic.wanted
    host.place.write("policy.yaml", POLICY.replace("Enforce", "Disabled"))
    host.run(5)
    assert host.in_force == {}
    assert not host.traffic.wanted


def watching(words: str) -> str:
    """The policy with another `watch`."""
    return POLICY.replace("  when:", f"  watch: {words}\n  when:")


def test_a_client_has_one_limit_also_when_groups_become_others(host: Host) -> None:
    """The limit of the address goes, and the group that it belongs to now is looked at from the beginning."""
    host.run(60)
    host.place.write("policy.yaml", watching("{groupBy: {ipv4: 24}}"))
    host.run(5)
    assert host.in_force == {}
    host.run(100)
    assert host.in_force == {"fair-94c6699ed4": 20}


def test_who_is_watched_no_more_is_let_go(host: Host) -> None:
    """By an edit of the policy, as by its removal."""
    host.run(60)
    host.place.write("policy.yaml", watching("{clients: [198.51.100.0/24]}"))
    host.run(5)
    assert host.in_force == {}


def test_an_edit_of_the_ports_is_taken_over(host: Host) -> None:
    """The limit that is there holds those of the policy, and is not made again."""
    host.run(60)
    host.place.write("policy.yaml", watching("{ports: [{port: 443}]}"))
    host.run(5)
    host.flush()
    assert json.loads(host.file().read_text())["spec"]["egress"] == {
        "rate": "20Mbit",
        "ports": [{"protocol": "TCP", "port": 443}],
    }
    decisions = host.status()["decisions"]
    assert isinstance(decisions, list)
    assert [each["decision"] for each in decisions] == ["Adjusted", "Limited"]


def test_without_a_policy_nothing_is_sampled_and_nothing_is_due(tmp_path: pathlib.Path) -> None:
    """A host that has none pays nothing."""
    place = manifests.Place(tmp_path)
    place.write("a.yaml", manifests.limit("a"))
    host = Host(place)
    host.run(20)
    assert (host.traffic.wanted, host.decider.due(), host.in_force) == (False, None, {"a": 5})
    assert not (place.state / made_files.DIRECTORY).exists()
    host.source.close()


def test_observe_writes_what_would_be_done(host: Host) -> None:
    """Nobody is limited; the status has the decisions, and the conditions say so."""
    host.place.write("policy.yaml", POLICY.replace("Enforce", "Observe"))
    host.run(90)
    assert host.in_force == {}
    status = host.status()
    assert isinstance(status["decisions"], list)
    assert isinstance(status["conditions"], list)
    assert [(each["decision"], each["observed"]) for each in status["decisions"]] == [("Limited", True)]
    assert {each["type"]: each["reason"] for each in status["conditions"]}["Ready"] == "Observing"
    assert status["clients"] == {"watched": 1, "hot": 0, "limited": 1}


def test_protected_addresses_of_the_host_are_left_alone(host: Host) -> None:
    """As those of a node in a cluster."""
    host.protected = frozenset({addresses.parse(GREEDY)})
    host.run(100)
    assert host.in_force == {}


def test_a_clock_that_is_set_back_keeps_nobody_longer(host: Host) -> None:
    """The limit is gone when its time has passed."""
    host.run(60)
    host.place.wall.now += -7200
    host.traffic.mbits = 15.0
    host.run(620)
    assert host.in_force == {}


def test_files_that_are_none_of_ours_are_left_alone(host: Host) -> None:
    """Whatever lies in the directory of made limits: it is not read as one, and not removed."""
    made = host.place.state / made_files.DIRECTORY
    made.mkdir(parents=True)
    for name, text in (("a.json", "{"), ("b.json", "[]"), ("c.txt", "c"), ("d.json", manifests.limit("x"))):
        (made / name).write_text(text)
    host.restart()
    host.run(5)
    assert host.in_force == {}
    assert sorted(path.name for path in made.iterdir()) == ["a.json", "b.json", "c.txt", "d.json"]


def test_a_status_that_stays_the_same_is_confirmed(host: Host) -> None:
    """So that `plan` tells how long ago the agent looked, and not since when nothing has changed."""
    host.traffic.mbits = 0
    host.run(40)
    host.flush()
    path = host.place.state / made_files.STATUSES
    before = path.read_bytes()
    os.utime(path, (0, 0))
    host.run(20)
    host.flush()
    assert host.kept.written_at() != 0
    assert path.read_bytes() == before


def test_a_copy_of_a_made_file_is_left_alone(host: Host) -> None:
    """Under another name it is no limit of a policy: it is not followed, and not removed."""
    host.run(60)
    copied = json.loads(host.file().read_text())
    copied["metadata"]["name"] = "fair-copy"
    copy = host.place.state / made_files.DIRECTORY / "fair-copy.json"
    copy.write_text(json.dumps(copied))
    host.restart()
    host.run(5)
    host.flush()
    assert host.in_force == {"fair-03e9b06641": 20}
    assert json.loads(copy.read_text()) == copied


def test_nothing_is_due_before_all_manifests_are_read(host: Host) -> None:
    """A round needs all limits that people wrote, so that the loop has nothing to wake up for."""
    host.run(60)
    host.decider.close()
    host.place.restart()
    host._start()
    assert host.source.due() is None
    host.source.wanted(host.place.wall())
    assert host.source.due() is not None
    host.run(1)
    assert host.in_force == {"fair-03e9b06641": 20}


def test_of_a_long_window_samples_are_taken_together(host: Host) -> None:
    """A client that is a small part of all is known well by the samples of seconds, and not by those of one."""
    host.place.write("policy.yaml", POLICY.replace("forSeconds: 60", "forSeconds: 300"))
    host.run(10)
    host.traffic.taken.clear()
    host.run(60)
    assert host.traffic.taken == [5.0] * 12


def test_a_state_directory_that_cannot_be_written_is_a_warning(host: Host) -> None:
    """The limit is in force all the same, and nobody is pardoned by it."""
    host.place.state.mkdir(exist_ok=True)
    (host.place.state / made_files.DIRECTORY).write_text("in the way")
    host.run(100)
    host.flush()
    host.run(5)
    assert host.in_force == {"fair-03e9b06641": 20}
    assert any("cannot write" in warning for warning in host.source.wanted(host.place.wall()).warnings)
