"""Leader election: the Lease that makes one replica the leader, and the writer that writes only while it leads."""
