"""Policies on one host: what they are fed with, the limits that they made, and the source that adds these to others."""
