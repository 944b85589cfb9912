"""Makes the plan from the cached limits, and writes it as slices into the cluster."""
