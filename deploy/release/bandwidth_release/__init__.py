"""Makes a release: everything that others install, in `dist/` and in a registry, out of one commit.

Owns `dist/` and `build/release/`. Builds from an export of the commit, never from the work tree, and changes neither.
"""
