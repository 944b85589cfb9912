"""The agent: keeps the kernel of one node equal to the plan, and reports what it did."""
