"""The demonstration: a greedy and a quiet client behind one uplink, real traffic, the real agent. `make demo`."""
