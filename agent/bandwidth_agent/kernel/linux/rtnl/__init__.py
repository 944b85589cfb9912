"""Drivers for devices, qdiscs, classes and filters, and readers of routes, through rtnetlink; they decide nothing."""
