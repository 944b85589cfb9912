"""What the agent reports: its node's state in the cluster, metrics, health, the log of changes, the table of `show`."""
