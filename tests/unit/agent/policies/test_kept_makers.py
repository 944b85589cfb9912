"""What is told of limits that policies made: by what the running agent keeps, and by nothing else."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator

import pytest

from bandwidth_agent.policies import kept_makers, made_files, makers
from bandwidth_agent.policies.makers import Step
from unit.agent.limits.directory import manifests
from unit.agent.policies.test_decider import POLICY, Host

NAME = "fair-03e9b06641"


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Iterator[Host]:
    place = manifests.Place(tmp_path)
    place.write("policy.yaml", POLICY)
    made = Host(place)
    yield made
    made.source.close()


def test_a_made_limit_tells_its_policy_its_end_and_its_pardon(host: Host) -> None:
    """Step, reason, when it is lifted, what comes next, the file, and for how long a pardon lasts."""
    assert kept_makers.read(host.place.state) == {}
    host.run(60)
    host.flush()
    (maker,) = kept_makers.read(host.place.state).values()
    assert maker.which == "the policy fair, step 1 of 2"
    assert maker.why.startswith("policy fair, step 1 of 2: more than 40 Mbit over 60 s")
    assert maker.lifted_below_bits_per_second == 10_000_000
    assert maker.following == Step(10_000_000, 3600)
    assert maker.file == str(host.file())
    assert maker.pardon_seconds(host.place.wall()) == 86400
    assert maker.pardon_seconds(maker.expires_at - 100_000) == 100_000
    told = maker.as_json()
    assert (told["name"], told["step"], told["steps"], told["memorySeconds"]) == ("fair", 1, 2, 86400)


def test_the_terms_are_those_that_the_agent_decides_by(host: Host) -> None:
    """An edit of the policy is told with the next status; the last step is followed by itself."""
    host.run(60)
    host.place.write("policy.yaml", POLICY.split("    - {rate: 10Mbit")[0] + "    memorySeconds: 60\n")
    host.run(20)
    host.flush()
    maker = kept_makers.read(host.place.state)[NAME]
    assert maker.terms is not None
    assert (maker.terms.memory_seconds, maker.following) == (60, Step(20_000_000, 600))


def test_what_an_earlier_agent_kept_tells_what_it_has(host: Host) -> None:
    """Without terms the policy and the step are told, and nothing is made up."""
    host.run(60)
    host.flush()
    (host.place.state / made_files.STATUSES).write_text(json.dumps({"fair": {makers.TERMS: {"steps": [{}]}}}))
    maker = kept_makers.read(host.place.state)[NAME]
    assert (maker.which, maker.terms) == ("the policy fair, step 1", None)
    assert (maker.following, maker.lifted_below_bits_per_second, maker.pardon_seconds(0.0)) == (None, None, None)
