"""The vocabulary of the project and its pure core: limits, units, names, plans.

Imports the standard library and pydantic only; does no I/O and reads no clock.
"""
