"""The command line: what it accepts, what it refuses, and how."""

from __future__ import annotations

import json
import pathlib
import re

import pytest

from bandwidth_agent import cli, settings
from bandwidth_agent.commands import options
from bandwidth_api.conditions import Reason
from unit import documents

PROGRAMS = ("run", "plan", "show", "cleanup")
CLI = documents.REFERENCE / "cli.md"


def parsed(*words: str) -> options.Options:
    return options.parsed(cli.parser().parse_args(words))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The words on stderr of a call that is refused."""
    with pytest.raises(SystemExit) as caught:
        cli.parser().parse_args(words)
    assert caught.value.code == cli.USAGE_ERROR
    return capsys.readouterr().err


def test_defaults_are_those_of_the_settings() -> None:
    """Who gives no option gets what the settings say."""
    chosen = parsed("run", "--manifests", "/m")
    assert chosen.settings == settings.Settings()
    assert chosen.manifests == pathlib.Path("/m")
    assert chosen.state_dir == pathlib.Path("/var/lib/client-bandwidth")
    assert chosen.metrics_address is None
    assert options.HOSTNAME_LABEL in chosen.node_labels


def test_every_option_of_run_arrives() -> None:
    """No option is parsed and forgotten."""
    chosen = parsed(
        *("run", "--manifests", "m", "--once", "-o", "json", "--interface", "eth*", "--interface", "wg0"),
        *("--placement", "ifb", "--classifier", "priority", "--mark-mask", "0xff00", "--redirect-mark", "0x80"),
        *("--protected", "192.0.2.0/24", "--protected", "2001:db8::1", "--node-label", "zone=a=b"),
        *("--iptables-backend", "legacy", "--state-dir", "/s", "--metrics-address", "[::1]:9100"),
        *("--metrics-max-limits", "7", "--log-format", "json", "--log-level", "debug", "--resync", "2.5"),
        *("--kubeconfig", "k", "--node-name", "worker-3", "--report-interval", "60"),
    )
    assert chosen.settings == settings.Settings(
        placement=settings.PlacementSetting.IFB,
        classifier=settings.ClassifierSetting.PRIORITY,
        interfaces=("eth*", "wg0"),
        mark_mask=0xFF00,
        redirect_mark=0x80,
        protected=("192.0.2.0/24", "2001:db8::1/128"),
    )
    assert chosen.node_labels["zone"] == "a=b"
    assert chosen.metrics_address == options.Address("::1", 9100)
    assert (chosen.once, chosen.json, chosen.iptables_backend) == (True, True, "legacy")
    assert (chosen.metrics_max_limits, chosen.resync_seconds) == (7, 2.5)
    assert (chosen.log_format, chosen.log_level, chosen.state_dir) == ("json", "debug", pathlib.Path("/s"))
    assert (chosen.kubeconfig, chosen.node_name) == (pathlib.Path("k"), "worker-3")
    assert chosen.report_interval_seconds == 60


def test_without_a_directory_the_limits_come_from_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """`run` alone is what a pod runs; which Node it is comes from its environment."""
    monkeypatch.setenv("NODE_NAME", "worker-3")
    chosen = parsed("run")
    assert chosen.manifests is None
    assert chosen.kubeconfig is None
    assert chosen.node_name == "worker-3"
    assert chosen.report_interval_seconds == 300


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_takes_the_options_of_the_shape(program: str) -> None:
    """--placement, --classifier, --interface and --state-dir are everywhere."""
    words = ["--manifests", "m"] if program in ("run", "plan") else []
    chosen = parsed(
        *(program, *words, "--placement", "interface", "--classifier", "mark", "--interface", "e", "--state-dir", "s")
    )
    assert chosen.command == program
    assert chosen.settings.placement is settings.PlacementSetting.INTERFACE
    assert chosen.state_dir == pathlib.Path("s")


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_explains_itself(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--help has examples and the exit codes."""
    with pytest.raises(SystemExit) as caught:
        cli.parser().parse_args([program, "--help"])
    assert caught.value.code == 0
    told = capsys.readouterr().out
    assert "examples:" in told
    assert "exit codes:" in told


