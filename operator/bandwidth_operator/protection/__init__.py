"""The addresses that no limit may slow down in a cluster, and tests whether the admission policies are in force."""
