"""Compiles limits into the plan, and entries of the plan into tables: which limit wins where they overlap. Pure."""
