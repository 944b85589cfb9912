"""Drivers for eBPF: the programs that give packets their class, the maps that these read, and what keeps both."""
