"""`run` as a service: it follows the files, outlives nothing it should not, and is alone."""

from __future__ import annotations

import http.client
import json
import signal
import time

import pytest

from bandwidth_agent.kernel import model
from bandwidth_lab import Network
from bandwidth_lab.node import whole_second
from kernel.programs.conftest import Host

pytestmark = pytest.mark.root


def test_a_change_of_the_files_is_in_the_kernel_long_before_any_timer(host: Host) -> None:
    """Added, edited, moved into place, made invalid, deleted."""
    host.start("--resync", "600")
    host.limit("first", ["203.0.113.11"], "1Mbit")
    host.until_rate("203.0.113.11", 1_000_000)
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    host.until_rate("203.0.113.10", 5_000_000)
    (host.manifests / "mail.yaml").write_text((host.manifests / "mail.yaml").read_text().replace("5Mbit", "6Mbit"))
    host.until_rate("203.0.113.10", 6_000_000)
    (host.manifests / "mail.yaml").write_text("spec: [")
    host.until(lambda: "KeptPrevious" in host.log.read_text())
    assert host.rate_of("203.0.113.10") == 6_000_000
    host.lift("mail")
    host.until_rate("203.0.113.10", None)
    assert host.stop() == 0


def test_a_limit_ends_when_its_time_is_over(host: Host) -> None:
    """By the clock, without any other event."""
    host.start("--resync", "600")
    host.until(lambda: "started" in host.log.read_text())
    host.limit_until(whole_second(3600), "mail", ["203.0.113.10"], "5Mbit")
    host.until_rate("203.0.113.10", 5_000_000)
    end = whole_second(4)  # from when it is in force: how long that takes is not what is tested
    host.limit_until(end, "mail", ["203.0.113.10"], "5Mbit")
    host.until_rate("203.0.113.10", None)
    assert time.time() >= end.timestamp()
    host.until(lambda: host.kernel() == model.EMPTY)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_end_of_the_agent_leaves_the_limits(host: Host, number: signal.Signals) -> None:
    """However it ends; and the next one makes no change."""
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    process = host.start()
    host.until_rate("203.0.113.10", 5_000_000)
    host.until(lambda: host.rate_of("203.0.113.10") == 5_000_000)
    process.send_signal(number)
    assert process.wait(timeout=20) == (-9 if number == signal.SIGKILL else 0)
    assert host.rate_of("203.0.113.10") == 5_000_000
    assert host.once()["changes"] == 0


def test_there_is_one_agent_in_a_namespace(host: Host, network: Network) -> None:
    """A second one, and a cleanup, are refused with the first one's process; to look is always allowed."""
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    process = host.start()
    host.until_rate("203.0.113.10", 5_000_000)
    for words in (("run",), ("run", "--once"), ("cleanup",)):
        done = host.call(*words)
        assert done.returncode == 1
        assert f"(process {process.pid})" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert host.call("plan", "--exit-code").returncode == 0
    assert len(host.show()["limits"]) == 1
    host.kill()
    assert host.call("cleanup").returncode == 0


def test_logs_of_a_service_are_json_lines(host: Host) -> None:
    """What goes into a file or the journal can be read by programs, each line by itself."""
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    host.limit("odd", ["203.0.113.10"], "x")
    host.start()
    host.until_rate("203.0.113.10", 5_000_000)
    host.stop()
    lines = [json.loads(line) for line in host.log.read_text().splitlines()]
    assert all({"level", "message", "timestamp"} <= line.keys() for line in lines)
    assert any(line.get("limit") == "odd" and line["level"] == "warning" for line in lines)


def test_metrics_and_probes_are_served(host: Host) -> None:
    """Where they were asked for, with the counters of the kernel."""
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    host.start("--metrics-address", "127.0.0.1:9100")

    def get(path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", 9100, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        except ConnectionRefusedError:
            return ""
        finally:
            connection.close()

    host.until(lambda: host.namespace.call(lambda: get("/readyz")) == "ok\n")
    assert host.namespace.call(lambda: get("/healthz")) == "ok\n"
    text = host.namespace.call(lambda: get("/metrics"))
    assert 'client_bandwidth_limit_rate_bits_per_second{limit="mail",client=""} 5000000' in text
    assert 'client_bandwidth_limits{state="programmed"} 1.0' in text
    host.stop()


def test_a_directory_that_goes_away_lifts_nothing(host: Host) -> None:
    """And when it is back, it counts again."""
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    host.start()
    host.until_rate("203.0.113.10", 5_000_000)
    away = host.manifests.with_name("away")
    host.manifests.rename(away)
    host.until(lambda: "until it is back" in host.log.read_text())
    assert host.rate_of("203.0.113.10") == 5_000_000
    host.manifests.mkdir()
    host.limit("other", ["203.0.113.11"], "1Mbit")
    host.until_rate("203.0.113.11", 1_000_000)
    host.until_rate("203.0.113.10", None)
    host.stop()
