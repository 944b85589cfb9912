"""The agent as a process: only one per network namespace, ended when it is stuck, woken when the clock is set."""
