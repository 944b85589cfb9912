"""The page for those who have a tc script: the script that it shows works, and the way from there to the file holds."""

from __future__ import annotations

import pathlib
import re

import pytest
import yaml

from kernels.forked import ForkedNode

pytestmark = [pytest.mark.root, pytest.mark.kernels]

PAGE = (pathlib.Path(__file__).resolve().parents[2] / "docs/from-a-tc-script.md").read_text()
SCRIPT, MASKED = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
(LIMIT,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_file_takes_over_from_the_script(node: ForkedNode) -> None:
    """With masked marks both hold, through an ifb beside the root; without the script the limit is as it was."""
    node.namespace.run(["sh", "-e"], stdin=SCRIPT)
    assert "rate 40Mbit" in node.namespace.run(["tc", "class", "show", "dev", "eth0", "classid", "1:20"]).stdout
    (node.manifests / "heavy-mirror.yaml").write_text(LIMIT)
    node.namespace.run(["sh", "-e"], stdin=MASKED)
    report = node.once()
    assert "written after ours" not in str(report)
    assert report["limits"]["programmed"] == 1
    assert [each["placement"] for each in report["interfaces"]] == ["ifb"]
    clients = yaml.safe_load(LIMIT)["spec"]["clients"]
    for client in (clients[0], clients[-1]):  # one of each family
        assert node.rate_of(client) == 40_000_000

    node.namespace.run(
        [
            *("sh", "-ec"),
            "iptables -t mangle -D POSTROUTING 2; ip6tables -t mangle -D POSTROUTING 2; "
            "ipset destroy mirror4; ipset destroy mirror6; tc qdisc del dev eth0 root",
        ]
    )
    assert node.once()["changes"] == 0
    node.cleanup()
