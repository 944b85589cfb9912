"""What every process of both programs needs: logs, signals, the web server, the clock, file descriptors.

Owns nothing of limits, of the kernel's shaping or of the cluster, and imports none of it. Nothing in here may end the
process, make its work wait, or use up the file descriptors and memory that its work needs.
"""
