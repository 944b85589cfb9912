"""Decides which clients a ClientBandwidthPolicy slows down, when it lets them go, and why. Pure; starts at `rounds`."""
