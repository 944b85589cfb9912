"""A kernel in memory that passes the contract suite of the real one, and the packet trace for tests."""
