"""What `plan` tells of policies: what the running agent wrote down, and that it did not."""

from __future__ import annotations

import json
import pathlib

from bandwidth_agent.policies import made_files, policies_page
from unit import documents
from unit.api.policy import scenes
from unit.api.policy.scenes import World


def told(tmp_path: pathlib.Path, mode: str = "Observe", *, wrote: bool = True) -> policies_page.Told:
    policy = scenes.policy(then__mode=mode, safety__exempt=["203.0.113.8/32"])
    if wrote:
        from bandwidth_api.policy import status

        world = World([policy], {"203.0.113.7": lambda _: 47, "203.0.113.8": lambda _: 47})
        world.run(90)
        seen = status.counts(world.book, policy, world.nodes, world.now)
        decisions = [decision for _, decision in world.decisions]
        found = status.write({}, status.found(policy, seen), 1, world.now, seen=seen, decisions=decisions)
        (tmp_path / made_files.STATUSES).write_text(json.dumps({"fair": found}))
    at = (tmp_path / made_files.STATUSES).stat().st_mtime if wrote else 0.0
    (one,) = policies_page.read([policy], tmp_path, at + 7)
    return one


def test_what_would_be_done_and_what_stood_in_the_way(tmp_path: pathlib.Path) -> None:
    """Both clients, with figures and the obstacle of one."""
    lines = told(tmp_path).lines()
    assert lines[0] == "policy fair: Observe; 2 watched, 1 hot, 1 limited, 7 s ago"
    assert any("203.0.113.7 Limited (would be): more than 40 Mbit over 60 s; 47 Mbit now" in line for line in lines)
    assert any("203.0.113.8 Blocked" in line and "exempt by spec.safety.exempt" in line for line in lines)


def test_it_is_as_the_schema_says(tmp_path: pathlib.Path) -> None:
    """Also where no agent has looked."""
    rules = documents.schema("plan")["properties"]["policies"]["items"]  # type: ignore[index]
    for mode, wrote in (("Observe", True), ("Enforce", False)):
        documents._check(rules, told(tmp_path, mode, wrote=wrote).as_json(), "policies")


def test_where_no_agent_runs_it_says_so(tmp_path: pathlib.Path) -> None:
    """And a policy that is off looks at nothing."""
    assert "no agent has looked yet" in told(tmp_path, wrote=False).lines()[0]
    assert told(tmp_path, "Disabled", wrote=False).lines() == ["policy fair: Disabled; it looks at nothing"]
