"""Limits from a directory of manifests on one host: reading, checking, and the limits that were last accepted."""
