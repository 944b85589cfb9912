"""The benchmarks: every figure is a ratio, or stands beside its baseline, measured in the same run.

Owns how things are measured and how the figures are written down. No part of the programs: they are driven from
outside, as processes, in network namespaces of the lab.
"""
