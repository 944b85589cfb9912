"""What the operator reports about its own process: metrics, and the probes for liveness and readiness."""
