"""Decides what the kernel should hold and which changes lead there, from limits and facts of the node. Pure."""
