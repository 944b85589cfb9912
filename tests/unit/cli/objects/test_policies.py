"""Policies as the plugin reads them, and what each has to do with a client."""

from __future__ import annotations

from typing import Any

import pytest

from bandwidth_api import addresses, names
from bandwidth_api.plan import Mode
from bandwidth_api.policy import memory
from bandwidth_cli.objects import health, limits, policies
from bandwidth_cli.objects.manifest import Wanted
from bandwidth_cli.outcome import FailedError
from bandwidth_cli.verbs import lift, proposing, who, why
from unit.cli import samples

Json = dict[str, Any]
CLIENT = "203.0.113.10"
MADE = "fair-use-b215e08f71"  # the name that the policy fair-use has for it
ADDRESS = addresses.network(CLIENT)
WHY = "more than 40 Mbit over 300 s; 47.3 Mbit now on worker-1"


def policy(name: str = "fair-use", *, status: Json | None = None, safety: Json | None = None, **spec: Any) -> Json:
    """A policy that acts."""
    then = {"mode": "Enforce", "steps": [{"rate": "10Mbit", "ttlSeconds": 600}, {"rate": "5Mbit", "ttlSeconds": 3600}]}
    ready = {"type": "Ready", "status": "True", "reason": "Ready", "message": ""}
    return {
        "metadata": {"name": name},
        "spec": {"when": {"rate": {"above": "40Mbit"}}, "then": then, "safety": safety or {}, **spec},
        "status": {"conditions": [ready], **(status or {})},
    }


def made(name: str = MADE, client: str = CLIENT, **spec: Any) -> limits.Limit:
    """A limit as the policy fair-use makes one, with an end in ten minutes."""
    metadata = {"labels": {names.POLICY: "fair-use"}, "annotations": {names.POLICY_STEP: "1"}}
    words = {"expiresAt": "2030-01-01T00:20:00Z", "reason": f"policy fair-use, step 1 of 2: {WHY}", **spec}
    return samples.limit(name, [client], "10Mbit", metadata=metadata, **words)


def stands(item: Json, *touching: limits.Limit) -> policies.Stands:
    return policies.stands(policies.read(item), ADDRESS, touching, samples.NOW)


def page(known: list[Json], *existing: limits.Limit, address: str = CLIENT) -> list[str]:
    """What `why` prints of a client."""
    read = policies.in_order(known)
    return why.lines(why.gather(addresses.network(address), existing, read, samples.NOW), samples.NOW)


@pytest.mark.parametrize(
    ("limit", "maker"),
    [
        (made(), "fair-use"),
        (made("a-copy"), ""),  # under another name
        (made(client="203.0.113.11"), ""),  # the name is that of another client
        (made(mode="Observe"), ""),
        (made(expiresAt=None), ""),
        (samples.limit(MADE, [CLIENT]), ""),  # without the label
    ],
)
def test_a_limit_is_a_policys_as_the_operator_knows_it(limit: limits.Limit, maker: str) -> None:
    """By its label, its one client, the name made of both, and an end: all others are a person's."""
    assert policies.maker(limit) == maker


@pytest.mark.parametrize(
    ("item", "touching", "obstacle", "says"),
    [
        (policy(safety={"exempt": ["203.0.113.0/24"]}), [], "Exempt", "203.0.113.0/24 is exempt"),
        (policy(), [samples.limit("office", ["203.0.113.0/24"])], "PersonsLimit", "office, which a person wrote"),
        (policy(), [samples.limit("off", [CLIENT], mode="Disabled")], "PersonsLimit", "off, which a person wrote"),
        (policy("other"), [made()], "OtherPolicy", "the policy fair-use limits it"),
        (
            policy(status={"remembered": [f"{CLIENT} 1 {memory.PARDONED} {round(samples.NOW) + 7200}"]}),
            [],
            "Pardoned",
            "left alone for another 120m",
        ),
    ],
    ids=["exempt", "a person's network", "a person's, switched off", "another policy", "pardoned"],
)
def test_what_stands_in_the_way_is_told(item: Json, touching: list[limits.Limit], obstacle: str, says: str) -> None:
    """In the words of the status, also before the policy has met the client."""
    found = stands(item, *touching)
    assert (found.state, found.obstacle) == ("Blocked", obstacle)
    assert says in found.text


