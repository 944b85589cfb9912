"""Decides which limit wins at which address and port where entries of a plan overlap. Pure; starts at `resolve`."""
