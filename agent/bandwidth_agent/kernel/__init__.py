"""Reads and writes the kernel: the types of its objects, and the drivers of its subsystems."""
