"""The agent: keeps one node's kernel as the plan wants it, and reports truthfully what it did."""
