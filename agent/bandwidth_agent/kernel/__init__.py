"""The kernel: what we read from it and what we write to it, one subsystem a module."""
