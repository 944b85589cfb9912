"""The metrics of the clients that are sent most: bounded, current, and sampled only while somebody scrapes."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from bandwidth_agent.kernel.fake import fake_kernel
from bandwidth_agent.reporting import client_series
from bandwidth_agent.sight import sight
from bandwidth_api import addresses


class Scraped:
    """A node in memory whose metrics are scraped; its sight turns when time passes."""

    def __init__(self, most: int = 10, *, whole: bool = False) -> None:
        self.kernel = fake_kernel.FakeKernel()
        self._runs: list[Callable[[], None]] = []
        self._sight = sight.Sight(
            self.kernel.sampler, lambda: ("eth0",), clock=lambda: self.kernel.at, start=self._runs.append
        )
        self.series = client_series.ClientSeries(
            self._sight.lease, most, whole=whole, monotonic=lambda: self.kernel.at, peers=self.kernel.peers
        )

    def send(self, client: str, packets: int) -> None:
        prefix = addresses.parse(client)
        self.kernel.transmit(prefix.family, prefix.network, "TCP", 443, "eth0", packets=packets)

    def pass_time(self, seconds: int, **packets: int) -> None:
        """So many seconds, in each of which a client is sent so many packets."""
        for _ in range(seconds):
            for client, count in packets.items():
                self.send(client, count)
            self.kernel.at += 1.0
            if self.kernel.windows:
                self._sight.turn()

    def scrape(self) -> dict[str, dict[str, float]]:
        """By metric the values by client, "" where there is no label."""
        return {
            family.name: {sample.labels.get("client", ""): sample.value for sample in family.samples}
            for family in self.series.collect()
        }

    def clients(self) -> dict[str, float]:
        return self.scrape().get("client_bandwidth_top_client_bits_per_second", {})


def test_nothing_is_sampled_before_the_first_scrape() -> None:
    """A node that nobody scrapes has no socket; the first scrape opens it and has no series yet."""
    node = Scraped()
    node.pass_time(5)
    assert not node.kernel.windows
    first = node.scrape()
    assert first == {"client_bandwidth_clients_sampled": {"": 1.0}, "client_bandwidth_clients_lost_samples": {"": 0.0}}
    assert len(node.kernel.windows) == 1


def test_networks_are_named_with_their_rates() -> None:
    """The clients of a /24 and of a /64 are one series; the sum is of all clients."""
    node = Scraped()
    node.scrape()
    sent = {"203.0.113.7": 1000, "203.0.113.8": 500, "2001:db8:7::1": 250, "2001:db8:7::2": 250}
    node.pass_time(20, **sent)
    found = node.scrape()
    assert found["client_bandwidth_top_client_bits_per_second"] == {
        "203.0.113.0/24": pytest.approx(1500 * 1500 * 8),
        "2001:db8:7::/64": pytest.approx(500 * 1500 * 8),
    }
    assert found["client_bandwidth_clients_bits_per_second"][""] == pytest.approx(2000 * 1500 * 8)
    assert found["client_bandwidth_clients_not_seen_ratio"][""] == 0.0


def test_whole_addresses_only_when_asked_for() -> None:
    """Personal data is given out on request alone."""
    node = Scraped(whole=True)
    node.scrape()
    node.pass_time(5, **{"203.0.113.7": 1000, "203.0.113.8": 500})
    assert node.clients().keys() == {"203.0.113.7", "203.0.113.8"}


def test_no_more_series_than_asked_for() -> None:
    """The largest have series; the sum is of all."""
    node = Scraped(3)
    node.scrape()
    node.pass_time(3, **{f"203.0.{i}.7": 100 + i for i in range(50)})
    assert node.clients().keys() == {f"203.0.{i}.0/24" for i in (47, 48, 49)}


@pytest.mark.parametrize(("steady", "most_in_an_hour"), [(3, 3), (0, 3 * 60)])
def test_series_stay_few_over_hours(steady: int, most_in_an_hour: int) -> None:
    """Four clients that change each minute: none has a series below steady larger ones, else three a minute do."""
    node = Scraped(3)
    node.scrape()
    largest = {f"198.51.{i}.7": 1000 + i for i in range(steady)}
    ever: set[str] = set()
    for minute in range(60):
        changing = {f"203.{minute}.{i}.7": 100 + i for i in range(4)}
        for _ in range(2):
            node.pass_time(30, **largest, **changing)
            now = node.scrape()
            named = now["client_bandwidth_top_client_bits_per_second"].keys()
            assert len(named) <= 3
            assert sum(map(len, now.values())) <= 3 + 4
            ever |= named
    assert len(ever) <= most_in_an_hour


def test_another_node_is_no_client() -> None:
    """What a node hands to the next hop of its routes is in the sum, and in no series, of a network neither."""
    node = Scraped()
    node.scrape()
    node.kernel.relayed[addresses.parse("10.244.1.0/24")] = addresses.parse("203.0.113.9")
    node.pass_time(5, **{"203.0.113.9": 1000, "203.0.113.7": 500})
    found = node.scrape()
    assert found["client_bandwidth_top_client_bits_per_second"] == {"203.0.113.0/24": pytest.approx(500 * 1500 * 8)}
    assert found["client_bandwidth_clients_bits_per_second"][""] == pytest.approx(1500 * 1500 * 8)
    node.kernel.read_error = errno.ENOBUFS
    node.pass_time(100, **{"203.0.113.9": 1000, "203.0.113.7": 500})
    assert node.clients() == {"203.0.113.0/24": pytest.approx(500 * 1500 * 8)}, "what was known last"


def test_a_client_that_left_has_no_series() -> None:
    """After a minute without it, it is gone; what came instead is there."""
    node = Scraped()
    node.scrape()
    node.pass_time(10, **{"203.0.113.7": 1000})
    assert node.clients().keys() == {"203.0.113.0/24"}
    for _ in range(7):
        node.pass_time(10, **{"198.51.100.7": 1000})
        last = node.clients()
    assert last.keys() == {"198.51.100.0/24"}


def test_it_is_sampled_for_as_long_as_somebody_scrapes() -> None:
    """Scrapes as rare as every two minutes keep it open, without a gap."""
    node = Scraped()
    node.scrape()
    for _ in range(4):
        node.pass_time(120, **{"203.0.113.7": 1000})
        assert node.clients()["203.0.113.0/24"] == pytest.approx(1000 * 1500 * 8)


def test_it_ends_when_nobody_scrapes_any_more() -> None:
    """Minutes after the last scrape the socket is closed; the next one begins again, and old samples are forgotten."""
    node = Scraped()
    node.scrape()
    node.pass_time(round(client_series.IDLE_SECONDS) + 70, **{"203.0.113.7": 1000})
    assert not node.kernel.windows
    assert node.clients() == {}
    node.pass_time(5, **{"198.51.100.7": 1000})
    assert node.clients().keys() == {"198.51.100.0/24"}


def test_lost_samples_are_counted_over_pauses() -> None:
    """The counter does not go back when sampling begins again."""
    node = Scraped()
    node.scrape()
    (window,) = node.kernel.windows
    window.crowd("eth0", 7)  # type: ignore[attr-defined]
    node.pass_time(2)
    assert node.scrape()["client_bandwidth_clients_lost_samples"][""] == 7
    node.pass_time(round(client_series.IDLE_SECONDS) + 70)
    assert node.scrape()["client_bandwidth_clients_lost_samples"][""] == 7


def test_where_nothing_may_be_seen_it_says_so() -> None:
    """Without CAP_NET_RAW there are no series, and no failure of the scrape; later it is tried again."""
    node = Scraped()
    node.kernel.window_error = errno.EPERM
    assert node.scrape()["client_bandwidth_clients_sampled"][""] == 0.0
    node.kernel.window_error = None
    assert node.scrape()["client_bandwidth_clients_sampled"][""] == 1.0


def test_closed_it_holds_nothing_open() -> None:
    """At the end of the process the lease is given back."""
    node = Scraped()
    node.scrape()
    node.series.close()
    assert not node.kernel.windows