def test_the_first_help_shows_a_whole_limit_that_is_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    """What the help says to write can be written."""
    from bandwidth_agent.source import manifest
    from bandwidth_api import limit

    with pytest.raises(SystemExit):
        cli.parser().parse_args(["--help"])
    told = capsys.readouterr().out
    begin, end = told.index("  apiVersion:"), told.index("  bandwidth-agent plan")
    [document] = manifest.read_yaml(manifest.Chunk(1, told[begin:end]))
    assert isinstance(limit.parse(document.value), limit.Limit)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "required"),
        (("plan",), "--manifests"),
        (("fly",), "invalid choice"),
        (("run", "--manifest", "m"), "--manifest m"),
        (("run", "--report-interval", "1.5"), "seconds"),
        (("run", "--report-interval", "0"), "seconds"),
        (("show", "--bogus"), "--bogus"),
        (("show", "--mark-mask", "0xf0f0"), "contiguous"),
        (("show", "--mark-mask", "0x3"), "at least"),
        (("show", "--mark-mask", "many"), "no number"),
        (("show", "--redirect-mark", "0x3"), "single bit"),
        (("show", "--protected", "10.0.0.1/8"), "host bits"),
        (("show", "--protected", "localhost"), "no address"),
        (("show", "--node-label", "x"), "KEY=VALUE"),
        (("run", "--manifests", "m", "--metrics-address", "9100"), "HOST:PORT"),
        (("run", "--manifests", "m", "--metrics-address", "::1:9100"), "HOST:PORT"),
        (("run", "--manifests", "m", "--metrics-address", "h:99999"), "HOST:PORT"),
        (("run", "--manifests", "m", "--resync", "0"), "seconds"),
        (("run", "--manifests", "m", "--metrics-max-limits", "-1"), "whole number"),
        (("show", "--interval", "x"), "seconds"),
        (("plan", "--manifests", "m", "-o", "yaml"), "invalid choice"),
    ],
)
def test_a_wrong_call_is_refused_with_64(words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Never with 2, which `plan --exit-code` uses for changes; and what is wrong is said on stderr."""
    assert says in refused(capsys, *words)


@pytest.mark.parametrize("text", ["0xffff0000", "0x7fff", "0xff", "65535", "0xffffffff"])
def test_masks_that_are_contiguous_are_taken(text: str) -> None:
    """In whatever base they are written."""
    assert options.mark_mask(text) == int(text, 0)


def test_addresses_to_listen_on() -> None:
    """A host, a bracketed IPv6 address, or every address."""
    assert options.address("127.0.0.1:80") == ("127.0.0.1", 80)
    assert options.address("[::]:80") == ("::", 80)
    assert options.address(":80") == ("", 80)


def test_every_option_is_documented_and_no_other() -> None:
    """docs/reference/cli.md has each option of each program of the agent, under the programs that take it."""
    of_agent, _, _ = CLI.read_text().partition("bandwidth-operator\n")
    rows = re.findall(r"^\| `(-[^|]*)\| ([^|]*) \|", of_agent.replace("\\|", "/"), re.MULTILINE)
    told = {
        option: set(PROGRAMS) if programs == "all" else {word.strip() for word in programs.split(",")}
        for options_, programs in rows
        for option in re.findall(r"(?<![\w-])--?[a-z-]+", options_)
    }
    taken: dict[str, set[str]] = {}
    actions = cli.parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr, index]
    for program, parser in actions.items():  # type: ignore[union-attr]
        for action in parser._actions:
            for option in set(action.option_strings) - {"-h", "--help", "--output"}:
                taken.setdefault(option, set()).add(program)
    assert told == taken


def test_the_documented_report_is_one() -> None:
    """The example of docs/reference/report.md is as the schema says."""
    [example] = re.findall(r"```json\n(.*?)```", (documents.REFERENCE / "report.md").read_text(), re.DOTALL)
    documents.check("report", json.loads(example))


def test_documented_reasons_exist() -> None:
    """What docs/reference/report.md says of `failing[].reason` are words that can stand there."""
    text = (documents.REFERENCE / "report.md").read_text()
    cells = re.findall(r"^\| (`[A-Z][^|]*`) \|", text, re.MULTILINE)
    told = {word for cell in cells for word in re.findall(r"`(\w+)`", cell)}
    assert len(told) > 10
    assert told <= {reason.value for reason in Reason}
