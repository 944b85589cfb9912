"""The status of each limit: from the reports of the nodes to conditions, statuses and Events."""
