"""The vocabulary of both programs and the pure core: limits, units, names, the plan and its compiler.

Imports the standard library and pydantic only; does no I/O and reads no clock.
"""