def test_what_is_over_stands_in_nobodys_way() -> None:
    """A person's limit that has ended, and a pardon that has."""
    ended = samples.limit("was", [CLIENT], expiresAt="2030-01-01T00:05:00Z")
    pardoned = [f"{CLIENT} 1 {memory.PARDONED} {round(samples.NOW) - 1}"]
    assert stands(policy(status={"remembered": pardoned}), ended).state == "Watched"


def test_who_is_limited_by_the_status_alone_is_watched() -> None:
    """Its limit is gone, and what that means the operator has not said yet: no limit ended at a step."""
    limited = [f"{CLIENT} 1 {memory.LIMITED} {round(samples.NOW) + 600}"]
    found = stands(policy(status={"remembered": limited}))
    assert found == stands(policy())


def test_who_is_not_watched_and_what_is_switched_off_is_no_obstacle() -> None:
    """By the policy's networks, its mode, and the installation."""
    assert stands(policy(watch={"clients": ["198.51.100.0/24"]})).state == "NotWatched"
    assert stands(policy(then={"mode": "Disabled"})).state == "Off"
    assert "it slows nobody" in stands(policy(then={"steps": []})).text  # Observe, where it begins
    off = {"type": "Ready", "status": "False", "reason": "Disabled", "message": "set policies.enabled"}
    assert stands(policy(status={"conditions": [off]})) == policies.Stands("Off", "", "set policies.enabled")


def test_the_step_that_would_follow_is_told() -> None:
    """Of a client that is remembered, and never beyond the last one."""
    for step in (1, 2):
        found = stands(policy(status={"remembered": [f"{CLIENT} {step} {memory.ENDED} {round(samples.NOW) + 7200}"]}))
        assert found.state == "Watched"
        assert "is step 2, 5Mbit" in found.text


def test_a_group_is_one_client() -> None:
    """An address of it stands for all: what is exempt in it, and the limit that holds it."""
    item = policy(safety={"exempt": ["2001:db8:7::1/128"]})
    assert policies.read(item).client(addresses.network("2001:db8:7::2")) == addresses.network("2001:db8:7::/64")
    found = policies.stands(policies.read(item), addresses.network("2001:db8:7::2"), [], samples.NOW)
    assert found.obstacle == "Exempt"


def test_why_a_client_is_slowed_and_when_it_is_let_go() -> None:
    """The policy, the figures, what lifts it, what follows, and what a pardon is."""
    told = page([policy()], made())
    assert (
        told[0] == f"{CLIENT} is slowed by the policy fair-use: 10Mbit by {MADE}, step 1 of 2, for another 10m at most"
    )
    assert told[1].endswith(WHY)
    assert "less than 5 Mbit for 5m" in told[2]
    assert "becomes 5Mbit for 60m" in told[3]
    assert told[4].endswith("then it is left alone for 24h")


def test_decisions_about_others_are_not_shown() -> None:
    """And those about this one are, with what stood in the way."""
    status = {
        "decisions": [
            {"time": samples.CREATED, "client": CLIENT, "decision": "Blocked", "why": WHY, "obstacle": "Maximum",
             "message": "10 clients are limited already"},
            {"time": samples.CREATED, "client": "198.51.100.1", "decision": "Limited", "why": "else", "observed": True},
        ]
    }  # fmt: skip
    text = "\n".join(page([policy(status=status)]))
    assert "Blocked Maximum" in text
    assert "10 clients are limited already; more than 40 Mbit" in text
    assert "198.51.100.1" not in text
    assert "198.51.100.1   Limited (observed)" in "\n".join(
        why.overview(policies.in_order([policy(status=status)]), samples.NOW)
    )


def test_a_persons_limit_is_the_answer_where_no_policy_acts() -> None:
    """With its reason; and that there is no policy at all is said with where to begin."""
    person = samples.limit("office", ["203.0.113.0/24"], reason="ticket 4711")
    assert page([policy()], person)[0].endswith("no policy does anything beside it: ticket 4711")
    assert "there is no policy" in page([])[0]
    assert why.overview([], samples.NOW) == [why.NONE]


