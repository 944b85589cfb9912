"""The programs: one module each. A program wires the parts together and prints; it decides nothing about the kernel."""
