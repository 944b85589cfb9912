"""What the plugin makes of the cluster's objects: limits, one to be made, nodes and their reports. Pure."""
