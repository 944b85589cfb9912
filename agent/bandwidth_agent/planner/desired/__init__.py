"""Builds the kernel state that a node should have, and computes the parameters of its classes."""

from bandwidth_agent.planner.desired.state import Memo, build, nothing

__all__ = ["Memo", "build", "nothing"]
