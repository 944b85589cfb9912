"""The command line: what it accepts, what it refuses, and how."""

from __future__ import annotations

import json
import pathlib
import re

import pytest

from bandwidth_agent import cli, settings
from bandwidth_agent.commands import options
from bandwidth_api.conditions import Reason
from bandwidth_api.plan import PortRange, Prefix
from bandwidth_runtime import arguments
from bandwidth_runtime.web.address import Address
from unit import documents

PROGRAMS = ("run", "plan", "show", "top", "who", "cleanup")  # "all" in docs/reference/cli.md: those that shape or look
CLI = documents.REFERENCE / "cli.md"


def parsed(*words: str) -> options.Options:
    return options.parsed(cli.parser().parse_args(words))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The words on stderr of a call that is refused."""
    with pytest.raises(SystemExit) as caught:
        cli.parser().parse_args(words)
    assert caught.value.code == arguments.USAGE_ERROR
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
    assert chosen.metrics_address == Address("::1", 9100)
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
    needed = {"run": ["--manifests", "m"], "plan": ["--manifests", "m"], "who": ["203.0.113.7"]}
    words = needed.get(program, [])
    chosen = parsed(
        *(program, *words, "--placement", "interface", "--classifier", "mark", "--interface", "e", "--state-dir", "s")
    )
    assert chosen.command == program
    assert chosen.settings.placement is settings.PlacementSetting.INTERFACE
    assert chosen.state_dir == pathlib.Path("s")


def test_series_of_clients_are_off_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option or the environment asks for some; more than ten are refused."""
    monkeypatch.delenv("METRICS_TOP_CLIENTS", raising=False)
    assert (parsed("run").metrics_top_clients, parsed("run").metrics_top_clients_whole) == (0, False)
    chosen = parsed("run", "--metrics-top-clients", "10", "--metrics-top-clients-whole")
    assert (chosen.metrics_top_clients, chosen.metrics_top_clients_whole) == (10, True)
    monkeypatch.setenv("METRICS_TOP_CLIENTS", "3")
    assert parsed("run").metrics_top_clients == 3
    for wrong in ("11", "-1", "many"):
        monkeypatch.setenv("METRICS_TOP_CLIENTS", wrong)
        with pytest.raises(SystemExit):
            parsed("run")


def test_capacities_are_rates_of_interfaces(capsys: pytest.CaptureFixture[str]) -> None:
    """GLOB=RATE, in the order given; a rate without a unit and a missing name are refused with what to write."""
    assert parsed("run").uplink_capacity == ()
    chosen = parsed("run", "--uplink-capacity", "eth0=1Gbit", "--uplink-capacity", "*=100Mbit")
    assert chosen.uplink_capacity == (("eth0", 1_000_000_000), ("*", 100_000_000))
    assert "such as 5Mbit" in refused(capsys, "run", "--uplink-capacity", "eth0=1000")
    for wrong in ("1Gbit", "=1Gbit"):
        assert "GLOB=RATE" in refused(capsys, "run", "--uplink-capacity", wrong)


def test_who_takes_an_address_and_a_port() -> None:
    """An address or a network, in any unambiguous form, and a port as clients dial it."""
    chosen = parsed("who", "203.0.113.7", "--seconds", "10")
    assert (chosen.address, chosen.port, chosen.seconds) == (Prefix(4, 0xCB007107, 32), None, 10.0)
    assert parsed("who", "203.0.113.9/24").address == Prefix(4, 0xCB007100, 24)
    assert parsed("who", "::ffff:203.0.113.7").address == Prefix(4, 0xCB007107, 32)
    assert parsed("who", "2001:DB8::7").address == Prefix(6, 0x20010DB8 << 96 | 7, 128)
    assert parsed("who", "203.0.113.7", "--port", "993").port == PortRange("TCP", 993, 993)
    assert parsed("who", "203.0.113.7", "--port", "53/udp").port == PortRange("UDP", 53, 53)
    assert parsed("who", "203.0.113.7").seconds == options.WHO_SECONDS


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("mail.example",), "no IPv4 or IPv6 address"),
        (("fe80::1%eth0",), "no IPv4 or IPv6 address"),
        ((), "ADDRESS"),
        (("203.0.113.7", "--port", "993/sctp"), "no port such as 993/tcp"),
        (("203.0.113.7", "--port", "0"), "no port such as 993/tcp"),
        (("203.0.113.7", "--port", "65536/tcp"), "no port such as 993/tcp"),
        (("203.0.113.7", "--seconds", "61"), "between 0.1 and 60"),
    ],
)
def test_who_says_what_is_wrong(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str) -> None:
    """A wrong address, port or time is an error that says what to write."""
    assert told in refused(capsys, "who", *words)


