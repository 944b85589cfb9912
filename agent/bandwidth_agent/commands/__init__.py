"""The sub-commands, one module each: each wires the parts together and prints; none decides about the kernel."""
