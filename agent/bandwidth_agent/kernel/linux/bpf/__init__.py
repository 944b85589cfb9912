"""eBPF: the programs that give packets their class, the maps they look into, and how both come into the kernel."""
