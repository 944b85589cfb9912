"""How the objects of the chart are called, beside those of other people in the same namespace and cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from unit.chart import renders

OURS = re.compile(r"client-bandwidth(-[a-z]+)*|[a-z]+\.clientbandwidth\.io")


@pytest.mark.parametrize("name", renders.NAMES)
def test_every_name_says_whose_it_is(name: str) -> None:
    """No object is called as one of another release could be called, such as `agent`."""
    for each in renders.objects(name):
        assert OURS.fullmatch(each["metadata"]["name"]), f"{each['kind']}/{each['metadata']['name']}"


@pytest.mark.parametrize("name", renders.NAMES)
def test_no_name_stands_twice(name: str) -> None:
    """Objects of one kind have different names."""
    named = [(each["kind"], each["metadata"]["name"]) for each in renders.objects(name)]
    assert len(named) == len(set(named))


def accounts(of: Any) -> Iterator[str]:
    """Each service account that a pod below runs as."""
    if isinstance(of, dict):
        if "serviceAccountName" in of:
            yield of["serviceAccountName"]
        for below in of.values():
            yield from accounts(below)
    elif isinstance(of, list):
        for below in of:
            yield from accounts(below)


@pytest.mark.parametrize("name", renders.NAMES)
def test_accounts_are_made_used_and_bound(name: str) -> None:
    """Pods run as accounts that the chart makes, roles are bound to these alone, and none is made for nothing."""
    documents = renders.objects(name)
    made = {each["metadata"]["name"] for each in documents if each["kind"] == "ServiceAccount"}
    bound = {who["name"] for each in documents for who in each.get("subjects", ())}
    workloads = [each for each in documents if each["kind"] in ("DaemonSet", "Deployment", "Job", "Pod")]
    assert made == bound == set(accounts(workloads)) == {"client-bandwidth-agent", "client-bandwidth-operator"}
