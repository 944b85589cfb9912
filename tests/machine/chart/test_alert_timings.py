"""When the chart's alerts begin and end, by Prometheus' own test of rules on what our programs would serve."""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from bandwidth_lab import prometheus

HERE = pathlib.Path(__file__).parent
TIMINGS = yaml.safe_load((HERE / "alert-timings.yaml").read_text())
UPLINK = "ClientBandwidthUplinkBusierThanUsual"
SUMMARY = "eth0 of worker-1 sends {}bit/s, more than twice what is usual at this hour."
LOOK = "kubectl cbl top --nodes worker-1"

MBIT = 1_000_000
STEP_MINUTES = 5
EVALUATED = "15m"  # less often than in an installation: a test of nine days takes a second or two
STEPS_OF_A_DAY = 24 * 60 // STEP_MINUTES
NOON = 12 * 60


@pytest.fixture(scope="module")
def promtool() -> pathlib.Path:
    try:
        return prometheus.programs() / "promtool"
    except LookupError as missing:
        pytest.skip(str(missing))


def passed(promtool: pathlib.Path, folder: pathlib.Path, rules: list[prometheus.Rule], tests: Any) -> None:
    """Have promtool test these rules."""
    (folder / "rules.yaml").write_text(yaml.safe_dump(prometheus.rule_file(rules)))
    (folder / "tests.yaml").write_text(yaml.safe_dump(tests))
    words = [promtool, "test", "rules", "tests.yaml"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def without_texts() -> list[prometheus.Rule]:
    """The rules without annotations, which promtool would compare too."""
    return [{key: value for key, value in rule.items() if key != "annotations"} for rule in prometheus.rules()]


def test_alerts_begin_and_end_in_time(promtool: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Not before its time, not for what is none of its business, and no longer than its cause."""
    passed(promtool, tmp_path, without_texts(), TIMINGS)


def test_each_alert_is_seen_quiet_then_firing_then_quiet() -> None:
    """No alert is left out of the file, and none could pass that never fires or never ends."""
    seen: dict[str, list[bool]] = {}
    for case in TIMINGS["tests"]:
        for at in case["alert_rule_test"]:
            seen.setdefault(at["alertname"], []).append(bool(at["exp_alerts"]))
    assert set(seen) == {rule["alert"] for rule in prometheus.rules() if "alert" in rule} - {UPLINK}
    for name, fired in seen.items():
        assert (fired[0], any(fired), fired[-1]) == (False, True, False), name


# ── an uplink busier than usual ────────────────────────────────────────────────────────────────────────────────


def sent(rate: Callable[[int], float], days: int) -> dict[str, str]:
    """The counter of an uplink that sends `rate(minute)` bits per second for so many days."""

    def values() -> Iterator[int]:
        total = 0.0
        for step in range(days * STEPS_OF_A_DAY):
            yield int(total)
            total += rate(step * STEP_MINUTES) * STEP_MINUTES * 60 / 8

    series = 'client_bandwidth_uplink_bytes_total{node="worker-1", interface="eth0", pod="a"}'
    return {"series": series, "values": " ".join(map(str, values()))}


def at_noon(minute: int) -> bool:
    return NOON - 60 <= minute % (24 * 60) < NOON + 120


def case(*series: dict[str, str], expected: dict[int, str | None], look: str = f"Who is sent that much: {LOOK}") -> Any:
    """One case of promtool: at these minutes the alert fires with this rate in its text, or (None) is quiet."""

    def alerts(rate: str | None) -> list[dict[str, Any]]:
        if rate is None:
            return []
        labels = {"severity": "warning", "node": "worker-1", "interface": "eth0"}
        return [{"exp_labels": labels, "exp_annotations": {"summary": SUMMARY.format(rate), "description": look}}]

    checks = [
        {"alertname": UPLINK, "eval_time": f"{minute}m", "exp_alerts": alerts(rate)}
        for minute, rate in expected.items()
    ]
    return {"interval": f"{STEP_MINUTES}m", "input_series": list(series), "alert_rule_test": checks}


def noon_of(day: int, minutes: int = 0) -> int:
    return day * 24 * 60 + NOON + minutes


def daily(minute: int) -> float:
    """80 Mbit/s around noon and 8 at all other hours, every day."""
    return 80 * MBIT if at_noon(minute) else 8 * MBIT


def from_(begin: int, end: int, rate: float, otherwise: Callable[[int], float]) -> Callable[[int], float]:
    return lambda minute: rate if begin <= minute < end else otherwise(minute)


CASES = {
    "twice its usual noon, until that ends": case(
        sent(from_(noon_of(8), noon_of(8, 60), 200 * MBIT, daily), 9),
        expected={noon_of(8, -10): None, noon_of(8, 40): "200M", noon_of(8, 110): None},
    ),
    "as much at night as otherwise at noon": case(
        sent(from_(noon_of(8, 600), noon_of(8, 700), 80 * MBIT, daily), 9),
        expected={noon_of(8, 590): None, noon_of(8, 640): "80M"},
    ),
    "each noon again": case(sent(daily, 9), expected={noon_of(8, 40): None, noon_of(5): None}),
    "a new installation, and then three days of it": case(
        sent(
            from_(noon_of(3, 600), noon_of(3, 700), 80 * MBIT, from_(noon_of(2), noon_of(2, 60), 900 * MBIT, daily)), 4
        ),
        expected={noon_of(0, 30): None, noon_of(2, 40): None, noon_of(3, 640): "80M"},
    ),
    "a backup each week": case(
        sent(from_(noon_of(8), noon_of(8, 60), 400 * MBIT, from_(noon_of(1), noon_of(1, 60), 400 * MBIT, daily)), 9),
        expected={noon_of(8, 40): None},
    ),
    "much more than nothing is still little": case(
        sent(from_(noon_of(8), noon_of(8, 60), 9 * MBIT, lambda minute: MBIT), 9), expected={noon_of(8, 40): None}
    ),
    "with the clients to look at": case(
        sent(from_(noon_of(8), noon_of(8, 60), 200 * MBIT, daily), 9),
        *(
            {
                "series": f'client_bandwidth_top_client_bits_per_second{{node="{node}", client="{client}"}}',
                "values": f"{rate * MBIT}x3000",
            }
            for node, client, rate in (
                ("worker-1", "203.0.113.0/24", 110),
                ("worker-1", "198.51.100.0/24", 40),
                ("worker-1", "2001:db8:7::/64", 60),
                ("worker-1", "192.0.2.0/24", 1),
                ("worker-2", "192.0.2.0/24", 500),
            )
        ),
        expected={noon_of(8, 40): "200M"},
        look="The clients that are sent most there: 203.0.113.0/24 110Mbit/s; 2001:db8:7::/64 60Mbit/s; "
        f"198.51.100.0/24 40Mbit/s; all of them: {LOOK}",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_uplink_is_compared_with_its_own_hours(promtool: pathlib.Path, tmp_path: pathlib.Path, name: str) -> None:
    """Busier than at this hour of other days and of a week ago; quiet without history; who is sent most in its text."""
    rules = [rule for rule in prometheus.rules() if "record" in rule or rule["alert"] == UPLINK]
    tests = {"rule_files": ["rules.yaml"], "evaluation_interval": EVALUATED, "tests": [CASES[name]]}
    passed(promtool, tmp_path, rules, tests)
