"""A kernel in memory that already shapes some limits, for tests of what is shown of it."""

from __future__ import annotations

from bandwidth_agent import reconcile, report
from bandwidth_agent.kernel.fake import fake_kernel, tracer
from bandwidth_agent.limits import Wanted
from bandwidth_agent.settings import Settings
from bandwidth_api import addresses
from bandwidth_api.plan import PlanEntry


class Node:
    """One node with these limits in force."""

    def __init__(self, *entries: PlanEntry, settings: Settings | None = None) -> None:
        self.kernel = fake_kernel.FakeKernel()
        self.reconciler = reconcile.Reconciler(self.kernel, settings or Settings())
        self.report = self.want(*entries)

    def want(self, *entries: PlanEntry) -> report.Report:
        """Put these limits in force instead of any other."""
        self.report = self.reconciler.run(Wanted(entries=entries), read=True)
        return self.report

    def send(self, client: str, port: int = 443, *, packets: int = 1) -> tracer.Verdict:
        """Send packets of 1514 bytes to a client."""
        prefix = addresses.parse(client)
        return self.kernel.transmit(prefix.family, prefix.network, "TCP", port, "eth0", packets=packets)
