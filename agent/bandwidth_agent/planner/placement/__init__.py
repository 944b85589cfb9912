"""Decides on which interfaces limits are enforced, and where there, and what speaks against a place."""

from bandwidth_agent.planner.placement.decision import Placement, decide, decide_all, egress, is_fair, proven

__all__ = ["Placement", "decide", "decide_all", "egress", "is_fair", "proven"]