def test_what_is_asked_for_by_name() -> None:
    """A limit, also one that has ended, and otherwise what was probably meant."""
    status = {"decisions": [{"client": "198.51.100.1", "decision": "Lifted", "why": "x", "limit": "fair-use-gone"}]}
    known = policies.in_order([policy(status=status)])
    assert why.meant(MADE, [made()], known) == ADDRESS
    assert why.meant(f"{limits.FULL_NAME}/{MADE}", [made()], known) == ADDRESS
    assert why.meant("fair-use-gone", [made()], known) == addresses.network("198.51.100.1")
    with pytest.raises(FailedError, match=f"did you mean {MADE}"):
        why.meant("fair-use-b215e08f", [made()], known)
    with pytest.raises(FailedError, match="fair-use is a policy"):
        why.meant("fair-use", [], known)


def test_lifting_a_made_limit_says_that_it_pardons_and_for_how_long() -> None:
    """By the memory of the policy, but never less than the limit would have lasted; of a person's limit nothing."""
    short = policies.read(policy(then={"mode": "Enforce", "steps": [], "memorySeconds": 60}))
    assert "for 10m;" in lift.pardons([made()], [short], samples.NOW)[0]
    assert "for 24h;" in lift.pardons([made()], policies.in_order([policy()]), samples.NOW)[0]
    assert "for probably 24h;" in lift.pardons([made()], [], samples.NOW)[0]
    assert lift.pardons([samples.limit("mine", [CLIENT])], [short], samples.NOW) == []


def test_who_names_the_policy() -> None:
    """Of a limit that one made, and where to ask further."""
    found = who.Found(ADDRESS, (made(),), (), ())
    assert f"by {MADE} (made by the policy fair-use; kubectl cbl why {MADE})" in who.sentence(found, samples.NOW)
    assert who.as_json(found, samples.NOW)["limits"][0]["policy"] == "fair-use"


def test_json_has_what_the_page_has() -> None:
    """For programs: state, obstacle, decisions, the limits with their policy."""
    found = why.gather(ADDRESS, [made()], policies.in_order([policy(), policy("other")]), samples.NOW)
    told = why.as_json(found, samples.NOW)
    assert told["limits"] == [
        {"name": MADE, "policy": "fair-use", "step": 1, "rateBitsPerSecond": 10_000_000, "endsInSeconds": 600,
         "why": f"policy fair-use, step 1 of 2: {WHY}"}
    ]  # fmt: skip
    assert [(each["name"], each["state"], each["obstacle"]) for each in told["policies"]] == [
        ("fair-use", "Limited", None),
        ("other", "Blocked", "OtherPolicy"),
    ]


def test_a_limit_of_ones_own_ends_what_a_policy_made() -> None:
    """So nothing wins over it, and who only observes is told that the client is slowed by nobody then."""
    wanted = Wanted((ADDRESS,), 2_000_000, None, "ticket", Mode.OBSERVE)
    effects, warnings = proposing._meets(wanted, [made()], samples.NOW)
    assert (len(effects), warnings) == (1, [])
    assert effects[0].startswith(
        f"the policy fair-use lifts {MADE} ({CLIENT}, 10Mbit): whomever a person's limit names"
    )
    assert proposing._meets(wanted, [made(client="203.0.113.11")], samples.NOW) == ([], [])


def test_status_tells_of_policies_that_do_not_do_what_they_say() -> None:
    """Each thing once, also where it is why the policy is not Ready; of one that is switched off nothing."""
    silent = {"type": "NotMeasuring", "status": "True", "reason": "NotMeasuring", "message": "worker-1 is silent"}
    unready = {"type": "Ready", "status": "False", "reason": "NotMeasuring", "message": "worker-1 is silent"}
    known = policies.in_order([policy(status={"conditions": [silent, unready]}), policy("fine")])
    assert [each.what for each in health.of_policies(known)] == ["policy fair-use: NotMeasuring: worker-1 is silent"]
    off = {"type": "Ready", "status": "False", "reason": "Disabled", "message": "set policies.enabled"}
    idle = [
        policy(status={"conditions": [off]}),
        policy("off", status={"conditions": [off]}, then={"mode": "Disabled"}),
    ]
    assert [each.what for each in health.of_policies(policies.in_order(idle))] == [
        "policy fair-use: Disabled: set policies.enabled"
    ]