def test_top_takes_what_one_reading_is_to_be() -> None:
    """Seconds, form, rows, networks, order, and the directory by either name."""
    chosen = parsed("top", "--once", "2.5", "-o", "csv", "--top", "5", "--prefix", "--sort", "since", "--limits", "d")
    assert (chosen.once_seconds, chosen.output, chosen.top, chosen.prefix, chosen.sort) == (
        2.5,
        "csv",
        5,
        True,
        "since",
    )
    assert chosen.manifests == parsed("top", "--manifests", "d").manifests == pathlib.Path("d")
    assert parsed("top").once_seconds is None


@pytest.mark.parametrize("program", [*PROGRAMS, "install-unit"])
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
    from bandwidth_agent.limits.directory import manifest
    from bandwidth_api.crds import limit

    with pytest.raises(SystemExit):
        cli.parser().parse_args(["--help"])
    told = capsys.readouterr().out
    begin, end = told.index("  apiVersion:"), told.index("  bandwidth-agent top")
    [document] = manifest.read_yaml(manifest.Chunk(1, told[begin:end]))
    assert isinstance(limit.parse(document.value), limit.Limit)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "name a program: run, plan, show, top, who, cleanup"),
        (("plan",), "--manifests"),
        (("fly",), "'fly' is none of run, plan, show, top, who, cleanup, install-unit\n"),
        (("tpo",), "did you mean top?"),
        (("--hepl",), "there is no option --hepl; did you mean --help?"),
        (("run", "--manifest", "m"), "there is no option --manifest; did you mean --manifests?"),
        (("top", "--ones=10"), "there is no option --ones; did you mean --once?"),
        (("top", "10"), "bandwidth-agent top: error: '10' is one word too many"),
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
        (("top", "--once", "0"), "between 1 and 3600"),
        (("top", "--once", "10", "-o", "yaml"), "'yaml' is none of text, json, csv"),
        (("top", "--once", "10", "-o", "jsn"), "did you mean json?"),
        (("top", "--once", "10", "--top", "0"), "number of rows"),
        (("top", "--once", "10", "--sort", "rate"), "none of 2s, 10s, 60s, since"),
        (("plan", "--manifests", "m", "-o", "yaml"), "none of text, json"),
        (("who",), "ADDRESS"),
        (("who", "example.com"), "names are not looked up"),
        (("who", "203.0.113.7:993"), "write 203.0.113.7"),
        (("who", "[2001:db8::7]:993"), "write 2001:db8::7"),
        (("who", "fe80::1%eth0"), "write fe80::1"),
        (("who", "203.0.113.7/33"), "a number up to 32"),
    ],
)
def test_a_wrong_call_is_refused_with_64(words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Never with 2, which `plan --exit-code` uses for changes; what is wrong is the first thing that stderr says."""
    told = refused(capsys, *words)
    assert says in told
    assert "error: " in told.splitlines()[0]
    assert len(told.splitlines()) == 2


def test_the_version_is_told_without_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    """As every program does it."""
    with pytest.raises(SystemExit) as caught:
        cli.parser().parse_args(["--version"])
    assert caught.value.code == 0
    assert re.fullmatch(r"bandwidth-agent \d+\.\d+\S*\n", capsys.readouterr().out)


@pytest.mark.parametrize("text", ["203.0.113.7", " 203.0.113.7", "203.0.113.7/32", "::ffff:203.0.113.7"])
def test_who_takes_an_address_in_any_form(text: str) -> None:
    """As programs, logs and people write it; of a network the host bits do not count."""
    assert parsed("who", text).address == Prefix(4, 0xCB007107, 32)
    assert parsed("who", "[2001:db8::7]").address == Prefix(6, 0x20010DB8 << 96 | 7, 128)
    assert parsed("who", "203.0.113.7/24").address == Prefix(4, 0xCB007100, 24)


def test_a_form_of_one_reading_needs_a_reading(capsys: pytest.CaptureFixture[str]) -> None:
    """A screen has no JSON: nothing is shown, and the missing option is named."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["top", "-o", "json"])
    assert caught.value.code == arguments.USAGE_ERROR
    assert "give --once SECONDS too" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0xffff0000", "0x7fff", "0xff", "65535", "0xffffffff"])
def test_masks_that_are_contiguous_are_taken(text: str) -> None:
    """In whatever base they are written."""
    assert options.mark_mask(text) == int(text, 0)


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
