"""Limits from the plan that the operator publishes, with a copy of it on the node's disk."""
